/* msg_gossip.c - see msg_gossip.h. Versions travel as three packed lists. */
#include "wire/msg_gossip.h"

#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "wire/arena.h"
#include "wire/field.h"
#include "wire/frame.h"

struct columns { /* what the encoders point protobuf at */
    uint64_t nodes[VERSIONS_MAX], boots[VERSIONS_MAX];
    uint32_t sequences[VERSIONS_MAX];
};

static void columns_put(const struct msg_versions *m, struct columns *columns) {
    assert(m->n <= VERSIONS_MAX);
    for (uint32_t i = 0; i < m->n; i++) {
        columns->nodes[i] = m->versions[i].node;
        columns->boots[i] = m->versions[i].boot;
        columns->sequences[i] = m->versions[i].sequence;
    }
}

/* DIGEST, HAVE and SUSPECT name these fields alike. */
#define VERSIONS_PUT(p, columns, count)                                                                                                    \
    ((p).n_nodes = (p).n_boots = (p).n_sequences = (count), (p).nodes = (columns).nodes, (p).boots = (columns).boots,                      \
     (p).sequences = (columns).sequences)
#define VERSIONS_OK(p, max) ((p)->n_nodes <= (max) && (p)->n_boots == (p)->n_nodes && (p)->n_sequences == (p)->n_nodes)
#define VERSIONS_GET(p, out)                                                                                                               \
    do {                                                                                                                                   \
        (out)->n = (uint32_t)(p)->n_nodes;                                                                                                 \
        for (uint32_t i = 0; i < (out)->n; i++) {                                                                                          \
            (out)->versions[i] = (struct record_version){(p)->nodes[i], (p)->boots[i], (p)->sequences[i]};                                 \
        }                                                                                                                                  \
    } while (0)

size_t msg_digest_encode(const struct msg_digest *m, uint8_t *out) {
    Corolla__Digest p = COROLLA__DIGEST__INIT;
    struct columns columns;
    columns_put(&m->known, &columns);
    VERSIONS_PUT(p, columns, m->known.n);
    p.more = m->more;
    p.leaf = m->leaf;
    p.reply = m->reply;
    p.end = m->end;
    return field_pack(&p.base, out);
}

enum corolla_status msg_digest_decode(const uint8_t *in, size_t size, struct msg_digest *out, struct corolla_error *err) {
    struct arena arena;
    arena_init(&arena);
    const Corolla__Digest *p = size <= MSG_HEADER_MAX ? corolla__digest__unpack(&arena.allocator, size, in) : NULL;
    if (p == NULL || !VERSIONS_OK(p, VERSIONS_MAX)) {
        return err_set(err, COROLLA_FORMAT, "malformed DIGEST message");
    }
    out->more = p->more != 0;
    out->leaf = p->leaf != 0;
    out->reply = p->reply != 0;
    out->end = p->end != 0;
    VERSIONS_GET(p, &out->known);
    return COROLLA_OK;
}

size_t msg_have_encode(const struct msg_versions *m, uint8_t *out) {
    Corolla__Have p = COROLLA__HAVE__INIT;
    struct columns columns;
    columns_put(m, &columns);
    VERSIONS_PUT(p, columns, m->n);
    return field_pack(&p.base, out);
}

enum corolla_status msg_have_decode(const uint8_t *in, size_t size, struct msg_versions *out, struct corolla_error *err) {
    struct arena arena;
    arena_init(&arena);
    const Corolla__Have *p = size <= MSG_HEADER_MAX ? corolla__have__unpack(&arena.allocator, size, in) : NULL;
    if (p == NULL || !VERSIONS_OK(p, VERSIONS_MAX)) {
        return err_set(err, COROLLA_FORMAT, "malformed HAVE message");
    }
    VERSIONS_GET(p, out);
    return COROLLA_OK;
}

size_t msg_suspect_encode(const struct msg_versions *m, uint8_t *out) {
    assert(m->n <= SUSPECTS_MAX);
    Corolla__Suspect p = COROLLA__SUSPECT__INIT;
    struct columns columns;
    columns_put(m, &columns);
    VERSIONS_PUT(p, columns, m->n);
    return field_pack(&p.base, out);
}

