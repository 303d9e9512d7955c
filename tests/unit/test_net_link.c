/* test_net_link.c - two and more nodes on loopback: coming up, messages, closing, dialling, liveness. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "support/net_node.h"
#include "support/net_raw.h"

static void check_body(struct node *node, size_t n, uint32_t seed) {
    pthread_mutex_lock(&node->lock);
    assert_non_null(node->body);
    assert_int_equal(node->body->size, n);
    uint8_t *want = malloc(n);
    node_fill(want, n, seed);
    assert_memory_equal(node->body->data, want, n);
    free(want);
    pthread_mutex_unlock(&node->lock);
}

static void a_link_comes_up_on_both_sides_and_names_the_peers(void **state) {
    (void)state;
    struct node a, b;
    node_open(&a);
    node_open(&b);
    struct link *link = node_dial(&a, net_self(b.net), NULL);
    assert_non_null(link);
    node_wait_ups(&b, 1);
    assert_true(node_id_equal(&link_peer(link)->id, identity_id(b.identity)));
    assert_true(node_id_equal(&link_peer(b.links[0])->id, identity_id(a.identity)));
    assert_int_equal(link_peer(b.links[0])->n_addrs, 1);
    assert_string_equal(link_peer(b.links[0])->addrs[0], net_self(a.net)->addrs[0]);
    node_stop(&a);
    node_wait_downs(&b, 1);
    assert_int_equal(b.down_status, COROLLA_PEER_LOST);
    assert_non_null(strstr(b.down_why, "leaving"));
    node_stop(&b);
}

static void messages_of_every_size_arrive_whole(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 65503, 65504, 65528, 131072, 262143, 262144, 300000, 1u << 20, (5u << 20) + 3, MSG_BODY_MAX};
    struct node a, b;
    node_open(&a);
    node_open(&b);
    struct link *link = node_dial(&a, net_self(b.net), NULL);
    assert_non_null(link);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        assert_int_equal(node_send(&a, link, 1 + 2 * (i % 3), i % 2 ? LINK_URGENT : LINK_BULK, "the header", sizes[i]), COROLLA_OK);
        node_wait_messages(&b, i + 1);
        assert_int_equal(b.header_size, 10);
        assert_memory_equal(b.header, "the header", 10);
        assert_int_equal(b.kind, MSG_STEP);
        if (sizes[i] > 0)
            check_body(&b, sizes[i], 1 + 2 * (i % 3));
        else
            assert_null(b.body);
    }
    node_stop(&a);
    node_stop(&b);
}

static void many_messages_on_many_streams_all_arrive(void **state) {
    (void)state;
    struct node a, b;
    node_open(&a);
    node_open(&b);
    struct link *link = node_dial(&a, net_self(b.net), NULL);
    assert_non_null(link);
    b.behaviour = NODE_ECHO;
    for (unsigned i = 0; i < 600; i++)
        assert_int_equal(node_send(&a, link, 1 + 2 * (i % 300), i % 3 ? LINK_URGENT : LINK_BULK, "h", (i * 977) % 90000), COROLLA_OK);
    for (unsigned i = 0; i < 20; i++) assert_int_equal(node_send(&a, link, 1001 + 2 * i, LINK_BULK, "h", 700000), COROLLA_OK);
    node_wait_messages(&b, 620);
    node_wait_messages(&a, 620);
    assert_int_equal(a.bytes, b.bytes);
    node_stop(&a);
    node_stop(&b);
}

static void messages_of_a_stream_keep_their_order(void **state) {
    (void)state;
    struct node a, b;
    node_open(&a);
    node_open(&b);
    struct link *link = node_dial(&a, net_self(b.net), NULL);
    assert_non_null(link);
    char header[16];
    for (unsigned i = 0; i < 100; i++) { /* urgent ones behind bulk ones, and each its number as header */
        snprintf(header, sizeof(header), "%u", i);
        assert_int_equal(node_send(&a, link, 1, i % 4 ? LINK_URGENT : LINK_BULK, header, i % 4 ? 100 : 200000), COROLLA_OK);
        if (i % 10 == 9) {
            node_wait_messages(&b, i + 1);
            assert_int_equal(b.header_size, strlen(header));
            assert_memory_equal(b.header, header, strlen(header));
        }
    }
    node_stop(&a);
    node_stop(&b);
}

