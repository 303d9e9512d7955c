/* test_node_resume.c - sessions that go on: SYNC after lost links and lost hops, REPLAY of kept rows, hostile ones of both, leases. */
#include <arpa/inet.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "model/convert.h"
#include "model/span.h"
#include "node/sessions.h"
#include "support/stage.h"

static uint8_t header[MSG_HEADER_MAX];

/* ---- SYNC and REPLAY as a client has them ---------------------------------------------------------------------- */

static struct msg_sync sync_of(const struct session_at *s) {
    struct msg_sync sync = {.epoch = epoch_of_test};
    memcpy(sync.session, s->open.session, SESSION_SIZE);
    memcpy(sync.secret, s->secret, SECRET_SIZE);
    return sync;
}

static void sync_send(const struct session_at *s, const struct msg_sync *sync) {
    driver_send(driver, links[s->server], s->stream, MSG_SYNC, header, msg_sync_encode(sync, header), NULL, 0);
}

static struct msg_synced expect_synced(struct received *r) {
    struct msg_synced synced;
    if (r->kind == MSG_FAILED) expect_failed(r, COROLLA_OK, NULL);
    assert_int_equal(r->kind, MSG_SYNCED);
    assert_int_equal(msg_synced_decode(r->header, r->header_size, &synced, NULL), COROLLA_OK);
    received_free(r);
    return synced;
}

/* The session of this server goes on in epoch_of_test. */
static struct msg_synced resume(const struct session_at *s) {
    struct msg_sync sync = sync_of(s);
    sync_send(s, &sync);
    struct msg_synced synced = expect_synced(answer(s));
    assert_memory_equal(synced.session, s->open.session, SESSION_SIZE);
    assert_int_equal(synced.epoch, epoch_of_test);
    return synced;
}

/* Fills the message that a right replay from one server to the next has. */
static void replay_prepare(const struct session_at *from, const struct session_at *to, uint32_t position, uint32_t n) {
    step_prepare(from, position, n)->n_rows = 0;
    message.n_hops = 1;
    message.hops[0].node = nodes[to->server];
    memcpy(message.hops[0].secret, to->secret, SECRET_SIZE);
}

static void replay_send(const struct session_at *from) {
    driver_send(driver, links[from->server], from->stream, MSG_REPLAY, header, msg_step_encode(&message, header), NULL, 0);
}

static void expect_replayed(struct received *r, uint32_t position, uint32_t n) {
    struct msg_result result;
    if (r->kind == MSG_FAILED) expect_failed(r, COROLLA_OK, NULL);
    assert_int_equal(r->kind, MSG_RESULT);
    assert_int_equal(msg_result_decode(r->header, r->header_size, &result, NULL), COROLLA_OK);
    assert_int_equal(result.position, position);
    assert_int_equal(result.n_tokens, n);
    assert_int_equal(result.n_timings, 2); /* of the hop that kept the rows, and of the one that was fed */
    assert_int_equal(result.timings[0].queue_us + result.timings[0].compute_us, 0);
    received_free(r);
}

/* Opens the session of a chain at the spare that now stands in the place of server 1. */
static void open_at_spare(struct sessions_all *all) {
    all->at[1] = session_prepare(1, SESSION_TOKENS);
    memcpy(all->at[1].open.session, all->at[0].open.session, SESSION_SIZE);
    all->at[1].open.has_upstream = all->at[1].open.keep = true;
    all->at[1].open.upstream = nodes[0].id;
    session_open_sent(&all->at[1]);
}

static struct msg_synced resume_behind(const struct session_at *s, const struct node_id *upstream) {
    struct msg_sync sync = sync_of(s);
    sync.has_upstream = true;
    sync.upstream = *upstream;
    sync_send(s, &sync);
    return expect_synced(answer(s));
}

/* ---- a hop is lost --------------------------------------------------------------------------------------------- */

/* n positions are through the chain, server 1 is gone, and a spare has taken its place: the others still have all, and are told. */
static struct spare lose_the_middle(struct sessions_all *all, uint32_t n) {
    all_open_keeping(all);
    all_step(all, 0, n - 1);
    all_step(all, n - 1, 1);
    session_close(&all->at[1]); /* as good as dead */
    struct spare spare = spare_start(1);
    open_at_spare(all);
    epoch_of_test++;
    struct msg_synced first = resume(&all->at[0]), last = resume_behind(&all->at[2], &nodes[1].id);
    assert_int_equal(first.length, n);
    assert_int_equal(first.kept, n);
    assert_int_equal(first.computed_epoch, epoch_of_test - 1);
    assert_int_equal(last.length, n);
    assert_int_equal(last.kept, 0); /* nobody asked it to */
    return spare;
}

