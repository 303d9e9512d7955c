/* test_parity_real.c - the real model named by COROLLA_TEST_MODEL (they fail without it): the same bits for every chunking and
 * cut, and the same greedy choices as libllama.
 *
 * Quantised weights round activations, so an engine that sums in another order (a repacked weight type) gives slightly other
 * logits. Teacher-forced over corolla's own greedy text, the choice must agree wherever libllama's two best tokens are further
 * apart than MARGIN. The long prefix is for COROLLA_TEST_FULL=1 only.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "parity/oracle.h"
#include "support/chain.h"
#include "support/scratch.h"

#define PROMPTS 20
#define PROMPT_TOKENS_MAX 128
#define NEW_TOKENS 64
#define TOKENS_MAX (PROMPT_TOKENS_MAX + NEW_TOKENS)
#define MARGIN 0.25f
#define POSITIONS 200

static const char *model_path(void) {
    const char *path = getenv("COROLLA_TEST_MODEL");
    if (!path || !path[0]) fail_msg("COROLLA_TEST_MODEL names no model (make -s model prints one)");
    return path;
}

static uint32_t argmax(const float *logits, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

struct text {
    struct lane lane;
    int32_t tokens[TOKENS_MAX];
    uint32_t n_prompt;
};

static void read_prompts(const struct oracle *oracle, struct text *texts) {
    char line[1024];
    FILE *file = fopen(COROLLA_TESTS "/support/prompts.txt", "r");
    assert_non_null(file);
    for (uint32_t i = 0; i < PROMPTS; i++) {
        assert_non_null(fgets(line, sizeof line, file));
        line[strcspn(line, "\n")] = '\0';
        texts[i].n_prompt = oracle_tokenize(oracle, line, texts[i].tokens, PROMPT_TOKENS_MAX);
        assert_true(texts[i].n_prompt > 0);
    }
    fclose(file);
}

/* All texts side by side in one batch per step. */
static void generate_together(struct chain *chain, struct text *texts) {
    struct lane_step steps[PROMPTS];
    size_t row = chain->n_embd;
    float *hidden = malloc(PROMPT_TOKENS_MAX * row * sizeof *hidden), *last = malloc(PROMPTS * row * sizeof *last);
    float *logits = malloc((size_t)PROMPTS * chain->n_vocab * sizeof *logits);
    assert_true(hidden && last && logits);
    for (uint32_t i = 0; i < PROMPTS; i++) {
        lane_open(&texts[i].lane, chain, TOKENS_MAX);
        lane_run(&texts[i].lane, 0, texts[i].tokens, texts[i].n_prompt, PROMPT_TOKENS_MAX, hidden);
        memcpy(last + i * row, hidden + (texts[i].n_prompt - 1) * row, row * sizeof *last);
    }
    for (uint32_t n = 0; n < NEW_TOKENS; n++) {
        chain_logits(chain, last, PROMPTS, logits);
        for (uint32_t i = 0; i < PROMPTS; i++) {
            uint32_t position = texts[i].n_prompt + n;
            texts[i].tokens[position] = (int32_t)argmax(logits + (size_t)i * chain->n_vocab, chain->n_vocab);
            steps[i] = (struct lane_step){&texts[i].lane, position, 1, &texts[i].tokens[position], last + i * row};
        }
        if (n + 1 < NEW_TOKENS) lanes_step(steps, PROMPTS);
    }
    for (uint32_t i = 0; i < PROMPTS; i++) lane_close(&texts[i].lane);
    free(hidden);
    free(last);
    free(logits);
}

