/* stage.c - see stage.h. */
#include "support/stage.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "crypto/rand.h"
#include "model/convert.h"
#include "model/span.h"
#include "support/scratch.h"
#include "support/tiny.h"

const uint32_t cuts[N_SERVERS + 1] = {0, 2, 4, N_BLOCKS};
struct corolla_model *model;
struct corolla_server *servers[N_SERVERS];
struct driver *driver;
struct node_ref nodes[N_SERVERS];
struct link *links[N_SERVERS];
uint32_t n_embd, epoch_of_test;
float *prompt, *expected;
struct msg_step message;

/* ---- sessions as a client has them ----------------------------------------------------------------------------- */

size_t row_bytes(void) { return n_embd * sizeof(float); }

struct msg_info server_info(uint32_t server) {
    struct msg_info info;
    uint32_t stream = driver_stream(driver, links[server]);
    driver_send(driver, links[server], stream, MSG_INFO_GET, NULL, 0, NULL, 0);
    struct received *r = driver_receive(driver, links[server], stream);
    assert_int_equal(r->kind, MSG_INFO);
    assert_int_equal(msg_info_decode(r->header, r->header_size, &info, NULL), COROLLA_OK);
    received_free(r);
    return info;
}

struct session_at session_prepare(uint32_t server, uint32_t max_tokens) {
    struct session_at s = {.server = server, .stream = driver_stream(driver, links[server])};
    s.open = (struct msg_open){.begin = cuts[server], .end = cuts[server + 1], .max_tokens = max_tokens};
    rand_bytes(s.open.session, SESSION_SIZE);
    assert_true(hex_decode(corolla_model_info(model)->model_id, s.open.model, ID_SIZE));
    return s;
}

struct received *session_ask(const struct session_at *s) {
    uint8_t header[MSG_HEADER_MAX];
    driver_send(driver, links[s->server], s->stream, MSG_OPEN, header, msg_open_encode(&s->open, header), NULL, 0);
    return driver_receive(driver, links[s->server], s->stream);
}

void expect_failed(struct received *r, enum corolla_status status, struct msg_failed *out) {
    struct msg_failed failed;
    assert_int_equal(r->kind, MSG_FAILED);
    assert_int_equal(msg_failed_decode(r->header, r->header_size, &failed, NULL), COROLLA_OK);
    if (failed.status != status)
        fail_msg("%s, expected %s: %s", corolla_status_name(failed.status), corolla_status_name(status), failed.text);
    assert_true(strlen(failed.text) > 10); /* a sentence for people */
    if (out) *out = failed;
    received_free(r);
}

void session_open_sent(struct session_at *s) {
    struct received *r = session_ask(s);
    struct msg_opened opened;
    if (r->kind == MSG_FAILED) expect_failed(r, COROLLA_OK, NULL);
    assert_int_equal(r->kind, MSG_OPENED);
    assert_int_equal(msg_opened_decode(r->header, r->header_size, &opened, NULL), COROLLA_OK);
    assert_memory_equal(opened.session, s->open.session, SESSION_SIZE);
    memcpy(s->secret, opened.secret, SECRET_SIZE);
    received_free(r);
}

struct session_at session_open(uint32_t server) {
    struct session_at s = session_prepare(server, SESSION_TOKENS);
    session_open_sent(&s);
    return s;
}

void session_close(const struct session_at *s) {
    struct msg_close close;
    uint8_t header[MSG_HEADER_MAX];
    memcpy(close.session, s->open.session, SESSION_SIZE);
    memcpy(close.secret, s->secret, SECRET_SIZE);
    driver_send(driver, links[s->server], s->stream, MSG_CLOSE, header, msg_close_encode(&close, header), NULL, 0);
}

/* Fills the message that a right step has. */
struct msg_step *step_prepare(const struct session_at *s, uint32_t position, uint32_t n) {
    struct msg_step *m = &message;
    memcpy(m->session, s->open.session, SESSION_SIZE);
    memcpy(m->secret, s->secret, SECRET_SIZE);
    m->epoch = epoch_of_test;
    m->position = position;
    m->n_tokens = m->n_rows = n;
    m->dtype = COROLLA_WIRE_F32;
    m->client = driver_self(driver)->id;
    m->has_parent = false;
    m->named = 0;
    m->n_hops = m->n_timings = 0;
    return m;
}

