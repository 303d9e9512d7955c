/* route.h - which servers compute which blocks. Pure: what is known of the servers in, a chain out. Any thread.
 *
 * A chain covers all blocks in order, each server at most once, possibly with a part of its span only. What one token costs:
 *
 *   time = way(client, first) + sum over hops (hop + blocks * block) + sum over neighbours way(i, j) + way(last, client)
 *
 *   block         what the server states of one block (of a long step for ROUTE_MOST_THROUGHPUT), 3 ms when it states nothing
 *   hop           a fixed part (0.3 ms), the queue that waits there, and the penalty that the caller gives
 *   way(client,i) half the round trip that the client measured; half of 100 ms when it has not
 *   way(i, j)     half the round trip that i measured to j; else way(client, i) + way(client, j): the way through the client, which
 *                 by the triangle inequality is as long as it can be, and is a sum of two parts that know nothing of each other,
 *                 which is what makes the search fast. A measured pair counts even where it is dearer than that
 *
 * ROUTE_LEAST_TIME finds the least time (route_search.c says how, and when it stops short of proving it). ROUTE_MOST_THROUGHPUT,
 * for training, keeps the slowest hop of a long step fast, then prefers few hops (route_split.c; greedy).
 * With the F32 wire a chain whose hops are all exact and of one arithmetic class goes before any faster one.
 * Spreading: with a seed each server's costs are raised by up to ROUTE_SPREAD, by a hash of seed and server, less for servers with
 * few sessions. So among equal servers each is taken in proportion to 1 / (1 + sessions) over many seeds, and the chain taken
 * is at most ROUTE_SPREAD slower than the best one.
 *
 * Not done here: who is asked and what failed (the caller's tables), what a session then reserves.
 */
#ifndef COROLLA_SWARM_ROUTE_H
#define COROLLA_SWARM_ROUTE_H

#include "wire/record.h"

#define ROUTE_SPREAD 0.004            /* near ties within this share are as good as ties: 1.00 of the best when written with two decimals */
#define ROUTE_PART_NS_MAX 10000000000 /* of what servers claim: what is slower is as bad, and no sum overflows */
#define ROUTE_LONG_TOKENS 256         /* of a long step: what a server takes from one session in one turn */

/* What a server said of itself, what the client measured of the way to it, and what the client holds against it. */
struct route_server {
    const char *label; /* for messages; borrowed */
    uint64_t id;       /* node_id_digest */
    uint8_t model[ID_SIZE];
    uint32_t begin, end;
    float decode_block_us, prefill_block_us; /* one block for one token, alone and within a long step; 0: not known */
    uint32_t queue_us, penalty_us;
    uint32_t rtt_us;               /* from the client; 0: not known */
    uint32_t n_rtts;               /* what it measured itself to other servers; those past RECORD_RTTS_MAX are ignored */
    const struct record_rtt *rtts; /* borrowed for the call */
    uint64_t tokens_max;           /* of a session that it would open now ... */
    uint64_t tokens_ever;          /* ... and when it has no other */
    uint32_t wires;                /* bit per enum corolla_wire */
    uint32_t sessions;
    bool draining, joining, banned;
    bool exact;
    uint64_t arithmetic_class;
};

enum route_goal { ROUTE_LEAST_TIME, ROUTE_MOST_THROUGHPUT };

struct route_request {
    uint8_t model[ID_SIZE];
    uint32_t n_blocks;
    uint64_t tokens; /* that the session needs: its length times its rows; 0: leave room out of account */
    enum corolla_wire wire;
    enum route_goal goal;
    bool exact;    /* refuse a chain that is not exact */
    uint64_t seed; /* for spreading; 0: the very best chain */
};

struct route_hop {
    uint32_t server; /* index */
    uint32_t begin, end;
};
struct route {
    uint32_t n_hops;
    struct route_hop hops[HOPS_MAX];
    bool exact;
    bool proven;         /* no chain is faster (but for spreading); false: the search stopped at its bound, or is greedy */
    uint64_t time_ns;    /* expected: for one token, or for a long step */
    uint64_t slowest_ns; /* the dearest of its hops, ways left out */
};

/* Fails with NO_CHAIN (naming the blocks), or with the reason why a server that has them cannot be used (MODEL_MISMATCH,
 * DRAINING, BUSY when joining or banned, UNSUPPORTED wire, NO_CACHE; naming the server), or REFUSED when exact is asked for and the
 * best chain is not. Takes memory of 4 bytes per server and block for the call. */
enum corolla_status route_find(const struct route_request *request, const struct route_server *servers, size_t n, struct route *out_route,
                               struct corolla_error *err);

/* The parts of the cost, each within bounds whatever a server claims. */
static inline uint64_t route_half_ns(uint32_t rtt_us) { /* half a round trip */
    uint64_t ns = (uint64_t)rtt_us * 500;
    return ns < ROUTE_PART_NS_MAX ? ns : ROUTE_PART_NS_MAX;
}
uint64_t route_block_ns(const struct route_server *server, enum route_goal goal);
uint64_t route_hop_ns(const struct route_server *server);
uint64_t route_way_ns(const struct route_server *server);                                  /* between client and server */
uint64_t route_between_ns(const struct route_server *from, const struct route_server *to); /* between consecutive hops */

#endif
