/* test_node_sessions.c - the table of sessions, what OPEN, STEP and CLOSE must fulfil, and how much KV a server takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/memory.h"
#include "node/sessions.h"

#define N_EMBD 8

static const uint8_t model[ID_SIZE] = {7, 7, 7};
static const struct session_limits limits = {.model = model, .begin = 10, .end = 20, .n_embd = N_EMBD, .max_tokens = 1000};
static const struct node_id client = {.key = {1}}, upstream = {.key = {2}}, stranger = {.key = {3}}, twin = {.key = {1}, .instance = 1};

/* ---- the table ------------------------------------------------------------------------------------------------- */

static void id_of(uint32_t i, uint8_t out[SESSION_SIZE]) {
    memset(out, 0, SESSION_SIZE);
    out[0] = (uint8_t)(i % 5); /* many share a bucket */
    memcpy(out + 8, &i, sizeof i);
}

static void fill_of(struct sessions *table, struct session *sessions, uint32_t n, const struct node_id *who) {
    memset(table, 0, sizeof *table);
    for (uint32_t i = 0; i < n; i++) {
        id_of(i, sessions[i].id);
        sessions[i].client = *who;
        sessions_add(table, &sessions[i]);
    }
}

static void fill(struct sessions *table, struct session *sessions, uint32_t n) { fill_of(table, sessions, n, &client); }

static void sessions_are_found_by_id_until_they_are_removed(void **state) {
    (void)state;
    static struct session sessions[50];
    struct sessions table;
    fill(&table, sessions, 50);
    for (uint32_t i = 0; i < 50; i += 2) sessions_remove(&table, &sessions[i]);
    assert_int_equal(table.n, 25);
    for (uint32_t i = 0; i < 50; i++) {
        struct session *expected = i % 2 == 0 ? NULL : &sessions[i];
        assert_ptr_equal(sessions_find(&table, sessions[i].id), expected);
    }
}

static void a_walk_sees_every_session_once(void **state) {
    (void)state;
    static struct session sessions[50];
    struct sessions table;
    uint32_t n = 0;
    fill(&table, sessions, 50);
    for (struct session *s = sessions_each(&table, NULL); s; s = sessions_each(&table, s)) {
        s->epoch++;
        n++;
    }
    assert_int_equal(n, 50);
    for (uint32_t i = 0; i < 50; i++) assert_int_equal(sessions[i].epoch, 1);
}

/* ---- OPEN ------------------------------------------------------------------------------------------------------ */

static struct msg_open good_open(void) {
    struct msg_open open = {.session = {9}, .begin = 10, .end = 20, .max_tokens = 100};
    memcpy(open.model, model, ID_SIZE);
    return open;
}

static void open_gives(const struct sessions *table, const struct msg_open *open, enum corolla_status expected) {
    struct corolla_error err = {0};
    enum corolla_status status = sessions_check_open(table, &limits, open, &client, &err);
    if (status != expected) fail_msg("%s: %s, not %s", corolla_status_name(status), err.message, corolla_status_name(expected));
    if (status != COROLLA_OK) assert_true(err.message[0] != '\0');
}

static void an_open_within_the_span_and_the_length_is_good(void **state) {
    (void)state;
    struct sessions table = {0};
    struct msg_open open = good_open();
    open_gives(&table, &open, COROLLA_OK);
    open.begin = 12;
    open.end = 13;
    open.max_tokens = limits.max_tokens;
    open_gives(&table, &open, COROLLA_OK);
}

static void an_open_of_what_is_not_here_is_refused(void **state) {
    (void)state;
    struct sessions table = {0};
    struct msg_open open = good_open();
    open.model[31] = 1;
    open_gives(&table, &open, COROLLA_MODEL_MISMATCH);
    open = good_open();
    open.begin = 9;
    open_gives(&table, &open, COROLLA_NOT_SERVED);
    open = good_open();
    open.end = 21;
    open_gives(&table, &open, COROLLA_NOT_SERVED);
    open = good_open();
    open.max_tokens = 0;
    open_gives(&table, &open, COROLLA_INVALID);
    open.max_tokens = limits.max_tokens + 1;
    open_gives(&table, &open, COROLLA_TOO_LONG);
}

static void an_id_is_used_once(void **state) {
    (void)state;
    static struct session sessions[1];
    struct sessions table;
    fill(&table, sessions, 1);
    struct msg_open open = good_open();
    memcpy(open.session, sessions[0].id, SESSION_SIZE);
    open_gives(&table, &open, COROLLA_REFUSED);
}

