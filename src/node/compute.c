/* compute.c - see compute.h. */
#include "node/compute.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "model/convert.h"
#include "node/rows.h"
#include "wire/msg.h"

struct fifo {
    struct job *first, *last;
};

struct compute {
    struct compute_config config;
    pthread_t thread;
    bool joinable;

    pthread_mutex_t lock; /* guards what follows, and what the lanes hold */
    pthread_cond_t work;
    struct fifo control; /* OPEN and CLOSE */
    struct schedule schedule;
    struct fifo done;
    struct compute_stats stats;
    bool stop, woken; /* woken: a wake-up is out and not answered by a take */

    /* of the compute thread alone */
    float *scratch; /* [BATCH_ROWS_MAX, n_embd]: rows of 16-bit wires */
    struct schedule_pick picks[BATCH_ITEMS_MAX];
    struct job *jobs[BATCH_ITEMS_MAX]; /* of the picks */
    struct batch_item items[BATCH_ITEMS_MAX];
};

static void fifo_push(struct fifo *fifo, struct job *job) {
    job->next = NULL;
    *(fifo->last ? &fifo->last->next : &fifo->first) = job;
    fifo->last = job;
}

static struct job *fifo_pop(struct fifo *fifo) {
    struct job *job = fifo->first;
    fifo->first = job->next;
    if (!fifo->first) fifo->last = NULL;
    return job;
}

static void job_fail(struct job *job, enum corolla_status status, const char *text) {
    job->status = status;
    snprintf(job->text, sizeof job->text, "%s", text);
}

static struct lane *lane_of(struct schedule_entry *entry) { return (struct lane *)((char *)entry - offsetof(struct lane, entry)); }

/* ---- lanes; the lock is held ----------------------------------------------------------------------------------- */

/* Lets the schedule know the step that is first now. */
static void lane_enlist(struct compute *c, struct lane *lane) {
    const struct job *job = lane->first;
    if (!job || lane->running) return;
    lane->entry.begin = lane->begin;
    lane->entry.end = lane->end;
    lane->entry.rows = job->n - job->done;
    lane->entry.small = job->n <= SCHEDULE_SMALL_ROWS;
    schedule_add(&c->schedule, &lane->entry);
}

static struct job *lane_pop(struct lane *lane) {
    struct job *job = lane->first;
    lane->first = job->next;
    if (!lane->first) lane->last = NULL;
    return job;
}

/* Sends back the steps that wait, in order; the one that is being computed stays. */
static void lane_drop(struct compute *c, struct lane *lane, enum corolla_status status, const char *text) {
    struct job *running = lane->running ? lane_pop(lane) : NULL;
    schedule_remove(&c->schedule, &lane->entry);
    while (lane->first) {
        struct job *job = lane_pop(lane);
        job_fail(job, status, text);
        fifo_push(&c->done, job);
    }
    if (running) {
        running->next = NULL;
        lane->first = lane->last = running;
    }
}

/* ---- the turn -------------------------------------------------------------------------------------------------- */

/* Whether the step can be computed; finds what it cannot before anything of it is. The lock is not held. */
static bool step_check(const struct compute *c, struct job *job) {
    char text[sizeof job->text];
    if (job->done > 0) return true;
    job->queue_us = (uint32_t)(clock_us() - job->queued_us);
    if (job->position > job->lane->length) {
        snprintf(text, sizeof text, "a step at position %u, but the session has %u; step from there", job->position, job->lane->length);
        job_fail(job, COROLLA_BAD_POSITION, text);
    } else if (!rows_finite(job->wire, job->rows, (size_t)job->n * c->config.n_embd)) {
        snprintf(text, sizeof text, "hidden states for blocks %u:%u hold a NaN or an infinity; repeat the step, or leave the hop before",
                 job->lane->begin, job->lane->end);
        job_fail(job, COROLLA_FORMAT, text);
    }
    return job->status == COROLLA_OK;
}

static uint8_t *step_rows(const struct compute *c, const struct job *job) {
    return (uint8_t *)job->rows + (size_t)job->done * c->config.n_embd * msg_wire_size(job->wire);
}

/* Leaves in jobs and items those that can run; returns how many. */
static uint32_t turn_prepare(struct compute *c, uint32_t n_picks) {
    float *scratch = c->scratch;
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_picks; i++) {
        struct job *job = c->jobs[i];
        if (!step_check(c, job)) continue;
        uint32_t n_rows = c->picks[i].rows;
        size_t count = (size_t)n_rows * c->config.n_embd;
        float *rows = (float *)(void *)step_rows(c, job);
        if (job->wire != COROLLA_WIRE_F32) {
            convert_to_f32(job->wire, step_rows(c, job), scratch, count);
            rows = scratch;
            scratch += count;
        }
        c->jobs[n] = job;
        c->items[n++] = (struct batch_item){.kv = job->lane->kv, .position = job->position + job->done, .n = n_rows, .in = rows, .out = rows};
    }
    return n;
}

