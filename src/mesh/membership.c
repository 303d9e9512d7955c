/* membership.c - see membership.h: opening, and what others ask of it. */
#include "mesh/membership.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "crypto/digest.h"
#include "crypto/keyfile.h"
#include "mesh/enroll.h"
#include "mesh/entry.h"
#include "mesh/member_state.h"

#define TICK_MS 1000 /* how soon a revocation that was written into the home counts */

/* ---- what the home holds --------------------------------------------------------------------------------------- */

/* An issuer's certificate is its own work; its serial is known from its key, so that it is the same at each start. */
static enum corolla_status certify_self(struct membership *m, struct corolla_error *err) {
    uint8_t hash[DIGEST_SIZE];
    digest_once(m->key, KEY_SIZE, hash);
    m->own = (struct certificate){.role = COROLLA_ROLE_SERVER};
    memcpy(m->own.swarm, m->swarm, KEY_SIZE);
    memcpy(m->own.member, m->key, KEY_SIZE);
    memcpy(m->own.serial, hash, SERIAL_SIZE);
    return member_issue(m->swarm_key, &m->own, &m->certificate, err);
}

/* Makes an issuer of us, when there is a key. */
static enum corolla_status take_swarm_key(struct membership *m, const char *named, struct corolla_error *err) {
    char path[DIR_PATH_MAX];
    enum corolla_status status = members_path(m->home, "swarm.pem", path, err);
    if (status == COROLLA_OK) status = keyfile_open(named ? named : path, &m->swarm_key, err);
    if (status == COROLLA_NOT_FOUND && !named) return COROLLA_OK;
    if (status != COROLLA_OK) return status;
    if (!keyfile_public(m->swarm_key, m->swarm)) return err_set(err, COROLLA_INTERNAL, "cannot read the key of the swarm");
    m->is_private = true;
    return certify_self(m, err);
}

/* Makes a member of us by a certificate. */
static enum corolla_status take_certificate(struct membership *m, const struct signed_bytes *certificate, struct corolla_error *err) {
    struct member_rules rules = {.now_s = member_now_s()};
    enum corolla_status status = member_check(&rules, m->key, certificate->data, certificate->size, &m->own, err);
    if (status != COROLLA_OK) return status;
    status = revoked_read(m->home, m->own.swarm, &m->revoked, m->revoked_bytes, &m->revoked_size, err);
    if (status != COROLLA_OK) return status;
    if (revocations_has(&m->revoked, m->own.serial))
        return err_set(err, COROLLA_REFUSED, "the certificate was revoked: ask the owner of the swarm");
    m->certificate = *certificate;
    memcpy(m->swarm, m->own.swarm, KEY_SIZE);
    m->is_private = true;
    return COROLLA_OK;
}

static enum corolla_status take_home(struct membership *m, const char *swarm_key, struct corolla_error *err) {
    struct signed_bytes certificate;
    enum corolla_status status = take_swarm_key(m, swarm_key, err);
    if (status != COROLLA_OK) return status;
    if (m->swarm_key) return revoked_read(m->home, m->swarm, &m->revoked, m->revoked_bytes, &m->revoked_size, err);
    status = certificate_read(m->home, &certificate, err);
    if (status == COROLLA_NOT_FOUND) return COROLLA_OK;
    if (status == COROLLA_OK) status = take_certificate(m, &certificate, err);
    return status == COROLLA_OK ? status : err_prefix(err, status, "%s/membership", m->home);
}

/* ---- the first contact ----------------------------------------------------------------------------------------- */

/* Whether the invitation is the one that our certificate came from. */
static bool used_already(const struct membership *m, const struct signed_bytes *shown) {
    struct signed_view view;
    struct invitation invitation;
    return signed_decode(shown->data, shown->size, &view, NULL) == COROLLA_OK &&
           invitation_decode(view.statement, view.size, &invitation, NULL) == COROLLA_OK &&
           memcmp(invitation.serial, m->own.serial, SERIAL_SIZE) == 0;
}

/* Chooses the join code to get a certificate by: one with an invitation first. out->is_private is false when there is nothing to get. */
static enum corolla_status choose_code(const struct membership *m, const struct membership_config *config, struct join_code *out,
                                       struct corolla_error *err) {
    bool satisfied = m->swarm_key != NULL;
    out->is_private = false;
    for (size_t i = 0; i < config->n_joins; i++) {
        struct join_code code;
        struct entry entry;
        enum corolla_status status = entry_parse(config->joins[i], &entry, err);
        if (status == COROLLA_OK && !entry.has_node) continue; /* a name */
        if (status == COROLLA_OK) status = join_code_decode(config->joins[i], &code, err);
        if (status != COROLLA_OK) return err_prefix(err, status, "join code %zu", i + 1);
        if (!code.is_private) continue;
        if (m->is_private && memcmp(code.swarm, m->swarm, KEY_SIZE) != 0)
            return err_set(err, COROLLA_INVALID,
                           "join code %zu is of another private swarm than this home: set COROLLA_HOME to another folder for it", i + 1);
        bool invites = code.invitation.size > 0;
        satisfied |= m->is_private && invites && used_already(m, &code.invitation);
        if (m->is_private && !invites) continue;
        if (!out->is_private || (invites && out->invitation.size == 0)) *out = code;
    }
    if (satisfied) out->is_private = false;
    return COROLLA_OK;
}

