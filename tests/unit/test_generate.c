/* test_generate.c - the loop of generation on a fake session that "says" a script, with the vocabulary of a tiny model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "client/swarm.h"
#include "support/tiny.h"

#define SESSION_TOKENS 64
#define STEPS_MAX 128

/* The row behind a step is the number of the next token of the script; the logits have their peak there. */
struct fake {
    struct corolla_session base;
    const int32_t *script;
    size_t n_script, said;
    int fail_at; /* step that fails; -1: none */
    uint32_t n_steps, positions[STEPS_MAX], sizes[STEPS_MAX];
    int32_t last_tokens[STEPS_MAX];
    bool closed;
};

struct texts { /* what on_text was given */
    char all[1024];
    size_t size;
    int calls, stop_at, cancel_at;
    struct corolla_session *session;
};

static struct corolla_model *model;
static int32_t eog;

static enum corolla_status fake_step(struct corolla_session *const *sessions, const struct session_run *run, size_t n,
                                     struct corolla_error *err) {
    struct corolla_session *session = sessions[0];
    struct fake *fake = (struct fake *)session;
    assert_int_equal(n, 1);
    assert_true(fake->n_steps < STEPS_MAX);
    assert_int_equal(run->n_rows, 1);
    if (fake->fail_at == (int)fake->n_steps) return err_set(err, COROLLA_PEER_LOST, "a test lost a peer");
    fake->positions[fake->n_steps] = run->position;
    fake->sizes[fake->n_steps] = run->n;
    fake->last_tokens[fake->n_steps] = run->tokens[run->n - 1];
    fake->n_steps++;
    session->position = run->position + run->n;
    run->out[0] = (float)fake->said;
    return COROLLA_OK;
}

static enum corolla_status fake_logits(struct corolla_session *session, const float *hidden, uint32_t n, float *out,
                                       struct corolla_error *err) {
    (void)err;
    struct fake *fake = (struct fake *)session;
    assert_int_equal(n, 1);
    assert_true(fake->said == (size_t)hidden[0]);
    for (uint32_t i = 0; i < session->n_vocab; i++) out[i] = 0;
    out[fake->said < fake->n_script ? fake->script[fake->said] : eog] = 10;
    fake->said++;
    return COROLLA_OK;
}

static void fake_close(struct corolla_session *session) { ((struct fake *)session)->closed = true; }

static const struct session_ops fake_ops = {.step = fake_step, .logits = fake_logits, .close = fake_close};

static void fake_init(struct fake *fake, const int32_t *script, size_t n) {
    *fake = (struct fake){.script = script, .n_script = n, .fail_at = -1};
    static struct corolla_swarm swarm;
    swarm.model = model;
    static int32_t tokens[SESSION_TOKENS];
    assert_true(session_init(&fake->base, &fake_ops, &swarm, SESSION_TOKENS));
    session_release(&fake->base); /* most are never closed */
    fake->base.tokens = tokens;
}

static bool collect(void *user, const char *text, size_t size) {
    struct texts *texts = user;
    assert_true(texts->size + size < sizeof texts->all);
    memcpy(texts->all + texts->size, text, size);
    texts->size += size;
    texts->calls++;
    if (texts->calls == texts->cancel_at) corolla_session_cancel(texts->session);
    return texts->calls != texts->stop_at;
}

static struct corolla_generation greedy(struct texts *texts) {
    struct corolla_generation generation;
    corolla_generation_default(&generation);
    generation.sampling.temp = 0;
    generation.on_text = collect;
    generation.user = texts;
    return generation;
}

static int32_t *tokens_of(const char *text, size_t *n) {
    int32_t *tokens;
    struct corolla_error err;
    if (corolla_tokenize(model, text, strlen(text), false, false, &tokens, n, &err) != COROLLA_OK) fail_msg("%s", err.message);
    return tokens;
}

static const int32_t prompt[] = {40, 41, 42};
#define PROMPT 3

/* ---- tests ----------------------------------------------------------------------------------------------------- */

