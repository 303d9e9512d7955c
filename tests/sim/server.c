/* server.c - a simulated server of sessions; see chains.h. What it decides about OPEN, STEP, REPLAY and SYNC is decided by
 * node/sessions.c; what it does then follows src/node: node.c, compute.c, forward.c, resume.c. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "sim/chains.h"

#define TURN_ROWS 4      /* of a long step, before another session has its turn */
#define TICK_US 1000000  /* between looks at the leases */
#define LEAVE_US 5000000 /* from "no new sessions" to the end */

enum alarm { ALARM_COMPUTED, ALARM_TICK, ALARM_LEAVE };

struct work { /* a step; see struct step */
    struct work *next;
    struct held *held;
    bool replay;
    uint32_t n_done;
    struct chain_msg msg;
};

static const uint8_t model[ID_SIZE] = {1};

/* ---- answers ------------------------------------------------------------------------------------------------------- */

static void answer(struct server *server, const struct held *held, enum msg_kind kind, struct chain_msg *msg) {
    if (held->s.link == NULL) return;
    msg->session = held->number;
    msg->stream = held->s.stream;
    chain_send(server->sim->world, held->s.link, kind, msg);
}

static void answer_failed(struct server *server, const struct held *held, uint32_t epoch, uint32_t position, uint32_t culprit,
                          enum corolla_status status) {
    answer(server, held, MSG_FAILED, &(struct chain_msg){.epoch = epoch, .position = position, .status = status, .culprit = culprit});
}

static void answer_synced(struct server *server, struct held *held) {
    struct lane *lane = &held->s.lane;
    if (!held->s.sync_due || held->s.n_steps > 0) return;
    held->s.sync_due = false;
    held->s.expected = lane->length;
    struct chain_msg msg = {.epoch = held->s.epoch, .length = lane->length, .computed_epoch = lane->epoch};
    if (lane->kept != NULL) msg.kept = row_log_length(lane->kept);
    answer(server, held, MSG_SYNCED, &msg);
}

/* ---- sessions and steps that end ----------------------------------------------------------------------------------- */

static void release(struct held *held) {
    if (!held->s.closed || held->s.n_steps > 0) return;
    row_log_free(held->s.lane.kept);
    memory_release(&held->memory);
    free(held);
}

static void drop(struct server *server, struct work *work) {
    struct held *held = work->held;
    free(work);
    held->s.n_steps--;
    answer_synced(server, held);
    release(held);
}

static void append(struct work **first, struct work **last, struct work *work) {
    work->next = NULL;
    *(*first != NULL ? &(*last)->next : first) = work;
    *last = work;
}

/* All steps of a session, or of all (NULL), that wait in a list. */
static void drop_from(struct server *server, struct work **first, struct work **last, const struct held *held) {
    struct work *work = *first;
    *first = *last = NULL;
    for (struct work *next; work != NULL; work = next) {
        next = work->next;
        if (held == NULL || work->held == held)
            drop(server, work);
        else
            append(first, last, work);
    }
}

static void drop_waiting(struct server *server, struct held *held) {
    held->s.n_steps++; /* it stays until the end of this */
    drop_from(server, &server->first, &server->last, held);
    for (uint32_t i = 0; i < server->sim->n_servers; i++)
        if (server->paths[i].first != NULL) drop_from(server, &server->paths[i].first, &server->paths[i].last, held);
    held->s.n_steps--;
}

static void close_session(struct server *server, struct held *held) {
    sessions_remove(&server->table, &held->s);
    server->kv_left += held->s.max_tokens;
    server->rows_left += (uint32_t)held->s.kept_bytes;
    held->s.sync_due = false;
    held->s.closed = true;
    held->s.link = NULL;
    drop_waiting(server, held);
    release(held);
}

static void raise_epoch(struct server *server, struct held *held, uint32_t epoch) {
    if (epoch <= held->s.epoch) return;
    held->s.epoch = epoch;
    drop_waiting(server, held);
}

/* ---- forwarding ---------------------------------------------------------------------------------------------------- */

