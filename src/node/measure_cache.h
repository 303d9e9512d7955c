/* measure_cache.h - what measure_span() found, kept in the cache folder for the next start.
 *
 * One file per key, "decode prefill\n" in tokens per second. It is believed for MEASURE_AGE_S, and only when it is just that; else the
 * server measures anew. Nothing here fails: without a cache folder each start measures. Real work corrects the figures either way.
 *
 * Threads: any; blocking file I/O, so not the loop's.
 */
#ifndef COROLLA_NODE_MEASURE_CACHE_H
#define COROLLA_NODE_MEASURE_CACHE_H

#include "node/measure.h"

#define MEASURE_AGE_S (30 * 24 * 3600) /* a machine changes in ways that no key sees: cooling, memory, neighbours */
#define MEASURE_NAME_SIZE 65

struct measure_key {
    const uint8_t *model; /* id, 32 bytes */
    uint32_t begin, end, threads;
    uint64_t arithmetic_class;     /* engine, device, processor features, --fast, KV type */
    const char *version, *machine; /* of the program; a name, since cache folders may be shared by several */
};

/* The name of the file: a digest over all of the key. */
void measure_cache_name(const struct measure_key *key, char out_name[MEASURE_NAME_SIZE]);
/* False: nothing is known, and the measure is as it was. */
bool measure_cache_read(struct measure *measure, const struct measure_key *key);
void measure_cache_write(const struct measure *measure, const struct measure_key *key);

#endif
