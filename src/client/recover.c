/* recover.c - a run goes on after one or several of its servers failed, with the same tokens. See docs/RECOVERY.md.
 *
 *   1. A higher epoch: what is still under way of the old one vanishes.
 *   2. SYNC to all hops: who answers still has the session, and says how far it came. Who does not is lost.
 *   3. Others are chosen for exactly the blocks of the lost ones, and opened. Nobody has them: wait, and ask again.
 *   4. The rows that the new ones lack are sent to them again (rebuild.c).
 *   5. The run goes on where its results end; hops that had come further only send what they have kept.
 *
 * Any of these may fail in its turn: then it begins again. Caller's thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "client/remote.h"

#define REDIAL_MS 500      /* for a hop whose link ended, while others answer */
#define REDIAL_ALL_MS 1500 /* when all links ended: it is likely to be our own network */
#define SYNC_BASE_MS 2000  /* for a hop with a link; a turn that computes ends first */
#define SYNC_FACTOR 5      /* times what its turn takes, by what it says of itself */
#define CHOOSE_MS 3000
#define LOOK_AGAIN_MS 500 /* while nobody has the blocks */
#define BUSY_MS 250       /* before what went wrong a moment ago is tried again */

struct loss { /* for the report */
    char node[NODE_ID_TEXT];
    uint32_t begin, end;
    const char *reason;
};

struct recovery {
    struct remote *remote;
    const struct session_run *run;
    uint64_t deadline_us;
    bool told_waiting;
    bool back; /* the chain was cut off as a whole, and is no more */
    uint32_t n_losses;
    struct loss losses[HOPS_MAX];
    uint32_t n_cuts; /* hops whose links ended; they may come back */
    struct remote_hop *cuts[HOPS_MAX];
    bool stuck;              /* an earlier recovery found all hops there, and the run failed again */
    struct remote_hop *late; /* who holds the run up, and is left if there is another */
};

void recover_raise_epoch(struct remote *remote) {
    pthread_mutex_lock(&remote->peers->lock);
    remote->epoch++;
    remote->failed = remote->fatal = false;
    remote_drop_bodies(remote);
    pthread_mutex_unlock(&remote->peers->lock);
}

/* ---- who is still there ---------------------------------------------------------------------------------------- */

static uint32_t sync_ms(const struct remote_hop *hop) {
    float per_s = hop->peer->info.decode_tokens_per_s;
    return SYNC_BASE_MS + (per_s > 0 ? (uint32_t)(SYNC_FACTOR * REMOTE_CHUNK * 1000.0f / per_s) : 0);
}

/* Whether a hop that is down may have the session still: its link ended, and nothing worse is known. Who is silent while others talk
 * hangs, and so would a dial; it is asked when there is nobody else. */
static bool may_be_there(const struct remote_hop *hop, bool others_talk, bool again) {
    enum corolla_status status = hop->error.status;
    return hop->opened && (status == COROLLA_PEER_LOST || (status == COROLLA_TIMEOUT && (again || !others_talk)));
}

/* Asks all hops that may answer. Afterwards those that are lost are down. again: not for the first time. */
static enum corolla_status find_lost(struct remote *remote, bool again) {
    struct lane *chain = &remote->chain;
    struct remote_hop *linked[HOPS_MAX], *cut[HOPS_MAX];
    uint32_t n_linked = 0, n_cut = 0, longest_ms = 0;
    pthread_mutex_lock(&remote->peers->lock);
    for (uint32_t i = 0; i < chain->n_hops; i++) {
        struct remote_hop *hop = chain->hops[i];
        if (!hop->down)
            linked[n_linked++] = hop;
        else
            cut[n_cut++] = hop;
    }
    uint32_t n_down = n_cut;
    n_cut = 0;
    for (uint32_t i = 0; i < n_down; i++)
        if (may_be_there(cut[i], n_linked > 0, again)) cut[n_cut++] = cut[i];
    pthread_mutex_unlock(&remote->peers->lock);
    for (uint32_t i = 0; i < n_linked; i++)
        if (sync_ms(linked[i]) > longest_ms) longest_ms = sync_ms(linked[i]);
    hops_ask_begin(remote, linked, n_linked);
    hops_ask_begin(remote, cut, n_cut);
    hops_wait(remote, cut, n_cut, n_linked > 0 ? REDIAL_MS : REDIAL_ALL_MS, NULL);
    hops_wait(remote, linked, n_linked, longest_ms, NULL);
    return session_cancelled(&remote->base) ? COROLLA_CANCELLED : COROLLA_OK;
}

