/* test_swap.c - more sessions than there is memory for: idle ones go to disk and come back, and every bit is the same, whatever else
 * happens to them. Three servers in this process, of which each holds the KV of two sessions.
 */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

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

/* A server of the blocks between two cuts; join: NULL, or another one's code. */
static struct corolla_server *start_server(uint32_t index, const char *home, uint32_t cache_tokens, uint64_t swap_bytes, const char *join) {
    struct corolla_error err;
    struct corolla_server *server;
    struct corolla_server_config config;
    corolla_server_config_default(&config);
    config.listen = "127.0.0.1:0";
    config.home = scratch_file(home);
    config.begin = cuts[index];
    config.end = cuts[index + 1];
    config.threads = 1;
    config.cache_tokens = cache_tokens;
    config.swap_bytes = swap_bytes;
    config.joins = &join;
    config.n_joins = join != NULL;
    must(corolla_server_start(&server, model, &config, &err), &err);
    return server;
}

static struct corolla_swarm *enter(const char *home, uint32_t wait_ms) {
    struct corolla_error err;
    struct corolla_swarm *entered;
    struct corolla_swarm_config config;
    const char *joins[SERVERS];
    for (uint32_t i = 0; i < SERVERS; i++) joins[i] = corolla_server_join_code(servers[i]);
    corolla_swarm_config_default(&config);
    config.home = scratch_file(home);
    config.joins = joins;
    config.n_joins = SERVERS;
    config.wait_ms = wait_ms;
    must(corolla_swarm_open(&entered, model, &config, &err), &err);
    return entered;
}

