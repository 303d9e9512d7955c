/* remote_loop.c - the loop thread's side of remote sessions: OPEN, STEP and CLOSE out; OPENED, RESULT, FAILED and lost links in.
 *
 * An answer is believed only on the link and the stream on which its hop was asked. One that no session waits for any more
 * is dropped; one that cannot be true costs its sender the link. See remote.h.
 */
#include "client/remote.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

#define URGENT_TOKENS_MAX 16 /* steps of so few rows go ahead of bulk */

/* ---- finding and failing --------------------------------------------------------------------------------------- */

static struct remote *find_remote(const struct peers *peers, const uint8_t id[SESSION_SIZE]) {
    for (struct remote *r = peers->remotes; r != NULL; r = r->next)
        if (!r->closing && memcmp(r->id, id, SESSION_SIZE) == 0) return r;
    return NULL;
}

static struct remote_hop *find_hop(const struct remote *remote, const struct link *link, uint32_t stream) {
    for (uint32_t i = 0; i < remote->n_hops; i++)
        if (remote->hops[i].link == link && remote->hops[i].stream == stream) return &remote->hops[i];
    return NULL;
}

/* What the running call of the session returns, and when it is for good every later one too. The first error stands, since
 * others follow from it. The lock is held. */
static void fail(struct remote *remote, const struct corolla_error *error, bool for_good) {
    if (!remote->broken && (for_good || !remote->failed)) remote->error = *error;
    remote->failed = true;
    if (for_good) remote->broken = true;
    pthread_cond_broadcast(&remote->changed);
}

static void fail_locking(struct remote *remote, const struct corolla_error *error, bool for_good) {
    pthread_mutex_lock(&remote->peers->lock);
    fail(remote, error, for_good);
    pthread_mutex_unlock(&remote->peers->lock);
}

/* What a hop did counts for who is chosen later. */
static void note(struct remote *remote, const struct remote_hop *hop, enum corolla_status status) {
    pthread_mutex_lock(&remote->peers->lock);
    peer_note(hop->peer, status);
    pthread_mutex_unlock(&remote->peers->lock);
}

static void peer_fault(struct remote *remote, struct remote_hop *hop, const char *what) {
    struct corolla_error error;
    err_set(&error, COROLLA_PEER_FAULT, "%s broke the protocol: %s", hop->label, what);
    link_close(hop->link, COROLLA_PEER_FAULT, what); /* on_down comes later, behind our better message */
    note(remote, hop, COROLLA_PEER_FAULT);
    fail_locking(remote, &error, true);
}

/* ---- opening --------------------------------------------------------------------------------------------------- */

static void send_open(struct remote_hop *hop) {
    struct remote *remote = hop->remote;
    struct msg_open open = {.begin = hop->begin, .end = hop->end, .max_tokens = remote->base.max_tokens};
    memcpy(open.session, remote->id, SESSION_SIZE);
    memcpy(open.model, remote->peers->model, ID_SIZE);
    if (hop != remote->hops) {
        open.has_upstream = true;
        open.upstream = hop[-1].ref.id;
    }
    uint8_t header[MSG_HEADER_MAX];
    size_t size = msg_open_encode(&open, header);
    hop->stream = link_stream_new(hop->link);
    hop->state = HOP_OPENING;
    enum corolla_status status = link_send(hop->link, hop->stream, LINK_URGENT, MSG_OPEN, header, size, NULL);
    if (status == COROLLA_OK) return;
    struct corolla_error error;
    err_set(&error, status, "%s: the queue of its link is full", hop->label);
    fail_locking(remote, &error, true);
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
    remote->dials--;
    if (remote->closing) {
        if (remote->dials == 0) unlink_and_free(remote);
        return;
    }
    if (link == NULL) {
        struct corolla_error error = *err;
        err_prefix(&error, error.status, "%s", hop->label);
        note(remote, hop, error.status);
        fail_locking(remote, &error, true);
        return;
    }
    hop->link = link;
    send_open(hop);
}

void remote_loop_open(void *user) {
    struct remote *remote = user;
    struct msg_step *step = &remote->step;
    step->dtype = remote->wire;
    step->client = net_self(remote->peers->net)->id;
    step->n_hops = remote->n_hops - 1;
    memcpy(step->session, remote->id, SESSION_SIZE);
    for (uint32_t i = 1; i < remote->n_hops; i++) step->hops[i - 1].node = remote->hops[i].ref;
    remote->next = remote->peers->remotes;
    remote->peers->remotes = remote;
    remote->dials = remote->n_hops;
    for (uint32_t i = 0; i < remote->n_hops; i++) net_dial(remote->peers->net, &remote->hops[i].ref, on_hop_dialled, &remote->hops[i]);
}

