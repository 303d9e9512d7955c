/* history.h - the turns of a chat. */
#ifndef COROLLA_CLI_HISTORY_H
#define COROLLA_CLI_HISTORY_H

#include <corolla.h>

struct history {
    bool has_system; /* messages[0] */
    size_t n, max;
    struct corolla_chat_message *messages; /* contents are owned */
};

/* False: out of memory, and nothing was added. */
bool history_add(struct history *h, const char *role, const char *content);
/* Sets or replaces the system message; NULL removes it. */
bool history_set_system(struct history *h, const char *content);
/* Drops the last message. */
void history_pop(struct history *h);
/* Drops the oldest question and its answer; false when only the newest question is left. */
bool history_drop_oldest(struct history *h);
/* All but the system message. */
void history_clear(struct history *h);
void history_release(struct history *h);

#endif
