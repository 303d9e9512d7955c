/* quota.c - see quota.h. */
#include "swarm/quota.h"

#include <arpa/inet.h>
#include <assert.h>
#include <string.h>

#define THINGS_MAX (1 + ADDRS_MAX) /* that a node counts for: its key, then its ranges */

static uint64_t hash_of(const struct quota *quota, char kind, const void *bytes, size_t size) {
    uint64_t hash = (quota->secret ^ (uint8_t)kind) * 0x100000001b3u;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3u;
    }
    hash = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9u;
    return hash ^ hash >> 31;
}

static bool hash_v4(const struct quota *quota, const uint8_t v4[4], uint64_t *out) {
    *out = hash_of(quota, '4', v4, 3);
    return v4[0] != 127;
}

static bool hash_v6(const struct quota *quota, const uint8_t v6[16], uint64_t *out) {
    static const uint8_t loopback[16] = {[15] = 1}, mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (memcmp(v6, mapped, sizeof(mapped)) == 0) {
        return hash_v4(quota, v6 + 12, out);
    }
    *out = hash_of(quota, '6', v6, 6);
    return memcmp(v6, loopback, sizeof(loopback)) != 0;
}

/* Of an address that addr_valid() took; false: it counts for no range. */
static bool hash_address(const struct quota *quota, const char *text, uint64_t *out) {
    char host[ADDR_MAX];
    uint8_t bytes[16];
    size_t bracket = text[0] == '[', size = (size_t)(strrchr(text, ':') - text) - 2 * bracket;
    memcpy(host, text + bracket, size);
    host[size] = '\0';
    if (inet_pton(AF_INET, host, bytes) == 1) {
        return hash_v4(quota, bytes, out);
    }
    if (inet_pton(AF_INET6, host, bytes) == 1) {
        return hash_v6(quota, bytes, out);
    }
    *out = hash_of(quota, 'n', host, size);
    return true;
}

/* What a node counts for, each once. */
static size_t things_of(const struct quota *quota, const struct node_ref *node, uint64_t out[THINGS_MAX]) {
    size_t n = 1;
    out[0] = hash_of(quota, 'k', node->id.key, KEY_SIZE);
    for (uint32_t i = 0; i < node->n_addrs; i++) {
        uint64_t hash;
        bool skip = !hash_address(quota, node->addrs[i], &hash);
        for (size_t j = 1; !skip && j < n; j++) {
            skip = out[j] == hash;
        }
        if (!skip) {
            out[n++] = hash;
        }
    }
    return n;
}

/* The rows take different bits of the hash. */
static uint16_t *cell(struct quota *quota, unsigned row, uint64_t hash) { return &quota->cells[row][(hash >> 32 * row) % QUOTA_CELLS]; }

static bool has_room(struct quota *quota, uint64_t hash, uint16_t max) {
    for (unsigned row = 0; row < QUOTA_ROWS; row++) {
        if (*cell(quota, row, hash) < max) {
            return true;
        }
    }
    return false;
}

void quota_init(struct quota *quota, uint64_t secret) { *quota = (struct quota){.secret = secret}; }

bool quota_enter(struct quota *quota, const struct node_ref *node) {
    uint64_t things[THINGS_MAX];
    size_t n = things_of(quota, node, things);
    for (size_t i = 0; i < n; i++) {
        if (!has_room(quota, things[i], i == 0 ? QUOTA_KEY_MAX : QUOTA_RANGE_MAX)) {
            return false;
        }
    }
    for (size_t i = 0; i < n * QUOTA_ROWS; i++) {
        ++*cell(quota, i % QUOTA_ROWS, things[i / QUOTA_ROWS]);
    }
    return true;
}

void quota_leave(struct quota *quota, const struct node_ref *node) {
    uint64_t things[THINGS_MAX];
    size_t n = things_of(quota, node, things);
    for (size_t i = 0; i < n * QUOTA_ROWS; i++) {
        uint16_t *at = cell(quota, i % QUOTA_ROWS, things[i / QUOTA_ROWS]);
        assert(*at > 0);
        --*at;
    }
}
