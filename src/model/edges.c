/* edges.c - see edges.h. Two small graphs per call shape: rows of the embedding, and norm + head for a chunk of rows. */
#include "model/edges.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"
#include "kernel/product.h"
#include "model/graph.h"
#include "model/weights.h"

#define EMBED_ROWS 64 /* rows of one embedding graph */
#define NODES_MAX 16
#define HEAD_ROWS 16 /* rows of one head graph: logits are wide */

struct shape { /* a graph for a fixed number of rows */
    uint32_t rows;
    struct ggml_context *ctx;
    struct ggml_cgraph *graph;
    struct ggml_tensor *in, *position, *out; /* position: NULL where it does not matter */
    ggml_backend_buffer_t buffer;
};

struct edges {
    struct engine *engine;
    const struct hparams *hparams;
    struct weights *weights;
    struct ggml_tensor *embd, *embd_norm, *embd_norm_bias, *position_embd;
    struct ggml_tensor *norm, *norm_bias, *head, *head_bias;
    struct shape embed_one, embed_many, head_one, head_many;
};

typedef struct ggml_tensor *(*shape_builder)(const struct edges *e, struct shape *s);

static struct ggml_tensor *build_embed(const struct edges *e, struct shape *s) {
    s->in = ggml_new_tensor_1d(s->ctx, GGML_TYPE_I32, s->rows);
    struct ggml_tensor *x = ggml_get_rows(s->ctx, e->embd, s->in);
    if (e->hparams->embd_scale != 1.0f) x = ggml_scale(s->ctx, x, e->hparams->embd_scale);
    if (e->position_embd) {
        s->position = ggml_new_tensor_1d(s->ctx, GGML_TYPE_I32, s->rows);
        x = ggml_add(s->ctx, x, ggml_get_rows(s->ctx, e->position_embd, s->position));
    }
    return e->embd_norm ? graph_norm(s->ctx, e->hparams, x, e->embd_norm, e->embd_norm_bias) : x;
}

static struct ggml_tensor *build_head(const struct edges *e, struct shape *s) {
    const struct hparams *h = e->hparams;
    s->in = ggml_new_tensor_2d(s->ctx, GGML_TYPE_F32, h->n_embd, s->rows);
    struct ggml_tensor *x = graph_norm(s->ctx, h, s->in, e->norm, e->norm_bias);
    x = product_takes(e->head) ? product(s->ctx, e->head, product_rows(s->ctx, x)) : ggml_mul_mat(s->ctx, e->head, x);
    if (e->head_bias) x = ggml_add(s->ctx, x, e->head_bias);
    if (h->logit_softcap > 0.0f) return graph_softcap(s->ctx, x, h->logit_scale, h->logit_softcap);
    return h->logit_scale != 1.0f ? ggml_scale(s->ctx, x, h->logit_scale) : x;
}

static enum corolla_status shape_make(struct edges *e, struct shape *s, shape_builder build, uint32_t rows, struct corolla_error *err) {
    s->rows = rows;
    s->ctx = ggml_init((struct ggml_init_params){.mem_size = NODES_MAX * ggml_tensor_overhead() + ggml_graph_overhead(), .no_alloc = true});
    if (!s->ctx) return err_set(err, COROLLA_NOMEM, "out of memory");
    s->out = build(e, s);
    s->graph = ggml_new_graph(s->ctx);
    ggml_build_forward_expand(s->graph, s->out);
    for (int i = 0; i < ggml_graph_n_nodes(s->graph); i++)
        if (!ggml_backend_supports_op(engine_backend(e->engine), ggml_graph_node(s->graph, i)))
            return err_set(err, COROLLA_UNSUPPORTED, "the device cannot do %s on %s", ggml_op_desc(ggml_graph_node(s->graph, i)),
                           ggml_type_name(ggml_graph_node(s->graph, i)->src[0]->type));
    s->buffer = ggml_backend_alloc_ctx_tensors(s->ctx, engine_backend(e->engine));
    return s->buffer ? COROLLA_OK : err_set(err, COROLLA_NOMEM, "not enough memory on the device to compute");
}

static void shape_clear(struct shape *s) {
    ggml_backend_buffer_free(s->buffer);
    ggml_free(s->ctx);
}

static void set_positions(const struct shape *s, uint32_t first) {
    int32_t positions[EMBED_ROWS];
    for (uint32_t i = 0; i < s->rows; i++) positions[i] = (int32_t)(first + i);
    ggml_backend_tensor_set(s->position, positions, 0, s->rows * sizeof *positions);
}

