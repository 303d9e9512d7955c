/* dirs.c - where a user's files live, and writing one as a whole. Any thread; blocking file I/O, so not for the loop. */
#include "base/dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

#define TEMPORARY_NAMES_MAX 100 /* left-over temporary files of dead processes that a write steps over */

/* Makes path and its missing parents; what is there already keeps its mode. */
static enum corolla_status make_dirs(const char *path, struct corolla_error *err) {
    char part[DIR_PATH_MAX];
    size_t length = strlen(path);
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST) {
            return err_set(err, COROLLA_IO, "cannot make the folder %s: %s", part, strerror(errno));
        }
    }
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
        return err_set(err, COROLLA_IO, "%s is not a folder: move it away or choose another place", path);
    }
    return COROLLA_OK;
}

/* Joins and makes the folder, then hands it out. tail may be NULL. */
static enum corolla_status finish(const char *base, const char *middle, const char *tail, char *out, struct corolla_error *err) {
    char path[DIR_PATH_MAX];
    bool has_tail = tail != NULL && tail[0] != '\0';
    int n = snprintf(path, sizeof(path), "%s%s%s%s", base, middle, has_tail ? "/" : "", has_tail ? tail : "");
    if (n < 0 || (size_t)n >= sizeof(path)) {
        return err_set(err, COROLLA_INVALID, "the path of a folder has more than %d bytes: %.64s...", DIR_PATH_MAX - 1, base);
    }
    enum corolla_status status = make_dirs(path, err);
    if (status == COROLLA_OK) {
        memcpy(out, path, (size_t)n + 1);
    }
    return status;
}

static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

/* The user's home folder from the environment, else from the user database. */
static enum corolla_status user_home(char out[DIR_PATH_MAX], const char *instead, struct corolla_error *err) {
    const char *home = variable("HOME");
    struct passwd entry, *found = NULL;
    char buffer[DIR_PATH_MAX];
    if (home == NULL && getpwuid_r(getuid(), &entry, buffer, sizeof(buffer), &found) == 0 && found != NULL) {
        home = found->pw_dir;
    }
    if (home == NULL || home[0] != '/' || strlen(home) >= DIR_PATH_MAX) {
        return err_set(err, COROLLA_NOT_FOUND, "the user has no home folder: set HOME or %s", instead);
    }
    memcpy(out, home, strlen(home) + 1);
    return COROLLA_OK;
}

/* $own, else $xdg/corolla, else ~/fallback/corolla. The XDG specification has relative paths ignored. */
static enum corolla_status choose(const char *own, const char *xdg, const char *fallback, const char *sub, char *out,
                                  struct corolla_error *err) {
    const char *base = variable(own);
    if (base != NULL) {
        return finish(base, "", sub, out, err);
    }
    base = variable(xdg);
    if (base != NULL && base[0] == '/') {
        return finish(base, "/corolla", sub, out, err);
    }
    char home[DIR_PATH_MAX];
    enum corolla_status status = user_home(home, own, err);
    return status == COROLLA_OK ? finish(home, fallback, sub, out, err) : status;
}

enum corolla_status dirs_home(const char *home, char out[DIR_PATH_MAX], struct corolla_error *err) {
    if (home != NULL && home[0] == '\0') {
        return err_set(err, COROLLA_INVALID, "the home folder is an empty path");
    }
    if (home != NULL) {
        return finish(home, "", NULL, out, err);
    }
    return choose("COROLLA_HOME", "XDG_DATA_HOME", "/.local/share/corolla", NULL, out, err);
}

enum corolla_status dirs_cache(const char *sub, char out[DIR_PATH_MAX], struct corolla_error *err) {
    return choose("COROLLA_CACHE", "XDG_CACHE_HOME", "/.cache/corolla", sub, out, err);
}

