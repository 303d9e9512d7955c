/* test_node_leave.c - servers that pause, leave, or stop while somebody uses them; and how long what waits for a client waits. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/thread.h"
#include "node/sessions.h"
#include "support/stage.h"

static void expect_drain(struct driver *d, struct link *link, bool leaving) {
    struct msg_drain drain;
    struct received *r = driver_receive(d, link, 0);
    assert_int_equal(r->kind, MSG_DRAIN);
    assert_int_equal(msg_drain_decode(r->header, r->header_size, &drain, NULL), COROLLA_OK);
    assert_int_equal(drain.leaving, leaving);
    received_free(r);
}

static void drain_tells_a_pause_from_leaving(void **state) {
    (void)state;
    struct spare spare = spare_start(1);
    corolla_server_pause(spare.handle, true);
    expect_drain(driver, links[1], false);
    corolla_server_pause(spare.handle, true); /* no news */
    corolla_server_pause(spare.handle, false);
    corolla_server_pause(spare.handle, true);
    expect_drain(driver, links[1], false);
    struct driver *late = driver_open();
    struct link *late_link = driver_dial(late, corolla_server_join_code(spare.handle), NULL);
    expect_drain(late, late_link, false);
    corolla_server_stop(spare.handle);
    expect_drain(driver, links[1], true);
    expect_drain(late, late_link, true);
    assert_int_equal(driver_pending(driver, links[1], 0), 0);
    driver_close(late);
    spare_step_back(&spare);
}

/* ---- stopping -------------------------------------------------------------------------------------------------- */

struct stopping {
    struct corolla_server *server;
    pthread_t thread;
    bool over; /* atomic */
};

static void *stop_main(void *user) {
    struct stopping *s = user;
    corolla_server_stop(s->server);
    __atomic_store_n(&s->over, true, __ATOMIC_RELEASE);
    return NULL;
}

static void stop_begin(struct stopping *s, struct corolla_server *server) {
    *s = (struct stopping){.server = server};
    assert_true(thread_start(&s->thread, stop_main, s));
}

static bool stop_over(const struct stopping *s) { return __atomic_load_n(&s->over, __ATOMIC_ACQUIRE); }

static void a_server_that_stops_goes_on_with_active_sessions_until_they_are_gone(void **state) {
    (void)state;
    struct spare spare = spare_start(1);
    struct sessions_all all;
    struct stopping stopping;
    all_open(&all);
    all_step(&all, 0, 8);
    assert_int_equal(corolla_server_active(spare.handle), 1);
    stop_begin(&stopping, spare.handle);
    expect_drain(driver, links[1], true);
    struct session_at more = session_prepare(1, SESSION_TOKENS);
    expect_failed(session_ask(&more), COROLLA_DRAINING, NULL);
    struct driver *late = driver_open();
    expect_drain(late, driver_dial(late, corolla_server_join_code(spare.handle), NULL), true);
    driver_close(late);
    for (uint32_t i = 8; i < 20; i++) all_step(&all, i, 1);
    assert_false(stop_over(&stopping));
    session_close(&all.at[1]);
    pthread_join(stopping.thread, NULL);
    driver_wait_down(driver, links[1], NULL);
    spare_step_back(&spare);
    struct msg_failed failed;
    expect_failed(answer(&all.at[0]), COROLLA_PEER_LOST, &failed);
    all_close(&all);
    servers_work();
}

static void idle_sessions_do_not_hold_a_server(void **state) {
    (void)state;
    struct spare spare = spare_start(1);
    session_open(1);
    assert_int_equal(corolla_server_active(spare.handle), 0);
    uint64_t begin_ms = clock_life_ms();
    corolla_server_stop(spare.handle);
    assert_in_range(clock_life_ms() - begin_ms, 0, ACTIVE_MS - 1);
    driver_wait_down(driver, links[1], NULL);
    spare_step_back(&spare);
    servers_work();
}

static void a_session_that_waits_for_its_client_does_not_outlive_its_server(void **state) {
    (void)state;
    struct spare spare = spare_start(1);
    struct driver *lost = driver_open(), *mine = driver;
    struct link *link = links[1];
    driver = lost;
    links[1] = driver_dial(lost, corolla_server_join_code(spare.handle), NULL);
    session_open(1);
    driver_cut(lost, links[1]);
    driver = mine;
    links[1] = link;
    corolla_server_stop(spare.handle); /* which asserts that all sessions are gone */
    driver_wait_down(driver, links[1], NULL);
    driver_close(lost);
    spare_step_back(&spare);
    servers_work();
}

/* ---- what is not waited for any longer; both at once, since each takes half a minute --------------------------- */

/* A session whose client then loses its link. */
static void leave_an_orphan(struct client *c) {
    client_enter(c);
    session_open(0);
    driver_cut(driver, links[0]);
    client_leave(c);
}

static void leases_and_stopping_servers_have_an_end(void **state) {
    (void)state;
    struct client other = {.driver = driver_open()};
    struct spare spare = spare_start(1);
    struct stopping stopping;
    struct sessions_all all;
    uint64_t begin_ms = clock_life_ms(), stopped_ms = 0, lease_ms = 0;
    all_open(&all);
    all_step(&all, 0, 1);
    leave_an_orphan(&other);
    assert_int_equal(server_info(0).sessions, 2);
    stop_begin(&stopping, spare.handle);
    while (stopped_ms == 0 || lease_ms == 0) {
        if (stopped_ms == 0) { /* always active; nobody waits for the results */
            all_prepare(&all, 0, 1);
            step_send(&all.at[0], prompt, row_bytes());
        }
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        if (stopped_ms == 0 && stop_over(&stopping)) stopped_ms = clock_life_ms() - begin_ms;
        if (lease_ms == 0 && server_info(0).sessions == 1) lease_ms = clock_life_ms() - begin_ms;
        assert_true(clock_life_ms() - begin_ms < LEASE_MS + DRIVER_WAIT_MS);
    }
    assert_true(lease_ms >= LEASE_MS);
    assert_true(stopped_ms >= LEASE_MS); /* the same half minute */
    pthread_join(stopping.thread, NULL);
    spare_step_back(&spare);
    driver_close(other.driver);
    session_close(&all.at[0]);
    session_close(&all.at[2]);
    servers_work();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drain_tells_a_pause_from_leaving),
        cmocka_unit_test(a_server_that_stops_goes_on_with_active_sessions_until_they_are_gone),
        cmocka_unit_test(idle_sessions_do_not_hold_a_server),
        cmocka_unit_test(a_session_that_waits_for_its_client_does_not_outlive_its_server),
        cmocka_unit_test(leases_and_stopping_servers_have_an_end),
    };
    return cmocka_run_group_tests(tests, stage_open, stage_close);
}
