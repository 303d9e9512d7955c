/* peers.c - dialling the servers of the join codes, their INFO, and the loop thread. See peers.h.
 *
 * Messages of sessions are handed on to remote_loop.c. A server that breaks the protocol loses its link; nothing is remembered
 * against it, since a client dials only the servers that its user named.
 */
#include "client/peers.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "client/remote.h"
#include "wire/join.h"

void peers_cond_init(pthread_cond_t *cond) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

void peers_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline_us, uint32_t max_ms) {
    uint64_t until_us = clock_us() + (uint64_t)max_ms * 1000;
    if (deadline_us < until_us) until_us = deadline_us;
    struct timespec until = {.tv_sec = (time_t)(until_us / 1000000), .tv_nsec = (long)(until_us % 1000000) * 1000};
    pthread_cond_timedwait(cond, lock, &until);
}

static void peer_set_label(struct peer *peer) {
    char id[17], instance[16] = "";
    hex_encode(peer->ref.id.key, 8, id);
    if (peer->ref.id.instance != 0) snprintf(instance, sizeof instance, "/%u", peer->ref.id.instance);
    snprintf(peer->label, sizeof peer->label, "server %s%s", id, instance);
}

/* ---- loop thread: links and INFO ------------------------------------------------------------------------------- */

static struct peer *peer_of_link(struct peers *peers, const struct link *link) {
    for (size_t i = 0; i < peers->n; i++)
        if (peers->peers[i].link == link) return &peers->peers[i];
    return NULL;
}

/* The asking is over. The lock is held. */
static void answered(struct peers *peers, struct peer *peer, const struct corolla_error *error) {
    peer->asking = false;
    peer->error = error != NULL ? *error : (struct corolla_error){.status = COROLLA_OK};
    pthread_cond_broadcast(&peers->changed);
}

static void on_dialled(void *user, struct link *link, const struct corolla_error *err) {
    struct peer *peer = user;
    pthread_mutex_lock(&peer->peers->lock);
    peer->link = link;
    peer->up = link != NULL;
    if (link == NULL) {
        struct corolla_error error = *err;
        err_prefix(&error, error.status, "%s", peer->label);
        answered(peer->peers, peer, &error);
    }
    pthread_mutex_unlock(&peer->peers->lock);
    if (link != NULL) link_send(link, link_stream_new(link), LINK_URGENT, MSG_INFO_GET, NULL, 0, NULL);
}

static void ask_all(void *user) {
    struct peers *peers = user;
    for (size_t i = 0; i < peers->n; i++) {
        struct peer *peer = &peers->peers[i];
        pthread_mutex_lock(&peers->lock);
        bool ask = peer->asking;
        pthread_mutex_unlock(&peers->lock);
        if (ask) net_dial(peers->net, &peer->ref, on_dialled, peer);
    }
}

/* What the decoder cannot know: that the announcement fits our model. */
static bool info_plausible(const struct peers *peers, const struct msg_info *info) {
    if (info->begin >= info->end || info->end > info->n_blocks) return false;
    if (memcmp(info->model, peers->model, ID_SIZE) != 0) return true; /* another model; the chain says so */
    return info->n_blocks == peers->n_blocks && info->n_embd == peers->n_embd;
}

static void on_info(struct peers *peers, struct link *link, const struct message *msg) {
    struct corolla_error error;
    struct msg_info info;
    enum corolla_status status = msg_info_decode(msg->header, msg->header_size, &info, &error);
    if (status == COROLLA_OK && !info_plausible(peers, &info))
        status = err_set(&error, COROLLA_PEER_FAULT, "its INFO announces blocks %u:%u of %u", info.begin, info.end, info.n_blocks);
    if (status != COROLLA_OK) {
        link_close(link, COROLLA_PEER_FAULT, error.message);
        return;
    }
    pthread_mutex_lock(&peers->lock);
    struct peer *peer = peer_of_link(peers, link);
    if (peer != NULL) {
        peer->info = info;
        peer->has_info = true;
        peer->info_us = clock_us();
        peer->rtt_us = link_rtt_us(link);
        answered(peers, peer, NULL);
    }
    pthread_mutex_unlock(&peers->lock);
}

static void on_drain(struct peers *peers, struct link *link) {
    pthread_mutex_lock(&peers->lock);
    struct peer *peer = peer_of_link(peers, link);
    if (peer != NULL) peer->info.draining = true;
    pthread_mutex_unlock(&peers->lock);
}

