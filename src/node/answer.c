/* answer.c - see answer.h. */
#include "node/answer.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"

#define RETRY_BUSY_MS 250 /* about a few turns */

static void tell(struct node *node, struct link *link, uint32_t stream, enum msg_kind kind, size_t header_size) {
    if (!link) return; /* of a session whose client has lost its link: SYNC will tell where it stands */
    enum corolla_status status = link_send(link, stream, LINK_URGENT, kind, node->header, header_size, NULL);
    if (status != COROLLA_OK && status != COROLLA_PEER_LOST)
        log_debug("answer_lost peer=%s kind=%d status=%s", link_address(link), (int)kind, corolla_status_name(status));
}

void answer_drain(struct node *node, struct link *link) {
    struct msg_drain drain = {.leaving = node_is_leaving(node)};
    tell(node, link, link_stream_new(link), MSG_DRAIN, msg_drain_encode(&drain, node->header));
}

void answer_info(struct node *node, struct link *link, uint32_t stream) {
    static const uint8_t none[SESSION_SIZE];
    struct msg_info *info = &node->info;
    if (info->begin >= info->end) {
        struct corolla_error error;
        err_set(&error, COROLLA_BUSY, "this server does not know yet what it will host: try again later");
        answer_failed(node, link, stream, &(struct answer_about){.session = none}, &error);
        return;
    }
    info->cache_tokens_left = node_tokens_left(node);
    info->decode_tokens_per_s = node->host ? node->host->measure.decode_tokens_per_s : 0;
    info->prefill_tokens_per_s = node->host ? node->host->measure.prefill_tokens_per_s : 0;
    info->draining = node->limits.draining || !node->host;
    info->sessions = node->sessions.n;
    tell(node, link, stream, MSG_INFO, msg_info_encode(info, node->header));
}

void answer_opened(struct node *node, const struct session *session) {
    struct msg_opened opened = {.cache_tokens_left = node_tokens_left(node), .held = session->expected};
    memcpy(opened.session, session->id, SESSION_SIZE);
    memcpy(opened.secret, session->secret, SECRET_SIZE);
    tell(node, session->link, session->stream, MSG_OPENED, msg_opened_encode(&opened, node->header));
}

void answer_result(struct node *node, struct step *step) {
    const struct session *session = step->session;
    struct msg_result result = {.epoch = step->epoch,
                                .position = step->position,
                                .n_tokens = step->n_tokens,
                                .n_rows = step->n_rows,
                                .dtype = step->wire,
                                .n_timings = step->n_timings};
    if (!session->link) return;
    memcpy(result.session, session->id, SESSION_SIZE);
    memcpy(result.timings, step->timings, step->n_timings * sizeof *step->timings);
    struct body *body = step->body;
    step->body = NULL;
    size_t size = msg_result_encode(&result, node->header);
    enum corolla_status status = link_send(session->link, session->stream, step_priority(step), MSG_RESULT, node->header, size, body);
    if (status == COROLLA_OK || status == COROLLA_PEER_LOST) return;
    struct corolla_error error = {.status = COROLLA_BUSY};
    snprintf(error.message, sizeof error.message, "the queue of the link to the client is full: read the results");
    answer_step_failed(node, step, &error);
}

void answer_failed(struct node *node, struct link *link, uint32_t stream, const struct answer_about *about,
                   const struct corolla_error *error) {
    node->stats.failures[error->status]++;
    struct msg_failed failed = {.epoch = about->epoch, .position = about->position, .status = error->status};
    memcpy(failed.session, about->session, SESSION_SIZE);
    snprintf(failed.text, sizeof failed.text, "%.*s", (int)sizeof failed.text - 1, error->message);
    failed.cache_tokens_left = node_tokens_left(node);
    if (error->status == COROLLA_BUSY) failed.retry_after_ms = RETRY_BUSY_MS;
    if (error->status == COROLLA_NO_CACHE) failed.retry_after_ms = vacancy_estimate_ms(&node->vacancy, clock_life_ms(), about->tokens);
    failed.has_culprit = about->culprit != NULL;
    if (about->culprit) failed.culprit = *about->culprit;
    log_debug("refused peer=%s status=%s position=%u why=\"%s\"", link ? link_address(link) : "none", corolla_status_name(error->status),
              about->position, error->message);
    tell(node, link, stream, MSG_FAILED, msg_failed_encode(&failed, node->header));
}

void answer_synced(struct node *node, const struct session *session) {
    const struct lane *lane = &session->lane;
    struct msg_synced synced = {.epoch = session->epoch, .length = lane->length, .computed_epoch = lane->epoch};
    memcpy(synced.session, session->id, SESSION_SIZE);
    if (lane->kept) synced.kept = session->swap == SWAP_HERE ? row_log_length(lane->kept) : lane->length;
    tell(node, session->link, session->stream, MSG_SYNCED, msg_synced_encode(&synced, node->header));
}

void answer_step_failed(struct node *node, const struct step *step, const struct corolla_error *error) {
    const struct session *session = step->session;
    struct answer_about about = {.session = session->id, .epoch = step->epoch, .position = step->position};
    if (error->status == COROLLA_FORMAT && step->from_upstream) about.culprit = &session->upstream;
    answer_failed(node, session->link, session->stream, &about, error);
}
