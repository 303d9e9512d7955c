/* rig.c - see rig.h. */
#include "rig.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "client/session.h"
#include "support/tiny.h"

struct corolla_model *model;
const struct corolla_model_info *info;
const char *model_path;
int32_t text[TEXT];
struct corolla_swarm *local;
struct serve servers[SPANS][REPLICAS];

static char folder[64];
static float *want_rows, *want_logits; /* [TEXT, n_embd], [TEXT, n_vocab] */

static void must(enum corolla_status status, const struct corolla_error *err) {
    if (status != COROLLA_OK) fail_msg("%s: %s", corolla_status_name(status), err->message);
}

void rig_seed(uint64_t *out_seed) {
    const char *given = getenv("COROLLA_TEST_SEED");
    *out_seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    print_message("COROLLA_TEST_SEED=%llu\n", (unsigned long long)*out_seed);
}

uint64_t rig_random(uint64_t *seed, uint64_t n) {
    uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (z ^ (z >> 31)) % n;
}

/* ---- the reference --------------------------------------------------------------------------------------------- */

static void compute_reference(void) {
    struct corolla_swarm_config config;
    struct corolla_session *session;
    struct corolla_error err;
    corolla_swarm_config_default(&config);
    config.local = true;
    config.threads = 1;
    want_rows = malloc((size_t)TEXT * info->n_embd * sizeof(float));
    want_logits = malloc((size_t)TEXT * info->n_vocab * sizeof(float));
    assert_true(want_rows != NULL && want_logits != NULL);
    uint64_t seed = 1;
    for (uint32_t i = 0; i < TEXT; i++) text[i] = (int32_t)(20 + rig_random(&seed, info->n_vocab - 20));
    must(corolla_swarm_open(&local, model, &config, &err), &err);
    must(corolla_session_open(&session, local, TEXT, &err), &err);
    must(corolla_session_step(session, 0, text, TEXT, want_rows, TEXT, &err), &err);
    must(corolla_session_logits(session, want_rows, TEXT, want_logits, &err), &err);
    corolla_session_close(session);
}

static void check_rows(const float *rows, uint32_t position, uint32_t n) {
    size_t size = info->n_embd;
    for (uint32_t i = 0; i < n; i++)
        if (memcmp(rows + i * size, want_rows + (position + i) * size, size * sizeof *rows) != 0)
            fail_msg("the row of position %u differs from the undisturbed run", position + i);
}

/* ---- servers --------------------------------------------------------------------------------------------------- */

