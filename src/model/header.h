/* header.h - the structure of a GGUF file, walked with every count, length and offset checked against the bytes that are there.
 *
 * GGUF (little endian): "GGUF" | u32 version | u64 tensors | u64 keys | keys | tensor infos | padding | data
 *   key:    string name | u32 type | value        string: u64 length | bytes
 *   tensor: string name | u32 dims | u64 ne[dims] | u32 type | u64 offset (from the start of data)
 *
 * ggml aborts on tensors that it does not expect, so nothing reaches it that did not pass here. This is pure: bytes in,
 * tables out. Key names and values point into the bytes, which must outlive the header; tensor names are copied.
 */
#ifndef COROLLA_MODEL_HEADER_H
#define COROLLA_MODEL_HEADER_H

#include <corolla.h>

#define HEADER_KEYS_MAX 65536    /* real files have about 40 */
#define HEADER_TENSORS_MAX 65536 /* the largest known model has 2,000 */
#define TENSOR_NAME_SIZE 64      /* GGML_MAX_NAME */

enum header_type { /* of a value */
                   HEADER_U8,
                   HEADER_I8,
                   HEADER_U16,
                   HEADER_I16,
                   HEADER_U32,
                   HEADER_I32,
                   HEADER_F32,
                   HEADER_BOOL,
                   HEADER_STRING,
                   HEADER_ARRAY,
                   HEADER_U64,
                   HEADER_I64,
                   HEADER_F64,
                   HEADER_TYPE_COUNT
};

struct header_key {
    const char *name; /* not NUL-terminated */
    size_t name_size;
    enum header_type type, element; /* element: of an array */
    uint64_t count;                 /* of an array's elements; else 1 */
    const uint8_t *value;           /* behind type (and an array's type and count) */
    size_t size;                    /* of the value in bytes */
};

struct model_tensor {
    char name[TENSOR_NAME_SIZE];
    int type; /* enum ggml_type; checked to be one that ggml knows */
    int n_dims;
    int64_t ne[4];         /* all > 0, unused ones are 1 */
    uint64_t offset, size; /* bytes in the file */
};

struct header {
    uint32_t version;
    size_t n_keys, n_tensors;
    struct header_key *keys;      /* sorted by name */
    struct model_tensor *tensors; /* sorted by name */
};

/* Fails with FORMAT or UNSUPPORTED (version, byte order, tensor type). Release with header_clear(). */
enum corolla_status header_parse(struct header *out, const uint8_t *bytes, size_t size, struct corolla_error *err);
void header_clear(struct header *header);

const struct header_key *header_find(const struct header *header, const char *name);
const struct model_tensor *header_tensor(const struct header *header, const char *name);

/* Values by name: false when the key is missing or of another kind. Integers of any width are read as u32 when they fit. */
bool header_u32(const struct header *header, const char *name, uint32_t *out);
bool header_bool(const struct header *header, const char *name, bool *out);
bool header_f32(const struct header *header, const char *name, float *out);
/* The bytes of a string, not NUL-terminated. */
bool header_string(const struct header *header, const char *name, const char **out, size_t *out_size);

#endif