/* Runs n rows, the first of them at a position, through the larger shape as long as they fill it, the rest one by one. Sizes are those of a
 * row. */
static enum corolla_status shape_run(struct edges *e, struct shape *one, struct shape *many, uint32_t position, const void *in,
                                     size_t in_size, void *out, size_t out_size, uint32_t n, struct corolla_error *err) {
    for (uint32_t at = 0; at < n;) {
        struct shape *s = n - at >= many->rows ? many : one;
        if (s->position) set_positions(s, position + at);
        ggml_backend_tensor_set(s->in, (const char *)in + at * in_size, 0, s->rows * in_size);
        enum corolla_status status = engine_compute(e->engine, s->graph, err);
        if (status) return status;
        ggml_backend_tensor_get(s->out, (char *)out + at * out_size, 0, s->rows * out_size);
        at += s->rows;
    }
    return COROLLA_OK;
}

/* A model without an output matrix uses the embedding for both. */
static enum corolla_status load_weights(struct edges *e, const struct model_file *file, struct corolla_error *err) {
    const struct {
        enum global_tensor role;
        struct ggml_tensor **out;
    } wanted[] = {
        {GLOBAL_TOKEN_EMBD, &e->embd},
        {GLOBAL_TOKEN_NORM, &e->embd_norm},
        {GLOBAL_TOKEN_NORM_BIAS, &e->embd_norm_bias},
        {GLOBAL_POSITION_EMBD, &e->position_embd},
        {GLOBAL_OUTPUT_NORM, &e->norm},
        {GLOBAL_OUTPUT_NORM_BIAS, &e->norm_bias},
        {GLOBAL_OUTPUT, &e->head},
        {GLOBAL_OUTPUT_BIAS, &e->head_bias},
    };
    struct weights_request requests[ARRAY_SIZE(wanted)];
    for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
        requests[i] = (struct weights_request){.out = wanted[i].out, .matrix = wanted[i].role == GLOBAL_OUTPUT};
        strcpy(requests[i].name, arch_global_tensor_name(wanted[i].role));
    }
    enum corolla_status status = weights_load(&e->weights, e->engine, file, requests, ARRAY_SIZE(wanted), err);
    if (!status && !e->head) e->head = e->embd;
    return status;
}

enum corolla_status edges_load(struct edges **out, struct engine *engine, const struct model_file *file, struct corolla_error *err) {
    struct edges *e = calloc(1, sizeof *e);
    if (!e) return err_set(err, COROLLA_NOMEM, "out of memory");
    e->engine = engine;
    e->hparams = model_file_hparams(file);
    enum corolla_status status = load_weights(e, file, err);
    if (!status) status = shape_make(e, &e->embed_one, build_embed, 1, err);
    if (!status) status = shape_make(e, &e->embed_many, build_embed, EMBED_ROWS, err);
    if (!status) status = shape_make(e, &e->head_one, build_head, 1, err);
    if (!status) status = shape_make(e, &e->head_many, build_head, HEAD_ROWS, err);
    if (status)
        edges_free(e);
    else
        *out = e;
    return status;
}

void edges_free(struct edges *e) {
    if (!e) return;
    shape_clear(&e->embed_one);
    shape_clear(&e->embed_many);
    shape_clear(&e->head_one);
    shape_clear(&e->head_many);
    weights_free(e->weights);
    free(e);
}

enum corolla_status edges_embed(struct edges *e, uint32_t position, const int32_t *tokens, uint32_t n, float *out,
                                struct corolla_error *err) {
    for (uint32_t i = 0; i < n; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= e->hparams->n_vocab)
            return err_set(err, COROLLA_INVALID, "token %d is outside of the vocabulary of %u", tokens[i], e->hparams->n_vocab);
    if (e->position_embd && (position > e->hparams->n_ctx_train || n > e->hparams->n_ctx_train - position))
        return err_set(err, COROLLA_TOO_LONG, "the model has an embedding for each of %u positions and no more", e->hparams->n_ctx_train);
    return shape_run(e, &e->embed_one, &e->embed_many, position, tokens, sizeof *tokens, out, e->hparams->n_embd * sizeof(float), n, err);
}

enum corolla_status edges_logits(struct edges *e, const float *hidden, uint32_t n, float *out, struct corolla_error *err) {
    return shape_run(e, &e->head_one, &e->head_many, 0, hidden, e->hparams->n_embd * sizeof(float), out,
                     e->hparams->n_vocab * sizeof(float), n, err);
}
