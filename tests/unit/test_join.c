/* test_join.c - join codes: there and back, and what a person may do to one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <ctype.h>

#include "support/samples.h"
#include "wire/join.h"

static void same_node(const struct node_ref *a, const struct node_ref *b) {
    assert_true(node_id_equal(&a->id, &b->id));
    assert_int_equal(a->n_addrs, b->n_addrs);
    for (uint32_t i = 0; i < a->n_addrs; i++) {
        assert_string_equal(a->addrs[i], b->addrs[i]);
    }
}

static void a_code_goes_there_and_back(void **state) {
    (void)state;
    for (int how = SAMPLE_USUAL; how <= SAMPLE_LARGEST; how++) {
        struct node_ref node = sample_node_ref(9, (enum sample_size)how), back;
        char code[JOIN_CODE_MAX];
        struct corolla_error err = {0};
        join_encode(&node, code);
        assert_memory_equal(code, "corolla1", 8);
        assert_true(strlen(code) < JOIN_CODE_MAX);
        assert_int_equal(join_decode(code, &back, &err), COROLLA_OK);
        same_node(&node, &back);
    }
}

static void a_code_of_the_past_is_still_read(void **state) {
    (void)state;
    /* Fixed here so that codes people keep in scripts stay valid; docs/PROTOCOL.md shows the same one. */
    static const char code[] = "corolla1bi2quiqkeaaacaqdaqcqmbyibefawdanbyhraeiscmkbkfqxdamrugy4dupb6eqpgezdolrqfyyc4mj2gmytgmzqdrv7gni";
    struct node_ref expected = {.n_addrs = 1, .addrs = {"127.0.0.1:31330"}}, back;
    for (int i = 0; i < KEY_SIZE; i++) {
        expected.id.key[i] = (uint8_t)i;
    }
    char made[JOIN_CODE_MAX];
    join_encode(&expected, made);
    assert_string_equal(made, code);
    assert_int_equal(join_decode(code, &back, NULL), COROLLA_OK);
    same_node(&expected, &back);
}

static struct join_code sample_code(enum sample_size how) {
    struct join_code code = {.node = sample_node_ref(9, how), .is_private = true};
    sample_bytes(code.swarm, KEY_SIZE, 10);
    if (how == SAMPLE_LARGEST) {
        code.invitation = sample_signed(11);
    }
    return code;
}

static void a_code_of_a_private_swarm_goes_there_and_back(void **state) {
    (void)state;
    for (int how = SAMPLE_USUAL; how <= SAMPLE_LARGEST; how++) {
        struct join_code code = sample_code((enum sample_size)how), back;
        struct node_ref node;
        char text[JOIN_CODE_MAX];
        join_code_encode(&code, text);
        assert_true(strlen(text) < JOIN_CODE_MAX);
        assert_int_equal(join_code_decode(text, &back, NULL), COROLLA_OK);
        same_node(&code.node, &back.node);
        assert_true(back.is_private);
        assert_memory_equal(back.swarm, code.swarm, KEY_SIZE);
        assert_int_equal(back.invitation.size, code.invitation.size);
        assert_memory_equal(back.invitation.data, code.invitation.data, code.invitation.size);
        assert_int_equal(join_decode(text, &node, NULL), COROLLA_OK); /* for who wants the node alone */
        same_node(&code.node, &node);
    }
}

static void a_code_of_an_open_swarm_says_so(void **state) {
    (void)state;
    struct node_ref node = sample_node_ref(9, SAMPLE_USUAL);
    struct join_code back = {.is_private = true, .invitation.size = 7};
    char text[JOIN_CODE_MAX];
    join_encode(&node, text);
    assert_int_equal(join_code_decode(text, &back, NULL), COROLLA_OK);
    assert_false(back.is_private);
    assert_int_equal(back.invitation.size, 0);
}

static void case_and_surrounding_space_do_not_matter(void **state) {
    (void)state;
    struct node_ref node = sample_node_ref(9, SAMPLE_USUAL), back;
    char code[JOIN_CODE_MAX], other[JOIN_CODE_MAX + 8];
    join_encode(&node, code);
    snprintf(other, sizeof(other), " \t%s\r\n", code);
    for (char *p = other; *p != '\0'; p++) {
        *p = (char)toupper((unsigned char)*p);
    }
    assert_int_equal(join_decode(other, &back, NULL), COROLLA_OK);
    same_node(&node, &back);
}

static void every_wrong_character_is_noticed(void **state) {
    (void)state;
    struct node_ref node = sample_node_ref(9, SAMPLE_USUAL), back;
    char code[JOIN_CODE_MAX];
    struct corolla_error err;
    join_encode(&node, code);
    for (size_t i = 0; code[i] != '\0'; i++) {
        char before = code[i];
        for (const char *c = "ax7 -"; *c != '\0'; c++) {
            code[i] = *c;
            if (*c != before && !(*c == ' ' && code[i + 1] == '\0')) {
                assert_int_equal(join_decode(code, &back, &err), COROLLA_INVALID);
                assert_non_null(strstr(err.message, "join code"));
            }
        }
        code[i] = before;
    }
}

static void every_cut_is_noticed(void **state) {
    (void)state;
    struct node_ref node = sample_node_ref(9, SAMPLE_USUAL), back;
    char code[JOIN_CODE_MAX];
    join_encode(&node, code);
    for (size_t length = strlen(code); length-- > 0;) {
        code[length] = '\0';
        assert_int_equal(join_decode(code, &back, NULL), COROLLA_INVALID);
    }
}

static void what_is_no_code_is_refused_and_the_output_left_alone(void **state) {
    (void)state;
    static char endless[100000];
    memset(endless, 'a', sizeof(endless) - 1);
    memcpy(endless, "corolla1", 8);
    static const char *const bad[] = {"",     " ", "corolla", "corolla1", "corolla1a", "corolla2aaaaaaaa", "petals1aaaa", "corolla1!!!!",
                                      endless};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct node_ref back = {.n_addrs = 3};
        struct corolla_error err;
        assert_int_equal(join_decode(bad[i], &back, &err), COROLLA_INVALID);
        assert_int_equal(back.n_addrs, 3);
        assert_true(strlen(err.message) > 10);
    }
}

static void a_node_without_addresses_cannot_be_joined(void **state) {
    (void)state;
    struct node_ref node = sample_node_ref(9, SAMPLE_USUAL), back;
    char code[JOIN_CODE_MAX];
    node.n_addrs = 0;
    join_encode(&node, code);
    assert_int_equal(join_decode(code, &back, NULL), COROLLA_INVALID);
    node.n_addrs = 1;
    snprintf(node.addrs[0], ADDR_MAX, "no port");
    join_encode(&node, code);
    assert_int_equal(join_decode(code, &back, NULL), COROLLA_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_code_goes_there_and_back),
        cmocka_unit_test(a_code_of_the_past_is_still_read),
        cmocka_unit_test(a_code_of_a_private_swarm_goes_there_and_back),
        cmocka_unit_test(a_code_of_an_open_swarm_says_so),
        cmocka_unit_test(case_and_surrounding_space_do_not_matter),
        cmocka_unit_test(every_wrong_character_is_noticed),
        cmocka_unit_test(every_cut_is_noticed),
        cmocka_unit_test(what_is_no_code_is_refused_and_the_output_left_alone),
        cmocka_unit_test(a_node_without_addresses_cannot_be_joined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
