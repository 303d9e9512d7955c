/* remote_loop.c - the loop thread's side of remote sessions: OPEN, SYNC, STEP, REPLAY and CLOSE out; OPENED, SYNCED, RESULT, FAILED and
 * lost links in.
 *
 * An answer is believed only on the link and the stream on which its hop was asked. One that no session waits for any more
 * is dropped; one that cannot be true costs its sender the link. See remote.h.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "client/remote.h"

#define URGENT_TOKENS_MAX 16 /* steps of so few rows go ahead of bulk */

/* ---- finding and failing --------------------------------------------------------------------------------------- */

static struct remote *find_remote(const struct peers *peers, const uint8_t id[SESSION_SIZE]) {
    for (struct remote *r = peers->remotes; r != NULL; r = r->next)
        if (!r->closing && memcmp(r->id, id, SESSION_SIZE) == 0) return r;
    return NULL;
}

/* The hop that was asked on this link and stream; NULL: of something that was given up. */
static struct remote_hop *find_hop(const struct remote *remote, const struct link *link, uint32_t stream) {
    pthread_mutex_lock(&remote->peers->lock);
    struct remote_hop *hop = remote->hops;
    while (hop != NULL && (hop->gone || hop->link != link || hop->stream != stream)) hop = hop->next;
    pthread_mutex_unlock(&remote->peers->lock);
    return hop;
}

/* What the running call of the session returns, or recovers from. The first error stands, since others follow from it. The lock is held. */
static void fail(struct remote *remote, const struct corolla_error *error, bool fatal) {
    if (remote->failed) return;
    remote->error = *error;
    remote->failed = true;
    remote->fatal = fatal;
    pthread_cond_broadcast(&remote->changed);
}

static bool in_chain(const struct remote *remote, const struct remote_hop *hop) {
    for (uint32_t i = 0; i < remote->chain.n_hops; i++)
        if (remote->chain.hops[i] == hop) return true;
    return false;
}

/* A hop does not take part any more; the run fails with it, unless it was a spare. The lock is held. */
static void lose(struct remote_hop *hop, const struct corolla_error *error, const char *reason) {
    struct remote *remote = hop->remote;
    bool opened = hop->opened && !hop->asking;
    hop_fail(hop, error->status, reason, error->message);
    if (opened && in_chain(remote, hop)) fail(remote, error, false);
}

void remote_on_fault(struct peers *peers, struct link *link, const char *what) {
    struct corolla_error error;
    pthread_mutex_lock(&peers->lock);
    for (struct remote *remote = peers->remotes; remote != NULL; remote = remote->next) {
        for (struct remote_hop *hop = remote->hops; hop != NULL; hop = hop->next) {
            if (hop->gone || hop->link != link) continue;
            err_set(&error, COROLLA_PEER_FAULT, "%s broke the protocol: %s", hop->label, what);
            lose(hop, &error, hop_reason(COROLLA_PEER_FAULT));
        }
    }
    pthread_mutex_unlock(&peers->lock);
    link_close(link, COROLLA_PEER_FAULT, what); /* on_down comes later, and knows of no fault */
}

/* ---- asking: OPEN and SYNC ------------------------------------------------------------------------------------- */

static size_t encode_open(const struct remote_hop *hop, uint8_t *header) {
    const struct remote *remote = hop->remote;
    struct msg_open open = {.begin = hop->begin, .end = hop->end, .max_tokens = remote->base.max_tokens};
    memcpy(open.session, remote->id, SESSION_SIZE);
    memcpy(open.model, remote->peers->model, ID_SIZE);
    open.has_upstream = hop->has_upstream;
    open.upstream = hop->upstream;
    open.keep = hop->keep;
    open.dtype = remote->wire;
    const struct remote_hop *parent = hop->parent;
    open.has_parent = parent != NULL && parent->opened && !parent->down;
    if (open.has_parent) {
        memcpy(open.parent, parent->remote->id, SESSION_SIZE);
        memcpy(open.parent_secret, parent->secret, SECRET_SIZE);
        open.parent_length = parent->remote->base.position;
    }
    open.n_prefix = remote->n_prefix;
    memcpy(open.prefix, remote->prefix, open.n_prefix * PREFIX_HASH_SIZE);
    return msg_open_encode(&open, header);
}

