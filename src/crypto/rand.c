/* rand.c - randomness by libcrypto, which seeds itself from the system. Without it no key, secret or session id is safe, so
 * there is nothing to return: the process aborts. */
#include "crypto/rand.h"

#include <limits.h>
#include <openssl/rand.h>
#include <stdlib.h>

void rand_bytes(void *out, size_t size) {
    unsigned char *p = out;
    while (size > 0) {
        int part = size > INT_MAX ? INT_MAX : (int)size;
        if (RAND_bytes(p, part) != 1) {
            abort();
        }
        p += part;
        size -= (size_t)part;
    }
}
