/* test_membership.c - nodes of a private swarm in one process: first contact, who links to whom, revocations, and the files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "crypto/keyfile.h"
#include "mesh/members.h"
#include "mesh/membership.h"
#include "support/net_node.h"
#include "support/net_raw.h"

#define ENROLL_MS 10000

/* A node with its membership. */
struct party {
    struct node node;
    struct net_config config;
    struct membership *membership;
    struct corolla_owner owner; /* of the home */
};

static void prepare(struct party *p) {
    memset(p, 0, sizeof(*p));
    node_prepare(&p->node, &p->config);
    p->owner.home = p->node.home;
}

static enum corolla_status open_membership(struct party *p, enum corolla_role role, const char *code, struct corolla_error *err) {
    struct membership_config config = {
        .identity = p->node.identity, .home = p->node.home, .joins = &code, .n_joins = code ? 1 : 0, .role = role, .timeout_ms = ENROLL_MS};
    return membership_open(&p->membership, &config, err);
}

static void start_membership(void *user) {
    struct party *p = user;
    assert_int_equal(membership_start(p->membership, p->node.net, NULL), COROLLA_OK);
}

static void start(struct party *p) {
    membership_guard(p->membership, &p->config);
    node_start(&p->node, &p->config);
    node_do(&p->node, start_membership, p);
}

static void join_code(const struct party *p, char out[JOIN_CODE_MAX]) { membership_join_code(p->membership, net_self(p->node.net), out); }

/* The owner of a new swarm, running. */
static void start_owner(struct party *p) {
    char hex[65], code[JOIN_CODE_MAX];
    prepare(p);
    assert_int_equal(corolla_key_new_swarm(&p->owner, hex, NULL), COROLLA_OK);
    assert_int_equal(open_membership(p, COROLLA_ROLE_SERVER, NULL, NULL), COROLLA_OK);
    start(p);
    join_code(p, code); /* which is kept for invitations */
}

static void invite(const struct party *owner, enum corolla_role role, char out[JOIN_CODE_MAX]) {
    struct corolla_invitation invitation = {.role = role, .expires_s = 60};
    struct corolla_error err = {0};
    if (corolla_key_invite(&owner->owner, &invitation, out, &err) != COROLLA_OK) fail_msg("%s", err.message);
}

/* Invited by the owner, and running; a client does not listen. */
static void start_member(struct party *p, const struct party *owner, enum corolla_role role) {
    char code[JOIN_CODE_MAX];
    struct corolla_error err = {0};
    invite(owner, role, code);
    prepare(p);
    if (role == COROLLA_ROLE_CLIENT) p->config.listen = NULL;
    if (open_membership(p, role, code, &err) != COROLLA_OK) fail_msg("%s", err.message);
    start(p);
}

static void stop(struct party *p) {
    node_stop(&p->node);
    membership_close(p->membership);
}

static void link_both(struct party *a, struct party *b) {
    struct corolla_error err = {0};
    if (!node_dial(&a->node, net_self(b->node.net), &err)) fail_msg("%s", err.message);
    node_wait_ups(&b->node, 1);
}

static void assert_refused(struct party *a, struct party *b, const char *word) {
    struct corolla_error err = {0};
    assert_null(node_dial(&a->node, net_self(b->node.net), &err));
    assert_int_equal(err.status, COROLLA_REFUSED);
    if (!strstr(err.message, word)) fail_msg("\"%s\" does not say \"%s\"", err.message, word);
}

static void assert_not_let_in(struct party *p, enum corolla_role role, const char *code, const char *word) {
    struct corolla_error err = {0};
    assert_int_equal(open_membership(p, role, code, &err), COROLLA_REFUSED);
    if (!strstr(err.message, word)) fail_msg("\"%s\" does not say \"%s\"", err.message, word);
    assert_null(p->membership);
}

static void key_of(const struct party *p, char out[65]) { hex_encode(identity_id(p->node.identity)->key, KEY_SIZE, out); }

static void put_out(const struct party *owner, const struct party *member) {
    char hex[65];
    struct corolla_error err = {0};
    key_of(member, hex);
    if (corolla_key_revoke(&owner->owner, hex, &err) != COROLLA_OK) fail_msg("%s", err.message);
}

/* ---- first contact --------------------------------------------------------------------------------------------- */

