/* forward.c - see forward.h. */
#include "node/forward.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "node/answer.h"

#define UNREACHABLE_LOG_US 1000000

static void on_dialled(void *user, struct link *link, const struct corolla_error *err);

/* ---- failing --------------------------------------------------------------------------------------------------- */

static void fail_step(struct node *node, struct step *step, const struct node_id *culprit, const struct corolla_error *error) {
    const struct session *session = step->session;
    struct answer_about about = {.session = session->id, .epoch = step->epoch, .position = step->position, .culprit = culprit};
    answer_failed(node, session->link, session->stream, &about, error);
    node_drop_step(node, step);
}

void forward_drop(struct node *node, struct session *session) {
    struct step *first = session->next.first;
    session->next.first = session->next.last = NULL;
    node_drop_steps(node, first);
}

/* ---- sending --------------------------------------------------------------------------------------------------- */

static void send_step(struct node *node, struct step *step) {
    struct session *session = step->session;
    struct msg_step *m = &node->message;
    memcpy(m->session, session->id, SESSION_SIZE);
    memcpy(m->secret, step->hops[0].secret, SECRET_SIZE);
    m->epoch = step->epoch;
    m->position = step->position;
    m->n_tokens = step->n_tokens;
    m->n_rows = step->n_rows;
    m->dtype = step->wire;
    m->client = session->client;
    m->n_hops = step->n_hops - 1;
    memcpy(m->hops, step->hops + 1, m->n_hops * sizeof *m->hops);
    m->n_timings = step->n_timings;
    memcpy(m->timings, step->timings, m->n_timings * sizeof *m->timings);
    session->forwarded_epoch = step->epoch;
    session->forwarded_position = step->position;
    struct body *body = step->body;
    step->body = NULL;
    size_t size = msg_step_encode(m, node->header);
    enum corolla_status status =
        link_send(session->next.link, session->next.stream, step_priority(step), MSG_STEP, node->header, size, body);
    if (status == COROLLA_OK || status == COROLLA_PEER_LOST) { /* the end of the link is told when it comes */
        node_drop_step(node, step);
        return;
    }
    struct corolla_error error;
    err_set(&error, COROLLA_BUSY, "the queue of the link to the next server is full: send fewer steps at once");
    fail_step(node, step, &session->next.id, &error);
}

/* The link is up: what waits for it goes. */
static void use_link(struct node *node, struct session *session, struct link *link) {
    session->next.link = link;
    session->next.stream = link_stream_new(link);
    struct step *step = session->next.first;
    session->next.first = session->next.last = NULL;
    while (step) {
        struct step *next = step->next;
        send_step(node, step);
        step = next;
    }
}

/* ---- the link -------------------------------------------------------------------------------------------------- */

struct dial { /* one try; its session waits for it */
    struct node *node;
    struct session *session;
    struct node_ref ref;
};

/* All that waits goes to the client as failed. */
static void fail_waiting(struct node *node, struct session *session, const struct node_id *culprit, const struct corolla_error *error) {
    struct step *step = session->next.first;
    session->next.first = session->next.last = NULL;
    while (step) {
        struct step *next = step->next;
        fail_step(node, step, culprit, error);
        step = next;
    }
}

/* Clients cause these lines: one a second is enough. */
static void log_unreachable(struct node *node, const char *id, const char *why) {
    uint64_t now = clock_us();
    if (now - node->unreachable_logged_us < UNREACHABLE_LOG_US) {
        log_debug("next_unreachable node=%.16s why=\"%s\"", id, why);
        return;
    }
    node->unreachable_logged_us = now;
    log_info("next_unreachable node=%.16s why=\"%s\"", id, why);
}

