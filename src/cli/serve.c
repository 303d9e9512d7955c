/* serve.c - corolla serve: hosts blocks until SIGINT or SIGTERM; SIGUSR1 pauses, SIGUSR2 resumes. stdout carries "join CODE" and "ready
 * A:B", nothing else. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "cli/cli.h"
#include "cli/metrics.h"
#include "cli/options.h"
#include "cli/status_line.h"

struct serve {
    struct corolla_server_config config;
    struct option_span blocks;
    struct option_list announces, joins, trusted;
    const char *metrics; /* HOST:PORT, or NULL */
    int kv;
    enum corolla_log_level log_level;
};

static void add_rows(struct options *o, struct serve *s) {
    const struct option rows[] = {
        {"--blocks", OPTION_SPAN, &s->blocks, 0, 0, "A:B", "host blocks A to B - 1 (those that the swarm needs most)"},
        {"--num-blocks", OPTION_U32, &s->config.n_blocks, 1, 1e6, "N", "host N blocks (as many as fit)"},
        {"--memory", OPTION_SIZE, &s->config.memory_max, 0, 0, "SIZE", "for weights and KV together, as in 6G (what is free)"},
        {"--listen", OPTION_TEXT, &s->config.listen, 0, 0, "HOST:PORT", "where to listen; port 0 takes a free one ([::]:0, IPv4 too)"},
        {"--announce", OPTION_LIST, &s->announces, 0, 0, "HOST:PORT", "tell others this address instead"},
        {"--threads", OPTION_U32, &s->config.threads, 1, 512, "N", "compute threads (one per core that is free for it)"},
        {"--device", OPTION_TEXT, &s->config.device, 0, 0, "NAME[=MIB],...",
         "ggml devices, or rpc:HOST:PORT of ggml's RPC server; MIB: of its memory (CPU)"},
        {"--cache-tokens", OPTION_U32, &s->config.cache_tokens, 1, 1e9, "N", "KV cache of all sessions together, in tokens (16384)"},
        {"--swap", OPTION_SIZE, &s->config.swap_bytes, 0, 0, "SIZE", "on disk, for idle sessions when others need their memory (none)"},
        {"--kv-type", OPTION_CHOICE, &s->kv, 0, 0, "f16|f32|q8_0", "KV cache; q8_0 is small and not exact (f16)"},
        {"--public-name", OPTION_TEXT, &s->config.name, 0, 0, "NAME", "how the server is shown to others"},
        {"--join", OPTION_LIST, &s->joins, 0, 0, "CODE",
         "a join code, or HOST[:PORT] of an entry; else COROLLA_JOIN, the LAN, known peers"},
        {"--swarm-key", OPTION_TEXT, &s->config.swarm_key, 0, 0, "FILE", "key of a private swarm, to hand out certificates"},
        {"--share-prefixes", OPTION_FLAG, &s->config.share_prefixes, 0, 0, "",
         "in a private swarm: copy what sessions of all members begin with"},
        {"--max-clients", OPTION_U32, &s->config.max_clients, 1, 1024, "N",
         "sessions of at most N identities at once (as many as there is room for)"},
        {"--client-share", OPTION_U32, &s->config.client_percent, 1, 100, "PERCENT", "of the KV cache that one identity may hold (100)"},
        {"--trust", OPTION_LIST, &s->trusted, 0, 0, "KEY", "an identity without these limits, as `corolla key show` prints it"},
        {"--upload-limit", OPTION_SIZE, &s->config.upload_bytes_per_s, 0, 0, "RATE",
         "bytes per second to all others together, as in 2M; 64K at least (no limit)"},
        {"--metrics", OPTION_TEXT, &s->metrics, 0, 0, "HOST:PORT",
         "figures for Prometheus at http://HOST:PORT/metrics; port 0 takes a free one"},
        {"--fast", OPTION_FLAG, &s->config.fast, 0, 0, "", "faster kernels whose results are not exact"},
        {"--config", OPTION_TEXT, &o->config, 0, 0, "FILE", "read options first: a line \"name value\" each, MODEL as \"model PATH\""},
    };
    options_add(o, rows, sizeof rows / sizeof rows[0]);
}

static int check_upload(const struct options *o, const struct serve *s) {
    uint64_t rate = s->config.upload_bytes_per_s;
    if (rate == 0 || (rate >= COROLLA_UPLOAD_MIN && rate <= COROLLA_UPLOAD_MAX)) return 0;
    return options_refuse(o, "--upload-limit is 64K (bytes per second) to 1T: less would not let a large prefill make progress");
}

/* Checks what the flags ask for; 0 or the exit code. */
static int check_span(const struct options *o, struct serve *s, uint32_t n_blocks) {
    const struct option_span *span = &s->blocks;
    if (span->given + (s->config.n_blocks > 0) + (s->config.memory_max > 0) > 1)
        return options_refuse(o, "--blocks, --num-blocks and --memory exclude each other");
    if (span->given && span->end > n_blocks)
        return options_refuse(o, "blocks %u:%u are not a part of the model's 0:%u", span->begin, span->end, n_blocks);
    if (s->config.n_blocks > n_blocks) return options_refuse(o, "%u blocks are more than the model's %u", s->config.n_blocks, n_blocks);
    s->config.begin = span->begin;
    s->config.end = span->end;
    return 0;
}

