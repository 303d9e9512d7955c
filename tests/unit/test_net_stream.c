/* test_net_stream.c - the two halves of the streams of a link, joined by memory instead of a socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "net/receive.h"
#include "net/send.h"

#define MIB (1u << 20)

/* A sender and a receiver, with what the receiver got. */
struct pair {
    struct pool *pool;
    struct account *account;
    struct budget budget;
    struct streams out, in; /* out sends to in; credit goes back */
    struct receiver receiver;
    struct corolla_error err;
    unsigned messages, frames;
    uint32_t last_id;
    size_t last_body;
    uint8_t last_tag;  /* first byte of the header */
    struct body *kept; /* the bodies, when keep is set */
    bool keep;
    uint32_t slice; /* bytes that the receiver gets at a time; 0: all it wants */
    uint64_t now_us;
    uint32_t ids[4096]; /* of the messages, as they became complete */
    uint8_t tags[4096];
};

static void nothing(void *user) { (void)user; }

static void pair_open(struct pair *p, size_t link_max, size_t total_max) {
    memset(p, 0, sizeof(*p));
    p->pool = pool_new(nothing, NULL);
    p->account = account_new();
    p->budget = (struct budget){.pool = p->pool, .link_max = link_max, .total_max = total_max, .queued_max = 1024 * MIB};
    streams_init(&p->out, p->pool, p->account, &p->budget, 512 * MIB);
    streams_init(&p->in, p->pool, p->account, &p->budget, 512 * MIB);
    receive_init(&p->receiver, &p->in);
    p->receiver.greeted = true;
    p->now_us = 1000000;
}

static void release_kept(struct pair *p) {
    while (p->kept) {
        struct body *next = p->kept->next;
        pool_give(p->pool, p->kept);
        p->kept = next;
    }
}

static void pair_close(struct pair *p) {
    release_kept(p);
    streams_clear(&p->out);
    streams_clear(&p->in);
    assert_int_equal(account_held(p->account), 0);
    assert_int_equal(p->out.queued_bytes, 0);
    assert_int_equal(p->out.queued_small, 0);
    assert_int_equal(p->budget.queued, 0);
    assert_int_equal(p->in.loose, 0);
    assert_int_equal(p->in.granted, 0);
    assert_int_equal(p->budget.loose, 0);
    assert_int_equal(p->budget.granted, 0);
    assert_null(p->budget.first);
    account_release(p->account);
    pool_free(p->pool);
}

static uint8_t pattern(uint8_t tag, size_t i) { return (uint8_t)(tag + i * 13 + (i >> 10)); }

static enum corolla_status queue(struct pair *p, uint32_t id, enum link_priority priority, uint8_t tag, size_t size) {
    struct body *body = size > 0 ? pool_take(p->pool, NULL, size) : NULL;
    for (size_t i = 0; i < size; i++) body->data[i] = pattern(tag, i);
    return send_queue(&p->out, id, priority, MSG_STEP, &tag, 1, body);
}

static void got_message(struct pair *p) {
    struct receiver *r = &p->receiver;
    struct body *body = r->message.body;
    p->last_id = r->id;
    p->last_tag = r->message.header[0];
    p->last_body = body ? body->size : 0;
    for (size_t i = 0; i < p->last_body; i += i < 100 ? 1 : 997) assert_int_equal(body->data[i], pattern(p->last_tag, i));
    p->ids[p->messages % 4096] = r->id;
    p->tags[p->messages % 4096] = p->last_tag;
    p->messages++;
    if (p->keep && body) {
        body->next = p->kept;
        p->kept = body;
    } else {
        pool_give(p->pool, body);
    }
    pool_give(p->pool, r->header);
}

