/* test_node_fork.c - sessions that begin as copies of others: the same bits, independence, and hostile parents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/stage.h"

#define HELD 8 /* rows of session_with_rows() */

static struct session_at fork_prepare(const struct session_at *parent, uint32_t length) {
    struct session_at fork = session_prepare(parent->server, SESSION_TOKENS);
    fork.open.has_parent = true;
    fork.open.parent_length = length;
    memcpy(fork.open.parent, parent->open.session, SESSION_SIZE);
    memcpy(fork.open.parent_secret, parent->secret, SECRET_SIZE);
    return fork;
}

static void a_fork_goes_on_with_the_bits_of_its_parent_and_by_itself(void **state) {
    (void)state;
    struct session_at parent = session_with_rows(), fork = fork_prepare(&parent, HELD), second = fork_prepare(&parent, HELD);
    session_open_sent(&fork);
    session_open_sent(&second);
    session_goes_on(&fork);
    session_goes_on(&parent); /* closed */
    session_goes_on(&second); /* it needs nobody */
}

static void a_fork_of_the_beginning_only_holds_that(void **state) {
    (void)state;
    struct session_at parent = session_with_rows(), fork = fork_prepare(&parent, HELD - 1);
    session_open_sent(&fork);
    step_prepare(&fork, HELD, 1);
    step_send(&fork, prompt, row_bytes());
    expect_failed(answer(&fork), COROLLA_BAD_POSITION, NULL);
    session_close(&fork);
    session_goes_on(&parent);
}

static void a_fork_of_more_than_there_is_is_refused_and_leaves_nothing(void **state) {
    (void)state;
    struct session_at parent = session_with_rows(), fork = fork_prepare(&parent, HELD + 1);
    expect_failed(session_ask(&fork), COROLLA_BAD_POSITION, NULL);
    fork.open.parent_length = HELD; /* the same id is free again */
    session_open_sent(&fork);
    session_close(&fork);
    session_goes_on(&parent);
}

/* All of these look alike to who asks. */
static void who_does_not_have_the_parent_cannot_fork_it(void **state) {
    (void)state;
    struct session_at parent = session_with_rows(), fork = fork_prepare(&parent, HELD);
    fork.open.parent_secret[0] ^= 1;
    expect_failed(session_ask(&fork), COROLLA_NO_SESSION, NULL);
    fork = fork_prepare(&parent, HELD);
    fork.open.parent[0] ^= 1;
    expect_failed(session_ask(&fork), COROLLA_NO_SESSION, NULL);
    fork = fork_prepare(&parent, HELD);
    if (fork.open.end - fork.open.begin > 1) {
        fork.open.end--;
        expect_failed(session_ask(&fork), COROLLA_NO_SESSION, NULL);
    }
    struct client stranger = {.driver = driver_open()};
    client_enter(&stranger);
    fork = fork_prepare(&parent, HELD);
    expect_failed(session_ask(&fork), COROLLA_NO_SESSION, NULL);
    client_leave(&stranger);
    driver_close(stranger.driver);
    session_goes_on(&parent);
}

static void a_session_cannot_be_its_own_parent(void **state) {
    (void)state;
    struct session_at self = session_prepare(0, SESSION_TOKENS);
    self.open.has_parent = true;
    memcpy(self.open.parent, self.open.session, SESSION_SIZE);
    expect_failed(session_ask(&self), COROLLA_NO_SESSION, NULL);
    servers_work();
}

static void a_parent_that_is_closed_at_once_is_copied_all_the_same(void **state) {
    (void)state;
    struct session_at parent = session_with_rows(), fork = fork_prepare(&parent, HELD);
    fork.stream = driver_stream(driver, links[0]);
    uint8_t header[MSG_HEADER_MAX];
    driver_send(driver, links[0], fork.stream, MSG_OPEN, header, msg_open_encode(&fork.open, header), NULL, 0);
    session_close(&parent);
    struct received *r = answer(&fork);
    struct msg_opened opened;
    assert_int_equal(r->kind, MSG_OPENED);
    assert_int_equal(msg_opened_decode(r->header, r->header_size, &opened, NULL), COROLLA_OK);
    memcpy(fork.secret, opened.secret, SECRET_SIZE);
    received_free(r);
    session_goes_on(&fork);
}

/* ---- steps with a parent ---------------------------------------------------------------------------------------- */

/* Rows of the prompt from position on, behind what the parent has in [shared, position). */
static void step_behind(const struct session_at *s, const struct session_at *parent, uint32_t shared, uint32_t position, uint32_t n) {
    step_prepare(s, position, n);
    message.has_parent = true;
    memcpy(message.parent, parent->open.session, SESSION_SIZE);
    message.shared = shared;
    step_send(s, prompt + (size_t)position * n_embd, n * row_bytes());
}

