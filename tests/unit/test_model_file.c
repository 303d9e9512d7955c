/* test_model_file.c - damaged, foreign and hostile GGUF files: each gives one clear error, none a crash, a hang or a big allocation.
 *
 * Starting from a good tiny file, fields are overwritten in place (gguf_map.h), keys and tensors are left out or replaced through the
 * gguf API, the file is cut at every byte of its header, and bits are flipped at random. What is still accepted after random flips
 * must load and compute as well.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "ggml.h"
#include "gguf.h"
#include "support/chain.h"
#include "support/gguf_map.h"
#include "support/sanitized.h"
#include "support/scratch.h"
#include "support/tiny.h"
#include "text/text.h"

static struct gguf_map good;

static void make_config(struct tiny_config *c, const char *arch) {
    tiny_config_default(c, arch);
    c->n_blocks = 2;
    c->n_embd = c->n_ff = 64;
    c->head_dim = 16;
    if (c->n_rot) c->n_rot = 8;
}

static int setup(void **state) {
    struct tiny_config c;
    (void)state;
    make_config(&c, "llama");
    const char *path = scratch_file("good.gguf");
    assert_true(tiny_write(&c, path));
    gguf_map_read(&good, path);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    gguf_map_clear(&good);
    return 0;
}

static void write_file(const char *path, const void *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

/* The file must be refused with the status, and the message must have the word in it and be one line. */
static void expect_refused(const char *path, enum corolla_status status, const char *word, const char *what) {
    struct corolla_error err = {0};
    struct model_file *file = NULL;
    enum corolla_status got = model_file_open(&file, path, NULL, NULL, &err);
    if (got == COROLLA_OK) {
        model_file_close(file);
        fail_msg("%s: was accepted", what);
    }
    if (got != status || !strstr(err.message, word) || strchr(err.message, '\n'))
        fail_msg("%s: expected %s with \"%s\", got %s: %s", what, corolla_status_name(status), word, corolla_status_name(got), err.message);
    assert_int_equal(err.status, got);
    assert_null(file);
}

static bool accepted(const char *path) {
    struct corolla_error err = {0};
    struct model_file *file = NULL;
    if (model_file_open(&file, path, NULL, NULL, &err) != COROLLA_OK) {
        assert_true(err.message[0] != '\0' && !strchr(err.message, '\n'));
        return false;
    }
    model_file_close(file);
    return true;
}

/* ---- fields overwritten in place ------------------------------------------------------------------------------- */

static void expect_patched(size_t at, const void *bytes, size_t size, enum corolla_status status, const char *word, const char *what) {
    const char *path = scratch_file("patched.gguf");
    uint8_t *copy = malloc(good.size);
    assert_non_null(copy);
    memcpy(copy, good.bytes, good.size);
    memcpy(copy + at, bytes, size);
    write_file(path, copy, good.size);
    free(copy);
    expect_refused(path, status, word, what);
}

static void expect_u32(size_t at, uint32_t v, enum corolla_status status, const char *word, const char *what) {
    expect_patched(at, &v, sizeof v, status, word, what);
}

static void expect_u64(size_t at, uint64_t v, enum corolla_status status, const char *word, const char *what) {
    expect_patched(at, &v, sizeof v, status, word, what);
}

static void the_good_file_is_accepted(void **state) {
    (void)state;
    assert_true(accepted(scratch_file("good.gguf")));
}

static void bad_magic_version_and_byte_order_are_told_apart(void **state) {
    (void)state;
    expect_patched(0, "GGML", 4, COROLLA_FORMAT, "not a GGUF file", "magic");
    expect_u32(4, 1, COROLLA_UNSUPPORTED, "version 1", "version 1");
    expect_u32(4, 4, COROLLA_UNSUPPORTED, "version 4", "version 4");
    expect_u32(4, 3u << 24, COROLLA_UNSUPPORTED, "big-endian", "big endian");
}

