/* test_families.c - a chain of every row of the table of architectures: the bits of one process, at a prompt, one by one, after a rollback,
 * and when a server is killed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "model/arch.h"
#include "rig.h"
#include "support/sanitized.h"

static void a_chain_of_every_family_survives_a_kill(void **state) {
    size_t n;
    const struct arch *rows = arch_rows(&n);
    (void)state;
    for (size_t i = 0; i < n; i += SANITIZED ? 4 : 1) {
        struct client c;
        print_message("%s\n", rows[i].name);
        assert_true(rig_open_as(rows[i].name));
        client_open(&c, &(struct client_config){.wait_ms = 0});
        client_step(&c, 0, 150);
        client_generate(&c, 150, 4);
        client_step(&c, 60, 40); /* back */
        struct serve *lost = client_hop(&c, (uint32_t)i % SPANS);
        serve_kill(lost);
        client_generate(&c, 100, 4);
        check_n_events(&c, 1);
        check_event(&c, 0, COROLLA_EVENT_RECOVERED, lost, "crashed");
        client_close(&c);
        assert_int_equal(rig_close(NULL), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_chain_of_every_family_survives_a_kill)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
