/* sessions.c - see sessions.h. */
#include "node/sessions.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"

/* ---- table ----------------------------------------------------------------------------------------------------- */

/* Ids are random; who picks colliding ones slows down a walk of at most SESSIONS_MAX. */
static uint32_t bucket_of(const uint8_t id[SESSION_SIZE]) { return le32_get(id) % SESSIONS_BUCKETS; }

struct session *sessions_find(const struct sessions *table, const uint8_t id[SESSION_SIZE]) {
    struct session *s = table->buckets[bucket_of(id)];
    while (s && memcmp(s->id, id, SESSION_SIZE) != 0) s = s->chain;
    return s;
}

/* Of a client, or a free one; there is one, when there is for a session. */
static uint32_t place_of(const struct sessions *table, const struct node_id *client) {
    uint32_t place = SESSIONS_MAX;
    for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
        const struct sessions_client *c = &table->clients[i];
        if (c->n > 0 && memcmp(c->key, client->key, KEY_SIZE) == 0) return i;
        if (c->n == 0 && place == SESSIONS_MAX) place = i;
    }
    return place;
}

void sessions_add(struct sessions *table, struct session *session) {
    uint32_t place = place_of(table, &session->client);
    if (table->clients[place].n == 0) table->clients[place].rows = 0;
    memcpy(table->clients[place].key, session->client.key, KEY_SIZE);
    table->clients[place].n++;
    table->clients[place].tokens += session->max_tokens;
    session->lane.client = place;
    struct session **bucket = &table->buckets[bucket_of(session->id)];
    session->chain = *bucket;
    *bucket = session;
    table->n++;
}

bool sessions_remove(struct sessions *table, struct session *session) {
    struct session **at = &table->buckets[bucket_of(session->id)];
    while (*at != session) at = &(*at)->chain;
    *at = session->chain;
    session->chain = NULL;
    table->clients[session->lane.client].n--;
    table->clients[session->lane.client].tokens -= session->max_tokens;
    table->n--;
    return table->clients[session->lane.client].n == 0;
}

struct session *sessions_each(const struct sessions *table, const struct session *last) {
    if (last && last->chain) return last->chain;
    for (uint32_t i = last ? bucket_of(last->id) + 1 : 0; i < SESSIONS_BUCKETS; i++)
        if (table->buckets[i]) return table->buckets[i];
    return NULL;
}

/* ---- checks ---------------------------------------------------------------------------------------------------- */

static bool secret_equal(const uint8_t a[SECRET_SIZE], const uint8_t b[SECRET_SIZE]) {
    uint8_t differs = 0; /* takes the same time wherever they differ */
    for (size_t i = 0; i < SECRET_SIZE; i++) differs |= (uint8_t)(a[i] ^ b[i]);
    return differs == 0;
}

enum corolla_status sessions_check_open(const struct sessions *table, const struct session_limits *limits, const struct msg_open *open,
                                        const struct node_id *client, struct corolla_error *err) {
    if (limits->begin >= limits->end) return err_set(err, COROLLA_BUSY, "this server is still loading its blocks: try again later");
    if (limits->draining)
        return err_set(err, COROLLA_DRAINING, "this server takes no new sessions, it is paused or leaves: choose another one");
    if (memcmp(open->model, limits->model, ID_SIZE) != 0)
        return err_set(err, COROLLA_MODEL_MISMATCH, "this server hosts another model, of which it holds blocks %u:%u", limits->begin,
                       limits->end);
    if (open->begin >= open->end || open->begin < limits->begin || open->end > limits->end)
        return err_set(err, COROLLA_NOT_SERVED, "blocks %u:%u are not served here, %u:%u are", open->begin, open->end, limits->begin,
                       limits->end);
    if (open->max_tokens == 0) return err_set(err, COROLLA_INVALID, "a session has at least one token");
    if (open->max_tokens > limits->max_tokens)
        return err_set(err, COROLLA_TOO_LONG, "a session of %u tokens is too long, %u are possible here", open->max_tokens,
                       limits->max_tokens);
    if (sessions_find(table, open->session)) return err_set(err, COROLLA_REFUSED, "this session id is in use: choose a random one");
    if (table->n >= SESSIONS_MAX)
        return err_set(err, COROLLA_BUSY, "all %d sessions of this server are in use: try again later", SESSIONS_MAX);
    if (table->clients[place_of(table, client)].n >= SESSIONS_PER_CLIENT_MAX)
        return err_set(err, COROLLA_BUSY, "a client has at most %d sessions here: close one", SESSIONS_PER_CLIENT_MAX);
    return COROLLA_OK;
}

