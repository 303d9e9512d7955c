/* body.c - see body.h. */
#include "net/body.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Class c holds (4 + c % 4) << (8 + c / 4) bytes: 1024, 1280, 1536, 1792, 2048, ... 64 MiB. */
#define CLASSES 65
#define BLOCK_ALIGN 64

struct account {
    atomic_size_t held;
    atomic_size_t refs; /* its link and its blocks */
};

struct block {
    struct body body;
    struct account *account;
    unsigned class;
};
static_assert(sizeof(struct block) <= BLOCK_ALIGN, "the data starts one alignment step behind the block");
static_assert(MSG_BODY_MAX == (size_t)4 << (8 + (CLASSES - 1) / 4), "the last class holds the largest body");

struct pool {
    void (*on_return)(void *user);
    void *user;
    atomic_bool watched;
    atomic_size_t held;
    pthread_mutex_t lock; /* of what follows */
    struct block *lists[CLASSES];
    size_t cached;
    bool taken; /* since the last trim */
};

static size_t class_bytes(unsigned class) { return (size_t)(4 + class % 4) << (8 + class / 4); }

static unsigned class_of(size_t size) {
    if (size <= 1024) return 0;
    unsigned top = 63u - (unsigned)__builtin_clzll(size - 1); /* 2^top <= size - 1 < 2^(top + 1) */
    return (top - 10) * 4 + (unsigned)((size - 1) >> (top - 2)) - 4 + 1;
}

struct pool *pool_new(void (*on_return)(void *user), void *user) {
    struct pool *pool = calloc(1, sizeof(*pool));
    if (!pool) return NULL;
    pool->on_return = on_return;
    pool->user = user;
    if (pthread_mutex_init(&pool->lock, NULL) != 0) {
        free(pool);
        return NULL;
    }
    return pool;
}

/* Detaches all that waits; the caller frees it outside the lock. */
static struct block *detach_all(struct pool *pool) {
    struct block *all = NULL;
    for (unsigned c = 0; c < CLASSES; c++) {
        while (pool->lists[c]) {
            struct block *block = pool->lists[c];
            pool->lists[c] = (struct block *)(void *)block->body.next;
            block->body.next = (struct body *)(void *)all;
            all = block;
        }
    }
    pool->cached = 0;
    return all;
}

static void free_list(struct block *list) {
    while (list) {
        struct block *next = (struct block *)(void *)list->body.next;
        free(list);
        list = next;
    }
}

void pool_free(struct pool *pool) {
    if (!pool) return;
    free_list(detach_all(pool));
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

static void charge(struct pool *pool, struct block *block, struct account *account) {
    block->account = account;
    if (!account) return;
    atomic_fetch_add_explicit(&account->refs, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&account->held, class_bytes(block->class), memory_order_relaxed);
    atomic_fetch_add_explicit(&pool->held, class_bytes(block->class), memory_order_relaxed);
}

static void account_unref(struct account *account) {
    if (atomic_fetch_sub_explicit(&account->refs, 1, memory_order_acq_rel) == 1) free(account);
}

void pool_discharge(struct pool *pool, struct body *body) {
    struct block *block = (struct block *)(void *)body;
    struct account *account = block ? block->account : NULL;
    if (!account) return;
    block->account = NULL;
    atomic_fetch_sub_explicit(&account->held, class_bytes(block->class), memory_order_seq_cst);
    atomic_fetch_sub_explicit(&pool->held, class_bytes(block->class), memory_order_seq_cst);
    account_unref(account);
    if (atomic_load_explicit(&pool->watched, memory_order_seq_cst)) pool->on_return(pool->user);
}

struct body *pool_take(struct pool *pool, struct account *account, size_t size) {
    if (size > MSG_BODY_MAX) return NULL;
    unsigned class = class_of(size);
    assert(class < CLASSES);
    pthread_mutex_lock(&pool->lock);
    struct block *block = pool->lists[class];
    pool->taken = true;
    if (block) {
        pool->lists[class] = (struct block *)(void *)block->body.next;
        pool->cached -= class_bytes(class);
    }
    pthread_mutex_unlock(&pool->lock);
    if (!block) {
        block = aligned_alloc(BLOCK_ALIGN, BLOCK_ALIGN + class_bytes(class));
        if (!block) return NULL;
        block->class = class;
        block->body.data = (uint8_t *)block + BLOCK_ALIGN;
    }
    block->body.size = size;
    block->body.next = NULL;
    charge(pool, block, account);
    return &block->body;
}

void pool_give(struct pool *pool, struct body *body) {
    if (!body) return;
    struct block *block = (struct block *)(void *)body;
    size_t bytes = class_bytes(block->class);
    pool_discharge(pool, body);
    struct block *surplus = NULL;
    pthread_mutex_lock(&pool->lock);
    if (bytes > BODY_CACHED_MAX) {
        surplus = block;
        block->body.next = NULL;
    } else {
        if (pool->cached + bytes > BODY_CACHED_MAX) surplus = detach_all(pool);
        block->body.next = (struct body *)(void *)pool->lists[block->class];
        pool->lists[block->class] = block;
        pool->cached += bytes;
    }
    pthread_mutex_unlock(&pool->lock);
    free_list(surplus);
}

void pool_trim(struct pool *pool) {
    pthread_mutex_lock(&pool->lock);
    struct block *unused = pool->taken ? NULL : detach_all(pool);
    pool->taken = false;
    pthread_mutex_unlock(&pool->lock);
    free_list(unused);
}

size_t pool_capacity_of(size_t size) { return class_bytes(class_of(size)); }

size_t body_capacity(const struct body *body) { return class_bytes(((const struct block *)(const void *)body)->class); }

struct account *account_new(void) {
    struct account *account = calloc(1, sizeof(*account));
    if (!account) return NULL;
    atomic_init(&account->refs, 1);
    return account;
}

void account_release(struct account *account) {
    if (account) account_unref(account);
}

size_t account_held(const struct account *account) { return atomic_load(&account->held); }
size_t pool_held(const struct pool *pool) { return atomic_load(&pool->held); }

size_t pool_cached(struct pool *pool) {
    pthread_mutex_lock(&pool->lock);
    size_t cached = pool->cached;
    pthread_mutex_unlock(&pool->lock);
    return cached;
}

void pool_watch(struct pool *pool, bool on) { atomic_store(&pool->watched, on); }
