/* test_record.c - records and the messages of gossip: there and back, as large as their limits allow, and what is refused. */
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

static uint8_t bytes[MSG_HEADER_MAX];
static struct msg_digest digest, digest_back;
static struct msg_versions versions, versions_back;
static struct msg_want want, want_back;
static struct msg_records records, records_back;

static void same_record(const struct record *a, const struct record *b) {
    assert_true(node_id_equal(&a->node.id, &b->node.id));
    assert_int_equal(a->node.n_addrs, b->node.n_addrs);
    for (uint32_t i = 0; i < a->node.n_addrs; i++) {
        assert_string_equal(a->node.addrs[i], b->node.addrs[i]);
    }
    assert_true(a->boot == b->boot && a->sequence == b->sequence && a->state == b->state);
    assert_memory_equal(a->model, b->model, ID_SIZE);
    assert_string_equal(a->model_name, b->model_name);
    assert_string_equal(a->name, b->name);
    assert_string_equal(a->version, b->version);
    assert_true(a->n_blocks == b->n_blocks && a->n_embd == b->n_embd && a->begin == b->begin && a->end == b->end);
    assert_true(a->decode_block_us == b->decode_block_us && a->prefill_block_us == b->prefill_block_us);
    assert_true(a->cache_tokens_left == b->cache_tokens_left && a->session_tokens_max == b->session_tokens_max);
    assert_true(a->sessions == b->sessions && a->queue_us == b->queue_us && a->exact == b->exact);
    assert_true(a->arithmetic_class == b->arithmetic_class && a->wires == b->wires);
    assert_int_equal(a->membership.size, b->membership.size);
    assert_memory_equal(a->membership.data, b->membership.data, a->membership.size);
}

static void a_record_goes_there_and_back(void **state) {
    (void)state;
    uint8_t out[RECORD_MAX];
    struct record m = sample_record(SAMPLE_USUAL), back;
    size_t size = record_encode(&m, out);
    assert_true(size < 400);
    assert_int_equal(record_decode(out, size, &back, NULL), COROLLA_OK);
    same_record(&m, &back);
    assert_int_equal(back.n_rtts, 2);
    assert_true(back.rtts[1].node == m.rtts[1].node && back.rtts[1].rtt_us == m.rtts[1].rtt_us);
    assert_int_equal(back.n_adapters, 1);
    assert_string_equal(back.adapters[0], "german-law");
}

static void the_largest_record_loses_its_last_adapters_first(void **state) {
    (void)state;
    uint8_t out[RECORD_MAX];
    struct record m = sample_record(SAMPLE_LARGEST), back;
    m.membership.size = 0;
    size_t size = record_encode(&m, out);
    assert_true(size <= RECORD_MAX);
    assert_int_equal(record_decode(out, size, &back, NULL), COROLLA_OK);
    same_record(&m, &back);
    assert_int_equal(back.n_rtts, RECORD_RTTS_MAX);
    assert_in_range(back.n_adapters, 1, RECORD_ADAPTERS_MAX - 1);
    assert_string_equal(back.adapters[0], m.adapters[0]);
}

static void a_certificate_goes_there_and_back_and_costs_adapters_only(void **state) {
    (void)state;
    uint8_t out[RECORD_MAX];
    struct record m = sample_record(SAMPLE_USUAL), back;
    m.membership = sample_signed(23);
    for (m.membership.size = 0; m.membership.size <= SIGNED_MAX; m.membership.size += 50) {
        assert_int_equal(record_decode(out, record_encode(&m, out), &back, NULL), COROLLA_OK);
        same_record(&m, &back);
        assert_int_equal(back.n_adapters, 1);
    }
    m = sample_record(SAMPLE_LARGEST);
    assert_int_equal(m.membership.size, SIGNED_MAX);
    assert_int_equal(record_decode(out, record_encode(&m, out), &back, NULL), COROLLA_OK);
    same_record(&m, &back);
    assert_int_equal(back.n_rtts, RECORD_RTTS_MAX);
    assert_int_equal(back.n_adapters, 0);
}

