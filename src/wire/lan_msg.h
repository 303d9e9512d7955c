/* lan_msg.h - the datagram by which nodes of one LAN find each other. Pure; any thread.
 *
 *    0   7  "corolla"
 *    7   1  version: 1
 *    8   1  flags: bit 0 ASKS (say where you are); the other bits are 0
 *    9   1  0
 *   10   2  TCP port of the sender's listener, u16 little-endian; 0: it cannot be dialled and says nothing of itself
 *   12   4  instance, u32 little-endian
 *   16  32  Ed25519 public key
 *   48      end of what version 1 knows; up to LAN_MSG_MAX bytes may follow and are ignored
 *
 * There is no address inside: a receiver takes the one that the datagram came from, so nobody can point others at a third machine. Nothing
 * is proved either: the key is, by the handshake of whoever dials. Without a port instance and key are zeros, so that a mere
 * client does not tell the LAN who it is. Asking and answering have one size, so no answer is larger than its question.
 */
#ifndef COROLLA_WIRE_LAN_MSG_H
#define COROLLA_WIRE_LAN_MSG_H

#include "wire/msg.h"

#define LAN_MSG_SIZE 48
#define LAN_MSG_MAX 256 /* a longer datagram is not ours */
#define LAN_MSG_VERSION 1

struct lan_msg {
    bool asks;
    uint16_t port;     /* 0: cannot be dialled */
    struct node_id id; /* zeros when port is 0 */
};

void lan_msg_encode(const struct lan_msg *m, uint8_t out[LAN_MSG_SIZE]);
/* False, and *out untouched, when it is not such a datagram or says nothing at all. */
bool lan_msg_decode(const uint8_t *in, size_t size, struct lan_msg *out);

#endif