static void dialling_the_wrong_key_or_instance_fails_and_says_so(void **state) {
    (void)state;
    struct node a, b;
    struct corolla_error err = {0};
    node_open(&a);
    node_open(&b);
    struct node_ref wrong = *net_self(b.net);
    wrong.id.key[3] ^= 1;
    assert_null(node_dial(&a, &wrong, &err));
    assert_int_equal(err.status, COROLLA_REFUSED);
    assert_non_null(strstr(err.message, net_self(b.net)->addrs[0]));
    assert_non_null(strstr(err.message, "key"));
    wrong = *net_self(b.net);
    wrong.id.instance = 7;
    assert_null(node_dial(&a, &wrong, &err));
    assert_int_equal(err.status, COROLLA_REFUSED);
    assert_non_null(strstr(err.message, "process 0"));
    node_stop(&a);
    node_stop(&b);
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
    (void)state;
    struct node a, b;
    struct corolla_error err = {0};
    node_open(&a);
    node_open(&b);
    struct node_ref ref = *net_self(b.net), nowhere = ref;
    nowhere.n_addrs = 2;
    strcpy(nowhere.addrs[0], "127.0.0.1:1");
    strcpy(nowhere.addrs[1], "name.invalid:31330");
    assert_null(node_dial(&a, &nowhere, &err));
    assert_non_null(strstr(err.message, "127.0.0.1:1: connection refused"));
    assert_non_null(strstr(err.message, "name.invalid:31330: "));
    ref.n_addrs = 3; /* the good one stands last */
    strcpy(ref.addrs[2], ref.addrs[0]);
    strcpy(ref.addrs[0], "127.0.0.1:1");
    strcpy(ref.addrs[1], "127.0.0.1:2");
    assert_non_null(node_dial(&a, &ref, &err));
    ref.n_addrs = 0;
    ref.id.instance = 3;
    assert_null(node_dial(&a, &ref, &err));
    assert_int_equal(err.status, COROLLA_NOT_FOUND);
    node_stop(&a);
    node_stop(&b);
}

static void a_name_is_resolved(void **state) {
    (void)state;
    struct node a, b;
    struct corolla_error err = {0};
    node_open(&a);
    node_open(&b);
    struct node_ref ref = *net_self(b.net);
    snprintf(ref.addrs[0], ADDR_MAX, "localhost:%u", node_port(&b));
    if (!node_dial(&a, &ref, &err)) fail_msg("%s", err.message);
    node_stop(&a);
    node_stop(&b);
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
    (void)state;
    struct node a, b;
    node_open(&a);
    node_open(&b);
    struct join join = {&a, &b, {NULL}, 0};
    node_do(&a, dial_eight_times, &join);
    node_dial(&a, net_self(b.net), NULL); /* behind them, so they are told */
    assert_int_equal(join.n, 8);
    for (int i = 0; i < 8; i++) assert_ptr_equal(join.links[i], join.links[0]);
    assert_non_null(join.links[0]);
    assert_int_equal(a.ups, 1);
    struct join again = {&a, &b, {NULL}, 0};
    node_do(&a, dial_once, &again); /* told at once: the link is there */
    assert_int_equal(again.n, 1);
    assert_ptr_equal(again.links[0], join.links[0]);
    node_stop(&a);
    node_stop(&b);
}

static void a_dial_into_silence_ends_at_its_deadline(void **state) {
    (void)state;
    struct node a, b;
    struct net_config config;
    struct corolla_error err = {0};
    node_prepare(&a, &config);
    config.dial_ms = 300;
    node_start(&a, &config);
    node_open(&b);
    struct node_ref ref = *net_self(b.net);
    strcpy(ref.addrs[0], "192.0.2.1:9"); /* TEST-NET: nobody is there */
    assert_null(node_dial(&a, &ref, &err));
    assert_non_null(strstr(err.message, "192.0.2.1:9"));
    node_stop(&a);
    node_stop(&b);
}

struct closing {
    struct link *link;
    enum corolla_status status;
};
static void do_close(void *user) {
    struct closing *c = user;
    link_close(c->link, c->status, "enough");
    assert_int_equal(link_send(c->link, 1, LINK_BULK, MSG_STEP, NULL, 0, NULL), COROLLA_PEER_LOST);
}

