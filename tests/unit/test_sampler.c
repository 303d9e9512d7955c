/* test_sampler.c - from logits to tokens: greedy, seeded draws, the filters, the repeat penalty, grammars, hostile logits. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "text/text.h"

#define DRAWS 4000

static struct vocab *vocab;
static float *logits; /* [vocab size] */

static struct corolla_sampling plain(float temp) {
    return (struct corolla_sampling){.temp = temp, .top_k = 0, .top_p = 1, .min_p = 0, .repeat_penalty = 1, .seed = 42};
}

static struct sampler *open_sampler(struct corolla_sampling params) {
    struct corolla_error err;
    struct sampler *s;
    if (sampler_new(&s, vocab, &params, &err)) fail_msg("%s", err.message);
    return s;
}

/* All tokens are hopeless but 5, 6, 7 and 8, which stand at e^3 : e^2 : e^1 : e^0. */
static void set_logits(void) {
    for (uint32_t i = 0; i < vocab_size(vocab); i++) logits[i] = -50;
    for (int i = 0; i < 4; i++) logits[5 + i] = (float)(3 - i);
}

static void draw_all(struct corolla_sampling params, unsigned counts[4]) {
    struct sampler *s = open_sampler(params);
    memset(counts, 0, 4 * sizeof *counts);
    for (int i = 0; i < DRAWS; i++) {
        int32_t token = sampler_sample(s, logits);
        assert_in_range(token, 5, 8);
        counts[token - 5]++;
    }
    sampler_free(s);
}

static void greedy_takes_the_largest_and_the_first_of_equals(void **state) {
    (void)state;
    struct sampler *s = open_sampler(plain(0));
    set_logits();
    for (int i = 0; i < 3; i++) assert_int_equal(sampler_sample(s, logits), 5);
    logits[9] = logits[5];
    assert_int_equal(sampler_sample(s, logits), 5);
    logits[9] += 0.5f;
    assert_int_equal(sampler_sample(s, logits), 9);
    sampler_free(s);
}

static void draws_follow_the_distribution(void **state) {
    (void)state;
    unsigned counts[4];
    for (int t = 1; t <= 2; t++) {
        set_logits();
        draw_all(plain((float)t), counts);
        double sum = 0;
        for (int i = 0; i < 4; i++) sum += exp((3 - i) / (double)t);
        for (int i = 0; i < 4; i++) {
            double expected = DRAWS * exp((3 - i) / (double)t) / sum;
            /* five standard deviations: a right sampler fails once in a million seeds, and the seed is fixed */
            assert_true(fabs(counts[i] - expected) < 5 * sqrt(expected));
        }
    }
}

static void the_same_seed_draws_the_same(void **state) {
    (void)state;
    struct corolla_sampling params = plain(1);
    const uint32_t seeds[] = {42, 42, 43, UINT32_MAX, UINT32_MAX};
    int32_t drawn[5][100];
    set_logits();
    for (int i = 0; i < 5; i++) {
        params.seed = seeds[i];
        struct sampler *s = open_sampler(params);
        for (int k = 0; k < 100; k++) drawn[i][k] = sampler_sample(s, logits);
        sampler_free(s);
    }
    assert_memory_equal(drawn[0], drawn[1], sizeof drawn[0]);
    assert_memory_not_equal(drawn[0], drawn[2], sizeof drawn[0]);
    assert_memory_equal(drawn[3], drawn[4], sizeof drawn[0]); /* the number that libllama takes for "a random one" */
}

static void seed_0_is_a_new_one_each_time(void **state) {
    (void)state;
    struct corolla_sampling params = plain(1);
    int32_t drawn[2][100];
    params.seed = 0;
    set_logits();
    for (int i = 0; i < 2; i++) {
        struct sampler *s = open_sampler(params);
        for (int k = 0; k < 100; k++) drawn[i][k] = sampler_sample(s, logits);
        sampler_free(s);
    }
    assert_memory_not_equal(drawn[0], drawn[1], sizeof drawn[0]);
}

