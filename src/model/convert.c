/* convert.c - see convert.h. */
#include "model/convert.h"

#include <string.h>

#include "ggml.h"

void convert_to_f32(enum corolla_wire wire, const void *in, float *out, size_t n) {
    switch (wire) {
    case COROLLA_WIRE_F32: memcpy(out, in, n * sizeof *out); break;
    case COROLLA_WIRE_F16: ggml_fp16_to_fp32_row(in, out, (int64_t)n); break;
    case COROLLA_WIRE_BF16: ggml_bf16_to_fp32_row(in, out, (int64_t)n); break;
    }
}

void convert_from_f32(enum corolla_wire wire, const float *in, void *out, size_t n) {
    switch (wire) {
    case COROLLA_WIRE_F32: memcpy(out, in, n * sizeof *in); break;
    case COROLLA_WIRE_F16: ggml_fp32_to_fp16_row(in, out, (int64_t)n); break;
    case COROLLA_WIRE_BF16: ggml_fp32_to_bf16_row(in, out, (int64_t)n); break;
    }
}
