/* span.h - a loaded range of blocks and the one way to compute on it.
 *
 * A batch is a list of items, one per session: rows at consecutive positions of its KV. The big matrices see all rows at once;
 * attention runs per item over that item's own cache, whose rows stand in logical order, so an item's bits do not depend on
 * the others. A span may lie on several devices, a part of its blocks on each (part.h). One thread at a time per engine.
 */
#ifndef COROLLA_MODEL_SPAN_H
#define COROLLA_MODEL_SPAN_H

#include "model/engine.h"
#include "model/file.h"

#define BATCH_ROWS_MAX 256 /* rows of one span_forward, all items together: bounds the scratch memory */
#define BATCH_ITEMS_MAX 64

struct span;
struct part;
struct kv;

struct span_config {
    uint32_t begin, end;
    enum corolla_kv kv;
    uint64_t kv_bytes;   /* budget of all KV caches together */
    uint64_t kv_planned; /* of it, what each device keeps room for its blocks' part of; 0: all */
};
/* Maps or copies the weights of [begin, end), on the engine's devices as split.h says, proves the arithmetic. The file must outlive the
 * span. */
enum corolla_status span_load(struct span **out_span, struct engine *engine, const struct model_file *file,
                              const struct span_config *config, struct corolla_error *err);
void span_free(struct span *span);
uint32_t span_begin(const struct span *span);
uint32_t span_end(const struct span *span);
/* Whether the self-proof held, and the hash that names this arithmetic. */
bool span_exact(const struct span *span);
uint64_t span_arithmetic_class(const struct span *span);
const struct hparams *span_hparams(const struct span *span);
struct engine *span_engine(const struct span *span);
enum corolla_kv span_kv_type(const struct span *span);
/* On each device that has blocks of it, in order; how many. */
uint32_t span_parts(const struct span *span, struct part *const **out_parts);

/* KV caches. Bytes of one token over all blocks of the span; a cache is counted in whole pads of KV_PAD tokens. */
#define KV_PAD 64 /* a multiple of every vector width that ggml sums with */
uint64_t span_kv_bytes(const struct hparams *hparams, uint32_t n_blocks, enum corolla_kv kv, uint64_t tokens);
uint64_t span_kv_tokens_left(const struct span *span);
uint64_t span_kv_bytes_left(const struct span *span);

/* A cache for the blocks [begin, end) of the span, empty. NO_CACHE when the budget does not hold it. */
enum corolla_status kv_open(struct kv **out_kv, struct span *span, uint32_t begin, uint32_t end, uint32_t max_tokens,
                            struct corolla_error *err);
void kv_close(struct kv *kv);
uint32_t kv_length(const struct kv *kv); /* positions filled */
/* Makes the positions [begin, end) of `to` those of `from`, bit for bit; `to` then ends there. Both are of the same blocks, begin is at
 * most to's length, end at most from's length and to's maximum (INVALID). The engine's thread. */
enum corolla_status kv_copy(struct kv *to, const struct kv *from, uint32_t begin, uint32_t end, struct corolla_error *err);
uint32_t kv_max(const struct kv *kv);
uint64_t kv_bytes(const struct kv *kv); /* that it was promised */
/* Its bytes do not count in the budget any more, or count again, whatever is left. */
void kv_uncount(struct kv *kv);
void kv_count(struct kv *kv);
/* What kv_save() writes of the first n positions. */
uint64_t kv_saved_bytes(const struct kv *kv, uint32_t n);
/* Takes or gives the next bytes of a file. */
typedef bool (*kv_stream_fn)(void *user, void *bytes, size_t size);
/* Writes the first n positions (at most kv_length), or fills an empty cache of the same blocks and length with them, bit for bit. IO when
 * the stream fails; a cache that was to be filled is then empty. The engine's thread. */
enum corolla_status kv_save(const struct kv *kv, uint32_t n, kv_stream_fn write, void *user, struct corolla_error *err);
enum corolla_status kv_restore(struct kv *kv, uint32_t n, kv_stream_fn read, void *user, struct corolla_error *err);

struct batch_item {
    struct kv *kv;
    uint32_t position; /* at most kv_length; what is at and behind it is dropped */
    uint32_t n;        /* rows */
    const float *in;   /* [n, n_embd] */
    float *out;        /* [n, n_embd]; may be in */
};
/* Runs the items through their blocks. All items of one call use the same blocks of the span. Checks positions and lengths
 * (BAD_POSITION, TOO_LONG) before anything is computed. */
enum corolla_status span_forward(struct span *span, const struct batch_item *items, uint32_t n_items, struct corolla_error *err);

#endif
