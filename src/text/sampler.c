/* sampler.c - from logits to a token with libllama's samplers: grammar, repeat penalty, top-k, top-p, min-p, temperature, draw.
 *
 * Grammar and penalty stand beside the chain, since a prompt's tokens are told to the penalty alone. A draw with the same seed
 * and logits is the same. Nothing is allocated per token here.
 */
#include <stdlib.h>

#include "base/err.h"
#include "llama.h"
#include "text/vocab.h"

#define PENALTY_TOKENS 64 /* how far back the repeat penalty looks */

struct sampler {
    struct llama_sampler *grammar, *penalty, *chain; /* grammar and penalty may be NULL */
    uint32_t n_vocab;
    llama_token_data *candidates; /* [n_vocab] */
};

static void add_draw(struct llama_sampler *chain, const struct corolla_sampling *p) {
    if (p->temp <= 0.0f) {
        llama_sampler_chain_add(chain, llama_sampler_init_greedy());
        return;
    }
    if (p->top_k > 0) llama_sampler_chain_add(chain, llama_sampler_init_top_k(p->top_k));
    if (p->top_p < 1.0f) llama_sampler_chain_add(chain, llama_sampler_init_top_p(p->top_p, 1));
    if (p->min_p > 0.0f) llama_sampler_chain_add(chain, llama_sampler_init_min_p(p->min_p, 1));
    llama_sampler_chain_add(chain, llama_sampler_init_temp(p->temp));
    llama_sampler_chain_add(chain, llama_sampler_init_dist(p->seed ? p->seed : LLAMA_DEFAULT_SEED));
}

static enum corolla_status check_params(const struct corolla_sampling *p, struct corolla_error *err) {
    if (!(p->temp >= 0.0f && p->temp <= 100.0f)) return err_set(err, COROLLA_INVALID, "a temperature lies between 0 and 100");
    if (p->top_k < 0) return err_set(err, COROLLA_INVALID, "top-k is 0 (off) or more");
    if (!(p->top_p >= 0.0f && p->top_p <= 1.0f)) return err_set(err, COROLLA_INVALID, "top-p lies between 0 and 1");
    if (!(p->min_p >= 0.0f && p->min_p <= 1.0f)) return err_set(err, COROLLA_INVALID, "min-p lies between 0 and 1");
    if (!(p->repeat_penalty > 0.0f && p->repeat_penalty <= 100.0f))
        return err_set(err, COROLLA_INVALID, "a repeat penalty is more than 0 and at most 100; 1 is off");
    return COROLLA_OK;
}

static enum corolla_status sampler_make(struct sampler *s, const struct vocab *vocab, const struct corolla_sampling *p, struct corolla_error *err) {
    s->n_vocab = vocab_size(vocab);
    s->candidates = malloc(s->n_vocab * sizeof *s->candidates);
    s->chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    if (!s->candidates || !s->chain) return err_set(err, COROLLA_NOMEM, "out of memory");
    if (p->grammar) {
        s->grammar = llama_sampler_init_grammar(vocab_llama(vocab), p->grammar, "root");
        if (!s->grammar) return err_set(err, COROLLA_INVALID, "the grammar is not valid GBNF, or has no rule named root");
    }
    if (p->repeat_penalty != 1.0f) {
        s->penalty = llama_sampler_init_penalties((int32_t)s->n_vocab, PENALTY_TOKENS, p->repeat_penalty, 0.0f, 0.0f);
        if (!s->penalty) return err_set(err, COROLLA_NOMEM, "out of memory");
    }
    add_draw(s->chain, p);
    return COROLLA_OK;
}

enum corolla_status sampler_new(struct sampler **out, const struct vocab *vocab, const struct corolla_sampling *params, struct corolla_error *err) {
    enum corolla_status status = check_params(params, err);
    if (status) return status;
    struct sampler *s = calloc(1, sizeof *s);
    if (!s) return err_set(err, COROLLA_NOMEM, "out of memory");
    status = sampler_make(s, vocab, params, err);
    if (status)
        sampler_free(s);
    else
        *out = s;
    return status;
}

void sampler_free(struct sampler *s) {
    if (!s) return;
    if (s->grammar) llama_sampler_free(s->grammar);
    if (s->penalty) llama_sampler_free(s->penalty);
    if (s->chain) llama_sampler_free(s->chain);
    free(s->candidates);
    free(s);
}

void sampler_accept_prompt(struct sampler *s, const int32_t *tokens, size_t count) {
    size_t first = count > PENALTY_TOKENS ? count - PENALTY_TOKENS : 0;
    for (size_t i = first; i < count && s->penalty; i++) llama_sampler_accept(s->penalty, tokens[i]);
}

int32_t sampler_sample(struct sampler *s, const float *logits) {
    for (uint32_t i = 0; i < s->n_vocab; i++) s->candidates[i] = (llama_token_data){.id = (llama_token)i, .logit = logits[i]};
    llama_token_data_array all = {.data = s->candidates, .size = s->n_vocab, .selected = -1, .sorted = false};
    if (s->grammar) llama_sampler_apply(s->grammar, &all);
    if (s->penalty) llama_sampler_apply(s->penalty, &all);
    llama_sampler_apply(s->chain, &all);
    int32_t token = all.data[all.selected >= 0 ? all.selected : 0].id;
    if (s->grammar) llama_sampler_accept(s->grammar, token);
    if (s->penalty) llama_sampler_accept(s->penalty, token);
    llama_sampler_accept(s->chain, token);
    return token;
}
