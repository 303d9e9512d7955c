/* rig.h - a model of six blocks, two server processes for each third of it, and clients of them whose every row and logit is compared
 * bit for bit with one process that nothing ever happened to.
 *
 * The bits at a position depend on the tokens up to it and on nothing else, so one undisturbed session over all tokens of `text` is the
 * reference of all sessions here.
 */
#ifndef COROLLA_TESTS_RIG_H
#define COROLLA_TESTS_RIG_H

#include <pthread.h>
#include <stdbool.h>

#include <corolla.h>

#include "support/serve.h"

#define SPANS 3
#define REPLICAS 2
#define SPAN_BLOCKS 2
#define TEXT 512 /* tokens, and the length of sessions */
#define EVENTS_MAX 64

extern struct corolla_model *model;
extern const struct corolla_model_info *info;
extern const char *model_path;
extern int32_t text[TEXT];
extern struct corolla_swarm *local; /* this process */
extern struct serve servers[SPANS][REPLICAS];

bool rig_open_as(const char *arch); /* of a family (support/tiny.h); rig_close() ends it, and another may follow */
int rig_open(void **state);         /* Llama's: group set-up and tear-down of cmocka */
int rig_close(void **state);
/* All servers run and are ready. */
void rig_start_all(void);
/* A folder for the home of another server. */
const char *rig_home(const char *name);

struct client {
    struct corolla_swarm *swarm;
    struct corolla_session *session;
    uint32_t n_events;
    struct corolla_event events[EVENTS_MAX];
    char texts[EVENTS_MAX][256];                                     /* of the events */
    void (*on_event)(void *user, const struct corolla_event *event); /* called as well; NULL: nobody */
    void *user;
};
struct client_config {
    uint32_t wait_ms, hang_ms; /* 0: the defaults */
    bool alone;                /* knows the first servers of the spans only, not their replicas */
};
void client_open(struct client *c, const struct client_config *config);
void client_close(struct client *c);
/* Who has a span in the chain of the client. */
struct serve *client_hop(const struct client *c, uint32_t span);
/* Its replica. */
struct serve *replica_of(struct serve *s);

/* The tokens [position, position + n) of the text, where the session stands or before; all rows must be right. */
void client_step(struct client *c, uint32_t position, uint32_t n);
/* The same; progress is called with "prompt" for what is done of it, and with "recovery". */
void client_run(struct client *c, uint32_t position, uint32_t n, corolla_progress_fn progress, void *user);
/* The same one by one, with the logits as well. */
void client_generate(struct client *c, uint32_t position, uint32_t n);

/* So many events there were. */
void check_n_events(const struct client *c, uint32_t n);
/* Event i says that the span of that server went on elsewhere. */
void check_event(const struct client *c, uint32_t i, enum corolla_event_kind kind, const struct serve *lost, const char *reason);
/* Closes the session; each hop of the chain has computed every one of n positions once, or a few of them again. */
void client_check_work(struct client *c, uint32_t n, uint32_t again);

struct killer { /* a thread that kills a server in a moment */
    pthread_t thread;
    struct serve *server;
    uint32_t delay_us;
};
void kill_begin(struct killer *killer, struct serve *server, uint32_t delay_us);
void kill_end(struct killer *killer);

/* From COROLLA_TEST_SEED, or the time; printed. */
void rig_seed(uint64_t *out_seed);
uint64_t rig_random(uint64_t *seed, uint64_t n); /* below n */

#endif
