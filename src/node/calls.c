/* calls.c - what the thread that controls a node asks of it. Each call runs on the loop thread and returns when it is done. */
#include "base/clock.h"
#include "base/err.h"
#include "node/answer.h"
#include "node/prefix.h"
#include "node/stats.h"

struct call {
    void (*fn)(void *user);
    void *user;
    pthread_mutex_t lock;
    pthread_cond_t over;
    bool done;
};

static void run_call(void *user) {
    struct call *call = user;
    call->fn(call->user);
    pthread_mutex_lock(&call->lock);
    call->done = true;
    pthread_cond_signal(&call->over); /* under the lock: the call is on the waiter's stack */
    pthread_mutex_unlock(&call->lock);
}

void node_call(struct node *node, void (*fn)(void *user), void *user) {
    struct call call = {.fn = fn, .user = user, .lock = PTHREAD_MUTEX_INITIALIZER, .over = PTHREAD_COND_INITIALIZER};
    net_post(node->net, run_call, &call);
    pthread_mutex_lock(&call.lock);
    while (!call.done) pthread_cond_wait(&call.over, &call.lock);
    pthread_mutex_unlock(&call.lock);
    pthread_cond_destroy(&call.over);
    pthread_mutex_destroy(&call.lock);
}

struct stats_request {
    struct node *node;
    struct corolla_server_stats *out;
};

static void do_stats(void *user) {
    struct stats_request *r = user;
    stats_take(r->node, r->out);
}

void node_stats(struct node *node, struct corolla_server_stats *out) {
    node_call(node, do_stats, &(struct stats_request){.node = node, .out = out});
}

struct request { /* of one of the functions below */
    struct node *node;
    struct host *host;
    enum record_state state;
    uint32_t begin, end;
    enum node_drain why;
    bool on;
    uint32_t n;
};

static void do_plan(void *user) {
    const struct request *r = user;
    r->node->state = r->state;
    r->node->info.begin = r->begin;
    r->node->info.end = r->end;
    announce(r->node);
}

void node_plan(struct node *node, enum record_state state, uint32_t begin, uint32_t end) {
    node_call(node, do_plan, &(struct request){.node = node, .state = state, .begin = begin, .end = end});
}

static void do_take(void *user) {
    const struct request *r = user;
    struct node *node = r->node;
    const struct span *span = r->host->span;
    node->host = r->host;
    node->limits.begin = node->info.begin = r->host->begin;
    node->limits.end = node->info.end = r->host->end;
    node->limits.cache_tokens = r->host->cache_tokens;
    node->limits.max_tokens = node->info.session_tokens_max = r->host->session_tokens_max;
    node->info.exact = span_exact(span);
    node->info.arithmetic_class = span_arithmetic_class(span);
    node->drain &= ~(unsigned)NODE_DRAIN_MOVING;
    node->limits.draining = node->drain != 0;
    node->reach_due_ms = 0;
    announce(node);
}

enum corolla_status node_take(struct node *node, struct host *host, struct corolla_error *err) {
    enum corolla_status status = host_start(host, node->net, node_notify, node, err);
    if (status == COROLLA_OK) node_call(node, do_take, &(struct request){.node = node, .host = host});
    return status;
}

static void do_give(void *user) {
    struct request *r = user;
    struct node *node = r->node;
    prefix_drop_all(node);
    if (node->sessions.n > 0 || node->n_steps > 0) return;
    r->host = node->host;
    node->host = NULL;
    node->limits.begin = node->limits.end = 0;
    node->state = RECORD_LOADING;
}

struct host *node_give(struct node *node) {
    struct request r = {.node = node};
    node_call(node, do_give, &r);
    if (r.host) host_stop(r.host);
    return r.host;
}

bool node_is_leaving(const struct node *node) { return (node->drain & (NODE_DRAIN_MOVING | NODE_DRAIN_LEAVING)) != 0; }

void node_drain(struct node *node, enum node_drain why, bool on) {
    bool was = node->limits.draining, was_leaving = node_is_leaving(node);
    node->drain = on ? node->drain | why : node->drain & ~(unsigned)why;
    node->limits.draining = node->drain != 0;
    announce(node);
    if (!node->limits.draining || (was && was_leaving == node_is_leaving(node))) return;
    for (struct peer *peer = node->peers; peer; peer = peer->next) answer_drain(node, peer->link);
}

static void do_drain(void *user) {
    const struct request *r = user;
    node_drain(r->node, r->why, r->on);
}

void node_set_drain(struct node *node, enum node_drain why, bool on) {
    node_call(node, do_drain, &(struct request){.node = node, .why = why, .on = on});
}

/* Sessions that did not end by themselves; their clients are told. */
static void do_evict(void *user) {
    const struct request *r = user;
    struct node *node = r->node;
    struct corolla_error error;
    err_set(&error, COROLLA_DRAINING, "this server moves to other blocks: choose another one");
    for (struct session *s = sessions_each(&node->sessions, NULL); s; s = sessions_each(&node->sessions, NULL))
        node_fail_session(node, s, &error);
}

void node_evict(struct node *node) { node_call(node, do_evict, &(struct request){.node = node}); }

static void do_count(void *user) {
    struct request *r = user;
    uint64_t now_ms = clock_life_ms();
    const struct sessions *table = &r->node->sessions;
    for (struct session *s = sessions_each(table, NULL); s; s = sessions_each(table, s)) r->n += sessions_is_active(s, now_ms);
}

uint32_t node_active(struct node *node) {
    struct request r = {.node = node};
    node_call(node, do_count, &r);
    return r.n;
}
