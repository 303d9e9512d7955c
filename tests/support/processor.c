/* processor.c - see processor.h. */
#include "support/processor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ggml-cpu.h"

ggml_backend_t processor;

int processor_open(void **state) {
    (void)state;
    processor = ggml_backend_cpu_init();
    return processor ? 0 : -1;
}

int processor_close(void **state) {
    (void)state;
    ggml_backend_free(processor);
    return 0;
}

void processor_compute(struct ggml_cgraph *graph, int threads) {
    ggml_backend_cpu_set_n_threads(processor, threads);
    assert_int_equal(ggml_backend_graph_compute(processor, graph), GGML_STATUS_SUCCESS);
}
