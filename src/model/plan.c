/* plan.c - see plan.h. */
#include "model/plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"

#define GRAPHS_MAX 8 /* alternating batch shapes: decode of some groups, prefill chunks */

struct entry {
    struct graph graph;
    uint64_t serials[BATCH_ITEMS_MAX];
    const struct block_weights *blocks;
    uint32_t n_blocks;
    uint64_t used; /* when last; 0: empty */
};

struct plan {
    struct engine *engine;
    ggml_gallocr_t allocator;
    size_t scratch; /* bytes of the shared buffer */
    uint64_t clock;
    struct entry entries[GRAPHS_MAX];
};

enum corolla_status plan_new(struct plan **out, struct engine *engine, struct corolla_error *err) {
    struct plan *p = calloc(1, sizeof *p);
    if (p) p->allocator = ggml_gallocr_new(ggml_backend_get_default_buffer_type(engine_backend(engine)));
    if (!p || !p->allocator) {
        free(p);
        return err_set(err, COROLLA_NOMEM, "out of memory");
    }
    p->engine = engine;
    *out = p;
    return COROLLA_OK;
}

static void entry_clear(struct entry *e) {
    if (e->used) graph_clear(&e->graph);
    e->used = 0;
}

void plan_free(struct plan *p) {
    if (!p) return;
    for (size_t i = 0; i < GRAPHS_MAX; i++) entry_clear(&p->entries[i]);
    ggml_gallocr_free(p->allocator);
    free(p);
}

static bool fits(const struct entry *e, const struct graph_config *config, const struct graph_item *items, uint32_t n_items) {
    if (!e->used || e->blocks != config->blocks || e->n_blocks != config->n_blocks) return false;
    if (config->attending == ATTENDING_OWN) return e->graph.n_rows == graph_rows(items, n_items);
    if (e->graph.n_items != n_items) return false;
    for (uint32_t i = 0; i < n_items; i++) {
        const struct graph_item *have = &e->graph.items[i];
        if (e->serials[i] != items[i].kv->serial || have->n != items[i].n || have->window != items[i].window) return false;
    }
    return true;
}

static enum corolla_status check_support(struct plan *p, const struct graph *g, struct corolla_error *err) {
    for (int i = 0; i < ggml_graph_n_nodes(g->cgraph); i++) {
        struct ggml_tensor *node = ggml_graph_node(g->cgraph, i);
        if (!ggml_backend_supports_op(engine_backend(p->engine), node))
            return err_set(err, COROLLA_UNSUPPORTED, "the device cannot do %s on %s", ggml_op_desc(node),
                           node->src[0] ? ggml_type_name(node->src[0]->type) : "nothing");
    }
    return COROLLA_OK;
}

/* Gives the graph its memory; when that moved the shared buffer, or lost it, all others are void. Without the reservation the allocator
 * would put a graph of as many nodes where the one before it lay, node by node, although other nodes may still need that memory. */
static enum corolla_status place(struct plan *p, struct entry *fresh, struct corolla_error *err) {
    struct ggml_cgraph *graph = fresh->graph.cgraph;
    bool good = ggml_gallocr_reserve(p->allocator, graph) && ggml_gallocr_alloc_graph(p->allocator, graph);
    size_t scratch = ggml_gallocr_get_buffer_size(p->allocator, 0);
    if (!good || scratch != p->scratch)
        for (size_t i = 0; i < GRAPHS_MAX; i++)
            if (&p->entries[i] != fresh) entry_clear(&p->entries[i]);
    p->scratch = scratch;
    return good ? COROLLA_OK : err_set(err, COROLLA_NOMEM, "not enough memory on the device to compute");
}

static struct entry *oldest(struct plan *p) {
    struct entry *best = &p->entries[0];
    for (size_t i = 1; i < GRAPHS_MAX; i++)
        if (p->entries[i].used < best->used) best = &p->entries[i];
    return best;
}

enum corolla_status plan_graph(struct plan *p, const struct graph_config *config, const struct graph_item *items, uint32_t n_items,
                               struct graph **out, struct corolla_error *err) {
    p->clock++;
    for (size_t i = 0; i < GRAPHS_MAX; i++) {
        struct entry *e = &p->entries[i];
        if (!fits(e, config, items, n_items)) continue;
        e->used = p->clock;
        *out = &e->graph;
        return COROLLA_OK;
    }
    struct entry *e = oldest(p);
    entry_clear(e);
    memcpy(e->graph.items, items, n_items * sizeof *items);
    e->graph.n_items = n_items;
    enum corolla_status status = graph_build(&e->graph, config, err);
    if (status) return status;
    e->used = p->clock;
    e->blocks = config->blocks;
    e->n_blocks = config->n_blocks;
    for (uint32_t i = 0; i < n_items; i++) e->serials[i] = items[i].kv->serial;
    status = check_support(p, &e->graph, err);
    if (!status) status = place(p, e, err);
    if (status)
        entry_clear(e);
    else
        *out = &e->graph;
    return status;
}
