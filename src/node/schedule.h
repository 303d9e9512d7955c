/* schedule.h - which of the waiting steps compute next. Pure; no memory of its own but the last choices.
 *
 * A turn is one span_forward(): either all waiting decode steps that use the same blocks, as many as a batch holds, or rows of one
 * prefill step. When both kinds wait they alternate, so a prefill waits for one decode turn at most. A decode step that comes
 * while prefill rows compute waits for them; so they are few for some turns after a decode turn, whose sessions are likely to
 * come again. The oldest waiting step of the chosen kind is always part of the turn: nobody waits for ever.
 */
#ifndef COROLLA_NODE_SCHEDULE_H
#define COROLLA_NODE_SCHEDULE_H

#include "model/span.h"

#define SCHEDULE_MIXED_ROWS 32 /* of a prefill turn beside decode: the matrices are nearly as efficient as with all, the wait is short */
#define SCHEDULE_MIXED_TURNS 8 /* prefill turns of that kind after a decode turn */

struct schedule_candidate { /* the oldest waiting step of a session */
    bool decode;
    uint32_t rows; /* that are not computed yet; a decode step has few (step.h) */
    uint32_t begin, end;
};
struct schedule { /* all zeros at first */
    bool decode_was_last;
    uint32_t mixed_turns; /* prefill turns that are still to be short */
};
struct schedule_pick {
    uint32_t index, rows;
};

/* Candidates in the order in which they became ready. Returns how many compute in this turn (0 only when there are no
 * candidates); indices ascend. */
uint32_t schedule_next(struct schedule *schedule, const struct schedule_candidate *candidates, uint32_t n,
                       struct schedule_pick out_picks[BATCH_ITEMS_MAX]);

#endif
