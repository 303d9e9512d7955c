/* arch.c - see arch.h. */
#include "model/arch.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "ggml.h"

#define BIT(role) (UINT64_C(1) << BLOCK_##role)
#define EDGE(role) (1u << GLOBAL_##role)

/* Every block has one of QKV and all of Q, K, V, and one of experts and a feed-forward of its own (check_block). */
#define SPLIT_QKV (BIT(ATTN_Q) | BIT(ATTN_K) | BIT(ATTN_V))
#define ANY_QKV (SPLIT_QKV | BIT(ATTN_QKV))
#define SPLIT_QKV_BIAS (BIT(ATTN_Q_BIAS) | BIT(ATTN_K_BIAS) | BIT(ATTN_V_BIAS))
#define ANY_QKV_BIAS (SPLIT_QKV_BIAS | BIT(ATTN_QKV_BIAS))
#define QK_NORM (BIT(ATTN_Q_NORM) | BIT(ATTN_K_NORM))
#define QK_NORM_HEADS (BIT(ATTN_Q_NORM_HEADS) | BIT(ATTN_K_NORM_HEADS))
#define QK_NORM_ALL (BIT(ATTN_Q_NORM_ALL) | BIT(ATTN_K_NORM_ALL))
#define PRE_NORMS (BIT(ATTN_NORM) | BIT(FFN_NORM))
#define PRE_NORM_BIAS (BIT(ATTN_NORM_BIAS) | BIT(FFN_NORM_BIAS))
#define POST_NORMS (BIT(ATTN_POST_NORM) | BIT(FFN_POST_NORM))
#define PLAIN_FFN (BIT(FFN_UP) | BIT(FFN_DOWN))
#define GATED_FFN (PLAIN_FFN | BIT(FFN_GATE))
#define EXPERTS (BIT(FFN_GATE_INP) | BIT(FFN_GATE_EXPS) | BIT(FFN_UP_EXPS) | BIT(FFN_DOWN_EXPS))
#define SHARED_EXPERT (BIT(FFN_GATE_INP_SHARED) | BIT(FFN_GATE_SHARED) | BIT(FFN_UP_SHARED) | BIT(FFN_DOWN_SHARED))
#define FFN_BIAS (BIT(FFN_UP_BIAS) | BIT(FFN_DOWN_BIAS))
#define EDGES (EDGE(TOKEN_EMBD) | EDGE(OUTPUT_NORM) | EDGE(OUTPUT)) /* that every row has */
#define OUT BIT(ATTN_OUT)
#define OUT_BIAS BIT(ATTN_OUT_BIAS)

/* A dense block with RMS norms before attention and a gated feed-forward, and one with layer norms that have biases everywhere. */
#define LLAMA_BLOCK (PRE_NORMS | OUT | GATED_FFN)
#define GPT_BLOCK (PRE_NORMS | PRE_NORM_BIAS | OUT | OUT_BIAS | PLAIN_FFN | FFN_BIAS)

