/* node.c - see node.h: the life of a server, and what it does about each event of its net.
 *
 * A peer that sends what cannot be decoded loses its link; a message that can be understood but not followed is answered. Kinds
 * that later versions may bring are ignored, and so are answers that nobody here asked for.
 */
#include "node/node.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/thread.h"
#include "node/answer.h"
#include "node/forward.h"
#include "node/open.h"
#include "node/prefix.h"
#include "node/resume.h"
#include "node/stats.h"
#include "node/swap.h"

/* ---- sessions and steps ---------------------------------------------------------------------------------------- */

void node_release_session(struct node *node, struct session *session) {
    struct lane *lane = &session->lane;
    if (!session->closed || session->n_steps > 0) return;
    if (!session->freed) { /* the host is there as long as a session in the table or a step is */
        log_debug("session_end rows=%llu", (unsigned long long)lane->n_computed);
        kv_close(lane->kv);
        row_log_free(lane->kept);
        if (session->swap == SWAP_HERE) {
            node->host->rows_bytes_left += (int64_t)session->kept_bytes;
            vacancy_note(&node->vacancy, clock_life_ms(), session->max_tokens);
        }
        session->freed = true;
    }
    if (forward_dials(session)) return;
    free(session->prefix);
    free(session);
}

void node_let_go(struct node *node, struct session *session) {
    session->n_steps--;
    if (session->closed)
        node_release_session(node, session);
    else
        resume_step_gone(node, session);
}

void node_drop_step(struct node *node, struct step *step) {
    struct session *session = step->session, *parent = step->parent;
    if (step->kind == STEP_ROWS) sessions_rows_went(&node->sessions, session, step->n_tokens);
    step_free(node->net, step);
    node->n_steps--;
    node_let_go(node, session);
    if (parent) node_let_go(node, parent);
}

void node_drop_steps(struct node *node, struct step *first) {
    while (first) {
        struct step *next = first->next;
        node_drop_step(node, first);
        first = next;
    }
}

struct step *node_withdraw(struct node *node, struct session *session, bool ends) {
    struct step *first = compute_withdraw(node->host->compute, &session->lane), **at = &first;
    while (*at) {
        struct step *step = *at;
        if (step->kind == STEP_SWAP_OUT || step->kind == STEP_SWAP_IN) {
            *at = step->next;
            if (ends)
                swap_give_up(node, step);
            else
                compute_submit(node->host->compute, &session->lane, step);
        } else {
            at = &step->next;
        }
    }
    return first;
}

static void drop_waiting(struct node *node, struct session *session, bool ends) {
    node_drop_steps(node, node_withdraw(node, session, ends));
    forward_drop(node, session);
}

void node_raise_epoch(struct node *node, struct session *session, uint32_t epoch) {
    if (epoch <= session->epoch) return;
    session->epoch = epoch;
    drop_waiting(node, session, false);
}

static void take_out(struct node *node, struct session *session) {
    if (sessions_remove(&node->sessions, session)) compute_forget(node->host->compute, session->lane.client);
    session->sync_due = false;
    drop_waiting(node, session, true);
    session->closed = true;
    session->link = NULL;
}

void node_close_session(struct node *node, struct session *session) {
    take_out(node, session);
    node_release_session(node, session);
}

void node_end_session(struct node *node, struct session *session) {
    take_out(node, session);
    if (!prefix_keep(node, session)) node_release_session(node, session);
}

void node_fail_session(struct node *node, struct session *session, const struct corolla_error *error) {
    struct answer_about about = {.session = session->id, .epoch = session->epoch, .position = session->expected};
    answer_failed(node, session->link, session->stream, &about, error);
    node_close_session(node, session);
}

uint64_t node_tokens_left(const struct node *node) {
    return node->host ? span_kv_tokens_left(node->host->span) + prefix_tokens(node) + swap_tokens(node) : 0;
}

/* ---- messages -------------------------------------------------------------------------------------------------- */

/* A step that no session takes. Only its client can make something of an answer: it asked on this link and stream. */
static void refuse_stray(struct node *node, struct link *link, uint32_t stream, const struct msg_step *step,
                         const struct corolla_error *error) {
    if (!node_id_equal(&link_peer(link)->id, &step->client)) {
        log_debug("stray_step peer=%s why=\"%s\"", link_address(link), error->message);
        return;
    }
    struct answer_about about = {.session = step->session, .epoch = step->epoch, .position = step->position};
    answer_failed(node, link, stream, &about, error);
}

