/* test_net_hostile.c - peers that break the rules, against a node that serves an honest one all the while.
 *
 * Each test ends by an echo through the honest link: the node is up, and others go on. Memory is looked at where it is the point.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/ssl.h>

#include "base/clock.h"
#include "base/mem.h"
#include "support/net_node.h"
#include "support/net_raw.h"

#define HANDSHAKE_MS 1000

static struct node victim, honest;
static struct link *honest_link;

static int open_both(void **state) {
    (void)state;
    struct net_config config;
    node_prepare(&victim, &config);
    config.handshake_ms = HANDSHAKE_MS;
    config.message_ms = 1500;
    config.half_open_max = 40;
    node_start(&victim, &config);
    victim.behaviour = NODE_ECHO;
    node_open(&honest);
    honest_link = node_dial(&honest, net_self(victim.net), NULL);
    return honest_link ? 0 : -1;
}

static int close_both(void **state) {
    (void)state;
    node_stop(&honest);
    node_stop(&victim);
    return 0;
}

/* The honest peer is served: an echo of 100 KB comes back. */
static void check_honest(void) {
    unsigned before = honest.messages;
    assert_int_equal(node_send(&honest, honest_link, 1, LINK_BULK, "still there?", 100000), COROLLA_OK);
    node_wait_messages(&honest, before + 1);
}

/* Resident memory of this process. The address sanitizer keeps what was freed, so there it tells nothing. */
static size_t memory_kib(void) {
    char line[128];
    size_t kib = 0;
#ifdef __SANITIZE_ADDRESS__
    return 0;
#endif
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof(line), f)) sscanf(line, "VmRSS: %zu", &kib);
    if (f) fclose(f);
    return kib;
}

static unsigned ups(void) {
    pthread_mutex_lock(&victim.lock);
    unsigned n = victim.ups;
    pthread_mutex_unlock(&victim.lock);
    return n;
}

/* ---- before the link is up ------------------------------------------------------------------------------------- */

static void garbage_instead_of_tls_is_cut_off(void **state) {
    (void)state;
    uint8_t junk[65536];
    node_fill(junk, sizeof(junk), 3);
    for (int i = 0; i < 30; i++) {
        junk[0] = (uint8_t)(i * 9); /* also 22, a handshake record */
        int fd = raw_connect(node_port(&victim));
        assert_true(fd >= 0);
        (void)!send(fd, junk, sizeof(junk), MSG_NOSIGNAL);
        assert_true(raw_closed_within(fd, HANDSHAKE_MS * 3));
        close(fd);
    }
    check_honest();
}

static void a_slow_or_silent_peer_is_cut_off_at_the_deadline(void **state) {
    (void)state;
    int fds[20];
    static const uint8_t drop[] = {22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3};
    uint64_t begin = clock_us();
    for (int i = 0; i < 20; i++) assert_true((fds[i] = raw_connect(node_port(&victim))) >= 0);
    for (int step = 0; step < 5; step++) {
        for (int i = 0; i < 10; i++) (void)!send(fds[i], drop + step, 1, MSG_NOSIGNAL); /* the other ten say nothing */
        nanosleep(&(struct timespec){0, 50000000}, NULL);
    }
    check_honest();
    for (int i = 0; i < 20; i++) {
        assert_true(raw_closed_within(fds[i], HANDSHAKE_MS * 3));
        close(fds[i]);
    }
    assert_true(clock_us() - begin >= HANDSHAKE_MS * 900ull);
    check_honest();
}

static void tls_without_hello_is_cut_off_at_the_deadline(void **state) {
    (void)state;
    struct raw *raw = raw_tls(raw_connect(node_port(&victim)), RAW_ED25519, "corolla/1", 0);
    assert_non_null(raw);
    unsigned before = ups();
    assert_true(raw_closed_within(raw_fd(raw), HANDSHAKE_MS * 3));
    raw_free(raw);
    assert_int_equal(ups(), before);
    check_honest();
}

static void only_ed25519_tls13_and_our_protocol_come_in(void **state) {
    (void)state;
    static const struct {
        enum raw_key key;
        const char *alpn;
        int version;
    } wrong[] = {{RAW_RSA, "corolla/1", 0}, {RAW_EC, "corolla/1", 0}, {RAW_NONE, "corolla/1", 0},
                 {RAW_ED25519, "h2", 0},    {RAW_ED25519, NULL, 0},   {RAW_ED25519, "corolla/1", TLS1_2_VERSION}};
    unsigned before = ups();
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        int fd = raw_connect(node_port(&victim));
        struct raw *raw = raw_tls(fd, wrong[i].key, wrong[i].alpn, wrong[i].version);
        if (!raw) continue; /* refused within the handshake; raw_tls closed the socket */
        raw_hello(raw);     /* TLS 1.3 lets the client finish first: the refusal follows */
        assert_true(raw_closed_within(raw_fd(raw), HANDSHAKE_MS * 3));
        raw_free(raw);
    }
    assert_int_equal(ups(), before);
    check_honest();
}

