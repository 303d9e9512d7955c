/* open.h - opening sessions: the memory that is promised, and sessions that begin as copies of others. Loop thread. */
#ifndef COROLLA_NODE_OPEN_H
#define COROLLA_NODE_OPEN_H

#include "node/node.h"

/* An OPEN came: answered with OPENED or FAILED, at once or when the copy is there. An error is the sender's fault. */
enum corolla_status open_take(struct node *node, struct link *link, uint32_t stream, const struct message *msg, struct corolla_error *err);
/* A copy was made, or failed; takes the step. */
void open_copied(struct node *node, struct step *step);

#endif
