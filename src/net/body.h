/* body.h - the blocks that messages live in: a pool with size classes, and accounts that say who holds how much.
 *
 * A block is one allocation: struct body, then its data (aligned to 64 bytes). Given back, it waits in the list of its class,
 * so that a steady stream of messages allocates nothing. There are four classes per doubling: at most a quarter is wasted.
 * What waits is bounded; when the bound is hit all of it is freed, so that sizes nobody asks for any more do not stay for ever. It is freed
 * as well when there was nothing to do for a while (pool_trim).
 *
 * Blocks of received messages are charged to an account (one per link) from when they are taken until they are given back,
 * wherever that happens, or queued to be sent (send.h counts those); the pool knows the sum of all accounts. An account outlives
 * its link while blocks are charged to it.
 *
 * Threads: everything here may be called by any thread. One lock, held for a few instructions.
 */
#ifndef COROLLA_NET_BODY_H
#define COROLLA_NET_BODY_H

#include "net/net.h"

#define BODY_CACHED_MAX (32u << 20) /* bytes that may wait for reuse: a few prefill chunks of a big model */

struct pool;
struct account;

/* on_return(user) is called by whoever gives a charged block back while pool_watch is on. It must only wake somebody up. */
struct pool *pool_new(void (*on_return)(void *user), void *user); /* NULL: out of memory */
void pool_free(struct pool *pool);                                /* every block is back */

/* A block with room for size bytes, charged to account unless that is NULL. NULL: out of memory, or over MSG_BODY_MAX. */
struct body *pool_take(struct pool *pool, struct account *account, size_t size);
void pool_give(struct pool *pool, struct body *body); /* NULL: nothing */
void pool_trim(struct pool *pool);                    /* frees what waits, unless a block was taken since the last call */
size_t body_capacity(const struct body *body);
size_t pool_capacity_of(size_t size);                      /* of a block that pool_take would give; size is at most MSG_BODY_MAX */
void pool_discharge(struct pool *pool, struct body *body); /* nobody is charged for the block any more. NULL: nothing */

struct account *account_new(void);             /* NULL: out of memory */
void account_release(struct account *account); /* by its link; NULL: nothing */
size_t account_held(const struct account *account);
size_t pool_held(const struct pool *pool);
size_t pool_cached(struct pool *pool);
void pool_watch(struct pool *pool, bool on);

#endif
