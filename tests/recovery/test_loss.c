/* test_loss.c - servers that hang, leave, come back, die in twos, or die while they replace another: sessions go on with the same bits, or
 * wait and say for what. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "rig.h"
#include "support/driver.h"
#include "support/sanitized.h"
#include "wire/msg.h"

#define PROMPT 300
#define LONG_PROMPT 500
#define HANG_MS 1000
#define DEADLINE_US 90000000 /* against hangs */

static uint64_t seed;
static const char *program;

static void must(enum corolla_status status, const struct corolla_error *err) {
    if (status != COROLLA_OK) fail_msg("%s: %s", corolla_status_name(status), err->message);
}

static uint32_t count(const struct client *c, enum corolla_event_kind kind) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_events; i++) n += c->events[i].kind == kind;
    return n;
}

/* The event that tells of the loss of a server. */
static uint32_t find_event(const struct client *c, const struct serve *lost) {
    for (uint32_t i = 0; i < c->n_events; i++)
        if (strncmp(c->events[i].node, lost->key, 64) == 0) return i;
    fail_msg("nothing was told about the server of blocks %u:%u", lost->begin, lost->end);
    return 0;
}

/* ---- hanging, and several at once ------------------------------------------------------------------------------- */

static void on_first_chunk(void *user, const char *what, uint64_t done, uint64_t total) {
    struct serve **hangs = user;
    (void)what;
    (void)done;
    (void)total;
    if (*hangs != NULL) serve_signal(*hangs, SIGSTOP);
    *hangs = NULL;
}

static void a_server_that_hangs_in_a_prompt_is_replaced(void **state) {
    (void)state;
    for (uint32_t span = 0; span < SPANS; span++) {
        struct client c;
        rig_start_all();
        client_open(&c, &(struct client_config){.hang_ms = HANG_MS});
        struct serve *lost = client_hop(&c, span), *hangs = lost;
        client_run(&c, 0, LONG_PROMPT, on_first_chunk, &hangs);
        client_generate(&c, LONG_PROMPT, 3); /* if it was too fast for it */
        check_n_events(&c, 1);
        check_event(&c, 0, COROLLA_EVENT_RECOVERED, lost, "hung");
        client_check_work(&c, LONG_PROMPT + 3, LONG_PROMPT + 3 - c.events[0].position);
        serve_kill(lost);
    }
}

static void a_server_that_hangs_is_replaced(void **state) {
    (void)state;
    for (uint32_t span = 0; span < SPANS; span++) {
        struct client c;
        rig_start_all();
        client_open(&c, &(struct client_config){.hang_ms = HANG_MS});
        client_step(&c, 0, PROMPT);
        struct serve *lost = client_hop(&c, span);
        serve_signal(lost, SIGSTOP);
        client_generate(&c, PROMPT, 3);
        check_n_events(&c, 1);
        check_event(&c, 0, COROLLA_EVENT_RECOVERED, lost, "hung");
        assert_true(c.events[0].pause_ms > HANG_MS / 2);          /* from the last row that came, and a link may have been silent before */
        assert_true(c.events[0].pause_ms < 3 * HANG_MS * SLOWER); /* the default limit is four times ours */
        print_message("the server of blocks %u:%u hung: a pause of %.0f ms\n", lost->begin, lost->end, c.events[0].pause_ms);
        serve_signal(lost, SIGCONT); /* its late answers change nothing */
        client_generate(&c, PROMPT + 3, 20);
        check_n_events(&c, 1);
        client_check_work(&c, PROMPT + 23, 1);
        serve_kill(lost);
    }
}

static void servers_that_die_together_are_all_replaced(void **state) {
    (void)state;
    for (uint32_t set = 3; set < 1u << SPANS; set++) { /* two or three of them */
        struct client c;
        struct serve *lost[SPANS];
        uint32_t n = 0;
        if ((set & (set - 1)) == 0) continue;
        rig_start_all();
        client_open(&c, &(struct client_config){.wait_ms = 0});
        client_step(&c, 0, PROMPT);
        for (uint32_t i = 0; i < SPANS; i++)
            if ((set >> i & 1) != 0) lost[n++] = client_hop(&c, i);
        for (uint32_t i = 0; i < n; i++) serve_signal(lost[i], SIGKILL);
        for (uint32_t i = 0; i < n; i++) serve_wait_end(lost[i]);
        client_generate(&c, PROMPT, 5);
        check_n_events(&c, n);
        for (uint32_t i = 0; i < n; i++) check_event(&c, find_event(&c, lost[i]), COROLLA_EVENT_RECOVERED, lost[i], "crashed");
        client_check_work(&c, PROMPT + 5, 1);
    }
}

