/* lan_pace.h - when a node speaks on a segment of its LAN. Pure: time and random numbers come in, what to send goes out.
 *
 * Asking     A newcomer asks LAN_QUERIES times with growing gaps, for what is lost; its question also says where it is itself.
 * Answering  An answer goes to all, not to the one who asked: one serves everybody who asks meanwhile, and the others on the segment
 *            need not ask. It waits a random time, the longer the more nodes are known here, so that a thousand nodes
 *            answer one after the other; and two of one node are LAN_GAP_MS apart, however often it is asked.
 * Repeating  About each LAN_REPEAT_MS a node says again where it is, so that parts of a LAN that were apart find each other. Who said
 *            so lately, since somebody asked, leaves it out.
 *
 * A node that cannot be dialled here asks and never answers.
 */
#ifndef COROLLA_NET_LAN_PACE_H
#define COROLLA_NET_LAN_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define LAN_QUERIES 3
#define LAN_QUERY_GAP_MS 1000    /* after the first question; three times as long after each further one */
#define LAN_START_MS 100         /* the first question waits up to this: machines are switched on together */
#define LAN_ANSWER_MS 20         /* an answer waits at least this ... */
#define LAN_ANSWER_SPREAD_MS 100 /* ... and up to this more, and LAN_ANSWER_NODE_MS for each node that is known ... */
#define LAN_ANSWER_NODE_MS 4     /* so that about 250 nodes answer in a second ... */
#define LAN_ANSWER_MAX_MS 2000   /* but no later than this */
#define LAN_GAP_MS 250           /* between two answers of one node */
#define LAN_REPEAT_MS 60000      /* give or take a quarter */
#define LAN_NEVER UINT64_MAX

struct lan_pace {
    bool tells; /* this node can be dialled here */
    uint32_t n_asked;
    uint64_t ask_ms, answer_ms, repeat_ms; /* when each is due, or LAN_NEVER */
    bool told;
    uint64_t told_ms; /* when we last said where we are */
};

enum lan_speech { LAN_SILENCE, LAN_QUESTION, LAN_ANSWER };

void lan_pace_init(struct lan_pace *pace, bool tells, uint64_t now_ms, uint32_t random);
/* Another node asked; n_known: how many are known here. */
void lan_pace_asked(struct lan_pace *pace, uint32_t n_known, uint64_t now_ms, uint32_t random);
/* What is to be sent now; it counts as sent. To be called when lan_pace_due is reached. */
enum lan_speech lan_pace_next(struct lan_pace *pace, uint64_t now_ms, uint32_t random);
uint64_t lan_pace_due(const struct lan_pace *pace);

#endif
