/* graph.c - see graph.h. */
#include "model/graph.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "ggml.h"
#include "kernel/product.h"

#define ATTENTION_SCRATCH_MAX (8u << 20) /* bytes of [W, rows, H] in F32 that a piece should stay below */
#define PIECES_MAX 8                     /* per item: more would only cost nodes */
#define NODES_PER_BLOCK 90               /* tensors, without the items' */
#define LEAST_SHARE 6.103515625e-5f      /* of the chosen experts together: the smallest normal half float */
#define NODES_PER_PIECE 24               /* with what its item needs */

struct ggml_tensor *graph_norm(struct ggml_context *ctx, const struct hparams *h, struct ggml_tensor *x, struct ggml_tensor *weight,
                               struct ggml_tensor *bias) {
    x = h->arch->norm == NORM_LAYER ? ggml_norm(ctx, x, h->norm_eps) : ggml_rms_norm(ctx, x, h->norm_eps);
    x = ggml_mul(ctx, x, weight);
    return bias ? ggml_add(ctx, x, bias) : x;
}

struct ggml_tensor *graph_softcap(struct ggml_context *ctx, struct ggml_tensor *x, float scale, float cap) {
    return ggml_scale(ctx, ggml_tanh(ctx, ggml_scale(ctx, x, scale / cap)), cap);
}

struct builder {
    struct graph *g;
    const struct graph_config *c;
    const struct hparams *h;
    struct ggml_context *ctx;
    struct ggml_tensor *x, *rows; /* what was multiplied last, and its rows as product() wants them: several weights share them */
};

/* x itself where the block has no such norm. */
static struct ggml_tensor *norm(struct builder *b, struct ggml_tensor *x, struct ggml_tensor *weight, struct ggml_tensor *bias) {
    return weight ? graph_norm(b->ctx, b->h, x, weight, bias) : x;
}

/* weight [in, out] . x [in, T] + bias [out] */
static struct ggml_tensor *linear(struct builder *b, struct ggml_tensor *weight, struct ggml_tensor *bias, struct ggml_tensor *x) {
    struct ggml_tensor *y;
    if (product_takes(weight)) {
        if (b->x != x) b->rows = product_rows(b->ctx, x);
        b->x = x;
        y = product(b->ctx, weight, b->rows);
    } else {
        y = ggml_mul_mat(b->ctx, weight, x);
    }
    return bias ? ggml_add(b->ctx, y, bias) : y;
}

static uint32_t block_window(const struct builder *b, uint32_t block) { return hparams_window(b->h, b->c->first + block); }

/* x [D, heads, T] turned by position. Blocks with a window may have angles of their own. */
static struct ggml_tensor *rope(struct builder *b, uint32_t block, struct ggml_tensor *x) {
    const struct hparams *h = b->h;
    if (h->arch->rope == ROPE_NONE) return x;
    int mode = h->arch->rope == ROPE_NEOX ? GGML_ROPE_TYPE_NEOX : GGML_ROPE_TYPE_NORMAL;
    if (h->window_rope_base > 0.0f && block_window(b, block) > 0)
        return ggml_rope_ext(b->ctx, x, b->g->position, NULL, (int)h->n_rot, mode, (int)h->n_ctx_orig, h->window_rope_base, 1.0f, 0.0f,
                             1.0f, h->yarn_beta_fast, h->yarn_beta_slow);
    return ggml_rope_ext(b->ctx, x, b->g->position, b->c->rope_freqs, (int)h->n_rot, mode, (int)h->n_ctx_orig, h->rope_base, h->rope_scale,
                         h->yarn_ext_factor, h->yarn_attn_factor, h->yarn_beta_fast, h->yarn_beta_slow);
}

static struct ggml_tensor *clamp(struct builder *b, struct ggml_tensor *x) {
    float most = b->h->clamp_qkv;
    return most > 0.0f ? ggml_clamp(b->ctx, x, -most, most) : x;
}

