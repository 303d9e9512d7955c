/* send.c - see send.h. */
#include "net/send.h"

#include "base/err.h"
#include "base/mem.h"
#include "net/receive.h"

#include <assert.h>

/* Of the half-sent messages that a link may have, these many stay free for urgent ones. */
#define PARTIAL_KEPT 16
#define LARGE_KEPT 4
#define OUTGOING_SIZE (sizeof(struct outgoing) + FRAME_PREAMBLE_SIZE) /* and the header */

static size_t left_of(const struct outgoing *out) { return out->size - out->sent; }

static bool is_careful(const struct streams *s) { return s->near && s->calm < SEND_CALM_FRAMES; }

/* What the stream may send now, by its credit and by our own window. */
static size_t window_of(const struct stream *stream) {
    if (stream->first->priority == LINK_URGENT || !is_careful(stream->owner) || stream->credit > FRAME_CREDIT_INITIAL)
        return stream->credit;
    size_t under_way = FRAME_CREDIT_INITIAL - stream->credit;
    return under_way < SEND_NEAR_WINDOW ? SEND_NEAR_WINDOW - under_way : 0;
}

static size_t frame_size(const struct stream *stream) {
    size_t size = left_of(stream->first), window = window_of(stream);
    if (size > FRAME_PAYLOAD_MAX) size = FRAME_PAYLOAD_MAX;
    return size < window ? size : window;
}

static bool can_send(const struct stream *stream) {
    if (!stream->first) return false;
    size_t left = left_of(stream->first);
    return window_of(stream) >= (left < SEND_FRAME_MIN ? left : SEND_FRAME_MIN);
}

static void ring_remove(struct stream *stream) {
    if (!stream->ringed) return;
    struct ring *ring = &stream->owner->rings[stream->ring];
    *(stream->ring_prev ? &stream->ring_prev->ring_next : &ring->first) = stream->ring_next;
    *(stream->ring_next ? &stream->ring_next->ring_prev : &ring->last) = stream->ring_prev;
    stream->ring_prev = stream->ring_next = NULL;
    stream->ringed = false;
}

/* Puts the stream at the end of the ring where it belongs now, if anywhere. */
static void ring_append(struct stream *stream) {
    ring_remove(stream);
    if (!can_send(stream)) return;
    stream->ring = stream->first->priority;
    struct ring *ring = &stream->owner->rings[stream->ring];
    stream->ring_prev = ring->last;
    *(ring->last ? &ring->last->ring_next : &ring->first) = stream;
    ring->last = stream;
    stream->ringed = true;
}

static struct outgoing *outgoing_new(struct pool *pool, enum msg_kind kind, const uint8_t *header, size_t header_size, struct body *body) {
    struct body *block = pool_take(pool, NULL, OUTGOING_SIZE + header_size);
    if (!block) return NULL;
    struct outgoing *out = (struct outgoing *)(void *)block->data;
    memset(out, 0, sizeof(*out));
    out->block = block;
    out->body = body;
    out->head_size = FRAME_PREAMBLE_SIZE + header_size;
    out->size = out->head_size + (body ? body->size : 0);
    out->held = body_capacity(block) + (body ? body_capacity(body) : 0);
    struct frame_preamble preamble = {(uint16_t)kind, (uint16_t)header_size, body ? (uint32_t)body->size : 0};
    frame_preamble_encode(&preamble, out->head);
    if (header_size > 0) memcpy(out->head + FRAME_PREAMBLE_SIZE, header, header_size);
    return out;
}

/* OK: the link and the total have room for a message that holds so much. */
static enum corolla_status check_room(const struct streams *s, size_t held, bool small) {
    const struct budget *budget = s->budget;
    size_t own = s->queued_bytes + held;
    size_t total_max = own <= SEND_RESERVED ? budget->queued_max : budget->queued_max - budget->queued_max / 8;
    if (small && s->queued_small + held > SEND_SMALL_MAX) return COROLLA_BUSY;
    return own > s->queued_bytes_max || budget->queued + held > total_max ? COROLLA_NOMEM : COROLLA_OK;
}

static void count_queued(struct streams *s, const struct outgoing *out, int step) {
    size_t held = step > 0 ? out->held : 0 - out->held;
    s->queued_bytes += held;
    s->budget->queued += held;
    if (!out->body) s->queued_small += held;
}