static size_t encode_sync(const struct remote_hop *hop, uint8_t *header) {
    struct msg_sync sync = {.epoch = hop->remote->epoch, .has_upstream = hop->has_upstream, .upstream = hop->upstream};
    memcpy(sync.session, hop->remote->id, SESSION_SIZE);
    memcpy(sync.secret, hop->secret, SECRET_SIZE);
    return msg_sync_encode(&sync, header);
}

static void ask(struct remote_hop *hop) {
    struct peers *peers = hop->remote->peers;
    uint8_t header[MSG_HEADER_MAX];
    pthread_mutex_lock(&peers->lock);
    bool opened = hop->opened;
    size_t size = opened ? encode_sync(hop, header) : encode_open(hop, header);
    pthread_mutex_unlock(&peers->lock);
    hop->stream = link_stream_new(hop->link);
    enum corolla_status status = link_send(hop->link, hop->stream, LINK_URGENT, opened ? MSG_SYNC : MSG_OPEN, header, size, NULL);
    if (status == COROLLA_OK) return;
    char message[160];
    snprintf(message, sizeof message, "%s: the queue of its link is full", hop->label);
    pthread_mutex_lock(&peers->lock);
    hop_fail(hop, status, hop_reason(status), message);
    pthread_mutex_unlock(&peers->lock);
}

static void unlink_and_free(struct remote *remote) {
    struct remote **at = &remote->peers->remotes;
    while (*at != remote) at = &(*at)->next;
    *at = remote->next;
    remote_drop_bodies(remote);
    remote_free(remote);
}

static void on_hop_dialled(void *user, struct link *link, const struct corolla_error *err) {
    struct remote_hop *hop = user;
    struct remote *remote = hop->remote;
    hop->dialling = false;
    remote->dials--;
    if (remote->closing) {
        if (remote->dials == 0) unlink_and_free(remote);
        return;
    }
    pthread_mutex_lock(&remote->peers->lock);
    bool wanted = hop->asking && !hop->gone;
    if (wanted && link == NULL) {
        struct corolla_error error = *err;
        err_prefix(&error, error.status, "%s", hop->label);
        hop_fail(hop, error.status, hop_reason(error.status), error.message);
    }
    pthread_mutex_unlock(&remote->peers->lock);
    if (!wanted || link == NULL) return;
    hop->link = link;
    ask(hop);
}

void remote_loop_begin(void *user) {
    struct remote *remote = user;
    remote->next = remote->peers->remotes;
    remote->peers->remotes = remote;
}

void remote_loop_ask(void *user) {
    struct remote_hop *hop = user;
    if (hop->link != NULL) {
        ask(hop);
        return;
    }
    if (hop->dialling) return;
    hop->dialling = true;
    hop->remote->dials++;
    pthread_mutex_lock(&hop->remote->peers->lock);
    hop->ref = hop->peer->ref; /* a server may come back at other addresses */
    pthread_mutex_unlock(&hop->remote->peers->lock);
    net_dial(hop->remote->peers->net, &hop->ref, on_hop_dialled, hop);
}

static void send_close(struct link *link, uint32_t stream, const uint8_t session[SESSION_SIZE], const uint8_t secret[SECRET_SIZE]) {
    struct msg_close close;
    memcpy(close.session, session, SESSION_SIZE);
    memcpy(close.secret, secret, SECRET_SIZE);
    uint8_t header[MSG_HEADER_MAX];
    link_send(link, stream, LINK_URGENT, MSG_CLOSE, header, msg_close_encode(&close, header), NULL);
}

/* Positions that a session may have as it opens. The lock is held. */
static uint32_t held_at_most(const struct remote_hop *hop) {
    if (hop->parent != NULL) return hop->parent->remote->base.position;
    return hop->remote->n_prefix * PREFIX_STEP;
}

void remote_on_opened(struct peers *peers, struct link *link, uint32_t stream, const struct message *msg) {
    struct msg_opened opened;
    struct corolla_error error;
    if (msg_opened_decode(msg->header, msg->header_size, &opened, &error) != COROLLA_OK) {
        remote_on_fault(peers, link, error.message);
        return;
    }
    struct remote *remote = find_remote(peers, opened.session);
    struct remote_hop *hop = remote == NULL ? NULL : find_hop(remote, link, stream);
    pthread_mutex_lock(&peers->lock);
    bool asked = hop != NULL && hop->asking && !hop->opened, true_ = asked && opened.held <= held_at_most(hop);
    if (asked && true_) {
        hop->asking = false;
        hop->opened = true;
        hop->synced = (struct msg_synced){.length = opened.held, .kept = hop->keep ? opened.held : 0};
        memcpy(hop->secret, opened.secret, SECRET_SIZE);
        pthread_cond_broadcast(&remote->changed);
    }
    pthread_mutex_unlock(&peers->lock);
    if (asked && !true_) remote_on_fault(peers, link, "OPENED that cannot be true");
    if (asked) return;
    if (hop != NULL && hop->opened)
        remote_on_fault(peers, link, "OPENED for nothing that was asked");
    else /* given up meanwhile */
        send_close(link, stream, opened.session, opened.secret);
}

