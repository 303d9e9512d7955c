/* listen.c - the listener: binding, what this node says of its own addresses, and whom it lets in.
 *
 * A connection costs nothing but its handshake until it is up, and that is limited: half-open ones in total and per source
 * address (loopback is exempt from the second: many nodes of one machine may start together). One too many is closed at once.
 */
#include "net/link.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "wire/addr.h"

#include <string.h>

#define BACKLOG 256
#define ACCEPT_AGAIN_MS 100 /* after there was no memory for a connection */
#define ACCEPT_LOG_US 60000000

static enum corolla_status resolve(struct net *net, const char *text, struct sockaddr_storage *out, struct corolla_error *err) {
    char host[ADDR_MAX];
    uint16_t port = 0;
    enum corolla_status status = address_split(text, host, &port, err);
    if (status != COROLLA_OK || address_numeric(host, port, out)) return status;
    uv_getaddrinfo_t request;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int result = uv_getaddrinfo(&net->loop, &request, NULL, host, NULL, &hints); /* at start only: it may block */
    if (result != 0) return err_set(err, COROLLA_NOT_FOUND, "cannot listen on %s: %s: %s", text, host, uv_strerror(result));
    memcpy(out, request.addrinfo->ai_addr, request.addrinfo->ai_addrlen);
    uv_freeaddrinfo(request.addrinfo);
    address_set_port((struct sockaddr *)out, port);
    return COROLLA_OK;
}

static uint32_t half_open_from(const struct net *net, const struct sockaddr *source) {
    uint32_t n = 0;
    for (const struct link *link = net->first; link; link = link->next)
        n += link->half_open && address_same_source((const struct sockaddr *)&link->remote, source);
    return n;
}

static void on_connection(uv_stream_t *listener, int status);

static void on_accept_again(uv_timer_t *timer) {
    struct net *net = timer->data;
    on_connection((uv_stream_t *)&net->listener, 0);
}

/* Who connects much causes this, when files run out: one line a minute is enough. */
static void log_accept_failed(struct net *net, int status) {
    uint64_t now = clock_us();
    if (net->accept_logged_us > 0 && now - net->accept_logged_us < ACCEPT_LOG_US) return;
    net->accept_logged_us = now;
    log_warn("accept_failed why=\"%s\"", uv_strerror(status));
}

static void on_connection(uv_stream_t *listener, int status) {
    struct net *net = listener->data;
    if (status < 0) {
        log_accept_failed(net, status);
        return;
    }
    struct link *link = link_new(net, false);
    if (!link) { /* libuv holds the connection back, and listens no more until it is taken */
        uv_timer_start(&net->timer, on_accept_again, ACCEPT_AGAIN_MS, 0);
        return;
    }
    int size = sizeof(link->remote);
    const struct sockaddr *source = (const struct sockaddr *)&link->remote;
    if (uv_accept(listener, (uv_stream_t *)&link->tcp) != 0 ||
        uv_tcp_getpeername(&link->tcp, (struct sockaddr *)&link->remote, &size) != 0) {
        link_fail(link, COROLLA_PEER_LOST, "gone before it was accepted");
        return;
    }
    address_format(source, link->address);
    if (net->stopping)
        link_fail(link, COROLLA_CANCELLED, "this node is leaving");
    else if (net->n_half_open >= net->config.half_open_max)
        link_fail(link, COROLLA_BUSY, "%u connections are half-open", net->n_half_open);
    else if (!address_is_loopback(source) && half_open_from(net, source) >= net->config.half_open_per_address_max)
        link_fail(link, COROLLA_BUSY, "%u connections of this address are half-open", net->config.half_open_per_address_max);
    else
        link_accepted(link);
}

/* The wildcard of IPv6 takes IPv4 as well; where there is no IPv6, it is that of IPv4. */
static int bind_listener(struct net *net, struct sockaddr_storage *at) {
    const struct sockaddr *address = (const struct sockaddr *)at;
    int result = uv_tcp_bind(&net->listener, address, 0);
    if (result != UV_EAFNOSUPPORT || address->sa_family != AF_INET6 || !address_is_wildcard(address)) return result;
    address_numeric("0.0.0.0", address_port(address), at);
    return uv_tcp_bind(&net->listener, address, 0);
}

static enum corolla_status bind_and_listen(struct net *net, const char *text, struct sockaddr_storage *at, struct corolla_error *err) {
    int size = sizeof(*at);
    int result = bind_listener(net, at);
    if (result == 0) result = uv_listen((uv_stream_t *)&net->listener, BACKLOG, on_connection);
    if (result == 0) result = uv_tcp_getsockname(&net->listener, (struct sockaddr *)at, &size);
    if (result != 0) return err_set(err, COROLLA_IO, "cannot listen on %s: %s", text, uv_strerror(result));
    return COROLLA_OK;
}

static enum corolla_status take_announces(struct net *net, const struct net_config *config, struct corolla_error *err) {
    if (config->n_announces > ADDRS_MAX)
        return err_set(err, COROLLA_INVALID, "%zu addresses to announce; at most %d", config->n_announces, ADDRS_MAX);
    for (size_t i = 0; i < config->n_announces; i++) {
        if (!addr_valid(config->announces[i]))
            return err_set(err, COROLLA_INVALID, "cannot announce \"%s\": it is not HOST:PORT", config->announces[i]);
        strcpy(net->self.addrs[i], config->announces[i]); /* addr_valid: shorter than ADDR_MAX */
    }
    net->self.n_addrs = (uint32_t)config->n_announces;
    return COROLLA_OK;
}

enum corolla_status listen_open(struct net *net, const struct net_config *config, struct corolla_error *err) {
    struct sockaddr_storage at;
    enum corolla_status status = take_announces(net, config, err);
    if (status != COROLLA_OK || !config->listen) return status;
    status = resolve(net, config->listen, &at, err);
    if (status != COROLLA_OK) return status;
    uv_tcp_init(&net->loop, &net->listener);
    net->listener.data = net;
    net->listening = true;
    status = bind_and_listen(net, config->listen, &at, err);
    if (status != COROLLA_OK || net->self.n_addrs > 0) return status;
    if (address_is_wildcard((struct sockaddr *)&at)) {
        net->self.n_addrs = address_of_interfaces((struct sockaddr *)&at, net->self.addrs);
    } else {
        address_format((struct sockaddr *)&at, net->self.addrs[0]);
        net->self.n_addrs = 1;
    }
    return COROLLA_OK;
}
