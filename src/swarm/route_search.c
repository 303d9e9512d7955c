/* route_search.c - costs as the searches read them: spread by the seed, measured ways resolved to servers. See route_search.h. */
#include "swarm/route_search.h"

#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"

#define WORK_MAX 4000000 /* (server, block) pairs that a search may look at: tens of milliseconds */

/* ---- spreading ------------------------------------------------------------------------------------------------- */

/* The finalizer of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input moves every bit of the output. */
static uint64_t mix(uint64_t x) {
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* From 1 to 1 + ROUTE_SPREAD. With u uniform in (0, 1), 1 - u^(1 + sessions) is an exponential variable of rate 1 / (1 + sessions) put
 * into (0, 1) without changing the order, and of such variables each is the least with a probability in proportion to its rate. */
static double spread(uint64_t seed, const struct route_server *server) {
    if (seed == 0) return 1;
    double u = ((double)(mix(mix(seed) ^ server->id) >> 11) + 0.5) * 0x1p-53;
    return 1 + ROUTE_SPREAD * (1 - pow(u, 1 + (double)server->sessions));
}

static struct candidate candidate_of(const struct route_request *request, const struct route_server *server) {
    double factor = spread(request->seed, server);
    double hop = factor * (double)route_hop_ns(server), way = factor * (double)route_way_ns(server);
    return (struct candidate){.block = factor * (double)route_block_ns(server, request->goal),
                              .hop = hop,
                              .way = way,
                              .entry_min = hop + way,
                              .gain_max = -INFINITY,
                              .begin = server->begin,
                              .end = server->end};
}

/* ---- measured ways --------------------------------------------------------------------------------------------- */

struct directory { /* digest -> number: open addressing; small, since it is asked a hundred thousand times */
    uint32_t *slots;
    uint64_t *ids; /* [n] */
    size_t mask;
    uint64_t seed; /* so that nobody can choose digests that collide */
};

static uint32_t *slot_of(const struct directory *d, uint64_t id) {
    size_t at = (size_t)mix(id ^ d->seed) & d->mask;
    while (d->slots[at] != SERVER_NONE && d->ids[d->slots[at]] != id) at = (at + 1) & d->mask;
    return &d->slots[at];
}

static bool directory_init(struct directory *d, uint32_t n, uint64_t seed) {
    size_t size = 2;
    while (size < (size_t)n * 2) size *= 2;
    *d = (struct directory){.mask = size - 1, .seed = mix(seed)};
    d->slots = malloc(size * sizeof *d->slots);
    d->ids = malloc((n + (size_t)1) * sizeof *d->ids);
    if (d->slots == NULL || d->ids == NULL) return false;
    memset(d->slots, 0xff, size * sizeof *d->slots); /* SERVER_NONE */
    return true;
}

static void directory_add(struct directory *d, uint64_t id, uint32_t number) {
    d->ids[number] = id;
    uint32_t *slot = slot_of(d, id);
    if (*slot == SERVER_NONE) *slot = number;
}

static void set_ways(struct search *s, const struct directory *d, const struct route_server *server, uint32_t from) {
    uint32_t n_rtts = server->n_rtts < RECORD_RTTS_MAX ? server->n_rtts : RECORD_RTTS_MAX, n = 0;
    struct measured *ways = s->ways[from];
    double gain_max = -INFINITY;
    for (uint32_t i = 0; i < n_rtts; i++) {
        uint32_t to = *slot_of(d, server->rtts[i].node);
        bool known = to == SERVER_NONE || to == from;
        for (uint32_t k = 0; k < n && !known; k++) known = ways[k].to == to;
        if (known) continue;
        ways[n] = (struct measured){.to = to, .rtt_us = server->rtts[i].rtt_us};
        double way = search_way(ways[n++]);
        struct candidate *c = &s->candidates[to];
        if (c->way - way > gain_max) gain_max = c->way - way;
        if (c->hop + way < c->entry_min) c->entry_min = c->hop + way;
    }
    while (n < RECORD_RTTS_MAX) ways[n++].to = SERVER_NONE;
    s->candidates[from].gain_max = gain_max;
}

/* In the order in which the servers lie in memory: waiting for it is what takes long. */
static bool read_servers(struct search *s, const struct route_request *request, const struct route_server *servers, uint32_t n,
                         const uint32_t *numbers) {
    struct directory d;
    bool done = directory_init(&d, s->n, request->seed);
    for (uint32_t i = 0; done && i < n; i++) {
        if (numbers[i] == SERVER_NONE) continue;
        s->candidates[numbers[i]] = candidate_of(request, &servers[i]);
        directory_add(&d, servers[i].id, numbers[i]);
    }
    for (uint32_t i = 0; done && i < n; i++)
        if (numbers[i] != SERVER_NONE) set_ways(s, &d, &servers[i], numbers[i]);
    free(d.slots);
    free(d.ids);
    return done;
}

const struct measured *search_measured(const struct search *s, uint32_t from, uint32_t to) {
    for (uint32_t k = 0; k < RECORD_RTTS_MAX && s->ways[from][k].to != SERVER_NONE; k++)
        if (s->ways[from][k].to == to) return &s->ways[from][k];
    return NULL;
}

double search_between(const struct search *s, uint32_t from, uint32_t to) {
    const struct measured *measured = search_measured(s, from, to);
    return measured != NULL ? search_way(*measured) : s->candidates[from].way + s->candidates[to].way;
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

static bool allocate(struct search *s) {
    size_t cells;
    if (!size_mul(s->n, s->n_blocks, &cells)) return false;
    s->candidates = calloc(s->n + (size_t)1, sizeof *s->candidates);
    s->ways = calloc(s->n + (size_t)1, sizeof *s->ways);
    s->path = calloc(s->n_blocks, sizeof *s->path);
    s->at = calloc(s->n + (size_t)1, sizeof *s->at);
    s->next = calloc(s->n + (size_t)1, sizeof *s->next);
    s->from = size_mul(cells, sizeof *s->from, &cells) ? malloc(cells + 1) : NULL;
    s->only = calloc(s->n_blocks, sizeof *s->only);
    s->first = calloc(s->n_blocks, sizeof *s->first);
    s->after = calloc(s->n + (size_t)1, sizeof *s->after);
    s->rest = calloc(s->n_blocks + (size_t)1, sizeof *s->rest);
    s->active = calloc(s->n + (size_t)1, sizeof *s->active);
    return s->candidates && s->ways && s->path && s->at && s->next && s->from && s->only && s->first && s->after && s->active && s->rest;
}

enum corolla_status search_init(struct search *s, const struct route_request *request, const struct route_server *servers,
                                uint32_t n_servers, const uint32_t *numbers, uint32_t n, struct corolla_error *err) {
    *s = (struct search){.n = n, .n_blocks = request->n_blocks, .best = INFINITY, .best_slowest = INFINITY, .proven = true};
    s->work_left = WORK_MAX;
    if (!allocate(s) || !read_servers(s, request, servers, n_servers, numbers)) {
        search_release(s);
        return err_set(err, COROLLA_NOMEM, "out of memory for a chain over %u blocks of %u servers", request->n_blocks, n);
    }
    memset(s->only, 0xff, s->n_blocks * sizeof *s->only); /* SERVER_NONE */
    return COROLLA_OK;
}

void search_release(struct search *s) {
    free(s->candidates);
    free(s->ways);
    free(s->path);
    free(s->at);
    free(s->next);
    free(s->from);
    free(s->only);
    free(s->first);
    free(s->after);
    free(s->active);
    free(s->rest);
}

void search_offer(struct search *s, const struct route_hop *hops, uint32_t n_hops, double cost, double slowest) {
    if (n_hops > HOPS_MAX) {
        s->too_long = true;
        return;
    }
    s->best = cost;
    s->best_slowest = slowest;
    s->n_best = n_hops;
    memcpy(s->best_hops, hops, n_hops * sizeof *hops);
}
