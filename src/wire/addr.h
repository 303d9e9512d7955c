/* addr.h - the shape of an address, "host:port". Names are not resolved here. Pure; any thread. */
#ifndef COROLLA_WIRE_ADDR_H
#define COROLLA_WIRE_ADDR_H

#include <stdbool.h>
#include <stddef.h>

/* True when text is a name or IPv4 address, or an IPv6 address in brackets, then ":" and a port from 1 to 65535, and shorter
 * than ADDR_MAX (wire/msg.h). */
bool addr_valid(const char *text);

#endif