static void find_the_middle(struct sessions_all *all, struct spare *spare) {
    all_close(all);
    corolla_server_stop(spare->handle);
    spare_step_back(spare);
    servers_work();
}

static void a_new_hop_is_fed_with_kept_rows_and_the_others_keep_what_they_have(void **state) {
    (void)state;
    struct sessions_all all;
    struct spare spare = lose_the_middle(&all, 20);
    replay_prepare(&all.at[0], &all.at[1], 0, 20);
    replay_send(&all.at[0]);
    expect_replayed(answer(&all.at[1]), 0, 20);
    all_step(&all, 20, 1);
    all_step(&all, 21, ROWS - 21);
    all_step(&all, 15, 10); /* back into what was replayed */
    assert_int_equal(resume(&all.at[1]).kept, 25);
    find_the_middle(&all, &spare);
}

static void replays_and_steps_that_follow_each_other_closely_keep_their_order(void **state) {
    (void)state;
    struct sessions_all all;
    struct spare spare = lose_the_middle(&all, 20);
    for (uint32_t i = 0; i < 20; i += 5) {
        replay_prepare(&all.at[0], &all.at[1], i, 5);
        replay_send(&all.at[0]);
    }
    all_step(&all, 20, 4);
    for (uint32_t i = 0; i < 20; i += 5) expect_replayed(answer(&all.at[1]), i, 5);
    find_the_middle(&all, &spare);
}

static void while_a_new_hop_is_fed_steps_go_on_to_the_old_one(void **state) {
    (void)state;
    struct sessions_all all;
    all_open_keeping(&all);
    all_step(&all, 0, 10);
    struct session_at old = all.at[1];
    struct spare spare = spare_start(1);
    struct node_ref spare_node = nodes[1];
    struct link *spare_link = links[1];
    open_at_spare(&all);
    struct session_at fresh = all.at[1];
    for (uint32_t i = 0; i < 10; i++) {
        all.at[1] = fresh;
        nodes[1] = spare_node, links[1] = spare_link;
        replay_prepare(&all.at[0], &fresh, i, 1);
        replay_send(&all.at[0]);
        expect_replayed(answer(&fresh), i, 1);
        all.at[1] = old;
        spare_step_back(&spare);
        all_step(&all, 10 + i, 1);
    }
    nodes[1] = spare_node, links[1] = spare_link;
    replay_prepare(&all.at[0], &fresh, 10, 10); /* what came meanwhile; behind it the steps go the new way */
    replay_send(&all.at[0]);
    expect_replayed(answer(&fresh), 10, 10);
    epoch_of_test++;
    resume_behind(&all.at[2], &nodes[1].id);
    all.at[1] = fresh;
    all_step(&all, 20, 5);
    spare_step_back(&spare);
    session_close(&old);
    nodes[1] = spare_node, links[1] = spare_link;
    find_the_middle(&all, &spare);
}

static void the_end_of_a_hop_that_was_left_is_nobodys_business(void **state) {
    (void)state;
    struct sessions_all all;
    struct spare spare = spare_start(1);
    all_open_keeping(&all);
    all_step(&all, 0, 10);
    session_close(&all.at[1]);
    struct link *spare_link = links[1];
    spare_step_back(&spare);
    open_at_spare(&all); /* at the one that was there from the beginning */
    epoch_of_test++;
    resume(&all.at[0]);
    resume_behind(&all.at[2], &nodes[1].id);
    replay_prepare(&all.at[0], &all.at[1], 0, 10);
    replay_send(&all.at[0]);
    expect_replayed(answer(&all.at[1]), 0, 10);
    all_step(&all, 10, 1);
    corolla_server_stop(spare.handle);
    driver_wait_down(driver, spare_link, NULL);
    all_step(&all, 11, 5);
    assert_int_equal(resume(&all.at[0]).length, 16); /* the next that it said; nothing came in between */
    all_close(&all);
    servers_work();
}

/* ---- what a session has, after whatever happened --------------------------------------------------------------- */

