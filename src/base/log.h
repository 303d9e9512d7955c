/* log.h - the one log sink of the process: lines of "event key=value ...". Prompts, tokens, activations and secrets are
 * never logged. Who handles an error logs it, once. Any thread. */
#ifndef COROLLA_BASE_LOG_H
#define COROLLA_BASE_LOG_H

#include <corolla.h>

void log_write(enum corolla_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool log_enabled(enum corolla_log_level level);

#define log_error(...) log_write(COROLLA_LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(COROLLA_LOG_WARN, __VA_ARGS__)
#define log_info(...) log_write(COROLLA_LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_write(COROLLA_LOG_DEBUG, __VA_ARGS__)

#endif
