/* dequantise.c - see dequantise.h. */
#include "support/dequantise.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ggml.h"
#include "gguf.h"

static void write_zeros(FILE *out, size_t n) {
    while (n-- > 0) assert_int_equal(putc(0, out), 0);
}

static void write_tensor(FILE *in, size_t offset, const struct ggml_tensor *t, FILE *out) {
    const struct ggml_type_traits *traits = ggml_get_type_traits(t->type);
    size_t row_size = ggml_row_size(t->type, t->ne[0]), n = (size_t)t->ne[0];
    uint8_t *row = malloc(row_size);
    float *values = malloc(n * sizeof *values);
    assert_true(row && values && fseek(in, (long)offset, SEEK_SET) == 0);
    for (int64_t i = 0; i < ggml_nrows(t); i++) {
        assert_int_equal(fread(row, row_size, 1, in), 1);
        if (t->type == GGML_TYPE_F32)
            memcpy(values, row, row_size);
        else
            traits->to_float(row, values, t->ne[0]);
        assert_int_equal(fwrite(values, sizeof *values, n, out), n);
    }
    free(row);
    free(values);
}

void dequantise(const char *from, const char *path) {
    struct ggml_context *tensors = NULL;
    struct gguf_context *source = gguf_init_from_file(from, (struct gguf_init_params){.no_alloc = true, .ctx = &tensors});
    struct gguf_context *made = gguf_init_empty();
    FILE *in = fopen(from, "rb");
    assert_true(source && made && in);
    gguf_set_kv(made, source);
    gguf_set_val_u32(made, "general.file_type", 0); /* all F32 */
    for (int64_t i = 0; i < gguf_get_n_tensors(source); i++) {
        gguf_add_tensor(made, ggml_get_tensor(tensors, gguf_get_tensor_name(source, i)));
        gguf_set_tensor_type(made, gguf_get_tensor_name(source, i), GGML_TYPE_F32);
    }
    assert_true(gguf_write_to_file(made, path, true));
    FILE *out = fopen(path, "ab");
    assert_non_null(out);
    size_t written = 0;
    for (int64_t i = 0; i < gguf_get_n_tensors(source); i++) {
        const struct ggml_tensor *t = ggml_get_tensor(tensors, gguf_get_tensor_name(source, i));
        write_zeros(out, gguf_get_tensor_offset(made, i) - written);
        write_tensor(in, gguf_get_data_offset(source) + gguf_get_tensor_offset(source, i), t, out);
        written = gguf_get_tensor_offset(made, i) + (size_t)ggml_nelements(t) * sizeof(float);
    }
    write_zeros(out, GGML_PAD(written, gguf_get_alignment(made)) - written);
    assert_int_equal(fclose(out), 0);
    fclose(in);
    gguf_free(made);
    gguf_free(source);
    ggml_free(tensors);
}
