/* test_remote.c - remote sessions against servers that lie, refuse, stay silent or vanish, on a fake net.
 *
 * The fake stands in for all of src/net's loop: posts run in order on the thread in net_run, and what the client sends is
 * answered there by servers that share one function. Servers 0 to 2 make a chain, and 3 to 5 have the same blocks but are slower:
 * they come into it only in the place of one that failed. Each block adds 1 to every value, and a server computes a position only
 * when it has all those before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "client/remote.h"
#include "wire/join.h"

#define CHAIN 3
#define SERVERS (2 * CHAIN)
#define BLOCKS 6
#define N_EMBD 4
#define SESSION_TOKENS 2048

/* ---- the fake net ---------------------------------------------------------------------------------------------- */

struct link {
    uint32_t index, streams;
    bool up;
    struct net *net;
    struct node_ref ref;
    bool dead;         /* a dial is refused */
    bool cut;          /* from the hop before, until the client asks */
    uint32_t stream;   /* of the last OPEN or SYNC */
    struct body *held; /* a RESULT that is kept back */
    struct msg_result held_result;
    bool opened;   /* it has the session ... */
    uint8_t opens; /* ... that was opened so many times */
    uint32_t length, epoch, computed;
    float kept[SESSION_TOKENS * N_EMBD];
};

struct post {
    void (*fn)(void *user);
    void *user;
    struct post *next;
};

struct net {
    struct net_events events;
    struct node_ref self;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct post *first, **last;
    pthread_t loop;
    bool busy, stop;
    struct link links[SERVERS];
};

/* How the servers behave in a test. Written before the calls under test, read by the loop thread. */
enum lie { HONEST, WRONG_POSITION, WRONG_SIZE, NOT_FINITE, WRONG_SENDER, UNASKED_RESULT, GARBAGE };
enum loss { NONE, CRASH, CUT };
static struct {
    enum lie lie;
    uint32_t lie_at;                 /* which step */
    enum corolla_status open_status; /* of server 1 */
    uint32_t held[SERVERS];          /* what they say in OPENED */
    enum corolla_status step_status; /* of step lie_at, told by server 0 about server 1 */
    bool keep_open_answer;           /* server 1 does not answer OPEN */
    bool keep_sync_answer;           /* server 1 does not answer SYNC */
    bool forget;                     /* server 1 does not know the session at the first SYNC */
    bool late_failure;               /* server 0 tells of a failure of the epoch before when it is asked to SYNC */
    enum loss loss;                  /* of server 2 at step lie_at: that and the ones behind it go no further */
    bool refuse_dial;                /* of server 1 */
    bool eager;                      /* what the caller posts is done before it goes on */
    bool hold_result;                /* the result of step lie_at comes with the next step of a later epoch */
} plan;
static atomic_uint n_steps, n_closes, n_opens, n_bodies, epoch_seen, faults;
static uint8_t last_session[SESSION_SIZE];
static struct net *the_net;

void net_config_default(struct net_config *config) { *config = (struct net_config){0}; }

enum corolla_status net_open(struct net **out_net, const struct net_config *config, struct corolla_error *err) {
    (void)err;
    struct net *net = calloc(1, sizeof *net);
    net->events = config->events;
    net->self.id = *identity_id(config->identity);
    pthread_mutex_init(&net->lock, NULL);
    pthread_cond_init(&net->changed, NULL);
    net->last = &net->first;
    for (uint32_t i = 0; i < SERVERS; i++) net->links[i] = (struct link){.index = i, .net = net};
    *out_net = the_net = net;
    return COROLLA_OK;
}

void net_run(struct net *net) {
    pthread_mutex_lock(&net->lock);
    net->loop = pthread_self();
    for (;;) {
        net->busy = net->first != NULL;
        if (!net->busy) pthread_cond_broadcast(&net->changed);
        while (net->first == NULL && !net->stop) pthread_cond_wait(&net->changed, &net->lock);
        struct post *post = net->first;
        if (post == NULL) break;
        net->busy = true;
        net->first = post->next;
        if (net->first == NULL) net->last = &net->first;
        pthread_mutex_unlock(&net->lock);
        post->fn(post->user);
        free(post);
        pthread_mutex_lock(&net->lock);
    }
    pthread_mutex_unlock(&net->lock);
    for (uint32_t i = 0; i < SERVERS; i++) {
        if (net->links[i].up) net->events.on_down(net->events.user, &net->links[i], COROLLA_OK, "closed");
        if (net->links[i].held != NULL) net_body_free(net, net->links[i].held);
    }
}

void net_stop(struct net *net) {
    pthread_mutex_lock(&net->lock);
    net->stop = true;
    pthread_cond_broadcast(&net->changed);
    pthread_mutex_unlock(&net->lock);
}

void net_close(struct net *net) {
    pthread_cond_destroy(&net->changed);
    pthread_mutex_destroy(&net->lock);
    free(net);
}

void net_post(struct net *net, void (*fn)(void *user), void *user) {
    struct post *post = malloc(sizeof *post);
    *post = (struct post){.fn = fn, .user = user};
    pthread_mutex_lock(&net->lock);
    *net->last = post;
    net->last = &post->next;
    pthread_cond_broadcast(&net->changed);
    while (plan.eager && !pthread_equal(net->loop, pthread_self()) && (net->busy || net->first != NULL))
        pthread_cond_wait(&net->changed, &net->lock);
    pthread_mutex_unlock(&net->lock);
}

