/* user.c - a simulated client and its sessions; see chains.h. What src/client does with a thread per caller is a machine here that goes on
 * when a message, an alarm or the end of a link comes: recover.c (user_recover to go_on), remote.c (begin_run, fly), hops.c (choose, ask).
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sim/chains.h"
#include "swarm/repair.h"
#include "swarm/route.h"

/* As in src/client. */
#define FLIGHTS 4
#define REDIAL_MS 500
#define REDIAL_ALL_MS 1500
#define SYNC_MS 2000
#define LOOK_AGAIN_MS 500
#define OPEN_MS 10000
#define ROUNDS_MAX 6
#define PATIENCE_MS 5000
#define PATIENCE_FACTOR 10
#define REFUSAL_MS 1000
#define STRIKE_MS 1000
#define STRIKES_MAX 9

#define THINK_MS 1500     /* at most, between two runs */
#define IMPATIENCE_MS 300 /* at most, until a run is cancelled, and then until the next one */

static void user_recover(struct user *u, bool timed_out);
static void try_once(struct user *u);
static void try_again(struct user *u, bool timed_out);
static void replace_next_gap(struct user *u);
static void find_lost(struct user *u, bool second);
static void rebuild(struct user *u);
static void fly(struct user *u);
static void go_on(struct user *u);

static uint64_t draw(struct user *u, uint64_t below) { return world_random(u->sim->world) % below; }

/* ---- alarms -------------------------------------------------------------------------------------------------------- */

#define ALARM_CANCEL 0x80000000u

static void set_alarm(struct user *u, uint64_t ms) {
    u->serial = (u->serial + 1) & ~ALARM_CANCEL;
    world_alarm(u->sim->world, u->client->node, ms * 1000, (uint64_t)u->number << 32 | u->serial);
}

static void enter(struct user *u, enum user_state state, uint64_t ms) {
    u->state = state;
    set_alarm(u, ms);
}

/* ---- hops ---------------------------------------------------------------------------------------------------------- */

static struct hop *each_hop(struct user *u, uint32_t i) {
    return i < u->n_hops ? &u->hops[i] : i < u->n_hops + u->n_fresh ? &u->fresh[i - u->n_hops] : NULL;
}

static void hop_fail(struct hop *hop, enum corolla_status why) {
    if (!hop->down) hop->why = why;
    hop->asking = false;
    hop->down = true;
}

static bool in_chain(const struct user *u, const struct hop *hop) { return hop >= u->hops && hop < u->hops + u->n_hops; }

/* See peer_note(). */
static void blame(struct user *u, uint32_t node, enum corolla_status status) {
    struct ban *ban = &u->client->bans[node];
    uint64_t now = world_now_ms(u->sim->world);
    if (status == COROLLA_OK || status == COROLLA_NO_SESSION) { /* the latter was restarted, and is there again */
        *ban = (struct ban){0};
    } else if (ban->until_ms > now) { /* of the same trouble */
    } else if (status == COROLLA_BUSY || status == COROLLA_NO_CACHE || status == COROLLA_NOT_SERVED || status == COROLLA_DRAINING) {
        ban->until_ms = now + REFUSAL_MS;
    } else {
        ban->until_ms = now + ((uint64_t)STRIKE_MS << ban->strikes);
        if (ban->strikes < STRIKES_MAX) ban->strikes++;
    }
}

static void send_close(const struct user *u, void *link, uint64_t secret) {
    chain_send(u->sim->world, link, MSG_CLOSE, &(struct chain_msg){.session = u->number, .secret = secret});
}

static void hops_drop(struct user *u, struct hop *hops, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        if (hops[i].opened && hops[i].link != NULL) send_close(u, hops[i].link, hops[i].secret);
}

static void ask(struct user *u, struct hop *hop) {
    struct chain_msg msg = {.session = u->number, .epoch = u->epoch, .upstream = hop->upstream, .secret = hop->secret};
    hop->stream = msg.stream = ++u->sim->streams;
    if (!hop->opened) {
        msg.begin = hop->begin;
        msg.end = hop->end;
        msg.max_tokens = u->length_max;
        msg.keep = hop->keep;
    }
    chain_send(u->sim->world, hop->link, hop->opened ? MSG_SYNC : MSG_OPEN, &msg);
}

