/* mesh_probe.c - a server as the swarm sees it, without a model: mesh_probe HOME [JOIN...]. Listens on 127.0.0.1, tells a record of
 * itself, and prints "ready CODE", then "knows N" when the number of known nodes changes, itself included. Ends when its input does. */
#include <pthread.h>
#include <stdio.h>

#include "mesh/mesh.h"
#include "wire/join.h"

struct probe {
    struct identity *identity;
    struct net *net;
    struct mesh *mesh;
    size_t known;
};

static void on_up(void *user, struct link *link) { (void)user, (void)link; }

static void on_message(void *user, struct link *link, uint32_t stream, struct message *msg) {
    struct probe *probe = user;
    (void)stream;
    if (!mesh_message(probe->mesh, link, msg)) net_body_free(probe->net, msg->body);
}

static void on_down(void *user, struct link *link, enum corolla_status status, const char *why) {
    struct probe *probe = user;
    (void)why;
    mesh_link_down(probe->mesh, link, status);
}

static void on_changed(void *user, const struct gossip_entry *entry, enum gossip_change what) {
    struct probe *probe = user;
    (void)entry, (void)what;
    size_t known = gossip_count(mesh_gossip(probe->mesh)) + 1;
    if (known == probe->known) return;
    probe->known = known;
    printf("knows %zu\n", known);
    fflush(stdout);
}

static void *run(void *user) {
    struct probe *probe = user;
    net_run(probe->net);
    return NULL;
}

static void publish(struct probe *probe) {
    struct record record = {
        .node = *net_self(probe->net), .state = RECORD_ONLINE, .n_blocks = 1, .n_embd = 64, .end = 1, .wires = 1u << COROLLA_WIRE_F32};
    mesh_publish(probe->mesh, &record);
}

static enum corolla_status start(struct probe *probe, char **argv, size_t n_joins, struct corolla_error *err) {
    struct net_config config;
    enum corolla_status status = identity_open(&probe->identity, argv[1], err);
    if (status != COROLLA_OK) return status;
    net_config_default(&config);
    config.identity = probe->identity;
    config.listen = "127.0.0.1:0";
    config.events = (struct net_events){on_up, on_message, on_down, probe};
    status = net_open(&probe->net, &config, err);
    if (status != COROLLA_OK) return status;
    struct mesh_config mesh = {.net = probe->net, .identity = probe->identity, .home = argv[1]};
    mesh.joins = (const char *const *)argv + 2;
    mesh.n_joins = n_joins;
    mesh.changed = on_changed;
    mesh.user = probe;
    status = mesh_open(&probe->mesh, &mesh, err);
    if (status == COROLLA_OK) publish(probe);
    return status;
}

int main(int argc, char **argv) {
    struct probe probe = {.known = 1};
    struct corolla_error err = {0};
    pthread_t thread;
    if (argc < 2) return 2;
    bool ok = start(&probe, argv, (size_t)argc - 2, &err) == COROLLA_OK && pthread_create(&thread, NULL, run, &probe) == 0;
    if (ok) {
        char code[JOIN_CODE_MAX];
        join_encode(net_self(probe.net), code);
        printf("ready %s\n", code);
        fflush(stdout);
        while (getchar() != EOF) {
        }
        net_stop(probe.net);
        pthread_join(thread, NULL);
    } else {
        fprintf(stderr, "%s\n", err.message);
    }
    mesh_close(probe.mesh);
    net_close(probe.net);
    identity_close(probe.identity);
    return ok ? 0 : 1;
}