enum corolla_status msg_suspect_decode(const uint8_t *in, size_t size, struct msg_versions *out, struct corolla_error *err) {
    struct arena arena;
    arena_init(&arena);
    const Corolla__Suspect *p = size <= MSG_HEADER_MAX ? corolla__suspect__unpack(&arena.allocator, size, in) : NULL;
    if (p == NULL || !VERSIONS_OK(p, SUSPECTS_MAX)) {
        return err_set(err, COROLLA_FORMAT, "malformed SUSPECT message");
    }
    VERSIONS_GET(p, out);
    return COROLLA_OK;
}

size_t msg_want_encode(const struct msg_want *m, uint8_t *out) {
    assert(m->n <= VERSIONS_MAX);
    Corolla__Want p = COROLLA__WANT__INIT;
    p.n_nodes = m->n;
    p.nodes = (uint64_t *)m->nodes;
    return field_pack(&p.base, out);
}

enum corolla_status msg_want_decode(const uint8_t *in, size_t size, struct msg_want *out, struct corolla_error *err) {
    struct arena arena;
    arena_init(&arena);
    const Corolla__Want *p = size <= MSG_HEADER_MAX ? corolla__want__unpack(&arena.allocator, size, in) : NULL;
    if (p == NULL || p->n_nodes > VERSIONS_MAX) {
        return err_set(err, COROLLA_FORMAT, "malformed WANT message");
    }
    out->n = (uint32_t)p->n_nodes;
    if (p->n_nodes > 0) {
        memcpy(out->nodes, p->nodes, p->n_nodes * sizeof(out->nodes[0]));
    }
    return COROLLA_OK;
}

size_t msg_records_encode(const struct msg_records *m, uint8_t *out) {
    assert(m->n <= RECORDS_MAX);
    Corolla__Records p = COROLLA__RECORDS__INIT;
    Corolla__SignedRecord records[RECORDS_MAX], *pointers[RECORDS_MAX];
    for (uint32_t i = 0; i < m->n; i++) {
        assert(m->records[i].size <= RECORD_MAX);
        corolla__signed_record__init(&records[i]);
        records[i].age_ms = m->records[i].age_ms;
        records[i].record = field_bytes_put(m->records[i].bytes, m->records[i].size);
        records[i].signature = field_bytes_put(m->records[i].signature, SIGNATURE_SIZE);
        pointers[i] = &records[i];
    }
    p.n_records = m->n;
    p.records = pointers;
    return field_pack(&p.base, out);
}

static bool records_ok(const Corolla__Records *p) {
    if (p->n_records > RECORDS_MAX) {
        return false;
    }
    for (size_t i = 0; i < p->n_records; i++) {
        const Corolla__SignedRecord *record = p->records[i];
        if (record->record.len == 0 || record->record.len > RECORD_MAX || !field_bytes_ok(&record->signature, SIGNATURE_SIZE)) {
            return false;
        }
    }
    return true;
}

enum corolla_status msg_records_decode(const uint8_t *in, size_t size, struct msg_records *out, struct corolla_error *err) {
    struct arena arena;
    arena_init(&arena);
    const Corolla__Records *p = size <= MSG_HEADER_MAX ? corolla__records__unpack(&arena.allocator, size, in) : NULL;
    if (p == NULL || !records_ok(p)) {
        return err_set(err, COROLLA_FORMAT, "malformed RECORDS message");
    }
    out->n = (uint32_t)p->n_records;
    for (uint32_t i = 0; i < out->n; i++) {
        struct signed_record *to = &out->records[i];
        to->age_ms = p->records[i]->age_ms;
        to->size = (uint32_t)p->records[i]->record.len;
        memcpy(to->bytes, p->records[i]->record.data, to->size);
        memcpy(to->signature, p->records[i]->signature.data, SIGNATURE_SIZE);
    }
    return COROLLA_OK;
}