static void send_step(struct server *server, void *link, struct work *work) {
    struct held *held = work->held;
    struct chain_msg *msg = &work->msg;
    if (work->replay && !row_log_get(held->s.lane.kept, msg->position, msg->n_tokens, msg->rows)) {
        answer_failed(server, held, msg->epoch, msg->position, NOBODY, COROLLA_BAD_POSITION);
        drop(server, work);
        return;
    }
    held->next = msg->hops[0].node;
    held->forwarded_epoch = msg->epoch;
    held->forwarded_position = msg->position;
    msg->secret = msg->hops[0].secret;
    msg->n_body = msg->n_tokens;
    msg->n_hops--;
    memmove(msg->hops, msg->hops + 1, msg->n_hops * sizeof *msg->hops);
    chain_send(server->sim->world, link, MSG_STEP, msg);
    drop(server, work);
}

static void forward(struct server *server, struct work *work) {
    struct chain_msg *msg = &work->msg;
    if (msg->n_hops == 0) {
        struct chain_msg result = {.epoch = msg->epoch, .position = msg->position, .n_tokens = msg->n_tokens, .n_rows = msg->n_rows};
        result.n_body = msg->n_rows;
        memcpy(result.rows, msg->rows + msg->n_tokens - msg->n_rows, msg->n_rows * ROW_SIZE);
        answer(server, work->held, MSG_RESULT, &result);
        drop(server, work);
        return;
    }
    struct path *path = &server->paths[msg->hops[0].node];
    if (path->link != NULL) {
        send_step(server, path->link, work);
        return;
    }
    append(&path->first, &path->last, work);
    if (!path->dialling) world_dial(server->sim->world, server->node, msg->hops[0].node);
    path->dialling = true;
}

static void on_dialled(void *user, uint32_t target, void *link) {
    struct server *server = user;
    struct path *path = &server->paths[target];
    struct work *work = path->first;
    path->first = path->last = NULL;
    path->link = link;
    path->dialling = false;
    for (struct work *next; work != NULL; work = next) {
        next = work->next;
        if (link != NULL) {
            send_step(server, link, work);
            continue;
        }
        answer_failed(server, work->held, work->msg.epoch, work->msg.position, target, COROLLA_PEER_LOST);
        drop(server, work);
    }
}

/* ---- computing ----------------------------------------------------------------------------------------------------- */

static uint32_t turn_rows(const struct work *work) {
    uint32_t left = work->msg.n_tokens - work->n_done;
    return left < TURN_ROWS ? left : TURN_ROWS;
}

static void begin_turn(struct server *server) {
    struct work *work = server->first;
    if (server->busy != NULL || work == NULL) return;
    server->first = work->next;
    server->busy = work;
    uint32_t blocks = work->held->s.lane.end - work->held->s.lane.begin;
    world_alarm(server->sim->world, server->node, (uint64_t)turn_rows(work) * blocks * BLOCK_US, ALARM_COMPUTED);
}

static void compute(struct work *work) {
    struct lane *lane = &work->held->s.lane;
    uint32_t n = turn_rows(work), position = work->msg.position + work->n_done;
    uint64_t *rows = work->msg.rows + work->n_done;
    for (uint32_t i = 0; i < n; i++) rows[i] = memory_compute(&work->held->memory, position + i, rows[i]);
    if (lane->kept != NULL && !row_log_put(lane->kept, position, n, rows)) abort();
    work->n_done += n;
    lane->length = position + n;
    lane->epoch = work->msg.epoch;
}

static void end_turn(struct server *server) {
    struct work *work = server->busy;
    struct held *held = work->held;
    const struct chain_msg *msg = &work->msg;
    server->busy = NULL;
    bool good = work->n_done > 0 || msg->position <= held->s.lane.length;
    if (good) compute(work);
    if (held->s.closed || msg->epoch < held->s.epoch) {
        drop(server, work);
    } else if (!good) { /* a step before it failed */
        answer_failed(server, held, msg->epoch, msg->position, NOBODY, COROLLA_BAD_POSITION);
        drop(server, work);
    } else if (work->n_done < msg->n_tokens) { /* before the session's other steps */
        struct work *first = server->first;
        while (first != NULL && first->held != held) first = first->next;
        if (first == NULL) {
            append(&server->first, &server->last, work);
        } else {
            work->next = server->first;
            server->first = work;
        }
    } else {
        forward(server, work);
    }
    begin_turn(server);
}

