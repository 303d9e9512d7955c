/* fuzz_member.c - what strangers show at the door of a private swarm. The first byte of the input chooses the kind: 0 a Signed, 1 a
 * certificate, 2 an invitation, 3 a list of revocations, all without their signature, 4 all three with a signature that does not fit.
 * What was taken is encoded and decoded again, and must be the same. */
#include <stdlib.h>
#include <string.h>

#include "swarm/member.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok) {
    if (!ok) abort();
}

static void fuzz_signed(const uint8_t *in, size_t size) {
    struct signed_view view;
    static uint8_t again[REVOCATIONS_BYTES_MAX];
    if (signed_decode(in, size, &view, NULL) != COROLLA_OK) return;
    must(view.statement > in && view.statement + view.size < view.signature && view.signature + SIGNATURE_SIZE == in + size);
    must(signed_encode(view.statement, view.size, view.signature, again) == size && memcmp(in, again, size) == 0);
}

static void fuzz_certificate(const uint8_t *in, size_t size) {
    struct certificate c, back;
    uint8_t once[STATEMENT_MAX];
    if (certificate_decode(in, size, &c, NULL) != COROLLA_OK) return;
    must(c.role == COROLLA_ROLE_CLIENT || c.role == COROLLA_ROLE_SERVER);
    must(certificate_decode(once, certificate_encode(&c, once), &back, NULL) == COROLLA_OK);
    must(memcmp(back.serial, c.serial, SERIAL_SIZE) == 0 && memcmp(back.member, c.member, KEY_SIZE) == 0 && back.role == c.role);
    must(memcmp(back.swarm, c.swarm, KEY_SIZE) == 0 && back.not_after_s == c.not_after_s);
}

static void fuzz_invitation(const uint8_t *in, size_t size) {
    struct invitation i, back;
    uint8_t once[STATEMENT_MAX];
    if (invitation_decode(in, size, &i, NULL) != COROLLA_OK) return;
    must(invitation_decode(once, invitation_encode(&i, once), &back, NULL) == COROLLA_OK);
    must(memcmp(back.serial, i.serial, SERIAL_SIZE) == 0 && memcmp(back.issuer, i.issuer, KEY_SIZE) == 0);
    must(back.role == i.role && back.not_after_s == i.not_after_s);
}

static void fuzz_revocations(const uint8_t *in, size_t size) {
    static struct revocations list, back;
    static uint8_t once[REVOCATIONS_BYTES_MAX];
    if (revocations_decode(in, size, &list, NULL) != COROLLA_OK) return;
    must(list.n <= REVOCATIONS_MAX && list.number > 0);
    must(revocations_decode(once, revocations_encode(&list, once), &back, NULL) == COROLLA_OK);
    must(back.n == list.n && back.number == list.number && memcmp(back.serials, list.serials, (size_t)list.n * SERIAL_SIZE) == 0);
    for (uint32_t i = 0; i < list.n; i++) must(revocations_has(&list, list.serials[i]));
    must(revocations_merge(&back, &list, NULL) == COROLLA_OK && back.n == list.n && back.number == list.number);
}

/* Nobody can sign for this key, whose private half does not exist. */
static void fuzz_unsigned(const uint8_t *in, size_t size) {
    static const uint8_t swarm[KEY_SIZE] = {2};
    static struct revocations list;
    struct member_rules rules = {.swarm = swarm, .now_s = 1800000000};
    struct certificate c;
    struct invitation i;
    struct signed_bytes bytes = {.size = (uint32_t)(size < SIGNED_MAX ? size : SIGNED_MAX)};
    if (size > 0) memcpy(bytes.data, in, bytes.size);
    must(member_check(&rules, swarm, in, size, &c, NULL) == COROLLA_REFUSED);
    must(member_check_invitation(&rules, swarm, &bytes, &i, NULL) == COROLLA_REFUSED);
    must(member_check_revocations(swarm, in, size, &list, NULL) != COROLLA_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static void (*const targets[])(const uint8_t *in, size_t size) = {fuzz_signed, fuzz_certificate, fuzz_invitation, fuzz_revocations,
                                                                      fuzz_unsigned};
    if (size > 0) targets[data[0] % (sizeof(targets) / sizeof(targets[0]))](data + 1, size - 1);
    return 0;
}
