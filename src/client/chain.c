/* chain.c - the search for the cheapest chain. See chain.h.
 *
 * Labels walk over the block boundaries in order. A label is a chain prefix: it covers [0, block), knows its cost and the set of
 * servers that it used. At one boundary a label is dropped when another is no worse and used no server more that could still
 * serve. That is exact as long as LABELS_MAX per boundary suffice, which a few servers never exceed; past it the dearest go.
 * A chain is found whenever there is one: spans have no holes, so where the walk stands still at block f, the server that has f
 * was used by a label that could just have stayed on it.
 */
#include "client/chain.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"

#define LABELS_MAX 32              /* per block boundary: bounds memory and time of a search */
#define HOP_NS 300000              /* handing over hidden states: queues, encryption, system calls; measured on loopback */
#define BLOCK_NS_UNKNOWN 3000000   /* for a server that has not measured itself: as slow as a small computer */
#define BLOCK_NS_MIN 1000          /* bounds for what servers claim: no claim is fast enough to be free */
#define BLOCK_NS_MAX 1000000000000 /* and none overflows a sum */
#define TEXT_MAX 160

struct label {
    uint64_t used; /* servers, a bit each */
    uint64_t cost_ns, slowest_ns;
    const struct label *parent;
    uint32_t server, block;
};

struct search {
    const struct chain_server *servers;
    uint32_t n, n_blocks;
    uint64_t allowed;     /* servers, a bit each */
    struct label *labels; /* [n_blocks + 1][LABELS_MAX] */
    uint32_t *counts;     /* [n_blocks + 1] */
};

uint64_t chain_hop_ns(const struct chain_server *server) { return HOP_NS + (uint64_t)server->rtt_us * 500; }

uint64_t chain_block_ns(const struct chain_server *server) {
    double tokens_per_s = (double)server->decode_tokens_per_s;
    if (!isfinite(tokens_per_s) || tokens_per_s <= 0) return BLOCK_NS_UNKNOWN;
    double ns = 1e9 / tokens_per_s / (double)(server->end - server->begin);
    if (!(ns < (double)BLOCK_NS_MAX)) return BLOCK_NS_MAX;
    return ns < BLOCK_NS_MIN ? BLOCK_NS_MIN : (uint64_t)ns;
}

/* ---- the search ------------------------------------------------------------------------------------------------ */

static bool cheaper(const struct label *a, const struct label *b) {
    return a->cost_ns < b->cost_ns || (a->cost_ns == b->cost_ns && a->slowest_ns < b->slowest_ns);
}

/* The servers of the set that have blocks behind the boundary, which alone restrict what can follow. */
static uint64_t still_useful(const struct search *s, uint64_t used, uint32_t block) {
    uint64_t useful = 0;
    for (uint32_t i = 0; i < s->n; i++)
        if ((used >> i & 1) != 0 && s->servers[i].end > block) useful |= UINT64_C(1) << i;
    return useful;
}

static bool dominates(const struct search *s, const struct label *a, const struct label *b) {
    if (a->cost_ns > b->cost_ns || a->slowest_ns > b->slowest_ns) return false;
    return (still_useful(s, a->used, a->block) & ~b->used) == 0;
}

static void add_label(struct search *s, const struct label *label) {
    struct label *row = s->labels + (size_t)label->block * LABELS_MAX;
    uint32_t *count = &s->counts[label->block];
    for (uint32_t i = 0; i < *count; i++)
        if (dominates(s, &row[i], label)) return;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < *count; i++)
        if (!dominates(s, label, &row[i])) row[kept++] = row[i];
    *count = kept;
    if (*count < LABELS_MAX) {
        row[(*count)++] = *label;
        return;
    }
    uint32_t dearest = 0;
    for (uint32_t i = 1; i < *count; i++)
        if (cheaper(&row[dearest], &row[i])) dearest = i;
    if (cheaper(label, &row[dearest])) row[dearest] = *label;
}

/* Lets every server that is still free go on from a label, to every boundary that it reaches. */
static void extend(struct search *s, const struct label *from) {
    for (uint32_t i = 0; i < s->n; i++) {
        const struct chain_server *server = &s->servers[i];
        uint64_t bit = UINT64_C(1) << i;
        if ((s->allowed & bit) == 0 || (from->used & bit) != 0) continue;
        if (server->begin > from->block || server->end <= from->block) continue;
        uint64_t block_ns = chain_block_ns(server), hop_ns = chain_hop_ns(server);
        for (uint32_t end = from->block + 1; end <= server->end && end <= s->n_blocks; end++) {
            uint64_t stage_ns = hop_ns + block_ns * (end - from->block);
            struct label next = {.used = from->used | bit, .cost_ns = from->cost_ns + stage_ns, .parent = from, .server = i, .block = end};
            next.slowest_ns = stage_ns > from->slowest_ns ? stage_ns : from->slowest_ns;
            add_label(s, &next);
        }
    }
}

