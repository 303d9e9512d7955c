/* gossip_tell.c - the messages that gossip sends (gossip_state.h). */
#include <stdlib.h>
#include <string.h>

#include "swarm/gossip_state.h"
#include "wire/frame.h"

static void send(struct gossip *g, void *link, enum msg_kind kind, const uint8_t *data, size_t size) {
    g->world.send(g->world.user, link, kind, data, size);
}

static void send_digest(struct gossip *g, void *link, const struct msg_digest *digest) {
    uint8_t bytes[MSG_HEADER_MAX];
    send(g, link, MSG_DIGEST, bytes, msg_digest_encode(digest, bytes));
}

/* The rows are told from a random one on: what a receiver cuts off differs from neighbour to neighbour. */
void tell_digest(struct gossip *g, struct neighbour *n, bool reply) {
    struct msg_digest digest = {.leaf = g->config.leaf, .reply = reply};
    n->told = true;
    n->told_ms = g->now_ms;
    n->owed = false;
    if (g->config.leaf) {
        send_digest(g, n->link, &digest);
        return;
    }
    uint32_t rows = g->table.n, at = rows > 0 ? (uint32_t)random_below(g, rows) : 0;
    if (g->stated) {
        digest.known.versions[digest.known.n++] = (struct record_version){g->self, g->own.boot, g->own.sequence};
    }
    for (uint32_t i = 0; i < rows; i++, at = at + 1 < rows ? at + 1 : 0) {
        struct row *row = &g->table.rows[at];
        if (row->gone) {
            continue;
        }
        if (digest.known.n == VERSIONS_MAX) {
            digest.more = true;
            send_digest(g, n->link, &digest);
            digest.known.n = 0;
        }
        row->known |= slot_bit(n->slot);
        digest.known.versions[digest.known.n++] = row_version(row);
    }
    digest.more = false;
    send_digest(g, n->link, &digest);
}

void tell_again(struct gossip *g, struct neighbour *n) { send_digest(g, n->link, &(struct msg_digest){.leaf = g->config.leaf}); }

void tell_end(struct gossip *g, void *link) { send_digest(g, link, &(struct msg_digest){.leaf = g->config.leaf, .end = true}); }

static void records_add(struct msg_records *m, const uint8_t *bytes, uint32_t size, const uint8_t *signature, uint64_t age_ms) {
    struct signed_record *record = &m->records[m->n++];
    record->age_ms = age_ms > UINT32_MAX ? UINT32_MAX : (uint32_t)age_ms;
    record->size = size;
    memcpy(record->bytes, bytes, size);
    memcpy(record->signature, signature, SIGNATURE_SIZE);
}

static void send_records(struct gossip *g, struct neighbour *n, const struct msg_records *m) {
    uint8_t bytes[MSG_HEADER_MAX];
    send(g, n->link, MSG_RECORDS, bytes, msg_records_encode(m, bytes));
}

void tell_own(struct gossip *g, struct neighbour *n) {
    if (g->stated) {
        struct msg_records m;
        m.n = 0;
        records_add(&m, g->own_signed.bytes, g->own_signed.size, g->own_signed.signature, g->now_ms - g->own_ms);
        send_records(g, n, &m);
    }
}

void tell_row(struct gossip *g, struct neighbour *n, const struct row *row) {
    struct msg_records m;
    m.n = 0;
    records_add(&m, row->sealed->bytes, row->sealed->size, row->sealed->signature, g->now_ms - row->entry.signed_ms);
    send_records(g, n, &m);
}

void tell_want(struct gossip *g, struct neighbour *n, const struct msg_want *want) {
    uint8_t bytes[MSG_HEADER_MAX];
    if (want->n > 0) {
        send(g, n->link, MSG_WANT, bytes, msg_want_encode(want, bytes));
    }
}

