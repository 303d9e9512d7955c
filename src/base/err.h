/* err.h - filling struct corolla_error.
 *
 * A function that can fail returns a status and takes "struct corolla_error *err", which may be NULL. err_set() returns
 * its status, so that a failing branch is one line: return err_set(err, COROLLA_FORMAT, "...", ...);
 */
#ifndef COROLLA_BASE_ERR_H
#define COROLLA_BASE_ERR_H

#include <corolla.h>

/* Formats the message (cut at the size of err->message, control characters replaced) and returns status. */
enum corolla_status err_set(struct corolla_error *err, enum corolla_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " in front of the message that is there. Returns err->status, or status when err is NULL. */
enum corolla_status err_prefix(struct corolla_error *err, enum corolla_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
