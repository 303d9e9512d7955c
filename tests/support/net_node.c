/* net_node.c - see net_node.h. */
#include "support/net_node.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static struct timespec deadline_after(unsigned ms) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    at.tv_sec += ms / 1000;
    at.tv_nsec += (long)(ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

/* ---- events: on the loop --------------------------------------------------------------------------------------- */

static void on_up(void *user, struct link *link) {
    struct node *node = user;
    pthread_mutex_lock(&node->lock);
    node->ups++;
    if (node->n_links < NODE_LINKS_MAX) node->links[node->n_links++] = link;
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
    if (node->on_up) node->on_up(node, link);
}

static void on_down(void *user, struct link *link, enum corolla_status status, const char *why) {
    struct node *node = user;
    pthread_mutex_lock(&node->lock);
    for (unsigned i = 0; i < node->n_links; i++) {
        if (node->links[i] == link) node->links[i--] = node->links[--node->n_links];
    }
    node->downs++;
    node->down_status = status;
    snprintf(node->down_why, sizeof(node->down_why), "%s", why);
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
}

static void on_message(void *user, struct link *link, uint32_t stream, struct message *msg) {
    struct node *node = user;
    struct body *body = msg->body, *old = NULL;
    size_t size = body ? body->size : 0;
    enum node_behaviour behaviour = node->behaviour;
    if (behaviour == NODE_ECHO) {
        link_send(link, stream, LINK_URGENT, msg->kind, msg->header, msg->header_size, body);
        body = NULL;
    }
    pthread_mutex_lock(&node->lock);
    node->arrival[node->messages % 64] = stream;
    node->messages++;
    node->bytes += size;
    node->kind = msg->kind;
    node->stream = stream;
    node->header_size = msg->header_size;
    memcpy(node->header, msg->header, msg->header_size);
    if (behaviour == NODE_HOARD && body) {
        body->next = node->hoard;
        node->hoard = body;
        node->hoarded++;
    } else if (behaviour == NODE_KEEP_LAST) {
        old = node->body;
        node->body = body;
    }
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
    net_body_free(node->net, old);
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

void node_prepare(struct node *node, struct net_config *config) {
    struct corolla_error err = {0};
    memset(node, 0, sizeof(*node));
    if (getenv("NODE_DEBUG")) corolla_log_set(COROLLA_LOG_DEBUG, NULL, NULL);
    pthread_mutex_init(&node->lock, NULL);
    pthread_cond_init(&node->changed, NULL);
    strcpy(node->home, "/tmp/corolla-test-XXXXXX");
    assert_non_null(mkdtemp(node->home));
    if (identity_open(&node->identity, node->home, &err) != COROLLA_OK) fail_msg("%s", err.message);
    net_config_default(config);
    config->identity = node->identity;
    config->listen = "127.0.0.1:0";
    config->events = (struct net_events){on_up, on_message, on_down, node};
}

static void *run(void *user) {
    struct node *node = user;
    net_run(node->net);
    return NULL;
}

void node_start(struct node *node, const struct net_config *config) {
    struct corolla_error err = {0};
    if (net_open(&node->net, config, &err) != COROLLA_OK) fail_msg("%s", err.message);
    assert_int_equal(pthread_create(&node->thread, NULL, run, node), 0);
    node->running = true;
}

void node_open(struct node *node) {
    struct net_config config;
    node_prepare(node, &config);
    node_start(node, &config);
}

static void remove_home(const char *home) {
    char path[512];
    DIR *dir = opendir(home);
    for (struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) {
        snprintf(path, sizeof(path), "%s/%s", home, e->d_name);
        if (e->d_name[0] != '.') unlink(path);
    }
    if (dir) closedir(dir);
    rmdir(home);
}

void node_stop(struct node *node) {
    if (!node->home[0]) return; /* it is stopped */
    if (node->running) {
        net_stop(node->net);
        pthread_join(node->thread, NULL);
    }
    if (node->net) {
        node_release_hoard(node);
        net_body_free(node->net, node->body);
        net_close(node->net);
    }
    identity_close(node->identity);
    remove_home(node->home);
    pthread_mutex_destroy(&node->lock);
    pthread_cond_destroy(&node->changed);
    memset(node, 0, sizeof(*node));
}

void node_release_hoard(struct node *node) {
    pthread_mutex_lock(&node->lock);
    struct body *list = node->hoard;
    node->hoard = NULL;
    node->hoarded = 0;
    pthread_mutex_unlock(&node->lock);
    while (list) {
        struct body *next = list->next;
        net_body_free(node->net, list);
        list = next;
    }
}

/* ---- calls onto the loop --------------------------------------------------------------------------------------- */

struct call {
    struct node *node;
    void (*fn)(void *user);
    void *user;
    bool done;
};

static void run_call(void *user) {
    struct call *call = user;
    call->fn(call->user);
    pthread_mutex_lock(&call->node->lock);
    call->done = true;
    pthread_cond_broadcast(&call->node->changed);
    pthread_mutex_unlock(&call->node->lock);
}

void node_do(struct node *node, void (*fn)(void *user), void *user) {
    struct call call = {node, fn, user, false};
    net_post(node->net, run_call, &call);
    pthread_mutex_lock(&node->lock);
    while (!call.done) pthread_cond_wait(&node->changed, &node->lock);
    pthread_mutex_unlock(&node->lock);
}

struct dialling {
    struct node *node;
    const struct node_ref *to;
    struct link *link;
    struct corolla_error err;
    bool done;
};

static void on_dialled(void *user, struct link *link, const struct corolla_error *err) {
    struct dialling *d = user;
    pthread_mutex_lock(&d->node->lock);
    d->link = link;
    if (err) d->err = *err;
    d->done = true;
    pthread_cond_broadcast(&d->node->changed);
    pthread_mutex_unlock(&d->node->lock);
}

static void start_dial(void *user) {
    struct dialling *d = user;
    net_dial(d->node->net, d->to, on_dialled, d);
}

struct link *node_dial(struct node *node, const struct node_ref *to, struct corolla_error *err) {
    struct dialling d = {.node = node, .to = to};
    net_post(node->net, start_dial, &d);
    pthread_mutex_lock(&node->lock);
    while (!d.done) pthread_cond_wait(&node->changed, &node->lock);
    pthread_mutex_unlock(&node->lock);
    if (err) *err = d.err;
    return d.link;
}

void node_fill(uint8_t *data, size_t n, uint32_t seed) {
    for (size_t i = 0; i < n; i++) data[i] = (uint8_t)((i * 131 + seed * 7 + (i >> 9)) & 255);
}

struct sending {
    struct node *node;
    struct link *link;
    uint32_t stream;
    enum link_priority priority;
    const char *header;
    struct body *body;
    enum corolla_status status;
};

static void do_send(void *user) {
    struct sending *s = user;
    s->status = link_send(s->link, s->stream, s->priority, MSG_STEP, (const uint8_t *)s->header, strlen(s->header), s->body);
}

enum corolla_status node_send(struct node *node, struct link *link, uint32_t stream, enum link_priority priority, const char *header,
                              size_t n) {
    struct sending s = {node, link, stream, priority, header, NULL, COROLLA_OK};
    if (n > 0) {
        s.body = net_body_new(node->net, n);
        assert_non_null(s.body);
        node_fill(s.body->data, n, stream);
    }
    node_do(node, do_send, &s);
    return s.status;
}

struct closing {
    struct link *link;
    enum corolla_status status;
};

static void do_close(void *user) {
    struct closing *c = user;
    link_close(c->link, c->status, "enough");
    assert_int_equal(link_send(c->link, 1, LINK_BULK, MSG_STEP, NULL, 0, NULL), COROLLA_PEER_LOST);
}

void node_close_link(struct node *node, struct link *link, enum corolla_status status) {
    node_do(node, do_close, &(struct closing){link, status});
}

/* ---- pairs ----------------------------------------------------------------------------------------------------- */

int node_pair_open(void **state) {
    struct node_pair *pair = calloc(1, sizeof *pair);
    assert_non_null(pair);
    node_open(&pair->a);
    node_open(&pair->b);
    *state = pair;
    return 0;
}

int node_pair_link(void **state) {
    node_pair_open(state);
    struct node_pair *pair = *state;
    pair->link = node_dial(&pair->a, net_self(pair->b.net), NULL);
    return pair->link ? 0 : -1;
}

int node_pair_stop(void **state) {
    struct node_pair *pair = *state;
    node_stop(&pair->a);
    node_stop(&pair->b);
    free(pair);
    return 0;
}

/* ---- waiting --------------------------------------------------------------------------------------------------- */

static void wait_count(struct node *node, const unsigned *count, unsigned n, const char *what) {
    struct timespec until = deadline_after(NODE_WAIT_MS);
    int late = 0;
    pthread_mutex_lock(&node->lock);
    while (*count < n && late == 0) late = pthread_cond_timedwait(&node->changed, &node->lock, &until);
    unsigned have = *count;
    pthread_mutex_unlock(&node->lock);
    if (have < n) fail_msg("%u of %u %s within %d ms", have, n, what, NODE_WAIT_MS);
}

void node_wait_ups(struct node *node, unsigned n) { wait_count(node, &node->ups, n, "links up"); }
void node_wait_downs(struct node *node, unsigned n) { wait_count(node, &node->downs, n, "links down"); }
void node_wait_messages(struct node *node, unsigned n) { wait_count(node, &node->messages, n, "messages"); }

void node_wait(struct node *node, bool (*fn)(struct node *node)) {
    for (int i = 0; i < NODE_WAIT_MS / 5; i++) {
        pthread_mutex_lock(&node->lock);
        bool holds = fn(node);
        pthread_mutex_unlock(&node->lock);
        if (holds) return;
        nanosleep(&(struct timespec){0, 5 * 1000 * 1000}, NULL);
    }
    fail_msg("a condition did not come true within %d ms", NODE_WAIT_MS);
}

uint16_t node_port(const struct node *node) {
    const char *colon = strrchr(net_self(node->net)->addrs[0], ':');
    return (uint16_t)atoi(colon + 1);
}
