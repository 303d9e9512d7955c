/* fuzz_receive.c - what an authenticated peer sends, from frame to message: bounds, budget, and that nothing is left behind.
 *
 * The first byte chooses how the bytes are sliced and whether messages are kept; the rest is the stream of frames. Bodies beyond
 * the input are of zeros, so that short inputs reach the end of large messages.
 */
#include <stdlib.h>
#include <string.h>

#include "net/receive.h"
#include "net/send.h"

#define LINK_MAX (1u << 20)
#define ZEROS_MAX (3u << 20) /* fed behind the input */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok) {
    if (!ok) abort();
}

static void nothing(void *user) { (void)user; }

struct run {
    struct pool *pool;
    struct account *account;
    struct budget budget;
    struct streams streams;
    struct receiver receiver;
    struct body *kept;
    bool keep;
};

static void take_event(struct run *run, enum receive_event event) {
    struct receiver *r = &run->receiver;
    if (event == RECEIVE_CONTROL && r->frame.type == FRAME_CREDIT) (void)send_credit(&run->streams, r->frame.stream, 1, NULL);
    if (event != RECEIVE_MESSAGE) return;
    must(r->message.header_size <= MSG_HEADER_MAX && r->id != 0);
    if (r->message.body && run->keep) {
        r->message.body->next = run->kept;
        run->kept = r->message.body;
    } else {
        pool_give(run->pool, r->message.body);
    }
    pool_give(run->pool, r->header);
}

static void give_back(struct run *run) {
    while (run->kept) {
        struct body *next = run->kept->next;
        pool_give(run->pool, run->kept);
        run->kept = next;
    }
    budget_grant(&run->budget);
}

static bool feed(struct run *run, const uint8_t *data, size_t size, size_t slice) {
    struct corolla_error err;
    uint32_t id, amount;
    for (size_t n; size > 0; size -= n) {
        uint8_t *at = NULL;
        enum receive_event event = RECEIVE_NOTHING;
        n = receive_want(&run->receiver, &at);
        must(n > 0);
        n = n > size ? size : n;
        n = n > slice ? slice : n;
        if (data) {
            memcpy(at, data, n);
            data += n;
        } else {
            memset(at, 0, n);
        }
        if (receive_got(&run->receiver, n, &event, &err) != COROLLA_OK) return false;
        take_event(run, event);
        /* a header of 24 KiB and the first bytes of a message may stand on every half-sent one beside what the budget allows */
        must(account_held(run->account) <= LINK_MAX + STREAM_PARTIAL_MAX * (size_t)(STREAM_LARGE + MSG_HEADER_MAX) * 2);
        must(run->kept || account_held(run->account) == run->budget.loose + run->budget.granted);
        while (receive_credit_next(&run->streams, &id, &amount)) must(id != 0 && amount > 0 && amount <= FRAME_CREDIT_INITIAL);
        if (budget_over_link(&run->budget, run->account)) give_back(run);
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct run run;
    if (size < 1) return 0;
    memset(&run, 0, sizeof(run));
    run.pool = pool_new(nothing, NULL);
    run.account = account_new();
    must(run.pool && run.account);
    run.budget = (struct budget){.pool = run.pool, .link_max = LINK_MAX, .total_max = 2 * LINK_MAX};
    streams_init(&run.streams, run.pool, run.account, &run.budget, LINK_MAX);
    receive_init(&run.receiver, &run.streams);
    run.receiver.greeted = !(data[0] & 1);
    run.keep = data[0] & 2;
    size_t slice = data[0] & 4 ? 1 + (data[0] >> 3) : SIZE_MAX;
    if (feed(&run, data + 1, size - 1, slice)) {
        streams_tick(&run.streams);
        (void)receive_stalled(&run.receiver, 5000000, 1000000);
        if (run.receiver.left > 0) feed(&run, NULL, run.receiver.left < ZEROS_MAX ? run.receiver.left : ZEROS_MAX, SIZE_MAX);
    }
    give_back(&run);
    streams_clear(&run.streams);
    must(account_held(run.account) == 0 && run.budget.loose == 0 && run.budget.granted == 0 && run.budget.first == NULL);
    account_release(run.account);
    pool_free(run.pool);
    return 0;
}
