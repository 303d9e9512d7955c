/* record.h - what a node states of itself to the swarm: signed, expiring, at most RECORD_MAX bytes. Pure; any thread.
 *
 * A record is opaque signed bytes, forwarded verbatim, so that an old node never cuts a newer one's fields. Order: (boot, sequence);
 * of one node the highest counts. Life: RECORD_TTL_MS from its signing, counted by monotonic clocks: whoever passes a record on
 * says how old it is (struct signed_record.age_ms), so no clock on the wall matters.
 */
#ifndef COROLLA_WIRE_RECORD_H
#define COROLLA_WIRE_RECORD_H

#include "wire/msg.h"

#define RECORD_MAX 1024         /* of the signed bytes */
#define SIGNATURE_SIZE 64       /* Ed25519 */
#define RECORD_TTL_MS 120000    /* after which a record is forgotten ... */
#define RECORD_REFRESH_MS 60000 /* ... and after which its node signs a new one */
#define RECORD_RTTS_MAX 8       /* measured round trips to likely next hops */
#define RECORD_ADAPTERS_MAX 4

enum record_state {
    RECORD_JOINING, /* looks where it is needed: its span is a wish */
    RECORD_ONLINE,
    RECORD_DRAINING, /* serves its sessions, takes no new ones */
    RECORD_OFFLINE,  /* the last word of a node that leaves */
    RECORD_LOADING,  /* knows its span and loads it */
};

/* A node in 8 bytes: the start of the SHA-256 of its key and instance. Names nodes where a forgery would gain nothing. */
uint64_t node_id_digest(const struct node_id *id);

struct record_rtt {
    uint64_t node; /* digest */
    uint32_t rtt_us;
};

struct record {
    struct node_ref node;
    uint64_t boot;
    uint32_t sequence;
    enum record_state state;
    uint8_t model[ID_SIZE];
    char model_name[NAME_SIZE], name[NAME_SIZE], version[NAME_SIZE];
    uint32_t n_blocks, n_embd, begin, end;   /* blocks of the model; the span of this server */
    float decode_block_us, prefill_block_us; /* time of one block for one token, alone and within a long step; 0: not known */
    uint64_t cache_tokens_left;
    uint32_t session_tokens_max, sessions, queue_us; /* queue_us: what a decode step waits here at present */
    bool exact;
    uint64_t arithmetic_class;
    uint32_t wires; /* bit per enum corolla_wire */
    uint32_t n_rtts;
    struct record_rtt rtts[RECORD_RTTS_MAX];
    uint32_t n_adapters;
    char adapters[RECORD_ADAPTERS_MAX][NAME_SIZE];
    struct signed_bytes membership; /* the certificate of the node in a private swarm (wire/member.h); its bytes are not read here */
};

struct signed_record {
    uint32_t age_ms; /* when it was sent */
    uint32_t size;
    uint8_t bytes[RECORD_MAX], signature[SIGNATURE_SIZE];
};

/* Writes at most RECORD_MAX bytes. Too long a record loses its round trips and adapters, the last ones first. */
size_t record_encode(const struct record *record, uint8_t out[RECORD_MAX]);
/* FORMAT, and *out left alone, when a field is out of its range. The signature is checked by whoever has one. */
enum corolla_status record_decode(const uint8_t *in, size_t size, struct record *out, struct corolla_error *err);
/* Whether (boot, sequence) of a is newer than that of b. */
static inline bool record_newer(uint64_t a_boot, uint32_t a_sequence, uint64_t b_boot, uint32_t b_sequence) {
    return a_boot != b_boot ? a_boot > b_boot : a_sequence > b_sequence;
}

#endif
