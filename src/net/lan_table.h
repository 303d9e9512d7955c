/* lan_table.h - the nodes that were heard on the LAN, each with the addresses that it was heard at. Pure.
 *
 * Whoever is on the LAN can say anything: the table is bounded, one host gets no more than LAN_HOST_NODES places in it, and no
 * more than LAN_FOUND_PER_S findings are told in a second. When it is full, the node that was silent longest goes.
 */
#ifndef COROLLA_NET_LAN_TABLE_H
#define COROLLA_NET_LAN_TABLE_H

#include "wire/msg.h"

#define LAN_NODES_MAX 256 /* hints for a beginning: gossip tells of the others */
#define LAN_HOST_NODES 64 /* processes of one machine; an address counts as one */
#define LAN_FOUND_PER_S 64
#define LAN_AGAIN_MS 30000 /* a node that is heard again is told again after this: it may have been given up meanwhile */

struct lan_node {
    struct node_ref ref; /* the address heard last stands first */
    uint64_t heard_ms, told_ms;
};

struct lan_table {
    uint32_t n;
    uint64_t second_ms; /* the beginning of the one in which n_told were told */
    uint32_t n_told;
    struct lan_node nodes[LAN_NODES_MAX];
};

/* A node was heard at an address ("host:port"). What to tell of it now, all its addresses included; NULL: nothing. Borrowed until the next
 * call. */
const struct node_ref *lan_table_heard(struct lan_table *table, const struct node_id *id, const char *address, uint64_t now_ms);

/* A node that was heard, with its addresses; NULL: it was not. Borrowed until the next lan_table_heard(). */
const struct node_ref *lan_table_find(const struct lan_table *table, const struct node_id *id);

#endif
