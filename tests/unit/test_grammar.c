/* test_grammar.c - which texts are GBNF grammars. What the check takes, libllama must take as well. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/scratch.h"
#include "support/tiny.h"
#include "support/vocab.h"
#include "text/grammar.h"
#include "text/text.h"

static struct vocab *vocab;
static float logits[TINY_VOCAB_MAX];

static const struct corolla_sampling greedy = {.temp = 0, .top_p = 1, .repeat_penalty = 1};

static void grammars_that_are_good_are_good_for_libllama_too(void **state) {
    (void)state;
    const char *good[] = {
        "root ::= \"a\"",
        "root ::= ",
        "# first\r\nroot ::= item{2,3} (\", \" item)* # behind\r\nitem ::= [a-z]+ | [^\\n\\]\\x41\\u00e9-] . \"\\\"\\\\\"?\n\n",
        "root\t::=\n  ( \"a\" |\n \"b\"\n) *\nunused ::= root",
        "root ::= \"\xc3\xa9\" [\xe2\x82\xac] rule-2\nrule-2 ::= rule-2x\nrule-2x ::= \"(((((\" [(((] # ((((",
        "root ::= \"a\"{0} \"b\"{3} \"c\"{1,} \"d\"{ 0 , 2 } (\"e\"{2}){2}",
        "root ::= <[3]> !<[4]>",
        "root ::= \"\" | \"a\" root | x root\nx ::= \"y\"? \"z\"",
        "root ::= ((\"a\"?))*",
        "root ::= (ws (\"a\" | item?))*\nws ::= [ ]*\nitem ::= \"(\" root \")\"",
        "root ::= (\"a\"?){0,3} \"b\"?{2}",
        "root ::= [a-z]*\nroot ::= \"b\"",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct corolla_error err;
        struct corolla_sampling params = greedy;
        struct sampler *sampler;
        params.grammar = good[i];
        if (grammar_check(good[i], &err)) fail_msg("%s: %s", good[i], err.message);
        if (sampler_new(&sampler, vocab, &params, &err)) fail_msg("%s: %s", good[i], err.message);
        for (int k = 0; k < 3; k++) sampler_sample(sampler, logits);
        sampler_free(sampler);
    }
}

static void what_is_wrong_is_told_with_its_line(void **state) {
    (void)state;
    const struct {
        const char *text, *words;
    } bad[] = {
        {"", "root"},
        {" \n# nothing", "root"},
        {"start ::= \"a\"", "root"},
        {"root ::= a\na ::= \"x\" |\n  nobody", "line 3: there is no rule named nobody"},
        {"root ::= \"a\nb", "does not end: \"a"},
        {"root ::= [a-z", "class does not end"},
        {"root ::= (\"a\" | \"b\"", "group does not end"},
        {"root ::= \"a\")", "no rule: )"},
        {"root", "::="},
        {"root = \"a\"", "::="},
        {"root ::= a_b\na ::= \"x\"", "no rule: _b"},
        {"\nroot ::= \"\\q\"", "line 2: this escape is not known: \\q"},
        {"root ::= \"\\u12\"", "escape"},
        {"root ::= \"\\", "escape"},
        {"root ::= *", "no rule: *"},
        {"root ::= \"a\"{5,2}", "repetition"}, /* libllama would loop 2^64 times */
        {"root ::= \"a\"{2001}", "repetition"},
        {"root ::= \"a\"{99999999999999999999999}", "repetition"},
        {"root ::= \"a\"{,3}", "repetition"},
        {"root ::= \"a\"{1", "repetition"},
        {"root ::= <think", "token"},
        {"root ::= !x", "token"},
        {"root ::= <[x]>", "token"},
        {"root ::= <[99999999999999999999]>", "token"},
        {"root ::= \"\"*", "empty"},
        {"root ::= []{2}", "empty"},
        {"root ::= \"a\"{0}{2}", "empty"},
        {"root ::= \"\xff\"", "UTF-8"}, /* libllama would read behind the end */
        {"root ::= root \"a\"", "left"},
        {"root ::= a root \"x\" | \"y\"\na ::= b\nb ::= | c\nc ::= \"c\"?",
         "left"}, /* these and the next libllama follows until memory is gone */
        {"root ::= ((\"a\"|\"b\")*)root{2}", "left"},
        {"root ::= (\"a\"?) root \"b\" | \"c\"", "left"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct corolla_error err;
        if (grammar_check(bad[i].text, &err) != COROLLA_INVALID) fail_msg("%s: was taken", bad[i].text);
        if (!strstr(err.message, bad[i].words)) fail_msg("\"%s\" does not say \"%s\"", err.message, bad[i].words);
    }
}

