/* member.h - the statements of a private swarm as plain structs, and their bytes. Pure; any thread.
 *
 * A statement travels as Signed: its bytes and a signature by the key of the swarm. What the parts mean and when they are good is in
 * swarm/member.h; here is only their shape. A Signed has one encoding: a decoder refuses every other, so that nobody can change a bit
 * of one on its way. Unknown fields inside a statement are skipped, since the signature covers them.
 */
#ifndef COROLLA_WIRE_MEMBER_H
#define COROLLA_WIRE_MEMBER_H

#include "wire/record.h"

#define SERIAL_SIZE 16       /* of a certificate: random */
#define STATEMENT_MAX 128    /* bytes of a certificate (at most 99) or an invitation (65) without the signature */
#define REVOCATIONS_MAX 1024 /* serials: 16 KiB, so that the list fits the header of one message */
#define REVOCATIONS_BYTES_MAX (REVOCATIONS_MAX * SERIAL_SIZE + 128) /* signed */

struct certificate {
    uint8_t swarm[KEY_SIZE], member[KEY_SIZE];
    enum corolla_role role;
    uint8_t serial[SERIAL_SIZE];
    uint64_t not_after_s; /* seconds since 1970; 0: no end */
};

struct invitation { /* for a certificate of this serial and role */
    uint8_t serial[SERIAL_SIZE];
    uint8_t issuer[KEY_SIZE]; /* the node that takes it, so that it can be used once only */
    enum corolla_role role;
    uint64_t not_after_s;
};

struct revocations {
    uint64_t number; /* grows with each change; 0: there was none */
    uint32_t n;
    uint8_t serials[REVOCATIONS_MAX][SERIAL_SIZE]; /* ascending */
};

/* The parts of a Signed, within its bytes. */
struct signed_view {
    const uint8_t *statement, *signature;
    size_t size; /* of the statement */
};

/* Encoders return the size; decoders return FORMAT, and leave *out alone, when anything is wrong. */
size_t certificate_encode(const struct certificate *c, uint8_t out[STATEMENT_MAX]);
enum corolla_status certificate_decode(const uint8_t *in, size_t size, struct certificate *out, struct corolla_error *err);
size_t invitation_encode(const struct invitation *i, uint8_t out[STATEMENT_MAX]);
enum corolla_status invitation_decode(const uint8_t *in, size_t size, struct invitation *out, struct corolla_error *err);
size_t revocations_encode(const struct revocations *r, uint8_t out[REVOCATIONS_BYTES_MAX]);
enum corolla_status revocations_decode(const uint8_t *in, size_t size, struct revocations *out, struct corolla_error *err);

/* out has room for the statement, the signature and 8 bytes; in has at most REVOCATIONS_BYTES_MAX. */
size_t signed_encode(const uint8_t *statement, size_t size, const uint8_t signature[SIGNATURE_SIZE], uint8_t *out);
enum corolla_status signed_decode(const uint8_t *in, size_t size, struct signed_view *out, struct corolla_error *err);

#endif
