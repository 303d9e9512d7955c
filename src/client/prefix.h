/* prefix.h - the names that OPEN gives to what a session will begin with (node/prefix.h). Pure. */
#ifndef COROLLA_CLIENT_PREFIX_H
#define COROLLA_CLIENT_PREFIX_H

#include "wire/msg.h"

/* Hash i is the first half of SHA-256(hash i - 1 in full, 64 tokens as 32-bit little endian); in the place of hash -1 stands the model id.
 * Only whole parts have one, and not the last token, which is computed in any case. Returns how many there are. */
uint32_t prefix_hashes(const uint8_t model[ID_SIZE], const int32_t *tokens, size_t n, uint8_t out[PREFIX_HASHES_MAX][PREFIX_HASH_SIZE]);

#endif
