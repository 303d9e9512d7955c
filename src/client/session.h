/* session.h - the public session object: what all kinds share, and the table of functions that makes one local or remote.
 *
 * A kind embeds struct corolla_session as its first member and allocates it. session.c checks arguments, counts time and knows
 * what stands at the positions; together.c does that for several sessions at once; a kind computes. One thread at a time per session;
 * cancelled alone may be set by any thread or signal handler.
 */
#ifndef COROLLA_CLIENT_SESSION_H
#define COROLLA_CLIENT_SESSION_H

#include <stdatomic.h>

#include "handle/model.h"
#include "wire/msg.h"

/* What a session will begin with; all zeros: nothing is known of it. */
struct session_prompt {
    const int32_t *tokens;
    size_t n;
};

/* n rows at position, out of tokens or of hidden states. */
struct session_run {
    const struct corolla_session *parent; /* NULL, or: the positions [shared, position) become a copy of this one's before */
    uint32_t shared;
    uint32_t position, n;
    const int32_t *tokens; /* [n], or NULL: */
    const float *hidden;   /* [n, n_embd] */
    float *out;            /* the last n_rows rows of the output, [n_rows, n_embd] */
    uint32_t n_rows;
    corolla_progress_fn progress; /* rows done of n; may be NULL */
    void *user;
};

struct session_ops {
    /* Runs them all, in chunks of the kind's own size, looks at session->cancelled between them, and keeps session->position equal to
     * the number of positions that are filled, also when it fails; the error of the first that failed. session->tokens is that of the
     * runs already. Adds to session->timings. */
    enum corolla_status (*step)(struct corolla_session *const *sessions, const struct session_run *runs, size_t n,
                                struct corolla_error *err);
    /* hidden [n, n_embd] -> logits [n, n_vocab]. */
    enum corolla_status (*logits)(struct corolla_session *session, const float *hidden, uint32_t n, float *out, struct corolla_error *err);
    /* Another session that holds the same positions. */
    enum corolla_status (*fork)(struct corolla_session **out_session, struct corolla_session *session, struct corolla_error *err);
    /* Frees the session. */
    void (*close)(struct corolla_session *session);
};

struct corolla_session {
    const struct session_ops *ops;
    struct corolla_swarm *swarm; /* borrowed, like: */
    struct corolla_model *model;
    uint32_t n_embd, n_vocab;
    uint32_t max_tokens;
    uint32_t position; /* positions that are filled */
    int32_t *tokens;   /* [max_tokens]: what stands at each of them, or TOKEN_HIDDEN */
    atomic_bool cancelled;
    uint32_t n_timings, total_us; /* of the last step */
    struct hop_timing timings[HOPS_MAX];
    corolla_event_fn on_event; /* NULL: nobody listens */
    void *event_user;
};

#define TOKEN_HIDDEN (-1) /* a row of hidden states */

/* Fills what all kinds share. False: no memory. */
bool session_init(struct corolla_session *session, const struct session_ops *ops, struct corolla_swarm *swarm, uint32_t max_tokens);
void session_release(struct corolla_session *session);
/* Whether a run may be; its session holds the positions before it, or its parent does. */
enum corolla_status session_check(const struct corolla_session *session, const struct session_run *run, struct corolla_error *err);
/* Remembers what a run puts at its positions. */
void session_remember(struct corolla_session *session, const struct session_run *run);
/* corolla_session_step and _step_hidden in one, with progress. */
enum corolla_status session_step(struct corolla_session *session, const struct session_run *run, struct corolla_error *err);
bool session_cancelled(const struct corolla_session *session);
/* Fills err for a cancelled call. */
enum corolla_status session_cancel_error(struct corolla_error *err);
/* Which of the n rows at offset `begin` of a run are asked for: their number, and in *out_at the row of run->out that is first. */
uint32_t session_rows_wanted(const struct session_run *run, uint32_t begin, uint32_t n, uint32_t *out_at);

#endif