static void huge_counts_and_lengths_are_refused_before_allocating(void **state) {
    static const uint64_t counts[] = {UINT64_MAX, UINT64_MAX / 2, 1ull << 62, 1ull << 40, 1u << 31, 65537};
    (void)state;
    for (size_t i = 0; i < 6; i++) {
        expect_u64(8, counts[i], COROLLA_FORMAT, "", "tensor count");
        expect_u64(16, counts[i], COROLLA_FORMAT, "", "key count");
        expect_u64(good.keys[0].name_at, counts[i], COROLLA_FORMAT, "", "length of a key's name");
        expect_u64(gguf_map_key(&good, "general.architecture")->value_at, counts[i], COROLLA_FORMAT, "", "length of a string");
        expect_u64(gguf_map_key(&good, "tokenizer.ggml.tokens")->value_at + 4, counts[i], COROLLA_FORMAT, "", "length of an array");
        expect_u64(gguf_map_key(&good, "tokenizer.ggml.scores")->value_at + 4, counts[i], COROLLA_FORMAT, "",
                   "length of an array of numbers");
        expect_u64(good.tensors[0].name_at, counts[i], COROLLA_FORMAT, "", "length of a tensor's name");
    }
    expect_u64(8, good.n_tensors + 1, COROLLA_FORMAT, "", "one tensor more than there are");
    expect_u64(8, good.n_tensors - 2, COROLLA_FORMAT, "", "two tensors fewer than there are");
    expect_u64(8, 0, COROLLA_FORMAT, "", "no tensors");
    expect_u64(16, good.n_keys + 1, COROLLA_FORMAT, "", "one key more than there are");
    expect_u64(16, 0, COROLLA_FORMAT, "", "no keys");
    expect_u64(good.keys[1].name_at, 0, COROLLA_FORMAT, "", "an empty key name");
}

static void unknown_types_of_values_are_refused(void **state) {
    size_t tokens = gguf_map_key(&good, "tokenizer.ggml.tokens")->value_at;
    (void)state;
    expect_u32(good.keys[0].type_at, 13, COROLLA_FORMAT, "type 13", "value type 13");
    expect_u32(good.keys[0].type_at, UINT32_MAX, COROLLA_FORMAT, "type", "value type -1");
    expect_u32(tokens, 9, COROLLA_FORMAT, "array", "an array of arrays");
    expect_u32(tokens, 77, COROLLA_FORMAT, "array", "an array of unknown things");
    expect_u32(gguf_map_key(&good, "llama.block_count")->type_at, 6, COROLLA_FORMAT, "llama.block_count", "a float where a count belongs");
}

