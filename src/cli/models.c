/* models.c - corolla models: the families that run here. All of them are compared with libllama by the tests. */
#include <jansson.h>
#include <stdio.h>

#include "cli/cli.h"
#include "cli/options.h"

static void print_json(void) {
    struct corolla_family family;
    json_t *all = json_array();
    for (size_t i = 0; corolla_family_at(i, &family); i++)
        json_array_append_new(
            all, json_pack("{s:s, s:s, s:s}", "architecture", family.architecture, "models", family.models, "traits", family.traits));
    json_dumpf(all, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(all);
}

static void print_table(void) {
    struct corolla_family family;
    printf("%-12s %-44s %s\n", "architecture", "models", "traits");
    for (size_t i = 0; corolla_family_at(i, &family); i++) printf("%-12s %-44s %s\n", family.architecture, family.models, family.traits);
}

int models_main(int argc, char **argv) {
    bool json = false;
    struct options options = {
        .usage = "models [--json]",
        .about = "Lists the families of models that run here. Each is compared with libllama by the tests, bit for bit between\n"
                 "chains, and with a server that is killed. Others are refused by name."};
    const struct option rows[] = {{"--json", OPTION_FLAG, &json, 0, 0, "", "print a JSON array"}};
    int code;
    options_add(&options, rows, 1);
    if (!options_parse(&options, argc, argv, &code)) return code;
    if (json)
        print_json();
    else
        print_table();
    return EXIT_GOOD;
}
