/* header.c - see header.h. A cursor with a sticky end: every read asks how many bytes are left first. */
#include "model/header.h"

#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "ggml.h"

struct cursor {
    const uint8_t *bytes;
    size_t size, at;
};

static bool take(struct cursor *c, size_t n, const uint8_t **out) {
    if (n > c->size - c->at) return false;
    *out = c->bytes + c->at;
    c->at += n;
    return true;
}

static bool take_u32(struct cursor *c, uint32_t *out) {
    const uint8_t *p;
    if (!take(c, 4, &p)) return false;
    *out = le32_get(p);
    return true;
}

static bool take_u64(struct cursor *c, uint64_t *out) {
    const uint8_t *p;
    if (!take(c, 8, &p)) return false;
    *out = le64_get(p);
    return true;
}

static bool take_string(struct cursor *c, const char **out, size_t *out_size) {
    uint64_t n;
    const uint8_t *p;
    if (!take_u64(c, &n) || n > c->size || !take(c, (size_t)n, &p)) return false;
    *out = (const char *)p;
    *out_size = (size_t)n;
    return true;
}

static const size_t value_size[HEADER_TYPE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

/* Moves over count values of a type that is no array. */
static bool skip_values(struct cursor *c, enum header_type type, uint64_t count) {
    const uint8_t *p;
    if (type != HEADER_STRING) {
        size_t n;
        return count <= c->size && size_mul((size_t)count, value_size[type], &n) && take(c, n, &p);
    }
    for (uint64_t i = 0; i < count; i++) {
        const char *s;
        size_t n;
        if (!take_string(c, &s, &n)) return false;
    }
    return true;
}

static enum corolla_status parse_key(struct cursor *c, struct header_key *k, struct corolla_error *err) {
    uint32_t type;
    if (!take_string(c, &k->name, &k->name_size) || !take_u32(c, &type)) return err_set(err, COROLLA_FORMAT, "truncated key");
    if (k->name_size == 0 || k->name_size > 256) return err_set(err, COROLLA_FORMAT, "a key has a name of %zu bytes", k->name_size);
    if (type >= HEADER_TYPE_COUNT) return err_set(err, COROLLA_FORMAT, "key %.*s has unknown type %u", (int)k->name_size, k->name, type);
    k->type = k->element = (enum header_type)type;
    k->count = 1;
    if (k->type == HEADER_ARRAY) {
        uint32_t element;
        if (!take_u32(c, &element) || !take_u64(c, &k->count)) return err_set(err, COROLLA_FORMAT, "truncated array");
        if (element >= HEADER_TYPE_COUNT || element == HEADER_ARRAY)
            return err_set(err, COROLLA_FORMAT, "key %.*s is an array of type %u", (int)k->name_size, k->name, element);
        k->element = (enum header_type)element;
    }
    size_t start = c->at;
    k->value = c->bytes + start;
    if (!skip_values(c, k->element, k->count)) return err_set(err, COROLLA_FORMAT, "truncated value of %.*s", (int)k->name_size, k->name);
    k->size = c->at - start;
    return COROLLA_OK;
}

/* Bytes of a tensor from its type and shape; false when it cannot be. */
static bool tensor_size(const struct model_tensor *t, uint64_t *out) {
    size_t block = (size_t)ggml_blck_size((enum ggml_type)t->type), n = (size_t)t->ne[0];
    if (n % block != 0 || !size_mul(n / block, ggml_type_size((enum ggml_type)t->type), &n)) return false;
    for (int i = 1; i < 4; i++)
        if (!size_mul(n, (size_t)t->ne[i], &n)) return false;
    *out = n;
    return n < (SIZE_MAX >> 1);
}

static enum corolla_status parse_tensor(struct cursor *c, struct model_tensor *t, struct corolla_error *err) {
    const char *name;
    size_t name_size;
    uint32_t dims, type;
    if (!take_string(c, &name, &name_size) || !take_u32(c, &dims)) return err_set(err, COROLLA_FORMAT, "truncated tensor info");
    if (name_size == 0 || name_size >= TENSOR_NAME_SIZE || memchr(name, 0, name_size))
        return err_set(err, COROLLA_FORMAT, "a tensor has a name of %zu bytes", name_size);
    memset(t, 0, sizeof *t);
    memcpy(t->name, name, name_size);
    if (dims < 1 || dims > 4) return err_set(err, COROLLA_FORMAT, "tensor %s has %u dimensions", t->name, dims);
    t->n_dims = (int)dims;
    for (int i = 0; i < 4; i++) {
        uint64_t ne = 1;
        if (i < t->n_dims && !take_u64(c, &ne)) return err_set(err, COROLLA_FORMAT, "truncated tensor info");
        if (ne == 0 || ne > INT32_MAX)
            return err_set(err, COROLLA_FORMAT, "tensor %s has a dimension of %llu", t->name, (unsigned long long)ne);
        t->ne[i] = (int64_t)ne;
    }
    if (!take_u32(c, &type) || !take_u64(c, &t->offset)) return err_set(err, COROLLA_FORMAT, "truncated tensor info");
    if (type >= GGML_TYPE_COUNT || ggml_type_size((enum ggml_type)type) == 0 || ggml_blck_size((enum ggml_type)type) == 0)
        return err_set(err, COROLLA_UNSUPPORTED, "tensor %s has type %u, which the engine does not know", t->name, type);
    t->type = (int)type;
    if (!tensor_size(t, &t->size)) return err_set(err, COROLLA_FORMAT, "tensor %s has an impossible shape", t->name);
    return COROLLA_OK;
}

static int compare_keys(const void *a, const void *b) {
    const struct header_key *x = a, *y = b;
    size_t n = x->name_size < y->name_size ? x->name_size : y->name_size;
    int order = memcmp(x->name, y->name, n);
    return order ? order : (x->name_size > y->name_size) - (x->name_size < y->name_size);
}

static int compare_tensors(const void *a, const void *b) {
    return strcmp(((const struct model_tensor *)a)->name, ((const struct model_tensor *)b)->name);
}

static int compare_offsets(const void *a, const void *b) {
    const struct model_tensor *x = *(struct model_tensor *const *)a, *y = *(struct model_tensor *const *)b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Offsets become absolute; all data lies within the file and no two tensors share a byte. */
static enum corolla_status place_tensors(struct header *h, size_t data, size_t size, uint32_t alignment, struct corolla_error *err) {
    if (h->n_tensors == 0) return COROLLA_OK;
    struct model_tensor **order = malloc(h->n_tensors * sizeof(*order));
    if (!order) return err_set(err, COROLLA_NOMEM, "out of memory");
    for (size_t i = 0; i < h->n_tensors; i++) order[i] = &h->tensors[i];
    qsort(order, h->n_tensors, sizeof(*order), compare_offsets);
    enum corolla_status status = COROLLA_OK;
    uint64_t end = 0, room = data <= size ? size - data : 0;
    for (size_t i = 0; i < h->n_tensors && !status; i++) {
        struct model_tensor *t = order[i];
        if (t->offset > room || t->size > room - t->offset)
            status = err_set(err, COROLLA_FORMAT, "tensor %s lies outside of the file: it is truncated or damaged", t->name);
        else if (t->offset % alignment != 0 || t->offset < end)
            status = err_set(err, COROLLA_FORMAT, "tensor %s has a bad offset", t->name);
        end = t->offset + t->size;
    }
    for (size_t i = 0; i < h->n_tensors && !status; i++) order[i]->offset += data;
    free(order);
    return status;
}

static enum corolla_status check_unique(const struct header *h, struct corolla_error *err) {
    for (size_t i = 1; i < h->n_keys; i++)
        if (compare_keys(&h->keys[i - 1], &h->keys[i]) == 0)
            return err_set(err, COROLLA_FORMAT, "key %.*s stands twice", (int)h->keys[i].name_size, h->keys[i].name);
    for (size_t i = 1; i < h->n_tensors; i++)
        if (compare_tensors(&h->tensors[i - 1], &h->tensors[i]) == 0)
            return err_set(err, COROLLA_FORMAT, "tensor %s stands twice", h->tensors[i].name);
    return COROLLA_OK;
}

static enum corolla_status parse_counts(struct cursor *c, struct header *h, struct corolla_error *err) {
    const uint8_t *magic;
    uint64_t n_tensors, n_keys;
    if (!take(c, 4, &magic) || memcmp(magic, "GGUF", 4) != 0) return err_set(err, COROLLA_FORMAT, "not a GGUF file");
    if (!take_u32(c, &h->version) || !take_u64(c, &n_tensors) || !take_u64(c, &n_keys))
        return err_set(err, COROLLA_FORMAT, "truncated header");
    if ((h->version & 0xffff) == 0) return err_set(err, COROLLA_UNSUPPORTED, "a big-endian GGUF file: convert it to little endian first");
    if (h->version < 2 || h->version > 3) return err_set(err, COROLLA_UNSUPPORTED, "GGUF version %u: only 2 and 3 are known", h->version);
    if (n_tensors > HEADER_TENSORS_MAX || n_keys > HEADER_KEYS_MAX)
        return err_set(err, COROLLA_FORMAT, "%llu tensors and %llu keys: damaged header", (unsigned long long)n_tensors,
                       (unsigned long long)n_keys);
    h->keys = calloc(n_keys + 1, sizeof *h->keys);
    h->tensors = calloc(n_tensors + 1, sizeof *h->tensors);
    if (!h->keys || !h->tensors) return err_set(err, COROLLA_NOMEM, "out of memory");
    h->n_keys = (size_t)n_keys;
    h->n_tensors = (size_t)n_tensors;
    return COROLLA_OK;
}

static enum corolla_status parse_all(struct cursor *c, struct header *h, struct corolla_error *err) {
    enum corolla_status status = parse_counts(c, h, err);
    for (size_t i = 0; i < h->n_keys && !status; i++) status = parse_key(c, &h->keys[i], err);
    for (size_t i = 0; i < h->n_tensors && !status; i++) status = parse_tensor(c, &h->tensors[i], err);
    if (status) return status;
    qsort(h->keys, h->n_keys, sizeof *h->keys, compare_keys);
    uint32_t alignment = 32;
    if (header_find(h, "general.alignment") && !header_u32(h, "general.alignment", &alignment))
        return err_set(err, COROLLA_FORMAT, "general.alignment is not a number");
    if (alignment < 8 || alignment > 65536 || (alignment & (alignment - 1)))
        return err_set(err, COROLLA_FORMAT, "alignment %u is not a power of two between 8 and 65536", alignment);
    size_t data = (c->at + alignment - 1) / alignment * alignment;
    status = place_tensors(h, data, c->size, alignment, err);
    if (status) return status;
    qsort(h->tensors, h->n_tensors, sizeof *h->tensors, compare_tensors);
    return check_unique(h, err);
}

enum corolla_status header_parse(struct header *out, const uint8_t *bytes, size_t size, struct corolla_error *err) {
    struct header h = {0};
    struct cursor c = {bytes, size, 0};
    enum corolla_status status = parse_all(&c, &h, err);
    if (status)
        header_clear(&h);
    else
        *out = h;
    return status;
}

void header_clear(struct header *h) {
    free(h->keys);
    free(h->tensors);
    memset(h, 0, sizeof *h);
}

const struct header_key *header_find(const struct header *h, const char *name) {
    struct header_key wanted = {.name = name, .name_size = strlen(name)};
    return h->n_keys ? bsearch(&wanted, h->keys, h->n_keys, sizeof *h->keys, compare_keys) : NULL;
}

const struct model_tensor *header_tensor(const struct header *h, const char *name) {
    struct model_tensor wanted = {0};
    if (strlen(name) >= sizeof wanted.name || h->n_tensors == 0) return NULL;
    strcpy(wanted.name, name);
    return bsearch(&wanted, h->tensors, h->n_tensors, sizeof *h->tensors, compare_tensors);
}

bool header_u32(const struct header *h, const char *name, uint32_t *out) {
    const struct header_key *k = header_find(h, name);
    if (!k) return false;
    uint64_t v;
    switch (k->type) {
    case HEADER_U8: v = k->value[0]; break;
    case HEADER_U16: v = le16_get(k->value); break;
    case HEADER_U32: v = le32_get(k->value); break;
    case HEADER_U64: v = le64_get(k->value); break;
    case HEADER_I32: v = (uint64_t)(int64_t)(int32_t)le32_get(k->value); break;
    case HEADER_I64: v = le64_get(k->value); break;
    default: return false;
    }
    if (v > UINT32_MAX) return false;
    *out = (uint32_t)v;
    return true;
}

bool header_bool(const struct header *h, const char *name, bool *out) {
    const struct header_key *k = header_find(h, name);
    if (!k || k->type != HEADER_BOOL) return false;
    *out = k->value[0] != 0;
    return true;
}

bool header_f32(const struct header *h, const char *name, float *out) {
    const struct header_key *k = header_find(h, name);
    if (!k || k->type != HEADER_F32) return false;
    uint32_t bits = le32_get(k->value);
    float v;
    memcpy(&v, &bits, sizeof v);
    if (!isfinite(v)) return false;
    *out = v;
    return true;
}

bool header_string(const struct header *h, const char *name, const char **out, size_t *out_size) {
    const struct header_key *k = header_find(h, name);
    if (!k || k->type != HEADER_STRING) return false;
    *out = (const char *)k->value + 8;
    *out_size = k->size - 8;
    return true;
}