static void hop_ask(struct user *u, struct hop *hop) {
    struct path *path = &u->client->paths[hop->node];
    hop->asking = true;
    hop->down = false;
    hop->link = path->link;
    if (hop->link != NULL) {
        ask(u, hop);
        return;
    }
    if (!path->dialling) world_dial(u->sim->world, u->client->node, hop->node);
    path->dialling = true;
}

static uint32_t n_asking(const struct hop *hops, uint32_t n) {
    uint32_t asking = 0;
    for (uint32_t i = 0; i < n; i++) asking += hops[i].asking;
    return asking;
}

static uint32_t n_down(const struct user *u) {
    uint32_t down = 0;
    for (uint32_t i = 0; i < u->n_hops; i++) down += u->hops[i].down;
    return down;
}

/* ---- choosing ------------------------------------------------------------------------------------------------------ */

static bool avoided(const struct user *u, uint32_t node, bool whole) {
    if (!whole && u->client->bans[node].until_ms > world_now_ms(u->sim->world)) return true;
    for (uint32_t i = 0; i < u->n_hops && !whole; i++)
        if (!u->hops[i].down && u->hops[i].node == node) return true;
    return false;
}

/* See choose.c: what gossip says of the servers that have some of the blocks [begin, end). */
static size_t list_servers(const struct user *u, uint32_t begin, uint32_t end, bool whole, struct route_server *out) {
    const struct gossip *gossip = world_gossip(u->sim->world, u->client->node);
    size_t n = 0;
    for (const struct gossip_entry *e = NULL; (e = gossip_each(gossip, e)) != NULL;) {
        const struct record *r = e->record;
        uint32_t node = sim_node(u->sim, e->digest);
        if (e->suspected || r->end <= begin || r->begin >= end || avoided(u, node, whole)) continue;
        struct route_server *s = &out[n++];
        *s = (struct route_server){.label = "", .id = e->digest, .decode_block_us = r->decode_block_us, .wires = r->wires, .exact = true};
        memcpy(s->model, r->model, ID_SIZE);
        s->begin = r->begin > begin ? r->begin - begin : 0;
        s->end = (r->end < end ? r->end : end) - begin;
        s->tokens_max = s->tokens_ever = r->session_tokens_max;
        s->draining = r->state == RECORD_DRAINING;
        s->banned = u->client->bans[node].until_ms > world_now_ms(u->sim->world);
        s->arithmetic_class = r->arithmetic_class;
    }
    return n;
}

/* Into fresh. */
static bool choose(struct user *u, uint32_t begin, uint32_t end, bool whole) {
    struct route route = {0};
    struct route_server *servers = calloc(u->sim->n_servers, sizeof *servers);
    if (servers == NULL) abort();
    size_t n = list_servers(u, begin, end, whole, servers);
    struct route_request request = {
        .n_blocks = end - begin, .tokens = u->length_max, .wire = COROLLA_WIRE_F32, .seed = world_random(u->sim->world)};
    if (n > 0) memcpy(request.model, servers[0].model, ID_SIZE);
    bool found = n > 0 && route_find(&request, servers, n, &route, NULL) == COROLLA_OK && route.n_hops <= CHAIN_MAX;
    for (uint32_t i = 0; i < route.n_hops && found; i++) {
        const struct route_hop *part = &route.hops[i];
        u->fresh[i] =
            (struct hop){.node = sim_node(u->sim, servers[part->server].id), .begin = begin + part->begin, .end = begin + part->end};
        u->fresh[i].keep = u->fresh[i].end < BLOCKS;
        u->fresh[i].upstream = i > 0 ? u->fresh[i - 1].node : NOBODY;
    }
    u->n_fresh = found ? route.n_hops : 0;
    free(servers);
    return found;
}

/* ---- recovery: from the first try to the last replay --------------------------------------------------------------- */

static uint32_t valid_length(const struct user *u, const struct hop *hop) {
    return hop->computed_epoch >= u->lineage || hop->length < u->rolled ? hop->length : u->rolled;
}