static const struct arch archs[] = {
    {.name = "llama",
     .models = "Llama 1 to 3, Mistral, Mixtral, SmolLM and many others",
     .required = LLAMA_BLOCK,
     .optional = EXPERTS | ANY_QKV | SPLIT_QKV_BIAS | OUT_BIAS | FFN_BIAS | BIT(FFN_GATE_BIAS),
     .edges = EDGE(ROPE_FREQS),
     .window = true,
     .normed_experts = true},
    {.name = "qwen2",
     .models = "Qwen 1.5, 2 and 2.5",
     .required = LLAMA_BLOCK,
     .optional = ANY_QKV | ANY_QKV_BIAS,
     .edges = EDGE(OUTPUT_BIAS),
     .rope = ROPE_NEOX},
    {.name = "qwen3", .models = "Qwen 3", .required = LLAMA_BLOCK | QK_NORM, .optional = ANY_QKV, .rope = ROPE_NEOX},
    {.name = "qwen2moe",
     .models = "Qwen 1.5 and 2 with experts",
     .required = PRE_NORMS | OUT | EXPERTS | SHARED_EXPERT,
     .optional = ANY_QKV | ANY_QKV_BIAS,
     .rope = ROPE_NEOX},
    {.name = "qwen3moe",
     .models = "Qwen 3 with experts",
     .required = PRE_NORMS | QK_NORM | OUT | EXPERTS,
     .optional = ANY_QKV,
     .rope = ROPE_NEOX,
     .normed_experts = true},
    {.name = "olmoe", .models = "OLMoE", .required = PRE_NORMS | QK_NORM_ALL | OUT | EXPERTS, .optional = ANY_QKV, .rope = ROPE_NEOX},
    {.name = "bloom",
     .models = "BLOOM, BLOOMZ",
     .required = GPT_BLOCK,
     .optional = ANY_QKV | ANY_QKV_BIAS,
     .edges_required = EDGE(TOKEN_NORM) | EDGE(TOKEN_NORM_BIAS) | EDGE(OUTPUT_NORM_BIAS),
     .rope = ROPE_NONE,
     .norm = NORM_LAYER,
     .act = ACT_GELU,
     .alibi = 8},
    {.name = "falcon",
     .models = "Falcon 7B, 40B, 180B",
     .required = BIT(ATTN_NORM) | BIT(ATTN_NORM_BIAS) | BIT(ATTN_QKV) | OUT | PLAIN_FFN,
     .optional = BIT(ATTN_NORM_2) | BIT(ATTN_NORM_2_BIAS),
     .edges_required = EDGE(OUTPUT_NORM_BIAS),
     .rope = ROPE_NEOX,
     .norm = NORM_LAYER,
     .act = ACT_GELU,
     .parallel = true},
    {.name = "gpt2",
     .models = "GPT-2",
     .required = GPT_BLOCK,
     .optional = ANY_QKV | ANY_QKV_BIAS,
     .edges_required = EDGE(POSITION_EMBD) | EDGE(OUTPUT_NORM_BIAS),
     .rope = ROPE_NONE,
     .norm = NORM_LAYER,
     .act = ACT_GELU},
    {.name = "gptneox",
     .models = "GPT-NeoX, Pythia, Dolly",
     .required = GPT_BLOCK,
     .optional = ANY_QKV | ANY_QKV_BIAS,
     .edges_required = EDGE(OUTPUT_NORM_BIAS),
     .rope = ROPE_NEOX,
     .norm = NORM_LAYER,
     .act = ACT_GELU},
    {.name = "mpt",
     .models = "MPT",
     .required = PRE_NORMS | OUT | PLAIN_FFN,
     .optional = PRE_NORM_BIAS | BIT(ATTN_QKV) | BIT(ATTN_QKV_BIAS) | OUT_BIAS | FFN_BIAS,
     .edges = EDGE(POSITION_EMBD) | EDGE(OUTPUT_NORM_BIAS),
     .rope = ROPE_NONE,
     .norm = NORM_LAYER,
     .act = ACT_GELU,
     .alibi_key = true},
    {.name = "phi2",
     .models = "Phi-1, Phi-1.5, Phi-2",
     .required = BIT(ATTN_NORM) | BIT(ATTN_NORM_BIAS) | OUT | OUT_BIAS | PLAIN_FFN | FFN_BIAS,
     .optional = ANY_QKV | ANY_QKV_BIAS,
     .edges_required = EDGE(OUTPUT_NORM_BIAS) | EDGE(OUTPUT) | EDGE(OUTPUT_BIAS),
     .rope = ROPE_NEOX,
     .norm = NORM_LAYER,
     .act = ACT_GELU,
     .parallel = true},
    {.name = "phi3",
     .models = "Phi-3, Phi-3.5, Phi-4",
     .required = PRE_NORMS | OUT | BIT(FFN_GATE_UP) | BIT(FFN_DOWN),
     .optional = ANY_QKV,
     .edges = EDGE(ROPE_SHORT) | EDGE(ROPE_LONG),
     .rope = ROPE_NEOX,
     .window_ignored = true},
    {.name = "starcoder2",
     .models = "StarCoder2",
     .required = GPT_BLOCK,
     .optional = ANY_QKV | ANY_QKV_BIAS,
     .edges_required = EDGE(OUTPUT_NORM_BIAS),
     .rope = ROPE_NEOX,
     .norm = NORM_LAYER,
     .act = ACT_GELU},
    {.name = "stablelm",
     .models = "StableLM, StableLM 2",
     .required = BIT(ATTN_NORM) | BIT(ATTN_NORM_BIAS) | OUT | GATED_FFN,
     .optional = ANY_QKV | ANY_QKV_BIAS | QK_NORM_HEADS | BIT(FFN_NORM) | BIT(FFN_NORM_BIAS),
     .edges_required = EDGE(OUTPUT_NORM_BIAS),
     .rope = ROPE_NEOX,
     .norm = NORM_LAYER,
     .parallel_without_norm = true},
    {.name = "gemma",
     .models = "Gemma 1",
     .required = LLAMA_BLOCK,
     .optional = ANY_QKV,
     .rope = ROPE_NEOX,
     .act = ACT_GELU,
     .scaled_embedding = true},
    {.name = "gemma2",
     .models = "Gemma 2",
     .required = LLAMA_BLOCK | POST_NORMS,
     .optional = ANY_QKV,
     .rope = ROPE_NEOX,
     .act = ACT_GELU,
     .window = true,
     .window_default = 4096,
     .window_period = 2,
     .attn_softcap = 50,
     .logit_softcap = 30,
     .scaled_embedding = true,
     .blocks_scaled_by_embd = 46},
    {.name = "gemma3",
     .models = "Gemma 3 (text)",
     .required = LLAMA_BLOCK | POST_NORMS | QK_NORM,
     .optional = ANY_QKV,
     .rope = ROPE_NEOX,
     .act = ACT_GELU,
     .window = true,
     .window_period = 6,
     .window_rope = true,
     .window_rope_base = 10000,
     .scaled_embedding = true,
     .blocks_scaled_by_embd = 62},
    {.name = "olmo2",
     .models = "OLMo 2 and 3",
     .required = POST_NORMS | QK_NORM_ALL | OUT | GATED_FFN,
     .optional = ANY_QKV,
     .edges_required = EDGE(OUTPUT),
     .rope = ROPE_NEOX,
     .window = true,
     .window_period = 4,
     .window_rope = true},
    {.name = "command-r",
     .models = "Command R, Command R+, Aya",
     .required = BIT(ATTN_NORM) | OUT | GATED_FFN,
     .optional = ANY_QKV | ANY_QKV_BIAS | OUT_BIAS | QK_NORM_HEADS,
     .norm = NORM_LAYER,
     .parallel = true},
};