enum corolla_status send_queue(struct streams *s, uint32_t id, enum link_priority priority, enum msg_kind kind, const uint8_t *header,
                               size_t header_size, struct body *body) {
    struct stream *stream = NULL;
    struct outgoing *out = NULL;
    enum corolla_status status = COROLLA_NOMEM;
    size_t held = 0;
    bool full = false;
    if (id == 0 || header_size > MSG_HEADER_MAX || (body && body->size > MSG_BODY_MAX)) {
        status = COROLLA_INVALID;
        goto refuse;
    }
    if (s->n >= STREAM_SEND_MAX && !stream_find(s, id)) goto refuse;
    held = pool_capacity_of(OUTGOING_SIZE + header_size) + (body ? body_capacity(body) : 0);
    status = check_room(s, held, !body);
    if (status != COROLLA_OK) goto refuse;
    status = COROLLA_NOMEM;
    stream = stream_get(s, id, &full);
    if (!stream) goto refuse;
    out = outgoing_new(s->pool, kind, header, header_size, body);
    if (!out) goto refuse;
    out->priority = priority;
    *(stream->last ? &stream->last->next : &stream->first) = out;
    stream->last = out;
    pool_discharge(s->pool, body);
    count_queued(s, out, 1);
    if (stream->first == out) ring_append(stream);
    return COROLLA_OK;
refuse:
    pool_give(s->pool, body);
    return status;
}

static bool is_paced(const struct streams *s, const struct outgoing *out) { return s->paced && out->priority == LINK_BULK && out->body; }

static bool has_turn(const struct streams *s, const struct stream *stream) {
    return s->turn || (s->rush > 0 && s->half == stream) || !is_paced(s, stream->first);
}

/* A message that does not fit into one frame counts as half-sent, and their number is limited. */
static bool may_start(const struct streams *s, const struct stream *stream) {
    const struct outgoing *out = stream->first;
    if (out->sent > 0 || frame_size(stream) == out->size) return true;
    if (s->half && is_paced(s, out)) return false;
    bool urgent = out->priority == LINK_URGENT;
    if (s->n_partial >= STREAM_PARTIAL_MAX - (urgent ? 0 : PARTIAL_KEPT)) return false;
    if (out->size <= STREAM_LARGE) return true;
    return s->n_partial_large < (urgent ? STREAM_LARGE_MAX : is_careful(s) ? SEND_NEAR_LARGE : STREAM_LARGE_MAX - LARGE_KEPT);
}

static struct stream *first_ready(const struct streams *s, enum link_priority priority) {
    for (struct stream *stream = s->rings[priority].first; stream; stream = stream->ring_next) {
        if (can_send(stream) && may_start(s, stream) && has_turn(s, stream)) return stream;
    }
    return NULL;
}

bool send_waits(const struct streams *s) {
    for (struct stream *stream = s->rings[LINK_BULK].first; stream; stream = stream->ring_next) {
        if (is_paced(s, stream->first) && can_send(stream) && may_start(s, stream)) return true;
    }
    return false;
}

bool send_pick(struct streams *s, struct send_frame *out) {
    bool yield = s->urgent_run >= SEND_URGENT_RUN;
    struct stream *stream = first_ready(s, yield ? LINK_BULK : LINK_URGENT);
    if (!stream) stream = first_ready(s, yield ? LINK_URGENT : LINK_BULK);
    if (!stream) return false;
    const struct outgoing *msg = stream->first;
    size_t size = frame_size(stream), in_head = 0;
    memset(out, 0, sizeof(*out));
    out->stream = stream;
    if (msg->sent < msg->head_size) {
        in_head = msg->head_size - msg->sent < size ? msg->head_size - msg->sent : size;
        out->part[0] = msg->head + msg->sent;
        out->part_size[0] = in_head;
    }
    if (size > in_head) {
        out->part[1] = msg->body->data + (msg->sent + in_head - msg->head_size);
        out->part_size[1] = size - in_head;
    }
    unsigned flags = (msg->sent == 0 ? FRAME_FIRST : 0u) | (msg->sent + size == msg->size ? FRAME_LAST : 0u);
    out->frame = (struct frame_header){FRAME_DATA, (uint8_t)flags, (uint16_t)size, stream->id};
    return true;
}