/* The swarm is an open one. */
enum corolla_status membership_open(struct membership **out, const struct membership_config *config, struct corolla_error *err) {
    (void)config, (void)err;
    *out = NULL;
    return COROLLA_OK;
}
void membership_close(struct membership *membership) { (void)membership; }
void membership_guard(struct membership *membership, struct net_config *config) { (void)membership, (void)config; }
enum corolla_status membership_start(struct membership *membership, struct net *net, struct corolla_error *err) {
    (void)membership, (void)net, (void)err;
    return COROLLA_OK;
}

const struct node_ref *net_self(const struct net *net) { return &net->self; }
const char *link_address(const struct link *link) { return link->ref.addrs[0]; }
const struct node_ref *link_peer(const struct link *link) { return &link->ref; }
uint32_t link_rtt_us(const struct link *link) { return link->up ? 100 : 0; }
uint32_t link_stream_new(struct link *link) { return link->streams += 2; }

struct body *net_body_new(struct net *net, size_t size) {
    (void)net;
    struct body *body = calloc(1, sizeof *body + size + 1);
    body->size = size;
    body->data = (uint8_t *)(body + 1);
    n_bodies++;
    return body;
}

void net_body_free(struct net *net, struct body *body) {
    (void)net;
    n_bodies--;
    free(body);
}

void net_dial(struct net *net, const struct node_ref *node, void (*on_done)(void *user, struct link *link, const struct corolla_error *err),
              void *user) {
    struct link *link = &net->links[node->id.key[0]];
    if (link->dead || (plan.refuse_dial && link->index == 1)) {
        struct corolla_error err;
        err_set(&err, COROLLA_PEER_LOST, "connection refused");
        on_done(user, NULL, &err);
        return;
    }
    link->ref = *node;
    link->up = true;
    on_done(user, link, NULL);
}

static void take_down(void *user) {
    struct link *link = user;
    if (!link->up) return;
    link->up = false;
    link->net->events.on_down(link->net->events.user, link, COROLLA_OK, "closed");
}

void link_close(struct link *link, enum corolla_status status, const char *why) {
    (void)why;
    faults += status == COROLLA_PEER_FAULT;
    net_post(link->net, take_down, link);
}

struct net_timer {
    struct net *net;
    void (*fn)(void *user);
    void *user;
};

struct net_timer *net_timer_new(struct net *net, void (*fn)(void *user), void *user) {
    struct net_timer *timer = malloc(sizeof *timer);
    *timer = (struct net_timer){net, fn, user};
    return timer;
}
void net_timer_start(struct net_timer *timer, uint32_t delay_ms, uint32_t repeat_ms) {
    (void)delay_ms;
    (void)repeat_ms;
    net_post(timer->net, timer->fn, timer->user);
}
void net_timer_stop(struct net_timer *timer) { (void)timer; }
void net_timer_free(struct net_timer *timer) { free(timer); }

/* ---- a mesh without neighbours: the join codes name all servers ------------------------------------------------- */

enum corolla_status mesh_open(struct mesh **out_mesh, const struct mesh_config *config, struct corolla_error *err) {
    (void)config;
    (void)err;
    *out_mesh = NULL;
    return COROLLA_OK;
}
void mesh_close(struct mesh *mesh) { (void)mesh; }
bool mesh_message(struct mesh *mesh, struct link *link, struct message *msg) {
    (void)mesh;
    (void)link;
    (void)msg;
    return false;
}
void mesh_link_down(struct mesh *mesh, struct link *link, enum corolla_status status) {
    (void)mesh;
    (void)link;
    (void)status;
}
bool mesh_settled(const struct mesh *mesh) {
    (void)mesh;
    return true;
}
size_t mesh_neighbours(const struct mesh *mesh) {
    (void)mesh;
    return 0;
}
bool mesh_entry_errors(const struct mesh *mesh, struct corolla_error *out_error) {
    (void)mesh;
    (void)out_error;
    return false;
}

/* ---- the servers, on the loop thread --------------------------------------------------------------------------- */

static void answer(struct link *link, uint32_t stream, enum msg_kind kind, const uint8_t *header, size_t size, struct body *body) {
    struct message msg = {.kind = kind, .header = header, .header_size = size, .body = body};
    link->net->events.on_message(link->net->events.user, link, stream, &msg);
}

static uint32_t first_block(const struct link *link) { return link->index % CHAIN * 2; }

static void answer_info(struct link *link, uint32_t stream) {
    struct msg_info info = {.n_blocks = BLOCKS, .n_embd = N_EMBD, .exact = true, .wires = 7};
    info.begin = first_block(link);
    info.end = info.begin + 2;
    info.session_tokens_max = SESSION_TOKENS;
    info.cache_tokens_left = SESSION_TOKENS;
    info.decode_tokens_per_s = link->index < CHAIN ? 100000 : 10000;
    uint8_t header[MSG_HEADER_MAX];
    answer(link, stream, MSG_INFO, header, msg_info_encode(&info, header), NULL);
}

static void answer_failed(struct link *link, uint32_t stream, struct msg_failed *failed, const uint8_t session[SESSION_SIZE]) {
    uint8_t header[MSG_HEADER_MAX];
    memcpy(failed->session, session, SESSION_SIZE);
    answer(link, stream, MSG_FAILED, header, msg_failed_encode(failed, header), NULL);
}

