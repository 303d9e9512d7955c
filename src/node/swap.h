/* swap.h - idle sessions make room for others: their KV and kept rows go to the spool and come back when a step needs them, with the same
 * bits. Loop thread; the compute thread does the moving (spool.h), as steps of the session's lane.
 *
 * What a session was promised leaves the budget when it is sent away and is taken again when it is called back. So more sessions fit than
 * there is memory for, as long as they are not busy at once; a step whose session finds no room is BUSY, and its client tries again.
 */
#ifndef COROLLA_NODE_SWAP_H
#define COROLLA_NODE_SWAP_H

#include "node/node.h"

#define SWAP_IDLE_MS 500 /* without a step: then a session may be sent away */

/* Sends idle sessions away until there is room for so many tokens of blocks [begin, end), and bytes of kept rows. False: it cannot be had,
 * or was there. */
bool swap_make_room(struct node *node, uint32_t begin, uint32_t end, uint32_t max_tokens, uint64_t kept_bytes);
/* Sees to it that a session is here before the next step that is submitted to its lane. */
enum corolla_status swap_call_back(struct node *node, struct session *session, struct corolla_error *err);
/* A swap was computed. Frees the step. */
void swap_done(struct node *node, struct step *step);
/* A swap that was not computed, of a session that ends. Takes the step. */
void swap_give_up(struct node *node, struct step *step);
/* Tokens of the whole span that idle sessions would make room for. */
uint64_t swap_tokens(const struct node *node);
uint32_t swap_count(const struct node *node); /* sessions that are away */

#endif
