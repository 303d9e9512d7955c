/* view.c - the public functions that look at a swarm without a model file: who is there, what they hold, which chain one would take. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "client/choose.h"

#define TIMEOUT_DEFAULT_MS 10000
#define INFO_AGE_MS 2000 /* a watcher looks about as often */

struct corolla_view {
    struct peers *peers;
    uint32_t timeout_ms;
};

void corolla_view_config_default(struct corolla_view_config *config) { *config = (struct corolla_view_config){.n_joins = 0}; }

enum corolla_status corolla_view_open(struct corolla_view **out_view, const struct corolla_view_config *config, struct corolla_error *err) {
    if (out_view == NULL || config == NULL) return err_set(err, COROLLA_INVALID, "a view needs a configuration");
    struct corolla_view *view = calloc(1, sizeof *view);
    if (view == NULL) return err_set(err, COROLLA_NOMEM, "out of memory for a view");
    view->timeout_ms = config->timeout_ms > 0 ? config->timeout_ms : TIMEOUT_DEFAULT_MS;
    struct peers_config peers = {.home = config->home, .joins = config->joins, .n_joins = config->n_joins, .lan = config->lan};
    peers.timeout_ms = view->timeout_ms;
    enum corolla_status status = peers_open(&view->peers, &peers, err);
    if (status == COROLLA_OK) {
        peers_settle(view->peers, clock_us() + (uint64_t)view->timeout_ms * 1000);
        struct corolla_error why;
        if (peers_first_error(view->peers, &why)) status = err_set(err, why.status, "%s", why.message);
    }
    if (status != COROLLA_OK) {
        corolla_view_close(view);
        return status;
    }
    *out_view = view;
    return COROLLA_OK;
}

void corolla_view_close(struct corolla_view *view) {
    if (view == NULL) return;
    peers_close(view->peers);
    free(view);
}

/* ---- servers --------------------------------------------------------------------------------------------------- */

static float tokens_per_s(float block_us, const struct record *r) {
    return block_us > 0 ? 1e6f / block_us / (float)(r->end - r->begin) : 0;
}

static void describe(const struct peer *peer, struct corolla_view_server *out) {
    static const char *const states[] = {"joining", "online", "draining", "offline", "loading"};
    const struct record *r = &peer->record;
    *out = (struct corolla_view_server){.begin = r->begin, .end = r->end, .n_blocks = r->n_blocks, .exact = r->exact};
    _Static_assert(sizeof out->node >= NODE_ID_TEXT && sizeof out->name >= NAME_SIZE, "a server's id and names fit");
    node_id_format(&peer->ref.id, out->node);
    hex_encode(r->model, ID_SIZE, out->model_id);
    snprintf(out->model_name, sizeof out->model_name, "%s", r->model_name);
    snprintf(out->name, sizeof out->name, "%s", r->name);
    snprintf(out->version, sizeof out->version, "%s", r->version);
    snprintf(out->state, sizeof out->state, "%s", peer->suspected ? "suspected" : states[r->state]);
    out->decode_tokens_per_s = tokens_per_s(r->decode_block_us, r);
    out->prefill_tokens_per_s = tokens_per_s(r->prefill_block_us, r);
    out->cache_tokens_left = r->cache_tokens_left;
    out->sessions = r->sessions;
    out->rtt_us = peer->rtt_us;
}

static int by_place(const void *a, const void *b) {
    const struct corolla_view_server *x = a, *y = b;
    int order = strcmp(x->model_id, y->model_id);
    if (order == 0) order = (x->begin > y->begin) - (x->begin < y->begin);
    if (order == 0) order = (x->end > y->end) - (x->end < y->end);
    return order != 0 ? order : strcmp(x->node, y->node);
}

