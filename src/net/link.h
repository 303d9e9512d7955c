/* link.h - the insides of a link, for link.c, link_io.c, dial.c and listen.c.
 *
 *   CONNECTING -> SECURING (TLS) -> GREETING (HELLO) -> UP -> FLUSHING -> LINGERING -> CLOSING -> freed
 *
 * link_fail() leads from any state straight to CLOSING. Callbacks come from the loop only, never from inside link_fail, link_close
 * or link_send; memory is freed in the close callback of the handles, so that a link stays valid through any nesting of calls.
 * on_down, and the failure of a dial, are told from there.
 */
#ifndef COROLLA_NET_LINK_H
#define COROLLA_NET_LINK_H

#include "net/loop.h"
#include "net/send.h"

enum link_state { LINK_CONNECTING, LINK_SECURING, LINK_GREETING, LINK_UP, LINK_FLUSHING, LINK_LINGERING, LINK_CLOSING };

struct link {
    struct net *net;
    struct link *prev, *next;
    uv_tcp_t tcp;
    uv_timer_t timer; /* the handshake's deadline, then the ping, then the end of flushing */
    uv_connect_t connect;
    uv_shutdown_t shutdown;
    int handles_open;
    enum link_state state;
    bool dialled, was_up, half_open;
    bool paused;      /* not read: over the budget of memory ... */
    unsigned writing; /* chunks that are with libuv */
    bool mute;        /* a write failed: the end is about to be read */
    bool deaf;        /* the peer said GOODBYE: there is nobody to answer to */
    bool left;        /* with OK */
    struct tls *tls;
    struct account *account;
    struct streams streams;
    struct upload_turn turn;
    struct receiver receiver;
    /* control frames that are due; there is at most one of each, so a peer cannot make a queue of them */
    bool hello_due, ping_due, pong_due, goodbye_due;
    uint64_t ping_value;   /* our clock when the ping was made; 0: none is out */
    uint8_t pong_value[8]; /* to return */
    enum corolla_status goodbye_status;

    bool expects;            /* dialled: one node only */
    struct node_id expected; /* this one */
    struct node_ref peer;
    struct sockaddr_storage remote;
    char address[ADDR_MAX];
    uint64_t features, received_us, tick_us, paused_us; /* ... since then */
    uint32_t rtt_us, next_stream;
    void *user;
    struct corolla_error down; /* why it closes */
    /* dialled: the outcome, once; link NULL when it failed */
    void (*on_open)(void *user, struct link *link, const struct corolla_error *err);
    void *open_user;
};

/* link.c */
struct link *link_new(struct net *net, bool dialled); /* CONNECTING. NULL: out of memory */
/* The socket of an accepted link is there. */
void link_accepted(struct link *link);
/* expected NULL: whoever answers is welcome. */
enum corolla_status link_connect(struct link *link, const struct sockaddr *address, const struct node_id *expected);
void link_connected(struct link *link); /* TLS may begin */
void link_secured(struct link *link);   /* HELLO may go */
/* The receiver holds a control frame. */
void link_control(struct link *link);
void link_fail(struct link *link, enum corolla_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* link_io.c */
bool link_read_start(struct link *link);
void link_secure(struct link *link);                /* the next step of the TLS handshake */
void link_send_chunk(struct link *link, bool turn); /* one, if the socket takes it; turn: with what waits for the upload limit */
void link_pump(struct link *link);                  /* sends what is due, as far as the socket takes it */
void link_send_goodbye_now(struct link *link, enum corolla_status status); /* past everything queued, if the socket takes it at once */
void link_resume(struct link *link);                                       /* reads again, if the budget allows */

#endif
