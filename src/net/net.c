/* net.c - a net as a whole: opening, running, stopping; posts from other threads; timers.
 *
 * Stopping: no new links, dials are told CANCELLED, every link flushes and says GOODBYE, and after STOP_MS what is left is cut.
 * SIGPIPE is blocked in the loop thread while it runs, since libuv writes to sockets in a way that raises it; the process's own
 * handling of signals is left alone.
 */
#include "net/link.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

_Static_assert(sizeof(uv_thread_t) == sizeof(uintptr_t), "a thread's name fits an atomic word");

void net_config_default(struct net_config *config) {
    *config = (struct net_config){
        .handshake_ms = 5000,
        .ping_ms = 1000,
        .dead_ms = 4000,
        .message_ms = 15000,
        .dial_ms = 8000,
        .half_open_max = 256,
        .half_open_per_address_max = 16,
        .links_max = 1024,
        .link_bytes_max = 96u << 20,
        .total_bytes_max = 512u << 20,
    };
}

/* ---- threads --------------------------------------------------------------------------------------------------- */

static void claim_thread(struct net *net) {
    uv_thread_t self = uv_thread_self();
    uintptr_t word = 0;
    memcpy(&word, &self, sizeof(word));
    atomic_store(&net->thread, word);
}

bool net_on_loop(const struct net *net) {
    uv_thread_t self = uv_thread_self();
    uintptr_t word = 0;
    memcpy(&word, &self, sizeof(word));
    return atomic_load(&net->thread) == word;
}

void net_post(struct net *net, void (*fn)(void *user), void *user) {
    pthread_mutex_lock(&net->lock);
    while (net->n_posts == POSTS_MAX) {
        assert(!net_on_loop(net)); /* the loop cannot wait for itself */
        pthread_cond_wait(&net->room, &net->lock);
    }
    net->posts[(net->posts_head + net->n_posts++) % POSTS_MAX] = (struct post){fn, user};
    pthread_mutex_unlock(&net->lock);
    uv_async_send(&net->wake);
}

/* Runs what is there now; what is posted from inside has its turn in the next round of the loop. */
static void run_posts(struct net *net) {
    pthread_mutex_lock(&net->lock);
    uint32_t n = net->n_posts;
    for (; n > 0; n--) {
        struct post post = net->posts[net->posts_head];
        net->posts_head = (net->posts_head + 1) % POSTS_MAX;
        if (net->n_posts-- == POSTS_MAX) pthread_cond_broadcast(&net->room);
        pthread_mutex_unlock(&net->lock);
        post.fn(post.user);
        pthread_mutex_lock(&net->lock);
    }
    bool more = net->n_posts > 0;
    pthread_mutex_unlock(&net->lock);
    if (more) uv_async_send(&net->wake);
}

/* ---- memory ---------------------------------------------------------------------------------------------------- */

static void on_return(void *user) {
    struct net *net = user;
    uv_async_send(&net->wake);
}

static void on_wait(void *user) {
    struct net *net = user;
    net_watch_memory(net);
    uv_async_send(&net->wake);
}

void net_watch_memory(struct net *net) {
    if (net->watching) return;
    net->watching = true;
    pool_watch(net->pool, true);
    uv_async_send(&net->wake); /* a block may have come back just before */
}

/* The link whose half-sent messages hold most, of what was granted or of what is loose; NULL: nobody holds anything. */
static struct link *holds_most(const struct net *net, bool granted) {
    struct link *most = NULL;
    size_t held = 0;
    for (struct link *link = net->first; link; link = link->next) {
        size_t own = granted ? link->streams.granted : link->streams.loose;
        if (link->state == LINK_CLOSING || own <= held) continue;
        most = link;
        held = own;
    }
    return most;
}

/* Too much is loose: who holds most of it goes, until the rest fits. What a link holds comes back when it is freed. */
static void relieve_crowd(struct net *net) {
    size_t over = budget_crowd(&net->budget);
    if (over == 0) return;
    size_t leaving = 0;
    for (const struct link *link = net->first; link; link = link->next) leaving += link->state == LINK_CLOSING ? link->streams.loose : 0;
    for (struct link *link = holds_most(net, false); link && leaving < over; link = holds_most(net, false)) {
        leaving += link->streams.loose;
        link_fail(link, COROLLA_BUSY, "memory for half-sent messages is short, and this link holds most of it");
    }
}

/* Nobody came to a grant for message_ms, since half-sent messages hold the memory: who holds most of it goes. */
static void relieve_hogged(struct net *net, bool granted) {
    uint64_t now = clock_us();
    if (granted || !budget_hogged(&net->budget)) {
        net->hogged_us = 0;
        return;
    }
    if (net->hogged_us == 0) net->hogged_us = now;
    if (now - net->hogged_us <= (uint64_t)net->config.message_ms * 1000) return;
    net->hogged_us = 0;
    struct link *link = holds_most(net, true);
    if (link) link_fail(link, COROLLA_BUSY, "others wait for memory, and half-sent messages of this link hold most of it");
}

