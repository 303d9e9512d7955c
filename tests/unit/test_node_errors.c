/* test_node_errors.c - three real servers of a tiny model in this process, driven with raw messages: every way to ask for what
 * cannot be done gets its own typed error, and leaves servers and other sessions working. What the servers compute is compared
 * bit for bit with the same blocks in one span. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "crypto/rand.h"
#include "model/convert.h"
#include "model/span.h"
#include "node/sessions.h"
#include "support/driver.h"
#include "support/scratch.h"
#include "support/tiny.h"

#define N_SERVERS 3
#define N_BLOCKS 5
#define ROWS 40 /* of the prompt that everything is compared on */
#define SESSION_TOKENS 96
#define CACHE_TOKENS 8320 /* 130 pads: room for one client's SESSIONS_PER_CLIENT_MAX small sessions and two more */

static const uint32_t cuts[N_SERVERS + 1] = {0, 2, 4, N_BLOCKS};
static struct corolla_model *model;
static struct corolla_server *servers[N_SERVERS];
static struct driver *driver;
static struct node_ref nodes[N_SERVERS];
static struct link *links[N_SERVERS];
static uint32_t n_embd, epoch_of_test;
static float *prompt, *expected; /* [ROWS, n_embd] */
static struct msg_step message;  /* too large for the stack */

/* ---- sessions as a client has them ----------------------------------------------------------------------------- */

struct session_at { /* one session at one server */
    uint32_t server, stream;
    struct msg_open open;
    uint8_t secret[SECRET_SIZE];
};

static size_t row_bytes(void) { return n_embd * sizeof(float); }

static struct session_at session_prepare(uint32_t server, uint32_t max_tokens) {
    struct session_at s = {.server = server, .stream = driver_stream(driver, links[server])};
    s.open = (struct msg_open){.begin = cuts[server], .end = cuts[server + 1], .max_tokens = max_tokens};
    rand_bytes(s.open.session, SESSION_SIZE);
    assert_true(hex_decode(corolla_model_info(model)->model_id, s.open.model, ID_SIZE));
    return s;
}

static struct received *session_ask(const struct session_at *s) {
    uint8_t header[MSG_HEADER_MAX];
    driver_send(driver, links[s->server], s->stream, MSG_OPEN, header, msg_open_encode(&s->open, header), NULL, 0);
    return driver_receive(driver, links[s->server], s->stream);
}

static void expect_failed(struct received *r, enum corolla_status status, struct msg_failed *out) {
    struct msg_failed failed;
    assert_int_equal(r->kind, MSG_FAILED);
    assert_int_equal(msg_failed_decode(r->header, r->header_size, &failed, NULL), COROLLA_OK);
    if (failed.status != status)
        fail_msg("%s, expected %s: %s", corolla_status_name(failed.status), corolla_status_name(status), failed.text);
    assert_true(strlen(failed.text) > 10); /* a sentence for people */
    if (out) *out = failed;
    received_free(r);
}

static void session_open_sent(struct session_at *s) {
    struct received *r = session_ask(s);
    struct msg_opened opened;
    if (r->kind == MSG_FAILED) expect_failed(r, COROLLA_OK, NULL);
    assert_int_equal(r->kind, MSG_OPENED);
    assert_int_equal(msg_opened_decode(r->header, r->header_size, &opened, NULL), COROLLA_OK);
    assert_memory_equal(opened.session, s->open.session, SESSION_SIZE);
    memcpy(s->secret, opened.secret, SECRET_SIZE);
    received_free(r);
}

static struct session_at session_open(uint32_t server) {
    struct session_at s = session_prepare(server, SESSION_TOKENS);
    session_open_sent(&s);
    return s;
}

static void session_close(const struct session_at *s) {
    struct msg_close close;
    uint8_t header[MSG_HEADER_MAX];
    memcpy(close.session, s->open.session, SESSION_SIZE);
    memcpy(close.secret, s->secret, SECRET_SIZE);
    driver_send(driver, links[s->server], s->stream, MSG_CLOSE, header, msg_close_encode(&close, header), NULL, 0);
}

