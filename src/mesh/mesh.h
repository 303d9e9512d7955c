/* mesh.h - a node's place in the swarm: gossip over real links, and how it finds the first of them.
 *
 * Design
 *   The state machine is swarm/gossip.h; this gives it links, time, keys and randomness. Entries are tried all at once: join codes and
 *   names that the user gave, peers that this home remembers, and nodes of the LAN. What became of each entry of the user is kept for
 *   the message that tells why nobody was found.
 *   In a private swarm our record carries our certificate, and only records whose certificate is good are kept.
 *   The owner of the net hands gossip's messages and the ends of links on to the mesh.
 *
 * Not done here: what a record says (node/announce.h), whom a client uses (client/peers.h), who may link (membership.h).
 * Threads: opened and closed by the thread that has the net; the loop's while it runs.
 */
#ifndef COROLLA_MESH_MESH_H
#define COROLLA_MESH_MESH_H

#include "mesh/membership.h"
#include "net/net.h"
#include "swarm/gossip.h"

struct mesh;

struct mesh_config {
    struct net *net; /* open, and not running yet; borrowed */
    const struct identity *identity;
    const struct membership *membership; /* NULL: an open swarm */
    const char *home;                    /* of the remembered peers; NULL: the default */
    const char *const *joins;            /* entries of the user: join codes, or HOST or HOST:PORT */
    size_t n_joins;
    bool leaf; /* a client */
    bool lan;  /* look for others on the local network, and answer them */
    /* The table changed; loop thread. May be NULL. */
    void (*changed)(void *user, const struct gossip_entry *entry, enum gossip_change what);
    /* Somebody answered at a name among the joins. May be NULL. */
    void (*entered)(void *user, const struct node_ref *node);
    /* Whether the owner uses a link for something else, so that it stays when gossip leaves it. */
    bool (*in_use)(void *user, const struct link *link);
    void *user;
};
/* INVALID: a text among the joins is no entry. */
enum corolla_status mesh_open(struct mesh **out_mesh, const struct mesh_config *config, struct corolla_error *err);
/* After net_run returned (or never ran) and before net_close. */
void mesh_close(struct mesh *mesh);

/* What this server says of itself from now on; its certificate is added here. */
void mesh_publish(struct mesh *mesh, const struct record *record);
/* For the events of the net. True: the message was gossip's, and is taken: its body, which no honest one has, is given back. */
bool mesh_message(struct mesh *mesh, struct link *link, struct message *msg);
void mesh_link_down(struct mesh *mesh, struct link *link, enum corolla_status status);

/* The records (loop thread). */
const struct gossip *mesh_gossip(const struct mesh *mesh);
/* How many links gossip now; 0: nobody was found. */
size_t mesh_neighbours(const struct mesh *mesh);
/* Whether no more is to be expected soon: the entries were asked, and what a neighbour told of has come. */
bool mesh_settled(const struct mesh *mesh);
/* Which entries of the user failed, and how; false: none did. */
bool mesh_entry_errors(const struct mesh *mesh, struct corolla_error *out_error);

#endif
