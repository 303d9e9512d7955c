/* msg_step.c - STEP and RESULT. They are encoded and decoded once per hop and token, so nothing here allocates or clears more
 * than it uses: of hops[] and timings[] only the first n entries are written. */
#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "wire/arena.h"
#include "wire/field.h"
#include "wire/frame.h"
#include "wire/msg.h"

/* Timings travel as two packed lists. */
static void timings_put(uint32_t n, const struct hop_timing *timings, uint32_t *queue_us, uint32_t *compute_us) {
    for (uint32_t i = 0; i < n; i++) {
        queue_us[i] = timings[i].queue_us;
        compute_us[i] = timings[i].compute_us;
    }
}

static uint32_t timings_get(size_t n, const uint32_t *queue_us, const uint32_t *compute_us, struct hop_timing *out) {
    for (size_t i = 0; i < n; i++) {
        out[i] = (struct hop_timing){.queue_us = queue_us[i], .compute_us = compute_us[i]};
    }
    return (uint32_t)n;
}

static bool rows_ok(uint32_t position, uint32_t n_tokens, uint32_t n_rows) {
    return n_tokens > 0 && n_tokens <= STEP_TOKENS_MAX && n_rows <= n_tokens && position <= UINT32_MAX - n_tokens;
}

size_t msg_step_encode(const struct msg_step *m, uint8_t *out) {
    assert(m->n_hops + m->n_timings < HOPS_MAX && m->n_hops < HOPS_MAX);
    Corolla__Step p = COROLLA__STEP__INIT;
    Corolla__NodeId client;
    Corolla__StepHop hops[HOPS_MAX], *pointers[HOPS_MAX];
    struct field_node_ref nodes[HOPS_MAX];
    uint32_t queue_us[HOPS_MAX], compute_us[HOPS_MAX];
    for (uint32_t i = 0; i < m->n_hops; i++) {
        corolla__step_hop__init(&hops[i]);
        field_node_ref_put(&m->hops[i].node, &nodes[i]);
        hops[i].node = &nodes[i].ref;
        hops[i].secret = field_bytes_put(m->hops[i].secret, SECRET_SIZE);
        pointers[i] = &hops[i];
    }
    timings_put(m->n_timings, m->timings, queue_us, compute_us);
    field_node_id_put(&m->client, &client);
    p.session = field_bytes_put(m->session, SESSION_SIZE);
    p.secret = field_bytes_put(m->secret, SECRET_SIZE);
    p.epoch = m->epoch;
    p.position = m->position;
    p.n_tokens = m->n_tokens;
    p.n_rows = m->n_rows;
    p.dtype = (Corolla__Wire)m->dtype;
    p.client = &client;
    if (m->has_parent) {
        p.parent = field_bytes_put(m->parent, SESSION_SIZE);
        p.shared = m->shared;
    }
    p.named = m->named;
    p.n_hops = m->n_hops;
    p.hops = pointers;
    p.n_queue_us = p.n_compute_us = m->n_timings;
    p.queue_us = queue_us;
    p.compute_us = compute_us;
    return field_pack(&p.base, out);
}

static bool step_parent_ok(const Corolla__Step *p) {
    if (p->parent.len == 0) {
        return p->shared == 0;
    }
    return field_bytes_ok(&p->parent, SESSION_SIZE) && p->shared <= p->position;
}

static bool step_ok(const Corolla__Step *p) {
    if (!field_bytes_ok(&p->session, SESSION_SIZE) || !field_bytes_ok(&p->secret, SECRET_SIZE) ||
        !rows_ok(p->position, p->n_tokens, p->n_rows) || !field_wire_ok(p->dtype) || !field_node_id_ok(p->client) || !step_parent_ok(p) ||
        p->named > p->position + p->n_tokens) {
        return false;
    }
    /* The hops passed, the receiver and the hops to come are one chain, so the receiver's own timing has room too. */
    if (p->n_queue_us != p->n_compute_us || p->n_hops >= HOPS_MAX || p->n_queue_us >= HOPS_MAX - p->n_hops) {
        return false;
    }
    for (size_t i = 0; i < p->n_hops; i++) {
        if (!field_node_ref_ok(p->hops[i]->node) || !field_bytes_ok(&p->hops[i]->secret, SECRET_SIZE)) {
            return false;
        }
    }
    return true;
}

