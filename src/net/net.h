/* net.h - the network side of a node: one loop, its listener and its links.
 *
 * A link is one TCP connection with mutual TLS 1.3 (self-signed Ed25519; the key is the identity), up when both HELLOs were
 * exchanged. Messages travel on streams: in order within a stream, independent between streams. Frames of urgent messages
 * leave before those of bulk ones, and little is handed to the kernel ahead of time, so a decode step overtakes a transfer.
 * Each stream direction has a credit that the receiver renews as it consumes.
 *
 * Threads: everything here belongs to the loop thread (the one inside net_run), except what says "any thread".
 * Deadlines: handshake and HELLO within handshake_ms; a started message must make progress within message_ms; a link that is
 * silent for dead_ms (pings go out each ping_ms) is lost.
 */
#ifndef COROLLA_NET_NET_H
#define COROLLA_NET_NET_H

#include "net/identity.h"
#include "wire/frame.h"
#include "wire/msg.h"

struct net;
struct link;

/* Message bodies are blocks from a pool of the net, so that a steady stream of steps allocates nothing. */
struct body {
    size_t size;
    uint8_t *data;     /* aligned for floats */
    struct body *next; /* for the owner's queues */
};

struct message {
    enum msg_kind kind;
    const uint8_t *header; /* borrowed for the call */
    size_t header_size;
    struct body *body; /* owned by whom the message is given to; NULL when the body is empty */
};

struct net_events {
    /* A link is up, dialled or accepted. */
    void (*on_up)(void *user, struct link *link);
    /* A whole message. The callee owns msg->body and gives it back with net_body_free(). */
    void (*on_message)(void *user, struct link *link, uint32_t stream, struct message *msg);
    /* A link that was up is gone; it is freed after the call. status says why: PEER_LOST, TIMEOUT, PEER_FAULT,
     * OK (our own close), NOMEM or BUSY (this node had no memory left for what the peer sent). */
    void (*on_down)(void *user, struct link *link, enum corolla_status status, const char *why);
    void *user;
};

/* Who may link to this node, when not everybody may. Both on the loop, both quick. With an admission an accepted link says HELLO
 * only after the peer's HELLO was admitted, so that a stranger learns nothing but the refusal. */
struct net_admission {
    /* Adds to our HELLO. A link that was accepted has been admitted before. NULL: nothing to add. */
    void (*greet)(void *user, const struct link *link, struct msg_hello *ours);
    /* The peer's HELLO came (link_peer() is set): OK, and the link goes up at once, or a refusal that the peer is told. NULL: everybody. */
    enum corolla_status (*admit)(void *user, struct link *link, bool dialled, const struct msg_hello *theirs, struct corolla_error *err);
    void *user;
};

struct net_config {
    struct identity *identity; /* borrowed for the life of the net */
    const char *listen;        /* "host:port", NULL: do not listen */
    const char *const *announces;
    size_t n_announces; /* told in HELLO in the place of the address listened on */
    uint64_t features;
    struct net_events events;
    struct net_admission admission;
    uint32_t handshake_ms, ping_ms, dead_ms, message_ms, dial_ms;
    uint32_t half_open_max, half_open_per_address_max, links_max;
    size_t link_bytes_max;       /* received and not yet given back, per link: over it the socket is not read. 96 MiB at least
                                  * (RECEIVE_LINK_MIN); receive.h says which messages may use how much */
    size_t total_bytes_max;      /* the same over all links. What is queued to be sent has bounds of its own, of the same sizes */
    uint64_t upload_bytes_per_s; /* that all links together may send, COROLLA_UPLOAD_MIN to _MAX; 0: no limit. upload.h says what waits */
};
void net_config_default(struct net_config *config);

/* Binds the listener and starts to listen; no callbacks before net_run. */
enum corolla_status net_open(struct net **out_net, const struct net_config *config, struct corolla_error *err);
/* Runs the loop in the calling thread until net_stop. Closes all links (on_down with OK) before it returns. */
void net_run(struct net *net);
/* Any thread: sends GOODBYE to all peers, flushes what was queued within a bounded time, and lets net_run return. */
void net_stop(struct net *net);
void net_close(struct net *net); /* after net_run returned, or without it */

