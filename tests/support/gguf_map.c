/* gguf_map.c - see gguf_map.h. */
#include "gguf_map.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t take(const struct gguf_map *m, size_t *at, size_t n) {
    uint64_t v = 0;
    assert(*at + n <= m->size);
    memcpy(&v, m->bytes + *at, n);
    *at += n;
    return v;
}

static void take_name(const struct gguf_map *m, size_t *at, char *out, size_t max) {
    size_t n = (size_t)take(m, at, 8);
    assert(n < max && *at + n <= m->size);
    memcpy(out, m->bytes + *at, n);
    out[n] = '\0';
    *at += n;
}

static void skip_value(const struct gguf_map *m, size_t *at, uint32_t type) {
    static const size_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (type == 8) {
        size_t n = (size_t)take(m, at, 8);
        *at += n;
    } else if (type == 9) {
        uint32_t element = (uint32_t)take(m, at, 4);
        for (uint64_t n = take(m, at, 8); n > 0; n--) skip_value(m, at, element);
    } else {
        assert(type < 13);
        *at += sizes[type];
    }
}

void gguf_map_read(struct gguf_map *m, const char *path) {
    FILE *file = fopen(path, "rb");
    size_t at = 8;
    assert(file);
    memset(m, 0, sizeof *m);
    fseek(file, 0, SEEK_END);
    m->size = (size_t)ftell(file);
    rewind(file);
    m->bytes = malloc(m->size);
    assert(m->bytes && fread(m->bytes, 1, m->size, file) == m->size);
    fclose(file);
    m->n_tensors = (size_t)take(m, &at, 8);
    m->n_keys = (size_t)take(m, &at, 8);
    assert(m->n_tensors <= GGUF_MAP_MAX && m->n_keys <= GGUF_MAP_MAX);
    for (size_t i = 0; i < m->n_keys; i++) {
        struct gguf_map_key *k = &m->keys[i];
        k->name_at = at;
        take_name(m, &at, k->name, sizeof k->name);
        k->type_at = at;
        uint32_t type = (uint32_t)take(m, &at, 4);
        k->value_at = at;
        skip_value(m, &at, type);
    }
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct gguf_map_tensor *t = &m->tensors[i];
        t->name_at = at;
        take_name(m, &at, t->name, sizeof t->name);
        t->dims_at = at;
        uint32_t dims = (uint32_t)take(m, &at, 4);
        t->ne_at = at;
        at += 8 * (size_t)dims;
        t->type_at = at;
        at += 4;
        t->offset_at = at;
        at += 8;
    }
    m->header_size = at;
}

void gguf_map_clear(struct gguf_map *m) {
    free(m->bytes);
    m->bytes = NULL;
}

const struct gguf_map_key *gguf_map_key(const struct gguf_map *m, const char *name) {
    for (size_t i = 0; i < m->n_keys; i++)
        if (strcmp(m->keys[i].name, name) == 0) return &m->keys[i];
    return NULL;
}

const struct gguf_map_tensor *gguf_map_tensor(const struct gguf_map *m, const char *name) {
    for (size_t i = 0; i < m->n_tensors; i++)
        if (strcmp(m->tensors[i].name, name) == 0) return &m->tensors[i];
    return NULL;
}
