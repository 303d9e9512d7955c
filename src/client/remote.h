/* remote.h - a session over a chain of servers, which outlives each of them.
 *
 * Opening asks all hops at once; each answers with the secret that its steps must show. A step goes to the first hop with the
 * rest of the chain in its header, and the last hop answers. A run is cut into chunks of which several are under way at once, so
 * that hop 2 works on chunk 1 while hop 1 works on chunk 2; results come back in order.
 *
 * Every hop but the last keeps the rows that it sent, and the client keeps the tokens. When a hop is lost, another server takes its
 * blocks and is fed from there (recover.c); when one leaves or is slow, the same happens beside the running steps (handover.c).
 *
 *   remote.c       the caller's side: opening, runs, closing
 *   lane.c         steps under way: launching, waiting, landing; what they are made of
 *   hops.c         the servers of a session: choosing, opening, asking again after a failure
 *   recover.c      a run goes on after a failure
 *   rebuild.c      how far the hops are; sending them the rows that they lack
 *   handover.c     a hop is replaced before it fails
 *   fork.c         a second session with the same positions
 *   remote_loop.c  the loop thread's side
 *
 * Threads: they meet in the fields guarded by peers->lock. After a run failed, was cancelled or timed out, the next one raises the epoch,
 * and answers to older epochs are dropped.
 *
 * Ownership: the caller gives a session back with close; the loop thread frees it once no dial of it is pending.
 */
#ifndef COROLLA_CLIENT_REMOTE_H
#define COROLLA_CLIENT_REMOTE_H

#include "base/row_log.h"
#include "client/choose.h"
#include "client/session.h"
#include "client/swarm.h"
#include "swarm/repair.h"

#define REMOTE_CHUNK 128 /* rows of one step: short enough that hops overlap, long enough for the matrices to be efficient */
#define REMOTE_FLIGHTS 8 /* steps under way at once: keeps a chain of that many hops busy and bounds the memory of a prompt */

struct remote_hop {
    struct remote *remote;
    struct remote_hop *next; /* all hops that the session ever had */
    struct peer *peer;       /* never NULL */
    struct node_ref ref;
    uint32_t begin, end;
    uint64_t arithmetic_class;
    bool exact;
    bool keep;                       /* it keeps what it sends: not the last one of the chain */
    char label[PEER_LABEL_MAX + 32]; /* "server ... (blocks a:b)" */
    bool blamed;                     /* caller only: for being down */
    float token_us;                  /* caller only: what a token takes there of late; 0: not known */

    /* guarded by peers->lock */
    bool asking; /* OPEN or SYNC is under way */
    bool opened;
    bool down;                  /* it does not take part any more: error and reason say why */
    bool gone;                  /* ... and was replaced: what it says counts no more */
    bool has_upstream;          /* the hop before, for OPEN and SYNC */
    struct node_id upstream;    /* ... */
    struct corolla_error error; /* ... */
    const char *reason;         /* ... in one word or two: why its link or its session ended */
    struct msg_synced synced;   /* the last answer to SYNC */
    uint32_t ahead;             /* caller only: positions of the running run that it has computed and kept */

    /* loop thread only */
    struct link *link;
    uint32_t stream; /* the one of OPEN or SYNC, on which all answers come */
    bool dialling;
    uint8_t secret[SECRET_SIZE];
    struct remote_hop *parent; /* of the session that this one is a fork of; while it opens */
};

struct flight { /* one step under way */
    uint32_t position, n, n_rows;
    uint32_t first; /* of the hops of the lane: who computes first. The one before sends what it has kept, or the client what it makes */
    bool copies;    /* the hops begin it with remote->copy */
    bool sent, done;
    struct body *body; /* what is to be sent, and later the rows of the result */
    uint32_t n_timings;
    struct hop_timing timings[HOPS_MAX];
};

struct lane {                /* steps on their way through some hops, in order */
    struct remote_hop *from; /* who sends what it has kept to the first hop; NULL: the client does */
    uint32_t n_hops;
    struct remote_hop *hops[HOPS_MAX];
    uint32_t head, count; /* of the ring; with flights guarded by peers->lock */
    struct flight flights[REMOTE_FLIGHTS];
};

struct handover { /* caller only */
    enum { HANDOVER_NONE, HANDOVER_OPENING, HANDOVER_FILLING } state;
    uint32_t index, n;   /* hops [index, index + n) of the chain are replaced */
    uint32_t next, done; /* positions that went to the new hops, and that they have */
    uint64_t not_before_us;
    const char *reason;
    uint32_t strikes; /* checks in a row in which a hop was slow */
    uint32_t tokens;  /* since the last check */
};

