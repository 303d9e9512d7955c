/* part.h - consecutive blocks of a span on one device: their weights, graphs, and the scratch where inputs are made.
 *
 * A span on several devices is several parts, one behind the other; rows pass from one to the next through the host. One thread at a
 * time per engine.
 */
#ifndef COROLLA_MODEL_PART_H
#define COROLLA_MODEL_PART_H

#include "model/kv.h"

struct part;

struct part_config {
    struct engine *engine;
    const struct model_file *file; /* must outlive the part */
    uint32_t begin, end;
    enum corolla_kv kv;
};
enum corolla_status part_load(struct part **out_part, const struct part_config *config, struct corolla_error *err);
void part_free(struct part *part);
uint32_t part_begin(const struct part *part);
uint32_t part_end(const struct part *part);
struct engine *part_engine(const struct part *part);
enum attending part_attending(const struct part *part);
/* Whether all weights of the two blocks have the same types. */
bool part_same_types(const struct part *part, uint32_t block_a, uint32_t block_b);
/* Runs checked items through those of their blocks that are here: from `in` when they begin here, else from `out`; to `out`. */
enum corolla_status part_forward(struct part *part, const struct batch_item *items, uint32_t n_items, struct corolla_error *err);

#endif