static void print_ready(const struct corolla_server *server, const struct corolla_model *model) {
    uint32_t begin, end;
    corolla_server_span(server, &begin, &end);
    printf("join %s\nready %u:%u\n", corolla_server_join_code(server), begin, end);
    fflush(stdout);
    fprintf(stderr, "serving blocks %u:%u of %s: %s\n", begin, end, corolla_model_info(model)->name, corolla_server_why(server));
    if (isatty(STDERR_FILENO)) fprintf(stderr, "Ctrl-C stops\n");
}

/* ---- signals --------------------------------------------------------------------------------------------------- */

struct signals {
    sigset_t set;
    int to_main[2];    /* a pipe: the numbers that main has to do something about */
    atomic_bool ready; /* main reads them: it is not loading, and not leaving */
};

/* Waits for signals, which are blocked everywhere else. Who loads, or leaves already, is ended at once: nothing is lost by it. */
static void *signals_main(void *user) {
    struct signals *s = user;
    int number;
    while (sigwait(&s->set, &number) == 0) {
        bool ends = number == SIGINT || number == SIGTERM;
        if (ends && !atomic_exchange(&s->ready, false)) {
            pthread_sigmask(SIG_UNBLOCK, &s->set, NULL);
            raise(number);
        }
        if (write(s->to_main[1], &number, sizeof number) != sizeof number) _exit(EXIT_FAILED);
    }
    return NULL;
}

/* Before any other thread starts, so that all of them have the signals blocked. */
static bool signals_start(struct signals *s) {
    pthread_t thread;
    sigemptyset(&s->set);
    sigaddset(&s->set, SIGINT);
    sigaddset(&s->set, SIGTERM);
    sigaddset(&s->set, SIGUSR1);
    sigaddset(&s->set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &s->set, NULL);
    return pipe(s->to_main) == 0 && pthread_create(&thread, NULL, signals_main, s) == 0 && pthread_detach(thread) == 0;
}

static int signals_next(struct signals *s) {
    int number = SIGTERM;
    while (read(s->to_main[0], &number, sizeof number) < 0 && errno == EINTR) {
    }
    return number;
}

/* ---- serving --------------------------------------------------------------------------------------------------- */

/* Until a signal ends it. */
static void serve_signals(struct corolla_server *server, enum corolla_log_level log_level, struct signals *signals) {
    struct status_line *line = status_line_start(server, log_level);
    int number;
    while ((number = signals_next(signals)) == SIGUSR1 || number == SIGUSR2) {
        corolla_server_pause(server, number == SIGUSR1);
        status_line_say(line, number == SIGUSR1 ? "paused: no new sessions until SIGUSR2" : "resumed");
    }
    status_line_stop(line);
}

/* What a session had goes back to the system when it ends. By itself glibc keeps freed pieces of many sizes, and a server that clients of
 * all kinds come to and leave grows to many times what it needs. */
static void keep_no_memory(void) {
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 128 << 10); /* below a page of kept rows */
    mallopt(M_MMAP_MAX, 32768);
#endif
}

static int serve(struct corolla_model *model, struct serve *s, struct signals *signals) {
    struct corolla_server *server;
    struct metrics *metrics = NULL;
    struct corolla_error err;
    if (corolla_server_start(&server, model, &s->config, &err)) return fail(&err);
    if (s->metrics && metrics_start(&metrics, s->metrics, server, &err)) {
        corolla_server_stop(server);
        return fail(&err);
    }
    atomic_store(&signals->ready, true);
    if (metrics) fprintf(stderr, "metrics at %s\n", metrics_url(metrics));
    print_ready(server, model);
    serve_signals(server, s->log_level, signals);
    metrics_stop(metrics);
    uint32_t active = corolla_server_active(server);
    if (active > 0) fprintf(stderr, "leaving: %u session%s elsewhere\n", active, active == 1 ? " goes on" : "s go on");
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
    static struct signals signals; /* its thread goes on to the end */
    int code;
    keep_no_memory();
    corolla_server_config_default(&s.config);
    add_rows(&options, &s);
    if (!options_parse(&options, argc, argv, &code)) return code;
    s.config.announces = s.announces.items;
    s.config.n_announces = s.announces.n;
    if ((code = options_take_joins(&options, &s.joins)) || (code = check_upload(&options, &s))) return code;
    s.log_level = options.log_level;
    s.config.lan = !options.no_lan;
    s.config.joins = s.joins.items;
    s.config.n_joins = s.joins.n;
    s.config.trusted = s.trusted.items;
    s.config.n_trusted = s.trusted.n;
    s.config.kv = (enum corolla_kv)s.kv;
    if (open_model(options.argument, &model, &err)) return fail(&err);
    code = check_span(&options, &s, corolla_model_info(model)->n_blocks);
    if (code == 0 && !signals_start(&signals)) {
        fprintf(stderr, "corolla: no thread for signals can be started\n");
        code = EXIT_FAILED;
    }
    if (code == 0) code = serve(model, &s, &signals);
    corolla_model_close(model);
    return code;
}