enum corolla_status msg_step_decode(const uint8_t *in, size_t size, struct msg_step *out, struct corolla_error *err) {
    struct arena arena;
    arena_init(&arena);
    const Corolla__Step *p = size <= MSG_HEADER_MAX ? corolla__step__unpack(&arena.allocator, size, in) : NULL;
    if (p == NULL || !step_ok(p)) {
        return err_set(err, COROLLA_FORMAT, "malformed STEP message");
    }
    memcpy(out->session, p->session.data, SESSION_SIZE);
    memcpy(out->secret, p->secret.data, SECRET_SIZE);
    out->epoch = p->epoch;
    out->position = p->position;
    out->n_tokens = p->n_tokens;
    out->n_rows = p->n_rows;
    out->dtype = (enum corolla_wire)p->dtype;
    field_node_id_get(p->client, &out->client);
    out->has_parent = p->parent.len > 0;
    if (out->has_parent) {
        memcpy(out->parent, p->parent.data, SESSION_SIZE);
    }
    out->shared = p->shared;
    out->named = p->named;
    out->n_hops = (uint32_t)p->n_hops;
    for (size_t i = 0; i < p->n_hops; i++) {
        field_node_ref_get(p->hops[i]->node, &out->hops[i].node);
        memcpy(out->hops[i].secret, p->hops[i]->secret.data, SECRET_SIZE);
    }
    out->n_timings = timings_get(p->n_queue_us, p->queue_us, p->compute_us, out->timings);
    return COROLLA_OK;
}

size_t msg_result_encode(const struct msg_result *m, uint8_t *out) {
    assert(m->n_timings <= HOPS_MAX);
    Corolla__Result p = COROLLA__RESULT__INIT;
    uint32_t queue_us[HOPS_MAX], compute_us[HOPS_MAX];
    timings_put(m->n_timings, m->timings, queue_us, compute_us);
    p.session = field_bytes_put(m->session, SESSION_SIZE);
    p.epoch = m->epoch;
    p.position = m->position;
    p.n_tokens = m->n_tokens;
    p.n_rows = m->n_rows;
    p.dtype = (Corolla__Wire)m->dtype;
    p.n_queue_us = p.n_compute_us = m->n_timings;
    p.queue_us = queue_us;
    p.compute_us = compute_us;
    return field_pack(&p.base, out);
}

enum corolla_status msg_result_decode(const uint8_t *in, size_t size, struct msg_result *out, struct corolla_error *err) {
    struct arena arena;
    arena_init(&arena);
    const Corolla__Result *p = size <= MSG_HEADER_MAX ? corolla__result__unpack(&arena.allocator, size, in) : NULL;
    if (p == NULL || !field_bytes_ok(&p->session, SESSION_SIZE) || !rows_ok(p->position, p->n_tokens, p->n_rows) ||
        !field_wire_ok(p->dtype) || p->n_queue_us != p->n_compute_us || p->n_queue_us > HOPS_MAX) {
        return err_set(err, COROLLA_FORMAT, "malformed RESULT message");
    }
    memcpy(out->session, p->session.data, SESSION_SIZE);
    out->epoch = p->epoch;
    out->position = p->position;
    out->n_tokens = p->n_tokens;
    out->n_rows = p->n_rows;
    out->dtype = (enum corolla_wire)p->dtype;
    out->n_timings = timings_get(p->n_queue_us, p->queue_us, p->compute_us, out->timings);
    return COROLLA_OK;
}
