/* test_log.c - the log sink. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"

struct captured {
    int lines;
    enum corolla_log_level level;
    char last[2048];
};

static void capture(void *user, enum corolla_log_level level, const char *line) {
    struct captured *c = user;
    c->lines++;
    c->level = level;
    snprintf(c->last, sizeof(c->last), "%s", line);
    log_error("logged by the sink itself");
}

static void a_line_reaches_the_sink_with_its_level(void **state) {
    (void)state;
    struct captured c = {0};
    corolla_log_set(COROLLA_LOG_INFO, capture, &c);
    log_info("link_up peer=%s rtt_us=%d", "abc", 120);
    assert_int_equal(c.lines, 1);
    assert_int_equal(c.level, COROLLA_LOG_INFO);
    assert_string_equal(c.last, "link_up peer=abc rtt_us=120");
}

static void what_is_below_the_level_is_dropped(void **state) {
    (void)state;
    struct captured c = {0};
    corolla_log_set(COROLLA_LOG_WARN, capture, &c);
    log_info("x");
    log_debug("x");
    assert_false(log_enabled(COROLLA_LOG_INFO));
    assert_true(log_enabled(COROLLA_LOG_ERROR));
    assert_int_equal(c.lines, 0);
    log_warn("x");
    assert_int_equal(c.lines, 1);
}

static void a_line_is_one_line_and_bounded(void **state) {
    (void)state;
    struct captured c = {0};
    char text[5000];
    memset(text, 'y', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    corolla_log_set(COROLLA_LOG_DEBUG, capture, &c);
    log_debug("peer_says text=%s", "a\nerror forged=1\x1b[0m");
    assert_string_equal(c.last, "peer_says text=a error forged=1 [0m");
    log_debug("%s", text);
    assert_int_equal(strlen(c.last), 1023);
}

static int back_to_stderr(void **state) {
    (void)state;
    corolla_log_set(COROLLA_LOG_WARN, NULL, NULL);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_line_reaches_the_sink_with_its_level, back_to_stderr),
        cmocka_unit_test_teardown(what_is_below_the_level_is_dropped, back_to_stderr),
        cmocka_unit_test_teardown(a_line_is_one_line_and_bounded, back_to_stderr),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
