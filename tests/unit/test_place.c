/* test_place.c - where servers go, and when they move: hand-made swarms, agreement, patience, and that moves come to an end. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "swarm/place.h"

static uint32_t rng_state;
static uint32_t rng(uint32_t below) {
    rng_state = rng_state * 1664525u + 1013904223u;
    return (rng_state >> 8) % below;
}

static struct place_server server_of(uint64_t node, uint32_t begin, uint32_t end, float tokens_per_s) {
    return (struct place_server){.node = node, .begin = begin, .end = end, .tokens_per_s = tokens_per_s};
}

static uint32_t chosen(const struct place_server *servers, size_t n, uint32_t n_blocks, uint32_t length) {
    uint32_t begin = UINT32_MAX;
    assert_int_equal(place_choose(servers, n, n_blocks, length, &begin, NULL), COROLLA_OK);
    assert_true(begin + length <= n_blocks);
    return begin;
}

static struct place_gain gain_of(const struct place_server *servers, size_t n, uint32_t n_blocks, uint64_t self) {
    struct place_gain gain;
    assert_int_equal(place_gain(servers, n, n_blocks, self, &gain, NULL), COROLLA_OK);
    return gain;
}

static unsigned holders(const struct place_server *servers, size_t n, uint32_t block) {
    unsigned count = 0;
    for (size_t i = 0; i < n; i++) count += !servers[i].leaving && servers[i].begin <= block && block < servers[i].end;
    return count;
}

/* ---- choosing -------------------------------------------------------------------------------------------------- */

static void six_servers_cover_the_model_and_the_seventh_goes_where_it_is_thin(void **state) {
    (void)state;
    struct place_server servers[7];
    for (uint32_t i = 0; i < 6; i++) {
        uint32_t begin = chosen(servers, i, 12, 4);
        servers[i] = server_of(100 - i, begin, begin + 4, 10);
    }
    for (uint32_t b = 0; b < 12; b++) assert_int_equal(holders(servers, 6, b), 2);
    servers[2].tokens_per_s = 1; /* blocks 8 to 12 are the slowest now */
    assert_int_equal(chosen(servers, 6, 12, 4), servers[2].begin);
    servers[0].leaving = true; /* and now its blocks have one holder only */
    assert_int_equal(chosen(servers, 6, 12, 4), servers[0].begin);
}

static void a_span_that_does_not_divide_the_model_overlaps_the_weakest(void **state) {
    (void)state;
    struct place_server servers[] = {server_of(1, 0, 5, 3), server_of(2, 5, 10, 2)};
    assert_int_equal(chosen(NULL, 0, 12, 5), 0);
    assert_int_equal(chosen(servers, 1, 12, 5), 5);
    assert_int_equal(chosen(servers, 2, 12, 5), 7);
    assert_int_equal(chosen(servers, 2, 12, 12), 0);
}

static void a_second_holder_goes_before_more_speed(void **state) {
    (void)state;
    struct place_server servers[] = {server_of(1, 0, 4, 1000), server_of(2, 4, 8, 1), server_of(3, 4, 8, 1)};
    assert_int_equal(chosen(servers, 3, 8, 4), 0);
    servers[0].end = 3; /* block 3 has nobody: before all others */
    assert_int_equal(chosen(servers, 3, 8, 1), 3);
}

static void those_that_load_count_and_those_that_leave_do_not(void **state) {
    (void)state;
    struct place_server servers[] = {server_of(1, 0, 4, 10), server_of(2, 4, 8, 10)};
    servers[1].joining = true;
    assert_int_equal(chosen(servers, 2, 12, 4), 8);
    servers[0].leaving = true;
    assert_int_equal(chosen(servers, 2, 12, 4), 0);
}

