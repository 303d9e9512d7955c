/* test_member.c - certificates, invitations and revocations: what is good, and every way in which one is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "crypto/keyfile.h"
#include "crypto/sign.h"
#include "support/samples.h"
#include "support/scratch.h"
#include "swarm/member.h"

#define NOW 1800000000u

static struct {
    void *key, *other_key;
    uint8_t swarm[KEY_SIZE], other_swarm[KEY_SIZE];
    uint8_t node[KEY_SIZE], stranger[KEY_SIZE], issuer[KEY_SIZE];
} world;

static int make_world(void **state) {
    (void)state;
    assert_int_equal(keyfile_make(scratch_file("swarm.pem"), &world.key, NULL), COROLLA_OK);
    assert_int_equal(keyfile_make(scratch_file("other.pem"), &world.other_key, NULL), COROLLA_OK);
    assert_true(keyfile_public(world.key, world.swarm) && keyfile_public(world.other_key, world.other_swarm));
    sample_bytes(world.node, KEY_SIZE, 1);
    sample_bytes(world.stranger, KEY_SIZE, 2);
    sample_bytes(world.issuer, KEY_SIZE, 3);
    return 0;
}

static int free_world(void **state) {
    (void)state;
    keyfile_free(world.key);
    keyfile_free(world.other_key);
    scratch_remove();
    return 0;
}

static struct certificate a_certificate(void) {
    struct certificate c = {.role = COROLLA_ROLE_SERVER};
    memcpy(c.swarm, world.swarm, KEY_SIZE);
    memcpy(c.member, world.node, KEY_SIZE);
    sample_bytes(c.serial, SERIAL_SIZE, 4);
    return c;
}

static struct invitation an_invitation(void) {
    struct invitation i = {.role = COROLLA_ROLE_CLIENT, .not_after_s = NOW + 60};
    memcpy(i.issuer, world.issuer, KEY_SIZE);
    sample_bytes(i.serial, SERIAL_SIZE, 5);
    return i;
}

static struct signed_bytes issued(void *key, const struct certificate *c) {
    struct signed_bytes out;
    assert_int_equal(member_issue(key, c, &out, NULL), COROLLA_OK);
    return out;
}

static struct signed_bytes invited(void *key, const struct invitation *i) {
    struct signed_bytes out;
    assert_int_equal(member_invite(key, i, &out, NULL), COROLLA_OK);
    return out;
}

static struct member_rules rules_at(uint64_t now_s) { return (struct member_rules){.swarm = world.swarm, .now_s = now_s}; }

static void assert_refused(const struct member_rules *rules, const struct signed_bytes *certificate, const char *word) {
    struct certificate out;
    struct corolla_error err = {0};
    assert_int_equal(member_check(rules, world.node, certificate->data, certificate->size, &out, &err), COROLLA_REFUSED);
    if (!strstr(err.message, word)) fail_msg("\"%s\" does not say \"%s\"", err.message, word);
}

static void assert_good(const struct member_rules *rules, const struct signed_bytes *certificate) {
    struct certificate out;
    struct corolla_error err = {0};
    if (member_check(rules, world.node, certificate->data, certificate->size, &out, &err) != COROLLA_OK) fail_msg("%s", err.message);
}

static void assert_not_invited(const struct member_rules *rules, const uint8_t *issuer, const struct signed_bytes *invitation,
                               const char *word) {
    struct invitation out;
    struct corolla_error err = {0};
    assert_int_equal(member_check_invitation(rules, issuer, invitation, &out, &err), COROLLA_REFUSED);
    if (!strstr(err.message, word)) fail_msg("\"%s\" does not say \"%s\"", err.message, word);
}

/* ---- certificates ---------------------------------------------------------------------------------------------- */

static void a_certificate_makes_its_node_a_member(void **state) {
    (void)state;
    struct certificate c = a_certificate(), out;
    struct signed_bytes bytes = issued(world.key, &c);
    struct member_rules rules = rules_at(NOW), any = {.now_s = NOW};
    assert_int_equal(member_check(&rules, world.node, bytes.data, bytes.size, &out, NULL), COROLLA_OK);
    assert_memory_equal(out.swarm, world.swarm, KEY_SIZE);
    assert_memory_equal(out.member, world.node, KEY_SIZE);
    assert_memory_equal(out.serial, c.serial, SERIAL_SIZE);
    assert_int_equal(out.role, COROLLA_ROLE_SERVER);
    assert_good(&any, &bytes); /* of whichever swarm */
}

