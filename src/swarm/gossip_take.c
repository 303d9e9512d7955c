/* gossip_take.c - the messages that gossip receives (gossip_state.h). What is over a bound is dropped; only what no honest node sends is a
 * fault. */
#include <string.h>

#include "base/err.h"
#include "swarm/gossip_state.h"

/* ---- versions and wants ----------------------------------------------------------------------------------------- */

static bool own_is_older(const struct gossip *g, const struct record_version *v) {
    return record_newer(v->boot, v->sequence, g->boot, g->sequence);
}

/* Whether the version is worth asking for. */
static bool is_news(struct gossip *g, const struct neighbour *n, const struct record_version *v) {
    if (v->node == g->self) {
        return !g->config.leaf && own_is_older(g, v); /* a life of ours that we forgot: its record will prove it */
    }
    struct row *row = table_find(&g->table, v->node);
    if (row != NULL && !row_is_older(row, v->boot, v->sequence)) {
        if (row->boot == v->boot && row->sequence == v->sequence) {
            row->known |= slot_bit(n->slot);
        }
        return false;
    }
    return v->node != n->digest || !proof_waits(g, v->node);
}

static void take_charge(struct gossip *g, struct neighbour *n, struct want *want) {
    if (g->slots[want->slot] != NULL) {
        g->slots[want->slot]->wants--;
    }
    n->wants++;
    want->slot = n->slot;
    want->asked = true;
    wants_set_due(&g->wants, want, g->now_ms + WANT_MS);
}

/* One more neighbour offers what is wanted already. It takes over from one that did not keep its promises lately. The versions may differ:
 * any that is newer than ours is welcome, lest a promise of the impossible hides what is real. */
static void join_offer(struct gossip *g, struct neighbour *n, struct want *want, const struct record_version *v, struct msg_want *ask) {
    if (record_newer(v->boot, v->sequence, want->boot, want->sequence)) {
        want->boot = v->boot;
        want->sequence = v->sequence;
    }
    if (want->slot == n->slot) {
        return;
    }
    if (g->slots[want->slot]->missed > 0 && n->missed == 0 && n->wants < LINK_WANTS_MAX) {
        take_charge(g, n, want);
        ask->nodes[ask->n++] = v->node;
    } else {
        want->offered |= slot_bit(n->slot);
    }
}

/* Notes that the neighbour offers a version; when it shall be asked, it is added to ask. */
static void take_offer(struct gossip *g, struct neighbour *n, const struct record_version *v, struct msg_want *ask) {
    if (!is_news(g, n, v)) {
        return;
    }
    struct want *want = wants_find(&g->wants, v->node);
    if (want != NULL) {
        join_offer(g, n, want, v, ask);
        return;
    }
    want = n->wants < LINK_WANTS_MAX ? wants_add(&g->wants, v, n->slot) : NULL;
    if (want == NULL) {
        n->cut = true;
        return;
    }
    n->wants++;
    want->asked = n->missed == 0 || slot_bit(n->slot) == 0;
    if (want->asked) {
        ask->nodes[ask->n++] = v->node;
    } else {
        want->offered = slot_bit(n->slot);
    }
    wants_set_due(&g->wants, want, g->now_ms + (want->asked ? WANT_MS : PATIENCE_MS));
}

static void take_offers(struct gossip *g, struct neighbour *n, const struct msg_versions *m) {
    struct msg_want ask;
    ask.n = 0;
    for (uint32_t i = 0; i < m->n; i++) {
        take_offer(g, n, &m->versions[i], &ask);
    }
    tell_want(g, n, &ask);
}

static void want_end(struct gossip *g, struct want *want) {
    struct neighbour *n = g->slots[want->slot];
    n->wants--;
    wants_remove(&g->wants, want);
}

/* A neighbour that offers it and has room, at random; rather one that keeps its promises. */
static struct neighbour *pick_offer(struct gossip *g, const struct want *want) {
    struct neighbour *second = NULL;
    uint64_t first = random_below(g, 64);
    for (uint64_t i = first; i < first + 64; i++) {
        struct neighbour *n = (want->offered & 1ull << i % 64) != 0 ? g->slots[i % 64] : NULL;
        bool room = n != NULL && (n->slot == want->slot || n->wants < LINK_WANTS_MAX);
        if (room && n->missed == 0) {
            return n;
        }
        second = room ? n : second;
    }
    return second;
}

