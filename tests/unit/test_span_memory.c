/* test_span_memory.c - a steady decode allocates nothing, and a span outlives that memory runs out: at load, when a cache is made, and when
 * a graph needs more than there is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "kernel/attention.h"
#include "support/chain.h"
#include "support/sanitized.h"
#include "support/scratch.h"
#include "support/tiny.h"

#define TINY 64 /* bytes: the engine makes two smaller pieces of its own for each graph that it computes (ggml_cpu_init) */

/* ---- counting and refusing ------------------------------------------------------------------------------------- */

#if !SANITIZED
static struct chain chain;
static float *rows;

/* In the place of the C library's own, for the whole program. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
#define EXPORTED __attribute__((visibility("default")))
static unsigned long n_allocations;
static size_t refused_from = SIZE_MAX; /* bytes: larger pieces are not to be had */

static bool refuses(size_t size) {
    if (size > TINY) __atomic_add_fetch(&n_allocations, 1, __ATOMIC_RELAXED);
    return size >= __atomic_load_n(&refused_from, __ATOMIC_RELAXED);
}

EXPORTED void *malloc(size_t size) { return refuses(size) ? NULL : __libc_malloc(size); }
EXPORTED void *calloc(size_t n, size_t size) { return refuses(n * size) ? NULL : __libc_calloc(n, size); }
EXPORTED void *realloc(void *old, size_t size) { return refuses(size) ? NULL : __libc_realloc(old, size); }
EXPORTED int posix_memalign(void **out, size_t alignment, size_t size) {
    *out = refuses(size) ? NULL : __libc_memalign(alignment, size);
    return *out ? 0 : 12; /* ENOMEM */
}
EXPORTED void *aligned_alloc(size_t alignment, size_t size) { return refuses(size) ? NULL : __libc_memalign(alignment, size); }

/* ---- tests ----------------------------------------------------------------------------------------------------- */

static enum corolla_status forward(struct span *span, struct kv *kv, uint32_t position, uint32_t n) {
    for (size_t i = 0; i < (size_t)n * chain.n_embd; i++) rows[i] = (float)((i + position) % 7) - 3.0f;
    return span_forward(span, &(struct batch_item){.kv = kv, .position = position, .n = n, .in = rows, .out = rows}, 1, NULL);
}

static void a_steady_decode_allocates_nothing(void **state) {
    struct kv *kv;
    (void)state;
    assert_int_equal(kv_open(&kv, chain.spans[0], 0, 5, 256, NULL), COROLLA_OK);
    assert_int_equal(forward(chain.spans[0], kv, 0, 65), COROLLA_OK);
    assert_int_equal(forward(chain.spans[0], kv, 65, 1), COROLLA_OK);
    unsigned long before = n_allocations;
    for (uint32_t position = 66; position < 128; position++) assert_int_equal(forward(chain.spans[0], kv, position, 1), COROLLA_OK);
    assert_int_equal(n_allocations, before);
    assert_int_equal(forward(chain.spans[0], kv, 128, 2), COROLLA_OK); /* another graph */
    assert_true(n_allocations > before);
    kv_close(kv);
}

/* The bits that a span gives, which were right before. */
static void check_works(struct span *span, const float *right) {
    struct kv *kv;
    assert_int_equal(kv_open(&kv, span, 0, 5, 64, NULL), COROLLA_OK);
    assert_int_equal(forward(span, kv, 0, 20), COROLLA_OK);
    assert_memory_equal(rows, right, 20 * chain.n_embd * sizeof *rows);
    kv_close(kv);
}

