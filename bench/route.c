/* route.c - how long the choice of a chain takes, and whether the best one was proven.
 *
 *   bench_route [SERVERS [BLOCKS [SWARMS]]]      default 10000 80 20
 *
 * Random swarms, from seeds 1, 2, ...: servers and client are points of a plane whose sides are 100 ms apart, speeds are
 * spread over a factor of 20, and each server has measured round trips to 8 servers that could follow it, near ones rather than far ones.
 * Times are those of the processor, so that a busy machine does not count.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "swarm/route.h"

#define SERVERS_MAX 100000
#define SWARMS_MAX 1000
#define PLANE_MS 100.0
#define TRIES 32 /* servers that are looked at for a near follower */

enum shape { MIXED, SHORT, WHOLE, CLASSES, SHAPES };
static const char *const shape_names[SHAPES] = {"spans of 2 to 20 blocks", "spans of 1 to 4 blocks", "everybody has all blocks",
                                                "20 arithmetic classes"};

struct point {
    double x, y;
};
struct swarm {
    uint32_t n, n_blocks;
    struct route_server *servers;
    struct point *points;
    struct record_rtt (*rtts)[RECORD_RTTS_MAX];
};

static uint64_t rng_state;
static double uniform(void) { /* SplitMix64 */
    uint64_t x = rng_state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return (double)((x ^ x >> 31) >> 11) * 0x1p-53;
}
static uint32_t below(uint32_t n) { return (uint32_t)(uniform() * n); }

static uint32_t rtt_us(struct point a, struct point b) { return 300 + (uint32_t)(1000 * hypot(a.x - b.x, a.y - b.y)); }

static void die(const char *what) {
    fprintf(stderr, "bench_route: %s\n", what);
    exit(1);
}

static uint32_t span_length(const struct swarm *w, enum shape shape) {
    uint32_t length = shape == WHOLE ? w->n_blocks : shape == SHORT ? 1 + below(4) : 2 + below(19);
    return length < w->n_blocks ? length : w->n_blocks;
}

/* A server that could follow, near rather than far. */
static uint32_t follower(const struct swarm *w, uint32_t of) {
    uint32_t best = of;
    for (int i = 0; i < TRIES; i++) {
        uint32_t k = below(w->n);
        if (w->servers[k].begin > w->servers[of].end || w->servers[k].end <= w->servers[of].end) continue;
        if (best == of || rtt_us(w->points[of], w->points[k]) < rtt_us(w->points[of], w->points[best])) best = k;
    }
    return best;
}

static void make_swarm(struct swarm *w, enum shape shape, uint64_t seed) {
    rng_state = seed;
    struct point client = {uniform() * PLANE_MS, uniform() * PLANE_MS};
    for (uint32_t i = 0; i < w->n; i++) {
        uint32_t length = span_length(w, shape), begin = below(w->n_blocks - length + 1);
        w->points[i] = (struct point){uniform() * PLANE_MS, uniform() * PLANE_MS};
        w->servers[i] = (struct route_server){
            .label = "server", .begin = begin, .end = begin + length, .wires = 1, .tokens_max = 4096, .tokens_ever = 4096};
        w->servers[i].id = i + 1;
        w->servers[i].decode_block_us = (float)(200 * exp(3 * uniform()));
        w->servers[i].prefill_block_us = w->servers[i].decode_block_us / 8;
        w->servers[i].queue_us = below(4) == 0 ? below(20000) : 0;
        w->servers[i].rtt_us = rtt_us(client, w->points[i]);
        w->servers[i].exact = true;
        w->servers[i].arithmetic_class = shape == CLASSES ? below(20) : 0;
    }
    for (uint32_t i = 0; i < w->n; i++) {
        w->servers[i].rtts = w->rtts[i];
        for (uint32_t k = 0; k < RECORD_RTTS_MAX; k++) {
            uint32_t to = follower(w, i);
            if (to != i)
                w->rtts[i][w->servers[i].n_rtts++] =
                    (struct record_rtt){.node = w->servers[to].id, .rtt_us = rtt_us(w->points[i], w->points[to])};
        }
    }
}

static uint64_t processor_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void measure(struct swarm *w, enum shape shape, enum route_goal goal, unsigned n_swarms) {
    uint64_t us[SWARMS_MAX];
    unsigned found = 0, proven = 0, hops = 0;
    for (unsigned i = 0; i < n_swarms; i++) {
        make_swarm(w, shape, i + 1);
        struct route_request request = {.n_blocks = w->n_blocks, .tokens = 2048, .goal = goal, .seed = i + 1};
        struct route route;
        uint64_t began = processor_us();
        enum corolla_status status = route_find(&request, w->servers, w->n, &route, NULL);
        us[i] = processor_us() - began;
        if (status != COROLLA_OK && status != COROLLA_NO_CHAIN) die(corolla_status_name(status));
        if (status != COROLLA_OK) continue;
        found++;
        proven += route.proven;
        hops += route.n_hops;
    }
    qsort(us, n_swarms, sizeof *us, by_value);
    printf("%-26s %-11s %9.2f %9.2f %8u %8u %8.1f\n", shape_names[shape], goal == ROUTE_LEAST_TIME ? "least time" : "throughput",
           (double)us[n_swarms / 2] / 1e3, (double)us[n_swarms - 1] / 1e3, found, proven, found > 0 ? (double)hops / found : 0);
}

static uint32_t number(int argc, char **argv, int i, uint32_t otherwise, uint32_t max) {
    if (argc <= i) return otherwise;
    long value = atol(argv[i]);
    if (value < 1 || value > (long)max) die("SERVERS is a number from 1 to 100000, BLOCKS to 4096, SWARMS to 1000");
    return (uint32_t)value;
}

int main(int argc, char **argv) {
    struct swarm w = {.n = number(argc, argv, 1, 10000, SERVERS_MAX), .n_blocks = number(argc, argv, 2, 80, BLOCKS_MAX)};
    unsigned n_swarms = number(argc, argv, 3, 20, SWARMS_MAX);
    struct utsname machine;
    w.servers = calloc(w.n, sizeof *w.servers);
    w.points = calloc(w.n, sizeof *w.points);
    w.rtts = calloc(w.n, sizeof *w.rtts);
    if (!w.servers || !w.points || !w.rtts) die("out of memory");
    uname(&machine);
    printf("bench_route %u %u %u: %s %s %s, %ld processors, corolla %s\n", w.n, w.n_blocks, n_swarms, machine.sysname, machine.release,
           machine.machine, sysconf(_SC_NPROCESSORS_ONLN), COROLLA_VERSION);
    printf("%-26s %-11s %9s %9s %8s %8s %8s\n", "swarm", "goal", "median ms", "worst ms", "found", "proven", "hops");
    for (enum shape shape = 0; shape < SHAPES; shape++) {
        measure(&w, shape, ROUTE_LEAST_TIME, n_swarms);
        measure(&w, shape, ROUTE_MOST_THROUGHPUT, n_swarms);
    }
    free(w.servers);
    free(w.points);
    free(w.rtts);
    return 0;
}