static enum corolla_status check_step(struct node *node, struct session *session, const struct message *msg, const struct node_id *sender,
                                      struct corolla_error *err) {
    const struct msg_step *m = &node->message;
    enum corolla_status status = msg->kind == MSG_REPLAY
                                     ? sessions_check_replay(session, m, sender, err)
                                     : sessions_check_step(session, &node->limits, m, sender, msg->body ? msg->body->size : 0, err);
    if (status == COROLLA_BAD_POSITION && msg->kind == MSG_REPLAY && session->swap != SWAP_HERE) { /* its rows are away */
        status = swap_call_back(node, session, err);
        return status != COROLLA_OK ? status : err_set(err, COROLLA_BUSY, "this session was idle, and is called back: try again");
    }
    if (status == COROLLA_OK && m->has_parent) status = sessions_check_parent(&node->sessions, session, m, err);
    if (status == COROLLA_OK && m->has_parent) status = swap_call_back(node, sessions_find(&node->sessions, m->parent), err);
    if (status != COROLLA_OK) return status;
    if (m->n_hops > 0 && node_id_equal(&m->hops[0].node.id, &net_self(node->net)->id))
        return err_set(err, COROLLA_REFUSED, "a server cannot be its own next hop: open one session over all of its blocks");
    if (node->n_steps >= STEPS_MAX) return err_set(err, COROLLA_BUSY, "%d steps are under way here: try again", STEPS_MAX);
    return sessions_check_rows(&node->sessions, &node->limits, session, m->n_tokens, err);
}

/* The step runs, or the replay goes. Takes the body. */
static void accept_step(struct node *node, struct session *session, struct message *msg, const struct node_id *sender) {
    const struct msg_step *m = &node->message;
    node_raise_epoch(node, session, m->epoch);
    session->used_ms = clock_life_ms();
    struct corolla_error error;
    struct step *step = NULL;
    if (swap_call_back(node, session, &error) == COROLLA_OK) {
        step = step_new(node->net, m, msg->body);
        msg->body = NULL;
        if (!step) err_set(&error, COROLLA_BUSY, "this server is out of memory: try again later");
    }
    if (!step) {
        struct answer_about about = {.session = session->id, .epoch = m->epoch, .position = m->position};
        answer_failed(node, session->link, session->stream, &about, &error);
        return;
    }
    step->session = session;
    step->replay = msg->kind == MSG_REPLAY;
    step->from_upstream = !node_id_equal(sender, &session->client);
    if (m->has_parent) {
        step->parent = sessions_find(&node->sessions, m->parent); /* the check saw it */
        step->parent->n_steps++;
    }
    session->n_steps++;
    node->n_steps++;
    sessions_rows_came(&node->sessions, session, m->n_tokens);
    if (step->replay) {
        forward_step(node, step);
        return;
    }
    prefix_note_step(session, m->has_parent ? m->shared : m->position, m->named);
    session->expected = m->position + m->n_tokens;
    if (session->n_steps == 1) forward_prepare(node, session, step); /* else those before it see to the link */
    compute_submit(node->host->compute, &session->lane, step);
}

/* STEP and REPLAY. */
static enum corolla_status on_step(struct node *node, struct link *link, uint32_t stream, struct message *msg, struct corolla_error *err) {
    struct msg_step *m = &node->message;
    struct corolla_error error = {0};
    enum corolla_status status = msg_step_decode(msg->header, msg->header_size, m, err);
    if (status != COROLLA_OK) return status;
    struct session *session = sessions_find(&node->sessions, m->session);
    if (!session) {
        err_set(&error, COROLLA_NO_SESSION, "this server knows no such session: open it again");
        refuse_stray(node, link, stream, m, &error);
        return COROLLA_OK;
    }
    const struct node_id *sender = &link_peer(link)->id;
    status = check_step(node, session, msg, sender, &error);
    bool from_client = node_id_equal(sender, &session->client), refused = status != COROLLA_OK && status != COROLLA_STALE;
    struct answer_about about = {.session = session->id, .epoch = m->epoch, .position = m->position};
    if (status == COROLLA_FORMAT && !from_client) about.culprit = &session->upstream;
    if (status == COROLLA_OK) {
        accept_step(node, session, msg, sender);
    } else if (refused && !from_client && (msg->kind == MSG_REPLAY || !sessions_is_party(session, sender))) {
        refuse_stray(node, link, stream, m, &error);
    } else if (refused) {
        answer_failed(node, session->link, session->stream, &about, &error);
    }
    return COROLLA_OK;
}

