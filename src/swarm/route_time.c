/* route_time.c - the chain of the least time: dynamic programming over (boundary, last server), and branching. See route.h.
 *
 * The walk   goes over the blocks. For each server that has the block: staying costs the block, entering costs the cheapest way in.
 *            Ways that are not measured are a sum of a sender's part and a receiver's part, so one sender is the cheapest for all
 *            receivers; only those that it measured itself (at most RECORD_RTTS_MAX) look for another one. Measured ways are then tried one
 *            by one, skipping those that are too dear to help anybody.
 * The sketch is a first walk over the best server of each first block, by estimates alone. Its chain is near the best one at a hundredth
 *            of the work, so that from then on most prefixes are dropped: those that cost as much as a chain at hand, even if the other
 *            blocks had the fastest servers and no ways. So are the servers that even a chain without other ways cannot afford to enter.
 * Branching  The walk may come back to a server, which a chain may not. Then it is only a bound from below. For a server that comes back
 *            and a block in the middle of what others do meanwhile, a chain either has this block done by the server, or uses the
 *            server only in front of it, or only behind it: three smaller problems, dropped once their bound is no better than the
 *            best chain. A chain is always at hand: the server just stays on from its first to its last block.
 *            It is branch and bound over a state space relaxation (Christofides, Mingozzi, Toth 1981). It ends with the optimum, or
 *            when WORK_MAX is used up, and says which.
 */
#include <math.h>
#include <string.h>

#include "swarm/route_search.h"

#define FROM_ITSELF (SERVER_NONE - 1)
#define FROM_CLIENT (SERVER_NONE - 2)
#define DEPTH_MAX 64         /* of branches: bounds the stack */
#define FEWEST_HOPS_NS 1e15  /* more than any chain costs without it */
#define ROUNDING (1 - 1e-12) /* two sums of the same costs may differ by this much */

static bool serves(const struct search *s, uint32_t server, uint32_t block) {
    const struct candidate *c = &s->candidates[server];
    return server >= s->allowed_begin && server < s->allowed_end && c->begin <= block && block < c->end;
}

static double entry_cost(const struct search *s, uint32_t server) {
    return s->candidates[server].hop + s->candidates[server].block + s->hop_extra;
}

/* ---- the walk -------------------------------------------------------------------------------------------------- */

/* What a block costs with this server when it does its whole span, reached and left by estimated ways. */
static double block_share(const struct candidate *c) { return c->block + (c->hop + 2 * c->way) / (c->end - c->begin); }

/* Those that can be of use, in a list for each first block; for a sketch only the best of each list. Who is left out may still be
 * entered by a measured way, but hands over to nobody. */
static void list_servers(struct search *s) {
    memset(s->first, 0xff, s->n_blocks * sizeof *s->first);  /* SERVER_NONE */
    for (uint32_t i = s->group_end; i-- > s->group_begin;) { /* from behind: each list is in order */
        const struct candidate *c = &s->candidates[i];
        if (c->begin >= c->end || s->rest[0] + c->entry_min >= s->best) continue; /* narrowed to nothing, or too dear */
        uint32_t *first = &s->first[c->begin];
        if (s->sketching && *first != SERVER_NONE && block_share(c) >= block_share(&s->candidates[*first])) continue;
        s->after[i] = s->sketching ? SERVER_NONE : *first;
        *first = i;
    }
}

/* Who hands over for least at this boundary, to a server that it did not measure. */
static uint32_t cheapest_sender(const struct search *s) {
    uint32_t sender = SERVER_NONE;
    double least = INFINITY;
    for (uint32_t a = 0; a < s->n_active; a++) {
        uint32_t i = s->active[a];
        double cost = s->at[i] + s->candidates[i].way;
        if (cost >= least) continue;
        least = cost;
        sender = i;
    }
    return sender;
}

/* Everybody stays, or enters at this cost and its part of the estimate, from the one sender or the client. */
static void stay_or_enter(struct search *s, uint32_t block, uint32_t sender, double base) {
    uint32_t *from = s->from + (size_t)block * s->n;
    for (uint32_t a = 0; a < s->n_active; a++) {
        uint32_t j = s->active[a];
        s->next[j] = INFINITY;
        if (!serves(s, j, block)) continue;
        double stay = s->at[j] + s->candidates[j].block, enter = base + s->candidates[j].way + entry_cost(s, j);
        double least = stay <= enter ? stay : enter;
        if (least >= s->limit) continue;
        s->next[j] = least;
        from[j] = stay <= enter ? FROM_ITSELF : sender;
    }
}

