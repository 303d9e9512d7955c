/* mem.c - hex; the rest of mem.h is inline. */
#include "base/mem.h"

void hex_encode(const void *bytes, size_t size, char *out) {
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = bytes;
    for (size_t i = 0; i < size; i++) {
        *out++ = digits[p[i] >> 4];
        *out++ = digits[p[i] & 15];
    }
    *out = '\0';
}

static int digit_value(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool hex_decode(const char *text, void *out, size_t size) {
    size_t length;
    if (!size_mul(size, 2, &length) || strnlen(text, length) != length || text[length] != '\0') {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (digit_value(text[i]) < 0) {
            return false;
        }
    }
    uint8_t *p = out;
    for (size_t i = 0; i < size; i++) {
        p[i] = (uint8_t)(digit_value(text[2 * i]) << 4 | digit_value(text[2 * i + 1]));
    }
    return true;
}
