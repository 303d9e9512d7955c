/* test_gossip.c - the state machine of gossip alone, message by message: what it sends, whom it dials, what it takes and what it refuses.
 * How a swarm of them behaves is simulated in tests/sim. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/samples.h"
#include "swarm/gossip.h"

#define SENT_MAX 64

struct sent {
    void *link;
    enum msg_kind kind;
    size_t size;
    uint8_t bytes[MSG_HEADER_MAX];
};
static struct {
    struct sent sent[SENT_MAX];
    size_t n_sent;
    struct node_ref dialled[16];
    size_t n_dialled;
    void *left[16];
    size_t n_left;
    unsigned changes[4], verified, asked;
    uint8_t barred; /* the node that may not host; 0: none */
    uint64_t random;
} world;
static struct gossip *gossip;
static uint64_t now_ms;
static int links[8]; /* names */

static void on_send(void *user, void *link, enum msg_kind kind, const uint8_t *data, size_t size) {
    (void)user;
    assert_true(world.n_sent < SENT_MAX && size <= MSG_HEADER_MAX);
    struct sent *sent = &world.sent[world.n_sent++];
    sent->link = link;
    sent->kind = kind;
    sent->size = size;
    memcpy(sent->bytes, data, size);
}
static void on_dial(void *user, const struct node_ref *node) {
    (void)user;
    assert_true(world.n_dialled < 16);
    world.dialled[world.n_dialled++] = *node;
}
static void on_leave(void *user, void *link) {
    (void)user;
    assert_true(world.n_left < 16);
    world.left[world.n_left++] = link;
}
/* A signature begins and ends with the key's first byte. */
static bool on_verify(void *user, const uint8_t key[KEY_SIZE], const uint8_t *data, size_t size, const uint8_t signature[SIGNATURE_SIZE]) {
    (void)user, (void)data, (void)size;
    world.verified++;
    return signature[0] == key[0] && signature[SIGNATURE_SIZE - 1] == key[0];
}
static void on_sign(void *user, const uint8_t *data, size_t size, uint8_t signature[SIGNATURE_SIZE]) {
    (void)user, (void)data, (void)size;
    memset(signature, 1, SIGNATURE_SIZE);
    signature[1] = (uint8_t)world.random; /* our own differ from each other, and from those of a life before */
    world.random += 2;
}
static uint64_t on_random(void *user) {
    (void)user;
    return world.random += 0x9e3779b97f4a7c15u;
}
static void on_changed(void *user, const struct gossip_entry *entry, enum gossip_change what) {
    (void)user;
    assert_non_null(entry->record);
    world.changes[what]++;
}

static bool on_may_host(void *user, const struct record *record) {
    (void)user;
    world.asked++;
    return record->node.id.key[0] != world.barred;
}

static struct node_ref ref_of(uint8_t number) {
    struct node_ref ref = {.n_addrs = 1};
    memset(ref.id.key, number, KEY_SIZE);
    snprintf(ref.addrs[0], ADDR_MAX, "10.0.%u.1:31330", number);
    return ref;
}

static void begin_in(bool leaf, bool (*may_host)(void *user, const struct record *record)) {
    memset(&world, 0, sizeof(world));
    now_ms = 1000;
    struct gossip_config config = {.world = {on_send, on_dial, on_leave, on_verify, on_sign, on_random, on_changed, NULL, NULL},
                                   .self = ref_of(1).id,
                                   .boot = 3,
                                   .leaf = leaf};
    config.world.may_host = may_host;
    assert_int_equal(gossip_new(&gossip, &config, now_ms, NULL), COROLLA_OK);
}
static void begin(bool leaf) { begin_in(leaf, NULL); }
static int setup(void **state) {
    (void)state;
    begin(false);
    return 0;
}
static int setup_private(void **state) {
    (void)state;
    begin_in(false, on_may_host);
    return 0;
}
static int teardown(void **state) {
    (void)state;
    gossip_free(gossip);
    return 0;
}

static void pass(uint64_t ms) {
    for (uint64_t until = now_ms + ms; now_ms < until; now_ms += 10) {
        gossip_tick(gossip, now_ms);
    }
}

