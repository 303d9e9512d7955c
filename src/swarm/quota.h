/* quota.h - how many records one key and one range of addresses may have in the table. Pure; one thread at a time.
 *
 * Counts stand in a fixed number of cells, chosen by a secret hash, so memory does not depend on what peers send. Who fills one up shuts
 * out what shares its cell: one in QUOTA_CELLS, and nobody can choose whom.
 *
 * A range is an IPv4 /24 or an IPv6 /48; a name is a range of its own; loopback belongs to none.
 */
#ifndef COROLLA_SWARM_QUOTA_H
#define COROLLA_SWARM_QUOTA_H

#include "wire/record.h"

#define QUOTA_CELLS 16384
#define QUOTA_KEY_MAX 64    /* processes of one home */
#define QUOTA_RANGE_MAX 256 /* nodes of one network: a full /24 */

struct quota {
    uint64_t secret;
    uint16_t keys[QUOTA_CELLS], ranges[QUOTA_CELLS];
};

void quota_init(struct quota *quota, uint64_t secret);
/* Counts the node; false, and nothing counted, when it has no room. */
bool quota_enter(struct quota *quota, const struct node_ref *node);
void quota_leave(struct quota *quota, const struct node_ref *node);

#endif
