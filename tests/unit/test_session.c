/* test_session.c - sessions through real servers in this process, and one that is killed, against the blocks of this process.
 *
 * Everything goes through the public API. The model is a tiny one of five blocks; "test_session FILE" takes another.
 */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <corolla.h>

#include "base/clock.h"
#include "support/tiny.h"

#define SERVERS_MAX 5
#define SESSION_TOKENS 512
#define PROMPT 300  /* three chunks through a chain */
#define WAIT_MS 500 /* for a server in the place of a lost one */

static char folder[] = "/tmp/corolla-session-XXXXXX";
static char model_path[4096], other_path[4096];
static const char *program, *given_model;
static struct corolla_model *model;
static const struct corolla_model_info *info;
static struct corolla_swarm *local;
static int32_t prompt[SESSION_TOKENS];

/* ---- servers and swarms ---------------------------------------------------------------------------------------- */

struct servers {
    uint32_t n;
    struct corolla_server *server[SERVERS_MAX];
    const char *joins[SERVERS_MAX];
};

static void must(enum corolla_status status, const struct corolla_error *err) {
    if (status != COROLLA_OK) fail_msg("%s: %s", corolla_status_name(status), err->message);
}

/* joins: of servers that it finds; NULL: it is alone. */
static struct corolla_server *serve(struct corolla_model *m, uint32_t begin, uint32_t end, uint32_t cache_tokens,
                                    const struct servers *joins) {
    struct corolla_server_config config;
    corolla_server_config_default(&config);
    config.begin = begin;
    config.end = end;
    config.listen = "127.0.0.1:0";
    config.threads = 1;
    if (cache_tokens != 0) config.cache_tokens = cache_tokens;
    if (joins != NULL) {
        config.joins = joins->joins;
        config.n_joins = joins->n;
    }
    struct corolla_server *server;
    struct corolla_error err;
    must(corolla_server_start(&server, m, &config, &err), &err);
    return server;
}

static void servers_add(struct servers *servers, struct corolla_model *m, uint32_t begin, uint32_t end, uint32_t cache_tokens) {
    uint32_t i = servers->n++;
    servers->server[i] = serve(m, begin, end, cache_tokens, NULL);
    servers->joins[i] = corolla_server_join_code(servers->server[i]);
}

/* n servers with uneven spans. */
static void servers_start(struct servers *servers, uint32_t n) {
    *servers = (struct servers){.n = 0};
    for (uint32_t i = 0, begin = 0; i < n; i++) {
        uint32_t end = i + 1 == n ? info->n_blocks : begin + (info->n_blocks - begin) / (n - i);
        servers_add(servers, model, begin, end, 0);
        begin = end;
    }
}

static void servers_stop(struct servers *servers) {
    for (uint32_t i = 0; i < servers->n; i++) corolla_server_stop(servers->server[i]);
    servers->n = 0;
}

static enum corolla_status try_join(struct corolla_swarm **out, const struct servers *servers, enum corolla_wire wire, bool exact,
                                    struct corolla_error *err) {
    struct corolla_swarm_config config;
    corolla_swarm_config_default(&config);
    config.joins = servers->joins;
    config.n_joins = servers->n;
    config.wire = wire;
    config.exact = exact;
    config.wait_ms = WAIT_MS;
    return corolla_swarm_open(out, model, &config, err);
}

static struct corolla_swarm *join(const struct servers *servers) {
    struct corolla_swarm *swarm;
    struct corolla_error err;
    must(try_join(&swarm, servers, COROLLA_WIRE_F32, false, &err), &err);
    return swarm;
}

static struct corolla_session *session_of(struct corolla_swarm *swarm) {
    struct corolla_session *session;
    struct corolla_error err;
    must(corolla_session_open(&session, swarm, SESSION_TOKENS, &err), &err);
    return session;
}

static void step(struct corolla_session *session, uint32_t position, const int32_t *tokens, uint32_t n, float *out, uint32_t n_rows) {
    struct corolla_error err;
    must(corolla_session_step(session, position, tokens, n, out, n_rows, &err), &err);
}

static float *rows_new(uint32_t n) {
    float *rows = calloc((size_t)n * info->n_embd, sizeof *rows);
    assert_non_null(rows);
    return rows;
}