static void it_says_the_script_until_the_end_of_generation(void **state) {
    (void)state;
    size_t n;
    int32_t *script = tokens_of("sch\xc3\xb6n \xf0\x9f\x8c\xb8 ok", &n);
    struct fake fake;
    fake_init(&fake, script, n);
    struct texts texts = {.size = 0};
    struct corolla_generation generation = greedy(&texts);
    struct corolla_result result;
    assert_int_equal(corolla_generate(&fake.base, 0, prompt, PROMPT, &generation, &result, NULL), COROLLA_OK);
    assert_int_equal(result.stop, COROLLA_STOP_EOS);
    assert_int_equal(result.n_tokens, n);
    assert_memory_equal(result.tokens, script, n * sizeof *script);
    char *text;
    assert_int_equal(corolla_detokenize(model, script, n, &text, NULL), COROLLA_OK);
    const char *said = result.text + (result.text[0] == ' ' && text[0] != ' '); /* a tokenizer may put a space in front */
    assert_string_equal(said, text);
    corolla_free(text);
    texts.all[texts.size] = '\0';
    assert_string_equal(result.text, texts.all);
    assert_true(texts.calls > 3); /* streamed, not at the end */
    assert_int_equal(fake.n_steps, 1 + n);
    assert_int_equal(fake.sizes[0], PROMPT);
    for (uint32_t i = 1; i < fake.n_steps; i++) {
        assert_int_equal(fake.positions[i], PROMPT + i - 1);
        assert_int_equal(fake.sizes[i], 1);
        assert_int_equal(fake.last_tokens[i], script[i - 1]);
    }
    assert_true(result.first_token_ms >= 0 && result.prefill_tokens_per_s > 0 && result.decode_tokens_per_s > 0);
    corolla_result_clear(&result);
    corolla_free(script);
}

static void the_wanted_number_of_tokens_is_a_limit_and_the_last_is_not_fed(void **state) {
    (void)state;
    size_t n;
    int32_t *script = tokens_of("one two three four five six", &n);
    struct fake fake;
    fake_init(&fake, script, n);
    struct texts texts = {.size = 0};
    struct corolla_generation generation = greedy(&texts);
    generation.max_new_tokens = 5;
    struct corolla_result result;
    assert_int_equal(corolla_generate(&fake.base, 0, prompt, PROMPT, &generation, &result, NULL), COROLLA_OK);
    assert_int_equal(result.stop, COROLLA_STOP_LENGTH);
    assert_int_equal(result.n_tokens, 5);
    assert_int_equal(corolla_session_position(&fake.base), PROMPT + 5 - 1);
    corolla_result_clear(&result);
    corolla_free(script);
}

static void a_full_session_ends_generation(void **state) {
    (void)state;
    int32_t script[2 * SESSION_TOKENS];
    for (int i = 0; i < 2 * SESSION_TOKENS; i++) script[i] = 50;
    struct fake fake;
    fake_init(&fake, script, 2 * SESSION_TOKENS);
    struct texts texts = {.size = 0};
    struct corolla_generation generation = greedy(&texts);
    struct corolla_result result;
    assert_int_equal(corolla_generate(&fake.base, 0, prompt, PROMPT, &generation, &result, NULL), COROLLA_OK);
    assert_int_equal(result.stop, COROLLA_STOP_LENGTH);
    assert_int_equal(result.n_tokens, SESSION_TOKENS - PROMPT + 1);
    assert_int_equal(corolla_session_position(&fake.base), SESSION_TOKENS);
    corolla_result_clear(&result);
}

static void generation_goes_on_at_an_earlier_position(void **state) {
    (void)state;
    size_t n;
    int32_t *script = tokens_of("more", &n);
    struct fake fake;
    fake_init(&fake, script, n);
    fake.base.position = 10;
    struct texts texts = {.size = 0};
    struct corolla_generation generation = greedy(&texts);
    struct corolla_result result;
    assert_int_equal(corolla_generate(&fake.base, 2, prompt, PROMPT, &generation, &result, NULL), COROLLA_OK);
    assert_int_equal(fake.positions[0], 2);
    assert_int_equal(corolla_session_position(&fake.base), 2 + PROMPT + n);
    corolla_result_clear(&result);
    corolla_free(script);
}