enum corolla_status corolla_view_servers(struct corolla_view *view, struct corolla_view_server **out_servers, size_t *out_count,
                                         struct corolla_error *err) {
    struct peers *peers = view->peers;
    size_t n = 0;
    pthread_mutex_lock(&peers->lock);
    struct corolla_view_server *list = calloc(peers->n + 1, sizeof *list);
    for (size_t i = 0; list != NULL && i < peers->n; i++)
        if (peers->list[i]->has_record) describe(peers->list[i], &list[n++]);
    pthread_mutex_unlock(&peers->lock);
    if (list == NULL) return err_set(err, COROLLA_NOMEM, "out of memory for a view");
    qsort(list, n, sizeof *list, by_place);
    *out_servers = list;
    *out_count = n;
    return COROLLA_OK;
}

/* ---- the chain ------------------------------------------------------------------------------------------------- */

enum corolla_status corolla_view_chain(struct corolla_view *view, const char *model_id, uint32_t n_blocks,
                                       struct corolla_hop out_hops[COROLLA_HOPS_MAX], size_t *out_count, float *out_tokens_per_s,
                                       struct corolla_error *err) {
    uint8_t model[ID_SIZE];
    if (strlen(model_id) != (size_t)2 * ID_SIZE || !hex_decode(model_id, model, ID_SIZE))
        return err_set(err, COROLLA_INVALID, "a model id has %d hex digits", 2 * ID_SIZE);
    struct choose_config config = {
        .whole = true, .model = model, .n_blocks = n_blocks, .wire = COROLLA_WIRE_F32, .forgive = true, .age_ms = INFO_AGE_MS};
    struct choice choice;
    config.deadline_us = clock_us() + (uint64_t)view->timeout_ms * 1000;
    enum corolla_status status = choose_route(view->peers, &config, &choice, err);
    if (status != COROLLA_OK) return status;
    pthread_mutex_lock(&view->peers->lock);
    for (uint32_t i = 0; i < choice.route.n_hops; i++) {
        const struct route_hop *from = &choice.route.hops[i];
        const struct peer *peer = choice.peers[from->server];
        out_hops[i] = (struct corolla_hop){.begin = from->begin, .end = from->end, .exact = choice.servers[from->server].exact};
        node_id_format(&peer->ref.id, out_hops[i].node);
        snprintf(out_hops[i].name, sizeof out_hops[i].name, "%s", peer->info.name);
        out_hops[i].decode_tokens_per_s = peer->info.decode_tokens_per_s;
        out_hops[i].prefill_tokens_per_s = peer->info.prefill_tokens_per_s;
    }
    pthread_mutex_unlock(&view->peers->lock);
    *out_count = choice.route.n_hops;
    *out_tokens_per_s = choice.route.time_ns > 0 ? 1e9f / (float)choice.route.time_ns : 0;
    choice_clear(&choice);
    return COROLLA_OK;
}

/* ---- orders ---------------------------------------------------------------------------------------------------- */

/* The one server whose id begins with the digits. */
static struct peer *find_named(struct peers *peers, const char *node, struct corolla_error *err) {
    struct peer *found = NULL;
    for (size_t i = 0; i < peers->n; i++) {
        char id[NODE_ID_TEXT];
        node_id_format(&peers->list[i]->ref.id, id);
        if (strncmp(id, node, strlen(node)) != 0) continue;
        if (strcmp(id, node) == 0) return peers->list[i];
        if (found != NULL) {
            err_set(err, COROLLA_INVALID, "several servers begin with %.70s: give more of its id", node);
            return NULL;
        }
        found = peers->list[i];
    }
    if (found == NULL) err_set(err, COROLLA_NOT_FOUND, "there is no server %.70s in this swarm", node);
    return found;
}

enum corolla_status corolla_view_pause(struct corolla_view *view, const char *node, bool paused, struct corolla_error *err) {
    struct corolla_error error = {.status = COROLLA_OK};
    pthread_mutex_lock(&view->peers->lock);
    struct peer *peer = find_named(view->peers, node, &error);
    pthread_mutex_unlock(&view->peers->lock);
    if (peer == NULL) return err_set(err, error.status, "%s", error.message);
    uint64_t deadline_us = clock_us() + (uint64_t)view->timeout_ms * 1000;
    return peers_order(view->peers, peer, paused ? MSG_PAUSE : MSG_RESUME, deadline_us, err);
}
