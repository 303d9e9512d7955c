/* remote.c - the caller's side of a remote session: opening, runs in chunks, waiting with a deadline. See remote.h.
 *
 * While it waits the caller wakes every 50 ms to look at the flag of cancellation, which a signal handler may set and which
 * therefore cannot signal a condition variable. Nothing is allocated per step but the message bodies, which come from a pool.
 */
#include "client/remote.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "crypto/rand.h"
#include "model/convert.h"

#define WAKE_MS 50
/* A hop that computes nothing for so long hangs; one that is gone is noticed by its link much earlier. */
#define STEP_BASE_MS 30000
#define STEP_PER_TOKEN_MS 250 /* of all rows under way: a very slow computer under a very big model */

/* ---- memory ---------------------------------------------------------------------------------------------------- */

void remote_drop_bodies(struct remote *remote) {
    for (uint32_t i = 0; i < REMOTE_FLIGHTS; i++) {
        if (remote->flights[i].body != NULL) net_body_free(remote->peers->net, remote->flights[i].body);
        remote->flights[i].body = NULL;
    }
    remote->head = remote->count = 0;
}

void remote_free(struct remote *remote) {
    if (remote == NULL) return;
    pthread_mutex_lock(&remote->peers->lock);
    for (uint32_t i = 0; i < remote->n_hops; i++) remote->hops[i].peer->uses--;
    pthread_mutex_unlock(&remote->peers->lock);
    pthread_cond_destroy(&remote->changed);
    free(remote->rows);
    free(remote->hops);
    free(remote);
}

static struct remote *remote_new(struct corolla_swarm *swarm, const struct choice *choice, uint32_t max_tokens) {
    const struct route *route = &choice->route;
    size_t values, bytes;
    uint32_t chunk = max_tokens < REMOTE_CHUNK ? max_tokens : REMOTE_CHUNK;
    if (!size_mul(chunk, swarm->model->info.n_embd, &values) || !size_mul(values, sizeof(float), &bytes)) return NULL;
    struct remote *remote = calloc(1, sizeof *remote);
    if (remote == NULL) return NULL;
    peers_cond_init(&remote->changed);
    remote->swarm = swarm;
    remote->peers = swarm->peers;
    remote->wire = swarm->wire;
    remote->chunk = chunk;
    remote->rows = malloc(bytes);
    remote->hops = calloc(route->n_hops, sizeof *remote->hops);
    if (remote->rows == NULL || remote->hops == NULL) {
        remote_free(remote);
        return NULL;
    }
    remote->n_hops = route->n_hops;
    pthread_mutex_lock(&swarm->peers->lock);
    for (uint32_t i = 0; i < route->n_hops; i++) {
        struct remote_hop *hop = &remote->hops[i];
        struct peer *peer = choice->peers[route->hops[i].server];
        *hop = (struct remote_hop){.remote = remote, .peer = peer, .ref = peer->ref};
        hop->begin = route->hops[i].begin;
        hop->end = route->hops[i].end;
        snprintf(hop->label, sizeof hop->label, "%s (blocks %u:%u)", peer->label, hop->begin, hop->end);
        peer->uses++;
    }
    pthread_mutex_unlock(&swarm->peers->lock);
    rand_bytes(remote->id, sizeof remote->id);
    return remote;
}

/* ---- waiting --------------------------------------------------------------------------------------------------- */

struct patience {
    const char *what; /* that did not happen, for the message */
    uint64_t wait_ms, deadline_us;
};

static struct patience patience_from_now(const char *what, uint64_t wait_ms) {
    return (struct patience){.what = what, .wait_ms = wait_ms, .deadline_us = clock_us() + wait_ms * 1000};
}

/* Looks for a reason to give up, then waits for a change. The lock is held. */
static enum corolla_status wait_more(struct remote *remote, const struct patience *patience, struct corolla_error *err) {
    if (remote->failed || remote->broken) {
        if (err != NULL) *err = remote->error;
        return remote->error.status;
    }
    if (session_cancelled(&remote->base)) return session_cancel_error(err);
    if (clock_us() >= patience->deadline_us)
        return err_set(err, COROLLA_TIMEOUT, "%s within %llu ms: a server hangs, choose others", patience->what,
                       (unsigned long long)patience->wait_ms);
    peers_cond_wait(&remote->changed, &remote->peers->lock, patience->deadline_us, WAKE_MS);
    return COROLLA_OK;
}

