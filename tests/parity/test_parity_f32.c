/* test_parity_f32.c - the real model with F32 weights, which round nothing: every greedy choice is libllama's.
 *
 * The file has 540 MB, stands in the folder that the test runs in (the build's), and is removed at the end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "parity/greedy.h"
#include "support/dequantise.h"
#include "support/sanitized.h"
#include "support/scratch.h"

#define FILE_NAME "real-f32.gguf"
#define PROMPTS 20     /* with COROLLA_TEST_FULL=1 */
#define PROMPTS_SOME 5 /* else: F32 weights are slow */

static void greedy_choices_of_f32_weights_are_those_of_libllama(void **state) {
    (void)state;
    dequantise(real_model(), FILE_NAME);
    scratch_file("cache"); /* where the digests of the file go */
    greedy_compare(FILE_NAME, SANITIZED ? 1 : getenv("COROLLA_TEST_FULL") ? PROMPTS : PROMPTS_SOME, 0.0f);
}

static int remove_file(void **state) {
    (void)state;
    return remove(FILE_NAME);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(greedy_choices_of_f32_weights_are_those_of_libllama, remove_file),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_remove();
    return failed;
}