static void send_close(struct link *link, uint32_t stream, const uint8_t session[SESSION_SIZE], const uint8_t secret[SECRET_SIZE]) {
    struct msg_close close;
    memcpy(close.session, session, SESSION_SIZE);
    memcpy(close.secret, secret, SECRET_SIZE);
    uint8_t header[MSG_HEADER_MAX];
    link_send(link, stream, LINK_URGENT, MSG_CLOSE, header, msg_close_encode(&close, header), NULL);
}

void remote_on_opened(struct peers *peers, struct link *link, uint32_t stream, const struct message *msg) {
    struct msg_opened opened;
    struct corolla_error error;
    if (msg_opened_decode(msg->header, msg->header_size, &opened, &error) != COROLLA_OK) {
        link_close(link, COROLLA_PEER_FAULT, error.message);
        return;
    }
    struct remote *remote = find_remote(peers, opened.session);
    if (remote == NULL) { /* closed meanwhile; it was not opened there yet when the CLOSEs went out */
        send_close(link, stream, opened.session, opened.secret);
        return;
    }
    struct remote_hop *hop = find_hop(remote, link, stream);
    if (hop == NULL || hop->state != HOP_OPENING) {
        link_close(link, COROLLA_PEER_FAULT, "OPENED for nothing that was asked");
        return;
    }
    hop->state = HOP_OPEN;
    memcpy(hop->secret, opened.secret, SECRET_SIZE);
    uint32_t index = (uint32_t)(hop - remote->hops);
    memcpy(index == 0 ? remote->step.secret : remote->step.hops[index - 1].secret, opened.secret, SECRET_SIZE);
    pthread_mutex_lock(&peers->lock);
    hop->opened = true;
    if (++remote->n_open == remote->n_hops) pthread_cond_broadcast(&remote->changed);
    pthread_mutex_unlock(&peers->lock);
}

void remote_loop_close(void *user) {
    struct remote *remote = user;
    remote->closing = true;
    for (uint32_t i = 0; i < remote->n_hops; i++) {
        struct remote_hop *hop = &remote->hops[i];
        if (hop->link != NULL && hop->state == HOP_OPEN) send_close(hop->link, hop->stream, remote->id, hop->secret);
    }
    if (remote->dials == 0) unlink_and_free(remote);
}

/* ---- steps ----------------------------------------------------------------------------------------------------- */

/* The next step that is to be sent, taken out of the ring; false when there is none. */
static bool take_flight(struct remote *remote, struct msg_step *step, struct body **out_body) {
    struct flight *flight = NULL;
    pthread_mutex_lock(&remote->peers->lock);
    for (uint32_t i = 0; i < remote->count && flight == NULL; i++) {
        struct flight *f = &remote->flights[(remote->head + i) % REMOTE_FLIGHTS];
        if (!f->sent) flight = f;
    }
    if (flight != NULL) {
        step->epoch = remote->epoch;
        step->position = flight->position;
        step->n_tokens = flight->n;
        step->n_rows = flight->n_rows;
        *out_body = flight->body;
        flight->body = NULL;
        flight->sent = true;
    }
    pthread_mutex_unlock(&remote->peers->lock);
    return flight != NULL;
}

void remote_loop_send(void *user) {
    struct remote *remote = user;
    struct remote_hop *first = &remote->hops[0];
    struct body *body;
    while (take_flight(remote, &remote->step, &body)) {
        if (first->link == NULL) { /* lost; the session knows */
            net_body_free(remote->peers->net, body);
            continue;
        }
        uint8_t header[MSG_HEADER_MAX];
        size_t size = msg_step_encode(&remote->step, header);
        enum link_priority priority = remote->step.n_tokens <= URGENT_TOKENS_MAX ? LINK_URGENT : LINK_BULK;
        enum corolla_status status = link_send(first->link, first->stream, priority, MSG_STEP, header, size, body);
        if (status == COROLLA_OK) continue;
        struct corolla_error error;
        err_set(&error, status, "%s: the queue of its link is full", first->label);
        fail_locking(remote, &error, false);
    }
}

