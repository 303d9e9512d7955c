/* test_route.c - the choice of a chain: against brute force on small random swarms, hand-made swarms, its errors, and its spreading. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "swarm/route.h"

#define BLOCKS_SMALL 6
#define SERVERS_SMALL 8
#define ALL_WIRES 7

static uint32_t rng_state;
static uint32_t rng(uint32_t below) {
    rng_state = rng_state * 1664525u + 1013904223u;
    return (rng_state >> 8) % below;
}

/* block_us: of one block; the client is 1 ms away. */
static struct route_server server_of(const char *label, uint32_t begin, uint32_t end, float block_us) {
    return (struct route_server){.label = label,
                                 .begin = begin,
                                 .end = end,
                                 .decode_block_us = block_us,
                                 .rtt_us = 1000,
                                 .tokens_max = 4096,
                                 .tokens_ever = 8192,
                                 .wires = ALL_WIRES,
                                 .exact = true,
                                 .arithmetic_class = 7};
}

static struct route_request request_of(uint32_t n_blocks) { return (struct route_request){.n_blocks = n_blocks, .wire = COROLLA_WIRE_F32}; }

/* ---- brute force ----------------------------------------------------------------------------------------------- */

struct brute {
    const struct route_server *servers;
    uint32_t n, n_blocks;
    enum route_goal goal;
    bool only_class;
    uint64_t arithmetic_class;
    bool found;
    uint64_t time_ns, slowest_ns; /* of the best for the goal */
};

static void brute_end(struct brute *b, uint64_t time, uint64_t slowest) {
    bool faster = time < b->time_ns, even = time == b->time_ns;
    if (b->goal == ROUTE_MOST_THROUGHPUT) {
        faster = slowest < b->slowest_ns || (slowest == b->slowest_ns && time < b->time_ns);
        even = false;
    }
    if (!b->found || faster || (even && slowest < b->slowest_ns)) {
        b->time_ns = time;
        b->slowest_ns = slowest;
    }
    b->found = true;
}

static void brute_walk(struct brute *b, uint32_t block, const struct route_server *last, uint32_t used, uint64_t time, uint64_t slowest) {
    if (block == b->n_blocks) {
        brute_end(b, time + route_way_ns(last), slowest);
        return;
    }
    for (uint32_t i = 0; i < b->n; i++) {
        const struct route_server *s = &b->servers[i];
        if ((used >> i & 1) != 0 || s->begin > block || s->draining) continue;
        if (b->only_class && (!s->exact || s->arithmetic_class != b->arithmetic_class)) continue;
        uint64_t way = last == NULL ? route_way_ns(s) : route_between_ns(last, s);
        for (uint32_t end = block + 1; end <= s->end; end++) {
            uint64_t hop = route_hop_ns(s) + route_block_ns(s, b->goal) * (end - block);
            brute_walk(b, end, s, used | 1u << i, time + way + hop, hop > slowest ? hop : slowest);
        }
    }
}

static struct brute brute_force(const struct route_server *servers, uint32_t n, uint32_t n_blocks, enum route_goal goal) {
    struct brute best = {.found = false};
    for (uint64_t c = 0; c < 2; c++) {
        struct brute b = {.servers = servers, .n = n, .n_blocks = n_blocks, .goal = goal, .only_class = true, .arithmetic_class = c};
        brute_walk(&b, 0, NULL, 0, 0, 0);
        bool better = goal == ROUTE_LEAST_TIME ? b.time_ns < best.time_ns : b.slowest_ns < best.slowest_ns;
        if (b.found && (!best.found || better)) best = b;
    }
    if (best.found) return best;
    best = (struct brute){.servers = servers, .n = n, .n_blocks = n_blocks, .goal = goal};
    brute_walk(&best, 0, NULL, 0, 0, 0);
    return best;
}

/* Speeds, spans, queues, parts of a table of round trips, classes; some leave. Every other swarm has short ways and long spans, so that it
 * would pay to come back to a server. rtts has room for SERVERS_SMALL * SERVERS_SMALL. */
