/* gguf_map.h - where the fields of a well-formed GGUF file stand, so that tests can damage one of them. */
#ifndef COROLLA_TESTS_GGUF_MAP_H
#define COROLLA_TESTS_GGUF_MAP_H

#include <stddef.h>
#include <stdint.h>

#define GGUF_MAP_MAX 512

struct gguf_map_key {
    char name[128];
    size_t name_at, type_at, value_at; /* offsets in the file; a name's 8-byte length stands at name_at */
};
struct gguf_map_tensor {
    char name[64];
    size_t name_at, dims_at, ne_at, type_at, offset_at;
};
struct gguf_map {
    uint8_t *bytes; /* the file, owned */
    size_t size, header_size, n_keys, n_tensors;
    struct gguf_map_key keys[GGUF_MAP_MAX];
    struct gguf_map_tensor tensors[GGUF_MAP_MAX];
};

/* Reads a file that libllama accepts; asserts otherwise. */
void gguf_map_read(struct gguf_map *map, const char *path);
void gguf_map_clear(struct gguf_map *map);
const struct gguf_map_key *gguf_map_key(const struct gguf_map *map, const char *name);
const struct gguf_map_tensor *gguf_map_tensor(const struct gguf_map *map, const char *name);

#endif
