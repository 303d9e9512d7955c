/* digest.h - SHA-256. src/crypto and src/net are the only users of OpenSSL; this folder uses libcrypto alone. Any thread. */
#ifndef COROLLA_CRYPTO_DIGEST_H
#define COROLLA_CRYPTO_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define DIGEST_SIZE 32

struct digest;                   /* a running hash */
struct digest *digest_new(void); /* NULL: out of memory */
void digest_update(struct digest *d, const void *data, size_t size);
/* Writes the hash; the object is ready for the next one. */
void digest_final(struct digest *d, uint8_t out[DIGEST_SIZE]);
void digest_free(struct digest *d);

void digest_once(const void *data, size_t size, uint8_t out[DIGEST_SIZE]);

#endif
