/* cli.h - what the subcommands share. One file per subcommand; main.c holds their table. */
#ifndef COROLLA_CLI_H
#define COROLLA_CLI_H

#include <corolla.h>

/* Exit codes of the program. */
enum { EXIT_GOOD = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

int serve_main(int argc, char **argv);
int run_main(int argc, char **argv);
int chat_main(int argc, char **argv);
int bench_main(int argc, char **argv);
int inspect_main(int argc, char **argv);
int models_main(int argc, char **argv);
int key_main(int argc, char **argv);
int swarm_main(int argc, char **argv);
int version_main(int argc, char **argv);

/* One line on stderr: "corolla: <message>". Returns EXIT_FAILED. */
int fail(const struct corolla_error *err);

/* Opens the model with progress on stderr when that is a terminal and the work is long. */
enum corolla_status open_model(const char *path, struct corolla_model **out_model, struct corolla_error *err);

/* The contents of a file ("-": standard input), NUL-terminated; give back with free(). */
enum corolla_status read_text(const char *path, char **out_text, size_t *out_size, struct corolla_error *err);

#endif
