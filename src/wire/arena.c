/* arena.c - see arena.h. */
#include "wire/arena.h"

#include <stddef.h>

static void *arena_alloc(void *data, size_t size) {
    struct arena *arena = data;
    const size_t unit = _Alignof(max_align_t);
    if (size > ARENA_SIZE - arena->used) {
        return NULL;
    }
    void *p = arena->bytes + arena->used;
    size_t rounded = (size + unit - 1) / unit * unit;
    arena->used = rounded > ARENA_SIZE - arena->used ? ARENA_SIZE : arena->used + rounded;
    return p;
}

static void arena_free(void *data, void *pointer) {
    (void)data;
    (void)pointer;
}

void arena_init(struct arena *arena) {
    arena->allocator = (ProtobufCAllocator){.alloc = arena_alloc, .free = arena_free, .allocator_data = arena};
    arena->used = 0;
}
