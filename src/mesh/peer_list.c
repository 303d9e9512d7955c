/* peer_list.c - see peer_list.h. */
#include "mesh/peer_list.h"

#include "base/mem.h"
#include "wire/addr.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD "corolla peers 1"
#define FIELDS_MAX (3 + ADDRS_MAX)

/* ---- order ----------------------------------------------------------------------------------------------------- */

static struct remembered *find(struct peer_list *list, const struct node_id *id) {
    for (uint32_t i = 0; i < list->n; i++) {
        if (node_id_equal(&list->peers[i].ref.id, id)) return &list->peers[i];
    }
    return NULL;
}

static void take_out(struct peer_list *list, const struct remembered *peer) {
    size_t at = (size_t)(peer - list->peers);
    list->n--;
    memmove(&list->peers[at], &list->peers[at + 1], (list->n - at) * sizeof(*peer));
}

/* Puts a peer in front of all with a score below limit. */
static void put_in(struct peer_list *list, const struct remembered *peer, uint32_t limit) {
    uint32_t at = 0;
    while (at < list->n && list->peers[at].score >= limit) at++;
    if (at == PEER_LIST_MAX) return;
    if (list->n == PEER_LIST_MAX) list->n--;
    memmove(&list->peers[at + 1], &list->peers[at], (list->n - at) * sizeof(*peer));
    list->peers[at] = *peer;
    list->n++;
}

/* The entry goes where its score belongs, in front of its equals; old: where it was. */
static void move(struct peer_list *list, struct remembered *old, const struct remembered *peer) {
    struct remembered copy = *peer; /* it may be in the list */
    if (old) take_out(list, old);
    put_in(list, &copy, copy.score + 1);
}

uint32_t peer_list_count(const struct peer_list *list) {
    uint32_t n = list->n;
    while (n > 0 && list->peers[n - 1].score == 0) n--;
    return n;
}

/* ---- what happens to peers ------------------------------------------------------------------------------------- */

/* Takes the addresses that can be dialled from anywhere. False: there is none, and peer is as before. */
static bool take_addrs(struct remembered *peer, const struct node_ref *node) {
    struct node_ref ref = {.id = node->id};
    for (uint32_t i = 0; i < node->n_addrs && i < ADDRS_MAX; i++) {
        if (addr_valid(node->addrs[i])) memcpy(ref.addrs[ref.n_addrs++], node->addrs[i], strlen(node->addrs[i]) + 1);
    }
    if (ref.n_addrs == 0) return false;
    bool same = peer->ref.n_addrs == ref.n_addrs;
    for (uint32_t i = 0; same && i < ref.n_addrs; i++) same = strcmp(peer->ref.addrs[i], ref.addrs[i]) == 0;
    if (same) return true;
    peer->ref = ref;
    peer->changed = true;
    return true;
}

static void take_model(struct remembered *peer, const uint8_t *model) {
    if (!model || (peer->has_model && memcmp(peer->model, model, ID_SIZE) == 0)) return;
    memcpy(peer->model, model, ID_SIZE);
    peer->has_model = peer->changed = true;
}

/* The peer with what is known now, to be put into the list. False: it is not to be remembered. */
static bool renew(struct peer_list *list, const struct node_ref *node, const uint8_t *model, struct remembered *out,
                  struct remembered **out_old) {
    struct remembered *old = find(list, &node->id);
    struct remembered peer = {.ref.id = node->id};
    if (old) peer = *old;
    if (!take_addrs(&peer, node) && !old) return false;
    take_model(&peer, model);
    if (peer.score == 0) peer.score = PEER_SCORE_NEW;
    *out = peer;
    *out_old = old;
    return true;
}

void peer_list_linked(struct peer_list *list, const struct node_ref *node, const uint8_t *model) {
    struct remembered peer, *old;
    if (!renew(list, node, model, &peer, &old)) return;
    peer.score += (PEER_SCORE_MAX - peer.score + 3) / 4;
    move(list, old, &peer);
}

void peer_list_heard(struct peer_list *list, const struct node_ref *node, const uint8_t *model) {
    struct remembered peer, *old;
    if (renew(list, node, model, &peer, &old)) move(list, old, &peer);
}

void peer_list_failed(struct peer_list *list, const struct node_id *id) {
    struct remembered *old = find(list, id);
    if (!old) return;
    old->score -= (old->score + 3) / 4;
    move(list, old, old);
}

/* ---- text ------------------------------------------------------------------------------------------------------ */

/* A number without sign, leading zeros or anything behind it. */
static bool parse_number(const char *text, uint32_t max, uint32_t *out) {
    uint64_t value = 0;
    size_t n = 0;
    for (; n < 10 && text[n] >= '0' && text[n] <= '9'; n++) value = value * 10 + (uint64_t)(text[n] - '0');
    if (n == 0 || text[n] != 0 || text[0] == '0' || value > max) return false;
    *out = (uint32_t)value;
    return true;
}

