/* chat.c - corolla chat: turns of questions and answers on a terminal, or from a script's lines.
 *
 * The whole history is formatted anew for each turn and compared with the tokens that the session holds: only what differs is
 * computed, from the first difference on. Ctrl-C stops the answer and not the program.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/events.h"
#include "cli/history.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "cli/route.h"

#define ANSWER_RESERVE 256 /* tokens that must be free for an answer before old turns are dropped */

enum policy { POLICY_STOP, POLICY_DROP };

struct chat {
    struct swarm_options swarm_options;
    struct corolla_generation generation;
    struct option_list stops;
    const char *system, *tmpl, *grammar_file;
    uint32_t n, context;
    int policy;
    struct events events;

    bool terminal;
    struct corolla_model *model;
    struct corolla_swarm *swarm;
    struct corolla_session *session;
    struct history history;
    int32_t *held; /* the tokens that the session has computed, [context] */
    size_t n_held;
    char *grammar;
};

static void add_rows(struct options *o, struct chat *c) {
    const struct option rows[] = {
        {"--system", OPTION_TEXT, &c->system, 0, 0, "TEXT", "the system message"},
        {"--chat-template", OPTION_TEXT, &c->tmpl, 0, 0, "NAME", "another template than the model's, for example chatml"},
        {"-n", OPTION_U32, &c->n, 1, 1 << 24, "TOKENS", "an answer has at most so many tokens (512)"},
        {"--context", OPTION_U32, &c->context, 64, 1 << 24, "TOKENS", "length of the session (4096, or the model's)"},
        {"--context-policy", OPTION_CHOICE, &c->policy, 0, 0, "stop|drop", "when it is full: stop, or drop the oldest turns (drop)"},
        {"--stop", OPTION_LIST, &c->stops, 0, 0, "TEXT", "stop an answer in front of this text"},
        {"--trace", OPTION_FLAG, &c->events.trace, 0, 0, "", "tell the route, recoveries and the speed on stderr"},
    };
    options_add(o, rows, sizeof rows / sizeof rows[0]);
    options_add_sampling(o, &c->generation.sampling, &c->grammar_file);
    options_add_swarm(o, &c->swarm_options);
}

/* ---- input ----------------------------------------------------------------------------------------------------- */

/* Appends a line to *text; false: out of memory. */
static bool append(char **text, const char *line) {
    size_t have = *text ? strlen(*text) : 0;
    char *bigger = realloc(*text, have + strlen(line) + 2);
    if (!bigger) return false;
    if (have) bigger[have++] = '\n';
    strcpy(bigger + have, line);
    *text = bigger;
    return true;
}

static void prompt(const struct chat *c, bool more) {
    if (!c->terminal) return;
    fputs(more ? "| " : "> ", stderr);
    fflush(stderr);
}

/* One message: a line, lines that end in a backslash and their next, or a block between lines of """. NULL at the end of input. */
static char *read_message(const struct chat *c) {
    char *text = NULL, *line = NULL;
    size_t max = 0;
    bool block = false, more = true;
    while (more) {
        prompt(c, text || block);
        errno = 0; /* the end of input leaves it alone */
        ssize_t n = !c->terminal || interrupt_wait(STDIN_FILENO) ? getline(&line, &max, stdin) : -1;
        if (n < 0 && (interrupt_take() || errno == EINTR) && !interrupt_ended()) {
            clearerr(stdin);
            fputs("\n(Ctrl-D or /exit leaves)\n", stderr);
            free(text);
            text = NULL;
            block = false;
            continue;
        }
        if (n < 0) break;
        line[strcspn(line, "\r\n")] = '\0';
        if (strcmp(line, "\"\"\"") == 0) {
            more = block = !block;
            if (!more && !text) append(&text, "");
            continue;
        }
        size_t size = strlen(line);
        bool continued = !block && size > 0 && line[size - 1] == '\\';
        if (continued) line[size - 1] = '\0';
        if (!append(&text, line)) break;
        more = block || continued;
    }
    free(line);
    if (!interrupt_ended()) return text;
    free(text);
    return NULL;
}

