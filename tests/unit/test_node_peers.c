/* test_node_peers.c - next hops that are not there, peers that break the protocol, clients and servers that leave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/stage.h"

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
    const enum msg_kind kinds[] = {MSG_OPEN, MSG_STEP, MSG_CLOSE, MSG_SYNC, MSG_REPLAY};
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
    const unsigned kinds[] = {MSG_INFO, MSG_OPENED, MSG_RESULT, MSG_FAILED, MSG_DRAIN, MSG_SYNCED, 17, 60, 65535};
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        driver_send(driver, links[0], s.stream, (enum msg_kind)kinds[i], (const uint8_t *)"junk", 4, NULL, 0);
    session_goes_on(&s);
}

static void the_sessions_of_a_client_that_is_gone_are_freed(void **state) {
    (void)state;
    struct client leaver = {.driver = driver_open()};
    uint64_t before = server_info(0).cache_tokens_left;
    client_enter(&leaver);
    struct session_at s = session_open(0);
    for (uint32_t i = 0; i < 8; i++) { /* some are still computing when it goes */
        step_prepare(&s, i * 8, 8);
        step_send(&s, prompt, 8 * row_bytes());
    }
    client_leave(&leaver);
    assert_true(server_info(0).cache_tokens_left < before);
    driver_close(leaver.driver);
    for (int i = 0; server_info(0).cache_tokens_left != before; i++) assert_true(i < 100000); /* it hears of it when the link ends */
    servers_work();
}

static void a_server_that_leaves_tells_everybody_and_its_session(void **state) {
    (void)state;
    struct spare leaver = spare_start(1);
    struct node_ref node = nodes[1];
    struct sessions_all all;
    all_open(&all);
    all_step(&all, 0, 8);
    corolla_server_stop(leaver.handle);
    struct received *r = driver_receive(driver, links[1], 0);
    assert_int_equal(r->kind, MSG_DRAIN);
    received_free(r);
    struct msg_failed failed; /* from the hop before it, by itself */
    expect_failed(answer(&all.at[0]), COROLLA_PEER_LOST, &failed);
    assert_true(failed.has_culprit && node_id_equal(&failed.culprit, &node.id));
    driver_wait_down(driver, links[1], NULL);
    spare_step_back(&leaver);
    session_close(&all.at[0]);
    session_close(&all.at[2]);
    servers_work();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_next_hop_that_nobody_answers_for_is_the_culprit),
        cmocka_unit_test(a_server_is_not_its_own_next_hop),
        cmocka_unit_test(malformed_messages_cost_the_link_and_nothing_else),
        cmocka_unit_test(kinds_of_later_versions_and_answers_to_nothing_are_ignored),
        cmocka_unit_test(the_sessions_of_a_client_that_is_gone_are_freed),
        cmocka_unit_test(a_server_that_leaves_tells_everybody_and_its_session),
    };
    return cmocka_run_group_tests(tests, stage_open, stage_close);
}
