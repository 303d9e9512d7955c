/* lan.h - nodes of one LAN find each other, by multicast over IPv4 and IPv6.
 *
 * The datagram is in wire/lan_msg.h, when it is sent in lan_pace.h, which networks it goes to in lan_segment.h. It goes to groups and a
 * port of the project's own with a hop limit of 1, out of each interface by itself, and never further than the link. What comes from
 * elsewhere than a network that this machine is directly on is dropped.
 *
 * What is found is a hint: anybody on the LAN can claim any key at the address that he sends from. Dialling proves the key. An
 * address with a zone ("[fe80::1%eth0]:31330") can be dialled here and must not be told to others: whoever dials the node on this LAN
 * (net_dial) tries the addresses that he heard himself, too.
 *
 * Threads: all on the loop thread of the net, or before net_run and after it returned.
 */
#ifndef COROLLA_NET_LAN_H
#define COROLLA_NET_LAN_H

#include "net/net.h"

#define LAN_PORT 31330                 /* UDP, shared by all processes of a machine */
#define LAN_GROUP_IPV4 "239.255.67.76" /* of the site's own range (RFC 2365) */
#define LAN_GROUP_IPV6 "ff12::c001:1a" /* link-local scope, not assigned by IANA (RFC 4291, RFC 3307) */

struct lan;

/* Asks at once, and answers where the listener of the net can be reached. on_found: a node was heard for the first time, at a new
 * address, or again after a while; node is borrowed for the call. Where multicast is not to be had nothing is found, and one line
 * of debugging says so; it is no failure. */
enum corolla_status lan_open(struct lan **out_lan, struct net *net, void (*on_found)(void *user, const struct node_ref *node), void *user,
                             struct corolla_error *err);
/* Whether those who answer our first question have done so; till then who is not heard may be here all the same. */
bool lan_settled(const struct lan *lan);
/* The addresses that a node was heard at of late; NULL: it was not. Borrowed until the loop goes on. */
const struct node_ref *lan_heard(const struct lan *lan, const struct node_id *id);
/* Before net_close. No on_found from here on. */
void lan_close(struct lan *lan);

#endif
