/* vocab.h - what the files of src/text share of a vocabulary. */
#ifndef COROLLA_TEXT_VOCAB_H
#define COROLLA_TEXT_VOCAB_H

#include "text/text.h"

struct llama_vocab;

const struct llama_vocab *vocab_llama(const struct vocab *vocab);
/* The Jinja source in the file; NULL when there is none. */
const char *vocab_chat_template(const struct vocab *vocab);

#endif