static void answer_open(struct link *link, uint32_t stream, const struct msg_open *open) {
    uint8_t header[MSG_HEADER_MAX];
    assert_int_equal(open->begin, first_block(link));
    assert_int_equal(open->has_upstream, open->begin > 0);
    assert_int_equal(open->keep, open->end < BLOCKS);
    n_opens++;
    link->stream = stream;
    memcpy(last_session, open->session, SESSION_SIZE);
    if (link->index == 1 && plan.keep_open_answer) return;
    if (link->index == 1 && plan.open_status != COROLLA_OK) {
        answer_failed(link, stream, &(struct msg_failed){.status = plan.open_status, .text = "no room", .cache_tokens_left = 17},
                      open->session);
        return;
    }
    link->opened = true;
    link->length = link->epoch = link->computed = 0;
    struct msg_opened opened = {.cache_tokens_left = 5, .held = plan.held[link->index]};
    memcpy(opened.session, open->session, SESSION_SIZE);
    memset(opened.secret, (int)link->index + 1, SECRET_SIZE);
    opened.secret[1] = ++link->opens;
    answer(link, stream, MSG_OPENED, header, msg_opened_encode(&opened, header), NULL);
}

static void fail_step(struct link *first, uint32_t epoch, uint32_t position, enum corolla_status status,
                      const uint8_t session[SESSION_SIZE]) {
    struct msg_failed failed = {.epoch = epoch, .position = position, .status = status, .text = "a test said so"};
    failed.has_culprit = status == COROLLA_PEER_LOST;
    failed.culprit.key[0] = 1;
    answer_failed(first, first->stream, &failed, session);
}

static void answer_sync(struct link *link, uint32_t stream, const struct msg_sync *sync) {
    uint8_t header[MSG_HEADER_MAX];
    assert_int_equal(sync->secret[0], link->index + 1);
    assert_int_equal(sync->has_upstream, first_block(link) > 0);
    link->stream = stream;
    link->cut = false;
    if (link->index == 0 && plan.late_failure) fail_step(link, sync->epoch - 1, 0, COROLLA_PEER_LOST, sync->session);
    if (link->index == 1 && plan.keep_sync_answer) return;
    if (link->index == 1 && plan.forget) plan.forget = link->opened = false;
    if (!link->opened) {
        answer_failed(link, stream, &(struct msg_failed){.status = COROLLA_NO_SESSION, .epoch = sync->epoch}, sync->session);
        return;
    }
    struct msg_synced synced = {.epoch = sync->epoch, .length = link->length, .computed_epoch = link->epoch};
    synced.kept = first_block(link) + 2 < BLOCKS ? link->length : 0;
    memcpy(synced.session, sync->session, SESSION_SIZE);
    answer(link, stream, MSG_SYNCED, header, msg_synced_encode(&synced, header), NULL);
}

static void send_result(struct link *link, const struct msg_result *result, struct body *body) {
    uint8_t header[MSG_HEADER_MAX];
    size_t size = msg_result_encode(result, header);
    answer(link, link->stream, MSG_RESULT, header, plan.lie == GARBAGE && link->index < CHAIN ? size - 1 : size, body);
}

static void lie_about(struct net *net, struct msg_result *result, struct body **body, struct link **sender) {
    switch (plan.lie) {
    case WRONG_POSITION: result->position++; break;
    case WRONG_SIZE:
        net_body_free(net, *body);
        *body = net_body_new(net, N_EMBD * sizeof(float) - 4);
        break;
    case NOT_FINITE: memset((*body)->data, 0xff, 4); break;
    case WRONG_SENDER: *sender = &net->links[1]; break;
    default: break;
    }
}

/* The rows of a step through one server, in place. */
static void compute(struct link *link, const struct msg_step *step, float *rows) {
    assert_true(link->opened);
    assert_in_range(step->position, 0, link->length);
    for (uint32_t i = 0; i < step->n_tokens * N_EMBD; i++) rows[i] += 2;
    memcpy(link->kept + (size_t)step->position * N_EMBD, rows, step->n_tokens * N_EMBD * sizeof *rows);
    link->length = step->position + step->n_tokens;
    link->epoch = step->epoch;
    link->computed += step->n_tokens;
}

/* Through all servers of the step that are still there; the last one, or NULL. replay: the first only sends. */
static struct link *compute_all(struct link *link, const struct msg_step *step, float *rows, bool replay) {
    for (uint32_t i = 0; i <= step->n_hops; i++) {
        const uint8_t *secret = i == 0 ? step->secret : step->hops[i - 1].secret;
        struct link *hop = i == 0 ? link : &link->net->links[step->hops[i - 1].node.id.key[0]];
        assert_int_equal(secret[0], hop->index + 1);
        if (hop->cut) return NULL;
        if (i > 0 || !replay) compute(hop, step, rows);
        link = hop;
    }
    return link;
}

static void lose(struct link *link) {
    link->cut = true;
    link->dead = plan.loss == CRASH;
    if (link->dead) link->opened = false;
    net_post(link->net, take_down, link);
}

static void hold_or_send(struct link *last, const struct msg_result *result, struct body *body, bool hold) {
    if (hold) {
        last->held = body;
        last->held_result = *result;
        return;
    }
    if (last->held != NULL) {
        struct body *held = last->held;
        last->held = NULL;
        send_result(last, &last->held_result, held);
    }
    send_result(last, result, body);
}

