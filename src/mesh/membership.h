/* membership.h - how a running node takes part in a private swarm, or in an open one.
 *
 * Design
 *   A home with the key of a swarm is an issuer, one with a certificate is a member; any other is of no private swarm, refuses nobody,
 *   and is refused by members. A home without a certificate gets one, before its net opens, from the node of a private swarm's join
 *   code (enroll.h).
 *   A guarded net shows the certificate in HELLO and asks for that of the peer. Who is dialled or announces an address must have the
 *   role of a server. An issuer answers a valid invitation, or a key that its owner allowed, with a certificate in its own HELLO, and
 *   closes that link: the node comes back as a member.
 *   Lists of revocations are told at link up to who has an older one, and when there is a new one to everybody; links of revoked members
 *   are closed. `corolla key revoke` writes the list of a home: its running processes look for that once a second.
 *
 * Not done here: what is signed and when it is good (swarm/member.h), the files (members.h).
 * Threads: opened by the thread that opens the net; the loop's from net_run on.
 */
#ifndef COROLLA_MESH_MEMBERSHIP_H
#define COROLLA_MESH_MEMBERSHIP_H

#include "net/net.h"
#include "wire/join.h"

struct membership;

struct membership_config {
    struct identity *identity; /* borrowed */
    const char *home;          /* NULL: the default */
    const char *swarm_key;     /* file; NULL: HOME/swarm.pem if there is one */
    const char *const *joins;  /* entries of the user; the names among them are left alone */
    size_t n_joins;
    enum corolla_role role; /* what this node is: refused when its certificate does not allow that */
    uint32_t timeout_ms;    /* for the first contact */
};
/* Blocking: may dial the node of a join code. */
enum corolla_status membership_open(struct membership **out, const struct membership_config *config, struct corolla_error *err);
/* After the net was closed. */
void membership_close(struct membership *membership);

/* Before net_open: puts itself in front of config->events and into config->admission. An open swarm's leaves both alone. */
void membership_guard(struct membership *membership, struct net_config *config);
/* Between net_open and net_run, by the same thread. */
enum corolla_status membership_start(struct membership *membership, struct net *net, struct corolla_error *err);

/* The join code of this node, with the key of the private swarm. An issuer's is kept in its home for `corolla key invite`. */
void membership_join_code(const struct membership *membership, const struct node_ref *self, char out[JOIN_CODE_MAX]);
/* What goes into our records; size 0: an open swarm. */
const struct signed_bytes *membership_certificate(const struct membership *membership);
/* The number of the list of revocations that counts now: it grows. The loop's. */
uint64_t membership_revocations(const struct membership *membership);
/* Whether the key may host, by the certificate that came with its record: always in an open swarm. The loop's. */
enum corolla_status membership_check_server(const struct membership *membership, const uint8_t key[KEY_SIZE],
                                            const struct signed_bytes *certificate, struct corolla_error *err);

#endif
