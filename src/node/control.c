/* control.c - see control.h. */
#include "node/control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/thread.h"
#include "crypto/rand.h"
#include "swarm/place.h"

#define SETTLE_MS 4000  /* what the swarm tells a newcomer comes within this */
#define WISH_MS 1200    /* until the wishes of all who join at once are known to all: gossip needs less than a second */
#define DRAIN_MS 300000 /* for sessions to end before a move */
#define WHY_SIZE 160
#define POLL_MS 50
#define DRAIN_POLL_MS 500
#define HOLE_MS 5000          /* between looks whether some block has no holder */
#define SPEED_UNKNOWN 1000.0f /* tokens per second of one block, of a server that has not measured itself */

struct control {
    struct control_config config;
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stop;
    char why[WHY_SIZE];
};

/* ---- the swarm as placement sees it ---------------------------------------------------------------------------- */

struct view {
    const struct control *control;
    struct place_server *servers; /* those that host or load, our own included */
    struct place_server *joining; /* those that look for a place, our own not included */
    size_t n, n_joining;
    bool failed;
};

/* Through the whole span: what the server adds to each of its blocks. */
static float speed_of(const struct record *r) {
    float per_block = r->decode_block_us > 0 ? 1e6f / r->decode_block_us : SPEED_UNKNOWN;
    return per_block / (float)(r->end - r->begin);
}

static bool same_model(const struct record *a, const struct msg_info *info) {
    return memcmp(a->model, info->model, ID_SIZE) == 0 && a->n_blocks == info->n_blocks;
}

static void view_add(struct view *v, uint64_t digest, const struct record *r) {
    struct place_server server = {.node = digest, .begin = r->begin, .end = r->end, .tokens_per_s = speed_of(r)};
    server.joining = r->state == RECORD_LOADING;
    server.leaving = r->state == RECORD_DRAINING;
    if (r->state == RECORD_JOINING)
        v->joining[v->n_joining++] = server;
    else if (r->state != RECORD_OFFLINE)
        v->servers[v->n++] = server;
}

static void view_fill(void *user) { /* loop thread */
    struct view *v = user;
    struct node *node = v->control->config.node;
    const struct gossip *gossip = mesh_gossip(node->mesh);
    size_t room = gossip_count(gossip) + 1;
    v->servers = calloc(room, sizeof *v->servers);
    v->joining = calloc(room, sizeof *v->joining);
    v->failed = !v->servers || !v->joining;
    if (v->failed) return;
    for (const struct gossip_entry *e = NULL; (e = gossip_each(gossip, e)) != NULL;)
        if (same_model(e->record, &node->info)) view_add(v, e->digest, e->record);
    if (node->host) view_add(v, node_id_digest(&net_self(node->net)->id), &node->told);
}

static bool view_open(struct view *v, const struct control *c) {
    *v = (struct view){.control = c};
    node_call(c->config.node, view_fill, v);
    return !v->failed;
}

static void view_close(struct view *v) {
    free(v->servers);
    free(v->joining);
}

/* ---- the first place ------------------------------------------------------------------------------------------- */

static int by_digest(const void *a, const void *b) {
    uint64_t x = ((const struct place_server *)a)->node, y = ((const struct place_server *)b)->node;
    return (x > y) - (x < y);
}

/* Where a newcomer of n blocks goes when all who join with a lower digest choose before it. */
static enum corolla_status first_place(const struct control *c, uint64_t self, uint32_t n, uint32_t *out_begin, struct corolla_error *err) {
    uint32_t n_blocks = c->config.node->info.n_blocks;
    struct view v;
    enum corolla_status status = view_open(&v, c) ? COROLLA_OK : err_set(err, COROLLA_NOMEM, "out of memory to choose blocks");
    if (status == COROLLA_OK) qsort(v.joining, v.n_joining, sizeof *v.joining, by_digest);
    for (size_t i = 0; status == COROLLA_OK && i < v.n_joining && v.joining[i].node < self; i++) {
        struct place_server *other = &v.joining[i];
        uint32_t length = other->end - other->begin;
        status = place_choose(v.servers, v.n, n_blocks, length, &other->begin, err);
        other->end = other->begin + length;
        v.servers[v.n++] = *other;
    }
    if (status == COROLLA_OK) status = place_choose(v.servers, v.n, n_blocks, n, out_begin, err);
    view_close(&v);
    return status;
}

static void sleep_ms(uint32_t ms) { nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000}, NULL); }

