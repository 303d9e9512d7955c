/* test_lan_table.c - what is told of nodes that were heard on the LAN, and what of those that somebody makes up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/lan_table.h"

static struct lan_table table;
static struct node_id id_of(unsigned number) { return (struct node_id){.instance = number}; }
static const struct node_ref *hear(unsigned number, const char *address, uint64_t now_ms) {
    struct node_id id = id_of(number);
    return lan_table_heard(&table, &id, address, now_ms);
}
static const char *host(unsigned number) {
    static char text[ADDR_MAX];
    snprintf(text, sizeof(text), "10.0.%u.%u:5", number / 250, number % 250);
    return text;
}
static int empty(void **state) {
    (void)state;
    memset(&table, 0, sizeof(table));
    return 0;
}

static void a_node_is_told_when_it_is_new_moves_or_was_not_told_for_a_while(void **state) {
    (void)state;
    const struct node_ref *node = hear(1, "10.0.0.1:5", 0);
    assert_non_null(node);
    assert_int_equal(node->id.instance, 1);
    assert_string_equal(node->addrs[0], "10.0.0.1:5");
    assert_null(hear(1, "10.0.0.1:5", 10));
    node = hear(1, "[fe80::1%eth0]:5", 20);
    assert_non_null(node);
    assert_int_equal(node->n_addrs, 2);
    assert_string_equal(node->addrs[0], "[fe80::1%eth0]:5"); /* the last one first */
    assert_string_equal(node->addrs[1], "10.0.0.1:5");
    assert_null(hear(1, "10.0.0.1:5", 30));
    assert_null(hear(1, "10.0.0.1:5", 20 + LAN_AGAIN_MS - 1));
    node = hear(1, "10.0.0.1:5", 20 + LAN_AGAIN_MS);
    assert_non_null(node);
    assert_string_equal(node->addrs[0], "10.0.0.1:5");
}

static void what_was_heard_is_found_again(void **state) {
    (void)state;
    struct node_id known = id_of(1), unknown = id_of(2);
    hear(1, "10.0.0.1:5", 0);
    hear(1, "[fe80::1%eth0]:5", 1);
    assert_int_equal(lan_table_find(&table, &known)->n_addrs, 2);
    assert_null(lan_table_find(&table, &unknown));
}

static void a_node_has_at_most_four_addresses_the_newest(void **state) {
    (void)state;
    const struct node_ref *node = NULL;
    for (unsigned i = 0; i < 10; i++) node = hear(1, host(i), i);
    assert_non_null(node);
    assert_int_equal(node->n_addrs, ADDRS_MAX);
    for (unsigned i = 0; i < ADDRS_MAX; i++) assert_string_equal(node->addrs[i], host(9 - i));
}

static void findings_are_limited_per_second_and_those_known_go_on(void **state) {
    (void)state;
    unsigned told = 0;
    assert_non_null(hear(0, host(0), 5000));
    for (unsigned i = 1; i < 200; i++) told += hear(i, host(i), 5000 + i) != NULL;
    assert_int_equal(told, LAN_FOUND_PER_S - 1);
    assert_int_equal(table.n, LAN_FOUND_PER_S);
    assert_null(hear(0, host(0), 5500));
    assert_non_null(hear(300, host(300), 6000));
}

static void one_host_cannot_take_more_than_its_share(void **state) {
    (void)state;
    char address[ADDR_MAX];
    unsigned told = 0;
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(address, sizeof(address), "10.0.0.9:%u", i + 1);
        told += hear(i, address, i * 25) != NULL;
    }
    assert_int_equal(told, LAN_HOST_NODES);
    assert_int_equal(table.n, LAN_HOST_NODES);
    assert_non_null(hear(5000, "10.0.0.8:1", 25000));
    assert_non_null(hear(5001, "10.0.0.9:1", 25000 + LAN_AGAIN_MS)); /* its oldest ones are gone: processes are restarted */
    assert_int_equal(table.n, LAN_HOST_NODES + 1);
}

static void a_host_with_two_addresses_has_two_shares_at_most(void **state) {
    (void)state;
    char one[ADDR_MAX], other[ADDR_MAX];
    for (unsigned i = 0; i < 1000; i++) { /* most are heard over both, so that the last address of a node says little */
        snprintf(one, sizeof(one), "10.0.0.9:%u", i + 1);
        snprintf(other, sizeof(other), "[fe80::9%%eth0]:%u", i + 1);
        hear(i, one, i * 25);
        if (i % 3 != 0) hear(i, other, i * 25);
    }
    assert_in_range(table.n, LAN_HOST_NODES, 2 * LAN_HOST_NODES);
}

static void a_full_table_forgets_who_was_silent_longest(void **state) {
    (void)state;
    for (unsigned i = 0; i < LAN_NODES_MAX; i++) assert_non_null(hear(i, host(i), i * 100));
    hear(0, host(0), 99000);
    assert_non_null(hear(1000, host(1000), 100000));
    assert_int_equal(table.n, LAN_NODES_MAX);
    assert_null(hear(0, host(0), 100001));     /* still known */
    assert_non_null(hear(1, host(1), 100002)); /* new again */
}

#define TEST(name) cmocka_unit_test_setup(name, empty)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_node_is_told_when_it_is_new_moves_or_was_not_told_for_a_while),
        TEST(what_was_heard_is_found_again),
        TEST(a_node_has_at_most_four_addresses_the_newest),
        TEST(findings_are_limited_per_second_and_those_known_go_on),
        TEST(one_host_cannot_take_more_than_its_share),
        TEST(a_host_with_two_addresses_has_two_shares_at_most),
        TEST(a_full_table_forgets_who_was_silent_longest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
