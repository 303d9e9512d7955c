/* attention.c - see attention.h. */
#include "kernel/attention.h"

#include "ggml.h"

#if defined(__x86_64__)
#include <math.h>

#include "kernel/lanes.h"

#define PAD ATTENTION_PAD
#define HEAD_MAX 256
#define TILE 6           /* queries whose sums are in registers */
#define QUERIES_MAX 96   /* that meet keys and values which were unpacked once */
#define SCORES (1 << 18) /* of a thread, unless one query needs more */

struct query {           /* a head of a row */
    float *out;          /* until its values are gathered: the query itself */
    uint32_t first, end; /* the positions that it sees */
    float *scores;       /* of positions from the run's first on */
};

struct run {                          /* queries of one item and one KV head */
    uint32_t n, head_dim, begin, end; /* positions; begin is a multiple of PAD */
    const uint16_t *k, *v;            /* of position 0 */
    size_t row;                       /* numbers of a position */
    float scale;
    struct query queries[QUERIES_MAX];
};

/* ---- the cache ------------------------------------------------------------------------------------------------- */

static void to_halves(const float *from, char *to, size_t n) { ggml_fp32_to_fp16_row(from, (ggml_fp16_t *)(void *)to, (int64_t)n); }

static void store(struct ggml_tensor *out, int ith, int nth, void *user) {
    const struct attention_block *block = user;
    const struct attention *a = block->of;
    const struct ggml_tensor *k = out->src[0], *v = out->src[1];
    size_t row = (size_t)a->n_head_kv * a->head_dim, at = 0;
    for (uint32_t i = 0; i < a->n_items; i++) {
        const struct attention_item *item = &a->items[i];
        for (uint32_t r = 0; r < item->n; r++, at++) {
            size_t place = block->index * item->stride + (item->position + r) * row * sizeof(uint16_t);
            if (at % (size_t)nth != (size_t)ith) continue;
            to_halves((const float *)k->data + at * row, item->k + place, row);
            to_halves((const float *)v->data + at * row, item->v + place, row);
        }
    }
}

/* Keys of PAD positions from p on -> [head_dim][PAD]. */
TARGET static void unpack_keys(const struct run *run, uint32_t p, float (*out)[PAD]) {
    for (uint32_t part = 0; part < PAD; part += LANES)
        for (uint32_t d = 0; d < run->head_dim; d += 8) {
            __m512i pairs[8];
            UNROLLED for (int i = 0; i < 8; i++) {
                const uint16_t *a = run->k + (p + part + (uint32_t)lanes_row(i)) * run->row + d, *b = a + 4 * run->row;
                __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)a)),
                                                       _mm_loadu_si128((const __m128i *)(const void *)b), 1);
                pairs[i] = _mm512_castps_si512(_mm512_cvtph_ps(both));
            }
            lanes_transpose(pairs, &out[d][part], PAD);
        }
}

/* Values of n positions from p on -> [n][head_dim]. */
TARGET static void unpack_values(const struct run *run, uint32_t p, uint32_t n, float *out) {
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t d = 0; d < run->head_dim; d += LANES) {
            __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)(run->v + (p + i) * run->row + d));
            _mm512_storeu_ps(out + i * run->head_dim + d, _mm512_cvtph_ps(half));
        }
}

/* ---- scores ---------------------------------------------------------------------------------------------------- */

/* n queries with PAD keys; at: where in the scores. */
INLINE void score(int n, const struct query *queries, float (*keys)[PAD], uint32_t head_dim, __m512 scale, uint32_t at) {
    __m512 sums[TILE][PAD / LANES];
    UNROLLED for (int j = 0; j < n; j++) UNROLLED for (int i = 0; i < PAD / LANES; i++) sums[j][i] = _mm512_setzero_ps();
    for (uint32_t d = 0; d < head_dim; d++) {
        __m512 k[PAD / LANES];
        UNROLLED for (int i = 0; i < PAD / LANES; i++) k[i] = _mm512_loadu_ps(keys[d] + i * LANES);
        UNROLLED for (int j = 0; j < n; j++) {
            __m512 q = _mm512_set1_ps(queries[j].out[d]);
            UNROLLED for (int i = 0; i < PAD / LANES; i++) sums[j][i] = _mm512_fmadd_ps(q, k[i], sums[j][i]);
        }
    }
    UNROLLED for (int j = 0; j < n; j++) UNROLLED for (int i = 0; i < PAD / LANES; i++)
        _mm512_storeu_ps(queries[j].scores + at + i * LANES, _mm512_mul_ps(sums[j][i], scale));
}

