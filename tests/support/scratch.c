/* scratch.c - see scratch.h. */
#include "scratch.h"

#include <assert.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILES_MAX 16

static char folder[64], paths[FILES_MAX][256];

const char *scratch_file(const char *name) {
    char path[256];
    if (!folder[0]) {
        snprintf(folder, sizeof folder, "%s/corolla-test-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        char *made = mkdtemp(folder);
        assert(made);
        setenv("COROLLA_CACHE", folder, 1);
    }
    snprintf(path, sizeof path, "%s/%s", folder, name);
    for (size_t i = 0; i < FILES_MAX; i++) {
        if (!paths[i][0]) strcpy(paths[i], path);
        if (strcmp(paths[i], path) == 0) return paths[i];
    }
    abort(); /* more files than FILES_MAX */
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void scratch_remove(void) {
    if (folder[0] && nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS) != 0) fprintf(stderr, "cannot remove %s\n", folder);
    folder[0] = '\0';
}