static void an_invited_node_gets_a_certificate_and_links_to_members(void **state) {
    (void)state;
    struct party owner, server, client;
    start_owner(&owner);
    start_member(&server, &owner, COROLLA_ROLE_SERVER);
    start_member(&client, &owner, COROLLA_ROLE_CLIENT);
    assert_int_equal(owner.node.ups, 0); /* the contacts were for certificates: what is behind the guard saw none of them */
    link_both(&client, &server);
    link_both(&server, &owner);
    struct corolla_error err = {0};
    assert_non_null(node_dial(&client.node, net_self(owner.node.net), &err));
    stop(&client);
    stop(&server);
    stop(&owner);
}

static void the_same_node_gets_its_certificate_again_and_another_does_not(void **state) {
    (void)state;
    struct party owner, first, second;
    char code[JOIN_CODE_MAX];
    struct signed_bytes before;
    start_owner(&owner);
    invite(&owner, COROLLA_ROLE_CLIENT, code);
    prepare(&first);
    prepare(&second);
    assert_int_equal(open_membership(&first, COROLLA_ROLE_CLIENT, code, NULL), COROLLA_OK);
    before = *membership_certificate(first.membership);
    membership_close(first.membership);
    char path[DIR_PATH_MAX];
    assert_int_equal(members_path(first.node.home, "membership", path, NULL), COROLLA_OK);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(open_membership(&first, COROLLA_ROLE_CLIENT, code, NULL), COROLLA_OK);
    assert_memory_equal(membership_certificate(first.membership)->data, before.data, before.size);
    assert_not_let_in(&second, COROLLA_ROLE_CLIENT, code, "used by another node");
    stop(&first);
    stop(&second);
    stop(&owner);
}

static void an_allowed_key_is_enough_and_no_other(void **state) {
    (void)state;
    struct party owner, node, stranger;
    struct corolla_member member = {.role = COROLLA_ROLE_SERVER};
    char code[JOIN_CODE_MAX];
    start_owner(&owner);
    join_code(&owner, code);
    prepare(&node);
    prepare(&stranger);
    key_of(&node, member.node);
    assert_not_let_in(&node, COROLLA_ROLE_SERVER, code, member.node);
    assert_int_equal(corolla_key_allow(&owner.owner, &member, NULL), COROLLA_OK);
    assert_int_equal(open_membership(&node, COROLLA_ROLE_SERVER, code, NULL), COROLLA_OK);
    assert_not_let_in(&stranger, COROLLA_ROLE_CLIENT, code, "private");
    stop(&node);
    stop(&stranger);
    stop(&owner);
}

static void a_client_s_certificate_does_not_open_a_server(void **state) {
    (void)state;
    struct party owner, node;
    char code[JOIN_CODE_MAX];
    start_owner(&owner);
    invite(&owner, COROLLA_ROLE_CLIENT, code);
    prepare(&node);
    assert_not_let_in(&node, COROLLA_ROLE_SERVER, code, "--role server");
    stop(&node);
    stop(&owner);
}

static void a_later_role_replaces_the_one_before(void **state) {
    (void)state;
    struct party owner, node;
    struct corolla_member member = {.role = COROLLA_ROLE_SERVER};
    char code[JOIN_CODE_MAX];
    start_owner(&owner);
    start_member(&node, &owner, COROLLA_ROLE_CLIENT);
    join_code(&owner, code);
    struct corolla_error err = {0};
    assert_non_null(node_dial(&node.node, net_self(owner.node.net), &err));
    key_of(&node, member.node);
    assert_int_equal(corolla_key_allow(&owner.owner, &member, NULL), COROLLA_OK);
    node_wait_downs(&node.node, 1);              /* told that the old one is void */
    struct membership *before = node.membership; /* the running node's */
    node.membership = NULL;
    assert_int_equal(open_membership(&node, COROLLA_ROLE_SERVER, code, &err), COROLLA_OK);
    stop(&node);
    membership_close(before);
    stop(&owner);
}

/* ---- links ----------------------------------------------------------------------------------------------------- */

static void open_and_private_nodes_refuse_each_other(void **state) {
    (void)state;
    struct party owner, open;
    start_owner(&owner);
    prepare(&open);
    assert_int_equal(open_membership(&open, COROLLA_ROLE_SERVER, NULL, NULL), COROLLA_OK);
    start(&open);
    assert_refused(&open, &owner, "private");
    assert_int_equal(open.node.ups, 0); /* it never looked like a link */
    assert_refused(&owner, &open, "private");
    assert_int_equal(owner.node.ups, 0);
    stop(&open);
    stop(&owner);
}

