/* remote.c - the caller's side of a remote session: opening, runs in chunks, closing. See remote.h. */
#include "client/remote.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "client/prefix.h"
#include "crypto/rand.h"
#include "model/convert.h"

#define RECOVERIES_MAX 64 /* of one run that does not get on meanwhile */

static const struct session_ops remote_ops;

/* ---- memory ---------------------------------------------------------------------------------------------------- */

void remote_drop_bodies(struct remote *remote) {
    lane_clear(remote, &remote->chain);
    lane_clear(remote, &remote->spare);
}

void remote_free(struct remote *remote) {
    if (remote == NULL) return;
    while (remote->hops != NULL) {
        struct remote_hop *hop = remote->hops;
        remote->hops = hop->next;
        pthread_mutex_lock(&remote->peers->lock);
        hop->peer->uses--;
        pthread_mutex_unlock(&remote->peers->lock);
        free(hop);
    }
    pthread_cond_destroy(&remote->changed);
    row_log_free(remote->hidden);
    session_release(&remote->base);
    free(remote->rows);
    free(remote->named);
    free(remote);
}

struct remote *remote_new(struct corolla_swarm *swarm, uint32_t max_tokens) {
    size_t values, bytes;
    uint32_t chunk = max_tokens < REMOTE_CHUNK ? max_tokens : REMOTE_CHUNK;
    if (!size_mul(chunk, swarm->model->info.n_embd, &values) || !size_mul(values, sizeof(float), &bytes)) return NULL;
    struct remote *remote = calloc(1, sizeof *remote);
    if (remote == NULL) return NULL;
    peers_cond_init(&remote->changed);
    remote->peers = swarm->peers;
    remote->wire = swarm->wire;
    remote->chunk = chunk;
    remote->rows = malloc(bytes);
    rand_bytes(remote->id, sizeof remote->id);
    if (session_init(&remote->base, &remote_ops, swarm, max_tokens) && remote->rows != NULL) return remote;
    remote_free(remote);
    return NULL;
}

/* ---- runs ------------------------------------------------------------------------------------------------------ */

/* Takes the rows of a result that is back. */
static enum corolla_status land(struct remote *remote, const struct session_run *run, const struct flight *flight,
                                struct corolla_error *err) {
    struct corolla_session *session = &remote->base;
    const struct lane *chain = &remote->chain;
    uint32_t computed = chain->n_hops - flight->first;
    uint32_t passed = flight->n_timings > computed ? flight->n_timings - computed : 0; /* who only sent what it had kept */
    for (uint32_t i = 0; i < computed && passed + i < flight->n_timings; i++) {
        session->timings[flight->first + i].queue_us += flight->timings[passed + i].queue_us;
        session->timings[flight->first + i].compute_us += flight->timings[passed + i].compute_us;
    }
    bool finite = true;
    if (flight->body != NULL) {
        uint32_t at, wanted = session_rows_wanted(run, flight->position - run->position, flight->n, &at);
        size_t values = (size_t)wanted * session->n_embd;
        float *out = run->out + (size_t)at * session->n_embd;
        convert_to_f32(remote->wire, flight->body->data, out, values);
        net_body_free(remote->peers->net, flight->body);
        for (size_t i = 0; i < values && finite; i++) finite = isfinite(out[i]);
    }
    if (finite) {
        session->position = flight->position + flight->n;
        remote->landed_us = clock_us();
        return COROLLA_OK;
    }
    struct remote_hop *last = chain->hops[chain->n_hops - 1];
    enum corolla_status status = err_set(err, COROLLA_PEER_FAULT, "%s returned values that are not finite", last->label);
    pthread_mutex_lock(&remote->peers->lock);
    hop_fail(last, status, hop_reason(status), err != NULL ? err->message : "values that are not finite");
    pthread_mutex_unlock(&remote->peers->lock);
    return status;
}

/* The hop from which on the rows up to `end` are still to be computed: the ones before have sent them already, in an earlier try. */
static uint32_t first_to_compute(const struct remote *remote, uint32_t end) {
    uint32_t first = remote->chain.n_hops - 1;
    while (first > 0 && remote->chain.hops[first - 1]->ahead < end) first--;
    return first;
}

