/* test_entry.c - join codes and names are told apart, and what is neither is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mesh/entry.h"
#include "support/samples.h"
#include "wire/join.h"

static void a_join_code_is_taken_with_its_node(void **state) {
    (void)state;
    struct node_ref node = sample_node_ref(9, SAMPLE_USUAL);
    char code[JOIN_CODE_MAX], spaced[JOIN_CODE_MAX + 8];
    struct entry entry;
    join_encode(&node, code);
    snprintf(spaced, sizeof(spaced), "  %s\n", code);
    for (int i = 0; i < 3; i++) {
        if (i == 2) spaced[2] = 'C'; /* codes are read in any case */
        assert_int_equal(entry_parse(i == 0 ? code : spaced, &entry, NULL), COROLLA_OK);
        assert_true(entry.has_node);
        assert_true(node_id_equal(&entry.node.id, &node.id));
        assert_string_equal(entry.node.addrs[0], node.addrs[0]);
    }
}

static void a_name_gets_the_usual_port_when_it_has_none(void **state) {
    (void)state;
    static const char *const names[][2] = {
        {"entry.example.org", "entry.example.org:31330"},
        {"entry.example.org:80", "entry.example.org:80"},
        {" host\n", "host:31330"},
        {"192.0.2.7", "192.0.2.7:31330"},
        {"192.0.2.7:9", "192.0.2.7:9"},
        {"[2001:db8::17]", "[2001:db8::17]:31330"},
        {"[2001:db8::17]:5", "[2001:db8::17]:5"},
        {"corolla1.example.org", "corolla1.example.org:31330"},
        {"corolla1:31330", "corolla1:31330"},
        {"corolla.org", "corolla.org:31330"},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct entry entry;
        struct corolla_error err;
        if (entry_parse(names[i][0], &entry, &err) != COROLLA_OK) fail_msg("%s: %s", names[i][0], err.message);
        assert_false(entry.has_node);
        assert_string_equal(entry.address, names[i][1]);
    }
}

static void a_damaged_code_is_told_as_such_and_not_taken_for_a_name(void **state) {
    (void)state;
    static const char *const bad[] = {"corolla1", "corolla1abc", "COROLLA1aaaaaaaaaaaaaaaaaaaa", "corolla1!!"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct entry entry = {.has_node = false, .address = "as before"};
        struct corolla_error err;
        assert_int_equal(entry_parse(bad[i], &entry, &err), COROLLA_INVALID);
        assert_non_null(strstr(err.message, "join code"));
        assert_string_equal(entry.address, "as before");
    }
}

static void what_is_neither_is_refused_and_says_what_is_wanted(void **state) {
    (void)state;
    static char endless[100000];
    memset(endless, 'a', sizeof(endless) - 1);
    static const char *const bad[] = {"",      " ",    ":",      ":31330",    "host:",       "host:0",          "host:65536",  "two words",
                                      "::1",   "[::1", "[::1]x", "[]:5",      "a/b",         "https://host",    "h\xc3\xb6st", "\x1b[2J",
                                      endless, "[",    "]",      "user@host", "[fe80::1%e]", "host:31330:31330"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct entry entry;
        struct corolla_error err;
        if (entry_parse(bad[i], &entry, &err) != COROLLA_INVALID) fail_msg("\"%.40s\" was taken", bad[i]);
        assert_non_null(strstr(err.message, "HOST:PORT"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_join_code_is_taken_with_its_node),
        cmocka_unit_test(a_name_gets_the_usual_port_when_it_has_none),
        cmocka_unit_test(a_damaged_code_is_told_as_such_and_not_taken_for_a_name),
        cmocka_unit_test(what_is_neither_is_refused_and_says_what_is_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
