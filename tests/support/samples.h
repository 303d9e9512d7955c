/* samples.h - one valid message of each kind, usual or as large as its limits allow: for unit tests and for the fuzzers' corpora. */
#ifndef COROLLA_TESTS_SUPPORT_SAMPLES_H
#define COROLLA_TESTS_SUPPORT_SAMPLES_H

#include <stdio.h>
#include <string.h>

#include "wire/frame.h"
#include "wire/msg_gossip.h"

enum sample_size { SAMPLE_USUAL, SAMPLE_LARGEST };

static inline void sample_bytes(uint8_t *out, size_t size, unsigned seed) {
    for (size_t i = 0; i < size; i++) {
        out[i] = (uint8_t)(seed * 31 + i * 7 + 1);
    }
}

static inline void sample_text(char *out, size_t size, const char *usual, enum sample_size how) {
    if (how == SAMPLE_USUAL) {
        snprintf(out, size, "%s", usual);
        return;
    }
    memset(out, 'x', size - 1);
    out[size - 1] = '\0';
}

static inline uint32_t sample_u32(uint32_t usual, enum sample_size how) { return how == SAMPLE_USUAL ? usual : UINT32_MAX; }

static inline struct node_id sample_node_id(unsigned seed, enum sample_size how) {
    struct node_id id = {.instance = sample_u32(seed % 3, how)};
    sample_bytes(id.key, KEY_SIZE, seed);
    return id;
}

static inline uint32_t sample_addrs(char addrs[ADDRS_MAX][ADDR_MAX], enum sample_size how) {
    if (how == SAMPLE_USUAL) {
        snprintf(addrs[0], ADDR_MAX, "192.168.1.20:31330");
        snprintf(addrs[1], ADDR_MAX, "[2001:db8::17]:31330");
        return 2;
    }
    for (unsigned i = 0; i < ADDRS_MAX; i++) {
        memset(addrs[i], 'a', ADDR_MAX);
        snprintf(addrs[i] + ADDR_MAX - 7, 7, ":65535");
    }
    return ADDRS_MAX;
}

static inline struct node_ref sample_node_ref(unsigned seed, enum sample_size how) {
    struct node_ref node = {.id = sample_node_id(seed, how)};
    node.n_addrs = sample_addrs(node.addrs, how);
    return node;
}

/* Of the largest size; what is inside is not checked where it travels. */
static inline struct signed_bytes sample_signed(unsigned seed) {
    struct signed_bytes s = {.size = SIGNED_MAX};
    sample_bytes(s.data, SIGNED_MAX, seed);
    return s;
}

static inline struct msg_hello sample_hello(enum sample_size how) {
    struct msg_hello m = {
        .version_min = 1, .version_max = sample_u32(1, how), .features = how ? UINT64_MAX : 1, .boot = how ? UINT64_MAX : 7};
    m.instance = sample_u32(0, how);
    sample_text(m.agent, NAME_SIZE, "corolla/0.1.0", how);
    m.n_addrs = sample_addrs(m.addrs, how);
    if (how == SAMPLE_LARGEST) {
        m.certificate = sample_signed(20);
        m.invitation = sample_signed(21);
        m.issued = sample_signed(22);
        m.revocations = UINT64_MAX;
    }
    return m;
}

static inline struct msg_info sample_info(enum sample_size how) {
    struct msg_info m = {
        .n_blocks = how ? BLOCKS_MAX : 30, .n_embd = how ? EMBD_MAX : 576, .begin = how ? 0 : 10, .end = how ? BLOCKS_MAX : 20};
    sample_bytes(m.model, ID_SIZE, 1);
    sample_text(m.model_name, NAME_SIZE, "SmolLM2 135M Instruct", how);
    sample_text(m.name, NAME_SIZE,
                "k\xc3\xbc"
                "che",
                how);
    sample_text(m.version, NAME_SIZE, "0.1.0", how);
    m.session_tokens_max = sample_u32(8192, how);
    m.cache_tokens_left = how ? UINT64_MAX : 16384;
    m.decode_tokens_per_s = 41.5f;
    m.prefill_tokens_per_s = 3.0e38f;
    m.exact = true;
    m.arithmetic_class = 0x0123456789abcdefull;
    m.wires = 1u << COROLLA_WIRE_F32 | 1u << COROLLA_WIRE_BF16;
    m.draining = how == SAMPLE_LARGEST;
    m.sessions = sample_u32(3, how);
    return m;
}

