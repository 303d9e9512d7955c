/* link.c - how long a 16 KiB step takes over a link: alone, and beside a bulk transfer, against plain OpenSSL.
 *
 *   bench_link [PINGS]      default 4500
 *
 * Two nodes in one process, a loop thread each, on loopback. The peer of the comparison is a blocking TLS 1.3 ping-pong between two
 * threads with the same certificates, cipher and message size. Rounds are interleaved; medians are printed. The bulk transfer keeps
 * two messages of 8 MiB queued from the side that pings to the other.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/net.h"

#define STEP_BYTES 16384
#define BULK_BYTES (8u << 20)
#define PINGS_MAX 100000
#define ROUNDS 3

struct run {
    uint32_t us[PINGS_MAX];
    unsigned n, wanted;
    bool bulk;
    uint64_t began, bulk_bytes;
    double seconds;
};

struct side {
    char home[32];
    struct identity *identity;
    struct net *net;
    pthread_t thread;
    struct link *link;
    struct run *run;
    uint64_t sent_us;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
};

static void die(const char *what) {
    fprintf(stderr, "bench_link: %s\n", what);
    exit(1);
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* ---- our link -------------------------------------------------------------------------------------------------- */

static void send_one(struct side *side, uint32_t stream, enum link_priority priority, size_t size) {
    struct body *body = net_body_new(side->net, size);
    if (!body) die("out of memory");
    memset(body->data, 7, 64);
    if (link_send(side->link, stream, priority, MSG_STEP, (const uint8_t *)"step", 4, body) != COROLLA_OK) die("cannot send");
}

static void ping(struct side *side) {
    side->sent_us = clock_us();
    send_one(side, 1, LINK_URGENT, STEP_BYTES);
}

static void set_done(struct side *side) {
    pthread_mutex_lock(&side->lock);
    side->done = true;
    pthread_cond_signal(&side->changed);
    pthread_mutex_unlock(&side->lock);
}

static void client_message(void *user, struct link *link, uint32_t stream, struct message *msg) {
    struct side *side = user;
    struct run *run = side->run;
    (void)link;
    net_body_free(side->net, msg->body);
    if (!run) return; /* acknowledgements of bulk that come after the end */
    if (stream != 1) {
        run->bulk_bytes += BULK_BYTES;
        send_one(side, stream, LINK_BULK, BULK_BYTES);
        return;
    }
    run->us[run->n++] = (uint32_t)(clock_us() - side->sent_us);
    if (run->n < run->wanted) {
        ping(side);
        return;
    }
    run->seconds = (double)(clock_us() - run->began) / 1e6;
    side->run = NULL;
    set_done(side);
}

static void server_message(void *user, struct link *link, uint32_t stream, struct message *msg) {
    struct side *side = user;
    if (stream == 1) {
        link_send(link, stream, LINK_URGENT, MSG_RESULT, msg->header, msg->header_size, msg->body);
        return;
    }
    net_body_free(side->net, msg->body);
    link_send(link, stream, LINK_URGENT, MSG_RESULT, NULL, 0, NULL);
}

static void on_up(void *user, struct link *link) {
    struct side *side = user;
    side->link = link;
}
static void on_down(void *user, struct link *link, enum corolla_status status, const char *why) {
    (void)user, (void)link;
    if (status == COROLLA_TIMEOUT || status == COROLLA_PEER_FAULT) die(why);
}

static void *loop(void *user) {
    net_run(((struct side *)user)->net);
    return NULL;
}

static void side_open(struct side *side, bool server) {
    struct net_config config;
    struct corolla_error err = {0};
    memset(side, 0, sizeof(*side));
    pthread_mutex_init(&side->lock, NULL);
    pthread_cond_init(&side->changed, NULL);
    strcpy(side->home, "/tmp/corolla-bench-XXXXXX");
    if (!mkdtemp(side->home) || identity_open(&side->identity, side->home, &err) != COROLLA_OK) die(err.message);
    net_config_default(&config);
    config.identity = side->identity;
    config.listen = server ? "127.0.0.1:0" : NULL;
    config.events = (struct net_events){on_up, server ? server_message : client_message, on_down, side};
    if (net_open(&side->net, &config, &err) != COROLLA_OK) die(err.message);
    pthread_create(&side->thread, NULL, loop, side);
}

static void side_close(struct side *side) {
    static const char *const files[] = {"identity.pem", "identity.lock", "boot", "instance-0.lock"};
    char path[64];
    net_stop(side->net);
    pthread_join(side->thread, NULL);
    net_close(side->net);
    identity_close(side->identity);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", side->home, files[i]);
        unlink(path);
    }
    rmdir(side->home);
}

static void start_round(void *user) {
    struct side *side = user;
    side->run->began = clock_us();
    if (side->run->bulk) {
        send_one(side, 3, LINK_BULK, BULK_BYTES);
        send_one(side, 3, LINK_BULK, BULK_BYTES);
    }
    ping(side);
}

struct start {
    struct side *side;
    const struct node_ref *to;
};
static void on_dialled(void *user, struct link *link, const struct corolla_error *err) {
    if (!link) die(err->message);
    set_done(user);
}
static void dial(void *user) {
    struct start *start = user;
    net_dial(start->side->net, start->to, on_dialled, start->side);
}

static void wait_done(struct side *side) {
    pthread_mutex_lock(&side->lock);
    while (!side->done) pthread_cond_wait(&side->changed, &side->lock);
    side->done = false;
    pthread_mutex_unlock(&side->lock);
}