/* Feeds bytes as a link would. */
static enum corolla_status feed(struct pair *p, const uint8_t *data, size_t size) {
    p->receiver.now_us = p->now_us;
    while (size > 0) {
        uint8_t *at = NULL;
        enum receive_event event = RECEIVE_NOTHING;
        size_t n = receive_want(&p->receiver, &at);
        assert_true(n > 0);
        if (n > size) n = size;
        if (p->slice > 0 && n > p->slice) n = p->slice;
        memcpy(at, data, n);
        enum corolla_status status = receive_got(&p->receiver, n, &event, &p->err);
        if (status != COROLLA_OK) return status;
        if (event == RECEIVE_MESSAGE) got_message(p);
        data += n;
        size -= n;
    }
    return COROLLA_OK;
}

/* Moves one frame; false when there is none to send. */
static bool move_frame(struct pair *p, struct frame_header *out_frame) {
    static uint8_t bytes[FRAME_SIZE_MAX];
    struct send_frame f;
    if (!send_pick(&p->out, &f)) return false;
    frame_encode(&f.frame, bytes);
    if (f.part_size[0] > 0) memcpy(bytes + FRAME_HEADER_SIZE, f.part[0], f.part_size[0]);
    if (f.part_size[1] > 0) memcpy(bytes + FRAME_HEADER_SIZE + f.part_size[0], f.part[1], f.part_size[1]);
    if (out_frame) *out_frame = f.frame;
    send_sent(&f);
    p->frames++;
    if (feed(p, bytes, FRAME_HEADER_SIZE + f.frame.size) != COROLLA_OK) fail_msg("the receiver refuses: %s", p->err.message);
    return true;
}

static unsigned move_credit(struct pair *p) {
    uint32_t id, amount;
    unsigned n = 0;
    for (; receive_credit_next(&p->in, &id, &amount); n++) assert_int_equal(send_credit(&p->out, id, amount, NULL), COROLLA_OK);
    return n;
}

static void move_all(struct pair *p) {
    do {
        while (move_frame(p, NULL)) {
        }
    } while (move_credit(p) > 0);
}

static void credit_stops_a_stream_and_renewal_lets_it_go_on(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p, 96 * MIB, 96 * MIB);
    assert_int_equal(queue(&p, 1, LINK_BULK, 5, MIB), COROLLA_OK);
    size_t sent = 0;
    struct frame_header frame;
    while (move_frame(&p, &frame)) sent += frame.size;
    assert_in_range(sent, FRAME_CREDIT_INITIAL - SEND_FRAME_MIN, FRAME_CREDIT_INITIAL);
    assert_int_equal(p.messages, 0);
    assert_true(move_credit(&p) > 0);
    assert_true(move_frame(&p, &frame));
    move_all(&p);
    assert_int_equal(p.messages, 1);
    assert_int_equal(p.last_body, MIB);
    pair_close(&p);
}

static void urgent_messages_go_first_and_do_not_starve_bulk(void **state) {
    (void)state;
    struct pair p;
    struct frame_header frame;
    pair_open(&p, 96 * MIB, 96 * MIB);
    for (uint32_t i = 0; i < 3; i++) queue(&p, 1 + 2 * i, LINK_BULK, 1, 200000);
    assert_true(move_frame(&p, &frame));
    for (uint32_t i = 0; i < 40; i++) queue(&p, 101 + 2 * i, LINK_URGENT, 2, 1000);
    unsigned bulk = 0, until_first = 0;
    for (unsigned i = 0; i < 42; i++) {
        assert_true(move_frame(&p, &frame));
        if (frame.stream < 100) {
            bulk++;
            if (bulk == 1) until_first = i;
        }
    }
    assert_int_equal(bulk, 2); /* one in each run of SEND_URGENT_RUN */
    assert_int_equal(until_first, SEND_URGENT_RUN);
    move_all(&p);
    assert_int_equal(p.messages, 43);
    pair_close(&p);
}

static void streams_of_a_priority_take_turns(void **state) {
    (void)state;
    struct pair p;
    struct frame_header frame;
    pair_open(&p, 96 * MIB, 96 * MIB);
    for (uint32_t i = 0; i < 4; i++) queue(&p, 1 + 2 * i, LINK_BULK, 1, 150000);
    for (uint32_t i = 0; i < 8; i++) {
        assert_true(move_frame(&p, &frame));
        assert_int_equal(frame.stream, 1 + 2 * (i % 4));
    }
    move_all(&p);
    assert_int_equal(p.messages, 4);
    pair_close(&p);
}

