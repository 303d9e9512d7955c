/* clock.h - monotonic time. Policy and protocol code takes "now" as an argument instead of calling this. Any thread. */
#ifndef COROLLA_BASE_CLOCK_H
#define COROLLA_BASE_CLOCK_H

#include <stdint.h>

uint64_t clock_us(void);
/* The same in milliseconds and going on while the machine sleeps, where the system has such a clock: for what has a life. */
uint64_t clock_life_ms(void);

#endif
