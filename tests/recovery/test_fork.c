/* test_fork.c - forks and beam search: the same bits as sessions that computed everything themselves, also when servers are killed. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rig.h"

#define PROMPT 40
#define WIDTH 4
#define STEPS 12

static void must(enum corolla_status status, const struct corolla_error *err) {
    if (status != COROLLA_OK) fail_msg("%s: %s", corolla_status_name(status), err->message);
}

/* ---- beams ----------------------------------------------------------------------------------------------------- */

struct beam {
    struct corolla_session *session;
    double score;
    uint32_t n;
    int32_t tokens[STEPS];
    float *hidden; /* [n_embd]: behind the last token */
};

struct candidate {
    uint32_t beam;
    int32_t token;
    double score;
};

static int by_score(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->beam != y->beam ? (x->beam > y->beam) - (x->beam < y->beam) : (x->token > y->token) - (x->token < y->token);
}

/* The best WIDTH continuations of a beam, by log probability. */
static void expand(const struct beam *beam, uint32_t index, struct candidate *out) {
    struct corolla_error err;
    float *logits = malloc(info->n_vocab * sizeof *logits);
    struct candidate *all = malloc(info->n_vocab * sizeof *all);
    must(corolla_session_logits(beam->session, beam->hidden, 1, logits, &err), &err);
    double sum = 0;
    for (uint32_t i = 0; i < info->n_vocab; i++) sum += exp((double)logits[i]);
    for (uint32_t i = 0; i < info->n_vocab; i++)
        all[i] = (struct candidate){.beam = index, .token = (int32_t)i, .score = beam->score + (double)logits[i] - log(sum)};
    qsort(all, info->n_vocab, sizeof *all, by_score);
    memcpy(out, all, WIDTH * sizeof *all);
    free(all);
    free(logits);
}

static void step(struct beam *beam, uint32_t position, const int32_t *tokens, uint32_t n) {
    struct corolla_error err;
    must(corolla_session_step(beam->session, position, tokens, n, beam->hidden, 1, &err), &err);
}

/* All beams go on as the best candidates, which reorders them. */
static void go_on(struct beam beams[WIDTH], const struct candidate *candidates) {
    struct corolla_error err;
    struct corolla_session *sessions[WIDTH];
    struct corolla_step steps[WIDTH];
    struct beam old[WIDTH];
    memcpy(old, beams, sizeof old);
    for (uint32_t i = 0; i < WIDTH; i++) {
        const struct beam *parent = &old[candidates[i].beam];
        memcpy(beams[i].tokens, parent->tokens, sizeof parent->tokens);
        beams[i].n = parent->n + 1;
        beams[i].tokens[parent->n] = candidates[i].token;
        beams[i].score = candidates[i].score;
        sessions[i] = beams[i].session;
        steps[i] = (struct corolla_step){.parent = candidates[i].beam, .position = PROMPT + parent->n, .n = 1, .n_rows = 1};
        steps[i].tokens = &beams[i].tokens[parent->n];
        steps[i].out_hidden = beams[i].hidden;
    }
    must(corolla_sessions_step(sessions, steps, WIDTH, &err), &err);
    for (uint32_t i = 0; i < WIDTH; i++) beams[i].session = sessions[i];
}

/* Beam search; before(step) is called in front of each step. */
static void search(struct corolla_swarm *swarm, void (*before)(uint32_t step), struct beam out[WIDTH]) {
    struct corolla_error err;
    for (uint32_t i = 0; i < WIDTH; i++) out[i] = (struct beam){.hidden = malloc(info->n_embd * sizeof(float))};
    must(corolla_session_open(&out[0].session, swarm, TEXT, &err), &err);
    step(&out[0], 0, text, PROMPT);
    for (uint32_t i = 1; i < WIDTH; i++) must(corolla_session_fork(&out[i].session, out[0].session, &err), &err);
    for (uint32_t s = 0; s < STEPS; s++) {
        struct candidate candidates[WIDTH * WIDTH];
        uint32_t n = s == 0 ? 1 : WIDTH;
        if (before != NULL) before(s);
        for (uint32_t i = 0; i < n; i++) expand(&out[i], i, candidates + (size_t)i * WIDTH);
        qsort(candidates, (size_t)n * WIDTH, sizeof *candidates, by_score);
        go_on(out, candidates);
    }
}

