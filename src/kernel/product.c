/* product.c - see product.h. */
#include "kernel/product.h"

#include "ggml-backend.h"
#include "ggml.h"

#if defined(__x86_64__)
#include "kernel/unpack.h"

#define ROWS 8 /* of x in a tile */

/* ---- rows ------------------------------------------------------------------------------------------------------ */

struct row_block { /* 32 numbers of a row */
    int8_t q[BLOCK];
    float d;    /* the number is d q */
    float s[3]; /* d times the sum of q, by enum sum */
};

enum sum { SUM_FIRST, SUM_SECOND, SUM_WHOLE }; /* of each half; of both */

INLINE int32_t sum_integers(__m128i s) {
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

TARGET static void quantise_row(const float *x, int64_t n, struct row_block *out) {
    const __m256i ones = _mm256_set1_epi8(1);
    for (int64_t k = 0; k < n / BLOCK; k++, out++) {
        __m512 a = _mm512_loadu_ps(x + k * BLOCK), b = _mm512_loadu_ps(x + k * BLOCK + 16);
        float most = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
        __m512 inverse = _mm512_set1_ps(most > 0 ? 127.0f / most : 0.0f);
        __m128i low = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(a, inverse)));
        __m128i high = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(b, inverse)));
        __m256i q = _mm256_set_m128i(high, low), fours = _mm256_dpbusd_epi32(_mm256_setzero_si256(), ones, q);
        int32_t first = sum_integers(_mm256_castsi256_si128(fours)), second = sum_integers(_mm256_extracti128_si256(fours, 1));
        _mm256_storeu_si256((__m256i *)(void *)out->q, q);
        out->d = most / 127.0f;
        out->s[SUM_FIRST] = out->d * (float)first;
        out->s[SUM_SECOND] = out->d * (float)second;
        out->s[SUM_WHOLE] = out->d * (float)(first + second);
    }
}

static void quantise(struct ggml_tensor *out, int ith, int nth, void *user) {
    const struct ggml_tensor *x = out->src[0];
    (void)user;
    for (int64_t i = ith; i < x->ne[1]; i += nth)
        quantise_row((const float *)(const void *)((const char *)x->data + (size_t)i * x->nb[1]), x->ne[0],
                     (struct row_block *)(void *)((char *)out->data + (size_t)i * out->nb[1]));
}

/* ---- tiles ----------------------------------------------------------------------------------------------------- */

struct place { /* where the sums of a tile are, row after row */
    float *out;
    int64_t stride;
    __mmask16 lanes; /* weight rows that there are */
};

INLINE __m512 word(const int8_t *q) { /* four numbers, in every lane */
    float four;
    memcpy(&four, q, sizeof four);
    return _mm512_set1_ps(four);
}

/* The blocks of a panel, or what is `of` them, with n rows: adds to the sums, which begin at nothing with the first panel. */
INLINE void tile(enum sum of, const struct panel *panel, int n_blocks, const struct row_block *const rows[ROWS], int n, struct place to,
                 bool first) {
    __m512 sums[ROWS];
    UNROLLED for (int j = 0; j < n; j++) sums[j] = first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(to.lanes, to.out + j * to.stride);
    for (int k = 0; k < n_blocks; k++) {
        __m512i dots[ROWS];
        UNROLLED for (int j = 0; j < n; j++) dots[j] = _mm512_setzero_si512();
        UNROLLED for (int s = 0; s < BLOCK / 4; s++) {
            __m512i u = _mm512_loadu_si512(panel->u[k][s]);
            UNROLLED for (int j = 0; j < n; j++) dots[j] = _mm512_dpbusd_epi32(dots[j], u, _mm512_castps_si512(word(rows[j][k].q + 4 * s)));
            bool last = s == 7;
            if (!last && !(of == SUM_FIRST && s == 3)) continue;
            int part = of == SUM_FIRST ? 2 * k + last : k;
            __m512 d = _mm512_loadu_ps(panel->d[part]), m = _mm512_loadu_ps(panel->m[part]);
            UNROLLED for (int j = 0; j < n; j++) {
                const struct row_block *x = &rows[j][k];
                sums[j] = _mm512_fmadd_ps(_mm512_mul_ps(d, _mm512_set1_ps(x->d)), _mm512_cvtepi32_ps(dots[j]), sums[j]);
                sums[j] = _mm512_fmadd_ps(m, _mm512_set1_ps(x->s[of == SUM_FIRST && last ? SUM_SECOND : of]), sums[j]);
                dots[j] = _mm512_setzero_si512();
            }
        }
    }
    UNROLLED for (int j = 0; j < n; j++) _mm512_mask_storeu_ps(to.out + j * to.stride, to.lanes, sums[j]);
}

