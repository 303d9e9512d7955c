/* memory.h - how much memory a server may promise: what the system has free, and what its KV caches and weights take. */
#ifndef COROLLA_NODE_MEMORY_H
#define COROLLA_NODE_MEMORY_H

#include "model/file.h"

/* Bytes that can be had without swapping, within the limit of the control group when there is one. */
uint64_t memory_available(void);
/* Bytes of the weights of blocks [begin, end) in the file. */
uint64_t memory_of_weights(const struct model_file *file, uint32_t begin, uint32_t end);

struct memory_plan {
    uint64_t available, weights, per_pad; /* bytes; of a pad: its KV, and the rows that its sessions may keep */
    uint32_t pad;                         /* tokens */
    uint32_t cache_tokens;                /* wanted; 0: cache_tokens_default, or what fits */
    uint32_t cache_tokens_default;
};
/* Tokens of KV that a server takes; pure. NOMEM says how many would fit. */
enum corolla_status memory_cache_tokens(const struct memory_plan *plan, uint32_t *out_tokens, struct corolla_error *err);

#endif