/* Memory may have come back: grants, and links that are read again. */
static void relieve(struct net *net) {
    if (!net->watching) return;
    relieve_crowd(net);
    relieve_hogged(net, budget_grant(&net->budget));
    bool wanted = net->budget.first != NULL;
    for (struct link *link = net->first; link; link = link->next) {
        if (link->paused) link_resume(link);
        wanted = wanted || link->paused;
    }
    net->watching = wanted;
    pool_watch(net->pool, wanted);
}

struct body *net_body_new(struct net *net, size_t size) {
    return pool_take(net->pool, NULL, size);
}
void net_body_free(struct net *net, struct body *body) { pool_give(net->pool, body); }

/* ---- stopping -------------------------------------------------------------------------------------------------- */

static void cut_all(uv_timer_t *timer) {
    struct net *net = timer->data;
    for (struct link *link = net->first; link; link = link->next) link_fail(link, COROLLA_OK, "closed");
}

void net_link_gone(struct net *net) {
    if (net->budget.first) uv_async_send(&net->wake); /* what it held is free */
    if (net->stopping && !net->first) uv_stop(&net->loop);
}

static void begin_stop(struct net *net) {
    net->stopping = true;
    if (net->listening) {
        net->listening = false;
        uv_close((uv_handle_t *)&net->listener, NULL);
    }
    dial_stop_all(net);
    for (struct link *link = net->first; link; link = link->next) link_close(link, COROLLA_OK, "this node is leaving");
    uv_timer_start(&net->timer, cut_all, STOP_MS, 0);
    if (!net->first) uv_stop(&net->loop);
}

void net_stop(struct net *net) {
    atomic_store(&net->stop_asked, true);
    uv_async_send(&net->wake);
}

