/* upload.h - the upload limit of a net: a token bucket over all its links, and whose turn it is.
 *
 * Everything that leaves is counted as it leaves, TLS included (what TCP and IP add is not). Only bulk messages with a body wait: when
 * there are no tokens, their links stand in a line, and each turn is one chunk (up to 80 KiB), so that links share fairly. Urgent messages,
 * control frames and messages without a body (gossip, answers: few bytes, with bounds of their own) never wait; the debt that they make
 * is worked off before bulk goes on, and is a second's worth at most.
 *
 * A receiver gives up on messages that make no progress, and the limit shall not be why. So a link has one bulk message half-sent at a
 * time, and one that fell behind goes on without a turn (send_keep_up()): the limit yields, by the least progress of each half-sent
 * message, when urgent messages alone use it up or when it is very small for the number of links.
 * A link that stands in the line is not stalled, and its queue has no deadline: while urgent messages take all of the limit, no bulk
 * message begins.
 *
 * A link that closes is not held back: it has STOP_MS.
 *
 * Threads: the loop thread.
 */
#ifndef COROLLA_NET_UPLOAD_H
#define COROLLA_NET_UPLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct link;
struct net;

struct upload {
    uint64_t bytes_per_s; /* 0: no limit, and nothing of this is used */
    int64_t tokens;       /* bytes that may go now; below 0: debt */
    uint64_t filled_us;
    uv_timer_t timer;          /* runs while links stand in the line and there are no tokens */
    struct link *first, *last; /* the line */
};

struct upload_turn { /* of a link */
    struct link *prev, *next;
    bool waits;
};

void upload_init(struct net *net, uint64_t bytes_per_s);
void upload_spend(struct net *net, size_t bytes);
/* Puts the link into the line when it has something that waits for a turn, then gives all turns that there are tokens for. */
void upload_pump(struct link *link);
void upload_leave(struct link *link); /* it closes: nothing of it waits any more */
/* Whether the link stands still because of the limit, not of its peer. */
bool upload_holds(const struct link *link);

#endif