static void near_peers_get_small_windows_while_urgent_messages_are_about(void **state) {
    (void)state;
    struct pair p;
    struct frame_header frame;
    size_t sent = 0;
    pair_open(&p, 96 * MIB, 96 * MIB);
    p.out.near = true;
    queue(&p, 1, LINK_URGENT, 1, 100);
    assert_true(move_frame(&p, &frame));
    for (uint32_t i = 1; i < 6; i++) queue(&p, 1 + 2 * i, LINK_BULK, 1, 4 * MIB);
    while (move_frame(&p, &frame)) sent += frame.size;
    assert_in_range(sent, SEND_NEAR_LARGE * (SEND_NEAR_WINDOW - SEND_FRAME_MIN), SEND_NEAR_LARGE * SEND_NEAR_WINDOW);
    move_all(&p);
    assert_int_equal(p.messages, 6);
    p.out.calm = SEND_CALM_FRAMES;
    sent = 0;
    queue(&p, 3, LINK_BULK, 1, 4 * MIB);
    while (move_frame(&p, &frame)) sent += frame.size;
    assert_in_range(sent, FRAME_CREDIT_INITIAL - SEND_FRAME_MIN - RECEIVE_RENEW, FRAME_CREDIT_INITIAL);
    move_all(&p);
    pair_close(&p);
}

static void half_sent_messages_stay_within_the_bounds(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p, 96 * MIB, 96 * MIB);
    for (uint32_t i = 0; i < 200; i++) queue(&p, 1 + 2 * i, i % 3 ? LINK_BULK : LINK_URGENT, (uint8_t)i, i % 2 ? 200000 : 100000);
    unsigned most = 0, most_large = 0;
    do {
        while (move_frame(&p, NULL)) { /* the receiver itself refuses what is over the bounds */
            if (p.in.n_incoming > most) most = p.in.n_incoming;
            if (p.in.n_incoming_large > most_large) most_large = p.in.n_incoming_large;
        }
    } while (move_credit(&p) > 0);
    assert_int_equal(p.messages, 200);
    assert_in_range(most_large, 8, STREAM_LARGE_MAX);
    assert_in_range(most, most_large, STREAM_PARTIAL_MAX);
    assert_int_equal(p.out.n_partial, 0);
    assert_int_equal(p.out.n_partial_large, 0);
    pair_close(&p);
}

static void idle_streams_become_fresh_again_and_leave_the_tables(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p, 96 * MIB, 96 * MIB);
    for (uint32_t i = 0; i < 100; i++) queue(&p, 1 + 2 * i, LINK_URGENT, 1, 1000);
    move_all(&p);
    assert_int_equal(p.out.n, 100);
    assert_int_equal(p.in.n, 100);
    for (int tick = 0; tick < 6; tick++) {
        streams_tick(&p.in);
        move_credit(&p);
        streams_tick(&p.out);
    }
    assert_int_equal(p.out.n, 0);
    assert_int_equal(p.in.n, 0);
    queue(&p, 1, LINK_URGENT, 1, 1000); /* and work as if nothing had been */
    move_all(&p);
    assert_int_equal(p.messages, 101);
    pair_close(&p);
}

static void a_crowded_table_gives_credit_back_at_once(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p, 96 * MIB, 96 * MIB);
    for (uint32_t i = 0; i < 20000; i++) { /* a new stream each time, and no tick in between */
        if (queue(&p, 1 + 2 * i, LINK_URGENT, 1, 10) != COROLLA_OK) fail_msg("no stream left after %u", i);
        move_all(&p);
        if (i % 200 == 0) streams_tick(&p.out);
    }
    assert_int_equal(p.messages, 20000);
    assert_in_range(p.in.n, 1, STREAM_TABLE_MAX);
    pair_close(&p);
}

