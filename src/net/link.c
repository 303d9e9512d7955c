/* link.c - the life of a link: see link.h. Also the public functions on links (net.h). */
#include "net/link.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

#include <assert.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNSENT_MAX (128 << 10) /* bytes that the kernel takes beyond what is under way, so that urgent frames wait for little */

/* ---- making and unmaking --------------------------------------------------------------------------------------- */

static void list_add(struct link *link) {
    struct net *net = link->net;
    link->prev = net->last;
    *(net->last ? &net->last->next : &net->first) = link;
    net->last = link;
}

static void list_remove(struct link *link) {
    struct net *net = link->net;
    *(link->prev ? &link->prev->next : &net->first) = link->next;
    *(link->next ? &link->next->prev : &net->last) = link->prev;
}

static void credit_ready(void *user) { link_pump(user); }

struct link *link_new(struct net *net, bool dialled) {
    struct link *link = calloc(1, sizeof(*link));
    struct account *account = account_new();
    if (!link || !account) {
        account_release(account);
        free(link);
        return NULL;
    }
    link->net = net;
    link->dialled = dialled;
    link->next_stream = link_stream_first(link) + 2;
    link->account = account;
    streams_init(&link->streams, net->pool, account, &net->budget, net->config.link_bytes_max);
    link->streams.on_credit = credit_ready;
    link->streams.user = link;
    link->streams.paced = net->config.upload_bytes_per_s > 0;
    receive_init(&link->receiver, &link->streams);
    uv_tcp_init(&net->loop, &link->tcp);
    uv_timer_init(&net->loop, &link->timer);
    link->tcp.data = link->timer.data = link;
    link->handles_open = 2;
    list_add(link);
    return link;
}

/* Both handles are closed: the end is told, and the memory goes. */
static void on_closed(uv_handle_t *handle) {
    struct link *link = handle->data;
    struct net *net = link->net;
    if (--link->handles_open > 0) return;
    streams_clear(&link->streams);
    list_remove(link);
    if (link->on_open) {
        void (*tell)(void *, struct link *, const struct corolla_error *) = link->on_open;
        link->on_open = NULL;
        tell(link->open_user, NULL, &link->down);
    }
    if (link->was_up) net->config.events.on_down(net->config.events.user, link, link->down.status, link->down.message);
    tls_free(link->tls);
    account_release(link->account);
    free(link);
    net_link_gone(net);
}

static void close_handles(struct link *link) {
    struct net *net = link->net;
    if (link->was_up) net->n_up--;
    if (link->half_open) net->n_half_open--;
    link->half_open = false;
    upload_leave(link);
    link->state = LINK_CLOSING;
    uv_close((uv_handle_t *)&link->tcp, on_closed);
    uv_close((uv_handle_t *)&link->timer, on_closed);
}

/* Whether the peer is told why: it is not when it is gone, and not when it is the one that said so. */
static bool worth_a_goodbye(const struct link *link, enum corolla_status status) {
    return !link->deaf && (link->state == LINK_GREETING || link->state == LINK_UP) && status != COROLLA_PEER_LOST && status != COROLLA_OK;
}

void link_fail(struct link *link, enum corolla_status status, const char *format, ...) {
    if (link->state == LINK_CLOSING) return;
    if (link->state < LINK_FLUSHING) { /* a link that we close ourselves goes down with OK, whatever happens meanwhile */
        char text[sizeof(link->down.message)];
        va_list args;
        va_start(args, format);
        vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        err_set(&link->down, status, "%s", text);
        if (link->was_up)
            log_debug("link_down peer=%s status=%s why=\"%s\"", link->address, corolla_status_name(status), link->down.message);
        else
            log_debug("link_refused peer=%s status=%s why=\"%s\"", link->address, corolla_status_name(status), link->down.message);
    }
    if (worth_a_goodbye(link, status)) link_send_goodbye_now(link, status);
    if (link->state != LINK_CLOSING) close_handles(link);
}

/* ---- from a socket to a link that is up ------------------------------------------------------------------------ */

static void on_handshake_late(uv_timer_t *timer) {
    struct link *link = timer->data;
    link_fail(link, COROLLA_TIMEOUT, "no handshake within %u ms", link->net->config.handshake_ms);
}

