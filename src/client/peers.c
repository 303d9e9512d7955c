/* peers.c - the loop thread of a client, its links, and the servers that it knows. See peers.h.
 *
 * Messages of sessions are handed on to remote_loop.c, those of the swarm to the mesh.
 */
#include "client/peers.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "client/remote.h"
#include "mesh/entry.h"

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

void peers_pause(struct peers *peers, uint32_t ms) {
    pthread_mutex_lock(&peers->lock);
    peers_cond_wait(&peers->changed, &peers->lock, UINT64_MAX / 2, ms);
    pthread_mutex_unlock(&peers->lock);
}

#define SETTLE_POLL_MS 10 /* while a client waits for the swarm */
#define PINGS_BEFORE_DEAD 4

/* ---- loop thread: records -------------------------------------------------------------------------------------- */

static void on_changed(void *user, const struct gossip_entry *entry, enum gossip_change what) {
    struct peers *peers = user;
    const struct record *record = entry->record;
    bool ours = !peers->has_model || memcmp(record->model, peers->model, ID_SIZE) == 0;
    pthread_mutex_lock(&peers->lock);
    struct peer *peer = ours ? peers_get(peers, &record->node) : peers_find(peers, &record->node.id);
    if (peer != NULL) {
        peer->has_record = ours && what != GOSSIP_GONE && record->state != RECORD_OFFLINE;
        peer->suspected = entry->suspected;
        peer->record = *record;
        if (record->node.n_addrs > 0) peer->ref = record->node;
        peers->lonely = false;
        pthread_cond_broadcast(&peers->changed);
    }
    pthread_mutex_unlock(&peers->lock);
}

/* Like the server of a join code. */
static void on_entered(void *user, const struct node_ref *node) {
    struct peers *peers = user;
    pthread_mutex_lock(&peers->lock);
    struct peer *peer = peers_get(peers, node);
    if (peer != NULL) peer->named = true;
    pthread_mutex_unlock(&peers->lock);
}

static void on_settle_look(void *user) {
    struct peers *peers = user;
    if (!mesh_settled(peers->mesh)) return;
    net_timer_stop(peers->timer);
    struct corolla_error why = {.status = COROLLA_NO_CHAIN};
    bool lonely = mesh_neighbours(peers->mesh) == 0;
    bool failed = lonely && mesh_entry_errors(peers->mesh, &why);
    if (lonely && !failed) err_set(&why, COROLLA_NO_CHAIN, "no server was found: start one on this network, or name one with --join");
    pthread_mutex_lock(&peers->lock);
    peers->settled = true;
    peers->lonely = lonely;
    peers->entries_failed = failed;
    peers->why_lonely = why;
    pthread_cond_broadcast(&peers->changed);
    pthread_mutex_unlock(&peers->lock);
}

/* ---- loop thread: links and INFO ------------------------------------------------------------------------------- */

static struct peer *peer_of_link(struct peers *peers, const struct link *link) {
    for (size_t i = 0; i < peers->n; i++)
        if (peers->list[i]->link == link) return peers->list[i];
    return NULL;
}

/* The asking is over. The lock is held. */
static void answered(struct peers *peers, struct peer *peer, const struct corolla_error *error) {
    peer->asking = false;
    peer->error = error != NULL ? *error : (struct corolla_error){.status = COROLLA_OK};
    if (error != NULL) peer_note(peer, error->status);
    pthread_cond_broadcast(&peers->changed);
}

static void on_dialled(void *user, struct link *link, const struct corolla_error *err) {
    struct peer *peer = user;
    pthread_mutex_lock(&peer->peers->lock);
    enum msg_kind question = peer->question;
    peer->link = link;
    peer->up = link != NULL;
    if (link == NULL) {
        struct corolla_error error = *err;
        err_prefix(&error, error.status, "%s", peer->label);
        answered(peer->peers, peer, &error);
    }
    pthread_mutex_unlock(&peer->peers->lock);
    if (link != NULL) link_send(link, link_stream_new(link), LINK_URGENT, question, NULL, 0, NULL);
}

