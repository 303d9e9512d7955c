/* status_line.c - see status_line.h. */
#include "cli/status_line.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define CLEAR "\r\033[K"
#define TEXT_MAX_BYTES 200

struct status_line {
    const struct corolla_server *server;
    enum corolla_log_level level;
    pthread_t thread;
    pthread_mutex_t lock; /* of the terminal, and of what follows */
    pthread_cond_t over;
    bool stop;
    char text[TEXT_MAX_BYTES];
};

static double per_second(uint64_t before, uint64_t now, double seconds) { return (double)(now - before) / seconds; }

static uint64_t count_of(const struct corolla_histogram *h) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < COROLLA_HISTOGRAM_SIZE; i++) n += h->counts[i];
    return n;
}

void status_line_text(const struct corolla_server_stats *before, const struct corolla_server_stats *now, double seconds, char *out,
                      size_t size) {
    uint64_t turns = count_of(&now->turn_sessions) - count_of(&before->turn_sessions);
    double batch = turns > 0 ? (double)(now->turn_sessions.sum - before->turn_sessions.sum) / (double)turns : 0;
    double used = now->cache_tokens > 0 ? 1 - (double)now->cache_tokens_left / (double)now->cache_tokens : 0;
    snprintf(out, size, "%u sessions, %u clients: decode %.1f, prefill %.0f tok/s, batch %.1f, queue %u, KV %.0f %%", now->sessions,
             now->clients, per_second(before->decode_rows, now->decode_rows, seconds),
             per_second(before->prefill_rows, now->prefill_rows, seconds), batch, now->steps, 100 * used);
}

/* Cut to the terminal's width: what wraps cannot be cleared. The lock is held. */
static void draw(const struct status_line *line) {
    struct winsize window = {.ws_col = 80};
    ioctl(STDERR_FILENO, TIOCGWINSZ, &window);
    fprintf(stderr, CLEAR "%.*s", window.ws_col > 1 ? window.ws_col - 1 : 79, line->text);
}

static void on_log(void *user, enum corolla_log_level level, const char *text) {
    static const char *const names[] = {"error", "warn", "info", "debug"};
    status_line_say(user, "%s %s", names[level], text);
}

void status_line_say(struct status_line *line, const char *format, ...) {
    va_list arguments;
    if (line) pthread_mutex_lock(&line->lock);
    if (line) fputs(CLEAR, stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    if (line) draw(line);
    if (line) pthread_mutex_unlock(&line->lock);
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* False: it is over. The lock is held. */
static bool wait_a_second(struct status_line *line) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec++;
    while (!line->stop && pthread_cond_timedwait(&line->over, &line->lock, &until) == 0) {
    }
    return !line->stop;
}

static void *line_main(void *user) {
    struct status_line *line = user;
    struct corolla_server_stats before, now;
    double before_s = now_s();
    corolla_server_stats(line->server, &before);
    pthread_mutex_lock(&line->lock);
    while (wait_a_second(line)) {
        pthread_mutex_unlock(&line->lock); /* who answers may log */
        corolla_server_stats(line->server, &now);
        pthread_mutex_lock(&line->lock);
        double at_s = now_s();
        status_line_text(&before, &now, at_s - before_s, line->text, sizeof line->text);
        draw(line);
        before = now;
        before_s = at_s;
    }
    pthread_mutex_unlock(&line->lock);
    return NULL;
}

struct status_line *status_line_start(const struct corolla_server *server, enum corolla_log_level level) {
    struct status_line *line = isatty(STDERR_FILENO) ? calloc(1, sizeof *line) : NULL;
    if (!line) return NULL;
    line->server = server;
    line->level = level;
    pthread_mutex_init(&line->lock, NULL);
    pthread_cond_init(&line->over, NULL);
    if (pthread_create(&line->thread, NULL, line_main, line)) {
        free(line);
        return NULL;
    }
    corolla_log_set(level, on_log, line);
    return line;
}

void status_line_stop(struct status_line *line) {
    if (!line) return;
    pthread_mutex_lock(&line->lock);
    line->stop = true;
    pthread_cond_signal(&line->over);
    pthread_mutex_unlock(&line->lock);
    pthread_join(line->thread, NULL);
    corolla_log_set(line->level, NULL, NULL);
    fputs(CLEAR, stderr);
    pthread_mutex_destroy(&line->lock);
    pthread_cond_destroy(&line->over);
    free(line);
}
