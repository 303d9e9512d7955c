/* proof.h - finding out by computing whether a kernel gives the same bits for one row and for many.
 *
 * ggml chooses kernels by the number of rows, and some sum in another order. Instead of trusting a table of versions and
 * processors, a weight type's kernel is run on a small random case, and a loaded block on random hidden states (span.c).
 */
#ifndef COROLLA_MODEL_PROOF_H
#define COROLLA_MODEL_PROOF_H

#include "model/engine.h"

struct ggml_backend_buffer_type;

/* Multiplies a random weight in such a buffer with 1 row and with growing numbers of rows: true when the bits are equal. */
bool proof_kernel(struct engine *engine, struct ggml_backend_buffer_type *buft, int ggml_type, int64_t columns);
/* Deterministic numbers in [-1, 1), for cases that every node computes alike. */
void proof_random(uint32_t seed, float *out, size_t n);

#endif
