/* local.c - a session on the span of this process.
 *
 * Rows go through the blocks in chunks of one batch, in place, in a buffer that the session owns. The engine is taken once per
 * chunk, so that sessions of other threads get their turns between the chunks of a long prompt.
 */
#include "client/local.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

struct local {
    struct corolla_session base; /* first: the public object */
    struct corolla_swarm *swarm;
    struct kv *kv;
    float *rows; /* [chunk, n_embd] */
    uint32_t chunk;
};

/* Rows [begin, begin + n) of the run. The engine is ours. */
static enum corolla_status compute(struct local *local, const struct session_run *run, uint32_t begin, uint32_t n,
                                   struct corolla_error *err) {
    size_t row = local->base.n_embd;
    if (run->tokens != NULL) {
        enum corolla_status status = edges_embed(local->swarm->edges, run->tokens + begin, n, local->rows, err);
        if (status != COROLLA_OK) return status;
    }
    const float *in = run->tokens != NULL ? local->rows : run->hidden + begin * row;
    struct batch_item item = {.kv = local->kv, .position = run->position + begin, .n = n, .in = in, .out = local->rows};
    return span_forward(local->swarm->span, &item, 1, err);
}

static enum corolla_status local_step(struct corolla_session *session, const struct session_run *run, struct corolla_error *err) {
    struct local *local = (struct local *)session;
    size_t row = session->n_embd;
    session->n_timings = 1;
    session->timings[0] = (struct hop_timing){0};
    for (uint32_t begin = 0; begin < run->n;) {
        if (session_cancelled(session)) return session_cancel_error(err);
        uint32_t n = run->n - begin < local->chunk ? run->n - begin : local->chunk;
        uint64_t asked_us = clock_us();
        swarm_engine_enter(local->swarm);
        uint64_t start_us = clock_us();
        enum corolla_status status = compute(local, run, begin, n, err);
        session->position = kv_length(local->kv);
        swarm_engine_leave(local->swarm);
        session->timings[0].queue_us += (uint32_t)(start_us - asked_us);
        session->timings[0].compute_us += (uint32_t)(clock_us() - start_us);
        if (status != COROLLA_OK) return status;
        uint32_t at, wanted = session_rows_wanted(run, begin, n, &at);
        if (wanted > 0) memcpy(run->out + at * row, local->rows + (n - wanted) * row, wanted * row * sizeof(float));
        begin += n;
        if (run->progress != NULL) run->progress(run->user, "prompt", begin, run->n);
    }
    return COROLLA_OK;
}

static enum corolla_status local_logits(struct corolla_session *session, const float *hidden, uint32_t n, float *out,
                                        struct corolla_error *err) {
    return swarm_logits(((struct local *)session)->swarm, hidden, n, out, err);
}

static enum corolla_status local_fork(struct corolla_session **out_session, struct corolla_session *session, struct corolla_error *err) {
    struct local *from = (struct local *)session;
    struct corolla_session *fork;
    enum corolla_status status = local_open(&fork, from->swarm, session->max_tokens, err);
    if (status != COROLLA_OK) return status;
    swarm_engine_enter(from->swarm);
    status = kv_copy(((struct local *)fork)->kv, from->kv, session->position, err);
    swarm_engine_leave(from->swarm);
    if (status != COROLLA_OK) {
        fork->ops->close(fork);
        return status;
    }
    fork->position = session->position;
    *out_session = fork;
    return COROLLA_OK;
}

static void local_close(struct corolla_session *session) {
    struct local *local = (struct local *)session;
    swarm_engine_enter(local->swarm); /* the cache belongs to the span's pool */
    kv_close(local->kv);
    swarm_engine_leave(local->swarm);
    free(local->rows);
    free(local);
}

static const struct session_ops local_ops = {.step = local_step, .logits = local_logits, .fork = local_fork, .close = local_close};

enum corolla_status local_open(struct corolla_session **out_session, struct corolla_swarm *swarm, uint32_t max_tokens,
                               struct corolla_error *err) {
    const struct corolla_model_info *info = &swarm->model->info;
    size_t values, bytes;
    uint32_t chunk = max_tokens < BATCH_ROWS_MAX ? max_tokens : BATCH_ROWS_MAX;
    if (!size_mul(chunk, info->n_embd, &values) || !size_mul(values, sizeof(float), &bytes))
        return err_set(err, COROLLA_NOMEM, "out of memory for a session");
    struct local *local = calloc(1, sizeof *local);
    if (local == NULL || (local->rows = malloc(bytes)) == NULL) {
        free(local);
        return err_set(err, COROLLA_NOMEM, "out of memory for a session");
    }
    session_init(&local->base, &local_ops, swarm->model, max_tokens);
    local->swarm = swarm;
    local->chunk = chunk;
    swarm_engine_enter(swarm);
    enum corolla_status status = kv_open(&local->kv, swarm->span, 0, info->n_blocks, max_tokens, err);
    swarm_engine_leave(swarm);
    if (status != COROLLA_OK) {
        free(local->rows);
        free(local);
        return status;
    }
    *out_session = &local->base;
    return COROLLA_OK;
}
