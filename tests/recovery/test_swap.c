/* test_swap.c - more sessions than there is memory for: idle ones go to disk and come back, and every bit is the same, whatever else
 * happens to them. Three servers in this process, of which each holds the KV of two sessions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <corolla.h>

#include "support/scratch.h"
#include "support/tiny.h"

#define SERVERS 3
#define BLOCKS 5
#define TOKENS 128 /* of a session */
#define SESSIONS 6

static const uint32_t cuts[SERVERS + 1] = {0, 2, 4, 5};
static struct corolla_model *model;
static struct corolla_server *servers[SERVERS];
static struct corolla_swarm *swarm, *local;
static int32_t text[TOKENS];
static uint32_t n_embd;
static float *rows, *rights; /* [TOKENS, n_embd] */

static void must(enum corolla_status status, const struct corolla_error *err) {
    if (status != COROLLA_OK) fail_msg("%s: %s", corolla_status_name(status), err->message);
}

static void start_servers(uint64_t swap_bytes) {
    struct corolla_error err;
    const char *joins[SERVERS];
    struct corolla_server_config config;
    for (uint32_t i = 0; i < SERVERS; i++) {
        corolla_server_config_default(&config);
        config.listen = "127.0.0.1:0";
        config.home = scratch_file("home");
        config.begin = cuts[i];
        config.end = cuts[i + 1];
        config.threads = 1;
        config.cache_tokens = 2 * TOKENS;
        config.swap_bytes = swap_bytes;
        must(corolla_server_start(&servers[i], model, &config, &err), &err);
        joins[i] = corolla_server_join_code(servers[i]);
    }
    struct corolla_swarm_config client;
    corolla_swarm_config_default(&client);
    client.home = scratch_file("client");
    client.joins = joins;
    client.n_joins = SERVERS;
    client.wait_ms = 20000;
    must(corolla_swarm_open(&swarm, model, &client, &err), &err);
}

static void stop_servers(void) {
    corolla_swarm_close(swarm);
    for (uint32_t i = 0; i < SERVERS; i++) corolla_server_stop(servers[i]);
}

static int setup(void **state) {
    struct tiny_config tiny;
    struct corolla_error err;
    struct corolla_swarm_config config;
    (void)state;
    tiny_config_default(&tiny, "llama");
    tiny.type = "q8_0";
    assert_int_equal(tiny.n_blocks, BLOCKS);
    assert_true(tiny_write(&tiny, scratch_file("tiny.gguf")));
    must(corolla_model_open(&model, scratch_file("tiny.gguf"), NULL, NULL, &err), &err);
    n_embd = corolla_model_info(model)->n_embd;
    corolla_swarm_config_default(&config);
    config.local = true;
    config.threads = 1;
    must(corolla_swarm_open(&local, model, &config, &err), &err);
    rows = calloc(2 * TOKENS * (size_t)n_embd, sizeof *rows);
    rights = rows + TOKENS * (size_t)n_embd;
    return 0;
}

static int teardown(void **state) {
    (void)state;
    free(rows);
    corolla_swarm_close(local);
    corolla_model_close(model);
    scratch_remove();
    return 0;
}

/* The text of session s: all differ from the first token on. */
static void make_text(uint32_t s) {
    for (uint32_t i = 0; i < TOKENS; i++) text[i] = (int32_t)((s * 31 + i * 7 + 3) % corolla_model_info(model)->n_vocab);
}

static void open_one(struct corolla_session **out) {
    struct corolla_error err;
    must(corolla_session_open(out, swarm, TOKENS, &err), &err);
}

/* Tokens of the text of session s; all rows must be right. */
static void step(struct corolla_session *session, uint32_t s, uint32_t position, uint32_t n) {
    struct corolla_error err;
    struct corolla_session *alone;
    make_text(s);
    must(corolla_session_step(session, position, text + position, n, rows, n, &err), &err);
    must(corolla_session_open(&alone, local, TOKENS, &err), &err);
    if (position > 0) must(corolla_session_step(alone, 0, text, position, NULL, 0, &err), &err);
    must(corolla_session_step(alone, position, text + position, n, rights, n, &err), &err);
    corolla_session_close(alone);
    assert_memory_equal(rows, rights, n * n_embd * sizeof *rows);
}

static struct corolla_server_stats stats_of(uint32_t server) {
    struct corolla_server_stats stats;
    corolla_server_stats(servers[server], &stats);
    return stats;
}

/* Rows that all servers computed. */
static uint64_t computed(void) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < SERVERS; i++) n += stats_of(i).decode_rows + stats_of(i).prefill_rows;
    return n;
}

