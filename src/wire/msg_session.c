/* msg_session.c - the messages around a session: OPEN, OPENED, FAILED, CLOSE, DRAIN, SYNC, SYNCED. */
#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "wire/arena.h"
#include "wire/field.h"
#include "wire/frame.h"
#include "wire/msg.h"

size_t msg_open_encode(const struct msg_open *m, uint8_t *out) {
    Corolla__Open p = COROLLA__OPEN__INIT;
    Corolla__NodeId upstream;
    p.session = field_bytes_put(m->session, SESSION_SIZE);
    p.model = field_bytes_put(m->model, ID_SIZE);
    p.begin = m->begin;
    p.end = m->end;
    p.max_tokens = m->max_tokens;
    if (m->has_upstream) {
        field_node_id_put(&m->upstream, &upstream);
        p.upstream = &upstream;
    }
    p.keep = m->keep;
    p.dtype = (Corolla__Wire)m->dtype;
    if (m->has_parent) {
        p.parent = field_bytes_put(m->parent, SESSION_SIZE);
        p.parent_secret = field_bytes_put(m->parent_secret, SECRET_SIZE);
        p.parent_length = m->parent_length;
    }
    if (m->n_prefix > 0) p.prefix = field_bytes_put(m->prefix[0], m->n_prefix * PREFIX_HASH_SIZE);
    return field_pack(&p.base, out);
}

static bool parent_ok(const Corolla__Open *p) {
    if (p->parent.len == 0) return p->parent_length == 0;
    return field_bytes_ok(&p->parent, SESSION_SIZE) && field_bytes_ok(&p->parent_secret, SECRET_SIZE) && p->parent_length <= p->max_tokens;
}

static bool prefix_ok(const Corolla__Open *p) {
    return p->prefix.len % PREFIX_HASH_SIZE == 0 && p->prefix.len / PREFIX_HASH_SIZE <= PREFIX_HASHES_MAX;
}

enum corolla_status msg_open_decode(const uint8_t *in, size_t size, struct msg_open *out, struct corolla_error *err) {
    struct arena arena;
    arena_init(&arena);
    const Corolla__Open *p = size <= MSG_HEADER_MAX ? corolla__open__unpack(&arena.allocator, size, in) : NULL;
    if (p == NULL || !field_bytes_ok(&p->session, SESSION_SIZE) || !field_bytes_ok(&p->model, ID_SIZE) || p->begin >= p->end ||
        p->end > BLOCKS_MAX || p->max_tokens == 0 || !field_wire_ok(p->dtype) || !parent_ok(p) || !prefix_ok(p) ||
        (p->upstream != NULL && !field_node_id_ok(p->upstream))) {
        return err_set(err, COROLLA_FORMAT, "malformed OPEN message");
    }
    memcpy(out->session, p->session.data, SESSION_SIZE);
    memcpy(out->model, p->model.data, ID_SIZE);
    out->begin = p->begin;
    out->end = p->end;
    out->max_tokens = p->max_tokens;
    out->has_upstream = p->upstream != NULL;
    if (out->has_upstream) {
        field_node_id_get(p->upstream, &out->upstream);
    }
    out->keep = p->keep != 0;
    out->has_parent = p->parent.len > 0;
    if (out->has_parent) {
        memcpy(out->parent, p->parent.data, SESSION_SIZE);
        memcpy(out->parent_secret, p->parent_secret.data, SECRET_SIZE);
    }
    out->parent_length = p->parent_length;
    out->dtype = (enum corolla_wire)p->dtype;
    out->n_prefix = (uint32_t)(p->prefix.len / PREFIX_HASH_SIZE);
    if (out->n_prefix > 0) memcpy(out->prefix, p->prefix.data, p->prefix.len);
    return COROLLA_OK;
}

