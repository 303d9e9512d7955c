/* sim_gossip.c - what gossip promises, simulated: sim_gossip SCENARIO [NODES [SEED]], or "all". docs/SWARM.md quotes the figures.
 *
 * One line per scenario: what was measured, the goal, the hash over the whole run. A scenario that fails prints the command that
 * replays it, and the program returns 1.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "sim/world.h"
#include "wire/frame.h"
#include "wire/msg_gossip.h"

struct run {
    const char *scenario;
    uint32_t nodes;
    uint64_t seed, trace;
    bool failed, real, is_private;
    char line[1024];
};

static void say(struct run *run, const char *format, ...) {
    size_t used = strlen(run->line);
    va_list list;
    va_start(list, format);
    vsnprintf(run->line + used, sizeof(run->line) - used, format, list);
    va_end(list);
}

static void expect(struct run *run, bool ok, const char *what) {
    if (!ok) {
        say(run, " NOT: %s.", what);
        run->failed = true;
    }
}

static double seconds(uint64_t ms) { return ms == UINT64_MAX ? -1.0 : (double)ms / 1000.0; }

/* ---- worlds and what is asked of them ---------------------------------------------------------------------------- */

static struct world *new_world(const struct run *run) {
    struct world_config config;
    world_config_default(&config, run->seed);
    config.real_signatures = run->real;
    config.is_private = run->is_private;
    return world_new(&config);
}

static void start(struct world *world, uint32_t node, uint32_t entry) {
    struct record record;
    world_start(world, node);
    world_statement(world, node, &record);
    world_publish(world, node, &record);
    if (entry != node) {
        world_hint(world, node, entry);
    }
}

static bool all_know_all(struct world *world, void *user) {
    (void)user;
    size_t stating = world_stating(world);
    for (uint32_t i = world_count(world); i-- > 0;) {
        if (world_is_up(world, i) && gossip_count(world_gossip(world, i)) != stating - 1) {
            return false; /* the last ones to start are the last to know: looked at first */
        }
    }
    return true;
}

/* All nodes start within a second and know one entry. */
static struct world *swarm(const struct run *run, uint64_t *out_ms) {
    struct world *world = new_world(run);
    uint32_t at = 0;
    for (uint32_t step = 1; step <= 20; step++) {
        for (; at < run->nodes * step / 20; at++) {
            world_add(world, false);
            start(world, at, 0);
        }
        world_run(world, 50);
    }
    uint64_t ms = world_run_until(world, all_know_all, NULL, 100, 60000);
    *out_ms = ms == UINT64_MAX ? ms : ms + 1000;
    return world;
}

static struct world *settled(struct run *run) {
    uint64_t ms;
    struct world *world = swarm(run, &ms);
    expect(run, ms != UINT64_MAX, "all know all before the scenario begins");
    return world;
}

/* What a failed scenario leaves to look at: who knows whom wrongly. */
static void explain(struct world *world) {
    struct node_ref ref;
    unsigned lines = 0;
    for (uint32_t i = 0; i < world_count(world) && lines < 20; i++) {
        for (uint32_t j = 0; world_is_up(world, i) && j < world_count(world) && lines < 20; j++) {
            world_ref(world, j, &ref);
            const struct gossip_entry *e = gossip_find(world_gossip(world, i), &ref.id);
            if (i != j && world_is_stating(world, j) != (e != NULL)) {
                printf("  node %u (%zu neighbours) %s node %u%s\n", i, gossip_neighbours(world_gossip(world, i)),
                       e != NULL ? "still knows" : "does not know", j, e != NULL && e->suspected ? ", suspects it" : "");
                lines++;
            }
        }
    }
}

struct mark { /* nodes that know a statement of `node` with this queue_us */
    uint32_t node, queue_us, first, missing_max;
};

static uint32_t missing(struct world *world, const struct mark *mark) {
    struct node_ref ref;
    uint32_t n = 0;
    world_ref(world, mark->node, &ref);
    for (uint32_t i = mark->first; i < world_count(world); i++) {
        const struct gossip_entry *e = world_is_up(world, i) && i != mark->node ? gossip_find(world_gossip(world, i), &ref.id) : NULL;
        n += world_is_up(world, i) && i != mark->node && (e == NULL || e->record->queue_us != mark->queue_us);
    }
    return n;
}

