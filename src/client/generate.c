/* generate.c - from a prompt to text: prefill, sample, stream, stop. Works on any kind of session.
 *
 * Everything a token needs is allocated before the first one; only the text may grow when pieces are longer than expected.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "client/session.h"

#define TEXT_BYTES_PER_TOKEN 8 /* first guess for the text's buffer */

struct generator {
    struct corolla_session *session;
    const struct corolla_generation *params;
    const struct vocab *vocab;
    struct sampler *sampler;
    struct stream *stream;
    float *hidden; /* [n_embd]: the row behind the last token */
    float *logits; /* [n_vocab] */
    size_t tokens_max;
    size_t text_size, text_max;
    bool refused; /* the application wants no more text */
    struct corolla_result result;
};

void corolla_sampling_default(struct corolla_sampling *sampling) {
    *sampling = (struct corolla_sampling){.temp = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .repeat_penalty = 1.0f};
}

void corolla_generation_default(struct corolla_generation *generation) {
    *generation = (struct corolla_generation){.max_new_tokens = 0};
    corolla_sampling_default(&generation->sampling);
}

void corolla_result_clear(struct corolla_result *result) {
    if (result == NULL) return;
    free(result->tokens);
    free(result->text);
    *result = (struct corolla_result){0};
}

/* ---- setting up ------------------------------------------------------------------------------------------------ */

static enum corolla_status check_arguments(const struct corolla_session *session, uint32_t position, const int32_t *tokens, size_t n,
                                           const struct corolla_generation *generation, const struct corolla_result *out_result,
                                           struct corolla_error *err) {
    if (tokens == NULL || n == 0) return err_set(err, COROLLA_INVALID, "generation needs at least one token to start from");
    if (generation == NULL || out_result == NULL)
        return err_set(err, COROLLA_INVALID, "generation needs its parameters and a place for the result");
    if (position > session->position)
        return err_set(err, COROLLA_BAD_POSITION, "generation at position %u, but only %u positions are filled", position,
                       session->position);
    if (n > session->max_tokens - position)
        return err_set(err, COROLLA_TOO_LONG, "a prompt of %zu tokens at position %u does not fit: the session was opened for %u tokens", n,
                       position, session->max_tokens);
    return COROLLA_OK;
}

static void generator_release(struct generator *g) {
    sampler_free(g->sampler);
    stream_free(g->stream);
    free(g->hidden);
    free(g->logits);
}

static enum corolla_status generator_init(struct generator *g, struct corolla_session *session, uint32_t position, const int32_t *tokens,
                                          size_t n, struct corolla_error *err) {
    const struct corolla_generation *params = g->params;
    g->session = session;
    g->tokens_max = (size_t)(session->max_tokens - position) - n + 1; /* the last one is not fed */
    if (params->max_new_tokens != 0 && params->max_new_tokens < g->tokens_max) g->tokens_max = params->max_new_tokens;
    g->text_max = g->tokens_max * TEXT_BYTES_PER_TOKEN + 1;
    enum corolla_status status = handle_vocab(session->model, &g->vocab, err);
    if (status == COROLLA_OK) status = sampler_new(&g->sampler, g->vocab, &params->sampling, err);
    if (status == COROLLA_OK) status = stream_new(&g->stream, g->vocab, params->stops, params->n_stops, err);
    if (status != COROLLA_OK) return status;
    sampler_accept_prompt(g->sampler, tokens, n);
    g->hidden = malloc(session->n_embd * sizeof *g->hidden);
    g->logits = malloc(session->n_vocab * sizeof *g->logits);
    g->result.tokens = malloc(g->tokens_max * sizeof *g->result.tokens);
    g->result.text = malloc(g->text_max);
    if (g->hidden == NULL || g->logits == NULL || g->result.tokens == NULL || g->result.text == NULL) {
        corolla_result_clear(&g->result);
        return err_set(err, COROLLA_NOMEM, "out of memory for %zu tokens of output", g->tokens_max);
    }
    g->result.text[0] = '\0';
    return COROLLA_OK;
}

/* ---- text ------------------------------------------------------------------------------------------------------ */

/* Adds text that became final, and shows it. */
static enum corolla_status emit(struct generator *g, const char *text, size_t size, struct corolla_error *err) {
    if (size == 0) return COROLLA_OK;
    size_t need;
    if (!size_add(g->text_size, size, &need) || !size_add(need, 1, &need)) return err_set(err, COROLLA_NOMEM, "the text is too long");
    if (need > g->text_max) {
        size_t grown = need > g->text_max * 2 ? need : g->text_max * 2;
        char *bigger = realloc(g->result.text, grown);
        if (bigger == NULL) return err_set(err, COROLLA_NOMEM, "out of memory for %zu bytes of text", grown);
        g->result.text = bigger;
        g->text_max = grown;
    }
    memcpy(g->result.text + g->text_size, text, size);
    g->text_size += size;
    g->result.text[g->text_size] = '\0';
    if (g->params->on_text != NULL && !g->refused) g->refused = !g->params->on_text(g->params->user, text, size);
    return COROLLA_OK;
}

