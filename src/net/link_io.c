/* link_io.c - the bytes of a link: socket <-> TLS <-> frames.
 *
 * Reading: each read of the socket is decrypted straight to where it belongs (receive.h), and messages are handed up from inside.
 * Over the budget of memory the socket is not read until blocks come back; what was read already is worked off.
 *
 * Writing: one chunk at a time is with libuv. It holds either several small frames or one large one, so the choice of the next
 * frame is made as late as possible: an urgent message waits for one bulk frame at most. A chunk that the socket took whole at
 * once still comes back through the loop, which lets other links and messages in between.
 */
#include "net/link.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define UNASKED_MAX 8 /* chunks that TLS may have on the way by itself, such as answers to key updates */

/* ---- chunks ---------------------------------------------------------------------------------------------------- */

static struct chunk *chunk_take(struct net *net) {
    struct chunk *chunk = net->chunks_free;
    if (chunk) {
        net->chunks_free = chunk->next;
        net->n_chunks_free--;
        return chunk;
    }
    chunk = malloc(sizeof(*chunk));
    if (chunk) chunk->buffer = (struct tls_buffer){chunk->data, sizeof(chunk->data), 0};
    return chunk;
}

static void chunk_give(struct net *net, struct chunk *chunk) {
    chunk->buffer.used = 0;
    if (net->n_chunks_free >= CHUNKS_FREE_MAX) {
        free(chunk);
        return;
    }
    chunk->next = net->chunks_free;
    net->chunks_free = chunk;
    net->n_chunks_free++;
}

/* From here to out_end() the ciphertext of this link goes into the net's open chunk, which is empty in between. */
static bool out_begin(struct link *link) {
    struct net *net = link->net;
    if (!net->out) net->out = chunk_take(net);
    if (!net->out) {
        link_fail(link, COROLLA_NOMEM, "no memory to send");
        return false;
    }
    tls_output(link->tls, &net->out->buffer);
    return true;
}

/* A peer that closed may have said why: what it sent last is read before the link is given up. */
static void write_failed(struct link *link, int result) {
    link->mute = true;
    if (link->paused || link->state >= LINK_FLUSHING) link_fail(link, COROLLA_PEER_LOST, "the connection broke: %s", uv_strerror(result));
}

static void on_written(uv_write_t *request, int status) {
    struct chunk *chunk = request->data;
    struct link *link = chunk->link;
    chunk_give(link->net, chunk);
    link->writing--;
    if (link->state == LINK_CLOSING) return;
    if (status < 0)
        write_failed(link, status);
    else
        link_pump(link);
}

/* Hands the open chunk to the socket. */
static void out_end(struct link *link) {
    struct net *net = link->net;
    struct chunk *chunk = net->out;
    tls_output(link->tls, NULL);
    if (chunk->buffer.used == 0) return;
    net->sent_bytes += chunk->buffer.used;
    upload_spend(net, chunk->buffer.used);
    net->out = NULL;
    chunk->link = link;
    chunk->request.data = chunk;
    uv_buf_t buf = uv_buf_init((char *)chunk->data, (unsigned)chunk->buffer.used);
    int result = uv_write(&chunk->request, (uv_stream_t *)&link->tcp, &buf, 1, on_written);
    if (result < 0) {
        chunk_give(net, chunk);
        write_failed(link, result);
        return;
    }
    link->writing++;
}

/* ---- frames out ------------------------------------------------------------------------------------------------ */

/* The head of the frame and the start of its payload share a record; the rest is encrypted from where it lies. */
static bool encrypt(struct link *link, const struct frame_header *frame, const uint8_t *part[2], const size_t part_size[2]) {
    uint8_t *record = link->net->record;
    size_t used = FRAME_HEADER_SIZE, done[2] = {0, 0};
    struct corolla_error err = {0};
    frame_encode(frame, record);
    for (int i = 0; i < 2; i++) {
        done[i] = part_size[i] < TLS_RECORD_MAX - used ? part_size[i] : TLS_RECORD_MAX - used;
        if (done[i] > 0) memcpy(record + used, part[i], done[i]);
        used += done[i];
    }
    bool ok = tls_write(link->tls, record, used, &err);
    for (int i = 0; i < 2 && ok; i++) {
        if (done[i] < part_size[i]) ok = tls_write(link->tls, part[i] + done[i], part_size[i] - done[i], &err);
    }
    if (!ok) link_fail(link, err.status, "%s", err.message);
    return ok;
}

