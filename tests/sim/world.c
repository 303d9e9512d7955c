/* world.c - see world.h. */
#include "sim/world.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sim/keys.h"
#include "sim/queue.h"

#define DIAL_TIMEOUT_MS 5000
#define ASLEEP_US 100000    /* between looks whether a machine is awake, of what waits for it */
#define NODES_PER_RANGE 200 /* addresses of one /24 */

enum what { MESSAGE, DIALLED, DOWN, TICK, WAKE, ALARM };

struct end {                           /* of a connection; the name of the link for its node's gossip */
    struct end *other, *next, *before; /* next, before: in the list of its node */
    uint32_t node;
    bool open, app;      /* app: not for gossip */
    bool broken;         /* its end is on the way: what comes behind something that was lost does not come either */
    uint64_t arrived_us; /* the last message to this end: the next one comes behind it */
};
struct wire {
    struct end ends[2]; /* 0: who dialled */
    struct wire *next;
};
struct letter {
    struct end *to;
    enum msg_kind kind;
    uint32_t size;
    uint8_t bytes[];
};
struct call { /* a dial under way */
    struct node_id id;
    uint32_t target;
    bool app;
};
struct down {
    struct end *end;
    bool lost;
};

struct node {
    struct world *world;
    struct node_ref ref;
    struct gossip *gossip; /* NULL: not running, or a puppet */
    struct end *ends;
    bool leaf, stating, asleep, puppet, answers;
    uint32_t life, slow_ms, group, revoked;
    uint64_t boot, tick_us, clock_origin_ms;
    int32_t clock_ppm;
    uint64_t stopped_us, slept_at_us; /* how long its clock stood still */
    bool clock_goes_on;
    world_puppet on_message;
    void *user;
    struct world_app app; /* of a node that does nothing beside gossip: zeros */
    struct world_traffic traffic;
};

struct world {
    struct world_config config;
    struct queue queue;
    uint64_t now_us, random, trace;
    struct node **nodes;
    uint32_t n, capacity;
    struct wire *wires;
    struct sealed_set *sealed;
    uint32_t faults;
};

/* ---- randomness, time, trace ------------------------------------------------------------------------------------ */

static uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

uint64_t world_random(struct world *world) { return mix(world->random += 0x9e3779b97f4a7c15u); }

static void trace(struct world *world, uint64_t value) { world->trace = mix(world->trace ^ value) + 1; }

static void trace_bytes(struct world *world, const uint8_t *bytes, size_t size) {
    size_t at = 0;
    for (; at + 8 <= size; at += 8) {
        trace(world, le64_get(bytes + at));
    }
    for (; at < size; at++) {
        trace(world, bytes[at]);
    }
}

uint64_t world_now_ms(const struct world *world) { return world->now_us / 1000; }
uint64_t world_trace(const struct world *world) { return world->trace; }

/* What the node's own clock says, and when it will say so. */
static uint64_t clock_of(const struct node *node) {
    uint64_t run_us = node->world->now_us - node->stopped_us;
    return node->clock_origin_ms + run_us / 1000 + (uint64_t)((int64_t)run_us * node->clock_ppm / 1000000000);
}

static uint64_t when(const struct node *node, uint64_t clock_ms) {
    uint64_t now_ms = clock_of(node), left_ms = clock_ms > now_ms ? clock_ms - now_ms : 0;
    return node->world->now_us + left_ms * 1000 + (uint64_t)((int64_t)left_ms * -node->clock_ppm / 1000) + 500;
}

/* ---- events ------------------------------------------------------------------------------------------------------- */

static void post(struct world *world, uint64_t us, enum what what, uint32_t node, void *subject) {
    queue_push(&world->queue,
               (struct event){.us = us, .what = (int)what, .node = node, .life = world->nodes[node]->life, .subject = subject});
}

/* Lets the node's tick come when its gossip wants it. */
static void rearm(struct node *node, uint32_t number) {
    if (node->gossip == NULL || node->asleep) {
        return;
    }
    uint64_t us = when(node, gossip_due(node->gossip));
    if (us < node->tick_us) {
        node->tick_us = us;
        post(node->world, us, TICK, number, NULL);
    }
}

