/* msg.h - the messages of the protocol as plain structs, and their bytes. Pure; any thread.
 *
 * The schema is proto/corolla.proto. Decoding goes through protobuf-c with an arena of fixed size on the stack, checks every
 * length, count and enumeration, and copies into a struct without pointers, so that nothing outlives the input and nobody above
 * this layer sees a value that was not checked. Unknown fields are skipped. Tensors are never inside: they are the message's body.
 */
#ifndef COROLLA_WIRE_MSG_H
#define COROLLA_WIRE_MSG_H

#include <corolla.h>

#define KEY_SIZE 32     /* Ed25519 public key */
#define ID_SIZE 32      /* model id */
#define SESSION_SIZE 16 /* session id: random, chosen by the client */
#define SECRET_SIZE 16  /* shown by every step and close */
#define ADDR_MAX 64     /* "host:port" with its NUL; IPv6 hosts in brackets */
#define ADDRS_MAX 4     /* per node */
#define HOPS_MAX 64     /* per chain */
#define NAME_SIZE 64
#define TEXT_SIZE 256
#define FEATURES_MAX 64 /* bits */
#define BLOCKS_MAX 4096 /* of a model; the deepest known has 126 */
#define EMBD_MAX 32768
#define STEP_TOKENS_MAX 512 /* rows of a step */
#define PREFIX_STEP 64      /* tokens for each hash of a prefix ... */
#define PREFIX_HASHES_MAX 128
#define PREFIX_HASH_SIZE 16

#define PROTOCOL_VERSION_MIN 1
#define PROTOCOL_VERSION_MAX 1

enum msg_kind {
    MSG_INFO_GET = 1, /* empty; answered by INFO, or FAILED while it is not known what will be hosted */
    MSG_INFO,
    MSG_OPEN, /* client -> hop; answered by OPENED or FAILED */
    MSG_OPENED,
    MSG_STEP,   /* client -> first hop -> next hop ...; body: hidden states */
    MSG_RESULT, /* last hop -> client; body: the rows asked for */
    MSG_FAILED, /* to the client: what went wrong with an open or a step, or another question */
    MSG_CLOSE,  /* client -> hop; no answer */
    MSG_DRAIN,  /* a server to all its peers: no new sessions, I pause, move or leave */
    MSG_PAUSE,  /* from the owner, who has the server's own key; empty: take no new sessions. Answered by INFO or FAILED */
    MSG_RESUME, /* empty: take them again */
    MSG_SYNC,   /* client -> hop, after a failure: the session goes on; answered by SYNCED or FAILED */
    MSG_SYNCED,
    MSG_REPLAY, /* client -> hop: a STEP (struct msg_step) whose rows the hop has kept; no body */

    MSG_DIGEST = 16, /* gossip begins on this link; all that the sender has, by version; may come in parts */
    MSG_HAVE,        /* news, by version */
    MSG_WANT,        /* send me these */
    MSG_RECORDS,     /* signed records (wire/record.h) */
    MSG_SUSPECT,     /* links to these were lost */

    MSG_REVOKED = 24, /* the revocations of a private swarm, signed (wire/member.h) */
};

/* Whether messages of this kind may have a body; those of kinds that are not known may. */
bool msg_kind_has_body(unsigned kind);

/* Bytes of one number of a wire type; 0 for a number that names none. */
size_t msg_wire_size(enum corolla_wire wire);

/* A process: the key of its home and which process of that home it is. */
struct node_id {
    uint8_t key[KEY_SIZE];
    uint32_t instance;
};
bool node_id_equal(const struct node_id *a, const struct node_id *b);
#define NODE_ID_TEXT 80
/* Hex of the key, and "/N" when the instance is not 0. */
void node_id_format(const struct node_id *id, char out[NODE_ID_TEXT]);

struct node_ref {
    struct node_id id;
    uint32_t n_addrs;
    char addrs[ADDRS_MAX][ADDR_MAX];
};

