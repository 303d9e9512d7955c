/* peers_file.c - see peers_file.h. */
#include "mesh/peers_file.h"

#include "base/dirs.h"
#include "base/err.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOCK_MS 2000 /* how long others may hold the lock */
#define LOCK_STEP_MS 10
#define LOOK_MS 100 /* how often to see whether a writing is done */
#define NEVER UINT64_MAX
#define PATH_SIZE (DIR_PATH_MAX + 32)

/* A writing. The thread has list and result to itself until done. */
struct saving {
    char home[DIR_PATH_MAX];
    struct peer_list before, list; /* what was to be saved; what the file holds then */
    enum corolla_status status;
    atomic_bool done;
};

struct peers_file {
    char home[DIR_PATH_MAX];
    struct peer_list list;
    struct saving *saving; /* under way */
    pthread_t thread;
    uint64_t dirty_ms; /* when the first change was seen that is not written, or NEVER */
    uint64_t next_ms;  /* no writing before */
};

/* ---- the file -------------------------------------------------------------------------------------------------- */

/* The lock under which the file is read and replaced; closing the descriptor gives it back. -1: not to be had. */
static int lock(const char *home, struct corolla_error *err) {
    char path[PATH_SIZE];
    snprintf(path, sizeof(path), "%s/peers.lock", home);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600), reason = errno;
    for (int waited = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0; waited += LOCK_STEP_MS) {
        reason = errno;
        if ((reason == EWOULDBLOCK || reason == EINTR) && waited < LOCK_MS) {
            nanosleep(&(struct timespec){0, LOCK_STEP_MS * 1000000L}, NULL);
            continue;
        }
        close(fd);
        fd = -1;
    }
    if (fd < 0) err_set(err, COROLLA_IO, "cannot lock %s: %s", path, strerror(reason));
    return fd;
}

/* The text of the file, to be freed. NULL: there is none (OK), or it cannot be read, or is not a file of ours (FORMAT). */
static char *read_text(const char *path, size_t *out_size, enum corolla_status *out_status) {
    struct stat st;
    char *text = NULL;
    size_t size = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    *out_status = fd >= 0 || errno == ENOENT ? COROLLA_OK : errno == ELOOP ? COROLLA_FORMAT : COROLLA_IO;
    if (fd < 0) return NULL;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size >= PEER_TEXT_MAX)
        *out_status = COROLLA_FORMAT;
    else if (!(text = malloc(PEER_TEXT_MAX)))
        *out_status = COROLLA_NOMEM;
    for (ssize_t got = 1; text && got > 0 && size<PEER_TEXT_MAX; size += got> 0 ? (size_t)got : 0) {
        got = read(fd, text + size, PEER_TEXT_MAX - size);
        if (got < 0) *out_status = COROLLA_IO;
    }
    close(fd);
    *out_size = size;
    if (*out_status == COROLLA_OK) return text;
    free(text);
    return NULL;
}

/* What the file holds; nothing when it makes no sense, and is then out of the way. Under the lock. */
static enum corolla_status load(const char *home, struct peer_list *out, struct corolla_error *err) {
    char path[PATH_SIZE], aside[PATH_SIZE];
    size_t size = 0;
    enum corolla_status status;
    snprintf(path, sizeof(path), "%s/peers", home);
    char *text = read_text(path, &size, &status);
    if (text && !peer_list_parse(text, size, out)) status = COROLLA_FORMAT;
    if (!text || status != COROLLA_OK) out->n = 0;
    free(text);
    if (status == COROLLA_OK) return status;
    if (status != COROLLA_FORMAT) return err_set(err, status, "cannot read %s: %s", path, corolla_status_message(status));
    snprintf(aside, sizeof(aside), "%s/peers.corrupt", home);
    if (rename(path, aside) != 0) return err_set(err, COROLLA_IO, "cannot move %s aside: %s", path, strerror(errno));
    log_warn("peers_corrupt file=\"%s\" moved_to=\"%s\" hint=\"remembered peers are lost; join once more if no other way in is known\"",
             path, aside);
    return COROLLA_OK;
}