static void filters_leave_only_the_likely(void **state) {
    (void)state;
    unsigned counts[4];
    struct corolla_sampling params = plain(1);
    set_logits();
    params.top_k = 2;
    draw_all(params, counts);
    assert_true(counts[0] && counts[1] && !counts[2] && !counts[3]);

    params = plain(1);
    params.top_p = 0.9f; /* 0.644 + 0.237 + 0.087: the third is needed */
    draw_all(params, counts);
    assert_true(counts[0] && counts[1] && counts[2] && !counts[3]);

    params.top_p = 0; /* the likeliest always stays */
    draw_all(params, counts);
    assert_true(counts[0] && !counts[1] && !counts[2] && !counts[3]);

    params = plain(1);
    params.min_p = 0.2f; /* e^-1 = 0.37, e^-2 = 0.14 */
    draw_all(params, counts);
    assert_true(counts[0] && counts[1] && !counts[2] && !counts[3]);
}

static void filters_look_at_the_model_not_at_the_temperature(void **state) {
    (void)state;
    unsigned counts[4];
    struct corolla_sampling params = plain(10); /* nearly even, but min-p came first */
    params.min_p = 0.2f;
    set_logits();
    draw_all(params, counts);
    assert_true(counts[0] && counts[1] && !counts[2] && !counts[3]);
}

static void repeated_tokens_are_penalized_for_64_tokens(void **state) {
    (void)state;
    struct corolla_sampling params = plain(0);
    params.repeat_penalty = 2;
    struct sampler *s = open_sampler(params);
    set_logits();
    const int32_t prompt[] = {5};
    sampler_accept_prompt(s, prompt, 1);
    assert_int_equal(sampler_sample(s, logits), 6); /* 3 / 2 < 2 */
    assert_int_equal(sampler_sample(s, logits), 5); /* 3 / 2 > 1, 2 / 2 */
    for (int i = 0; i < 70; i++) sampler_accept_prompt(s, (int32_t[]){100}, 1);
    assert_int_equal(sampler_sample(s, logits), 5); /* forgotten */
    sampler_free(s);
}

static void accept_text(char *text, size_t max, int32_t token) {
    size_t have = strlen(text), n = vocab_piece(vocab, token, text + have, max - have - 1);
    assert_true(have + n < max - 1);
    text[have + n] = '\0';
}

/* Logits that change with every call and favour nothing in particular. */
static void random_logits(uint64_t *seed) {
    for (uint32_t i = 0; i < vocab_size(vocab); i++) {
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        logits[i] = (float)(*seed >> 40) / (float)(1 << 20);
    }
}

static void grammars_are_obeyed(void **state) {
    (void)state;
    const float temps[] = {0, 1};
    for (int i = 0; i < 2; i++) {
        struct corolla_sampling params = plain(temps[i]);
        params.grammar = "root ::= (\"yes\" | \"no\") \"!\"";
        for (uint64_t seed = 1; seed <= 4; seed++) {
            struct sampler *s = open_sampler(params);
            uint64_t state_of_logits = seed;
            char text[64] = "";
            int32_t token;
            int n = 0;
            for (random_logits(&state_of_logits); !vocab_is_eog(vocab, token = sampler_sample(s, logits));
                 random_logits(&state_of_logits)) {
                accept_text(text, sizeof text, token);
                assert_true(++n < 16);
            }
            assert_true(strcmp(text, "yes!") == 0 || strcmp(text, "no!") == 0);
            sampler_free(s);
        }
    }
}

static void a_grammar_that_leaves_no_token_ends_the_text(void **state) {
    (void)state;
    struct corolla_sampling params = plain(1);
    params.grammar = "root ::= \"a\"";
    for (int i = 0; i < 2; i++, params.temp = 0) {
        struct sampler *s = open_sampler(params);
        uint64_t seed = 3;
        random_logits(&seed);
        assert_false(vocab_is_eog(vocab, sampler_sample(s, logits)));
        for (int k = 0; k < 3; k++) assert_true(vocab_is_eog(vocab, sampler_sample(s, logits))); /* and goes on doing so */
        sampler_free(s);
    }
}

