/* span.c - see span.h. */
#include "model/span.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "ggml-backend.h"
#include "ggml.h"
#include "model/kv.h"
#include "model/plan.h"
#include "model/proof.h"
#include "model/weights.h"

#define PROOF_POSITIONS 70 /* of the self-proof: past every tile in ggml's kernels (up to 64 rows) */
#define PROOF_SINGLES 12   /* of them computed one at a time */

struct span {
    struct engine *engine;
    const struct model_file *file;
    const struct hparams *hparams;
    uint32_t begin, end;
    enum corolla_kv kv_type;
    uint64_t kv_budget, kv_used; /* bytes; kv_used is atomic: sessions open and close while others compute */
    struct weights *weights;
    struct block_weights *blocks; /* [end - begin] */
    struct ggml_tensor *rope_freqs;
    struct plan *plan;
    bool exact;
    struct {              /* where inputs are made, BATCH_ROWS_MAX rows */
        int64_t *index;   /* [rows * kv_dim] */
        uint16_t *mask;   /* [rows * window], grown with the window */
        size_t mask_size; /* elements */
        int32_t position[BATCH_ROWS_MAX];
    } scratch;
};

uint32_t span_begin(const struct span *s) { return s->begin; }
uint32_t span_end(const struct span *s) { return s->end; }
bool span_exact(const struct span *s) { return s->exact; }
const struct hparams *span_hparams(const struct span *s) { return s->hparams; }
struct engine *span_engine(const struct span *s) {
    return s->engine;
}
enum corolla_kv span_kv_type(const struct span *s) { return s->kv_type; }

/* Which kernel a weight type gets follows from the engine's class, since every node of a class proves the same; so the class
 * and the KV type name the arithmetic, whatever blocks a server holds. */
uint64_t span_arithmetic_class(const struct span *s) { return engine_class(s->engine) ^ ((uint64_t)s->kv_type * 0x9e3779b97f4a7c15ull); }

/* ---- KV budget ------------------------------------------------------------------------------------------------- */

uint64_t span_kv_tokens_left(const struct span *s) {
    uint64_t used = __atomic_load_n(&s->kv_used, __ATOMIC_RELAXED), pad = span_kv_bytes(s->hparams, s->end - s->begin, s->kv_type, KV_PAD);
    return used >= s->kv_budget ? 0 : (s->kv_budget - used) / pad * KV_PAD;
}

enum corolla_status kv_open(struct kv **out, struct span *s, uint32_t begin, uint32_t end, uint32_t max_tokens, struct corolla_error *err) {
    if (begin < s->begin || end > s->end || begin >= end)
        return err_set(err, COROLLA_NOT_SERVED, "blocks %u:%u are not served here, %u:%u are", begin, end, s->begin, s->end);
    if (max_tokens == 0 || max_tokens > 1u << 30) return err_set(err, COROLLA_INVALID, "a session of %u tokens is impossible", max_tokens);
    uint64_t bytes = span_kv_bytes(s->hparams, end - begin, s->kv_type, max_tokens);
    if (__atomic_add_fetch(&s->kv_used, bytes, __ATOMIC_RELAXED) > s->kv_budget) {
        __atomic_sub_fetch(&s->kv_used, bytes, __ATOMIC_RELAXED);
        return err_set(err, COROLLA_NO_CACHE, "no KV cache for %u tokens: %llu are left; ask for a shorter session or come back later",
                       max_tokens, (unsigned long long)span_kv_tokens_left(s));
    }
    enum corolla_status status = kv_allocate(out, s, begin, end, max_tokens, err);
    if (status) __atomic_sub_fetch(&s->kv_used, bytes, __ATOMIC_RELAXED);
    return status;
}

void kv_close(struct kv *kv) {
    if (!kv) return;
    __atomic_sub_fetch(&kv->span->kv_used, kv->bytes, __ATOMIC_RELAXED);
    kv_release(kv);
}

