/* vocab.c - tokens and text through libllama's vocabulary. See text.h.
 *
 * A GGUF file is opened with vocab_only: libllama reads the header and no weights. It is C++ that throws or aborts on ids that are
 * no token and on text that is no UTF-8, so both are checked here.
 */
#include "text/vocab.h"

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "llama.h"
#include "text/whole.h"

#define TEXT_MAX (64u << 20) /* bytes of one text; libllama counts in int */

struct vocab {
    struct llama_model *model;
    const struct llama_vocab *vocab;
};

static void log_llama(enum ggml_log_level level, const char *text, void *user) {
    (void)user;
    size_t n = strcspn(text, "\n");
    if (n > 0 && level != GGML_LOG_LEVEL_CONT) log_debug("llama: %.*s", (int)n, text);
}

static void catch_log(void) { llama_log_set(log_llama, NULL); }

enum corolla_status vocab_open(struct vocab **out, const char *path, struct corolla_error *err) {
    struct vocab *v = calloc(1, sizeof *v);
    if (!v) return err_set(err, COROLLA_NOMEM, "out of memory");
    static pthread_once_t once = PTHREAD_ONCE_INIT; /* the sink is the process's, and models are opened by any thread */
    pthread_once(&once, catch_log);
    struct llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    v->model = llama_model_load_from_file(path, params);
    v->vocab = v->model ? llama_model_get_vocab(v->model) : NULL;
    if (!v->vocab || llama_vocab_type(v->vocab) == LLAMA_VOCAB_TYPE_NONE) {
        vocab_close(v);
        return err_set(err, COROLLA_UNSUPPORTED, "%s holds no vocabulary that libllama can read; --log-level debug tells why", path);
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

static bool is_token(const struct vocab *v, int32_t token) { return token >= 0 && (uint32_t)token < vocab_size(v); }

bool vocab_is_eog(const struct vocab *v, int32_t token) { return !is_token(v, token) || llama_vocab_is_eog(v->vocab, token); }

enum corolla_status vocab_tokenize(const struct vocab *v, const char *text, size_t size, bool add_special, bool parse_special,
                                   int32_t **out_tokens, size_t *out_count, struct corolla_error *err) {
    if (size > TEXT_MAX) return err_set(err, COROLLA_INVALID, "a text of %zu bytes is longer than %u", size, TEXT_MAX);
    size_t bad = whole_prefix(text, size);
    if (bad < size) return err_set(err, COROLLA_INVALID, "the text is not UTF-8 at byte %zu; convert it to UTF-8", bad);
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

enum corolla_status vocab_detokenize(const struct vocab *v, const int32_t *tokens, size_t count, char **out_text,
                                     struct corolla_error *err) {
    if (count > TEXT_MAX) return err_set(err, COROLLA_INVALID, "%zu tokens are too many", count);
    for (size_t i = 0; i < count; i++)
        if (!is_token(v, tokens[i]))
            return err_set(err, COROLLA_INVALID, "token %d is outside of the vocabulary of %u", tokens[i], vocab_size(v));
    int32_t needed = llama_detokenize(v->vocab, tokens, (int32_t)count, NULL, 0, false, true);
    needed = needed < 0 ? -needed : needed;
    char *bytes = malloc((size_t)needed + 1), *text = malloc((size_t)needed * WHOLE_GROWTH + 1);
    if (bytes && text) {
        int32_t n = needed ? llama_detokenize(v->vocab, tokens, (int32_t)count, bytes, needed, false, true) : 0;
        size_t used;
        text[whole_take(bytes, n < 0 ? 0 : (size_t)n, true, text, &used)] = '\0';
    }
    free(bytes);
    if (!bytes || !text) {
        free(text);
        return err_set(err, COROLLA_NOMEM, "out of memory for the text of %zu tokens", count);
    }
    *out_text = text;
    return COROLLA_OK;
}

size_t vocab_piece(const struct vocab *v, int32_t token, char *out, size_t max) {
    if (!is_token(v, token)) return 0;
    int32_t n = llama_token_to_piece(v->vocab, token, out, max > INT32_MAX ? INT32_MAX : (int32_t)max, 0, false);
    return n < 0 ? (size_t) - (int64_t)n : (size_t)n;
}

const char *vocab_chat_template(const struct vocab *v) { return llama_model_chat_template(v->model, NULL); }
