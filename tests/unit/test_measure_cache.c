/* test_measure_cache.c - a server's speed from one start to the next: the key, what a file must be, and that a start uses it. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/dirs.h"
#include "node/host.h"
#include "node/measure_cache.h"
#include "support/scratch.h"
#include "support/tiny.h"

static const uint8_t model[32] = {1}, other_model[32] = {2};

static struct measure_key some_key(void) {
    return (struct measure_key){
        .model = model, .begin = 1, .end = 3, .threads = 2, .arithmetic_class = 7, .version = "0.1.0", .machine = "rose"};
}

static const char *path_of(const struct measure_key *key) {
    static char path[DIR_PATH_MAX + MEASURE_NAME_SIZE + 1];
    char dir[DIR_PATH_MAX], name[MEASURE_NAME_SIZE];
    assert_int_equal(dirs_cache("speed", dir, NULL), COROLLA_OK);
    measure_cache_name(key, name);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void put(const char *path, const char *text, size_t size) {
    assert_int_equal(dirs_write_file(path, text, size, 0600, NULL), COROLLA_OK);
}

static void every_part_of_the_key_makes_another_file(void **state) {
    (void)state;
    struct measure_key keys[9];
    char names[9][MEASURE_NAME_SIZE], again[MEASURE_NAME_SIZE];
    for (size_t i = 0; i < 9; i++) keys[i] = some_key();
    keys[1].model = other_model;
    keys[2].begin = 0;
    keys[3].end = 4;
    keys[4].threads = 3;
    keys[5].arithmetic_class = 8;
    keys[6].version = "0.1.1";
    keys[7].machine = "lily";
    keys[8].begin = 11; /* not as "1" and "1:3" beside each other */
    for (size_t i = 0; i < 9; i++) {
        measure_cache_name(&keys[i], names[i]);
        for (size_t k = 0; k < i; k++) assert_string_not_equal(names[i], names[k]);
    }
    measure_cache_name(
        &(struct measure_key){
            .model = model, .begin = 1, .end = 3, .threads = 2, .arithmetic_class = 7, .version = "0.1.0", .machine = "rose"},
        again);
    assert_string_equal(again, names[0]);
}

static void what_was_written_is_read(void **state) {
    (void)state;
    struct measure_key key = some_key(), other = some_key();
    struct measure m = {.decode_tokens_per_s = 12.3456f, .prefill_tokens_per_s = 7e8f, .queue_us = 5}, got = {.queue_us = 9};
    other.threads = 1;
    measure_cache_write(&m, &key);
    assert_false(measure_cache_read(&got, &other));
    assert_true(got.decode_tokens_per_s == 0);
    assert_true(measure_cache_read(&got, &key));
    assert_true(got.decode_tokens_per_s == m.decode_tokens_per_s && got.prefill_tokens_per_s == m.prefill_tokens_per_s);
    assert_true(got.queue_us == 9); /* of now */
    unlink(path_of(&key));
    measure_cache_write(&(struct measure){.decode_tokens_per_s = 1}, &key); /* the measuring failed */
    assert_false(measure_cache_read(&got, &key));
}

static void a_corrupt_or_old_file_is_not_believed(void **state) {
    (void)state;
    static const char *const wrong[] = {"",       "\n",     "1 2",    "1 2\n\n", "1  2\n",  " 1 2\n",    "1 2 3\n",
                                        "1\n",    "-1 2\n", "0 2\n",  "1 0\n",   "1 nan\n", "inf 1\n",   "1 1e999\n",
                                        "1 2x\n", "a b\n",  "1\t2\n", "1 2\r\n", "1 +2\n",  "1 2\n1 2\n"};
    struct measure_key key = some_key();
    struct measure m = {0};
    struct timespec times[2] = {{.tv_sec = time(NULL)}, {.tv_sec = time(NULL) - MEASURE_AGE_S}};
    const char *path = path_of(&key);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        put(path, wrong[i], strlen(wrong[i]));
        if (measure_cache_read(&m, &key)) fail_msg("\"%s\" was believed", wrong[i]);
    }
    put(path, "1 2\n\0", 5);
    assert_false(measure_cache_read(&m, &key));
    put(path, "1 2\n", 4);
    assert_true(measure_cache_read(&m, &key));
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0); /* too old */
    assert_false(measure_cache_read(&m, &key));
    times[1].tv_sec = time(NULL) + 3600; /* from the future */
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_false(measure_cache_read(&m, &key));
}

static struct model_file *file;
static struct engine *engine;

/* What a start with so many blocks finds out. */
static struct measure start(uint32_t end) {
    struct host_config config = {.engine = engine, .file = file, .end = end, .cache_tokens = 256};
    struct host *host = NULL;
    struct corolla_error err;
    if (host_load(&host, &config, &err)) fail_msg("%s", err.message);
    struct measure m = host->measure;
    host_free(host);
    return m;
}

static void a_second_start_reads_what_the_first_measured(void **state) {
    (void)state;
    struct tiny_config tiny;
    struct corolla_error err;
    tiny_config_default(&tiny, "llama");
    assert_true(tiny_write(&tiny, scratch_file("tiny.gguf")));
    assert_int_equal(model_file_open(&file, scratch_file("tiny.gguf"), NULL, NULL, &err), COROLLA_OK);
    assert_int_equal(engine_new(&engine, &(struct engine_config){.threads = 1}, &err), COROLLA_OK);
    struct measure first = start(3), second = start(3), other = start(2); /* a clock does not give the same twice */
    assert_true(first.decode_tokens_per_s > 0 && first.prefill_tokens_per_s > 0);
    assert_true(second.decode_tokens_per_s == first.decode_tokens_per_s && second.prefill_tokens_per_s == first.prefill_tokens_per_s);
    assert_true(other.prefill_tokens_per_s != first.prefill_tokens_per_s);
    engine_free(engine);
    model_file_close(file);
}

static int setup(void **state) {
    (void)state;
    scratch_file("cache"); /* makes the folder that is the cache */
    return 0;
}

static int teardown(void **state) {
    (void)state;
    scratch_remove();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_part_of_the_key_makes_another_file),
        cmocka_unit_test(what_was_written_is_read),
        cmocka_unit_test(a_corrupt_or_old_file_is_not_believed),
        cmocka_unit_test(a_second_start_reads_what_the_first_measured),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
