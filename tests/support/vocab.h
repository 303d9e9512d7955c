/* vocab.h - the vocabularies of tiny models: every byte, a few merges, ChatML's control tokens. */
#ifndef COROLLA_TESTS_VOCAB_H
#define COROLLA_TESTS_VOCAB_H

#include <stdint.h>

#include "gguf.h"

#define TINY_VOCAB_MAX 512
#define TINY_PIECE_MAX 32

struct tiny_vocab {
    uint32_t n;
    char text[TINY_VOCAB_MAX][TINY_PIECE_MAX];
    int32_t type[TINY_VOCAB_MAX]; /* libllama's token types: 1 normal, 2 unknown, 3 control, 6 byte */
    float score[TINY_VOCAB_MAX];
    uint32_t n_merges;
    char merges[TINY_VOCAB_MAX][2 * TINY_PIECE_MAX];
    uint32_t bos, eos, unk;
};

void tiny_vocab_spm(struct tiny_vocab *vocab); /* as Llama 2 */
void tiny_vocab_bpe(struct tiny_vocab *vocab); /* as GPT-2 and Qwen */
void tiny_vocab_write(const struct tiny_vocab *vocab, struct gguf_context *gguf);

#endif
