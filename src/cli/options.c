/* options.c - see options.h. */
#include "cli/options.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/config.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct common { /* of every command */
    bool help, no_lan;
    int log_level;
};

void options_add(struct options *o, const struct option *items, size_t n) {
    for (size_t i = 0; i < n && o->n < OPTIONS_MAX; i++) o->items[o->n++] = items[i];
}

int options_refuse(const struct options *o, const char *format, ...) {
    va_list args;
    fprintf(stderr, "corolla: ");
    if (o->file) fprintf(stderr, "%s:%u: ", o->file, o->line);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "; see corolla %.*s --help\n", (int)strcspn(o->usage, " "), o->usage);
    return EXIT_USAGE;
}

static void print_help(const struct options *o) {
    printf("usage: corolla %s\n\n%s\n\noptions:\n", o->usage, o->about);
    for (size_t i = 0; i < o->n; i++) {
        const struct option *item = &o->items[i];
        char left[80];
        int size = snprintf(left, sizeof left, "%s %s", item->name, item->kind == OPTION_FLAG ? "" : item->value);
        printf(size > 26 ? "  %s\n%29s" : "  %-26s%s", left, size > 26 ? "" : " ");
        printf("%s%s\n", item->help, item->kind == OPTION_LIST ? " (may be repeated)" : "");
    }
}

/* ---- values ---------------------------------------------------------------------------------------------------- */

static bool parse_u32(const char *text, double min, double max, uint32_t *out) {
    char *end;
    if (text[0] < '0' || text[0] > '9') return false;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno || *end || (double)v < min || (double)v > max || v > UINT32_MAX) return false;
    *out = (uint32_t)v;
    return true;
}

static bool parse_f32(const char *text, double min, double max, float *out) {
    char *end;
    if (strspn(text, "0123456789.eE+-") != strlen(text)) return false; /* no spaces, hex, nan, inf */
    errno = 0;
    double v = strtod(text, &end);
    if (errno || end == text || *end || !isfinite(v) || v < min || v > max) return false;
    *out = (float)v;
    return true;
}

static bool parse_size(const char *text, uint64_t *out) {
    static const char units[] = "KMGT";
    char *end;
    if (text[0] < '0' || text[0] > '9') return false;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    const char *unit = *end ? strchr(units, *end) : NULL;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    if (errno || (*end && (!unit || end[1])) || v == 0 || v > UINT64_MAX >> shift) return false;
    *out = (uint64_t)v << shift;
    return true;
}

static bool parse_span(const char *text, struct option_span *out) {
    char begin[16];
    const char *colon = strchr(text, ':');
    if (!colon || (size_t)(colon - text) >= sizeof begin) return false;
    memcpy(begin, text, (size_t)(colon - text));
    begin[colon - text] = '\0';
    struct option_span span = {.given = true};
    if (!parse_u32(begin, 0, 1e6, &span.begin) || !parse_u32(colon + 1, 1, 1e6, &span.end) || span.begin >= span.end) return false;
    *out = span;
    return true;
}

static bool parse_choice(const char *text, const char *names, int *out) {
    int index = 0;
    for (const char *at = names; *at; index++) {
        size_t n = strcspn(at, "|");
        if (strlen(text) == n && memcmp(text, at, n) == 0) {
            *out = index;
            return true;
        }
        at += n + (at[n] == '|');
    }
    return false;
}

bool option_take(const struct option *item, const char *text) {
    switch (item->kind) {
    case OPTION_FLAG: *(bool *)item->target = true; return true;
    case OPTION_TEXT: *(const char **)item->target = text; return true;
    case OPTION_U32: return parse_u32(text, item->min, item->max, item->target);
    case OPTION_F32: return parse_f32(text, item->min, item->max, item->target);
    case OPTION_SPAN: return parse_span(text, item->target);
    case OPTION_SIZE: return parse_size(text, item->target);
    case OPTION_CHOICE: return parse_choice(text, item->value, item->target);
    case OPTION_LIST: break;
    }
    struct option_list *list = item->target;
    if (list->n == LIST_MAX) return false;
    list->items[list->n++] = text;
    return true;
}

static int refuse_value(const struct options *o, const struct option *item, const char *text) {
    if (item->kind == OPTION_U32 || item->kind == OPTION_F32)
        return options_refuse(o, "%s takes a number from %.10g to %.10g, not \"%s\"", item->name, item->min, item->max, text);
    if (item->kind == OPTION_LIST) return options_refuse(o, "%s was given more than %d times", item->name, LIST_MAX);
    return options_refuse(o, "%s takes %s, not \"%s\"", item->name, item->value, text);
}

