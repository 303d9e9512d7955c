/* manifest.c - see manifest.h. The cache is a text file: a line that names the file's state, then a digest per tensor. */
#include "model/manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/dirs.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "crypto/digest.h"

#define PROGRESS_BYTES (64u << 20) /* between two calls of the progress callback */

/* ---- digests --------------------------------------------------------------------------------------------------- */

static void update_u32(struct digest *d, uint32_t v) {
    uint8_t b[4];
    le32_put(b, v);
    digest_update(d, b, sizeof b);
}

static void update_u64(struct digest *d, uint64_t v) {
    uint8_t b[8];
    le64_put(b, v);
    digest_update(d, b, sizeof b);
}

static void update_text(struct digest *d, const char *text) { digest_update(d, text, strlen(text)); }

static bool starts_with(const struct header_key *k, const char *prefix) {
    return k->name_size >= strlen(prefix) && memcmp(k->name, prefix, strlen(prefix)) == 0;
}

/* Whether a key enters the arithmetic. */
static bool is_hparam(const struct header_key *k) {
    static const char arch_key[] = "general.architecture";
    if (k->name_size == strlen(arch_key) && starts_with(k, arch_key)) return true;
    return !starts_with(k, "general.") && !starts_with(k, "split.") && !starts_with(k, "tokenizer.");
}

static void hparams_leaf(struct digest *d, const struct header *h, uint8_t out[MANIFEST_DIGEST_SIZE]) {
    update_text(d, "corolla hparams\n");
    for (size_t i = 0; i < h->n_keys; i++) {
        const struct header_key *k = &h->keys[i];
        if (!is_hparam(k)) continue;
        update_u32(d, (uint32_t)k->name_size);
        digest_update(d, k->name, k->name_size);
        update_u32(d, (uint32_t)k->type);
        update_u32(d, (uint32_t)k->element);
        update_u64(d, k->size);
        digest_update(d, k->value, k->size);
    }
    digest_final(d, out);
}

static void tensor_leaf(struct digest *d, const struct model_tensor *t, const uint8_t *data_digest, uint8_t out[MANIFEST_DIGEST_SIZE]) {
    update_text(d, "corolla tensor\n");
    update_u32(d, (uint32_t)strlen(t->name));
    update_text(d, t->name);
    update_u32(d, (uint32_t)t->type);
    for (int i = 0; i < 4; i++) update_u64(d, (uint64_t)t->ne[i]);
    digest_update(d, data_digest, MANIFEST_DIGEST_SIZE);
    digest_final(d, out);
}

/* Reduces n leaves in place to the root at nodes[0]. */
static void merkle_root(struct digest *d, uint8_t (*nodes)[MANIFEST_DIGEST_SIZE], size_t n) {
    for (; n > 1; n = (n + 1) / 2) {
        for (size_t i = 0; i < n; i += 2) {
            if (i + 1 == n) {
                memmove(nodes[i / 2], nodes[i], MANIFEST_DIGEST_SIZE);
                continue;
            }
            update_text(d, "corolla node\n");
            digest_update(d, nodes[i], 2 * (size_t)MANIFEST_DIGEST_SIZE);
            digest_final(d, nodes[i / 2]);
        }
    }
}

static enum corolla_status compute_id(struct manifest *m, const struct header *h, struct corolla_error *err) {
    uint8_t(*nodes)[MANIFEST_DIGEST_SIZE] = malloc((h->n_tensors + 1) * sizeof *nodes);
    struct digest *d = digest_new();
    enum corolla_status status = nodes && d ? COROLLA_OK : err_set(err, COROLLA_NOMEM, "out of memory");
    if (!status) {
        hparams_leaf(d, h, nodes[0]);
        for (size_t i = 0; i < h->n_tensors; i++) tensor_leaf(d, &h->tensors[i], m->digests[i], nodes[i + 1]);
        merkle_root(d, nodes, h->n_tensors + 1);
        memcpy(m->id, nodes[0], sizeof m->id);
    }
    digest_free(d);
    free(nodes);
    return status;
}

