/* test_vocab.c - tokens, text and chat templates with the real vocabulary (BPE), and with a tiny one of the other kind (SPM). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gguf.h"
#include "support/scratch.h"
#include "support/tiny.h"
#include "text/text.h"

static struct vocab *bpe, *spm;

static void expect_round_trip(const struct vocab *vocab, const char *text) {
    struct corolla_error err;
    int32_t *tokens;
    size_t count;
    char *back;
    assert_int_equal(vocab_tokenize(vocab, text, strlen(text), false, false, &tokens, &count, &err), COROLLA_OK);
    assert_int_equal(vocab_detokenize(vocab, tokens, count, &back, &err), COROLLA_OK);
    assert_string_equal(back, text);
    free(tokens);
    free(back);
}

static void texts_come_back_from_their_tokens(void **state) {
    (void)state;
    const char *texts[] = {"",
                           "a",
                           "Hello, world!",
                           "two  spaces\n\tand a tab",
                           "Gr\xc3\xbc\xc3\x9f\x65 \xe2\x82\xac 5",
                           "\xf0\x9f\x8c\xb8\xf0\x9f\x8c\xb8",
                           "def f(x):\n    return x ** 2\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        expect_round_trip(bpe, texts[i]);
        expect_round_trip(spm, texts[i]);
    }
}

static void control_tokens_are_read_only_when_asked(void **state) {
    (void)state;
    struct corolla_error err;
    int32_t *tokens;
    size_t count;
    const char *text = "<|im_end|>";
    assert_int_equal(vocab_tokenize(bpe, text, strlen(text), false, true, &tokens, &count, &err), COROLLA_OK);
    assert_int_equal(count, 1);
    assert_true(vocab_is_eog(bpe, tokens[0]));
    assert_int_equal(vocab_piece(bpe, tokens[0], NULL, 0), 0); /* a person does not see it */
    free(tokens);
    assert_int_equal(vocab_tokenize(bpe, text, strlen(text), false, false, &tokens, &count, &err), COROLLA_OK);
    assert_true(count > 1);
    free(tokens);
}

static void text_that_is_no_utf8_is_refused_with_its_place(void **state) {
    (void)state;
    struct corolla_error err;
    int32_t *tokens = NULL;
    size_t count = 7;
    assert_int_equal(vocab_tokenize(bpe, "caf\xe9 au lait", 12, true, true, &tokens, &count, &err), COROLLA_INVALID);
    assert_non_null(strstr(err.message, "byte 3"));
    assert_null(tokens);
    assert_int_equal(count, 7);
}

static void numbers_that_are_no_token_are_refused(void **state) {
    (void)state;
    struct corolla_error err;
    char *text = NULL;
    const int32_t bad[] = {-1, INT32_MIN, (int32_t)vocab_size(bpe), INT32_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(vocab_detokenize(bpe, &bad[i], 1, &text, &err), COROLLA_INVALID);
        assert_null(text);
        assert_int_equal(vocab_piece(bpe, bad[i], NULL, 0), 0);
        assert_true(vocab_is_eog(bpe, bad[i])); /* a generation ends there */
    }
}

static void half_a_character_detokenizes_to_valid_text(void **state) {
    (void)state;
    struct corolla_error err;
    int32_t *tokens;
    size_t count;
    char *text;
    const char *flower = "\xf0\x9f\x8c\xb8";
    assert_int_equal(vocab_tokenize(bpe, flower, strlen(flower), false, false, &tokens, &count, &err), COROLLA_OK);
    assert_true(count > 1); /* else this test shows nothing: choose a rarer character */
    assert_int_equal(vocab_detokenize(bpe, tokens, count - 1, &text, &err), COROLLA_OK);
    assert_memory_equal(text, "\xef\xbf\xbd", 3);
    free(text);
    free(tokens);
}

static void a_piece_tells_its_size_when_there_is_no_room(void **state) {
    (void)state;
    struct corolla_error err;
    int32_t *tokens;
    size_t count;
    char piece[64];
    assert_int_equal(vocab_tokenize(bpe, " the", 4, false, false, &tokens, &count, &err), COROLLA_OK);
    assert_int_equal(count, 1);
    assert_int_equal(vocab_piece(bpe, tokens[0], NULL, 0), 4);
    assert_int_equal(vocab_piece(bpe, tokens[0], piece, sizeof piece), 4);
    assert_memory_equal(piece, " the", 4);
    free(tokens);
}

static void long_runs_of_one_letter_are_tokenized(void **state) {
    (void)state;
    struct corolla_error err;
    int32_t *tokens;
    size_t count, size = 200000;
    char *text = malloc(size);
    memset(text, 'a', size);
    assert_int_equal(vocab_tokenize(bpe, text, size, false, false, &tokens, &count, &err), COROLLA_OK);
    assert_true(count > 0 && count < size);
    free(tokens);
    free(text);
}

static const struct corolla_chat_message chat[] = {{"system", "Be brief."}, {"user", "Hi"}};

