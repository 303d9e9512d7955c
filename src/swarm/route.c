/* route.c - who may take part in a chain, what the parts cost, which group goes first, and why there is none. See route.h.
 *
 * A chain is found whenever there is one that fits into a step: spans have no holes, so a walk that covers all blocks can be
 * made one that uses nobody twice by staying (route_time.c).
 */
#include "swarm/route.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "swarm/route_search.h"

#define HOP_NS 300000            /* handing over hidden states: queues, encryption, system calls; measured on loopback */
#define BLOCK_US_UNKNOWN 3000.0f /* for a server that has not measured itself: as slow as a small computer */
#define RTT_US_UNKNOWN 100000    /* between continents: who was not measured does not win over who is known to be near */
#define PART_NS_MIN 1000         /* no claim is fast enough to be free */
#define SERVERS_MAX 1000000      /* indices have 32 bits, and three are no servers */
#define INEXACT (1u << 31)       /* in a key that orders places: more than any block */
#define KEY_BYTES 12
#define TEXT_MAX 160

/* ---- what the parts cost --------------------------------------------------------------------------------------- */

static uint64_t bounded(uint64_t ns) { return ns < ROUTE_PART_NS_MAX ? ns : ROUTE_PART_NS_MAX; }

uint64_t route_block_ns(const struct route_server *server, enum route_goal goal) {
    bool is_long = goal == ROUTE_MOST_THROUGHPUT && server->prefill_block_us > 0;
    float us = is_long ? server->prefill_block_us : server->decode_block_us;
    double ns = 1e3 * (double)(us > 0 ? us : BLOCK_US_UNKNOWN);
    if (goal == ROUTE_MOST_THROUGHPUT) ns *= ROUTE_LONG_TOKENS;
    if (!(ns < (double)ROUTE_PART_NS_MAX)) return ROUTE_PART_NS_MAX;
    return ns < PART_NS_MIN ? PART_NS_MIN : (uint64_t)ns;
}

uint64_t route_hop_ns(const struct route_server *server) {
    return HOP_NS + bounded((uint64_t)server->queue_us * 1000) + bounded((uint64_t)server->penalty_us * 1000);
}

uint64_t route_way_ns(const struct route_server *server) { return route_half_ns(server->rtt_us == 0 ? RTT_US_UNKNOWN : server->rtt_us); }

uint64_t route_between_ns(const struct route_server *from, const struct route_server *to) {
    for (uint32_t i = 0; i < from->n_rtts && i < RECORD_RTTS_MAX; i++)
        if (from->rtts[i].node == to->id) return route_half_ns(from->rtts[i].rtt_us);
    return route_way_ns(from) + route_way_ns(to);
}

/* ---- who may take part, and why not ---------------------------------------------------------------------------- */

static enum corolla_status server_usable(const struct route_request *request, const struct route_server *server) {
    if (memcmp(server->model, request->model, ID_SIZE) != 0) return COROLLA_MODEL_MISMATCH;
    if (server->begin >= server->end || server->end > request->n_blocks) return COROLLA_PEER_FAULT;
    if (server->draining) return COROLLA_DRAINING;
    if (server->joining || server->banned) return COROLLA_BUSY;
    if ((server->wires >> request->wire & 1) == 0) return COROLLA_UNSUPPORTED;
    if (server->tokens_ever < request->tokens) return COROLLA_TOO_LONG;
    if (server->tokens_max < request->tokens) return COROLLA_NO_CACHE;
    return COROLLA_OK;
}

struct place { /* of a server in the order of the search */
    uint64_t arithmetic_class;
    uint32_t begin; /* with INEXACT when the server is */
    uint32_t server;
};
struct swarm { /* the servers of a request */
    const struct route_request *request;
    const struct route_server *servers;
    uint32_t n;
    struct place *usable; /* [n_usable]: by class, the exact ones of a class first, then by first block */
    uint32_t n_usable;
    uint32_t *numbers; /* [n]: where in `usable`, or SERVER_NONE */
};

/* The first run of blocks from `from` on that nobody has; false when there is none. */
static bool first_gap(const struct swarm *w, uint32_t from, uint32_t *out_begin, uint32_t *out_end) {
    uint32_t n_blocks = w->request->n_blocks, begin = n_blocks, block = from;
    for (; block < n_blocks; block++) {
        bool held = false;
        for (uint32_t i = 0; i < w->n_usable && !held; i++) {
            const struct route_server *server = &w->servers[w->usable[i].server];
            held = server->begin <= block && block < server->end;
        }
        if (!held && begin == n_blocks) begin = block;
        if (held && begin < n_blocks) break;
    }
    *out_begin = begin;
    *out_end = block;
    return begin < n_blocks;
}

static void list_gaps(const struct swarm *w, char out[TEXT_MAX]) {
    size_t used = 0;
    uint32_t begin, end = 0;
    out[0] = '\0';
    while (used < TEXT_MAX - 32 && first_gap(w, end, &begin, &end))
        used += (size_t)snprintf(out + used, TEXT_MAX - used, "%s%u:%u", used == 0 ? "" : ", ", begin, end);
}