static void look_at(const struct user *u, struct repair_hop out[CHAIN_MAX]) {
    for (uint32_t i = 0; i < u->n_hops; i++) {
        const struct hop *hop = &u->hops[i];
        uint32_t valid = valid_length(u, hop);
        out[i] = (struct repair_hop){.down = hop->down, .valid = valid, .kept = hop->kept < valid ? hop->kept : valid};
    }
}

static void user_recover(struct user *u, bool timed_out) {
    u->sim->recoveries++;
    u->again = false;
    u->timed_out = timed_out;
    try_once(u);
}

static void raise_epoch(struct user *u) {
    u->epoch++;
    u->failed = false;
    u->n_flights = 0;
}

static void try_once(struct user *u) {
    u->late = NOBODY;
    raise_epoch(u);
    find_lost(u, false);
}

static void try_again(struct user *u, bool timed_out) {
    u->again = true;
    u->timed_out = timed_out;
    try_once(u);
}

static bool may_be_there(const struct hop *hop, bool others_talk, bool again) {
    return hop->opened && (hop->why == COROLLA_PEER_LOST || (hop->why == COROLLA_TIMEOUT && (again || !others_talk)));
}

static void find_lost(struct user *u, bool second) {
    bool others_talk = n_down(u) < u->n_hops;
    u->second = second;
    for (uint32_t i = 0; i < u->n_hops; i++) u->hops[i].cut = u->hops[i].down && may_be_there(&u->hops[i], others_talk, u->again);
    for (uint32_t i = 0; i < u->n_hops; i++)
        if (!u->hops[i].down || u->hops[i].cut) hop_ask(u, &u->hops[i]);
    enter(u, USER_CUT, others_talk ? REDIAL_MS : REDIAL_ALL_MS);
    go_on(u);
}

static void fail_asking(struct user *u, bool cut_only) {
    for (uint32_t i = 0; i < u->n_hops; i++)
        if (u->hops[i].asking && (u->hops[i].cut || !cut_only)) hop_fail(&u->hops[i], COROLLA_TIMEOUT);
}

static void find_late(struct user *u) {
    for (u->late = 0; u->late + 1 < u->n_hops && valid_length(u, &u->hops[u->late]) > u->position;) u->late++;
    hop_fail(&u->hops[u->late], COROLLA_TIMEOUT);
}

static void blame_lost(struct user *u) {
    if (n_down(u) == u->n_hops && u->n_hops > 1) return; /* it is likely to be our own network */
    for (uint32_t i = 0; i < u->n_hops; i++) {
        struct hop *hop = &u->hops[i];
        if (hop->down && (!hop->blamed || hop->why == COROLLA_NO_SESSION)) blame(u, hop->node, hop->why);
        hop->blamed = hop->down;
    }
}

/* All have answered, or are down. */
static void found_lost(struct user *u) {
    if (u->second) {
        if (n_down(u) > 0)
            try_again(u, false);
        else
            rebuild(u);
        return;
    }
    if (n_down(u) == 0 && u->n_hops > 0) {
        if (!u->timed_out) {
            rebuild(u);
            return;
        }
        find_late(u);
    }
    blame_lost(u);
    u->gap = u->rounds = 0;
    replace_next_gap(u);
}

static void open_fresh(struct user *u, bool whole) {
    u->whole = whole;
    for (uint32_t i = 0; i < u->n_fresh; i++) hop_ask(u, &u->fresh[i]);
    enter(u, USER_OPENS, OPEN_MS);
}

static void wait_for_servers(struct user *u) {
    u->sim->waits++;
    enter(u, USER_WAITS, LOOK_AGAIN_MS);
}

/* The gap could not be filled: a slow hop is better than none, or all blocks are chosen anew. */
static void replace_failed(struct user *u) {
    if (u->late != NOBODY) {
        u->hops[u->late].down = false;
        rebuild(u);
    } else if (choose(u, 0, BLOCKS, true)) {
        hops_drop(u, u->hops, u->n_hops);
        u->sim->whole_chains += u->n_hops > 0;
        u->n_hops = u->gap = 0;
        open_fresh(u, true);
    } else {
        wait_for_servers(u);
    }
}

