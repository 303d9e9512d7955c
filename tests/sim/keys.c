/* keys.c - see keys.h. The hash can be made by anybody who knows the key: liars in tests just do not. */
#include "sim/keys.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "crypto/sign.h"

static uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static void fill(uint64_t seed, uint8_t *out, size_t size) {
    for (size_t i = 0; i < size; i += 8) {
        le64_put(out + i, mix(seed + (i + 1) * 0x9e3779b97f4a7c15u));
    }
}

static EVP_PKEY *private_key(uint64_t number) {
    uint8_t secret[32];
    fill(number, secret, sizeof(secret));
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, secret, sizeof(secret));
    if (key == NULL) {
        abort();
    }
    return key;
}

static void seal(const uint8_t key[KEY_SIZE], const uint8_t *data, size_t size, uint8_t out[SIGNATURE_SIZE]) {
    uint64_t hash = le64_get(key);
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ data[i]) * 0x100000001b3u;
    }
    fill(mix(hash), out, SIGNATURE_SIZE);
}

void keys_make(bool real, uint64_t number, uint8_t out_key[KEY_SIZE]) {
    fill(number, out_key, KEY_SIZE);
    if (real) {
        size_t size = KEY_SIZE;
        EVP_PKEY *key = private_key(number);
        EVP_PKEY_get_raw_public_key(key, out_key, &size);
        EVP_PKEY_free(key);
    }
}

void keys_sign(bool real, uint64_t number, const uint8_t *data, size_t size, uint8_t out[SIGNATURE_SIZE]) {
    if (real) {
        EVP_PKEY *key = private_key(number);
        if (!sign_make(key, SIGN_RECORD, data, size, out)) {
            abort();
        }
        EVP_PKEY_free(key);
    } else {
        uint8_t key[KEY_SIZE];
        keys_make(false, number, key);
        seal(key, data, size, out);
    }
}

bool keys_verify(bool real, const uint8_t key[KEY_SIZE], const uint8_t *data, size_t size, const uint8_t signature[SIGNATURE_SIZE]) {
    uint8_t expected[SIGNATURE_SIZE];
    if (real) {
        return sign_verify(key, SIGN_RECORD, data, size, signature);
    }
    seal(key, data, size, expected);
    return memcmp(expected, signature, SIGNATURE_SIZE) == 0;
}