struct look { /* at the mesh, on the loop thread */
    const struct mesh *mesh;
    bool settled;
    size_t others;
};

static void look(void *user) {
    struct look *l = user;
    l->settled = mesh_settled(l->mesh);
    l->others = mesh_neighbours(l->mesh); /* who starts together has no records yet */
}

/* Waits until the swarm told what it has; how many others there are. */
static size_t wait_settled(const struct control *c) {
    struct look l = {.mesh = c->config.mesh};
    uint64_t deadline_ms = clock_us() / 1000 + SETTLE_MS;
    for (;;) {
        node_call(c->config.node, look, &l);
        if (l.settled || clock_us() / 1000 >= deadline_ms) return l.others;
        sleep_ms(POLL_MS);
    }
}

static enum corolla_status choose_place(struct control *c, uint32_t n, struct corolla_error *err) {
    struct node *node = c->config.node;
    uint64_t self = node_id_digest(&net_self(node->net)->id);
    uint32_t begin = 0;
    size_t others = wait_settled(c);
    enum corolla_status status = first_place(c, self, n, &begin, err);
    if (status == COROLLA_OK && others > 0) {
        node_plan(node, RECORD_JOINING, begin, begin + n);
        sleep_ms(WISH_MS);
        status = first_place(c, self, n, &begin, err);
    }
    c->config.host.begin = begin;
    c->config.host.end = begin + n;
    const char *many = c->config.n_blocks > 0 ? "were asked for" : "fit the memory";
    if (others > 0)
        snprintf(c->why, sizeof c->why, "%u blocks %s, and the swarm needs these most (others: %zu)", n, many, others);
    else
        snprintf(c->why, sizeof c->why, "%u blocks %s, and nobody else was found: the first ones", n, many);
    log_info("chose blocks=%u:%u of=%u why=\"%s\"", begin, begin + n, node->info.n_blocks, c->why);
    return status;
}

static enum corolla_status choose(struct control *c, struct corolla_error *err) {
    uint32_t n_blocks = c->config.node->info.n_blocks;
    uint32_t n = c->config.n_blocks > 0 ? c->config.n_blocks : host_blocks_that_fit(&c->config.host);
    if (n == 0) n = 1; /* loading says what is missing */
    if (n < n_blocks) return choose_place(c, n, err);
    c->config.host.begin = 0;
    c->config.host.end = n_blocks;
    snprintf(c->why, sizeof c->why, "%s", c->config.n_blocks > 0 ? "all blocks were asked for" : "all blocks fit the memory");
    return COROLLA_OK;
}

/* ---- moving ---------------------------------------------------------------------------------------------------- */

/* Waits; true when it is time to stop. */
static bool pause_ms(struct control *c, uint64_t ms) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(ms / 1000);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&c->lock);
    while (!c->stop && pthread_cond_timedwait(&c->changed, &c->lock, &until) == 0) {
    }
    bool stop = c->stop;
    pthread_mutex_unlock(&c->lock);
    return stop;
}

/* The host, when its sessions are gone; NULL when it is time to stop. */
static struct host *drain(struct control *c, const struct host_config *next) {
    struct node *node = c->config.node;
    uint64_t deadline_ms = clock_us() / 1000 + DRAIN_MS;
    node_set_drain(node, NODE_DRAIN_MOVING, true);
    node_plan(node, RECORD_LOADING, next->begin, next->end); /* so that nobody else goes there */
    for (;;) {
        struct host *host = node_give(node);
        if (host) return host;
        if (clock_us() / 1000 >= deadline_ms) node_evict(node);
        if (pause_ms(c, DRAIN_POLL_MS)) return NULL;
    }
}

/* The new host, loaded beside the old one or, where memory is short, in its place; *old is then NULL. */
static enum corolla_status load_beside(const struct host_config *config, struct host **old, struct host **out_host,
                                       struct corolla_error *err) {
    enum corolla_status status = host_load(out_host, config, err);
    if (status != COROLLA_NOMEM) return status;
    host_free(*old);
    *old = NULL;
    return host_load(out_host, config, err);
}