/* The oldest flight takes the result when it is its own. The lock is held. */
static bool result_take(struct remote *remote, const struct msg_result *result, struct message *msg) {
    struct flight *flight = NULL;
    for (uint32_t i = 0; i < remote->count && flight == NULL; i++) {
        struct flight *f = &remote->flights[(remote->head + i) % REMOTE_FLIGHTS];
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

void remote_on_result(struct peers *peers, struct link *link, uint32_t stream, struct message *msg) {
    struct msg_result result;
    struct corolla_error error;
    if (msg_result_decode(msg->header, msg->header_size, &result, &error) != COROLLA_OK) {
        link_close(link, COROLLA_PEER_FAULT, error.message);
        return;
    }
    struct remote *remote = find_remote(peers, result.session);
    if (remote == NULL) return;
    struct remote_hop *last = &remote->hops[remote->n_hops - 1];
    if (find_hop(remote, link, stream) != last) {
        link_close(link, COROLLA_PEER_FAULT, "RESULT from another hop than the last");
        return;
    }
    pthread_mutex_lock(&peers->lock);
    bool stale = result.epoch < remote->epoch || remote->failed;
    bool taken = stale || result_take(remote, &result, msg);
    pthread_mutex_unlock(&peers->lock);
    if (!taken) peer_fault(remote, last, "RESULT that fits no step");
}

/* ---- failures -------------------------------------------------------------------------------------------------- */

static const struct remote_hop *find_culprit(const struct remote *remote, const struct msg_failed *failed) {
    for (uint32_t i = 0; failed->has_culprit && i < remote->n_hops; i++)
        if (node_id_equal(&remote->hops[i].ref.id, &failed->culprit)) return &remote->hops[i];
    return NULL;
}

static void describe_failure(const struct remote *remote, const struct remote_hop *hop, const struct msg_failed *failed,
                             struct corolla_error *out_error) {
    enum corolla_status status = failed->status == COROLLA_OK ? COROLLA_PEER_FAULT : failed->status;
    const char *text = failed->text[0] != '\0' ? failed->text : corolla_status_message(status);
    char more[96] = "";
    if (status == COROLLA_NO_CACHE)
        snprintf(more, sizeof more, " (%llu tokens of cache left)", (unsigned long long)failed->cache_tokens_left);
    else if (failed->retry_after_ms != 0)
        snprintf(more, sizeof more, " (try again in %u ms)", failed->retry_after_ms);
    const struct remote_hop *culprit = find_culprit(remote, failed);
    if (culprit != NULL && culprit != hop)
        err_set(out_error, status, "%s: %s (told by %s)%s", culprit->label, text, hop->label, more);
    else
        err_set(out_error, status, "%s: %s%s", hop->label, text, more);
}

void remote_on_failed(struct peers *peers, struct link *link, uint32_t stream, const struct message *msg) {
    struct msg_failed failed;
    struct corolla_error error;
    if (msg_failed_decode(msg->header, msg->header_size, &failed, &error) != COROLLA_OK) {
        link_close(link, COROLLA_PEER_FAULT, error.message);
        return;
    }
    struct remote *remote = find_remote(peers, failed.session);
    if (remote == NULL) return;
    struct remote_hop *hop = find_hop(remote, link, stream);
    if (hop == NULL) {
        link_close(link, COROLLA_PEER_FAULT, "FAILED for nothing that was asked");
        return;
    }
    describe_failure(remote, hop, &failed, &error);
    bool for_good = hop->state != HOP_OPEN || error.status == COROLLA_PEER_LOST || error.status == COROLLA_NO_SESSION;
    const struct remote_hop *culprit = find_culprit(remote, &failed);
    pthread_mutex_lock(&peers->lock);
    if (for_good) peer_note(culprit != NULL ? culprit->peer : hop->peer, error.status);
    if (for_good || failed.epoch >= remote->epoch) fail(remote, &error, for_good);
    pthread_mutex_unlock(&peers->lock);
}

void remote_on_down(struct peers *peers, const struct link *link, enum corolla_status status, const char *why) {
    for (struct remote *remote = peers->remotes; remote != NULL; remote = remote->next) {
        for (uint32_t i = 0; i < remote->n_hops; i++) {
            struct remote_hop *hop = &remote->hops[i];
            if (hop->link != link) continue;
            hop->link = NULL;
            struct corolla_error error;
            enum corolla_status lost = status == COROLLA_PEER_FAULT ? COROLLA_PEER_FAULT : COROLLA_PEER_LOST;
            err_set(&error, lost, "%s: the connection was lost: %s", hop->label, why == NULL ? "no reason is known" : why);
            if (status != COROLLA_OK) note(remote, hop, lost);
            fail_locking(remote, &error, true);
        }
    }
}