/* Another neighbour that offers it comes into charge. False: there is none. */
static bool want_pass_on(struct gossip *g, struct want *want) {
    struct neighbour *n = pick_offer(g, want);
    if (n == NULL) {
        return false;
    }
    want->offered &= ~slot_bit(n->slot);
    take_charge(g, n, want);
    want->fresh = true;
    return true;
}

static void ask_fresh(struct gossip *g) {
    struct msg_want ask;
    for (uint32_t slot = 0; slot < g->n_slots; slot++) {
        ask.n = 0;
        for (uint32_t i = 0; g->slots[slot] != NULL && g->slots[slot]->wants > 0 && i < g->wants.n && ask.n < VERSIONS_MAX; i++) {
            struct want *want = &g->wants.wants[i];
            if (want->slot == slot && want->fresh) {
                want->fresh = false;
                ask.nodes[ask.n++] = want->digest;
            }
        }
        if (ask.n > 0) {
            tell_want(g, g->slots[slot], &ask);
        }
    }
}

void wants_retry(struct gossip *g) {
    bool passed_on = false;
    g->wants.due_ms = NEVER;
    for (uint32_t i = 0; i < g->wants.n;) {
        struct want *want = &g->wants.wants[i];
        if (want->due_ms > g->now_ms) {
            wants_set_due(&g->wants, want, want->due_ms);
            i++;
            continue;
        }
        if (want->asked) {
            g->slots[want->slot]->missed++;
        }
        if (want_pass_on(g, want)) {
            passed_on = true;
            i++;
        } else {
            want_end(g, want);
        }
    }
    if (passed_on) {
        ask_fresh(g);
    }
}

/* The slot is empty already. */
void wants_drop_slot(struct gossip *g, uint16_t slot) {
    for (uint32_t i = 0; i < g->wants.n;) {
        struct want *want = &g->wants.wants[i];
        want->offered &= ~slot_bit(slot);
        if (want->slot == slot && !want_pass_on(g, want)) {
            wants_remove(&g->wants, want);
        } else {
            i++;
        }
    }
    ask_fresh(g);
}

/* ---- records ---------------------------------------------------------------------------------------------------- */

static bool same_addrs(const struct node_ref *a, const struct node_ref *b) {
    bool same = a->n_addrs == b->n_addrs;
    for (uint32_t i = 0; same && i < a->n_addrs; i++) {
        same = strcmp(a->addrs[i], b->addrs[i]) == 0;
    }
    return same;
}

static void want_answered(struct gossip *g, struct neighbour *n, const struct sealed *sealed) {
    struct want *want = wants_find(&g->wants, sealed->digest);
    if (want == NULL) {
        return;
    }
    bool in_charge = want->slot == n->slot;
    if (in_charge || !record_newer(want->boot, want->sequence, sealed->record.boot, sealed->record.sequence)) {
        n->missed /= in_charge ? 2 : 1;
        want_end(g, want);
    }
}

/* OK, BUSY (over the budget) or PEER_FAULT. What may_host() costs is within the budget. */
static enum corolla_status check(struct gossip *g, struct neighbour *n, struct sealed *sealed, struct corolla_error *err) {
    if (sealed->verified && g->world.may_host == NULL) {
        return COROLLA_OK;
    }
    if (!bucket_take(&n->checks, 1, CHECKS_PER_S, CHECKS_BURST, g->now_ms)) {
        return COROLLA_BUSY;
    }
    if (!sealed->verified && !g->world.verify(g->world.user, sealed->record.node.id.key, sealed->bytes, sealed->size, sealed->signature)) {
        return err_set(err, COROLLA_PEER_FAULT, "a record whose signature is wrong");
    }
    sealed->verified = true;
    return COROLLA_OK;
}

/* A record that says to be ours and is newer than what we know, or differs from it: somebody ran with our key before us, or does so now. */
static enum corolla_status take_own(struct gossip *g, struct neighbour *n, struct sealed *sealed, struct corolla_error *err) {
    const struct record *record = &sealed->record;
    want_answered(g, n, sealed);
    bool same = g->stated && memcmp(sealed->signature, g->own_signed.signature, SIGNATURE_SIZE) == 0;
    if (same || !node_id_equal(&record->node.id, &g->config.self) || record_newer(g->boot, g->sequence, record->boot, record->sequence)) {
        return COROLLA_OK;
    }
    enum corolla_status status = check(g, n, sealed, err);
    if (status == COROLLA_OK) {
        g->boot = record->boot;
        g->sequence = record->sequence;
        own_raise(g);
    }
    return status;
}

