/* members.c - see members.h. */
#include "mesh/members.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

#define LOCK_TRIES 100    /* of 10 ms */
#define LINE_MAX_SIZE 140 /* 64 + 6 + 32 + 20 digits, blanks, newline, NUL */

enum corolla_status members_path(const char *home, const char *name, char out[DIR_PATH_MAX], struct corolla_error *err) {
    int n = snprintf(out, DIR_PATH_MAX, "%s/%s", home, name);
    return n > 0 && n < DIR_PATH_MAX ? COROLLA_OK : err_set(err, COROLLA_INVALID, "the path of the home folder is too long");
}

enum corolla_status members_lock(const char *home, int *out_fd, struct corolla_error *err) {
    char path[DIR_PATH_MAX];
    enum corolla_status status = members_path(home, "members.lock", path, err);
    if (status != COROLLA_OK) return status;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return err_set(err, COROLLA_IO, "cannot open %s: %s", path, strerror(errno));
    for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; i++) {
        int reason = errno;
        if ((reason != EWOULDBLOCK && reason != EINTR) || i == LOCK_TRIES) {
            close(fd);
            return err_set(err, COROLLA_BUSY, "cannot lock %s: %s", path, strerror(reason));
        }
        nanosleep(&(struct timespec){0, 10 * 1000 * 1000}, NULL);
    }
    *out_fd = fd;
    return COROLLA_OK;
}

/* ---- members --------------------------------------------------------------------------------------------------- */

static bool parse_line(const char *line, struct member *out) {
    char key[2 * KEY_SIZE + 1], role[8], serial[2 * SERIAL_SIZE + 1];
    int end = 0;
    _Static_assert(KEY_SIZE == 32 && SERIAL_SIZE == 16, "the widths below");
    if (sscanf(line, "%64s %7s %32s %" SCNu64 "%n", key, role, serial, &out->not_after_s, &end) != 4 || line[end] != '\0') return false;
    out->role = strcmp(role, "server") == 0 ? COROLLA_ROLE_SERVER : COROLLA_ROLE_CLIENT;
    return (out->role == COROLLA_ROLE_SERVER || strcmp(role, "client") == 0) && strlen(key) == 2 * KEY_SIZE &&
           strlen(serial) == 2 * SERIAL_SIZE && hex_decode(key, out->key, KEY_SIZE) && hex_decode(serial, out->serial, SERIAL_SIZE);
}

static enum corolla_status parse(char *text, const char *path, struct members *out, struct corolla_error *err) {
    char *rest = NULL;
    out->n = 0;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (out->n == MEMBERS_MAX) return err_set(err, COROLLA_FORMAT, "%s has more than %d lines", path, MEMBERS_MAX);
        if (!parse_line(line, &out->list[out->n]))
            return err_set(err, COROLLA_FORMAT, "%s is damaged in line %zu: restore it", path, out->n + 1);
        out->n++;
    }
    return COROLLA_OK;
}

enum corolla_status members_read(const char *home, struct members *out, struct corolla_error *err) {
    char path[DIR_PATH_MAX];
    size_t size = 0, max = (size_t)MEMBERS_MAX * LINE_MAX_SIZE;
    enum corolla_status status = members_path(home, "members", path, err);
    if (status != COROLLA_OK) return status;
    char *text = malloc(max + 1);
    if (!text) return err_set(err, COROLLA_NOMEM, "no memory for the list of members");
    status = dirs_read_file(path, false, text, max, &size, err);
    if (status == COROLLA_OK) {
        text[size] = '\0';
        status = parse(text, path, out, err);
    } else if (status == COROLLA_NOT_FOUND) {
        out->n = 0;
        status = COROLLA_OK;
    }
    free(text);
    return status;
}