void remote_on_synced(struct peers *peers, struct link *link, uint32_t stream, const struct message *msg) {
    struct msg_synced synced;
    struct corolla_error error;
    if (msg_synced_decode(msg->header, msg->header_size, &synced, &error) != COROLLA_OK) {
        remote_on_fault(peers, link, error.message);
        return;
    }
    struct remote *remote = find_remote(peers, synced.session);
    struct remote_hop *hop = remote == NULL ? NULL : find_hop(remote, link, stream);
    if (hop == NULL) return; /* of a stream that was given up */
    pthread_mutex_lock(&peers->lock);
    bool wanted = hop->asking && hop->opened && synced.epoch == remote->epoch;
    bool true_ = synced.length <= remote->base.max_tokens && synced.kept <= synced.length && synced.computed_epoch <= synced.epoch;
    if (wanted && true_) {
        hop->asking = false;
        hop->synced = synced;
        pthread_cond_broadcast(&remote->changed);
    }
    pthread_mutex_unlock(&peers->lock);
    if (wanted && !true_) remote_on_fault(peers, link, "SYNCED that cannot be true");
}

void remote_loop_drop(void *user) {
    struct remote_hop *hop = user;
    if (hop->link != NULL && hop->opened) send_close(hop->link, hop->stream, hop->remote->id, hop->secret);
    hop->link = NULL;
}

void remote_loop_close(void *user) {
    struct remote *remote = user;
    remote->closing = true;
    for (struct remote_hop *hop = remote->hops; hop != NULL; hop = hop->next)
        if (!hop->gone) remote_loop_drop(hop);
    if (remote->dials == 0) unlink_and_free(remote);
}

/* ---- steps ----------------------------------------------------------------------------------------------------- */

/* The next step of a lane that is to be sent, into remote->step; who sends or gets it, or NULL when there is none. */
static struct remote_hop *take_flight(struct remote *remote, struct lane *lane, enum msg_kind *out_kind, struct body **out_body) {
    struct flight *flight = NULL;
    struct remote_hop *to = NULL;
    struct msg_step *step = &remote->step;
    pthread_mutex_lock(&remote->peers->lock);
    for (uint32_t i = 0; i < lane->count && flight == NULL; i++) {
        struct flight *f = &lane->flights[(lane->head + i) % REMOTE_FLIGHTS];
        if (!f->sent) flight = f;
    }
    if (flight != NULL) {
        uint32_t first = flight->first;
        bool replay = first > 0 || lane->from != NULL;
        to = first > 0 ? lane->hops[first - 1] : replay ? lane->from : lane->hops[0];
        if (!replay) first++;
        step->n_hops = lane->n_hops - first;
        for (uint32_t i = 0; i < step->n_hops; i++) {
            step->hops[i].node = lane->hops[first + i]->ref;
            memcpy(step->hops[i].secret, lane->hops[first + i]->secret, SECRET_SIZE);
        }
        memcpy(step->secret, to->secret, SECRET_SIZE);
        step->epoch = remote->epoch;
        step->position = flight->position;
        step->n_tokens = flight->n;
        step->n_rows = flight->n_rows;
        step->has_parent = flight->copies;
        memcpy(step->parent, remote->copy.parent, SESSION_SIZE);
        step->shared = flight->copies ? remote->copy.shared : 0;
        uint32_t end = flight->position + flight->n;
        step->named = replay || flight->position >= remote->n_named ? 0 : end < remote->n_named ? end : remote->n_named;
        *out_kind = replay ? MSG_REPLAY : MSG_STEP;
        *out_body = flight->body;
        flight->body = NULL;
        flight->sent = true;
    }
    pthread_mutex_unlock(&remote->peers->lock);
    return to;
}

