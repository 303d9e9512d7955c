/* gossip_links.c - the neighbours of a node: whom it dials, whom it keeps, and the dial-back that admits a newcomer (gossip_state.h). */
#include <stdlib.h>

#include "swarm/gossip_state.h"

#define PICK_ROWS 64 /* rows that are looked at for a neighbour at a time */

struct neighbour *links_find(const struct gossip *g, const void *link) {
    for (uint32_t i = 0; i < g->n_slots; i++) {
        if (g->slots[i] != NULL && g->slots[i]->link == link) {
            return g->slots[i];
        }
    }
    return NULL;
}

struct neighbour *links_of(const struct gossip *g, uint64_t digest) {
    for (uint32_t i = 0; i < g->n_slots; i++) {
        if (g->slots[i] != NULL && g->slots[i]->digest == digest) {
            return g->slots[i];
        }
    }
    return NULL;
}

/* The first slots have a bit in the rows (row.known), which spares echoes; leaves tell nothing and stay behind them. */
static uint32_t slot_free(const struct gossip *g, bool leaf) {
    uint32_t slot = leaf ? 64 : 0;
    while (slot < TABLE_SLOTS && g->slots[slot] != NULL) {
        slot++;
    }
    return slot;
}

/* The longest guest: a full neighbour that others chose. */
static struct neighbour *oldest_guest(const struct gossip *g) {
    struct neighbour *oldest = NULL;
    for (uint32_t i = 0; i < g->n_slots; i++) {
        struct neighbour *n = g->slots[i];
        if (n != NULL && !n->leaf && !n->chosen && (oldest == NULL || n->since_ms < oldest->since_ms)) {
            oldest = n;
        }
    }
    return oldest;
}

void links_shed(struct gossip *g) {
    while (g->n_full > LINKS_MAX) {
        struct neighbour *n = oldest_guest(g);
        if (n == NULL || (g->now_ms - n->since_ms < GUEST_MS && g->n_full <= GUESTS_MAX)) {
            return;
        }
        links_end(g, n);
    }
}

struct neighbour *links_add(struct gossip *g, void *link, const struct node_id *id, bool dialled, bool leaf) {
    uint32_t slot = slot_free(g, leaf);
    struct neighbour *n = NULL;
    if (slot < TABLE_SLOTS && (!leaf || g->n_leaves < LEAVES_MAX) && !(leaf && g->config.leaf)) {
        n = calloc(1, sizeof(*n));
    }
    if (n == NULL) {
        return NULL;
    }
    n->link = link;
    n->id = *id;
    n->digest = node_id_digest(id);
    n->since_ms = g->now_ms;
    n->slot = (uint16_t)slot;
    n->dialled = dialled;
    n->leaf = leaf;
    bucket_init(&n->checks, CHECKS_BURST, g->now_ms);
    bucket_init(&n->answers, ANSWER_BYTES_BURST, g->now_ms);
    bucket_init(&n->suspects, LINK_SUSPECTS_BURST, g->now_ms);
    g->slots[slot] = n;
    g->n_slots = slot >= g->n_slots ? slot + 1 : g->n_slots;
    g->n_leaves += leaf;
    g->n_full += !leaf;
    if (g->raise) {
        g->raise = false;
        own_raise(g);
    }
    links_shed(g);
    return n;
}

void links_drop(struct gossip *g, struct neighbour *n) {
    g->slots[n->slot] = NULL;
    while (g->n_slots > 0 && g->slots[g->n_slots - 1] == NULL) {
        g->n_slots--;
    }
    g->n_leaves -= n->leaf;
    g->n_full -= !n->leaf;
    g->n_chosen -= n->chosen;
    table_slot_free(&g->table, n->slot);
    wants_drop_slot(g, n->slot);
    for (uint32_t i = 0; i < g->n_proofs; i++) {
        if (g->proofs[i].slot == n->slot) {
            g->proofs[i].slot = TABLE_NO_SLOT;
        }
    }
    sooner(&g->choose_ms, g->now_ms + random_below(g, CHOOSE_MS));
    free(n);
}

void links_end(struct gossip *g, struct neighbour *n) {
    void *link = n->link;
    links_drop(g, n);
    tell_end(g, link);
    g->world.leave(g->world.user, link);
}

/* ---- whom to dial -------------------------------------------------------------------------------------------------- */

void avoid_add(struct gossip *g, uint64_t digest) {
    g->avoid[g->avoid_next] = (struct avoid){digest, g->now_ms};
    g->avoid_next = (g->avoid_next + 1) % AVOID_MAX;
}

