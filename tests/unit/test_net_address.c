/* test_net_address.c - dialling an address whose node is not known. Names: localhost alone, so nothing leaves the machine; names with
 * several nodes behind them are dialled in tests/e2e/test_lan.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/net_node.h"

struct dialling {
    struct node *node;
    const char *address;
    unsigned n_links, n_ends;
    struct link *link; /* the last one */
    struct corolla_error err;
};

static void on_link(void *user, struct link *link, const struct corolla_error *err) {
    struct dialling *d = user;
    pthread_mutex_lock(&d->node->lock);
    assert_int_equal(d->n_ends, 0);
    if (link) {
        d->link = link;
        d->n_links++;
    } else {
        if (err) d->err = *err;
        d->n_ends++;
    }
    pthread_cond_broadcast(&d->node->changed);
    pthread_mutex_unlock(&d->node->lock);
}

static void start(void *user) {
    struct dialling *d = user;
    net_dial_address(d->node->net, d->address, on_link, d);
}

static void dial(struct dialling *d) {
    node_do(d->node, start, d);
    pthread_mutex_lock(&d->node->lock);
    while (d->n_ends == 0) pthread_cond_wait(&d->node->changed, &d->node->lock);
    pthread_mutex_unlock(&d->node->lock);
}

static void an_address_leads_to_whoever_answers_and_tells_who_it_is(void **state) {
    (void)state;
    struct node a, b;
    node_open(&a);
    node_open(&b);
    struct dialling d = {.node = &a, .address = net_self(b.net)->addrs[0]};
    dial(&d);
    assert_int_equal(d.err.status, COROLLA_OK);
    assert_int_equal(d.n_links, 1);
    assert_true(node_id_equal(&link_peer(d.link)->id, identity_id(b.identity)));
    node_stop(&a);
    node_stop(&b);
}

static void any_process_of_a_home_may_answer(void **state) {
    (void)state;
    struct node a, b;
    struct net_config config;
    node_open(&a);
    node_prepare(&b, &config);
    struct identity *first = b.identity; /* it holds instance 0 */
    assert_int_equal(identity_open(&b.identity, b.home, NULL), COROLLA_OK);
    config.identity = b.identity;
    node_start(&b, &config);
    struct dialling d = {.node = &a, .address = net_self(b.net)->addrs[0]};
    dial(&d);
    assert_int_equal(d.n_links, 1);
    assert_int_equal(link_peer(d.link)->id.instance, 1);
    node_stop(&a);
    node_stop(&b);
    identity_close(first);
}

static void a_name_is_resolved(void **state) {
    (void)state;
    struct node a, b;
    char address[ADDR_MAX];
    node_open(&a);
    node_open(&b);
    snprintf(address, sizeof(address), "localhost:%u", node_port(&b));
    struct dialling d = {.node = &a, .address = address};
    dial(&d);
    assert_int_equal(d.n_links, 1);
    node_stop(&a);
    node_stop(&b);
}

static void a_node_that_is_linked_already_is_not_linked_again(void **state) {
    (void)state;
    struct node a, b;
    node_open(&a);
    node_open(&b);
    struct link *link = node_dial(&a, net_self(b.net), NULL);
    struct dialling d = {.node = &a, .address = net_self(b.net)->addrs[0]};
    dial(&d);
    assert_ptr_equal(d.link, link);
    assert_int_equal(d.n_links, 1);
    node_wait_downs(&b, 1);
    assert_int_equal(b.n_links, 1);
    node_stop(&a);
    node_stop(&b);
}

static void nobody_there_is_an_error_that_says_what_was_tried(void **state) {
    (void)state;
    struct node a;
    node_open(&a);
    struct dialling d = {.node = &a, .address = "localhost:1"};
    dial(&d);
    assert_int_equal(d.n_links, 0);
    assert_int_equal(d.err.status, COROLLA_PEER_LOST);
    assert_non_null(strstr(d.err.message, "cannot reach localhost:1"));
    assert_non_null(strstr(d.err.message, "127.0.0.1:1: connection refused"));
    node_stop(&a);
}

static void a_node_that_finds_itself_is_told_so(void **state) {
    (void)state;
    struct node a;
    node_open(&a);
    struct dialling d = {.node = &a, .address = net_self(a.net)->addrs[0]};
    dial(&d);
    assert_int_equal(d.n_links, 0);
    assert_int_equal(d.err.status, COROLLA_REFUSED);
    assert_non_null(strstr(d.err.message, "itself"));
    node_stop(&a);
}

static void what_is_no_address_is_refused_at_once(void **state) {
    (void)state;
    static const char *const bad[] = {"", "host", "host:", ":1", "host:0", "host:70000", "::1:5", "[::1]"};
    struct node a;
    node_open(&a);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct dialling d = {.node = &a, .address = bad[i]};
        node_do(&a, start, &d);
        assert_int_equal(d.n_ends, 1);
        assert_int_equal(d.err.status, COROLLA_INVALID);
    }
    node_stop(&a);
}

static void stopping_ends_a_dial(void **state) {
    (void)state;
    struct node a, b;
    struct net_config config;
    node_prepare(&b, &config);
    if (net_open(&b.net, &config, NULL) != COROLLA_OK) fail_msg("cannot listen"); /* it never runs: connections wait in its backlog */
    node_open(&a);
    struct dialling d = {.node = &a, .address = net_self(b.net)->addrs[0]};
    node_do(&a, start, &d);
    net_stop(a.net);
    pthread_join(a.thread, NULL);
    a.running = false;
    assert_int_equal(d.n_ends, 1);
    assert_int_equal(d.err.status, COROLLA_CANCELLED);
    node_stop(&a);
    node_stop(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_leads_to_whoever_answers_and_tells_who_it_is),
        cmocka_unit_test(any_process_of_a_home_may_answer),
        cmocka_unit_test(a_name_is_resolved),
        cmocka_unit_test(a_node_that_is_linked_already_is_not_linked_again),
        cmocka_unit_test(nobody_there_is_an_error_that_says_what_was_tried),
        cmocka_unit_test(a_node_that_finds_itself_is_told_so),
        cmocka_unit_test(what_is_no_address_is_refused_at_once),
        cmocka_unit_test(stopping_ends_a_dial),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
