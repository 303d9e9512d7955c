/* product.h - products of quantised weights with many rows at once, whose sums do not depend on how many rows, threads or pieces there are.
 *
 * ggml's plain kernels take one row at a time, so that a weight is unpacked again for each; its tiled ones sum many rows in another order
 * than one. Here a group of four weight rows is unpacked once and meets all rows, four at a time. Of each pair (weight row, row) there is
 * one accumulator of eight lanes, block after block of 32 columns, whatever else is in the tile: so one row and many have the same bits.
 *
 *   y = sum over blocks of d_w d_x (sum of u q - z sum of q) + sum over blocks of m_w (d_x sum of q)
 *
 * u: the weight's unsigned numbers, z their zero, d_w and m_w their scale and minimum; q: the row's numbers in 8 bits, d_x their scale.
 *
 * It is a custom operation of ggml's CPU backend, for Q8_0, Q5_0 and Q4_1 on processors with AVX-512 VNNI, where it is faster for one row and for
 * many (bench/RESULTS.md); all else is ggml_mul_mat(). Rows are quantised, and sums made, as by ggml's kernels for one row on such a
 * processor: the bits are the same (tests/unit/test_product.c), so that it is no arithmetic class of its own.
 */
#ifndef COROLLA_KERNEL_PRODUCT_H
#define COROLLA_KERNEL_PRODUCT_H

#include <stdbool.h>

struct ggml_context;
struct ggml_tensor;

/* Whether weight [in, out], as it lies in memory, can be multiplied here. */
bool product_takes(const struct ggml_tensor *weight);
/* weight [in, out] . x [in, T] -> [out, T]; F32 rows in and out. */
struct ggml_tensor *product(struct ggml_context *ctx, struct ggml_tensor *weight, struct ggml_tensor *x);

#endif
