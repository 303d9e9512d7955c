/* test_mem.c - checked sizes, hex, little-endian access, the clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"

static void sizes_that_do_not_fit_leave_the_output_alone(void **state) {
    (void)state;
    size_t out = 5;
    assert_false(size_mul(SIZE_MAX / 2, 3, &out));
    assert_false(size_add(SIZE_MAX, 1, &out) && out == 5);
    assert_true(size_mul(1u << 20, 1u << 10, &out));
    assert_int_equal(out, 1u << 30);
    assert_true(size_add(SIZE_MAX - 1, 1, &out));
    assert_true(out == SIZE_MAX);
}

static void hex_goes_there_and_back(void **state) {
    (void)state;
    uint8_t bytes[256], back[256];
    char text[513];
    for (int i = 0; i < 256; i++) {
        bytes[i] = (uint8_t)i;
    }
    hex_encode(bytes, sizeof(bytes), text);
    assert_true(hex_decode(text, back, sizeof(back)));
    assert_memory_equal(bytes, back, sizeof(bytes));
    assert_true(hex_decode("aBcD", back, 2));
    assert_memory_equal(back, "\xab\xcd", 2);
}

static void hex_of_another_length_or_with_other_characters_is_refused(void **state) {
    (void)state;
    uint8_t out[3] = {9, 9, 9};
    assert_false(hex_decode("abcd", out, 3));
    assert_false(hex_decode("abcdef0", out, 3));
    assert_false(hex_decode("abcde", out, 3));
    assert_false(hex_decode("abcdeg", out, 3));
    assert_false(hex_decode("ab cde", out, 3));
    assert_memory_equal(out, "\x09\x09\x09", 3);
    assert_true(hex_decode("", out, 0));
}

static void little_endian_numbers_have_their_bytes(void **state) {
    (void)state;
    uint8_t p[8];
    le64_put(p, 0x8877665544332211ull);
    assert_memory_equal(p, "\x11\x22\x33\x44\x55\x66\x77\x88", 8);
    assert_true(le64_get(p) == 0x8877665544332211ull);
    assert_int_equal(le32_get(p + 4), 0x88776655u);
    assert_int_equal(le16_get(p + 6), 0x8877);
}

static void the_clock_goes_forward(void **state) {
    (void)state;
    uint64_t before = clock_us(), after = clock_us();
    assert_true(before > 0 && after >= before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_that_do_not_fit_leave_the_output_alone),
        cmocka_unit_test(hex_goes_there_and_back),
        cmocka_unit_test(hex_of_another_length_or_with_other_characters_is_refused),
        cmocka_unit_test(little_endian_numbers_have_their_bytes),
        cmocka_unit_test(the_clock_goes_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
