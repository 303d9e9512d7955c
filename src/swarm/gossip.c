/* gossip.c - see gossip.h. Our own record, the passing of time, and what the other files of gossip share (gossip_state.h). */
#include "swarm/gossip_state.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define SEQUENCE_FIRST_MAX (1u << 20)

void bucket_init(struct bucket *bucket, uint64_t burst, uint64_t now_ms) { *bucket = (struct bucket){burst * 1000, now_ms}; }

bool bucket_take(struct bucket *bucket, uint64_t n, uint64_t per_s, uint64_t burst, uint64_t now_ms) {
    uint64_t passed = now_ms - bucket->ms, full = burst * 1000;
    bucket->milli = passed >= full / per_s || bucket->milli + passed * per_s > full ? full : bucket->milli + passed * per_s;
    bucket->ms = now_ms;
    if (bucket->milli < n * 1000) {
        return false;
    }
    bucket->milli -= n * 1000;
    return true;
}

uint64_t random_below(struct gossip *g, uint64_t n) { return g->world.random(g->world.user) % n; }

/* ---- changes of the table ---------------------------------------------------------------------------------------- */

static void changed(struct gossip *g, const struct row *row, enum gossip_change what) {
    if (g->world.changed != NULL) {
        g->world.changed(g->world.user, &row->entry, what);
    }
}

void admit(struct gossip *g, struct sealed *sealed, uint64_t signed_ms, uint16_t slot) {
    const struct row *before = table_find(&g->table, sealed->digest);
    bool known = before != NULL && !before->gone;
    struct row *row = table_put(&g->table, sealed, signed_ms, slot);
    if (row == NULL) {
        return;
    }
    row->known = slot != TABLE_NO_SLOT ? slot_bit(slot) : 0;
    if (sealed->record.state == RECORD_OFFLINE) {
        table_shorten(&g->table, row, g->now_ms + OFFLINE_MS);
    }
    news_add(g, row);
    changed(g, row, known ? GOSSIP_UPDATED : GOSSIP_NEW);
}

bool suspect(struct gossip *g, struct row *row) {
    bool tell = !g->config.leaf;
    if (tell && (g->n_suspects == SUSPECTS_MAX || !bucket_take(&g->believed, 1, SUSPECTS_PER_S, SUSPECTS_BURST, g->now_ms))) {
        return false;
    }
    row->entry.suspected = true;
    table_shorten(&g->table, row, g->now_ms + SUSPECT_MS);
    if (tell) {
        g->suspects[g->n_suspects++] = row_version(row);
    }
    changed(g, row, GOSSIP_SUSPECTED);
    return true;
}

bool may_host(const struct gossip *g, const struct record *record) {
    return g->world.may_host == NULL || g->world.may_host(g->world.user, record);
}

static void give_up(struct gossip *g, struct row *row) {
    table_gone(&g->table, row, g->now_ms);
    changed(g, row, GOSSIP_GONE);
}

void gossip_recheck(struct gossip *g, uint64_t now_ms) {
    gossip_clock(g, now_ms);
    for (uint32_t i = 0; i < g->table.n; i++) {
        struct row *row = &g->table.rows[i];
        if (!row->gone && !may_host(g, row->entry.record)) {
            give_up(g, row);
        }
    }
}

static void sweep(struct gossip *g) {
    uint32_t at = 0;
    for (struct row *row; (row = table_sweep(&g->table, &at, g->now_ms)) != NULL;) {
        if (row->entry.record->state != RECORD_OFFLINE) {
            hint_add(g, &row->entry.record->node, false);
        }
        give_up(g, row);
    }
    g->swept_ms = g->now_ms;
}

/* ---- our own record ------------------------------------------------------------------------------------------------ */

void own_raise(struct gossip *g) {
    if (g->stated && g->own.state != RECORD_OFFLINE) {
        sooner(&g->publish_ms, g->own_ms + PUBLISH_MIN_MS > g->now_ms ? g->own_ms + PUBLISH_MIN_MS : g->now_ms);
    }
}

static void publish(struct gossip *g) {
    if (g->sequence == UINT32_MAX) {
        g->boot++;
        g->sequence = 0;
    }
    g->sequence++;
    g->stated = true;
    g->own.boot = g->boot;
    g->own.sequence = g->sequence;
    g->own_signed.size = (uint32_t)record_encode(&g->own, g->own_signed.bytes);
    g->world.sign(g->world.user, g->own_signed.bytes, g->own_signed.size, g->own_signed.signature);
    g->own_ms = g->now_ms;
    bool last = g->own.state == RECORD_OFFLINE;
    g->publish_ms = last ? NEVER : g->now_ms + RECORD_REFRESH_MS - random_below(g, RECORD_REFRESH_MS / 8);
    for (uint32_t slot = 0; slot < g->n_slots; slot++) {
        if (g->slots[slot] != NULL) {
            tell_own(g, g->slots[slot]);
        }
    }
}

