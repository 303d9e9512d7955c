/* entry.c - see entry.h. */
#include "mesh/entry.h"

#include "base/err.h"
#include "wire/addr.h"
#include "wire/join.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define CODE_START "corolla1"
#define SPACE " \t\r\n"

static bool is_code(const char *text) { return strncasecmp(text, CODE_START, sizeof(CODE_START) - 1) == 0 && !strpbrk(text, ".:"); }

/* Whether a port stands behind the host, which may be an IPv6 address in brackets. */
static bool has_port(const char *host) {
    const char *end = host[0] == '[' ? strchr(host, ']') : host;
    return end && strchr(end, ':');
}

static bool parse_name(const char *text, char out[ADDR_MAX]) {
    char host[ADDR_MAX];
    size_t length = strlen(text);
    while (length > 0 && strchr(SPACE, text[length - 1])) length--;
    if (length >= sizeof(host)) return false;
    memcpy(host, text, length);
    host[length] = 0;
    int size = has_port(host) ? snprintf(out, ADDR_MAX, "%s", host) : snprintf(out, ADDR_MAX, "%s:%d", host, ENTRY_PORT);
    return size < ADDR_MAX && addr_valid(out);
}

enum corolla_status entry_parse(const char *text, struct entry *out, struct corolla_error *err) {
    text += strspn(text, SPACE);
    struct entry entry = {.has_node = is_code(text)};
    if (entry.has_node) {
        enum corolla_status status = join_decode(text, &entry.node, err);
        if (status != COROLLA_OK) return status;
    } else if (!parse_name(text, entry.address)) {
        return err_set(err, COROLLA_INVALID,
                       "\"%.64s\" is neither a join code (" CODE_START "...) nor HOST or HOST:PORT (an IPv6 address in brackets, [::1]:%d)",
                       text, ENTRY_PORT);
    }
    *out = entry;
    return COROLLA_OK;
}
