/* join.c - join codes.
 *
 * A code is made to be pasted, mailed and read aloud: lower-case base32 (RFC 4648, no padding) has no characters that shells,
 * chats or URLs change, and a decoder that ignores case and surrounding white space forgives the rest. The check covers everything.
 */
#include "wire/join.h"

#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "crypto/digest.h"
#include "wire/arena.h"
#include "wire/field.h"

#define PREFIX "corolla1"
#define PREFIX_SIZE (sizeof(PREFIX) - 1)
#define CHECK_SIZE 4
#define BYTES_MAX ((JOIN_CODE_MAX - 1 - PREFIX_SIZE) / 8 * 5) /* that the longest code can carry */

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";

/* out has room for size * 8 / 5 + 2 characters. */
static void base32_encode(const uint8_t *in, size_t size, char *out) {
    unsigned bits = 0, held = 0;
    for (size_t i = 0; i < size; i++) {
        held = held << 8 | in[i];
        for (bits += 8; bits >= 5; bits -= 5) {
            *out++ = alphabet[held >> (bits - 5) & 31];
        }
        held &= (1u << bits) - 1;
    }
    if (bits > 0) {
        *out++ = alphabet[held << (5 - bits) & 31];
    }
    *out = '\0';
}

static int digit_of(char c) {
    if (c >= 'a' && c <= 'z') {
        return c - 'a';
    }
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    return c >= '2' && c <= '7' ? c - '2' + 26 : -1;
}

/* Returns false at a character that is not in the alphabet, or when bits that carry nothing are set. out has BYTES_MAX bytes and
 * length characters are at most what those hold. */
static bool base32_decode(const char *in, size_t length, uint8_t *out, size_t *out_size) {
    unsigned bits = 0, held = 0;
    size_t size = 0;
    for (size_t i = 0; i < length; i++) {
        int digit = digit_of(in[i]);
        if (digit < 0) {
            return false;
        }
        held = held << 5 | (unsigned)digit;
        bits += 5;
        if (bits >= 8) {
            bits -= 8;
            out[size++] = (uint8_t)(held >> bits);
            held &= (1u << bits) - 1;
        }
    }
    *out_size = size;
    return bits < 5 && held == 0;
}

/* The check covers the prefix too, so that a later form of codes cannot be taken for this one. */
static void check_of(const uint8_t *data, size_t size, uint8_t out[CHECK_SIZE]) {
    uint8_t bytes[PREFIX_SIZE + BYTES_MAX], hash[DIGEST_SIZE];
    memcpy(bytes, PREFIX, PREFIX_SIZE);
    memcpy(bytes + PREFIX_SIZE, data, size);
    digest_once(bytes, PREFIX_SIZE + size, hash);
    memcpy(out, hash, CHECK_SIZE);
}

void join_code_encode(const struct join_code *code, char out[JOIN_CODE_MAX]) {
    Corolla__JoinCode p = COROLLA__JOIN_CODE__INIT;
    struct field_node_ref ref;
    uint8_t bytes[BYTES_MAX];
    field_node_ref_put(&code->node, &ref);
    p.node = &ref.ref;
    if (code->is_private) {
        p.swarm = field_bytes_put(code->swarm, KEY_SIZE);
        p.invitation = field_bytes_put(code->invitation.data, code->invitation.size);
    }
    size_t size = corolla__join_code__get_packed_size(&p);
    assert(size + CHECK_SIZE <= BYTES_MAX);
    corolla__join_code__pack(&p, bytes);
    check_of(bytes, size, bytes + size);
    memcpy(out, PREFIX, PREFIX_SIZE);
    base32_encode(bytes, size + CHECK_SIZE, out + PREFIX_SIZE);
}

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static bool has_prefix(const char *text, size_t length) {
    if (length < PREFIX_SIZE) {
        return false;
    }
    for (size_t i = 0; i < PREFIX_SIZE; i++) {
        char c = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] - 'A' + 'a') : text[i];
        if (c != PREFIX[i]) {
            return false;
        }
    }
    return true;
}

static bool swarm_ok(const Corolla__JoinCode *p) {
    return p->swarm.len == 0 ? p->invitation.len == 0 : field_bytes_ok(&p->swarm, KEY_SIZE) && p->invitation.len <= SIGNED_MAX;
}

enum corolla_status join_code_decode(const char *text, struct join_code *out, struct corolla_error *err) {
    uint8_t bytes[BYTES_MAX], check[CHECK_SIZE];
    size_t size;
    while (is_space(*text)) {
        text++;
    }
    size_t length = strlen(text);
    while (length > 0 && is_space(text[length - 1])) {
        length--;
    }
    if (!has_prefix(text, length)) {
        return err_set(err, COROLLA_INVALID, "not a join code: it must start with \"" PREFIX "\"");
    }
    if (length - PREFIX_SIZE > BYTES_MAX / 5 * 8) {
        return err_set(err, COROLLA_INVALID, "the join code is too long: more than %zu characters", BYTES_MAX / 5 * 8 + PREFIX_SIZE);
    }
    if (!base32_decode(text + PREFIX_SIZE, length - PREFIX_SIZE, bytes, &size)) {
        return err_set(err, COROLLA_INVALID, "the join code has a wrong character or was cut: copy it again as a whole");
    }
    if (size <= CHECK_SIZE) {
        return err_set(err, COROLLA_INVALID, "the join code is too short: copy it again as a whole");
    }
    size -= CHECK_SIZE;
    check_of(bytes, size, check);
    if (memcmp(check, bytes + size, CHECK_SIZE) != 0) {
        return err_set(err, COROLLA_INVALID, "the join code is mistyped or was cut: its check does not fit, copy it again as a whole");
    }
    struct arena arena;
    arena_init(&arena);
    const Corolla__JoinCode *p = corolla__join_code__unpack(&arena.allocator, size, bytes);
    if (p == NULL || !field_node_ref_ok(p->node) || p->node->n_addresses == 0 || !swarm_ok(p)) {
        return err_set(err, COROLLA_INVALID, "the join code names no node that can be dialled: ask for a new one");
    }
    field_node_ref_get(p->node, &out->node);
    out->is_private = p->swarm.len > 0;
    if (out->is_private) {
        memcpy(out->swarm, p->swarm.data, KEY_SIZE);
    }
    field_signed_get(&p->invitation, &out->invitation);
    return COROLLA_OK;
}

void join_encode(const struct node_ref *node, char out[JOIN_CODE_MAX]) { join_code_encode(&(struct join_code){.node = *node}, out); }

enum corolla_status join_decode(const char *text, struct node_ref *out, struct corolla_error *err) {
    struct join_code code;
    enum corolla_status status = join_code_decode(text, &code, err);
    if (status == COROLLA_OK) {
        *out = code.node;
    }
    return status;
}