static void the_queue_has_a_bound(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p, 96 * MIB, 96 * MIB);
    p.out.queued_bytes_max = 100000;
    assert_int_equal(queue(&p, 1, LINK_BULK, 1, 60000), COROLLA_OK);
    assert_int_equal(p.out.queued_bytes, 65536 + 1024); /* by the blocks, not by the bytes in them */
    assert_int_equal(queue(&p, 3, LINK_BULK, 1, 30000), COROLLA_NOMEM);
    assert_int_equal(queue(&p, 3, LINK_BULK, 1, 28000), COROLLA_OK);
    p.out.queued_bytes_max = 512 * MIB;
    enum corolla_status status = COROLLA_OK;
    uint32_t i = 0;
    for (; i < 5000 && status == COROLLA_OK; i++) status = queue(&p, 5 + 2 * i, LINK_BULK, 1, 0);
    assert_int_equal(status, COROLLA_NOMEM);
    assert_in_range(i, STREAM_SEND_MAX - 2, STREAM_SEND_MAX);
    assert_int_equal(queue(&p, 0, LINK_BULK, 1, 0), COROLLA_INVALID);
    pair_close(&p);
}

static void answers_that_are_not_taken_have_a_small_bound(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p, 96 * MIB, 96 * MIB);
    enum corolla_status status = COROLLA_OK;
    uint32_t n = 0;
    for (; n < 100000 && status == COROLLA_OK; n++) status = queue(&p, 1 + 2 * (n % 20), LINK_URGENT, 1, 0);
    assert_int_equal(status, COROLLA_BUSY);
    assert_int_equal(n, SEND_SMALL_MAX / 1024 + 1);
    assert_int_equal(p.out.queued_bytes, SEND_SMALL_MAX);
    assert_int_equal(queue(&p, 1, LINK_URGENT, 1, 10), COROLLA_OK); /* what has a body has the larger bound */
    move_all(&p);
    assert_int_equal(queue(&p, 1, LINK_URGENT, 1, 0), COROLLA_OK);
    pair_close(&p);
}

static void what_waits_to_be_sent_is_bounded_over_all_links(void **state) {
    (void)state;
    struct pair a, b;
    pair_open(&a, 96 * MIB, 96 * MIB);
    pair_open(&b, 96 * MIB, 96 * MIB);
    b.out.budget = &a.budget; /* one net, two links */
    a.budget.queued_max = 16 * MIB;
    unsigned n = 0;
    while (queue(&a, 1, LINK_BULK, 1, MIB) == COROLLA_OK) n++;
    assert_int_equal(n, 13); /* 14 MiB, less the blocks of the headers */
    assert_int_equal(queue(&a, 1, LINK_BULK, 1, 7 * MIB / 8), COROLLA_OK);
    assert_int_equal(queue(&b, 1, LINK_BULK, 1, 3 * MIB), COROLLA_NOMEM);
    assert_int_equal(queue(&b, 1, LINK_BULK, 1, MIB / 2), COROLLA_OK); /* a link with little in its queue passes */
    streams_clear(&b.out);
    move_all(&a);
    assert_int_equal(queue(&b, 1, LINK_BULK, 1, 3 * MIB), COROLLA_OK);
    pair_close(&b);
    pair_close(&a);
}

static void a_queue_that_stands_still_is_noticed_when_memory_is_short(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p, 96 * MIB, 96 * MIB);
    queue(&p, 1, LINK_BULK, 1, MIB);
    assert_false(send_stalled(&p.out, 1000000, 1000000));
    assert_false(send_stalled(&p.out, 9000000, 1000000)); /* there is memory for all */
    p.budget.queued_max = 2 * MIB;
    assert_true(send_stalled(&p.out, 9000000, 1000000));
    assert_true(move_frame(&p, NULL));
    assert_false(send_stalled(&p.out, 9000000, 1000000)); /* it moved */
    assert_false(send_stalled(&p.out, 9900000, 1000000));
    assert_true(send_stalled(&p.out, 10100000, 1000000));
    move_all(&p);
    assert_false(send_stalled(&p.out, 99000000, 1000000)); /* nothing waits */
    pair_close(&p);
}

