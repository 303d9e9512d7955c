/* net_raw.c - see net_raw.h. */
#include "support/net_raw.h"

#include <arpa/inet.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "wire/msg.h"

struct raw {
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
};

int raw_connect(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval wait = {RAW_WAIT_S, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
    if (connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0) return fd;
    close(fd);
    return -1;
}

int raw_silence(uint16_t *out_port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    if (bind(fd, (struct sockaddr *)&at, size) == 0 && listen(fd, 8) == 0 && getsockname(fd, (struct sockaddr *)&at, &size) == 0) {
        *out_port = ntohs(at.sin_port);
        return fd;
    }
    close(fd);
    return -1;
}

bool raw_closed_within(int fd, unsigned ms) {
    uint64_t end = clock_us() + (uint64_t)ms * 1000, now;
    char dump[4096];
    while ((now = clock_us()) < end) {
        struct pollfd p = {fd, POLLIN, 0};
        if (poll(&p, 1, (int)((end - now) / 1000) + 1) > 0 && recv(fd, dump, sizeof(dump), 0) <= 0) return true;
    }
    return false;
}

static EVP_PKEY *make_key(enum raw_key kind) {
    if (kind == RAW_RSA) return EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    if (kind == RAW_EC) return EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
}

static bool use_certificate(SSL_CTX *ctx, enum raw_key kind) {
    EVP_PKEY *key = make_key(kind);
    X509 *cert = X509_new();
    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    bool ok = X509_sign(cert, key, kind == RAW_ED25519 ? NULL : EVP_sha256()) > 0 && SSL_CTX_use_certificate(ctx, cert) == 1 &&
              SSL_CTX_use_PrivateKey(ctx, key) == 1;
    X509_free(cert);
    EVP_PKEY_free(key);
    return ok;
}

struct raw *raw_tls(int fd, enum raw_key key, const char *alpn, int max_version) {
    struct raw *raw = calloc(1, sizeof(*raw));
    unsigned char protos[64];
    if (!raw) return NULL;
    raw->fd = fd;
    raw->ctx = SSL_CTX_new(TLS_client_method());
    if (max_version) SSL_CTX_set_max_proto_version(raw->ctx, max_version);
    bool ok = key == RAW_NONE || use_certificate(raw->ctx, key);
    if (alpn) {
        protos[0] = (unsigned char)strlen(alpn);
        memcpy(protos + 1, alpn, protos[0]);
        SSL_CTX_set_alpn_protos(raw->ctx, protos, protos[0] + 1u);
    }
    raw->ssl = SSL_new(raw->ctx);
    SSL_set_fd(raw->ssl, fd);
    if (ok && SSL_connect(raw->ssl) == 1) return raw;
    raw_free(raw);
    return NULL;
}

void raw_free(struct raw *raw) {
    if (!raw) return;
    SSL_free(raw->ssl);
    SSL_CTX_free(raw->ctx);
    close(raw->fd);
    free(raw);
}

int raw_fd(const struct raw *raw) { return raw->fd; }

bool raw_write(struct raw *raw, const void *data, size_t size) {
    size_t done = 0;
    return SSL_write_ex(raw->ssl, data, size, &done) == 1 && done == size;
}

bool raw_frame(struct raw *raw, enum frame_type type, unsigned flags, uint32_t stream, const void *payload, size_t size) {
    static _Thread_local uint8_t frame[FRAME_HEADER_SIZE + 65535];
    frame_encode(&(struct frame_header){(uint8_t)type, (uint8_t)flags, (uint16_t)size, stream}, frame);
    if (payload)
        memcpy(frame + FRAME_HEADER_SIZE, payload, size);
    else
        memset(frame + FRAME_HEADER_SIZE, 0, size);
    return raw_write(raw, frame, FRAME_HEADER_SIZE + size);
}

bool raw_hello(struct raw *raw) {
    static _Thread_local uint8_t payload[MSG_HEADER_MAX];
    struct msg_hello hello = {.version_min = PROTOCOL_VERSION_MIN, .version_max = PROTOCOL_VERSION_MAX, .agent = "raw"};
    return raw_frame(raw, FRAME_HELLO, 0, 0, payload, msg_hello_encode(&hello, payload));
}

static bool read_all(struct raw *raw, uint8_t *out, size_t size) {
    for (size_t got = 0, n = 0; got < size; got += n) {
        if (SSL_read_ex(raw->ssl, out + got, size - got, &n) != 1) return false;
    }
    return true;
}

bool raw_read_frame(struct raw *raw, struct frame_header *out_frame, uint8_t *out) {
    uint8_t head[FRAME_HEADER_SIZE];
    return read_all(raw, head, sizeof(head)) && frame_decode(head, out_frame, NULL) == COROLLA_OK && read_all(raw, out, out_frame->size);
}

int raw_goodbye(struct raw *raw, char *out_text) {
    static _Thread_local uint8_t payload[65536];
    struct frame_header frame;
    while (raw_read_frame(raw, &frame, payload)) {
        if (frame.type != FRAME_GOODBYE) continue;
        if (out_text) {
            memcpy(out_text, payload + 2, frame.size - 2u);
            out_text[frame.size - 2] = 0;
        }
        return le16_get(payload);
    }
    return -1;
}

int raw_poll(struct raw *raw, size_t *credit) {
    static _Thread_local uint8_t payload[65536];
    struct frame_header frame;
    struct pollfd p = {raw_fd(raw), POLLIN, 0};
    while ((SSL_pending(raw->ssl) > 0 || poll(&p, 1, 0) > 0) && raw_read_frame(raw, &frame, payload)) {
        if (frame.type == FRAME_GOODBYE) return le16_get(payload);
        if (frame.type == FRAME_CREDIT) *credit += le32_get(payload);
    }
    return -1;
}

struct raw *raw_up(uint16_t port) {
    int fd = raw_connect(port);
    struct raw *raw = fd < 0 ? NULL : raw_tls(fd, RAW_ED25519, "corolla/1", 0);
    if (!raw && fd >= 0) close(fd);
    if (!raw || raw_hello(raw)) return raw;
    raw_free(raw);
    return NULL;
}

bool raw_first(struct raw *raw, uint32_t stream, unsigned flags, uint16_t header_size, uint32_t body_size, size_t size) {
    static _Thread_local uint8_t payload[65535];
    memset(payload, 0, size);
    frame_preamble_encode(&(struct frame_preamble){MSG_STEP, header_size, body_size}, payload);
    return raw_frame(raw, FRAME_DATA, FRAME_FIRST | flags, stream, payload, size);
}

bool raw_key_update(struct raw *raw) { return SSL_key_update(raw->ssl, SSL_KEY_UPDATE_REQUESTED) == 1 && SSL_do_handshake(raw->ssl) == 1; }