static enum corolla_status take_sealed(struct gossip *g, struct neighbour *n, struct sealed *sealed, uint64_t signed_ms,
                                       struct corolla_error *err) {
    const struct record *record = &sealed->record;
    struct row *row = table_find(&g->table, sealed->digest);
    want_answered(g, n, sealed);
    if (row != NULL && !node_id_equal(&row->entry.record->node.id, &record->node.id)) {
        return COROLLA_OK;
    }
    bool direct = node_id_equal(&record->node.id, &n->id);
    bool equal = row != NULL && row->boot == record->boot && row->sequence == record->sequence;
    if (row != NULL && !row_is_older(row, record->boot, record->sequence) && !(equal && row->gone && direct)) {
        row->known |= equal ? slot_bit(n->slot) : 0;
        if (direct && !equal) {
            tell_row(g, n, row);
        }
        return COROLLA_OK;
    }
    enum corolla_status status = check(g, n, sealed, err);
    if (status != COROLLA_OK || !may_host(g, record)) {
        return status;
    }
    bool proved = !direct || n->dialled || (row != NULL && !row->gone && same_addrs(&row->entry.record->node, &record->node));
    if (!proved) {
        proof_add(g, sealed, signed_ms, n->slot);
        return COROLLA_OK;
    }
    n->gained = true;
    admit(g, sealed, signed_ms, n->slot);
    return COROLLA_OK;
}

static enum corolla_status take_records(struct gossip *g, struct neighbour *n, const struct msg_records *m, struct corolla_error *err) {
    for (uint32_t i = 0; i < m->n; i++) {
        const struct signed_record *in = &m->records[i];
        struct sealed *sealed = sealed_take(g->sealed, in->bytes, in->size, in->signature);
        if (sealed == NULL) {
            continue; /* of a version of the program that says more than we understand */
        }
        enum corolla_status status = COROLLA_OK;
        if (sealed->digest == g->self) {
            status = take_own(g, n, sealed, err); /* however old it is */
        } else if (in->age_ms < RECORD_TTL_MS) {
            status = take_sealed(g, n, sealed, g->now_ms - in->age_ms, err);
        }
        sealed_give(sealed);
        if (status == COROLLA_PEER_FAULT) {
            return status;
        }
    }
    if (n->wants == 0 && n->cut && n->gained) {
        n->cut = n->gained = false;
        tell_again(g, n);
    }
    return COROLLA_OK;
}

/* ---- suspicions ------------------------------------------------------------------------------------------------- */

static void take_suspicion(struct gossip *g, const struct neighbour *from, const struct record_version *v) {
    if (v->node == g->self) {
        if (!record_newer(g->boot, g->sequence, v->boot, v->sequence)) {
            own_raise(g);
        }
        return;
    }
    struct row *row = table_find(&g->table, v->node);
    if (row == NULL || row->gone || row->entry.suspected || record_newer(row->boot, row->sequence, v->boot, v->sequence)) {
        return;
    }
    struct neighbour *n = links_of(g, v->node);
    if (n != NULL && n != from) {
        tell_suspect(g, n, v, 1); /* its link to us is up: it shall answer, and we say nothing */
    } else {
        suspect(g, row);
    }
}

/* ---- the beginning and end of gossip on a link ------------------------------------------------------------------- */

/* Whether gossip with this node goes over the new link, that the peer opened, and not over the one that there is. Both sides choose alike:
 * of two that crossed each other, the one that the lower digest dialled; of two that the peer opened, the newer one. */
static bool new_link_wins(const struct gossip *g, const struct neighbour *old) { return !old->dialled || old->digest < g->self; }

static struct neighbour *accept(struct gossip *g, void *link, const struct node_ref *peer, bool leaf) {
    uint64_t digest = node_id_digest(&peer->id);
    struct neighbour *old = links_of(g, digest);
    bool chosen = old != NULL && old->chosen;
    struct neighbour *n = NULL;
    if (digest != g->self && (old == NULL || new_link_wins(g, old))) {
        if (old != NULL) {
            links_end(g, old);
        }
        n = links_add(g, link, &peer->id, false, leaf);
    }
    if (n == NULL) {
        tell_end(g, link);
        g->world.leave(g->world.user, link);
        return NULL;
    }
    n->chosen = chosen;
    g->n_chosen += chosen;
    return n;
}

static void ended(struct gossip *g, struct neighbour *n) {
    void *link = n->link;
    avoid_add(g, n->digest);
    links_drop(g, n);
    g->world.leave(g->world.user, link);
}

