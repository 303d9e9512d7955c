/* tls.h - TLS 1.3 as a filter: ciphertext in, plaintext out, and the other way round. No I/O.
 *
 * Both sides show a self-signed Ed25519 certificate; its raw public key is the peer's identity and nothing else of it counts.
 * A dialler names the key that it expects, or takes whichever answers. OpenSSL reads from the buffer last given to tls_input() and writes
 * into the one given by tls_output(), through a BIO of our own: nothing is copied and nothing grows.
 *
 * Threads: a context and its filters belong to one thread.
 */
#ifndef COROLLA_NET_TLS_H
#define COROLLA_NET_TLS_H

#include "net/identity.h"

#define TLS_RECORD_MAX 16384 /* plaintext bytes; encryption adds 22 to each record */

struct tls_context;
struct tls;

enum corolla_status tls_context_new(struct tls_context **out_context, const struct identity *identity, struct corolla_error *err);
void tls_context_free(struct tls_context *context);

/* expected_key: of the peer that is dialled; NULL: any will do. NULL is returned when memory is out. */
struct tls *tls_new_dialling(struct tls_context *context, const uint8_t *expected_key);
struct tls *tls_new_accepting(struct tls_context *context);
void tls_free(struct tls *tls);

/* Borrowed until it is used up, which is when tls_handshake or tls_read ask for more. */
void tls_input(struct tls *tls, const uint8_t *data, size_t size);
/* Where ciphertext is appended from now on. *used counts it; a full buffer breaks the link. */
struct tls_buffer {
    uint8_t *data;
    size_t size, used;
};
void tls_output(struct tls *tls, struct tls_buffer *buffer);

enum tls_result { TLS_DONE, TLS_MORE /* input is used up */, TLS_CLOSED /* close_notify */, TLS_FAILED };
/* err says what is wrong with the peer. After a failure the output may hold an alert. */
enum tls_result tls_handshake(struct tls *tls, struct corolla_error *err);
/* TLS_DONE: 1 to size bytes were read. */
enum tls_result tls_read(struct tls *tls, uint8_t *out, size_t size, size_t *out_got, struct corolla_error *err);
bool tls_write(struct tls *tls, const uint8_t *data, size_t size, struct corolla_error *err);
void tls_goodbye(struct tls *tls);                  /* close_notify */
const uint8_t *tls_peer_key(const struct tls *tls); /* KEY_SIZE bytes; after the handshake */

#endif