/* ---- messages ------------------------------------------------------------------------------------------------------ */

/* As node/sessions.h wants them. */
static void put_number(uint8_t out[SESSION_SIZE], uint64_t number) {
    memset(out, 0, SESSION_SIZE);
    le64_put(out, number);
}

static void on_open(struct server *server, void *link, const struct chain_msg *msg) {
    const struct node_id *client = &server->sim->ids[world_link_peer(link)];
    struct msg_open open = {.begin = msg->begin, .end = msg->end, .max_tokens = msg->max_tokens};
    enum corolla_status status;
    put_number(open.session, msg->session);
    memcpy(open.model, model, ID_SIZE);
    for (;;) {
        status = sessions_check_open(&server->table, &server->limits, &open, client, NULL);
        if (status == COROLLA_OK && (server->kv_left < msg->max_tokens || (msg->keep && server->rows_left < msg->max_tokens)))
            status = COROLLA_NO_CACHE;
        struct session *orphan = status != COROLLA_OK ? sessions_find_orphan(&server->table, status, client) : NULL;
        if (orphan == NULL) break;
        close_session(server, (struct held *)orphan);
    }
    if (status != COROLLA_OK) {
        server->sim->refusals++;
        struct chain_msg failed = {.session = msg->session, .stream = msg->stream, .status = status, .culprit = NOBODY};
        chain_send(server->sim->world, link, MSG_FAILED, &failed);
        return;
    }
    struct held *held = calloc(1, sizeof *held);
    if (held == NULL) abort();
    struct session *s = &held->s;
    held->number = msg->session;
    held->next = NOBODY;
    memcpy(s->id, open.session, SESSION_SIZE);
    put_number(s->secret, world_random(server->sim->world));
    s->client = *client;
    s->has_upstream = msg->upstream != NOBODY;
    if (s->has_upstream) s->upstream = server->sim->ids[msg->upstream];
    s->link = link;
    s->stream = msg->stream;
    s->max_tokens = msg->max_tokens;
    s->lane.begin = msg->begin;
    s->lane.end = msg->end;
    if (msg->keep) s->lane.kept = row_log_new(msg->max_tokens, ROW_SIZE);
    s->kept_bytes = msg->keep ? msg->max_tokens : 0; /* in rows here */
    server->kv_left -= msg->max_tokens;
    server->rows_left -= (uint32_t)s->kept_bytes;
    memory_init(&held->memory, msg->begin, msg->end);
    sessions_add(&server->table, s);
    answer(server, held, MSG_OPENED, &(struct chain_msg){.secret = le64_get(s->secret)});
}

/* The message as the checks of node/sessions.h read it. */
static const struct msg_step *make_step(const struct sim *sim, const struct chain_msg *msg) {
    static struct msg_step step;
    put_number(step.session, msg->session);
    put_number(step.secret, msg->secret);
    step.epoch = msg->epoch;
    step.position = msg->position;
    step.n_tokens = msg->n_tokens;
    step.n_rows = msg->n_rows;
    step.dtype = COROLLA_WIRE_F32;
    step.client = sim->ids[msg->client];
    step.n_hops = msg->n_hops;
    return &step;
}

/* What the checks let in is looked at again: "no session on two epochs". */
static void note_epoch(struct server *server, struct held *held, uint32_t epoch) {
    if (epoch < held->seen_epoch) sim_fail(server->sim, (uint32_t)held->number, "a step of an older epoch was accepted");
    held->seen_epoch = epoch;
}