/* As half floats have it, like the keys that it meets. */
TARGET static void round_query(const float *q, uint32_t n, float *out) {
    for (uint32_t d = 0; d < n; d += LANES)
        _mm512_storeu_ps(out + d, _mm512_cvtph_ps(_mm512_cvtps_ph(_mm512_loadu_ps(q + d), _MM_FROUND_TO_NEAREST_INT)));
}

TARGET static void score_all(const struct run *run) {
    _Alignas(64) float keys[HEAD_MAX][PAD];
    __m512 scale = _mm512_set1_ps(run->scale);
    for (uint32_t p = run->begin; p < run->end; p += PAD) {
        unpack_keys(run, p, keys);
        for (uint32_t j = 0; j < run->n; j += TILE) {
            const struct query *queries = &run->queries[j];
            switch (run->n - j) {
            case 1: score(1, queries, keys, run->head_dim, scale, p - run->begin); break;
            case 2: score(2, queries, keys, run->head_dim, scale, p - run->begin); break;
            case 3: score(3, queries, keys, run->head_dim, scale, p - run->begin); break;
            case 4: score(4, queries, keys, run->head_dim, scale, p - run->begin); break;
            case 5: score(5, queries, keys, run->head_dim, scale, p - run->begin); break;
            default: score(6, queries, keys, run->head_dim, scale, p - run->begin); break;
            }
        }
    }
}

/* ---- softmax --------------------------------------------------------------------------------------------------- */

/* e to the x <= 0, to a unit in the last place or two: x = n ln 2 + r, and a polynomial in r (Cephes, expf). */
INLINE __m512 exponential(__m512 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-120));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341f)), _MM_FROUND_TO_NEAREST_INT);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 y = _mm512_set1_ps(1.9875691500e-4f);
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.3981999507e-3f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(8.3334519073e-3f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(4.1665795894e-2f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.6666665459e-1f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(5.0000001201e-1f));
    y = _mm512_add_ps(_mm512_fmadd_ps(y, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1));
    return _mm512_scalef_ps(y, n);
}

/* The lanes of positions [p, p + LANES) that a query sees. */
INLINE __mmask16 seen(const struct query *query, uint32_t p) {
    uint32_t from = query->first > p ? query->first - p : 0, to = query->end > p ? query->end - p : 0;
    uint32_t below = from < LANES ? (1u << from) - 1 : 0xffff, until = to < LANES ? (1u << to) - 1 : 0xffff;
    return (__mmask16)(until & ~below);
}

/* Scores to weights, as half floats have them. begin: the position of the first score. The lanes are those of whole multiples of LANES. */
TARGET static void weigh(const struct query *query, uint32_t begin) {
    uint32_t first = query->first / LANES * LANES;
    __m512 most = _mm512_set1_ps(-INFINITY), total = _mm512_setzero_ps();
    for (uint32_t p = first; p < query->end; p += LANES)
        most = _mm512_mask_max_ps(most, seen(query, p), most, _mm512_loadu_ps(query->scores + p - begin));
    most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (uint32_t p = first; p < query->end; p += LANES) {
        float *at = query->scores + p - begin;
        __m512 w = _mm512_maskz_mov_ps(seen(query, p), exponential(_mm512_sub_ps(_mm512_loadu_ps(at), most)));
        total = _mm512_add_ps(total, w);
        _mm512_storeu_ps(at, w);
    }
    __m512 share = _mm512_set1_ps(1 / _mm512_reduce_add_ps(total));
    for (uint32_t p = first; p < query->end; p += LANES) {
        float *at = query->scores + p - begin;
        __m512 w = _mm512_mul_ps(_mm512_loadu_ps(at), share);
        _mm512_storeu_ps(at, _mm512_cvtph_ps(_mm512_cvtps_ph(w, _MM_FROUND_TO_NEAREST_INT)));
    }
}

/* ---- values ---------------------------------------------------------------------------------------------------- */