static bool control(struct link *link, enum frame_type type, uint32_t stream, const uint8_t *payload, size_t size) {
    struct frame_header frame = {(uint8_t)type, 0, (uint16_t)size, stream};
    return encrypt(link, &frame, (const uint8_t *[2]){payload, NULL}, (const size_t[2]){size, 0});
}

static bool send_hello(struct link *link) {
    const struct net *net = link->net;
    struct msg_hello hello = {.version_min = PROTOCOL_VERSION_MIN,
                              .version_max = PROTOCOL_VERSION_MAX,
                              .features = net->config.features,
                              .instance = net->self.id.instance,
                              .boot = identity_boot(net->config.identity),
                              .agent = "corolla/" COROLLA_VERSION,
                              .n_addrs = net->self.n_addrs};
    uint8_t payload[MSG_HEADER_MAX];
    memcpy(hello.addrs, net->self.addrs, sizeof(hello.addrs));
    if (net->config.admission.greet) net->config.admission.greet(net->config.admission.user, link, &hello);
    link->hello_due = false;
    return control(link, FRAME_HELLO, 0, payload, msg_hello_encode(&hello, payload));
}

static bool send_goodbye(struct link *link, enum corolla_status status) {
    uint8_t payload[2 + GOODBYE_TEXT_MAX];
    size_t size = strnlen(link->down.message, GOODBYE_TEXT_MAX);
    le16_put(payload, (uint16_t)status);
    memcpy(payload + 2, link->down.message, size);
    link->goodbye_due = false;
    return control(link, FRAME_GOODBYE, 0, payload, 2 + size);
}

static bool send_ping(struct link *link) {
    uint8_t payload[8];
    le64_put(payload, link->ping_value);
    link->ping_due = false;
    return control(link, FRAME_PING, 0, payload, sizeof(payload));
}

static bool send_pong(struct link *link) {
    link->pong_due = false;
    return control(link, FRAME_PONG, 0, link->pong_value, sizeof(link->pong_value));
}

/* Encrypts the next frame into the open chunk; false: nothing to send, or the link failed. */
static bool send_next(struct link *link) {
    struct send_frame data;
    uint32_t stream = 0, amount = 0;
    uint8_t payload[4];
    if (link->hello_due) return send_hello(link);
    if (link->state == LINK_GREETING) return false;
    if (link->pong_due) return send_pong(link);
    if (link->ping_due) return send_ping(link);
    if (receive_credit_next(&link->streams, &stream, &amount)) {
        le32_put(payload, amount);
        return control(link, FRAME_CREDIT, stream, payload, sizeof(payload));
    }
    if (send_pick(&link->streams, &data)) {
        bool ok = encrypt(link, &data.frame, data.part, data.part_size);
        send_sent(&data);
        return ok;
    }
    if (link->goodbye_due && !send_pending(&link->streams)) return send_goodbye(link, link->goodbye_status);
    return false;
}

static void on_shutdown(uv_shutdown_t *request, int status) {
    struct link *link = request->data;
    if (status < 0 && link->state != LINK_CLOSING) link_fail(link, COROLLA_OK, "closed");
}

/* All is out, the GOODBYE last: no more from our side, and the peer's end of the stream ends the link. */
static void finish_flushing(struct link *link) {
    if (!out_begin(link)) return;
    tls_goodbye(link->tls);
    out_end(link);
    if (link->state == LINK_CLOSING) return;
    link->state = LINK_LINGERING;
    link->shutdown.data = link;
    if (uv_shutdown(&link->shutdown, (uv_stream_t *)&link->tcp, on_shutdown) < 0) link_fail(link, COROLLA_OK, "closed");
}

void link_send_chunk(struct link *link, bool turn) {
    if (link->state < LINK_GREETING || link->state > LINK_FLUSHING || link->writing > 0 || link->mute) return;
    if (!out_begin(link)) return;
    link->streams.turn = turn;
    while (link->net->out->buffer.used < CHUNK_PACK && send_next(link)) {
    }
    link->streams.turn = false;
    if (link->state == LINK_CLOSING) { /* it failed while encrypting */
        link->net->out->buffer.used = 0;
        return;
    }
    bool idle = link->net->out->buffer.used == 0;
    out_end(link);
    if (idle && link->state == LINK_FLUSHING && !link->goodbye_due) finish_flushing(link);
}

void link_pump(struct link *link) {
    if (link->streams.paced) upload_pump(link);
    link_send_chunk(link, false);
}