static void answer_step(struct link *link, const struct msg_step *step, const struct body *in) {
    static float rows[REMOTE_CHUNK * N_EMBD];
    struct net *net = link->net;
    bool replay = in == NULL, now = !replay && n_steps++ == plan.lie_at;
    epoch_seen = step->epoch;
    size_t row = N_EMBD * sizeof(float);
    assert_in_range(step->n_tokens, 1, REMOTE_CHUNK);
    if (replay) assert_in_range(step->position + step->n_tokens, 1, link->length);
    memcpy(rows, replay ? (void *)(link->kept + (size_t)step->position * N_EMBD) : (void *)in->data, step->n_tokens * row);
    if (now && plan.step_status != COROLLA_OK) {
        fail_step(link, step->epoch, step->position, plan.step_status, step->session);
        return;
    }
    if (now && plan.loss != NONE) lose(&net->links[2]);
    struct link *last = compute_all(link, step, rows, replay);
    if (last == NULL) return;
    struct msg_result result = {.epoch = step->epoch, .position = step->position, .n_tokens = step->n_tokens, .n_rows = step->n_rows};
    memcpy(result.session, step->session, SESSION_SIZE);
    result.dtype = step->dtype;
    result.n_timings = step->n_hops + 1;
    for (uint32_t i = 0; i < result.n_timings; i++) result.timings[i] = (struct hop_timing){.queue_us = i, .compute_us = 10};
    struct body *body = step->n_rows == 0 ? NULL : net_body_new(net, step->n_rows * row);
    if (body != NULL) memcpy(body->data, rows + (step->n_tokens - step->n_rows) * N_EMBD, body->size);
    if (now) lie_about(net, &result, &body, &last);
    hold_or_send(last, &result, body, now && plan.hold_result);
    if (now && plan.lie == UNASKED_RESULT) send_result(last, &result, NULL);
}

enum corolla_status link_send(struct link *link, uint32_t stream, enum link_priority priority, enum msg_kind kind, const uint8_t *header,
                              size_t header_size, struct body *body) {
    (void)priority;
    struct msg_open open;
    struct msg_sync sync;
    static struct msg_step step;
    struct msg_close closing;
    if (kind == MSG_INFO_GET) answer_info(link, stream);
    if (kind == MSG_OPEN) {
        assert_int_equal(msg_open_decode(header, header_size, &open, NULL), COROLLA_OK);
        answer_open(link, stream, &open);
    }
    if (kind == MSG_SYNC) {
        assert_int_equal(msg_sync_decode(header, header_size, &sync, NULL), COROLLA_OK);
        answer_sync(link, stream, &sync);
    }
    if (kind == MSG_STEP || kind == MSG_REPLAY) {
        assert_int_equal(msg_step_decode(header, header_size, &step, NULL), COROLLA_OK);
        assert_int_equal(stream, link->stream);
        assert_int_equal(body == NULL, kind == MSG_REPLAY);
        answer_step(link, &step, body);
    }
    if (kind == MSG_CLOSE) {
        assert_int_equal(msg_close_decode(header, header_size, &closing, NULL), COROLLA_OK);
        assert_int_equal(closing.secret[0], link->index + 1);
        if (closing.secret[1] == link->opens) link->opened = false;
        n_closes++;
    }
    if (body != NULL) net_body_free(link->net, body);
    return COROLLA_OK;
}

/* ---- a swarm without a model ----------------------------------------------------------------------------------- */

#define WAIT_MS 100 /* for a server that never comes */

static char folder[] = "/tmp/corolla-remote-XXXXXX";
static struct corolla_model model;
static struct corolla_swarm swarm;
static uint32_t n_events;
static struct corolla_event last_event;

static void on_event(void *user, const struct corolla_event *event) {
    (void)user;
    last_event = *event;
    n_events++;
}

/* One thing was told: that the blocks of a server go on elsewhere, and why. */
static void check_event(enum corolla_event_kind kind, uint32_t server, const char *reason) {
    char node[17];
    snprintf(node, sizeof node, "%02x00000000000000", server);
    assert_int_equal(n_events, 1);
    assert_int_equal(last_event.kind, kind);
    assert_int_equal(strncmp(last_event.node, node, 16), 0);
    assert_int_equal(last_event.begin, 2 * server);
    assert_int_equal(last_event.end, 2 * server + 2);
    assert_string_equal(last_event.reason, reason);
    assert_true(last_event.exact);
}

/* With the first n servers. */
static void swarm_start(uint32_t n, uint32_t timeout_ms) {
    static char codes[SERVERS][JOIN_CODE_MAX];
    const char *joins[SERVERS];
    n_events = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct node_ref ref = {.n_addrs = 1};
        ref.id.key[0] = (uint8_t)i;
        snprintf(ref.addrs[0], ADDR_MAX, "127.0.0.1:%u", 1000 + i);
        join_encode(&ref, codes[i]);
        joins[i] = codes[i];
    }
    n_steps = n_closes = n_opens = n_bodies = faults = 0;
    model.info.n_blocks = BLOCKS;
    model.info.n_embd = N_EMBD;
    swarm = (struct corolla_swarm){.model = &model, .timeout_ms = timeout_ms, .wait_ms = WAIT_MS};
    pthread_mutex_init(&swarm.lock, NULL);
    struct peers_config config = {.home = folder, .joins = joins, .n_joins = n, .timeout_ms = timeout_ms};
    config.n_blocks = BLOCKS;
    config.n_embd = N_EMBD;
    struct corolla_error err;
    if (peers_open(&swarm.peers, &config, &err) != COROLLA_OK) fail_msg("%s", err.message);
}