static bool marked(struct world *world, void *user) {
    const struct mark *mark = user;
    return missing(world, mark) <= mark->missing_max;
}

/* Publishes an update and waits until 99 % have it. */
static uint64_t spread(struct world *world, uint32_t node, uint32_t queue_us) {
    struct mark mark = {node, queue_us, 0, world_count(world) / 100};
    struct record record;
    world_statement(world, node, &record);
    record.queue_us = queue_us;
    world_publish(world, node, &record);
    return world_run_until(world, marked, &mark, 20, 30000);
}

static uint64_t spread_mean(struct world *world, uint32_t n, uint32_t queue_us, uint64_t *out_worst) {
    uint64_t sum = 0, worst = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t ms = spread(world, (uint32_t)(world_random(world) % world_count(world)), queue_us + i);
        if (ms == UINT64_MAX) {
            *out_worst = ms;
            return ms;
        }
        sum += ms;
        worst = ms > worst ? ms : worst;
        world_run(world, 1200);
    }
    *out_worst = worst;
    return sum / n;
}

static bool knows_gone(struct world *world, uint32_t node, uint32_t at) {
    struct node_ref ref;
    world_ref(world, node, &ref);
    return gossip_find(world_gossip(world, at), &ref.id) == NULL;
}

struct gone {
    uint32_t node, missing_max;
};
static bool is_gone(struct world *world, void *user) {
    const struct gone *gone = user;
    uint32_t n = 0;
    for (uint32_t i = 0; i < world_count(world); i++) {
        n += world_is_up(world, i) && !knows_gone(world, gone->node, i);
    }
    return n <= gone->missing_max;
}

/* ---- the figures -------------------------------------------------------------------------------------------------- */

static void measure_traffic(struct run *run, struct world *world, uint64_t s) {
    world_run(world, 30000);
    world_traffic_clear(world);
    world_run(world, s * 1000);
    double sum = 0, worst = 0, kinds[MSG_SUSPECT + 1] = {0};
    for (uint32_t i = 0; i < run->nodes; i++) {
        const struct world_traffic *t = world_traffic(world, i);
        sum += (double)t->bytes;
        worst = (double)t->bytes > worst ? (double)t->bytes : worst;
        for (unsigned kind = MSG_DIGEST; kind <= MSG_SUSPECT; kind++) {
            kinds[kind] += (double)t->bytes_of_kind[kind] / run->nodes / 1000.0 / (double)s;
        }
    }
    double mean = sum / run->nodes / 1000.0 / (double)s;
    say(run,
        "\n  traffic per node, both directions     %6.1f KB/s (goal 30; the busiest %.1f; digest %.1f have %.1f want %.1f records %.1f)",
        mean, worst / 1000.0 / (double)s, kinds[MSG_DIGEST], kinds[MSG_HAVE], kinds[MSG_WANT], kinds[MSG_RECORDS]);
    expect(run, mean < 30.0, "within 30 KB/s");
}

static void measure_crash(struct run *run, struct world *world) {
    struct gone gone = {run->nodes / 2, run->nodes / 100};
    world_kill(world, gone.node);
    uint64_t killed = world_run_until(world, is_gone, &gone, 100, 60000);
    gone.node++;
    world_freeze(world, gone.node);
    uint64_t frozen = world_run_until(world, is_gone, &gone, 100, 60000);
    say(run, "\n  a process died: 99 %% know after       %6.1f s    (goal 15)", seconds(killed));
    say(run, "\n  a machine fell silent: after          %6.1f s    (goal 15)", seconds(frozen));
    expect(run, killed < 15000 && frozen < 15000, "within 15 s");
    world_run(world, 1000);
    expect(run, world_knows(world, 0) == run->nodes - 3, "nobody else was given up");
}

