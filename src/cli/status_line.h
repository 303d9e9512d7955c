/* status_line.h - one line at the bottom of the terminal that says what a server does, redrawn once a second; other lines stand above it.
 */
#ifndef COROLLA_CLI_STATUS_LINE_H
#define COROLLA_CLI_STATUS_LINE_H

#include <corolla.h>

struct status_line;

/* Does nothing, and gives NULL, unless stderr is a terminal. The log goes through it from then on, up to this level. */
struct status_line *status_line_start(const struct corolla_server *server, enum corolla_log_level level);
/* Clears the line; log lines go to stderr again. Before the server stops. May be NULL. */
void status_line_stop(struct status_line *line);
/* A line for people on stderr, above the status line when there is one. */
void status_line_say(struct status_line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What the line says: of the stats at two times, that lie so many seconds apart. At most size bytes. */
void status_line_text(const struct corolla_server_stats *before, const struct corolla_server_stats *now, double seconds, char *out,
                      size_t size);

#endif
