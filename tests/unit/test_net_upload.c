/* test_net_upload.c - the upload limit of a net: what it holds back, what passes, and that no deadline falls to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "support/net_node.h"

#define KIB 1024u
#define MIB (1024u * KIB)
#define PEERS 5
#define TRIES 5

struct swarm { /* a sends, under a limit */
    struct node a, peers[PEERS];
    struct link *links[PEERS];
};

/* times: message_ms of all, and pings to match; 0: the default. */
static void swarm_open(struct swarm *s, unsigned n, uint64_t bytes_per_s, uint32_t message_ms) {
    struct net_config config;
    memset(s, 0, sizeof *s);
    for (unsigned i = 0; i <= n; i++) {
        struct node *node = i == 0 ? &s->a : &s->peers[i - 1];
        node_prepare(node, &config);
        config.upload_bytes_per_s = i == 0 ? bytes_per_s : 0;
        config.total_bytes_max = config.link_bytes_max;
        if (message_ms > 0) {
            config.message_ms = message_ms;
            config.ping_ms = message_ms / 10;
        }
        node_start(node, &config);
        if (i > 0) assert_non_null(s->links[i - 1] = node_dial(&s->a, net_self(node->net), NULL));
    }
}

static void swarm_close(struct swarm *s) {
    for (unsigned i = 0; i < PEERS; i++) node_stop(&s->peers[i]);
    node_stop(&s->a);
}

static void send_many(struct swarm *s, unsigned to, unsigned n, size_t size) {
    for (unsigned i = 0; i < n; i++) assert_int_equal(node_send(&s->a, s->links[to], 1, LINK_BULK, "h", size), COROLLA_OK);
}

static size_t bytes_of(struct node *node) {
    pthread_mutex_lock(&node->lock);
    size_t bytes = node->bytes;
    pthread_mutex_unlock(&node->lock);
    return bytes;
}

/* Bytes a second that reach a peer under the limit, with messages of 512 KiB. */
static double rate_under(uint64_t bytes_per_s, unsigned messages) {
    struct swarm s;
    swarm_open(&s, 1, bytes_per_s, 0);
    uint64_t begin_us = clock_us();
    send_many(&s, 0, messages, 512 * KIB);
    node_wait_messages(&s.peers[0], messages);
    double bytes = (messages - 1) * 512.0 * KIB; /* without what an idle net has saved up: an eighth of a second */
    double rate = bytes * 1e6 / (double)(clock_us() - begin_us);
    swarm_close(&s);
    return rate;
}

/* A busy machine is late: what is too slow is tried again. */
static void bulk_goes_out_at_the_rate_of_the_limit(void **state) {
    (void)state;
    double rate = 0;
    for (int try = 0; try < TRIES && rate < 2.8 * MIB; try++) rate = rate_under(4 * MIB, 26);
    if (rate < 2.8 * MIB || rate > 4.2 * MIB) fail_msg("a limit of 4 MiB/s gave %.2f MiB/s", rate / MIB);
}

static void without_a_limit_nothing_waits(void **state) {
    (void)state;
    double rate = 0;
    for (int try = 0; try < TRIES && rate < 5 * MIB; try++) rate = rate_under(0, 32);
    assert_true(rate >= 5 * MIB);
}

/* A frame of bulk is a debt of a second here: whatever waits for a turn comes later than that. */
static void urgent_messages_and_those_without_a_body_do_not_wait(void **state) {
    (void)state;
    struct swarm s;
    swarm_open(&s, 1, COROLLA_UPLOAD_MIN, 0);
    send_many(&s, 0, 1, 16 * MIB);
    unsigned n = 0;
    uint64_t took_us = UINT64_MAX;
    for (int try = 0; try < TRIES && took_us >= 700000; try++) {
        uint64_t begin_us = clock_us();
        for (int i = 0; i < 3; i++) {
            assert_int_equal(node_send(&s.a, s.links[0], 3, LINK_URGENT, "h", 16 * KIB), COROLLA_OK);
            node_wait_messages(&s.peers[0], ++n);
        }
        assert_int_equal(node_send(&s.a, s.links[0], 5, LINK_BULK, "gossip", 0), COROLLA_OK);
        node_wait_messages(&s.peers[0], ++n);
        took_us = clock_us() - begin_us;
    }
    assert_true(took_us < 700000);
    assert_int_equal(s.peers[0].bytes, n / 4 * 3 * 16 * KIB); /* and the bulk is not through */
    swarm_close(&s);
}