/* Fills the message that a right step has. */
static struct msg_step *step_prepare(const struct session_at *s, uint32_t position, uint32_t n) {
    struct msg_step *m = &message;
    memcpy(m->session, s->open.session, SESSION_SIZE);
    memcpy(m->secret, s->secret, SECRET_SIZE);
    m->epoch = epoch_of_test;
    m->position = position;
    m->n_tokens = m->n_rows = n;
    m->dtype = COROLLA_WIRE_F32;
    m->client = driver_self(driver)->id;
    m->n_hops = m->n_timings = 0;
    return m;
}

static void step_send(const struct session_at *s, const void *body, size_t body_size) {
    uint8_t header[MSG_HEADER_MAX];
    driver_send(driver, links[s->server], s->stream, MSG_STEP, header, msg_step_encode(&message, header), body, body_size);
}

static struct received *answer(const struct session_at *s) { return driver_receive(driver, links[s->server], s->stream); }

/* The result of the step in message; its rows in out, as F32. */
static void expect_result(struct received *r, float *out) {
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

struct sessions_all {
    struct session_at at[N_SERVERS];
};

static void all_open(struct sessions_all *all) {
    for (uint32_t i = 0; i < N_SERVERS; i++) {
        all->at[i] = session_prepare(i, SESSION_TOKENS);
        memcpy(all->at[i].open.session, all->at[0].open.session, SESSION_SIZE);
        all->at[i].open.has_upstream = i > 0;
        if (i > 0) all->at[i].open.upstream = nodes[i - 1].id;
        session_open_sent(&all->at[i]);
    }
}

static void all_close(const struct sessions_all *all) {
    for (uint32_t i = 0; i < N_SERVERS; i++) session_close(&all->at[i]);
}

static void all_prepare(const struct sessions_all *all, uint32_t position, uint32_t n) {
    step_prepare(&all->at[0], position, n);
    message.n_hops = N_SERVERS - 1;
    for (uint32_t i = 1; i < N_SERVERS; i++) {
        message.hops[i - 1].node = nodes[i];
        memcpy(message.hops[i - 1].secret, all->at[i].secret, SECRET_SIZE);
    }
}

/* Rows of the prompt through the chain; what comes out must have the expected bits. */
static void all_step(const struct sessions_all *all, uint32_t position, uint32_t n) {
    float *out = malloc(n * row_bytes());
    all_prepare(all, position, n);
    step_send(&all->at[0], prompt + (size_t)position * n_embd, n * row_bytes());
    expect_result(answer(&all->at[N_SERVERS - 1]), out);
    assert_memory_equal(out, expected + (size_t)position * n_embd, n * row_bytes());
    free(out);
}

/* The servers still do what they are for. */
static void servers_work(void) {
    struct sessions_all all;
    all_open(&all);
    all_step(&all, 0, ROWS - 1);
    all_step(&all, ROWS - 1, 1);
    all_close(&all);
}

/* A session at server 0 that has the first 8 rows, and goes on from there as if nothing had been. */
static struct session_at session_with_rows(void) {
    struct session_at s = session_open(0);
    step_prepare(&s, 0, 8);
    step_send(&s, prompt, 8 * row_bytes());
    expect_result(answer(&s), NULL);
    return s;
}

static void session_goes_on(const struct session_at *s) {
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

/* ---- what works ------------------------------------------------------------------------------------------------ */

static void a_chain_of_servers_gives_the_bits_of_one_span(void **state) {
    (void)state;
    struct sessions_all all;
    all_open(&all);
    all_step(&all, 0, 7);
    all_step(&all, 7, 20);
    all_step(&all, 27, 1);
    all_step(&all, 5, 30); /* rolled back */
    all_step(&all, 35, 5);
    all_close(&all);
}

static void steps_that_follow_each_other_closely_keep_their_order(void **state) {
    (void)state;
    struct sessions_all all;
    float *out = malloc(row_bytes());
    all_open(&all);
    for (uint32_t i = 0; i < ROWS; i++) {
        all_prepare(&all, i, 1);
        step_send(&all.at[0], prompt + (size_t)i * n_embd, row_bytes());
    }
    for (uint32_t i = 0; i < ROWS; i++) {
        message.position = i;
        expect_result(answer(&all.at[N_SERVERS - 1]), out);
        assert_memory_equal(out, expected + (size_t)i * n_embd, row_bytes());
    }
    free(out);
    all_close(&all);
}

static void only_the_last_rows_come_back_when_so_asked(void **state) {
    (void)state;
    struct session_at s = session_open(0);
    float *rows = malloc(4 * row_bytes());
    step_prepare(&s, 0, 4);
    step_send(&s, prompt, 4 * row_bytes());
    expect_result(answer(&s), rows);
    step_prepare(&s, 0, 4)->n_rows = 1;
    step_send(&s, prompt, 4 * row_bytes());
    float *last = malloc(row_bytes());
    expect_result(answer(&s), last);
    assert_memory_equal(last, rows + 3 * n_embd, row_bytes());
    step_prepare(&s, 0, 4)->n_rows = 0;
    step_send(&s, prompt, 4 * row_bytes());
    struct received *r = answer(&s);
    assert_int_equal(r->body_size, 0);
    expect_result(r, NULL);
    free(rows);
    free(last);
    session_close(&s);
}

static void rows_of_16_bits_come_back_close(void **state) {
    (void)state;
    struct session_at s = session_open(0);
    float *exact = malloc(4 * row_bytes()), *near = malloc(4 * row_bytes());
    step_prepare(&s, 0, 4);
    step_send(&s, prompt, 4 * row_bytes());
    expect_result(answer(&s), exact);
    for (int wire = COROLLA_WIRE_F16; wire <= COROLLA_WIRE_BF16; wire++) {
        uint16_t *body = malloc(4 * n_embd * sizeof *body);
        convert_from_f32((enum corolla_wire)wire, prompt, body, 4 * n_embd);
        step_prepare(&s, 0, 4)->dtype = (enum corolla_wire)wire;
        step_send(&s, body, 4 * n_embd * sizeof *body);
        expect_result(answer(&s), near);
        double difference = 0, size = 0;
        for (uint32_t i = 0; i < 4 * n_embd; i++) {
            difference += pow((double)near[i] - (double)exact[i], 2);
            size += pow((double)exact[i], 2);
        }
        assert_true(difference > 0 && difference < size * 1e-3); /* BF16 has 8 bits; the model is a random one */
        free(body);
    }
    free(exact);
    free(near);
    session_close(&s);
}

/* ---- refused opens --------------------------------------------------------------------------------------------- */

static void opens_that_cannot_be_are_refused_each_with_its_own_status(void **state) {
    (void)state;
    struct session_at s = session_prepare(1, SESSION_TOKENS);
    struct session_at twice = session_open(1);
    s.open.begin = cuts[1] - 1;
    expect_failed(session_ask(&s), COROLLA_NOT_SERVED, NULL);
    s.open.begin = cuts[1];
    s.open.end = cuts[2] + 1;
    expect_failed(session_ask(&s), COROLLA_NOT_SERVED, NULL);
    s.open.end = cuts[2];
    s.open.max_tokens = 100000;
    expect_failed(session_ask(&s), COROLLA_TOO_LONG, NULL);
    s.open.max_tokens = SESSION_TOKENS;
    s.open.model[0] ^= 1;
    expect_failed(session_ask(&s), COROLLA_MODEL_MISMATCH, NULL);
    s.open.model[0] ^= 1;
    memcpy(s.open.session, twice.open.session, SESSION_SIZE);
    expect_failed(session_ask(&s), COROLLA_REFUSED, NULL);
    session_close(&twice);
    servers_work();
}

static void a_full_pool_says_what_is_left_and_is_freed_by_close(void **state) {
    (void)state;
    enum { MANY = 32 };
    struct session_at open[MANY], one_more;
    struct msg_failed failed;
    uint32_t n = 0;
    for (;;) {
        struct session_at s = session_prepare(0, 512);
        struct received *r = session_ask(&s);
        if (r->kind == MSG_FAILED) {
            expect_failed(r, COROLLA_NO_CACHE, &failed);
            break;
        }
        struct msg_opened opened;
        assert_int_equal(msg_opened_decode(r->header, r->header_size, &opened, NULL), COROLLA_OK);
        memcpy(s.secret, opened.secret, SECRET_SIZE);
        received_free(r);
        assert_true(n < MANY);
        open[n++] = s;
    }
    assert_int_equal(n, CACHE_TOKENS / 512);
    assert_int_equal(failed.cache_tokens_left, CACHE_TOKENS % 512);
    assert_true(failed.retry_after_ms > 0);
    session_close(&open[--n]);
    one_more = session_prepare(0, 512);
    one_more.stream = open[n].stream; /* in order behind the CLOSE */
    session_open_sent(&one_more);
    session_close(&one_more);
    for (uint32_t i = 0; i < n; i++) session_close(&open[i]);
    for (uint32_t i = 0; i < n; i++) { /* all of them are closed when the last stream answers */
        one_more = session_prepare(0, 512);
        one_more.stream = open[i].stream;
        session_open_sent(&one_more);
        session_close(&one_more);
    }
    servers_work();
}

static void one_client_has_a_bounded_number_of_sessions(void **state) {
    (void)state;
    struct session_at *open = calloc(SESSIONS_PER_CLIENT_MAX, sizeof *open);
    for (uint32_t i = 0; i < SESSIONS_PER_CLIENT_MAX; i++) {
        open[i] = session_prepare(0, KV_PAD);
        session_open_sent(&open[i]);
    }
    struct session_at s = session_prepare(0, KV_PAD);
    struct msg_failed failed;
    expect_failed(session_ask(&s), COROLLA_BUSY, &failed);
    assert_true(failed.retry_after_ms > 0);
    for (uint32_t i = 0; i < SESSIONS_PER_CLIENT_MAX; i++) {
        open[i].stream = open[0].stream; /* one order for all, and for the next */
        session_close(&open[i]);
    }
    s.stream = open[0].stream;
    session_open_sent(&s);
    session_close(&s);
    free(open);
    servers_work();
}

/* ---- refused steps --------------------------------------------------------------------------------------------- */

static void a_step_past_the_length_of_the_session_is_too_long(void **state) {
    (void)state;
    struct session_at s = session_with_rows();
    uint8_t *body = calloc(SESSION_TOKENS, row_bytes());
    step_prepare(&s, 8, SESSION_TOKENS - 8 + 1)->n_rows = 1;
    step_send(&s, body, (SESSION_TOKENS - 8 + 1) * row_bytes());
    struct msg_failed failed;
    expect_failed(answer(&s), COROLLA_TOO_LONG, &failed);
    assert_int_equal(failed.position, 8);
    free(body);
    session_goes_on(&s);
}

static void a_step_out_of_order_is_refused(void **state) {
    (void)state;
    struct session_at s = session_with_rows();
    step_prepare(&s, 9, 1);
    step_send(&s, prompt, row_bytes());
    struct msg_failed failed;
    expect_failed(answer(&s), COROLLA_BAD_POSITION, &failed);
    assert_int_equal(failed.position, 9);
    session_goes_on(&s);
}

static void an_unknown_session_is_no_session(void **state) {
    (void)state;
    struct session_at s = session_with_rows(), unknown = s;
    unknown.open.session[3] ^= 1;
    step_prepare(&unknown, 8, 1);
    step_send(&unknown, prompt, row_bytes());
    expect_failed(answer(&s), COROLLA_NO_SESSION, NULL);
    struct session_at closed = session_open(0);
    session_close(&closed);
    step_prepare(&closed, 0, 1);
    step_send(&closed, prompt, row_bytes());
    expect_failed(answer(&closed), COROLLA_NO_SESSION, NULL);
    session_goes_on(&s);
}

static void a_wrong_secret_neither_steps_nor_closes(void **state) {
    (void)state;
    struct session_at s = session_with_rows(), wrong = s;
    wrong.secret[SECRET_SIZE - 1] ^= 1;
    step_prepare(&wrong, 8, 1);
    step_send(&wrong, prompt, row_bytes());
    expect_failed(answer(&s), COROLLA_REFUSED, NULL);
    session_close(&wrong);
    session_goes_on(&s);
}

static void a_stranger_who_knows_the_secret_neither_steps_nor_closes(void **state) {
    (void)state;
    struct session_at s = session_with_rows();
    struct driver *stranger = driver_open();
    struct link *link = driver_dial(stranger, corolla_server_join_code(servers[0]), NULL);
    uint32_t stream = driver_stream(stranger, link);
    uint8_t header[MSG_HEADER_MAX];
    struct msg_close close;
    memcpy(close.session, s.open.session, SESSION_SIZE);
    memcpy(close.secret, s.secret, SECRET_SIZE);
    driver_send(stranger, link, stream, MSG_CLOSE, header, msg_close_encode(&close, header), NULL, 0);
    step_prepare(&s, 0, 1); /* in the client's name: it would roll the session back */
    driver_send(stranger, link, stream, MSG_STEP, header, msg_step_encode(&message, header), prompt, row_bytes());
    message.client = driver_self(stranger)->id;
    driver_send(stranger, link, stream, MSG_STEP, header, msg_step_encode(&message, header), prompt, row_bytes());
    expect_failed(driver_receive(stranger, link, stream), COROLLA_REFUSED, NULL);
    assert_int_equal(driver_pending(driver, links[0], s.stream), 0); /* the client was not bothered */
    driver_close(stranger);
    session_goes_on(&s);
}

static void a_body_of_another_size_is_malformed(void **state) {
    (void)state;
    struct session_at s = session_with_rows();
    size_t sizes[] = {0, 1, row_bytes() - 4, row_bytes() + 4, 2 * row_bytes()};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        step_prepare(&s, 8, 1);
        step_send(&s, prompt, sizes[i]);
        expect_failed(answer(&s), COROLLA_FORMAT, NULL);
    }
    session_goes_on(&s);
}

static void a_step_of_more_rows_than_a_batch_is_invalid(void **state) {
    (void)state;
    struct session_at s = session_with_rows();
    size_t size = (BATCH_ROWS_MAX + 1) * row_bytes();
    uint8_t *body = calloc(1, size);
    step_prepare(&s, 0, BATCH_ROWS_MAX + 1)->n_rows = 1;
    step_send(&s, body, size);
    expect_failed(answer(&s), COROLLA_INVALID, NULL);
    free(body);
    session_goes_on(&s);
}

static void numbers_that_are_not_finite_are_refused_in_every_wire_type(void **state) {
    (void)state;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    struct session_at s = session_with_rows();
    float *rows = malloc(3 * row_bytes());
    uint8_t *body = malloc(3 * row_bytes());
    for (int wire = COROLLA_WIRE_F32; wire <= COROLLA_WIRE_BF16; wire++) {
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
            memcpy(rows, prompt, 3 * row_bytes());
            rows[3 * n_embd - 1] = bad[i];
            convert_from_f32((enum corolla_wire)wire, rows, body, 3 * n_embd);
            step_prepare(&s, 8, 3)->dtype = (enum corolla_wire)wire;
            step_send(&s, body, 3 * n_embd * msg_wire_size((enum corolla_wire)wire));
            expect_failed(answer(&s), COROLLA_FORMAT, NULL);
        }
    }
    free(rows);
    free(body);
    session_goes_on(&s);
}

