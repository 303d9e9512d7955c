/* resume.h - sessions that outlive a failure: SYNC, by which a client takes its session up again, and the lease of a session whose client
 * has no link. Loop thread.
 *
 * A client's link that is lost leaves its session with a lease: its steps go on, answers are dropped. SYNC, from the client over any link,
 * moves the session to that link and to a new epoch, and is answered when nothing of the session computes any more, so that what it says
 * stays true until the client's next step. Rows that were sent are sent again by REPLAY, which is a kind of step (node.c).
 */
#ifndef COROLLA_NODE_RESUME_H
#define COROLLA_NODE_RESUME_H

#include "node/node.h"

enum corolla_status resume_sync(struct node *node, struct link *link, uint32_t stream, const struct message *msg,
                                struct corolla_error *err);
/* A step of the session is gone: answers a SYNC that waited for the last one. */
void resume_step_gone(struct node *node, struct session *session);
/* The client's link ended. left: by the client's will, or ours; the session is then closed. */
void resume_link_down(struct node *node, struct session *session, bool left);
/* Ends the leases that are over; all of them when the server stops. */
void resume_tick(struct node *node);
/* An OPEN of this client was refused: whether one that is kept for its beginning, or has no
 * client, was freed, so that it may be tried again. */
bool resume_make_room(struct node *node, enum corolla_status refusal, const struct node_id *client);

#endif