static void on_wake(uv_async_t *wake) {
    struct net *net = wake->data;
    run_posts(net);
    relieve(net);
    if (atomic_load(&net->stop_asked) && !net->stopping) begin_stop(net);
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

static enum corolla_status check_config(const struct net_config *config, struct corolla_error *err) {
    if (!config->identity || !config->events.on_up || !config->events.on_message || !config->events.on_down)
        return err_set(err, COROLLA_INVALID, "a net needs an identity and all events");
    if (config->ping_ms == 0 || config->dead_ms <= config->ping_ms || config->handshake_ms == 0 || config->message_ms == 0 ||
        config->dial_ms == 0)
        return err_set(err, COROLLA_INVALID, "the times of a net are positive, and dead_ms is over ping_ms");
    if (config->link_bytes_max < RECEIVE_LINK_MIN || config->total_bytes_max < config->link_bytes_max)
        return err_set(err, COROLLA_INVALID, "link_bytes_max is at least %u, so that the largest message fits, and total_bytes_max no less",
                       RECEIVE_LINK_MIN);
    if (config->upload_bytes_per_s > 0 &&
        (config->upload_bytes_per_s < COROLLA_UPLOAD_MIN || config->upload_bytes_per_s > COROLLA_UPLOAD_MAX))
        return err_set(err, COROLLA_INVALID, "an upload limit is 64K to 1T bytes per second, or there is none");
    return COROLLA_OK;
}

static enum corolla_status open_parts(struct net *net, const struct net_config *config, struct corolla_error *err) {
    net->posts = calloc(POSTS_MAX, sizeof(*net->posts)); /* touched as it is used */
    net->pool = pool_new(on_return, net);
    if (!net->posts || !net->pool) return err_set(err, COROLLA_NOMEM, "no memory for a net");
    net->budget = (struct budget){.pool = net->pool,
                                  .link_max = config->link_bytes_max,
                                  .total_max = config->total_bytes_max,
                                  .queued_max = config->total_bytes_max,
                                  .on_wait = on_wait,
                                  .user = net};
    enum corolla_status status = tls_context_new(&net->tls, config->identity, err);
    return status == COROLLA_OK ? listen_open(net, config, err) : status;
}

static void on_trim(uv_timer_t *timer) {
    struct net *net = timer->data;
    if (net->pool) pool_trim(net->pool);
}

enum corolla_status net_open(struct net **out_net, const struct net_config *config, struct corolla_error *err) {
    enum corolla_status status = check_config(config, err);
    if (status != COROLLA_OK) return status;
    struct net *net = calloc(1, sizeof(*net));
    if (!net || uv_loop_init(&net->loop) != 0) {
        free(net);
        return err_set(err, COROLLA_NOMEM, "no memory for a net");
    }
    pthread_mutex_init(&net->lock, NULL);
    pthread_cond_init(&net->room, NULL);
    claim_thread(net);
    net->config = *config;
    net->config.listen = NULL;
    net->config.announces = NULL;
    net->self.id = *identity_id(config->identity);
    int result = uv_async_init(&net->loop, &net->wake, on_wake);
    uv_timer_init(&net->loop, &net->timer);
    uv_timer_init(&net->loop, &net->trim);
    net->wake.data = net->timer.data = net->trim.data = net;
    uv_timer_start(&net->trim, on_trim, TRIM_MS, TRIM_MS);
    upload_init(net, config->upload_bytes_per_s);
    status = result != 0 ? err_set(err, COROLLA_IO, "cannot start a loop: %s", uv_strerror(result)) : open_parts(net, config, err);
    if (status != COROLLA_OK) {
        net_close(net);
        return status;
    }
    *out_net = net;
    return COROLLA_OK;
}

/* Takes a SIGPIPE that came while the signal was blocked, so that unblocking does not deliver it. */
static void swallow_sigpipe(const sigset_t *pipe) {
#ifndef __APPLE__ /* libuv sets SO_NOSIGPIPE there */
    while (sigtimedwait(pipe, NULL, &(struct timespec){0, 0}) == SIGPIPE) {
    }
#else
    (void)pipe;
#endif
}

void net_run(struct net *net) {
    sigset_t pipe, before;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
    claim_thread(net);
    uv_async_send(&net->wake); /* for what was posted or asked before */
    do {
        uv_run(&net->loop, UV_RUN_DEFAULT);
    } while (!net->stopping || net->first);
    run_posts(net); /* nothing that was posted before is dropped */
    if (!sigismember(&before, SIGPIPE)) swallow_sigpipe(&pipe);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void on_timer_closed(uv_handle_t *handle) { free(handle->data); }

struct net_timer {
    uv_timer_t timer;
    void (*fn)(void *user);
    void *user;
    struct net *net;
};

static void close_handle(uv_handle_t *handle, void *user) {
    struct net *net = user;
    if (uv_is_closing(handle)) return;
    bool own = handle == (uv_handle_t *)&net->wake || handle == (uv_handle_t *)&net->timer || handle == (uv_handle_t *)&net->trim ||
               handle == (uv_handle_t *)&net->listener || handle == (uv_handle_t *)&net->upload.timer;
    uv_close(handle, own ? NULL : on_timer_closed); /* when no link and no dial is left, the others are net_timers */
}

void net_close(struct net *net) {
    if (!net) return;
    claim_thread(net);
    if (net->tls && !net->stopping && net->posts) { /* it never ran: dials may be waiting */
        dial_stop_all(net);
        cut_all(&net->timer);
    }
    uv_walk(&net->loop, close_handle, net);
    uv_run(&net->loop, UV_RUN_DEFAULT); /* close callbacks; a name that is being resolved is waited for */
    int result = uv_loop_close(&net->loop);
    assert(result == 0);
    while (net->chunks_free) {
        struct chunk *chunk = net->chunks_free;
        net->chunks_free = chunk->next;
        free(chunk);
    }
    free(net->out);
    tls_context_free(net->tls);
    pool_free(net->pool);
    free(net->posts);
    pthread_cond_destroy(&net->room);
    pthread_mutex_destroy(&net->lock);
    free(net);
}

const struct node_ref *net_self(const struct net *net) { return &net->self; }

void net_bytes(const struct net *net, uint64_t *out_received, uint64_t *out_sent) {
    *out_received = net->received_bytes;
    *out_sent = net->sent_bytes;
}

/* ---- timers ---------------------------------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *handle) {
    struct net_timer *timer = handle->data;
    timer->fn(timer->user);
}

struct net_timer *net_timer_new(struct net *net, void (*fn)(void *user), void *user) {
    assert(net_on_loop(net));
    struct net_timer *timer = calloc(1, sizeof(*timer));
    if (!timer) return NULL;
    timer->fn = fn;
    timer->user = user;
    timer->net = net;
    uv_timer_init(&net->loop, &timer->timer);
    timer->timer.data = timer;
    return timer;
}

void net_timer_start(struct net_timer *timer, uint32_t delay_ms, uint32_t repeat_ms) {
    assert(net_on_loop(timer->net));
    uv_update_time(&timer->net->loop); /* the delay counts from now, not from the start of this round */
    uv_timer_start(&timer->timer, on_timer, delay_ms, repeat_ms);
}

void net_timer_stop(struct net_timer *timer) { uv_timer_stop(&timer->timer); }

void net_timer_free(struct net_timer *timer) {
    if (timer) uv_close((uv_handle_t *)&timer->timer, on_timer_closed);
}
