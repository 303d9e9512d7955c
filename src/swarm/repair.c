/* repair.c - see repair.h. */
#include "swarm/repair.h"

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

bool repair_next_gap(const struct repair_hop *hops, uint32_t n_hops, uint32_t *first, uint32_t *out_n) {
    while (*first < n_hops && !hops[*first].down) (*first)++;
    *out_n = 0;
    while (*first + *out_n < n_hops && hops[*first + *out_n].down) (*out_n)++;
    return *out_n > 0;
}

bool repair_next_replay(const struct repair_hop *hops, uint32_t n_hops, uint32_t position, struct repair_replay *out) {
    uint32_t first = 0, end, begin = position;
    while (first < n_hops && hops[first].valid >= position) first++;
    if (first == n_hops) return false;
    for (end = first; end < n_hops && hops[end].valid < position; end++) begin = least(begin, hops[end].valid);
    for (; first > 0 && hops[first - 1].kept < position; first--) /* it has to compute them once more */
        begin = least(begin, hops[first - 1].kept);
    *out = (struct repair_replay){.first = first, .n = end - first, .begin = begin, .end = position};
    return true;
}