static void swarm_stop(void) {
    peers_close(swarm.peers);
    pthread_mutex_destroy(&swarm.lock);
    assert_int_equal(n_bodies, 0);
    memset(&plan, 0, sizeof plan);
    plan.lie_at = UINT32_MAX;
}

static float input[SESSION_TOKENS * N_EMBD], output[SESSION_TOKENS * N_EMBD];

static struct corolla_session *session_of(void) {
    struct corolla_session *session = NULL;
    struct corolla_error err;
    if (corolla_session_open(&session, &swarm, SESSION_TOKENS, &err) != COROLLA_OK) fail_msg("%s", err.message);
    corolla_session_watch(session, on_event, NULL);
    return session;
}

static enum corolla_status step(struct corolla_session *session, uint32_t position, uint32_t n, uint32_t n_rows,
                                struct corolla_error *err) {
    return corolla_session_step_hidden(session, position, input, n, output, n_rows, err);
}

static void check_output(uint32_t n, uint32_t n_rows) {
    for (uint32_t i = 0; i < n_rows * N_EMBD; i++) assert_true(output[i] == input[(n - n_rows) * N_EMBD + i] + BLOCKS);
}

/* The same input to the end of the session, after all that happened before. */
static void check_goes_on(struct corolla_session *session, uint32_t position) {
    struct corolla_error err;
    assert_int_equal(corolla_session_position(session), position);
    if (step(session, position, 7, 7, &err) != COROLLA_OK) fail_msg("%s", err.message);
    check_output(7, 7);
    assert_int_equal(corolla_session_position(session), position + 7);
}

/* ---- tests ----------------------------------------------------------------------------------------------------- */

static void long_runs_travel_in_chunks_and_come_back_in_order(void **state) {
    (void)state;
    swarm_start(SERVERS, 5000);
    struct corolla_session *session = session_of();
    assert_int_equal(step(session, 0, SESSION_TOKENS, SESSION_TOKENS, NULL), COROLLA_OK);
    check_output(SESSION_TOKENS, SESSION_TOKENS);
    assert_int_equal(n_steps, SESSION_TOKENS / REMOTE_CHUNK);
    assert_int_equal(corolla_session_position(session), SESSION_TOKENS);
    assert_int_equal(step(session, 7, 2 * REMOTE_CHUNK + 1, REMOTE_CHUNK + 5, NULL), COROLLA_OK);
    check_output(2 * REMOTE_CHUNK + 1, REMOTE_CHUNK + 5);
    assert_int_equal(corolla_session_position(session), 7 + 2 * REMOTE_CHUNK + 1);
    struct corolla_hop_timing timings[CHAIN];
    assert_int_equal(corolla_session_timings(session, timings, CHAIN, NULL), CHAIN);
    assert_int_equal(timings[2].compute_us, 30); /* of three chunks */
    corolla_session_close(session);
    swarm_stop();
    assert_int_equal(n_closes, CHAIN);
    assert_int_equal(n_events, 0);
}

static void a_lying_server_is_blamed_and_replaced(void **state) {
    (void)state;
    const enum lie lies[] = {WRONG_POSITION, WRONG_SIZE, WRONG_SENDER, NOT_FINITE, GARBAGE};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        bool at_once = lies[i] == GARBAGE;
        plan.lie = lies[i];
        plan.lie_at = at_once ? 0 : 1;
        swarm_start(SERVERS, 5000);
        struct corolla_session *session = session_of();
        struct corolla_error err;
        for (uint32_t k = 0; k < 2; k++)
            if (step(session, 3 * k, 3, 1, &err) != COROLLA_OK) fail_msg("lie %d gave %s", (int)lies[i], err.message);
        check_output(3, 1);
        check_event(COROLLA_EVENT_RECOVERED, lies[i] == WRONG_SENDER ? 1 : 2, "faulty");
        assert_int_equal(last_event.position, at_once ? 0 : 3);
        while (faults == 0 && lies[i] != NOT_FINITE) usleep(1000); /* the loop closes the link behind telling the session */
        assert_int_equal(faults, lies[i] != NOT_FINITE);
        check_goes_on(session, 6);
        corolla_session_close(session);
        swarm_stop();
    }
}

static void a_result_that_nobody_waits_for_is_a_fault(void **state) {
    (void)state;
    plan.lie = UNASKED_RESULT;
    plan.lie_at = 0;
    swarm_start(SERVERS, 5000);
    struct corolla_session *session = session_of();
    assert_int_equal(step(session, 0, 3, 0, NULL), COROLLA_OK); /* it may be seen before the answer is taken, or behind it */
    while (faults == 0) usleep(1000);
    check_goes_on(session, 3);
    check_event(COROLLA_EVENT_RECOVERED, 2, "faulty");
    corolla_session_close(session);
    swarm_stop();
}

