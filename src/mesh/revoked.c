/* revoked.c - lists of revocations on the links of a private swarm: see membership.h.
 *
 * A list that is newer than ours is kept, told to all members but the one that sent it, and applied: the members that it names are told
 * before they are cut off. An issuer that knows of a revocation which the list lacks signs the union of both. Only a list that the
 * swarm's key did not sign counts against its sender.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "mesh/member_state.h"

/* ---- telling and cutting --------------------------------------------------------------------------------------- */

static void tell(const struct membership *m, struct link *link) {
    enum corolla_status status = link_send(link, link_stream_new(link), LINK_BULK, MSG_REVOKED, m->revoked_bytes, m->revoked_size, NULL);
    if (status != COROLLA_OK) log_debug("revocations_not_sent peer=%s status=%s", link_address(link), corolla_status_name(status));
}

static void cut_off(const struct membership *m) {
    uint64_t now_s = member_now_s();
    for (struct member_link *l = m->links; l; l = l->next) {
        if (l->guest) continue;
        if (revocations_has(&m->revoked, l->certificate.serial))
            link_close(l->link, COROLLA_REFUSED, "the certificate was revoked: ask the owner of the swarm");
        else if (member_ended(l->certificate.not_after_s, now_s))
            link_close(l->link, COROLLA_REFUSED, "the certificate has expired: ask the owner of the swarm for a new one");
    }
}

/* The list is ours from now on. from: who sent it, or NULL. */
static void adopt(struct membership *m, const struct revocations *list, const uint8_t *bytes, size_t size, const struct link *from) {
    m->revoked = *list;
    memcpy(m->revoked_bytes, bytes, size);
    m->revoked_size = size;
    log_info("revocations number=%llu certificates=%u", (unsigned long long)list->number, list->n);
    if (revocations_has(list, m->own.serial)) log_warn("this node's certificate was revoked: members of the swarm refuse it");
    for (struct member_link *l = m->links; l; l = l->next)
        if (!l->guest && l->link != from) tell(m, l->link);
    cut_off(m);
}

/* ---- the file of the home -------------------------------------------------------------------------------------- */

/* Takes the list of the home when another process wrote a newer one. */
static void look_at_file(struct membership *m) {
    char path[DIR_PATH_MAX];
    struct stat st;
    struct corolla_error err = {0};
    if (members_path(m->home, "revoked", path, NULL) != COROLLA_OK || stat(path, &st) != 0) return;
    if ((uint64_t)st.st_ino == m->revoked_file && memcmp(&st.st_mtim, &m->revoked_time, sizeof(m->revoked_time)) == 0) return;
    m->revoked_file = (uint64_t)st.st_ino;
    m->revoked_time = st.st_mtim;
    struct revocations list;
    uint8_t bytes[REVOCATIONS_BYTES_MAX];
    size_t size = 0;
    if (revoked_read(m->home, m->swarm, &list, bytes, &size, &err) != COROLLA_OK)
        log_warn("%s", err.message);
    else if (list.number > m->revoked.number)
        adopt(m, &list, bytes, size, NULL);
}

void revoked_tick(void *user) {
    struct membership *m = user;
    look_at_file(m);
    cut_off(m);
}

/* ---- lists from members ---------------------------------------------------------------------------------------- */

static void keep(struct membership *m, const struct revocations *list, const uint8_t *bytes, size_t size, const struct link *from) {
    struct corolla_error err = {0};
    if (revoked_write(m->home, bytes, size, &err) != COROLLA_OK) log_warn("the list of revocations is not kept: %s", err.message);
    adopt(m, list, bytes, size, from);
}

/* An issuer: what either list has is void. */
static void unite(struct membership *m, const struct revocations *list, const uint8_t *bytes, size_t size, const struct link *from) {
    struct revocations both = m->revoked;
    struct corolla_error err = {0};
    uint8_t own[REVOCATIONS_BYTES_MAX];
    size_t own_size = 0;
    enum corolla_status status = revocations_merge(&both, list, &err);
    if (status == COROLLA_OK && both.number == m->revoked.number) return; /* nothing new */
    if (status == COROLLA_OK && both.number == list->number) {
        keep(m, list, bytes, size, from);
        return;
    }
    if (status == COROLLA_OK) status = member_revoke(m->swarm_key, &both, own, &own_size, &err);
    if (status == COROLLA_OK)
        keep(m, &both, own, own_size, NULL);
    else
        log_warn("the lists of revocations do not go together: %s", err.message);
}

static enum corolla_status take_list(struct membership *m, struct link *link, const struct message *msg, struct corolla_error *err) {
    struct revocations list;
    int lock = -1;
    if (msg->header_size == m->revoked_size && memcmp(msg->header, m->revoked_bytes, m->revoked_size) == 0) return COROLLA_OK;
    enum corolla_status status = member_check_revocations(m->swarm, msg->header, msg->header_size, &list, err);
    if (status != COROLLA_OK || members_lock(m->home, &lock, NULL) != COROLLA_OK) return status;
    look_at_file(m);
    if (m->swarm_key)
        unite(m, &list, msg->header, msg->header_size, link);
    else if (list.number > m->revoked.number)
        keep(m, &list, msg->header, msg->header_size, link);
    close(lock);
    return COROLLA_OK;
}

/* ---- events ---------------------------------------------------------------------------------------------------- */

void revoked_on_up(void *user, struct link *link) {
    struct membership *m = user;
    const struct member_link *l = member_link_find(m, link);
    if (l->guest) {
        link_close(link, COROLLA_OK, "come back with your certificate");
        return;
    }
    if (m->revoked.number > l->revocations) tell(m, link);
    m->inner.on_up(m->inner.user, link);
}

void revoked_on_message(void *user, struct link *link, uint32_t stream, struct message *msg) {
    struct membership *m = user;
    struct corolla_error err = {0};
    if (msg->kind != MSG_REVOKED) {
        m->inner.on_message(m->inner.user, link, stream, msg);
        return;
    }
    if (take_list(m, link, msg, &err) != COROLLA_OK) link_close(link, COROLLA_PEER_FAULT, err.message);
    net_body_free(m->net, msg->body);
    msg->body = NULL;
}

void revoked_on_down(void *user, struct link *link, enum corolla_status status, const char *why) {
    struct membership *m = user;
    struct member_link **at = &m->links;
    while ((*at)->link != link) at = &(*at)->next; /* it was admitted, or it would not have been up */
    struct member_link *l = *at;
    *at = l->next;
    if (!l->guest) m->inner.on_down(m->inner.user, link, status, why);
    free(l);
}
