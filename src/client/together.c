/* together.c - several sessions in one step: who continues whom, and what must be copied for it. See together.h and corolla.h. */
#include "client/together.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "client/session.h"

#define NOBODY UINT32_MAX
#define ROWS_MAX 1024

/* ---- who goes on as whom --------------------------------------------------------------------------------------- */

static size_t favourite_child(const struct together_row *rows, size_t n, uint32_t parent) {
    size_t best = n;
    for (size_t i = 0; i < n; i++) {
        if (rows[i].parent != parent) continue;
        bool more = best == n || rows[i].position > rows[best].position;
        if (more || (i == parent && rows[i].position == rows[best].position)) best = i;
    }
    return best;
}

static bool taken(const struct together_row *rows, size_t n, uint32_t session) {
    for (size_t i = 0; i < n; i++)
        if (rows[i].session == session) return true;
    return false;
}

void together_assign(struct together_row *rows, size_t n) {
    uint32_t free = 0;
    for (size_t i = 0; i < n; i++) rows[i].session = NOBODY;
    for (uint32_t parent = 0; parent < n; parent++) {
        size_t child = favourite_child(rows, n, parent);
        if (child < n) rows[child].session = parent;
    }
    for (uint32_t i = 0; i < n; i++)
        if (rows[i].session == NOBODY && !taken(rows, n, i)) rows[i].session = i;
    for (size_t i = 0; i < n; i++) {
        if (rows[i].session != NOBODY) continue;
        while (taken(rows, n, free)) free++;
        rows[i].session = free;
    }
}

/* ---- the step -------------------------------------------------------------------------------------------------- */

/* How many positions have the same bits in both: those whose tokens are the same from the beginning. */
static uint32_t shared_positions(const struct corolla_session *a, const struct corolla_session *b, uint32_t max) {
    uint32_t n = 0;
    if (a->position < max) max = a->position;
    while (n < max && a->tokens[n] == b->tokens[n] && a->tokens[n] != TOKEN_HIDDEN) n++;
    return n;
}

static struct session_run make_run(const struct corolla_step *step, const struct corolla_session *session,
                                   const struct corolla_session *parent) {
    struct session_run run = {.position = step->position, .n = step->n, .tokens = step->tokens, .hidden = step->hidden};
    run.out = step->out_hidden;
    run.n_rows = step->out_hidden == NULL ? 0 : step->n_rows;
    if (session == parent || step->position > parent->position) return run; /* the check sees to the latter */
    run.shared = shared_positions(session, parent, step->position);
    if (run.shared < step->position) run.parent = parent;
    return run;
}

static enum corolla_status check_sessions(struct corolla_session *const *sessions, const struct corolla_step *steps, size_t n,
                                          struct corolla_error *err) {
    if (sessions == NULL || steps == NULL || n == 0 || n > ROWS_MAX)
        return err_set(err, COROLLA_INVALID, "1 to %d sessions step together, not %zu", ROWS_MAX, n);
    for (size_t i = 0; i < n; i++) {
        if (sessions[i] == NULL || sessions[i]->swarm != sessions[0]->swarm)
            return err_set(err, COROLLA_INVALID, "sessions that step together are of one swarm");
        if (steps[i].parent >= n) return err_set(err, COROLLA_INVALID, "step %zu continues session %u of %zu", i, steps[i].parent, n);
        for (size_t k = 0; k < i; k++)
            if (sessions[k] == sessions[i]) return err_set(err, COROLLA_INVALID, "session %zu is session %zu as well", i, k);
    }
    return COROLLA_OK;
}

/* The runs, and in to[] the sessions that take them, in the order of the steps. */
static enum corolla_status plan(struct corolla_session *const *sessions, const struct corolla_step *steps, struct together_row *rows,
                                size_t n, struct session_run *runs, struct corolla_session **to, struct corolla_error *err) {
    for (size_t i = 0; i < n; i++) rows[i] = (struct together_row){.parent = steps[i].parent, .position = steps[i].position};
    together_assign(rows, n);
    for (size_t i = 0; i < n; i++) {
        const struct corolla_session *parent = sessions[steps[i].parent];
        to[i] = sessions[rows[i].session];
        runs[i] = make_run(&steps[i], to[i], parent);
        if (steps[i].position > parent->position)
            return err_set(err, COROLLA_BAD_POSITION, "a step at position %u, but only %u positions are filled", steps[i].position,
                           parent->position);
        enum corolla_status status = session_check(to[i], &runs[i], err);
        if (status != COROLLA_OK) return status;
        if (session_cancelled(sessions[i])) return session_cancel_error(err);
    }
    return COROLLA_OK;
}

enum corolla_status corolla_sessions_step(struct corolla_session **sessions, const struct corolla_step *steps, size_t n,
                                          struct corolla_error *err) {
    enum corolla_status status = check_sessions(sessions, steps, n, err);
    if (status != COROLLA_OK) return status;
    struct session_run *runs = calloc(n, sizeof *runs);
    struct together_row *rows = calloc(n, sizeof *rows);
    struct corolla_session **to = calloc(n, sizeof *to);
    bool memory = runs != NULL && rows != NULL && to != NULL;
    status = memory ? plan(sessions, steps, rows, n, runs, to, err) : err_set(err, COROLLA_NOMEM, "out of memory for %zu sessions", n);
    if (status == COROLLA_OK) {
        uint64_t start_us = clock_us();
        for (size_t i = 0; i < n; i++) session_remember(to[i], &runs[i]);
        status = to[0]->ops->step(to, runs, n, err);
        for (size_t i = 0; i < n; i++) to[i]->total_us = (uint32_t)(clock_us() - start_us);
        memcpy(sessions, to, n * sizeof *to);
    }
    free(to);
    free(rows);
    free(runs);
    return status;
}
