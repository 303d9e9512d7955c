/* test_product.c - the own product of quantised weights: one row and many have the same bits, whatever the number of rows, threads and
 * weight rows, and they are right. On a processor that cannot do it nothing is tested, and the test says so. */
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
#include "kernel/product.h"
#include "model/proof.h"
#include "support/processor.h"

#define ROWS_MAX 70

static const enum ggml_type types[] = {GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1,
                                       GGML_TYPE_Q8_0, GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K};

struct matrix {
    struct ggml_context *ctx;
    ggml_backend_buffer_t buffer;
    struct ggml_tensor *w;
    float *plain; /* [out, in], dequantised */
};

static struct matrix matrix_of(enum ggml_type type, int64_t n, int64_t out) {
    struct matrix m = {.ctx = ggml_init((struct ggml_init_params){.mem_size = ggml_tensor_overhead() * 2, .no_alloc = true})};
    m.w = ggml_new_tensor_2d(m.ctx, type, n, out);
    m.buffer = ggml_backend_alloc_ctx_tensors(m.ctx, processor);
    m.plain = malloc((size_t)(n * out) * sizeof *m.plain);
    proof_random(17, m.plain, (size_t)(n * out));
    for (int64_t i = 0; i < n * out; i += 97) m.plain[i] *= 40; /* blocks of different scales */
    ggml_quantize_chunk(type, m.plain, m.w->data, 0, out, n, NULL);
    for (int64_t i = 0; i < out; i++)
        ggml_get_type_traits(type)->to_float((const char *)m.w->data + (size_t)i * m.w->nb[1], m.plain + i * n, n);
    return m;
}

static void matrix_free(struct matrix *m) {
    ggml_backend_buffer_free(m->buffer);
    ggml_free(m->ctx);
    free(m->plain);
}

/* x [rows, in] -> out [rows, out] on so many threads. */
static void run(const struct matrix *m, const float *x, int64_t rows, int threads, float *out) {
    struct ggml_context *ctx =
        ggml_init((struct ggml_init_params){.mem_size = 16 * ggml_tensor_overhead() + ggml_graph_overhead(), .no_alloc = true});
    struct ggml_tensor *in = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, m->w->ne[0], rows), *y = product(ctx, m->w, product_rows(ctx, in));
    struct ggml_cgraph *graph = ggml_new_graph(ctx);
    ggml_build_forward_expand(graph, y);
    ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors(ctx, processor);
    ggml_backend_tensor_set(in, x, 0, ggml_nbytes(in));
    processor_compute(graph, threads);
    ggml_backend_tensor_get(y, out, 0, ggml_nbytes(y));
    ggml_backend_buffer_free(buffer);
    ggml_free(ctx);
}

static bool skipped(struct matrix *m) {
    bool can = product_takes(m->w);
    if (!can) print_message("SKIPPED: this processor has no AVX-512 VNNI\n");
    if (!can) matrix_free(m);
    return !can;
}

static void one_row_and_many_have_the_same_bits(void **state) {
    (void)state;
    static const int64_t shapes[][2] = {{32, 1}, {64, 3}, {96, 16}, {256, 17}, {576, 50}, {1536, 61}, {2560, 33}};
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++)
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
            int64_t n = shapes[s][0], out = shapes[s][1];
            if (n % ggml_blck_size(types[t]) != 0) continue;
            struct matrix m = matrix_of(types[t], n, out);
            if (skipped(&m)) continue;
            size_t row = (size_t)out * sizeof(float);
            float *x = malloc((size_t)(n * ROWS_MAX) * sizeof *x), *one = malloc(ROWS_MAX * row), *many = malloc(ROWS_MAX * row);
            proof_random(5, x, (size_t)(n * ROWS_MAX));
            memset(x + 3 * n, 0, (size_t)n * sizeof *x); /* a row of nothing */
            for (int64_t i = 0; i < ROWS_MAX; i++) run(&m, x + i * n, 1, 1, one + i * out);
            for (int64_t rows = 1; rows <= ROWS_MAX; rows += rows < 17 ? 1 : 13)
                for (int threads = 1; threads <= 3; threads++) {
                    run(&m, x, rows, threads, many);
                    if (memcmp(one, many, (size_t)rows * row) != 0)
                        fail_msg("%s [%d, %d]: %d rows on %d threads differ from one at a time", ggml_type_name(types[t]), (int)n, (int)out,
                                 (int)rows, threads);
                }
            free(x);
            free(one);
            free(many);
            matrix_free(&m);
        }
}

/* A row of 8 bits per number, as the products see it. */
static void round_row(float *x, int64_t n) {
    for (int64_t k = 0; k < n; k += 32) {
        float most = 0;
        for (int i = 0; i < 32; i++) most = fmaxf(most, fabsf(x[k + i]));
        for (int i = 0; i < 32 && most > 0; i++) x[k + i] = most / 127.0f * nearbyintf(x[k + i] * (127.0f / most));
    }
}

static void it_is_the_product(void **state) {
    (void)state;
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        int64_t n = 2560, out = 50, rows = 9;
        struct matrix m = matrix_of(types[t], n, out);
        if (skipped(&m)) continue;
        float *x = malloc((size_t)(n * rows) * sizeof *x), *y = malloc((size_t)(out * rows) * sizeof *y);
        proof_random(6, x, (size_t)(n * rows));
        run(&m, x, rows, 2, y);
        for (int64_t j = 0; j < rows; j++) {
            round_row(x + j * n, n);
            for (int64_t i = 0; i < out; i++) {
                double want = 0, size = 0;
                for (int64_t k = 0; k < n; k++) {
                    want += (double)m.plain[i * n + k] * (double)x[j * n + k];
                    size += fabs((double)m.plain[i * n + k] * (double)x[j * n + k]);
                }
                if (fabs((double)y[j * out + i] - want) > 1e-6 * size)
                    fail_msg("%s: %g at row %d, column %d, not %g", ggml_type_name(types[t]), (double)y[j * out + i], (int)j, (int)i, want);
            }
        }
        free(x);
        free(y);
        matrix_free(&m);
    }
}

static void what_it_takes_is_told(void **state) {
    (void)state;
    struct matrix q8 = matrix_of(GGML_TYPE_Q8_0, 64, 4), f16 = matrix_of(GGML_TYPE_F16, 64, 4);
    assert_false(product_takes(f16.w));
    assert_false(product_can(GGML_TYPE_Q4_K, 64));
    assert_int_equal(product_takes(q8.w), product_can(GGML_TYPE_Q8_0, 64));
    matrix_free(&q8);
    matrix_free(&f16);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_row_and_many_have_the_same_bits),
        cmocka_unit_test(it_is_the_product),
        cmocka_unit_test(what_it_takes_is_told),
    };
    return cmocka_run_group_tests(tests, processor_open, processor_close);
}
