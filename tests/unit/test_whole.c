/* test_whole.c - bytes to text that is always valid UTF-8. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "text/whole.h"

#define FFFD "\xef\xbf\xbd"

static void expect(const char *bytes, size_t size, bool final, const char *text, size_t used) {
    char out[128];
    size_t got_used = 0;
    assert_true(size * WHOLE_GROWTH <= sizeof out);
    size_t n = whole_take(bytes, size, final, out, &got_used);
    assert_int_equal(n, strlen(text));
    assert_memory_equal(out, text, n);
    assert_int_equal(got_used, used);
}

static void whole_characters_stay_as_they_are(void **state) {
    (void)state;
    const char *text = "a \xc3\xa9 \xe2\x82\xac \xf0\x9f\x8c\xb8";
    expect(text, strlen(text), false, text, strlen(text));
    assert_int_equal(whole_prefix(text, strlen(text)), strlen(text));
}

static void a_character_that_is_cut_off_waits_for_its_rest(void **state) {
    (void)state;
    const char *flower = "a\xf0\x9f\x8c\xb8";
    for (size_t size = 2; size < 5; size++) expect(flower, size, false, "a", 1);
    expect(flower, 5, false, flower, 5);
    assert_int_equal(whole_prefix(flower, 4), 1);
}

static void at_the_end_what_is_cut_off_is_replaced(void **state) {
    (void)state;
    expect("a\xe2\x82", 3, true, "a" FFFD FFFD, 3);
}

static void bytes_that_are_no_character_are_replaced(void **state) {
    (void)state;
    expect("a\x80z", 3, false, "a" FFFD "z", 3);         /* a continuation without a start */
    expect("\xc0\xaf", 2, false, FFFD FFFD, 2);          /* overlong */
    expect("\xed\xa0\x80", 3, false, FFFD FFFD FFFD, 3); /* surrogate */
    expect("\xf5\x80", 2, false, FFFD FFFD, 2);          /* past U+10FFFF */
    expect("\xe2\x28\xa1", 3, false, FFFD "(" FFFD, 3);  /* broken off by another character */
    expect("x\0y", 3, false, "x" FFFD "y", 3);           /* NUL would end the string */
    assert_int_equal(whole_prefix("ok\xff", 3), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_characters_stay_as_they_are),
        cmocka_unit_test(a_character_that_is_cut_off_waits_for_its_rest),
        cmocka_unit_test(at_the_end_what_is_cut_off_is_replaced),
        cmocka_unit_test(bytes_that_are_no_character_are_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
