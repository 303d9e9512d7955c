/* fuzz_gguf.c - arbitrary bytes as a model file: refused with one line, or accepted, never a crash, a hang or a big allocation.
 *
 * What was accepted must hold what later code relies on: every tensor lies within the file and has a digest. The seeds are tiny
 * whole files made by make_model, for example
 *   make_model tests/fuzz/corpus/gguf/llama no_vocab=1 n_blocks=1 n_embd=32 n_ff=32 n_head=2 n_head_kv=1 head_dim=16
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "model/file.h"
#include "support/scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok) {
    if (!ok) abort();
}

static void check_tensor(const struct model_file *file, const char *name, size_t size) {
    const struct model_tensor *t = model_file_find(file, name);
    if (t) must(t->offset <= size && t->size <= size - t->offset && model_file_digest(file, t) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int fd = -1;
    static char path[64];
    struct corolla_error err = {0};
    struct model_file *file = NULL;
    if (fd < 0) {
        fd = memfd_create("gguf", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        scratch_file(""); /* the cache of manifests */
        atexit(scratch_remove);
    }
    must(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    if (model_file_open(&file, path, NULL, NULL, &err) != COROLLA_OK) {
        must(file == NULL && err.message[0] != '\0' && !strchr(err.message, '\n'));
        return 0;
    }
    for (int role = 0; role < GLOBAL_TENSOR_COUNT; role++) check_tensor(file, arch_global_tensor_name((enum global_tensor)role), size);
    for (uint32_t block = 0; block < model_file_hparams(file)->n_blocks; block++) {
        for (int role = 0; role < BLOCK_TENSOR_COUNT; role++) {
            char name[TENSOR_NAME_SIZE];
            arch_block_tensor_name((enum block_tensor)role, block, name);
            check_tensor(file, name, size);
        }
    }
    model_file_close(file);
    return 0;
}
