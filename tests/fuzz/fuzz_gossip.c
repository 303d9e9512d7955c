/* fuzz_gossip.c - a state machine of gossip, and peers who send it anything at any time.
 *
 * The input is a list of actions: a byte that says what happens (low half) and on which of eight links (high half), then for a message its
 * size in two bytes and its bytes, for the passing of time a byte of 50 ms. Signatures are always good, so that records reach the table.
 * Bounds are checked after each action.
 */
#include <stdlib.h>
#include <string.h>

#include "swarm/gossip_state.h"
#include "wire/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LINKS 8

struct run {
    struct node_id dials[DIALS_MAX];
    uint32_t n_dials;
    uint64_t random, now_ms;
};
static int links[2 * LINKS];

static void must(bool ok) {
    if (!ok) abort();
}

static void on_send(void *user, void *link, enum msg_kind kind, const uint8_t *data, size_t size) {
    (void)user;
    (void)data;
    must(link != NULL && kind >= MSG_DIGEST && kind <= MSG_SUSPECT && size <= MSG_HEADER_MAX);
}
static void on_dial(void *user, const struct node_ref *node) {
    struct run *run = user;
    must(node->n_addrs > 0 && run->n_dials < DIALS_MAX);
    run->dials[run->n_dials++] = node->id;
}
static void on_leave(void *user, void *link) {
    (void)user;
    must(link != NULL);
}
static bool on_verify(void *user, const uint8_t key[KEY_SIZE], const uint8_t *data, size_t size, const uint8_t signature[SIGNATURE_SIZE]) {
    (void)user;
    (void)key;
    must(size > 0 && size <= RECORD_MAX && data != NULL);
    return signature[0] != 0xbd;
}
static void on_sign(void *user, const uint8_t *data, size_t size, uint8_t signature[SIGNATURE_SIZE]) {
    (void)user;
    (void)data;
    memset(signature, (int)size, SIGNATURE_SIZE);
}
/* Some records may not be kept; which ones changes from action to action. */
static bool on_may_host(void *user, const struct record *record) { return ((struct run *)user)->now_ms % 3 != record->sequence % 3; }
static uint64_t on_random(void *user) { return ((struct run *)user)->random += 0x9e3779b97f4a7c15u; }

/* The peer on a link has the key that the samples of the corpus name, with the link's number as its instance. */
static struct node_ref peer_of(unsigned link) {
    struct node_ref ref = {.id.instance = link, .n_addrs = 1, .addrs = {"192.168.1.20:31330"}};
    for (size_t i = 0; i < KEY_SIZE; i++) ref.id.key[i] = (uint8_t)(4 * 31 + i * 7 + 1);
    return ref;
}

static void check(const struct gossip *g) {
    uint32_t gone = 0;
    for (uint32_t i = 0; i < g->table.n; i++) {
        gone += g->table.rows[i].gone;
        must(table_find(&g->table, g->table.rows[i].entry.digest) == &g->table.rows[i]);
    }
    must(g->table.n <= TABLE_MAX && gone == g->table.n_gone && g->wants.n <= WANTS_MAX && g->n_dials <= DIALS_MAX);
    uint32_t wants = 0, full = 0;
    for (uint32_t i = 0; i < g->n_slots; i++) {
        wants += g->slots[i] != NULL ? g->slots[i]->wants : 0;
        full += g->slots[i] != NULL && !g->slots[i]->leaf;
    }
    must(wants == g->wants.n && full == g->n_full && gossip_due(g) <= g->now_ms + IDLE_MS);
}

static size_t act(struct run *run, struct gossip *g, const uint8_t *data, size_t size) {
    unsigned what = data[0] & 15, link = data[0] >> 4 & (LINKS - 1);
    struct node_ref peer = peer_of(link);
    size_t used = 1;
    if (what < 5 && size >= 3) {
        size_t length = data[1] | (size_t)data[2] << 8;
        length = length > size - 3 ? size - 3 : length;
        if (gossip_message(g, &links[link], &peer, (enum msg_kind)(MSG_DIGEST + what), data + 3, length, run->now_ms, NULL) != COROLLA_OK) {
            gossip_link_down(g, &links[link], false, run->now_ms);
        }
        used = 3 + length;
    } else if (what < 8 && size >= 2) {
        run->now_ms += data[1] * 50u;
        used = 2;
    } else if (what == 8 || what == 9) {
        gossip_link_down(g, &links[link], what == 8, run->now_ms);
    } else if (what == 10) {
        gossip_hint(g, &peer, run->now_ms);
    } else if (what == 14) {
        gossip_recheck(g, run->now_ms);
    } else if (what < 13 && run->n_dials > 0) {
        struct node_id id = run->dials[--run->n_dials];
        gossip_dialled(g, &id, what == 11 ? &links[LINKS + link] : NULL, run->now_ms);
    } else if (what == 13) {
        struct record record = {.node = peer, .n_blocks = 2, .n_embd = 8, .end = 1, .wires = 1, .queue_us = link};
        record.state = link == 7 ? RECORD_OFFLINE : RECORD_ONLINE;
        gossip_publish(g, &record, run->now_ms);
    }
    if (run->now_ms >= gossip_due(g)) gossip_tick(g, run->now_ms);
    return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct run run = {.now_ms = 5};
    struct gossip *g = NULL;
    struct gossip_config config = {.world = {on_send, on_dial, on_leave, on_verify, on_sign, on_random, NULL, on_may_host, &run},
                                   .boot = 1};
    if (size < 1) return 0;
    config.leaf = data[0] & 1;
    config.self = peer_of(data[0] >> 1 & 15).id;
    must(gossip_new(&g, &config, run.now_ms, NULL) == COROLLA_OK);
    for (size_t at = 1; at < size;) {
        at += act(&run, g, data + at, size - at);
        check(g);
    }
    gossip_free(g);
    return 0;
}
