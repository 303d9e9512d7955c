/* fuzz_frame.c - frame headers and preambles: what is taken must come back as the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "wire/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok) {
    if (!ok) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct corolla_error err;
    struct frame_header header;
    struct frame_preamble preamble;
    uint8_t back[FRAME_HEADER_SIZE];
    if (size < FRAME_HEADER_SIZE) {
        return 0;
    }
    if (frame_decode(data, &header, &err) == COROLLA_OK) {
        frame_encode(&header, back);
        must(memcmp(back, data, FRAME_HEADER_SIZE) == 0);
        must(FRAME_HEADER_SIZE + (size_t)header.size <= FRAME_SIZE_MAX);
        must((header.type == FRAME_DATA || header.type == FRAME_CREDIT) == (header.stream != 0));
    }
    if (frame_preamble_decode(data, &preamble, &err) == COROLLA_OK) {
        frame_preamble_encode(&preamble, back);
        must(memcmp(back, data, FRAME_PREAMBLE_SIZE) == 0);
        must(preamble.header_size <= MSG_HEADER_MAX && preamble.body_size <= MSG_BODY_MAX);
    }
    return 0;
}