static void a_bad_step_fails_those_behind_it_and_not_other_sessions(void **state) {
    (void)state;
    struct session_at s = session_with_rows(), other = session_with_rows();
    float *row = malloc(row_bytes());
    memcpy(row, prompt, row_bytes());
    row[0] = NAN;
    step_prepare(&s, 8, 1);
    step_send(&s, row, row_bytes());
    step_prepare(&s, 9, 1);
    step_send(&s, prompt, row_bytes());
    expect_failed(answer(&s), COROLLA_FORMAT, NULL);
    expect_failed(answer(&s), COROLLA_BAD_POSITION, NULL);
    free(row);
    session_goes_on(&other);
    session_goes_on(&s);
}

static void steps_of_an_older_epoch_vanish(void **state) {
    (void)state;
    struct session_at s = session_with_rows();
    step_prepare(&s, 8, 1)->epoch = epoch_of_test + 1;
    step_send(&s, prompt + 8 * n_embd, row_bytes());
    expect_result(answer(&s), NULL);
    step_prepare(&s, 0, 1); /* would roll back */
    step_send(&s, prompt, row_bytes());
    epoch_of_test++;
    session_goes_on(&s); /* whose first answer is the next one */
}

/* ---- the next hop ---------------------------------------------------------------------------------------------- */