/* Sends steps of the run on their way while there is room for them. */
static enum corolla_status launch(struct remote *remote, struct corolla_error *err) {
    struct remote_run *run = &remote->run;
    struct lane *chain = &remote->chain;
    enum corolla_status status = COROLLA_OK;
    uint32_t end = run->rows.position + run->rows.n;
    while (status == COROLLA_OK && run->next < end && chain->count < REMOTE_FLIGHTS) {
        uint32_t n = lane_chunk(remote, run->next, end), at;
        uint32_t from = first_to_compute(remote, run->next + n);
        if (chain->count > 0 && from != run->first) break; /* one that starts earlier would be overtaken */
        run->first = from;
        if (session_cancelled(&remote->base)) return session_cancel_error(err);
        uint32_t wanted = session_rows_wanted(&run->rows, run->next - run->rows.position, n, &at);
        status = lane_launch(remote, chain, run->next, n, wanted, from, err);
        run->next += n;
    }
    return status;
}

/* The rest of a run, in chunks. */
static enum corolla_status fly(struct remote *remote, struct corolla_error *err) {
    struct corolla_session *session = &remote->base;
    const struct session_run *rows = &remote->run.rows;
    enum corolla_status status = COROLLA_OK;
    while (status == COROLLA_OK && session->position < rows->position + rows->n) {
        struct flight flight;
        status = launch(remote, err);
        if (status == COROLLA_OK) status = lane_wait(remote, &remote->chain, &flight, err);
        if (status == COROLLA_OK) status = land(remote, rows, &flight, err);
        if (status == COROLLA_OK && rows->progress != NULL)
            rows->progress(rows->user, "prompt", session->position - rows->position, rows->n);
    }
    return status;
}

/* What one token took counts for who is chosen later: what each hop says of its step, and a part of what nobody accounts for. */
static void note_speed(struct remote *remote, uint64_t total_us) {
    const struct corolla_session *session = &remote->base;
    const struct lane *chain = &remote->chain;
    float accounted = 0;
    pthread_mutex_lock(&remote->peers->lock);
    for (uint32_t i = 0; i < chain->n_hops; i++)
        accounted += (float)session->timings[i].compute_us + (float)session->timings[i].queue_us + (float)chain->hops[i]->peer->rtt_us;
    float rest = (float)total_us > accounted ? ((float)total_us - accounted) / (float)chain->n_hops : 0;
    for (uint32_t i = 0; i < chain->n_hops; i++) {
        struct remote_hop *hop = chain->hops[i];
        peer_seen(hop->peer, hop->end - hop->begin, (float)session->timings[i].compute_us + rest);
    }
    pthread_mutex_unlock(&remote->peers->lock);
    handover_note(remote);
}

static bool chain_broken(const struct remote *remote, struct corolla_error *out_error) {
    bool broken = false;
    pthread_mutex_lock(&remote->peers->lock);
    for (uint32_t i = 0; i < remote->chain.n_hops && !broken; i++) {
        broken = remote->chain.hops[i]->down;
        if (broken) *out_error = remote->chain.hops[i]->error;
    }
    pthread_mutex_unlock(&remote->peers->lock);
    return broken;
}

/* Positions at and behind the run's are dropped, and so is what is left of a run that failed. */
static void begin_run(struct remote *remote, const struct session_run *run) {
    struct corolla_session *session = &remote->base;
    pthread_mutex_lock(&remote->peers->lock);
    bool failed = remote->failed;
    pthread_mutex_unlock(&remote->peers->lock);
    if (remote->dirty || failed || run->position < session->position) {
        recover_raise_epoch(remote);
        handover_rewind(remote, run->position);
        remote->lineage = remote->epoch;
        remote->rolled = run->position;
        remote->dirty = false;
    }
    remote->landed_us = clock_us();
    session->position = run->position; /* what the hops keep for certain until results come */
    for (uint32_t i = 0; i < remote->chain.n_hops; i++) remote->chain.hops[i]->ahead = 0;
}