static void impossible_tensor_infos_are_refused(void **state) {
    const struct gguf_map_tensor *k = gguf_map_tensor(&good, "blk.0.attn_k.weight"), *v = gguf_map_tensor(&good, "blk.0.attn_v.weight");
    const struct gguf_map_tensor *last = &good.tensors[good.n_tensors - 1];
    uint64_t offset;
    (void)state;
    memcpy(&offset, good.bytes + v->offset_at, 8);
    expect_u32(k->dims_at, 0, COROLLA_FORMAT, "dimensions", "no dimensions");
    expect_u32(k->dims_at, 5, COROLLA_FORMAT, "dimensions", "five dimensions");
    expect_u32(k->dims_at, UINT32_MAX, COROLLA_FORMAT, "dimensions", "4 billion dimensions");
    expect_u64(k->ne_at, 0, COROLLA_FORMAT, "blk.0.attn_k.weight", "a dimension of 0");
    expect_u64(k->ne_at, UINT64_MAX, COROLLA_FORMAT, "blk.0.attn_k.weight", "a dimension of -1");
    expect_u64(k->ne_at, 1ull << 40, COROLLA_FORMAT, "blk.0.attn_k.weight", "a dimension of 2^40");
    expect_u64(k->ne_at + 8, INT32_MAX, COROLLA_FORMAT, "blk.0.attn_k.weight", "2^31 rows");
    expect_u64(k->ne_at, 32, COROLLA_FORMAT, "blk.0.attn_k.weight", "fewer columns than the model asks for");
    expect_u64(k->ne_at + 8, 64, COROLLA_FORMAT, "", "more rows than the model asks for");
    expect_u32(k->type_at, 9999, COROLLA_UNSUPPORTED, "type 9999", "an unknown type");
    expect_u32(k->type_at, 4, COROLLA_UNSUPPORTED, "type 4", "a type that was removed");
    expect_u32(k->type_at, GGML_TYPE_I32, COROLLA_UNSUPPORTED, "blk.0.attn_k.weight", "integers as weights");
    expect_u32(k->type_at, GGML_TYPE_Q4_K, COROLLA_FORMAT, "blk.0.attn_k.weight", "a type whose blocks do not fit the row");
    expect_u64(k->offset_at, offset, COROLLA_FORMAT, "offset", "two tensors at one place");
    expect_u64(k->offset_at, offset - 32, COROLLA_FORMAT, "offset", "two tensors that overlap");
    expect_u64(v->offset_at, offset + 1, COROLLA_FORMAT, "offset", "a misaligned tensor");
    expect_u64(last->offset_at, good.size, COROLLA_FORMAT, "outside", "an offset behind the end");
    expect_u64(last->offset_at, UINT64_MAX - 31, COROLLA_FORMAT, "outside", "an offset that wraps around");
    expect_patched(k->name_at + 8, "blk.0.attn_v.weight", 19, COROLLA_FORMAT, "twice", "the same name twice");
    expect_patched(k->name_at + 8, "blk.7.attn_k.weight", 19, COROLLA_UNSUPPORTED, "blk.7.attn_k.weight",
                   "a tensor of a block that is not there");
    expect_patched(k->name_at + 8, "blk.0.attn_x.weight", 19, COROLLA_UNSUPPORTED, "blk.0.attn_x.weight", "a tensor that no row knows");
    expect_patched(k->name_at + 8, "blk.0\0attn_k.weight", 19, COROLLA_FORMAT, "name", "a NUL in a name");
}

/* ---- keys and tensors replaced --------------------------------------------------------------------------------- */

typedef void (*edit_fn)(struct gguf_context *gguf, struct ggml_context *tensors);

/* Writes the good file without one tensor (may be NULL), after an edit (may be NULL). */
static void rewrite(const char *path, const char *without, edit_fn edit) {
    struct ggml_context *tensors = NULL;
    struct gguf_context *in = gguf_init_from_file(scratch_file("good.gguf"), (struct gguf_init_params){.no_alloc = false, .ctx = &tensors});
    struct gguf_context *out = gguf_init_empty();
    assert_non_null(in);
    gguf_set_kv(out, in);
    if (edit) edit(out, tensors);
    for (struct ggml_tensor *t = ggml_get_first_tensor(tensors); t; t = ggml_get_next_tensor(tensors, t))
        if (gguf_find_tensor(in, t->name) >= 0 && (!without || strcmp(t->name, without) != 0)) gguf_add_tensor(out, t);
    assert_true(gguf_write_to_file(out, path, false));
    gguf_free(out);
    gguf_free(in);
    ggml_free(tensors);
}

static void every_tensor_but_the_head_is_needed(void **state) {
    const char *path = scratch_file("without.gguf");
    (void)state;
    for (size_t i = 0; i < good.n_tensors; i++) {
        const char *name = good.tensors[i].name;
        rewrite(path, name, NULL);
        if (strcmp(name, "output.weight") == 0)
            assert_true(accepted(path)); /* a tied head */
        else
            expect_refused(path, COROLLA_FORMAT, name, name);
    }
}

static const char *removed_key;
static void remove_key(struct gguf_context *g, struct ggml_context *tensors) {
    (void)tensors;
    assert_true(gguf_remove_key(g, removed_key) >= 0);
}

static void every_hyperparameter_is_needed(void **state) {
    static const char *const keys[] = {"general.architecture",
                                       "llama.context_length",
                                       "llama.embedding_length",
                                       "llama.block_count",
                                       "llama.feed_forward_length",
                                       "llama.attention.head_count",
                                       "llama.attention.layer_norm_rms_epsilon"};
    const char *path = scratch_file("without.gguf");
    (void)state;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        removed_key = keys[i];
        rewrite(path, NULL, remove_key);
        expect_refused(path, COROLLA_FORMAT, strstr(keys[i], "epsilon") ? "epsilon" : keys[i], keys[i]);
    }
}

