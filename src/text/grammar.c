/* grammar.c - see grammar.h. A recursive descent over
 *
 *   grammar    ::= rule*                      rule ::= name "::=" alternates newline
 *   alternates ::= sequence ("|" sequence)*   sequence ::= (item ("*" | "+" | "?" | "{m}" | "{m,}" | "{m,n}")*)*
 *   item       ::= "text" | [class] | name | "(" alternates ")" | "." | ["!"] "<token>"
 *
 * The first error stops it: parser.status is set, and every function returns at once.
 */
#include "text/grammar.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "text/rules.h"
#include "text/whole.h"

#define GRAMMAR_SIZE_MAX 65536 /* bytes; libllama recurses over chains of rules */
#define DEPTH_MAX 128          /* groups in groups */
#define NAMES_MAX 2048
#define REPEAT_MAX 2000         /* libllama's own bound */
#define ELEMENTS_MAX (1u << 20) /* characters and references once repetitions are written out; libllama keeps 8 bytes of each */

struct name {
    const char *at; /* where it stands first */
    size_t size;
    bool defined;
    uint32_t rule; /* its number in rules */
};

struct item { /* of a sequence */
    uint32_t symbol;
    size_t n_elements; /* 0: an empty text */
};

struct parser {
    const char *text, *at;
    int depth;
    size_t n_elements;
    size_t n_names;
    struct name *names; /* [NAMES_MAX] */
    struct rules rules; /* named ones, groups and repetitions */
    enum corolla_status status;
    struct corolla_error *err;
};

static unsigned line_of(const struct parser *p, const char *place) {
    unsigned line = 1;
    for (const char *c = p->text; c < place; c++) line += *c == '\n';
    return line;
}

/* The message is "what", then the text at place. */
static void refuse(struct parser *p, const char *place, size_t size, const char *what) {
    if (p->status) return;
    int shown = size > 40 ? 40 : (int)size;
    p->status = err_set(p->err, COROLLA_INVALID, "grammar, line %u: %s%s%.*s", line_of(p, place), what, size ? " " : "", shown, place);
}

static bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-'; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

static void skip_space(struct parser *p, bool newlines) {
    for (;;) {
        if (*p->at == '#')
            p->at += strcspn(p->at, "\r\n");
        else if (*p->at == ' ' || *p->at == '\t' || (newlines && (*p->at == '\r' || *p->at == '\n')))
            p->at++;
        else
            return;
    }
}

static void add_elements(struct parser *p, size_t n) {
    p->n_elements += n;
    if (p->n_elements > ELEMENTS_MAX) refuse(p, p->at, 0, "texts and repetitions are too many; shorten them");
}

/* The number of the rule whose name stands here. */
static uint32_t take_name(struct parser *p, bool defines) {
    const char *at = p->at;
    while (is_word(*p->at)) p->at++;
    size_t size = (size_t)(p->at - at), i = 0;
    if (size == 0) {
        refuse(p, at, strcspn(at, "\r\n"), "there should be a rule's name (letters, digits, -) at");
        return 0;
    }
    while (i < p->n_names && !(p->names[i].size == size && memcmp(p->names[i].at, at, size) == 0)) i++;
    if (i == NAMES_MAX) {
        refuse(p, at, 0, "there are more than 2048 rules");
        return 0;
    }
    if (i == p->n_names) p->names[p->n_names++] = (struct name){.at = at, .size = size, .rule = rules_add(&p->rules)};
    if (defines) p->names[i].defined = true;
    return p->names[i].rule;
}

/* A character of a text or class, perhaps with a backslash. */
static void take_character(struct parser *p) {
    if (*p->at != '\\') {
        p->at++;
        return;
    }
    char kind = p->at[1];
    size_t digits = kind == 'x' ? 2 : kind == 'u' ? 4 : kind == 'U' ? 8 : 0, n = 0;
    while (n < digits && is_hex(p->at[2 + n])) n++;
    if (kind == '\0' || !strchr("trn\\\"[]-xuU", kind) || n < digits)
        refuse(p, p->at, 2 - (kind == '\0'), "this escape is not known:");
    else
        p->at += 2 + n;
}