static uint32_t random_swarm(uint32_t seed, struct route_server *servers, struct record_rtt *rtts) {
    rng_state = seed;
    bool near = seed % 2 == 0;
    uint32_t n = near ? SERVERS_SMALL - rng(3) : 1 + rng(SERVERS_SMALL), way_us = near ? 50 : 1000;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t begin = rng(BLOCKS_SMALL), end = begin + 1 + rng(BLOCKS_SMALL - begin);
        if (near && rng(2) != 0) begin = 0, end = BLOCKS_SMALL;
        struct route_server *s = &servers[i];
        *s = server_of("s", begin, end, (float)(1 + rng(40)) * 500);
        s->id = i * 1000 + 17;
        s->rtt_us = rng(5) * 4 * way_us; /* 0: not known */
        s->queue_us = rng(3) * 2 * way_us;
        s->exact = rng(near ? 20 : 4) != 0;
        s->arithmetic_class = rng(near ? 1 : 2);
        s->draining = rng(10) == 0;
        s->rtts = rtts + (size_t)i * SERVERS_SMALL;
        for (uint32_t k = 0; k < n; k++)
            if (rng(2) != 0)
                rtts[(size_t)i * SERVERS_SMALL + s->n_rtts++] = (struct record_rtt){.node = k * 1000 + 17, .rtt_us = rng(60) * way_us};
    }
    return n;
}

/* ---- tests ----------------------------------------------------------------------------------------------------- */

/* The chain is whole, uses nobody twice, stays within spans, and costs what it says. */
static void check_route(const struct route *route, const struct route_server *servers, uint32_t n_blocks, enum route_goal goal) {
    uint64_t time = 0, slowest = 0;
    uint32_t block = 0;
    for (uint32_t i = 0; i < route->n_hops; i++) {
        const struct route_hop *hop = &route->hops[i];
        const struct route_server *s = &servers[hop->server];
        assert_int_equal(hop->begin, block);
        assert_true(hop->end > hop->begin && hop->begin >= s->begin && hop->end <= s->end);
        for (uint32_t k = 0; k < i; k++) assert_int_not_equal(route->hops[k].server, hop->server);
        uint64_t hop_ns = route_hop_ns(s) + route_block_ns(s, goal) * (hop->end - hop->begin);
        time += hop_ns + (i == 0 ? route_way_ns(s) : route_between_ns(&servers[route->hops[i - 1].server], s));
        if (hop_ns > slowest) slowest = hop_ns;
        block = hop->end;
    }
    time += route_way_ns(&servers[route->hops[route->n_hops - 1].server]);
    assert_int_equal(block, n_blocks);
    assert_true(time == route->time_ns);
    assert_true(slowest == route->slowest_ns);
}

static void random_swarms_get_the_chain_that_brute_force_finds(void **state) {
    (void)state;
    int found = 0, exact = 0;
    for (uint32_t seed = 1; seed <= 3000; seed++) {
        struct route_server servers[SERVERS_SMALL];
        struct record_rtt rtts[SERVERS_SMALL * SERVERS_SMALL];
        uint32_t n = random_swarm(seed, servers, rtts);
        struct route_request request = request_of(BLOCKS_SMALL);
        struct route route;
        enum corolla_status status = route_find(&request, servers, n, &route, NULL);
        struct brute best = brute_force(servers, n, BLOCKS_SMALL, ROUTE_LEAST_TIME);
        if (best.found != (status == COROLLA_OK)) fail_msg("seed %u: brute force %s a chain", seed, best.found ? "has" : "has not");
        if (!best.found) continue;
        found++;
        exact += route.exact;
        check_route(&route, servers, BLOCKS_SMALL, ROUTE_LEAST_TIME);
        assert_true(route.proven);
        if (route.time_ns != best.time_ns || route.exact != best.only_class)
            fail_msg("seed %u: %llu ns, brute force %llu", seed, (unsigned long long)route.time_ns, (unsigned long long)best.time_ns);
        request.seed = seed;
        assert_int_equal(route_find(&request, servers, n, &route, NULL), COROLLA_OK);
        check_route(&route, servers, BLOCKS_SMALL, ROUTE_LEAST_TIME);
        if ((double)route.time_ns > (double)best.time_ns * (1 + ROUTE_SPREAD)) fail_msg("seed %u: spreading costs too much", seed);
    }
    print_message("%d swarms with a chain: as fast as the one of brute force in all\n", found);
    assert_true(found > 500 && exact > 100 && exact < found);
}

