/* rebuild.c - how far the hops of a session are, and sending them the rows that they lack. Caller's thread. See remote.h.
 *
 * What is to be sent to whom, swarm/repair.h says. Who has kept the rows sends them, in chunks of which several are under way; the last of
 * those that lack them acknowledges.
 */
#include <string.h>

#include "client/remote.h"

/* Positions that a hop has computed as the session has them now: what came before a rollback does not count behind it. */
static uint32_t valid_length(const struct remote *remote, const struct remote_hop *hop) {
    const struct msg_synced *s = &hop->synced;
    return s->computed_epoch >= remote->lineage || s->length < remote->rolled ? s->length : remote->rolled;
}

static uint32_t kept_length(const struct remote *remote, const struct remote_hop *hop) {
    uint32_t valid = valid_length(remote, hop);
    return hop->synced.kept < valid ? hop->synced.kept : valid;
}

void rebuild_look(const struct remote *remote, struct repair_hop out[HOPS_MAX]) {
    for (uint32_t i = 0; i < remote->chain.n_hops; i++) {
        const struct remote_hop *hop = remote->chain.hops[i];
        out[i] = (struct repair_hop){.down = hop_down(remote, hop), .valid = valid_length(remote, hop), .kept = kept_length(remote, hop)};
    }
}

/* To nobody behind these hops. */
static enum corolla_status replay(struct remote *remote, const struct session_run *run, const struct repair_replay *what,
                                  struct corolla_error *err) {
    struct lane *spare = &remote->spare, *chain = &remote->chain;
    enum corolla_status status = COROLLA_OK;
    pthread_mutex_lock(&remote->peers->lock);
    spare->from = what->first > 0 ? chain->hops[what->first - 1] : NULL;
    spare->n_hops = what->n;
    memcpy(spare->hops, &chain->hops[what->first], what->n * sizeof(struct remote_hop *));
    pthread_mutex_unlock(&remote->peers->lock);
    for (uint32_t next = what->begin, done = what->begin; status == COROLLA_OK && done < what->end;) {
        if (next < what->end && spare->count < REMOTE_FLIGHTS) {
            uint32_t rows = lane_chunk(remote, next, what->end);
            status = lane_launch(remote, spare, next, rows, 0, 0, err);
            next += rows;
            continue;
        }
        struct flight flight;
        status = lane_wait(remote, spare, &flight, err);
        if (status != COROLLA_OK) break;
        done = flight.position + flight.n;
        if (run->progress != NULL) run->progress(run->user, "recovery", done - what->begin, what->end - what->begin);
    }
    if (status != COROLLA_OK) return status;
    pthread_mutex_lock(&remote->peers->lock);
    for (uint32_t i = 0; i < what->n; i++) {
        struct remote_hop *hop = spare->hops[i];
        hop->synced.length = what->end;
        hop->synced.kept = hop->keep ? what->end : 0;
        hop->synced.computed_epoch = remote->epoch;
    }
    pthread_mutex_unlock(&remote->peers->lock);
    return COROLLA_OK;
}

/* Brings every hop to the position of the session. */
enum corolla_status rebuild(struct remote *remote, const struct session_run *run, struct corolla_error *err) {
    struct lane *chain = &remote->chain;
    struct repair_hop hops[HOPS_MAX];
    struct repair_replay what;
    while (rebuild_look(remote, hops), repair_next_replay(hops, chain->n_hops, remote->base.position, &what)) {
        enum corolla_status status = replay(remote, run, &what, err);
        if (status != COROLLA_OK) return status;
    }
    for (uint32_t i = 0; i < chain->n_hops; i++) chain->hops[i]->ahead = hops[i].kept;
    return COROLLA_OK;
}
