/* lan.c - the sockets of LAN discovery: see lan.h.
 *
 * Per family there is one socket that listens, on the group's port, and one that sends. They are apart because the first is shared
 * between processes, and because over IPv4 it is bound to the group itself, so that it takes nothing but multicast.
 *
 * One timer serves the earliest of all that is due: what the segments have to say, and a look for new ones each LAN_REPEAT_MS.
 * Who floods us is not listened to for the rest of the second; the kernel drops what comes meanwhile.
 */
#include "net/lan.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "crypto/rand.h"
#include "net/lan_segment.h"
#include "net/lan_table.h"
#include "net/loop.h"
#include "wire/lan_msg.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define RECEIVED_PER_S 4000 /* datagrams; a thousand nodes that all start together send fewer */
#define SETTLE_MS 700       /* from our first question to the answers */
#define CHANNELS 2          /* IPv4, IPv6 */

struct channel {
    int family;
    const char *group;
    uv_udp_t in, out;
    bool usable;
};

struct lan {
    struct net *net;
    void (*on_found)(void *user, const struct node_ref *node);
    void *user;
    struct channel channels[CHANNELS];
    struct net_timer *timer;
    uint32_t handles; /* not closed yet */
    bool closing, said_none;

    bool listens;
    struct sockaddr_storage listener; /* of the net */
    uint32_t n_segments;
    struct lan_segment segments[LAN_SEGMENTS_MAX];
    struct lan_table table;
    uint64_t opened_ms, look_ms;

    uint64_t second_ms; /* the beginning of the one in which n_received came */
    uint32_t n_received;
    bool deaf; /* for the rest of it */
    char buffer[LAN_MSG_MAX];
};

static uint64_t now_ms(void) { return clock_us() / 1000; }

static uint32_t random32(void) {
    uint32_t value = 0;
    rand_bytes(&value, sizeof(value));
    return value;
}

static struct channel *channel_of(struct lan *lan, const struct lan_segment *segment) {
    return &lan->channels[segment->address.ss_family == AF_INET ? 0 : 1];
}

/* ---- receiving ------------------------------------------------------------------------------------------------- */

static void schedule(struct lan *lan);

static void found(struct lan *lan, const struct lan_segment *segment, const struct lan_msg *m, const struct sockaddr *source) {
    char address[ADDR_MAX], id[NODE_ID_TEXT];
    if (!lan_segment_format(segment, source, m->port, address)) return;
    const struct node_ref *node = lan_table_heard(&lan->table, &m->id, address, now_ms());
    if (!node) return;
    node_id_format(&m->id, id);
    log_debug("lan_found node=%.16s address=%s", id, address);
    lan->on_found(lan->user, node);
}

/* Two interfaces may be on networks of one number: who asks is answered on both, and is found on the first. */
static void take(struct lan *lan, const struct lan_msg *m, const struct sockaddr *source) {
    const struct lan_segment *first = NULL;
    if (m->port != 0 && node_id_equal(&m->id, &lan->net->self.id)) return; /* we hear ourselves */
    for (uint32_t i = 0; i < lan->n_segments; i++) {
        struct lan_segment *segment = &lan->segments[i];
        if (!lan_segment_holds(segment, source)) continue;
        if (!first) first = segment;
        if (m->asks) lan_pace_asked(&segment->pace, lan->table.n, now_ms(), random32());
    }
    if (!first) return;
    if (m->asks) schedule(lan);
    if (m->port != 0) found(lan, first, m, source);
}

static void listen_stop(struct lan *lan) {
    for (uint32_t i = 0; i < CHANNELS; i++) {
        if (lan->channels[i].usable) uv_udp_recv_stop(&lan->channels[i].in);
    }
}

static void count_received(struct lan *lan) {
    uint64_t now = now_ms();
    if (now - lan->second_ms >= 1000) {
        lan->second_ms = now;
        lan->n_received = 0;
    }
    if (++lan->n_received < RECEIVED_PER_S) return;
    lan->deaf = true;
    listen_stop(lan);
    schedule(lan);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
    struct lan *lan = handle->data;
    (void)suggested;
    *out = uv_buf_init(lan->buffer, sizeof(lan->buffer));
}