static void a_body_that_is_passed_on_is_not_charged_as_received(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p, 96 * MIB, 96 * MIB);
    struct body *body = pool_take(p.pool, p.account, 100000);
    memset(body->data, 0, body->size);
    assert_true(account_held(p.account) > 0);
    assert_int_equal(send_queue(&p.out, 1, LINK_BULK, MSG_RESULT, NULL, 0, body), COROLLA_OK);
    assert_int_equal(account_held(p.account), 0);
    assert_int_equal(pool_held(p.pool), 0);
    pair_close(&p);
}

static void large_messages_wait_for_memory_in_turn(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p, 8 * MIB, 12 * MIB); /* 7 MiB of each for large ones, with 2 MiB left */
    p.keep = true;
    for (uint32_t i = 0; i < 4; i++) queue(&p, 1 + 2 * i, LINK_BULK, (uint8_t)i, 3 * MIB);
    move_all(&p);
    assert_int_equal(p.messages, 2);
    assert_int_equal(p.in.n_waiting, 2);
    assert_true(account_held(p.account) <= 7 * MIB + 600000);
    queue(&p, 51, LINK_URGENT, 9, 100000); /* small ones pass */
    move_all(&p);
    assert_int_equal(p.messages, 3);
    budget_grant(&p.budget);
    move_all(&p);
    assert_int_equal(p.messages, 3); /* nothing came back yet */
    release_kept(&p);
    budget_grant(&p.budget);
    move_all(&p);
    assert_int_equal(p.messages, 5);
    assert_int_equal(p.in.n_waiting, 0);
    pair_close(&p);
}

static void a_link_that_waits_does_not_hold_up_others(void **state) {
    (void)state;
    struct pair a, b;
    pair_open(&a, 8 * MIB, 64 * MIB);
    pair_open(&b, 8 * MIB, 64 * MIB);
    b.in.budget = &a.budget; /* one net, two links */
    a.keep = true;
    for (uint32_t i = 0; i < 3; i++) queue(&a, 1 + 2 * i, LINK_BULK, 1, 3 * MIB);
    move_all(&a);
    assert_int_equal(a.in.n_waiting, 1);
    queue(&b, 1, LINK_BULK, 1, 3 * MIB);
    move_all(&b);
    assert_int_equal(b.messages, 1);
    pair_close(&b);
    pair_close(&a);
}

/* The first bytes of a message, and part of it that never ends. */
static enum corolla_status claim(struct pair *p, uint32_t stream, uint32_t body_size, uint16_t bytes) {
    static uint8_t frame[FRAME_SIZE_MAX];
    memset(frame, 0, sizeof(frame));
    frame_encode(&(struct frame_header){FRAME_DATA, FRAME_FIRST, bytes, stream}, frame);
    frame_preamble_encode(&(struct frame_preamble){MSG_STEP, 0, body_size}, frame + FRAME_HEADER_SIZE);
    return feed(p, frame, FRAME_HEADER_SIZE + (size_t)bytes);
}

static void count(void *user) { ++*(unsigned *)user; }

