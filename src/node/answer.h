/* answer.h - what a server tells: DRAIN, INFO, OPENED, RESULT, FAILED, SYNCED. Loop thread.
 *
 * Answers for a session go on the link and the stream on which its OPEN, or its last SYNC, came. An answer that its link does not take any
 * more is lost, and so is one while the client has no link.
 */
#ifndef COROLLA_NODE_ANSWER_H
#define COROLLA_NODE_ANSWER_H

#include "node/node.h"

/* Takes no new sessions, and whether those that are here should go on elsewhere. */
void answer_drain(struct node *node, struct link *link);
void answer_info(struct node *node, struct link *link, uint32_t stream);
void answer_opened(struct node *node, const struct session *session);
/* What the session has; none of its steps is under way. */
void answer_synced(struct node *node, const struct session *session);
/* A step that was computed here as the last hop; takes its body. */
void answer_result(struct node *node, struct step *step);

/* What a FAILED is about; culprit NULL: this server. */
struct answer_about {
    const uint8_t *session;
    uint32_t epoch, position;
    const struct node_id *culprit;
    uint32_t tokens; /* of cache that were asked for */
};
void answer_failed(struct node *node, struct link *link, uint32_t stream, const struct answer_about *about,
                   const struct corolla_error *error);
/* A step that failed here, told to its session's client. */
void answer_step_failed(struct node *node, const struct step *step, const struct corolla_error *error);

#endif
