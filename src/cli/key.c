/* key.c - corolla key show */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/options.h"

int key_main(int argc, char **argv) {
    struct options options = {.usage = "key show",
                              .about =
                                  "Shows the public key of this home (COROLLA_HOME), by which others know it; it is made on first use.",
                              .word = "what to do (show)"};
    struct corolla_error err;
    char hex[65];
    int code;
    if (!options_parse(&options, argc, argv, &code)) return code;
    if (strcmp(options.argument, "show") != 0) return options_refuse(&options, "key %s: there is key show", options.argument);
    if (corolla_key_show(NULL, hex, &err)) return fail(&err);
    printf("%s\n", hex);
    return EXIT_GOOD;
}
