/* corolla.h - run large language models across the machines of many people.
 *
 * This header is the whole public API: the command line program is written against it and nothing else.
 *
 *   model    a GGUF file, known by its model id (a Merkle root over its tensors and hyperparameters)
 *   swarm    how the blocks of a model are reached: servers over the network, or this process ("local")
 *   session  one generation state: KV caches on every hop of a chain of servers
 *   server   a node that hosts a span of blocks for others
 *
 * Conventions
 *   Errors    Functions that can fail return a status and fill *err, which may be NULL. On failure the outputs
 *             are untouched and the object stays usable, unless a comment says otherwise.
 *   Threads   An object may be used by one thread at a time; different objects by different threads at once.
 *             Only functions marked "any thread" may be called while another call on the object is running.
 *   Memory    Whatever *_open or *_start returned is given back by *_close or *_stop, which accept NULL.
 *             Pointers that a getter returns live as long as the object, unless a comment says otherwise.
 *   Units     Positions and lengths are counted in tokens; hidden states are rows of n_embd 32-bit floats.
 */
#ifndef COROLLA_H
#define COROLLA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define COROLLA_VERSION "0.1.0"
#define COROLLA_API __attribute__((visibility("default")))

/* Status codes: X(NAME, message). Numbers also travel on the wire (docs/PROTOCOL.md), so they are only appended. */
#define COROLLA_STATUS_MAP(X)                                                                                                              \
    X(OK, "success")                                                                                                                       \
    X(INVALID, "invalid argument")                                                                                                         \
    X(NOMEM, "out of memory")                                                                                                              \
    X(IO, "input or output failed")                                                                                                        \
    X(NOT_FOUND, "not found")                                                                                                              \
    X(FORMAT, "malformed file or message")                                                                                                 \
    X(UNSUPPORTED, "not supported")                                                                                                        \
    X(MODEL_MISMATCH, "the models differ")                                                                                                 \
    X(BUSY, "busy, try again later")                                                                                                       \
    X(NO_CACHE, "no KV cache left")                                                                                                        \
    X(NOT_SERVED, "block is not served here")                                                                                              \
    X(NO_SESSION, "unknown session")                                                                                                       \
    X(BAD_POSITION, "step out of order")                                                                                                   \
    X(TOO_LONG, "past the length of the session")                                                                                          \
    X(PEER_LOST, "connection to a peer was lost")                                                                                          \
    X(PEER_FAULT, "a peer broke the protocol")                                                                                             \
    X(TIMEOUT, "deadline passed")                                                                                                          \
    X(REFUSED, "refused")                                                                                                                  \
    X(NO_CHAIN, "no chain of servers covers all blocks")                                                                                   \
    X(VERSION_MISMATCH, "no common protocol version")                                                                                      \
    X(CANCELLED, "cancelled")                                                                                                              \
    X(DRAINING, "the server is leaving")                                                                                                   \
    X(STALE, "an older epoch")                                                                                                             \
    X(INTERNAL, "internal error")

enum corolla_status {
#define X(name, message) COROLLA_##name,
    COROLLA_STATUS_MAP(X)
#undef X
        COROLLA_STATUS_COUNT
};

struct corolla_error {
    enum corolla_status status;
    char message[512]; /* one line: what failed, which peer or block, what to do */
};

/* The name of a status, for example "NO_CACHE", and its message. Never NULL. */
COROLLA_API const char *corolla_status_name(enum corolla_status status);
COROLLA_API const char *corolla_status_message(enum corolla_status status);

/* Logging. One sink per process; the default writes "level message key=value" lines to stderr. */
enum corolla_log_level { COROLLA_LOG_ERROR, COROLLA_LOG_WARN, COROLLA_LOG_INFO, COROLLA_LOG_DEBUG };
COROLLA_API void corolla_log_set(enum corolla_log_level level, void (*sink)(void *user, enum corolla_log_level level, const char *line),
                                 void *user);

