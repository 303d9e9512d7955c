/* admission.c - HELLO in a private swarm: see membership.h.
 *
 * Whatever a stranger sends costs a signature check, and at an issuer one look into a small file. Only a valid invitation that is used
 * for the first time writes one.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "mesh/member_state.h"

struct member_link *member_link_find(const struct membership *m, const struct link *link) {
    struct member_link *l = m->links;
    while (l && l->link != link) l = l->next;
    return l;
}

void admission_greet(void *user, const struct link *link, struct msg_hello *ours) {
    const struct membership *m = user;
    const struct member_link *l = member_link_find(m, link);
    ours->certificate = m->certificate;
    ours->revocations = m->revoked.number;
    if (l && l->guest) ours->issued = l->issued;
}

/* ---- issuing --------------------------------------------------------------------------------------------------- */

static enum corolla_status issue(const struct membership *m, const struct member *member, struct signed_bytes *out,
                                 struct corolla_error *err) {
    struct certificate c = {.role = member->role, .not_after_s = member->not_after_s};
    memcpy(c.swarm, m->swarm, KEY_SIZE);
    memcpy(c.member, member->key, KEY_SIZE);
    memcpy(c.serial, member->serial, SERIAL_SIZE);
    return member_issue(m->swarm_key, &c, out, err);
}

/* Finds or makes the entry of an invitation. The lock is held. */
static enum corolla_status use_invitation(const struct membership *m, const uint8_t key[KEY_SIZE], const struct invitation *invitation,
                                          struct members *members, struct corolla_error *err) {
    struct member member = {.role = invitation->role};
    enum corolla_status status = members_read(m->home, members, err);
    if (status != COROLLA_OK) return status;
    const struct member *used = members_find_serial(members, invitation->serial);
    if (used && memcmp(used->key, key, KEY_SIZE) == 0) return COROLLA_OK; /* it did not get our answer: it gets it again */
    if (used) return err_set(err, COROLLA_REFUSED, "the invitation was used by another node: ask the owner of the swarm for a new one");
    memcpy(member.key, key, KEY_SIZE);
    memcpy(member.serial, invitation->serial, SERIAL_SIZE);
    status = members_add(members, &member, err);
    return status == COROLLA_OK ? members_write(m->home, members, err) : status;
}

static enum corolla_status redeem(const struct membership *m, const uint8_t key[KEY_SIZE], const struct signed_bytes *shown,
                                  struct members *members, struct signed_bytes *out, struct corolla_error *err) {
    struct member_rules rules = member_rules_of(m);
    struct invitation invitation;
    int lock = -1;
    enum corolla_status status = member_check_invitation(&rules, m->key, shown, &invitation, err);
    if (status != COROLLA_OK) return status;
    if (!m->swarm_key) return err_set(err, COROLLA_REFUSED, "this node has no key of the swarm any more, and cannot take invitations");
    status = members_lock(m->home, &lock, err);
    if (status != COROLLA_OK) return status;
    status = use_invitation(m, key, &invitation, members, err);
    close(lock);
    return status == COROLLA_OK ? issue(m, members_find_serial(members, invitation.serial), out, err) : status;
}

/* The owner may have allowed the key without an invitation. */
static enum corolla_status issue_to_allowed(const struct membership *m, const uint8_t key[KEY_SIZE], struct members *members,
                                            struct signed_bytes *out, struct corolla_error *err) {
    enum corolla_status status = m->swarm_key ? members_read(m->home, members, err) : COROLLA_OK;
    if (status != COROLLA_OK) return status;
    const struct member *member = m->swarm_key ? members_find_key(members, key) : NULL;
    if (!member) {
        char hex[2 * KEY_SIZE + 1];
        hex_encode(key, KEY_SIZE, hex);
        return err_set(err, COROLLA_REFUSED, "this swarm is private: ask its owner for an invitation, or to allow %s", hex);
    }
    if (member_ended(member->not_after_s, member_now_s()))
        return err_set(err, COROLLA_REFUSED, "the certificate has expired: ask the owner of the swarm for a new one");
    return issue(m, member, out, err);
}

static enum corolla_status admit_stranger(const struct membership *m, const uint8_t key[KEY_SIZE], const struct signed_bytes *invitation,
                                          struct signed_bytes *out, struct corolla_error *err) {
    struct members *members = malloc(sizeof(*members));
    if (!members) return err_set(err, COROLLA_BUSY, "this node is out of memory");
    enum corolla_status status =
        invitation->size > 0 ? redeem(m, key, invitation, members, out, err) : issue_to_allowed(m, key, members, out, err);
    free(members);
    return status;
}

/* ---- admitting ------------------------------------------------------------------------------------------------- */

static enum corolla_status admit_member(const struct membership *m, const uint8_t key[KEY_SIZE], bool hosts, const struct msg_hello *theirs,
                                        struct certificate *out, struct corolla_error *err) {
    struct member_rules rules = member_rules_of(m);
    enum corolla_status status = member_check(&rules, key, theirs->certificate.data, theirs->certificate.size, out, err);
    if (status == COROLLA_OK && hosts && out->role != COROLLA_ROLE_SERVER)
        return err_set(err, COROLLA_REFUSED,
                       "the certificate is for a client, and does not allow to serve: ask for one with --role server");
    return status;
}

enum corolla_status admission_admit(void *user, struct link *link, bool dialled, const struct msg_hello *theirs,
                                    struct corolla_error *err) {
    struct membership *m = user;
    const uint8_t *key = link_peer(link)->id.key;
    struct member_link *l = calloc(1, sizeof(*l));
    if (!l) return err_set(err, COROLLA_BUSY, "this node is out of memory");
    l->link = link;
    l->revocations = theirs->revocations;
    l->guest = !dialled && theirs->certificate.size == 0;
    enum corolla_status status = l->guest ? admit_stranger(m, key, &theirs->invitation, &l->issued, err)
                                          : admit_member(m, key, dialled || theirs->n_addrs > 0, theirs, &l->certificate, err);
    if (status != COROLLA_OK) {
        free(l);
        log_debug("refused peer=%s dialled=%d", link_address(link), dialled);
        return status;
    }
    if (l->guest) log_info("certificate_issued peer=%s", link_address(link));
    l->next = m->links;
    m->links = l;
    return COROLLA_OK;
}
