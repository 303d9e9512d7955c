/* open.c - see open.h. */
#include "node/open.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "crypto/rand.h"
#include "node/answer.h"
#include "node/prefix.h"
#include "node/resume.h"
#include "node/swap.h"

static uint64_t kept_bytes(const struct host *host, const struct msg_open *open) {
    size_t row_size = span_hparams(host->span)->n_embd * msg_wire_size(open->dtype);
    return open->keep ? ((uint64_t)open->max_tokens + KV_PAD - 1) / KV_PAD * KV_PAD * row_size : 0;
}

/* The memory for kept rows is promised here and taken as the session grows. */
static enum corolla_status open_log(struct host *host, struct session *session, const struct msg_open *open, struct corolla_error *err) {
    size_t row_size = span_hparams(host->span)->n_embd * msg_wire_size(open->dtype);
    uint64_t bytes = kept_bytes(host, open);
    if ((int64_t)bytes > host->rows_bytes_left)
        return err_set(err, COROLLA_NO_CACHE, "no memory to keep the output of %u tokens: ask for a shorter session or come back later",
                       open->max_tokens);
    session->lane.kept = row_log_new(open->max_tokens, row_size);
    if (!session->lane.kept) return err_set(err, COROLLA_NOMEM, "this server is out of memory: choose another one");
    session->wire = open->dtype;
    session->kept_bytes = bytes;
    return COROLLA_OK;
}

static enum corolla_status session_new(struct host *host, const struct msg_open *open, struct session **out, struct corolla_error *err) {
    struct session *session = calloc(1, sizeof *session);
    if (!session) return err_set(err, COROLLA_NOMEM, "this server is out of memory: choose another one");
    enum corolla_status status = open->keep ? open_log(host, session, open, err) : COROLLA_OK;
    if (status == COROLLA_OK) status = kv_open(&session->lane.kv, host->span, open->begin, open->end, open->max_tokens, err);
    if (status != COROLLA_OK) {
        row_log_free(session->lane.kept);
        free(session);
        return status;
    }
    host->rows_bytes_left -= (int64_t)session->kept_bytes;
    *out = session;
    return COROLLA_OK;
}

static void fail_copy(struct node *node, struct session *session, const struct corolla_error *error) {
    answer_failed(node, session->link, session->stream, &(struct answer_about){.session = session->id}, error);
    node_close_session(node, session);
}

/* OPENED goes out when the copy is there (open_copied). The parent counts a step already. */
static void copy_parent(struct node *node, struct session *session, struct session *parent, uint32_t length, bool as_far) {
    struct step *step = step_new_job(node->net, STEP_COPY);
    if (!step) {
        node_let_go(node, parent);
        fail_copy(node, session,
                  &(struct corolla_error){.status = COROLLA_BUSY, .message = "this server is out of memory: try again later"});
        return;
    }
    step->session = session;
    step->parent = parent;
    step->position = length;
    step->wire = session->wire;
    step->as_far = as_far;
    session->n_steps++;
    node->n_steps++;
    compute_submit(node->host->compute, &session->lane, step);
}

/* For an OPEN that was refused with this status. */
static bool make_room(struct node *node, const struct msg_open *open, enum corolla_status refusal, const struct node_id *client) {
    if (refusal == COROLLA_NO_CACHE && prefix_drop_oldest(node)) return true;
    if (refusal == COROLLA_NO_CACHE && swap_make_room(node, open->begin, open->end, open->max_tokens, kept_bytes(node->host, open)))
        return true;
    return resume_make_room(node, refusal, client);
}

/* The address of a link without its port; nothing, when it is this machine's own. */
static void host_of(const struct link *link, char out[ADDR_MAX]) {
    const char *text = link_address(link), *port = strrchr(text, ':');
    size_t n = port ? (size_t)(port - text) : 0;
    bool own = strncmp(text, "127.", 4) == 0 || strncmp(text, "[::1]", 5) == 0 || strncmp(text, "[::ffff:127.", 12) == 0;
    if (own || n >= ADDR_MAX) n = 0;
    memcpy(out, text, n);
    out[n] = '\0';
}

