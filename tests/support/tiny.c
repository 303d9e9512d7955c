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

#define BIT(role) (UINT64_C(1) << BLOCK_##role)
#define SPLIT (BIT(ATTN_Q) | BIT(ATTN_K) | BIT(ATTN_V))
#define SPLIT_BIAS (BIT(ATTN_Q_BIAS) | BIT(ATTN_K_BIAS) | BIT(ATTN_V_BIAS))
#define FUSED BIT(ATTN_QKV)
#define DENSE (BIT(FFN_GATE) | BIT(FFN_UP) | BIT(FFN_DOWN))
#define EXPERTS (BIT(FFN_GATE_INP) | BIT(FFN_GATE_EXPS) | BIT(FFN_UP_EXPS) | BIT(FFN_DOWN_EXPS))
#define FUSED_BIAS BIT(ATTN_QKV_BIAS)

/* What differs from the defaults below; 0: nothing. */
static const struct tiny_config usual[] = {
    {.arch = "llama", .optional = SPLIT},
    {.arch = "qwen2", .optional = SPLIT | SPLIT_BIAS},
    {.arch = "qwen3", .optional = SPLIT, .head_dim = 128},
    {.arch = "qwen2moe", .optional = SPLIT | SPLIT_BIAS, .n_expert = 6},
    {.arch = "qwen3moe", .optional = SPLIT, .head_dim = 128, .n_expert = 8},
    {.arch = "olmoe", .optional = SPLIT, .n_head_kv = 4, .n_expert = 8},
    {.arch = "bloom", .optional = FUSED | FUSED_BIAS, .n_head_kv = 4},
    {.arch = "falcon", .n_head_kv = 1},
    {.arch = "gpt2", .optional = FUSED | FUSED_BIAS, .n_head_kv = 4},
    {.arch = "gptneox", .optional = FUSED | FUSED_BIAS, .n_head_kv = 4, .n_rot = 16, .parallel = true},
    {.arch = "mpt", .optional = FUSED, .n_head_kv = 4, .alibi = 8, .clamp = 2},
    {.arch = "phi2", .optional = SPLIT | SPLIT_BIAS, .n_rot = 32},
    {.arch = "phi3", .optional = FUSED},
    {.arch = "starcoder2", .optional = SPLIT | SPLIT_BIAS},
    {.arch = "stablelm", .optional = SPLIT | BIT(FFN_NORM) | BIT(FFN_NORM_BIAS), .n_rot = 16},
    {.arch = "gemma", .optional = SPLIT, .tied = true, .head_dim = 128, .n_head_kv = 1},
    {.arch = "gemma2", .optional = SPLIT, .tied = true, .head_dim = 128, .window = 24, .softcap = 5},
    {.arch = "gemma3", .optional = SPLIT, .tied = true, .head_dim = 128, .window = 24, .rope_base = 1e6f},
    {.arch = "olmo2", .optional = SPLIT},
    {.arch = "command-r", .optional = SPLIT, .tied = true, .logit_scale = 0.25f},
};

void tiny_config_default(struct tiny_config *config, const char *arch) {
    struct tiny_config c = {.optional = SPLIT};
    for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++)
        if (strcmp(usual[i].arch, arch) == 0) c = usual[i];
    c.arch = arch;
    c.type = "f32";
    c.seed = 1;
    c.n_blocks = 5;
    c.n_embd = 256;
    c.n_ff = 512;
    c.n_head = 4;
    c.n_ctx = 512;
    if (!c.n_head_kv) c.n_head_kv = 2;
    if (!c.head_dim) c.head_dim = 64;
    if (c.rope_base == 0) c.rope_base = 10000;
    *config = c;
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
    const struct arch *arch;
    struct hparams hparams; /* what shapes of tensors follow from */
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

/* shape [columns, rows, count]; rows 0: a vector. */
static void add(struct maker *m, const char *name, enum ggml_type type, const int64_t shape[3], const float *values) {
    struct ggml_tensor *t = ggml_new_tensor(m->tensors, type, shape[2] > 1 ? 3 : shape[1] ? 2 : 1, shape);
    ggml_set_name(t, name);
    ggml_quantize_chunk(type, values, t->data, 0, (shape[1] ? shape[1] : 1) * shape[2], shape[0], NULL);
    gguf_add_tensor(m->gguf, t);
}

/* rows 0: a vector in F32. Values are normal around mean. The rows of control tokens are zero. */
static void add_many(struct maker *m, const char *name, const int64_t shape[3], float mean, float deviation) {
    int64_t columns = shape[0], rows = shape[1], n = columns * (rows ? rows : 1) * shape[2];
    float *values = malloc((size_t)n * sizeof *values);
    uint64_t state = name_seed(m->config->seed, name);
    assert(values);
    for (int64_t i = 0; i < n; i++) values[i] = mean + deviation * next_normal(&state);
    if (rows == m->vocab.n)
        for (uint32_t token = 0; token < m->vocab.n; token++)
            if (m->vocab.type[token] == 2 || m->vocab.type[token] == 3)
                memset(values + token * columns, 0, (size_t)columns * sizeof *values);
    add(m, name, rows ? m->type : GGML_TYPE_F32, shape, values);
    free(values);
}

