/* proof.c - see proof.h. */
#include "model/proof.h"

#include <stdlib.h>
#include <string.h>

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"

#define PROOF_WEIGHT_ROWS 64 /* a multiple of every repacked interleave */
#define PROOF_ROWS 33        /* odd, past every tile of the row kernels (4, 8, 16) */

void proof_random(uint32_t seed, float *out, size_t n) {
    uint32_t s = seed * 2654435761u + 1; /* xorshift32 (Marsaglia 2003) must not start at 0 */
    for (size_t i = 0; i < n; i++) {
        s ^= s << 13;
        s ^= s >> 17;
        s ^= s << 5;
        out[i] = (float)(int32_t)s / 2147483648.0f;
    }
}

/* y [PROOF_WEIGHT_ROWS, n] = w x[first .. first + n). */
static bool multiply(struct engine *e, struct ggml_tensor *w, const float *x, int64_t n, float *y) {
    struct ggml_context *ctx =
        ggml_init((struct ggml_init_params){.mem_size = 8 * ggml_tensor_overhead() + ggml_graph_overhead(), .no_alloc = true});
    if (!ctx) return false;
    struct ggml_cgraph *graph = ggml_new_graph(ctx);
    struct ggml_tensor *in = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, w->ne[0], n), *out = ggml_mul_mat(ctx, w, in);
    ggml_set_input(in);
    ggml_set_output(out);
    ggml_build_forward_expand(graph, out);
    ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors(ctx, engine_backend(e));
    bool good = buffer != NULL;
    if (good) {
        ggml_backend_tensor_set(in, x, 0, ggml_nbytes(in));
        good = engine_compute(e, graph, NULL) == COROLLA_OK;
        if (good) ggml_backend_tensor_get(out, y, 0, ggml_nbytes(out));
    }
    ggml_backend_buffer_free(buffer);
    ggml_free(ctx);
    return good;
}

static bool compare_rows(struct engine *e, struct ggml_tensor *w, const float *x, float *many, float *one) {
    static const int64_t chunks[] = {PROOF_ROWS, 2, 4, 7, 8, 16};
    for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++) {
        if (!multiply(e, w, x, chunks[c], many)) return false;
        for (int64_t i = 0; i < chunks[c]; i++) {
            if (!multiply(e, w, x + i * w->ne[0], 1, one)) return false;
            if (memcmp(one, many + i * PROOF_WEIGHT_ROWS, PROOF_WEIGHT_ROWS * sizeof(float)) != 0) return false;
        }
    }
    return true;
}

bool proof_kernel(struct engine *e, struct ggml_backend_buffer_type *buft, int type, int64_t columns) {
    size_t n = (size_t)columns * PROOF_WEIGHT_ROWS;
    float *values = malloc(n * sizeof(float)), *x = malloc((size_t)columns * PROOF_ROWS * sizeof(float));
    float *many = malloc(sizeof(float) * PROOF_WEIGHT_ROWS * PROOF_ROWS), *one = malloc(sizeof(float) * PROOF_WEIGHT_ROWS);
    struct ggml_context *ctx = ggml_init((struct ggml_init_params){.mem_size = 4 * ggml_tensor_overhead(), .no_alloc = true});
    struct ggml_tensor *w = ctx ? ggml_new_tensor_2d(ctx, (enum ggml_type)type, columns, PROOF_WEIGHT_ROWS) : NULL;
    ggml_backend_buffer_t buffer = w ? ggml_backend_alloc_ctx_tensors_from_buft(ctx, buft) : NULL;
    void *bytes = w ? malloc(ggml_nbytes(w)) : NULL;
    bool good = false;
    if (values && x && many && one && buffer && bytes && !ggml_quantize_requires_imatrix((enum ggml_type)type)) {
        proof_random(1, values, n);
        proof_random(2, x, (size_t)columns * PROOF_ROWS);
        ggml_quantize_chunk((enum ggml_type)type, values, bytes, 0, PROOF_WEIGHT_ROWS, columns, NULL);
        ggml_backend_tensor_set(w, bytes, 0, ggml_nbytes(w));
        good = compare_rows(e, w, x, many, one);
    }
    free(bytes);
    ggml_backend_buffer_free(buffer);
    ggml_free(ctx);
    free(one);
    free(many);
    free(x);
    free(values);
    return good;
}
