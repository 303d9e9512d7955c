/* vacancy.c - see vacancy.h. */
#include "node/vacancy.h"

#include <math.h>

#define MEMORY_MS 60000.0 /* after so long what came free counts a third */

/* Tokens that came free count as if they had come at an even rate over the memory. */
void vacancy_note(struct vacancy *v, uint64_t now_ms, uint64_t tokens) {
    double passed_ms = v->since_ms == 0 || now_ms < v->since_ms ? 0 : (double)(now_ms - v->since_ms);
    v->tokens = v->tokens * exp(-passed_ms / MEMORY_MS) + (double)tokens;
    v->since_ms = now_ms;
}

uint32_t vacancy_estimate_ms(const struct vacancy *v, uint64_t now_ms, uint64_t wanted) {
    if (v->since_ms == 0) return VACANCY_DEFAULT_MS;
    double passed_ms = now_ms > v->since_ms ? (double)(now_ms - v->since_ms) : 0;
    double rate = v->tokens * exp(-passed_ms / MEMORY_MS) / MEMORY_MS, ms = rate > 0 ? (double)wanted / rate : VACANCY_MAX_MS;
    return ms < VACANCY_MIN_MS ? VACANCY_MIN_MS : ms > VACANCY_MAX_MS ? VACANCY_MAX_MS : (uint32_t)ms;
}