static void on_step(struct server *server, void *link, bool replay, const struct chain_msg *msg) {
    struct held *held = server_find(server, msg->session);
    uint32_t sender = world_link_peer(link);
    if (held == NULL) {
        if (sender != msg->client) return;
        struct chain_msg failed = {.session = msg->session, .stream = msg->stream, .epoch = msg->epoch, .status = COROLLA_NO_SESSION};
        failed.culprit = NOBODY;
        chain_send(server->sim->world, link, MSG_FAILED, &failed);
        return;
    }
    const struct msg_step *step = make_step(server->sim, msg);
    const struct node_id *id = &server->sim->ids[sender];
    enum corolla_status status = replay ? sessions_check_replay(&held->s, step, id, NULL)
                                        : sessions_check_step(&held->s, &server->limits, step, id, msg->n_body * ROW_SIZE, NULL);
    if (status == COROLLA_STALE) return;
    if (status != COROLLA_OK) {
        if (sessions_is_party(&held->s, id)) answer_failed(server, held, msg->epoch, msg->position, NOBODY, status);
        return;
    }
    note_epoch(server, held, msg->epoch);
    raise_epoch(server, held, msg->epoch);
    struct work *work = malloc(sizeof *work);
    if (work == NULL) abort();
    *work = (struct work){.held = held, .replay = replay, .msg = *msg};
    held->s.n_steps++;
    held->s.used_ms = world_now_ms(server->sim->world);
    if (replay) {
        forward(server, work);
        return;
    }
    held->s.expected = msg->position + msg->n_tokens;
    append(&server->first, &server->last, work);
    begin_turn(server);
}

static void on_sync(struct server *server, void *link, const struct chain_msg *msg) {
    struct held *held = server_find(server, msg->session);
    struct msg_sync sync = {.epoch = msg->epoch};
    enum corolla_status status = COROLLA_NO_SESSION;
    put_number(sync.secret, msg->secret);
    if (held != NULL) status = sessions_check_sync(&held->s, &sync, &server->sim->ids[world_link_peer(link)], NULL);
    if (status != COROLLA_OK) {
        struct chain_msg failed = {.session = msg->session, .stream = msg->stream, .epoch = msg->epoch, .status = status};
        failed.culprit = NOBODY;
        chain_send(server->sim->world, link, MSG_FAILED, &failed);
        return;
    }
    note_epoch(server, held, msg->epoch);
    held->s.link = link;
    held->s.stream = msg->stream;
    held->s.has_upstream = msg->upstream != NOBODY;
    if (held->s.has_upstream) held->s.upstream = server->sim->ids[msg->upstream];
    held->s.sync_due = false; /* of several the last one is answered */
    raise_epoch(server, held, msg->epoch);
    held->s.sync_due = true;
    answer_synced(server, held);
}

static void on_message(void *user, void *link, enum msg_kind kind, const uint8_t *data, size_t size) {
    struct server *server = user;
    struct chain_msg msg;
    chain_read(data, size, &msg);
    if (kind == MSG_OPEN) {
        on_open(server, link, &msg);
    } else if (kind == MSG_SYNC) {
        on_sync(server, link, &msg);
    } else if (kind == MSG_STEP || kind == MSG_REPLAY) {
        on_step(server, link, kind == MSG_REPLAY, &msg);
    } else if (kind == MSG_CLOSE) {
        struct held *held = server_find(server, msg.session);
        struct msg_close close;
        put_number(close.secret, msg.secret);
        if (held != NULL && sessions_check_close(&held->s, &close, &server->sim->ids[world_link_peer(link)])) close_session(server, held);
    }
}

static void on_down(void *user, void *link, bool lost) {
    struct server *server = user;
    uint32_t peer = world_link_peer(link);
    bool forwarding = server->paths[peer].link == link;
    if (forwarding) server->paths[peer].link = NULL;
    for (struct session *s = sessions_each(&server->table, NULL), *next; s != NULL; s = next) {
        struct held *held = (struct held *)s;
        next = sessions_each(&server->table, s);
        if (forwarding && held->next == peer)
            answer_failed(server, held, held->forwarded_epoch, held->forwarded_position, peer, COROLLA_PEER_LOST);
        if ((void *)s->link != link) continue;
        s->link = NULL;
        s->lost_ms = world_now_ms(server->sim->world);
        if (!lost) close_session(server, held);
    }
}