/* The own attention finds its items when the graph runs: a graph is as large as its rows make it, whoever they are of. */
static void a_batch_of_many_needs_no_more_than_one(void **state) {
    struct batch_item items[BATCH_ITEMS_MAX];
    struct kv *kvs[BATCH_ITEMS_MAX];
    (void)state;
    if (!attention_can(64)) {
        print_message("SKIPPED: the own attention does not run on this processor\n");
        return;
    }
    for (uint32_t i = 0; i < BATCH_ITEMS_MAX; i++) {
        float *row = rows + (size_t)i * chain.n_embd;
        assert_int_equal(kv_open(&kvs[i], chain.spans[0], 0, 5, 256, NULL), COROLLA_OK);
        items[i] = (struct batch_item){.kv = kvs[i], .position = 0, .n = 1, .in = row, .out = row};
    }
    memset(rows, 0, BATCH_ITEMS_MAX * chain.n_embd * sizeof *rows);
    refused_from = 1 << 20;
    enum corolla_status status = span_forward(chain.spans[0], items, BATCH_ITEMS_MAX, NULL);
    refused_from = SIZE_MAX;
    assert_int_equal(status, COROLLA_OK);
    for (uint32_t i = 0; i < BATCH_ITEMS_MAX; i++) kv_close(kvs[i]);
}

static void it_works_on_after_memory_ran_out(void **state) {
    struct span *span = NULL;
    struct kv *kv, *none = NULL;
    struct corolla_error err;
    struct span_config config = {.begin = 0, .end = 5, .kv_bytes = 1u << 30};
    (void)state;
    assert_int_equal(span_load(&span, chain.engine, chain.file, &config, &err), COROLLA_OK);
    assert_int_equal(kv_open(&kv, span, 0, 5, 2048, NULL), COROLLA_OK);
    assert_int_equal(forward(span, kv, 0, 20), COROLLA_OK);
    float *right = malloc(20 * chain.n_embd * sizeof *right);
    memcpy(right, rows, 20 * chain.n_embd * sizeof *right);

    refused_from = 64 << 10; /* when a cache is made */
    assert_int_equal(kv_open(&none, span, 0, 5, 2048, &err), COROLLA_NO_CACHE);
    refused_from = SIZE_MAX;
    assert_null(none);
    check_works(span, right);

    for (uint32_t at = 20; at < 1800; at += 256) { /* in the middle of a prompt: the graph of many rows needs more than those before */
        refused_from = 256 << 10;
        enum corolla_status status = forward(span, kv, at, 256);
        refused_from = SIZE_MAX;
        if (status != COROLLA_OK) assert_int_equal(status, COROLLA_NOMEM);
        check_works(span, right);
        if (status != COROLLA_OK) assert_int_equal(forward(span, kv, at, 256), COROLLA_OK);
    }
    kv_close(kv);
    span_free(span);

    struct span *more = NULL; /* at load, wherever it ends */
    uint32_t failed = 0;
    for (size_t limit = 1 << 10; limit < 8u << 20; limit *= 2) {
        refused_from = limit;
        enum corolla_status status = span_load(&more, chain.engine, chain.file, &config, &err);
        refused_from = SIZE_MAX;
        if (status == COROLLA_OK) {
            assert_true(span_exact(more));
            span_free(more);
        }
        if (status != COROLLA_OK) assert_in_range(status, COROLLA_NOMEM, COROLLA_NOMEM);
        failed += status != COROLLA_OK;
    }
    assert_true(failed > 0);
    assert_int_equal(span_load(&more, chain.engine, chain.file, &config, &err), COROLLA_OK);
    check_works(more, right);
    span_free(more);
    free(right);
}
#endif

int main(void) {
#if SANITIZED
    print_message("SKIPPED: a sanitizer has the allocator; the build without one runs this\n");
    return 0;
#else
    struct tiny_config c;
    tiny_config_default(&c, "llama");
    c.type = "q8_0";
    c.n_ctx = 2048;
    if (!tiny_write(&c, scratch_file("memory.gguf"))) return 1;
    chain_open(&chain, &(struct chain_config){.path = scratch_file("memory.gguf"), .threads = 1});
    rows = malloc(256 * chain.n_embd * sizeof *rows);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_steady_decode_allocates_nothing),
        cmocka_unit_test(a_batch_of_many_needs_no_more_than_one),
        cmocka_unit_test(it_works_on_after_memory_ran_out),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(rows);
    chain_close(&chain);
    scratch_remove();
    return failed;
#endif
}