/* One way between two nodes, in microseconds: of the pair, the same each time, and some jitter. */
static uint64_t delay_us(struct world *world, uint32_t a, uint32_t b) {
    const struct world_config *c = &world->config;
    uint64_t pair = mix(world->config.seed ^ mix(a < b ? (uint64_t)a << 32 | b : (uint64_t)b << 32 | a));
    uint64_t us = c->delay_ms_min * 1000ull + pair % ((c->delay_ms_max - c->delay_ms_min) * 1000ull + 1);
    return us + world_random(world) % (c->jitter_ms * 1000ull + 1) + world->nodes[b]->slow_ms * 1000ull;
}

static bool reachable(const struct world *world, uint32_t a, uint32_t b) {
    return world->nodes[a]->group == world->nodes[b]->group && !world->nodes[a]->asleep && !world->nodes[b]->asleep;
}

/* ---- links -------------------------------------------------------------------------------------------------------- */

static void end_attach(struct world *world, struct end *end, uint32_t node) {
    struct node *n = world->nodes[node];
    end->node = node;
    end->open = true;
    end->next = n->ends;
    if (n->ends != NULL) {
        n->ends->before = end;
    }
    n->ends = end;
}

static void end_close(struct world *world, struct end *end) {
    struct node *n = world->nodes[end->node];
    if (end->before != NULL) {
        end->before->next = end->next;
    } else {
        n->ends = end->next;
    }
    if (end->next != NULL) {
        end->next->before = end->before;
    }
    end->next = end->before = NULL;
    end->open = false;
}

static struct end *connect_nodes(struct world *world, uint32_t from, uint32_t to, bool app) {
    struct wire *wire = calloc(1, sizeof(*wire));
    if (wire == NULL) {
        abort();
    }
    wire->next = world->wires;
    world->wires = wire;
    wire->ends[0].other = &wire->ends[1];
    wire->ends[1].other = &wire->ends[0];
    wire->ends[0].app = wire->ends[1].app = app;
    end_attach(world, &wire->ends[0], from);
    end_attach(world, &wire->ends[1], to);
    return &wire->ends[0];
}

static void post_down(struct world *world, struct end *end, bool lost, uint64_t after_us) {
    struct down *down = malloc(sizeof(*down));
    if (down == NULL) {
        abort();
    }
    *down = (struct down){end, lost};
    uint64_t us = world->now_us + after_us;
    if (!lost && us <= end->arrived_us) {
        us = end->arrived_us + 1; /* a goodbye comes behind what was sent before */
    }
    post(world, us, DOWN, end->node, down);
}

/* This side closes the link; the other hears of it. */
static void hang_up(struct world *world, struct end *end, bool lost, uint64_t silence_us) {
    if (!end->open) {
        return;
    }
    uint64_t us = silence_us > 0 || !reachable(world, end->node, end->other->node)
                      ? WORLD_SILENCE_MS * 1000ull + world_random(world) % 1000000
                      : delay_us(world, end->node, end->other->node);
    end_close(world, end);
    if (end->other->open) {
        post_down(world, end->other, lost || us >= WORLD_SILENCE_MS * 1000ull, us);
    }
}

static void count(struct node *node, enum msg_kind kind, size_t size) {
    node->traffic.bytes += size + WORLD_FRAMING;
    node->traffic.bytes_of_kind[kind] += size + WORLD_FRAMING;
    node->traffic.messages++;
}

static void send_letter(struct world *world, struct end *from, enum msg_kind kind, const uint8_t *data, size_t size) {
    if (!from->open) {
        return;
    }
    count(world->nodes[from->node], kind, size);
    struct end *to = from->other;
    if (!to->open || to->broken || !reachable(world, from->node, to->node)) {
        return; /* and the link will be noticed as silent */
    }
    struct letter *letter = malloc(sizeof(*letter) + size);
    if (letter == NULL) {
        abort();
    }
    letter->to = to;
    letter->kind = kind;
    letter->size = (uint32_t)size;
    memcpy(letter->bytes, data, size);
    uint64_t us = world->now_us + delay_us(world, from->node, to->node);
    to->arrived_us = us > to->arrived_us ? us : to->arrived_us + 1;
    post(world, to->arrived_us, MESSAGE, to->node, letter);
}

