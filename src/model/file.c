/* file.c - see file.h. */
#include "model/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dirs.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "ggml.h"
#include "model/manifest.h"
#include "model/tokens.h"

struct model_file {
    char *path;
    char name[64];
    uint8_t *map;
    size_t size;
    struct header header;
    struct hparams hparams;
    struct manifest manifest;
};

static enum corolla_status map_file(struct model_file *f, const char *path, struct corolla_error *err) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(err, errno == ENOENT ? COROLLA_NOT_FOUND : COROLLA_IO, "cannot open the model %s: %s", path, strerror(errno));
    enum corolla_status status = COROLLA_OK;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        status = err_set(err, COROLLA_IO, "%s is not a regular file", path);
    else if (st.st_size < 24)
        status = err_set(err, COROLLA_FORMAT, "%s is not a GGUF file: it has %lld bytes", path, (long long)st.st_size);
    if (!status) {
        f->size = (size_t)st.st_size;
        void *map = mmap(NULL, f->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED)
            status = err_set(err, COROLLA_IO, "cannot map %s: %s", path, strerror(errno));
        else
            f->map = map;
    }
    close(fd);
    return status;
}

/* An array under tokenizer.ggml that libllama walks without asking: its element type and, when asked, its length. */
static enum corolla_status check_array(const struct header *h, const char *name, enum header_type element, uint64_t count,
                                       struct corolla_error *err) {
    const struct header_key *k = header_find(h, name);
    if (!k) return COROLLA_OK;
    if (k->type != HEADER_ARRAY || k->element != element) return err_set(err, COROLLA_FORMAT, "key %s is an array of the wrong type", name);
    if (count && k->count != count)
        return err_set(err, COROLLA_FORMAT, "%s has %llu entries for %llu tokens", name, (unsigned long long)k->count,
                       (unsigned long long)count);
    return COROLLA_OK;
}

static enum corolla_status check_tokenizer(const struct header *h, uint32_t n_vocab, struct corolla_error *err) {
    static const char *const ids[] = {"bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "cls", "mask"};
    enum corolla_status status = check_array(h, "tokenizer.ggml.tokens", HEADER_STRING, n_vocab, err);
    if (!status) status = check_array(h, "tokenizer.ggml.scores", HEADER_F32, n_vocab, err);
    if (!status) status = check_array(h, "tokenizer.ggml.token_type", HEADER_I32, n_vocab, err);
    if (!status) status = check_array(h, "tokenizer.ggml.merges", HEADER_STRING, 0, err);
    if (!status) status = tokens_check(h, n_vocab, err);
    for (size_t i = 0; i < ARRAY_SIZE(ids) && !status; i++) {
        char name[64];
        uint32_t id;
        snprintf(name, sizeof name, "tokenizer.ggml.%s_token_id", ids[i]);
        if (header_u32(h, name, &id) && id >= n_vocab)
            status = err_set(err, COROLLA_FORMAT, "%s is %u in a vocabulary of %u tokens", name, id, n_vocab);
    }
    return status;
}

/* general.name, else the file's own name without folders, cut to what a message can carry. */
static void find_name(struct model_file *f) {
    const char *slash = strrchr(f->path, '/'), *name;
    size_t size;
    if (!header_string(&f->header, "general.name", &name, &size) || size == 0 || memchr(name, 0, size)) {
        name = slash ? slash + 1 : f->path;
        size = strlen(name);
    }
    if (size > sizeof f->name - 1) size = sizeof f->name - 1;
    memcpy(f->name, name, size);
    utf8_clean(f->name);
}

static enum corolla_status read_file(struct model_file *f, corolla_progress_fn progress, void *user, struct corolla_error *err) {
    enum corolla_status status = header_parse(&f->header, f->map, f->size, err);
    if (!status) status = arch_read(&f->hparams, &f->header, err);
    if (!status) status = check_tokenizer(&f->header, f->hparams.n_vocab, err);
    if (status) return err_prefix(err, status, "%s", f->path);
    find_name(f);
    return manifest_open(&f->manifest, f->path, &f->header, f->map, progress, user, err);
}

enum corolla_status model_file_open(struct model_file **out, const char *path, corolla_progress_fn progress, void *user,
                                    struct corolla_error *err) {
    struct model_file *f = calloc(1, sizeof *f);
    if (!f || !(f->path = strdup(path))) {
        model_file_close(f);
        return err_set(err, COROLLA_NOMEM, "out of memory");
    }
    enum corolla_status status = map_file(f, path, err);
    if (!status) status = read_file(f, progress, user, err);
    if (status)
        model_file_close(f);
    else
        *out = f;
    return status;
}

void model_file_close(struct model_file *f) {
    if (!f) return;
    manifest_clear(&f->manifest);
    header_clear(&f->header);
    if (f->map) munmap(f->map, f->size);
    free(f->path);
    free(f);
}

const char *model_file_path(const struct model_file *f) { return f->path; }
const char *model_file_name(const struct model_file *f) { return f->name; }
const struct hparams *model_file_hparams(const struct model_file *f) { return &f->hparams; }
const uint8_t *model_file_id(const struct model_file *f) { return f->manifest.id; }

const uint8_t *model_file_digest(const struct model_file *f, const struct model_tensor *t) {
    return f->manifest.digests[t - f->header.tensors];
}

const struct model_tensor *model_file_find(const struct model_file *f, const char *name) { return header_tensor(&f->header, name); }

/* NULL: the block has none. */
static const struct model_tensor *block_tensor(const struct model_file *file, uint32_t block, unsigned role) {
    char name[TENSOR_NAME_SIZE];
    if (!arch_has(file->hparams.arch, (enum block_tensor)role)) return NULL;
    arch_block_tensor_name((enum block_tensor)role, block, name);
    return model_file_find(file, name);
}

bool model_file_quantised(const struct model_file *file) {
    for (uint32_t block = 0; block < file->hparams.n_blocks; block++)
        for (unsigned role = 0; role < BLOCK_TENSOR_COUNT; role++) {
            const struct model_tensor *tensor = block_tensor(file, block, role);
            if (tensor && ggml_is_quantized((enum ggml_type)tensor->type)) return true;
        }
    return false;
}

uint64_t model_file_block_bytes(const struct model_file *file, uint32_t block) {
    uint64_t bytes = 0;
    for (unsigned role = 0; role < BLOCK_TENSOR_COUNT; role++) {
        const struct model_tensor *tensor = block_tensor(file, block, role);
        if (tensor) bytes += tensor->size;
    }
    return bytes;
}

const void *model_file_data(const struct model_file *f, const struct model_tensor *t) { return f->map + t->offset; }

void *model_file_map(const struct model_file *f, size_t *out_size) {
    *out_size = f->size;
    return f->map;
}
