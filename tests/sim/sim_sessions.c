/* sim_sessions.c - sessions outlive their servers, simulated: sim_sessions [SERVERS SESSIONS SECONDS SEED]. See chains.h.
 *
 * For SECONDS servers die at any moment, of MEAN_LIFE_MS on the average: their process ends, the machine falls silent, they leave as
 * they should, or hang for a while and come back with their sessions. Who died comes back with the same key and nothing else. Beside
 * that connections break, clients lose their network, or die; in the middle all holders of a block die at once; and some servers die
 * just when rows are replayed, or come in the place of others. Then all is quiet until the last session has ended.
 *
 * What must hold:
 *   - every result is that of an undisturbed chain, and comes while all hops of the session stand at its epoch
 *   - no hop accepts a step of an older epoch than one that it has seen
 *   - a session gets its next result within STALL_MS_MAX of time in which some chain covers all blocks
 *   - a server keeps no more than it promised, promises no more than it has, and has all of it back when leases have ended
 * A run that fails is printed with the command that replays it. Without arguments: a small swarm, several seeds, the first one twice, since
 * one seed is one run.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "sim/chains.h"

#define SERVERS 100 /* without arguments */
#define SESSIONS 500
#define SECONDS 180
#define SEEDS 8
#define MEAN_LIFE_MS 600000.0
#define BACK_MS 20000       /* until a server that died is back, at most */
#define HANG_MS 20000       /* at most; a heartbeat notices from 4 s on */
#define OFFLINE_MS 10000    /* of a client, at most */
#define STALL_MS_MAX 60000  /* as long as a client waits by default (--wait) */
#define TAIL_MS 300000      /* for the last sessions */
#define STEP_MS_MAX 100     /* between two looks, at most */
#define CLIENT_SESSIONS 100 /* of one client, and at least CLIENTS_MIN */
#define CLIENTS_MIN 10
#define SPAN_MIN 3
#define SPAN_MAX 8
#define DOOM_OF 8       /* of so many replays and rollbacks one has a victim ... */
#define DOOM_MS 1000000 /* ... but no more than one in so long, divided by the servers */
#define DOOMED_MAX 64

struct run {
    struct sim sim;
    uint64_t seed, seconds;
    uint64_t chain_ms;     /* since when some chain covers all blocks */
    uint64_t deaths, gone; /* sessions whose client died */
    uint32_t n_doomed, begun;
    uint64_t doomed_ms; /* when the last one was chosen */
    struct doom {
        uint32_t node;
        uint64_t ms;
    } doomed[DOOMED_MAX];
    bool *offline; /* [clients] */
};

static uint64_t draw(struct run *run, uint64_t below) { return world_random(run->sim.world) % below; }
static bool chance(struct run *run, double p) { return (double)(world_random(run->sim.world) >> 11) * 0x1p-53 < p; }
static uint64_t now_ms(const struct run *run) { return world_now_ms(run->sim.world); }

/* ---- the swarm ----------------------------------------------------------------------------------------------------- */