static void frames_before_hello_break_the_link(void **state) {
    (void)state;
    struct raw *raw = raw_tls(raw_connect(node_port(&victim)), RAW_ED25519, "corolla/1", 0);
    assert_non_null(raw);
    assert_true(raw_first(raw, 1, FRAME_LAST, 0, 0, 8));
    assert_int_equal(raw_goodbye(raw, NULL), COROLLA_PEER_FAULT);
    raw_free(raw);
    check_honest();
}

static void an_unknown_version_is_told_so(void **state) {
    (void)state;
    uint8_t payload[MSG_HEADER_MAX];
    char text[256];
    struct msg_hello hello = {.version_min = 900, .version_max = 901, .agent = "tomorrow"};
    struct raw *raw = raw_tls(raw_connect(node_port(&victim)), RAW_ED25519, "corolla/1", 0);
    assert_non_null(raw);
    assert_true(raw_frame(raw, FRAME_HELLO, 0, 0, payload, msg_hello_encode(&hello, payload)));
    assert_int_equal(raw_goodbye(raw, text), COROLLA_VERSION_MISMATCH);
    assert_non_null(strstr(text, "900 to 901"));
    raw_free(raw);
    check_honest();
}

static void half_open_connections_are_limited(void **state) {
    (void)state;
    int fds[80];
    unsigned closed = 0;
    for (int i = 0; i < 80; i++) assert_true((fds[i] = raw_connect(node_port(&victim))) >= 0);
    check_honest();
    for (int i = 0; i < 80; i++) closed += raw_closed_within(fds[i], 1);
    assert_in_range(closed, 40, 80); /* half_open_max is 40 here */
    for (int i = 0; i < 80; i++) close(fds[i]);
    check_honest();
}

/* ---- links that are up ----------------------------------------------------------------------------------------- */

/* Comes up, lets fn misbehave, and expects the goodbye. */
static void expect_fault(bool (*misbehave)(struct raw *raw), int status, const char *text) {
    char said[256] = "";
    struct raw *raw = raw_up(node_port(&victim));
    assert_non_null(raw);
    (void)misbehave(raw); /* it may be cut off in the middle */
    int got = raw_goodbye(raw, said);
    raw_free(raw);
    if (got != status || !strstr(said, text)) fail_msg("goodbye %d \"%s\", expected %d \"%s\"", got, said, status, text);
    check_honest();
}

static bool unknown_frame(struct raw *raw) { return raw_frame(raw, (enum frame_type)77, 0, 0, NULL, 4); }
static bool oversized_hello(struct raw *raw) { return raw_frame(raw, FRAME_HELLO, 0, 0, NULL, 65535); }
static bool second_hello(struct raw *raw) { return raw_hello(raw); }
static bool oversized_frame(struct raw *raw) { return raw_frame(raw, FRAME_DATA, FRAME_FIRST, 1, NULL, 65535); }
static bool no_first(struct raw *raw) { return raw_frame(raw, FRAME_DATA, 0, 1, NULL, 100); }
static bool giant_header(struct raw *raw) { return raw_first(raw, 1, 0, 65535, 0, 100); }
static bool giant_body(struct raw *raw) { return raw_first(raw, 1, 0, 10, UINT32_MAX, 100); }
static bool body_of_drain(struct raw *raw) {
    uint8_t preamble[FRAME_PREAMBLE_SIZE];
    frame_preamble_encode(&(struct frame_preamble){MSG_DRAIN, 0, 100}, preamble);
    return raw_frame(raw, FRAME_DATA, FRAME_FIRST, 1, preamble, sizeof(preamble));
}
static bool too_long(struct raw *raw) { return raw_first(raw, 1, 0, 10, 10, 100); }
static bool last_too_early(struct raw *raw) { return raw_first(raw, 1, FRAME_LAST, 10, 1000, 100); }
static bool last_missing(struct raw *raw) { return raw_first(raw, 1, 0, 10, 82, 100); }
static bool first_inside(struct raw *raw) { return raw_first(raw, 1, 0, 10, 1000, 100) && raw_first(raw, 1, 0, 10, 1000, 100); }
static bool zero_credit(struct raw *raw) { return raw_frame(raw, FRAME_CREDIT, 0, 1, "\0\0\0\0", 4); }
static bool endless_credit(struct raw *raw) { return raw_frame(raw, FRAME_CREDIT, 0, 1, "\xff\xff\xff\xff", 4); }

