/* choose.c - see choose.h. */
#include "client/choose.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "crypto/rand.h"

#define ROUNDS_MAX 6      /* of asking: each names servers that were not asked before */
#define ASK_MAX 24        /* servers in one round; a swarm of no more is asked as a whole */
#define ALTERNATIVES 2    /* asked beside each hop: they may be nearer */
#define UNREACHED_US 1000 /* of penalty, so that among equals the one that answered is taken */

void choice_clear(struct choice *choice) {
    free(choice->servers);
    free(choice->peers);
    free(choice->rtts);
    *choice = (struct choice){.n = 0};
}

/* ---- what is known --------------------------------------------------------------------------------------------- */

static float block_us(float tokens_per_s, uint32_t n_blocks) { return tokens_per_s > 0 ? 1e6f / tokens_per_s / (float)n_blocks : 0; }

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

static void from_info(struct route_server *s, const struct msg_info *info) {
    memcpy(s->model, info->model, ID_SIZE);
    s->begin = info->begin;
    s->end = info->end;
    s->decode_block_us = block_us(info->decode_tokens_per_s, info->end - info->begin);
    s->prefill_block_us = block_us(info->prefill_tokens_per_s, info->end - info->begin);
    s->tokens_ever = info->session_tokens_max;
    s->tokens_max = least(s->tokens_ever, info->cache_tokens_left);
    s->wires = info->wires;
    s->sessions = info->sessions;
    s->draining = info->draining;
    s->exact = info->exact;
    s->arithmetic_class = info->arithmetic_class;
}

static void from_record(struct route_server *s, const struct record *r) {
    memcpy(s->model, r->model, ID_SIZE);
    s->begin = r->begin;
    s->end = r->end;
    s->decode_block_us = r->decode_block_us;
    s->prefill_block_us = r->prefill_block_us;
    s->tokens_ever = r->session_tokens_max;
    s->tokens_max = least(s->tokens_ever, r->cache_tokens_left);
    s->wires = r->wires;
    s->sessions = r->sessions;
    s->draining = r->state == RECORD_DRAINING;
    s->joining = r->state == RECORD_JOINING || r->state == RECORD_LOADING;
    s->exact = r->exact;
    s->arithmetic_class = r->arithmetic_class;
}

static bool fresh(const struct peer *peer, uint64_t now_us, uint32_t age_ms) {
    return peer->up && peer->has_info && now_us - peer->info_us <= (uint64_t)age_ms * 1000;
}

/* A server's own word counts while it is newer than what the swarm says of it. */
static bool describe(const struct peer *peer, uint64_t now_us, uint32_t age_ms, struct route_server *s, struct record_rtt *rtts) {
    bool own = fresh(peer, now_us, age_ms);
    if (!own && (!peer->has_record || peer->suspected)) return false;
    *s = (struct route_server){.label = peer->label, .id = peer->digest, .rtt_us = peer->rtt_us};
    if (peer->has_record) {
        s->n_rtts = peer->record.n_rtts;
        memcpy(rtts, peer->record.rtts, s->n_rtts * sizeof *rtts);
        s->rtts = rtts;
        s->queue_us = peer->record.queue_us;
    }
    if (own)
        from_info(s, &peer->info);
    else
        from_record(s, &peer->record);
    s->decode_block_us = peer_block_us(peer, s->decode_block_us, now_us);
    if (!own) s->penalty_us = UNREACHED_US;
    s->banned = peer->banned_until_us > now_us;
    return true;
}

/* In the middle of a session nobody waits for a server that just failed. */
static bool avoided(const struct choose_config *config, const struct peer *peer) {
    for (uint32_t i = 0; i < config->n_avoid; i++)
        if (config->avoid[i] == peer) return true;
    return !config->whole && peer->banned_until_us > clock_us();
}

/* Whether a server comes into question, for the part that is wanted: its blocks are counted from there. */
static bool cut_out(const struct choose_config *config, const struct peer *peer, struct route_server *s) {
    if (avoided(config, peer)) return false;
    if (config->same_class && (!s->exact || s->arithmetic_class != config->arithmetic_class)) return false;
    if (config->whole) return true;
    uint32_t first = config->first_block, end = first + config->n_blocks;
    if (s->end <= first || s->begin >= end) return false;
    s->begin = s->begin > first ? s->begin - first : 0;
    s->end = (s->end < end ? s->end : end) - first;
    return true;
}

static enum corolla_status collect(struct peers *peers, const struct choose_config *config, struct choice *choice,
                                   struct corolla_error *err) {
    choice_clear(choice);
    pthread_mutex_lock(&peers->lock);
    size_t room = peers->n + 1;
    choice->servers = calloc(room, sizeof *choice->servers);
    choice->peers = calloc(room, sizeof(struct peer *));
    choice->rtts = calloc(room, sizeof *choice->rtts);
    bool ok = choice->servers != NULL && choice->peers != NULL && choice->rtts != NULL;
    uint64_t now_us = clock_us();
    for (size_t i = 0; ok && i < peers->n; i++) {
        struct peer *peer = peers->list[i];
        struct route_server *server = &choice->servers[choice->n];
        if (!describe(peer, now_us, config->age_ms, server, choice->rtts[choice->n]) || !cut_out(config, peer, server)) continue;
        choice->peers[choice->n++] = peer;
    }
    pthread_mutex_unlock(&peers->lock);
    return ok ? COROLLA_OK : err_set(err, COROLLA_NOMEM, "out of memory to choose servers");
}

/* ---- whom to ask ----------------------------------------------------------------------------------------------- */

