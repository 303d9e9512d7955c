/* compute.c - see compute.h.
 *
 * A turn: steps whose input cannot be used fail for themselves and leave the batch; then one span_forward() for the others. A long
 * step may take several turns, its rows piece by piece. Rows in F32 are computed in place, in the body that came from the wire and
 * goes back to it; 16-bit ones pass through one scratch buffer.
 */
#include "node/compute.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/thread.h"
#include "model/convert.h"
#include "node/rows.h"
#include "node/schedule.h"
#include "node/sessions.h"
#include "node/spool.h"

_Static_assert(SESSIONS_MAX <= SCHEDULE_CLIENTS_MAX, "every session may be of another client, and wait");

struct compute {
    struct compute_config config;
    size_t n_embd;
    float *scratch; /* [BATCH_ROWS_MAX, n_embd], for rows of 16 bits; untouched pages cost nothing */
    pthread_t thread;
    bool started;

    /* compute thread only; the schedule's clients only with the lock */
    struct schedule schedule;
    struct schedule_candidate candidates[SESSIONS_MAX];
    struct lane *lanes[SESSIONS_MAX]; /* of the candidates */
    struct schedule_pick picks[BATCH_ITEMS_MAX];
    struct step *turn[BATCH_ITEMS_MAX];     /* of the picks */
    struct step *computed[BATCH_ITEMS_MAX]; /* of the items: those that were fit for it */
    struct batch_item items[BATCH_ITEMS_MAX];

    pthread_mutex_t lock; /* of what follows, and of the lists in lanes */
    pthread_cond_t work;
    bool stop;
    struct lane *ready_first, *ready_last;
    struct step *done_first, *done_last;
};

/* ---- lists (the lock is held) ---------------------------------------------------------------------------------- */

static void ready_append(struct compute *c, struct lane *lane) {
    lane->ready = true;
    lane->next = NULL;
    lane->prev = c->ready_last;
    *(lane->prev ? &lane->prev->next : &c->ready_first) = lane;
    c->ready_last = lane;
}

static void ready_remove(struct compute *c, struct lane *lane) {
    lane->ready = false;
    *(lane->prev ? &lane->prev->next : &c->ready_first) = lane->next;
    *(lane->next ? &lane->next->prev : &c->ready_last) = lane->prev;
    lane->prev = lane->next = NULL;
}

static struct step *lane_pop(struct lane *lane) {
    struct step *step = lane->first;
    lane->first = step->next;
    if (!lane->first) lane->last = NULL;
    return step;
}

/* A copy or a swap makes a turn of its own, before all rows: it is quick, and somebody waits for it. */
static bool take_job(struct compute *c) {
    struct lane *lane = c->ready_first;
    while (lane && lane->first->kind == STEP_ROWS) lane = lane->next;
    if (!lane) return false;
    c->turn[0] = lane_pop(lane);
    lane->computing = true;
    lane->withdrawn = false;
    ready_remove(c, lane);
    return true;
}

/* The first steps of the lanes that wait, as candidates; how many. */
static uint32_t look(struct compute *c) {
    uint32_t n = 0;
    for (struct lane *lane = c->ready_first; lane && n < SESSIONS_MAX; lane = lane->next) {
        const struct step *step = lane->first;
        c->candidates[n] = (struct schedule_candidate){.decode = step->n_tokens <= STEP_DECODE_ROWS_MAX,
                                                       .rows = step->n_tokens - step->n_done,
                                                       .begin = lane->begin,
                                                       .end = lane->end,
                                                       .client = lane->client};
        c->lanes[n++] = lane;
    }
    return n;
}

/* Takes the steps of the next turn out of their lanes; how many. 0: it is held, for *out_hold_us or until more come. */
static uint32_t take_turn(struct compute *c, uint32_t *out_hold_us) {
    *out_hold_us = 0;
    if (take_job(c)) return 1;
    uint32_t n = look(c);
    uint64_t now_us = clock_us();
    *out_hold_us = schedule_hold_us(&c->schedule, c->candidates, n, now_us);
    if (*out_hold_us > 0) return 0;
    n = schedule_next(&c->schedule, c->candidates, n, now_us, c->picks);
    for (uint32_t i = 0; i < n; i++) {
        struct lane *lane = c->lanes[c->picks[i].index];
        c->turn[i] = lane_pop(lane);
        lane->computing = true;
        lane->withdrawn = false;
        ready_remove(c, lane);
    }
    return n;
}

