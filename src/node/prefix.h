/* prefix.h - sessions that begin like one before: a system prompt, a conversation that goes on.
 *
 * OPEN names what the session will begin with, as a hash for each PREFIX_STEP tokens; the server cannot read them and need not. When
 * another session of the same client's key, for the same blocks, was opened with the same beginning and still holds it, the new one begins
 * as a copy of that much. Sessions that were closed are kept for that, as long as nobody needs their memory: they are the first to go.
 *
 * Within one key, so nobody learns what others ask, and nobody's rows enter another's session. Loop thread.
 */
#ifndef COROLLA_NODE_PREFIX_H
#define COROLLA_NODE_PREFIX_H

#include "node/node.h"

#define PREFIX_AGE_MS 600000 /* since they were of use last */

/* Remembers what a new session is to begin with. False: no memory. */
bool prefix_name(struct session *session, const struct msg_open *open);
/* A step writes at position: what stood there is not the prefix any more. named: how much is, behind it, as the client says. */
void prefix_note_step(struct session *session, uint32_t position, uint32_t named);
/* Who has most of what an OPEN names, and in *out_length how many positions that are at most. NULL: nobody has any. */
struct session *prefix_find(struct node *node, const struct msg_open *open, const struct node_id *client, uint32_t *out_length);

/* A session that its client closed, and that was taken out of the table: keeps it when it may be of use. False: not kept. */
bool prefix_keep(struct node *node, struct session *session);
/* Gives up the one that was of use the longest time ago; false: there is none. */
bool prefix_drop_oldest(struct node *node);
void prefix_drop_all(struct node *node);
void prefix_tick(struct node *node); /* once a second */
/* KV tokens that the kept ones hold. */
uint64_t prefix_tokens(const struct node *node);

#endif