/* More than the struct holds: behind a whole record, as below. */
static void a_certificate_that_is_too_long_is_refused(void **state) {
    (void)state;
    uint8_t out[RECORD_MAX];
    struct record m = sample_record(SAMPLE_USUAL), back = {.n_blocks = 4242};
    size_t size = record_encode(&m, out);
    memset(out + size, 1, RECORD_MAX - size);
    memcpy(out + size, "\xc2\x01\xc8\x01", 4);
    assert_int_equal(record_decode(out, size + 4 + SIGNED_MAX, &back, NULL), COROLLA_OK);
    assert_int_equal(back.membership.size, SIGNED_MAX);
    back.n_blocks = 4242;
    memcpy(out + size, "\xc2\x01\xc9\x01", 4);
    assert_int_equal(record_decode(out, size + 4 + SIGNED_MAX + 1, &back, NULL), COROLLA_FORMAT);
    assert_int_equal(back.n_blocks, 4242);
}

static void a_record_with_one_thing_wrong_is_refused(void **state) {
    (void)state;
    uint8_t out[RECORD_MAX];
    struct record bad[17], back = {.n_blocks = 4242};
    const size_t n = sizeof(bad) / sizeof(bad[0]);
    for (size_t i = 0; i < n; i++) {
        bad[i] = sample_record(SAMPLE_USUAL);
    }
    bad[0].begin = bad[0].end;
    bad[1].end = bad[1].n_blocks + 1;
    bad[2].n_blocks = 0;
    bad[3].n_blocks = BLOCKS_MAX + 1;
    bad[4].n_embd = 0;
    bad[5].n_embd = EMBD_MAX + 1;
    bad[6].decode_block_us = NAN;
    bad[7].prefill_block_us = INFINITY;
    bad[8].prefill_block_us = -1.0f;
    bad[9].wires = 1u << COROLLA_WIRE_F16;
    bad[10].begin = bad[10].end + 1;
    bad[11].state = (enum record_state)(RECORD_LOADING + 1);
    bad[12].state = (enum record_state) - 1;
    snprintf(bad[13].node.addrs[1], ADDR_MAX, "host:0");
    snprintf(bad[14].node.addrs[0], ADDR_MAX, "bad\x1bhost:80");
    snprintf(bad[15].node.addrs[0], ADDR_MAX, "%s", "");
    bad[16].wires = 0;
    for (size_t i = 0; i < n; i++) {
        if (record_decode(out, record_encode(&bad[i], out), &back, NULL) != COROLLA_FORMAT || back.n_blocks != 4242) {
            fail_msg("wrong record %zu was taken, or changed the output", i);
        }
    }
    assert_int_equal(record_decode(out, RECORD_MAX + 1, &back, NULL), COROLLA_FORMAT);
    assert_int_equal(record_decode(out, 0, &back, NULL), COROLLA_FORMAT);
}

/* More than the struct holds: the encoder asserts, so the fields are put behind a whole record. */
static void too_many_round_trips_or_adapters_are_refused(void **state) {
    (void)state;
    uint8_t out[RECORD_MAX];
    struct record m = sample_record(SAMPLE_USUAL), back;
    m.n_rtts = m.n_adapters = 0;
    size_t size = record_encode(&m, out);
    for (uint32_t i = 1; i <= RECORD_RTTS_MAX + 1; i++, size += 5) {
        memcpy(out + size, "\xb2\x01\x02\x10\x05", 5); /* rtts { rtt_us: 5 } */
        assert_int_equal(record_decode(out, size + 5, &back, NULL), i <= RECORD_RTTS_MAX ? COROLLA_OK : COROLLA_FORMAT);
    }
    size = record_encode(&m, out);
    for (uint32_t i = 1; i <= RECORD_ADAPTERS_MAX + 1; i++, size += 4) {
        memcpy(out + size, "\xba\x01\x01x", 4);
        assert_int_equal(record_decode(out, size + 4, &back, NULL), i <= RECORD_ADAPTERS_MAX ? COROLLA_OK : COROLLA_FORMAT);
    }
    size = record_encode(&m, out);
    memcpy(out + size, "\xba\x01\x02\x1b[", 5); /* an adapter that steers the screen */
    assert_int_equal(record_decode(out, size + 5, &back, NULL), COROLLA_FORMAT);
}

static void fields_of_newer_nodes_are_skipped(void **state) {
    (void)state;
    uint8_t out[RECORD_MAX];
    struct record m = sample_record(SAMPLE_USUAL), back;
    size_t size = record_encode(&m, out);
    memcpy(out + size, "\xa2\x06\x03new", 6);
    assert_int_equal(record_decode(out, size + 6, &back, NULL), COROLLA_OK);
    same_record(&m, &back);
}