/* ---- what gossip wants of the world ----------------------------------------------------------------------------- */

static void on_send(void *user, void *link, enum msg_kind kind, const uint8_t *data, size_t size) {
    send_letter(((struct node *)user)->world, link, kind, data, size);
}

/* The number of the node at an address, or UINT32_MAX. */
static uint32_t resolve(const struct world *world, const struct node_ref *ref) {
    unsigned a, b, c;
    char end;
    if (ref->n_addrs == 0 || sscanf(ref->addrs[0], "10.%u.%u.%u:31330%c", &a, &b, &c, &end) != 3) {
        return UINT32_MAX;
    }
    uint32_t number = (a * 256 + b) * NODES_PER_RANGE + c - 1;
    return number < world->n ? number : UINT32_MAX;
}

static uint32_t number_of(const struct node *node) { return resolve(node->world, &node->ref); }

static void dial(struct world *world, uint32_t self, uint32_t target, const struct node_id *id, bool app) {
    struct call *call = malloc(sizeof(*call));
    if (call == NULL) {
        abort();
    }
    *call = (struct call){*id, target, app};
    world->nodes[self]->traffic.dials++;
    bool silent = call->target == UINT32_MAX || !reachable(world, self, call->target);
    uint64_t us = silent ? DIAL_TIMEOUT_MS * 1000ull : 3 * delay_us(world, self, call->target);
    post(world, world->now_us + us, DIALLED, self, call);
}

static void on_dial(void *user, const struct node_ref *ref) {
    struct node *node = user;
    dial(node->world, number_of(node), resolve(node->world, ref), &ref->id, false);
}

static void on_leave(void *user, void *link) { hang_up(((struct node *)user)->world, link, false, 0); }

static bool on_verify(void *user, const uint8_t key[KEY_SIZE], const uint8_t *data, size_t size, const uint8_t signature[SIGNATURE_SIZE]) {
    return keys_verify(((struct node *)user)->world->config.real_signatures, key, data, size, signature);
}

static void sign_as(const struct world *world, uint64_t number, const uint8_t *data, size_t size, uint8_t signature[SIGNATURE_SIZE]) {
    keys_sign(world->config.real_signatures, mix(world->config.seed) + number, data, size, signature);
}

static void on_sign(void *user, const uint8_t *data, size_t size, uint8_t signature[SIGNATURE_SIZE]) {
    sign_as(((struct node *)user)->world, number_of(user), data, size, signature);
}

static uint64_t on_random(void *user) { return world_random(((struct node *)user)->world); }

/* ---- events that happen -------------------------------------------------------------------------------------------- */

static void fault(struct world *world, struct end *end) {
    struct node *node = world->nodes[end->node];
    world->faults++;
    hang_up(world, end, false, 0);
    if (node->gossip != NULL) {
        gossip_link_down(node->gossip, end, false, clock_of(node));
    }
}

static void arrive(struct world *world, struct node *node, struct letter *letter) {
    struct end *end = letter->to;
    if (!end->open || end->broken || !reachable(world, end->node, end->other->node)) {
        return;
    }
    count(node, letter->kind, letter->size);
    trace_bytes(world, letter->bytes, letter->size);
    if (end->app) {
        node->app.message(node->app.user, end, letter->kind, letter->bytes, letter->size);
        return;
    }
    if (node->puppet) {
        if (node->on_message != NULL) {
            node->on_message(world, node->user, end, letter->kind, letter->bytes, letter->size);
        }
        return;
    }
    struct corolla_error err;
    const struct node_ref *peer = &world->nodes[end->other->node]->ref;
    if (gossip_message(node->gossip, end, peer, letter->kind, letter->bytes, letter->size, clock_of(node), &err) != COROLLA_OK) {
        fault(world, end);
    }
}