void link_connected(struct link *link) {
    struct net *net = link->net;
    link->tls = link->dialled ? tls_new_dialling(net->tls, link->expects ? link->expected.key : NULL) : tls_new_accepting(net->tls);
    if (!link->tls) {
        link_fail(link, COROLLA_NOMEM, "no memory for TLS");
        return;
    }
    link->state = LINK_SECURING;
    link->received_us = clock_us();
    uv_tcp_nodelay(&link->tcp, 1);
#ifdef TCP_NOTSENT_LOWAT
    uv_os_fd_t fd = -1;
    int unsent = UNSENT_MAX;
    if (uv_fileno((const uv_handle_t *)&link->tcp, &fd) == 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent)); /* only latency suffers without it */
#endif
    uv_timer_start(&link->timer, on_handshake_late, net->config.handshake_ms, 0);
    if (!link_read_start(link))
        link_fail(link, COROLLA_IO, "cannot read from the socket");
    else if (link->dialled)
        link_secure(link); /* the dialler speaks first */
}

void link_accepted(struct link *link) {
    link->half_open = true;
    link->net->n_half_open++;
    link_connected(link);
}

static void on_connect(uv_connect_t *request, int status) {
    struct link *link = request->data;
    if (link->state == LINK_CLOSING) return;
    if (status < 0)
        link_fail(link, COROLLA_PEER_LOST, "%s", uv_strerror(status));
    else
        link_connected(link);
}

enum corolla_status link_connect(struct link *link, const struct sockaddr *address, const struct node_id *expected) {
    link->expects = expected != NULL;
    if (expected) link->expected = *expected;
    size_t size = address->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    memcpy(&link->remote, address, size);
    address_format(address, link->address);
    link->connect.data = link;
    int result = uv_tcp_connect(&link->connect, &link->tcp, address, on_connect);
    if (result < 0) link_fail(link, COROLLA_PEER_LOST, "%s", uv_strerror(result));
    return result < 0 ? COROLLA_PEER_LOST : COROLLA_OK;
}

void link_secured(struct link *link) {
    link->state = LINK_GREETING;
    memcpy(link->peer.id.key, tls_peer_key(link->tls), KEY_SIZE);
    if (link->net->n_up >= link->net->config.links_max) { /* said in the place of HELLO, so that the dialler does not take us for up */
        link_fail(link, COROLLA_BUSY, "all %u links are in use", link->net->config.links_max);
        return;
    }
    link->hello_due = link->dialled || !link->net->config.admission.admit;
    link_pump(link);
}

/* ---- ticks ----------------------------------------------------------------------------------------------------- */

static void on_tick(uv_timer_t *timer) {
    struct link *link = timer->data;
    const struct net_config *config = &link->net->config;
    uint64_t now = clock_us(), since_tick = now - link->tick_us;
    link->tick_us = now;
    bool loop_was_late = since_tick > (uint64_t)config->ping_ms * 2000; /* its backlog may hold what we miss */
    if (!link->paused && !loop_was_late) {
        if (now - link->received_us > (uint64_t)config->dead_ms * 1000) {
            link_fail(link, COROLLA_TIMEOUT, "nothing came from the peer for %u ms", config->dead_ms);
            return;
        }
        if (receive_stalled(&link->receiver, now, (uint64_t)config->message_ms * 1000)) {
            link_fail(link, COROLLA_TIMEOUT, "a message made no progress for %u ms", config->message_ms);
            return;
        }
    }
    if (upload_holds(link)) send_rest(&link->streams);
    if (!loop_was_late && send_stalled(&link->streams, now, (uint64_t)config->message_ms * 1000)) {
        link_fail(link, COROLLA_TIMEOUT, "the peer took nothing for %u ms, and memory to send is short", config->message_ms);
        return;
    }
    uint64_t silence_ends_us = link->received_us + (uint64_t)config->dead_ms * 1000;
    if (!link->paused && !loop_was_late &&
        silence_ends_us < now + (uint64_t)config->ping_ms * 1000) /* looks when it ends, not up to a ping later */
        uv_timer_start(&link->timer, on_tick, silence_ends_us > now ? (silence_ends_us - now) / 1000 + 1 : 1, config->ping_ms);
    send_keep_up(&link->streams, now, (uint64_t)config->message_ms * 1000);
    streams_tick(&link->streams);
    if (link->net->watching) uv_async_send(&link->net->wake); /* the system may have memory again: nobody tells us that */
    if (link->ping_value == 0) link->ping_value = now;
    link->ping_due = true;
    link_pump(link);
}

