/* stats.h - what a server counts, for its owner. Loop thread; counting is a few additions per turn. */
#ifndef COROLLA_NODE_STATS_H
#define COROLLA_NODE_STATS_H

#include <corolla.h>

struct node;
struct step;

/* A step was computed. */
void stats_note_step(struct corolla_server_stats *stats, const struct step *step);
/* All of it, as it is now. */
void stats_take(struct node *node, struct corolla_server_stats *out);

#endif
