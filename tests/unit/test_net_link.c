/* test_net_link.c - a link between two nodes on loopback: coming up, messages, closing, liveness. */
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
    struct node_pair *pair = *state;
    struct node *a = &pair->a, *b = &pair->b;
    struct link *link = pair->link;
    node_wait_ups(b, 1);
    assert_true(node_id_equal(&link_peer(link)->id, identity_id(b->identity)));
    assert_true(node_id_equal(&link_peer(b->links[0])->id, identity_id(a->identity)));
    assert_int_equal(link_peer(b->links[0])->n_addrs, 1);
    assert_string_equal(link_peer(b->links[0])->addrs[0], net_self(a->net)->addrs[0]);
    node_stop(a);
    node_wait_downs(b, 1);
    assert_int_equal(b->down_status, COROLLA_PEER_LOST);
    assert_non_null(strstr(b->down_why, "leaving"));
}

static void messages_of_every_size_arrive_whole(void **state) {
    struct node_pair *pair = *state;
    struct node *a = &pair->a, *b = &pair->b;
    struct link *link = pair->link;
    static const size_t sizes[] = {0, 1, 65503, 65504, 65528, 131072, 262143, 262144, 300000, 1u << 20, (5u << 20) + 3, MSG_BODY_MAX};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        assert_int_equal(node_send(a, link, 1 + 2 * (i % 3), i % 2 ? LINK_URGENT : LINK_BULK, "the header", sizes[i]), COROLLA_OK);
        node_wait_messages(b, i + 1);
        assert_int_equal(b->header_size, 10);
        assert_memory_equal(b->header, "the header", 10);
        assert_int_equal(b->kind, MSG_STEP);
        if (sizes[i] > 0)
            check_body(b, sizes[i], 1 + 2 * (i % 3));
        else
            assert_null(b->body);
    }
}

static void many_messages_on_many_streams_all_arrive(void **state) {
    struct node_pair *pair = *state;
    struct node *a = &pair->a, *b = &pair->b;
    struct link *link = pair->link;
    b->behaviour = NODE_ECHO;
    for (unsigned i = 0; i < 600; i++)
        assert_int_equal(node_send(a, link, 1 + 2 * (i % 300), i % 3 ? LINK_URGENT : LINK_BULK, "h", (i * 977) % 90000), COROLLA_OK);
    for (unsigned i = 0; i < 20; i++) assert_int_equal(node_send(a, link, 1001 + 2 * i, LINK_BULK, "h", 700000), COROLLA_OK);
    node_wait_messages(b, 620);
    node_wait_messages(a, 620);
    assert_int_equal(a->bytes, b->bytes);
}

static void messages_of_a_stream_keep_their_order(void **state) {
    struct node_pair *pair = *state;
    struct node *a = &pair->a, *b = &pair->b;
    struct link *link = pair->link;
    char header[16];
    for (unsigned i = 0; i < 100; i++) { /* urgent ones behind bulk ones, and each its number as header */
        snprintf(header, sizeof(header), "%u", i);
        assert_int_equal(node_send(a, link, 1, i % 4 ? LINK_URGENT : LINK_BULK, header, i % 4 ? 100 : 200000), COROLLA_OK);
        if (i % 10 == 9) {
            node_wait_messages(b, i + 1);
            assert_int_equal(b->header_size, strlen(header));
            assert_memory_equal(b->header, header, strlen(header));
        }
    }
}

static void closing_flushes_what_was_queued_and_says_why(void **state) {
    struct node_pair *pair = *state;
    struct node *a = &pair->a, *b = &pair->b;
    struct link *link = pair->link;
    for (int i = 0; i < 10; i++) assert_int_equal(node_send(a, link, 1, LINK_BULK, "h", 300000), COROLLA_OK);
    node_close_link(a, link, COROLLA_DRAINING);
    node_wait_downs(a, 1);
    node_wait_downs(b, 1);
    assert_int_equal(a->down_status, COROLLA_OK);
    assert_int_equal(b->down_status, COROLLA_PEER_LOST);
    assert_non_null(strstr(b->down_why, "DRAINING"));
    assert_non_null(strstr(b->down_why, "enough"));
    assert_int_equal(b->messages, 10);
}

static void closing_for_a_fault_drops_the_queue(void **state) {
    struct node_pair *pair = *state;
    struct node *a = &pair->a, *b = &pair->b;
    struct link *link = pair->link;
    node_close_link(a, link, COROLLA_PEER_FAULT);
    node_wait_downs(a, 1);
    node_wait_downs(b, 1);
    assert_int_equal(a->down_status, COROLLA_OK);
    assert_non_null(strstr(b->down_why, "PEER_FAULT"));
}

static void a_queue_that_is_full_refuses(void **state) {
    struct node_pair *pair = *state;
    struct node *a = &pair->a, *b = &pair->b;
    struct link *link = pair->link;
    b->behaviour = NODE_HOARD;
    enum corolla_status status = COROLLA_OK;
    unsigned sent = 0;
    for (; status == COROLLA_OK && sent < 64; sent++) status = node_send(a, link, 1, LINK_BULK, "h", 16u << 20);
    assert_int_equal(status, COROLLA_NOMEM);
    assert_in_range(sent, 6, 20); /* 96 MiB in the queue and 84 MiB at the receiver */
}

static bool has_rtt(struct node *node) { return node->n_links > 0 && link_rtt_us(node->links[0]) > 0; }
static void look_for_rtt(void *user) {
    bool *found = ((void **)user)[1];
    *found = has_rtt(((void **)user)[0]);
}

static void the_round_trip_is_measured(void **state) {
    struct node_pair *pair = *state;
    struct node *a = &pair->a;
    bool found = false;
    for (int i = 0; i < 2000 && !found; i++) {
        node_do(a, look_for_rtt, (void *[2]){a, &found});
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    }
    assert_true(found);
}

static void stopping_is_quick_with_a_peer_that_takes_nothing(void **state) {
    struct node_pair *pair = *state;
    struct node *a = &pair->a, *b = &pair->b;
    struct link *link = pair->link;
    b->behaviour = NODE_HOARD;
    for (int i = 0; i < 12; i++) node_send(a, link, 1 + 2 * (uint32_t)i, LINK_BULK, "h", 16u << 20);
    uint64_t begin = clock_us();
    node_stop(a);
    assert_true(clock_us() - begin < 10000000); /* a message without progress ends its link after 15 s */
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

#define linked(test) cmocka_unit_test_setup_teardown(test, node_pair_link, node_pair_stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        linked(a_link_comes_up_on_both_sides_and_names_the_peers),
        linked(messages_of_every_size_arrive_whole),
        linked(many_messages_on_many_streams_all_arrive),
        linked(messages_of_a_stream_keep_their_order),
        linked(closing_flushes_what_was_queued_and_says_why),
        linked(closing_for_a_fault_drops_the_queue),
        linked(a_queue_that_is_full_refuses),
        linked(the_round_trip_is_measured),
        linked(stopping_is_quick_with_a_peer_that_takes_nothing),
        cmocka_unit_test(features_are_those_of_both),
        cmocka_unit_test(writing_to_a_peer_that_vanished_raises_no_signal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
