/* upload.c - see upload.h. */
#include "net/upload.h"

#include "base/clock.h"
#include "net/link.h"

#define BURST_PART 8    /* of a second: what an idle net saves up; more than a busy loop is late */
#define DEBT_S 1        /* at most: bulk goes on a second after a storm of urgent messages */
#define FILL_US 2000000 /* more time than this fills any bucket from its deepest debt */

/* ---- the bucket ------------------------------------------------------------------------------------------------ */

static void fill(struct upload *u) {
    uint64_t now = clock_us();
    int64_t full = (int64_t)(u->bytes_per_s / BURST_PART);
    if (now - u->filled_us > FILL_US) u->filled_us = now - FILL_US;
    uint64_t bytes = u->bytes_per_s * (now - u->filled_us) / 1000000; /* no overflow: COROLLA_UPLOAD_MAX */
    u->filled_us += bytes * 1000000 / u->bytes_per_s;                 /* what made no whole byte counts the next time */
    u->tokens += (int64_t)bytes;
    if (u->tokens > full) u->tokens = full;
}

void upload_spend(struct net *net, size_t bytes) {
    struct upload *u = &net->upload;
    int64_t debt_max = (int64_t)(u->bytes_per_s * DEBT_S);
    if (u->bytes_per_s == 0) return;
    fill(u);
    u->tokens -= (int64_t)bytes;
    if (u->tokens < -debt_max) u->tokens = -debt_max;
}

/* ---- the line -------------------------------------------------------------------------------------------------- */

static void enter(struct link *link) {
    struct upload *u = &link->net->upload;
    if (link->turn.waits) return;
    link->turn = (struct upload_turn){.prev = u->last, .waits = true};
    *(u->last ? &u->last->turn.next : &u->first) = link;
    u->last = link;
}

static void leave(struct link *link) {
    struct upload *u = &link->net->upload;
    struct upload_turn *turn = &link->turn;
    if (!turn->waits) return;
    *(turn->prev ? &turn->prev->turn.next : &u->first) = turn->next;
    *(turn->next ? &turn->next->turn.prev : &u->last) = turn->prev;
    *turn = (struct upload_turn){0};
}

/* The first in the line whose socket takes more; who is passed by keeps its place. */
static struct link *next_in_line(const struct upload *u) {
    struct link *link = u->first;
    while (link && link->writing > 0) link = link->turn.next;
    return link;
}

static void on_timer(uv_timer_t *timer);

/* Each link comes once at most: it goes out of the line, and back only when its chunk is written. */
static void give_turns(struct net *net) {
    struct upload *u = &net->upload;
    if (!u->first) return;
    fill(u);
    for (struct link *link = next_in_line(u); link && u->tokens > 0; link = next_in_line(u)) {
        leave(link);
        link_send_chunk(link, true);
    }
    if (!u->first || u->tokens > 0 || uv_is_active((uv_handle_t *)&u->timer)) return;
    uint64_t due_us = ((uint64_t)-u->tokens + 1) * 1000000 / u->bytes_per_s;
    uv_update_time(&net->loop);
    uv_timer_start(&u->timer, on_timer, due_us / 1000 + 1, 0);
}

static void on_timer(uv_timer_t *timer) { give_turns(timer->data); }

void upload_pump(struct link *link) {
    if (link->state == LINK_UP && link->writing == 0 && send_waits(&link->streams)) enter(link);
    give_turns(link->net);
}

void upload_leave(struct link *link) {
    leave(link);
    link->streams.paced = false;
}

bool upload_holds(const struct link *link) { return link->turn.waits && link->writing == 0; }

void upload_init(struct net *net, uint64_t bytes_per_s) {
    struct upload *u = &net->upload;
    u->bytes_per_s = bytes_per_s;
    if (bytes_per_s == 0) return;
    u->filled_us = clock_us();
    uv_timer_init(&net->loop, &u->timer);
    u->timer.data = net;
}
