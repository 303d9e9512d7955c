/* engine.h - the ggml device that computes: backend, threads, and which kernels are allowed.
 *
 * Exact is the default: the engine is set so that a row's bits do not depend on the other rows of a batch or on the number of
 * threads (docs/ARCHITECTURE.md, "Exactness"); span_load() proves it on the real weights. Fast lifts that for the whole process:
 * the first engine decides, another choice is refused, since ggml reads its switches once. One thread at a time per engine and
 * everything loaded on it.
 */
#ifndef COROLLA_MODEL_ENGINE_H
#define COROLLA_MODEL_ENGINE_H

#include <corolla.h>

#define ENGINE_DEVICES_MAX 8

struct engine; /* one device, and those after it */
struct engine_config {
    uint32_t threads;   /* 0: one per core */
    const char *device; /* ggml device names with commas between, each perhaps with =MIB, the most of its memory to take; NULL: CPU */
    bool fast;
    bool awake; /* workers stay awake for a few milliseconds after a graph: for a process that computes one after the other */
};
/* The first of the devices. The processor stands behind those that are named, for what they have no room for. NOT_FOUND lists the devices
 * there are. */
enum corolla_status engine_new(struct engine **out_engine, const struct engine_config *config, struct corolla_error *err);
void engine_free(struct engine *engine);
uint32_t engine_threads(const struct engine *engine);
bool engine_fast(const struct engine *engine);
bool engine_is_processor(const struct engine *engine);
struct engine *engine_next(const struct engine *engine); /* NULL: it is the last */
bool engine_is_spare(const struct engine *engine);       /* the processor, which nobody named */
const char *engine_name(const struct engine *engine);
/* Bytes that it has free, or may take. */
uint64_t engine_memory(const struct engine *engine);
/* The same of all devices with a memory of their own. */
uint64_t engine_own_memory(const struct engine *engine);

/* For src/model. */
struct ggml_tensor;
struct ggml_cgraph;
struct ggml_backend *engine_backend(const struct engine *engine);
/* Whether weights of this type may stand in the device's repacked buffers: there is a kernel for them and, unless the engine is
 * fast, it was seen to give the same bits for one row and for many. NULL: no. Tested once per type and shape class. */
struct ggml_backend_buffer_type *engine_repack_type(struct engine *engine, int ggml_type, int64_t columns, int64_t rows);
/* Runs a graph; INTERNAL when the device failed. */
enum corolla_status engine_compute(struct engine *engine, struct ggml_cgraph *graph, struct corolla_error *err);
/* A hash over engine version, build, device and processor features: computations agree bit for bit only within one. */
uint64_t engine_class(const struct engine *engine);

#endif
