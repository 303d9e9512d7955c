/* test_chat_file.c - saved chats: what was written is read again, and nothing else is taken for a chat. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/stat.h>

#include "cli/chat_file.h"
#include "support/scratch.h"

static const struct corolla_model_info model = {.name = "a \"model\"", .model_id = "00ff", .n_vocab = 1000};

/* The options of a chat. */
struct flags {
    struct options options;
    struct corolla_sampling sampling;
    const char *tmpl, *grammar_file;
    uint32_t n, context;
    int policy;
    struct option_list stops;
};

static void flags_init(struct flags *f) {
    *f = (struct flags){.n = 512, .context = 4096, .policy = 1};
    const struct option rows[] = {
        {"--chat-template", OPTION_TEXT, &f->tmpl, 0, 0, "NAME", ""},
        {"-n", OPTION_U32, &f->n, 1, 1 << 24, "N", ""},
        {"--context", OPTION_U32, &f->context, 64, 1 << 24, "N", ""},
        {"--context-policy", OPTION_CHOICE, &f->policy, 0, 0, "stop|drop", ""},
        {"--stop", OPTION_LIST, &f->stops, 0, 0, "TEXT", ""},
    };
    options_add(&f->options, rows, sizeof rows / sizeof rows[0]);
    options_add_sampling(&f->options, &f->sampling, &f->grammar_file);
}

static void state_init(struct chat_state *s) {
    static const int32_t tokens[] = {0, 7, 999};
    *s = (struct chat_state){.turns = 2, .grammar = strdup("root ::= \"\\\"\""), .tokens = malloc(sizeof tokens), .n_tokens = 3};
    memcpy(s->tokens, tokens, sizeof tokens);
    assert_true(history_set_system(&s->history, "be\n\"kind\""));
    assert_true(history_add(&s->history, "user", "ünï\x01"));
    assert_true(history_add(&s->history, "assistant", ""));
}

/* Writes the chat of the two above, and gives the text of the file. */
static char *write_sample(const char *path) {
    struct corolla_error err;
    struct chat_state state;
    struct flags f;
    flags_init(&f);
    state_init(&state);
    f.tmpl = "chatml";
    f.sampling.temp = 0.1f + 0.2f; /* needs nine digits */
    f.sampling.seed = UINT32_MAX;
    f.policy = 0;
    f.stops = (struct option_list){.n = 2, .items = {"x", "\n"}};
    if (chat_file_write(&state, path, &model, &f.options, &err)) fail_msg("%s", err.message);
    chat_state_release(&state);
    json_error_t where;
    json_t *file = json_load_file(path, 0, &where);
    assert_non_null(file);
    json_decref(file);
    FILE *in = fopen(path, "rb");
    char *text = calloc(1, 4096);
    assert_true(fread(text, 1, 4095, in) < 4095);
    fclose(in);
    return text;
}

static void write_text(const char *path, const char *text, size_t size) {
    FILE *out = fopen(path, "wb");
    assert_int_equal(fwrite(text, 1, size, out), size);
    assert_int_equal(fclose(out), 0);
}

static enum corolla_status read_chat(const char *path, char message[512]) {
    struct corolla_error err = {0};
    struct chat_state state = {.turns = 77};
    struct flags f;
    flags_init(&f);
    enum corolla_status status = chat_file_read(&state, path, &model, &f.options, &err);
    if (status) assert_int_equal(state.turns, 77); /* untouched */
    if (!status) chat_state_release(&state);
    strcpy(message, err.message);
    return status;
}

static void what_was_written_is_read_again(void **unused) {
    (void)unused;
    const char *path = scratch_file("chat");
    struct corolla_error err;
    struct chat_state state, expected;
    struct stat st;
    struct flags f;
    free(write_sample(path));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600); /* what was said is nobody else's business */
    flags_init(&f);
    state_init(&expected);
    if (chat_file_read(&state, path, &model, &f.options, &err)) fail_msg("%s", err.message);
    assert_int_equal(state.turns, expected.turns);
    assert_string_equal(state.grammar, expected.grammar);
    assert_int_equal(state.n_tokens, 3);
    assert_memory_equal(state.tokens, expected.tokens, 3 * sizeof *state.tokens);
    assert_true(state.history.has_system && state.history.n == 3);
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(state.history.messages[i].role, expected.history.messages[i].role);
        assert_string_equal(state.history.messages[i].content, expected.history.messages[i].content);
    }
    float temp = 0.1f + 0.2f;
    assert_memory_equal(&f.sampling.temp, &temp, sizeof temp);
    assert_int_equal(f.sampling.seed, UINT32_MAX);
    assert_string_equal(f.tmpl, "chatml");
    assert_int_equal(f.policy, 0);
    assert_int_equal(f.stops.n, 2);
    assert_string_equal(f.stops.items[1], "\n");
    chat_state_release(&state);
    chat_state_release(&expected);
}