#define SETTER(function, type, key, ...)                                                                                                   \
    static void function(struct gguf_context *g, struct ggml_context *tensors) {                                                           \
        (void)tensors;                                                                                                                     \
        gguf_set_val_##type(g, key, __VA_ARGS__);                                                                                          \
    }
SETTER(other_architecture, str, "general.architecture", "mamba")
SETTER(architecture_number, u32, "general.architecture", 3)
SETTER(three_heads, u32, "llama.attention.head_count", 3)
SETTER(zero_heads, u32, "llama.attention.head_count", 0)
SETTER(three_kv_heads, u32, "llama.attention.head_count_kv", 3)
SETTER(eight_kv_heads, u32, "llama.attention.head_count_kv", 8)
SETTER(three_blocks, u32, "llama.block_count", 3)
SETTER(one_block, u32, "llama.block_count", 1)
SETTER(many_blocks, u32, "llama.block_count", UINT32_MAX)
SETTER(negative_blocks, i32, "llama.block_count", -2)
SETTER(other_width, u32, "llama.embedding_length", 128)
SETTER(huge_width, u32, "llama.embedding_length", 1u << 31)
SETTER(other_ff, u32, "llama.feed_forward_length", 96)
SETTER(no_epsilon, f32, "llama.attention.layer_norm_rms_epsilon", 0.0f)
SETTER(nan_epsilon, f32, "llama.attention.layer_norm_rms_epsilon", (float)(0.0 / 0.0))
SETTER(odd_rotation, u32, "llama.rope.dimension_count", 15)
SETTER(wide_rotation, u32, "llama.rope.dimension_count", 64)
SETTER(longrope, str, "llama.rope.scaling.type", "longrope")
SETTER(sigmoid_gating, u32, "llama.expert_gating_func", 2)
SETTER(scaled_residual, f32, "llama.residual_scale", 0.22f)
SETTER(no_logit_scale, f32, "llama.logit_scale", 0.0f)
SETTER(infinite_base, f32, "llama.rope.freq_base", (float)(1.0 / 0.0))
SETTER(negative_factor, f32, "llama.rope.scaling.factor", -1.0f)
SETTER(eos_outside, u32, "tokenizer.ggml.eos_token_id", 100000)

static void few_tokens(struct gguf_context *g, struct ggml_context *tensors) {
    const char *tokens[] = {"a", "b"};
    (void)tensors;
    gguf_set_arr_str(g, "tokenizer.ggml.tokens", tokens, 2);
}

static void numbers_as_tokens(struct gguf_context *g, struct ggml_context *tensors) {
    int32_t zeros[391] = {0};
    (void)tensors;
    gguf_set_arr_data(g, "tokenizer.ggml.tokens", GGUF_TYPE_INT32, zeros, 391);
}

static void counts_per_block(struct gguf_context *g, struct ggml_context *tensors) {
    uint32_t counts[] = {4, 2};
    (void)tensors;
    gguf_set_arr_data(g, "llama.attention.head_count", GGUF_TYPE_UINT32, counts, 2);
}

static void norm_in_f16(struct gguf_context *g, struct ggml_context *tensors) {
    (void)g;
    struct ggml_tensor *t = ggml_get_tensor(tensors, "blk.0.attn_norm.weight");
    t->type = GGML_TYPE_F16;
    t->nb[0] = 2;
    t->nb[1] = t->nb[2] = t->nb[3] = 2 * (size_t)t->ne[0];
}

