/* join.h - join codes: "corolla1" and lower-case base32 of a protobuf JoinCode (node key, instance, addresses; of a private swarm also its
 * key, and perhaps an invitation) with a 4-byte SHA-256 check at its end, so that a mistyped code is told from a dead node. Pure;
 * any thread. */
#ifndef COROLLA_WIRE_JOIN_H
#define COROLLA_WIRE_JOIN_H

#include "wire/msg.h"

#define JOIN_CODE_MAX 1024

struct join_code {
    struct node_ref node;
    bool is_private; /* the swarm is */
    uint8_t swarm[KEY_SIZE];
    struct signed_bytes invitation; /* size 0: none. Checked by whoever takes it */
};
void join_code_encode(const struct join_code *code, char out[JOIN_CODE_MAX]);
/* INVALID when text is not a join code; the message says what is wrong with it. */
enum corolla_status join_code_decode(const char *text, struct join_code *out, struct corolla_error *err);

/* The same for the node alone. */
void join_encode(const struct node_ref *node, char out[JOIN_CODE_MAX]);
enum corolla_status join_decode(const char *text, struct node_ref *out, struct corolla_error *err);

#endif