static void item_finish(const struct compute *c, struct job *job, const struct batch_item *item, enum corolla_status status,
                        const struct corolla_error *err) {
    struct lane *lane = job->lane;
    size_t count = (size_t)item->n * c->config.n_embd;
    char text[sizeof job->text];
    lane->length = item->position;
    if (status != COROLLA_OK) {
        job_fail(job, status, err->message);
        return;
    }
    if (job->wire != COROLLA_WIRE_F32) convert_from_f32(job->wire, item->out, step_rows(c, job), count);
    if (!rows_finite(job->wire, step_rows(c, job), count)) {
        lane->length = job->position;
        snprintf(text, sizeof text, "blocks %u:%u gave a number that is not finite%s", lane->begin, lane->end,
                 job->wire == COROLLA_WIRE_F16 ? " or does not fit F16; use the F32 or BF16 wire" : "; use another server");
        job_fail(job, COROLLA_INTERNAL, text);
        return;
    }
    lane->length += item->n;
    job->done += item->n;
}

/* Computes a turn. Of the jobs and lanes it touches what belongs to the compute thread while they are running: not their queues. */
static void turn_run(struct compute *c, uint32_t n_picks, struct measure_turn *out_turn) {
    struct corolla_error err = {0};
    uint32_t n = turn_prepare(c, n_picks);
    if (n == 0) return;
    const struct lane *lane = c->jobs[0]->lane;
    struct measure_turn turn = {.items = n, .blocks = lane->end - lane->begin, .span_blocks = c->config.span_blocks};
    uint64_t start = clock_us();
    enum corolla_status status = c->config.ops.forward(c->config.ops.user, c->items, n, &err);
    turn.us = clock_us() - start;
    for (uint32_t i = 0; i < n; i++) {
        item_finish(c, c->jobs[i], &c->items[i], status, &err);
        c->jobs[i]->compute_us += (uint32_t)turn.us;
        turn.rows += c->items[i].n;
    }
    if (status == COROLLA_OK) *out_turn = turn;
}

/* A turn from the schedule. The lock is held, and let go while it computes. */
static void do_turn(struct compute *c) {
    struct lane *lanes[BATCH_ITEMS_MAX];
    struct measure_turn turn = {0};
    uint32_t n = schedule_turn(&c->schedule, c->picks);
    for (uint32_t i = 0; i < n; i++) {
        lanes[i] = lane_of(c->picks[i].entry);
        lanes[i]->running = true;
        c->jobs[i] = lanes[i]->first;
    }
    pthread_mutex_unlock(&c->lock);
    turn_run(c, n, &turn);
    pthread_mutex_lock(&c->lock);
    measure_add(&c->stats.measure, &turn);
    for (uint32_t i = 0; i < n; i++) {
        struct job *job = lanes[i]->first;
        lanes[i]->running = false;
        bool stale = job->epoch < lanes[i]->epoch;
        if (job->status == COROLLA_OK && job->done < job->n && stale) job_fail(job, COROLLA_STALE, "an older epoch");
        if (job->status != COROLLA_OK || job->done == job->n) fifo_push(&c->done, lane_pop(lanes[i]));
        lane_enlist(c, lanes[i]);
    }
}

/* ---- the thread ------------------------------------------------------------------------------------------------ */

/* An OPEN or a CLOSE. The lock is held, and let go meanwhile. */
static void do_control(struct compute *c) {
    struct job *job = fifo_pop(&c->control);
    struct lane *lane = job->lane;
    struct compute_ops *ops = &c->config.ops;
    struct corolla_error err = {0};
    if (job->kind == JOB_CLOSE) lane_drop(c, lane, COROLLA_CANCELLED, "the session was closed");
    pthread_mutex_unlock(&c->lock);
    if (job->kind == JOB_OPEN) {
        enum corolla_status status = ops->open(ops->user, &lane->kv, lane->begin, lane->end, lane->max_tokens, &err);
        if (status != COROLLA_OK) job_fail(job, status, err.message);
    } else {
        ops->close(ops->user, lane->kv); /* NULL when the OPEN failed */
        lane->kv = NULL;
    }
    uint64_t left = ops->tokens_left(ops->user);
    pthread_mutex_lock(&c->lock);
    c->stats.cache_tokens_left = left;
    fifo_push(&c->done, job);
}