static void members_of_two_swarms_refuse_each_other(void **state) {
    (void)state;
    struct party a, b;
    start_owner(&a);
    start_owner(&b);
    assert_refused(&a, &b, "another private swarm");
    assert_int_equal(b.node.ups, 0);
    stop(&a);
    stop(&b);
}

static void a_client_that_listens_is_refused_as_dialler_and_as_dialled(void **state) {
    (void)state;
    struct party owner, node;
    char code[JOIN_CODE_MAX];
    start_owner(&owner);
    invite(&owner, COROLLA_ROLE_CLIENT, code);
    prepare(&node); /* it listens */
    assert_int_equal(open_membership(&node, COROLLA_ROLE_CLIENT, code, NULL), COROLLA_OK);
    start(&node);
    assert_refused(&node, &owner, "does not allow to serve");
    assert_refused(&owner, &node, "does not allow to serve");
    stop(&node);
    stop(&owner);
}

static void a_certificate_of_another_home_is_of_no_use(void **state) {
    (void)state;
    struct party owner, node, thief;
    struct signed_bytes certificate;
    start_owner(&owner);
    start_member(&node, &owner, COROLLA_ROLE_SERVER);
    prepare(&thief);
    assert_int_equal(certificate_read(node.node.home, &certificate, NULL), COROLLA_OK);
    assert_int_equal(certificate_write(thief.node.home, &certificate, NULL), COROLLA_OK);
    assert_not_let_in(&thief, COROLLA_ROLE_SERVER, NULL, "another node");
    stop(&thief);
    stop(&node);
    stop(&owner);
}

static void records_are_checked_by_the_certificate_they_carry(void **state) {
    (void)state;
    struct party owner, server, client, open;
    struct corolla_error err = {0};
    start_owner(&owner);
    start_member(&server, &owner, COROLLA_ROLE_SERVER);
    start_member(&client, &owner, COROLLA_ROLE_CLIENT);
    prepare(&open);
    assert_int_equal(open_membership(&open, COROLLA_ROLE_SERVER, NULL, NULL), COROLLA_OK);
    const uint8_t *key = identity_id(server.node.identity)->key, *client_key = identity_id(client.node.identity)->key;
    const struct signed_bytes *good = membership_certificate(server.membership), *none = membership_certificate(open.membership);
    assert_int_equal(none->size, 0);
    assert_int_equal(membership_check_server(owner.membership, key, good, &err), COROLLA_OK);
    assert_int_equal(membership_check_server(client.membership, key, good, &err), COROLLA_OK);
    assert_int_equal(membership_check_server(owner.membership, client_key, good, &err), COROLLA_REFUSED);
    assert_int_equal(membership_check_server(owner.membership, client_key, membership_certificate(client.membership), &err),
                     COROLLA_REFUSED);
    assert_int_equal(membership_check_server(owner.membership, key, none, &err), COROLLA_REFUSED);
    assert_int_equal(membership_check_server(open.membership, key, none, &err), COROLLA_OK);
    stop(&open);
    stop(&client);
    stop(&server);
    stop(&owner);
}

static struct raw *greet_raw(const struct party *p, const struct msg_hello *hello) {
    uint8_t payload[MSG_HEADER_MAX];
    struct raw *raw = raw_tls(raw_connect(node_port(&p->node)), RAW_ED25519, "corolla/1", 0);
    assert_non_null(raw);
    assert_true(raw_frame(raw, FRAME_HELLO, 0, 0, payload, msg_hello_encode(hello, payload)));
    return raw;
}

static void a_stranger_sees_nothing_but_the_refusal(void **state) {
    (void)state;
    struct party owner;
    static uint8_t payload[FRAME_PAYLOAD_MAX];
    struct frame_header frame;
    start_owner(&owner);
    struct msg_hello hello = {.version_min = 1, .version_max = 1, .agent = "raw"};
    for (uint32_t i = 0; i < 12; i++) { /* nothing, junk as a certificate, junk as an invitation */
        memset(hello.certificate.data, (int)(i * 10), SIGNED_MAX);
        hello.certificate.size = i % 3 == 1 ? i * 18 : 0;
        hello.invitation = hello.certificate;
        hello.invitation.size = i % 3 == 2 ? i * 18 : 0;
        struct raw *raw = greet_raw(&owner, &hello);
        assert_true(raw_read_frame(raw, &frame, payload));
        assert_int_equal(frame.type, FRAME_GOODBYE);
        assert_int_equal(le16_get(payload), COROLLA_REFUSED);
        raw_free(raw);
    }
    assert_int_equal(owner.node.ups, 0);
    stop(&owner);
}