static void all_nodes_compute_the_same_from_the_same_records(void **state) {
    (void)state;
    for (uint32_t seed = 1; seed <= 50; seed++) {
        rng_state = seed;
        struct place_server servers[60];
        for (uint32_t i = 0; i < 60; i++) {
            uint32_t length = 1 + rng(5), first = rng(11 - length);
            float tokens_per_s = ldexpf((float)(1 + rng(1000)) / 7, -(int)rng(34)); /* so that the order of a sum can be seen */
            servers[i] = server_of(rng(1 << 20) * 64 + i, first, first + length, tokens_per_s);
        }
        uint32_t begin = chosen(servers, 60, 10, 3);
        struct place_server shuffled[60];
        memcpy(shuffled, servers, sizeof servers);
        for (uint32_t i = 59; i > 0; i--) {
            uint32_t k = rng(i + 1);
            struct place_server other = shuffled[i];
            shuffled[i] = shuffled[k];
            shuffled[k] = other;
        }
        assert_int_equal(chosen(shuffled, 60, 10, 3), begin);
        for (uint32_t i = 0; i < 60; i++) {
            struct place_gain gain = gain_of(servers, 60, 10, servers[i].node), again = gain_of(shuffled, 60, 10, servers[i].node);
            assert_memory_equal(&gain.before, &again.before, sizeof gain.before); /* bit for bit */
            assert_memory_equal(&gain.after, &again.after, sizeof gain.after);
            assert_true(gain.begin == again.begin && gain.worth == again.worth);
        }
    }
}

static void what_is_impossible_is_refused_or_left_out(void **state) {
    (void)state;
    struct place_server servers[] = {server_of(1, 0, 4, NAN),  server_of(2, 4, 8, INFINITY), server_of(3, 4, 2, 1),
                                     server_of(4, 0, 900, 10), server_of(5, 0, 4, -5),       server_of(6, UINT32_MAX - 1, UINT32_MAX, 1)};
    uint32_t begin;
    struct place_gain gain;
    struct corolla_error err;
    assert_int_equal(place_choose(servers, 6, 8, 0, &begin, &err), COROLLA_INVALID);
    assert_int_equal(place_choose(servers, 6, 8, 9, &begin, &err), COROLLA_INVALID);
    assert_non_null(strstr(err.message, "9 blocks"));
    assert_int_equal(chosen(servers, 6, 8, 4), 4); /* one holder, however fast, against two */
    assert_int_equal(place_gain(servers, 6, 8, 3, &gain, &err), COROLLA_NOT_FOUND);
    assert_int_equal(place_gain(servers, 6, 8, 77, &gain, &err), COROLLA_NOT_FOUND);
    assert_true(gain_of(servers, 6, 8, 2).before == 0); /* of those without a speed */
    assert_true(gain_of(servers, 6, 8, 2).after < 1e7);
}

/* ---- moving ---------------------------------------------------------------------------------------------------- */

static void a_neighbour_fills_the_gap_that_both_holders_of_a_span_left(void **state) {
    (void)state;
    struct place_server servers[] = {server_of(1, 0, 4, 10), server_of(2, 0, 4, 10), server_of(3, 8, 12, 10), server_of(4, 8, 12, 10)};
    struct place_gain gain = gain_of(servers, 4, 12, 1);
    assert_true(gain.worth && gain.begin == 4);
    assert_true(gain.before == 0 && gain.after == 10);
    gain = gain_of(servers, 2, 12, 1); /* two gaps: the worst block stays without a holder, and yet */
    assert_true(gain.worth && gain.begin == 4 && gain.after == 0);
}

static void the_last_holder_of_a_block_never_moves(void **state) {
    (void)state;
    struct place_server servers[] = {server_of(1, 0, 4, 10), server_of(2, 8, 12, 10), server_of(3, 1, 4, 10)};
    assert_false(gain_of(servers, 3, 12, 1).worth); /* block 0 */
    servers[2].begin = 0;
    assert_true(gain_of(servers, 3, 12, 1).worth);
    servers[2].leaving = true;
    assert_false(gain_of(servers, 3, 12, 1).worth);
}

static void a_third_holder_becomes_the_second_elsewhere(void **state) {
    (void)state;
    struct place_server servers[] = {server_of(1, 0, 4, 1), server_of(2, 0, 4, 1), server_of(3, 0, 4, 1), server_of(4, 4, 8, 50)};
    struct place_gain gain = gain_of(servers, 4, 8, 1);
    assert_true(gain.worth && gain.begin == 4);
    assert_false(gain_of(servers, 4, 8, 4).worth);
}

