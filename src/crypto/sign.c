/* sign.c - see sign.h. Ed25519 takes the whole message at once, so domain and data are put together on the stack. */
#include "crypto/sign.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>

/* Bytes of the message, or 0 when it is too long. */
static size_t message_put(const char *domain, const uint8_t *data, size_t size, uint8_t out[SIGN_DATA_MAX]) {
    size_t head = strlen(domain);
    if (head == 0 || head > SIGN_DATA_MAX || size > SIGN_DATA_MAX - head) {
        return 0;
    }
    memcpy(out, domain, head);
    if (size > 0) {
        memcpy(out + head, data, size);
    }
    return head + size;
}

bool sign_make(void *key, const char *domain, const uint8_t *data, size_t size, uint8_t out[SIGN_SIZE]) {
    uint8_t message[SIGN_DATA_MAX];
    size_t message_size = message_put(domain, data, size, message), out_size = SIGN_SIZE;
    EVP_MD_CTX *context = message_size > 0 ? EVP_MD_CTX_new() : NULL;
    bool ok = context != NULL && EVP_DigestSignInit(context, NULL, NULL, NULL, key) == 1 &&
              EVP_DigestSign(context, out, &out_size, message, message_size) == 1 && out_size == SIGN_SIZE;
    EVP_MD_CTX_free(context);
    ERR_clear_error();
    return ok;
}

bool sign_verify(const uint8_t key[SIGN_KEY_SIZE], const char *domain, const uint8_t *data, size_t size,
                 const uint8_t signature[SIGN_SIZE]) {
    uint8_t message[SIGN_DATA_MAX];
    size_t message_size = message_put(domain, data, size, message);
    EVP_PKEY *public = message_size > 0 ? EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key, SIGN_KEY_SIZE) : NULL;
    EVP_MD_CTX *context = public != NULL ? EVP_MD_CTX_new() : NULL;
    bool ok = context != NULL && EVP_DigestVerifyInit(context, NULL, NULL, NULL, public) == 1 &&
              EVP_DigestVerify(context, signature, SIGN_SIZE, message, message_size) == 1;
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(public);
    ERR_clear_error();
    return ok;
}
