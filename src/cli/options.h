/* options.h - command line options from a table: parsing with strict numbers and ranges, and --help from the same rows.
 *
 * The last of a repeated option wins, except for lists. "--name=value" and "--name value" are the same. Every command has --help,
 * --log-level and --no-lan. A command that points a row --config at its config has the options of that file (config.h) set first.
 */
#ifndef COROLLA_CLI_OPTIONS_H
#define COROLLA_CLI_OPTIONS_H

#include <corolla.h>

#define OPTIONS_MAX 40
#define LIST_MAX 64

enum option_kind {
    OPTION_FLAG,   /* bool */
    OPTION_TEXT,   /* const char * */
    OPTION_U32,    /* uint32_t within [min, max] */
    OPTION_F32,    /* float within [min, max] */
    OPTION_SPAN,   /* struct option_span, "A:B" */
    OPTION_SIZE,   /* uint64_t bytes: a number, maybe with K, M, G or T (of 1024) */
    OPTION_LIST,   /* struct option_list */
    OPTION_CHOICE, /* int: the index of one of "a|b|c" in value */
};

struct option_list {
    size_t n;
    const char *items[LIST_MAX];
};
struct option_span {
    bool given;
    uint32_t begin, end;
};

struct option {
    const char *name; /* "--name", or "-x" */
    enum option_kind kind;
    void *target;
    double min, max;
    const char *value; /* how the value is called in --help; for a choice: its names */
    const char *help;
};

struct options {
    const char *usage; /* behind "corolla " */
    const char *about;
    size_t n;
    struct option items[OPTIONS_MAX];
    bool given[OPTIONS_MAX]; /* by the command line, or the file of --config */
    const char *word;        /* what the one positional argument is called; NULL: there is none */
    bool optional;           /* it may be left out */
    const char *argument;
    const char *config; /* the file of --config */
    const char *file;   /* that is being read, and where: refusals name it */
    unsigned line;
    bool no_lan; /* filled in by options_parse, like: */
    enum corolla_log_level log_level;
};

void options_add(struct options *options, const struct option *items, size_t n);
/* True to go on; else *out_exit is the code to leave with (0 after --help). Messages are written. */
bool options_parse(struct options *options, int argc, char **argv, int *out_exit);
/* Sets one option by its name; value NULL: none was given. 0, or the exit code. */
int options_set(struct options *options, const char *name, size_t size, const char *value);
/* The option of this name, or NULL. */
const struct option *options_find(const struct options *options, const char *name);
bool options_given(const struct options *options, const struct option *item);
/* Parses a value into the option's target; false when it is none for it. */
bool option_take(const struct option *item, const char *text);
/* A usage error of the command's own: prints the line and where help is. Returns EXIT_USAGE. */
int options_refuse(const struct options *options, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The rows that several commands have, on the public structs. */
struct swarm_options {
    struct corolla_swarm_config config;
    struct option_list joins;
    int kv, wire;
    uint32_t wait_s, hang_s;
};
void options_add_swarm(struct options *options, struct swarm_options *swarm);
/* Call after parsing: takes COROLLA_JOIN when neither --join nor --local was given. 0, or the exit code when two ways to compute are
 * given. */
int swarm_options_finish(const struct options *options, struct swarm_options *swarm);
/* Adds the entries of COROLLA_JOIN when the list is empty. 0, or the exit code. */
int options_take_joins(const struct options *options, struct option_list *joins);
void options_add_sampling(struct options *options, struct corolla_sampling *sampling, const char **grammar_file);

#endif
