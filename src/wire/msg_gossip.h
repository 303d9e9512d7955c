/* msg_gossip.h - the messages of gossip, kinds DIGEST to SUSPECT (docs/SWARM.md), as plain structs and their bytes. Pure; any thread.
 *
 * The maxima are such that a message of them fits MSG_HEADER_MAX and its decoding the arena. The structs are large (24 to 72 KB): one at a
 * time on a stack.
 */
#ifndef COROLLA_WIRE_MSG_GOSSIP_H
#define COROLLA_WIRE_MSG_GOSSIP_H

#include "wire/record.h"

#define VERSIONS_MAX 1024 /* of a DIGEST, HAVE or WANT: 23 bytes each at most, some 11 usually */
#define RECORDS_MAX 64    /* of RECORDS; some 300 bytes each usually */
#define SUSPECTS_MAX 64   /* a node has fewer neighbours to lose */

/* What a record takes of a message beside its own bytes, and the message itself: what is sent together fits MSG_HEADER_MAX. */
#define RECORDS_OVERHEAD 80

struct record_version {
    uint64_t node; /* digest */
    uint64_t boot;
    uint32_t sequence;
};
struct msg_versions { /* HAVE; SUSPECT with at most SUSPECTS_MAX */
    uint32_t n;
    struct record_version versions[VERSIONS_MAX];
};
struct msg_digest {
    bool more, leaf, reply, end;
    struct msg_versions known;
};
struct msg_want {
    uint32_t n;
    uint64_t nodes[VERSIONS_MAX];
};
struct msg_records {
    uint32_t n;
    struct signed_record records[RECORDS_MAX];
};

/* As in msg.h: at most MSG_HEADER_MAX bytes go into out. Of records, the sum of size + RECORDS_OVERHEAD must be within that. */
size_t msg_digest_encode(const struct msg_digest *m, uint8_t *out);
size_t msg_have_encode(const struct msg_versions *m, uint8_t *out);
size_t msg_want_encode(const struct msg_want *m, uint8_t *out);
size_t msg_records_encode(const struct msg_records *m, uint8_t *out);
size_t msg_suspect_encode(const struct msg_versions *m, uint8_t *out);

enum corolla_status msg_digest_decode(const uint8_t *in, size_t size, struct msg_digest *out, struct corolla_error *err);
enum corolla_status msg_have_decode(const uint8_t *in, size_t size, struct msg_versions *out, struct corolla_error *err);
enum corolla_status msg_want_decode(const uint8_t *in, size_t size, struct msg_want *out, struct corolla_error *err);
/* Checks sizes alone: whether a record can be read and its signature is good is for whoever takes it in. */
enum corolla_status msg_records_decode(const uint8_t *in, size_t size, struct msg_records *out, struct corolla_error *err);
enum corolla_status msg_suspect_decode(const uint8_t *in, size_t size, struct msg_versions *out, struct corolla_error *err);

#endif