static void add_random(struct maker *m, const char *name, int64_t columns, int64_t rows, float mean, float deviation) {
    add_many(m, name, (const int64_t[3]){columns, rows, 1}, mean, deviation);
}

/* A matrix whose rows are vectors in F32. */
static void add_vectors(struct maker *m, const char *name, const int64_t shape[3], float mean, float deviation) {
    enum ggml_type type = m->type;
    m->type = GGML_TYPE_F32;
    add_many(m, name, shape, mean, deviation);
    m->type = type;
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

static void add_block_tensor(struct maker *m, uint32_t block, enum block_tensor role) {
    int64_t shape[3];
    char name[TENSOR_NAME_SIZE];
    arch_block_tensor_name(role, block, name);
    arch_block_tensor_shape(&m->hparams, role, shape);
    bool qk_norm = strstr(name, "_q_norm") || strstr(name, "_k_norm");
    bool wide = role == BLOCK_ATTN_Q || role == BLOCK_ATTN_K || role == BLOCK_ATTN_QKV; /* attention that tells positions apart */
    if (ends_with(name, ".bias"))
        add_random(m, name, shape[0], 0, 0.0f, strstr(name, "norm") ? 0.1f : 0.5f);
    else if (role == BLOCK_ATTN_Q_NORM_HEADS || role == BLOCK_ATTN_K_NORM_HEADS)
        add_vectors(m, name, shape, 1.3f, 0.2f);
    else if (role == BLOCK_FFN_GATE_INP)
        add_vectors(m, name, shape, 0.0f, 1.0f / sqrtf((float)shape[0]));
    else if (ends_with(name, "norm.weight") || ends_with(name, "norm_2.weight"))
        add_random(m, name, shape[0], 0, qk_norm ? 1.3f : 1.0f, qk_norm ? 0.2f : 0.1f);
    else if (shape[1] == 1) /* the gate of a shared expert */
        add_random(m, name, shape[0], 0, 0.0f, 1.0f / sqrtf((float)shape[0]));
    else
        add_many(m, name, shape, 0.0f, (wide ? 1.6f : 1.0f) / sqrtf((float)shape[0]));
}

static void add_blocks(struct maker *m) {
    uint64_t roles = m->arch->required | (m->config->optional & m->arch->optional);
    if (m->config->n_expert) roles = (roles & ~DENSE) | EXPERTS;
    for (uint32_t block = 0; block < m->config->n_blocks; block++)
        for (unsigned role = 0; role < BLOCK_TENSOR_COUNT; role++)
            if (roles >> role & 1) add_block_tensor(m, block, (enum block_tensor)role);
}

static void add_edges(struct maker *m) {
    uint32_t roles = m->arch->edges_required | (m->config->edges & m->arch->edges) | 1u << GLOBAL_TOKEN_EMBD | 1u << GLOBAL_OUTPUT_NORM;
    if (!m->config->tied) roles |= 1u << GLOBAL_OUTPUT;
    for (unsigned role = 0; role < GLOBAL_TENSOR_COUNT; role++) {
        int64_t shape[3];
        const char *name = arch_global_tensor_name((enum global_tensor)role);
        if (!(roles >> role & 1)) continue;
        arch_global_tensor_shape(&m->hparams, (enum global_tensor)role, shape);
        if (ends_with(name, "norm.weight"))
            add_random(m, name, shape[0], 0, 1.0f, 0.1f);
        else if (strncmp(name, "rope_factors", 12) == 0)
            add_random(m, name, shape[0], 0, 2.0f, 0.2f);
        else if (shape[1] == 1)
            add_random(m, name, shape[0], 0, 0.0f, 0.1f);
        else
            add_random(m, name, shape[0], shape[1], 0.0f, 0.25f);
    }
}

/* Llama 3's frequency factors: 1 for the fast dimensions, rising to 8 for the slow ones. */
static void add_rope_freqs(struct maker *m) {
    float factors[256];
    uint32_t half = m->config->head_dim / 2;
    assert(half <= 256);
    for (uint32_t i = 0; i < half; i++) factors[i] = i < half / 2 ? 1.0f : 1.0f + 7.0f * (float)(i - half / 2) / (float)(half / 2);
    add(m, "rope_freqs.weight", GGML_TYPE_F32, (const int64_t[3]){half, 0, 1}, factors);
}

/* ---- keys ------------------------------------------------------------------------------------------------------ */

static const char *key_name(const struct tiny_config *c, const char *what) {
    static char name[128];
    snprintf(name, sizeof name, "%s.%s", c->arch, what);
    return name;
}

static void add_rope_keys(struct maker *m) {
    const struct tiny_config *c = m->config;
    if (m->arch->rope != ROPE_NONE) gguf_set_val_f32(m->gguf, key_name(c, "rope.freq_base"), c->rope_base);
    if (c->rope == TINY_ROPE_LINEAR) {
        gguf_set_val_str(m->gguf, key_name(c, "rope.scaling.type"), "linear");
        gguf_set_val_f32(m->gguf, key_name(c, "rope.scaling.factor"), 4.0f);
    }
    if (c->rope == TINY_ROPE_LONG) {
        gguf_set_val_str(m->gguf, key_name(c, "rope.scaling.type"), "longrope");
        gguf_set_val_f32(m->gguf, key_name(c, "rope.scaling.attn_factor"), 1.2f);
        gguf_set_val_u32(m->gguf, key_name(c, "rope.scaling.original_context_length"), c->n_ctx);
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
    gguf_set_val_f32(g, key_name(c, m->arch->norm == NORM_LAYER ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon"),
                     1e-5f);
    if (c->head_dim * c->n_head != c->n_embd) {
        gguf_set_val_u32(g, key_name(c, "attention.key_length"), c->head_dim);
        gguf_set_val_u32(g, key_name(c, "attention.value_length"), c->head_dim);
    }
    if (strcmp(c->arch, "llama") == 0) gguf_set_val_u32(g, key_name(c, "vocab_size"), m->vocab.n);
    if (m->arch->rope != ROPE_NONE) gguf_set_val_u32(g, key_name(c, "rope.dimension_count"), m->hparams.n_rot);
    if (c->window) gguf_set_val_u32(g, key_name(c, "attention.sliding_window"), c->window);
    if (strcmp(c->arch, "gptneox") == 0) gguf_set_val_bool(g, key_name(c, "use_parallel_residual"), c->parallel);
    if (c->n_expert) {
        gguf_set_val_u32(g, key_name(c, "expert_count"), c->n_expert);
        gguf_set_val_u32(g, key_name(c, "expert_used_count"), 2);
        if (strncmp(c->arch, "qwen", 4) == 0) gguf_set_val_u32(g, key_name(c, "expert_feed_forward_length"), m->hparams.n_ff_expert);
        if (strcmp(c->arch, "qwen2moe") == 0) gguf_set_val_u32(g, key_name(c, "expert_shared_feed_forward_length"), m->hparams.n_ff_shared);
    }
    if (c->alibi > 0) gguf_set_val_f32(g, key_name(c, "attention.max_alibi_bias"), c->alibi);
    if (c->clamp > 0) gguf_set_val_f32(g, key_name(c, "attention.clamp_kqv"), c->clamp);
    if (c->softcap > 0) gguf_set_val_f32(g, key_name(c, "attn_logit_softcapping"), c->softcap);
    if (c->softcap > 0) gguf_set_val_f32(g, key_name(c, "final_logit_softcapping"), c->softcap);
    if (c->logit_scale > 0) gguf_set_val_f32(g, key_name(c, "logit_scale"), c->logit_scale);
    add_rope_keys(m);
    if (!c->no_vocab) tiny_vocab_write(&m->vocab, g);
}

bool tiny_write(const struct tiny_config *config, const char *path) {
    struct maker m = {.config = config, .arch = arch_find(config->arch, strlen(config->arch)), .type = type_find(config->type)};
    if (!m.arch) {
        fprintf(stderr, "tiny_write: no architecture is named %s\n", config->arch);
        return false;
    }
    if (m.type == GGML_TYPE_COUNT) {
        fprintf(stderr, "tiny_write: no type is named %s\n", config->type);
        return false;
    }
    if (config->no_vocab)
        m.vocab.n = 16;
    else if (strcmp(config->arch, "llama") == 0 || strncmp(config->arch, "gemma", 5) == 0)
        tiny_vocab_spm(&m.vocab);
    else
        tiny_vocab_bpe(&m.vocab);
    m.gguf = gguf_init_empty();
    size_t row = ggml_row_size(m.type, config->n_embd), rows = 4 * (size_t)config->n_head * config->head_dim + 3 * (size_t)config->n_ff;
    m.tensors = ggml_init((struct ggml_init_params){
        .mem_size = ((size_t)1 << 28) + 2 * config->n_blocks * (rows + 3 * (size_t)config->n_ff * config->n_expert) * row});
    assert(m.gguf && m.tensors);

    m.hparams = (struct hparams){.arch = m.arch,
                                 .n_embd = config->n_embd,
                                 .n_ff = config->n_ff,
                                 .n_expert = config->n_expert,
                                 .n_ff_expert = strncmp(config->arch, "qwen", 4) == 0 ? config->n_ff / 2 : config->n_ff,
                                 .n_ff_shared = config->n_ff,
                                 .n_head = config->n_head,
                                 .n_head_kv = config->n_head_kv,
                                 .head_dim = config->head_dim,
                                 .n_rot = config->n_rot ? config->n_rot : config->head_dim,
                                 .n_ctx_train = config->n_ctx,
                                 .n_vocab = m.vocab.n};
    add_keys(&m);
    add_edges(&m);
    if (config->rope == TINY_ROPE_LLAMA3) add_rope_freqs(&m);
    add_blocks(&m);

    bool written = gguf_write_to_file(m.gguf, path, false);
    if (!written) fprintf(stderr, "tiny_write: cannot write %s\n", path);
    gguf_free(m.gguf);
    ggml_free(m.tensors);
    return written;
}