static enum corolla_status hash_tensors(struct manifest *m, const struct header *h, const uint8_t *bytes, corolla_progress_fn progress,
                                        void *user, struct corolla_error *err) {
    struct digest *d = digest_new();
    if (!d) return err_set(err, COROLLA_NOMEM, "out of memory");
    uint64_t total = 0, done = 0;
    for (size_t i = 0; i < h->n_tensors; i++) total += h->tensors[i].size;
    for (size_t i = 0; i < h->n_tensors; i++) {
        const struct model_tensor *t = &h->tensors[i];
        for (uint64_t at = 0; at < t->size;) {
            size_t n = t->size - at < PROGRESS_BYTES ? (size_t)(t->size - at) : PROGRESS_BYTES;
            digest_update(d, bytes + t->offset + at, n);
            at += n;
            done += n;
            if (progress) progress(user, "reading the model to find its id", done, total);
        }
        digest_final(d, m->digests[i]);
    }
    digest_free(d);
    return COROLLA_OK;
}

/* ---- cache ----------------------------------------------------------------------------------------------------- */

struct cache_entry {
    char path[DIR_PATH_MAX + 96];
    char state[DIR_PATH_MAX + 128]; /* the first line: the file that the digests belong to */
};

static bool cache_locate(struct cache_entry *e, const char *path, const struct header *h) {
    char dir[DIR_PATH_MAX], real[DIR_PATH_MAX], hex[2 * DIGEST_SIZE + 1];
    uint8_t key[DIGEST_SIZE];
    struct stat st;
    if (!realpath(path, real) || stat(real, &st) != 0 || dirs_cache("manifests", dir, NULL)) return false;
    digest_once(real, strlen(real), key);
    hex_encode(key, sizeof key, hex);
    snprintf(e->path, sizeof e->path, "%s/%s", dir, hex);
    snprintf(e->state, sizeof e->state, "corolla manifest 1 size %lld time %lld.%09ld tensors %zu\n", (long long)st.st_size,
             (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, h->n_tensors);
    return true;
}

/* True when the cache holds the digests of this very file. */
static bool cache_read(const struct cache_entry *e, struct manifest *m) {
    char line[DIR_PATH_MAX + 128];
    FILE *f = fopen(e->path, "r");
    if (!f) return false;
    bool good = fgets(line, sizeof line, f) && strcmp(line, e->state) == 0;
    for (size_t i = 0; good && i < m->n_tensors; i++) {
        good = fgets(line, sizeof line, f) && strlen(line) == 2 * MANIFEST_DIGEST_SIZE + 1;
        if (good) {
            line[2 * MANIFEST_DIGEST_SIZE] = 0;
            good = hex_decode(line, m->digests[i], MANIFEST_DIGEST_SIZE);
        }
    }
    fclose(f);
    return good;
}

static void cache_write(const struct cache_entry *e, const struct manifest *m) {
    size_t head = strlen(e->state), row = 2 * (size_t)MANIFEST_DIGEST_SIZE + 1;
    char *text = malloc(head + m->n_tensors * row + 1);
    if (!text) return;
    memcpy(text, e->state, head);
    for (size_t i = 0; i < m->n_tensors; i++) {
        hex_encode(m->digests[i], MANIFEST_DIGEST_SIZE, text + head + i * row);
        text[head + (i + 1) * row - 1] = '\n';
    }
    struct corolla_error err;
    if (dirs_write_file(e->path, text, head + m->n_tensors * row, 0600, &err)) log_warn("manifest not cached reason=\"%s\"", err.message);
    free(text);
}

enum corolla_status manifest_open(struct manifest *out, const char *path, const struct header *h, const uint8_t *bytes,
                                  corolla_progress_fn progress, void *user, struct corolla_error *err) {
    struct manifest m = {.n_tensors = h->n_tensors};
    struct cache_entry entry;
    m.digests = calloc(h->n_tensors + 1, sizeof *m.digests);
    if (!m.digests) return err_set(err, COROLLA_NOMEM, "out of memory");
    enum corolla_status status = COROLLA_OK;
    bool located = cache_locate(&entry, path, h);
    if (!located || !cache_read(&entry, &m)) {
        status = hash_tensors(&m, h, bytes, progress, user, err);
        if (!status && located) cache_write(&entry, &m);
    }
    if (!status) status = compute_id(&m, h, err);
    if (status)
        manifest_clear(&m);
    else
        *out = m;
    return status;
}

void manifest_clear(struct manifest *m) {
    free(m->digests);
    memset(m, 0, sizeof *m);
}