static void replace_next_gap(struct user *u) {
    struct repair_hop hops[CHAIN_MAX];
    look_at(u, hops);
    if (u->n_hops > 0 && !repair_next_gap(hops, u->n_hops, &u->gap, &u->gap_n)) {
        u->late = NOBODY;
        find_lost(u, true); /* they have other neighbours now */
        return;
    }
    if (u->n_hops == 0 || !choose(u, u->hops[u->gap].begin, u->hops[u->gap + u->gap_n - 1].end, false)) {
        replace_failed(u);
        return;
    }
    if (u->gap > 0) u->fresh[0].upstream = u->hops[u->gap - 1].node;
    open_fresh(u, false);
}

/* Puts the newcomers in the place of n hops. */
static bool splice(struct user *u, uint32_t at, uint32_t n) {
    if (u->n_hops - n + u->n_fresh > CHAIN_MAX) return false;
    hops_drop(u, u->hops + at, n);
    memmove(u->hops + at + u->n_fresh, u->hops + at + n, (u->n_hops - at - n) * sizeof *u->hops);
    memcpy(u->hops + at, u->fresh, u->n_fresh * sizeof *u->hops);
    u->n_hops += u->n_fresh - n;
    u->n_fresh = 0;
    for (uint32_t i = 0; i < u->n_hops; i++) u->hops[i].upstream = i > 0 ? u->hops[i - 1].node : NOBODY;
    return true;
}

/* OPEN stands for INFO_GET here as well: who cannot be reached or refuses is left out, and the choice is made again. */
static void opened_fresh(struct user *u) {
    bool good = true;
    uint32_t n_new = u->n_fresh;
    for (uint32_t i = 0; i < u->n_fresh; i++) {
        if (u->fresh[i].asking) hop_fail(&u->fresh[i], COROLLA_TIMEOUT);
        blame(u, u->fresh[i].node, u->fresh[i].down ? u->fresh[i].why : COROLLA_OK);
        good = good && !u->fresh[i].down;
    }
    if (good && splice(u, u->gap, u->whole ? 0 : u->gap_n)) {
        u->gap += n_new;
        replace_next_gap(u);
        return;
    }
    hops_drop(u, u->fresh, u->n_fresh);
    u->n_fresh = 0;
    if (!u->whole && ++u->rounds < ROUNDS_MAX)
        replace_next_gap(u);
    else
        replace_failed(u);
}

static void rebuild(struct user *u) {
    struct repair_hop hops[CHAIN_MAX];
    struct repair_replay what;
    look_at(u, hops);
    if (repair_next_replay(hops, u->n_hops, u->position, &what)) {
        u->sim->replays++;
        u->lane_first = what.first;
        u->lane_end = what.first + what.n;
        u->next = what.begin;
        u->goal = what.end;
        enter(u, USER_REPLAYS, PATIENCE_MS);
        u->sim->on_moment(u->sim, u, what.first, what.first + what.n);
        fly(u);
        return;
    }
    for (uint32_t i = 0; i < u->n_hops; i++) u->hops[i].ahead = hops[i].kept;
    u->next = u->position;
    u->goal = u->run_end;
    enter(u, USER_RUNS, PATIENCE_MS);
    fly(u);
}

static void end_replay(struct user *u) {
    for (uint32_t i = u->lane_first; i < u->lane_end; i++) {
        struct hop *hop = &u->hops[i];
        hop->length = u->goal;
        hop->kept = hop->keep ? u->goal : 0;
        hop->computed_epoch = u->epoch;
    }
    rebuild(u);
}

/* ---- steps --------------------------------------------------------------------------------------------------------- */

/* Rows through hops [first, end) of the chain: sent by the hop before, which has kept them, or made here. */
static void launch(struct user *u, uint32_t first, uint32_t end, uint32_t position, uint32_t n) {
    bool replay = first > 0;
    struct hop *to = replay ? &u->hops[first - 1] : &u->hops[first++];
    struct chain_msg msg = {.session = u->number, .secret = to->secret, .stream = to->stream, .epoch = u->epoch, .position = position};
    msg.n_tokens = n;
    msg.n_rows = u->state == USER_RUNS ? n : 0;
    msg.client = u->client->node;
    for (; first < end; first++) msg.hops[msg.n_hops++] = (struct chain_hop){.node = u->hops[first].node, .secret = u->hops[first].secret};
    msg.n_body = replay ? 0 : n;
    memcpy(msg.rows, u->tokens + position, msg.n_body * ROW_SIZE);
    u->flights[u->n_flights++] = (struct flight_rows){position, n};
    if (to->link != NULL) chain_send(u->sim->world, to->link, replay ? MSG_REPLAY : MSG_STEP, &msg);
}