/* Progress of long work such as hashing a file: done of total bytes. */
typedef void (*corolla_progress_fn)(void *user, const char *what, uint64_t done, uint64_t total);

/* ---- model ---------------------------------------------------------------------------------------------------- */

struct corolla_model;

struct corolla_model_info {
    const char *name;         /* general.name of the file, or its file name */
    const char *architecture; /* "llama", "qwen2", ... */
    char model_id[65];        /* hex */
    uint32_t n_blocks;
    uint32_t n_embd;
    uint32_t n_vocab;
    uint32_t n_ctx_train;
};

/* Opens a GGUF file: maps it, checks every offset, size, type and shape, finds its model id (computed once per file and
 * cached). Weights are not read yet. Fails with NOT_FOUND, FORMAT or UNSUPPORTED. */
COROLLA_API enum corolla_status corolla_model_open(struct corolla_model **out_model, const char *path, corolla_progress_fn progress,
                                                   void *user, struct corolla_error *err);
COROLLA_API void corolla_model_close(struct corolla_model *model);
COROLLA_API const struct corolla_model_info *corolla_model_info(const struct corolla_model *model);

/* A family of models that runs here. */
struct corolla_family {
    const char *architecture; /* general.architecture in its files */
    const char *models;       /* what it is known for */
    char traits[256];         /* "RMS norm, RoPE, gated, SiLU" */
};
/* False: there are not so many. */
COROLLA_API bool corolla_family_at(size_t index, struct corolla_family *out);

/* Text to token ids. add_special adds the BOS that the model asks for; parse_special reads "<|...|>" as control tokens.
 * *out_tokens is owned by the caller and given back with corolla_free(). */
COROLLA_API enum corolla_status corolla_tokenize(struct corolla_model *model, const char *text, size_t text_size, bool add_special,
                                                 bool parse_special, int32_t **out_tokens, size_t *out_count, struct corolla_error *err);
/* Token ids to UTF-8 text, NUL-terminated; give back with corolla_free(). */
COROLLA_API enum corolla_status corolla_detokenize(struct corolla_model *model, const int32_t *tokens, size_t count, char **out_text,
                                                   struct corolla_error *err);
COROLLA_API void corolla_free(void *memory);

struct corolla_chat_message {
    const char *role; /* "system", "user" or "assistant" */
    const char *content;
};
/* Applies the model's chat template, or tmpl (a name that libllama knows, such as "chatml") when it is not NULL. */
COROLLA_API enum corolla_status corolla_chat_format(struct corolla_model *model, const char *tmpl,
                                                    const struct corolla_chat_message *messages, size_t count, bool add_assistant,
                                                    char **out_text, struct corolla_error *err);

/* What a member of a private swarm may do. */
enum corolla_role { COROLLA_ROLE_CLIENT = 1, COROLLA_ROLE_SERVER = 2 /* a client as well */ };

/* ---- swarm: where the blocks are ------------------------------------------------------------------------------- */

struct corolla_swarm;

enum corolla_wire { COROLLA_WIRE_F32, COROLLA_WIRE_F16, COROLLA_WIRE_BF16 };
enum corolla_kv { COROLLA_KV_F16, COROLLA_KV_F32, COROLLA_KV_Q8_0 }; /* with Q8_0 nothing is exact */

