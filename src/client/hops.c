/* hops.c - the servers of a session: choosing them, opening the session there, asking for it again after a failure. Caller's side. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "client/remote.h"

#define WAKE_MS 50
#define INFO_AGE_MS 5000

/* ---- one hop --------------------------------------------------------------------------------------------------- */

/* Makes it one of the session's. */
static struct remote_hop *hop_add(struct remote *remote, const struct remote_hop *description) {
    struct remote_hop *hop = malloc(sizeof *hop);
    if (hop == NULL) return NULL;
    *hop = *description;
    hop->remote = remote;
    pthread_mutex_lock(&remote->peers->lock);
    hop->ref = hop->peer->ref;
    snprintf(hop->label, sizeof hop->label, "%s (blocks %u:%u)", hop->peer->label, hop->begin, hop->end);
    hop->peer->uses++;
    hop->next = remote->hops;
    remote->hops = hop;
    pthread_mutex_unlock(&remote->peers->lock);
    return hop;
}

struct remote_hop *hop_new(struct remote *remote, const struct choice *choice, uint32_t i, uint32_t first_block) {
    const struct route_hop *part = &choice->route.hops[i];
    const struct route_server *server = &choice->servers[part->server];
    return hop_add(remote, &(struct remote_hop){.peer = choice->peers[part->server],
                                                .begin = first_block + part->begin,
                                                .end = first_block + part->end,
                                                .exact = server->exact,
                                                .arithmetic_class = server->arithmetic_class});
}

struct remote_hop *hop_fork(struct remote *remote, struct remote_hop *parent) {
    return hop_add(remote, &(struct remote_hop){.peer = parent->peer,
                                                .begin = parent->begin,
                                                .end = parent->end,
                                                .exact = parent->exact,
                                                .arithmetic_class = parent->arithmetic_class,
                                                .parent = parent});
}

const char *hop_reason(enum corolla_status status) {
    switch (status) {
    case COROLLA_PEER_LOST:
    case COROLLA_NO_SESSION: return "crashed";
    case COROLLA_TIMEOUT: return "hung";
    case COROLLA_NOT_SERVED: return "moved";
    case COROLLA_DRAINING: return "draining";
    case COROLLA_NOMEM:
    case COROLLA_NO_CACHE: return "out of memory";
    case COROLLA_BUSY:
    case COROLLA_REFUSED: return "refused";
    default: return "faulty";
    }
}

void hop_fail(struct remote_hop *hop, enum corolla_status status, const char *reason, const char *message) {
    hop->asking = false;
    if (!hop->down) {
        err_set(&hop->error, status, "%s", message);
        hop->reason = reason;
        log_debug("hop_down reason=\"%s\" why=\"%s\"", reason, message);
    }
    hop->down = true;
    pthread_cond_broadcast(&hop->remote->changed);
}

bool hop_down(const struct remote *remote, const struct remote_hop *hop) {
    pthread_mutex_lock(&remote->peers->lock);
    bool down = hop->down;
    pthread_mutex_unlock(&remote->peers->lock);
    return down;
}

void hop_blame(struct remote *remote, struct remote_hop *hop, enum corolla_status status) {
    pthread_mutex_lock(&remote->peers->lock);
    peer_note(hop->peer, status);
    pthread_mutex_unlock(&remote->peers->lock);
}

void hops_drop(struct remote *remote, struct remote_hop *const *hops, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        pthread_mutex_lock(&remote->peers->lock);
        hops[i]->gone = true;
        pthread_mutex_unlock(&remote->peers->lock);
        net_post(remote->peers->net, remote_loop_drop, hops[i]);
    }
}

/* ---- asking ---------------------------------------------------------------------------------------------------- */

void hops_ask_begin(struct remote *remote, struct remote_hop *const *hops, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        pthread_mutex_lock(&remote->peers->lock);
        hops[i]->asking = true;
        hops[i]->down = false;
        pthread_mutex_unlock(&remote->peers->lock);
        net_post(remote->peers->net, remote_loop_ask, hops[i]);
    }
}

/* How many are still to answer; the first that is down is in *out_down. The lock is held. */
static uint32_t still_asking(struct remote_hop *const *hops, uint32_t n, struct remote_hop **out_down) {
    uint32_t left = 0;
    *out_down = NULL;
    for (uint32_t i = n; i-- > 0;) {
        left += hops[i]->asking;
        if (hops[i]->down) *out_down = hops[i];
    }
    return left;
}

enum corolla_status hops_wait(struct remote *remote, struct remote_hop *const *hops, uint32_t n, uint32_t timeout_ms,
                              struct corolla_error *err) {
    uint64_t deadline_us = clock_us() + (uint64_t)timeout_ms * 1000;
    enum corolla_status status = COROLLA_OK;
    struct remote_hop *down;
    char late[160];
    pthread_mutex_lock(&remote->peers->lock);
    while (status == COROLLA_OK && still_asking(hops, n, &down) > 0 && clock_us() < deadline_us) {
        if (session_cancelled(&remote->base))
            status = session_cancel_error(err);
        else
            peers_cond_wait(&remote->changed, &remote->peers->lock, deadline_us, WAKE_MS);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!hops[i]->asking) continue;
        snprintf(late, sizeof late, "%s did not answer within %u ms", hops[i]->label, timeout_ms);
        hop_fail(hops[i], COROLLA_TIMEOUT, hop_reason(COROLLA_TIMEOUT), late);
    }
    still_asking(hops, n, &down);
    if (status == COROLLA_OK && down != NULL) {
        status = down->error.status;
        if (err != NULL) *err = down->error;
    }
    pthread_mutex_unlock(&remote->peers->lock);
    return status;
}

