/* identity.c - see identity.h.
 *
 * Reading or making the key and counting the start happen under a lock on HOME/identity.lock, so that processes that start
 * for the first time together get one key. Locks are those of flock(): they belong to the open file, so two identities in one
 * process are two instances as well, and they end with the process however it ends.
 *
 * Threads: any, each identity by one at a time.
 */
#include "net/identity.h"

#include "base/dirs.h"
#include "base/err.h"
#include "crypto/keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define INSTANCES_MAX 1024 /* processes of one home */
#define BOOT_FILE_MAX 64   /* one number */
#define LOCK_TRIES 500     /* of 10 ms: how long another process may hold the lock while it starts */
#define PATH_SIZE (DIR_PATH_MAX + 64)

struct identity {
    EVP_PKEY *key;
    X509 *certificate;
    struct node_id id;
    uint64_t boot;
    int instance_fd;
};

/* ---- files ----------------------------------------------------------------------------------------------------- */

static int open_lock_file(const char *path, struct corolla_error *err) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) err_set(err, COROLLA_IO, "cannot open %s: %s", path, strerror(errno));
    return fd;
}

/* The lock under which a home is read and changed; closing the descriptor gives it back. */
static enum corolla_status lock_home(const char *home, int *out_fd, struct corolla_error *err) {
    char path[PATH_SIZE];
    snprintf(path, sizeof(path), "%s/identity.lock", home);
    int fd = open_lock_file(path, err);
    if (fd < 0) return COROLLA_IO;
    for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; i++) {
        int reason = errno;
        if ((reason != EWOULDBLOCK && reason != EINTR) || i == LOCK_TRIES) {
            close(fd);
            return err_set(err, COROLLA_BUSY, "cannot lock %s: %s; is another process of this home stuck?", path, strerror(reason));
        }
        nanosleep(&(struct timespec){0, 10 * 1000 * 1000}, NULL);
    }
    *out_fd = fd;
    return COROLLA_OK;
}

/* ---- key ------------------------------------------------------------------------------------------------------- */

static enum corolla_status key_open(const char *home, EVP_PKEY **out, struct corolla_error *err) {
    char path[PATH_SIZE];
    void *key = NULL;
    snprintf(path, sizeof(path), "%s/identity.pem", home);
    enum corolla_status status = keyfile_open(path, &key, err);
    if (status == COROLLA_NOT_FOUND) status = keyfile_make(path, &key, err);
    if (status == COROLLA_OK) *out = key;
    return status;
}

/* The certificate only carries the key: its name and dates mean nothing, so clocks do not matter. */
static X509 *certificate_make(EVP_PKEY *key) {
    X509 *cert = X509_new();
    X509_NAME *name = X509_NAME_new();
    bool ok = cert && name && X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"corolla", -1, -1, 0) == 1 &&
              X509_set_version(cert, X509_VERSION_3) == 1 && ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) == 1 &&
              X509_set_subject_name(cert, name) == 1 && X509_set_issuer_name(cert, name) == 1 &&
              ASN1_TIME_set_string_X509(X509_getm_notBefore(cert), "19700101000000Z") == 1 &&
              ASN1_TIME_set_string_X509(X509_getm_notAfter(cert), "99991231235959Z") == 1 && X509_set_pubkey(cert, key) == 1 &&
              X509_sign(cert, key, NULL) > 0;
    X509_NAME_free(name);
    if (ok) return cert;
    X509_free(cert);
    ERR_clear_error();
    return NULL;
}

/* ---- boot and instance ----------------------------------------------------------------------------------------- */

