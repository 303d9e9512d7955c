/* peers.h - the network side of a client: an identity, a loop thread without a listener, its place in the swarm, and the servers
 * that it knows.
 *
 * A server is known by a join code, by its record (gossip), or both. Records say what there is; before a server is used it is
 * asked itself (INFO), which measures the way to it as well. What failed or refused is left alone for a while.
 *
 * Threads: callers ask through the functions below; the loop thread owns links and streams. What both touch (the table of
 * servers, the states of sessions) is guarded by the one lock. Nobody holds it while calling into net, except to free bodies.
 */
#ifndef COROLLA_CLIENT_PEERS_H
#define COROLLA_CLIENT_PEERS_H

#include <pthread.h>

#include "mesh/mesh.h"
#include "swarm/route.h"

#define PEER_LABEL_MAX 48
#define PEERS_MAX 16384 /* that are known at a time: as many as gossip keeps records */

struct remote;

struct peer {
    struct peers *peers;
    struct node_ref ref;
    uint64_t digest;
    char label[PEER_LABEL_MAX]; /* for messages: "server " and the start of the node id */
    struct link *link;          /* loop thread only; NULL: not connected */
    bool named;                 /* by a join code */
    bool up;
    enum msg_kind question; /* MSG_INFO_GET, or what an owner asks: each is answered by INFO */
    bool asking;            /* somebody waits for its INFO ... */
    bool dialled;           /* ... which the loop thread sees to */
    bool has_info;          /* info holds an answer, of info_us */
    bool has_record;        /* record holds what the swarm says of it */
    bool suspected;
    bool leaving; /* it said so: sessions should go on elsewhere */
    uint64_t info_us;
    struct msg_info info;
    struct record record;
    uint32_t rtt_us;
    float seen_block_us;        /* what one block took for one token of late, ways left out; 0: not used yet ... */
    uint64_t seen_us;           /* ... the last time */
    uint32_t strikes;           /* failures since the last success */
    uint64_t banned_until_us;   /* by a failure or a refusal ... */
    uint64_t banned_us;         /* ... at this time */
    struct corolla_error error; /* why the last asking failed; status OK: it did not */
    uint32_t uses;              /* hops of sessions that point here */
};

struct peers {
    struct identity *identity;
    struct membership *membership;
    struct net *net;
    struct mesh *mesh;
    struct net_timer *timer; /* loop thread only: until the mesh has settled */
    pthread_t thread;
    bool running;
    bool has_model;
    uint32_t n_embd, n_blocks; /* of our model */
    uint8_t model[ID_SIZE];

    pthread_mutex_t lock;
    pthread_cond_t changed; /* something about the table changed */
    bool settled;           /* what the swarm had to say has come */
    bool lonely;            /* ... and that was nothing: why_lonely says why ... */
    bool entries_failed;    /* ... namely that nobody answered at them */
    struct corolla_error why_lonely;
    size_t n, capacity;
    struct peer **list;

    struct remote *remotes; /* loop thread only: the sessions, until it frees them */
};

struct peers_config {
    const char *home;
    const char *const *joins;
    size_t n_joins;
    bool lan;
    uint32_t timeout_ms;  /* for dialling */
    uint32_t hang_ms;     /* a link that is silent for so long is lost; 0: as the net has it */
    const uint8_t *model; /* NULL: servers of all models are kept, and none can be used */
    uint32_t n_embd, n_blocks;
};
enum corolla_status peers_open(struct peers **out_peers, const struct peers_config *config, struct corolla_error *err);
/* No session may be in use any more. */
void peers_close(struct peers *peers);

/* Waits until the swarm told what it has, or the deadline (clock_us). Any thread. */
void peers_settle(struct peers *peers, uint64_t deadline_us);
/* Asks those of the peers that are not connected or whose INFO is older than max_age_ms, and waits for the answers. Any thread. */
void peers_ask(struct peers *peers, struct peer *const *wanted, size_t n, uint32_t max_age_ms, uint64_t deadline_us);
/* Asks one of them as its owner to pause or resume (MSG_PAUSE, MSG_RESUME). Any thread. */
enum corolla_status peers_order(struct peers *peers, struct peer *peer, enum msg_kind question, uint64_t deadline_us,
                                struct corolla_error *err);
/* Why no entry answered, the error of the first named server that did not, or that there is nobody; false: none of them. Any thread. */
bool peers_first_error(struct peers *peers, struct corolla_error *out_error);

/* The table; the lock is held. find: NULL when it is not there. get: finds or makes; NULL when there is no memory, or too many. */
struct peer *peers_find(const struct peers *peers, const struct node_id *id);
struct peer *peers_get(struct peers *peers, const struct node_ref *ref);
/* What a session has seen of a server: OK ends its strikes; refusals and failures make others preferred for a while. The lock is held. */
void peer_note(struct peer *peer, enum corolla_status status);

/* A hop of n_blocks took us for one token. The lock is held. */
void peer_seen(struct peer *peer, uint32_t n_blocks, float us);
/* The time of one block for one token: what the server states, or what was seen when that is more. The lock is held. */
float peer_block_us(const struct peer *peer, float stated_us, uint64_t now_us);

/* pthread condition variables here count by the monotonic clock. */
void peers_cond_init(pthread_cond_t *cond);
/* Waits for a signal, at most until the deadline (clock_us) and at most for max_ms. The lock is held. */
void peers_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline_us, uint32_t max_ms);
/* Waits until something is known of servers that was not, or so long. */
void peers_pause(struct peers *peers, uint32_t ms);

#endif
