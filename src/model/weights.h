/* weights.h - the tensors of a model file as ggml tensors on an engine's device.
 *
 * Three ways, chosen per tensor: in place (the mapping itself is the buffer: nothing is copied, only touched pages cost memory),
 * repacked (a copy in the layout that the fastest allowed kernel wants), or copied (devices whose memory the host cannot
 * address, and data that the file aligns badly). Every tensor's bytes are checked against the manifest as they are loaded.
 */
#ifndef COROLLA_MODEL_WEIGHTS_H
#define COROLLA_MODEL_WEIGHTS_H

#include "model/engine.h"
#include "model/file.h"

struct weights;

struct weights_request {
    char name[TENSOR_NAME_SIZE];
    bool matrix; /* only ever the left side of a matrix product: may be repacked */
    struct ggml_tensor **out;
};

/* Fills *out of every request; a tensor that the file does not have gives NULL. The file must outlive the weights. */
enum corolla_status weights_load(struct weights **out_weights, struct engine *engine, const struct model_file *file,
                                 const struct weights_request *requests, size_t n, struct corolla_error *err);
void weights_free(struct weights *weights);

#endif
