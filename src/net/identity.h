/* identity.h - who a process is: the Ed25519 key of its home, a boot counter, and an instance number.
 *
 * HOME/identity.pem (mode 0600) is made on first use. Several processes of one home hold locks on HOME/instance-N.lock for the
 * lowest free N, so that each is a node of its own. HOME/boot counts starts.
 */
#ifndef COROLLA_NET_IDENTITY_H
#define COROLLA_NET_IDENTITY_H

#include "crypto/sign.h"
#include "wire/msg.h"

struct identity;

/* home NULL: the default (base/dirs.h). */
enum corolla_status identity_open(struct identity **out_identity, const char *home, struct corolla_error *err);
void identity_close(struct identity *identity);
const struct node_id *identity_id(const struct identity *identity);
uint64_t identity_boot(const struct identity *identity);

/* Signs a record (crypto/sign.h, SIGN_RECORD) with the key of the home. False when it is too long to be one. */
bool identity_sign(const struct identity *identity, const uint8_t *data, size_t size, uint8_t out_signature[SIGN_SIZE]);

/* For src/net: the private key (EVP_PKEY *) and a self-signed certificate (X509 *) on it. Borrowed. */
void *identity_key(const struct identity *identity);
void *identity_certificate(const struct identity *identity);

#endif
