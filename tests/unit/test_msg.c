/* test_msg.c - every message goes there and back, usual and as large as its limits allow; and what a hostile peer may write into
 * one is refused with the output left alone. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/samples.h"

#define SAME_NUMBER(a, b, field) assert_true((a).field == (b).field)
#define SAME_BYTES(a, b, field) assert_memory_equal((a).field, (b).field, sizeof((a).field))
#define SAME_TEXT(a, b, field) assert_string_equal((a).field, (b).field)

static uint8_t bytes[MSG_HEADER_MAX];
static struct msg_step step, step_back;

static void same_addrs(uint32_t n, const char a[ADDRS_MAX][ADDR_MAX], uint32_t n_back, const char b[ADDRS_MAX][ADDR_MAX]) {
    assert_int_equal(n, n_back);
    for (uint32_t i = 0; i < n; i++) {
        assert_string_equal(a[i], b[i]);
    }
}

static void same_signed(const struct signed_bytes *a, const struct signed_bytes *b) {
    assert_int_equal(a->size, b->size);
    assert_memory_equal(a->data, b->data, a->size);
}

static void same_timings(uint32_t n, const struct hop_timing *a, uint32_t n_back, const struct hop_timing *b) {
    assert_int_equal(n, n_back);
    for (uint32_t i = 0; i < n; i++) {
        SAME_NUMBER(a[i], b[i], queue_us);
        SAME_NUMBER(a[i], b[i], compute_us);
    }
}

static void hello_goes_there_and_back(void **state) {
    (void)state;
    for (int how = SAMPLE_USUAL; how <= SAMPLE_LARGEST; how++) {
        struct msg_hello m = sample_hello((enum sample_size)how), back;
        size_t size = msg_hello_encode(&m, bytes);
        assert_true(size <= FRAME_HELLO_MAX);
        assert_int_equal(msg_hello_decode(bytes, size, &back, NULL), COROLLA_OK);
        same_signed(&m.certificate, &back.certificate);
        same_signed(&m.invitation, &back.invitation);
        same_signed(&m.issued, &back.issued);
        SAME_NUMBER(m, back, revocations);
        SAME_NUMBER(m, back, version_min);
        SAME_NUMBER(m, back, version_max);
        SAME_NUMBER(m, back, features);
        SAME_NUMBER(m, back, instance);
        SAME_NUMBER(m, back, boot);
        SAME_TEXT(m, back, agent);
        same_addrs(m.n_addrs, m.addrs, back.n_addrs, back.addrs);
    }
}

static void info_goes_there_and_back(void **state) {
    (void)state;
    for (int how = SAMPLE_USUAL; how <= SAMPLE_LARGEST; how++) {
        struct msg_info m = sample_info((enum sample_size)how), back;
        assert_int_equal(msg_info_decode(bytes, msg_info_encode(&m, bytes), &back, NULL), COROLLA_OK);
        SAME_BYTES(m, back, model);
        SAME_TEXT(m, back, model_name);
        SAME_TEXT(m, back, name);
        SAME_TEXT(m, back, version);
        SAME_NUMBER(m, back, n_blocks);
        SAME_NUMBER(m, back, n_embd);
        SAME_NUMBER(m, back, begin);
        SAME_NUMBER(m, back, end);
        SAME_NUMBER(m, back, session_tokens_max);
        SAME_NUMBER(m, back, cache_tokens_left);
        SAME_NUMBER(m, back, decode_tokens_per_s);
        SAME_NUMBER(m, back, prefill_tokens_per_s);
        SAME_NUMBER(m, back, exact);
        SAME_NUMBER(m, back, arithmetic_class);
        SAME_NUMBER(m, back, wires);
        SAME_NUMBER(m, back, draining);
        SAME_NUMBER(m, back, sessions);
    }
}

static void open_goes_there_and_back(void **state) {
    (void)state;
    for (int how = SAMPLE_USUAL; how <= SAMPLE_LARGEST; how++) {
        struct msg_open m = sample_open((enum sample_size)how), back;
        assert_int_equal(msg_open_decode(bytes, msg_open_encode(&m, bytes), &back, NULL), COROLLA_OK);
        SAME_BYTES(m, back, session);
        SAME_BYTES(m, back, model);
        SAME_NUMBER(m, back, begin);
        SAME_NUMBER(m, back, end);
        SAME_NUMBER(m, back, max_tokens);
        SAME_NUMBER(m, back, has_upstream);
        assert_true(!m.has_upstream || node_id_equal(&m.upstream, &back.upstream));
        SAME_NUMBER(m, back, has_parent);
        SAME_NUMBER(m, back, n_prefix);
        assert_memory_equal(m.prefix, back.prefix, m.n_prefix * PREFIX_HASH_SIZE);
        SAME_NUMBER(m, back, parent_length);
        assert_true(!m.has_parent ||
                    (memcmp(m.parent, back.parent, SESSION_SIZE) == 0 && memcmp(m.parent_secret, back.parent_secret, SECRET_SIZE) == 0));
        SAME_NUMBER(m, back, keep);
        SAME_NUMBER(m, back, dtype);
    }
}

static void sync_and_synced_go_there_and_back(void **state) {
    (void)state;
    for (int how = SAMPLE_USUAL; how <= SAMPLE_LARGEST; how++) {
        struct msg_sync m = sample_sync((enum sample_size)how), back;
        assert_int_equal(msg_sync_decode(bytes, msg_sync_encode(&m, bytes), &back, NULL), COROLLA_OK);
        SAME_BYTES(m, back, session);
        SAME_BYTES(m, back, secret);
        SAME_NUMBER(m, back, epoch);
        SAME_NUMBER(m, back, has_upstream);
        assert_true(!m.has_upstream || node_id_equal(&m.upstream, &back.upstream));
        struct msg_synced synced = sample_synced((enum sample_size)how), synced_back;
        assert_int_equal(msg_synced_decode(bytes, msg_synced_encode(&synced, bytes), &synced_back, NULL), COROLLA_OK);
        SAME_BYTES(synced, synced_back, session);
        SAME_NUMBER(synced, synced_back, epoch);
        SAME_NUMBER(synced, synced_back, length);
        SAME_NUMBER(synced, synced_back, kept);
        SAME_NUMBER(synced, synced_back, computed_epoch);
    }
}

static void drain_says_whether_its_sender_leaves(void **state) {
    (void)state;
    for (int leaving = 0; leaving <= 1; leaving++) {
        struct msg_drain m = {.leaving = leaving}, back = {.leaving = !leaving};
        assert_int_equal(msg_drain_decode(bytes, msg_drain_encode(&m, bytes), &back, NULL), COROLLA_OK);
        SAME_NUMBER(m, back, leaving);
    }
    struct msg_drain back = {.leaving = true}; /* of a node that knows no fields */
    assert_int_equal(msg_drain_decode(bytes, 0, &back, NULL), COROLLA_OK);
    assert_false(back.leaving);
}

