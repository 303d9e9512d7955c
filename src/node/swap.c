/* swap.c - see swap.h. */
#include "node/swap.h"

#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "node/answer.h"
#include "node/spool.h"

static struct session *each(const struct node *node, const struct session *last) { return sessions_each(&node->sessions, last); }

/* ---- the file -------------------------------------------------------------------------------------------------- */

/* The first gap of the spool that holds so many bytes; UINT64_MAX: there is none. */
static uint64_t find_gap(const struct node *node, uint64_t size) {
    uint64_t at = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (const struct session *s = each(node, NULL); s; s = each(node, s)) {
            if (s->swap == SWAP_HERE || s->spool_at >= at + size || s->spool_at + s->spool_size <= at) continue;
            at = s->spool_at + s->spool_size;
            moved = true;
        }
    }
    return at + size <= node->host->spool_max ? at : UINT64_MAX;
}

/* ---- who goes -------------------------------------------------------------------------------------------------- */

static uint64_t last_ms(const struct session *s) { return s->used_ms > s->opened_ms ? s->used_ms : s->opened_ms; }

static bool is_idle(const struct session *s, uint64_t now_ms) {
    return s->swap == SWAP_HERE && s->n_steps == 0 && s->lane.kv && now_ms - last_ms(s) >= SWAP_IDLE_MS;
}

/* The idle session that has waited longest. */
static struct session *find_idle(const struct node *node, uint64_t now_ms) {
    struct session *best = NULL;
    for (struct session *s = each(node, NULL); s; s = each(node, s))
        if (is_idle(s, now_ms) && (!best || last_ms(s) < last_ms(best))) best = s;
    return best;
}

static struct step *swap_step(struct node *node, struct session *session, enum step_kind kind) {
    struct step *step = step_new_job(node->net, kind);
    if (!step) return NULL;
    step->session = session;
    session->n_steps++;
    node->n_steps++;
    return step;
}

static bool send_away(struct node *node, struct session *session) {
    uint64_t size = spool_bytes(&session->lane), at = find_gap(node, size);
    struct step *step = at == UINT64_MAX ? NULL : swap_step(node, session, STEP_SWAP_OUT);
    if (!step) return false;
    step->spool_at = session->spool_at = at;
    session->spool_size = size;
    session->swap = SWAP_LEAVING;
    kv_uncount(session->lane.kv);
    node->host->rows_bytes_left += (int64_t)session->kept_bytes;
    compute_submit(node->host->compute, &session->lane, step);
    return true;
}

static uint64_t kv_need(const struct node *node, uint32_t begin, uint32_t end, uint32_t max_tokens) {
    const struct span *span = node->host->span;
    return span_kv_bytes(span_hparams(span), end - begin, span_kv_type(span), max_tokens);
}

static bool has_room(const struct node *node, uint64_t need, uint64_t kept_bytes) {
    return span_kv_bytes_left(node->host->span) >= need && node->host->rows_bytes_left >= (int64_t)kept_bytes;
}

/* With what is free, and what would be without the idle ones. */
static bool could_have(const struct node *node, uint64_t need, uint64_t kept_bytes) {
    uint64_t now_ms = clock_life_ms(), kv = span_kv_bytes_left(node->host->span);
    int64_t kept = node->host->rows_bytes_left;
    for (const struct session *s = each(node, NULL); s; s = each(node, s)) {
        if (!is_idle(s, now_ms)) continue;
        kv += kv_bytes(s->lane.kv);
        kept += (int64_t)s->kept_bytes;
    }
    return kv >= need && kept >= (int64_t)kept_bytes;
}

bool swap_make_room(struct node *node, uint32_t begin, uint32_t end, uint32_t max_tokens, uint64_t kept_bytes) {
    uint64_t need = kv_need(node, begin, end, max_tokens);
    bool sent = false;
    if (node->host->spool_max == 0 || !could_have(node, need, kept_bytes)) return false;
    while (!has_room(node, need, kept_bytes)) {
        struct session *session = find_idle(node, clock_life_ms());
        if (!session || !send_away(node, session)) return false;
        sent = true;
    }
    return sent;
}

