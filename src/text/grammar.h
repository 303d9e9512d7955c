/* grammar.h - whether a text is a GBNF grammar that libllama can be given. Pure; any thread.
 *
 * libllama's own parser prints the whole text to stderr when something is wrong, recurses as deep as groups are nested, and takes
 * any amount of memory for repetitions; so the syntax and its bounds are checked here first.
 */
#ifndef COROLLA_TEXT_GRAMMAR_H
#define COROLLA_TEXT_GRAMMAR_H

#include <corolla.h>

/* INVALID, with the line, when it is none. The names of <tokens> are left to libllama. Not done: grammars that are good and slow,
 * such as a hundred repetitions of what can be empty. */
enum corolla_status grammar_check(const char *text, struct corolla_error *err);

#endif
