/* history.c - see history.h. */
#include "cli/history.h"

#include <stdlib.h>
#include <string.h>

static bool insert(struct history *h, size_t at, const char *role, const char *content) {
    if (h->n == h->max) {
        size_t max = h->max ? 2 * h->max : 16;
        struct corolla_chat_message *bigger = realloc(h->messages, max * sizeof *bigger);
        if (!bigger) return false;
        h->messages = bigger;
        h->max = max;
    }
    char *copy = strdup(content);
    if (!copy) return false;
    memmove(h->messages + at + 1, h->messages + at, (h->n - at) * sizeof *h->messages);
    h->messages[at] = (struct corolla_chat_message){.role = role, .content = copy};
    h->n++;
    return true;
}

static void take_out(struct history *h, size_t at) {
    free((char *)(uintptr_t)h->messages[at].content);
    h->n--;
    memmove(h->messages + at, h->messages + at + 1, (h->n - at) * sizeof *h->messages);
}

bool history_add(struct history *h, const char *role, const char *content) { return insert(h, h->n, role, content); }

bool history_set_system(struct history *h, const char *content) {
    if (content && !insert(h, 0, "system", content)) return false;
    if (h->has_system) take_out(h, content ? 1 : 0);
    h->has_system = content != NULL;
    return true;
}

void history_pop(struct history *h) { take_out(h, h->n - 1); }

bool history_drop_oldest(struct history *h) {
    size_t first = h->has_system ? 1 : 0;
    if (h->n - first < 3) return false;
    take_out(h, first);
    take_out(h, first);
    return true;
}

void history_clear(struct history *h) {
    while (h->n > (h->has_system ? 1u : 0u)) history_pop(h);
}

void history_release(struct history *h) {
    h->has_system = false;
    history_clear(h);
    free(h->messages);
}