static void a_digest_of_a_node_depends_on_key_and_instance(void **state) {
    (void)state;
    struct node_id a = {{0}, 0}, b = {{0}, 1}, c = {{1}, 0}, d = {{0}, 3};
    for (size_t i = 0; i < KEY_SIZE; i++) {
        d.key[i] = (uint8_t)i;
    }
    assert_true(node_id_digest(&a) == 0xf656d39fd55fb66du); /* both computed by another program */
    assert_true(node_id_digest(&d) == 0x5e90ace2206e7e0au);
    assert_true(node_id_digest(&a) != node_id_digest(&b) && node_id_digest(&a) != node_id_digest(&c));
}

static void newer_is_boot_then_sequence(void **state) {
    (void)state;
    assert_true(record_newer(2, 0, 1, 9));
    assert_true(record_newer(1, 9, 1, 8));
    assert_false(record_newer(1, 9, 1, 9));
    assert_false(record_newer(1, 9, 2, 0));
}

static void same_versions(const struct msg_versions *a, const struct msg_versions *b) {
    assert_int_equal(a->n, b->n);
    for (uint32_t i = 0; i < a->n; i++) {
        assert_true(a->versions[i].node == b->versions[i].node && a->versions[i].boot == b->versions[i].boot &&
                    a->versions[i].sequence == b->versions[i].sequence);
    }
}

static void versions_go_there_and_back_up_to_their_maxima(void **state) {
    (void)state;
    static const uint32_t counts[] = {0, 1, 40, VERSIONS_MAX};
    for (size_t i = 0; i < 4; i++) {
        for (int how = SAMPLE_USUAL; how <= SAMPLE_LARGEST; how++) {
            sample_versions(&versions, counts[i], (enum sample_size)how);
            assert_int_equal(msg_have_decode(bytes, msg_have_encode(&versions, bytes), &versions_back, NULL), COROLLA_OK);
            same_versions(&versions, &versions_back);
            digest = (struct msg_digest){.more = how == 1, .leaf = i == 1, .reply = i == 2, .end = i == 3};
            digest.known = versions;
            assert_int_equal(msg_digest_decode(bytes, msg_digest_encode(&digest, bytes), &digest_back, NULL), COROLLA_OK);
            same_versions(&digest.known, &digest_back.known);
            assert_true(digest.more == digest_back.more && digest.leaf == digest_back.leaf && digest.reply == digest_back.reply &&
                        digest.end == digest_back.end);
            want.n = counts[i];
            for (uint32_t k = 0; k < want.n; k++) {
                want.nodes[k] = UINT64_MAX - k;
            }
            assert_int_equal(msg_want_decode(bytes, msg_want_encode(&want, bytes), &want_back, NULL), COROLLA_OK);
            assert_int_equal(want_back.n, want.n);
            assert_memory_equal(want.nodes, want_back.nodes, want.n * sizeof(want.nodes[0]));
        }
    }
    sample_versions(&versions, SUSPECTS_MAX, SAMPLE_LARGEST);
    assert_int_equal(msg_suspect_decode(bytes, msg_suspect_encode(&versions, bytes), &versions_back, NULL), COROLLA_OK);
    same_versions(&versions, &versions_back);
}

static void records_go_there_and_back_as_many_as_fit(void **state) {
    (void)state;
    for (int how = SAMPLE_USUAL; how <= SAMPLE_LARGEST; how++) {
        sample_records(&records, how ? MSG_HEADER_MAX / (RECORD_MAX + RECORDS_OVERHEAD) : RECORDS_MAX, (enum sample_size)how);
        size_t size = msg_records_encode(&records, bytes);
        assert_true(size <= MSG_HEADER_MAX);
        assert_int_equal(msg_records_decode(bytes, size, &records_back, NULL), COROLLA_OK);
        assert_int_equal(records_back.n, records.n);
        for (uint32_t i = 0; i < records.n; i++) {
            assert_int_equal(records.records[i].age_ms, records_back.records[i].age_ms);
            assert_int_equal(records.records[i].size, records_back.records[i].size);
            assert_memory_equal(records.records[i].bytes, records_back.records[i].bytes, records.records[i].size);
            assert_memory_equal(records.records[i].signature, records_back.records[i].signature, SIGNATURE_SIZE);
        }
    }
}

