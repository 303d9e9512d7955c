/* enroll.c - see enroll.h. All of it happens in HELLO: ours carries the invitation, that of the node the certificate. The link is not
 * used for anything else. */
#include "mesh/enroll.h"

#include <time.h>

#include "base/err.h"
#include "base/mem.h"
#include "swarm/member.h"

struct enrolling {
    struct net *net;
    const struct identity *identity;
    const struct join_code *code;
    struct signed_bytes issued;
    struct corolla_error error; /* status OK: it worked */
};

static void greet(void *user, const struct link *link, struct msg_hello *ours) {
    const struct enrolling *e = user;
    (void)link;
    ours->invitation = e->code->invitation;
}

static enum corolla_status admit(void *user, struct link *link, bool dialled, const struct msg_hello *theirs, struct corolla_error *err) {
    struct enrolling *e = user;
    struct certificate certificate;
    (void)dialled; /* this net does not listen */
    struct member_rules rules = {.swarm = e->code->swarm, .now_s = (uint64_t)time(NULL)};
    enum corolla_status status =
        member_check(&rules, link_peer(link)->id.key, theirs->certificate.data, theirs->certificate.size, &certificate, err);
    if (status != COROLLA_OK) return err_prefix(err, status, "it is no member of the swarm of the join code");
    if (theirs->issued.size == 0) return err_set(err, COROLLA_REFUSED, "it gave us no certificate");
    status = member_check(&rules, identity_id(e->identity)->key, theirs->issued.data, theirs->issued.size, &certificate, err);
    if (status != COROLLA_OK) return err_prefix(err, status, "what it gave us is not good");
    e->issued = theirs->issued;
    return COROLLA_OK;
}

static void on_up(void *user, struct link *link) { (void)user, (void)link; }
static void on_down(void *user, struct link *link, enum corolla_status status, const char *why) {
    (void)user, (void)link, (void)status, (void)why;
}
static void on_message(void *user, struct link *link, uint32_t stream, struct message *msg) {
    struct enrolling *e = user;
    (void)link, (void)stream;
    net_body_free(e->net, msg->body);
}

static void on_dialled(void *user, struct link *link, const struct corolla_error *err) {
    struct enrolling *e = user;
    if (!link) e->error = *err;
    net_stop(e->net);
}

static void start(void *user) {
    struct enrolling *e = user;
    net_dial(e->net, &e->code->node, on_dialled, e);
}

enum corolla_status enroll(struct identity *identity, const struct join_code *code, uint32_t timeout_ms, struct signed_bytes *out,
                           struct corolla_error *err) {
    struct enrolling e = {.identity = identity, .code = code};
    struct net_config config;
    net_config_default(&config);
    config.identity = identity;
    config.dial_ms = timeout_ms;
    config.admission = (struct net_admission){.greet = greet, .admit = admit, .user = &e};
    config.events = (struct net_events){.on_up = on_up, .on_message = on_message, .on_down = on_down, .user = &e};
    enum corolla_status status = net_open(&e.net, &config, err);
    if (status != COROLLA_OK) return status;
    net_post(e.net, start, &e);
    net_run(e.net);
    net_close(e.net);
    if (e.error.status != COROLLA_OK) {
        if (err) *err = e.error;
        return err_prefix(err, e.error.status, "cannot join the private swarm");
    }
    *out = e.issued;
    return COROLLA_OK;
}