const char *rig_home(const char *name) {
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

void rig_start_all(void) {
    for (uint32_t i = 0; i < SPANS * REPLICAS; i++)
        if (servers[i % SPANS][i / SPANS].pid == 0) serve_start(&servers[i % SPANS][i / SPANS]);
    for (uint32_t i = 0; i < SPANS * REPLICAS; i++) serve_wait_ready(&servers[i % SPANS][i / SPANS]);
}

struct serve *replica_of(struct serve *s) {
    for (uint32_t i = 0; i < SPANS; i++)
        for (uint32_t k = 0; k < REPLICAS; k++)
            if (&servers[i][k] == s) return &servers[i][1 - k];
    fail_msg("not a server of the rig");
    return NULL;
}

/* ---- clients --------------------------------------------------------------------------------------------------- */

static void on_event(void *user, const struct corolla_event *event) {
    struct client *c = user;
    if (c->n_events < EVENTS_MAX) {
        struct corolla_event *copy = &c->events[c->n_events];
        *copy = *event;
        snprintf(c->texts[c->n_events], sizeof c->texts[0], "%s", event->text == NULL ? "" : event->text);
        copy->text = c->texts[c->n_events];
        c->n_events++;
    }
    if (c->on_event != NULL) c->on_event(c->user, event);
}

void client_open(struct client *c, const struct client_config *config) {
    const char *joins[SPANS * REPLICAS];
    struct corolla_swarm_config swarm;
    struct corolla_error err;
    *c = (struct client){.n_events = 0};
    corolla_swarm_config_default(&swarm);
    swarm.joins = joins;
    for (uint32_t i = 0; i < SPANS; i++)
        for (uint32_t k = 0; k < (config->alone ? 1 : REPLICAS); k++) joins[swarm.n_joins++] = servers[i][k].code;
    swarm.wait_ms = config->wait_ms;
    swarm.hang_ms = config->hang_ms;
    swarm.exact = true;
    char home[200];
    snprintf(home, sizeof home, "%s", rig_home(config->alone ? "alone" : "client")); /* it remembers whom it met */
    swarm.home = home;
    must(corolla_swarm_open(&c->swarm, model, &swarm, &err), &err);
    must(corolla_session_open(&c->session, c->swarm, TEXT, &err), &err);
    corolla_session_watch(c->session, on_event, c);
    for (uint32_t i = 0; i < SPANS * REPLICAS; i++) serve_skip_log(&servers[i % SPANS][i / SPANS]);
}

void client_close(struct client *c) {
    corolla_session_close(c->session);
    corolla_swarm_close(c->swarm);
}

struct serve *client_hop(const struct client *c, uint32_t span) {
    struct corolla_hop hops[SPANS];
    assert_int_equal(corolla_swarm_chain(c->swarm, hops, SPANS), SPANS);
    for (uint32_t k = 0; k < REPLICAS; k++)
        if (strncmp(hops[span].node, servers[span][k].key, 64) == 0) return &servers[span][k];
    fail_msg("blocks %u:%u are at %s, which is no server of the rig", hops[span].begin, hops[span].end, hops[span].node);
    return NULL;
}

void client_run(struct client *c, uint32_t position, uint32_t n, corolla_progress_fn progress, void *user) {
    float *rows = malloc((size_t)n * info->n_embd * sizeof *rows);
    struct session_run run = {.position = position, .n = n, .tokens = text + position, .out = rows, .n_rows = n};
    struct corolla_error err;
    assert_non_null(rows);
    run.progress = progress;
    run.user = user;
    must(session_step(c->session, &run, &err), &err);
    assert_int_equal(corolla_session_position(c->session), position + n);
    check_rows(rows, position, n);
    free(rows);
}

void client_step(struct client *c, uint32_t position, uint32_t n) { client_run(c, position, n, NULL, NULL); }

void client_generate(struct client *c, uint32_t position, uint32_t n) {
    struct corolla_error err;
    float *row = malloc(info->n_embd * sizeof *row), *logits = malloc(info->n_vocab * sizeof *logits);
    assert_true(row != NULL && logits != NULL);
    for (uint32_t i = position; i < position + n; i++) {
        must(corolla_session_step(c->session, i, text + i, 1, row, 1, &err), &err);
        check_rows(row, i, 1);
        must(corolla_session_logits(c->session, row, 1, logits, &err), &err);
        if (memcmp(logits, want_logits + (size_t)i * info->n_vocab, info->n_vocab * sizeof *logits) != 0)
            fail_msg("the logits of position %u differ from the undisturbed run", i);
    }
    free(row);
    free(logits);
}

/* ---- killing ----------------------------------------------------------------------------------------------------- */

static void *kill_main(void *user) {
    struct killer *killer = user;
    uint64_t until_us = clock_us() + killer->delay_us;
    while (clock_us() < until_us) { /* a sleep would be too long for the time of a step */
    }
    serve_kill(killer->server);
    return NULL;
}

void kill_begin(struct killer *killer, struct serve *server, uint32_t delay_us) {
    *killer = (struct killer){.server = server, .delay_us = delay_us};
    assert_int_equal(pthread_create(&killer->thread, NULL, kill_main, killer), 0);
}

void kill_end(struct killer *killer) { pthread_join(killer->thread, NULL); }

/* ---- checks ---------------------------------------------------------------------------------------------------- */

void check_n_events(const struct client *c, uint32_t n) {
    if (c->n_events == n) return;
    for (uint32_t i = 0; i < c->n_events; i++) {
        const struct corolla_event *e = &c->events[i];
        print_error("event %u: kind %d, node %.16s, blocks %u:%u, position %u, pause %.0f ms, reason %s, text %s\n", i, (int)e->kind,
                    e->node, e->begin, e->end, e->position, e->pause_ms, e->reason == NULL ? "" : e->reason, e->text);
    }
    fail_msg("%u events and not %u", c->n_events, n);
}

void check_event(const struct client *c, uint32_t i, enum corolla_event_kind kind, const struct serve *lost, const char *reason) {
    assert_true(i < c->n_events);
    const struct corolla_event *event = &c->events[i];
    assert_int_equal(event->kind, kind);
    assert_int_equal(event->begin, lost->begin);
    assert_int_equal(event->end, lost->end);
    if (strncmp(event->node, lost->key, 64) != 0) fail_msg("%s was blamed in the place of %s", event->node, lost->key);
    assert_string_equal(event->reason, reason);
    assert_true(event->exact);
}

void client_check_work(struct client *c, uint32_t n, uint32_t again) {
    struct serve *hops[SPANS];
    for (uint32_t i = 0; i < SPANS; i++) hops[i] = client_hop(c, i);
    client_close(c);
    for (uint32_t i = 0; i < SPANS; i++) {
        uint64_t rows = serve_rows(hops[i]);
        if (rows < n || rows > n + again)
            fail_msg("the server of blocks %u:%u computed %llu rows for %u positions", hops[i]->begin, hops[i]->end,
                     (unsigned long long)rows, n);
    }
}

/* ---- setting up ------------------------------------------------------------------------------------------------ */

bool rig_open_as(const char *arch) {
    static char path[200];
    snprintf(folder, sizeof folder, "/tmp/corolla-recovery-XXXXXX");
    if (mkdtemp(folder) == NULL) return false;
    setenv("COROLLA_CACHE", folder, 1);
    setenv("COROLLA_HOME", rig_home("client"), 1);
    snprintf(path, sizeof path, "%s", rig_home("model.gguf"));
    model_path = path;
    struct tiny_config config;
    struct corolla_error err;
    tiny_config_default(&config, arch);
    config.n_blocks = SPANS * SPAN_BLOCKS;
    if (!tiny_write(&config, path) || corolla_model_open(&model, path, NULL, NULL, &err) != COROLLA_OK) return false;
    info = corolla_model_info(model);
    compute_reference();
    for (uint32_t i = 0; i < SPANS * REPLICAS; i++) {
        char name[16];
        snprintf(name, sizeof name, "server%u", i);
        uint32_t span = i % SPANS;
        serve_init(&servers[span][i / SPANS], rig_home(name), path, span * SPAN_BLOCKS, (span + 1) * SPAN_BLOCKS);
    }
    rig_start_all();
    return true;
}

int rig_open(void **state) {
    (void)state;
    return rig_open_as("llama") ? 0 : -1;
}

int rig_close(void **state) {
    (void)state;
    for (uint32_t i = 0; i < SPANS * REPLICAS; i++) serve_kill(&servers[i % SPANS][i / SPANS]);
    corolla_swarm_close(local);
    corolla_model_close(model);
    free(want_rows);
    free(want_logits);
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}