static bool avoided(const struct gossip *g, uint64_t digest) {
    uint64_t ms = g->n_full > 0 ? AVOID_MS : AVOID_ALONE_MS;
    for (uint32_t i = 0; i < AVOID_MAX; i++) {
        if (g->avoid[i].digest == digest && g->now_ms - g->avoid[i].since_ms < ms) {
            return true;
        }
    }
    return false;
}

static struct dial *dial_find(struct gossip *g, uint64_t digest) {
    for (uint32_t i = 0; i < g->n_dials; i++) {
        if (g->dials[i].digest == digest) {
            return &g->dials[i];
        }
    }
    return NULL;
}

static bool dial(struct gossip *g, const struct node_ref *node, uint64_t digest, bool neighbour) {
    struct dial *under_way = dial_find(g, digest);
    if (under_way != NULL) {
        under_way->neighbour |= neighbour;
        return true;
    }
    if (g->n_dials == DIALS_MAX) {
        return false;
    }
    g->dials[g->n_dials++] = (struct dial){digest, neighbour};
    g->world.dial(g->world.user, node);
    return true;
}

static bool may_choose(struct gossip *g, uint64_t digest) {
    return digest != g->self && !avoided(g, digest) && dial_find(g, digest) == NULL && links_of(g, digest) == NULL;
}

static const struct row *pick_row(struct gossip *g) {
    uint32_t n = g->table.n, at = n > 0 ? (uint32_t)random_below(g, n) : 0;
    for (uint32_t i = 0; i < n && i < PICK_ROWS; i++, at = at + 1 < n ? at + 1 : 0) {
        const struct row *row = &g->table.rows[at];
        if (!row->gone && !row->entry.suspected && row->entry.record->node.n_addrs > 0 && row->entry.record->state != RECORD_OFFLINE &&
            may_choose(g, row->entry.digest)) {
            return row;
        }
    }
    return NULL;
}

static struct hint *pick_hint(struct gossip *g) {
    uint32_t at = g->n_hints > 0 ? (uint32_t)random_below(g, g->n_hints) : 0;
    for (uint32_t i = 0; i < g->n_hints; i++, at = at + 1 < g->n_hints ? at + 1 : 0) {
        const struct row *row = table_find(&g->table, g->hints[at].digest);
        if ((row == NULL || row->gone || g->n_full == 0) && may_choose(g, g->hints[at].digest)) {
            return &g->hints[at];
        }
    }
    return NULL;
}

void links_choose(struct gossip *g) {
    uint32_t wanted = g->config.leaf ? LEAF_LINKS : GOSSIP_LINKS, have = g->n_chosen;
    if (g->n_full == 0) {
        wanted = ALONE_DIALS; /* most of what is remembered may be gone */
    }
    for (uint32_t i = 0; i < g->n_dials; i++) {
        have += g->dials[i].neighbour;
    }
    while (have < wanted) {
        const struct row *row = pick_row(g);
        const struct hint *hint = row == NULL && g->n_full == 0 ? pick_hint(g) : NULL;
        if (row != NULL ? !dial(g, &row->entry.record->node, row->entry.digest, true)
                        : hint == NULL || !dial(g, &hint->node, hint->digest, true)) {
            break;
        }
        have++;
    }
    g->choose_ms = g->now_ms + CHOOSE_MS / 2 + random_below(g, CHOOSE_MS);
}

void links_probe(struct gossip *g) {
    const struct hint *hint = pick_hint(g);
    if (hint != NULL) {
        dial(g, &hint->node, hint->digest, true);
    }
    g->probe_ms = g->now_ms + PROBE_MS / 2 + random_below(g, PROBE_MS);
}

/* ---- hints --------------------------------------------------------------------------------------------------------- */

static struct hint *hint_find(struct gossip *g, uint64_t digest) {
    for (uint32_t i = 0; i < g->n_hints; i++) {
        if (g->hints[i].digest == digest) {
            return &g->hints[i];
        }
    }
    return NULL;
}

void hint_add(struct gossip *g, const struct node_ref *node, bool given) {
    uint64_t digest = node_id_digest(&node->id);
    if (digest == g->self) { /* what another process of our home was before */
        return;
    }
    struct hint *hint = hint_find(g, digest);
    if (hint == NULL && g->n_hints < HINTS_MAX) {
        hint = &g->hints[g->n_hints++];
        hint->given = false;
    } else if (hint == NULL) {
        hint = &g->hints[random_below(g, HINTS_MAX)];
        if (hint->given && !given) {
            return;
        }
        hint->given = false;
    }
    hint->node = *node;
    hint->digest = digest;
    hint->tries = 0;
    hint->given |= given;
}