static void wrong_values_are_refused(void **state) {
    static const struct {
        edit_fn edit;
        enum corolla_status status;
        const char *word;
    } cases[] = {
        {other_architecture, COROLLA_UNSUPPORTED, "mamba"},
        {architecture_number, COROLLA_FORMAT, "general.architecture"},
        {three_heads, COROLLA_FORMAT, ""},
        {zero_heads, COROLLA_FORMAT, "head_count"},
        {three_kv_heads, COROLLA_FORMAT, "heads"},
        {eight_kv_heads, COROLLA_FORMAT, "heads"},
        {three_blocks, COROLLA_FORMAT, "blk.2."},
        {one_block, COROLLA_UNSUPPORTED, "blk.1."},
        {many_blocks, COROLLA_FORMAT, "block_count"},
        {negative_blocks, COROLLA_FORMAT, "block_count"},
        {other_width, COROLLA_FORMAT, ""},
        {huge_width, COROLLA_FORMAT, "embedding_length"},
        {other_ff, COROLLA_FORMAT, "ffn"},
        {no_epsilon, COROLLA_FORMAT, "epsilon"},
        {nan_epsilon, COROLLA_FORMAT, "epsilon"},
        {odd_rotation, COROLLA_FORMAT, "RoPE"},
        {wide_rotation, COROLLA_FORMAT, "RoPE"},
        {longrope, COROLLA_UNSUPPORTED, "RoPE"},
        {sigmoid_gating, COROLLA_UNSUPPORTED, "expert_gating_func"},
        {scaled_residual, COROLLA_UNSUPPORTED, "residual_scale"},
        {infinite_base, COROLLA_FORMAT, "freq_base"},
        {negative_factor, COROLLA_FORMAT, "RoPE"},
        {eos_outside, COROLLA_FORMAT, "eos"},
        {few_tokens, COROLLA_FORMAT, "tokens"},
        {numbers_as_tokens, COROLLA_FORMAT, "tokens"},
        {counts_per_block, COROLLA_UNSUPPORTED, "head_count"},
        {norm_in_f16, COROLLA_UNSUPPORTED, "attn_norm"},
    };
    const char *path = scratch_file("edited.gguf");
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char what[32];
        snprintf(what, sizeof what, "case %zu", i);
        rewrite(path, NULL, cases[i].edit);
        expect_refused(path, cases[i].status, cases[i].word, what);
    }
}

/* The builder takes one of two forms; what belongs to the other one would be left out. */
static void tensors_of_two_forms_are_refused(void **state) {
#define BIT(role) (UINT64_C(1) << BLOCK_##role)
    static const struct {
        const char *arch;
        uint64_t optional;
        uint32_t n_expert;
        const char *word;
    } cases[] = {
        {"llama", BIT(ATTN_QKV) | BIT(ATTN_Q_BIAS), 0, "blk.0.attn_q.bias"},
        {"llama", BIT(ATTN_QKV) | BIT(ATTN_V), 0, "blk.0.attn_v.weight"},
        {"qwen2", BIT(ATTN_Q) | BIT(ATTN_K) | BIT(ATTN_V) | BIT(ATTN_QKV_BIAS), 0, "blk.0.attn_qkv.bias"},
        {"llama", BIT(ATTN_QKV) | BIT(FFN_UP_BIAS), 4, "blk.0.ffn_up.bias"},
    };
    const char *path = scratch_file("forms.gguf");
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tiny_config c;
        make_config(&c, cases[i].arch);
        c.optional = cases[i].optional;
        c.n_expert = cases[i].n_expert;
        assert_true(tiny_write(&c, path));
        expect_refused(path, COROLLA_UNSUPPORTED, cases[i].word, cases[i].word);
    }
}

static void a_scale_of_nothing_is_none(void **state) {
    const char *path = scratch_file("scale.gguf");
    struct model_file *file;
    struct corolla_error err;
    (void)state;
    rewrite(path, NULL, no_logit_scale);
    assert_int_equal(model_file_open(&file, path, NULL, NULL, &err), COROLLA_OK);
    assert_true(model_file_hparams(file)->logit_scale == 1.0f);
    model_file_close(file);
}