static int by_digest(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void *room(size_t n, size_t size) {
    void *p = calloc(n, size);
    if (p == NULL) abort();
    return p;
}

static void name_nodes(struct sim *sim) {
    uint64_t(*pairs)[2] = room(sim->n_servers, sizeof *pairs);
    for (uint32_t i = 0; i < sim->n_nodes; i++) {
        struct node_ref ref;
        world_ref(sim->world, world_add(sim->world, i >= sim->n_servers), &ref);
        sim->ids[i] = ref.id;
        if (i >= sim->n_servers) continue;
        pairs[i][0] = node_id_digest(&ref.id);
        pairs[i][1] = i;
    }
    qsort(pairs, sim->n_servers, sizeof *pairs, by_digest);
    for (uint32_t i = 0; i < sim->n_servers; i++) {
        sim->digests[i] = pairs[i][0];
        sim->digest_nodes[i] = (uint32_t)pairs[i][1];
    }
    free(pairs);
}

static uint32_t some_server(struct run *run) {
    for (;;) {
        uint32_t i = (uint32_t)draw(run, run->sim.n_servers);
        if (run->sim.servers[i].up) return i;
    }
}

static void make_servers(struct run *run) {
    struct sim *sim = &run->sim;
    for (uint32_t i = 0; i < sim->n_servers; i++) {
        struct server *server = &sim->servers[i];
        uint32_t n = SPAN_MIN + (uint32_t)draw(run, SPAN_MAX - SPAN_MIN + 1), at = (uint32_t)draw(run, BLOCKS + n);
        *server = (struct server){.sim = sim, .node = i, .begin = at > n ? at - n : 0};
        if (server->begin > BLOCKS - n) server->begin = BLOCKS - n; /* the ends of the model have as many holders as its middle */
        server->end = server->begin + n;
        server->paths = room(sim->n_nodes, sizeof *server->paths);
        server_start(server, 0);
        if (i % 20 == 19) world_run(sim->world, 20);
    }
}

static void make_clients(struct run *run) {
    struct sim *sim = &run->sim;
    for (uint32_t i = 0, first = 0; i < sim->n_clients; i++) {
        struct client *client = &sim->clients[i];
        uint32_t end = (uint32_t)((uint64_t)sim->n_users * (i + 1) / sim->n_clients);
        *client = (struct client){.sim = sim, .node = sim->n_servers + i, .n_users = end - first, .users = &sim->users[first]};
        client->paths = room(sim->n_nodes, sizeof *client->paths);
        client->bans = room(sim->n_nodes, sizeof *client->bans);
        for (; first < end; first++) sim->users[first] = (struct user){.sim = sim, .client = client, .number = first};
        client_start(client, some_server(run));
    }
}

/* ---- what goes wrong ----------------------------------------------------------------------------------------------- */

static void fell(struct run *run, uint32_t node) {
    run->sim.servers[node].restart_ms = now_ms(run) + 1000 + draw(run, BACK_MS - 1000);
    run->deaths++;
}

static void kill_server(struct run *run, uint32_t node, enum server_end how) {
    server_stop(&run->sim.servers[node], how);
    fell(run, node);
}

static void end_life(struct run *run, uint32_t node) {
    struct server *server = &run->sim.servers[node];
    switch (draw(run, 6)) {
    case 0: kill_server(run, node, SERVER_FREEZES); break;
    case 1: world_sleep(run->sim.world, node, 1000 + draw(run, HANG_MS - 1000), true); break;
    case 2:
        if (!server->draining) server_drain(server);
        break;
    default: kill_server(run, node, SERVER_DIES);
    }
}

static bool works(const struct run *run, uint32_t node) { return run->sim.servers[node].up && world_is_up(run->sim.world, node); }

static void doom(struct run *run, uint32_t node) {
    if (run->n_doomed < DOOMED_MAX) run->doomed[run->n_doomed++] = (struct doom){node, now_ms(run) + draw(run, 300)};
    run->doomed_ms = now_ms(run);
}

/* Somebody who sends or computes the rows may die meanwhile. */
static void on_moment(struct sim *sim, const struct user *user, uint32_t first, uint32_t end) {
    struct run *run = (struct run *)sim;
    if (first > 0) first--;
    if (now_ms(run) > run->seconds * 1000 || now_ms(run) < run->doomed_ms + DOOM_MS / sim->n_servers || draw(run, DOOM_OF) > 0) return;
    doom(run, user->hops[first + draw(run, end - first)].node);
}

static void carry_out_doom(struct run *run) {
    for (uint32_t i = run->n_doomed; i-- > 0;) {
        struct doom doomed = run->doomed[i];
        if (doomed.ms > now_ms(run)) continue;
        run->doomed[i] = run->doomed[--run->n_doomed];
        if (works(run, doomed.node)) kill_server(run, doomed.node, SERVER_DIES);
    }
}

static void kill_holders(struct run *run, uint32_t block) {
    for (uint32_t i = 0; i < run->sim.n_servers; i++) {
        const struct server *server = &run->sim.servers[i];
        if (server->begin <= block && block < server->end && works(run, i)) kill_server(run, i, SERVER_DIES);
    }
}

static void disturb_client(struct run *run) {
    struct client *client = &run->sim.clients[draw(run, run->sim.n_clients)];
    struct user *user = &client->users[draw(run, client->n_users)];
    if (!client->up || run->offline[client->node - run->sim.n_servers]) return;
    if (draw(run, 20) == 0) {
        for (uint32_t i = 0; i < client->n_users; i++)
            run->gone += client->users[i].state != USER_ABSENT && client->users[i].state != USER_DONE;
        client_stop(client);
        client->restart_ms = now_ms(run) + 5000;
    } else if (draw(run, 4) == 0) {
        world_set_group(run->sim.world, client->node, 1 + client->node);
        run->offline[client->node - run->sim.n_servers] = true;
        client->restart_ms = now_ms(run) + 1000 + draw(run, OFFLINE_MS - 1000);
    } else if (user->n_hops > 1 && user->state != USER_DONE) { /* links of its chain */
        uint32_t at = (uint32_t)draw(run, user->n_hops - 1);
        if (draw(run, 2) == 0)
            world_cut(run->sim.world, user->hops[at].node, user->hops[at + 1].node);
        else
            world_cut(run->sim.world, client->node, user->hops[at].node);
    }
}

static void bring_back(struct run *run) {
    struct sim *sim = &run->sim;
    for (uint32_t i = 0; i < sim->n_servers; i++) {
        if (!sim->servers[i].up && sim->servers[i].restart_ms == 0) fell(run, i); /* it left by itself */
        if (sim->servers[i].up || sim->servers[i].restart_ms > now_ms(run)) continue;
        sim->servers[i].restart_ms = 0;
        server_start(&sim->servers[i], some_server(run));
    }
    for (uint32_t i = 0; i < sim->n_clients; i++) {
        struct client *client = &sim->clients[i];
        if (client->restart_ms == 0 || client->restart_ms > now_ms(run)) continue;
        client->restart_ms = 0;
        client->reached_ms = now_ms(run);
        if (run->offline[i]) world_set_group(sim->world, client->node, 0);
        run->offline[i] = false;
        if (!client->up) client_start(client, some_server(run));
    }
}

static void disturb(struct run *run, uint64_t ms) {
    struct sim *sim = &run->sim;
    for (uint32_t i = 0; i < sim->n_servers; i++)
        if (works(run, i) && chance(run, (double)ms / MEAN_LIFE_MS)) end_life(run, i);
    if (chance(run, (double)ms / 1000.0 * sim->n_clients / 50.0)) disturb_client(run);
}

/* ---- what must hold ------------------------------------------------------------------------------------------------ */

static bool chain_exists(const struct run *run) {
    bool held[BLOCKS] = {false}, all = true;
    for (uint32_t i = 0; i < run->sim.n_servers; i++) {
        const struct server *server = &run->sim.servers[i];
        bool free = works(run, i) && !server->draining && server->kv_left >= TOKENS_MAX && server->rows_left >= TOKENS_MAX;
        for (uint32_t b = server->begin; free && b < server->end; b++) held[b] = true;
    }
    for (uint32_t b = 0; b < BLOCKS; b++) all = all && held[b];
    return all;
}

static void check(struct run *run) {
    struct sim *sim = &run->sim;
    if (!chain_exists(run)) run->chain_ms = now_ms(run);
    for (uint32_t i = 0; i < sim->n_servers; i++) server_check(&sim->servers[i]);
    for (uint32_t i = 0; i < sim->n_users; i++) {
        const struct user *u = &sim->users[i];
        if (u->state == USER_ABSENT || u->state == USER_THINKS || u->state == USER_DONE) continue;
        if (run->offline[u->client->node - sim->n_servers]) continue;
        uint64_t since_ms = u->since_ms > run->chain_ms ? u->since_ms : run->chain_ms;
        if (u->client->reached_ms > since_ms) since_ms = u->client->reached_ms;
        uint64_t stall_ms = now_ms(run) - since_ms;
        if (stall_ms > sim->stall_ms_max) sim->stall_ms_max = stall_ms;
        if (stall_ms > STALL_MS_MAX) sim_fail(sim, i, "a session does not get on although a chain exists");
    }
}

static uint32_t n_open(const struct sim *sim) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < sim->n_users; i++) n += sim->users[i].state != USER_DONE;
    return n;
}