static void answer_call(struct world *world, struct node *node, const struct call *call) {
    uint32_t self = number_of(node);
    bool up = call->target != UINT32_MAX && call->target != self && reachable(world, self, call->target) &&
              node_id_equal(&world->nodes[call->target]->ref.id, &call->id) &&
              (world->nodes[call->target]->gossip != NULL || world->nodes[call->target]->answers);
    void *link = up ? connect_nodes(world, self, call->target, call->app) : NULL;
    if (call->app) {
        node->app.dialled(node->app.user, call->target, link);
        return;
    }
    gossip_dialled(node->gossip, &call->id, link, clock_of(node));
}

static void wake(struct world *world, struct node *node) {
    node->asleep = false;
    if (!node->clock_goes_on) {
        node->stopped_us += world->now_us - node->slept_at_us;
    }
    node->tick_us = UINT64_MAX;
    for (struct end *end = node->ends; end != NULL; end = end->next) { /* the peers hung up meanwhile */
        post_down(world, end, true, world_random(world) % 300000);
    }
}

static void go_down(struct node *node, const struct down *down) {
    if (down->end->open) {
        end_close(node->world, down->end);
        if (down->end->app) {
            node->app.down(node->app.user, down->end, down->lost);
        } else if (node->gossip != NULL) {
            gossip_link_down(node->gossip, down->end, down->lost, clock_of(node));
        }
    }
}

/* What no link's end makes good, as it does for a message. Gossip sees to its own dials. */
static bool outlasts_sleep(const struct event *event) {
    return event->what == ALARM || (event->what == DIALLED && ((const struct call *)event->subject)->app);
}

static void happen(struct world *world, struct event *event) {
    struct node *node = world->nodes[event->node];
    bool stale = event->life != node->life || (node->asleep && event->what != WAKE) || (node->gossip == NULL && !node->puppet);
    world->now_us = event->us;
    trace(world, event->us ^ (uint64_t)event->what << 56 ^ (uint64_t)event->node << 32);
    if (node->asleep && event->life == node->life && outlasts_sleep(event)) {
        event->us += ASLEEP_US;
        queue_push(&world->queue, *event);
        return;
    }
    if (!stale) {
        switch ((enum what)event->what) {
        case MESSAGE: arrive(world, node, event->subject); break;
        case DIALLED: answer_call(world, node, event->subject); break;
        case DOWN: go_down(node, event->subject); break;
        case WAKE: wake(world, node); break;
        case ALARM: node->app.alarm(node->app.user, event->tag); break;
        case TICK:
            if (event->us == node->tick_us) {
                node->tick_us = UINT64_MAX;
                gossip_tick(node->gossip, clock_of(node));
            }
            break;
        }
        rearm(node, event->node);
    }
    free(event->subject);
}

void world_run(struct world *world, uint64_t ms) {
    uint64_t until_us = world->now_us + ms * 1000;
    struct event event;
    while (queue_next_us(&world->queue) <= until_us && queue_pop(&world->queue, &event)) {
        happen(world, &event);
    }
    world->now_us = until_us;
}

uint64_t world_run_until(struct world *world, bool (*condition)(struct world *world, void *user), void *user, uint64_t step_ms,
                         uint64_t ms) {
    for (uint64_t passed = 0; passed <= ms; passed += step_ms) {
        if (condition(world, user)) {
            return passed;
        }
        world_run(world, step_ms);
    }
    return UINT64_MAX;
}

/* ---- nodes --------------------------------------------------------------------------------------------------------- */

void world_config_default(struct world_config *config, uint64_t seed) {
    *config = (struct world_config){.seed = seed, .delay_ms_min = 5, .delay_ms_max = 100, .jitter_ms = 10};
}

struct world *world_new(const struct world_config *config) {
    struct world *world = calloc(1, sizeof(*world));
    if (world == NULL) {
        abort();
    }
    world->config = *config;
    world->random = mix(config->seed + 1);
    world->sealed = sealed_set_new(mix(config->seed + 2));
    if (world->sealed == NULL) {
        abort();
    }
    return world;
}