/* Steps that are through, or failed, are done; the others go back to the head of their lanes. Returns whether notify() is due. */
static bool give_turn(struct compute *c, uint32_t n) {
    bool was_empty = c->done_first == NULL;
    for (uint32_t i = 0; i < n; i++) {
        struct step *step = c->turn[i];
        struct lane *lane = step->lane;
        lane->computing = false;
        if (step->error.status == COROLLA_OK && step->n_done < step->n_tokens && !lane->withdrawn) {
            step->next = lane->first;
            lane->first = step;
            if (!lane->last) lane->last = step;
        } else {
            step->next = NULL;
            *(c->done_last ? &c->done_last->next : &c->done_first) = step;
            c->done_last = step;
        }
        if (lane->first) ready_append(c, lane);
    }
    return was_empty && c->done_first;
}

/* ---- steps ----------------------------------------------------------------------------------------------------- */

static uint8_t *rows_at(const struct compute *c, const struct step *step, uint32_t row) {
    return step->body->data + row * c->n_embd * msg_wire_size(step->wire);
}

/* Whole parts of a prefix, up to `most`, that a session has for another one. */
static uint32_t have(const struct lane *to, const struct lane *from, uint32_t most) {
    uint32_t n = from->length < most ? from->length : most;
    uint32_t kept = !to->kept ? n : from->kept ? row_log_length(from->kept) : 0;
    return (n < kept ? n : kept) / PREFIX_STEP * PREFIX_STEP;
}

/* Of the parent's positions that the session does not share with it yet. */
static void copy_from_parent(struct step *step) {
    struct lane *to = step->lane;
    const struct lane *from = &step->parent->lane;
    if (!from->kv) {
        err_set(&step->error, COROLLA_BUSY, "a session to copy from is not in memory yet: try again");
        return;
    }
    if (step->as_far) step->position = have(to, from, step->position);
    if (step->position > from->length || step->shared > to->length || (to->kept && !from->kept)) {
        err_set(&step->error, COROLLA_BAD_POSITION, "the parent holds %u positions and the session %u: %u to %u cannot be copied",
                from->length, to->length, step->shared, step->position);
        return;
    }
    if (kv_copy(to->kv, from->kv, step->shared, step->position, &step->error) != COROLLA_OK) return;
    to->length = step->position;
    if (to->kept && !row_log_copy(to->kept, from->kept, step->shared, step->position))
        err_set(&step->error, COROLLA_NOMEM, "out of memory to copy a session");
}

/* What must hold before the first row is computed. */
static bool begin_step(struct compute *c, struct step *step) {
    const struct lane *lane = step->lane;
    if (!lane->kv)
        err_set(&step->error, COROLLA_NO_SESSION, "this server has lost the session: open it again");
    else if (step->parent)
        copy_from_parent(step);
    if (step->error.status != COROLLA_OK) return false;
    if (step->position > lane->length) /* a step before it failed */
        err_set(&step->error, COROLLA_BAD_POSITION, "blocks %u:%u hold %u positions and cannot continue at %u: step from there",
                lane->begin, lane->end, lane->length, step->position);
    else if (!rows_finite(step->wire, step->body->data, step->n_tokens * c->n_embd))
        err_set(&step->error, COROLLA_FORMAT, "the input of block %u at positions %u to %u is not finite", lane->begin, step->position,
                step->position + step->n_tokens - 1);
    return step->error.status == COROLLA_OK;
}

/* The next rows of a step as a batch item; x: room for them in the scratch. */
static struct batch_item make_item(const struct compute *c, const struct step *step, uint32_t rows, float *x) {
    if (step->wire == COROLLA_WIRE_F32)
        x = (float *)(void *)rows_at(c, step, step->n_done);
    else
        convert_to_f32(step->wire, rows_at(c, step, step->n_done), x, rows * c->n_embd);
    return (struct batch_item){.kv = step->lane->kv, .position = step->position + step->n_done, .n = rows, .in = x, .out = x};
}

