/* utf8.c - see utf8.h. Well-formed means RFC 3629: shortest form, no surrogates, at most U+10FFFF. */
#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

/* How long the character that starts with this byte is; 0 for a byte that starts none. */
static size_t length_of(uint8_t first) {
    if (first < 0x80) {
        return 1;
    }
    if (first >= 0xc2 && first <= 0xdf) {
        return 2;
    }
    if (first >= 0xe0 && first <= 0xef) {
        return 3;
    }
    return first >= 0xf0 && first <= 0xf4 ? 4 : 0;
}

size_t utf8_next(const char *text, size_t size, unsigned *out_code) {
    static const uint8_t first_mask[5] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    static const unsigned smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    const uint8_t *p = (const uint8_t *)text;
    size_t n = size > 0 ? length_of(p[0]) : 0;
    if (n == 0 || n > size) {
        return 0;
    }
    unsigned code = p[0] & first_mask[n];
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
        code = code << 6 | (p[i] & 0x3fu);
    }
    if (code < smallest[n] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
        return 0;
    }
    *out_code = code;
    return n;
}

static bool steers_the_screen(unsigned code) {
    return code < 0x20 || (code >= 0x7f && code <= 0x9f) || (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

bool utf8_printable(const char *text, size_t size) {
    while (size > 0) {
        unsigned code;
        size_t n = utf8_next(text, size, &code);
        if (n == 0 || steers_the_screen(code)) {
            return false;
        }
        text += n;
        size -= n;
    }
    return true;
}

/* True when text is the beginning of a character that needs more bytes than there are. */
static bool is_cut_off(const char *text, size_t size) {
    if (length_of((uint8_t)text[0]) <= size) {
        return false;
    }
    for (size_t i = 1; i < size; i++) {
        if (((uint8_t)text[i] & 0xc0) != 0x80) {
            return false;
        }
    }
    return true;
}

void utf8_clean(char *text) {
    char *to = text;
    size_t left = strlen(text);
    while (left > 0) {
        unsigned code;
        size_t n = utf8_next(text, left, &code);
        if (n == 0 && is_cut_off(text, left)) {
            break;
        }
        if (n == 0) {
            *to++ = '?';
            n = 1;
        } else if (steers_the_screen(code)) {
            *to++ = ' ';
        } else {
            memmove(to, text, n);
            to += n;
        }
        text += n;
        left -= n;
    }
    *to = '\0';
}
