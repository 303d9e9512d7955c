/* sign.c - see sign.h. */
#include "crypto/sign.h"

#include <openssl/err.h>
#include <openssl/evp.h>

bool sign_verify(const uint8_t key[32], const void *data, size_t size, const uint8_t signature[64]) {
    EVP_PKEY *pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key, 32);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = pkey && context && EVP_DigestVerifyInit(context, NULL, NULL, NULL, pkey) == 1 &&
                EVP_DigestVerify(context, signature, 64, data, size) == 1;
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(pkey);
    ERR_clear_error();
    return good;
}

bool sign_make(void *evp_pkey, const void *data, size_t size, uint8_t signature[64]) {
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    size_t signature_size = 64;
    bool good = context && EVP_DigestSignInit(context, NULL, NULL, NULL, evp_pkey) == 1 &&
                EVP_DigestSign(context, signature, &signature_size, data, size) == 1;
    EVP_MD_CTX_free(context);
    ERR_clear_error();
    return good;
}