static void neither_a_client_nor_all_together_take_more_than_their_share(void **state) {
    (void)state;
    struct session *sessions = calloc(SESSIONS_MAX, sizeof *sessions);
    struct sessions table;
    struct msg_open open = good_open();
    fill(&table, sessions, SESSIONS_PER_CLIENT_MAX - 1);
    open_gives(&table, &open, COROLLA_OK);
    fill(&table, sessions, SESSIONS_PER_CLIENT_MAX);
    open_gives(&table, &open, COROLLA_BUSY);
    fill_of(&table, sessions, SESSIONS_MAX, &stranger);
    open_gives(&table, &open, COROLLA_BUSY);
    sessions_remove(&table, &sessions[0]);
    open_gives(&table, &open, COROLLA_OK);
    free(sessions);
}

/* ---- quotas ---------------------------------------------------------------------------------------------------- */

static void quota_gives(const struct sessions *table, const struct session_limits *l, uint32_t tokens, const struct node_id *who,
                        const char *host, enum corolla_status want, const char *text) {
    struct msg_open open = good_open();
    struct corolla_error err = {.message = ""};
    open.max_tokens = tokens;
    assert_int_equal(sessions_check_quota(table, l, &open, who, host, &err), want);
    if (text && !strstr(err.message, text)) fail_msg("\"%s\" does not say \"%s\"", err.message, text);
}

static void quotas_say_how_much_there_is_and_how_much_is_had(void **state) {
    (void)state;
    static struct session sessions[8];
    struct sessions table;
    struct session_limits l = limits;
    l.cache_tokens = 1000;
    for (uint32_t i = 0; i < 8; i++) sessions[i].max_tokens = 100;
    fill_of(&table, sessions, 3, &client);
    quota_gives(&table, &l, 1000, &client, "", COROLLA_OK, NULL); /* none is set: the cache itself is the limit */
    l.quota.client_percent = 40;
    quota_gives(&table, &l, 100, &client, "", COROLLA_OK, NULL);
    quota_gives(&table, &l, 101, &client, "", COROLLA_BUSY, "one client may hold 400 tokens of cache here, and you hold 300");
    quota_gives(&table, &l, 400, &stranger, "", COROLLA_OK, NULL);
    quota_gives(&table, &l, 401, &stranger, "", COROLLA_TOO_LONG, "one client may hold 400 tokens");
    l.quota.max_clients = 1;
    quota_gives(&table, &l, 100, &client, "", COROLLA_OK, NULL); /* it is here already */
    quota_gives(&table, &l, 100, &stranger, "", COROLLA_BUSY, "takes 1 clients at once");
    l.quota.trusted = (const uint8_t(*)[KEY_SIZE]) & stranger.key;
    l.quota.n_trusted = 1;
    quota_gives(&table, &l, 1000, &stranger, "", COROLLA_OK, NULL);
    sessions_remove(&table, &sessions[0]);
    quota_gives(&table, &l, 200, &client, "", COROLLA_OK, NULL);
    quota_gives(&table, &l, 201, &client, "", COROLLA_BUSY, "you hold 200");
}

static void the_last_session_of_a_client_is_told_from_others(void **state) {
    (void)state;
    static struct session sessions[2], other;
    struct sessions table;
    fill(&table, sessions, 2);
    memset(&other, 0, sizeof other);
    other.id[15] = 9;
    other.client = stranger;
    sessions_add(&table, &other);
    assert_false(sessions_remove(&table, &sessions[0]));
    assert_true(sessions_remove(&table, &sessions[1]));
    assert_true(sessions_remove(&table, &other));
}

