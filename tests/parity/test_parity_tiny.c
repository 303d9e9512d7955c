/* test_parity_tiny.c - corolla's logits against libllama's own decoding of the same tiny random file, for every architecture row,
 * weight type and trait.
 *
 * Teacher-forced over random tokens. corolla runs in chunks of 16 through two spans, libllama all at once. Tolerances are
 * relative to the spread of the logits (standard deviation 4): they allow another order of sums, far below what a wrong scale, position
 * or bias does. With quantised weights both round activations, each in its way: corolla must be as near as libllama is to libllama's
 * logits of the same weights in F32.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "parity/oracle.h"
#include "support/chain.h"
#include "support/dequantise.h"
#include "support/sanitized.h"
#include "support/scratch.h"
#include "support/tiny.h"

#define POSITIONS 100
#define BIT(role) (UINT64_C(1) << BLOCK_##role)

struct tolerance {
    double max_abs, nmse;
};
static const struct tolerance f32_tolerance = {2e-4, 1e-10}, short_kv_tolerance = {2e-2, 1e-6};
/* Parallel blocks are added up in another order than libllama's, and for Gemma it scales Q before attention; ggml rounds what GELU is of to
 * half floats, where a difference in the last bit may become one of 2^-11. */
static const struct tolerance order_tolerance = {5e-3, 2e-9};
#define AS_NEAR 1.3         /* times libllama's distance: noise of two samples */
#define AS_NEAR_EXPERTS 4.0 /* the same where rounding chooses the experts of some rows, which others see in the cache */

static void compare(const char *title, const float *ours, const float *theirs, size_t n, struct tolerance allowed) {
    double worst = 0, error = nmse(ours, theirs, n);
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)ours[i] - (double)theirs[i]);
        if (!isfinite(ours[i])) fail_msg("%s: logit %zu is not finite", title, i);
        if (d > worst) worst = d;
    }
    print_message("%-40s max abs %.2e  nmse %.2e\n", title, worst, error);
    if (worst > allowed.max_abs || error > allowed.nmse)
        fail_msg("%s: logits differ from libllama's: max abs %g (allowed %g), nmse %g (allowed %g)", title, worst, allowed.max_abs, error,
                 allowed.nmse);
}