const struct arch *arch_rows(size_t *out_count) {
    *out_count = ARRAY_SIZE(archs);
    return archs;
}

void arch_traits(const struct arch *a, char *out, size_t size) {
    const char *position = a->alibi > 0.0f ? "ALiBi" : a->alibi_key ? "ALiBi or learned positions" : "learned positions";
    const struct {
        bool has;
        const char *text;
    } traits[] = {
        {true, a->norm == NORM_LAYER ? "layer norm" : "RMS norm"},
        {true, a->rope == ROPE_NONE ? position : "RoPE"},
        {true, arch_has(a, BLOCK_FFN_GATE) || arch_has(a, BLOCK_FFN_GATE_EXPS) || arch_has(a, BLOCK_FFN_GATE_UP) ? "gated" : "not gated"},
        {true, a->act == ACT_GELU ? "GELU" : "SiLU"},
        {arch_has(a, BLOCK_FFN_GATE_INP), a->required & BIT(FFN_GATE_INP) ? "experts" : "experts or none"},
        {arch_has(a, BLOCK_FFN_UP_SHARED), "shared expert"},
        {a->parallel || a->parallel_without_norm, "parallel"},
        {(a->required | a->optional) & (QK_NORM | QK_NORM_HEADS | QK_NORM_ALL), "norms of Q and K"},
        {a->required & POST_NORMS, "norms behind"},
        {a->edges_required & EDGE(TOKEN_NORM), "embedding norm"},
        {a->scaled_embedding, "scaled embedding"},
        {a->window, a->window_period ? "windows in some blocks" : "window"},
        {a->attn_softcap > 0.0f, "soft caps"},
    };
    size_t at = 0;
    for (size_t i = 0; i < ARRAY_SIZE(traits) && at < size; i++)
        if (traits[i].has) at += (size_t)snprintf(out + at, size - at, "%s%s", at ? ", " : "", traits[i].text);
}

bool arch_has(const struct arch *arch, enum block_tensor role) { return (arch->required | arch->optional) >> role & 1; }

