/* rows.h - rows of hidden states as they stand in the body of a message. Pure; any thread. */
#ifndef COROLLA_NODE_ROWS_H
#define COROLLA_NODE_ROWS_H

#include <corolla.h>

/* Whether none of n numbers is an infinity or NaN. data is aligned for the type. */
bool rows_finite(enum corolla_wire wire, const void *data, size_t n);
/* Moves the last kept of n rows to the front; returns their bytes. */
size_t rows_keep_last(uint8_t *data, uint32_t n, uint32_t kept, size_t row_bytes);

#endif