static void half_sent_messages_crowd_the_budget_before_they_fill_it(void **state) {
    (void)state;
    enum { LINKS = 12 };
    static struct pair pairs[LINKS];
    unsigned waits = 0, links = 0;
    for (; links < LINKS && (links == 0 || budget_crowd(&pairs[0].budget) == 0); links++) {
        struct pair *p = &pairs[links];
        pair_open(p, 96 * MIB, 256 * MIB);
        if (links > 0) {
            pool_free(p->pool);
            p->in.pool = p->out.pool = p->pool = pairs[0].pool; /* one net, many links */
            p->in.budget = &pairs[0].budget;
        }
        for (uint32_t s = 0; s < 30; s++) assert_int_equal(claim(p, 1 + 2 * s, 120000, 100), COROLLA_OK);
        assert_int_equal(p->in.loose, 30 * (1024 + 131072));
        if (links == 0) pairs[0].budget.on_wait = count, pairs[0].budget.user = &waits;
    }
    assert_int_equal(links, 9); /* an eighth of 256 MiB */
    assert_true(waits > 0);     /* the net is told */
    assert_true(pool_held(pairs[0].pool) < 64 * MIB);
    for (unsigned i = links; i-- > 0;) {
        streams_clear(&pairs[i].in);
        streams_clear(&pairs[i].out);
        account_release(pairs[i].account);
    }
    assert_int_equal(pairs[0].budget.loose, 0);
    pool_free(pairs[0].pool);
}

/* A link over its budget is not read, so what is half-sent alone must not lead there. */
static void half_sent_messages_alone_do_not_fill_a_link(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p, RECEIVE_LINK_MIN, 512 * MIB);
    assert_int_equal(claim(&p, 1, 33 * MIB, 1000), COROLLA_OK); /* a block of 40 MiB */
    assert_int_equal(claim(&p, 3, 46000000, 1000), COROLLA_OK); /* and one of 48: over 84 */
    assert_int_equal(p.in.n_waiting, 1);
    for (uint32_t s = 2; s < 16; s++) assert_int_equal(claim(&p, 1 + 2 * s, MIB, 1000), COROLLA_OK);
    for (uint32_t s = 16; s < 64; s++) assert_int_equal(claim(&p, 1 + 2 * s, 115000, 1000), COROLLA_OK);
    assert_false(budget_over_link(&p.budget, p.account));
    assert_int_equal(account_held(p.account), p.in.loose + p.in.granted);
    pair_close(&p);
}

static void a_large_claim_must_be_brought_in_a_bounded_time(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p, 96 * MIB, 512 * MIB);
    assert_int_equal(claim(&p, 1, 64 * MIB, 1000), COROLLA_OK);
    static uint8_t frame[FRAME_HEADER_SIZE + 20000];
    frame_encode(&(struct frame_header){FRAME_DATA, 0, 20000, 1}, frame);
    for (int i = 1; i < 4; i++) { /* 20 KB now and then is not enough of 64 MiB */
        assert_int_equal(receive_stalled(&p.receiver, p.now_us + (uint64_t)i * 400000, 1000000), i == 3);
        assert_int_equal(feed(&p, frame, sizeof(frame)), COROLLA_OK);
    }
    pair_close(&p);
}

static void the_budget_knows_when_half_sent_messages_hold_what_others_wait_for(void **state) {
    (void)state;
    struct pair p;
    pair_open(&p, 96 * MIB, 96 * MIB); /* 72 MiB for large ones */
    assert_int_equal(claim(&p, 1, 40 * MIB, 1000), COROLLA_OK);
    assert_false(budget_hogged(&p.budget));
    assert_int_equal(claim(&p, 3, 40 * MIB, 1000), COROLLA_OK);
    assert_true(budget_hogged(&p.budget));
    assert_false(budget_grant(&p.budget));
    receive_drop(stream_find(&p.in, 1));
    assert_true(budget_grant(&p.budget));
    assert_false(budget_hogged(&p.budget));
    pair_close(&p);
}

