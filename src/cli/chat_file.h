/* chat_file.h - a chat on the disk: what its next answers depend on, as JSON that people can read.
 *
 *   "format"    "corolla chat", and "version" 1
 *   "model"     its id, by which it is known again, and its name
 *   "settings"  the flags of the command line that change an answer, by their names
 *   "grammar"   the text of the grammar, or null
 *   "turns"     how many answers there were; an answer's seed comes from it (chat.c)
 *   "messages"  as a chat template takes them: maybe a system message, then questions and answers by turns
 *   "tokens"    what the session has computed: from them the KV cache is built again
 *
 * How an answer is computed (servers, types, threads) is not part of a chat. A file is only ever replaced as a whole.
 */
#ifndef COROLLA_CLI_CHAT_FILE_H
#define COROLLA_CLI_CHAT_FILE_H

#include <jansson.h>

#include "cli/history.h"
#include "cli/options.h"

/* What a chat has come to. Starts as zeros. */
struct chat_state {
    uint32_t turns;
    struct history history;
    int32_t *tokens; /* owned */
    size_t n_tokens;
    char *grammar; /* owned; or NULL */
    json_t *file;  /* that it was read from: owns the texts of settings; or NULL */
};
void chat_state_release(struct chat_state *state);

/* Reads a chat of this model and sets the options that the command line did not; those that it set otherwise are told on stderr.
 * On failure *out is untouched, but options may be set. FORMAT, UNSUPPORTED or MODEL_MISMATCH tell what is wrong with the file. */
enum corolla_status chat_file_read(struct chat_state *out, const char *path, const struct corolla_model_info *model,
                                   const struct options *options, struct corolla_error *err);
/* Tells on stderr that the command line changed what was saved. */
void chat_file_tell(const char *flag);
/* Replaces the file. On failure it is as it was. */
enum corolla_status chat_file_write(const struct chat_state *state, const char *path, const struct corolla_model_info *model,
                                    const struct options *options, struct corolla_error *err);
/* REFUSED when a write would destroy something: all that is there, unless it is empty or the file `own` (or NULL). */
enum corolla_status chat_file_may_write(const char *path, const char *own, struct corolla_error *err);

#endif
