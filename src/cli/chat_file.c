/* chat_file.c - see chat_file.h. A file may come from anybody: every size, type and number is checked before it is used. */
#include "cli/chat_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT "corolla chat"
#define VERSION 1
#define FILE_SIZE_MAX (16 << 20) /* a context of a million tokens needs half of it; JSON in memory is 20 times as large */
#define PATH_SIZE_MAX 4096

/* The flags that change an answer. --system is a message, and of --grammar the text is kept. */
static const char *const kept[] = {"--chat-template", "-n",      "--context", "--context-policy", "--stop", "--temp",
                                   "--top-k",         "--top-p", "--min-p",   "--repeat-penalty", "--seed"};
#define N_KEPT (sizeof kept / sizeof kept[0])

static enum corolla_status refuse(struct corolla_error *err, enum corolla_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static enum corolla_status refuse(struct corolla_error *err, enum corolla_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    return err->status = status;
}

void chat_state_release(struct chat_state *state) {
    history_release(&state->history);
    free(state->tokens);
    free(state->grammar);
    json_decref(state->file);
    *state = (struct chat_state){0};
}

void chat_file_tell(const char *flag) {
    fprintf(stderr, "(%s is not what it was when the chat was saved: the answers may be others)\n", flag);
}

/* ---- settings -------------------------------------------------------------------------------------------------- */

/* With the fewest digits that give the same float again. */
static json_t *number(float value) {
    char text[32];
    int digits = 6;
    do snprintf(text, sizeof text, "%.*g", digits, (double)value);
    while (strtof(text, NULL) != value && digits++ < 9);
    return json_real(strtod(text, NULL));
}

/* The Nth of "a|b|c". */
static json_t *choice(const char *names, int index) {
    while (index-- > 0) names += strcspn(names, "|") + 1;
    return json_stringn(names, strcspn(names, "|"));
}

/* NULL when it cannot be expressed: a text that is not UTF-8. */
static json_t *get(const struct option *item) {
    if (item->kind == OPTION_U32) return json_integer(*(const uint32_t *)item->target);
    if (item->kind == OPTION_F32) return number(*(const float *)item->target);
    if (item->kind == OPTION_CHOICE) return choice(item->value, *(const int *)item->target);
    if (item->kind == OPTION_TEXT) {
        const char *text = *(const char *const *)item->target;
        return text ? json_string(text) : json_null();
    }
    const struct option_list *list = item->target;
    json_t *array = json_array();
    for (size_t i = 0; i < list->n; i++) {
        if (json_array_append_new(array, json_string(list->items[i])) == 0) continue;
        json_decref(array);
        return NULL;
    }
    return array;
}

/* False when the value is not one of the option's. */
static bool set(const struct option *item, const json_t *value) {
    if (item->kind == OPTION_LIST) {
        bool good = json_is_array(value);
        for (size_t i = 0; good && i < json_array_size(value); i++) {
            const char *text = json_string_value(json_array_get(value, i));
            good = text && option_take(item, text);
        }
        return good;
    }
    if (item->kind == OPTION_TEXT && json_is_null(value)) return true;
    if (item->kind == OPTION_TEXT || item->kind == OPTION_CHOICE) {
        const char *text = json_string_value(value);
        return text && option_take(item, text);
    }
    char *text = json_is_number(value) ? json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9)) : NULL;
    bool good = text && option_take(item, text);
    free(text);
    return good;
}

static json_t *get_settings(const struct options *options) {
    json_t *settings = json_object();
    for (size_t i = 0; i < N_KEPT; i++) {
        if (json_object_set_new(settings, kept[i], get(options_find(options, kept[i]))) == 0) continue;
        json_decref(settings);
        return NULL;
    }
    return settings;
}

static enum corolla_status set_settings(const struct options *options, const json_t *settings, const char *path,
                                        struct corolla_error *err) {
    for (size_t i = 0; i < N_KEPT; i++) {
        const struct option *item = options_find(options, kept[i]);
        const json_t *value = json_object_get(settings, kept[i]);
        bool given = options_given(options, item);
        if (!value || (!given && !set(item, value)))
            return refuse(err, COROLLA_FORMAT, "%s is damaged: it has no %s that makes sense", path, kept[i]);
        json_t *mine = get(item);
        if (given && !json_equal(mine, value)) chat_file_tell(kept[i]);
        json_decref(mine);
    }
    if (json_object_size(settings) == N_KEPT) return COROLLA_OK;
    return refuse(err, COROLLA_UNSUPPORTED, "%s has settings that this version of corolla does not know", path);
}

