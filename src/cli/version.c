/* version.c - corolla version */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/options.h"

int version_main(int argc, char **argv) {
    struct options options = {.usage = "version", .about = "Prints the version."};
    int code;
    if (!options_parse(&options, argc, argv, &code)) return code;
    printf("corolla %s\n", COROLLA_VERSION);
    return EXIT_GOOD;
}