/* See first_to_compute(). */
static uint32_t first_to_compute(const struct user *u, uint32_t end) {
    uint32_t first = u->n_hops - 1;
    while (first > 0 && u->hops[first - 1].ahead < end) first--;
    return first;
}

/* What goes next goes; the state is USER_REPLAYS or USER_RUNS. */
static void fly(struct user *u) {
    bool runs = u->state == USER_RUNS;
    if (u->failed) {
        if (runs)
            user_recover(u, false);
        else
            try_again(u, false);
        return;
    }
    while (u->next < u->goal && u->n_flights < FLIGHTS) {
        uint32_t n = u->goal - u->next < CHUNK ? u->goal - u->next : CHUNK;
        uint32_t first = runs ? first_to_compute(u, u->next + n) : u->lane_first;
        if (u->n_flights > 0 && first != u->first) break; /* one that starts earlier would be overtaken */
        u->first = first;
        launch(u, first, runs ? u->n_hops : u->lane_end, u->next, n);
        u->next += n;
    }
    set_alarm(u, PATIENCE_MS + (uint64_t)u->n_flights * CHUNK * BLOCKS * BLOCK_US * PATIENCE_FACTOR / 1000);
}

/* ---- runs ---------------------------------------------------------------------------------------------------------- */

static void think(struct user *u, uint32_t ms) { enter(u, USER_THINKS, draw(u, ms)); }

static void done(struct user *u) {
    hops_drop(u, u->hops, u->n_hops);
    u->state = USER_DONE;
    user_release(u);
}

/* See begin_run(). What the new positions shall give is computed here as well. */
static void begin_run(struct user *u, uint32_t position, uint32_t n) {
    if (u->dirty || u->failed || position < u->position) {
        raise_epoch(u);
        u->lineage = u->epoch;
        u->rolled = position;
        u->dirty = false;
    }
    u->position = position;
    u->run_end = position + n;
    for (uint32_t i = 0; i < u->n_hops; i++) u->hops[i].ahead = 0;
    for (uint32_t p = position; p < u->run_end; p++) {
        u->tokens[p] = world_random(u->sim->world);
        u->expected[p] = memory_compute(&u->memory, p, u->tokens[p]);
    }
    u->since_ms = world_now_ms(u->sim->world);
    u->next = position;
    u->goal = u->run_end;
    if (u->n_hops == 0 || n_down(u) > 0) {
        user_recover(u, false);
        return;
    }
    if (u->lineage == u->epoch) u->sim->on_moment(u->sim, u, 0, u->n_hops);
    u->state = USER_RUNS;
    fly(u);
}

/* A token mostly, several at times, sometimes other ones in the place of the last. */
static void next_run(struct user *u) {
    uint32_t position = u->position, n = draw(u, 8) == 0 ? 2 + (uint32_t)draw(u, 2 * CHUNK) : 1;
    if (u->position == 0) n = 8 + (uint32_t)draw(u, 40);
    if (draw(u, 12) == 0) {
        position -= (uint32_t)draw(u, position + 1 < 20 ? position + 1 : 20);
        u->sim->rollbacks++;
    }
    if (position == u->length_max) {
        done(u);
        return;
    }
    if (n > u->length_max - position) n = u->length_max - position;
    begin_run(u, position, n);
    if (draw(u, 16) == 0)
        world_alarm(u->sim->world, u->client->node, draw(u, IMPATIENCE_MS) * 1000, (uint64_t)u->number << 32 | ALARM_CANCEL | u->run_end);
}

/* The user gave up on a run: what came stands, the rest may come to the hops or not. */
static void cancel(struct user *u) {
    u->n_flights = 0;
    u->dirty = true;
    think(u, IMPATIENCE_MS);
}

/* All hops that have the session are where it is. */
static void check_epochs(const struct user *u) {
    for (uint32_t i = 0; i < u->n_hops; i++) {
        const struct server *server = &u->sim->servers[u->hops[i].node];
        const struct held *held = server->up ? server_find(server, u->number) : NULL;
        if (held != NULL && le64_get(held->s.secret) == u->hops[i].secret && held->s.epoch != u->epoch)
            sim_fail(u->sim, u->number, "a result came while hops of the session stood at different epochs");
    }
}

