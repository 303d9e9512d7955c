/* server.c - the public server: an engine, a span, an identity, a net and a node, in this order, and back. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "handle/model.h"
#include "mesh/membership.h"
#include "node/memory.h"
#include "node/node.h"

#define CACHE_TOKENS_DEFAULT 16384 /* a few users with some thousand tokens each */
#define ENROLL_MS 10000            /* for the first contact with a private swarm */

struct corolla_server {
    struct engine *engine;
    struct span *span;
    struct identity *identity;
    struct membership *membership;
    struct node *node;
    struct net *net;
    uint32_t begin, end;
    char join_code[JOIN_CODE_MAX];
};

void corolla_server_config_default(struct corolla_server_config *config) {
    *config = (struct corolla_server_config){.listen = "0.0.0.0:0"};
}

static enum corolla_status plan_kv(const struct corolla_server *server, const struct model_file *file,
                                   const struct corolla_server_config *config, uint32_t *out_tokens, struct corolla_error *err) {
    const struct hparams *hp = model_file_hparams(file);
    struct memory_plan plan = {.available = memory_available(),
                               .weights = memory_of_weights(file, server->begin, server->end),
                               .kv_per_pad = span_kv_bytes(hp, server->end - server->begin, config->kv, KV_PAD),
                               .pad = KV_PAD,
                               .cache_tokens = config->cache_tokens,
                               .cache_tokens_default = CACHE_TOKENS_DEFAULT};
    return memory_cache_tokens(&plan, out_tokens, err);
}

static enum corolla_status load(struct corolla_server *server, const struct model_file *file, const struct corolla_server_config *config,
                                struct corolla_error *err) {
    const struct hparams *hp = model_file_hparams(file);
    uint32_t tokens = 0;
    struct engine_config engine = {.threads = config->threads, .device = config->device, .fast = config->fast};
    struct span_config span = {.begin = server->begin, .end = server->end, .kv = config->kv};
    enum corolla_status status = plan_kv(server, file, config, &tokens, err);
    span.kv_bytes = span_kv_bytes(hp, server->end - server->begin, config->kv, tokens);
    if (status == COROLLA_OK) status = engine_new(&server->engine, &engine, err);
    if (status == COROLLA_OK) status = span_load(&server->span, server->engine, file, &span, err);
    if (status != COROLLA_OK) return status;
    struct node_config node = {.span = server->span,
                               .model = model_file_id(file),
                               .model_name = model_file_name(file),
                               .name = config->name,
                               .session_tokens_max = hp->n_ctx_train < tokens ? hp->n_ctx_train : tokens};
    server->node = node_new(&node);
    return server->node ? COROLLA_OK : err_set(err, COROLLA_NOMEM, "out of memory for a server");
}

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

static enum corolla_status go_online(struct corolla_server *server, const struct corolla_server_config *config, struct corolla_error *err) {
    struct net_config net;
    enum corolla_status status = identity_open(&server->identity, config->home, err);
    if (status == COROLLA_OK) status = open_membership(server, config, err);
    if (status != COROLLA_OK) return status;
    net_config_default(&net);
    net.identity = server->identity;
    net.listen = config->listen;
    net.announces = config->announces;
    net.n_announces = config->n_announces;
    net.events = node_events(server->node);
    membership_guard(server->membership, &net);
    status = net_open(&server->net, &net, err);
    if (status == COROLLA_OK) status = membership_start(server->membership, server->net, err);
    if (status != COROLLA_OK) return status;
    membership_join_code(server->membership, net_self(server->net), server->join_code);
    log_info("serving blocks=%u:%u exact=%d decode_tokens_per_s=%.1f prefill_tokens_per_s=%.1f", server->begin, server->end,
             span_exact(server->span), (double)server->node->measure.decode_tokens_per_s,
             (double)server->node->measure.prefill_tokens_per_s);
    return node_start(server->node, server->net, err);
}

static enum corolla_status check_config(const struct corolla_model *model, const struct corolla_server_config *config,
                                        struct corolla_error *err) {
    uint32_t n_blocks = model->info.n_blocks, end = config->end ? config->end : n_blocks;
    if (config->begin >= end || end > n_blocks)
        return err_set(err, COROLLA_INVALID, "blocks %u:%u are not a part of the model's 0:%u", config->begin, end, n_blocks);
    if (!config->listen) return err_set(err, COROLLA_INVALID, "a server needs an address to listen on, such as 0.0.0.0:0");
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
    server->begin = config->begin;
    server->end = config->end ? config->end : model->info.n_blocks;
    status = load(server, model->file, config, err);
    if (status == COROLLA_OK) status = go_online(server, config, err);
    if (status != COROLLA_OK) {
        corolla_server_stop(server);
        return status;
    }
    *out_server = server;
    return COROLLA_OK;
}

const char *corolla_server_join_code(const struct corolla_server *server) { return server->join_code; }

void corolla_server_span(const struct corolla_server *server, uint32_t *out_begin, uint32_t *out_end) {
    *out_begin = server->begin;
    *out_end = server->end;
}

void corolla_server_stop(struct corolla_server *server) {
    if (!server) return;
    if (server->node) node_stop(server->node);
    if (server->net) net_close(server->net);
    node_free(server->node);
    membership_close(server->membership);
    identity_close(server->identity);
    span_free(server->span);
    engine_free(server->engine);
    free(server);
}
