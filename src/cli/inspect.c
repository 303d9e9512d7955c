/* inspect.c - corolla inspect FILE: what a model file is. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/options.h"

static void print_json(const struct corolla_model_info *info) {
    json_t *object = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "name", info->name, "architecture", info->architecture, "model_id",
                               info->model_id, "blocks", (json_int_t)info->n_blocks, "n_embd", (json_int_t)info->n_embd, "n_vocab",
                               (json_int_t)info->n_vocab, "n_ctx_train", (json_int_t)info->n_ctx_train);
    json_dumpf(object, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(object);
}

static void print_table(const struct corolla_model_info *info) {
    printf("name          %s\narchitecture  %s\nmodel id      %s\n", info->name, info->architecture, info->model_id);
    printf("blocks        %u\nhidden size   %u\nvocabulary    %u tokens\ncontext       %u tokens\n", info->n_blocks, info->n_embd,
           info->n_vocab, info->n_ctx_train);
}

int inspect_main(int argc, char **argv) {
    bool json = false;
    struct options options = {
        .usage = "inspect FILE [--json]", .about = "Tells what a model file is, and checks its header.", .word = "FILE"};
    const struct option rows[] = {{"--json", OPTION_FLAG, &json, 0, 0, "", "print one JSON object"}};
    struct corolla_model *model;
    struct corolla_error err;
    int code;
    options_add(&options, rows, 1);
    if (!options_parse(&options, argc, argv, &code)) return code;
    if (open_model(options.argument, &model, &err)) return fail(&err);
    if (json)
        print_json(corolla_model_info(model));
    else
        print_table(corolla_model_info(model));
    corolla_model_close(model);
    return EXIT_GOOD;
}