static enum corolla_status boot_count(const char *home, uint64_t *out, struct corolla_error *err) {
    char path[PATH_SIZE], text[BOOT_FILE_MAX + 1];
    snprintf(path, sizeof(path), "%s/boot", home);
    uint64_t boot = 0;
    size_t got = 0;
    enum corolla_status status = dirs_read_file(path, false, text, BOOT_FILE_MAX, &got, err);
    if (status == COROLLA_OK) {
        char *end = NULL;
        text[got] = 0;
        errno = 0;
        boot = strtoull(text, &end, 10);
        if (end == text || (*end != '\n' && *end != 0) || errno != 0 || text[0] == '-' || boot == UINT64_MAX)
            return err_set(err, COROLLA_FORMAT, "%s is damaged: write a number into it that is larger than every start of this node so far",
                           path);
    } else if (status != COROLLA_NOT_FOUND) {
        return status;
    }
    boot++;
    int size = snprintf(text, sizeof(text), "%" PRIu64 "\n", boot);
    status = dirs_write_file(path, text, (size_t)size, 0600, err);
    if (status == COROLLA_OK) *out = boot;
    return status;
}

static enum corolla_status instance_lock(const char *home, int *out_fd, uint32_t *out_instance, struct corolla_error *err) {
    char path[PATH_SIZE];
    for (uint32_t i = 0; i < INSTANCES_MAX; i++) {
        snprintf(path, sizeof(path), "%s/instance-%u.lock", home, i);
        int fd = open_lock_file(path, err);
        if (fd < 0) return COROLLA_IO;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            *out_fd = fd;
            *out_instance = i;
            return COROLLA_OK;
        }
        int reason = errno;
        close(fd);
        if (reason != EWOULDBLOCK && reason != EINTR) return err_set(err, COROLLA_IO, "cannot lock %s: %s", path, strerror(reason));
    }
    return err_set(err, COROLLA_BUSY, "%s: %d processes use this home already", home, INSTANCES_MAX);
}

/* ---- public ---------------------------------------------------------------------------------------------------- */

static enum corolla_status open_locked(struct identity *identity, const char *home, struct corolla_error *err) {
    enum corolla_status status = key_open(home, &identity->key, err);
    if (status == COROLLA_OK) status = boot_count(home, &identity->boot, err);
    if (status == COROLLA_OK) status = instance_lock(home, &identity->instance_fd, &identity->id.instance, err);
    if (status != COROLLA_OK) return status;
    size_t size = KEY_SIZE;
    identity->certificate = certificate_make(identity->key);
    if (!identity->certificate || EVP_PKEY_get_raw_public_key(identity->key, identity->id.key, &size) != 1)
        return err_set(err, COROLLA_INTERNAL, "cannot make a certificate");
    return COROLLA_OK;
}

enum corolla_status identity_open(struct identity **out_identity, const char *home, struct corolla_error *err) {
    char folder[DIR_PATH_MAX];
    enum corolla_status status = dirs_home(home, folder, err);
    if (status != COROLLA_OK) return status;
    struct identity *identity = calloc(1, sizeof(*identity));
    if (!identity) return err_set(err, COROLLA_NOMEM, "no memory for an identity");
    identity->instance_fd = -1;
    int lock = -1;
    status = lock_home(folder, &lock, err);
    if (status == COROLLA_OK) {
        status = open_locked(identity, folder, err);
        close(lock);
    }
    if (status != COROLLA_OK) {
        identity_close(identity);
        return status;
    }
    *out_identity = identity;
    return COROLLA_OK;
}

void identity_close(struct identity *identity) {
    if (!identity) return;
    EVP_PKEY_free(identity->key);
    X509_free(identity->certificate);
    if (identity->instance_fd >= 0) close(identity->instance_fd);
    free(identity);
}

const struct node_id *identity_id(const struct identity *identity) { return &identity->id; }
uint64_t identity_boot(const struct identity *identity) { return identity->boot; }
bool identity_sign(const struct identity *identity, const uint8_t *data, size_t size, uint8_t out_signature[SIGN_SIZE]) {
    return sign_make(identity->key, SIGN_RECORD, data, size, out_signature);
}

void *identity_key(const struct identity *identity) { return identity->key; }
void *identity_certificate(const struct identity *identity) { return identity->certificate; }