static void land(struct user *u, const struct flight_rows *flight, const struct chain_msg *msg) {
    u->sim->results++;
    for (uint32_t i = 0; i < flight->n; i++)
        if (msg->rows[i] != u->expected[flight->position + i]) sim_fail(u->sim, u->number, "a result differs from an undisturbed chain's");
    check_epochs(u);
    u->position = flight->position + flight->n;
    u->since_ms = world_now_ms(u->sim->world);
}

static void on_result(struct user *u, const struct hop *hop, const struct chain_msg *msg) {
    bool runs = u->state == USER_RUNS;
    if (msg->epoch < u->epoch || u->failed || u->n_flights == 0 || !(runs || u->state == USER_REPLAYS)) return;
    struct flight_rows flight = u->flights[0];
    uint32_t last = (runs ? u->n_hops : u->lane_end) - 1;
    if (hop != &u->hops[last] || msg->epoch != u->epoch || msg->position != flight.position || msg->n_tokens != flight.n ||
        msg->n_rows != (runs ? flight.n : 0)) {
        sim_fail(u->sim, u->number, "a result fits no step");
        return;
    }
    memmove(u->flights, u->flights + 1, --u->n_flights * sizeof *u->flights);
    if (runs) land(u, &flight, msg);
    if (flight.position + flight.n < u->goal)
        fly(u);
    else if (runs)
        think(u, THINK_MS);
    else
        end_replay(u);
}

/* ---- what comes ---------------------------------------------------------------------------------------------------- */

/* Somebody answered, or went down: whether that was what was waited for. */
static void go_on(struct user *u) {
    switch (u->state) {
    case USER_CUT: {
        uint32_t cut = 0;
        for (uint32_t i = 0; i < u->n_hops; i++) cut += u->hops[i].asking && u->hops[i].cut;
        if (cut > 0) return;
        enter(u, USER_LINKED, SYNC_MS);
    } /* fallthrough */
    case USER_LINKED:
        if (n_asking(u->hops, u->n_hops) == 0) found_lost(u);
        return;
    case USER_OPENS:
        if (n_asking(u->fresh, u->n_fresh) == 0) opened_fresh(u);
        return;
    case USER_REPLAYS:
    case USER_RUNS:
        if (u->failed) fly(u);
        return;
    default: return;
    }
}

static void lose(struct user *u, struct hop *hop, enum corolla_status why) {
    bool opened = hop->opened && !hop->asking;
    hop_fail(hop, why);
    if (opened && in_chain(u, hop)) u->failed = true;
}

static void on_failed(struct user *u, struct hop *hop, const struct chain_msg *msg) {
    bool known = msg->culprit == NOBODY;
    for (uint32_t i = 0; each_hop(u, i) != NULL; i++) known = known || each_hop(u, i)->node == msg->culprit;
    if (hop->asking) {
        hop_fail(hop, msg->status);
    } else if (known && (msg->epoch >= u->epoch || msg->status == COROLLA_NO_SESSION || msg->status == COROLLA_DRAINING)) {
        if (msg->status == COROLLA_BUSY || msg->status == COROLLA_BAD_POSITION || msg->status == COROLLA_PEER_LOST)
            u->failed = true;
        else
            lose(u, hop, msg->status);
    }
}

static void on_opened(struct user *u, struct hop *hop, void *link, const struct chain_msg *msg) {
    if (hop == NULL || !hop->asking || hop->opened) { /* given up meanwhile */
        send_close(u, link, msg->secret);
        return;
    }
    hop->asking = false;
    hop->opened = true;
    hop->secret = msg->secret;
}