/* Each number of rows has its loops unrolled. */
INLINE void tiles(enum sum of, const struct panel *panel, int n_blocks, const struct row_block *const rows[ROWS], int n, struct place to,
                  bool first) {
    switch (n) {
    case 1: tile(of, panel, n_blocks, rows, 1, to, first); break;
    case 2: tile(of, panel, n_blocks, rows, 2, to, first); break;
    case 3: tile(of, panel, n_blocks, rows, 3, to, first); break;
    case 4: tile(of, panel, n_blocks, rows, 4, to, first); break;
    case 5: tile(of, panel, n_blocks, rows, 5, to, first); break;
    case 6: tile(of, panel, n_blocks, rows, 6, to, first); break;
    case 7: tile(of, panel, n_blocks, rows, 7, to, first); break;
    default: tile(of, panel, n_blocks, rows, 8, to, first); break;
    }
}

/* Blocks [k, k + n) of a group with all rows. */
TARGET static void panel_by_rows(enum sum of, const struct panel *panel, int64_t k, int n_blocks, const struct ggml_tensor *x,
                                 struct place to) {
    for (int64_t j = 0; j < x->ne[1]; j += ROWS) {
        int n = x->ne[1] - j < ROWS ? (int)(x->ne[1] - j) : ROWS;
        const struct row_block *rows[ROWS];
        for (int i = 0; i < n; i++)
            rows[i] = (const struct row_block *)(const void *)((const char *)x->data + (size_t)(j + i) * x->nb[1]) + k;
        struct place at = {to.out + j * to.stride, to.stride, to.lanes};
        if (of == SUM_WHOLE)
            tiles(SUM_WHOLE, panel, n_blocks, rows, n, at, k == 0);
        else
            tiles(SUM_FIRST, panel, n_blocks, rows, n, at, k == 0);
    }
}

/* ---- weights --------------------------------------------------------------------------------------------------- */

#define UNPACKER(name, type)                                                                                                               \
    TARGET static void name(const uint8_t *const rows[GROUP], int64_t k, int n, size_t ahead, struct panel *out) {                         \
        unpack(type, rows, k, n, ahead, out);                                                                                              \
    }
UNPACKER(unpack_q4_0, GGML_TYPE_Q4_0)
UNPACKER(unpack_q4_1, GGML_TYPE_Q4_1)
UNPACKER(unpack_q5_0, GGML_TYPE_Q5_0)
UNPACKER(unpack_q5_1, GGML_TYPE_Q5_1)
UNPACKER(unpack_q8_0, GGML_TYPE_Q8_0)
UNPACKER(unpack_q4_k, GGML_TYPE_Q4_K)
UNPACKER(unpack_q5_k, GGML_TYPE_Q5_K)
UNPACKER(unpack_q6_k, GGML_TYPE_Q6_K)

typedef void (*unpacker)(const uint8_t *const rows[GROUP], int64_t k, int n, size_t ahead, struct panel *out);

/* NULL: none. */
static unpacker unpacker_of(int type) {
    switch (type) {
    case GGML_TYPE_Q4_0: return unpack_q4_0;
    case GGML_TYPE_Q4_1: return unpack_q4_1;
    case GGML_TYPE_Q5_0: return unpack_q5_0;
    case GGML_TYPE_Q5_1: return unpack_q5_1;
    case GGML_TYPE_Q8_0: return unpack_q8_0;
    case GGML_TYPE_Q4_K: return unpack_q4_k;
    case GGML_TYPE_Q5_K: return unpack_q5_k;
    case GGML_TYPE_Q6_K: return unpack_q6_k;
    default: return NULL;
    }
}