static void a_guest_gets_its_certificate_and_nothing_else(void **state) {
    (void)state;
    struct party owner;
    static uint8_t payload[FRAME_PAYLOAD_MAX];
    struct frame_header frame;
    struct join_code code;
    struct msg_hello hello = {.version_min = 1, .version_max = 1, .agent = "raw"}, theirs;
    char text[JOIN_CODE_MAX];
    start_owner(&owner);
    invite(&owner, COROLLA_ROLE_SERVER, text);
    assert_int_equal(join_code_decode(text, &code, NULL), COROLLA_OK);
    hello.invitation = code.invitation;
    struct raw *raw = greet_raw(&owner, &hello);
    (void)raw_first(raw, 1, FRAME_LAST, 0, 0, 8); /* a message at once */
    assert_true(raw_read_frame(raw, &frame, payload));
    assert_int_equal(frame.type, FRAME_HELLO);
    assert_int_equal(msg_hello_decode(payload, frame.size, &theirs, NULL), COROLLA_OK);
    assert_true(theirs.issued.size > 0 && theirs.certificate.size > 0);
    assert_int_equal(raw_goodbye(raw, NULL), COROLLA_OK);
    raw_free(raw);
    assert_int_equal(owner.node.ups, 0);
    assert_int_equal(owner.node.messages, 0);
    stop(&owner);
}

/* ---- revocations ----------------------------------------------------------------------------------------------- */

static bool has_list(const struct party *p) {
    char path[DIR_PATH_MAX];
    struct stat st;
    return members_path(p->node.home, "revoked", path, NULL) == COROLLA_OK && stat(path, &st) == 0;
}

static void a_revocation_reaches_members_that_the_owner_does_not_know(void **state) {
    (void)state;
    struct party owner, middle, far, bad;
    start_owner(&owner);
    start_member(&middle, &owner, COROLLA_ROLE_SERVER);
    start_member(&far, &owner, COROLLA_ROLE_SERVER);
    start_member(&bad, &owner, COROLLA_ROLE_SERVER);
    link_both(&owner, &middle);
    link_both(&far, &middle); /* middle: 2 links */
    link_both(&bad, &far);    /* far: 2 links; the owner has no link to bad */
    put_out(&owner, &bad);
    node_wait_downs(&bad.node, 1);
    node_wait_downs(&far.node, 1);
    assert_int_equal(middle.node.downs, 0);
    assert_true(has_list(&middle) && has_list(&far) && has_list(&bad)); /* who is put out is told before */
    assert_refused(&bad, &far, "revoked");
    assert_refused(&bad, &middle, "revoked");
    assert_refused(&far, &bad, "revoked"); /* both sides check */
    stop(&bad);
    stop(&far);
    stop(&middle);
    stop(&owner);
}

/* A second issuer: what makes an owner of a home is in files. */
static void start_second_owner(struct party *p, const struct party *owner) {
    static const char *const files[] = {"swarm.pem", "revoked"};
    char from[DIR_PATH_MAX], to[DIR_PATH_MAX], bytes[1024];
    size_t size;
    prepare(p);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        assert_int_equal(members_path(owner->node.home, files[i], from, NULL), COROLLA_OK);
        assert_int_equal(members_path(p->node.home, files[i], to, NULL), COROLLA_OK);
        if (dirs_read_file(from, false, bytes, sizeof(bytes), &size, NULL) != COROLLA_OK) continue;
        assert_int_equal(dirs_write_file(to, bytes, size, 0600, NULL), COROLLA_OK);
    }
    assert_int_equal(open_membership(p, COROLLA_ROLE_SERVER, NULL, NULL), COROLLA_OK);
    start(p);
    join_code(p, bytes);
}

