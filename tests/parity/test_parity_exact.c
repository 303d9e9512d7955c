/* test_parity_exact.c - a position's hidden state has the same bits however it was computed (docs/ARCHITECTURE.md, "Exactness").
 *
 * The reference is one position at a time, one thread, one span, alone. Everything else must be equal to it bit for bit: chunks,
 * threads, spans, strangers in the batch, rollbacks, a long context in front. Logits follow from hidden states row by row and are
 * compared as well.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/chain.h"
#include "support/sanitized.h"
#include "support/scratch.h"
#include "support/tiny.h"

#define POSITIONS 200
#define STRANGERS_MAX 17

struct reference {
    struct tiny_config model;
    enum corolla_kv kv;
    char path[256], title[64];
    uint32_t n_embd, n_vocab;
    int32_t tokens[POSITIONS];
    float *hidden, *scratch; /* [POSITIONS, n_embd] */
};

static void expect_same(const struct reference *r, const char *what, const float *hidden, uint32_t first, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        if (memcmp(r->hidden + (size_t)(first + i) * r->n_embd, hidden + (size_t)i * r->n_embd, r->n_embd * sizeof(float)) != 0)
            fail_msg("%s, %s: position %u differs from the one computed alone", r->title, what, first + i);
}

static void open_chain(const struct reference *r, struct chain *chain, const uint32_t *cuts, uint32_t n_cuts, uint32_t threads) {
    chain_open(chain, &(struct chain_config){.path = r->path, .cuts = cuts, .n_cuts = n_cuts, .threads = threads, .kv = r->kv});
    if (!chain_exact(chain)) fail_msg("%s: the self-proof failed, this type must be exact", r->title);
}

static void make_reference(struct reference *r, const char *arch, const char *type, enum corolla_kv kv) {
    struct chain chain;
    struct lane lane;
    *r = (struct reference){.kv = kv};
    tiny_config_default(&r->model, arch);
    r->model.type = type;
    r->model.n_ff = 256;
    snprintf(r->title, sizeof r->title, "%s %s, %s cache", arch, type, kv == COROLLA_KV_F16 ? "f16" : "f32");
    snprintf(r->path, sizeof r->path, "%s", scratch_file("exact.gguf"));
    assert_true(tiny_write(&r->model, r->path));
    open_chain(r, &chain, NULL, 0, 1);
    r->n_embd = chain.n_embd;
    r->n_vocab = chain.n_vocab;
    r->hidden = malloc((size_t)POSITIONS * r->n_embd * sizeof(float));
    r->scratch = malloc((size_t)POSITIONS * r->n_embd * sizeof(float));
    assert_true(r->hidden && r->scratch);
    random_tokens(7, r->n_vocab, r->tokens, POSITIONS);
    lane_open(&lane, &chain, POSITIONS);
    lane_run(&lane, 0, r->tokens, POSITIONS, 1, r->hidden);
    lane_close(&lane);
    chain_close(&chain);
}

static void drop_reference(struct reference *r) {
    free(r->hidden);
    free(r->scratch);
}

/* ---- one way of computing each --------------------------------------------------------------------------------- */

static void check_chunks(const struct reference *r, const uint32_t *cuts, uint32_t n_cuts) {
    static const uint32_t chunks[] = {POSITIONS, 64, 7, 1};
    struct chain chain;
    open_chain(r, &chain, cuts, n_cuts, 1);
    for (size_t i = 0; i < (n_cuts ? 4 : 3); i++) { /* one by one through one span is the reference itself */
        struct lane lane;
        char what[80];
        snprintf(what, sizeof what, "chunks of %u, %u spans", chunks[i], chain.n_spans);
        lane_open(&lane, &chain, POSITIONS);
        lane_run(&lane, 0, r->tokens, POSITIONS, chunks[i], r->scratch);
        expect_same(r, what, r->scratch, 0, POSITIONS);
        lane_close(&lane);
    }
    chain_close(&chain);
}

/* Few graphs: beside other work on the same cores, ggml's barriers make each of them slow. */
static void check_threads(const struct reference *r) {
    static const uint32_t plan[][3] = {{0, 2, 1}, {2, 16, 7}, {16, POSITIONS, 64}}; /* begin, end, chunk */
    struct chain chain;
    struct lane lane;
    open_chain(r, &chain, NULL, 0, 2);
    lane_open(&lane, &chain, POSITIONS);
    for (size_t i = 0; i < 3; i++) {
        uint32_t begin = plan[i][0], n = plan[i][1] - begin;
        lane_run(&lane, begin, r->tokens + begin, n, plan[i][2], r->scratch);
        expect_same(r, "two threads", r->scratch, begin, n);
    }
    lane_close(&lane);
    chain_close(&chain);
}