/* Q or K: [D * heads, T] -> [D, heads, T], normed where the family does that, and turned. */
static struct ggml_tensor *heads(struct builder *b, const struct block_weights *w, uint32_t block, struct ggml_tensor *x, bool is_q) {
    struct ggml_tensor *all = w->t[is_q ? BLOCK_ATTN_Q_NORM_ALL : BLOCK_ATTN_K_NORM_ALL];
    struct ggml_tensor *each = w->t[is_q ? BLOCK_ATTN_Q_NORM : BLOCK_ATTN_K_NORM];
    if (!each) each = w->t[is_q ? BLOCK_ATTN_Q_NORM_HEADS : BLOCK_ATTN_K_NORM_HEADS];
    x = norm(b, x, all, NULL);
    x = ggml_reshape_3d(b->ctx, x, b->h->head_dim, is_q ? b->h->n_head : b->h->n_head_kv, b->g->n_rows);
    return rope(b, block, norm(b, x, each, NULL));
}

/* K or V of a block in an item's cache. */
static struct ggml_tensor *matrix(struct builder *b, struct ggml_tensor *of_all, uint32_t block) {
    size_t at = block * of_all->nb[2];
    return ggml_view_2d(b->ctx, of_all, of_all->ne[0], of_all->ne[1], of_all->nb[1], at);
}

/* Rows [first, first + n) of k [D, G, T] and v [D * G, T] go to their places in the cache. */
static void store(struct builder *b, const struct graph_item *item, uint32_t block, uint32_t first, struct ggml_tensor *k,
                  struct ggml_tensor *v) {
    int64_t kv_dim = (int64_t)b->h->n_head_kv * b->h->head_dim;
    size_t row = (size_t)kv_dim * sizeof(float);
    const struct kv_piece *piece = kv_piece_on(item->kv, b->c->part);
    struct ggml_tensor *cache_v = matrix(b, piece->v, block), *index_v = item->k_index, *rows_v;
    struct ggml_tensor *rows_k = ggml_view_2d(b->ctx, k, kv_dim, item->n, row, first * row);
    ggml_build_forward_expand(b->g->cgraph, ggml_set_rows(b->ctx, matrix(b, piece->k, block), rows_k, item->k_index));
    if (b->c->attending == ATTENDING_FUSED) {
        rows_v = ggml_view_2d(b->ctx, v, kv_dim, item->n, row, first * row);
    } else {
        rows_v = ggml_view_2d(b->ctx, v, 1, kv_dim * item->n, sizeof(float), first * row);
        cache_v = ggml_reshape_2d(b->ctx, cache_v, 1, ggml_nelements(cache_v));
        index_v = item->v_index;
    }
    ggml_build_forward_expand(b->g->cgraph, ggml_set_rows(b->ctx, cache_v, rows_v, index_v));
}

static struct ggml_tensor *attend_fused(struct builder *b, const struct graph_item *item, struct ggml_tensor *q, struct ggml_tensor *k,
                                        struct ggml_tensor *v, struct ggml_tensor *mask) {
    const struct hparams *h = b->h;
    v = ggml_view_3d(b->ctx, v, h->head_dim, item->window, h->n_head_kv, v->nb[1], ggml_row_size(v->type, h->head_dim), 0);
    struct ggml_tensor *y = ggml_flash_attn_ext(b->ctx, q, k, v, mask, h->attn_scale, h->alibi, h->attn_softcap);
    ggml_prec_set_acc(y, GGML_PREC_F32);
    return y;
}