static inline struct msg_open sample_open(enum sample_size how) {
    struct msg_open m = {
        .begin = 0, .end = how ? BLOCKS_MAX : 10, .max_tokens = sample_u32(512, how), .has_upstream = how == SAMPLE_LARGEST};
    sample_bytes(m.session, SESSION_SIZE, 2);
    sample_bytes(m.model, ID_SIZE, 1);
    if (m.has_upstream) {
        m.upstream = sample_node_id(3, how);
    }
    m.keep = how == SAMPLE_LARGEST;
    m.dtype = how ? COROLLA_WIRE_BF16 : COROLLA_WIRE_F32;
    m.has_parent = how == SAMPLE_LARGEST;
    if (m.has_parent) {
        sample_bytes(m.parent, SESSION_SIZE, 5);
        sample_bytes(m.parent_secret, SECRET_SIZE, 6);
        m.parent_length = m.max_tokens;
    }
    m.n_prefix = how ? PREFIX_HASHES_MAX : 2;
    for (uint32_t i = 0; i < m.n_prefix; i++) sample_bytes(m.prefix[i], PREFIX_HASH_SIZE, 20 + i);
    return m;
}

static inline struct msg_opened sample_opened(enum sample_size how) {
    struct msg_opened m = {.cache_tokens_left = how ? UINT64_MAX : 15872, .held = sample_u32(128, how)};
    sample_bytes(m.session, SESSION_SIZE, 2);
    sample_bytes(m.secret, SECRET_SIZE, 4);
    return m;
}

static inline uint32_t sample_timings(struct hop_timing *timings, uint32_t n, enum sample_size how) {
    for (uint32_t i = 0; i < n; i++) {
        timings[i] = (struct hop_timing){.queue_us = sample_u32(100 + i, how), .compute_us = sample_u32(2000 + i, how)};
    }
    return n;
}

/* n_hops + n_timings is HOPS_MAX - 1 at most; a struct of 20 KiB, so it is filled in place. */
static inline void sample_step(struct msg_step *m, uint32_t n_hops, uint32_t n_timings, enum sample_size how) {
    memset(m, 0, sizeof(*m));
    sample_bytes(m->session, SESSION_SIZE, 2);
    sample_bytes(m->secret, SECRET_SIZE, 4);
    m->epoch = sample_u32(1, how);
    m->n_tokens = how ? STEP_TOKENS_MAX : 1;
    m->position = how ? UINT32_MAX - STEP_TOKENS_MAX : 130;
    m->n_rows = m->n_tokens;
    m->dtype = how ? COROLLA_WIRE_BF16 : COROLLA_WIRE_F32;
    m->client = sample_node_id(5, how);
    m->has_parent = how;
    if (how) {
        sample_bytes(m->parent, SESSION_SIZE, 3);
        m->shared = m->position;
    }
    m->named = how ? m->position + m->n_tokens : 0;
    m->n_hops = n_hops;
    for (uint32_t i = 0; i < n_hops; i++) {
        m->hops[i].node = sample_node_ref(10 + i, how);
        sample_bytes(m->hops[i].secret, SECRET_SIZE, 200 + i);
    }
    m->n_timings = sample_timings(m->timings, n_timings, how);
}

static inline struct msg_result sample_result(enum sample_size how) {
    struct msg_result m = {.epoch = sample_u32(1, how), .n_tokens = how ? STEP_TOKENS_MAX : 7, .n_rows = how ? STEP_TOKENS_MAX : 1};
    sample_bytes(m.session, SESSION_SIZE, 2);
    m.position = how ? UINT32_MAX - STEP_TOKENS_MAX : 123;
    m.dtype = how ? COROLLA_WIRE_BF16 : COROLLA_WIRE_F32;
    m.n_timings = sample_timings(m.timings, how ? HOPS_MAX : 3, how);
    return m;
}

