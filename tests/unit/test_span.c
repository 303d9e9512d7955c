/* test_span.c - what a span refuses, each with an error of its own, and that it works as before afterwards. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/chain.h"
#include "support/scratch.h"
#include "support/tiny.h"

#define TOKENS 512

static struct chain chain; /* one span, blocks 1:4 of 5 */
static struct span *span;

static int setup(void **state) {
    struct tiny_config c;
    struct corolla_error err;
    struct span_config sc = {.begin = 1, .end = 4};
    (void)state;
    tiny_config_default(&c, "llama");
    assert_true(tiny_write(&c, scratch_file("span.gguf")));
    chain_open(&chain, &(struct chain_config){.path = scratch_file("span.gguf"), .threads = 1});
    sc.kv_bytes = span_kv_bytes(model_file_hparams(chain.file), 3, COROLLA_KV_F16, TOKENS);
    assert_int_equal(span_load(&span, chain.engine, chain.file, &sc, &err), COROLLA_OK);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    span_free(span);
    chain_close(&chain);
    return 0;
}

static struct kv *open_kv(uint32_t max_tokens) {
    struct corolla_error err;
    struct kv *kv = NULL;
    if (kv_open(&kv, span, 1, 4, max_tokens, &err)) fail_msg("kv_open: %s", err.message);
    return kv;
}

static enum corolla_status forward(struct kv *kv, uint32_t position, uint32_t n, struct corolla_error *err) {
    float *rows = calloc((size_t)n * chain.n_embd, sizeof *rows);
    assert_non_null(rows);
    for (size_t i = 0; i < (size_t)n * chain.n_embd; i++) rows[i] = (float)(i % 7) - 3.0f;
    enum corolla_status status =
        span_forward(span, &(struct batch_item){.kv = kv, .position = position, .n = n, .in = rows, .out = rows}, 1, err);
    for (size_t i = 0; !status && i < (size_t)n * chain.n_embd; i++) assert_true(isfinite(rows[i]));
    free(rows);
    return status;
}

static void blocks_outside_of_the_span_are_not_served(void **state) {
    static const uint32_t wrong[][2] = {{0, 2}, {3, 5}, {0, 5}, {2, 2}, {3, 2}, {4, 5}};
    struct corolla_error err;
    struct kv *kv = NULL;
    (void)state;
    for (size_t i = 0; i < 6; i++) assert_int_equal(kv_open(&kv, span, wrong[i][0], wrong[i][1], 10, &err), COROLLA_NOT_SERVED);
    assert_null(kv);
    assert_int_equal(span_kv_tokens_left(span), TOKENS);
}

static void a_full_pool_refuses_and_takes_back(void **state) {
    struct corolla_error err;
    struct kv *a = open_kv(TOKENS / 2), *b = open_kv(TOKENS / 2), *none = NULL;
    (void)state;
    assert_int_equal(span_kv_tokens_left(span), 0);
    assert_int_equal(kv_open(&none, span, 1, 4, 1, &err), COROLLA_NO_CACHE);
    assert_int_equal(kv_open(&none, span, 1, 4, UINT32_MAX, &err), COROLLA_INVALID);
    assert_int_equal(kv_open(&none, span, 1, 4, 0, &err), COROLLA_INVALID);
    kv_close(a);
    assert_int_equal(span_kv_tokens_left(span), TOKENS / 2);
    assert_int_equal(kv_open(&none, span, 1, 4, TOKENS, &err), COROLLA_NO_CACHE);
    assert_non_null(strstr(err.message, "256")); /* says how much is left */
    a = open_kv(TOKENS / 2);
    assert_int_equal(forward(a, 0, 3, &err), COROLLA_OK);
    kv_close(a);
    kv_close(b);
    assert_int_equal(span_kv_tokens_left(span), TOKENS);
}

