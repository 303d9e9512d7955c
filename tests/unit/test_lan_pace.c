/* test_lan_pace.c - when nodes of a LAN speak: alone, asked, and a thousand of them at once. No socket: time is a number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/lan_pace.h"

/* Runs a pace alone from one time to another; counts what it says. */
struct said {
    unsigned questions, answers;
    uint64_t last_ms;
};
static struct said run(struct lan_pace *pace, uint64_t until_ms, uint32_t random) {
    struct said said = {0};
    for (uint64_t now = lan_pace_due(pace); now <= until_ms; now = lan_pace_due(pace)) {
        enum lan_speech speech = lan_pace_next(pace, now, random);
        if (speech == LAN_QUESTION) said.questions++;
        if (speech == LAN_ANSWER) said.answers++;
        if (speech != LAN_SILENCE) said.last_ms = now;
        assert_true(lan_pace_due(pace) > now);
    }
    return said;
}

static void a_newcomer_asks_three_times_with_growing_gaps(void **state) {
    (void)state;
    struct lan_pace pace;
    lan_pace_init(&pace, true, 1000, 30);
    static const uint64_t at[] = {1030, 2030, 5030};
    for (unsigned i = 0; i < LAN_QUERIES; i++) {
        assert_int_equal(lan_pace_due(&pace), at[i]);
        assert_int_equal(lan_pace_next(&pace, at[i] - 1, 0), LAN_SILENCE);
        assert_int_equal(lan_pace_next(&pace, at[i], 0), LAN_QUESTION);
    }
    assert_true(lan_pace_due(&pace) >= 1000 + LAN_REPEAT_MS * 3 / 4);
}

static void who_is_asked_answers_once_after_a_short_while(void **state) {
    (void)state;
    for (uint32_t random = 0; random < 5000; random += 7) {
        struct lan_pace pace;
        lan_pace_init(&pace, true, 0, 0);
        run(&pace, 10000, 0);
        for (int i = 0; i < 10; i++) lan_pace_asked(&pace, 3, 20000, random);
        assert_in_range(lan_pace_due(&pace), 20000 + LAN_ANSWER_MS, 20000 + 200);
        assert_int_equal(run(&pace, 30000, 0).answers, 1);
    }
}

static void answers_wait_longer_where_many_nodes_are(void **state) {
    (void)state;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        struct lan_pace pace;
        lan_pace_init(&pace, true, 0, 0);
        run(&pace, 10000, 0);
        lan_pace_asked(&pace, 1000, 20000, i * 2654435761u);
        assert_in_range(lan_pace_due(&pace), 20000, 20000 + LAN_ANSWER_MAX_MS);
        sum += lan_pace_due(&pace) - 20000;
    }
    assert_in_range(sum / 1000, 800, 1200);
}

static void a_flood_of_questions_gets_four_answers_a_second(void **state) {
    (void)state;
    struct lan_pace pace;
    unsigned answers = 0;
    lan_pace_init(&pace, true, 0, 0);
    run(&pace, 10000, 0);
    for (uint64_t now = 20000; now < 30000; now++) {
        lan_pace_asked(&pace, 0, now, (uint32_t)now * 2654435761u);
        answers += lan_pace_next(&pace, now, 0) == LAN_ANSWER;
    }
    assert_in_range(answers, 20, 40);
}

static void a_client_asks_and_never_answers(void **state) {
    (void)state;
    struct lan_pace pace;
    lan_pace_init(&pace, false, 0, 0);
    assert_int_equal(run(&pace, 10000, 0).questions, LAN_QUERIES);
    lan_pace_asked(&pace, 0, 10000, 0);
    struct said said = run(&pace, 1000000, 0);
    assert_int_equal(said.questions + said.answers, 0);
}

static void it_is_said_again_about_each_minute(void **state) {
    (void)state;
    for (uint32_t random = 0; random < 60000; random += 977) {
        struct lan_pace pace;
        lan_pace_init(&pace, true, 0, random);
        assert_in_range(run(&pace, 3600000, random).answers, 47, 80);
    }
}

static void who_answered_lately_does_not_repeat_it(void **state) {
    (void)state;
    struct lan_pace pace;
    lan_pace_init(&pace, true, 0, 0);
    run(&pace, 10000, 0);
    uint64_t repeat = lan_pace_due(&pace);
    lan_pace_asked(&pace, 0, repeat - 5000, 0);
    assert_int_equal(run(&pace, repeat - 1, 0).answers, 1);
    assert_int_equal(lan_pace_next(&pace, repeat, 0), LAN_SILENCE);
    assert_in_range(lan_pace_due(&pace), repeat + 1, repeat + LAN_REPEAT_MS * 2);
}

/* All hear all, at once. */
static void a_thousand_nodes_that_start_together_stay_bounded_and_all_are_heard(void **state) {
    (void)state;
    enum { N = 1000, SECONDS = 20 };
    static struct lan_pace paces[N];
    static uint32_t known[N];
    unsigned in_second[SECONDS] = {0}, random = 1, sent = 0;
    static bool heard[N];
    for (unsigned i = 0; i < N; i++) lan_pace_init(&paces[i], true, 0, random = random * 1664525 + 1013904223);
    for (uint64_t now = 0; now < SECONDS * 1000; now++) {
        for (unsigned i = 0; i < N; i++) {
            if (lan_pace_due(&paces[i]) > now) continue;
            enum lan_speech speech = lan_pace_next(&paces[i], now, random = random * 1664525 + 1013904223);
            if (speech == LAN_SILENCE) continue;
            in_second[now / 1000]++;
            sent++;
            for (unsigned k = 0; k < N; k++) {
                if (!heard[i]) known[k]++;
                if (k != i && speech == LAN_QUESTION) lan_pace_asked(&paces[k], known[k], now, random = random * 1664525 + 1013904223);
            }
            heard[i] = true;
        }
    }
    for (unsigned i = 0; i < N; i++) assert_true(heard[i]);
    for (unsigned s = 0; s < SECONDS; s++) assert_true(in_second[s] <= 3 * N);
    assert_true(sent <= 8 * N);
    for (unsigned s = 8; s < SECONDS; s++) assert_int_equal(in_second[s], 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_newcomer_asks_three_times_with_growing_gaps),
        cmocka_unit_test(who_is_asked_answers_once_after_a_short_while),
        cmocka_unit_test(answers_wait_longer_where_many_nodes_are),
        cmocka_unit_test(a_flood_of_questions_gets_four_answers_a_second),
        cmocka_unit_test(a_client_asks_and_never_answers),
        cmocka_unit_test(it_is_said_again_about_each_minute),
        cmocka_unit_test(who_answered_lately_does_not_repeat_it),
        cmocka_unit_test(a_thousand_nodes_that_start_together_stay_bounded_and_all_are_heard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
