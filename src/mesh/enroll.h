/* enroll.h - a node's first contact with a private swarm: it dials the node of a join code, shows the invitation or only its key, and
 * comes back with a certificate. */
#ifndef COROLLA_MESH_ENROLL_H
#define COROLLA_MESH_ENROLL_H

#include "net/net.h"
#include "wire/join.h"

/* Uses a net of its own for as long as it takes, timeout_ms at most; blocking. The certificate is checked: it is of the swarm of the
 * code, and on our key. REFUSED, or why the node was not reached. */
enum corolla_status enroll(struct identity *identity, const struct join_code *code, uint32_t timeout_ms, struct signed_bytes *out,
                           struct corolla_error *err);

#endif