static struct record statement(uint8_t number, uint64_t boot, uint32_t sequence) {
    struct record record = sample_record(SAMPLE_USUAL);
    record.node = ref_of(number);
    record.boot = boot;
    record.sequence = sequence;
    return record;
}

static enum corolla_status get(unsigned link, uint8_t peer, enum msg_kind kind, const uint8_t *data, size_t size) {
    struct node_ref ref = ref_of(peer);
    return gossip_message(gossip, &links[link], &ref, kind, data, size, now_ms, NULL);
}

static enum corolla_status get_digest(unsigned link, uint8_t peer, bool leaf, bool reply, bool end) {
    uint8_t bytes[MSG_HEADER_MAX];
    static struct msg_digest digest;
    digest = (struct msg_digest){.leaf = leaf, .reply = reply, .end = end};
    return get(link, peer, MSG_DIGEST, bytes, msg_digest_encode(&digest, bytes));
}

static size_t versions_of(uint8_t number, uint64_t boot, uint32_t sequence, bool suspect, uint8_t *bytes) {
    static struct msg_versions versions;
    struct node_ref ref = ref_of(number);
    versions.n = 1;
    versions.versions[0] = (struct record_version){node_id_digest(&ref.id), boot, sequence};
    return suspect ? msg_suspect_encode(&versions, bytes) : msg_have_encode(&versions, bytes);
}
static enum corolla_status get_have(unsigned link, uint8_t peer, uint8_t number, uint64_t boot, uint32_t sequence) {
    uint8_t bytes[MSG_HEADER_MAX];
    return get(link, peer, MSG_HAVE, bytes, versions_of(number, boot, sequence, false, bytes));
}
static enum corolla_status get_suspect(unsigned link, uint8_t peer, uint8_t number, uint64_t boot, uint32_t sequence) {
    uint8_t bytes[MSG_HEADER_MAX];
    return get(link, peer, MSG_SUSPECT, bytes, versions_of(number, boot, sequence, true, bytes));
}

static enum corolla_status get_record(unsigned link, uint8_t peer, const struct record *record, uint32_t age_ms) {
    uint8_t bytes[MSG_HEADER_MAX];
    static struct msg_records records;
    records.n = 1;
    records.records[0].age_ms = age_ms;
    records.records[0].size = (uint32_t)record_encode(record, records.records[0].bytes);
    memset(records.records[0].signature, record->node.id.key[0], SIGNATURE_SIZE);
    return get(link, peer, MSG_RECORDS, bytes, msg_records_encode(&records, bytes));
}
static enum corolla_status get_statement(unsigned link, uint8_t peer, uint8_t number, uint64_t boot, uint32_t sequence) {
    struct record record = statement(number, boot, sequence);
    return get_record(link, peer, &record, 0);
}

/* The peer opens gossip on a link; what is answered is thrown away. */
static void neighbour(unsigned link, uint8_t peer) {
    assert_int_equal(get_digest(link, peer, false, false, false), COROLLA_OK);
    world.n_sent = 0;
}

static const struct sent *sent(enum msg_kind kind, unsigned link) {
    for (size_t i = 0; i < world.n_sent; i++) {
        if (world.sent[i].kind == kind && world.sent[i].link == &links[link]) {
            return &world.sent[i];
        }
    }
    return NULL;
}

static bool knows(uint8_t number) {
    struct node_ref ref = ref_of(number);
    return gossip_find(gossip, &ref.id) != NULL;
}

static void publish(void) {
    struct record record = statement(1, 0, 0);
    gossip_publish(gossip, &record, now_ms);
}

/* ---- tests ---------------------------------------------------------------------------------------------------------- */

static void a_hint_is_dialled_and_gossip_begins_with_a_digest_and_our_record(void **state) {
    (void)state;
    struct node_ref entry = ref_of(2);
    publish();
    gossip_hint(gossip, &entry, now_ms);
    pass(10);
    assert_int_equal(world.n_dialled, 1);
    assert_true(node_id_equal(&world.dialled[0].id, &entry.id));
    gossip_dialled(gossip, &entry.id, &links[0], now_ms);
    assert_non_null(sent(MSG_DIGEST, 0));
    assert_non_null(sent(MSG_RECORDS, 0));
    assert_int_equal(gossip_neighbours(gossip), 1);
}