static void who_was_away_is_told_when_it_links(void **state) {
    (void)state;
    struct party owner, later, away, bad;
    start_owner(&owner);
    start_member(&away, &owner, COROLLA_ROLE_SERVER);
    start_member(&bad, &owner, COROLLA_ROLE_SERVER);
    link_both(&bad, &away);
    put_out(&owner, &bad);
    start_second_owner(&later, &owner); /* it starts with the list */
    assert_int_equal(away.node.downs, 0);
    link_both(&away, &later);
    node_wait_downs(&away.node, 1);
    assert_true(has_list(&away));
    stop(&bad);
    stop(&away);
    stop(&later);
    stop(&owner);
}

static void a_member_that_was_put_out_can_be_invited_anew(void **state) {
    (void)state;
    struct party owner, node;
    char code[JOIN_CODE_MAX];
    struct corolla_error err = {0};
    start_owner(&owner);
    start_member(&node, &owner, COROLLA_ROLE_SERVER);
    link_both(&node, &owner);
    put_out(&owner, &node);
    node_wait_downs(&node.node, 1);
    struct membership *before = node.membership; /* the running node's */
    node.membership = NULL;
    assert_not_let_in(&node, COROLLA_ROLE_SERVER, NULL, "revoked");
    join_code(&owner, code);
    assert_not_let_in(&node, COROLLA_ROLE_SERVER, code, "revoked"); /* not just: ask for an invitation */
    invite(&owner, COROLLA_ROLE_SERVER, code);
    if (open_membership(&node, COROLLA_ROLE_SERVER, code, &err) != COROLLA_OK) fail_msg("%s", err.message);
    stop(&node);
    membership_close(before);
    stop(&owner);
}

struct telling {
    struct link *link;
    const uint8_t *bytes;
    size_t size;
};
static void tell(void *user) {
    struct telling *t = user;
    assert_int_equal(link_send(t->link, link_stream_new(t->link), LINK_BULK, MSG_REVOKED, t->bytes, t->size, NULL), COROLLA_OK);
}

static void a_list_that_is_forged_costs_its_sender_the_link(void **state) {
    (void)state;
    struct party owner, node;
    struct revocations list = {.number = UINT64_MAX, .n = 1};
    uint8_t bytes[REVOCATIONS_BYTES_MAX];
    struct corolla_error err = {0};
    void *key = NULL;
    char path[DIR_PATH_MAX];
    start_owner(&owner);
    start_member(&node, &owner, COROLLA_ROLE_SERVER);
    assert_int_equal(members_path(node.node.home, "forger.pem", path, NULL), COROLLA_OK);
    assert_int_equal(keyfile_make(path, &key, NULL), COROLLA_OK);
    struct telling t = {.bytes = bytes, .link = node_dial(&node.node, net_self(owner.node.net), &err)};
    assert_non_null(t.link);
    assert_int_equal(member_revoke(key, &list, bytes, &t.size, NULL), COROLLA_OK);
    node_do(&node.node, tell, &t);
    node_wait_downs(&node.node, 1);
    assert_non_null(strstr(node.node.down_why, "PEER_FAULT"));
    assert_false(has_list(&owner));
    keyfile_free(key);
    stop(&node);
    stop(&owner);
}

/* The same key in two homes, each of which revoked somebody else: both learn of both. */
static void lists_of_two_issuers_unite(void **state) {
    (void)state;
    struct party a, b, one, two;
    start_owner(&a);
    start_second_owner(&b, &a);
    start_member(&one, &a, COROLLA_ROLE_SERVER);
    start_member(&two, &b, COROLLA_ROLE_SERVER);
    struct corolla_error err = {0};
    assert_non_null(node_dial(&one.node, net_self(b.node.net), &err));
    assert_non_null(node_dial(&two.node, net_self(a.node.net), &err));
    put_out(&a, &one);
    put_out(&b, &two);
    assert_non_null(node_dial(&a.node, net_self(b.node.net), &err));
    node_wait_downs(&one.node, 1); /* by b */
    node_wait_downs(&two.node, 1); /* by a */
    stop(&two);
    stop(&one);
    stop(&b);
    stop(&a);
}

/* ---- files ----------------------------------------------------------------------------------------------------- */

