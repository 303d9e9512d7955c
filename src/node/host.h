/* host.h - what a server hosts: a span that is loaded and measured, its KV budget, and the thread that computes on it.
 *
 * A server has one host at a time, or none while it loads. To move it gives its host back, when no session is left, and takes another one.
 *
 * Threads: loaded and freed by the thread that controls the server; the loop's between node_take() and node_give().
 */
#ifndef COROLLA_NODE_HOST_H
#define COROLLA_NODE_HOST_H

#include "node/compute.h"
#include "node/measure.h"

struct host {
    struct span *span;
    struct compute *compute;
    struct measure measure; /* kept in the cache when the host ends (measure_cache.h) */
    const struct model_file *file;
    uint32_t begin, end;
    uint32_t cache_tokens; /* of KV, all sessions together */
    uint32_t session_tokens_max;
    int64_t rows_bytes_left; /* of the memory for the rows that sessions keep; the loop's */
    int spool;               /* where idle sessions go (swap.h); -1: nowhere */
    uint64_t spool_max;      /* bytes; 0: nobody is sent away, or not any more */
};

struct host_config {
    struct engine *engine;         /* borrowed; nobody computes on it while a host is loaded */
    const struct model_file *file; /* borrowed */
    uint32_t begin, end;
    enum corolla_kv kv;
    uint32_t cache_tokens; /* of KV; 0: 16,384, or what memory allows */
    uint64_t swap_bytes;   /* of the file for idle sessions; 0: none */
    const char *home;      /* where it is made */
    uint64_t memory_max;   /* bytes of weights, KV and the rows that sessions keep together; 0: what is free */
};
/* NOMEM says what would fit. */
enum corolla_status host_load(struct host **out_host, const struct host_config *config, struct corolla_error *err);
/* Starts its compute thread, whose notify() is as in compute.h. */
enum corolla_status host_start(struct host *host, struct net *net, void (*notify)(void *user), void *user, struct corolla_error *err);
void host_stop(struct host *host); /* its compute thread ends; it can be started again */
/* All its sessions are gone. */
void host_free(struct host *host);

/* How many consecutive blocks of the file fit, beginning with the dearest ones, with the KV that config asks for: the estimate that
 * host_load() uses. 0: none. */
uint32_t host_blocks_that_fit(const struct host_config *config);

#endif
