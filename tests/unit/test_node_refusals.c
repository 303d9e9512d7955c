/* test_node_refusals.c - steps that cannot be done get each its own typed error, and leave servers and sessions working. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "model/convert.h"
#include "model/span.h"
#include "support/stage.h"

static void a_step_past_the_length_of_the_session_is_too_long(void **state) {
    (void)state;
    struct session_at s = session_with_rows();
    uint8_t *body = calloc(SESSION_TOKENS, row_bytes());
    step_prepare(&s, 8, SESSION_TOKENS - 8 + 1)->n_rows = 1;
    step_send(&s, body, (SESSION_TOKENS - 8 + 1) * row_bytes());
    struct msg_failed failed;
    expect_failed(answer(&s), COROLLA_TOO_LONG, &failed);
    assert_int_equal(failed.position, 8);
    free(body);
    session_goes_on(&s);
}

static void a_step_out_of_order_is_refused(void **state) {
    (void)state;
    struct session_at s = session_with_rows();
    step_prepare(&s, 9, 1);
    step_send(&s, prompt, row_bytes());
    struct msg_failed failed;
    expect_failed(answer(&s), COROLLA_BAD_POSITION, &failed);
    assert_int_equal(failed.position, 9);
    session_goes_on(&s);
}

static void an_unknown_session_is_no_session(void **state) {
    (void)state;
    struct session_at s = session_with_rows(), unknown = s;
    unknown.open.session[3] ^= 1;
    step_prepare(&unknown, 8, 1);
    step_send(&unknown, prompt, row_bytes());
    expect_failed(answer(&s), COROLLA_NO_SESSION, NULL);
    struct session_at closed = session_open(0);
    session_close(&closed);
    step_prepare(&closed, 0, 1);
    step_send(&closed, prompt, row_bytes());
    expect_failed(answer(&closed), COROLLA_NO_SESSION, NULL);
    session_goes_on(&s);
}

static void a_wrong_secret_neither_steps_nor_closes(void **state) {
    (void)state;
    struct session_at s = session_with_rows(), wrong = s;
    wrong.secret[SECRET_SIZE - 1] ^= 1;
    step_prepare(&wrong, 8, 1);
    step_send(&wrong, prompt, row_bytes());
    expect_failed(answer(&s), COROLLA_REFUSED, NULL);
    session_close(&wrong);
    session_goes_on(&s);
}

static void a_stranger_who_knows_the_secret_neither_steps_nor_closes(void **state) {
    (void)state;
    struct session_at s = session_with_rows();
    struct driver *stranger = driver_open();
    struct link *link = driver_dial(stranger, corolla_server_join_code(servers[0]), NULL);
    uint32_t stream = driver_stream(stranger, link);
    uint8_t header[MSG_HEADER_MAX];
    struct msg_close close;
    memcpy(close.session, s.open.session, SESSION_SIZE);
    memcpy(close.secret, s.secret, SECRET_SIZE);
    driver_send(stranger, link, stream, MSG_CLOSE, header, msg_close_encode(&close, header), NULL, 0);
    step_prepare(&s, 0, 1); /* in the client's name: it would roll the session back */
    driver_send(stranger, link, stream, MSG_STEP, header, msg_step_encode(&message, header), prompt, row_bytes());
    message.client = driver_self(stranger)->id;
    driver_send(stranger, link, stream, MSG_STEP, header, msg_step_encode(&message, header), prompt, row_bytes());
    expect_failed(driver_receive(stranger, link, stream), COROLLA_REFUSED, NULL);
    assert_int_equal(driver_pending(driver, links[0], s.stream), 0); /* the client was not bothered */
    driver_close(stranger);
    session_goes_on(&s);
}

static void a_body_of_another_size_is_malformed(void **state) {
    (void)state;
    struct session_at s = session_with_rows();
    size_t sizes[] = {0, 1, row_bytes() - 4, row_bytes() + 4, 2 * row_bytes()};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        step_prepare(&s, 8, 1);
        step_send(&s, prompt, sizes[i]);
        expect_failed(answer(&s), COROLLA_FORMAT, NULL);
    }
    session_goes_on(&s);
}

static void a_step_of_more_rows_than_a_batch_is_invalid(void **state) {
    (void)state;
    struct session_at s = session_with_rows();
    size_t size = (BATCH_ROWS_MAX + 1) * row_bytes();
    uint8_t *body = calloc(1, size);
    step_prepare(&s, 0, BATCH_ROWS_MAX + 1)->n_rows = 1;
    step_send(&s, body, size);
    expect_failed(answer(&s), COROLLA_INVALID, NULL);
    free(body);
    session_goes_on(&s);
}

static void numbers_that_are_not_finite_are_refused_in_every_wire_type(void **state) {
    (void)state;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    struct session_at s = session_with_rows();
    float *rows = malloc(3 * row_bytes());
    uint8_t *body = malloc(3 * row_bytes());
    for (int wire = COROLLA_WIRE_F32; wire <= COROLLA_WIRE_BF16; wire++) {
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
            memcpy(rows, prompt, 3 * row_bytes());
            rows[3 * n_embd - 1] = bad[i];
            convert_from_f32((enum corolla_wire)wire, rows, body, 3 * n_embd);
            step_prepare(&s, 8, 3)->dtype = (enum corolla_wire)wire;
            step_send(&s, body, 3 * n_embd * msg_wire_size((enum corolla_wire)wire));
            expect_failed(answer(&s), COROLLA_FORMAT, NULL);
        }
    }
    free(rows);
    free(body);
    session_goes_on(&s);
}

static void a_bad_step_fails_those_behind_it_and_not_other_sessions(void **state) {
    (void)state;
    struct session_at s = session_with_rows(), other = session_with_rows();
    float *row = malloc(row_bytes());
    memcpy(row, prompt, row_bytes());
    row[0] = NAN;
    step_prepare(&s, 8, 1);
    step_send(&s, row, row_bytes());
    step_prepare(&s, 9, 1);
    step_send(&s, prompt, row_bytes());
    expect_failed(answer(&s), COROLLA_FORMAT, NULL);
    expect_failed(answer(&s), COROLLA_BAD_POSITION, NULL);
    free(row);
    session_goes_on(&other);
    session_goes_on(&s);
}

static void steps_of_an_older_epoch_vanish(void **state) {
    (void)state;
    struct session_at s = session_with_rows();
    step_prepare(&s, 8, 1)->epoch = epoch_of_test + 1;
    step_send(&s, prompt + 8 * n_embd, row_bytes());
    expect_result(answer(&s), NULL);
    step_prepare(&s, 0, 1); /* would roll back */
    step_send(&s, prompt, row_bytes());
    epoch_of_test++;
    session_goes_on(&s); /* whose first answer is the next one */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_past_the_length_of_the_session_is_too_long),
        cmocka_unit_test(a_step_out_of_order_is_refused),
        cmocka_unit_test(an_unknown_session_is_no_session),
        cmocka_unit_test(a_wrong_secret_neither_steps_nor_closes),
        cmocka_unit_test(a_stranger_who_knows_the_secret_neither_steps_nor_closes),
        cmocka_unit_test(a_body_of_another_size_is_malformed),
        cmocka_unit_test(a_step_of_more_rows_than_a_batch_is_invalid),
        cmocka_unit_test(numbers_that_are_not_finite_are_refused_in_every_wire_type),
        cmocka_unit_test(a_bad_step_fails_those_behind_it_and_not_other_sessions),
        cmocka_unit_test(steps_of_an_older_epoch_vanish),
    };
    return cmocka_run_group_tests(tests, stage_open, stage_close);
}
