/* rules.c - see rules.h. First which rules can be empty, by repeating until nothing changes; then for each symbol that a rule can
 * begin with and that has others behind it, whether it leads back to the rule. */
#include "text/rules.h"

#include <stdlib.h>
#include <string.h>

#define SEARCH_MAX 16384 /* symbols looked at so; a grammar of 64 KiB that has more is none of a person */

struct production {
    uint32_t rule;
    size_t first, n; /* symbols */
};

uint32_t rules_add(struct rules *r) { return r->n_rules++; }

static bool reserve(void **items, size_t *max, size_t needed, size_t size) {
    if (needed <= *max) return true;
    size_t grown = needed * 2 + 64;
    void *bigger = realloc(*items, grown * size);
    if (!bigger) return false;
    *items = bigger;
    *max = grown;
    return true;
}

void rules_produce(struct rules *r, uint32_t rule, const uint32_t *symbols, size_t n) {
    void *productions = r->productions, *all = r->symbols;
    r->failed = r->failed || !reserve(&productions, &r->max, r->n + 1, sizeof *r->productions);
    r->productions = productions;
    r->failed = r->failed || !reserve(&all, &r->symbols_max, r->n_symbols + n, sizeof *r->symbols);
    r->symbols = all;
    if (r->failed) return;
    r->productions[r->n++] = (struct production){.rule = rule, .first = r->n_symbols, .n = n};
    if (n > 0) memcpy(r->symbols + r->n_symbols, symbols, n * sizeof *symbols);
    r->n_symbols += n;
}

static void find_empty(const struct rules *r, bool *empty) {
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < r->n; i++) {
            const struct production *p = &r->productions[i];
            size_t k = 0;
            while (k < p->n && r->symbols[p->first + k] != RULES_TERMINAL && empty[r->symbols[p->first + k]]) k++;
            if (k < p->n || empty[p->rule]) continue;
            changed = empty[p->rule] = true;
        }
    }
}

/* Puts the productions in the order of their rules; out_first [n_rules + 1] is where each one's begin. */
static bool sort_productions(struct rules *r, size_t *out_first) {
    struct production *sorted = malloc((r->n + 1) * sizeof *sorted);
    if (!sorted) return false;
    for (size_t i = 0; i < r->n; i++) out_first[r->productions[i].rule + 1]++;
    for (uint32_t i = 0; i < r->n_rules; i++) out_first[i + 1] += out_first[i];
    for (size_t i = r->n; i-- > 0;) sorted[--out_first[r->productions[i].rule + 1]] = r->productions[i];
    /* Each entry moved to the begin of its rule, which is one too far to the right. */
    memmove(out_first, out_first + 1, r->n_rules * sizeof *out_first);
    out_first[r->n_rules] = r->n;
    free(r->productions);
    r->productions = sorted;
    r->max = r->n + 1;
    return true;
}

struct search { /* along the symbols with which rules can begin */
    const struct rules *rules;
    const bool *empty;
    const size_t *first;
    bool *seen;      /* [n_rules] */
    uint32_t *stack; /* [n_rules] */
};

/* The k-th symbol when the production can begin with it and it is a rule, else RULES_TERMINAL. */
static uint32_t leading(const struct search *s, const struct production *p, size_t k) {
    if (k >= p->n) return RULES_TERMINAL;
    const uint32_t *symbols = s->rules->symbols + p->first;
    if (k > 0 && (symbols[k - 1] == RULES_TERMINAL || !s->empty[symbols[k - 1]])) return RULES_TERMINAL;
    return symbols[k];
}

static bool reaches(const struct search *s, uint32_t from, uint32_t to) {
    size_t n = 0;
    memset(s->seen, 0, s->rules->n_rules);
    s->seen[from] = true;
    s->stack[n++] = from;
    while (n > 0 && !s->seen[to]) {
        uint32_t rule = s->stack[--n], next;
        for (size_t i = s->first[rule]; i < s->first[rule + 1]; i++)
            for (size_t k = 0; (next = leading(s, &s->rules->productions[i], k)) != RULES_TERMINAL; k++) {
                if (s->seen[next]) continue;
                s->seen[next] = true;
                s->stack[n++] = next;
            }
    }
    return s->seen[to];
}

/* A circle is harmless when nothing stands behind the symbol that leads on: libllama knows the state again. */
static bool grows(const struct search *s) {
    size_t budget = SEARCH_MAX;
    for (size_t i = 0; i < s->rules->n; i++) {
        const struct production *p = &s->rules->productions[i];
        uint32_t next;
        for (size_t k = 0; k + 1 < p->n && (next = leading(s, p, k)) != RULES_TERMINAL; k++)
            if (budget-- == 0 || reaches(s, next, p->rule)) return true;
    }
    return false;
}

bool rules_left_recursive(struct rules *r) {
    size_t n = r->n_rules;
    bool *flags = calloc(2 * n + 1, sizeof *flags);
    size_t *first = calloc(n + 1, sizeof *first);
    uint32_t *stack = calloc(n + 1, sizeof *stack);
    bool found = true;
    r->failed = r->failed || !flags || !first || !stack || !sort_productions(r, first);
    if (!r->failed) {
        const struct search search = {.rules = r, .empty = flags, .first = first, .seen = flags + n, .stack = stack};
        find_empty(r, flags);
        found = grows(&search);
    }
    free(flags);
    free(first);
    free(stack);
    return found;
}

void rules_release(struct rules *r) {
    free(r->productions);
    free(r->symbols);
    *r = (struct rules){0};
}
