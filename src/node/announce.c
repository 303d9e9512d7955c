/* announce.c - our record: what the swarm is told of this server, and when. Loop thread.
 *
 * States and spans are told at once; figures when they changed by a quarter, every FIGURES_MS at most, so that a busy server
 * does not fill the swarm with its news. Gossip repeats the last record each minute, however old its figures are.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "node/node.h"

#define FIGURES_MS 2000
#define CHANGE 1.25 /* of a figure */

static enum record_state state_of(const struct node *node) {
    if (node->drain & NODE_DRAIN_LEAVING) return RECORD_OFFLINE;
    if (!node->host || node->drain & NODE_DRAIN_MOVING) return node->state;
    return node->drain ? RECORD_DRAINING : RECORD_ONLINE;
}

/* tokens/s over the whole span -> microseconds of one block for one token; 0: not known. */
static float block_us(float tokens_per_s, uint32_t n_blocks) {
    return tokens_per_s > 0 && n_blocks > 0 ? 1e6f / tokens_per_s / (float)n_blocks : 0;
}

static void make_record(const struct node *node, struct record *r) {
    const struct msg_info *info = &node->info;
    *r = (struct record){.node = *net_self(node->net), .state = state_of(node)};
    memcpy(r->model, info->model, ID_SIZE);
    memcpy(r->model_name, info->model_name, sizeof r->model_name);
    memcpy(r->name, info->name, sizeof r->name);
    memcpy(r->version, info->version, sizeof r->version);
    r->n_blocks = info->n_blocks;
    r->n_embd = info->n_embd;
    r->begin = info->begin;
    r->end = info->end;
    r->wires = info->wires;
    r->exact = info->exact;
    r->arithmetic_class = info->arithmetic_class;
    r->session_tokens_max = info->session_tokens_max;
    r->sessions = node->sessions.n;
    if (!node->host) return;
    const struct host *host = node->host;
    r->decode_block_us = block_us(host->measure.decode_tokens_per_s, host->end - host->begin);
    r->prefill_block_us = block_us(host->measure.prefill_tokens_per_s, host->end - host->begin);
    r->queue_us = (uint32_t)host->measure.queue_us;
    r->cache_tokens_left = node_tokens_left(node);
    r->n_rtts = reach_rtts(node, r->rtts);
}

void announce(struct node *node) {
    if (!node->mesh) return;
    struct record record;
    make_record(node, &record);
    if (record.begin >= record.end) return; /* it is not decided yet what will be hosted */
    node->told = record;
    node->told_ms = clock_life_ms();
    mesh_publish(node->mesh, &record);
}

static bool differs(double a, double b) { return a > b * CHANGE || b > a * CHANGE; }

static bool worth_telling(const struct record *told, const struct record *now) {
    if (told->n_rtts != now->n_rtts || differs(told->decode_block_us, now->decode_block_us)) return true;
    if (differs(told->prefill_block_us, now->prefill_block_us)) return true;
    if (differs((double)told->cache_tokens_left, (double)now->cache_tokens_left)) return true;
    if (differs(told->queue_us + 2000.0, now->queue_us + 2000.0)) return true;
    return differs(told->sessions + 2.0, now->sessions + 2.0);
}

void announce_tick(struct node *node) {
    struct record now;
    if (node->host && node->n_steps == 0) measure_rest(&node->host->measure);
    make_record(node, &now);
    if (clock_life_ms() - node->told_ms >= FIGURES_MS && worth_telling(&node->told, &now)) announce(node);
}
