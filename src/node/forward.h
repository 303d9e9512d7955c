/* forward.h - handing what was computed to the next hop, or to the client behind the last one. Loop thread.
 *
 * A session has one link to its next hop at a time, dialled (or joined) when its first step arrives, so that the dial and the
 * computing overlap; steps that are computed before the link is up wait in order. Replays may go to another server, over a link of
 * their own: the one that is to take over. A next hop that cannot be reached, or whose link drops, is told to the client as the culprit.
 */
#ifndef COROLLA_NODE_FORWARD_H
#define COROLLA_NODE_FORWARD_H

#include "node/node.h"

/* A step was accepted, and is the only one of its session here: sees to the link that its output will need. */
void forward_prepare(struct node *node, struct session *session, const struct step *step);
/* A step was computed, or is a replay. Takes it. The session is not closed. */
void forward_step(struct node *node, struct step *step);
/* Drops what waits for a link, and forgets where replays went. */
void forward_drop(struct node *node, struct session *session);
/* The link is gone; the session may use it. */
void forward_link_down(struct node *node, struct session *session, const struct link *link, const char *why);
/* Whether a dial points to the session; whether it sends over the link. */
bool forward_dials(const struct session *session);
bool forward_uses(const struct session *session, const struct link *link);

#endif