static void on_tick(struct server *server) {
    for (struct session *s = sessions_each(&server->table, NULL), *next; s != NULL; s = next) {
        next = sessions_each(&server->table, s);
        if (!sessions_is_over(s, world_now_ms(server->sim->world))) continue;
        server->sim->leases++;
        close_session(server, (struct held *)s);
    }
    world_alarm(server->sim->world, server->node, TICK_US, ALARM_TICK);
}

static void on_leave(struct server *server) {
    for (struct session *s = sessions_each(&server->table, NULL); s != NULL; s = sessions_each(&server->table, s))
        if (s->n_steps > 0) answer_failed(server, (struct held *)s, s->epoch, s->lane.length, NOBODY, COROLLA_DRAINING);
    server_stop(server, SERVER_LEAVES);
}

static void on_alarm(void *user, uint64_t tag) {
    struct server *server = user;
    switch ((enum alarm)tag) {
    case ALARM_COMPUTED: end_turn(server); break;
    case ALARM_TICK: on_tick(server); break;
    case ALARM_LEAVE: on_leave(server); break;
    }
}

/* ---- life ---------------------------------------------------------------------------------------------------------- */

static void publish(const struct server *server, enum record_state state) {
    struct record record;
    world_statement(server->sim->world, server->node, &record);
    memcpy(record.model, model, ID_SIZE);
    record.state = state;
    record.n_blocks = BLOCKS;
    record.begin = server->begin;
    record.end = server->end;
    record.decode_block_us = record.prefill_block_us = BLOCK_US;
    record.session_tokens_max = TOKENS_MAX;
    record.n_rtts = 0;
    world_publish(server->sim->world, server->node, &record);
}

void server_start(struct server *server, uint32_t entry) {
    struct sim *sim = server->sim;
    server->up = true;
    server->draining = false;
    server->kv_left = server->rows_left = SERVER_TOKENS;
    server->limits = (struct session_limits){
        .model = model, .begin = server->begin, .end = server->end, .n_embd = ROW_SIZE / sizeof(float), .max_tokens = TOKENS_MAX};
    world_start(sim->world, server->node);
    world_set_app(sim->world, server->node, &(struct world_app){on_dialled, on_message, on_down, on_alarm, server});
    publish(server, RECORD_ONLINE);
    if (entry != server->node) world_hint(sim->world, server->node, entry);
    world_alarm(sim->world, server->node, world_random(sim->world) % TICK_US, ALARM_TICK);
}

void server_drain(struct server *server) {
    server->draining = server->limits.draining = true;
    publish(server, RECORD_DRAINING);
    world_alarm(server->sim->world, server->node, LEAVE_US, ALARM_LEAVE);
}

void server_stop(struct server *server, enum server_end how) {
    struct world *world = server->sim->world;
    if (how == SERVER_DIES) world_kill(world, server->node);
    if (how == SERVER_FREEZES) world_freeze(world, server->node);
    if (how == SERVER_LEAVES) world_leave(world, server->node);
    server->up = false;
    for (struct session *s; (s = sessions_each(&server->table, NULL)) != NULL;) close_session(server, (struct held *)s);
    if (server->busy != NULL) drop(server, server->busy);
    server->busy = NULL;
    memset(server->paths, 0, server->sim->n_nodes * sizeof *server->paths);
}

struct held *server_find(const struct server *server, uint64_t session) {
    uint8_t id[SESSION_SIZE];
    put_number(id, session);
    return (struct held *)sessions_find(&server->table, id);
}

void server_check(struct server *server) {
    uint32_t kv = 0, rows = 0;
    for (struct session *s = sessions_each(&server->table, NULL); s != NULL; s = sessions_each(&server->table, s)) {
        uint32_t kept = s->lane.kept != NULL ? row_log_length(s->lane.kept) : 0;
        if (kept > s->kept_bytes || s->lane.length > s->max_tokens)
            sim_fail(server->sim, (uint32_t)((struct held *)s)->number, "a server keeps more than it promised");
        kv += s->max_tokens;
        rows += (uint32_t)s->kept_bytes;
    }
    if (kv + server->kv_left != SERVER_TOKENS || rows + server->rows_left != SERVER_TOKENS)
        sim_fail(server->sim, NOBODY, "what is promised and what is left is not all");
}
