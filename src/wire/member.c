/* member.c - see member.h. */
#include "wire/member.h"

#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "wire/arena.h"
#include "wire/field.h"

static bool role_ok(uint32_t role) { return role == COROLLA_ROLE_CLIENT || role == COROLLA_ROLE_SERVER; }

size_t certificate_encode(const struct certificate *c, uint8_t out[STATEMENT_MAX]) {
    Corolla__Certificate p = COROLLA__CERTIFICATE__INIT;
    p.swarm = field_bytes_put(c->swarm, KEY_SIZE);
    p.member = field_bytes_put(c->member, KEY_SIZE);
    p.role = c->role;
    p.serial = field_bytes_put(c->serial, SERIAL_SIZE);
    p.not_after = c->not_after_s;
    return field_pack(&p.base, out);
}

enum corolla_status certificate_decode(const uint8_t *in, size_t size, struct certificate *out, struct corolla_error *err) {
    struct arena arena;
    arena_init(&arena);
    const Corolla__Certificate *p = size <= STATEMENT_MAX ? corolla__certificate__unpack(&arena.allocator, size, in) : NULL;
    if (p == NULL || !field_bytes_ok(&p->swarm, KEY_SIZE) || !field_bytes_ok(&p->member, KEY_SIZE) || !role_ok(p->role) ||
        !field_bytes_ok(&p->serial, SERIAL_SIZE)) {
        return err_set(err, COROLLA_FORMAT, "malformed certificate");
    }
    memcpy(out->swarm, p->swarm.data, KEY_SIZE);
    memcpy(out->member, p->member.data, KEY_SIZE);
    out->role = (enum corolla_role)p->role;
    memcpy(out->serial, p->serial.data, SERIAL_SIZE);
    out->not_after_s = p->not_after;
    return COROLLA_OK;
}

size_t invitation_encode(const struct invitation *i, uint8_t out[STATEMENT_MAX]) {
    Corolla__Invitation p = COROLLA__INVITATION__INIT;
    p.serial = field_bytes_put(i->serial, SERIAL_SIZE);
    p.issuer = field_bytes_put(i->issuer, KEY_SIZE);
    p.role = i->role;
    p.not_after = i->not_after_s;
    return field_pack(&p.base, out);
}

enum corolla_status invitation_decode(const uint8_t *in, size_t size, struct invitation *out, struct corolla_error *err) {
    struct arena arena;
    arena_init(&arena);
    const Corolla__Invitation *p = size <= STATEMENT_MAX ? corolla__invitation__unpack(&arena.allocator, size, in) : NULL;
    if (p == NULL || !field_bytes_ok(&p->serial, SERIAL_SIZE) || !field_bytes_ok(&p->issuer, KEY_SIZE) || !role_ok(p->role)) {
        return err_set(err, COROLLA_FORMAT, "malformed invitation");
    }
    memcpy(out->serial, p->serial.data, SERIAL_SIZE);
    memcpy(out->issuer, p->issuer.data, KEY_SIZE);
    out->role = (enum corolla_role)p->role;
    out->not_after_s = p->not_after;
    return COROLLA_OK;
}

size_t revocations_encode(const struct revocations *r, uint8_t out[REVOCATIONS_BYTES_MAX]) {
    Corolla__Revocations p = COROLLA__REVOCATIONS__INIT;
    p.number = r->number;
    p.serials = field_bytes_put(r->serials[0], (size_t)r->n * SERIAL_SIZE);
    return field_pack(&p.base, out);
}

static bool ascending(const uint8_t *serials, size_t n) {
    for (size_t i = 1; i < n; i++) {
        if (memcmp(serials + (i - 1) * SERIAL_SIZE, serials + i * SERIAL_SIZE, SERIAL_SIZE) >= 0) {
            return false;
        }
    }
    return true;
}

enum corolla_status revocations_decode(const uint8_t *in, size_t size, struct revocations *out, struct corolla_error *err) {
    struct arena arena;
    arena_init(&arena);
    const Corolla__Revocations *p = size <= REVOCATIONS_BYTES_MAX ? corolla__revocations__unpack(&arena.allocator, size, in) : NULL;
    if (p == NULL || p->number == 0 || p->serials.len % SERIAL_SIZE != 0 || p->serials.len > sizeof(out->serials) ||
        !ascending(p->serials.data, p->serials.len / SERIAL_SIZE)) {
        return err_set(err, COROLLA_FORMAT, "malformed list of revocations");
    }
    out->number = p->number;
    out->n = (uint32_t)(p->serials.len / SERIAL_SIZE);
    if (out->n > 0) {
        memcpy(out->serials, p->serials.data, p->serials.len);
    }
    return COROLLA_OK;
}

size_t signed_encode(const uint8_t *statement, size_t size, const uint8_t signature[SIGNATURE_SIZE], uint8_t *out) {
    Corolla__Signed p = COROLLA__SIGNED__INIT;
    p.statement = field_bytes_put(statement, size);
    p.signature = field_bytes_put(signature, SIGNATURE_SIZE);
    return field_pack(&p.base, out);
}

enum corolla_status signed_decode(const uint8_t *in, size_t size, struct signed_view *out, struct corolla_error *err) {
    struct arena arena;
    uint8_t again[REVOCATIONS_BYTES_MAX];
    arena_init(&arena);
    const Corolla__Signed *p = size <= REVOCATIONS_BYTES_MAX ? corolla__signed__unpack(&arena.allocator, size, in) : NULL;
    if (p == NULL || p->base.n_unknown_fields > 0 || p->statement.len == 0 || !field_bytes_ok(&p->signature, SIGNATURE_SIZE) ||
        protobuf_c_message_get_packed_size(&p->base) != size || field_pack(&p->base, again) != size || memcmp(in, again, size) != 0) {
        return err_set(err, COROLLA_FORMAT, "a signed statement of a private swarm is malformed");
    }
    /* Known from the one encoding: the signature ends it, and the statement ends in front of the signature's tag and length. */
    out->signature = in + size - SIGNATURE_SIZE;
    out->size = p->statement.len;
    out->statement = out->signature - 2 - out->size;
    return COROLLA_OK;
}
