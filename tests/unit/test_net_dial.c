/* test_net_dial.c - who is dialled, where, for how long, and who is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/net_node.h"
#include "support/net_raw.h"

static void dialling_the_wrong_key_or_instance_fails_and_says_so(void **state) {
    struct node_pair *pair = *state;
    struct node *a = &pair->a, *b = &pair->b;
    struct corolla_error err = {0};
    struct node_ref wrong = *net_self(b->net);
    wrong.id.key[3] ^= 1;
    assert_null(node_dial(a, &wrong, &err));
    assert_int_equal(err.status, COROLLA_REFUSED);
    assert_non_null(strstr(err.message, net_self(b->net)->addrs[0]));
    assert_non_null(strstr(err.message, "key"));
    wrong = *net_self(b->net);
    wrong.id.instance = 7;
    assert_null(node_dial(a, &wrong, &err));
    assert_int_equal(err.status, COROLLA_REFUSED);
    assert_non_null(strstr(err.message, "process 0"));
}

static void a_node_does_not_dial_itself(void **state) {
    (void)state;
    struct node a;
    struct corolla_error err = {0};
    node_open(&a);
    assert_null(node_dial(&a, net_self(a.net), &err));
    assert_int_equal(err.status, COROLLA_REFUSED);
    node_stop(&a);
}

static void a_dial_tries_all_addresses_and_lists_their_failures(void **state) {
    struct node_pair *pair = *state;
    struct node *a = &pair->a, *b = &pair->b;
    struct corolla_error err = {0};
    struct node_ref ref = *net_self(b->net), nowhere = ref;
    nowhere.n_addrs = 2;
    strcpy(nowhere.addrs[0], "127.0.0.1:1");
    strcpy(nowhere.addrs[1], "no..name:31330");
    assert_null(node_dial(a, &nowhere, &err));
    assert_non_null(strstr(err.message, "127.0.0.1:1: connection refused"));
    assert_non_null(strstr(err.message, "no..name:31330: "));
    ref.n_addrs = 3; /* the good one stands last */
    strcpy(ref.addrs[2], ref.addrs[0]);
    strcpy(ref.addrs[0], "127.0.0.1:1");
    strcpy(ref.addrs[1], "127.0.0.1:2");
    assert_non_null(node_dial(a, &ref, &err));
    ref.n_addrs = 0;
    ref.id.instance = 3;
    assert_null(node_dial(a, &ref, &err));
    assert_int_equal(err.status, COROLLA_NOT_FOUND);
}

static void a_name_is_resolved(void **state) {
    struct node_pair *pair = *state;
    struct node *a = &pair->a, *b = &pair->b;
    struct corolla_error err = {0};
    struct node_ref ref = *net_self(b->net);
    snprintf(ref.addrs[0], ADDR_MAX, "localhost:%u", node_port(b));
    if (!node_dial(a, &ref, &err)) fail_msg("%s", err.message);
}

struct join {
    struct node *a, *b;
    struct link *links[8];
    unsigned n;
};
static void on_joined(void *user, struct link *link, const struct corolla_error *err) {
    struct join *join = user;
    (void)err;
    join->links[join->n++] = link;
}
static void dial_eight_times(void *user) {
    struct join *join = user;
    for (int i = 0; i < 8; i++) net_dial(join->a->net, net_self(join->b->net), on_joined, join);
}
static void dial_once(void *user) {
    struct join *join = user;
    net_dial(join->a->net, net_self(join->b->net), on_joined, join);
}

static void dials_to_one_node_share_one_link(void **state) {
    struct node_pair *pair = *state;
    struct node *a = &pair->a, *b = &pair->b;
    struct join join = {a, b, {NULL}, 0};
    node_do(a, dial_eight_times, &join);
    node_dial(a, net_self(b->net), NULL); /* behind them, so they are told */
    assert_int_equal(join.n, 8);
    for (int i = 0; i < 8; i++) assert_ptr_equal(join.links[i], join.links[0]);
    assert_non_null(join.links[0]);
    assert_int_equal(a->ups, 1);
    struct join again = {a, b, {NULL}, 0};
    node_do(a, dial_once, &again); /* told at once: the link is there */
    assert_int_equal(again.n, 1);
    assert_ptr_equal(again.links[0], join.links[0]);
}

static void a_dial_into_silence_ends_at_its_deadline(void **state) {
    (void)state;
    struct node a, b;
    struct net_config config;
    struct corolla_error err = {0};
    uint16_t port = 0;
    int silence = raw_silence(&port);
    assert_true(silence >= 0);
    node_prepare(&a, &config);
    config.dial_ms = 300;
    node_start(&a, &config);
    node_open(&b);
    struct node_ref ref = *net_self(b.net);
    snprintf(ref.addrs[0], ADDR_MAX, "127.0.0.1:%u", port);
    assert_null(node_dial(&a, &ref, &err));
    assert_non_null(strstr(err.message, ref.addrs[0]));
    close(silence);
    node_stop(&a);
    node_stop(&b);
}

