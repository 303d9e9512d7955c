/* test_prefix.c - sessions that begin like one before: less is computed, and every bit is the same; whatever the first one did meanwhile,
 * and whatever happens to the servers later. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/prefix.h"
#include "rig.h"

#define PROMPT 200
#define SHARED 192 /* whole parts of it */

static struct client client;

static void must(enum corolla_status status, const struct corolla_error *err) {
    if (status != COROLLA_OK) fail_msg("%s: %s", corolla_status_name(status), err->message);
}

/* Of the servers of the first row, all of them new. */
static void begin(void) {
    for (uint32_t i = 0; i < SPANS; i++) serve_kill(&servers[i][0]);
    rig_start_all();
    client_open(&client, &(struct client_config){.alone = true});
    corolla_session_close(client.session);
}

static void end(void) { corolla_swarm_close(client.swarm); }

/* A session that will begin with n tokens of the text, of which so many are held already, in the place of the client's. */
static void open_prompt(uint32_t n, uint32_t held) {
    struct corolla_error err;
    must(corolla_session_open_prompt(&client.session, client.swarm, TEXT, text, n, &err), &err);
    assert_int_equal(corolla_session_position(client.session), held);
}

/* The prompt and a bit more through the chain; all bits are right. */
static void go_through(uint32_t n) {
    uint32_t held = corolla_session_position(client.session);
    client_step(&client, held, n - held);
    client_generate(&client, n, 6);
}

static void use_and_close(uint32_t n) {
    go_through(n);
    corolla_session_close(client.session);
}

static void what_was_computed_is_not_computed_again(void **state) {
    (void)state;
    begin();
    open_prompt(PROMPT, 0);
    use_and_close(PROMPT);
    open_prompt(PROMPT, SHARED);
    use_and_close(PROMPT);
    open_prompt(SHARED, SHARED - PREFIX_STEP); /* the last token is always left */
    use_and_close(SHARED);
    open_prompt(TEXT - 10, SHARED); /* only what was named */
    use_and_close(TEXT - 10);
    open_prompt(TEXT - 10, (TEXT - 11) / PREFIX_STEP * PREFIX_STEP);
    use_and_close(TEXT - 10);
    open_prompt(PREFIX_STEP, 0); /* nothing whole */
    use_and_close(PREFIX_STEP);
    end();
}

static void a_session_that_goes_on_is_as_good_as_one_that_is_closed(void **state) {
    (void)state;
    begin();
    open_prompt(PROMPT, 0);
    go_through(PROMPT);
    struct corolla_session *first = client.session;
    open_prompt(PROMPT, SHARED);
    go_through(PROMPT);
    corolla_session_close(first);
    client_step(&client, 100, 150); /* back into what was shared */
    client_generate(&client, 250, 4);
    corolla_session_close(client.session);
    end();
}

static void half_a_prompt_is_shared_as_far_as_it_came(void **state) {
    (void)state;
    begin();
    open_prompt(PROMPT, 0);
    client_step(&client, 0, 150);
    struct corolla_session *first = client.session;
    open_prompt(PROMPT, 128);
    use_and_close(PROMPT);
    corolla_session_close(first);
    end();
}

/* A session that does not do what it said does not mislead others. */
static void what_was_named_and_is_something_else_is_not_shared(void **state) {
    (void)state;
    struct corolla_error err;
    int32_t other[PROMPT];
    memcpy(other, text, sizeof other);
    other[100] ^= 1;
    begin();
    open_prompt(PROMPT, 0); /* other tokens than it named */
    must(corolla_session_step(client.session, 0, other, PROMPT, NULL, 0, &err), &err);
    struct corolla_session *first = client.session;
    open_prompt(PROMPT, PREFIX_STEP); /* before them */
    corolla_session_close(client.session);
    corolla_session_close(first);
    open_prompt(PROMPT, PREFIX_STEP);
    go_through(PROMPT);
    must(corolla_session_step(client.session, 10, other + 11, 1, NULL, 0, &err), &err); /* and then writes something else */
    first = client.session;
    open_prompt(PROMPT, PREFIX_STEP); /* of the one before: it is closed, and has that still */
    corolla_session_close(client.session);
    corolla_session_close(first);
    end();
}

