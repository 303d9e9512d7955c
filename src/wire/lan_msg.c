/* lan_msg.c - see lan_msg.h. */
#include "wire/lan_msg.h"

#include <string.h>

#include "base/mem.h"

#define MAGIC "corolla"
#define MAGIC_SIZE (sizeof(MAGIC) - 1)
#define FLAG_ASKS 1

void lan_msg_encode(const struct lan_msg *m, uint8_t out[LAN_MSG_SIZE]) {
    memset(out, 0, LAN_MSG_SIZE);
    memcpy(out, MAGIC, MAGIC_SIZE);
    out[7] = LAN_MSG_VERSION;
    out[8] = m->asks ? FLAG_ASKS : 0;
    if (m->port == 0) {
        return;
    }
    le16_put(out + 10, m->port);
    le32_put(out + 12, m->id.instance);
    memcpy(out + 16, m->id.key, KEY_SIZE);
}

bool lan_msg_decode(const uint8_t *in, size_t size, struct lan_msg *out) {
    if (size < LAN_MSG_SIZE || size > LAN_MSG_MAX || memcmp(in, MAGIC, MAGIC_SIZE) != 0 || in[7] != LAN_MSG_VERSION) {
        return false;
    }
    struct lan_msg m = {.asks = in[8] & FLAG_ASKS, .port = le16_get(in + 10)};
    if ((in[8] & ~FLAG_ASKS) != 0 || in[9] != 0 || (!m.asks && m.port == 0)) {
        return false;
    }
    if (m.port != 0) {
        m.id.instance = le32_get(in + 12);
        memcpy(m.id.key, in + 16, KEY_SIZE);
    }
    *out = m;
    return true;
}
