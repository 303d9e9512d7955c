/* reach.c - the way to likely next hops: servers that have the block behind our last one. Loop thread.
 *
 * A few of them, chosen at random and kept while they last, are linked to; the links' pings measure the round trips that our record
 * tells. A hop that is used is linked at once, since the link is there.
 */
#include <string.h>

#include "base/clock.h"
#include "crypto/rand.h"
#include "node/node.h"

#define REACH_MS 10000 /* between two looks for more */

static struct reach *reach_of(struct node *node, uint64_t digest) {
    for (uint32_t i = 0; i < REACH_MAX; i++)
        if (node->reach[i].digest == digest) return &node->reach[i];
    return NULL;
}

static void on_dialled(void *user, struct link *link, const struct corolla_error *err) {
    struct reach *reach = user;
    (void)err;
    reach->dialling = false;
    reach->link = link;
    if (!link) reach->digest = 0;
}

static bool likely(const struct node *node, const struct record *r) {
    uint32_t end = node->info.end < node->info.n_blocks ? node->info.end : 0; /* behind the last one a chain begins anew: nobody */
    return end > 0 && r->state == RECORD_ONLINE && r->node.n_addrs > 0 && r->begin <= end && end < r->end &&
           memcmp(r->model, node->info.model, ID_SIZE) == 0;
}

/* A random one among those that are not reached for yet. */
static const struct gossip_entry *pick(struct node *node) {
    const struct gossip_entry *picked = NULL;
    uint32_t n = 0;
    for (const struct gossip_entry *e = NULL; (e = gossip_each(mesh_gossip(node->mesh), e)) != NULL;) {
        if (e->suspected || !likely(node, e->record) || reach_of(node, e->digest)) continue;
        uint32_t random;
        rand_bytes(&random, sizeof random);
        if (random % ++n == 0) picked = e;
    }
    return picked;
}

void reach_tick(struct node *node) {
    uint64_t now = clock_life_ms();
    if (!node->mesh || now < node->reach_due_ms) return;
    node->reach_due_ms = now + REACH_MS;
    for (struct reach *place; (place = reach_of(node, 0)) != NULL;) {
        const struct gossip_entry *e = pick(node);
        if (!e) return;
        struct node_ref ref = e->record->node;
        *place = (struct reach){.node = node, .id = ref.id, .digest = e->digest, .dialling = true};
        net_dial(node->net, &ref, on_dialled, place);
    }
}

void reach_link_down(struct node *node, const struct link *link) {
    for (uint32_t i = 0; i < REACH_MAX; i++)
        if (node->reach[i].link == link && !node->reach[i].dialling) node->reach[i] = (struct reach){.digest = 0};
}

uint32_t reach_rtts(const struct node *node, struct record_rtt out[RECORD_RTTS_MAX]) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < REACH_MAX; i++) {
        const struct reach *reach = &node->reach[i];
        if (reach->link && link_rtt_us(reach->link) > 0)
            out[n++] = (struct record_rtt){.node = reach->digest, .rtt_us = link_rtt_us(reach->link)};
    }
    return n;
}
