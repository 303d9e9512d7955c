/* driver.c - see driver.h. */
#include "support/driver.h"

#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "wire/join.h"

#define DOWNS_MAX 64

struct down {
    const struct link *link;
    char why[DRIVER_WHY_SIZE];
};

struct driver {
    char home[64];
    struct identity *identity;
    struct net *net;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    struct received *first, *last;
    struct down downs[DOWNS_MAX];
    unsigned n_downs;
};

/* ---- what came; the lock is held --------------------------------------------------------------------------------- */

static bool matches(const struct received *r, const struct link *link, uint32_t stream) {
    return r->link == link && (stream == 0 || r->stream == stream);
}

static struct received *take(struct driver *d, const struct link *link, uint32_t stream) {
    struct received *before = NULL;
    for (struct received *r = d->first; r; before = r, r = r->next) {
        if (!matches(r, link, stream)) continue;
        *(before ? &before->next : &d->first) = r->next;
        if (d->last == r) d->last = before;
        return r;
    }
    return NULL;
}

/* ---- events: on the loop --------------------------------------------------------------------------------------- */

static void on_up(void *user, struct link *link) {
    struct driver *d = user;
    pthread_mutex_lock(&d->lock);
    for (unsigned i = 0; i < d->n_downs; i++) /* an address may come again */
        if (d->downs[i].link == link) d->downs[i--] = d->downs[--d->n_downs];
    for (struct received *old; (old = take(d, link, 0)) != NULL;) received_free(old);
    pthread_mutex_unlock(&d->lock);
}

static void on_down(void *user, struct link *link, enum corolla_status status, const char *why) {
    struct driver *d = user;
    (void)status;
    pthread_mutex_lock(&d->lock);
    if (d->n_downs < DOWNS_MAX) {
        d->downs[d->n_downs].link = link;
        snprintf(d->downs[d->n_downs++].why, DRIVER_WHY_SIZE, "%s", why);
    }
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
}

static uint8_t *copy(const uint8_t *data, size_t size) {
    uint8_t *made = malloc(size + 1);
    if (made && size > 0) memcpy(made, data, size);
    return made;
}