/* Those that are down now. The links of one network that is gone do not end at the same time. */
static void note_cuts(struct recovery *r) {
    const struct lane *chain = &r->remote->chain;
    for (uint32_t i = 0; i < chain->n_hops && r->n_cuts < HOPS_MAX; i++) {
        bool known = !hop_down(r->remote, chain->hops[i]);
        for (uint32_t k = 0; k < r->n_cuts; k++) known = known || r->cuts[k] == chain->hops[i];
        if (!known) r->cuts[r->n_cuts++] = chain->hops[i];
    }
}

static void note_loss(struct recovery *r, const struct remote_hop *hop) {
    if (r->n_losses == HOPS_MAX) return;
    struct loss *loss = &r->losses[r->n_losses++];
    *loss = (struct loss){.begin = hop->begin, .end = hop->end, .reason = hop->reason};
    node_id_format(&hop->ref.id, loss->node);
}

/* Who is down is left alone for a while; but when nobody answers, it is likely to be our own network. */
static void blame_lost(struct remote *remote) {
    struct lane *chain = &remote->chain;
    uint32_t n_down = 0;
    for (uint32_t i = 0; i < chain->n_hops; i++) n_down += hop_down(remote, chain->hops[i]);
    if (n_down == chain->n_hops && n_down > 1) return;
    for (uint32_t i = 0; i < chain->n_hops; i++) {
        struct remote_hop *hop = chain->hops[i];
        bool down = hop_down(remote, hop);
        if (down && (!hop->blamed || hop->error.status == COROLLA_NO_SESSION)) hop_blame(remote, hop, hop->error.status);
        hop->blamed = down;
    }
}

/* The first hop that has not computed what was waited for, while the one before has. */
static struct remote_hop *find_late(const struct remote *remote) {
    const struct lane *chain = &remote->chain;
    struct repair_hop hops[HOPS_MAX];
    rebuild_look(remote, hops);
    for (uint32_t i = 0; i < chain->n_hops; i++)
        if (hops[i].valid <= remote->base.position) return chain->hops[i];
    return chain->hops[chain->n_hops - 1];
}

/* All hops are there, and yet the run does not get on: who holds it up is treated as lost, if there is another one. */
static void give_up_one(struct recovery *r, bool timed_out) {
    struct remote *remote = r->remote;
    pthread_mutex_lock(&remote->peers->lock);
    r->late = timed_out || remote->suspect == NULL || remote->suspect->gone ? NULL : remote->suspect;
    pthread_mutex_unlock(&remote->peers->lock);
    if (timed_out) r->late = find_late(remote);
    if (r->late == NULL) return;
    log_info("session.late hop=\"%s\" position=%u", r->late->label, remote->base.position);
    pthread_mutex_lock(&remote->peers->lock);
    if (timed_out)
        hop_fail(r->late, COROLLA_TIMEOUT, "too slow", "a step took too long");
    else
        hop_fail(r->late, COROLLA_PEER_LOST, "connection", "the hop before does not reach it");
    pthread_mutex_unlock(&remote->peers->lock);
}

/* ---- others in their place ------------------------------------------------------------------------------------- */