static void messages_without_progress_are_noticed(void **state) {
    (void)state;
    struct pair p;
    struct frame_header frame;
    pair_open(&p, 96 * MIB, 96 * MIB);
    queue(&p, 1, LINK_BULK, 1, MIB);
    assert_true(move_frame(&p, &frame));
    assert_false(receive_stalled(&p.receiver, p.now_us + 900000, 1000000));
    p.now_us += 900000;
    assert_true(move_frame(&p, &frame));
    assert_false(receive_stalled(&p.receiver, p.now_us + 900000, 1000000)); /* it moved */
    assert_true(receive_stalled(&p.receiver, p.now_us + 2000000, 1000000));
    receive_rest(&p.receiver, 2000000);
    assert_false(receive_stalled(&p.receiver, p.now_us + 2900000, 1000000));
    move_all(&p);
    assert_false(receive_stalled(&p.receiver, p.now_us + 99000000, 1000000)); /* nothing is under way */
    assert_int_equal(feed(&p, (const uint8_t *)"\x04", 1), COROLLA_OK);       /* a frame that begins */
    assert_true(receive_stalled(&p.receiver, p.now_us + 1100000, 1000000));
    pair_close(&p);
}

static uint32_t random_state;
static uint32_t rnd(uint32_t below) {
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)(random_state >> 4) * below) >> 28);
}

static size_t random_size(void) {
    static const size_t edges[] = {0, 1, 16383, 65519, 65520, 65528, 131072 - 9, 131072 - 8, 262144};
    switch (rnd(4)) {
    case 0: return edges[rnd(ARRAY_SIZE(edges))];
    case 1: return rnd(2000);
    case 2: return rnd(200000);
    default: return rnd(3 * MIB);
    }
}

/* Whatever the order of events, each stream's messages come whole and in order, and nothing is refused. */
static void random_traffic_arrives_in_order(void **state) {
    (void)state;
    for (uint32_t seed = 1; seed <= 12; seed++) {
        struct pair p;
        unsigned queued = 0;
        uint8_t next_out[8] = {0}, next_in[8] = {0};
        random_state = seed * 7919;
        pair_open(&p, 8 * MIB, 12 * MIB);
        p.out.near = seed % 2;
        for (int step = 0; step < 1500; step++) {
            p.slice = rnd(3) ? 0 : 1 + rnd(40000);
            p.keep = rnd(20) == 0;
            switch (rnd(8)) {
            case 0:
            case 1: {
                uint32_t s = rnd(8);
                if (queue(&p, 1 + s, rnd(3) ? LINK_BULK : LINK_URGENT, next_out[s], random_size()) == COROLLA_OK) {
                    next_out[s]++;
                    queued++;
                }
                break;
            }
            case 2: move_credit(&p); break;
            case 3: release_kept(&p); break;
            case 4: budget_grant(&p.budget); break;
            case 5: streams_tick(rnd(2) ? &p.in : &p.out); break;
            default: move_frame(&p, NULL); break;
            }
        }
        p.keep = false;
        for (int i = 0; i < 200 && p.messages < queued; i++) {
            release_kept(&p);
            budget_grant(&p.budget);
            move_all(&p);
        }
        if (p.messages != queued) fail_msg("seed %u: %u of %u messages", seed, p.messages, queued);
        for (unsigned i = 0; i < queued; i++) assert_int_equal(p.tags[i], next_in[p.ids[i] - 1]++);
        pair_close(&p);
    }
}

/* ---- bodies ---------------------------------------------------------------------------------------------------- */

static void a_pool_at_rest_keeps_nothing(void **state) {
    (void)state;
    struct pool *pool = pool_new(nothing, NULL);
    pool_give(pool, pool_take(pool, NULL, 5000));
    pool_trim(pool);
    assert_true(pool_cached(pool) >= 5000); /* it was of use a moment ago */
    pool_trim(pool);
    assert_int_equal(pool_cached(pool), 0);
    pool_give(pool, pool_take(pool, NULL, 5000));
    pool_free(pool);
}

