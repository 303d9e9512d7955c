/* spool.h - the file of a server where idle sessions are while others need their memory: KV and kept rows, each session in one piece.
 *
 * The file has no name: it is gone with the server. What goes where, swap.c decides; here it is written and read, on the compute thread.
 */
#ifndef COROLLA_NODE_SPOOL_H
#define COROLLA_NODE_SPOOL_H

#include "node/compute.h"

/* In a home, NULL: the default one (base/dirs.h); -1 and an error when it cannot be made there. */
int spool_open(const char *home, struct corolla_error *err);
/* Bytes that the positions of a lane take; no step of it is out. */
uint64_t spool_bytes(const struct lane *lane);
/* The lane's positions into the file at step->spool_at, and out of memory. When that fails they stay, and the step has the error. */
void spool_out(int spool, struct step *step);
/* Back into step->kv, which becomes the lane's, and into its log. When that fails the lane is empty and without KV, and step->kv as it was.
 */
void spool_in(int spool, struct step *step);

#endif