/* ---- losses during a recovery ----------------------------------------------------------------------------------- */

struct second_loss {
    struct serve *first, *second;
    bool begun;
};

static void on_recovery(void *user, const char *what, uint64_t done, uint64_t total) {
    struct second_loss *loss = user;
    if (loss->begun || strcmp(what, "recovery") != 0) return;
    loss->begun = true;
    assert_true(done < total); /* in the middle of it */
    serve_start(loss->first);
    serve_wait_ready(loss->first);
    serve_kill(loss->second);
}

static void a_replacement_that_dies_while_it_is_fed_is_replaced(void **state) {
    (void)state;
    for (uint32_t span = 0; span < SPANS; span++) {
        struct client c;
        rig_start_all();
        client_open(&c, &(struct client_config){.wait_ms = 0});
        client_step(&c, 0, PROMPT);
        struct second_loss loss = {.first = client_hop(&c, span)};
        loss.second = replica_of(loss.first);
        serve_kill(loss.first);
        client_run(&c, PROMPT, 1, on_recovery, &loss);
        assert_true(loss.begun);
        client_generate(&c, PROMPT + 1, 3);
        assert_int_equal(count(&c, COROLLA_EVENT_RECOVERED), 2);
        check_event(&c, find_event(&c, loss.first), COROLLA_EVENT_RECOVERED, loss.first, "crashed");
        check_event(&c, find_event(&c, loss.second), COROLLA_EVENT_RECOVERED, loss.second, "crashed");
        client_close(&c);
    }
}

static void a_session_outlives_many_servers(void **state) {
    (void)state;
    struct client c;
    rig_start_all();
    client_open(&c, &(struct client_config){.wait_ms = 0});
    client_step(&c, 0, 100);
    uint32_t n = 0;
    for (uint32_t position = 100; position + 16 <= TEXT; position += 16, n++) {
        rig_start_all();
        serve_kill(client_hop(&c, (uint32_t)rig_random(&seed, SPANS)));
        client_generate(&c, position, 16);
        assert_int_equal(count(&c, COROLLA_EVENT_RECOVERED), n + 1);
    }
    client_close(&c);
}

/* ---- coming back ------------------------------------------------------------------------------------------------ */

/* Only one server for each span, and a client that knows of no others. */
static void leave_alone(void) {
    rig_start_all();
    for (uint32_t i = 0; i < SPANS; i++) serve_kill(&servers[i][1]);
}

static void start_when_waiting(void *user, const struct corolla_event *event) {
    struct serve *s = user;
    if (event->kind != COROLLA_EVENT_WAITING) return;
    assert_int_equal(event->begin, s->begin);
    assert_int_equal(event->end, s->end);
    serve_start(s);
    serve_wait_ready(s);
}

static void a_session_waits_for_its_server_to_come_back(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 2 * SPANS; i++) {
        struct client c;
        bool elsewhere = i >= SPANS;
        leave_alone();
        client_open(&c, &(struct client_config){.alone = true});
        client_step(&c, 0, PROMPT);
        struct serve *lost = client_hop(&c, i % SPANS);
        c.on_event = start_when_waiting;
        c.user = lost;
        serve_kill(lost);
        if (elsewhere) lost->listen[0] = '\0';
        lost->join = servers[(i + 1) % SPANS][0].code; /* so that the client hears of it */
        client_generate(&c, PROMPT, 5);
        lost->join = NULL;
        check_n_events(&c, 2);
        assert_int_equal(c.events[0].kind, COROLLA_EVENT_WAITING);
        if (strstr(c.events[0].text, "blocks") == NULL) fail_msg("what is waited for is not told: %s", c.events[0].text);
        check_event(&c, 1, COROLLA_EVENT_RECOVERED, lost, "crashed");
        client_check_work(&c, PROMPT + 5, 1);
    }
}

static void a_session_that_waited_in_vain_keeps_its_position_and_goes_on_later(void **state) {
    (void)state;
    struct client c;
    struct corolla_error err;
    leave_alone();
    client_open(&c, &(struct client_config){.alone = true, .wait_ms = 500});
    client_step(&c, 0, PROMPT);
    struct serve *lost = client_hop(&c, 1);
    serve_kill(lost);
    for (uint32_t i = 0; i < 2; i++) {
        uint64_t start_us = clock_us();
        assert_int_equal(corolla_session_step(c.session, PROMPT, text + PROMPT, 1, NULL, 0, &err), COROLLA_NO_CHAIN);
        assert_in_range(clock_us() - start_us, 400000, 10000000);
        if (strstr(err.message, "blocks 2:4") == NULL) fail_msg("the missing blocks are not named: %s", err.message);
        assert_int_equal(corolla_session_position(c.session), PROMPT);
    }
    serve_start(lost);
    serve_wait_ready(lost);
    client_generate(&c, PROMPT, 5);
    check_event(&c, c.n_events - 1, COROLLA_EVENT_RECOVERED, lost, "crashed");
    client_check_work(&c, PROMPT + 5, 1);
}

