/* lan_pace.c - see lan_pace.h. */
#include "net/lan_pace.h"

static uint64_t max64(uint64_t a, uint64_t b) { return a > b ? a : b; }
static uint64_t min64(uint64_t a, uint64_t b) { return a < b ? a : b; }

static uint64_t next_repeat(uint64_t now_ms, uint32_t random) {
    return now_ms + LAN_REPEAT_MS - LAN_REPEAT_MS / 4 + random % (LAN_REPEAT_MS / 2);
}

void lan_pace_init(struct lan_pace *pace, bool tells, uint64_t now_ms, uint32_t random) {
    *pace = (struct lan_pace){
        .tells = tells, .ask_ms = now_ms + random % LAN_START_MS, .answer_ms = LAN_NEVER, .repeat_ms = next_repeat(now_ms, random)};
}

void lan_pace_asked(struct lan_pace *pace, uint32_t n_known, uint64_t now_ms, uint32_t random) {
    if (!pace->tells || pace->answer_ms != LAN_NEVER) return;
    uint64_t spread = min64(LAN_ANSWER_SPREAD_MS + (uint64_t)n_known * LAN_ANSWER_NODE_MS, LAN_ANSWER_MAX_MS - LAN_ANSWER_MS);
    pace->answer_ms = now_ms + LAN_ANSWER_MS + random % spread;
    if (pace->told) pace->answer_ms = max64(pace->answer_ms, pace->told_ms + LAN_GAP_MS);
}

/* Whatever we send says where we are, when there is something to say. */
static enum lan_speech speak(struct lan_pace *pace, enum lan_speech speech, uint64_t now_ms) {
    pace->answer_ms = LAN_NEVER;
    pace->told = pace->tells;
    pace->told_ms = now_ms;
    return speech;
}

enum lan_speech lan_pace_next(struct lan_pace *pace, uint64_t now_ms, uint32_t random) {
    if (now_ms >= pace->ask_ms) {
        uint64_t gap = LAN_QUERY_GAP_MS;
        for (uint32_t i = 0; i < pace->n_asked; i++) gap *= 3;
        pace->n_asked++;
        pace->ask_ms = pace->n_asked < LAN_QUERIES ? now_ms + gap : LAN_NEVER;
        return speak(pace, LAN_QUESTION, now_ms);
    }
    if (now_ms >= pace->answer_ms) return speak(pace, LAN_ANSWER, now_ms);
    if (now_ms < pace->repeat_ms) return LAN_SILENCE;
    pace->repeat_ms = next_repeat(now_ms, random);
    bool lately = pace->told && now_ms - pace->told_ms < LAN_REPEAT_MS / 2;
    return pace->tells && !lately ? speak(pace, LAN_ANSWER, now_ms) : LAN_SILENCE;
}

uint64_t lan_pace_due(const struct lan_pace *pace) { return min64(pace->ask_ms, min64(pace->answer_ms, pace->repeat_ms)); }
