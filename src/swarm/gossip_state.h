/* gossip_state.h - what the files of gossip share: its state and bounds. Only src/swarm/gossip*.c and the fuzz target include this.
 *
 *   gossip.c        the public functions, our own record, time
 *   gossip_links.c  neighbours, whom to dial, dial-back
 *   gossip_take.c   messages that come in
 *   gossip_tell.c   messages that go out
 */
#ifndef COROLLA_SWARM_GOSSIP_STATE_H
#define COROLLA_SWARM_GOSSIP_STATE_H

#include "swarm/table.h"
#include "swarm/wants.h"

#define LINKS_MAX 24        /* full neighbours; over it the longest guests of others' choice go ... */
#define GUEST_MS 2000       /* ... after this time, in which a newcomer learns of other nodes; 200 links at a time ... */
#define GUESTS_MAX 200      /* ... at once over this: a whole swarm may start by one entry */
#define LEAVES_MAX 256      /* clients that are told the news */
#define ALONE_DIALS 16      /* hints that are tried at once while there is no neighbour */
#define LEAF_LINKS 2        /* neighbours that a leaf chooses */
#define FLUSH_MS 250        /* news wait this long at most, so that they travel together */
#define WANT_MS 750         /* no answer: ask the next one */
#define PATIENCE_MS 250     /* how long a neighbour that did not answer lately waits for another to offer the same */
#define LINK_WANTS_MAX 1024 /* versions asked of one link at a time */
#define DIGEST_MS 60000     /* a whole digest to one neighbour */
#define ANSWER_MS 1000      /* at most one whole digest per link in this time */
#define CHOOSE_MS 500       /* between looks for neighbours */
#define PROBE_MS 30000      /* between dials of nodes that were lost: heals a partition */
#define AVOID_MS 15000      /* a node that was not reached, or did not want us */
#define AVOID_ALONE_MS 2000 /* the same without any neighbour */
#define PUBLISH_MIN_MS 1000 /* between two records of ours */
#define OFFLINE_MS 10000    /* how long a goodbye is told */
#define SUSPECT_MS 5000     /* to refute: a suspicion and its refutation spread in less than 2 s each */
#define DOUBT_MS 1500       /* a lost link becomes a suspicion after this, if most others stay up meanwhile */
#define LOSSES_MS 5000      /* losses within this are one event; links notice silence after 4 s */
#define LEAP_MS 10000       /* a clock that goes on by this between two calls: the machine slept */
#define IDLE_MS 1000        /* longest time between two ticks */

#define CHECKS_PER_S 64                 /* records checked per link: 0.4 % of a core, and as much for their certificates ... */
#define CHECKS_BURST 2048               /* ... and at its beginning, when everything is new */
#define ANSWER_BYTES_PER_S (512u << 10) /* of records sent to one link because it asked ... */
#define ANSWER_BYTES_BURST (4u << 20)   /* ... and at its beginning */
#define SUSPECTS_PER_S 8                /* suspicions that a node believes: a slanderer costs each of its victims a record ... */
#define SUSPECTS_BURST 256
#define LINK_SUSPECTS_PER_S 1 /* ... and of which one link may use up so much */
#define LINK_SUSPECTS_BURST 64

#define DIALS_MAX 80
#define PROOF_DIALS 64 /* of them for dial-back */
#define PROOFS_MAX 1024
#define DOUBTS_MAX 64
#define AVOID_MAX 32
#define HINTS_MAX 32
#define HINT_TRIES 8
#define NEVER UINT64_MAX

struct bucket { /* of tokens; full at first */
    uint64_t milli, ms;
};

struct neighbour { /* a link on which gossip takes place */
    void *link;
    struct node_id id;
    uint64_t digest, since_ms;
    uint16_t slot;
    bool dialled; /* we reached it at its address */
    bool chosen;  /* counts for GOSSIP_LINKS */
    bool leaf;
    bool cut;    /* it offered more than we may ask for at a time ... */
    bool gained; /* ... and since then it brought something new */
    bool owed;   /* waits for our digest */
    bool told;   /* got one already */
    bool heard;  /* its whole digest came */
    uint64_t told_ms;
    uint32_t wants;  /* that it is in charge of */
    uint32_t missed; /* not answered in time, since the last answer */
    struct bucket checks, answers, suspects;
};
struct dial {
    uint64_t digest;
    bool neighbour; /* else for a proof only */
};
struct proof { /* a record that came from its own node and waits for the dial-back */
    struct sealed *sealed;
    uint64_t signed_ms;
    uint16_t slot;
    bool dialling;
};
struct doubt {
    uint64_t digest, due_ms;
};
struct avoid {
    uint64_t digest, since_ms;
};
struct hint { /* a node to ask when nobody is known: given, or lost */
    struct node_ref node;
    uint64_t digest;
    uint32_t tries;
    bool given;
};

