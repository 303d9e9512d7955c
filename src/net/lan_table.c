/* lan_table.c - see lan_table.h. */
#include "net/lan_table.h"

#include <string.h>

static bool same_host(const char *a, const char *b) {
    const char *end = strrchr(a, ':');
    return end && strncmp(a, b, (size_t)(end - a) + 1) == 0;
}

/* Heard from the host, be it only once: a host with two addresses does not get room by taking turns. */
static bool is_on(const struct lan_node *node, const char *address) {
    uint32_t at = 0;
    while (at < node->ref.n_addrs && !same_host(node->ref.addrs[at], address)) at++;
    return at < node->ref.n_addrs;
}

/* table->n: it is not there. */
static uint32_t find(const struct lan_table *table, const struct node_id *id) {
    uint32_t at = 0;
    while (at < table->n && !node_id_equal(&table->nodes[at].ref.id, id)) at++;
    return at;
}

/* The place for a new node: a free one, or that of the node that was silent longest, among those of its host when the host has all
 * that it may have. NULL: the host's nodes are all alive. */
static struct lan_node *place(struct lan_table *table, const char *address, uint64_t now_ms) {
    struct lan_node *oldest = NULL, *oldest_here = NULL;
    uint32_t n_here = 0;
    for (uint32_t i = 0; i < table->n; i++) {
        struct lan_node *node = &table->nodes[i];
        if (!oldest || node->heard_ms < oldest->heard_ms) oldest = node;
        if (!is_on(node, address)) continue;
        n_here++;
        if (!oldest_here || node->heard_ms < oldest_here->heard_ms) oldest_here = node;
    }
    if (n_here >= LAN_HOST_NODES) return now_ms - oldest_here->heard_ms >= LAN_AGAIN_MS ? oldest_here : NULL;
    return table->n < LAN_NODES_MAX ? &table->nodes[table->n++] : oldest;
}

/* Puts the address first. True: it is new. */
static bool put_address(struct node_ref *ref, const char *address) {
    uint32_t at = 0;
    while (at < ref->n_addrs && strcmp(ref->addrs[at], address) != 0) at++;
    bool is_new = at == ref->n_addrs;
    if (is_new && ref->n_addrs < ADDRS_MAX) ref->n_addrs++;
    if (at == ADDRS_MAX) at--;
    memmove(ref->addrs[1], ref->addrs[0], at * sizeof(ref->addrs[0]));
    memset(ref->addrs[0], 0, sizeof(ref->addrs[0]));
    memcpy(ref->addrs[0], address, strnlen(address, ADDR_MAX - 1));
    return is_new;
}

static bool may_tell(struct lan_table *table, uint64_t now_ms) {
    if (now_ms - table->second_ms >= 1000) {
        table->second_ms = now_ms;
        table->n_told = 0;
    }
    return table->n_told < LAN_FOUND_PER_S;
}

const struct node_ref *lan_table_find(const struct lan_table *table, const struct node_id *id) {
    uint32_t at = find(table, id);
    return at < table->n ? &table->nodes[at].ref : NULL;
}

const struct node_ref *lan_table_heard(struct lan_table *table, const struct node_id *id, const char *address, uint64_t now_ms) {
    uint32_t at = find(table, id);
    struct lan_node *node = at < table->n ? &table->nodes[at] : NULL;
    if (!may_tell(table, now_ms) && !node) return NULL; /* a flood of new names leaves those that are known alone */
    if (!node) {
        node = place(table, address, now_ms);
        if (!node) return NULL;
        *node = (struct lan_node){.ref.id = *id};
    }
    bool news = put_address(&node->ref, address) || now_ms - node->told_ms >= LAN_AGAIN_MS;
    node->heard_ms = now_ms;
    if (!news || !may_tell(table, now_ms)) return NULL;
    node->told_ms = now_ms;
    table->n_told++;
    return &node->ref;
}
