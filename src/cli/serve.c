/* serve.c - corolla serve: hosts a span until SIGINT or SIGTERM. stdout carries "join CODE" and "ready A:B", nothing else. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/options.h"

struct serve {
    struct corolla_server_config config;
    struct option_span blocks;
    uint32_t num_blocks;
    struct option_list announces, joins;
    int kv;
};

static void add_rows(struct options *o, struct serve *s) {
    const struct option rows[] = {
        {"--blocks", OPTION_SPAN, &s->blocks, 0, 0, "A:B", "host blocks A to B - 1 (all)"},
        {"--num-blocks", OPTION_U32, &s->num_blocks, 1, 1e6, "N", "host the first N blocks"},
        {"--listen", OPTION_TEXT, &s->config.listen, 0, 0, "HOST:PORT", "where to listen; port 0 takes a free one (0.0.0.0:0)"},
        {"--announce", OPTION_LIST, &s->announces, 0, 0, "HOST:PORT", "tell others this address instead"},
        {"--threads", OPTION_U32, &s->config.threads, 1, 512, "N", "compute threads (one per core)"},
        {"--device", OPTION_TEXT, &s->config.device, 0, 0, "NAME", "ggml device (CPU)"},
        {"--cache-tokens", OPTION_U32, &s->config.cache_tokens, 1, 1e9, "N", "KV cache of all sessions together, in tokens (16384)"},
        {"--kv-type", OPTION_CHOICE, &s->kv, 0, 0, "f16|f32", "KV cache (f16)"},
        {"--public-name", OPTION_TEXT, &s->config.name, 0, 0, "NAME", "how the server is shown to others"},
        {"--join", OPTION_LIST, &s->joins, 0, 0, "CODE", "join code of a private swarm, to become a member"},
        {"--swarm-key", OPTION_TEXT, &s->config.swarm_key, 0, 0, "FILE", "key of a private swarm, to hand out certificates"},
        {"--fast", OPTION_FLAG, &s->config.fast, 0, 0, "", "faster kernels whose results are not exact"},
    };
    options_add(o, rows, sizeof rows / sizeof rows[0]);
}

/* The span that the flags ask for; 0 or the exit code. */
static int choose_span(const struct options *o, struct serve *s, uint32_t n_blocks) {
    struct option_span span = {.begin = 0, .end = s->num_blocks ? s->num_blocks : n_blocks};
    if (s->blocks.given && s->num_blocks) return options_refuse(o, "--blocks and --num-blocks exclude each other");
    if (s->blocks.given) span = s->blocks;
    if (span.end > n_blocks) return options_refuse(o, "blocks %u:%u are not a part of the model's 0:%u", span.begin, span.end, n_blocks);
    s->config.begin = span.begin;
    s->config.end = span.end;
    return 0;
}

static int serve(struct corolla_model *model, struct serve *s, const sigset_t *ending) {
    struct corolla_server *server;
    struct corolla_error err;
    uint32_t begin, end;
    int signal_number;
    if (corolla_server_start(&server, model, &s->config, &err)) return fail(&err);
    corolla_server_span(server, &begin, &end);
    printf("join %s\nready %u:%u\n", corolla_server_join_code(server), begin, end);
    fflush(stdout);
    if (isatty(STDERR_FILENO)) fprintf(stderr, "serving blocks %u:%u of %s; Ctrl-C stops\n", begin, end, corolla_model_info(model)->name);
    sigwait(ending, &signal_number);
    pthread_sigmask(SIG_UNBLOCK, ending, NULL); /* a second signal ends at once */
    corolla_server_stop(server);
    return EXIT_GOOD;
}

int serve_main(int argc, char **argv) {
    struct serve s = {0};
    struct options options = {
        .usage = "serve MODEL [options]",
        .about = "Hosts blocks of a model for others. Prints \"join CODE\", which clients give to --join, and \"ready A:B\"\n"
                 "when it can be used. Servers of a chain can read what passes through them.",
        .word = "MODEL"};
    struct corolla_model *model;
    struct corolla_error err;
    sigset_t ending;
    int code;
    corolla_server_config_default(&s.config);
    add_rows(&options, &s);
    if (!options_parse(&options, argc, argv, &code)) return code;
    s.config.announces = s.announces.items;
    s.config.n_announces = s.announces.n;
    s.config.joins = s.joins.items;
    s.config.n_joins = s.joins.n;
    s.config.kv = (enum corolla_kv)s.kv;
    /* Blocked before any thread starts, so that sigwait() alone gets them. */
    sigemptyset(&ending);
    sigaddset(&ending, SIGINT);
    sigaddset(&ending, SIGTERM);
    if (open_model(options.argument, &model, &err)) return fail(&err);
    code = choose_span(&options, &s, corolla_model_info(model)->n_blocks);
    if (code == 0) {
        pthread_sigmask(SIG_BLOCK, &ending, NULL);
        code = serve(model, &s, &ending);
    }
    corolla_model_close(model);
    return code;
}