/* ---- reading --------------------------------------------------------------------------------------------------- */

static enum corolla_status load(const char *path, json_t **out, struct corolla_error *err) {
    struct stat st;
    json_error_t where;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return refuse(err, errno == ENOENT ? COROLLA_NOT_FOUND : COROLLA_IO, "cannot read %s: %s", path, strerror(errno));
    enum corolla_status status = COROLLA_OK;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        status = refuse(err, COROLLA_IO, "%s is not a regular file", path);
    else if (st.st_size > FILE_SIZE_MAX)
        status = refuse(err, COROLLA_FORMAT, "%s has more than %d bytes: it is not a saved chat", path, FILE_SIZE_MAX);
    else if (!(*out = json_loadfd(fd, JSON_REJECT_DUPLICATES, &where)))
        status = refuse(err, COROLLA_FORMAT, "%s is not a saved chat, or damaged: line %d is not JSON", path, where.line);
    close(fd);
    return status;
}

static enum corolla_status check_head(const json_t *file, const char *path, const struct corolla_model_info *model,
                                      struct corolla_error *err) {
    const char *format, *id;
    json_int_t version;
    if (json_unpack((json_t *)file, "{s:s, s:I}", "format", &format, "version", &version) || strcmp(format, FORMAT) != 0)
        return refuse(err, COROLLA_FORMAT, "%s is not a saved chat", path);
    if (version != VERSION) return refuse(err, COROLLA_UNSUPPORTED, "%s was saved by another version of corolla", path);
    if (json_unpack((json_t *)file, "{s:{s:s}}", "model", "id", &id))
        return refuse(err, COROLLA_FORMAT, "%s is damaged: it names no model", path);
    if (strcmp(id, model->model_id) == 0) return COROLLA_OK;
    const json_t *name = json_object_get(json_object_get(file, "model"), "name");
    char *text = json_dumps(name, JSON_ENCODE_ANY | JSON_ENSURE_ASCII); /* a terminal shall not see what else may stand there */
    refuse(err, COROLLA_MODEL_MISMATCH, "%s is a chat with another model (%.60s) than %s", path, text ? text : "of no name", model->name);
    free(text);
    return COROLLA_MODEL_MISMATCH;
}

/* False when a message has no content, or not the role of its turn; or when memory ran out. */
static bool take_messages(struct history *h, const json_t *messages) {
    static const char *const roles[] = {"user", "assistant"};
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const char *role, *content;
        if (json_unpack(json_array_get(messages, i), "{s:s, s:s}", "role", &role, "content", &content)) return false;
        if (i == 0 && strcmp(role, "system") == 0) {
            if (!history_set_system(h, content)) return false;
            continue;
        }
        const char *expected = roles[(h->n - h->has_system) % 2];
        if (strcmp(role, expected) != 0 || !history_add(h, expected, content)) return false;
    }
    return json_is_array(messages) && (h->n - h->has_system) % 2 == 0;
}

static bool take_tokens(struct chat_state *state, const json_t *tokens, uint32_t n_vocab) {
    size_t n = json_array_size(tokens);
    state->tokens = malloc((n + 1) * sizeof *state->tokens);
    if (!state->tokens || !json_is_array(tokens)) return false;
    for (size_t i = 0; i < n; i++) {
        const json_t *token = json_array_get(tokens, i);
        json_int_t id = json_integer_value(token);
        if (!json_is_integer(token) || id < 0 || id >= n_vocab) return false;
        state->tokens[state->n_tokens++] = (int32_t)id;
    }
    return true;
}

static bool take_grammar(struct chat_state *state, const json_t *grammar) {
    if (json_is_null(grammar)) return true;
    return json_is_string(grammar) && (state->grammar = strdup(json_string_value(grammar))) != NULL;
}

static bool take_turns(struct chat_state *state, const json_t *turns) {
    json_int_t n = json_integer_value(turns);
    state->turns = (uint32_t)n;
    return json_is_integer(turns) && n >= 0 && n < UINT32_MAX;
}

static enum corolla_status take_all(struct chat_state *state, const char *path, uint32_t n_vocab, struct corolla_error *err) {
    const char *bad = NULL;
    if (!take_turns(state, json_object_get(state->file, "turns")))
        bad = "turns";
    else if (!take_grammar(state, json_object_get(state->file, "grammar")))
        bad = "grammar";
    else if (!take_messages(&state->history, json_object_get(state->file, "messages")))
        bad = "messages";
    else if (!take_tokens(state, json_object_get(state->file, "tokens"), n_vocab))
        bad = "tokens";
    return bad ? refuse(err, COROLLA_FORMAT, "%s is damaged: its \"%s\" make no sense", path, bad) : COROLLA_OK;
}