static void opened_and_close_go_there_and_back(void **state) {
    (void)state;
    struct msg_opened opened = sample_opened(SAMPLE_LARGEST), opened_back;
    assert_int_equal(msg_opened_decode(bytes, msg_opened_encode(&opened, bytes), &opened_back, NULL), COROLLA_OK);
    SAME_BYTES(opened, opened_back, session);
    SAME_BYTES(opened, opened_back, secret);
    SAME_NUMBER(opened, opened_back, cache_tokens_left);
    struct msg_close m = sample_close(), back;
    assert_int_equal(msg_close_decode(bytes, msg_close_encode(&m, bytes), &back, NULL), COROLLA_OK);
    SAME_BYTES(m, back, session);
    SAME_BYTES(m, back, secret);
}

static void check_step(uint32_t n_hops, uint32_t n_timings, enum sample_size how) {
    sample_step(&step, n_hops, n_timings, how);
    size_t size = msg_step_encode(&step, bytes);
    assert_true(size <= MSG_HEADER_MAX);
    assert_int_equal(msg_step_decode(bytes, size, &step_back, NULL), COROLLA_OK);
    SAME_BYTES(step, step_back, session);
    SAME_BYTES(step, step_back, secret);
    SAME_NUMBER(step, step_back, epoch);
    SAME_NUMBER(step, step_back, position);
    SAME_NUMBER(step, step_back, n_tokens);
    SAME_NUMBER(step, step_back, n_rows);
    SAME_NUMBER(step, step_back, dtype);
    assert_true(node_id_equal(&step.client, &step_back.client));
    SAME_NUMBER(step, step_back, has_parent);
    if (step.has_parent) SAME_BYTES(step, step_back, parent);
    SAME_NUMBER(step, step_back, shared);
    SAME_NUMBER(step, step_back, named);
    SAME_NUMBER(step, step_back, n_hops);
    for (uint32_t i = 0; i < n_hops; i++) {
        const struct step_hop *a = &step.hops[i], *b = &step_back.hops[i];
        assert_true(node_id_equal(&a->node.id, &b->node.id));
        assert_memory_equal(a->secret, b->secret, SECRET_SIZE);
        same_addrs(a->node.n_addrs, a->node.addrs, b->node.n_addrs, b->node.addrs);
    }
    same_timings(step.n_timings, step.timings, step_back.n_timings, step_back.timings);
}

