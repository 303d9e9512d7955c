/* cores.c - see cores.h. Linux; elsewhere the processors that are online. */
#include "base/cores.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

uint32_t cores_of_quota(const char *cpu_max) {
    unsigned long long quota, period;
    if (sscanf(cpu_max, "%llu %llu", &quota, &period) != 2 || period == 0) return 0; /* "max 100000" */
    return quota < period ? 1 : (uint32_t)(quota / period);
}

#ifdef __linux__
/* The first line of a file that begins so, without that; false: there is none. */
static int read_line(const char *path, const char *begin, char *out, int size) {
    FILE *f = fopen(path, "re");
    int found = 0;
    while (f && !found && fgets(out, size, f)) found = strncmp(out, begin, strlen(begin)) == 0;
    if (f) fclose(f);
    if (!found) return 0;
    out[strcspn(out, "\n")] = '\0';
    memmove(out, out + strlen(begin), strlen(out + strlen(begin)) + 1);
    return 1;
}

/* 0: no limit. */
static uint32_t cores_of_group(void) {
    char group[256], path[320], cpu_max[64];
    if (!read_line("/proc/self/cgroup", "0::", group, sizeof group)) return 0;
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group);
    return read_line(path, "", cpu_max, sizeof cpu_max) ? cores_of_quota(cpu_max) : 0;
}

uint32_t cores_free(void) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    uint32_t cores = n > 0 ? (uint32_t)n : 1, group = cores_of_group();
    return group > 0 && group < cores ? group : cores;
}
#else
uint32_t cores_free(void) {
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (uint32_t)n : 1;
}
#endif