static void rolled_back_and_failed_steps_leave_as_many_kept_rows_as_positions(void **state) {
    (void)state;
    struct session_at s = session_prepare(0, SESSION_TOKENS);
    float *rows = malloc(8 * row_bytes());
    s.open.keep = true;
    session_open_sent(&s);
    step_prepare(&s, 0, 30);
    step_send(&s, prompt, 30 * row_bytes());
    expect_result(answer(&s), NULL);
    step_prepare(&s, 4, 8);
    step_send(&s, prompt, 8 * row_bytes());
    expect_result(answer(&s), NULL);
    struct msg_synced synced = resume(&s);
    assert_int_equal(synced.length, 12);
    assert_int_equal(synced.kept, 12);
    memcpy(rows, prompt, 8 * row_bytes());
    rows[5] = NAN;
    step_prepare(&s, 6, 8);
    step_send(&s, rows, 8 * row_bytes());
    expect_failed(answer(&s), COROLLA_FORMAT, NULL);
    synced = resume(&s);
    assert_int_equal(synced.length, 6);
    assert_int_equal(synced.kept, 6);
    step_prepare(&s, 7, 1); /* expected is where SYNCED said */
    step_send(&s, prompt, row_bytes());
    expect_failed(answer(&s), COROLLA_BAD_POSITION, NULL);
    free(rows);
    session_close(&s);
}

static void a_session_that_keeps_has_steps_of_one_type(void **state) {
    (void)state;
    struct session_at s = session_prepare(0, SESSION_TOKENS);
    uint16_t *body = malloc(4 * n_embd * sizeof *body);
    s.open.keep = true;
    s.open.dtype = COROLLA_WIRE_F16;
    session_open_sent(&s);
    step_prepare(&s, 0, 4);
    step_send(&s, prompt, 4 * row_bytes());
    expect_failed(answer(&s), COROLLA_INVALID, NULL);
    convert_from_f32(COROLLA_WIRE_F16, prompt, body, 4 * n_embd);
    step_prepare(&s, 0, 4)->dtype = COROLLA_WIRE_F16;
    step_send(&s, body, 4 * n_embd * sizeof *body);
    expect_result(answer(&s), NULL);
    assert_int_equal(resume(&s).kept, 4);
    free(body);
    session_close(&s);
}

static void sync_waits_for_what_computes_and_drops_what_waits(void **state) {
    (void)state;
    struct session_at s = session_prepare(0, SESSION_TOKENS);
    s.open.keep = true;
    session_open_sent(&s);
    for (uint32_t i = 0; i < ROWS; i++) {
        step_prepare(&s, i, 1);
        step_send(&s, prompt + (size_t)i * n_embd, row_bytes());
    }
    step_prepare(&s, 0, 1); /* back to the beginning; it waits behind the others, and then it does not count */
    step_send(&s, prompt, row_bytes());
    epoch_of_test++;
    struct msg_sync sync = sync_of(&s);
    sync_send(&s, &sync);
    struct received *r = answer(&s);
    uint32_t results = 0;
    for (; r->kind == MSG_RESULT; r = answer(&s)) {
        received_free(r);
        results++;
    }
    struct msg_synced synced = expect_synced(r);
    bool went_back = synced.length == 1; /* the step back may compute as SYNC comes, or have been faster; then it counts */
    if (!went_back) assert_in_range(synced.length, results, ROWS);
    assert_int_equal(synced.length, synced.kept);
    step_prepare(&s, synced.length, 1); /* its result is the next that comes */
    step_send(&s, prompt, row_bytes());
    expect_result(answer(&s), NULL);
    assert_int_equal(resume(&s).computed_epoch, epoch_of_test);
    session_close(&s);
}

static void sync_in_the_running_epoch_waits_for_all_steps(void **state) {
    (void)state;
    struct session_at s = session_with_rows();
    for (uint32_t i = 8; i < ROWS; i++) {
        step_prepare(&s, i, 1);
        step_send(&s, prompt + (size_t)i * n_embd, row_bytes());
    }
    struct msg_sync sync = sync_of(&s);
    sync_send(&s, &sync);
    for (uint32_t i = 8; i < ROWS; i++) received_free(answer(&s));
    assert_int_equal(expect_synced(answer(&s)).length, ROWS);
    session_close(&s);
}

/* ---- links of clients ------------------------------------------------------------------------------------------ */

static void reconnect(struct session_at *s) {
    driver_cut(driver, links[s->server]);
    links[s->server] = driver_dial(driver, corolla_server_join_code(servers[s->server]), NULL);
    s->stream = driver_stream(driver, links[s->server]);
}

static void a_client_that_lost_its_link_goes_on_over_another(void **state) {
    (void)state;
    struct session_at s = session_with_rows();
    for (int i = 0; i < 50; i++) {
        reconnect(&s);
        epoch_of_test++;
        assert_int_equal(resume(&s).length, 8);
    }
    assert_int_equal(server_info(0).sessions, 1); /* not fifty */
    session_goes_on(&s);
}

