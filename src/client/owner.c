/* owner.c - the public functions on private swarms: what their owner does to the files of a home (mesh/members.h). Running servers of
 * the home see it by themselves. Blocking; any thread. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "crypto/keyfile.h"
#include "crypto/rand.h"
#include "mesh/members.h"
#include "wire/join.h"

#define DIGITS_MIN 8 /* of a node that is named by its beginning */

_Static_assert(COROLLA_JOIN_CODE_SIZE == JOIN_CODE_MAX, "a code fits what the caller has");

/* ---- the key --------------------------------------------------------------------------------------------------- */

static enum corolla_status key_path(const struct corolla_owner *owner, char home[DIR_PATH_MAX], char path[DIR_PATH_MAX],
                                    struct corolla_error *err) {
    enum corolla_status status = dirs_home(owner->home, home, err);
    if (status != COROLLA_OK) return status;
    if (!owner->swarm_key) return members_path(home, "swarm.pem", path, err);
    if (strlen(owner->swarm_key) >= DIR_PATH_MAX) return err_set(err, COROLLA_INVALID, "the path of the swarm's key is too long");
    memcpy(path, owner->swarm_key, strlen(owner->swarm_key) + 1);
    return COROLLA_OK;
}

static enum corolla_status key_open(const struct corolla_owner *owner, char home[DIR_PATH_MAX], void **out_key, struct corolla_error *err) {
    char path[DIR_PATH_MAX];
    enum corolla_status status = key_path(owner, home, path, err);
    if (status == COROLLA_OK) status = keyfile_open(path, out_key, err);
    if (status != COROLLA_NOT_FOUND) return status;
    return err_set(err, status, "there is no key of a swarm in %s: make one with \"corolla key new-swarm\"", path);
}

enum corolla_status corolla_key_new_swarm(const struct corolla_owner *owner, char out_hex[65], struct corolla_error *err) {
    char home[DIR_PATH_MAX], path[DIR_PATH_MAX];
    uint8_t public[KEY_SIZE];
    void *key = NULL;
    enum corolla_status status = key_path(owner, home, path, err);
    if (status != COROLLA_OK) return status;
    if (access(path, F_OK) == 0) return err_set(err, COROLLA_REFUSED, "%s exists: move it away to make another swarm", path);
    status = keyfile_make(path, &key, err);
    if (status != COROLLA_OK) return status;
    bool ok = keyfile_public(key, public);
    keyfile_free(key);
    if (!ok) return err_set(err, COROLLA_INTERNAL, "cannot read the new key");
    hex_encode(public, KEY_SIZE, out_hex);
    return COROLLA_OK;
}

/* ---- inviting -------------------------------------------------------------------------------------------------- */

/* The node that is to take the invitation. */
static enum corolla_status find_entry(const char *home, const char *named, struct join_code *out, struct corolla_error *err) {
    char path[DIR_PATH_MAX], text[JOIN_CODE_MAX];
    size_t size = 0;
    if (named) return join_code_decode(named, out, err);
    enum corolla_status status = members_path(home, "entry", path, err);
    if (status == COROLLA_OK) status = dirs_read_file(path, false, text, sizeof(text) - 1, &size, err);
    if (status == COROLLA_NOT_FOUND)
        return err_set(err, status, "no server of this home was started yet: start one, or name one that has the swarm's key with --join");
    if (status != COROLLA_OK) return status;
    text[size] = '\0';
    return join_code_decode(text, out, err);
}

enum corolla_status corolla_key_invite(const struct corolla_owner *owner, const struct corolla_invitation *invitation,
                                       char out_code[COROLLA_JOIN_CODE_SIZE], struct corolla_error *err) {
    char home[DIR_PATH_MAX];
    struct join_code code;
    struct invitation statement = {.role = invitation->role};
    uint8_t swarm[KEY_SIZE];
    void *key = NULL;
    enum corolla_status status = key_open(owner, home, &key, err);
    if (status == COROLLA_OK) status = find_entry(home, invitation->entry, &code, err);
    if (status == COROLLA_OK && (!keyfile_public(key, swarm) || !code.is_private || memcmp(code.swarm, swarm, KEY_SIZE) != 0))
        status = err_set(err, COROLLA_INVALID,
                         "the server that would take the invitation is not of this swarm: start it with the key, or "
                         "name another one with --join");
    if (status == COROLLA_OK) {
        rand_bytes(statement.serial, SERIAL_SIZE);
        memcpy(statement.issuer, code.node.id.key, KEY_SIZE);
        if (invitation->expires_s > 0) statement.not_after_s = (uint64_t)time(NULL) + invitation->expires_s;
        status = member_invite(key, &statement, &code.invitation, err);
    }
    if (status == COROLLA_OK) join_code_encode(&code, out_code);
    keyfile_free(key);
    return status;
}

/* ---- members --------------------------------------------------------------------------------------------------- */

/* A home under its lock, with its members and the swarm's revocations. */
struct book {
    char home[DIR_PATH_MAX];
    void *key;
    int lock;
    struct members members;
    struct revocations revoked;
    uint32_t n_revoked; /* when it was opened */
};

static void book_close(struct book *book) {
    if (!book) return;
    if (book->lock >= 0) close(book->lock);
    keyfile_free(book->key);
    free(book);
}