static void a_next_hop_that_nobody_answers_for_is_the_culprit(void **state) {
    (void)state;
    struct session_at s = session_with_rows();
    struct node_ref nobody = {.id = nodes[1].id, .n_addrs = 1};
    nobody.id.key[5] ^= 1;
    strcpy(nobody.addrs[0], nodes[1].addrs[0]); /* somebody else answers there */
    step_prepare(&s, 8, 1);
    message.n_hops = 1;
    message.hops[0].node = nobody;
    memset(message.hops[0].secret, 0, SECRET_SIZE);
    step_send(&s, prompt, row_bytes());
    struct msg_failed failed;
    expect_failed(answer(&s), COROLLA_PEER_LOST, &failed);
    assert_true(failed.has_culprit);
    assert_true(node_id_equal(&failed.culprit, &nobody.id));
    assert_non_null(strstr(failed.text, "cannot be reached"));
    assert_null(strstr(failed.text, nobody.addrs[0])); /* what is behind an address is not for clients */
    assert_null(strstr(failed.text, "key"));
    epoch_of_test++;
    session_goes_on(&s); /* from position 8 */
}

static void a_server_is_not_its_own_next_hop(void **state) {
    (void)state;
    struct session_at s = session_with_rows();
    step_prepare(&s, 8, 1);
    message.n_hops = 1;
    message.hops[0].node = nodes[0];
    memset(message.hops[0].secret, 0, SECRET_SIZE);
    step_send(&s, prompt, row_bytes());
    expect_failed(answer(&s), COROLLA_REFUSED, NULL);
    session_goes_on(&s);
}