/* A quoted text or a character class; returns its elements. */
static size_t take_literal(struct parser *p, char close, const char *what) {
    const char *begin = p->at++;
    size_t n = 0;
    for (; !p->status && *p->at != close; n++) {
        if (!*p->at)
            refuse(p, begin, strcspn(begin, "\r\n"), what);
        else
            take_character(p);
    }
    if (!p->status) p->at++;
    return n;
}

static void take_token(struct parser *p) {
    const char *begin = p->at;
    p->at += *p->at == '!';
    const char *close = *p->at == '<' ? strchr(p->at, '>') : NULL;
    bool number = close && p->at[1] == '[';
    size_t digits = number ? strspn(p->at + 2, "0123456789") : 0;
    if (number && (digits == 0 || digits > 9 || p->at[2 + digits] != ']' || p->at + 3 + digits != close)) close = NULL;
    if (close)
        p->at = close + 1;
    else
        refuse(p, begin, strcspn(begin, "\r\n"), "there should be a <token> or <[number]> at");
}

static unsigned long take_number(struct parser *p, bool newlines) {
    unsigned long n = 0;
    for (; is_digit(*p->at); p->at++)
        if (n <= REPEAT_MAX) n = n * 10 + (unsigned long)(*p->at - '0');
    skip_space(p, newlines);
    return n;
}

struct times {
    unsigned long least, most; /* most of an open end: least */
    bool open;
};

/* "{m}", "{m,}" or "{m,n}". */
static struct times take_braces(struct parser *p, bool newlines) {
    const char *begin = p->at++;
    struct times t = {0};
    skip_space(p, newlines);
    bool good = is_digit(*p->at);
    t.least = t.most = take_number(p, newlines);
    if (good && *p->at == ',') {
        p->at++;
        skip_space(p, newlines);
        t.open = !is_digit(*p->at);
        if (!t.open) t.most = take_number(p, newlines);
    }
    good = good && *p->at == '}' && t.least <= t.most && t.most <= REPEAT_MAX;
    if (good)
        p->at++;
    else
        refuse(p, begin, strcspn(begin, "\r\n"), "a repetition is {m}, {m,} or {m,n} of at most 2000, not");
    return t;
}

static struct times take_times(struct parser *p, bool newlines) {
    if (*p->at == '{') return take_braces(p, newlines);
    char kind = *p->at++;
    return (struct times){.least = kind == '+', .most = 1, .open = kind != '?'};
}

static void take_alternates(struct parser *p, uint32_t rule, bool nested);

static uint32_t take_group(struct parser *p) {
    const char *begin = p->at++;
    uint32_t rule = rules_add(&p->rules);
    if (++p->depth > DEPTH_MAX) {
        refuse(p, begin, 0, "groups are nested deeper than 128; make rules of them");
        return rule;
    }
    skip_space(p, true);
    take_alternates(p, rule, true);
    p->depth--;
    if (!p->status && *p->at != ')') refuse(p, begin, strcspn(begin, "\r\n"), "this group does not end:");
    if (!p->status) p->at++;
    return rule;
}

static struct item take_item(struct parser *p) {
    struct item item = {.symbol = RULES_TERMINAL, .n_elements = 1};
    if (*p->at == '"')
        item.n_elements = take_literal(p, '"', "this text does not end:");
    else if (*p->at == '[')
        item.n_elements = take_literal(p, ']', "this character class does not end:");
    else if (*p->at == '<' || *p->at == '!')
        take_token(p);
    else if (*p->at == '.')
        p->at++;
    else
        item.symbol = *p->at == '(' ? take_group(p) : take_name(p, false);
    return item;
}

/* Takes one repetition of the item; afterwards item is the whole. What libllama makes of it, as far as first symbols go:
 * N ::= item N | nothing, for an open end, or N ::= item | nothing; behind one item when there is at least one. */