static void the_split_for_throughput_is_near_the_best_one(void **state) {
    (void)state;
    double sum = 0, worst = 0;
    int found = 0;
    for (uint32_t seed = 1; seed <= 1500; seed++) {
        struct route_server servers[SERVERS_SMALL];
        struct record_rtt rtts[SERVERS_SMALL * SERVERS_SMALL];
        uint32_t n = random_swarm(seed, servers, rtts);
        struct route_request request = request_of(BLOCKS_SMALL);
        request.goal = ROUTE_MOST_THROUGHPUT;
        struct route route;
        enum corolla_status status = route_find(&request, servers, n, &route, NULL);
        struct brute best = brute_force(servers, n, BLOCKS_SMALL, ROUTE_MOST_THROUGHPUT);
        if (best.found != (status == COROLLA_OK)) fail_msg("seed %u: brute force %s a split", seed, best.found ? "has" : "has not");
        if (!best.found) continue;
        check_route(&route, servers, BLOCKS_SMALL, ROUTE_MOST_THROUGHPUT);
        double ratio = (double)route.slowest_ns / (double)best.slowest_ns;
        found++;
        sum += ratio;
        if (ratio > worst) worst = ratio;
    }
    print_message("slowest hop of the split / the best: mean %.4f, worst %.2f of %d\n", sum / found, worst, found);
    assert_true(found > 250 && sum / found < 1.02 && worst < 2.0);
}

static void training_prefers_an_even_split_and_decode_one_fast_server(void **state) {
    (void)state;
    struct route_server servers[] = {server_of("a", 0, 8, 100), server_of("b", 0, 8, 100)};
    struct route_request request = request_of(8);
    struct route route;
    assert_int_equal(route_find(&request, servers, 2, &route, NULL), COROLLA_OK);
    assert_int_equal(route.n_hops, 1);
    request.goal = ROUTE_MOST_THROUGHPUT;
    servers[0].prefill_block_us = 30;
    servers[1].prefill_block_us = 10;
    assert_int_equal(route_find(&request, servers, 2, &route, NULL), COROLLA_OK);
    assert_int_equal(route.n_hops, 2);
    uint32_t slow = route.hops[0].server == 0 ? 0 : 1;
    assert_int_equal(route.hops[slow].end - route.hops[slow].begin, 2);
}

static void a_slow_detour_is_not_taken_for_a_fast_server(void **state) {
    (void)state;
    struct record_rtt far[] = {{.node = 2, .rtt_us = 90000}}, near[] = {{.node = 2, .rtt_us = 200}};
    struct route_server servers[] = {server_of("a", 0, 5, 100), server_of("fast, far from a", 5, 10, 10),
                                     server_of("slow, near", 5, 10, 3000)};
    for (uint32_t i = 0; i < 3; i++) servers[i].id = i + 1;
    struct route_request request = request_of(10);
    struct route route;
    assert_int_equal(route_find(&request, servers, 3, &route, NULL), COROLLA_OK);
    assert_int_equal(route.hops[1].server, 1);
    servers[0].rtts = far;
    servers[0].n_rtts = 1; /* dearer than the estimate of 1 ms, and yet it counts */
    assert_int_equal(route_find(&request, servers, 3, &route, NULL), COROLLA_OK);
    assert_int_equal(route.hops[1].server, 2);
    servers[1].rtt_us = 40000; /* far from the client, but beside a: worth it once that is known */
    servers[0].rtt_us = 40000;
    servers[2].decode_block_us = 9000;
    servers[0].rtts = near;
    assert_int_equal(route_find(&request, servers, 3, &route, NULL), COROLLA_OK);
    assert_int_equal(route.hops[1].server, 1);
    servers[0].n_rtts = 0;
    servers[2].decode_block_us = 10; /* now the estimate says: rather nearer to the client */
    assert_int_equal(route_find(&request, servers, 3, &route, NULL), COROLLA_OK);
    assert_int_equal(route.hops[1].server, 2);
}