static void steps_go_on_while_the_client_has_no_link(void **state) {
    (void)state;
    struct sessions_all all;
    all_open_keeping(&all);
    for (uint32_t i = 0; i < ROWS; i++) {
        all_prepare(&all, i, 1);
        step_send(&all.at[0], prompt + (size_t)i * n_embd, row_bytes());
    }
    received_free(answer(&all.at[2]));
    reconnect(&all.at[2]);
    for (uint32_t length = 0, i = 0; length < ROWS; i++) { /* in the same epoch: the steps that are under way still count */
        struct msg_sync sync = sync_of(&all.at[2]);
        sync_send(&all.at[2], &sync);
        struct received *r = answer(&all.at[2]);
        for (; r->kind == MSG_RESULT; r = answer(&all.at[2])) received_free(r);
        length = expect_synced(r).length;
        assert_true(i < 100000);
    }
    all_close(&all);
    servers_work();
}

static void a_failure_while_the_client_has_no_link_is_nobodys(void **state) {
    (void)state;
    struct spare spare = spare_start(1);
    struct sessions_all all;
    all_open_keeping(&all);
    all_step(&all, 0, 8);
    session_close(&all.at[1]); /* so that the spare stops at once */
    driver_cut(driver, links[0]);
    corolla_server_stop(spare.handle); /* the hop before it has a lost link to tell, and nobody to tell it to */
    spare_step_back(&spare);
    links[0] = driver_dial(driver, corolla_server_join_code(servers[0]), NULL);
    all.at[0].stream = driver_stream(driver, links[0]);
    assert_int_equal(resume(&all.at[0]).length, 8);
    all_close(&all);
    servers_work();
}

static void answers_go_where_the_last_sync_came_from(void **state) {
    (void)state;
    struct session_at s = session_with_rows(), other = s;
    other.stream = driver_stream(driver, links[0]);
    resume(&other);
    step_prepare(&other, 8, 1);
    step_send(&s, prompt + 8 * n_embd, row_bytes()); /* on the first stream */
    expect_result(answer(&other), NULL);
    assert_int_equal(driver_pending(driver, links[0], s.stream), 0);
    session_goes_on(&other);
}

static void a_flood_of_syncs_is_answered_and_costs_nothing(void **state) {
    (void)state;
    struct session_at s = session_with_rows();
    struct msg_sync sync = sync_of(&s);
    for (int i = 0; i < 1000; i++) sync_send(&s, &sync);
    for (int i = 0; i < 1000; i++) assert_int_equal(expect_synced(answer(&s)).length, 8);
    session_goes_on(&s);
}

/* The steps of a session go to the client itself, which sees on which streams they come. */
static void prepare_to_self(const struct session_at *s, uint32_t position, uint32_t n) {
    step_prepare(s, position, n)->n_hops = 1;
    message.hops[0].node = (struct node_ref){.id = driver_self(driver)->id};
    memset(message.hops[0].secret, 0, SECRET_SIZE);
}

static uint32_t stream_of_next(void) {
    struct received *r = driver_receive(driver, links[0], 0);
    if (r->kind == MSG_FAILED) expect_failed(r, COROLLA_OK, NULL);
    assert_int_equal(r->kind, MSG_STEP);
    uint32_t stream = r->stream;
    received_free(r);
    return stream;
}

/* A client that named itself as the next hop: its link is both ends of the session. */
static void a_client_that_is_its_own_next_hop_may_lose_its_link(void **state) {
    (void)state;
    struct session_at s = session_with_rows();
    prepare_to_self(&s, 8, 1);
    step_send(&s, prompt + 8 * n_embd, row_bytes());
    stream_of_next();
    reconnect(&s);
    epoch_of_test++;
    assert_int_equal(resume(&s).length, 9);
    message.epoch = epoch_of_test;
    step_send(&s, prompt + 8 * n_embd, row_bytes()); /* over the new link: the old one is forgotten */
    stream_of_next();
    epoch_of_test++;
    session_goes_on(&s);
}

static void steps_use_the_stream_of_the_replays_that_went_before(void **state) {
    (void)state;
    struct session_at s = session_prepare(0, SESSION_TOKENS);
    s.open.keep = true;
    session_open_sent(&s);
    step_prepare(&s, 0, 8)->n_hops = 1; /* to where nobody knows the session */
    message.hops[0].node = nodes[1];
    memset(message.hops[0].secret, 0, SECRET_SIZE);
    step_send(&s, prompt, 8 * row_bytes());
    while (resume(&s).length < 8) {
    }
    prepare_to_self(&s, 0, 8);
    replay_send(&s);
    uint32_t stream = stream_of_next();
    prepare_to_self(&s, 8, 1);
    step_send(&s, prompt + 8 * n_embd, row_bytes());
    assert_int_equal(stream_of_next(), stream);
    prepare_to_self(&s, 0, 9);
    replay_send(&s);
    assert_int_equal(stream_of_next(), stream);
    session_close(&s);
    servers_work();
}

