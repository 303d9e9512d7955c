/* part.c - see part.h. */
#include "model/part.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "ggml-backend.h"
#include "ggml.h"
#include "model/plan.h"
#include "model/weights.h"

struct part {
    struct engine *engine;
    const struct model_file *file;
    const struct hparams *hparams;
    uint32_t begin, end;
    enum attending attending;
    struct weights *weights;
    struct block_weights *blocks; /* [end - begin] */
    struct ggml_tensor *rope_freqs;
    struct plan *plan;
    struct {              /* where inputs are made, BATCH_ROWS_MAX rows */
        int64_t *index;   /* [rows * kv_dim] */
        uint16_t *mask;   /* [rows * window], grown with the window */
        size_t mask_size; /* elements */
        int32_t position[BATCH_ROWS_MAX];
        float *scores; /* of the own attention, grown with the sessions */
        size_t scores_size;
    } scratch;
};

uint32_t part_begin(const struct part *p) { return p->begin; }
uint32_t part_end(const struct part *p) { return p->end; }
struct engine *part_engine(const struct part *p) {
    return p->engine;
}
enum attending part_attending(const struct part *p) { return p->attending; }

/* ---- computing ------------------------------------------------------------------------------------------------- */

static enum corolla_status reserve_mask(struct part *p, size_t size, struct corolla_error *err) {
    if (size <= p->scratch.mask_size) return COROLLA_OK;
    uint16_t *mask = realloc(p->scratch.mask, size * sizeof *mask);
    if (!mask) return err_set(err, COROLLA_NOMEM, "out of memory");
    p->scratch.mask = mask;
    p->scratch.mask_size = size;
    return COROLLA_OK;
}

/* 0 where row i sees a position, minus infinity elsewhere: what is behind the row, and what left its sliding window. */
static void fill_mask(const struct hparams *h, const struct batch_item *it, uint32_t window, uint16_t *mask) {
    const uint16_t hidden = ggml_fp32_to_fp16(-INFINITY);
    for (uint32_t i = 0; i < it->n; i++) {
        uint32_t position = it->position + i, first = h->n_window && position >= h->n_window ? position + 1 - h->n_window : 0;
        for (uint32_t j = 0; j < window; j++) mask[(size_t)i * window + j] = j >= first && j <= position ? 0 : hidden;
    }
}

static enum corolla_status set_item(struct part *p, const struct batch_item *it, const struct graph_item *g, struct corolla_error *err) {
    uint32_t kv_dim = p->hparams->n_head_kv * p->hparams->head_dim;
    int64_t *index = p->scratch.index;
    for (uint32_t i = 0; i < it->n; i++) index[i] = it->position + i;
    ggml_backend_tensor_set(g->k_index, index, 0, it->n * sizeof *index);
    if (g->v_index) {
        for (uint32_t i = 0; i < it->n; i++)
            for (uint32_t d = 0; d < kv_dim; d++) index[(size_t)i * kv_dim + d] = (int64_t)d * it->kv->capacity + it->position + i;
        ggml_backend_tensor_set(g->v_index, index, 0, (size_t)it->n * kv_dim * sizeof *index);
    }
    size_t n_mask = (size_t)it->n * g->window;
    enum corolla_status status = reserve_mask(p, n_mask, err);
    if (status) return status;
    fill_mask(p->hparams, it, g->window, p->scratch.mask);
    ggml_backend_tensor_set(g->mask, p->scratch.mask, 0, n_mask * sizeof *p->scratch.mask);
    return COROLLA_OK;
}

/* Where the own attention finds the items' rows and caches; begin: the first block. */
static enum corolla_status set_attention(struct part *p, struct graph *g, const struct batch_item *items, uint32_t n_items, uint32_t begin,
                                         struct corolla_error *err) {
    uint32_t longest = 0;
    for (uint32_t i = 0; i < n_items; i++) {
        const struct batch_item *it = &items[i];
        const struct kv_piece *piece = kv_piece_on(it->kv, p);
        size_t at = (begin - it->kv->begin - piece->first) * piece->k->nb[2];
        g->attention_items[i] =
            (struct attention_item){it->n, it->position, (char *)piece->k->data + at, (char *)piece->v->data + at, piece->k->nb[2]};
        if (it->position + it->n > longest) longest = it->position + it->n;
    }
    size_t size = attention_scratch(longest, engine_threads(p->engine));
    if (size > p->scratch.scores_size) {
        free(p->scratch.scores);
        p->scratch.scores_size = 0;
        p->scratch.scores = aligned_alloc(64, size);
        if (!p->scratch.scores) return err_set(err, COROLLA_NOMEM, "out of memory");
        p->scratch.scores_size = size;
    }
    g->attention.scratch = p->scratch.scores;
    g->attention.n_items = n_items;
    return COROLLA_OK;
}

static enum corolla_status set_inputs(struct part *p, const struct graph *g, const struct batch_item *items, uint32_t n_items, bool first,
                                      struct corolla_error *err) {
    size_t row = p->hparams->n_embd * sizeof(float), at = 0;
    for (uint32_t i = 0; i < n_items; i++) {
        if (p->attending != ATTENDING_OWN) {
            kv_clean(items[i].kv, p, g->items[i].window);
            enum corolla_status status = set_item(p, &items[i], &g->items[i], err);
            if (status) return status;
        }
        for (uint32_t j = 0; j < items[i].n; j++) p->scratch.position[at + j] = (int32_t)(items[i].position + j);
        ggml_backend_tensor_set(g->in, first ? items[i].in : items[i].out, at * row, items[i].n * row);
        at += items[i].n;
    }
    ggml_backend_tensor_set(g->position, p->scratch.position, 0, g->n_rows * sizeof(int32_t));
    return COROLLA_OK;
}