/* Rows [first, first + n) of the batch, which are rows [at, at + n) of the item: -> [D, H, n] */
static struct ggml_tensor *attend_piece(struct builder *b, const struct graph_item *item, uint32_t block, struct ggml_tensor *q,
                                        uint32_t first, uint32_t at, uint32_t n) {
    const struct hparams *h = b->h;
    const struct kv_piece *piece = kv_piece_on(item->kv, b->c->part);
    struct ggml_tensor *k = matrix(b, piece->k, block), *v = matrix(b, piece->v, block);
    k = ggml_view_3d(b->ctx, k, h->head_dim, item->window, h->n_head_kv, k->nb[1], ggml_row_size(k->type, h->head_dim), 0);
    q = ggml_view_3d(b->ctx, q, h->head_dim, h->n_head, n, q->nb[1], q->nb[2], first * q->nb[2]);
    q = ggml_permute(b->ctx, q, 0, 2, 1, 3);
    struct ggml_tensor *mask = block_window(b, block) ? item->window_mask : item->mask;
    mask = ggml_view_2d(b->ctx, mask, item->window, n, mask->nb[1], at * mask->nb[1]);
    if (b->c->attending == ATTENDING_FUSED) return attend_fused(b, item, q, k, v, mask);
    v = ggml_view_3d(b->ctx, v, item->window, h->head_dim, h->n_head_kv, v->nb[1], v->nb[1] * h->head_dim, 0);
    struct ggml_tensor *scores = ggml_mul_mat(b->ctx, k, q);
    if (h->attn_softcap > 0.0f) scores = graph_softcap(b->ctx, scores, h->attn_scale, h->attn_softcap);
    scores = ggml_soft_max_ext(b->ctx, scores, mask, h->attn_softcap > 0.0f ? 1.0f : h->attn_scale, h->alibi);
    return ggml_permute(b->ctx, ggml_mul_mat(b->ctx, v, scores), 0, 2, 1, 3);
}

static uint32_t piece_rows(const struct graph_config *c, const struct graph_item *item) {
    const struct hparams *h = c->hparams;
    if (c->attending == ATTENDING_FUSED) return item->n;
    size_t row = (size_t)item->window * h->n_head * sizeof(float);
    uint32_t rows = (uint32_t)(ATTENTION_SCRATCH_MAX / row), least = (item->n + PIECES_MAX - 1) / PIECES_MAX;
    return rows > least ? rows : least;
}

/* All items: -> [D * H, T] */
static struct ggml_tensor *attend(struct builder *b, uint32_t block, struct ggml_tensor *q, struct ggml_tensor *k, struct ggml_tensor *v) {
    int64_t dim = (int64_t)b->h->head_dim * b->h->n_head;
    struct ggml_tensor *all = b->g->attended;
    uint32_t first = 0;
    for (uint32_t i = 0; i < b->g->n_items; i++) {
        const struct graph_item *item = &b->g->items[i];
        store(b, item, block, first, k, v);
        uint32_t rows = piece_rows(b->c, item);
        if (b->g->n_items == 1 && rows >= item->n) {
            struct ggml_tensor *y = attend_piece(b, item, block, q, 0, 0, item->n);
            return item->n == 1 ? ggml_reshape_2d(b->ctx, y, dim, 1) : ggml_cont_2d(b->ctx, y, dim, item->n); /* one row lies as it shall */
        }
        for (uint32_t at = 0; at < item->n; at += rows) {
            uint32_t n = item->n - at < rows ? item->n - at : rows;
            struct ggml_tensor *piece = attend_piece(b, item, block, q, first + at, at, n);
            struct ggml_tensor *place = ggml_view_3d(b->ctx, all, b->h->head_dim, b->h->n_head, n, b->h->head_dim * sizeof(float),
                                                     all->nb[1], (first + at) * all->nb[1]);
            ggml_build_forward_expand(b->g->cgraph, ggml_cpy(b->ctx, piece, place));
        }
        first += item->n;
    }
    return all;
}

/* The same by one operation. */
static struct ggml_tensor *attend_own(struct builder *b, uint32_t block, struct ggml_tensor *q, struct ggml_tensor *k,
                                      struct ggml_tensor *v) {
    struct attention_block *use = &b->g->attention_blocks[block];
    *use = (struct attention_block){&b->g->attention, block, block_window(b, block)};
    return attention(b->ctx, q, k, v, use);
}

/* Rows [first, first + n) of all columns, by themselves. */
static struct ggml_tensor *rows_of(struct builder *b, struct ggml_tensor *x, uint32_t first, uint32_t n) {
    return ggml_cont(b->ctx, ggml_view_2d(b->ctx, x, n, x->ne[1], x->nb[1], first * sizeof(float)));
}