static void the_list_of_members_goes_there_and_back_and_damage_is_named(void **state) {
    (void)state;
    struct party p;
    static struct members members, back;
    char path[DIR_PATH_MAX];
    struct corolla_error err = {0};
    prepare(&p);
    assert_int_equal(members_read(p.node.home, &back, NULL), COROLLA_OK);
    assert_int_equal(back.n, 0);
    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        struct member member = {.role = i % 2 ? COROLLA_ROLE_SERVER : COROLLA_ROLE_CLIENT, .not_after_s = i % 3 ? UINT64_MAX - i : 0};
        le32_put(member.key, i / 2);
        le32_put(member.serial, i);
        assert_int_equal(members_add(&members, &member, NULL), COROLLA_OK);
    }
    assert_int_equal(members_add(&members, &(struct member){0}, &err), COROLLA_BUSY);
    assert_int_equal(members_write(p.node.home, &members, NULL), COROLLA_OK);
    assert_int_equal(members_read(p.node.home, &back, NULL), COROLLA_OK);
    assert_int_equal(back.n, MEMBERS_MAX);
    assert_memory_equal(back.list, members.list, sizeof(back.list));
    assert_ptr_equal(members_find_key(&back, back.list[10].key), &back.list[11]); /* the newest */
    assert_ptr_equal(members_find_serial(&back, back.list[10].serial), &back.list[10]);
    assert_int_equal(members_path(p.node.home, "members", path, NULL), COROLLA_OK);
    static const char *const damaged[] = {"x", "00 client 00 0\n", "zz", " ", "a b c d e f g\n"};
    for (size_t i = 0; i < sizeof(damaged) / sizeof(damaged[0]); i++) {
        assert_int_equal(dirs_write_file(path, damaged[i], strlen(damaged[i]), 0600, NULL), COROLLA_OK);
        assert_int_equal(members_read(p.node.home, &back, &err), COROLLA_FORMAT);
        assert_non_null(strstr(err.message, "line 1"));
    }
    stop(&p);
}

static void a_damaged_membership_or_list_is_named(void **state) {
    (void)state;
    struct party p;
    char path[DIR_PATH_MAX], hex[65];
    struct corolla_error err = {0};
    prepare(&p);
    assert_int_equal(members_path(p.node.home, "membership", path, NULL), COROLLA_OK);
    assert_int_equal(dirs_write_file(path, "0011\n", 5, 0600, NULL), COROLLA_OK);
    assert_not_let_in(&p, COROLLA_ROLE_CLIENT, NULL, "membership");
    assert_int_equal(dirs_write_file(path, "hello\n", 6, 0600, NULL), COROLLA_OK);
    assert_int_equal(open_membership(&p, COROLLA_ROLE_CLIENT, NULL, &err), COROLLA_FORMAT);
    assert_int_equal(corolla_key_new_swarm(&p.owner, hex, NULL), COROLLA_OK);
    assert_int_equal(members_path(p.node.home, "revoked", path, NULL), COROLLA_OK);
    assert_int_equal(dirs_write_file(path, "hello\n", 6, 0600, NULL), COROLLA_OK);
    assert_int_equal(open_membership(&p, COROLLA_ROLE_CLIENT, NULL, &err), COROLLA_FORMAT);
    assert_non_null(strstr(err.message, "revoked"));
    stop(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_invited_node_gets_a_certificate_and_links_to_members),
        cmocka_unit_test(the_same_node_gets_its_certificate_again_and_another_does_not),
        cmocka_unit_test(an_allowed_key_is_enough_and_no_other),
        cmocka_unit_test(a_client_s_certificate_does_not_open_a_server),
        cmocka_unit_test(a_later_role_replaces_the_one_before),
        cmocka_unit_test(open_and_private_nodes_refuse_each_other),
        cmocka_unit_test(members_of_two_swarms_refuse_each_other),
        cmocka_unit_test(a_client_that_listens_is_refused_as_dialler_and_as_dialled),
        cmocka_unit_test(a_certificate_of_another_home_is_of_no_use),
        cmocka_unit_test(records_are_checked_by_the_certificate_they_carry),
        cmocka_unit_test(a_stranger_sees_nothing_but_the_refusal),
        cmocka_unit_test(a_guest_gets_its_certificate_and_nothing_else),
        cmocka_unit_test(a_revocation_reaches_members_that_the_owner_does_not_know),
        cmocka_unit_test(who_was_away_is_told_when_it_links),
        cmocka_unit_test(a_member_that_was_put_out_can_be_invited_anew),
        cmocka_unit_test(a_list_that_is_forged_costs_its_sender_the_link),
        cmocka_unit_test(lists_of_two_issuers_unite),
        cmocka_unit_test(the_list_of_members_goes_there_and_back_and_damage_is_named),
        cmocka_unit_test(a_damaged_membership_or_list_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
