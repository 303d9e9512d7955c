/* tls.c - see tls.h. */
#include "net/tls.h"

#include "base/err.h"
#include "base/mem.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>

#define CERTIFICATES_BYTES_MAX 4096 /* ours has about 300 */

static const unsigned char alpn[] = "\x09"
                                    "corolla/1";
#define ALPN_SIZE (sizeof(alpn) - 1)

struct tls_context {
    SSL_CTX *accept, *dial;
    BIO_METHOD *bio;
};

struct tls {
    SSL *ssl;
    const uint8_t *in;
    size_t in_size;
    struct tls_buffer *out;
    bool expects, broken; /* expects: one key only; broken: OpenSSL must not be called any more */
    uint8_t expected[KEY_SIZE], peer[KEY_SIZE];
    const char *refusal; /* set by the certificate check */
};

/* ---- the BIO --------------------------------------------------------------------------------------------------- */

static int bio_read(BIO *bio, char *out, size_t size, size_t *got) {
    struct tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (tls->in_size == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    *got = size < tls->in_size ? size : tls->in_size;
    memcpy(out, tls->in, *got);
    tls->in += *got;
    tls->in_size -= *got;
    return 1;
}

static int bio_write(BIO *bio, const char *data, size_t size, size_t *written) {
    struct tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (!tls->out || size > tls->out->size - tls->out->used) return 0;
    memcpy(tls->out->data + tls->out->used, data, size);
    tls->out->used += size;
    *written = size;
    return 1;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer) {
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static int bio_create(BIO *bio) {
    BIO_set_init(bio, 1);
    return 1;
}

static BIO_METHOD *bio_method(void) {
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "corolla buffers");
    if (method && BIO_meth_set_read_ex(method, bio_read) && BIO_meth_set_write_ex(method, bio_write) &&
        BIO_meth_set_ctrl(method, bio_ctrl) && BIO_meth_set_create(method, bio_create))
        return method;
    BIO_meth_free(method);
    return NULL;
}

/* ---- context --------------------------------------------------------------------------------------------------- */

/* Takes the raw Ed25519 key of the peer's certificate; whether the peer owns it, the handshake proves. */
static int check_certificate(X509_STORE_CTX *store, void *user) {
    (void)user;
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls *tls = SSL_get_app_data(ssl);
    EVP_PKEY *key = X509_get0_pubkey(X509_STORE_CTX_get0_cert(store));
    size_t size = KEY_SIZE;
    if (!key || EVP_PKEY_get_id(key) != EVP_PKEY_ED25519 || EVP_PKEY_get_raw_public_key(key, tls->peer, &size) != 1 || size != KEY_SIZE)
        tls->refusal = "its certificate has no Ed25519 key";
    else if (tls->expects && memcmp(tls->peer, tls->expected, KEY_SIZE) != 0)
        tls->refusal = "another node answered: its key is not the one that was asked for";
    if (!tls->refusal) return 1;
    X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
    return 0;
}

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_size, const unsigned char *in, unsigned in_size,
                       void *user) {
    (void)ssl, (void)user;
    unsigned char *chosen = NULL;
    if (SSL_select_next_proto(&chosen, out_size, alpn, ALPN_SIZE, in, in_size) != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *context_make(const SSL_METHOD *method, const struct identity *identity) {
    SSL_CTX *ctx = SSL_CTX_new(method);
    if (!ctx) return NULL;
    bool ok = SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1 && SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1 &&
              SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256") == 1 &&
              SSL_CTX_set1_groups_list(ctx, "X25519") == 1 && SSL_CTX_set1_sigalgs_list(ctx, "ed25519") == 1 &&
              SSL_CTX_use_certificate(ctx, identity_certificate(identity)) == 1 &&
              SSL_CTX_use_PrivateKey(ctx, identity_key(identity)) == 1 && SSL_CTX_set_num_tickets(ctx, 0) == 1 &&
              SSL_CTX_set_alpn_protos(ctx, alpn, ALPN_SIZE) == 0;
    if (!ok) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_max_cert_list(ctx, CERTIFICATES_BYTES_MAX);
    SSL_CTX_set_max_early_data(ctx, 0);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_cert_verify_callback(ctx, check_certificate, NULL);
    SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, NULL);
    return ctx;
}

enum corolla_status tls_context_new(struct tls_context **out_context, const struct identity *identity, struct corolla_error *err) {
    struct tls_context *context = calloc(1, sizeof(*context));
    if (!context) return err_set(err, COROLLA_NOMEM, "no memory for TLS");
    context->accept = context_make(TLS_server_method(), identity);
    context->dial = context_make(TLS_client_method(), identity);
    context->bio = bio_method();
    if (!context->accept || !context->dial || !context->bio) {
        char text[160];
        ERR_error_string_n(ERR_get_error(), text, sizeof(text));
        ERR_clear_error();
        tls_context_free(context);
        return err_set(err, COROLLA_INTERNAL, "cannot set up TLS 1.3 with Ed25519: %s", text);
    }
    *out_context = context;
    return COROLLA_OK;
}

void tls_context_free(struct tls_context *context) {
    if (!context) return;
    SSL_CTX_free(context->accept);
    SSL_CTX_free(context->dial);
    BIO_meth_free(context->bio);
    free(context);
}

/* ---- filter ---------------------------------------------------------------------------------------------------- */

static struct tls *filter_make(struct tls_context *context, SSL_CTX *ctx) {
    struct tls *tls = calloc(1, sizeof(*tls));
    if (!tls) return NULL;
    tls->ssl = SSL_new(ctx);
    BIO *bio = BIO_new(context->bio);
    if (!tls->ssl || !bio) {
        BIO_free(bio);
        tls_free(tls);
        ERR_clear_error();
        return NULL;
    }
    BIO_set_data(bio, tls);
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_app_data(tls->ssl, tls);
    return tls;
}

struct tls *tls_new_dialling(struct tls_context *context, const uint8_t *expected_key) {
    struct tls *tls = filter_make(context, context->dial);
    if (!tls) return NULL;
    tls->expects = expected_key != NULL;
    if (expected_key) memcpy(tls->expected, expected_key, KEY_SIZE);
    SSL_set_connect_state(tls->ssl);
    return tls;
}

struct tls *tls_new_accepting(struct tls_context *context) {
    struct tls *tls = filter_make(context, context->accept);
    if (tls) SSL_set_accept_state(tls->ssl);
    return tls;
}

void tls_free(struct tls *tls) {
    if (!tls) return;
    SSL_free(tls->ssl);
    free(tls);
}

void tls_input(struct tls *tls, const uint8_t *data, size_t size) {
    tls->in = data;
    tls->in_size = size;
}

void tls_output(struct tls *tls, struct tls_buffer *buffer) { tls->out = buffer; }

/* What an OpenSSL call that did not succeed means. */
static enum tls_result failure(struct tls *tls, int result, const char *when, struct corolla_error *err) {
    int code = SSL_get_error(tls->ssl, result);
    if (code == SSL_ERROR_WANT_READ) return TLS_MORE;
    if (code == SSL_ERROR_ZERO_RETURN) return TLS_CLOSED;
    tls->broken = true;
    unsigned long error = ERR_peek_last_error();
    const char *reason = ERR_reason_error_string(error);
    if (tls->refusal)
        err_set(err, COROLLA_REFUSED, "%s", tls->refusal);
    else
        err_set(err, COROLLA_PEER_FAULT, "%s: %s", when, reason ? reason : "broken off");
    ERR_clear_error();
    return TLS_FAILED;
}

enum tls_result tls_handshake(struct tls *tls, struct corolla_error *err) {
    if (tls->broken) return TLS_FAILED;
    ERR_clear_error();
    int result = SSL_do_handshake(tls->ssl);
    if (result != 1) return failure(tls, result, "TLS handshake", err);
    const unsigned char *chosen = NULL;
    unsigned size = 0;
    SSL_get0_alpn_selected(tls->ssl, &chosen, &size);
    if (size == ALPN_SIZE - 1 && memcmp(chosen, alpn + 1, size) == 0) return TLS_DONE;
    tls->broken = true;
    err_set(err, COROLLA_REFUSED, "the peer does not speak corolla/1");
    return TLS_FAILED;
}

enum tls_result tls_read(struct tls *tls, uint8_t *out, size_t size, size_t *out_got, struct corolla_error *err) {
    if (tls->broken) return TLS_FAILED;
    ERR_clear_error();
    int result = SSL_read_ex(tls->ssl, out, size, out_got);
    return result == 1 ? TLS_DONE : failure(tls, result, "TLS", err);
}

bool tls_write(struct tls *tls, const uint8_t *data, size_t size, struct corolla_error *err) {
    if (tls->broken) return false;
    size_t written = 0;
    ERR_clear_error();
    int result = SSL_write_ex(tls->ssl, data, size, &written);
    if (result == 1 && written == size) return true;
    if (failure(tls, result, "TLS", err) != TLS_FAILED) /* it wants to read first: cannot be in TLS 1.3 */
        err_set(err, COROLLA_INTERNAL, "TLS does not take data");
    tls->broken = true;
    return false;
}

void tls_goodbye(struct tls *tls) {
    if (tls->broken) return;
    SSL_shutdown(tls->ssl);
    ERR_clear_error();
}

const uint8_t *tls_peer_key(const struct tls *tls) { return tls->peer; }
