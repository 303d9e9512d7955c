/* frame.h - the unit that travels on a link: an 8-byte header and at most FRAME_PAYLOAD_MAX bytes. Pure.
 *
 *   0      1       2              4                     8
 *   +------+-------+--------------+---------------------+------------------
 *   | type | flags | payload size | stream id           | payload ...
 *   +------+-------+--------------+---------------------+------------------
 *     u8     u8      u16 LE         u32 LE
 *
 * A message (src/wire/msg.h) is cut into DATA frames of one stream. The first (flag FIRST) starts with the preamble
 *   u16 LE kind | u16 LE header size | u32 LE body size
 * then come the header (protobuf) and the body (raw tensor bytes), running on through the frames that follow; the last has flag LAST.
 */
#ifndef COROLLA_WIRE_FRAME_H
#define COROLLA_WIRE_FRAME_H

#include <corolla.h>

#define FRAME_HEADER_SIZE 8
#define FRAME_SIZE_MAX 65536
#define FRAME_PAYLOAD_MAX 65528 /* so that a frame is at most 64 KiB and the size fits 16 bits */
#define FRAME_PREAMBLE_SIZE 8
#define FRAME_HELLO_MAX 4096 /* a HELLO has at most 1,100 bytes; the rest is for fields to come */
#define FRAME_PING_SIZE 8
#define FRAME_CREDIT_SIZE 4
#define FRAME_GOODBYE_MAX 257             /* a status and TEXT_SIZE - 1 bytes of text */
#define MSG_HEADER_MAX 24576              /* a step with 63 hops of 4 addresses has 21 KiB, one with 5 usual hops 500 bytes */
#define MSG_BODY_MAX (64u << 20)          /* 512 tokens of 32,768 floats */
#define FRAME_CREDIT_INITIAL (256u << 10) /* payload bytes that may be under way on a stream, each direction */

enum frame_type {
    FRAME_HELLO = 1, /* stream 0, payload: protobuf Hello; the first frame of each side */
    FRAME_PING,      /* stream 0, payload: 8 opaque bytes, returned in PONG */
    FRAME_PONG,
    FRAME_DATA,    /* a part of a message */
    FRAME_CREDIT,  /* payload: u32 LE, more bytes that the receiver of this frame may send on the stream */
    FRAME_GOODBYE, /* stream 0, payload: u16 LE status, UTF-8 text: the sender closes the link and says why */
};
enum frame_flag { FRAME_FIRST = 1, FRAME_LAST = 2 };

struct frame_header {
    uint8_t type, flags;
    uint16_t size; /* of the payload */
    uint32_t stream;
};

void frame_encode(const struct frame_header *h, uint8_t out[FRAME_HEADER_SIZE]);
/* Checks type, flags, size, and that they fit together; FORMAT otherwise. */
enum corolla_status frame_decode(const uint8_t in[FRAME_HEADER_SIZE], struct frame_header *out, struct corolla_error *err);

struct frame_preamble {
    uint16_t kind, header_size;
    uint32_t body_size;
};
void frame_preamble_encode(const struct frame_preamble *p, uint8_t out[FRAME_PREAMBLE_SIZE]);
enum corolla_status frame_preamble_decode(const uint8_t in[FRAME_PREAMBLE_SIZE], struct frame_preamble *out, struct corolla_error *err);

#endif
