/* unpack.h - quantised weights as the tiles of product.c want them: 16 weight rows side by side, unpacked once for many rows of x.
 *
 * All types are seen as one: a weight is d u + m, with u a number of 8 bits without sign, d and m of a block of 32 columns or of half a
 * block. Those that count from a zero z have m = -z d. Only product.c includes this; it needs AVX-512.
 */
#ifndef COROLLA_KERNEL_UNPACK_H
#define COROLLA_KERNEL_UNPACK_H

#include "ggml.h"
#include "kernel/lanes.h"

#define BLOCK 32
#define SUPER 256   /* columns of a block of the K types, which has scales for eight or sixteen parts of it */
#define GROUP LANES /* weight rows side by side */
#define PANEL 32    /* blocks that are unpacked at a time: they stay in the first cache */

struct panel { /* of a group, and some blocks of columns */
    uint8_t u[PANEL][BLOCK / 4][GROUP][4];
    float d[2 * PANEL][GROUP], m[2 * PANEL][GROUP]; /* of blocks, or of halves of blocks */
};

/* ---- numbers --------------------------------------------------------------------------------------------------- */

INLINE __m512i two_halves(const uint8_t *a, const uint8_t *b) { /* 16 bytes of each, twice */
    __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)a)),
                                           _mm_loadu_si128((const __m128i *)(const void *)b), 1);
    return _mm512_permutexvar_epi64(_mm512_set_epi64(3, 2, 3, 2, 1, 0, 1, 0), _mm512_castsi256_si512(both));
}

INLINE __m512i two_blocks(const uint8_t *a, const uint8_t *b) { /* 32 bytes of each */
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(const void *)a)),
                              _mm256_loadu_si256((const __m256i *)(const void *)b), 1);
}

/* 16 bytes of two rows: the low halves of the bytes are the first 16 numbers. */
INLINE __m512i nibbles(const uint8_t *a, const uint8_t *b) {
    __m512i v = _mm512_srlv_epi64(two_halves(a, b), _mm512_set_epi64(4, 4, 0, 0, 4, 4, 0, 0));
    return _mm512_and_si512(v, _mm512_set1_epi8(15));
}

/* The fifth bits of 32 numbers of two rows. */
INLINE __m512i fifths(const uint8_t *a, const uint8_t *b) {
    uint32_t of_a, of_b;
    memcpy(&of_a, a, sizeof of_a);
    memcpy(&of_b, b, sizeof of_b);
    return _mm512_maskz_set1_epi8((uint64_t)of_b << 32 | of_a, 16);
}

/* Bits [shift, shift + n) of each byte. */
INLINE __m512i bits(__m512i v, int shift, int n) {
    return _mm512_and_si512(_mm512_srl_epi16(v, _mm_cvtsi32_si128(shift)), _mm512_set1_epi8((char)((1 << n) - 1)));
}

static inline size_t block_bytes(enum ggml_type type) { /* of a super block, for the K types */
    switch (type) {
    case GGML_TYPE_Q4_0: return 18;
    case GGML_TYPE_Q4_1: return 20;
    case GGML_TYPE_Q5_0: return 22;
    case GGML_TYPE_Q5_1: return 24;
    case GGML_TYPE_Q8_0: return 34;
    case GGML_TYPE_Q4_K: return 144;
    case GGML_TYPE_Q5_K: return 176;
    default: return 210; /* Q6_K */
    }
}

static inline bool is_super(enum ggml_type type) { return type == GGML_TYPE_Q4_K || type == GGML_TYPE_Q5_K || type == GGML_TYPE_Q6_K; }
static inline bool has_halves(enum ggml_type type) { return type == GGML_TYPE_Q6_K; }

/* u of block k of two rows. */
INLINE __m512i numbers(enum ggml_type type, const uint8_t *a, const uint8_t *b, int64_t k) {
    size_t at = (size_t)(is_super(type) ? k / 8 : k) * block_bytes(type);
    int part = (int)(k % 8), pair = part / 2, quarter = part % 4;
    a += at;
    b += at;
    switch (type) {
    case GGML_TYPE_Q4_0: return nibbles(a + 2, b + 2);
    case GGML_TYPE_Q4_1: return nibbles(a + 4, b + 4);
    case GGML_TYPE_Q5_0: return _mm512_or_si512(nibbles(a + 6, b + 6), fifths(a + 2, b + 2));
    case GGML_TYPE_Q5_1: return _mm512_or_si512(nibbles(a + 8, b + 8), fifths(a + 4, b + 4));
    case GGML_TYPE_Q8_0: return _mm512_xor_si512(two_blocks(a + 2, b + 2), _mm512_set1_epi8((char)0x80));
    case GGML_TYPE_Q4_K: return bits(two_blocks(a + 16 + 32 * pair, b + 16 + 32 * pair), 4 * (part % 2), 4);
    case GGML_TYPE_Q5_K: {
        __m512i low = bits(two_blocks(a + 48 + 32 * pair, b + 48 + 32 * pair), 4 * (part % 2), 4);
        return _mm512_or_si512(low, _mm512_slli_epi16(bits(two_blocks(a + 16, b + 16), part, 1), 4));
    }
    default: { /* Q6_K */
        size_t low_at = (size_t)(64 * (part / 4) + 32 * (part % 2)), high_at = (size_t)(128 + 32 * (part / 4));
        __m512i low = bits(two_blocks(a + low_at, b + low_at), 4 * (quarter / 2), 4);
        return _mm512_or_si512(low, _mm512_slli_epi16(bits(two_blocks(a + high_at, b + high_at), 2 * quarter, 2), 4));
    }
    }
}

