/* test_together.c - several sessions in one step, which continue each other as they like: the bits of sessions that computed everything
 * themselves, alone and through a chain whose servers are killed meanwhile. Parents, positions, lengths and kills are random; the seed is
 * printed, and COROLLA_TEST_SEED takes it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/together.h"
#include "rig.h"

#define WIDTH_MAX 6
#define ROUNDS 24
#define STEP_MAX 5
#define BACK_MAX 12
#define HIDDEN (-1)

static void must(enum corolla_status status, const struct corolla_error *err) {
    if (status != COROLLA_OK) fail_msg("%s: %s", corolla_status_name(status), err->message);
}

/* ---- what the sessions should hold ------------------------------------------------------------------------------ */

struct row {
    uint32_t n;
    int32_t tokens[TEXT];
    float *hidden; /* [TEXT, n_embd]: where tokens has HIDDEN */
};

struct world {
    uint32_t width;
    bool mixed; /* some rows are hidden states */
    struct corolla_session *sessions[WIDTH_MAX];
    struct row rows[WIDTH_MAX];
    uint64_t n_stepped;
};

static float *hidden_at(const struct row *row, uint32_t position) { return row->hidden + (size_t)position * info->n_embd; }

static void row_copy(struct row *to, const struct row *from, uint32_t n) {
    to->n = n;
    memcpy(to->tokens, from->tokens, n * sizeof *to->tokens);
    memcpy(to->hidden, from->hidden, (size_t)n * info->n_embd * sizeof(float));
}

/* The last row of the output, by a session that nothing happens to. */
static void check_row(const struct row *row, const float *got, const char *what) {
    struct corolla_error err;
    struct corolla_session *session;
    float *want = malloc(info->n_embd * sizeof *want);
    must(corolla_session_open(&session, local, TEXT, &err), &err);
    for (uint32_t at = 0, n; at < row->n; at += n) {
        bool hidden = row->tokens[at] == HIDDEN;
        for (n = 1; at + n < row->n && (row->tokens[at + n] == HIDDEN) == hidden; n++) {
        }
        if (hidden)
            must(corolla_session_step_hidden(session, at, hidden_at(row, at), n, want, 1, &err), &err);
        else
            must(corolla_session_step(session, at, row->tokens + at, n, want, 1, &err), &err);
    }
    corolla_session_close(session);
    if (memcmp(got, want, info->n_embd * sizeof *want) != 0)
        fail_msg("a row of %u positions differs from one computed alone: %s", row->n, what);
    free(want);
}

static void world_open(struct world *w, uint32_t width, struct corolla_session *first) {
    struct corolla_error err;
    *w = (struct world){.width = width, .sessions = {first}};
    for (uint32_t i = 0; i < width; i++) {
        if (i > 0) must(corolla_session_fork(&w->sessions[i], first, &err), &err);
        w->rows[i].hidden = calloc((size_t)TEXT * info->n_embd, sizeof(float));
    }
}

static void world_free(struct world *w) {
    for (uint32_t i = 0; i < w->width; i++) free(w->rows[i].hidden);
}

/* What one row does in a round. */
static struct corolla_step make_step(struct world *w, const struct row before[WIDTH_MAX], uint32_t i, uint64_t *seed) {
    struct row *row = &w->rows[i];
    struct corolla_step step = {.parent = (uint32_t)rig_random(seed, w->width), .n = 1 + (uint32_t)rig_random(seed, STEP_MAX)};
    const struct row *parent = &before[step.parent];
    uint32_t back = rig_random(seed, 3) == 0 ? (uint32_t)rig_random(seed, BACK_MAX) : 0;
    step.position = parent->n > back ? parent->n - back : 0;
    row_copy(row, parent, step.position);
    bool hidden = w->mixed && rig_random(seed, 3) == 0;
    for (uint32_t k = 0; k < step.n; k++) {
        row->tokens[row->n] = hidden ? HIDDEN : (int32_t)rig_random(seed, info->n_vocab);
        for (uint32_t j = 0; hidden && j < info->n_embd; j++) hidden_at(row, row->n)[j] = (float)rig_random(seed, 2000) / 1000 - 1;
        row->n++;
    }
    step.tokens = hidden ? NULL : row->tokens + step.position;
    step.hidden = hidden ? hidden_at(row, step.position) : NULL;
    step.n_rows = 1;
    step.out_hidden = malloc(info->n_embd * sizeof(float));
    w->n_stepped += step.n;
    return step;
}

