/* together.h - which session goes on as which row when several step together and continue each other. Pure. */
#ifndef COROLLA_CLIENT_TOGETHER_H
#define COROLLA_CLIENT_TOGETHER_H

#include <stddef.h>
#include <stdint.h>

struct together_row {
    uint32_t parent, position; /* it continues the first `position` positions of this one */
    uint32_t session;          /* out: that goes on as this row */
};
/* A session that has children goes on as one of them: the one that keeps most of it, so that what others copy from it stays there until
 * they have. The rest take those that have none, their own where they can. Parents are below n. */
void together_assign(struct together_row *rows, size_t n);

#endif