/* ---- peers that break the protocol, or leave ------------------------------------------------------------------- */

static void malformed_messages_cost_the_link_and_nothing_else(void **state) {
    (void)state;
    const enum msg_kind kinds[] = {MSG_OPEN, MSG_STEP, MSG_CLOSE};
    struct session_at s = session_with_rows();
    struct driver *stranger = driver_open();
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        struct link *link = driver_dial(stranger, corolla_server_join_code(servers[0]), NULL);
        driver_send(stranger, link, driver_stream(stranger, link), kinds[i], (const uint8_t *)"\xff\xff\xff", 3, NULL, 0);
        char why[DRIVER_WHY_SIZE];
        driver_wait_down(stranger, link, why);
        if (!strstr(why, "(PEER_FAULT)")) fail_msg("the link ended for another reason: %s", why);
    }
    driver_close(stranger);
    session_goes_on(&s);
}

static void kinds_of_later_versions_and_answers_to_nothing_are_ignored(void **state) {
    (void)state;
    struct session_at s = session_with_rows();
    const unsigned kinds[] = {MSG_INFO, MSG_OPENED, MSG_RESULT, MSG_FAILED, MSG_DRAIN, 17, 60, 65535};
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        driver_send(driver, links[0], s.stream, (enum msg_kind)kinds[i], (const uint8_t *)"junk", 4, NULL, 0);
    session_goes_on(&s);
}

