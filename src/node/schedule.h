/* schedule.h - which of the waiting steps compute next. Pure: the time comes in, and so does what turns took. docs/SCHEDULING.md
 *
 * A turn is one span_forward(): waiting decode steps that use the same blocks, or rows of one prefill step. When both kinds wait they
 * alternate, so a prefill waits for one decode turn at most.
 *
 * While somebody decodes, a prefill turn has no more rows than compute within SCHEDULE_PREFILL_TURNS decode turns: a decode step that comes
 * meanwhile waits no longer than that.
 *
 * All waiting decode steps make one turn, unless that would make a client more than C times slower than it is alone, where C clients are
 * about. Then steps are taken client by client, and the turn is half of what that client is due: when its next step comes, another turn of
 * the same length is under way. Who has had the fewest rows goes first, so nobody waits for ever.
 */
#ifndef COROLLA_NODE_SCHEDULE_H
#define COROLLA_NODE_SCHEDULE_H

#include "model/span.h"

#define SCHEDULE_CLIENTS_MAX 1024
#define SCHEDULE_PERIODS 4          /* of its steps, for which a client that has decoded is still about, ... */
#define SCHEDULE_AWAY_US 1000000    /* ... but for no longer than this */
#define SCHEDULE_PREFILL_TURNS 1.2f /* decode turns, that a prefill turn takes beside them */
#define SCHEDULE_PREFILL_ROWS 32    /* the same, as long as it is not known what turns take */
#define SCHEDULE_HOLD (1.0f / 16)   /* of a decode turn, that the next one may be held */
#define SCHEDULE_SLACK 1.1f         /* of the times that a client may be slower */

struct schedule_candidate { /* the oldest waiting step of a session */
    bool decode;
    uint32_t rows; /* that are not computed yet; a decode step has few (step.h) */
    uint32_t begin, end;
    uint32_t client; /* below SCHEDULE_CLIENTS_MAX */
};
struct schedule_client {
    uint64_t rows_of[2]; /* that it was given, decode and prefill; not less than others, when it comes anew */
    uint64_t seen_us;    /* when a decode step of it waited last; 0: never */
    float period_us;     /* between such times */
    uint32_t rows;       /* that waited then */
};
struct schedule { /* all zeros at first */
    bool decode_was_last;
    uint32_t last_rows;                 /* of the last decode turn ... */
    uint64_t last_end_us;               /* ... and when it was over */
    uint32_t hold_pause, holds_to_skip; /* turns that are not held after one was in vain; how many are left */
    uint64_t now_of[2];                 /* of who was given some last, before that */
    float decode_us;                    /* what a decode turn takes of late; 0: not known */
    float turn_us[BATCH_ROWS_MAX + 1];  /* a turn of so many rows; 0: not known */
    struct schedule_client clients[SCHEDULE_CLIENTS_MAX];
};
struct schedule_pick {
    uint32_t index, rows;
};

/* Candidates in the order in which they became ready. Returns how many compute in this turn (0 only when there are no
 * candidates); indices ascend. now_us is not 0. */
uint32_t schedule_next(struct schedule *schedule, const struct schedule_candidate *candidates, uint32_t n, uint64_t now_us,
                       struct schedule_pick out_picks[BATCH_ITEMS_MAX]);
/* How long the next turn is still to be held, 0: not. Sessions that shared a decode turn come back at about the same time, one by one: who
 * came first would have a turn alone, and the others the next one. So a turn waits until as many rows are there as the last one had, for a
 * sixteenth of its time from its end on; after a wait in vain not for some turns. Prefill does not wait. */
uint32_t schedule_hold_us(struct schedule *schedule, const struct schedule_candidate *candidates, uint32_t n, uint64_t now_us);
/* The client has no session any more: it is not about. */
void schedule_forget(struct schedule *schedule, uint32_t client);
/* What a turn took, and when it was over. */
void schedule_note(struct schedule *schedule, bool decode, uint32_t rows, uint32_t us, uint64_t now_us);

#endif
