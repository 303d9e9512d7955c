/* net_node.h - a node for tests of src/net: a home of its own, a net in a thread of its own, and a record of what happened.
 *
 * Wait functions give up after NODE_WAIT_MS with a failed assertion; nothing waits for a fixed time. What a node does with a
 * message is chosen by its behaviour. Call functions on the loop with node_do(), which waits until they ran.
 */
#ifndef TEST_SUPPORT_NET_NODE_H
#define TEST_SUPPORT_NET_NODE_H

#include <pthread.h>
#include <stdatomic.h>

#include "net/net.h"

#define NODE_WAIT_MS 60000 /* against hangs */
#define NODE_LINKS_MAX 64

enum node_behaviour {
    NODE_KEEP_LAST, /* keeps the last message, frees the ones before */
    NODE_ECHO,      /* sends header and body back on the same stream, urgent */
    NODE_HOARD,     /* keeps every body until node_release_hoard() */
};

struct node {
    char home[64];
    struct identity *identity;
    struct net *net;
    pthread_t thread;
    bool running;
    _Atomic enum node_behaviour behaviour;

    pthread_mutex_t lock; /* of what follows; changed by the loop, read by the test */
    pthread_cond_t changed;
    unsigned ups, downs, messages, hoarded;
    size_t bytes;                       /* of bodies */
    struct link *links[NODE_LINKS_MAX]; /* those that are up */
    unsigned n_links;
    enum corolla_status down_status;
    char down_why[512];
    enum msg_kind kind; /* of the last message */
    uint32_t stream;
    size_t header_size;
    uint8_t header[MSG_HEADER_MAX];
    struct body *body, *hoard;
    uint64_t arrival[64];                                /* streams of the last messages, in their order */
    void (*on_up)(struct node *node, struct link *link); /* on the loop; may be NULL */
};

/* Makes home and identity, and a config that node_start takes: it listens on 127.0.0.1:0. */
void node_prepare(struct node *node, struct net_config *config);
void node_start(struct node *node, const struct net_config *config);
void node_open(struct node *node); /* both, with the default config */
void node_stop(struct node *node); /* joins the thread, frees everything, removes the home */

/* Two nodes of the default config as the state of a cmocka test; link is a's link to b, and NULL with node_pair_open. */
struct node_pair {
    struct node a, b;
    struct link *link;
};
int node_pair_open(void **state);
int node_pair_link(void **state);
int node_pair_stop(void **state); /* whom the test has stopped by itself may be left out */

/* Runs fn(user) on the node's loop and waits for it. */
void node_do(struct node *node, void (*fn)(void *user), void *user);
/* Dials and waits. NULL: failed, with *err. */
struct link *node_dial(struct node *node, const struct node_ref *to, struct corolla_error *err);
/* Sends a message of n body bytes (the pattern of node_fill), waiting for nothing. */
enum corolla_status node_send(struct node *node, struct link *link, uint32_t stream, enum link_priority priority, const char *header,
                              size_t n);
/* Closes the link; a message behind that must be refused. */
void node_close_link(struct node *node, struct link *link, enum corolla_status status);
void node_fill(uint8_t *data, size_t n, uint32_t seed);
void node_release_hoard(struct node *node);

void node_wait_ups(struct node *node, unsigned n);
void node_wait_downs(struct node *node, unsigned n);
void node_wait_messages(struct node *node, unsigned n);
/* Waits until fn(node) holds, looking every few milliseconds. */
void node_wait(struct node *node, bool (*fn)(struct node *node));
uint16_t node_port(const struct node *node);

#endif