struct corolla_swarm_config {
    const char *const *joins; /* entries of the swarm: join codes, or HOST or HOST:PORT; may be none; ignored when local */
    size_t n_joins;
    bool lan;           /* look for servers on the local network */
    bool local;         /* all blocks in this process */
    uint32_t threads;   /* compute threads of this process; 0: one per core when local, else 1 */
    enum corolla_kv kv; /* local only */
    enum corolla_wire wire;
    bool exact;          /* refuse a chain that is not exact */
    bool fast;           /* kernels that are faster and not exact, a choice of the whole process */
    const char *device;  /* ggml device names with commas between, each perhaps with =MIB, the most of its memory to take; NULL: CPU */
    const char *home;    /* identity folder; NULL: COROLLA_HOME or the user's data folder */
    uint32_t timeout_ms; /* for connecting and opening; 0: 10 s */
    uint32_t wait_ms;    /* how long a session waits when nobody has some block any more, or room for it as it opens; 0: 60 s */
    uint32_t hang_ms;    /* a server that is silent for so long hangs; 0: 4 s */
};
COROLLA_API void corolla_swarm_config_default(struct corolla_swarm_config *config);
COROLLA_API enum corolla_status corolla_swarm_open(struct corolla_swarm **out_swarm, struct corolla_model *model,
                                                   const struct corolla_swarm_config *config, struct corolla_error *err);
COROLLA_API void corolla_swarm_close(struct corolla_swarm *swarm);

struct corolla_hop {
    char node[80]; /* node id: hex of the key, with "/N" for the Nth process of one home */
    char name[64];
    uint32_t begin, end;                             /* blocks [begin, end) */
    float decode_tokens_per_s, prefill_tokens_per_s; /* as the server measured itself, over its span; 0: not known */
    bool exact;
};
/* The chain that sessions of this swarm take now. Returns the number of hops; writes at most max of them. Local: one hop. */
COROLLA_API size_t corolla_swarm_chain(struct corolla_swarm *swarm, struct corolla_hop *out_hops, size_t max);
/* True when positions have the same bits through any exact chain of this arithmetic class. */
COROLLA_API bool corolla_swarm_exact(struct corolla_swarm *swarm);

/* ---- view: a swarm from outside ---------------------------------------------------------------------------------- */

struct corolla_view;

struct corolla_view_config {
    const char *const *joins; /* as in struct corolla_swarm_config */
    size_t n_joins;
    bool lan;
    const char *home;
    uint32_t timeout_ms; /* 0: 10 s */
};
COROLLA_API void corolla_view_config_default(struct corolla_view_config *config);
/* Joins a swarm and waits until it told what it has. No model file is needed. Fails when nobody was found, and says what was tried. */
COROLLA_API enum corolla_status corolla_view_open(struct corolla_view **out_view, const struct corolla_view_config *config,
                                                  struct corolla_error *err);
COROLLA_API void corolla_view_close(struct corolla_view *view);

struct corolla_view_server {
    char node[80], name[64], version[64];
    char model_id[65], model_name[64];
    char state[16]; /* joining, loading, online, draining, suspected */
    uint32_t n_blocks, begin, end;
    float decode_tokens_per_s, prefill_tokens_per_s; /* over its span, as it says itself; 0: not known */
    uint64_t cache_tokens_left;
    uint32_t sessions;
    uint32_t rtt_us; /* 0: not measured; corolla_view_chain() measures those that it may use */
    bool exact;
};
/* All servers now, by model and place. Give back with corolla_free(). */
COROLLA_API enum corolla_status corolla_view_servers(struct corolla_view *view, struct corolla_view_server **out_servers, size_t *out_count,
                                                     struct corolla_error *err);
#define COROLLA_HOPS_MAX 64
/* The chain that a client here would take, and what it expects of it. NO_CHAIN names the blocks that are missing. */
COROLLA_API enum corolla_status corolla_view_chain(struct corolla_view *view, const char *model_id, uint32_t n_blocks,
                                                   struct corolla_hop out_hops[COROLLA_HOPS_MAX], size_t *out_count,
                                                   float *out_tokens_per_s, struct corolla_error *err);
/* Tells a server to take no new sessions, or to take them again. node: the beginning of its id. REFUSED unless this home is the server's.
 */
COROLLA_API enum corolla_status corolla_view_pause(struct corolla_view *view, const char *node, bool paused, struct corolla_error *err);

/* ---- session --------------------------------------------------------------------------------------------------- */