static void hint_failed(struct gossip *g, uint64_t digest) {
    struct hint *hint = hint_find(g, digest);
    if (hint != NULL && ++hint->tries >= HINT_TRIES && !hint->given) {
        *hint = g->hints[--g->n_hints];
    }
}

/* ---- dial-back ------------------------------------------------------------------------------------------------------ */

static struct proof *proof_find(struct gossip *g, uint64_t digest) {
    for (uint32_t i = 0; i < g->n_proofs; i++) {
        if (g->proofs[i].sealed->digest == digest) {
            return &g->proofs[i];
        }
    }
    return NULL;
}

bool proof_waits(const struct gossip *g, uint64_t digest) { return proof_find((struct gossip *)g, digest) != NULL; }

static void proofs_dial(struct gossip *g) {
    for (uint32_t i = 0; i < g->n_proofs && g->n_proof_dials < PROOF_DIALS; i++) {
        struct proof *proof = &g->proofs[i];
        if (!proof->dialling && dial(g, &proof->sealed->record.node, proof->sealed->digest, false)) {
            proof->dialling = true;
            g->n_proof_dials++;
        }
    }
}

void proof_add(struct gossip *g, struct sealed *sealed, uint64_t signed_ms, uint16_t slot) {
    if (sealed->record.node.n_addrs == 0) {
        return;
    }
    struct proof *proof = proof_find(g, sealed->digest);
    if (proof != NULL && !proof->dialling) { /* its addresses may have changed; one that is dialled goes on */
        sealed_give(proof->sealed);
        *proof = (struct proof){sealed_use(sealed), signed_ms, slot, false};
    } else if (proof == NULL && g->n_proofs < PROOFS_MAX) {
        g->proofs[g->n_proofs++] = (struct proof){sealed_use(sealed), signed_ms, slot, false};
    }
    proofs_dial(g);
}

static void proof_end(struct gossip *g, struct proof *proof, bool reached) {
    struct proof ended = *proof;
    for (uint32_t i = (uint32_t)(proof - g->proofs); i + 1 < g->n_proofs; i++) {
        g->proofs[i] = g->proofs[i + 1]; /* first come, first dialled */
    }
    g->n_proofs--;
    g->n_proof_dials -= ended.dialling;
    if (reached && may_host(g, &ended.sealed->record)) { /* still: it waited */
        admit(g, ended.sealed, ended.signed_ms, ended.slot);
    }
    sealed_give(ended.sealed);
}

void proofs_clear(struct gossip *g) {
    for (uint32_t i = 0; i < g->n_proofs; i++) {
        sealed_give(g->proofs[i].sealed);
    }
    g->n_proofs = 0;
}

/* A link that we dialled and that is up: for gossip, when it was meant for that and the node is no neighbour already. */
static void reached(struct gossip *g, const struct node_id *id, uint64_t digest, void *link, bool neighbour) {
    struct neighbour *n = links_of(g, digest);
    struct hint *hint = hint_find(g, digest);
    if (hint != NULL) {
        hint->tries = 0;
    }
    if (n != NULL && neighbour && !n->chosen) {
        n->chosen = true;
        g->n_chosen++;
    }
    if (n != NULL && n->link != link) {
        g->world.leave(g->world.user, link);
    }
    if (n != NULL) {
        return;
    }
    n = neighbour ? links_add(g, link, id, true, false) : NULL;
    if (n == NULL) {
        g->world.leave(g->world.user, link);
        return;
    }
    n->chosen = true;
    g->n_chosen++;
    tell_digest(g, n, false);
    tell_own(g, n);
}

void gossip_dialled(struct gossip *g, const struct node_id *id, void *link, uint64_t now_ms) {
    uint64_t digest = node_id_digest(id);
    struct dial *under_way = dial_find(g, digest);
    bool neighbour = under_way != NULL && under_way->neighbour;
    gossip_clock(g, now_ms);
    if (under_way != NULL) {
        *under_way = g->dials[--g->n_dials];
    }
    struct proof *proof = proof_find(g, digest);
    if (proof != NULL && under_way != NULL) {
        proof_end(g, proof, link != NULL);
    }
    if (link != NULL) {
        reached(g, id, digest, link, neighbour);
    } else {
        avoid_add(g, digest);
        hint_failed(g, digest);
    }
    sooner(&g->choose_ms, g->now_ms + random_below(g, CHOOSE_MS));
    proofs_dial(g);
}
