/* stream.h - the streams of one link: their table, and what both directions share.
 *
 * A stream has no opening and no closing frame. An id that is not in the table is a fresh stream: full credit each way, nothing
 * under way. A stream that is idle and fresh again is dropped from the table by both sides, each for itself; for that the
 * receiver gives the rest of the credit back when a stream was idle for two ticks (sooner when the table is crowded).
 *
 * send.c queues, schedules and cuts messages; receive.c puts them together. Neither does I/O: link_io.c moves the bytes.
 *
 * Threads: the loop thread.
 */
#ifndef COROLLA_NET_STREAM_H
#define COROLLA_NET_STREAM_H

#include "net/body.h"

#define STREAM_TABLE_MAX 2048         /* streams of a link that are not fresh; a peer that makes more breaks the protocol */
#define STREAM_SEND_MAX 1024          /* our own part of it: link_send refuses a new stream over it */
#define STREAM_CROWDED 256            /* from here on the credit of a finished message goes back at once */
#define STREAM_BUCKETS 256            /* of the hash table */
#define STREAM_PARTIAL_MAX 64         /* messages that may be half-sent on a link at a time, per direction */
#define STREAM_LARGE (128u << 10)     /* messages (preamble, header and body) over this size are large ... */
#define STREAM_LARGE_MAX 16           /* ... and this many of them may be half-sent: it bounds what waits for memory at the receiver */
#define STREAM_CREDIT_MAX (16u << 20) /* more credit than this is a fault: it cannot be meant */

/* A message on its way out. It lives in a block of the pool, its head behind it. */
struct outgoing {
    struct body *block; /* that holds this struct */
    struct outgoing *next;
    struct body *body;
    size_t sent, head_size, size; /* head: preamble and header; size: head and body */
    size_t held;                  /* by its blocks */
    enum link_priority priority;
    uint8_t head[];
};

/* A message on its way in. */
struct incoming {
    bool active;
    bool large, waiting; /* large ones need a grant of memory before they get more credit (receive.h) */
    size_t got, size;    /* of preamble, header and body */
    uint8_t preamble[FRAME_PREAMBLE_SIZE];
    struct frame_preamble p; /* valid when got >= FRAME_PREAMBLE_SIZE */
    struct body *header, *body;
    size_t loose, granted; /* held by its blocks: granted by a body that was granted, loose by all else */
    size_t mark_bytes;     /* progress at mark_us, for the deadline */
    uint64_t mark_us;
};

struct stream {
    uint32_t id;
    uint32_t tick; /* of the last use */
    struct streams *owner;
    struct stream *chain; /* of the hash table */

    struct outgoing *first, *last;
    uint32_t credit; /* bytes that may still be sent */
    bool ringed;
    enum link_priority ring;
    struct stream *ring_prev, *ring_next;

    struct incoming in;
    uint32_t unrenewed; /* bytes announced by frames and not covered by a CREDIT sent ... */
    uint32_t consumed;  /* ... and those of them that stand in their message */
    bool credit_listed;
    struct stream *credit_next;
    struct stream *wait_prev, *wait_next; /* for a grant */
};

struct ring {
    struct stream *first, *last;
};

struct streams {
    struct pool *pool;
    struct account *account;       /* charged for what is received */
    struct budget *budget;         /* shared by all links */
    void (*on_credit)(void *user); /* a CREDIT frame became ready outside of receive_got */
    void *user;
    uint32_t n, tick;
    struct stream *buckets[STREAM_BUCKETS];
    /* sending */
    struct ring rings[2];                     /* by priority: streams that have something to send and the credit for it */
    size_t queued_bytes, queued_bytes_max;    /* held by the blocks of what is queued ... */
    size_t queued_small;                      /* ... and of it by messages without a body */
    uint64_t sent_bytes, mark_bytes, mark_us; /* progress, for the deadline */
    uint32_t n_partial, n_partial_large, urgent_run;
    uint32_t calm; /* bulk frames since the last urgent one */
    bool near;     /* the peer is; set by the link */
    bool paced;    /* there is an upload limit (upload.h): bulk messages with a body go only while it is this link's turn */
    bool turn;
    struct stream *half;    /* of such a message that is half-sent ... */
    size_t rush;            /* ... and this many bytes of it go without a turn, since it fell behind ... */
    size_t half_mark_bytes; /* ... its progress at half_mark_us; 0: its time begins with the next tick */
    uint64_t half_mark_us;
    /* receiving */
    uint32_t n_incoming, n_incoming_large, n_waiting;
    size_t loose, granted;                     /* of all half-sent messages */
    struct stream *credit_first, *credit_last; /* CREDIT frames to be sent */
};

/* queued_bytes_max bounds what waits to be sent. */
void streams_init(struct streams *s, struct pool *pool, struct account *account, struct budget *budget, size_t queued_bytes_max);
/* Drops all streams and gives every block back. */
void streams_clear(struct streams *s);
struct stream *stream_find(const struct streams *s, uint32_t id); /* NULL: fresh */
/* Finds or makes. NULL: out of memory (*out_full false) or the table is full (true). */
struct stream *stream_get(struct streams *s, uint32_t id, bool *out_full);
/* A tick of about a second: gives back the credit of idle streams and drops fresh ones. */
void streams_tick(struct streams *s);

#endif