/* n queries with the values of positions [from, to), the block's first being p: c registers of columns from d on. */
INLINE void gather(int n, int c, const struct query *queries, const float *values, uint32_t head_dim, uint32_t d, uint32_t p, uint32_t from,
                   uint32_t to, uint32_t begin) {
    __m512 sums[TILE][4];
    UNROLLED for (int j = 0; j < n; j++) UNROLLED for (int i = 0; i < c; i++) sums[j][i] = _mm512_loadu_ps(queries[j].out + d + i * LANES);
    for (uint32_t at = from; at < to; at++) {
        __m512 v[4];
        UNROLLED for (int i = 0; i < c; i++) v[i] = _mm512_loadu_ps(values + (at - p) * head_dim + d + i * LANES);
        UNROLLED for (int j = 0; j < n; j++) {
            __m512 w = _mm512_set1_ps(queries[j].scores[at - begin]);
            UNROLLED for (int i = 0; i < c; i++) sums[j][i] = _mm512_fmadd_ps(w, v[i], sums[j][i]);
        }
    }
    UNROLLED for (int j = 0; j < n; j++) UNROLLED for (int i = 0; i < c; i++) _mm512_storeu_ps(queries[j].out + d + i * LANES, sums[j][i]);
}

INLINE void gather_columns(int n, const struct query *queries, const float *values, uint32_t head_dim, uint32_t p, uint32_t from,
                           uint32_t to, uint32_t begin) {
    uint32_t d = 0;
    if (from >= to) return;
    for (; d + 4 * LANES <= head_dim; d += 4 * LANES) gather(n, 4, queries, values, head_dim, d, p, from, to, begin);
    for (; d < head_dim; d += LANES) gather(n, 1, queries, values, head_dim, d, p, from, to, begin);
}

static uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }
static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* The block of PAD positions from p on: each query from its first position to its last, together where all of a tile see them. */
TARGET static void gather_tile(int n, const struct query *queries, const float *values, uint32_t head_dim, uint32_t p, uint32_t begin) {
    uint32_t from = p, to = p + PAD;
    for (int j = 0; j < n; j++) {
        from = larger(from, queries[j].first);
        to = smaller(to, queries[j].end);
    }
    from = smaller(from, p + PAD);
    to = larger(from, to);
    for (int j = 0; j < n; j++) /* nothing in common: each has all of its own here */
        gather_columns(1, &queries[j], values, head_dim, p, larger(p, queries[j].first), smaller(from, queries[j].end), begin);
    switch (n) {
    case 1: gather_columns(1, queries, values, head_dim, p, from, to, begin); break;
    case 2: gather_columns(2, queries, values, head_dim, p, from, to, begin); break;
    case 3: gather_columns(3, queries, values, head_dim, p, from, to, begin); break;
    case 4: gather_columns(4, queries, values, head_dim, p, from, to, begin); break;
    case 5: gather_columns(5, queries, values, head_dim, p, from, to, begin); break;
    default: gather_columns(6, queries, values, head_dim, p, from, to, begin); break;
    }
    for (int j = 0; j < n; j++)
        gather_columns(1, &queries[j], values, head_dim, p, larger(to, queries[j].first), smaller(p + PAD, queries[j].end), begin);
}

