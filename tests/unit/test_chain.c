/* test_chain.c - the choice of a chain against brute force on small random swarms, and its errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/chain.h"

#define BLOCKS 6
#define ALL_WIRES 7

static uint32_t rng_state;
static uint32_t rng(uint32_t below) {
    rng_state = rng_state * 1664525u + 1013904223u;
    return (rng_state >> 8) % below;
}

static struct chain_server server_of(const char *label, uint32_t begin, uint32_t end, float speed) {
    return (struct chain_server){.label = label,
                                 .begin = begin,
                                 .end = end,
                                 .decode_tokens_per_s = speed,
                                 .tokens_max = 4096,
                                 .wires = ALL_WIRES,
                                 .exact = true,
                                 .arithmetic_class = 7};
}

static struct chain_request request_of(uint32_t n_blocks) { return (struct chain_request){.n_blocks = n_blocks, .wire = COROLLA_WIRE_F32}; }

/* ---- brute force ----------------------------------------------------------------------------------------------- */

struct brute {
    const struct chain_server *servers;
    uint32_t n, n_blocks;
    bool only_class;
    uint64_t arithmetic_class;
    bool found;
    uint64_t cost_ns, slowest_ns;
};

static void brute_walk(struct brute *b, uint32_t block, uint32_t used, uint64_t cost, uint64_t slowest) {
    if (block == b->n_blocks) {
        if (!b->found || cost < b->cost_ns || (cost == b->cost_ns && slowest < b->slowest_ns)) {
            b->cost_ns = cost;
            b->slowest_ns = slowest;
        }
        b->found = true;
        return;
    }
    for (uint32_t i = 0; i < b->n; i++) {
        const struct chain_server *s = &b->servers[i];
        if ((used >> i & 1) != 0 || s->begin > block || s->draining) continue;
        if (b->only_class && (!s->exact || s->arithmetic_class != b->arithmetic_class)) continue;
        for (uint32_t end = block + 1; end <= s->end; end++) {
            uint64_t stage = chain_hop_ns(s) + chain_block_ns(s) * (end - block);
            brute_walk(b, end, used | 1u << i, cost + stage, stage > slowest ? stage : slowest);
        }
    }
}

static struct brute brute_force(const struct chain_server *servers, uint32_t n, uint32_t n_blocks) {
    struct brute best = {.found = false};
    for (uint64_t c = 0; c < 2; c++) {
        struct brute b = {.servers = servers, .n = n, .n_blocks = n_blocks, .only_class = true, .arithmetic_class = c};
        brute_walk(&b, 0, 0, 0, 0);
        bool better = b.cost_ns < best.cost_ns || (b.cost_ns == best.cost_ns && b.slowest_ns < best.slowest_ns);
        if (b.found && (!best.found || better)) best = b;
    }
    if (best.found) return best;
    best = (struct brute){.servers = servers, .n = n, .n_blocks = n_blocks};
    brute_walk(&best, 0, 0, 0, 0);
    return best;
}

/* ---- tests ----------------------------------------------------------------------------------------------------- */

/* The chain is whole, uses nobody twice, stays within spans, and costs what it says. */
static void check_chain(const struct chain *chain, const struct chain_server *servers, uint32_t n_blocks) {
    uint64_t cost = 0, used = 0;
    uint32_t block = 0;
    for (uint32_t i = 0; i < chain->n_hops; i++) {
        const struct chain_hop *hop = &chain->hops[i];
        const struct chain_server *s = &servers[hop->server];
        assert_int_equal(hop->begin, block);
        assert_true(hop->end > hop->begin && hop->begin >= s->begin && hop->end <= s->end);
        assert_true((used >> hop->server & 1) == 0);
        used |= UINT64_C(1) << hop->server;
        cost += chain_hop_ns(s) + chain_block_ns(s) * (hop->end - hop->begin);
        block = hop->end;
    }
    assert_int_equal(block, n_blocks);
    assert_true(cost == chain->cost_ns);
}

