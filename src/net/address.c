/* address.c - see address.h. */
#include "net/address.h"

#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum corolla_status address_split(const char *text, char out_host[ADDR_MAX], uint16_t *out_port, struct corolla_error *err) {
    const char *host = text, *host_end = NULL, *colon = NULL;
    if (*text == '[') {
        host = text + 1;
        host_end = strchr(host, ']');
        colon = host_end ? host_end + 1 : NULL;
    } else {
        host_end = colon = strrchr(text, ':');
        if (colon && strchr(text, ':') != colon)
            return err_set(err, COROLLA_INVALID, "address \"%s\": write an IPv6 address in brackets, [::1]:31330", text);
    }
    if (!colon || *colon != ':' || host_end == host) return err_set(err, COROLLA_INVALID, "address \"%s\" is not HOST:PORT", text);
    if ((size_t)(host_end - host) >= ADDR_MAX || strlen(text) >= ADDR_MAX)
        return err_set(err, COROLLA_INVALID, "address \"%s\" is longer than %d characters", text, ADDR_MAX - 1);
    unsigned port = 0;
    const char *digit = colon + 1;
    for (; *digit >= '0' && *digit <= '9' && port < 65536; digit++) port = port * 10 + (unsigned)(*digit - '0');
    if (digit == colon + 1 || *digit != 0 || port > 65535)
        return err_set(err, COROLLA_INVALID, "address \"%s\": the port is not a number from 0 to 65535", text);
    memcpy(out_host, host, (size_t)(host_end - host));
    out_host[host_end - host] = 0;
    *out_port = (uint16_t)port;
    return COROLLA_OK;
}

bool address_numeric(const char *host, uint16_t port, struct sockaddr_storage *out) {
    memset(out, 0, sizeof(*out));
    return uv_ip4_addr(host, port, (struct sockaddr_in *)(void *)out) == 0 ||
           uv_ip6_addr(host, port, (struct sockaddr_in6 *)(void *)out) == 0;
}

static const struct sockaddr_in *as4(const struct sockaddr *a) { return (const struct sockaddr_in *)(const void *)a; }
static const struct sockaddr_in6 *as6(const struct sockaddr *a) { return (const struct sockaddr_in6 *)(const void *)a; }

/* The IPv4 address, plain or mapped into IPv6, in host order. */
static bool ipv4_of(const struct sockaddr *a, uint32_t *out) {
    if (a->sa_family == AF_INET) {
        *out = ntohl(as4(a)->sin_addr.s_addr);
        return true;
    }
    if (a->sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&as6(a)->sin6_addr)) return false;
    const uint8_t *b = as6(a)->sin6_addr.s6_addr;
    *out = (uint32_t)b[12] << 24 | (uint32_t)b[13] << 16 | (uint32_t)b[14] << 8 | b[15];
    return true;
}

void address_format(const struct sockaddr *address, char out[ADDR_MAX]) {
    uint32_t v4 = 0;
    char host[INET6_ADDRSTRLEN] = "?";
    if (ipv4_of(address, &v4)) {
        snprintf(out, ADDR_MAX, "%u.%u.%u.%u:%u", v4 >> 24, v4 >> 16 & 255, v4 >> 8 & 255, v4 & 255, address_port(address));
        return;
    }
    uv_ip6_name(as6(address), host, sizeof(host));
    snprintf(out, ADDR_MAX, "[%s]:%u", host, address_port(address));
}

uint16_t address_port(const struct sockaddr *a) { return ntohs(a->sa_family == AF_INET ? as4(a)->sin_port : as6(a)->sin6_port); }

void address_set_port(struct sockaddr *a, uint16_t port) {
    if (a->sa_family == AF_INET)
        ((struct sockaddr_in *)(void *)a)->sin_port = htons(port);
    else
        ((struct sockaddr_in6 *)(void *)a)->sin6_port = htons(port);
}

bool address_is_loopback(const struct sockaddr *a) {
    uint32_t v4 = 0;
    if (ipv4_of(a, &v4)) return v4 >> 24 == 127;
    return a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&as6(a)->sin6_addr);
}

bool address_is_wildcard(const struct sockaddr *a) {
    return a->sa_family == AF_INET ? as4(a)->sin_addr.s_addr == htonl(INADDR_ANY) : IN6_IS_ADDR_UNSPECIFIED(&as6(a)->sin6_addr);
}

bool address_same_source(const struct sockaddr *a, const struct sockaddr *b) {
    uint32_t a4 = 0, b4 = 0;
    bool a_is4 = ipv4_of(a, &a4), b_is4 = ipv4_of(b, &b4);
    if (a_is4 || b_is4) return a_is4 && b_is4 && a4 == b4;
    return memcmp(&as6(a)->sin6_addr, &as6(b)->sin6_addr, 8) == 0;
}

static bool wanted(const uv_interface_address_t *i, const struct sockaddr *wildcard, int pass) {
    const struct sockaddr *a = (const struct sockaddr *)(const void *)&i->address;
    if (a->sa_family == AF_INET) return pass == (i->is_internal ? 2 : 0);
    if (a->sa_family != AF_INET6 || wildcard->sa_family != AF_INET6 || IN6_IS_ADDR_LINKLOCAL(&as6(a)->sin6_addr)) return false;
    return pass == (i->is_internal ? 2 : 1);
}

uint32_t address_of_interfaces(const struct sockaddr *wildcard, char (*out)[ADDR_MAX]) {
    uv_interface_address_t *list = NULL;
    int n = 0;
    uint32_t found = 0;
    if (uv_interface_addresses(&list, &n) != 0) return 0;
    for (int pass = 0; pass < 3 && (pass < 2 || found == 0); pass++) {
        for (int i = 0; i < n && found < ADDRS_MAX; i++) {
            if (!wanted(&list[i], wildcard, pass)) continue;
            struct sockaddr_storage address;
            memset(&address, 0, sizeof(address));
            memcpy(&address, &list[i].address, sizeof(list[i].address));
            address_set_port((struct sockaddr *)&address, address_port(wildcard));
            address_format((struct sockaddr *)&address, out[found++]);
        }
    }
    uv_free_interface_addresses(list, n);
    return found;
}
