/* test_sign.c - signatures of statements: a published vector, domains, and everything that must not pass. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "base/mem.h"
#include "crypto/sign.h"

static EVP_PKEY *key;
static uint8_t public[SIGN_KEY_SIZE], signature[SIGN_SIZE];
static const uint8_t data[] = "what a node says";

static int make_key(void **state) {
    (void)state;
    size_t size = sizeof(public);
    key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    return key != NULL && EVP_PKEY_get_raw_public_key(key, public, &size) == 1 ? 0 : -1;
}

static int free_key(void **state) {
    (void)state;
    EVP_PKEY_free(key);
    return 0;
}

/* RFC 8032, section 7.1, test 3: the message af82, which domain and data make together. */
static void the_published_vector_is_verified(void **state) {
    (void)state;
    uint8_t known[SIGN_KEY_SIZE], its[SIGN_SIZE];
    assert_true(hex_decode("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", known, sizeof(known)));
    assert_true(hex_decode("6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
                           "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
                           its, sizeof(its)));
    assert_true(sign_verify(known, "\xaf", (const uint8_t *)"\x82", 1, its));
    assert_false(sign_verify(known, "\xaf", (const uint8_t *)"\x83", 1, its));
}

static void a_signature_holds_for_its_domain_data_and_key_only(void **state) {
    (void)state;
    uint8_t other[SIGN_KEY_SIZE];
    memcpy(other, public, sizeof(other));
    other[3] ^= 1;
    assert_true(sign_make(key, SIGN_RECORD, data, sizeof(data), signature));
    assert_true(sign_verify(public, SIGN_RECORD, data, sizeof(data), signature));
    assert_false(sign_verify(public, "corolla other", data, sizeof(data), signature));
    assert_false(sign_verify(public, SIGN_RECORD, data, sizeof(data) - 1, signature));
    assert_false(sign_verify(other, SIGN_RECORD, data, sizeof(data), signature));
    for (size_t bit = 0; bit < sizeof(signature) * 8; bit += 37) {
        signature[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(sign_verify(public, SIGN_RECORD, data, sizeof(data), signature));
        signature[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void too_much_or_no_domain_is_refused(void **state) {
    (void)state;
    static uint8_t large[SIGN_DATA_MAX];
    const size_t most = SIGN_DATA_MAX - strlen(SIGN_RECORD);
    assert_true(sign_make(key, SIGN_RECORD, large, most, signature));
    assert_true(sign_verify(public, SIGN_RECORD, large, most, signature));
    assert_false(sign_make(key, SIGN_RECORD, large, most + 1, signature));
    assert_false(sign_verify(public, SIGN_RECORD, large, most + 1, signature));
    assert_false(sign_make(key, "", data, sizeof(data), signature));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_vector_is_verified),
        cmocka_unit_test(a_signature_holds_for_its_domain_data_and_key_only),
        cmocka_unit_test(too_much_or_no_domain_is_refused),
    };
    return cmocka_run_group_tests(tests, make_key, free_key);
}
