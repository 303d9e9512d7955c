/* member.c - see member.h. The domains keep the three kinds of statements, and records, apart (crypto/sign.h). */
#include "swarm/member.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "crypto/sign.h"

static const char certificate_domain[] = "corolla certificate", invitation_domain[] = "corolla invitation",
                  revocations_domain[] = "corolla revocations";

/* ---- issuing --------------------------------------------------------------------------------------------------- */

static enum corolla_status sign_statement(void *swarm_key, const char *domain, const uint8_t *statement, size_t size, uint8_t *out,
                                          size_t *out_size, struct corolla_error *err) {
    uint8_t signature[SIGNATURE_SIZE];
    if (!sign_make(swarm_key, domain, statement, size, signature))
        return err_set(err, COROLLA_INTERNAL, "cannot sign with the key of the swarm");
    *out_size = signed_encode(statement, size, signature, out);
    return COROLLA_OK;
}

_Static_assert(STATEMENT_MAX + SIGNATURE_SIZE + 8 <= SIGNED_MAX, "a signed certificate fits HELLO");

enum corolla_status member_issue(void *swarm_key, const struct certificate *certificate, struct signed_bytes *out,
                                 struct corolla_error *err) {
    uint8_t statement[STATEMENT_MAX];
    size_t size = 0;
    enum corolla_status status =
        sign_statement(swarm_key, certificate_domain, statement, certificate_encode(certificate, statement), out->data, &size, err);
    out->size = (uint32_t)size;
    return status;
}

enum corolla_status member_invite(void *swarm_key, const struct invitation *invitation, struct signed_bytes *out,
                                  struct corolla_error *err) {
    uint8_t statement[STATEMENT_MAX];
    size_t size = 0;
    enum corolla_status status =
        sign_statement(swarm_key, invitation_domain, statement, invitation_encode(invitation, statement), out->data, &size, err);
    out->size = (uint32_t)size;
    return status;
}

enum corolla_status member_revoke(void *swarm_key, const struct revocations *list, uint8_t out[REVOCATIONS_BYTES_MAX], size_t *out_size,
                                  struct corolla_error *err) {
    uint8_t statement[REVOCATIONS_BYTES_MAX];
    return sign_statement(swarm_key, revocations_domain, statement, revocations_encode(list, statement), out, out_size, err);
}

/* ---- checking -------------------------------------------------------------------------------------------------- */

static bool signed_by(const uint8_t swarm[KEY_SIZE], const char *domain, const struct signed_view *view) {
    return sign_verify(swarm, domain, view->statement, view->size, view->signature);
}

bool member_ended(uint64_t not_after_s, uint64_t now_s) {
    return not_after_s != 0 && now_s > not_after_s && now_s - not_after_s > MEMBER_CLOCK_SLACK_S;
}

enum corolla_status member_check(const struct member_rules *rules, const uint8_t key[KEY_SIZE], const uint8_t *data, size_t size,
                                 struct certificate *out, struct corolla_error *err) {
    struct signed_view view;
    struct certificate c;
    if (size == 0) return err_set(err, COROLLA_REFUSED, "no certificate was shown: the swarm is private, ask its owner for an invitation");
    if (signed_decode(data, size, &view, NULL) != COROLLA_OK || certificate_decode(view.statement, view.size, &c, NULL) != COROLLA_OK)
        return err_set(err, COROLLA_REFUSED, "the certificate is malformed");
    if (rules->swarm && memcmp(c.swarm, rules->swarm, KEY_SIZE) != 0)
        return err_set(err, COROLLA_REFUSED, "the certificate is of another private swarm");
    if (!signed_by(c.swarm, certificate_domain, &view))
        return err_set(err, COROLLA_REFUSED, "the certificate is forged: the swarm's key did not sign it");
    if (memcmp(c.member, key, KEY_SIZE) != 0) return err_set(err, COROLLA_REFUSED, "the certificate belongs to another node");
    if (member_ended(c.not_after_s, rules->now_s))
        return err_set(err, COROLLA_REFUSED, "the certificate has expired: ask the owner of the swarm for a new one");
    if (rules->revoked && revocations_has(rules->revoked, c.serial))
        return err_set(err, COROLLA_REFUSED, "the certificate was revoked: ask the owner of the swarm");
    *out = c;
    return COROLLA_OK;
}