static void send_lane(struct remote *remote, struct lane *lane) {
    struct msg_step *step = &remote->step;
    struct remote_hop *to;
    enum msg_kind kind;
    struct body *body;
    memcpy(step->session, remote->id, SESSION_SIZE);
    step->dtype = remote->wire;
    step->client = net_self(remote->peers->net)->id;
    step->n_timings = 0;
    while ((to = take_flight(remote, lane, &kind, &body)) != NULL) {
        if (to->link == NULL) { /* lost; the session knows */
            if (body != NULL) net_body_free(remote->peers->net, body);
            continue;
        }
        uint8_t header[MSG_HEADER_MAX];
        size_t size = msg_step_encode(step, header);
        enum link_priority priority = step->n_tokens <= URGENT_TOKENS_MAX ? LINK_URGENT : LINK_BULK;
        enum corolla_status status = link_send(to->link, to->stream, priority, kind, header, size, body);
        if (status == COROLLA_OK) continue;
        struct corolla_error error;
        err_set(&error, status, "%s: the queue of its link is full", to->label);
        pthread_mutex_lock(&remote->peers->lock);
        fail(remote, &error, false);
        pthread_mutex_unlock(&remote->peers->lock);
    }
}

void remote_loop_send(void *user) {
    struct remote *remote = user;
    send_lane(remote, &remote->chain);
    send_lane(remote, &remote->spare);
}

/* The oldest flight takes the result when it is its own. The lock is held. */
static bool result_take(struct remote *remote, struct lane *lane, const struct msg_result *result, struct message *msg) {
    struct flight *flight = NULL;
    for (uint32_t i = 0; i < lane->count && flight == NULL; i++) {
        struct flight *f = &lane->flights[(lane->head + i) % REMOTE_FLIGHTS];
        if (!f->done) flight = f;
    }
    size_t row_bytes = remote->base.n_embd * msg_wire_size(remote->wire);
    size_t body_size = msg->body == NULL ? 0 : msg->body->size;
    if (flight == NULL || !flight->sent || result->epoch != remote->epoch || result->position != flight->position) return false;
    if (result->n_tokens != flight->n || result->n_rows != flight->n_rows || body_size != flight->n_rows * row_bytes) return false;
    if (body_size > 0 && result->dtype != remote->wire) return false;
    flight->n_timings = result->n_timings;
    memcpy(flight->timings, result->timings, result->n_timings * sizeof *flight->timings);
    flight->body = msg->body;
    msg->body = NULL;
    flight->done = true;
    pthread_cond_broadcast(&remote->changed);
    return true;
}

/* The lane whose last hop this is; NULL: of none. The lock is held. */
static struct lane *lane_of(struct remote *remote, const struct remote_hop *hop) {
    struct lane *lanes[] = {&remote->spare, &remote->chain}; /* in a recovery the last hop may be that of both */
    for (size_t i = 0; i < sizeof lanes / sizeof lanes[0]; i++)
        if (lanes[i]->count > 0 && lanes[i]->hops[lanes[i]->n_hops - 1] == hop) return lanes[i];
    return hop == remote->chain.hops[remote->chain.n_hops - 1] ? &remote->chain : NULL;
}

void remote_on_result(struct peers *peers, struct link *link, uint32_t stream, struct message *msg) {
    struct msg_result result;
    struct corolla_error error;
    if (msg_result_decode(msg->header, msg->header_size, &result, &error) != COROLLA_OK) {
        remote_on_fault(peers, link, error.message);
        return;
    }
    struct remote *remote = find_remote(peers, result.session);
    if (remote == NULL) return;
    struct remote_hop *hop = find_hop(remote, link, stream);
    if (hop == NULL) return; /* of a stream that was given up */
    pthread_mutex_lock(&peers->lock);
    bool stale = result.epoch < remote->epoch || remote->failed;
    struct lane *lane = lane_of(remote, hop);
    bool taken = stale || (lane != NULL && result_take(remote, lane, &result, msg));
    pthread_mutex_unlock(&peers->lock);
    if (taken) return;
    remote_on_fault(peers, link, lane != NULL ? "RESULT that fits no step" : "RESULT from another hop than the last");
}

/* ---- failures -------------------------------------------------------------------------------------------------- */

/* The other hop that a failure names. */
static struct remote_hop *find_culprit(const struct remote *remote, const struct msg_failed *failed) {
    for (struct remote_hop *hop = remote->hops; failed->has_culprit && hop != NULL; hop = hop->next)
        if (!hop->gone && node_id_equal(&hop->ref.id, &failed->culprit)) return hop;
    return NULL;
}

