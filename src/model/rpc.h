/* rpc.h - devices of ggml's RPC servers: memory and kernels of another process, or of another machine that is trusted. The engine aborts
 * the process when such a server goes away. */
#ifndef COROLLA_MODEL_RPC_H
#define COROLLA_MODEL_RPC_H

#include <corolla.h>

#include "ggml-backend.h"

#define RPC_PREFIX "rpc:"

/* The first device of the server at HOST:PORT. NULL: there is none, err says why. */
ggml_backend_dev_t rpc_device(const char *at, struct corolla_error *err);

#endif