/* Why this server does not fill the gaps. */
static enum corolla_status say_unusable(const struct swarm *w, const struct route_server *server, enum corolla_status why, const char *gaps,
                                        struct corolla_error *err) {
    switch (why) {
    case COROLLA_MODEL_MISMATCH: {
        char theirs[13], ours[13];
        hex_encode(server->model, 6, theirs);
        hex_encode(w->request->model, 6, ours);
        return err_set(err, why, "%s hosts another model (id %s..., wanted %s...) and nobody else has blocks %s", server->label, theirs,
                       ours, gaps);
    }
    case COROLLA_DRAINING:
        return err_set(err, why, "%s takes no new sessions (it is paused or leaves) and nobody else has blocks %s", server->label, gaps);
    case COROLLA_BUSY:
        return err_set(err, why, "%s %s and nobody else has blocks %s: try again later", server->label,
                       server->banned ? "failed lately" : "is still loading", gaps);
    case COROLLA_UNSUPPORTED:
        return err_set(err, why, "%s does not take this wire type and nobody else has blocks %s: choose another --wire", server->label,
                       gaps);
    case COROLLA_NO_CACHE:
        return err_set(err, why, "%s has cache left for a session of %llu tokens, not of %llu, and nobody else has blocks %s",
                       server->label, (unsigned long long)server->tokens_max, (unsigned long long)w->request->tokens, gaps);
    case COROLLA_TOO_LONG:
        return err_set(err, why, "%s has cache for sessions of %llu tokens, not of %llu, and nobody else has blocks %s", server->label,
                       (unsigned long long)server->tokens_ever, (unsigned long long)w->request->tokens, gaps);
    default: return err_set(err, why, "%s announces the impossible blocks %u:%u", server->label, server->begin, server->end);
    }
}

/* The error of a swarm that does not cover the blocks, with the first server that could have helped. */
static enum corolla_status no_chain(const struct swarm *w, struct corolla_error *err) {
    char gaps[TEXT_MAX];
    list_gaps(w, gaps);
    uint32_t begin = 0, end = 0;
    if (!first_gap(w, 0, &begin, &end))
        return err_set(err, COROLLA_NO_CHAIN, "no chain of at most %d servers covers the blocks: join one that hosts more of them",
                       HOPS_MAX);
    for (uint32_t i = 0; i < w->n; i++) {
        const struct route_server *server = &w->servers[i];
        enum corolla_status why = server_usable(w->request, server);
        bool helps = why == COROLLA_MODEL_MISMATCH || (server->end > begin && server->begin < end);
        if (why != COROLLA_OK && helps) return say_unusable(w, server, why, gaps, err);
    }
    return err_set(err, COROLLA_NO_CHAIN, "no server for blocks %s: start one, or join one that has them", gaps);
}

static enum corolla_status refuse_inexact(const struct swarm *w, const struct route *route, struct corolla_error *err) {
    if (w->request->wire != COROLLA_WIRE_F32) return err_set(err, COROLLA_REFUSED, "a 16-bit wire is not exact: use the wire type f32");
    const struct route_server *first = &w->servers[route->hops[0].server];
    for (uint32_t i = 0; i < route->n_hops; i++) {
        const struct route_hop *hop = &route->hops[i];
        const struct route_server *server = &w->servers[hop->server];
        if (!server->exact)
            return err_set(err, COROLLA_REFUSED, "%s (blocks %u:%u) does not compute exactly, and no exact chain covers all blocks",
                           server->label, hop->begin, hop->end);
        if (server->arithmetic_class != first->arithmetic_class)
            return err_set(err, COROLLA_REFUSED,
                           "%s (blocks %u:%u) is of another arithmetic class than %s, and no chain of one class covers all blocks",
                           server->label, hop->begin, hop->end, first->label);
    }
    return err_set(err, COROLLA_INTERNAL, "an exact chain was taken for an inexact one");
}

/* ---- choosing -------------------------------------------------------------------------------------------------- */

/* Of the key that orders places, from the least byte on. */
static uint8_t key_byte(const struct place *place, unsigned byte) {
    return (uint8_t)(byte < 4 ? place->begin >> 8 * byte : place->arithmetic_class >> 8 * (byte - 4));
}

/* Copies them in the order of one byte of their keys, else in the order they are in; false: all have the same, nothing is copied. */
static bool sort_by_byte(const struct place *places, struct place *out_sorted, uint32_t n, unsigned byte) {
    uint32_t at[UINT8_MAX + 1] = {0}, sum = 0;
    for (uint32_t i = 0; i < n; i++) at[key_byte(&places[i], byte)]++;
    if (at[key_byte(&places[0], byte)] == n) return false;
    for (unsigned value = 0; value <= UINT8_MAX; value++) {
        uint32_t count = at[value];
        at[value] = sum;
        sum += count;
    }
    for (uint32_t i = 0; i < n; i++) out_sorted[at[key_byte(&places[i], byte)]++] = places[i];
    return true;
}