uint32_t hparams_window(const struct hparams *h, uint32_t block) {
    return h->window_period && block % h->window_period == h->window_period - 1 ? 0 : h->n_window;
}

const struct arch *arch_find(const char *name, size_t size) {
    for (size_t i = 0; i < ARRAY_SIZE(archs); i++)
        if (strlen(archs[i].name) == size && memcmp(archs[i].name, name, size) == 0) return &archs[i];
    return NULL;
}

/* Sizes that tensors are made of; the indices of dim_size(). */
enum dim {
    DIM_NONE,
    DIM_EMBD,
    DIM_Q,
    DIM_KV,
    DIM_QKV,
    DIM_HEAD,
    DIM_HEADS,
    DIM_KV_HEADS,
    DIM_FF,
    DIM_TWO_FF,
    DIM_EXPERT_FF,
    DIM_SHARED_FF,
    DIM_EXPERTS,
    DIM_VOCAB,
    DIM_CTX,
    DIM_HALF_ROT
};

struct tensor_rule {
    const char *name;
    enum dim columns, rows, count;
};

static const struct tensor_rule block_rules[] = {
#define X(role, name, columns, rows, count) {name, DIM_##columns, DIM_##rows, DIM_##count},
    BLOCK_TENSOR_MAP(X)
#undef X
};

static const struct tensor_rule global_rules[] = {
#define X(role, name, columns, rows) {name, DIM_##columns, DIM_##rows, DIM_NONE},
    GLOBAL_TENSOR_MAP(X)
#undef X
};

static int64_t dim_size(const struct hparams *h, enum dim dim) {
    switch (dim) {
    case DIM_EMBD: return h->n_embd;
    case DIM_Q: return (int64_t)h->head_dim * h->n_head;
    case DIM_KV: return (int64_t)h->head_dim * h->n_head_kv;
    case DIM_QKV: return (int64_t)h->head_dim * (h->n_head + 2 * h->n_head_kv);
    case DIM_HEAD: return h->head_dim;
    case DIM_HEADS: return h->n_head;
    case DIM_KV_HEADS: return h->n_head_kv;
    case DIM_FF: return h->n_ff;
    case DIM_TWO_FF: return 2 * (int64_t)h->n_ff;
    case DIM_EXPERT_FF: return h->n_ff_expert;
    case DIM_SHARED_FF: return h->n_ff_shared;
    case DIM_EXPERTS: return h->n_expert;
    case DIM_VOCAB: return h->n_vocab;
    case DIM_CTX: return h->n_ctx_train;
    case DIM_HALF_ROT: return h->n_rot / 2;
    case DIM_NONE: break;
    }
    return 1;
}

void arch_block_tensor_name(enum block_tensor role, uint32_t block, char out[TENSOR_NAME_SIZE]) {
    snprintf(out, TENSOR_NAME_SIZE, "blk.%u.%s", block, block_rules[role].name);
}

const char *arch_global_tensor_name(enum global_tensor role) { return global_rules[role].name; }

static void shape_of(const struct hparams *h, const struct tensor_rule *rule, int64_t out[3]) {
    out[0] = dim_size(h, rule->columns);
    out[1] = dim_size(h, rule->rows);
    out[2] = dim_size(h, rule->count);
}

void arch_block_tensor_shape(const struct hparams *h, enum block_tensor role, int64_t out[3]) { shape_of(h, &block_rules[role], out); }
void arch_global_tensor_shape(const struct hparams *h, enum global_tensor role, int64_t out[3]) { shape_of(h, &global_rules[role], out); }

/* ---- hyperparameters ------------------------------------------------------------------------------------------- */

struct reader {
    const struct header *header;
    const struct arch *arch;
    struct corolla_error *err;
    enum corolla_status status; /* the first failure; later reads do nothing */
};

static const struct header_key *reader_key(const struct reader *r, const char *name, char path[128]) {
    snprintf(path, 128, "%s.%s", r->arch->name, name);
    return header_find(r->header, path);
}

