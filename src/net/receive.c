/* receive.c - see receive.h. */
#include "net/receive.h"

#include "base/err.h"
#include "base/mem.h"

#include <assert.h>

/* ---- budget ---------------------------------------------------------------------------------------------------- */

/* A half-sent message up to STREAM_LARGE, and one that waits for its grant, with what blocks are larger than asked. */
#define LOOSE_SMALL (STREAM_LARGE + (20u << 10))
#define LOOSE_LARGE (FRAME_CREDIT_INITIAL + MSG_HEADER_MAX)
_Static_assert((STREAM_PARTIAL_MAX + 1 - STREAM_LARGE_MAX) * LOOSE_SMALL + STREAM_LARGE_MAX * LOOSE_LARGE <= RECEIVE_LINK_MIN / 8,
               "what is loose on a link fits the part that grants leave");

static size_t link_share(const struct budget *budget) { return budget->link_max - budget->link_max / 8; }
static size_t total_share(const struct budget *budget) { return budget->total_max - budget->total_max / 4; }

bool budget_over_link(const struct budget *budget, const struct account *account) { return account_held(account) > budget->link_max; }
bool budget_over_total(const struct budget *budget) { return pool_held(budget->pool) > budget->total_max; }

size_t budget_crowd(const struct budget *budget) {
    size_t max = budget->total_max / 8;
    return budget->loose > max ? budget->loose - max : 0;
}

bool budget_hogged(const struct budget *budget) { return budget->first && budget->total_full && budget->granted > total_share(budget) / 2; }

/* Notes what the blocks of the message hold now. */
static void count_held(struct stream *stream) {
    struct streams *s = stream->owner;
    struct incoming *in = &stream->in;
    size_t body = in->body ? body_capacity(in->body) : 0, header = in->header ? body_capacity(in->header) : 0;
    size_t granted = in->large && !in->waiting ? body : 0, loose = header + body - granted;
    s->loose += loose - in->loose; /* less than before wraps around, and back */
    s->granted += granted - in->granted;
    s->budget->loose += loose - in->loose;
    s->budget->granted += granted - in->granted;
    in->loose = loose;
    in->granted = granted;
}

static void wait_begin(struct stream *stream) {
    struct budget *budget = stream->owner->budget;
    stream->wait_prev = budget->last;
    *(budget->last ? &budget->last->wait_next : &budget->first) = stream;
    budget->last = stream;
    stream->in.waiting = true;
    stream->owner->n_waiting++;
}

static void wait_end(struct stream *stream) {
    struct budget *budget = stream->owner->budget;
    if (!stream->in.waiting) return;
    *(stream->wait_prev ? &stream->wait_prev->wait_next : &budget->first) = stream->wait_next;
    *(stream->wait_next ? &stream->wait_next->wait_prev : &budget->last) = stream->wait_prev;
    stream->wait_prev = stream->wait_next = NULL;
    stream->in.waiting = false;
    stream->owner->n_waiting--;
}

enum granted { GRANTED, LINK_FULL, TOTAL_FULL, NO_MEMORY };

/* Gives a large message its whole body. The system touches the memory as it fills, so a claim alone costs addresses only. */
static enum granted grant(struct stream *stream) {
    struct streams *s = stream->owner;
    struct budget *budget = s->budget;
    struct incoming *in = &stream->in;
    size_t have = in->body ? body_capacity(in->body) : 0;
    size_t whole_size = pool_capacity_of(in->p.body_size), need = whole_size > have ? whole_size - have : 0;
    if (account_held(s->account) + need > link_share(budget)) return LINK_FULL;
    if (pool_held(budget->pool) + need > total_share(budget)) return TOTAL_FULL;
    size_t head = FRAME_PREAMBLE_SIZE + (size_t)in->p.header_size, kept = in->got > head ? in->got - head : 0;
    struct body *whole = need > 0 ? pool_take(s->pool, s->account, in->p.body_size) : in->body;
    if (!whole) return NO_MEMORY;
    if (whole != in->body) {
        if (kept > 0) memcpy(whole->data, in->body->data, kept);
        pool_give(s->pool, in->body);
        in->body = whole;
    }
    wait_end(stream);
    count_held(stream);
    return GRANTED;
}