static void a_step_goes_there_and_back_with_the_longest_chain(void **state) {
    (void)state;
    check_step(0, 0, SAMPLE_USUAL);
    check_step(2, 1, SAMPLE_USUAL);
    check_step(HOPS_MAX - 1, 0, SAMPLE_LARGEST);
    check_step(0, HOPS_MAX - 1, SAMPLE_LARGEST);
    check_step(31, 32, SAMPLE_LARGEST);
}

static void a_result_goes_there_and_back(void **state) {
    (void)state;
    for (int how = SAMPLE_USUAL; how <= SAMPLE_LARGEST; how++) {
        struct msg_result m = sample_result((enum sample_size)how), back;
        assert_int_equal(msg_result_decode(bytes, msg_result_encode(&m, bytes), &back, NULL), COROLLA_OK);
        SAME_BYTES(m, back, session);
        SAME_NUMBER(m, back, epoch);
        SAME_NUMBER(m, back, position);
        SAME_NUMBER(m, back, n_tokens);
        SAME_NUMBER(m, back, n_rows);
        SAME_NUMBER(m, back, dtype);
        same_timings(m.n_timings, m.timings, back.n_timings, back.timings);
    }
}

static void a_failure_goes_there_and_back(void **state) {
    (void)state;
    for (int how = SAMPLE_USUAL; how <= SAMPLE_LARGEST; how++) {
        struct msg_failed m = sample_failed((enum sample_size)how), back;
        assert_int_equal(msg_failed_decode(bytes, msg_failed_encode(&m, bytes), &back, NULL), COROLLA_OK);
        SAME_BYTES(m, back, session);
        SAME_NUMBER(m, back, epoch);
        SAME_NUMBER(m, back, position);
        SAME_NUMBER(m, back, status);
        SAME_TEXT(m, back, text);
        SAME_NUMBER(m, back, retry_after_ms);
        SAME_NUMBER(m, back, cache_tokens_left);
        SAME_NUMBER(m, back, has_culprit);
        assert_true(!m.has_culprit || node_id_equal(&m.culprit, &back.culprit));
    }
}