/* By radix: a quarter of the time that comparing takes. */
static void sort_places(struct place *places, struct place *spare, uint32_t n) {
    for (unsigned byte = 0; byte < KEY_BYTES && n > 0; byte++)
        if (sort_by_byte(places, spare, n, byte)) memcpy(places, spare, n * sizeof *places);
}

static bool swarm_init(struct swarm *w) {
    w->usable = calloc(w->n + (size_t)1, sizeof *w->usable);
    w->numbers = calloc(w->n + (size_t)1, sizeof *w->numbers);
    struct place *spare = calloc(w->n + (size_t)1, sizeof *spare);
    bool done = w->usable != NULL && w->numbers != NULL && spare != NULL;
    for (uint32_t i = 0; done && i < w->n; i++) {
        const struct route_server *server = &w->servers[i];
        w->numbers[i] = SERVER_NONE;
        if (server_usable(w->request, server) != COROLLA_OK) continue;
        w->usable[w->n_usable++] = (struct place){.arithmetic_class = server->exact ? server->arithmetic_class : 0,
                                                  .begin = server->begin | (server->exact ? 0 : INEXACT),
                                                  .server = i};
    }
    sort_places(w->usable, spare, w->n_usable);
    for (uint32_t i = 0; i < w->n_usable; i++) w->numbers[w->usable[i].server] = i;
    free(spare);
    return done;
}

static void search_group(const struct swarm *w, struct search *s, uint32_t begin, uint32_t end) {
    s->group_begin = begin;
    s->group_end = end;
    if (w->request->goal == ROUTE_MOST_THROUGHPUT)
        search_most_throughput(s);
    else
        search_least_time(s);
}

static bool of_one_group(const struct place *a, const struct place *b) {
    return a->arithmetic_class == b->arithmetic_class && (a->begin & INEXACT) == (b->begin & INEXACT);
}

/* The best chain of exact servers of one class, over all classes. */
static void search_exact(const struct swarm *w, struct search *s) {
    for (uint32_t begin = 0, end; begin < w->n_usable; begin = end) {
        for (end = begin + 1; end < w->n_usable && of_one_group(&w->usable[begin], &w->usable[end]); end++) continue;
        if ((w->usable[begin].begin & INEXACT) == 0) search_group(w, s, begin, end);
    }
}

static void describe(const struct swarm *w, const struct search *s, bool exact, struct route *out) {
    out->n_hops = s->n_best;
    for (uint32_t i = 0; i < s->n_best; i++) {
        out->hops[i] = s->best_hops[i];
        out->hops[i].server = w->usable[s->best_hops[i].server].server;
    }
    out->exact = exact;
    out->proven = s->proven;
    out->slowest_ns = 0;
    out->time_ns = route_way_ns(&w->servers[out->hops[0].server]) + route_way_ns(&w->servers[out->hops[out->n_hops - 1].server]);
    for (uint32_t i = 0; i < out->n_hops; i++) {
        const struct route_server *server = &w->servers[out->hops[i].server];
        uint64_t hop_ns = route_hop_ns(server) + route_block_ns(server, w->request->goal) * (out->hops[i].end - out->hops[i].begin);
        if (hop_ns > out->slowest_ns) out->slowest_ns = hop_ns;
        out->time_ns += hop_ns;
        if (i > 0) out->time_ns += route_between_ns(&w->servers[out->hops[i - 1].server], server);
    }
}

static enum corolla_status choose(const struct swarm *w, struct search *s, struct route *out, struct corolla_error *err) {
    bool exact = w->request->wire == COROLLA_WIRE_F32;
    if (exact) search_exact(w, s);
    if (s->n_best == 0) {
        exact = false;
        s->proven = true;
        search_group(w, s, 0, w->n_usable);
    }
    if (s->n_best == 0) return no_chain(w, err);
    struct route route;
    describe(w, s, exact, &route);
    if (w->request->exact && !exact) return refuse_inexact(w, &route, err);
    *out = route;
    return COROLLA_OK;
}

enum corolla_status route_find(const struct route_request *request, const struct route_server *servers, size_t n, struct route *out_route,
                               struct corolla_error *err) {
    if (request->n_blocks == 0) return err_set(err, COROLLA_INVALID, "the model has no blocks");
    if (n > SERVERS_MAX) return err_set(err, COROLLA_INVALID, "%zu servers are more than the %d that can be weighed", n, SERVERS_MAX);
    struct swarm w = {.request = request, .servers = servers, .n = (uint32_t)n};
    struct search s;
    enum corolla_status status = COROLLA_NOMEM;
    if (!swarm_init(&w))
        err_set(err, status, "out of memory for a chain of %zu servers", n);
    else
        status = search_init(&s, request, servers, w.n, w.numbers, w.n_usable, err);
    if (status == COROLLA_OK) {
        status = choose(&w, &s, out_route, err);
        search_release(&s);
    }
    free(w.usable);
    free(w.numbers);
    return status;
}
