/* memory.c - see memory.h. */
#include "node/memory.h"

#include <stdio.h>
#include <unistd.h>

#include "base/err.h"

#define RESERVE (64ull << 20) /* for scratch, links and what the system needs next */

/* The number in a file such as "name:   123 kB" or "123"; false when there is none. */
static bool read_number(const char *path, const char *format, uint64_t *out) {
    FILE *file = fopen(path, "re");
    if (!file) return false;
    char line[256];
    unsigned long long value;
    bool found = false;
    while (!found && fgets(line, sizeof line, file)) found = sscanf(line, format, &value) == 1;
    fclose(file);
    if (found) *out = value;
    return found;
}

uint64_t memory_available(void) {
    uint64_t kib, available, limit, used, cached = 0;
    if (read_number("/proc/meminfo", "MemAvailable: %llu", &kib)) {
        available = kib << 10;
    } else { /* not Linux: half of what there is */
        long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
        available = pages > 0 && page > 0 ? (uint64_t)pages / 2 * (uint64_t)page : UINT64_MAX;
    }
    if (read_number("/sys/fs/cgroup/memory.max", "%llu", &limit) && read_number("/sys/fs/cgroup/memory.current", "%llu", &used)) {
        read_number("/sys/fs/cgroup/memory.stat", "file %llu", &cached); /* is given up when memory is short */
        used = used > cached ? used - cached : 0;
        uint64_t left = limit > used ? limit - used : 0;
        if (left < available) available = left;
    }
    return available;
}

uint64_t memory_of_weights(const struct model_file *file, uint32_t begin, uint32_t end) {
    uint64_t bytes = 0;
    for (uint32_t block = begin; block < end; block++) bytes += model_file_block_bytes(file, block);
    return bytes;
}

enum corolla_status memory_cache_tokens(const struct memory_plan *plan, uint32_t *out, struct corolla_error *err) {
    uint64_t taken = plan->weights + RESERVE;
    uint64_t free_bytes = plan->available > taken ? plan->available - taken : 0;
    uint64_t fit = free_bytes / plan->per_pad * plan->pad;
    if (fit == 0)
        return err_set(err, COROLLA_NOMEM, "%llu MiB of memory are free, and the blocks alone need %llu: serve fewer blocks",
                       (unsigned long long)(plan->available >> 20), (unsigned long long)(taken >> 20));
    if (plan->cache_tokens > fit)
        return err_set(err, COROLLA_NOMEM, "KV for %u tokens does not fit the free memory, %llu would: ask for fewer", plan->cache_tokens,
                       (unsigned long long)fit);
    uint64_t wanted = plan->cache_tokens > 0 ? plan->cache_tokens : plan->cache_tokens_default;
    *out = (uint32_t)(wanted < fit ? wanted : fit);
    return COROLLA_OK;
}
