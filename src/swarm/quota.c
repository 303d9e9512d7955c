/* quota.c - see quota.h. */
#include "swarm/quota.h"

#include <arpa/inet.h>
#include <assert.h>
#include <string.h>

#include "base/mem.h"

static uint32_t cell_of(const struct quota *quota, const void *bytes, size_t size) {
    uint64_t hash = quota->secret;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3u;
    }
    return (uint32_t)((hash ^ hash >> 29) * 0x9e3779b97f4a7c15u >> 32) % QUOTA_CELLS;
}

static bool cell_of_v4(const struct quota *quota, const uint8_t v4[4], uint32_t *out) {
    if (v4[0] == 127) {
        return false;
    }
    uint8_t range[4] = {4, v4[0], v4[1], v4[2]};
    *out = cell_of(quota, range, sizeof(range));
    return true;
}

static bool cell_of_v6(const struct quota *quota, const uint8_t v6[16], uint32_t *out) {
    static const uint8_t loopback[16] = {[15] = 1}, mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (memcmp(v6, mapped, sizeof(mapped)) == 0) {
        return cell_of_v4(quota, v6 + 12, out);
    }
    if (memcmp(v6, loopback, sizeof(loopback)) == 0) {
        return false;
    }
    uint8_t range[7] = {6};
    memcpy(range + 1, v6, 6);
    *out = cell_of(quota, range, sizeof(range));
    return true;
}

/* The cell of an address that addr_valid() took; false: it counts for none. */
static bool cell_of_address(const struct quota *quota, const char *text, uint32_t *out) {
    char host[ADDR_MAX];
    bool bracket = text[0] == '[';
    size_t size = (size_t)(strrchr(text, ':') - text) - (bracket ? 2 : 0);
    memcpy(host, text + bracket, size);
    host[size] = '\0';
    uint8_t bytes[16];
    if (inet_pton(AF_INET, host, bytes) == 1) {
        return cell_of_v4(quota, bytes, out);
    }
    if (inet_pton(AF_INET6, host, bytes) == 1) {
        return cell_of_v6(quota, bytes, out);
    }
    *out = cell_of(quota, host, size);
    return true;
}

/* The cells of a node's ranges, each once. */
static size_t ranges_of(const struct quota *quota, const struct node_ref *node, uint32_t out[ADDRS_MAX]) {
    size_t n = 0;
    for (uint32_t i = 0; i < node->n_addrs; i++) {
        uint32_t cell;
        bool skip = !cell_of_address(quota, node->addrs[i], &cell);
        for (size_t j = 0; !skip && j < n; j++) {
            skip = out[j] == cell;
        }
        if (!skip) {
            out[n++] = cell;
        }
    }
    return n;
}

void quota_init(struct quota *quota, uint64_t secret) { *quota = (struct quota){.secret = secret}; }

bool quota_enter(struct quota *quota, const struct node_ref *node) {
    uint32_t ranges[ADDRS_MAX], key = cell_of(quota, node->id.key, KEY_SIZE);
    size_t n = ranges_of(quota, node, ranges);
    bool room = quota->keys[key] < QUOTA_KEY_MAX;
    for (size_t i = 0; i < n; i++) {
        room = room && quota->ranges[ranges[i]] < QUOTA_RANGE_MAX;
    }
    if (room) {
        quota->keys[key]++;
        for (size_t i = 0; i < n; i++) {
            quota->ranges[ranges[i]]++;
        }
    }
    return room;
}

void quota_leave(struct quota *quota, const struct node_ref *node) {
    uint32_t ranges[ADDRS_MAX], key = cell_of(quota, node->id.key, KEY_SIZE);
    size_t n = ranges_of(quota, node, ranges);
    assert(quota->keys[key] > 0);
    quota->keys[key]--;
    for (size_t i = 0; i < n; i++) {
        assert(quota->ranges[ranges[i]] > 0);
        quota->ranges[ranges[i]]--;
    }
}
