/* node.h - a server at work: its loop thread, what it hosts, and what the swarm is told of it.
 *
 *   node.c      life; events of the net
 *   open.c      opening sessions, also as copies of others
 *   answer.c    what clients are told
 *   announce.c  what the swarm is told: our record; reach.c measures the way to likely next hops
 *   forward.c   from a computed step to the next hop or the client
 *   prefix.c    sessions that begin like others before
 *   resume.c    sessions that outlive a failure: SYNC, leases
 *   swap.c      idle sessions that make room for others; spool.c is the file where they are
 *   sessions.c  the table of sessions, checks
 *   host.c      what is hosted: a span, loaded and measured, with its compute thread
 *   compute.c   the compute thread; schedule.c chooses its turns, rows.c looks at its rows
 *   step.c      one step on its way; measure.c how fast it goes, measure_cache.c from one start to the next; memory.c how much KV there is
 *   vacancy.c   when there will be room
 *   stats.c     what is counted for the owner
 *   control.c   which blocks are hosted: chooses, loads, moves; it asks through calls.c
 *   server.c    the public API
 *
 * Everything in struct node belongs to the loop thread from node_start() on, except compute's own.
 */
#ifndef COROLLA_NODE_NODE_H
#define COROLLA_NODE_NODE_H

#include <pthread.h>

#include "mesh/mesh.h"
#include "node/host.h"
#include "node/sessions.h"
#include "node/vacancy.h"

struct peer { /* a link that is up */
    struct link *link;
    struct peer *prev, *next;
};

/* Why no new sessions are taken. */
enum node_drain { NODE_DRAIN_PAUSED = 1, NODE_DRAIN_MOVING = 2, NODE_DRAIN_LEAVING = 4 };

#define PREFIX_KEPT_MAX 64
#define REACH_MAX RECORD_RTTS_MAX
struct reach { /* reach.c */
    struct node *node;
    struct node_id id;
    bool dialling;
    struct link *link; /* NULL: none is up */
    uint64_t digest;   /* 0: the place is free */
};

struct node {
    struct host *host; /* NULL: nothing is loaded */
    struct net *net;
    struct mesh *mesh;
    pthread_t loop;
    bool running;
    bool stopping;        /* no session outlives its link any more */
    struct msg_info info; /* what changes is filled in when it is asked for */
    struct session_limits limits;
    unsigned drain;          /* enum node_drain */
    struct vacancy vacancy;  /* of the cache */
    bool share_prefixes;     /* with sessions of other clients */
    enum record_state state; /* while nothing is loaded: joining, or loading */
    struct sessions sessions;
    uint32_t n_kept; /* closed ones whose beginning may be of use (prefix.h) */
    struct session *kept[PREFIX_KEPT_MAX];
    uint32_t n_steps;
    uint32_t n_dials; /* of sessions that wait for the link to a next hop */
    uint64_t unreachable_logged_us;
    struct peer *peers;
    struct corolla_server_stats stats; /* stats.c fills in the rest */
    struct net_timer *timer;
    struct record told; /* what the swarm knows */
    uint64_t told_ms;
    struct reach reach[REACH_MAX];
    uint64_t reach_due_ms;
    struct msg_step message;        /* the step that comes in or goes out: too large for the stack of a small thread */
    uint8_t header[MSG_HEADER_MAX]; /* where answers are made */
};

struct node_config {
    const struct hparams *hparams;
    const uint8_t *model;          /* id, borrowed */
    const char *model_name, *name; /* name may be NULL */
    struct sessions_quota quota;
    bool share_prefixes;
};
/* NULL: out of memory. */
struct node *node_new(const struct node_config *config);
/* For the net that the node will be started with, and its mesh. */
struct net_events node_events(struct node *node);
bool node_in_use(void *node, const struct link *link);
/* Starts the loop thread; the net and the mesh are borrowed. */
enum corolla_status node_start(struct node *node, struct net *net, struct mesh *mesh, struct corolla_error *err);
/* Finishes the running turn, tells clients, peers and the swarm, stops the net and joins the threads. */
void node_stop(struct node *node);
void node_free(struct node *node); /* stopped, or never started. Frees the host */

/* For the thread that controls a started node: each returns when the loop has done it. */
void node_plan(struct node *node, enum record_state state, uint32_t begin, uint32_t end); /* what the swarm is to expect */
enum corolla_status node_take(struct node *node, struct host *host, struct corolla_error *err);
void node_set_drain(struct node *node, enum node_drain why, bool on);
void node_evict(struct node *node);      /* ends all sessions; their clients are told */
uint32_t node_active(struct node *node); /* sessions whose clients wait for them (sessions.h) */
void node_stats(struct node *node, struct corolla_server_stats *out);
/* The host, when no session is left: its compute thread has stopped, and the node hosts nothing. NULL: sessions are left. */
struct host *node_give(struct node *node);
/* fn(user) on the loop thread. */
void node_call(struct node *node, void (*fn)(void *user), void *user);

/* For the files of this folder; loop thread. */
/* Takes no new sessions, or takes them again; peers and the swarm are told. */
void node_drain(struct node *node, enum node_drain why, bool on);
bool node_is_leaving(const struct node *node); /* its blocks: it moves, or stops */
void node_notify(void *user);                  /* any thread: there are computed steps */
/* A step does not point to the session any more. */
void node_let_go(struct node *node, struct session *session);
/* Frees a step that nobody waits for any more, and its session when that was the last reason to keep it. */
void node_drop_step(struct node *node, struct step *step);
void node_drop_steps(struct node *node, struct step *first);
/* Takes back the steps of a session that wait to be computed; its swaps only when it ends. */
struct step *node_withdraw(struct node *node, struct session *session, bool ends);
/* A higher epoch: what waits is of a run that its client gave up. */
void node_raise_epoch(struct node *node, struct session *session, uint32_t epoch);
/* Takes a session out of the table; it is freed when nothing points to it any more. */
void node_close_session(struct node *node, struct session *session);
/* The same, and its client is told why. */
void node_fail_session(struct node *node, struct session *session, const struct corolla_error *error);
/* The same by its client's will: others may begin like it. */
void node_end_session(struct node *node, struct session *session);
/* KV that sessions can be given now. */
uint64_t node_tokens_left(const struct node *node);
/* Frees a closed session that nothing points to; its memory for rows as soon as no step does. */
void node_release_session(struct node *node, struct session *session);

/* announce.c: what changed so much that the swarm should know. */
void announce(struct node *node);
void announce_tick(struct node *node);
/* reach.c */
void reach_tick(struct node *node);
void reach_link_down(struct node *node, const struct link *link);
uint32_t reach_rtts(const struct node *node, struct record_rtt out[RECORD_RTTS_MAX]);

#endif