static inline struct msg_failed sample_failed(enum sample_size how) {
    struct msg_failed m = {
        .epoch = sample_u32(2, how), .position = sample_u32(44, how), .status = how ? COROLLA_INTERNAL : COROLLA_NO_CACHE};
    sample_bytes(m.session, SESSION_SIZE, 2);
    sample_text(m.text, TEXT_SIZE, "no KV cache left: 512 tokens asked, 130 left", how);
    m.retry_after_ms = sample_u32(2000, how);
    m.cache_tokens_left = how ? UINT64_MAX : 130;
    m.has_culprit = how == SAMPLE_LARGEST;
    if (m.has_culprit) {
        m.culprit = sample_node_id(6, how);
    }
    return m;
}

static inline struct msg_close sample_close(void) {
    struct msg_close m;
    sample_bytes(m.session, SESSION_SIZE, 2);
    sample_bytes(m.secret, SECRET_SIZE, 4);
    return m;
}

static inline struct msg_sync sample_sync(enum sample_size how) {
    struct msg_sync m = {.epoch = sample_u32(3, how), .has_upstream = how == SAMPLE_LARGEST};
    sample_bytes(m.session, SESSION_SIZE, 2);
    sample_bytes(m.secret, SECRET_SIZE, 4);
    if (m.has_upstream) {
        m.upstream = sample_node_id(3, how);
    }
    return m;
}

static inline struct msg_synced sample_synced(enum sample_size how) {
    struct msg_synced m = {.epoch = sample_u32(3, how), .length = sample_u32(130, how), .kept = sample_u32(128, how)};
    sample_bytes(m.session, SESSION_SIZE, 2);
    m.computed_epoch = sample_u32(2, how);
    return m;
}

static inline struct record sample_record(enum sample_size how) {
    struct record m = {.boot = how ? UINT64_MAX : 7, .n_blocks = how ? BLOCKS_MAX : 30, .n_embd = how ? EMBD_MAX : 576};
    m.node = sample_node_ref(4, how);
    m.sequence = sample_u32(12, how);
    m.state = how ? RECORD_OFFLINE : RECORD_ONLINE;
    sample_bytes(m.model, ID_SIZE, 1);
    sample_text(m.model_name, NAME_SIZE, "SmolLM2 135M Instruct", how);
    sample_text(m.name, NAME_SIZE, "kitchen", how);
    sample_text(m.version, NAME_SIZE, "0.1.0", how);
    m.begin = how ? 0 : 10;
    m.end = how ? BLOCKS_MAX : 20;
    m.decode_block_us = how ? 3.0e38f : 812.5f;
    m.prefill_block_us = 60.25f;
    m.cache_tokens_left = how ? UINT64_MAX : 16384;
    m.session_tokens_max = sample_u32(8192, how);
    m.sessions = sample_u32(3, how);
    m.queue_us = sample_u32(450, how);
    m.exact = true;
    m.arithmetic_class = 0x0123456789abcdefull;
    m.wires = 1u << COROLLA_WIRE_F32 | 1u << COROLLA_WIRE_BF16;
    m.n_rtts = how ? RECORD_RTTS_MAX : 2;
    for (uint32_t i = 0; i < m.n_rtts; i++) {
        m.rtts[i] = (struct record_rtt){UINT64_MAX - i, sample_u32(21000 + i, how)};
    }
    m.n_adapters = how ? RECORD_ADAPTERS_MAX : 1;
    for (uint32_t i = 0; i < m.n_adapters; i++) {
        sample_text(m.adapters[i], NAME_SIZE, "german-law", how);
    }
    if (how == SAMPLE_LARGEST) {
        m.membership = sample_signed(23);
    }
    return m;
}

static inline void sample_versions(struct msg_versions *m, uint32_t n, enum sample_size how) {
    m->n = n;
    for (uint32_t i = 0; i < n; i++) {
        m->versions[i] = (struct record_version){UINT64_MAX - i, how ? UINT64_MAX : 3, sample_u32(1000 + i, how)};
    }
}

/* As many as fit a message. */
static inline void sample_records(struct msg_records *m, uint32_t n, enum sample_size how) {
    struct record record = sample_record(how);
    m->n = n;
    for (uint32_t i = 0; i < n; i++) {
        m->records[i].age_ms = sample_u32(5000 + i, how);
        m->records[i].size = (uint32_t)record_encode(&record, m->records[i].bytes);
        sample_bytes(m->records[i].signature, SIGNATURE_SIZE, i);
    }
}

#endif
