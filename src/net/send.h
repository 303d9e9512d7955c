/* send.h - the sending half of the streams of a link: queues, credit, and which frame goes next.
 *
 * Order: within a stream, first in first out. Between streams: urgent before bulk (a stream has the priority of its first
 * message), round robin within a priority. Every SEND_URGENT_RUN urgent frames one bulk frame may pass, so that a half-sent
 * message does not run into the receiver's deadline. Some of the half-sent messages that a link may have are kept for urgent ones.
 *
 * An urgent frame overtakes what is queued here, not what is under way. While urgent messages are about and the peer is near (so
 * that a small window costs no throughput to speak of), bulk streams therefore keep to SEND_NEAR_WINDOW, and few of them at a time.
 *
 * Memory: what is queued is counted by the blocks that it holds, per link and over all links (struct budget). Answers cost a peer
 * little to ask for, so messages without a body have a small bound of their own, and the peer that lets them pile up loses its
 * link. A queue with bodies may stand still for long, since the receiver may be computing; only when much waits to be sent by all
 * links together has it a deadline.
 *
 * Threads: the loop thread.
 */
#ifndef COROLLA_NET_SEND_H
#define COROLLA_NET_SEND_H

#include "net/stream.h"

#define SEND_URGENT_RUN 16
#define SEND_NEAR_US 1000             /* a peer with a round trip below this is near */
#define SEND_NEAR_WINDOW (128u << 10) /* bytes under way on a bulk stream; measured: bench/link.c */
#define SEND_NEAR_LARGE 2             /* large bulk messages half-sent */
#define SEND_CALM_FRAMES 512          /* bulk frames after the last urgent one until urgent messages count as gone */
#define SEND_FRAME_MIN (16u << 10)    /* wait for more credit rather than cut smaller frames */
#define SEND_SMALL_MAX (4u << 20)     /* messages without a body that may wait: a few thousand. Who asks more does not take the answers */
#define SEND_RESERVED (1u << 20)      /* a link that holds no more than this may use the last eighth of the total */
#define SEND_PROGRESS_MIN (16u << 10) /* of a queue, within each deadline */

/* Queues a message; takes the body in any case, and nobody is charged for it any more. NOMEM: out of memory, or over the bounds of
 * the queue, the total or the table. BUSY: too many messages without a body wait; the link is to be closed. */
enum corolla_status send_queue(struct streams *s, uint32_t id, enum link_priority priority, enum msg_kind kind, const uint8_t *header,
                               size_t header_size, struct body *body);

/* The next frame: its header, and its payload in two parts that stay valid until send_sent(). */
struct send_frame {
    struct stream *stream;
    struct frame_header frame;
    const uint8_t *part[2];
    size_t part_size[2];
};
bool send_pick(struct streams *s, struct send_frame *out); /* false: nothing can go now */
void send_sent(const struct send_frame *frame);            /* of the last pick, before the next */
bool send_pending(const struct streams *s);                /* anything queued at all */
/* Called at each tick. True when memory to send is short and this queue made too little progress for limit_us. */
bool send_stalled(struct streams *s, uint64_t now_us, uint64_t limit_us);
void send_rest(struct streams *s); /* the clock of this deadline begins anew: it is not the peer that holds the queue up */

/* Under an upload limit: whether something could go if this link had its turn. */
bool send_waits(const struct streams *s);
/* The same, at each tick: a half-sent message that made less progress in half of limit_us than its receiver wants in limit_us goes on
 * without a turn until it has. */
void send_keep_up(struct streams *s, uint64_t now_us, uint64_t limit_us);

/* A CREDIT frame came. */
enum corolla_status send_credit(struct streams *s, uint32_t id, uint32_t amount, struct corolla_error *err);
void send_drop(struct stream *stream); /* for stream.c: gives back all that is queued */

#endif