/* A whole number within [min, max]; fallback when the key is missing, which is an error when fallback is 0. */
static uint32_t read_u32(struct reader *r, const char *name, uint32_t fallback, uint32_t min, uint32_t max) {
    char path[128];
    uint32_t v = fallback;
    if (r->status) return fallback;
    const struct header_key *key = reader_key(r, name, path);
    if (!key && fallback == 0 && min > 0) r->status = err_set(r->err, COROLLA_FORMAT, "key %s is missing", path);
    if (!key) return fallback;
    if (key->type == HEADER_ARRAY)
        r->status =
            err_set(r->err, COROLLA_UNSUPPORTED, "%s differs between blocks, which no row of the architecture table expresses", path);
    else if (!header_u32(r->header, path, &v))
        r->status = err_set(r->err, COROLLA_FORMAT, "key %s is no whole number", path);
    else if (v < min || v > max)
        r->status = err_set(r->err, COROLLA_FORMAT, "%s is %u, outside of %u to %u", path, v, min, max);
    return v;
}

static float read_f32(struct reader *r, const char *name, float fallback) {
    char path[128];
    float v = fallback;
    if (!r->status && reader_key(r, name, path) && !header_f32(r->header, path, &v))
        r->status = err_set(r->err, COROLLA_FORMAT, "key %s is no finite number", path);
    return v;
}

/* 1 when the key is missing or 0, as libllama has it. */
static float read_scale(struct reader *r, const char *name) {
    float scale = read_f32(r, name, 1.0f);
    return scale == 0.0f ? 1.0f : scale;
}

static bool read_bool(struct reader *r, const char *name, bool fallback) {
    char path[128];
    bool v = fallback;
    if (!r->status && reader_key(r, name, path) && !header_bool(r->header, path, &v))
        r->status = err_set(r->err, COROLLA_FORMAT, "key %s is neither true nor false", path);
    return v;
}

enum rope_scaling { SCALING_NONE, SCALING_LINEAR, SCALING_YARN, SCALING_LONG };

static enum rope_scaling read_scaling(struct reader *r) {
    static const char *const names[] = {"none", "linear", "yarn", "longrope"};
    char path[128];
    const char *value;
    size_t size;
    bool has_factors = header_tensor(r->header, global_rules[GLOBAL_ROPE_SHORT].name) != NULL;
    if (!reader_key(r, "rope.scaling.type", path)) return SCALING_LINEAR; /* what llama.cpp assumes: a bare factor is linear */
    if (header_string(r->header, path, &value, &size))
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
            if (strlen(names[i]) == size && memcmp(names[i], value, size) == 0 && (i != SCALING_LONG || has_factors))
                return (enum rope_scaling)i;
    if (!r->status)
        r->status = err_set(r->err, COROLLA_UNSUPPORTED,
                            "this kind of RoPE scaling is not supported: none, linear, yarn and, with factors, longrope are");
    return SCALING_NONE;
}

/* YaRN (Peng et al. 2023, arXiv 2309.00071): ggml multiplies attention by 1 + 0.1 ln(factor) itself, so that only the file's own
 * attention factor is left. LongRoPE (Ding et al. 2024, arXiv 2402.13753) has factors for short and for long contexts, which do not go
 * together in a cache: the short ones are used, and the context is the one that they are for. */
static void read_rope(struct reader *r, struct hparams *h) {
    h->rope_base = read_f32(r, "rope.freq_base", 10000.0f);
    if (h->arch->window_rope)
        h->window_rope_base =
            read_f32(r, "rope.freq_base_swa", h->arch->window_rope_base > 0.0f ? h->arch->window_rope_base : h->rope_base);
    float factor = read_f32(r, "rope.scaling.factor", read_f32(r, "rope.scale_linear", 0.0f));
    enum rope_scaling scaling = read_scaling(r);
    h->rope_scale = scaling == SCALING_NONE || factor == 0.0f ? 1.0f : 1.0f / factor;
    h->n_ctx_orig = read_u32(r, "rope.scaling.original_context_length", h->n_ctx_train, 1, UINT32_MAX / 2);
    if (header_tensor(r->header, global_rules[GLOBAL_ROPE_SHORT].name) && h->n_ctx_train > h->n_ctx_orig) h->n_ctx_train = h->n_ctx_orig;
    h->yarn_ext_factor = read_f32(r, "rope.scaling.yarn_ext_factor", scaling == SCALING_YARN ? 1.0f : 0.0f);
    h->yarn_attn_factor = read_f32(r, "rope.scaling.attn_factor", 1.0f);
    h->yarn_beta_fast = read_f32(r, "rope.scaling.yarn_beta_fast", 32.0f);
    h->yarn_beta_slow = read_f32(r, "rope.scaling.yarn_beta_slow", 1.0f);
    if (!r->status && (h->rope_base <= 0.0f || factor < 0.0f || !isfinite(h->rope_scale)))
        r->status = err_set(r->err, COROLLA_FORMAT, "impossible RoPE base %g or factor %g", (double)h->rope_base, (double)factor);
}