static void a_fault_that_nobody_can_replace_is_reported_and_the_position_kept(void **state) {
    (void)state;
    plan.lie = WRONG_POSITION;
    plan.lie_at = 2;
    swarm_start(CHAIN, 5000);
    struct corolla_session *session = session_of();
    struct corolla_error err;
    assert_int_equal(step(session, 0, 2 * REMOTE_CHUNK, 1, &err), COROLLA_OK);
    for (uint32_t k = 0; k < 2; k++) { /* and so it stays */
        assert_int_equal(step(session, 2 * REMOTE_CHUNK, 3, 1, &err), COROLLA_NO_CHAIN);
        assert_non_null(strstr(err.message, "broke the protocol"));
        assert_non_null(strstr(err.message, "no other server has blocks 4:6 now"));
        assert_int_equal(corolla_session_position(session), 2 * REMOTE_CHUNK);
        assert_int_equal(n_events, k + 1);
        assert_int_equal(last_event.kind, COROLLA_EVENT_WAITING);
        assert_int_equal(last_event.begin, 4);
        assert_int_equal(last_event.end, 6);
    }
    assert_int_equal(n_steps, 3); /* nothing was sent into a broken chain */
    corolla_session_close(session);
    swarm_stop();
}

static void a_refused_opening_closes_the_other_hops(void **state) {
    (void)state;
    plan.open_status = COROLLA_NO_CACHE;
    swarm_start(CHAIN, 5000);
    swarm.wait_ms = 0;
    struct corolla_session *session;
    struct corolla_error err;
    assert_int_equal(corolla_session_open(&session, &swarm, SESSION_TOKENS, &err), COROLLA_NO_CACHE);
    assert_non_null(strstr(err.message, "(blocks 2:4): no room (17 tokens of cache left)"));
    swarm_stop(); /* the refusal may be told while the loop still sends */
    assert_int_equal(n_opens, CHAIN);
    assert_int_equal(n_closes, CHAIN - 1);
}

/* The least of what they hold of the prompt; who says that it holds what nobody named is at fault. */
static void what_servers_say_that_they_hold_is_checked(void **state) {
    (void)state;
    int32_t prompt[3 * PREFIX_STEP] = {0};
    struct corolla_session *session;
    struct corolla_error err;
    plan.held[0] = plan.held[2] = 2 * PREFIX_STEP;
    plan.held[1] = PREFIX_STEP;
    swarm_start(CHAIN, 5000);
    assert_int_equal(corolla_session_open_prompt(&session, &swarm, 4 * PREFIX_STEP, prompt, 3 * PREFIX_STEP, &err), COROLLA_OK);
    assert_int_equal(corolla_session_position(session), PREFIX_STEP);
    corolla_session_close(session);
    swarm_stop();
    for (uint32_t named = 0; named < 2; named++) {
        uint32_t n = named * (PREFIX_STEP + 1); /* one hash */
        plan.held[1] = named * PREFIX_STEP + 1;
        swarm_start(CHAIN, 5000);
        swarm.wait_ms = 0;
        assert_int_equal(corolla_session_open_prompt(&session, &swarm, 4 * PREFIX_STEP, prompt, n, &err), COROLLA_PEER_FAULT);
        assert_non_null(strstr(err.message, "OPENED that cannot be true"));
        swarm_stop();
    }
}

static void late_answers(void *user) {
    struct link *link = user;
    struct msg_open open = {.begin = 2, .end = 4, .has_upstream = true, .keep = true};
    memcpy(open.session, last_session, SESSION_SIZE);
    plan.keep_open_answer = false;
    answer_open(link, link->stream, &open);
}

static void an_opening_has_a_deadline_and_a_late_answer_is_closed(void **state) {
    (void)state;
    plan.keep_open_answer = true;
    swarm_start(CHAIN, 200);
    struct corolla_session *session;
    struct corolla_error err;
    assert_int_equal(corolla_session_open(&session, &swarm, SESSION_TOKENS, &err), COROLLA_TIMEOUT);
    net_post(the_net, late_answers, &the_net->links[1]);
    swarm_stop();
    assert_int_equal(n_closes, CHAIN);
}

static void an_unreachable_server_is_named(void **state) {
    (void)state;
    plan.refuse_dial = true;
    swarm_start(CHAIN, 5000);
    struct corolla_session *session;
    struct corolla_error err;
    assert_int_equal(corolla_session_open(&session, &swarm, SESSION_TOKENS, &err), COROLLA_NO_CHAIN);
    assert_non_null(strstr(err.message, "no server for blocks 2:4"));
    assert_non_null(strstr(err.message, "server 0100000000000000: connection refused"));
    swarm_stop();
}

static void a_step_that_failed_for_a_while_is_tried_again(void **state) {
    (void)state;
    const enum corolla_status passing[] = {COROLLA_BUSY, COROLLA_NOMEM, COROLLA_BAD_POSITION, COROLLA_PEER_LOST};
    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++) { /* the last: a hop lost its next hop, which is there for us */
        plan.step_status = passing[i];
        plan.lie_at = 1;
        swarm_start(SERVERS, 5000);
        struct corolla_session *session = session_of();
        struct corolla_error err;
        assert_int_equal(step(session, 0, 10, 1, &err), COROLLA_OK);
        if (step(session, 10, 1, 1, &err) != COROLLA_OK) fail_msg("%s: %s", corolla_status_name(passing[i]), err.message);
        check_output(1, 1);
        assert_int_equal(epoch_seen, 1);
        assert_int_equal(n_opens, CHAIN);
        assert_int_equal(n_events, 0);
        assert_int_equal(the_net->links[0].computed, 11);
        check_goes_on(session, 11);
        corolla_session_close(session);
        swarm_stop();
    }
}

