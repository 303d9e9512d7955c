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

static void set_costs(struct search *s, const struct route_request *request, const struct route_server *const *servers) {
    for (uint32_t i = 0; i < s->n; i++) {
        double factor = spread(request->seed, servers[i]);
        s->candidates[i] = (struct candidate){.block = factor * (double)route_block_ns(servers[i], request->goal),
                                              .hop = factor * (double)route_hop_ns(servers[i]),
                                              .way = factor * (double)route_way_ns(servers[i]),
                                              .begin = servers[i]->begin,
                                              .end = servers[i]->end};
    }
}

/* ---- measured ways --------------------------------------------------------------------------------------------- */

struct directory { /* digest -> server: open addressing; small, since it is asked a hundred thousand times */
    uint32_t *slots;
    uint64_t *ids; /* [n] */
    unsigned bits;
    uint64_t seed; /* so that nobody can choose digests that collide */
};

static uint32_t *slot_of(const struct directory *d, uint64_t id) {
    size_t mask = ((size_t)1 << d->bits) - 1, at = (size_t)mix(id ^ d->seed) & mask;
    while (d->slots[at] != SERVER_NONE && d->ids[d->slots[at]] != id) at = (at + 1) & mask;
    return &d->slots[at];
}

static void add_ways(struct search *s, const struct directory *d, const struct route_server *server, uint32_t from) {
    uint32_t n_rtts = server->n_rtts < RECORD_RTTS_MAX ? server->n_rtts : RECORD_RTTS_MAX;
    uint32_t begin = s->ways_begin[from], end = begin;
    for (uint32_t i = 0; i < n_rtts; i++) {
        uint32_t to = *slot_of(d, server->rtts[i].node);
        bool known = to == SERVER_NONE || to == from;
        for (uint32_t k = begin; k < end && !known; k++) known = s->ways[k].to == to;
        if (known) continue;
        struct measured measured = {.to = to, .way = (double)route_half_ns(server->rtts[i].rtt_us)};
        measured.gain = s->candidates[to].way - measured.way;
        uint32_t at = end++;
        for (; at > begin && s->ways[at - 1].gain < measured.gain; at--) s->ways[at] = s->ways[at - 1];
        s->ways[at] = measured;
    }
    s->ways_begin[from + 1] = end;
}

static bool directory_init(struct directory *d, const struct route_server *const *servers, uint32_t n, uint64_t seed) {
    *d = (struct directory){.bits = 1, .seed = mix(seed)};
    while ((size_t)1 << d->bits < (size_t)n * 2) d->bits++;
    d->slots = malloc(sizeof *d->slots << d->bits);
    d->ids = calloc(n + (size_t)1, sizeof *d->ids);
    if (d->slots == NULL || d->ids == NULL) return false;
    memset(d->slots, 0xff, sizeof *d->slots << d->bits); /* SERVER_NONE */
    for (uint32_t i = 0; i < n; i++) {
        d->ids[i] = servers[i]->id;
        uint32_t *slot = slot_of(d, servers[i]->id);
        if (*slot == SERVER_NONE) *slot = i;
    }
    return true;
}

static bool set_ways(struct search *s, const struct route_request *request, const struct route_server *const *servers) {
    struct directory d;
    bool done = directory_init(&d, servers, s->n, request->seed);
    for (uint32_t i = 0; done && i < s->n; i++) add_ways(s, &d, servers[i], i);
    free(d.slots);
    free(d.ids);
    return done;
}

double search_between(const struct search *s, uint32_t from, uint32_t to) {
    for (uint32_t k = s->ways_begin[from]; k < s->ways_begin[from + 1]; k++)
        if (s->ways[k].to == to) return s->ways[k].way;
    return s->candidates[from].way + s->candidates[to].way;
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

static bool allocate(struct search *s) {
    size_t cells;
    if (!size_mul(s->n, s->n_blocks, &cells)) return false;
    s->candidates = calloc(s->n + (size_t)1, sizeof *s->candidates);
    s->ways_begin = calloc(s->n + (size_t)1, sizeof *s->ways_begin);
    s->ways = calloc(s->n + (size_t)1, RECORD_RTTS_MAX * sizeof *s->ways);
    s->path = calloc(s->n_blocks, sizeof *s->path);
    s->at = calloc(s->n + (size_t)1, sizeof *s->at);
    s->next = calloc(s->n + (size_t)1, sizeof *s->next);
    s->from = size_mul(cells, sizeof *s->from, &cells) ? malloc(cells + 1) : NULL;
    s->only = calloc(s->n_blocks, sizeof *s->only);
    s->first = calloc(s->n_blocks, sizeof *s->first);
    s->after = calloc(s->n + (size_t)1, sizeof *s->after);
    s->active = calloc(s->n + (size_t)1, sizeof *s->active);
    return s->candidates && s->ways_begin && s->ways && s->path && s->at && s->next && s->from && s->only && s->first && s->after &&
           s->active;
}

enum corolla_status search_init(struct search *s, const struct route_request *request, const struct route_server *const *servers,
                                uint32_t n, struct corolla_error *err) {
    *s = (struct search){.n = n, .n_blocks = request->n_blocks, .best = INFINITY, .best_slowest = INFINITY, .proven = true};
    s->work_left = WORK_MAX;
    bool allocated = allocate(s);
    if (allocated) set_costs(s, request, servers);
    if (!allocated || !set_ways(s, request, servers)) {
        search_release(s);
        return err_set(err, COROLLA_NOMEM, "out of memory for a chain over %u blocks of %u servers", request->n_blocks, n);
    }
    memset(s->only, 0xff, s->n_blocks * sizeof *s->only); /* SERVER_NONE */
    return COROLLA_OK;
}

void search_release(struct search *s) {
    free(s->candidates);
    free(s->ways_begin);
    free(s->ways);
    free(s->path);
    free(s->at);
    free(s->next);
    free(s->from);
    free(s->only);
    free(s->first);
    free(s->after);
    free(s->active);
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