/* Whether a run that failed so may go on after a recovery. */
static bool can_recover(struct remote *remote, enum corolla_status status) {
    if (status == COROLLA_CANCELLED) return false;
    pthread_mutex_lock(&remote->peers->lock);
    bool fatal = remote->failed && remote->fatal;
    bool remote_fault = remote->failed || status == COROLLA_TIMEOUT || status == COROLLA_PEER_FAULT;
    pthread_mutex_unlock(&remote->peers->lock);
    return remote_fault && !fatal;
}

/* Whether each server of the chain has the parent as well, for the same blocks. */
static bool same_chain(const struct remote *remote, const struct remote *parent) {
    bool same = remote->chain.n_hops == parent->chain.n_hops;
    for (uint32_t i = 0; i < remote->chain.n_hops && same; i++) {
        const struct remote_hop *a = remote->chain.hops[i], *b = parent->chain.hops[i];
        same = node_id_equal(&a->ref.id, &b->ref.id) && a->begin == b->begin && a->end == b->end;
    }
    return same;
}

/* A run that begins with positions of a parent is one that begins where the two differ, of which the servers copy what they can: when that
 * fails, or the parent is elsewhere, the rows are computed like others. */
static void begin_copy(struct remote *remote, const struct session_run *asked) {
    struct session_run *rows = &remote->run.rows;
    const struct remote *parent = (const struct remote *)asked->parent;
    *rows = *asked;
    remote->copy.due = parent != NULL && same_chain(remote, parent);
    if (parent == NULL) return;
    rows->position = asked->shared;
    rows->n += asked->position - asked->shared;
    memcpy(remote->copy.parent, parent->id, SESSION_SIZE);
    remote->copy.shared = asked->shared;
}

/* What OPEN named is true as far as the run puts that at its positions. */
static void check_named(struct remote *remote, const struct session_run *rows) {
    for (uint32_t i = rows->position; i < remote->n_named && i < rows->position + rows->n; i++)
        if (remote->base.tokens[i] != remote->named[i]) remote->n_named = i;
}

static void run_begin(struct remote *remote, const struct session_run *asked) {
    struct remote_run *run = &remote->run;
    run->begin_us = clock_us();
    run->error.status = COROLLA_OK;
    run->broken = false;
    run->status = lane_remember(remote, asked, &run->error);
    if (run->status != COROLLA_OK) return;
    begin_copy(remote, asked);
    begin_run(remote, &run->rows);
    check_named(remote, &run->rows);
    handover_tick(remote);
    memset(remote->base.timings, 0, sizeof remote->base.timings);
    run->next = remote->copy.due ? asked->position : remote->base.position;
    run->broken = chain_broken(remote, &run->error);
    if (!run->broken) run->status = launch(remote, &run->error);
}

/* alone: no other run shares the time with it. */
static enum corolla_status run_end(struct remote *remote, bool alone, struct corolla_error *err) {
    struct corolla_session *session = &remote->base;
    struct remote_run *run = &remote->run;
    uint32_t recoveries = 0, position = session->position;
    bool broken = run->broken;
    enum corolla_status status = broken ? run->error.status : run->status;
    for (;;) {
        if (!broken && status == COROLLA_OK) status = fly(remote, &run->error);
        if (status == COROLLA_OK || (!broken && !can_recover(remote, status))) break;
        if (session->position > position) recoveries = 0;
        position = session->position;
        if (++recoveries > RECOVERIES_MAX) break;
        status = recover(remote, &run->rows, recoveries > 1, &run->error);
        if (status != COROLLA_OK) break;
        broken = remote->copy.due = false;
        run->next = session->position;
    }
    session->n_timings = remote->chain.n_hops;
    remote->dirty = status != COROLLA_OK;
    if (alone && status == COROLLA_OK && run->rows.n == 1 && recoveries == 0) note_speed(remote, clock_us() - run->begin_us);
    if (status != COROLLA_OK && err != NULL) *err = run->error;
    return status;
}