static enum corolla_status wait_open(struct remote *remote, uint32_t timeout_ms, struct corolla_error *err) {
    enum corolla_status status = COROLLA_OK;
    struct patience patience = patience_from_now("not every server opened the session", timeout_ms);
    pthread_mutex_lock(&remote->peers->lock);
    while (status == COROLLA_OK && (remote->failed || remote->n_open < remote->n_hops)) status = wait_more(remote, &patience, err);
    for (uint32_t i = 0; i < remote->n_hops; i++)
        if (remote->hops[i].opened || status == COROLLA_TIMEOUT)
            peer_note(remote->hops[i].peer, remote->hops[i].opened ? COROLLA_OK : status);
    pthread_mutex_unlock(&remote->peers->lock);
    return status;
}

/* Waits for the oldest flight and takes it out of the ring. */
static enum corolla_status wait_flight(struct remote *remote, struct flight *out_flight, struct corolla_error *err) {
    enum corolla_status status = COROLLA_OK;
    uint64_t rows = 0;
    pthread_mutex_lock(&remote->peers->lock);
    for (uint32_t i = 0; i < remote->count; i++) rows += remote->flights[(remote->head + i) % REMOTE_FLIGHTS].n;
    struct patience patience = patience_from_now("no result came back through the chain", STEP_BASE_MS + rows * STEP_PER_TOKEN_MS);
    struct flight *flight = &remote->flights[remote->head];
    while (status == COROLLA_OK && !flight->done) status = wait_more(remote, &patience, err);
    if (status == COROLLA_OK) {
        *out_flight = *flight;
        flight->body = NULL;
        remote->head = (remote->head + 1) % REMOTE_FLIGHTS;
        remote->count--;
    }
    pthread_mutex_unlock(&remote->peers->lock);
    return status;
}

/* ---- runs ------------------------------------------------------------------------------------------------------ */

/* Puts the rows [begin, begin + n) of a run into the ring and tells the loop thread. */
static enum corolla_status launch(struct remote *remote, const struct session_run *run, uint32_t begin, uint32_t n,
                                  struct corolla_error *err) {
    size_t values = (size_t)n * remote->base.n_embd;
    const float *rows = remote->rows;
    if (run->tokens != NULL) {
        enum corolla_status status = swarm_embed(remote->swarm, run->tokens + begin, n, remote->rows, err);
        if (status != COROLLA_OK) return status;
    } else {
        rows = run->hidden + (size_t)begin * remote->base.n_embd;
    }
    struct body *body = net_body_new(remote->peers->net, values * msg_wire_size(remote->wire));
    if (body == NULL) return err_set(err, COROLLA_NOMEM, "out of memory for a step of %u rows", n);
    convert_from_f32(remote->wire, rows, body->data, values);
    uint32_t at;
    pthread_mutex_lock(&remote->peers->lock);
    struct flight *flight = &remote->flights[(remote->head + remote->count++) % REMOTE_FLIGHTS];
    flight->position = run->position + begin;
    flight->n = n;
    flight->n_rows = session_rows_wanted(run, begin, n, &at);
    flight->sent = flight->done = false;
    flight->body = body;
    pthread_mutex_unlock(&remote->peers->lock);
    net_post(remote->peers->net, remote_loop_send, remote);
    return COROLLA_OK;
}

/* Takes the rows of a result that is back. */
static enum corolla_status land(struct remote *remote, const struct session_run *run, const struct flight *flight,
                                struct corolla_error *err) {
    struct corolla_session *session = &remote->base;
    for (uint32_t i = 0; i < flight->n_timings && i < remote->n_hops; i++) {
        session->timings[i].queue_us += flight->timings[i].queue_us;
        session->timings[i].compute_us += flight->timings[i].compute_us;
    }
    session->position = flight->position + flight->n;
    if (flight->body == NULL) return COROLLA_OK;
    uint32_t at, wanted = session_rows_wanted(run, flight->position - run->position, flight->n, &at);
    size_t values = (size_t)wanted * session->n_embd;
    float *out = run->out + (size_t)at * session->n_embd;
    convert_to_f32(remote->wire, flight->body->data, out, values);
    net_body_free(remote->peers->net, flight->body);
    for (size_t i = 0; i < values; i++)
        if (!isfinite(out[i]))
            return err_set(err, COROLLA_PEER_FAULT, "%s returned values that are not finite", remote->hops[remote->n_hops - 1].label);
    return COROLLA_OK;
}