static void a_digest_is_answered_with_one(void **state) {
    (void)state;
    static struct msg_digest digest;
    assert_int_equal(get_digest(0, 2, false, false, false), COROLLA_OK);
    const struct sent *answer = sent(MSG_DIGEST, 0);
    assert_non_null(answer);
    assert_int_equal(msg_digest_decode(answer->bytes, answer->size, &digest, NULL), COROLLA_OK);
    assert_true(digest.reply && !digest.end && !digest.more);
    world.n_sent = 0;
    assert_int_equal(get_digest(0, 2, false, false, false), COROLLA_OK);
    assert_null(sent(MSG_DIGEST, 0)); /* one in a second */
    pass(1500);
    assert_non_null(sent(MSG_DIGEST, 0));
}

static void news_are_wanted_taken_and_announced_to_others_only(void **state) {
    (void)state;
    neighbour(0, 2);
    neighbour(1, 3);
    assert_int_equal(get_have(0, 2, 9, 1, 5), COROLLA_OK);
    assert_non_null(sent(MSG_WANT, 0));
    assert_int_equal(get_statement(0, 2, 9, 1, 5), COROLLA_OK);
    assert_true(knows(9));
    assert_int_equal(world.changes[GOSSIP_NEW], 1);
    world.n_sent = 0;
    pass(500);
    assert_non_null(sent(MSG_HAVE, 1));
    assert_null(sent(MSG_HAVE, 0));
    assert_int_equal(get_have(1, 3, 9, 1, 5), COROLLA_OK);
    assert_null(sent(MSG_WANT, 1));
}

static void who_does_not_answer_is_not_waited_for(void **state) {
    (void)state;
    neighbour(0, 2);
    neighbour(1, 3);
    get_have(0, 2, 9, 1, 5);
    get_have(1, 3, 9, 1, 5);
    assert_non_null(sent(MSG_WANT, 0));
    assert_null(sent(MSG_WANT, 1));
    pass(1000);
    assert_non_null(sent(MSG_WANT, 1));
    world.n_sent = 0;
    get_have(0, 2, 8, 1, 5); /* it did not keep its promise: others may come first */
    assert_null(sent(MSG_WANT, 0));
    get_have(1, 3, 8, 1, 5);
    assert_non_null(sent(MSG_WANT, 1));
}

static void the_wanted_is_asked_of_another_when_a_link_ends(void **state) {
    (void)state;
    neighbour(0, 2);
    neighbour(1, 3);
    get_have(0, 2, 9, 1, 5);
    get_have(1, 3, 9, 1, 5);
    gossip_link_down(gossip, &links[0], false, now_ms);
    assert_non_null(sent(MSG_WANT, 1));
}

static void an_older_version_changes_nothing(void **state) {
    (void)state;
    neighbour(0, 2);
    get_statement(0, 2, 9, 4, 5);
    get_statement(0, 2, 9, 4, 4);
    get_statement(0, 2, 9, 3, 99);
    struct node_ref ref = ref_of(9);
    assert_int_equal(gossip_find(gossip, &ref.id)->record->sequence, 5);
    assert_int_equal(world.verified, 1); /* and no signature is checked for it */
    get_statement(0, 2, 9, 5, 0);
    assert_true(gossip_find(gossip, &ref.id)->record->boot == 5);
    assert_int_equal(world.changes[GOSSIP_UPDATED], 1);
}

static void a_record_lives_its_ttl_less_its_age(void **state) {
    (void)state;
    struct record record = statement(9, 1, 1);
    neighbour(0, 2);
    get_record(0, 2, &record, 100000);
    assert_true(knows(9));
    pass(19000);
    assert_true(knows(9));
    pass(2000);
    assert_false(knows(9));
    assert_int_equal(world.changes[GOSSIP_GONE], 1);
    pass(60000);
    get_record(0, 2, &record, 0); /* the same version again, younger than it is */
    assert_false(knows(9));
    record.sequence++;
    get_record(0, 2, &record, RECORD_TTL_MS);
    assert_false(knows(9));
    get_record(0, 2, &record, RECORD_TTL_MS - 1);
    assert_true(knows(9));
}