/* The sender measured its way to `to`, so that the estimate does not hold: it stays, or enters from another one. Returns how much dearer
 * than by the estimate it may be at most. */
static double enter_from_others(struct search *s, uint32_t block, uint32_t to, double base) {
    double least = s->at[to] + s->candidates[to].block, own = s->candidates[to].way + entry_cost(s, to);
    uint32_t from = FROM_ITSELF;
    for (uint32_t a = 0; a < s->n_active; a++) {
        uint32_t i = s->active[a];
        double enter = s->at[i] + s->candidates[i].way + own;
        if (enter >= least || search_measured(s, i, to) != NULL) continue;
        least = enter;
        from = i;
    }
    bool within = least < s->limit;
    s->next[to] = within ? least : INFINITY;
    s->from[(size_t)block * s->n + to] = from;
    return (within ? least : s->limit) - (base + own);
}

/* Against the estimate a measured way is better by its gain, a sender dearer by (its prefix - base): who is not better than
 * the slack, which is how much dearer than the estimate somebody had to enter, helps nobody. */
static void enter_by_measured_ways(struct search *s, uint32_t block, double base, double slack) {
    for (uint32_t a = 0; a < s->n_active; a++) {
        uint32_t i = s->active[a];
        if (s->candidates[i].gain_max <= s->at[i] - base - slack) continue;
        for (uint32_t k = 0; k < RECORD_RTTS_MAX && s->ways[i][k].to != SERVER_NONE; k++) {
            uint32_t j = s->ways[i][k].to;
            if (!serves(s, j, block)) continue;
            double cost = s->at[i] + search_way(s->ways[i][k]) + entry_cost(s, j);
            if (cost >= s->next[j] || cost >= s->limit) continue;
            s->next[j] = cost;
            s->from[(size_t)block * s->n + j] = i;
        }
    }
}

static void hand_over(struct search *s, uint32_t block, uint32_t sender) {
    double base = s->at[sender] + s->candidates[sender].way, slack = 0;
    stay_or_enter(s, block, sender, base);
    if (s->sketching) return;
    for (uint32_t k = 0; k < RECORD_RTTS_MAX && s->ways[sender][k].to != SERVER_NONE; k++) {
        if (!serves(s, s->ways[sender][k].to, block)) continue;
        double dearer = enter_from_others(s, block, s->ways[sender][k].to, base);
        if (dearer > slack) slack = dearer;
    }
    enter_by_measured_ways(s, block, base, slack);
}

/* From the boundary in front of the block to the one behind it; false: nobody gets there. */
static bool walk_block(struct search *s, uint32_t block) {
    uint32_t kept = 0;
    for (uint32_t a = 0; a < s->n_active; a++)
        if (s->candidates[s->active[a]].end >= block) s->active[kept++] = s->active[a]; /* those that end here may still hand over */
    for (uint32_t i = s->first[block]; i != SERVER_NONE; i = s->after[i]) {
        s->at[i] = INFINITY;
        s->active[kept++] = i;
    }
    s->n_active = kept;
    bool any = s->only[block] == SERVER_NONE;
    s->allowed_begin = any ? s->group_begin : s->only[block];
    s->allowed_end = any ? s->group_end : s->only[block] + 1;
    s->work_left -= kept < s->work_left ? kept : s->work_left;
    uint32_t sender = block == 0 ? FROM_CLIENT : cheapest_sender(s);
    if (sender == SERVER_NONE) return false;
    s->limit = s->best - s->rest[block + 1];
    if (sender == FROM_CLIENT)
        stay_or_enter(s, block, FROM_CLIENT, 0);
    else
        hand_over(s, block, sender);
    double *at = s->at;
    s->at = s->next;
    s->next = at;
    return true;
}

static void trace_back(struct search *s, uint32_t last) {
    uint32_t server = last, end = s->n_blocks, at = s->n_blocks;
    for (uint32_t block = s->n_blocks; block-- > 0;) {
        uint32_t from = s->from[(size_t)block * s->n + server];
        if (from == FROM_ITSELF) continue;
        s->path[--at] = (struct route_hop){.server = server, .begin = block, .end = end};
        server = from;
        end = block;
    }
    s->n_path = s->n_blocks - at;
    memmove(s->path, s->path + at, s->n_path * sizeof *s->path);
}

