/* compute.h - the one thread that computes, and the queue between it and the loop thread.
 *
 * Every session has a lane: its steps in order. A lane whose steps wait, and none of whose steps is computing, stands in the
 * list of the ready; the thread asks schedule.c which of their first steps make the next turn. So steps of a session are computed in
 * order, one per turn; a long one may take several. Computed steps come back through a list and one call of notify().
 *
 * The lock guards the lists and nothing else; it is never held while something computes. Bounds: the loop thread admits at most
 * SESSIONS_MAX lanes and STEPS_MAX steps (sessions.h).
 */
#ifndef COROLLA_NODE_COMPUTE_H
#define COROLLA_NODE_COMPUTE_H

#include "base/row_log.h"
#include "model/span.h"
#include "node/step.h"

struct compute;

struct lane {             /* zeroed by its owner, then kv, kept, begin, end and client are set; all else belongs to compute.c */
    struct kv *kv;        /* of the session; not closed while steps of it are out. NULL: it is in the spool */
    struct row_log *kept; /* the output rows of all positions that are filled; NULL: they are not kept */
    uint32_t begin, end;
    uint32_t client;           /* below SCHEDULE_CLIENTS_MAX */
    uint32_t length;           /* positions that are filled with what the session's steps meant; compute thread, or no step is out */
    uint32_t epoch;            /* of the step that was computed last; like length */
    uint64_t n_computed;       /* rows, each as often as it was computed; like length */
    struct step *first, *last; /* waiting */
    struct lane *prev, *next;  /* among the ready */
    bool ready, computing;
    bool withdrawn; /* while it computes: what is left of that step is not wanted */
};

struct compute_config {
    struct span *span;          /* borrowed; nobody else computes on its engine from now on */
    struct net *net;            /* borrowed: bodies go back to its pool */
    int spool;                  /* where idle sessions go (spool.h); -1: nowhere */
    void (*notify)(void *user); /* compute thread: there is something to collect */
    void *user;
};
enum corolla_status compute_new(struct compute **out_compute, const struct compute_config *config, struct corolla_error *err);
/* Lets the running turn end and joins the thread; waiting steps stay. Not the loop thread, which notify() may wait for. */
void compute_stop(struct compute *compute);
void compute_free(struct compute *compute); /* after all steps were collected or withdrawn */

/* Loop thread. Takes the step. */
void compute_submit(struct compute *compute, struct lane *lane, struct step *step);
/* Loop thread. Takes back the steps of a lane that wait; one that computes comes through
 * compute_collect(), maybe with fewer rows than asked. */
struct step *compute_withdraw(struct compute *compute, struct lane *lane);
/* Loop thread. The last session of a client has ended. */
void compute_forget(struct compute *compute, uint32_t client);
/* Loop thread. All steps that were computed since the last call, in order. */
struct step *compute_collect(struct compute *compute);

#endif