static void rows_equal(const float *a, const float *b, uint32_t n, const char *what) {
    for (uint32_t i = 0; i < n; i++)
        if (memcmp(a + (size_t)i * info->n_embd, b + (size_t)i * info->n_embd, info->n_embd * sizeof *a) != 0)
            fail_msg("%s: row %u of %u differs", what, i, n);
}

/* ---- the same through every chain ------------------------------------------------------------------------------ */

static void generate_greedily(struct corolla_session *session, struct corolla_result *result) {
    struct corolla_generation generation;
    corolla_generation_default(&generation);
    generation.sampling.temp = 0;
    generation.max_new_tokens = 48;
    struct corolla_error err;
    must(corolla_generate(session, 0, prompt, 20, &generation, result, &err), &err);
}

static void any_number_of_servers_gives_the_bits_of_one_process(void **state) {
    (void)state;
    float *want = rows_new(PROMPT), *got = rows_new(PROMPT);
    struct corolla_result want_result, result;
    struct corolla_session *session = session_of(local);
    step(session, 0, prompt, PROMPT, want, PROMPT);
    generate_greedily(session, &want_result);
    corolla_session_close(session);
    const uint32_t counts[] = {1, 2, 3, 5};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct servers servers;
        servers_start(&servers, counts[i]);
        struct corolla_swarm *swarm = join(&servers);
        assert_int_equal(corolla_swarm_chain(swarm, NULL, 0), counts[i]);
        assert_true(corolla_swarm_exact(swarm));
        session = session_of(swarm);
        step(session, 0, prompt, PROMPT, got, PROMPT);
        assert_int_equal(corolla_session_position(session), PROMPT);
        rows_equal(got, want, PROMPT, "all rows through servers");
        step(session, 0, prompt, PROMPT, got, 3);
        rows_equal(got, want + (size_t)(PROMPT - 3) * info->n_embd, 3, "the last three rows through servers");
        struct corolla_hop_timing timings[SERVERS_MAX];
        uint32_t total_us;
        assert_int_equal(corolla_session_timings(session, timings, SERVERS_MAX, &total_us), counts[i]);
        for (uint32_t k = 0; k < counts[i]; k++) assert_in_range(timings[k].compute_us, 1, total_us);
        generate_greedily(session, &result);
        assert_int_equal(result.n_tokens, want_result.n_tokens);
        assert_memory_equal(result.tokens, want_result.tokens, result.n_tokens * sizeof *result.tokens);
        assert_string_equal(result.text, want_result.text);
        corolla_result_clear(&result);
        corolla_session_close(session);
        corolla_swarm_close(swarm);
        servers_stop(&servers);
    }
    corolla_result_clear(&want_result);
    free(want);
    free(got);
}

static void a_chain_may_use_a_part_of_a_span(void **state) {
    (void)state;
    uint32_t last = info->n_blocks;
    struct servers servers = {.n = 0};
    servers_add(&servers, model, 0, last - 1, 0);
    servers_add(&servers, model, 1, last, 0);
    struct corolla_swarm *swarm = join(&servers);
    struct corolla_hop hops[2];
    assert_int_equal(corolla_swarm_chain(swarm, hops, 2), 2);
    assert_int_equal(hops[0].begin, 0);
    assert_int_equal(hops[0].end, hops[1].begin);
    assert_int_equal(hops[1].end, last);
    float *want = rows_new(1), *got = rows_new(1);
    struct corolla_session *a = session_of(local), *b = session_of(swarm);
    step(a, 0, prompt, 20, want, 1);
    step(b, 0, prompt, 20, got, 1);
    rows_equal(got, want, 1, "overlapping spans");
    corolla_session_close(a);
    corolla_session_close(b);
    corolla_swarm_close(swarm);
    servers_stop(&servers);
    free(want);
    free(got);
}

static void hidden_states_can_take_the_place_of_tokens(void **state) {
    (void)state;
    struct servers servers;
    servers_start(&servers, 2);
    struct corolla_swarm *swarm = join(&servers);
    struct corolla_session *a = session_of(local), *b = session_of(swarm);
    float *rows = rows_new(PROMPT), *want = rows_new(PROMPT), *got = rows_new(PROMPT);
    for (size_t i = 0; i < (size_t)PROMPT * info->n_embd; i++) rows[i] = (float)((i * 2654435761u >> 7) % 1000) / 1000 - 0.5f;
    struct corolla_error err;
    must(corolla_session_step_hidden(a, 0, rows, PROMPT, want, PROMPT, &err), &err);
    must(corolla_session_step_hidden(b, 0, rows, PROMPT, got, PROMPT, &err), &err);
    rows_equal(got, want, PROMPT, "hidden states through servers");
    corolla_session_close(a);
    corolla_session_close(b);
    corolla_swarm_close(swarm);
    servers_stop(&servers);
    free(rows);
    free(want);
    free(got);
}

