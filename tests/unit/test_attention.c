/* test_attention.c - the own attention: right, and the same bits however the rows of a session are divided into batches, beside whatever
 * other items, on however many threads. What is behind a session's end in its cache is not a number, and must not be seen.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"
#include "kernel/attention.h"
#include "model/proof.h"
#include "support/processor.h"

#define BLOCKS 2 /* of which the second is used */
#define CAPACITY 320
#define THREADS_MAX 3
#define ITEMS_MAX 3

struct shape {
    uint32_t head_dim, n_head, n_head_kv, n_window, length;
};

static const struct shape shapes[] = {
    {16, 4, 4, 0, 70}, {64, 9, 3, 0, 140}, {80, 8, 1, 0, 70},    {256, 2, 2, 0, 66},
    {64, 6, 2, 1, 40}, {64, 9, 3, 5, 135}, {32, 4, 2, 100, 170},
};
#define SHAPES (sizeof shapes / sizeof shapes[0])

struct session { /* with all rows that it will have */
    float *q, *k, *v;
    uint16_t *cache; /* K of all blocks, then V */
};

static size_t row_of(const struct shape *s) { return (size_t)s->n_head_kv * s->head_dim; }
static size_t dim_of(const struct shape *s) { return (size_t)s->n_head * s->head_dim; }

static struct session session_make(const struct shape *s, uint32_t seed) {
    size_t cache = 2 * BLOCKS * CAPACITY * row_of(s) * sizeof(uint16_t);
    struct session made = {malloc(s->length * dim_of(s) * sizeof(float)), malloc(s->length * row_of(s) * sizeof(float)),
                           malloc(s->length * row_of(s) * sizeof(float)), malloc(cache)};
    proof_random(seed, made.q, s->length * dim_of(s));
    proof_random(seed + 1, made.k, s->length * row_of(s));
    proof_random(seed + 2, made.v, s->length * row_of(s));
    for (size_t i = 0; i < s->length * dim_of(s); i++) made.q[i] *= 4; /* so that the weights differ */
    memset(made.cache, 0xff, cache);
    return made;
}

static void session_free(struct session *s) {
    free(s->q);
    free(s->k);
    free(s->v);
    free(s->cache);
}

struct rows { /* of a session */
    const struct session *session;
    uint32_t position, n;
};

/* One batch -> [n_rows, D * H]. */
static void run(const struct shape *s, const struct rows *rows, uint32_t n_items, int threads, float *out) {
    struct attention_item items[ITEMS_MAX];
    struct attention a = {.head_dim = s->head_dim, .n_head = s->n_head, .n_head_kv = s->n_head_kv};
    struct attention_block block = {.of = &a, .index = 1, .n_window = s->n_window};
    struct ggml_context *ctx =
        ggml_init((struct ggml_init_params){.mem_size = 16 * ggml_tensor_overhead() + ggml_graph_overhead(), .no_alloc = true});
    uint32_t n_rows = 0;
    a.scale = 1 / sqrtf((float)s->head_dim);
    a.scratch = malloc(attention_scratch(CAPACITY, (uint32_t)threads));
    a.n_items = n_items;
    a.items = items;
    for (uint32_t i = 0; i < n_items; i++) {
        size_t stride = CAPACITY * row_of(s) * sizeof(uint16_t);
        char *cache = (char *)rows[i].session->cache;
        items[i] = (struct attention_item){rows[i].n, rows[i].position, cache, cache + BLOCKS * stride, stride};
        n_rows += rows[i].n;
    }
    struct ggml_tensor *q = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, s->head_dim, s->n_head, n_rows);
    struct ggml_tensor *k = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, (int64_t)row_of(s), n_rows);
    struct ggml_tensor *v = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, (int64_t)row_of(s), n_rows);
    struct ggml_tensor *y = attention(ctx, q, k, v, &block);
    struct ggml_cgraph *graph = ggml_new_graph(ctx);
    ggml_build_forward_expand(graph, y);
    ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors(ctx, processor);
    size_t at = 0, dim = dim_of(s) * sizeof(float), row = row_of(s) * sizeof(float);
    for (uint32_t i = 0; i < n_items; at += rows[i++].n) {
        const struct rows *r = &rows[i];
        ggml_backend_tensor_set(q, r->session->q + r->position * dim_of(s), at * dim, r->n * dim);
        ggml_backend_tensor_set(k, r->session->k + r->position * row_of(s), at * row, r->n * row);
        ggml_backend_tensor_set(v, r->session->v + r->position * row_of(s), at * row, r->n * row);
    }
    processor_compute(graph, threads);
    ggml_backend_tensor_get(y, out, 0, n_rows * dim);
    ggml_backend_buffer_free(buffer);
    ggml_free(ctx);
    free(a.scratch);
}

static double rounded(float v) { return (double)ggml_fp16_to_fp32(ggml_fp32_to_fp16(v)); }