static struct world *figures(struct run *run) {
    uint64_t ms, worst;
    struct world *world = swarm(run, &ms);
    say(run, "\n  cold start until all know all         %6.1f s    (goal 15)", seconds(ms));
    expect(run, ms < 15000, "within 15 s");
    for (uint32_t i = 0; i < run->nodes; i += 1 + run->nodes / 50) {
        expect(run, world_knows(world, i) == run->nodes - 1, "each knows each");
    }
    if (run->nodes <= 2000) { /* the first minute after a start is not yet what stays */
        measure_traffic(run, world, 60);
    }
    uint64_t mean = spread_mean(world, 5, 1000, &worst);
    say(run, "\n  99 %% know an update after             %6.2f s    (goal 2; the worst of 5 %.2f s)", seconds(mean), seconds(worst));
    expect(run, worst < 2000, "within 2 s");
    measure_crash(run, world);
    return world;
}

/* ---- hostile links ------------------------------------------------------------------------------------------------ */

struct attacker {
    void *link;
    uint32_t junk;     /* identities */
    uint32_t sequence; /* of their next records */
    uint32_t at;
};

/* A digest opens gossip on the link; what the target says is not read. */
static void *attack(struct world *world, uint32_t target) {
    uint8_t bytes[MSG_HEADER_MAX];
    uint32_t puppet = world_add_puppet(world, false, NULL, NULL);
    void *link = world_puppet_link(world, puppet, target);
    static const struct msg_digest empty;
    world_puppet_send(world, link, MSG_DIGEST, bytes, msg_digest_encode(&empty, bytes));
    return link;
}

static void send_junk(struct world *world, struct attacker *a, uint32_t n) {
    uint8_t bytes[MSG_HEADER_MAX];
    struct msg_records m;
    m.n = 0;
    for (uint32_t i = 0; i < n; i++) {
        world_junk(world, a->at, a->sequence, &m.records[m.n++]);
        a->at = (a->at + 1) % a->junk;
        a->sequence += a->at == 0;
        if (m.n == 32 || i + 1 == n) {
            world_puppet_send(world, a->link, MSG_RECORDS, bytes, msg_records_encode(&m, bytes));
            m.n = 0;
        }
    }
}

/* The mean delay of updates of the node that is attacked and of others. */
static uint64_t spread_under(struct world *world, uint32_t nodes, struct attacker *a, uint32_t queue_us) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 10; i++) {
        for (uint32_t part = 0; a != NULL && part < 10; part++) {
            send_junk(world, a, 200);
            world_run(world, 130);
        }
        struct mark mark = {i % 2 == 0 ? 0 : 1 + (uint32_t)(world_random(world) % (nodes - 1)), queue_us + i, 0, nodes / 100};
        struct record record;
        world_statement(world, mark.node, &record);
        record.queue_us = mark.queue_us;
        world_publish(world, mark.node, &record);
        uint64_t ms = 0;
        for (; ms < 30000 && !marked(world, &mark); ms += 20) {
            if (a != NULL && ms % 100 == 0) {
                send_junk(world, a, 200);
            }
            world_run(world, 20);
        }
        sum += ms;
        world_run(world, 1300);
    }
    return sum / 10;
}

static uint32_t most_known(struct world *world, uint32_t nodes) {
    size_t most = 0;
    for (uint32_t i = 0; i < nodes; i++) {
        size_t n = gossip_count(world_gossip(world, i));
        most = n > most ? n : most;
    }
    return (uint32_t)most;
}

static struct world *junk(struct run *run) {
    struct world *world = settled(run);
    uint64_t before = spread_under(world, run->nodes, NULL, 1000);
    struct attacker a = {.link = attack(world, 0), .junk = 1000, .sequence = 1};
    world_run(world, 1000);
    uint64_t with = spread_under(world, run->nodes, &a, 2000);
    uint32_t most = most_known(world, run->nodes);
    say(run, "an update takes %.2f s, %.2f s beside 1,000 junk identities that renew 2,000 records a second; tables have %u at most",
        seconds(before), seconds(with), most);
    expect(run, with < 2 * before, "delayed less than twice");
    expect(run, most <= run->nodes - 1 + 1000, "a bounded table");
    expect(run, world_knows(world, run->nodes - 1) == run->nodes - 1, "all know all still");
    return world;
}

