/* test_frame.c - frame headers and preambles: the bytes of docs/PROTOCOL.md, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/frame.h"
#include "wire/msg.h"

static enum corolla_status decode(uint8_t type, uint8_t flags, uint16_t size, uint32_t stream) {
    uint8_t bytes[FRAME_HEADER_SIZE];
    struct frame_header out = {.type = 77};
    frame_encode(&(struct frame_header){.type = type, .flags = flags, .size = size, .stream = stream}, bytes);
    enum corolla_status status = frame_decode(bytes, &out, NULL);
    assert_int_equal(out.type, status == COROLLA_OK ? type : 77);
    return status;
}

static void a_header_has_the_bytes_of_the_specification(void **state) {
    (void)state;
    uint8_t bytes[FRAME_HEADER_SIZE];
    struct frame_header out;
    frame_encode(&(struct frame_header){.type = FRAME_DATA, .flags = FRAME_LAST, .size = 0x1234, .stream = 0xa1b2c3d4}, bytes);
    assert_memory_equal(bytes, "\x04\x02\x34\x12\xd4\xc3\xb2\xa1", FRAME_HEADER_SIZE);
    assert_int_equal(frame_decode(bytes, &out, NULL), COROLLA_OK);
    assert_int_equal(out.size, 0x1234);
    assert_int_equal(out.stream, 0xa1b2c3d4);
    assert_int_equal(out.flags, FRAME_LAST);
}

static void sizes_and_streams_fit_the_type(void **state) {
    (void)state;
    static const struct {
        enum frame_type type;
        uint8_t flags;
        uint16_t min, max;
        uint32_t stream, wrong_stream;
    } cases[] = {
        {FRAME_HELLO, 0, 1, FRAME_HELLO_MAX, 0, 1},
        {FRAME_PING, 0, 8, 8, 0, 1},
        {FRAME_PONG, 0, 8, 8, 0, 7},
        {FRAME_DATA, 0, 1, FRAME_PAYLOAD_MAX, 1, 0},
        {FRAME_DATA, FRAME_LAST, 1, FRAME_PAYLOAD_MAX, 2, 0},
        {FRAME_DATA, FRAME_FIRST, 8, FRAME_PAYLOAD_MAX, 3, 0},
        {FRAME_DATA, FRAME_FIRST | FRAME_LAST, 8, FRAME_PAYLOAD_MAX, UINT32_MAX, 0},
        {FRAME_CREDIT, 0, 4, 4, 1, 0},
        {FRAME_GOODBYE, 0, 2, 2 + TEXT_SIZE - 1, 0, 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t type = (uint8_t)cases[i].type, flags = cases[i].flags;
        assert_int_equal(decode(type, flags, cases[i].min, cases[i].stream), COROLLA_OK);
        assert_int_equal(decode(type, flags, cases[i].max, cases[i].stream), COROLLA_OK);
        assert_int_equal(decode(type, flags, (uint16_t)(cases[i].min - 1), cases[i].stream), COROLLA_FORMAT);
        assert_int_equal(decode(type, flags, (uint16_t)(cases[i].max + 1), cases[i].stream), COROLLA_FORMAT);
        assert_int_equal(decode(type, flags, cases[i].min, cases[i].wrong_stream), COROLLA_FORMAT);
        assert_int_equal(decode(type, flags | 4, cases[i].min, cases[i].stream), COROLLA_FORMAT);
        if (type != FRAME_DATA) {
            assert_int_equal(decode(type, FRAME_LAST, cases[i].min, cases[i].stream), COROLLA_FORMAT);
        }
    }
}

static void unknown_types_are_refused(void **state) {
    (void)state;
    assert_int_equal(decode(0, 0, 8, 0), COROLLA_FORMAT);
    for (unsigned type = FRAME_GOODBYE + 1; type < 256; type++) {
        assert_int_equal(decode((uint8_t)type, 0, 8, 0), COROLLA_FORMAT);
        assert_int_equal(decode((uint8_t)type, 0, 8, 1), COROLLA_FORMAT);
    }
}

static void a_preamble_has_its_bytes_and_limits(void **state) {
    (void)state;
    uint8_t bytes[FRAME_PREAMBLE_SIZE];
    struct frame_preamble out = {0};
    struct corolla_error err;
    frame_preamble_encode(&(struct frame_preamble){.kind = MSG_STEP, .header_size = MSG_HEADER_MAX, .body_size = MSG_BODY_MAX}, bytes);
    assert_memory_equal(bytes, "\x05\x00\x00\x60\x00\x00\x00\x04", FRAME_PREAMBLE_SIZE);
    assert_int_equal(frame_preamble_decode(bytes, &out, &err), COROLLA_OK);
    assert_int_equal(out.kind, MSG_STEP);
    assert_int_equal(out.header_size, MSG_HEADER_MAX);
    assert_int_equal(out.body_size, MSG_BODY_MAX);
    static const struct frame_preamble refused[] = {{0, 1, 1},          {5, MSG_HEADER_MAX + 1, 0}, {5, 1, MSG_BODY_MAX + 1},
                                                    {5, 1, UINT32_MAX}, {MSG_INFO, 1, 1},           {MSG_OPENED, 1, 1},
                                                    {MSG_FAILED, 1, 1}, {MSG_DRAIN, 0, 1}};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        frame_preamble_encode(&refused[i], bytes);
        assert_int_equal(frame_preamble_decode(bytes, &out, &err), COROLLA_FORMAT);
        assert_int_equal(out.kind, MSG_STEP);
    }
}

static void a_whole_frame_is_64_kib_at_most(void **state) {
    (void)state;
    assert_int_equal(FRAME_HEADER_SIZE + FRAME_PAYLOAD_MAX, FRAME_SIZE_MAX);
    assert_int_equal(STEP_TOKENS_MAX * EMBD_MAX * sizeof(float), MSG_BODY_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_has_the_bytes_of_the_specification),
        cmocka_unit_test(sizes_and_streams_fit_the_type),
        cmocka_unit_test(unknown_types_are_refused),
        cmocka_unit_test(a_preamble_has_its_bytes_and_limits),
        cmocka_unit_test(a_whole_frame_is_64_kib_at_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