static void check_parts_of_one_span(const struct reference *r) {
    static const uint32_t cuts[] = {2, 3, 5};
    struct chain chain;
    struct lane lane;
    open_chain(r, &chain, NULL, 0, 1);
    lane_open_cut(&lane, &chain, POSITIONS, cuts, 3);
    lane_run(&lane, 0, r->tokens, POSITIONS, 33, r->scratch);
    expect_same(r, "a session over parts of one span", r->scratch, 0, POSITIONS);
    lane_close(&lane);
    chain_close(&chain);
}

static void check_logits(const struct reference *r) {
    struct chain chain;
    open_chain(r, &chain, NULL, 0, 1);
    size_t row = r->n_vocab;
    float *all = malloc(POSITIONS * row * sizeof *all), *one = malloc(row * sizeof *one);
    assert_true(all && one);
    chain_logits(&chain, r->hidden, POSITIONS, all);
    for (uint32_t i = 0; i < POSITIONS; i++) {
        chain_logits(&chain, r->hidden + (size_t)i * r->n_embd, 1, one);
        if (memcmp(one, all + i * row, row * sizeof *one) != 0) fail_msg("%s: the logits of position %u depend on the batch", r->title, i);
    }
    free(all);
    free(one);
    chain_close(&chain);
}

/* The session takes chunks of n rows beside strangers that each take rows of their own at other positions, come and go. */
static void check_beside_strangers(const struct reference *r, uint32_t n_strangers, uint32_t n) {
    struct chain chain;
    struct lane own, strangers[STRANGERS_MAX];
    struct lane_step steps[1 + STRANGERS_MAX];
    int32_t foreign[STRANGERS_MAX][64];
    char what[80];
    snprintf(what, sizeof what, "chunks of %u beside %u strangers", n, n_strangers);
    open_chain(r, &chain, (uint32_t[]){2, 5}, 2, 1);
    float *rows = malloc((size_t)STRANGERS_MAX * 64 * r->n_embd * sizeof *rows);
    assert_non_null(rows);
    lane_open(&own, &chain, POSITIONS);
    for (uint32_t s = 0; s < n_strangers; s++) {
        lane_open(&strangers[s], &chain, 300);
        random_tokens(100 + s, r->n_vocab, foreign[s], 64);
        if (s > 0) lane_run(&strangers[s], 0, foreign[s], s % 3 ? s : 64, 64, rows);
    }
    for (uint32_t at = 0, turn = 0; at < POSITIONS; at += n, turn++) {
        uint32_t mine = turn % (n_strangers + 1), n_steps = 0; /* another place in the batch each time */
        lane_close(&strangers[turn % n_strangers]);            /* one leaves, and another one comes */
        lane_open(&strangers[turn % n_strangers], &chain, 300);
        for (uint32_t s = 0; s <= n_strangers; s++) {
            uint32_t left = POSITIONS - at;
            if (s == mine)
                steps[n_steps++] = (struct lane_step){&own, at, left < n ? left : n, r->tokens + at, r->scratch + (size_t)at * r->n_embd};
            if (s == n_strangers || (turn + 3 * s) % 4 == 0) continue; /* it thinks */
            uint32_t position = kv_length(strangers[s].kv[0]), count = 1 + (turn + s) % 5;
            if (position + count > 300) position = 0;
            steps[n_steps++] = (struct lane_step){&strangers[s], position, count, foreign[s], rows + (size_t)s * 64 * r->n_embd};
        }
        lanes_step(steps, n_steps);
    }
    expect_same(r, what, r->scratch, 0, POSITIONS);
    for (uint32_t s = 0; s < n_strangers; s++) lane_close(&strangers[s]);
    lane_close(&own);
    chain_close(&chain);
    free(rows);
}

/* A session that went astray at position 60, came back to 40 and went on as the reference did. */
static void check_rollback(const struct reference *r) {
    struct chain chain;
    struct lane lane;
    int32_t astray[90];
    open_chain(r, &chain, (uint32_t[]){2, 5}, 2, 1);
    random_tokens(8, r->n_vocab, astray, 90);
    lane_open(&lane, &chain, POSITIONS);
    lane_run(&lane, 0, r->tokens, 60, 60, r->scratch);
    lane_run(&lane, 60, astray, 90, 13, r->scratch);
    lane_run(&lane, 40, r->tokens + 40, POSITIONS - 40, 19, r->scratch);
    expect_same(r, "after a rollback", r->scratch, 40, POSITIONS - 40);
    lane_run(&lane, 0, r->tokens, POSITIONS, 64, r->scratch);
    expect_same(r, "after a rollback to the start", r->scratch, 0, POSITIONS);
    lane_close(&lane);
    chain_close(&chain);
}

