/* chat.c - corolla chat: turns of questions and answers on a terminal, or from a script's lines.
 *
 * The whole history is formatted anew for each turn and compared with the tokens that the session holds: only what differs is
 * computed, from the first difference on. Ctrl-C stops the answer and not the program.
 *
 * An answer depends on the settings, the messages, the tokens that the session holds and how many answers there were, and on nothing
 * else: that is struct chat_state, which --save keeps after every turn. A sampler lives for one answer, with a seed of its own.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "cli/chat_file.h"
#include "cli/cli.h"
#include "cli/events.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "cli/route.h"

#define ANSWER_RESERVE 256 /* tokens that must be free for an answer before old turns are dropped */

enum policy { POLICY_STOP, POLICY_DROP };
enum next { GO_ON, LEAVE, LEAVE_FAILED };

struct chat {
    struct swarm_options swarm_options;
    struct corolla_generation generation;
    struct option_list stops;
    const char *system, *tmpl, *grammar_file, *save, *resume;
    uint32_t n, context;
    int policy;
    struct events events;

    bool terminal;
    struct options *options;
    struct corolla_model *model;
    struct corolla_swarm *swarm;
    struct corolla_session *session;
    struct chat_state state; /* tokens: [context], those that the session has computed */
    char *save_own;          /* the name that /save gave; or NULL */
};