static void start_servers(uint64_t swap_bytes) {
    for (uint32_t i = 0; i < SERVERS; i++) servers[i] = start_server(i, "home", 2 * TOKENS, swap_bytes, NULL);
    swarm = enter("client", 20000);
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

/* `got` [n, n_embd] is what the text of session s gives. */
static void check_rows(const float *got, uint32_t s, uint32_t position, uint32_t n) {
    struct corolla_error err;
    struct corolla_session *alone;
    make_text(s);
    must(corolla_session_open(&alone, local, TOKENS, &err), &err);
    if (position > 0) must(corolla_session_step(alone, 0, text, position, NULL, 0, &err), &err);
    must(corolla_session_step(alone, position, text + position, n, rights, n, &err), &err);
    corolla_session_close(alone);
    assert_memory_equal(got, rights, n * n_embd * sizeof *got);
}

/* Tokens of the text of session s; all rows must be right. */
static void step(struct corolla_session *session, uint32_t s, uint32_t position, uint32_t n) {
    struct corolla_error err;
    make_text(s);
    must(corolla_session_step(session, position, text + position, n, rows, n, &err), &err);
    check_rows(rows, s, position, n);
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

/* All want to come back at the same time, to half of the room that they need. */
static void all_step_at_once_after_a_rest(void **state) {
    enum { ALL = 4, ROUNDS = 6 };
    struct corolla_session *sessions[ALL];
    struct corolla_error err;
    float *got = calloc(ALL * (size_t)n_embd, sizeof *got);
    int32_t tokens[ALL];
    uint64_t asked = 0;
    (void)state;
    start_servers(64 << 20);
    for (uint32_t s = 0; s < ALL; s++) {
        open_one(&sessions[s]);
        step(sessions[s], s, 0, 20);
        asked += 20;
    }
    for (uint32_t round = 0; round < ROUNDS; round++) {
        struct corolla_step steps[ALL];
        struct timespec rest = {.tv_nsec = 550000000};
        nanosleep(&rest, NULL);
        for (uint32_t s = 0; s < ALL; s++) {
            make_text(s);
            tokens[s] = text[20 + round];
            steps[s] = (struct corolla_step){
                .parent = s, .position = 20 + round, .tokens = &tokens[s], .n = 1, .out_hidden = got + s * (size_t)n_embd, .n_rows = 1};
        }
        must(corolla_sessions_step(sessions, steps, ALL, &err), &err);
        for (uint32_t s = 0; s < ALL; s++) check_rows(got + s * (size_t)n_embd, s, 20 + round, 1);
        asked += ALL;
    }
    assert_int_equal(computed(), SERVERS * asked);
    for (uint32_t s = 0; s < ALL; s++) corolla_session_close(sessions[s]);
    stop_servers();
    free(got);
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
    struct corolla_session *sessions[3];
    (void)state;
    start_servers(64 << 20);
    for (uint32_t s = 0; s < 3; s++) {
        open_one(&sessions[s]);
        step(sessions[s], s, 0, 40);
    }
    struct corolla_server *spare = start_server(1, "spare", 4 * TOKENS, 0, corolla_server_join_code(servers[0]));
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

/* For one session more, and for a client that does not wait long. */
static bool is_room(void) {
    struct corolla_error err;
    struct corolla_session *session = NULL;
    struct corolla_swarm *hasty = enter("hasty", 1500);
    bool room = corolla_session_open(&session, hasty, TOKENS, &err) == COROLLA_OK;
    corolla_session_close(session);
    corolla_swarm_close(hasty);
    return room;
}

/* Without a file, or when it is full, it is as before: there is no room. */
static void a_full_file_takes_nobody(void **state) {
    static const uint64_t sizes[] = {0, 1};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct corolla_session *a, *b;
        start_servers(sizes[i]);
        open_one(&a);
        open_one(&b);
        step(a, 0, 0, 30);
        step(b, 1, 0, 30);
        if (is_room()) fail_msg("there was room, with a file of %d", (int)sizes[i]);
        step(a, 0, 30, 10);
        step(b, 1, 30, 10);
        assert_int_equal(stats_of(0).swaps, 0);
        corolla_session_close(a);
        corolla_session_close(b);
        stop_servers();
    }
}

/* The disk is full, which is seen when a session was sent there already: it stays, and nobody is sent after it. */
static void a_session_that_cannot_go_goes_on(void **state) {
    struct corolla_session *a, *b;
    struct rlimit before, none;
    (void)state;
    start_servers(64 << 20);
    open_one(&a);
    open_one(&b);
    step(a, 0, 0, 30);
    step(b, 1, 0, 30);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    none = (struct rlimit){.rlim_cur = 4096, .rlim_max = before.rlim_max}; /* room for the files of a home */
    setrlimit(RLIMIT_FSIZE, &none);
    for (uint32_t i = 0; i < SERVERS; i++) is_room(); /* who comes first takes what another one seemed to leave */
    assert_false(is_room());
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(stats_of(0).swapped, 0);
    step(a, 0, 30, 10);
    step(b, 1, 30, 10);
    assert_int_equal(stats_of(0).swaps, 0);
    corolla_session_close(a);
    assert_true(is_room());
    corolla_session_close(b);
    stop_servers();
}

/* All files of idle sessions are empty from now on; how many there were. */
static uint32_t lose_files(void) {
    DIR *folder = opendir("/proc/self/fd");
    int null = open("/dev/null", O_RDWR);
    uint32_t n = 0;
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char target[512] = {0};
        if (readlinkat(dirfd(folder), entry->d_name, target, sizeof target - 1) <= 0 || !strstr(target, "/swap-")) continue;
        dup2(null, atoi(entry->d_name));
        n++;
    }
    close(null);
    closedir(folder);
    return n;
}

/* The client is told of it: it did not wait until a silent server was given up. */
static void note_loss(void *user, const struct corolla_event *event) {
    if (event->pause_ms >= 4000) fail_msg("nobody told the client for %.0f ms", event->pause_ms);
    if (event->kind == COROLLA_EVENT_RECOVERED && strcmp(event->reason, "crashed") == 0) ++*(uint32_t *)user;
}

static void a_session_that_cannot_come_back_is_made_again(void **state) {
    struct corolla_session *sessions[3];
    uint32_t lost = 0;
    (void)state;
    start_servers(64 << 20);
    for (uint32_t s = 0; s < 3; s++) {
        open_one(&sessions[s]);
        step(sessions[s], s, 0, 30);
    }
    assert_true(stats_of(0).swapped > 0);
    assert_int_equal(lose_files(), SERVERS);
    corolla_session_watch(sessions[0], note_loss, &lost);
    step(sessions[0], 0, 30, 10);
    assert_true(lost > 0);
    for (uint32_t s = 0; s < 3; s++) corolla_session_close(sessions[s]);
    stop_servers();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_sessions_go_and_come_back_with_the_same_bits),
        cmocka_unit_test(all_step_at_once_after_a_rest),
        cmocka_unit_test(a_fork_of_one_that_is_away_has_its_bits),
        cmocka_unit_test(rows_of_one_that_is_away_are_replayed),
        cmocka_unit_test(a_full_file_takes_nobody),
        cmocka_unit_test(a_session_that_cannot_go_goes_on),
        cmocka_unit_test(a_session_that_cannot_come_back_is_made_again),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
