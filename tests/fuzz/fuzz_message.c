/* fuzz_message.c - the headers of all messages. The first byte of the input chooses the message (0 is HELLO, else its kind), the
 * rest is the header. What was taken is encoded, decoded and encoded again: both encodings must be equal, so that a hop hands on
 * exactly what it understood. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "wire/addr.h"
#include "wire/frame.h"
#include "wire/msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t once[MSG_HEADER_MAX], twice[MSG_HEADER_MAX];

static void must(bool ok) {
    if (!ok) {
        abort();
    }
}

#define FUZZ(name, check)                                                                                                                  \
    static void fuzz_##name(const uint8_t *in, size_t size) {                                                                              \
        static struct msg_##name m, back;                                                                                                  \
        struct corolla_error err;                                                                                                          \
        if (msg_##name##_decode(in, size, &m, &err) != COROLLA_OK) {                                                                       \
            must(err.status == COROLLA_FORMAT && err.message[0] != '\0');                                                                  \
            return;                                                                                                                        \
        }                                                                                                                                  \
        check;                                                                                                                             \
        size_t size_once = msg_##name##_encode(&m, once);                                                                                  \
        must(msg_##name##_decode(once, size_once, &back, &err) == COROLLA_OK);                                                             \
        must(msg_##name##_encode(&back, twice) == size_once && memcmp(once, twice, size_once) == 0);                                       \
    }

static void check_text(const char *text, size_t size) { must(strnlen(text, size) < size && utf8_printable(text, strlen(text))); }

static void check_addrs(uint32_t n, const char addrs[ADDRS_MAX][ADDR_MAX]) {
    must(n <= ADDRS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        must(addr_valid(addrs[i]));
    }
}

static void check_hello(const struct msg_hello *m) {
    check_text(m->agent, sizeof(m->agent));
    check_addrs(m->n_addrs, m->addrs);
    must(m->certificate.size <= SIGNED_MAX && m->invitation.size <= SIGNED_MAX && m->issued.size <= SIGNED_MAX);
}

static void check_step(const struct msg_step *m) {
    must(m->n_hops + m->n_timings < HOPS_MAX && m->n_tokens <= STEP_TOKENS_MAX && m->n_rows <= m->n_tokens);
    must(m->position + m->n_tokens > m->position && msg_wire_size(m->dtype) != 0);
    for (uint32_t i = 0; i < m->n_hops; i++) {
        check_addrs(m->hops[i].node.n_addrs, m->hops[i].node.addrs);
    }
}

FUZZ(hello, check_hello(&m))
FUZZ(info, (check_text(m.name, sizeof(m.name)), must(m.begin < m.end && m.end <= m.n_blocks)))
FUZZ(open, must(m.begin<m.end && m.max_tokens> 0))
FUZZ(opened, (void)0)
FUZZ(step, check_step(&m))
FUZZ(result, must(m.n_timings <= HOPS_MAX && m.n_rows <= m.n_tokens))
FUZZ(failed, (check_text(m.text, sizeof(m.text)), must(m.status > COROLLA_OK && m.status < COROLLA_STATUS_COUNT)))
FUZZ(close, (void)0)
FUZZ(drain, (void)0)
FUZZ(sync, (void)0)
FUZZ(synced, (void)0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static void (*const targets[])(const uint8_t *in, size_t size) = {
        [0] = fuzz_hello,         [MSG_INFO] = fuzz_info,     [MSG_OPEN] = fuzz_open,     [MSG_OPENED] = fuzz_opened,
        [MSG_STEP] = fuzz_step,   [MSG_RESULT] = fuzz_result, [MSG_FAILED] = fuzz_failed, [MSG_CLOSE] = fuzz_close,
        [MSG_DRAIN] = fuzz_drain, [MSG_SYNC] = fuzz_sync,     [MSG_SYNCED] = fuzz_synced, [MSG_REPLAY] = fuzz_step,
    };
    if (size == 0) {
        return 0;
    }
    size_t kind = data[0] % (sizeof(targets) / sizeof(targets[0]));
    if (targets[kind] != NULL) {
        targets[kind](data + 1, size - 1);
    }
    return 0;
}
