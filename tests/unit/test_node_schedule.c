/* test_node_schedule.c - which waiting steps compute next. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "node/schedule.h"
#include "node/step.h"

#define CANDIDATES_MAX 200

static struct schedule_candidate candidates[CANDIDATES_MAX];
static struct schedule_pick chosen[BATCH_ITEMS_MAX];
static uint64_t now_us;
static struct schedule schedule; /* 60 KiB */

static void schedule_begin(void) {
    memset(&schedule, 0, sizeof schedule);
    now_us = 1;
}

static struct schedule_candidate of(uint32_t n_tokens, uint32_t begin, uint32_t end) {
    return (struct schedule_candidate){.decode = n_tokens <= STEP_DECODE_ROWS_MAX, .rows = n_tokens, .begin = begin, .end = end};
}

static void nobody_waits_then_nobody_computes(void **state) {
    (void)state;
    schedule_begin();
    assert_int_equal(schedule_next(&schedule, candidates, 0, now_us, chosen), 0);
}

static void decode_steps_of_all_sessions_share_a_turn(void **state) {
    (void)state;
    schedule_begin();
    for (uint32_t i = 0; i < 10; i++) candidates[i] = of(1 + i % 3, 0, 4);
    assert_int_equal(schedule_next(&schedule, candidates, 10, now_us, chosen), 10);
    for (uint32_t i = 0; i < 10; i++) assert_int_equal(chosen[i].index, i);
}

static void a_turn_keeps_to_the_blocks_of_its_oldest_step(void **state) {
    (void)state;
    schedule_begin();
    candidates[0] = of(1, 0, 4);
    candidates[1] = of(1, 1, 4);
    candidates[2] = of(1, 0, 3);
    candidates[3] = of(1, 0, 4);
    assert_int_equal(schedule_next(&schedule, candidates, 4, now_us, chosen), 2);
    assert_int_equal(chosen[0].index, 0);
    assert_int_equal(chosen[1].index, 3);
}

static void a_turn_keeps_within_the_items_of_a_batch(void **state) {
    (void)state;
    schedule_begin();
    for (uint32_t i = 0; i < CANDIDATES_MAX; i++) candidates[i] = of(1, 0, 4);
    assert_int_equal(schedule_next(&schedule, candidates, CANDIDATES_MAX, now_us, chosen), BATCH_ITEMS_MAX);
}

static void a_turn_keeps_within_the_rows_of_a_batch(void **state) {
    (void)state;
    schedule_begin();
    for (uint32_t i = 0; i < 40; i++) candidates[i] = of(STEP_DECODE_ROWS_MAX - 1, 0, 4);
    uint32_t n = schedule_next(&schedule, candidates, 40, now_us, chosen), rows = 0;
    for (uint32_t i = 0; i < n; i++) rows += chosen[i].rows;
    assert_int_equal(n, BATCH_ROWS_MAX / (STEP_DECODE_ROWS_MAX - 1));
    assert_in_range(rows, BATCH_ROWS_MAX - STEP_DECODE_ROWS_MAX, BATCH_ROWS_MAX);
}

static void a_small_step_fills_what_a_larger_one_leaves(void **state) {
    (void)state;
    schedule_begin();
    for (uint32_t i = 0; i < 17; i++) candidates[i] = of(15, 0, 4); /* 17 * 15 = 255 */
    candidates[17] = of(2, 0, 4);
    candidates[18] = of(1, 0, 4);
    assert_int_equal(schedule_next(&schedule, candidates, 19, now_us, chosen), 18);
    assert_int_equal(chosen[17].index, 18);
}

static void a_prefill_step_computes_alone(void **state) {
    (void)state;
    schedule_begin();
    for (uint32_t i = 0; i < 3; i++) candidates[i] = of(128, 0, 4);
    assert_int_equal(schedule_next(&schedule, candidates, 3, now_us, chosen), 1);
    assert_int_equal(chosen[0].index, 0);
    assert_int_equal(chosen[0].rows, 128);
}

static void a_prefill_step_is_cut_at_the_rows_of_a_batch(void **state) {
    (void)state;
    schedule_begin();
    candidates[0] = of(BATCH_ROWS_MAX + 1, 0, 4);
    assert_int_equal(schedule_next(&schedule, candidates, 1, now_us, chosen), 1);
    assert_int_equal(chosen[0].rows, BATCH_ROWS_MAX);
}

