/* file.h - a GGUF file: mapped, every count, length, offset, type and shape checked before ggml sees it (ggml aborts on bad ones).
 *
 * Opening reads the header only. The model id is the Merkle root of the manifest (manifest.h). Read-only after opening: any thread.
 */
#ifndef COROLLA_MODEL_FILE_H
#define COROLLA_MODEL_FILE_H

#include "model/arch.h"

struct model_file;

/* Fails with NOT_FOUND, IO, FORMAT (truncated, foreign, impossible) or UNSUPPORTED (architecture or trait, by name). */
enum corolla_status model_file_open(struct model_file **out_file, const char *path, corolla_progress_fn progress, void *user,
                                    struct corolla_error *err);
void model_file_close(struct model_file *file);

const char *model_file_path(const struct model_file *file);
const char *model_file_name(const struct model_file *file);
const struct hparams *model_file_hparams(const struct model_file *file);
const uint8_t *model_file_id(const struct model_file *file); /* 32 bytes */
/* SHA-256 of a tensor's data as the manifest has it, 32 bytes. */
const uint8_t *model_file_digest(const struct model_file *file, const struct model_tensor *tensor);
const struct model_tensor *model_file_find(const struct model_file *file, const char *name);
/* Whether some matrix of a block is quantised. */
bool model_file_quantised(const struct model_file *file);
/* Bytes of all tensors of a block. */
uint64_t model_file_block_bytes(const struct model_file *file, uint32_t block);
/* The bytes of a tensor in the mapping. */
const void *model_file_data(const struct model_file *file, const struct model_tensor *tensor);
/* The mapping that holds all of them, page aligned. */
void *model_file_map(const struct model_file *file, size_t *out_size);

#endif