static struct ggml_tensor *self_attention(struct builder *b, const struct block_weights *w, uint32_t block, struct ggml_tensor *x) {
    const struct hparams *h = b->h;
    uint32_t n_q = h->head_dim * h->n_head, n_kv = h->head_dim * h->n_head_kv;
    struct ggml_tensor *qkv[3];
    if (w->t[BLOCK_ATTN_QKV]) {
        struct ggml_tensor *all = clamp(b, linear(b, w->t[BLOCK_ATTN_QKV], w->t[BLOCK_ATTN_QKV_BIAS], x));
        qkv[0] = rows_of(b, all, 0, n_q);
        qkv[1] = rows_of(b, all, n_q, n_kv);
        qkv[2] = rows_of(b, all, n_q + n_kv, n_kv);
    } else {
        qkv[0] = clamp(b, linear(b, w->t[BLOCK_ATTN_Q], w->t[BLOCK_ATTN_Q_BIAS], x));
        qkv[1] = clamp(b, linear(b, w->t[BLOCK_ATTN_K], w->t[BLOCK_ATTN_K_BIAS], x));
        qkv[2] = clamp(b, linear(b, w->t[BLOCK_ATTN_V], w->t[BLOCK_ATTN_V_BIAS], x));
    }
    struct ggml_tensor *q = heads(b, w, block, qkv[0], true), *k = heads(b, w, block, qkv[1], false);
    ggml_build_forward_expand(b->g->cgraph, q);
    bool own = b->c->attending == ATTENDING_OWN;
    struct ggml_tensor *y = own ? attend_own(b, block, q, k, qkv[2]) : attend(b, block, q, k, qkv[2]);
    return linear(b, w->t[BLOCK_ATTN_OUT], w->t[BLOCK_ATTN_OUT_BIAS], y);
}

/* One of act(up(x)), act(gate(x)) * up(x), and the same with both in one matrix. */
static struct ggml_tensor *activation(struct builder *b, const struct block_weights *w, struct ggml_tensor *x) {
    bool gelu = b->h->arch->act == ACT_GELU;
    if (w->t[BLOCK_FFN_GATE_UP]) {
        struct ggml_tensor *both = linear(b, w->t[BLOCK_FFN_GATE_UP], NULL, x);
        return gelu ? ggml_geglu(b->ctx, both) : ggml_swiglu(b->ctx, both);
    }
    struct ggml_tensor *gate = w->t[BLOCK_FFN_GATE] ? linear(b, w->t[BLOCK_FFN_GATE], w->t[BLOCK_FFN_GATE_BIAS], x) : NULL;
    struct ggml_tensor *up = linear(b, w->t[BLOCK_FFN_UP], w->t[BLOCK_FFN_UP_BIAS], x);
    if (!gate) return gelu ? ggml_gelu(b->ctx, up) : ggml_silu(b->ctx, up);
    return gelu ? ggml_geglu_split(b->ctx, gate, up) : ggml_swiglu_split(b->ctx, gate, up);
}

/* Who is chosen by each row, [used, T], and in *out_weights how much each counts, [1, used, T] (Shazeer et al. 2017, arXiv 1701.06538). */
static struct ggml_tensor *choose_experts(struct builder *b, const struct block_weights *w, struct ggml_tensor *x,
                                          struct ggml_tensor **out_weights) {
    const struct hparams *h = b->h;
    struct ggml_tensor *shares = ggml_soft_max(b->ctx, linear(b, w->t[BLOCK_FFN_GATE_INP], NULL, x)); /* [experts, T] */
    struct ggml_tensor *chosen = ggml_argsort_top_k(b->ctx, shares, (int)h->n_expert_used);
    struct ggml_tensor *weights = ggml_get_rows(b->ctx, ggml_reshape_3d(b->ctx, shares, 1, h->n_expert, b->g->n_rows), chosen);
    if (h->arch->normed_experts) {
        weights = ggml_reshape_2d(b->ctx, weights, h->n_expert_used, b->g->n_rows);
        weights = ggml_div(b->ctx, weights, ggml_clamp(b->ctx, ggml_sum_rows(b->ctx, weights), LEAST_SHARE, INFINITY));
        weights = ggml_reshape_3d(b->ctx, weights, 1, h->n_expert_used, b->g->n_rows);
    }
    *out_weights = h->expert_scale != 1.0f ? ggml_scale(b->ctx, weights, h->expert_scale) : weights;
    return chosen;
}