/* Makes a new file beside path; its name goes to out. -1 and errno when that fails. */
static int open_temporary(const char *path, unsigned mode, char *out, size_t out_size) {
    for (unsigned i = 0; i < TEMPORARY_NAMES_MAX; i++) {
        int n = snprintf(out, out_size, "%s.%ld.%u.tmp", path, (long)getpid(), i);
        if (n < 0 || (size_t)n >= out_size) {
            errno = ENAMETOOLONG;
            return -1;
        }
        int fd = open(out, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, (mode_t)mode);
        if (fd >= 0 || errno != EEXIST) {
            return fd;
        }
    }
    return -1;
}

static bool write_all(int fd, const void *data, size_t size) {
    const char *p = data;
    while (size > 0) {
        ssize_t n = write(fd, p, size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        p += n;
        size -= (size_t)n;
    }
    return true;
}

/* The rename is durable once the folder is on the disk too. A file system that cannot do that is no error. */
static void sync_folder_of(const char *path) {
    char folder[DIR_PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 0 : (size_t)(slash - path);
    memcpy(folder, slash == NULL ? "." : path, slash == NULL ? 1 : length + 1);
    folder[slash == NULL || length == 0 ? 1 : length] = '\0';
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
}

enum corolla_status dirs_write_file(const char *path, const void *data, size_t size, unsigned mode, struct corolla_error *err) {
    char temporary[DIR_PATH_MAX];
    if (strlen(path) >= DIR_PATH_MAX - 32) {
        return err_set(err, COROLLA_INVALID, "the path of a file is too long: %.64s...", path);
    }
    int fd = open_temporary(path, mode, temporary, sizeof(temporary));
    if (fd < 0) {
        return err_set(err, COROLLA_IO, "cannot make a file beside %s: %s", path, strerror(errno));
    }
    /* The mode is set once more because the process' umask was taken off it. */
    bool ok = fchmod(fd, (mode_t)mode) == 0 && write_all(fd, data, size) && fsync(fd) == 0;
    int error = errno;
    if (close(fd) != 0 && ok) {
        ok = false;
        error = errno;
    }
    if (ok && rename(temporary, path) != 0) {
        ok = false;
        error = errno;
    }
    if (!ok) {
        unlink(temporary);
        return err_set(err, COROLLA_IO, "cannot write %s: %s", path, strerror(error));
    }
    sync_folder_of(path);
    return COROLLA_OK;
}

/* Reads up to max bytes; -1 and errno when that fails. */
static ssize_t read_all(int fd, char *out, size_t max) {
    size_t size = 0;
    while (size < max) {
        ssize_t n = read(fd, out + size, max - size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        if (n == 0) {
            break;
        }
        size += (size_t)n;
    }
    return (ssize_t)size;
}

enum corolla_status dirs_read_file(const char *path, bool secret, void *out, size_t max, size_t *out_size, struct corolla_error *err) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        return err_set(err, errno == ENOENT ? COROLLA_NOT_FOUND : COROLLA_IO, "cannot open %s: %s", path, strerror(errno));
    }
    enum corolla_status status = COROLLA_OK;
    ssize_t got = 0;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        status = err_set(err, COROLLA_IO, "%s is not a regular file", path);
    } else if (secret && st.st_uid != geteuid()) {
        status = err_set(err, COROLLA_REFUSED, "%s belongs to another user; a key must be its owner's alone", path);
    } else if (secret && (st.st_mode & 077) != 0) {
        status = err_set(err, COROLLA_REFUSED, "%s can be read by others (mode %04o): chmod 600 it, or remove it to make a new key", path,
                         (unsigned)(st.st_mode & 07777));
    } else if (st.st_size > (off_t)max) {
        status = err_set(err, COROLLA_FORMAT, "%s has %lld bytes: not a file of corolla", path, (long long)st.st_size);
    } else if ((got = read_all(fd, out, max)) < 0) {
        status = err_set(err, COROLLA_IO, "cannot read %s: %s", path, strerror(errno));
    }
    close(fd);
    if (status == COROLLA_OK) {
        *out_size = (size_t)got;
    }
    return status;
}