/* New identities without end. */
static struct world *flood(struct run *run) {
    struct world *world = settled(run);
    struct attacker a = {.link = attack(world, 0), .junk = 1000000, .sequence = 1};
    for (uint32_t i = 0; i < 300; i++) {
        send_junk(world, &a, 200);
        world_run(world, 200);
    }
    uint32_t most = most_known(world, run->nodes);
    say(run, "%u identities in 60 s over one link, the largest table has %u", a.at, most);
    expect(run, most < run->nodes + 2048 + 64 * 62 + 64, "what one link may bring");
    expect(run, world_knows(world, run->nodes - 1) == run->nodes - 1, "all know all still");
    return world;
}

static void send_suspects(struct world *world, void *link, uint32_t nodes, uint64_t boot) {
    uint8_t bytes[MSG_HEADER_MAX];
    struct msg_versions m;
    m.n = 0;
    for (uint32_t i = 0; i < nodes; i++) {
        struct node_ref ref;
        world_ref(world, i, &ref);
        m.versions[m.n++] = (struct record_version){node_id_digest(&ref.id), boot, UINT32_MAX};
        if (m.n == SUSPECTS_MAX || i + 1 == nodes) {
            world_puppet_send(world, link, MSG_SUSPECT, bytes, msg_suspect_encode(&m, bytes));
            m.n = 0;
        }
    }
}

/* Announces versions of everybody that do not exist, and answers nobody. */
static void send_empty_promises(struct world *world, void *link, uint32_t nodes, uint32_t sequence) {
    uint8_t bytes[MSG_HEADER_MAX];
    struct msg_versions m;
    m.n = 0;
    for (uint32_t i = 0; i < nodes && i < VERSIONS_MAX; i++) {
        struct node_ref ref;
        world_ref(world, i, &ref);
        m.versions[m.n++] = (struct record_version){node_id_digest(&ref.id), 7, sequence};
    }
    world_puppet_send(world, link, MSG_HAVE, bytes, msg_have_encode(&m, bytes));
}

static struct world *liars(struct run *run) {
    struct world *world = settled(run);
    uint8_t bytes[MSG_HEADER_MAX];
    static struct msg_records m;
    uint64_t before = spread_under(world, run->nodes, NULL, 1000);
    void *slanderer = attack(world, 1), *promiser = attack(world, 2), *forger = attack(world, 3), *babbler = attack(world, 4);
    world_run(world, 1000);
    m.n = 1;
    world_junk(world, 1, 1, &m.records[0]);
    m.records[0].bytes[m.records[0].size - 1] ^= 1;
    world_puppet_send(world, forger, MSG_RECORDS, bytes, msg_records_encode(&m, bytes));
    world_puppet_send(world, babbler, MSG_HAVE, (const uint8_t *)"\x0a\xff", 2);
    send_suspects(world, slanderer, run->nodes, 9);
    bool all = true;
    for (uint32_t i = 0; i < 60; i++) {
        send_suspects(world, slanderer, run->nodes, 9);
        send_empty_promises(world, promiser, run->nodes, i + 1);
        world_run(world, 500);
        all = all && all_know_all(world, NULL);
    }
    expect(run, world_faults(world) == 2 && !world_link_open(forger) && !world_link_open(babbler),
           "forger and babbler cut off, nobody else");
    expect(run, all, "nobody was given up");
    send_empty_promises(world, promiser, run->nodes, 100);
    uint64_t with = spread_under(world, run->nodes, NULL, 2000);
    say(run,
        "forged and malformed records cost the link; slander of all and promises that are not kept: an update takes %.2f s, before %.2f s",
        seconds(with), seconds(before));
    expect(run, with < 2 * before, "delayed less than twice");
    return world;
}

/* ---- a private swarm -------------------------------------------------------------------------------------------------- */

/* How many of the nodes know so many others. */
static uint32_t knowing(struct world *world, uint32_t nodes, size_t others) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < nodes; i++) {
        n += gossip_count(world_gossip(world, i)) == others;
    }
    return n;
}

