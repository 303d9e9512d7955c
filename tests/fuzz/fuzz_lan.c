/* fuzz_lan.c - what comes unasked from the LAN and from a file of the home. The input is taken twice: as a datagram, which then goes into a
 * table of found nodes, and as the text of remembered peers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mesh/peer_list.h"
#include "net/lan_table.h"
#include "wire/addr.h"
#include "wire/lan_msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok) {
    if (!ok) {
        abort();
    }
}

static void take_datagram(const uint8_t *data, size_t size) {
    static struct lan_table table;
    static uint64_t now_ms;
    struct lan_msg m, back;
    uint8_t bytes[LAN_MSG_SIZE];
    if (!lan_msg_decode(data, size, &m)) {
        return;
    }
    must(m.asks || m.port != 0);
    lan_msg_encode(&m, bytes);
    must(lan_msg_decode(bytes, sizeof(bytes), &back) && back.port == m.port && back.asks == m.asks && node_id_equal(&back.id, &m.id));
    now_ms += data[size - 1] * 100u;
    char address[ADDR_MAX];
    snprintf(address, sizeof(address), "10.0.0.%u:%u", m.id.key[0], m.port);
    const struct node_ref *node = m.port == 0 ? NULL : lan_table_heard(&table, &m.id, address, now_ms);
    must(table.n <= LAN_NODES_MAX && table.n_told <= LAN_FOUND_PER_S);
    must(node == NULL || (node->n_addrs <= ADDRS_MAX && strcmp(node->addrs[0], address) == 0));
}

static void take_text(const char *text, size_t size) {
    static struct peer_list list, back, file;
    static char out[PEER_TEXT_MAX], again[PEER_TEXT_MAX];
    if (!peer_list_parse(text, size, &list)) {
        return;
    }
    must(list.n <= PEER_LIST_MAX && peer_list_count(&list) == list.n);
    for (uint32_t i = 0; i < list.n; i++) {
        must(list.peers[i].ref.n_addrs >= 1 && addr_valid(list.peers[i].ref.addrs[list.peers[i].ref.n_addrs - 1]));
        must(i == 0 || list.peers[i - 1].score >= list.peers[i].score);
    }
    size_t used = peer_list_format(&list, out);
    must(peer_list_parse(out, used, &back) && peer_list_format(&back, again) == used && memcmp(out, again, used) == 0);
    if (list.n > 0) {
        struct node_ref first = list.peers[0].ref, last = list.peers[list.n - 1].ref;
        peer_list_failed(&list, &first.id);
        peer_list_linked(&list, &last, first.id.key);
    }
    file = back;
    peer_list_merge(&file, &list);
    must(file.n <= PEER_LIST_MAX && peer_list_format(&file, out) < PEER_TEXT_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size > 0 ? size : 1); /* no byte behind the end may be read */
    must(copy != NULL);
    if (size > 0) {
        memcpy(copy, data, size);
    }
    take_datagram(copy, size);
    take_text((const char *)copy, size);
    free(copy);
    return 0;
}
