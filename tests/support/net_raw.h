/* net_raw.h - a peer without manners: blocking sockets and OpenSSL, so that a test can send any bytes it likes to a net.
 *
 * Reads give up after RAW_WAIT_S seconds.
 */
#ifndef TEST_SUPPORT_NET_RAW_H
#define TEST_SUPPORT_NET_RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/frame.h"

#define RAW_WAIT_S 20

int raw_connect(uint16_t port); /* 127.0.0.1 */
/* A listener on 127.0.0.1 that takes connections and says nothing; close() it. */
int raw_silence(uint16_t *out_port);
/* True when the other side closes (or resets) the connection before ms are over. What it sends is thrown away. */
bool raw_closed_within(int fd, unsigned ms);

enum raw_key { RAW_ED25519, RAW_RSA, RAW_EC, RAW_NONE };
struct raw; /* a TLS client */
/* alpn NULL: none; max_version as in OpenSSL, 0: TLS 1.3. NULL: the handshake failed on our side. */
struct raw *raw_tls(int fd, enum raw_key key, const char *alpn, int max_version);
void raw_free(struct raw *raw); /* closes the socket, without ceremony */
int raw_fd(const struct raw *raw);
bool raw_write(struct raw *raw, const void *data, size_t size);
bool raw_frame(struct raw *raw, enum frame_type type, unsigned flags, uint32_t stream, const void *payload, size_t size);
bool raw_hello(struct raw *raw); /* a good one */
/* The next frame, payload into out (FRAME_PAYLOAD_MAX bytes). False: closed. */
bool raw_read_frame(struct raw *raw, struct frame_header *out_frame, uint8_t *out);
/* Reads until a GOODBYE: its status (and text, 256 bytes, when not NULL). -1: closed without one. */
int raw_goodbye(struct raw *raw, char *out_text);
/* Reads what is there without waiting. Adds to *credit what CREDIT frames bring; the status of a GOODBYE, or -1. */
int raw_poll(struct raw *raw, size_t *credit);
/* Connects, shakes hands and says HELLO. */
struct raw *raw_up(uint16_t port);
/* Starts a message: FIRST frame with a preamble and size - 8 bytes of payload behind it. */
bool raw_first(struct raw *raw, uint32_t stream, unsigned flags, uint16_t header_size, uint32_t body_size, size_t size);
bool raw_key_update(struct raw *raw);

#endif
