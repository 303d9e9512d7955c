/* tokens.c - see tokens.h. Token texts go into a hash table that holds their numbers; libllama reads them as C strings and names
 * empty ones itself, so the same is done here. */
#include "model/tokens.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"

#define EMPTY_NAME_SIZE 32

struct text {
    const char *at;
    size_t size;
};

struct tokens {
    uint32_t n, n_slots;                  /* slots: a power of two, at most half full */
    struct text *texts;                   /* [n] */
    uint32_t *slots;                      /* number of a token plus one; 0: free */
    char (*empty_names)[EMPTY_NAME_SIZE]; /* made with the first empty token */
};

static uint64_t hash(struct text t) {
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < t.size; i++) h = (h ^ (uint8_t)t.at[i]) * 0x100000001b3u;
    return h ^ h >> 32;
}

/* The slot where a text stands, or the free one where it belongs. */
static uint32_t find_slot(const struct tokens *v, struct text t) {
    uint32_t slot = (uint32_t)hash(t) & (v->n_slots - 1);
    while (v->slots[slot]) {
        struct text other = v->texts[v->slots[slot] - 1];
        if (other.size == t.size && memcmp(other.at, t.at, t.size) == 0) break;
        slot = (slot + 1) & (v->n_slots - 1);
    }
    return slot;
}

static bool name_empty(struct tokens *v, uint32_t i) {
    if (!v->empty_names && !(v->empty_names = calloc(v->n, sizeof *v->empty_names))) return false;
    int size = snprintf(v->empty_names[i], EMPTY_NAME_SIZE, "[EMPTY_%u]", i);
    v->texts[i] = (struct text){v->empty_names[i], (size_t)size};
    return true;
}

/* key is a checked array of n strings. */
static enum corolla_status read_texts(struct tokens *v, const struct header_key *key, struct corolla_error *err) {
    const uint8_t *at = key->value;
    for (uint32_t i = 0; i < v->n; i++) {
        size_t size = (size_t)le64_get(at);
        v->texts[i] = (struct text){(const char *)at + 8, strnlen((const char *)at + 8, size)};
        at += 8 + size;
        if (v->texts[i].size == 0 && !name_empty(v, i)) return err_set(err, COROLLA_NOMEM, "out of memory");
        uint32_t slot = find_slot(v, v->texts[i]);
        if (v->slots[slot])
            return err_set(err, COROLLA_FORMAT, "tokens %u and %u of the vocabulary have the same text", v->slots[slot] - 1, i);
        v->slots[slot] = i + 1;
    }
    return COROLLA_OK;
}

static enum corolla_status check_bytes(const struct tokens *v, struct corolla_error *err) {
    for (unsigned byte = 0; byte < 256; byte++) {
        char name[8], plain = (char)byte;
        snprintf(name, sizeof name, "<0x%02X>", byte);
        if (!v->slots[find_slot(v, (struct text){name, 6})] && !v->slots[find_slot(v, (struct text){&plain, 1})])
            return err_set(err, COROLLA_FORMAT, "the vocabulary lacks the byte token %s", name);
    }
    return COROLLA_OK;
}

static bool is(const char *value, size_t size, const char *name) { return strlen(name) == size && memcmp(value, name, size) == 0; }

enum corolla_status tokens_check(const struct header *header, uint32_t n_vocab, struct corolla_error *err) {
    const struct header_key *key = header_find(header, "tokenizer.ggml.tokens");
    const char *model;
    size_t size;
    if (!header_find(header, "tokenizer.ggml.model")) return COROLLA_OK;
    if (!header_string(header, "tokenizer.ggml.model", &model, &size))
        return err_set(err, COROLLA_FORMAT, "tokenizer.ggml.model is no text");
    if (is(model, size, "none") || is(model, size, "no_vocab")) return COROLLA_OK;
    if (!is(model, size, "llama") && !is(model, size, "gpt2"))
        return err_set(err, COROLLA_UNSUPPORTED, "tokenizer %.*s is not supported: llama and gpt2 are", size > 64 ? 64 : (int)size, model);
    if (!key) return err_set(err, COROLLA_FORMAT, "key tokenizer.ggml.tokens is missing");
    struct tokens v = {.n = n_vocab, .n_slots = 2};
    while (v.n_slots < 2 * n_vocab) v.n_slots *= 2;
    v.texts = calloc(v.n, sizeof *v.texts);
    v.slots = calloc(v.n_slots, sizeof *v.slots);
    enum corolla_status status = v.texts && v.slots ? read_texts(&v, key, err) : err_set(err, COROLLA_NOMEM, "out of memory");
    if (!status && is(model, size, "llama")) status = check_bytes(&v, err);
    free(v.empty_names);
    free(v.slots);
    free(v.texts);
    return status;
}
