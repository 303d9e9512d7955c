/* mesh.c - see mesh.h. */
#include "mesh/mesh.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/dirs.h"
#include "base/err.h"
#include "base/log.h"
#include "crypto/rand.h"
#include "crypto/sign.h"
#include "mesh/entry.h"
#include "mesh/peers_file.h"
#include "net/lan.h"

#define ENTRIES_MAX 64          /* that a user names */
#define SAVE_MS 2000            /* between two looks at the remembered peers */
#define REMEMBERED_HINTS_MAX 16 /* of the remembered peers, the best ones */
#define NAMES_WAIT_MS 1000      /* for a name to answer, when others did */
#define RECORDS_WAIT_MS 3000    /* a neighbour that says nothing of others for so long has nothing to say */

enum entry_state { ENTRY_ASKED, ENTRY_LINKED, ENTRY_FAILED };

struct mesh_entry { /* of the user */
    struct mesh *mesh;
    struct entry entry;
    enum entry_state state;
    struct corolla_error error; /* FAILED */
};

struct mesh {
    struct mesh_config config;
    struct gossip *gossip;
    struct net_timer *timer, *save_timer;
    struct lan *lan;
    struct peers_file *peers;
    uint64_t peers_due_ms;
    uint64_t opened_ms;
    uint64_t revocations; /* number of the list that the records passed */
    bool asked;           /* the entries */
    size_t n_entries;
    struct mesh_entry entries[ENTRIES_MAX];
};

struct mesh_dial { /* for gossip, under way */
    struct mesh *mesh;
    struct node_ref node;
};

/* ---- the world of gossip --------------------------------------------------------------------------------------- */

static void plan_tick(struct mesh *mesh) {
    uint64_t now = clock_life_ms(), due = gossip_due(mesh->gossip);
    net_timer_start(mesh->timer, due > now ? (uint32_t)(due - now) : 1, 0);
}

static void recheck_members(struct mesh *mesh) {
    uint64_t number = mesh->config.membership != NULL ? membership_revocations(mesh->config.membership) : 0;
    if (number == mesh->revocations) return;
    mesh->revocations = number;
    gossip_recheck(mesh->gossip, clock_life_ms());
}

static void on_tick(void *user) { /* once a second at least */
    struct mesh *mesh = user;
    recheck_members(mesh);
    gossip_tick(mesh->gossip, clock_life_ms());
    plan_tick(mesh);
}

/* Gossip has one stream of a link, so that its messages keep their order. Anything that a full queue drops is told again by digests. */
static void world_send(void *user, void *link, enum msg_kind kind, const uint8_t *data, size_t size) {
    (void)user;
    link_send(link, link_stream_first(link), LINK_BULK, kind, data, size, NULL);
}

static struct mesh_entry *entry_of(struct mesh *mesh, const struct node_id *id) {
    for (size_t i = 0; i < mesh->n_entries; i++) {
        struct mesh_entry *e = &mesh->entries[i];
        if (e->entry.has_node && node_id_equal(&e->entry.node.id, id)) return e;
    }
    return NULL;
}

static void note_entry(struct mesh_entry *e, const struct corolla_error *err) {
    if (e == NULL) return;
    bool told = e->state == ENTRY_FAILED || (err != NULL && err->status == COROLLA_CANCELLED);            /* it is tried again and again */
    if (err != NULL && !told && !e->mesh->config.leaf) log_warn("entry_failed why=\"%s\"", err->message); /* a client says so itself */
    e->state = err == NULL ? ENTRY_LINKED : ENTRY_FAILED;
    if (err != NULL) e->error = *err;
}

static void on_dialled(void *user, struct link *link, const struct corolla_error *err) {
    struct mesh_dial *dial = user;
    struct mesh *mesh = dial->mesh;
    note_entry(entry_of(mesh, &dial->node.id), link != NULL ? NULL : err);
    if (link != NULL)
        peer_list_linked(peers_file_list(mesh->peers), &dial->node, NULL);
    else
        peer_list_failed(peers_file_list(mesh->peers), &dial->node.id);
    if (link == NULL) log_debug("mesh_dial_failed why=\"%s\"", err->message);
    gossip_dialled(mesh->gossip, &dial->node.id, link, clock_life_ms());
    free(dial);
    plan_tick(mesh);
}

