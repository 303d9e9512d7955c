/* cores.h - how many processors this process may keep busy. */
#ifndef COROLLA_BASE_CORES_H
#define COROLLA_BASE_CORES_H

#include <stdint.h>

/* Those that it may run on, or fewer when its control group has less time (cgroup v2, cpu.max); at least 1. Any thread. */
uint32_t cores_free(void);
/* Whole cores of a cpu.max, such as "150000 100000"; 0: no limit. */
uint32_t cores_of_quota(const char *cpu_max);

#endif
