/* tiny.h - makes tiny random GGUF models for tests, through ggml's own gguf API.
 *
 * The files have the keys and tensor names that llama.cpp's converter writes, so libllama loads them as well and can be the
 * oracle. Which tensors there are follows from the row of the architecture. A tensor's numbers depend on the seed and its name only: two
 * files that differ in one option share all else. The rows of control tokens are zero in the embedding and the head, so greedy generation
 * does not stop early.
 *
 * Not done: split files, adapters.
 */
#ifndef COROLLA_TESTS_TINY_H
#define COROLLA_TESTS_TINY_H

#include <stdbool.h>
#include <stdint.h>

#include "model/arch.h"

enum tiny_rope { TINY_ROPE_PLAIN, TINY_ROPE_LINEAR, TINY_ROPE_LLAMA3, TINY_ROPE_YARN, TINY_ROPE_LONG };

struct tiny_config {
    const char *arch; /* a row of the table of architectures (model/arch.h) */
    const char *type; /* of all matrices: "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q4_K", "q6_K" */
    uint64_t seed;
    uint32_t n_blocks, n_embd, n_ff, n_head, n_head_kv, head_dim, n_ctx;
    uint32_t n_expert; /* of which each row has two; 0: a feed-forward for all */
    uint32_t n_rot;    /* rotated dimensions of a head; 0: all */
    bool tied;         /* the head is the embedding */
    enum tiny_rope rope;
    float rope_base;
    uint32_t window;            /* sliding window; 0: none */
    bool parallel;              /* the key of GPT-NeoX */
    float alibi, clamp;         /* the keys of MPT; 0: without */
    float softcap, logit_scale; /* the keys of Gemma 2 and Command R; 0: without */
    uint64_t optional;          /* bit per enum block_tensor that the row may have, and these have */
    uint32_t edges;             /* bit per enum global_tensor, likewise */
    bool no_vocab;              /* 16 tokens without texts: for small files */
};

/* 5 blocks of 256, 4 heads on 2 KV heads, untied, F32, context 512, and what models of the family usually have. */
void tiny_config_default(struct tiny_config *config, const char *arch);
/* False when the file cannot be written or the type is not known; says why on stderr. */
bool tiny_write(const struct tiny_config *config, const char *path);

#endif