static enum corolla_status book_open(struct book **out, const struct corolla_owner *owner, struct corolla_error *err) {
    uint8_t swarm[KEY_SIZE], bytes[REVOCATIONS_BYTES_MAX];
    size_t size;
    struct book *book = calloc(1, sizeof(*book));
    if (!book) return err_set(err, COROLLA_NOMEM, "no memory for the list of members");
    book->lock = -1;
    enum corolla_status status = key_open(owner, book->home, &book->key, err);
    if (status == COROLLA_OK && !keyfile_public(book->key, swarm)) status = err_set(err, COROLLA_INTERNAL, "cannot read the swarm's key");
    if (status == COROLLA_OK) status = members_lock(book->home, &book->lock, err);
    if (status == COROLLA_OK) status = members_read(book->home, &book->members, err);
    if (status == COROLLA_OK) status = revoked_read(book->home, swarm, &book->revoked, bytes, &size, err);
    if (status != COROLLA_OK) {
        book_close(book);
        return status;
    }
    book->n_revoked = book->revoked.n;
    *out = book;
    return COROLLA_OK;
}

/* The revocations first: when the second file cannot be written, nobody is let in who should not be. */
static enum corolla_status book_write(struct book *book, struct corolla_error *err) {
    uint8_t bytes[REVOCATIONS_BYTES_MAX];
    size_t size;
    enum corolla_status status = COROLLA_OK;
    if (book->revoked.n > book->n_revoked) {
        book->revoked.number++;
        status = member_revoke(book->key, &book->revoked, bytes, &size, err);
        if (status == COROLLA_OK) status = revoked_write(book->home, bytes, size, err);
    }
    return status == COROLLA_OK ? members_write(book->home, &book->members, err) : status;
}

/* Takes all certificates of the key back. */
static enum corolla_status book_revoke(struct book *book, const uint8_t key[KEY_SIZE], struct corolla_error *err) {
    struct members *members = &book->members;
    size_t kept = 0;
    for (size_t i = 0; i < members->n; i++) {
        const struct member *member = &members->list[i];
        if (memcmp(member->key, key, KEY_SIZE) != 0) {
            members->list[kept++] = *member;
            continue;
        }
        enum corolla_status status = revocations_add(&book->revoked, member->serial, err);
        if (status != COROLLA_OK) return status;
    }
    members->n = kept;
    return COROLLA_OK;
}

enum corolla_status corolla_key_members(const struct corolla_owner *owner, void (*each)(void *user, const struct corolla_member *member),
                                        void *user, struct corolla_error *err) {
    struct book *book = NULL;
    enum corolla_status status = book_open(&book, owner, err);
    if (status != COROLLA_OK) return status;
    for (size_t i = 0; i < book->members.n; i++) {
        const struct member *from = &book->members.list[i];
        struct corolla_member member = {.role = from->role, .until_s = from->not_after_s};
        hex_encode(from->key, KEY_SIZE, member.node);
        each(user, &member);
    }
    book_close(book);
    return COROLLA_OK;
}

enum corolla_status corolla_key_allow(const struct corolla_owner *owner, const struct corolla_member *member, struct corolla_error *err) {
    struct book *book = NULL;
    struct member new = {.role = member->role, .not_after_s = member->until_s};
    if (strlen(member->node) != 2 * KEY_SIZE || !hex_decode(member->node, new.key, KEY_SIZE))
        return err_set(err, COROLLA_INVALID, "a node is allowed by its key, 64 hex digits: \"corolla key show\" prints it there");
    rand_bytes(new.serial, SERIAL_SIZE);
    enum corolla_status status = book_open(&book, owner, err);
    if (status != COROLLA_OK) return status;
    const struct member *old = members_find_key(&book->members, new.key);
    if (!old || old->role != new.role || old->not_after_s != new.not_after_s) {
        status = book_revoke(book, new.key, err);
        if (status == COROLLA_OK) status = members_add(&book->members, &new, err);
        if (status == COROLLA_OK) status = book_write(book, err);
    }
    book_close(book);
    return status;
}

/* The key that begins with the digits. */
static enum corolla_status find_named(const struct members *members, const char *node, uint8_t out[KEY_SIZE], struct corolla_error *err) {
    size_t digits = strcspn(node, "/");
    const struct member *found = NULL;
    if (digits < DIGITS_MIN) return err_set(err, COROLLA_INVALID, "name the node by at least %d digits of its key", DIGITS_MIN);
    for (size_t i = 0; i < members->n; i++) {
        char hex[2 * KEY_SIZE + 1];
        const struct member *member = &members->list[i];
        hex_encode(member->key, KEY_SIZE, hex);
        if (digits > 2 * KEY_SIZE || strncmp(hex, node, digits) != 0) continue;
        if (found && memcmp(found->key, member->key, KEY_SIZE) != 0)
            return err_set(err, COROLLA_INVALID, "several members begin with %s: give more digits", node);
        found = member;
    }
    if (!found)
        return err_set(err, COROLLA_NOT_FOUND, "no server of this home gave a certificate to %.80s: see \"corolla key allow\"", node);
    memcpy(out, found->key, KEY_SIZE);
    return COROLLA_OK;
}

enum corolla_status corolla_key_revoke(const struct corolla_owner *owner, const char *node, struct corolla_error *err) {
    struct book *book = NULL;
    uint8_t key[KEY_SIZE] = {0};
    enum corolla_status status = book_open(&book, owner, err);
    if (status != COROLLA_OK) return status;
    status = find_named(&book->members, node, key, err);
    if (status == COROLLA_OK) status = book_revoke(book, key, err);
    if (status == COROLLA_OK) status = book_write(book, err);
    book_close(book);
    return status;
}
