/* chains.h - sessions over chains of servers in a simulated world (world.h), by docs/PROTOCOL.md and docs/RECOVERY.md.
 *
 *   servers  (server.c) do what src/node does, with its own checks (node/sessions.h) and its log of rows: they compute one step at a
 *            time, in turns, keep what they sent, answer SYNC and REPLAY, hold leases
 *   users    (user.c) do what src/client does, with swarm/route.h and swarm/repair.h: clients, each with several sessions, which know
 *            what gossip tells their leaf
 *
 * What is computed is a chain of hashes: the KV of a position is the hash of what went into a block there, and what comes out is a hash of
 * that and of all KV before it. So a result is right only if every block of the chain had the right rows at all positions, and every user
 * compares each row with what it computed alone. Rows are 8 bytes: two numbers in F32.
 *
 * One process sees all, so the checks look at the truth: sim_fail() takes the first thing that must not be.
 */
#ifndef COROLLA_TESTS_SIM_CHAINS_H
#define COROLLA_TESTS_SIM_CHAINS_H

#include "node/sessions.h"
#include "sim/world.h"

#define BLOCKS 32
#define CHUNK 16      /* rows of a step */
#define CHAIN_MAX 16  /* hops */
#define TOKENS_MAX 96 /* of a session */
#define ROW_SIZE sizeof(uint64_t)
#define SERVER_TOKENS (64 * TOKENS_MAX) /* of KV, and as many rows that are kept: little, so that servers run short */
#define BLOCK_US 1000                   /* of one row in one block */
#define NOBODY UINT32_MAX

/* ---- what is computed ---------------------------------------------------------------------------------------------- */

static inline uint64_t hash(uint64_t a, uint64_t b) {
    uint64_t x = a * 0x9e3779b97f4a7c15u + b;
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
    x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9u;
    return x ^ x >> 32;
}

/* The KV of some blocks: what all positions before p add up to is in sums[block - begin][p]. */
struct memory {
    uint32_t begin, end;
    uint64_t (*sums)[TOKENS_MAX + 1];
};
void memory_init(struct memory *memory, uint32_t begin, uint32_t end);
void memory_release(struct memory *memory);
uint64_t memory_compute(struct memory *memory, uint32_t position, uint64_t row);

/* ---- messages ------------------------------------------------------------------------------------------------------ */

struct chain_hop {
    uint64_t secret;
    uint32_t node, unused; /* no padding: all bytes enter the trace */
};
struct chain_msg { /* of every kind */
    uint64_t session, secret;
    uint32_t stream; /* what asks names it, answers repeat it */
    uint32_t epoch, position, n_tokens, n_rows;
    uint32_t client;                                 /* STEP, REPLAY */
    uint32_t begin, end, max_tokens, keep, upstream; /* OPEN; SYNC: upstream */
    uint32_t length, kept, computed_epoch;           /* SYNCED */
    uint32_t status, culprit;                        /* FAILED */
    uint32_t n_hops, n_body;
    struct chain_hop hops[CHAIN_MAX];
    uint64_t rows[CHUNK]; /* the first n_body are sent */
};
void chain_send(struct world *world, void *link, enum msg_kind kind, const struct chain_msg *msg);
void chain_read(const uint8_t *data, size_t size, struct chain_msg *out);

/* ---- the simulation ------------------------------------------------------------------------------------------------ */

struct path {   /* from one node to another */
    void *link; /* NULL: none is up */
    bool dialling;
    struct work *first, *last; /* of a server: steps that wait for the link */
};

struct held {         /* a session at a server */
    struct session s; /* first; its links are those of the world, its KV is the memory */
    uint64_t number;
    uint32_t seen_epoch;                                /* the highest that anybody showed with the right secret */
    uint32_t next, forwarded_epoch, forwarded_position; /* whom the last step went to */
    struct memory memory;
};