static void the_tokens_under_way_of_a_client_are_bounded(void **state) {
    (void)state;
    static struct session sessions[2], other;
    struct sessions table;
    struct corolla_error err;
    struct session_limits l = limits;
    fill(&table, sessions, 2);
    memset(&other, 0, sizeof other);
    other.id[15] = 9;
    other.client = stranger;
    sessions_add(&table, &other);
    sessions_rows_came(&table, &sessions[0], CLIENT_ROWS_MAX - 10);
    assert_int_equal(sessions_check_rows(&table, &l, &sessions[1], 10, &err), COROLLA_OK);
    assert_int_equal(sessions_check_rows(&table, &l, &sessions[1], 11, &err), COROLLA_BUSY); /* of all its sessions together */
    assert_non_null(strstr(err.message, "you have 65526"));
    assert_int_equal(sessions_check_rows(&table, &l, &other, 256, &err), COROLLA_OK);
    l.quota.trusted = (const uint8_t(*)[KEY_SIZE]) & client.key;
    l.quota.n_trusted = 1;
    assert_int_equal(sessions_check_rows(&table, &l, &sessions[1], 11, &err), COROLLA_OK);
    l.quota.n_trusted = 0;
    sessions_rows_went(&table, &sessions[0], 100);
    assert_int_equal(sessions_check_rows(&table, &l, &sessions[1], 11, &err), COROLLA_OK);
    for (uint32_t i = 0; i < 2; i++) sessions_remove(&table, &sessions[i]);
    sessions[0].client = twin; /* the same key, in the place that has become free: nothing is under way of it any more */
    sessions_add(&table, &sessions[0]);
    sessions_rows_went(&table, &sessions[1], CLIENT_ROWS_MAX - 110); /* what was left of before */
    assert_int_equal(sessions_check_rows(&table, &l, &sessions[0], CLIENT_ROWS_MAX, &err), COROLLA_OK);
    assert_int_equal(sessions_check_rows(&table, &l, &sessions[0], CLIENT_ROWS_MAX + 1, &err), COROLLA_BUSY);
}

static void an_address_has_as_much_as_four_clients(void **state) {
    (void)state;
    struct session *sessions = calloc(SESSIONS_MAX, sizeof *sessions);
    struct sessions table;
    struct session_limits l = limits;
    l.cache_tokens = 10000;
    l.quota.client_percent = 10;
    for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
        sessions[i].max_tokens = i < 4 ? 900 : 1;
        strcpy(sessions[i].host, i % 2 == 0 || i < 4 ? "192.0.2.1" : "192.0.2.2");
    }
    fill_of(&table, sessions, 4, &client);
    quota_gives(&table, &l, 400, &stranger, "192.0.2.1", COROLLA_OK, NULL);
    quota_gives(&table, &l, 401, &stranger, "192.0.2.1", COROLLA_BUSY,
                "one address may hold 4000 tokens of cache here, and yours holds 3600");
    quota_gives(&table, &l, 1000, &stranger, "192.0.2.2", COROLLA_OK, NULL);
    quota_gives(&table, &l, 1000, &stranger, "", COROLLA_OK, NULL); /* this machine */
    l.quota.client_percent = 0;
    fill_of(&table, sessions, 2 * QUOTA_ADDRESS * SESSIONS_PER_CLIENT_MAX - 8, &client);
    quota_gives(&table, &l, 1, &stranger, "192.0.2.1", COROLLA_OK, NULL);
    fill_of(&table, sessions, 2 * QUOTA_ADDRESS * SESSIONS_PER_CLIENT_MAX, &client);
    quota_gives(&table, &l, 1, &stranger, "192.0.2.1", COROLLA_BUSY, "one address has at most 512 sessions");
    free(sessions);
}

static void a_server_that_leaves_takes_no_sessions(void **state) {
    (void)state;
    struct sessions table = {0};
    struct session_limits leaving = limits;
    struct msg_open open = good_open();
    leaving.draining = true;
    assert_int_equal(sessions_check_open(&table, &leaving, &open, &client, NULL), COROLLA_DRAINING);
}

/* ---- STEP ------------------------------------------------------------------------------------------------------ */

static struct session good_session(void) {
    return (struct session){.id = {9},
                            .secret = {1, 2, 3},
                            .client = client,
                            .upstream = upstream,
                            .has_upstream = true,
                            .max_tokens = 100,
                            .epoch = 3,
                            .expected = 40,
                            .lane = {.begin = 10, .end = 20}};
}

/* Built in static memory: a step is large. */
static struct msg_step *good_step(void) {
    static struct msg_step step;
    memset(&step, 0, sizeof step);
    step = (struct msg_step){.session = {9}, .secret = {1, 2, 3}, .epoch = 3, .position = 40, .n_tokens = 5, .n_rows = 1, .client = client};
    return &step;
}

