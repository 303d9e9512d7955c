/* test_kill.c - a server of a chain is killed at any moment of a session: the same bits as if nothing had happened.
 *
 *   test_kill          a sample, by the seed in COROLLA_TEST_SEED or a random one that is printed
 *   test_kill full     every server at every position of a generation, between two steps and inside one, and all moments of a prompt;
 *                      so does COROLLA_TEST_FULL=1
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "rig.h"
#include "support/sanitized.h"

#define PROMPT 150 /* before a generation; two chunks */
#define GENERATED 64
#define LONG_PROMPT 500 /* four chunks */
#define CHUNKS 4
#define CHUNK 128
#define SAMPLE (SANITIZED ? 8 : 40)         /* kills in a generation ... */
#define SAMPLE_PROMPTS (SANITIZED ? 6 : 24) /* ... and in a prompt */

static uint64_t seed;
static bool full;
#define KILLS_MAX 1024
static uint32_t n_kills;
static double pauses_ms[KILLS_MAX];

/* ---- in a generation ------------------------------------------------------------------------------------------- */

static void kill_in_generation(uint32_t span, uint32_t at, bool inside) {
    struct client c;
    struct killer killer;
    rig_start_all();
    client_open(&c, &(struct client_config){.wait_ms = 0});
    client_step(&c, 0, PROMPT);
    uint64_t start_us = clock_us();
    client_generate(&c, PROMPT, at);
    uint64_t step_us = at > 0 ? (clock_us() - start_us) / at : 1000;
    struct serve *lost = client_hop(&c, span);
    print_message("kill of the server of blocks %u:%u at position %u %s\n", lost->begin, lost->end, at, inside ? "inside a step" : "");
    if (inside)
        kill_begin(&killer, lost, (uint32_t)rig_random(&seed, step_us));
    else
        serve_kill(lost);
    client_generate(&c, PROMPT + at, GENERATED - at);
    if (inside) kill_end(&killer);
    client_generate(&c, PROMPT + GENERATED, 1); /* it may have come that late */
    check_n_events(&c, 1);
    check_event(&c, 0, COROLLA_EVENT_RECOVERED, lost, "crashed");
    assert_in_range(c.events[0].position, PROMPT + at, PROMPT + (inside ? GENERATED : at));
    assert_ptr_equal(client_hop(&c, span), replica_of(lost));
    client_check_work(&c, PROMPT + GENERATED + 1, inside); /* a result that came too late */
    pauses_ms[n_kills++] = c.events[0].pause_ms;
}

static void a_server_dies_at_a_position_of_a_generation(void **state) {
    (void)state;
    for (uint32_t i = 0; !full && i < SAMPLE; i++)
        kill_in_generation(i % SPANS, (uint32_t)rig_random(&seed, GENERATED), rig_random(&seed, 2) == 1);
    for (uint32_t i = 0; full && i < SPANS * GENERATED * 2; i++) kill_in_generation(i / 2 % SPANS, i / 2 / SPANS, i % 2 == 1);
}

/* ---- in a prompt ----------------------------------------------------------------------------------------------- */

struct prompt_kill {
    struct serve *lost;
    struct killer killer;
    uint32_t at; /* rows done */
    bool inside, begun;
    uint32_t delay_us;
};

static void on_progress(void *user, const char *what, uint64_t done, uint64_t total) {
    struct prompt_kill *k = user;
    (void)what;
    (void)total;
    if (k->begun || done < k->at) return;
    k->begun = true;
    if (k->inside)
        kill_begin(&k->killer, k->lost, k->delay_us);
    else
        serve_kill(k->lost);
}

static uint64_t prompt_us; /* what it takes undisturbed */

/* chunk: how many of them are back. */
static void kill_in_prompt(uint32_t span, uint32_t chunk, bool inside) {
    struct client c;
    rig_start_all();
    client_open(&c, &(struct client_config){.wait_ms = 0});
    struct prompt_kill k = {.lost = client_hop(&c, span), .at = chunk * CHUNK, .inside = inside};
    k.delay_us = (uint32_t)rig_random(&seed, prompt_us / CHUNKS);
    print_message("kill of the server of blocks %u:%u in a prompt, %u chunks done %s\n", k.lost->begin, k.lost->end, chunk,
                  inside ? "and inside the next" : "");
    if (chunk == 0) on_progress(&k, "prompt", 0, LONG_PROMPT);
    client_run(&c, 0, LONG_PROMPT, on_progress, &k);
    if (inside) kill_end(&k.killer);
    client_generate(&c, LONG_PROMPT, 1);
    check_n_events(&c, 1);
    check_event(&c, 0, COROLLA_EVENT_RECOVERED, k.lost, "crashed");
    assert_in_range(c.events[0].position, k.at, LONG_PROMPT);
    client_check_work(&c, LONG_PROMPT + 1, LONG_PROMPT + 1 - c.events[0].position); /* only what was under way is done again */
    pauses_ms[n_kills++] = c.events[0].pause_ms;
}

static void a_server_dies_in_a_prompt(void **state) {
    (void)state;
    struct client c;
    client_open(&c, &(struct client_config){.wait_ms = 0});
    uint64_t start_us = clock_us();
    client_step(&c, 0, LONG_PROMPT);
    prompt_us = clock_us() - start_us;
    client_check_work(&c, LONG_PROMPT, 0);
    uint32_t n = full ? 4 * SPANS * CHUNKS * 2 : SAMPLE_PROMPTS;
    for (uint32_t i = 0; i < n; i++) kill_in_prompt(i / 2 % SPANS, i / 2 / SPANS % CHUNKS, i % 2 == 1);
}

static int by_size(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void print_pauses(double s) {
    qsort(pauses_ms, n_kills, sizeof *pauses_ms, by_size);
    if (n_kills > 0)
        print_message("%u kills in %.0f s; pauses: median %.0f ms, longest %.0f ms\n", n_kills, s, pauses_ms[n_kills / 2],
                      pauses_ms[n_kills - 1]);
}

/* ---- the program ----------------------------------------------------------------------------------------------- */

int main(int argc, char **argv) {
    rig_seed(&seed);
    full = !SANITIZED && ((argc > 1 && strcmp(argv[1], "full") == 0) || getenv("COROLLA_TEST_FULL") != NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_dies_at_a_position_of_a_generation),
        cmocka_unit_test(a_server_dies_in_a_prompt),
    };
    uint64_t start_us = clock_us();
    int failed = cmocka_run_group_tests(tests, rig_open, rig_close);
    print_pauses((double)(clock_us() - start_us) / 1e6);
    return failed;
}