struct server {
    struct sim *sim;
    uint32_t node, begin, end;
    bool up, draining;
    uint64_t restart_ms;
    struct session_limits limits;
    struct sessions table;
    uint32_t kv_left, rows_left; /* tokens that are not promised */
    struct path *paths;          /* [nodes] */
    struct work *first, *last;   /* to be computed */
    struct work *busy;
};

enum user_state { USER_ABSENT, USER_THINKS, USER_CUT, USER_LINKED, USER_OPENS, USER_REPLAYS, USER_RUNS, USER_WAITS, USER_DONE };

struct hop { /* of a user's chain; see struct remote_hop */
    uint32_t node, begin, end, stream, upstream, length, kept, computed_epoch, ahead;
    uint64_t secret;
    void *link;
    enum corolla_status why;
    bool asking, opened, down, keep, cut, blamed;
};

struct user { /* a session from its client's side; see struct remote and recover.c */
    struct sim *sim;
    struct client *client;
    uint32_t number;
    enum user_state state;
    uint32_t serial; /* of the alarm that counts */
    uint32_t epoch, lineage, rolled, position, run_end, length_max;
    bool dirty, failed;                   /* of the running epoch */
    bool again, timed_out, second, whole; /* of the recovery: not the first try; the second SYNC; all blocks are chosen anew */
    uint32_t late, gap, gap_n, rounds;    /* hops of the chain: too slow a one, those that are being replaced; choices made for them */
    uint32_t n_hops, n_fresh, n_flights;
    struct hop hops[CHAIN_MAX], fresh[CHAIN_MAX];     /* the chain, and newcomers that are still to answer OPEN */
    uint32_t lane_first, lane_end, next, goal, first; /* what is under way: rows to `goal` through hops [lane_first, lane_end) */
    struct flight_rows {
        uint32_t position, n;
    } flights[4];
    uint64_t since_ms; /* without a new result */
    uint64_t tokens[TOKENS_MAX], expected[TOKENS_MAX];
    struct memory memory;
};

struct client {
    struct sim *sim;
    uint32_t node;
    bool up;
    uint64_t restart_ms, reached_ms; /* since when it has a network */
    struct path *paths;
    uint32_t n_users;
    struct user *users; /* of its own */
    struct ban {
        uint64_t until_ms;
        uint32_t strikes;
    } * bans; /* [nodes] */
};

struct sim {
    struct world *world;
    uint32_t n_servers, n_clients, n_users, n_nodes; /* nodes: first the servers, then the clients */
    struct server *servers;
    struct client *clients;
    struct user *users;
    struct node_id *ids;
    uint64_t *digests;      /* of the servers, sorted ... */
    uint32_t *digest_nodes; /* ... and whose they are */
    uint32_t streams;
    const char *failure; /* the first thing that must not be */
    uint32_t failed_user;
    uint64_t results, recoveries, replays, whole_chains, waits, rollbacks, refusals, leases, stall_ms_max; /* what happened, in numbers */
    /* A replay begins in hops [first, end) of a user's chain, or other tokens follow a rollback: worth a death meanwhile. */
    void (*on_moment)(struct sim *sim, const struct user *user, uint32_t first, uint32_t end);
};

void sim_fail(struct sim *sim, uint32_t user, const char *what);
uint32_t sim_node(const struct sim *sim, uint64_t digest);

/* ---- servers and clients ------------------------------------------------------------------------------------------- */

void server_start(struct server *server, uint32_t entry);
enum server_end { SERVER_DIES, SERVER_FREEZES, SERVER_LEAVES };
void server_stop(struct server *server, enum server_end how);
void server_drain(struct server *server); /* it leaves after a while */
struct held *server_find(const struct server *server, uint64_t session);
void server_check(struct server *server); /* what it promised and what it keeps */

void client_start(struct client *client, uint32_t entry);
void client_stop(struct client *client); /* its sessions end with it */
void user_begin(struct user *user);
void user_release(struct user *user);

#endif
