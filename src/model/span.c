/* span.c - see span.h. */
#include "model/span.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "crypto/digest.h"
#include "model/part.h"
#include "model/proof.h"
#include "model/split.h"

#define PROOF_POSITIONS 70 /* of the self-proof: past every tile in ggml's kernels (up to 64 rows) */
#define PROOF_SINGLES 12   /* of them computed one at a time */

struct span {
    struct engine *engine; /* the first of its devices */
    const struct hparams *hparams;
    uint32_t begin, end;
    enum corolla_kv kv_type;
    uint64_t kv_budget, kv_used; /* bytes; kv_used is atomic: sessions open and close while others compute */
    uint32_t n_parts;
    struct part *parts[ENGINE_DEVICES_MAX];
    bool exact;
};

uint32_t span_begin(const struct span *s) { return s->begin; }
uint32_t span_end(const struct span *s) { return s->end; }
bool span_exact(const struct span *s) { return s->exact; }
const struct hparams *span_hparams(const struct span *s) { return s->hparams; }
struct engine *span_engine(const struct span *s) {
    return s->engine;
}
enum corolla_kv span_kv_type(const struct span *s) { return s->kv_type; }
uint32_t span_parts(const struct span *s, struct part *const **out) {
    *out = s->parts;
    return s->n_parts;
}

/* Which kernel a weight type gets follows from the engine's class, since every node of a class proves the same; so the class
 * and the KV type name the arithmetic, whatever blocks a server holds. Devices of several classes agree only with the same cuts. */
uint64_t span_arithmetic_class(const struct span *s) {
    uint64_t class = engine_class(part_engine(s->parts[0]));
    uint8_t text[ENGINE_DEVICES_MAX * 16], digest[DIGEST_SIZE];
    bool mixed = false;
    for (uint32_t i = 0; i < s->n_parts; i++) {
        uint64_t of_part = engine_class(part_engine(s->parts[i]));
        mixed = mixed || of_part != class;
        le64_put(text + 16 * i, of_part);
        le32_put(text + 16 * i + 8, part_begin(s->parts[i]));
        le32_put(text + 16 * i + 12, part_end(s->parts[i]));
    }
    if (mixed) {
        digest_once(text, 16 * s->n_parts, digest);
        class = le64_get(digest);
    }
    return class ^ ((uint64_t)s->kv_type * 0x9e3779b97f4a7c15ull);
}

/* ---- KV budget ------------------------------------------------------------------------------------------------- */

uint64_t span_kv_bytes_left(const struct span *s) {
    uint64_t used = __atomic_load_n(&s->kv_used, __ATOMIC_RELAXED);
    return used >= s->kv_budget ? 0 : s->kv_budget - used;
}

uint64_t span_kv_tokens_left(const struct span *s) {
    return span_kv_bytes_left(s) / span_kv_bytes(s->hparams, s->end - s->begin, s->kv_type, KV_PAD) * KV_PAD;
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
    if (status)
        __atomic_sub_fetch(&s->kv_used, bytes, __ATOMIC_RELAXED);
    else
        (*out)->counted = true;
    return status;
}

void kv_uncount(struct kv *kv) {
    if (kv->counted) __atomic_sub_fetch(&kv->span->kv_used, kv->bytes, __ATOMIC_RELAXED);
    kv->counted = false;
}

void kv_count(struct kv *kv) {
    if (!kv->counted) __atomic_add_fetch(&kv->span->kv_used, kv->bytes, __ATOMIC_RELAXED);
    kv->counted = true;
}