static void repeat(char *to, const char *what, size_t n) {
    to += strlen(to);
    for (size_t size = strlen(what); n-- > 0; to += size) memcpy(to, what, size);
    *to = '\0';
}

static void sizes_are_bounded(void **state) {
    (void)state;
    struct corolla_error err;
    char *text = calloc(1, 1 << 18);
    strcpy(text, "root ::= ");
    repeat(text, "(", 128);
    repeat(text, "\"a\"", 1);
    repeat(text, ")", 128);
    assert_int_equal(grammar_check(text, &err), COROLLA_OK);
    strcpy(text, "root ::= ");
    repeat(text, "(", 60000);
    assert_int_equal(grammar_check(text, &err), COROLLA_INVALID);
    assert_non_null(strstr(err.message, "nested"));

    strcpy(text, "root ::= \"");
    repeat(text, "x", 60000);
    repeat(text, "\"{2000}", 1); /* a gigabyte in libllama */
    assert_int_equal(grammar_check(text, &err), COROLLA_INVALID);
    assert_non_null(strstr(err.message, "too many"));
    strcpy(text, "root ::= \"a\"");
    repeat(text, "{2000}", 100);
    assert_int_equal(grammar_check(text, &err), COROLLA_INVALID);

    strcpy(text, "root ::= \"a\"\n#");
    repeat(text, "x", 65536);
    assert_int_equal(grammar_check(text, &err), COROLLA_INVALID);
    assert_non_null(strstr(err.message, "65536"));

    text[0] = '\0';
    for (int i = 0; i < 2100; i++) sprintf(text + strlen(text), "r%d ::= \"a\"\n", i);
    assert_int_equal(grammar_check(text, &err), COROLLA_INVALID);
    assert_non_null(strstr(err.message, "2048"));
    free(text);
}

static void long_chains_of_rules_are_no_danger(void **state) {
    (void)state;
    struct corolla_error err;
    struct corolla_sampling params = greedy;
    struct sampler *sampler;
    char *text = calloc(1, 1 << 18);
    strcpy(text, "root ::= r0\n");
    for (int i = 0; i < 2000; i++) sprintf(text + strlen(text), "r%d ::= r%d\n", i, i + 1);
    strcat(text, "r2000 ::= \"a\"");
    params.grammar = text;
    if (sampler_new(&sampler, vocab, &params, &err)) fail_msg("%s", err.message);
    sampler_free(sampler);
    free(text);
}

static int setup(void **state) {
    (void)state;
    struct corolla_error err;
    struct tiny_config config;
    const char *path = scratch_file("tiny.gguf");
    tiny_config_default(&config, "llama");
    if (tiny_write(&config, path) && vocab_open(&vocab, path, &err) == COROLLA_OK) return 0;
    fprintf(stderr, "no vocabulary\n");
    return -1;
}

static int teardown(void **state) {
    (void)state;
    vocab_close(vocab);
    scratch_remove();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grammars_that_are_good_are_good_for_libllama_too),
        cmocka_unit_test(what_is_wrong_is_told_with_its_line),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(long_chains_of_rules_are_no_danger),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