static bool trusts(const struct sessions_quota *quota, const struct node_id *client) {
    for (size_t i = 0; i < quota->n_trusted; i++)
        if (memcmp(quota->trusted[i], client->key, KEY_SIZE) == 0) return true;
    return false;
}

static uint32_t count_clients(const struct sessions *table) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < SESSIONS_MAX; i++) n += table->clients[i].n > 0;
    return n;
}

enum corolla_status sessions_check_rows(const struct sessions *table, const struct session_limits *limits, const struct session *session,
                                        uint32_t n, struct corolla_error *err) {
    const struct sessions_client *client = &table->clients[session->lane.client];
    if (client->rows + n <= CLIENT_ROWS_MAX || trusts(&limits->quota, &session->client)) return COROLLA_OK;
    return err_set(err, COROLLA_BUSY, "one client may have %u tokens under way here, and you have %llu: try again", CLIENT_ROWS_MAX,
                   (unsigned long long)client->rows);
}

void sessions_rows_came(struct sessions *table, const struct session *session, uint32_t n) {
    table->clients[session->lane.client].rows += n;
}

/* Steps may outlive their session, whose client's place may be another one's by then, or begin anew. */
void sessions_rows_went(struct sessions *table, const struct session *session, uint32_t n) {
    struct sessions_client *client = &table->clients[session->lane.client];
    if (memcmp(client->key, session->client.key, KEY_SIZE) == 0) client->rows -= n < client->rows ? n : client->rows;
}

static enum corolla_status check_address(const struct sessions *table, uint64_t tokens_max, const struct msg_open *open, const char *host,
                                         struct corolla_error *err) {
    uint32_t n = 0, max = QUOTA_ADDRESS * SESSIONS_PER_CLIENT_MAX;
    uint64_t tokens = 0;
    for (struct session *s = sessions_each(table, NULL); s; s = sessions_each(table, s)) {
        if (strcmp(s->host, host) != 0) continue;
        n++;
        tokens += s->max_tokens;
    }
    if (n >= max) return err_set(err, COROLLA_BUSY, "one address has at most %u sessions here, and yours has them: try again later", max);
    if (tokens + open->max_tokens > tokens_max)
        return err_set(err, COROLLA_BUSY, "one address may hold %llu tokens of cache here, and yours holds %llu: try again later",
                       (unsigned long long)tokens_max, (unsigned long long)tokens);
    return COROLLA_OK;
}

enum corolla_status sessions_check_quota(const struct sessions *table, const struct session_limits *limits, const struct msg_open *open,
                                         const struct node_id *client, const char *host, struct corolla_error *err) {
    const struct sessions_quota *quota = &limits->quota;
    const struct sessions_client *has = &table->clients[place_of(table, client)];
    if (trusts(quota, client)) return COROLLA_OK;
    if (quota->max_clients > 0 && has->n == 0 && count_clients(table) >= quota->max_clients)
        return err_set(err, COROLLA_BUSY, "this server takes %u clients at once, and so many are here: try again later",
                       quota->max_clients);
    uint64_t max = limits->cache_tokens * (quota->client_percent > 0 ? quota->client_percent : 100) / 100;
    uint64_t tokens = has->n > 0 ? has->tokens : 0, address_max = QUOTA_ADDRESS * max;
    if (open->max_tokens > max)
        return err_set(err, COROLLA_TOO_LONG, "one client may hold %llu tokens of cache here, a session of %u is too long",
                       (unsigned long long)max, open->max_tokens);
    if (tokens + open->max_tokens > max && quota->client_percent > 0)
        return err_set(err, COROLLA_BUSY,
                       "one client may hold %llu tokens of cache here, and you hold %llu: close a session or ask for a shorter one",
                       (unsigned long long)max, (unsigned long long)tokens);
    if (host[0] == '\0') return COROLLA_OK;
    return check_address(table, address_max < limits->cache_tokens ? address_max : UINT64_MAX, open, host, err);
}

