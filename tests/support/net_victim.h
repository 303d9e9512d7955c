/* net_victim.h - a node that others attack, and an honest one that it serves all the while; one of each per test program.
 *
 * The victim echoes, and its deadlines are short: handshakes VICTIM_HANDSHAKE_MS, messages 1.5 s. It takes 40 half-open connections.
 */
#ifndef TEST_SUPPORT_NET_VICTIM_H
#define TEST_SUPPORT_NET_VICTIM_H

#include "support/net_node.h"

#define VICTIM_HANDSHAKE_MS 1000

extern struct node victim, honest;
extern struct link *honest_link;

int victim_open(void **state); /* group set-up and tear-down of cmocka */
int victim_close(void **state);
/* The honest peer is served: an echo of 100 KB comes back. */
void check_honest(void);
/* Resident memory of this process. Sanitizers keep what was freed and shadows of their own, so there it tells nothing: 0. */
size_t memory_kib(void);

#endif