enum corolla_status hops_ask(struct remote *remote, struct remote_hop *const *hops, uint32_t n, uint32_t timeout_ms,
                             struct corolla_error *err) {
    hops_ask_begin(remote, hops, n);
    return hops_wait(remote, hops, n, timeout_ms, err);
}

/* ---- the chain ------------------------------------------------------------------------------------------------- */

void hops_link(const struct remote *remote, const struct remote_hop *before, struct remote_hop *const *hops, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        const struct remote_hop *upstream = i > 0 ? hops[i - 1] : before;
        if (!hops[i]->opened) hops[i]->keep = hops[i]->end < remote->peers->n_blocks;
        hops[i]->has_upstream = upstream != NULL;
        if (upstream != NULL) hops[i]->upstream = upstream->ref.id;
    }
}

bool chain_splice(struct remote *remote, uint32_t index, uint32_t n_old, struct remote_hop *const *hops, uint32_t n) {
    struct lane *chain = &remote->chain;
    if (chain->n_hops - n_old + n > HOPS_MAX) return false;
    pthread_mutex_lock(&remote->peers->lock);
    memmove(&chain->hops[index + n], &chain->hops[index + n_old], (chain->n_hops - index - n_old) * sizeof(struct remote_hop *));
    memcpy(&chain->hops[index], hops, n * sizeof(struct remote_hop *));
    chain->n_hops = chain->n_hops - n_old + n;
    hops_link(remote, NULL, chain->hops, chain->n_hops);
    pthread_mutex_unlock(&remote->peers->lock);
    return true;
}

static bool chain_exact(const struct remote *remote) {
    const struct lane *chain = &remote->chain;
    bool exact = remote->exact;
    for (uint32_t i = 0; i < chain->n_hops; i++)
        exact = exact && chain->hops[i]->exact && chain->hops[i]->arithmetic_class == remote->arithmetic_class;
    return exact;
}

bool chain_remember(struct remote *remote) {
    struct peer *peers[HOPS_MAX];
    struct route_hop parts[HOPS_MAX];
    for (uint32_t i = 0; i < remote->chain.n_hops; i++) {
        const struct remote_hop *hop = remote->chain.hops[i];
        peers[i] = hop->peer;
        parts[i] = (struct route_hop){.begin = hop->begin, .end = hop->end};
    }
    bool exact = chain_exact(remote);
    swarm_remember(remote->base.swarm, peers, parts, remote->chain.n_hops, exact);
    return exact;
}

/* A server has a session once. Those that work are left out, unless all blocks are chosen anew; those that were cut off too: they may have
 * it still, and only SYNC brings them back. */
static uint32_t list_avoided(const struct remote *remote, bool whole, struct peer *out[HOPS_MAX]) {
    uint32_t n = 0;
    pthread_mutex_lock(&remote->peers->lock);
    for (uint32_t i = 0; i < remote->chain.n_hops; i++) {
        const struct remote_hop *hop = remote->chain.hops[i];
        bool cut = hop->down && hop->opened && (hop->error.status == COROLLA_PEER_LOST || hop->error.status == COROLLA_TIMEOUT);
        if (cut || (!hop->down && !whole)) out[n++] = hop->peer;
    }
    pthread_mutex_unlock(&remote->peers->lock);
    return n;
}

static enum corolla_status find(struct remote *remote, struct choose_config *config, struct choice *out_choice, struct corolla_error *err) {
    config->same_class = remote->exact;
    config->arithmetic_class = remote->arithmetic_class;
    enum corolla_status status = choose_route(remote->peers, config, out_choice, err);
    if (status == COROLLA_OK || !config->same_class || config->exact) return status;
    config->same_class = false;
    return choose_route(remote->peers, config, out_choice, err);
}

enum corolla_status hops_choose(struct remote *remote, uint32_t begin, uint32_t end, uint32_t timeout_ms, struct remote_hop **out_hops,
                                uint32_t *out_n, struct corolla_error *err) {
    struct peer *avoid[HOPS_MAX];
    bool whole = begin == 0 && end == remote->peers->n_blocks;
    struct choose_config config = {.model = remote->peers->model,
                                   .whole = whole,
                                   .first_block = begin,
                                   .n_blocks = end - begin,
                                   .tokens = remote->base.max_tokens,
                                   .wire = remote->wire,
                                   .exact = remote->base.swarm->want_exact,
                                   .avoid = avoid,
                                   .n_avoid = list_avoided(remote, whole, avoid),
                                   .age_ms = INFO_AGE_MS,
                                   .deadline_us = clock_us() + (uint64_t)timeout_ms * 1000};
    struct choice choice = {.n = 0};
    enum corolla_status status = find(remote, &config, &choice, err);
    uint32_t n = status == COROLLA_OK ? choice.route.n_hops : 0;
    for (uint32_t i = 0; i < n && status == COROLLA_OK; i++) {
        out_hops[i] = hop_new(remote, &choice, i, begin);
        if (out_hops[i] == NULL) status = err_set(err, COROLLA_NOMEM, "out of memory for a server");
    }
    choice_clear(&choice);
    *out_n = n;
    return status;
}