static struct world *members(struct run *run) {
    run->is_private = true;
    struct world *world = settled(run);
    struct attacker a = {.link = attack(world, 0), .junk = 500, .sequence = 1};
    const uint32_t put_out = 7;
    bool clean = true;
    for (uint32_t i = 0; i < 100; i++) {
        send_junk(world, &a, 20);
        world_run(world, 100);
        clean = clean && knowing(world, run->nodes, run->nodes - 1) == run->nodes;
    }
    expect(run, clean, "nobody keeps what a member relays of strangers");
    expect(run, world_faults(world) == 0 && world_link_open(a.link), "nobody is blamed");
    for (uint32_t i = 0; i < run->nodes; i++) {
        if (i != put_out) world_revoke(world, i, put_out);
        world_run(world, 2000 / run->nodes); /* the list spreads */
    }
    struct gone gone = {put_out, 0};
    clean = true;
    for (uint32_t s = 0; s < 150; s++) { /* it goes on to say that it is there: here nobody cuts its links */
        clean = clean && is_gone(world, &gone) && knowing(world, run->nodes, run->nodes - 2) == run->nodes - 1;
        world_run(world, 1000);
    }
    expect(run, clean, "who was put out is gone and stays so, and nobody else");
    say(run,
        "2,000 records of strangers over a member's link are kept by nobody; a member that was put out is gone when the list has come");
    return world;
}

/* ---- what happens to machines ---------------------------------------------------------------------------------------- */

static struct world *partition(struct run *run) {
    struct world *world = settled(run);
    uint32_t cut = run->nodes * 3 / 10;
    for (uint32_t i = 0; i < cut; i++) {
        world_set_group(world, i, 1);
    }
    world_run(world, 200000);
    expect(run, gossip_count(world_gossip(world, 0)) == cut - 1, "one side forgot the other");
    expect(run, gossip_count(world_gossip(world, run->nodes - 1)) == run->nodes - cut - 1, "the other side forgot the one");
    for (uint32_t i = 0; i < cut; i++) {
        world_set_group(world, i, 0);
    }
    uint64_t ms = world_run_until(world, all_know_all, NULL, 100, 300000);
    say(run, "30 %% cut off for 200 s; %.1f s after the healing all know all", seconds(ms));
    expect(run, ms < 90000, "within 90 s");
    return world;
}

static struct world *asleep(struct run *run) {
    struct world *world = settled(run);
    world_sleep(world, 3, 600000, true);
    world_sleep(world, 4, 600000, false);
    world_run(world, 60000);
    for (uint32_t i = 0; i < run->nodes; i++) {
        expect(run, !world_is_up(world, i) || gossip_count(world_gossip(world, i)) == run->nodes - 3, "the sleepers are gone, nobody else");
    }
    world_run(world, 540000);
    uint32_t fewest = UINT32_MAX;
    uint64_t ms = 0;
    while (ms < 60000 && (ms < 1000 || !all_know_all(world, NULL))) {
        for (uint32_t i = 5; i < run->nodes; i++) {
            uint32_t n = (uint32_t)gossip_count(world_gossip(world, i));
            fewest = n < fewest ? n : fewest;
        }
        world_run(world, 100);
        ms += 100;
    }
    say(run, "two of %u slept for 10 min, one with a clock that went on; %.1f s after they woke all know all", run->nodes, seconds(ms));
    expect(run, ms < 30000 && world_stating(world) == run->nodes, "back within 30 s");
    expect(run, fewest >= run->nodes - 3, "nobody was blamed");
    return world;
}

static bool has_mark(struct world *world, void *user) { return missing(world, user) == 0; }

static void restart(struct world *world, uint32_t node, uint64_t boot, uint32_t queue_us) {
    struct record record;
    world_start_boot(world, node, boot);
    world_statement(world, node, &record);
    record.queue_us = queue_us;
    world_publish(world, node, &record);
    world_hint(world, node, 0);
}

static struct world *restarts(struct run *run) {
    struct world *world = settled(run);
    struct mark mark = {5, 51, 0, 0};
    world_kill(world, 5);
    restart(world, 5, 9, mark.queue_us);
    uint64_t quick = world_run_until(world, has_mark, &mark, 20, 60000);
    world_run(world, 70000); /* a second statement of the same life */
    mark.queue_us = 52;
    world_kill(world, 5);
    restart(world, 5, 1, mark.queue_us);
    uint64_t lost = world_run_until(world, has_mark, &mark, 20, 60000);
    world_kill(world, 5);
    world_run(world, 30000);
    mark.queue_us = 53;
    restart(world, 5, 1, mark.queue_us);
    uint64_t gone = world_run_until(world, has_mark, &mark, 20, 60000);
    say(run, "all know a new life after %.1f s, with a lost boot counter after %.1f s, and after it was given up %.1f s", seconds(quick),
        seconds(lost), seconds(gone));
    expect(run, quick < 5000 && lost < 5000 && gone < 5000, "within 5 s");
    world_run(world, 20000);
    expect(run, all_know_all(world, NULL), "and that stays");
    return world;
}

