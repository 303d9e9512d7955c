/* sealed.h - signed records as they came, with what they say: read and verified once, shared, counted. Pure; one thread at a time.
 *
 * A record reaches a node many times, from several neighbours; a set recognises equal bytes, so that they are decoded once and their
 * signature is checked once. Several nodes of one process may share a set. What is in it never changes.
 */
#ifndef COROLLA_SWARM_SEALED_H
#define COROLLA_SWARM_SEALED_H

#include "wire/record.h"

struct sealed {
    struct record record;
    uint64_t digest; /* of its node */
    uint8_t signature[SIGNATURE_SIZE];
    bool verified; /* set by whoever checked the signature */
    uint32_t uses;
    uint64_t hash;
    struct sealed *next; /* in the set */
    struct sealed_set *set;
    uint32_t size;
    uint8_t bytes[]; /* what was signed */
};

struct sealed_set;
struct sealed_set *sealed_set_new(uint64_t secret); /* NULL: out of memory. secret: random, against chosen collisions */
void sealed_set_free(struct sealed_set *set);       /* all uses must be given back */
size_t sealed_set_count(const struct sealed_set *set);

/* One more use of the record with these bytes, 1 to RECORD_MAX; NULL when they cannot be read or memory is out. */
struct sealed *sealed_take(struct sealed_set *set, const uint8_t *bytes, uint32_t size, const uint8_t signature[SIGNATURE_SIZE]);
struct sealed *sealed_use(struct sealed *sealed); /* one more use */
void sealed_give(struct sealed *sealed);          /* one less; NULL is nothing */

#endif
