/* forward.c - see forward.h. */
#include "node/forward.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
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

static struct step *take_waiting(struct session_next *next) {
    struct step *first = next->first;
    next->first = next->last = NULL;
    return first;
}

/* ---- where to -------------------------------------------------------------------------------------------------- */

/* Steps that wait for another server than this one are of a chain that is no longer. */
static void aim(struct node *node, struct session_next *next, const struct node_id *id) {
    if (node_id_equal(&next->id, id)) return;
    node_drop_steps(node, take_waiting(next));
    next->id = *id;
    next->link = NULL;
}

static void forget(struct node *node, struct session_next *next) { aim(node, next, &(struct node_id){0}); }

/* Steps and replays to one server share a stream, so that they stay in order. When steps follow replays to their server, the one that
 * steps went to before is left. */
static struct session_next *choose_next(struct node *node, struct session *session, const struct step *step) {
    const struct node_id *id = &step->hops[0].node.id;
    struct session_next *steps = &session->next[session->steps_next], *other = &session->next[!session->steps_next];
    if (node_id_equal(&steps->id, id)) return steps;
    if (step->replay) {
        aim(node, other, id);
        return other;
    }
    if (!node_id_equal(&other->id, id)) {
        aim(node, steps, id);
        return steps;
    }
    session->steps_next = !session->steps_next;
    forget(node, steps);
    return other;
}

void forward_drop(struct node *node, struct session *session) {
    node_drop_steps(node, take_waiting(&session->next[session->steps_next]));
    forget(node, &session->next[!session->steps_next]);
}

/* ---- sending --------------------------------------------------------------------------------------------------- */

/* Kept rows are fetched when they can go, so that those that wait for a link take no memory. */
static enum corolla_status fetch_kept(struct node *node, struct step *step, struct corolla_error *err) {
    const struct session *session = step->session;
    step->body = net_body_new(node->net, (size_t)step->n_tokens * node->limits.n_embd * msg_wire_size(step->wire));
    if (!step->body) return err_set(err, COROLLA_BUSY, "this server is out of memory: try again later");
    if (row_log_get(session->lane.kept, step->position, step->n_tokens, step->body->data)) return COROLLA_OK;
    return err_set(err, COROLLA_BAD_POSITION, "the rows at %u are not kept any more: a step replaced them", step->position);
}

static void send_step(struct node *node, struct session_next *next, struct step *step) {
    struct session *session = step->session;
    struct corolla_error error;
    if (step->replay && fetch_kept(node, step, &error) != COROLLA_OK) {
        fail_step(node, step, NULL, &error);
        return;
    }
    if (step->replay) node->stats.replayed_rows += step->n_tokens;
    struct msg_step *m = &node->message;
    memcpy(m->session, session->id, SESSION_SIZE);
    memcpy(m->secret, step->hops[0].secret, SECRET_SIZE);
    m->epoch = step->epoch;
    m->position = step->position;
    m->n_tokens = step->n_tokens;
    m->n_rows = step->n_rows;
    m->dtype = step->wire;
    m->client = session->client;
    m->has_parent = step->has_parent;
    memcpy(m->parent, step->parent_id, SESSION_SIZE);
    m->shared = step->shared;
    m->named = step->replay ? 0 : step->named;
    m->n_hops = step->n_hops - 1;
    memcpy(m->hops, step->hops + 1, m->n_hops * sizeof *m->hops);
    m->n_timings = step->n_timings;
    memcpy(m->timings, step->timings, m->n_timings * sizeof *m->timings);
    next->forwarded_epoch = step->epoch;
    next->forwarded_position = step->position;
    struct body *body = step->body;
    step->body = NULL;
    size_t size = msg_step_encode(m, node->header);
    enum corolla_status status = link_send(next->link, next->stream, step_priority(step), MSG_STEP, node->header, size, body);
    if (status == COROLLA_OK || status == COROLLA_PEER_LOST) { /* the end of the link is told when it comes */
        node_drop_step(node, step);
        return;
    }
    err_set(&error, COROLLA_BUSY, "the queue of the link to the next server is full: send fewer steps at once");
    fail_step(node, step, &next->id, &error);
}

/* The link is up: what waits for it goes. */
static void use_link(struct node *node, struct session_next *next, struct link *link) {
    next->link = link;
    next->stream = link_stream_new(link);
    for (struct step *step = take_waiting(next), *behind; step; step = behind) {
        behind = step->next;
        send_step(node, next, step);
    }
}

/* ---- the link -------------------------------------------------------------------------------------------------- */