bool budget_grant(struct budget *budget) {
    struct stream *next = NULL;
    bool any = false;
    budget->total_full = false;
    for (struct stream *stream = budget->first; stream; stream = next) {
        next = stream->wait_next;
        enum granted granted = grant(stream);
        if (granted == LINK_FULL) continue; /* the other links need not wait for this one */
        if (granted != GRANTED) {
            budget->total_full = true;
            break;
        }
        any = true;
        stream->in.mark_us = 0; /* its deadline starts with the next tick */
        receive_list_credit(stream);
        if (stream->owner->on_credit) stream->owner->on_credit(stream->owner->user);
    }
    return any;
}

/* A large message begins: granted at once when nobody waits before it, else it gets what its credit can fill. */
static bool grant_or_wait(struct stream *stream) {
    struct streams *s = stream->owner;
    struct budget *budget = s->budget;
    enum granted granted = s->n_waiting > 0 ? LINK_FULL : budget->total_full ? TOTAL_FULL : grant(stream);
    if (granted == GRANTED) return true;
    size_t first = stream->in.p.body_size < FRAME_CREDIT_INITIAL ? stream->in.p.body_size : FRAME_CREDIT_INITIAL;
    stream->in.body = pool_take(s->pool, s->account, first);
    if (!stream->in.body) return false;
    if (granted != LINK_FULL) budget->total_full = true;
    wait_begin(stream);
    if (budget->on_wait) budget->on_wait(budget->user);
    return true;
}

/* ---- credit ---------------------------------------------------------------------------------------------------- */

void receive_list_credit(struct stream *stream) {
    struct streams *s = stream->owner;
    if (stream->credit_listed || stream->consumed == 0) return;
    stream->credit_next = NULL;
    *(s->credit_last ? &s->credit_last->credit_next : &s->credit_first) = stream;
    s->credit_last = stream;
    stream->credit_listed = true;
}

bool receive_credit_next(struct streams *s, uint32_t *out_id, uint32_t *out_amount) {
    for (struct stream *stream = s->credit_first; stream; stream = s->credit_first) {
        s->credit_first = stream->credit_next;
        if (!s->credit_first) s->credit_last = NULL;
        stream->credit_listed = false;
        if (stream->in.waiting) continue; /* it was listed before the message that waits began; its grant lists it again */
        *out_id = stream->id;
        *out_amount = stream->consumed;
        stream->unrenewed -= stream->consumed;
        stream->consumed = 0;
        return true;
    }
    return false;
}

static void renew(struct stream *stream) {
    if (stream->in.waiting) return;
    if (stream->consumed >= RECEIVE_RENEW || (stream->owner->n >= STREAM_CROWDED && !stream->in.active)) receive_list_credit(stream);
}

/* ---- messages -------------------------------------------------------------------------------------------------- */

/* The message is complete, or dropped with its blocks given back. */
static void incoming_end(struct stream *stream) {
    struct streams *s = stream->owner;
    wait_end(stream);
    stream->in.header = stream->in.body = NULL;
    count_held(stream);
    if (stream->in.got >= FRAME_PREAMBLE_SIZE) {
        s->n_incoming--;
        if (stream->in.large) s->n_incoming_large--;
    }
    memset(&stream->in, 0, sizeof(stream->in));
}

void receive_drop(struct stream *stream) {
    struct streams *s = stream->owner;
    if (stream->in.active) {
        pool_give(s->pool, stream->in.header);
        pool_give(s->pool, stream->in.body);
        incoming_end(stream);
    }
    for (struct stream **at = &s->credit_first, *last = NULL; stream->credit_listed && *at; last = *at, at = &(*at)->credit_next) {
        if (*at != stream) continue;
        *at = stream->credit_next;
        if (s->credit_last == stream) s->credit_last = last;
        stream->credit_listed = false;
        break;
    }
}

static enum corolla_status incoming_count(struct receiver *r, struct stream *stream, struct corolla_error *err) {
    struct streams *s = stream->owner;
    struct incoming *in = &stream->in;
    enum corolla_status status = frame_preamble_decode(in->preamble, &in->p, err);
    if (status != COROLLA_OK) {
        in->got = 0; /* not counted */
        return COROLLA_PEER_FAULT;
    }
    in->size = FRAME_PREAMBLE_SIZE + (size_t)in->p.header_size + in->p.body_size;
    in->large = in->size > STREAM_LARGE;
    in->mark_us = r->now_us;
    s->n_incoming++;
    if (in->large) s->n_incoming_large++;
    if (s->n_incoming > STREAM_PARTIAL_MAX + 1) /* the one that just begins may be whole in its first frame */
        return err_set(err, COROLLA_PEER_FAULT, "more than %d messages half-sent", STREAM_PARTIAL_MAX);
    if (s->n_incoming_large > STREAM_LARGE_MAX)
        return err_set(err, COROLLA_PEER_FAULT, "more than %d large messages half-sent", STREAM_LARGE_MAX);
    return COROLLA_OK;
}

