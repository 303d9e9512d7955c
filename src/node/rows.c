/* rows.c - see rows.h. */
#include "node/rows.h"

#include <string.h>

/* A number is not finite when all bits of its exponent are set. Loops without an early end are vectorised. */
static bool finite16(const uint16_t *p, size_t n, uint16_t exponent) {
    unsigned bad = 0;
    for (size_t i = 0; i < n; i++) bad |= (p[i] & exponent) == exponent;
    return !bad;
}

static bool finite32(const uint32_t *p, size_t n) {
    unsigned bad = 0;
    for (size_t i = 0; i < n; i++) bad |= (p[i] & 0x7f800000u) == 0x7f800000u;
    return !bad;
}

bool rows_finite(enum corolla_wire wire, const void *data, size_t n) {
    switch (wire) {
    case COROLLA_WIRE_F32: return finite32(data, n);
    case COROLLA_WIRE_F16: return finite16(data, n, 0x7c00);
    case COROLLA_WIRE_BF16: return finite16(data, n, 0x7f80);
    }
    return false;
}

size_t rows_keep_last(uint8_t *data, uint32_t n, uint32_t kept, size_t row_bytes) {
    memmove(data, data + (size_t)(n - kept) * row_bytes, kept * row_bytes);
    return kept * row_bytes;
}
