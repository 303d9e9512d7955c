/* whole.h - from the bytes of tokens to text that is always valid UTF-8. Pure; any thread. */
#ifndef COROLLA_TEXT_WHOLE_H
#define COROLLA_TEXT_WHOLE_H

#include <stdbool.h>
#include <stddef.h>

#define WHOLE_GROWTH 3 /* a byte that is no character becomes U+FFFD, which has three */

/* How many bytes at the start are whole characters. */
size_t whole_prefix(const char *bytes, size_t size);
/* Writes bytes as text into out [WHOLE_GROWTH * size] and returns how much that is: what is no character, and NUL, which would end
 * a C string, becomes U+FFFD. A character that is cut off at the end is left, *out_used tells where, unless final. */
size_t whole_take(const char *bytes, size_t size, bool final, char *out, size_t *out_used);

#endif
