/* quota.h - how many records one key and one range of addresses may have in the table. Pure; one thread at a time.
 *
 * A count-min sketch (Cormode, Muthukrishnan 2005): each key and range counts in a cell of each row, chosen by a secret hash, and has at
 * most what the lower one says. So memory does not depend on what peers send, and who fills up cells shuts out strangers with a chance of
 * one in QUOTA_CELLS squared for each pair.
 *
 * A range is an IPv4 /24 or an IPv6 /48; a name is a range of its own; loopback belongs to none.
 */
#ifndef COROLLA_SWARM_QUOTA_H
#define COROLLA_SWARM_QUOTA_H

#include "wire/record.h"

#define QUOTA_CELLS 16384
#define QUOTA_ROWS 2
#define QUOTA_KEY_MAX 64    /* processes of one home */
#define QUOTA_RANGE_MAX 256 /* nodes of one network: a full /24 */

struct quota {
    uint64_t secret;
    uint16_t cells[QUOTA_ROWS][QUOTA_CELLS];
};

void quota_init(struct quota *quota, uint64_t secret);
/* Counts the node; false, and nothing counted, when it has no room. */
bool quota_enter(struct quota *quota, const struct node_ref *node);
/* Takes back what quota_enter() counted. */
void quota_leave(struct quota *quota, const struct node_ref *node);

#endif