static void prefill_turns_are_short_while_decode_is_about(void **state) {
    (void)state;
    schedule_begin();
    candidates[0] = of(200, 0, 4);
    candidates[1] = of(1, 0, 4);
    for (uint32_t i = 0; i < 2; i++) { /* two decode turns, 1 ms from one to the other */
        assert_int_equal(schedule_next(&schedule, candidates + 1, 1, now_us, chosen), 1);
        now_us += 1000;
    }
    assert_int_equal(schedule_next(&schedule, candidates, 1, now_us, chosen), 1);
    assert_int_equal(chosen[0].rows, SCHEDULE_PREFILL_ROWS); /* what turns take is not known */
    schedule_note(&schedule, true, 1, 1000, now_us);
    schedule_note(&schedule, false, 10, 2000, now_us);
    assert_int_equal(schedule_next(&schedule, candidates, 1, now_us, chosen), 1);
    assert_int_equal(chosen[0].rows, 2); /* 1,000 us and 111 for each further row are within 1,200 */
    now_us += 1000 * (SCHEDULE_PERIODS + 1);
    assert_int_equal(schedule_next(&schedule, candidates, 1, now_us, chosen), 1);
    assert_int_equal(chosen[0].rows, 200);
}

/* So many decode steps, 1 ms from one to the next. */
static void decode_for(uint32_t n) {
    candidates[1] = of(1, 0, 4);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(schedule_next(&schedule, candidates + 1, 1, now_us, chosen), 1);
        schedule_note(&schedule, true, 1, 900, now_us);
        now_us += 1000;
    }
}

static uint32_t prefill_rows(void) {
    candidates[0] = of(200, 0, 4);
    assert_int_equal(schedule_next(&schedule, candidates, 1, now_us, chosen), 1);
    return chosen[0].rows;
}

/* Somebody who decodes, is away for a while and comes back again and again, is about for some of its periods and not for the while. */
static void who_was_away_has_not_become_slow(void **state) {
    (void)state;
    schedule_begin();
    for (uint32_t i = 0; i < 10; i++) {
        decode_for(4);
        assert_true(prefill_rows() < 200);
        now_us += SCHEDULE_AWAY_US / 4;
        assert_int_equal(prefill_rows(), 200);
    }
    decode_for(2); /* but who does become slow is about for as much longer */
    for (uint32_t i = 0; i < 20; i++) {
        now_us += 20000;
        decode_for(1);
    }
    now_us += 40000;
    assert_true(prefill_rows() < 200);
}

static void who_has_no_session_is_not_about(void **state) {
    (void)state;
    schedule_begin();
    decode_for(4);
    assert_true(prefill_rows() < 200);
    schedule_forget(&schedule, 0);
    assert_int_equal(prefill_rows(), 200);
    now_us += SCHEDULE_AWAY_US / 2;
    decode_for(1); /* whoever comes in its place is new: the time between is nobody's period */
    now_us += 1000;
    assert_int_equal(prefill_rows(), 200);
}

static void prefill_and_decode_alternate_while_both_wait(void **state) {
    (void)state;
    schedule_begin();
    candidates[0] = of(128, 0, 4);
    candidates[1] = of(1, 0, 4);
    candidates[2] = of(1, 0, 4);
    uint32_t prefills = 0;
    for (uint32_t turn = 0; turn < 10; turn++) {
        uint32_t n = schedule_next(&schedule, candidates, 3, now_us, chosen);
        bool prefill = chosen[0].index == 0;
        assert_int_equal(n, prefill ? 1 : 2);
        assert_int_equal(prefill, turn % 2);
        prefills += prefill;
    }
    assert_int_equal(prefills, 5);
}

static void the_first_step_past_decode_is_prefill(void **state) {
    (void)state;
    schedule_begin();
    candidates[0] = of(STEP_DECODE_ROWS_MAX, 0, 4);
    candidates[1] = of(STEP_DECODE_ROWS_MAX + 1, 0, 4);
    assert_int_equal(schedule_next(&schedule, candidates, 2, now_us, chosen), 1);
    assert_int_equal(chosen[0].index, 0);
    assert_int_equal(schedule_next(&schedule, candidates, 2, now_us, chosen), 1);
    assert_int_equal(chosen[0].index, 1);
}

