/* events.c - see events.h. */
#include "cli/events.h"

#include <stdio.h>

static void print_event(const struct corolla_event *e) {
    if (e->kind == COROLLA_EVENT_WAITING)
        fprintf(stderr, "waiting for a server with blocks %u:%u: %s\n", e->begin, e->end, e->text);
    else if (e->kind == COROLLA_EVENT_MOVED)
        fprintf(stderr, "moved blocks %u:%u away from %.12s (%s) at position %u, without a pause\n", e->begin, e->end, e->node, e->reason,
                e->position);
    else
        fprintf(stderr, "recovered blocks %u:%u of %.12s (%s) at position %u in %.0f ms%s\n", e->begin, e->end, e->node, e->reason,
                e->position, e->pause_ms, e->exact ? "" : ", not exact from here on");
    fflush(stderr);
}

static void on_event(void *user, const struct corolla_event *e) {
    struct events *events = user;
    if (events->trace || e->kind == COROLLA_EVENT_WAITING) print_event(e);
    if (e->kind == COROLLA_EVENT_WAITING) return;
    if (!events->recoveries) events->recoveries = json_array();
    json_array_append_new(events->recoveries, json_pack("{s:s, s:I, s:I, s:s, s:I, s:f, s:b}", "node", e->node, "begin",
                                                        (json_int_t)e->begin, "end", (json_int_t)e->end, "reason", e->reason, "position",
                                                        (json_int_t)e->position, "pause_ms", e->pause_ms, "exact", e->exact));
}

void events_watch(struct events *events, struct corolla_session *session) { corolla_session_watch(session, on_event, events); }

json_t *events_take(struct events *events) {
    json_t *list = events->recoveries ? events->recoveries : json_array();
    events->recoveries = NULL;
    return list;
}
