/* stream.c - see stream.h. */
#include "net/stream.h"

#include "net/receive.h"
#include "net/send.h"

#include <stdlib.h>
#include <string.h>

#define IDLE_TICKS 2

static uint32_t bucket_of(uint32_t id) { return (id * 2654435769u) >> 24; }
_Static_assert(STREAM_BUCKETS == 256, "bucket_of takes the top 8 bits");

void streams_init(struct streams *s, struct pool *pool, struct account *account, struct budget *budget, size_t queued_bytes_max) {
    memset(s, 0, sizeof(*s));
    s->pool = pool;
    s->account = account;
    s->budget = budget;
    s->queued_bytes_max = queued_bytes_max;
    s->calm = SEND_CALM_FRAMES;
}

static void stream_free(struct stream *stream) {
    send_drop(stream);
    receive_drop(stream);
    free(stream);
}

void streams_clear(struct streams *s) {
    for (size_t b = 0; b < STREAM_BUCKETS; b++) {
        while (s->buckets[b]) {
            struct stream *stream = s->buckets[b];
            s->buckets[b] = stream->chain;
            stream_free(stream);
        }
    }
    s->n = 0;
}

struct stream *stream_find(const struct streams *s, uint32_t id) {
    struct stream *stream = s->buckets[bucket_of(id)];
    while (stream && stream->id != id) stream = stream->chain;
    return stream;
}

static bool is_fresh(const struct stream *stream) {
    return !stream->first && !stream->in.active && stream->credit == FRAME_CREDIT_INITIAL && stream->unrenewed == 0;
}

static void drop_fresh(struct streams *s, uint32_t idle_ticks) {
    for (size_t b = 0; b < STREAM_BUCKETS; b++) {
        struct stream **at = &s->buckets[b];
        while (*at) {
            struct stream *stream = *at;
            if (is_fresh(stream) && s->tick - stream->tick >= idle_ticks) {
                *at = stream->chain;
                stream_free(stream);
                s->n--;
            } else {
                at = &stream->chain;
            }
        }
    }
}

struct stream *stream_get(struct streams *s, uint32_t id, bool *out_full) {
    *out_full = false;
    struct stream *stream = stream_find(s, id);
    if (stream) {
        stream->tick = s->tick;
        return stream;
    }
    if (s->n >= STREAM_TABLE_MAX) drop_fresh(s, 0);
    if (s->n >= STREAM_TABLE_MAX) {
        *out_full = true;
        return NULL;
    }
    stream = calloc(1, sizeof(*stream));
    if (!stream) return NULL;
    stream->id = id;
    stream->owner = s;
    stream->credit = FRAME_CREDIT_INITIAL;
    stream->tick = s->tick;
    stream->chain = s->buckets[bucket_of(id)];
    s->buckets[bucket_of(id)] = stream;
    s->n++;
    return stream;
}

void streams_tick(struct streams *s) {
    s->tick++;
    if (s->n == 0) return;
    for (size_t b = 0; b < STREAM_BUCKETS; b++) {
        for (struct stream *stream = s->buckets[b]; stream; stream = stream->chain) {
            if (!stream->in.active && stream->consumed > 0 && s->tick - stream->tick >= IDLE_TICKS) receive_list_credit(stream);
        }
    }
    drop_fresh(s, IDLE_TICKS);
}
