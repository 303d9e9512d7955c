/* test_node_steps.c - what three servers compute, step by step, and which rows come back. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "model/convert.h"
#include "support/stage.h"

static void a_chain_of_servers_gives_the_bits_of_one_span(void **state) {
    (void)state;
    struct sessions_all all;
    all_open(&all);
    all_step(&all, 0, 7);
    all_step(&all, 7, 20);
    all_step(&all, 27, 1);
    all_step(&all, 5, 30); /* rolled back */
    all_step(&all, 35, 5);
    all_close(&all);
}

static void steps_that_follow_each_other_closely_keep_their_order(void **state) {
    (void)state;
    struct sessions_all all;
    float *out = malloc(row_bytes());
    all_open(&all);
    for (uint32_t i = 0; i < ROWS; i++) {
        all_prepare(&all, i, 1);
        step_send(&all.at[0], prompt + (size_t)i * n_embd, row_bytes());
    }
    for (uint32_t i = 0; i < ROWS; i++) {
        message.position = i;
        expect_result(answer(&all.at[N_SERVERS - 1]), out);
        assert_memory_equal(out, expected + (size_t)i * n_embd, row_bytes());
    }
    free(out);
    all_close(&all);
}

static void only_the_last_rows_come_back_when_so_asked(void **state) {
    (void)state;
    struct session_at s = session_open(0);
    float *rows = malloc(4 * row_bytes());
    step_prepare(&s, 0, 4);
    step_send(&s, prompt, 4 * row_bytes());
    expect_result(answer(&s), rows);
    step_prepare(&s, 0, 4)->n_rows = 1;
    step_send(&s, prompt, 4 * row_bytes());
    float *last = malloc(row_bytes());
    expect_result(answer(&s), last);
    assert_memory_equal(last, rows + 3 * n_embd, row_bytes());
    step_prepare(&s, 0, 4)->n_rows = 0;
    step_send(&s, prompt, 4 * row_bytes());
    struct received *r = answer(&s);
    assert_int_equal(r->body_size, 0);
    expect_result(r, NULL);
    free(rows);
    free(last);
    session_close(&s);
}

static void rows_of_16_bits_come_back_close(void **state) {
    (void)state;
    struct session_at s = session_open(0);
    float *exact = malloc(4 * row_bytes()), *near = malloc(4 * row_bytes());
    step_prepare(&s, 0, 4);
    step_send(&s, prompt, 4 * row_bytes());
    expect_result(answer(&s), exact);
    for (int wire = COROLLA_WIRE_F16; wire <= COROLLA_WIRE_BF16; wire++) {
        uint16_t *body = malloc(4 * n_embd * sizeof *body);
        convert_from_f32((enum corolla_wire)wire, prompt, body, 4 * n_embd);
        step_prepare(&s, 0, 4)->dtype = (enum corolla_wire)wire;
        step_send(&s, body, 4 * n_embd * sizeof *body);
        expect_result(answer(&s), near);
        double difference = 0, size = 0;
        for (uint32_t i = 0; i < 4 * n_embd; i++) {
            difference += pow((double)near[i] - (double)exact[i], 2);
            size += pow((double)exact[i], 2);
        }
        assert_true(difference > 0 && difference < size * 1e-3); /* BF16 has 8 bits; the model is a random one */
        free(body);
    }
    free(exact);
    free(near);
    session_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_of_servers_gives_the_bits_of_one_span),
        cmocka_unit_test(steps_that_follow_each_other_closely_keep_their_order),
        cmocka_unit_test(only_the_last_rows_come_back_when_so_asked),
        cmocka_unit_test(rows_of_16_bits_come_back_close),
    };
    return cmocka_run_group_tests(tests, stage_open, stage_close);
}
