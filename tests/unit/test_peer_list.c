/* test_peer_list.c - remembered peers: scores, order, text, and merging with what other processes wrote. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mesh/peer_list.h"
#include "support/samples.h"

static struct peer_list list, other; /* too large for the stack */
static char text[PEER_TEXT_MAX], again[PEER_TEXT_MAX];

static int empty(void **state) {
    (void)state;
    memset(&list, 0, sizeof(list));
    memset(&other, 0, sizeof(other));
    return 0;
}

/* The node of a number, which its address shows. */
static struct node_ref node_of(unsigned number) {
    struct node_ref node = {.n_addrs = 1, .id.instance = number};
    snprintf(node.addrs[0], ADDR_MAX, "10.0.%u.%u:31330", number / 256, number % 256);
    return node;
}
static void linked(struct peer_list *to, unsigned number, int times) {
    struct node_ref node = node_of(number);
    for (int i = 0; i < times; i++) peer_list_linked(to, &node, NULL);
}
static void heard(struct peer_list *to, unsigned number) {
    struct node_ref node = node_of(number);
    peer_list_heard(to, &node, NULL);
}
static void failed(struct peer_list *to, unsigned number, int times) {
    struct node_ref node = node_of(number);
    for (int i = 0; i < times; i++) peer_list_failed(to, &node.id);
}
/* The score of a node, 0 when it is not there. */
static unsigned score_of(const struct peer_list *from, unsigned number) {
    for (uint32_t i = 0; i < from->n; i++) {
        if (from->peers[i].ref.id.instance == number) return from->peers[i].score;
    }
    return 0;
}
static void file_of(const struct peer_list *from, struct peer_list *to) {
    assert_true(peer_list_parse(text, peer_list_format(from, text), to));
}

static void scores_rise_with_links_and_fall_with_failures_until_a_peer_is_forgotten(void **state) {
    (void)state;
    heard(&list, 1);
    assert_int_equal(score_of(&list, 1), PEER_SCORE_NEW);
    linked(&list, 1, 1);
    assert_int_equal(score_of(&list, 1), 33);
    linked(&list, 1, 50);
    assert_int_equal(score_of(&list, 1), PEER_SCORE_MAX);
    failed(&list, 1, 1);
    assert_int_equal(score_of(&list, 1), 75);
    assert_int_equal(peer_list_count(&list), 1);
    failed(&list, 1, 20);
    assert_int_equal(peer_list_count(&list), 0);
    failed(&list, 2, 1); /* nobody */
    heard(&list, 1);     /* back again */
    assert_int_equal(score_of(&list, 1), PEER_SCORE_NEW);
}

static void the_best_come_first_and_the_last_heard_of_among_equals(void **state) {
    (void)state;
    heard(&list, 1);
    heard(&list, 2);
    linked(&list, 3, 1);
    heard(&list, 1);
    static const unsigned order[] = {3, 1, 2};
    for (unsigned i = 0; i < 3; i++) assert_int_equal(list.peers[i].ref.id.instance, order[i]);
}

static void a_full_list_drops_the_worst_and_oldest(void **state) {
    (void)state;
    for (unsigned i = 0; i < PEER_LIST_MAX; i++) linked(&list, i, i == 7 ? 1 : 2);
    heard(&list, 1000); /* worse than all: it takes the place of nobody ... */
    assert_int_equal(score_of(&list, 1000), 0);
    linked(&list, 1000, 1); /* ... and after one link it is as bad as the worst, and newer */
    assert_int_equal(list.n, PEER_LIST_MAX);
    assert_int_equal(score_of(&list, 7), 0);
    assert_int_equal(score_of(&list, 1000), 33);
    linked(&list, 1001, 1);
    assert_int_equal(score_of(&list, 1000), 0);
    assert_int_equal(score_of(&list, 0), 50);
}

