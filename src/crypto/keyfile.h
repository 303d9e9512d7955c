/* keyfile.h - Ed25519 private keys in files: PEM (PKCS #8), mode 0600, refused when others may read them. Blocking; any thread. */
#ifndef COROLLA_CRYPTO_KEYFILE_H
#define COROLLA_CRYPTO_KEYFILE_H

#include <corolla.h>

/* *out_key is an EVP_PKEY *, owned by the caller. NOT_FOUND when there is no such file. */
enum corolla_status keyfile_open(const char *path, void **out_key, struct corolla_error *err);
/* A new key, written to the path; what stood there is replaced. */
enum corolla_status keyfile_make(const char *path, void **out_key, struct corolla_error *err);
void keyfile_free(void *key);
/* The public half. */
bool keyfile_public(const void *key, uint8_t out[32]);

#endif