static void read_attention(struct reader *r, struct hparams *h) {
    const struct arch *arch = h->arch;
    uint32_t shared = h->n_blocks == arch->blocks_scaled_by_embd ? h->n_embd / h->n_head : h->head_dim;
    float scale = read_f32(r, "attention.scale", 0.0f);
    h->attn_scale = scale == 0.0f ? 1.0f / sqrtf((float)shared) : scale;
    h->attn_softcap = read_f32(r, "attn_logit_softcapping", arch->attn_softcap);
    h->clamp_qkv = read_f32(r, "attention.clamp_kqv", 0.0f);
    h->alibi = arch->alibi_key ? read_f32(r, "attention.max_alibi_bias", 0.0f) : arch->alibi;
    if (!arch->window) return;
    h->n_window = read_u32(r, "attention.sliding_window", arch->window_default, 0, UINT32_MAX);
    h->window_period = read_u32(r, "attention.sliding_window_pattern", arch->window_period, 0, 1024);
}

/* Keys that change the arithmetic in ways that no row expresses, unless they have this value. */
static void refuse_foreign(struct reader *r) {
    static const struct {
        const char *name;
        float harmless;
    } keys[] = {{"expert_gating_func", 1}, {"expert_group_count", 1}, {"residual_scale", 1}, {"embedding_scale", 1}};
    char path[128];
    for (size_t i = 0; i < ARRAY_SIZE(keys) && !r->status; i++) {
        uint32_t whole;
        float value = 0;
        if (!reader_key(r, keys[i].name, path)) continue;
        if (header_u32(r->header, path, &whole)) value = (float)whole;
        if (value != keys[i].harmless && !(header_f32(r->header, path, &value) && value == keys[i].harmless))
            r->status = err_set(r->err, COROLLA_UNSUPPORTED, "no row of the architecture table expresses %s", path);
    }
    bool window = r->arch->window || r->arch->window_ignored;
    if (!r->status && !window && read_u32(r, "attention.sliding_window", 0, 0, UINT32_MAX) > 0)
        r->status =
            err_set(r->err, COROLLA_UNSUPPORTED, "the row of architecture %s has no sliding window, and this file does", r->arch->name);
}

static void read_experts(struct reader *r, struct hparams *h) {
    if (!arch_has(h->arch, BLOCK_FFN_GATE_INP)) return;
    uint32_t least = h->arch->required & BIT(FFN_GATE_INP) ? 1 : 0;
    h->n_expert = read_u32(r, "expert_count", 0, least, 1024);
    if (r->status || h->n_expert == 0) return;
    h->n_expert_used = read_u32(r, "expert_used_count", 0, 1, h->n_expert);
    h->n_ff_expert = read_u32(r, "expert_feed_forward_length", h->n_ff, 1, 1u << 20);
    h->n_ff_shared = read_u32(r, "expert_shared_feed_forward_length", h->n_ff, 1, 1u << 20);
    h->expert_scale = read_scale(r, "expert_weights_scale");
}

