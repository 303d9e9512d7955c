/* test_crypto.c - SHA-256 against the vectors of FIPS 180-4, and that randomness is not constant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "crypto/digest.h"
#include "crypto/rand.h"

static void check(const uint8_t hash[DIGEST_SIZE], const char *hex) {
    char text[2 * DIGEST_SIZE + 1];
    hex_encode(hash, DIGEST_SIZE, text);
    assert_string_equal(text, hex);
}

#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void known_answers_at_once(void **state) {
    (void)state;
    uint8_t hash[DIGEST_SIZE];
    digest_once("abc", 3, hash);
    check(hash, ABC);
    digest_once("", 0, hash);
    check(hash, EMPTY);
}

static void known_answers_in_pieces_and_after_a_final(void **state) {
    (void)state;
    uint8_t hash[DIGEST_SIZE];
    struct digest *d = digest_new();
    assert_non_null(d);
    digest_update(d, "a", 1);
    digest_update(d, "", 0);
    digest_update(d, "bc", 2);
    digest_final(d, hash);
    check(hash, ABC);
    digest_final(d, hash);
    check(hash, EMPTY);
    static const char thousand[1000] = {0};
    for (int i = 0; i < 3; i++) {
        digest_update(d, thousand, sizeof(thousand));
    }
    digest_final(d, hash);
    uint8_t once[DIGEST_SIZE], zeros[3000] = {0};
    digest_once(zeros, sizeof(zeros), once);
    assert_memory_equal(hash, once, DIGEST_SIZE);
    digest_free(d);
    digest_free(NULL);
}

static void random_bytes_differ_and_fill_the_whole_buffer(void **state) {
    (void)state;
    uint8_t a[64], b[64], seen[64] = {0};
    rand_bytes(a, sizeof(a));
    rand_bytes(b, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
    for (int round = 0; round < 16; round++) {
        rand_bytes(a, sizeof(a));
        for (size_t i = 0; i < sizeof(a); i++) {
            seen[i] |= a[i];
        }
    }
    for (size_t i = 0; i < sizeof(seen); i++) {
        assert_int_not_equal(seen[i], 0);
    }
    rand_bytes(a, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers_at_once),
        cmocka_unit_test(known_answers_in_pieces_and_after_a_final),
        cmocka_unit_test(random_bytes_differ_and_fill_the_whole_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