static void nobody_else_has_it(void **state) {
    (void)state;
    struct corolla_error err;
    begin();
    open_prompt(PROMPT, 0);
    use_and_close(PROMPT);
    struct corolla_swarm_config config;
    struct corolla_swarm *swarm;
    struct corolla_session *session;
    const char *joins[SPANS];
    char home[200];
    for (uint32_t i = 0; i < SPANS; i++) joins[i] = servers[i][0].code;
    snprintf(home, sizeof home, "%s", rig_home("stranger"));
    corolla_swarm_config_default(&config);
    config.joins = joins;
    config.n_joins = SPANS;
    config.home = home;
    must(corolla_swarm_open(&swarm, model, &config, &err), &err);
    must(corolla_session_open_prompt(&session, swarm, TEXT, text, PROMPT, &err), &err);
    assert_int_equal(corolla_session_position(session), 0);
    corolla_session_close(session);
    corolla_swarm_close(swarm);
    open_prompt(PROMPT, SHARED);
    use_and_close(PROMPT);
    end();
}

static void forks_and_recoveries_know_no_difference(void **state) {
    (void)state;
    struct corolla_error err;
    begin();
    open_prompt(PROMPT, 0);
    use_and_close(PROMPT);
    for (uint32_t lost = 0; lost < SPANS; lost++) {
        open_prompt(PROMPT, lost == 0 ? SHARED : 0);
        go_through(PROMPT);
        struct corolla_session *fork;
        must(corolla_session_fork(&fork, client.session, &err), &err);
        serve_kill(&servers[lost][0]);
        serve_start(&servers[lost][0]); /* empty: the server before it sends what it has kept, copies too */
        serve_wait_ready(&servers[lost][0]);
        client_generate(&client, PROMPT + 6, 6);
        corolla_session_close(client.session);
        client.session = fork;
        client_generate(&client, PROMPT + 6, 6);
        corolla_session_close(fork);
    }
    end();
}

/* What is kept is the first to go, and what it held counts as free. */
static void a_new_session_never_waits_for_what_is_kept(void **state) {
    (void)state;
    struct corolla_error err;
    struct corolla_session *sessions[64];
    uint32_t n = 0;
    begin();
    open_prompt(PROMPT, 0);
    use_and_close(PROMPT);
    for (; n < 16384 / TEXT; n++) must(corolla_session_open(&sessions[n], client.swarm, TEXT, &err), &err); /* all that there is */
    while (n > 0) corolla_session_close(sessions[--n]);
    open_prompt(PROMPT, 0);
    use_and_close(PROMPT);
    open_prompt(PROMPT, SHARED);
    use_and_close(PROMPT);
    end();
}

static void a_hash_stands_for_all_tokens_before_it(void **state) {
    (void)state;
    uint8_t ids[2][ID_SIZE] = {{1}, {2}}, a[PREFIX_HASHES_MAX][PREFIX_HASH_SIZE], b[PREFIX_HASHES_MAX][PREFIX_HASH_SIZE];
    int32_t tokens[3 * PREFIX_STEP + 1];
    for (uint32_t i = 0; i < 3 * PREFIX_STEP + 1; i++) tokens[i] = (int32_t)i;
    assert_int_equal(prefix_hashes(ids[0], NULL, 0, a), 0);
    assert_int_equal(prefix_hashes(ids[0], tokens, PREFIX_STEP, a), 0);
    assert_int_equal(prefix_hashes(ids[0], tokens, PREFIX_STEP + 1, a), 1);
    assert_int_equal(prefix_hashes(ids[0], tokens, 3 * PREFIX_STEP, a), 2);
    assert_int_equal(prefix_hashes(ids[0], tokens, 3 * PREFIX_STEP + 1, a), 3);
    tokens[PREFIX_STEP + 5]++;
    prefix_hashes(ids[0], tokens, 3 * PREFIX_STEP + 1, b);
    assert_memory_equal(a[0], b[0], PREFIX_HASH_SIZE);
    assert_memory_not_equal(a[1], b[1], PREFIX_HASH_SIZE);
    assert_memory_not_equal(a[2], b[2], PREFIX_HASH_SIZE);
    prefix_hashes(ids[1], tokens, 3 * PREFIX_STEP + 1, a);
    assert_memory_not_equal(a[0], b[0], PREFIX_HASH_SIZE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hash_stands_for_all_tokens_before_it),
        cmocka_unit_test(what_was_computed_is_not_computed_again),
        cmocka_unit_test(a_session_that_goes_on_is_as_good_as_one_that_is_closed),
        cmocka_unit_test(half_a_prompt_is_shared_as_far_as_it_came),
        cmocka_unit_test(what_was_named_and_is_something_else_is_not_shared),
        cmocka_unit_test(nobody_else_has_it),
        cmocka_unit_test(forks_and_recoveries_know_no_difference),
        cmocka_unit_test(a_new_session_never_waits_for_what_is_kept),
    };
    return cmocka_run_group_tests(tests, rig_open, rig_close);
}