static void got_pong(struct link *link) {
    if (link->ping_value == 0 || link->ping_due || le64_get(link->receiver.control) != link->ping_value)
        return; /* not the answer to what we asked */
    uint64_t rtt = clock_us() - link->ping_value;
    link->ping_value = 0;
    if (rtt == 0 || rtt > UINT32_MAX) return;
    if (rtt < SEND_NEAR_US) link->streams.near = true; /* once is enough: more is queues */
    link->rtt_us = link->rtt_us == 0 ? (uint32_t)rtt : (uint32_t)((link->rtt_us * 7ull + rtt) / 8);
}

/* ---- HELLO and GOODBYE ----------------------------------------------------------------------------------------- */

static void link_up(struct link *link) {
    struct net *net = link->net;
    link->state = LINK_UP;
    link->was_up = true;
    link->receiver.greeted = true;
    if (link->half_open) net->n_half_open--;
    link->half_open = false;
    net->n_up++;
    link->tick_us = link->ping_value = clock_us();
    link->ping_due = true;
    uv_timer_start(&link->timer, on_tick, net->config.ping_ms, net->config.ping_ms);
    char id[NODE_ID_TEXT];
    node_id_format(&link->peer.id, id);
    log_debug("link_up peer=%s node=%.16s dialled=%d", link->address, id, link->dialled);
    net->config.events.on_up(net->config.events.user, link);
    link_pump(link);
    if (link->state == LINK_UP && link->on_open) {
        void (*tell)(void *, struct link *, const struct corolla_error *) = link->on_open;
        link->on_open = NULL;
        tell(link->open_user, link, NULL);
    }
    if (link->state == LINK_UP) dial_link_up(net, link);
}

/* Asks who decides on that, if anybody does. */
static enum corolla_status admit(struct link *link, const struct msg_hello *hello, struct corolla_error *err) {
    const struct net_admission *admission = &link->net->config.admission;
    if (!admission->admit) return COROLLA_OK;
    enum corolla_status status = admission->admit(admission->user, link, link->dialled, hello, err);
    if (status == COROLLA_OK && !link->dialled) link->hello_due = true;
    return status;
}

static void got_hello(struct link *link) {
    struct net *net = link->net;
    struct msg_hello hello;
    struct corolla_error err = {0};
    if (msg_hello_decode(link->receiver.control, link->receiver.frame.size, &hello, &err) != COROLLA_OK) {
        link_fail(link, COROLLA_PEER_FAULT, "HELLO: %s", err.message);
        return;
    }
    link->peer.id.instance = hello.instance;
    link->peer.n_addrs = hello.n_addrs;
    memcpy(link->peer.addrs, hello.addrs, sizeof(link->peer.addrs));
    link->features = hello.features & net->config.features;
    if (hello.version_min > PROTOCOL_VERSION_MAX || hello.version_max < PROTOCOL_VERSION_MIN)
        link_fail(link, COROLLA_VERSION_MISMATCH,
                  "the peer (%.40s) speaks protocol versions %u to %u, this node %d to %d: update the older one", hello.agent,
                  hello.version_min, hello.version_max, PROTOCOL_VERSION_MIN, PROTOCOL_VERSION_MAX);
    else if (node_id_equal(&link->peer.id, &net->self.id))
        link_fail(link, COROLLA_REFUSED, "a node does not link to itself");
    else if (link->expects && link->expected.instance != hello.instance)
        link_fail(link, COROLLA_REFUSED, "process %u of this node answered, %u was asked for", hello.instance, link->expected.instance);
    else if (net->n_up >= net->config.links_max)
        link_fail(link, COROLLA_BUSY, "all %u links are in use", net->config.links_max);
    else if (admit(link, &hello, &err) != COROLLA_OK)
        link_fail(link, err.status, "%s", err.message);
    else
        link_up(link);
}