static void a_queue_and_a_penalty_make_a_server_dear(void **state) {
    (void)state;
    struct route_server servers[] = {server_of("a", 0, 4, 100), server_of("b", 0, 4, 110)};
    struct route_request request = request_of(4);
    struct route route;
    assert_int_equal(route_find(&request, servers, 2, &route, NULL), COROLLA_OK);
    assert_int_equal(route.hops[0].server, 0);
    servers[0].queue_us = 5000;
    assert_int_equal(route_find(&request, servers, 2, &route, NULL), COROLLA_OK);
    assert_int_equal(route.hops[0].server, 1);
    servers[1].penalty_us = 10000;
    assert_int_equal(route_find(&request, servers, 2, &route, NULL), COROLLA_OK);
    assert_int_equal(route.hops[0].server, 0);
}

/* A fast server in the middle of a slow one's span: the slow one may do what is in front of it, or behind, not both. */
static void nobody_is_in_a_chain_twice(void **state) {
    (void)state;
    struct route_server servers[] = {server_of("slow, all", 0, 9, 9000), server_of("fast, middle", 3, 6, 10),
                                     server_of("medium, end", 6, 9, 5000)};
    struct route_request request = request_of(9);
    struct route route;
    assert_int_equal(route_find(&request, servers, 2, &route, NULL), COROLLA_OK);
    check_route(&route, servers, 9, ROUTE_LEAST_TIME);
    assert_int_equal(route.n_hops, 1);
    assert_int_equal(route_find(&request, servers, 3, &route, NULL), COROLLA_OK);
    check_route(&route, servers, 9, ROUTE_LEAST_TIME);
    assert_int_equal(route.n_hops, 3);
}

static void more_blocks_than_hops_are_covered_with_longer_spans(void **state) {
    (void)state;
    struct route_server servers[HOPS_MAX + 10 + 2];
    uint32_t n_blocks = HOPS_MAX + 10;
    for (uint32_t i = 0; i < n_blocks; i++) servers[i] = server_of("one block", i, i + 1, 1);
    servers[n_blocks] = server_of("long", 0, n_blocks / 2, 900000);
    servers[n_blocks + 1] = server_of("long", n_blocks / 2, n_blocks, 900000);
    struct route_request request = request_of(n_blocks);
    struct route route;
    struct corolla_error err;
    assert_int_equal(route_find(&request, servers, n_blocks, &route, &err), COROLLA_NO_CHAIN);
    assert_non_null(strstr(err.message, "no chain of at most 64 servers"));
    assert_int_equal(route_find(&request, servers, n_blocks + 2, &route, NULL), COROLLA_OK);
    check_route(&route, servers, n_blocks, ROUTE_LEAST_TIME);
}

static void a_big_swarm_is_covered_whenever_it_can_be(void **state) {
    (void)state;
    int whole_ones = 0;
    for (uint32_t seed = 1; seed <= 10; seed++) {
        rng_state = seed;
        struct route_server servers[64];
        for (uint32_t i = 0; i < 64; i++) {
            uint32_t begin = rng(78), end = begin + 1 + rng(80 - begin < 12 ? 80 - begin : 12);
            servers[i] = server_of("s", begin, end, (float)(1 + rng(100)));
            servers[i].id = i;
        }
        bool held[80] = {false}, whole = true;
        for (uint32_t i = 0; i < 64; i++)
            for (uint32_t b = servers[i].begin; b < servers[i].end; b++) held[b] = true;
        for (uint32_t b = 0; b < 80; b++) whole &= held[b];
        for (enum route_goal goal = ROUTE_LEAST_TIME; goal <= ROUTE_MOST_THROUGHPUT; goal++) {
            struct route_request request = request_of(80);
            request.goal = goal;
            struct route route;
            enum corolla_status status = route_find(&request, servers, 64, &route, NULL);
            assert_int_equal(status, whole ? COROLLA_OK : COROLLA_NO_CHAIN);
            if (whole) check_route(&route, servers, 80, goal);
        }
        whole_ones += whole;
    }
    assert_true(whole_ones > 0 && whole_ones < 10);
}

