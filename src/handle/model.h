/* model.h - what the public "struct corolla_model" is, for the two layers that take one: node and client.
 *
 * The file is open for the life of the model and read-only, so any thread may read it. The vocabulary belongs to text calls
 * alone, and servers make none: it is opened by the first of them, under a lock, and then lives as long as the model. An opened
 * vocabulary is constant, so several threads may share it.
 */
#ifndef COROLLA_HANDLE_MODEL_H
#define COROLLA_HANDLE_MODEL_H

#include <pthread.h>

#include "model/file.h"
#include "text/text.h"

struct corolla_model {
    struct model_file *file;
    struct corolla_model_info info;
    pthread_mutex_t vocab_lock; /* guards the first opening of vocab */
    struct vocab *vocab;        /* NULL until a text call needs it */
};

/* The vocabulary of the model, borrowed for the life of the model. Any thread. */
enum corolla_status handle_vocab(struct corolla_model *model, const struct vocab **out_vocab, struct corolla_error *err);

#endif