struct corolla_session;

/* Reserves KV for max_tokens positions on every hop. When no server has room, or some block, it waits for the swarm's wait_ms; the error is
 * then the last one: NO_CACHE says how much is left and where. */
COROLLA_API enum corolla_status corolla_session_open(struct corolla_session **out_session, struct corolla_swarm *swarm, uint32_t max_tokens,
                                                     struct corolla_error *err);
/* The same for a session that will begin with these tokens, of which servers may still have the first ones from another session of this
 * identity, such as a system prompt: corolla_session_position() tells how many positions are filled already, always fewer than n. What is
 * fed from position 0 by corolla_generate() is computed from there on. Servers learn nothing of the tokens but hashes. */
COROLLA_API enum corolla_status corolla_session_open_prompt(struct corolla_session **out_session, struct corolla_swarm *swarm,
                                                            uint32_t max_tokens, const int32_t *tokens, size_t n,
                                                            struct corolla_error *err);
/* A second session of the same length that holds the same positions: each goes on by itself, with the bits that the other one would have
 * had. KV is reserved for it and copied where it is. Beams begin as forks, and go on with corolla_sessions_step(). */
COROLLA_API enum corolla_status corolla_session_fork(struct corolla_session **out_session, struct corolla_session *session,
                                                     struct corolla_error *err);
COROLLA_API void corolla_session_close(struct corolla_session *session);
/* How many positions are filled. */
COROLLA_API uint32_t corolla_session_position(const struct corolla_session *session);
/* Makes every running and later call on the session return CANCELLED, until clear. Any thread, async-signal-safe. */
COROLLA_API void corolla_session_cancel(struct corolla_session *session);
COROLLA_API void corolla_session_cancel_clear(struct corolla_session *session);

/* What happens to the servers of a session while it runs. */
enum corolla_event_kind {
    COROLLA_EVENT_WAITING,   /* nobody has blocks [begin, end) now: the run waits for a server; text says why */
    COROLLA_EVENT_RECOVERED, /* blocks [begin, end) went on elsewhere, after node failed */
    COROLLA_EVENT_MOVED,     /* the same while node still worked: it leaves, or became slow */
};
struct corolla_event {
    enum corolla_event_kind kind;
    char node[80]; /* who failed, or was left */
    uint32_t begin, end;
    const char *reason; /* crashed, hung, too slow, moved, draining, out of memory, refused, faulty, connection, own network */
    const char *text;   /* one line for people */
    uint32_t position;  /* of the session */
    double pause_ms;    /* for which nothing came */
    bool exact;         /* the chain is of the same arithmetic class as before: what follows has the same bits */
};
/* Called on the thread that runs the session, while it does. What it points to is there for the call only. */
typedef void (*corolla_event_fn)(void *user, const struct corolla_event *event);
COROLLA_API void corolla_session_watch(struct corolla_session *session, corolla_event_fn on_event, void *user);

/* Runs n tokens at position (at most the current one; what stood at and behind it is dropped) through all blocks.
 * out_hidden, when not NULL, receives the last n_rows rows of the output, [n_rows, n_embd]; after a failure its content is not
 * defined, and session_position says how far the step came. */
COROLLA_API enum corolla_status corolla_session_step(struct corolla_session *session, uint32_t position, const int32_t *tokens, uint32_t n,
                                                     float *out_hidden, uint32_t n_rows, struct corolla_error *err);
/* The same with hidden states [n, n_embd] in the place of token embeddings. */
COROLLA_API enum corolla_status corolla_session_step_hidden(struct corolla_session *session, uint32_t position, const float *hidden,
                                                            uint32_t n, float *out_hidden, uint32_t n_rows, struct corolla_error *err);
