/* handover.c - a hop is replaced before it fails: it said that it leaves, or it became several times slower than another one would be.
 *
 * The new servers are opened and fed with what the hop before has kept while the old one goes on working. When they have all positions,
 * between two runs, the chain goes through them. Everything here happens at the beginning of a run, and waits for nothing but a last round
 * trip. Caller's thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "client/remote.h"

#define CHOOSE_MS 150       /* a token waits for it */
#define AGAIN_US 2000000    /* after a try that failed */
#define SWITCH_MS 200       /* a token waits for it */
#define SLOW_TIMES 3.0f     /* than the best other one ... */
#define SLOW_US 5000.0f     /* ... and by so much ... */
#define SLOW_CHECKS 3       /* ... in so many checks in a row ... */
#define SLOW_TOKENS 16      /* ... each of so many tokens */
#define TOKEN_WEIGHT 0.125f /* of a new token in the running mean */

void handover_end(struct remote *remote) {
    struct handover *h = &remote->handover;
    if (h->state == HANDOVER_NONE) return;
    hops_drop(remote, remote->spare.hops, remote->spare.n_hops); /* first, so that their answers fit nothing */
    pthread_mutex_lock(&remote->peers->lock);
    lane_clear(remote, &remote->spare);
    pthread_mutex_unlock(&remote->peers->lock);
    h->state = HANDOVER_NONE;
    h->not_before_us = clock_us() + AGAIN_US;
}

void handover_rewind(struct remote *remote, uint32_t position) {
    struct handover *h = &remote->handover;
    if (h->done > position) h->done = position;
    h->next = h->done; /* what was under way is of an older epoch */
}

/* ---- whom to replace ------------------------------------------------------------------------------------------- */

/* What a token would take at the best server that has the blocks of a hop and is not in the chain. The lock is held. */
static float best_other_us(const struct remote *remote, const struct remote_hop *hop) {
    const struct peers *peers = remote->peers;
    uint64_t now_us = clock_us();
    float best = 0;
    for (size_t i = 0; i < peers->n; i++) {
        const struct peer *peer = peers->list[i];
        const struct record *r = &peer->record;
        bool in_chain = false;
        for (uint32_t k = 0; k < remote->chain.n_hops; k++) in_chain = in_chain || remote->chain.hops[k]->peer == peer;
        if (in_chain || !peer->has_record || peer->suspected || r->state != RECORD_ONLINE || peer->banned_until_us > now_us) continue;
        if (r->begin > hop->begin || r->end < hop->end || r->decode_block_us <= 0) continue;
        float us = peer_block_us(peer, r->decode_block_us, now_us) * (float)(hop->end - hop->begin) + (float)r->queue_us;
        if (best <= 0 || us < best) best = us;
    }
    return best;
}

static bool much_slower(const struct remote *remote, const struct remote_hop *hop) {
    float other_us = best_other_us(remote, hop);
    return other_us > 0 && hop->token_us > SLOW_TIMES * other_us && hop->token_us > other_us + SLOW_US;
}

void handover_note(struct remote *remote) {
    struct handover *h = &remote->handover;
    for (uint32_t i = 0; i < remote->chain.n_hops; i++) {
        struct remote_hop *hop = remote->chain.hops[i];
        float us = (float)remote->base.timings[i].compute_us + (float)remote->base.timings[i].queue_us;
        hop->token_us = hop->token_us > 0 ? hop->token_us + TOKEN_WEIGHT * (us - hop->token_us) : us;
    }
    h->tokens++;
}

/* A hop that is to be replaced, and why; false: none. The lock is held. */
static bool find_candidate(struct remote *remote, uint32_t *out_index, const char **out_reason) {
    struct handover *h = &remote->handover;
    const struct lane *chain = &remote->chain;
    for (uint32_t i = 0; i < chain->n_hops; i++) {
        if (!chain->hops[i]->peer->leaving) continue;
        *out_index = i;
        *out_reason = "draining";
        return true;
    }
    if (h->tokens < SLOW_TOKENS) return false;
    h->tokens = 0;
    uint32_t slow = chain->n_hops;
    for (uint32_t i = 0; i < chain->n_hops && slow == chain->n_hops; i++)
        if (much_slower(remote, chain->hops[i])) slow = i;
    h->strikes = slow < chain->n_hops ? h->strikes + 1 : 0;
    if (h->strikes < SLOW_CHECKS) return false;
    h->strikes = 0;
    *out_index = slow;
    *out_reason = "too slow";
    return true;
}

/* ---- moving on ------------------------------------------------------------------------------------------------- */