/* A statement of a private swarm's key with its signature (wire/member.h), as it travels. */
#define SIGNED_MAX 200
struct signed_bytes {
    uint32_t size; /* 0: none */
    uint8_t data[SIGNED_MAX];
};

struct msg_hello {
    uint32_t version_min, version_max;
    uint64_t features;
    uint32_t instance;
    uint64_t boot; /* how often this identity was started; newer boots replace older records */
    char agent[NAME_SIZE];
    uint32_t n_addrs; /* where the sender can be dialled; none for pure clients */
    char addrs[ADDRS_MAX][ADDR_MAX];
    /* of a private swarm: the sender's certificate, the invitation that it shows, the certificate that it issued to the receiver */
    struct signed_bytes certificate, invitation, issued;
    uint64_t revocations; /* number of its list */
};

struct msg_info { /* what a server hosts and how fast it is */
    uint8_t model[ID_SIZE];
    char model_name[NAME_SIZE], name[NAME_SIZE], version[NAME_SIZE];
    uint32_t n_blocks, n_embd, begin, end;
    uint32_t session_tokens_max;
    uint64_t cache_tokens_left;
    float decode_tokens_per_s, prefill_tokens_per_s; /* over its whole span */
    bool exact;
    uint64_t arithmetic_class;
    uint32_t wires; /* bit per enum corolla_wire */
    bool draining;
    uint32_t sessions;
};

struct msg_open {
    uint8_t session[SESSION_SIZE], model[ID_SIZE];
    uint32_t begin, end; /* within the server's span: the blocks that this session uses there */
    uint32_t max_tokens;
    bool has_upstream;
    struct node_id upstream; /* the hop whose steps are accepted besides the client's own */
    bool keep;               /* the output rows, for REPLAY ... */
    enum corolla_wire dtype; /* ... of this type, which all steps then have */
    bool has_parent;         /* the session begins as a copy of the first parent_length positions of another one */
    uint8_t parent[SESSION_SIZE], parent_secret[SECRET_SIZE];
    uint32_t parent_length;
    uint32_t n_prefix; /* what it will begin with: hash i stands for the first (i + 1) * PREFIX_STEP tokens */
    uint8_t prefix[PREFIX_HASHES_MAX][PREFIX_HASH_SIZE];
};
struct msg_opened {
    uint8_t session[SESSION_SIZE], secret[SECRET_SIZE];
    uint64_t cache_tokens_left;
    uint32_t held; /* positions that the session has already */
};

struct step_hop { /* a hop that is still to come */
    struct node_ref node;
    uint8_t secret[SECRET_SIZE];
};
struct hop_timing {
    uint32_t queue_us, compute_us;
};
struct msg_step {
    uint8_t session[SESSION_SIZE], secret[SECRET_SIZE]; /* of the hop that receives it */
    uint32_t epoch;                                     /* raised when steps under way no longer count; lower ones are stale */
    uint32_t position;                                  /* of the first row; what is at and behind it is dropped */
    uint32_t n_tokens;
    uint32_t n_rows; /* how many of the last rows come back in the result; 0 is an acknowledgement only */
    enum corolla_wire dtype;
    struct node_id client;
    bool has_parent; /* before the rows the positions [shared, position) become a copy of those of another session of the client */
    uint8_t parent[SESSION_SIZE];
    uint32_t shared; /* at most position */
    uint32_t named;  /* the first so many positions are then what OPEN named; 0: nothing is said. At most the step's end */
    uint32_t n_hops; /* still to come; n_hops + n_timings < HOPS_MAX, so that the receiver has room for its own timing */
    struct step_hop hops[HOPS_MAX];
    uint32_t n_timings; /* of the hops passed */
    struct hop_timing timings[HOPS_MAX];
};
struct msg_result {
    uint8_t session[SESSION_SIZE];
    uint32_t epoch, position, n_tokens, n_rows;
    enum corolla_wire dtype;
    uint32_t n_timings;
    struct hop_timing timings[HOPS_MAX];
};
struct msg_failed {
    uint8_t session[SESSION_SIZE];
    uint32_t epoch, position;
    enum corolla_status status;
    char text[TEXT_SIZE];
    uint32_t retry_after_ms; /* BUSY, NO_CACHE: when to come back; 0: not known */
    uint64_t cache_tokens_left;
    bool has_culprit;
    struct node_id culprit; /* the peer that failed, when it is not the sender */
};
struct msg_close {
    uint8_t session[SESSION_SIZE], secret[SECRET_SIZE];
};
struct msg_drain {
    bool leaving; /* sessions should go on elsewhere */
};
struct msg_sync {
    uint8_t session[SESSION_SIZE], secret[SECRET_SIZE];
    uint32_t epoch; /* from now on */
    bool has_upstream;
    struct node_id upstream; /* the new hop before */
};
struct msg_synced {
    uint8_t session[SESSION_SIZE];
    uint32_t epoch;          /* of the SYNC */
    uint32_t length;         /* positions that are computed */
    uint32_t kept;           /* positions whose output rows are kept, from 0 */
    uint32_t computed_epoch; /* of the step that was computed last */
};