static uint64_t cache_left(uint32_t server) {
    struct msg_info info;
    uint32_t stream = driver_stream(driver, links[server]);
    driver_send(driver, links[server], stream, MSG_INFO_GET, NULL, 0, NULL, 0);
    struct received *r = driver_receive(driver, links[server], stream);
    assert_int_equal(r->kind, MSG_INFO);
    assert_int_equal(msg_info_decode(r->header, r->header_size, &info, NULL), COROLLA_OK);
    assert_int_equal(info.begin, cuts[server]);
    assert_int_equal(info.end, cuts[server + 1]);
    received_free(r);
    return info.cache_tokens_left;
}

static void the_sessions_of_a_client_that_is_gone_are_freed(void **state) {
    (void)state;
    struct driver *leaver = driver_open(), *mine = driver;
    struct link *link = links[0];
    uint64_t before = cache_left(0);
    driver = leaver;
    links[0] = driver_dial(leaver, corolla_server_join_code(servers[0]), NULL);
    struct session_at s = session_open(0);
    for (uint32_t i = 0; i < 8; i++) { /* some are still computing when it goes */
        step_prepare(&s, i * 8, 8);
        step_send(&s, prompt, 8 * row_bytes());
    }
    driver = mine;
    links[0] = link;
    assert_true(cache_left(0) < before);
    driver_close(leaver);
    for (int i = 0; cache_left(0) != before; i++) assert_true(i < 100000); /* the server hears of it when the link ends */
    servers_work();
}

