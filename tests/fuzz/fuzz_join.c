/* fuzz_join.c - join codes. The input is taken twice: as a code, and as the bytes inside one, so that what lies behind the check
 * is reached too. */
#include <stdlib.h>
#include <string.h>

#include "crypto/digest.h"
#include "wire/addr.h"
#include "wire/join.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INSIDE_MAX 600 /* bytes that fit a code together with its check */

static void must(bool ok) {
    if (!ok) {
        abort();
    }
}

static void take(const char *text) {
    struct join_code join, back;
    struct corolla_error err;
    char code[JOIN_CODE_MAX], again[JOIN_CODE_MAX];
    if (join_code_decode(text, &join, &err) != COROLLA_OK) {
        must(err.status == COROLLA_INVALID);
        return;
    }
    must(join.node.n_addrs >= 1 && join.node.n_addrs <= ADDRS_MAX && addr_valid(join.node.addrs[join.node.n_addrs - 1]));
    must(join.invitation.size <= SIGNED_MAX && (join.is_private || join.invitation.size == 0));
    join_code_encode(&join, code);
    must(join_code_decode(code, &back, &err) == COROLLA_OK && node_id_equal(&join.node.id, &back.node.id));
    join_code_encode(&back, again);
    must(strcmp(code, again) == 0);
}

/* "corolla1", then base32 of data and its check, written anew here and not with the encoder that is tested. */
static void take_inside(const uint8_t *data, size_t size) {
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";
    uint8_t bytes[8 + INSIDE_MAX + 4] = "corolla1", hash[DIGEST_SIZE];
    char text[8 + (INSIDE_MAX + 4) * 8 / 5 + 2] = "corolla1", *to = text + 8;
    memcpy(bytes + 8, data, size);
    digest_once(bytes, 8 + size, hash);
    memcpy(bytes + 8 + size, hash, 4);
    size_t bits = (size + 4) * 8;
    for (size_t bit = 0; bit < bits; bit += 5) {
        unsigned digit = 0;
        for (size_t i = bit; i < bit + 5; i++) {
            digit = digit << 1 | (i < bits ? bytes[8 + i / 8] >> (7 - i % 8) & 1u : 0);
        }
        *to++ = alphabet[digit];
    }
    *to = '\0';
    take(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    must(text != NULL);
    if (size > 0) {
        memcpy(text, data, size);
    }
    text[size] = '\0';
    take(text);
    free(text);
    if (size <= INSIDE_MAX) {
        take_inside(data, size);
    }
    return 0;
}
