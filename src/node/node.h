/* node.h - a server at work: its loop thread, its compute thread, and what they share.
 *
 *   node.c      life; events of the net
 *   answer.c    what clients are told
 *   forward.c   from a computed step to the next hop or the client
 *   sessions.c  the table of sessions, checks
 *   compute.c   the compute thread; schedule.c chooses its turns, rows.c looks at its rows
 *   step.c      one step on its way; measure.c how fast it goes; memory.c how much KV there is
 *   server.c    the public API
 *
 * Everything in struct node belongs to the loop thread from node_start() on, except compute's own.
 */
#ifndef COROLLA_NODE_NODE_H
#define COROLLA_NODE_NODE_H

#include <pthread.h>

#include "node/measure.h"
#include "node/sessions.h"

struct peer { /* a link that is up */
    struct link *link;
    struct peer *prev, *next;
};

struct node {
    struct span *span;
    struct net *net;
    struct compute *compute;
    pthread_t loop;
    bool running;
    struct msg_info info; /* what changes is filled in when it is asked for */
    struct session_limits limits;
    struct measure measure;
    struct sessions sessions;
    uint32_t n_steps;
    uint32_t n_dials; /* sessions that wait for the link to their next hop */
    uint64_t unreachable_logged_us;
    struct peer *peers;
    struct msg_step message;        /* the step that comes in or goes out: too large for the stack of a small thread */
    uint8_t header[MSG_HEADER_MAX]; /* where answers are made */
};

struct node_config {
    struct span *span;             /* borrowed */
    const uint8_t *model;          /* id, borrowed */
    const char *model_name, *name; /* name may be NULL */
    uint32_t session_tokens_max;
};
/* Measures the span. NULL: out of memory. */
struct node *node_new(const struct node_config *config);
/* For the net that the node will be started with. */
struct net_events node_events(struct node *node);
/* Starts both threads; the net is borrowed. */
enum corolla_status node_start(struct node *node, struct net *net, struct corolla_error *err);
/* Finishes the running turn, tells clients and peers, stops the net and joins the threads. */
void node_stop(struct node *node);
void node_free(struct node *node); /* stopped, or never started */

/* For the files of this folder; loop thread. */
/* Frees a step that nobody waits for any more, and its session when that was the last reason to keep it. */
void node_drop_step(struct node *node, struct step *step);
void node_drop_steps(struct node *node, struct step *first);
/* Takes a session out of the table; it is freed when nothing points to it any more. */
void node_close_session(struct node *node, struct session *session);
/* Frees a closed session that nothing points to. */
void node_release_session(struct node *node, struct session *session);

#endif