/* All clients are gone: so are all sessions, when leases are over. */
static void check_end(struct run *run) {
    struct sim *sim = &run->sim;
    for (uint32_t i = 0; i < sim->n_clients; i++)
        if (sim->clients[i].up) client_stop(&sim->clients[i]);
    world_run(sim->world, LEASE_MS + WORLD_SILENCE_MS + 3000);
    for (uint32_t i = 0; i < sim->n_servers; i++) {
        const struct server *server = &sim->servers[i];
        if (server->up && (server->table.n > 0 || server->kv_left != SERVER_TOKENS || server->rows_left != SERVER_TOKENS))
            sim_fail(sim, NOBODY, "a server holds sessions whose clients are gone");
    }
}

/* ---- the run ------------------------------------------------------------------------------------------------------- */

static void begin_sessions(struct run *run) {
    struct sim *sim = &run->sim;
    uint64_t due = (uint64_t)sim->n_users * now_ms(run) / (run->seconds * 900); /* all have begun before the end */
    for (; run->begun < sim->n_users && run->begun < due; run->begun++) {
        uint32_t number = (uint32_t)((uint64_t)run->begun * 7919 % sim->n_users); /* of all clients in turn; prime, and no factor of it */
        struct user *user = &sim->users[number];
        if (user->client->up)
            user_begin(user);
        else
            user->state = USER_DONE;
    }
}

