/* digest.c - SHA-256 by libcrypto. A failure there means that the library is broken or memory ran out inside a call that
 * cannot report it; going on with a wrong hash would be worse, so it aborts. */
#include "crypto/digest.h"

#include <openssl/evp.h>
#include <stdlib.h>

struct digest {
    EVP_MD_CTX *context;
};

static void must(int ok) {
    if (ok != 1) {
        abort();
    }
}

struct digest *digest_new(void) {
    struct digest *d = malloc(sizeof(*d));
    if (d == NULL) {
        return NULL;
    }
    d->context = EVP_MD_CTX_new();
    if (d->context == NULL || EVP_DigestInit_ex(d->context, EVP_sha256(), NULL) != 1) {
        digest_free(d);
        return NULL;
    }
    return d;
}

void digest_update(struct digest *d, const void *data, size_t size) { must(EVP_DigestUpdate(d->context, data, size)); }

void digest_final(struct digest *d, uint8_t out[DIGEST_SIZE]) {
    must(EVP_DigestFinal_ex(d->context, out, NULL));
    must(EVP_DigestInit_ex(d->context, NULL, NULL));
}

void digest_free(struct digest *d) {
    if (d != NULL) {
        EVP_MD_CTX_free(d->context);
        free(d);
    }
}

void digest_once(const void *data, size_t size, uint8_t out[DIGEST_SIZE]) { must(EVP_Digest(data, size, out, NULL, EVP_sha256(), NULL)); }
