/* step.h - one step on its way through this server: what was asked, the rows, and what became of it.
 *
 * A step and the rest of its route live in one block of the net's body pool, so that a steady stream of steps allocates nothing.
 *
 * Ownership and threads: the loop thread makes steps and frees them. From compute_submit() to compute_collect() or
 * compute_withdraw() a step belongs to src/node/compute.c.
 */
#ifndef COROLLA_NODE_STEP_H
#define COROLLA_NODE_STEP_H

#include "net/net.h"

#define STEP_DECODE_ROWS_MAX 16 /* steps of so few rows are urgent: somebody waits for each of them */

struct session;
struct lane;
struct kv;

/* What the compute thread does with a step; all but rows have n_tokens 0. */
enum step_kind { STEP_ROWS, STEP_COPY, STEP_SWAP_OUT, STEP_SWAP_IN };

struct step {
    struct step *next;  /* for its owner's list */
    struct body *block; /* that holds this struct */
    struct body *body;  /* rows in wire format: what came in, then what goes out; NULL: none, or a replay's, fetched when it goes */
    struct session *session;
    struct session *parent; /* of whom the positions [shared, position) are copied before the rows; NULL: nobody, or done */
    struct lane *lane;
    enum step_kind kind;
    uint64_t spool_at; /* of a swap: where in the spool */
    struct kv *kv;     /* of STEP_SWAP_IN: to be filled, then the lane's */
    uint32_t epoch, position, n_tokens, n_rows;
    bool has_parent;
    uint8_t parent_id[SESSION_SIZE];
    uint32_t shared; /* with the parent, already */
    bool as_far;     /* a copy only, of as much as the parent has */
    uint32_t named;
    enum corolla_wire wire;
    bool replay;        /* nothing computes: the rows that the session has kept go out */
    bool from_upstream; /* not from the client */
    uint64_t arrived_us;
    uint32_t n_done;                         /* rows computed */
    struct corolla_error error;              /* status OK: computed */
    uint32_t queue_us, compute_us;           /* in this server */
    uint32_t turn_items, turn_rows, turn_us; /* one step of each turn says what the turn computed; items 0 in the others */
    uint32_t n_timings;                      /* of the hops passed */
    struct hop_timing timings[HOPS_MAX];
    uint32_t n_hops; /* still to come; 0: this is the last server */
    struct step_hop hops[];
};

/* Takes the body. NULL when memory is out; the body is then freed. */
struct step *step_new(struct net *net, const struct msg_step *msg, struct body *body);
/* One without rows. NULL when memory is out. */
struct step *step_new_job(struct net *net, enum step_kind kind);
void step_free(struct net *net, struct step *step);
void step_free_list(struct net *net, struct step *first);

static inline enum link_priority step_priority(const struct step *step) {
    return step->n_tokens <= STEP_DECODE_ROWS_MAX ? LINK_URGENT : LINK_BULK;
}

#endif
