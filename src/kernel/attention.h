/* attention.h - attention of a batch's rows to their sessions' caches in half floats, whose sums do not depend on how many rows, items or
 * threads there are.
 *
 * Of each row and head: a score with each position that it sees, one sum along the head's columns; softmax of the scores times scale; the
 * weights, rounded to half floats, with the positions' values, one sum along the positions, in their order. What a row does not see is not
 * computed. Keys and values of sixteen positions, or columns, stand side by side in the lanes, unpacked once for many rows.
 *
 * Custom operations of ggml's CPU backend on processors with AVX-512 VNNI. Where rows are and which caches they have is looked up when the
 * graph runs, so that one graph serves all batches of as many rows.
 */
#ifndef COROLLA_KERNEL_ATTENTION_H
#define COROLLA_KERNEL_ATTENTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ggml_context;
struct ggml_tensor;

#define ATTENTION_NAME "attention1" /* another one when a change changes bits */
#define ATTENTION_PAD 64            /* a cache has a multiple of so many positions */

struct attention_item {   /* rows of one session, behind each other in the batch and in the session */
    uint32_t n, position; /* of the first row */
    char *k, *v;          /* of the first block, in half floats: [n_head_kv * head_dim] per position */
    size_t stride;        /* bytes from one block to the next */
};

struct attention {
    uint32_t head_dim, n_head, n_head_kv;
    float scale;
    float *scratch; /* attention_scratch() bytes */
    uint32_t n_items;
    struct attention_item *items;
};

struct attention_block { /* what an operation of the graph points to */
    const struct attention *of;
    uint32_t index;    /* 0: the first */
    uint32_t n_window; /* positions that a row sees, itself included; 0: all before it */
};

/* Whether this processor can, for heads of such a size. */
bool attention_can(uint32_t head_dim);
/* Bytes for items of at most so many positions. */
size_t attention_scratch(uint32_t positions, uint32_t threads);
/* q [D, H, T], k and v [D * G, T] in F32 -> [D * H, T]. Stores k and v in the caches. The block and what it points to outlive the graph;
 * items and scratch may change between runs. */
struct ggml_tensor *attention(struct ggml_context *ctx, struct ggml_tensor *q, struct ggml_tensor *k, struct ggml_tensor *v,
                              struct attention_block *block);

#endif