/* A good file whose general.name, a string of 4 bytes, became "general.alignment" of another value, byte by byte. */
static void impossible_alignments_are_refused(void **state) {
    static const uint32_t alignments[] = {0, 1, 7, 24, 131072, 1u << 31, UINT32_MAX};
    const struct gguf_map_key *name = gguf_map_key(&good, "general.name");
    const char *path = scratch_file("aligned.gguf");
    (void)state;
    for (size_t i = 0; i < sizeof alignments / sizeof *alignments; i++) {
        uint8_t *copy = malloc(good.size + 64), *p = copy;
        assert_non_null(copy);
        uint64_t length = 17;
        uint32_t type = 4;
        memcpy(p, good.bytes, name->name_at), p += name->name_at;
        memcpy(p, &length, 8), p += 8;
        memcpy(p, "general.alignment", 17), p += 17;
        memcpy(p, &type, 4), p += 4;
        memcpy(p, &alignments[i], 4), p += 4;
        size_t rest = name->value_at + 8 + 4;
        memcpy(p, good.bytes + rest, good.size - rest), p += good.size - rest;
        write_file(path, copy, (size_t)(p - copy));
        free(copy);
        expect_refused(path, COROLLA_FORMAT, "alignment", "alignment");
    }
}

/* ---- foreign and cut files ------------------------------------------------------------------------------------- */

static void foreign_files_are_refused(void **state) {
    static const char png[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR and a few more bytes that are no model";
    static const char zip[] = "PK\x03\x04 and a few more bytes that are no model either";
    static const char safetensors[] = "\x40\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}      ";
    const char *path = scratch_file("foreign");
    (void)state;
    write_file(path, png, sizeof png);
    expect_refused(path, COROLLA_FORMAT, "not a GGUF file", "PNG");
    write_file(path, zip, sizeof zip);
    expect_refused(path, COROLLA_FORMAT, "not a GGUF file", "zip");
    write_file(path, safetensors, sizeof safetensors);
    expect_refused(path, COROLLA_FORMAT, "not a GGUF file", "safetensors");
    write_file(path, "", 0);
    expect_refused(path, COROLLA_FORMAT, "not a GGUF file", "empty");
    write_file(path, "GGUF", 4);
    expect_refused(path, COROLLA_FORMAT, "not a GGUF file", "4 bytes");
    expect_refused(scratch_file("nothing"), COROLLA_NOT_FOUND, "nothing", "no file");
    expect_refused("/", COROLLA_IO, "not a regular file", "a folder");
    expect_refused("/dev/zero", COROLLA_IO, "not a regular file", "a device");
}

static void a_file_cut_anywhere_is_refused(void **state) {
    const char *path = scratch_file("cut.gguf");
    (void)state;
    write_file(path, good.bytes, good.size);
    for (size_t size = good.size - 1; size > 0; size -= size > good.header_size + 4096 ? 4001 : 1) {
        assert_int_equal(truncate(path, (off_t)size), 0);
        if (accepted(path)) fail_msg("cut to %zu of %zu bytes, it was accepted", size, good.size);
    }
    for (size_t i = 0; i < good.n_tensors; i++) { /* right behind each tensor but the last */
        uint64_t offset;
        memcpy(&offset, good.bytes + good.tensors[i].offset_at, 8);
        if (offset == 0) continue;
        write_file(path, good.bytes, (good.header_size + 31) / 32 * 32 + (size_t)offset);
        if (accepted(path)) fail_msg("cut in front of %s, it was accepted", good.tensors[i].name);
    }
}

/* ---- random damage --------------------------------------------------------------------------------------------- */

static uint64_t random_state = 42;
static size_t random_below(size_t n) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(random_state >> 33) % n;
}

