/* test_stream.c - text that becomes final token by token: characters cut by tokens, stop texts across tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "text/text.h"
#include "text/whole.h"

#define FFFD "\xef\xbf\xbd"

static struct vocab *vocab;

struct run { /* one stream and what it said */
    struct stream *stream;
    char text[1024];
    size_t size;
    bool stopped;
};

static void run_open(struct run *r, const char *const *stops, size_t n_stops) {
    struct corolla_error err;
    *r = (struct run){0};
    assert_int_equal(stream_new(&r->stream, vocab, stops, n_stops, &err), COROLLA_OK);
}

static void run_take(struct run *r, const char *text, size_t size) {
    assert_true(r->size + size < sizeof r->text);
    assert_int_equal(whole_prefix(text, size), size); /* every part is whole characters */
    memcpy(r->text + r->size, text, size);
    r->size += size;
    r->text[r->size] = '\0';
}

static void run_push(struct run *r, int32_t token) {
    const char *text;
    size_t size;
    r->stopped = stream_push(r->stream, token, &text, &size);
    run_take(r, text, size);
}

static void run_close(struct run *r) {
    const char *text;
    size_t size;
    stream_end(r->stream, &text, &size);
    run_take(r, text, size);
    stream_free(r->stream);
}

/* The one token that is these bytes; the test fails when the vocabulary has none. */
static int32_t token_of(const char *bytes, size_t size) {
    char piece[64];
    for (uint32_t i = 0; i < vocab_size(vocab); i++) {
        size_t n = vocab_piece(vocab, (int32_t)i, piece, sizeof piece);
        if (n == size && memcmp(piece, bytes, size) == 0) return (int32_t)i;
    }
    fail_msg("the vocabulary has no token for \"%.*s\"", (int)size, bytes);
    return -1;
}

/* Each byte of text as a token of its own. */
static void push_bytes(struct run *r, const char *text) {
    for (; *text && !r->stopped; text++) run_push(r, token_of(text, 1));
}

static void characters_cut_by_tokens_come_whole(void **state) {
    (void)state;
    struct run r;
    const char *text = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x8c\xb8z";
    run_open(&r, NULL, 0);
    run_push(&r, token_of("a", 1));
    run_push(&r, token_of("\xc3", 1));
    assert_string_equal(r.text, "a"); /* half an e with an accent is held back */
    run_push(&r, token_of("\xa9", 1));
    assert_string_equal(r.text, "a\xc3\xa9");
    push_bytes(&r, text + 3);
    run_close(&r);
    assert_string_equal(r.text, text);
}

static void broken_bytes_become_replacement_characters(void **state) {
    (void)state;
    struct run r;
    run_open(&r, NULL, 0);
    run_push(&r, token_of("\xe2", 1));
    run_push(&r, token_of("b", 1));
    assert_string_equal(r.text, FFFD "b");
    run_push(&r, token_of("\xf0", 1));
    run_close(&r);
    assert_string_equal(r.text, FFFD "b" FFFD);
}

static void a_stop_text_across_tokens_is_cut_off(void **state) {
    (void)state;
    struct run r;
    const char *stops[] = {"END"};
    run_open(&r, stops, 1);
    push_bytes(&r, "the END is near");
    assert_true(r.stopped);
    assert_string_equal(r.text, "the ");
    run_push(&r, token_of("x", 1)); /* nothing comes behind a stop */
    assert_true(r.stopped);
    run_close(&r);
    assert_string_equal(r.text, "the ");
}

static void a_stop_text_inside_one_token_is_cut_off(void **state) {
    (void)state;
    struct run r;
    const char *stops[] = {"h"};
    run_open(&r, stops, 1);
    run_push(&r, token_of(" the", 4));
    run_close(&r);
    assert_true(r.stopped);
    assert_string_equal(r.text, " t");
}

static void no_more_is_held_back_than_could_be_a_stop_text(void **state) {
    (void)state;
    struct run r;
    const char *stops[] = {"aab", "xyz"};
    run_open(&r, stops, 2);
    push_bytes(&r, "caa");
    assert_string_equal(r.text, "c");
    push_bytes(&r, "a"); /* aaa: the first can be given out */
    assert_string_equal(r.text, "ca");
    push_bytes(&r, "x");
    assert_string_equal(r.text, "caaa");
    push_bytes(&r, "yq");
    assert_string_equal(r.text, "caaaxyq");
    push_bytes(&r, "xy"); /* and what is held back at the end comes out */
    run_close(&r);
    assert_string_equal(r.text, "caaaxyqxy");
}

static void where_tokens_are_cut_does_not_matter(void **state) {
    (void)state;
    struct run a, b;
    const char *stops[] = {" they", "e"};
    run_open(&a, stops, 2);
    run_push(&a, token_of(" they", 5));
    run_close(&a);
    run_open(&b, stops, 2);
    push_bytes(&b, " they");
    run_close(&b);
    assert_string_equal(a.text, " th"); /* "e" is complete first */
    assert_string_equal(b.text, a.text);
}

static void control_tokens_have_no_text(void **state) {
    (void)state;
    struct run r;
    struct corolla_error err;
    int32_t *tokens;
    size_t count;
    assert_int_equal(vocab_tokenize(vocab, "<|im_end|>", 10, false, true, &tokens, &count, &err), COROLLA_OK);
    run_open(&r, NULL, 0);
    run_push(&r, tokens[0]);
    run_push(&r, -1);
    run_close(&r);
    assert_string_equal(r.text, "");
    free(tokens);
}

static void stop_texts_that_make_no_sense_are_refused(void **state) {
    (void)state;
    struct corolla_error err;
    struct stream *stream = NULL;
    char *long_one = calloc(1, 5001);
    memset(long_one, 'x', 5000);
    const char *bad[] = {"", "\xff", long_one};
    for (size_t i = 0; i < 3; i++) {
        const char *stops[] = {"fine", bad[i]};
        assert_int_equal(stream_new(&stream, vocab, stops, 2, &err), COROLLA_INVALID);
    }
    const char *many[65];
    for (size_t i = 0; i < 65; i++) many[i] = "x";
    assert_int_equal(stream_new(&stream, vocab, many, 65, &err), COROLLA_INVALID);
    assert_null(stream);
    free(long_one);
}

static int setup(void **state) {
    (void)state;
    struct corolla_error err;
    const char *path = getenv("COROLLA_TEST_MODEL");
    if (!path || !*path) {
        fprintf(stderr, "COROLLA_TEST_MODEL is not set: give it the path that \"make -s model\" prints\n");
        return -1;
    }
    if (vocab_open(&vocab, path, &err) == COROLLA_OK) return 0;
    fprintf(stderr, "%s\n", err.message);
    return -1;
}

static int teardown(void **state) {
    (void)state;
    vocab_close(vocab);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_cut_by_tokens_come_whole),
        cmocka_unit_test(broken_bytes_become_replacement_characters),
        cmocka_unit_test(a_stop_text_across_tokens_is_cut_off),
        cmocka_unit_test(a_stop_text_inside_one_token_is_cut_off),
        cmocka_unit_test(no_more_is_held_back_than_could_be_a_stop_text),
        cmocka_unit_test(where_tokens_are_cut_does_not_matter),
        cmocka_unit_test(control_tokens_have_no_text),
        cmocka_unit_test(stop_texts_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
