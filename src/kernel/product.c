/* product.c - see product.h. */
#include "kernel/product.h"

#include <stdint.h>
#include <string.h>

#include "ggml-backend.h"
#include "ggml.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,avx512dq,f16c,fma")))
#define INLINE TARGET __attribute__((always_inline)) static inline
#define UNROLLED _Pragma("GCC unroll 4")
#define BLOCK 32
#define COLUMNS_MAX 65536 /* bounds what lies on the stack */
#define GROUP 4           /* weight rows, and rows, of a tile */

/* ---- rows ------------------------------------------------------------------------------------------------------ */

/* A row of n columns: q [n] int8; sums [n / 4] int32, of four q each; scales [n / 32] float; totals [n / 32] float, scale x sum of q. */
static size_t row_bytes(int64_t n) { return (size_t)n * 2 + (size_t)n / BLOCK * 2 * sizeof(float); }
static int8_t *row_q(void *row) { return row; }
static int32_t *row_sums(void *row, int64_t n) { return (int32_t *)(void *)((int8_t *)row + n); }
static float *row_scales(void *row, int64_t n) { return (float *)(void *)((int8_t *)row + 2 * n); }
static float *row_totals(void *row, int64_t n) { return row_scales(row, n) + n / BLOCK; }

INLINE int32_t sum_integers(__m256i v) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

INLINE float through_half(float v) { return _cvtsh_ss(_cvtss_sh(v, _MM_FROUND_TO_NEAREST_INT)); }

/* As ggml's quantize_row_q8_0 and _q8_1 on this processor: their scales and totals are half floats. */
TARGET static void quantise_row(const float *x, int64_t n, void *row) {
    const __m256i ones = _mm256_set1_epi8(1);
    for (int64_t k = 0; k < n / BLOCK; k++) {
        __m512 a = _mm512_loadu_ps(x + k * BLOCK), b = _mm512_loadu_ps(x + k * BLOCK + 16);
        float most = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
        __m512 inverse = _mm512_set1_ps(most > 0 ? 127.0f / most : 0.0f);
        __m128i low = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(a, inverse)));
        __m128i high = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(b, inverse)));
        __m256i q = _mm256_set_m128i(high, low);
        _mm256_storeu_si256((__m256i *)(void *)(row_q(row) + k * BLOCK), q);
        __m256i four = _mm256_dpbusd_epi32(_mm256_setzero_si256(), ones, q);
        _mm256_storeu_si256((__m256i *)(void *)(row_sums(row, n) + k * BLOCK / 4), four);
        row_scales(row, n)[k] = through_half(most / 127.0f);
        row_totals(row, n)[k] = through_half(most / 127.0f * (float)sum_integers(four));
    }
}

static void quantise(struct ggml_tensor *out, int ith, int nth, void *user) {
    const struct ggml_tensor *x = out->src[0];
    (void)user;
    for (int64_t i = ith; i < x->ne[1]; i += nth)
        quantise_row((const float *)(const void *)((const char *)x->data + i * (int64_t)x->nb[1]), x->ne[0],
                     (char *)out->data + i * (int64_t)out->nb[1]);
}

/* ---- weights --------------------------------------------------------------------------------------------------- */

struct unpacked { /* one block of one weight row */
    __m256i u;
    float d, m;
};

INLINE float half(const uint8_t *at) {
    uint16_t h;
    memcpy(&h, at, sizeof h);
    return _cvtsh_ss(h);
}

INLINE __m256i nibbles(const uint8_t *at) {
    __m128i both = _mm_loadu_si128((const __m128i *)(const void *)at), mask = _mm_set1_epi8(15);
    return _mm256_set_m128i(_mm_and_si128(_mm_srli_epi16(both, 4), mask), _mm_and_si128(both, mask));
}

INLINE struct unpacked unpack_q8_0(const uint8_t *row, int64_t k) {
    const uint8_t *at = row + k * 34;
    __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(at + 2));
    return (struct unpacked){.u = _mm256_xor_si256(x, _mm256_set1_epi8((char)0x80)), .d = half(at)};
}

INLINE struct unpacked unpack_q4_1(const uint8_t *row, int64_t k) {
    const uint8_t *at = row + k * 20;
    return (struct unpacked){.u = nibbles(at + 4), .d = half(at), .m = half(at + 2)};
}

/* The fifth bits of 32 numbers. */
INLINE __m256i fifths(const uint8_t *at) {
    uint32_t bits;
    memcpy(&bits, at, sizeof bits);
    return _mm256_maskz_set1_epi8(bits, 16);
}

INLINE struct unpacked unpack_q5_0(const uint8_t *row, int64_t k) {
    const uint8_t *at = row + k * 22;
    return (struct unpacked){.u = _mm256_or_si256(nibbles(at + 6), fifths(at + 2)), .d = half(at)};
}

