/* key.c - showing the public key of a home. */
#include "base/err.h"
#include "base/mem.h"
#include "net/identity.h"

enum corolla_status corolla_key_show(const char *home, char out_hex[65], struct corolla_error *err) {
    struct identity *identity;
    enum corolla_status status = identity_open(&identity, home, err);
    if (status != COROLLA_OK) return status;
    hex_encode(identity_id(identity)->key, KEY_SIZE, out_hex);
    identity_close(identity);
    return COROLLA_OK;
}