static enum corolla_status write_list(const char *home, const struct peer_list *list, struct corolla_error *err) {
    char path[PATH_SIZE], *text = malloc(PEER_TEXT_MAX);
    if (!text) return err_set(err, COROLLA_NOMEM, "no memory to write the peers");
    snprintf(path, sizeof(path), "%s/peers", home);
    enum corolla_status status = dirs_write_file(path, text, peer_list_format(list, text), 0600, err);
    free(text);
    return status;
}

/* Adds own to the file; *out: what it holds then. */
static enum corolla_status save(const char *home, const struct peer_list *own, struct peer_list *out, struct corolla_error *err) {
    int fd = lock(home, err);
    if (fd < 0) return COROLLA_IO;
    enum corolla_status status = load(home, out, err);
    if (status == COROLLA_OK) peer_list_merge(out, own);
    if (status == COROLLA_OK && peer_list_dirty(out)) status = write_list(home, out, err);
    close(fd);
    if (status == COROLLA_OK) peer_list_saved(out);
    return status;
}

/* ---- the thread ------------------------------------------------------------------------------------------------ */

static void *run(void *user) {
    struct saving *saving = user;
    struct corolla_error err = {0};
    saving->status = save(saving->home, &saving->before, &saving->list, &err);
    if (saving->status != COROLLA_OK) log_warn("peers_unsaved why=\"%s\"", err.message);
    atomic_store(&saving->done, true);
    return NULL;
}

static void begin(struct peers_file *file) {
    struct saving *saving = calloc(1, sizeof(*saving));
    if (!saving) return;
    snprintf(saving->home, sizeof(saving->home), "%s", file->home);
    saving->before = file->list;
    if (pthread_create(&file->thread, NULL, run, saving) != 0) {
        free(saving);
        return;
    }
    file->saving = saving;
    peer_list_saved(&file->list);
}

/* Waits for the thread, and takes over what others have written. */
static void end(struct peers_file *file) {
    struct saving *saving = file->saving;
    pthread_join(file->thread, NULL);
    if (saving->status == COROLLA_OK) {
        peer_list_merge(&saving->list, &file->list);
        file->list = saving->list;
    } else {
        peer_list_unsaved(&file->list, &saving->before);
    }
    file->saving = NULL;
    free(saving);
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

enum corolla_status peers_file_open(struct peers_file **out_file, const char *home, struct corolla_error *err) {
    struct peers_file *file = calloc(1, sizeof(*file));
    struct corolla_error why = {0};
    if (!file) return err_set(err, COROLLA_NOMEM, "no memory for the remembered peers");
    if (snprintf(file->home, sizeof(file->home), "%s", home) >= DIR_PATH_MAX) {
        free(file);
        return err_set(err, COROLLA_INVALID, "the path of the home folder is too long: %.64s...", home);
    }
    file->dirty_ms = NEVER;
    int fd = lock(home, &why);
    if (fd < 0 || load(home, &file->list, &why) != COROLLA_OK) log_warn("peers_unread why=\"%s\"", why.message);
    if (fd >= 0) close(fd);
    *out_file = file;
    return COROLLA_OK;
}

struct peer_list *peers_file_list(struct peers_file *file) {
    return &file->list;
}

uint64_t peers_file_tick(struct peers_file *file, uint64_t now_ms) {
    if (file->saving && !atomic_load(&file->saving->done)) return now_ms + LOOK_MS;
    if (file->saving) end(file);
    if (!peer_list_dirty(&file->list)) {
        file->dirty_ms = NEVER;
        return NEVER;
    }
    if (file->dirty_ms == NEVER) file->dirty_ms = now_ms;
    uint64_t settled_ms = file->dirty_ms + PEERS_SETTLE_MS, due_ms = settled_ms > file->next_ms ? settled_ms : file->next_ms;
    if (now_ms < due_ms) return due_ms;
    file->dirty_ms = NEVER;
    file->next_ms = now_ms + PEERS_SAVE_MS;
    begin(file);
    return now_ms + LOOK_MS;
}

void peers_file_close(struct peers_file *file) {
    if (!file) return;
    if (file->saving) end(file);
    struct saving *last = peer_list_dirty(&file->list) ? calloc(1, sizeof(*last)) : NULL;
    struct corolla_error err = {0};
    if (last && save(file->home, &file->list, &last->list, &err) != COROLLA_OK) log_warn("peers_unsaved why=\"%s\"", err.message);
    free(last);
    free(file);
}