#define EQUALS 10
static void a_thousand_seeds_spread_over_equal_servers(void **state) {
    (void)state;
    struct route_server servers[2 * EQUALS];
    for (uint32_t i = 0; i < 2 * EQUALS; i++) {
        servers[i] = server_of("s", i < EQUALS ? 0 : 5, i < EQUALS ? 5 : 10, 1000);
        servers[i].id = i + 1;
    }
    unsigned shares[2 * EQUALS] = {0};
    struct route_request request = request_of(10);
    struct route route;
    for (request.seed = 1; request.seed <= 1000; request.seed++) {
        assert_int_equal(route_find(&request, servers, 2 * EQUALS, &route, NULL), COROLLA_OK);
        assert_int_equal(route.n_hops, 2);
        for (uint32_t i = 0; i < 2; i++) shares[route.hops[i].server]++;
    }
    for (uint32_t i = 0; i < 2 * EQUALS; i++)
        if (shares[i] > 2 * 1000 / EQUALS || shares[i] < 1000 / EQUALS / 2) fail_msg("server %u is taken %u times of 1000", i, shares[i]);
}

static void equal_servers_with_fewer_sessions_are_taken_more_often(void **state) {
    (void)state;
    struct route_server servers[] = {server_of("idle", 0, 5, 1000), server_of("loaded", 0, 5, 1000)};
    servers[0].id = 1;
    servers[1].id = 2;
    servers[1].sessions = 4;
    unsigned idle = 0;
    struct route_request request = request_of(5);
    struct route route;
    for (request.seed = 1; request.seed <= 1000; request.seed++) {
        assert_int_equal(route_find(&request, servers, 2, &route, NULL), COROLLA_OK);
        idle += route.hops[0].server == 0;
    }
    if (idle < 780 || idle > 890) fail_msg("the idle server is taken %u times of 1000, not 5 of 6", idle);
}

static void missing_blocks_are_named(void **state) {
    (void)state;
    struct route_server servers[] = {server_of("a", 0, 10, 10), server_of("b", 20, 25, 10)};
    struct route_request request = request_of(30);
    struct route route;
    struct corolla_error err;
    assert_int_equal(route_find(&request, servers, 2, &route, &err), COROLLA_NO_CHAIN);
    assert_non_null(strstr(err.message, "no server for blocks 10:20, 25:30"));
    assert_int_equal(route_find(&request, NULL, 0, &route, &err), COROLLA_NO_CHAIN);
    assert_non_null(strstr(err.message, "0:30"));
}

