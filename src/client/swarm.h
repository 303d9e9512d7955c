/* swarm.h - the public swarm object: the edges that a client computes itself, and the way to the blocks.
 *
 * Local: a span of all blocks on the same engine. Remote: peers.h. The engine takes one thread at a time; the sessions of
 * several threads take turns, first come first served, so that a tight loop of one cannot starve another.
 */
#ifndef COROLLA_CLIENT_SWARM_H
#define COROLLA_CLIENT_SWARM_H

#include "client/session.h"
#include "model/edges.h"
#include "model/span.h"
#include "swarm/route.h"

struct peer;
struct peers;

struct turnstile { /* a lock that keeps its order */
    pthread_mutex_t lock;
    pthread_cond_t moved;
    uint64_t next, serving;
};

struct corolla_swarm {
    struct corolla_model *model; /* borrowed */
    enum corolla_wire wire;
    bool want_exact;
    uint32_t timeout_ms, wait_ms;
    struct engine *engine;
    struct edges *edges;
    struct turnstile turnstile; /* in front of the engine */
    struct span *span;          /* local, else NULL */
    struct peers *peers;        /* remote, else NULL */

    pthread_mutex_t lock; /* guards what follows */
    bool exact;           /* the chain below, or the span */
    bool warned;          /* that the chain is not exact */
    size_t n_hops;
    struct corolla_hop hops[HOPS_MAX]; /* the chain that was chosen last */
};

enum corolla_status swarm_session_open(struct corolla_session **out_session, struct corolla_swarm *swarm, uint32_t max_tokens,
                                       const struct session_prompt *prompt, struct corolla_error *err);

/* Edges, in turn with the other sessions of the swarm. */
enum corolla_status swarm_embed(struct corolla_swarm *swarm, uint32_t position, const int32_t *tokens, uint32_t n, float *out_hidden,
                                struct corolla_error *err);
enum corolla_status swarm_logits(struct corolla_swarm *swarm, const float *hidden, uint32_t n, float *out_logits,
                                 struct corolla_error *err);
/* The same, for the table of a session's functions. */
enum corolla_status swarm_session_logits(struct corolla_session *session, const float *hidden, uint32_t n, float *out_logits,
                                         struct corolla_error *err);
void swarm_engine_enter(struct corolla_swarm *swarm);
void swarm_engine_leave(struct corolla_swarm *swarm);

/* Remembers a chain for corolla_swarm_chain(), and warns once when it is not exact. parts: their blocks; peers [n]. */
void swarm_remember(struct corolla_swarm *swarm, struct peer *const *peers, const struct route_hop *parts, uint32_t n, bool exact);

#endif
