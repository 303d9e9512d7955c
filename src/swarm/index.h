/* index.h - finds rows of an array by their digest. Pure; one thread at a time.
 *
 * Open addressing over positions; the rows belong to the caller, lie densely in an array, and begin with their digest. Peers choose their
 * digests, so the place of one depends on a secret.
 */
#ifndef COROLLA_SWARM_INDEX_H
#define COROLLA_SWARM_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INDEX_NONE UINT32_MAX

struct index {
    uint32_t *cells; /* position + 1; 0: free */
    uint32_t size;   /* a power of two, or 0 */
    uint32_t count;
    size_t row_size;
    uint64_t secret;
};

void index_init(struct index *index, size_t row_size, uint64_t secret);
void index_release(struct index *index);
/* Position of the row with this digest, or INDEX_NONE. */
uint32_t index_find(const struct index *index, const void *rows, uint64_t digest);
/* Adds the row at this position, which is not in yet. False: out of memory. */
bool index_add(struct index *index, const void *rows, uint32_t position);
/* Takes out the row at `position` before the last row, at `last`, is moved there. */
void index_remove(struct index *index, const void *rows, uint32_t position, uint32_t last);

#endif