/* ---- arguments ------------------------------------------------------------------------------------------------- */

static const struct option *find(const struct options *o, const char *name, size_t size) {
    for (size_t i = 0; i < o->n; i++)
        if (strlen(o->items[i].name) == size && memcmp(o->items[i].name, name, size) == 0) return &o->items[i];
    return NULL;
}

const struct option *options_find(const struct options *o, const char *name) { return find(o, name, strlen(name)); }

bool options_given(const struct options *o, const struct option *item) { return o->given[item - o->items]; }

int options_set(struct options *o, const char *name, size_t size, const char *value) {
    const struct option *item = find(o, name, size);
    if (!item) return options_refuse(o, "unknown option %.*s", (int)size, name);
    if (item->kind == OPTION_FLAG && value) return options_refuse(o, "%s takes no value", item->name);
    if (item->kind != OPTION_FLAG && !value) return options_refuse(o, "%s needs a value", item->name);
    o->given[item - o->items] = true;
    return option_take(item, value) ? 0 : refuse_value(o, item, value);
}

struct argument {             /* an option of the command line */
    const char *name, *value; /* value NULL: there is none */
    size_t size;              /* of the name */
};

/* The option at argv[*at]; steps over its value when that is an argument of its own. */
static struct argument split(const struct options *o, int argc, char **argv, int *at) {
    const char *arg = argv[*at], *equals = strncmp(arg, "--", 2) == 0 ? strchr(arg, '=') : NULL;
    struct argument a = {.name = arg, .size = equals ? (size_t)(equals - arg) : strlen(arg)};
    const struct option *item = find(o, arg, a.size);
    if (equals)
        a.value = equals + 1;
    else if (item && item->kind != OPTION_FLAG && *at + 1 < argc)
        a.value = argv[++*at];
    return a;
}

static bool is_option(const char *arg) { return arg[0] == '-' && arg[1]; }

/* The file comes before the rest of the command line, wherever it is named. */
static int take_config(struct options *o, int argc, char **argv) {
    const char *path = NULL;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (!is_option(argv[i])) continue;
        struct argument a = split(o, argc, argv, &i);
        const struct option *item = find(o, a.name, a.size);
        if (item && item->target == &o->config) path = a.value;
    }
    return path ? config_read(o, path) : 0;
}

static int take_all(struct options *o, int argc, char **argv) {
    bool plain = false; /* behind "--" */
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (!plain && strcmp(arg, "--") == 0) {
            plain = true;
        } else if (!plain && is_option(arg)) {
            struct argument a = split(o, argc, argv, &i);
            int code = options_set(o, a.name, a.size, a.value);
            if (code) return code;
        } else {
            if (!o->word || o->argument) return options_refuse(o, "unexpected argument \"%s\"", arg);
            o->argument = arg;
        }
    }
    return 0;
}

bool options_parse(struct options *o, int argc, char **argv, int *out_exit) {
    static struct common common;
    common = (struct common){.log_level = COROLLA_LOG_WARN};
    const struct option rows[] = {
        {"--log-level", OPTION_CHOICE, &common.log_level, 0, 0, "error|warn|info|debug", "what is told on stderr (warn)"},
        {"--no-lan", OPTION_FLAG, &common.no_lan, 0, 0, "", "do not look for others on the local network"},
        {"--help", OPTION_FLAG, &common.help, 0, 0, "", "print this"},
    };
    options_add(o, rows, COUNT(rows));
    *out_exit = take_config(o, argc, argv);
    const char *argument = o->argument;
    o->argument = NULL;
    if (*out_exit == 0) *out_exit = take_all(o, argc, argv);
    if (*out_exit) return false;
    if (!o->argument) o->argument = argument;
    if (common.help) {
        print_help(o);
        return false;
    }
    if (o->word && !o->optional && !o->argument) {
        *out_exit = options_refuse(o, "%s is missing", o->word);
        return false;
    }
    o->no_lan = common.no_lan;
    o->log_level = (enum corolla_log_level)common.log_level;
    corolla_log_set(o->log_level, NULL, NULL);
    return true;
}

/* ---- shared rows ----------------------------------------------------------------------------------------------- */

