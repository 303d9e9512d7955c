/* test_node_schedule.c - which waiting steps compute next. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "node/schedule.h"
#include "node/step.h"

#define CANDIDATES_MAX 200

static struct schedule_candidate candidates[CANDIDATES_MAX];
static struct schedule_pick chosen[BATCH_ITEMS_MAX];

static struct schedule_candidate of(uint32_t n_tokens, uint32_t begin, uint32_t end) {
    return (struct schedule_candidate){.decode = n_tokens <= STEP_DECODE_ROWS_MAX, .rows = n_tokens, .begin = begin, .end = end};
}

static void nobody_waits_then_nobody_computes(void **state) {
    (void)state;
    struct schedule schedule = {0};
    assert_int_equal(schedule_next(&schedule, candidates, 0, chosen), 0);
}

static void decode_steps_of_all_sessions_share_a_turn(void **state) {
    (void)state;
    struct schedule schedule = {0};
    for (uint32_t i = 0; i < 10; i++) candidates[i] = of(1 + i % 3, 0, 4);
    assert_int_equal(schedule_next(&schedule, candidates, 10, chosen), 10);
    for (uint32_t i = 0; i < 10; i++) assert_int_equal(chosen[i].index, i);
}

static void a_turn_keeps_to_the_blocks_of_its_oldest_step(void **state) {
    (void)state;
    struct schedule schedule = {0};
    candidates[0] = of(1, 0, 4);
    candidates[1] = of(1, 1, 4);
    candidates[2] = of(1, 0, 3);
    candidates[3] = of(1, 0, 4);
    assert_int_equal(schedule_next(&schedule, candidates, 4, chosen), 2);
    assert_int_equal(chosen[0].index, 0);
    assert_int_equal(chosen[1].index, 3);
}

static void a_turn_keeps_within_the_items_of_a_batch(void **state) {
    (void)state;
    struct schedule schedule = {0};
    for (uint32_t i = 0; i < CANDIDATES_MAX; i++) candidates[i] = of(1, 0, 4);
    assert_int_equal(schedule_next(&schedule, candidates, CANDIDATES_MAX, chosen), BATCH_ITEMS_MAX);
}

static void a_turn_keeps_within_the_rows_of_a_batch(void **state) {
    (void)state;
    struct schedule schedule = {0};
    for (uint32_t i = 0; i < 40; i++) candidates[i] = of(STEP_DECODE_ROWS_MAX - 1, 0, 4);
    uint32_t n = schedule_next(&schedule, candidates, 40, chosen), rows = 0;
    for (uint32_t i = 0; i < n; i++) rows += chosen[i].rows;
    assert_int_equal(n, BATCH_ROWS_MAX / (STEP_DECODE_ROWS_MAX - 1));
    assert_in_range(rows, BATCH_ROWS_MAX - STEP_DECODE_ROWS_MAX, BATCH_ROWS_MAX);
}

static void a_small_step_fills_what_a_larger_one_leaves(void **state) {
    (void)state;
    struct schedule schedule = {0};
    for (uint32_t i = 0; i < 17; i++) candidates[i] = of(15, 0, 4); /* 17 * 15 = 255 */
    candidates[17] = of(2, 0, 4);
    candidates[18] = of(1, 0, 4);
    assert_int_equal(schedule_next(&schedule, candidates, 19, chosen), 18);
    assert_int_equal(chosen[17].index, 18);
}

static void a_prefill_step_computes_alone(void **state) {
    (void)state;
    struct schedule schedule = {0};
    for (uint32_t i = 0; i < 3; i++) candidates[i] = of(128, 0, 4);
    assert_int_equal(schedule_next(&schedule, candidates, 3, chosen), 1);
    assert_int_equal(chosen[0].index, 0);
    assert_int_equal(chosen[0].rows, 128);
}

static void a_prefill_step_is_cut_at_the_rows_of_a_batch(void **state) {
    (void)state;
    struct schedule schedule = {0};
    candidates[0] = of(BATCH_ROWS_MAX + 1, 0, 4);
    assert_int_equal(schedule_next(&schedule, candidates, 1, chosen), 1);
    assert_int_equal(chosen[0].rows, BATCH_ROWS_MAX);
}