void step_send(const struct session_at *s, const void *body, size_t body_size) {
    uint8_t header[MSG_HEADER_MAX];
    driver_send(driver, links[s->server], s->stream, MSG_STEP, header, msg_step_encode(&message, header), body, body_size);
}

struct received *answer(const struct session_at *s) {
    return driver_receive(driver, links[s->server], s->stream);
}

/* The result of the step in message; its rows in out, as F32. */
void expect_result(struct received *r, float *out) {
    struct msg_result result;
    if (r->kind == MSG_FAILED) expect_failed(r, COROLLA_OK, NULL);
    assert_int_equal(r->kind, MSG_RESULT);
    assert_int_equal(msg_result_decode(r->header, r->header_size, &result, NULL), COROLLA_OK);
    assert_int_equal(result.position, message.position);
    assert_int_equal(result.epoch, message.epoch);
    assert_int_equal(r->body_size, result.n_rows * n_embd * msg_wire_size(result.dtype));
    if (out) convert_to_f32(result.dtype, r->body, out, (size_t)result.n_rows * n_embd);
    received_free(r);
}

/* ---- a chain of all servers ------------------------------------------------------------------------------------ */

static void open_all(struct sessions_all *all, bool keep) {
    for (uint32_t i = 0; i < N_SERVERS; i++) {
        all->at[i] = session_prepare(i, SESSION_TOKENS);
        memcpy(all->at[i].open.session, all->at[0].open.session, SESSION_SIZE);
        all->at[i].open.has_upstream = i > 0;
        if (i > 0) all->at[i].open.upstream = nodes[i - 1].id;
        all->at[i].open.keep = keep && i + 1 < N_SERVERS;
        session_open_sent(&all->at[i]);
    }
}

void all_open(struct sessions_all *all) { open_all(all, false); }
void all_open_keeping(struct sessions_all *all) { open_all(all, true); }

void all_close(const struct sessions_all *all) {
    for (uint32_t i = 0; i < N_SERVERS; i++) session_close(&all->at[i]);
}

void all_prepare(const struct sessions_all *all, uint32_t position, uint32_t n) {
    step_prepare(&all->at[0], position, n);
    message.n_hops = N_SERVERS - 1;
    for (uint32_t i = 1; i < N_SERVERS; i++) {
        message.hops[i - 1].node = nodes[i];
        memcpy(message.hops[i - 1].secret, all->at[i].secret, SECRET_SIZE);
    }
}

/* Rows of the prompt through the chain; what comes out must have the expected bits. */
void all_step(const struct sessions_all *all, uint32_t position, uint32_t n) {
    float *out = malloc(n * row_bytes());
    all_prepare(all, position, n);
    step_send(&all->at[0], prompt + (size_t)position * n_embd, n * row_bytes());
    expect_result(answer(&all->at[N_SERVERS - 1]), out);
    assert_memory_equal(out, expected + (size_t)position * n_embd, n * row_bytes());
    free(out);
}

/* The servers still do what they are for. */
void servers_work(void) {
    struct sessions_all all;
    all_open(&all);
    all_step(&all, 0, ROWS - 1);
    all_step(&all, ROWS - 1, 1);
    all_close(&all);
}

/* A session at server 0 that has the first 8 rows, and goes on from there as if nothing had been. */
struct session_at session_with_rows(void) {
    struct session_at s = session_open(0);
    step_prepare(&s, 0, 8);
    step_send(&s, prompt, 8 * row_bytes());
    expect_result(answer(&s), NULL);
    return s;
}

void session_goes_on(const struct session_at *s) {
    struct session_at fresh = session_open(0);
    float *rows = malloc(2 * 12 * row_bytes());
    step_prepare(&fresh, 0, 12);
    step_send(&fresh, prompt, 12 * row_bytes());
    expect_result(answer(&fresh), rows);
    step_prepare(s, 8, 4);
    step_send(s, prompt + 8 * n_embd, 4 * row_bytes());
    expect_result(answer(s), rows + 12 * n_embd);
    assert_memory_equal(rows + 8 * n_embd, rows + 12 * n_embd, 4 * row_bytes());
    free(rows);
    session_close(&fresh);
    session_close(s);
    servers_work();
}

