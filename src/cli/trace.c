/* trace.c - see trace.h. */
#include "cli/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HOPS_MAX 64

enum { NETWORK, HERE, WHOLE, N_REST }; /* behind the columns of the hops */

struct trace {
    struct corolla_session *session;
    double last_ms; /* when the last step was done; 0: there was none */
    size_t n_hops;  /* of the chain, since the first row below */
    size_t n, max;  /* rows */
    float *rows;    /* ms: [max, 2 n_hops + N_REST]: queue and compute of each hop, then the rest */
};

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static size_t columns_of(const struct trace *t) { return 2 * t->n_hops + N_REST; }

struct trace *trace_new(struct corolla_session *session) {
    struct trace *t = calloc(1, sizeof *t);
    if (t) t->session = session;
    return t;
}

void trace_free(struct trace *t) {
    if (t) free(t->rows);
    free(t);
}

/* Room for one more row, of a chain of so many hops; what was of another chain is dropped. */
static float *row_new(struct trace *t, size_t n_hops) {
    if (n_hops != t->n_hops) {
        t->n_hops = n_hops;
        t->n = t->max = 0;
        free(t->rows);
        t->rows = NULL;
    }
    if (t->n == t->max) {
        size_t max = t->max ? 2 * t->max : 256;
        float *rows = realloc(t->rows, max * columns_of(t) * sizeof *rows);
        if (!rows) return NULL;
        t->rows = rows;
        t->max = max;
    }
    return t->rows + t->n++ * columns_of(t);
}

void trace_step(struct trace *t) {
    struct corolla_hop_timing timings[HOPS_MAX];
    uint32_t total_us;
    size_t n = corolla_session_timings(t->session, timings, HOPS_MAX, &total_us);
    double now = now_ms(), passed = now - t->last_ms, total = total_us / 1e3, servers = 0;
    bool first = t->last_ms == 0;
    t->last_ms = now;
    float *row = first || n == 0 || n > HOPS_MAX ? NULL : row_new(t, n);
    if (!row) return;
    for (size_t i = 0; i < n; i++) {
        row[2 * i] = (float)timings[i].queue_us / 1e3f;
        row[2 * i + 1] = (float)timings[i].compute_us / 1e3f;
        servers += (double)row[2 * i] + (double)row[2 * i + 1];
    }
    float *rest = row + 2 * n;
    rest[NETWORK] = (float)(total > servers ? total - servers : 0);
    rest[HERE] = (float)(passed > total ? passed - total : 0);
    rest[WHOLE] = (float)passed;
}

static int compare(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* "median p99" of a column. */
static void print_column(const struct trace *t, size_t column, float *sorted) {
    for (size_t i = 0; i < t->n; i++) sorted[i] = t->rows[i * columns_of(t) + column];
    qsort(sorted, t->n, sizeof *sorted, compare);
    fprintf(stderr, " %9.2f %8.2f", (double)sorted[(t->n - 1) / 2], (double)sorted[(size_t)(0.99 * (double)(t->n - 1) + 0.5)]);
}

static void print_row(const struct trace *t, const char *what, size_t column, size_t n, float *sorted) {
    fprintf(stderr, "%-28s", what);
    for (size_t i = 0; i < n; i++) print_column(t, column + i, sorted);
    fputc('\n', stderr);
}

void trace_print(struct trace *t) {
    static const char *const rest[] = {[NETWORK] = "network, and what is between", [HERE] = "this process", [WHOLE] = "whole"};
    float *sorted = t->n > 0 ? malloc(t->n * sizeof *sorted) : NULL;
    if (!sorted) return;
    fprintf(stderr, "where the time of a token went, in ms, over %zu tokens:\n%-28s %18s %18s\n%-28s %9s %8s %9s %8s\n", t->n, "",
            "waiting", "computing", "", "median", "p99", "median", "p99");
    for (size_t i = 0; i < t->n_hops; i++) {
        char what[32];
        snprintf(what, sizeof what, "hop %zu", i + 1);
        print_row(t, what, 2 * i, 2, sorted);
    }
    for (size_t i = 0; i < N_REST; i++) print_row(t, rest[i], 2 * t->n_hops + i, 1, sorted);
    free(sorted);
}
