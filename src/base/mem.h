/* mem.h - sizes that cannot overflow, hex, little-endian access. */
#ifndef COROLLA_BASE_MEM_H
#define COROLLA_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* *out = a * b (or a + b); false, and *out untouched, when it does not fit. */
static inline bool size_mul(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool size_add(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* out has 2 * size + 1 bytes. */
void hex_encode(const void *bytes, size_t size, char *out);
/* Decodes exactly 2 * size lower or upper case hex digits; false when text is anything else. */
bool hex_decode(const char *text, void *out, size_t size);

static inline void le16_put(uint8_t *p, uint16_t v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
static inline void le32_put(uint8_t *p, uint32_t v) {
    le16_put(p, (uint16_t)v);
    le16_put(p + 2, (uint16_t)(v >> 16));
}
static inline void le64_put(uint8_t *p, uint64_t v) {
    le32_put(p, (uint32_t)v);
    le32_put(p + 4, (uint32_t)(v >> 32));
}
static inline uint16_t le16_get(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t le32_get(const uint8_t *p) { return le16_get(p) | (uint32_t)le16_get(p + 2) << 16; }
static inline uint64_t le64_get(const uint8_t *p) { return le32_get(p) | (uint64_t)le32_get(p + 4) << 32; }

#endif
