/* rpc.c - see rpc.h. */
#include "model/rpc.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"

/* The engine aborts when it cannot connect, so it is tried before. */
static bool answers(const char *at) {
    char host[128];
    const char *port = strrchr(at, ':');
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    if (!port || (size_t)(port - at) >= sizeof host) return false;
    snprintf(host, sizeof host, "%.*s", (int)(port - at), at);
    if (getaddrinfo(host, port + 1, &hints, &found)) return false;
    int fd = socket(found->ai_family, SOCK_STREAM, 0);
    bool good = fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) == 0;
    if (fd >= 0) close(fd);
    freeaddrinfo(found);
    return good;
}

ggml_backend_dev_t rpc_device(const char *at, struct corolla_error *err) {
    ggml_backend_reg_t rpc = ggml_backend_reg_by_name("RPC");
    ggml_backend_reg_t (*add_server)(const char *) =
        rpc ? (ggml_backend_reg_t(*)(const char *))ggml_backend_reg_get_proc_address(rpc, "ggml_backend_rpc_add_server") : NULL;
    ggml_backend_reg_t server = add_server && answers(at) ? add_server(at) : NULL;
    if (server && ggml_backend_reg_dev_count(server) > 0) return ggml_backend_reg_dev_get(server, 0);
    err_set(err, COROLLA_NOT_FOUND, "there is no RPC server of ggml at %s%s", at, add_server ? "" : ": this engine has no RPC");
    return NULL;
}
