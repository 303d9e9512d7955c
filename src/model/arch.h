/* arch.h - the table of architectures: one row of traits per family, the tensors of a block, and one model's hyperparameters.
 *
 * A new family is a row in arch.c. The graph builder (block.c) reads the row and which tensors a block has, never a family's name.
 */
#ifndef COROLLA_MODEL_ARCH_H
#define COROLLA_MODEL_ARCH_H

#include "model/header.h"

/* X(ROLE, name, columns, rows): the tensors of a block, "blk.N." in front of the name; rows NONE: a vector. */
#define BLOCK_TENSOR_MAP(X)                                                                                                                \
    X(ATTN_NORM, "attn_norm.weight", EMBD, NONE)                                                                                           \
    X(ATTN_Q, "attn_q.weight", EMBD, Q)                                                                                                    \
    X(ATTN_Q_BIAS, "attn_q.bias", Q, NONE)                                                                                                 \
    X(ATTN_Q_NORM, "attn_q_norm.weight", HEAD, NONE)                                                                                       \
    X(ATTN_K, "attn_k.weight", EMBD, KV)                                                                                                   \
    X(ATTN_K_BIAS, "attn_k.bias", KV, NONE)                                                                                                \
    X(ATTN_K_NORM, "attn_k_norm.weight", HEAD, NONE)                                                                                       \
    X(ATTN_V, "attn_v.weight", EMBD, KV)                                                                                                   \
    X(ATTN_V_BIAS, "attn_v.bias", KV, NONE)                                                                                                \
    X(ATTN_OUT, "attn_output.weight", Q, EMBD)                                                                                             \
    X(ATTN_OUT_BIAS, "attn_output.bias", EMBD, NONE)                                                                                       \
    X(FFN_NORM, "ffn_norm.weight", EMBD, NONE)                                                                                             \
    X(FFN_GATE, "ffn_gate.weight", EMBD, FF)                                                                                               \
    X(FFN_GATE_BIAS, "ffn_gate.bias", FF, NONE)                                                                                            \
    X(FFN_UP, "ffn_up.weight", EMBD, FF)                                                                                                   \
    X(FFN_UP_BIAS, "ffn_up.bias", FF, NONE)                                                                                                \
    X(FFN_DOWN, "ffn_down.weight", FF, EMBD)                                                                                               \
    X(FFN_DOWN_BIAS, "ffn_down.bias", EMBD, NONE)

enum block_tensor {
#define X(role, name, columns, rows) BLOCK_##role,
    BLOCK_TENSOR_MAP(X)
#undef X
        BLOCK_TENSOR_COUNT
};

/* The tensors outside of the blocks, the edges' and the shared ones. */
#define GLOBAL_TENSOR_MAP(X)                                                                                                               \
    X(TOKEN_EMBD, "token_embd.weight", EMBD, VOCAB)                                                                                        \
    X(OUTPUT_NORM, "output_norm.weight", EMBD, NONE)                                                                                       \
    X(OUTPUT, "output.weight", EMBD, VOCAB)                                                                                                \
    X(ROPE_FREQS, "rope_freqs.weight", HALF_ROT, NONE)

enum global_tensor {
#define X(role, name, columns, rows) GLOBAL_##role,
    GLOBAL_TENSOR_MAP(X)
#undef X
        GLOBAL_TENSOR_COUNT
};

enum arch_rope { ROPE_NORMAL, ROPE_NEOX };

struct arch {
    const char *name; /* general.architecture */
    enum arch_rope rope;
    uint32_t required, optional; /* bit per enum block_tensor; any other tensor in a block is refused */
    bool window;                 /* <arch>.attention.sliding_window holds for all blocks */
};

struct hparams {
    const struct arch *arch;
    uint32_t n_blocks, n_embd, n_ff, n_head, n_head_kv, n_vocab, n_ctx_train;
    uint32_t head_dim; /* of Q, K and V */
    uint32_t n_rot;    /* rotated dimensions of a head */
    uint32_t n_window; /* a position sees the last n_window positions, itself included; 0: all */
    float norm_eps;
    float rope_base, rope_scale; /* positions are multiplied by rope_scale = 1 / factor */
    uint32_t n_ctx_orig;         /* YaRN: the context that the model was first trained with */
    float yarn_ext_factor, yarn_attn_factor, yarn_beta_fast, yarn_beta_slow;
    float attn_scale;
};

/* The row of an architecture; NULL when there is none. */
const struct arch *arch_find(const char *name, size_t size);

/* Reads and checks the hyperparameters and every tensor's presence, shape and type: behind this, ggml meets what it expects.
 * FORMAT for what is wrong, UNSUPPORTED with the name of what no row expresses. */
enum corolla_status arch_read(struct hparams *out, const struct header *header, struct corolla_error *err);

/* The name of a block's tensor. */
void arch_block_tensor_name(enum block_tensor role, uint32_t block, char out[TENSOR_NAME_SIZE]);
const char *arch_global_tensor_name(enum global_tensor role);

#endif