/* The cheapest chain of the allowed servers; false, and *out untouched, when there is none. */
static bool search_run(struct search *s, struct chain *out) {
    memset(s->counts, 0, (s->n_blocks + 1) * sizeof *s->counts);
    s->labels[0] = (struct label){.parent = NULL};
    s->counts[0] = 1;
    for (uint32_t block = 0; block < s->n_blocks; block++)
        for (uint32_t i = 0; i < s->counts[block]; i++) extend(s, &s->labels[(size_t)block * LABELS_MAX + i]);
    const struct label *row = s->labels + (size_t)s->n_blocks * LABELS_MAX, *best = NULL;
    for (uint32_t i = 0; i < s->counts[s->n_blocks]; i++)
        if (best == NULL || cheaper(&row[i], best)) best = &row[i];
    if (best == NULL) return false;
    out->cost_ns = best->cost_ns;
    out->slowest_ns = best->slowest_ns;
    out->n_hops = 0;
    for (const struct label *l = best; l->parent != NULL; l = l->parent) out->n_hops++;
    uint32_t hop = out->n_hops;
    for (const struct label *l = best; l->parent != NULL; l = l->parent)
        out->hops[--hop] = (struct chain_hop){.server = l->server, .begin = l->parent->block, .end = l->block};
    return true;
}

/* ---- who may take part, and why not ---------------------------------------------------------------------------- */

static enum corolla_status server_usable(const struct chain_request *request, const struct chain_server *server) {
    if (memcmp(server->model, request->model, ID_SIZE) != 0) return COROLLA_MODEL_MISMATCH;
    if (server->begin >= server->end || server->end > request->n_blocks) return COROLLA_PEER_FAULT;
    if (server->draining) return COROLLA_DRAINING;
    if ((server->wires >> request->wire & 1) == 0) return COROLLA_UNSUPPORTED;
    if (server->tokens_max < request->max_tokens) return COROLLA_NO_CACHE;
    return COROLLA_OK;
}

/* The first run of blocks that no allowed server has; false when there is none. */
static bool first_gap(const struct search *s, uint32_t from, uint32_t *out_begin, uint32_t *out_end) {
    uint32_t begin = s->n_blocks, block = from;
    for (; block < s->n_blocks; block++) {
        bool held = false;
        for (uint32_t i = 0; i < s->n && !held; i++)
            held = (s->allowed >> i & 1) != 0 && s->servers[i].begin <= block && block < s->servers[i].end;
        if (!held && begin == s->n_blocks) begin = block;
        if (held && begin < s->n_blocks) break;
    }
    *out_begin = begin;
    *out_end = block;
    return begin < s->n_blocks;
}

static void list_gaps(const struct search *s, char out[TEXT_MAX]) {
    size_t used = 0;
    uint32_t begin, end = 0;
    out[0] = '\0';
    while (used < TEXT_MAX - 32 && first_gap(s, end, &begin, &end))
        used += (size_t)snprintf(out + used, TEXT_MAX - used, "%s%u:%u", used == 0 ? "" : ", ", begin, end);
}

/* The error of a swarm that does not cover the blocks, with the first server that could have helped. */
static enum corolla_status no_chain(const struct chain_request *request, const struct search *s, struct corolla_error *err) {
    char gaps[TEXT_MAX];
    list_gaps(s, gaps);
    uint32_t begin = 0, end = 0;
    first_gap(s, 0, &begin, &end);
    for (uint32_t i = 0; i < s->n; i++) {
        const struct chain_server *server = &s->servers[i];
        enum corolla_status why = server_usable(request, server);
        if (why == COROLLA_OK) continue;
        if (why == COROLLA_MODEL_MISMATCH) {
            char theirs[13], ours[13];
            hex_encode(server->model, 6, theirs);
            hex_encode(request->model, 6, ours);
            return err_set(err, why, "%s hosts another model (id %s..., wanted %s...) and nobody else has blocks %s", server->label, theirs,
                           ours, gaps);
        }
        if (server->end <= begin || server->begin >= end) continue;
        if (why == COROLLA_DRAINING) return err_set(err, why, "%s is leaving and nobody else has blocks %s", server->label, gaps);
        if (why == COROLLA_UNSUPPORTED)
            return err_set(err, why, "%s does not take this wire type and nobody else has blocks %s: choose another --wire", server->label,
                           gaps);
        if (why == COROLLA_NO_CACHE)
            return err_set(err, why, "%s has cache left for a session of %llu tokens, not of %u, and nobody else has blocks %s",
                           server->label, (unsigned long long)server->tokens_max, request->max_tokens, gaps);
        return err_set(err, why, "%s announces the impossible blocks %u:%u", server->label, server->begin, server->end);
    }
    return err_set(err, COROLLA_NO_CHAIN, "no server for blocks %s: start one, or join one that has them", gaps);
}