static enum corolla_status remote_step(struct corolla_session *const *sessions, const struct session_run *runs, size_t n,
                                       struct corolla_error *err) {
    enum corolla_status first = COROLLA_OK;
    for (size_t i = 0; i < n; i++) run_begin((struct remote *)sessions[i], &runs[i]);
    for (size_t i = 0; i < n; i++) {
        enum corolla_status status = run_end((struct remote *)sessions[i], n == 1, first == COROLLA_OK ? err : NULL);
        if (first == COROLLA_OK) first = status;
    }
    return first;
}

/* ---- opening and closing --------------------------------------------------------------------------------------- */

static void remote_close(struct corolla_session *session) {
    struct remote *remote = (struct remote *)session;
    net_post(remote->peers->net, remote_loop_close, remote);
}

static const struct session_ops remote_ops = {
    .step = remote_step, .logits = swarm_session_logits, .fork = remote_fork, .close = remote_close};

static enum corolla_status name_prompt(struct remote *remote, const struct session_prompt *prompt, struct corolla_error *err) {
    remote->n_prefix = prefix_hashes(remote->peers->model, prompt->tokens, prompt->n, remote->prefix);
    remote->n_named = remote->n_prefix * PREFIX_STEP;
    if (remote->n_named == 0) return COROLLA_OK;
    remote->named = malloc(remote->n_named * sizeof *remote->named);
    if (remote->named == NULL) return err_set(err, COROLLA_NOMEM, "out of memory for a session");
    memcpy(remote->named, prompt->tokens, remote->n_named * sizeof *remote->named);
    return COROLLA_OK;
}

/* What all servers hold of the prompt, when the session is open. */
static void take_prefix(struct remote *remote, const struct session_prompt *prompt) {
    uint32_t held = remote->n_prefix * PREFIX_STEP;
    pthread_mutex_lock(&remote->peers->lock);
    for (uint32_t i = 0; i < remote->chain.n_hops; i++)
        if (remote->chain.hops[i]->synced.length < held) held = remote->chain.hops[i]->synced.length;
    remote->n_prefix = 0; /* who takes over begins with nothing */
    pthread_mutex_unlock(&remote->peers->lock);
    if (held > 0) memcpy(remote->base.tokens, prompt->tokens, held * sizeof *remote->base.tokens);
    remote->base.position = held;
}

static enum corolla_status open_chain(struct remote *remote, const struct choice *choice, struct corolla_error *err) {
    struct remote_hop *hops[HOPS_MAX] = {NULL};
    uint32_t n = choice->route.n_hops;
    for (uint32_t i = 0; i < n; i++) {
        hops[i] = hop_new(remote, choice, i, 0);
        if (hops[i] == NULL) return err_set(err, COROLLA_NOMEM, "out of memory for a session");
    }
    remote->exact = choice->route.exact;
    remote->arithmetic_class = hops[0]->arithmetic_class;
    chain_splice(remote, 0, 0, hops, n);
    enum corolla_status status = hops_ask(remote, hops, n, remote->base.swarm->timeout_ms, err);
    for (uint32_t i = 0; i < n; i++)
        if (!hops[i]->down || status != COROLLA_CANCELLED) hop_blame(remote, hops[i], hops[i]->down ? hops[i]->error.status : COROLLA_OK);
    return status;
}

enum corolla_status remote_open(struct corolla_session **out_session, struct corolla_swarm *swarm, const struct choice *choice,
                                uint32_t max_tokens, const struct session_prompt *prompt, struct corolla_error *err) {
    struct remote *remote = remote_new(swarm, max_tokens);
    if (remote == NULL) return err_set(err, COROLLA_NOMEM, "out of memory for a session");
    enum corolla_status status = name_prompt(remote, prompt, err);
    if (status != COROLLA_OK) {
        remote_free(remote);
        return status;
    }
    net_post(remote->peers->net, remote_loop_begin, remote);
    status = open_chain(remote, choice, err);
    if (status != COROLLA_OK) {
        remote_close(&remote->base);
        return status;
    }
    take_prefix(remote, prompt);
    *out_session = &remote->base;
    return COROLLA_OK;
}
