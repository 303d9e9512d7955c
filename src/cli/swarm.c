/* swarm.c - corolla swarm: who is in a swarm, which blocks they hold, the chain that a client here would take; pausing a server of one's
 * own. */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/options.h"

#define WATCH_S 2
#define BAR_WIDTH 60 /* blocks in one line of the bar */

struct swarm {
    struct options options;
    struct option_list joins;
    struct corolla_view *view;
    const char *pause, *resume;
    bool json, watch;
};

/* The servers of one model, as they are now. */
struct part {
    const struct corolla_view_server *servers;
    size_t n;
    uint32_t n_blocks;
    uint32_t *replicas; /* [n_blocks]: servers that can be used */
    size_t n_hops;
    struct corolla_hop hops[COROLLA_HOPS_MAX];
    float tokens_per_s;
    struct corolla_error no_chain; /* status OK: there is one */
};

static void count_replicas(struct part *part) {
    for (size_t i = 0; i < part->n; i++) {
        const struct corolla_view_server *s = &part->servers[i];
        if (strcmp(s->state, "online") != 0) continue;
        for (uint32_t block = s->begin; block < s->end && block < part->n_blocks; block++) part->replicas[block]++;
    }
}

/* ---- people ---------------------------------------------------------------------------------------------------- */

static char digit(uint32_t replicas) { return replicas == 0 ? '.' : replicas < 10 ? (char)('0' + replicas) : '+'; }

static void print_bar(const struct part *part) {
    for (uint32_t at = 0; at < part->n_blocks; at += BAR_WIDTH) {
        printf("%s %4u ", at == 0 ? "blocks" : "      ", at);
        for (uint32_t block = at; block < part->n_blocks && block < at + BAR_WIDTH; block++) putchar(digit(part->replicas[block]));
        putchar('\n');
    }
}

static void print_server(const struct corolla_view_server *s) {
    const char *instance = strchr(s->node, '/');
    char node[32], span[24], rtt[16] = "-";
    snprintf(node, sizeof node, "%.12s%.8s", s->node, instance ? instance : "");
    snprintf(span, sizeof span, "%u:%u", s->begin, s->end);
    if (s->rtt_us > 0) snprintf(rtt, sizeof rtt, "%.1f", (double)s->rtt_us / 1000);
    printf("%-16s %-14s %-9s %-9s %8.1f %8.0f %9llu %7s %s%s\n", s->name[0] ? s->name : "-", node, span, s->state,
           (double)s->decode_tokens_per_s, (double)s->prefill_tokens_per_s, (unsigned long long)s->cache_tokens_left, rtt, s->version,
           s->exact ? "" : " fast");
}

static void print_chain(const struct part *part) {
    if (part->no_chain.status) {
        printf("chain  none: %s\n", part->no_chain.message);
        return;
    }
    printf("chain ");
    for (size_t i = 0; i < part->n_hops; i++) {
        const struct corolla_hop *hop = &part->hops[i];
        const char *instance = strchr(hop->node, '/');
        printf("%s%u:%u on %.12s%s", i == 0 ? " " : ", ", hop->begin, hop->end, hop->node, instance ? instance : "");
    }
    printf("; %.1f tokens/s expected\n", (double)part->tokens_per_s);
}

static void print_part(const struct part *part) {
    const struct corolla_view_server *first = part->servers;
    printf("%s (id %.12s), %u blocks, %zu server%s\n", first->model_name, first->model_id, part->n_blocks, part->n,
           part->n == 1 ? "" : "s");
    printf("%-16s %-14s %-9s %-9s %8s %8s %9s %7s %s\n", "name", "node", "blocks", "state", "decode", "prefill", "cache", "rtt ms",
           "version");
    for (size_t i = 0; i < part->n; i++) print_server(&part->servers[i]);
    print_bar(part);
    print_chain(part);
}

/* ---- scripts --------------------------------------------------------------------------------------------------- */

static json_t *server_json(const struct corolla_view_server *s) {
    return json_pack("{s:s, s:s, s:I, s:I, s:s, s:f, s:f, s:I, s:f, s:s, s:b, s:I}", "node", s->node, "name", s->name, "begin",
                     (json_int_t)s->begin, "end", (json_int_t)s->end, "state", s->state, "decode_tokens_per_s",
                     (double)s->decode_tokens_per_s, "prefill_tokens_per_s", (double)s->prefill_tokens_per_s, "cache_tokens_left",
                     (json_int_t)s->cache_tokens_left, "rtt_ms", (double)s->rtt_us / 1000, "version", s->version, "exact", s->exact,
                     "sessions", (json_int_t)s->sessions);
}

