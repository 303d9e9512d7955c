/* keyfile.c - see keyfile.h. The text of a key is wiped from memory as soon as it was parsed or written. */
#include "crypto/keyfile.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "base/dirs.h"
#include "base/err.h"

#define KEY_FILE_MAX 4096 /* a PEM file of ours has 119 bytes */

static int no_password(char *buffer, int size, int writing, void *user) {
    (void)buffer, (void)size, (void)writing, (void)user;
    return -1;
}

static enum corolla_status parse(const char *path, const char *text, size_t size, void **out_key, struct corolla_error *err) {
    BIO *bio = BIO_new_mem_buf(text, (int)size);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    if (!key || EVP_PKEY_get_id(key) != EVP_PKEY_ED25519) {
        EVP_PKEY_free(key);
        return err_set(err, COROLLA_FORMAT, "%s does not hold an Ed25519 private key in PEM: restore it, or remove it to make a new one",
                       path);
    }
    *out_key = key;
    return COROLLA_OK;
}

enum corolla_status keyfile_open(const char *path, void **out_key, struct corolla_error *err) {
    char text[KEY_FILE_MAX];
    size_t size = 0;
    enum corolla_status status = dirs_read_file(path, true, text, sizeof(text), &size, err);
    if (status == COROLLA_OK) status = parse(path, text, size, out_key, err);
    OPENSSL_cleanse(text, sizeof(text));
    return status;
}

enum corolla_status keyfile_make(const char *path, void **out_key, struct corolla_error *err) {
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    long size = 0;
    enum corolla_status status = COROLLA_OK;
    if (!key || !bio || PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1 ||
        (size = BIO_get_mem_data(bio, &text)) <= 0)
        status = err_set(err, COROLLA_INTERNAL, "cannot make an Ed25519 key");
    else
        status = dirs_write_file(path, text, (size_t)size, 0600, err);
    if (text && size > 0) OPENSSL_cleanse(text, (size_t)size);
    BIO_free(bio);
    ERR_clear_error();
    if (status != COROLLA_OK) {
        EVP_PKEY_free(key);
        return status;
    }
    *out_key = key;
    return COROLLA_OK;
}

void keyfile_free(void *key) { EVP_PKEY_free(key); }

bool keyfile_public(const void *key, uint8_t out[32]) {
    size_t size = 32;
    return EVP_PKEY_get_raw_public_key(key, out, &size) == 1;
}
