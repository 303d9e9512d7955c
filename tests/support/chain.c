/* chain.c - see chain.h. */
#include "chain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define LOGITS_ROWS 64

static void must(enum corolla_status status, const struct corolla_error *err, const char *what) {
    if (status) fail_msg("%s: %s: %s", what, corolla_status_name(status), err->message);
}

static struct span *load_span(struct chain *c, const struct chain_config *config, uint32_t begin, uint32_t end) {
    struct corolla_error err;
    struct span_config sc = {.begin = begin, .end = end, .kv = config->kv, .kv_bytes = 1u << 30};
    struct span *span = NULL;
    if (config->kv_tokens) sc.kv_planned = span_kv_bytes(model_file_hparams(c->file), end - begin, config->kv, config->kv_tokens);
    must(span_load(&span, c->engine, c->file, &sc, &err), &err, "span_load");
    return span;
}

void chain_open(struct chain *c, const struct chain_config *config) {
    struct corolla_error err;
    struct engine_config ec = {.threads = config->threads, .device = config->device};
    uint32_t begin = 0;
    memset(c, 0, sizeof *c);
    must(model_file_open(&c->file, config->path, NULL, NULL, &err), &err, "model_file_open");
    must(engine_new(&c->engine, &ec, &err), &err, "engine_new");
    must(edges_load(&c->edges, c->engine, c->file, &err), &err, "edges_load");
    c->n_embd = model_file_hparams(c->file)->n_embd;
    c->n_vocab = model_file_hparams(c->file)->n_vocab;
    for (uint32_t i = 0; i < config->n_cuts; begin = config->cuts[i++])
        c->spans[c->n_spans++] = load_span(c, config, begin, config->cuts[i]);
    if (config->n_cuts == 0) c->spans[c->n_spans++] = load_span(c, config, 0, model_file_hparams(c->file)->n_blocks);
}

void chain_close(struct chain *c) {
    for (uint32_t i = 0; i < c->n_spans; i++) span_free(c->spans[i]);
    edges_free(c->edges);
    engine_free(c->engine);
    model_file_close(c->file);
}

bool chain_exact(const struct chain *c) {
    for (uint32_t i = 0; i < c->n_spans; i++)
        if (!span_exact(c->spans[i])) return false;
    return true;
}

static void add_part(struct lane *l, struct span *span, uint32_t begin, uint32_t end, uint32_t max_tokens) {
    struct corolla_error err;
    l->spans[l->n_parts] = span;
    must(kv_open(&l->kv[l->n_parts++], span, begin, end, max_tokens, &err), &err, "kv_open");
}

void lane_open(struct lane *l, struct chain *c, uint32_t max_tokens) {
    *l = (struct lane){.chain = c};
    for (uint32_t i = 0; i < c->n_spans; i++) add_part(l, c->spans[i], span_begin(c->spans[i]), span_end(c->spans[i]), max_tokens);
}

void lane_open_cut(struct lane *l, struct chain *c, uint32_t max_tokens, const uint32_t *cuts, uint32_t n_cuts) {
    *l = (struct lane){.chain = c};
    for (uint32_t i = 0, begin = 0; i < n_cuts; begin = cuts[i++]) add_part(l, c->spans[0], begin, cuts[i], max_tokens);
}

void lane_close(struct lane *l) {
    for (uint32_t i = 0; i < l->n_parts; i++) kv_close(l->kv[i]);
}

void lanes_step(const struct lane_step *steps, uint32_t n_steps) {
    struct corolla_error err;
    struct chain *c = steps[0].lane->chain;
    struct batch_item items[BATCH_ITEMS_MAX];
    for (uint32_t i = 0; i < n_steps; i++)
        must(edges_embed(c->edges, steps[i].position, steps[i].tokens, steps[i].n, steps[i].out_hidden, &err), &err, "edges_embed");
    for (uint32_t part = 0; part < steps[0].lane->n_parts; part++) {
        for (uint32_t i = 0; i < n_steps; i++)
            items[i] = (struct batch_item){.kv = steps[i].lane->kv[part],
                                           .position = steps[i].position,
                                           .n = steps[i].n,
                                           .in = steps[i].out_hidden,
                                           .out = steps[i].out_hidden};
        must(span_forward(steps[0].lane->spans[part], items, n_steps, &err), &err, "span_forward");
    }
}

void lane_run(struct lane *l, uint32_t position, const int32_t *tokens, uint32_t n, uint32_t chunk, float *out_hidden) {
    for (uint32_t at = 0; at < n; at += chunk) {
        struct lane_step step = {.lane = l,
                                 .position = position + at,
                                 .n = n - at < chunk ? n - at : chunk,
                                 .tokens = tokens + at,
                                 .out_hidden = out_hidden + (size_t)at * l->chain->n_embd};
        lanes_step(&step, 1);
    }
}

void chain_logits(struct chain *c, const float *hidden, uint32_t n, float *out_logits) {
    struct corolla_error err;
    for (uint32_t at = 0; at < n; at += LOGITS_ROWS) {
        uint32_t rows = n - at < LOGITS_ROWS ? n - at : LOGITS_ROWS;
        must(edges_logits(c->edges, hidden + (size_t)at * c->n_embd, rows, out_logits + (size_t)at * c->n_vocab, &err), &err,
             "edges_logits");
    }
}

void random_tokens(uint64_t seed, uint32_t n_vocab, int32_t *out_tokens, uint32_t n) {
    uint64_t s = seed * 2862933555777941757u + 3037000493u;
    for (uint32_t i = 0; i < n; i++) {
        s = s * 6364136223846793005u + 1442695040888963407u;
        out_tokens[i] = (int32_t)((s >> 33) % n_vocab);
    }
}

double nmse(const float *values, const float *others, size_t n) {
    double error = 0, power = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)values[i] - (double)others[i];
        error += d * d;
        power += (double)others[i] * (double)others[i];
    }
    return error / power;
}
