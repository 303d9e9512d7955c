/* msg.c - node ids, HELLO and INFO. Sessions and steps are in msg_session.c and msg_step.c. */
#include "wire/msg.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "wire/arena.h"
#include "wire/field.h"
#include "wire/frame.h"

#define WIRES_KNOWN (1u << COROLLA_WIRE_F32 | 1u << COROLLA_WIRE_F16 | 1u << COROLLA_WIRE_BF16)

size_t msg_wire_size(enum corolla_wire wire) {
    switch (wire) {
    case COROLLA_WIRE_F32: return 4;
    case COROLLA_WIRE_F16:
    case COROLLA_WIRE_BF16: return 2;
    }
    return 0;
}

bool msg_kind_has_body(unsigned kind) {
    bool known = (kind > 0 && kind <= MSG_REPLAY) || (kind >= MSG_DIGEST && kind <= MSG_SUSPECT) || kind == MSG_REVOKED;
    return kind == MSG_STEP || kind == MSG_RESULT || !known;
}

bool node_id_equal(const struct node_id *a, const struct node_id *b) {
    return a->instance == b->instance && memcmp(a->key, b->key, KEY_SIZE) == 0;
}

void node_id_format(const struct node_id *id, char out[NODE_ID_TEXT]) {
    hex_encode(id->key, KEY_SIZE, out);
    if (id->instance != 0) {
        snprintf(out + 2 * KEY_SIZE, NODE_ID_TEXT - 2 * KEY_SIZE, "/%u", (unsigned)id->instance);
    }
}

size_t msg_hello_encode(const struct msg_hello *m, uint8_t *out) {
    Corolla__Hello p = COROLLA__HELLO__INIT;
    char agent[NAME_SIZE], *addrs[ADDRS_MAX];
    p.version_min = m->version_min;
    p.version_max = m->version_max;
    p.features = m->features;
    p.instance = m->instance;
    p.boot = m->boot;
    p.agent = field_text_put(m->agent, NAME_SIZE, agent);
    field_addrs_put(m->n_addrs, m->addrs, addrs);
    p.n_addresses = m->n_addrs;
    p.addresses = addrs;
    p.certificate = field_bytes_put(m->certificate.data, m->certificate.size);
    p.invitation = field_bytes_put(m->invitation.data, m->invitation.size);
    p.issued = field_bytes_put(m->issued.data, m->issued.size);
    p.revocations = m->revocations;
    size_t size = field_pack(&p.base, out);
    assert(size <= FRAME_HELLO_MAX);
    return size;
}

enum corolla_status msg_hello_decode(const uint8_t *in, size_t size, struct msg_hello *out, struct corolla_error *err) {
    struct arena arena;
    arena_init(&arena);
    const Corolla__Hello *p = size <= FRAME_HELLO_MAX ? corolla__hello__unpack(&arena.allocator, size, in) : NULL;
    if (p == NULL || p->version_min == 0 || p->version_min > p->version_max || !field_text_ok(p->agent, NAME_SIZE) ||
        !field_addrs_ok(p->n_addresses, p->addresses) || p->certificate.len > SIGNED_MAX || p->invitation.len > SIGNED_MAX ||
        p->issued.len > SIGNED_MAX) {
        return err_set(err, COROLLA_FORMAT, "malformed HELLO");
    }
    out->version_min = p->version_min;
    out->version_max = p->version_max;
    out->features = p->features;
    out->instance = p->instance;
    out->boot = p->boot;
    field_text_get(p->agent, out->agent);
    out->n_addrs = field_addrs_get(p->n_addresses, p->addresses, out->addrs);
    field_signed_get(&p->certificate, &out->certificate);
    field_signed_get(&p->invitation, &out->invitation);
    field_signed_get(&p->issued, &out->issued);
    out->revocations = p->revocations;
    return COROLLA_OK;
}

size_t msg_info_encode(const struct msg_info *m, uint8_t *out) {
    Corolla__Info p = COROLLA__INFO__INIT;
    char model_name[NAME_SIZE], name[NAME_SIZE], version[NAME_SIZE];
    p.model = field_bytes_put(m->model, ID_SIZE);
    p.model_name = field_text_put(m->model_name, NAME_SIZE, model_name);
    p.name = field_text_put(m->name, NAME_SIZE, name);
    p.version = field_text_put(m->version, NAME_SIZE, version);
    p.n_blocks = m->n_blocks;
    p.n_embd = m->n_embd;
    p.begin = m->begin;
    p.end = m->end;
    p.session_tokens_max = m->session_tokens_max;
    p.cache_tokens_left = m->cache_tokens_left;
    p.decode_tokens_per_s = m->decode_tokens_per_s;
    p.prefill_tokens_per_s = m->prefill_tokens_per_s;
    p.exact = m->exact;
    p.arithmetic_class = m->arithmetic_class;
    p.wires = m->wires;
    p.draining = m->draining;
    p.sessions = m->sessions;
    return field_pack(&p.base, out);
}

static bool info_ok(const Corolla__Info *p) {
    return field_bytes_ok(&p->model, ID_SIZE) && field_text_ok(p->model_name, NAME_SIZE) && field_text_ok(p->name, NAME_SIZE) &&
           field_text_ok(p->version, NAME_SIZE) && p->n_blocks > 0 && p->n_blocks <= BLOCKS_MAX && p->n_embd > 0 && p->n_embd <= EMBD_MAX &&
           p->begin < p->end && p->end <= p->n_blocks && field_speed_ok(p->decode_tokens_per_s) &&
           field_speed_ok(p->prefill_tokens_per_s) && (p->wires & 1u << COROLLA_WIRE_F32) != 0;
}

enum corolla_status msg_info_decode(const uint8_t *in, size_t size, struct msg_info *out, struct corolla_error *err) {
    struct arena arena;
    arena_init(&arena);
    const Corolla__Info *p = size <= MSG_HEADER_MAX ? corolla__info__unpack(&arena.allocator, size, in) : NULL;
    if (p == NULL || !info_ok(p)) {
        return err_set(err, COROLLA_FORMAT, "malformed INFO message");
    }
    memcpy(out->model, p->model.data, ID_SIZE);
    field_text_get(p->model_name, out->model_name);
    field_text_get(p->name, out->name);
    field_text_get(p->version, out->version);
    out->n_blocks = p->n_blocks;
    out->n_embd = p->n_embd;
    out->begin = p->begin;
    out->end = p->end;
    out->session_tokens_max = p->session_tokens_max;
    out->cache_tokens_left = p->cache_tokens_left;
    out->decode_tokens_per_s = p->decode_tokens_per_s;
    out->prefill_tokens_per_s = p->prefill_tokens_per_s;
    out->exact = p->exact != 0;
    out->arithmetic_class = p->arithmetic_class;
    out->wires = p->wires & WIRES_KNOWN;
    out->draining = p->draining != 0;
    out->sessions = p->sessions;
    return COROLLA_OK;
}
