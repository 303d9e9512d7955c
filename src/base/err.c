/* err.c - filling struct corolla_error, and the texts of the status codes.
 *
 * Peers and files put text into messages, so every message is cleaned before anybody can print it (utf8.h).
 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

static const char *const status_names[] = {
#define X(name, message) #name,
    COROLLA_STATUS_MAP(X)
#undef X
};

static const char *const status_messages[] = {
#define X(name, message) message,
    COROLLA_STATUS_MAP(X)
#undef X
};

const char *corolla_status_name(enum corolla_status status) {
    return (unsigned)status < COROLLA_STATUS_COUNT ? status_names[status] : "UNKNOWN";
}

const char *corolla_status_message(enum corolla_status status) {
    return (unsigned)status < COROLLA_STATUS_COUNT ? status_messages[status] : "unknown status";
}

void corolla_free(void *memory) { free(memory); }

enum corolla_status err_set(struct corolla_error *err, enum corolla_status status, const char *format, ...) {
    if (err == NULL) {
        return status;
    }
    /* Formatted aside: the arguments may point into the message that is replaced. */
    char message[sizeof(err->message)];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    if (n < 0) {
        message[0] = '\0';
    }
    utf8_clean(message);
    err->status = status;
    memcpy(err->message, message, strlen(message) + 1);
    return status;
}

enum corolla_status err_prefix(struct corolla_error *err, enum corolla_status status, const char *format, ...) {
    if (err == NULL) {
        return status;
    }
    char message[sizeof(err->message)];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    size_t used = n < 0 ? 0 : strlen(message);
    size_t room = sizeof(message) - 1 - used;
    if (room > 2) {
        size_t kept = strnlen(err->message, room - 2);
        memcpy(message + used, ": ", 2);
        memcpy(message + used + 2, err->message, kept);
        message[used + 2 + kept] = '\0';
    }
    utf8_clean(message);
    memcpy(err->message, message, strlen(message) + 1);
    return err->status;
}