static void a_stop_text_is_cut_off_and_not_shown(void **state) {
    (void)state;
    size_t n;
    int32_t *script = tokens_of("hello STOP and more", &n);
    struct fake fake;
    fake_init(&fake, script, n);
    struct texts texts = {.size = 0};
    struct corolla_generation generation = greedy(&texts);
    const char *stops[] = {"STOP"};
    generation.stops = stops;
    generation.n_stops = 1;
    struct corolla_result result;
    assert_int_equal(corolla_generate(&fake.base, 0, prompt, PROMPT, &generation, &result, NULL), COROLLA_OK);
    assert_int_equal(result.stop, COROLLA_STOP_STOP);
    texts.all[texts.size] = '\0';
    assert_non_null(strstr(result.text, "hello "));
    assert_null(strstr(result.text, "S"));
    assert_string_equal(result.text, texts.all);
    assert_true(result.n_tokens < n);
    corolla_result_clear(&result);
    corolla_free(script);
}

static void the_application_can_stop_and_is_not_called_again(void **state) {
    (void)state;
    size_t n;
    int32_t *script = tokens_of("a b c d e f g", &n);
    struct fake fake;
    fake_init(&fake, script, n);
    struct texts texts = {.stop_at = 3};
    struct corolla_generation generation = greedy(&texts);
    const char *stops[] = {"\nnever"};
    generation.stops = stops;
    generation.n_stops = 1;
    struct corolla_result result;
    assert_int_equal(corolla_generate(&fake.base, 0, prompt, PROMPT, &generation, &result, NULL), COROLLA_OK);
    assert_int_equal(result.stop, COROLLA_STOP_INTERRUPTED);
    assert_int_equal(texts.calls, 3);
    assert_true(result.n_tokens >= 3 && result.n_tokens < n);
    corolla_result_clear(&result);
    corolla_free(script);
}

static void a_cancelled_session_returns_what_it_has_and_works_again_after_clear(void **state) {
    (void)state;
    size_t n;
    int32_t *script = tokens_of("a b c d e f g", &n);
    struct fake fake;
    fake_init(&fake, script, n);
    struct texts texts = {.cancel_at = 3, .session = &fake.base};
    struct corolla_generation generation = greedy(&texts);
    struct corolla_result result;
    assert_int_equal(corolla_generate(&fake.base, 0, prompt, PROMPT, &generation, &result, NULL), COROLLA_CANCELLED);
    assert_int_equal(result.stop, COROLLA_STOP_INTERRUPTED);
    assert_true(result.n_tokens >= 3 && result.n_tokens < n);
    assert_true(strlen(result.text) >= 3);
    corolla_result_clear(&result);
    assert_int_equal(corolla_generate(&fake.base, 0, prompt, PROMPT, &generation, &result, NULL), COROLLA_CANCELLED);
    assert_int_equal(result.n_tokens, 0);
    corolla_result_clear(&result);
    corolla_session_cancel_clear(&fake.base);
    assert_int_equal(corolla_generate(&fake.base, 0, prompt, PROMPT, &generation, &result, NULL), COROLLA_OK);
    corolla_result_clear(&result);
    corolla_free(script);
}

static void a_failure_keeps_what_was_generated(void **state) {
    (void)state;
    size_t n;
    int32_t *script = tokens_of("a b c d e f g", &n);
    struct fake fake;
    fake_init(&fake, script, n);
    fake.fail_at = 4;
    struct texts texts = {.size = 0};
    struct corolla_generation generation = greedy(&texts);
    struct corolla_result result;
    struct corolla_error err;
    assert_int_equal(corolla_generate(&fake.base, 0, prompt, PROMPT, &generation, &result, &err), COROLLA_PEER_LOST);
    assert_string_equal(err.message, "a test lost a peer");
    assert_int_equal(result.n_tokens, 4);
    assert_memory_equal(result.tokens, script, 4 * sizeof *script);
    texts.all[texts.size] = '\0';
    assert_string_equal(result.text, texts.all);
    corolla_result_clear(&result);
    corolla_free(script);
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    struct fake fake;
    fake_init(&fake, prompt, PROMPT);
    struct texts texts = {.size = 0};
    struct corolla_generation generation = greedy(&texts);
    struct corolla_result result;
    assert_int_equal(corolla_generate(&fake.base, 0, prompt, 0, &generation, &result, NULL), COROLLA_INVALID);
    assert_int_equal(corolla_generate(&fake.base, 1, prompt, PROMPT, &generation, &result, NULL), COROLLA_BAD_POSITION);
    assert_int_equal(corolla_generate(&fake.base, 0, prompt, SESSION_TOKENS + 1, &generation, &result, NULL), COROLLA_TOO_LONG);
    assert_int_equal(fake.n_steps, 0);
    corolla_result_clear(&result);
    corolla_session_close(&fake.base);
    assert_true(fake.closed);
}