static void on_message(void *user, struct link *link, uint32_t stream, struct message *msg) {
    struct driver *d = user;
    struct received *r = calloc(1, sizeof *r);
    if (r) {
        size_t body_size = msg->body ? msg->body->size : 0;
        *r = (struct received){.link = link, .stream = stream, .kind = msg->kind, .header_size = msg->header_size, .body_size = body_size};
        r->header = copy(msg->header, msg->header_size);
        r->body = copy(msg->body ? msg->body->data : NULL, body_size);
    }
    net_body_free(d->net, msg->body);
    pthread_mutex_lock(&d->lock);
    *(d->last ? &d->last->next : &d->first) = r;
    d->last = r;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

static void *run(void *user) {
    net_run(((struct driver *)user)->net);
    return NULL;
}

struct driver *driver_open(void) {
    struct driver *d = calloc(1, sizeof *d);
    struct corolla_error err = {0};
    struct net_config config;
    assert_non_null(d);
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->changed, NULL);
    strcpy(d->home, "/tmp/corolla-test-XXXXXX");
    assert_non_null(mkdtemp(d->home));
    if (identity_open(&d->identity, d->home, &err) != COROLLA_OK) fail_msg("%s", err.message);
    net_config_default(&config);
    config.identity = d->identity;
    config.events = (struct net_events){on_up, on_message, on_down, d};
    if (net_open(&d->net, &config, &err) != COROLLA_OK) fail_msg("%s", err.message);
    assert_int_equal(pthread_create(&d->thread, NULL, run, d), 0);
    return d;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void driver_close(struct driver *d) {
    net_stop(d->net);
    pthread_join(d->thread, NULL);
    net_close(d->net);
    identity_close(d->identity);
    nftw(d->home, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    while (d->first) {
        struct received *next = d->first->next;
        received_free(d->first);
        d->first = next;
    }
    pthread_cond_destroy(&d->changed);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

const struct node_ref *driver_self(const struct driver *d) { return net_self(d->net); }

/* ---- waiting; the lock is held --------------------------------------------------------------------------------- */

static struct timespec deadline(void) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    at.tv_sec += DRIVER_WAIT_MS / 1000;
    return at;
}

static void wait_change(struct driver *d, const struct timespec *until, const char *what) {
    if (pthread_cond_timedwait(&d->changed, &d->lock, until) == 0) return;
    pthread_mutex_unlock(&d->lock);
    fail_msg("%s did not come within %d ms", what, DRIVER_WAIT_MS);
}

/* ---- calls onto the loop --------------------------------------------------------------------------------------- */

struct call {
    struct driver *driver;
    struct node_ref node;
    struct link *link;
    uint32_t stream;
    enum msg_kind kind;
    const uint8_t *header;
    size_t header_size;
    struct body *body;
    struct corolla_error err;
    enum corolla_status status;
    bool done;
};

static void call_done(struct call *call) {
    pthread_mutex_lock(&call->driver->lock);
    call->done = true;
    pthread_cond_broadcast(&call->driver->changed);
    pthread_mutex_unlock(&call->driver->lock);
}

static void do_call(struct driver *d, void (*fn)(void *user), struct call *call, const char *what) {
    struct timespec until = deadline();
    call->driver = d;
    net_post(d->net, fn, call);
    pthread_mutex_lock(&d->lock);
    while (!call->done) wait_change(d, &until, what);
    pthread_mutex_unlock(&d->lock);
}

static void on_dialled(void *user, struct link *link, const struct corolla_error *err) {
    struct call *call = user;
    call->link = link;
    if (err) call->err = *err;
    call_done(call);
}

static void loop_dial(void *user) {
    struct call *call = user;
    net_dial(call->driver->net, &call->node, on_dialled, call);
}

struct link *driver_dial(struct driver *d, const char *join_code, struct node_ref *out_node) {
    struct call call = {0};
    if (join_decode(join_code, &call.node, &call.err) != COROLLA_OK) fail_msg("%s", call.err.message);
    do_call(d, loop_dial, &call, "a link");
    if (!call.link) fail_msg("%s", call.err.message);
    if (out_node) *out_node = call.node;
    return call.link;
}

static void loop_stream(void *user) {
    struct call *call = user;
    call->stream = link_stream_new(call->link);
    call_done(call);
}

uint32_t driver_stream(struct driver *d, struct link *link) {
    struct call call = {.link = link};
    do_call(d, loop_stream, &call, "a stream");
    return call.stream;
}

static void loop_cut(void *user) {
    struct call *call = user;
    link_close(call->link, COROLLA_TIMEOUT, "cut by a test");
    call_done(call);
}

void driver_cut(struct driver *d, struct link *link) {
    struct call call = {.link = link};
    do_call(d, loop_cut, &call, "a turn of the loop");
    driver_wait_down(d, link, NULL);
}

static void loop_send(void *user) {
    struct call *call = user;
    call->status = link_send(call->link, call->stream, LINK_BULK, call->kind, call->header, call->header_size, call->body);
    call_done(call);
}

void driver_send(struct driver *d, struct link *link, uint32_t stream, enum msg_kind kind, const uint8_t *header, size_t header_size,
                 const void *body, size_t body_size) {
    struct call call = {.link = link, .stream = stream, .kind = kind, .header = header, .header_size = header_size};
    if (body_size > 0) {
        call.body = net_body_new(d->net, body_size);
        assert_non_null(call.body);
        memcpy(call.body->data, body, body_size);
    }
    do_call(d, loop_send, &call, "a turn of the loop");
    assert_int_equal(call.status, COROLLA_OK);
}

/* ---- what came ------------------------------------------------------------------------------------------------- */

struct received *driver_receive(struct driver *d, const struct link *link, uint32_t stream) {
    struct timespec until = deadline();
    struct received *r;
    pthread_mutex_lock(&d->lock);
    while ((r = take(d, link, stream)) == NULL) wait_change(d, &until, "a message");
    pthread_mutex_unlock(&d->lock);
    return r;
}

unsigned driver_pending(struct driver *d, const struct link *link, uint32_t stream) {
    unsigned n = 0;
    pthread_mutex_lock(&d->lock);
    for (const struct received *r = d->first; r; r = r->next) n += matches(r, link, stream);
    pthread_mutex_unlock(&d->lock);
    return n;
}

void received_free(struct received *r) {
    if (!r) return;
    free(r->header);
    free(r->body);
    free(r);
}

void driver_wait_down(struct driver *d, const struct link *link, char out_why[DRIVER_WHY_SIZE]) {
    struct timespec until = deadline();
    const struct down *found = NULL;
    pthread_mutex_lock(&d->lock);
    for (;;) {
        for (unsigned i = 0; i < d->n_downs && !found; i++)
            if (d->downs[i].link == link) found = &d->downs[i];
        if (found) break;
        wait_change(d, &until, "the end of a link");
    }
    if (out_why) memcpy(out_why, found->why, DRIVER_WHY_SIZE);
    pthread_mutex_unlock(&d->lock);
}