/* Every session comes back at the end of the list, as in compute.c: none may be passed over for ever. */
static void nobody_starves(void **state) {
    (void)state;
    schedule_begin();
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
        uint32_t n = schedule_next(&schedule, candidates, 12, now_us, chosen);
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

/* ---- users of a device whose turns take what they should ------------------------------------------------------------- */

#define USERS_MAX 128
#define ONE_US 8000 /* a turn of one row */

struct user {                     /* one session */
    uint32_t client, rows;        /* of its steps */
    uint64_t away_us;             /* between a result and the next step */
    uint64_t next_us;             /* when its next step comes */
    uint32_t left;                /* rows of it that are not computed */
    uint64_t n_steps, longest_us; /* since warm */
};

static struct user users[USERS_MAX];

/* As on a processor: eight rows in the time of three. */
static uint64_t turn_of(uint32_t rows) { return ONE_US * (700 + 300 * (uint64_t)rows) / 1000; }

static struct user *user_add(uint32_t *n, uint32_t client, uint32_t rows, uint64_t away_us) {
    users[*n] = (struct user){.client = client, .rows = rows, .away_us = away_us, .next_us = 1 + *n * 137, .left = rows};
    return &users[(*n)++];
}

/* Longest waiting first, as in compute.c. */
static uint32_t who_waits(uint32_t n, uint32_t out[USERS_MAX]) {
    uint32_t waiting = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (users[i].next_us > now_us) continue;
        uint32_t at = waiting++;
        for (; at > 0 && users[out[at - 1]].next_us > users[i].next_us; at--) out[at] = out[at - 1];
        out[at] = i;
    }
    return waiting;
}

static void list(const uint32_t *waiting, uint32_t n_waiting) {
    for (uint32_t i = 0; i < n_waiting; i++) {
        const struct user *u = &users[waiting[i]];
        candidates[i] = of(u->rows, 0, 4);
        candidates[i].rows = u->left;
        candidates[i].client = u->client;
    }
}

static void take_turn(const uint32_t *waiting, uint32_t n_waiting) {
    uint32_t rows = 0;
    uint32_t n = schedule_next(&schedule, candidates, n_waiting, now_us, chosen);
    assert_true(n > 0);
    for (uint32_t i = 0; i < n; i++) rows += chosen[i].rows;
    bool decode = candidates[chosen[0].index].decode;
    uint64_t end_us = now_us + turn_of(rows);
    schedule_note(&schedule, decode, rows, (uint32_t)(end_us - now_us), end_us);
    now_us = end_us;
    for (uint32_t i = 0; i < n; i++) {
        struct user *u = &users[waiting[chosen[i].index]];
        assert_true(chosen[i].rows <= u->left);
        u->left -= chosen[i].rows;
        if (u->left > 0) continue;
        if (now_us - u->next_us > u->longest_us) u->longest_us = now_us - u->next_us;
        u->n_steps++;
        u->left = u->rows;
        u->next_us = now_us + u->away_us;
    }
}

static void users_run(uint32_t n, uint64_t us) {
    for (uint64_t end_us = now_us + us; now_us < end_us;) {
        uint32_t waiting[USERS_MAX], n_waiting = who_waits(n, waiting);
        list(waiting, n_waiting);
        uint32_t hold_us = schedule_hold_us(&schedule, candidates, n_waiting, now_us);
        if (n_waiting > 0 && hold_us == 0) {
            take_turn(waiting, n_waiting);
            continue;
        }
        uint64_t next_us = n_waiting > 0 ? now_us + hold_us : UINT64_MAX;
        for (uint32_t i = 0; i < n; i++)
            if (users[i].next_us > now_us && users[i].next_us < next_us) next_us = users[i].next_us;
        now_us = next_us;
    }
}

/* Seconds of the users after a second in which what turns take became known; n_steps and longest_us are of these. */
static void users_measure(uint32_t n, uint32_t seconds) {
    users_run(n, 1000000);
    for (uint32_t i = 0; i < n; i++) users[i].n_steps = users[i].longest_us = 0;
    users_run(n, seconds * UINT64_C(1000000));
}

static void one_of_two_clients_has_its_half_beside_fifty_sessions_of_the_other(void **state) {
    (void)state;
    uint64_t aways_us[] = {100, 1000, 4000};
    for (uint32_t i = 0; i < ARRAY_SIZE(aways_us); i++) {
        uint32_t n = 0, others = 0;
        schedule_begin();
        struct user *single = user_add(&n, 7, 1, aways_us[i]);
        users_measure(n, 10);
        uint64_t alone = single->n_steps;
        schedule_begin();
        n = 0;
        user_add(&n, 7, 1, aways_us[i]);
        for (uint32_t k = 0; k < 50; k++) user_add(&n, 3, 1, aways_us[i]);
        users_measure(n, 10);
        for (uint32_t k = 1; k < n; k++) others += users[k].n_steps > 0;
        assert_true(single->n_steps * 100 >= alone * 45);
        assert_int_equal(others, 50);
    }
}