static uint32_t argmax(const float *logits, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

/* libllama's logits of a file, [POSITIONS, n_vocab]; the caller frees them. */
static float *logits_of_libllama(const char *path, const struct tiny_config *model, enum corolla_kv kv, const int32_t *tokens) {
    struct oracle *oracle = oracle_open(path, 256, (enum oracle_kv)kv);
    assert_non_null(oracle);
    float *logits = malloc((size_t)POSITIONS * oracle_n_vocab(oracle) * sizeof *logits);
    assert_non_null(logits);
    uint32_t forget = strcmp(model->arch, "llama") == 0 ? model->window : 0; /* libllama has no windows for this family */
    assert_true(oracle_logits(oracle, tokens, POSITIONS, forget ? 1 : POSITIONS, forget, logits));
    oracle_close(oracle);
    return logits;
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The distance of all logits; with experts that of the row in the middle: where two experts are about equal, rounding decides which one a
 * row has, and few such rows make up most of the sum. */
static double distance(const struct tiny_config *model, const float *logits, const float *plain, size_t n) {
    double rows[POSITIONS];
    if (!model->n_expert) return nmse(logits, plain, n);
    for (size_t i = 0; i < POSITIONS; i++) rows[i] = nmse(logits + i * n / POSITIONS, plain + i * n / POSITIONS, n / POSITIONS);
    qsort(rows, POSITIONS, sizeof *rows, compare_doubles);
    return rows[POSITIONS / 2];
}

/* allowed: NULL for quantised weights. */
static void check_model(const char *title, const struct tiny_config *model, enum corolla_kv kv, const struct tolerance *allowed) {
    const char *path = scratch_file("parity.gguf"), *plain_path = scratch_file("plain.gguf");
    const uint32_t cuts[] = {1, model->n_blocks};
    int32_t tokens[POSITIONS];
    struct chain chain;
    struct lane lane;
    assert_true(tiny_write(model, path));
    chain_open(&chain, &(struct chain_config){.path = path, .cuts = cuts, .n_cuts = 2, .threads = 1, .kv = kv});
    assert_int_equal(chain_exact(&chain), kv != COROLLA_KV_Q8_0);
    random_tokens(model->seed, chain.n_vocab, tokens, POSITIONS);
    float *hidden = malloc((size_t)POSITIONS * chain.n_embd * sizeof *hidden);
    float *ours = malloc((size_t)POSITIONS * chain.n_vocab * sizeof *ours);
    assert_true(hidden && ours);
    size_t n = (size_t)POSITIONS * chain.n_vocab;

    lane_open(&lane, &chain, POSITIONS);
    lane_run(&lane, 0, tokens, POSITIONS, 16, hidden);
    chain_logits(&chain, hidden, POSITIONS, ours);
    float *theirs = logits_of_libllama(path, model, kv, tokens);
    if (allowed) {
        compare(title, ours, theirs, n, *allowed);
    } else {
        dequantise(path, plain_path);
        float *plain = logits_of_libllama(plain_path, model, kv, tokens);
        double our_error = distance(model, ours, plain, n), their_error = distance(model, theirs, plain, n);
        print_message("%-40s nmse to F32 weights %.2e, libllama's %.2e\n", title, our_error, their_error);
        double as_near = model->n_expert ? AS_NEAR_EXPERTS : AS_NEAR;
        if (!(our_error <= as_near * their_error + f32_tolerance.nmse))
            fail_msg("%s: logits are further from those of F32 weights (nmse %g) than libllama's (%g)", title, our_error, their_error);
        free(plain);
    }

    lane_close(&lane);
    chain_close(&chain);
    free(hidden);
    free(ours);
    free(theirs);
}

static const char *const archs[] = {"llama", "qwen2", "qwen3"}; /* that are tested with everything */
static const char *const types[] = {"f32", "q4_1", "f16", "bf16", "q8_0", "q4_0", "q5_0", "q5_1", "q4_K", "q5_K", "q6_K"};
#define TYPES (sizeof types / sizeof types[0])

static void every_row_and_weight_type_agrees_with_libllama(void **state) {
    (void)state;
    for (size_t a = 0; a < 3; a++)
        for (size_t t = 0; t < (SANITIZED ? 2 : TYPES); t++) {
            struct tiny_config c;
            char title[64];
            bool f32 = strcmp(types[t], "f32") == 0;
            tiny_config_default(&c, archs[a]);
            c.type = types[t];
            c.n_blocks = 3;
            c.seed = 10 * a + t;
            snprintf(title, sizeof title, "%s %s", archs[a], types[t]);
            check_model(title, &c, COROLLA_KV_F32, f32 ? &f32_tolerance : NULL);
            if (f32) check_model("  with an F16 cache", &c, COROLLA_KV_F16, &short_kv_tolerance);
            if (f32) check_model("  with a Q8_0 cache", &c, COROLLA_KV_Q8_0, &short_kv_tolerance);
        }
}

/* Plain and quantised weights. */
static void check_form(const char *title, struct tiny_config *c) {
    char text[64];
    if (c->n_blocks == 5) c->n_blocks = 3;
    const struct arch *arch = arch_find(c->arch, strlen(c->arch));
    bool reordered = arch->parallel || arch->parallel_without_norm || c->parallel || arch->scaled_embedding;
    check_model(title, c, COROLLA_KV_F32, reordered ? &order_tolerance : &f32_tolerance);
    for (size_t t = 0; t < 2 && !SANITIZED; t++) {
        c->type = t ? "q4_K" : "q8_0";
        snprintf(text, sizeof text, "  %s", c->type);
        check_model(text, c, COROLLA_KV_F32, NULL);
    }
    c->type = "f32";
}

static void every_family_agrees_with_libllama(void **state) {
    size_t n;
    const struct arch *rows = arch_rows(&n);
    (void)state;
    for (size_t i = 0; i < n; i++) {
        struct tiny_config c;
        tiny_config_default(&c, rows[i].name);
        if (rows[i].window_period > 2) c.n_blocks = 7; /* one that sees all */
        check_form(rows[i].name, &c);
    }
}

/* The same with what models of the family have now and then. */
static void every_form_agrees_with_libllama(void **state) {
    struct tiny_config c;
    (void)state;
    tiny_config_default(&c, "llama");
    c.n_expert = 8;
    check_form("llama with experts (Mixtral)", &c);
    tiny_config_default(&c, "falcon");
    c.n_head_kv = 2;
    c.optional |= BIT(ATTN_NORM_2) | BIT(ATTN_NORM_2_BIAS);
    check_form("falcon, new decoder", &c);
    tiny_config_default(&c, "gptneox");
    c.parallel = false;
    check_form("gptneox, one after the other", &c);
    tiny_config_default(&c, "mpt");
    c.alibi = c.clamp = 0;
    c.optional |=
        BIT(ATTN_NORM_BIAS) | BIT(FFN_NORM_BIAS) | BIT(ATTN_QKV_BIAS) | BIT(ATTN_OUT_BIAS) | BIT(FFN_UP_BIAS) | BIT(FFN_DOWN_BIAS);
    c.edges = 1u << GLOBAL_POSITION_EMBD | 1u << GLOBAL_OUTPUT_NORM_BIAS;
    check_form("mpt, learned positions and biases", &c);
    tiny_config_default(&c, "stablelm");
    c.optional = BIT(ATTN_Q) | BIT(ATTN_K) | BIT(ATTN_V) | BIT(ATTN_Q_NORM_HEADS) | BIT(ATTN_K_NORM_HEADS);
    check_form("stablelm, 12B", &c);
    tiny_config_default(&c, "gemma3");
    c.window = 0;
    check_form("gemma3, no windows", &c);
    tiny_config_default(&c, "olmo2");
    c.window = 24;
    c.n_blocks = 6;
    c.rope = TINY_ROPE_YARN;
    check_form("olmo2 with windows (OLMo 3)", &c);
    tiny_config_default(&c, "phi3");
    c.optional = BIT(ATTN_Q) | BIT(ATTN_K) | BIT(ATTN_V);
    check_form("phi3, split", &c);
    c.edges = 1u << GLOBAL_ROPE_SHORT | 1u << GLOBAL_ROPE_LONG;
    c.rope = TINY_ROPE_LONG;
    check_form("phi3, factors", &c);
}

static void rope_scalings_agree_with_libllama(void **state) {
    static const char *const names[] = {"plain", "linear", "llama3", "yarn"};
    (void)state;
    for (size_t a = 0; a < 3; a++)
        for (int rope = TINY_ROPE_LINEAR; rope <= TINY_ROPE_YARN; rope++) {
            struct tiny_config c;
            char title[64];
            if (rope == TINY_ROPE_LLAMA3 && a != 0) continue; /* libllama reads rope_freqs for Llama only */
            tiny_config_default(&c, archs[a]);
            c.rope = (enum tiny_rope)rope;
            c.n_blocks = 3;
            snprintf(title, sizeof title, "%s rope %s", archs[a], names[rope]);
            check_model(title, &c, COROLLA_KV_F32, &f32_tolerance);
        }
}

static void tied_heads_and_head_sharing_agree_with_libllama(void **state) {
    (void)state;
    for (size_t a = 0; a < 3; a++)
        for (uint32_t n_head_kv = 1; n_head_kv <= 4; n_head_kv *= 2) {
            struct tiny_config c;
            char title[64];
            tiny_config_default(&c, archs[a]);
            c.n_blocks = 3;
            c.tied = n_head_kv != 2;
            c.n_head_kv = n_head_kv;
            snprintf(title, sizeof title, "%s %s, 4 heads on %u", archs[a], c.tied ? "tied" : "untied", n_head_kv);
            check_model(title, &c, COROLLA_KV_F32, &f32_tolerance);
        }
}

static void a_sliding_window_agrees_with_libllama_whose_cache_forgets(void **state) {
    (void)state;
    for (uint32_t window = 1; window <= 64; window *= 8) {
        struct tiny_config c;
        char title[64];
        tiny_config_default(&c, "llama");
        c.n_blocks = 3;
        c.window = window;
        snprintf(title, sizeof title, "llama window %u", window);
        check_model(title, &c, COROLLA_KV_F32, &f32_tolerance);
    }
}

/* By induction over positions: each token that corolla chose is libllama's choice behind the same tokens. */
static void check_greedy(struct chain *chain, struct oracle *oracle, uint32_t prompt) {
    enum { PROMPT = 6, NEW = 64 };
    int32_t tokens[PROMPT + NEW];
    struct lane lane;
    float *hidden = malloc((size_t)PROMPT * chain->n_embd * sizeof *hidden);
    float *ours = malloc((size_t)chain->n_vocab * sizeof *ours), *theirs = malloc((size_t)(PROMPT + NEW) * chain->n_vocab * sizeof *theirs);
    assert_true(hidden && ours && theirs);
    random_tokens(prompt, chain->n_vocab, tokens, PROMPT);
    lane_open(&lane, chain, PROMPT + NEW);
    lane_run(&lane, 0, tokens, PROMPT, PROMPT, hidden);
    memmove(hidden, hidden + (size_t)(PROMPT - 1) * chain->n_embd, chain->n_embd * sizeof *hidden);
    for (uint32_t i = PROMPT; i < PROMPT + NEW; i++) {
        chain_logits(chain, hidden, 1, ours);
        tokens[i] = (int32_t)argmax(ours, chain->n_vocab);
        lane_run(&lane, i, &tokens[i], 1, 1, hidden);
    }
    assert_true(oracle_logits(oracle, tokens, PROMPT + NEW, 512, 0, theirs));
    for (uint32_t i = PROMPT; i < PROMPT + NEW; i++)
        if (argmax(theirs + (size_t)(i - 1) * chain->n_vocab, chain->n_vocab) != (uint32_t)tokens[i])
            fail_msg("prompt %u: greedy token %u differs from libllama's", prompt, i - PROMPT);
    lane_close(&lane);
    free(hidden);
    free(ours);
    free(theirs);
}

static void greedy_tokens_of_f32_weights_equal_libllamas(void **state) {
    (void)state;
    for (size_t a = 0; a < 3; a++) {
        struct tiny_config c;
        struct chain chain;
        const char *path = scratch_file("greedy.gguf");
        tiny_config_default(&c, archs[a]);
        assert_true(tiny_write(&c, path));
        struct oracle *oracle = oracle_open(path, 256, ORACLE_KV_F32);
        assert_non_null(oracle);
        chain_open(&chain,
                   &(struct chain_config){.path = path, .cuts = (uint32_t[]){1, 3, 5}, .n_cuts = 3, .threads = 1, .kv = COROLLA_KV_F32});
        for (uint32_t prompt = 0; prompt < (SANITIZED ? 2 : 20); prompt++) check_greedy(&chain, oracle, prompt);
        chain_close(&chain);
        oracle_close(oracle);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_family_agrees_with_libllama),
        cmocka_unit_test(every_form_agrees_with_libllama),
        cmocka_unit_test(every_row_and_weight_type_agrees_with_libllama),
        cmocka_unit_test(greedy_tokens_of_f32_weights_equal_libllamas),
        cmocka_unit_test(rope_scalings_agree_with_libllama),
        cmocka_unit_test(tied_heads_and_head_sharing_agree_with_libllama),
        cmocka_unit_test(a_sliding_window_agrees_with_libllama_whose_cache_forgets),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_remove();
    return failed;
}