static void a_step_that_goes_elsewhere_does_not_turn_those_before_it(void **state) {
    (void)state;
    struct session_at s = session_with_rows();
    prepare_to_self(&s, 8, 1);
    step_send(&s, prompt, row_bytes());
    uint32_t stream = stream_of_next();
    prepare_to_self(&s, 9, 30); /* computes while the next one comes */
    step_send(&s, prompt, 30 * row_bytes());
    prepare_to_self(&s, 39, 1);
    message.hops[0].node = nodes[1];
    step_send(&s, prompt, row_bytes());
    assert_int_equal(stream_of_next(), stream);
    epoch_of_test++;
    session_goes_on(&s);
}

/* ---- leases ---------------------------------------------------------------------------------------------------- */

/* A session whose client then loses its link. */
static struct session_at orphan(struct client *c) {
    client_enter(c);
    struct session_at s = session_prepare(0, 512);
    session_open_sent(&s);
    driver_cut(driver, links[0]);
    client_leave(c);
    return s;
}

static void wait_for_sessions(uint32_t n) {
    for (int i = 0;; i++) {
        if (server_info(0).sessions == n) return;
        assert_true(i < 100000);
    }
}

static void a_lease_ends_early_for_who_needs_the_memory_the_oldest_first(void **state) {
    (void)state;
    enum { ALL = CACHE_TOKENS / 512 };
    struct client first = {.driver = driver_open()}, second = {.driver = driver_open()};
    struct session_at old = orphan(&first), young = orphan(&second), mine[ALL];
    for (int i = 0; i < ALL - 1; i++) { /* one of two has to go */
        mine[i] = session_prepare(0, 512);
        session_open_sent(&mine[i]);
    }
    client_enter(&second);
    young.stream = driver_stream(driver, links[0]);
    assert_int_equal(resume(&young).length, 0);
    client_leave(&second);
    client_enter(&first);
    old.stream = driver_stream(driver, links[0]);
    struct msg_sync sync = sync_of(&old);
    sync_send(&old, &sync);
    expect_failed(answer(&old), COROLLA_NO_SESSION, NULL);
    client_leave(&first);
    struct session_at more = session_prepare(0, 512);
    expect_failed(session_ask(&more), COROLLA_NO_CACHE, NULL); /* sessions with a link stay */
    driver_close(first.driver);
    driver_close(second.driver);
    for (int i = 0; i < ALL - 1; i++) session_close(&mine[i]);
    wait_for_sessions(0);
    assert_int_equal(server_info(0).cache_tokens_left, CACHE_TOKENS);
    servers_work();
}

/* The client did not know that its session was still there; others do not get it. */
static void an_orphan_makes_room_for_its_own_client(void **state) {
    (void)state;
    struct client owner = {.driver = driver_open()};
    struct session_at lost = orphan(&owner);
    struct received *r = session_ask(&lost); /* by the stage's client */
    expect_failed(r, COROLLA_REFUSED, NULL);
    client_enter(&owner);
    session_open_sent(&lost);
    assert_int_equal(server_info(0).sessions, 1);
    expect_failed(session_ask(&lost), COROLLA_REFUSED, NULL); /* now it has a link */
    session_close(&lost);
    client_leave(&owner);
    driver_close(owner.driver);
    wait_for_sessions(0);
    servers_work();
}

/* ---- rows that are kept are promised at opening ---------------------------------------------------------------- */

static uint32_t open_many(bool keep, struct session_at *out) {
    for (uint32_t n = 0;; n++) {
        out[n] = session_prepare(0, 512);
        out[n].open.end = out[n].open.begin + 1; /* half of the server's blocks, and of the KV */
        out[n].open.keep = keep;
        struct received *r = session_ask(&out[n]);
        if (r->kind == MSG_FAILED) {
            expect_failed(r, COROLLA_NO_CACHE, NULL);
            return n;
        }
        struct msg_opened opened;
        assert_int_equal(msg_opened_decode(r->header, r->header_size, &opened, NULL), COROLLA_OK);
        memcpy(out[n].secret, opened.secret, SECRET_SIZE);
        received_free(r);
    }
}

static void kept_rows_have_a_budget_of_their_own(void **state) {
    (void)state;
    struct session_at *many = calloc(64, sizeof *many);
    for (int i = 0; i < 2; i++) { /* what was closed is given back */
        uint32_t n = open_many(true, many);
        assert_int_equal(n, CACHE_TOKENS / 512);
        while (n > 0) session_close(&many[--n]);
        wait_for_sessions(0);
        n = open_many(false, many);
        assert_int_equal(n, 2 * CACHE_TOKENS / 512);
        while (n > 0) session_close(&many[--n]);
        wait_for_sessions(0);
    }
    free(many);
    servers_work();
}

