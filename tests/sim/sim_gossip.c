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
    bool failed, real;
    char line[512];
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

/* ---- scenarios --------------------------------------------------------------------------------------------------- */

static void cold(struct run *run) {
    uint64_t ms;
    struct world *world = swarm(run, &ms);
    say(run, "all know all after %.1f s (goal 15)", seconds(ms));
    expect(run, ms < 15000, "within 15 s");
    for (uint32_t i = 0; i < run->nodes; i++) {
        if (world_knows(world, i) != run->nodes - 1) {
            expect(run, false, "each knows each");
            break;
        }
    }
    run->trace = world_trace(world);
    world_free(world);
}

static void update(struct run *run) {
    struct world *world = settled(run);
    world_run(world, 70000);
    uint64_t worst, mean = spread_mean(world, 10, 1000, &worst);
    say(run, "99 %% know an update after %.2f s, the worst of 10 %.2f s (goal 2)", seconds(mean), seconds(worst));
    expect(run, worst < 2000, "within 2 s");
    run->trace = world_trace(world);
    world_free(world);
}

static void crash(struct run *run) {
    struct world *world = settled(run);
    struct gone gone = {run->nodes / 2, run->nodes / 100};
    world_run(world, 20000);
    world_kill(world, gone.node);
    uint64_t killed = world_run_until(world, is_gone, &gone, 100, 60000);
    gone.node++;
    world_freeze(world, gone.node);
    uint64_t frozen = world_run_until(world, is_gone, &gone, 100, 60000);
    say(run, "99 %% know after %.1f s that a process died, after %.1f s that a machine did (goal 15)", seconds(killed), seconds(frozen));
    expect(run, killed < 15000 && frozen < 15000, "within 15 s");
    expect(run, world_knows(world, 0) == run->nodes - 3, "nobody else was given up");
    run->trace = world_trace(world);
    world_free(world);
}

static void traffic(struct run *run) {
    struct world *world = settled(run);
    const uint64_t s = 120;
    world_run(world, 60000);
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
    say(run, "%.1f KB/s per node, the worst %.1f (goal 30): digest %.1f, have %.1f, want %.1f, records %.1f", mean,
        worst / 1000.0 / (double)s, kinds[MSG_DIGEST], kinds[MSG_HAVE], kinds[MSG_WANT], kinds[MSG_RECORDS]);
    expect(run, mean < 30.0, "within 30 KB/s");
    expect(run, all_know_all(world, NULL), "all know all still");
    run->trace = world_trace(world);
    world_free(world);
}

struct scenario {
    const char *name;
    void (*play)(struct run *run);
    uint32_t nodes; /* unless told otherwise */
};
static const struct scenario scenarios[] = {
    {"cold", cold, 1000},
    {"update", update, 1000},
    {"crash", crash, 1000},
    {"traffic", traffic, 1000},
};

static bool play(const struct scenario *scenario, uint32_t nodes, uint64_t seed) {
    struct run run = {.scenario = scenario->name, .nodes = nodes > 0 ? nodes : scenario->nodes, .seed = seed};
    uint64_t began_us = clock_us();
    scenario->play(&run);
    printf("%-10s %5u nodes  seed %-6" PRIu64 " %s; trace %016" PRIx64 " (%.1f s)\n", run.scenario, run.nodes, run.seed, run.line,
           run.trace, (double)(clock_us() - began_us) / 1e6);
    if (run.failed) {
        printf("FAILED; to replay: sim_gossip %s %u %" PRIu64 "\n", run.scenario, run.nodes, run.seed);
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