/* ---- who comes ------------------------------------------------------------------------------------------------- */

static struct kv *take_room(struct node *node, const struct session *session) {
    const struct lane *lane = &session->lane;
    struct kv *kv = NULL;
    if (has_room(node, kv_need(node, lane->begin, lane->end, session->max_tokens), session->kept_bytes) ||
        swap_make_room(node, lane->begin, lane->end, session->max_tokens, session->kept_bytes))
        kv_open(&kv, node->host->span, lane->begin, lane->end, session->max_tokens, NULL);
    return kv;
}

static bool call(struct node *node, struct session *session) {
    struct kv *kv = take_room(node, session);
    struct step *step = kv ? swap_step(node, session, STEP_SWAP_IN) : NULL;
    if (!step) {
        kv_close(kv);
        return false;
    }
    node->host->rows_bytes_left -= (int64_t)session->kept_bytes;
    node->stats.swaps++;
    step->spool_at = session->spool_at;
    step->kv = kv;
    session->swap = SWAP_COMING;
    compute_submit(node->host->compute, &session->lane, step);
    return true;
}

enum corolla_status swap_call_back(struct node *node, struct session *session, struct corolla_error *err) {
    if (session->swap == SWAP_HERE || session->swap == SWAP_COMING || (session->swap == SWAP_AWAY && call(node, session)))
        return COROLLA_OK;
    /* Who is still leaving goes first: what it was promised may be another's already. */
    return err_set(err, COROLLA_BUSY, "this session was idle, and others have its memory now: try again");
}

/* ---- what became of it ----------------------------------------------------------------------------------------- */

/* It is here after all: what it was promised counts again. */
static void stays(struct node *node, struct session *session) {
    session->swap = SWAP_HERE;
    kv_count(session->lane.kv);
    node->host->rows_bytes_left -= (int64_t)session->kept_bytes;
}

static void went(struct node *node, struct session *session, const struct step *step) {
    if (step->error.status == COROLLA_OK) {
        session->swap = SWAP_AWAY;
        return;
    }
    log_warn("swap.ended why=\"%s\"", step->error.message);
    node->host->spool_max = 0; /* its memory was given away: once is enough */
    stays(node, session);
}

/* The client of one that cannot be read back has it made again. */
static void came(struct node *node, struct session *session, struct step *step) {
    struct corolla_error error;
    session->swap = SWAP_HERE;
    if (step->error.status == COROLLA_OK) return;
    log_warn("swap.lost why=\"%s\"", step->error.message);
    kv_close(step->kv);
    err_set(&error, COROLLA_NO_SESSION, "this server has lost the session: open it again");
    if (!session->closed) node_fail_session(node, session, &error);
}

void swap_done(struct node *node, struct step *step) {
    if (step->kind == STEP_SWAP_OUT)
        went(node, step->session, step);
    else
        came(node, step->session, step);
    node_drop_step(node, step);
}

void swap_give_up(struct node *node, struct step *step) {
    struct session *session = step->session;
    if (step->kind == STEP_SWAP_OUT) {
        stays(node, session);
    } else {
        kv_close(step->kv);
        node->host->rows_bytes_left += (int64_t)session->kept_bytes;
        session->swap = SWAP_AWAY;
    }
    node_drop_step(node, step);
}

/* ---- what is told ---------------------------------------------------------------------------------------------- */

uint64_t swap_tokens(const struct node *node) {
    if (node->host->spool_max == 0) return 0;
    const struct span *span = node->host->span;
    uint64_t now_ms = clock_life_ms(), bytes = 0;
    for (const struct session *s = each(node, NULL); s; s = each(node, s))
        if (is_idle(s, now_ms)) bytes += kv_bytes(s->lane.kv);
    return bytes / span_kv_bytes(span_hparams(span), span_end(span) - span_begin(span), span_kv_type(span), KV_PAD) * KV_PAD;
}

uint32_t swap_count(const struct node *node) {
    uint32_t n = 0;
    for (const struct session *s = each(node, NULL); s; s = each(node, s)) n += s->swap == SWAP_AWAY;
    return n;
}
