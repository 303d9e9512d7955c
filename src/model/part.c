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
        void *mask;       /* [rows * window], grown with the window */
        size_t mask_size; /* bytes */
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
    void *mask = realloc(p->scratch.mask, size);
    if (!mask) return err_set(err, COROLLA_NOMEM, "out of memory");
    p->scratch.mask = mask;
    p->scratch.mask_size = size;
    return COROLLA_OK;
}

/* What row i has at position j of a mask: 0, or with ALiBi minus the distance (Press et al. 2021, arXiv 2108.12409), where it sees that;
 * minus infinity for what is behind it and what left its window. */
static float mask_value(const struct hparams *h, uint32_t n_window, uint32_t i, uint32_t j) {
    if (j > i || (n_window && i - j >= n_window)) return -INFINITY;
    return h->alibi > 0.0f ? -(float)(i - j) : 0.0f;
}

static ggml_fp16_t to_half(float value) { return value == 0.0f ? 0 : value == -INFINITY ? 0xFC00 : ggml_fp32_to_fp16(value); }

static enum corolla_status set_mask(struct part *p, const struct batch_item *it, struct ggml_tensor *mask, uint32_t n_window,
                                    struct corolla_error *err) {
    const struct hparams *h = p->hparams;
    size_t window = (size_t)mask->ne[0];
    enum corolla_status status = reserve_mask(p, ggml_nbytes(mask), err);
    if (status) return status;
    for (uint32_t i = 0; i < it->n; i++)
        for (uint32_t j = 0; j < window; j++) {
            float value = mask_value(h, n_window, it->position + i, j);
            if (mask->type == GGML_TYPE_F32)
                ((float *)p->scratch.mask)[i * window + j] = value;
            else
                ((ggml_fp16_t *)p->scratch.mask)[i * window + j] = to_half(value);
        }
    ggml_backend_tensor_set(mask, p->scratch.mask, 0, ggml_nbytes(mask));
    return COROLLA_OK;
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
    enum corolla_status status = g->mask ? set_mask(p, it, g->mask, 0, err) : COROLLA_OK;
    if (!status && g->window_mask) status = set_mask(p, it, g->window_mask, p->hparams->n_window, err);
    return status;
}

/* Where the own attention finds the items' rows and caches. */
static enum corolla_status set_attention(struct part *p, struct graph *g, const struct batch_item *items, uint32_t n_items,
                                         struct corolla_error *err) {
    uint32_t longest = 0;
    for (uint32_t i = 0; i < n_items; i++) {
        const struct batch_item *it = &items[i];
        const struct kv_piece *piece = kv_piece_on(it->kv, p);
        g->attention_items[i] = (struct attention_item){it->n, it->position, piece->k->data, piece->v->data, piece->k->nb[2]};
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
    if (g->position) ggml_backend_tensor_set(g->position, p->scratch.position, 0, g->n_rows * sizeof(int32_t));
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
                                  .first = begin,
                                  .n_blocks = end - begin,
                                  .rope_freqs = p->rope_freqs,
                                  .part = p,
                                  .attending = p->attending};
    enum corolla_status status = plan_graph(p->plan, &config, shapes, n_items, &graph, err);
    if (!status && p->attending == ATTENDING_OWN) status = set_attention(p, graph, items, n_items, err);
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
        for (unsigned role = 0; role < BLOCK_TENSOR_COUNT; role++) {
            if (!arch_has(p->hparams->arch, (enum block_tensor)role)) continue;
            struct weights_request *r = &requests[n++];
            arch_block_tensor_name((enum block_tensor)role, p->begin + i, r->name);
            r->out = &p->blocks[i].t[role];
            const struct model_tensor *t = model_file_find(p->file, r->name);
            r->matrix = t && t->n_dims == 2;
        }
    }
    bool factors = model_file_find(p->file, arch_global_tensor_name(GLOBAL_ROPE_SHORT)) != NULL;
    strcpy(requests[n].name, arch_global_tensor_name(factors ? GLOBAL_ROPE_SHORT : GLOBAL_ROPE_FREQS));
    requests[n++].out = &p->rope_freqs;
    enum corolla_status status = weights_load(&p->weights, p->engine, p->file, requests, n, err);
    free(requests);
    return status;
}

/* Follows from the model, the kind of cache and the engine's class. Weights that are not quantised keep ggml's plain attention, with which
 * their greedy tokens are those of libllama: caches of half floats make any other order of sums visible. */
static enum attending choose_attending(const struct part *p, enum corolla_kv kv) {
    const struct hparams *h = p->hparams;
    bool can = engine_is_processor(p->engine) && attention_can(h->head_dim) && h->alibi == 0.0f && h->attn_softcap == 0.0f;
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
