/* remote.h - a session over a chain of servers.
 *
 * Opening asks all hops at once; each answers with the secret that its steps must show. A step goes to the first hop with the
 * rest of the chain in its header, and the last hop answers. A run is cut into chunks of which several are under way at once, so
 * that hop 2 works on chunk 1 while hop 1 works on chunk 2; results come back in order.
 *
 * Threads: remote.c is the caller's side, remote_loop.c the loop thread's. They meet in the fields guarded by peers->lock. After a
 * run failed, was cancelled or timed out, the next one raises the epoch, and answers to older epochs are dropped. A session that lost
 * a hop stays lost: every later call returns the same error.
 *
 * Ownership: the caller gives a session back with close; the loop thread frees it once no dial of it is pending.
 */
#ifndef COROLLA_CLIENT_REMOTE_H
#define COROLLA_CLIENT_REMOTE_H

#include "client/choose.h"
#include "client/session.h"
#include "client/swarm.h"

#define REMOTE_CHUNK 128 /* rows of one step: short enough that hops overlap, long enough for the matrices to be efficient */
#define REMOTE_FLIGHTS 8 /* steps under way at once: keeps a chain of that many hops busy and bounds the memory of a prompt */

enum hop_state { HOP_DIALLING, HOP_OPENING, HOP_OPEN };

struct remote_hop {
    struct remote *remote;
    struct peer *peer; /* never NULL */
    struct node_ref ref;
    bool opened; /* guarded by peers->lock */
    uint32_t begin, end;
    char label[PEER_LABEL_MAX + 32]; /* "server ... (blocks a:b)" */
    struct link *link;               /* loop thread only */
    uint32_t stream;                 /* loop thread only: the one of OPEN, on which all answers come */
    enum hop_state state;            /* loop thread only */
    uint8_t secret[SECRET_SIZE];     /* loop thread only */
};

struct flight { /* one step under way */
    uint32_t position, n, n_rows;
    bool sent, done;
    struct body *body; /* what is to be sent, and later the rows of the result */
    uint32_t n_timings;
    struct hop_timing timings[HOPS_MAX];
};

struct remote {
    struct corolla_session base; /* first: the public object */
    struct corolla_swarm *swarm;
    struct peers *peers;
    uint8_t id[SESSION_SIZE];
    enum corolla_wire wire;
    uint32_t n_hops;
    struct remote_hop *hops; /* [n_hops] */

    /* guarded by peers->lock */
    pthread_cond_t changed;
    uint32_t n_open;
    bool failed; /* the opening or the running epoch failed: error says why */
    bool broken; /* for good */
    struct corolla_error error;
    uint32_t epoch;
    uint32_t head, count; /* of the ring */
    struct flight flights[REMOTE_FLIGHTS];

    /* loop thread only */
    struct remote *next; /* in peers->remotes */
    uint32_t dials;      /* callbacks to come */
    bool closing;
    struct msg_step step; /* the fields that do not change are filled in once */

    /* caller only */
    uint32_t chunk;
    bool dirty;  /* the next run raises the epoch */
    float *rows; /* [chunk, n_embd] */
};

enum corolla_status remote_open(struct corolla_session **out_session, struct corolla_swarm *swarm, const struct choice *choice,
                                uint32_t max_tokens, struct corolla_error *err);

/* Loop thread; posted by the caller's side. user: struct remote. */
void remote_loop_open(void *user);
void remote_loop_send(void *user);
void remote_loop_close(void *user);

/* Loop thread; called by peers.c, which frees the bodies that are left in msg. */
void remote_on_opened(struct peers *peers, struct link *link, uint32_t stream, const struct message *msg);
void remote_on_result(struct peers *peers, struct link *link, uint32_t stream, struct message *msg);
void remote_on_failed(struct peers *peers, struct link *link, uint32_t stream, const struct message *msg);
void remote_on_down(struct peers *peers, const struct link *link, enum corolla_status status, const char *why);

/* Nobody uses the session any more. */
void remote_drop_bodies(struct remote *remote);
void remote_free(struct remote *remote);

#endif