/* Row and head of a session, in double. */
static void reference(const struct shape *s, const struct session *session, uint32_t position, uint32_t head, double *out) {
    uint32_t first = s->n_window && position >= s->n_window ? position + 1 - s->n_window : 0, group = head / (s->n_head / s->n_head_kv);
    double weights[CAPACITY], most = -INFINITY, total = 0;
    for (uint32_t p = first; p <= position; p++) {
        weights[p] = 0;
        for (uint32_t d = 0; d < s->head_dim; d++)
            weights[p] += rounded(session->q[position * dim_of(s) + head * s->head_dim + d]) *
                          rounded(session->k[p * row_of(s) + group * s->head_dim + d]) / sqrt(s->head_dim);
        most = fmax(most, weights[p]);
    }
    for (uint32_t p = first; p <= position; p++) total += weights[p] = exp(weights[p] - most);
    for (uint32_t d = 0; d < s->head_dim; d++) {
        out[d] = 0;
        for (uint32_t p = first; p <= position; p++)
            out[d] += weights[p] / total * rounded(session->v[p * row_of(s) + group * s->head_dim + d]);
    }
}

static bool skipped(const struct shape *s) {
    if (!attention_can(s->head_dim)) print_message("SKIPPED: this processor has no AVX-512 VNNI\n");
    return !attention_can(s->head_dim);
}

static void it_is_attention(void **state) {
    (void)state;
    for (size_t i = 0; i < SHAPES && !skipped(&shapes[i]); i++) {
        const struct shape *s = &shapes[i];
        struct session session = session_make(s, 11);
        float *y = malloc(s->length * dim_of(s) * sizeof *y);
        double want[256];
        run(s, &(struct rows){&session, 0, s->length}, 1, 2, y);
        for (uint32_t position = 0; position < s->length; position++)
            for (uint32_t head = 0; head < s->n_head; head++) {
                reference(s, &session, position, head, want);
                for (uint32_t d = 0; d < s->head_dim; d++) {
                    float have = y[position * dim_of(s) + head * s->head_dim + d];
                    if (!(fabs((double)have - want[d]) < 1e-3)) /* weights are rounded to 11 bits */
                        fail_msg("shape %zu, position %u, head %u: %g, not %g", i, position, head, (double)have, want[d]);
                }
            }
        session_free(&session);
        free(y);
    }
}

/* The rows of a session in batches of n, beside others. */
static void divided(const struct shape *s, uint32_t n, uint32_t n_strangers, int threads, float *out) {
    struct session session = session_make(s, 23), strangers[2] = {session_make(s, 31), session_make(s, 37)};
    float *batch = malloc(ITEMS_MAX * s->length * dim_of(s) * sizeof *batch);
    for (uint32_t i = 0; i < n_strangers; i++) run(s, &(struct rows){&strangers[i], 0, s->length - 1}, 1, 1, batch); /* they have a past */
    for (uint32_t at = 0; at < s->length; at += n) {
        uint32_t now = s->length - at < n ? s->length - at : n, mine = n_strangers > 0;
        struct rows rows[ITEMS_MAX] = {{&strangers[0], s->length - 1, 1}, {&session, at, now}, {&strangers[1], at / 2, 1 + at % 3}};
        if (mine + 1 < ITEMS_MAX && rows[2].position + rows[2].n > s->length) rows[2].n = 1;
        run(s, rows + !mine, n_strangers + 1, threads, batch);
        memcpy(out + at * dim_of(s), batch + (mine ? dim_of(s) : 0), now * dim_of(s) * sizeof *out);
    }
    free(batch);
    session_free(&session);
    for (uint32_t i = 0; i < 2; i++) session_free(&strangers[i]);
}

static void all_ways_have_the_same_bits(void **state) {
    static const uint32_t batches[] = {1, 2, 7, 64, CAPACITY};
    (void)state;
    for (size_t i = 0; i < SHAPES && !skipped(&shapes[i]); i++) {
        const struct shape *s = &shapes[i];
        size_t size = s->length * dim_of(s) * sizeof(float);
        float *whole = malloc(size), *parts = malloc(size);
        divided(s, s->length, 0, 1, whole);
        for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++)
            for (uint32_t strangers = 0; strangers < ITEMS_MAX; strangers++) {
                int threads = 1 + (int)((b + strangers) % THREADS_MAX);
                divided(s, batches[b], strangers, threads, parts);
                if (memcmp(whole, parts, size) != 0)
                    fail_msg("shape %zu: batches of %u beside %u others on %d threads differ", i, batches[b], strangers, threads);
            }
        free(whole);
        free(parts);
    }
}

static void what_it_can_is_told(void **state) {
    (void)state;
    assert_false(attention_can(40));
    assert_false(attention_can(512));
    assert_true(attention_scratch(1, 2) == 2 * attention_scratch(1, 1));
    assert_true(attention_scratch(1 << 20, 1) >= ((1u << 20) * sizeof(float)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_attention),
        cmocka_unit_test(all_ways_have_the_same_bits),
        cmocka_unit_test(what_it_can_is_told),
    };
    return cmocka_run_group_tests(tests, processor_open, processor_close);
}
