/* manifest.h - what a model is: the digests of its tensors and hyperparameters, and the Merkle root over them, the model id.
 *
 * Leaves, in this order: one for the hyperparameters, then one per tensor sorted by name.
 *   tensor leaf          SHA-256("corolla tensor\n"  | u32 name size | name | u32 type | u64 ne[4] | SHA-256 of the data)
 *   hyperparameter leaf  SHA-256("corolla hparams\n" | per key sorted by name: u32 name size | name | u32 type | u32 element |
 *                        u64 size | value), over general.architecture and all keys that start with neither general. nor
 *                        split. nor tokenizer.
 *   node                 SHA-256("corolla node\n" | left | right); an odd one out rises unchanged
 * Numbers are little endian. Names such as general.name do not enter, so renamed or split files meet, and two fine-tunes never do.
 *
 * Hashing reads the whole file once; the result is kept in the cache under the file's path, size and time.
 */
#ifndef COROLLA_MODEL_MANIFEST_H
#define COROLLA_MODEL_MANIFEST_H

#include "model/header.h"

#define MANIFEST_DIGEST_SIZE 32

struct manifest {
    uint8_t id[MANIFEST_DIGEST_SIZE];
    size_t n_tensors;
    uint8_t (*digests)[MANIFEST_DIGEST_SIZE]; /* of the tensors' data, in the header's order */
};

/* From the cache, or computed (with progress) and put there. A cache that cannot be written costs a warning only. */
enum corolla_status manifest_open(struct manifest *out, const char *path, const struct header *header, const uint8_t *bytes,
                                  corolla_progress_fn progress, void *user, struct corolla_error *err);
void manifest_clear(struct manifest *manifest);

#endif
