/* repair.h - what a chain that lost servers needs: which hops are to be replaced, and which rows are to be sent to whom again. Pure.
 *
 * The hops of a chain stand in order. Each has computed the positions up to `valid`, and has kept the rows that it sent up to `kept`, which
 * is no more. What stands in front of the first hop is the client, which has everything.
 */
#ifndef COROLLA_SWARM_REPAIR_H
#define COROLLA_SWARM_REPAIR_H

#include <stdbool.h>
#include <stdint.h>

struct repair_hop {
    bool down; /* to be replaced */
    uint32_t valid, kept;
};

/* The next run of hops that are down, at or behind *first; false: there is none. */
bool repair_next_gap(const struct repair_hop *hops, uint32_t n_hops, uint32_t *first, uint32_t *out_n);

/* The rows [begin, end) through the hops [first, first + n), sent by hop first - 1, which has kept them, or by the client when first is 0.
 */
struct repair_replay {
    uint32_t first, n, begin, end;
};
/* What is to be done next so that every hop comes to `position`; false: nothing, all are there. None is down. When it is done, its
 * hops have computed and kept up to its end, and the next call says what follows. Nobody computes a row that it has computed and kept. */
bool repair_next_replay(const struct repair_hop *hops, uint32_t n_hops, uint32_t position, struct repair_replay *out);

#endif