static void a_server_that_refuses_a_step_is_replaced(void **state) {
    (void)state;
    const struct {
        enum corolla_status status;
        const char *reason;
    } ends[] = {
        {COROLLA_NO_SESSION, "crashed"}, {COROLLA_DRAINING, "draining"}, {COROLLA_REFUSED, "refused"}, {COROLLA_NOT_SERVED, "moved"}};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        plan.step_status = ends[i].status;
        plan.lie_at = 1;
        swarm_start(SERVERS, 5000);
        struct corolla_session *session = session_of();
        struct corolla_error err;
        assert_int_equal(step(session, 0, 10, 1, &err), COROLLA_OK);
        if (step(session, 10, 2, 2, &err) != COROLLA_OK) fail_msg("%s: %s", corolla_status_name(ends[i].status), err.message);
        check_output(2, 2);
        check_event(COROLLA_EVENT_RECOVERED, 0, ends[i].reason);
        uint32_t now = ends[i].status == COROLLA_NO_SESSION ? 0 : CHAIN; /* a server that only forgot the session is as good as another */
        assert_int_equal(the_net->links[now].computed, 12);              /* out of what the client keeps */
        assert_int_equal(the_net->links[1].computed, 12);
        check_goes_on(session, 12);
        corolla_session_close(session);
        swarm_stop();
    }
}

static void what_no_server_could_compute_is_reported_at_once(void **state) {
    (void)state;
    plan.step_status = COROLLA_UNSUPPORTED;
    plan.lie_at = 1;
    swarm_start(SERVERS, 5000);
    struct corolla_session *session = session_of();
    struct corolla_error err;
    assert_int_equal(step(session, 0, 10, 1, &err), COROLLA_OK);
    assert_int_equal(step(session, 10, 3, 1, &err), COROLLA_UNSUPPORTED);
    assert_string_equal(strstr(err.message, "(blocks"), "(blocks 0:2): a test said so");
    assert_int_equal(n_events, 0);
    check_goes_on(session, 10);
    corolla_session_close(session);
    swarm_stop();
}

/* However late the caller looks at what came back. */
static void a_crashed_server_is_replaced_and_only_its_blocks_are_computed_again(void **state) {
    (void)state;
    for (uint32_t eager = 0; eager < 2; eager++) {
        plan.loss = CRASH;
        plan.lie_at = 2;
        swarm_start(SERVERS, 5000);
        struct corolla_session *session = session_of();
        struct corolla_error err;
        plan.eager = eager;
        if (step(session, 0, SESSION_TOKENS - 7, SESSION_TOKENS - 7, &err) != COROLLA_OK) fail_msg("%s", err.message);
        plan.eager = false;
        check_output(SESSION_TOKENS - 7, SESSION_TOKENS - 7);
        check_event(COROLLA_EVENT_RECOVERED, 2, "crashed");
        assert_int_equal(last_event.position, 2 * REMOTE_CHUNK);
        const uint32_t counts[] = {SESSION_TOKENS - 7, SESSION_TOKENS - 7, 2 * REMOTE_CHUNK, 0, 0, SESSION_TOKENS - 7};
        for (uint32_t i = 0; i < SERVERS; i++)
            if (the_net->links[i].computed != counts[i])
                fail_msg("server %u computed %u rows and not %u", i, the_net->links[i].computed, counts[i]);
        check_goes_on(session, SESSION_TOKENS - 7);
        corolla_session_close(session);
        swarm_stop();
    }
}

static void a_server_that_was_only_cut_off_goes_on(void **state) {
    (void)state;
    plan.loss = CUT;
    plan.lie_at = 2;
    swarm_start(SERVERS, 5000);
    struct corolla_session *session = session_of();
    struct corolla_error err;
    if (step(session, 0, SESSION_TOKENS - 7, 1, &err) != COROLLA_OK) fail_msg("%s", err.message);
    check_output(SESSION_TOKENS - 7, 1);
    check_event(COROLLA_EVENT_RECOVERED, 2, "connection");
    assert_int_equal(n_opens, CHAIN);
    for (uint32_t i = 0; i < CHAIN; i++) assert_int_equal(the_net->links[i].computed, SESSION_TOKENS - 7);
    check_goes_on(session, SESSION_TOKENS - 7);
    corolla_session_close(session);
    swarm_stop();
}

static void a_failure_of_the_epoch_before_is_no_answer_to_sync(void **state) {
    (void)state;
    plan.step_status = COROLLA_PEER_LOST;
    plan.lie_at = 1;
    plan.late_failure = true;
    swarm_start(SERVERS, 5000);
    struct corolla_session *session = session_of();
    assert_int_equal(step(session, 0, 10, 1, NULL), COROLLA_OK);
    assert_int_equal(step(session, 10, 1, 1, NULL), COROLLA_OK);
    assert_int_equal(n_opens, CHAIN); /* nobody was replaced */
    check_goes_on(session, 11);
    corolla_session_close(session);
    swarm_stop();
}

