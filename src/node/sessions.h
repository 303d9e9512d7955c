/* sessions.h - the sessions of a server: their table, and whether a step may run. Loop thread; no I/O.
 *
 * The checks are pure: a session, a message and its sender in; a status and a sentence for the client out. A step that is refused
 * leaves its session as it was.
 */
#ifndef COROLLA_NODE_SESSIONS_H
#define COROLLA_NODE_SESSIONS_H

#include "node/compute.h"

#define SESSIONS_MAX 1024           /* KV memory ends earlier on today's machines; it bounds the scheduler's scan */
#define SESSIONS_PER_CLIENT_MAX 128 /* so that one client cannot take the whole table */
#define SESSION_STEPS_MAX 64        /* of a session in this server at once; clients have about one per hop under way */
#define DIALS_MAX 128               /* sessions that wait for a link: clients choose whom a server dials, and it has few sockets */
#define CLIENT_ROWS_MAX (1u << 16)  /* of a client in this server at once: sixteen long prompts, or a token of each session */
#define STEPS_MAX 8192              /* in this server at once; a step is about 2 KiB beside its rows, whose bytes the net bounds */

#define LEASE_MS 30000 /* of a session without its client's link: a network comes back, or the client finds another */
#define ACTIVE_MS 5000 /* after its last step: longer between two steps is a user who thinks */

struct session_next { /* a server that takes our output */
    struct node_id id;
    struct link *link; /* NULL: none is up */
    uint32_t stream;
    bool dialling;
    struct step *first, *last;                    /* waiting for the link */
    uint32_t forwarded_epoch, forwarded_position; /* of the last step that went there */
};

/* Where the KV and the kept rows of a session are: in memory, in the spool (swap.h), or on the way, while a step of the lane is. */
enum swap_state { SWAP_HERE, SWAP_LEAVING, SWAP_AWAY, SWAP_COMING };

struct session {
    uint8_t id[SESSION_SIZE], secret[SECRET_SIZE];
    struct node_id client, upstream;
    char host[ADDR_MAX]; /* the address that OPEN came from, without its port; empty: this machine */
    bool has_upstream;
    struct link *link; /* the client's, on which OPEN or the last SYNC came; answers go there, on its stream. NULL: it was lost */
    uint32_t stream;
    uint64_t lost_ms; /* since when */
    uint64_t used_ms; /* when the last step came; 0: none */
    uint64_t opened_ms;
    enum swap_state swap;
    uint64_t spool_at, spool_size; /* its piece of the spool, unless it is here */
    uint32_t max_tokens;
    enum corolla_wire wire; /* of the rows that are kept */
    uint64_t kept_bytes;    /* promised to them */
    uint32_t epoch;
    uint32_t n_prefix; /* what it was to begin with, as OPEN named it */
    uint8_t (*prefix)[PREFIX_HASH_SIZE];
    uint32_t prefix_whole; /* positions that are that */
    uint32_t expected;     /* one past the last position that an accepted step asked for */
    uint32_t n_steps;      /* that point here */
    bool sync_due;         /* SYNCED is owed, when there are none */
    bool closed;           /* out of the table; freed when no step and no dial points here any more */
    bool freed;            /* its KV and rows are */
    struct lane lane;
    struct session_next next[2]; /* steps go to one of them, replays to that one or the other */
    uint32_t steps_next;         /* which */
    struct session *chain;       /* of the table */
};

#define SESSIONS_BUCKETS 256

struct sessions_client { /* who has sessions here, with all processes of its home: their numbers are for free */
    uint8_t key[KEY_SIZE];
    uint32_t n;
    uint64_t tokens; /* promised to them */
    uint64_t rows;   /* of their steps in this server */
};

struct sessions {
    uint32_t n;
    struct sessions_client clients[SESSIONS_MAX]; /* n 0: a free place */
    struct session *buckets[SESSIONS_BUCKETS];
};