enum corolla_status part_forward(struct part *p, const struct batch_item *items, uint32_t n_items, struct corolla_error *err) {
    struct graph_item shapes[BATCH_ITEMS_MAX];
    struct graph *graph;
    const struct kv *kv = items[0].kv;
    uint32_t begin = kv->begin > p->begin ? kv->begin : p->begin, end = kv->end < p->end ? kv->end : p->end;
    for (uint32_t i = 0; i < n_items; i++)
        shapes[i] = (struct graph_item){.kv = items[i].kv, .n = items[i].n, .window = kv_window(items[i].position + items[i].n)};
    struct graph_config config = {.hparams = p->hparams,
                                  .blocks = p->blocks + (begin - p->begin),
                                  .kv_first = begin - kv->begin - kv_piece_on(kv, p)->first,
                                  .n_blocks = end - begin,
                                  .rope_freqs = p->rope_freqs,
                                  .part = p,
                                  .attending = p->attending};
    enum corolla_status status = plan_graph(p->plan, &config, shapes, n_items, &graph, err);
    if (!status && p->attending == ATTENDING_OWN) status = set_attention(p, graph, items, n_items, begin, err);
    if (!status) status = set_inputs(p, graph, items, n_items, begin == kv->begin, err);
    if (!status) status = engine_compute(p->engine, graph->cgraph, err);
    size_t row = p->hparams->n_embd * sizeof(float), at = 0;
    for (uint32_t i = 0; i < n_items && !status; i++) {
        ggml_backend_tensor_get(graph->out, items[i].out, at * row, items[i].n * row);
        at += items[i].n;
    }
    return status;
}

bool part_same_types(const struct part *p, uint32_t block_a, uint32_t block_b) {
    const struct block_weights *a = &p->blocks[block_a - p->begin], *b = &p->blocks[block_b - p->begin];
    for (size_t i = 0; i < BLOCK_TENSOR_COUNT; i++)
        if (!a->t[i] != !b->t[i] || (a->t[i] && a->t[i]->type != b->t[i]->type)) return false;
    return true;
}

/* ---- loading --------------------------------------------------------------------------------------------------- */

static enum corolla_status load_weights(struct part *p, struct corolla_error *err) {
    uint32_t n_blocks = p->end - p->begin;
    size_t n = 0;
    struct weights_request *requests = calloc((size_t)n_blocks * BLOCK_TENSOR_COUNT + 1, sizeof *requests);
    p->blocks = calloc(n_blocks, sizeof *p->blocks);
    if (!requests || !p->blocks) {
        free(requests);
        return err_set(err, COROLLA_NOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < n_blocks; i++) {
        for (size_t role = 0; role < BLOCK_TENSOR_COUNT; role++) {
            struct weights_request *r = &requests[n++];
            arch_block_tensor_name((enum block_tensor)role, p->begin + i, r->name);
            r->out = &p->blocks[i].t[role];
            const struct model_tensor *t = model_file_find(p->file, r->name);
            r->matrix = t && t->n_dims == 2;
        }
    }
    strcpy(requests[n].name, arch_global_tensor_name(GLOBAL_ROPE_FREQS));
    requests[n++].out = &p->rope_freqs;
    enum corolla_status status = weights_load(&p->weights, p->engine, p->file, requests, n, err);
    free(requests);
    return status;
}

/* Follows from the model, the kind of cache and the engine's class. Weights that are not quantised keep ggml's plain attention, with which
 * their greedy tokens are those of libllama: caches of half floats make any other order of sums visible. */
static enum attending choose_attending(const struct part *p, enum corolla_kv kv) {
    bool can = engine_is_processor(p->engine) && attention_can(p->hparams->head_dim);
    if (kv == COROLLA_KV_Q8_0) return ATTENDING_FUSED;
    if (kv == COROLLA_KV_F16 && can && model_file_quantised(p->file)) return ATTENDING_OWN;
    return engine_fast(p->engine) ? ATTENDING_FUSED : ATTENDING_PLAIN;
}

enum corolla_status part_load(struct part **out, const struct part_config *config, struct corolla_error *err) {
    const struct hparams *h = model_file_hparams(config->file);
    struct part *p = calloc(1, sizeof *p);
    if (!p) return err_set(err, COROLLA_NOMEM, "out of memory");
    p->engine = config->engine;
    p->file = config->file;
    p->hparams = h;
    p->begin = config->begin;
    p->end = config->end;
    p->attending = choose_attending(p, config->kv);
    p->scratch.index = malloc((size_t)BATCH_ROWS_MAX * h->n_head_kv * h->head_dim * sizeof *p->scratch.index);
    enum corolla_status status = p->scratch.index ? load_weights(p, err) : err_set(err, COROLLA_NOMEM, "out of memory");
    if (!status) status = plan_new(&p->plan, p->engine, err);
    if (status)
        part_free(p);
    else
        *out = p;
    return status;
}

void part_free(struct part *p) {
    if (!p) return;
    plan_free(p->plan);
    weights_free(p->weights);
    free(p->blocks);
    free(p->scratch.index);
    free(p->scratch.mask);
    free(p->scratch.scores);
    free(p);
}