static enum corolla_status incoming_allocate(struct stream *stream, struct corolla_error *err) {
    struct streams *s = stream->owner;
    struct incoming *in = &stream->in;
    in->header = pool_take(s->pool, s->account, in->p.header_size);
    if (!in->header) return err_set(err, COROLLA_NOMEM, "no memory for a message header of %u bytes", in->p.header_size);
    if (in->p.body_size == 0) return COROLLA_OK;
    if (!in->large) in->body = pool_take(s->pool, s->account, in->p.body_size);
    if (in->large ? !grant_or_wait(stream) : !in->body)
        return err_set(err, COROLLA_NOMEM, "no memory for a message body of %u bytes", in->p.body_size);
    return COROLLA_OK;
}

/* The preamble is there: counts the message and takes its first memory. */
static enum corolla_status incoming_start(struct receiver *r, struct stream *stream, struct corolla_error *err) {
    struct budget *budget = stream->owner->budget;
    enum corolla_status status = incoming_count(r, stream, err);
    if (status == COROLLA_OK) status = incoming_allocate(stream, err);
    if (stream->in.got >= FRAME_PREAMBLE_SIZE) count_held(stream);
    if (budget_crowd(budget) > 0 && budget->on_wait) budget->on_wait(budget->user);
    return status;
}

static void deliver(struct receiver *r, struct stream *stream) {
    struct incoming *in = &stream->in;
    r->id = stream->id;
    r->header = in->header;
    r->message = (struct message){(enum msg_kind)in->p.kind, in->header->data, in->p.header_size, in->body};
    incoming_end(stream);
}

/* The frame must end where LAST says that the message ends. */
static enum corolla_status check_extent(const struct receiver *r, struct corolla_error *err) {
    const struct incoming *in = &r->stream->in;
    size_t end = in->got + r->left;
    if (end > in->size) return err_set(err, COROLLA_PEER_FAULT, "a message is longer than it said");
    if ((end == in->size) != ((r->frame.flags & FRAME_LAST) != 0))
        return err_set(err, COROLLA_PEER_FAULT, "the end of a message is marked wrongly");
    return COROLLA_OK;
}

/* ---- frames ---------------------------------------------------------------------------------------------------- */

void receive_init(struct receiver *r, struct streams *streams) {
    memset(r, 0, sizeof(*r));
    r->streams = streams;
}

static enum corolla_status data_begin(struct receiver *r, struct corolla_error *err) {
    bool full = false, first = (r->frame.flags & FRAME_FIRST) != 0;
    struct stream *stream = stream_get(r->streams, r->frame.stream, &full);
    if (!stream)
        return full ? err_set(err, COROLLA_PEER_FAULT, "more than %d streams in use", STREAM_TABLE_MAX)
                    : err_set(err, COROLLA_NOMEM, "no memory for a stream");
    if (r->frame.size > FRAME_CREDIT_INITIAL - stream->unrenewed)
        return err_set(err, COROLLA_PEER_FAULT, "data beyond the credit of stream %u", stream->id);
    if (first == stream->in.active)
        return err_set(err, COROLLA_PEER_FAULT, first ? "a message began inside of another" : "a part of no message");
    stream->in.active = true;
    stream->unrenewed += r->frame.size;
    r->stream = stream;
    return first ? COROLLA_OK : check_extent(r, err);
}

static enum corolla_status frame_begin(struct receiver *r, struct corolla_error *err) {
    if (frame_decode(r->head, &r->frame, err) != COROLLA_OK) return COROLLA_PEER_FAULT;
    r->left = r->frame.size;
    r->stream = NULL;
    if (!r->greeted && r->frame.type != FRAME_HELLO && r->frame.type != FRAME_GOODBYE)
        return err_set(err, COROLLA_PEER_FAULT, "a frame of type %u before HELLO", r->frame.type);
    if (r->greeted && r->frame.type == FRAME_HELLO) return err_set(err, COROLLA_PEER_FAULT, "a second HELLO");
    return r->frame.type == FRAME_DATA ? data_begin(r, err) : COROLLA_OK;
}

