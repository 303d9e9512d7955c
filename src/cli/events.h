/* events.h - what happened to the servers of a session: lines on stderr as it happens, and a list for --json. */
#ifndef COROLLA_CLI_EVENTS_H
#define COROLLA_CLI_EVENTS_H

#include <corolla.h>
#include <jansson.h>
#include <stdbool.h>

struct events {
    bool trace;         /* tell recoveries; that nobody has a block is told always */
    json_t *recoveries; /* [{"node","begin","end","reason","position","pause_ms","exact"}]; NULL: none so far */
};
/* From now on they are of this session. */
void events_watch(struct events *events, struct corolla_session *session);
/* The list, the caller's; never NULL unless memory is out. */
json_t *events_take(struct events *events);

#endif
