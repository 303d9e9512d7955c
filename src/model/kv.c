/* kv.c - see kv.h. */
#include "model/kv.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"

uint32_t kv_window(uint32_t positions) { return (positions + KV_PAD - 1) / KV_PAD * KV_PAD; }
int kv_ggml_type(enum corolla_kv type) { return type == COROLLA_KV_F32 ? GGML_TYPE_F32 : GGML_TYPE_F16; }

uint64_t span_kv_bytes(const struct hparams *h, uint32_t n_blocks, enum corolla_kv type, uint64_t tokens) {
    uint64_t row = 2ull * h->n_head_kv * h->head_dim * ggml_type_size((enum ggml_type)kv_ggml_type(type));
    return (tokens + KV_PAD - 1) / KV_PAD * KV_PAD * row * n_blocks;
}

static enum corolla_status make_tensors(struct kv *kv, enum ggml_type type, int64_t kv_dim, struct corolla_error *err) {
    uint32_t n = kv->end - kv->begin;
    bool flash = engine_fast(span_engine(kv->span));
    kv->k = calloc(n, sizeof *kv->k);
    kv->v = calloc(n, sizeof *kv->v);
    kv->ctx = ggml_init((struct ggml_init_params){.mem_size = 2 * (size_t)n * ggml_tensor_overhead(), .no_alloc = true});
    if (!kv->k || !kv->v || !kv->ctx) return err_set(err, COROLLA_NOMEM, "out of memory");
    for (uint32_t i = 0; i < n; i++) {
        kv->k[i] = ggml_new_tensor_2d(kv->ctx, type, kv_dim, kv->capacity);
        kv->v[i] =
            flash ? ggml_new_tensor_2d(kv->ctx, type, kv_dim, kv->capacity) : ggml_new_tensor_2d(kv->ctx, type, kv->capacity, kv_dim);
    }
    kv->buffer = ggml_backend_alloc_ctx_tensors(kv->ctx, engine_backend(span_engine(kv->span)));
    if (!kv->buffer)
        return err_set(err, COROLLA_NO_CACHE, "the device has no memory for a KV cache of %llu bytes", (unsigned long long)kv->bytes);
    /* Another session's rows must not be seen, and masked values must be finite. The host's memory is cleaned as the session grows:
     * opening one costs nothing, and what it never fills stays untouched. */
    if (!ggml_backend_buffer_is_host(kv->buffer)) {
        ggml_backend_buffer_clear(kv->buffer, 0);
        kv->clean = kv->capacity;
    }
    return COROLLA_OK;
}

/* Zeros [from, to) of the inner dimension in every row, or the rows [from, to) when they are whole. */
static void zero(struct ggml_tensor *t, bool whole_rows, uint32_t from, uint32_t to) {
    size_t size = ggml_type_size(t->type);
    if (whole_rows) {
        ggml_backend_tensor_memset(t, 0, from * t->nb[1], (to - from) * t->nb[1]);
        return;
    }
    for (int64_t row = 0; row < t->ne[1]; row++) ggml_backend_tensor_memset(t, 0, (size_t)row * t->nb[1] + from * size, (to - from) * size);
}

void kv_clean(struct kv *kv, uint32_t n) {
    bool flash = engine_fast(span_engine(kv->span));
    if (n <= kv->clean) return;
    for (uint32_t i = 0; i < kv->end - kv->begin; i++) {
        zero(kv->k[i], true, kv->clean, n);
        zero(kv->v[i], flash, kv->clean, n);
    }
    kv->clean = n;
}

/* Positions [begin, begin + n) of one tensor: whole rows, or a part of every row. Through the host, whatever the device is. */
static void copy_positions(struct ggml_tensor *to, const struct ggml_tensor *from, bool whole_rows, uint32_t begin, uint32_t n,
                           uint8_t *bounce) {
    size_t unit = whole_rows ? from->nb[1] : ggml_type_size(from->type), at = begin * unit, size = n * unit;
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
    bool flash = engine_fast(span_engine(to->span));
    size_t k_bytes = n * from->k[0]->nb[1], v_bytes = flash ? k_bytes : n * ggml_type_size(from->v[0]->type);
    uint8_t *bounce = malloc(k_bytes > v_bytes ? k_bytes : v_bytes);
    if (!bounce) return err_set(err, COROLLA_NOMEM, "out of memory to copy a cache");
    for (uint32_t i = 0; i < from->end - from->begin; i++) {
        copy_positions(to->k[i], from->k[i], true, begin, n, bounce);
        copy_positions(to->v[i], from->v[i], flash, begin, n, bounce);
    }
    free(bounce);
    to->length = end;
    if (to->clean < end) to->clean = end;
    return COROLLA_OK;
}

enum corolla_status kv_allocate(struct kv **out, struct span *span, uint32_t begin, uint32_t end, uint32_t max_tokens,
                                struct corolla_error *err) {
    static uint64_t serial;
    const struct hparams *h = span_hparams(span);
    struct kv *kv = calloc(1, sizeof *kv);
    if (!kv) return err_set(err, COROLLA_NOMEM, "out of memory");
    *kv = (struct kv){.span = span, .begin = begin, .end = end, .max_tokens = max_tokens, .capacity = kv_window(max_tokens)};
    kv->serial = __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED);
    kv->bytes = span_kv_bytes(h, end - begin, span_kv_type(span), max_tokens);
    enum corolla_status status =
        make_tensors(kv, (enum ggml_type)kv_ggml_type(span_kv_type(span)), (int64_t)h->n_head_kv * h->head_dim, err);
    if (status)
        kv_release(kv);
    else
        *out = kv;
    return status;
}

void kv_release(struct kv *kv) {
    if (!kv) return;
    ggml_backend_buffer_free(kv->buffer);
    ggml_free(kv->ctx);
    free(kv->k);
    free(kv->v);
    free(kv);
}

uint32_t kv_length(const struct kv *kv) { return kv->length; }
uint32_t kv_max(const struct kv *kv) { return kv->max_tokens; }
