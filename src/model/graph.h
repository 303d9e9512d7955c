/* graph.h - the graph of a batch through consecutive blocks: the one builder for all architectures.
 *
 * Shapes: T rows of all items together, n rows of one item, W its attention window (kv_window), H heads, G KV heads, D head_dim.
 *   x [n_embd, T]  ->  per block: x += out(attention(norm(x)));  x += down(act(gate(norm(x))) * up(norm(x)))
 * and what the traits of a family make of that (arch.h).
 * Matrix products see all T rows. Attention runs per item over that item's own cache:
 *   K [D, W, G] . Q [D, n, H] -> [W, n, H], softmax with mask [W, n], V [W, D, G] . -> [D, n, H]
 * in pieces of rows, so that [W, n, H] stays small; a row's bits do not depend on the pieces. With kernel/attention.h it is one operation
 * for all items, which finds their caches and positions when it runs.
 */
#ifndef COROLLA_MODEL_GRAPH_H
#define COROLLA_MODEL_GRAPH_H

#include "kernel/attention.h"
#include "model/kv.h"

struct ggml_tensor;
struct ggml_context;

struct block_weights {
    struct ggml_tensor *t[BLOCK_TENSOR_COUNT]; /* NULL: the block has none */
};

struct graph_item {
    struct kv *kv;
    uint32_t n, window;
    struct ggml_tensor *k_index; /* I64 [n]: the row in K of each position */
    struct ggml_tensor *v_index; /* I64 [n * kv_dim]: the element in V of each number; NULL where attention is fused */
    struct ggml_tensor
        *mask; /* F16 [W, n], F32 with ALiBi: 0 or minus the distance, minus infinity for what is not seen; NULL: no block has it */
    struct ggml_tensor *window_mask; /* the same for blocks with a window */
};

struct graph {
    uint32_t n_rows, n_items;
    struct ggml_context *ctx;
    struct ggml_cgraph *cgraph;
    struct ggml_tensor *in, *out; /* F32 [n_embd, T] */
    struct ggml_tensor *position; /* I32 [T]; NULL: nothing turns by it */
    struct ggml_tensor *attended; /* F32 [D * H, T]: where the pieces of attention meet */
    struct graph_item items[BATCH_ITEMS_MAX];
    struct attention attention; /* with ATTENDING_OWN: scratch and items are set before each run; the others have no caches then */
    struct attention_item attention_items[BATCH_ITEMS_MAX];
    struct attention_block *attention_blocks;
};

struct graph_config {
    const struct hparams *hparams;
    const struct block_weights *blocks; /* of the first block that the items use */
    uint32_t first;                     /* its index in the model; in the pieces of the items' caches it is the first */
    uint32_t n_blocks;
    struct ggml_tensor *rope_freqs; /* NULL: none */
    const struct part *part;
    enum attending attending;
};

/* Builds into *graph, whose n_items and items' kv, n and window are set; nothing is allocated on the device. */
enum corolla_status graph_build(struct graph *graph, const struct graph_config *config, struct corolla_error *err);
uint32_t graph_rows(const struct graph_item *items, uint32_t n_items); /* of all of them */
void graph_clear(struct graph *graph);

/* The norm of the family; bias: NULL or a vector. */
struct ggml_tensor *graph_norm(struct ggml_context *ctx, const struct hparams *hparams, struct ggml_tensor *x, struct ggml_tensor *weight,
                               struct ggml_tensor *bias);
/* cap * tanh(x * scale / cap) */
struct ggml_tensor *graph_softcap(struct ggml_context *ctx, struct ggml_tensor *x, float scale, float cap);

#endif
