/* kv.h - one session's KV cache: K and V of each of its blocks, whose rows stand in logical order.
 *
 *   K [kv_dim, capacity, blocks]    a row per position
 *   V                               the same; with plain attention [capacity, kv_dim, blocks], so that its second product runs along
 * positions
 *
 * capacity is max_tokens rounded up to KV_PAD. Plain attention looks at a window that is a multiple of KV_PAD as well: sums over
 * positions then have the same order and the same vector lanes however far a session has come; positions behind its end are
 * masked and hold zeros or old finite values, which add exact zeros. Blocks are on the device of their part of the span. One
 * thread at a time per engine.
 */
#ifndef COROLLA_MODEL_KV_H
#define COROLLA_MODEL_KV_H

#include "model/span.h"

struct ggml_tensor;

enum attending {                  /* of a device */
                 ATTENDING_PLAIN, /* two products and a softmax */
                 ATTENDING_FUSED, /* ggml's fused kernel: no scores in memory, but its sums depend on the number of rows and threads */
                 ATTENDING_OWN,   /* kernel/attention.h */
};

struct kv_piece { /* the blocks on one device */
    struct part *part;
    uint32_t first, n; /* the cache's first block is 0 */
    uint32_t clean;    /* positions that hold zeros or values; behind them stands what the memory held before */
    struct ggml_context *ctx;
    struct ggml_backend_buffer *buffer;
    struct ggml_tensor *k, *v;
};

struct kv {
    struct span *span;
    uint32_t begin, end; /* blocks of the model */
    uint32_t length, max_tokens, capacity;
    uint64_t bytes;
    bool counted;    /* in the budget */
    uint64_t serial; /* never used twice in a process, unlike the address */
    uint32_t n_pieces;
    struct kv_piece pieces[ENGINE_DEVICES_MAX];
};

/* The part of the cache that n positions need attention to look at. */
uint32_t kv_window(uint32_t positions);
int kv_ggml_type(enum corolla_kv type);
/* Without asking the budget. */
enum corolla_status kv_allocate(struct kv **out_kv, struct span *span, uint32_t begin, uint32_t end, uint32_t max_tokens,
                                struct corolla_error *err);
/* The piece on the device of a part. */
const struct kv_piece *kv_piece_on(const struct kv *kv, const struct part *part);
/* Makes the first n positions on the part's device clean, so that attention may look at them. */
void kv_clean(struct kv *kv, const struct part *part, uint32_t n);
/* Frees what kv_allocate() made. */
void kv_release(struct kv *kv);

#endif