/* What one of several sessions does in a step that they take together. */
struct corolla_step {
    uint32_t parent;       /* index of the session whose positions before `position` are continued: its own, or another one's */
    uint32_t position;     /* at most what the parent has filled */
    const int32_t *tokens; /* [n], or NULL: */
    const float *hidden;   /* [n, n_embd] */
    uint32_t n;
    float *out_hidden; /* the last n_rows rows of the output, [n_rows, n_embd]; NULL: none */
    uint32_t n_rows;
};
/* A step of n sessions of one swarm at once: all are under way together, so that servers compute them as one batch. Rows may be of
 * different length, stand at different positions and continue other sessions than their own: afterwards sessions[i] holds what
 * sessions[steps[i].parent] held before steps[i].position, and behind it the rows of steps[i]. So beams are reordered as they go on. What
 * no step continues is dropped. Handles in the array change places, since a parent's own goes on as one of its children; no position that
 * is already where it belongs is copied. INVALID, BAD_POSITION and TOO_LONG leave everything as it was; another error is that of the first
 * session that failed, and the position of each says how far it came. */
COROLLA_API enum corolla_status corolla_sessions_step(struct corolla_session **sessions, const struct corolla_step *steps, size_t n,
                                                      struct corolla_error *err);
/* Final norm and LM head: hidden [n, n_embd] -> logits [n, n_vocab]. */
COROLLA_API enum corolla_status corolla_session_logits(struct corolla_session *session, const float *hidden, uint32_t n, float *out_logits,
                                                       struct corolla_error *err);

/* Where the time of the last step went, hop by hop. Returns the number of hops; writes at most max. */
struct corolla_hop_timing {
    uint32_t queue_us, compute_us;
};
COROLLA_API size_t corolla_session_timings(const struct corolla_session *session, struct corolla_hop_timing *out_timings, size_t max,
                                           uint32_t *out_total_us);

/* ---- generation ------------------------------------------------------------------------------------------------ */

struct corolla_sampling {
    float temp;           /* 0: greedy */
    int32_t top_k;        /* 0: off */
    float top_p;          /* 1: off */
    float min_p;          /* 0: off */
    float repeat_penalty; /* 1: off; over the last 64 tokens */
    uint32_t seed;        /* 0: a random one */
    const char *grammar;  /* GBNF text, or NULL */
};
COROLLA_API void corolla_sampling_default(struct corolla_sampling *sampling);

enum corolla_stop { COROLLA_STOP_EOS, COROLLA_STOP_LENGTH, COROLLA_STOP_STOP, COROLLA_STOP_INTERRUPTED };

struct corolla_generation {
    struct corolla_sampling sampling;
    uint32_t max_new_tokens;  /* 0: until the session is full */
    const char *const *stops; /* texts at which to stop; they are not part of the output */
    size_t n_stops;
    /* Called with each piece of valid UTF-8 text as it becomes final; false stops the generation. May be NULL. */
    bool (*on_text)(void *user, const char *text, size_t size);
    /* Called while the prompt is processed. May be NULL. */
    corolla_progress_fn on_progress;
    /* Called behind each step of one token, when corolla_session_timings() tells of it. May be NULL. */
    void (*on_step)(void *user);
    void *user;
};
COROLLA_API void corolla_generation_default(struct corolla_generation *generation);

struct corolla_result {
    int32_t *tokens; /* the new tokens, without the end-of-generation token */
    size_t n_tokens;
    char *text; /* UTF-8, NUL-terminated */
    enum corolla_stop stop;
    double first_token_ms, prefill_tokens_per_s, decode_tokens_per_s;
};
/* Feeds the tokens from position on (what stood behind it is dropped; what stands there already as the same tokens is not computed again),
 * then samples until a stop. The last sampled token is not in the KV yet: position + n + n_tokens - 1 positions are filled at most. On
 * failure *out_result holds what was generated so far. Give back with corolla_result_clear(). */
COROLLA_API enum corolla_status corolla_generate(struct corolla_session *session, uint32_t position, const int32_t *tokens, size_t n,
                                                 const struct corolla_generation *generation, struct corolla_result *out_result,
                                                 struct corolla_error *err);
