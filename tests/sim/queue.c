/* queue.c - see queue.h. */
#include "sim/queue.h"

#include <stdlib.h>

static bool before(const struct event *a, const struct event *b) { return a->us != b->us ? a->us < b->us : a->order < b->order; }

void queue_release(struct queue *queue) { free(queue->events); }

void queue_push(struct queue *queue, struct event event) {
    if (queue->n == queue->capacity) {
        queue->capacity = queue->capacity > 0 ? queue->capacity * 2 : 1024;
        queue->events = realloc(queue->events, queue->capacity * sizeof(event));
        if (queue->events == NULL) {
            abort();
        }
    }
    event.order = queue->order++;
    size_t at = queue->n++;
    while (at > 0 && before(&event, &queue->events[(at - 1) / 2])) {
        queue->events[at] = queue->events[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    queue->events[at] = event;
}

bool queue_pop(struct queue *queue, struct event *out) {
    if (queue->n == 0) {
        return false;
    }
    *out = queue->events[0];
    struct event last = queue->events[--queue->n];
    size_t at = 0;
    for (size_t child; (child = at * 2 + 1) < queue->n; at = child) {
        child += child + 1 < queue->n && before(&queue->events[child + 1], &queue->events[child]);
        if (!before(&queue->events[child], &last)) {
            break;
        }
        queue->events[at] = queue->events[child];
    }
    queue->events[at] = last;
    return true;
}

uint64_t queue_next_us(const struct queue *queue) { return queue->n > 0 ? queue->events[0].us : UINT64_MAX; }