static void a_newcomer_is_admitted_after_the_dial_back(void **state) {
    (void)state;
    struct node_ref ref = ref_of(2);
    neighbour(0, 2);
    neighbour(1, 3);
    get_statement(0, 2, 2, 1, 1);
    assert_false(knows(2));
    assert_int_equal(world.n_dialled, 1);
    pass(500);
    assert_null(sent(MSG_HAVE, 1));
    gossip_dialled(gossip, &ref.id, &links[7], now_ms);
    assert_true(knows(2));
    assert_ptr_equal(world.left[0], &links[7]); /* it was for the proof */
    pass(500);
    assert_non_null(sent(MSG_HAVE, 1));
}

static void who_is_not_reached_is_not_admitted(void **state) {
    (void)state;
    struct node_ref ref = ref_of(2);
    struct record hidden = statement(3, 1, 1);
    neighbour(0, 2);
    neighbour(1, 3);
    get_statement(0, 2, 2, 1, 1);
    gossip_dialled(gossip, &ref.id, NULL, now_ms);
    assert_false(knows(2));
    hidden.node.n_addrs = 0;
    get_record(1, 3, &hidden, 0);
    assert_false(knows(3));
    assert_int_equal(world.n_dialled, 1);
}

static void a_new_address_needs_a_new_proof(void **state) {
    (void)state;
    struct node_ref ref = ref_of(2);
    struct record moved = statement(2, 1, 3);
    neighbour(0, 2);
    get_statement(0, 2, 2, 1, 1);
    gossip_dialled(gossip, &ref.id, &links[7], now_ms);
    get_statement(0, 2, 2, 1, 2); /* the same address */
    assert_int_equal(gossip_find(gossip, &ref.id)->record->sequence, 2);
    snprintf(moved.node.addrs[0], ADDR_MAX, "192.0.2.7:80");
    get_record(0, 2, &moved, 0);
    assert_int_equal(gossip_find(gossip, &ref.id)->record->sequence, 2);
    assert_string_equal(world.dialled[world.n_dialled - 1].addrs[0], "192.0.2.7:80");
}

static void only_a_wrong_signature_or_message_is_a_fault(void **state) {
    (void)state;
    uint8_t bytes[MSG_HEADER_MAX];
    static struct msg_records records;
    struct record record = statement(9, 1, 1);
    neighbour(0, 2);
    records.n = 1;
    records.records[0].age_ms = 0;
    records.records[0].size = (uint32_t)record_encode(&record, records.records[0].bytes);
    memset(records.records[0].signature, 77, SIGNATURE_SIZE);
    size_t size = msg_records_encode(&records, bytes);
    assert_int_equal(get(0, 2, MSG_RECORDS, bytes, size), COROLLA_PEER_FAULT);
    assert_false(knows(9));
    for (int kind = MSG_DIGEST; kind <= MSG_SUSPECT; kind++) {
        assert_int_equal(get(0, 2, (enum msg_kind)kind, (const uint8_t *)"\x0a\xff", 2), COROLLA_PEER_FAULT);
    }
    records.records[0].size = 3; /* nothing that this version can read */
    assert_int_equal(get(0, 2, MSG_RECORDS, bytes, msg_records_encode(&records, bytes)), COROLLA_OK);
}

static void a_suspicion_is_passed_on_and_comes_true_unless_refuted(void **state) {
    (void)state;
    neighbour(0, 2);
    neighbour(1, 3);
    get_statement(0, 2, 9, 1, 1);
    get_statement(0, 2, 8, 1, 1);
    get_suspect(0, 2, 9, 1, 1);
    get_suspect(0, 2, 8, 1, 1);
    assert_int_equal(world.changes[GOSSIP_SUSPECTED], 2);
    world.n_sent = 0;
    pass(500);
    assert_non_null(sent(MSG_SUSPECT, 1));
    get_statement(1, 3, 8, 1, 2);
    pass(6000);
    assert_false(knows(9));
    struct node_ref ref = ref_of(8);
    assert_false(gossip_find(gossip, &ref.id)->suspected);
    get_suspect(0, 2, 8, 1, 1); /* of a version that is not the newest */
    assert_int_equal(world.changes[GOSSIP_SUSPECTED], 2);
}