/* home_error: why the home's own certificate is not good; NULL when it is, or there is none. */
static enum corolla_status join_swarm(struct membership *m, const struct membership_config *config, const struct corolla_error *home_error,
                                      struct corolla_error *err) {
    struct join_code code;
    struct signed_bytes certificate;
    struct corolla_error error = {0};
    enum corolla_status status = choose_code(m, config, &code, err);
    if (status != COROLLA_OK) return status;
    if (!code.is_private && home_error) {
        if (err) *err = *home_error;
        return home_error->status;
    }
    if (!code.is_private) return COROLLA_OK;
    status = enroll(config->identity, &code, config->timeout_ms, &certificate, &error);
    if (status == COROLLA_OK) status = certificate_write(m->home, &certificate, &error);
    if (status == COROLLA_OK) return take_certificate(m, &certificate, err);
    if (m->is_private) { /* it was a member before, and stays one */
        log_warn("the certificate of the home is kept: %s", error.message);
        return COROLLA_OK;
    }
    if (home_error) return err_set(err, status, "%s; %s", home_error->message, error.message);
    if (err) *err = error;
    return status;
}

/* ---- public ---------------------------------------------------------------------------------------------------- */

static enum corolla_status open_parts(struct membership *m, const struct membership_config *config, struct corolla_error *err) {
    struct corolla_error home_error = {0};
    memcpy(m->key, identity_id(config->identity)->key, KEY_SIZE);
    enum corolla_status status = dirs_home(config->home, m->home, err);
    if (status != COROLLA_OK) return status;
    status = take_home(m, config->swarm_key, &home_error);
    if (status != COROLLA_OK && status != COROLLA_REFUSED) {
        if (err) *err = home_error;
        return status;
    }
    status = join_swarm(m, config, status == COROLLA_OK ? NULL : &home_error, err);
    if (status != COROLLA_OK) return status;
    if (m->is_private && m->own.role < config->role)
        return err_set(err, COROLLA_REFUSED,
                       "the certificate of this home is for a client, and does not allow to serve: ask the owner of the "
                       "swarm for an invitation with --role server");
    return COROLLA_OK;
}

enum corolla_status membership_open(struct membership **out, const struct membership_config *config, struct corolla_error *err) {
    struct membership *m = calloc(1, sizeof(*m));
    if (!m) return err_set(err, COROLLA_NOMEM, "out of memory for a swarm");
    enum corolla_status status = open_parts(m, config, err);
    if (status != COROLLA_OK) {
        membership_close(m);
        return status;
    }
    *out = m;
    return COROLLA_OK;
}

void membership_close(struct membership *m) {
    if (!m) return;
    keyfile_free(m->swarm_key);
    free(m);
}

void membership_guard(struct membership *m, struct net_config *config) {
    if (!m->is_private) return;
    m->inner = config->events;
    config->events = (struct net_events){.on_up = revoked_on_up, .on_message = revoked_on_message, .on_down = revoked_on_down, .user = m};
    config->admission = (struct net_admission){.greet = admission_greet, .admit = admission_admit, .user = m};
}

enum corolla_status membership_start(struct membership *m, struct net *net, struct corolla_error *err) {
    m->net = net;
    if (!m->is_private) return COROLLA_OK;
    m->timer = net_timer_new(net, revoked_tick, m); /* the net frees it */
    if (!m->timer) return err_set(err, COROLLA_NOMEM, "out of memory for a timer");
    net_timer_start(m->timer, TICK_MS, TICK_MS);
    return COROLLA_OK;
}

void membership_join_code(const struct membership *m, const struct node_ref *self, char out[JOIN_CODE_MAX]) {
    struct join_code code = {.node = *self, .is_private = m->is_private};
    struct corolla_error err = {0};
    char path[DIR_PATH_MAX];
    memcpy(code.swarm, m->swarm, KEY_SIZE);
    join_code_encode(&code, out);
    if (!m->swarm_key) return;
    enum corolla_status status = members_path(m->home, "entry", path, &err);
    if (status == COROLLA_OK) status = dirs_write_file(path, out, strlen(out), 0600, &err);
    if (status != COROLLA_OK) log_warn("invitations need --join here: %s", err.message);
}

const struct signed_bytes *membership_certificate(const struct membership *m) { return &m->certificate; }

uint64_t membership_revocations(const struct membership *m) { return m->revoked.number; }

enum corolla_status membership_check_server(const struct membership *m, const uint8_t key[KEY_SIZE], const struct signed_bytes *certificate,
                                            struct corolla_error *err) {
    if (!m->is_private) return COROLLA_OK;
    struct member_rules rules = member_rules_of(m);
    struct certificate c;
    enum corolla_status status = member_check(&rules, key, certificate->data, certificate->size, &c, err);
    if (status == COROLLA_OK && c.role != COROLLA_ROLE_SERVER) return err_set(err, COROLLA_REFUSED, "the certificate is for a client");
    return status;
}