/* ---- turns ----------------------------------------------------------------------------------------------------- */

static enum corolla_status format(struct chat *c, int32_t **out_tokens, size_t *out_n, struct corolla_error *err) {
    char *text;
    enum corolla_status status = corolla_chat_format(c->model, c->tmpl, c->history.messages, c->history.n, true, &text, err);
    if (status) return status;
    status = corolla_tokenize(c->model, text, strlen(text), true, true, out_tokens, out_n, err);
    corolla_free(text);
    return status;
}

/* The tokens of the history; drops old turns, or refuses, when they leave no room for an answer. */
static enum corolla_status fit(struct chat *c, int32_t **out_tokens, size_t *out_n, struct corolla_error *err) {
    size_t reserve = c->n < ANSWER_RESERVE ? c->n : ANSWER_RESERVE, dropped = 0;
    if (reserve > c->context / 2) reserve = c->context / 2;
    for (;;) {
        enum corolla_status status = format(c, out_tokens, out_n, err);
        if (status) return status;
        if (*out_n + reserve <= c->context) break;
        corolla_free(*out_tokens);
        if (c->policy == POLICY_STOP || !history_drop_oldest(&c->history)) {
            err->status = COROLLA_TOO_LONG;
            snprintf(err->message, sizeof err->message, "the context of %u tokens is full; /clear starts anew, --context makes it longer",
                     c->context);
            return COROLLA_TOO_LONG;
        }
        dropped++;
    }
    if (dropped) fprintf(stderr, "(the context is full: the oldest %zu turn%s dropped)\n", dropped, dropped == 1 ? " was" : "s were");
    return COROLLA_OK;
}

static bool print_text(void *user, const char *text, size_t size) {
    (void)user;
    fwrite(text, 1, size, stdout);
    return fflush(stdout) == 0;
}

/* Generates behind tokens [n], feeding only what the session does not hold. */
static enum corolla_status generate(struct chat *c, const int32_t *tokens, size_t n, struct corolla_result *result,
                                    struct corolla_error *err) {
    size_t same = 0;
    while (same < c->n_held && same + 1 < n && c->held[same] == tokens[same]) same++;
    c->n_held = same;
    interrupt_watch(c->session);
    enum corolla_status status = corolla_generate(c->session, (uint32_t)same, tokens + same, n - same, &c->generation, result, err);
    interrupt_watch(NULL);
    interrupt_take();
    corolla_session_cancel_clear(c->session);
    if (status == COROLLA_CANCELLED) status = COROLLA_OK; /* by Ctrl-C: what was said so far stands */
    size_t filled = corolla_session_position(c->session);
    memcpy(c->held, tokens, (n < filled ? n : filled) * sizeof *tokens);
    for (size_t i = n; i < filled && i - n < result->n_tokens; i++) c->held[i] = result->tokens[i - n];
    c->n_held = filled < n + result->n_tokens ? filled : n + result->n_tokens;
    return status;
}

static enum corolla_status answer(struct chat *c, struct corolla_error *err) {
    struct corolla_result result = {0};
    int32_t *tokens;
    size_t n;
    enum corolla_status status = fit(c, &tokens, &n, err);
    if (status) return status;
    status = generate(c, tokens, n, &result, err);
    putchar('\n');
    fflush(stdout);
    if (status && result.n_tokens > 0) fprintf(stderr, "(the answer broke off)\n");
    if (!status && c->events.trace) fprintf(stderr, "(%zu tokens, %.1f tokens/s)\n", result.n_tokens, result.decode_tokens_per_s);
    if (!status && !history_add(&c->history, "assistant", result.text ? result.text : "")) status = COROLLA_NOMEM;
    corolla_result_clear(&result);
    corolla_free(tokens);
    return status;
}

