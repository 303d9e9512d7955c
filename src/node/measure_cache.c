/* measure_cache.c - see measure_cache.h. */
#include "node/measure_cache.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/dirs.h"
#include "base/log.h"
#include "base/mem.h"
#include "crypto/digest.h"

#define TEXT_MAX 64 /* two numbers */
#define PATH_MAX_SIZE (DIR_PATH_MAX + MEASURE_NAME_SIZE + 1)

void measure_cache_name(const struct measure_key *key, char out_name[MEASURE_NAME_SIZE]) {
    char text[1024], model[2 * DIGEST_SIZE + 1];
    uint8_t digest[DIGEST_SIZE];
    hex_encode(key->model, DIGEST_SIZE, model);
    snprintf(text, sizeof text, "speed 1 %s %u:%u %u %016" PRIx64 " %.64s %.256s", model, key->begin, key->end, key->threads,
             key->arithmetic_class, key->version, key->machine);
    digest_once(text, strlen(text), digest);
    hex_encode(digest, sizeof digest, out_name);
}

static bool locate(const struct measure_key *key, char out_path[PATH_MAX_SIZE]) {
    char dir[DIR_PATH_MAX], name[MEASURE_NAME_SIZE];
    if (dirs_cache("speed", dir, NULL)) return false;
    measure_cache_name(key, name);
    snprintf(out_path, PATH_MAX_SIZE, "%s/%s", dir, name);
    return true;
}

/* Neither old nor from the future. */
static bool is_young(const char *path) {
    struct stat st;
    if (stat(path, &st) != 0) return false;
    time_t age_s = time(NULL) - st.st_mtime;
    return age_s >= 0 && age_s < MEASURE_AGE_S;
}

/* A positive number that ends with the character; steps behind that. */
static bool parse_speed(const char **at, char last, float *out) {
    char *end;
    if (**at < '0' || **at > '9') return false;
    *out = strtof(*at, &end);
    if (*end != last || !isfinite(*out) || *out <= 0) return false;
    *at = end + 1;
    return true;
}

bool measure_cache_read(struct measure *m, const struct measure_key *key) {
    char path[PATH_MAX_SIZE], text[TEXT_MAX + 1];
    size_t size = 0;
    float decode, prefill;
    if (!locate(key, path) || !is_young(path) || dirs_read_file(path, false, text, TEXT_MAX, &size, NULL)) return false;
    text[size] = '\0';
    const char *at = text;
    if (!parse_speed(&at, ' ', &decode) || !parse_speed(&at, '\n', &prefill) || at != text + size) return false;
    m->decode_tokens_per_s = decode;
    m->prefill_tokens_per_s = prefill;
    return true;
}

void measure_cache_write(const struct measure *m, const struct measure_key *key) {
    char path[PATH_MAX_SIZE], text[TEXT_MAX];
    struct corolla_error err;
    if (m->decode_tokens_per_s <= 0 || m->prefill_tokens_per_s <= 0 || !locate(key, path)) return;
    int size = snprintf(text, sizeof text, "%.9g %.9g\n", (double)m->decode_tokens_per_s, (double)m->prefill_tokens_per_s);
    if (dirs_write_file(path, text, (size_t)size, 0600, &err)) log_warn("speed not cached reason=\"%s\"", err.message);
}