void gossip_publish(struct gossip *g, const struct record *record, uint64_t now_ms) {
    gossip_clock(g, now_ms);
    bool turned = !g->stated || record->state != g->own.state; /* rare, and others wait for it */
    g->own = *record;
    g->own.node.id = g->config.self;
    if (turned || g->now_ms - g->own_ms >= PUBLISH_MIN_MS) {
        publish(g);
    } else {
        own_raise(g);
    }
}

/* ---- time -------------------------------------------------------------------------------------------------------- */

/* A clock that leapt: the machine slept. Nothing aged meanwhile, as on a clock that stands still during sleep; that all links are lost now
 * is nobody's fault; and others may think that we are gone. */
static void wake(struct gossip *g, uint64_t leap_ms) {
    table_shift(&g->table, leap_ms);
    g->n_doubts = 0;
    g->grace_ms = g->now_ms + LEAP_MS;
    own_raise(g);
}

void gossip_clock(struct gossip *g, uint64_t now_ms) {
    if (now_ms <= g->now_ms) {
        return;
    }
    uint64_t passed = now_ms - g->now_ms;
    g->now_ms = now_ms;
    if (passed >= LEAP_MS) {
        wake(g, passed - IDLE_MS);
    }
}

/* Lost links become suspicions, unless more than two thirds were lost at once: then it is us. */
static void decide_doubts(struct gossip *g) {
    bool us = g->losses >= 2 && g->losses * 3 > g->losses_of * 2;
    uint32_t left = 0;
    for (uint32_t i = 0; i < g->n_doubts; i++) {
        struct doubt doubt = g->doubts[i];
        struct row *row = table_find(&g->table, doubt.digest);
        if (doubt.due_ms > g->now_ms) {
            g->doubts[left++] = doubt;
        } else if (us) {
            g->raise = true;
        } else if (row != NULL && !row->gone && !row->entry.suspected && links_of(g, doubt.digest) == NULL && !suspect(g, row)) {
            g->doubts[left++] = (struct doubt){doubt.digest, g->now_ms + DOUBT_MS};
        }
    }
    g->n_doubts = left;
    if (us && g->raise && g->n_full > 0) {
        g->raise = false;
        own_raise(g);
    }
}

static void doubt_add(struct gossip *g, uint64_t digest) {
    if (g->now_ms - g->losses_ms > LOSSES_MS || g->losses == 0) {
        g->losses_ms = g->now_ms;
        g->losses = 0;
        g->losses_of = g->n_full;
    }
    g->losses++;
    if (g->n_doubts < DOUBTS_MAX && g->now_ms >= g->grace_ms) {
        g->doubts[g->n_doubts++] = (struct doubt){digest, g->now_ms + DOUBT_MS};
    }
}

void gossip_link_down(struct gossip *g, void *link, bool lost, uint64_t now_ms) {
    gossip_clock(g, now_ms);
    struct neighbour *n = links_find(g, link);
    if (n == NULL) {
        return;
    }
    if (!n->leaf && !g->config.leaf && lost) {
        doubt_add(g, n->digest);
    }
    avoid_add(g, n->digest);
    links_drop(g, n);
}

static void tell_owed(struct gossip *g) {
    g->owed = false;
    for (uint32_t slot = 0; slot < g->n_slots; slot++) {
        struct neighbour *n = g->slots[slot];
        if (n != NULL && n->owed && g->now_ms - n->told_ms >= ANSWER_MS) {
            tell_digest(g, n, true);
        }
        g->owed |= n != NULL && n->owed;
    }
}

static void tell_whole_digest(struct gossip *g) {
    uint32_t at = g->n_slots > 0 ? (uint32_t)random_below(g, g->n_slots) : 0;
    for (uint32_t i = 0; i < g->n_slots; i++) {
        struct neighbour *n = g->slots[(at + i) % g->n_slots];
        if (n != NULL && !n->leaf) {
            tell_digest(g, n, false);
            break;
        }
    }
    g->digest_ms = g->now_ms + DIGEST_MS / 2 + random_below(g, DIGEST_MS);
}

static uint64_t news_due(const struct gossip *g) { return g->n_news + g->n_suspects > 0 ? g->flushed_ms + FLUSH_MS : NEVER; }

static uint64_t sweep_due(const struct gossip *g) {
    uint64_t earliest = g->swept_ms + FLUSH_MS;
    return g->table.due_ms > earliest ? g->table.due_ms : earliest;
}

static uint64_t doubts_due(const struct gossip *g) {
    uint64_t due = NEVER;
    for (uint32_t i = 0; i < g->n_doubts; i++) {
        sooner(&due, g->doubts[i].due_ms);
    }
    return due;
}

static bool is_due(const struct gossip *g, uint64_t due_ms) { return due_ms <= g->now_ms; }

