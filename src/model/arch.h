/* arch.h - the table of architectures: one row of traits per family, the tensors of a block, and one model's hyperparameters.
 *
 * A new family is a row in arch.c. The graph builder (graph.c) reads the row and which tensors a block has, never a family's name.
 */
#ifndef COROLLA_MODEL_ARCH_H
#define COROLLA_MODEL_ARCH_H

#include "model/header.h"

/* X(ROLE, name, columns, rows, count): the tensors of a block, "blk.N." in front of the name; rows NONE: a vector; count NONE: one. Some
 * names stand for tensors of another shape in another family: a row has one of them. */
#define BLOCK_TENSOR_MAP(X)                                                                                                                \
    X(ATTN_NORM, "attn_norm.weight", EMBD, NONE, NONE)                                                                                     \
    X(ATTN_NORM_BIAS, "attn_norm.bias", EMBD, NONE, NONE)                                                                                  \
    X(ATTN_NORM_2, "attn_norm_2.weight", EMBD, NONE, NONE) /* attention has a norm of its own, beside the feed-forward's */                \
    X(ATTN_NORM_2_BIAS, "attn_norm_2.bias", EMBD, NONE, NONE)                                                                              \
    X(ATTN_QKV, "attn_qkv.weight", EMBD, QKV, NONE) /* Q, K and V behind each other */                                                     \
    X(ATTN_QKV_BIAS, "attn_qkv.bias", QKV, NONE, NONE)                                                                                     \
    X(ATTN_Q, "attn_q.weight", EMBD, Q, NONE)                                                                                              \
    X(ATTN_Q_BIAS, "attn_q.bias", Q, NONE, NONE)                                                                                           \
    X(ATTN_Q_NORM, "attn_q_norm.weight", HEAD, NONE, NONE)        /* of each head, ... */                                                  \
    X(ATTN_Q_NORM_HEADS, "attn_q_norm.weight", HEAD, HEADS, NONE) /* each with weights of its own, or ... */                               \
    X(ATTN_Q_NORM_ALL, "attn_q_norm.weight", Q, NONE, NONE)       /* of all heads together */                                              \
    X(ATTN_K, "attn_k.weight", EMBD, KV, NONE)                                                                                             \
    X(ATTN_K_BIAS, "attn_k.bias", KV, NONE, NONE)                                                                                          \
    X(ATTN_K_NORM, "attn_k_norm.weight", HEAD, NONE, NONE)                                                                                 \
    X(ATTN_K_NORM_HEADS, "attn_k_norm.weight", HEAD, KV_HEADS, NONE)                                                                       \
    X(ATTN_K_NORM_ALL, "attn_k_norm.weight", KV, NONE, NONE)                                                                               \
    X(ATTN_V, "attn_v.weight", EMBD, KV, NONE)                                                                                             \
    X(ATTN_V_BIAS, "attn_v.bias", KV, NONE, NONE)                                                                                          \
    X(ATTN_OUT, "attn_output.weight", Q, EMBD, NONE)                                                                                       \
    X(ATTN_OUT_BIAS, "attn_output.bias", EMBD, NONE, NONE)                                                                                 \
    X(ATTN_POST_NORM, "post_attention_norm.weight", EMBD, NONE, NONE)                                                                      \
    X(FFN_NORM, "ffn_norm.weight", EMBD, NONE, NONE)                                                                                       \
    X(FFN_NORM_BIAS, "ffn_norm.bias", EMBD, NONE, NONE)                                                                                    \
    X(FFN_GATE, "ffn_gate.weight", EMBD, FF, NONE)                                                                                         \
    X(FFN_GATE_BIAS, "ffn_gate.bias", FF, NONE, NONE)                                                                                      \
    X(FFN_GATE_UP, "ffn_up.weight", EMBD, TWO_FF, NONE) /* gate and up behind each other */                                                \
    X(FFN_UP, "ffn_up.weight", EMBD, FF, NONE)                                                                                             \
    X(FFN_UP_BIAS, "ffn_up.bias", FF, NONE, NONE)                                                                                          \
    X(FFN_DOWN, "ffn_down.weight", FF, EMBD, NONE)                                                                                         \
    X(FFN_DOWN_BIAS, "ffn_down.bias", EMBD, NONE, NONE)                                                                                    \
    X(FFN_GATE_INP, "ffn_gate_inp.weight", EMBD, EXPERTS, NONE) /* how much each expert has to say */                                      \
    X(FFN_GATE_EXPS, "ffn_gate_exps.weight", EMBD, EXPERT_FF, EXPERTS)                                                                     \
    X(FFN_UP_EXPS, "ffn_up_exps.weight", EMBD, EXPERT_FF, EXPERTS)                                                                         \
    X(FFN_DOWN_EXPS, "ffn_down_exps.weight", EXPERT_FF, EMBD, EXPERTS)                                                                     \
    X(FFN_GATE_INP_SHARED, "ffn_gate_inp_shexp.weight", EMBD, NONE, NONE) /* the same for the expert that all rows have */                 \
    X(FFN_GATE_SHARED, "ffn_gate_shexp.weight", EMBD, SHARED_FF, NONE)                                                                     \
    X(FFN_UP_SHARED, "ffn_up_shexp.weight", EMBD, SHARED_FF, NONE)                                                                         \
    X(FFN_DOWN_SHARED, "ffn_down_shexp.weight", SHARED_FF, EMBD, NONE)                                                                     \
    X(FFN_POST_NORM, "post_ffw_norm.weight", EMBD, NONE, NONE)

enum block_tensor {
#define X(role, name, columns, rows, count) BLOCK_##role,
    BLOCK_TENSOR_MAP(X)
#undef X
        BLOCK_TENSOR_COUNT
};