/* What the stream held back; on failure too, so that the result is whole as far as it goes. */
static enum corolla_status finish_text(struct generator *g, struct corolla_error *err) {
    const char *text;
    size_t size;
    stream_end(g->stream, &text, &size);
    return emit(g, text, size, err);
}

/* ---- the loop -------------------------------------------------------------------------------------------------- */

/* Samples behind the last row. *out_done: generation ends here, and result.stop says why. */
static enum corolla_status next_token(struct generator *g, bool *out_done, struct corolla_error *err) {
    enum corolla_status status = corolla_session_logits(g->session, g->hidden, 1, g->logits, err);
    if (status != COROLLA_OK) return status;
    int32_t token = sampler_sample(g->sampler, g->logits);
    *out_done = true;
    if (vocab_is_eog(g->vocab, token)) {
        g->result.stop = COROLLA_STOP_EOS;
        return COROLLA_OK;
    }
    g->result.tokens[g->result.n_tokens++] = token;
    const char *text;
    size_t size;
    bool stopped = stream_push(g->stream, token, &text, &size);
    status = emit(g, text, size, err);
    if (status != COROLLA_OK) return status;
    if (stopped)
        g->result.stop = COROLLA_STOP_STOP;
    else if (g->refused)
        g->result.stop = COROLLA_STOP_INTERRUPTED;
    else if (g->result.n_tokens == g->tokens_max)
        g->result.stop = COROLLA_STOP_LENGTH;
    else
        *out_done = false;
    return COROLLA_OK;
}

static double per_second(size_t n, uint64_t us) { return us == 0 ? 0 : (double)n * 1e6 / (double)us; }

/* How many of the tokens stand at their positions already; the last one is always computed. */
static uint32_t already_there(const struct corolla_session *session, uint32_t position, const int32_t *tokens, uint32_t n) {
    uint32_t i = 0;
    while (i + 1 < n && position + i < session->position && session->tokens[position + i] == tokens[i]) i++;
    return i;
}

static enum corolla_status run_loop(struct generator *g, uint32_t position, const int32_t *tokens, uint32_t n, struct corolla_error *err) {
    uint64_t start_us = clock_us();
    uint32_t there = already_there(g->session, position, tokens, n);
    position += there;
    tokens += there;
    n -= there;
    struct session_run run = {.position = position, .n = n, .tokens = tokens, .out = g->hidden, .n_rows = 1};
    run.progress = g->params->on_progress;
    run.user = g->params->user;
    enum corolla_status status = session_step(g->session, &run, err);
    if (status != COROLLA_OK) return status;
    g->result.prefill_tokens_per_s = per_second(n, clock_us() - start_us);
    bool done = false;
    status = next_token(g, &done, err);
    uint64_t first_us = clock_us();
    g->result.first_token_ms = (double)(first_us - start_us) / 1000;
    while (status == COROLLA_OK && !done) {
        run = (struct session_run){.position = g->session->position, .n = 1, .out = g->hidden, .n_rows = 1};
        run.tokens = &g->result.tokens[g->result.n_tokens - 1];
        status = session_step(g->session, &run, err);
        if (status == COROLLA_OK && g->params->on_step != NULL) g->params->on_step(g->params->user);
        if (status == COROLLA_OK) status = next_token(g, &done, err);
    }
    if (g->result.n_tokens > 1) g->result.decode_tokens_per_s = per_second(g->result.n_tokens - 1, clock_us() - first_us);
    return status;
}

enum corolla_status corolla_generate(struct corolla_session *session, uint32_t position, const int32_t *tokens, size_t n,
                                     const struct corolla_generation *generation, struct corolla_result *out_result,
                                     struct corolla_error *err) {
    if (session == NULL) return err_set(err, COROLLA_INVALID, "generation needs a session");
    if (out_result != NULL) *out_result = (struct corolla_result){.stop = COROLLA_STOP_INTERRUPTED};
    enum corolla_status status = check_arguments(session, position, tokens, n, generation, out_result, err);
    if (status != COROLLA_OK) return status;
    struct generator g = {.params = generation, .result = {.stop = COROLLA_STOP_INTERRUPTED}};
    status = generator_init(&g, session, position, tokens, n, err);
    if (status == COROLLA_OK) {
        status = run_loop(&g, position, tokens, (uint32_t)n, err);
        enum corolla_status finished = finish_text(&g, status == COROLLA_OK ? err : NULL);
        if (status == COROLLA_OK) status = finished;
        *out_result = g.result;
    }
    generator_release(&g);
    return status;
}