/* What was accepted must load and compute; refusing it later, with a message, is fine as well. */
static void use(const char *path) {
    struct corolla_error err = {0};
    struct model_file *file = NULL;
    struct engine *engine = NULL;
    struct edges *edges = NULL;
    struct span *span = NULL;
    struct kv *kv = NULL;
    struct vocab *vocab = NULL;
    float *logits = NULL, hidden[64];
    if (model_file_open(&file, path, NULL, NULL, &err)) return;
    const struct hparams *h = model_file_hparams(file);
    struct span_config config = {.begin = 0, .end = h->n_blocks, .kv_bytes = 1 << 24};
    assert_int_equal(h->n_embd, 64);
    if (!engine_new(&engine, &(struct engine_config){.threads = 1}, &err) && !edges_load(&edges, engine, file, &err) &&
        !span_load(&span, engine, file, &config, &err) && !kv_open(&kv, span, 0, h->n_blocks, 4, &err)) {
        struct batch_item item = {.kv = kv, .position = 0, .n = 1, .in = hidden, .out = hidden};
        logits = malloc(h->n_vocab * sizeof *logits);
        if (!edges_embed(edges, 0, (int32_t[]){1}, 1, hidden, &err) && !span_forward(span, &item, 1, &err))
            edges_logits(edges, hidden, 1, logits, &err);
    }
    if (!vocab_open(&vocab, path, &err)) {
        int32_t *tokens = NULL;
        size_t n = 0;
        if (!vocab_tokenize(vocab, "a tiny text \xf0\x9f\x8c\xb8 1", 17, true, true, &tokens, &n, &err)) {
            char *text = NULL;
            if (!vocab_detokenize(vocab, tokens, n, &text, &err)) free(text);
            free(tokens);
        }
    }
    vocab_close(vocab);
    free(logits);
    kv_close(kv);
    span_free(span);
    edges_free(edges);
    engine_free(engine);
    model_file_close(file);
}

static size_t vocabulary_at(const struct gguf_map *map) {
    for (size_t i = 0; i < map->n_keys; i++)
        if (strncmp(map->keys[i].name, "tokenizer.", 10) == 0) return map->keys[i].name_at;
    return map->header_size;
}

/* Returns how many were accepted. */
static unsigned flip_bits(const struct gguf_map *map, unsigned rounds) {
    const char *path = scratch_file("flipped.gguf");
    uint8_t *copy = malloc(map->size);
    unsigned still_good = 0;
    assert_non_null(copy);
    for (unsigned round = 0; round < rounds; round++) {
        memcpy(copy, map->bytes, map->size);
        /* Names and vocabulary fill most of the header; every other flip hits what is not text. */
        size_t keys_end = vocabulary_at(map), tensors = map->tensors[0].name_at;
        for (size_t n = 1 + random_below(3); n > 0; n--) {
            size_t at = random_below(3);
            at = at == 0   ? random_below(keys_end)
                 : at == 1 ? tensors + random_below(map->header_size - tensors)
                           : random_below(map->header_size);
            copy[at] ^= (uint8_t)(1u << random_below(8));
        }
        write_file(path, copy, map->size);
        if (!accepted(path)) continue;
        still_good++;
        use(path);
    }
    free(copy);
    return still_good;
}

static void flipped_bits_never_crash(void **state) {
    const unsigned rounds = SANITIZED ? 250 : 2000;
    size_t n;
    const struct arch *rows = arch_rows(&n);
    (void)state;
    for (size_t i = 0; i < n; i++) {
        struct tiny_config c;
        struct gguf_map map;
        const char *path = scratch_file("family.gguf");
        make_config(&c, rows[i].name);
        assert_true(tiny_write(&c, path));
        gguf_map_read(&map, path);
        alarm(120); /* a hang is a failure too */
        unsigned still_good = flip_bits(&map, rounds);
        alarm(0);
        print_message("%s: %u of %u damaged headers were refused, %u loaded\n", rows[i].name, rounds - still_good, rounds, still_good);
        assert_true(still_good < rounds / 2);
        gguf_map_clear(&map);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_good_file_is_accepted),
        cmocka_unit_test(bad_magic_version_and_byte_order_are_told_apart),
        cmocka_unit_test(huge_counts_and_lengths_are_refused_before_allocating),
        cmocka_unit_test(unknown_types_of_values_are_refused),
        cmocka_unit_test(impossible_tensor_infos_are_refused),
        cmocka_unit_test(every_tensor_but_the_head_is_needed),
        cmocka_unit_test(every_hyperparameter_is_needed),
        cmocka_unit_test(wrong_values_are_refused),
        cmocka_unit_test(tensors_of_two_forms_are_refused),
        cmocka_unit_test(a_scale_of_nothing_is_none),
        cmocka_unit_test(impossible_alignments_are_refused),
        cmocka_unit_test(foreign_files_are_refused),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(flipped_bits_never_crash),
    };
    int failed = cmocka_run_group_tests(tests, setup, teardown);
    scratch_remove();
    return failed;
}
