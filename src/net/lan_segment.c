/* lan_segment.c - see lan_segment.h. */
#include "net/lan_segment.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

static const struct sockaddr_in *as4(const struct sockaddr *a) { return (const struct sockaddr_in *)(const void *)a; }
static const struct sockaddr_in6 *as6(const struct sockaddr *a) { return (const struct sockaddr_in6 *)(const void *)a; }
static const struct sockaddr *own(const struct lan_segment *s) { return (const struct sockaddr *)&s->address; }

static bool usable(const struct ifaddrs *i) {
    if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) || (i->ifa_flags & IFF_POINTOPOINT)) return false;
    if (i->ifa_addr->sa_family == AF_INET) return i->ifa_netmask && (i->ifa_flags & (IFF_MULTICAST | IFF_LOOPBACK));
    return i->ifa_addr->sa_family == AF_INET6 && (i->ifa_flags & IFF_MULTICAST) && IN6_IS_ADDR_LINKLOCAL(&as6(i->ifa_addr)->sin6_addr);
}

/* The text of a host; link-local ones get their zone. */
static bool format_host(const struct lan_segment *segment, const struct sockaddr *a, char out[sizeof(segment->host)]) {
    char host[INET6_ADDRSTRLEN];
    bool ipv4 = a->sa_family == AF_INET;
    if ((ipv4 ? uv_ip4_name(as4(a), host, sizeof(host)) : uv_ip6_name(as6(a), host, sizeof(host))) != 0) return false;
    snprintf(out, sizeof(segment->host), "%s%s%s", host, ipv4 ? "" : "%", ipv4 ? "" : segment->interface_name);
    return true;
}

static bool take(const struct ifaddrs *i, struct lan_segment *out) {
    struct lan_segment s = {.interface = if_nametoindex(i->ifa_name)};
    if (!usable(i) || s.interface == 0) return false; /* 0: it went away meanwhile */
    snprintf(s.interface_name, sizeof(s.interface_name), "%s", i->ifa_name);
    if (i->ifa_addr->sa_family == AF_INET) {
        memcpy(&s.address, i->ifa_addr, sizeof(struct sockaddr_in));
        s.mask = ntohl(as4(i->ifa_netmask)->sin_addr.s_addr);
    } else {
        memcpy(&s.address, i->ifa_addr, sizeof(struct sockaddr_in6));
        ((struct sockaddr_in6 *)(void *)&s.address)->sin6_scope_id = s.interface;
    }
    *out = s;
    return format_host(out, own(out), out->host);
}

uint32_t lan_segments_find(struct lan_segment out[LAN_SEGMENTS_MAX]) {
    struct ifaddrs *list = NULL;
    uint32_t n = 0;
    if (getifaddrs(&list) != 0) return 0;
    for (const struct ifaddrs *i = list; i && n < LAN_SEGMENTS_MAX; i = i->ifa_next) n += take(i, &out[n]);
    freeifaddrs(list);
    return n;
}

/* The same host; of link-local ones on the same interface. */
static bool same_host(const struct sockaddr *a, const struct sockaddr *b) {
    if (a->sa_family != b->sa_family) return false;
    if (a->sa_family == AF_INET) return as4(a)->sin_addr.s_addr == as4(b)->sin_addr.s_addr;
    return memcmp(&as6(a)->sin6_addr, &as6(b)->sin6_addr, sizeof(struct in6_addr)) == 0 && as6(a)->sin6_scope_id == as6(b)->sin6_scope_id;
}

bool lan_segment_same(const struct lan_segment *a, const struct lan_segment *b) {
    return a->interface == b->interface && a->mask == b->mask && same_host(own(a), own(b));
}

bool lan_segment_holds(const struct lan_segment *segment, const struct sockaddr *source) {
    if (source->sa_family != own(segment)->sa_family) return false;
    if (source->sa_family == AF_INET6)
        return IN6_IS_ADDR_LINKLOCAL(&as6(source)->sin6_addr) && as6(source)->sin6_scope_id == segment->interface;
    uint32_t theirs = ntohl(as4(source)->sin_addr.s_addr), ours = ntohl(as4(own(segment))->sin_addr.s_addr);
    return segment->mask != 0 && (theirs & segment->mask) == (ours & segment->mask);
}

bool lan_segment_reaches(const struct lan_segment *segment, const struct sockaddr *listener) {
    if (!address_is_wildcard(listener)) return same_host(own(segment), listener);
    return listener->sa_family == AF_INET6 || own(segment)->sa_family == AF_INET; /* [::] takes IPv4 too */
}

bool lan_segment_format(const struct lan_segment *segment, const struct sockaddr *source, uint16_t port, char out[ADDR_MAX]) {
    char host[sizeof(segment->host)];
    if (!format_host(segment, source, host)) return false;
    int n = snprintf(out, ADDR_MAX, source->sa_family == AF_INET ? "%s:%u" : "[%s]:%u", host, port);
    return n > 0 && n < ADDR_MAX;
}
