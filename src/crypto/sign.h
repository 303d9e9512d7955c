/* sign.h - Ed25519 signatures of short statements. Any thread.
 *
 * What is signed is a domain string, which says what kind of statement it is, and the data behind it: a signature given for one purpose
 * never passes for another. The domain carries no length, so none may be the beginning of another.
 */
#ifndef COROLLA_CRYPTO_SIGN_H
#define COROLLA_CRYPTO_SIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIGN_KEY_SIZE 32
#define SIGN_SIZE 64
#define SIGN_DATA_MAX (20u << 10)    /* domain and data: statements and lists of them, not files */
#define SIGN_RECORD "corolla record" /* the domain of the records of nodes */

/* key: EVP_PKEY * of a private Ed25519 key. False when domain and data are too long, or key is none of that. */
bool sign_make(void *key, const char *domain, const uint8_t *data, size_t size, uint8_t out[SIGN_SIZE]);
/* False for everything that is not a valid signature of the raw public key, a key that is none included. */
bool sign_verify(const uint8_t key[SIGN_KEY_SIZE], const char *domain, const uint8_t *data, size_t size,
                 const uint8_t signature[SIGN_SIZE]);

#endif
