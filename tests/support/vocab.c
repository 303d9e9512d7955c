/* vocab.c - see vocab.h. */
#include "vocab.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define SPACE "\xe2\x96\x81" /* U+2581, SentencePiece's space */

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, BYTE = 6 };

static const char chat_template[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' "
    "+ '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

static uint32_t add(struct tiny_vocab *v, const char *text, int32_t type) {
    assert(v->n < TINY_VOCAB_MAX && strlen(text) < TINY_PIECE_MAX);
    snprintf(v->text[v->n], TINY_PIECE_MAX, "%s", text);
    v->type[v->n] = type;
    v->score[v->n] = type == NORMAL ? -(float)v->n : 0.0f;
    return v->n++;
}

void tiny_vocab_spm(struct tiny_vocab *v) {
    static const char *const merged[] = {"th", "he", "in", "er", "an", SPACE "th", SPACE "the", "ing", SPACE "an"};
    char piece[TINY_PIECE_MAX];
    memset(v, 0, sizeof *v);
    v->unk = add(v, "<unk>", UNKNOWN);
    v->bos = add(v, "<s>", CONTROL);
    v->eos = add(v, "</s>", CONTROL);
    for (int byte = 0; byte < 256; byte++) {
        snprintf(piece, sizeof piece, "<0x%02X>", (unsigned)byte);
        add(v, piece, BYTE);
    }
    for (size_t i = 0; i < sizeof merged / sizeof *merged; i++) add(v, merged[i], NORMAL);
    for (char c = 'a'; c <= 'z'; c++) {
        snprintf(piece, sizeof piece, SPACE "%c", c);
        add(v, piece, NORMAL);
    }
    add(v, SPACE, NORMAL);
    for (char c = '!'; c <= '~'; c++) {
        snprintf(piece, sizeof piece, "%c", c);
        add(v, piece, NORMAL);
    }
    add(v, "<|im_start|>", CONTROL);
    add(v, "<|im_end|>", CONTROL);
}

/* GPT-2 writes a byte as a printable character: itself, or the next one from U+0100 on. */
static void bpe_byte(int byte, int *next, char out[TINY_PIECE_MAX]) {
    bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
    int code = printable ? byte : 256 + (*next)++;
    if (code < 128)
        snprintf(out, TINY_PIECE_MAX, "%c", (char)code);
    else
        snprintf(out, TINY_PIECE_MAX, "%c%c", (char)(0xC0 | code >> 6), (char)(0x80 | (code & 0x3F)));
}

static void merge(struct tiny_vocab *v, const char *left, const char *right) {
    char piece[TINY_PIECE_MAX];
    snprintf(piece, sizeof piece, "%s%s", left, right);
    add(v, piece, NORMAL);
    snprintf(v->merges[v->n_merges++], sizeof v->merges[0], "%s %s", left, right);
}

void tiny_vocab_bpe(struct tiny_vocab *v) {
    static const char g[] = "\xc4\xa0"; /* U+0120, a space */
    char piece[TINY_PIECE_MAX];
    int next = 0;
    memset(v, 0, sizeof *v);
    for (int byte = 0; byte < 256; byte++) {
        bpe_byte(byte, &next, piece);
        add(v, piece, NORMAL);
    }
    merge(v, g, "t");
    merge(v, "h", "e");
    merge(v, "\xc4\xa0t", "he");
    merge(v, "i", "n");
    merge(v, "e", "r");
    merge(v, g, "a");
    merge(v, "in", "g");
    v->eos = v->bos = add(v, "<|endoftext|>", CONTROL);
    add(v, "<|im_start|>", CONTROL);
    add(v, "<|im_end|>", CONTROL);
    v->unk = v->eos;
}

void tiny_vocab_write(const struct tiny_vocab *v, struct gguf_context *gguf) {
    bool bpe = v->n_merges > 0;
    const char *texts[TINY_VOCAB_MAX], *merges[TINY_VOCAB_MAX];
    for (uint32_t i = 0; i < v->n; i++) texts[i] = v->text[i];
    for (uint32_t i = 0; i < v->n_merges; i++) merges[i] = v->merges[i];
    gguf_set_val_str(gguf, "tokenizer.ggml.model", bpe ? "gpt2" : "llama");
    gguf_set_val_str(gguf, "tokenizer.ggml.pre", bpe ? "qwen2" : "default");
    gguf_set_arr_str(gguf, "tokenizer.ggml.tokens", texts, v->n);
    gguf_set_arr_data(gguf, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, v->type, v->n);
    if (bpe)
        gguf_set_arr_str(gguf, "tokenizer.ggml.merges", merges, v->n_merges);
    else
        gguf_set_arr_data(gguf, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, v->score, v->n);
    gguf_set_val_u32(gguf, "tokenizer.ggml.bos_token_id", v->bos);
    gguf_set_val_u32(gguf, "tokenizer.ggml.eos_token_id", v->eos);
    if (!bpe) gguf_set_val_u32(gguf, "tokenizer.ggml.unknown_token_id", v->unk);
    gguf_set_val_bool(gguf, "tokenizer.ggml.add_bos_token", !bpe);
    gguf_set_val_str(gguf, "tokenizer.chat_template", chat_template);
}