static void idle_sessions_go_and_come_back_with_the_same_bits(void **state) {
    struct corolla_session *sessions[SESSIONS];
    uint64_t asked = 0;
    (void)state;
    start_servers(64 << 20);
    for (uint32_t s = 0; s < SESSIONS; s++) {
        open_one(&sessions[s]);
        step(sessions[s], s, 0, 20 + s);
        asked += 20 + s;
    }
    for (uint32_t i = 0; i < SERVERS; i++) assert_true(stats_of(i).swapped >= SESSIONS - 2);
    for (uint32_t s = 0; s < SESSIONS; s++) { /* on, by one and by several, and back */
        step(sessions[s], s, 20 + s, 1);
        step(sessions[s], s, 21 + s, 30);
        step(sessions[s], s, 40, 5);
        asked += 36;
    }
    assert_int_equal(computed(), SERVERS * asked); /* nothing was computed twice */
    for (uint32_t i = 0; i < SERVERS; i++) assert_true(stats_of(i).swaps >= SESSIONS - 2);
    for (uint32_t s = 0; s < SESSIONS; s++) corolla_session_close(sessions[s]);
    open_one(&sessions[0]); /* what was away when it was closed left nothing behind */
    open_one(&sessions[1]);
    step(sessions[0], 3, 0, TOKENS);
    step(sessions[1], 4, 0, TOKENS);
    corolla_session_close(sessions[0]);
    corolla_session_close(sessions[1]);
    stop_servers();
}

static void a_fork_of_one_that_is_away_has_its_bits(void **state) {
    struct corolla_error err;
    struct corolla_session *parent, *fork, *others[2];
    (void)state;
    start_servers(64 << 20);
    open_one(&parent);
    step(parent, 0, 0, 50);
    for (uint32_t i = 0; i < 2; i++) {
        open_one(&others[i]);
        step(others[i], 1 + i, 0, 10);
    }
    assert_true(stats_of(0).swapped > 0);
    enum corolla_status status;
    for (uint32_t tries = 0; (status = corolla_session_fork(&fork, parent, &err)) != COROLLA_OK && tries < 100; tries++) {
        struct timespec moment = {.tv_nsec = 100000000};
        assert_true(status == COROLLA_BUSY || status == COROLLA_NO_CACHE);
        nanosleep(&moment, NULL);
    }
    must(status, &err);
    step(fork, 0, 50, 7);
    step(parent, 0, 30, 40);
    corolla_session_close(fork);
    corolla_session_close(parent);
    for (uint32_t i = 0; i < 2; i++) corolla_session_close(others[i]);
    stop_servers();
}

/* The middle server is replaced while sessions are away: the one before it is asked for rows that are on its disk. */
static void rows_of_one_that_is_away_are_replayed(void **state) {
    struct corolla_error err;
    struct corolla_session *sessions[3];
    struct corolla_server *spare;
    struct corolla_server_config config;
    (void)state;
    start_servers(64 << 20);
    for (uint32_t s = 0; s < 3; s++) {
        open_one(&sessions[s]);
        step(sessions[s], s, 0, 40);
    }
    corolla_server_config_default(&config);
    config.listen = "127.0.0.1:0";
    config.home = scratch_file("spare");
    config.begin = cuts[1];
    config.end = cuts[2];
    config.threads = 1;
    config.cache_tokens = 4 * TOKENS;
    const char *joins[] = {corolla_server_join_code(servers[0])};
    config.joins = joins;
    config.n_joins = 1;
    must(corolla_server_start(&spare, model, &config, &err), &err);
    assert_true(stats_of(0).swapped > 0);
    corolla_server_stop(servers[1]); /* no client waits: it goes at once */
    servers[1] = spare;
    uint64_t before = stats_of(0).decode_rows + stats_of(0).prefill_rows;
    for (uint32_t s = 0; s < 3; s++) step(sessions[s], s, 40, 3);
    assert_int_equal(stats_of(0).decode_rows + stats_of(0).prefill_rows - before, 9); /* it sent what it had, and computed nothing of it */
    assert_true(stats_of(0).replayed_rows >= 3 * 40);
    for (uint32_t s = 0; s < 3; s++) corolla_session_close(sessions[s]);
    stop_servers();
}

/* Without a file, or when it is full, it is as before: there is no room. */
static void a_full_file_takes_nobody(void **state) {
    static const uint64_t sizes[] = {0, 1};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct corolla_session *a, *b, *none = NULL;
        struct corolla_error err;
        start_servers(sizes[i]);
        open_one(&a);
        open_one(&b);
        step(a, 0, 0, 30);
        step(b, 1, 0, 30);
        struct corolla_swarm_config config;
        struct corolla_swarm *hasty;
        const char *joins[SERVERS];
        for (uint32_t s = 0; s < SERVERS; s++) joins[s] = corolla_server_join_code(servers[s]);
        corolla_swarm_config_default(&config);
        config.home = scratch_file("hasty");
        config.joins = joins;
        config.n_joins = SERVERS;
        config.wait_ms = 1500;
        must(corolla_swarm_open(&hasty, model, &config, &err), &err);
        if (corolla_session_open(&none, hasty, TOKENS, &err) == COROLLA_OK) fail_msg("there was room, with a file of %d", (int)sizes[i]);
        corolla_swarm_close(hasty);
        step(a, 0, 30, 10);
        step(b, 1, 30, 10);
        assert_int_equal(stats_of(0).swaps, 0);
        corolla_session_close(a);
        corolla_session_close(b);
        stop_servers();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_sessions_go_and_come_back_with_the_same_bits),
        cmocka_unit_test(a_fork_of_one_that_is_away_has_its_bits),
        cmocka_unit_test(rows_of_one_that_is_away_are_replayed),
        cmocka_unit_test(a_full_file_takes_nobody),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