static void step_gives(const struct session *session, const struct msg_step *step, const struct node_id *sender,
                       enum corolla_status expected) {
    struct corolla_error err = {0};
    size_t size = (size_t)step->n_tokens * N_EMBD * msg_wire_size(step->dtype);
    struct session before = *session;
    enum corolla_status status = sessions_check_step(session, &limits, step, sender, size, &err);
    if (status != expected) fail_msg("%s: %s, not %s", corolla_status_name(status), err.message, corolla_status_name(expected));
    if (status != COROLLA_OK) assert_true(err.message[0] != '\0');
    assert_memory_equal(&before, session, sizeof before);
}

static void steps_come_from_the_client_or_the_hop_before(void **state) {
    (void)state;
    struct session session = good_session();
    step_gives(&session, good_step(), &client, COROLLA_OK);
    step_gives(&session, good_step(), &upstream, COROLLA_OK);
    step_gives(&session, good_step(), &stranger, COROLLA_REFUSED);
    step_gives(&session, good_step(), &twin, COROLLA_REFUSED);
    session.has_upstream = false;
    step_gives(&session, good_step(), &upstream, COROLLA_REFUSED);
}

static void a_step_shows_the_secret(void **state) {
    (void)state;
    struct session session = good_session();
    for (uint32_t i = 0; i < SECRET_SIZE; i++) {
        struct msg_step *step = good_step();
        step->secret[i] ^= 0x80;
        step_gives(&session, step, &client, COROLLA_REFUSED);
    }
}

static void a_step_names_the_client_that_opened(void **state) {
    (void)state;
    struct session session = good_session();
    struct msg_step *step = good_step();
    step->client = stranger;
    step_gives(&session, step, &upstream, COROLLA_REFUSED);
}

static void older_epochs_are_stale_whatever_else_is_wrong(void **state) {
    (void)state;
    struct session session = good_session();
    struct msg_step *step = good_step();
    step->epoch = 2;
    step->position = 99;
    step_gives(&session, step, &client, COROLLA_STALE);
    step = good_step();
    step->epoch = 4;
    step_gives(&session, step, &client, COROLLA_OK);
}

static void a_step_starts_at_or_before_the_end_of_the_last(void **state) {
    (void)state;
    struct session session = good_session();
    struct msg_step *step = good_step();
    step->position = 41;
    step_gives(&session, step, &client, COROLLA_BAD_POSITION);
    step->position = 0;
    step_gives(&session, step, &client, COROLLA_OK);
    step->position = UINT32_MAX;
    step_gives(&session, step, &client, COROLLA_BAD_POSITION);
}

static void a_step_ends_within_the_session(void **state) {
    (void)state;
    struct session session = good_session();
    struct msg_step *step = good_step();
    session.expected = 100;
    step->position = 95;
    step_gives(&session, step, &client, COROLLA_OK);
    step->position = 96;
    step_gives(&session, step, &client, COROLLA_TOO_LONG);
    step->position = 100;
    step_gives(&session, step, &client, COROLLA_TOO_LONG);
}

static void a_step_has_no_more_rows_than_a_batch(void **state) {
    (void)state;
    struct session session = good_session();
    struct msg_step *step = good_step();
    session.max_tokens = 1000;
    step->n_tokens = BATCH_ROWS_MAX;
    step_gives(&session, step, &client, COROLLA_OK);
    step->n_tokens = BATCH_ROWS_MAX + 1;
    step_gives(&session, step, &client, COROLLA_INVALID);
    step->n_tokens = step->n_rows = 0;
    step_gives(&session, step, &client, COROLLA_INVALID);
    step->n_tokens = 2;
    step->n_rows = 3;
    step_gives(&session, step, &client, COROLLA_INVALID);
}

static void a_body_has_the_size_of_its_rows(void **state) {
    (void)state;
    struct session session = good_session();
    const enum corolla_wire wires[] = {COROLLA_WIRE_F32, COROLLA_WIRE_F16, COROLLA_WIRE_BF16};
    const size_t sizes[] = {5 * N_EMBD * 4, 5 * N_EMBD * 2, 5 * N_EMBD * 2};
    for (size_t i = 0; i < 3; i++) {
        struct msg_step *step = good_step();
        step->dtype = wires[i];
        assert_int_equal(sessions_check_step(&session, &limits, step, &client, sizes[i], NULL), COROLLA_OK);
        assert_int_equal(sessions_check_step(&session, &limits, step, &client, sizes[i] - 1, NULL), COROLLA_FORMAT);
        assert_int_equal(sessions_check_step(&session, &limits, step, &client, sizes[i] + 1, NULL), COROLLA_FORMAT);
        assert_int_equal(sessions_check_step(&session, &limits, step, &client, 0, NULL), COROLLA_FORMAT);
    }
}