static void answer_digest(struct gossip *g, struct neighbour *n) {
    bool first = !n->told;
    if (!first && g->now_ms - n->told_ms < ANSWER_MS) {
        n->owed = g->owed = true;
        return;
    }
    tell_digest(g, n, true);
    if (first) {
        tell_own(g, n);
    }
}

/* Who still offers what is gone here slept, or was cut off, when it was suspected. */
static void tell_gone(struct gossip *g, struct neighbour *n, const struct msg_versions *m) {
    struct record_version gone[SUSPECTS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->n && count < SUSPECTS_MAX; i++) {
        const struct row *row = table_find(&g->table, m->versions[i].node);
        if (row != NULL && row->gone && !row_is_older(row, m->versions[i].boot, m->versions[i].sequence)) {
            gone[count++] = row_version(row);
        }
    }
    if (count > 0) {
        tell_suspect(g, n, gone, count);
    }
}

static void take_digest(struct gossip *g, void *link, const struct node_ref *peer, const struct msg_digest *m) {
    struct neighbour *n = links_find(g, link);
    if (m->end) {
        if (n != NULL) {
            ended(g, n);
        }
        return;
    }
    if (n == NULL && m->reply) {
        tell_end(g, link); /* of gossip that we ended meanwhile */
        return;
    }
    if (n == NULL && (n = accept(g, link, peer, m->leaf)) == NULL) {
        return;
    }
    if (!n->leaf) {
        take_offers(g, n, &m->known);
        tell_gone(g, n, &m->known);
    }
    n->heard |= !m->more;
    if (!m->reply && !m->more) {
        answer_digest(g, n);
    }
}

/* ---- all of them ------------------------------------------------------------------------------------------------ */

static enum corolla_status take_in(struct gossip *g, struct neighbour *n, enum msg_kind kind, const uint8_t *data, size_t size,
                                   struct corolla_error *err) {
    struct msg_versions versions;
    struct msg_want want;
    enum corolla_status status = COROLLA_OK;
    if (kind == MSG_HAVE && (status = msg_have_decode(data, size, &versions, err)) == COROLLA_OK) {
        take_offers(g, n, &versions);
    } else if (kind == MSG_WANT && (status = msg_want_decode(data, size, &want, err)) == COROLLA_OK && !g->config.leaf) {
        tell_records(g, n, &want);
    } else if (kind == MSG_SUSPECT && (status = msg_suspect_decode(data, size, &versions, err)) == COROLLA_OK) {
        for (uint32_t i = 0; i < versions.n && bucket_take(&n->suspects, 1, LINK_SUSPECTS_PER_S, LINK_SUSPECTS_BURST, g->now_ms); i++) {
            take_suspicion(g, n, &versions.versions[i]);
        }
    }
    return status;
}

static enum corolla_status take_in_records(struct gossip *g, struct neighbour *n, const uint8_t *data, size_t size,
                                           struct corolla_error *err) {
    struct msg_records records;
    enum corolla_status status = msg_records_decode(data, size, &records, err);
    return status == COROLLA_OK ? take_records(g, n, &records, err) : status;
}

static enum corolla_status take_in_digest(struct gossip *g, void *link, const struct node_ref *peer, const uint8_t *data, size_t size,
                                          struct corolla_error *err) {
    struct msg_digest digest;
    enum corolla_status status = msg_digest_decode(data, size, &digest, err);
    if (status == COROLLA_OK) {
        take_digest(g, link, peer, &digest);
    }
    return status;
}

enum corolla_status take_message(struct gossip *g, void *link, const struct node_ref *peer, enum msg_kind kind, const uint8_t *data,
                                 size_t size, struct corolla_error *err) {
    struct neighbour *n = links_find(g, link);
    enum corolla_status status = COROLLA_OK;
    if (kind == MSG_DIGEST) {
        status = take_in_digest(g, link, peer, data, size, err);
    } else if (n == NULL) {
        tell_end(g, link);
    } else if (kind == MSG_RECORDS && !n->leaf) {
        status = take_in_records(g, n, data, size, err);
    } else if (kind == MSG_WANT || !n->leaf) {
        status = take_in(g, n, kind, data, size, err);
    }
    if (status == COROLLA_FORMAT) {
        return err_set(err, COROLLA_PEER_FAULT, "malformed message of gossip, kind %d", (int)kind);
    }
    return status;
}
