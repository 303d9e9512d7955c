/* test_err.c - messages of errors, and the texts of the status codes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static void every_status_has_a_name_and_a_message(void **state) {
    (void)state;
    for (int i = 0; i < COROLLA_STATUS_COUNT; i++) {
        assert_true(strlen(corolla_status_name((enum corolla_status)i)) > 1);
        assert_true(strlen(corolla_status_message((enum corolla_status)i)) > 3);
    }
    assert_string_equal(corolla_status_name(COROLLA_NO_CACHE), "NO_CACHE");
    assert_string_equal(corolla_status_name(COROLLA_STATUS_COUNT), "UNKNOWN");
    assert_string_equal(corolla_status_message((enum corolla_status) - 1), "unknown status");
}

static void numbers_on_the_wire_stay(void **state) {
    (void)state;
    /* docs/PROTOCOL.md lists these: a change breaks every peer that is out there. */
    assert_int_equal(COROLLA_OK, 0);
    assert_int_equal(COROLLA_FORMAT, 5);
    assert_int_equal(COROLLA_NO_CACHE, 9);
    assert_int_equal(COROLLA_PEER_LOST, 14);
    assert_int_equal(COROLLA_VERSION_MISMATCH, 19);
    assert_int_equal(COROLLA_INTERNAL, 23);
}

static void set_returns_its_status_also_without_an_object(void **state) {
    (void)state;
    struct corolla_error err;
    assert_int_equal(err_set(NULL, COROLLA_BUSY, "x %d", 1), COROLLA_BUSY);
    assert_int_equal(err_set(&err, COROLLA_TIMEOUT, "no answer in %d ms", 20), COROLLA_TIMEOUT);
    assert_int_equal(err.status, COROLLA_TIMEOUT);
    assert_string_equal(err.message, "no answer in 20 ms");
}

static void a_hostile_text_cannot_steer_a_terminal(void **state) {
    (void)state;
    struct corolla_error err;
    err_set(&err, COROLLA_REFUSED, "peer says: %s",
            "a\x1b[2J\r\nb\x7f\xc2\x9b"
            "c\xff\xe2\x80\xae"
            "d");
    assert_string_equal(err.message, "peer says: a [2J  b  c? d");
}

static void a_long_message_is_cut_between_characters(void **state) {
    (void)state;
    struct corolla_error err;
    char text[2001];
    for (int i = 0; i < 1000; i++) {
        memcpy(text + 2 * i, "\xc3\xa9", 2); /* e acute */
    }
    text[2000] = '\0';
    err_set(&err, COROLLA_IO, "%s", text);
    assert_int_equal(strlen(err.message), 510);
    err_set(&err, COROLLA_IO, "x%s", text);
    assert_int_equal(strlen(err.message), 511);
}

static void set_may_quote_the_message_it_replaces(void **state) {
    (void)state;
    struct corolla_error err;
    err_set(&err, COROLLA_IO, "inner");
    err_set(&err, COROLLA_PEER_LOST, "outer (%s)", err.message);
    assert_string_equal(err.message, "outer (inner)");
}

static void a_prefix_keeps_status_and_cause(void **state) {
    (void)state;
    struct corolla_error err;
    err_set(&err, COROLLA_IO, "disk full");
    assert_int_equal(err_prefix(&err, COROLLA_INTERNAL, "block %d", 7), COROLLA_IO);
    assert_string_equal(err.message, "block 7: disk full");
    assert_int_equal(err_prefix(NULL, COROLLA_INTERNAL, "block %d", 7), COROLLA_INTERNAL);
    char text[600];
    memset(text, 'p', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    err_prefix(&err, COROLLA_IO, "%s", text);
    assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_a_name_and_a_message),
        cmocka_unit_test(numbers_on_the_wire_stay),
        cmocka_unit_test(set_returns_its_status_also_without_an_object),
        cmocka_unit_test(a_hostile_text_cannot_steer_a_terminal),
        cmocka_unit_test(a_long_message_is_cut_between_characters),
        cmocka_unit_test(set_may_quote_the_message_it_replaces),
        cmocka_unit_test(a_prefix_keeps_status_and_cause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