static void round_of(struct world *w, uint64_t *seed) {
    struct row before[WIDTH_MAX];
    struct corolla_step steps[WIDTH_MAX];
    struct corolla_error err;
    for (uint32_t i = 0; i < w->width; i++) {
        before[i].hidden = malloc((size_t)TEXT * info->n_embd * sizeof(float));
        row_copy(&before[i], &w->rows[i], w->rows[i].n);
    }
    for (uint32_t i = 0; i < w->width; i++) steps[i] = make_step(w, before, i, seed);
    must(corolla_sessions_step(w->sessions, steps, w->width, &err), &err);
    for (uint32_t i = 0; i < w->width; i++) {
        char what[64];
        assert_int_equal(corolla_session_position(w->sessions[i]), w->rows[i].n);
        snprintf(what, sizeof what, "row %u, parent %u", i, steps[i].parent);
        check_row(&w->rows[i], steps[i].out_hidden, what);
        free(steps[i].out_hidden);
        free(before[i].hidden);
    }
}

/* ---- tests ----------------------------------------------------------------------------------------------------- */

static void rows_are_assigned_so_that_most_stays_where_it_is(void **state) {
    (void)state;
    uint64_t seed;
    rig_seed(&seed);
    for (uint32_t round = 0; round < 2000; round++) {
        struct together_row rows[16];
        uint32_t n = 1 + (uint32_t)rig_random(&seed, 16);
        for (uint32_t i = 0; i < n; i++)
            rows[i] = (struct together_row){.parent = (uint32_t)rig_random(&seed, n), .position = (uint32_t)rig_random(&seed, 4)};
        together_assign(rows, n);
        uint32_t taken = 0;
        for (uint32_t i = 0; i < n; i++) {
            assert_true(rows[i].session < n && !(taken & 1u << rows[i].session));
            taken |= 1u << rows[i].session;
        }
        for (uint32_t i = 0; i < n; i++) { /* who goes on as a child of its own keeps at least what the other children take */
            uint32_t keeper = n;
            for (uint32_t k = 0; k < n; k++)
                if (rows[k].session == rows[i].parent) keeper = k;
            assert_true(keeper < n && rows[keeper].parent == rows[i].parent && rows[keeper].position >= rows[i].position);
        }
    }
}

static void rows_continue_each_other_alone(void **state) {
    (void)state;
    uint64_t seed;
    rig_seed(&seed);
    for (uint32_t width = 1; width <= WIDTH_MAX; width++) {
        struct world w;
        struct corolla_session *first;
        struct corolla_error err;
        must(corolla_session_open(&first, local, TEXT, &err), &err);
        world_open(&w, width, first);
        w.mixed = width % 2 == 0;
        for (uint32_t i = 0; i < ROUNDS; i++) round_of(&w, &seed);
        for (uint32_t i = 0; i < width; i++) corolla_session_close(w.sessions[i]);
        world_free(&w);
    }
}

/* Nothing is computed twice: what another session holds is copied on the servers. */
static void rows_continue_each_other_through_a_chain(void **state) {
    (void)state;
    uint64_t seed;
    rig_seed(&seed);
    rig_start_all();
    for (uint32_t width = 2; width <= WIDTH_MAX; width += 2) {
        struct client client;
        struct world w;
        struct serve *hops[SPANS];
        uint64_t rows[SPANS] = {0};
        client_open(&client, &(struct client_config){0});
        world_open(&w, width, client.session);
        w.mixed = width == 4;
        for (uint32_t i = 0; i < ROUNDS; i++) round_of(&w, &seed);
        for (uint32_t k = 0; k < SPANS; k++) hops[k] = client_hop(&client, k);
        check_n_events(&client, 0);
        for (uint32_t i = 0; i < width; i++) {
            corolla_session_close(w.sessions[i]);
            for (uint32_t k = 0; k < SPANS; k++) rows[k] += serve_rows(hops[k]);
        }
        for (uint32_t k = 0; k < SPANS; k++) assert_int_equal(rows[k], w.n_stepped);
        corolla_swarm_close(client.swarm);
        world_free(&w);
    }
}