static void a_server_that_was_restarted_while_its_session_slept_is_lost_and_usable(void **state) {
    (void)state;
    for (uint32_t span = 0; span < SPANS; span++) {
        struct client c;
        leave_alone();
        client_open(&c, &(struct client_config){.alone = true});
        client_step(&c, 0, PROMPT);
        struct serve *lost = client_hop(&c, span);
        serve_kill(lost);
        serve_start(lost);
        serve_wait_ready(lost);
        client_generate(&c, PROMPT, 5);
        assert_int_equal(count(&c, COROLLA_EVENT_RECOVERED), 1);
        check_event(&c, find_event(&c, lost), COROLLA_EVENT_RECOVERED, lost, "crashed");
        client_check_work(&c, PROMPT + 5, 1);
    }
}

/* ---- rolling back ----------------------------------------------------------------------------------------------- */

/* One run at a random position with random tokens, in both sessions. */
static void storm(struct corolla_session *a, struct corolla_session *b) {
    static int32_t tokens[TEXT];
    struct corolla_error err;
    uint32_t at = corolla_session_position(a), max = TEXT - 40 < at ? TEXT - 40 : at;
    uint32_t position = (uint32_t)(rig_random(&seed, 3) == 0 ? max : rig_random(&seed, max + 1));
    uint32_t n = 1 + (uint32_t)rig_random(&seed, rig_random(&seed, 3) == 0 ? TEXT - position : 10);
    for (uint32_t i = 0; i < n; i++) tokens[i] = (int32_t)(20 + rig_random(&seed, info->n_vocab - 20));
    size_t size = (size_t)n * info->n_embd * sizeof(float);
    float *want = malloc(size), *got = malloc(size);
    assert_true(want != NULL && got != NULL);
    must(corolla_session_step(a, position, tokens, n, want, n, &err), &err);
    must(corolla_session_step(b, position, tokens, n, got, n, &err), &err);
    assert_memory_equal(got, want, size);
    assert_int_equal(corolla_session_position(b), position + n);
    free(want);
    free(got);
}

static void a_storm_of_rollbacks_survives_kills(void **state) {
    (void)state;
    struct client c;
    struct corolla_session *alone;
    struct corolla_error err;
    rig_start_all();
    client_open(&c, &(struct client_config){.wait_ms = 0});
    must(corolla_session_open(&alone, local, TEXT, &err), &err);
    for (uint32_t i = 0; i < 60; i++) {
        bool before = i % 6 == 1, meanwhile = i % 6 == 4;
        struct killer killer;
        if (before || meanwhile) rig_start_all();
        struct serve *lost = client_hop(&c, (uint32_t)rig_random(&seed, SPANS));
        if (before) serve_kill(lost);
        if (meanwhile) kill_begin(&killer, lost, (uint32_t)rig_random(&seed, 20000));
        storm(alone, c.session);
        if (meanwhile) kill_end(&killer);
    }
    corolla_session_close(alone);
    client_close(&c);
}

/* ---- leaving ---------------------------------------------------------------------------------------------------- */

static void a_server_that_is_told_to_end_hands_its_sessions_over_first(void **state) {
    (void)state;
    for (uint32_t span = 0; span < SPANS; span++) {
        struct client c;
        rig_start_all();
        client_open(&c, &(struct client_config){.wait_ms = 0});
        client_step(&c, 0, PROMPT);
        struct serve *leaving = client_hop(&c, span);
        serve_signal(leaving, SIGTERM);
        uint32_t position = PROMPT;
        uint64_t start_us = clock_us(), longest_us = 0;
        for (; c.n_events == 0 && clock_us() - start_us < DEADLINE_US; position++) {
            if (position == TEXT) position = PROMPT; /* once more */
            uint64_t before_us = clock_us();
            client_generate(&c, position, 1);
            if (clock_us() - before_us > longest_us) longest_us = clock_us() - before_us;
        }
        assert_int_equal(serve_wait_end(leaving), 0);
        client_generate(&c, position < TEXT - 10 ? position : PROMPT, 10);
        check_n_events(&c, 1);
        check_event(&c, 0, COROLLA_EVENT_MOVED, leaving, "draining");
        print_message("the server of blocks %u:%u left: the longest token took %.1f ms\n", leaving->begin, leaving->end,
                      (double)longest_us / 1e3);
        client_close(&c);
    }
}

