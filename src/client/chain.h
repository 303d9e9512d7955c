/* chain.h - which servers compute which blocks. Pure: what is known of the servers in, a chain out.
 *
 * The chain covers all blocks in order, each server at most once, possibly with a part of its span only, and takes the least
 * expected time for one token: per hop a fixed cost and half a round trip, per block what the server measured of itself. Among
 * equals the chain whose slowest hop is fastest wins, since prefill chunks follow each other through the hops.
 * With the F32 wire a chain whose hops are all exact and of one arithmetic class goes before any faster one.
 *
 * Not done here: who is asked (peers.c), what a session then reserves (remote.c). Any thread.
 */
#ifndef COROLLA_CLIENT_CHAIN_H
#define COROLLA_CLIENT_CHAIN_H

#include "wire/msg.h"

#define CHAIN_SERVERS_MAX 64 /* a set of servers is one 64-bit word */
_Static_assert(CHAIN_SERVERS_MAX <= HOPS_MAX, "a chain of all servers must fit into a step");

/* What a server said of itself, and what the client measured of the way to it. */
struct chain_server {
    const char *label; /* for messages */
    uint8_t model[ID_SIZE];
    uint32_t begin, end;
    float decode_tokens_per_s; /* over its whole span; 0: not known */
    uint32_t rtt_us;           /* 0: not known */
    uint64_t tokens_max;       /* of a session that it would open now */
    uint32_t wires;            /* bit per enum corolla_wire */
    bool draining;
    bool exact;
    uint64_t arithmetic_class;
};

struct chain_request {
    uint8_t model[ID_SIZE];
    uint32_t n_blocks;
    uint32_t max_tokens; /* of the session; 0: leave room out of account */
    enum corolla_wire wire;
    bool exact; /* refuse a chain that is not exact */
};

struct chain_hop {
    uint32_t server; /* index */
    uint32_t begin, end;
};
struct chain {
    uint32_t n_hops;
    struct chain_hop hops[HOPS_MAX];
    bool exact;
    uint64_t cost_ns;    /* expected for one token */
    uint64_t slowest_ns; /* of its hops */
};

/* Fails with NO_CHAIN (naming the blocks), or with the reason why a server that has them cannot be used (MODEL_MISMATCH,
 * DRAINING, UNSUPPORTED wire, NO_CACHE; naming the server), or REFUSED when exact is asked for and the best chain is not. */
enum corolla_status chain_choose(const struct chain_request *request, const struct chain_server *servers, size_t n, struct chain *out_chain,
                                 struct corolla_error *err);

/* What a hop costs: its fixed part, and each of its blocks. */
uint64_t chain_hop_ns(const struct chain_server *server);
uint64_t chain_block_ns(const struct chain_server *server);

#endif