static void rows_continue_each_other_under_kills(void **state) {
    (void)state;
    uint64_t seed;
    rig_seed(&seed);
    rig_start_all();
    struct client client;
    struct world w;
    client_open(&client, &(struct client_config){0});
    world_open(&w, 4, client.session);
    w.mixed = true;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        struct killer killer;
        bool kill = i % 3 == 1;
        if (kill) kill_begin(&killer, client_hop(&client, (uint32_t)rig_random(&seed, SPANS)), (uint32_t)rig_random(&seed, 4000));
        round_of(&w, &seed);
        if (kill) kill_end(&killer);
        rig_start_all();
    }
    for (uint32_t i = 0; i < w.width; i++) corolla_session_close(w.sessions[i]);
    corolla_swarm_close(client.swarm);
    world_free(&w);
}

static void what_cannot_be_leaves_all_as_it_was(void **state) {
    (void)state;
    rig_start_all();
    struct client client;
    client_open(&client, &(struct client_config){0});
    struct corolla_session *where[2] = {NULL, client.session};
    struct corolla_error err;
    must(corolla_session_open(&where[0], local, TEXT, &err), &err);
    struct corolla_step apart[2] = {{.parent = 0, .tokens = text, .n = 1}, {.parent = 1, .tokens = text, .n = 1}};
    assert_int_equal(corolla_sessions_step(where, apart, 2, &err), COROLLA_INVALID); /* two swarms */
    for (uint32_t k = 0; k < 2; k++) {
        struct corolla_session *s[2] = {where[k]}, *same[2] = {where[k], where[k]};
        must(corolla_session_step(s[0], 0, text, 8, NULL, 0, &err), &err);
        must(corolla_session_fork(&s[1], s[0], &err), &err);
        struct corolla_step good[2] = {{.parent = 0, .position = 8, .tokens = text + 8, .n = 1},
                                       {.parent = 0, .position = 8, .tokens = text, .n = 1}};
        struct corolla_step bad[2];
#define REFUSED(change, status)                                                                                                            \
    memcpy(bad, good, sizeof bad);                                                                                                         \
    change;                                                                                                                                \
    assert_int_equal(corolla_sessions_step(s, bad, 2, &err), status);                                                                      \
    assert_true(corolla_session_position(s[0]) == 8 && corolla_session_position(s[1]) == 8)
        REFUSED(bad[1].parent = 2, COROLLA_INVALID);
        REFUSED(bad[1].position = 9, COROLLA_BAD_POSITION);
        REFUSED(bad[1].position = UINT32_MAX, COROLLA_BAD_POSITION);
        REFUSED(bad[1].n = 0, COROLLA_INVALID);
        REFUSED(bad[1].n = TEXT, COROLLA_TOO_LONG);
        REFUSED(bad[1].tokens = NULL, COROLLA_INVALID);
        assert_int_equal(corolla_sessions_step(same, good, 2, &err), COROLLA_INVALID);
        assert_int_equal(corolla_sessions_step(s, good, 0, &err), COROLLA_INVALID);
        corolla_session_cancel(s[1]);
        assert_int_equal(corolla_sessions_step(s, good, 2, &err), COROLLA_CANCELLED);
        corolla_session_cancel_clear(s[1]);
        must(corolla_sessions_step(s, good, 2, &err), &err);
        assert_true(corolla_session_position(s[0]) == 9 && corolla_session_position(s[1]) == 9);
        corolla_session_close(s[0]);
        corolla_session_close(s[1]);
    }
    corolla_swarm_close(client.swarm);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_assigned_so_that_most_stays_where_it_is),
        cmocka_unit_test(rows_continue_each_other_alone),
        cmocka_unit_test(rows_continue_each_other_through_a_chain),
        cmocka_unit_test(rows_continue_each_other_under_kills),
        cmocka_unit_test(what_cannot_be_leaves_all_as_it_was),
    };
    return cmocka_run_group_tests(tests, rig_open, rig_close);
}
