/* place.h - which blocks a server should host: the weakest window of the swarm, and when moving there is worth it. Pure; any thread.
 *
 * Strength     A block's throughput is the sum of what its holders compute per second, those that still load their blocks counted,
 *              those that leave not. A block without a holder is weaker than one with a single holder, and that is weaker than any
 *              other, whatever their throughputs: two holders of each before three of any.
 * Window       The best place for a span of `length` blocks is the window whose blocks, weakest first, are weaker than those of
 *              any other window; the first one of equals. It always has the weakest block of the swarm in it.
 * Agreement    Servers are sorted by digest before anything is summed, so that all nodes compute the same floating point sums,
 *              and so the same answer, from the same records.
 * Moving       is worth it when it leaves no block without a holder, and
 *              - fewer blocks have no holder, or else fewer holders are missing to two of each block, or else
 *              - the weakest block of the swarm gains PLACE_GAIN_MIN, which one server can do in a small swarm, or
 *              - it goes to the weakest block, and every block that it leaves keeps PLACE_KEEP_MIN times what that one then has. In a big
 *                swarm no single server gives the weakest block a quarter more, but many can, and each sees by itself that it is of
 *                more use there. Going back would need the strengths to change by that much and twice what the server computes, and each
 *                such move takes from the strong for the weakest: moves come to an end.
 * Patience     A server looks now and then. After a look that finds a move worth it waits for a random time, looks again, and moves
 *              if it still is and nobody else is on the way to the same gap, or less than a quarter of its holders (struct place_watch).
 * Duty         Who moves states the new span, as joining, at once: that is how others learn that the gap is taken.
 *
 * After Petals' block_selection.py, which differs in this: blocks with less than two holders do not come first; sums are corrected by
 * a factor of 1.001 where we sum anew; and a server foresees what all others would do and moves when the swarm could gain a third in the
 * end, which stops at three quarters of what can be had, and costs a simulation of the swarm. Not done here: draining, loading, whether
 * announced speeds are true.
 */
#ifndef COROLLA_SWARM_PLACE_H
#define COROLLA_SWARM_PLACE_H

#include <corolla.h>

#define PLACE_GAIN_MIN 1.25 /* moving costs sessions their server, and minutes */
#define PLACE_KEEP_MIN 1.05 /* 1.25 would end at 0.85 of what can be had after churn (tests/sim/sim_place.c) */
#define PLACE_LOOK_MS 60000 /* mean time between looks: half of it to one and a half times */
#define PLACE_WAIT_MS 30000 /* the longest random wait between the two looks */

struct place_server {
    uint64_t node; /* digest */
    uint32_t begin, end;
    float tokens_per_s; /* through its span, which is what it adds to each block; the same wherever a span of this length lies */
    bool leaving;       /* draining or offline: does not count */
    bool joining;       /* on the way: counts already */
};

/* The best window of `length` blocks for a server that is not in the list. *out_begin is the same on all nodes for the same list.
 * INVALID when length is 0 or over n_blocks, NOMEM. Servers whose spans are impossible do not count. */
enum corolla_status place_choose(const struct place_server *servers, size_t n, uint32_t n_blocks, uint32_t length, uint32_t *out_begin,
                                 struct corolla_error *err);

/* What moving the server `self` would gain. NOT_FOUND: it is not in the list. */
struct place_gain {
    uint32_t begin;       /* where it would go */
    double before, after; /* throughput of the swarm's weakest block */
    bool worth;
    bool taken; /* enough others are on the way to the weakest block there */
};
enum corolla_status place_gain(const struct place_server *servers, size_t n, uint32_t n_blocks, uint64_t self, struct place_gain *out_gain,
                               struct corolla_error *err);

/* The patience around a move. Begin anew after a move, with the time when it ended. */
struct place_watch {
    uint64_t due_ms; /* when to look next */
    bool second;     /* the next look is the second one */
};
void place_watch_init(struct place_watch *watch, uint64_t now_ms, uint64_t random);
/* Call at watch->due_ms, with a random number. True: move to *out_begin now. */
bool place_watch_look(struct place_watch *watch, const struct place_server *servers, size_t n, uint32_t n_blocks, uint64_t self,
                      uint64_t now_ms, uint64_t random, uint32_t *out_begin);

#endif
