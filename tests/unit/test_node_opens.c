/* test_node_opens.c - sessions that cannot be opened, each refused with a status of its own; servers and other sessions go on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/span.h"
#include "node/sessions.h"
#include "support/stage.h"

static void opens_that_cannot_be_are_refused_each_with_its_own_status(void **state) {
    (void)state;
    struct session_at s = session_prepare(1, SESSION_TOKENS);
    struct session_at twice = session_open(1);
    s.open.begin = cuts[1] - 1;
    expect_failed(session_ask(&s), COROLLA_NOT_SERVED, NULL);
    s.open.begin = cuts[1];
    s.open.end = cuts[2] + 1;
    expect_failed(session_ask(&s), COROLLA_NOT_SERVED, NULL);
    s.open.end = cuts[2];
    s.open.max_tokens = 100000;
    expect_failed(session_ask(&s), COROLLA_TOO_LONG, NULL);
    s.open.max_tokens = SESSION_TOKENS;
    s.open.model[0] ^= 1;
    expect_failed(session_ask(&s), COROLLA_MODEL_MISMATCH, NULL);
    s.open.model[0] ^= 1;
    memcpy(s.open.session, twice.open.session, SESSION_SIZE);
    expect_failed(session_ask(&s), COROLLA_REFUSED, NULL);
    session_close(&twice);
    servers_work();
}

static void a_full_pool_says_what_is_left_and_is_freed_by_close(void **state) {
    (void)state;
    enum { MANY = 32 };
    struct session_at open[MANY], one_more;
    struct msg_failed failed;
    uint32_t n = 0;
    for (;;) {
        struct session_at s = session_prepare(0, 512);
        struct received *r = session_ask(&s);
        if (r->kind == MSG_FAILED) {
            expect_failed(r, COROLLA_NO_CACHE, &failed);
            break;
        }
        struct msg_opened opened;
        assert_int_equal(msg_opened_decode(r->header, r->header_size, &opened, NULL), COROLLA_OK);
        memcpy(s.secret, opened.secret, SECRET_SIZE);
        received_free(r);
        assert_true(n < MANY);
        open[n++] = s;
    }
    assert_int_equal(n, CACHE_TOKENS / 512);
    assert_int_equal(failed.cache_tokens_left, CACHE_TOKENS % 512);
    assert_true(failed.retry_after_ms > 0);
    session_close(&open[--n]);
    one_more = session_prepare(0, 512);
    one_more.stream = open[n].stream; /* in order behind the CLOSE */
    session_open_sent(&one_more);
    session_close(&one_more);
    for (uint32_t i = 0; i < n; i++) session_close(&open[i]);
    for (uint32_t i = 0; i < n; i++) { /* all of them are closed when the last stream answers */
        one_more = session_prepare(0, 512);
        one_more.stream = open[i].stream;
        session_open_sent(&one_more);
        session_close(&one_more);
    }
    servers_work();
}

static void one_client_has_a_bounded_number_of_sessions(void **state) {
    (void)state;
    struct session_at *open = calloc(SESSIONS_PER_CLIENT_MAX, sizeof *open);
    for (uint32_t i = 0; i < SESSIONS_PER_CLIENT_MAX; i++) {
        open[i] = session_prepare(0, KV_PAD);
        session_open_sent(&open[i]);
    }
    struct session_at s = session_prepare(0, KV_PAD);
    struct msg_failed failed;
    expect_failed(session_ask(&s), COROLLA_BUSY, &failed);
    assert_true(failed.retry_after_ms > 0);
    for (uint32_t i = 0; i < SESSIONS_PER_CLIENT_MAX; i++) {
        open[i].stream = open[0].stream; /* one order for all, and for the next */
        session_close(&open[i]);
    }
    s.stream = open[0].stream;
    session_open_sent(&s);
    session_close(&s);
    free(open);
    servers_work();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_that_cannot_be_are_refused_each_with_its_own_status),
        cmocka_unit_test(a_full_pool_says_what_is_left_and_is_freed_by_close),
        cmocka_unit_test(one_client_has_a_bounded_number_of_sessions),
    };
    return cmocka_run_group_tests(tests, stage_open, stage_close);
}
