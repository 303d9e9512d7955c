/* text.h - tokens and text: vocabulary, chat templates, samplers, UTF-8 pieces. The only user of libllama, which reads the
 * vocabulary alone. One thread at a time per object. */
#ifndef COROLLA_TEXT_TEXT_H
#define COROLLA_TEXT_TEXT_H

#include <corolla.h>

struct vocab;

/* The file was checked before (src/model), since libllama trusts it. */
enum corolla_status vocab_open(struct vocab **out_vocab, const char *path, struct corolla_error *err);
void vocab_close(struct vocab *vocab);
uint32_t vocab_size(const struct vocab *vocab);
/* Also true of a number that is no token, so that a generation ends there. */
bool vocab_is_eog(const struct vocab *vocab, int32_t token);
/* Text that is not UTF-8 is refused. */
enum corolla_status vocab_tokenize(const struct vocab *vocab, const char *text, size_t size, bool add_special, bool parse_special,
                                   int32_t **out_tokens, size_t *out_count, struct corolla_error *err);
enum corolla_status vocab_detokenize(const struct vocab *vocab, const int32_t *tokens, size_t count, char **out_text,
                                     struct corolla_error *err);
/* The bytes of one token; they may end in the middle of a character. Writes at most max, returns the size needed. */
size_t vocab_piece(const struct vocab *vocab, int32_t token, char *out, size_t max);
/* tmpl: a name that libllama knows, or NULL for the model's own. */
enum corolla_status vocab_chat_format(const struct vocab *vocab, const char *tmpl, const struct corolla_chat_message *messages,
                                      size_t count, bool add_assistant, char **out_text, struct corolla_error *err);

struct sampler;
enum corolla_status sampler_new(struct sampler **out_sampler, const struct vocab *vocab, const struct corolla_sampling *params,
                                struct corolla_error *err);
void sampler_free(struct sampler *sampler);
/* Tokens of the prompt, for the repeat penalty. */
void sampler_accept_prompt(struct sampler *sampler, const int32_t *tokens, size_t count);
/* Picks from logits[n_vocab] and accepts it. Nothing is allocated. Where a grammar leaves no token, the end-of-generation token. */
int32_t sampler_sample(struct sampler *sampler, const float *logits);

/* Text that becomes final as tokens come: whole UTF-8 characters, held back while they could be the start of a stop text.
 * Bytes that are no UTF-8 become U+FFFD. */
struct stream;
enum corolla_status stream_new(struct stream **out_stream, const struct vocab *vocab, const char *const *stops, size_t n_stops,
                               struct corolla_error *err);
void stream_free(struct stream *stream);
/* Adds a token. *out_text (borrowed until the next call) is what became final; true when a stop text was met, which is cut off. */
bool stream_push(struct stream *stream, int32_t token, const char **out_text, size_t *out_size);
/* No more tokens: what is held back becomes final. */
void stream_end(struct stream *stream, const char **out_text, size_t *out_size);

#endif
