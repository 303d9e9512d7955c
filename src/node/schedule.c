/* schedule.c - see schedule.h. */
#include "node/schedule.h"

#include <math.h>

#define HOLD_PAUSE_MAX 63
#define NEWEST 0.25f /* weight of the newest turn in what turns take */

enum kind { DECODE, PREFILL };

static enum kind kind_of(const struct schedule_candidate *c) { return c->decode ? DECODE : PREFILL; }

/* ---- what turns take ------------------------------------------------------------------------------------------- */

static void blend(float *average, float us) { *average += *average == 0 ? us : NEWEST * (us - *average); }

void schedule_note(struct schedule *s, bool decode, uint32_t rows, uint32_t us, uint64_t now_us) {
    if (rows == 0 || rows > BATCH_ROWS_MAX || us == 0) return;
    blend(&s->turn_us[rows], (float)us);
    if (!decode) return;
    blend(&s->decode_us, (float)us);
    s->last_rows = rows;
    s->last_end_us = now_us;
    if (s->holds_to_skip > 0) s->holds_to_skip--;
}

/* Between the sizes that are known; 0: none is. */
static float turn_us(const struct schedule *s, uint32_t rows) {
    uint32_t below = rows, above = rows;
    while (below > 0 && s->turn_us[below] == 0) below--;
    while (above <= BATCH_ROWS_MAX && s->turn_us[above] == 0) above++;
    bool smaller = below > 0, larger = above <= BATCH_ROWS_MAX;
    if (!smaller && !larger) return 0;
    if (!larger) return s->turn_us[below] * (float)rows / (float)below;
    if (!smaller) return s->turn_us[above] * sqrtf((float)rows / (float)above); /* one row takes more than its part */
    if (below == above) return s->turn_us[rows];
    return s->turn_us[below] + (s->turn_us[above] - s->turn_us[below]) * (float)(rows - below) / (float)(above - below);
}

/* ---- clients --------------------------------------------------------------------------------------------------- */

/* Start-time fair queueing: Goyal, Vin, Cheng 1996. */
static uint64_t start_of(const struct schedule *s, uint32_t client, enum kind kind) {
    uint64_t given = s->clients[client].rows_of[kind];
    return given > s->now_of[kind] ? given : s->now_of[kind];
}

static void give(struct schedule *s, uint32_t client, enum kind kind, uint32_t rows) {
    uint64_t start = start_of(s, client, kind);
    s->now_of[kind] = start;
    s->clients[client].rows_of[kind] = start + rows;
}

/* The oldest step of the client that was given least; there is one of the kind. */
static uint32_t who_goes_first(const struct schedule *s, const struct schedule_candidate *candidates, uint32_t n, enum kind kind) {
    uint32_t best = n;
    for (uint32_t i = 0; i < n; i++)
        if (kind_of(&candidates[i]) == kind &&
            (best == n || start_of(s, candidates[i].client, kind) < start_of(s, candidates[best].client, kind)))
            best = i;
    return best;
}

static bool present(const struct schedule_client *client, uint64_t now_us) {
    float window_us = SCHEDULE_PERIODS * client->period_us;
    if (window_us > SCHEDULE_AWAY_US) window_us = SCHEDULE_AWAY_US;
    return client->seen_us > 0 && (float)(now_us - client->seen_us) <= window_us;
}

void schedule_forget(struct schedule *s, uint32_t client) {
    s->clients[client].seen_us = 0;
    s->clients[client].period_us = 0;
}

/* ---- prefill --------------------------------------------------------------------------------------------------- */

static bool somebody_decodes(const struct schedule *s, uint64_t now_us) {
    for (uint32_t i = 0; i < SCHEDULE_CLIENTS_MAX; i++)
        if (present(&s->clients[i], now_us)) return true;
    return false;
}

static uint32_t rows_within(const struct schedule *s, uint32_t rows, float us) {
    if (us == 0) return rows < SCHEDULE_PREFILL_ROWS ? rows : SCHEDULE_PREFILL_ROWS;
    while (rows > 1 && turn_us(s, rows) > us) rows--;
    return rows;
}

static uint32_t take_prefill(struct schedule *s, const struct schedule_candidate *candidates, uint32_t n, uint64_t now_us,
                             struct schedule_pick *out) {
    uint32_t best = who_goes_first(s, candidates, n, PREFILL);
    uint32_t rows = candidates[best].rows < BATCH_ROWS_MAX ? candidates[best].rows : BATCH_ROWS_MAX;
    if (somebody_decodes(s, now_us)) rows = rows_within(s, rows, SCHEDULE_PREFILL_TURNS * s->decode_us);
    give(s, candidates[best].client, PREFILL, rows);
    *out = (struct schedule_pick){.index = best, .rows = rows};
    return 1;
}

/* ---- decode ---------------------------------------------------------------------------------------------------- */

/* A client that was away, such as a program that is started again, has not become a slow one: of a longer time only as much counts as it
 * was about for. */