static void add_rows(struct options *o, struct chat *c) {
    const struct option rows[] = {
        {"--system", OPTION_TEXT, &c->system, 0, 0, "TEXT", "the system message"},
        {"--chat-template", OPTION_TEXT, &c->tmpl, 0, 0, "NAME", "another template than the model's, for example chatml"},
        {"-n", OPTION_U32, &c->n, 1, 1 << 24, "TOKENS", "an answer has at most so many tokens (512)"},
        {"--context", OPTION_U32, &c->context, 64, 1 << 24, "TOKENS", "length of the session (4096, or the model's)"},
        {"--context-policy", OPTION_CHOICE, &c->policy, 0, 0, "stop|drop", "when it is full: stop, or drop the oldest turns (drop)"},
        {"--stop", OPTION_LIST, &c->stops, 0, 0, "TEXT", "stop an answer in front of this text"},
        {"--save", OPTION_TEXT, &c->save, 0, 0, "FILE", "keep the chat in this file, from turn to turn"},
        {"--resume", OPTION_TEXT, &c->resume, 0, 0, "FILE", "go on with a saved chat; flags that are given win over its own"},
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
    enum corolla_status status = corolla_chat_format(c->model, c->tmpl, c->state.history.messages, c->state.history.n, true, &text, err);
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
        if (c->policy == POLICY_STOP || !history_drop_oldest(&c->state.history)) {
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

/* The first answer draws as `corolla run` with this seed does. Never 0, which would be a random one. */
static uint32_t turn_seed(const struct chat *c) {
    return (uint32_t)(((uint64_t)c->generation.sampling.seed - 1 + c->state.turns) % UINT32_MAX + 1);
}

/* Generates behind tokens [n], feeding only what the session does not hold. */
static enum corolla_status generate(struct chat *c, const int32_t *tokens, size_t n, struct corolla_result *result,
                                    struct corolla_error *err) {
    struct chat_state *s = &c->state;
    struct corolla_generation generation = c->generation;
    generation.sampling.seed = turn_seed(c);
    size_t same = 0;
    while (same < s->n_tokens && same + 1 < n && s->tokens[same] == tokens[same]) same++;
    s->n_tokens = same;
    interrupt_watch(c->session);
    enum corolla_status status = corolla_generate(c->session, (uint32_t)same, tokens + same, n - same, &generation, result, err);
    interrupt_watch(NULL);
    interrupt_take();
    corolla_session_cancel_clear(c->session);
    if (status == COROLLA_CANCELLED) status = COROLLA_OK; /* by Ctrl-C: what was said so far stands */
    size_t filled = corolla_session_position(c->session);
    memcpy(s->tokens, tokens, (n < filled ? n : filled) * sizeof *tokens);
    for (size_t i = n; i < filled && i - n < result->n_tokens; i++) s->tokens[i] = result->tokens[i - n];
    s->n_tokens = filled < n + result->n_tokens ? filled : n + result->n_tokens;
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
    if (!status && !history_add(&c->state.history, "assistant", result.text ? result.text : "")) status = COROLLA_NOMEM;
    if (!status) c->state.turns++;
    corolla_result_clear(&result);
    corolla_free(tokens);
    return status;
}

/* Tells an error. A script ends with it; on a terminal the next message may be better. */
static enum next told(const struct chat *c, const struct corolla_error *err) {
    fail(err);
    return c->terminal ? GO_ON : LEAVE_FAILED;
}

static enum corolla_status save(struct chat *c, struct corolla_error *err) {
    return c->save ? chat_file_write(&c->state, c->save, corolla_model_info(c->model), c->options, err) : COROLLA_OK;
}

/* The chat is kept there from now on. */
static enum next save_as(struct chat *c, const char *path) {
    struct corolla_error err = {.message = "out of memory"};
    char *own = NULL;
    if (chat_file_may_write(path, c->save ? c->save : c->resume, &err) || !(own = strdup(path))) return told(c, &err);
    free(c->save_own);
    c->save = c->save_own = own;
    return GO_ON;
}

/* A line that starts with a slash. */
static enum next command(struct chat *c, const char *line) {
    if (strcmp(line, "/exit") == 0 || strcmp(line, "/quit") == 0) return LEAVE;
    if (strncmp(line, "/save ", 6) == 0) return save_as(c, line + 6);
    if (strcmp(line, "/clear") == 0)
        history_clear(&c->state.history);
    else if (strncmp(line, "/system ", 8) == 0)
        history_set_system(&c->state.history, line + 8);
    else
        fputs("/clear forgets the chat, /system TEXT sets the system message, /save FILE keeps the chat in a file, /exit leaves;\n"
              "a line that ends in \\ goes on, \"\"\" starts and ends a block; Ctrl-C stops an answer\n",
              stderr);
    return GO_ON;
}

static enum next turn(struct chat *c, const char *message) {
    struct corolla_error err = {0};
    if (!history_add(&c->state.history, "user", message)) return LEAVE_FAILED;
    enum corolla_status status = answer(c, &err);
    if (!status) return GO_ON;
    history_pop(&c->state.history);
    enum next next = told(c, &err);
    return status == COROLLA_TOO_LONG || status == COROLLA_INVALID ? next : LEAVE_FAILED;
}

static int talk(struct chat *c) {
    struct corolla_error err;
    enum next next = GO_ON;
    if (c->terminal) fputs("/help tells what there is; Ctrl-D leaves\n", stderr);
    interrupt_watch(NULL);
    while (next == GO_ON && !interrupt_ended()) {
        char *message = read_message(c);
        if (!message) break;
        if (message[0] == '/')
            next = command(c, message);
        else if (message[0])
            next = turn(c, message);
        free(message);
        if (next == GO_ON && save(c, &err)) next = told(c, &err);
    }
    return next == LEAVE_FAILED ? EXIT_FAILED : EXIT_GOOD;
}

/* ---- from the command line and a saved chat to the first turn --------------------------------------------------- */

/* --system and --grammar, which win over those of a saved chat. */
static enum corolla_status take_texts(struct chat *c, struct corolla_error *err) {
    struct history *h = &c->state.history;
    if (c->system) {
        if (c->resume && !(h->has_system && strcmp(h->messages[0].content, c->system) == 0)) chat_file_tell("--system");
        if (!history_set_system(h, c->system)) return err->status = COROLLA_NOMEM;
    }
    if (!c->grammar_file) return COROLLA_OK;
    char *text;
    size_t size;
    enum corolla_status status = read_text(c->grammar_file, &text, &size, err);
    if (status) return status;
    if (c->resume && !(c->state.grammar && strcmp(c->state.grammar, text) == 0)) chat_file_tell("--grammar");
    free(c->state.grammar);
    c->state.grammar = text;
    return COROLLA_OK;
}

/* Makes room for the tokens of a whole context. */
static enum corolla_status reserve(struct chat *c, struct corolla_error *err) {
    uint32_t longest = corolla_model_info(c->model)->n_ctx_train;
    if (c->context > longest) c->context = longest;
    int32_t *tokens = realloc(c->state.tokens, c->context * sizeof *tokens);
    if (!tokens) return err->status = COROLLA_NOMEM;
    c->state.tokens = tokens;
    if (c->state.n_tokens > c->context) c->state.n_tokens = c->context;
    return COROLLA_OK;
}

static void finish_generation(struct chat *c) {
    struct corolla_generation *g = &c->generation;
    uint32_t *seed = &g->sampling.seed;
    while (*seed == 0 && getrandom(seed, sizeof *seed, 0) >= 0) { /* chosen once, so that a saved chat has it */
    }
    g->sampling.grammar = c->state.grammar;
    g->max_new_tokens = c->n;
    g->stops = c->stops.items;
    g->n_stops = c->stops.n;
    g->on_text = print_text;
}

/* Computes again what the session of a saved chat held. */
static enum corolla_status refill(struct chat *c, struct corolla_error *err) {
    uint32_t held = corolla_session_position(c->session);
    if (c->state.n_tokens <= held) return COROLLA_OK;
    return corolla_session_step(c->session, held, c->state.tokens + held, (uint32_t)c->state.n_tokens - held, NULL, 0, err);
}

/* What the first turn will begin with is what a saved chat held, or the system message, which servers may still have. */
static enum corolla_status open_session(struct chat *c, struct corolla_error *err) {
    struct chat_state *s = &c->state;
    char *text;
    int32_t *tokens;
    size_t n;
    if (s->n_tokens > 0) return corolla_session_open_prompt(&c->session, c->swarm, c->context, s->tokens, s->n_tokens, err);
    if (!s->history.has_system) return corolla_session_open(&c->session, c->swarm, c->context, err);
    enum corolla_status status = corolla_chat_format(c->model, c->tmpl, s->history.messages, 1, false, &text, err);
    if (status) return status;
    status = corolla_tokenize(c->model, text, strlen(text), true, true, &tokens, &n, err);
    corolla_free(text);
    if (status) return status;
    status = corolla_session_open_prompt(&c->session, c->swarm, c->context, tokens, n < c->context ? n : c->context, err);
    corolla_free(tokens);
    return status;
}

static enum corolla_status prepare(struct chat *c, const char *path, struct corolla_error *err) {
    *err = (struct corolla_error){.message = "out of memory"};
    enum corolla_status status = c->save ? chat_file_may_write(c->save, c->resume, err) : COROLLA_OK;
    if (!status) status = open_model(path, &c->model, err);
    if (!status && c->resume) status = chat_file_read(&c->state, c->resume, corolla_model_info(c->model), c->options, err);
    if (!status) status = take_texts(c, err);
    if (!status) status = reserve(c, err);
    if (status) return status;
    finish_generation(c);
    status = corolla_swarm_open(&c->swarm, c->model, &c->swarm_options.config, err);
    if (!status) status = open_session(c, err);
    if (!status) events_watch(&c->events, c->session);
    if (!status && c->events.trace) route_print(c->swarm);
    if (!status) status = refill(c, err);
    if (!status) status = save(c, err); /* a file that cannot be written is told before anything is said */
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
    c.options = &options;
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
    chat_state_release(&c.state);
    free(c.save_own);
    return code;
}
