/* split.h - which consecutive blocks of a span go to which device. Pure, but for split_blocks(), which asks the devices. */
#ifndef COROLLA_MODEL_SPLIT_H
#define COROLLA_MODEL_SPLIT_H

#include "model/engine.h"
#include "model/file.h"

/* Blocks in order to devices in order: begins[d] to begins[d + 1] go to device d, begins[n_devices] is n_blocks. need: bytes of each block,
 * its weights and its share of the KV; room: bytes that each device has. When all fit, each device gets its share by room; what does
 * not fit goes to the last one. */
void split_by_room(const uint64_t *need, uint32_t n_blocks, const uint64_t *room, uint32_t n_devices, uint32_t *out_begins);

struct split { /* only devices that get blocks */
    uint32_t n;
    struct engine *engines[ENGINE_DEVICES_MAX];
    uint32_t begins[ENGINE_DEVICES_MAX + 1]; /* blocks of the model */
};
enum corolla_status split_blocks(struct split *out, struct engine *engine, const struct model_file *file, uint32_t begin, uint32_t end,
                                 uint64_t kv_bytes, struct corolla_error *err);

#endif
