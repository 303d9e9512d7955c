/* arena.h - memory for one decoding, of a fixed size and without malloc. Pure; any thread.
 *
 * protobuf-c allocates as the input says: many small unknown fields can ask for ten times the size of the input. It gets its memory
 * from here, on the stack of the decoder; when that is used up, decoding fails. Nothing is ever given back to an arena: it goes
 * out of scope as a whole.
 */
#ifndef COROLLA_WIRE_ARENA_H
#define COROLLA_WIRE_ARENA_H

#include <protobuf-c/protobuf-c.h>

#define ARENA_SIZE (64u << 10) /* the largest valid message, a step with 63 hops of 4 addresses, needs about 38 KiB */

struct arena {
    ProtobufCAllocator allocator; /* for protobuf-c; borrows the arena */
    size_t used;
    _Alignas(max_align_t) uint8_t bytes[ARENA_SIZE];
};

void arena_init(struct arena *arena);

#endif