/* A session whose first rows are those of session_with_rows(), and the next ones others. */
static struct session_at session_that_went_astray(uint32_t shared) {
    struct session_at s = session_open(0);
    step_prepare(&s, 0, shared);
    step_send(&s, prompt, shared * row_bytes());
    expect_result(answer(&s), NULL);
    step_prepare(&s, shared, 2);
    step_send(&s, prompt + (size_t)20 * n_embd, 2 * row_bytes());
    expect_result(answer(&s), NULL);
    return s;
}

static void a_step_continues_another_session(void **state) {
    (void)state;
    float *rows = malloc(2 * row_bytes());
    struct session_at parent = session_with_rows(), s = session_that_went_astray(3);
    step_behind(&s, &parent, 3, HELD - 1, 1);
    expect_result(answer(&s), rows);
    step_prepare(&parent, HELD - 1, 1);
    step_send(&parent, prompt + (HELD - 1) * (size_t)n_embd, row_bytes());
    expect_result(answer(&parent), rows + n_embd);
    assert_memory_equal(rows, rows + n_embd, row_bytes());
    free(rows);
    session_goes_on(&parent); /* closed */
    session_goes_on(&s);
}

static void steps_that_continue_what_is_not_there_are_refused(void **state) {
    (void)state;
    struct session_at parent = session_with_rows(), s = session_that_went_astray(3), stranger = parent;
    stranger.open.session[0] ^= 1;
    const struct session_at *parents[] = {&stranger, &s};
    for (uint32_t i = 0; i < 2; i++) {
        step_behind(&s, parents[i], 3, 5, 1);
        expect_failed(answer(&s), COROLLA_BAD_POSITION, NULL);
    }
    step_behind(&s, &parent, 6, 7, 1); /* it shares no more than the 5 that it has */
    expect_failed(answer(&s), COROLLA_BAD_POSITION, NULL);
    step_behind(&s, &parent, 3, HELD + 1, 1); /* more than the parent has; what the session shares with it stays */
    expect_failed(answer(&s), COROLLA_BAD_POSITION, NULL);
    step_prepare(&s, 4, 1);
    step_send(&s, prompt, row_bytes());
    expect_failed(answer(&s), COROLLA_BAD_POSITION, NULL);
    step_behind(&s, &parent, 3, HELD, 1);
    expect_result(answer(&s), NULL);
    session_goes_on(&s);
    session_goes_on(&parent);
}

static void nobody_continues_the_session_of_another_client(void **state) {
    (void)state;
    struct session_at parent = session_with_rows();
    struct client thief = {.driver = driver_open()};
    client_enter(&thief);
    struct session_at s = session_that_went_astray(3);
    step_behind(&s, &parent, 3, HELD, 1);
    expect_failed(answer(&s), COROLLA_BAD_POSITION, NULL);
    session_close(&s);
    client_leave(&thief);
    driver_close(thief.driver);
    session_goes_on(&parent);
}

static void a_session_of_other_blocks_is_not_continued(void **state) {
    (void)state;
    struct session_at parent = session_with_rows(), s = session_prepare(0, SESSION_TOKENS);
    assert_true(s.open.end - s.open.begin > 1);
    s.open.end--;
    session_open_sent(&s);
    step_behind(&s, &parent, 0, HELD, 1);
    expect_failed(answer(&s), COROLLA_BAD_POSITION, NULL);
    session_close(&s);
    session_goes_on(&parent);
}

static void a_parent_that_is_closed_at_once_is_continued_all_the_same(void **state) {
    (void)state;
    struct session_at parent = session_with_rows(), s = session_that_went_astray(3);
    step_behind(&s, &parent, 3, HELD - 1, 1);
    session_close(&parent);
    expect_result(answer(&s), NULL);
    session_goes_on(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fork_goes_on_with_the_bits_of_its_parent_and_by_itself),
        cmocka_unit_test(a_fork_of_the_beginning_only_holds_that),
        cmocka_unit_test(a_fork_of_more_than_there_is_is_refused_and_leaves_nothing),
        cmocka_unit_test(who_does_not_have_the_parent_cannot_fork_it),
        cmocka_unit_test(a_session_cannot_be_its_own_parent),
        cmocka_unit_test(a_parent_that_is_closed_at_once_is_copied_all_the_same),
        cmocka_unit_test(a_step_continues_another_session),
        cmocka_unit_test(steps_that_continue_what_is_not_there_are_refused),
        cmocka_unit_test(nobody_continues_the_session_of_another_client),
        cmocka_unit_test(a_session_of_other_blocks_is_not_continued),
        cmocka_unit_test(a_parent_that_is_closed_at_once_is_continued_all_the_same),
    };
    return cmocka_run_group_tests(tests, stage_open, stage_close);
}
