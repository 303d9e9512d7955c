/* serve.c - see serve.h. */
#include "support/serve.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include <cmocka.h>
#include <corolla.h>

#include "base/clock.h"
#include "wire/join.h"

#define DEADLINE_US 60000000 /* against hangs */

/* ---- processes ------------------------------------------------------------------------------------------------- */

void serve_init(struct serve *s, const char *home, const char *model, uint32_t begin, uint32_t end) {
    *s = (struct serve){.begin = begin, .end = end};
    snprintf(s->home, sizeof s->home, "%s", home);
    snprintf(s->model, sizeof s->model, "%s", model);
    struct corolla_error err;
    if (corolla_key_show(s->home, s->key, &err) != COROLLA_OK) fail_msg("%s", err.message);
}

static void log_path(const struct serve *s, char out[300]) { snprintf(out, 300, "%s/log", s->home); }

/* In the child. */
static void run(struct serve *s, int said, int log) {
    char blocks[32];
    snprintf(blocks, sizeof blocks, "%u:%u", s->begin, s->end);
    const char *args[] = {getenv("COROLLA_BIN"),
                          "serve",
                          s->model,
                          "--blocks",
                          blocks,
                          "--listen",
                          s->listen,
                          "--threads",
                          "1",
                          "--no-lan",
                          "--log-level",
                          "debug",
                          s->join == NULL ? NULL : "--join",
                          s->join,
                          NULL};
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    setenv("COROLLA_HOME", s->home, 1);
    dup2(said, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    if (args[0] != NULL) execv(args[0], (char *const *)(uintptr_t)args);
    _exit(127);
}

void serve_start(struct serve *s) {
    int said[2];
    char path[300];
    log_path(s, path);
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(log >= 0);
    assert_int_equal(pipe2(said, O_CLOEXEC), 0);
    if (s->listen[0] == '\0') snprintf(s->listen, sizeof s->listen, "127.0.0.1:0");
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0) run(s, said[1], log);
    close(said[1]);
    close(log);
    s->said = fdopen(said[0], "r");
    assert_non_null(s->said);
}

void serve_wait_ready(struct serve *s) {
    char line[1100];
    struct node_ref node;
    if (s->said == NULL) return;
    while (fgets(line, sizeof line, s->said) != NULL && strncmp(line, "ready", 5) != 0) sscanf(line, "join %1023s", s->code);
    if (feof(s->said) || join_decode(s->code, &node, NULL) != COROLLA_OK)
        fail_msg("the server of blocks %u:%u did not start: see %s/log", s->begin, s->end, s->home);
    snprintf(s->listen, sizeof s->listen, "%.60s", node.addrs[0]);
    fclose(s->said);
    s->said = NULL;
}

void serve_signal(const struct serve *s, int number) {
    assert_true(s->pid > 0);
    assert_int_equal(kill(s->pid, number), 0);
}

static int reap(struct serve *s) {
    int status = 0;
    assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
    s->pid = 0;
    if (s->said != NULL) fclose(s->said);
    s->said = NULL;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void serve_kill(struct serve *s) {
    if (s->pid <= 0) return;
    serve_signal(s, SIGKILL);
    reap(s);
}

int serve_wait_end(struct serve *s) { return reap(s); }

/* ---- what it computed ------------------------------------------------------------------------------------------ */

void serve_skip_log(struct serve *s) {
    char path[300];
    log_path(s, path);
    FILE *log = fopen(path, "r");
    assert_non_null(log);
    assert_int_equal(fseek(log, 0, SEEK_END), 0);
    s->log_at = ftell(log);
    fclose(log);
}

static int read_rows(struct serve *s, unsigned long long *out) {
    char path[300], line[2048];
    int found = 0;
    log_path(s, path);
    FILE *log = fopen(path, "r");
    assert_non_null(log);
    assert_int_equal(fseek(log, s->log_at, SEEK_SET), 0);
    while (!found && fgets(line, sizeof line, log) != NULL && strchr(line, '\n') != NULL) {
        found = sscanf(line, "debug session_end rows=%llu", out) == 1;
        s->log_at = ftell(log);
    }
    fclose(log);
    return found;
}

uint64_t serve_rows(struct serve *s) {
    unsigned long long rows = 0;
    for (uint64_t deadline_us = clock_us() + DEADLINE_US; !read_rows(s, &rows); usleep(1000))
        if (clock_us() > deadline_us) fail_msg("the session did not end at the server of blocks %u:%u", s->begin, s->end);
    return rows;
}
