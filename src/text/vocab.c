/* vocab.c - tokens and text through libllama's vocabulary, and chat templates. See text.h.
 *
 * A GGUF file is opened with vocab_only: libllama reads the header and no weights. It runs no Jinja, so that a chat template is
 * either one that it knows by pattern or refused.
 */
#include "text/vocab.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "llama.h"

#define TEXT_MAX (64u << 20) /* bytes of one text; libllama counts in int */

struct vocab {
    struct llama_model *model;
    const struct llama_vocab *vocab;
};

static void log_llama(enum ggml_log_level level, const char *text, void *user) {
    (void)user;
    size_t n = strcspn(text, "\n");
    if (n > 0) log_write(level == GGML_LOG_LEVEL_ERROR ? COROLLA_LOG_WARN : COROLLA_LOG_DEBUG, "llama: %.*s", (int)n, text);
}

enum corolla_status vocab_open(struct vocab **out, const char *path, struct corolla_error *err) {
    struct vocab *v = calloc(1, sizeof *v);
    if (!v) return err_set(err, COROLLA_NOMEM, "out of memory");
    llama_log_set(log_llama, NULL);
    struct llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    v->model = llama_model_load_from_file(path, params);
    v->vocab = v->model ? llama_model_get_vocab(v->model) : NULL;
    if (!v->vocab || llama_vocab_type(v->vocab) == LLAMA_VOCAB_TYPE_NONE) {
        vocab_close(v);
        return err_set(err, COROLLA_UNSUPPORTED, "%s holds no vocabulary that libllama can read", path);
    }
    *out = v;
    return COROLLA_OK;
}

void vocab_close(struct vocab *v) {
    if (!v) return;
    if (v->model) llama_model_free(v->model);
    free(v);
}

const struct llama_vocab *vocab_llama(const struct vocab *v) { return v->vocab; }
uint32_t vocab_size(const struct vocab *v) { return (uint32_t)llama_vocab_n_tokens(v->vocab); }
bool vocab_is_eog(const struct vocab *v, int32_t token) { return llama_vocab_is_eog(v->vocab, token); }

enum corolla_status vocab_tokenize(const struct vocab *v, const char *text, size_t size, bool add_special, bool parse_special, int32_t **out_tokens,
                                   size_t *out_count, struct corolla_error *err) {
    if (size > TEXT_MAX) return err_set(err, COROLLA_INVALID, "a text of %zu bytes is longer than %u", size, TEXT_MAX);
    int32_t needed = -llama_tokenize(v->vocab, text, (int32_t)size, NULL, 0, add_special, parse_special);
    if (needed < 0 || needed == INT32_MIN) return err_set(err, COROLLA_INVALID, "the text cannot be tokenized");
    int32_t *tokens = malloc(((size_t)needed + 1) * sizeof *tokens);
    if (!tokens) return err_set(err, COROLLA_NOMEM, "out of memory");
    int32_t n = needed ? llama_tokenize(v->vocab, text, (int32_t)size, tokens, needed, add_special, parse_special) : 0;
    if (n < 0) {
        free(tokens);
        return err_set(err, COROLLA_INTERNAL, "the tokenizer contradicts itself");
    }
    *out_tokens = tokens;
    *out_count = (size_t)n;
    return COROLLA_OK;
}

enum corolla_status vocab_detokenize(const struct vocab *v, const int32_t *tokens, size_t count, char **out_text, struct corolla_error *err) {
    if (count > TEXT_MAX) return err_set(err, COROLLA_INVALID, "%zu tokens are too many", count);
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= vocab_size(v))
            return err_set(err, COROLLA_INVALID, "token %d is outside of the vocabulary of %u", tokens[i], vocab_size(v));
    int32_t needed = llama_detokenize(v->vocab, tokens, (int32_t)count, NULL, 0, false, true);
    needed = needed < 0 ? -needed : needed;
    char *text = malloc((size_t)needed + 1);
    if (!text) return err_set(err, COROLLA_NOMEM, "out of memory");
    int32_t n = needed ? llama_detokenize(v->vocab, tokens, (int32_t)count, text, needed, false, true) : 0;
    text[n < 0 ? 0 : n] = '\0';
    *out_text = text;
    return COROLLA_OK;
}

size_t vocab_piece(const struct vocab *v, int32_t token, char *out, size_t max) {
    int32_t n = llama_token_to_piece(v->vocab, token, out, max > INT32_MAX ? INT32_MAX : (int32_t)max, 0, false);
    return n < 0 ? (size_t)-(int64_t)n : (size_t)n;
}

enum corolla_status vocab_chat_format(const struct vocab *v, const char *tmpl, const struct corolla_chat_message *messages, size_t count,
                                      bool add_assistant, char **out_text, struct corolla_error *err) {
    size_t bytes = 256;
    if (!tmpl && !(tmpl = llama_model_chat_template(v->model, NULL)))
        return err_set(err, COROLLA_UNSUPPORTED, "the model has no chat template; choose one with --chat-template, for example chatml");
    struct llama_chat_message *chat = calloc(count + 1, sizeof *chat);
    if (!chat) return err_set(err, COROLLA_NOMEM, "out of memory");
    for (size_t i = 0; i < count; i++) {
        chat[i] = (struct llama_chat_message){.role = messages[i].role, .content = messages[i].content};
        bytes += strlen(messages[i].content) + 64;
    }
    char *text = bytes > TEXT_MAX ? NULL : malloc(bytes);
    int32_t n = text ? llama_chat_apply_template(tmpl, chat, count, add_assistant, text, (int32_t)bytes - 1) : 0;
    if (n >= (int32_t)bytes) { /* the template adds more than was guessed */
        free(text);
        bytes = (size_t)n + 1;
        text = malloc(bytes);
        n = text ? llama_chat_apply_template(tmpl, chat, count, add_assistant, text, (int32_t)bytes - 1) : 0;
    }
    free(chat);
    if (!text) return err_set(err, COROLLA_NOMEM, "out of memory for a chat of %zu bytes", bytes);
    if (n < 0 || (size_t)n >= bytes) {
        free(text);
        return err_set(err, COROLLA_UNSUPPORTED, "this chat template is not one that is known; choose one with --chat-template, for example chatml");
    }
    text[n] = '\0';
    *out_text = text;
    return COROLLA_OK;
}
