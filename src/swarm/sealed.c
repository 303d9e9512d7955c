/* sealed.c - see sealed.h. A hash table with chains, doubled when it is full. */
#include "swarm/sealed.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct sealed_set {
    struct sealed **heads;
    size_t n_heads, count; /* n_heads: a power of two */
    uint64_t secret;
};

#define HEADS_FIRST 64

static uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* The signature depends on all of the bytes, so it is enough; who forges it collides with a chain and fails the comparison. */
static uint64_t hash_of(const struct sealed_set *set, const uint8_t signature[SIGNATURE_SIZE]) {
    uint64_t hash = set->secret;
    for (size_t i = 0; i < SIGNATURE_SIZE; i += 8) {
        hash = mix(hash ^ le64_get(signature + i));
    }
    return hash;
}

struct sealed_set *sealed_set_new(uint64_t secret) {
    struct sealed_set *set = calloc(1, sizeof(*set));
    if (set != NULL) {
        set->heads = calloc(HEADS_FIRST, sizeof(struct sealed *));
        set->n_heads = HEADS_FIRST;
        set->secret = secret;
    }
    if (set != NULL && set->heads == NULL) {
        free(set);
        set = NULL;
    }
    return set;
}

void sealed_set_free(struct sealed_set *set) {
    if (set != NULL) {
        assert(set->count == 0);
        free(set->heads);
        free(set);
    }
}

size_t sealed_set_count(const struct sealed_set *set) { return set->count; }

static void grow(struct sealed_set *set) {
    struct sealed **heads = calloc(set->n_heads * 2, sizeof(struct sealed *));
    if (heads == NULL) {
        return; /* longer chains */
    }
    for (size_t i = 0; i < set->n_heads; i++) {
        for (struct sealed *s = set->heads[i], *next; s != NULL; s = next) {
            struct sealed **head = &heads[s->hash & (set->n_heads * 2 - 1)];
            next = s->next;
            s->next = *head;
            *head = s;
        }
    }
    free(set->heads);
    set->heads = heads;
    set->n_heads *= 2;
}

static struct sealed *sealed_new(struct sealed_set *set, const uint8_t *bytes, uint32_t size) {
    struct sealed *sealed = malloc(sizeof(*sealed) + size);
    if (sealed == NULL || record_decode(bytes, size, &sealed->record, NULL) != COROLLA_OK) {
        free(sealed);
        return NULL;
    }
    sealed->digest = node_id_digest(&sealed->record.node.id);
    sealed->verified = false;
    sealed->uses = 1;
    sealed->set = set;
    sealed->size = size;
    memcpy(sealed->bytes, bytes, size);
    return sealed;
}

struct sealed *sealed_take(struct sealed_set *set, const uint8_t *bytes, uint32_t size, const uint8_t signature[SIGNATURE_SIZE]) {
    uint64_t hash = hash_of(set, signature);
    for (struct sealed *s = set->heads[hash & (set->n_heads - 1)]; s != NULL; s = s->next) {
        if (s->hash == hash && s->size == size && memcmp(s->bytes, bytes, size) == 0 &&
            memcmp(s->signature, signature, SIGNATURE_SIZE) == 0) {
            return sealed_use(s);
        }
    }
    struct sealed *sealed = sealed_new(set, bytes, size);
    if (sealed == NULL) {
        return NULL;
    }
    memcpy(sealed->signature, signature, SIGNATURE_SIZE);
    sealed->hash = hash;
    if (set->count == set->n_heads) {
        grow(set);
    }
    struct sealed **head = &set->heads[hash & (set->n_heads - 1)];
    sealed->next = *head;
    *head = sealed;
    set->count++;
    return sealed;
}

struct sealed *sealed_use(struct sealed *sealed) {
    sealed->uses++;
    return sealed;
}

void sealed_give(struct sealed *sealed) {
    if (sealed == NULL || --sealed->uses > 0) {
        return;
    }
    struct sealed **at = &sealed->set->heads[sealed->hash & (sealed->set->n_heads - 1)];
    while (*at != sealed) {
        at = &(*at)->next;
    }
    *at = sealed->next;
    sealed->set->count--;
    free(sealed);
}