/* ---- sessions -------------------------------------------------------------------------------------------------- */

static void check_interleaved(struct corolla_swarm *swarm) {
    enum { LENGTH = 12 };
    float *want = rows_new(2 * LENGTH), *got = rows_new(2 * LENGTH);
    for (uint32_t k = 0; k < 2; k++) {
        struct corolla_session *alone = session_of(swarm);
        for (uint32_t i = 0; i < LENGTH; i++) step(alone, i, prompt + 20 * k + i, 1, want + (size_t)(k * LENGTH + i) * info->n_embd, 1);
        corolla_session_close(alone);
    }
    struct corolla_session *both[2] = {session_of(swarm), session_of(swarm)};
    for (uint32_t i = 0; i < LENGTH; i++)
        for (uint32_t k = 0; k < 2; k++) step(both[k], i, prompt + 20 * k + i, 1, got + (size_t)(k * LENGTH + i) * info->n_embd, 1);
    rows_equal(got, want, 2 * LENGTH, "interleaved sessions");
    corolla_session_close(both[0]);
    corolla_session_close(both[1]);
    free(want);
    free(got);
}

static void check_rollback(struct corolla_swarm *swarm) {
    float *want = rows_new(1), *got = rows_new(1);
    struct corolla_session *fresh = session_of(swarm), *rolled = session_of(swarm);
    step(fresh, 0, prompt, 100, NULL, 0);
    step(fresh, 100, prompt + 250, 30, want, 1);
    step(rolled, 0, prompt, 200, NULL, 0);
    step(rolled, 100, prompt + 250, 30, got, 1);
    assert_int_equal(corolla_session_position(rolled), 130);
    rows_equal(got, want, 1, "after rolling back");
    struct corolla_error err;
    assert_int_equal(corolla_session_step(rolled, 131, prompt, 1, NULL, 0, &err), COROLLA_BAD_POSITION);
    assert_int_equal(corolla_session_step(rolled, 130, prompt, SESSION_TOKENS - 129, NULL, 0, &err), COROLLA_TOO_LONG);
    corolla_session_close(fresh);
    corolla_session_close(rolled);
    free(want);
    free(got);
}

static void sessions_do_not_see_each_other_and_roll_back(void **state) {
    (void)state;
    struct servers servers;
    servers_start(&servers, 3);
    struct corolla_swarm *swarm = join(&servers);
    check_interleaved(local);
    check_interleaved(swarm);
    check_rollback(local);
    check_rollback(swarm);
    corolla_swarm_close(swarm);
    servers_stop(&servers);
}

struct worker {
    struct corolla_swarm *swarm;
    uint32_t offset;
    float *out;
};

static void *work(void *user) {
    struct worker *worker = user;
    struct corolla_session *session = session_of(worker->swarm);
    step(session, 0, prompt + worker->offset, 150, worker->out, 1);
    for (uint32_t i = 150; i < 160; i++) step(session, i, prompt + worker->offset + i, 1, worker->out, 1);
    corolla_session_close(session);
    return NULL;
}

static void check_threads(struct corolla_swarm *swarm) {
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    struct worker workers[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.swarm = swarm, .offset = 10 * i, .out = rows_new(1)};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    float *want = rows_new(1);
    for (uint32_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        struct worker alone = {.swarm = local, .offset = 10 * i, .out = want};
        work(&alone);
        rows_equal(workers[i].out, want, 1, "a session of a thread");
        free(workers[i].out);
    }
    free(want);
}

static void threads_have_sessions_of_one_swarm(void **state) {
    (void)state;
    struct servers servers;
    servers_start(&servers, 2);
    struct corolla_swarm *swarm = join(&servers);
    check_threads(local);
    check_threads(swarm);
    corolla_swarm_close(swarm);
    servers_stop(&servers);
}

static void cancel_at_progress(void *user, const char *what, uint64_t done, uint64_t total) {
    (void)what;
    if (done < total) corolla_session_cancel(user);
}