static void the_steps_of_a_session_are_bounded_but_a_new_epoch_makes_room(void **state) {
    (void)state;
    struct session session = good_session();
    struct msg_step *step = good_step();
    session.n_steps = SESSION_STEPS_MAX - 1;
    step_gives(&session, step, &client, COROLLA_OK);
    session.n_steps = SESSION_STEPS_MAX;
    step_gives(&session, step, &client, COROLLA_BUSY);
    step->epoch = 4;
    step_gives(&session, step, &client, COROLLA_OK);
}

static void the_steps_of_a_session_that_keeps_have_the_type_of_its_rows(void **state) {
    (void)state;
    struct session session = good_session();
    struct msg_step *step = good_step();
    session.wire = COROLLA_WIRE_F16;
    step_gives(&session, step, &client, COROLLA_OK); /* it keeps nothing */
    session.lane.kept = row_log_new(100, N_EMBD * 2);
    step_gives(&session, step, &client, COROLLA_INVALID);
    step->dtype = COROLLA_WIRE_F16;
    step_gives(&session, step, &client, COROLLA_OK);
    row_log_free(session.lane.kept);
}

/* ---- REPLAY and SYNC ------------------------------------------------------------------------------------------- */

static void replay_gives(const struct session *session, const struct msg_step *step, const struct node_id *sender,
                         enum corolla_status expected) {
    struct corolla_error err = {0};
    enum corolla_status status = sessions_check_replay(session, step, sender, &err);
    if (status != expected) fail_msg("%s: %s, not %s", corolla_status_name(status), err.message, corolla_status_name(expected));
    if (status != COROLLA_OK) assert_true(err.message[0] != '\0');
}

static struct msg_step *good_replay(void) {
    struct msg_step *step = good_step();
    step->position = 10;
    step->n_tokens = 20;
    step->n_hops = 1;
    return step;
}

static void a_replay_is_the_clients_and_of_what_is_kept(void **state) {
    (void)state;
    static const float rows[30 * N_EMBD];
    struct session session = good_session();
    struct msg_step *step = good_replay();
    replay_gives(&session, step, &client, COROLLA_BAD_POSITION); /* nothing is */
    session.lane.kept = row_log_new(100, N_EMBD * sizeof(float));
    assert_true(row_log_put(session.lane.kept, 0, 30, rows));
    replay_gives(&session, step, &client, COROLLA_OK);
    replay_gives(&session, step, &upstream, COROLLA_REFUSED);
    replay_gives(&session, step, &stranger, COROLLA_REFUSED);
    step->n_hops = 0;
    replay_gives(&session, step, &client, COROLLA_INVALID);
    const struct {
        uint32_t position, n;
        enum corolla_status expected;
    } cases[] = {{0, 30, COROLLA_OK},
                 {29, 1, COROLLA_OK},
                 {10, 21, COROLLA_BAD_POSITION},
                 {30, 1, COROLLA_BAD_POSITION},
                 {31, 1, COROLLA_BAD_POSITION},
                 {UINT32_MAX, 1, COROLLA_BAD_POSITION},
                 {0, BATCH_ROWS_MAX, COROLLA_BAD_POSITION},
                 {0, BATCH_ROWS_MAX + 1, COROLLA_INVALID},
                 {0, UINT32_MAX, COROLLA_INVALID},
                 {0, 0, COROLLA_INVALID}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        step = good_replay();
        step->position = cases[i].position;
        step->n_tokens = cases[i].n;
        step->n_rows = 0;
        replay_gives(&session, step, &client, cases[i].expected);
    }
    step = good_replay();
    step->epoch = 2;
    replay_gives(&session, step, &client, COROLLA_STALE);
    step = good_replay();
    step->secret[0] ^= 1;
    replay_gives(&session, step, &client, COROLLA_REFUSED);
    step = good_replay();
    step->dtype = COROLLA_WIRE_BF16;
    replay_gives(&session, step, &client, COROLLA_INVALID);
    session.n_steps = SESSION_STEPS_MAX;
    replay_gives(&session, good_replay(), &client, COROLLA_BUSY);
    row_log_free(session.lane.kept);
}

