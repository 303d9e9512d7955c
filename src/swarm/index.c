/* index.c - see index.h. Linear probing at most half full; a removal moves back what follows, so there are no graves. */
#include "swarm/index.h"

#include <stdlib.h>
#include <string.h>

#define CELLS_FIRST 64

static uint64_t digest_of(const struct index *index, const void *rows, uint32_t position) {
    uint64_t digest;
    memcpy(&digest, (const char *)rows + (size_t)position * index->row_size, sizeof(digest));
    return digest;
}

static uint32_t home(const struct index *index, uint64_t digest) {
    uint64_t x = (digest ^ index->secret) * 0x9e3779b97f4a7c15u;
    return (uint32_t)((x ^ x >> 32) * 0x9e3779b97f4a7c15u >> 32) & (index->size - 1);
}

void index_init(struct index *index, size_t row_size, uint64_t secret) { *index = (struct index){.row_size = row_size, .secret = secret}; }

void index_release(struct index *index) { free(index->cells); }

static void put(struct index *index, const void *rows, uint32_t position) {
    uint32_t at = home(index, digest_of(index, rows, position));
    while (index->cells[at] != 0) {
        at = (at + 1) & (index->size - 1);
    }
    index->cells[at] = position + 1;
}

static bool grow(struct index *index, const void *rows) {
    uint32_t old_size = index->size, size = old_size > 0 ? old_size * 2 : CELLS_FIRST, *old = index->cells;
    uint32_t *cells = calloc(size, sizeof(*cells));
    if (cells == NULL) {
        return false;
    }
    index->cells = cells;
    index->size = size;
    for (uint32_t i = 0; i < old_size; i++) {
        if (old[i] != 0) {
            put(index, rows, old[i] - 1);
        }
    }
    free(old);
    return true;
}

/* The cell of a digest, or of the free one where the search ends. */
static uint32_t cell_of(const struct index *index, const void *rows, uint64_t digest) {
    uint32_t at = home(index, digest);
    while (index->cells[at] != 0 && digest_of(index, rows, index->cells[at] - 1) != digest) {
        at = (at + 1) & (index->size - 1);
    }
    return at;
}

uint32_t index_find(const struct index *index, const void *rows, uint64_t digest) {
    if (index->count == 0) {
        return INDEX_NONE;
    }
    return index->cells[cell_of(index, rows, digest)] - 1; /* of a free cell: 0 - 1, INDEX_NONE */
}

bool index_add(struct index *index, const void *rows, uint32_t position) {
    if (index->count * 2 >= index->size && !grow(index, rows)) {
        return false;
    }
    put(index, rows, position);
    index->count++;
    return true;
}

void index_remove(struct index *index, const void *rows, uint32_t position, uint32_t last) {
    uint32_t mask = index->size - 1, hole = cell_of(index, rows, digest_of(index, rows, position));
    index->cells[cell_of(index, rows, digest_of(index, rows, last))] = position + 1;
    index->cells[hole] = 0;
    index->count--;
    for (uint32_t at = (hole + 1) & mask; index->cells[at] != 0; at = (at + 1) & mask) {
        uint32_t moved = index->cells[at] - 1;
        uint32_t want = home(index, digest_of(index, rows, moved == position ? last : moved));
        if (((at - want) & mask) >= ((at - hole) & mask)) {
            index->cells[hole] = index->cells[at];
            index->cells[at] = 0;
            hole = at;
        }
    }
}