static void prefill_turns_are_short_while_decode_is_about(void **state) {
    (void)state;
    struct schedule schedule = {0};
    candidates[0] = of(200, 0, 4);
    candidates[1] = of(1, 0, 4);
    schedule_next(&schedule, candidates, 2, chosen); /* the decode */
    for (uint32_t turn = 0; turn < SCHEDULE_MIXED_TURNS; turn++) {
        assert_int_equal(schedule_next(&schedule, candidates, 1, chosen), 1);
        assert_int_equal(chosen[0].rows, SCHEDULE_MIXED_ROWS);
    }
    assert_int_equal(schedule_next(&schedule, candidates, 1, chosen), 1);
    assert_int_equal(chosen[0].rows, 200);
    candidates[0].rows = 5; /* the rest of a long step */
    schedule.decode_was_last = true;
    assert_int_equal(schedule_next(&schedule, candidates, 2, chosen), 1);
    assert_int_equal(chosen[0].rows, 5);
}

static void prefill_and_decode_alternate_while_both_wait(void **state) {
    (void)state;
    struct schedule schedule = {0};
    candidates[0] = of(128, 0, 4);
    candidates[1] = of(1, 0, 4);
    candidates[2] = of(1, 0, 4);
    uint32_t prefills = 0;
    for (uint32_t turn = 0; turn < 10; turn++) {
        uint32_t n = schedule_next(&schedule, candidates, 3, chosen);
        bool prefill = chosen[0].index == 0;
        assert_int_equal(n, prefill ? 1 : 2);
        assert_int_equal(prefill, turn % 2);
        prefills += prefill;
    }
    assert_int_equal(prefills, 5);
}

static void the_first_step_past_decode_is_prefill(void **state) {
    (void)state;
    struct schedule schedule = {0};
    candidates[0] = of(STEP_DECODE_ROWS_MAX, 0, 4);
    candidates[1] = of(STEP_DECODE_ROWS_MAX + 1, 0, 4);
    assert_int_equal(schedule_next(&schedule, candidates, 2, chosen), 1);
    assert_int_equal(chosen[0].index, 0);
    assert_int_equal(schedule_next(&schedule, candidates, 2, chosen), 1);
    assert_int_equal(chosen[0].index, 1);
}

/* Every session comes back at the end of the list, as in compute.c: none may be passed over for ever. */
static void nobody_starves(void **state) {
    (void)state;
    struct schedule schedule = {0};
    uint32_t ids[12], served[12] = {0};
    struct schedule_candidate kinds[12];
    for (uint32_t i = 0; i < 12; i++) {
        ids[i] = i;
        kinds[i] = of(i % 4 == 0 ? 100 : 1, 0, i % 3 == 0 ? 4 : 3);
    }
    for (uint32_t turn = 0; turn < 60; turn++) {
        bool taken[12] = {false};
        uint32_t order[12], n_order = 0;
        for (uint32_t i = 0; i < 12; i++) candidates[i] = kinds[ids[i]];
        uint32_t n = schedule_next(&schedule, candidates, 12, chosen);
        for (uint32_t i = 0; i < n; i++) taken[chosen[i].index] = true;
        for (uint32_t i = 0; i < 12; i++)
            if (!taken[i]) order[n_order++] = ids[i];
        for (uint32_t i = 0; i < 12; i++) {
            if (!taken[i]) continue;
            served[ids[i]]++;
            order[n_order++] = ids[i];
        }
        for (uint32_t i = 0; i < 12; i++) ids[i] = order[i];
    }
    for (uint32_t i = 0; i < 12; i++)
        if (served[i] < 5) fail_msg("session %u had %u of 60 turns", i, served[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_waits_then_nobody_computes),
        cmocka_unit_test(decode_steps_of_all_sessions_share_a_turn),
        cmocka_unit_test(a_turn_keeps_to_the_blocks_of_its_oldest_step),
        cmocka_unit_test(a_turn_keeps_within_the_items_of_a_batch),
        cmocka_unit_test(a_turn_keeps_within_the_rows_of_a_batch),
        cmocka_unit_test(a_small_step_fills_what_a_larger_one_leaves),
        cmocka_unit_test(a_prefill_step_computes_alone),
        cmocka_unit_test(a_prefill_step_is_cut_at_the_rows_of_a_batch),
        cmocka_unit_test(prefill_turns_are_short_while_decode_is_about),
        cmocka_unit_test(prefill_and_decode_alternate_while_both_wait),
        cmocka_unit_test(the_first_step_past_decode_is_prefill),
        cmocka_unit_test(nobody_starves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
