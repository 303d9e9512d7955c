/* lan_probe.c - a node that looks for others on its LAN and links to each: lan_probe HOME LISTEN [off [ADDRESS]]. LISTEN "-": a client,
 * which listens nowhere. Prints "ready NODE", "found NODE ADDRESS..." and "linked NODE ADDRESS"; ends when its input does. With "off"
 * it does not look and is not found; it then dials the ADDRESS of entry nodes and prints "entry NODE" for each, and "end" and why. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "net/lan.h"

struct probe {
    struct identity *identity;
    struct net *net;
    struct lan *lan;
};

static void say(const char *what, const struct node_id *id) {
    char text[NODE_ID_TEXT];
    node_id_format(id, text);
    printf("%s %s", what, text);
}

static void on_up(void *user, struct link *link) {
    (void)user;
    say("linked", &link_peer(link)->id);
    printf(" %s\n", link_address(link));
    fflush(stdout);
}

static void on_message(void *user, struct link *link, uint32_t stream, struct message *msg) {
    struct probe *probe = user;
    (void)link, (void)stream;
    net_body_free(probe->net, msg->body);
}

static void on_down(void *user, struct link *link, enum corolla_status status, const char *why) {
    (void)user, (void)link, (void)status, (void)why;
}

static void on_dialled(void *user, struct link *link, const struct corolla_error *err) {
    (void)user;
    if (!link) fprintf(stderr, "%s\n", err->message);
}

static void on_found(void *user, const struct node_ref *node) {
    struct probe *probe = user;
    say("found", &node->id);
    for (uint32_t i = 0; i < node->n_addrs; i++) printf(" %s", node->addrs[i]);
    printf("\n");
    fflush(stdout);
    net_dial(probe->net, node, on_dialled, NULL);
}

static void on_entry(void *user, struct link *link, const struct corolla_error *err) {
    (void)user;
    if (link)
        say("entry", &link_peer(link)->id);
    else
        printf("end %s", err ? err->message : "");
    printf("\n");
    fflush(stdout);
}

static void *run(void *user) {
    struct probe *probe = user;
    net_run(probe->net);
    return NULL;
}

static enum corolla_status start(struct probe *probe, char **argv, struct corolla_error *err) {
    struct net_config config;
    enum corolla_status status = identity_open(&probe->identity, argv[1], err);
    if (status != COROLLA_OK) return status;
    net_config_default(&config);
    config.identity = probe->identity;
    config.listen = strcmp(argv[2], "-") == 0 ? NULL : argv[2];
    config.events = (struct net_events){on_up, on_message, on_down, probe};
    status = net_open(&probe->net, &config, err);
    if (status == COROLLA_OK && argv[3] && argv[4]) net_dial_address(probe->net, argv[4], on_entry, NULL);
    if (status == COROLLA_OK && !argv[3]) status = lan_open(&probe->lan, probe->net, on_found, probe, err);
    return status;
}

int main(int argc, char **argv) {
    struct probe probe = {0};
    struct corolla_error err = {0};
    pthread_t thread;
    if (argc < 3) return 2;
    corolla_log_set(COROLLA_LOG_DEBUG, NULL, NULL);
    bool ok = start(&probe, argv, &err) == COROLLA_OK && pthread_create(&thread, NULL, run, &probe) == 0;
    if (ok) {
        say("ready", identity_id(probe.identity));
        printf("\n");
        fflush(stdout);
        while (getchar() != EOF) {
        }
        net_stop(probe.net);
        pthread_join(thread, NULL);
    } else {
        fprintf(stderr, "%s\n", err.message);
    }
    lan_close(probe.lan);
    net_close(probe.net);
    identity_close(probe.identity);
    return ok ? 0 : 1;
}
