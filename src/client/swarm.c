/* swarm.c - opening and closing a swarm, choosing its chain, and the turns at the engine. See swarm.h.
 *
 * A remote swarm asks its servers when it is opened, and again before a session when the answers are older than INFO_AGE_MS; each
 * session takes the chain that is best then.
 */
#include "client/swarm.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "client/choose.h"
#include "client/local.h"
#include "client/remote.h"

#define TIMEOUT_DEFAULT_MS 10000
#define WAIT_DEFAULT_MS 60000
#define HANG_DEFAULT_MS 4000
#define OPEN_TRIES 4 /* chains that are tried for one session, before it waits */
#define OPEN_AGAIN_MS 500
#define INFO_AGE_MS 5000 /* how old a server's word on its load may be when a session is opened */

void corolla_swarm_config_default(struct corolla_swarm_config *config) {
    *config = (struct corolla_swarm_config){.kv = COROLLA_KV_F16, .wire = COROLLA_WIRE_F32};
}

/* ---- turns at the engine --------------------------------------------------------------------------------------- */

void swarm_engine_enter(struct corolla_swarm *swarm) {
    struct turnstile *t = &swarm->turnstile;
    pthread_mutex_lock(&t->lock);
    uint64_t ticket = t->next++;
    while (t->serving != ticket) pthread_cond_wait(&t->moved, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

void swarm_engine_leave(struct corolla_swarm *swarm) {
    struct turnstile *t = &swarm->turnstile;
    pthread_mutex_lock(&t->lock);
    t->serving++;
    if (t->serving != t->next) pthread_cond_broadcast(&t->moved);
    pthread_mutex_unlock(&t->lock);
}

enum corolla_status swarm_embed(struct corolla_swarm *swarm, uint32_t position, const int32_t *tokens, uint32_t n, float *out_hidden,
                                struct corolla_error *err) {
    swarm_engine_enter(swarm);
    enum corolla_status status = edges_embed(swarm->edges, position, tokens, n, out_hidden, err);
    swarm_engine_leave(swarm);
    return status;
}

enum corolla_status swarm_logits(struct corolla_swarm *swarm, const float *hidden, uint32_t n, float *out_logits,
                                 struct corolla_error *err) {
    const struct corolla_model_info *info = &swarm->model->info;
    enum corolla_status status = COROLLA_OK;
    for (uint32_t i = 0; i < n && status == COROLLA_OK; i += BATCH_ROWS_MAX) {
        uint32_t rows = n - i < BATCH_ROWS_MAX ? n - i : BATCH_ROWS_MAX;
        swarm_engine_enter(swarm);
        status = edges_logits(swarm->edges, hidden + (size_t)i * info->n_embd, rows, out_logits + (size_t)i * info->n_vocab, err);
        swarm_engine_leave(swarm);
    }
    return status;
}

enum corolla_status swarm_session_logits(struct corolla_session *session, const float *hidden, uint32_t n, float *out_logits,
                                         struct corolla_error *err) {
    return swarm_logits(session->swarm, hidden, n, out_logits, err);
}

/* ---- chains ---------------------------------------------------------------------------------------------------- */

void swarm_remember(struct corolla_swarm *swarm, struct peer *const *peers, const struct route_hop *parts, uint32_t n, bool exact) {
    struct corolla_hop hops[HOPS_MAX];
    pthread_mutex_lock(&swarm->peers->lock);
    for (uint32_t i = 0; i < n; i++) {
        const struct peer *peer = peers[i];
        struct corolla_hop *hop = &hops[i];
        *hop = (struct corolla_hop){.begin = parts[i].begin, .end = parts[i].end, .exact = peer->info.exact};
        _Static_assert(sizeof hop->node >= NODE_ID_TEXT && sizeof hop->name >= NAME_SIZE, "a hop holds a node's id and name");
        node_id_format(&peer->ref.id, hop->node);
        snprintf(hop->name, sizeof hop->name, "%s", peer->info.name);
        hop->decode_tokens_per_s = peer->info.decode_tokens_per_s;
        hop->prefill_tokens_per_s = peer->info.prefill_tokens_per_s;
    }
    pthread_mutex_unlock(&swarm->peers->lock);
    pthread_mutex_lock(&swarm->lock);
    memcpy(swarm->hops, hops, n * sizeof *hops);
    swarm->n_hops = n;
    swarm->exact = exact;
    bool warn = !exact && !swarm->warned;
    swarm->warned |= warn;
    pthread_mutex_unlock(&swarm->lock);
    if (warn) log_warn("chain.inexact hops=%u reason=\"no exact chain covers all blocks, or the wire has 16 bits\"", n);
}

static void remember(struct corolla_swarm *swarm, const struct choice *choice) {
    const struct route *route = &choice->route;
    struct peer *peers[HOPS_MAX];
    for (uint32_t i = 0; i < route->n_hops; i++) peers[i] = choice->peers[route->hops[i].server];
    swarm_remember(swarm, peers, route->hops, route->n_hops, route->exact);
}

/* again: after a server failed or refused, when only others will do. */
static enum corolla_status choose(struct corolla_swarm *swarm, uint32_t max_tokens, bool again, struct choice *out_choice,
                                  struct corolla_error *err) {
    struct choose_config config = {.whole = true, .tokens = max_tokens, .wire = swarm->wire, .exact = swarm->want_exact, .forgive = !again};
    config.model = swarm->peers->model;
    config.n_blocks = swarm->peers->n_blocks;
    config.age_ms = INFO_AGE_MS;
    config.deadline_us = clock_us() + (uint64_t)swarm->timeout_ms * 1000;
    enum corolla_status status = choose_route(swarm->peers, &config, out_choice, err);
    if (status == COROLLA_OK) remember(swarm, out_choice);
    return status;
}

/* Whether another chain may do better than one whose opening failed so. */
static bool worth_another(enum corolla_status status) {
    return status != COROLLA_CANCELLED && status != COROLLA_NOMEM && status != COROLLA_INVALID && status != COROLLA_TOO_LONG;
}

/* A few chains, one after the other. */
static enum corolla_status try_chains(struct corolla_session **out_session, struct corolla_swarm *swarm, uint32_t max_tokens,
                                      const struct session_prompt *prompt, struct corolla_error *err) {
    struct corolla_error first = {.status = COROLLA_OK};
    for (uint32_t try = 0; try < OPEN_TRIES; try++) {
        struct choice choice = {.n = 0};
        struct corolla_error error = {.status = COROLLA_OK};
        enum corolla_status status = choose(swarm, max_tokens, try > 0, &choice, &error);
        bool chosen = status == COROLLA_OK;
        if (chosen) status = remote_open(out_session, swarm, &choice, max_tokens, prompt, &error);
        choice_clear(&choice);
        if (status == COROLLA_OK) return status;
        if (try == 0) first = error; /* what follows is its consequence */
        if (!chosen || !worth_another(status)) break;
    }
    *err = first;
    return first.status;
}

/* Whether servers may come back, or have room again. */
static bool worth_waiting(enum corolla_status status) {
    return status == COROLLA_NO_CHAIN || status == COROLLA_BUSY || status == COROLLA_NO_CACHE || status == COROLLA_PEER_LOST ||
           status == COROLLA_DRAINING || status == COROLLA_NOT_SERVED;
}

enum corolla_status swarm_session_open(struct corolla_session **out_session, struct corolla_swarm *swarm, uint32_t max_tokens,
                                       const struct session_prompt *prompt, struct corolla_error *err) {
    if (swarm->span != NULL) return local_open(out_session, swarm, max_tokens, err);
    struct corolla_error error = {.status = COROLLA_OK};
    uint64_t deadline_us = clock_us() + (uint64_t)swarm->wait_ms * 1000;
    enum corolla_status status = try_chains(out_session, swarm, max_tokens, prompt, &error);
    if (worth_waiting(status)) log_warn("open.waiting seconds=%u why=\"%s\"", swarm->wait_ms / 1000, error.message);
    while (worth_waiting(status) && clock_us() < deadline_us) {
        peers_pause(swarm->peers, OPEN_AGAIN_MS);
        status = try_chains(out_session, swarm, max_tokens, prompt, &error);
    }
    if (status != COROLLA_OK && err != NULL) *err = error;
    return status;
}

size_t corolla_swarm_chain(struct corolla_swarm *swarm, struct corolla_hop *out_hops, size_t max) {
    pthread_mutex_lock(&swarm->lock);
    size_t n = swarm->n_hops;
    if (out_hops != NULL) memcpy(out_hops, swarm->hops, (n < max ? n : max) * sizeof *out_hops);
    pthread_mutex_unlock(&swarm->lock);
    return n;
}

bool corolla_swarm_exact(struct corolla_swarm *swarm) {
    pthread_mutex_lock(&swarm->lock);
    bool exact = swarm->exact;
    pthread_mutex_unlock(&swarm->lock);
    return exact;
}

/* ---- opening and closing --------------------------------------------------------------------------------------- */

/* KV of a local swarm may take half of the machine's memory, all sessions together. */
static uint64_t local_kv_bytes(void) {
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages <= 0 || page <= 0) return UINT64_C(1) << 30;
    return (uint64_t)pages / 2 * (uint64_t)page;
}

static enum corolla_status open_local(struct corolla_swarm *swarm, const struct corolla_swarm_config *config, struct corolla_error *err) {
    const struct corolla_model_info *info = &swarm->model->info;
    struct span_config span = {.begin = 0, .end = info->n_blocks, .kv = config->kv, .kv_bytes = local_kv_bytes()};
    span.kv_planned = span_kv_bytes(model_file_hparams(swarm->model->file), info->n_blocks, config->kv, info->n_ctx_train);
    enum corolla_status status = span_load(&swarm->span, swarm->engine, swarm->model->file, &span, err);
    if (status != COROLLA_OK) return status;
    swarm->exact = span_exact(swarm->span);
    if (!swarm->exact && config->exact)
        return err_set(err, COROLLA_REFUSED, "this process (blocks 0:%u) does not compute exactly%s", info->n_blocks,
                       config->fast ? ": fast was chosen" : "");
    if (!swarm->exact) log_warn("chain.inexact hops=1 reason=\"this process does not compute exactly\"");
    swarm->n_hops = 1;
    swarm->hops[0] = (struct corolla_hop){.node = "local", .begin = 0, .end = info->n_blocks, .exact = swarm->exact};
    return COROLLA_OK;
}

static enum corolla_status open_remote(struct corolla_swarm *swarm, const struct corolla_swarm_config *config, struct corolla_error *err) {
    const struct corolla_model_info *info = &swarm->model->info;
    struct peers_config peers = {.home = config->home, .joins = config->joins, .n_joins = config->n_joins, .timeout_ms = swarm->timeout_ms};
    struct choice choice = {.n = 0};
    peers.n_embd = info->n_embd;
    peers.n_blocks = info->n_blocks;
    peers.lan = config->lan;
    peers.hang_ms = config->hang_ms == 0 ? HANG_DEFAULT_MS : config->hang_ms;
    peers.model = model_file_id(swarm->model->file);
    enum corolla_status status = peers_open(&swarm->peers, &peers, err);
    if (status == COROLLA_OK) status = choose(swarm, 0, false, &choice, err);
    choice_clear(&choice);
    return status;
}

enum corolla_status corolla_swarm_open(struct corolla_swarm **out_swarm, struct corolla_model *model,
                                       const struct corolla_swarm_config *config, struct corolla_error *err) {
    if (out_swarm == NULL || model == NULL || config == NULL)
        return err_set(err, COROLLA_INVALID, "a swarm needs a model and a configuration");
    if (msg_wire_size(config->wire) == 0) return err_set(err, COROLLA_INVALID, "there is no wire type %d", (int)config->wire);
    struct corolla_swarm *swarm = calloc(1, sizeof *swarm);
    if (swarm == NULL) return err_set(err, COROLLA_NOMEM, "out of memory for a swarm");
    pthread_mutex_init(&swarm->lock, NULL);
    pthread_mutex_init(&swarm->turnstile.lock, NULL);
    pthread_cond_init(&swarm->turnstile.moved, NULL);
    swarm->model = model;
    swarm->wire = config->wire;
    swarm->want_exact = config->exact;
    swarm->timeout_ms = config->timeout_ms == 0 ? TIMEOUT_DEFAULT_MS : config->timeout_ms;
    swarm->wait_ms = config->wait_ms == 0 ? WAIT_DEFAULT_MS : config->wait_ms;
    struct engine_config engine = {.threads = config->threads, .device = config->device, .fast = config->fast, .awake = config->local};
    if (engine.threads == 0 && !config->local) engine.threads = 1;
    enum corolla_status status = engine_new(&swarm->engine, &engine, err);
    if (status == COROLLA_OK) status = edges_load(&swarm->edges, swarm->engine, model->file, err);
    if (status == COROLLA_OK) status = config->local ? open_local(swarm, config, err) : open_remote(swarm, config, err);
    if (status != COROLLA_OK) {
        corolla_swarm_close(swarm);
        return status;
    }
    *out_swarm = swarm;
    return COROLLA_OK;
}

void corolla_swarm_close(struct corolla_swarm *swarm) {
    if (swarm == NULL) return;
    peers_close(swarm->peers);
    span_free(swarm->span);
    edges_free(swarm->edges);
    engine_free(swarm->engine);
    pthread_cond_destroy(&swarm->turnstile.moved);
    pthread_mutex_destroy(&swarm->turnstile.lock);
    pthread_mutex_destroy(&swarm->lock);
    free(swarm);
}
