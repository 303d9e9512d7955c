/* dirs.h - where a user's files live: the home (identity, peers) and the cache (manifests, weights). */
#ifndef COROLLA_BASE_DIRS_H
#define COROLLA_BASE_DIRS_H

#include <corolla.h>

#define DIR_PATH_MAX 4096

/* home when not NULL, else $COROLLA_HOME, else $XDG_DATA_HOME/corolla, else ~/.local/share/corolla. Made (0700) when missing. */
enum corolla_status dirs_home(const char *home, char out[DIR_PATH_MAX], struct corolla_error *err);
/* $COROLLA_CACHE, else $XDG_CACHE_HOME/corolla, else ~/.cache/corolla, then "/" sub. Made (0700) when missing. */
enum corolla_status dirs_cache(const char *sub, char out[DIR_PATH_MAX], struct corolla_error *err);
/* Writes a file as a whole: a temporary file beside it, fsync, rename. mode is that of the new file. */
enum corolla_status dirs_write_file(const char *path, const void *data, size_t size, unsigned mode, struct corolla_error *err);
/* Reads a small regular file. NOT_FOUND when it does not exist, FORMAT when it has more than max bytes; secret: REFUSED when anybody but
 * this user can read it. */
enum corolla_status dirs_read_file(const char *path, bool secret, void *out, size_t max, size_t *out_size, struct corolla_error *err);

#endif