static void why_a_server_cannot_be_used_is_told(void **state) {
    (void)state;
    struct route_server servers[] = {server_of("server a", 0, 10, 10), server_of("server b", 10, 30, 10)};
    struct route_request request = request_of(30);
    struct route route;
    struct corolla_error err;
    servers[1].model[0] = 1;
    assert_int_equal(route_find(&request, servers, 2, &route, &err), COROLLA_MODEL_MISMATCH);
    assert_non_null(strstr(err.message, "server b hosts another model"));
    servers[1].model[0] = 0;
    servers[1].draining = true;
    assert_int_equal(route_find(&request, servers, 2, &route, &err), COROLLA_DRAINING);
    servers[1].draining = false;
    servers[1].joining = true;
    assert_int_equal(route_find(&request, servers, 2, &route, &err), COROLLA_BUSY);
    assert_non_null(strstr(err.message, "server b is still loading and nobody else has blocks 10:30"));
    servers[1].joining = false;
    servers[1].banned = true;
    assert_int_equal(route_find(&request, servers, 2, &route, &err), COROLLA_BUSY);
    assert_non_null(strstr(err.message, "server b failed lately and nobody else has blocks 10:30"));
    servers[1].banned = false;
    request.tokens = 5000;
    servers[0].tokens_max = servers[0].tokens_ever = 100000;
    assert_int_equal(route_find(&request, servers, 2, &route, &err), COROLLA_NO_CACHE);
    assert_non_null(strstr(err.message, "server b has cache left for a session of 4096 tokens"));
    request.tokens = 9000; /* no use in waiting */
    assert_int_equal(route_find(&request, servers, 2, &route, &err), COROLLA_TOO_LONG);
    assert_non_null(strstr(err.message, "server b has cache for sessions of 8192 tokens"));
    request.tokens = 10;
    request.wire = COROLLA_WIRE_BF16;
    servers[1].wires = 1u << COROLLA_WIRE_F32;
    assert_int_equal(route_find(&request, servers, 2, &route, &err), COROLLA_UNSUPPORTED);
    servers[1].wires = ALL_WIRES;
    servers[1].end = 31;
    assert_int_equal(route_find(&request, servers, 2, &route, &err), COROLLA_PEER_FAULT);
}

/* Whoever cannot be used is left out at once, however fast it is. */
static void the_others_are_used_in_the_place_of_one_that_cannot_be(void **state) {
    (void)state;
    for (int what = 0; what < 5; what++) {
        struct route_server servers[] = {server_of("fast", 0, 10, 1), server_of("slow", 0, 10, 5000)};
        struct route_request request = request_of(10);
        struct route route;
        assert_int_equal(route_find(&request, servers, 2, &route, NULL), COROLLA_OK);
        assert_int_equal(route.hops[0].server, 0);
        request.tokens = 4 * 1000; /* four rows */
        servers[0].banned = what == 0;
        servers[0].draining = what == 1;
        servers[0].joining = what == 2;
        if (what == 3) servers[0].tokens_max = 3999;
        if (what == 4) servers[0].wires = 1u << COROLLA_WIRE_F16;
        assert_int_equal(route_find(&request, servers, 2, &route, NULL), COROLLA_OK);
        assert_int_equal(route.hops[0].server, 1);
    }
}

static void an_exact_chain_goes_before_a_faster_one(void **state) {
    (void)state;
    struct route_server servers[] = {server_of("slow a", 0, 5, 9000), server_of("slow b", 5, 10, 9000), server_of("fast", 0, 10, 10)};
    servers[2].exact = false;
    struct route_request request = request_of(10);
    struct route route;
    assert_int_equal(route_find(&request, servers, 3, &route, NULL), COROLLA_OK);
    assert_true(route.exact);
    assert_int_equal(route.n_hops, 2);
    request.wire = COROLLA_WIRE_F16; /* nothing to win */
    assert_int_equal(route_find(&request, servers, 3, &route, NULL), COROLLA_OK);
    assert_false(route.exact);
    assert_int_equal(route.n_hops, 1);
}

static void the_fastest_of_several_classes_is_taken_and_never_mixed(void **state) {
    (void)state;
    struct route_server servers[] = {server_of("1a", 0, 5, 300), server_of("2a", 0, 5, 10), server_of("1b", 5, 10, 300),
                                     server_of("2b", 5, 10, 900)};
    for (uint32_t i = 0; i < 4; i++) servers[i].arithmetic_class = i % 2;
    struct route_request request = request_of(10);
    struct route route;
    assert_int_equal(route_find(&request, servers, 4, &route, NULL), COROLLA_OK);
    assert_true(route.exact && route.n_hops == 2 && route.hops[0].server == 0 && route.hops[1].server == 2);
    servers[3].decode_block_us = 400;
    assert_int_equal(route_find(&request, servers, 4, &route, NULL), COROLLA_OK);
    assert_true(route.exact && route.n_hops == 2 && route.hops[0].server == 1 && route.hops[1].server == 3);
}

