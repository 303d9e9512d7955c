/* rand.h - cryptographic randomness from the system. Any thread. */
#ifndef COROLLA_CRYPTO_RAND_H
#define COROLLA_CRYPTO_RAND_H

#include <stddef.h>

void rand_bytes(void *out, size_t size);

#endif
