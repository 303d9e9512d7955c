/* server.c - the public server: an engine, then a node with its identity, net and mesh goes online and finds out what to host. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "handle/model.h"
#include "mesh/membership.h"
#include "node/control.h"

#define ENROLL_MS 10000 /* for the first contact with a private swarm */
#define LEAVE_MS 30000  /* for active sessions to go on elsewhere */
#define LEAVE_POLL_MS 20

struct corolla_server {
    const struct corolla_model *model;
    struct engine *engine;
    struct identity *identity;
    struct membership *membership;
    struct node *node;
    struct net *net;
    struct mesh *mesh;
    struct control *control;
    uint8_t (*trusted)[KEY_SIZE]; /* the first one is our own */
    char join_code[JOIN_CODE_MAX];
};

void corolla_server_config_default(struct corolla_server_config *config) { *config = (struct corolla_server_config){.listen = "[::]:0"}; }

static enum corolla_status open_membership(struct corolla_server *server, const struct corolla_server_config *config,
                                           struct corolla_error *err) {
    struct membership_config membership = {.identity = server->identity,
                                           .home = config->home,
                                           .swarm_key = config->swarm_key,
                                           .joins = config->joins,
                                           .n_joins = config->n_joins,
                                           .role = COROLLA_ROLE_SERVER,
                                           .timeout_ms = ENROLL_MS};
    return membership_open(&server->membership, &membership, err);
}

static enum corolla_status open_net(struct corolla_server *server, const struct corolla_server_config *config, struct corolla_error *err) {
    struct net_config net;
    net_config_default(&net);
    net.identity = server->identity;
    net.listen = config->listen;
    net.announces = config->announces;
    net.n_announces = config->n_announces;
    net.upload_bytes_per_s = config->upload_bytes_per_s;
    net.events = node_events(server->node);
    membership_guard(server->membership, &net);
    enum corolla_status status = net_open(&server->net, &net, err);
    if (status == COROLLA_OK) status = membership_start(server->membership, server->net, err);
    if (status == COROLLA_OK) membership_join_code(server->membership, net_self(server->net), server->join_code);
    return status;
}

static enum corolla_status open_mesh(struct corolla_server *server, const struct corolla_server_config *config, struct corolla_error *err) {
    struct mesh_config mesh = {.net = server->net,
                               .identity = server->identity,
                               .membership = server->membership,
                               .home = config->home,
                               .joins = config->joins,
                               .n_joins = config->n_joins,
                               .lan = config->lan,
                               .in_use = node_in_use,
                               .user = server->node};
    return mesh_open(&server->mesh, &mesh, err);
}

static enum corolla_status read_trusted(struct corolla_server *server, const struct corolla_server_config *config,
                                        struct corolla_error *err) {
    server->trusted = calloc(config->n_trusted + 1, KEY_SIZE);
    if (!server->trusted) return err_set(err, COROLLA_NOMEM, "out of memory for a server");
    for (size_t i = 0; i < config->n_trusted; i++)
        if (strlen(config->trusted[i]) != 2 * KEY_SIZE || !hex_decode(config->trusted[i], server->trusted[i + 1], KEY_SIZE))
            return err_set(err, COROLLA_INVALID, "%.80s is no key: `corolla key show` prints one, of %d hex digits", config->trusted[i],
                           2 * KEY_SIZE);
    return COROLLA_OK;
}

static enum corolla_status go_online(struct corolla_server *server, const struct corolla_server_config *config, struct corolla_error *err) {
    const struct model_file *file = server->model->file;
    struct node_config node = {
        .hparams = model_file_hparams(file), .model = model_file_id(file), .model_name = model_file_name(file), .name = config->name};
    enum corolla_status status = read_trusted(server, config, err);
    if (status != COROLLA_OK) return status;
    node.quota = (struct sessions_quota){.max_clients = config->max_clients, .client_percent = config->client_percent};
    node.quota.trusted = (const uint8_t(*)[KEY_SIZE])server->trusted;
    node.quota.n_trusted = config->n_trusted + 1;
    node.share_prefixes = config->share_prefixes;
    server->node = node_new(&node);
    if (!server->node) return err_set(err, COROLLA_NOMEM, "out of memory for a server");
    status = identity_open(&server->identity, config->home, err);
    if (status == COROLLA_OK) status = open_membership(server, config, err);
    if (status == COROLLA_OK && config->share_prefixes && membership_certificate(server->membership)->size == 0)
        status = err_set(err, COROLLA_INVALID, "beginnings are shared between clients in private swarms only");
    if (status == COROLLA_OK) status = open_net(server, config, err);
    if (status == COROLLA_OK) memcpy(server->trusted[0], net_self(server->net)->id.key, KEY_SIZE);
    if (status == COROLLA_OK) status = open_mesh(server, config, err);
    return status == COROLLA_OK ? node_start(server->node, server->net, server->mesh, err) : status;
}