void tell_records(struct gossip *g, struct neighbour *n, const struct msg_want *want) {
    struct msg_records m;
    struct record_version suspects[SUSPECTS_MAX];
    uint32_t n_suspects = 0;
    size_t used = 0;
    m.n = 0;
    for (uint32_t i = 0; i < want->n; i++) {
        bool own = want->nodes[i] == g->self && g->stated;
        struct row *row = own ? NULL : table_find(&g->table, want->nodes[i]);
        if (!own && (row == NULL || row->gone)) {
            continue;
        }
        uint32_t size = own ? g->own_signed.size : row->sealed->size;
        if (!bucket_take(&n->answers, size, ANSWER_BYTES_PER_S, ANSWER_BYTES_BURST, g->now_ms)) {
            break; /* it asks somebody else, or later */
        }
        if (m.n == RECORDS_MAX || used + size + RECORDS_OVERHEAD > MSG_HEADER_MAX) {
            send_records(g, n, &m);
            m.n = 0;
            used = 0;
        }
        if (own) {
            records_add(&m, g->own_signed.bytes, size, g->own_signed.signature, g->now_ms - g->own_ms);
        } else {
            row->known |= slot_bit(n->slot);
            records_add(&m, row->sealed->bytes, size, row->sealed->signature, g->now_ms - row->entry.signed_ms);
        }
        if (!own && row->entry.suspected && n_suspects < SUSPECTS_MAX) {
            suspects[n_suspects++] = row_version(row);
        }
        used += size + RECORDS_OVERHEAD;
    }
    if (m.n > 0) {
        send_records(g, n, &m);
    }
    if (n_suspects > 0) {
        tell_suspect(g, n, suspects, n_suspects);
    }
}

void tell_suspect(struct gossip *g, struct neighbour *n, const struct record_version *versions, uint32_t count) {
    uint8_t bytes[MSG_HEADER_MAX];
    struct msg_versions m;
    m.n = count;
    memcpy(m.versions, versions, count * sizeof(*versions));
    send(g, n->link, MSG_SUSPECT, bytes, msg_suspect_encode(&m, bytes));
}

void news_add(struct gossip *g, struct row *row) {
    if (row->pending || g->config.leaf) {
        return;
    }
    if (g->n_news == g->news_capacity) {
        uint32_t capacity = g->news_capacity > 0 ? g->news_capacity * 2 : 32;
        uint64_t *news = realloc(g->news, capacity * sizeof(*news));
        if (news == NULL) {
            return; /* the next whole digest tells it */
        }
        g->news = news;
        g->news_capacity = capacity;
    }
    row->pending = true;
    g->news[g->n_news++] = row->entry.digest;
}

static void send_have(struct gossip *g, struct neighbour *n, struct msg_versions *have) {
    uint8_t bytes[MSG_HEADER_MAX];
    if (have->n > 0) {
        send(g, n->link, MSG_HAVE, bytes, msg_have_encode(have, bytes));
        have->n = 0;
    }
}

static void tell_news_to(struct gossip *g, struct neighbour *n) {
    struct msg_versions have;
    have.n = 0;
    for (uint32_t i = 0; i < g->n_news; i++) {
        struct row *row = table_find(&g->table, g->news[i]);
        if (row == NULL || !row->pending || (row->known & slot_bit(n->slot)) != 0) {
            continue;
        }
        row->known |= slot_bit(n->slot);
        have.versions[have.n++] = row_version(row);
        if (have.n == VERSIONS_MAX) {
            send_have(g, n, &have);
        }
    }
    send_have(g, n, &have);
}

void tell_news(struct gossip *g) {
    for (uint32_t slot = 0; slot < g->n_slots; slot++) {
        struct neighbour *n = g->slots[slot];
        if (n != NULL) {
            tell_news_to(g, n);
            if (g->n_suspects > 0) {
                tell_suspect(g, n, g->suspects, g->n_suspects);
            }
        }
    }
    for (uint32_t i = 0; i < g->n_news; i++) {
        struct row *row = table_find(&g->table, g->news[i]);
        if (row != NULL) {
            row->pending = false;
        }
    }
    g->n_news = 0;
    g->n_suspects = 0;
    g->flushed_ms = g->now_ms;
}
