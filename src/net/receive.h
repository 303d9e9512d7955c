/* receive.h - the receiving half of a link: bytes into frames, frames into messages, within a budget of memory.
 *
 * A pull parser without copies: receive_want() says where the next bytes belong (the frame header, a small buffer for control
 * frames, the body of the message itself) and how many; receive_got() takes note of them and says what became complete.
 *
 * Memory: what is received is charged to the link's account. Messages up to STREAM_LARGE get their memory at once. A larger one
 * needs a grant: the budget (per link, and over all links) must hold its whole size, which is charged from then on. Until then its
 * stream gets no more credit, so the peer can send FRAME_CREDIT_INITIAL of it at most, and only that much is allocated. Grants are
 * given in the order in which messages began, over all links. So messages that were granted always become complete, and those
 * that wait cannot fill the budget. Bytes are consumed, for the credit, when they stand in their message.
 *
 * Not solved here: many authenticated peers together can keep the budget of large messages busy; small ones pass all the same.
 *
 * Threads: the loop thread.
 */
#ifndef COROLLA_NET_RECEIVE_H
#define COROLLA_NET_RECEIVE_H

#include "net/stream.h"

#define RECEIVE_RENEW                                                                                                                      \
    (32u << 10)                          /* consumed bytes after which credit is renewed: each full frame is, so that the sender           \
                                          * knows well how much is under way (SEND_NEAR_WINDOW) */
#define RECEIVE_PROGRESS_MIN (16u << 10) /* a message must bring this much, or its end, within each deadline */

struct budget { /* of a net: shared by its links */
    struct pool *pool;
    size_t link_max, total_max;  /* large messages may use 7/8 of each */
    size_t ungranted;            /* bytes of messages that wait for a grant */
    bool total_full;             /* the first in the line waits for total_max: nobody may pass it */
    void (*on_wait)(void *user); /* a message waits: call budget_grant when memory comes back. May be NULL. */
    void *user;
    struct stream *first, *last; /* they wait, in the order of their beginning */
};
bool budget_over_link(const struct budget *budget, const struct account *account); /* stop reading */
bool budget_over_total(const struct budget *budget);
/* Grants what fits now; streams granted list a CREDIT and their link is told (streams.on_credit). */
void budget_grant(struct budget *budget);

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
/* The clock of these deadlines starts anew: the link was not read for a while. */
void receive_rest(struct receiver *r, uint64_t now_us);

void receive_list_credit(struct stream *stream); /* for stream.c: lists a CREDIT for all that is not renewed */
void receive_drop(struct stream *stream);        /* for stream.c: gives back all that is half-received */

#endif