static void on_message(void *user, struct link *link, uint32_t stream, struct message *msg) {
    struct peers *peers = user;
    switch (msg->kind) {
    case MSG_INFO: on_info(peers, link, msg); break;
    case MSG_DRAIN: on_drain(peers, link); break;
    case MSG_OPENED: remote_on_opened(peers, link, stream, msg); break;
    case MSG_RESULT: remote_on_result(peers, link, stream, msg); break;
    case MSG_FAILED: remote_on_failed(peers, link, stream, msg); break;
    case MSG_INFO_GET:
    case MSG_OPEN:
    case MSG_STEP:
    case MSG_CLOSE: link_close(link, COROLLA_PEER_FAULT, "a client was sent a message for servers"); break;
    default: break; /* of a later version */
    }
    if (msg->body != NULL) net_body_free(peers->net, msg->body);
    msg->body = NULL;
}

static void on_up(void *user, struct link *link) {
    (void)user;
    log_debug("link.up address=%s", link_address(link));
}

static void on_down(void *user, struct link *link, enum corolla_status status, const char *why) {
    struct peers *peers = user;
    log_debug("link.down address=%s status=%s why=%s", link_address(link), corolla_status_name(status), why == NULL ? "" : why);
    pthread_mutex_lock(&peers->lock);
    struct peer *peer = peer_of_link(peers, link);
    if (peer != NULL) {
        struct corolla_error error;
        err_set(&error, status == COROLLA_OK ? COROLLA_PEER_LOST : status, "%s: %s", peer->label, why == NULL ? "connection lost" : why);
        peer->link = NULL;
        peer->up = false;
        if (peer->asking) answered(peers, peer, &error);
    }
    pthread_mutex_unlock(&peers->lock);
    remote_on_down(peers, link, status, why);
}

/* ---- any thread ------------------------------------------------------------------------------------------------ */

void peers_refresh(struct peers *peers, uint32_t max_age_ms, uint32_t timeout_ms) {
    uint64_t now_us = clock_us(), deadline_us = now_us + (uint64_t)timeout_ms * 1000;
    pthread_mutex_lock(&peers->lock);
    bool ask = false;
    for (size_t i = 0; i < peers->n; i++) {
        struct peer *peer = &peers->peers[i];
        bool fresh = peer->up && peer->has_info && now_us - peer->info_us <= (uint64_t)max_age_ms * 1000;
        if (fresh || peer->asking) continue;
        peer->asking = ask = true;
    }
    pthread_mutex_unlock(&peers->lock);
    if (ask) net_post(peers->net, ask_all, peers);
    pthread_mutex_lock(&peers->lock);
    for (size_t i = 0; i < peers->n; i++) {
        struct peer *peer = &peers->peers[i];
        while (peer->asking && clock_us() < deadline_us) peers_cond_wait(&peers->changed, &peers->lock, deadline_us, timeout_ms);
        if (!peer->asking) continue;
        struct corolla_error error;
        err_set(&error, COROLLA_TIMEOUT, "%s did not answer within %u ms", peer->label, timeout_ms);
        answered(peers, peer, &error);
    }
    pthread_mutex_unlock(&peers->lock);
}

/* The time of one block from the speed of the whole span; 0: not known. Routing bounds what is absurd. */
static float block_us(const struct msg_info *info, float tokens_per_s) {
    return tokens_per_s > 0 ? 1e6f / tokens_per_s / (float)(info->end - info->begin) : 0;
}

size_t peers_servers(struct peers *peers, struct route_server out_servers[PEERS_MAX], size_t out_indices[PEERS_MAX]) {
    size_t n = 0;
    pthread_mutex_lock(&peers->lock);
    for (size_t i = 0; i < peers->n; i++) {
        const struct peer *peer = &peers->peers[i];
        const struct msg_info *info = &peer->info;
        if (!peer->up || !peer->has_info) continue;
        struct route_server *server = &out_servers[n];
        *server = (struct route_server){.label = peer->label, .begin = info->begin, .end = info->end};
        server->id = le64_get(peer->ref.id.key) + peer->ref.id.instance;
        memcpy(server->model, info->model, ID_SIZE);
        server->decode_block_us = block_us(info, info->decode_tokens_per_s);
        server->prefill_block_us = block_us(info, info->prefill_tokens_per_s);
        server->rtt_us = peer->rtt_us;
        server->tokens_max = info->session_tokens_max < info->cache_tokens_left ? info->session_tokens_max : info->cache_tokens_left;
        server->wires = info->wires;
        server->draining = info->draining;
        server->sessions = info->sessions;
        server->exact = info->exact;
        server->arithmetic_class = info->arithmetic_class;
        out_indices[n++] = i;
    }
    pthread_mutex_unlock(&peers->lock);
    return n;
}