static void less_than_a_quarter_is_not_worth_a_move(void **state) {
    (void)state;
    struct place_server servers[] = {server_of(1, 0, 4, 10), server_of(2, 0, 4, 50), server_of(3, 0, 4, 50), server_of(4, 4, 8, 25),
                                     server_of(5, 4, 8, 25)};
    servers[1].tokens_per_s = servers[2].tokens_per_s = 32; /* what is left keeps 64 */
    servers[0].tokens_per_s = 12;
    assert_int_equal(gain_of(servers, 5, 8, 1).begin, 4);
    assert_false(gain_of(servers, 5, 8, 1).worth); /* 50 -> 62 */
    servers[0].tokens_per_s = 13;
    assert_true(gain_of(servers, 5, 8, 1).worth); /* 50 -> 63 */
    servers[3].tokens_per_s = servers[4].tokens_per_s = 31;
    assert_false(gain_of(servers, 5, 8, 1).worth);
}

static void many_small_servers_leave_the_strong_for_the_weak(void **state) {
    (void)state;
    struct place_server servers[50];
    for (uint32_t i = 0; i < 50; i++) servers[i] = server_of(i + 1, i < 30 ? 0 : 4, i < 30 ? 4 : 8, 1);
    struct place_gain gain = gain_of(servers, 50, 8, 1);
    assert_true(gain.worth && gain.begin == 4 && gain.after == 21); /* a twentieth more */
    assert_false(gain_of(servers, 50, 8, 50).worth);
    for (uint32_t i = 0; i < 4; i++) servers[i] = server_of(i + 1, 4, 8, 1);
    assert_false(gain_of(servers, 50, 8, 5).worth); /* 26 and 24 */
}

static void a_move_that_does_not_reach_the_weakest_block_is_not_worth_it(void **state) {
    (void)state;
    struct place_server servers[] = {
        server_of(1, 4, 8, 6),    server_of(2, 0, 1, 5),    server_of(3, 0, 1, 5),  server_of(4, 1, 4, 5.5f), server_of(5, 1, 4, 5.5f),
        server_of(6, 4, 5, 2.5f), server_of(7, 4, 5, 2.5f), server_of(8, 5, 8, 15), server_of(9, 5, 8, 15),
    };
    struct place_gain gain = gain_of(servers, 9, 8, 1); /* block 0 is the weakest; without the server block 4 is */
    assert_int_equal(gain.begin, 1);
    assert_true(gain.before == 10 && gain.after == 10);
    assert_false(gain.worth);
}

/* In random swarms where everybody moves that finds it worth, no block loses its last holder, and it ends. */
static void moves_come_to_an_end_and_leave_no_block_alone(void **state) {
    (void)state;
    unsigned moved = 0;
    for (uint32_t seed = 1; seed <= 300; seed++) {
        rng_state = seed;
        struct place_server servers[20];
        uint32_t n = 1 + rng(20), moves = 0;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t length = 1 + rng(6), begin = rng(13 - length);
            servers[i] = server_of(i + 1, begin, begin + length, (float)(1 + rng(30)));
        }
        for (bool again = true; again;) {
            again = false;
            for (uint32_t i = 0; i < n; i++) {
                struct place_gain gain = gain_of(servers, n, 12, servers[i].node);
                if (!gain.worth) continue;
                bool held[12];
                for (uint32_t b = 0; b < 12; b++) held[b] = holders(servers, n, b) > 0;
                servers[i] = server_of(i + 1, gain.begin, gain.begin + (servers[i].end - servers[i].begin), servers[i].tokens_per_s);
                for (uint32_t b = 0; b < 12; b++)
                    if (held[b] && holders(servers, n, b) == 0) fail_msg("seed %u: block %u lost its last holder", seed, b);
                again = true;
                if (++moves > 100) fail_msg("seed %u: moves do not end", seed);
            }
        }
        moved += moves;
    }
    assert_true(moved > 300);
}

/* ---- patience -------------------------------------------------------------------------------------------------- */

static void a_server_moves_after_a_second_look(void **state) {
    (void)state;
    struct place_server servers[] = {server_of(1, 0, 4, 10), server_of(2, 0, 4, 10), server_of(3, 8, 12, 10), server_of(4, 8, 12, 10)};
    struct place_watch watch;
    uint32_t begin = 77;
    place_watch_init(&watch, 1000, 12345);
    assert_true(watch.due_ms >= 1000 + PLACE_LOOK_MS / 2 && watch.due_ms < 1000 + PLACE_LOOK_MS * 3 / 2);
    uint64_t now = watch.due_ms;
    assert_false(place_watch_look(&watch, servers, 4, 12, 1, now, 777, &begin));
    assert_int_equal(begin, 77);
    assert_true(watch.due_ms >= now && watch.due_ms < now + PLACE_WAIT_MS);
    assert_true(place_watch_look(&watch, servers, 4, 12, 1, watch.due_ms, 777, &begin));
    assert_int_equal(begin, 4);
}

