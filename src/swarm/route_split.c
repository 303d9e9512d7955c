/* route_split.c - the split that gives most throughput: the slowest hop of a long step as fast as can be, then fewer and cheaper hops.
 *
 * Long steps follow each other through the hops, so the slowest hop sets the pace and ways only add delay. Under a cap on the time
 * of a hop a chain is built from the front, each server taking as many blocks as the cap allows; the cap is narrowed by bisection. Two
 * rules choose among the servers that have the next block: the one that reaches furthest (few hops), and the one whose span ends
 * first (it is of no use later; the earliest deadline first of scheduling, which would be optimal if servers could be left and come back
 * to). Greedy: the best split may be missed.
 */
#include <math.h>

#include "swarm/route_search.h"

#define BISECTIONS_MAX 24
#define CAP_STEP 0.999 /* narrower than this is not worth a look */

enum rule { FURTHEST_FIRST, EARLIEST_END_FIRST };

struct split { /* under construction */
    struct route_hop hops[HOPS_MAX];
    uint32_t n;
    double cost, slowest;
};

static uint32_t reach(const struct candidate *c, uint32_t block, double cap) {
    if (block < c->begin || block >= c->end) return 0;
    double blocks = floor((cap - c->hop) / c->block);
    if (!(blocks >= 1)) return 0;
    return blocks < c->end - block ? (uint32_t)blocks : c->end - block;
}

static bool goes_first(const struct search *s, enum rule rule, uint32_t a, uint32_t a_reach, uint32_t b, uint32_t b_reach) {
    const struct candidate *x = &s->candidates[a], *y = &s->candidates[b];
    if (rule == FURTHEST_FIRST && a_reach != b_reach) return a_reach > b_reach;
    if (x->end != y->end) return x->end < y->end;
    if (a_reach != b_reach) return a_reach > b_reach;
    return x->hop + x->block < y->hop + y->block;
}

static void add_hop(const struct search *s, struct split *split, uint32_t server, uint32_t begin, uint32_t end) {
    const struct candidate *c = &s->candidates[server];
    double hop = c->hop + c->block * (end - begin);
    split->cost += hop + (split->n == 0 ? c->way : search_between(s, split->hops[split->n - 1].server, server));
    if (end == s->n_blocks) split->cost += c->way;
    if (hop > split->slowest) split->slowest = hop;
    split->hops[split->n++] = (struct route_hop){.server = server, .begin = begin, .end = end};
}

static bool build(struct search *s, enum rule rule, double cap, struct split *out) {
    *out = (struct split){.n = 0};
    s->n_active = 0;
    for (uint32_t i = s->group_begin; i < s->group_end; i++) /* those that are of use and not used yet */
        if (s->candidates[i].hop + s->candidates[i].block <= cap) s->active[s->n_active++] = i;
    for (uint32_t block = 0; block < s->n_blocks;) {
        uint32_t chosen = SERVER_NONE, chosen_reach = 0;
        for (uint32_t a = 0; a < s->n_active; a++) {
            uint32_t r = reach(&s->candidates[s->active[a]], block, cap);
            if (r == 0) continue;
            if (chosen_reach > 0 && !goes_first(s, rule, s->active[a], r, s->active[chosen], chosen_reach)) continue;
            chosen = a;
            chosen_reach = r;
        }
        if (chosen_reach == 0) return false;
        if (out->n == HOPS_MAX) {
            s->too_long = true;
            return false;
        }
        add_hop(s, out, s->active[chosen], block, block + chosen_reach);
        s->active[chosen] = s->active[--s->n_active];
        block += chosen_reach;
    }
    return true;
}

/* The better chain of both rules under the cap. */
static bool build_best(struct search *s, double cap, struct split *out) {
    struct split other;
    bool found = build(s, FURTHEST_FIRST, cap, out);
    if (!build(s, EARLIEST_END_FIRST, cap, &other)) return found;
    if (!found || other.slowest < out->slowest || (other.slowest <= out->slowest && other.cost < out->cost)) *out = other;
    return true;
}

void search_most_throughput(struct search *s) {
    struct split best, split;
    s->proven = false;
    if (!build_best(s, INFINITY, &best)) return;
    double low = 0;
    for (int i = 0; i < BISECTIONS_MAX && low < best.slowest * CAP_STEP; i++) {
        double cap = (low + best.slowest) / 2;
        if (build_best(s, cap, &split))
            best = split;
        else
            low = cap;
    }
    bool better = best.slowest < s->best_slowest || (best.slowest <= s->best_slowest && best.cost < s->best);
    if (better) search_offer(s, best.hops, best.n, best.cost, best.slowest);
}
