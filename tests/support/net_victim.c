/* net_victim.c - see net_victim.h. */
#include "support/net_victim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "support/sanitized.h"

struct node victim, honest;
struct link *honest_link;

int victim_open(void **state) {
    (void)state;
    struct net_config config;
    node_prepare(&victim, &config);
    config.handshake_ms = VICTIM_HANDSHAKE_MS;
    config.message_ms = 1500;
    config.half_open_max = 40;
    node_start(&victim, &config);
    victim.behaviour = NODE_ECHO;
    node_open(&honest);
    honest_link = node_dial(&honest, net_self(victim.net), NULL);
    return honest_link ? 0 : -1;
}

int victim_close(void **state) {
    (void)state;
    node_stop(&honest);
    node_stop(&victim);
    return 0;
}

void check_honest(void) {
    unsigned before = honest.messages;
    assert_int_equal(node_send(&honest, honest_link, 1, LINK_BULK, "still there?", 100000), COROLLA_OK);
    node_wait_messages(&honest, before + 1);
}

size_t memory_kib(void) {
    char line[128];
    size_t kib = 0;
    if (SANITIZED) return 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof(line), f)) sscanf(line, "VmRSS: %zu", &kib);
    if (f) fclose(f);
    return kib;
}
