/* run.c - corolla run: one prompt, one answer on stdout. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/events.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "cli/route.h"
#include "cli/trace.h"

struct run {
    struct swarm_options swarm_options;
    struct corolla_generation generation;
    struct option_list stops;
    const char *prompt, *file, *system, *tmpl, *grammar_file;
    uint32_t n;
    bool chat, json;
    struct events events;
    struct trace *trace; /* NULL: nobody asked */

    struct corolla_model *model;
    struct corolla_swarm *swarm;
    struct corolla_session *session;
    int32_t *tokens;
    size_t n_tokens;
    char *grammar;
};

static void add_rows(struct options *o, struct run *r) {
    const struct option rows[] = {
        {"-p", OPTION_TEXT, &r->prompt, 0, 0, "PROMPT", "the prompt; else -f, else standard input"},
        {"-f", OPTION_TEXT, &r->file, 0, 0, "FILE", "read the prompt from a file"},
        {"-n", OPTION_U32, &r->n, 1, 1 << 24, "TOKENS", "answer at most so many tokens (512)"},
        {"--chat", OPTION_FLAG, &r->chat, 0, 0, "", "apply the model's chat template; without it the prompt goes in as it is"},
        {"--system", OPTION_TEXT, &r->system, 0, 0, "TEXT", "the system message, with --chat"},
        {"--chat-template", OPTION_TEXT, &r->tmpl, 0, 0, "NAME", "another template than the model's, for example chatml"},
        {"--stop", OPTION_LIST, &r->stops, 0, 0, "TEXT", "stop in front of this text"},
        {"--json", OPTION_FLAG, &r->json, 0, 0, "", "print one JSON object instead of the text"},
        {"--trace", OPTION_FLAG, &r->events.trace, 0, 0, "",
         "tell the route, recoveries, the speed, and where tokens' time went, on stderr"},
    };
    options_add(o, rows, sizeof rows / sizeof rows[0]);
    options_add_sampling(o, &r->generation.sampling, &r->grammar_file);
    options_add_swarm(o, &r->swarm_options);
}

/* From the prompt's text to tokens. */
static enum corolla_status prepare_prompt(struct run *r, struct corolla_error *err) {
    char *text = NULL, *formatted = NULL;
    size_t size = 0;
    enum corolla_status status = COROLLA_OK;
    if (r->prompt) {
        text = strdup(r->prompt);
        size = strlen(r->prompt);
    } else {
        status = read_text(r->file ? r->file : "-", &text, &size, err);
    }
    if (!status && r->chat) {
        struct corolla_chat_message messages[] = {{"system", r->system}, {"user", text}};
        size_t first = r->system ? 0 : 1;
        status = corolla_chat_format(r->model, r->tmpl, messages + first, 2 - first, true, &formatted, err);
    }
    const char *whole = formatted ? formatted : text;
    if (!status)
        status = corolla_tokenize(r->model, whole, formatted ? strlen(formatted) : size, true, true, &r->tokens, &r->n_tokens, err);
    free(text);
    corolla_free(formatted);
    if (!status && r->n_tokens == 0) {
        err->status = COROLLA_INVALID;
        snprintf(err->message, sizeof err->message, "the prompt is empty; give one with -p, -f or on standard input");
        return COROLLA_INVALID;
    }
    return status;
}

static bool print_text(void *user, const char *text, size_t size) {
    (void)user;
    fwrite(text, 1, size, stdout);
    return fflush(stdout) == 0; /* a closed pipe stops the generation */
}