void link_send_goodbye_now(struct link *link, enum corolla_status status) {
    struct chunk *chunk = chunk_take(link->net); /* not the open one: we may be in the middle of filling that */
    if (!chunk) return;
    struct chunk *open = link->net->out;
    tls_output(link->tls, &chunk->buffer);
    enum link_state state = link->state;
    link->state = LINK_LINGERING; /* a failure in here must not come back to here */
    if (uv_stream_get_write_queue_size((uv_stream_t *)&link->tcp) == 0 && send_goodbye(link, status)) {
        uv_buf_t buf = uv_buf_init((char *)chunk->data, (unsigned)chunk->buffer.used);
        (void)uv_try_write((uv_stream_t *)&link->tcp, &buf, 1); /* a courtesy: the link closes in any case */
    }
    if (link->state == LINK_LINGERING) link->state = state;
    tls_output(link->tls, open ? &open->buffer : NULL);
    chunk_give(link->net, chunk);
}

/* ---- bytes in -------------------------------------------------------------------------------------------------- */

static void deliver(struct link *link) {
    struct net *net = link->net;
    struct receiver *r = &link->receiver;
    struct body *header = r->header;
    r->header = NULL;
    if (link->state == LINK_UP)
        net->config.events.on_message(net->config.events.user, link, r->id, &r->message);
    else
        pool_give(net->pool, r->message.body);
    pool_give(net->pool, header);
}

static void take(struct link *link, size_t n) {
    struct receiver *r = &link->receiver;
    enum receive_event event = RECEIVE_NOTHING;
    struct corolla_error err = {0};
    enum corolla_status status = receive_got(r, n, &event, &err);
    if (status != COROLLA_OK)
        link_fail(link, status, "%s", err.message);
    else if (event == RECEIVE_CONTROL)
        link_control(link);
    else if (event == RECEIVE_MESSAGE)
        deliver(link);
}

/* Reads and hands up until the input is used up. */
static void drain(struct link *link) {
    link->receiver.now_us = link->received_us;
    while (link->state >= LINK_GREETING && link->state <= LINK_FLUSHING) {
        uint8_t *at = NULL;
        size_t size = receive_want(&link->receiver, &at), got = 0;
        struct corolla_error err = {0};
        if (!out_begin(link)) return;
        enum tls_result result = tls_read(link->tls, at, size, &got, &err);
        out_end(link);
        if (result == TLS_MORE && link->writing <= UNASKED_MAX) return;
        if (result == TLS_CLOSED)
            link_fail(link, COROLLA_PEER_LOST, "the peer closed the connection");
        else if (result == TLS_FAILED)
            link_fail(link, err.status, "%s", err.message);
        else if (link->writing > UNASKED_MAX)
            link_fail(link, COROLLA_PEER_FAULT, "the peer asks for new TLS keys all the time");
        else if (link->state != LINK_CLOSING)
            take(link, got);
    }
}

void link_secure(struct link *link) {
    struct corolla_error err = {0};
    if (!out_begin(link)) return;
    enum tls_result result = tls_handshake(link->tls, &err);
    out_end(link);
    if (result == TLS_DONE)
        link_secured(link);
    else if (result == TLS_FAILED)
        link_fail(link, err.status, "%s", err.message);
}

static bool over_budget(const struct link *link) {
    const struct budget *budget = &link->net->budget;
    return budget_over_link(budget, link->account) || budget_over_total(budget);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    (void)suggested;
    struct link *link = handle->data;
    *buf = uv_buf_init((char *)link->net->read_buffer, READ_SIZE);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct link *link = stream->data;
    if (n < 0) {
        link_fail(link, COROLLA_PEER_LOST, "%s", n == UV_EOF ? "the peer closed the connection" : uv_strerror((int)n));
        return;
    }
    link->received_us = clock_us();
    link->net->received_bytes += (uint64_t)n;
    if (n == 0 || link->state >= LINK_LINGERING) return;
    tls_input(link->tls, (const uint8_t *)buf->base, (size_t)n);
    if (link->state == LINK_SECURING) link_secure(link);
    drain(link);
    link_pump(link); /* credit and pongs */
    if (link->state == LINK_UP && over_budget(link)) {
        uv_read_stop(stream);
        link->paused = true;
        link->paused_us = clock_us();
        net_watch_memory(link->net);
    }
}

bool link_read_start(struct link *link) { return uv_read_start((uv_stream_t *)&link->tcp, on_alloc, on_read) == 0; }

void link_resume(struct link *link) {
    if (!link->paused || link->state == LINK_CLOSING || (link->state == LINK_UP && over_budget(link))) return;
    link->paused = false;
    link->received_us = clock_us();
    receive_rest(&link->receiver, link->received_us - link->paused_us);
    if (!link_read_start(link)) link_fail(link, COROLLA_IO, "cannot read from the socket");
}
