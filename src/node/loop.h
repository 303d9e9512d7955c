/* loop.h - the insides of a node, for node.c, forward.c and answer.c. Everything here is the loop thread's. */
#ifndef COROLLA_NODE_LOOP_H
#define COROLLA_NODE_LOOP_H

#include <pthread.h>

#include "node/node.h"

#define DIALS_MAX 256         /* sessions that wait for the link to their next hop: clients choose whom a server dials */
#define RETRY_BUSY_MS 200     /* told with BUSY: some steps later */
#define RETRY_NO_CACHE_MS 2000 /* told with NO_CACHE: sessions end when people stop reading */

/* A link that is up. */
struct peer {
    struct link *link;
    struct peer *prev, *next;
};

struct node {
    struct net *net;
    struct compute *compute;
    pthread_t thread;
    struct sessions sessions;
    struct peer *peers;
    struct msg_info info; /* as it is told now */
    bool draining;        /* compute_stop() was called: nothing is submitted any more */
    bool stopped;         /* the compute thread has ended */
    uint32_t n_dials;
    /* scratch: a step and a header have some 20 KiB each */
    struct msg_step step;
    uint8_t header[MSG_HEADER_MAX];
};

/* A step under way: a block of the pool that ends with the header as it came. */
struct step {
    struct job job;
    struct body *block; /* that this lies in */
    struct body *body;
    size_t header_size;
    uint8_t header[];
};

/* answer.c: what goes back to clients. All of them drop what cannot be queued; a client that does not read loses its link. */
struct failure {
    uint32_t epoch, position;
    enum corolla_status status;
    const char *text;
    const struct node_id *culprit; /* NULL: this server */
};
void answer_info(struct node *node, struct link *link, uint32_t stream);
void answer_opened(struct node *node, const struct session *session);
/* On any link: to who asked. */
void answer_failed(struct node *node, struct link *link, uint32_t stream, const uint8_t session[SESSION_SIZE], const struct failure *failure);
/* To the session's client. */
void answer_session_failed(struct node *node, const struct session *session, const struct failure *failure);
/* A FAILED of the next hop, handed on to the client with the hop as its culprit. */
void answer_relay(struct node *node, struct link *link, const struct message *msg);
/* node->step holds the step; takes its body out of step. */
void answer_result(struct node *node, const struct session *session, struct step *step);

/* forward.c: to the next hop */
/* Starts to dial the next hop that node->step names, while the step is computed. */
void forward_prepare(struct node *node, struct session *session);
/* A step that was computed: to the next hop as soon as there is a link, or to the client. Takes the step. */
void forward_step(struct node *node, struct session *session, struct step *step);
/* The link to the next hop is gone. */
void forward_lost(struct node *node, struct session *session, const struct node_id *hop, const char *why);
/* Drops what waits for the next hop. */
void forward_drop(struct node *node, struct session *session);

/* node.c */
void step_free(struct node *node, struct session *session, struct step *step);
/* Frees a session that is closed, when nothing of it is under way. */
void session_reap(struct node *node, struct session *session);

#endif
