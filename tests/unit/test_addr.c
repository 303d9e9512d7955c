/* test_addr.c - which addresses are taken from strangers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/addr.h"

static void usual_addresses_are_valid(void **state) {
    (void)state;
    static const char *const good[] = {"127.0.0.1:1", "example.org:65535",    "my_host-2:31330",
                                       "[::1]:80",    "[2001:db8::17]:31330", "[::ffff:10.0.0.1]:9"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (!addr_valid(good[i])) {
            fail_msg("%s was refused", good[i]);
        }
    }
}

static void others_are_not(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "host",
        ":80",
        "host:",
        "host:0",
        "host:65536",
        "host:99999",
        "host:123456",
        "host:-1",
        "host: 80",
        "host:8o",
        "host:080",
        "ho st:80",
        "host/x:80",
        "user@host:80",
        "[::1]",
        "[::1]:",
        "[::1:80",
        "::1:80",
        "[fe80::1%e]:1",
        "[]:80",
        "[1]:80",
        "h\xc3\xb6st:80",
        "host\n:80",
        "\x1b[2J:1",
        "-host:80",
        ".host:80",
        "host:+80",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:8080", /* 65 characters */
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (addr_valid(bad[i])) {
            fail_msg("\"%s\" was taken", bad[i]);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(usual_addresses_are_valid), cmocka_unit_test(others_are_not)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