void world_free(struct world *world) {
    for (struct event event; queue_pop(&world->queue, &event);) {
        free(event.subject);
    }
    for (uint32_t i = 0; i < world->n; i++) {
        gossip_free(world->nodes[i]->gossip);
        free(world->nodes[i]);
    }
    for (struct wire *wire = world->wires, *next; wire != NULL; wire = next) {
        next = wire->next;
        free(wire);
    }
    free(world->nodes);
    queue_release(&world->queue);
    sealed_set_free(world->sealed);
    free(world);
}

static void make_ref(const struct world *world, uint64_t number, uint64_t at, struct node_ref *out) {
    memset(out, 0, sizeof(*out));
    keys_make(world->config.real_signatures, mix(world->config.seed) + number, out->id.key);
    out->n_addrs = 1;
    snprintf(out->addrs[0], ADDR_MAX, "10.%u.%u.%u:31330", (unsigned)(at / NODES_PER_RANGE / 256 % 256),
             (unsigned)(at / NODES_PER_RANGE % 256), (unsigned)(at % NODES_PER_RANGE + 1));
}

uint32_t world_add(struct world *world, bool leaf) {
    if (world->n == world->capacity) {
        world->capacity = world->capacity > 0 ? world->capacity * 2 : 64;
        world->nodes = realloc(world->nodes, world->capacity * sizeof(*world->nodes));
    }
    struct node *node = calloc(1, sizeof(*node));
    if (node == NULL || world->nodes == NULL) {
        abort();
    }
    node->world = world;
    node->leaf = leaf;
    make_ref(world, world->n, world->n, &node->ref);
    node->tick_us = UINT64_MAX;
    node->revoked = UINT32_MAX;
    node->clock_origin_ms = world_random(world) >> (world_random(world) % 40 + 20); /* near its beginning, or very far from it */
    node->clock_ppm = (int32_t)(world_random(world) % 2001) - 1000;
    world->nodes[world->n] = node;
    return world->n++;
}

uint32_t world_count(const struct world *world) { return world->n; }
void world_ref(const struct world *world, uint32_t node, struct node_ref *out) { *out = world->nodes[node]->ref; }

void world_set_clock(struct world *world, uint32_t node, uint64_t origin_ms, int32_t wrong_ppm) {
    world->nodes[node]->clock_origin_ms = origin_ms;
    world->nodes[node]->clock_ppm = wrong_ppm;
}

void world_set_slow(struct world *world, uint32_t node, uint32_t ms) { world->nodes[node]->slow_ms = ms; }

/* Stands for what the key of the swarm would sign. */
static struct signed_bytes certificate_of(const struct world *world, const struct node_id *id) {
    struct signed_bytes certificate = {.size = 100};
    le64_put(certificate.data, mix(world->config.seed ^ node_id_digest(id)));
    return certificate;
}

static bool on_may_host(void *user, const struct record *record) {
    const struct node *node = user;
    struct signed_bytes good = certificate_of(node->world, &record->node.id);
    return record->membership.size == good.size && memcmp(record->membership.data, good.data, good.size) == 0 &&
           resolve(node->world, &record->node) != node->revoked;
}

void world_revoke(struct world *world, uint32_t number, uint32_t revoked) {
    struct node *node = world->nodes[number];
    node->revoked = revoked;
    gossip_recheck(node->gossip, clock_of(node));
    rearm(node, number);
}

void world_start_boot(struct world *world, uint32_t number, uint64_t boot) {
    struct node *node = world->nodes[number];
    assert(node->gossip == NULL && !node->puppet);
    node->boot = boot;
    node->stating = false;
    struct gossip_config config = {
        .world =
            {.send = on_send, .dial = on_dial, .leave = on_leave, .verify = on_verify, .sign = on_sign, .random = on_random, .user = node},
        .self = node->ref.id,
        .boot = boot,
        .leaf = node->leaf,
        .sealed = world->sealed,
    };
    if (world->config.is_private) {
        config.world.may_host = on_may_host;
    }
    if (gossip_new(&node->gossip, &config, clock_of(node), NULL) != COROLLA_OK) {
        abort();
    }
    node->tick_us = UINT64_MAX;
    rearm(node, number);
}

