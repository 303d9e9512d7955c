/* table.h - the directory: one row per node that is known, by digest. Pure; one thread at a time.
 *
 * A row lives from the record that was admitted until its TTL, a suspicion that was not refuted, or a goodbye; then it is gone: kept for
 * another TTL, invisible, so that neighbours who are late do not bring the same version back. Bounds: TABLE_MAX rows in all, the quotas of
 * quota.h, and TABLE_LINK_MAX rows that one link was the first to bring.
 */
#ifndef COROLLA_SWARM_TABLE_H
#define COROLLA_SWARM_TABLE_H

#include "swarm/gossip.h"
#include "swarm/index.h"
#include "swarm/quota.h"
#include "wire/msg_gossip.h"

#define TABLE_MAX 16384     /* some 30 MB; a swarm of a few thousand nodes is where flat gossip ends */
#define TABLE_LINK_MAX 8192 /* half of it: one neighbour cannot fill the table */
#define TABLE_SLOTS 512     /* of links */
#define TABLE_NO_SLOT UINT16_MAX

struct row {
    struct gossip_entry entry; /* begins with the digest */
    struct sealed *sealed;
    uint64_t boot;
    uint64_t known;  /* bit per slot of a link: that neighbour has this version */
    uint64_t due_ms; /* when it is gone, or when a gone one is forgotten */
    uint32_t sequence;
    uint16_t slot; /* of the link that brought the node first */
    bool gone;
    bool pending; /* news, not announced yet */
};

struct table {
    struct row *rows;
    uint32_t n, capacity, n_gone;
    struct index index;
    struct quota quota;
    uint16_t brought[TABLE_SLOTS]; /* rows that the link in each slot brought first */
    uint64_t due_ms;               /* of the first row, at the latest; UINT64_MAX: none */
};

void table_init(struct table *table, uint64_t secret);
void table_release(struct table *table);

/* Borrowed until the next put or sweep. NULL: not there. Gone ones are found too. */
struct row *table_find(const struct table *table, uint64_t digest);
static inline bool row_is_older(const struct row *row, uint64_t boot, uint32_t sequence) {
    return record_newer(boot, sequence, row->boot, row->sequence);
}
static inline struct record_version row_version(const struct row *row) {
    return (struct record_version){row->entry.digest, row->boot, row->sequence};
}

/* Puts a record into the row of its node, made when there is none: takes a use of sealed. NULL, and nothing changed, when a bound does not
 * allow it. slot: of the link that brought it. */
struct row *table_put(struct table *table, struct sealed *sealed, uint64_t signed_ms, uint16_t slot);
/* Shortens the life of a row. */
void table_shorten(struct table *table, struct row *row, uint64_t due_ms);
void table_gone(struct table *table, struct row *row, uint64_t now_ms);
/* The next row whose time has come, from *at on: a live one that shall be gone; forgets gone ones on the way. NULL: all seen, and
 * due_ms is right again. */
struct row *table_sweep(struct table *table, uint32_t *at, uint64_t now_ms);
/* A link's slot is free: nobody in it knows or brought anything. */
void table_slot_free(struct table *table, uint16_t slot);
/* The clock leapt: nothing has aged meanwhile. */
void table_shift(struct table *table, uint64_t leap_ms);

#endif