static void equal_clients_share_their_turns(void **state) {
    (void)state;
    for (uint32_t per_client = 1; per_client <= 8; per_client++) {
        uint32_t n = 0;
        uint64_t steps = 0;
        schedule_begin();
        for (uint32_t i = 0; i < 8 * per_client; i++) user_add(&n, i % 8, 1, 1000);
        users_measure(n, 10);
        for (uint32_t i = 0; i < n; i++) steps += users[i].n_steps;
        uint64_t all_at_once = 10000000 / (turn_of(n) + 1000) * n;
        if (steps * 100 < all_at_once * 95) /* steps that come back one by one start turns of a few */
            fail_msg("%u sessions of 8 clients made %llu steps of %llu", n, (unsigned long long)steps, (unsigned long long)all_at_once);
    }
}

/* Three clients with 1, 4 and 40 sessions: each has a third, or all that it can use. */
static void unequal_clients_have_their_shares(void **state) {
    (void)state;
    uint32_t n = 0, sizes[] = {1, 4, 40};
    uint64_t alone[3] = {0}, together[3] = {0};
    for (uint32_t c = 0; c < 3; c++) {
        schedule_begin();
        n = 0;
        for (uint32_t i = 0; i < sizes[c]; i++) user_add(&n, c, 1, 1000);
        users_measure(n, 10);
        for (uint32_t i = 0; i < n; i++) alone[c] += users[i].n_steps;
    }
    schedule_begin();
    n = 0;
    for (uint32_t c = 0; c < 3; c++)
        for (uint32_t i = 0; i < sizes[c]; i++) user_add(&n, c, 1, 1000);
    users_measure(n, 10);
    for (uint32_t i = 0; i < n; i++) {
        together[users[i].client] += users[i].n_steps;
        assert_true(users[i].n_steps > 0);
    }
    assert_true(together[0] * 100 >= alone[0] * 30);
}

static void a_long_prompt_delays_nobody_by_more_than_its_turn(void **state) {
    (void)state;
    for (uint32_t deciders = 1; deciders <= 8; deciders *= 2) {
        uint32_t n = 0;
        schedule_begin();
        for (uint32_t i = 0; i < deciders; i++) user_add(&n, i, 1, 1000);
        struct user *prompt = user_add(&n, 9, 128, 1000);
        users_measure(n, 10);
        for (uint32_t i = 0; i < deciders; i++)
            if (users[i].longest_us * 10 > turn_of(deciders) * 24)
                fail_msg("a step waited %llu us, a turn takes %llu", (unsigned long long)users[i].longest_us,
                         (unsigned long long)turn_of(deciders));
        assert_true(prompt->n_steps > 0);
    }
}

static void prompts_of_two_clients_share_the_device(void **state) {
    (void)state;
    uint32_t n = 0;
    uint64_t many = 0;
    schedule_begin();
    struct user *single = user_add(&n, 1, 128, 100);
    for (uint32_t i = 0; i < 20; i++) user_add(&n, 2, 128, 100);
    users_measure(n, 60);
    for (uint32_t i = 1; i < n; i++) {
        many += users[i].n_steps;
        assert_true(users[i].n_steps > 0);
    }
    assert_true(single->n_steps * 100 >= many * 45);
}

/* Users of all kinds who come and go: everybody gets on, whatever waits. */
static void nobody_starves_whoever_comes_and_goes(void **state) {
    (void)state;
    uint32_t seed = 5;
    for (uint32_t round = 0; round < 30; round++) {
        uint32_t n = 0;
        schedule_begin();
        for (uint32_t i = 0; i < 60; i++) {
            seed = seed * 1664525 + 1013904223;
            uint32_t rows = seed >> 28 == 0 ? 128 : 1 + (seed >> 8) % 4;
            user_add(&n, (seed >> 4) % 10, rows, (seed >> 12) % 20000);
        }
        users_measure(n, 20);
        for (uint32_t i = 0; i < n; i++)
            if (users[i].n_steps == 0) fail_msg("user %u of client %u with steps of %u rows got none", i, users[i].client, users[i].rows);
    }
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
        cmocka_unit_test(who_was_away_has_not_become_slow),
        cmocka_unit_test(who_has_no_session_is_not_about),
        cmocka_unit_test(prefill_and_decode_alternate_while_both_wait),
        cmocka_unit_test(the_first_step_past_decode_is_prefill),
        cmocka_unit_test(nobody_starves),
        cmocka_unit_test(one_of_two_clients_has_its_half_beside_fifty_sessions_of_the_other),
        cmocka_unit_test(equal_clients_share_their_turns),
        cmocka_unit_test(unequal_clients_have_their_shares),
        cmocka_unit_test(a_long_prompt_delays_nobody_by_more_than_its_turn),
        cmocka_unit_test(prompts_of_two_clients_share_the_device),
        cmocka_unit_test(nobody_starves_whoever_comes_and_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