/* ---- scales ---------------------------------------------------------------------------------------------------- */

INLINE float half(const uint8_t *at) {
    uint16_t h;
    memcpy(&h, at, sizeof h);
    return _cvtsh_ss(h);
}

INLINE __m512 halves(const uint8_t *const rows[GROUP], size_t at) { /* a half float of each row */
    int16_t h[GROUP];
    UNROLLED for (int i = 0; i < GROUP; i++) memcpy(&h[i], rows[i] + at, sizeof h[i]);
    return _mm512_cvtph_ps(
        _mm256_set_epi16(h[15], h[14], h[13], h[12], h[11], h[10], h[9], h[8], h[7], h[6], h[5], h[4], h[3], h[2], h[1], h[0]));
}

INLINE void scales_of_block(enum ggml_type type, const uint8_t *const rows[GROUP], int64_t k, float *d, float *m) {
    size_t at = (size_t)k * block_bytes(type);
    __m512 scales = halves(rows, at);
    _mm512_storeu_ps(d, scales);
    if (type == GGML_TYPE_Q4_1 || type == GGML_TYPE_Q5_1)
        _mm512_storeu_ps(m, halves(rows, at + 2));
    else
        _mm512_storeu_ps(m, _mm512_mul_ps(scales, _mm512_set1_ps(type == GGML_TYPE_Q4_0 ? -8 : type == GGML_TYPE_Q5_0 ? -16 : -128)));
}

/* Eight scales and eight minima of 6 bits each, in 12 bytes. */
INLINE void six_bits(const uint8_t *at, uint64_t *out_scales, uint64_t *out_mins) {
    uint32_t v[3];
    memcpy(v, at, sizeof v);
    *out_scales = (uint64_t)((v[2] & 0x0f0f0f0f) | (v[0] >> 6 & 0x03030303) << 4) << 32 | (v[0] & 0x3f3f3f3f);
    *out_mins = (uint64_t)((v[2] >> 4 & 0x0f0f0f0f) | (v[1] >> 6 & 0x03030303) << 4) << 32 | (v[1] & 0x3f3f3f3f);
}

INLINE __m256 times(__m256i v, float d) { return _mm256_mul_ps(_mm256_cvtepi32_ps(v), _mm256_set1_ps(d)); }

/* d and m of the eight blocks of a super block of one row; of sixteen halves, eight at a time. */
INLINE void scales_of_row(enum ggml_type type, const uint8_t *at, int eighth, __m256 *out_d, __m256 *out_m) {
    if (type == GGML_TYPE_Q6_K) {
        int64_t v;
        memcpy(&v, at + 192 + 8 * eighth, sizeof v);
        *out_d = times(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(v)), half(at + 208));
        *out_m = _mm256_mul_ps(*out_d, _mm256_set1_ps(-32));
        return;
    }
    uint64_t scales, mins;
    six_bits(at + 4, &scales, &mins);
    *out_d = times(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)scales)), half(at));
    *out_m = times(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)mins)), -half(at + 2));
}

INLINE void scales_of_super(enum ggml_type type, const uint8_t *const rows[GROUP], int64_t k, float *d, float *m) {
    for (int eighth = 0; eighth < (has_halves(type) ? 2 : 1); eighth++) {
        __m512i pairs_d[8], pairs_m[8];
        UNROLLED for (int i = 0; i < 8; i++) {
            __m256 v[2][2];
            UNROLLED for (int j = 0; j < 2; j++)
                scales_of_row(type, rows[lanes_row(i) + 4 * j] + (size_t)(k / 8) * block_bytes(type), eighth, &v[j][0], &v[j][1]);
            pairs_d[i] = _mm512_castps_si512(_mm512_insertf32x8(_mm512_castps256_ps512(v[0][0]), v[1][0], 1));
            pairs_m[i] = _mm512_castps_si512(_mm512_insertf32x8(_mm512_castps256_ps512(v[0][1]), v[1][1], 1));
        }
        lanes_transpose(pairs_d, d + 8 * eighth * GROUP, GROUP);
        lanes_transpose(pairs_m, m + 8 * eighth * GROUP, GROUP);
    }
}

/* Blocks [k, k + n) of a group; rows may be the same one. ahead: bytes from there to what will be unpacked next, which is fetched
 * meanwhile: sixteen short streams are more than the processor foresees. */
INLINE void unpack(enum ggml_type type, const uint8_t *const rows[GROUP], int64_t k, int n, size_t ahead, struct panel *out) {
    int per_block = has_halves(type) ? 2 : 1;
    for (int b = 0; b < n; b++) {
        size_t next = (size_t)(k + b) * block_bytes(type) / (is_super(type) ? 8 : 1) + ahead;
        UNROLLED for (int i = 0; i < GROUP; i++) _mm_prefetch((const char *)rows[i] + next, _MM_HINT_T0);
        __m512i pairs[8];
        UNROLLED for (int i = 0; i < 8; i++) pairs[i] = numbers(type, rows[lanes_row(i)], rows[lanes_row(i) + 4], k + b);
        lanes_transpose(pairs, out->u[b], GROUP);
        if (!is_super(type))
            scales_of_block(type, rows, k + b, out->d[b], out->m[b]);
        else if (b % 8 == 0)
            scales_of_super(type, rows, k + b, out->d[b * per_block], out->m[b * per_block]);
    }
}

#endif
