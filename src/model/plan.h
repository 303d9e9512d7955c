/* plan.h - graphs that are ready to run, kept by shape, so that a steady decode neither builds nor allocates.
 *
 * A graph fits a batch when its items have the same caches, row counts and windows, or with ATTENDING_OWN as many rows; positions are
 * inputs. All graphs of a span
 * share one scratch buffer, which is right because only one runs at a time and every input is set before each run; when the
 * buffer has to grow, the older graphs are forgotten. One thread at a time per engine.
 */
#ifndef COROLLA_MODEL_PLAN_H
#define COROLLA_MODEL_PLAN_H

#include "model/graph.h"

struct plan;

enum corolla_status plan_new(struct plan **out_plan, struct engine *engine, struct corolla_error *err);
void plan_free(struct plan *plan);
/* The graph for items whose kv, n and window are set; config->blocks belong to the items' first block. Borrowed until the next call.
 * UNSUPPORTED names an operation that the device cannot do. */
enum corolla_status plan_graph(struct plan *plan, const struct graph_config *config, const struct graph_item *items, uint32_t n_items,
                               struct graph **out_graph, struct corolla_error *err);

#endif
