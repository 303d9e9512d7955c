/* schedule.c - see schedule.h. */
#include "node/schedule.h"

#include "node/step.h"

static bool is_decode(const struct schedule_candidate *c) { return c->n_tokens <= STEP_DECODE_ROWS_MAX; }

/* Index of the first candidate of a kind; n: there is none. */
static uint32_t first_of(const struct schedule_candidate *candidates, uint32_t n, bool decode) {
    uint32_t i = 0;
    while (i < n && is_decode(&candidates[i]) != decode) i++;
    return i;
}

uint32_t schedule_next(struct schedule *schedule, const struct schedule_candidate *candidates, uint32_t n, uint32_t out[BATCH_ITEMS_MAX]) {
    if (n == 0) return 0;
    uint32_t decode = first_of(candidates, n, true), prefill = first_of(candidates, n, false);
    if (prefill < n && (decode == n || schedule->decode_was_last)) {
        schedule->decode_was_last = false;
        out[0] = prefill;
        return 1;
    }
    schedule->decode_was_last = true;
    uint32_t items = 0, rows = 0;
    for (uint32_t i = decode; i < n && items < BATCH_ITEMS_MAX; i++) {
        const struct schedule_candidate *c = &candidates[i];
        bool fits = c->begin == candidates[decode].begin && c->end == candidates[decode].end && c->n_tokens <= BATCH_ROWS_MAX - rows;
        if (!is_decode(c) || !fits) continue;
        rows += c->n_tokens;
        out[items++] = i;
    }
    return items;
}
