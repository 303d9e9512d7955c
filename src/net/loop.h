/* loop.h - what the files of this folder share of a net: its loop, its tables, its buffers.
 *
 *   net.c      opening, running, stopping; posts and timers
 *   listen.c   the listener and what it refuses
 *   dial.c     from a node to a link
 *   link.c     the life of a link; link_io.c moves its bytes, upload.c holds them back when there is a limit
 *
 * One struct net per node; nothing is global, so that many nodes can live in one process.
 */
#ifndef COROLLA_NET_LOOP_H
#define COROLLA_NET_LOOP_H

#include "net/address.h"
#include "net/net.h"
#include "net/receive.h"
#include "net/tls.h"
#include "net/upload.h"

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#define POSTS_MAX 65536        /* calls that wait for the loop; who posts more waits for room */
#define READ_SIZE (64u << 10)  /* per read; one buffer serves all links, since the loop is one thread */
#define CHUNK_PACK (16u << 10) /* frames are packed into a chunk until it holds this much */
#define CHUNK_SIZE (CHUNK_PACK + FRAME_SIZE_MAX + 1024)
#define CHUNKS_FREE_MAX 16
#define STOP_MS 500  /* how long net_stop and link_close flush */
#define TRIM_MS 5000 /* without a message, after which the pool keeps nothing */
#define GOODBYE_TEXT_MAX (FRAME_GOODBYE_MAX - 2)

/* Ciphertext on its way into a socket. */
struct chunk {
    uv_write_t request;
    struct chunk *next;
    struct link *link;
    struct tls_buffer buffer;
    uint8_t data[CHUNK_SIZE];
};

struct post {
    void (*fn)(void *user);
    void *user;
};

struct net {
    struct net_config config; /* its texts are not kept */
    struct node_ref self;
    uv_loop_t loop;
    uv_async_t wake;
    uv_timer_t timer; /* to accept again; then for the end of stopping */
    uv_timer_t trim;  /* of the pool */
    uv_tcp_t listener;
    bool listening, stopping;
    bool watching; /* the pool tells when memory comes back */
    struct tls_context *tls;
    struct pool *pool;
    struct budget budget;
    struct upload upload;
    uint64_t received_bytes, sent_bytes; /* by all links, TLS included */
    uint64_t accept_logged_us;
    uint64_t hogged_us;         /* large messages wait since then for what half-sent ones hold; 0: no */
    struct link *first, *last;  /* all links, the oldest first */
    uint32_t n_up, n_half_open; /* half-open: accepted, and not yet up */
    struct dial *dials;
    const struct lan *lan;           /* NULL: this node does not look at its LAN */
    struct chunk *out, *chunks_free; /* out: the chunk that is being filled */
    uint32_t n_chunks_free;
    uint8_t read_buffer[READ_SIZE];
    uint8_t record[TLS_RECORD_MAX];

    atomic_bool stop_asked;
    atomic_uintptr_t thread; /* the loop thread; until net_run, the one that opened */
    pthread_mutex_t lock;    /* of the posts */
    pthread_cond_t room;
    struct post *posts; /* ring of POSTS_MAX */
    uint32_t posts_head, n_posts;
};

/* listen.c */
enum corolla_status listen_open(struct net *net, const struct net_config *config, struct corolla_error *err);
/* dial.c */
void dial_link_up(struct net *net, struct link *link); /* somebody may wait for this node */
void dial_stop_all(struct net *net);
/* net.c: memory came back or somebody waits for it; called by the loop's wake-up */
void net_watch_memory(struct net *net);
void net_link_gone(struct net *net);

#endif
