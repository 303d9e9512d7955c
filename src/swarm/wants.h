/* wants.h - versions that neighbours offered and that were not received yet: whom to ask, and whom next. Pure; one thread at a time. */
#ifndef COROLLA_SWARM_WANTS_H
#define COROLLA_SWARM_WANTS_H

#include "swarm/index.h"
#include "wire/msg_gossip.h"

#define WANTS_MAX 32768 /* in all; each link may add fewer (gossip_state.h) */

struct want {
    uint64_t digest; /* first: see index.h */
    uint64_t boot;
    uint64_t offered; /* bit per slot of a link that has it and was not asked yet */
    uint64_t due_ms;  /* when to ask the next one */
    uint32_t sequence;
    uint16_t slot; /* of the link in charge: asked, or about to be */
    bool asked;
    bool fresh; /* another link has just come into charge */
};

struct wants {
    struct want *wants;
    uint32_t n, capacity;
    struct index index;
    uint64_t due_ms; /* of the first, at the latest; UINT64_MAX: none */
};

void wants_init(struct wants *wants, uint64_t secret);
void wants_release(struct wants *wants);
/* Borrowed until the next add or remove. */
struct want *wants_find(const struct wants *wants, uint64_t digest);
/* A new one that nobody was asked for yet; NULL: no room. */
struct want *wants_add(struct wants *wants, const struct record_version *version, uint16_t slot);
void wants_remove(struct wants *wants, struct want *want);
void wants_set_due(struct wants *wants, struct want *want, uint64_t due_ms);

#endif
