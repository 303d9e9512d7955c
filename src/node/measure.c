/* measure.c - see measure.h. */
#include "node/measure.h"

#include <stdlib.h>

#include "base/clock.h"

#define DECODES_MAX 16
#define PREFILL_ROWS_MAX KV_PAD /* what the throw-away cache holds */
#define PREFILL_ROWS_MIN 32     /* fewer rows in a real turn say little of long steps */
#define WEIGHT 0.1f             /* of a new turn in the running mean */

/* Microseconds of rows at position; 0: it failed. */
static uint64_t time_rows(struct span *span, struct kv *kv, uint32_t position, uint32_t rows, float *x) {
    struct batch_item item = {.kv = kv, .position = position, .n = rows, .in = x, .out = x};
    size_t n = (size_t)rows * span_hparams(span)->n_embd;
    for (size_t i = 0; i < n; i++) x[i] = (float)((i * 37u + 11u) % 101u) / 50.0f - 1.0f; /* any numbers of usual size */
    uint64_t begin_us = clock_us();
    if (span_forward(span, &item, 1, NULL) != COROLLA_OK) return 0;
    uint64_t us = clock_us() - begin_us;
    return us > 0 ? us : 1;
}

static void measure_kv(struct measure *m, struct span *span, struct kv *kv, float *x) {
    uint64_t begin_us = clock_us(), best_us = 0;
    for (uint32_t i = 0; i < DECODES_MAX; i++) {
        uint64_t us = time_rows(span, kv, i, 1, x);
        if (us == 0) return;
        if (best_us == 0 || us < best_us) best_us = us; /* the first ones warm up */
        if (i > 0 && clock_us() - begin_us + us > MEASURE_BUDGET_US / 2) break;
    }
    m->decode_tokens_per_s = 1e6f / (float)best_us;
    m->prefill_tokens_per_s = m->decode_tokens_per_s; /* at least */
    uint64_t spent_us = clock_us() - begin_us;
    uint64_t rows = spent_us < MEASURE_BUDGET_US ? (MEASURE_BUDGET_US - spent_us) / best_us : 0; /* a row of a long step costs no more */
    if (rows < 2) return;
    if (rows > PREFILL_ROWS_MAX) rows = PREFILL_ROWS_MAX;
    uint64_t us = time_rows(span, kv, 0, (uint32_t)rows, x);
    if (us > 0) m->prefill_tokens_per_s = (float)rows * 1e6f / (float)us;
}

void measure_span(struct measure *m, struct span *span) {
    struct kv *kv = NULL;
    float *x = malloc((size_t)PREFILL_ROWS_MAX * span_hparams(span)->n_embd * sizeof *x);
    if (x && kv_open(&kv, span, span_begin(span), span_end(span), PREFILL_ROWS_MAX, NULL) == COROLLA_OK) {
        measure_kv(m, span, kv, x);
        kv_close(kv);
    }
    free(x);
}

static void blend(float *mean, float value) { *mean = *mean > 0 ? *mean + WEIGHT * (value - *mean) : value; }

void measure_note(struct measure *m, const struct measure_turn *turn) {
    if (turn->us == 0 || turn->n_blocks == 0) return;
    float span_s = (float)turn->us * 1e-6f * (float)turn->span_blocks / (float)turn->n_blocks;
    if (turn->rows == turn->items) { /* what each of the sessions has seen */
        blend(&m->decode_tokens_per_s, 1.0f / span_s);
        m->queue_us += WEIGHT * ((float)turn->queue_us - m->queue_us);
    } else if (turn->items == 1 && turn->rows >= PREFILL_ROWS_MIN) {
        blend(&m->prefill_tokens_per_s, (float)turn->rows / span_s);
    }
}

void measure_rest(struct measure *m) { m->queue_us *= 0.5f; }