static void the_same_certificate_is_signed_the_same(void **state) {
    (void)state;
    struct certificate c = a_certificate();
    struct signed_bytes a = issued(world.key, &c), b = issued(world.key, &c);
    assert_int_equal(a.size, b.size);
    assert_memory_equal(a.data, b.data, a.size);
}

static void the_largest_certificate_fits_a_record(void **state) {
    (void)state;
    struct certificate c = a_certificate();
    c.not_after_s = UINT64_MAX;
    assert_true(issued(world.key, &c).size <= SIGNED_MAX);
}

static void no_certificate_is_refused_with_what_to_do(void **state) {
    (void)state;
    struct member_rules rules = rules_at(NOW);
    assert_refused(&rules, &(struct signed_bytes){0}, "invitation");
}

static void a_certificate_of_another_swarm_is_refused(void **state) {
    (void)state;
    struct member_rules rules = rules_at(NOW);
    struct certificate c = a_certificate();
    memcpy(c.swarm, world.other_swarm, KEY_SIZE);
    struct signed_bytes bytes = issued(world.other_key, &c);
    assert_refused(&rules, &bytes, "another private swarm");
}

static void a_certificate_that_another_key_signed_is_refused(void **state) {
    (void)state;
    struct member_rules rules = rules_at(NOW), any = {.now_s = NOW};
    struct certificate c = a_certificate();
    struct signed_bytes bytes = issued(world.other_key, &c);
    assert_refused(&rules, &bytes, "forged");
    assert_refused(&any, &bytes, "forged");
}

static void a_certificate_of_another_node_is_refused(void **state) {
    (void)state;
    struct member_rules rules = rules_at(NOW);
    struct certificate c = a_certificate();
    memcpy(c.member, world.stranger, KEY_SIZE);
    struct signed_bytes bytes = issued(world.key, &c);
    assert_refused(&rules, &bytes, "another node");
}

static void a_certificate_ends_an_hour_after_its_end(void **state) {
    (void)state;
    struct certificate c = a_certificate();
    c.not_after_s = NOW;
    struct signed_bytes bytes = issued(world.key, &c);
    struct member_rules before = rules_at(NOW - 86400), late = rules_at(NOW + 600), last = rules_at(NOW + MEMBER_CLOCK_SLACK_S),
                        over = rules_at(NOW + MEMBER_CLOCK_SLACK_S + 1);
    assert_good(&before, &bytes);
    assert_good(&late, &bytes); /* a clock that is 10 minutes ahead */
    assert_good(&last, &bytes);
    assert_refused(&over, &bytes, "expired");
    c.not_after_s = 0;
    bytes = issued(world.key, &c);
    assert_good(&over, &bytes);
    assert_false(member_ended(UINT64_MAX, NOW));
}

static void a_revoked_certificate_is_refused(void **state) {
    (void)state;
    struct revocations revoked = {.number = 1};
    struct member_rules rules = rules_at(NOW);
    struct certificate c = a_certificate();
    struct signed_bytes bytes = issued(world.key, &c);
    rules.revoked = &revoked;
    assert_good(&rules, &bytes);
    assert_int_equal(revocations_add(&revoked, c.serial, NULL), COROLLA_OK);
    assert_refused(&rules, &bytes, "revoked");
    c.serial[15] ^= 1;
    bytes = issued(world.key, &c);
    assert_good(&rules, &bytes);
}

