/* measure.h - how fast this server computes its whole span: measured at start, then kept true by the real work.
 *
 * decode: what one session sees, a token per turn. prefill: rows of one long step. Both in tokens per second. The start needs two decode
 * turns at least; more, and the prefill, as far as MEASURE_BUDGET_US reaches, so that a small model starts at once. measure_cache.h keeps
 * what was found for the next start.
 *
 * Threads: measure_span() before the compute thread runs; the rest belongs to the loop thread.
 */
#ifndef COROLLA_NODE_MEASURE_H
#define COROLLA_NODE_MEASURE_H

#include "model/span.h"

#define MEASURE_BUDGET_US 120000

struct measure {
    float decode_tokens_per_s, prefill_tokens_per_s; /* 0: not known */
    float queue_us;                                  /* that decode steps waited of late */
};

/* Needs room for one pad of KV in the span's budget; without it, or when memory is out, the speeds stay 0. */
void measure_span(struct measure *measure, struct span *span);

/* A turn of items sessions and rows rows through n_blocks of the span's span_blocks took us. */
struct measure_turn {
    uint32_t items, rows, n_blocks, span_blocks, us, queue_us;
};
void measure_note(struct measure *measure, const struct measure_turn *turn);
/* Nothing was asked for a second. */
void measure_rest(struct measure *measure);

#endif
