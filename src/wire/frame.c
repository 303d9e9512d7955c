/* frame.c - the header of a frame and the preamble of a message; the layout is in frame.h. */
#include "wire/frame.h"

#include "base/err.h"
#include "base/mem.h"
#include "wire/msg.h"

void frame_encode(const struct frame_header *h, uint8_t out[FRAME_HEADER_SIZE]) {
    out[0] = h->type;
    out[1] = h->flags;
    le16_put(out + 2, h->size);
    le32_put(out + 4, h->stream);
}

/* The payload sizes that a type allows: [min, max]. False for a type that does not exist. */
static bool payload_range(const struct frame_header *h, unsigned *out_min, unsigned *out_max) {
    switch (h->type) {
    case FRAME_HELLO:
        *out_min = 1;
        *out_max = FRAME_HELLO_MAX;
        return true;
    case FRAME_PING:
    case FRAME_PONG: *out_min = *out_max = FRAME_PING_SIZE; return true;
    case FRAME_DATA:
        *out_min = h->flags & FRAME_FIRST ? FRAME_PREAMBLE_SIZE : 1;
        *out_max = FRAME_PAYLOAD_MAX;
        return true;
    case FRAME_CREDIT: *out_min = *out_max = FRAME_CREDIT_SIZE; return true;
    case FRAME_GOODBYE:
        *out_min = 2;
        *out_max = FRAME_GOODBYE_MAX;
        return true;
    default: return false;
    }
}

enum corolla_status frame_decode(const uint8_t in[FRAME_HEADER_SIZE], struct frame_header *out, struct corolla_error *err) {
    struct frame_header h = {.type = in[0], .flags = in[1], .size = le16_get(in + 2), .stream = le32_get(in + 4)};
    unsigned min, max;
    if (!payload_range(&h, &min, &max)) {
        return err_set(err, COROLLA_FORMAT, "frame of unknown type %u", h.type);
    }
    if ((h.flags & ~(unsigned)(FRAME_FIRST | FRAME_LAST)) != 0 || (h.flags != 0 && h.type != FRAME_DATA)) {
        return err_set(err, COROLLA_FORMAT, "frame of type %u with flags %u", h.type, h.flags);
    }
    if (h.size < min || h.size > max) {
        return err_set(err, COROLLA_FORMAT, "frame of type %u with %u bytes, it must have %u to %u", h.type, h.size, min, max);
    }
    bool on_stream = h.type == FRAME_DATA || h.type == FRAME_CREDIT;
    if (on_stream != (h.stream != 0)) {
        return err_set(err, COROLLA_FORMAT, "frame of type %u on stream %u", h.type, (unsigned)h.stream);
    }
    *out = h;
    return COROLLA_OK;
}

void frame_preamble_encode(const struct frame_preamble *p, uint8_t out[FRAME_PREAMBLE_SIZE]) {
    le16_put(out, p->kind);
    le16_put(out + 2, p->header_size);
    le32_put(out + 4, p->body_size);
}

enum corolla_status frame_preamble_decode(const uint8_t in[FRAME_PREAMBLE_SIZE], struct frame_preamble *out, struct corolla_error *err) {
    struct frame_preamble p = {.kind = le16_get(in), .header_size = le16_get(in + 2), .body_size = le32_get(in + 4)};
    if (p.kind == 0) {
        return err_set(err, COROLLA_FORMAT, "message of kind 0");
    }
    if (p.body_size > 0 && !msg_kind_has_body(p.kind)) {
        return err_set(err, COROLLA_FORMAT, "message of kind %u with a body, it must have none", p.kind);
    }
    if (p.header_size > MSG_HEADER_MAX || p.body_size > MSG_BODY_MAX) {
        return err_set(err, COROLLA_FORMAT, "message of kind %u is too large: header %u, body %u bytes", p.kind, p.header_size,
                       (unsigned)p.body_size);
    }
    *out = p;
    return COROLLA_OK;
}
