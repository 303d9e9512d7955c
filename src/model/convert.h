/* convert.h - hidden states between F32 and the 16-bit wire types. Any thread. */
#ifndef COROLLA_MODEL_CONVERT_H
#define COROLLA_MODEL_CONVERT_H

#include <corolla.h>

void convert_to_f32(enum corolla_wire wire, const void *in, float *out, size_t n);
void convert_from_f32(enum corolla_wire wire, const float *in, void *out, size_t n);

#endif
