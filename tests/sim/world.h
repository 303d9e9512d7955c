/* world.h - a swarm in one process: the real gossip over a fake clock, network, randomness and signatures. One seed is one run.
 *
 *   Time   A queue of events, ordered by time and then by the order of their making. Nothing waits; nothing reads a clock. Each node
 *          has a monotonic clock of its own, with any origin and a wrong rate; a clock on the wall does not exist here.
 *   Links  Messages arrive in order after the delay of the pair and some jitter. A dial takes three delays and reaches who listens at
 *          the address, if its key is right. Silence (a partition, a sleeping or frozen machine) is noticed after
 *          WORLD_SILENCE_MS, the death of a process at once.
 *   Trace  A hash over everything that happened. Two runs of one seed have the same, or something here depends on what it must not.
 *   Nodes  Either run gossip (world_add), or are puppets, whose messages a test makes: liars and floods.
 *
 * Placement and routing are simulated on it by publishing records (world_publish) and reading the tables (world_gossip); what nodes do
 * beside gossip, such as sessions, by links, messages and alarms of their own (world_set_app).
 */
#ifndef COROLLA_TESTS_SIM_WORLD_H
#define COROLLA_TESTS_SIM_WORLD_H

#include "swarm/gossip.h"

#define WORLD_SILENCE_MS 4000 /* as links do (docs/PROTOCOL.md, "Heartbeat") */
#define WORLD_FRAMING 60      /* bytes that a message costs beside its own: frame, preamble, TLS, TCP, IP */

struct world;
struct world_config {
    uint64_t seed;
    uint32_t delay_ms_min, delay_ms_max; /* one way, drawn per pair */
    uint32_t jitter_ms;
    bool real_signatures; /* Ed25519; else a hash, which is faster */
    bool is_private;      /* records of world_statement() carry a certificate, and others are not kept */
};
void world_config_default(struct world_config *config, uint64_t seed);
struct world *world_new(const struct world_config *config);
void world_free(struct world *world);

uint64_t world_random(struct world *world);
uint64_t world_now_ms(const struct world *world);
uint64_t world_trace(const struct world *world);
void world_run(struct world *world, uint64_t ms);
/* Until the condition, looked at each step_ms, holds: how long that took. UINT64_MAX: not within ms. */
uint64_t world_run_until(struct world *world, bool (*condition)(struct world *world, void *user), void *user, uint64_t step_ms,
                         uint64_t ms);

/* ---- nodes: a number from 0 on ------------------------------------------------------------------------------------ */

uint32_t world_add(struct world *world, bool leaf); /* not running yet */
uint32_t world_count(const struct world *world);
void world_ref(const struct world *world, uint32_t node, struct node_ref *out);
/* Before the start: the clock's reading at the world's beginning and how many millionths it goes too fast. Random by default. */
void world_set_clock(struct world *world, uint32_t node, uint64_t origin_ms, int32_t wrong_ppm);
/* Everything reaches the node so much later from now on. */
void world_set_slow(struct world *world, uint32_t node, uint32_t ms);

/* A process with this key starts; its boot counter is one more than the last time, or what is given. */
void world_start(struct world *world, uint32_t node);
void world_start_boot(struct world *world, uint32_t node, uint64_t boot);
void world_hint(struct world *world, uint32_t node, uint32_t entry);
/* A plausible record of the node, to be changed and published. */
void world_statement(const struct world *world, uint32_t node, struct record *out);
void world_publish(struct world *world, uint32_t node, const struct record *record);

/* The first node learns that the certificate of the other was revoked. Of one at most. */
void world_revoke(struct world *world, uint32_t node, uint32_t revoked);

void world_kill(struct world *world, uint32_t node);   /* its connections end */
void world_freeze(struct world *world, uint32_t node); /* dies without a word: power, cable */
void world_leave(struct world *world, uint32_t node);  /* OFFLINE, goodbyes */
/* The machine sleeps; its monotonic clock stands still or goes on meanwhile. */
void world_sleep(struct world *world, uint32_t node, uint64_t ms, bool clock_goes_on);
/* Only nodes of one group reach each other; all are in group 0 at first. */
void world_set_group(struct world *world, uint32_t node, uint32_t group);
/* Breaks the connections between two nodes; new ones may be made. */
void world_cut(struct world *world, uint32_t a, uint32_t b);

bool world_is_up(const struct world *world, uint32_t node);
struct gossip *world_gossip(const struct world *world, uint32_t node); /* NULL: not running */
/* The live nodes with a record, the node itself left out, that it knows. */
size_t world_knows(const struct world *world, uint32_t node);
bool world_is_stating(const struct world *world, uint32_t node); /* runs and has published */
/* Nodes that do. */
size_t world_stating(const struct world *world);

struct world_traffic {
    uint64_t bytes, messages; /* both directions, framing included */
    uint64_t bytes_of_kind[MSG_SUSPECT + 1];
    uint32_t dials;
};
const struct world_traffic *world_traffic(const struct world *world, uint32_t node);
void world_traffic_clear(struct world *world);
uint32_t world_faults(const struct world *world); /* links that ended with PEER_FAULT */

/* ---- what a node does beside gossip; all of it ends with its process -------------------------------------------------- */

struct world_app {
    void (*dialled)(void *user, uint32_t target, void *link); /* NULL: nobody is there */
    void (*message)(void *user, void *link, enum msg_kind kind, const uint8_t *data, size_t size);
    void (*down)(void *user, void *link, bool lost); /* lost: without a goodbye */
    void (*alarm)(void *user, uint64_t tag);
    void *user;
};
void world_set_app(struct world *world, uint32_t node, const struct world_app *app);
void world_dial(struct world *world, uint32_t node, uint32_t target); /* a link beside those of gossip */
void world_send(struct world *world, void *link, enum msg_kind kind, const void *data, size_t size);
uint32_t world_link_peer(const void *link);
/* After so long, or when the machine wakes up. */
void world_alarm(struct world *world, uint32_t node, uint64_t after_us, uint64_t tag);

/* ---- puppets -------------------------------------------------------------------------------------------------------- */

typedef void (*world_puppet)(struct world *world, void *user, void *link, enum msg_kind kind, const uint8_t *data, size_t size);
/* answers: who dials it gets a link. */
uint32_t world_add_puppet(struct world *world, bool answers, world_puppet on_message, void *user);
void *world_puppet_link(struct world *world, uint32_t puppet, uint32_t target); /* NULL: the target is not up */
void world_puppet_send(struct world *world, void *link, enum msg_kind kind, const uint8_t *data, size_t size);
bool world_link_open(const void *link);
/* The record of somebody who does not exist; number makes its key and address. */
void world_junk(const struct world *world, uint32_t number, uint32_t sequence, struct signed_record *out);

#endif