static void move(struct control *c, uint32_t begin) {
    struct node *node = c->config.node;
    struct host_config config = c->config.host;
    struct corolla_error err = {0};
    struct host *host = NULL;
    config.end = begin + (config.end - config.begin);
    config.begin = begin;
    log_info("moving from=%u:%u to=%u:%u", c->config.host.begin, c->config.host.end, config.begin, config.end);
    struct host *old = drain(c, &config);
    if (!old) return;
    enum corolla_status status = load_beside(&config, &old, &host, &err);
    if (status != COROLLA_OK) log_warn("move_failed why=\"%s\"", err.message);
    if (status != COROLLA_OK && !old) status = host_load(&old, &c->config.host, &err);
    if (host) {
        c->config.host = config;
        host_free(old);
        old = host;
    }
    if (!old || node_take(node, old, &err) != COROLLA_OK) {
        host_free(old);
        log_error("nothing_hosted why=\"%s\"", err.message);
    }
}

static uint64_t random_u64(void) {
    uint64_t value;
    rand_bytes(&value, sizeof value);
    return value;
}

static bool has_hole(const struct view *v, uint32_t n_blocks) {
    for (uint32_t block = 0; block < n_blocks; block++) {
        bool held = false;
        for (size_t i = 0; i < v->n && !held; i++)
            held = !v->servers[i].leaving && v->servers[i].begin <= block && block < v->servers[i].end;
        if (!held) return true;
    }
    return false;
}

/* Nobody can use the model: looks come soon, at random times all the same. */
static void hasten(struct place_watch *watch) {
    uint64_t soonest_ms = clock_life_ms() + random_u64() % HOLE_MS;
    if (watch->due_ms > clock_life_ms() + HOLE_MS) watch->due_ms = soonest_ms;
}

/* Whether it is time to move, and where. */
static bool worth_moving(struct control *c, struct place_watch *watch, uint32_t *out_begin) {
    struct node *node = c->config.node;
    struct view v;
    bool moves = false;
    if (view_open(&v, c)) {
        for (size_t i = 0; i < v.n_joining; i++) {
            v.joining[i].joining = true; /* they will be there, or near it */
            v.servers[v.n++] = v.joining[i];
        }
        if (has_hole(&v, node->info.n_blocks)) hasten(watch);
        if (watch->due_ms > clock_life_ms()) {
            view_close(&v);
            return false;
        }
        moves = place_watch_look(watch, v.servers, v.n, node->info.n_blocks, node_id_digest(&net_self(node->net)->id), clock_life_ms(),
                                 random_u64(), out_begin);
    }
    view_close(&v);
    return moves;
}

static void *control_main(void *user) {
    struct control *c = user;
    struct place_watch watch;
    place_watch_init(&watch, clock_life_ms(), random_u64());
    for (;;) {
        uint64_t now_ms = clock_life_ms(), wait_ms = watch.due_ms > now_ms ? watch.due_ms - now_ms : 0;
        uint32_t begin;
        if (pause_ms(c, wait_ms < HOLE_MS ? wait_ms : HOLE_MS)) return NULL;
        if (!worth_moving(c, &watch, &begin)) continue;
        move(c, begin);
        place_watch_init(&watch, clock_life_ms(), random_u64());
    }
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

static enum corolla_status start_thread(struct control *c, struct corolla_error *err) {
    c->running = thread_start(&c->thread, control_main, c);
    return c->running ? COROLLA_OK : err_set(err, COROLLA_NOMEM, "cannot start the thread that chooses blocks");
}

enum corolla_status control_open(struct control **out, const struct control_config *config, struct corolla_error *err) {
    struct control *c = calloc(1, sizeof *c);
    if (!c) return err_set(err, COROLLA_NOMEM, "out of memory for a server");
    c->config = *config;
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->changed, &attr);
    pthread_condattr_destroy(&attr);
    struct host *host = NULL;
    snprintf(c->why, sizeof c->why, "these were asked for");
    enum corolla_status status = config->fixed ? COROLLA_OK : choose(c, err);
    if (status == COROLLA_OK) {
        node_plan(config->node, RECORD_LOADING, c->config.host.begin, c->config.host.end);
        status = host_load(&host, &c->config.host, err);
    }
    if (status == COROLLA_OK && (status = node_take(config->node, host, err)) != COROLLA_OK) host_free(host);
    bool may_move = !config->fixed && c->config.host.end - c->config.host.begin < config->node->info.n_blocks;
    if (status == COROLLA_OK && may_move) status = start_thread(c, err);
    if (status != COROLLA_OK) {
        control_close(c);
        return status;
    }
    *out = c;
    return COROLLA_OK;
}

const char *control_why(const struct control *c) { return c->why; }

void control_close(struct control *c) {
    if (!c) return;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
    if (c->running) pthread_join(c->thread, NULL);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    free(c);
}
