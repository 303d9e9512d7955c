/* place.c - sums of blocks, the weakest window, what a move gains, and the patience around it. See place.h. */
#include "swarm/place.h"

#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"

#define HOLDERS_WANTED 2
#define GOING_SHARE 4        /* at most a quarter of a block's holders are on the way at once */
#define TOKENS_PER_S_MAX 1e6 /* nobody claims more */

struct block {
    double tokens_per_s;
    uint32_t holders;
};

struct layout {
    const struct place_server **servers; /* [n], sorted by digest */
    size_t n;
    struct block *others; /* [n_blocks]: without the server that is looked at */
    struct block *blocks; /* [n_blocks] */
    struct block *window; /* [2][n_blocks], scratch */
    uint32_t n_blocks;
};

/* ---- sums ------------------------------------------------------------------------------------------------------ */

static int by_node(const void *a, const void *b) {
    const struct place_server *x = *(const struct place_server *const *)a, *y = *(const struct place_server *const *)b;
    return (x->node > y->node) - (x->node < y->node);
}

static enum corolla_status layout_init(struct layout *l, const struct place_server *servers, size_t n, uint32_t n_blocks,
                                       struct corolla_error *err) {
    *l = (struct layout){.n_blocks = n_blocks};
    l->servers = calloc(n + 1, sizeof(const struct place_server *));
    l->others = calloc(n_blocks + (size_t)1, sizeof *l->others);
    l->blocks = calloc(n_blocks + (size_t)1, sizeof *l->blocks);
    l->window = calloc(2 * ((size_t)n_blocks + 1), sizeof *l->window);
    if (l->servers == NULL || l->others == NULL || l->blocks == NULL || l->window == NULL)
        return err_set(err, COROLLA_NOMEM, "out of memory for the placement of %zu servers", n);
    for (size_t i = 0; i < n; i++)
        if (!servers[i].leaving && servers[i].begin < servers[i].end && servers[i].end <= n_blocks) l->servers[l->n++] = &servers[i];
    qsort(l->servers, l->n, sizeof(const struct place_server *), by_node);
    return COROLLA_OK;
}

static void layout_release(struct layout *l) {
    free(l->servers);
    free(l->others);
    free(l->blocks);
    free(l->window);
}

static double speed(const struct place_server *server) {
    double tokens_per_s = (double)server->tokens_per_s;
    if (!(tokens_per_s > 0)) return 0;
    return tokens_per_s < TOKENS_PER_S_MAX ? tokens_per_s : TOKENS_PER_S_MAX;
}

static void add_span(struct block *blocks, const struct place_server *server, uint32_t begin) {
    double tokens_per_s = speed(server);
    for (uint32_t b = begin; b < begin + (server->end - server->begin); b++) {
        blocks[b].tokens_per_s += tokens_per_s;
        blocks[b].holders++;
    }
}

/* Sums all servers but self, which may be NULL. */
static void layout_sum(struct layout *l, const struct place_server *self) {
    for (size_t i = 0; i < l->n; i++)
        if (l->servers[i] != self) add_span(l->others, l->servers[i], l->servers[i]->begin);
    memcpy(l->blocks, l->others, l->n_blocks * sizeof *l->blocks);
}

/* The blocks as they are when the span of self lies at `begin`. Added last in all cases, so that sums differ by it and nothing else. */
static void layout_put(struct layout *l, const struct place_server *self, uint32_t begin) {
    memcpy(l->blocks, l->others, l->n_blocks * sizeof *l->blocks);
    add_span(l->blocks, self, begin);
}

/* ---- the weakest window ---------------------------------------------------------------------------------------- */

static int by_strength(const void *a, const void *b) {
    const struct block *x = a, *y = b;
    bool thin = x->holders < HOLDERS_WANTED || y->holders < HOLDERS_WANTED;
    if (thin && x->holders != y->holders) return x->holders < y->holders ? -1 : 1;
    return (x->tokens_per_s > y->tokens_per_s) - (x->tokens_per_s < y->tokens_per_s);
}

static const struct block *weakest_of(const struct block *blocks, uint32_t n) {
    const struct block *weakest = blocks;
    for (uint32_t b = 1; b < n; b++)
        if (by_strength(&blocks[b], weakest) < 0) weakest = &blocks[b];
    return weakest;
}

static uint32_t weakest_window(struct layout *l, uint32_t length) {
    const struct block *weakest = weakest_of(l->blocks, l->n_blocks);
    struct block *best = l->window, *window = l->window + l->n_blocks;
    uint32_t best_begin = UINT32_MAX;
    for (uint32_t begin = 0; begin + length <= l->n_blocks; begin++) {
        if (by_strength(weakest_of(l->blocks + begin, length), weakest) > 0) continue;
        memcpy(window, l->blocks + begin, length * sizeof *window);
        qsort(window, length, sizeof *window, by_strength);
        int order = best_begin == UINT32_MAX ? -1 : 0;
        for (uint32_t i = 0; i < length && order == 0; i++) order = by_strength(&window[i], &best[i]);
        if (order >= 0) continue;
        best_begin = begin;
        struct block *other = best;
        best = window;
        window = other;
    }
    return best_begin;
}

enum corolla_status place_choose(const struct place_server *servers, size_t n, uint32_t n_blocks, uint32_t length, uint32_t *out_begin,
                                 struct corolla_error *err) {
    struct layout l;
    if (length == 0 || length > n_blocks)
        return err_set(err, COROLLA_INVALID, "a span of %u blocks does not fit into a model of %u", length, n_blocks);
    enum corolla_status status = layout_init(&l, servers, n, n_blocks, err);
    if (status == COROLLA_OK) {
        layout_sum(&l, NULL);
        *out_begin = weakest_window(&l, length);
    }
    layout_release(&l);
    return status;
}