static void two_processes_of_one_home_may_link(void **state) {
    (void)state;
    struct node a, b;
    struct net_config config;
    node_open(&a);
    node_prepare(&b, &config);
    identity_close(b.identity);
    assert_int_equal(identity_open(&b.identity, a.home, NULL), COROLLA_OK);
    config.identity = b.identity;
    node_start(&b, &config);
    assert_int_equal(identity_id(b.identity)->instance, 1);
    struct corolla_error err = {0};
    if (!node_dial(&b, net_self(a.net), &err)) fail_msg("%s", err.message);
    node_stop(&b);
    node_stop(&a);
}

static void links_both_ways_at_once_are_allowed(void **state) {
    struct node_pair *pair = *state;
    struct node *a = &pair->a, *b = &pair->b;
    struct join ab = {a, b, {NULL}, 0}, ba = {b, a, {NULL}, 0};
    net_post(a->net, dial_once, &ab);
    net_post(b->net, dial_once, &ba);
    assert_non_null(node_dial(a, net_self(b->net), NULL));
    assert_non_null(node_dial(b, net_self(a->net), NULL));
    node_close_link(a, node_dial(a, net_self(b->net), NULL), COROLLA_OK);
    assert_non_null(node_dial(a, net_self(b->net), NULL)); /* the other one, or a new one */
}

static void on_joined_close(void *user, struct link *link, const struct corolla_error *err) {
    struct join *join = user;
    if (link) link_close(link, COROLLA_OK, "not needed");
    assert_true((link == NULL) == (err != NULL));
    join->links[join->n++] = link;
}
static void dial_twice_and_close(void *user) {
    struct join *join = user;
    for (int i = 0; i < 2; i++) net_dial(join->a->net, net_self(join->b->net), on_joined_close, join);
}

static void who_waits_for_a_link_that_was_closed_is_told(void **state) {
    struct node_pair *pair = *state;
    struct node *a = &pair->a, *b = &pair->b;
    struct join join = {a, b, {NULL}, 0};
    node_do(a, dial_twice_and_close, &join);
    node_wait_downs(a, 1);
    assert_int_equal(join.n, 2);
    assert_non_null(join.links[0]);
    assert_null(join.links[1]);
}

static const struct node_ref *nowhere;
static void dial_nowhere(void *user) {
    struct join *join = user;
    net_dial(join->a->net, nowhere, on_joined_close, join);
}

static void stopping_tells_who_dials(void **state) {
    (void)state;
    struct node a;
    struct node_ref ref = {.n_addrs = 2, .addrs = {"", "no..name:9"}};
    uint16_t port = 0;
    int silence = raw_silence(&port);
    assert_true(silence >= 0);
    snprintf(ref.addrs[0], ADDR_MAX, "127.0.0.1:%u", port);
    node_open(&a);
    nowhere = &ref;
    struct join join = {&a, NULL, {NULL}, 0};
    node_do(&a, dial_nowhere, &join);
    node_stop(&a);
    close(silence);
    assert_int_equal(join.n, 1);
    assert_null(join.links[0]);
}

static void a_node_that_is_full_says_so(void **state) {
    (void)state;
    struct node a, b, c;
    struct net_config config;
    struct corolla_error err = {0};
    node_prepare(&a, &config);
    config.links_max = 1;
    node_start(&a, &config);
    node_open(&b);
    node_open(&c);
    assert_non_null(node_dial(&b, net_self(a.net), NULL));
    node_wait_ups(&a, 1);
    assert_null(node_dial(&c, net_self(a.net), &err));
    assert_int_equal(err.status, COROLLA_BUSY);
    assert_non_null(strstr(err.message, "all 1 links"));
    node_stop(&c);
    node_stop(&b);
    node_stop(&a);
}

static void ipv6_works_where_the_machine_has_it(void **state) {
    (void)state;
    struct node a, b;
    struct net_config config;
    struct corolla_error err = {0};
    node_prepare(&a, &config);
    config.listen = "[::1]:0";
    if (net_open(&a.net, &config, &err) != COROLLA_OK) {
        assert_int_equal(err.status, COROLLA_IO);
        node_stop(&a);
        skip();
    }
    net_close(a.net);
    a.net = NULL;
    node_start(&a, &config);
    node_open(&b);
    assert_memory_equal(net_self(a.net)->addrs[0], "[::1]:", 6);
    struct link *link = node_dial(&b, net_self(a.net), &err);
    if (!link) fail_msg("%s", err.message);
    assert_string_equal(link_address(link), net_self(a.net)->addrs[0]);
    node_stop(&b);
    node_stop(&a);
}

#define paired(test) cmocka_unit_test_setup_teardown(test, node_pair_open, node_pair_stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        paired(dialling_the_wrong_key_or_instance_fails_and_says_so),
        cmocka_unit_test(a_node_does_not_dial_itself),
        paired(a_dial_tries_all_addresses_and_lists_their_failures),
        paired(a_name_is_resolved),
        paired(dials_to_one_node_share_one_link),
        cmocka_unit_test(a_dial_into_silence_ends_at_its_deadline),
        cmocka_unit_test(two_processes_of_one_home_may_link),
        paired(links_both_ways_at_once_are_allowed),
        paired(who_waits_for_a_link_that_was_closed_is_told),
        cmocka_unit_test(stopping_tells_who_dials),
        cmocka_unit_test(a_node_that_is_full_says_so),
        cmocka_unit_test(ipv6_works_where_the_machine_has_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
