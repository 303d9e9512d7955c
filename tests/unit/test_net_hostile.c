/* test_net_hostile.c - peers that break the rules, against a node that serves an honest one all the while.
 *
 * Each test ends by an echo through the honest link: the node is up, and others go on. What they make it hold: test_net_memory.c.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/ssl.h>

#include "base/clock.h"
#include "base/mem.h"
#include "support/net_raw.h"
#include "support/net_victim.h"

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
        assert_true(raw_closed_within(fd, VICTIM_HANDSHAKE_MS * 4));
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
        assert_true(raw_closed_within(fds[i], VICTIM_HANDSHAKE_MS * 4));
        close(fds[i]);
    }
    assert_true(clock_us() - begin >= VICTIM_HANDSHAKE_MS * 900ull);
    check_honest();
}

static void tls_without_hello_is_cut_off_at_the_deadline(void **state) {
    (void)state;
    struct raw *raw = raw_tls(raw_connect(node_port(&victim)), RAW_ED25519, "corolla/1", 0);
    assert_non_null(raw);
    unsigned before = ups();
    assert_true(raw_closed_within(raw_fd(raw), VICTIM_HANDSHAKE_MS * 4));
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
        assert_true(raw_closed_within(raw_fd(raw), VICTIM_HANDSHAKE_MS * 4));
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
    assert_in_range(took, 2500, 12000); /* dead_ms is 4000; a busy machine is late */
    raw_free(raw);
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
        cmocka_unit_test(a_frame_that_does_not_end_is_cut_off),
        cmocka_unit_test(a_peer_that_goes_silent_is_dropped),
        cmocka_unit_test(peers_that_vanish_leave_nothing),
    };
    signal(SIGPIPE, SIG_IGN); /* for our own rude peers; that a net needs no such thing, test_net_link.c shows */
    return cmocka_run_group_tests(tests, victim_open, victim_close);
}