/* Dials those that somebody waits for; each dial asks. */
static void ask_all(void *user) {
    struct peers *peers = user;
    for (size_t i = 0;; i++) { /* the list grows only on this thread */
        pthread_mutex_lock(&peers->lock);
        struct peer *peer = i < peers->n ? peers->list[i] : NULL;
        bool ask = peer != NULL && peer->asking && !peer->dialled;
        struct node_ref ref;
        if (ask) {
            peer->dialled = true;
            ref = peer->ref;
        }
        pthread_mutex_unlock(&peers->lock);
        if (peer == NULL) return;
        if (ask) net_dial(peers->net, &ref, on_dialled, peer);
    }
}

/* What the decoder cannot know: that the announcement fits our model. */
static bool info_plausible(const struct peers *peers, const struct msg_info *info) {
    if (info->begin >= info->end || info->end > info->n_blocks) return false;
    if (!peers->has_model || memcmp(info->model, peers->model, ID_SIZE) != 0) return true; /* another model; the chain says so */
    return info->n_blocks == peers->n_blocks && info->n_embd == peers->n_embd;
}

static void on_info(struct peers *peers, struct link *link, const struct message *msg) {
    struct corolla_error error;
    struct msg_info info;
    enum corolla_status status = msg_info_decode(msg->header, msg->header_size, &info, &error);
    if (status == COROLLA_OK && !info_plausible(peers, &info))
        status = err_set(&error, COROLLA_PEER_FAULT, "its INFO announces blocks %u:%u of %u", info.begin, info.end, info.n_blocks);
    if (status != COROLLA_OK) {
        remote_on_fault(peers, link, error.message);
        return;
    }
    pthread_mutex_lock(&peers->lock);
    struct peer *peer = peer_of_link(peers, link);
    if (peer != NULL) {
        peer->info = info;
        if (peer->error.status != COROLLA_OK) peer->banned_until_us = 0; /* it did not answer, and does now */
        peer->leaving = peer->leaving && info.draining;
        peer->has_info = true;
        peers->lonely = false;
        peer->info_us = clock_us();
        peer->rtt_us = link_rtt_us(link);
        answered(peers, peer, NULL);
    }
    pthread_mutex_unlock(&peers->lock);
}

/* A server that answers INFO_GET so hosts nothing yet. */
static bool on_not_ready(struct peers *peers, struct link *link, const struct message *msg) {
    static const uint8_t none[SESSION_SIZE];
    struct msg_failed failed;
    struct corolla_error error;
    if (msg_failed_decode(msg->header, msg->header_size, &failed, &error) != COROLLA_OK) return false; /* remote_on_failed() says so */
    if (memcmp(failed.session, none, SESSION_SIZE) != 0) return false;
    pthread_mutex_lock(&peers->lock);
    struct peer *peer = peer_of_link(peers, link);
    if (peer != NULL && peer->asking) {
        err_set(&error, failed.status == COROLLA_OK ? COROLLA_BUSY : failed.status, "%s: %s", peer->label, failed.text);
        answered(peers, peer, &error);
    }
    pthread_mutex_unlock(&peers->lock);
    return true;
}

static void on_drain(struct peers *peers, struct link *link, const struct message *msg) {
    struct msg_drain drain;
    struct corolla_error error;
    if (msg_drain_decode(msg->header, msg->header_size, &drain, &error) != COROLLA_OK) {
        remote_on_fault(peers, link, error.message);
        return;
    }
    pthread_mutex_lock(&peers->lock);
    struct peer *peer = peer_of_link(peers, link);
    if (peer == NULL) peer = peers_find(peers, &link_peer(link)->id);
    if (peer != NULL) {
        peer->info.draining = true;
        peer->leaving = drain.leaving;
    }
    pthread_mutex_unlock(&peers->lock);
}