static void print_json(struct run *r, const struct corolla_result *result) {
    static const char *const stops[] = {"eos", "length", "stop", "interrupted"};
    json_t *prompt = json_array(), *tokens = json_array();
    for (size_t i = 0; i < r->n_tokens; i++) json_array_append_new(prompt, json_integer(r->tokens[i]));
    for (size_t i = 0; i < result->n_tokens; i++) json_array_append_new(tokens, json_integer(result->tokens[i]));
    json_t *object =
        json_pack("{s:o, s:o, s:s, s:s, s:o, s:f, s:f, s:f, s:o, s:b}", "prompt_tokens", prompt, "tokens", tokens, "text",
                  result->text ? result->text : "", "stop", stops[result->stop], "hops", route_json(r->swarm), "first_token_ms",
                  result->first_token_ms, "prefill_tokens_per_s", result->prefill_tokens_per_s, "decode_tokens_per_s",
                  result->decode_tokens_per_s, "recoveries", events_take(&r->events), "exact", corolla_swarm_exact(r->swarm));
    json_dumpf(object, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(object);
}

static void on_step(void *user) { trace_step(((struct run *)user)->trace); }

static void print_trace(const struct run *r, const struct corolla_result *result) {
    fprintf(stderr, "first token after %.0f ms; prompt %.1f, answer %.1f tokens/s (%zu tokens)\n", result->first_token_ms,
            result->prefill_tokens_per_s, result->decode_tokens_per_s, result->n_tokens);
    if (r->trace) trace_print(r->trace);
}

static enum corolla_status open_session(struct run *r, struct corolla_error *err) {
    const struct corolla_model_info *info = corolla_model_info(r->model);
    if (r->n_tokens >= info->n_ctx_train) {
        err->status = COROLLA_TOO_LONG;
        snprintf(err->message, sizeof err->message, "the prompt has %zu tokens, the model's context %u", r->n_tokens, info->n_ctx_train);
        return COROLLA_TOO_LONG;
    }
    uint32_t room = info->n_ctx_train - (uint32_t)r->n_tokens;
    uint32_t answer = r->n < room ? r->n : room;
    return corolla_session_open_prompt(&r->session, r->swarm, (uint32_t)r->n_tokens + answer, r->tokens, r->n_tokens, err);
}

static enum corolla_status answer(struct run *r, struct corolla_error *err) {
    struct corolla_result result = {0};
    r->generation.max_new_tokens = r->n;
    r->generation.stops = r->stops.items;
    r->generation.n_stops = r->stops.n;
    r->generation.on_text = r->json ? NULL : print_text;
    r->generation.user = r;
    if (r->events.trace) r->trace = trace_new(r->session);
    if (r->trace) r->generation.on_step = on_step;
    enum corolla_status status = corolla_generate(r->session, 0, r->tokens, r->n_tokens, &r->generation, &result, err);
    interrupt_watch(NULL);
    if (status == COROLLA_CANCELLED) status = COROLLA_OK; /* by Ctrl-C: result.stop says so */
    if (!r->json && isatty(STDOUT_FILENO)) putchar('\n');
    if (r->json && (!status || result.n_tokens > 0)) print_json(r, &result); /* what was generated stands */
    if (!status && r->events.trace) print_trace(r, &result);
    corolla_result_clear(&result);
    return status;
}

static enum corolla_status run(struct run *r, const char *path, struct corolla_error *err) {
    size_t size;
    enum corolla_status status = open_model(path, &r->model, err);
    if (!status) status = prepare_prompt(r, err);
    if (!status && r->grammar_file) status = read_text(r->grammar_file, &r->grammar, &size, err);
    r->generation.sampling.grammar = r->grammar;
    if (!status) status = corolla_swarm_open(&r->swarm, r->model, &r->swarm_options.config, err);
    if (!status) status = open_session(r, err);
    if (status) return status;
    interrupt_watch(r->session); /* from here on Ctrl-C ends the answer, not the program */
    events_watch(&r->events, r->session);
    if (r->events.trace) route_print(r->swarm);
    return answer(r, err);
}

int run_main(int argc, char **argv) {
    struct run r = {.n = 512};
    struct options options = {
        .usage = "run MODEL (-p PROMPT | -f FILE | < FILE) [options]",
        .about = "Answers one prompt, through the servers of --join or in this process with --local. Prints the text only.\n"
                 "Ctrl-C ends the answer early; what was generated so far stands.",
        .word = "MODEL"};
    struct corolla_error err;
    int code;
    corolla_generation_default(&r.generation);
    add_rows(&options, &r);
    if (!options_parse(&options, argc, argv, &code)) return code;
    if (!r.prompt && !r.file && isatty(STDIN_FILENO)) return options_refuse(&options, "no prompt: give -p, -f or standard input");
    if (r.prompt && r.file) return options_refuse(&options, "-p and -f exclude each other");
    if ((r.system || r.tmpl) && !r.chat) return options_refuse(&options, "%s needs --chat", r.system ? "--system" : "--chat-template");
    code = swarm_options_finish(&options, &r.swarm_options);
    if (code) return code;
    enum corolla_status status = run(&r, options.argument, &err);
    corolla_session_close(r.session);
    corolla_swarm_close(r.swarm);
    json_decref(r.events.recoveries);
    trace_free(r.trace);
    corolla_free(r.tokens);
    corolla_model_close(r.model);
    free(r.grammar);
    return status ? fail(&err) : EXIT_GOOD;
}
