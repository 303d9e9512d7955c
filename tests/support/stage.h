/* stage.h - three real servers of a tiny model in this process, and sessions at them made of raw messages; one stage per test program.
 *
 * What the servers compute is compared bit for bit with the same blocks in one span. The functions end the test when something
 * else comes than they expect. A test changes the step in `message` to make it wrong.
 */
#ifndef COROLLA_TESTS_STAGE_H
#define COROLLA_TESTS_STAGE_H

#include "corolla.h"
#include "support/driver.h"
#include "wire/msg.h"

#define N_SERVERS 3
#define N_BLOCKS 5
#define ROWS 40 /* of the prompt that everything is compared on */
#define SESSION_TOKENS 96
#define CACHE_TOKENS 8320 /* 130 pads: room for one client's SESSIONS_PER_CLIENT_MAX small sessions and two more */

extern const uint32_t cuts[N_SERVERS + 1];
extern struct corolla_model *model;
extern struct corolla_server *servers[N_SERVERS];
extern struct driver *driver;
extern struct node_ref nodes[N_SERVERS];
extern struct link *links[N_SERVERS]; /* the driver's */
extern uint32_t n_embd, epoch_of_test;
extern float *prompt, *expected; /* [ROWS, n_embd]: what goes in, and what all blocks in one span give */
extern struct msg_step message;  /* too large for the stack */

int stage_open(void **state); /* group set-up and tear-down of cmocka */
int stage_close(void **state);

/* ---- sessions as a client has them ----------------------------------------------------------------------------- */

struct session_at { /* one session at one server */
    uint32_t server, stream;
    struct msg_open open;
    uint8_t secret[SECRET_SIZE];
};

size_t row_bytes(void);
struct msg_info server_info(uint32_t server);
struct session_at session_prepare(uint32_t server, uint32_t max_tokens);
struct session_at session_open(uint32_t server); /* of SESSION_TOKENS */
/* Sends OPEN and returns what comes; session_open_sent expects OPENED. */
struct received *session_ask(const struct session_at *s);
void session_open_sent(struct session_at *s);
void session_close(const struct session_at *s);
/* Takes r. *out, unless NULL, is what it says. */
void expect_failed(struct received *r, enum corolla_status status, struct msg_failed *out);

/* Fills the message that a right step has. */
struct msg_step *step_prepare(const struct session_at *s, uint32_t position, uint32_t n);
void step_send(const struct session_at *s, const void *body, size_t body_size);
struct received *answer(const struct session_at *s);
/* The result of the step in message; its rows in out, as F32. Takes r. */
void expect_result(struct received *r, float *out);

/* A session at server 0 that has the first 8 rows, and goes on from there as if nothing had been; then it is closed. */
struct session_at session_with_rows(void);
void session_goes_on(const struct session_at *s);

/* ---- a chain of all servers ------------------------------------------------------------------------------------ */

struct sessions_all {
    struct session_at at[N_SERVERS];
};

void all_open(struct sessions_all *all);
void all_open_keeping(struct sessions_all *all); /* all servers but the last keep their rows */
void all_close(const struct sessions_all *all);
void all_prepare(const struct sessions_all *all, uint32_t position, uint32_t n);
/* Rows of the prompt through the chain; what comes out must have the expected bits. */
void all_step(const struct sessions_all *all, uint32_t position, uint32_t n);
/* Opens a chain, steps and closes: the servers still do what they are for. */
void servers_work(void);

/* ---- clients and servers that come and go ---------------------------------------------------------------------------------- */

struct client { /* another one than the stage's, at server 0 */
    struct driver *driver, *instead_driver;
    struct link *instead_link;
};

/* The functions above speak for it, over a new link, until it leaves the stage; its link stays. */
void client_enter(struct client *client);
void client_leave(const struct client *client);

struct spare { /* one more server with the blocks of another one; nodes[] and links[] name it in the other's place until it is stopped */
    uint32_t server;
    struct corolla_server *handle;
    struct node_ref instead_node;
    struct link *instead_link;
};

struct spare spare_start(uint32_t server);
/* The other one is back in its place; the spare may run on. */
void spare_step_back(struct spare *spare);

#endif