static void options_that_were_given_win(void **unused) {
    (void)unused;
    const char *path = scratch_file("chat");
    struct corolla_error err;
    struct chat_state state;
    struct flags f;
    free(write_sample(path));
    flags_init(&f);
    assert_int_equal(options_set(&f.options, "--temp", 6, "0.5"), 0);
    assert_int_equal(options_set(&f.options, "--stop", 6, "mine"), 0);
    if (chat_file_read(&state, path, &model, &f.options, &err)) fail_msg("%s", err.message);
    assert_true(f.sampling.temp > 0.49f && f.sampling.temp < 0.51f);
    assert_int_equal(f.stops.n, 1);
    assert_string_equal(f.stops.items[0], "mine");
    assert_string_equal(f.tmpl, "chatml");
    chat_state_release(&state);
}

/* A change of the sample's text, and what the refusal must say. */
static void a_damaged_file_is_refused(void **unused) {
    (void)unused;
    static const struct {
        const char *from, *to;
        enum corolla_status status;
        const char *word;
    } cases[] = {
        {"corolla chat", "other chat", COROLLA_FORMAT, "not a saved chat"},
        {"\"version\": 1", "\"version\": 2", COROLLA_UNSUPPORTED, "another version"},
        {"\"version\": 1", "\"version\": 1.0", COROLLA_FORMAT, "not a saved chat"},
        {"00ff", "00fe", COROLLA_MODEL_MISMATCH, "a \"model\""},
        {"\"id\"", "\"ID\"", COROLLA_FORMAT, "no model"},
        {"\"turns\": 2", "\"turns\": -1", COROLLA_FORMAT, "turns"},
        {"\"turns\": 2", "\"turns\": 4294967295", COROLLA_FORMAT, "turns"},
        {"\"turns\": 2", "\"turns\": 99999999999999999999", COROLLA_FORMAT, "JSON"},
        {"\"turns\": 2", "\"turns\": 2, \"turns\": 3", COROLLA_FORMAT, "JSON"},
        {"\"grammar\": \"", "\"grammar\": 3, \"x\": \"", COROLLA_FORMAT, "grammar"},
        {"\"assistant\"", "\"user\"", COROLLA_FORMAT, "messages"},
        {"\"assistant\"", "\"system\"", COROLLA_FORMAT, "messages"},
        {"\"user\"", "\"assistant\"", COROLLA_FORMAT, "messages"},
        {"\"role\": \"system\"", "\"role\": \"user\"", COROLLA_FORMAT, "messages"},
        {"\"content\": \"\"", "\"content\": []", COROLLA_FORMAT, "messages"},
        {"\"content\": \"\"", "\"content\": \"\\u0000\"", COROLLA_FORMAT, "JSON"},
        {"\"messages\": [", "\"messages\": 1, \"x\": [", COROLLA_FORMAT, "messages"},
        {"999]", "1000]", COROLLA_FORMAT, "tokens"},
        {"999]", "-1]", COROLLA_FORMAT, "tokens"},
        {"999]", "4294967303]", COROLLA_FORMAT, "tokens"},
        {"999]", "1.0]", COROLLA_FORMAT, "tokens"},
        {"\"tokens\": [", "\"tokens\": {}, \"x\": [", COROLLA_FORMAT, "tokens"},
        {"\"settings\": {", "\"settings\": 5, \"x\": {", COROLLA_FORMAT, "--chat-template"},
        {"\"-n\": 512", "\"-n\": \"512\"", COROLLA_FORMAT, "-n"},
        {"\"-n\": 512", "\"-n\": 0", COROLLA_FORMAT, "-n"},
        {"\"-n\": 512", "\"-n\": 1e300", COROLLA_FORMAT, "-n"},
        {"\"-n\": 512", "\"-n\": null", COROLLA_FORMAT, "-n"},
        {"\"-n\": 512,", "", COROLLA_FORMAT, "-n"},
        {"\"-n\": 512", "\"-n\": 512, \"--new\": 1", COROLLA_UNSUPPORTED, "does not know"},
        {"\"--top-p\": 0.95", "\"--top-p\": 1.01", COROLLA_FORMAT, "--top-p"},
        {"\"--seed\": 4294967295", "\"--seed\": 4294967296", COROLLA_FORMAT, "--seed"},
        {"\"stop\"", "\"halt\"", COROLLA_FORMAT, "--context-policy"},
        {"\"x\"", "7", COROLLA_FORMAT, "--stop"},
        {"\"chatml\"", "true", COROLLA_FORMAT, "--chat-template"},
    };
    const char *good = scratch_file("good"), *bad = scratch_file("bad");
    char message[512], damaged[8192], *text = write_sample(good);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *at = strstr(text, cases[i].from);
        assert_non_null(at);
        int size = snprintf(damaged, sizeof damaged, "%.*s%s%s", (int)(at - text), text, cases[i].to, at + strlen(cases[i].from));
        write_text(bad, damaged, (size_t)size);
        enum corolla_status status = read_chat(bad, message);
        if (status != cases[i].status || !strstr(message, cases[i].word) || !strstr(message, bad))
            fail_msg("%s in the place of %s: %s \"%s\"", cases[i].to, cases[i].from, corolla_status_name(status), message);
    }
    free(text);
}