/* Leaves in the body what goes out. */
static void end_step(struct compute *c, struct step *step) {
    if (step->n_hops > 0) return;
    step->body->size = rows_keep_last(step->body->data, step->n_tokens, step->n_rows, c->n_embd * msg_wire_size(step->wire));
    if (step->n_rows > 0) return;
    net_body_free(c->config.net, step->body);
    step->body = NULL;
}

/* The rows of an item were computed. */
static void take_item(struct compute *c, struct step *step, const struct batch_item *item) {
    struct lane *lane = step->lane;
    size_t values = item->n * c->n_embd;
    uint8_t *rows = rows_at(c, step, step->n_done);
    lane->n_computed += item->n;
    if (!rows_finite(COROLLA_WIRE_F32, item->out, values)) {
        err_set(&step->error, COROLLA_INTERNAL, "blocks %u:%u gave values that are not finite at positions %u to %u", lane->begin,
                lane->end, item->position, item->position + item->n - 1);
        return;
    }
    if (step->wire != COROLLA_WIRE_F32) {
        convert_from_f32(step->wire, item->out, rows, values);
        if (!rows_finite(step->wire, rows, values)) {
            err_set(&step->error, COROLLA_UNSUPPORTED, "the output of blocks %u:%u does not fit 16-bit floats: use the wire f32",
                    lane->begin, lane->end);
            return;
        }
    }
    if (lane->kept && !row_log_put(lane->kept, item->position, item->n, rows)) {
        err_set(&step->error, COROLLA_NOMEM, "out of memory to keep the output of blocks %u:%u", lane->begin, lane->end);
        return;
    }
    step->n_done += item->n;
    if (step->n_done == step->n_tokens) end_step(c, step);
}

/* ---- turns ----------------------------------------------------------------------------------------------------- */

static uint32_t between_us(uint64_t from_us, uint64_t to_us) {
    uint64_t us = to_us > from_us ? to_us - from_us : 0;
    return us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

/* The picked rows through the blocks; what became of each step is in its error. *out_items: 0 when that failed. */
static uint32_t compute_batch(struct compute *c, uint32_t n, uint32_t *out_items) {
    uint32_t n_items = 0, rows = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct step *step = c->turn[i];
        if (step->n_done == 0 && !begin_step(c, step)) continue;
        c->items[n_items] = make_item(c, step, c->picks[i].rows, c->scratch + rows * c->n_embd);
        c->computed[n_items++] = step;
        rows += c->picks[i].rows;
    }
    struct corolla_error err = {0};
    enum corolla_status status = n_items > 0 ? span_forward(c->config.span, c->items, n_items, &err) : COROLLA_OK;
    for (uint32_t i = 0; i < n_items; i++) {
        struct step *step = c->computed[i];
        if (status == COROLLA_OK)
            take_item(c, step, &c->items[i]);
        else
            err_set(&step->error, status, "blocks %u:%u: %.400s", step->lane->begin, step->lane->end, err.message);
    }
    *out_items = status == COROLLA_OK ? n_items : 0;
    return rows;
}

/* What the session has after a turn of its step. */
static void settle_lane(struct lane *lane, const struct step *step) {
    if (step->error.status == COROLLA_OK) {
        lane->length = step->position + step->n_done;
        lane->epoch = step->epoch;
        return;
    }
    uint32_t whole = step->has_parent ? step->shared : step->position; /* what stood behind is not to be trusted any more */
    if (whole < lane->length) {
        lane->length = whole;
        if (lane->kept) row_log_put(lane->kept, lane->length, 0, NULL);
    }
}

static void do_job(const struct compute *c, struct step *step) {
    switch (step->kind) {
    case STEP_COPY: copy_from_parent(step); break;
    case STEP_SWAP_OUT: spool_out(c->config.spool, step); break;
    case STEP_SWAP_IN: spool_in(c->config.spool, step); break;
    case STEP_ROWS: break;
    }
}

