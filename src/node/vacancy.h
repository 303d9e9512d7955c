/* vacancy.h - when there will be room: how long as many tokens as are wanted took to come free lately. Pure; the time comes in. */
#ifndef COROLLA_NODE_VACANCY_H
#define COROLLA_NODE_VACANCY_H

#include <stdint.h>

struct vacancy { /* zeroed at first */
    uint64_t since_ms;
    double tokens; /* that came free since, what is older counting less */
};

/* Sessions gave back so many tokens. */
void vacancy_note(struct vacancy *vacancy, uint64_t now_ms, uint64_t tokens);
/* Milliseconds until so many are likely to have come free, between VACANCY_MIN_MS and VACANCY_MAX_MS. */
uint32_t vacancy_estimate_ms(const struct vacancy *vacancy, uint64_t now_ms, uint64_t wanted);

#define VACANCY_MIN_MS 250
#define VACANCY_MAX_MS 60000
#define VACANCY_DEFAULT_MS 5000 /* while nothing came free yet */

#endif
