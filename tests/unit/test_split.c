/* test_split.c - which blocks go to which device, by room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "model/split.h"

static void check(const uint64_t *need, uint32_t n_blocks, const uint64_t *room, uint32_t n, const uint32_t *wanted) {
    uint32_t begins[ENGINE_DEVICES_MAX + 1];
    split_by_room(need, n_blocks, room, n, begins);
    for (uint32_t d = 0; d < n; d++)
        if (begins[d] != wanted[d]) fail_msg("device %u begins at block %u and not at %u", d, begins[d], wanted[d]);
    assert_int_equal(begins[n], n_blocks);
}

static void what_fits_is_shared_by_room(void **state) {
    static const uint64_t even[] = {10, 10, 10, 10, 10, 10};
    (void)state;
    check(even, 6, (uint64_t[]){100, 100}, 2, (uint32_t[]){0, 3});
    check(even, 6, (uint64_t[]){200, 100}, 2, (uint32_t[]){0, 4});
    check(even, 6, (uint64_t[]){20, 20, 20}, 3, (uint32_t[]){0, 2, 4});
    check(even, 6, (uint64_t[]){100, 0}, 2, (uint32_t[]){0, 6}); /* a processor that only takes what is left */
    check(even, 6, (uint64_t[]){1000, 1}, 2, (uint32_t[]){0, 6});
    check((uint64_t[]){50, 10, 10, 10}, 4, (uint64_t[]){60, 60}, 2, (uint32_t[]){0, 1});
}

static void what_does_not_fit_goes_to_the_last(void **state) {
    static const uint64_t even[] = {10, 10, 10, 10, 10, 10};
    (void)state;
    check(even, 6, (uint64_t[]){25, 15, 0}, 3, (uint32_t[]){0, 2, 3});
    check(even, 6, (uint64_t[]){9, 0}, 2, (uint32_t[]){0, 0});
    check(even, 6, (uint64_t[]){0}, 1, (uint32_t[]){0});
    check((uint64_t[]){10, 50, 10, 10}, 4, (uint64_t[]){30, 60, 0}, 3, (uint32_t[]){0, 1, 3});
}

/* However needs and rooms are: in order, nothing lost, nobody but the last beyond its room. */
static void nobody_gets_more_than_it_holds(void **state) {
    (void)state;
    srand(1);
    for (int round = 0; round < 20000; round++) {
        uint64_t need[40], room[ENGINE_DEVICES_MAX];
        uint32_t begins[ENGINE_DEVICES_MAX + 1], n_blocks = 1 + (uint32_t)rand() % 40, n = 1 + (uint32_t)rand() % ENGINE_DEVICES_MAX;
        for (uint32_t i = 0; i < n_blocks; i++) need[i] = 1 + (uint64_t)rand() % 100;
        for (uint32_t d = 0; d < n; d++) room[d] = (uint64_t)rand() % 2000;
        split_by_room(need, n_blocks, room, n, begins);
        assert_int_equal(begins[0], 0);
        assert_int_equal(begins[n], n_blocks);
        for (uint32_t d = 0; d + 1 < n; d++) {
            uint64_t taken = 0;
            assert_true(begins[d] <= begins[d + 1]);
            for (uint32_t i = begins[d]; i < begins[d + 1]; i++) taken += need[i];
            assert_true(taken <= room[d]);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_fits_is_shared_by_room),
        cmocka_unit_test(what_does_not_fit_goes_to_the_last),
        cmocka_unit_test(nobody_gets_more_than_it_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
