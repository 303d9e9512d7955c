/* step.c - see step.h. */
#include "node/step.h"

#include <string.h>

static struct step *make(struct net *net, size_t hops_size) {
    struct body *block = net_body_new(net, sizeof(struct step) + hops_size);
    if (!block) return NULL;
    struct step *step = (struct step *)(void *)block->data;
    memset(step, 0, sizeof *step);
    step->block = block;
    return step;
}

struct step *step_new_job(struct net *net, enum step_kind kind) {
    struct step *step = make(net, 0);
    if (step) step->kind = kind;
    return step;
}

struct step *step_new(struct net *net, const struct msg_step *msg, struct body *body) {
    size_t hops_size = msg->n_hops * sizeof(struct step_hop); /* n_hops < HOPS_MAX: the decoder checked */
    struct step *step = make(net, hops_size);
    if (!step) {
        net_body_free(net, body);
        return NULL;
    }
    step->body = body;
    step->epoch = msg->epoch;
    step->position = msg->position;
    step->n_tokens = msg->n_tokens;
    step->n_rows = msg->n_rows;
    step->wire = msg->dtype;
    step->n_timings = msg->n_timings;
    memcpy(step->timings, msg->timings, msg->n_timings * sizeof *step->timings);
    step->has_parent = msg->has_parent;
    memcpy(step->parent_id, msg->parent, SESSION_SIZE);
    step->shared = msg->shared;
    step->named = msg->named;
    step->n_hops = msg->n_hops;
    memcpy(step->hops, msg->hops, hops_size);
    return step;
}

void step_free(struct net *net, struct step *step) {
    if (!step) return;
    net_body_free(net, step->body);
    net_body_free(net, step->block);
}

void step_free_list(struct net *net, struct step *first) {
    while (first) {
        struct step *next = first->next;
        step_free(net, first);
        first = next;
    }
}