static void closing_flushes_what_was_queued_and_says_why(void **state) {
    (void)state;
    struct node a, b;
    node_open(&a);
    node_open(&b);
    struct link *link = node_dial(&a, net_self(b.net), NULL);
    assert_non_null(link);
    for (int i = 0; i < 10; i++) assert_int_equal(node_send(&a, link, 1, LINK_BULK, "h", 300000), COROLLA_OK);
    struct closing closing = {link, COROLLA_DRAINING};
    node_do(&a, do_close, &closing);
    node_wait_downs(&a, 1);
    node_wait_downs(&b, 1);
    assert_int_equal(a.down_status, COROLLA_OK);
    assert_int_equal(b.down_status, COROLLA_PEER_LOST);
    assert_non_null(strstr(b.down_why, "DRAINING"));
    assert_non_null(strstr(b.down_why, "enough"));
    assert_int_equal(b.messages, 10);
    node_stop(&a);
    node_stop(&b);
}

static void closing_for_a_fault_drops_the_queue(void **state) {
    (void)state;
    struct node a, b;
    node_open(&a);
    node_open(&b);
    struct link *link = node_dial(&a, net_self(b.net), NULL);
    struct closing closing = {link, COROLLA_PEER_FAULT};
    node_do(&a, do_close, &closing);
    node_wait_downs(&a, 1);
    node_wait_downs(&b, 1);
    assert_int_equal(a.down_status, COROLLA_OK);
    assert_non_null(strstr(b.down_why, "PEER_FAULT"));
    node_stop(&a);
    node_stop(&b);
}

static void a_queue_that_is_full_refuses(void **state) {
    (void)state;
    struct node a, b;
    node_open(&a);
    node_open(&b);
    b.behaviour = NODE_HOARD;
    struct link *link = node_dial(&a, net_self(b.net), NULL);
    enum corolla_status status = COROLLA_OK;
    unsigned sent = 0;
    for (; status == COROLLA_OK && sent < 64; sent++) status = node_send(&a, link, 1, LINK_BULK, "h", 16u << 20);
    assert_int_equal(status, COROLLA_NOMEM);
    assert_in_range(sent, 6, 20); /* 96 MiB in the queue and 84 MiB at the receiver */
    node_stop(&a);
    node_stop(&b);
}

static bool has_rtt(struct node *node) { return node->n_links > 0 && link_rtt_us(node->links[0]) > 0; }
static void look_for_rtt(void *user) {
    bool *found = ((void **)user)[1];
    *found = has_rtt(((void **)user)[0]);
}

static void the_round_trip_is_measured(void **state) {
    (void)state;
    struct node a, b;
    node_open(&a);
    node_open(&b);
    assert_non_null(node_dial(&a, net_self(b.net), NULL));
    bool found = false;
    for (int i = 0; i < 2000 && !found; i++) {
        node_do(&a, look_for_rtt, (void *[2]){&a, &found});
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    }
    assert_true(found);
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
    (void)state;
    struct node a, b;
    node_open(&a);
    node_open(&b);
    struct join ab = {&a, &b, {NULL}, 0}, ba = {&b, &a, {NULL}, 0};
    net_post(a.net, dial_once, &ab);
    net_post(b.net, dial_once, &ba);
    assert_non_null(node_dial(&a, net_self(b.net), NULL));
    assert_non_null(node_dial(&b, net_self(a.net), NULL));
    node_do(&a, do_close, &(struct closing){node_dial(&a, net_self(b.net), NULL), COROLLA_OK});
    assert_non_null(node_dial(&a, net_self(b.net), NULL)); /* the other one, or a new one */
    node_stop(&a);
    node_stop(&b);
}

static void features_are_those_of_both(void **state) {
    (void)state;
    struct node a, b;
    struct net_config config;
    node_prepare(&a, &config);
    config.features = 0x8000000000000006;
    node_start(&a, &config);
    node_prepare(&b, &config);
    config.features = 0x8000000000000003;
    node_start(&b, &config);
    struct link *link = node_dial(&a, net_self(b.net), NULL);
    assert_non_null(link);
    assert_true(link_features(link) == 0x8000000000000002);
    node_stop(&a);
    node_stop(&b);
}

static void stopping_is_quick_with_a_peer_that_takes_nothing(void **state) {
    (void)state;
    struct node a, b;
    node_open(&a);
    node_open(&b);
    b.behaviour = NODE_HOARD;
    struct link *link = node_dial(&a, net_self(b.net), NULL);
    for (int i = 0; i < 12; i++) node_send(&a, link, 1 + 2 * (uint32_t)i, LINK_BULK, "h", 16u << 20);
    uint64_t begin = clock_us();
    node_stop(&a);
    assert_true(clock_us() - begin < 5000000);
    node_stop(&b);
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
    (void)state;
    struct node a, b;
    node_open(&a);
    node_open(&b);
    struct join join = {&a, &b, {NULL}, 0};
    node_do(&a, dial_twice_and_close, &join);
    node_wait_downs(&a, 1);
    assert_int_equal(join.n, 2);
    assert_non_null(join.links[0]);
    assert_null(join.links[1]);
    node_stop(&a);
    node_stop(&b);
}

