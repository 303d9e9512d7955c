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
    int64_t kv_dim = (int64_t)h->n_head_kv * h->head_dim;
    bool flash = span_flash(kv->span);
    piece->ctx = ggml_init((struct ggml_init_params){.mem_size = 2 * (size_t)piece->n * ggml_tensor_overhead(), .no_alloc = true});
    if (!piece->ctx) return err_set(err, COROLLA_NOMEM, "out of memory");
    for (uint32_t i = piece->first; i < piece->first + piece->n; i++) {
        kv->k[i] = ggml_new_tensor_2d(piece->ctx, type, kv_dim, kv->capacity);
        kv->v[i] =
            flash ? ggml_new_tensor_2d(piece->ctx, type, kv_dim, kv->capacity) : ggml_new_tensor_2d(piece->ctx, type, kv->capacity, kv_dim);
    }
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

static enum corolla_status make_tensors(struct kv *kv, struct corolla_error *err) {
    struct part *const *parts;
    uint32_t n_parts = span_parts(kv->span, &parts), n = kv->end - kv->begin;
    enum corolla_status status = COROLLA_OK;
    kv->k = calloc(n, sizeof *kv->k);
    kv->v = calloc(n, sizeof *kv->v);
    if (!kv->k || !kv->v) return err_set(err, COROLLA_NOMEM, "out of memory");
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

/* The bytes of n positions within a row, or of n whole rows. */
static size_t size_of(const struct ggml_tensor *t, bool whole_rows, uint32_t n) {
    return whole_rows ? n * t->nb[1] : ggml_row_size(t->type, n);
}

/* Zeros [from, to) of the inner dimension in every row, or the rows [from, to) when they are whole. */
static void zero(struct ggml_tensor *t, bool whole_rows, uint32_t from, uint32_t to) {
    int64_t rows = whole_rows ? 1 : t->ne[1];
    size_t at = size_of(t, whole_rows, from), size = size_of(t, whole_rows, to - from);
    for (int64_t row = 0; row < rows; row++) ggml_backend_tensor_memset(t, 0, (size_t)row * t->nb[1] + at, size);
}

void kv_clean(struct kv *kv, const struct part *part, uint32_t n) {
    for (uint32_t p = 0; p < kv->n_pieces; p++) {
        struct kv_piece *piece = &kv->pieces[p];
        if (piece->part != part || n <= piece->clean) continue;
        for (uint32_t i = piece->first; i < piece->first + piece->n; i++) {
            zero(kv->k[i], true, piece->clean, n);
            zero(kv->v[i], span_flash(kv->span), piece->clean, n);
        }
        piece->clean = n;
    }
}

/* Positions [begin, begin + n) of one tensor: whole rows, or a part of every row. Through the host, whatever the device is. */
static void copy_positions(struct ggml_tensor *to, const struct ggml_tensor *from, bool whole_rows, uint32_t begin, uint32_t n,
                           uint8_t *bounce) {
    size_t at = size_of(from, whole_rows, begin), size = size_of(from, whole_rows, n);
    int64_t rows = whole_rows ? 1 : from->ne[1];
    for (int64_t row = 0; row < rows; row++) {
        ggml_backend_tensor_get(from, bounce, (size_t)row * from->nb[1] + at, size);
        ggml_backend_tensor_set(to, bounce, (size_t)row * to->nb[1] + at, size);
    }
}

enum corolla_status kv_copy(struct kv *to, const struct kv *from, uint32_t begin, uint32_t end, struct corolla_error *err) {
    if (to->span != from->span || to->begin != from->begin || to->end != from->end || begin > to->length || end < begin ||
        end > from->length || end > to->max_tokens)
        return err_set(err, COROLLA_INVALID, "positions %u to %u cannot be copied between these caches", begin, end);
    to->length = begin;
    uint32_t n = end - begin;
    if (n == 0) return COROLLA_OK;
    bool flash = span_flash(to->span);
    size_t k_bytes = size_of(from->k[0], true, n), v_bytes = size_of(from->v[0], flash, n);
    uint8_t *bounce = malloc(k_bytes > v_bytes ? k_bytes : v_bytes);
    if (!bounce) return err_set(err, COROLLA_NOMEM, "out of memory to copy a cache");
    for (uint32_t i = 0; i < from->end - from->begin; i++) {
        copy_positions(to->k[i], from->k[i], true, begin, n, bounce);
        copy_positions(to->v[i], from->v[i], flash, begin, n, bounce);
    }
    free(bounce);
    to->length = end;
    for (uint32_t p = 0; p < to->n_pieces; p++)
        if (to->pieces[p].clean < end) to->pieces[p].clean = end;
    return COROLLA_OK;
}

/* ---- to a file and back ---------------------------------------------------------------------------------------- */

static size_t position_bytes(const struct kv *kv) { return kv->k[0]->nb[1]; } /* of K or V of a block: all have the same */

uint64_t kv_saved_bytes(const struct kv *kv, uint32_t n) { return 2ull * (kv->end - kv->begin) * n * position_bytes(kv); }

/* The first n positions of a tensor and the bytes in which they lie behind each other. */
static void gather(struct ggml_tensor *t, bool whole_rows, uint32_t n, uint8_t *bytes, bool back) {
    size_t size = size_of(t, whole_rows, n);
    int64_t rows = whole_rows ? 1 : t->ne[1];
    for (int64_t row = 0; row < rows; row++) {
        if (back)
            ggml_backend_tensor_set(t, bytes + (size_t)row * size, (size_t)row * t->nb[1], size);
        else
            ggml_backend_tensor_get(t, bytes + (size_t)row * size, (size_t)row * t->nb[1], size);
    }
}

static enum corolla_status stream(const struct kv *kv, uint32_t n, bool back, kv_stream_fn fn, void *user, struct corolla_error *err) {
    size_t size = n * position_bytes(kv);
    uint8_t *bytes = malloc(size + 1);
    if (!bytes) return err_set(err, COROLLA_NOMEM, "out of memory to move a cache");
    bool good = true, flash = span_flash(kv->span);
    for (uint32_t i = 0; i < 2 * (kv->end - kv->begin) && good; i++) {
        struct ggml_tensor *t = i % 2 ? kv->v[i / 2] : kv->k[i / 2];
        bool whole_rows = i % 2 == 0 || flash;
        if (!back) gather(t, whole_rows, n, bytes, false);
        good = fn(user, bytes, size);
        if (back && good) gather(t, whole_rows, n, bytes, true);
    }
    free(bytes);
    return good ? COROLLA_OK : err_set(err, COROLLA_IO, "a cache could not be %s", back ? "read back" : "written");
}

enum corolla_status kv_save(const struct kv *kv, uint32_t n, kv_stream_fn write, void *user, struct corolla_error *err) {
    return stream(kv, n, false, write, user, err);
}

enum corolla_status kv_restore(struct kv *kv, uint32_t n, kv_stream_fn read, void *user, struct corolla_error *err) {
    enum corolla_status status = stream(kv, n, true, read, user, err);
    if (status) return status;
    kv->length = n;
    for (uint32_t p = 0; p < kv->n_pieces; p++)
        if (kv->pieces[p].clean < n) kv->pieces[p].clean = n;
    return COROLLA_OK;
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
    enum corolla_status status = make_tensors(kv, err);
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
    free(kv->k);
    free(kv->v);
    free(kv);
}

uint32_t kv_length(const struct kv *kv) { return kv->length; }
uint32_t kv_max(const struct kv *kv) { return kv->max_tokens; }
uint64_t kv_bytes(const struct kv *kv) { return kv->bytes; }
