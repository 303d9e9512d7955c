/* kv.c - see kv.h. */
#include "model/kv.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"
#include "model/part.h"

uint32_t kv_window(uint32_t positions) { return (positions + KV_PAD - 1) / KV_PAD * KV_PAD; }

int kv_ggml_type(enum corolla_kv type) {
    static const int types[] = {[COROLLA_KV_F16] = GGML_TYPE_F16, [COROLLA_KV_F32] = GGML_TYPE_F32, [COROLLA_KV_Q8_0] = GGML_TYPE_Q8_0};
    return types[type];
}

uint64_t span_kv_bytes(const struct hparams *h, uint32_t n_blocks, enum corolla_kv type, uint64_t tokens) {
    uint64_t row = 2 * ggml_row_size((enum ggml_type)kv_ggml_type(type), (int64_t)h->n_head_kv * h->head_dim);
    return (tokens + KV_PAD - 1) / KV_PAD * KV_PAD * row * n_blocks;
}

static enum corolla_status make_piece(struct kv *kv, struct kv_piece *piece, struct corolla_error *err) {
    const struct hparams *h = span_hparams(kv->span);
    enum ggml_type type = (enum ggml_type)kv_ggml_type(span_kv_type(kv->span));
    int64_t kv_dim = (int64_t)h->n_head_kv * h->head_dim, n = kv->capacity;
    bool rows = part_attending(piece->part) != ATTENDING_PLAIN;
    piece->ctx = ggml_init((struct ggml_init_params){.mem_size = 2 * ggml_tensor_overhead(), .no_alloc = true});
    if (!piece->ctx) return err_set(err, COROLLA_NOMEM, "out of memory");
    piece->k = ggml_new_tensor_3d(piece->ctx, type, kv_dim, n, piece->n);
    piece->v = rows ? ggml_new_tensor_3d(piece->ctx, type, kv_dim, n, piece->n) : ggml_new_tensor_3d(piece->ctx, type, n, kv_dim, piece->n);
    piece->buffer = ggml_backend_alloc_ctx_tensors(piece->ctx, engine_backend(part_engine(piece->part)));
    if (!piece->buffer)
        return err_set(err, COROLLA_NO_CACHE, "the device has no memory for a KV cache of %llu bytes", (unsigned long long)kv->bytes);
    /* Another session's rows must not be seen, and masked values must be finite. The host's memory is cleaned as the session grows:
     * opening one costs nothing, and what it never fills stays untouched. */
    if (!ggml_backend_buffer_is_host(piece->buffer)) {
        ggml_backend_buffer_clear(piece->buffer, 0);
        piece->clean = kv->capacity;
    }
    return COROLLA_OK;
}

static enum corolla_status make_pieces(struct kv *kv, struct corolla_error *err) {
    struct part *const *parts;
    uint32_t n_parts = span_parts(kv->span, &parts);
    enum corolla_status status = COROLLA_OK;
    for (uint32_t i = 0; i < n_parts && !status; i++) {
        uint32_t begin = part_begin(parts[i]) > kv->begin ? part_begin(parts[i]) : kv->begin;
        uint32_t end = part_end(parts[i]) < kv->end ? part_end(parts[i]) : kv->end;
        if (begin >= end) continue;
        struct kv_piece *piece = &kv->pieces[kv->n_pieces++];
        *piece = (struct kv_piece){.part = parts[i], .first = begin - kv->begin, .n = end - begin};
        status = make_piece(kv, piece, err);
    }
    return status;
}

const struct kv_piece *kv_piece_on(const struct kv *kv, const struct part *part) {
    uint32_t p = 0;
    while (kv->pieces[p].part != part) p++;
    return &kv->pieces[p];
}

/* ---- positions of one matrix: K or V of a block ---------------------------------------------------------------- */

struct matrix {
    struct ggml_tensor *t;
    size_t at;       /* where in the tensor */
    bool whole_rows; /* a position is a row; else a number of every row */
};

/* Matrix i of a cache: K and V of its first block, and so on. */
static struct matrix matrix_of(const struct kv *kv, uint32_t i) {
    uint32_t block = i / 2, p = 0;
    while (block >= kv->pieces[p].first + kv->pieces[p].n) p++;
    const struct kv_piece *piece = &kv->pieces[p];
    struct ggml_tensor *t = i % 2 ? piece->v : piece->k;
    return (struct matrix){t, (block - piece->first) * t->nb[2], i % 2 == 0 || part_attending(piece->part) != ATTENDING_PLAIN};
}

static uint32_t n_matrices(const struct kv *kv) { return 2 * (kv->end - kv->begin); }

/* The bytes of n positions within a row, or of n whole rows. */
static size_t size_of(const struct matrix *m, uint32_t n) { return m->whole_rows ? n * m->t->nb[1] : ggml_row_size(m->t->type, n); }

static int64_t rows_of(const struct matrix *m) { return m->whole_rows ? 1 : m->t->ne[1]; }

/* Positions [begin, begin + n), gathered in bytes, or from there. Through the host, whatever the device is. */
static void get_positions(const struct matrix *m, uint32_t begin, uint32_t n, uint8_t *bytes) {
    size_t at = m->at + size_of(m, begin), size = size_of(m, n);
    for (int64_t row = 0; row < rows_of(m); row++)
        ggml_backend_tensor_get(m->t, bytes + (size_t)row * size, at + (size_t)row * m->t->nb[1], size);
}

