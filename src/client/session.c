/* session.c - the public session functions. See session.h. */
#include "client/session.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "client/swarm.h"

bool session_init(struct corolla_session *session, const struct session_ops *ops, struct corolla_swarm *swarm, uint32_t max_tokens) {
    session->ops = ops;
    session->swarm = swarm;
    session->model = swarm->model;
    session->n_embd = swarm->model->info.n_embd;
    session->n_vocab = swarm->model->info.n_vocab;
    session->max_tokens = max_tokens;
    session->position = 0;
    session->n_timings = 0;
    session->total_us = 0;
    session->on_event = NULL;
    atomic_init(&session->cancelled, false);
    session->tokens = malloc(max_tokens * sizeof *session->tokens);
    return session->tokens != NULL;
}

void session_release(struct corolla_session *session) { free(session->tokens); }

bool session_cancelled(const struct corolla_session *session) { return atomic_load_explicit(&session->cancelled, memory_order_acquire); }

enum corolla_status session_cancel_error(struct corolla_error *err) { return err_set(err, COROLLA_CANCELLED, "cancelled"); }

uint32_t session_rows_wanted(const struct session_run *run, uint32_t begin, uint32_t n, uint32_t *out_at) {
    uint32_t first = run->n - run->n_rows; /* of the rows asked for */
    uint32_t end = begin + n;
    *out_at = begin > first ? begin - first : 0;
    if (end <= first) return 0;
    return end - (begin > first ? begin : first);
}

enum corolla_status session_check(const struct corolla_session *session, const struct session_run *run, struct corolla_error *err) {
    if (run->n == 0 || (run->tokens == NULL && run->hidden == NULL)) return err_set(err, COROLLA_INVALID, "a step needs at least one row");
    if (run->n_rows > run->n || (run->n_rows > 0 && run->out == NULL))
        return err_set(err, COROLLA_INVALID, "%u rows of output asked of a step of %u rows", run->n_rows, run->n);
    uint32_t filled = run->parent != NULL ? run->parent->position : session->position;
    if (run->position > filled)
        return err_set(err, COROLLA_BAD_POSITION, "a step at position %u, but only %u positions are filled", run->position, filled);
    if (run->position > session->max_tokens || run->n > session->max_tokens - run->position)
        return err_set(err, COROLLA_TOO_LONG, "%u rows at position %u do not fit: the session was opened for %u tokens", run->n,
                       run->position, session->max_tokens);
    return COROLLA_OK;
}

void session_remember(struct corolla_session *session, const struct session_run *run) {
    if (run->parent != NULL)
        memcpy(session->tokens + run->shared, run->parent->tokens + run->shared, (run->position - run->shared) * sizeof *session->tokens);
    for (uint32_t i = 0; i < run->n; i++) session->tokens[run->position + i] = run->tokens != NULL ? run->tokens[i] : TOKEN_HIDDEN;
}

enum corolla_status session_step(struct corolla_session *session, const struct session_run *run, struct corolla_error *err) {
    enum corolla_status status = session_check(session, run, err);
    if (status != COROLLA_OK) return status;
    if (session_cancelled(session)) return session_cancel_error(err);
    uint64_t start_us = clock_us();
    session->n_timings = 0;
    session_remember(session, run);
    status = session->ops->step(&session, run, 1, err);
    session->total_us = (uint32_t)(clock_us() - start_us);
    return status;
}

/* ---- the public functions -------------------------------------------------------------------------------------- */

enum corolla_status corolla_session_open(struct corolla_session **out_session, struct corolla_swarm *swarm, uint32_t max_tokens,
                                         struct corolla_error *err) {
    return corolla_session_open_prompt(out_session, swarm, max_tokens, NULL, 0, err);
}

enum corolla_status corolla_session_open_prompt(struct corolla_session **out_session, struct corolla_swarm *swarm, uint32_t max_tokens,
                                                const int32_t *tokens, size_t n, struct corolla_error *err) {
    if (out_session == NULL || swarm == NULL || max_tokens == 0 || (tokens == NULL && n > 0))
        return err_set(err, COROLLA_INVALID, "a session needs a swarm and a length of at least one token");
    if (n > max_tokens) return err_set(err, COROLLA_TOO_LONG, "a prompt of %zu tokens does not fit a session of %u", n, max_tokens);
    struct session_prompt prompt = {.tokens = tokens, .n = n};
    return swarm_session_open(out_session, swarm, max_tokens, &prompt, err);
}

enum corolla_status corolla_session_fork(struct corolla_session **out_session, struct corolla_session *session, struct corolla_error *err) {
    if (out_session == NULL || session == NULL) return err_set(err, COROLLA_INVALID, "a fork needs a session and a place for the new one");
    if (session_cancelled(session)) return session_cancel_error(err);
    return session->ops->fork(out_session, session, err);
}

void corolla_session_close(struct corolla_session *session) {
    if (session != NULL) session->ops->close(session);
}

uint32_t corolla_session_position(const struct corolla_session *session) { return session->position; }

void corolla_session_cancel(struct corolla_session *session) { atomic_store_explicit(&session->cancelled, true, memory_order_release); }

void corolla_session_cancel_clear(struct corolla_session *session) {
    atomic_store_explicit(&session->cancelled, false, memory_order_release);
}

void corolla_session_watch(struct corolla_session *session, corolla_event_fn on_event, void *user) {
    session->on_event = on_event;
    session->event_user = user;
}

enum corolla_status corolla_session_step(struct corolla_session *session, uint32_t position, const int32_t *tokens, uint32_t n,
                                         float *out_hidden, uint32_t n_rows, struct corolla_error *err) {
    struct session_run run = {.position = position, .n = n, .tokens = tokens, .out = out_hidden, .n_rows = out_hidden == NULL ? 0 : n_rows};
    return session_step(session, &run, err);
}

enum corolla_status corolla_session_step_hidden(struct corolla_session *session, uint32_t position, const float *hidden, uint32_t n,
                                                float *out_hidden, uint32_t n_rows, struct corolla_error *err) {
    struct session_run run = {.position = position, .n = n, .hidden = hidden, .out = out_hidden, .n_rows = out_hidden == NULL ? 0 : n_rows};
    return session_step(session, &run, err);
}

enum corolla_status corolla_session_logits(struct corolla_session *session, const float *hidden, uint32_t n, float *out_logits,
                                           struct corolla_error *err) {
    if (hidden == NULL || out_logits == NULL || n == 0) return err_set(err, COROLLA_INVALID, "logits need at least one row");
    if (session_cancelled(session)) return session_cancel_error(err);
    return session->ops->logits(session, hidden, n, out_logits, err);
}

size_t corolla_session_timings(const struct corolla_session *session, struct corolla_hop_timing *out_timings, size_t max,
                               uint32_t *out_total_us) {
    for (size_t i = 0; i < session->n_timings && i < max; i++)
        out_timings[i] =
            (struct corolla_hop_timing){.queue_us = session->timings[i].queue_us, .compute_us = session->timings[i].compute_us};
    if (out_total_us != NULL) *out_total_us = session->total_us;
    return session->n_timings;
}
