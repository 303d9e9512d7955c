/* peer_list.h - the peers that a node remembers between its lives, best first, and their text. Pure; one thread at a time.
 *
 * A score from 1 to 100 says how well dialling went: each link that came up takes a quarter of the way to 100, each failure a quarter of
 * it away; who is at 0 is forgotten. Among equal scores the one that something was heard of last comes first, so no clock is needed. The
 * list has PEER_LIST_MAX places; the last one goes.
 *
 * Text: a line "corolla peers 1", then one per peer, best first: score, node id, model id or "-", 1 to 4 addresses; a space
 * between.
 *
 *    87 3fa1...09 5b2e...71 192.0.2.7:31330 [2001:db8::17]:31330
 *
 * Several processes write one file. Each entry knows the score that it had in the file, so that a list can be merged into what others
 * wrote meanwhile: what is added is the difference.
 */
#ifndef COROLLA_MESH_PEER_LIST_H
#define COROLLA_MESH_PEER_LIST_H

#include "wire/msg.h"

#define PEER_LIST_MAX 256 /* far more than are dialled; of those that lived yesterday some live today */
#define PEER_SCORE_MAX 100
#define PEER_SCORE_NEW 10 /* heard of and never dialled */
#define PEER_LINE_MAX (4 + NODE_ID_TEXT + 2 * ID_SIZE + 1 + ADDRS_MAX * ADDR_MAX)
#define PEER_TEXT_MAX (32 + PEER_LIST_MAX * PEER_LINE_MAX)

struct remembered {
    struct node_ref ref; /* at least one address */
    bool has_model;
    uint8_t model[ID_SIZE]; /* what it served */
    uint32_t score;
    uint32_t score_saved; /* in the file; 0: not there */
    bool changed;         /* addresses or model are newer than in the file */
};

struct peer_list {
    uint32_t n; /* those with score 0 are to be deleted from the file; they are the last ones */
    struct remembered peers[PEER_LIST_MAX];
};

/* How many are alive, from the first one on. */
uint32_t peer_list_count(const struct peer_list *list);
/* A link to the node came up, or only a record of it was heard; model may be NULL. Addresses that mean nothing elsewhere (with a
 * zone) are left out; without any other the node is not remembered. */
void peer_list_linked(struct peer_list *list, const struct node_ref *node, const uint8_t *model);
void peer_list_heard(struct peer_list *list, const struct node_ref *node, const uint8_t *model);
/* A dial failed. */
void peer_list_failed(struct peer_list *list, const struct node_id *id);

/* False, and *out of no meaning, when text is not as above. */
bool peer_list_parse(const char *text, size_t size, struct peer_list *out);
/* Writes at most PEER_TEXT_MAX bytes, NUL included. Returns the length. */
size_t peer_list_format(const struct peer_list *list, char *out);

/* Whether there is something to save. */
bool peer_list_dirty(const struct peer_list *list);
/* Brings the changes of own into what the file holds now. */
void peer_list_merge(struct peer_list *file, const struct peer_list *own);
/* All is as in the file from now on. */
void peer_list_saved(struct peer_list *list);
/* It was not: before was the list when peer_list_saved was called. */
void peer_list_unsaved(struct peer_list *list, const struct peer_list *before);

#endif