static enum corolla_status on_close(struct node *node, struct link *link, const struct message *msg, struct corolla_error *err) {
    struct msg_close close;
    enum corolla_status status = msg_close_decode(msg->header, msg->header_size, &close, err);
    if (status != COROLLA_OK) return status;
    struct session *session = sessions_find(&node->sessions, close.session);
    if (session && sessions_check_close(session, &close, &link_peer(link)->id))
        node_end_session(node, session);
    else
        log_debug("stray_close peer=%s", link_address(link));
    return COROLLA_OK;
}

/* The owner is who has our key. */
static void on_pause(struct node *node, struct link *link, uint32_t stream, bool paused) {
    static const uint8_t none[SESSION_SIZE];
    struct corolla_error error;
    if (memcmp(link_peer(link)->id.key, net_self(node->net)->id.key, KEY_SIZE) == 0) {
        node_drain(node, NODE_DRAIN_PAUSED, paused);
        answer_info(node, link, stream);
        return;
    }
    err_set(&error, COROLLA_REFUSED, "only the owner may do that: run this with the server's own COROLLA_HOME");
    answer_failed(node, link, stream, &(struct answer_about){.session = none}, &error);
}

static enum corolla_status dispatch(struct node *node, struct link *link, uint32_t stream, struct message *msg, struct corolla_error *err) {
    switch (msg->kind) {
    case MSG_INFO_GET: answer_info(node, link, stream); return COROLLA_OK;
    case MSG_PAUSE:
    case MSG_RESUME: on_pause(node, link, stream, msg->kind == MSG_PAUSE); return COROLLA_OK;
    case MSG_OPEN: return open_take(node, link, stream, msg, err);
    case MSG_STEP:
    case MSG_REPLAY: return on_step(node, link, stream, msg, err);
    case MSG_SYNC: return resume_sync(node, link, stream, msg, err);
    case MSG_CLOSE: return on_close(node, link, msg, err);
    case MSG_INFO:
    case MSG_OPENED:
    case MSG_RESULT:
    case MSG_FAILED: /* of a next hop, about a session that it does not know: its client knows as well */
    case MSG_DRAIN:
    case MSG_SYNCED:
    default: break; /* of the swarm, not of sessions */
    }
    return COROLLA_OK;
}

static void on_message(void *user, struct link *link, uint32_t stream, struct message *msg) {
    struct node *node = user;
    struct corolla_error error = {0};
    if (node->mesh && mesh_message(node->mesh, link, msg)) return;
    if (dispatch(node, link, stream, msg, &error) != COROLLA_OK) link_close(link, COROLLA_PEER_FAULT, error.message);
    net_body_free(node->net, msg->body);
    msg->body = NULL;
}

/* ---- links ----------------------------------------------------------------------------------------------------- */

static void on_up(void *user, struct link *link) {
    struct node *node = user;
    struct peer *peer = calloc(1, sizeof *peer);
    if (!peer) {
        link_close(link, COROLLA_BUSY, "this server is out of memory");
        return;
    }
    peer->link = link;
    peer->next = node->peers;
    if (peer->next) peer->next->prev = peer;
    node->peers = peer;
    link_set_user(link, peer);
    if (node->limits.draining) answer_drain(node, link);
}

static void on_down(void *user, struct link *link, enum corolla_status status, const char *why) {
    struct node *node = user;
    struct peer *peer = link_user(link);
    if (node->mesh) mesh_link_down(node->mesh, link, status);
    reach_link_down(node, link);
    if (peer) {
        *(peer->prev ? &peer->prev->next : &node->peers) = peer->next;
        if (peer->next) peer->next->prev = peer->prev;
        free(peer);
    }
    struct session *session = sessions_each(&node->sessions, NULL);
    while (session) {
        struct session *next = sessions_each(&node->sessions, session);
        forward_link_down(node, session, link, why); /* who names itself as a next hop has one link for both */
        if (session->link == link) resume_link_down(node, session, status == COROLLA_OK || link_left(link));
        session = next;
    }
}

/* ---- computed steps -------------------------------------------------------------------------------------------- */

static void note_turn(struct node *node, const struct step *step) {
    struct measure_turn turn = {.items = step->turn_items,
                                .rows = step->turn_rows,
                                .n_blocks = step->lane->end - step->lane->begin,
                                .span_blocks = node->limits.end - node->limits.begin,
                                .us = step->turn_us,
                                .queue_us = step->queue_us};
    if (turn.items > 0) measure_note(&node->host->measure, &turn);
}

