/* row_log.c - see row_log.h. */
#include "base/row_log.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_ROWS 64

struct row_log {
    pthread_mutex_t lock;
    size_t row_size;
    uint32_t max_rows, length;
    uint8_t *pages[]; /* NULL: not there yet */
};

static size_t n_pages(uint32_t rows) { return ((size_t)rows + PAGE_ROWS - 1) / PAGE_ROWS; }

struct row_log *row_log_new(uint32_t max_rows, size_t row_size) {
    struct row_log *log = calloc(1, sizeof *log + n_pages(max_rows) * sizeof(uint8_t *));
    if (log == NULL) return NULL;
    pthread_mutex_init(&log->lock, NULL);
    log->row_size = row_size;
    log->max_rows = max_rows;
    return log;
}

void row_log_free(struct row_log *log) {
    if (log == NULL) return;
    for (size_t i = 0; i < n_pages(log->max_rows); i++) free(log->pages[i]);
    pthread_mutex_destroy(&log->lock);
    free(log);
}

/* The rows from position on that stand in one page; at most n. */
static uint32_t run_of(uint32_t position, uint32_t n) {
    uint32_t left = PAGE_ROWS - position % PAGE_ROWS;
    return n < left ? n : left;
}

/* NULL: no memory. */
static uint8_t *row_at(struct row_log *log, uint32_t position) {
    uint8_t **page = &log->pages[position / PAGE_ROWS];
    if (*page == NULL) *page = malloc(PAGE_ROWS * log->row_size);
    return *page == NULL ? NULL : *page + position % PAGE_ROWS * log->row_size;
}

bool row_log_put(struct row_log *log, uint32_t position, uint32_t n, const void *rows) {
    const uint8_t *from = rows;
    pthread_mutex_lock(&log->lock);
    bool ok = position <= log->length && position <= log->max_rows && n <= log->max_rows - position;
    if (position < log->length) log->length = position;
    for (uint32_t done = 0, run; ok && done < n; done += run) {
        run = run_of(position + done, n - done);
        uint8_t *to = row_at(log, position + done);
        ok = to != NULL;
        if (!ok) break;
        memcpy(to, from + done * log->row_size, run * log->row_size);
        log->length = position + done + run;
    }
    if (!ok && log->length > position) log->length = position;
    pthread_mutex_unlock(&log->lock);
    return ok;
}

bool row_log_get(struct row_log *log, uint32_t position, uint32_t n, void *out_rows) {
    uint8_t *out = out_rows;
    pthread_mutex_lock(&log->lock);
    bool ok = position <= log->length && n <= log->length - position;
    for (uint32_t done = 0, run; ok && done < n; done += run) {
        run = run_of(position + done, n - done);
        memcpy(out + done * log->row_size, row_at(log, position + done), run * log->row_size);
    }
    pthread_mutex_unlock(&log->lock);
    return ok;
}

bool row_log_copy(struct row_log *to, struct row_log *from, uint32_t begin, uint32_t end) {
    uint32_t length = row_log_length(from), run;
    void *rows = malloc(PAGE_ROWS * from->row_size);
    if (end > length) end = length;
    bool ok = rows != NULL && to->row_size == from->row_size && row_log_put(to, begin, 0, NULL);
    for (uint32_t at = begin; ok && at < end; at += run) {
        run = run_of(at, end - at);
        ok = row_log_get(from, at, run, rows) && row_log_put(to, at, run, rows);
    }
    free(rows);
    return ok;
}

void row_log_clear(struct row_log *log) {
    pthread_mutex_lock(&log->lock);
    for (size_t i = 0; i < n_pages(log->max_rows); i++) {
        free(log->pages[i]);
        log->pages[i] = NULL;
    }
    log->length = 0;
    pthread_mutex_unlock(&log->lock);
}

size_t row_log_row_size(const struct row_log *log) { return log->row_size; }

uint32_t row_log_length(struct row_log *log) {
    pthread_mutex_lock(&log->lock);
    uint32_t length = log->length;
    pthread_mutex_unlock(&log->lock);
    return length;
}