static void frame_end(struct receiver *r, enum receive_event *event) {
    r->head_got = 0;
    if (!r->stream) {
        *event = RECEIVE_CONTROL;
        return;
    }
    struct stream *stream = r->stream;
    r->stream = NULL;
    if (stream->in.got == stream->in.size) {
        deliver(r, stream);
        *event = RECEIVE_MESSAGE;
    }
    renew(stream);
}

static enum corolla_status data_got(struct receiver *r, size_t n, struct corolla_error *err) {
    struct incoming *in = &r->stream->in;
    enum corolla_status status = COROLLA_OK;
    in->got += n;
    r->stream->consumed += (uint32_t)n;
    if (in->got == FRAME_PREAMBLE_SIZE) {
        status = incoming_start(r, r->stream, err);
        if (status == COROLLA_OK) status = check_extent(r, err);
    }
    if (status == COROLLA_OK && r->left == 0 && in->got < in->size && r->streams->n_incoming > STREAM_PARTIAL_MAX)
        status = err_set(err, COROLLA_PEER_FAULT, "more than %d messages half-sent", STREAM_PARTIAL_MAX);
    return status;
}

size_t receive_want(struct receiver *r, uint8_t **out_at) {
    if (r->head_got < FRAME_HEADER_SIZE) {
        *out_at = r->head + r->head_got;
        return FRAME_HEADER_SIZE - r->head_got;
    }
    if (!r->stream) {
        *out_at = r->control + (r->frame.size - r->left);
        return r->left;
    }
    struct incoming *in = &r->stream->in;
    size_t head = FRAME_PREAMBLE_SIZE + (size_t)in->p.header_size, room;
    if (in->got < FRAME_PREAMBLE_SIZE) {
        *out_at = in->preamble + in->got;
        room = FRAME_PREAMBLE_SIZE - in->got;
    } else if (in->got < head) {
        *out_at = in->header->data + (in->got - FRAME_PREAMBLE_SIZE);
        room = head - in->got;
    } else {
        *out_at = in->body->data + (in->got - head);
        room = body_capacity(in->body) - (in->got - head);
    }
    return room < r->left ? room : r->left;
}

enum corolla_status receive_got(struct receiver *r, size_t n, enum receive_event *out_event, struct corolla_error *err) {
    enum corolla_status status = COROLLA_OK;
    *out_event = RECEIVE_NOTHING;
    if (r->head_got < FRAME_HEADER_SIZE) {
        if (r->head_got == 0) r->frame_us = r->now_us;
        r->head_got += n;
        if (r->head_got < FRAME_HEADER_SIZE) return COROLLA_OK;
        status = frame_begin(r, err);
    } else {
        assert(n <= r->left);
        r->left -= n;
        if (r->stream) status = data_got(r, n, err);
    }
    if (status == COROLLA_OK && r->left == 0) frame_end(r, out_event);
    return status;
}

/* ---- deadlines ------------------------------------------------------------------------------------------------- */

static bool message_stalled(struct incoming *in, uint64_t now_us, uint64_t limit_us) {
    size_t part = in->size / RECEIVE_PROGRESS_PART, min = part > RECEIVE_PROGRESS_MIN ? part : RECEIVE_PROGRESS_MIN;
    if (in->waiting || in->mark_us == 0 || in->got - in->mark_bytes >= min) {
        in->mark_bytes = in->got;
        in->mark_us = now_us;
        return false;
    }
    return now_us - in->mark_us > limit_us;
}

bool receive_stalled(struct receiver *r, uint64_t now_us, uint64_t limit_us) {
    if (r->head_got > 0 && now_us - r->frame_us > limit_us) return true;
    if (r->streams->n_incoming == 0) return false;
    for (size_t b = 0; b < STREAM_BUCKETS; b++) {
        for (struct stream *stream = r->streams->buckets[b]; stream; stream = stream->chain) {
            if (stream->in.active && message_stalled(&stream->in, now_us, limit_us)) return true;
        }
    }
    return false;
}

void receive_rest(struct receiver *r, uint64_t rested_us) {
    r->frame_us += rested_us;
    for (size_t b = 0; b < STREAM_BUCKETS; b++) {
        for (struct stream *stream = r->streams->buckets[b]; stream; stream = stream->chain) {
            if (stream->in.mark_us > 0) stream->in.mark_us += rested_us;
        }
    }
}
