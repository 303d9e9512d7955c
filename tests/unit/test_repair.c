/* test_repair.c - which hops of a broken chain are replaced, and which rows are sent again: hand-made chains, and random ones whose
 * replays are carried out on a model of the hops. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "swarm/repair.h"

#define HOPS 7       /* of a random chain, at most */
#define POSITIONS 12 /* few, so that hops are often level */
#define CHAINS 200000

static uint32_t rng_state = 1;
static uint32_t rng(uint32_t below) {
    rng_state = rng_state * 1664525u + 1013904223u;
    return (rng_state >> 8) % below;
}

/* ---- gaps ------------------------------------------------------------------------------------------------------ */

/* The gaps of a chain of hops that are up (u) or down (d), as text: "first+n ...". */
static const char *gaps_of(const char *chain) {
    static char text[64];
    struct repair_hop hops[16] = {{.down = false}};
    uint32_t first = 0, n, n_hops = (uint32_t)strlen(chain);
    for (uint32_t i = 0; i < n_hops; i++) hops[i].down = chain[i] == 'd';
    text[0] = '\0';
    for (; repair_next_gap(hops, n_hops, &first, &n); first += n)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%u+%u", text[0] ? " " : "", first, n);
    return text;
}

static void every_run_of_lost_hops_is_one_gap(void **state) {
    (void)state;
    assert_string_equal(gaps_of(""), "");
    assert_string_equal(gaps_of("uuu"), "");
    assert_string_equal(gaps_of("duu"), "0+1");
    assert_string_equal(gaps_of("udu"), "1+1");
    assert_string_equal(gaps_of("uud"), "2+1");
    assert_string_equal(gaps_of("uddu"), "1+2");
    assert_string_equal(gaps_of("dudud"), "0+1 2+1 4+1");
    assert_string_equal(gaps_of("dddd"), "0+4");
}

/* ---- replays by hand ------------------------------------------------------------------------------------------- */

/* All replays until every hop is at `position`, as text: "first+n begin:end, ...". */
static const char *replays_of(struct repair_hop *hops, uint32_t n_hops, uint32_t position) {
    static char text[128];
    struct repair_replay r;
    text[0] = '\0';
    while (repair_next_replay(hops, n_hops, position, &r)) {
        assert_true(r.n > 0 && r.first + r.n <= n_hops && r.begin < r.end && r.end <= position);
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%u+%u %u:%u", text[0] ? ", " : "", r.first, r.n, r.begin, r.end);
        for (uint32_t i = r.first; i < r.first + r.n; i++) hops[i].valid = hops[i].kept = r.end;
    }
    return text;
}
#define REPLAYS(position, ...)                                                                                                             \
    replays_of((struct repair_hop[]){__VA_ARGS__}, sizeof((struct repair_hop[]){__VA_ARGS__}) / sizeof(struct repair_hop), position)
#define HOP(n_valid, n_kept)                                                                                                               \
    { .valid = (n_valid), .kept = (n_kept) }
#define GOOD HOP(10, 10)
#define LAST HOP(10, 0) /* it keeps nothing */
#define NEW HOP(0, 0)

static void a_whole_chain_needs_nothing(void **state) {
    (void)state;
    assert_string_equal(REPLAYS(10, GOOD, GOOD, LAST), "");
    assert_string_equal(REPLAYS(10, HOP(10, 0), HOP(12, 3), HOP(15, 0)), "");
    assert_string_equal(REPLAYS(0, NEW, NEW), "");
}

static void newcomers_are_fed_by_the_hop_before_them(void **state) {
    (void)state;
    assert_string_equal(REPLAYS(10, NEW, GOOD, LAST), "0+1 0:10");
    assert_string_equal(REPLAYS(10, GOOD, NEW, LAST), "1+1 0:10");
    assert_string_equal(REPLAYS(10, GOOD, GOOD, NEW), "2+1 0:10");
    assert_string_equal(REPLAYS(10, GOOD, NEW, NEW, LAST), "1+2 0:10");
    assert_string_equal(REPLAYS(10, NEW, GOOD, NEW, LAST), "0+1 0:10, 2+1 0:10");
    assert_string_equal(REPLAYS(10, NEW, NEW, NEW), "0+3 0:10");
}

static void what_newcomers_have_already_is_not_sent_again(void **state) {
    (void)state;
    assert_string_equal(REPLAYS(10, GOOD, HOP(6, 6), LAST), "1+1 6:10");
    assert_string_equal(REPLAYS(10, GOOD, HOP(6, 6), HOP(4, 0)), "2+1 4:6, 1+2 6:10");
    assert_string_equal(REPLAYS(10, GOOD, NEW, HOP(7, 7), LAST), "1+1 0:7, 1+2 7:10");
}

