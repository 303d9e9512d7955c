/* rules.h - the rules of a grammar as productions, to find out whether any begins with itself (left recursion). Pure; any thread.
 *
 * libllama follows the first symbols of a rule until it meets a character; when they lead back to the rule, it does so until memory
 * is gone. Its own check misses rules that can be empty only through other rules.
 */
#ifndef COROLLA_TEXT_RULES_H
#define COROLLA_TEXT_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RULES_TERMINAL UINT32_MAX /* a character, class or token: never empty */

struct rules {
    size_t n, max;                  /* productions */
    struct production *productions; /* in any order */
    size_t n_symbols, symbols_max;  /* what stands on their right sides */
    uint32_t *symbols;
    uint32_t n_rules; /* rules are numbers below this */
    bool failed;      /* out of memory: nothing was added since */
};

/* Another rule's number. */
uint32_t rules_add(struct rules *rules);
/* rule ::= symbols[0] symbols[1] ...; none: it can be empty. */
void rules_produce(struct rules *rules, uint32_t rule, const uint32_t *symbols, size_t n);
/* True when a rule can begin with itself and something behind it. Out of memory counts as true, with failed set. */
bool rules_left_recursive(struct rules *rules);
void rules_release(struct rules *rules);

#endif