static void count_partial(struct streams *s, const struct outgoing *out, int step) {
    s->n_partial += (uint32_t)step;
    if (out->size > STREAM_LARGE) s->n_partial_large += (uint32_t)step;
}

static void pop(struct stream *stream) {
    struct streams *s = stream->owner;
    struct outgoing *out = stream->first;
    stream->first = out->next;
    if (!stream->first) stream->last = NULL;
    count_queued(s, out, -1);
    pool_give(s->pool, out->body);
    pool_give(s->pool, out->block);
}

static void half_begin(struct streams *s, struct stream *stream) {
    s->half = stream;
    s->rush = 0;
    s->half_mark_us = 0;
}

void send_keep_up(struct streams *s, uint64_t now_us, uint64_t limit_us) {
    if (!s->half) return;
    const struct outgoing *out = s->half->first;
    size_t part = out->size / RECEIVE_PROGRESS_PART, min = part > RECEIVE_PROGRESS_MIN ? part : RECEIVE_PROGRESS_MIN;
    bool behind = s->half_mark_us > 0 && out->sent - s->half_mark_bytes < min;
    if (behind && now_us - s->half_mark_us < limit_us / 2) return;
    if (behind) s->rush = min;
    s->half_mark_bytes = out->sent;
    s->half_mark_us = now_us;
}

void send_sent(const struct send_frame *frame) {
    struct stream *stream = frame->stream;
    struct streams *s = stream->owner;
    struct outgoing *out = stream->first;
    bool first = out->sent == 0;
    assert(frame->frame.size <= stream->credit && frame->frame.size <= left_of(out));
    out->sent += frame->frame.size;
    s->sent_bytes += frame->frame.size;
    stream->credit -= frame->frame.size;
    stream->tick = s->tick;
    bool urgent = out->priority == LINK_URGENT;
    s->urgent_run = urgent ? s->urgent_run + 1 : 0;
    s->calm = urgent ? 0 : s->calm < SEND_CALM_FRAMES ? s->calm + 1 : s->calm;
    s->rush -= s->half != stream ? 0 : frame->frame.size < s->rush ? frame->frame.size : s->rush;
    if (out->sent == out->size) {
        if (!first) count_partial(s, out, -1);
        if (s->half == stream) s->half = NULL;
        pop(stream);
    } else if (first) {
        count_partial(s, out, 1);
        if (is_paced(s, out)) half_begin(s, stream);
    }
    ring_append(stream);
}

bool send_pending(const struct streams *s) { return s->queued_bytes > 0; }

void send_rest(struct streams *s) { s->mark_us = 0; }

bool send_stalled(struct streams *s, uint64_t now_us, uint64_t limit_us) {
    if (!send_pending(s) || s->mark_us == 0 || s->sent_bytes - s->mark_bytes >= SEND_PROGRESS_MIN) {
        s->mark_bytes = s->sent_bytes;
        s->mark_us = now_us;
        return false;
    }
    return s->budget->queued > s->budget->queued_max / 2 && now_us - s->mark_us > limit_us;
}

enum corolla_status send_credit(struct streams *s, uint32_t id, uint32_t amount, struct corolla_error *err) {
    bool full = false;
    struct stream *stream = stream_get(s, id, &full);
    if (!stream)
        return full ? err_set(err, COROLLA_PEER_FAULT, "more than %d streams in use", STREAM_TABLE_MAX)
                    : err_set(err, COROLLA_NOMEM, "no memory for a stream");
    if (amount == 0 || amount > STREAM_CREDIT_MAX - stream->credit)
        return err_set(err, COROLLA_PEER_FAULT, "credit of %u bytes on top of %u", amount, stream->credit);
    stream->credit += amount;
    if (!stream->ringed) ring_append(stream);
    return COROLLA_OK;
}

void send_drop(struct stream *stream) {
    ring_remove(stream);
    if (stream->first && stream->first->sent > 0) count_partial(stream->owner, stream->first, -1);
    if (stream->owner->half == stream) stream->owner->half = NULL;
    while (stream->first) pop(stream);
}
