/* prefix.c - see prefix.h. */
#include "client/prefix.h"

#include <string.h>

#include "base/mem.h"
#include "crypto/digest.h"

uint32_t prefix_hashes(const uint8_t model[ID_SIZE], const int32_t *tokens, size_t n, uint8_t out[PREFIX_HASHES_MAX][PREFIX_HASH_SIZE]) {
    _Static_assert(ID_SIZE == DIGEST_SIZE && PREFIX_HASH_SIZE <= DIGEST_SIZE, "a model id is a hash");
    uint8_t part[DIGEST_SIZE + 4 * PREFIX_STEP];
    uint32_t n_hashes = 0;
    memcpy(part, model, DIGEST_SIZE);
    for (size_t at = 0; n_hashes < PREFIX_HASHES_MAX && n > PREFIX_STEP && at < n - PREFIX_STEP; at += PREFIX_STEP) {
        for (uint32_t i = 0; i < PREFIX_STEP; i++) le32_put(part + DIGEST_SIZE + 4 * i, (uint32_t)tokens[at + i]);
        digest_once(part, sizeof part, part);
        memcpy(out[n_hashes++], part, PREFIX_HASH_SIZE);
    }
    return n_hashes;
}