static void print_json(const struct part *part) {
    json_t *replicas = json_array(), *servers = json_array(), *chain = json_array();
    for (uint32_t block = 0; block < part->n_blocks; block++) json_array_append_new(replicas, json_integer(part->replicas[block]));
    for (size_t i = 0; i < part->n; i++) json_array_append_new(servers, server_json(&part->servers[i]));
    for (size_t i = 0; i < part->n_hops; i++)
        json_array_append_new(chain, json_pack("{s:s, s:I, s:I}", "node", part->hops[i].node, "begin", (json_int_t)part->hops[i].begin,
                                               "end", (json_int_t)part->hops[i].end));
    json_t *object = json_pack("{s:s, s:s, s:I, s:o, s:o, s:o, s:f}", "model", part->servers->model_name, "model_id",
                               part->servers->model_id, "blocks", (json_int_t)part->n_blocks, "replicas", replicas, "servers", servers,
                               "chain", chain, "expected_tokens_per_s", (double)part->tokens_per_s);
    json_dumpf(object, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(object);
}

/* ---- looking --------------------------------------------------------------------------------------------------- */

static void show_servers(struct swarm *s, struct part *part) {
    part->n_blocks = part->servers->n_blocks;
    part->replicas = calloc(part->n_blocks, sizeof *part->replicas);
    if (!part->replicas) return;
    count_replicas(part);
    if (s->json)
        print_json(part);
    else
        print_part(part);
    free(part->replicas);
}

/* The end of the servers of one model, which stand together. */
static size_t end_of_model(const struct corolla_view_server *servers, size_t n, size_t begin) {
    size_t end = begin + 1;
    while (end < n && strcmp(servers[end].model_id, servers[begin].model_id) == 0) end++;
    return end;
}

/* One model as it is after its chain was looked for, which measures the ways to its servers. */
static int show_model(struct swarm *s, const struct corolla_view_server *model) {
    struct part part = {.n = 0};
    struct corolla_view_server *servers = NULL;
    struct corolla_error err = {0};
    size_t n = 0;
    corolla_view_chain(s->view, model->model_id, model->n_blocks, part.hops, &part.n_hops, &part.tokens_per_s, &part.no_chain);
    if (corolla_view_servers(s->view, &servers, &n, &err)) return fail(&err);
    for (size_t begin = 0, end; begin < n; begin = end) {
        end = end_of_model(servers, n, begin);
        if (strcmp(servers[begin].model_id, model->model_id) != 0) continue;
        part.servers = &servers[begin];
        part.n = end - begin;
        show_servers(s, &part);
    }
    corolla_free(servers);
    return EXIT_GOOD;
}

static bool wanted(const struct swarm *s, const struct corolla_view_server *server) {
    const char *model = s->options.argument;
    return !model || strcmp(model, server->model_name) == 0 || (strlen(model) >= 8 && strncmp(server->model_id, model, strlen(model)) == 0);
}

/* Each model that is wanted; *out_shown counts them. */
static int show(struct swarm *s, size_t *out_shown) {
    struct corolla_view_server *servers = NULL;
    struct corolla_error err = {0};
    size_t n = 0;
    int code = EXIT_GOOD;
    *out_shown = 0;
    if (corolla_view_servers(s->view, &servers, &n, &err)) return fail(&err);
    for (size_t begin = 0; begin < n && !code; begin = end_of_model(servers, n, begin)) {
        if (!wanted(s, &servers[begin])) continue;
        if ((*out_shown)++ > 0 && !s->json) putchar('\n');
        code = show_model(s, &servers[begin]);
    }
    corolla_free(servers);
    return code;
}

static int look(struct swarm *s) {
    struct corolla_error err = {0};
    size_t shown;
    int code;
    do {
        if (s->watch && !s->json && isatty(STDOUT_FILENO)) printf("\033[H\033[2J");
        code = show(s, &shown);
        fflush(stdout);
        if (s->watch && !code) sleep(WATCH_S);
    } while (s->watch && !code);
    if (code || shown > 0) return code;
    err.status = COROLLA_NOT_FOUND;
    if (s->options.argument)
        snprintf(err.message, sizeof err.message,
                 "no server hosts %.200s: its name or model id, as \"corolla swarm\" lists them, is wanted", s->options.argument);
    else
        snprintf(err.message, sizeof err.message, "the swarm has no servers");
    return fail(&err);
}

static int order(struct swarm *s) {
    struct corolla_error err;
    bool paused = s->pause != NULL;
    if (corolla_view_pause(s->view, paused ? s->pause : s->resume, paused, &err)) return fail(&err);
    fprintf(stderr, "%s\n", paused ? "paused: no new sessions" : "resumed");
    return EXIT_GOOD;
}

int swarm_main(int argc, char **argv) {
    struct swarm s = {
        .options = {.usage = "swarm [MODEL] [options]",
                    .about = "Shows the servers of a swarm, how many hold each block, and the chain that a client here would take.\n"
                             "MODEL is a name or a model id; without it all models are shown.",
                    .word = "MODEL",
                    .optional = true}};
    const struct option rows[] = {
        {"--join", OPTION_LIST, &s.joins, 0, 0, "CODE", "a join code, or HOST[:PORT] of an entry; else COROLLA_JOIN, the LAN, known peers"},
        {"--json", OPTION_FLAG, &s.json, 0, 0, "", "print one JSON object per model"},
        {"--watch", OPTION_FLAG, &s.watch, 0, 0, "", "look again every two seconds"},
        {"--pause", OPTION_TEXT, &s.pause, 0, 0, "NODE", "a server of this home takes no new sessions"},
        {"--resume", OPTION_TEXT, &s.resume, 0, 0, "NODE", "... and takes them again"},
    };
    struct corolla_view_config config;
    struct corolla_error err;
    int code;
    options_add(&s.options, rows, sizeof rows / sizeof rows[0]);
    if (!options_parse(&s.options, argc, argv, &code)) return code;
    if (s.pause && s.resume) return options_refuse(&s.options, "--pause and --resume exclude each other");
    if ((code = options_take_joins(&s.options, &s.joins))) return code;
    corolla_view_config_default(&config);
    config.joins = s.joins.items;
    config.n_joins = s.joins.n;
    config.lan = !s.options.no_lan;
    if (corolla_view_open(&s.view, &config, &err)) return fail(&err);
    code = s.pause || s.resume ? order(&s) : look(&s);
    corolla_view_close(s.view);
    return code;
}