static void check_cancel(struct corolla_swarm *swarm) {
    float *want = rows_new(1), *got = rows_new(1);
    struct corolla_session *fresh = session_of(local), *session = session_of(swarm);
    step(fresh, 0, prompt, 40, want, 1);
    struct corolla_generation generation;
    corolla_generation_default(&generation);
    generation.max_new_tokens = 1;
    generation.on_progress = cancel_at_progress;
    generation.user = session;
    struct corolla_result result;
    struct corolla_error err;
    assert_int_equal(corolla_generate(session, 0, prompt, SESSION_TOKENS - 2, &generation, &result, &err), COROLLA_CANCELLED);
    corolla_result_clear(&result);
    uint32_t position = corolla_session_position(session);
    assert_in_range(position, 1, SESSION_TOKENS - 3);
    assert_int_equal(corolla_session_step(session, 0, prompt, 1, NULL, 0, &err), COROLLA_CANCELLED);
    corolla_session_cancel_clear(session);
    uint32_t keep = position < 30 ? position : 30;
    step(session, keep, prompt + keep, 40 - keep, got, 1);
    rows_equal(got, want, 1, "after a cancelled prompt");
    corolla_session_close(fresh);
    corolla_session_close(session);
    free(want);
    free(got);
}

static void a_cancelled_prompt_stops_and_the_session_goes_on(void **state) {
    (void)state;
    struct servers servers;
    servers_start(&servers, 2);
    struct corolla_swarm *swarm = join(&servers);
    check_cancel(local);
    check_cancel(swarm);
    corolla_swarm_close(swarm);
    servers_stop(&servers);
}

static void sixteen_bit_wires_are_close_and_not_exact(void **state) {
    (void)state;
    struct servers servers;
    servers_start(&servers, 3);
    float *want = rows_new(1), *got = rows_new(1);
    struct corolla_session *fresh = session_of(local);
    step(fresh, 0, prompt, 150, want, 1);
    corolla_session_close(fresh);
    const enum corolla_wire wires[] = {COROLLA_WIRE_F16, COROLLA_WIRE_BF16};
    for (int i = 0; i < 2; i++) {
        struct corolla_swarm *swarm;
        struct corolla_error err;
        assert_int_equal(try_join(&swarm, &servers, wires[i], true, &err), COROLLA_REFUSED);
        must(try_join(&swarm, &servers, wires[i], false, &err), &err);
        assert_false(corolla_swarm_exact(swarm));
        struct corolla_session *session = session_of(swarm);
        step(session, 0, prompt, 150, got, 1);
        double dot = 0, a = 0, b = 0;
        for (uint32_t k = 0; k < info->n_embd; k++) {
            dot += (double)want[k] * (double)got[k];
            a += (double)want[k] * (double)want[k];
            b += (double)got[k] * (double)got[k];
        }
        assert_true(dot * dot > 0.99 * a * b);
        assert_memory_not_equal(got, want, info->n_embd * sizeof *got);
        corolla_session_close(session);
        corolla_swarm_close(swarm);
    }
    servers_stop(&servers);
    free(want);
    free(got);
}

/* ---- what goes wrong ------------------------------------------------------------------------------------------- */

static void missing_blocks_other_models_and_bad_codes_are_told(void **state) {
    (void)state;
    struct servers servers = {.n = 0};
    struct corolla_swarm *swarm;
    struct corolla_error err;
    assert_int_equal(try_join(&swarm, &servers, COROLLA_WIRE_F32, false, &err), COROLLA_NO_CHAIN);
    if (strstr(err.message, "no server was found") == NULL) fail_msg("that nobody was found is not told: %s", err.message);
    servers.joins[0] = "corolla1nonsense";
    servers.n = 1;
    assert_int_equal(try_join(&swarm, &servers, COROLLA_WIRE_F32, false, &err), COROLLA_INVALID);
    assert_non_null(strstr(err.message, "join code 1"));

    servers.n = 0;
    servers_add(&servers, model, 0, 2, 0);
    char want[64];
    snprintf(want, sizeof want, "no server for blocks 2:%u", info->n_blocks);
    assert_int_equal(try_join(&swarm, &servers, COROLLA_WIRE_F32, false, &err), COROLLA_NO_CHAIN);
    if (strstr(err.message, want) == NULL) fail_msg("the missing blocks are not named: %s", err.message);

    struct corolla_model *other;
    must(corolla_model_open(&other, other_path, NULL, NULL, &err), &err);
    servers_add(&servers, other, 2, 5, 0);
    assert_int_equal(try_join(&swarm, &servers, COROLLA_WIRE_F32, false, &err), COROLLA_MODEL_MISMATCH);
    assert_non_null(strstr(err.message, "hosts another model"));

    char *code = strdup(servers.joins[0]);
    servers_stop(&servers);
    servers.joins[0] = code;
    servers.n = 1;
    uint64_t start_us = clock_us();
    enum corolla_status status = try_join(&swarm, &servers, COROLLA_WIRE_F32, false, &err);
    assert_int_not_equal(status, COROLLA_OK);
    bool told = strstr(err.message, "refused") != NULL || strstr(err.message, "an earlier process of this home") != NULL;
    if (!told) fail_msg("that nobody answers is not told: %s", err.message);
    assert_true(clock_us() - start_us < 5000000); /* a refused connection needs no deadline */
    free(code);
    corolla_model_close(other);
}

