/* whole.c - see whole.h. */
#include "text/whole.h"

#include <string.h>

#include "base/utf8.h"

#define REPLACEMENT "\xef\xbf\xbd"

size_t whole_prefix(const char *bytes, size_t size) {
    unsigned code;
    size_t at = 0, n = 1;
    while (at < size && (n = utf8_next(bytes + at, size - at, &code)) > 0) at += n;
    return at;
}

/* Whether the bytes are the beginning of a character whose rest may still come. */
static bool incomplete(const char *bytes, size_t size) {
    unsigned char lead = (unsigned char)bytes[0];
    size_t need = lead >= 0xf0 && lead < 0xf5 ? 4 : lead >= 0xe0 && lead < 0xf0 ? 3 : lead >= 0xc2 && lead < 0xe0 ? 2 : 1;
    for (size_t i = 1; i < size; i++)
        if (((unsigned char)bytes[i] & 0xc0) != 0x80) return false;
    return size < need;
}

size_t whole_take(const char *bytes, size_t size, bool final, char *out, size_t *out_used) {
    size_t at = 0, written = 0;
    while (at < size) {
        unsigned code = 0;
        size_t n = utf8_next(bytes + at, size - at, &code);
        if (n == 0 && !final && incomplete(bytes + at, size - at)) break;
        bool good = n > 0 && code != 0;
        const char *text = good ? bytes + at : REPLACEMENT;
        size_t text_size = good ? n : strlen(REPLACEMENT);
        memcpy(out + written, text, text_size);
        written += text_size;
        at += n ? n : 1;
    }
    *out_used = at;
    return written;
}