static void start_dial(void *user) {
    struct mesh_dial *dial = user;
    net_prove(dial->mesh->config.net, &dial->node, on_dialled, dial); /* may answer at once, which gossip does not expect from inside */
}

static void world_dial(void *user, const struct node_ref *node) {
    struct mesh *mesh = user;
    struct mesh_dial *dial = malloc(sizeof *dial);
    if (dial == NULL) return; /* gossip asks others */
    dial->mesh = mesh;
    dial->node = *node;
    net_post(mesh->config.net, start_dial, dial);
}

static void world_leave(void *user, void *link) {
    struct mesh *mesh = user;
    if (mesh->config.in_use != NULL && mesh->config.in_use(mesh->config.user, link)) return;
    link_close(link, COROLLA_OK, "not needed for gossip");
}

static bool world_verify(void *user, const uint8_t key[KEY_SIZE], const uint8_t *data, size_t size,
                         const uint8_t signature[SIGNATURE_SIZE]) {
    (void)user;
    return sign_verify(key, SIGN_RECORD, data, size, signature);
}

static void world_sign(void *user, const uint8_t *data, size_t size, uint8_t signature[SIGNATURE_SIZE]) {
    struct mesh *mesh = user;
    if (!sign_make(identity_key(mesh->config.identity), SIGN_RECORD, data, size, signature)) memset(signature, 0, SIGNATURE_SIZE);
}

static uint64_t world_random(void *user) {
    uint64_t value;
    (void)user;
    rand_bytes(&value, sizeof value);
    return value;
}

static void world_changed(void *user, const struct gossip_entry *entry, enum gossip_change what) {
    struct mesh *mesh = user;
    static const char *const words[] = {"new", "updated", "suspected", "gone"};
    char id[NODE_ID_TEXT];
    node_id_format(&entry->record->node.id, id);
    log_debug("record_%s node=%.16s state=%d blocks=%u:%u", words[what], id, (int)entry->record->state, entry->record->begin,
              entry->record->end);
    if (what == GOSSIP_NEW) peer_list_heard(peers_file_list(mesh->peers), &entry->record->node, entry->record->model);
    if (mesh->config.changed != NULL) mesh->config.changed(mesh->config.user, entry, what);
}

static bool world_may_host(void *user, const struct record *record) {
    const struct mesh *mesh = user;
    struct corolla_error err = {0};
    if (membership_check_server(mesh->config.membership, record->node.id.key, &record->membership, &err) == COROLLA_OK) return true;
    log_debug("record_refused why=\"%s\"", err.message);
    return false;
}

/* ---- entries --------------------------------------------------------------------------------------------------- */

/* Somebody behind a name that the user gave. */
static void on_address_linked(void *user, struct link *link, const struct corolla_error *err) {
    struct mesh_entry *e = user;
    struct mesh *mesh = e->mesh;
    if (link == NULL) {
        if (err != NULL) note_entry(e, err);
        return;
    }
    note_entry(e, NULL);
    if (mesh->config.entered != NULL) mesh->config.entered(mesh->config.user, link_peer(link));
    gossip_hint(mesh->gossip, link_peer(link), clock_life_ms()); /* who then finds this link */
    plan_tick(mesh);
}

static void on_found(void *user, const struct node_ref *node) {
    struct mesh *mesh = user;
    gossip_hint(mesh->gossip, node, clock_life_ms());
    plan_tick(mesh);
}

static void hint_remembered(struct mesh *mesh) {
    const struct peer_list *list = peers_file_list(mesh->peers);
    uint32_t n = peer_list_count(list);
    for (uint32_t i = 0; i < n && i < REMEMBERED_HINTS_MAX; i++) gossip_hint(mesh->gossip, &list->peers[i].ref, clock_life_ms());
}

