/* tiny.h - makes tiny random GGUF models for tests, through ggml's own gguf API.
 *
 * The files have the keys and tensor names that llama.cpp's converter writes, so libllama loads them as well and can be the
 * oracle. A tensor's numbers depend on the seed and its name only: two files that differ in one option share all else. The
 * rows of control tokens are zero in the embedding and the head, so greedy generation does not stop early.
 *
 * Not done: experts, split files, adapters.
 */
#ifndef COROLLA_TESTS_TINY_H
#define COROLLA_TESTS_TINY_H

#include <stdbool.h>
#include <stdint.h>

enum tiny_rope { TINY_ROPE_PLAIN, TINY_ROPE_LINEAR, TINY_ROPE_LLAMA3, TINY_ROPE_YARN };

struct tiny_config {
    const char *arch; /* "llama", "qwen2" (QKV biases) or "qwen3" (QK norm, heads wider than n_embd / n_head) */
    const char *type; /* of all matrices: "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q4_K", "q6_K" */
    uint64_t seed;
    uint32_t n_blocks, n_embd, n_ff, n_head, n_head_kv, head_dim, n_ctx;
    bool tied; /* the head is the embedding */
    enum tiny_rope rope;
    uint32_t window; /* sliding window; 0: none */
    bool no_vocab;   /* 16 tokens without texts: for small files */
};

/* 5 blocks of 256, 4 heads on 2 KV heads, untied, F32, context 512. */
void tiny_config_default(struct tiny_config *config, const char *arch);
/* False when the file cannot be written or the type is not known; says why on stderr. */
bool tiny_write(const struct tiny_config *config, const char *path);

#endif
