/* product.h - products of quantised weights with rows, whose sums do not depend on how many rows, threads or pieces there are.
 *
 * ggml's plain kernels take one row at a time, so that a weight is unpacked again for each; its tiled ones sum many rows in another order
 * than one. Here sixteen weight rows are unpacked side by side, once for all rows of x, and each pair (weight row, row) has one sum of its
 * own, block after block of 32 columns, whatever else is in the tile: so one row and many have the same bits.
 *
 *   y = sum over blocks of d_w d_x (sum of u q) + m_w (d_x sum of q)
 *
 * A weight is d_w u + m_w (unpack.h), a number of a row d_x q with q of 8 bits; sums of u q are whole numbers. The block's two terms are
 * added one after the other, each with one rounding.
 *
 * They are custom operations of ggml's CPU backend, for processors with AVX-512 VNNI; all else is ggml_mul_mat(). The sums are not those of
 * ggml's kernels, so PRODUCT_NAME is part of the arithmetic class (model/engine.c).
 */
#ifndef COROLLA_KERNEL_PRODUCT_H
#define COROLLA_KERNEL_PRODUCT_H

#include <stdbool.h>
#include <stdint.h>

struct ggml_context;
struct ggml_tensor;

#define PRODUCT_NAME "product2" /* another one when a change changes bits */

/* Whether this processor can multiply weights of a ggml_type with so many columns here, when the processor's own memory holds them. */
bool product_can(int type, int64_t columns);
/* Whether weight [in, out], as it lies in memory, can be multiplied here. */
bool product_takes(const struct ggml_tensor *weight);
/* x [in, T] in F32 -> the rows as product() wants them, for any number of weights. */
struct ggml_tensor *product_rows(struct ggml_context *ctx, struct ggml_tensor *x);
/* weight [in, out] . rows of x [in, T] -> [out, T] in F32. */
struct ggml_tensor *product(struct ggml_context *ctx, struct ggml_tensor *weight, struct ggml_tensor *rows);

#endif
