/* local.h - a session whose blocks are all in this process. */
#ifndef COROLLA_CLIENT_LOCAL_H
#define COROLLA_CLIENT_LOCAL_H

#include "client/swarm.h"

enum corolla_status local_open(struct corolla_session **out_session, struct corolla_swarm *swarm, uint32_t max_tokens,
                               struct corolla_error *err);

#endif