/* Groups of weight rows, each with all rows. */
static void multiply(struct ggml_tensor *out, int ith, int nth, void *user) {
    const struct ggml_tensor *w = out->src[0], *x = out->src[1];
    int64_t n_groups = (w->ne[1] + GROUP - 1) / GROUP, n_blocks = w->ne[0] / BLOCK;
    unpacker unpack_panel = unpacker_of((int)w->type);
    _Alignas(64) struct panel panel;
    (void)user;
    for (int64_t group = n_groups * ith / nth; group < n_groups * (ith + 1) / nth; group++) {
        int64_t first = group * GROUP, left = w->ne[1] - first;
        const uint8_t *rows[GROUP];
        for (int64_t i = 0; i < GROUP; i++) rows[i] = (const uint8_t *)w->data + (size_t)(first + (i < left ? i : 0)) * w->nb[1];
        uint32_t lanes = left < GROUP ? (1u << left) - 1 : 0xffff;
        struct place to = {(float *)out->data + first, out->ne[0], (__mmask16)lanes};
        for (int64_t k = 0; k < n_blocks; k += PANEL) {
            int n = n_blocks - k < PANEL ? (int)(n_blocks - k) : PANEL;
            size_t here = (size_t)k * w->nb[1] / (size_t)n_blocks, next = (size_t)(k + n) * w->nb[1] / (size_t)n_blocks;
            if (k + n == n_blocks) next = GROUP * w->nb[1]; /* the next group */
            unpack_panel(rows, k, n, next - here, &panel);
            panel_by_rows(has_halves(w->type) ? SUM_FIRST : SUM_WHOLE, &panel, k, n, x, to);
        }
    }
}

/* ---- what can be ----------------------------------------------------------------------------------------------- */

bool product_can(int type, int64_t columns) {
    return lanes_can() && unpacker_of(type) && columns % ggml_blck_size((enum ggml_type)type) == 0;
}

/* Memory of the CPU backend, not of one that maps its own; repacked weights are no host memory to ggml, and its mapped files have no
 * device. */
static bool on_processor(ggml_backend_buffer_t buffer) {
    if (!buffer || !ggml_backend_buffer_is_host(buffer)) return false;
    ggml_backend_dev_t device = ggml_backend_buft_get_device(ggml_backend_buffer_get_type(buffer));
    return !device || ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU;
}

bool product_takes(const struct ggml_tensor *w) {
    return product_can((int)w->type, w->ne[0]) && ggml_n_dims(w) == 2 && on_processor(w->buffer);
}

struct ggml_tensor *product_rows(struct ggml_context *ctx, struct ggml_tensor *x) {
    struct ggml_tensor *of_x[] = {x};
    int64_t bytes = x->ne[0] / BLOCK * (int64_t)sizeof(struct row_block);
    return ggml_custom_4d(ctx, GGML_TYPE_I8, bytes, x->ne[1], 1, 1, of_x, 1, quantise, GGML_N_TASKS_MAX, NULL);
}

struct ggml_tensor *product(struct ggml_context *ctx, struct ggml_tensor *w, struct ggml_tensor *rows) {
    struct ggml_tensor *both[] = {w, rows};
    return ggml_custom_4d(ctx, GGML_TYPE_F32, w->ne[1], rows->ne[1], 1, 1, both, 2, multiply, GGML_N_TASKS_MAX, NULL);
}

#else
bool product_can(int type, int64_t columns) {
    (void)type, (void)columns;
    return false;
}

bool product_takes(const struct ggml_tensor *w) {
    (void)w;
    return false;
}

struct ggml_tensor *product_rows(struct ggml_context *ctx, struct ggml_tensor *x) {
    (void)ctx;
    return x;
}

struct ggml_tensor *product(struct ggml_context *ctx, struct ggml_tensor *w, struct ggml_tensor *rows) {
    return ggml_mul_mat(ctx, w, rows);
}
#endif