static void random_swarms_get_the_chain_that_brute_force_finds(void **state) {
    (void)state;
    int found = 0, exact = 0;
    for (uint32_t seed = 1; seed <= 3000; seed++) {
        rng_state = seed;
        struct chain_server servers[6];
        uint32_t n = 1 + rng(6);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t begin = rng(BLOCKS), end = begin + 1 + rng(BLOCKS - begin);
            servers[i] = server_of("s", begin, end, (float)(1 + rng(4)) * 50);
            servers[i].rtt_us = rng(3) * 1000;
            servers[i].exact = rng(4) != 0;
            servers[i].arithmetic_class = rng(2);
            servers[i].draining = rng(10) == 0;
        }
        struct chain_request request = request_of(BLOCKS);
        struct chain chain;
        struct corolla_error err;
        enum corolla_status status = chain_choose(&request, servers, n, &chain, &err);
        struct brute best = brute_force(servers, n, BLOCKS);
        if (best.found != (status == COROLLA_OK)) fail_msg("seed %u: brute force %s a chain", seed, best.found ? "has" : "has not");
        if (!best.found) continue;
        found++;
        exact += chain.exact;
        check_chain(&chain, servers, BLOCKS);
        if (chain.cost_ns != best.cost_ns || chain.slowest_ns != best.slowest_ns || chain.exact != best.only_class)
            fail_msg("seed %u: cost %llu, brute force %llu", seed, (unsigned long long)chain.cost_ns, (unsigned long long)best.cost_ns);
    }
    assert_true(found > 500 && exact > 100 && exact < found);
}

static void a_big_swarm_is_covered_whenever_it_can_be(void **state) {
    (void)state;
    int whole_ones = 0;
    for (uint32_t seed = 1; seed <= 10; seed++) {
        rng_state = seed;
        struct chain_server servers[CHAIN_SERVERS_MAX];
        for (uint32_t i = 0; i < CHAIN_SERVERS_MAX; i++) {
            uint32_t begin = rng(78), end = begin + 1 + rng(80 - begin < 12 ? 80 - begin : 12);
            servers[i] = server_of("s", begin, end, (float)(1 + rng(100)));
        }
        bool held[80] = {false}, whole = true;
        for (uint32_t i = 0; i < CHAIN_SERVERS_MAX; i++)
            for (uint32_t b = servers[i].begin; b < servers[i].end; b++) held[b] = true;
        for (uint32_t b = 0; b < 80; b++) whole &= held[b];
        struct chain_request request = request_of(80);
        struct chain chain;
        enum corolla_status status = chain_choose(&request, servers, CHAIN_SERVERS_MAX, &chain, NULL);
        assert_int_equal(status, whole ? COROLLA_OK : COROLLA_NO_CHAIN);
        if (whole) check_chain(&chain, servers, 80);
        whole_ones += whole;
    }
    assert_true(whole_ones > 0 && whole_ones < 10);
}

static void missing_blocks_are_named(void **state) {
    (void)state;
    struct chain_server servers[] = {server_of("a", 0, 10, 10), server_of("b", 20, 25, 10)};
    struct chain_request request = request_of(30);
    struct chain chain;
    struct corolla_error err;
    assert_int_equal(chain_choose(&request, servers, 2, &chain, &err), COROLLA_NO_CHAIN);
    assert_non_null(strstr(err.message, "no server for blocks 10:20, 25:30"));
    assert_int_equal(chain_choose(&request, NULL, 0, &chain, &err), COROLLA_NO_CHAIN);
    assert_non_null(strstr(err.message, "0:30"));
}