static void gather_all(const struct run *run) {
    _Alignas(64) float values[PAD * HEAD_MAX];
    for (uint32_t j = 0; j < run->n; j++) memset(run->queries[j].out, 0, run->head_dim * sizeof(float));
    for (uint32_t p = run->begin; p < run->end; p += PAD) {
        unpack_values(run, p, smaller(run->end - p, PAD), values);
        for (uint32_t j = 0; j < run->n; j += TILE)
            gather_tile((int)smaller(run->n - j, TILE), &run->queries[j], values, run->head_dim, p, run->begin);
    }
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

static void attend_run(const struct run *run) {
    score_all(run);
    for (uint32_t j = 0; j < run->n; j++) weigh(&run->queries[j], run->begin);
    gather_all(run);
}

/* Queries [begin, end) of an item, in the order KV head, row, head of the group; row: of the batch, where the item begins. */
static void attend_item(const struct attention_block *block, const struct attention_item *item, const float *q, float *out, uint32_t row,
                        uint32_t begin, uint32_t end, float *scratch) {
    const struct attention *a = block->of;
    uint32_t group = a->n_head / a->n_head_kv, of_head = item->n * group, positions = item->position + item->n;
    uint32_t padded = (positions + PAD - 1) / PAD * PAD, room = smaller(larger(SCORES / padded, 1), QUERIES_MAX);
    struct run run = {.head_dim = a->head_dim, .row = (size_t)a->n_head_kv * a->head_dim, .scale = a->scale};
    for (uint32_t at = begin; at < end; at += run.n) {
        uint32_t head = at / of_head, first = at % of_head;
        run.n = smaller(smaller(end - at, of_head - first), room);
        run.k = (const uint16_t *)(const void *)(item->k + block->index * item->stride) + head * a->head_dim;
        run.v = (const uint16_t *)(const void *)(item->v + block->index * item->stride) + head * a->head_dim;
        for (uint32_t j = 0; j < run.n; j++) {
            uint32_t r = (first + j) / group, position = item->position + r;
            size_t place = ((size_t)(row + r) * a->n_head + head * group + (first + j) % group) * a->head_dim;
            uint32_t from = block->n_window && position >= block->n_window ? position + 1 - block->n_window : 0;
            run.queries[j] = (struct query){out + place, from, position + 1, scratch + (size_t)j * padded};
            round_query(q + place, a->head_dim, out + place);
        }
        run.begin = run.queries[0].first / PAD * PAD; /* rows ascend */
        run.end = run.queries[run.n - 1].end;
        attend_run(&run);
    }
}

/* Each thread has an equal part of all queries. */
static void attend(struct ggml_tensor *out, int ith, int nth, void *user) {
    const struct attention_block *block = user;
    const struct attention *a = block->of;
    uint64_t n_queries = (uint64_t)out->ne[1] * a->n_head, begin = n_queries * (uint64_t)ith / (uint64_t)nth,
             end = n_queries * (uint64_t)(ith + 1) / (uint64_t)nth;
    size_t scores = attention_scratch(0, 1) / sizeof(float);
    uint32_t row = 0;
    for (uint32_t i = 0; i < a->n_items; i++) {
        uint32_t positions = a->items[i].position + a->items[i].n;
        if (positions > scores) scores = (positions + PAD - 1) / PAD * PAD;
    }
    for (uint32_t i = 0; i < a->n_items && (uint64_t)row * a->n_head < end; row += a->items[i++].n) {
        uint64_t of_item = (uint64_t)row * a->n_head, n = (uint64_t)a->items[i].n * a->n_head;
        uint64_t from = begin > of_item ? begin - of_item : 0, to = end - of_item < n ? end - of_item : n;
        if (from < to)
            attend_item(block, &a->items[i], out->src[0]->data, out->data, row, (uint32_t)from, (uint32_t)to,
                        a->scratch + (size_t)ith * scores);
    }
}

bool attention_can(uint32_t head_dim) { return lanes_can() && head_dim % LANES == 0 && head_dim <= HEAD_MAX; }

size_t attention_scratch(uint32_t positions, uint32_t threads) {
    size_t padded = ((size_t)positions + PAD - 1) / PAD * PAD;
    return threads * (padded > SCORES ? padded : SCORES) * sizeof(float);
}

struct ggml_tensor *attention(struct ggml_context *ctx, struct ggml_tensor *q, struct ggml_tensor *k, struct ggml_tensor *v,
                              struct attention_block *block) {
    struct ggml_tensor *rows[] = {k, v};
    struct ggml_tensor *stored = ggml_custom_4d(ctx, GGML_TYPE_I8, 1, 1, 1, 1, rows, 2, store, GGML_N_TASKS_MAX, block);
    struct ggml_tensor *queries[] = {q, stored};
    return ggml_custom_4d(ctx, GGML_TYPE_F32, q->ne[0] * q->ne[1], q->ne[2], 1, 1, queries, 2, attend, GGML_N_TASKS_MAX, block);
}

#else
bool attention_can(uint32_t head_dim) {
    (void)head_dim;
    return false;
}

size_t attention_scratch(uint32_t positions, uint32_t threads) {
    (void)positions, (void)threads;
    return 0;
}

struct ggml_tensor *attention(struct ggml_context *ctx, struct ggml_tensor *q, struct ggml_tensor *k, struct ggml_tensor *v,
                              struct attention_block *block) {
    (void)ctx, (void)q, (void)k, (void)v, (void)block;
    return NULL;
}
#endif