struct session *sessions_find_parent(const struct sessions *table, const struct msg_open *open, const struct node_id *client) {
    struct session *s = sessions_find(table, open->parent);
    bool fits = s && node_id_equal(client, &s->client) && secret_equal(s->secret, open->parent_secret) && s->lane.begin == open->begin &&
                s->lane.end == open->end;
    return fits ? s : NULL;
}

bool sessions_is_party(const struct session *session, const struct node_id *sender) {
    return node_id_equal(sender, &session->client) || (session->has_upstream && node_id_equal(sender, &session->upstream));
}

static enum corolla_status check_right(const struct session *session, const struct msg_step *step, const struct node_id *sender,
                                       struct corolla_error *err) {
    if (!sessions_is_party(session, sender))
        return err_set(err, COROLLA_REFUSED, "steps of this session come from its client or the hop before");
    if (!secret_equal(session->secret, step->secret)) return err_set(err, COROLLA_REFUSED, "the secret of the session is wrong");
    if (!node_id_equal(&step->client, &session->client)) return err_set(err, COROLLA_REFUSED, "the session belongs to another client");
    return COROLLA_OK;
}

static enum corolla_status check_epoch(const struct session *session, uint32_t epoch, struct corolla_error *err) {
    return epoch < session->epoch ? err_set(err, COROLLA_STALE, "epoch %u is over, %u runs", epoch, session->epoch) : COROLLA_OK;
}

static enum corolla_status check_numbers(const struct session *session, const struct msg_step *step, struct corolla_error *err) {
    if (step->n_tokens == 0 || step->n_tokens > BATCH_ROWS_MAX)
        return err_set(err, COROLLA_INVALID, "a step of %u tokens: 1 to %d are possible here", step->n_tokens, BATCH_ROWS_MAX);
    if (step->n_rows > step->n_tokens)
        return err_set(err, COROLLA_INVALID, "%u rows are asked of a step of %u tokens", step->n_rows, step->n_tokens);
    if (session->lane.kept && step->dtype != session->wire)
        return err_set(err, COROLLA_INVALID, "the session keeps rows of the type that OPEN named: its steps have no other");
    return COROLLA_OK;
}

static enum corolla_status check_room(const struct session *session, const struct msg_step *step, struct corolla_error *err) {
    if (session->n_steps >= SESSION_STEPS_MAX && step->epoch == session->epoch)
        return err_set(err, COROLLA_BUSY, "%d steps of this session are under way here: wait for results", SESSION_STEPS_MAX);
    return COROLLA_OK;
}

enum corolla_status sessions_check_step(const struct session *session, const struct session_limits *limits, const struct msg_step *step,
                                        const struct node_id *sender, size_t body_size, struct corolla_error *err) {
    enum corolla_status status = check_right(session, step, sender, err);
    if (status == COROLLA_OK) status = check_epoch(session, step->epoch, err);
    if (status == COROLLA_OK) status = check_numbers(session, step, err);
    if (status != COROLLA_OK) return status;
    size_t size = (size_t)step->n_tokens * limits->n_embd * msg_wire_size(step->dtype); /* at most 256 * 32,768 * 4 */
    if (body_size != size)
        return err_set(err, COROLLA_FORMAT, "a step of %u tokens into block %u has %zu bytes, not %zu", step->n_tokens, session->lane.begin,
                       size, body_size);
    uint32_t from = step->has_parent ? step->shared : step->position;
    if (from > session->expected)
        return err_set(err, COROLLA_BAD_POSITION, "blocks %u:%u expect position %u or lower, not %u", session->lane.begin,
                       session->lane.end, session->expected, from);
    if (step->n_tokens > session->max_tokens - step->position)
        return err_set(err, COROLLA_TOO_LONG, "%u tokens at position %u do not fit the session's %u: open a longer one", step->n_tokens,
                       step->position, session->max_tokens);
    return check_room(session, step, err);
}