static void a_server_that_leaves_tells_everybody_and_its_session(void **state) {
    (void)state;
    struct corolla_server *leaver;
    struct corolla_error err = {0};
    struct corolla_server_config config;
    corolla_server_config_default(&config);
    config.listen = "127.0.0.1:0";
    config.home = scratch_file("home-leaver");
    config.begin = cuts[1];
    config.end = cuts[2];
    config.threads = 1;
    config.cache_tokens = CACHE_TOKENS;
    if (corolla_server_start(&leaver, model, &config, &err) != COROLLA_OK) fail_msg("%s", err.message);
    struct node_ref node, right = nodes[1];
    struct link *right_link = links[1];
    links[1] = driver_dial(driver, corolla_server_join_code(leaver), &node);
    nodes[1] = node;
    struct sessions_all all;
    all_open(&all);
    all_step(&all, 0, 8);
    corolla_server_stop(leaver);
    struct received *r = driver_receive(driver, links[1], 0);
    assert_int_equal(r->kind, MSG_DRAIN);
    received_free(r);
    struct msg_failed failed; /* from the hop before it, by itself */
    expect_failed(answer(&all.at[0]), COROLLA_PEER_LOST, &failed);
    assert_true(failed.has_culprit && node_id_equal(&failed.culprit, &node.id));
    driver_wait_down(driver, links[1], NULL);
    nodes[1] = right;
    links[1] = right_link;
    session_close(&all.at[0]);
    session_close(&all.at[2]);
    servers_work();
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

static int start(void **state) {
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
        struct corolla_server_config config;
        corolla_server_config_default(&config);
        config.listen = "127.0.0.1:0";
        config.home = scratch_file("home"); /* one home: several instances */
        config.begin = cuts[i];
        config.end = cuts[i + 1];
        config.threads = 1;
        config.cache_tokens = CACHE_TOKENS;
        must(corolla_server_start(&servers[i], model, &config, &err), &err);
        links[i] = driver_dial(driver, corolla_server_join_code(servers[i]), &nodes[i]);
    }
    return 0;
}

static int stop(void **state) {
    (void)state;
    for (uint32_t i = 0; i < N_SERVERS; i++) corolla_server_stop(servers[i]);
    driver_close(driver);
    corolla_model_close(model);
    free(prompt);
    free(expected);
    scratch_remove();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_of_servers_gives_the_bits_of_one_span),
        cmocka_unit_test(steps_that_follow_each_other_closely_keep_their_order),
        cmocka_unit_test(only_the_last_rows_come_back_when_so_asked),
        cmocka_unit_test(rows_of_16_bits_come_back_close),
        cmocka_unit_test(opens_that_cannot_be_are_refused_each_with_its_own_status),
        cmocka_unit_test(a_full_pool_says_what_is_left_and_is_freed_by_close),
        cmocka_unit_test(one_client_has_a_bounded_number_of_sessions),
        cmocka_unit_test(a_step_past_the_length_of_the_session_is_too_long),
        cmocka_unit_test(a_step_out_of_order_is_refused),
        cmocka_unit_test(an_unknown_session_is_no_session),
        cmocka_unit_test(a_wrong_secret_neither_steps_nor_closes),
        cmocka_unit_test(a_stranger_who_knows_the_secret_neither_steps_nor_closes),
        cmocka_unit_test(a_body_of_another_size_is_malformed),
        cmocka_unit_test(a_step_of_more_rows_than_a_batch_is_invalid),
        cmocka_unit_test(numbers_that_are_not_finite_are_refused_in_every_wire_type),
        cmocka_unit_test(a_bad_step_fails_those_behind_it_and_not_other_sessions),
        cmocka_unit_test(steps_of_an_older_epoch_vanish),
        cmocka_unit_test(a_next_hop_that_nobody_answers_for_is_the_culprit),
        cmocka_unit_test(a_server_is_not_its_own_next_hop),
        cmocka_unit_test(malformed_messages_cost_the_link_and_nothing_else),
        cmocka_unit_test(kinds_of_later_versions_and_answers_to_nothing_are_ignored),
        cmocka_unit_test(the_sessions_of_a_client_that_is_gone_are_freed),
        cmocka_unit_test(a_server_that_leaves_tells_everybody_and_its_session),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
