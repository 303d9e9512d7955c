/* member.h - who belongs to a private swarm: certificates, invitations and revocations, signed by the key of the swarm. Pure: the
 * time comes in; any thread.
 *
 * Design
 *   The swarm is an Ed25519 key of its own. Whoever has its private half issues; everybody else checks with the public half alone,
 *   from what a node shows, and asks nobody.
 *   Certificate  Binds a node's key to a role until a time. It is shown in HELLO and goes with a record.
 *   Invitation   Is exchanged for a certificate at one node, which it names: that node remembers what it gave for which invitation.
 *   Revocations  A list of serials that only grows, with a number. Of two lists the one with the higher number counts; issuers that
 *                worked apart sign the union of their lists (revocations_merge).
 *   Clocks       An end counts only when it passed MEMBER_CLOCK_SLACK_S ago, since clocks may be wrong.
 *
 * Errors: REFUSED, and a reason that both sides can be shown.
 */
#ifndef COROLLA_SWARM_MEMBER_H
#define COROLLA_SWARM_MEMBER_H

#include "wire/member.h"

#define MEMBER_CLOCK_SLACK_S 3600

/* Issuing. swarm_key: EVP_PKEY *. INTERNAL when signing fails. */
enum corolla_status member_issue(void *swarm_key, const struct certificate *certificate, struct signed_bytes *out,
                                 struct corolla_error *err);
enum corolla_status member_invite(void *swarm_key, const struct invitation *invitation, struct signed_bytes *out,
                                  struct corolla_error *err);
enum corolla_status member_revoke(void *swarm_key, const struct revocations *list, uint8_t out[REVOCATIONS_BYTES_MAX], size_t *out_size,
                                  struct corolla_error *err);

/* What decides: the swarm, what is void, and the time in seconds since 1970. */
struct member_rules {
    const uint8_t *swarm;              /* KEY_SIZE bytes; NULL: that of the certificate itself */
    const struct revocations *revoked; /* may be NULL */
    uint64_t now_s;
};
/* Whether the certificate of size bytes makes the key a member. */
enum corolla_status member_check(const struct member_rules *rules, const uint8_t key[KEY_SIZE], const uint8_t *data, size_t size,
                                 struct certificate *out, struct corolla_error *err);
/* Whether the invitation is good at this issuer (the key of a node); whether it was used before is for the issuer to know. */
enum corolla_status member_check_invitation(const struct member_rules *rules, const uint8_t issuer[KEY_SIZE], const struct signed_bytes *in,
                                            struct invitation *out, struct corolla_error *err);
/* Whether the list is the swarm's. */
enum corolla_status member_check_revocations(const uint8_t swarm[KEY_SIZE], const uint8_t *data, size_t size, struct revocations *out,
                                             struct corolla_error *err);

/* Whether a certificate that was good has come to its end. */
bool member_ended(uint64_t not_after_s, uint64_t now_s);
bool revocations_has(const struct revocations *list, const uint8_t serial[SERIAL_SIZE]);
/* BUSY when the list is full: then the swarm needs a new key. A serial that is there already is no error. */
enum corolla_status revocations_add(struct revocations *list, const uint8_t serial[SERIAL_SIZE], struct corolla_error *err);
/* Adds what the other list has. The number becomes the higher of the two, and one more when the list that had it is not the union, so
 * that the union is newer than whatever differs from it. */
enum corolla_status revocations_merge(struct revocations *list, const struct revocations *other, struct corolla_error *err);

#endif