static void got_goodbye(struct link *link) {
    const struct receiver *r = &link->receiver;
    size_t size = r->frame.size - 2u;
    unsigned code = le16_get(r->control);
    enum corolla_status said = code < COROLLA_STATUS_COUNT ? (enum corolla_status)code : COROLLA_INTERNAL;
    /* A dialler learns the reason itself; a link that was up is lost, whatever the peer says of it. */
    enum corolla_status status = link->was_up || said == COROLLA_OK ? COROLLA_PEER_LOST : said;
    char text[GOODBYE_TEXT_MAX + 1];
    memcpy(text, r->control + 2, size);
    text[size] = 0; /* the receiver let GOODBYE_TEXT_MAX bytes in at most */
    link->deaf = true;
    link->left = said == COROLLA_OK;
    link_fail(link, status, "the peer closed the link (%s): %s", corolla_status_name(said), text);
}

void link_control(struct link *link) {
    struct receiver *r = &link->receiver;
    struct corolla_error err = {0};
    enum corolla_status status = COROLLA_OK;
    switch ((enum frame_type)r->frame.type) {
    case FRAME_HELLO: got_hello(link); break;
    case FRAME_GOODBYE: got_goodbye(link); break;
    case FRAME_PING:
        memcpy(link->pong_value, r->control, sizeof(link->pong_value));
        link->pong_due = true;
        break;
    case FRAME_PONG: got_pong(link); break;
    case FRAME_CREDIT:
        status = send_credit(&link->streams, r->frame.stream, le32_get(r->control), &err);
        if (status != COROLLA_OK) link_fail(link, status, "%s", err.message);
        break;
    case FRAME_DATA: break; /* never here: the receiver hands out messages */
    }
}

/* ---- public ---------------------------------------------------------------------------------------------------- */

const struct node_ref *link_peer(const struct link *link) { return &link->peer; }
const char *link_address(const struct link *link) { return link->address; }
bool link_left(const struct link *link) { return link->left; }
uint64_t link_features(const struct link *link) { return link->features; }
uint32_t link_rtt_us(const struct link *link) { return link->rtt_us; }
void *link_user(const struct link *link) { return link->user; }
void link_set_user(struct link *link, void *user) { link->user = user; }

uint32_t link_stream_first(const struct link *link) { return link->dialled ? 1 : 2; }

uint32_t link_stream_new(struct link *link) {
    assert(net_on_loop(link->net));
    uint32_t id = link->next_stream;
    while (id == 0 || stream_find(&link->streams, id)) /* the table holds far fewer than there are ids */
        id += 2;
    link->next_stream = id + 2;
    return id;
}

enum corolla_status link_send(struct link *link, uint32_t stream, enum link_priority priority, enum msg_kind kind, const uint8_t *header,
                              size_t header_size, struct body *body) {
    assert(net_on_loop(link->net));
    if (link->state != LINK_UP) {
        net_body_free(link->net, body);
        return COROLLA_PEER_LOST;
    }
    enum corolla_status status = send_queue(&link->streams, stream, priority, kind, header, header_size, body);
    if (status == COROLLA_OK) link_pump(link);
    if (status != COROLLA_BUSY) return status;
    link_fail(link, COROLLA_BUSY, "the peer does not take its answers");
    return COROLLA_PEER_LOST;
}

static void on_flush_late(uv_timer_t *timer) { link_fail(timer->data, COROLLA_OK, "closed"); }

void link_close(struct link *link, enum corolla_status status, const char *why) {
    assert(net_on_loop(link->net));
    if (link->state >= LINK_FLUSHING) return;
    err_set(&link->down, COROLLA_OK, "%s", why ? why : "closed");
    if (link->state < LINK_UP) {
        link_fail(link, status == COROLLA_OK ? COROLLA_CANCELLED : status, "%s", why ? why : "closed");
        return;
    }
    log_debug("link_close peer=%s status=%s why=\"%s\"", link->address, corolla_status_name(status), link->down.message);
    if (status == COROLLA_PEER_FAULT) { /* such a peer gets nothing more but the reason */
        link_send_goodbye_now(link, status);
        if (link->state != LINK_CLOSING) close_handles(link);
        return;
    }
    link->goodbye_status = status;
    upload_leave(link);
    link->state = LINK_FLUSHING;
    link->goodbye_due = true;
    uv_timer_start(&link->timer, on_flush_late, STOP_MS, 0);
    link_resume(link); /* credit may have to come in before all is out */
    link_pump(link);
}
