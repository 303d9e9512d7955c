/* compute.h - the compute thread of a device: jobs in through a queue, results out with a wake-up.
 *
 * A lane is the compute side of a session: its KV cache and its waiting steps. There are three kinds of jobs: OPEN makes the
 * lane's cache, STEP runs rows through its blocks, CLOSE drops its waiting steps and frees the cache. OPEN and CLOSE live in
 * the lane and go before steps. Steps of a lane are done in order, those of different lanes as schedule.h says, many in one turn.
 *
 * Bounds: the caller bounds lanes, and steps per lane; nothing is allocated here after compute_new.
 * Ownership: a job belongs to the compute thread from its submission until compute_take() hands it back. Each comes back exactly
 * once, a lane's in the order of submission and CLOSE as the last; then nobody here knows the lane any more.
 * Threads: submit, take and stop are the loop thread's (any one thread's). The lock guards the queues and is never held while
 * something is computed.
 */
#ifndef COROLLA_NODE_COMPUTE_H
#define COROLLA_NODE_COMPUTE_H

#include "node/measure.h"
#include "node/schedule.h"

struct compute;
struct lane;

enum job_kind { JOB_OPEN, JOB_STEP, JOB_CLOSE };

struct job {
    enum job_kind kind;
    struct job *next; /* for whoever holds it */
    struct lane *lane;
    /* a step */
    uint32_t epoch, position, n;
    enum corolla_wire wire;
    void *rows; /* [n, n_embd] numbers of the wire type, aligned for floats; the output takes their place */
    uint64_t queued_us;
    uint32_t done; /* rows computed so far */
    /* the outcome. STALE: a newer epoch came, CANCELLED: the lane was closed, DRAINING: the thread stops */
    enum corolla_status status;
    char text[200];
    uint32_t queue_us, compute_us;
};

struct lane {
    uint32_t begin, end, max_tokens;
    /* of the compute thread and the lock */
    struct kv *kv;
    uint32_t length; /* positions filled, as far as they are to be trusted */
    uint32_t epoch;
    bool running; /* the first step is in the turn */
    struct job *first, *last;
    struct schedule_entry entry;
    struct job open, close;
};

/* What the compute thread works on: a span, or a fake in tests. Only one thread calls them at a time. */
struct compute_ops {
    enum corolla_status (*open)(void *user, struct kv **out_kv, uint32_t begin, uint32_t end, uint32_t max_tokens, struct corolla_error *err);
    void (*close)(void *user, struct kv *kv);
    enum corolla_status (*forward)(void *user, const struct batch_item *items, uint32_t n_items, struct corolla_error *err);
    uint64_t (*tokens_left)(void *user);
    void *user;
};

struct compute_config {
    struct compute_ops ops;
    uint32_t n_embd, span_blocks;
    struct measure measure;     /* what is known at start */
    void (*wake)(void *user);   /* on the compute thread: there is something to take */
    void *user;
};

struct compute_stats {
    struct measure measure;
    uint64_t cache_tokens_left;
    bool stopped; /* the thread has ended, or touches nothing any more: every job is back once this take was looked through */
};

enum corolla_status compute_new(struct compute **out_compute, const struct compute_config *config, struct corolla_error *err);
/* Stops and joins the thread. Lanes that are still open are closed with lane_release() before. */
void compute_free(struct compute *compute);

/* A lane with its blocks and max_tokens set, all else zero. */
void compute_open(struct compute *compute, struct lane *lane);
/* The last job of a lane. Its steps that wait come back CANCELLED. */
void compute_close(struct compute *compute, struct lane *lane);
/* A step of an open lane. One with a higher epoch than those before makes them come back STALE, unless they are being computed. */
void compute_step(struct compute *compute, struct job *job);
/* All jobs that are back, oldest first. */
struct job *compute_take(struct compute *compute, struct compute_stats *out_stats);

/* Finishes the running turn; waiting steps and OPENs come back DRAINING. Does not wait: a last wake follows. No job may be
 * submitted after it. */
void compute_stop(struct compute *compute);
/* After stats.stopped: frees the cache of a lane whose jobs are all back. */
void lane_release(struct compute *compute, struct lane *lane);

#endif
