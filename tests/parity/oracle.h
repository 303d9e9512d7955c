/* oracle.h - libllama's own decoding of a GGUF file, to which corolla's is compared: no flash attention unless the cache needs it, plain
 * buffers, one thread. Nothing of corolla is in it. */
#ifndef COROLLA_TESTS_ORACLE_H
#define COROLLA_TESTS_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum oracle_kv { ORACLE_KV_F16, ORACLE_KV_F32, ORACLE_KV_Q8_0 };

struct oracle;
/* NULL, and the reason on stderr, when libllama does not load the file. */
struct oracle *oracle_open(const char *path, uint32_t n_ctx, enum oracle_kv kv);
void oracle_close(struct oracle *oracle);
uint32_t oracle_n_vocab(const struct oracle *oracle);

/* Logits of all positions, [n, n_vocab], from an empty cache, fed in chunks. window: a position sees only the last window
 * positions, itself included, whatever the file says (libllama does not read the key for every family): what is older is
 * removed from the cache before each step, so chunk must be 1; 0: no window. */
bool oracle_logits(struct oracle *oracle, const int32_t *tokens, uint32_t n, uint32_t chunk, uint32_t window, float *out_logits);

/* Token ids of a text, without special tokens; returns how many (at most max). */
uint32_t oracle_tokenize(const struct oracle *oracle, const char *text, int32_t *out_tokens, uint32_t max);

#endif
