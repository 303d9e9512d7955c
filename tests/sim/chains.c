/* chains.c - see chains.h: what is computed, and how messages travel. */
#include "sim/chains.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_SIZE offsetof(struct chain_msg, hops)
static_assert(HEADER_SIZE == 2 * sizeof(uint64_t) + 18 * sizeof(uint32_t), "no padding");

void memory_init(struct memory *memory, uint32_t begin, uint32_t end) {
    *memory = (struct memory){.begin = begin, .end = end};
    memory->sums = calloc(end - begin, sizeof *memory->sums);
    if (memory->sums == NULL) abort();
}

void memory_release(struct memory *memory) {
    free(memory->sums);
    memory->sums = NULL;
}

uint64_t memory_compute(struct memory *memory, uint32_t position, uint64_t row) {
    for (uint32_t block = memory->begin; block < memory->end; block++) {
        uint64_t *sums = memory->sums[block - memory->begin];
        sums[position + 1] = hash(sums[position], hash(row, block));
        row = hash(sums[position + 1], row + position);
    }
    return row;
}

void chain_send(struct world *world, void *link, enum msg_kind kind, const struct chain_msg *msg) {
    uint8_t data[sizeof *msg];
    size_t hops_size = msg->n_hops * sizeof(struct chain_hop), body_size = msg->n_body * ROW_SIZE;
    memcpy(data, msg, HEADER_SIZE);
    memcpy(data + HEADER_SIZE, msg->hops, hops_size);
    memcpy(data + HEADER_SIZE + hops_size, msg->rows, body_size);
    world_send(world, link, kind, data, HEADER_SIZE + hops_size + body_size);
}

void chain_read(const uint8_t *data, size_t size, struct chain_msg *out) {
    memcpy(out, data, HEADER_SIZE);
    size_t hops_size = out->n_hops * sizeof(struct chain_hop);
    memcpy(out->hops, data + HEADER_SIZE, hops_size);
    memcpy(out->rows, data + HEADER_SIZE + hops_size, size - HEADER_SIZE - hops_size);
}

void sim_fail(struct sim *sim, uint32_t user, const char *what) {
    if (sim->failure != NULL) return;
    sim->failure = what;
    sim->failed_user = user;
}

uint32_t sim_node(const struct sim *sim, uint64_t digest) {
    uint32_t low = 0, high = sim->n_servers;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (sim->digests[middle] < digest)
            low = middle + 1;
        else
            high = middle;
    }
    assert(low < sim->n_servers && sim->digests[low] == digest);
    return sim->digest_nodes[low];
}