static void who_asks_for_a_record_is_told_that_its_node_is_suspected(void **state) {
    (void)state;
    uint8_t bytes[MSG_HEADER_MAX];
    neighbour(0, 2);
    get_statement(0, 2, 9, 1, 1);
    get_statement(0, 2, 8, 1, 1);
    get_suspect(0, 2, 9, 1, 1);
    pass(500);
    assert_int_equal(get_digest(1, 3, true, false, false), COROLLA_OK); /* a client that comes when all others were told */
    assert_null(sent(MSG_SUSPECT, 1));
    struct node_ref suspect = ref_of(9), other = ref_of(8);
    struct msg_want want = {.n = 2, .nodes = {node_id_digest(&suspect.id), node_id_digest(&other.id)}};
    assert_int_equal(get(1, 3, MSG_WANT, bytes, msg_want_encode(&want, bytes)), COROLLA_OK);
    const struct sent *records = sent(MSG_RECORDS, 1), *told = sent(MSG_SUSPECT, 1);
    assert_true(records != NULL && told > records); /* it knows whom by then */
    struct msg_versions versions;
    assert_int_equal(msg_suspect_decode(told->bytes, told->size, &versions, NULL), COROLLA_OK);
    assert_int_equal(versions.n, 1);
    assert_true(versions.versions[0].node == node_id_digest(&suspect.id));
}

static void a_node_that_is_suspected_says_that_it_lives(void **state) {
    (void)state;
    static struct msg_records records;
    struct record own;
    publish();
    neighbour(0, 2);
    pass(2000);
    world.n_sent = 0;
    get_suspect(0, 2, 1, 3, UINT32_MAX);
    pass(20);
    const struct sent *answer = sent(MSG_RECORDS, 0);
    assert_non_null(answer);
    assert_int_equal(msg_records_decode(answer->bytes, answer->size, &records, NULL), COROLLA_OK);
    assert_int_equal(record_decode(records.records[0].bytes, records.records[0].size, &own, NULL), COROLLA_OK);
    struct node_ref self = ref_of(1);
    assert_true(node_id_equal(&own.node.id, &self.id));
}

static void a_neighbour_of_the_suspect_asks_it_and_does_not_believe(void **state) {
    (void)state;
    struct node_ref ref = ref_of(3);
    neighbour(0, 2);
    neighbour(1, 3);
    get_statement(1, 3, 3, 1, 1);
    gossip_dialled(gossip, &ref.id, &links[7], now_ms);
    get_suspect(0, 2, 3, 1, 1);
    assert_non_null(sent(MSG_SUSPECT, 1));
    assert_int_equal(world.changes[GOSSIP_SUSPECTED], 0);
}

static void one_lost_link_is_suspicious_and_most_at_once_are_not(void **state) {
    (void)state;
    for (uint8_t i = 0; i < 6; i++) {
        neighbour(i, (uint8_t)(10 + i));
    }
    for (uint8_t i = 0; i < 6; i++) {
        unsigned next = (i + 1u) % 6;
        get_statement(next, (uint8_t)(10 + next), (uint8_t)(10 + i), 1, 1);
    }
    gossip_link_down(gossip, &links[0], true, now_ms);
    gossip_link_down(gossip, &links[1], false, now_ms); /* a goodbye */
    pass(2000);
    assert_int_equal(world.changes[GOSSIP_SUSPECTED], 1);
    pass(10000);
    for (unsigned i = 2; i < 6; i++) {
        gossip_link_down(gossip, &links[i], true, now_ms);
    }
    pass(3000);
    assert_int_equal(world.changes[GOSSIP_SUSPECTED], 1);
}

static void who_slept_blames_nobody_and_says_that_it_is_back(void **state) {
    (void)state;
    publish();
    neighbour(0, 2);
    neighbour(1, 3);
    get_statement(0, 2, 3, 1, 1);
    pass(2000);
    world.n_sent = 0;
    now_ms += 3600000;
    gossip_link_down(gossip, &links[1], true, now_ms);
    pass(3000);
    assert_true(knows(3));
    assert_int_equal(world.changes[GOSSIP_SUSPECTED], 0);
    assert_non_null(sent(MSG_RECORDS, 0));
}

