/* queue.h - the events of a simulated world, by time and then by the order of their making. A binary heap. */
#ifndef COROLLA_TESTS_SIM_QUEUE_H
#define COROLLA_TESTS_SIM_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event {
    uint64_t us, order;
    int what;
    uint32_t node, life; /* whom it reaches, if it is still that process */
    void *subject;       /* a link end, or a message or dial of its own memory */
    uint64_t tag;        /* of an alarm */
};
struct queue {
    struct event *events;
    size_t n, capacity;
    uint64_t order;
};

void queue_release(struct queue *queue);
void queue_push(struct queue *queue, struct event event); /* order is filled in */
/* False: empty. */
bool queue_pop(struct queue *queue, struct event *out);
/* When the first is due; UINT64_MAX: empty. */
uint64_t queue_next_us(const struct queue *queue);

#endif
