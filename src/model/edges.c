/* edges.c - see edges.h. Two small graphs per call shape: rows of the embedding, and norm + head for a chunk of rows. */
#include "model/edges.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"
#include "kernel/product.h"
#include "model/weights.h"

#define EMBED_ROWS 64 /* rows of one embedding graph */
#define HEAD_ROWS 16  /* rows of one head graph: logits are wide */

struct shape { /* a graph for a fixed number of rows */
    uint32_t rows;
    struct ggml_context *ctx;
    struct ggml_cgraph *graph;
    struct ggml_tensor *in, *out;
    ggml_backend_buffer_t buffer;
};

struct edges {
    struct engine *engine;
    const struct hparams *hparams;
    struct weights *weights;
    struct ggml_tensor *embd, *norm, *head;
    struct shape embed_one, embed_many, head_one, head_many;
};

typedef struct ggml_tensor *(*shape_builder)(struct edges *e, struct ggml_context *ctx, uint32_t rows, struct ggml_tensor **out_in);

static struct ggml_tensor *build_embed(struct edges *e, struct ggml_context *ctx, uint32_t rows, struct ggml_tensor **out_in) {
    *out_in = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, rows);
    return ggml_get_rows(ctx, e->embd, *out_in);
}

static struct ggml_tensor *build_head(struct edges *e, struct ggml_context *ctx, uint32_t rows, struct ggml_tensor **out_in) {
    *out_in = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, e->hparams->n_embd, rows);
    struct ggml_tensor *x = ggml_mul(ctx, ggml_rms_norm(ctx, *out_in, e->hparams->norm_eps), e->norm);
    return product_takes(e->head) ? product(ctx, e->head, product_rows(ctx, x)) : ggml_mul_mat(ctx, e->head, x);
}

static enum corolla_status shape_make(struct edges *e, struct shape *s, shape_builder build, uint32_t rows, struct corolla_error *err) {
    s->rows = rows;
    s->ctx = ggml_init((struct ggml_init_params){.mem_size = 10 * ggml_tensor_overhead() + ggml_graph_overhead(), .no_alloc = true});
    if (!s->ctx) return err_set(err, COROLLA_NOMEM, "out of memory");
    s->out = build(e, s->ctx, rows, &s->in);
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

/* Runs n rows through the larger shape as long as they fill it, the rest one by one. Sizes are those of a row. */
static enum corolla_status shape_run(struct edges *e, struct shape *one, struct shape *many, const void *in, size_t in_size, void *out,
                                     size_t out_size, uint32_t n, struct corolla_error *err) {
    for (uint32_t at = 0; at < n;) {
        struct shape *s = n - at >= many->rows ? many : one;
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
    struct weights_request requests[3] = {{.out = &e->embd}, {.out = &e->norm}, {.out = &e->head, .matrix = true}};
    strcpy(requests[0].name, arch_global_tensor_name(GLOBAL_TOKEN_EMBD));
    strcpy(requests[1].name, arch_global_tensor_name(GLOBAL_OUTPUT_NORM));
    strcpy(requests[2].name, arch_global_tensor_name(GLOBAL_OUTPUT));
    enum corolla_status status = weights_load(&e->weights, e->engine, file, requests, 3, err);
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

enum corolla_status edges_embed(struct edges *e, const int32_t *tokens, uint32_t n, float *out, struct corolla_error *err) {
    for (uint32_t i = 0; i < n; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= e->hparams->n_vocab)
            return err_set(err, COROLLA_INVALID, "token %d is outside of the vocabulary of %u", tokens[i], e->hparams->n_vocab);
    return shape_run(e, &e->embed_one, &e->embed_many, tokens, sizeof *tokens, out, e->hparams->n_embd * sizeof(float), n, err);
}

enum corolla_status edges_logits(struct edges *e, const float *hidden, uint32_t n, float *out, struct corolla_error *err) {
    return shape_run(e, &e->head_one, &e->head_many, hidden, e->hparams->n_embd * sizeof(float), out, e->hparams->n_vocab * sizeof(float),
                     n, err);
}