static enum corolla_status refuse_inexact(const struct search *s, const struct chain *chain, enum corolla_wire wire,
                                          struct corolla_error *err) {
    if (wire != COROLLA_WIRE_F32) return err_set(err, COROLLA_REFUSED, "a 16-bit wire is not exact: use the wire type f32");
    const struct chain_server *first = &s->servers[chain->hops[0].server];
    for (uint32_t i = 0; i < chain->n_hops; i++) {
        const struct chain_hop *hop = &chain->hops[i];
        const struct chain_server *server = &s->servers[hop->server];
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

/* The cheapest chain of exact servers of one class, over all classes. */
static bool choose_exact(struct search *s, uint64_t usable, struct chain *out) {
    struct chain chain = {.n_hops = 0};
    bool found = false;
    uint64_t left = 0;
    for (uint32_t i = 0; i < s->n; i++)
        if ((usable >> i & 1) != 0 && s->servers[i].exact) left |= UINT64_C(1) << i;
    for (uint32_t first = 0; first < s->n; first++) {
        if ((left >> first & 1) == 0) continue;
        s->allowed = 0;
        for (uint32_t i = first; i < s->n; i++)
            if ((left >> i & 1) != 0 && s->servers[i].arithmetic_class == s->servers[first].arithmetic_class)
                s->allowed |= UINT64_C(1) << i;
        left &= ~s->allowed;
        if (!search_run(s, &chain)) continue;
        bool better = chain.cost_ns < out->cost_ns || (chain.cost_ns == out->cost_ns && chain.slowest_ns < out->slowest_ns);
        if (!found || better) *out = chain;
        found = true;
    }
    return found;
}

static enum corolla_status choose(const struct chain_request *request, struct search *s, struct chain *out, struct corolla_error *err) {
    uint64_t usable = 0;
    for (uint32_t i = 0; i < s->n; i++)
        if (server_usable(request, &s->servers[i]) == COROLLA_OK) usable |= UINT64_C(1) << i;
    struct chain chain = {.n_hops = 0};
    chain.exact = request->wire == COROLLA_WIRE_F32 && choose_exact(s, usable, &chain);
    if (chain.exact) {
        *out = chain;
        out->exact = true;
        return COROLLA_OK;
    }
    s->allowed = usable;
    if (!search_run(s, &chain)) return no_chain(request, s, err);
    if (request->exact) return refuse_inexact(s, &chain, request->wire, err);
    *out = chain;
    return COROLLA_OK;
}

enum corolla_status chain_choose(const struct chain_request *request, const struct chain_server *servers, size_t n, struct chain *out_chain,
                                 struct corolla_error *err) {
    size_t n_labels, label_bytes;
    if (n > CHAIN_SERVERS_MAX)
        return err_set(err, COROLLA_INVALID, "%zu servers are more than the %d that can be weighed", n, CHAIN_SERVERS_MAX);
    if (request->n_blocks == 0) return err_set(err, COROLLA_INVALID, "the model has no blocks");
    if (!size_mul((size_t)request->n_blocks + 1, LABELS_MAX, &n_labels) || !size_mul(n_labels, sizeof(struct label), &label_bytes))
        return err_set(err, COROLLA_NOMEM, "out of memory for a chain over %u blocks", request->n_blocks);
    struct search s = {.servers = servers, .n = (uint32_t)n, .n_blocks = request->n_blocks};
    s.labels = malloc(label_bytes);
    s.counts = calloc((size_t)request->n_blocks + 1, sizeof *s.counts);
    enum corolla_status status = COROLLA_NOMEM;
    if (s.labels == NULL || s.counts == NULL)
        err_set(err, status, "out of memory for a chain over %u blocks", request->n_blocks);
    else
        status = choose(request, &s, out_chain, err);
    free(s.labels);
    free(s.counts);
    return status;
}
