/* fork.c - a second session with the same positions: each hop copies its KV and what it has kept. Caller's thread.
 *
 * A hop that cannot copy (it is new, or has lost the session) is opened empty, and is filled like one that takes over (recover.c).
 */
#include <string.h>

#include "base/err.h"
#include "client/remote.h"

/* The same servers, for the same blocks. */
static enum corolla_status same_hops(struct remote *fork, const struct remote *from, struct corolla_error *err) {
    struct remote_hop *hops[HOPS_MAX];
    for (uint32_t i = 0; i < from->chain.n_hops; i++) {
        hops[i] = hop_fork(fork, from->chain.hops[i]);
        if (hops[i] == NULL) return err_set(err, COROLLA_NOMEM, "out of memory for a session");
    }
    chain_splice(fork, 0, 0, hops, from->chain.n_hops);
    return COROLLA_OK;
}

/* What stands at the positions, so that it can be computed once more. */
static enum corolla_status copy_inputs(struct remote *fork, const struct remote *from, struct corolla_error *err) {
    uint32_t n = from->base.position;
    memcpy(fork->base.tokens, from->base.tokens, n * sizeof *fork->base.tokens);
    if (from->hidden != NULL) {
        fork->hidden = row_log_new(fork->base.max_tokens, fork->base.n_embd * sizeof(float));
        if (fork->hidden == NULL || !row_log_copy(fork->hidden, from->hidden, 0, n))
            return err_set(err, COROLLA_NOMEM, "out of memory for a session");
    }
    fork->base.position = n;
    return COROLLA_OK;
}

/* Opens all hops as copies. Those that cannot are opened empty: they lack all positions. */
static enum corolla_status open_copies(struct remote *fork, struct corolla_error *err) {
    struct lane *chain = &fork->chain;
    enum corolla_status status = hops_ask(fork, chain->hops, chain->n_hops, fork->base.swarm->timeout_ms, err);
    pthread_mutex_lock(&fork->peers->lock);
    for (uint32_t i = 0; i < chain->n_hops; i++) chain->hops[i]->parent = NULL;
    pthread_mutex_unlock(&fork->peers->lock);
    if (status != COROLLA_PEER_LOST && status != COROLLA_TIMEOUT && status != COROLLA_NO_SESSION) return status;
    for (uint32_t i = 0; i < chain->n_hops; i++)
        if (hop_down(fork, chain->hops[i])) hops_ask(fork, &chain->hops[i], 1, fork->base.swarm->timeout_ms, NULL);
    struct session_run none = {.position = fork->base.position};
    return recover(fork, &none, false, err);
}

enum corolla_status remote_fork(struct corolla_session **out_session, struct corolla_session *session, struct corolla_error *err) {
    struct remote *from = (struct remote *)session;
    struct remote *fork = remote_new(from->base.swarm, session->max_tokens);
    if (fork == NULL) return err_set(err, COROLLA_NOMEM, "out of memory for a session");
    struct corolla_error error = {.status = COROLLA_OK};
    net_post(fork->peers->net, remote_loop_begin, fork);
    fork->exact = from->exact;
    fork->arithmetic_class = from->arithmetic_class;
    fork->base.on_event = session->on_event;
    fork->base.event_user = session->event_user;
    enum corolla_status status = copy_inputs(fork, from, &error);
    if (status == COROLLA_OK) status = same_hops(fork, from, &error);
    if (status == COROLLA_OK) status = open_copies(fork, &error);
    if (status == COROLLA_OK) {
        *out_session = &fork->base;
        return COROLLA_OK;
    }
    if (err != NULL) *err = error;
    fork->base.ops->close(&fork->base);
    return status;
}
