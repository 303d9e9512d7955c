/* processor.h - ggml's CPU backend, for tests of single operations. */
#ifndef COROLLA_TESTS_PROCESSOR_H
#define COROLLA_TESTS_PROCESSOR_H

#include "ggml-backend.h"

extern ggml_backend_t processor;

int processor_open(void **state); /* group set-up and tear-down of cmocka */
int processor_close(void **state);
/* Computes a graph whose tensors have their memory, on so many threads; ends the test when that fails. */
void processor_compute(struct ggml_cgraph *graph, int threads);

#endif
