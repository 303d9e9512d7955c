/* test_lan_msg.c - the datagram of LAN discovery: its bytes, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/samples.h"
#include "wire/lan_msg.h"

static void the_bytes_are_those_of_the_specification(void **state) {
    (void)state;
    uint8_t made[LAN_MSG_SIZE], wanted[LAN_MSG_SIZE] = "corolla\x01\x01\x00\x62\x7a\x05\x00\x00\x00";
    struct lan_msg m = {.asks = true, .port = 31330, .id = sample_node_id(4, SAMPLE_USUAL)}, back;
    m.id.instance = 5;
    memcpy(wanted + 16, m.id.key, KEY_SIZE);
    lan_msg_encode(&m, made);
    assert_memory_equal(made, wanted, LAN_MSG_SIZE);
    assert_true(lan_msg_decode(made, sizeof(made), &back));
    assert_true(back.asks && back.port == 31330 && node_id_equal(&back.id, &m.id));
    m.asks = false;
    lan_msg_encode(&m, made);
    assert_true(lan_msg_decode(made, sizeof(made), &back));
    assert_false(back.asks);
}

static void a_node_that_cannot_be_dialled_does_not_say_who_it_is(void **state) {
    (void)state;
    static const uint8_t zeros[LAN_MSG_SIZE - 9];
    uint8_t made[LAN_MSG_SIZE];
    struct lan_msg m = {.asks = true, .id = sample_node_id(4, SAMPLE_LARGEST)};
    lan_msg_encode(&m, made);
    assert_memory_equal(made + 9, zeros, sizeof(zeros));
    memset(made + 16, 7, KEY_SIZE); /* nor is it believed when it does */
    assert_true(lan_msg_decode(made, sizeof(made), &m));
    assert_int_equal(m.id.key[0], 0);
}

static void what_later_versions_add_behind_is_ignored(void **state) {
    (void)state;
    uint8_t bytes[LAN_MSG_MAX + 1] = {0};
    struct lan_msg m = {.port = 1}, back = {0};
    lan_msg_encode(&m, bytes);
    assert_true(lan_msg_decode(bytes, LAN_MSG_MAX, &back));
    assert_int_equal(back.port, 1);
    assert_false(lan_msg_decode(bytes, LAN_MSG_MAX + 1, &back));
    for (size_t size = 0; size < LAN_MSG_SIZE; size++) assert_false(lan_msg_decode(bytes, size, &back));
}

static void every_wrong_bit_of_the_head_is_refused(void **state) {
    (void)state;
    uint8_t bytes[LAN_MSG_SIZE];
    struct lan_msg m = {.port = 31330}, back = {.port = 9};
    for (unsigned bit = 0; bit < 10 * 8; bit++) {
        lan_msg_encode(&m, bytes);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        bool is_asks = bit == 8 * 8;
        if (lan_msg_decode(bytes, sizeof(bytes), &back) != is_asks) fail_msg("bit %u", bit);
        assert_int_equal(back.port, is_asks ? 31330 : 9);
        back.port = 9;
    }
    m.port = 0; /* neither asks nor tells */
    lan_msg_encode(&m, bytes);
    assert_false(lan_msg_decode(bytes, sizeof(bytes), &back));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bytes_are_those_of_the_specification),
        cmocka_unit_test(a_node_that_cannot_be_dialled_does_not_say_who_it_is),
        cmocka_unit_test(what_later_versions_add_behind_is_ignored),
        cmocka_unit_test(every_wrong_bit_of_the_head_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