/* Who has the ids of two sessions of one client is that client, or a hop of both, which could just as well compute wrong rows: no secret of
 * the parent is asked for. A client that is told so computes the rows itself. */
enum corolla_status sessions_check_parent(const struct sessions *table, const struct session *session, const struct msg_step *step,
                                          struct corolla_error *err) {
    const struct session *parent = sessions_find(table, step->parent);
    if (parent && parent != session && node_id_equal(&parent->client, &session->client) && parent->lane.begin == session->lane.begin &&
        parent->lane.end == session->lane.end)
        return COROLLA_OK;
    return err_set(err, COROLLA_BAD_POSITION, "there is no such session here to copy positions %u to %u from", step->shared,
                   step->position);
}

enum corolla_status sessions_check_replay(const struct session *session, const struct msg_step *step, const struct node_id *sender,
                                          struct corolla_error *err) {
    if (!node_id_equal(sender, &session->client)) return err_set(err, COROLLA_REFUSED, "replays of this session come from its client");
    enum corolla_status status = check_right(session, step, sender, err);
    if (status == COROLLA_OK) status = check_epoch(session, step->epoch, err);
    if (status == COROLLA_OK) status = check_numbers(session, step, err);
    if (status != COROLLA_OK) return status;
    if (step->has_parent) return err_set(err, COROLLA_INVALID, "a replay has no parent");
    if (step->n_hops == 0) return err_set(err, COROLLA_INVALID, "a replay needs a next hop that takes the rows");
    uint32_t kept = session->lane.kept ? row_log_length(session->lane.kept) : 0;
    if (step->position > kept || step->n_tokens > kept - step->position)
        return err_set(err, COROLLA_BAD_POSITION, "the output of blocks %u:%u is kept for %u positions, not for %u at %u",
                       session->lane.begin, session->lane.end, kept, step->n_tokens, step->position);
    return check_room(session, step, err);
}

enum corolla_status sessions_check_sync(const struct session *session, const struct msg_sync *sync, const struct node_id *sender,
                                        struct corolla_error *err) {
    if (!node_id_equal(sender, &session->client)) return err_set(err, COROLLA_REFUSED, "the session belongs to another client");
    if (!secret_equal(session->secret, sync->secret)) return err_set(err, COROLLA_REFUSED, "the secret of the session is wrong");
    return check_epoch(session, sync->epoch, err);
}

bool sessions_check_close(const struct session *session, const struct msg_close *close, const struct node_id *sender) {
    return node_id_equal(sender, &session->client) && secret_equal(session->secret, close->secret);
}

/* ---- sessions without their client ----------------------------------------------------------------------------- */

bool sessions_is_over(const struct session *session, uint64_t now_ms) { return !session->link && now_ms - session->lost_ms >= LEASE_MS; }

bool sessions_is_active(const struct session *session, uint64_t now_ms) {
    return session->n_steps > 0 || (session->used_ms > 0 && now_ms - session->used_ms < ACTIVE_MS);
}

struct session *sessions_find_orphan(const struct sessions *table, enum corolla_status refusal, const struct node_id *client) {
    if (refusal != COROLLA_NO_CACHE && refusal != COROLLA_BUSY) return NULL;
    bool any = refusal == COROLLA_NO_CACHE || table->n >= SESSIONS_MAX; /* else the client has too many of its own */
    struct session *first = NULL;
    for (struct session *s = sessions_each(table, NULL); s; s = sessions_each(table, s)) {
        if (s->link || s->n_steps > 0 || (!any && memcmp(s->client.key, client->key, KEY_SIZE) != 0)) continue;
        if (refusal == COROLLA_NO_CACHE && s->swap != SWAP_HERE) continue; /* it has no memory */
        if (!first || s->lost_ms < first->lost_ms) first = s;
    }
    return first;
}
