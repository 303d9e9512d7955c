/* test_utf8.c - which text may be shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/utf8.h"

static void well_formed_characters_are_read(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t length;
        unsigned code;
    } cases[] = {{"a", 1, 'a'}, {"\xc3\xa9", 2, 0xe9}, {"\xe2\x82\xac", 3, 0x20ac}, {"\xf0\x9f\x8c\xb8", 4, 0x1f338}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned code = 0;
        assert_int_equal(utf8_next(cases[i].text, strlen(cases[i].text), &code), cases[i].length);
        assert_int_equal(code, cases[i].code);
        assert_int_equal(utf8_next(cases[i].text, cases[i].length - 1, &code), 0);
    }
}

static void malformed_bytes_are_not(void **state) {
    (void)state;
    static const char *const cases[] = {
        "\x80",             /* no first byte */
        "\xc0\xaf",         /* longer than needed */
        "\xc1\xbf",         /* longer than needed */
        "\xe0\x80\xaf",     /* longer than needed */
        "\xed\xa0\x80",     /* surrogate */
        "\xf4\x90\x80\x80", /* past U+10FFFF */
        "\xf5\x80\x80\x80", /* past U+10FFFF */
        "\xe2\x28\xa1",     /* bad second byte */
        "\xfe",
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned code;
        assert_int_equal(utf8_next(cases[i], strlen(cases[i]), &code), 0);
        assert_false(utf8_printable(cases[i], strlen(cases[i])));
    }
}

static void only_what_does_not_steer_is_printable(void **state) {
    (void)state;
    assert_true(utf8_printable("", 0));
    assert_true(utf8_printable("K\xc3\xbc"
                               "che 1 \xe6\xbc\xa2",
                               12));
    static const char *const steering[] = {"\x1b", "a\n", "\x7f", "\xc2\x85", "\xe2\x80\xa8", "\xe2\x80\xae", "\xe2\x81\xa6"};
    for (size_t i = 0; i < sizeof(steering) / sizeof(steering[0]); i++) {
        assert_false(utf8_printable(steering[i], strlen(steering[i])));
    }
    assert_false(utf8_printable("a\0b", 3));
}

static void cleaning_makes_any_bytes_printable_and_is_done_once(void **state) {
    (void)state;
    unsigned seed = 12345;
    for (int round = 0; round < 2000; round++) {
        char text[40], again[40];
        for (size_t i = 0; i < sizeof(text) - 1; i++) {
            seed = seed * 1103515245u + 12345u;
            text[i] = (char)((seed >> 16 & 0xff) | 1);
        }
        text[sizeof(text) - 1] = '\0';
        utf8_clean(text);
        assert_true(utf8_printable(text, strlen(text)));
        memcpy(again, text, sizeof(text));
        utf8_clean(again);
        assert_string_equal(again, text);
    }
}

static void a_character_cut_at_the_end_is_dropped(void **state) {
    (void)state;
    char text[] = "ab\xe2\x82";
    utf8_clean(text);
    assert_string_equal(text, "ab");
    char broken[] = "\xe2\x41";
    utf8_clean(broken);
    assert_string_equal(broken, "?A");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(well_formed_characters_are_read),       cmocka_unit_test(malformed_bytes_are_not),
        cmocka_unit_test(only_what_does_not_steer_is_printable), cmocka_unit_test(cleaning_makes_any_bytes_printable_and_is_done_once),
        cmocka_unit_test(a_character_cut_at_the_end_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