static void tell(const struct recovery *r, const struct corolla_event *event) {
    const struct corolla_session *session = &r->remote->base;
    log_info("session kind=%d node=%.16s blocks=%u:%u reason=\"%s\" position=%u pause_ms=%.0f why=\"%s\"", (int)event->kind, event->node,
             event->begin, event->end, event->reason != NULL ? event->reason : "", event->position, event->pause_ms,
             event->text != NULL ? event->text : "");
    if (session->on_event != NULL) session->on_event(session->event_user, event);
}

/* Only waiting for servers counts: a replay may take longer, and fail at its end. */
static void wait_from_now(struct recovery *r) { r->deadline_us = clock_us() + (uint64_t)r->remote->base.swarm->wait_ms * 1000; }

/* Nobody has the blocks: waits a moment for the swarm to change. */
static void wait_for_servers(struct recovery *r, uint32_t begin, uint32_t end, const struct corolla_error *why) {
    if (!r->told_waiting)
        tell(r, &(struct corolla_event){
                    .kind = COROLLA_EVENT_WAITING, .begin = begin, .end = end, .text = why->message, .position = r->remote->base.position});
    r->told_waiting = true;
    peers_pause(r->remote->peers, LOOK_AGAIN_MS);
}

static bool all_down(const struct remote *remote) {
    for (uint32_t i = 0; i < remote->chain.n_hops; i++)
        if (!hop_down(remote, remote->chain.hops[i])) return false;
    return true;
}

/* Others for the blocks [begin, end). When the whole chain is down and others can be reached, so can perhaps the old ones, of a network
 * that has come back: then these are asked first. */
static enum corolla_status choose_others(struct recovery *r, uint32_t begin, uint32_t end, struct remote_hop **out_hops, uint32_t *out_n,
                                         struct corolla_error *err) {
    struct remote *remote = r->remote;
    enum corolla_status status = hops_choose(remote, begin, end, CHOOSE_MS, out_hops, out_n, err);
    if (status != COROLLA_OK || r->late != NULL || !all_down(remote)) return status;
    status = find_lost(remote, true);
    r->back = !all_down(remote);
    if (r->back) status = err_set(err, COROLLA_NO_CHAIN, "the servers of the chain can be reached again");
    if (status != COROLLA_OK) hops_drop(remote, out_hops, *out_n);
    return status;
}

/* Chooses and opens servers for the hops [index, index + n) of the chain, and puts them there. */
static enum corolla_status replace(struct recovery *r, uint32_t index, uint32_t n, struct corolla_error *err) {
    struct remote *remote = r->remote;
    struct lane *chain = &remote->chain;
    struct remote_hop *hops[HOPS_MAX], *old[HOPS_MAX];
    uint32_t n_new = 0, begin = chain->hops[index]->begin, end = chain->hops[index + n - 1]->end;
    memcpy(old, &chain->hops[index], n * sizeof(struct remote_hop *));
    enum corolla_status status = choose_others(r, begin, end, hops, &n_new, err);
    if (r->back) return status;
    if (status != COROLLA_OK && old[0]->error.status == COROLLA_REFUSED) { /* such as a member that was revoked: no use in waiting */
        *err = old[0]->error;
        return COROLLA_REFUSED;
    }
    if (status != COROLLA_OK && status != COROLLA_NOMEM)
        status = err_set(err, COROLLA_NO_CHAIN, "%s; no other server has blocks %u:%u now", old[0]->error.message, begin, end);
    if (status != COROLLA_OK) return status;
    pthread_mutex_lock(&remote->peers->lock);
    hops_link(remote, index > 0 ? chain->hops[index - 1] : NULL, hops, n_new);
    pthread_mutex_unlock(&remote->peers->lock);
    status = hops_ask(remote, hops, n_new, remote->base.swarm->timeout_ms, err);
    for (uint32_t i = 0; i < n_new && status != COROLLA_CANCELLED; i++)
        hop_blame(remote, hops[i], hops[i]->down ? hops[i]->error.status : COROLLA_OK);
    if (status == COROLLA_OK && !chain_splice(remote, index, n, hops, n_new))
        status = err_set(err, COROLLA_NO_CHAIN, "a chain has at most %d servers", HOPS_MAX);
    if (status != COROLLA_OK && status != COROLLA_CANCELLED) status = err->status = COROLLA_BUSY; /* the next try takes others */
    if (status != COROLLA_OK) {
        hops_drop(remote, hops, n_new);
        return status;
    }
    for (uint32_t i = 0; i < n; i++) note_loss(r, old[i]);
    hops_drop(remote, old, n);
    return COROLLA_OK;
}