/* The cheapest walk through all blocks into s->path, and its cost; INFINITY: there is none. */
static double walk(struct search *s) {
    list_servers(s);
    s->n_active = 0;
    for (uint32_t block = 0; block < s->n_blocks; block++)
        if (!walk_block(s, block)) return INFINITY;
    double least = INFINITY;
    uint32_t last = SERVER_NONE;
    for (uint32_t a = 0; a < s->n_active; a++) {
        uint32_t i = s->active[a];
        double cost = s->at[i] + s->candidates[i].way;
        if (cost >= least) continue;
        least = cost;
        last = i;
    }
    if (last != SERVER_NONE) trace_back(s, last);
    return least;
}

/* ---- branching ------------------------------------------------------------------------------------------------- */

static double chain_cost(const struct search *s, const struct route_hop *hops, uint32_t n_hops) {
    double cost = s->candidates[hops[0].server].way + s->candidates[hops[n_hops - 1].server].way;
    for (uint32_t i = 0; i < n_hops; i++) {
        const struct candidate *c = &s->candidates[hops[i].server];
        cost += c->hop + s->hop_extra + c->block * (hops[i].end - hops[i].begin);
        if (i > 0) cost += search_between(s, hops[i - 1].server, hops[i].server);
    }
    return cost;
}

/* Makes a chain of the walk: whoever comes back just stays. */
static void offer_walk(struct search *s) {
    struct route_hop hops[HOPS_MAX] = {0};
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_path; n++) {
        uint32_t last = i;
        for (uint32_t k = i + 1; k < s->n_path; k++)
            if (s->path[k].server == s->path[i].server) last = k;
        if (n < HOPS_MAX) hops[n] = (struct route_hop){.server = s->path[i].server, .begin = s->path[i].begin, .end = s->path[last].end};
        i = last + 1;
    }
    double cost = n <= HOPS_MAX ? chain_cost(s, hops, n) : 0;
    if (cost < s->best) search_offer(s, hops, n, cost, 0);
}

/* A server that the walk comes back to, and a block in the middle of what others do meanwhile; false: there is none. */
static bool find_return(const struct search *s, uint32_t *out_server, uint32_t *out_block) {
    for (uint32_t i = 0; i + 1 < s->n_path; i++)
        for (uint32_t k = i + 1; k < s->n_path; k++) {
            if (s->path[k].server != s->path[i].server) continue;
            *out_server = s->path[i].server;
            *out_block = s->path[i].end + (s->path[k].begin - s->path[i].end) / 2;
            return true;
        }
    return false;
}

static void branch(struct search *s, uint32_t depth) {
    uint32_t server, block;
    if (s->work_left == 0 || depth > DEPTH_MAX) {
        s->proven = false;
        return;
    }
    double bound = walk(s);
    if (bound >= s->best * ROUNDING) return;
    offer_walk(s);
    if (bound >= s->best * ROUNDING || !find_return(s, &server, &block)) return;
    uint32_t only = s->only[block], begin = s->candidates[server].begin, end = s->candidates[server].end;
    s->only[block] = server;
    branch(s, depth + 1);
    s->only[block] = only;
    s->candidates[server].end = block;
    branch(s, depth + 1);
    s->candidates[server].end = end;
    s->candidates[server].begin = block + 1;
    branch(s, depth + 1);
    s->candidates[server].begin = begin;
}

/* The rest of a chain behind each boundary, with the fastest server for each block and neither hops nor ways. */
static void set_rest(struct search *s) {
    for (uint32_t block = 0; block < s->n_blocks; block++) s->rest[block] = INFINITY;
    for (uint32_t i = s->group_begin; i < s->group_end; i++) {
        const struct candidate *c = &s->candidates[i];
        for (uint32_t block = c->begin; block < c->end; block++)
            if (c->block < s->rest[block]) s->rest[block] = c->block;
    }
    for (uint32_t block = s->n_blocks - 1; block-- > 0;) s->rest[block] += s->rest[block + 1];
}

static void sketch(struct search *s) {
    s->sketching = true;
    if (walk(s) < INFINITY) offer_walk(s);
    s->sketching = false;
}

void search_least_time(struct search *s) {
    s->too_long = false;
    set_rest(s);
    if (!(s->rest[0] < INFINITY)) return; /* nobody has some block */
    sketch(s);
    branch(s, 0);
    if (s->n_best > 0 || !s->too_long) return;
    s->hop_extra = FEWEST_HOPS_NS;
    branch(s, 0);
    s->hop_extra = 0;
    s->proven = false;
}