static void on_computed(void *user) {
    struct node *node = user;
    struct step *step = node->host ? compute_collect(node->host->compute) : NULL;
    while (step) {
        struct step *next = step->next;
        if (step->kind != STEP_ROWS) {
            if (step->kind == STEP_COPY)
                open_copied(node, step);
            else
                swap_done(node, step);
            step = next;
            continue;
        }
        if (step->parent) node_let_go(node, step->parent);
        step->parent = NULL;
        note_turn(node, step);
        stats_note_step(&node->stats, step);
        if (step->session->closed || step->epoch < step->session->epoch) {
            node_drop_step(node, step);
        } else if (step->error.status != COROLLA_OK) {
            answer_step_failed(node, step, &step->error);
            node_drop_step(node, step);
        } else {
            forward_step(node, step);
        }
        step = next;
    }
}

/* Compute thread. */
void node_notify(void *user) {
    struct node *node = user;
    net_post(node->net, on_computed, node);
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

struct node *node_new(const struct node_config *config) {
    struct node *node = calloc(1, sizeof *node);
    if (!node) return NULL;
    node->limits = (struct session_limits){.model = config->model, .n_embd = config->hparams->n_embd, .quota = config->quota};
    node->share_prefixes = config->share_prefixes;
    struct msg_info *info = &node->info;
    memcpy(info->model, config->model, ID_SIZE);
    snprintf(info->model_name, sizeof info->model_name, "%s", config->model_name);
    snprintf(info->name, sizeof info->name, "%s", config->name ? config->name : "");
    snprintf(info->version, sizeof info->version, "%s", COROLLA_VERSION);
    info->n_blocks = config->hparams->n_blocks;
    info->n_embd = config->hparams->n_embd;
    info->wires = 1u << COROLLA_WIRE_F32 | 1u << COROLLA_WIRE_F16 | 1u << COROLLA_WIRE_BF16;
    return node;
}

struct net_events node_events(struct node *node) {
    return (struct net_events){.on_up = on_up, .on_message = on_message, .on_down = on_down, .user = node};
}

bool node_in_use(void *user, const struct link *link) {
    const struct node *node = user;
    for (uint32_t i = 0; i < REACH_MAX; i++)
        if (node->reach[i].link == link) return true;
    for (struct session *s = sessions_each(&node->sessions, NULL); s; s = sessions_each(&node->sessions, s))
        if (s->link == link || forward_uses(s, link)) return true;
    return false;
}

static void on_second(void *user) {
    struct node *node = user;
    resume_tick(node);
    prefix_tick(node);
    reach_tick(node);
    announce_tick(node);
}

static void start_timer(void *user) {
    struct node *node = user;
    node->timer = net_timer_new(node->net, on_second, node);
    if (node->timer) net_timer_start(node->timer, 1000, 1000); /* without it figures grow old */
}

static void *loop_main(void *user) {
    net_run(((struct node *)user)->net);
    return NULL;
}

enum corolla_status node_start(struct node *node, struct net *net, struct mesh *mesh, struct corolla_error *err) {
    node->net = net;
    node->mesh = mesh;
    net_post(net, start_timer, node);
    node->running = thread_start(&node->loop, loop_main, node);
    return node->running ? COROLLA_OK : err_set(err, COROLLA_NOMEM, "cannot start the network thread");
}

/* The compute thread is gone: what still waits will not be computed. */
static void end_drain(void *user) {
    struct node *node = user;
    struct corolla_error error;
    err_set(&error, COROLLA_DRAINING, "this server is leaving: choose another one");
    for (struct session *s = sessions_each(&node->sessions, NULL); s; s = sessions_each(&node->sessions, s)) {
        struct step *first = node_withdraw(node, s, true);
        if (first) answer_step_failed(node, first, &error);
        node_drop_steps(node, first);
    }
    node->stopping = true;
    resume_tick(node);
    prefix_drop_all(node);
}

void node_stop(struct node *node) {
    if (!node->running) return;
    node_set_drain(node, NODE_DRAIN_LEAVING, true);
    if (node->host) {
        compute_stop(node->host->compute);
        net_post(node->net, end_drain, node);
    }
    net_stop(node->net);
    pthread_join(node->loop, NULL);
    node->running = false;
}

void node_free(struct node *node) {
    if (!node) return;
    assert(!node->running && node->sessions.n == 0 && node->n_steps == 0);
    host_free(node->host);
    free(node);
}