static void addresses_that_mean_nothing_elsewhere_are_left_out(void **state) {
    (void)state;
    struct node_ref node = {.n_addrs = 2, .addrs = {"[fe80::1%eth0]:5", "192.0.2.1:5"}};
    peer_list_linked(&list, &node, NULL);
    assert_int_equal(list.peers[0].ref.n_addrs, 1);
    assert_string_equal(list.peers[0].ref.addrs[0], "192.0.2.1:5");
    node.n_addrs = 1;
    peer_list_linked(&list, &node, NULL); /* what was known before is kept */
    assert_string_equal(list.peers[0].ref.addrs[0], "192.0.2.1:5");
    node.id.instance = 9;
    peer_list_linked(&list, &node, NULL);
    assert_int_equal(list.n, 1);
}

static void a_list_goes_to_text_and_back(void **state) {
    (void)state;
    uint8_t model[ID_SIZE];
    sample_bytes(model, sizeof(model), 3);
    for (unsigned i = 0; i < PEER_LIST_MAX + 10; i++) {
        struct node_ref node = sample_node_ref(i, i % 2 ? SAMPLE_LARGEST : SAMPLE_USUAL);
        node.id.instance = UINT32_MAX - i;
        for (unsigned n = 0; n <= i % 5; n++) peer_list_linked(&list, &node, i % 3 ? model : NULL);
    }
    size_t size = peer_list_format(&list, text);
    assert_true(size < PEER_TEXT_MAX);
    assert_true(peer_list_parse(text, size, &other));
    assert_int_equal(other.n, PEER_LIST_MAX);
    assert_int_equal(peer_list_format(&other, again), size);
    assert_string_equal(text, again);
    assert_false(peer_list_dirty(&other));
}

#define ID "00000000000000000000000000000000000000000000000000000000000000ff"
static void text_of_the_past_is_still_read(void **state) {
    (void)state;
    static const char past[] = "corolla peers 1\n87 " ID "/3 " ID " 192.0.2.7:31330 [2001:db8::17]:31330\n1 " ID " - host:1\n";
    assert_true(peer_list_parse(past, sizeof(past) - 1, &list));
    assert_int_equal(list.n, 2);
    assert_int_equal(list.peers[0].score, 87);
    assert_int_equal(list.peers[0].ref.id.instance, 3);
    assert_int_equal(list.peers[0].ref.id.key[31], 255);
    assert_true(list.peers[0].has_model && !list.peers[1].has_model);
    assert_string_equal(list.peers[0].ref.addrs[1], "[2001:db8::17]:31330");
    peer_list_format(&list, text);
    assert_string_equal(text, past);
}

static void text_that_makes_no_sense_is_refused(void **state) {
    (void)state;
    static const char *const lines[] = {"",
                                        " ",
                                        "5 " ID " -",
                                        "5 " ID " - ",
                                        "5  " ID " - host:1",
                                        "0 " ID " - host:1",
                                        "101 " ID " - host:1",
                                        "-5 " ID " - host:1",
                                        "05 " ID " - host:1",
                                        "5x " ID " - host:1",
                                        "99999999999999999999 " ID " - host:1",
                                        "5 " ID "0 - host:1",
                                        "5 " ID "/ - host:1",
                                        "5 " ID "/0 - host:1",
                                        "5 " ID "/4294967296 - host:1",
                                        "5 abc - host:1",
                                        "5 " ID " abc host:1",
                                        "5 " ID " - host",
                                        "5 " ID " - [fe80::1%eth0]:1",
                                        "5 " ID " - h:1 h:2 h:3 h:4 h:5",
                                        "5 " ID " - h:1\r",
                                        "5 " ID " - h:1\n6 " ID " - h:2"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        int size = snprintf(text, sizeof(text), "corolla peers 1\n%s\n", lines[i]);
        if (peer_list_parse(text, (size_t)size, &list)) fail_msg("\"%s\" was taken", lines[i]);
    }
    assert_false(peer_list_parse("", 0, &list));
    assert_false(peer_list_parse("corolla peers 2\n", 16, &list));
    assert_false(peer_list_parse("corolla peers 1", 15, &list));
    assert_true(peer_list_parse("corolla peers 1\n", 16, &list));
    memset(text, 'x', sizeof(text)); /* a line without end */
    assert_false(peer_list_parse(text, sizeof(text), &list));
    memset(text, 0, sizeof(text));
    assert_false(peer_list_parse(text, sizeof(text), &list));
}

