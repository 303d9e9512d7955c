/* scratch.h - a folder for one test program's files, which is also its COROLLA_CACHE. In memory where the system has /dev/shm. */
#ifndef COROLLA_TESTS_SCRATCH_H
#define COROLLA_TESTS_SCRATCH_H

/* The path of a file in the folder; lives until scratch_remove(). */
const char *scratch_file(const char *name);
/* Removes the folder and all in it. */
void scratch_remove(void);

#endif