static void compute_turn(struct compute *c, uint32_t n) {
    uint64_t begin_us = clock_us();
    if (c->turn[0]->kind != STEP_ROWS) {
        do_job(c, c->turn[0]);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        if (c->turn[i]->n_done == 0) c->turn[i]->queue_us = between_us(c->turn[i]->arrived_us, begin_us);
    uint32_t items, rows = compute_batch(c, n, &items);
    uint32_t us = between_us(begin_us, clock_us());
    for (uint32_t i = 0; i < n; i++) {
        struct step *step = c->turn[i];
        settle_lane(step->lane, step);
        step->compute_us += us;
        step->turn_items = 0;
    }
    if (items == 0) return;
    schedule_note(&c->schedule, c->computed[0]->n_tokens <= STEP_DECODE_ROWS_MAX, rows, us, begin_us + us);
    c->computed[0]->turn_items = items;
    c->computed[0]->turn_rows = rows;
    c->computed[0]->turn_us = us;
}

/* Until another lane is ready, or so long. The lock is held. */
static void wait_for_more(struct compute *c, uint32_t us) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + us * UINT64_C(1000);
    until.tv_sec += (time_t)(ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    pthread_cond_timedwait(&c->work, &c->lock, &until);
}

static void *compute_main(void *user) {
    struct compute *c = user;
    pthread_mutex_lock(&c->lock);
    for (;;) {
        while (!c->stop && !c->ready_first) pthread_cond_wait(&c->work, &c->lock);
        if (c->stop) break;
        uint32_t hold_us, n = take_turn(c, &hold_us);
        if (n == 0) {
            wait_for_more(c, hold_us);
            continue;
        }
        pthread_mutex_unlock(&c->lock);
        compute_turn(c, n);
        pthread_mutex_lock(&c->lock);
        if (!give_turn(c, n)) continue;
        pthread_mutex_unlock(&c->lock);
        c->config.notify(c->config.user);
        pthread_mutex_lock(&c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* ---- the loop thread's side ------------------------------------------------------------------------------------ */

void compute_submit(struct compute *c, struct lane *lane, struct step *step) {
    step->next = NULL;
    step->lane = lane;
    step->arrived_us = clock_us();
    pthread_mutex_lock(&c->lock);
    *(lane->last ? &lane->last->next : &lane->first) = step;
    lane->last = step;
    bool wake = !lane->ready && !lane->computing;
    if (wake) ready_append(c, lane);
    pthread_mutex_unlock(&c->lock);
    if (wake) pthread_cond_signal(&c->work);
}

struct step *compute_withdraw(struct compute *c, struct lane *lane) {
    pthread_mutex_lock(&c->lock);
    struct step *first = lane->first;
    lane->first = lane->last = NULL;
    lane->withdrawn = lane->computing;
    if (lane->ready) ready_remove(c, lane);
    pthread_mutex_unlock(&c->lock);
    return first;
}

void compute_forget(struct compute *c, uint32_t client) {
    pthread_mutex_lock(&c->lock);
    schedule_forget(&c->schedule, client);
    pthread_mutex_unlock(&c->lock);
}

struct step *compute_collect(struct compute *c) {
    pthread_mutex_lock(&c->lock);
    struct step *first = c->done_first;
    c->done_first = c->done_last = NULL;
    pthread_mutex_unlock(&c->lock);
    return first;
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

enum corolla_status compute_new(struct compute **out, const struct compute_config *config, struct corolla_error *err) {
    struct compute *c = calloc(1, sizeof *c);
    if (!c) return err_set(err, COROLLA_NOMEM, "out of memory for the compute thread");
    c->config = *config;
    c->n_embd = span_hparams(config->span)->n_embd;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->work, NULL);
    c->scratch = malloc(BATCH_ROWS_MAX * c->n_embd * sizeof *c->scratch);
    c->started = c->scratch && thread_start(&c->thread, compute_main, c);
    if (!c->started) {
        compute_free(c);
        return err_set(err, COROLLA_NOMEM, "cannot start the compute thread");
    }
    *out = c;
    return COROLLA_OK;
}

void compute_stop(struct compute *c) {
    if (!c || !c->started) return;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_mutex_unlock(&c->lock);
    pthread_cond_signal(&c->work);
    pthread_join(c->thread, NULL);
    c->started = false;
}

void compute_free(struct compute *c) {
    if (!c) return;
    compute_stop(c);
    free(c->scratch);
    pthread_cond_destroy(&c->work);
    pthread_mutex_destroy(&c->lock);
    free(c);
}
