/* test_row_log.c - the rows that a hop keeps: written and read over the borders of pages, rolled back, refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include <corolla.h>

#include "base/row_log.h"
#include "base/thread.h"
#include "support/sanitized.h"

#define ROW 24
#define ROWS 300 /* some pages, the last one not whole */

/* Sanitizers end the program when there is no memory, unless they are told not to. */
COROLLA_API const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }
COROLLA_API const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "allocator_may_return_null=1"; }

static uint8_t in[ROWS * ROW], out[ROWS * ROW];

static int fill(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof in; i++) in[i] = (uint8_t)(i * 31 + i / 256);
    return 0;
}

static void rows_come_back_as_they_were_written_however_they_are_cut(void **state) {
    (void)state;
    const uint32_t cuts[] = {1, 7, 63, 64, 65, 100, ROWS};
    for (size_t w = 0; w < sizeof cuts / sizeof cuts[0]; w++) {
        struct row_log *log = row_log_new(ROWS, ROW);
        for (uint32_t at = 0; at < ROWS; at += cuts[w]) {
            uint32_t n = cuts[w] < ROWS - at ? cuts[w] : ROWS - at;
            assert_true(row_log_put(log, at, n, in + at * ROW));
            assert_int_equal(row_log_length(log), at + n);
        }
        for (size_t r = 0; r < sizeof cuts / sizeof cuts[0]; r++) {
            memset(out, 0, sizeof out);
            for (uint32_t at = 0; at < ROWS; at += cuts[r]) {
                uint32_t n = cuts[r] < ROWS - at ? cuts[r] : ROWS - at;
                assert_true(row_log_get(log, at, n, out + at * ROW));
            }
            assert_memory_equal(in, out, sizeof in);
        }
        row_log_free(log);
    }
}

static void a_lower_position_rolls_back(void **state) {
    (void)state;
    struct row_log *log = row_log_new(ROWS, ROW);
    assert_true(row_log_put(log, 0, 200, in));
    assert_true(row_log_put(log, 50, 10, in)); /* others than before */
    assert_int_equal(row_log_length(log), 60);
    assert_true(row_log_get(log, 45, 15, out));
    assert_memory_equal(out, in + 45 * ROW, 5 * ROW);
    assert_memory_equal(out + 5 * ROW, in, 10 * ROW);
    assert_true(row_log_put(log, 20, 0, NULL));
    assert_int_equal(row_log_length(log), 20);
    row_log_free(log);
}

static void what_is_not_there_is_not_read(void **state) {
    (void)state;
    struct row_log *log = row_log_new(ROWS, ROW);
    const struct {
        uint32_t at, n;
    } bad[] = {{0, 101}, {100, 1}, {101, 0}, {99, 2}, {UINT32_MAX, 1}, {1, UINT32_MAX}, {UINT32_MAX, UINT32_MAX}};
    assert_true(row_log_put(log, 0, 200, in));
    assert_true(row_log_put(log, 0, 100, in)); /* the pages behind are still there */
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_false(row_log_get(log, bad[i].at, bad[i].n, out));
    assert_true(row_log_get(log, 100, 0, out));
    row_log_free(log);
}

static void what_does_not_fit_is_not_written(void **state) {
    (void)state;
    struct row_log *log = row_log_new(ROWS, ROW);
    assert_true(row_log_put(log, 0, 10, in));
    assert_false(row_log_put(log, 11, 1, in)); /* a gap */
    assert_int_equal(row_log_length(log), 10);
    assert_false(row_log_put(log, 8, ROWS - 7, in)); /* past the end */
    assert_int_equal(row_log_length(log), 8);
    assert_false(row_log_put(log, 8, UINT32_MAX, in));
    assert_true(row_log_put(log, 8, ROWS - 8, in));
    assert_false(row_log_put(log, ROWS, 1, in));
    assert_int_equal(row_log_length(log), ROWS);
    row_log_free(log);
    row_log_free(NULL);
}

static void a_log_without_memory_ends_where_the_rows_would_have_begun(void **state) {
    (void)state;
    struct row_log *log = row_log_new(1u << 20, SIZE_MAX / 128); /* no page of that size can be had */
    assert_non_null(log);
    assert_false(row_log_put(log, 0, 1, in));
    assert_int_equal(row_log_length(log), 0);
    row_log_free(log);
}

/* Memory for one more page, and not for two. */
static void limit_memory(size_t page, struct rlimit *out_before) {
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu", &pages), 1);
    fclose(f);
    assert_int_equal(getrlimit(RLIMIT_AS, out_before), 0);
    struct rlimit limit = *out_before;
    limit.rlim_cur = pages * (size_t)sysconf(_SC_PAGESIZE) + page + page / 2;
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
}

static void a_log_whose_memory_ends_within_the_rows_has_none_of_them(void **state) {
    (void)state;
    enum { WIDE = 1 << 16, N = 65 };
    if (SANITIZED) skip(); /* sanitizers need all addresses */
    struct rlimit before;
    uint8_t *rows = calloc(N, WIDE);
    struct row_log *log = row_log_new(N, WIDE);
    assert_true(rows && log);
    limit_memory((N - 1) * (size_t)WIDE, &before);
    bool first = row_log_put(log, 0, 1, rows), others = row_log_put(log, 1, N - 1, rows);
    setrlimit(RLIMIT_AS, &before);
    assert_true(first);
    assert_false(others);
    assert_int_equal(row_log_length(log), 1);
    assert_true(row_log_put(log, 1, N - 1, rows));
    row_log_free(log);
    free(rows);
}

static void *write_rows(void *log) {
    for (int turn = 0; turn < 50; turn++)
        for (uint32_t at = 0; at < ROWS; at += 10) row_log_put(log, at, 10, in + at * ROW);
    return NULL;
}

static void one_thread_reads_what_another_writes(void **state) {
    (void)state;
    struct row_log *log = row_log_new(ROWS, ROW);
    pthread_t writer;
    uint32_t length;
    assert_true(thread_start(&writer, write_rows, log));
    do {
        length = row_log_length(log);
        if (length > 0 && row_log_get(log, length - 1, 1, out)) /* false: rolled back meanwhile */
            assert_memory_equal(out, in + (length - 1) * ROW, ROW);
    } while (length < ROWS);
    pthread_join(writer, NULL);
    assert_int_equal(row_log_length(log), ROWS);
    row_log_free(log);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_back_as_they_were_written_however_they_are_cut),
        cmocka_unit_test(a_lower_position_rolls_back),
        cmocka_unit_test(what_is_not_there_is_not_read),
        cmocka_unit_test(what_does_not_fit_is_not_written),
        cmocka_unit_test(a_log_without_memory_ends_where_the_rows_would_have_begun),
        cmocka_unit_test(a_log_whose_memory_ends_within_the_rows_has_none_of_them),
        cmocka_unit_test(one_thread_reads_what_another_writes),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