/* A line that starts with a slash. True to go on. */
static bool command(struct chat *c, const char *line) {
    if (strcmp(line, "/exit") == 0 || strcmp(line, "/quit") == 0) return false;
    if (strcmp(line, "/clear") == 0)
        history_clear(&c->history);
    else if (strncmp(line, "/system ", 8) == 0)
        history_set_system(&c->history, line + 8);
    else
        fputs("/clear forgets the chat, /system TEXT sets the system message, /exit leaves;\n"
              "a line that ends in \\ goes on, \"\"\" starts and ends a block; Ctrl-C stops an answer\n",
              stderr);
    return true;
}

/* A turn; false when the chat cannot go on. On a terminal it does after a message that cannot be said: the next one may be better. */
static bool turn(struct chat *c, const char *message, struct corolla_error *err) {
    if (!history_add(&c->history, "user", message)) return false;
    enum corolla_status status = answer(c, err);
    if (!status) return true;
    history_pop(&c->history);
    fail(err);
    return c->terminal && (status == COROLLA_TOO_LONG || status == COROLLA_INVALID);
}

static int talk(struct chat *c) {
    struct corolla_error err = {0};
    bool going = true, failed = false;
    if (c->terminal) fputs("/help tells what there is; Ctrl-D leaves\n", stderr);
    interrupt_watch(NULL);
    while (going && !interrupt_ended()) {
        char *message = read_message(c);
        if (!message) break;
        if (message[0] == '/')
            going = command(c, message);
        else if (message[0])
            failed = !(going = turn(c, message, &err));
        free(message);
    }
    return failed ? EXIT_FAILED : EXIT_GOOD;
}

static enum corolla_status prepare(struct chat *c, const char *path, struct corolla_error *err) {
    size_t size;
    enum corolla_status status = open_model(path, &c->model, err);
    if (status) return status;
    uint32_t longest = corolla_model_info(c->model)->n_ctx_train;
    if (c->context > longest) c->context = longest;
    c->held = malloc(c->context * sizeof *c->held);
    if (!c->held || (c->system && !history_set_system(&c->history, c->system))) {
        err->status = COROLLA_NOMEM;
        strcpy(err->message, "out of memory");
        return COROLLA_NOMEM;
    }
    if (c->grammar_file) status = read_text(c->grammar_file, &c->grammar, &size, err);
    c->generation.sampling.grammar = c->grammar;
    c->generation.max_new_tokens = c->n;
    c->generation.stops = c->stops.items;
    c->generation.n_stops = c->stops.n;
    c->generation.on_text = print_text;
    if (!status) status = corolla_swarm_open(&c->swarm, c->model, &c->swarm_options.config, err);
    if (!status) status = corolla_session_open(&c->session, c->swarm, c->context, err);
    if (!status) events_watch(&c->events, c->session);
    if (!status && c->events.trace) route_print(c->swarm);
    return status;
}

int chat_main(int argc, char **argv) {
    struct chat c = {.n = 512, .context = 4096, .policy = POLICY_DROP, .terminal = isatty(STDIN_FILENO) != 0};
    struct options options = {
        .usage = "chat MODEL [options]",
        .about = "Talks with a model, through the servers of --join or in this process with --local. Servers of the chain can\n"
                 "read what is said. Without a terminal each line of standard input is a question.",
        .word = "MODEL"};
    struct corolla_error err;
    int code;
    corolla_generation_default(&c.generation);
    add_rows(&options, &c);
    if (!options_parse(&options, argc, argv, &code)) return code;
    code = swarm_options_finish(&options, &c.swarm_options);
    if (code) return code;
    code = prepare(&c, options.argument, &err) ? fail(&err) : talk(&c);
    corolla_session_close(c.session);
    corolla_swarm_close(c.swarm);
    json_decref(c.events.recoveries);
    corolla_model_close(c.model);
    history_release(&c.history);
    free(c.held);
    free(c.grammar);
    return code;
}