bool peers_first_error(struct peers *peers, struct corolla_error *out_error) {
    bool found = false;
    pthread_mutex_lock(&peers->lock);
    for (size_t i = 0; i < peers->n && !found; i++) {
        found = peers->peers[i].error.status != COROLLA_OK;
        if (found) *out_error = peers->peers[i].error;
    }
    pthread_mutex_unlock(&peers->lock);
    return found;
}

/* ---- opening and closing --------------------------------------------------------------------------------------- */

static enum corolla_status add_joins(struct peers *peers, const struct peers_config *config, struct corolla_error *err) {
    if (config->n_joins == 0)
        return err_set(err, COROLLA_INVALID, "no servers are named: give the join code of at least one, or choose local");
    for (size_t i = 0; i < config->n_joins; i++) {
        struct node_ref ref;
        enum corolla_status status = join_decode(config->joins[i], &ref, err);
        if (status != COROLLA_OK) return err_prefix(err, status, "join code %zu", i + 1);
        bool known = false;
        for (size_t j = 0; j < peers->n && !known; j++) known = node_id_equal(&peers->peers[j].ref.id, &ref.id);
        if (known) continue;
        if (peers->n == PEERS_MAX) return err_set(err, COROLLA_INVALID, "more than %d servers are named", PEERS_MAX);
        struct peer *peer = &peers->peers[peers->n++];
        peer->peers = peers;
        peer->ref = ref;
        peer_set_label(peer);
    }
    return COROLLA_OK;
}

static enum corolla_status open_membership(struct peers *peers, const struct peers_config *config, struct corolla_error *err) {
    struct membership_config membership = {.identity = peers->identity,
                                           .home = config->home,
                                           .joins = config->joins,
                                           .n_joins = config->n_joins,
                                           .role = COROLLA_ROLE_CLIENT,
                                           .timeout_ms = config->timeout_ms};
    return membership_open(&peers->membership, &membership, err);
}

static void *loop_main(void *user) {
    net_run(((struct peers *)user)->net);
    return NULL;
}

/* Signals are for the threads of the application. */
static int start_loop(struct peers *peers) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&peers->thread, NULL, loop_main, peers);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

enum corolla_status peers_open(struct peers **out_peers, const struct peers_config *config, struct corolla_error *err) {
    struct peers *peers = calloc(1, sizeof *peers);
    if (peers == NULL) return err_set(err, COROLLA_NOMEM, "out of memory for a swarm");
    pthread_mutex_init(&peers->lock, NULL);
    peers_cond_init(&peers->changed);
    memcpy(peers->model, config->model, ID_SIZE);
    peers->n_embd = config->n_embd;
    peers->n_blocks = config->n_blocks;
    enum corolla_status status = add_joins(peers, config, err);
    if (status == COROLLA_OK) status = identity_open(&peers->identity, config->home, err);
    if (status == COROLLA_OK) status = open_membership(peers, config, err);
    if (status == COROLLA_OK) {
        struct net_config net;
        net_config_default(&net);
        net.identity = peers->identity;
        net.dial_ms = config->timeout_ms;
        net.events = (struct net_events){.on_up = on_up, .on_message = on_message, .on_down = on_down, .user = peers};
        membership_guard(peers->membership, &net);
        status = net_open(&peers->net, &net, err);
    }
    if (status == COROLLA_OK) status = membership_start(peers->membership, peers->net, err);
    if (status == COROLLA_OK && start_loop(peers) != 0) status = err_set(err, COROLLA_NOMEM, "cannot start the network thread");
    if (status != COROLLA_OK) {
        peers_close(peers);
        return status;
    }
    peers->running = true;
    *out_peers = peers;
    return COROLLA_OK;
}

void peers_close(struct peers *peers) {
    if (peers == NULL) return;
    if (peers->running) {
        net_stop(peers->net);
        pthread_join(peers->thread, NULL);
    }
    struct remote *left = peers->remotes; /* closed, but the loop had no time for them */
    for (struct remote *r = left; r != NULL; r = r->next) remote_drop_bodies(r);
    if (peers->net != NULL) net_close(peers->net);
    while (left != NULL) {
        struct remote *next = left->next;
        remote_free(left);
        left = next;
    }
    membership_close(peers->membership);
    identity_close(peers->identity);
    pthread_cond_destroy(&peers->changed);
    pthread_mutex_destroy(&peers->lock);
    free(peers);
}