/* All blocks anew: hops that are left may have to take more of them than they do now, or none. */
static enum corolla_status replace_all(struct recovery *r, struct corolla_error *err) {
    struct remote *remote = r->remote;
    struct lane *chain = &remote->chain;
    struct remote_hop *hops[HOPS_MAX], *old[HOPS_MAX];
    uint32_t n = 0, n_old = chain->n_hops;
    memcpy(old, chain->hops, n_old * sizeof(struct remote_hop *));
    enum corolla_status status = choose_others(r, 0, remote->peers->n_blocks, hops, &n, err);
    if (status != COROLLA_OK) return status;
    for (uint32_t i = 0; i < n_old; i++)
        if (hop_down(remote, old[i])) note_loss(r, old[i]);
    hops_drop(remote, old, n_old); /* first: who is a hop again has the session's id free */
    chain_splice(remote, 0, n_old, hops, n);
    status = hops_ask(remote, hops, n, remote->base.swarm->timeout_ms, err);
    for (uint32_t i = 0; i < n && status != COROLLA_CANCELLED; i++)
        hop_blame(remote, hops[i], hops[i]->down ? hops[i]->error.status : COROLLA_OK);
    return status == COROLLA_CANCELLED ? status : COROLLA_OK; /* who did not open is the next loss */
}

/* Replaces all runs of hops that are down; the error of the first that could not be, with its blocks. */
static enum corolla_status replace_lost(struct recovery *r, uint32_t *out_begin, uint32_t *out_end, struct corolla_error *err) {
    struct remote *remote = r->remote;
    const struct lane *chain = &remote->chain;
    struct repair_hop hops[HOPS_MAX];
    uint32_t first = 0, n, before;
    while (rebuild_look(remote, hops), repair_next_gap(hops, chain->n_hops, &first, &n)) {
        *out_begin = chain->hops[first]->begin;
        *out_end = chain->hops[first + n - 1]->end;
        before = chain->n_hops;
        enum corolla_status status = replace(r, first, n, err);
        if (status != COROLLA_OK) return status;
        first += n + chain->n_hops - before;
    }
    return COROLLA_OK;
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

/* A hop that was only cut off, and came back with its session. */
static void note_return(struct recovery *r, const struct remote_hop *hop, const char *reason) {
    if (r->n_losses == HOPS_MAX) return;
    struct loss *loss = &r->losses[r->n_losses++];
    *loss = (struct loss){.begin = hop->begin, .end = hop->end, .reason = reason};
    node_id_format(&hop->ref.id, loss->node);
}

static void note_returns(struct recovery *r) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->n_cuts; i++) n += !r->cuts[i]->gone;
    for (uint32_t i = 0; i < r->n_cuts; i++)
        if (!r->cuts[i]->gone) note_return(r, r->cuts[i], n == r->remote->chain.n_hops ? "own network" : "connection");
}

static void report(struct recovery *r) {
    struct remote *remote = r->remote;
    bool exact = chain_remember(remote);
    note_returns(r);
    for (uint32_t i = 0; i < r->n_losses; i++) {
        struct corolla_event event = {.kind = COROLLA_EVENT_RECOVERED,
                                      .begin = r->losses[i].begin,
                                      .end = r->losses[i].end,
                                      .reason = r->losses[i].reason,
                                      .position = remote->base.position,
                                      .pause_ms = (double)(clock_us() - remote->landed_us) / 1000,
                                      .exact = exact};
        snprintf(event.node, sizeof event.node, "%s", r->losses[i].node);
        tell(r, &event);
    }
}