static const struct node_ref *nowhere;
static void dial_nowhere(void *user) {
    struct join *join = user;
    net_dial(join->a->net, nowhere, on_joined_close, join);
}

static void stopping_tells_who_dials(void **state) {
    (void)state;
    struct node a;
    struct node_ref ref = {.n_addrs = 2, .addrs = {"192.0.2.1:9", "name.invalid:9"}};
    node_open(&a);
    nowhere = &ref;
    struct join join = {&a, NULL, {NULL}, 0};
    node_do(&a, dial_nowhere, &join);
    node_stop(&a);
    assert_int_equal(join.n, 1);
    assert_null(join.links[0]);
}

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

struct vanishing {
    struct node *node;
    struct raw *raw;
};
static void vanish_and_send(void *user) {
    struct vanishing *v = user;
    const struct timespec a_moment = {0, 20000000};      /* for the kernel to hear of it */
    assert_false(raw_closed_within(raw_fd(v->raw), 50)); /* it has read everything, so it ends without a reset */
    raw_free(v->raw);
    nanosleep(&a_moment, NULL);
    link_send(v->node->links[0], 1, LINK_URGENT, MSG_STEP, NULL, 0, NULL);
    link_send(v->node->links[0], 1, LINK_URGENT, MSG_STEP, NULL, 0, NULL); /* goes out before the end of the connection is read */
    nanosleep(&a_moment, NULL);
}

static void writing_to_a_peer_that_vanished_raises_no_signal(void **state) {
    (void)state;
    struct node a;
    node_open(&a);
    struct raw *raw = raw_up(node_port(&a));
    assert_non_null(raw);
    node_wait_ups(&a, 1);
    node_do(&a, vanish_and_send, &(struct vanishing){&a, raw}); /* SIGPIPE would end this process */
    node_wait_downs(&a, 1);
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
    config.listen = "256.1.1.1.1.1:1";
    assert_int_equal(net_open(&a.net, &config, &err), COROLLA_NOT_FOUND);
    config.listen = "192.0.2.1:0";
    assert_int_equal(net_open(&a.net, &config, &err), COROLLA_IO);
    assert_non_null(strstr(err.message, "192.0.2.1:0"));
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_link_comes_up_on_both_sides_and_names_the_peers),
        cmocka_unit_test(messages_of_every_size_arrive_whole),
        cmocka_unit_test(many_messages_on_many_streams_all_arrive),
        cmocka_unit_test(messages_of_a_stream_keep_their_order),
        cmocka_unit_test(dialling_the_wrong_key_or_instance_fails_and_says_so),
        cmocka_unit_test(a_node_does_not_dial_itself),
        cmocka_unit_test(a_dial_tries_all_addresses_and_lists_their_failures),
        cmocka_unit_test(a_name_is_resolved),
        cmocka_unit_test(dials_to_one_node_share_one_link),
        cmocka_unit_test(a_dial_into_silence_ends_at_its_deadline),
        cmocka_unit_test(closing_flushes_what_was_queued_and_says_why),
        cmocka_unit_test(closing_for_a_fault_drops_the_queue),
        cmocka_unit_test(a_queue_that_is_full_refuses),
        cmocka_unit_test(the_round_trip_is_measured),
        cmocka_unit_test(two_processes_of_one_home_may_link),
        cmocka_unit_test(links_both_ways_at_once_are_allowed),
        cmocka_unit_test(features_are_those_of_both),
        cmocka_unit_test(stopping_is_quick_with_a_peer_that_takes_nothing),
        cmocka_unit_test(writing_to_a_peer_that_vanished_raises_no_signal),
        cmocka_unit_test(who_waits_for_a_link_that_was_closed_is_told),
        cmocka_unit_test(stopping_tells_who_dials),
        cmocka_unit_test(a_stop_before_the_run_ends_the_run),
        cmocka_unit_test(a_node_that_is_full_says_so),
        cmocka_unit_test(ipv6_works_where_the_machine_has_it),
        cmocka_unit_test(timers_fire_until_they_are_freed),
        cmocka_unit_test(a_net_that_never_ran_can_be_closed),
        cmocka_unit_test(what_is_announced_is_what_the_config_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