static void a_life_that_was_forgotten_is_outbid(void **state) {
    (void)state;
    static struct msg_records records;
    struct record own;
    publish();
    neighbour(0, 2);
    pass(2000);
    get_have(0, 2, 1, 40, 7);
    assert_non_null(sent(MSG_WANT, 0));
    world.n_sent = 0;
    get_statement(0, 2, 1, 40, 7);
    pass(20);
    const struct sent *raised = sent(MSG_RECORDS, 0);
    assert_non_null(raised);
    assert_int_equal(msg_records_decode(raised->bytes, raised->size, &records, NULL), COROLLA_OK);
    assert_int_equal(record_decode(records.records[0].bytes, records.records[0].size, &own, NULL), COROLLA_OK);
    assert_true(own.boot == 40 && own.sequence == 8);
    get_have(0, 2, 1, UINT64_MAX, UINT32_MAX); /* a claim alone raises nothing */
    assert_int_equal(gossip_count(gossip), 0);
}

static void who_forgot_its_last_life_is_told_of_it(void **state) {
    (void)state;
    neighbour(0, 2);
    neighbour(1, 9);
    get_statement(0, 2, 9, 4, 5);
    world.n_sent = 0;
    get_statement(1, 9, 9, 1, 1);
    assert_non_null(sent(MSG_RECORDS, 1));
}

static void who_offers_what_is_gone_is_told_so(void **state) {
    (void)state;
    uint8_t bytes[MSG_HEADER_MAX];
    static struct msg_digest digest;
    struct node_ref ref = ref_of(9);
    neighbour(0, 2);
    get_statement(0, 2, 9, 1, 1);
    get_suspect(0, 2, 9, 1, 1);
    pass(6000);
    world.n_sent = 0;
    digest.known.n = 1;
    digest.known.versions[0] = (struct record_version){node_id_digest(&ref.id), 1, 1};
    get(1, 3, MSG_DIGEST, bytes, msg_digest_encode(&digest, bytes));
    assert_non_null(sent(MSG_SUSPECT, 1));
    assert_null(sent(MSG_WANT, 1));
}

static void a_leaf_takes_all_and_tells_nothing(void **state) {
    (void)state;
    struct node_ref ref = ref_of(2);
    gossip_free(gossip);
    begin(true);
    gossip_hint(gossip, &ref, now_ms);
    pass(10);
    gossip_dialled(gossip, &ref.id, &links[0], now_ms);
    get_statement(0, 2, 9, 1, 1);
    get_statement(0, 2, 2, 1, 1);
    assert_true(knows(9) && knows(2));
    world.n_sent = 0;
    pass(500);
    assert_null(sent(MSG_HAVE, 0));
    gossip_link_down(gossip, &links[0], true, now_ms);
    pass(3000);
    assert_int_equal(world.changes[GOSSIP_SUSPECTED], 0);
    assert_int_equal(get_digest(1, 5, true, false, false), COROLLA_OK); /* another leaf */
    assert_int_equal(gossip_neighbours(gossip), 0);
    assert_int_equal(world.n_left, 1);
}

static void what_a_leaf_says_is_not_heard(void **state) {
    (void)state;
    get_digest(0, 2, true, false, false);
    get_statement(0, 2, 9, 1, 1);
    assert_false(knows(9));
    neighbour(1, 3);
    get_statement(1, 3, 9, 1, 1);
    world.n_sent = 0;
    pass(500);
    assert_non_null(sent(MSG_HAVE, 0)); /* but it is told */
    get_suspect(0, 2, 9, 1, 1);
    assert_int_equal(world.changes[GOSSIP_SUSPECTED], 0);
}

static void gossip_that_a_peer_ends_is_over(void **state) {
    (void)state;
    neighbour(0, 2);
    get_digest(0, 2, false, false, true);
    assert_int_equal(gossip_neighbours(gossip), 0);
    assert_ptr_equal(world.left[0], &links[0]);
    get_have(0, 2, 9, 1, 1);
    assert_null(sent(MSG_WANT, 0));
    assert_non_null(sent(MSG_DIGEST, 0)); /* it is told so */
}

static void two_links_to_one_node_become_one(void **state) {
    (void)state;
    neighbour(0, 2);
    neighbour(1, 2); /* it dialled again: the newer one counts */
    assert_int_equal(gossip_neighbours(gossip), 1);
    assert_ptr_equal(world.left[0], &links[0]);
}