static void take_repetition(struct parser *p, struct item *item, bool newlines) {
    if (item->n_elements == 0) {
        refuse(p, p->at, strcspn(p->at, "\r\n"), "an empty text cannot be repeated:");
        return;
    }
    struct times t = take_times(p, newlines);
    item->n_elements *= t.most == 0 && !t.open ? 0 : t.most + 1;
    add_elements(p, item->n_elements);
    if (t.least == 1 && t.most == 1 && !t.open) return;
    uint32_t tail = rules_add(&p->rules), whole = rules_add(&p->rules);
    rules_produce(&p->rules, tail, (uint32_t[]){item->symbol, tail}, t.open ? 2 : 1);
    rules_produce(&p->rules, tail, NULL, 0);
    rules_produce(&p->rules, whole, (uint32_t[]){item->symbol, item->symbol, tail}, 3);
    item->symbol = t.least == 0 ? tail : whole;
}

static void take_sequence(struct parser *p, uint32_t rule, bool nested) {
    uint32_t *symbols = NULL;
    size_t n = 0, max = 0;
    while (!p->status && *p->at && (is_word(*p->at) || strchr("\"[<!.(", *p->at))) {
        struct item item = take_item(p);
        add_elements(p, item.n_elements + 1);
        if (!p->status) skip_space(p, nested);
        while (!p->status && *p->at && strchr("*+?{", *p->at)) {
            take_repetition(p, &item, nested);
            if (!p->status) skip_space(p, nested);
        }
        if (item.n_elements == 0) continue;
        if (n == max) {
            uint32_t *bigger = realloc(symbols, (max = 2 * max + 8) * sizeof *symbols);
            p->rules.failed = p->rules.failed || !bigger;
            if (!bigger) break;
            symbols = bigger;
        }
        symbols[n++] = item.symbol;
    }
    rules_produce(&p->rules, rule, symbols, n);
    free(symbols);
}

static void take_alternates(struct parser *p, uint32_t rule, bool nested) {
    take_sequence(p, rule, nested);
    while (!p->status && *p->at == '|') {
        p->at++;
        skip_space(p, true);
        take_sequence(p, rule, nested);
    }
}

static void take_rule(struct parser *p) {
    uint32_t rule = take_name(p, true);
    if (p->status) return;
    skip_space(p, false);
    if (strncmp(p->at, "::=", 3) != 0) {
        refuse(p, p->at, strcspn(p->at, "\r\n"), "there should be ::= behind the rule's name, in front of");
        return;
    }
    p->at += 3;
    skip_space(p, true);
    take_alternates(p, rule, false);
    if (!p->status && *p->at && *p->at != '\r' && *p->at != '\n') refuse(p, p->at, strcspn(p->at, "\r\n"), "this belongs to no rule:");
    if (!p->status) skip_space(p, true);
}

static void check_names(struct parser *p) {
    bool root = false;
    for (size_t i = 0; i < p->n_names && !p->status; i++) {
        struct name *name = &p->names[i];
        if (!name->defined) refuse(p, name->at, name->size, "there is no rule named");
        root = root || (name->size == 4 && memcmp(name->at, "root", 4) == 0);
    }
    if (!p->status && !root) p->status = err_set(p->err, COROLLA_INVALID, "the grammar has no rule named root, with which it starts");
}

enum corolla_status grammar_check(const char *text, struct corolla_error *err) {
    size_t size = strlen(text);
    if (size > GRAMMAR_SIZE_MAX)
        return err_set(err, COROLLA_INVALID, "the grammar has %zu bytes; at most %d are possible", size, GRAMMAR_SIZE_MAX);
    if (whole_prefix(text, size) < size)
        return err_set(err, COROLLA_INVALID, "the grammar is not UTF-8 at byte %zu", whole_prefix(text, size));
    struct parser p = {.text = text, .at = text, .err = err, .names = malloc(NAMES_MAX * sizeof *p.names)};
    if (!p.names) return err_set(err, COROLLA_NOMEM, "out of memory for a grammar");
    skip_space(&p, true);
    while (!p.status && *p.at) take_rule(&p);
    if (!p.status) check_names(&p);
    if (!p.status && rules_left_recursive(&p.rules))
        p.status = p.rules.failed ? err_set(err, COROLLA_NOMEM, "out of memory for a grammar")
                                  : err_set(err, COROLLA_INVALID,
                                            "the grammar has a rule or a repetition that can begin with itself (left recursion)");
    rules_release(&p.rules);
    free(p.names);
    return p.status;
}