static void on_message(void *user, struct link *link, uint32_t stream, struct message *msg) {
    struct peers *peers = user;
    if (mesh_message(peers->mesh, link, msg)) return;
    switch (msg->kind) {
    case MSG_INFO: on_info(peers, link, msg); break;
    case MSG_DRAIN: on_drain(peers, link, msg); break;
    case MSG_OPENED: remote_on_opened(peers, link, stream, msg); break;
    case MSG_SYNCED: remote_on_synced(peers, link, stream, msg); break;
    case MSG_RESULT: remote_on_result(peers, link, stream, msg); break;
    case MSG_FAILED:
        if (!on_not_ready(peers, link, msg)) remote_on_failed(peers, link, stream, msg);
        break;
    case MSG_INFO_GET:
    case MSG_OPEN:
    case MSG_STEP:
    case MSG_SYNC:
    case MSG_REPLAY:
    case MSG_CLOSE: remote_on_fault(peers, link, "a client was sent a message for servers"); break;
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
    mesh_link_down(peers->mesh, link, status);
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

void peers_settle(struct peers *peers, uint64_t deadline_us) {
    pthread_mutex_lock(&peers->lock);
    while (!peers->settled && clock_us() < deadline_us) peers_cond_wait(&peers->changed, &peers->lock, deadline_us, 1000);
    pthread_mutex_unlock(&peers->lock);
}

void peers_ask(struct peers *peers, struct peer *const *wanted, size_t n, uint32_t max_age_ms, uint64_t deadline_us) {
    uint64_t now_us = clock_us();
    pthread_mutex_lock(&peers->lock);
    bool ask = false;
    for (size_t i = 0; i < n; i++) {
        struct peer *peer = wanted[i];
        bool fresh = peer->up && peer->has_info && now_us - peer->info_us <= (uint64_t)max_age_ms * 1000;
        if (fresh || peer->asking) continue;
        peer->asking = ask = true;
        peer->dialled = false;
        peer->question = MSG_INFO_GET;
    }
    pthread_mutex_unlock(&peers->lock);
    if (ask) net_post(peers->net, ask_all, peers);
    pthread_mutex_lock(&peers->lock);
    for (size_t i = 0; i < n; i++) {
        struct peer *peer = wanted[i];
        while (peer->asking && clock_us() < deadline_us) peers_cond_wait(&peers->changed, &peers->lock, deadline_us, 1000);
        if (!peer->asking) continue;
        struct corolla_error error;
        err_set(&error, COROLLA_TIMEOUT, "%s did not answer within %u ms", peer->label, (unsigned)((clock_us() - now_us) / 1000));
        answered(peers, peer, &error);
    }
    pthread_mutex_unlock(&peers->lock);
}

enum corolla_status peers_order(struct peers *peers, struct peer *peer, enum msg_kind question, uint64_t deadline_us,
                                struct corolla_error *err) {
    pthread_mutex_lock(&peers->lock);
    while (peer->asking && clock_us() < deadline_us) peers_cond_wait(&peers->changed, &peers->lock, deadline_us, 1000);
    peer->question = question;
    peer->asking = true;
    peer->dialled = false;
    pthread_mutex_unlock(&peers->lock);
    net_post(peers->net, ask_all, peers);
    pthread_mutex_lock(&peers->lock);
    while (peer->asking && clock_us() < deadline_us) peers_cond_wait(&peers->changed, &peers->lock, deadline_us, 1000);
    struct corolla_error error = peer->error;
    if (peer->asking) err_set(&error, COROLLA_TIMEOUT, "%s did not answer", peer->label);
    peer->asking = false;
    pthread_mutex_unlock(&peers->lock);
    if (err != NULL && error.status != COROLLA_OK) *err = error;
    return error.status;
}

bool peers_first_error(struct peers *peers, struct corolla_error *out_error) {
    pthread_mutex_lock(&peers->lock);
    bool lonely = peers->settled && peers->lonely, found = lonely && peers->entries_failed;
    for (size_t i = 0; i < peers->n && !found; i++) {
        found = peers->list[i]->named && peers->list[i]->error.status != COROLLA_OK;
        if (found) *out_error = peers->list[i]->error;
    }
    if (lonely && (peers->entries_failed || !found)) *out_error = peers->why_lonely;
    pthread_mutex_unlock(&peers->lock);
    return found || lonely;
}

/* ---- opening and closing --------------------------------------------------------------------------------------- */

/* The servers of join codes are asked directly as well, so that several swarms that know nothing of each other make one chain. */
static enum corolla_status add_joins(struct peers *peers, const struct peers_config *config, struct corolla_error *err) {
    for (size_t i = 0; i < config->n_joins; i++) {
        struct entry entry;
        enum corolla_status status = entry_parse(config->joins[i], &entry, err);
        if (status != COROLLA_OK) return err_prefix(err, status, "join code %zu", i + 1);
        if (!entry.has_node) continue;
        struct peer *peer = peers_get(peers, &entry.node);
        if (peer == NULL) return err_set(err, COROLLA_NOMEM, "out of memory for a swarm");
        peer->named = true;
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

static bool in_use(void *user, const struct link *link) {
    struct peers *peers = user;
    return peer_of_link(peers, link) != NULL; /* links are the loop thread's */
}

static enum corolla_status open_mesh(struct peers *peers, const struct peers_config *config, struct corolla_error *err) {
    struct mesh_config mesh = {.net = peers->net,
                               .identity = peers->identity,
                               .membership = peers->membership,
                               .home = config->home,
                               .joins = config->joins,
                               .n_joins = config->n_joins,
                               .leaf = true,
                               .lan = config->lan,
                               .changed = on_changed,
                               .entered = on_entered,
                               .in_use = in_use,
                               .user = peers};
    enum corolla_status status = mesh_open(&peers->mesh, &mesh, err);
    if (status != COROLLA_OK) return status;
    peers->timer = net_timer_new(peers->net, on_settle_look, peers);
    if (peers->timer == NULL) return err_set(err, COROLLA_NOMEM, "out of memory for a swarm");
    net_timer_start(peers->timer, 1, SETTLE_POLL_MS);
    return COROLLA_OK;
}

static enum corolla_status open_net(struct peers *peers, const struct peers_config *config, struct corolla_error *err) {
    struct net_config net;
    net_config_default(&net);
    net.identity = peers->identity;
    net.dial_ms = config->timeout_ms;
    if (config->hang_ms > 0) {
        net.dead_ms = config->hang_ms;
        if (net.ping_ms > config->hang_ms / PINGS_BEFORE_DEAD) net.ping_ms = config->hang_ms / PINGS_BEFORE_DEAD;
    }
    net.events = (struct net_events){.on_up = on_up, .on_message = on_message, .on_down = on_down, .user = peers};
    membership_guard(peers->membership, &net);
    enum corolla_status status = net_open(&peers->net, &net, err);
    return status == COROLLA_OK ? membership_start(peers->membership, peers->net, err) : status;
}

enum corolla_status peers_open(struct peers **out_peers, const struct peers_config *config, struct corolla_error *err) {
    struct peers *peers = calloc(1, sizeof *peers);
    if (peers == NULL) return err_set(err, COROLLA_NOMEM, "out of memory for a swarm");
    pthread_mutex_init(&peers->lock, NULL);
    peers_cond_init(&peers->changed);
    peers->has_model = config->model != NULL;
    if (peers->has_model) memcpy(peers->model, config->model, ID_SIZE);
    peers->n_embd = config->n_embd;
    peers->n_blocks = config->n_blocks;
    enum corolla_status status = add_joins(peers, config, err);
    if (status == COROLLA_OK) status = identity_open(&peers->identity, config->home, err);
    if (status == COROLLA_OK) status = open_membership(peers, config, err);
    if (status == COROLLA_OK) status = open_net(peers, config, err);
    if (status == COROLLA_OK) status = open_mesh(peers, config, err);
    if (status == COROLLA_OK && !thread_start(&peers->thread, loop_main, peers))
        status = err_set(err, COROLLA_NOMEM, "cannot start the network thread");
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
    mesh_close(peers->mesh);
    net_timer_free(peers->timer);
    if (peers->net != NULL) net_close(peers->net);
    while (left != NULL) {
        struct remote *next = left->next;
        remote_free(left);
        left = next;
    }
    membership_close(peers->membership);
    identity_close(peers->identity);
    for (size_t i = 0; i < peers->n; i++) free(peers->list[i]);
    free(peers->list);
    pthread_cond_destroy(&peers->changed);
    pthread_mutex_destroy(&peers->lock);
    free(peers);
}
