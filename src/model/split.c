/* split.c - see split.h. */
#include "model/split.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"

void split_by_room(const uint64_t *need, uint32_t n_blocks, const uint64_t *room, uint32_t n_devices, uint32_t *out) {
    double total = 0, rooms = 0, before = 0; /* of the blocks; of the devices; of the blocks that have a place */
    for (uint32_t i = 0; i < n_blocks; i++) total += (double)need[i];
    for (uint32_t d = 0; d < n_devices; d++) rooms += (double)room[d];
    double share = total < rooms ? total / rooms : 1, end = 0;
    uint32_t block = 0;
    for (uint32_t d = 0; d < n_devices; d++) {
        out[d] = block;
        end += (double)room[d] * share;
        bool last = d + 1 == n_devices;
        for (uint64_t taken = 0; block < n_blocks; block++) {
            bool holds = taken + need[block] <= room[d], its = before + (double)need[block] / 2 <= end;
            if (!last && !(holds && (its || share == 1))) break;
            taken += need[block];
            before += (double)need[block];
        }
    }
    out[n_devices] = n_blocks;
}

enum corolla_status split_blocks(struct split *out, struct engine *engine, const struct model_file *file, uint32_t begin, uint32_t end,
                                 uint64_t kv_bytes, struct corolla_error *err) {
    uint64_t room[ENGINE_DEVICES_MAX] = {0}, *need = calloc(end - begin, sizeof *need);
    struct engine *devices[ENGINE_DEVICES_MAX];
    uint32_t n = 0, begins[ENGINE_DEVICES_MAX + 1];
    *out = (struct split){.n = 0};
    if (!need) return err_set(err, COROLLA_NOMEM, "out of memory");
    for (struct engine *e = engine; e; e = engine_next(e)) {
        devices[n] = e;
        room[n++] = engine_is_spare(e) ? 0 : engine_memory(e);
    }
    for (uint32_t i = begin; i < end; i++) need[i - begin] = model_file_block_bytes(file, i) + kv_bytes / (end - begin);
    split_by_room(need, end - begin, room, n, begins);
    free(need);
    for (uint32_t d = 0; d < n; d++) {
        if (begins[d] == begins[d + 1]) continue;
        out->engines[out->n] = devices[d];
        out->begins[out->n++] = begin + begins[d];
        if (n > 1) log_info("split device=%s blocks=%u:%u", engine_name(devices[d]), begin + begins[d], begin + begins[d + 1]);
    }
    out->begins[out->n] = end;
    return COROLLA_OK;
}
