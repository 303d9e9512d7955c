/* stream.c - text that becomes final while tokens come. See text.h.
 *
 *   raw bytes of the tokens -> [raw: a character that is not whole yet] -> [held: could be the start of a stop text] -> final
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "text/text.h"
#include "text/whole.h"

#define STOPS_MAX 64
#define STOP_SIZE_MAX 4096
#define PIECE_MAX 4096 /* bytes of one token; real vocabularies stay below 300 */

struct stream {
    const struct vocab *vocab;
    size_t n_stops;
    char *stops[STOPS_MAX];
    char raw[PIECE_MAX + 4];
    size_t n_raw;
    char held[3 * PIECE_MAX + STOP_SIZE_MAX + 16]; /* a raw byte becomes at most three */
    size_t n_held, n_final;                        /* held[0, n_final) was given out by the last call */
    bool stopped;
};

enum corolla_status stream_new(struct stream **out, const struct vocab *vocab, const char *const *stops, size_t n_stops,
                               struct corolla_error *err) {
    if (n_stops > STOPS_MAX) return err_set(err, COROLLA_INVALID, "%zu stop texts are more than %d", n_stops, STOPS_MAX);
    struct stream *s = calloc(1, sizeof *s);
    if (!s) return err_set(err, COROLLA_NOMEM, "out of memory");
    s->vocab = vocab;
    enum corolla_status status = COROLLA_OK;
    for (size_t i = 0; i < n_stops && !status; i++) {
        size_t size = strlen(stops[i]);
        if (size == 0 || size > STOP_SIZE_MAX || whole_prefix(stops[i], size) < size)
            status = err_set(err, COROLLA_INVALID, "a stop text has 1 to %d bytes and is UTF-8", STOP_SIZE_MAX);
        else if (!(s->stops[s->n_stops++] = strdup(stops[i])))
            status = err_set(err, COROLLA_NOMEM, "out of memory");
    }
    if (status)
        stream_free(s);
    else
        *out = s;
    return status;
}

void stream_free(struct stream *s) {
    if (!s) return;
    for (size_t i = 0; i < s->n_stops; i++) free(s->stops[i]);
    free(s);
}

/* Moves whole characters from raw to held; what is no character becomes U+FFFD. all: nothing more will come. */
static void decode(struct stream *s, bool all) {
    size_t used;
    s->n_held += whole_take(s->raw, s->n_raw, all, s->held + s->n_held, &used);
    memmove(s->raw, s->raw + used, s->n_raw - used);
    s->n_raw -= used;
}

/* The place of the stop text that is complete first, so that it does not matter how the text was cut into tokens; n_held when
 * there is none. */
static size_t find_stop(const struct stream *s) {
    size_t begin = s->n_held, end = SIZE_MAX;
    for (size_t i = 0; i < s->n_stops; i++) {
        const char *found = memmem(s->held, s->n_held, s->stops[i], strlen(s->stops[i]));
        if (!found) continue;
        size_t at = (size_t)(found - s->held), after = at + strlen(s->stops[i]);
        if (after > end || (after == end && at > begin)) continue;
        begin = at;
        end = after;
    }
    return begin;
}

/* How much of held cannot be the start of a stop text. */
static size_t settled(const struct stream *s) {
    for (size_t at = 0; at < s->n_held; at++)
        for (size_t i = 0; i < s->n_stops; i++)
            if (strlen(s->stops[i]) > s->n_held - at && memcmp(s->held + at, s->stops[i], s->n_held - at) == 0) return at;
    return s->n_held;
}

static void drop_final(struct stream *s) {
    memmove(s->held, s->held + s->n_final, s->n_held - s->n_final);
    s->n_held -= s->n_final;
    s->n_final = 0;
}

bool stream_push(struct stream *s, int32_t token, const char **out_text, size_t *out_size) {
    drop_final(s);
    *out_text = s->held;
    *out_size = 0;
    if (s->stopped) return true;
    size_t n = vocab_piece(s->vocab, token, s->raw + s->n_raw, PIECE_MAX - s->n_raw);
    if (n <= PIECE_MAX - s->n_raw) s->n_raw += n; /* a longer piece is none of a real vocabulary: dropped */
    decode(s, false);
    size_t stop = find_stop(s);
    s->stopped = stop < s->n_held;
    if (s->stopped) {
        s->n_held = stop;
        s->n_raw = 0;
    }
    s->n_final = s->stopped ? stop : settled(s);
    *out_size = s->n_final;
    return s->stopped;
}

void stream_end(struct stream *s, const char **out_text, size_t *out_size) {
    drop_final(s);
    decode(s, true);
    s->n_final = s->n_held;
    *out_text = s->held;
    *out_size = s->n_final;
}