static void text_is_cleaned_on_the_way_out(void **state) {
    (void)state;
    struct msg_failed m = sample_failed(SAMPLE_USUAL), back;
    memset(m.text, 'x', TEXT_SIZE);
    memcpy(m.text, "two\nlines \x1b[0m", 13);
    memcpy(m.text + TEXT_SIZE - 3, "\xe2\x82\xac", 3); /* a character that the size cuts, and no NUL */
    assert_int_equal(msg_failed_decode(bytes, msg_failed_encode(&m, bytes), &back, NULL), COROLLA_OK);
    assert_memory_equal(back.text, "two lines  [0m", 13);
    assert_int_equal(strlen(back.text), TEXT_SIZE - 3);
}

static void a_code_from_the_future_is_an_internal_error(void **state) {
    (void)state;
    struct msg_failed back;
    uint8_t in[] = "\x0a\x10ssssssssssssssss\x20\x64"; /* session, status 100 */
    assert_int_equal(msg_failed_decode(in, sizeof(in) - 1, &back, NULL), COROLLA_OK);
    assert_int_equal(back.status, COROLLA_INTERNAL);
    in[sizeof(in) - 2] = COROLLA_OK;
    assert_int_equal(msg_failed_decode(in, sizeof(in) - 1, &back, NULL), COROLLA_FORMAT);
}

static void unknown_fields_are_skipped(void **state) {
    (void)state;
    struct msg_close m = sample_close(), back;
    size_t size = msg_close_encode(&m, bytes);
    memcpy(bytes + size, "\xa2\x06\x03new\xad\x06\x01\x02\x03\x04\xa0\x06\x05", 15); /* fields 100, 101, 100 */
    assert_int_equal(msg_close_decode(bytes, size + 15, &back, NULL), COROLLA_OK);
    SAME_BYTES(m, back, secret);
}

/* Encodes a step with one thing wrong, which encoders do not check, and expects its refusal. */
static void refused_step(const char *what) {
    struct corolla_error err;
    size_t size = msg_step_encode(&step, bytes);
    step_back.n_hops = 4242;
    if (msg_step_decode(bytes, size, &step_back, &err) != COROLLA_FORMAT || step_back.n_hops != 4242) {
        fail_msg("a step with %s was taken, or changed the output", what);
    }
    sample_step(&step, 2, 1, SAMPLE_USUAL);
}

static void a_step_with_one_thing_wrong_is_refused(void **state) {
    (void)state;
    sample_step(&step, 2, 1, SAMPLE_USUAL);
    step.n_tokens = 0, step.n_rows = 0;
    refused_step("no rows");
    step.n_tokens = STEP_TOKENS_MAX + 1;
    refused_step("too many rows");
    step.n_rows = step.n_tokens + 1;
    refused_step("more rows asked than sent");
    step.position = UINT32_MAX;
    refused_step("an end past the numbers");
    step.has_parent = true;
    step.shared = step.position + 1;
    refused_step("more shared with a parent than there is before it");
    step.named = step.position + step.n_tokens + 1;
    refused_step("more named than there is behind it");
    step.dtype = (enum corolla_wire)3;
    refused_step("an unknown wire type");
    step.dtype = (enum corolla_wire) - 1;
    refused_step("a negative wire type");
    snprintf(step.hops[1].node.addrs[1], ADDR_MAX, "host:0");
    refused_step("port 0");
    snprintf(step.hops[0].node.addrs[0], ADDR_MAX, "bad\x1bhost:80");
    refused_step("a control character in an address");
    snprintf(step.hops[0].node.addrs[0], ADDR_MAX, "%s", "");
    refused_step("an empty address");
}

