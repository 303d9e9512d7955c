/* members.h - the files of a private swarm in a home, and the lock under which they change.
 *
 *   HOME/swarm.pem   the private key of the swarm (crypto/keyfile.h): who has it issues certificates
 *   HOME/membership  the certificate of this home, in hex
 *   HOME/members     what this home issued: a line "KEY ROLE SERIAL UNTIL" for each certificate
 *   HOME/revoked     the list of revocations, signed, as it travels
 *   HOME/entry       join code of the server that ran last in this home: what invitations name
 *
 * Processes of one home share these files: whoever changes members or revoked holds the lock, reads, changes and writes whole files.
 * Blocking, and quick: the files are small and change by hand or when a member comes or goes, so the loop may call this too. Any thread.
 */
#ifndef COROLLA_MESH_MEMBERS_H
#define COROLLA_MESH_MEMBERS_H

#include "base/dirs.h"
#include "swarm/member.h"

#define MEMBERS_MAX 4096

struct member {
    uint8_t key[KEY_SIZE], serial[SERIAL_SIZE];
    enum corolla_role role;
    uint64_t not_after_s;
};
struct members {
    size_t n;
    struct member list[MEMBERS_MAX]; /* the newest last */
};

/* "HOME/name"; out has DIR_PATH_MAX bytes. INVALID when it does not fit. */
enum corolla_status members_path(const char *home, const char *name, char out[DIR_PATH_MAX], struct corolla_error *err);

/* The lock of the home, which closing *out_fd gives back. BUSY when another process holds it for a second. */
enum corolla_status members_lock(const char *home, int *out_fd, struct corolla_error *err);

/* A missing file is an empty list. FORMAT names the line that is wrong. */
enum corolla_status members_read(const char *home, struct members *out, struct corolla_error *err);
enum corolla_status members_write(const char *home, const struct members *members, struct corolla_error *err);
/* NULL: there is none. Of a key the newest; its certificate may have ended. */
const struct member *members_find_key(const struct members *members, const uint8_t key[KEY_SIZE]);
const struct member *members_find_serial(const struct members *members, const uint8_t serial[SERIAL_SIZE]);
/* BUSY when the list is full. */
enum corolla_status members_add(struct members *members, const struct member *member, struct corolla_error *err);

/* The list of revocations and its signed bytes (REVOCATIONS_BYTES_MAX). A missing file: number 0. FORMAT when the swarm did not sign it. */
enum corolla_status revoked_read(const char *home, const uint8_t swarm[KEY_SIZE], struct revocations *out, uint8_t *out_bytes,
                                 size_t *out_size, struct corolla_error *err);
enum corolla_status revoked_write(const char *home, const uint8_t *bytes, size_t size, struct corolla_error *err);

/* Of the home: NOT_FOUND when it is of no private swarm. */
enum corolla_status certificate_read(const char *home, struct signed_bytes *out, struct corolla_error *err);
enum corolla_status certificate_write(const char *home, const struct signed_bytes *certificate, struct corolla_error *err);

#endif
