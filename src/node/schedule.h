/* schedule.h - which of the waiting steps compute next. Pure; no memory of its own but the last choice.
 *
 * A turn is one span_forward(): either all waiting decode steps that use the same blocks, as many as a batch holds, or one
 * prefill step. When both kinds wait they alternate: a decode waits for one prefill step at most, and a prefill for one
 * decode turn. The oldest waiting step of the chosen kind is always part of the turn, so that nobody waits for ever.
 */
#ifndef COROLLA_NODE_SCHEDULE_H
#define COROLLA_NODE_SCHEDULE_H

#include "model/span.h"

struct schedule_candidate { /* the oldest waiting step of a session */
    uint32_t n_tokens, begin, end;
};
struct schedule {
    bool decode_was_last;
};

/* Candidates in the order in which they became ready. Returns how many compute in this turn (0 only when there are no
 * candidates) and writes their indices, ascending. */
uint32_t schedule_next(struct schedule *schedule, const struct schedule_candidate *candidates, uint32_t n, uint32_t out[BATCH_ITEMS_MAX]);

#endif