static void an_info_with_one_thing_wrong_is_refused(void **state) {
    (void)state;
    struct msg_info good = sample_info(SAMPLE_USUAL), out;
    struct msg_info bad[12];
    for (size_t i = 0; i < 12; i++) {
        bad[i] = good;
    }
    bad[0].begin = bad[0].end;
    bad[1].end = bad[1].n_blocks + 1;
    bad[2].n_blocks = 0;
    bad[3].n_blocks = BLOCKS_MAX + 1;
    bad[4].n_embd = 0;
    bad[5].n_embd = EMBD_MAX + 1;
    bad[6].decode_tokens_per_s = NAN;
    bad[7].prefill_tokens_per_s = INFINITY;
    bad[8].prefill_tokens_per_s = -1.0f;
    bad[9].wires = 1u << COROLLA_WIRE_F16;
    bad[10].begin = bad[10].end + 1;
    bad[11].wires = 0;
    for (size_t i = 0; i < 12; i++) {
        if (msg_info_decode(bytes, msg_info_encode(&bad[i], bytes), &out, NULL) != COROLLA_FORMAT) {
            fail_msg("wrong info %zu was taken", i);
        }
    }
    good.wires |= 1u << 30;
    assert_int_equal(msg_info_decode(bytes, msg_info_encode(&good, bytes), &out, NULL), COROLLA_OK);
    assert_int_equal(out.wires & 1u << 30, 0);
}

static void a_hello_or_open_with_one_thing_wrong_is_refused(void **state) {
    (void)state;
    struct msg_hello hello = sample_hello(SAMPLE_USUAL), hello_out;
    hello.version_min = 0;
    assert_int_equal(msg_hello_decode(bytes, msg_hello_encode(&hello, bytes), &hello_out, NULL), COROLLA_FORMAT);
    hello.version_min = 2;
    assert_int_equal(msg_hello_decode(bytes, msg_hello_encode(&hello, bytes), &hello_out, NULL), COROLLA_FORMAT);
    hello.version_min = 1;
    size_t size = msg_hello_encode(&hello, bytes);
    for (uint8_t field = 8; field <= 10; field++) { /* a certificate, an invitation or an issued one that is too long */
        bytes[size] = (uint8_t)(field << 3 | 2);
        bytes[size + 1] = ((SIGNED_MAX + 1) & 0x7f) | 0x80;
        bytes[size + 2] = (SIGNED_MAX + 1) >> 7;
        memset(bytes + size + 3, 1, SIGNED_MAX + 1);
        assert_int_equal(msg_hello_decode(bytes, size + 3 + SIGNED_MAX + 1, &hello_out, NULL), COROLLA_FORMAT);
    }
    struct msg_open open = sample_open(SAMPLE_USUAL), open_out;
    open.begin = open.end;
    assert_int_equal(msg_open_decode(bytes, msg_open_encode(&open, bytes), &open_out, NULL), COROLLA_FORMAT);
    open = sample_open(SAMPLE_USUAL);
    open.max_tokens = 0;
    assert_int_equal(msg_open_decode(bytes, msg_open_encode(&open, bytes), &open_out, NULL), COROLLA_FORMAT);
    open = sample_open(SAMPLE_USUAL);
    open.end = BLOCKS_MAX + 1;
    assert_int_equal(msg_open_decode(bytes, msg_open_encode(&open, bytes), &open_out, NULL), COROLLA_FORMAT);
    open = sample_open(SAMPLE_LARGEST);
    open.max_tokens = open.parent_length - 1;
    assert_int_equal(msg_open_decode(bytes, msg_open_encode(&open, bytes), &open_out, NULL), COROLLA_FORMAT);
}

/* Cuts the first bytes field short: a session of 15 bytes. */
static size_t shorten_session(size_t size) {
    assert_int_equal(bytes[1], SESSION_SIZE);
    bytes[1]--;
    memmove(bytes + 2 + SESSION_SIZE - 1, bytes + 2 + SESSION_SIZE, size - 2 - SESSION_SIZE);
    return size - 1;
}