void options_add_swarm(struct options *o, struct swarm_options *s) {
    corolla_swarm_config_default(&s->config);
    const struct option rows[] = {
        {"--join", OPTION_LIST, &s->joins, 0, 0, "CODE",
         "a join code, or HOST[:PORT] of an entry; else COROLLA_JOIN, the LAN, known peers"},
        {"--local", OPTION_FLAG, &s->config.local, 0, 0, "", "compute all blocks in this process"},
        {"--threads", OPTION_U32, &s->config.threads, 1, 512, "N", "compute threads (--local: one per core, else 1)"},
        {"--device", OPTION_TEXT, &s->config.device, 0, 0, "NAME[=MIB],...",
         "ggml devices, or rpc:HOST:PORT of ggml's RPC server; MIB: of its memory (CPU)"},
        {"--kv-type", OPTION_CHOICE, &s->kv, 0, 0, "f16|f32|q8_0", "KV cache, with --local; q8_0 is not exact (f16)"},
        {"--wire", OPTION_CHOICE, &s->wire, 0, 0, "f32|f16|bf16", "hidden states on the network; 16 bits are not exact (f32)"},
        {"--exact", OPTION_FLAG, &s->config.exact, 0, 0, "", "refuse a chain that is not exact"},
        {"--fast", OPTION_FLAG, &s->config.fast, 0, 0, "", "faster kernels that are not exact, in this process"},
        {"--wait", OPTION_U32, &s->wait_s, 1, 1e6, "SECONDS", "wait so long when no server has some block any more, or room (60)"},
        {"--hang-limit", OPTION_U32, &s->hang_s, 1, 3600, "SECONDS", "a server that is silent for so long hangs (4)"},
    };
    options_add(o, rows, COUNT(rows));
}

/* The codes of COROLLA_JOIN, separated by spaces or commas; false when they are more than there is room for. */
static bool take_join_environment(struct option_list *joins) {
    static char codes[1 << 16];
    const char *env = getenv("COROLLA_JOIN");
    if (!env) return true;
    if (strlen(env) >= sizeof codes) return false;
    strcpy(codes, env);
    for (char *code = strtok(codes, " ,\n\t"); code; code = strtok(NULL, " ,\n\t")) {
        if (joins->n == LIST_MAX) return false;
        joins->items[joins->n++] = code;
    }
    return true;
}

int options_take_joins(const struct options *o, struct option_list *joins) {
    if (joins->n > 0 || take_join_environment(joins)) return 0;
    return options_refuse(o, "COROLLA_JOIN holds more than %d entries", LIST_MAX);
}

int swarm_options_finish(const struct options *o, struct swarm_options *s) {
    s->config.kv = (enum corolla_kv)s->kv;
    s->config.wire = (enum corolla_wire)s->wire;
    s->config.wait_ms = s->wait_s * 1000;
    s->config.hang_ms = s->hang_s * 1000;
    if (s->config.local && s->joins.n > 0) return options_refuse(o, "--local and --join exclude each other");
    int code = s->config.local ? 0 : options_take_joins(o, &s->joins);
    s->config.joins = s->joins.items;
    s->config.n_joins = s->joins.n;
    s->config.lan = !o->no_lan;
    return code;
}

void options_add_sampling(struct options *o, struct corolla_sampling *s, const char **grammar_file) {
    corolla_sampling_default(s);
    const struct option rows[] = {
        {"--temp", OPTION_F32, &s->temp, 0, 100, "T", "temperature; 0 always takes the likeliest token (0.8)"},
        {"--top-k", OPTION_U32, &s->top_k, 0, INT32_MAX, "K", "draw from the K likeliest; 0: all (40)"},
        {"--top-p", OPTION_F32, &s->top_p, 0, 1, "P", "draw from the likeliest that make up P (0.95)"},
        {"--min-p", OPTION_F32, &s->min_p, 0, 1, "P", "none less likely than P times the likeliest (0.05)"},
        {"--repeat-penalty", OPTION_F32, &s->repeat_penalty, 0.01, 100, "R", "divide what the last 64 tokens had; 1: off (1)"},
        {"--seed", OPTION_U32, &s->seed, 0, UINT32_MAX, "S", "the same seed draws the same; 0: a random one (0)"},
        {"--grammar", OPTION_TEXT, grammar_file, 0, 0, "FILE", "only text that this GBNF grammar allows"},
    };
    options_add(o, rows, COUNT(rows));
}