static void broken_frames_are_a_peer_fault(void **state) {
    (void)state;
    expect_fault(unknown_frame, COROLLA_PEER_FAULT, "unknown type 77");
    expect_fault(oversized_hello, COROLLA_PEER_FAULT, "65535");
    expect_fault(second_hello, COROLLA_PEER_FAULT, "second HELLO");
    expect_fault(oversized_frame, COROLLA_PEER_FAULT, "65535");
    expect_fault(no_first, COROLLA_PEER_FAULT, "no message");
    expect_fault(giant_header, COROLLA_PEER_FAULT, "too large");
    expect_fault(giant_body, COROLLA_PEER_FAULT, "too large");
    expect_fault(body_of_drain, COROLLA_PEER_FAULT, "with a body");
    expect_fault(too_long, COROLLA_PEER_FAULT, "longer than it said");
    expect_fault(last_too_early, COROLLA_PEER_FAULT, "marked wrongly");
    expect_fault(last_missing, COROLLA_PEER_FAULT, "marked wrongly");
    expect_fault(first_inside, COROLLA_PEER_FAULT, "inside");
    expect_fault(zero_credit, COROLLA_PEER_FAULT, "credit");
    expect_fault(endless_credit, COROLLA_PEER_FAULT, "credit");
}

static bool many_partial(struct raw *raw) {
    for (uint32_t i = 0; i < 65; i++) {
        if (!raw_first(raw, 1 + 2 * i, 0, 10, 1000, 100)) return false;
    }
    return true;
}
static bool many_large(struct raw *raw) {
    for (uint32_t i = 0; i < 17; i++) {
        if (!raw_first(raw, 1 + 2 * i, 0, 10, 1u << 20, 100)) return false;
    }
    return true;
}
static bool many_streams(struct raw *raw) {
    for (uint32_t i = 0; i <= 2048; i++) { /* each a whole message, and its credit is never awaited */
        if (!raw_frame(raw, FRAME_CREDIT, 0, 1 + 2 * i, "\x01\0\0\0", 4)) return false;
    }
    return true;
}

static void tables_have_bounds(void **state) {
    (void)state;
    expect_fault(many_partial, COROLLA_PEER_FAULT, "64 messages");
    expect_fault(many_large, COROLLA_PEER_FAULT, "16 large");
    expect_fault(many_streams, COROLLA_PEER_FAULT, "2048 streams");
}

static void data_beyond_the_credit_is_a_peer_fault(void **state) {
    (void)state;
    /* Other peers hold the whole budget of memory, so a large message waits and gets no more credit. */
    victim.behaviour = NODE_HOARD;
    struct raw *hog = raw_up(node_port(&victim));
    assert_non_null(hog);
    struct raw *raw = raw_up(node_port(&victim));
    assert_non_null(raw);
    char said[256] = "";
    assert_true(raw_first(raw, 1, 0, 10, 60u << 20, 60000)); /* 60 of 84 MiB */
    assert_true(raw_first(raw, 3, 0, 10, 60u << 20, 60000)); /* waits */
    for (int i = 0; i < 4; i++) raw_frame(raw, FRAME_DATA, 0, 3, NULL, 60000);
    assert_int_equal(raw_goodbye(raw, said), COROLLA_PEER_FAULT);
    assert_non_null(strstr(said, "credit of stream 3"));
    raw_free(raw);
    raw_free(hog);
    victim.behaviour = NODE_ECHO;
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
        assert_true(raw_closed_within(raw_fd(raws[i]), 8000)); /* a message that makes no progress ends the link */
        raw_free(raws[i]);
    }
    check_honest();
}

