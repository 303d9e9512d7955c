/* sampler.c - from logits to a token with libllama's samplers: grammar, repeat penalty, top-k, top-p, min-p, temperature, draw.
 *
 * Grammar and penalty stand beside the chain, since a prompt's tokens are told to the penalty alone. A draw with the same seed
 * and logits is the same. Nothing is allocated per token here. libllama asserts and throws where numbers or texts make no sense:
 * logits are brought into a range in which no sampler meets NaN, grammars are checked, and a grammar never hears of a token that it
 * does not allow.
 */
#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "llama.h"
#include "text/grammar.h"
#include "text/vocab.h"

#define PENALTY_TOKENS 64 /* how far back the repeat penalty looks */
#define LOGIT_MAX 1e20f   /* far beyond any model; finite still when divided by every temperature and penalty */
#define TEMP_MIN 1e-6f    /* below, a draw is the largest logit */
#define PENALTY_MIN 0.01f

struct sampler {
    struct llama_sampler *grammar, *penalty, *chain; /* grammar and penalty may be NULL */
    uint32_t n_vocab;
    bool greedy;
    llama_token eos;              /* where a text ends for which the grammar leaves no token */
    llama_token_data *candidates; /* [n_vocab] */
};

static void add_draw(struct llama_sampler *chain, const struct corolla_sampling *p) {
    if (p->temp < TEMP_MIN) {
        llama_sampler_chain_add(chain, llama_sampler_init_greedy());
        return;
    }
    if (p->top_k > 0) llama_sampler_chain_add(chain, llama_sampler_init_top_k(p->top_k));
    if (p->top_p < 1.0f) llama_sampler_chain_add(chain, llama_sampler_init_top_p(p->top_p, 1));
    if (p->min_p > 0.0f) llama_sampler_chain_add(chain, llama_sampler_init_min_p(p->min_p, 1));
    llama_sampler_chain_add(chain, llama_sampler_init_temp(p->temp));
    /* libllama takes one seed as "a random one": who asks for just that number gets its neighbour. */
    uint32_t seed = p->seed == 0 ? LLAMA_DEFAULT_SEED : p->seed == LLAMA_DEFAULT_SEED ? LLAMA_DEFAULT_SEED - 1 : p->seed;
    llama_sampler_chain_add(chain, llama_sampler_init_dist(seed));
}

static enum corolla_status check_params(const struct corolla_sampling *p, struct corolla_error *err) {
    if (!(p->temp >= 0.0f && p->temp <= 100.0f)) return err_set(err, COROLLA_INVALID, "a temperature lies between 0 and 100");
    if (p->top_k < 0) return err_set(err, COROLLA_INVALID, "top-k is 0 (off) or more");
    if (!(p->top_p >= 0.0f && p->top_p <= 1.0f)) return err_set(err, COROLLA_INVALID, "top-p lies between 0 and 1; 1 is off");
    if (!(p->min_p >= 0.0f && p->min_p <= 1.0f)) return err_set(err, COROLLA_INVALID, "min-p lies between 0 and 1");
    if (!(p->repeat_penalty >= PENALTY_MIN && p->repeat_penalty <= 100.0f))
        return err_set(err, COROLLA_INVALID, "a repeat penalty lies between 0.01 and 100; 1 is off");
    return COROLLA_OK;
}

static enum corolla_status sampler_make(struct sampler *s, const struct vocab *vocab, const struct corolla_sampling *p,
                                        struct corolla_error *err) {
    s->n_vocab = vocab_size(vocab);
    s->greedy = p->temp < TEMP_MIN;
    s->eos = llama_vocab_eos(vocab_llama(vocab));
    s->candidates = malloc(s->n_vocab * sizeof *s->candidates);
    struct llama_sampler_chain_params chain_params = llama_sampler_chain_default_params();
    chain_params.no_perf = true;
    s->chain = llama_sampler_chain_init(chain_params);
    if (!s->candidates || !s->chain) return err_set(err, COROLLA_NOMEM, "out of memory for a sampler over %u tokens", s->n_vocab);
    if (p->grammar) {
        s->grammar = llama_sampler_init_grammar(vocab_llama(vocab), p->grammar, "root");
        if (!s->grammar) return err_set(err, COROLLA_INVALID, "libllama cannot use the grammar; a <token> in it may be none of this model");
    }
    if (p->repeat_penalty < 1.0f || p->repeat_penalty > 1.0f) {
        s->penalty = llama_sampler_init_penalties((int32_t)s->n_vocab, PENALTY_TOKENS, p->repeat_penalty, 0.0f, 0.0f);
        if (!s->penalty) return err_set(err, COROLLA_NOMEM, "out of memory");
    }
    add_draw(s->chain, p);
    return COROLLA_OK;
}

enum corolla_status sampler_new(struct sampler **out, const struct vocab *vocab, const struct corolla_sampling *params,
                                struct corolla_error *err) {
    enum corolla_status status = check_params(params, err);
    if (!status && params->grammar) status = grammar_check(params->grammar, err);
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

/* fmaxf and fminf prefer a number to NaN. */
static llama_token_data_array fill(struct sampler *s, const float *logits) {
    for (uint32_t i = 0; i < s->n_vocab; i++)
        s->candidates[i] = (llama_token_data){.id = (llama_token)i, .logit = fminf(fmaxf(logits[i], -LOGIT_MAX), LOGIT_MAX)};
    return (llama_token_data_array){.data = s->candidates, .size = s->n_vocab, .selected = -1, .sorted = false};
}

static llama_token selected(const llama_token_data_array *all) { return all->selected >= 0 ? all->data[all->selected].id : -1; }

static bool grammar_allows(struct sampler *s, llama_token token) {
    llama_token_data one = {.id = token};
    llama_token_data_array alone = {.data = &one, .size = 1, .selected = -1, .sorted = false};
    llama_sampler_apply(s->grammar, &alone);
    return isfinite(one.logit);
}

static bool any_allowed(const llama_token_data_array *all) {
    for (size_t i = 0; i < all->size; i++)
        if (isfinite(all->data[i].logit)) return true;
    return false;
}

/* The grammar in front of the other samplers; -1 when it leaves nothing. */
static llama_token sample_with_grammar(struct sampler *s, const float *logits) {
    llama_token_data_array all = fill(s, logits);
    if (s->greedy) { /* to hold a whole vocabulary against a grammar is slow, and the likeliest token is nearly always allowed */
        if (s->penalty) llama_sampler_apply(s->penalty, &all);
        llama_sampler_apply(s->chain, &all);
        if (grammar_allows(s, selected(&all))) return selected(&all);
        all = fill(s, logits);
    }
    llama_sampler_apply(s->grammar, &all);
    if (!any_allowed(&all)) return -1;
    if (s->penalty) llama_sampler_apply(s->penalty, &all);
    llama_sampler_apply(s->chain, &all);
    return selected(&all);
}

static llama_token sample(struct sampler *s, const float *logits) {
    llama_token_data_array all = fill(s, logits);
    if (s->penalty) llama_sampler_apply(s->penalty, &all);
    llama_sampler_apply(s->chain, &all);
    return selected(&all);
}

int32_t sampler_sample(struct sampler *s, const float *logits) {
    llama_token token = s->grammar ? sample_with_grammar(s, logits) : sample(s, logits);
    if (token < 0) return s->eos;
    if (s->grammar) llama_sampler_accept(s->grammar, token);
    if (s->penalty) llama_sampler_accept(s->penalty, token);
    llama_sampler_accept(s->chain, token);
    return token;
}