static void a_hop_that_lacks_kept_rows_computes_them_again(void **state) {
    (void)state;
    assert_string_equal(REPLAYS(10, GOOD, HOP(10, 3), NEW), "2+1 0:3, 1+2 3:10");
    assert_string_equal(REPLAYS(10, HOP(10, 0), HOP(10, 0), NEW), "0+3 0:10");
    assert_string_equal(REPLAYS(10, HOP(5, 2), LAST), "0+1 2:10"); /* a log has no holes */
}

/* ---- random chains --------------------------------------------------------------------------------------------- */

struct model { /* of one hop, position by position */
    bool computed[POSITIONS], kept[POSITIONS];
    uint32_t n_computed; /* by replays */
};

/* Which positions a hop has to compute at least: those that it lacks; rows that the next one needs and that were not kept; and, since a
 * step drops what stands behind it and a log has no holes, all that follow. */
static void find_needed(const struct model *models, uint32_t n_hops, uint32_t position, bool needed[HOPS][POSITIONS]) {
    for (uint32_t i = n_hops; i-- > 0;) {
        bool last = i + 1 == n_hops, any = false;
        for (uint32_t p = 0; p < position; p++) any = any || !models[i].computed[p] || (!last && needed[i + 1][p] && !models[i].kept[p]);
        for (uint32_t p = 0, behind = false; p < position; p++) {
            behind = behind || !models[i].computed[p] || (!last && any && !models[i].kept[p]);
            needed[i][p] = behind;
        }
    }
}

static void carry_out(struct model *models, uint32_t n_hops, const struct repair_replay *r) {
    for (uint32_t p = r->begin; p < r->end; p++) assert_true(r->first == 0 || models[r->first - 1].kept[p]); /* the sender has the rows */
    for (uint32_t i = r->first; i < r->first + r->n; i++) {
        for (uint32_t p = 0; p < POSITIONS; p++) {
            bool now = p >= r->begin && p < r->end, before = p < r->begin;
            assert_true(!before || models[i].computed[p]);
            assert_true(!before || i + 1 == n_hops || models[i].kept[p]);
            models[i].computed[p] = before || now;
            models[i].kept[p] = i + 1 < n_hops && models[i].computed[p];
        }
        models[i].n_computed += r->end - r->begin;
    }
}

static void random_chain(struct repair_hop *hops, struct model *models, uint32_t n_hops) {
    memset(models, 0, n_hops * sizeof *models);
    for (uint32_t i = 0; i < n_hops; i++) {
        uint32_t valid = rng(3) == 0 ? 0 : rng(2) == 0 ? POSITIONS : rng(POSITIONS + 1);
        uint32_t kept = i + 1 == n_hops ? 0 : rng(4) > 0 ? valid : rng(valid + 1);
        hops[i] = (struct repair_hop){.valid = valid, .kept = kept};
        for (uint32_t p = 0; p < POSITIONS; p++) {
            models[i].computed[p] = p < valid;
            models[i].kept[p] = p < kept;
        }
    }
}

static void replays_bring_every_hop_there_and_compute_nothing_twice(void **state) {
    (void)state;
    for (uint32_t round = 0; round < CHAINS; round++) {
        struct repair_hop hops[HOPS];
        struct model models[HOPS];
        bool needed[HOPS][POSITIONS];
        struct repair_replay r;
        uint32_t n_hops = 1 + rng(HOPS), position = rng(POSITIONS + 1), calls = 0;
        random_chain(hops, models, n_hops);
        find_needed(models, n_hops, position, needed);
        while (repair_next_replay(hops, n_hops, position, &r)) {
            assert_true(++calls <= n_hops * POSITIONS); /* each brings some hop further */
            assert_true(r.n > 0 && r.first + r.n <= n_hops && r.begin < r.end && r.end <= position);
            carry_out(models, n_hops, &r);
            for (uint32_t i = r.first; i < r.first + r.n; i++) hops[i].valid = hops[i].kept = r.end;
        }
        for (uint32_t i = 0; i < n_hops; i++) {
            uint32_t n_needed = 0;
            for (uint32_t p = 0; p < position; p++) {
                assert_true(models[i].computed[p]);
                n_needed += needed[i][p];
            }
            assert_int_equal(models[i].n_computed, n_needed);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_run_of_lost_hops_is_one_gap),
        cmocka_unit_test(a_whole_chain_needs_nothing),
        cmocka_unit_test(newcomers_are_fed_by_the_hop_before_them),
        cmocka_unit_test(what_newcomers_have_already_is_not_sent_again),
        cmocka_unit_test(a_hop_that_lacks_kept_rows_computes_them_again),
        cmocka_unit_test(replays_bring_every_hop_there_and_compute_nothing_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
