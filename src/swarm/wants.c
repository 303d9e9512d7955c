/* wants.c - see wants.h. */
#include "swarm/wants.h"

#include <stdlib.h>

#define WANTS_FIRST 32

void wants_init(struct wants *wants, uint64_t secret) {
    *wants = (struct wants){.due_ms = UINT64_MAX};
    index_init(&wants->index, sizeof(struct want), secret);
}

void wants_release(struct wants *wants) {
    free(wants->wants);
    index_release(&wants->index);
}

struct want *wants_find(const struct wants *wants, uint64_t digest) {
    uint32_t at = index_find(&wants->index, wants->wants, digest);
    return at == INDEX_NONE ? NULL : &wants->wants[at];
}

struct want *wants_add(struct wants *wants, const struct record_version *version, uint16_t slot) {
    if (wants->n == WANTS_MAX) {
        return NULL;
    }
    if (wants->n == wants->capacity) {
        uint32_t capacity = wants->capacity > 0 ? wants->capacity * 2 : WANTS_FIRST;
        struct want *more = realloc(wants->wants, capacity * sizeof(*more));
        if (more == NULL) {
            return NULL;
        }
        wants->wants = more;
        wants->capacity = capacity;
    }
    struct want *want = &wants->wants[wants->n];
    *want = (struct want){.digest = version->node, .boot = version->boot, .sequence = version->sequence, .slot = slot};
    if (!index_add(&wants->index, wants->wants, wants->n)) {
        return NULL;
    }
    wants->n++;
    return want;
}

void wants_remove(struct wants *wants, struct want *want) {
    uint32_t at = (uint32_t)(want - wants->wants), last = wants->n - 1;
    index_remove(&wants->index, wants->wants, at, last);
    wants->wants[at] = wants->wants[last];
    wants->n--;
    if (wants->n == 0) {
        wants->due_ms = UINT64_MAX;
    }
}

void wants_set_due(struct wants *wants, struct want *want, uint64_t due_ms) {
    want->due_ms = due_ms;
    wants->due_ms = due_ms < wants->due_ms ? due_ms : wants->due_ms;
}
