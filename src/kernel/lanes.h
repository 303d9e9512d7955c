/* lanes.h - what the kernels for AVX-512 share: their target, and sixteen rows side by side in the lanes of registers. */
#ifndef COROLLA_KERNEL_LANES_H
#define COROLLA_KERNEL_LANES_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,avx512dq,f16c,fma")))
#define INLINE TARGET __attribute__((always_inline)) static inline
#define UNROLLED _Pragma("GCC unroll 16")
#define LANES 16

/* All that have these convert half floats as well. */
static inline bool lanes_can(void) {
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma");
}

/* Pairs hold eight words of row lanes_row(i), and eight of the row that is four further -> out[word][row], one word after stride others. */
static inline int lanes_row(int i) { return i < 4 ? i : i + 4; }

INLINE void lanes_transpose(const __m512i pairs[8], void *out, size_t stride) {
    __m512i low[4], high[4];
    uint32_t *to = out;
    UNROLLED for (int i = 0; i < 4; i++) {
        low[i] = _mm512_shuffle_i64x2(pairs[i], pairs[i + 4], 0x88);
        high[i] = _mm512_shuffle_i64x2(pairs[i], pairs[i + 4], 0xdd);
    }
    UNROLLED for (int half = 0; half < 2; half++, to += 4 * stride) {
        const __m512i *w = half ? high : low;
        __m512i a = _mm512_unpacklo_epi32(w[0], w[1]), b = _mm512_unpackhi_epi32(w[0], w[1]);
        __m512i c = _mm512_unpacklo_epi32(w[2], w[3]), d = _mm512_unpackhi_epi32(w[2], w[3]);
        _mm512_storeu_si512(to, _mm512_unpacklo_epi64(a, c));
        _mm512_storeu_si512(to + stride, _mm512_unpackhi_epi64(a, c));
        _mm512_storeu_si512(to + 2 * stride, _mm512_unpacklo_epi64(b, d));
        _mm512_storeu_si512(to + 3 * stride, _mm512_unpackhi_epi64(b, d));
    }
}

#endif