static void an_urgent_message_is_counted(void **state) {
    (void)state;
    struct swarm s;
    swarm_open(&s, 1, MIB, 0);
    uint64_t begin_us = clock_us();
    assert_int_equal(node_send(&s.a, s.links[0], 3, LINK_URGENT, "h", 8 * MIB), COROLLA_OK);
    node_wait_messages(&s.peers[0], 1);
    uint64_t urgent_us = clock_us() - begin_us;
    send_many(&s, 0, 1, 32 * KIB);
    node_wait_messages(&s.peers[0], 2);
    uint64_t both_us = clock_us() - begin_us;
    assert_true(urgent_us < 6000000);           /* not 8 s */
    assert_true(both_us >= 900000);             /* a debt of a second is worked off */
    assert_true(both_us - urgent_us < 6000000); /* not 8 s */
    swarm_close(&s);
}

static void links_share_the_limit_fairly(void **state) {
    (void)state;
    struct swarm s;
    swarm_open(&s, PEERS, 2 * MIB, 0);
    for (unsigned i = 0; i < PEERS; i++) send_many(&s, i, i == 0 ? 90 : 30, 128 * KIB); /* who asks for more gets no more */
    size_t total = 0, bytes[PEERS], before[PEERS]; /* what went while the others' queues were still empty does not count */
    for (unsigned i = 0; i < PEERS; i++) before[i] = bytes_of(&s.peers[i]);
    for (uint64_t begin_us = clock_us(); total < 6 * MIB && clock_us() - begin_us < NODE_WAIT_MS * 1000ull;) {
        total = 0;
        for (unsigned i = 0; i < PEERS; i++) total += bytes[i] = bytes_of(&s.peers[i]) - before[i];
    }
    for (unsigned i = 0; i < PEERS; i++) {
        if (bytes[i] < total / PEERS * 8 / 10 || bytes[i] > total / PEERS * 12 / 10)
            fail_msg("link %u of %u got %zu of %zu bytes", i, PEERS, bytes[i], total);
    }
    swarm_close(&s);
}

/* A frame is a second's worth, and the receiver waits half a second for progress. */
static void a_receiver_sees_progress_in_time_whatever_the_limit(void **state) {
    (void)state;
    struct swarm s;
    swarm_open(&s, 1, COROLLA_UPLOAD_MIN, 500);
    send_many(&s, 0, 1, 512 * KIB);
    node_wait_messages(&s.peers[0], 1);
    assert_int_equal(s.a.downs + s.peers[0].downs, 0);
    swarm_close(&s);
}

/* More than half of what may be queued is, so queues that make no progress would end their links. The second link has no turn until the
 * first has made up for its message's debt. */
static void links_that_wait_for_their_turn_are_not_stalled(void **state) {
    (void)state;
    struct swarm s;
    swarm_open(&s, 2, COROLLA_UPLOAD_MIN, 500);
    for (unsigned i = 0; i < 2; i++) send_many(&s, i, 60, 512 * KIB);
    for (unsigned i = 0; i < 2; i++) node_wait_messages(&s.peers[i], 1);
    assert_int_equal(s.a.downs, 0);
    swarm_close(&s);
}

static void a_limit_that_cannot_be_kept_is_refused(void **state) {
    (void)state;
    struct node a;
    struct net_config config;
    struct corolla_error err = {0};
    node_prepare(&a, &config);
    config.upload_bytes_per_s = COROLLA_UPLOAD_MIN - 1;
    assert_int_equal(net_open(&a.net, &config, &err), COROLLA_INVALID);
    assert_non_null(strstr(err.message, "64K"));
    config.upload_bytes_per_s = COROLLA_UPLOAD_MAX + 1;
    assert_int_equal(net_open(&a.net, &config, &err), COROLLA_INVALID);
    node_stop(&a);
}

static void closing_does_not_wait_for_the_limit(void **state) {
    (void)state;
    struct swarm s;
    swarm_open(&s, 1, COROLLA_UPLOAD_MIN, 0);
    send_many(&s, 0, 4, 256 * KIB); /* 16 s */
    node_close_link(&s.a, s.links[0], COROLLA_DRAINING);
    node_wait_downs(&s.peers[0], 1);
    assert_int_equal(s.peers[0].messages, 4);
    assert_non_null(strstr(s.peers[0].down_why, "DRAINING"));
    swarm_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bulk_goes_out_at_the_rate_of_the_limit),
        cmocka_unit_test(without_a_limit_nothing_waits),
        cmocka_unit_test(urgent_messages_and_those_without_a_body_do_not_wait),
        cmocka_unit_test(an_urgent_message_is_counted),
        cmocka_unit_test(links_share_the_limit_fairly),
        cmocka_unit_test(a_receiver_sees_progress_in_time_whatever_the_limit),
        cmocka_unit_test(links_that_wait_for_their_turn_are_not_stalled),
        cmocka_unit_test(a_limit_that_cannot_be_kept_is_refused),
        cmocka_unit_test(closing_does_not_wait_for_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