static void greedy_choices_agree_with_libllama_beyond_the_margin(void **state) {
    const char *path = model_path();
    uint32_t same = 0, close = 0;
    struct chain chain;
    (void)state;
    struct text *texts = calloc(PROMPTS, sizeof *texts);
    struct oracle *oracle = oracle_open(path, 256, false);
    assert_true(texts && oracle);
    read_prompts(oracle, texts);
    chain_open(&chain, &(struct chain_config){.path = path, .threads = 1, .kv = COROLLA_KV_F16});
    generate_together(&chain, texts);
    float *logits = malloc((size_t)TOKENS_MAX * chain.n_vocab * sizeof *logits);
    assert_non_null(logits);
    for (uint32_t i = 0; i < PROMPTS; i++) {
        uint32_t n = texts[i].n_prompt + NEW_TOKENS - 1;
        assert_true(oracle_logits(oracle, texts[i].tokens, n, 256, 0, logits));
        for (uint32_t at = texts[i].n_prompt - 1; at < n; at++) {
            const float *row = logits + (size_t)at * chain.n_vocab;
            uint32_t theirs = argmax(row, chain.n_vocab), ours = (uint32_t)texts[i].tokens[at + 1];
            if (ours == theirs)
                same++;
            else if (row[theirs] - row[ours] <= MARGIN)
                close++;
            else
                fail_msg("prompt %u, position %u: corolla chose %u, libllama %u by %g", i, at, ours, theirs,
                         (double)(row[theirs] - row[ours]));
        }
    }
    print_message("%u of %u choices equal libllama's, %u others lie within a margin of %g\n", same, PROMPTS * NEW_TOKENS, close,
                  (double)MARGIN);
    free(logits);
    free(texts);
    chain_close(&chain);
    oracle_close(oracle);
}

/* Hidden states of n positions behind a prefix; the caller frees them. */
static float *run(const char *path, const uint32_t *cuts, uint32_t n_cuts, uint32_t prefix, uint32_t prefix_chunk, uint32_t n,
                  uint32_t chunk, size_t *out_size) {
    struct chain chain;
    struct lane lane;
    chain_open(&chain, &(struct chain_config){.path = path, .cuts = cuts, .n_cuts = n_cuts, .threads = 1, .kv = COROLLA_KV_F16});
    if (!chain_exact(&chain)) fail_msg("the self-proof failed for %s", path);
    int32_t *tokens = malloc((prefix + n) * sizeof *tokens);
    float *before = malloc(((size_t)prefix * chain.n_embd + 1) * sizeof *before);
    float *hidden = malloc((size_t)n * chain.n_embd * sizeof *hidden);
    assert_true(tokens && before && hidden);
    random_tokens(5, chain.n_vocab, tokens, prefix + n);
    lane_open(&lane, &chain, prefix + n);
    lane_run(&lane, 0, tokens, prefix, prefix_chunk, before);
    lane_run(&lane, prefix, tokens + prefix, n, chunk, hidden);
    *out_size = (size_t)n * chain.n_embd * sizeof *hidden;
    lane_close(&lane);
    chain_close(&chain);
    free(tokens);
    free(before);
    return hidden;
}

static void chunks_and_cuts_give_the_same_bits(void **state) {
    static const uint32_t cuts[] = {4, 5, 17, 30}, chunks[] = {7, 64, POSITIONS};
    const char *path = model_path();
    size_t size, other_size;
    (void)state;
    float *reference = run(path, NULL, 0, 0, 1, POSITIONS, 1, &size);
    for (size_t i = 0; i < 3; i++) {
        float *other = run(path, cuts, i == 1 ? 0 : 4, 0, 1, POSITIONS, chunks[i], &other_size);
        if (size != other_size || memcmp(reference, other, size) != 0) fail_msg("chunks of %u differ from one by one", chunks[i]);
        free(other);
    }
    free(reference);
}

static void positions_behind_a_long_context_give_the_same_bits(void **state) {
    static const uint32_t cuts[] = {4, 5, 17, 30};
    const char *path = model_path();
    size_t size, other_size;
    (void)state;
    if (!getenv("COROLLA_TEST_FULL")) skip();
    float *reference = run(path, NULL, 0, 3000, 64, 50, 1, &size);
    float *other = run(path, cuts, 4, 3000, 256, 50, 50, &other_size);
    if (size != other_size || memcmp(reference, other, size) != 0) fail_msg("50 positions behind 3000 differ between two chunkings");
    free(reference);
    free(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_choices_agree_with_libllama_beyond_the_margin),
        cmocka_unit_test(chunks_and_cuts_give_the_same_bits),
        cmocka_unit_test(positions_behind_a_long_context_give_the_same_bits),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_remove();
    return failed;
}