static void play(struct run *run) {
    struct sim *sim = &run->sim;
    uint64_t end_ms = run->seconds * 1000, checked_ms = 0;
    bool blackout = false;
    world_run(sim->world, 5000); /* gossip settles */
    while (sim->failure == NULL && (now_ms(run) < end_ms || n_open(sim) > 0) && now_ms(run) < end_ms + TAIL_MS) {
        uint64_t ms = 1 + draw(run, STEP_MS_MAX);
        world_run(sim->world, ms);
        begin_sessions(run);
        bring_back(run);
        carry_out_doom(run);
        if (now_ms(run) < end_ms) disturb(run, ms);
        if (!blackout && now_ms(run) > end_ms / 2) kill_holders(run, (uint32_t)draw(run, BLOCKS));
        blackout = now_ms(run) > end_ms / 2;
        if (now_ms(run) < checked_ms + 1000) continue;
        checked_ms = now_ms(run);
        check(run);
    }
    if (sim->failure == NULL && n_open(sim) > 0) sim_fail(sim, NOBODY, "sessions that never end");
    if (sim->failure == NULL) check_end(run);
}

/* Where a session stands that failed. */
static void explain(const struct sim *sim, const struct user *user) {
    printf("  state %d, epoch %u, position %u of %u, lineage %u rolled %u%s%s\n", (int)user->state, user->epoch, user->position,
           user->run_end, user->lineage, user->rolled, user->failed ? ", failed" : "", user->again ? ", again" : "");
    for (uint32_t i = 0; i < user->n_hops; i++) {
        const struct hop *hop = &user->hops[i];
        const struct server *server = &sim->servers[hop->node];
        const struct held *held = server->up ? server_find(server, user->number) : NULL;
        printf("  hop %u:%u node %u%s%s%s: length %u kept %u of epoch %u; the server %s", hop->begin, hop->end, hop->node,
               hop->down ? " down" : "", hop->asking ? " asking" : "", hop->link == NULL ? " no link" : "", hop->length, hop->kept,
               hop->computed_epoch, server->up ? "is up" : "is gone");
        if (held != NULL)
            printf(", epoch %u, length %u of epoch %u, %u steps", held->s.epoch, held->s.lane.length, held->s.lane.epoch, held->s.n_steps);
        printf("\n");
    }
}

static void release(struct run *run) {
    struct sim *sim = &run->sim;
    for (uint32_t i = 0; i < sim->n_clients; i++) {
        if (sim->clients[i].up) client_stop(&sim->clients[i]);
        free(sim->clients[i].paths);
        free(sim->clients[i].bans);
    }
    for (uint32_t i = 0; i < sim->n_servers; i++) {
        if (sim->servers[i].up) server_stop(&sim->servers[i], SERVER_DIES);
        free(sim->servers[i].paths);
    }
    world_free(sim->world);
    free(sim->servers);
    free(sim->clients);
    free(sim->users);
    free(sim->ids);
    free(sim->digests);
    free(sim->digest_nodes);
    free(run->offline);
}

