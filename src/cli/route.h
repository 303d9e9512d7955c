/* route.h - how a chain is shown: a line per hop on stderr, or as JSON. */
#ifndef COROLLA_CLI_ROUTE_H
#define COROLLA_CLI_ROUTE_H

#include <corolla.h>
#include <jansson.h>

void route_print(struct corolla_swarm *swarm);
/* [{"node","begin","end"}]; NULL: out of memory. */
json_t *route_json(struct corolla_swarm *swarm);

#endif