static void on_message(void *user, void *link, enum msg_kind kind, const uint8_t *data, size_t size) {
    struct client *client = user;
    struct chain_msg msg;
    chain_read(data, size, &msg);
    struct user *u = &client->sim->users[msg.session];
    struct hop *hop = NULL;
    for (uint32_t i = 0; hop == NULL && u->state != USER_DONE && each_hop(u, i) != NULL; i++)
        if (each_hop(u, i)->link == link && each_hop(u, i)->stream == msg.stream) hop = each_hop(u, i);
    if (kind == MSG_OPENED) on_opened(u, hop, link, &msg);
    if (hop == NULL) return; /* of something that was given up */
    if (kind == MSG_RESULT) {
        on_result(u, hop, &msg);
        return;
    }
    if (kind == MSG_FAILED) on_failed(u, hop, &msg);
    if (kind == MSG_SYNCED && hop->asking && hop->opened && msg.epoch == u->epoch) {
        hop->asking = false;
        hop->length = msg.length;
        hop->kept = msg.kept;
        hop->computed_epoch = msg.computed_epoch;
    }
    go_on(u);
}

static void on_dialled(void *user, uint32_t target, void *link) {
    struct client *client = user;
    client->paths[target] = (struct path){.link = link};
    for (uint32_t k = 0; k < client->n_users; k++) {
        struct user *u = &client->users[k];
        if (u->state == USER_ABSENT || u->state == USER_DONE) continue;
        for (uint32_t i = 0; each_hop(u, i) != NULL; i++) {
            struct hop *hop = each_hop(u, i);
            if (hop->node != target || !hop->asking || hop->link != NULL) continue;
            hop->link = link;
            if (link != NULL)
                ask(u, hop);
            else
                hop_fail(hop, COROLLA_PEER_LOST);
        }
        if (link == NULL) go_on(u);
    }
}

static void on_down(void *user, void *link, bool lost) {
    struct client *client = user;
    uint32_t peer = world_link_peer(link);
    (void)lost; /* a link that was up counts as lost, whatever the goodbye says */
    if (client->paths[peer].link == link) client->paths[peer].link = NULL;
    for (uint32_t k = 0; k < client->n_users; k++) {
        struct user *u = &client->users[k];
        bool touched = false;
        if (u->state == USER_ABSENT || u->state == USER_DONE) continue;
        for (uint32_t i = 0; each_hop(u, i) != NULL; i++) {
            struct hop *hop = each_hop(u, i);
            if (hop->link != link) continue;
            hop->link = NULL;
            lose(u, hop, COROLLA_PEER_LOST);
            touched = true;
        }
        if (touched) go_on(u);
    }
}

static void on_alarm(void *user, uint64_t tag) {
    struct client *client = user;
    struct user *u = &client->sim->users[tag >> 32];
    if (tag & ALARM_CANCEL) {
        if (u->state == USER_RUNS && u->run_end == (tag & (ALARM_CANCEL - 1))) cancel(u);
        return;
    }
    if (u->serial != (uint32_t)tag) return;
    switch (u->state) {
    case USER_THINKS: next_run(u); return;
    case USER_CUT: fail_asking(u, true); break;
    case USER_LINKED: fail_asking(u, false); break;
    case USER_OPENS: opened_fresh(u); return;
    case USER_REPLAYS: try_again(u, true); return;
    case USER_RUNS: user_recover(u, true); return;
    case USER_WAITS: try_again(u, false); return;
    case USER_ABSENT:
    case USER_DONE: return;
    }
    go_on(u);
}

/* ---- life ---------------------------------------------------------------------------------------------------------- */

void user_begin(struct user *u) {
    u->length_max = TOKENS_MAX / 2 + (uint32_t)draw(u, TOKENS_MAX / 2 + 1);
    memory_init(&u->memory, 0, BLOCKS);
    next_run(u);
}

void user_release(struct user *u) { memory_release(&u->memory); }

void client_start(struct client *client, uint32_t entry) {
    struct world *world = client->sim->world;
    client->up = true;
    world_start(world, client->node);
    world_set_app(world, client->node, &(struct world_app){on_dialled, on_message, on_down, on_alarm, client});
    world_hint(world, client->node, entry);
}

void client_stop(struct client *client) {
    world_kill(client->sim->world, client->node);
    client->up = false;
    for (uint32_t i = 0; i < client->n_users; i++) {
        struct user *u = &client->users[i];
        if (u->state != USER_ABSENT && u->state != USER_DONE) user_release(u);
        if (u->state != USER_ABSENT) u->state = USER_DONE;
    }
    memset(client->paths, 0, client->sim->n_nodes * sizeof *client->paths);
}
