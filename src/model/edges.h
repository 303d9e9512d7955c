/* edges.h - what a client holds: the embedding in front of block 0, the final norm and LM head behind the last. */
#ifndef COROLLA_MODEL_EDGES_H
#define COROLLA_MODEL_EDGES_H

#include "model/engine.h"
#include "model/file.h"

struct edges;
enum corolla_status edges_load(struct edges **out_edges, struct engine *engine, const struct model_file *file, struct corolla_error *err);
void edges_free(struct edges *edges);
/* tokens [n] at positions from `position` on -> hidden [n, n_embd]. INVALID for an id outside the vocabulary, TOO_LONG behind the last
 * position that the model has an embedding for. */
enum corolla_status edges_embed(struct edges *edges, uint32_t position, const int32_t *tokens, uint32_t n, float *out_hidden,
                                struct corolla_error *err);
/* hidden [n, n_embd] -> logits [n, n_vocab]. */
enum corolla_status edges_logits(struct edges *edges, const float *hidden, uint32_t n, float *out_logits, struct corolla_error *err);

#endif