/* ---- computing ------------------------------------------------------------------------------------------------- */

static enum corolla_status check_batch(const struct batch_item *items, uint32_t n_items, struct corolla_error *err) {
    uint32_t rows = 0;
    if (n_items == 0 || n_items > BATCH_ITEMS_MAX) return err_set(err, COROLLA_INVALID, "a batch of %u items", n_items);
    for (uint32_t i = 0; i < n_items; i++) {
        const struct batch_item *it = &items[i];
        if (it->n == 0 || it->n > BATCH_ROWS_MAX - rows) return err_set(err, COROLLA_INVALID, "a batch has 1 to %d rows", BATCH_ROWS_MAX);
        rows += it->n;
        if (it->position > it->kv->length)
            return err_set(err, COROLLA_BAD_POSITION, "a step at position %u, but the session has %u", it->position, it->kv->length);
        if (it->position > it->kv->max_tokens || it->n > it->kv->max_tokens - it->position)
            return err_set(err, COROLLA_TOO_LONG, "%u tokens at position %u do not fit a session of %u", it->n, it->position,
                           it->kv->max_tokens);
        if (it->kv->begin != items[0].kv->begin || it->kv->end != items[0].kv->end)
            return err_set(err, COROLLA_INVALID, "the items of a batch use different blocks");
        for (uint32_t j = 0; j < i; j++)
            if (items[j].kv == it->kv) return err_set(err, COROLLA_INVALID, "a session stands twice in a batch");
    }
    return COROLLA_OK;
}

static enum corolla_status reserve_mask(struct span *s, size_t size, struct corolla_error *err) {
    if (size <= s->scratch.mask_size) return COROLLA_OK;
    uint16_t *mask = realloc(s->scratch.mask, size * sizeof *mask);
    if (!mask) return err_set(err, COROLLA_NOMEM, "out of memory");
    s->scratch.mask = mask;
    s->scratch.mask_size = size;
    return COROLLA_OK;
}

/* 0 where row i sees a position, minus infinity elsewhere: what is behind the row, and what left its sliding window. */
static void fill_mask(const struct hparams *h, const struct batch_item *it, uint32_t window, uint16_t *mask) {
    const uint16_t hidden = ggml_fp32_to_fp16(-INFINITY);
    for (uint32_t i = 0; i < it->n; i++) {
        uint32_t position = it->position + i, first = h->n_window && position >= h->n_window ? position + 1 - h->n_window : 0;
        for (uint32_t j = 0; j < window; j++) mask[(size_t)i * window + j] = j >= first && j <= position ? 0 : hidden;
    }
}

static enum corolla_status set_item(struct span *s, const struct batch_item *it, const struct graph_item *g, struct corolla_error *err) {
    uint32_t kv_dim = s->hparams->n_head_kv * s->hparams->head_dim;
    int64_t *index = s->scratch.index;
    for (uint32_t i = 0; i < it->n; i++) index[i] = it->position + i;
    ggml_backend_tensor_set(g->k_index, index, 0, it->n * sizeof *index);
    if (g->v_index) {
        for (uint32_t i = 0; i < it->n; i++)
            for (uint32_t d = 0; d < kv_dim; d++) index[(size_t)i * kv_dim + d] = (int64_t)d * it->kv->capacity + it->position + i;
        ggml_backend_tensor_set(g->v_index, index, 0, (size_t)it->n * kv_dim * sizeof *index);
    }
    size_t n_mask = (size_t)it->n * g->window;
    enum corolla_status status = reserve_mask(s, n_mask, err);
    if (status) return status;
    fill_mask(s->hparams, it, g->window, s->scratch.mask);
    ggml_backend_tensor_set(g->mask, s->scratch.mask, 0, n_mask * sizeof *s->scratch.mask);
    return COROLLA_OK;
}

