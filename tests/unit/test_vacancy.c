/* test_vacancy.c - when to come back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "node/vacancy.h"

static void without_experience_it_says_the_default(void **state) {
    (void)state;
    struct vacancy v = {0};
    assert_int_equal(vacancy_estimate_ms(&v, 1000, 5), VACANCY_DEFAULT_MS);
}

/* 1,000 tokens each second. */
static void it_says_how_long_as_much_took(void **state) {
    (void)state;
    struct vacancy v = {0};
    uint64_t now = 1;
    for (; now < 1000000; now += 1000) vacancy_note(&v, now, 1000);
    assert_in_range(vacancy_estimate_ms(&v, now, 10000), 9000, 11000);
    assert_in_range(vacancy_estimate_ms(&v, now, 2000), 1800, 2200);
    assert_int_equal(vacancy_estimate_ms(&v, now, 1), VACANCY_MIN_MS);
    assert_int_equal(vacancy_estimate_ms(&v, now, 1000000), VACANCY_MAX_MS);
    assert_true(vacancy_estimate_ms(&v, now + 60000, 10000) > 2 * vacancy_estimate_ms(&v, now, 10000)); /* nothing came for a minute */
    assert_int_equal(vacancy_estimate_ms(&v, now + 100000000, 10000), VACANCY_MAX_MS);
    vacancy_note(&v, 5, 1000); /* a clock that went back */
    assert_in_range(vacancy_estimate_ms(&v, 5, 10000), VACANCY_MIN_MS, VACANCY_MAX_MS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_experience_it_says_the_default),
        cmocka_unit_test(it_says_how_long_as_much_took),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
