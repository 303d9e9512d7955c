/* drive.c - a client that is told what to do, a line at a time, and says when each thing was done (drive.py):
 *
 *   drive MODEL HANG_MS [CODE]...     HANG_MS as in struct corolla_swarm_config; without a code all blocks are computed in this process
 *
 *   open N       a new session for N positions in the place of the one before; prints "hop NODE BEGIN END" for each
 *   prefill N    made-up tokens up to position N, 128 at a time, the next when the last is back, so that one hop computes at a time;
 *                prints "compute US..." of each hop
 *   decode N     greedy tokens, "token ID MS" each
 *   back N       what stands at and behind position N is dropped
 *   again        a new session, and all tokens so far as its prompt: what a client does that cannot recover
 *   hops         prints the chain once more
 *
 * Each command ends with "done MS". MS is CLOCK_MONOTONIC in milliseconds. "event KIND NODE BEGIN END POSITION PAUSE_MS REASON" comes in
 * between.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <corolla.h>

#define CHUNK 128

struct client {
    struct corolla_model *model;
    struct corolla_swarm *swarm;
    struct corolla_session *session;
    uint32_t n_vocab, n_max, n; /* of the tokens; the last one is not in the KV yet when it was decoded */
    int32_t *tokens;
    float *hidden, *logits;
};

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void must(enum corolla_status status, const struct corolla_error *err) {
    if (!status) return;
    fprintf(stderr, "drive: %s: %s\n", corolla_status_name(status), err->message);
    exit(1);
}

static void *allocate(size_t n, size_t size) {
    void *memory = calloc(n, size);
    if (!memory) abort();
    return memory;
}

static void on_event(void *user, const struct corolla_event *e) {
    static const char *const kinds[] = {"waiting", "recovered", "moved"};
    (void)user;
    printf("event %s %s %u %u %u %.3f %s\n", kinds[e->kind], e->node[0] ? e->node : "-", e->begin, e->end, e->position, e->pause_ms,
           e->reason ? e->reason : e->text);
    fflush(stdout);
}

static void print_hops(struct client *c) {
    struct corolla_hop hops[COROLLA_HOPS_MAX];
    size_t n = corolla_swarm_chain(c->swarm, hops, COROLLA_HOPS_MAX);
    for (size_t i = 0; i < n; i++) printf("hop %s %u %u\n", hops[i].node, hops[i].begin, hops[i].end);
}

static void open_session(struct client *c) {
    struct corolla_error err;
    corolla_session_close(c->session);
    c->session = NULL;
    must(corolla_session_open(&c->session, c->swarm, c->n_max, &err), &err);
    corolla_session_watch(c->session, on_event, c);
}

static void open_new(struct client *c, uint32_t n_max) {
    c->n_max = n_max;
    c->n = 0;
    free(c->tokens);
    c->tokens = allocate(n_max + 1, sizeof *c->tokens);
    open_session(c);
    print_hops(c);
}

static void step(struct client *c, uint32_t position, uint32_t n) {
    struct corolla_error err;
    must(corolla_session_step(c->session, position, c->tokens + position, n, c->hidden, 1, &err), &err);
}

static void prefill(struct client *c, uint32_t end) {
    uint64_t us[COROLLA_HOPS_MAX] = {0};
    size_t n_hops = 0;
    for (uint32_t i = c->n; i < end; i++) c->tokens[i] = (int32_t)((i * 7919u + 13) % c->n_vocab);
    for (uint32_t n; c->n < end; c->n += n) {
        struct corolla_hop_timing timings[COROLLA_HOPS_MAX];
        n = end - c->n < CHUNK ? end - c->n : CHUNK;
        step(c, c->n, n);
        n_hops = corolla_session_timings(c->session, timings, COROLLA_HOPS_MAX, NULL);
        for (size_t i = 0; i < n_hops; i++) us[i] += timings[i].compute_us;
    }
    printf("compute");
    for (size_t i = 0; i < n_hops; i++) printf(" %llu", (unsigned long long)us[i]);
    putchar('\n');
}

static int32_t likeliest(const struct client *c) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < c->n_vocab; i++)
        if (c->logits[i] > c->logits[best]) best = i;
    return (int32_t)best;
}

/* The last token goes in, the one behind it comes out. */
static void decode(struct client *c, uint32_t n) {
    struct corolla_error err;
    for (uint32_t i = 0; i < n; i++) {
        step(c, c->n - 1, 1);
        must(corolla_session_logits(c->session, c->hidden, 1, c->logits, &err), &err);
        c->tokens[c->n++] = likeliest(c);
        printf("token %d %.3f\n", c->tokens[c->n - 1], now_ms());
        fflush(stdout);
    }
}

static void again(struct client *c) {
    open_session(c);
    print_hops(c);
    if (c->n > 1) step(c, 0, c->n - 1);
}

static void obey(struct client *c, const char *line) {
    char word[16] = "";
    uint32_t n = 0;
    sscanf(line, "%15s %u", word, &n);
    if (strcmp(word, "open") == 0)
        open_new(c, n);
    else if (strcmp(word, "prefill") == 0 && n <= c->n_max)
        prefill(c, n);
    else if (strcmp(word, "decode") == 0 && c->n > 0 && n <= c->n_max - c->n)
        decode(c, n);
    else if (strcmp(word, "back") == 0 && n <= c->n)
        c->n = n;
    else if (strcmp(word, "again") == 0)
        again(c);
    else if (strcmp(word, "hops") == 0)
        print_hops(c);
    else
        fprintf(stderr, "drive: not understood: %s", line), exit(2);
    printf("done %.3f\n", now_ms());
    fflush(stdout);
}

int main(int argc, char **argv) {
    struct client c = {0};
    struct corolla_swarm_config config;
    struct corolla_error err;
    char line[64];
    if (argc < 3) {
        fprintf(stderr, "usage: drive MODEL HANG_MS [CODE]...\n");
        return 2;
    }
    must(corolla_model_open(&c.model, argv[1], NULL, NULL, &err), &err);
    corolla_swarm_config_default(&config);
    config.exact = true;
    config.threads = 1;
    config.hang_ms = (uint32_t)strtoul(argv[2], NULL, 10);
    config.local = argc == 3;
    config.joins = (const char *const *)argv + 3;
    config.n_joins = (size_t)argc - 3;
    must(corolla_swarm_open(&c.swarm, c.model, &config, &err), &err);
    c.n_vocab = corolla_model_info(c.model)->n_vocab;
    c.hidden = allocate(corolla_model_info(c.model)->n_embd, sizeof *c.hidden);
    c.logits = allocate(c.n_vocab, sizeof *c.logits);
    while (fgets(line, sizeof line, stdin)) obey(&c, line);
    corolla_session_close(c.session);
    corolla_swarm_close(c.swarm);
    corolla_model_close(c.model);
    free(c.tokens);
    free(c.hidden);
    free(c.logits);
    return 0;
}