static enum corolla_status run(struct span *s, struct graph *g, const struct batch_item *items, struct corolla_error *err) {
    size_t row = s->hparams->n_embd * sizeof(float), at = 0;
    for (uint32_t i = 0; i < g->n_items; i++) {
        kv_clean(items[i].kv, g->items[i].window);
        enum corolla_status status = set_item(s, &items[i], &g->items[i], err);
        if (status) return status;
        for (uint32_t j = 0; j < items[i].n; j++) s->scratch.position[at + j] = (int32_t)(items[i].position + j);
        ggml_backend_tensor_set(g->in, items[i].in, at * row, items[i].n * row);
        at += items[i].n;
    }
    ggml_backend_tensor_set(g->position, s->scratch.position, 0, g->n_rows * sizeof(int32_t));
    for (uint32_t i = 0; i < g->n_items; i++) items[i].kv->length = items[i].position; /* what follows is overwritten from here on */
    enum corolla_status status = engine_compute(s->engine, g->cgraph, err);
    at = 0;
    for (uint32_t i = 0; i < g->n_items && !status; i++) {
        ggml_backend_tensor_get(g->out, items[i].out, at * row, items[i].n * row);
        at += items[i].n;
        items[i].kv->length = items[i].position + items[i].n;
    }
    return status;
}

enum corolla_status span_forward(struct span *s, const struct batch_item *items, uint32_t n_items, struct corolla_error *err) {
    enum corolla_status status = check_batch(items, n_items, err);
    if (status) return status;
    struct graph_item shapes[BATCH_ITEMS_MAX];
    struct graph *graph;
    for (uint32_t i = 0; i < n_items; i++)
        shapes[i] = (struct graph_item){.kv = items[i].kv, .n = items[i].n, .window = kv_window(items[i].position + items[i].n)};
    uint32_t first = items[0].kv->begin;
    struct graph_config config = {.hparams = s->hparams,
                                  .blocks = s->blocks + (first - s->begin),
                                  .n_blocks = items[0].kv->end - first,
                                  .rope_freqs = s->rope_freqs,
                                  .flash = engine_fast(s->engine)};
    status = plan_graph(s->plan, &config, shapes, n_items, &graph, err);
    return status ? status : run(s, graph, items, err);
}

/* ---- self-proof ------------------------------------------------------------------------------------------------ */

static bool forward_chunks(struct span *s, struct kv *kv, uint32_t rows, uint32_t chunk, const float *x, float *y) {
    uint32_t n_embd = s->hparams->n_embd;
    for (uint32_t at = 0; at < rows; at += chunk) {
        struct batch_item item = {.kv = kv,
                                  .position = at,
                                  .n = rows - at < chunk ? rows - at : chunk,
                                  .in = x + (size_t)at * n_embd,
                                  .out = y + (size_t)at * n_embd};
        if (span_forward(s, &item, 1, NULL)) return false;
    }
    return true;
}

/* The same rows through one block in one chunk, in sevens, and one by one. */
static bool prove_block(struct span *s, uint32_t block, const float *x, float *whole, float *parts) {
    size_t n_embd = s->hparams->n_embd;
    struct kv *kv;
    if (kv_allocate(&kv, s, block, block + 1, PROOF_POSITIONS, NULL)) return false;
    bool good = forward_chunks(s, kv, PROOF_POSITIONS, PROOF_POSITIONS, x, whole);
    good =
        good && forward_chunks(s, kv, PROOF_POSITIONS, 7, x, parts) && memcmp(whole, parts, PROOF_POSITIONS * n_embd * sizeof(float)) == 0;
    good = good && forward_chunks(s, kv, PROOF_SINGLES, 1, x, parts) && memcmp(whole, parts, PROOF_SINGLES * n_embd * sizeof(float)) == 0;
    kv_release(kv);
    return good;
}

static bool same_types(const struct block_weights *a, const struct block_weights *b) {
    for (size_t i = 0; i < BLOCK_TENSOR_COUNT; i++)
        if (!a->t[i] != !b->t[i] || (a->t[i] && a->t[i]->type != b->t[i]->type)) return false;
    return true;
}

