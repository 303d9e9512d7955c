/* spool.c - see spool.h. */
#include "node/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/dirs.h"
#include "base/err.h"

#define ROWS 64 /* of the log at a time */

struct stream {
    int fd;
    uint64_t at;
};

int spool_open(const char *home, struct corolla_error *err) {
    char folder[DIR_PATH_MAX], path[DIR_PATH_MAX + 16];
    if (dirs_home(home, folder, err) != COROLLA_OK) return -1;
    snprintf(path, sizeof path, "%s/swap-XXXXXX", folder);
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        err_set(err, COROLLA_IO, "cannot make a file for idle sessions in %s: %s", folder, strerror(errno));
    else
        unlink(path);
    return fd;
}

uint64_t spool_bytes(const struct lane *lane) {
    return kv_saved_bytes(lane->kv, lane->length) + (lane->kept ? lane->length * row_log_row_size(lane->kept) : 0);
}

static bool pass(struct stream *s, uint8_t *bytes, size_t size, bool back) {
    for (size_t done = 0; done < size;) {
        off_t at = (off_t)(s->at + done);
        ssize_t n = back ? pread(s->fd, bytes + done, size - done, at) : pwrite(s->fd, bytes + done, size - done, at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        done += (size_t)n;
    }
    s->at += size;
    return true;
}

static bool put(void *user, void *bytes, size_t size) { return pass(user, bytes, size, false); }
static bool get(void *user, void *bytes, size_t size) { return pass(user, bytes, size, true); }

/* The first n rows of a log, to the stream or from it. */
static bool pass_rows(struct row_log *log, uint32_t n, struct stream *s, bool back) {
    size_t row = row_log_row_size(log);
    uint8_t *rows = malloc(ROWS * row);
    bool good = rows != NULL;
    for (uint32_t at = 0, run; at < n && good; at += run) {
        run = n - at < ROWS ? n - at : ROWS;
        good =
            back ? get(s, rows, run * row) && row_log_put(log, at, run, rows) : row_log_get(log, at, run, rows) && put(s, rows, run * row);
    }
    free(rows);
    return good;
}

void spool_out(int spool, struct step *step) {
    struct lane *lane = step->lane;
    struct stream s = {spool, step->spool_at};
    if (kv_save(lane->kv, lane->length, put, &s, &step->error) != COROLLA_OK) return;
    if (lane->kept && !pass_rows(lane->kept, lane->length, &s, false)) {
        err_set(&step->error, COROLLA_IO, "rows of a session could not be written");
        return;
    }
    kv_close(lane->kv);
    lane->kv = NULL;
    if (lane->kept) row_log_clear(lane->kept);
}

void spool_in(int spool, struct step *step) {
    struct lane *lane = step->lane;
    struct stream s = {spool, step->spool_at};
    enum corolla_status status = kv_restore(step->kv, lane->length, get, &s, &step->error);
    if (status == COROLLA_OK && lane->kept && !pass_rows(lane->kept, lane->length, &s, true))
        status = err_set(&step->error, COROLLA_IO, "rows of a session could not be read back");
    if (status != COROLLA_OK) {
        lane->length = 0;
        return;
    }
    lane->kv = step->kv;
    step->kv = NULL;
}