/* ---- hostile SYNCs --------------------------------------------------------------------------------------------- */

static void a_sync_that_is_not_the_clients_own_changes_nothing(void **state) {
    (void)state;
    struct session_at s = session_with_rows(), other = s;
    struct driver *stranger = driver_open();
    struct link *link = driver_dial(stranger, corolla_server_join_code(servers[0]), NULL);
    uint32_t stream = driver_stream(stranger, link);
    struct msg_sync sync = sync_of(&s); /* the secret is right */
    sync.epoch = UINT32_MAX;
    driver_send(stranger, link, stream, MSG_SYNC, header, msg_sync_encode(&sync, header), NULL, 0);
    expect_failed(driver_receive(stranger, link, stream), COROLLA_REFUSED, NULL);
    driver_close(stranger);
    other.stream = driver_stream(driver, links[0]);
    sync.secret[7] ^= 1;
    sync_send(&other, &sync);
    struct msg_failed failed;
    expect_failed(answer(&other), COROLLA_REFUSED, &failed);
    assert_int_equal(failed.epoch, UINT32_MAX);
    sync.session[3] ^= 1;
    sync_send(&other, &sync);
    expect_failed(answer(&other), COROLLA_NO_SESSION, NULL);
    session_goes_on(&s); /* where it was, in its epoch */
}

static void a_late_sync_is_told_so(void **state) {
    (void)state;
    struct session_at s = session_with_rows(), late = s;
    epoch_of_test++;
    resume(&s);
    late.stream = driver_stream(driver, links[0]);
    struct msg_sync sync = sync_of(&late);
    sync.epoch--;
    sync_send(&late, &sync);
    expect_failed(answer(&late), COROLLA_STALE, NULL);
    session_goes_on(&s);
}

/* ---- hostile REPLAYs ------------------------------------------------------------------------------------------- */

static void refused_replay(const struct session_at *s, enum corolla_status status) {
    struct msg_failed failed;
    replay_send(s);
    expect_failed(answer(s), status, &failed);
    assert_int_equal(failed.position, message.position);
    assert_int_equal(failed.epoch, message.epoch);
}

static void replays_that_cannot_be_are_refused_each_with_its_own_status(void **state) {
    (void)state;
    struct sessions_all all;
    const struct session_at *from = &all.at[0], *to = &all.at[1];
    all_open_keeping(&all);
    all_step(&all, 0, 8);
    replay_prepare(from, to, 0, 9);
    refused_replay(from, COROLLA_BAD_POSITION);
    replay_prepare(from, to, 9, 1);
    refused_replay(from, COROLLA_BAD_POSITION);
    replay_prepare(from, to, UINT32_MAX - 1, 1);
    refused_replay(from, COROLLA_BAD_POSITION);
    replay_prepare(from, to, 0, BATCH_ROWS_MAX + 1);
    refused_replay(from, COROLLA_INVALID);
    replay_prepare(from, to, 0, 8);
    message.n_hops = 0;
    refused_replay(from, COROLLA_INVALID);
    replay_prepare(from, to, 0, 8);
    message.dtype = COROLLA_WIRE_F16;
    refused_replay(from, COROLLA_INVALID);
    replay_prepare(from, to, 0, 8);
    message.has_parent = true;
    message.shared = 0;
    refused_replay(from, COROLLA_INVALID);
    replay_prepare(from, from, 0, 8); /* to itself */
    refused_replay(from, COROLLA_REFUSED);
    replay_prepare(from, to, 0, 8);
    message.secret[0] ^= 1;
    refused_replay(from, COROLLA_REFUSED);
    replay_prepare(from, to, 0, 8);
    message.session[0] ^= 1;
    refused_replay(from, COROLLA_NO_SESSION);
    const struct session_at *last = &all.at[2]; /* which keeps nothing */
    replay_prepare(last, to, 0, 1);
    refused_replay(last, COROLLA_BAD_POSITION);
    all_step(&all, 8, 4);
    all_close(&all);
    servers_work();
}

