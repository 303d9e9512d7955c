/* schedule.c - see schedule.h. */
#include "node/schedule.h"

/* Index of the first candidate of a kind; n: there is none. */
static uint32_t first_of(const struct schedule_candidate *candidates, uint32_t n, bool decode) {
    uint32_t i = 0;
    while (i < n && candidates[i].decode != decode) i++;
    return i;
}

static uint32_t prefill_rows(struct schedule *schedule, uint32_t rows, bool decode_waits) {
    uint32_t rows_max = decode_waits || schedule->mixed_turns > 0 ? SCHEDULE_MIXED_ROWS : BATCH_ROWS_MAX;
    if (schedule->mixed_turns > 0) schedule->mixed_turns--;
    return rows < rows_max ? rows : rows_max;
}

uint32_t schedule_next(struct schedule *schedule, const struct schedule_candidate *candidates, uint32_t n,
                       struct schedule_pick out[BATCH_ITEMS_MAX]) {
    if (n == 0) return 0;
    uint32_t decode = first_of(candidates, n, true), prefill = first_of(candidates, n, false);
    if (prefill < n && (decode == n || schedule->decode_was_last)) {
        schedule->decode_was_last = false;
        out[0] = (struct schedule_pick){.index = prefill, .rows = prefill_rows(schedule, candidates[prefill].rows, decode < n)};
        return 1;
    }
    schedule->decode_was_last = true;
    schedule->mixed_turns = SCHEDULE_MIXED_TURNS;
    uint32_t items = 0, rows = 0;
    for (uint32_t i = decode; i < n && items < BATCH_ITEMS_MAX; i++) {
        const struct schedule_candidate *c = &candidates[i];
        bool fits = c->begin == candidates[decode].begin && c->end == candidates[decode].end && c->rows <= BATCH_ROWS_MAX - rows;
        if (!c->decode || !fits) continue;
        rows += c->rows;
        out[items++] = (struct schedule_pick){.index = i, .rows = c->rows};
    }
    return items;
}
