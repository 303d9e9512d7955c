/* stats.c - see stats.h. */
#include "node/stats.h"

#include "node/swap.h"

static void count(struct corolla_histogram *h, uint64_t value) {
    uint32_t i = 0;
    while (i < COROLLA_HISTOGRAM_SIZE - 1 && value > UINT64_C(1) << i) i++;
    h->counts[i]++;
    h->sum += value;
}

void stats_note_step(struct corolla_server_stats *stats, const struct step *step) {
    bool decode = step->n_tokens <= STEP_DECODE_ROWS_MAX;
    if (step->error.status == COROLLA_OK) *(decode ? &stats->decode_rows : &stats->prefill_rows) += step->n_tokens;
    if (!decode) return;
    count(&stats->queue_us, step->queue_us);
    if (step->turn_items == 0) return;
    count(&stats->turn_us, step->turn_us);
    count(&stats->turn_sessions, step->turn_items);
}

void stats_take(struct node *node, struct corolla_server_stats *out) {
    *out = node->stats;
    out->begin = node->info.begin;
    out->end = node->info.end;
    out->sessions = node->sessions.n;
    for (uint32_t i = 0; i < SESSIONS_MAX; i++) out->clients += node->sessions.clients[i].n > 0;
    out->steps = node->n_steps;
    out->prefixes = node->n_kept;
    if (node->host) {
        out->swapped = swap_count(node);
        out->cache_tokens = node->host->cache_tokens;
        out->cache_tokens_left = node_tokens_left(node);
    }
    net_bytes(node->net, &out->bytes_received, &out->bytes_sent);
}