/* One try: sync, replace, rebuild. */
static enum corolla_status try_once(struct recovery *r, bool timed_out, bool again, struct corolla_error *err) {
    struct remote *remote = r->remote;
    uint32_t begin = 0, end = 0;
    recover_raise_epoch(remote);
    r->back = false;
    note_cuts(r);
    if (find_lost(remote, again) != COROLLA_OK) return session_cancel_error(err);
    note_cuts(r);
    bool all_there = true;
    for (uint32_t i = 0; i < remote->chain.n_hops; i++) all_there = all_there && !hop_down(remote, remote->chain.hops[i]);
    if (all_there && (timed_out || r->stuck)) {
        give_up_one(r, timed_out);
        all_there = r->late == NULL;
    }
    if (!all_there) {
        blame_lost(remote);
        enum corolla_status status = replace_lost(r, &begin, &end, err);
        if (status == COROLLA_BUSY) return status;
        if (status != COROLLA_OK && r->late != NULL) { /* better a slow one than none */
            pthread_mutex_lock(&remote->peers->lock);
            r->late->down = false;
            pthread_mutex_unlock(&remote->peers->lock);
            r->late = NULL;
            return rebuild(remote, r->run, err);
        }
        if (status != COROLLA_OK && status != COROLLA_CANCELLED && !r->back && replace_all(r, NULL) == COROLLA_OK) status = COROLLA_OK;
        if (r->back) return COROLLA_NO_CHAIN; /* the next try goes on with them */
        if (status != COROLLA_OK && status != COROLLA_CANCELLED && status != COROLLA_REFUSED) wait_for_servers(r, begin, end, err);
        if (status != COROLLA_OK) return status;
        r->late = NULL;
        wait_from_now(r);
        if (find_lost(remote, again) != COROLLA_OK) return session_cancel_error(err); /* they have other neighbours now */
        for (uint32_t i = 0; i < remote->chain.n_hops; i++)
            if (hop_down(remote, remote->chain.hops[i])) return err_set(err, COROLLA_NO_CHAIN, "%s", remote->chain.hops[i]->error.message);
    }
    return rebuild(remote, r->run, err);
}

/* A hop could not take a step right now: to ask again at once is of no use. */
static bool step_busy(const struct remote *remote) {
    pthread_mutex_lock(&remote->peers->lock);
    bool busy = remote->failed && remote->error.status == COROLLA_BUSY;
    pthread_mutex_unlock(&remote->peers->lock);
    return busy;
}

static bool is_fatal(const struct remote *remote) {
    pthread_mutex_lock(&remote->peers->lock);
    bool fatal = remote->failed && remote->fatal;
    pthread_mutex_unlock(&remote->peers->lock);
    return fatal;
}

enum corolla_status recover(struct remote *remote, const struct session_run *run, bool stuck, struct corolla_error *err) {
    struct recovery r = {.remote = remote, .run = run, .stuck = stuck && err->status == COROLLA_PEER_LOST};
    wait_from_now(&r);
    struct corolla_error first = *err;
    handover_end(remote);
    if (stuck || first.status == COROLLA_BUSY || first.status == COROLLA_NOMEM) peers_pause(remote->peers, BUSY_MS);
    bool timed_out = first.status == COROLLA_TIMEOUT;
    for (bool again = false;; again = true) {
        struct corolla_error error = {.status = COROLLA_OK};
        enum corolla_status status = try_once(&r, timed_out, again, &error);
        if (status == COROLLA_OK) break;
        timed_out = status == COROLLA_TIMEOUT;
        if (status == COROLLA_CANCELLED || status == COROLLA_NOMEM || status == COROLLA_REFUSED || is_fatal(remote)) {
            *err = error;
            return status;
        }
        if (clock_us() >= r.deadline_us) {
            *err = error.status != COROLLA_OK ? error : first;
            return err->status;
        }
        if (step_busy(remote)) peers_pause(remote->peers, BUSY_MS);
    }
    report(&r);
    return COROLLA_OK;
}