static void on_datagram(uv_udp_t *handle, ssize_t size, const uv_buf_t *buf, const struct sockaddr *source, unsigned flags) {
    struct lan *lan = handle->data;
    struct lan_msg m;
    if (size <= 0 || !source || lan->closing) return;
    count_received(lan);
    if ((flags & UV_UDP_PARTIAL) || !lan_msg_decode((const uint8_t *)buf->base, (size_t)size, &m)) return;
    take(lan, &m, source);
}

static void listen_start(struct lan *lan) {
    lan->deaf = false;
    for (uint32_t i = 0; i < CHANNELS; i++) {
        if (lan->channels[i].usable) uv_udp_recv_start(&lan->channels[i].in, on_alloc, on_datagram);
    }
}

/* ---- sending --------------------------------------------------------------------------------------------------- */

static int send_to_group(struct channel *channel, const struct lan_segment *segment, uint8_t *data, unsigned size) {
    struct sockaddr_storage group;
    uv_buf_t buf = uv_buf_init((char *)data, size);
    if (!address_numeric(channel->group, LAN_PORT, &group)) return UV_EINVAL;
    int result = uv_udp_set_multicast_interface(&channel->out, segment->host);
    if (result == 0) result = uv_udp_try_send(&channel->out, &buf, 1, (struct sockaddr *)&group);
    return result < 0 ? result : 0;
}

static void speak(struct lan *lan, const struct lan_segment *segment, enum lan_speech speech) {
    uint8_t data[LAN_MSG_SIZE];
    struct lan_msg m = {.asks = speech == LAN_QUESTION, .id = lan->net->self.id};
    if (segment->pace.tells) m.port = address_port((const struct sockaddr *)&lan->listener);
    lan_msg_encode(&m, data);
    int result = send_to_group(channel_of(lan, segment), segment, data, sizeof(data));
    if (result != 0) log_debug("lan_unsent at=%s why=\"%s\"", segment->host, uv_strerror(result));
}

/* ---- segments -------------------------------------------------------------------------------------------------- */

/* An interface that was joined before, for another address, is no failure. */
static bool join(struct lan *lan, const struct lan_segment *segment) {
    struct channel *channel = channel_of(lan, segment);
    if (!channel->usable) return false;
    int result = uv_udp_set_membership(&channel->in, channel->group, segment->host, UV_JOIN_GROUP);
    if (result == 0 || result == UV_EADDRINUSE) return true;
    log_debug("lan_unjoined at=%s why=\"%s\"", segment->host, uv_strerror(result));
    return false;
}

static const struct lan_segment *known(const struct lan *lan, const struct lan_segment *segment) {
    for (uint32_t i = 0; i < lan->n_segments; i++) {
        if (lan_segment_same(&lan->segments[i], segment)) return &lan->segments[i];
    }
    return NULL;
}

/* Takes up segments that are new, drops those that are gone. */
static void look(struct lan *lan, uint64_t now) {
    struct lan_segment list[LAN_SEGMENTS_MAX];
    uint32_t n = lan_segments_find(list), kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct lan_segment *old = known(lan, &list[i]);
        bool tells = lan->listens && lan_segment_reaches(&list[i], (const struct sockaddr *)&lan->listener);
        if (old)
            list[i].pace = old->pace;
        else if (join(lan, &list[i]))
            lan_pace_init(&list[i].pace, tells, now, random32());
        else
            continue;
        list[kept++] = list[i];
    }
    memcpy(lan->segments, list, kept * sizeof(list[0]));
    lan->n_segments = kept;
    lan->look_ms = now + LAN_REPEAT_MS;
    if (kept == 0 && !lan->said_none) log_debug("lan_none why=\"no interface is up that can multicast\"");
    lan->said_none = kept == 0;
}

/* ---- the timer ------------------------------------------------------------------------------------------------- */

static void on_timer(void *user) {
    struct lan *lan = user;
    uint64_t now = now_ms();
    if (lan->deaf && now - lan->second_ms >= 1000) listen_start(lan);
    if (now >= lan->look_ms) look(lan, now);
    for (uint32_t i = 0; i < lan->n_segments; i++) {
        struct lan_segment *segment = &lan->segments[i];
        enum lan_speech speech = lan_pace_next(&segment->pace, now, random32());
        if (speech != LAN_SILENCE) speak(lan, segment, speech);
    }
    schedule(lan);
}

