/* test_net_memory.c - peers that make a node hold memory: half-sent messages, unread answers, floods.
 *
 * Each test ends by an echo through the honest link: the node is up, and others go on.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "support/net_raw.h"
#include "support/net_victim.h"

static void data_beyond_the_credit_is_a_peer_fault(void **state) {
    (void)state;
    struct raw *raw = raw_up(node_port(&victim));
    assert_non_null(raw);
    char said[256] = "";
    assert_true(raw_first(raw, 1, 0, 10, 60u << 20, 60000)); /* 60 of 84 MiB */
    assert_true(raw_first(raw, 3, 0, 10, 60u << 20, 60000)); /* waits, and gets no more credit */
    for (int i = 0; i < 4; i++) raw_frame(raw, FRAME_DATA, 0, 3, NULL, 60000);
    assert_int_equal(raw_goodbye(raw, said), COROLLA_PEER_FAULT);
    assert_non_null(strstr(said, "credit of stream 3"));
    raw_free(raw);
    check_honest();
}

static void claims_do_not_cost_memory(void **state) {
    (void)state;
    struct raw *raws[12];
    size_t before = memory_kib();
    for (int i = 0; i < 12; i++) {
        assert_non_null(raws[i] = raw_up(node_port(&victim)));
        for (uint32_t s = 0; s < 16; s++) assert_true(raw_first(raws[i], 1 + 2 * s, 0, 10, MSG_BODY_MAX, 20000)); /* 12 GiB in all */
    }
    check_honest();
    size_t after = memory_kib();
    if (after > before + 64 * 1024) fail_msg("192 claims of 64 MiB took %zu KiB", after - before);
    for (int i = 0; i < 12; i++) {
        assert_true(raw_closed_within(raw_fd(raws[i]), 20000)); /* a message that makes no progress ends the link */
        raw_free(raws[i]);
    }
    check_honest();
}

/* Messages that each pass as small and never end: the memory for them is an eighth of 512 MiB. */
static void who_holds_most_of_half_sent_memory_is_cut_off(void **state) {
    (void)state;
    struct raw *raws[12];
    unsigned busy = 0;
    for (int i = 0; i < 12; i++) assert_non_null(raws[i] = raw_up(node_port(&victim))); /* first, since it takes time */
    for (int i = 0; i < 12; i++) {
        for (uint32_t s = 0; s < 60; s++) (void)raw_first(raws[i], 1 + 2 * s, 0, 10, 130000, 100);
    }
    check_honest();
    for (int i = 0; i < 12; i++) {
        busy += raw_goodbye(raws[i], NULL) == COROLLA_BUSY;
        raw_free(raws[i]);
    }
    assert_in_range(busy, 1, 8); /* the others are late with their messages */
    check_honest();
}

#define TRICKLE 3 /* bytes in a us: enough for the deadline of 64 MiB, 1/32 in 1.5 s, and whole after 20 s only */
#define TRICKLE_FRAME 60000

/* Sends until the node says goodbye, or for 15 s; its status, -1: none. */
static int trickle(struct raw *raw) {
    size_t credit = FRAME_CREDIT_INITIAL - 20000, sent = 0;
    int goodbye = -1;
    uint64_t begin = clock_us();
    while (clock_us() < begin + 15000000 && (goodbye = raw_poll(raw, &credit)) < 0) {
        if (credit >= TRICKLE_FRAME && sent < (clock_us() - begin) * TRICKLE) {
            (void)raw_frame(raw, FRAME_DATA, 0, 1, NULL, TRICKLE_FRAME);
            credit -= TRICKLE_FRAME;
            sent += TRICKLE_FRAME;
        } else {
            nanosleep(&(struct timespec){0, 5000000}, NULL);
        }
    }
    return goodbye;
}

/* A claim of 64 MiB that comes just fast enough leaves no 10 of 72 MiB for large messages, until somebody waited for long. */
static void a_claim_that_trickles_does_not_keep_large_messages_out(void **state) {
    (void)state;
    struct node small, other;
    struct net_config config;
    node_prepare(&small, &config);
    config.message_ms = 1500;
    config.total_bytes_max = config.link_bytes_max;
    node_start(&small, &config);
    node_open(&other);
    struct link *link = node_dial(&other, net_self(small.net), NULL);
    struct raw *raw = raw_up(node_port(&small));
    assert_true(link && raw);
    assert_true(raw_first(raw, 1, 0, 10, MSG_BODY_MAX, 20000));
    assert_int_equal(node_send(&other, link, 1, LINK_BULK, "large", 10u << 20), COROLLA_OK);
    assert_int_equal(trickle(raw), COROLLA_BUSY);
    node_wait_messages(&small, 1);
    raw_free(raw);
    node_stop(&other);
    node_stop(&small);
}