static void a_sync_synced_or_drain_with_one_thing_wrong_is_refused(void **state) {
    (void)state;
    struct msg_sync sync = sample_sync(SAMPLE_LARGEST), sync_out;
    struct msg_synced synced = sample_synced(SAMPLE_USUAL), synced_out;
    struct msg_drain drain_out;
    struct msg_open open = sample_open(SAMPLE_USUAL), open_out;
    size_t size = msg_sync_encode(&sync, bytes);
    assert_int_equal(msg_sync_decode(bytes, size - 1, &sync_out, NULL), COROLLA_FORMAT);
    assert_int_equal(msg_sync_decode(bytes, shorten_session(size), &sync_out, NULL), COROLLA_FORMAT);
    assert_int_equal(msg_sync_decode(bytes, 2 + SESSION_SIZE, &sync_out, NULL), COROLLA_FORMAT); /* no secret */
    sync = sample_sync(SAMPLE_USUAL);
    size = msg_sync_encode(&sync, bytes);
    memcpy(bytes + size, "\x22\x02\x10\x01", 4); /* an upstream without a key */
    assert_int_equal(msg_sync_decode(bytes, size + 4, &sync_out, NULL), COROLLA_FORMAT);
    size = msg_synced_encode(&synced, bytes);
    assert_int_equal(msg_synced_decode(bytes, shorten_session(size), &synced_out, NULL), COROLLA_FORMAT);
    assert_int_equal(msg_synced_decode(bytes, 0, &synced_out, NULL), COROLLA_FORMAT);
    assert_int_equal(msg_drain_decode((const uint8_t *)"\xff", 1, &drain_out, NULL), COROLLA_FORMAT);
    open.dtype = (enum corolla_wire)3;
    assert_int_equal(msg_open_decode(bytes, msg_open_encode(&open, bytes), &open_out, NULL), COROLLA_FORMAT);
}

/* Every prefix and every flipped bit: whatever happens, it is an answer. The sanitizers watch. */
static void cut_and_flipped_messages_are_answered(void **state) {
    (void)state;
    static uint8_t copy[MSG_HEADER_MAX];
    sample_step(&step, 2, 1, SAMPLE_USUAL);
    size_t size = msg_step_encode(&step, bytes);
    unsigned refused = 0;
    for (size_t cut = 0; cut < size; cut++) {
        memcpy(copy, bytes, cut);
        refused += msg_step_decode(copy, cut, &step_back, NULL) == COROLLA_FORMAT;
    }
    assert_true(refused > size / 2);
    for (size_t bit = 0; bit < size * 8; bit++) {
        memcpy(copy, bytes, size);
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        enum corolla_status status = msg_step_decode(copy, size, &step_back, NULL);
        assert_true(status == COROLLA_FORMAT || status == COROLLA_OK);
    }
}

static void too_many_small_things_are_refused_within_fixed_memory(void **state) {
    (void)state;
    struct msg_close close_out;
    for (size_t i = 0; i + 2 <= MSG_HEADER_MAX; i += 2) {
        memcpy(bytes + i, "\x78\x01", 2); /* 12,288 unknown fields */
    }
    assert_int_equal(msg_close_decode(bytes, MSG_HEADER_MAX, &close_out, NULL), COROLLA_FORMAT);
    for (size_t i = 0; i + 2 <= MSG_HEADER_MAX; i += 2) {
        memcpy(bytes + i, "\x4a\x00", 2); /* 12,288 empty hops */
    }
    assert_int_equal(msg_step_decode(bytes, MSG_HEADER_MAX, &step_back, NULL), COROLLA_FORMAT);
    memset(bytes, 1, MSG_HEADER_MAX);
    memcpy(bytes, "\x52\xfc\xbf\x01", 4); /* 24,572 timings in one list */
    assert_int_equal(msg_step_decode(bytes, MSG_HEADER_MAX, &step_back, NULL), COROLLA_FORMAT);
    assert_int_equal(msg_close_decode(bytes, MSG_HEADER_MAX + 1, &close_out, NULL), COROLLA_FORMAT);
}