/* Four weight rows, unpacked once for many rows. */
struct group {
    uint8_t u[COLUMNS_MAX / BLOCK][GROUP][BLOCK];
    float d[COLUMNS_MAX / BLOCK][GROUP], m[COLUMNS_MAX / BLOCK][GROUP];
};

/* ---- tiles ----------------------------------------------------------------------------------------------------- */

/* Always in this order. */
INLINE float sum_lanes(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

enum kind { KIND_Q8_0, KIND_Q5_0, KIND_Q4_1 };

INLINE struct unpacked unpack(enum kind kind, const uint8_t *row, int64_t k) {
    return kind == KIND_Q8_0 ? unpack_q8_0(row, k) : kind == KIND_Q5_0 ? unpack_q5_0(row, k) : unpack_q4_1(row, k);
}

/* n_w weight rows (of group, or the one at weight) with n_x rows; out[j][i] at out + j * stride + i. */
INLINE void tile(enum kind kind, const struct group *group, const uint8_t *weight, int n_w, void *const *rows, int n_x, int64_t n,
                 float *out, int64_t stride) {
    __m256 sums[GROUP][GROUP];
    float mins[GROUP][GROUP];
    UNROLLED for (int i = 0; i < n_w; i++) UNROLLED for (int j = 0; j < n_x; j++) {
        sums[i][j] = _mm256_setzero_ps();
        mins[i][j] = 0;
    }
    for (int64_t k = 0; k < n / BLOCK; k++) {
        struct unpacked w[GROUP];
        UNROLLED for (int i = 0; i < n_w; i++) {
            if (group)
                w[i] = (struct unpacked){
                    .u = _mm256_loadu_si256((const __m256i *)(const void *)group->u[k][i]), .d = group->d[k][i], .m = group->m[k][i]};
            else
                w[i] = unpack(kind, weight, k);
        }
        UNROLLED for (int j = 0; j < n_x; j++) {
            __m256i q = _mm256_loadu_si256((const __m256i *)(const void *)(row_q(rows[j]) + k * BLOCK));
            float d = row_scales(rows[j], n)[k];
            __m256i zero = _mm256_setzero_si256();
            if (kind != KIND_Q4_1) { /* u is 128 or 16 more than the weight */
                __m256i four = _mm256_loadu_si256((const __m256i *)(const void *)(row_sums(rows[j], n) + k * BLOCK / 4));
                zero = _mm256_sub_epi32(zero, _mm256_slli_epi32(four, kind == KIND_Q8_0 ? 7 : 4));
            }
            UNROLLED for (int i = 0; i < n_w; i++) {
                __m256 dot = _mm256_cvtepi32_ps(_mm256_dpbusd_epi32(zero, w[i].u, q));
                sums[i][j] = _mm256_fmadd_ps(_mm256_set1_ps(w[i].d * d), dot, sums[i][j]);
                if (kind == KIND_Q4_1) mins[i][j] += w[i].m * row_totals(rows[j], n)[k];
            }
        }
    }
    UNROLLED for (int i = 0; i < n_w; i++) UNROLLED for (int j = 0; j < n_x; j++) out[j * stride + i] = sum_lanes(sums[i][j]) + mins[i][j];
}

/* Of an unpacked group, with as many rows as there are, so that each number has its loops unrolled. */
INLINE void tiles(enum kind kind, const struct group *group, void *const *rows, int n_x, int64_t n, float *out, int64_t stride) {
    if (n_x == 4) tile(kind, group, NULL, GROUP, rows, 4, n, out, stride);
    if (n_x == 3) tile(kind, group, NULL, GROUP, rows, 3, n, out, stride);
    if (n_x == 2) tile(kind, group, NULL, GROUP, rows, 2, n, out, stride);
    if (n_x == 1) tile(kind, group, NULL, GROUP, rows, 1, n, out, stride);
}

INLINE void unpack_group(enum kind kind, const uint8_t *weight, size_t stride, int64_t n, struct group *group) {
    for (int i = 0; i < GROUP; i++)
        for (int64_t k = 0; k < n / BLOCK; k++) {
            struct unpacked w = unpack(kind, weight + (size_t)i * stride, k);
            _mm256_storeu_si256((__m256i *)(void *)group->u[k][i], w.u);
            group->d[k][i] = w.d;
            group->m[k][i] = w.m;
        }
}

static void *row_of(const struct ggml_tensor *x, int64_t j) { return (char *)x->data + (size_t)j * x->nb[1]; }
static float *place_of(const struct ggml_tensor *out, int64_t j, int64_t i) { return (float *)out->data + j * out->ne[0] + i; }

/* Weight rows [begin, end) with all rows: four at a time, and what is left, or all of them when there is one row, one by one as they lie.
 */
INLINE void multiply(enum kind kind, const struct ggml_tensor *w, const struct ggml_tensor *x, struct ggml_tensor *out, int64_t begin,
                     int64_t end) {
    struct group group; /* pages that are not reached cost nothing */
    int64_t n = w->ne[0], n_rows = out->ne[1], i = begin;
    for (; n_rows > 1 && i + GROUP <= end; i += GROUP) {
        unpack_group(kind, (const uint8_t *)w->data + (size_t)i * w->nb[1], w->nb[1], n, &group);
        for (int64_t j = 0; j < n_rows; j += GROUP) {
            int n_x = n_rows - j < GROUP ? (int)(n_rows - j) : GROUP;
            void *rows[GROUP];
            for (int r = 0; r < n_x; r++) rows[r] = row_of(x, j + r);
            tiles(kind, &group, rows, n_x, n, place_of(out, j, i), out->ne[0]);
        }
    }
    for (; i < end; i++)
        for (int64_t j = 0; j < n_rows; j++) {
            void *row = row_of(x, j);
            tile(kind, NULL, (const uint8_t *)w->data + (size_t)i * w->nb[1], 1, &row, 1, n, place_of(out, j, i), out->ne[0]);
        }
}

TARGET static void multiply_q8_0(const struct ggml_tensor *w, const struct ggml_tensor *x, struct ggml_tensor *out, int64_t begin,
                                 int64_t end) {
    multiply(KIND_Q8_0, w, x, out, begin, end);
}

TARGET static void multiply_q5_0(const struct ggml_tensor *w, const struct ggml_tensor *x, struct ggml_tensor *out, int64_t begin,
                                 int64_t end) {
    multiply(KIND_Q5_0, w, x, out, begin, end);
}

TARGET static void multiply_q4_1(const struct ggml_tensor *w, const struct ggml_tensor *x, struct ggml_tensor *out, int64_t begin,
                                 int64_t end) {
    multiply(KIND_Q4_1, w, x, out, begin, end);
}

static void compute(struct ggml_tensor *out, int ith, int nth, void *user) {
    const struct ggml_tensor *w = out->src[0], *x = out->src[1];
    int64_t groups = (w->ne[1] + GROUP - 1) / GROUP, begin = groups * ith / nth * GROUP, end = groups * (ith + 1) / nth * GROUP;
    (void)user;
    if (end > w->ne[1]) end = w->ne[1];
    if (w->type == GGML_TYPE_Q8_0)
        multiply_q8_0(w, x, out, begin, end);
    else if (w->type == GGML_TYPE_Q5_0)
        multiply_q5_0(w, x, out, begin, end);
    else
        multiply_q4_1(w, x, out, begin, end);
}

static bool processor_can(void) {
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma");
}

/* Memory of the CPU backend, not of one that maps its own; repacked weights are no host memory to ggml, and its mapped files have no
 * device. */
static bool on_processor(ggml_backend_buffer_t buffer) {
    if (!buffer || !ggml_backend_buffer_is_host(buffer)) return false;
    ggml_backend_dev_t device = ggml_backend_buft_get_device(ggml_backend_buffer_get_type(buffer));
    return !device || ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU;
}

bool product_takes(const struct ggml_tensor *w) {
    bool type = w->type == GGML_TYPE_Q8_0 || w->type == GGML_TYPE_Q5_0 || w->type == GGML_TYPE_Q4_1;
    return type && on_processor(w->buffer) && ggml_n_dims(w) == 2 && w->ne[0] % BLOCK == 0 && w->ne[0] <= COLUMNS_MAX && processor_can();
}

struct ggml_tensor *product(struct ggml_context *ctx, struct ggml_tensor *w, struct ggml_tensor *x) {
    struct ggml_tensor *of_x[] = {x};
    struct ggml_tensor *q =
        ggml_custom_4d(ctx, GGML_TYPE_I8, (int64_t)row_bytes(w->ne[0]), x->ne[1], 1, 1, of_x, 1, quantise, GGML_N_TASKS_MAX, NULL);
    struct ggml_tensor *both[] = {w, q};
    return ggml_custom_4d(ctx, GGML_TYPE_F32, w->ne[1], x->ne[1], 1, 1, both, 2, compute, GGML_N_TASKS_MAX, NULL);
}

#else
bool product_takes(const struct ggml_tensor *w) {
    (void)w;
    return false;
}

struct ggml_tensor *product(struct ggml_context *ctx, struct ggml_tensor *w, struct ggml_tensor *x) {
    return ggml_mul_mat(ctx, w, x);
}
#endif