/* Encoders write at most MSG_HEADER_MAX bytes into out and return the size. A struct that its own limits allow always fits. Texts
 * are cleaned (base/utf8.h) on the way, so that no peer refuses them. */
size_t msg_hello_encode(const struct msg_hello *m, uint8_t *out);
size_t msg_info_encode(const struct msg_info *m, uint8_t *out);
size_t msg_open_encode(const struct msg_open *m, uint8_t *out);
size_t msg_opened_encode(const struct msg_opened *m, uint8_t *out);
size_t msg_step_encode(const struct msg_step *m, uint8_t *out);
size_t msg_result_encode(const struct msg_result *m, uint8_t *out);
size_t msg_failed_encode(const struct msg_failed *m, uint8_t *out);
size_t msg_close_encode(const struct msg_close *m, uint8_t *out);
size_t msg_drain_encode(const struct msg_drain *m, uint8_t *out);
size_t msg_sync_encode(const struct msg_sync *m, uint8_t *out);
size_t msg_synced_encode(const struct msg_synced *m, uint8_t *out);

/* Decoders return FORMAT and leave *out alone when anything is wrong. Of an array only the entries that were sent are written, and
 * of a text only what its NUL ends. */
enum corolla_status msg_hello_decode(const uint8_t *in, size_t size, struct msg_hello *out, struct corolla_error *err);
enum corolla_status msg_info_decode(const uint8_t *in, size_t size, struct msg_info *out, struct corolla_error *err);
enum corolla_status msg_open_decode(const uint8_t *in, size_t size, struct msg_open *out, struct corolla_error *err);
enum corolla_status msg_opened_decode(const uint8_t *in, size_t size, struct msg_opened *out, struct corolla_error *err);
enum corolla_status msg_step_decode(const uint8_t *in, size_t size, struct msg_step *out, struct corolla_error *err);
enum corolla_status msg_result_decode(const uint8_t *in, size_t size, struct msg_result *out, struct corolla_error *err);
enum corolla_status msg_failed_decode(const uint8_t *in, size_t size, struct msg_failed *out, struct corolla_error *err);
enum corolla_status msg_close_decode(const uint8_t *in, size_t size, struct msg_close *out, struct corolla_error *err);
enum corolla_status msg_drain_decode(const uint8_t *in, size_t size, struct msg_drain *out, struct corolla_error *err);
enum corolla_status msg_sync_decode(const uint8_t *in, size_t size, struct msg_sync *out, struct corolla_error *err);
enum corolla_status msg_synced_decode(const uint8_t *in, size_t size, struct msg_synced *out, struct corolla_error *err);

#endif
