/* bench.c - corolla bench: prefill and decode speed of a model, in this process or through a chain.
 *
 * Prefill is the time of a prompt of -p tokens from an empty session, decode that of -n tokens behind one token, each with the LM
 * head and a greedy choice. With --users both are those of so many sessions that step together. Medians over the repetitions.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "cli/route.h"

#define REPETITIONS_MAX 100
#define USERS_MAX 64

struct bench {
    struct swarm_options swarm_options;
    uint32_t prompt, n, repetitions, users;
    bool json;

    struct corolla_model *model;
    struct corolla_swarm *swarm;
    struct corolla_session *sessions[USERS_MAX];
    uint32_t n_embd, n_vocab;
    int32_t *tokens;        /* [prompt + 1] */
    float *hidden, *logits; /* [users, n_embd], [users, n_vocab] */
    double *decode_ms;      /* [repetitions * n] */
    size_t n_decode_ms;
    double prefill[REPETITIONS_MAX], decode[REPETITIONS_MAX]; /* tokens/s */
};

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The q-quantile; sorts. */
static double quantile(double *values, size_t n, double q) {
    if (n == 0) return 0;
    qsort(values, n, sizeof *values, compare);
    return values[(size_t)(q * (double)(n - 1) + 0.5)];
}

static int32_t likeliest(const float *logits, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return (int32_t)best;
}

/* All users at once; tokens [n] of each, stride from one to the next (0: all have the same); out_tokens [users]. */
static enum corolla_status step(struct bench *b, uint32_t position, const int32_t *tokens, uint32_t n, uint32_t stride, int32_t *out_tokens,
                                struct corolla_error *err) {
    struct corolla_step steps[USERS_MAX];
    for (uint32_t i = 0; i < b->users; i++)
        steps[i] = (struct corolla_step){.parent = i,
                                         .position = position,
                                         .tokens = tokens + (size_t)i * stride,
                                         .n = n,
                                         .out_hidden = b->hidden + (size_t)i * b->n_embd,
                                         .n_rows = 1};
    enum corolla_status status = corolla_sessions_step(b->sessions, steps, b->users, err);
    if (!status) status = corolla_session_logits(b->sessions[0], b->hidden, b->users, b->logits, err);
    for (uint32_t i = 0; i < b->users && !status; i++) out_tokens[i] = likeliest(b->logits + (size_t)i * b->n_vocab, b->n_vocab);
    return status;
}

static enum corolla_status measure(struct bench *b, size_t repetition, bool count, struct corolla_error *err) {
    int32_t tokens[USERS_MAX];
    enum corolla_status status = COROLLA_OK;
    double start = now_ms();
    if (b->prompt > 0) status = step(b, 0, b->tokens, b->prompt, 0, tokens, err);
    double end = now_ms();
    if (count && b->prompt > 0) b->prefill[repetition] = b->users * b->prompt * 1e3 / (end - start);
    if (!status && b->n > 0) status = step(b, 0, b->tokens, 1, 0, tokens, err);
    start = now_ms();
    for (uint32_t i = 0; i < b->n && !status; i++) {
        double before = now_ms();
        status = step(b, 1 + i, tokens, 1, 1, tokens, err);
        if (count) b->decode_ms[b->n_decode_ms++] = now_ms() - before;
    }
    if (count && b->n > 0) b->decode[repetition] = b->users * b->n * 1e3 / (now_ms() - start);
    return status;
}

static enum corolla_status prepare(struct bench *b, const char *path, struct corolla_error *err) {
    enum corolla_status status = open_model(path, &b->model, err);
    if (status) return status;
    const struct corolla_model_info *info = corolla_model_info(b->model);
    b->n_embd = info->n_embd;
    b->n_vocab = info->n_vocab;
    b->tokens = malloc((b->prompt + 1) * sizeof *b->tokens);
    b->hidden = malloc((size_t)b->users * info->n_embd * sizeof *b->hidden);
    b->logits = malloc((size_t)b->users * info->n_vocab * sizeof *b->logits);
    b->decode_ms = malloc(((size_t)b->repetitions * b->n + 1) * sizeof *b->decode_ms);
    if (!b->tokens || !b->hidden || !b->logits || !b->decode_ms) {
        err->status = COROLLA_NOMEM;
        strcpy(err->message, "out of memory");
        return COROLLA_NOMEM;
    }
    for (uint32_t i = 0; i <= b->prompt; i++) b->tokens[i] = (int32_t)((i * 7919ull + 13) % info->n_vocab);
    status = corolla_swarm_open(&b->swarm, b->model, &b->swarm_options.config, err);
    uint32_t length = b->prompt > b->n + 1 ? b->prompt : b->n + 1;
    for (uint32_t i = 0; i < b->users && !status; i++) status = corolla_session_open(&b->sessions[i], b->swarm, length, err);
    return status;
}

