/* stream.c - text that becomes final while tokens come. See text.h.
 *
 *   raw bytes of the tokens -> [raw: a character that is not whole yet] -> [held: could be the start of a stop text] -> final
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/utf8.h"
#include "text/text.h"

#define STOPS_MAX 64
#define STOP_SIZE_MAX 4096
#define PIECE_MAX 4096 /* bytes of one token; real vocabularies stay below 300 */
#define REPLACEMENT "\xef\xbf\xbd"

struct stream {
    const struct vocab *vocab;
    size_t n_stops;
    char *stops[STOPS_MAX];
    char raw[PIECE_MAX + 4];
    size_t n_raw;
    char held[3 * PIECE_MAX + STOP_SIZE_MAX + 16]; /* a raw byte becomes at most three */
    size_t n_held, n_final; /* held[0, n_final) was given out by the last call */
};

enum corolla_status stream_new(struct stream **out, const struct vocab *vocab, const char *const *stops, size_t n_stops, struct corolla_error *err) {
    if (n_stops > STOPS_MAX) return err_set(err, COROLLA_INVALID, "%zu stop texts are more than %d", n_stops, STOPS_MAX);
    struct stream *s = calloc(1, sizeof *s);
    if (!s) return err_set(err, COROLLA_NOMEM, "out of memory");
    s->vocab = vocab;
    enum corolla_status status = COROLLA_OK;
    for (size_t i = 0; i < n_stops && !status; i++) {
        size_t size = strlen(stops[i]);
        if (size == 0 || size > STOP_SIZE_MAX)
            status = err_set(err, COROLLA_INVALID, "a stop text has 1 to %d bytes", STOP_SIZE_MAX);
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

/* Whether the bytes are the beginning of a character whose rest may still come. */
static bool incomplete(const char *bytes, size_t size) {
    unsigned char lead = (unsigned char)bytes[0];
    size_t need = lead >= 0xf0 && lead < 0xf5 ? 4 : lead >= 0xe0 && lead < 0xf0 ? 3 : lead >= 0xc2 && lead < 0xe0 ? 2 : 1;
    for (size_t i = 1; i < size; i++)
        if (((unsigned char)bytes[i] & 0xc0) != 0x80) return false;
    return size < need;
}

/* Moves whole characters from raw to held; what is no character becomes U+FFFD. all: nothing more will come. */
static void decode(struct stream *s, bool all) {
    size_t at = 0;
    while (at < s->n_raw) {
        unsigned code;
        size_t n = utf8_next(s->raw + at, s->n_raw - at, &code);
        if (n == 0 && !all && incomplete(s->raw + at, s->n_raw - at)) break;
        const char *text = n ? s->raw + at : REPLACEMENT;
        size_t size = n ? n : strlen(REPLACEMENT);
        memcpy(s->held + s->n_held, text, size);
        s->n_held += size;
        at += n ? n : 1;
    }
    memmove(s->raw, s->raw + at, s->n_raw - at);
    s->n_raw -= at;
}

/* The place of the first stop text in held; n_held when there is none. */
static size_t find_stop(const struct stream *s) {
    size_t first = s->n_held;
    for (size_t i = 0; i < s->n_stops; i++) {
        const char *found = memmem(s->held, s->n_held, s->stops[i], strlen(s->stops[i]));
        if (found && (size_t)(found - s->held) < first) first = (size_t)(found - s->held);
    }
    return first;
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
    size_t n = vocab_piece(s->vocab, token, s->raw + s->n_raw, PIECE_MAX - s->n_raw);
    if (n <= PIECE_MAX - s->n_raw) s->n_raw += n; /* a longer piece is none of a real vocabulary: dropped */
    decode(s, false);
    size_t stop = find_stop(s);
    bool stopped = stop < s->n_held;
    if (stopped) {
        s->n_held = stop;
        s->n_raw = 0;
    }
    s->n_final = stopped ? stop : settled(s);
    *out_text = s->held;
    *out_size = s->n_final;
    return stopped;
}

void stream_end(struct stream *s, const char **out_text, size_t *out_size) {
    drop_final(s);
    decode(s, true);
    s->n_final = s->n_held;
    *out_text = s->held;
    *out_size = s->n_final;
}
