/* addr.c - see addr.h. Strict on characters, since addresses come from strangers and end in logs and resolver calls; whether a
 * name exists is for the resolver. Zones ("fe80::1%eth0") are refused: they mean something on one machine only. */
#include "wire/addr.h"

#include <string.h>

#include "wire/msg.h"

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_name(const char *text, size_t size) {
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !is_digit(c) && c != '.' && c != '-' && c != '_') {
            return false;
        }
    }
    return size > 0 && text[0] != '.' && text[0] != '-';
}

static bool is_ipv6(const char *text, size_t size) {
    unsigned colons = 0;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        bool hex = is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
        if (!hex && c != ':' && c != '.') {
            return false;
        }
        colons += c == ':';
    }
    return colons >= 2;
}

static bool is_port(const char *text) {
    unsigned port = 0;
    size_t digits = 0;
    for (; digits < 5 && is_digit(text[digits]); digits++) {
        port = port * 10 + (unsigned)(text[digits] - '0');
    }
    return digits > 0 && text[digits] == '\0' && text[0] != '0' && port <= 65535;
}

bool addr_valid(const char *text) {
    size_t length = strnlen(text, ADDR_MAX);
    const char *colon = length < ADDR_MAX ? strrchr(text, ':') : NULL;
    if (colon == NULL || !is_port(colon + 1)) {
        return false;
    }
    size_t host = (size_t)(colon - text);
    if (text[0] == '[') {
        return host >= 2 && text[host - 1] == ']' && is_ipv6(text + 1, host - 2);
    }
    return is_name(text, host);
}