static void a_full_cache_is_told_and_room_comes_back(void **state) {
    (void)state;
    struct servers servers = {.n = 0};
    servers_add(&servers, model, 0, 2, 0);
    servers_add(&servers, model, 2, info->n_blocks, SESSION_TOKENS);
    struct corolla_swarm *swarm = join(&servers);
    struct corolla_session *first = session_of(swarm), *second;
    struct corolla_error err;
    uint64_t begin_us = clock_us();
    assert_int_equal(corolla_session_open(&second, swarm, SESSION_TOKENS, &err), COROLLA_NO_CACHE);
    assert_true(clock_us() - begin_us >= WAIT_MS * 1000); /* it waited */
    assert_non_null(strstr(err.message, "server "));
    step(first, 0, prompt, 20, NULL, 0);
    corolla_session_close(first);
    uint64_t deadline_us = clock_us() + 60000000; /* the CLOSE is on its way */
    while (corolla_session_open(&second, swarm, SESSION_TOKENS, &err) != COROLLA_OK)
        if (clock_us() > deadline_us) fail_msg("no room came back: %s", err.message);
    corolla_session_close(second);
    corolla_swarm_close(swarm);
    servers_stop(&servers);
}

/* Another process with blocks [begin, end), so that it can be killed. It also ends when this one does, since its stdin ends then. */
static pid_t spawn_server(uint32_t begin, uint32_t end, char *join_code, size_t size, int *out_stdin) {
    int out[2], in[2];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    char begin_text[16], end_text[16];
    snprintf(begin_text, sizeof begin_text, "%u", begin);
    snprintf(end_text, sizeof end_text, "%u", end);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        execl(program, program, "serve", model_path, begin_text, end_text, (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    close(in[0]);
    FILE *said = fdopen(out[0], "r");
    assert_non_null(said);
    assert_non_null(fgets(join_code, (int)size, said));
    join_code[strcspn(join_code, "\n")] = '\0';
    fclose(said);
    *out_stdin = in[1];
    return pid;
}

static void *kill_soon(void *user) {
    usleep(50000);
    kill(*(pid_t *)user, SIGKILL);
    return NULL;
}

struct watched { /* what was told of a session */
    uint32_t n;
    struct corolla_event last;
    uint64_t at_us;
};

static void on_event(void *user, const struct corolla_event *event) {
    struct watched *watched = user;
    watched->n++;
    watched->last = *event;
    watched->at_us = clock_us();
}

static void check_event(const struct watched *watched, uint32_t n, enum corolla_event_kind kind, const struct corolla_hop *hop,
                        const char *reason) {
    assert_int_equal(watched->n, n);
    assert_int_equal(watched->last.kind, kind);
    assert_int_equal(watched->last.begin, hop->begin);
    assert_int_equal(watched->last.end, hop->end);
    if (reason == NULL) return;
    assert_string_equal(watched->last.node, hop->node);
    assert_string_equal(watched->last.reason, reason);
    assert_true(watched->last.exact);
}

/* Runs 100 rows at position 20 until a server is lost; the session waits for another, and gives up. */
static void run_until_killed(struct corolla_session *session, const struct corolla_hop *hop, struct watched *watched, pid_t *pid) {
    pthread_t killer;
    assert_int_equal(pthread_create(&killer, NULL, kill_soon, pid), 0);
    struct corolla_error err;
    uint64_t started_us = clock_us();
    while (watched->n == 0) {
        started_us = clock_us(); /* of the step that failed */
        enum corolla_status status = corolla_session_step(session, 20, prompt, 100, NULL, 0, &err);
        assert_int_equal(status, watched->n == 0 ? COROLLA_OK : COROLLA_NO_CHAIN);
    }
    pthread_join(killer, NULL);
    waitpid(*pid, NULL, 0);
    check_event(watched, 1, COROLLA_EVENT_WAITING, hop, NULL);
    assert_true(watched->at_us - started_us < 3000000); /* links notice silence after 4 s */
    assert_in_range(corolla_session_position(session), 20, 119);
    assert_int_equal(corolla_session_step(session, 20, prompt, 1, NULL, 0, &err), COROLLA_NO_CHAIN);
    assert_int_equal(corolla_session_position(session), 20);
    watched->n = 0;
}

static void a_killed_server_is_noticed_before_its_silence_and_replaced_when_another_comes(void **state) {
    (void)state;
    char code[1024];
    float *want = rows_new(1), *got = rows_new(1);
    struct corolla_session *fresh = session_of(local);
    step(fresh, 0, prompt, 20, NULL, 0);
    step(fresh, 20, prompt, 100, want, 1);
    corolla_session_close(fresh);
    for (uint32_t killed = 0; killed < 2; killed++) { /* the first hop, then the last */
        uint32_t cut = 2, begin = killed == 0 ? 0 : cut, end = killed == 0 ? cut : info->n_blocks;
        int its_stdin;
        pid_t pid = spawn_server(begin, end, code, sizeof code, &its_stdin);
        struct servers servers = {.n = 0};
        servers_add(&servers, model, killed == 0 ? cut : 0, killed == 0 ? info->n_blocks : cut, 0);
        servers.joins[servers.n++] = code;
        struct corolla_swarm *swarm = join(&servers);
        struct corolla_hop hops[2];
        assert_int_equal(corolla_swarm_chain(swarm, hops, 2), 2);
        struct corolla_session *session = session_of(swarm);
        struct watched watched = {.n = 0};
        corolla_session_watch(session, on_event, &watched);
        step(session, 0, prompt, 20, NULL, 0);
        run_until_killed(session, &hops[killed], &watched, &pid);
        close(its_stdin);
        servers.n = 1;
        struct corolla_server *other = serve(model, begin, end, 0, &servers);
        struct corolla_error err;
        uint64_t deadline_us = clock_us() + 60000000; /* the client hears of it */
        while (corolla_session_step(session, 20, prompt, 100, got, 1, &err) != COROLLA_OK)
            if (clock_us() > deadline_us) fail_msg("the session does not go on: %s", err.message);
        rows_equal(got, want, 1, "after a server was replaced");
        check_event(&watched, watched.n, COROLLA_EVENT_RECOVERED, &hops[killed], "crashed");
        corolla_session_close(session);
        corolla_swarm_close(swarm);
        corolla_server_stop(other);
        servers_stop(&servers);
    }
    free(want);
    free(got);
}

static void *stop_server(void *user) {
    corolla_server_stop(user);
    return NULL;
}

static void a_server_that_stops_hands_its_sessions_over(void **state) {
    (void)state;
    float *want = rows_new(SESSION_TOKENS), *got = rows_new(SESSION_TOKENS);
    struct servers servers;
    servers_start(&servers, 2);
    struct corolla_swarm *swarm = join(&servers);
    struct corolla_hop hops[2];
    assert_int_equal(corolla_swarm_chain(swarm, hops, 2), 2);
    struct corolla_session *session = session_of(swarm), *fresh = session_of(local);
    struct watched watched = {.n = 0};
    corolla_session_watch(session, on_event, &watched);
    step(session, 0, prompt, 20, NULL, 0);
    struct corolla_server *leaving = servers.server[1];
    servers.n = 1;
    struct corolla_server *other = serve(model, hops[1].begin, hops[1].end, 0, &servers);
    pthread_t stopper;
    assert_int_equal(pthread_create(&stopper, NULL, stop_server, leaving), 0);
    uint32_t n = 20;
    for (uint64_t deadline_us = clock_us() + 20000000; watched.n == 0 && clock_us() < deadline_us; n++) {
        if (n == SESSION_TOKENS) n = 20; /* once more */
        step(session, n, prompt + n, 1, got + (size_t)n * info->n_embd, 1);
    }
    pthread_join(stopper, NULL);
    check_event(&watched, 1, COROLLA_EVENT_MOVED, &hops[1], "draining");
    step(fresh, 0, prompt, n, want, n);
    rows_equal(got + (size_t)20 * info->n_embd, want + (size_t)20 * info->n_embd, n - 20, "while a server left");
    corolla_session_close(fresh);
    corolla_session_close(session);
    corolla_swarm_close(swarm);
    corolla_server_stop(other);
    servers_stop(&servers);
    free(want);
    free(got);
}

static void the_key_of_a_home_is_shown(void **state) {
    (void)state;
    char first[65], second[65];
    struct corolla_error err;
    must(corolla_key_show(NULL, first, &err), &err);
    must(corolla_key_show(NULL, second, &err), &err);
    assert_int_equal(strlen(first), 64);
    assert_string_equal(first, second);
}

/* ---- setting up ------------------------------------------------------------------------------------------------ */

static bool make_files(void) {
    snprintf(model_path, sizeof model_path, "%s/tiny.gguf", folder);
    snprintf(other_path, sizeof other_path, "%s/other.gguf", folder);
    struct tiny_config config;
    tiny_config_default(&config, "llama");
    if (!tiny_write(&config, model_path)) return false;
    config.seed++;
    if (given_model != NULL) snprintf(model_path, sizeof model_path, "%s", given_model);
    return tiny_write(&config, other_path);
}

static int setup(void **state) {
    (void)state;
    if (mkdtemp(folder) == NULL) return -1;
    setenv("COROLLA_CACHE", folder, 1);
    setenv("COROLLA_HOME", folder, 1);
    struct corolla_error err;
    if (!make_files()) return -1;
    if (corolla_model_open(&model, model_path, NULL, NULL, &err) != COROLLA_OK) goto failed;
    info = corolla_model_info(model);
    uint32_t x = 1;
    for (int i = 0; i < SESSION_TOKENS; i++) {
        x = x * 1664525u + 1013904223u;
        prompt[i] = (int32_t)(20 + (x >> 8) % (info->n_vocab - 20));
    }
    struct corolla_swarm_config config;
    corolla_swarm_config_default(&config);
    config.local = true;
    config.threads = 1;
    if (corolla_swarm_open(&local, model, &config, &err) == COROLLA_OK) return 0;
failed:
    fprintf(stderr, "%s\n", err.message);
    return -1;
}

static int teardown(void **state) {
    (void)state;
    corolla_swarm_close(local);
    corolla_model_close(model);
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

/* The process that is killed: serves until then. */
static int serve_main(char **argv) {
    struct corolla_error err;
    if (corolla_model_open(&model, argv[2], NULL, NULL, &err) != COROLLA_OK) return 1;
    struct corolla_server *server = serve(model, (uint32_t)atoi(argv[3]), (uint32_t)atoi(argv[4]), 0, NULL);
    puts(corolla_server_join_code(server));
    fflush(stdout);
    getchar(); /* returns when the parent ends */
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 5 && strcmp(argv[1], "serve") == 0) return serve_main(argv);
    program = argv[0];
    given_model = argc == 2 ? argv[1] : NULL;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_servers_gives_the_bits_of_one_process),
        cmocka_unit_test(a_chain_may_use_a_part_of_a_span),
        cmocka_unit_test(hidden_states_can_take_the_place_of_tokens),
        cmocka_unit_test(sessions_do_not_see_each_other_and_roll_back),
        cmocka_unit_test(threads_have_sessions_of_one_swarm),
        cmocka_unit_test(a_cancelled_prompt_stops_and_the_session_goes_on),
        cmocka_unit_test(sixteen_bit_wires_are_close_and_not_exact),
        cmocka_unit_test(missing_blocks_other_models_and_bad_codes_are_told),
        cmocka_unit_test(a_full_cache_is_told_and_room_comes_back),
        cmocka_unit_test(a_killed_server_is_noticed_before_its_silence_and_replaced_when_another_comes),
        cmocka_unit_test(a_server_that_stops_hands_its_sessions_over),
        cmocka_unit_test(the_key_of_a_home_is_shown),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
