/* oracle.c - see oracle.h. */
#include "oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "llama.h"

struct oracle {
    struct llama_model *model;
    struct llama_context *context;
    uint32_t n_vocab;
};

static void quiet(enum ggml_log_level level, const char *text, void *user) {
    (void)user;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

struct oracle *oracle_open(const char *path, uint32_t n_ctx, enum oracle_kv kv) {
    setenv("GGML_CPU_TILED_MM", "0", 1);      /* as corolla's engine sets it, so that both take the same kernels */
    setenv("LLAMA_ATTN_ROT_DISABLE", "1", 1); /* libllama turns heads before it quantises them */
    llama_log_set(quiet, NULL);
    llama_backend_init();

    struct oracle *o = calloc(1, sizeof *o);
    struct llama_model_params mp = llama_model_default_params();
    mp.n_gpu_layers = 0;
    mp.use_extra_bufts = false;
    o->model = llama_model_load_from_file(path, mp);
    if (!o->model) {
        fprintf(stderr, "oracle: libllama does not load %s\n", path);
        free(o);
        return NULL;
    }
    struct llama_context_params cp = llama_context_default_params();
    cp.n_ctx = n_ctx;
    cp.n_batch = cp.n_ubatch = 512;
    cp.n_threads = cp.n_threads_batch = 1;
    cp.flash_attn_type = kv == ORACLE_KV_Q8_0 ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    cp.type_k = cp.type_v = kv == ORACLE_KV_F32 ? GGML_TYPE_F32 : kv == ORACLE_KV_Q8_0 ? GGML_TYPE_Q8_0 : GGML_TYPE_F16;
    cp.no_perf = true;
    o->context = llama_init_from_model(o->model, cp);
    if (!o->context) {
        fprintf(stderr, "oracle: no context for %s\n", path);
        oracle_close(o);
        return NULL;
    }
    o->n_vocab = (uint32_t)llama_vocab_n_tokens(llama_model_get_vocab(o->model));
    return o;
}

void oracle_close(struct oracle *o) {
    if (!o) return;
    if (o->context) llama_free(o->context);
    if (o->model) llama_model_free(o->model);
    free(o);
}

uint32_t oracle_n_vocab(const struct oracle *o) { return o->n_vocab; }

static bool step(struct oracle *o, struct llama_batch *batch, const int32_t *tokens, uint32_t position, uint32_t n, float *out) {
    batch->n_tokens = (int32_t)n;
    for (uint32_t i = 0; i < n; i++) {
        batch->token[i] = tokens[i];
        batch->pos[i] = (llama_pos)(position + i);
        batch->n_seq_id[i] = 1;
        batch->seq_id[i][0] = 0;
        batch->logits[i] = 1;
    }
    if (llama_decode(o->context, *batch) != 0) return false;
    for (uint32_t i = 0; i < n; i++)
        memcpy(out + (size_t)i * o->n_vocab, llama_get_logits_ith(o->context, (int32_t)i), o->n_vocab * sizeof *out);
    return true;
}

bool oracle_logits(struct oracle *o, const int32_t *tokens, uint32_t n, uint32_t chunk, uint32_t window, float *out_logits) {
    llama_memory_t memory = llama_get_memory(o->context);
    if (chunk == 0 || chunk > 512 || (window && chunk != 1)) return false;
    llama_memory_clear(memory, true);
    struct llama_batch batch = llama_batch_init((int32_t)chunk, 0, 1);
    bool done = true;
    for (uint32_t at = 0; done && at < n; at += chunk) {
        uint32_t rows = n - at < chunk ? n - at : chunk;
        if (window && at >= window) llama_memory_seq_rm(memory, 0, 0, (llama_pos)(at - window + 1));
        done = step(o, &batch, tokens + at, at, rows, out_logits + (size_t)at * o->n_vocab);
    }
    llama_batch_free(batch);
    return done;
}

uint32_t oracle_tokenize(const struct oracle *o, const char *text, int32_t *out_tokens, uint32_t max) {
    int32_t n = llama_tokenize(llama_model_get_vocab(o->model), text, (int32_t)strlen(text), out_tokens, (int32_t)max, false, false);
    return n < 0 ? 0 : (uint32_t)n;
}