/* Clients name the addresses, so they are not told what is behind them: else they could look around in this network. */
static void fail_unreachable(struct node *node, struct session *session, const char *why) {
    struct node_id culprit = session->next.id;
    struct corolla_error error;
    char id[NODE_ID_TEXT];
    node_id_format(&culprit, id);
    log_unreachable(node, id, why);
    err_set(&error, COROLLA_PEER_LOST, "the next server %.16s cannot be reached from here: choose another one", id);
    fail_waiting(node, session, &culprit, &error);
}

/* Steps that wait for another server than this one are of a chain that is no longer. */
static void set_next(struct node *node, struct session *session, const struct node_id *id) {
    if (node_id_equal(&session->next.id, id)) return;
    forward_drop(node, session);
    session->next.id = *id;
    session->next.link = NULL;
}

/* Gets a link to the next hop, unless it is there or under way. A failure is told to the steps that wait. */
static void want_link(struct node *node, struct session *session, const struct node_ref *ref) {
    struct session_next *next = &session->next;
    if (next->link || next->dialling) return;
    struct link *link = net_find(node->net, &ref->id);
    if (link) {
        use_link(node, session, link);
        return;
    }
    struct body *block = node->n_dials < DIALS_MAX ? net_body_new(node->net, sizeof(struct dial)) : NULL;
    if (!block) {
        struct corolla_error error;
        err_set(&error, COROLLA_BUSY, "this server dials too many others: try again later");
        fail_waiting(node, session, NULL, &error);
        return;
    }
    struct dial *dial = (struct dial *)(void *)block->data;
    *dial = (struct dial){.node = node, .session = session, .ref = *ref};
    next->dialling = true;
    node->n_dials++;
    net_dial(node->net, &dial->ref, on_dialled, block); /* may answer at once */
}

static void on_dialled(void *user, struct link *link, const struct corolla_error *err) {
    struct body *block = user;
    struct dial dial = *(const struct dial *)(const void *)block->data;
    struct session *session = dial.session;
    struct session_next *next = &session->next;
    net_body_free(dial.node->net, block);
    next->dialling = false;
    dial.node->n_dials--;
    if (session->closed) {
        node_release_session(dial.node, session);
    } else if (!node_id_equal(&dial.ref.id, &next->id)) { /* the chain changed meanwhile */
        struct node_ref ref = next->first ? next->first->hops[0].node : dial.ref;
        if (next->first) want_link(dial.node, session, &ref);
    } else if (link) {
        use_link(dial.node, session, link);
    } else {
        fail_unreachable(dial.node, session, err->message);
    }
}

void forward_prepare(struct node *node, struct session *session, const struct step *step) {
    if (step->n_hops == 0) return;
    set_next(node, session, &step->hops[0].node.id);
    want_link(node, session, &step->hops[0].node);
}

void forward_step(struct node *node, struct step *step) {
    struct session *session = step->session;
    struct session_next *next = &session->next;
    assert(!session->closed);
    step->timings[step->n_timings++] = (struct hop_timing){.queue_us = step->queue_us, .compute_us = step->compute_us};
    if (step->n_hops == 0) {
        answer_result(node, step);
        node_drop_step(node, step);
        return;
    }
    struct node_ref ref = step->hops[0].node;
    set_next(node, session, &ref.id);
    if (next->link) {
        send_step(node, step);
        return;
    }
    step->next = NULL;
    *(next->last ? &next->last->next : &next->first) = step;
    next->last = step;
    want_link(node, session, &ref);
}

void forward_link_down(struct node *node, struct session *session, const struct link *link, const char *why) {
    struct session_next *next = &session->next;
    if (next->link != link) return;
    next->link = NULL;
    struct corolla_error error;
    char id[NODE_ID_TEXT];
    node_id_format(&next->id, id);
    err_set(&error, COROLLA_PEER_LOST, "the link to the next server %.16s was lost: %s", id, why ? why : "no reason is known");
    struct answer_about about = {
        .session = session->id, .epoch = session->forwarded_epoch, .position = session->forwarded_position, .culprit = &next->id};
    answer_failed(node, session->link, session->stream, &about, &error);
}