static void link_round(struct run *run) {
    struct side client, server;
    side_open(&server, true);
    side_open(&client, false);
    net_post(client.net, dial, &(struct start){&client, net_self(server.net)});
    wait_done(&client);
    client.run = run;
    net_post(client.net, start_round, &client);
    wait_done(&client);
    side_close(&client);
    side_close(&server);
}

/* ---- plain OpenSSL --------------------------------------------------------------------------------------------- */

static SSL *tls_on(int fd, const struct identity *identity, bool server) {
    SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
    SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256");
    SSL_CTX_use_certificate(ctx, identity_certificate(identity));
    SSL_CTX_use_PrivateKey(ctx, identity_key(identity));
    SSL_CTX_set_num_tickets(ctx, 0);
    SSL *ssl = SSL_new(ctx);
    SSL_CTX_free(ctx);
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    SSL_set_fd(ssl, fd);
    if ((server ? SSL_accept(ssl) : SSL_connect(ssl)) != 1) die("plain TLS handshake");
    return ssl;
}

static bool read_all(SSL *ssl, uint8_t *data, int size) {
    for (int got = 0, n; got < size; got += n) {
        n = SSL_read(ssl, data + got, size - got);
        if (n <= 0) return false;
    }
    return true;
}

struct plain {
    int fd;
    const struct identity *identity;
};
static void *plain_server(void *user) {
    struct plain *plain = user;
    static uint8_t data[STEP_BYTES + 20];
    int fd = accept(plain->fd, NULL, NULL);
    SSL *ssl = tls_on(fd, plain->identity, true);
    while (read_all(ssl, data, sizeof(data))) SSL_write(ssl, data, sizeof(data));
    SSL_free(ssl);
    close(fd);
    return NULL;
}

static void plain_round(struct run *run) {
    static uint8_t data[STEP_BYTES + 20]; /* as many bytes as a frame of ours */
    char home[] = "/tmp/corolla-bench-XXXXXX", path[64];
    struct identity *identity = NULL;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    if (!mkdtemp(home) || identity_open(&identity, home, NULL) != COROLLA_OK) die("identity");
    struct plain plain = {socket(AF_INET, SOCK_STREAM, 0), identity};
    if (bind(plain.fd, (struct sockaddr *)&at, sizeof(at)) != 0 || listen(plain.fd, 1) != 0) die("listen");
    getsockname(plain.fd, (struct sockaddr *)&at, &size);
    pthread_t thread;
    pthread_create(&thread, NULL, plain_server, &plain);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&at, sizeof(at)) != 0) die("connect");
    SSL *ssl = tls_on(fd, identity, false);
    while (run->n < run->wanted) {
        uint64_t sent = clock_us();
        if (SSL_write(ssl, data, sizeof(data)) <= 0 || !read_all(ssl, data, sizeof(data))) die("plain TLS");
        run->us[run->n++] = (uint32_t)(clock_us() - sent);
    }
    SSL_shutdown(ssl);
    SSL_free(ssl);
    close(fd);
    pthread_join(thread, NULL);
    close(plain.fd);
    identity_close(identity);
    static const char *const files[] = {"identity.pem", "identity.lock", "boot", "instance-0.lock"};
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", home, files[i]);
        unlink(path);
    }
    rmdir(home);
}

/* ---- report ---------------------------------------------------------------------------------------------------- */

static double median3(double a, double b, double c) {
    double low = a < b ? a : b, high = a < b ? b : a;
    return c < low ? low : c > high ? high : c;
}

int main(int argc, char **argv) {
    static struct run run;
    static const char *const names[] = {"plain OpenSSL, alone", "link, alone", "link, beside bulk"};
    unsigned pings = argc > 1 ? (unsigned)atoi(argv[1]) : 4500;
    double p50[3][ROUNDS], p99[3][ROUNDS], rate[ROUNDS] = {0};
    struct utsname machine;
    if (pings < 1 || pings > PINGS_MAX) die("PINGS is a number from 1 to 100000");
    uname(&machine);
    printf("bench_link %u: %s %s %s, %ld processors, corolla %s\n", pings, machine.sysname, machine.release, machine.machine,
           sysconf(_SC_NPROCESSORS_ONLN), COROLLA_VERSION);
    for (int round = 0; round < ROUNDS; round++) {
        for (int what = 0; what < 3; what++) {
            memset(&run, 0, sizeof(run));
            run.wanted = pings;
            run.bulk = what == 2;
            if (what == 0)
                plain_round(&run);
            else
                link_round(&run);
            qsort(run.us, run.n, sizeof(run.us[0]), by_value);
            p50[what][round] = run.us[run.n / 2];
            p99[what][round] = run.us[run.n * 99 / 100];
            if (what == 2) rate[round] = (double)run.bulk_bytes / run.seconds / 1e9;
        }
    }
    double base = median3(p50[0][0], p50[0][1], p50[0][2]);
    printf("%-24s %10s %10s %12s\n", "16 KiB there and back", "p50 us", "p99 us", "p50 / plain");
    for (int what = 0; what < 3; what++) {
        double mid = median3(p50[what][0], p50[what][1], p50[what][2]);
        printf("%-24s %10.0f %10.0f %12.2f\n", names[what], mid, median3(p99[what][0], p99[what][1], p99[what][2]), mid / base);
    }
    printf("bulk beside it: %.2f GB/s\n", median3(rate[0], rate[1], rate[2]));
    return 0;
}
