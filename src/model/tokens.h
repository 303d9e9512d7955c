/* tokens.h - the part of a vocabulary that libllama trusts blindly: it aborts when two tokens have the same text, and throws
 * through its C interface when a SentencePiece vocabulary lacks a byte. Pure; any thread. */
#ifndef COROLLA_MODEL_TOKENS_H
#define COROLLA_MODEL_TOKENS_H

#include "model/header.h"

/* Checks tokenizer.ggml.tokens, an array of n_vocab strings, and the kind of tokenizer. A file without one passes: a server needs none. */
enum corolla_status tokens_check(const struct header *header, uint32_t n_vocab, struct corolla_error *err);

#endif
