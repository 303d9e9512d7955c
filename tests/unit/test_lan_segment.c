/* test_lan_segment.c - which sources a segment holds, and where a listener is reached. Nothing is sent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/lan_segment.h"

static struct sockaddr_storage at(const char *host, unsigned scope) {
    struct sockaddr_storage a;
    assert_true(address_numeric(host, 31330, &a));
    if (a.ss_family == AF_INET6) ((struct sockaddr_in6 *)(void *)&a)->sin6_scope_id = scope;
    return a;
}
static struct lan_segment segment(const char *host, uint32_t mask, unsigned interface) {
    struct lan_segment s = {.address = at(host, interface), .mask = mask, .interface = interface, .interface_name = "eth0"};
    return s;
}
static bool holds(const struct lan_segment *s, const char *host, unsigned scope) {
    struct sockaddr_storage a = at(host, scope);
    return lan_segment_holds(s, (struct sockaddr *)&a);
}
static bool reaches(const struct lan_segment *s, const char *host, unsigned scope) {
    struct sockaddr_storage a = at(host, scope);
    return lan_segment_reaches(s, (struct sockaddr *)&a);
}

static void only_sources_on_the_network_count(void **state) {
    (void)state;
    struct lan_segment v4 = segment("10.77.1.5", 0xffffff00, 2), v6 = segment("fe80::5", 0, 2), odd = segment("10.77.1.5", 0, 2);
    assert_true(holds(&v4, "10.77.1.255", 0));
    assert_true(holds(&v4, "10.77.1.5", 0));
    assert_false(holds(&v4, "10.77.2.5", 0));
    assert_false(holds(&v4, "8.8.8.8", 0));
    assert_false(holds(&v4, "0.0.0.0", 0));
    assert_false(holds(&v4, "fe80::1", 2));
    assert_false(holds(&odd, "8.8.8.8", 0)); /* a network of all addresses is none */
    assert_true(holds(&v6, "fe80::1", 2));
    assert_false(holds(&v6, "fe80::1", 3));
    assert_false(holds(&v6, "2001:db8::1", 2));
    assert_false(holds(&v6, "::ffff:10.77.1.5", 2));
    assert_false(holds(&v6, "10.77.1.5", 0));
}

static void a_listener_is_announced_only_where_it_is_reached(void **state) {
    (void)state;
    struct lan_segment v4 = segment("10.77.1.5", 0xffffff00, 2), v6 = segment("fe80::5", 0, 2), lo = segment("127.0.0.1", 0xff000000, 1);
    assert_true(reaches(&v4, "0.0.0.0", 0) && reaches(&lo, "0.0.0.0", 0) && !reaches(&v6, "0.0.0.0", 0));
    assert_true(reaches(&v4, "::", 0) && reaches(&lo, "::", 0) && reaches(&v6, "::", 0));
    assert_true(reaches(&lo, "127.0.0.1", 0) && !reaches(&v4, "127.0.0.1", 0) && !reaches(&v6, "127.0.0.1", 0));
    assert_true(reaches(&v4, "10.77.1.5", 0) && !reaches(&lo, "10.77.1.5", 0));
    assert_true(reaches(&v6, "fe80::5", 2) && !reaches(&v6, "fe80::5", 3) && !reaches(&v6, "2001:db8::1", 0));
}

static void found_addresses_can_be_dialled_and_have_their_zone(void **state) {
    (void)state;
    char out[ADDR_MAX];
    struct lan_segment v4 = segment("10.77.1.5", 0xffffff00, 2), v6 = segment("fe80::5", 0, 2);
    struct sockaddr_storage a = at("10.77.1.9", 0), b = at("fe80::9", 2);
    assert_true(lan_segment_format(&v4, (struct sockaddr *)&a, 5, out));
    assert_string_equal(out, "10.77.1.9:5");
    assert_true(lan_segment_format(&v6, (struct sockaddr *)&b, 65535, out));
    assert_string_equal(out, "[fe80::9%eth0]:65535");
}

static void the_segments_of_this_machine_have_addresses_of_their_own(void **state) {
    (void)state;
    static struct lan_segment found[LAN_SEGMENTS_MAX];
    uint32_t n = lan_segments_find(found);
    assert_true(n <= LAN_SEGMENTS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        const struct sockaddr *own = (const struct sockaddr *)&found[i].address;
        assert_true(found[i].interface > 0 && found[i].host[0] != 0);
        assert_true(found[i].mask == 0 || lan_segment_holds(&found[i], own));
        assert_int_equal(strchr(found[i].host, '%') != NULL, own->sa_family == AF_INET6);
        for (uint32_t k = 0; k < i; k++) assert_false(lan_segment_same(&found[i], &found[k]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_sources_on_the_network_count),
        cmocka_unit_test(a_listener_is_announced_only_where_it_is_reached),
        cmocka_unit_test(found_addresses_can_be_dialled_and_have_their_zone),
        cmocka_unit_test(the_segments_of_this_machine_have_addresses_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