static void steps_are_checked_before_they_are_run(void **state) {
    (void)state;
    struct fake fake;
    fake_init(&fake, prompt, PROMPT);
    fake.base.position = 5;
    float rows[4];
    assert_int_equal(corolla_session_step(&fake.base, 6, prompt, 1, NULL, 0, NULL), COROLLA_BAD_POSITION);
    assert_int_equal(corolla_session_step(&fake.base, 5, prompt, SESSION_TOKENS - 4, NULL, 0, NULL), COROLLA_TOO_LONG);
    assert_int_equal(corolla_session_step(&fake.base, 5, prompt, UINT32_MAX, NULL, 0, NULL), COROLLA_TOO_LONG);
    assert_int_equal(corolla_session_step(&fake.base, 5, NULL, 1, NULL, 0, NULL), COROLLA_INVALID);
    assert_int_equal(corolla_session_step(&fake.base, 5, prompt, 1, rows, 2, NULL), COROLLA_INVALID);
    assert_int_equal(fake.n_steps, 0);
    assert_int_equal(corolla_session_position(&fake.base), 5);
}

static void the_rows_asked_for_are_the_last_ones_over_all_chunks(void **state) {
    (void)state;
    for (uint32_t n = 1; n <= 9; n++)
        for (uint32_t n_rows = 0; n_rows <= n; n_rows++)
            for (uint32_t chunk = 1; chunk <= n; chunk++) {
                struct session_run run = {.n = n, .n_rows = n_rows};
                uint32_t next = 0;
                for (uint32_t begin = 0; begin < n; begin += chunk) {
                    uint32_t size = n - begin < chunk ? n - begin : chunk, at, wanted = session_rows_wanted(&run, begin, size, &at);
                    assert_true(wanted <= size);
                    if (wanted == 0) continue;
                    assert_int_equal(at, next);
                    assert_int_equal(begin + size - wanted, n - n_rows + next); /* the row that stands there */
                    next += wanted;
                }
                assert_int_equal(next, n_rows);
            }
}

static char folder[] = "/tmp/corolla-generate-XXXXXX";
static char model_path[64];

static int make_model(void **state) {
    (void)state;
    if (mkdtemp(folder) == NULL) return -1;
    setenv("COROLLA_CACHE", folder, 1);
    snprintf(model_path, sizeof model_path, "%s/tiny.gguf", folder);
    struct tiny_config config;
    tiny_config_default(&config, "llama");
    struct corolla_error err;
    if (!tiny_write(&config, model_path)) return -1;
    if (corolla_model_open(&model, model_path, NULL, NULL, &err) != COROLLA_OK) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    const struct vocab *vocab;
    if (handle_vocab(model, &vocab, &err) != COROLLA_OK) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    while (!vocab_is_eog(vocab, eog)) eog++;
    return 0;
}

static int remove_model(void **state) {
    (void)state;
    corolla_model_close(model);
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_says_the_script_until_the_end_of_generation),
        cmocka_unit_test(the_wanted_number_of_tokens_is_a_limit_and_the_last_is_not_fed),
        cmocka_unit_test(a_full_session_ends_generation),
        cmocka_unit_test(generation_goes_on_at_an_earlier_position),
        cmocka_unit_test(a_stop_text_is_cut_off_and_not_shown),
        cmocka_unit_test(the_application_can_stop_and_is_not_called_again),
        cmocka_unit_test(a_cancelled_session_returns_what_it_has_and_works_again_after_clear),
        cmocka_unit_test(a_failure_keeps_what_was_generated),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(steps_are_checked_before_they_are_run),
        cmocka_unit_test(the_rows_asked_for_are_the_last_ones_over_all_chunks),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
