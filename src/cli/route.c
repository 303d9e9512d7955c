/* route.c - see route.h. */
#include "cli/route.h"

#include <stdio.h>
#include <string.h>

#define HOPS_SHOWN_MAX 64

void route_print(struct corolla_swarm *swarm) {
    struct corolla_hop hops[HOPS_SHOWN_MAX];
    size_t n = corolla_swarm_chain(swarm, hops, HOPS_SHOWN_MAX);
    for (size_t i = 0; i < n && i < HOPS_SHOWN_MAX; i++) {
        const struct corolla_hop *h = &hops[i];
        const char *instance = strchr(h->node, '/'); /* which process of its home */
        fprintf(stderr, "hop %zu of %zu: blocks %u:%u on %.12s%s%s%s", i + 1, n, h->begin, h->end, h->node, instance ? instance : "",
                h->name[0] ? " " : "", h->name);
        if (h->decode_tokens_per_s > 0)
            fprintf(stderr, ", decode %.0f and prefill %.0f tokens/s", (double)h->decode_tokens_per_s, (double)h->prefill_tokens_per_s);
        fprintf(stderr, "%s\n", h->exact ? "" : ", not exact");
    }
}

json_t *route_json(struct corolla_swarm *swarm) {
    struct corolla_hop hops[HOPS_SHOWN_MAX];
    size_t n = corolla_swarm_chain(swarm, hops, HOPS_SHOWN_MAX);
    json_t *list = json_array();
    for (size_t i = 0; i < n && i < HOPS_SHOWN_MAX; i++)
        json_array_append_new(
            list, json_pack("{s:s, s:I, s:I}", "node", hops[i].node, "begin", (json_int_t)hops[i].begin, "end", (json_int_t)hops[i].end));
    return list;
}