static void describe_failure(const struct remote_hop *hop, const struct remote_hop *culprit, const struct msg_failed *failed,
                             struct corolla_error *out_error) {
    enum corolla_status status = failed->status == COROLLA_OK ? COROLLA_PEER_FAULT : failed->status;
    const char *text = failed->text[0] != '\0' ? failed->text : corolla_status_message(status);
    char more[96] = "";
    if (status == COROLLA_NO_CACHE)
        snprintf(more, sizeof more, " (%llu tokens of cache left)", (unsigned long long)failed->cache_tokens_left);
    else if (failed->retry_after_ms != 0)
        snprintf(more, sizeof more, " (try again in %u ms)", failed->retry_after_ms);
    if (culprit != NULL && culprit != hop)
        err_set(out_error, status, "%s: %s (told by %s)%s", culprit->label, text, hop->label, more);
    else
        err_set(out_error, status, "%s: %s%s", hop->label, text, more);
}

/* What a step that failed at a hop means. The lock is held. */
static void step_failed(struct remote_hop *hop, struct remote_hop *culprit, const struct corolla_error *error) {
    struct remote *remote = hop->remote;
    switch (error->status) {
    case COROLLA_BUSY: /* it may go better the next time */
    case COROLLA_NOMEM:
    case COROLLA_BAD_POSITION: fail(remote, error, false); break;
    case COROLLA_PEER_LOST: /* whether the culprit is gone is found out by asking it */
        remote->suspect = culprit;
        fail(remote, error, false);
        break;
    case COROLLA_UNSUPPORTED: fail(remote, error, true); break; /* these numbers, on this wire */
    case COROLLA_FORMAT:                                        /* what came in was not finite */
        if (culprit != NULL)
            lose(culprit, error, hop_reason(error->status));
        else
            fail(remote, error, true);
        break;
    default: lose(hop, error, hop_reason(error->status));
    }
}

void remote_on_failed(struct peers *peers, struct link *link, uint32_t stream, const struct message *msg) {
    struct msg_failed failed;
    struct corolla_error error;
    if (msg_failed_decode(msg->header, msg->header_size, &failed, &error) != COROLLA_OK) {
        remote_on_fault(peers, link, error.message);
        return;
    }
    struct remote *remote = find_remote(peers, failed.session);
    if (remote == NULL) return;
    struct remote_hop *hop = find_hop(remote, link, stream);
    if (hop == NULL) return; /* of a stream that was given up */
    pthread_mutex_lock(&peers->lock);
    struct remote_hop *culprit = find_culprit(remote, &failed);
    describe_failure(hop, culprit, &failed, &error);
    bool of_old = failed.has_culprit && culprit == NULL; /* it was replaced: its link ends as it should */
    /* What is of a step is no answer to SYNC, on whose stream it may come. */
    bool of_step = failed.has_culprit || (failed.epoch < remote->epoch && error.status != COROLLA_NO_SESSION);
    if (hop->asking && hop->opened && of_step)
        log_debug("failure_while_asking why=\"%s\"", error.message); /* the answer will say what is left */
    else if (hop->asking)
        hop_fail(hop, error.status, hop_reason(error.status), error.message);
    else if (of_old)
        log_debug("failure_of_replaced_hop why=\"%s\"", error.message);
    else if (failed.epoch >= remote->epoch || error.status == COROLLA_NO_SESSION || error.status == COROLLA_DRAINING)
        step_failed(hop, culprit, &error);
    pthread_mutex_unlock(&peers->lock);
}

void remote_on_down(struct peers *peers, const struct link *link, enum corolla_status status, const char *why) {
    enum corolla_status lost = status == COROLLA_PEER_FAULT || status == COROLLA_TIMEOUT ? status : COROLLA_PEER_LOST;
    struct corolla_error error;
    pthread_mutex_lock(&peers->lock);
    for (struct remote *remote = peers->remotes; remote != NULL; remote = remote->next) {
        for (struct remote_hop *hop = remote->hops; hop != NULL; hop = hop->next) {
            if (hop->link != link) continue;
            hop->link = NULL;
            err_set(&error, lost, "%s: the connection was lost: %s", hop->label, why == NULL ? "no reason is known" : why);
            if (!hop->gone) lose(hop, &error, hop_reason(lost));
        }
    }
    pthread_mutex_unlock(&peers->lock);
}