static void a_gap_that_somebody_else_goes_to_is_left_to_it(void **state) {
    (void)state;
    struct place_server servers[] = {server_of(1, 0, 4, 10), server_of(2, 0, 4, 10), server_of(3, 0, 4, 10), server_of(4, 4, 8, 10)};
    struct place_watch watch;
    uint32_t begin;
    place_watch_init(&watch, 0, 0);
    assert_false(place_watch_look(&watch, servers, 4, 8, 1, watch.due_ms, 5, &begin));
    assert_true(watch.second);
    servers[3].joining = true; /* the only holder there is still on the way: a second one would be the next */
    assert_true(gain_of(servers, 4, 8, 1).worth && gain_of(servers, 4, 8, 1).taken);
    assert_false(place_watch_look(&watch, servers, 4, 8, 1, watch.due_ms, 5, &begin));
    assert_false(watch.second);
    servers[3].joining = false;
    assert_false(place_watch_look(&watch, servers, 4, 8, 1, watch.due_ms, 5, &begin));
    assert_true(place_watch_look(&watch, servers, 4, 8, 1, watch.due_ms, 5, &begin));
    assert_int_equal(begin, 4);
}

static void in_a_big_swarm_a_quarter_may_be_on_the_way(void **state) {
    (void)state;
    struct place_server servers[60];
    for (uint32_t i = 0; i < 60; i++) servers[i] = server_of(i + 1, i < 40 ? 0 : 4, i < 40 ? 4 : 8, 1);
    for (uint32_t i = 40; i < 44; i++) servers[i].joining = true;
    assert_true(gain_of(servers, 60, 8, 1).worth);
    assert_false(gain_of(servers, 60, 8, 1).taken); /* 4 of 20 */
    servers[44].joining = true;
    assert_true(gain_of(servers, 60, 8, 1).taken);
}

static void a_gain_that_passes_is_forgotten(void **state) {
    (void)state;
    struct place_server servers[] = {server_of(1, 0, 4, 10), server_of(2, 0, 4, 10), server_of(3, 4, 8, 10), server_of(4, 4, 8, 10)};
    struct place_watch watch;
    uint32_t begin;
    servers[2].leaving = servers[3].leaving = true;
    place_watch_init(&watch, 0, 0);
    assert_false(place_watch_look(&watch, servers, 4, 8, 1, watch.due_ms, 9, &begin));
    assert_true(watch.second);
    servers[2].leaving = servers[3].leaving = false; /* they are back */
    assert_false(place_watch_look(&watch, servers, 4, 8, 1, watch.due_ms, 9, &begin));
    assert_false(watch.second);
    servers[2].leaving = servers[3].leaving = true;
    assert_false(place_watch_look(&watch, servers, 4, 8, 1, watch.due_ms, 9, &begin)); /* a first look again */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(six_servers_cover_the_model_and_the_seventh_goes_where_it_is_thin),
        cmocka_unit_test(a_span_that_does_not_divide_the_model_overlaps_the_weakest),
        cmocka_unit_test(a_second_holder_goes_before_more_speed),
        cmocka_unit_test(those_that_load_count_and_those_that_leave_do_not),
        cmocka_unit_test(all_nodes_compute_the_same_from_the_same_records),
        cmocka_unit_test(what_is_impossible_is_refused_or_left_out),
        cmocka_unit_test(a_neighbour_fills_the_gap_that_both_holders_of_a_span_left),
        cmocka_unit_test(the_last_holder_of_a_block_never_moves),
        cmocka_unit_test(a_third_holder_becomes_the_second_elsewhere),
        cmocka_unit_test(less_than_a_quarter_is_not_worth_a_move),
        cmocka_unit_test(many_small_servers_leave_the_strong_for_the_weak),
        cmocka_unit_test(a_move_that_does_not_reach_the_weakest_block_is_not_worth_it),
        cmocka_unit_test(moves_come_to_an_end_and_leave_no_block_alone),
        cmocka_unit_test(a_server_moves_after_a_second_look),
        cmocka_unit_test(a_gap_that_somebody_else_goes_to_is_left_to_it),
        cmocka_unit_test(in_a_big_swarm_a_quarter_may_be_on_the_way),
        cmocka_unit_test(a_gain_that_passes_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
