/* utf8.h - which text may be shown to a person. Pure; any thread.
 *
 * Text that peers and files bring ends in terminals and logs, so it must be valid UTF-8 without characters that steer the
 * screen: the C0 and C1 controls, DEL, line and paragraph separators, and the marks that change the direction of writing.
 */
#ifndef COROLLA_BASE_UTF8_H
#define COROLLA_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the well-formed character at text (1 to 4), or 0 when there is none; *out_code is its code point. */
size_t utf8_next(const char *text, size_t size, unsigned *out_code);
/* True when all of text is well-formed and may be shown. */
bool utf8_printable(const char *text, size_t size);
/* Replaces in place what may not be shown: controls by spaces, malformed bytes by '?'. A character cut off at the end is
 * dropped. Never makes the text longer. */
void utf8_clean(char *text);

#endif
