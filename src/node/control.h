/* control.h - which blocks a server hosts: chosen by its owner or by the need of the swarm, loaded, and left for others where the swarm
 * gains.
 *
 * Design
 *   The owner's span is taken as it is and never left. Otherwise the server waits until the swarm told what it has, says where it would
 *   go (state joining), and looks again: of all who join at once the one with the lower digest chooses first, and all compute the same.
 *   Then it loads, and from then on looks now and then whether another place is worth a move (swarm/place.h).
 *   A move: no new sessions, the old ones end or are ended at a deadline, the new blocks are loaded beside the old ones where memory
 *   allows, and the old ones are hosted again where loading fails.
 *
 * Threads: control_open() blocks its caller until the server can be used; a thread of its own then does the moves.
 */
#ifndef COROLLA_NODE_CONTROL_H
#define COROLLA_NODE_CONTROL_H

#include "node/node.h"

struct control;

struct control_config {
    struct node *node; /* started; borrowed */
    struct mesh *mesh;
    struct host_config host; /* begin, end: the owner's span when fixed; else filled in */
    bool fixed;
    uint32_t n_blocks; /* to host when not fixed; 0: what fits the memory */
};
enum corolla_status control_open(struct control **out_control, const struct control_config *config, struct corolla_error *err);
/* Why it hosts what it hosted first, for people. */
const char *control_why(const struct control *control);
/* Ends a move that is under way. The node still has its host. */
void control_close(struct control *control);

#endif
