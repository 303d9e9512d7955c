/* choose.h - which chain a client takes now: asks the servers that may be part of it, and finds the best route over what is known.
 *
 * Records come first: a route over them names the servers that are worth asking. These, and others that hold the same blocks, are linked
 * to and asked (INFO), which measures the way to them; then the route is found again, until all of its servers have answered.
 *
 * Threads: any; blocks until the deadline at most.
 */
#ifndef COROLLA_CLIENT_CHOOSE_H
#define COROLLA_CLIENT_CHOOSE_H

#include "client/peers.h"

struct choice { /* a route, and what is meant by its indices */
    struct route route;
    size_t n;
    struct route_server *servers;
    struct peer **peers;
    struct record_rtt (*rtts)[RECORD_RTTS_MAX];
};

struct choose_config {
    const uint8_t *model; /* id */
    bool whole;           /* all blocks of the model; else a part, from whose first block those of the route count */
    uint32_t first_block, n_blocks;
    uint64_t tokens; /* of the session; 0: leave room out of account */
    enum corolla_wire wire;
    bool exact;
    bool same_class; /* only exact servers of this arithmetic class ... */
    uint64_t arithmetic_class;
    struct peer *const *avoid; /* [n_avoid]: who does not come into question */
    uint32_t n_avoid;
    bool forgive;    /* servers that failed of late are taken when there is no chain without them */
    uint32_t age_ms; /* how old a server's own word may be */
    uint64_t deadline_us;
};
/* Errors as route_find()'s, and those of servers that could not be reached. out_choice: to be cleared. */
enum corolla_status choose_route(struct peers *peers, const struct choose_config *config, struct choice *out_choice,
                                 struct corolla_error *err);
void choice_clear(struct choice *choice);

#endif