static void columns_of_unequal_length_or_too_many_are_refused(void **state) {
    (void)state;
    versions_back.n = 4242;
    static const uint8_t unequal[] = "\x0a\x08"
                                     "12345678"
                                     "\x12\x01\x01"; /* a node and its boot, no sequence */
    assert_int_equal(msg_have_decode(unequal, sizeof(unequal) - 1, &versions_back, NULL), COROLLA_FORMAT);
    assert_int_equal(msg_digest_decode(unequal, sizeof(unequal) - 1, &digest_back, NULL), COROLLA_FORMAT);
    assert_int_equal(msg_suspect_decode(unequal, sizeof(unequal) - 1, &versions_back, NULL), COROLLA_FORMAT);
    memcpy(bytes, unequal, 10);
    memcpy(bytes + 10, "\x1a\x01\x01", 3); /* a node and its sequence, no boot */
    assert_int_equal(msg_have_decode(bytes, 13, &versions_back, NULL), COROLLA_FORMAT);
    sample_versions(&versions, SUSPECTS_MAX + 1, SAMPLE_USUAL);
    assert_int_equal(msg_suspect_decode(bytes, msg_have_encode(&versions, bytes), &versions_back, NULL), COROLLA_FORMAT);
    memset(bytes, 1, sizeof(bytes));
    memcpy(bytes, "\x0a\x88\x40", 3); /* 1,025 nodes */
    assert_int_equal(msg_want_decode(bytes, 3 + 8 * 1025, &want_back, NULL), COROLLA_FORMAT);
    memcpy(bytes, "\x1a\xfc\xbf\x01", 4); /* 24,572 sequences: more than the arena takes */
    assert_int_equal(msg_have_decode(bytes, MSG_HEADER_MAX, &versions_back, NULL), COROLLA_FORMAT);
    assert_int_equal(versions_back.n, 4242);
}

static void records_of_wrong_size_are_refused(void **state) {
    (void)state;
    sample_records(&records, 1, SAMPLE_USUAL);
    records.records[0].size = 0;
    assert_int_equal(msg_records_decode(bytes, msg_records_encode(&records, bytes), &records_back, NULL), COROLLA_FORMAT);
    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, "\x0a\xc6\x08\x12\x81\x08", 6); /* a record of 1,025 bytes and a signature */
    memcpy(bytes + 6 + 1025, "\x1a\x40", 2);
    assert_int_equal(msg_records_decode(bytes, 6 + 1025 + 2 + 64, &records_back, NULL), COROLLA_FORMAT);
    for (size_t i = 0; i + 2 <= MSG_HEADER_MAX; i += 2) {
        memcpy(bytes + i, "\x0a\x00", 2);
    }
    assert_int_equal(msg_records_decode(bytes, MSG_HEADER_MAX, &records_back, NULL), COROLLA_FORMAT);
}

static void only_steps_results_and_unknown_kinds_have_bodies(void **state) {
    (void)state;
    for (unsigned kind = 1; kind < 64; kind++) {
        bool known = kind <= MSG_REPLAY || (kind >= MSG_DIGEST && kind <= MSG_SUSPECT) || kind == MSG_REVOKED;
        assert_int_equal(msg_kind_has_body(kind), kind == MSG_STEP || kind == MSG_RESULT || !known);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_goes_there_and_back),
        cmocka_unit_test(the_largest_record_loses_its_last_adapters_first),
        cmocka_unit_test(a_certificate_goes_there_and_back_and_costs_adapters_only),
        cmocka_unit_test(a_certificate_that_is_too_long_is_refused),
        cmocka_unit_test(a_record_with_one_thing_wrong_is_refused),
        cmocka_unit_test(too_many_round_trips_or_adapters_are_refused),
        cmocka_unit_test(fields_of_newer_nodes_are_skipped),
        cmocka_unit_test(a_digest_of_a_node_depends_on_key_and_instance),
        cmocka_unit_test(newer_is_boot_then_sequence),
        cmocka_unit_test(versions_go_there_and_back_up_to_their_maxima),
        cmocka_unit_test(records_go_there_and_back_as_many_as_fit),
        cmocka_unit_test(columns_of_unequal_length_or_too_many_are_refused),
        cmocka_unit_test(records_of_wrong_size_are_refused),
        cmocka_unit_test(only_steps_results_and_unknown_kinds_have_bodies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