/* Any thread: fn(user) on the loop thread, in order. */
void net_post(struct net *net, void (*fn)(void *user), void *user);
bool net_on_loop(const struct net *net);
/* How this node is reached: id, and the addresses it announces or listens on. */
/* What all links received and sent so far, TLS included. Loop thread. */
void net_bytes(const struct net *net, uint64_t *out_received, uint64_t *out_sent);
const struct node_ref *net_self(const struct net *net);

typedef void (*net_dialled_fn)(void *user, struct link *link, const struct corolla_error *err);
/* A link to the node: the one that is up, or a new one, its addresses tried in parallel with a small head start each.
 * on_done gets the link, or NULL and the error. May be called from inside. Dials to the same node are joined. */
void net_dial(struct net *net, const struct node_ref *node, net_dialled_fn on_done, void *user);
/* The same, but a link that the node made itself does not do: this proves that its key answers at its addresses. There may then be two
 * links to the node. */
void net_prove(struct net *net, const struct node_ref *node, net_dialled_fn on_done, void *user);
#define DIAL_LINKS_MAX 3 /* nodes that one net_dial_address links to: one may lie or die */
/* Links to whoever is behind "host:port", whose keys are not known: all addresses of the name are tried, in random order. on_link gets each
 * link as it comes up, DIAL_LINKS_MAX of them at most and one per node, and at last NULL: with err NULL when there were some, else with
 * what was tried. May be called from inside when nothing can be tried. The key that answered is proved (link_peer), but nobody vouches that
 * it is an honest node's: trust no more in it than in any stranger of the swarm. */
void net_dial_address(struct net *net, const char *address, net_dialled_fn on_link, void *user);
/* The link to the node that is up, or NULL. */
struct link *net_find(struct net *net, const struct node_id *id);

const struct node_ref *link_peer(const struct link *link);
const char *link_address(const struct link *link); /* of the socket */
bool link_left(const struct link *link);           /* the peer ended it with GOODBYE(OK): it just leaves */
uint64_t link_features(const struct link *link);   /* common to both sides */
uint32_t link_rtt_us(const struct link *link);     /* smoothed, from pings; 0: not known */
void *link_user(const struct link *link);
void link_set_user(struct link *link, void *user);
/* A stream id that is not in use; odd for the dialling side, even for the accepting one. 0 is the link's own. */
uint32_t link_stream_new(struct link *link);
/* The id that link_stream_new() never gives: for what this side says as long as the link lives. */
uint32_t link_stream_first(const struct link *link);

enum link_priority { LINK_URGENT, LINK_BULK };
/* Queues a message. The header is copied; the body is taken. NOMEM when the link's queue (link_bytes_max, or
 * STREAM_SEND_MAX streams) or the total is full, PEER_LOST when the link is closing, as it then is when the peer left too many messages
 * without a body unread, INVALID for stream 0 and sizes over the limits of frame.h;
 * the body is then freed. */
enum corolla_status link_send(struct link *link, uint32_t stream, enum link_priority priority, enum msg_kind kind, const uint8_t *header,
                              size_t header_size, struct body *body);
/* Says GOODBYE with the reason and closes; on_down follows with OK, later. PEER_FAULT is for peers that broke the protocol. */
void link_close(struct link *link, enum corolla_status status, const char *why);

/* Any thread. NULL: out of memory. */
struct body *net_body_new(struct net *net, size_t size);
void net_body_free(struct net *net, struct body *body);

struct net_timer;
struct net_timer *net_timer_new(struct net *net, void (*fn)(void *user), void *user);
void net_timer_start(struct net_timer *timer, uint32_t delay_ms, uint32_t repeat_ms);
void net_timer_stop(struct net_timer *timer);
void net_timer_free(struct net_timer *timer);

#endif
