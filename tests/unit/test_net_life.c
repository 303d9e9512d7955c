/* test_net_life.c - a net as a whole: opening, stopping, timers, what it announces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "support/net_node.h"

static void a_stop_before_the_run_ends_the_run(void **state) {
    (void)state;
    struct node a;
    struct net_config config;
    node_prepare(&a, &config);
    assert_int_equal(net_open(&a.net, &config, NULL), COROLLA_OK);
    net_stop(a.net);
    net_run(a.net);
    node_stop(&a);
}

static void a_net_that_never_ran_can_be_closed(void **state) {
    (void)state;
    struct node a;
    struct net_config config;
    node_prepare(&a, &config);
    assert_int_equal(net_open(&a.net, &config, NULL), COROLLA_OK);
    node_stop(&a);
    node_prepare(&a, &config);
    struct corolla_error err = {0};
    config.listen = "127.0.0.1:99999";
    assert_int_equal(net_open(&a.net, &config, &err), COROLLA_INVALID);
    config.listen = "no..name:1";
    assert_int_equal(net_open(&a.net, &config, &err), COROLLA_NOT_FOUND);
    config.listen = "192.0.2.1:0"; /* of no interface: binding it sends nothing */
    assert_int_equal(net_open(&a.net, &config, &err), COROLLA_IO);
    assert_non_null(strstr(err.message, "192.0.2.1:0"));
    node_stop(&a);
}

static unsigned ticks;
static void on_tick(void *user) {
    (void)user;
    ticks++;
}
static struct net_timer *timer;
static void make_timer(void *user) {
    struct node *node = user;
    timer = net_timer_new(node->net, on_tick, NULL);
    assert_non_null(timer);
    net_timer_start(timer, 1, 1);
}
static void free_timer(void *user) {
    (void)user;
    net_timer_free(timer);
}
static void read_ticks(void *user) { *(unsigned *)user = ticks; }

static void timers_fire_until_they_are_freed(void **state) {
    (void)state;
    struct node a;
    node_open(&a);
    node_do(&a, make_timer, &a);
    unsigned seen = 0;
    while (seen < 5) node_do(&a, read_ticks, &seen);
    node_do(&a, free_timer, NULL);
    unsigned after = 0, later = 0;
    node_do(&a, read_ticks, &after);
    nanosleep(&(struct timespec){0, 20000000}, NULL);
    node_do(&a, read_ticks, &later);
    assert_int_equal(after, later);
    node_do(&a, make_timer, &a); /* left behind: net_close frees it */
    node_stop(&a);
}

static void what_is_announced_is_what_the_config_says(void **state) {
    (void)state;
    struct node a;
    struct net_config config;
    static const char *const given[] = {"example.org:31330", "[2001:db8::1]:7"};
    static const char *const wrong[] = {"example.org"};
    node_prepare(&a, &config);
    config.announces = given;
    config.n_announces = 2;
    node_start(&a, &config);
    assert_int_equal(net_self(a.net)->n_addrs, 2);
    assert_string_equal(net_self(a.net)->addrs[1], given[1]);
    node_stop(&a);
    node_prepare(&a, &config);
    config.announces = wrong;
    config.n_announces = 1;
    assert_int_equal(net_open(&a.net, &config, NULL), COROLLA_INVALID);
    config.n_announces = 0;
    config.listen = "0.0.0.0:0";
    assert_int_equal(net_open(&a.net, &config, NULL), COROLLA_OK);
    assert_in_range(net_self(a.net)->n_addrs, 1, ADDRS_MAX);
    assert_null(strstr(net_self(a.net)->addrs[0], "0.0.0.0"));
    node_stop(&a);
}

static void the_wildcard_of_ipv6_takes_ipv4_as_well(void **state) {
    (void)state;
    struct node a, b;
    struct net_config config;
    struct corolla_error err = {0};
    node_prepare(&a, &config);
    config.listen = "[::]:0"; /* a machine without IPv6 listens on IPv4 alone */
    node_start(&a, &config);
    node_open(&b);
    struct node_ref ref = *net_self(a.net);
    assert_in_range(ref.n_addrs, 1, ADDRS_MAX);
    snprintf(ref.addrs[0], ADDR_MAX, "127.0.0.1:%s", strrchr(net_self(a.net)->addrs[0], ':') + 1);
    ref.n_addrs = 1;
    if (!node_dial(&b, &ref, &err)) fail_msg("%s", err.message);
    node_stop(&b);
    node_stop(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_before_the_run_ends_the_run),      cmocka_unit_test(a_net_that_never_ran_can_be_closed),
        cmocka_unit_test(timers_fire_until_they_are_freed),        cmocka_unit_test(what_is_announced_is_what_the_config_says),
        cmocka_unit_test(the_wildcard_of_ipv6_takes_ipv4_as_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