static void a_sync_is_the_clients_and_not_late(void **state) {
    (void)state;
    struct session session = good_session();
    struct msg_sync sync = {.session = {9}, .secret = {1, 2, 3}, .epoch = 3};
    assert_int_equal(sessions_check_sync(&session, &sync, &client, NULL), COROLLA_OK);
    assert_int_equal(sessions_check_sync(&session, &sync, &upstream, NULL), COROLLA_REFUSED);
    assert_int_equal(sessions_check_sync(&session, &sync, &twin, NULL), COROLLA_REFUSED);
    sync.epoch = UINT32_MAX;
    assert_int_equal(sessions_check_sync(&session, &sync, &client, NULL), COROLLA_OK);
    sync.epoch = 2;
    assert_int_equal(sessions_check_sync(&session, &sync, &client, NULL), COROLLA_STALE);
    sync.secret[15] = 1;
    assert_int_equal(sessions_check_sync(&session, &sync, &client, NULL), COROLLA_REFUSED);
}

/* ---- sessions without their client ----------------------------------------------------------------------------- */

static char somewhere;
static struct link *const some_link = (struct link *)(void *)&somewhere; /* only compared with NULL */

static void a_lease_runs_while_the_client_has_no_link(void **state) {
    (void)state;
    struct session session = {.lost_ms = 1000};
    assert_false(sessions_is_over(&session, 1000 + LEASE_MS - 1));
    assert_true(sessions_is_over(&session, 1000 + LEASE_MS));
    session.link = some_link;
    assert_false(sessions_is_over(&session, 1000 + LEASE_MS));
}

static void a_session_is_active_while_steps_come(void **state) {
    (void)state;
    struct session session = {0};
    assert_false(sessions_is_active(&session, 1));
    session.n_steps = 1;
    assert_true(sessions_is_active(&session, 1));
    session = (struct session){.used_ms = 1000};
    assert_true(sessions_is_active(&session, 1000 + ACTIVE_MS - 1));
    assert_false(sessions_is_active(&session, 1000 + ACTIVE_MS));
}

static void the_orphan_that_ends_first_is_the_one_that_waits_longest(void **state) {
    (void)state;
    struct session *sessions = calloc(SESSIONS_MAX, sizeof *sessions);
    struct sessions table;
    fill(&table, sessions, 10);
    for (uint32_t i = 0; i < 10; i++) {
        sessions[i].link = some_link;
        sessions[i].client = i == 5 ? twin : stranger;
        sessions[i].lost_ms = 100 - i;
    }
    assert_null(sessions_find_orphan(&table, COROLLA_NO_CACHE, &client));
    sessions[3].link = sessions[5].link = sessions[7].link = NULL;
    assert_ptr_equal(sessions_find_orphan(&table, COROLLA_NO_CACHE, &client), &sessions[7]);
    sessions[7].n_steps = 1; /* its end would give nothing back yet */
    assert_ptr_equal(sessions_find_orphan(&table, COROLLA_NO_CACHE, &client), &sessions[5]);
    sessions[5].swap = SWAP_AWAY; /* its end would give no memory back */
    assert_ptr_equal(sessions_find_orphan(&table, COROLLA_NO_CACHE, &client), &sessions[3]);
    sessions[5].swap = SWAP_HERE;
    assert_null(sessions_find_orphan(&table, COROLLA_NOT_SERVED, &client));
    assert_null(sessions_find_orphan(&table, COROLLA_DRAINING, &client));
    sessions[5].lost_ms = 200;
    assert_ptr_equal(sessions_find_orphan(&table, COROLLA_NO_CACHE, &client), &sessions[3]);
    assert_ptr_equal(sessions_find_orphan(&table, COROLLA_BUSY, &client), &sessions[5]); /* the client's home has too many */
    assert_null(sessions_find_orphan(&table, COROLLA_BUSY, &upstream));
    fill(&table, sessions, SESSIONS_MAX);
    assert_ptr_equal(sessions_find_orphan(&table, COROLLA_BUSY, &upstream)->link, NULL); /* the table is full: anybody's */
    free(sessions);
}

/* ---- CLOSE ----------------------------------------------------------------------------------------------------- */

static void only_the_client_closes_and_shows_the_secret(void **state) {
    (void)state;
    struct session session = good_session();
    struct msg_close close = {.session = {9}, .secret = {1, 2, 3}};
    assert_true(sessions_check_close(&session, &close, &client));
    assert_false(sessions_check_close(&session, &close, &upstream));
    close.secret[15] = 1;
    assert_false(sessions_check_close(&session, &close, &client));
}

