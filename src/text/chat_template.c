/* chat_template.c - from messages to the text that a model was trained on. See text.h.
 *
 * libllama runs no Jinja: it knows templates by pattern. One that it does not know is refused with the way out, since a guess would
 * make the model answer badly without anybody knowing why.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "llama.h"
#include "text/vocab.h"

#define CHAT_SIZE_MAX ((size_t)64 << 20) /* bytes of all messages together; libllama counts in int */
#define CHAT_MESSAGES_MAX 65536
#define BUILTINS_MAX 256

static bool is_builtin(const char *name) {
    const char *names[BUILTINS_MAX];
    int32_t n = llama_chat_builtin_templates(names, BUILTINS_MAX);
    for (int32_t i = 0; i < n && i < BUILTINS_MAX; i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

static enum corolla_status choose_template(const struct vocab *v, const char *name, const char **out, struct corolla_error *err) {
    if (name && !is_builtin(name))
        return err_set(err, COROLLA_UNSUPPORTED,
                       "no chat template is called \"%.40s\"; there are chatml, llama2, llama3, mistral-v7, gemma, phi4 and others", name);
    *out = name ? name : vocab_chat_template(v);
    if (!*out)
        return err_set(err, COROLLA_UNSUPPORTED, "the model has no chat template; choose one with --chat-template, for example chatml");
    return COROLLA_OK;
}

/* Bytes that are enough for most templates. */
static enum corolla_status guess_size(const struct corolla_chat_message *messages, size_t count, size_t *out, struct corolla_error *err) {
    if (count > CHAT_MESSAGES_MAX)
        return err_set(err, COROLLA_INVALID, "a chat of %zu messages is longer than %d", count, CHAT_MESSAGES_MAX);
    size_t size = 256;
    for (size_t i = 0; i < count && size <= CHAT_SIZE_MAX; i++) {
        if (!messages[i].role || !messages[i].content) return err_set(err, COROLLA_INVALID, "message %zu has no role or no content", i);
        size += strlen(messages[i].role) + strlen(messages[i].content) + 64;
    }
    if (size > CHAT_SIZE_MAX) return err_set(err, COROLLA_INVALID, "a chat has at most %zu bytes", CHAT_SIZE_MAX);
    *out = size;
    return COROLLA_OK;
}

static enum corolla_status apply(const char *tmpl, const struct llama_chat_message *chat, size_t count, bool add_assistant, size_t size,
                                 char **out_text, struct corolla_error *err) {
    char *text = malloc(size + 1);
    int32_t n = text ? llama_chat_apply_template(tmpl, chat, count, add_assistant, text, (int32_t)size) : 0;
    if (n > (int32_t)size) { /* the template adds more than was guessed */
        free(text);
        size = (size_t)n;
        text = malloc(size + 1);
        n = text ? llama_chat_apply_template(tmpl, chat, count, add_assistant, text, (int32_t)size) : 0;
    }
    if (!text) return err_set(err, COROLLA_NOMEM, "out of memory for a chat of %zu bytes", size);
    if (n < 0 || (size_t)n > size) {
        free(text);
        return err_set(err, COROLLA_UNSUPPORTED,
                       "this chat template is not one that is known; choose one with --chat-template, for example chatml");
    }
    text[n] = '\0';
    *out_text = text;
    return COROLLA_OK;
}

enum corolla_status vocab_chat_format(const struct vocab *v, const char *tmpl, const struct corolla_chat_message *messages, size_t count,
                                      bool add_assistant, char **out_text, struct corolla_error *err) {
    size_t size = 0;
    enum corolla_status status = choose_template(v, tmpl, &tmpl, err);
    if (!status) status = guess_size(messages, count, &size, err);
    if (status) return status;
    struct llama_chat_message *chat = calloc(count + 1, sizeof *chat);
    if (!chat) return err_set(err, COROLLA_NOMEM, "out of memory for %zu messages", count);
    for (size_t i = 0; i < count; i++) chat[i] = (struct llama_chat_message){.role = messages[i].role, .content = messages[i].content};
    status = apply(tmpl, chat, count, add_assistant, size, out_text, err);
    free(chat);
    return status;
}
