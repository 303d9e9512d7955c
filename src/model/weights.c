/* weights.c - see weights.h. One ggml context per way of loading, since a context's tensors share a buffer type. */
#include "model/weights.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "crypto/digest.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"

#define BUFFERS_MAX 8 /* buffer types of one device: plain, repacked, and a few extra ones */

struct group { /* tensors of one buffer type; buft NULL: in place */
    ggml_backend_buffer_type_t buft;
    struct ggml_context *ctx;
    ggml_backend_buffer_t buffer;
};

struct weights {
    size_t n_groups;
    struct group groups[BUFFERS_MAX];
};

struct load {
    struct weights *w;
    struct engine *engine;
    const struct model_file *file;
    size_t n; /* requests */
    struct corolla_error *err;
};

static bool can_map(struct engine *e) {
    struct ggml_backend_dev_props props;
    ggml_backend_dev_get_props(ggml_backend_get_device(engine_backend(e)), &props);
    return props.caps.buffer_from_host_ptr;
}

static ggml_backend_buffer_type_t choose_type(struct load *l, const struct model_tensor *t, bool matrix) {
    ggml_backend_buffer_type_t buft = matrix ? engine_repack_type(l->engine, t->type, t->ne[0], t->ne[1]) : NULL;
    if (buft) return buft;
    bool aligned = (size_t)(uintptr_t)model_file_data(l->file, t) % ggml_backend_get_alignment(engine_backend(l->engine)) == 0;
    return aligned && can_map(l->engine) ? NULL : ggml_backend_get_default_buffer_type(engine_backend(l->engine));
}

static struct group *find_group(struct load *l, ggml_backend_buffer_type_t buft) {
    struct weights *w = l->w;
    for (size_t i = 0; i < w->n_groups; i++)
        if (w->groups[i].buft == buft) return &w->groups[i];
    if (w->n_groups == BUFFERS_MAX) return NULL;
    struct ggml_context *ctx = ggml_init((struct ggml_init_params){.mem_size = l->n * ggml_tensor_overhead(), .no_alloc = true});
    if (!ctx) return NULL;
    struct group *g = &w->groups[w->n_groups++];
    g->buft = buft;
    g->ctx = ctx;
    return g;
}

static enum corolla_status declare(struct load *l, const struct weights_request *r) {
    const struct model_tensor *t = model_file_find(l->file, r->name);
    *r->out = NULL;
    if (!t) return COROLLA_OK;
    struct group *g = find_group(l, choose_type(l, t, r->matrix));
    if (!g) return err_set(l->err, COROLLA_NOMEM, "out of memory");
    *r->out = ggml_new_tensor(g->ctx, (enum ggml_type)t->type, t->n_dims, t->ne);
    ggml_set_name(*r->out, t->name);
    return COROLLA_OK;
}

static enum corolla_status allocate(struct load *l, struct group *g) {
    if (g->buft) {
        g->buffer = ggml_backend_alloc_ctx_tensors_from_buft(g->ctx, g->buft);
    } else {
        size_t size, largest = 0;
        void *map = model_file_map(l->file, &size);
        for (struct ggml_tensor *t = ggml_get_first_tensor(g->ctx); t; t = ggml_get_next_tensor(g->ctx, t))
            if (ggml_nbytes(t) > largest) largest = ggml_nbytes(t);
        g->buffer = ggml_backend_dev_buffer_from_host_ptr(ggml_backend_get_device(engine_backend(l->engine)), map, size, largest);
    }
    if (!g->buffer) return err_set(l->err, COROLLA_NOMEM, "not enough memory on the device for the weights");
    ggml_backend_buffer_set_usage(g->buffer, GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    return COROLLA_OK;
}

/* The pages of data that was copied need not stay in memory. */
static void drop_pages(const void *data, size_t size) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = ((uintptr_t)data + page - 1) & ~(page - 1),
              end = ((uintptr_t)data + size) & ~(page - 1);
    if (begin < end) madvise((void *)begin, end - begin, MADV_DONTNEED);
}

static enum corolla_status fill(struct load *l, const struct group *g, struct ggml_tensor *tensor) {
    const struct model_tensor *t = model_file_find(l->file, tensor->name);
    void *data = (void *)(uintptr_t)model_file_data(l->file, t); /* ggml takes no const, and only reads weights */
    uint8_t digest[DIGEST_SIZE];
    digest_once(data, t->size, digest);
    if (memcmp(digest, model_file_digest(l->file, t), sizeof digest) != 0)
        return err_set(l->err, COROLLA_FORMAT, "tensor %s of %s is damaged: its data changed since the model id was computed", t->name,
                       model_file_path(l->file));
    if (g->buft) {
        ggml_backend_tensor_set(tensor, data, 0, t->size);
        drop_pages(data, t->size);
        return COROLLA_OK;
    }
    if (ggml_backend_tensor_alloc(g->buffer, tensor, data) != GGML_STATUS_SUCCESS)
        return err_set(l->err, COROLLA_INTERNAL, "tensor %s cannot be used in place", t->name);
    return COROLLA_OK;
}

enum corolla_status weights_load(struct weights **out, struct engine *engine, const struct model_file *file,
                                 const struct weights_request *requests, size_t n, struct corolla_error *err) {
    struct load l = {.w = calloc(1, sizeof(struct weights)), .engine = engine, .file = file, .n = n, .err = err};
    if (!l.w) return err_set(err, COROLLA_NOMEM, "out of memory");
    enum corolla_status status = COROLLA_OK;
    for (size_t i = 0; i < n && !status; i++) status = declare(&l, &requests[i]);
    for (size_t i = 0; i < l.w->n_groups && !status; i++) {
        struct group *g = &l.w->groups[i];
        status = allocate(&l, g);
        for (struct ggml_tensor *t = ggml_get_first_tensor(g->ctx); t && !status; t = ggml_get_next_tensor(g->ctx, t))
            status = fill(&l, g, t);
    }
    if (status)
        weights_free(l.w);
    else
        *out = l.w;
    return status;
}

void weights_free(struct weights *w) {
    if (!w) return;
    for (size_t i = 0; i < w->n_groups; i++) {
        ggml_backend_buffer_free(w->groups[i].buffer);
        ggml_free(w->groups[i].ctx);
    }
    free(w);
}