static void read_hparams(struct reader *r, struct hparams *h) {
    h->arch = r->arch;
    h->n_blocks = read_u32(r, "block_count", 0, 1, 1024);
    h->n_embd = read_u32(r, "embedding_length", 0, 1, 1u << 16);
    h->n_ff = read_u32(r, "feed_forward_length", 0, 1, 1u << 20);
    h->n_ctx_train = read_u32(r, "context_length", 0, 1, 1u << 28);
    h->n_head = read_u32(r, "attention.head_count", 0, 1, 1024);
    h->n_head_kv = read_u32(r, "attention.head_count_kv", h->n_head, 1, 1024);
    if (r->status) return;
    h->head_dim = read_u32(r, "attention.key_length", h->n_embd / h->n_head, 2, 1024);
    uint32_t value_dim = read_u32(r, "attention.value_length", h->n_embd / h->n_head, 2, 1024);
    h->n_rot = read_u32(r, "rope.dimension_count", h->head_dim, 2, 1024);
    h->norm_eps = read_f32(r, h->arch->norm == NORM_LAYER ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", 0.0f);
    refuse_foreign(r);
    read_experts(r, h);
    read_attention(r, h);
    read_rope(r, h);
    h->parallel = read_bool(r, "use_parallel_residual", h->arch->parallel);
    h->embd_scale = h->arch->scaled_embedding ? sqrtf((float)h->n_embd) : 1.0f;
    h->logit_scale = read_scale(r, "logit_scale");
    h->logit_softcap = read_f32(r, "final_logit_softcapping", h->arch->logit_softcap);
    if (r->status) return;
    if (h->n_head % h->n_head_kv != 0)
        r->status = err_set(r->err, COROLLA_FORMAT, "%u heads cannot share %u KV heads", h->n_head, h->n_head_kv);
    else if (value_dim != h->head_dim)
        r->status =
            err_set(r->err, COROLLA_UNSUPPORTED, "keys of %u and values of %u dimensions are not supported", h->head_dim, value_dim);
    else if (h->n_rot > h->head_dim || h->n_rot % 2 != 0 || h->head_dim % 2 != 0)
        r->status = err_set(r->err, COROLLA_FORMAT, "RoPE over %u of %u dimensions is impossible", h->n_rot, h->head_dim);
    else if (!(h->norm_eps > 0.0f))
        r->status = err_set(r->err, COROLLA_FORMAT, "the epsilon of the norms is missing or not positive");
    else if (!(h->attn_softcap >= 0.0f && h->logit_softcap >= 0.0f && h->alibi >= 0.0f && h->clamp_qkv >= 0.0f))
        r->status = err_set(r->err, COROLLA_FORMAT, "a soft cap, a slope or a clamp is negative");
}

/* ---- tensors --------------------------------------------------------------------------------------------------- */

static enum corolla_status check_tensor(const struct hparams *h, const struct model_tensor *t, const struct tensor_rule *rule,
                                        struct corolla_error *err) {
    int64_t want[3];
    shape_of(h, rule, want);
    if (t->ne[0] != want[0] || t->ne[1] != want[1] || t->ne[2] != want[2] || t->ne[3] != 1)
        return err_set(err, COROLLA_FORMAT, "tensor %s is %lld x %lld x %lld, but the hyperparameters ask for %lld x %lld x %lld", t->name,
                       (long long)t->ne[0], (long long)t->ne[1], (long long)t->ne[2], (long long)want[0], (long long)want[1],
                       (long long)want[2]);
    enum ggml_type type = (enum ggml_type)t->type;
    bool vector = rule->rows == DIM_NONE || rule->columns == DIM_HEAD;
    if (vector && type != GGML_TYPE_F32)
        return err_set(err, COROLLA_UNSUPPORTED, "tensor %s is %s, but vectors must be F32", t->name, ggml_type_name(type));
    if (type != GGML_TYPE_F32 && type != GGML_TYPE_F16 && type != GGML_TYPE_BF16 && !ggml_is_quantized(type))
        return err_set(err, COROLLA_UNSUPPORTED, "tensor %s has type %s, which is no weight type", t->name, ggml_type_name(type));
    return COROLLA_OK;
}

/* Which rule a tensor of the file falls under: "blk.N.<name>" with N < n_blocks, or a global name. NULL: none. */
static const struct tensor_rule *find_rule(const struct hparams *h, const char *name) {
    unsigned block;
    int at = 0;
    if (sscanf(name, "blk.%u.%n", &block, &at) == 1 && at > 0) {
        for (unsigned i = 0; i < BLOCK_TENSOR_COUNT; i++) {
            char canonical[TENSOR_NAME_SIZE];
            arch_block_tensor_name((enum block_tensor)i, block, canonical);
            if (arch_has(h->arch, (enum block_tensor)i) && block < h->n_blocks && strcmp(canonical, name) == 0) return &block_rules[i];
        }
        return NULL;
    }
    for (size_t i = 0; i < GLOBAL_TENSOR_COUNT; i++)
        if (((EDGES | h->arch->edges_required | h->arch->edges) >> i & 1) && strcmp(global_rules[i].name, name) == 0)
            return &global_rules[i];
    return NULL;
}

static bool block_has(const struct header *header, uint32_t block, enum block_tensor role) {
    char name[TENSOR_NAME_SIZE];
    arch_block_tensor_name(role, block, name);
    return header_tensor(header, name) != NULL;
}

static enum corolla_status check_block(const struct hparams *h, const struct header *header, uint32_t block, struct corolla_error *err) {
    bool fused = block_has(header, block, BLOCK_ATTN_QKV);
    uint64_t wanted = h->arch->required | (fused ? BIT(ATTN_QKV) : SPLIT_QKV);
    uint64_t unused = fused ? SPLIT_QKV | SPLIT_QKV_BIAS : BIT(ATTN_QKV_BIAS); /* the builder would leave them out */
    if (arch_has(h->arch, BLOCK_FFN_GATE_INP) && block_has(header, block, BLOCK_FFN_GATE_INP)) {
        wanted = (wanted & ~GATED_FFN) | EXPERTS;
        unused |= GATED_FFN | FFN_BIAS | BIT(FFN_GATE_BIAS);
    }
    unused &= h->arch->required | h->arch->optional;
    for (unsigned i = 0; i < BLOCK_TENSOR_COUNT; i++) {
        char name[TENSOR_NAME_SIZE];
        arch_block_tensor_name((enum block_tensor)i, block, name);
        bool has = header_tensor(header, name) != NULL;
        if ((wanted >> i & 1) && !has) return err_set(err, COROLLA_FORMAT, "tensor %s is missing", name);
        if ((unused >> i & 1) && has) return err_set(err, COROLLA_UNSUPPORTED, "tensor %s does not go with the others of its block", name);
    }
    return COROLLA_OK;
}

static enum corolla_status check_present(const struct hparams *h, const struct header *header, struct corolla_error *err) {
    for (uint32_t block = 0; block < h->n_blocks; block++) {
        enum corolla_status status = check_block(h, header, block, err);
        if (status) return status;
    }
    for (size_t i = 0; i < GLOBAL_TENSOR_COUNT; i++)
        if (((EDGE(OUTPUT_NORM) | h->arch->edges_required) >> i & 1) && !header_tensor(header, global_rules[i].name))
            return err_set(err, COROLLA_FORMAT, "tensor %s is missing", global_rules[i].name);
    return COROLLA_OK;
}

static enum corolla_status check_tensors(const struct hparams *h, const struct header *header, struct corolla_error *err) {
    for (size_t i = 0; i < header->n_tensors; i++) {
        const struct model_tensor *t = &header->tensors[i];
        const struct tensor_rule *rule = find_rule(h, t->name);
        if (!rule)
            return err_set(err, COROLLA_UNSUPPORTED, "tensor %s: the row of architecture %s does not express it", t->name, h->arch->name);
        enum corolla_status status = check_tensor(h, t, rule, err);
        if (status) return status;
    }
    return check_present(h, header, err);
}

enum corolla_status arch_read(struct hparams *out, const struct header *header, struct corolla_error *err) {
    const char *name;
    size_t size;
    struct hparams h = {0};
    if (!header_string(header, "general.architecture", &name, &size))
        return err_set(err, COROLLA_FORMAT, "key general.architecture is missing");
    struct reader r = {.header = header, .arch = arch_find(name, size), .err = err};
    if (!r.arch) return err_set(err, COROLLA_UNSUPPORTED, "architecture %.*s is not supported", size > 64 ? 64 : (int)size, name);
    read_hparams(&r, &h);
    if (r.status) return r.status;
    const struct model_tensor *embd = header_tensor(header, global_rules[GLOBAL_TOKEN_EMBD].name);
    if (!embd) return err_set(err, COROLLA_FORMAT, "tensor %s is missing", global_rules[GLOBAL_TOKEN_EMBD].name);
    if (embd->ne[1] > 1 << 24) return err_set(err, COROLLA_FORMAT, "a vocabulary of %lld tokens", (long long)embd->ne[1]);
    h.n_vocab = (uint32_t)embd->ne[1];
    enum corolla_status status = check_tensors(&h, header, err);
    if (!status) *out = h;
    return status;
}
