/* test_node_rows.c - rows of hidden states as they stand in messages. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "model/convert.h"
#include "node/rows.h"

#define N 37

static void one_number_that_is_not_finite_is_seen_anywhere(void **state) {
    (void)state;
    const enum corolla_wire wires[] = {COROLLA_WIRE_F32, COROLLA_WIRE_F16, COROLLA_WIRE_BF16};
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (unsigned w = 0; w < 3; w++) {
        for (unsigned b = 0; b < 3; b++) {
            for (unsigned at = 0; at < N; at++) {
                float numbers[N];
                _Alignas(float) uint8_t data[sizeof numbers];
                for (unsigned i = 0; i < N; i++) numbers[i] = i % 2 ? -60000.0f : 1e-8f;
                convert_from_f32(wires[w], numbers, data, N);
                assert_true(rows_finite(wires[w], data, N));
                numbers[at] = bad[b];
                convert_from_f32(wires[w], numbers, data, N);
                assert_false(rows_finite(wires[w], data, N));
                assert_true(rows_finite(wires[w], data, at));
            }
        }
    }
}

static void a_number_too_large_for_16_bits_is_not_finite_there(void **state) {
    (void)state;
    float numbers[2] = {1.0f, 70000.0f};
    uint16_t data[2];
    convert_from_f32(COROLLA_WIRE_F16, numbers, data, 2);
    assert_false(rows_finite(COROLLA_WIRE_F16, data, 2));
    convert_from_f32(COROLLA_WIRE_BF16, numbers, data, 2);
    assert_true(rows_finite(COROLLA_WIRE_BF16, data, 2));
}

static void the_last_rows_are_kept(void **state) {
    (void)state;
    uint8_t data[12] = {1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4};
    assert_int_equal(rows_keep_last(data, 4, 4, 3), 12);
    assert_int_equal(rows_keep_last(data, 4, 3, 3), 9);
    assert_memory_equal(data, ((uint8_t[]){2, 2, 2, 3, 3, 3, 4, 4, 4}), 9);
    assert_int_equal(rows_keep_last(data, 3, 1, 3), 3);
    assert_memory_equal(data, ((uint8_t[]){4, 4, 4}), 3);
    assert_int_equal(rows_keep_last(data, 1, 0, 3), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_number_that_is_not_finite_is_seen_anywhere),
        cmocka_unit_test(a_number_too_large_for_16_bits_is_not_finite_there),
        cmocka_unit_test(the_last_rows_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
