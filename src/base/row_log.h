/* row_log.h - the rows of hidden states that a hop has sent, by position, in the bytes in which they went: what a server that takes over
 * the next span is fed with. Memory comes in pages as the log grows, and goes when it is freed.
 *
 * Any thread; a lock inside.
 */
#ifndef COROLLA_BASE_ROW_LOG_H
#define COROLLA_BASE_ROW_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct row_log;

/* For at most max_rows of row_size bytes. NULL: no memory. */
struct row_log *row_log_new(uint32_t max_rows, size_t row_size);
void row_log_free(struct row_log *log); /* may be NULL */

/* Writes n rows at position, at most the length; the log then ends behind them. False: no memory, or a position it cannot continue at;
 * the log then ends at position or before. */
bool row_log_put(struct row_log *log, uint32_t position, uint32_t n, const void *rows);
/* Copies n rows out. False: they are not there. */
bool row_log_get(struct row_log *log, uint32_t position, uint32_t n, void *out_rows);
/* Makes the rows [begin, end) of `to` those of `from`, or what there is of them; `to` then ends there. False: no memory, or `to` does not
 * reach to begin; it is then shorter. */
bool row_log_copy(struct row_log *to, struct row_log *from, uint32_t begin, uint32_t end);
/* Drops all rows and gives their memory back. */
void row_log_clear(struct row_log *log);
size_t row_log_row_size(const struct row_log *log);
/* Rows that are kept, from position 0. */
uint32_t row_log_length(struct row_log *log);

#endif