static void the_models_template_is_chatml(void **state) {
    (void)state;
    struct corolla_error err;
    char *text;
    assert_int_equal(vocab_chat_format(bpe, NULL, chat, 2, true, &text, &err), COROLLA_OK);
    assert_string_equal(text, "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    free(text);
}

static void a_template_can_be_chosen_by_name(void **state) {
    (void)state;
    struct corolla_error err;
    char *text;
    assert_int_equal(vocab_chat_format(bpe, "llama3", chat, 2, true, &text, &err), COROLLA_OK);
    assert_non_null(strstr(text, "<|start_header_id|>user<|end_header_id|>"));
    free(text);
}

static void unknown_templates_are_refused_with_the_way_out(void **state) {
    (void)state;
    struct corolla_error err;
    char *text = NULL;
    /* The second would be taken for ChatML by its pattern. */
    const char *names[] = {"no-such", "x<|im_start|>x", "mistral-of-mine", ""};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_int_equal(vocab_chat_format(bpe, names[i], chat, 2, true, &text, &err), COROLLA_UNSUPPORTED);
        assert_non_null(strstr(err.message, "chatml"));
    }
    assert_null(text);
}

/* A vocabulary of the tiny model's with another chat template; NULL: without one. */
static struct vocab *open_with_template(const char *tmpl) {
    struct corolla_error err;
    struct vocab *vocab = NULL;
    const char *key = "tokenizer.chat_template", *path = scratch_file("template.gguf");
    struct gguf_init_params params = {.no_alloc = true};
    struct gguf_context *from = gguf_init_from_file(scratch_file("spm.gguf"), params), *to = gguf_init_empty();
    assert_non_null(from);
    gguf_set_kv(to, from);
    gguf_remove_key(to, key);
    if (tmpl) gguf_set_val_str(to, key, tmpl);
    assert_true(gguf_write_to_file(to, path, false));
    gguf_free(from);
    gguf_free(to);
    if (vocab_open(&vocab, path, &err)) fail_msg("%s", err.message);
    return vocab;
}

static void a_model_without_a_known_template_is_refused_with_the_way_out(void **state) {
    (void)state;
    struct corolla_error err;
    const char *templates[] = {NULL, "{{ messages | my_own_filter }}"};
    for (size_t i = 0; i < 2; i++) {
        struct vocab *vocab = open_with_template(templates[i]);
        char *text = NULL;
        assert_int_equal(vocab_chat_format(vocab, NULL, chat, 2, true, &text, &err), COROLLA_UNSUPPORTED);
        assert_non_null(strstr(err.message, "--chat-template"));
        assert_null(text);
        assert_int_equal(vocab_chat_format(vocab, "chatml", chat, 2, true, &text, &err), COROLLA_OK);
        free(text);
        vocab_close(vocab);
    }
}

static void long_chats_fit_and_broken_ones_are_refused(void **state) {
    (void)state;
    struct corolla_error err;
    char *text, *content = malloc(100001);
    memset(content, 'x', 100000);
    content[100000] = '\0';
    const struct corolla_chat_message messages[] = {{"user", content}, {"assistant", content}, {"user", NULL}};
    assert_int_equal(vocab_chat_format(bpe, NULL, messages, 2, false, &text, &err), COROLLA_OK);
    assert_true(strlen(text) > 200000);
    free(text);
    assert_int_equal(vocab_chat_format(bpe, NULL, messages, 3, false, &text, &err), COROLLA_INVALID);
    free(content);
}

static void a_file_that_is_no_model_is_refused(void **state) {
    (void)state;
    struct corolla_error err;
    struct vocab *none = NULL;
    const char *path = scratch_file("none.gguf");
    FILE *f = fopen(path, "wb");
    fputs("GGUF but not really", f);
    fclose(f);
    assert_int_equal(vocab_open(&none, path, &err), COROLLA_UNSUPPORTED);
    assert_int_equal(vocab_open(&none, "/nonexistent.gguf", &err), COROLLA_UNSUPPORTED);
    assert_null(none);
    vocab_close(NULL);
}

static int setup(void **state) {
    (void)state;
    struct corolla_error err;
    struct tiny_config config;
    const char *path = getenv("COROLLA_TEST_MODEL"), *tiny = scratch_file("spm.gguf");
    tiny_config_default(&config, "llama");
    if (!path || !*path) {
        fprintf(stderr, "COROLLA_TEST_MODEL is not set: give it the path that \"make -s model\" prints\n");
        return -1;
    }
    if (vocab_open(&bpe, path, &err) || !tiny_write(&config, tiny) || vocab_open(&spm, tiny, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    return 0;
}

static int teardown(void **state) {
    (void)state;
    vocab_close(bpe);
    vocab_close(spm);
    scratch_remove();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_come_back_from_their_tokens),
        cmocka_unit_test(control_tokens_are_read_only_when_asked),
        cmocka_unit_test(text_that_is_no_utf8_is_refused_with_its_place),
        cmocka_unit_test(numbers_that_are_no_token_are_refused),
        cmocka_unit_test(half_a_character_detokenizes_to_valid_text),
        cmocka_unit_test(a_piece_tells_its_size_when_there_is_no_room),
        cmocka_unit_test(long_runs_of_one_letter_are_tokenized),
        cmocka_unit_test(the_models_template_is_chatml),
        cmocka_unit_test(a_template_can_be_chosen_by_name),
        cmocka_unit_test(unknown_templates_are_refused_with_the_way_out),
        cmocka_unit_test(a_model_without_a_known_template_is_refused_with_the_way_out),
        cmocka_unit_test(long_chats_fit_and_broken_ones_are_refused),
        cmocka_unit_test(a_file_that_is_no_model_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