static void wake(struct compute *c) {
    if (c->woken || (!c->done.first && !c->stats.stopped)) return;
    c->woken = true;
    pthread_mutex_unlock(&c->lock);
    c->config.wake(c->config.user);
    pthread_mutex_lock(&c->lock);
}

/* Everything that waits comes back, so that its senders are told. */
static void drain(struct compute *c) {
    static const char text[] = "this server is leaving; go on at another one";
    struct schedule_pick picks[BATCH_ITEMS_MAX];
    for (uint32_t n; (n = schedule_turn(&c->schedule, picks)) > 0;) {
        for (uint32_t i = 0; i < n; i++) lane_drop(c, lane_of(picks[i].entry), COROLLA_DRAINING, text);
    }
    while (c->control.first) {
        if (c->control.first->kind == JOB_CLOSE) {
            do_control(c);
            continue;
        }
        struct job *job = fifo_pop(&c->control);
        job_fail(job, COROLLA_DRAINING, text);
        fifo_push(&c->done, job);
    }
}

static void *compute_main(void *user) {
    struct compute *c = user;
    pthread_mutex_lock(&c->lock);
    while (!c->stop) {
        if (c->control.first)
            do_control(c);
        else if (!schedule_empty(&c->schedule))
            do_turn(c);
        else
            pthread_cond_wait(&c->work, &c->lock);
        wake(c);
    }
    drain(c);
    c->stats.stopped = true;
    c->woken = false; /* the last one must not be missed */
    wake(c);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

enum corolla_status compute_new(struct compute **out_compute, const struct compute_config *config, struct corolla_error *err) {
    size_t bytes;
    struct compute *c = calloc(1, sizeof *c);
    if (!c || !size_mul(sizeof(float) * BATCH_ROWS_MAX, config->n_embd, &bytes) || !(c->scratch = malloc(bytes))) {
        free(c);
        return err_set(err, COROLLA_NOMEM, "out of memory");
    }
    c->config = *config;
    c->stats = (struct compute_stats){.measure = config->measure, .cache_tokens_left = config->ops.tokens_left(config->ops.user)};
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->work, NULL);
    int result = pthread_create(&c->thread, NULL, compute_main, c);
    c->joinable = result == 0;
    if (result != 0) {
        compute_free(c);
        return err_set(err, COROLLA_NOMEM, "cannot start the compute thread: %s", strerror(result));
    }
    *out_compute = c;
    return COROLLA_OK;
}

void compute_free(struct compute *c) {
    if (!c) return;
    if (c->joinable) {
        compute_stop(c);
        pthread_join(c->thread, NULL);
    }
    pthread_cond_destroy(&c->work);
    pthread_mutex_destroy(&c->lock);
    free(c->scratch);
    free(c);
}

/* ---- the queue ------------------------------------------------------------------------------------------------- */

static void submit_control(struct compute *c, struct job *job) {
    pthread_mutex_lock(&c->lock);
    assert(!c->stop);
    fifo_push(&c->control, job);
    pthread_cond_signal(&c->work);
    pthread_mutex_unlock(&c->lock);
}

void compute_open(struct compute *c, struct lane *lane) {
    lane->open = (struct job){.kind = JOB_OPEN, .lane = lane};
    submit_control(c, &lane->open);
}

void compute_close(struct compute *c, struct lane *lane) {
    lane->close = (struct job){.kind = JOB_CLOSE, .lane = lane};
    submit_control(c, &lane->close);
}

void compute_step(struct compute *c, struct job *job) {
    struct lane *lane = job->lane;
    job->queued_us = clock_us();
    pthread_mutex_lock(&c->lock);
    assert(!c->stop);
    if (job->epoch > lane->epoch) {
        lane->epoch = job->epoch;
        lane_drop(c, lane, COROLLA_STALE, "an older epoch");
    }
    job->next = NULL;
    *(lane->last ? &lane->last->next : &lane->first) = job;
    lane->last = job;
    if (!lane->entry.waiting) lane_enlist(c, lane);
    pthread_cond_signal(&c->work);
    pthread_mutex_unlock(&c->lock);
}

struct job *compute_take(struct compute *c, struct compute_stats *out_stats) {
    pthread_mutex_lock(&c->lock);
    struct job *jobs = c->done.first;
    c->done = (struct fifo){0};
    c->woken = false;
    *out_stats = c->stats;
    pthread_mutex_unlock(&c->lock);
    return jobs;
}

void compute_stop(struct compute *c) {
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_signal(&c->work);
    pthread_mutex_unlock(&c->lock);
}

void lane_release(struct compute *c, struct lane *lane) {
    c->config.ops.close(c->config.ops.user, lane->kv);
    lane->kv = NULL;
}
