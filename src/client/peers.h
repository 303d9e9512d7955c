/* peers.h - the network side of a remote swarm: an identity, a loop thread without a listener, and the servers of the join codes.
 *
 * Threads: callers ask through the functions below; the loop thread owns links and streams. What both touch (the table of
 * servers, the states of sessions) is guarded by the one lock. Nobody holds it while calling into net, except to free bodies.
 */
#ifndef COROLLA_CLIENT_PEERS_H
#define COROLLA_CLIENT_PEERS_H

#include <pthread.h>

#include "mesh/membership.h"
#include "net/net.h"
#include "swarm/route.h"

#define PEER_LABEL_MAX 48
#define PEERS_MAX 64 /* servers whose join codes a user can name */

struct remote;

struct peer {
    struct peers *peers;
    struct node_ref ref;
    char label[PEER_LABEL_MAX]; /* for messages: "server " and the start of the node id */
    struct link *link;          /* loop thread only; NULL: not connected */
    bool up;
    bool asking;   /* an INFO is on its way */
    bool has_info; /* info holds an answer, of info_us */
    uint64_t info_us;
    struct msg_info info;
    uint32_t rtt_us;
    struct corolla_error error; /* why the last asking failed; status OK: it did not */
};

struct peers {
    struct identity *identity;
    struct membership *membership;
    struct net *net;
    pthread_t thread;
    bool running;
    uint32_t n_embd, n_blocks; /* of our model */
    uint8_t model[ID_SIZE];

    pthread_mutex_t lock;
    pthread_cond_t changed; /* an answer about a server came */
    size_t n;
    struct peer peers[PEERS_MAX];

    struct remote *remotes; /* loop thread only: the sessions, until it frees them */
};

struct peers_config {
    const char *home;
    const char *const *joins;
    size_t n_joins;
    uint32_t timeout_ms; /* for dialling */
    uint8_t model[ID_SIZE];
    uint32_t n_embd, n_blocks;
};
enum corolla_status peers_open(struct peers **out_peers, const struct peers_config *config, struct corolla_error *err);
/* No session may be in use any more. */
void peers_close(struct peers *peers);

/* Asks all servers that are not connected or whose INFO is older than max_age_ms, and waits for the answers. Any thread. */
void peers_refresh(struct peers *peers, uint32_t max_age_ms, uint32_t timeout_ms);

/* What is known of the servers that are connected. out_indices[i] is the peer of out_servers[i]; the labels live as long as peers.
 * Any thread. */
size_t peers_servers(struct peers *peers, struct route_server out_servers[PEERS_MAX], size_t out_indices[PEERS_MAX]);
/* The error of the first server that did not answer, or false. Any thread. */
bool peers_first_error(struct peers *peers, struct corolla_error *out_error);

/* pthread condition variables here count by the monotonic clock. */
void peers_cond_init(pthread_cond_t *cond);
/* Waits for a signal, at most until the deadline (clock_us) and at most for max_ms. The lock is held. */
void peers_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline_us, uint32_t max_ms);

#endif