/* Messages that each pass as small and never end: the memory for them is an eighth of 512 MiB. */
static void who_holds_most_of_half_sent_memory_is_cut_off(void **state) {
    (void)state;
    struct raw *raws[12];
    unsigned busy = 0;
    for (int i = 0; i < 12; i++) {
        assert_non_null(raws[i] = raw_up(node_port(&victim)));
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

/* Claims of 6 x 56 MiB that come just fast enough leave no 48 of 384 MiB for large messages, until somebody waited for long. */
static void claims_that_trickle_do_not_keep_large_messages_out(void **state) {
    (void)state;
    struct raw *raws[6];
    bool alive[6];
    for (int i = 0; i < 6; i++) {
        assert_non_null(raws[i] = raw_up(node_port(&victim)));
        alive[i] = raw_first(raws[i], 1, 0, 10, 56u << 20, 20000);
    }
    unsigned before = honest.messages, now = before;
    assert_int_equal(node_send(&honest, honest_link, 101, LINK_BULK, "large", 48u << 20), COROLLA_OK);
    uint64_t end = clock_us() + 15000000;
    while (now < before + 1 && clock_us() < end) {
        for (int i = 0; i < 6; i++) alive[i] = alive[i] && raw_frame(raws[i], FRAME_DATA, 0, 1, NULL, 60000);
        nanosleep(&(struct timespec){0, 25000000}, NULL);
        pthread_mutex_lock(&honest.lock);
        now = honest.messages;
        pthread_mutex_unlock(&honest.lock);
    }
    for (int i = 0; i < 6; i++) raw_free(raws[i]);
    if (now < before + 1) fail_msg("no large message came through in 15 s");
    check_honest();
}

static void a_frame_that_does_not_end_is_cut_off(void **state) {
    (void)state;
    struct raw *raw = raw_up(node_port(&victim));
    assert_non_null(raw);
    uint8_t half[FRAME_HEADER_SIZE] = {FRAME_DATA, FRAME_FIRST, 0, 200, 1, 0, 0, 0};
    assert_true(raw_write(raw, half, 5));
    char said[256] = "";
    assert_int_equal(raw_goodbye(raw, said), COROLLA_TIMEOUT);
    raw_free(raw);
    check_honest();
}

static void a_peer_that_goes_silent_is_dropped(void **state) {
    (void)state;
    struct raw *raw = raw_up(node_port(&victim));
    assert_non_null(raw);
    char said[256] = "";
    uint64_t begin = clock_us();
    assert_int_equal(raw_goodbye(raw, said), COROLLA_TIMEOUT); /* it reads, and answers no ping */
    assert_non_null(strstr(said, "nothing came"));
    uint64_t took = (clock_us() - begin) / 1000;
    assert_in_range(took, 2500, 8000); /* dead_ms is 4000 */
    raw_free(raw);
    check_honest();
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

static void peers_that_vanish_leave_nothing(void **state) {
    (void)state;
    for (int i = 0; i < 30; i++) {
        struct raw *raw = raw_up(node_port(&victim));
        assert_non_null(raw);
        raw_first(raw, 1, 0, 10, 1u << 20, 50000);
        if (i % 2) raw_first(raw, 3, FRAME_LAST, 10, 1000, 1018);
        raw_free(raw); /* in the middle of everything */
    }
    check_honest();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(garbage_instead_of_tls_is_cut_off),
        cmocka_unit_test(a_slow_or_silent_peer_is_cut_off_at_the_deadline),
        cmocka_unit_test(tls_without_hello_is_cut_off_at_the_deadline),
        cmocka_unit_test(only_ed25519_tls13_and_our_protocol_come_in),
        cmocka_unit_test(frames_before_hello_break_the_link),
        cmocka_unit_test(an_unknown_version_is_told_so),
        cmocka_unit_test(half_open_connections_are_limited),
        cmocka_unit_test(broken_frames_are_a_peer_fault),
        cmocka_unit_test(tables_have_bounds),
        cmocka_unit_test(data_beyond_the_credit_is_a_peer_fault),
        cmocka_unit_test(claims_do_not_cost_memory),
        cmocka_unit_test(who_holds_most_of_half_sent_memory_is_cut_off),
        cmocka_unit_test(claims_that_trickle_do_not_keep_large_messages_out),
        cmocka_unit_test(a_frame_that_does_not_end_is_cut_off),
        cmocka_unit_test(a_peer_that_goes_silent_is_dropped),
        cmocka_unit_test(floods_of_pings_and_key_updates_are_not_queued),
        cmocka_unit_test(a_peer_that_leaves_its_answers_unread_is_cut_off),
        cmocka_unit_test(a_link_over_its_budget_is_not_read_and_goes_on_later),
        cmocka_unit_test(peers_that_vanish_leave_nothing),
    };
    signal(SIGPIPE, SIG_IGN); /* for our own rude peers; that a net needs no such thing, test_net_link.c shows */
    return cmocka_run_group_tests(tests, open_both, close_both);
}
