/* main.c - the program: finds the subcommand in the table and runs it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *about;
} commands[] = {
    {"serve", serve_main, "host blocks of a model for others"},
    {"run", run_main, "answer one prompt"},
    {"chat", chat_main, "talk with a model"},
    {"bench", bench_main, "measure prefill and decode speed"},
    {"inspect", inspect_main, "tell what a model file is"},
    {"models", models_main, "list the families of models that run here"},
    {"swarm", swarm_main, "show who is in a swarm; pause a server"},
    {"key", key_main, "this computer's identity, and private swarms"},
    {"version", version_main, "print the version"},
};

int fail(const struct corolla_error *err) {
    fprintf(stderr, "corolla: %s\n", err->message);
    return EXIT_FAILED;
}

static void show_progress(void *user, const char *what, uint64_t done, uint64_t total) {
    (void)user;
    if (total < 1ull << 30 || !isatty(STDERR_FILENO)) return; /* over before it can be read */
    fprintf(stderr, "\r%s: %.1f of %.1f GB%s", what, (double)done / 1e9, (double)total / 1e9, done == total ? "\n" : "");
}

enum corolla_status open_model(const char *path, struct corolla_model **out_model, struct corolla_error *err) {
    return corolla_model_open(out_model, path, show_progress, NULL, err);
}

static enum corolla_status set_error(struct corolla_error *err, const char *path) {
    err->status = COROLLA_IO;
    snprintf(err->message, sizeof err->message, "cannot read %s: %s", path, strerror(errno));
    return COROLLA_IO;
}

enum corolla_status read_text(const char *path, char **out_text, size_t *out_size, struct corolla_error *err) {
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    size_t size = 0, max = 1 << 16, n;
    char *text = f ? malloc(max) : NULL;
    while (text && (n = fread(text + size, 1, max - size - 1, f)) > 0) {
        size += n;
        if (max - size > 1) continue;
        char *bigger = realloc(text, max *= 2);
        if (!bigger) free(text);
        text = bigger;
    }
    bool bad = !text || ferror(f);
    enum corolla_status status = bad ? set_error(err, path) : COROLLA_OK;
    if (f && f != stdin) fclose(f);
    if (bad) {
        free(text);
        return status;
    }
    text[size] = '\0';
    *out_text = text;
    *out_size = size;
    return COROLLA_OK;
}

/* What a command printed must have arrived: a full disk is a failure. */
static int finish(int code) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return code;
    fprintf(stderr, "corolla: standard output cannot be written; is the disk full?\n");
    return EXIT_FAILED;
}

static void print_usage(FILE *out) {
    fprintf(out, "usage: corolla COMMAND [options]\n\ncommands:\n");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].about);
    fprintf(out, "\ncorolla COMMAND --help tells more\n");
}

int main(int argc, char **argv) {
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        print_usage(stdout);
        return EXIT_GOOD;
    }
    if (argc > 1 && strcmp(argv[1], "--version") == 0) return version_main(1, argv);
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(argv[1], commands[i].name) == 0) return finish(commands[i].run(argc - 1, argv + 1));
    if (argc > 1)
        fprintf(stderr, "corolla: there is no command \"%s\"; see corolla --help\n", argv[1]);
    else
        print_usage(stderr);
    return EXIT_USAGE;
}
