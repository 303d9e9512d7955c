/* route_search.h - the two searches behind route_find(): what they read, their scratch, and the best chain so far.
 *
 * Servers are numbered anew here: by group, and by the first block of their span within a group, so that those that are looked at
 * together lie together. A search is run for group after group and replaces the best chain when its group has a better one. Costs are
 * floating point nanoseconds, spread by the seed.
 */
#ifndef COROLLA_SWARM_ROUTE_SEARCH_H
#define COROLLA_SWARM_ROUTE_SEARCH_H

#include "swarm/route.h"

#define SERVER_NONE UINT32_MAX

struct candidate {
    double block, hop, way; /* route.h */
    double entry_min;       /* the hop and the least way to it */
    double gain_max;        /* the most that one of its measured ways spares against the receiver's part of an estimate */
    uint32_t begin, end;    /* may be narrowed by a search */
};
struct measured { /* small, since all of them are looked at; waiting for memory is most of what a search does */
    uint32_t to, rtt_us;
};

static inline double search_way(struct measured measured) { return (double)route_half_ns(measured.rtt_us); }

struct search {
    uint32_t n, n_blocks;
    uint32_t group_begin, group_end;          /* the servers that may be used now */
    struct candidate *candidates;             /* [n] */
    struct measured (*ways)[RECORD_RTTS_MAX]; /* [n]; behind the last one `to` is SERVER_NONE */

    struct route_hop *path; /* [n_blocks]: the chain that is looked at */
    uint32_t n_path;
    double best, best_slowest;
    uint32_t n_best; /* 0: none found yet */
    struct route_hop best_hops[HOPS_MAX];
    bool proven, too_long; /* nothing was left out; a chain had more hops than a step can name */

    /* Of the least time: by server, or by block */
    double *at, *next; /* [n]: the cheapest prefix up to the boundary looked at (the one behind it) whose last hop is this server */
    uint32_t *from;    /* [n_blocks][n]: whom the server took over from at this block, FROM_ITSELF or FROM_CLIENT */
    uint32_t *only;    /* [n_blocks]: the one server that may serve it, or SERVER_NONE */
    uint32_t allowed_begin, allowed_end; /* who may serve the block looked at: that one, or the group */
    uint32_t *first;                     /* [n_blocks], with after[n]: the servers of the group whose span begins there, as lists */
    uint32_t *after, *active;            /* [n] */
    uint32_t n_active;
    double *rest;     /* [n_blocks + 1]: what the blocks from this one on cost at least */
    double limit;     /* a prefix up to the boundary behind the block looked at that costs as much leads to no better chain */
    bool sketching;   /* with few servers, and ways as estimated */
    double hop_extra; /* makes hops dear when they are too many */
    uint64_t work_left;
};

/* numbers: of n_servers servers, from 0 to n - 1, or SERVER_NONE for one that takes no part. */
enum corolla_status search_init(struct search *s, const struct route_request *request, const struct route_server *servers,
                                uint32_t n_servers, const uint32_t *numbers, uint32_t n, struct corolla_error *err);
void search_release(struct search *s);

/* Both look at the servers [group_begin, group_end). */
void search_least_time(struct search *s);
void search_most_throughput(struct search *s);

/* The way that `from` measured to `to`, or NULL. */
const struct measured *search_measured(const struct search *s, uint32_t from, uint32_t to);
/* The estimate or the measured way between consecutive hops. */
double search_between(const struct search *s, uint32_t from, uint32_t to);
/* Takes the path when it is better: all its hops fit into a step and no server is in it twice. */
void search_offer(struct search *s, const struct route_hop *hops, uint32_t n_hops, double cost, double slowest);

#endif