void world_start(struct world *world, uint32_t node) { world_start_boot(world, node, world->nodes[node]->boot + 1); }

void world_hint(struct world *world, uint32_t number, uint32_t entry) {
    struct node *node = world->nodes[number];
    gossip_hint(node->gossip, &world->nodes[entry]->ref, clock_of(node));
    rearm(node, number);
}

static void statement(uint64_t number, const struct node_ref *ref, struct record *out) {
    *out = (struct record){.node = *ref, .state = RECORD_ONLINE, .n_blocks = 32, .n_embd = 4096, .wires = 7, .exact = true};
    out->begin = (uint32_t)(number * 5 % 24);
    out->end = out->begin + 8;
    memset(out->model, 0x5a, ID_SIZE);
    snprintf(out->model_name, NAME_SIZE, "Llama 3.1 8B Instruct");
    snprintf(out->name, NAME_SIZE, "node-%llu", (unsigned long long)number);
    snprintf(out->version, NAME_SIZE, "0.1.0");
    out->decode_block_us = 900.0f + (float)(number % 500);
    out->prefill_block_us = 60.0f;
    out->cache_tokens_left = 65536;
    out->session_tokens_max = 8192;
    out->arithmetic_class = 0x0123456789abcdefull;
    out->n_rtts = 4;
    for (uint32_t i = 0; i < out->n_rtts; i++) {
        out->rtts[i] = (struct record_rtt){mix(number + i), 20000 + i};
    }
}

void world_statement(const struct world *world, uint32_t node, struct record *out) {
    statement(node, &world->nodes[node]->ref, out);
    if (world->config.is_private) {
        out->membership = certificate_of(world, &out->node.id);
    }
}

void world_publish(struct world *world, uint32_t number, const struct record *record) {
    struct node *node = world->nodes[number];
    node->stating = record->state != RECORD_OFFLINE;
    gossip_publish(node->gossip, record, clock_of(node));
    rearm(node, number);
}

static void stop(struct world *world, uint32_t number, bool lost, uint64_t silence_us) {
    struct node *node = world->nodes[number];
    while (node->ends != NULL) {
        hang_up(world, node->ends, lost, silence_us);
    }
    gossip_free(node->gossip);
    node->gossip = NULL;
    node->life++;
    node->asleep = false;
}

void world_kill(struct world *world, uint32_t node) { stop(world, node, true, 0); }
void world_freeze(struct world *world, uint32_t node) { stop(world, node, true, WORLD_SILENCE_MS * 1000ull); }

void world_leave(struct world *world, uint32_t node) {
    struct record record;
    world_statement(world, node, &record);
    record.state = RECORD_OFFLINE;
    world_publish(world, node, &record);
    stop(world, node, false, 0);
}

void world_sleep(struct world *world, uint32_t number, uint64_t ms, bool clock_goes_on) {
    struct node *node = world->nodes[number];
    for (struct end *end = node->ends; end != NULL; end = end->next) {
        end->broken = end->other->broken = end->app;
        if (end->other->open) {
            post_down(world, end->other, true, WORLD_SILENCE_MS * 1000ull + world_random(world) % 1000000);
        }
    }
    node->asleep = true;
    node->slept_at_us = world->now_us;
    node->clock_goes_on = clock_goes_on;
    post(world, world->now_us + ms * 1000, WAKE, number, NULL);
}

/* What no longer reaches each other falls silent. */
static void silence(struct world *world, uint32_t number) {
    for (struct end *end = world->nodes[number]->ends; end != NULL; end = end->next) {
        if (end->other->open && !reachable(world, number, end->other->node)) {
            end->broken = end->other->broken = end->app;
            post_down(world, end, true, WORLD_SILENCE_MS * 1000ull + world_random(world) % 1000000);
            post_down(world, end->other, true, WORLD_SILENCE_MS * 1000ull + world_random(world) % 1000000);
        }
    }
}