void kv_close(struct kv *kv) {
    if (!kv) return;
    kv_uncount(kv);
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

enum corolla_status span_forward(struct span *s, const struct batch_item *items, uint32_t n_items, struct corolla_error *err) {
    enum corolla_status status = check_batch(items, n_items, err);
    if (status) return status;
    for (uint32_t i = 0; i < n_items; i++) items[i].kv->length = items[i].position; /* what follows is overwritten from here on */
    for (uint32_t i = 0; i < s->n_parts && !status; i++)
        if (part_begin(s->parts[i]) < items[0].kv->end && part_end(s->parts[i]) > items[0].kv->begin)
            status = part_forward(s->parts[i], items, n_items, err);
    for (uint32_t i = 0; i < n_items && !status; i++) items[i].kv->length = items[i].position + items[i].n;
    return status;
}

/* ---- self-proof ------------------------------------------------------------------------------------------------ */

static enum corolla_status forward_chunks(struct span *s, struct kv *kv, uint32_t rows, uint32_t chunk, const float *x, float *y,
                                          struct corolla_error *err) {
    uint32_t n_embd = s->hparams->n_embd;
    enum corolla_status status = COROLLA_OK;
    for (uint32_t at = 0; at < rows && !status; at += chunk) {
        struct batch_item item = {.kv = kv,
                                  .position = at,
                                  .n = rows - at < chunk ? rows - at : chunk,
                                  .in = x + (size_t)at * n_embd,
                                  .out = y + (size_t)at * n_embd};
        status = span_forward(s, &item, 1, err);
    }
    return status;
}

/* The same rows through one block in one chunk, in sevens, and one by one: whether all have the same bits. x [3, PROOF_POSITIONS, n_embd]:
 * the rows, and room for what comes out. */
static enum corolla_status prove_block(struct span *s, uint32_t block, float *x, bool *out_same, struct corolla_error *err) {
    size_t n = (size_t)s->hparams->n_embd * PROOF_POSITIONS, row = s->hparams->n_embd * sizeof(float);
    float *whole = x + n, *parts = x + 2 * n;
    struct kv *kv;
    enum corolla_status status = kv_allocate(&kv, s, block, block + 1, PROOF_POSITIONS, err);
    if (status) return status == COROLLA_NO_CACHE ? COROLLA_NOMEM : status;
    status = forward_chunks(s, kv, PROOF_POSITIONS, PROOF_POSITIONS, x, whole, err);
    if (!status) status = forward_chunks(s, kv, PROOF_POSITIONS, 7, x, parts, err);
    *out_same = memcmp(whole, parts, PROOF_POSITIONS * row) == 0;
    if (!status && *out_same) status = forward_chunks(s, kv, PROOF_SINGLES, 1, x, parts, err);
    *out_same = *out_same && memcmp(whole, parts, PROOF_SINGLES * row) == 0;
    kv_release(kv);
    return status;
}

/* Proves one block of each combination of weight types on each device. */
static enum corolla_status prove(struct span *s, struct corolla_error *err) {
    size_t n = (size_t)s->hparams->n_embd * PROOF_POSITIONS;
    float *x = malloc(3 * n * sizeof(float));
    if (!x) return err_set(err, COROLLA_NOMEM, "out of memory");
    proof_random(3, x, 3 * n);
    s->exact = !engine_fast(s->engine) && s->kv_type != COROLLA_KV_Q8_0; /* which only the fused attention can read */
    enum corolla_status status = COROLLA_OK;
    for (uint32_t p = 0; p < s->n_parts; p++) {
        const struct part *part = s->parts[p];
        for (uint32_t i = part_begin(part); i < part_end(part) && s->exact && !status; i++) {
            bool seen = false;
            for (uint32_t j = part_begin(part); j < i && !seen; j++) seen = part_same_types(part, i, j);
            if (seen) continue;
            status = prove_block(s, i, x, &s->exact, err);
            if (!status && !s->exact) log_warn("not exact block=%u reason=\"one row and many rows give different bits on this device\"", i);
        }
    }
    free(x);
    return status;
}

/* ---- loading --------------------------------------------------------------------------------------------------- */

static enum corolla_status load_parts(struct span *s, const struct model_file *file, uint64_t kv_planned, struct corolla_error *err) {
    struct split split;
    enum corolla_status status = split_blocks(&split, s->engine, file, s->begin, s->end, kv_planned, err);
    for (uint32_t i = 0; i < split.n && !status; i++) {
        struct part_config config = {
            .engine = split.engines[i], .file = file, .begin = split.begins[i], .end = split.begins[i + 1], .kv = s->kv_type};
        status = part_load(&s->parts[i], &config, err);
        s->n_parts += !status;
    }
    return status;
}

enum corolla_status span_load(struct span **out, struct engine *engine, const struct model_file *file, const struct span_config *config,
                              struct corolla_error *err) {
    const struct hparams *h = model_file_hparams(file);
    if (config->begin >= config->end || config->end > h->n_blocks)
        return err_set(err, COROLLA_INVALID, "blocks %u:%u are not a part of the model's 0:%u", config->begin, config->end, h->n_blocks);
    if (config->kv == COROLLA_KV_Q8_0 && h->head_dim % 32 != 0)
        return err_set(err, COROLLA_UNSUPPORTED, "a KV cache in q8_0 needs heads of a multiple of 32, this model's are %u wide",
                       h->head_dim);
    struct span *s = calloc(1, sizeof *s);
    if (!s) return err_set(err, COROLLA_NOMEM, "out of memory");
    s->engine = engine;
    s->hparams = h;
    s->begin = config->begin;
    s->end = config->end;
    s->kv_type = config->kv;
    s->kv_budget = config->kv_bytes;
    enum corolla_status status = load_parts(s, file, config->kv_planned ? config->kv_planned : config->kv_bytes, err);
    if (!status) status = prove(s, err);
    if (status)
        span_free(s);
    else
        *out = s;
    return status;
}

void span_free(struct span *s) {
    if (!s) return;
    for (uint32_t i = 0; i < s->n_parts; i++) part_free(s->parts[i]);
    free(s);
}