enum corolla_status chat_file_read(struct chat_state *out, const char *path, const struct corolla_model_info *model,
                                   const struct options *options, struct corolla_error *err) {
    struct chat_state state = {0};
    enum corolla_status status = load(path, &state.file, err);
    if (!status) status = check_head(state.file, path, model, err);
    if (!status) status = take_all(&state, path, model->n_vocab, err);
    if (!status) status = set_settings(options, json_object_get(state.file, "settings"), path, err);
    if (status)
        chat_state_release(&state);
    else
        *out = state;
    return status;
}

/* ---- writing --------------------------------------------------------------------------------------------------- */

static json_t *get_messages(const struct history *h) {
    json_t *messages = json_array();
    for (size_t i = 0; i < h->n; i++) {
        json_t *message = json_pack("{s:s, s:s}", "role", h->messages[i].role, "content", h->messages[i].content);
        if (json_array_append_new(messages, message) == 0) continue;
        json_decref(messages);
        return NULL;
    }
    return messages;
}

static json_t *get_tokens(const struct chat_state *state) {
    json_t *tokens = json_array();
    for (size_t i = 0; i < state->n_tokens; i++) json_array_append_new(tokens, json_integer(state->tokens[i]));
    return tokens;
}

/* A member of the object begins a line, and all tokens are in one. */
static bool dump(const json_t *file, FILE *f) {
    const char *key, *between = "{";
    json_t *value;
    json_object_foreach((json_t *)file, key, value) {
        size_t flags = JSON_ENCODE_ANY | JSON_REAL_PRECISION(9) | (strcmp(key, "tokens") == 0 ? 0 : JSON_INDENT(2));
        fprintf(f, "%s\n\"%s\": ", between, key);
        if (json_dumpf(value, f, flags)) return false;
        between = ",";
    }
    fputs("\n}\n", f);
    return fflush(f) == 0;
}

/* By a temporary file beside it that takes its place: whoever looks sees the old one or the new one. 0, or errno. */
static int replace(const char *path, const json_t *file) {
    char temporary[PATH_SIZE_MAX];
    if (snprintf(temporary, sizeof temporary, "%s.XXXXXX", path) >= (int)sizeof temporary) return ENAMETOOLONG;
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) return errno;
    FILE *f = fdopen(fd, "w");
    errno = f ? 0 : ENOMEM;
    bool good = f && dump(file, f);
    if (good && ftell(f) > FILE_SIZE_MAX) {
        good = false; /* it could not be read again */
        errno = EFBIG;
    }
    good = good && fsync(fd) == 0 && rename(temporary, path) == 0;
    int error = good ? 0 : errno ? errno : EIO;
    if (f)
        fclose(f);
    else
        close(fd);
    if (!good) unlink(temporary);
    return error;
}

enum corolla_status chat_file_write(const struct chat_state *state, const char *path, const struct corolla_model_info *model,
                                    const struct options *options, struct corolla_error *err) {
    json_t *file = json_pack("{s:s, s:i, s:{s:s, s:s}, s:o, s:s?, s:I, s:o, s:o}", "format", FORMAT, "version", VERSION, "model", "id",
                             model->model_id, "name", model->name, "settings", get_settings(options), "grammar", state->grammar, "turns",
                             (json_int_t)state->turns, "messages", get_messages(&state->history), "tokens", get_tokens(state));
    if (!file) return refuse(err, COROLLA_INVALID, "the chat cannot be saved: a text in it is not UTF-8");
    int error = replace(path, file);
    json_decref(file);
    return error ? refuse(err, COROLLA_IO, "cannot save the chat as %s: %s", path, strerror(error)) : COROLLA_OK;
}

enum corolla_status chat_file_may_write(const char *path, const char *own, struct corolla_error *err) {
    struct stat there, mine;
    if (stat(path, &there) != 0 || (S_ISREG(there.st_mode) && there.st_size == 0)) return COROLLA_OK;
    if (own && stat(own, &mine) == 0 && mine.st_dev == there.st_dev && mine.st_ino == there.st_ino) return COROLLA_OK;
    return refuse(err, COROLLA_REFUSED, "%s exists and is kept: choose another name, remove it, or go on with a saved chat by --resume",
                  path);
}