static void schedule(struct lan *lan) {
    uint64_t due = lan->look_ms, now = now_ms();
    for (uint32_t i = 0; i < lan->n_segments; i++) {
        uint64_t own = lan_pace_due(&lan->segments[i].pace);
        if (own < due) due = own;
    }
    if (lan->deaf && lan->second_ms + 1000 < due) due = lan->second_ms + 1000;
    net_timer_start(lan->timer, due > now ? (uint32_t)(due - now) : 0, 0);
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

static void on_closed(uv_handle_t *handle) {
    struct lan *lan = handle->data;
    if (--lan->handles == 0) free(lan);
}

/* The sending socket leaves its segment by no way: hop limit 1. Loop: other processes of this machine hear us too. */
static int channel_set_up(struct channel *channel) {
    struct sockaddr_storage at;
    bool ipv4 = channel->family == AF_INET;
    if (!address_numeric(ipv4 ? channel->group : "::", LAN_PORT, &at)) return UV_EINVAL;
    int result = uv_udp_bind(&channel->in, (struct sockaddr *)&at, UV_UDP_REUSEADDR | (ipv4 ? 0 : UV_UDP_IPV6ONLY));
    if (result == 0) result = uv_udp_set_multicast_ttl(&channel->out, 1);
    if (result == 0) result = uv_udp_set_multicast_loop(&channel->out, 1);
    return result;
}

static void channel_open(struct lan *lan, struct channel *channel, int family, const char *group) {
    uv_loop_t *loop = &lan->net->loop;
    channel->family = family;
    channel->group = group;
    int in = uv_udp_init_ex(loop, &channel->in, (unsigned)family), out = uv_udp_init_ex(loop, &channel->out, (unsigned)family);
    channel->in.data = channel->out.data = lan;
    if (in == 0) lan->handles++;
    if (out == 0) lan->handles++;
    int result = in != 0 ? in : out != 0 ? out : channel_set_up(channel);
    channel->usable = result == 0;
    if (result == 0) return;
    log_debug("lan_off family=%s why=\"%s\"", family == AF_INET ? "ipv4" : "ipv6", uv_strerror(result));
    if (in == 0) uv_close((uv_handle_t *)&channel->in, on_closed);
    if (out == 0) uv_close((uv_handle_t *)&channel->out, on_closed);
}

enum corolla_status lan_open(struct lan **out_lan, struct net *net, void (*on_found)(void *user, const struct node_ref *node), void *user,
                             struct corolla_error *err) {
    assert(net_on_loop(net));
    struct lan *lan = calloc(1, sizeof(*lan));
    struct net_timer *timer = lan ? net_timer_new(net, on_timer, lan) : NULL;
    if (!timer) {
        free(lan);
        return err_set(err, COROLLA_NOMEM, "no memory to look for nodes on the LAN");
    }
    lan->net = net;
    lan->on_found = on_found;
    lan->user = user;
    lan->timer = timer;
    lan->opened_ms = now_ms();
    lan->handles = 1; /* held until lan_close, should all sockets fail */
    int size = sizeof(lan->listener);
    lan->listens = net->listening && uv_tcp_getsockname(&net->listener, (struct sockaddr *)&lan->listener, &size) == 0;
    channel_open(lan, &lan->channels[0], AF_INET, LAN_GROUP_IPV4);
    channel_open(lan, &lan->channels[1], AF_INET6, LAN_GROUP_IPV6);
    listen_start(lan);
    look(lan, now_ms());
    schedule(lan);
    net->lan = lan;
    *out_lan = lan;
    return COROLLA_OK;
}

bool lan_settled(const struct lan *lan) { return now_ms() - lan->opened_ms >= SETTLE_MS; }

const struct node_ref *lan_heard(const struct lan *lan, const struct node_id *id) { return lan_table_find(&lan->table, id); }

void lan_close(struct lan *lan) {
    if (!lan) return;
    lan->closing = true;
    lan->net->lan = NULL;
    net_timer_free(lan->timer);
    for (uint32_t i = 0; i < CHANNELS; i++) {
        if (!lan->channels[i].usable) continue;
        uv_close((uv_handle_t *)&lan->channels[i].in, on_closed);
        uv_close((uv_handle_t *)&lan->channels[i].out, on_closed);
    }
    if (--lan->handles == 0) free(lan);
}