static void ask_entries(void *user) {
    struct mesh *mesh = user;
    hint_remembered(mesh); /* first: what the user names is newer */
    for (size_t i = 0; i < mesh->n_entries; i++) {
        struct mesh_entry *e = &mesh->entries[i];
        struct corolla_error own;
        if (e->entry.has_node && node_id_equal(&e->entry.node.id, &net_self(mesh->config.net)->id)) {
            err_set(&own, COROLLA_REFUSED, "a join code is of this very node: it was an earlier process of this home");
            note_entry(e, &own);
        } else if (e->entry.has_node)
            gossip_hint(mesh->gossip, &e->entry.node, clock_life_ms());
        else
            net_dial_address(mesh->config.net, e->entry.address, on_address_linked, e);
    }
    mesh->asked = true;
    plan_tick(mesh);
}

static enum corolla_status parse_entries(struct mesh *mesh, struct corolla_error *err) {
    const struct mesh_config *config = &mesh->config;
    if (config->n_joins > ENTRIES_MAX) return err_set(err, COROLLA_INVALID, "more than %d entries are named", ENTRIES_MAX);
    for (size_t i = 0; i < config->n_joins; i++) {
        struct mesh_entry *e = &mesh->entries[mesh->n_entries++];
        e->mesh = mesh;
        enum corolla_status status = entry_parse(config->joins[i], &e->entry, err);
        if (status != COROLLA_OK) return err_prefix(err, status, "join code %zu", i + 1);
    }
    return COROLLA_OK;
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

static void on_save(void *user) {
    struct mesh *mesh = user;
    uint64_t now_ms = clock_life_ms();
    if (now_ms >= mesh->peers_due_ms || peer_list_dirty(peers_file_list(mesh->peers)))
        mesh->peers_due_ms = peers_file_tick(mesh->peers, now_ms);
}

static enum corolla_status open_gossip(struct mesh *mesh, struct corolla_error *err) {
    struct gossip_config gossip = {.self = net_self(mesh->config.net)->id, .boot = identity_boot(mesh->config.identity)};
    gossip.leaf = mesh->config.leaf;
    gossip.world = (struct gossip_world){.send = world_send,
                                         .dial = world_dial,
                                         .leave = world_leave,
                                         .verify = world_verify,
                                         .sign = world_sign,
                                         .random = world_random,
                                         .changed = world_changed,
                                         .user = mesh};
    const struct membership *membership = mesh->config.membership;
    if (membership != NULL && membership_certificate(membership)->size > 0) gossip.world.may_host = world_may_host;
    return gossip_new(&mesh->gossip, &gossip, clock_life_ms(), err);
}

static enum corolla_status open_timers(struct mesh *mesh, struct corolla_error *err) {
    mesh->timer = net_timer_new(mesh->config.net, on_tick, mesh);
    mesh->save_timer = net_timer_new(mesh->config.net, on_save, mesh);
    if (mesh->timer == NULL || mesh->save_timer == NULL) return err_set(err, COROLLA_NOMEM, "no memory for the timers of the swarm");
    net_timer_start(mesh->save_timer, SAVE_MS, SAVE_MS);
    plan_tick(mesh);
    return COROLLA_OK;
}

enum corolla_status mesh_open(struct mesh **out, const struct mesh_config *config, struct corolla_error *err) {
    struct mesh *mesh = calloc(1, sizeof *mesh);
    if (mesh == NULL) return err_set(err, COROLLA_NOMEM, "no memory for the swarm");
    mesh->config = *config;
    mesh->opened_ms = clock_life_ms();
    enum corolla_status status = parse_entries(mesh, err);
    char home[DIR_PATH_MAX];
    if (status == COROLLA_OK) status = dirs_home(config->home, home, err);
    if (status == COROLLA_OK) status = peers_file_open(&mesh->peers, home, err);
    if (status == COROLLA_OK) status = open_gossip(mesh, err);
    if (status == COROLLA_OK) status = open_timers(mesh, err);
    if (status == COROLLA_OK && config->lan) status = lan_open(&mesh->lan, config->net, on_found, mesh, err);
    if (status != COROLLA_OK) {
        mesh_close(mesh);
        return status;
    }
    net_post(config->net, ask_entries, mesh);
    *out = mesh;
    return COROLLA_OK;
}

void mesh_close(struct mesh *mesh) {
    if (mesh == NULL) return;
    lan_close(mesh->lan);
    net_timer_free(mesh->timer);
    net_timer_free(mesh->save_timer);
    gossip_free(mesh->gossip);
    peers_file_close(mesh->peers);
    free(mesh);
}

/* ---- use ------------------------------------------------------------------------------------------------------- */

void mesh_publish(struct mesh *mesh, const struct record *record) {
    struct record certified = *record;
    if (mesh->config.membership != NULL) certified.membership = *membership_certificate(mesh->config.membership);
    gossip_publish(mesh->gossip, &certified, clock_life_ms());
    plan_tick(mesh);
}

bool mesh_message(struct mesh *mesh, struct link *link, struct message *msg) {
    if (msg->kind < MSG_DIGEST || msg->kind > MSG_SUSPECT) return false;
    struct corolla_error err = {0};
    enum corolla_status status =
        gossip_message(mesh->gossip, link, link_peer(link), msg->kind, msg->header, msg->header_size, clock_life_ms(), &err);
    if (status == COROLLA_PEER_FAULT) link_close(link, COROLLA_PEER_FAULT, err.message);
    net_body_free(mesh->config.net, msg->body);
    msg->body = NULL;
    plan_tick(mesh);
    return true;
}

void mesh_link_down(struct mesh *mesh, struct link *link, enum corolla_status status) {
    bool lost = status == COROLLA_PEER_LOST || status == COROLLA_TIMEOUT;
    gossip_link_down(mesh->gossip, link, lost, clock_life_ms());
    plan_tick(mesh);
}

const struct gossip *mesh_gossip(const struct mesh *mesh) { return mesh->gossip; }

size_t mesh_neighbours(const struct mesh *mesh) { return gossip_neighbours(mesh->gossip); }

/* A name may lead to another swarm than those who answered already. */
static bool names_asked(const struct mesh *mesh) {
    for (size_t i = 0; i < mesh->n_entries; i++)
        if (mesh->entries[i].state == ENTRY_ASKED && !mesh->entries[i].entry.has_node) return true;
    return false;
}

bool mesh_settled(const struct mesh *mesh) {
    uint64_t age_ms = clock_life_ms() - mesh->opened_ms;
    if (!mesh->asked) return false;
    if (gossip_neighbours(mesh->gossip) > 0) {
        bool names = age_ms > NAMES_WAIT_MS || !names_asked(mesh);
        return (names && gossip_caught_up(mesh->gossip)) || age_ms > RECORDS_WAIT_MS;
    }
    if (mesh->lan != NULL && !lan_settled(mesh->lan)) return false;
    for (size_t i = 0; i < mesh->n_entries; i++)
        if (mesh->entries[i].state == ENTRY_ASKED) return false;
    return !gossip_dialling(mesh->gossip);
}

bool mesh_entry_errors(const struct mesh *mesh, struct corolla_error *out_error) {
    struct corolla_error all = {.status = COROLLA_OK};
    size_t used = 0;
    for (size_t i = 0; i < mesh->n_entries && used < sizeof all.message; i++) {
        const struct corolla_error *error = &mesh->entries[i].error;
        if (mesh->entries[i].state != ENTRY_FAILED) continue;
        int n = snprintf(all.message + used, sizeof all.message - used, "%s%s", used > 0 ? "; " : "", error->message);
        used += n > 0 ? (size_t)n : 0;
        if (all.status == COROLLA_OK) all.status = error->status;
    }
    if (all.status == COROLLA_OK) return false;
    *out_error = all;
    return true;
}
