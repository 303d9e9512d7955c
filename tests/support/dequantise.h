/* dequantise.h - a GGUF file with all weights as F32, through ggml's own type traits. */
#ifndef COROLLA_TESTS_DEQUANTISE_H
#define COROLLA_TESTS_DEQUANTISE_H

/* Writes to path what from holds, a row at a time. Failures end the test. */
void dequantise(const char *from, const char *path);

#endif