static void only_the_client_asks_for_replays(void **state) {
    (void)state;
    struct driver *before = driver_open(); /* the hop before; it knows the secret, as such a hop does */
    struct session_at s = session_prepare(0, SESSION_TOKENS);
    s.open.keep = s.open.has_upstream = true;
    s.open.upstream = driver_self(before)->id;
    session_open_sent(&s);
    step_prepare(&s, 0, 8);
    step_send(&s, prompt, 8 * row_bytes());
    expect_result(answer(&s), NULL);
    struct link *link = driver_dial(before, corolla_server_join_code(servers[0]), NULL);
    uint32_t stream = driver_stream(before, link);
    replay_prepare(&s, &s, 0, 8);
    message.hops[0].node = nodes[1];
    driver_send(before, link, stream, MSG_REPLAY, header, msg_step_encode(&message, header), NULL, 0); /* dropped */
    message.client = driver_self(before)->id;
    driver_send(before, link, stream, MSG_REPLAY, header, msg_step_encode(&message, header), NULL, 0);
    expect_failed(driver_receive(before, link, stream), COROLLA_REFUSED, NULL);
    assert_int_equal(driver_pending(driver, links[0], s.stream), 0);
    assert_int_equal(resume(&s).kept, 8);
    driver_close(before);
    session_close(&s);
    servers_work();
}

static void a_replay_with_a_body_costs_the_link(void **state) {
    (void)state;
    struct session_at s = session_with_rows();
    struct driver *stranger = driver_open();
    struct link *link = driver_dial(stranger, corolla_server_join_code(servers[0]), NULL);
    char why[DRIVER_WHY_SIZE];
    replay_prepare(&s, &s, 0, 1);
    size_t size = msg_step_encode(&message, header);
    driver_send(stranger, link, driver_stream(stranger, link), MSG_REPLAY, header, size, prompt, row_bytes());
    driver_wait_down(stranger, link, why);
    if (!strstr(why, "(PEER_FAULT)")) fail_msg("the link ended for another reason: %s", why);
    driver_close(stranger);
    session_goes_on(&s);
}

static void a_replay_to_nobody_blames_nobody_else(void **state) {
    (void)state;
    struct sessions_all all;
    all_open_keeping(&all);
    all_step(&all, 0, 8);
    struct node_ref nobody = {.id = nodes[1].id, .n_addrs = 1};
    nobody.id.key[5] ^= 1;
    strcpy(nobody.addrs[0], nodes[1].addrs[0]);
    for (uint32_t i = 0; i < 8; i++) { /* all wait for the one link */
        replay_prepare(&all.at[0], &all.at[1], i, 1);
        message.hops[0].node = nobody;
        replay_send(&all.at[0]);
    }
    for (uint32_t i = 0; i < 8; i++) {
        struct msg_failed failed;
        expect_failed(answer(&all.at[0]), COROLLA_PEER_LOST, &failed);
        assert_int_equal(failed.position, i);
        assert_true(failed.has_culprit && node_id_equal(&failed.culprit, &nobody.id));
    }
    all_step(&all, 8, 4);
    all_close(&all);
    servers_work();
}

/* An address where somebody listens and never says a word; it ends with its socket. */
static struct node_ref black_hole(int *out_socket) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    struct node_ref node = {.id = nodes[1].id, .n_addrs = 1};
    node.id.key[0] ^= 1;
    *out_socket = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(*out_socket, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(*out_socket, 1), 0);
    assert_int_equal(getsockname(*out_socket, (struct sockaddr *)&address, &size), 0);
    snprintf(node.addrs[0], ADDR_MAX, "127.0.0.1:%u", (unsigned)ntohs(address.sin_port));
    return node;
}

static void what_waits_for_a_link_is_bounded_and_goes_with_a_new_epoch_or_the_session(void **state) {
    (void)state;
    struct session_at s = session_prepare(0, SESSION_TOKENS);
    struct msg_failed failed;
    int hole;
    s.open.keep = true;
    session_open_sent(&s);
    step_prepare(&s, 0, 8);
    step_send(&s, prompt, 8 * row_bytes());
    expect_result(answer(&s), NULL);
    replay_prepare(&s, &s, 0, 8);
    message.hops[0].node = black_hole(&hole);
    for (int i = 0; i <= SESSION_STEPS_MAX; i++) replay_send(&s);
    expect_failed(answer(&s), COROLLA_BUSY, &failed);
    assert_false(failed.has_culprit);
    epoch_of_test++;
    assert_int_equal(resume(&s).kept, 8); /* the next that comes: nobody has failed */
    message.epoch = epoch_of_test;
    replay_send(&s);
    session_close(&s);
    wait_for_sessions(0);
    assert_int_equal(server_info(0).cache_tokens_left, CACHE_TOKENS); /* the dial is still under way */
    close(hole);
    servers_work();
}