static void steps_that_do_not_fit_leave_the_session_as_it_was(void **state) {
    struct corolla_error err;
    struct kv *kv = open_kv(100);
    (void)state;
    assert_int_equal(forward(kv, 1, 1, &err), COROLLA_BAD_POSITION);
    assert_int_equal(forward(kv, 0, 90, &err), COROLLA_OK);
    assert_int_equal(forward(kv, 91, 1, &err), COROLLA_BAD_POSITION);
    assert_int_equal(forward(kv, UINT32_MAX, 1, &err), COROLLA_BAD_POSITION);
    assert_int_equal(forward(kv, 90, 11, &err), COROLLA_TOO_LONG);
    assert_int_equal(forward(kv, 0, 101, &err), COROLLA_TOO_LONG);
    assert_int_equal(forward(kv, 0, BATCH_ROWS_MAX + 1, &err), COROLLA_INVALID);
    assert_int_equal(kv_length(kv), 90);
    assert_int_equal(forward(kv, 90, 10, &err), COROLLA_OK);
    assert_int_equal(kv_length(kv), 100);
    assert_int_equal(forward(kv, 40, 1, &err), COROLLA_OK); /* a rollback */
    assert_int_equal(kv_length(kv), 41);
    kv_close(kv);
}

static void a_session_stands_once_in_a_batch(void **state) {
    struct corolla_error err;
    struct kv *kv = open_kv(10);
    float *row = calloc(chain.n_embd, sizeof *row);
    struct batch_item item = {.kv = kv, .n = 1, .in = row, .out = row}, items[] = {item, item};
    (void)state;
    assert_non_null(row);
    assert_int_equal(span_forward(span, items, 2, &err), COROLLA_INVALID);
    assert_int_equal(span_forward(span, items, 0, &err), COROLLA_INVALID);
    assert_int_equal(span_forward(span, items, 1, &err), COROLLA_OK);
    free(row);
    kv_close(kv);
}

static void spans_and_tokens_outside_of_the_model_are_refused(void **state) {
    static const uint32_t wrong[][2] = {{0, 6}, {5, 5}, {3, 1}, {4, UINT32_MAX}};
    struct corolla_error err;
    struct span *none = NULL;
    float *row = calloc(chain.n_embd, sizeof *row);
    (void)state;
    assert_non_null(row);
    for (size_t i = 0; i < 4; i++) {
        struct span_config sc = {.begin = wrong[i][0], .end = wrong[i][1], .kv_bytes = 1 << 20};
        assert_int_equal(span_load(&none, chain.engine, chain.file, &sc, &err), COROLLA_INVALID);
    }
    assert_null(none);
    assert_int_equal(edges_embed(chain.edges, 0, (int32_t[]){(int32_t)chain.n_vocab}, 1, row, &err), COROLLA_INVALID);
    assert_int_equal(edges_embed(chain.edges, 0, (int32_t[]){-1}, 1, row, &err), COROLLA_INVALID);
    assert_int_equal(edges_embed(chain.edges, 0, (int32_t[]){0}, 1, row, &err), COROLLA_OK);
    free(row);
}

static void a_cache_in_q8_0_is_not_for_all_heads(void **state) {
    struct tiny_config c;
    struct corolla_error err;
    struct chain narrow;
    struct span *none = NULL;
    (void)state;
    tiny_config_default(&c, "llama");
    c.head_dim = 48;
    assert_true(tiny_write(&c, scratch_file("narrow.gguf")));
    chain_open(&narrow, &(struct chain_config){.path = scratch_file("narrow.gguf"), .threads = 1});
    struct span_config sc = {.end = 1, .kv = COROLLA_KV_Q8_0, .kv_bytes = 1 << 20};
    assert_int_equal(span_load(&none, narrow.engine, narrow.file, &sc, &err), COROLLA_UNSUPPORTED);
    chain_close(&narrow);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_outside_of_the_span_are_not_served),         cmocka_unit_test(a_full_pool_refuses_and_takes_back),
        cmocka_unit_test(steps_that_do_not_fit_leave_the_session_as_it_was), cmocka_unit_test(a_session_stands_once_in_a_batch),
        cmocka_unit_test(spans_and_tokens_outside_of_the_model_are_refused), cmocka_unit_test(a_cache_in_q8_0_is_not_for_all_heads),
    };
    int failed = cmocka_run_group_tests(tests, setup, teardown);
    scratch_remove();
    return failed;
}