size_t msg_opened_encode(const struct msg_opened *m, uint8_t *out) {
    Corolla__Opened p = COROLLA__OPENED__INIT;
    p.session = field_bytes_put(m->session, SESSION_SIZE);
    p.secret = field_bytes_put(m->secret, SECRET_SIZE);
    p.cache_tokens_left = m->cache_tokens_left;
    p.held = m->held;
    return field_pack(&p.base, out);
}

enum corolla_status msg_opened_decode(const uint8_t *in, size_t size, struct msg_opened *out, struct corolla_error *err) {
    struct arena arena;
    arena_init(&arena);
    const Corolla__Opened *p = size <= MSG_HEADER_MAX ? corolla__opened__unpack(&arena.allocator, size, in) : NULL;
    if (p == NULL || !field_bytes_ok(&p->session, SESSION_SIZE) || !field_bytes_ok(&p->secret, SECRET_SIZE)) {
        return err_set(err, COROLLA_FORMAT, "malformed OPENED message");
    }
    memcpy(out->session, p->session.data, SESSION_SIZE);
    memcpy(out->secret, p->secret.data, SECRET_SIZE);
    out->cache_tokens_left = p->cache_tokens_left;
    out->held = p->held;
    return COROLLA_OK;
}

size_t msg_failed_encode(const struct msg_failed *m, uint8_t *out) {
    assert(m->status > COROLLA_OK && m->status < COROLLA_STATUS_COUNT);
    Corolla__Failed p = COROLLA__FAILED__INIT;
    Corolla__NodeId culprit;
    char text[TEXT_SIZE];
    p.session = field_bytes_put(m->session, SESSION_SIZE);
    p.epoch = m->epoch;
    p.position = m->position;
    p.status = m->status;
    p.text = field_text_put(m->text, TEXT_SIZE, text);
    p.retry_after_ms = m->retry_after_ms;
    p.cache_tokens_left = m->cache_tokens_left;
    if (m->has_culprit) {
        field_node_id_put(&m->culprit, &culprit);
        p.culprit = &culprit;
    }
    return field_pack(&p.base, out);
}

enum corolla_status msg_failed_decode(const uint8_t *in, size_t size, struct msg_failed *out, struct corolla_error *err) {
    struct arena arena;
    arena_init(&arena);
    const Corolla__Failed *p = size <= MSG_HEADER_MAX ? corolla__failed__unpack(&arena.allocator, size, in) : NULL;
    if (p == NULL || !field_bytes_ok(&p->session, SESSION_SIZE) || p->status == COROLLA_OK || !field_text_ok(p->text, TEXT_SIZE) ||
        (p->culprit != NULL && !field_node_id_ok(p->culprit))) {
        return err_set(err, COROLLA_FORMAT, "malformed FAILED message");
    }
    memcpy(out->session, p->session.data, SESSION_SIZE);
    out->epoch = p->epoch;
    out->position = p->position;
    /* A newer peer may know more codes. */
    out->status = p->status < COROLLA_STATUS_COUNT ? (enum corolla_status)p->status : COROLLA_INTERNAL;
    field_text_get(p->text, out->text);
    out->retry_after_ms = p->retry_after_ms;
    out->cache_tokens_left = p->cache_tokens_left;
    out->has_culprit = p->culprit != NULL;
    if (out->has_culprit) {
        field_node_id_get(p->culprit, &out->culprit);
    }
    return COROLLA_OK;
}

size_t msg_close_encode(const struct msg_close *m, uint8_t *out) {
    Corolla__Close p = COROLLA__CLOSE__INIT;
    p.session = field_bytes_put(m->session, SESSION_SIZE);
    p.secret = field_bytes_put(m->secret, SECRET_SIZE);
    return field_pack(&p.base, out);
}