COROLLA_API void corolla_result_clear(struct corolla_result *result);

/* ---- server ---------------------------------------------------------------------------------------------------- */

struct corolla_server;

/* Limits of an upload limit, in bytes per second. Less than the least would be broken by one large prefill: what is half-sent must make
 * progress, or its receiver gives it up. */
#define COROLLA_UPLOAD_MIN (64ull << 10)
#define COROLLA_UPLOAD_MAX (1ull << 40)

struct corolla_server_config {
    uint32_t begin, end;          /* the span; end 0: chosen where the swarm needs it most, and left when it needs another more */
    uint32_t n_blocks;            /* how many blocks to host when the span is not given; 0: as many as fit */
    uint64_t memory_max;          /* bytes of weights, KV and what sessions keep, together; 0: what is free */
    const char *listen;           /* HOST:PORT, port 0 takes a free one; [::] is all interfaces over IPv6 and IPv4 */
    const char *const *announces; /* addresses told to others in the place of the one listened on */
    size_t n_announces;
    uint32_t threads;      /* compute threads; 0: one per core */
    uint32_t cache_tokens; /* KV budget in tokens; 0: 16,384, or what memory allows */
    uint64_t swap_bytes;   /* of a file in home where idle sessions go when others need their memory; 0: none */
    enum corolla_kv kv;
    bool fast;
    const char *device;
    const char *home;
    const char *name;         /* public name, or NULL */
    const char *swarm_key;    /* key file of a private swarm, to hand out certificates; NULL: swarm.pem in home if there is one */
    const char *const *joins; /* entries of the swarm: join codes, or HOST or HOST:PORT; may be none */
    size_t n_joins;
    bool lan;                   /* look for others on the local network, and answer them */
    bool share_prefixes;        /* in a private swarm: a session may begin with a copy of another client's, whose word for it is taken */
    uint32_t max_clients;       /* identities that may have sessions at once; 0: as many as there is room for */
    uint32_t client_percent;    /* of the KV budget that one identity may hold; 0: all of it */
    const char *const *trusted; /* keys in hex of identities without such limits; the server's own is one of them */
    size_t n_trusted;
    uint64_t upload_bytes_per_s; /* over all links; prefill waits, decode does not but is counted. 0: no limit */
};
COROLLA_API void corolla_server_config_default(struct corolla_server_config *config);
/* Goes online, chooses the span when it is not given, loads it and proves its arithmetic. Returns when the server can be used. */
COROLLA_API enum corolla_status corolla_server_start(struct corolla_server **out_server, struct corolla_model *model,
                                                     const struct corolla_server_config *config, struct corolla_error *err);
/* The join code of the server, and the span that it hosts at present. */
COROLLA_API const char *corolla_server_join_code(const struct corolla_server *server);
COROLLA_API void corolla_server_span(const struct corolla_server *server, uint32_t *out_begin, uint32_t *out_end);
/* Why it hosted these blocks when it started, one line for people. */
COROLLA_API const char *corolla_server_why(const struct corolla_server *server);
/* Paused, a server goes on with its sessions and takes no new ones; others see it as draining. Any thread. */
COROLLA_API void corolla_server_pause(struct corolla_server *server, bool paused);
/* Sessions that somebody waits for: a step is under way, or came within the last 5 s. Any thread. */
COROLLA_API uint32_t corolla_server_active(const struct corolla_server *server);
/* How often a value was at most 2^i, and more than half of that, counted from i = 0; the last place counts all that is more. */
#define COROLLA_HISTOGRAM_SIZE 24
struct corolla_histogram {
    uint64_t counts[COROLLA_HISTOGRAM_SIZE];
    uint64_t sum;
};
struct corolla_server_stats {                      /* since the server started; what is marked now: at this moment */
    uint32_t begin, end, sessions, clients, steps; /* now: the span; who has sessions; steps that wait or compute */
    uint64_t cache_tokens, cache_tokens_left;      /* now: KV */
    uint32_t swapped;                              /* now: idle sessions that are on disk */
    uint32_t prefixes;                             /* now: closed sessions that are kept for what they begin with */
    uint64_t swaps;                                /* of idle sessions, back into memory */
    uint64_t sessions_opened, decode_rows, prefill_rows, replayed_rows;
    uint64_t bytes_received, bytes_sent;     /* by all links, TLS included */
    uint64_t failures[COROLLA_STATUS_COUNT]; /* told to clients: refused openings, and steps that failed */
    struct corolla_histogram turn_us;        /* what a turn of decode steps took */
    struct corolla_histogram turn_sessions;  /* how many sessions shared it */
    struct corolla_histogram queue_us;       /* what each decode step waited for its turn */
};
/* Any thread. */
COROLLA_API void corolla_server_stats(const struct corolla_server *server, struct corolla_server_stats *out_stats);
/* Leaves the swarm: takes no new sessions, goes on with the active ones until their clients have found other servers, 30 s at most, then
 * frees the server. */
