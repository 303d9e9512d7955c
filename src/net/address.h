/* address.h - "host:port" texts and socket addresses. Any thread; no name is resolved here. */
#ifndef COROLLA_NET_ADDRESS_H
#define COROLLA_NET_ADDRESS_H

#include "wire/msg.h"

#include <stdbool.h>
#include <uv.h>

/* Splits "host:port" or "[v6]:port". INVALID, with what is wrong, otherwise. */
enum corolla_status address_split(const char *text, char out_host[ADDR_MAX], uint16_t *out_port, struct corolla_error *err);
/* False: host is a name, not an IP address. */
bool address_numeric(const char *host, uint16_t port, struct sockaddr_storage *out);
void address_format(const struct sockaddr *address, char out[ADDR_MAX]);
uint16_t address_port(const struct sockaddr *address);
void address_set_port(struct sockaddr *address, uint16_t port);
bool address_is_loopback(const struct sockaddr *address);
bool address_is_wildcard(const struct sockaddr *address);
/* The same host as far as limits go: one IPv4 address, or one /64 of IPv6. */
bool address_same_source(const struct sockaddr *a, const struct sockaddr *b);
/* Addresses of this machine's interfaces for a listener on a wildcard address: IPv4 first, without link-local ones; loopback only
 * when there is nothing else. out has ADDRS_MAX rows. Returns how many. */
uint32_t address_of_interfaces(const struct sockaddr *wildcard, char (*out)[ADDR_MAX]);

#endif
