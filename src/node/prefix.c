/* prefix.c - see prefix.h. */
#include "node/prefix.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* ---- names ----------------------------------------------------------------------------------------------------- */

bool prefix_name(struct session *session, const struct msg_open *open) {
    if (open->n_prefix == 0) return true;
    session->prefix = malloc(open->n_prefix * PREFIX_HASH_SIZE);
    if (!session->prefix) return false;
    memcpy(session->prefix, open->prefix, open->n_prefix * PREFIX_HASH_SIZE);
    session->n_prefix = open->n_prefix;
    return true;
}

void prefix_note_step(struct session *session, uint32_t position, uint32_t named) {
    uint32_t most = session->n_prefix * PREFIX_STEP;
    if (position < session->prefix_whole) session->prefix_whole = position;
    if (named > session->prefix_whole) session->prefix_whole = named < most ? named : most;
}

/* Positions that a session has in common with what an OPEN names. Each hash covers all tokens before it, so the last equal one counts. */
static uint32_t common(const struct node *node, const struct session *s, const struct msg_open *open, const struct node_id *client) {
    if (!node->share_prefixes && memcmp(s->client.key, client->key, KEY_SIZE) != 0) return 0;
    if (s->lane.begin != open->begin || s->lane.end != open->end) return 0;
    if (s->swap != SWAP_HERE) return 0;
    if (open->keep && (!s->lane.kept || s->wire != open->dtype)) return 0;
    uint32_t n = s->n_prefix < open->n_prefix ? s->n_prefix : open->n_prefix;
    while (n > 0 && memcmp(s->prefix[n - 1], open->prefix[n - 1], PREFIX_HASH_SIZE) != 0) n--;
    uint32_t have = s->prefix_whole < s->expected ? s->prefix_whole : s->expected;
    return n * PREFIX_STEP < have ? n * PREFIX_STEP : have / PREFIX_STEP * PREFIX_STEP;
}

struct session *prefix_find(struct node *node, const struct msg_open *open, const struct node_id *client, uint32_t *out_length) {
    struct session *best = NULL;
    *out_length = 0;
    for (struct session *s = sessions_each(&node->sessions, NULL); s && open->n_prefix > 0; s = sessions_each(&node->sessions, s)) {
        uint32_t length = common(node, s, open, client);
        if (length > *out_length) *out_length = length, best = s;
    }
    for (uint32_t i = 0; i < node->n_kept; i++) {
        uint32_t length = common(node, node->kept[i], open, client);
        if (length <= *out_length) continue;
        *out_length = length;
        best = node->kept[i];
        best->used_ms = clock_life_ms();
    }
    return best;
}

/* ---- kept sessions --------------------------------------------------------------------------------------------- */

/* Nothing can reach it but this; a step that it counts keeps its memory. */
bool prefix_keep(struct node *node, struct session *session) {
    uint32_t have = session->prefix_whole < session->expected ? session->prefix_whole : session->expected;
    if (session->swap != SWAP_HERE || have < PREFIX_STEP || node->stopping || node->limits.draining) return false;
    for (uint32_t i = 0; i < node->n_kept; i++) { /* one of each kind is enough */
        const struct session *k = node->kept[i];
        bool same = k->n_prefix == session->n_prefix && memcmp(k->prefix, session->prefix, k->n_prefix * PREFIX_HASH_SIZE) == 0;
        if (same && k->lane.begin == session->lane.begin && k->lane.end == session->lane.end && k->prefix_whole >= session->prefix_whole &&
            node_id_equal(&k->client, &session->client))
            return false;
    }
    if (node->n_kept == PREFIX_KEPT_MAX) prefix_drop_oldest(node);
    session->used_ms = clock_life_ms();
    session->n_steps++;
    node->kept[node->n_kept++] = session;
    return true;
}

static void drop(struct node *node, uint32_t i) {
    struct session *session = node->kept[i];
    node->kept[i] = node->kept[--node->n_kept];
    node_let_go(node, session);
}

bool prefix_drop_oldest(struct node *node) {
    uint32_t oldest = 0;
    if (node->n_kept == 0) return false;
    for (uint32_t i = 1; i < node->n_kept; i++)
        if (node->kept[i]->used_ms < node->kept[oldest]->used_ms) oldest = i;
    drop(node, oldest);
    return true;
}

void prefix_drop_all(struct node *node) {
    while (node->n_kept > 0) drop(node, node->n_kept - 1);
}

void prefix_tick(struct node *node) {
    uint64_t now_ms = clock_life_ms();
    for (uint32_t i = node->n_kept; i-- > 0;)
        if (now_ms - node->kept[i]->used_ms >= PREFIX_AGE_MS) drop(node, i);
}

uint64_t prefix_tokens(const struct node *node) {
    uint64_t tokens = 0;
    uint32_t span = node->limits.end - node->limits.begin;
    for (uint32_t i = 0; i < node->n_kept; i++) {
        const struct session *s = node->kept[i];
        uint32_t pads = (s->max_tokens + KV_PAD - 1) / KV_PAD;
        tokens += (uint64_t)pads * KV_PAD * (s->lane.end - s->lane.begin) / span;
    }
    return tokens;
}
