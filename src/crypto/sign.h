/* sign.h - Ed25519 signatures over bytes. Any thread. */
#ifndef COROLLA_CRYPTO_SIGN_H
#define COROLLA_CRYPTO_SIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether the owner of the public key signed exactly these bytes. False, too, for a key that is none. */
bool sign_verify(const uint8_t key[32], const void *data, size_t size, const uint8_t signature[64]);
/* evp_pkey: an Ed25519 private key (EVP_PKEY *). The same key and bytes give the same signature. False: out of memory. */
bool sign_make(void *evp_pkey, const void *data, size_t size, uint8_t signature[64]);

#endif