COROLLA_API void corolla_server_stop(struct corolla_server *server);

/* ---- identity -------------------------------------------------------------------------------------------------- */

/* The public key of the identity in home (NULL: the default), as hex; made on first use. */
COROLLA_API enum corolla_status corolla_key_show(const char *home, char out_hex[65], struct corolla_error *err);

/* ---- private swarms (docs/SWARM.md) ----------------------------------------------------------------------------- */

/* Whoever has the private key of a swarm is its owner: invites, allows, revokes. Servers that run in the owner's home hand out the
 * certificates, and take up revocations within a second or two. */
struct corolla_owner {
    const char *home;      /* NULL: the default */
    const char *swarm_key; /* the file of the key; NULL: swarm.pem in home */
};

/* Makes the key of a new private swarm; REFUSED when the file exists. out_hex: its public half, which names the swarm. */
COROLLA_API enum corolla_status corolla_key_new_swarm(const struct corolla_owner *owner, char out_hex[65], struct corolla_error *err);

#define COROLLA_JOIN_CODE_SIZE 1024
struct corolla_invitation {
    enum corolla_role role;
    uint64_t expires_s; /* until when it can be used, in seconds from now; 0: without end */
    const char *entry;  /* join code of the server that takes it; NULL: the one that ran last in the owner's home */
};
/* A join code that is good for one node, whose certificate then has no end. */
COROLLA_API enum corolla_status corolla_key_invite(const struct corolla_owner *owner, const struct corolla_invitation *invitation,
                                                   char out_code[COROLLA_JOIN_CODE_SIZE], struct corolla_error *err);

struct corolla_member {
    char node[65]; /* hex of its key */
    enum corolla_role role;
    uint64_t until_s; /* seconds since 1970; 0: without end */
};
/* Calls each for every certificate that servers of the home gave or are to give, the oldest first. */
COROLLA_API enum corolla_status corolla_key_members(const struct corolla_owner *owner,
                                                    void (*each)(void *user, const struct corolla_member *member), void *user,
                                                    struct corolla_error *err);
/* Lets a node in without an invitation: it gets its certificate when it joins by a code of the owner's server. Replaces, and so revokes,
 * a certificate of it that says something else. */
COROLLA_API enum corolla_status corolla_key_allow(const struct corolla_owner *owner, const struct corolla_member *member,
                                                  struct corolla_error *err);
/* Voids all certificates of a node: its key, or at least 8 digits of its beginning; what follows a "/" does not matter. NOT_FOUND when
 * nothing was given to it, INVALID when the digits fit several. */
COROLLA_API enum corolla_status corolla_key_revoke(const struct corolla_owner *owner, const char *node, struct corolla_error *err);

#ifdef __cplusplus
}
#endif
#endif
