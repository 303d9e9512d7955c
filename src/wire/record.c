/* record.c - see record.h. */
#include "wire/record.h"

#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "crypto/digest.h"
#include "wire/arena.h"
#include "wire/field.h"
#include "wire/frame.h"

#define WIRES_KNOWN (1u << COROLLA_WIRE_F32 | 1u << COROLLA_WIRE_F16 | 1u << COROLLA_WIRE_BF16)

uint64_t node_id_digest(const struct node_id *id) {
    uint8_t bytes[KEY_SIZE + 4], hash[DIGEST_SIZE];
    memcpy(bytes, id->key, KEY_SIZE);
    le32_put(bytes + KEY_SIZE, id->instance);
    digest_once(bytes, sizeof(bytes), hash);
    return le64_get(hash);
}

static void put_numbers(const struct record *record, Corolla__Record *p) {
    p->boot = record->boot;
    p->sequence = record->sequence;
    p->state = record->state;
    p->n_blocks = record->n_blocks;
    p->n_embd = record->n_embd;
    p->begin = record->begin;
    p->end = record->end;
    p->decode_block_us = record->decode_block_us;
    p->prefill_block_us = record->prefill_block_us;
    p->cache_tokens_left = record->cache_tokens_left;
    p->session_tokens_max = record->session_tokens_max;
    p->sessions = record->sessions;
    p->queue_us = record->queue_us;
    p->exact = record->exact;
    p->arithmetic_class = record->arithmetic_class;
    p->wires = record->wires;
}

/* Packs p, without its last adapters and then without its last round trips when it is too long. */
static size_t pack_short(Corolla__Record *p, uint8_t out[RECORD_MAX]) {
    size_t size;
    while ((size = protobuf_c_message_get_packed_size(&p->base)) > RECORD_MAX) {
        assert(p->n_rtts + p->n_adapters > 0); /* the rest fits: 830 bytes with the longest texts and a certificate */
        if (p->n_adapters > 0) {
            p->n_adapters--;
        } else {
            p->n_rtts--;
        }
    }
    return protobuf_c_message_pack(&p->base, out);
}

size_t record_encode(const struct record *record, uint8_t out[RECORD_MAX]) {
    assert(record->n_rtts <= RECORD_RTTS_MAX && record->n_adapters <= RECORD_ADAPTERS_MAX);
    assert(record->membership.size <= SIGNED_MAX);
    Corolla__Record p = COROLLA__RECORD__INIT;
    Corolla__RecordRtt rtts[RECORD_RTTS_MAX], *rtt_pointers[RECORD_RTTS_MAX];
    struct field_node_ref node;
    char model_name[NAME_SIZE], name[NAME_SIZE], version[NAME_SIZE], adapters[RECORD_ADAPTERS_MAX][NAME_SIZE];
    char *adapter_pointers[RECORD_ADAPTERS_MAX];
    field_node_ref_put(&record->node, &node);
    p.node = &node.ref;
    p.model = field_bytes_put(record->model, ID_SIZE);
    p.model_name = field_text_put(record->model_name, NAME_SIZE, model_name);
    p.name = field_text_put(record->name, NAME_SIZE, name);
    p.version = field_text_put(record->version, NAME_SIZE, version);
    put_numbers(record, &p);
    for (uint32_t i = 0; i < record->n_rtts; i++) {
        corolla__record_rtt__init(&rtts[i]);
        rtts[i].node = record->rtts[i].node;
        rtts[i].rtt_us = record->rtts[i].rtt_us;
        rtt_pointers[i] = &rtts[i];
    }
    p.n_rtts = record->n_rtts;
    p.rtts = rtt_pointers;
    for (uint32_t i = 0; i < record->n_adapters; i++) {
        adapter_pointers[i] = field_text_put(record->adapters[i], NAME_SIZE, adapters[i]);
    }
    p.n_adapters = record->n_adapters;
    p.adapters = adapter_pointers;
    p.membership = field_bytes_put(record->membership.data, record->membership.size);
    return pack_short(&p, out);
}

static bool adapters_ok(const Corolla__Record *p) {
    bool ok = p->n_adapters <= RECORD_ADAPTERS_MAX;
    for (size_t i = 0; ok && i < p->n_adapters; i++) {
        ok = field_text_ok(p->adapters[i], NAME_SIZE);
    }
    return ok;
}

static bool record_ok(const Corolla__Record *p) {
    return field_node_ref_ok(p->node) && field_bytes_ok(&p->model, ID_SIZE) && field_text_ok(p->model_name, NAME_SIZE) &&
           field_text_ok(p->name, NAME_SIZE) && field_text_ok(p->version, NAME_SIZE) && p->state <= RECORD_LOADING && p->n_blocks > 0 &&
           p->n_blocks <= BLOCKS_MAX && p->n_embd > 0 && p->n_embd <= EMBD_MAX && p->begin < p->end && p->end <= p->n_blocks &&
           field_speed_ok(p->decode_block_us) && field_speed_ok(p->prefill_block_us) && (p->wires & 1u << COROLLA_WIRE_F32) != 0 &&
           p->n_rtts <= RECORD_RTTS_MAX && adapters_ok(p) && p->membership.len <= SIGNED_MAX;
}

static void get_numbers(const Corolla__Record *p, struct record *out) {
    out->boot = p->boot;
    out->sequence = p->sequence;
    out->state = (enum record_state)p->state;
    out->n_blocks = p->n_blocks;
    out->n_embd = p->n_embd;
    out->begin = p->begin;
    out->end = p->end;
    out->decode_block_us = p->decode_block_us;
    out->prefill_block_us = p->prefill_block_us;
    out->cache_tokens_left = p->cache_tokens_left;
    out->session_tokens_max = p->session_tokens_max;
    out->sessions = p->sessions;
    out->queue_us = p->queue_us;
    out->exact = p->exact != 0;
    out->arithmetic_class = p->arithmetic_class;
    out->wires = p->wires & WIRES_KNOWN;
}

enum corolla_status record_decode(const uint8_t *in, size_t size, struct record *out, struct corolla_error *err) {
    struct arena arena;
    arena_init(&arena);
    const Corolla__Record *p = size <= RECORD_MAX ? corolla__record__unpack(&arena.allocator, size, in) : NULL;
    if (p == NULL || !record_ok(p)) {
        return err_set(err, COROLLA_FORMAT, "malformed record");
    }
    field_node_ref_get(p->node, &out->node);
    memcpy(out->model, p->model.data, ID_SIZE);
    field_text_get(p->model_name, out->model_name);
    field_text_get(p->name, out->name);
    field_text_get(p->version, out->version);
    get_numbers(p, out);
    out->n_rtts = (uint32_t)p->n_rtts;
    for (uint32_t i = 0; i < out->n_rtts; i++) {
        out->rtts[i] = (struct record_rtt){.node = p->rtts[i]->node, .rtt_us = p->rtts[i]->rtt_us};
    }
    out->n_adapters = (uint32_t)p->n_adapters;
    for (uint32_t i = 0; i < out->n_adapters; i++) {
        field_text_get(p->adapters[i], out->adapters[i]);
    }
    field_signed_get(&p->membership, &out->membership);
    return COROLLA_OK;
}
