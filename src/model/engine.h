/* engine.h - the ggml device that computes: backend, threads, and which kernels are allowed.
 *
 * Exact is the default: the engine is set so that a row's bits do not depend on the other rows of a batch or on the number of
 * threads, and span_load proves it on the real weights. --fast lifts that for the whole process; it must be said before the
 * first engine is made. One thread at a time per engine, everything loaded on it included.
 */
#ifndef COROLLA_MODEL_ENGINE_H
#define COROLLA_MODEL_ENGINE_H

#include <corolla.h>

struct engine;
struct engine_config {
    uint32_t threads;   /* 0: one per core */
    const char *device; /* NULL: CPU */
    bool fast;
};
enum corolla_status engine_new(struct engine **out_engine, const struct engine_config *config, struct corolla_error *err);
void engine_free(struct engine *engine);
uint32_t engine_threads(const struct engine *engine);

#endif