static bool parse_id(char *text, struct node_id *out) {
    char *slash = strchr(text, '/');
    if (slash) *slash = 0;
    out->instance = 0;
    return hex_decode(text, out->key, KEY_SIZE) && (!slash || parse_number(slash + 1, UINT32_MAX, &out->instance));
}

/* One line, cut into fields in place. */
static bool parse_line(char *line, struct remembered *out) {
    char *fields[FIELDS_MAX], *rest = line;
    size_t n = 0;
    memset(out, 0, sizeof(*out));
    for (char *field = strsep(&rest, " "); field; field = strsep(&rest, " ")) {
        if (n == FIELDS_MAX) return false;
        fields[n++] = field;
    }
    if (n < 4 || !parse_number(fields[0], PEER_SCORE_MAX, &out->score) || !parse_id(fields[1], &out->ref.id)) return false;
    out->has_model = strcmp(fields[2], "-") != 0;
    if (out->has_model && !hex_decode(fields[2], out->model, ID_SIZE)) return false;
    for (size_t i = 3; i < n; i++) {
        if (!addr_valid(fields[i])) return false;
        memcpy(out->ref.addrs[out->ref.n_addrs++], fields[i], strlen(fields[i]) + 1);
    }
    out->score_saved = out->score;
    return true;
}

bool peer_list_parse(const char *text, size_t size, struct peer_list *out) {
    char line[PEER_LINE_MAX + 1];
    struct remembered peer;
    out->n = 0;
    bool head = true;
    for (const char *at = text, *end = text + size; at < end; head = false) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t length = stop ? (size_t)(stop - at) : PEER_LINE_MAX + 1;
        if (length > PEER_LINE_MAX || memchr(at, 0, length)) return false; /* cut off, endless, or no text */
        memcpy(line, at, length);
        line[length] = 0;
        at = stop + 1;
        if (head ? strcmp(line, HEAD) != 0 : !parse_line(line, &peer) || find(out, &peer.ref.id)) return false;
        if (!head) put_in(out, &peer, peer.score); /* behind its equals, as it stood in the file */
    }
    return !head;
}

size_t peer_list_format(const struct peer_list *list, char *out) {
    size_t used = (size_t)snprintf(out, PEER_TEXT_MAX, HEAD "\n");
    uint32_t n = peer_list_count(list);
    for (uint32_t i = 0; i < n; i++) {
        const struct remembered *peer = &list->peers[i];
        char id[NODE_ID_TEXT], model[2 * ID_SIZE + 1] = "-";
        node_id_format(&peer->ref.id, id);
        if (peer->has_model) hex_encode(peer->model, ID_SIZE, model);
        used += (size_t)snprintf(out + used, PEER_TEXT_MAX - used, "%u %s %s", peer->score, id, model);
        for (uint32_t a = 0; a < peer->ref.n_addrs; a++)
            used += (size_t)snprintf(out + used, PEER_TEXT_MAX - used, " %s", peer->ref.addrs[a]);
        used += (size_t)snprintf(out + used, PEER_TEXT_MAX - used, "\n");
    }
    assert(used < PEER_TEXT_MAX);
    return used;
}

/* ---- files that others write too ------------------------------------------------------------------------------- */

static bool differs(const struct remembered *peer) { return peer->changed || peer->score != peer->score_saved; }

bool peer_list_dirty(const struct peer_list *list) {
    for (uint32_t i = 0; i < list->n; i++) {
        if (differs(&list->peers[i])) return true;
    }
    return false;
}

static void merge_one(struct peer_list *file, const struct remembered *own) {
    struct remembered *theirs = find(file, &own->ref.id), peer = *own;
    peer.score_saved = theirs ? theirs->score_saved : 0;
    if (theirs) {
        int64_t score = (int64_t)theirs->score + own->score - own->score_saved;
        peer.score = score <= 0 ? 0 : score > PEER_SCORE_MAX ? PEER_SCORE_MAX : (uint32_t)score;
    } else if (own->score <= own->score_saved) {
        return; /* others gave it up, and we know nothing good of it */
    }
    if (theirs && !own->changed) {
        peer.ref = theirs->ref;
        peer.has_model = theirs->has_model;
        memcpy(peer.model, theirs->model, ID_SIZE);
    }
    move(file, theirs, &peer);
}

void peer_list_merge(struct peer_list *file, const struct peer_list *own) {
    for (uint32_t i = own->n; i-- > 0;) { /* the first one ends in front of its equals */
        if (differs(&own->peers[i])) merge_one(file, &own->peers[i]);
    }
}

void peer_list_saved(struct peer_list *list) {
    list->n = peer_list_count(list);
    for (uint32_t i = 0; i < list->n; i++) {
        list->peers[i].score_saved = list->peers[i].score;
        list->peers[i].changed = false;
    }
}

void peer_list_unsaved(struct peer_list *list, const struct peer_list *before) {
    for (uint32_t i = 0; i < before->n; i++) {
        struct remembered *peer = find(list, &before->peers[i].ref.id);
        if (!peer) continue;
        peer->score_saved = before->peers[i].score_saved;
        peer->changed = peer->changed || before->peers[i].changed;
    }
}
