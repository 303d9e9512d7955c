/* chain.h - a model cut into spans that stand behind each other in this process, and sessions ("lanes") that run through them.
 *
 * What a chain of servers does, without links. Failures end the test with the message that the code under test gave.
 */
#ifndef COROLLA_TESTS_CHAIN_H
#define COROLLA_TESTS_CHAIN_H

#include "model/edges.h"
#include "model/span.h"

#define CHAIN_SPANS_MAX 8

struct chain {
    struct model_file *file;
    struct engine *engine;
    struct edges *edges;
    uint32_t n_spans, n_embd, n_vocab;
    struct span *spans[CHAIN_SPANS_MAX];
};

struct lane {
    struct chain *chain;
    uint32_t n_parts;
    struct span *spans[CHAIN_SPANS_MAX]; /* of each part */
    struct kv *kv[CHAIN_SPANS_MAX];
};

/* cuts: where spans end, the last being the number of blocks; none: one span. */
struct chain_config {
    const char *path;
    const uint32_t *cuts;
    uint32_t n_cuts, threads;
    enum corolla_kv kv;
    uint32_t kv_tokens; /* that devices keep room for; 0: 1 GiB */
    const char *device; /* NULL: CPU */
};
void chain_open(struct chain *chain, const struct chain_config *config);
void chain_close(struct chain *chain);
/* Whether all spans proved themselves exact. */
bool chain_exact(const struct chain *chain);

void lane_open(struct lane *lane, struct chain *chain, uint32_t max_tokens);
/* Parts within the one span of the chain, cut as cuts says: sessions may use some of a server's blocks. */
void lane_open_cut(struct lane *lane, struct chain *chain, uint32_t max_tokens, const uint32_t *cuts, uint32_t n_cuts);
void lane_close(struct lane *lane);

/* Runs n tokens from position on, in chunks. out_hidden [n, n_embd] is what comes out behind the last block. */
void lane_run(struct lane *lane, uint32_t position, const int32_t *tokens, uint32_t n, uint32_t chunk, float *out_hidden);

/* One step of several lanes of one chain in one batch. */
struct lane_step {
    struct lane *lane;
    uint32_t position, n;
    const int32_t *tokens;
    float *out_hidden; /* [n, n_embd] */
};
void lanes_step(const struct lane_step *steps, uint32_t n_steps);

/* Final norm and head: [n, n_vocab] */
void chain_logits(struct chain *chain, const float *hidden, uint32_t n, float *out_logits);

/* Random ids within a vocabulary, the same for the same seed. */
void random_tokens(uint64_t seed, uint32_t n_vocab, int32_t *out_tokens, uint32_t n);

/* The distance of n values from others: mean square of the differences by mean square of the others. */
double nmse(const float *values, const float *others, size_t n);

#endif