static void steps_do_not_wait_for_the_link_of_replays(void **state) {
    (void)state;
    struct sessions_all all;
    struct msg_failed failed;
    int hole;
    struct node_ref nowhere = black_hole(&hole);
    all_open_keeping(&all);
    all_step(&all, 0, 8);
    replay_prepare(&all.at[0], &all.at[1], 3, 5);
    message.hops[0].node = nowhere;
    replay_send(&all.at[0]);
    all_step(&all, 8, 4);
    close(hole);
    expect_failed(answer(&all.at[0]), COROLLA_PEER_LOST, &failed);
    assert_int_equal(failed.position, 3);
    assert_true(node_id_equal(&failed.culprit, &nowhere.id));
    all_close(&all);
    servers_work();
}

/* ---- who is to blame ------------------------------------------------------------------------------------------- */

static void a_hop_that_sends_rubbish_is_the_culprit(void **state) {
    (void)state;
    struct driver *before = driver_open();
    struct session_at s = session_prepare(0, SESSION_TOKENS);
    s.open.has_upstream = true;
    s.open.upstream = driver_self(before)->id;
    session_open_sent(&s);
    struct link *link = driver_dial(before, corolla_server_join_code(servers[0]), NULL);
    uint32_t stream = driver_stream(before, link);
    float *row = malloc(row_bytes());
    struct msg_failed failed;
    memcpy(row, prompt, row_bytes());
    row[1] = INFINITY;
    step_prepare(&s, 0, 1);
    size_t sizes[] = {row_bytes(), row_bytes() - 4}; /* not finite; of another size */
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        driver_send(before, link, stream, MSG_STEP, header, msg_step_encode(&message, header), row, sizes[i]);
        expect_failed(answer(&s), COROLLA_FORMAT, &failed);
        assert_true(failed.has_culprit && node_id_equal(&failed.culprit, &driver_self(before)->id));
        step_send(&s, row, sizes[i]); /* the same from the client itself */
        expect_failed(answer(&s), COROLLA_FORMAT, &failed);
        assert_false(failed.has_culprit);
    }
    free(row);
    driver_close(before);
    session_close(&s);
    servers_work();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_hop_is_fed_with_kept_rows_and_the_others_keep_what_they_have),
        cmocka_unit_test(replays_and_steps_that_follow_each_other_closely_keep_their_order),
        cmocka_unit_test(while_a_new_hop_is_fed_steps_go_on_to_the_old_one),
        cmocka_unit_test(the_end_of_a_hop_that_was_left_is_nobodys_business),
        cmocka_unit_test(rolled_back_and_failed_steps_leave_as_many_kept_rows_as_positions),
        cmocka_unit_test(a_session_that_keeps_has_steps_of_one_type),
        cmocka_unit_test(sync_waits_for_what_computes_and_drops_what_waits),
        cmocka_unit_test(sync_in_the_running_epoch_waits_for_all_steps),
        cmocka_unit_test(a_client_that_lost_its_link_goes_on_over_another),
        cmocka_unit_test(steps_go_on_while_the_client_has_no_link),
        cmocka_unit_test(a_failure_while_the_client_has_no_link_is_nobodys),
        cmocka_unit_test(answers_go_where_the_last_sync_came_from),
        cmocka_unit_test(a_flood_of_syncs_is_answered_and_costs_nothing),
        cmocka_unit_test(a_client_that_is_its_own_next_hop_may_lose_its_link),
        cmocka_unit_test(steps_use_the_stream_of_the_replays_that_went_before),
        cmocka_unit_test(a_step_that_goes_elsewhere_does_not_turn_those_before_it),
        cmocka_unit_test(a_lease_ends_early_for_who_needs_the_memory_the_oldest_first),
        cmocka_unit_test(an_orphan_makes_room_for_its_own_client),
        cmocka_unit_test(kept_rows_have_a_budget_of_their_own),
        cmocka_unit_test(a_sync_that_is_not_the_clients_own_changes_nothing),
        cmocka_unit_test(a_late_sync_is_told_so),
        cmocka_unit_test(replays_that_cannot_be_are_refused_each_with_its_own_status),
        cmocka_unit_test(only_the_client_asks_for_replays),
        cmocka_unit_test(a_replay_with_a_body_costs_the_link),
        cmocka_unit_test(a_replay_to_nobody_blames_nobody_else),
        cmocka_unit_test(what_waits_for_a_link_is_bounded_and_goes_with_a_new_epoch_or_the_session),
        cmocka_unit_test(steps_do_not_wait_for_the_link_of_replays),
        cmocka_unit_test(a_hop_that_sends_rubbish_is_the_culprit),
    };
    return cmocka_run_group_tests(tests, stage_open, stage_close);
}