static void floods_of_pings_and_key_updates_are_not_queued(void **state) {
    (void)state;
    struct raw *raw = raw_up(node_port(&victim));
    assert_non_null(raw);
    size_t before = memory_kib();
    uint64_t end = clock_us() + 1000000;
    while (clock_us() < end && raw_frame(raw, FRAME_PING, 0, 0, "12345678", 8)) {
    }
    if (memory_kib() > before + 16 * 1024) fail_msg("pings took %zu KiB", memory_kib() - before);
    raw_free(raw);
    raw = raw_up(node_port(&victim));
    assert_non_null(raw);
    end = clock_us() + 500000;
    while (clock_us() < end && raw_key_update(raw)) {
    }
    if (memory_kib() > before + 16 * 1024) fail_msg("key updates took %zu KiB", memory_kib() - before);
    raw_free(raw);
    check_honest();
}

static void a_peer_that_leaves_its_answers_unread_is_cut_off(void **state) {
    (void)state;
    struct raw *raw = raw_up(node_port(&victim));
    assert_non_null(raw);
    size_t before = memory_kib();
    uint8_t ask[FRAME_PREAMBLE_SIZE + 100] = {0};
    frame_preamble_encode(&(struct frame_preamble){MSG_INFO_GET, 100, 0}, ask);
    bool open = true;
    for (uint32_t i = 0; i < 96000 && open; i++) /* as far as first credits go */
        open = raw_frame(raw, FRAME_DATA, FRAME_FIRST | FRAME_LAST, 1 + 2 * (i % 40), ask, sizeof(ask));
    if (open) fail_msg("96000 questions were taken, and no answer was read");
    if (memory_kib() > before + 32 * 1024) fail_msg("unread answers took %zu KiB", memory_kib() - before);
    raw_free(raw);
    check_honest();
}

static size_t victim_bytes(void) {
    pthread_mutex_lock(&victim.lock);
    size_t bytes = victim.bytes;
    pthread_mutex_unlock(&victim.lock);
    return bytes;
}
/* The last message is of the honest node: it sends on stream 1, the other one on 101 by then. */
static bool has_another_link(struct node *node) { return node->stream == 1; }
static bool hoards_84_mib(struct node *node) { return node->bytes >= 80u << 20; }

static void a_link_over_its_budget_is_not_read_and_goes_on_later(void **state) {
    (void)state;
    struct node sender;
    node_open(&sender);
    struct link *link = node_dial(&sender, net_self(victim.net), NULL);
    assert_non_null(link);
    victim.behaviour = NODE_HOARD;
    unsigned before = victim.messages;
    pthread_mutex_lock(&victim.lock);
    victim.bytes = 0;
    pthread_mutex_unlock(&victim.lock);
    for (uint32_t i = 0; i < 24; i++) assert_int_equal(node_send(&sender, link, 1 + 2 * i, LINK_BULK, "h", 4u << 20), COROLLA_OK);
    node_wait(&victim, hoards_84_mib); /* 7/8 of the 96 MiB are for large messages */
    for (int i = 0; i < 300; i++) assert_int_equal(node_send(&sender, link, 101, LINK_URGENT, "h", 100000), COROLLA_OK);
    for (int i = 0; i < 40; i++) {
        assert_in_range(victim_bytes(), 80u << 20, 97u << 20);
        nanosleep(&(struct timespec){0, 5000000}, NULL);
    }
    assert_int_equal(node_send(&honest, honest_link, 1, LINK_BULK, "h", 100000), COROLLA_OK); /* another link is read all the same */
    node_wait(&victim, has_another_link);
    victim.behaviour = NODE_KEEP_LAST;
    node_release_hoard(&victim);
    node_wait_messages(&victim, before + 24 + 300 + 1);
    victim.behaviour = NODE_ECHO;
    node_stop(&sender);
    check_honest();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_beyond_the_credit_is_a_peer_fault),
        cmocka_unit_test(claims_do_not_cost_memory),
        cmocka_unit_test(who_holds_most_of_half_sent_memory_is_cut_off),
        cmocka_unit_test(a_claim_that_trickles_does_not_keep_large_messages_out),
        cmocka_unit_test(floods_of_pings_and_key_updates_are_not_queued),
        cmocka_unit_test(a_peer_that_leaves_its_answers_unread_is_cut_off),
        cmocka_unit_test(a_link_over_its_budget_is_not_read_and_goes_on_later),
    };
    signal(SIGPIPE, SIG_IGN); /* for our own rude peers; that a net needs no such thing, test_net_link.c shows */
    return cmocka_run_group_tests(tests, victim_open, victim_close);
}
