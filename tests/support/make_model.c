/* make_model.c - a tiny model from the command line, for tests that are not written in C.
 *
 *   make_model FILE [KEY=VALUE]...   with fields of struct tiny_config as keys, for example arch=qwen3 type=q4_K seed=7
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tiny.h"

static const char *const rope_names[] = {"plain", "linear", "llama3", "yarn"};

static bool set_rope(struct tiny_config *c, const char *value) {
    for (size_t i = 0; i < sizeof rope_names / sizeof *rope_names; i++)
        if (strcmp(value, rope_names[i]) == 0) {
            c->rope = (enum tiny_rope)i;
            return true;
        }
    return false;
}

static bool set(struct tiny_config *c, const char *key, const char *value) {
    struct {
        const char *key;
        uint32_t *field;
    } numbers[] = {{"n_blocks", &c->n_blocks},   {"n_embd", &c->n_embd},     {"n_ff", &c->n_ff},   {"n_head", &c->n_head},
                   {"n_head_kv", &c->n_head_kv}, {"head_dim", &c->head_dim}, {"n_ctx", &c->n_ctx}, {"window", &c->window}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strcmp(key, numbers[i].key) == 0) {
            *numbers[i].field = (uint32_t)strtoul(value, NULL, 10);
            return true;
        }
    if (strcmp(key, "type") == 0) return c->type = value, true;
    if (strcmp(key, "seed") == 0) return c->seed = strtoull(value, NULL, 10), true;
    if (strcmp(key, "tied") == 0) return c->tied = strcmp(value, "0") != 0, true;
    if (strcmp(key, "no_vocab") == 0) return c->no_vocab = strcmp(value, "0") != 0, true;
    if (strcmp(key, "rope") == 0) return set_rope(c, value);
    return strcmp(key, "arch") == 0;
}

int main(int argc, char **argv) {
    const char *arch = "llama";
    struct tiny_config config;
    if (argc < 2) {
        fprintf(stderr, "usage: make_model FILE [KEY=VALUE]...\n");
        return 2;
    }
    for (int i = 2; i < argc; i++)
        if (strncmp(argv[i], "arch=", 5) == 0) arch = argv[i] + 5;
    tiny_config_default(&config, arch);
    for (int i = 2; i < argc; i++) {
        char *equals = strchr(argv[i], '=');
        if (equals) *equals = '\0';
        if (!equals || !set(&config, argv[i], equals + 1)) {
            fprintf(stderr, "make_model: what is %s?\n", argv[i]);
            return 2;
        }
    }
    return tiny_write(&config, argv[1]) ? 0 : 1;
}