/* What one token took counts for who is chosen later: what each hop says of its step, and a part of what nobody accounts for. */
static void note_speed(struct remote *remote, uint64_t total_us) {
    const struct corolla_session *session = &remote->base;
    float accounted = 0;
    pthread_mutex_lock(&remote->peers->lock);
    for (uint32_t i = 0; i < remote->n_hops; i++)
        accounted += (float)session->timings[i].compute_us + (float)session->timings[i].queue_us + (float)remote->hops[i].peer->rtt_us;
    float rest = (float)total_us > accounted ? ((float)total_us - accounted) / (float)remote->n_hops : 0;
    for (uint32_t i = 0; i < remote->n_hops; i++)
        peer_seen(remote->hops[i].peer, remote->hops[i].end - remote->hops[i].begin, (float)session->timings[i].compute_us + rest);
    pthread_mutex_unlock(&remote->peers->lock);
}

/* A clean start after a run that failed; the error of a session that is lost. */
static enum corolla_status begin_run(struct remote *remote, struct corolla_error *err) {
    enum corolla_status status = COROLLA_OK;
    pthread_mutex_lock(&remote->peers->lock);
    if (remote->broken) {
        status = remote->error.status;
        if (err != NULL) *err = remote->error;
    } else if (remote->dirty || remote->failed) {
        remote_drop_bodies(remote);
        remote->failed = false;
        remote->epoch++;
    }
    pthread_mutex_unlock(&remote->peers->lock);
    if (status == COROLLA_OK) remote->dirty = false;
    return status;
}

static enum corolla_status remote_step(struct corolla_session *session, const struct session_run *run, struct corolla_error *err) {
    struct remote *remote = (struct remote *)session;
    enum corolla_status status = begin_run(remote, err);
    if (status != COROLLA_OK) return status;
    session->n_timings = remote->n_hops;
    memset(session->timings, 0, remote->n_hops * sizeof *session->timings);
    uint32_t launched = 0, under_way = 0;
    uint64_t start_us = clock_us();
    session->position = run->position; /* what the hops keep for certain until results come */
    while (launched < run->n || under_way > 0) {
        if (launched < run->n && under_way < REMOTE_FLIGHTS) {
            uint32_t n = run->n - launched < remote->chunk ? run->n - launched : remote->chunk;
            status = session_cancelled(session) ? session_cancel_error(err) : launch(remote, run, launched, n, err);
            if (status != COROLLA_OK) break;
            launched += n;
            under_way++;
            continue;
        }
        struct flight flight;
        status = wait_flight(remote, &flight, err);
        if (status == COROLLA_OK) status = land(remote, run, &flight, err);
        if (status != COROLLA_OK) break;
        under_way--;
        if (run->progress != NULL) run->progress(run->user, "prompt", session->position - run->position, run->n);
    }
    remote->dirty = status != COROLLA_OK;
    if (status == COROLLA_OK && run->n == 1) note_speed(remote, clock_us() - start_us);
    return status;
}

static enum corolla_status remote_logits(struct corolla_session *session, const float *hidden, uint32_t n, float *out,
                                         struct corolla_error *err) {
    return swarm_logits(((struct remote *)session)->swarm, hidden, n, out, err);
}

static void remote_close(struct corolla_session *session) {
    struct remote *remote = (struct remote *)session;
    net_post(remote->peers->net, remote_loop_close, remote);
}

static const struct session_ops remote_ops = {.step = remote_step, .logits = remote_logits, .close = remote_close};

enum corolla_status remote_open(struct corolla_session **out_session, struct corolla_swarm *swarm, const struct choice *choice,
                                uint32_t max_tokens, struct corolla_error *err) {
    struct remote *remote = remote_new(swarm, choice, max_tokens);
    if (remote == NULL) return err_set(err, COROLLA_NOMEM, "out of memory for a session");
    session_init(&remote->base, &remote_ops, swarm->model, max_tokens);
    net_post(remote->peers->net, remote_loop_open, remote);
    enum corolla_status status = wait_open(remote, swarm->timeout_ms, err);
    if (status != COROLLA_OK) {
        remote_close(&remote->base);
        return status;
    }
    *out_session = &remote->base;
    return COROLLA_OK;
}
