/* peer_table.c - the servers that a client knows, and what it holds against them. The lock of peers.h is held. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/peers.h"

#define STRIKE_MS 1000         /* a first failure; each more doubles it ... */
#define STRIKES_MAX 9          /* ... up to about nine minutes */
#define SEEN_WEIGHT 0.1f       /* of a new token in the running mean */
#define SEEN_LIFE_US 600000000 /* what was seen longer ago says little of today */
#define REFUSAL_MS 2000        /* a server that is full or leaves */

static void peer_set_label(struct peer *peer) {
    char id[17], instance[16] = "";
    hex_encode(peer->ref.id.key, 8, id);
    if (peer->ref.id.instance != 0) snprintf(instance, sizeof instance, "/%u", peer->ref.id.instance);
    snprintf(peer->label, sizeof peer->label, "server %s%s", id, instance);
}

struct peer *peers_find(const struct peers *peers, const struct node_id *id) {
    for (size_t i = 0; i < peers->n; i++)
        if (node_id_equal(&peers->list[i]->ref.id, id)) return peers->list[i];
    return NULL;
}

/* A place in the list; one that nothing is known of and nobody uses is taken again. NULL: no memory, or too many. */
static struct peer **make_place(struct peers *peers) {
    for (size_t i = 0; i < peers->n && peers->n >= PEERS_MAX; i++) {
        struct peer *peer = peers->list[i];
        if (!peer->named && !peer->has_record && !peer->up && !peer->asking && peer->uses == 0) return &peers->list[i];
    }
    if (peers->n >= PEERS_MAX) return NULL;
    if (peers->n == peers->capacity) {
        size_t capacity = peers->capacity == 0 ? 64 : peers->capacity * 2;
        struct peer **list = realloc(peers->list, capacity * sizeof(struct peer *));
        if (list == NULL) return NULL;
        peers->list = list;
        peers->capacity = capacity;
    }
    struct peer **place = &peers->list[peers->n];
    *place = malloc(sizeof **place);
    if (*place == NULL) return NULL;
    peers->n++;
    return place;
}

struct peer *peers_get(struct peers *peers, const struct node_ref *ref) {
    struct peer *peer = peers_find(peers, &ref->id);
    if (peer != NULL) return peer;
    struct peer **place = make_place(peers);
    if (place == NULL) return NULL;
    **place = (struct peer){.peers = peers, .ref = *ref, .digest = node_id_digest(&ref->id)};
    peer_set_label(*place);
    return *place;
}

void peer_note(struct peer *peer, enum corolla_status status) {
    uint64_t ban_ms = 0, now_us = clock_us();
    bool again = status != COROLLA_OK && status != COROLLA_NO_SESSION &&
                 peer->banned_until_us > now_us; /* of the same trouble: that is one strike */
    peer->banned_us = now_us;
    if (again) return;
    switch (status) {
    case COROLLA_OK:
    case COROLLA_NO_SESSION: peer->strikes = 0; break; /* it was restarted, and is there again */
    case COROLLA_BUSY:
    case COROLLA_NO_CACHE:
    case COROLLA_NOT_SERVED:
    case COROLLA_DRAINING: ban_ms = REFUSAL_MS; break;
    default:
        ban_ms = (uint64_t)STRIKE_MS << peer->strikes;
        if (peer->strikes < STRIKES_MAX) peer->strikes++;
    }
    peer->banned_until_us = ban_ms > 0 ? now_us + ban_ms * 1000 : 0;
}

void peer_seen(struct peer *peer, uint32_t n_blocks, float us) {
    float block_us = us / (float)n_blocks;
    peer->seen_block_us = peer->seen_block_us > 0 ? peer->seen_block_us + SEEN_WEIGHT * (block_us - peer->seen_block_us) : block_us;
    peer->seen_us = clock_us();
}

float peer_block_us(const struct peer *peer, float stated_us, uint64_t now_us) {
    bool seen = peer->seen_block_us > 0 && now_us - peer->seen_us < SEEN_LIFE_US;
    return seen && stated_us > 0 && peer->seen_block_us > stated_us ? peer->seen_block_us : stated_us;
}