static void exact_is_refused_with_the_hop_that_is_not(void **state) {
    (void)state;
    struct route_server servers[] = {server_of("server a", 0, 5, 10), server_of("server b", 5, 10, 10)};
    struct route_request request = request_of(10);
    request.exact = true;
    struct route route;
    struct corolla_error err;
    assert_int_equal(route_find(&request, servers, 2, &route, &err), COROLLA_OK);
    servers[1].arithmetic_class = 8;
    assert_int_equal(route_find(&request, servers, 2, &route, &err), COROLLA_REFUSED);
    assert_non_null(strstr(err.message, "server b (blocks 5:10) is of another arithmetic class"));
    servers[1].exact = false;
    assert_int_equal(route_find(&request, servers, 2, &route, &err), COROLLA_REFUSED);
    assert_non_null(strstr(err.message, "server b (blocks 5:10) does not compute exactly"));
    request.exact = false;
    assert_int_equal(route_find(&request, servers, 2, &route, &err), COROLLA_OK);
    assert_false(route.exact);
    request.exact = true;
    request.wire = COROLLA_WIRE_F16;
    assert_int_equal(route_find(&request, servers, 2, &route, &err), COROLLA_REFUSED);
    assert_non_null(strstr(err.message, "wire"));
}

static void absurd_claims_neither_crash_nor_overflow(void **state) {
    (void)state;
    const float claims[] = {0.0f, -1.0f, 1e-38f, 1e38f, NAN, INFINITY};
    struct record_rtt rtts[RECORD_RTTS_MAX] = {{.node = 2, .rtt_us = UINT32_MAX}, {.node = 2}, {.node = 1}, {.node = 77}};
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++)
        for (enum route_goal goal = ROUTE_LEAST_TIME; goal <= ROUTE_MOST_THROUGHPUT; goal++) {
            struct route_server servers[] = {server_of("a", 0, 10, claims[i]), server_of("b", 10, 20, 1)};
            for (uint32_t k = 0; k < 2; k++) {
                servers[k].id = k + 1;
                servers[k].prefill_block_us = claims[i];
                servers[k].queue_us = servers[k].penalty_us = servers[k].rtt_us = servers[k].sessions = UINT32_MAX;
            }
            servers[0].rtts = rtts;
            servers[0].n_rtts = UINT32_MAX; /* only as many are read as a record can hold */
            struct route_request request = request_of(20);
            request.goal = goal;
            request.seed = 5;
            struct route route;
            assert_int_equal(route_find(&request, servers, 2, &route, NULL), COROLLA_OK);
            check_route(&route, servers, 20, goal);
            assert_true(route.time_ns > 0 && route.time_ns < UINT64_C(1000000000000000));
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_swarms_get_the_chain_that_brute_force_finds),
        cmocka_unit_test(the_split_for_throughput_is_near_the_best_one),
        cmocka_unit_test(training_prefers_an_even_split_and_decode_one_fast_server),
        cmocka_unit_test(a_slow_detour_is_not_taken_for_a_fast_server),
        cmocka_unit_test(a_queue_and_a_penalty_make_a_server_dear),
        cmocka_unit_test(nobody_is_in_a_chain_twice),
        cmocka_unit_test(more_blocks_than_hops_are_covered_with_longer_spans),
        cmocka_unit_test(a_big_swarm_is_covered_whenever_it_can_be),
        cmocka_unit_test(a_thousand_seeds_spread_over_equal_servers),
        cmocka_unit_test(equal_servers_with_fewer_sessions_are_taken_more_often),
        cmocka_unit_test(missing_blocks_are_named),
        cmocka_unit_test(why_a_server_cannot_be_used_is_told),
        cmocka_unit_test(the_others_are_used_in_the_place_of_one_that_cannot_be),
        cmocka_unit_test(an_exact_chain_goes_before_a_faster_one),
        cmocka_unit_test(the_fastest_of_several_classes_is_taken_and_never_mixed),
        cmocka_unit_test(exact_is_refused_with_the_hop_that_is_not),
        cmocka_unit_test(absurd_claims_neither_crash_nor_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
