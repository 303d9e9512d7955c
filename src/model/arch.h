/* arch.h - the table of architectures: one row of traits per family, and the hyperparameters of one model.
 *
 * A new family is a row here (and a tensor-name column, if its names differ); the graph builder (block.c) reads traits and
 * never asks for a family's name.
 */
#ifndef COROLLA_MODEL_ARCH_H
#define COROLLA_MODEL_ARCH_H

#include <corolla.h>

enum arch_rope { ROPE_NORMAL, ROPE_NEOX };
enum rope_scaling { ROPE_SCALING_NONE, ROPE_SCALING_LINEAR, ROPE_SCALING_YARN };

struct arch {
    const char *name; /* general.architecture */
    enum arch_rope rope;
    bool qk_norm;  /* RMS norm per head on Q and K, before RoPE */
    bool qkv_bias; /* biases on Q, K and V are required (elsewhere they are optional) */
};

struct hparams {
    const struct arch *arch;
    uint32_t n_blocks, n_embd, n_ff, n_head, n_head_kv, n_vocab, n_ctx_train;
    uint32_t head_dim; /* of K and V */
    uint32_t n_rot;
    uint32_t n_swa; /* sliding window in tokens; 0: none */
    float norm_eps;
    float rope_base, rope_scale; /* rope_scale multiplies positions: 1 / factor */
    enum rope_scaling rope_scaling;
    uint32_t n_ctx_orig; /* for YaRN */
    float yarn_ext_factor, yarn_attn_factor, yarn_beta_fast, yarn_beta_slow;
    float attn_scale; /* of K Q; 0 in the file: 1 / sqrt(head_dim) */
};

/* NULL when there is no such row. */
const struct arch *arch_find(const char *name);

#endif