static void note_period(struct schedule_client *client, float us) {
    float most_us = SCHEDULE_PERIODS * client->period_us;
    if (us < SCHEDULE_AWAY_US) blend(&client->period_us, most_us > 0 && us > most_us ? most_us : us);
}

/* Who waits is about. Returns all rows that wait. */
static uint32_t see(struct schedule *s, const struct schedule_candidate *candidates, uint32_t n, uint64_t now_us) {
    uint32_t rows = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct schedule_client *client = &s->clients[candidates[i].client];
        if (!candidates[i].decode) continue;
        if (client->seen_us != now_us) {
            if (client->seen_us > 0) note_period(client, (float)(now_us - client->seen_us));
            client->seen_us = now_us;
            client->rows = 0;
        }
        client->rows += candidates[i].rows;
        rows += candidates[i].rows;
    }
    return rows;
}

/* How long a turn may take; 0: as long as it likes. */
static float limit_us(const struct schedule *s, uint32_t rows, uint64_t now_us) {
    uint32_t n = 0, least = BATCH_ROWS_MAX;
    for (uint32_t i = 0; i < SCHEDULE_CLIENTS_MAX; i++) {
        if (!present(&s->clients[i], now_us)) continue;
        n++;
        if (s->clients[i].rows < least) least = s->clients[i].rows;
    }
    float due_us = SCHEDULE_SLACK * (float)n * turn_us(s, least);
    return n < 2 || turn_us(s, rows < BATCH_ROWS_MAX ? rows : BATCH_ROWS_MAX) <= due_us ? 0 : due_us / 2;
}

struct turn {
    uint32_t items, rows;
    bool taken[SCHEDULE_CLIENTS_MAX]; /* candidates; there are no more */
};

static bool fits(const struct schedule_candidate *c, const struct schedule_candidate *first, const struct turn *turn) {
    return c->decode && c->begin == first->begin && c->end == first->end && c->rows <= BATCH_ROWS_MAX - turn->rows;
}

/* Of the client that was given least; n: there is none that fits. */
static uint32_t next_decode(const struct schedule *s, const struct schedule_candidate *candidates, uint32_t n,
                            const struct schedule_candidate *first, const struct turn *turn) {
    uint32_t best = n;
    for (uint32_t i = 0; i < n; i++) {
        if (turn->taken[i] || !fits(&candidates[i], first, turn)) continue;
        if (best == n || start_of(s, candidates[i].client, DECODE) < start_of(s, candidates[best].client, DECODE)) best = i;
    }
    return best;
}

static uint32_t take_decode(struct schedule *s, const struct schedule_candidate *candidates, uint32_t n, uint64_t now_us,
                            struct schedule_pick *out) {
    struct turn turn = {0};
    float limit = limit_us(s, see(s, candidates, n, now_us), now_us);
    const struct schedule_candidate *first = candidates;
    while (!first->decode) first++;
    if (limit > 0) first = &candidates[who_goes_first(s, candidates, n, DECODE)];
    while (turn.items < BATCH_ITEMS_MAX) {
        uint32_t i = next_decode(s, candidates, n, first, &turn);
        if (i == n || (limit > 0 && turn.items > 0 && turn_us(s, turn.rows + candidates[i].rows) > limit)) break;
        turn.taken[i] = true;
        turn.items++;
        turn.rows += candidates[i].rows;
        give(s, candidates[i].client, DECODE, candidates[i].rows);
    }
    uint32_t items = 0;
    for (uint32_t i = 0; i < n; i++)
        if (turn.taken[i]) out[items++] = (struct schedule_pick){.index = i, .rows = candidates[i].rows};
    return items;
}

/* ---- turns ----------------------------------------------------------------------------------------------------- */

uint32_t schedule_hold_us(struct schedule *s, const struct schedule_candidate *candidates, uint32_t n, uint64_t now_us) {
    uint32_t rows = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!candidates[i].decode) return 0;
        rows += candidates[i].rows;
    }
    if (n == 0 || rows >= s->last_rows) {
        s->hold_pause = 0;
        return 0;
    }
    uint64_t until_us = s->last_end_us + (uint64_t)(SCHEDULE_HOLD * turn_us(s, s->last_rows));
    if (s->holds_to_skip > 0) return 0;
    if (now_us < until_us) return (uint32_t)(until_us - now_us);
    s->hold_pause = s->hold_pause < HOLD_PAUSE_MAX ? 2 * s->hold_pause + 1 : HOLD_PAUSE_MAX;
    s->holds_to_skip = s->hold_pause;
    return 0;
}

uint32_t schedule_next(struct schedule *s, const struct schedule_candidate *candidates, uint32_t n, uint64_t now_us,
                       struct schedule_pick out[BATCH_ITEMS_MAX]) {
    uint32_t waiting[2] = {0};
    for (uint32_t i = 0; i < n; i++) waiting[kind_of(&candidates[i])]++;
    if (n == 0) return 0;
    s->decode_was_last = waiting[DECODE] > 0 && (waiting[PREFILL] == 0 || !s->decode_was_last);
    return s->decode_was_last ? take_decode(s, candidates, n, now_us, out) : take_prefill(s, candidates, n, now_us, out);
}
