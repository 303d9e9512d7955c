/* member_state.h - what the files behind membership.h share.
 *
 *   membership.c  opening: key, certificate, first contact
 *   admission.c   HELLO: what is shown, who is let in, what is issued
 *   revoked.c     links that are up: lists of revocations, and who is cut off
 */
#ifndef COROLLA_MESH_MEMBER_STATE_H
#define COROLLA_MESH_MEMBER_STATE_H

#include <time.h>

#include "mesh/members.h"
#include "mesh/membership.h"

/* A link whose HELLO was admitted, until it is down. */
struct member_link {
    struct member_link *next;
    struct link *link;
    bool guest;                 /* it came for a certificate, and nothing else */
    struct signed_bytes issued; /* guests */
    struct certificate certificate;
    uint64_t revocations; /* number of the list that it said it has */
};

struct membership {
    char home[DIR_PATH_MAX];
    uint8_t key[KEY_SIZE]; /* of this node */
    bool is_private;
    uint8_t swarm[KEY_SIZE];
    void *swarm_key; /* an issuer's; NULL: not one */
    struct signed_bytes certificate;
    struct certificate own; /* what it says */

    struct net *net;
    struct net_timer *timer;
    struct net_events inner; /* of whom we guard */
    struct member_link *links;

    struct revocations revoked;
    uint8_t revoked_bytes[REVOCATIONS_BYTES_MAX]; /* the same, signed */
    size_t revoked_size;
    struct timespec revoked_time; /* of the file when it was last read */
    uint64_t revoked_file;        /* its inode: it is replaced, never changed */
};

static inline uint64_t member_now_s(void) { return (uint64_t)time(NULL); }
static inline struct member_rules member_rules_of(const struct membership *m) {
    return (struct member_rules){.swarm = m->swarm, .revoked = &m->revoked, .now_s = member_now_s()};
}

/* admission.c */
void admission_greet(void *user, const struct link *link, struct msg_hello *ours);
enum corolla_status admission_admit(void *user, struct link *link, bool dialled, const struct msg_hello *theirs, struct corolla_error *err);
struct member_link *member_link_find(const struct membership *m, const struct link *link);

/* revoked.c */
void revoked_on_up(void *user, struct link *link);
void revoked_on_message(void *user, struct link *link, uint32_t stream, struct message *msg);
void revoked_on_down(void *user, struct link *link, enum corolla_status status, const char *why);
/* Each second: takes a newer list from the home, and cuts off whose certificate is void or ended. */
void revoked_tick(void *user);

#endif