static void a_goodbye_is_told_and_then_forgotten(void **state) {
    (void)state;
    struct record record = statement(9, 1, 2);
    neighbour(0, 2);
    neighbour(1, 3);
    get_statement(0, 2, 9, 1, 1);
    record.state = RECORD_OFFLINE;
    get_record(0, 2, &record, 0);
    pass(500);
    assert_non_null(sent(MSG_HAVE, 1));
    pass(11000);
    assert_false(knows(9));
}

static void one_key_and_one_range_have_quotas(void **state) {
    (void)state;
    struct record record = statement(9, 1, 1);
    neighbour(0, 2);
    for (uint32_t i = 0; i < 100; i++) {
        record.node.id.instance = i;
        snprintf(record.node.addrs[0], ADDR_MAX, "10.%u.0.1:31330", (unsigned)i);
        get_record(0, 2, &record, 0);
    }
    assert_int_equal(gossip_count(gossip), 64);
    for (uint32_t i = 0; i < 400; i++) {
        record.node.id.instance = 0;
        record.node.id.key[1] = (uint8_t)i;
        record.node.id.key[2] = (uint8_t)(i >> 8 | 0x40);
        snprintf(record.node.addrs[0], ADDR_MAX, "192.0.2.%u:31330", (unsigned)i % 250 + 1);
        get_record(0, 2, &record, 0);
    }
    assert_int_equal(gossip_count(gossip), 64 + 256);
    for (uint32_t i = 0; i < 400; i++) {
        record.node.id.key[3] = 1;
        record.node.id.key[1] = (uint8_t)i;
        record.node.id.key[2] = (uint8_t)(i >> 8 | 0x40);
        snprintf(record.node.addrs[0], ADDR_MAX, "127.0.0.1:%u", 1000 + (unsigned)i);
        get_record(0, 2, &record, 0);
    }
    assert_int_equal(gossip_count(gossip), 64 + 256 + 400); /* loopback is exempt */
}

static void one_link_has_a_budget_of_checks(void **state) {
    (void)state;
    struct record record = statement(9, 1, 1);
    neighbour(0, 2);
    for (uint32_t i = 0; i < 4000; i++) {
        record.sequence++;
        get_record(0, 2, &record, 0);
    }
    assert_int_equal(world.verified, 2048);
    pass(1000);
    for (uint32_t i = 0; i < 400; i++) {
        record.sequence++;
        get_record(0, 2, &record, 0);
    }
    assert_in_range(world.verified, 2048 + 60, 2048 + 66);
}

/* ---- a private swarm -------------------------------------------------------------------------------------------------- */

static void who_may_not_host_is_dropped_and_nobody_blamed(void **state) {
    (void)state;
    neighbour(0, 2);
    neighbour(1, 3);
    world.barred = 9;
    assert_int_equal(get_statement(0, 2, 9, 1, 1), COROLLA_OK);
    assert_int_equal(get_statement(0, 2, 8, 1, 1), COROLLA_OK);
    assert_false(knows(9));
    assert_true(knows(8));
    assert_int_equal(world.changes[GOSSIP_NEW], 1);
    assert_int_equal(gossip_neighbours(gossip), 2);
    world.barred = 2;
    assert_int_equal(get_statement(0, 2, 2, 1, 1), COROLLA_OK);
    assert_int_equal(world.n_dialled, 0); /* not worth a proof */
}

static void the_signature_is_checked_before_the_certificate(void **state) {
    (void)state;
    uint8_t bytes[MSG_HEADER_MAX];
    static struct msg_records records;
    struct record record = statement(9, 1, 1);
    neighbour(0, 2);
    records.n = 1;
    records.records[0].size = (uint32_t)record_encode(&record, records.records[0].bytes);
    memset(records.records[0].signature, 77, SIGNATURE_SIZE);
    assert_int_equal(get(0, 2, MSG_RECORDS, bytes, msg_records_encode(&records, bytes)), COROLLA_PEER_FAULT);
    assert_int_equal(world.asked, 0);
}