static void a_server_without_the_session_or_without_a_word_is_replaced(void **state) {
    (void)state;
    for (uint32_t silent = 0; silent < 2; silent++) {
        plan.keep_sync_answer = silent;
        plan.forget = !silent;
        plan.step_status = COROLLA_PEER_LOST; /* so that all are asked */
        plan.lie_at = 1;
        swarm_start(SERVERS, 5000);
        struct corolla_session *session = session_of();
        struct corolla_error err;
        assert_int_equal(step(session, 0, 10, 1, &err), COROLLA_OK);
        if (step(session, 10, 1, 1, &err) != COROLLA_OK) fail_msg("%s", err.message);
        check_output(1, 1);
        check_event(COROLLA_EVENT_RECOVERED, 1, silent ? "hung" : "crashed");
        assert_int_equal(the_net->links[0].computed, 11);
        assert_int_equal(the_net->links[silent ? CHAIN + 1 : 1].computed, 11);
        assert_int_equal(the_net->links[2].computed, 11);
        check_goes_on(session, 11);
        corolla_session_close(session);
        swarm_stop();
    }
}

static void a_step_that_takes_too_long_is_given_to_another_server(void **state) {
    (void)state;
    plan.hold_result = true;
    plan.lie_at = 1;
    swarm_start(SERVERS, 5000);
    struct corolla_session *session = session_of();
    struct corolla_error err;
    assert_int_equal(step(session, 0, 10, 1, &err), COROLLA_OK);
    if (step(session, 10, 1, 1, &err) != COROLLA_OK) fail_msg("%s", err.message);
    check_output(1, 1);
    check_event(COROLLA_EVENT_RECOVERED, 2, "too slow");
    check_goes_on(session, 11);
    corolla_session_close(session);
    swarm_stop();
}

static void leave(void *user) {
    struct link *link = user;
    uint8_t header[MSG_HEADER_MAX];
    answer(link, 0, MSG_DRAIN, header, msg_drain_encode(&(struct msg_drain){.leaving = true}, header), NULL);
}

static void a_server_that_leaves_is_left_between_two_steps(void **state) {
    (void)state;
    for (uint32_t leaving = 0; leaving < CHAIN; leaving++) {
        swarm_start(SERVERS, 5000);
        struct corolla_session *session = session_of();
        assert_int_equal(step(session, 0, 300, 1, NULL), COROLLA_OK);
        net_post(the_net, leave, &the_net->links[leaving]);
        uint32_t position = 300;
        for (; n_events == 0 && position < 1300; position++) {
            assert_int_equal(step(session, position, 1, 1, NULL), COROLLA_OK);
            check_output(1, 1);
        }
        check_event(COROLLA_EVENT_MOVED, leaving, "draining");
        for (uint32_t i = 0; i < CHAIN; i++)
            if (i != leaving) assert_int_equal(the_net->links[i].computed, position);
        assert_int_equal(the_net->links[leaving].computed, last_event.position);
        assert_int_equal(the_net->links[CHAIN + leaving].computed, position);
        check_goes_on(session, position);
        corolla_session_close(session);
        swarm_stop();
        assert_int_equal(n_closes, CHAIN + 1);
    }
}

static void *cancel_soon(void *user) {
    usleep(20000);
    corolla_session_cancel(user);
    return NULL;
}

static void a_silent_server_can_be_cancelled_and_its_late_result_is_dropped(void **state) {
    (void)state;
    plan.hold_result = true;
    plan.lie_at = 0;
    swarm_start(SERVERS, 5000);
    struct corolla_session *session = session_of();
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, session), 0);
    uint64_t start_us = clock_us();
    assert_int_equal(step(session, 0, 3, 1, NULL), COROLLA_CANCELLED);
    assert_true(clock_us() - start_us < 1500000); /* before the deadline */
    pthread_join(thread, NULL);
    corolla_session_cancel_clear(session);
    assert_int_equal(step(session, 0, 5, 2, NULL), COROLLA_OK); /* behind the result of the cancelled one */
    check_output(5, 2);
    assert_int_equal(epoch_seen, 1);
    assert_int_equal(n_events, 0);
    corolla_session_close(session);
    swarm_stop();
}

static int setup(void **state) {
    (void)state;
    plan.lie_at = UINT32_MAX;
    for (uint32_t i = 0; i < SESSION_TOKENS * N_EMBD; i++) input[i] = (float)i;
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int teardown(void **state) {
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_runs_travel_in_chunks_and_come_back_in_order),
        cmocka_unit_test(a_lying_server_is_blamed_and_replaced),
        cmocka_unit_test(a_result_that_nobody_waits_for_is_a_fault),
        cmocka_unit_test(a_fault_that_nobody_can_replace_is_reported_and_the_position_kept),
        cmocka_unit_test(a_refused_opening_closes_the_other_hops),
        cmocka_unit_test(what_servers_say_that_they_hold_is_checked),
        cmocka_unit_test(an_opening_has_a_deadline_and_a_late_answer_is_closed),
        cmocka_unit_test(an_unreachable_server_is_named),
        cmocka_unit_test(a_step_that_failed_for_a_while_is_tried_again),
        cmocka_unit_test(a_server_that_refuses_a_step_is_replaced),
        cmocka_unit_test(what_no_server_could_compute_is_reported_at_once),
        cmocka_unit_test(a_crashed_server_is_replaced_and_only_its_blocks_are_computed_again),
        cmocka_unit_test(a_server_that_was_only_cut_off_goes_on),
        cmocka_unit_test(a_failure_of_the_epoch_before_is_no_answer_to_sync),
        cmocka_unit_test(a_server_without_the_session_or_without_a_word_is_replaced),
        cmocka_unit_test(a_step_that_takes_too_long_is_given_to_another_server),
        cmocka_unit_test(a_server_that_leaves_is_left_between_two_steps),
        cmocka_unit_test(a_silent_server_can_be_cancelled_and_its_late_result_is_dropped),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
