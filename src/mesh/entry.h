/* entry.h - what a person may give to --join: a join code, or the name of entry nodes. Pure; any thread.
 *
 * A name is "HOST" or "HOST:PORT"; all of its A and AAAA records are entry nodes, whose keys are learned when they answer
 * (net_dial_address). IPv4 addresses and IPv6 addresses in brackets do as well. What starts like a join code and has no dot or
 * colon, as every code, is one: a host called "corolla1" can be written "corolla1:31330".
 */
#ifndef COROLLA_MESH_ENTRY_H
#define COROLLA_MESH_ENTRY_H

#include "wire/msg.h"

#define ENTRY_PORT 31330 /* TCP, where a name says none */

struct entry {
    bool has_node;
    struct node_ref node;   /* of a join code; else ... */
    char address[ADDR_MAX]; /* ... "host:port" */
};

/* White space around text is forgiven. INVALID, with what is wrong, when it is neither. */
enum corolla_status entry_parse(const char *text, struct entry *out, struct corolla_error *err);

#endif