static enum corolla_status open_session(struct node *node, struct link *link, uint32_t stream, const struct msg_open *open,
                                        struct corolla_error *err) {
    const struct node_id *client = &link_peer(link)->id;
    char host[ADDR_MAX];
    host_of(link, host);
    struct session *session = NULL, *parent = NULL;
    enum corolla_status status;
    struct session *orphan = sessions_find(&node->sessions, open->session);
    if (orphan && !orphan->link && node_id_equal(&orphan->client, client)) node_close_session(node, orphan); /* it begins anew instead */
    uint32_t most;
    prefix_find(node, open, client, &most); /* it is of use: the last one to make room */
    if (open->has_parent && !(parent = sessions_find_parent(&node->sessions, open, client)))
        return err_set(err, COROLLA_NO_SESSION, "there is no such session to begin from: open a new one");
    if (parent && swap_call_back(node, parent, err) != COROLLA_OK) return COROLLA_BUSY;
    if (parent) parent->n_steps++; /* so that it does not make room for its own copy */
    do {
        status = sessions_check_open(&node->sessions, &node->limits, open, client, err);
        if (status == COROLLA_OK) status = sessions_check_quota(&node->sessions, &node->limits, open, client, host, err);
        if (status == COROLLA_OK) status = session_new(node->host, open, &session, err);
    } while (status != COROLLA_OK && make_room(node, open, status, client));
    if (status != COROLLA_OK && parent) node_let_go(node, parent);
    if (status != COROLLA_OK) return status;
    memcpy(session->id, open->session, SESSION_SIZE);
    rand_bytes(session->secret, SECRET_SIZE);
    session->client = *client;
    memcpy(session->host, host, sizeof session->host);
    session->has_upstream = open->has_upstream;
    if (open->has_upstream) session->upstream = open->upstream;
    session->link = link;
    session->stream = stream;
    session->opened_ms = clock_life_ms();
    session->max_tokens = open->max_tokens;
    session->lane.begin = open->begin;
    session->lane.end = open->end;
    sessions_add(&node->sessions, session);
    node->stats.sessions_opened++;
    prefix_name(session, open); /* without memory it has no name */
    uint32_t length = open->parent_length;
    bool prefix = !parent && (parent = prefix_find(node, open, client, &length)) != NULL;
    if (prefix) parent->n_steps++;
    if (parent)
        copy_parent(node, session, parent, length, prefix);
    else
        answer_opened(node, session);
    return COROLLA_OK;
}

enum corolla_status open_take(struct node *node, struct link *link, uint32_t stream, const struct message *msg, struct corolla_error *err) {
    struct msg_open open;
    struct corolla_error error = {0};
    enum corolla_status status = msg_open_decode(msg->header, msg->header_size, &open, err);
    if (status != COROLLA_OK) return status;
    if (open_session(node, link, stream, &open, &error) != COROLLA_OK)
        answer_failed(node, link, stream, &(struct answer_about){.session = open.session, .tokens = open.max_tokens}, &error);
    return COROLLA_OK;
}

/* A session that began as a copy is open, or cannot be. */
void open_copied(struct node *node, struct step *step) {
    struct session *session = step->session;
    if (step->as_far && step->error.status != COROLLA_OK) { /* it begins without */
        session->lane.length = 0;
        step->error.status = COROLLA_OK;
    }
    if (!session->closed && step->error.status != COROLLA_OK) {
        struct corolla_error error = step->error;
        fail_copy(node, session, &error);
    } else if (!session->closed) {
        session->expected = session->lane.length;
        if (step->as_far) session->prefix_whole = session->lane.length; /* a fork was given no name */
        answer_opened(node, session);
    }
    node_drop_step(node, step);
}