enum corolla_status member_check_invitation(const struct member_rules *rules, const uint8_t issuer[KEY_SIZE], const struct signed_bytes *in,
                                            struct invitation *out, struct corolla_error *err) {
    struct signed_view view;
    struct invitation i;
    if (signed_decode(in->data, in->size, &view, NULL) != COROLLA_OK ||
        invitation_decode(view.statement, view.size, &i, NULL) != COROLLA_OK)
        return err_set(err, COROLLA_REFUSED, "the invitation is malformed");
    if (!signed_by(rules->swarm, invitation_domain, &view))
        return err_set(err, COROLLA_REFUSED, "the invitation is forged: the swarm's key did not sign it");
    if (memcmp(i.issuer, issuer, KEY_SIZE) != 0) {
        char hex[2 * 8 + 1];
        hex_encode(i.issuer, 8, hex);
        return err_set(err, COROLLA_REFUSED, "the invitation is for another node: take it to %s", hex);
    }
    if (member_ended(i.not_after_s, rules->now_s))
        return err_set(err, COROLLA_REFUSED, "the invitation has expired: ask the owner of the swarm for a new one");
    if (rules->revoked && revocations_has(rules->revoked, i.serial))
        return err_set(err, COROLLA_REFUSED, "what this invitation was good for was revoked: ask the owner of the swarm");
    *out = i;
    return COROLLA_OK;
}

enum corolla_status member_check_revocations(const uint8_t swarm[KEY_SIZE], const uint8_t *data, size_t size, struct revocations *out,
                                             struct corolla_error *err) {
    struct signed_view view;
    if (signed_decode(data, size, &view, NULL) != COROLLA_OK || !signed_by(swarm, revocations_domain, &view))
        return err_set(err, COROLLA_REFUSED, "the list of revocations is forged: the swarm's key did not sign it");
    return revocations_decode(view.statement, view.size, out, err);
}

/* ---- the list of revocations ----------------------------------------------------------------------------------- */

/* Index of the first serial that is not below. */
static uint32_t place_of(const struct revocations *list, const uint8_t serial[SERIAL_SIZE]) {
    uint32_t begin = 0, end = list->n;
    while (begin < end) {
        uint32_t middle = begin + (end - begin) / 2;
        if (memcmp(list->serials[middle], serial, SERIAL_SIZE) < 0)
            begin = middle + 1;
        else
            end = middle;
    }
    return begin;
}

bool revocations_has(const struct revocations *list, const uint8_t serial[SERIAL_SIZE]) {
    uint32_t at = place_of(list, serial);
    return at < list->n && memcmp(list->serials[at], serial, SERIAL_SIZE) == 0;
}

enum corolla_status revocations_add(struct revocations *list, const uint8_t serial[SERIAL_SIZE], struct corolla_error *err) {
    if (revocations_has(list, serial)) return COROLLA_OK;
    if (list->n == REVOCATIONS_MAX)
        return err_set(err, COROLLA_BUSY, "%d certificates were revoked, and there is no room for more: make a new swarm", REVOCATIONS_MAX);
    uint32_t at = place_of(list, serial);
    memmove(list->serials[at + 1], list->serials[at], (size_t)(list->n - at) * SERIAL_SIZE);
    memcpy(list->serials[at], serial, SERIAL_SIZE);
    list->n++;
    return COROLLA_OK;
}

enum corolla_status revocations_merge(struct revocations *list, const struct revocations *other, struct corolla_error *err) {
    uint32_t before = list->n;
    enum corolla_status status = COROLLA_OK;
    for (uint32_t i = 0; i < other->n && status == COROLLA_OK; i++) status = revocations_add(list, other->serials[i], err);
    uint64_t number = other->number > list->number ? other->number : list->number;
    bool ours_grew = list->n > before && list->number == number, theirs_lacks = list->n > other->n && other->number == number;
    list->number = number + (ours_grew || theirs_lacks ? 1 : 0);
    return status;
}