static enum corolla_status host_blocks(struct corolla_server *server, const struct corolla_server_config *config,
                                       struct corolla_error *err) {
    struct control_config control = {.node = server->node, .mesh = server->mesh, .fixed = config->end > 0, .n_blocks = config->n_blocks};
    control.host = (struct host_config){.engine = server->engine,
                                        .file = server->model->file,
                                        .begin = config->begin,
                                        .end = config->end,
                                        .kv = config->kv,
                                        .cache_tokens = config->cache_tokens,
                                        .swap_bytes = config->swap_bytes,
                                        .home = config->home,
                                        .memory_max = config->memory_max};
    return control_open(&server->control, &control, err);
}

static enum corolla_status check_config(const struct corolla_model *model, const struct corolla_server_config *config,
                                        struct corolla_error *err) {
    uint32_t n_blocks = model->info.n_blocks;
    if ((config->end > 0 && config->begin >= config->end) || config->end > n_blocks)
        return err_set(err, COROLLA_INVALID, "blocks %u:%u are not a part of the model's 0:%u", config->begin, config->end, n_blocks);
    if (config->n_blocks > n_blocks)
        return err_set(err, COROLLA_INVALID, "%u blocks are more than the model's %u", config->n_blocks, n_blocks);
    if (config->client_percent > 100)
        return err_set(err, COROLLA_INVALID, "a client has at most 100 percent of the cache, not %u", config->client_percent);
    if (!config->listen) return err_set(err, COROLLA_INVALID, "a server needs an address to listen on, such as [::]:0");
    return COROLLA_OK;
}

enum corolla_status corolla_server_start(struct corolla_server **out_server, struct corolla_model *model,
                                         const struct corolla_server_config *config, struct corolla_error *err) {
    if (!out_server || !model || !config)
        return err_set(err, COROLLA_INVALID, "server_start needs a model, a config and a place for the server");
    enum corolla_status status = check_config(model, config, err);
    if (status != COROLLA_OK) return status;
    struct corolla_server *server = calloc(1, sizeof *server);
    if (!server) return err_set(err, COROLLA_NOMEM, "out of memory for a server");
    server->model = model;
    struct engine_config engine = {.threads = config->threads, .device = config->device, .fast = config->fast};
    status = engine_new(&server->engine, &engine, err); /* before anybody hears of us: it may fail */
    if (status == COROLLA_OK) status = go_online(server, config, err);
    if (status == COROLLA_OK) status = host_blocks(server, config, err);
    if (status != COROLLA_OK) {
        corolla_server_stop(server);
        return status;
    }
    *out_server = server;
    return COROLLA_OK;
}

const char *corolla_server_join_code(const struct corolla_server *server) { return server->join_code; }

struct span_look {
    const struct node *node;
    uint32_t begin, end;
};

static void look_at_span(void *user) {
    struct span_look *look = user;
    look->begin = look->node->info.begin;
    look->end = look->node->info.end;
}

void corolla_server_span(const struct corolla_server *server, uint32_t *out_begin, uint32_t *out_end) {
    struct span_look look = {.node = server->node};
    node_call(server->node, look_at_span, &look);
    *out_begin = look.begin;
    *out_end = look.end;
}

const char *corolla_server_why(const struct corolla_server *server) { return control_why(server->control); }

void corolla_server_pause(struct corolla_server *server, bool paused) { node_set_drain(server->node, NODE_DRAIN_PAUSED, paused); }

void corolla_server_stats(const struct corolla_server *server, struct corolla_server_stats *out) { node_stats(server->node, out); }

uint32_t corolla_server_active(const struct corolla_server *server) { return node_active(server->node); }

static void leave(struct node *node) {
    uint64_t deadline_ms = clock_life_ms() + LEAVE_MS;
    node_set_drain(node, NODE_DRAIN_LEAVING, true);
    while (node_active(node) > 0 && clock_life_ms() < deadline_ms) nanosleep(&(struct timespec){.tv_nsec = LEAVE_POLL_MS * 1000000L}, NULL);
}

void corolla_server_stop(struct corolla_server *server) {
    if (!server) return;
    bool served = server->control != NULL;
    control_close(server->control); /* no moves any more */
    if (served) leave(server->node);
    if (server->node) node_stop(server->node);
    mesh_close(server->mesh);
    if (server->net) net_close(server->net);
    node_free(server->node);
    membership_close(server->membership);
    identity_close(server->identity);
    engine_free(server->engine);
    free(server->trusted);
    free(server);
}
