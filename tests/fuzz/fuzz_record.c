/* fuzz_record.c - records and the messages of gossip. The first byte of the input chooses what is decoded (0: a record, else the message's
 * kind), the rest is its bytes. What was taken is encoded, decoded and encoded again: both encodings must be equal. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "wire/addr.h"
#include "wire/frame.h"
#include "wire/msg_gossip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t once[MSG_HEADER_MAX], twice[MSG_HEADER_MAX];

static void must(bool ok) {
    if (!ok) abort();
}

static void check_text(const char *text) { must(strnlen(text, NAME_SIZE) < NAME_SIZE && utf8_printable(text, strlen(text))); }

static void check_record(const struct record *m) {
    must(m->begin < m->end && m->end <= m->n_blocks && m->n_blocks <= BLOCKS_MAX && m->n_embd <= EMBD_MAX);
    must(isfinite(m->decode_block_us) && m->decode_block_us >= 0 && isfinite(m->prefill_block_us) && m->prefill_block_us >= 0);
    must((unsigned)m->state <= RECORD_LOADING && m->n_rtts <= RECORD_RTTS_MAX && m->n_adapters <= RECORD_ADAPTERS_MAX);
    must(m->node.n_addrs <= ADDRS_MAX && m->membership.size <= SIGNED_MAX);
    for (uint32_t i = 0; i < m->node.n_addrs; i++) must(addr_valid(m->node.addrs[i]));
    for (uint32_t i = 0; i < m->n_adapters; i++) check_text(m->adapters[i]);
    check_text(m->name);
    check_text(m->model_name);
    check_text(m->version);
}

/* A record that is too long loses its ends when it is encoded here, which nobody does with the record of another. */
static void fuzz_record(const uint8_t *in, size_t size) {
    struct record m, back;
    if (record_decode(in, size, &m, NULL) != COROLLA_OK) return;
    check_record(&m);
    size_t size_once = record_encode(&m, once);
    must(size_once <= RECORD_MAX && record_decode(once, size_once, &back, NULL) == COROLLA_OK);
    must(record_encode(&back, twice) == size_once && memcmp(once, twice, size_once) == 0);
}

#define FUZZ(name, type, check)                                                                                                            \
    static void fuzz_##name(const uint8_t *in, size_t size) {                                                                              \
        static struct type m, back;                                                                                                        \
        struct corolla_error err;                                                                                                          \
        if (msg_##name##_decode(in, size, &m, &err) != COROLLA_OK) {                                                                       \
            must(err.status == COROLLA_FORMAT);                                                                                            \
            return;                                                                                                                        \
        }                                                                                                                                  \
        must(check);                                                                                                                       \
        size_t size_once = msg_##name##_encode(&m, once);                                                                                  \
        must(msg_##name##_decode(once, size_once, &back, &err) == COROLLA_OK);                                                             \
        must(msg_##name##_encode(&back, twice) == size_once && memcmp(once, twice, size_once) == 0);                                       \
    }

FUZZ(digest, msg_digest, m.known.n <= VERSIONS_MAX)
FUZZ(have, msg_versions, m.n <= VERSIONS_MAX)
FUZZ(want, msg_want, m.n <= VERSIONS_MAX)
FUZZ(records, msg_records, m.n <= RECORDS_MAX)
FUZZ(suspect, msg_versions, m.n <= SUSPECTS_MAX)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static void (*const targets[])(const uint8_t *in, size_t size) = {fuzz_record, fuzz_digest,  fuzz_have,
                                                                      fuzz_want,   fuzz_records, fuzz_suspect};
    if (size > 0) targets[data[0] % 6](data + 1, size - 1);
    return 0;
}
