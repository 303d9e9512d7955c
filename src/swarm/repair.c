/* repair.c - see repair.h. */
#include "swarm/repair.h"

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

bool repair_next_gap(const struct repair_hop *hops, uint32_t n_hops, uint32_t *first, uint32_t *out_n) {
    while (*first < n_hops && !hops[*first].down) (*first)++;
    *out_n = 0;
    while (*first + *out_n < n_hops && hops[*first + *out_n].down) (*out_n)++;
    return *out_n > 0;
}

/* How far a hop need not compute: what it has computed, or kept, when it lacks rows or the one behind it does. The last one keeps none. */
static uint32_t level(const struct repair_hop *hops, uint32_t n_hops, uint32_t i, uint32_t position) {
    bool last = i + 1 == n_hops, lacking = hops[i].valid < position || (!last && level(hops, n_hops, i + 1, position) < position);
    return least(lacking && !last ? hops[i].kept : hops[i].valid, position);
}

/* Those that are furthest behind, from the first of them on, are brought to the level of a neighbour, before or behind; whoever is
 * level goes on together. So nobody computes what it has. */
bool repair_next_replay(const struct repair_hop *hops, uint32_t n_hops, uint32_t position, struct repair_replay *out) {
    uint32_t first = 0, begin = position, end = position, behind;
    for (uint32_t i = n_hops; i-- > 0;) {
        if (level(hops, n_hops, i, position) > begin) continue;
        first = i;
        begin = level(hops, n_hops, i, position);
    }
    if (begin == position) return false;
    for (behind = first; behind < n_hops && level(hops, n_hops, behind, position) == begin; behind++) continue;
    if (first > 0) end = level(hops, n_hops, first - 1, position);
    if (behind < n_hops) end = least(end, level(hops, n_hops, behind, position));
    *out = (struct repair_replay){.first = first, .n = behind - first, .begin = begin, .end = end};
    return true;
}