/* NULL: not there. */
struct session *sessions_find(const struct sessions *table, const uint8_t id[SESSION_SIZE]);
/* Its lane then has the number of the client's place. */
void sessions_add(struct sessions *table, struct session *session);
/* Returns whether it was the last one of its client. */
bool sessions_remove(struct sessions *table, struct session *session);
/* Iteration: first with NULL, then with the last one; NULL at the end. The last one may not be removed meanwhile. */
struct session *sessions_each(const struct sessions *table, const struct session *last);

#define QUOTA_ADDRESS 4   /* an address may have as much as so many clients: keys are for free, and several people may share an address */
struct sessions_quota {   /* what one client may have; an address that is not this machine's own has QUOTA_ADDRESS times as much */
    uint32_t max_clients; /* keys that have sessions at once; 0: as many as there is room for */
    uint32_t client_percent; /* of the cache; 0: all of it */
    size_t n_trusted;
    const uint8_t (*trusted)[KEY_SIZE]; /* who has no quota; borrowed */
};

/* What this server can do for sessions. */
struct session_limits {
    const uint8_t *model; /* id */
    uint32_t begin, end, n_embd;
    uint32_t max_tokens;   /* of one session */
    uint64_t cache_tokens; /* of all sessions together */
    struct sessions_quota quota;
    bool draining;
};
/* Whether a session may be opened, as far as the table and the limits say; the KV budget is asked later. */
enum corolla_status sessions_check_open(const struct sessions *table, const struct session_limits *limits, const struct msg_open *open,
                                        const struct node_id *client, struct corolla_error *err);
/* Whether the client, and the address that it comes from, may have one more: BUSY says how much there is for them, and how much they have.
 * host: as in struct session. */
enum corolla_status sessions_check_quota(const struct sessions *table, const struct session_limits *limits, const struct msg_open *open,
                                         const struct node_id *client, const char *host, struct corolla_error *err);
/* Whether so many rows more of the session's client may be in this server at once; BUSY. They are counted by the other two. */
enum corolla_status sessions_check_rows(const struct sessions *table, const struct session_limits *limits, const struct session *session,
                                        uint32_t n, struct corolla_error *err);
void sessions_rows_came(struct sessions *table, const struct session *session, uint32_t n);
void sessions_rows_went(struct sessions *table, const struct session *session, uint32_t n);
/* The session that an OPEN names as its parent. NULL: there is none that is the client's own, with this secret and the same blocks. */
struct session *sessions_find_parent(const struct sessions *table, const struct msg_open *open, const struct node_id *client);
/* Whether a node may send steps of the session: its client, or the hop before. */
bool sessions_is_party(const struct session *session, const struct node_id *sender);
/* Whether a step may run. STALE: it is to be dropped without a word. */
enum corolla_status sessions_check_step(const struct session *session, const struct session_limits *limits, const struct msg_step *step,
                                        const struct node_id *sender, size_t body_size, struct corolla_error *err);
/* Whether the parent that such a step names can be copied from. */
enum corolla_status sessions_check_parent(const struct sessions *table, const struct session *session, const struct msg_step *step,
                                          struct corolla_error *err);
/* The same of a REPLAY. */
enum corolla_status sessions_check_replay(const struct session *session, const struct msg_step *step, const struct node_id *sender,
                                          struct corolla_error *err);
/* Whether a SYNC is the client's own, and not late. */
enum corolla_status sessions_check_sync(const struct session *session, const struct msg_sync *sync, const struct node_id *sender,
                                        struct corolla_error *err);
/* Whether a CLOSE is the client's own. */
bool sessions_check_close(const struct session *session, const struct msg_close *close, const struct node_id *sender);

/* Whether the lease of a session is over: its client has had no link for LEASE_MS. */
bool sessions_is_over(const struct session *session, uint64_t now_ms);
/* Whether somebody waits for it: a step is under way, or came not long ago. */
bool sessions_is_active(const struct session *session, uint64_t now_ms);
/* An OPEN of the client was refused with this status: which session's end might help. Of those without their client's link and without
 * steps under way the one that lost it first; NULL: there is none. */
struct session *sessions_find_orphan(const struct sessions *table, enum corolla_status refusal, const struct node_id *client);

#endif
