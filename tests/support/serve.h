/* serve.h - `corolla serve` as processes that a test can kill, stop and start again. COROLLA_BIN names the program.
 *
 * Each has a home of its own, and so a key, and a log of debug level there; one compute thread; loopback without a LAN. None outlives the
 * test. Functions end the test with a message when something fails.
 */
#ifndef COROLLA_TESTS_SERVE_H
#define COROLLA_TESTS_SERVE_H

#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct serve {
    pid_t pid; /* 0: it does not run */
    char home[256], model[256];
    uint32_t begin, end;
    const char *join; /* the code of another server; NULL: none */
    char code[1024], key[65];
    char listen[64]; /* where it listened the last time, and will again; empty: anywhere */
    FILE *said;
    long log_at; /* how far its log was read */
};

/* A server with the blocks [begin, end), not started. */
void serve_init(struct serve *s, const char *home, const char *model, uint32_t begin, uint32_t end);
/* Several may be on their way at once. */
void serve_start(struct serve *s);
/* Does nothing when it was ready. */
void serve_wait_ready(struct serve *s);
void serve_signal(const struct serve *s, int number);
/* SIGKILL; the process is gone when this returns. Does nothing when it does not run. */
void serve_kill(struct serve *s);
/* Waits until it ends by itself; its exit code. */
int serve_wait_end(struct serve *s);
/* Rows that it computed for the next session whose end was not read yet. Waits for that end. */
uint64_t serve_rows(struct serve *s);
/* What its log says so far is not read. */
void serve_skip_log(struct serve *s);

#endif