struct dial { /* one try; its session waits for it */
    struct node *node;
    struct session *session;
    struct session_next *next; /* of the session */
    struct node_ref ref;
};

/* All that waits goes to the client as failed. */
static void fail_waiting(struct node *node, struct session_next *next, const struct node_id *culprit, const struct corolla_error *error) {
    for (struct step *step = take_waiting(next), *behind; step; step = behind) {
        behind = step->next;
        fail_step(node, step, culprit, error);
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
static void fail_unreachable(struct node *node, struct session_next *next, const char *why) {
    struct node_id culprit = next->id;
    struct corolla_error error;
    char id[NODE_ID_TEXT];
    node_id_format(&culprit, id);
    log_unreachable(node, id, why);
    err_set(&error, COROLLA_PEER_LOST, "the next server %.16s cannot be reached from here: choose another one", id);
    fail_waiting(node, next, &culprit, &error);
}

/* Gets a link to the next hop, unless it is there or under way. A failure is told to the steps that wait. */
static void want_link(struct node *node, struct session *session, struct session_next *next, const struct node_ref *ref) {
    if (next->link || next->dialling) return;
    struct link *link = net_find(node->net, &ref->id);
    if (link) {
        use_link(node, next, link);
        return;
    }
    struct body *block = node->n_dials < DIALS_MAX ? net_body_new(node->net, sizeof(struct dial)) : NULL;
    if (!block) {
        struct corolla_error error;
        err_set(&error, COROLLA_BUSY, "this server dials too many others: try again later");
        fail_waiting(node, next, NULL, &error);
        return;
    }
    struct dial *dial = (struct dial *)(void *)block->data;
    *dial = (struct dial){.node = node, .session = session, .next = next, .ref = *ref};
    next->dialling = true;
    node->n_dials++;
    net_dial(node->net, &dial->ref, on_dialled, block); /* may answer at once */
}

static void on_dialled(void *user, struct link *link, const struct corolla_error *err) {
    struct body *block = user;
    struct dial dial = *(const struct dial *)(const void *)block->data;
    struct session *session = dial.session;
    struct session_next *next = dial.next;
    net_body_free(dial.node->net, block);
    next->dialling = false;
    dial.node->n_dials--;
    if (session->closed) {
        node_release_session(dial.node, session);
    } else if (!node_id_equal(&dial.ref.id, &next->id)) { /* the chain changed meanwhile */
        struct node_ref ref = next->first ? next->first->hops[0].node : dial.ref;
        if (next->first) want_link(dial.node, session, next, &ref);
    } else if (link) {
        use_link(dial.node, next, link);
    } else {
        fail_unreachable(dial.node, next, err->message);
    }
}

void forward_prepare(struct node *node, struct session *session, const struct step *step) {
    if (step->n_hops > 0) want_link(node, session, choose_next(node, session, step), &step->hops[0].node);
}

void forward_step(struct node *node, struct step *step) {
    struct session *session = step->session;
    assert(!session->closed);
    step->timings[step->n_timings++] = (struct hop_timing){.queue_us = step->queue_us, .compute_us = step->compute_us};
    if (step->n_hops == 0) {
        answer_result(node, step);
        node_drop_step(node, step);
        return;
    }
    struct node_ref ref = step->hops[0].node;
    struct session_next *next = choose_next(node, session, step);
    if (next->link) {
        send_step(node, next, step);
        return;
    }
    step->next = NULL;
    *(next->last ? &next->last->next : &next->first) = step;
    next->last = step;
    want_link(node, session, next, &ref);
}

static void next_down(struct node *node, const struct session *session, struct session_next *next, const char *why) {
    next->link = NULL;
    struct corolla_error error;
    char id[NODE_ID_TEXT];
    node_id_format(&next->id, id);
    err_set(&error, COROLLA_PEER_LOST, "the link to the next server %.16s was lost: %s", id, why ? why : "no reason is known");
    struct answer_about about = {
        .session = session->id, .epoch = next->forwarded_epoch, .position = next->forwarded_position, .culprit = &next->id};
    answer_failed(node, session->link, session->stream, &about, &error);
}

void forward_link_down(struct node *node, struct session *session, const struct link *link, const char *why) {
    for (size_t i = 0; i < ARRAY_SIZE(session->next); i++)
        if (session->next[i].link == link) next_down(node, session, &session->next[i], why);
}

bool forward_dials(const struct session *session) { return session->next[0].dialling || session->next[1].dialling; }

bool forward_uses(const struct session *session, const struct link *link) {
    return session->next[0].link == link || session->next[1].link == link;
}