struct questions {
    const struct choice *choice;
    uint32_t age_ms;
    uint64_t now_us;
    size_t n;
    struct peer *peers[ASK_MAX];
};

static void want(struct questions *q, struct peer *peer) {
    bool known = q->n == ASK_MAX || fresh(peer, q->now_us, q->age_ms);
    for (size_t i = 0; i < q->n && !known; i++) known = q->peers[i] == peer;
    if (!known) q->peers[q->n++] = peer;
}

/* One that joins may have got ready since its record was signed. */
static bool usable(const struct route_server *s) { return !s->banned && !s->draining; }

/* Some others that hold the first block of a hop, beginning anywhere, so that clients ask different ones. */
static void want_alternatives(struct questions *q, const struct route_hop *hop) {
    uint32_t start, found = 0;
    rand_bytes(&start, sizeof start);
    for (size_t i = 0; i < q->choice->n && found < ALTERNATIVES; i++) {
        size_t at = (start + i) % q->choice->n;
        const struct route_server *s = &q->choice->servers[at];
        if (s->begin > hop->begin || hop->begin >= s->end || !usable(s) || s->rtt_us > 0) continue;
        want(q, q->choice->peers[at]);
        found++;
    }
}

static void want_route(struct questions *q, bool found) {
    const struct choice *choice = q->choice;
    if (choice->n <= ASK_MAX)
        for (size_t i = 0; i < choice->n; i++)
            if (usable(&choice->servers[i])) want(q, choice->peers[i]);
    for (uint32_t i = 0; found && i < choice->route.n_hops; i++) want(q, choice->peers[choice->route.hops[i].server]);
    for (uint32_t i = 0; found && i < choice->route.n_hops; i++) want_alternatives(q, &choice->route.hops[i]);
}

/* The servers that the user named are asked whatever the swarm says; those that failed since then are not asked again. */
static void ask_named(struct peers *peers, const struct choose_config *config, uint64_t since_us) {
    struct peer **named = NULL;
    size_t n = 0;
    pthread_mutex_lock(&peers->lock);
    named = calloc(peers->n + 1, sizeof(struct peer *));
    for (size_t i = 0; named != NULL && i < peers->n; i++)
        if (peers->list[i]->named && peers->list[i]->banned_us < since_us && !avoided(config, peers->list[i])) named[n++] = peers->list[i];
    pthread_mutex_unlock(&peers->lock);
    if (named != NULL) peers_ask(peers, named, n, config->age_ms, config->deadline_us);
    free(named);
}

/* ---- choosing -------------------------------------------------------------------------------------------------- */

/* since_us: what failed later is not forgiven. */
static enum corolla_status find(const struct choose_config *config, uint64_t since_us, struct choice *choice, struct corolla_error *err) {
    struct route_request request = {.n_blocks = config->n_blocks, .tokens = config->tokens, .wire = config->wire, .exact = config->exact};
    memcpy(request.model, config->model, ID_SIZE);
    rand_bytes(&request.seed, sizeof request.seed);
    enum corolla_status status = route_find(&request, choice->servers, choice->n, &choice->route, err);
    if (status == COROLLA_OK || !config->forgive) return status;
    struct corolla_error again;
    for (size_t i = 0; i < choice->n; i++) choice->servers[i].banned &= choice->peers[i]->banned_us >= since_us;
    return route_find(&request, choice->servers, choice->n, &choice->route, &again) == COROLLA_OK ? COROLLA_OK : status;
}

/* One round of asking; false: there is nobody to ask. */
static bool ask_round(struct peers *peers, const struct choose_config *config, const struct choice *choice, bool found) {
    struct questions q = {.choice = choice, .age_ms = config->age_ms, .now_us = clock_us()};
    pthread_mutex_lock(&peers->lock);
    want_route(&q, found);
    pthread_mutex_unlock(&peers->lock);
    if (q.n == 0 || q.now_us >= config->deadline_us) return false;
    peers_ask(peers, q.peers, q.n, config->age_ms, config->deadline_us);
    return true;
}

/* Why there is no chain: what the route lacks, and the first server that could not be reached. */
static enum corolla_status explain(struct peers *peers, const struct choice *choice, enum corolla_status status,
                                   const struct corolla_error *why, struct corolla_error *err) {
    struct corolla_error missing;
    bool some_missing = peers_first_error(peers, &missing);
    if (err == NULL) return status;
    *err = *why;
    if (!some_missing) return status;
    if (choice->n == 0) {
        *err = missing;
        return missing.status;
    }
    if (status == COROLLA_NO_CHAIN) err_set(err, status, "%s (%s)", why->message, missing.message);
    return status;
}

enum corolla_status choose_route(struct peers *peers, const struct choose_config *config, struct choice *out_choice,
                                 struct corolla_error *err) {
    struct choice choice = {.n = 0};
    struct corolla_error why = {.status = COROLLA_OK};
    enum corolla_status status = COROLLA_OK;
    uint64_t since_us = clock_us();
    ask_named(peers, config, since_us);
    peers_settle(peers, config->deadline_us);
    ask_named(peers, config, since_us); /* who stands behind a name is known by now */
    for (uint32_t round = 0; round < ROUNDS_MAX; round++) {
        status = collect(peers, config, &choice, &why);
        if (status != COROLLA_OK) break;
        status = find(config, since_us, &choice, &why);
        if (!ask_round(peers, config, &choice, status == COROLLA_OK)) break;
    }
    if (status != COROLLA_OK) {
        status = explain(peers, &choice, status, &why, err);
        choice_clear(&choice);
        return status;
    }
    *out_choice = choice;
    return COROLLA_OK;
}