static void blocks_are_reused_and_aligned(void **state) {
    (void)state;
    struct pool *pool = pool_new(nothing, NULL);
    struct body *a = pool_take(pool, NULL, 5000);
    assert_int_equal((uintptr_t)a->data % 64, 0);
    pool_give(pool, a);
    struct body *b = pool_take(pool, NULL, 5100); /* the same class */
    assert_ptr_equal(a, b);
    assert_int_equal(b->size, 5100);
    pool_give(pool, b);
    assert_null(pool_take(pool, NULL, (size_t)MSG_BODY_MAX + 1));
    assert_null(pool_take(pool, NULL, SIZE_MAX));
    for (size_t size = 0; size < 70000; size += 7) {
        struct body *c = pool_take(pool, NULL, size);
        assert_true(body_capacity(c) >= size && body_capacity(c) <= (size < 1024 ? 1024 : size + size / 4 + 1));
        pool_give(pool, c);
    }
    b = pool_take(pool, NULL, MSG_BODY_MAX);
    assert_int_equal(body_capacity(b), MSG_BODY_MAX);
    pool_give(pool, b);
    pool_give(pool, NULL);
    pool_free(pool);
}

static void what_waits_for_reuse_is_bounded(void **state) {
    (void)state;
    struct pool *pool = pool_new(nothing, NULL);
    struct body *all[100];
    for (int i = 0; i < 100; i++) all[i] = pool_take(pool, NULL, MIB);
    for (int i = 0; i < 100; i++) {
        pool_give(pool, all[i]);
        assert_true(pool_cached(pool) <= BODY_CACHED_MAX);
    }
    pool_free(pool);
}

static void accounts_know_what_is_held_even_after_their_link(void **state) {
    (void)state;
    unsigned returned = 0;
    struct pool *pool = pool_new(count, &returned);
    struct account *account = account_new();
    struct body *a = pool_take(pool, account, 1000), *b = pool_take(pool, account, 2048), *c = pool_take(pool, NULL, 9999);
    assert_int_equal(account_held(account), 1024 + 2048);
    assert_int_equal(pool_held(pool), 1024 + 2048);
    pool_give(pool, a);
    assert_int_equal(account_held(account), 2048);
    assert_int_equal(returned, 0);
    pool_watch(pool, true);
    account_release(account); /* the link is gone, its body is not */
    pool_give(pool, c);
    assert_int_equal(returned, 0);
    pool_give(pool, b);
    assert_int_equal(returned, 1);
    assert_int_equal(pool_held(pool), 0);
    pool_free(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(credit_stops_a_stream_and_renewal_lets_it_go_on),
        cmocka_unit_test(urgent_messages_go_first_and_do_not_starve_bulk),
        cmocka_unit_test(streams_of_a_priority_take_turns),
        cmocka_unit_test(near_peers_get_small_windows_while_urgent_messages_are_about),
        cmocka_unit_test(half_sent_messages_stay_within_the_bounds),
        cmocka_unit_test(idle_streams_become_fresh_again_and_leave_the_tables),
        cmocka_unit_test(a_crowded_table_gives_credit_back_at_once),
        cmocka_unit_test(the_queue_has_a_bound),
        cmocka_unit_test(answers_that_are_not_taken_have_a_small_bound),
        cmocka_unit_test(what_waits_to_be_sent_is_bounded_over_all_links),
        cmocka_unit_test(a_queue_that_stands_still_is_noticed_when_memory_is_short),
        cmocka_unit_test(a_body_that_is_passed_on_is_not_charged_as_received),
        cmocka_unit_test(large_messages_wait_for_memory_in_turn),
        cmocka_unit_test(a_link_that_waits_does_not_hold_up_others),
        cmocka_unit_test(half_sent_messages_crowd_the_budget_before_they_fill_it),
        cmocka_unit_test(half_sent_messages_alone_do_not_fill_a_link),
        cmocka_unit_test(a_large_claim_must_be_brought_in_a_bounded_time),
        cmocka_unit_test(the_budget_knows_when_half_sent_messages_hold_what_others_wait_for),
        cmocka_unit_test(messages_without_progress_are_noticed),
        cmocka_unit_test(random_traffic_arrives_in_order),
        cmocka_unit_test(a_pool_at_rest_keeps_nothing),
        cmocka_unit_test(blocks_are_reused_and_aligned),
        cmocka_unit_test(what_waits_for_reuse_is_bounded),
        cmocka_unit_test(accounts_know_what_is_held_even_after_their_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