/* Proves one block of each combination of weight types in the span. */
static enum corolla_status prove(struct span *s, struct corolla_error *err) {
    size_t n = (size_t)s->hparams->n_embd * PROOF_POSITIONS;
    float *x = malloc(3 * n * sizeof(float));
    if (!x) return err_set(err, COROLLA_NOMEM, "out of memory");
    proof_random(3, x, n);
    s->exact = !engine_fast(s->engine);
    for (uint32_t i = 0; i < s->end - s->begin && s->exact; i++) {
        bool seen = false;
        for (uint32_t j = 0; j < i && !seen; j++) seen = same_types(&s->blocks[i], &s->blocks[j]);
        if (!seen && !prove_block(s, s->begin + i, x, x + n, x + 2 * n)) {
            log_warn("not exact block=%u weights=%s reason=\"one row and many rows give different bits on this device\"", s->begin + i,
                     ggml_type_name(s->blocks[i].t[BLOCK_ATTN_Q]->type));
            s->exact = false;
        }
    }
    free(x);
    return COROLLA_OK;
}

/* ---- loading --------------------------------------------------------------------------------------------------- */

static enum corolla_status load_weights(struct span *s, struct corolla_error *err) {
    uint32_t n_blocks = s->end - s->begin;
    size_t n = 0;
    struct weights_request *requests = calloc((size_t)n_blocks * BLOCK_TENSOR_COUNT + 1, sizeof *requests);
    s->blocks = calloc(n_blocks, sizeof *s->blocks);
    if (!requests || !s->blocks) {
        free(requests);
        return err_set(err, COROLLA_NOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < n_blocks; i++) {
        for (size_t role = 0; role < BLOCK_TENSOR_COUNT; role++) {
            struct weights_request *r = &requests[n++];
            arch_block_tensor_name((enum block_tensor)role, s->begin + i, r->name);
            r->out = &s->blocks[i].t[role];
            const struct model_tensor *t = model_file_find(s->file, r->name);
            r->matrix = t && t->n_dims == 2;
        }
    }
    strcpy(requests[n].name, arch_global_tensor_name(GLOBAL_ROPE_FREQS));
    requests[n++].out = &s->rope_freqs;
    enum corolla_status status = weights_load(&s->weights, s->engine, s->file, requests, n, err);
    free(requests);
    return status;
}

enum corolla_status span_load(struct span **out, struct engine *engine, const struct model_file *file, const struct span_config *config,
                              struct corolla_error *err) {
    const struct hparams *h = model_file_hparams(file);
    if (config->begin >= config->end || config->end > h->n_blocks)
        return err_set(err, COROLLA_INVALID, "blocks %u:%u are not a part of the model's 0:%u", config->begin, config->end, h->n_blocks);
    struct span *s = calloc(1, sizeof *s);
    if (!s) return err_set(err, COROLLA_NOMEM, "out of memory");
    s->engine = engine;
    s->file = file;
    s->hparams = h;
    s->begin = config->begin;
    s->end = config->end;
    s->kv_type = config->kv;
    s->kv_budget = config->kv_bytes;
    s->scratch.index = malloc((size_t)BATCH_ROWS_MAX * h->n_head_kv * h->head_dim * sizeof *s->scratch.index);
    enum corolla_status status = s->scratch.index ? load_weights(s, err) : err_set(err, COROLLA_NOMEM, "out of memory");
    if (!status) status = plan_new(&s->plan, engine, err);
    if (!status) status = prove(s, err);
    if (status)
        span_free(s);
    else
        *out = s;
    return status;
}

void span_free(struct span *s) {
    if (!s) return;
    plan_free(s->plan);
    weights_free(s->weights);
    free(s->blocks);
    free(s->scratch.index);
    free(s->scratch.mask);
    free(s);
}