static void check_all(const char *arch, const char *type, enum corolla_kv kv, bool thorough) {
    struct reference r;
    make_reference(&r, arch, type, kv);
    check_chunks(&r, NULL, 0);
    check_chunks(&r, (uint32_t[]){2, 5}, 2);
    check_threads(&r);
    check_beside_strangers(&r, 3, 7);
    if (thorough) {
        check_chunks(&r, (uint32_t[]){1, 2, 3, 4, 5}, 5);
        check_chunks(&r, (uint32_t[]){4, 5}, 2);
        check_parts_of_one_span(&r);
        check_rollback(&r);
        check_beside_strangers(&r, 1, 1);
        check_beside_strangers(&r, STRANGERS_MAX, 1);
        check_beside_strangers(&r, STRANGERS_MAX, 64);
    }
    check_logits(&r);
    drop_reference(&r);
}

/* ---- tests ----------------------------------------------------------------------------------------------------- */

static void every_row_is_exact_with_both_cache_types(void **state) {
    size_t n;
    const struct arch *rows = arch_rows(&n);
    (void)state;
    for (size_t a = 0; a < (SANITIZED ? 1 : n); a++) {
        check_all(rows[a].name, "q4_1", COROLLA_KV_F16, a == 0 || rows[a].window_period);
        check_all(rows[a].name, "f32", COROLLA_KV_F32, false);
    }
}

static void every_weight_type_is_exact(void **state) {
    static const char *const types[] = {"f16", "bf16", "q8_0", "q4_0", "q4_K", "q6_K"};
    (void)state;
    if (SANITIZED) skip(); /* other kernels of the engine, the same code of ours */
    for (size_t t = 0; t < 6; t++) check_all("llama", types[t], COROLLA_KV_F16, false);
    check_all("qwen3", "q4_0", COROLLA_KV_F32, false);
    check_all("qwen2", "q4_K", COROLLA_KV_F32, false);
}

/* 50 positions behind a prefix, computed in one way and in another. */
static void check_long_context(enum corolla_kv kv, const char *type) {
    enum { PREFIX = 3000, TAIL = 50 };
    static const uint32_t chunks[][2] = {{64, 1}, {200, 50}, {256, 7}}; /* of the prefix, of the tail */
    struct tiny_config model;
    struct chain chain;
    tiny_config_default(&model, "llama");
    model.type = type;
    model.n_ctx = 4096;
    model.n_blocks = 2;
    const char *path = scratch_file("long.gguf");
    assert_true(tiny_write(&model, path));
    int32_t *tokens = malloc((PREFIX + TAIL) * sizeof *tokens);
    float *rows[3], *prefix = malloc((size_t)PREFIX * model.n_embd * sizeof *prefix);
    assert_true(tokens && prefix);
    for (size_t i = 0; i < 3; i++) {
        struct lane lane;
        chain_open(&chain,
                   &(struct chain_config){.path = path, .cuts = (uint32_t[]){1, 2}, .n_cuts = i == 1 ? 2 : 0, .threads = 1, .kv = kv});
        random_tokens(9, chain.n_vocab, tokens, PREFIX + TAIL);
        rows[i] = malloc((size_t)TAIL * model.n_embd * sizeof *rows[i]);
        assert_non_null(rows[i]);
        lane_open(&lane, &chain, 4096);
        lane_run(&lane, 0, tokens, PREFIX, chunks[i][0], prefix);
        lane_run(&lane, PREFIX, tokens + PREFIX, TAIL, chunks[i][1], rows[i]);
        if (memcmp(rows[0], rows[i], (size_t)TAIL * model.n_embd * sizeof *rows[i]) != 0)
            fail_msg("%s: behind %d positions, chunks of %u and %u differ from 64 and 1", type, PREFIX, chunks[i][0], chunks[i][1]);
        lane_close(&lane);
        chain_close(&chain);
    }
    for (size_t i = 0; i < 3; i++) free(rows[i]);
    free(prefix);
    free(tokens);
}

static void positions_behind_a_long_context_are_exact(void **state) {
    (void)state;
    check_long_context(COROLLA_KV_F16, "q4_1");
    if (!SANITIZED) check_long_context(COROLLA_KV_F32, "f32");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_exact_with_both_cache_types),
        cmocka_unit_test(every_weight_type_is_exact),
        cmocka_unit_test(positions_behind_a_long_context_are_exact),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_remove();
    return failed;
}