struct remote_run {          /* caller only */
    struct session_run rows; /* with those that a copy saves, when there is one */
    uint32_t next;           /* position of the next step */
    uint32_t first;          /* the hop at which the last step began */
    uint64_t begin_us;
    bool broken;                /* the chain was, before anything of it was sent */
    enum corolla_status status; /* so far */
    struct corolla_error error;
};

struct remote {
    struct corolla_session base; /* first: the public object */
    struct peers *peers;
    uint8_t id[SESSION_SIZE];
    enum corolla_wire wire;
    bool exact;                /* as the session was opened: within one ... */
    uint64_t arithmetic_class; /* ... which recoveries keep where they can */

    /* guarded by peers->lock */
    pthread_cond_t changed;
    bool failed; /* the running epoch: error says why */
    bool fatal;  /* ... and it would fail again */
    struct corolla_error error;
    struct remote_hop *suspect; /* whom the hop before did not reach the last time; NULL: nobody */
    uint32_t epoch;
    uint32_t n_prefix; /* what the session will begin with, while it is opened; then 0 */
    uint32_t n_named;  /* positions that OPEN named, and that no run has made something else */
    uint8_t prefix[PREFIX_HASHES_MAX][PREFIX_HASH_SIZE];
    struct lane chain; /* n_hops and hops are the caller's while nothing is under way */
    struct lane spare; /* of a replay: of a recovery, or of a handover */
    struct {
        bool due;                     /* the next step of the chain begins with it */
        uint8_t parent[SESSION_SIZE]; /* its positions [shared, that of the step) */
        uint32_t shared;
    } copy; /* caller only while nothing is under way */

    /* loop thread only */
    struct remote *next; /* in peers->remotes */
    uint32_t dials;      /* callbacks to come */
    bool closing;
    struct msg_step step; /* the one that goes out: too large for a stack */

    /* caller only */
    struct remote_hop *hops; /* all, also lost ones; added under the lock */
    uint32_t chunk;
    struct remote_run run;  /* the one under way */
    uint64_t landed_us;     /* when the last rows came, or the run began */
    bool dirty;             /* the next run raises the epoch */
    uint32_t lineage;       /* the epoch since which positions before `rolled` are as they were */
    uint32_t rolled;        /* where the run of that epoch began */
    struct row_log *hidden; /* rows that came as hidden states, F32; NULL: none did */
    float *rows;            /* [chunk, n_embd] */
    int32_t *named;         /* [n_named at first]: what OPEN named; NULL: nothing */
    struct handover handover;
};

struct remote *remote_new(struct corolla_swarm *swarm, uint32_t max_tokens);
enum corolla_status remote_open(struct corolla_session **out_session, struct corolla_swarm *swarm, const struct choice *choice,
                                uint32_t max_tokens, const struct session_prompt *prompt, struct corolla_error *err);

/* ---- lane.c: the caller's side of steps ------------------------------------------------------------------------- */

/* The rows [position, position + n) through the hops of a lane from `first` on; the client makes them when first is 0 and the lane
 * has no `from`. */
enum corolla_status lane_launch(struct remote *remote, struct lane *lane, uint32_t position, uint32_t n, uint32_t n_rows, uint32_t first,
                                struct corolla_error *err);
/* Waits for the oldest flight and takes it out of the ring; its body is the caller's. */
enum corolla_status lane_wait(struct remote *remote, struct lane *lane, struct flight *out_flight, struct corolla_error *err);
/* The same without waiting: false when it is not back yet. */
bool lane_poll(struct remote *remote, struct lane *lane, struct flight *out_flight);
/* Forgets what is under way. The lock is held. */
void lane_clear(struct remote *remote, struct lane *lane);
/* How many rows of [position, end) go into one step. */
uint32_t lane_chunk(const struct remote *remote, uint32_t position, uint32_t end);
/* Remembers what a run puts at its positions. */
enum corolla_status lane_remember(struct remote *remote, const struct session_run *run, struct corolla_error *err);

/* ---- hops.c ----------------------------------------------------------------------------------------------------- */

/* A hop of the session, not opened yet. NULL: no memory. */
struct remote_hop *hop_new(struct remote *remote, const struct choice *choice, uint32_t i, uint32_t first_block);
/* The same server, to begin as a copy of what another session has there. */
struct remote_hop *hop_fork(struct remote *remote, struct remote_hop *parent);
/* Asks those that are not open to OPEN, and the others to SYNC. */
void hops_ask_begin(struct remote *remote, struct remote_hop *const *hops, uint32_t n);
/* Waits until these have answered, or are down; who is late is down then. The error of the first that is down. */
enum corolla_status hops_wait(struct remote *remote, struct remote_hop *const *hops, uint32_t n, uint32_t timeout_ms,
                              struct corolla_error *err);