void world_set_group(struct world *world, uint32_t node, uint32_t group) {
    world->nodes[node]->group = group;
    silence(world, node);
}

void world_cut(struct world *world, uint32_t a, uint32_t b) {
    for (struct end *end = world->nodes[a]->ends; end != NULL; end = end->next) {
        if (end->other->node == b && end->other->open) {
            post_down(world, end, true, 1000);
            post_down(world, end->other, true, 1000);
        }
    }
}

bool world_is_up(const struct world *world, uint32_t node) { return world->nodes[node]->gossip != NULL && !world->nodes[node]->asleep; }
struct gossip *world_gossip(const struct world *world, uint32_t node) {
    return world->nodes[node]->gossip;
}

size_t world_knows(const struct world *world, uint32_t number) {
    size_t n = 0;
    const struct gossip *gossip = world->nodes[number]->gossip;
    for (const struct gossip_entry *e = gossip_each(gossip, NULL); e != NULL; e = gossip_each(gossip, e)) {
        uint32_t other = resolve(world, &e->record->node);
        n += other != UINT32_MAX && world->nodes[other]->stating && world_is_up(world, other) && e->record->state != RECORD_OFFLINE;
    }
    return n;
}

bool world_is_stating(const struct world *world, uint32_t node) { return world_is_up(world, node) && world->nodes[node]->stating; }

size_t world_stating(const struct world *world) {
    size_t n = 0;
    for (uint32_t i = 0; i < world->n; i++) {
        n += world_is_stating(world, i);
    }
    return n;
}

const struct world_traffic *world_traffic(const struct world *world, uint32_t node) { return &world->nodes[node]->traffic; }

void world_traffic_clear(struct world *world) {
    for (uint32_t i = 0; i < world->n; i++) {
        world->nodes[i]->traffic = (struct world_traffic){0};
    }
}

uint32_t world_faults(const struct world *world) { return world->faults; }

/* ---- beside gossip --------------------------------------------------------------------------------------------------- */

void world_set_app(struct world *world, uint32_t node, const struct world_app *app) { world->nodes[node]->app = *app; }

void world_dial(struct world *world, uint32_t node, uint32_t target) { dial(world, node, target, &world->nodes[target]->ref.id, true); }

void world_send(struct world *world, void *link, enum msg_kind kind, const void *data, size_t size) {
    send_letter(world, link, kind, data, size);
}

uint32_t world_link_peer(const void *link) { return ((const struct end *)link)->other->node; }

void world_alarm(struct world *world, uint32_t node, uint64_t after_us, uint64_t tag) {
    queue_push(&world->queue,
               (struct event){.us = world->now_us + after_us, .what = ALARM, .node = node, .life = world->nodes[node]->life, .tag = tag});
}

/* ---- puppets --------------------------------------------------------------------------------------------------------- */

uint32_t world_add_puppet(struct world *world, bool answers, world_puppet on_message, void *user) {
    uint32_t number = world_add(world, false);
    struct node *node = world->nodes[number];
    node->puppet = true;
    node->answers = answers;
    node->on_message = on_message;
    node->user = user;
    return number;
}

void *world_puppet_link(struct world *world, uint32_t puppet, uint32_t target) {
    return world_is_up(world, target) && reachable(world, puppet, target) ? connect_nodes(world, puppet, target, false) : NULL;
}

void world_puppet_send(struct world *world, void *link, enum msg_kind kind, const uint8_t *data, size_t size) {
    send_letter(world, link, kind, data, size);
}

bool world_link_open(const void *link) { return ((const struct end *)link)->open; }

void world_junk(const struct world *world, uint32_t number, uint32_t sequence, struct signed_record *out) {
    const uint64_t away = 1u << 20; /* where no node lives */
    struct node_ref ref;
    struct record record;
    make_ref(world, away + number, away + number, &ref);
    statement(number, &ref, &record);
    record.boot = 1;
    record.sequence = sequence;
    out->age_ms = 0;
    out->size = (uint32_t)record_encode(&record, out->bytes);
    sign_as(world, away + number, out->bytes, out->size, out->signature);
}