/* ---- another client -------------------------------------------------------------------------------------------- */

void client_enter(struct client *client) {
    client->instead_driver = driver;
    client->instead_link = links[0];
    driver = client->driver;
    links[0] = driver_dial(driver, corolla_server_join_code(servers[0]), NULL);
}

void client_leave(const struct client *client) {
    driver = client->instead_driver;
    links[0] = client->instead_link;
}

/* ---- set-up ---------------------------------------------------------------------------------------------------- */

static void must(enum corolla_status status, const struct corolla_error *err) {
    if (status != COROLLA_OK) fail_msg("%s: %s", corolla_status_name(status), err->message);
}

/* What all blocks in one span give. */
static void compute_expected(const char *path) {
    struct corolla_error err = {0};
    struct model_file *file;
    struct engine *engine;
    struct span *span;
    struct kv *kv;
    must(model_file_open(&file, path, NULL, NULL, &err), &err);
    must(engine_new(&engine, &(struct engine_config){.threads = 1}, &err), &err);
    struct span_config config = {.begin = 0, .end = N_BLOCKS, .kv_bytes = 1u << 28};
    must(span_load(&span, engine, file, &config, &err), &err);
    assert_true(span_exact(span));
    must(kv_open(&kv, span, 0, N_BLOCKS, ROWS, &err), &err);
    prompt = malloc(ROWS * row_bytes());
    expected = malloc(ROWS * row_bytes());
    for (uint32_t i = 0; i < ROWS * n_embd; i++) prompt[i] = sinf((float)i * 0.37f) * 0.5f;
    struct batch_item item = {.kv = kv, .n = ROWS, .in = prompt, .out = expected};
    must(span_forward(span, &item, 1, &err), &err);
    kv_close(kv);
    span_free(span);
    engine_free(engine);
    model_file_close(file);
}

static struct corolla_server *start(uint32_t server, const char *home) {
    struct corolla_server *handle;
    struct corolla_error err = {0};
    struct corolla_server_config config;
    corolla_server_config_default(&config);
    config.listen = "127.0.0.1:0";
    config.home = scratch_file(home);
    config.begin = cuts[server];
    config.end = cuts[server + 1];
    config.threads = 1;
    config.cache_tokens = CACHE_TOKENS;
    must(corolla_server_start(&handle, model, &config, &err), &err);
    return handle;
}

struct spare spare_start(uint32_t server) {
    struct spare spare = {.server = server, .instead_node = nodes[server], .instead_link = links[server]};
    spare.handle = start(server, "home-spare");
    links[server] = driver_dial(driver, corolla_server_join_code(spare.handle), &nodes[server]);
    return spare;
}

void spare_step_back(struct spare *spare) {
    nodes[spare->server] = spare->instead_node;
    links[spare->server] = spare->instead_link;
}

int stage_open(void **state) {
    (void)state;
    struct tiny_config tiny;
    struct corolla_error err = {0};
    const char *path = scratch_file("tiny.gguf");
    tiny_config_default(&tiny, "llama");
    tiny.type = "q8_0";
    assert_true(tiny_write(&tiny, path));
    must(corolla_model_open(&model, path, NULL, NULL, &err), &err);
    assert_int_equal(corolla_model_info(model)->n_blocks, N_BLOCKS);
    n_embd = corolla_model_info(model)->n_embd;
    compute_expected(path);
    driver = driver_open();
    for (uint32_t i = 0; i < N_SERVERS; i++) {
        servers[i] = start(i, "home"); /* one home: several instances */
        links[i] = driver_dial(driver, corolla_server_join_code(servers[i]), &nodes[i]);
    }
    return 0;
}

int stage_close(void **state) {
    (void)state;
    for (uint32_t i = 0; i < N_SERVERS; i++) corolla_server_stop(servers[i]);
    driver_close(driver);
    corolla_model_close(model);
    free(prompt);
    free(expected);
    scratch_remove();
    return 0;
}