/* Clocks that begin anywhere and go wrong by up to 5 %: there is none on the wall that could be wrong. */
static struct world *clocks(struct run *run) {
    struct world *world = new_world(run);
    for (uint32_t i = 0; i < run->nodes; i++) {
        world_add(world, false);
        world_set_clock(world, i, i % 3 == 0 ? i : world_random(world) >> (14 + i % 40), (int32_t)(world_random(world) % 100001) - 50000);
        start(world, i, 0);
    }
    uint64_t ms = world_run_until(world, all_know_all, NULL, 100, 60000);
    bool all = ms != UINT64_MAX;
    for (uint32_t s = 0; s < 400; s++) {
        world_run(world, 1000);
        all = all && all_know_all(world, NULL);
    }
    say(run, "clocks of any origin, wrong by up to 5 %%: all know all after %.1f s and for 400 s", seconds(ms));
    expect(run, all, "all know all all the time");
    return world;
}

static struct world *leaving(struct run *run) {
    struct world *world = settled(run);
    struct gone gone = {7, 0};
    world_leave(world, 7);
    uint64_t ms = world_run_until(world, is_gone, &gone, 100, 60000);
    world_kill(world, 0); /* the entry */
    gone.node = 0;
    uint64_t entry = world_run_until(world, is_gone, &gone, 100, 60000);
    uint32_t late = world_add(world, false);
    start(world, late, 9);
    uint64_t joined = world_run_until(world, all_know_all, NULL, 100, 60000);
    say(run, "a goodbye is through after %.1f s, the entry's death after %.1f s, and who joins by another knows all after %.1f s",
        seconds(ms), seconds(entry), seconds(joined));
    expect(run, ms < 15000 && entry < 15000 && joined < 15000, "within 15 s");
    return world;
}

static struct world *leaves(struct run *run) {
    struct world *world = settled(run);
    uint32_t first = world_count(world), n = 30;
    for (uint32_t i = 0; i < n; i++) {
        world_add(world, true);
        world_start(world, first + i);
        world_hint(world, first + i, i % 3 == 0 && i > 0 ? first + i - 1 : i % run->nodes); /* some know another client only */
        if (i % 3 == 0) {
            world_hint(world, first + i, 1);
        }
    }
    world_run(world, 20000);
    bool all = true;
    for (uint32_t i = 0; i < n; i++) {
        all = all && gossip_count(world_gossip(world, first + i)) == run->nodes && gossip_neighbours(world_gossip(world, first + i)) <= 3;
    }
    expect(run, all, "each client knows all servers, by few neighbours");
    uint64_t ms = spread(world, 3, 77);
    for (uint32_t i = 0; i < n; i++) {
        world_kill(world, first + i);
    }
    world_run(world, 30000);
    say(run, "%u clients know all servers, an update is through after %.2f s; they die and nobody is suspected", n, seconds(ms));
    expect(run, ms < 2000 && all_know_all(world, NULL), "all know all");
    return world;
}

static void disturb(struct world *world, uint32_t nodes) {
    uint32_t node = 1 + (uint32_t)(world_random(world) % (nodes - 1)), other = (uint32_t)(world_random(world) % nodes);
    switch (world_random(world) % 6) {
    case 0:
        if (world_is_up(world, node)) world_kill(world, node);
        break;
    case 1:
        if (world_is_up(world, node)) world_freeze(world, node);
        break;
    case 2:
        if (world_is_up(world, node)) world_leave(world, node);
        break;
    case 3:
        if (world_is_up(world, node)) world_sleep(world, node, 1000 + world_random(world) % 30000, world_random(world) % 2 == 0);
        break;
    case 4: world_cut(world, node, other); break;
    case 5: world_set_slow(world, node, (uint32_t)(world_random(world) % 1500)); break;
    }
}

