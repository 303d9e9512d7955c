/* lane.c - the caller's side of the steps of a session: what they are made of, sending them on their way, waiting for them.
 *
 * While it waits the caller wakes every 50 ms to look at the flag of cancellation, which a signal handler may set and which
 * therefore cannot signal a condition variable. Nothing is allocated per step but the message bodies, which come from a pool.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "client/remote.h"
#include "model/convert.h"

#define WAKE_MS 50
/* How long a step may take: so many times what its servers say that it takes, and a base for what they do not know of. */
#define PATIENCE_BASE_MS 5000
#define PATIENCE_FACTOR 10
#define PATIENCE_ROW_US 250000 /* of a chain that says nothing: a very slow computer under a very big model */

/* ---- what stands at the positions ------------------------------------------------------------------------------ */

/* The log has no holes: rows up to position are there, of which those that were tokens are never read. */
static bool fill_hidden(struct remote *remote, uint32_t position) {
    if (remote->hidden == NULL) remote->hidden = row_log_new(remote->base.max_tokens, remote->base.n_embd * sizeof(float));
    bool ok = remote->hidden != NULL;
    while (ok && row_log_length(remote->hidden) < position)
        ok = row_log_put(remote->hidden, row_log_length(remote->hidden), 1, remote->rows);
    return ok;
}

static bool remember_hidden(struct remote *remote, const struct session_run *run) {
    const struct remote *parent = (const struct remote *)run->parent;
    if (parent != NULL && parent->hidden != NULL &&
        !(fill_hidden(remote, run->shared) && row_log_copy(remote->hidden, parent->hidden, run->shared, run->position)))
        return false;
    return run->hidden == NULL || (fill_hidden(remote, run->position) && row_log_put(remote->hidden, run->position, run->n, run->hidden));
}

enum corolla_status lane_remember(struct remote *remote, const struct session_run *run, struct corolla_error *err) {
    return remember_hidden(remote, run) ? COROLLA_OK : err_set(err, COROLLA_NOMEM, "out of memory for %u rows", run->n);
}

uint32_t lane_chunk(const struct remote *remote, uint32_t position, uint32_t end) {
    uint32_t n = 1, max = end - position < remote->chunk ? end - position : remote->chunk;
    const int32_t *tokens = remote->base.tokens + position;
    bool hidden = tokens[0] == TOKEN_HIDDEN;
    while (n < max && (tokens[n] == TOKEN_HIDDEN) == hidden) n++;
    return n;
}

/* The input of block 0 at the positions, as it goes on the wire. */
static enum corolla_status make_rows(struct remote *remote, uint32_t position, uint32_t n, struct body *body, struct corolla_error *err) {
    const int32_t *tokens = remote->base.tokens + position;
    if (tokens[0] == TOKEN_HIDDEN) {
        if (!row_log_get(remote->hidden, position, n, remote->rows)) return err_set(err, COROLLA_INTERNAL, "a row was not kept");
    } else {
        enum corolla_status status = swarm_embed(remote->base.swarm, position, tokens, n, remote->rows, err);
        if (status != COROLLA_OK) return status;
    }
    convert_from_f32(remote->wire, remote->rows, body->data, (size_t)n * remote->base.n_embd);
    return COROLLA_OK;
}

/* ---- under way ------------------------------------------------------------------------------------------------- */

enum corolla_status lane_launch(struct remote *remote, struct lane *lane, uint32_t position, uint32_t n, uint32_t n_rows, uint32_t first,
                                struct corolla_error *err) {
    struct body *body = NULL;
    if (first == 0 && lane->from == NULL) {
        body = net_body_new(remote->peers->net, (size_t)n * remote->base.n_embd * msg_wire_size(remote->wire));
        if (body == NULL) return err_set(err, COROLLA_NOMEM, "out of memory for a step of %u rows", n);
        enum corolla_status status = make_rows(remote, position, n, body, err);
        if (status != COROLLA_OK) {
            net_body_free(remote->peers->net, body);
            return status;
        }
    }
    pthread_mutex_lock(&remote->peers->lock);
    struct flight *flight = &lane->flights[(lane->head + lane->count++) % REMOTE_FLIGHTS];
    flight->position = position;
    flight->n = n;
    flight->n_rows = n_rows;
    flight->first = first;
    flight->copies = lane == &remote->chain && remote->copy.due;
    if (flight->copies) remote->copy.due = false;
    flight->sent = flight->done = false;
    flight->body = body;
    pthread_mutex_unlock(&remote->peers->lock);
    net_post(remote->peers->net, remote_loop_send, remote);
    return COROLLA_OK;
}

void lane_clear(struct remote *remote, struct lane *lane) {
    for (uint32_t i = 0; i < REMOTE_FLIGHTS; i++) {
        if (lane->flights[i].body != NULL) net_body_free(remote->peers->net, lane->flights[i].body);
        lane->flights[i].body = NULL;
    }
    lane->head = lane->count = 0;
}

static void take_out(struct lane *lane, struct flight *out_flight) {
    struct flight *flight = &lane->flights[lane->head];
    *out_flight = *flight;
    flight->body = NULL;
    lane->head = (lane->head + 1) % REMOTE_FLIGHTS;
    lane->count--;
}

/* Of all that is under way, by what the servers say of themselves. The lock is held. */
static uint64_t patience_ms(const struct lane *lane) {
    uint64_t rows = 0, us = 0;
    for (uint32_t i = 0; i < lane->count; i++) rows += lane->flights[(lane->head + i) % REMOTE_FLIGHTS].n;
    for (uint32_t i = 0; i < lane->n_hops; i++) {
        const struct remote_hop *hop = lane->hops[i];
        const struct msg_info *info = &hop->peer->info;
        float per_s = info->decode_tokens_per_s;
        uint64_t row_us = per_s > 0 ? (uint64_t)(1e6f / per_s) + 1 : PATIENCE_ROW_US / PATIENCE_FACTOR;
        us += rows * row_us + hop->peer->rtt_us;
    }
    return PATIENCE_BASE_MS + us * PATIENCE_FACTOR / 1000;
}

enum corolla_status lane_wait(struct remote *remote, struct lane *lane, struct flight *out_flight, struct corolla_error *err) {
    enum corolla_status status = COROLLA_OK;
    pthread_mutex_lock(&remote->peers->lock);
    uint64_t wait_ms = patience_ms(lane), deadline_us = clock_us() + wait_ms * 1000;
    const struct flight *flight = &lane->flights[lane->head];
    while (status == COROLLA_OK && !flight->done) {
        if (remote->failed) {
            status = remote->error.status;
            if (err != NULL) *err = remote->error;
        } else if (session_cancelled(&remote->base)) {
            status = session_cancel_error(err);
        } else if (clock_us() >= deadline_us) {
            status = err_set(err, COROLLA_TIMEOUT, "no result came back through the chain within %llu ms", (unsigned long long)wait_ms);
        } else {
            peers_cond_wait(&remote->changed, &remote->peers->lock, deadline_us, WAKE_MS);
        }
    }
    if (status == COROLLA_OK) take_out(lane, out_flight);
    pthread_mutex_unlock(&remote->peers->lock);
    return status;
}

bool lane_poll(struct remote *remote, struct lane *lane, struct flight *out_flight) {
    pthread_mutex_lock(&remote->peers->lock);
    bool done = lane->count > 0 && lane->flights[lane->head].done;
    if (done) take_out(lane, out_flight);
    pthread_mutex_unlock(&remote->peers->lock);
    return done;
}