static void who_may_not_host_any_more_is_gone_until_it_may_again(void **state) {
    (void)state;
    neighbour(0, 2);
    neighbour(1, 3);
    get_statement(0, 2, 9, 1, 1);
    get_statement(0, 2, 8, 1, 1);
    world.barred = 9;
    gossip_recheck(gossip, now_ms);
    assert_false(knows(9));
    assert_true(knows(8));
    assert_int_equal(world.changes[GOSSIP_GONE], 1);
    gossip_recheck(gossip, now_ms);
    assert_int_equal(world.changes[GOSSIP_GONE], 1);
    world.n_sent = 0;
    get_have(1, 3, 9, 1, 1); /* of a neighbour that was not told yet */
    assert_null(sent(MSG_WANT, 1));
    get_statement(1, 3, 9, 1, 2);
    assert_false(knows(9));
    world.barred = 0;
    get_statement(1, 3, 9, 2, 1);
    assert_true(knows(9));
}

static void who_is_barred_during_the_dial_back_is_not_admitted(void **state) {
    (void)state;
    struct node_ref ref = ref_of(2);
    neighbour(0, 2);
    get_statement(0, 2, 2, 1, 1);
    assert_int_equal(world.n_dialled, 1);
    world.barred = 2;
    gossip_dialled(gossip, &ref.id, &links[7], now_ms);
    assert_false(knows(2));
}

static void certificates_are_checked_within_the_budget_of_a_link(void **state) {
    (void)state;
    neighbour(0, 2);
    for (uint32_t i = 0; i < 4000; i++) {
        get_statement(0, 2, 2, 1, 1); /* it waits for the dial-back */
    }
    assert_int_equal(world.asked, 2048);
    assert_int_equal(world.verified, 1);
}

static void an_idle_node_wants_to_be_called_once_a_second_at_most(void **state) {
    (void)state;
    pass(100);
    unsigned ticks = 0;
    for (uint64_t until = now_ms + 60000; now_ms < until; ticks++) {
        now_ms = gossip_tick(gossip, now_ms);
        assert_true(gossip_due(gossip) > now_ms - 1);
    }
    assert_in_range(ticks, 30, 260); /* it looks for neighbours */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_PRIVATE(name) cmocka_unit_test_setup_teardown(name, setup_private, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_hint_is_dialled_and_gossip_begins_with_a_digest_and_our_record),
        TEST(a_digest_is_answered_with_one),
        TEST(news_are_wanted_taken_and_announced_to_others_only),
        TEST(who_does_not_answer_is_not_waited_for),
        TEST(the_wanted_is_asked_of_another_when_a_link_ends),
        TEST(an_older_version_changes_nothing),
        TEST(a_record_lives_its_ttl_less_its_age),
        TEST(a_newcomer_is_admitted_after_the_dial_back),
        TEST(who_is_not_reached_is_not_admitted),
        TEST(a_new_address_needs_a_new_proof),
        TEST(only_a_wrong_signature_or_message_is_a_fault),
        TEST(a_suspicion_is_passed_on_and_comes_true_unless_refuted),
        TEST(who_asks_for_a_record_is_told_that_its_node_is_suspected),
        TEST(a_node_that_is_suspected_says_that_it_lives),
        TEST(a_neighbour_of_the_suspect_asks_it_and_does_not_believe),
        TEST(one_lost_link_is_suspicious_and_most_at_once_are_not),
        TEST(who_slept_blames_nobody_and_says_that_it_is_back),
        TEST(a_life_that_was_forgotten_is_outbid),
        TEST(who_forgot_its_last_life_is_told_of_it),
        TEST(who_offers_what_is_gone_is_told_so),
        TEST(a_leaf_takes_all_and_tells_nothing),
        TEST(what_a_leaf_says_is_not_heard),
        TEST(gossip_that_a_peer_ends_is_over),
        TEST(two_links_to_one_node_become_one),
        TEST(a_goodbye_is_told_and_then_forgotten),
        TEST(one_key_and_one_range_have_quotas),
        TEST(one_link_has_a_budget_of_checks),
        TEST_PRIVATE(who_may_not_host_is_dropped_and_nobody_blamed),
        TEST_PRIVATE(the_signature_is_checked_before_the_certificate),
        TEST_PRIVATE(who_may_not_host_any_more_is_gone_until_it_may_again),
        TEST_PRIVATE(who_is_barred_during_the_dial_back_is_not_admitted),
        TEST_PRIVATE(certificates_are_checked_within_the_budget_of_a_link),
        TEST(an_idle_node_wants_to_be_called_once_a_second_at_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
