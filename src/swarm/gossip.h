/* gossip.h - the directory of a swarm: the records of all nodes, spread from neighbour to neighbour. Pure: bytes and time come in,
 * bytes, decisions and the next deadline go out (struct gossip_world).
 *
 * Neighbours: a node keeps GOSSIP_LINKS links of its own choice and takes part on those that others chose. Gossip on a link begins with a
 * DIGEST of either side; other links of the net (sessions) carry none.
 *
 * Spreading: at the beginning each side tells all that it has as (node digest, boot, sequence); what is newer is asked for with WANT and
 * comes as RECORDS. Later, news is announced in batches (HAVE). Once a minute one neighbour is given a whole digest again, so that
 * nothing that was lost stays lost.
 *
 * Admission: a record that its own node brings is admitted when a connection of ours proved that its key answers at its address; until
 * then it is told to nobody. What neighbours relay they have admitted.
 *
 * Private swarms: a record whose node may not host (may_host) is dropped, and nobody is blamed: who relays it may not know yet what we
 * know, and what the node itself may do on its links is decided elsewhere.
 *
 * Suspicion: a lost link to a neighbour is told (SUSPECT, with its version). The suspect refutes by a higher sequence; what is not refuted
 * in time is gone. Who lost more than two thirds of its links at once, or slept, suspects nobody.
 *
 * Bounds: records in all, per link (as the one who brought them first), per address range and per key; signature checks per second and
 * link; see docs/SWARM.md. What goes over a bound is dropped; only a bad signature, an oversized or a malformed message counts against
 * the sender (PEER_FAULT).
 *
 * Not done here: links, dialling, clocks, keys (the mesh does them), routing and placement (route.h, place.h read the records).
 * Threads: none of its own; one thread at a time.
 */
#ifndef COROLLA_SWARM_GOSSIP_H
#define COROLLA_SWARM_GOSSIP_H

#include "swarm/sealed.h"

#define GOSSIP_LINKS 6 /* neighbours that a node chooses; as many again chose it */

struct gossip;

/* What is known of a node. Borrowed from the table: valid until the next call that is not const. */
struct gossip_entry {
    uint64_t digest; /* node_id_digest */
    const struct record *record;
    uint64_t signed_ms; /* on our clock: now - age, modulo 2^64 */
    bool suspected;     /* somebody lost its link; it may refute */
};

enum gossip_change { GOSSIP_NEW, GOSSIP_UPDATED, GOSSIP_SUSPECTED, GOSSIP_GONE };

/* None of these calls back into the gossip. */
struct gossip_world {
    /* Queues a message on a link, which is a name that the caller gave. Kinds MSG_DIGEST to MSG_SUSPECT. */
    void (*send)(void *user, void *link, enum msg_kind kind, const uint8_t *data, size_t size);
    /* Wants a link to the node; answered later, not from inside, by gossip_dialled(). The connection must be one that was made to its
     * addresses: what the node itself opened to us proves nothing. */
    void (*dial)(void *user, const struct node_ref *node);
    /* The link is not needed for gossip any more: closed with a goodbye, behind what was sent, unless it serves something else. Gossip does
     * not use it again before the peer sends a DIGEST on it or gossip_dialled() brings it. */
    void (*leave)(void *user, void *link);
    bool (*verify)(void *user, const uint8_t key[KEY_SIZE], const uint8_t *data, size_t size, const uint8_t signature[SIGNATURE_SIZE]);
    void (*sign)(void *user, const uint8_t *data, size_t size, uint8_t signature[SIGNATURE_SIZE]);
    uint64_t (*random)(void *user);
    /* The table changed; entry is borrowed for the call (of GONE: its last state). May be NULL. */
    void (*changed)(void *user, const struct gossip_entry *entry, enum gossip_change what);
    /* Whether the node may be in this swarm by its record, whose signature is good. NULL: everybody may. */
    bool (*may_host)(void *user, const struct record *record);
    void *user;
};

struct gossip_config {
    struct gossip_world world;
    struct node_id self;
    uint64_t boot;
    bool leaf; /* a client: takes records and passes none on; nobody suspects it */
    /* Records that several nodes of one process read once for all; NULL: an own set. Must outlive the gossip. */
    struct sealed_set *sealed;
};
enum corolla_status gossip_new(struct gossip **out_gossip, const struct gossip_config *config, uint64_t now_ms, struct corolla_error *err);
void gossip_free(struct gossip *gossip);

/* Our own statement from now on: id, boot and sequence are filled in here. Told at once, and again each RECORD_REFRESH_MS. Never for a
 * leaf. */
void gossip_publish(struct gossip *gossip, const struct record *record, uint64_t now_ms);
/* Nodes that may be asked for a link when nobody else is known: from join codes, the LAN, a file. */
void gossip_hint(struct gossip *gossip, const struct node_ref *node, uint64_t now_ms);

/* A dial of ours ended; link NULL: it failed. */
void gossip_dialled(struct gossip *gossip, const struct node_id *node, void *link, uint64_t now_ms);
/* A link went down; lost: without a goodbye (crash, silence). Links without gossip may be told as well. */
void gossip_link_down(struct gossip *gossip, void *link, bool lost, uint64_t now_ms);
/* A message of kinds MSG_DIGEST to MSG_SUSPECT. PEER_FAULT: close the link. peer: who the handshake proved it to be. */
enum corolla_status gossip_message(struct gossip *gossip, void *link, const struct node_ref *peer, enum msg_kind kind, const uint8_t *data,
                                   size_t size, uint64_t now_ms, struct corolla_error *err);
/* may_host() has become stricter: whoever may not any more is gone. */
void gossip_recheck(struct gossip *gossip, uint64_t now_ms);
/* Does what is due; returns gossip_due(). */
uint64_t gossip_tick(struct gossip *gossip, uint64_t now_ms);
/* When to call gossip_tick() next; may have come nearer after any other call. */
uint64_t gossip_due(const struct gossip *gossip);

size_t gossip_count(const struct gossip *gossip); /* without our own */
const struct gossip_entry *gossip_find(const struct gossip *gossip, const struct node_id *node);
/* All entries, in no order: first with NULL, then with the last one; NULL at the end. */
const struct gossip_entry *gossip_each(const struct gossip *gossip, const struct gossip_entry *last);
/* Whether all that a neighbour told of has come. */
bool gossip_caught_up(const struct gossip *gossip);
/* Whether links were asked for and neither came nor failed yet, or hints are still to be tried. */
bool gossip_dialling(const struct gossip *gossip);
size_t gossip_neighbours(const struct gossip *gossip); /* links that gossip now */

#endif