static void set_positions(const struct matrix *m, uint32_t begin, uint32_t n, const uint8_t *bytes) {
    size_t at = m->at + size_of(m, begin), size = size_of(m, n);
    for (int64_t row = 0; row < rows_of(m); row++)
        ggml_backend_tensor_set(m->t, bytes + (size_t)row * size, at + (size_t)row * m->t->nb[1], size);
}

static void clean_positions(const struct matrix *m, uint32_t begin, uint32_t end) {
    size_t at = m->at + size_of(m, begin), size = size_of(m, end - begin);
    for (int64_t row = 0; row < rows_of(m); row++) ggml_backend_tensor_memset(m->t, 0, at + (size_t)row * m->t->nb[1], size);
}

void kv_clean(struct kv *kv, const struct part *part, uint32_t n) {
    for (uint32_t p = 0; p < kv->n_pieces; p++) {
        struct kv_piece *piece = &kv->pieces[p];
        if (piece->part != part || n <= piece->clean) continue;
        for (uint32_t i = 2 * piece->first; i < 2 * (piece->first + piece->n); i++) {
            struct matrix m = matrix_of(kv, i);
            clean_positions(&m, piece->clean, n);
        }
        piece->clean = n;
    }
}

/* ---- copies ---------------------------------------------------------------------------------------------------- */

static size_t position_bytes(const struct kv *kv) { return kv->pieces[0].k->nb[1]; } /* of K or V of a block: all have the same */

static void set_length(struct kv *kv, uint32_t n) {
    kv->length = n;
    for (uint32_t p = 0; p < kv->n_pieces; p++)
        if (kv->pieces[p].clean < n) kv->pieces[p].clean = n;
}

enum corolla_status kv_copy(struct kv *to, const struct kv *from, uint32_t begin, uint32_t end, struct corolla_error *err) {
    if (to->span != from->span || to->begin != from->begin || to->end != from->end || begin > to->length || end < begin ||
        end > from->length || end > to->max_tokens)
        return err_set(err, COROLLA_INVALID, "positions %u to %u cannot be copied between these caches", begin, end);
    to->length = begin;
    uint8_t *bytes = malloc((end - begin) * position_bytes(from) + 1);
    if (!bytes) return err_set(err, COROLLA_NOMEM, "out of memory to copy a cache");
    for (uint32_t i = 0; i < n_matrices(from) && end > begin; i++) {
        struct matrix source = matrix_of(from, i), target = matrix_of(to, i);
        get_positions(&source, begin, end - begin, bytes);
        set_positions(&target, begin, end - begin, bytes);
    }
    free(bytes);
    set_length(to, end);
    return COROLLA_OK;
}

uint64_t kv_saved_bytes(const struct kv *kv, uint32_t n) { return (uint64_t)n_matrices(kv) * n * position_bytes(kv); }

static enum corolla_status stream(const struct kv *kv, uint32_t n, bool back, kv_stream_fn fn, void *user, struct corolla_error *err) {
    size_t size = n * position_bytes(kv);
    uint8_t *bytes = malloc(size + 1);
    if (!bytes) return err_set(err, COROLLA_NOMEM, "out of memory to move a cache");
    bool good = true;
    for (uint32_t i = 0; i < n_matrices(kv) && good; i++) {
        struct matrix m = matrix_of(kv, i);
        if (!back) get_positions(&m, 0, n, bytes);
        good = fn(user, bytes, size);
        if (back && good) set_positions(&m, 0, n, bytes);
    }
    free(bytes);
    return good ? COROLLA_OK : err_set(err, COROLLA_IO, "a cache could not be %s", back ? "read back" : "written");
}

enum corolla_status kv_save(const struct kv *kv, uint32_t n, kv_stream_fn write, void *user, struct corolla_error *err) {
    return stream(kv, n, false, write, user, err);
}

enum corolla_status kv_restore(struct kv *kv, uint32_t n, kv_stream_fn read, void *user, struct corolla_error *err) {
    enum corolla_status status = stream(kv, n, true, read, user, err);
    if (!status) set_length(kv, n);
    return status;
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

enum corolla_status kv_allocate(struct kv **out, struct span *span, uint32_t begin, uint32_t end, uint32_t max_tokens,
                                struct corolla_error *err) {
    static uint64_t serial;
    struct kv *kv = calloc(1, sizeof *kv);
    if (!kv) return err_set(err, COROLLA_NOMEM, "out of memory");
    *kv = (struct kv){.span = span, .begin = begin, .end = end, .max_tokens = max_tokens, .capacity = kv_window(max_tokens)};
    kv->serial = __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED);
    kv->bytes = span_kv_bytes(span_hparams(span), end - begin, span_kv_type(span), max_tokens);
    enum corolla_status status = make_pieces(kv, err);
    if (status)
        kv_release(kv);
    else
        *out = kv;
    return status;
}

void kv_release(struct kv *kv) {
    if (!kv) return;
    for (uint32_t i = 0; i < kv->n_pieces; i++) {
        ggml_backend_buffer_free(kv->pieces[i].buffer);
        ggml_free(kv->pieces[i].ctx);
    }
    free(kv);
}

uint32_t kv_length(const struct kv *kv) { return kv->length; }
uint32_t kv_max(const struct kv *kv) { return kv->max_tokens; }
uint64_t kv_bytes(const struct kv *kv) { return kv->bytes; }
