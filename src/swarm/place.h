/* place.h - which blocks a server should host: the weakest window of the swarm, and when moving there is worth it. Pure; any thread.
 *
 * The throughput of a block is the sum over its holders of what each computes per second (those still loading count too). A window is as
 * weak as its weakest block. Servers are sorted by digest before anything is summed, so that all nodes compute the same
 * floating point sums from the same records.
 */
#ifndef COROLLA_SWARM_PLACE_H
#define COROLLA_SWARM_PLACE_H

#include <corolla.h>

struct place_server {
    uint64_t node; /* digest */
    uint32_t begin, end;
    float tokens_per_s; /* of one block */
    bool leaving;       /* draining or offline: does not count */
};

/* The best window of `length` blocks for a server of this speed that is not in the list: fills the weakest blocks, those with less than two
 * holders first. *out_begin is the same on all nodes for the same list. INVALID when length is 0 or over n_blocks. */
enum corolla_status place_choose(const struct place_server *servers, size_t n, uint32_t n_blocks, uint32_t length, uint32_t *out_begin,
                                 struct corolla_error *err);

/* What moving the server `self` would gain. */
struct place_gain {
    uint32_t begin;      /* where it would go */
    float before, after; /* throughput of the swarm's weakest block */
    bool worth;          /* by PLACE_GAIN_MIN at least, and no block is left without a holder */
};
#define PLACE_GAIN_MIN 1.25f
enum corolla_status place_gain(const struct place_server *servers, size_t n, uint32_t n_blocks, uint64_t self, struct place_gain *out_gain,
                               struct corolla_error *err);

/* The patience around a move: looks now and then, waits a random time after a look that found a gain, looks again, and only then moves;
 * never while another server is joining the window that it would go to. */
enum place_step { PLACE_STAY, PLACE_MOVE };
struct place_watch {
    uint64_t due_ms; /* when to look next */
    uint32_t wanted; /* where the first look wanted to go */
    bool second;     /* the next look is the second one */
};
void place_watch_init(struct place_watch *watch, uint64_t now_ms, uint64_t random);
/* Call at watch->due_ms. PLACE_MOVE: to *out_begin. */
enum place_step place_watch_look(struct place_watch *watch, const struct place_server *servers, size_t n, uint32_t n_blocks, uint64_t self,
                                 uint64_t now_ms, uint64_t random, uint32_t *out_begin);

#endif