/* ---- what a move gains ----------------------------------------------------------------------------------------- */

struct summary {      /* of all blocks */
    uint32_t gaps;    /* blocks without a holder */
    uint32_t missing; /* holders that are missing to two of each block */
    struct block weakest;
    double tokens_per_s; /* of the slowest block */
};

static struct summary summarize(const struct layout *l) {
    struct summary s = {.weakest = *weakest_of(l->blocks, l->n_blocks), .tokens_per_s = INFINITY};
    for (uint32_t b = 0; b < l->n_blocks; b++) {
        const struct block *block = &l->blocks[b];
        s.gaps += block->holders == 0;
        if (block->holders < HOLDERS_WANTED) s.missing += HOLDERS_WANTED - block->holders;
        if (block->tokens_per_s < s.tokens_per_s) s.tokens_per_s = block->tokens_per_s;
    }
    return s;
}

/* The weakest block of the span at `begin` that is not in the other one of the same length. */
static const struct block *weakest_apart(const struct layout *l, uint32_t begin, uint32_t other, uint32_t length) {
    const struct block *weakest = NULL;
    for (uint32_t b = begin; b < begin + length; b++) {
        if (b >= other && b < other + length) continue;
        if (weakest == NULL || by_strength(&l->blocks[b], weakest) < 0) weakest = &l->blocks[b];
    }
    return weakest;
}

/* The blocks are as they would be after the move: left is the weakest that the server leaves, target what had been the weakest of
 * the swarm, or NULL when it does not go there. */
static bool worth_it(const struct layout *l, const struct summary *before, const struct block *left, const struct block *target) {
    struct summary after = summarize(l);
    if (left->holders == 0) return false;
    if (after.gaps != before->gaps) return after.gaps < before->gaps;
    if (after.missing != before->missing) return after.missing < before->missing;
    if (after.tokens_per_s > 0 && after.tokens_per_s >= PLACE_GAIN_MIN * before->tokens_per_s) return true;
    return target != NULL && left->tokens_per_s >= PLACE_KEEP_MIN * target->tokens_per_s;
}

/* Whether enough servers are on the way to a block: one, or in a big swarm a share of those that it has, which count among them. */
static bool is_taken(const struct layout *l, const struct place_server *self, const struct block *target) {
    uint32_t block = (uint32_t)(target - l->blocks), going = 0;
    for (size_t i = 0; i < l->n; i++) {
        const struct place_server *server = l->servers[i];
        going += server != self && server->joining && server->begin <= block && block < server->end;
    }
    return going > 0 && going >= target->holders / GOING_SHARE;
}

static void find_gain(struct layout *l, const struct place_server *self, struct place_gain *out) {
    uint32_t length = self->end - self->begin;
    layout_sum(l, self);
    uint32_t begin = weakest_window(l, length);
    layout_put(l, self, self->begin);
    struct summary before = summarize(l);
    *out = (struct place_gain){.begin = begin, .before = before.tokens_per_s, .after = before.tokens_per_s};
    if (begin == self->begin) return;
    const struct block *target = weakest_apart(l, begin, self->begin, length), *left = weakest_apart(l, self->begin, begin, length);
    bool to_weakest = by_strength(target, &before.weakest) == 0;
    out->taken = is_taken(l, self, target);
    layout_put(l, self, begin);
    out->after = summarize(l).tokens_per_s;
    out->worth = worth_it(l, &before, left, to_weakest ? target : NULL);
}

enum corolla_status place_gain(const struct place_server *servers, size_t n, uint32_t n_blocks, uint64_t self, struct place_gain *out_gain,
                               struct corolla_error *err) {
    struct layout l;
    const struct place_server *found = NULL;
    enum corolla_status status = layout_init(&l, servers, n, n_blocks, err);
    for (size_t i = 0; status == COROLLA_OK && i < l.n && found == NULL; i++)
        if (l.servers[i]->node == self) found = l.servers[i];
    if (found != NULL)
        find_gain(&l, found, out_gain);
    else if (status == COROLLA_OK)
        status = err_set(err, COROLLA_NOT_FOUND, "this server is not among the %zu that host blocks", l.n);
    layout_release(&l);
    return status;
}

/* ---- patience -------------------------------------------------------------------------------------------------- */

static void look_later(struct place_watch *watch, uint64_t now_ms, uint64_t random) {
    watch->due_ms = now_ms + PLACE_LOOK_MS / 2 + random % PLACE_LOOK_MS;
    watch->second = false;
}

void place_watch_init(struct place_watch *watch, uint64_t now_ms, uint64_t random) { look_later(watch, now_ms, random); }

bool place_watch_look(struct place_watch *watch, const struct place_server *servers, size_t n, uint32_t n_blocks, uint64_t self,
                      uint64_t now_ms, uint64_t random, uint32_t *out_begin) {
    struct place_gain gain;
    bool second = watch->second;
    look_later(watch, now_ms, random);
    if (place_gain(servers, n, n_blocks, self, &gain, NULL) != COROLLA_OK || !gain.worth || gain.taken) return false;
    if (second) {
        *out_begin = gain.begin;
        return true;
    }
    watch->second = true;
    watch->due_ms = now_ms + random % PLACE_WAIT_MS;
    return false;
}