static struct world *churn(struct run *run) {
    struct world *world = settled(run);
    for (uint32_t i = 0; i < 400; i++) {
        disturb(world, run->nodes);
        world_run(world, world_random(world) % 1000);
        uint32_t node = 1 + (uint32_t)(world_random(world) % (run->nodes - 1));
        if (world_gossip(world, node) == NULL) {
            start(world, node, 0);
        }
    }
    world_run(world, 30000); /* who sleeps wakes up */
    uint64_t ms = world_run_until(world, all_know_all, NULL, 100, 150000);
    if (ms != UINT64_MAX) {
        world_run(world, 5000);
        expect(run, all_know_all(world, NULL), "and that stays");
    }
    say(run, "400 deaths, goodbyes, sleeps, cuts and restarts in 200 s; %zu live on, all know all %.1f s after the last wakes",
        world_stating(world), seconds(ms));
    expect(run, ms < 130000, "within a TTL");
    return world;
}

static struct world *replay(struct run *run) {
    uint64_t traces[3];
    for (uint32_t i = 0; i < 3; i++) {
        struct run one = *run;
        one.line[0] = '\0';
        one.seed += i == 2;
        struct world *world = churn(&one);
        traces[i] = world_trace(world);
        world_free(world);
    }
    say(run, "two runs of the seed: %016" PRIx64 " and %016" PRIx64 "; of the next seed: %016" PRIx64, traces[0], traces[1], traces[2]);
    expect(run, traces[0] == traces[1] && traces[0] != traces[2], "one seed is one run");
    return NULL;
}

static struct world *signatures(struct run *run) {
    run->real = true;
    struct world *world = settled(run);
    world_run(world, 130000);
    say(run, "Ed25519 signatures over two minutes");
    expect(run, all_know_all(world, NULL) && world_faults(world) == 0, "all know all, no faults");
    return world;
}

struct scenario {
    const char *name;
    struct world *(*play)(struct run *run);
    uint32_t nodes; /* unless told otherwise */
};
static const struct scenario scenarios[] = {
    {"figures", figures, 1000},     {"junk", junk, 200},      {"flood", flood, 60},      {"liars", liars, 100},
    {"partition", partition, 200},  {"sleep", asleep, 60},    {"restart", restarts, 60}, {"clocks", clocks, 60},
    {"leaving", leaving, 100},      {"leaves", leaves, 60},   {"churn", churn, 100},     {"replay", replay, 40},
    {"signatures", signatures, 20}, {"members", members, 60},
};

static bool play(const struct scenario *scenario, uint32_t nodes, uint64_t seed) {
    struct run run = {.scenario = scenario->name, .nodes = nodes > 0 ? nodes : scenario->nodes, .seed = seed};
    uint64_t began_us = clock_us();
    struct world *world = scenario->play(&run);
    if (world != NULL) {
        run.trace = world_trace(world);
    }
    printf("%-10s %5u nodes  seed %-6" PRIu64 " %s; trace %016" PRIx64 " (%.1f s)\n", run.scenario, run.nodes, run.seed, run.line,
           run.trace, (double)(clock_us() - began_us) / 1e6);
    if (run.failed) {
        printf("FAILED; to replay: sim_gossip %s %u %" PRIu64 "\n", run.scenario, run.nodes, run.seed);
        if (world != NULL) {
            explain(world);
        }
    }
    if (world != NULL) {
        world_free(world);
    }
    fflush(stdout);
    return !run.failed;
}

int main(int argc, char **argv) {
    uint32_t nodes = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 0;
    uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
    bool ok = true, found = false;
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
        if (argc > 1 && (strcmp(argv[1], scenarios[i].name) == 0 || strcmp(argv[1], "all") == 0)) {
            found = true;
            ok = play(&scenarios[i], nodes, seed) && ok;
        }
    }
    if (!found) {
        fprintf(stderr, "usage: sim_gossip SCENARIO|all [NODES [SEED]]\nscenarios:");
        for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
            fprintf(stderr, " %s", scenarios[i].name);
        }
        fprintf(stderr, "\n");
        return 2;
    }
    return ok ? 0 : 1;
}