uint64_t gossip_tick(struct gossip *g, uint64_t now_ms) {
    gossip_clock(g, now_ms);
    if (is_due(g, sweep_due(g))) sweep(g);
    if (is_due(g, doubts_due(g))) decide_doubts(g);
    if (is_due(g, g->wants.due_ms)) wants_retry(g);
    if (is_due(g, g->publish_ms)) publish(g);
    if (is_due(g, g->choose_ms)) {
        links_shed(g);
        links_choose(g);
    }
    if (is_due(g, g->probe_ms)) links_probe(g);
    if (g->owed) tell_owed(g);
    if (is_due(g, g->digest_ms)) tell_whole_digest(g);
    if (is_due(g, news_due(g))) tell_news(g);
    return gossip_due(g);
}

uint64_t gossip_due(const struct gossip *g) {
    uint64_t due = g->now_ms + (g->owed ? FLUSH_MS : IDLE_MS);
    const uint64_t others[] = {sweep_due(g), doubts_due(g), g->wants.due_ms, g->publish_ms,
                               g->choose_ms, g->probe_ms,   g->digest_ms,    news_due(g)};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        sooner(&due, others[i]);
    }
    return due;
}

/* ---- public ------------------------------------------------------------------------------------------------------ */

enum corolla_status gossip_new(struct gossip **out_gossip, const struct gossip_config *config, uint64_t now_ms, struct corolla_error *err) {
    struct gossip *g = calloc(1, sizeof(*g));
    if (g == NULL) {
        return err_set(err, COROLLA_NOMEM, "no memory for the directory of the swarm");
    }
    g->config = *config;
    g->world = config->world;
    g->self = node_id_digest(&config->self);
    g->boot = config->boot;
    /* Random, so that a life whose boot counter was lost is not mistaken for the one before. */
    g->sequence = (uint32_t)random_below(g, SEQUENCE_FIRST_MAX);
    g->now_ms = g->flushed_ms = g->swept_ms = now_ms;
    g->publish_ms = NEVER;
    g->choose_ms = now_ms;
    g->digest_ms = now_ms + DIGEST_MS / 2 + random_below(g, DIGEST_MS);
    g->probe_ms = now_ms + PROBE_MS;
    bucket_init(&g->believed, SUSPECTS_BURST, now_ms);
    table_init(&g->table, g->world.random(g->world.user));
    wants_init(&g->wants, g->world.random(g->world.user));
    g->own_set = config->sealed == NULL ? sealed_set_new(g->world.random(g->world.user)) : NULL;
    g->sealed = config->sealed != NULL ? config->sealed : g->own_set;
    if (g->sealed == NULL) {
        gossip_free(g);
        return err_set(err, COROLLA_NOMEM, "no memory for the directory of the swarm");
    }
    *out_gossip = g;
    return COROLLA_OK;
}

void gossip_free(struct gossip *g) {
    if (g == NULL) {
        return;
    }
    for (uint32_t slot = 0; slot < g->n_slots; slot++) {
        free(g->slots[slot]);
    }
    proofs_clear(g);
    table_release(&g->table);
    wants_release(&g->wants);
    sealed_set_free(g->own_set);
    free(g->news);
    free(g);
}

void gossip_hint(struct gossip *g, const struct node_ref *node, uint64_t now_ms) {
    gossip_clock(g, now_ms);
    hint_add(g, node, true);
    sooner(&g->choose_ms, g->now_ms);
}

enum corolla_status gossip_message(struct gossip *g, void *link, const struct node_ref *peer, enum msg_kind kind, const uint8_t *data,
                                   size_t size, uint64_t now_ms, struct corolla_error *err) {
    gossip_clock(g, now_ms);
    return take_message(g, link, peer, kind, data, size, err);
}

size_t gossip_count(const struct gossip *g) { return g->table.n - g->table.n_gone; }

const struct gossip_entry *gossip_find(const struct gossip *g, const struct node_id *node) {
    const struct row *row = table_find(&g->table, node_id_digest(node));
    return row != NULL && !row->gone && node_id_equal(&row->entry.record->node.id, node) ? &row->entry : NULL;
}

const struct gossip_entry *gossip_each(const struct gossip *g, const struct gossip_entry *last) {
    const struct row *row = last == NULL ? g->table.rows : (const struct row *)last + 1;
    while (row != NULL && row < g->table.rows + g->table.n && row->gone) {
        row++;
    }
    return row != NULL && row < g->table.rows + g->table.n ? &row->entry : NULL;
}

bool gossip_caught_up(const struct gossip *g) {
    bool heard = false;
    for (uint32_t i = 0; i < g->n_slots && !heard; i++) {
        heard = g->slots[i] != NULL && g->slots[i]->heard;
    }
    return heard && g->wants.n == 0;
}

bool gossip_dialling(const struct gossip *g) {
    bool untried = false;
    for (uint32_t i = 0; i < g->n_hints && g->n_full == 0 && !untried; i++) {
        untried = g->hints[i].tries == 0;
    }
    return untried || g->n_dials > 0;
}

size_t gossip_neighbours(const struct gossip *g) { return g->n_full + g->n_leaves; }
