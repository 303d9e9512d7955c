/* model.c - the public model object: opening, its facts, and text calls on its vocabulary. See model.h. */
#include "handle/model.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"

static void fill_info(struct corolla_model *model) {
    const struct hparams *hp = model_file_hparams(model->file);
    struct corolla_model_info *info = &model->info;
    info->name = model_file_name(model->file);
    info->architecture = hp->arch->name;
    hex_encode(model_file_id(model->file), (sizeof info->model_id - 1) / 2, info->model_id);
    info->n_blocks = hp->n_blocks;
    info->n_embd = hp->n_embd;
    info->n_vocab = hp->n_vocab;
    info->n_ctx_train = hp->n_ctx_train;
}

bool corolla_family_at(size_t index, struct corolla_family *out) {
    size_t n;
    const struct arch *rows = arch_rows(&n);
    if (out == NULL || index >= n) return false;
    *out = (struct corolla_family){.architecture = rows[index].name, .models = rows[index].models};
    arch_traits(&rows[index], out->traits, sizeof out->traits);
    return true;
}

enum corolla_status corolla_model_open(struct corolla_model **out_model, const char *path, corolla_progress_fn progress, void *user,
                                       struct corolla_error *err) {
    if (out_model == NULL || path == NULL) return err_set(err, COROLLA_INVALID, "model_open needs a path and a place for the model");
    struct corolla_model *model = calloc(1, sizeof *model);
    if (model == NULL) return err_set(err, COROLLA_NOMEM, "out of memory while opening %s", path);
    enum corolla_status status = model_file_open(&model->file, path, progress, user, err);
    if (status != COROLLA_OK) {
        free(model);
        return status;
    }
    fill_info(model);
    pthread_mutex_init(&model->vocab_lock, NULL);
    *out_model = model;
    return COROLLA_OK;
}

void corolla_model_close(struct corolla_model *model) {
    if (model == NULL) return;
    vocab_close(model->vocab);
    pthread_mutex_destroy(&model->vocab_lock);
    model_file_close(model->file);
    free(model);
}

const struct corolla_model_info *corolla_model_info(const struct corolla_model *model) { return &model->info; }

enum corolla_status handle_vocab(struct corolla_model *model, const struct vocab **out_vocab, struct corolla_error *err) {
    enum corolla_status status = COROLLA_OK;
    pthread_mutex_lock(&model->vocab_lock);
    if (model->vocab == NULL) {
        struct vocab *vocab = NULL;
        status = vocab_open(&vocab, model_file_path(model->file), err);
        if (status == COROLLA_OK && vocab_size(vocab) != model->info.n_vocab) {
            status = err_set(err, COROLLA_FORMAT, "%s has %u tokens in its vocabulary and %u rows in its embedding",
                             model_file_path(model->file), vocab_size(vocab), model->info.n_vocab);
            vocab_close(vocab);
        } else if (status == COROLLA_OK) {
            model->vocab = vocab;
        }
    }
    if (status == COROLLA_OK) *out_vocab = model->vocab;
    pthread_mutex_unlock(&model->vocab_lock);
    return status;
}

enum corolla_status corolla_tokenize(struct corolla_model *model, const char *text, size_t text_size, bool add_special, bool parse_special,
                                     int32_t **out_tokens, size_t *out_count, struct corolla_error *err) {
    const struct vocab *vocab;
    enum corolla_status status = handle_vocab(model, &vocab, err);
    if (status != COROLLA_OK) return status;
    return vocab_tokenize(vocab, text, text_size, add_special, parse_special, out_tokens, out_count, err);
}

enum corolla_status corolla_detokenize(struct corolla_model *model, const int32_t *tokens, size_t count, char **out_text,
                                       struct corolla_error *err) {
    const struct vocab *vocab;
    enum corolla_status status = handle_vocab(model, &vocab, err);
    if (status != COROLLA_OK) return status;
    return vocab_detokenize(vocab, tokens, count, out_text, err);
}

enum corolla_status corolla_chat_format(struct corolla_model *model, const char *tmpl, const struct corolla_chat_message *messages,
                                        size_t count, bool add_assistant, char **out_text, struct corolla_error *err) {
    const struct vocab *vocab;
    enum corolla_status status = handle_vocab(model, &vocab, err);
    if (status != COROLLA_OK) return status;
    return vocab_chat_format(vocab, tmpl, messages, count, add_assistant, out_text, err);
}
