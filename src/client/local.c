/* local.c - a session on the span of this process.
 *
 * Rows go through the blocks in chunks of one batch, in place, in a buffer that the session owns; sessions that step together share
 * batches. The engine is taken once per chunk, so that sessions of other threads get their turns between the chunks of a long prompt.
 */
#include "client/local.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

struct local {
    struct corolla_session base; /* first: the public object */
    struct kv *kv;
    float *rows; /* [chunk, n_embd] */
    uint32_t chunk;
    uint32_t done; /* rows of the run */
};

static void local_free(struct local *local) {
    session_release(&local->base);
    free(local->rows);
    free(local);
}

struct turn { /* rows of several runs that are computed at once */
    uint32_t n;
    size_t runs[BATCH_ITEMS_MAX]; /* of the items */
    struct batch_item items[BATCH_ITEMS_MAX];
};

/* The next rows of a run, as an item. The engine is ours. */
static enum corolla_status add_item(struct turn *turn, struct local *local, const struct session_run *run, uint32_t n,
                                    struct corolla_error *err) {
    const float *in = local->rows;
    enum corolla_status status = COROLLA_OK;
    if (run->tokens != NULL)
        status = edges_embed(local->base.swarm->edges, run->position + local->done, run->tokens + local->done, n, local->rows, err);
    else
        in = run->hidden + local->done * (size_t)local->base.n_embd;
    turn->items[turn->n++] =
        (struct batch_item){.kv = local->kv, .position = run->position + local->done, .n = n, .in = in, .out = local->rows};
    return status;
}

/* Rows of all runs that have some left, as many as one batch holds. */
static enum corolla_status make_turn(struct corolla_session *const *sessions, const struct session_run *runs, size_t n, struct turn *turn,
                                     struct corolla_error *err) {
    enum corolla_status status = COROLLA_OK;
    uint32_t room = BATCH_ROWS_MAX;
    turn->n = 0;
    for (size_t i = 0; i < n && turn->n < BATCH_ITEMS_MAX && status == COROLLA_OK; i++) {
        struct local *local = (struct local *)sessions[i];
        uint32_t rows = runs[i].n - local->done;
        if (rows > local->chunk) rows = local->chunk;
        if (rows > room) rows = room;
        if (rows == 0) continue;
        room -= rows;
        turn->runs[turn->n] = i;
        status = add_item(turn, local, &runs[i], rows, err);
    }
    return status;
}

/* What an item gave. */
static void take_item(struct local *local, const struct session_run *run, const struct batch_item *item) {
    size_t row = local->base.n_embd;
    uint32_t at, wanted = session_rows_wanted(run, local->done, item->n, &at);
    if (wanted > 0) memcpy(run->out + at * row, local->rows + (item->n - wanted) * row, wanted * row * sizeof(float));
    local->done += item->n;
    local->base.position = run->position + local->done;
    if (run->progress != NULL) run->progress(run->user, "prompt", local->done, run->n);
}

/* Every session comes to where its run begins. The engine is ours. */
static enum corolla_status begin_runs(struct corolla_session *const *sessions, const struct session_run *runs, size_t n,
                                      struct corolla_error *err) {
    enum corolla_status status = COROLLA_OK;
    for (size_t i = 0; i < n && status == COROLLA_OK; i++) {
        struct local *local = (struct local *)sessions[i];
        const struct local *parent = (const struct local *)runs[i].parent;
        local->done = 0;
        sessions[i]->n_timings = 1;
        sessions[i]->timings[0] = (struct hop_timing){0};
        if (parent != NULL) status = kv_copy(local->kv, parent->kv, runs[i].shared, runs[i].position, err);
        sessions[i]->position = runs[i].position;
    }
    return status;
}

static enum corolla_status local_step(struct corolla_session *const *sessions, const struct session_run *runs, size_t n,
                                      struct corolla_error *err) {
    struct corolla_swarm *swarm = sessions[0]->swarm;
    struct turn turn;
    swarm_engine_enter(swarm);
    enum corolla_status status = begin_runs(sessions, runs, n, err);
    swarm_engine_leave(swarm);
    while (status == COROLLA_OK) {
        for (size_t i = 0; i < n; i++)
            if (session_cancelled(sessions[i])) return session_cancel_error(err);
        uint64_t asked_us = clock_us();
        swarm_engine_enter(swarm);
        uint64_t start_us = clock_us();
        status = make_turn(sessions, runs, n, &turn, err);
        if (status == COROLLA_OK && turn.n > 0) status = span_forward(swarm->span, turn.items, turn.n, err);
        for (uint32_t i = 0; i < turn.n; i++) {
            struct corolla_session *session = sessions[turn.runs[i]];
            session->timings[0].queue_us += (uint32_t)(start_us - asked_us);
            session->timings[0].compute_us += (uint32_t)(clock_us() - start_us);
        }
        swarm_engine_leave(swarm);
        if (turn.n == 0) break;
        for (uint32_t i = 0; i < turn.n && status == COROLLA_OK; i++)
            take_item((struct local *)sessions[turn.runs[i]], &runs[turn.runs[i]], &turn.items[i]);
    }
    return status;
}

static enum corolla_status local_fork(struct corolla_session **out_session, struct corolla_session *session, struct corolla_error *err) {
    struct local *from = (struct local *)session;
    struct corolla_session *fork;
    enum corolla_status status = local_open(&fork, from->base.swarm, session->max_tokens, err);
    if (status != COROLLA_OK) return status;
    swarm_engine_enter(from->base.swarm);
    status = kv_copy(((struct local *)fork)->kv, from->kv, 0, session->position, err);
    swarm_engine_leave(from->base.swarm);
    if (status != COROLLA_OK) {
        fork->ops->close(fork);
        return status;
    }
    memcpy(fork->tokens, session->tokens, session->position * sizeof *fork->tokens);
    fork->position = session->position;
    *out_session = fork;
    return COROLLA_OK;
}

static void local_close(struct corolla_session *session) {
    struct local *local = (struct local *)session;
    swarm_engine_enter(local->base.swarm); /* the cache belongs to the span's pool */
    kv_close(local->kv);
    swarm_engine_leave(local->base.swarm);
    local_free(local);
}

static const struct session_ops local_ops = {.step = local_step, .logits = swarm_session_logits, .fork = local_fork, .close = local_close};

enum corolla_status local_open(struct corolla_session **out_session, struct corolla_swarm *swarm, uint32_t max_tokens,
                               struct corolla_error *err) {
    const struct corolla_model_info *info = &swarm->model->info;
    size_t values, bytes;
    uint32_t chunk = max_tokens < BATCH_ROWS_MAX ? max_tokens : BATCH_ROWS_MAX;
    if (!size_mul(chunk, info->n_embd, &values) || !size_mul(values, sizeof(float), &bytes))
        return err_set(err, COROLLA_NOMEM, "out of memory for a session");
    struct local *local = calloc(1, sizeof *local);
    if (local == NULL) return err_set(err, COROLLA_NOMEM, "out of memory for a session");
    local->rows = malloc(bytes);
    if (!session_init(&local->base, &local_ops, swarm, max_tokens) || local->rows == NULL) {
        local_free(local);
        return err_set(err, COROLLA_NOMEM, "out of memory for a session");
    }
    local->chunk = chunk;
    swarm_engine_enter(swarm);
    enum corolla_status status = kv_open(&local->kv, swarm->span, 0, info->n_blocks, max_tokens, err);
    swarm_engine_leave(swarm);
    if (status != COROLLA_OK) {
        local_free(local);
        return status;
    }
    *out_session = &local->base;
    return COROLLA_OK;
}