static void why_a_server_cannot_be_used_is_told(void **state) {
    (void)state;
    struct chain_server servers[] = {server_of("server a", 0, 10, 10), server_of("server b", 10, 30, 10)};
    struct chain_request request = request_of(30);
    struct chain chain;
    struct corolla_error err;
    servers[1].model[0] = 1;
    assert_int_equal(chain_choose(&request, servers, 2, &chain, &err), COROLLA_MODEL_MISMATCH);
    assert_non_null(strstr(err.message, "server b hosts another model"));
    servers[1].model[0] = 0;
    servers[1].draining = true;
    assert_int_equal(chain_choose(&request, servers, 2, &chain, &err), COROLLA_DRAINING);
    servers[1].draining = false;
    request.max_tokens = 5000;
    servers[0].tokens_max = 100000;
    assert_int_equal(chain_choose(&request, servers, 2, &chain, &err), COROLLA_NO_CACHE);
    assert_non_null(strstr(err.message, "server b has cache left for a session of 4096 tokens"));
    request.max_tokens = 10;
    request.wire = COROLLA_WIRE_BF16;
    servers[1].wires = 1u << COROLLA_WIRE_F32;
    assert_int_equal(chain_choose(&request, servers, 2, &chain, &err), COROLLA_UNSUPPORTED);
    servers[1].wires = ALL_WIRES;
    servers[1].end = 31;
    assert_int_equal(chain_choose(&request, servers, 2, &chain, &err), COROLLA_PEER_FAULT);
}

static void an_exact_chain_goes_before_a_faster_one(void **state) {
    (void)state;
    struct chain_server servers[] = {server_of("slow a", 0, 5, 1), server_of("slow b", 5, 10, 1), server_of("fast", 0, 10, 1000)};
    servers[2].exact = false;
    struct chain_request request = request_of(10);
    struct chain chain;
    assert_int_equal(chain_choose(&request, servers, 3, &chain, NULL), COROLLA_OK);
    assert_true(chain.exact);
    assert_int_equal(chain.n_hops, 2);
    request.wire = COROLLA_WIRE_F16; /* nothing to win */
    assert_int_equal(chain_choose(&request, servers, 3, &chain, NULL), COROLLA_OK);
    assert_false(chain.exact);
    assert_int_equal(chain.n_hops, 1);
}

static void exact_is_refused_with_the_hop_that_is_not(void **state) {
    (void)state;
    struct chain_server servers[] = {server_of("server a", 0, 5, 10), server_of("server b", 5, 10, 10)};
    struct chain_request request = request_of(10);
    request.exact = true;
    struct chain chain;
    struct corolla_error err;
    assert_int_equal(chain_choose(&request, servers, 2, &chain, &err), COROLLA_OK);
    servers[1].arithmetic_class = 8;
    assert_int_equal(chain_choose(&request, servers, 2, &chain, &err), COROLLA_REFUSED);
    assert_non_null(strstr(err.message, "server b (blocks 5:10) is of another arithmetic class"));
    servers[1].exact = false;
    assert_int_equal(chain_choose(&request, servers, 2, &chain, &err), COROLLA_REFUSED);
    assert_non_null(strstr(err.message, "server b (blocks 5:10) does not compute exactly"));
    request.exact = false;
    assert_int_equal(chain_choose(&request, servers, 2, &chain, &err), COROLLA_OK);
    assert_false(chain.exact);
    request.exact = true;
    request.wire = COROLLA_WIRE_F16;
    assert_int_equal(chain_choose(&request, servers, 2, &chain, &err), COROLLA_REFUSED);
    assert_non_null(strstr(err.message, "wire"));
}

static void absurd_claims_of_speed_neither_crash_nor_overflow(void **state) {
    (void)state;
    const float claims[] = {0.0f, -1.0f, 1e-38f, 1e38f, (float)(0.0 / 0.0), (float)(1.0 / 0.0)};
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++) {
        struct chain_server servers[] = {server_of("a", 0, 10, claims[i])};
        struct chain_request request = request_of(10);
        struct chain chain;
        assert_int_equal(chain_choose(&request, servers, 1, &chain, NULL), COROLLA_OK);
        assert_true(chain.cost_ns > 0 && chain.cost_ns < UINT64_C(100000000000000));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_swarms_get_the_chain_that_brute_force_finds),
        cmocka_unit_test(a_big_swarm_is_covered_whenever_it_can_be),
        cmocka_unit_test(missing_blocks_are_named),
        cmocka_unit_test(why_a_server_cannot_be_used_is_told),
        cmocka_unit_test(an_exact_chain_goes_before_a_faster_one),
        cmocka_unit_test(exact_is_refused_with_the_hop_that_is_not),
        cmocka_unit_test(absurd_claims_of_speed_neither_crash_nor_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
