/* receive.h - the receiving half of a link: bytes into frames, frames into messages, within a budget of memory.
 *
 * A pull parser without copies: receive_want() says where the next bytes belong (the frame header, a small buffer for control
 * frames, the body of the message itself) and how many; receive_got() takes note of them and says what became complete.
 *
 * Memory: what is received is charged to the link's account. Messages up to STREAM_LARGE get their memory at once. A larger one
 * needs a grant: the budget (per link, and over all links) must hold the block for its whole body, which is charged from then on.
 * Until then its stream gets no more credit, so the peer can send FRAME_CREDIT_INITIAL of it at most, and only that much is
 * allocated. Grants are given in the order in which messages began, over all links. Bytes are consumed, for the credit, when they
 * stand in their message.
 *
 * A budget has three parts, so that a link is never left unread for good. Grants use up to 7/8 of a link's and 3/4 of the total.
 * What half-sent messages hold without a grant is loose: on one link it fits the last eighth (checked below), and over all links it
 * may be an eighth of the total; over that the net closes the link that holds most of it. So over the budget there is always
 * something in the hands of the node, which comes back, and an eighth of the total is left to small messages, whatever others hold.
 *
 * Not solved here: many authenticated peers together can keep the budget of large messages busy. Small ones pass all the same, a
 * message that is granted must be brought in a bounded time, and the net closes links when nobody else comes to a grant.
 *
 * Threads: the loop thread.
 */
#ifndef COROLLA_NET_RECEIVE_H
#define COROLLA_NET_RECEIVE_H

#include "net/stream.h"

#define RECEIVE_RENEW                                                                                                                      \
    (32u << 10)                          /* consumed bytes after which credit is renewed: each full frame is, so that the sender           \
                                          * knows well how much is under way (SEND_NEAR_WINDOW) */
#define RECEIVE_PROGRESS_MIN (16u << 10) /* a message must bring this much, or its end, within each deadline ... */
#define RECEIVE_PROGRESS_PART 32         /* ... and this part of its size: who claims much memory has it for half that many */
#define RECEIVE_LINK_MIN (96u << 20)     /* of link_max: its last eighth holds all that is loose on a link */

struct budget { /* of a net: shared by its links */
    struct pool *pool;
    size_t link_max, total_max;
    size_t loose, granted;       /* held by half-sent messages, as in struct incoming */
    size_t queued, queued_max;   /* what waits to be sent (send.h) */
    bool total_full;             /* the first in the line waits for total_max: nobody may pass it */
    void (*on_wait)(void *user); /* a message waits (call budget_grant when memory comes back), or it is crowded. May be NULL. */
    void *user;
    struct stream *first, *last; /* they wait, in the order of their beginning */
};
bool budget_over_link(const struct budget *budget, const struct account *account); /* stop reading */
bool budget_over_total(const struct budget *budget);
/* How much is loose beyond its part; 0: not crowded. */
size_t budget_crowd(const struct budget *budget);
/* Large messages wait, and half-sent ones hold what they wait for. */
bool budget_hogged(const struct budget *budget);
/* Grants what fits now; streams granted list a CREDIT and their link is told (streams.on_credit). False: nobody got anything. */
bool budget_grant(struct budget *budget);

enum receive_event { RECEIVE_NOTHING, RECEIVE_CONTROL, RECEIVE_MESSAGE };

struct receiver {
    struct streams *streams;
    bool greeted; /* HELLO came: other frames are allowed. Set by the link. */
    uint8_t head[FRAME_HEADER_SIZE];
    size_t head_got;
    struct frame_header frame;        /* valid when head_got == FRAME_HEADER_SIZE */
    size_t left;                      /* of its payload */
    uint64_t frame_us;                /* when it began */
    uint64_t now_us;                  /* set by the link before receive_got */
    struct stream *stream;            /* of a DATA frame */
    uint8_t control[FRAME_HELLO_MAX]; /* payload of a control frame; HELLO is the longest */
    /* the last event */
    uint32_t id;            /* MESSAGE: its stream */
    struct message message; /* MESSAGE: the body is the taker's */
    struct body *header;    /* MESSAGE: holds message.header; the taker gives it back */
};

void receive_init(struct receiver *r, struct streams *streams);
/* Where the next bytes go, and how many at most: never 0. */
size_t receive_want(struct receiver *r, uint8_t **out_at);
/* n bytes, at most what was wanted, are there. PEER_FAULT, NOMEM and BUSY end the link. */
enum corolla_status receive_got(struct receiver *r, size_t n, enum receive_event *out_event, struct corolla_error *err);

/* The next CREDIT frame to send, or false. */
bool receive_credit_next(struct streams *s, uint32_t *out_id, uint32_t *out_amount);
/* True when a frame or a message that the peer began, and may go on sending, made too little progress for limit_us. */
bool receive_stalled(struct receiver *r, uint64_t now_us, uint64_t limit_us);
/* The clock of these deadlines stood still: the link was not read for so long. */
void receive_rest(struct receiver *r, uint64_t rested_us);

void receive_list_credit(struct stream *stream); /* for stream.c: lists a CREDIT for all that is not renewed */
void receive_drop(struct stream *stream);        /* for stream.c: gives back all that is half-received */

#endif