static void every_flipped_bit_of_a_certificate_is_noticed(void **state) {
    (void)state;
    struct member_rules rules = rules_at(NOW);
    struct certificate c = a_certificate(), out;
    struct signed_bytes bytes = issued(world.key, &c);
    for (uint32_t i = 0; i < bytes.size * 8; i++) {
        bytes.data[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_int_equal(member_check(&rules, world.node, bytes.data, bytes.size, &out, NULL), COROLLA_REFUSED);
        bytes.data[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    assert_good(&rules, &bytes);
}

static void every_cut_or_longer_certificate_is_refused(void **state) {
    (void)state;
    struct member_rules rules = rules_at(NOW);
    struct certificate c = a_certificate();
    struct signed_bytes bytes = issued(world.key, &c), cut;
    for (cut = bytes, cut.size = 0; cut.size < bytes.size; cut.size++) assert_refused(&rules, &cut, "certificate");
    cut = bytes; /* a field that the wrapper does not know */
    cut.data[cut.size++] = 0x18;
    cut.data[cut.size++] = 1;
    assert_refused(&rules, &cut, "malformed");
    struct signed_view view;
    assert_int_equal(signed_decode(cut.data, cut.size, &view, NULL), COROLLA_FORMAT);
}

static void a_statement_of_one_kind_is_no_other(void **state) {
    (void)state;
    struct member_rules rules = rules_at(NOW);
    struct invitation i = an_invitation();
    struct certificate c = a_certificate();
    struct signed_bytes certificate = issued(world.key, &c), invitation = invited(world.key, &i);
    assert_refused(&rules, &invitation, "malformed");
    assert_not_invited(&rules, world.issuer, &certificate, "malformed");
    /* The bytes of a certificate, signed as an invitation: the shape is right, the domain is not. */
    uint8_t statement[STATEMENT_MAX], signature[SIGNATURE_SIZE];
    size_t size = certificate_encode(&c, statement);
    assert_true(sign_make(world.key, "corolla invitation", statement, size, signature));
    struct signed_bytes crossed = {.size = (uint32_t)signed_encode(statement, size, signature, crossed.data)};
    assert_refused(&rules, &crossed, "forged");
}

static void statements_are_signed_as_the_protocol_says(void **state) {
    (void)state;
    static const char *const domains[] = {"corolla certificate", "corolla invitation", "corolla revocations"};
    struct member_rules rules = rules_at(NOW);
    struct certificate c = a_certificate(), c_out;
    struct invitation i = an_invitation(), i_out;
    struct revocations list = {.number = 1}, list_out;
    uint8_t statement[REVOCATIONS_BYTES_MAX], signature[SIGNATURE_SIZE];
    for (int kind = 0; kind < 3; kind++) {
        struct signed_bytes bytes;
        size_t size = kind == 0   ? certificate_encode(&c, statement)
                      : kind == 1 ? invitation_encode(&i, statement)
                                  : revocations_encode(&list, statement);
        assert_true(sign_make(world.key, domains[kind], statement, size, signature));
        bytes.size = (uint32_t)signed_encode(statement, size, signature, bytes.data);
        if (kind == 0) assert_int_equal(member_check(&rules, world.node, bytes.data, bytes.size, &c_out, NULL), COROLLA_OK);
        if (kind == 1) assert_int_equal(member_check_invitation(&rules, world.issuer, &bytes, &i_out, NULL), COROLLA_OK);
        if (kind == 2) assert_int_equal(member_check_revocations(world.swarm, bytes.data, bytes.size, &list_out, NULL), COROLLA_OK);
    }
}

static void a_role_that_is_none_is_refused(void **state) {
    (void)state;
    struct member_rules rules = rules_at(NOW);
    for (unsigned role = 0; role < 5; role++) {
        struct certificate c = a_certificate();
        c.role = (enum corolla_role)role;
        struct signed_bytes bytes = issued(world.key, &c);
        if (role == COROLLA_ROLE_CLIENT || role == COROLLA_ROLE_SERVER)
            assert_good(&rules, &bytes);
        else
            assert_refused(&rules, &bytes, "malformed");
    }
}

/* ---- invitations ----------------------------------------------------------------------------------------------- */

static void an_invitation_is_good_at_its_issuer(void **state) {
    (void)state;
    struct member_rules rules = rules_at(NOW);
    struct invitation i = an_invitation(), out;
    struct signed_bytes bytes = invited(world.key, &i);
    assert_int_equal(member_check_invitation(&rules, world.issuer, &bytes, &out, NULL), COROLLA_OK);
    assert_memory_equal(out.serial, i.serial, SERIAL_SIZE);
    assert_int_equal(out.role, COROLLA_ROLE_CLIENT);
    assert_int_equal(out.not_after_s, i.not_after_s);
}

static void an_invitation_is_refused_for_every_reason(void **state) {
    (void)state;
    struct revocations revoked = {.number = 1};
    struct member_rules rules = rules_at(NOW), late = rules_at(NOW + 60 + 600), over = rules_at(NOW + 61 + MEMBER_CLOCK_SLACK_S);
    struct invitation i = an_invitation(), out;
    struct signed_bytes good = invited(world.key, &i), forged = invited(world.other_key, &i);
    assert_not_invited(&rules, world.issuer, &(struct signed_bytes){0}, "malformed");
    assert_not_invited(&rules, world.issuer, &forged, "forged");
    assert_not_invited(&rules, world.stranger, &good, "take it to");
    assert_int_equal(member_check_invitation(&late, world.issuer, &good, &out, NULL), COROLLA_OK); /* a clock 10 minutes ahead */
    assert_not_invited(&over, world.issuer, &good, "expired");
    assert_int_equal(revocations_add(&revoked, i.serial, NULL), COROLLA_OK);
    rules.revoked = &revoked;
    assert_not_invited(&rules, world.issuer, &good, "revoked");
}

static void every_flipped_bit_or_cut_of_an_invitation_is_noticed(void **state) {
    (void)state;
    struct member_rules rules = rules_at(NOW);
    struct invitation i = an_invitation(), out;
    struct signed_bytes bytes = invited(world.key, &i), cut;
    for (uint32_t bit = 0; bit < bytes.size * 8; bit++) {
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(member_check_invitation(&rules, world.issuer, &bytes, &out, NULL), COROLLA_REFUSED);
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (cut = bytes, cut.size = 0; cut.size < bytes.size; cut.size++) assert_not_invited(&rules, world.issuer, &cut, "malformed");
}

/* ---- revocations ----------------------------------------------------------------------------------------------- */

static void a_list_goes_there_and_back_at_every_size(void **state) {
    (void)state;
    static struct revocations list, back;
    static uint8_t bytes[REVOCATIONS_BYTES_MAX];
    size_t size;
    memset(&list, 0, sizeof(list));
    for (unsigned n = 0; n <= REVOCATIONS_MAX; n++) {
        if (n > 0) {
            uint8_t serial[SERIAL_SIZE] = {(uint8_t)(n * 37), (uint8_t)(n >> 8), (uint8_t)n};
            assert_int_equal(revocations_add(&list, serial, NULL), COROLLA_OK);
            assert_int_equal(revocations_add(&list, serial, NULL), COROLLA_OK); /* twice is once */
        }
        assert_int_equal(list.n, n);
        if (n % 100 > 1 && n != REVOCATIONS_MAX) continue;
        list.number = n + 1;
        assert_int_equal(member_revoke(world.key, &list, bytes, &size, NULL), COROLLA_OK);
        assert_int_equal(member_check_revocations(world.swarm, bytes, size, &back, NULL), COROLLA_OK);
        assert_int_equal(back.number, list.number);
        assert_int_equal(back.n, n);
        assert_memory_equal(back.serials, list.serials, (size_t)n * SERIAL_SIZE);
    }
    struct corolla_error err;
    assert_int_equal(revocations_add(&list, (uint8_t[SERIAL_SIZE]){255, 255, 255}, &err), COROLLA_BUSY);
    assert_int_equal(list.n, REVOCATIONS_MAX);
}

static void a_list_that_the_swarm_did_not_sign_is_refused(void **state) {
    (void)state;
    struct revocations list = {.number = 3}, out;
    uint8_t bytes[REVOCATIONS_BYTES_MAX];
    size_t size;
    sample_bytes(list.serials[0], SERIAL_SIZE, 1);
    list.n = 1;
    assert_int_equal(member_revoke(world.other_key, &list, bytes, &size, NULL), COROLLA_OK);
    assert_int_equal(member_check_revocations(world.swarm, bytes, size, &out, NULL), COROLLA_REFUSED);
    assert_int_equal(member_revoke(world.key, &list, bytes, &size, NULL), COROLLA_OK);
    for (size_t cut = 0; cut < size; cut++) assert_int_not_equal(member_check_revocations(world.swarm, bytes, cut, &out, NULL), COROLLA_OK);
    for (size_t bit = 0; bit < size * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(member_check_revocations(world.swarm, bytes, size, &out, NULL), COROLLA_OK);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void a_signed_list_must_be_in_order_and_have_a_number(void **state) {
    (void)state;
    struct revocations list = {.number = 1, .n = 2}, out;
    uint8_t bytes[REVOCATIONS_BYTES_MAX];
    size_t size;
    list.serials[0][0] = 2;
    list.serials[1][0] = 1;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(member_revoke(world.key, &list, bytes, &size, NULL), COROLLA_OK);
        enum corolla_status status = member_check_revocations(world.swarm, bytes, size, &out, NULL);
        assert_int_equal(status, i == 2 ? COROLLA_OK : COROLLA_FORMAT);
        if (i == 0) list.serials[1][0] = 2; /* twice the same */
        if (i == 1) list.serials[1][0] = 3;
    }
    list.number = 0;
    assert_int_equal(member_revoke(world.key, &list, bytes, &size, NULL), COROLLA_OK);
    assert_int_equal(member_check_revocations(world.swarm, bytes, size, &out, NULL), COROLLA_FORMAT);
}

static struct revocations a_list(uint64_t number, const char *serials) {
    struct revocations list = {.number = number};
    for (; *serials; serials++) assert_int_equal(revocations_add(&list, (uint8_t[SERIAL_SIZE]){(uint8_t)*serials}, NULL), COROLLA_OK);
    return list;
}

static void the_union_of_two_lists_is_newer_than_what_differs_from_it(void **state) {
    (void)state;
    static const struct {
        uint64_t ours, theirs, united;
        const char *our_serials, *their_serials;
        uint32_t n;
    } cases[] = {
        {3, 3, 3, "ab", "ab", 2},  {3, 2, 3, "ab", "a", 2}, {2, 3, 3, "a", "ab", 2}, {3, 3, 4, "a", "b", 2},
        {3, 3, 4, "ab", "a", 2},   {3, 3, 4, "a", "ab", 2}, {5, 3, 6, "a", "b", 2},  {3, 5, 6, "a", "b", 2},
        {3, 5, 6, "abc", "ab", 3}, {0, 7, 7, "", "xyz", 3}, {5, 3, 6, "a", "ab", 2},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct revocations ours = a_list(cases[i].ours, cases[i].our_serials), theirs = a_list(cases[i].theirs, cases[i].their_serials);
        assert_int_equal(revocations_merge(&ours, &theirs, NULL), COROLLA_OK);
        if (ours.number != cases[i].united || ours.n != cases[i].n)
            fail_msg("case %zu: number %llu with %u serials", i, (unsigned long long)ours.number, ours.n);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_certificate_makes_its_node_a_member),
        cmocka_unit_test(the_same_certificate_is_signed_the_same),
        cmocka_unit_test(the_largest_certificate_fits_a_record),
        cmocka_unit_test(no_certificate_is_refused_with_what_to_do),
        cmocka_unit_test(a_certificate_of_another_swarm_is_refused),
        cmocka_unit_test(a_certificate_that_another_key_signed_is_refused),
        cmocka_unit_test(a_certificate_of_another_node_is_refused),
        cmocka_unit_test(a_certificate_ends_an_hour_after_its_end),
        cmocka_unit_test(a_revoked_certificate_is_refused),
        cmocka_unit_test(every_flipped_bit_of_a_certificate_is_noticed),
        cmocka_unit_test(every_cut_or_longer_certificate_is_refused),
        cmocka_unit_test(a_statement_of_one_kind_is_no_other),
        cmocka_unit_test(statements_are_signed_as_the_protocol_says),
        cmocka_unit_test(a_role_that_is_none_is_refused),
        cmocka_unit_test(an_invitation_is_good_at_its_issuer),
        cmocka_unit_test(an_invitation_is_refused_for_every_reason),
        cmocka_unit_test(every_flipped_bit_or_cut_of_an_invitation_is_noticed),
        cmocka_unit_test(a_list_goes_there_and_back_at_every_size),
        cmocka_unit_test(a_list_that_the_swarm_did_not_sign_is_refused),
        cmocka_unit_test(a_signed_list_must_be_in_order_and_have_a_number),
        cmocka_unit_test(the_union_of_two_lists_is_newer_than_what_differs_from_it),
    };
    return cmocka_run_group_tests(tests, make_world, free_world);
}
