/* resume.c - see resume.h. */
#include "node/resume.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "node/answer.h"

/* ---- SYNC ------------------------------------------------------------------------------------------------------ */

static void take_up(struct node *node, struct session *session, struct link *link, uint32_t stream, const struct msg_sync *sync) {
    session->link = link;
    session->stream = stream;
    if (sync->has_upstream) {
        session->has_upstream = true;
        session->upstream = sync->upstream;
    }
    node_raise_epoch(node, session, sync->epoch);
    session->sync_due = true;
    resume_step_gone(node, session);
}

enum corolla_status resume_sync(struct node *node, struct link *link, uint32_t stream, const struct message *msg,
                                struct corolla_error *err) {
    struct msg_sync sync;
    struct corolla_error error = {0};
    enum corolla_status status = msg_sync_decode(msg->header, msg->header_size, &sync, err);
    if (status != COROLLA_OK) return status;
    struct session *session = sessions_find(&node->sessions, sync.session);
    if (!session)
        err_set(&error, COROLLA_NO_SESSION, "this server knows no such session: open it again");
    else if (sessions_check_sync(session, &sync, &link_peer(link)->id, &error) == COROLLA_OK)
        take_up(node, session, link, stream, &sync);
    if (error.status != COROLLA_OK)
        answer_failed(node, link, stream, &(struct answer_about){.session = sync.session, .epoch = sync.epoch}, &error);
    return COROLLA_OK;
}

void resume_step_gone(struct node *node, struct session *session) {
    if (!session->sync_due || session->n_steps > 0) return;
    session->sync_due = false;
    session->expected = session->lane.length;
    answer_synced(node, session);
}

/* ---- leases ---------------------------------------------------------------------------------------------------- */

void resume_link_down(struct node *node, struct session *session, bool left) {
    if (left || node->stopping) {
        node_end_session(node, session);
        return;
    }
    session->link = NULL;
    session->lost_ms = clock_life_ms();
}

void resume_tick(struct node *node) {
    uint64_t now_ms = clock_life_ms();
    struct session *session = sessions_each(&node->sessions, NULL);
    while (session) {
        struct session *next = sessions_each(&node->sessions, session);
        if (sessions_is_over(session, now_ms) || (node->stopping && !session->link)) node_close_session(node, session);
        session = next;
    }
}

bool resume_make_room(struct node *node, enum corolla_status refusal, const struct node_id *client) {
    struct session *orphan = sessions_find_orphan(&node->sessions, refusal, client);
    if (!orphan) return false;
    log_debug("lease_ended_early idle_ms=%llu", (unsigned long long)(clock_life_ms() - orphan->lost_ms));
    node_close_session(node, orphan);
    return true;
}