static void report(const struct run *run, uint64_t us) {
    const struct sim *sim = &run->sim;
    printf("%u servers, %u sessions of %u clients over %" PRIu64 " s, seed %" PRIu64 ": %" PRIu64 " deaths, %" PRIu64 " results\n",
           sim->n_servers, sim->n_users, sim->n_clients, now_ms(run) / 1000, run->seed, run->deaths, sim->results);
    printf("  %" PRIu64 " recoveries with %" PRIu64 " replays, %" PRIu64 " chains chosen anew, %" PRIu64 " waits; %" PRIu64
           " rollbacks, %" PRIu64 " refusals, %" PRIu64 " leases that ended; %" PRIu64 " sessions went with their client\n",
           sim->recoveries, sim->replays, sim->whole_chains, sim->waits, sim->rollbacks, sim->refusals, sim->leases, run->gone);
    printf("  the longest time to the next result while a chain existed: %.1f s; trace %016" PRIx64 " (%.1f s)\n",
           (double)sim->stall_ms_max / 1000, world_trace(sim->world), (double)us / 1e6);
    if (sim->failure != NULL) {
        printf("FAILED at %.1f s, session %d: %s; to replay: sim_sessions %u %u %" PRIu64 " %" PRIu64 "\n", (double)now_ms(run) / 1000,
               (int)sim->failed_user, sim->failure, sim->n_servers, sim->n_users, run->seconds, run->seed);
        if (sim->failed_user < sim->n_users) explain(sim, &sim->users[sim->failed_user]);
    }
    fflush(stdout);
}

/* Whether all held. */
static bool simulate(uint32_t n_servers, uint32_t n_sessions, uint64_t seconds, uint64_t seed, uint64_t *out_trace) {
    struct run run = {.seconds = seconds, .seed = seed};
    struct sim *sim = &run.sim;
    struct world_config config;
    uint64_t began_us = clock_us();
    sim->n_servers = n_servers;
    sim->n_users = n_sessions;
    sim->n_clients = n_sessions / CLIENT_SESSIONS > CLIENTS_MIN ? n_sessions / CLIENT_SESSIONS : CLIENTS_MIN;
    sim->n_nodes = sim->n_servers + sim->n_clients;
    sim->on_moment = on_moment;
    sim->servers = room(sim->n_servers, sizeof *sim->servers);
    sim->clients = room(sim->n_clients, sizeof *sim->clients);
    sim->users = room(sim->n_users, sizeof *sim->users);
    sim->ids = room(sim->n_nodes, sizeof *sim->ids);
    sim->digests = room(sim->n_servers, sizeof *sim->digests);
    sim->digest_nodes = room(sim->n_servers, sizeof *sim->digest_nodes);
    run.offline = room(sim->n_clients, sizeof *run.offline);
    world_config_default(&config, seed);
    sim->world = world_new(&config);
    name_nodes(sim);
    make_servers(&run);
    make_clients(&run);
    play(&run);
    *out_trace = world_trace(sim->world);
    report(&run, clock_us() - began_us);
    bool good = sim->failure == NULL;
    release(&run);
    return good;
}

static uint32_t number(const char *text) { return (uint32_t)strtoul(text, NULL, 10); }

int main(int argc, char **argv) {
    uint64_t first, again, trace;
    if (argc == 5) return simulate(number(argv[1]), number(argv[2]), number(argv[3]), strtoull(argv[4], NULL, 10), &trace) ? 0 : 1;
    if (argc > 1) {
        fprintf(stderr, "usage: sim_sessions [SERVERS SESSIONS SECONDS SEED]\n");
        return 2;
    }
    bool good = simulate(SERVERS, SESSIONS, SECONDS, 1, &first) && simulate(SERVERS, SESSIONS, SECONDS, 1, &again);
    if (good && first != again) printf("FAILED: two runs of one seed differ\n");
    good = good && first == again;
    for (uint64_t seed = 2; seed <= SEEDS; seed++) good = simulate(SERVERS, SESSIONS, SECONDS, seed, &trace) && good;
    return good ? 0 : 1;
}