/* The weighted sum of the chosen experts, in their order. */
static struct ggml_tensor *experts(struct builder *b, const struct block_weights *w, struct ggml_tensor *x) {
    const struct hparams *h = b->h;
    struct ggml_tensor *weights, *chosen = choose_experts(b, w, x, &weights), *sum = NULL;
    ggml_build_forward_expand(b->g->cgraph, weights);
    x = ggml_reshape_3d(b->ctx, x, h->n_embd, 1, b->g->n_rows);
    struct ggml_tensor *up = ggml_mul_mat_id(b->ctx, w->t[BLOCK_FFN_UP_EXPS], x, chosen);
    struct ggml_tensor *gate = ggml_mul_mat_id(b->ctx, w->t[BLOCK_FFN_GATE_EXPS], x, chosen);
    struct ggml_tensor *y = ggml_mul_mat_id(b->ctx, w->t[BLOCK_FFN_DOWN_EXPS], ggml_swiglu_split(b->ctx, gate, up), chosen);
    y = ggml_mul(b->ctx, y, weights); /* [n_embd, used, T] */
    for (uint32_t i = 0; i < h->n_expert_used; i++) {
        struct ggml_tensor *one = ggml_view_2d(b->ctx, y, h->n_embd, b->g->n_rows, y->nb[2], i * y->nb[1]);
        sum = sum ? ggml_add(b->ctx, sum, one) : one;
    }
    return h->n_expert_used == 1 ? ggml_cont(b->ctx, sum) : sum;
}

/* What all rows have beside their experts, as far as its gate lets it through. */
static struct ggml_tensor *shared_expert(struct builder *b, const struct block_weights *w, struct ggml_tensor *x) {
    struct ggml_tensor *gate = linear(b, w->t[BLOCK_FFN_GATE_SHARED], NULL, x), *up = linear(b, w->t[BLOCK_FFN_UP_SHARED], NULL, x);
    struct ggml_tensor *y = linear(b, w->t[BLOCK_FFN_DOWN_SHARED], NULL, ggml_swiglu_split(b->ctx, gate, up));
    struct ggml_tensor *through = ggml_sigmoid(b->ctx, linear(b, w->t[BLOCK_FFN_GATE_INP_SHARED], NULL, x)); /* [1, T] */
    return ggml_mul(b->ctx, y, through);
}

static struct ggml_tensor *feed_forward(struct builder *b, const struct block_weights *w, struct ggml_tensor *x) {
    if (w->t[BLOCK_FFN_GATE_INP]) {
        struct ggml_tensor *y = experts(b, w, x);
        return w->t[BLOCK_FFN_UP_SHARED] ? ggml_add(b->ctx, y, shared_expert(b, w, x)) : y;
    }
    return linear(b, w->t[BLOCK_FFN_DOWN], w->t[BLOCK_FFN_DOWN_BIAS], activation(b, w, x));
}

static struct ggml_tensor *build_block(struct builder *b, uint32_t block, struct ggml_tensor *x) {
    const struct block_weights *w = &b->c->blocks[block];
    struct ggml_tensor *const *t = w->t;
    bool parallel = b->h->parallel || (b->h->arch->parallel_without_norm && !t[BLOCK_FFN_NORM]);
    struct ggml_tensor *normed = norm(b, x, t[BLOCK_ATTN_NORM], t[BLOCK_ATTN_NORM_BIAS]);
    struct ggml_tensor *attended = t[BLOCK_ATTN_NORM_2] ? norm(b, x, t[BLOCK_ATTN_NORM_2], t[BLOCK_ATTN_NORM_2_BIAS]) : normed;
    attended = norm(b, self_attention(b, w, block, attended), t[BLOCK_ATTN_POST_NORM], NULL);
    struct ggml_tensor *sum = ggml_add(b->ctx, x, attended);
    if (!parallel) normed = sum;
    if (parallel && t[BLOCK_FFN_NORM]) normed = x;
    normed = norm(b, normed, t[BLOCK_FFN_NORM], t[BLOCK_FFN_NORM_BIAS]);
    return ggml_add(b->ctx, sum, norm(b, feed_forward(b, w, normed), t[BLOCK_FFN_POST_NORM], NULL));
}