/* Both. */
enum corolla_status hops_ask(struct remote *remote, struct remote_hop *const *hops, uint32_t n, uint32_t timeout_ms,
                             struct corolla_error *err);
/* Others for the blocks [begin, end), none of whom works in the chain (all blocks: whoever is best), of the session's arithmetic class
 * where there are such. */
enum corolla_status hops_choose(struct remote *remote, uint32_t begin, uint32_t end, uint32_t timeout_ms, struct remote_hop **out_hops,
                                uint32_t *out_n, struct corolla_error *err);
/* Remembers the chain for corolla_swarm_chain(). True: what it computes has the bits that the session began with. */
bool chain_remember(struct remote *remote);
/* Who sends to whom, and who keeps what it sends; before: who sends to the first one, NULL: the client. The lock is held. */
void hops_link(const struct remote *remote, const struct remote_hop *before, struct remote_hop *const *hops, uint32_t n);
/* Puts n hops in the place of hops [index, index + n_old) of the chain, and tells who sends to whom. False: too many hops. */
bool chain_splice(struct remote *remote, uint32_t index, uint32_t n_old, struct remote_hop *const *hops, uint32_t n);
/* Closes hops of which nothing is wanted any more. */
void hops_drop(struct remote *remote, struct remote_hop *const *hops, uint32_t n);
bool hop_down(const struct remote *remote, const struct remote_hop *hop);
/* What it did counts for who is chosen later. */
void hop_blame(struct remote *remote, struct remote_hop *hop, enum corolla_status status);
/* Marks a hop as down. The lock is held. */
void hop_fail(struct remote_hop *hop, enum corolla_status status, const char *reason, const char *message);
const char *hop_reason(enum corolla_status status);

/* ---- recover.c, rebuild.c, handover.c, fork.c --------------------------------------------------------------------------------------- */

/* Makes the chain whole after a run failed with *err, so that the run can go on at base.position. What cannot be made whole within the
 * time that the swarm's configuration gives, or would fail again, is an error. stuck: it was tried, and the run got no further. */
enum corolla_status recover(struct remote *remote, const struct session_run *run, bool stuck, struct corolla_error *err);
/* How far each hop of the chain is. */
void rebuild_look(const struct remote *remote, struct repair_hop out[HOPS_MAX]);
/* Brings every hop of the chain, of which none is down, to the position of the session. */
enum corolla_status rebuild(struct remote *remote, const struct session_run *run, struct corolla_error *err);
/* Forgets what is under way; answers to it are stale from now on. */
void recover_raise_epoch(struct remote *remote);
/* Between runs: looks for hops that leave or are slow, and moves on with their replacement. */
void handover_tick(struct remote *remote);
/* Gives the replacement up. */
void handover_end(struct remote *remote);
/* What was rolled back will not come to the new hops. */
void handover_rewind(struct remote *remote, uint32_t position);
/* A token was computed: how fast each hop was counts. */
void handover_note(struct remote *remote);

/* ---- remote_loop.c ----------------------------------------------------------------------------------------------- */

/* Opens the same session once more, as a copy of what it holds. */
enum corolla_status remote_fork(struct corolla_session **out_session, struct corolla_session *session, struct corolla_error *err);

/* Loop thread; posted by the caller's side. user: struct remote, or struct remote_hop. */
void remote_loop_begin(void *user);
void remote_loop_ask(void *user);
void remote_loop_drop(void *user);
void remote_loop_send(void *user);
void remote_loop_close(void *user);

/* Loop thread; called by peers.c, which frees the bodies that are left in msg. */
void remote_on_opened(struct peers *peers, struct link *link, uint32_t stream, const struct message *msg);
void remote_on_synced(struct peers *peers, struct link *link, uint32_t stream, const struct message *msg);
void remote_on_result(struct peers *peers, struct link *link, uint32_t stream, struct message *msg);
void remote_on_failed(struct peers *peers, struct link *link, uint32_t stream, const struct message *msg);
void remote_on_down(struct peers *peers, const struct link *link, enum corolla_status status, const char *why);
/* Who sent this broke the protocol: its hops are lost, and the link is closed. */
void remote_on_fault(struct peers *peers, struct link *link, const char *what);

/* Nobody uses the session any more. */
void remote_drop_bodies(struct remote *remote);
void remote_free(struct remote *remote);

#endif