/* ---- sessions that nobody closes -------------------------------------------------------------------------------- */

#define ABANDONED 200
#define CLIENTS 2           /* a client may have 128 */
static struct serve lender; /* all blocks, and nobody else uses it */
static uint64_t lender_full;

static uint64_t tokens_left(void) {
    struct driver *driver = driver_open();
    struct link *link = driver_dial(driver, lender.code, NULL);
    uint32_t stream = driver_stream(driver, link);
    struct msg_info about;
    driver_send(driver, link, stream, MSG_INFO_GET, NULL, 0, NULL, 0);
    struct received *r = driver_receive(driver, link, stream);
    assert_int_equal(r->kind, MSG_INFO);
    assert_int_equal(msg_info_decode(r->header, r->header_size, &about, NULL), COROLLA_OK);
    received_free(r);
    driver_close(driver);
    return about.cache_tokens_left;
}

/* Another process: opens sessions, says so, and waits for its end. */
static int abandon_main(char **argv) {
    struct corolla_swarm_config config;
    struct corolla_swarm *swarm;
    struct corolla_error err;
    const char *joins[] = {argv[3]};
    corolla_swarm_config_default(&config);
    config.joins = joins;
    config.n_joins = 1;
    if (corolla_model_open(&model, argv[2], NULL, NULL, &err) != COROLLA_OK) return 1;
    if (corolla_swarm_open(&swarm, model, &config, &err) != COROLLA_OK) return 1;
    for (uint32_t i = 0; i < ABANDONED / CLIENTS; i++) {
        struct corolla_session *session;
        int32_t tokens[4] = {20, 21, 22, 23};
        if (corolla_session_open(&session, swarm, 16, &err) != COROLLA_OK) {
            puts(err.message);
            return 1;
        }
        if (i % 10 == 0 && corolla_session_step(session, 0, tokens, 4, NULL, 0, &err) != COROLLA_OK) return 1;
    }
    puts("opened");
    fflush(stdout);
    for (;;) pause();
}

static void abandon_sessions(uint32_t client) {
    int out[2];
    char home[16], line[512];
    snprintf(home, sizeof home, "abandoner%u", client);
    assert_int_equal(pipe(out), 0);
    pid_t pid = fork();
    if (pid == 0) {
        setenv("COROLLA_HOME", rig_home(home), 1);
        dup2(out[1], STDOUT_FILENO);
        execl(program, program, "abandon", model_path, lender.code, (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    FILE *said = fdopen(out[0], "r");
    assert_non_null(said);
    if (fgets(line, sizeof line, said) == NULL) snprintf(line, sizeof line, "nothing");
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    fclose(said);
    if (strcmp(line, "opened\n") != 0) fail_msg("a client opened no sessions: %s", line);
}

static void sessions_are_abandoned(void **state) {
    (void)state;
    serve_init(&lender, rig_home("lender"), model_path, 0, SPANS * SPAN_BLOCKS);
    serve_start(&lender);
    serve_wait_ready(&lender);
    lender_full = tokens_left();
    for (uint32_t i = 0; i < CLIENTS; i++) abandon_sessions(i);
    assert_in_range(tokens_left(), 0, lender_full - ABANDONED * 16);
}

/* Their leases end while the other tests run. */
static void abandoned_sessions_give_their_memory_back(void **state) {
    (void)state;
    assert_true(lender_full > 0);
    for (uint32_t i = 0; i < ABANDONED; i++) serve_rows(&lender);
    assert_int_equal(tokens_left(), lender_full);
    serve_kill(&lender);
}

/* ---- the program ------------------------------------------------------------------------------------------------- */

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "abandon") == 0) return abandon_main(argv);
    program = argv[0];
    rig_seed(&seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_are_abandoned),
        cmocka_unit_test(a_server_that_hangs_is_replaced),
        cmocka_unit_test(a_server_that_hangs_in_a_prompt_is_replaced),
        cmocka_unit_test(servers_that_die_together_are_all_replaced),
        cmocka_unit_test(a_replacement_that_dies_while_it_is_fed_is_replaced),
        cmocka_unit_test(a_session_outlives_many_servers),
        cmocka_unit_test(a_session_waits_for_its_server_to_come_back),
        cmocka_unit_test(a_session_that_waited_in_vain_keeps_its_position_and_goes_on_later),
        cmocka_unit_test(a_server_that_was_restarted_while_its_session_slept_is_lost_and_usable),
        cmocka_unit_test(a_storm_of_rollbacks_survives_kills),
        cmocka_unit_test(a_server_that_is_told_to_end_hands_its_sessions_over_first),
        cmocka_unit_test(abandoned_sessions_give_their_memory_back),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, rig_open, rig_close);
}
