/* tiny.c - see tiny.h. */
#include "tiny.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ggml.h"
#include "gguf.h"
#include "vocab.h"

void tiny_config_default(struct tiny_config *config, const char *arch) {
    *config = (struct tiny_config){.arch = arch,
                                   .type = "f32",
                                   .seed = 1,
                                   .n_blocks = 5,
                                   .n_embd = 256,
                                   .n_ff = 512,
                                   .n_head = 4,
                                   .n_head_kv = 2,
                                   .head_dim = strcmp(arch, "qwen3") == 0 ? 128 : 64,
                                   .n_ctx = 512};
}

/* ---- numbers --------------------------------------------------------------------------------------------------- */

/* splitmix64 */
static uint64_t next_u64(uint64_t *state) {
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* About normal, and the same on every machine: a sum of uniforms needs no libm. */
static float next_normal(uint64_t *state) {
    double sum = -6.0;
    for (int i = 0; i < 12; i++) sum += (double)(next_u64(state) >> 11) * 0x1.0p-53;
    return (float)sum;
}

static uint64_t name_seed(uint64_t seed, const char *name) {
    uint64_t hash = 0xCBF29CE484222325u ^ seed;
    for (; *name; name++) hash = (hash ^ (uint8_t)*name) * 0x100000001B3u;
    return hash;
}

/* ---- tensors --------------------------------------------------------------------------------------------------- */

struct maker {
    const struct tiny_config *config;
    struct tiny_vocab vocab;
    struct gguf_context *gguf;
    struct ggml_context *tensors;
    enum ggml_type type;
};

static enum ggml_type type_find(const char *name) {
    for (int i = 0; i < GGML_TYPE_COUNT; i++) {
        const char *known = ggml_type_name((enum ggml_type)i);
        if (known && strcmp(known, name) == 0) return (enum ggml_type)i;
    }
    return GGML_TYPE_COUNT;
}

static void add(struct maker *m, const char *name, enum ggml_type type, int64_t columns, int64_t rows, const float *values) {
    struct ggml_tensor *t = rows ? ggml_new_tensor_2d(m->tensors, type, columns, rows) : ggml_new_tensor_1d(m->tensors, type, columns);
    ggml_set_name(t, name);
    ggml_quantize_chunk(type, values, t->data, 0, rows ? rows : 1, columns, NULL);
    gguf_add_tensor(m->gguf, t);
}

/* rows 0: a vector in F32. Values are normal around mean. zero_special: the rows of control tokens are zero. */
static void add_random(struct maker *m, const char *name, int64_t columns, int64_t rows, float mean, float deviation) {
    int64_t n = columns * (rows ? rows : 1);
    float *values = malloc((size_t)n * sizeof *values);
    uint64_t state = name_seed(m->config->seed, name);
    assert(values);
    for (int64_t i = 0; i < n; i++) values[i] = mean + deviation * next_normal(&state);
    if (rows == m->vocab.n)
        for (uint32_t token = 0; token < m->vocab.n; token++)
            if (m->vocab.type[token] == 2 || m->vocab.type[token] == 3)
                memset(values + token * columns, 0, (size_t)columns * sizeof *values);
    add(m, name, rows ? m->type : GGML_TYPE_F32, columns, rows, values);
    free(values);
}

static const char *block_name(uint32_t block, const char *what) {
    static char name[GGML_MAX_NAME];
    snprintf(name, sizeof name, "blk.%u.%s", block, what);
    return name;
}

static void add_attention(struct maker *m, uint32_t b) {
    const struct tiny_config *c = m->config;
    int64_t embd = c->n_embd, q = (int64_t)c->n_head * c->head_dim, kv = (int64_t)c->n_head_kv * c->head_dim;
    float unit = 1.0f / sqrtf((float)embd);
    add_random(m, block_name(b, "attn_norm.weight"), embd, 0, 1.0f, 0.1f);
    add_random(m, block_name(b, "attn_q.weight"), embd, q, 0.0f, 1.6f * unit); /* wide: attention that tells positions apart */
    add_random(m, block_name(b, "attn_k.weight"), embd, kv, 0.0f, 1.6f * unit);
    add_random(m, block_name(b, "attn_v.weight"), embd, kv, 0.0f, unit);
    add_random(m, block_name(b, "attn_output.weight"), q, embd, 0.0f, 1.0f / sqrtf((float)q));
    if (strcmp(c->arch, "qwen2") == 0) {
        add_random(m, block_name(b, "attn_q.bias"), q, 0, 0.0f, 0.5f);
        add_random(m, block_name(b, "attn_k.bias"), kv, 0, 0.0f, 0.5f);
        add_random(m, block_name(b, "attn_v.bias"), kv, 0, 0.0f, 0.5f);
    }
    if (strcmp(c->arch, "qwen3") == 0) {
        add_random(m, block_name(b, "attn_q_norm.weight"), c->head_dim, 0, 1.3f, 0.2f);
        add_random(m, block_name(b, "attn_k_norm.weight"), c->head_dim, 0, 1.3f, 0.2f);
    }
}

static void add_blocks(struct maker *m) {
    int64_t embd = m->config->n_embd, ff = m->config->n_ff;
    float unit = 1.0f / sqrtf((float)embd);
    for (uint32_t b = 0; b < m->config->n_blocks; b++) {
        add_attention(m, b);
        add_random(m, block_name(b, "ffn_norm.weight"), embd, 0, 1.0f, 0.1f);
        add_random(m, block_name(b, "ffn_gate.weight"), embd, ff, 0.0f, unit);
        add_random(m, block_name(b, "ffn_up.weight"), embd, ff, 0.0f, unit);
        add_random(m, block_name(b, "ffn_down.weight"), ff, embd, 0.0f, 1.0f / sqrtf((float)ff));
    }
}

/* Llama 3's frequency factors: 1 for the fast dimensions, rising to 8 for the slow ones. */
static void add_rope_freqs(struct maker *m) {
    float factors[256];
    uint32_t half = m->config->head_dim / 2;
    assert(half <= 256);
    for (uint32_t i = 0; i < half; i++) factors[i] = i < half / 2 ? 1.0f : 1.0f + 7.0f * (float)(i - half / 2) / (float)(half / 2);
    add(m, "rope_freqs.weight", GGML_TYPE_F32, half, 0, factors);
}

/* ---- keys ------------------------------------------------------------------------------------------------------ */

static const char *key_name(const struct tiny_config *c, const char *what) {
    static char name[128];
    snprintf(name, sizeof name, "%s.%s", c->arch, what);
    return name;
}

static void add_rope_keys(struct maker *m) {
    const struct tiny_config *c = m->config;
    gguf_set_val_f32(m->gguf, key_name(c, "rope.freq_base"), 10000.0f);
    if (c->rope == TINY_ROPE_LINEAR) {
        gguf_set_val_str(m->gguf, key_name(c, "rope.scaling.type"), "linear");
        gguf_set_val_f32(m->gguf, key_name(c, "rope.scaling.factor"), 4.0f);
    }
    if (c->rope == TINY_ROPE_YARN) {
        gguf_set_val_str(m->gguf, key_name(c, "rope.scaling.type"), "yarn");
        gguf_set_val_f32(m->gguf, key_name(c, "rope.scaling.factor"), 4.0f);
        gguf_set_val_u32(m->gguf, key_name(c, "rope.scaling.original_context_length"), c->n_ctx / 4);
    }
}

static void add_keys(struct maker *m) {
    const struct tiny_config *c = m->config;
    struct gguf_context *g = m->gguf;
    gguf_set_val_str(g, "general.architecture", c->arch);
    gguf_set_val_str(g, "general.name", "tiny");
    gguf_set_val_u32(g, key_name(c, "context_length"), c->n_ctx);
    gguf_set_val_u32(g, key_name(c, "embedding_length"), c->n_embd);
    gguf_set_val_u32(g, key_name(c, "block_count"), c->n_blocks);
    gguf_set_val_u32(g, key_name(c, "feed_forward_length"), c->n_ff);
    gguf_set_val_u32(g, key_name(c, "attention.head_count"), c->n_head);
    gguf_set_val_u32(g, key_name(c, "attention.head_count_kv"), c->n_head_kv);
    gguf_set_val_f32(g, key_name(c, "attention.layer_norm_rms_epsilon"), 1e-5f);
    if (c->head_dim * c->n_head != c->n_embd) {
        gguf_set_val_u32(g, key_name(c, "attention.key_length"), c->head_dim);
        gguf_set_val_u32(g, key_name(c, "attention.value_length"), c->head_dim);
    }
    if (strcmp(c->arch, "llama") == 0) {
        gguf_set_val_u32(g, key_name(c, "rope.dimension_count"), c->head_dim);
        gguf_set_val_u32(g, key_name(c, "vocab_size"), m->vocab.n);
    }
    if (c->window) gguf_set_val_u32(g, key_name(c, "attention.sliding_window"), c->window);
    add_rope_keys(m);
    if (!c->no_vocab) tiny_vocab_write(&m->vocab, g);
}

bool tiny_write(const struct tiny_config *config, const char *path) {
    struct maker m = {.config = config, .type = type_find(config->type)};
    if (m.type == GGML_TYPE_COUNT) {
        fprintf(stderr, "tiny_write: no type is named %s\n", config->type);
        return false;
    }
    if (config->no_vocab)
        m.vocab.n = 16;
    else if (strcmp(config->arch, "llama") == 0)
        tiny_vocab_spm(&m.vocab);
    else
        tiny_vocab_bpe(&m.vocab);
    m.gguf = gguf_init_empty();
    size_t row = ggml_row_size(m.type, config->n_embd), rows = 4 * (size_t)config->n_head * config->head_dim + 3 * (size_t)config->n_ff;
    m.tensors = ggml_init((struct ggml_init_params){.mem_size = ((size_t)1 << 28) + 2 * config->n_blocks * rows * row});
    assert(m.gguf && m.tensors);

    add_keys(&m);
    add_random(&m, "token_embd.weight", config->n_embd, m.vocab.n, 0.0f, 0.25f);
    if (config->rope == TINY_ROPE_LLAMA3) add_rope_freqs(&m);
    add_blocks(&m);
    add_random(&m, "output_norm.weight", config->n_embd, 0, 1.0f, 0.1f);
    if (!config->tied) add_random(&m, "output.weight", config->n_embd, m.vocab.n, 0.0f, 0.25f);

    bool written = gguf_write_to_file(m.gguf, path, false);
    if (!written) fprintf(stderr, "tiny_write: cannot write %s\n", path);
    gguf_free(m.gguf);
    ggml_free(m.tensors);
    return written;
}