static void beams_free(struct beam beams[WIDTH]) {
    for (uint32_t i = 0; i < WIDTH; i++) {
        corolla_session_close(beams[i].session);
        free(beams[i].hidden);
    }
}

static void beams_equal(const struct beam a[WIDTH], const struct beam b[WIDTH]) {
    for (uint32_t i = 0; i < WIDTH; i++) {
        assert_int_equal(a[i].n, b[i].n);
        assert_memory_equal(a[i].tokens, b[i].tokens, a[i].n * sizeof(int32_t));
        assert_memory_equal(a[i].hidden, b[i].hidden, info->n_embd * sizeof(float));
    }
}

/* ---- tests ----------------------------------------------------------------------------------------------------- */

static void beams_have_the_bits_of_sessions_of_their_own(void **state) {
    (void)state;
    struct beam beams[WIDTH];
    search(local, NULL, beams);
    for (uint32_t i = 0; i < WIDTH; i++) {
        struct corolla_error err;
        struct beam alone = {.hidden = malloc(info->n_embd * sizeof(float))};
        must(corolla_session_open(&alone.session, local, TEXT, &err), &err);
        step(&alone, 0, text, PROMPT);
        step(&alone, PROMPT, beams[i].tokens, beams[i].n);
        assert_memory_equal(alone.hidden, beams[i].hidden, info->n_embd * sizeof(float));
        corolla_session_close(alone.session);
        free(alone.hidden);
    }
    beams_free(beams);
}

static struct client client;

/* The server that the chain has for a span now. */
static void kill_hop(uint32_t span) { serve_kill(client_hop(&client, span)); }

static void kill_now_and_then(uint32_t step) {
    if (step % 3 == 0 && step > 0) kill_hop(step / 3 % SPANS);
}

static void beams_through_a_chain_are_the_same_and_survive_kills(void **state) {
    (void)state;
    struct beam want[WIDTH], got[WIDTH];
    rig_start_all();
    client_open(&client, &(struct client_config){0});
    search(local, NULL, want);
    search(client.swarm, NULL, got);
    beams_equal(want, got);
    beams_free(got);
    search(client.swarm, kill_now_and_then, got);
    beams_equal(want, got);
    beams_free(got);
    beams_free(want);
    client_close(&client);
}

/* Three forks of one session go different ways, servers die between them, and the parent goes on as if nothing had been. */
static void forks_go_on_by_themselves_under_kills(void **state) {
    (void)state;
    rig_start_all();
    client_open(&client, &(struct client_config){0});
    struct corolla_swarm *where[] = {local, client.swarm};
    float *hidden[2][4];
    for (uint32_t w = 0; w < 2; w++) {
        struct corolla_error err;
        struct corolla_session *sessions[4];
        must(corolla_session_open(&sessions[0], where[w], TEXT, &err), &err);
        must(corolla_session_step(sessions[0], 0, text, PROMPT, NULL, 0, &err), &err);
        for (uint32_t i = 1; i < 4; i++) must(corolla_session_fork(&sessions[i], sessions[0], &err), &err);
        for (uint32_t i = 0; i < 4; i++) {
            if (w == 1 && i > 0) kill_hop(i - 1);
            hidden[w][i] = malloc(info->n_embd * sizeof(float));
            must(corolla_session_step(sessions[i], PROMPT - 4 * i, text + i, 20, hidden[w][i], 1, &err), &err); /* and rolls back */
        }
        for (uint32_t i = 0; i < 4; i++) corolla_session_close(sessions[i]);
    }
    for (uint32_t i = 0; i < 4; i++) {
        assert_memory_equal(hidden[0][i], hidden[1][i], info->n_embd * sizeof(float));
        free(hidden[0][i]);
        free(hidden[1][i]);
    }
    client_close(&client);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(beams_have_the_bits_of_sessions_of_their_own),
        cmocka_unit_test(beams_through_a_chain_are_the_same_and_survive_kills),
        cmocka_unit_test(forks_go_on_by_themselves_under_kills),
    };
    return cmocka_run_group_tests(tests, rig_open, rig_close);
}