enum corolla_status members_write(const char *home, const struct members *members, struct corolla_error *err) {
    char path[DIR_PATH_MAX];
    size_t size = 0;
    enum corolla_status status = members_path(home, "members", path, err);
    if (status != COROLLA_OK) return status;
    char *text = malloc((members->n + 1) * LINE_MAX_SIZE);
    if (!text) return err_set(err, COROLLA_NOMEM, "no memory for the list of members");
    for (size_t i = 0; i < members->n; i++) {
        const struct member *m = &members->list[i];
        char key[2 * KEY_SIZE + 1], serial[2 * SERIAL_SIZE + 1];
        hex_encode(m->key, KEY_SIZE, key);
        hex_encode(m->serial, SERIAL_SIZE, serial);
        int n = snprintf(text + size, LINE_MAX_SIZE, "%s %s %s %" PRIu64 "\n", key, m->role == COROLLA_ROLE_SERVER ? "server" : "client",
                         serial, m->not_after_s);
        size += (size_t)n;
    }
    status = dirs_write_file(path, text, size, 0600, err);
    free(text);
    return status;
}

const struct member *members_find_key(const struct members *members, const uint8_t key[KEY_SIZE]) {
    for (size_t i = members->n; i-- > 0;)
        if (memcmp(members->list[i].key, key, KEY_SIZE) == 0) return &members->list[i];
    return NULL;
}

const struct member *members_find_serial(const struct members *members, const uint8_t serial[SERIAL_SIZE]) {
    for (size_t i = 0; i < members->n; i++)
        if (memcmp(members->list[i].serial, serial, SERIAL_SIZE) == 0) return &members->list[i];
    return NULL;
}

enum corolla_status members_add(struct members *members, const struct member *member, struct corolla_error *err) {
    if (members->n == MEMBERS_MAX)
        return err_set(err, COROLLA_BUSY, "the swarm has %d members, and there is no room for more", MEMBERS_MAX);
    members->list[members->n++] = *member;
    return COROLLA_OK;
}

/* ---- revocations, the own certificate -------------------------------------------------------------------------- */

enum corolla_status revoked_read(const char *home, const uint8_t swarm[KEY_SIZE], struct revocations *out, uint8_t *out_bytes,
                                 size_t *out_size, struct corolla_error *err) {
    char path[DIR_PATH_MAX];
    enum corolla_status status = members_path(home, "revoked", path, err);
    if (status == COROLLA_OK) status = dirs_read_file(path, false, out_bytes, REVOCATIONS_BYTES_MAX, out_size, err);
    if (status == COROLLA_NOT_FOUND) {
        out->number = 0;
        out->n = 0;
        *out_size = 0;
        return COROLLA_OK;
    }
    if (status != COROLLA_OK) return status;
    if (member_check_revocations(swarm, out_bytes, *out_size, out, NULL) == COROLLA_OK) return COROLLA_OK;
    return err_set(err, COROLLA_FORMAT, "%s is damaged, or of another swarm: remove it, members will send the list again", path);
}

enum corolla_status revoked_write(const char *home, const uint8_t *bytes, size_t size, struct corolla_error *err) {
    char path[DIR_PATH_MAX];
    enum corolla_status status = members_path(home, "revoked", path, err);
    return status == COROLLA_OK ? dirs_write_file(path, bytes, size, 0600, err) : status;
}

enum corolla_status certificate_read(const char *home, struct signed_bytes *out, struct corolla_error *err) {
    char path[DIR_PATH_MAX], hex[2 * SIGNED_MAX + 2];
    size_t size = 0;
    enum corolla_status status = members_path(home, "membership", path, err);
    if (status == COROLLA_OK) status = dirs_read_file(path, false, hex, sizeof(hex) - 1, &size, err);
    if (status != COROLLA_OK) return status;
    while (size > 0 && hex[size - 1] == '\n') size--;
    hex[size] = '\0';
    if (size % 2 != 0 || size > 2 * SIGNED_MAX || !hex_decode(hex, out->data, size / 2))
        return err_set(err, COROLLA_FORMAT, "%s is damaged: remove it and join again", path);
    out->size = (uint32_t)(size / 2);
    return COROLLA_OK;
}

enum corolla_status certificate_write(const char *home, const struct signed_bytes *certificate, struct corolla_error *err) {
    char path[DIR_PATH_MAX], hex[2 * SIGNED_MAX + 2];
    enum corolla_status status = members_path(home, "membership", path, err);
    if (status != COROLLA_OK) return status;
    hex_encode(certificate->data, certificate->size, hex);
    hex[2 * certificate->size] = '\n';
    return dirs_write_file(path, hex, 2 * (size_t)certificate->size + 1, 0600, err);
}
