/* lan_segment.h - the networks that this machine is directly on, as far as nodes look for each other there.
 *
 * A segment is one address of one interface: an IPv4 address with its network, or the IPv6 link-local address. Interfaces that are
 * down, cannot multicast or are tunnels to one other machine (a VPN is no LAN) are left out; the loopback interface is in, over IPv4, so
 * that the processes of a machine without a network find each other.
 */
#ifndef COROLLA_NET_LAN_SEGMENT_H
#define COROLLA_NET_LAN_SEGMENT_H

#include "net/address.h"
#include "net/lan_pace.h"

#define LAN_SEGMENTS_MAX 32 /* a machine for containers has hundreds of interfaces that lead nowhere */

struct lan_segment {
    struct sockaddr_storage address; /* ours; port 0 */
    uint32_t mask;                   /* of an IPv4 network, in host order */
    unsigned interface;              /* its index */
    char interface_name[UV_IF_NAMESIZE];
    char host[INET6_ADDRSTRLEN + UV_IF_NAMESIZE]; /* address as text, with the name of the interface behind "%" when it is link-local */
    struct lan_pace pace;                         /* for lan.c */
};

/* Those of now. Returns how many. */
uint32_t lan_segments_find(struct lan_segment out[LAN_SEGMENTS_MAX]);
bool lan_segment_same(const struct lan_segment *a, const struct lan_segment *b);
/* Whether a datagram from source can only have come from this segment's own network. */
bool lan_segment_holds(const struct lan_segment *segment, const struct sockaddr *source);
/* Whether a listener at this address is reached from the segment at the segment's own address. */
bool lan_segment_reaches(const struct lan_segment *segment, const struct sockaddr *listener);
/* "host:port" for a source that the segment holds; a link-local host has its zone. False: it does not fit. */
bool lan_segment_format(const struct lan_segment *segment, const struct sockaddr *source, uint16_t port, char out[ADDR_MAX]);

#endif
