/* test_cores.c - how many processors there are for this process. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cores.h"
#include "model/engine.h"

static void a_process_that_may_use_one_processor_has_one(void **state) {
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_in_range(cores_free(), 1, CPU_COUNT(&before));
    size_t first = 0;
    while (!CPU_ISSET(first, &before)) first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(cores_free(), 1);
    struct engine *engine;
    assert_int_equal(engine_new(&engine, &(struct engine_config){.threads = 0}, NULL), COROLLA_OK);
    assert_int_equal(engine_threads(engine), 1);
    engine_free(engine);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

static void a_quota_counts_in_whole_cores(void **state) {
    (void)state;
    assert_int_equal(cores_of_quota("max 100000"), 0);
    assert_int_equal(cores_of_quota("50000 100000"), 1);
    assert_int_equal(cores_of_quota("100000 100000"), 1);
    assert_int_equal(cores_of_quota("250000 100000"), 2);
    assert_int_equal(cores_of_quota("250000 0"), 0);
    assert_int_equal(cores_of_quota(""), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_process_that_may_use_one_processor_has_one),
        cmocka_unit_test(a_quota_counts_in_whole_cores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