/* The tensors outside of the blocks, the edges' and the shared ones. */
#define GLOBAL_TENSOR_MAP(X)                                                                                                               \
    X(TOKEN_EMBD, "token_embd.weight", EMBD, VOCAB)                                                                                        \
    X(TOKEN_NORM, "token_embd_norm.weight", EMBD, NONE)                                                                                    \
    X(TOKEN_NORM_BIAS, "token_embd_norm.bias", EMBD, NONE)                                                                                 \
    X(POSITION_EMBD, "position_embd.weight", EMBD, CTX)                                                                                    \
    X(OUTPUT_NORM, "output_norm.weight", EMBD, NONE)                                                                                       \
    X(OUTPUT_NORM_BIAS, "output_norm.bias", EMBD, NONE)                                                                                    \
    X(OUTPUT, "output.weight", EMBD, VOCAB)                                                                                                \
    X(OUTPUT_BIAS, "output.bias", VOCAB, NONE)                                                                                             \
    X(ROPE_FREQS, "rope_freqs.weight", HALF_ROT, NONE)                                                                                     \
    X(ROPE_SHORT, "rope_factors_short.weight", HALF_ROT, NONE)                                                                             \
    X(ROPE_LONG, "rope_factors_long.weight", HALF_ROT, NONE)

enum global_tensor {
#define X(role, name, columns, rows) GLOBAL_##role,
    GLOBAL_TENSOR_MAP(X)
#undef X
        GLOBAL_TENSOR_COUNT
};

enum arch_rope { ROPE_NORMAL, ROPE_NEOX, ROPE_NONE };
enum arch_norm { NORM_RMS, NORM_LAYER };
enum arch_act { ACT_SILU, ACT_GELU };

/* Zero: the family has no such trait. */
struct arch {
    const char *name;               /* general.architecture */
    const char *models;             /* what it is known for */
    uint64_t required, optional;    /* bit per enum block_tensor; any other tensor in a block is refused */
    uint32_t edges_required, edges; /* bit per enum global_tensor that stands beside the embedding, output norm and head */
    enum arch_rope rope;
    enum arch_norm norm;
    enum arch_act act;
    bool parallel;                          /* attention and feed-forward read the same: x + attention(norm(x)) + feed_forward(norm(x)) */
    bool parallel_without_norm;             /* so do blocks that have no norm before the feed-forward */
    bool window;                            /* <arch>.attention.sliding_window */
    uint32_t window_default, window_period; /* without that key; of so many blocks the last one sees all, 0: none does */
    bool window_rope;                       /* blocks with a window turn unscaled, ... */
    float window_rope_base;                 /* ... by this base, or rope.freq_base_swa; 0: the one of all blocks */
    bool window_ignored;                    /* files have that key, and libllama makes nothing of it */
    float alibi;                            /* the largest slope is 2 to the -alibi / heads: of all its models, ... */
    bool alibi_key;                         /* ... or as attention.max_alibi_bias says */
    float attn_softcap, logit_softcap;      /* unless the file says otherwise */
    bool normed_experts;                    /* the weights of the chosen ones sum up to 1 */
    bool scaled_embedding;                  /* by the square root of n_embd */
    uint32_t blocks_scaled_by_embd;         /* a model of so many blocks scales scores by the root of n_embd / n_head */
};

struct hparams {
    const struct arch *arch;
    uint32_t n_blocks, n_embd, n_ff, n_head, n_head_kv, n_vocab, n_ctx_train;
    uint32_t n_expert, n_expert_used, n_ff_expert, n_ff_shared;
    uint32_t head_dim;                /* of Q, K and V */
    uint32_t n_rot;                   /* rotated dimensions of a head */
    uint32_t n_window, window_period; /* in some blocks a position sees the last n_window positions, itself included; 0: all */
    bool parallel;
    float norm_eps;
    float rope_base, rope_scale; /* positions are multiplied by rope_scale = 1 / factor */
    float window_rope_base;      /* of blocks with a window, unscaled; 0: as elsewhere */
    uint32_t n_ctx_orig;         /* YaRN: the context that the model was first trained with */
    float yarn_ext_factor, yarn_attn_factor, yarn_beta_fast, yarn_beta_slow;
    float attn_scale;
    float alibi, attn_softcap, clamp_qkv;        /* 0: none */
    float embd_scale, logit_scale, expert_scale; /* 1: as they are */
    float logit_softcap;
};

/* The positions that a block's rows see, the row's own included; 0: all. */
uint32_t hparams_window(const struct hparams *hparams, uint32_t block);
bool arch_has(const struct arch *arch, enum block_tensor role);

/* The row of an architecture; NULL when there is none. */
const struct arch *arch_find(const char *name, size_t size);
/* All rows. */
const struct arch *arch_rows(size_t *out_count);
/* What distinguishes a row, in words. */
void arch_traits(const struct arch *arch, char *out, size_t size);
/* What a tensor's dimensions are by the hyperparameters. */
void arch_block_tensor_shape(const struct hparams *hparams, enum block_tensor role, int64_t out[3]);
void arch_global_tensor_shape(const struct hparams *hparams, enum global_tensor role, int64_t out[3]);

/* Reads and checks the hyperparameters and every tensor's presence, shape and type: behind this, ggml meets what it expects.
 * FORMAT for what is wrong, UNSUPPORTED with the name of what no row expresses. */
enum corolla_status arch_read(struct hparams *out, const struct header *header, struct corolla_error *err);

/* The name of a block's tensor. */
void arch_block_tensor_name(enum block_tensor role, uint32_t block, char out[TENSOR_NAME_SIZE]);
const char *arch_global_tensor_name(enum global_tensor role);

#endif