static void expect_refused(struct corolla_sampling params, const char *word) {
    struct corolla_error err;
    struct sampler *s = NULL;
    assert_int_equal(sampler_new(&s, vocab, &params, &err), COROLLA_INVALID);
    assert_null(s);
    if (!strstr(err.message, word)) fail_msg("\"%s\" does not speak of \"%s\"", err.message, word);
}

static void grammars_that_libllama_cannot_use_are_refused(void **state) {
    (void)state;
    struct corolla_sampling params = plain(1);
    const char *bad[] = {"", "root ::= nobody", "root ::= root \"a\"", "root ::= a\na ::= root \"a\" | \"b\""};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        params.grammar = bad[i];
        expect_refused(params, i < 2 ? "grammar" : "left recursion");
    }
}

static void parameters_out_of_range_are_refused(void **state) {
    (void)state;
    struct corolla_sampling p = plain(1);
    p.temp = -1;
    expect_refused(p, "temperature");
    p.temp = NAN;
    expect_refused(p, "temperature");
    p = plain(1);
    p.top_k = -1;
    expect_refused(p, "top-k");
    p = plain(1);
    p.top_p = -0.1f;
    expect_refused(p, "top-p");
    p = plain(1);
    p.min_p = 1.5f;
    expect_refused(p, "min-p");
    p = plain(1);
    p.repeat_penalty = 0;
    expect_refused(p, "repeat penalty");
}

static void hostile_logits_do_no_harm(void **state) {
    (void)state;
    const float values[] = {NAN, INFINITY, -INFINITY, 3.4e38f, -3.4e38f, 0};
    struct corolla_sampling params = plain(0.001f);
    params.top_k = 40;
    params.top_p = 0.95f;
    params.min_p = 0.05f;
    params.repeat_penalty = 100;
    for (int round = 0; round < 3; round++) {
        params.grammar = round == 1 ? "root ::= [a-z]*" : NULL;
        if (round == 2) params.temp = 0;
        struct sampler *s = open_sampler(params);
        for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
            for (uint32_t i = 0; i < vocab_size(vocab); i++) logits[i] = values[v];
            for (int i = 0; i < 3; i++) assert_in_range(sampler_sample(s, logits), 0, vocab_size(vocab) - 1);
        }
        for (uint32_t i = 0; i < vocab_size(vocab); i++) logits[i] = values[i % 6];
        for (int i = 0; i < 10; i++) assert_in_range(sampler_sample(s, logits), 0, vocab_size(vocab) - 1);
        sampler_free(s);
    }
}

static int setup(void **state) {
    (void)state;
    struct corolla_error err;
    const char *path = getenv("COROLLA_TEST_MODEL");
    if (!path || !*path) {
        fprintf(stderr, "COROLLA_TEST_MODEL is not set: give it the path that \"make -s model\" prints\n");
        return -1;
    }
    if (vocab_open(&vocab, path, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    logits = calloc(vocab_size(vocab), sizeof *logits);
    return logits ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    free(logits);
    vocab_close(vocab);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_largest_and_the_first_of_equals),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(the_same_seed_draws_the_same),
        cmocka_unit_test(seed_0_is_a_new_one_each_time),
        cmocka_unit_test(filters_leave_only_the_likely),
        cmocka_unit_test(filters_look_at_the_model_not_at_the_temperature),
        cmocka_unit_test(repeated_tokens_are_penalized_for_64_tokens),
        cmocka_unit_test(grammars_are_obeyed),
        cmocka_unit_test(a_grammar_that_leaves_no_token_ends_the_text),
        cmocka_unit_test(grammars_that_libllama_cannot_use_are_refused),
        cmocka_unit_test(parameters_out_of_range_are_refused),
        cmocka_unit_test(hostile_logits_do_no_harm),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