static void report(struct bench *b) {
    double prefill = b->prompt ? quantile(b->prefill, b->repetitions, 0.5) : 0,
           decode = b->n ? quantile(b->decode, b->repetitions, 0.5) : 0;
    double p50 = quantile(b->decode_ms, b->n_decode_ms, 0.5), p99 = quantile(b->decode_ms, b->n_decode_ms, 0.99);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t threads = b->swarm_options.config.threads ? b->swarm_options.config.threads
                       : b->swarm_options.config.local ? (uint32_t)cores
                                                       : 1;
    if (b->json) {
        json_t *object = json_pack("{s:f, s:f, s:f, s:f, s:i, s:I}", "prefill_tokens_per_s", prefill, "decode_tokens_per_s", decode,
                                   "decode_p50_ms", p50, "decode_p99_ms", p99, "users", (int)b->users, "threads", (json_int_t)threads);
        json_dumpf(object, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(object);
        return;
    }
    if (!b->swarm_options.config.local) route_print(b->swarm);
    printf("%-24s %s\n", "model", corolla_model_info(b->model)->name);
    printf("%-24s %u\n", "threads of this process", threads);
    if (b->users > 1) printf("%-24s %u\n", "users at once", b->users);
    if (b->prompt) printf("%-24s %.1f tokens/s\n", "prefill", prefill);
    if (b->n) printf("%-24s %.1f tokens/s (a token: %.2f ms, p99 %.2f ms)\n", "decode", decode, p50, p99);
}

static enum corolla_status bench(struct bench *b, const char *path, struct corolla_error *err) {
    enum corolla_status status = prepare(b, path, err);
    if (!status) status = measure(b, 0, false, err); /* warm */
    for (uint32_t i = 0; i < b->repetitions && !status; i++) status = measure(b, i, true, err);
    if (!status) report(b);
    return status;
}

int bench_main(int argc, char **argv) {
    struct bench b = {.prompt = 512, .n = 128, .repetitions = 3, .users = 1};
    struct options options = {.usage = "bench MODEL [options]",
                              .about = "Measures prefill and decode speed, through the servers of --join or with --local.",
                              .word = "MODEL"};
    const struct option rows[] = {
        {"-p", OPTION_U32, &b.prompt, 0, 1 << 20, "TOKENS", "length of the prompt (512)"},
        {"-n", OPTION_U32, &b.n, 0, 1 << 20, "TOKENS", "tokens to decode (128)"},
        {"--users", OPTION_U32, &b.users, 1, USERS_MAX, "N", "sessions that step together; speeds are sums (1)"},
        {"--repetitions", OPTION_U32, &b.repetitions, 1, REPETITIONS_MAX, "R", "medians over R runs (3)"},
        {"--json", OPTION_FLAG, &b.json, 0, 0, "", "print one JSON object"},
    };
    struct corolla_error err;
    int code;
    options_add(&options, rows, sizeof rows / sizeof rows[0]);
    options_add_swarm(&options, &b.swarm_options);
    if (!options_parse(&options, argc, argv, &code)) return code;
    code = swarm_options_finish(&options, &b.swarm_options);
    if (code) return code;
    enum corolla_status status = bench(&b, options.argument, &err);
    for (uint32_t i = 0; i < b.users; i++) corolla_session_close(b.sessions[i]);
    corolla_swarm_close(b.swarm);
    corolla_model_close(b.model);
    free(b.tokens);
    free(b.hidden);
    free(b.logits);
    free(b.decode_ms);
    return status ? fail(&err) : EXIT_GOOD;
}