/* 64 hops or timings do not fit the chain of the receiver: the encoder would assert, so the bytes are put together here. */
static void a_chain_that_is_too_long_is_refused(void **state) {
    (void)state;
    sample_step(&step, HOPS_MAX - 1, 0, SAMPLE_USUAL);
    size_t size = msg_step_encode(&step, bytes);
    sample_step(&step, 1, 0, SAMPLE_USUAL);
    static uint8_t one[MSG_HEADER_MAX];
    size_t one_size = msg_step_encode(&step, one);
    const uint8_t *hop = memchr(one + 60, 0x4a, one_size - 60); /* the tag of hops, behind session, secret and client */
    while (hop != NULL && (size_t)(one + one_size - hop) != (size_t)hop[1] + 2) {
        hop = memchr(hop + 1, 0x4a, (size_t)(one + one_size - hop) - 1);
    }
    assert_non_null(hop);
    size_t hop_size = (size_t)(one + one_size - hop);
    memcpy(bytes + size, hop, hop_size);
    assert_int_equal(msg_step_decode(bytes, size, &step_back, NULL), COROLLA_OK);
    assert_int_equal(msg_step_decode(bytes, size + hop_size, &step_back, NULL), COROLLA_FORMAT);
    memcpy(bytes + size, "\x52\x01\x05\x5a\x01\x05", 6); /* 63 hops to come and one passed: no room for the receiver's own timing */
    assert_int_equal(msg_step_decode(bytes, size + 6, &step_back, NULL), COROLLA_FORMAT);
    sample_step(&step, 2, 0, SAMPLE_USUAL);
    size = msg_step_encode(&step, bytes);
    memcpy(bytes + size, "\x52\x01\x05", 3); /* a queue time without a compute time */
    assert_int_equal(msg_step_decode(bytes, size + 3, &step_back, NULL), COROLLA_FORMAT);
}

static void node_ids_have_a_text(void **state) {
    (void)state;
    struct node_id id = {.key = {0xab, 0x01}}, other = id;
    char text[NODE_ID_TEXT];
    node_id_format(&id, text);
    assert_int_equal(strlen(text), 64);
    assert_memory_equal(text, "ab0100", 6);
    other.instance = UINT32_MAX;
    node_id_format(&other, text);
    assert_string_equal(text + 64, "/4294967295");
    assert_false(node_id_equal(&id, &other));
    other = id;
    assert_true(node_id_equal(&id, &other));
    other.key[31] ^= 1;
    assert_false(node_id_equal(&id, &other));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_goes_there_and_back),
        cmocka_unit_test(info_goes_there_and_back),
        cmocka_unit_test(open_goes_there_and_back),
        cmocka_unit_test(opened_and_close_go_there_and_back),
        cmocka_unit_test(sync_and_synced_go_there_and_back),
        cmocka_unit_test(drain_says_whether_its_sender_leaves),
        cmocka_unit_test(a_step_goes_there_and_back_with_the_longest_chain),
        cmocka_unit_test(a_result_goes_there_and_back),
        cmocka_unit_test(a_failure_goes_there_and_back),
        cmocka_unit_test(text_is_cleaned_on_the_way_out),
        cmocka_unit_test(a_code_from_the_future_is_an_internal_error),
        cmocka_unit_test(unknown_fields_are_skipped),
        cmocka_unit_test(a_step_with_one_thing_wrong_is_refused),
        cmocka_unit_test(an_info_with_one_thing_wrong_is_refused),
        cmocka_unit_test(a_hello_or_open_with_one_thing_wrong_is_refused),
        cmocka_unit_test(a_sync_synced_or_drain_with_one_thing_wrong_is_refused),
        cmocka_unit_test(cut_and_flipped_messages_are_answered),
        cmocka_unit_test(too_many_small_things_are_refused_within_fixed_memory),
        cmocka_unit_test(a_chain_that_is_too_long_is_refused),
        cmocka_unit_test(node_ids_have_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