static struct ggml_tensor *input(struct builder *b, enum ggml_type type, int64_t ne0, int64_t ne1) {
    struct ggml_tensor *t = ggml_new_tensor_2d(b->ctx, type, ne0, ne1);
    ggml_set_input(t);
    return t;
}

/* Distances are whole numbers, which F16 has up to 2,048 only. */
static enum ggml_type mask_type(const struct graph_config *c) {
    return c->hparams->alibi > 0.0f && c->attending == ATTENDING_PLAIN ? GGML_TYPE_F32 : GGML_TYPE_F16;
}

static void declare_inputs(struct builder *b) {
    const struct hparams *h = b->h;
    struct graph *g = b->g;
    g->in = input(b, GGML_TYPE_F32, h->n_embd, g->n_rows);
    g->position = h->arch->rope == ROPE_NONE ? NULL : input(b, GGML_TYPE_I32, g->n_rows, 1);
    if (b->c->attending == ATTENDING_OWN) return;
    bool used[2] = {false, false};
    for (uint32_t i = 0; i < b->c->n_blocks; i++) used[block_window(b, i) > 0] = true;
    g->attended = input(b, GGML_TYPE_F32, (int64_t)h->head_dim * h->n_head, g->n_rows);
    for (uint32_t i = 0; i < g->n_items; i++) {
        struct graph_item *item = &g->items[i];
        item->k_index = input(b, GGML_TYPE_I64, item->n, 1);
        item->v_index =
            b->c->attending == ATTENDING_FUSED ? NULL : input(b, GGML_TYPE_I64, (int64_t)item->n * h->n_head_kv * h->head_dim, 1);
        item->mask = used[0] ? input(b, mask_type(b->c), item->window, item->n) : NULL;
        item->window_mask = used[1] ? input(b, mask_type(b->c), item->window, item->n) : NULL;
    }
}

uint32_t graph_rows(const struct graph_item *items, uint32_t n_items) {
    uint32_t rows = 0;
    for (uint32_t i = 0; i < n_items; i++) rows += items[i].n;
    return rows;
}

enum corolla_status graph_build(struct graph *g, const struct graph_config *config, struct corolla_error *err) {
    size_t pieces = 0;
    g->n_rows = graph_rows(g->items, g->n_items);
    for (uint32_t i = 0; config->attending != ATTENDING_OWN && i < g->n_items; i++) {
        uint32_t rows = piece_rows(config, &g->items[i]);
        pieces += (g->items[i].n + rows - 1) / rows;
    }
    size_t nodes = config->n_blocks * (NODES_PER_BLOCK + NODES_PER_PIECE * pieces + 2 * (size_t)config->hparams->n_expert_used) +
                   5 * (size_t)g->n_items + 16;
    g->ctx = ggml_init(
        (struct ggml_init_params){.mem_size = nodes * ggml_tensor_overhead() + ggml_graph_overhead_custom(nodes, false), .no_alloc = true});
    g->attention_blocks = calloc(config->n_blocks, sizeof *g->attention_blocks);
    if (!g->ctx || !g->attention_blocks) {
        graph_clear(g);
        return err_set(err, COROLLA_NOMEM, "out of memory for a graph of %zu nodes", nodes);
    }
    const struct hparams *h = config->hparams;
    g->attention = (struct attention){
        .head_dim = h->head_dim, .n_head = h->n_head, .n_head_kv = h->n_head_kv, .scale = h->attn_scale, .items = g->attention_items};
    g->cgraph = ggml_new_graph_custom(g->ctx, nodes, false);
    struct builder b = {.g = g, .c = config, .h = h, .ctx = g->ctx};
    declare_inputs(&b);
    struct ggml_tensor *x = g->in;
    for (uint32_t i = 0; i < config->n_blocks; i++) x = build_block(&b, i, x);
    ggml_set_output(x);
    g->out = x;
    ggml_build_forward_expand(g->cgraph, x);
    return COROLLA_OK;
}

void graph_clear(struct graph *g) {
    ggml_free(g->ctx);
    free(g->attention_blocks);
    g->ctx = NULL;
    g->attention_blocks = NULL;
}