static void two_processes_both_keep_what_the_other_learned(void **state) {
    (void)state;
    linked(&list, 1, 2); /* 50 */
    linked(&list, 2, 2);
    peer_list_saved(&list);
    file_of(&list, &other); /* the other process starts here */
    linked(&other, 1, 1);   /* 63 */
    linked(&other, 3, 1);
    failed(&list, 1, 1); /* 37 */
    linked(&list, 4, 1);

    static struct peer_list file;
    file_of(&list, &file); /* one saves into an empty folder, the other merges */
    peer_list_merge(&file, &other);
    assert_int_equal(score_of(&file, 1), 37 + 13);
    assert_int_equal(score_of(&file, 2), 50);
    assert_int_equal(score_of(&file, 3), 33);
    assert_int_equal(score_of(&file, 4), 33);
    assert_true(peer_list_dirty(&file));
    peer_list_merge(&file, &(struct peer_list){0});
    assert_int_equal(file.n, 4);
}

static void who_was_forgotten_is_deleted_from_the_file(void **state) {
    (void)state;
    heard(&list, 1);
    heard(&list, 2);
    peer_list_saved(&list);
    file_of(&list, &other);
    failed(&list, 1, 20);
    peer_list_merge(&other, &list);
    assert_int_equal(peer_list_count(&other), 1);
    file_of(&other, &list);
    assert_int_equal(score_of(&list, 1), 0);
}

static void what_others_deleted_comes_back_only_by_a_link(void **state) {
    (void)state;
    linked(&list, 1, 3);
    linked(&list, 2, 3);
    peer_list_saved(&list);
    failed(&list, 1, 1);
    linked(&list, 2, 1);
    peer_list_merge(&other, &list); /* an empty file */
    assert_int_equal(score_of(&other, 1), 0);
    assert_int_equal(score_of(&other, 2), score_of(&list, 2));
}

static void new_addresses_win_over_those_in_the_file(void **state) {
    (void)state;
    struct node_ref moved = node_of(1);
    linked(&list, 1, 1);
    peer_list_saved(&list);
    file_of(&list, &other);
    strcpy(moved.addrs[0], "192.0.2.9:1");
    peer_list_heard(&list, &moved, NULL);
    assert_true(peer_list_dirty(&list));
    peer_list_merge(&other, &list);
    assert_string_equal(other.peers[0].ref.addrs[0], "192.0.2.9:1");
    linked(&list, 2, 1); /* and old ones do not come back with a new score */
    peer_list_saved(&other);
    file_of(&other, &list);
    static struct peer_list late;
    linked(&late, 1, 1);
    peer_list_saved(&late);
    linked(&late, 1, 1);
    late.peers[0].changed = false;
    peer_list_merge(&list, &late);
    assert_string_equal(list.peers[0].ref.addrs[0], "192.0.2.9:1");
}

static void a_failed_save_is_tried_again_with_all_of_it(void **state) {
    (void)state;
    linked(&list, 1, 1);
    other = list;
    peer_list_saved(&list);
    assert_false(peer_list_dirty(&list));
    peer_list_unsaved(&list, &other);
    assert_true(peer_list_dirty(&list));
    memset(&other, 0, sizeof(other));
    peer_list_merge(&other, &list);
    assert_int_equal(score_of(&other, 1), 33);
}

#define TEST(name) cmocka_unit_test_setup(name, empty)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(scores_rise_with_links_and_fall_with_failures_until_a_peer_is_forgotten),
        TEST(the_best_come_first_and_the_last_heard_of_among_equals),
        TEST(a_full_list_drops_the_worst_and_oldest),
        TEST(addresses_that_mean_nothing_elsewhere_are_left_out),
        TEST(a_list_goes_to_text_and_back),
        TEST(text_of_the_past_is_still_read),
        TEST(text_that_makes_no_sense_is_refused),
        TEST(two_processes_both_keep_what_the_other_learned),
        TEST(who_was_forgotten_is_deleted_from_the_file),
        TEST(what_others_deleted_comes_back_only_by_a_link),
        TEST(new_addresses_win_over_those_in_the_file),
        TEST(a_failed_save_is_tried_again_with_all_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
