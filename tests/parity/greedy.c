/* greedy.c - see greedy.h. */
#include "parity/greedy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "parity/oracle.h"
#include "support/chain.h"

#define PROMPTS_MAX 20 /* in prompts.txt */
#define PROMPT_TOKENS_MAX 128
#define NEW_TOKENS 64
#define TOKENS_MAX (PROMPT_TOKENS_MAX + NEW_TOKENS)

const char *real_model(void) {
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

static void read_prompts(const struct oracle *oracle, struct text *texts, uint32_t n_prompts) {
    char line[1024];
    FILE *file = fopen(COROLLA_TESTS "/support/prompts.txt", "r");
    assert_non_null(file);
    for (uint32_t i = 0; i < n_prompts; i++) {
        assert_non_null(fgets(line, sizeof line, file));
        line[strcspn(line, "\n")] = '\0';
        texts[i].n_prompt = oracle_tokenize(oracle, line, texts[i].tokens, PROMPT_TOKENS_MAX);
        assert_true(texts[i].n_prompt > 0);
    }
    fclose(file);
}

/* All texts side by side in one batch per step. */
static void generate_together(struct chain *chain, struct text *texts, uint32_t n_prompts) {
    struct lane_step steps[PROMPTS_MAX];
    size_t row = chain->n_embd;
    float *hidden = malloc(PROMPT_TOKENS_MAX * row * sizeof *hidden), *last = malloc(n_prompts * row * sizeof *last);
    float *logits = malloc((size_t)n_prompts * chain->n_vocab * sizeof *logits);
    assert_true(hidden && last && logits);
    for (uint32_t i = 0; i < n_prompts; i++) {
        lane_open(&texts[i].lane, chain, TOKENS_MAX);
        lane_run(&texts[i].lane, 0, texts[i].tokens, texts[i].n_prompt, PROMPT_TOKENS_MAX, hidden);
        memcpy(last + i * row, hidden + (texts[i].n_prompt - 1) * row, row * sizeof *last);
    }
    for (uint32_t n = 0; n < NEW_TOKENS; n++) {
        chain_logits(chain, last, n_prompts, logits);
        for (uint32_t i = 0; i < n_prompts; i++) {
            uint32_t position = texts[i].n_prompt + n;
            texts[i].tokens[position] = (int32_t)argmax(logits + (size_t)i * chain->n_vocab, chain->n_vocab);
            steps[i] = (struct lane_step){&texts[i].lane, position, 1, &texts[i].tokens[position], last + i * row};
        }
        if (n + 1 < NEW_TOKENS) lanes_step(steps, n_prompts);
    }
    for (uint32_t i = 0; i < n_prompts; i++) lane_close(&texts[i].lane);
    free(hidden);
    free(last);
    free(logits);
}

void greedy_compare(const char *path, uint32_t n_prompts, float margin) {
    uint32_t same = 0, close = 0;
    struct chain chain;
    struct text *texts = calloc(n_prompts, sizeof *texts);
    struct oracle *oracle = oracle_open(path, 256, ORACLE_KV_F16);
    assert_true(texts && oracle);
    read_prompts(oracle, texts, n_prompts);
    chain_open(&chain, &(struct chain_config){.path = path, .threads = 1, .kv = COROLLA_KV_F16});
    generate_together(&chain, texts, n_prompts);
    float *logits = malloc((size_t)TOKENS_MAX * chain.n_vocab * sizeof *logits);
    assert_non_null(logits);
    for (uint32_t i = 0; i < n_prompts; i++) {
        uint32_t n = texts[i].n_prompt + NEW_TOKENS - 1;
        assert_true(oracle_logits(oracle, texts[i].tokens, n, 256, 0, logits));
        for (uint32_t at = texts[i].n_prompt - 1; at < n; at++) {
            const float *row = logits + (size_t)at * chain.n_vocab;
            uint32_t theirs = argmax(row, chain.n_vocab), ours = (uint32_t)texts[i].tokens[at + 1];
            if (ours == theirs)
                same++;
            else if (row[theirs] - row[ours] <= margin)
                close++;
            else
                fail_msg("prompt %u, position %u: corolla chose %u, libllama %u by %g", i, at, ours, theirs,
                         (double)(row[theirs] - row[ours]));
        }
    }
    print_message("%u of %u choices equal libllama's, %u others lie within a margin of %g\n", same, n_prompts * NEW_TOKENS, close,
                  (double)margin);
    assert_true(same >= n_prompts * NEW_TOKENS * 0.94);
    free(logits);
    free(texts);
    chain_close(&chain);
    oracle_close(oracle);
}