enum corolla_status msg_close_decode(const uint8_t *in, size_t size, struct msg_close *out, struct corolla_error *err) {
    struct arena arena;
    arena_init(&arena);
    const Corolla__Close *p = size <= MSG_HEADER_MAX ? corolla__close__unpack(&arena.allocator, size, in) : NULL;
    if (p == NULL || !field_bytes_ok(&p->session, SESSION_SIZE) || !field_bytes_ok(&p->secret, SECRET_SIZE)) {
        return err_set(err, COROLLA_FORMAT, "malformed CLOSE message");
    }
    memcpy(out->session, p->session.data, SESSION_SIZE);
    memcpy(out->secret, p->secret.data, SECRET_SIZE);
    return COROLLA_OK;
}

size_t msg_drain_encode(const struct msg_drain *m, uint8_t *out) {
    Corolla__Drain p = COROLLA__DRAIN__INIT;
    p.leaving = m->leaving;
    return field_pack(&p.base, out);
}

enum corolla_status msg_drain_decode(const uint8_t *in, size_t size, struct msg_drain *out, struct corolla_error *err) {
    struct arena arena;
    arena_init(&arena);
    const Corolla__Drain *p = size <= MSG_HEADER_MAX ? corolla__drain__unpack(&arena.allocator, size, in) : NULL;
    if (p == NULL) {
        return err_set(err, COROLLA_FORMAT, "malformed DRAIN message");
    }
    out->leaving = p->leaving != 0;
    return COROLLA_OK;
}

size_t msg_sync_encode(const struct msg_sync *m, uint8_t *out) {
    Corolla__Sync p = COROLLA__SYNC__INIT;
    Corolla__NodeId upstream;
    p.session = field_bytes_put(m->session, SESSION_SIZE);
    p.secret = field_bytes_put(m->secret, SECRET_SIZE);
    p.epoch = m->epoch;
    if (m->has_upstream) {
        field_node_id_put(&m->upstream, &upstream);
        p.upstream = &upstream;
    }
    return field_pack(&p.base, out);
}

enum corolla_status msg_sync_decode(const uint8_t *in, size_t size, struct msg_sync *out, struct corolla_error *err) {
    struct arena arena;
    arena_init(&arena);
    const Corolla__Sync *p = size <= MSG_HEADER_MAX ? corolla__sync__unpack(&arena.allocator, size, in) : NULL;
    if (p == NULL || !field_bytes_ok(&p->session, SESSION_SIZE) || !field_bytes_ok(&p->secret, SECRET_SIZE) ||
        (p->upstream != NULL && !field_node_id_ok(p->upstream))) {
        return err_set(err, COROLLA_FORMAT, "malformed SYNC message");
    }
    memcpy(out->session, p->session.data, SESSION_SIZE);
    memcpy(out->secret, p->secret.data, SECRET_SIZE);
    out->epoch = p->epoch;
    out->has_upstream = p->upstream != NULL;
    if (out->has_upstream) {
        field_node_id_get(p->upstream, &out->upstream);
    }
    return COROLLA_OK;
}

size_t msg_synced_encode(const struct msg_synced *m, uint8_t *out) {
    Corolla__Synced p = COROLLA__SYNCED__INIT;
    p.session = field_bytes_put(m->session, SESSION_SIZE);
    p.epoch = m->epoch;
    p.length = m->length;
    p.kept = m->kept;
    p.computed_epoch = m->computed_epoch;
    return field_pack(&p.base, out);
}

enum corolla_status msg_synced_decode(const uint8_t *in, size_t size, struct msg_synced *out, struct corolla_error *err) {
    struct arena arena;
    arena_init(&arena);
    const Corolla__Synced *p = size <= MSG_HEADER_MAX ? corolla__synced__unpack(&arena.allocator, size, in) : NULL;
    if (p == NULL || !field_bytes_ok(&p->session, SESSION_SIZE)) {
        return err_set(err, COROLLA_FORMAT, "malformed SYNCED message");
    }
    memcpy(out->session, p->session.data, SESSION_SIZE);
    out->epoch = p->epoch;
    out->length = p->length;
    out->kept = p->kept;
    out->computed_epoch = p->computed_epoch;
    return COROLLA_OK;
}