static void a_truncated_file_is_refused_and_a_changed_byte_does_no_harm(void **unused) {
    (void)unused;
    const char *good = scratch_file("good"), *bad = scratch_file("bad");
    char message[512], *text = write_sample(good);
    size_t size = strlen(text), refused = 0;
    for (size_t cut = 0; cut < size - 1; cut++) { /* the last byte ends a line */
        write_text(bad, text, cut);
        assert_int_equal(read_chat(bad, message), COROLLA_FORMAT);
    }
    for (size_t at = 0; at < size; at++) {
        text[at] ^= (char)(1 << at % 8);
        write_text(bad, text, size);
        refused += read_chat(bad, message) != COROLLA_OK;
        text[at] ^= (char)(1 << at % 8);
    }
    assert_true(refused > size / 4 && refused < size);
    free(text);
}

static void what_cannot_be_saved_leaves_the_file_as_it_was(void **unused) {
    (void)unused;
    const char *path = scratch_file("chat");
    char *before = write_sample(path), message[512];
    struct corolla_error err;
    struct chat_state state;
    struct flags f;
    flags_init(&f);
    state_init(&state);
    assert_true(history_add(&state.history, "user", "\xff"));
    assert_int_equal(chat_file_write(&state, path, &model, &f.options, &err), COROLLA_INVALID);
    history_pop(&state.history);
    f.stops = (struct option_list){.n = 1, .items = {"\xff"}};
    assert_int_equal(chat_file_write(&state, path, &model, &f.options, &err), COROLLA_INVALID);
    f.stops.n = 0;
    char *huge = malloc((16 << 20) + 1);
    memset(huge, 'x', 16 << 20);
    huge[16 << 20] = '\0';
    assert_true(history_add(&state.history, "user", huge));
    assert_int_equal(chat_file_write(&state, path, &model, &f.options, &err), COROLLA_IO); /* no reader would take it */
    assert_int_equal(read_chat(path, message), COROLLA_OK);
    free(huge);
    free(before);
    chat_state_release(&state);
}

static int remove_files(void **unused) {
    (void)unused;
    scratch_remove();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read_again),
        cmocka_unit_test(options_that_were_given_win),
        cmocka_unit_test(a_damaged_file_is_refused),
        cmocka_unit_test(a_truncated_file_is_refused_and_a_changed_byte_does_no_harm),
        cmocka_unit_test(what_cannot_be_saved_leaves_the_file_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, remove_files);
}