struct gossip {
    struct gossip_config config;
    struct gossip_world world; /* of config */
    uint64_t self;             /* digest */
    struct sealed_set *sealed, *own_set;
    struct table table;
    struct wants wants;

    struct neighbour *slots[TABLE_SLOTS];
    uint32_t n_slots; /* behind the last that was used */
    uint32_t n_full, n_leaves, n_chosen;
    struct dial dials[DIALS_MAX];
    uint32_t n_dials, n_proof_dials;
    struct proof proofs[PROOFS_MAX];
    uint32_t n_proofs;
    struct avoid avoid[AVOID_MAX];
    uint32_t avoid_next;
    struct hint hints[HINTS_MAX];
    uint32_t n_hints;

    bool stated; /* we have a record */
    bool raise;  /* others may think we are gone: say that we are not as soon as there is a neighbour */
    struct record own;
    struct signed_record own_signed;
    uint64_t boot, own_ms;
    uint32_t sequence;

    uint64_t *news; /* digests of rows with pending set */
    uint32_t n_news, news_capacity;
    struct record_version suspects[SUSPECTS_MAX]; /* to be told */
    uint32_t n_suspects;
    struct bucket believed; /* suspicions */
    struct doubt doubts[DOUBTS_MAX];
    uint32_t n_doubts;
    uint32_t losses, losses_of; /* links lost since losses_ms, of how many */
    uint64_t losses_ms, grace_ms;

    uint64_t now_ms, flushed_ms, swept_ms;
    uint64_t publish_ms, choose_ms, digest_ms, probe_ms; /* when due */
    bool owed;                                           /* some neighbour waits for a digest */
};

void bucket_init(struct bucket *bucket, uint64_t burst, uint64_t now_ms);
bool bucket_take(struct bucket *bucket, uint64_t n, uint64_t per_s, uint64_t burst, uint64_t now_ms);
uint64_t random_below(struct gossip *g, uint64_t n);
static inline uint64_t slot_bit(uint16_t slot) { return slot < 64 ? 1ull << slot : 0; }
static inline void sooner(uint64_t *due_ms, uint64_t ms) { *due_ms = ms < *due_ms ? ms : *due_ms; }

/* gossip.c */
void gossip_clock(struct gossip *g, uint64_t now_ms);
void own_raise(struct gossip *g); /* publishes again as soon as it may */
void admit(struct gossip *g, struct sealed *sealed, uint64_t signed_ms, uint16_t slot);
/* False: too many at a time. A suspicion that cannot be told is none: its victim could not refute it. */
bool suspect(struct gossip *g, struct row *row);
bool may_host(const struct gossip *g, const struct record *record);

/* gossip_links.c */
struct neighbour *links_find(const struct gossip *g, const void *link);
struct neighbour *links_of(const struct gossip *g, uint64_t digest);
/* NULL: no room. */
struct neighbour *links_add(struct gossip *g, void *link, const struct node_id *id, bool dialled, bool leaf);
void links_drop(struct gossip *g, struct neighbour *n);
void links_end(struct gossip *g, struct neighbour *n); /* says so, drops it, leaves the link */
void links_choose(struct gossip *g);
void links_shed(struct gossip *g);
void links_probe(struct gossip *g);
void avoid_add(struct gossip *g, uint64_t digest);
void hint_add(struct gossip *g, const struct node_ref *node, bool given);
void proof_add(struct gossip *g, struct sealed *sealed, uint64_t signed_ms, uint16_t slot);
bool proof_waits(const struct gossip *g, uint64_t digest);
void proofs_clear(struct gossip *g);

/* gossip_take.c */
enum corolla_status take_message(struct gossip *g, void *link, const struct node_ref *peer, enum msg_kind kind, const uint8_t *data,
                                 size_t size, struct corolla_error *err);
void wants_retry(struct gossip *g);
void wants_drop_slot(struct gossip *g, uint16_t slot);

/* gossip_tell.c */
void tell_digest(struct gossip *g, struct neighbour *n, bool reply);
void tell_again(struct gossip *g, struct neighbour *n); /* asks for a digest */
void tell_end(struct gossip *g, void *link);
void tell_own(struct gossip *g, struct neighbour *n);
void tell_want(struct gossip *g, struct neighbour *n, const struct msg_want *want);
void tell_records(struct gossip *g, struct neighbour *n, const struct msg_want *want);
void tell_row(struct gossip *g, struct neighbour *n, const struct row *row); /* to its own node: a life that it forgot */
void tell_suspect(struct gossip *g, struct neighbour *n, const struct record_version *versions, uint32_t count);
void tell_news(struct gossip *g); /* and suspicions, to all */
void news_add(struct gossip *g, struct row *row);

#endif
