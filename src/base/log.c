/* log.c - the one log sink of the process.
 *
 * Threads: any. The lock is held while the sink runs, so lines do not mix and a sink that was replaced is not called any more
 * once corolla_log_set() has returned. What a sink itself logs is dropped. Not done: rotation, time stamps (the service
 * manager adds them).
 */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/utf8.h"

#define LINE_MAX_BYTES 1024 /* longer lines are cut: peers may put text in */

static void write_to_stderr(void *user, enum corolla_log_level level, const char *line) {
    static const char *const names[] = {"error", "warn", "info", "debug"};
    (void)user;
    fprintf(stderr, "%s %s\n", names[level], line);
}

static struct {
    pthread_mutex_t lock;
    atomic_int level;
    void (*sink)(void *user, enum corolla_log_level level, const char *line);
    void *user;
} the_log = {.lock = PTHREAD_MUTEX_INITIALIZER, .level = COROLLA_LOG_WARN, .sink = write_to_stderr};

static _Thread_local bool inside_sink;

void corolla_log_set(enum corolla_log_level level, void (*sink)(void *user, enum corolla_log_level level, const char *line), void *user) {
    pthread_mutex_lock(&the_log.lock);
    atomic_store_explicit(&the_log.level, (int)level, memory_order_relaxed);
    the_log.sink = sink != NULL ? sink : write_to_stderr;
    the_log.user = user;
    pthread_mutex_unlock(&the_log.lock);
}

bool log_enabled(enum corolla_log_level level) { return (int)level <= atomic_load_explicit(&the_log.level, memory_order_relaxed); }

void log_write(enum corolla_log_level level, const char *format, ...) {
    if (!log_enabled(level) || inside_sink) {
        return;
    }
    char line[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (n < 0) {
        return;
    }
    utf8_clean(line);
    pthread_mutex_lock(&the_log.lock);
    inside_sink = true;
    the_log.sink(the_log.user, level, line);
    inside_sink = false;
    pthread_mutex_unlock(&the_log.lock);
}