static void begin(struct remote *remote) {
    struct handover *h = &remote->handover;
    struct lane *spare = &remote->spare, *chain = &remote->chain;
    pthread_mutex_lock(&remote->peers->lock);
    bool found = find_candidate(remote, &h->index, &h->reason);
    pthread_mutex_unlock(&remote->peers->lock);
    if (!found) return;
    h->n = 1;
    h->next = h->done = 0;
    struct remote_hop *old = chain->hops[h->index], *hops[HOPS_MAX];
    uint32_t n = 0;
    h->not_before_us = clock_us() + AGAIN_US;
    if (hops_choose(remote, old->begin, old->end, CHOOSE_MS, hops, &n, NULL) != COROLLA_OK || chain->n_hops - 1 + n > HOPS_MAX) {
        hops_drop(remote, hops, n);
        return;
    }
    pthread_mutex_lock(&remote->peers->lock);
    spare->from = h->index > 0 ? chain->hops[h->index - 1] : NULL;
    spare->n_hops = n;
    memcpy(spare->hops, hops, n * sizeof(struct remote_hop *));
    hops_link(remote, spare->from, hops, n);
    pthread_mutex_unlock(&remote->peers->lock);
    hops_ask_begin(remote, hops, n);
    h->state = HANDOVER_OPENING;
    log_info("handover.begin from=\"%s\" reason=\"%s\" servers=%u", old->label, h->reason, n);
}

/* Whether all new hops are open; false in *out_good: one is down. */
static bool all_open(struct remote *remote, bool *out_good) {
    bool open = true;
    *out_good = true;
    pthread_mutex_lock(&remote->peers->lock);
    for (uint32_t i = 0; i < remote->spare.n_hops; i++) {
        const struct remote_hop *hop = remote->spare.hops[i];
        open = open && hop->opened && !hop->asking;
        *out_good = *out_good && !hop->down;
    }
    pthread_mutex_unlock(&remote->peers->lock);
    return open;
}

/* Sends what is still missing, takes what came back. */
static void fill(struct remote *remote) {
    struct handover *h = &remote->handover;
    struct flight flight;
    while (lane_poll(remote, &remote->spare, &flight)) h->done = flight.position + flight.n;
    while (h->next < remote->base.position && remote->spare.count < REMOTE_FLIGHTS) {
        uint32_t n = lane_chunk(remote, h->next, remote->base.position);
        if (lane_launch(remote, &remote->spare, h->next, n, 0, 0, NULL) != COROLLA_OK) return;
        h->next += n;
    }
}

/* The last rows: nothing else is under way, so a token waits for no more than their computing. */
static bool catch_up(struct remote *remote) {
    struct handover *h = &remote->handover;
    uint64_t deadline_us = clock_us() + SWITCH_MS * 1000;
    bool good;
    pthread_mutex_lock(&remote->peers->lock);
    const struct lane *spare = &remote->spare;
    while (spare->count > 0 && !spare->flights[(spare->head + spare->count - 1) % REMOTE_FLIGHTS].done && clock_us() < deadline_us &&
           !spare->hops[spare->n_hops - 1]->down && !remote->failed)
        peers_cond_wait(&remote->changed, &remote->peers->lock, deadline_us, SWITCH_MS);
    pthread_mutex_unlock(&remote->peers->lock);
    fill(remote);
    return all_open(remote, &good) && good && h->done == remote->base.position;
}

static void change_over(struct remote *remote) {
    struct handover *h = &remote->handover;
    struct lane *chain = &remote->chain;
    struct remote_hop *old = chain->hops[h->index], *hops[HOPS_MAX];
    uint32_t n = remote->spare.n_hops, behind = h->index + n;
    memcpy(hops, remote->spare.hops, n * sizeof(struct remote_hop *));
    chain_splice(remote, h->index, 1, hops, n);
    h->state = HANDOVER_NONE;
    if (behind < chain->n_hops)
        hops_ask(remote, &chain->hops[behind], 1, SWITCH_MS, NULL); /* it has another upstream; if it is down the run recovers */
    bool exact = chain_remember(remote);
    struct corolla_event event = {.kind = COROLLA_EVENT_MOVED,
                                  .begin = old->begin,
                                  .end = old->end,
                                  .reason = h->reason,
                                  .position = remote->base.position,
                                  .exact = exact};
    node_id_format(&old->ref.id, event.node);
    hops_drop(remote, &old, 1);
    log_info("handover.done from=\"%s\" to=\"%s\" reason=\"%s\" position=%u", old->label, hops[0]->label, h->reason, event.position);
    if (remote->base.on_event != NULL) remote->base.on_event(remote->base.event_user, &event);
}

void handover_tick(struct remote *remote) {
    struct handover *h = &remote->handover;
    bool good = true;
    if (h->state == HANDOVER_NONE && clock_us() >= h->not_before_us) begin(remote);
    if (h->state == HANDOVER_OPENING && all_open(remote, &good)) h->state = HANDOVER_FILLING;
    if (good && h->state == HANDOVER_FILLING) {
        all_open(remote, &good);
        uint32_t missing = remote->base.position - h->done;
        fill(remote);
        if (good && missing <= SLOW_TOKENS && catch_up(remote)) change_over(remote);
    }
    if (!good) handover_end(remote);
}