/* ---- memory ---------------------------------------------------------------------------------------------------- */

static const uint64_t mib = 1u << 20;

static void the_default_cache_shrinks_to_what_memory_allows(void **state) {
    (void)state;
    struct memory_plan plan = {
        .available = 10240 * mib, .weights = 100 * mib, .per_pad = mib, .pad = 64, .cache_tokens = 0, .cache_tokens_default = 16384};
    uint32_t tokens = 0;
    assert_int_equal(memory_cache_tokens(&plan, &tokens, NULL), COROLLA_OK);
    assert_int_equal(tokens, 16384);
    plan.available = 300 * mib;
    assert_int_equal(memory_cache_tokens(&plan, &tokens, NULL), COROLLA_OK);
    assert_in_range(tokens, 64, 200 * 64);
    assert_int_equal(tokens % 64, 0);
}

static void a_cache_that_was_asked_for_fits_or_is_refused(void **state) {
    (void)state;
    struct corolla_error err = {0};
    struct memory_plan plan = {
        .available = 300 * mib, .weights = 100 * mib, .per_pad = mib, .pad = 64, .cache_tokens = 640, .cache_tokens_default = 16384};
    uint32_t tokens = 0;
    assert_int_equal(memory_cache_tokens(&plan, &tokens, NULL), COROLLA_OK);
    assert_int_equal(tokens, 640);
    plan.cache_tokens = 300 * 64;
    assert_int_equal(memory_cache_tokens(&plan, &tokens, &err), COROLLA_NOMEM);
    plan.weights = 300 * mib;
    plan.cache_tokens = 0;
    assert_int_equal(memory_cache_tokens(&plan, &tokens, &err), COROLLA_NOMEM);
    assert_int_equal(tokens, 640);
}

static void this_machine_has_memory(void **state) {
    (void)state;
    assert_in_range(memory_available(), mib, UINT64_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_are_found_by_id_until_they_are_removed),
        cmocka_unit_test(a_walk_sees_every_session_once),
        cmocka_unit_test(an_open_within_the_span_and_the_length_is_good),
        cmocka_unit_test(an_open_of_what_is_not_here_is_refused),
        cmocka_unit_test(an_id_is_used_once),
        cmocka_unit_test(neither_a_client_nor_all_together_take_more_than_their_share),
        cmocka_unit_test(quotas_say_how_much_there_is_and_how_much_is_had),
        cmocka_unit_test(the_last_session_of_a_client_is_told_from_others),
        cmocka_unit_test(the_tokens_under_way_of_a_client_are_bounded),
        cmocka_unit_test(an_address_has_as_much_as_four_clients),
        cmocka_unit_test(a_server_that_leaves_takes_no_sessions),
        cmocka_unit_test(steps_come_from_the_client_or_the_hop_before),
        cmocka_unit_test(a_step_shows_the_secret),
        cmocka_unit_test(a_step_names_the_client_that_opened),
        cmocka_unit_test(older_epochs_are_stale_whatever_else_is_wrong),
        cmocka_unit_test(a_step_starts_at_or_before_the_end_of_the_last),
        cmocka_unit_test(a_step_ends_within_the_session),
        cmocka_unit_test(a_step_has_no_more_rows_than_a_batch),
        cmocka_unit_test(a_body_has_the_size_of_its_rows),
        cmocka_unit_test(the_steps_of_a_session_are_bounded_but_a_new_epoch_makes_room),
        cmocka_unit_test(the_steps_of_a_session_that_keeps_have_the_type_of_its_rows),
        cmocka_unit_test(a_replay_is_the_clients_and_of_what_is_kept),
        cmocka_unit_test(a_sync_is_the_clients_and_not_late),
        cmocka_unit_test(a_lease_runs_while_the_client_has_no_link),
        cmocka_unit_test(a_session_is_active_while_steps_come),
        cmocka_unit_test(the_orphan_that_ends_first_is_the_one_that_waits_longest),
        cmocka_unit_test(only_the_client_closes_and_shows_the_secret),
        cmocka_unit_test(the_default_cache_shrinks_to_what_memory_allows),
        cmocka_unit_test(a_cache_that_was_asked_for_fits_or_is_refused),
        cmocka_unit_test(this_machine_has_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
