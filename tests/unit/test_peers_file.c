/* test_peers_file.c - HOME/peers on the disk: read, written by turns, shared, damaged. Time is a number that the tests move. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "mesh/peers_file.h"

static char home[64];
static unsigned warnings;

static void count(void *user, enum corolla_log_level level, const char *line) {
    (void)user, (void)line;
    warnings += level == COROLLA_LOG_WARN;
}

static int make_home(void **state) {
    (void)state;
    strcpy(home, "/tmp/corolla-peers-XXXXXX");
    warnings = 0;
    corolla_log_set(COROLLA_LOG_WARN, count, NULL);
    return mkdtemp(home) == NULL;
}
static int remove_home(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", home);
    return system(command);
}

static const char *under(const char *name) {
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", home, name);
    return path;
}
static void put(const char *content, size_t size) {
    FILE *f = fopen(under("peers"), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(content, 1, size, f), size);
    fclose(f);
}

static struct peers_file *open_file(void) {
    struct peers_file *file = NULL;
    assert_int_equal(peers_file_open(&file, home, NULL), COROLLA_OK);
    return file;
}
static void linked(struct peers_file *file, unsigned number) {
    struct node_ref node = {.n_addrs = 1, .id.instance = number, .addrs = {"192.0.2.1:5"}};
    peer_list_linked(peers_file_list(file), &node, NULL);
}
static unsigned count_of(struct peers_file *file) { return peer_list_count(peers_file_list(file)); }

/* Ticks at this time until no writing is under way. */
static uint64_t settle(struct peers_file *file, uint64_t now_ms) {
    uint64_t next = peers_file_tick(file, now_ms);
    for (int i = 0; i < 2000 && next == now_ms + 100; i++) {
        nanosleep(&(struct timespec){0, 5000000}, NULL);
        next = peers_file_tick(file, now_ms);
    }
    return next;
}

static void what_is_remembered_is_there_in_the_next_life(void **state) {
    (void)state;
    struct stat st;
    struct peers_file *file = open_file();
    assert_int_equal(count_of(file), 0);
    linked(file, 1);
    linked(file, 2);
    peers_file_close(file);
    assert_int_equal(stat(under("peers"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    file = open_file();
    assert_int_equal(count_of(file), 2);
    assert_int_equal(peers_file_list(file)->peers[0].ref.id.instance, 2);
    peers_file_close(file);
    assert_int_equal(warnings, 0);
}

static void it_is_written_once_in_a_while_and_only_when_something_changed(void **state) {
    (void)state;
    struct peers_file *file = open_file();
    assert_true(peers_file_tick(file, 5000) == UINT64_MAX);
    linked(file, 1);
    assert_int_equal(peers_file_tick(file, 5000), 5000 + PEERS_SETTLE_MS);
    assert_int_not_equal(access(under("peers"), F_OK), 0);
    assert_true(settle(file, 6000) == UINT64_MAX);
    assert_int_equal(access(under("peers"), F_OK), 0);
    unlink(under("peers"));
    linked(file, 2);
    assert_int_equal(peers_file_tick(file, 7000), 6000 + PEERS_SAVE_MS);
    assert_int_not_equal(access(under("peers"), F_OK), 0);
    assert_true(settle(file, 6000 + PEERS_SAVE_MS) == UINT64_MAX);
    assert_int_equal(access(under("peers"), F_OK), 0);
    peers_file_close(file);
}

static void changes_while_it_is_written_are_not_lost(void **state) {
    (void)state;
    struct peers_file *file = open_file();
    linked(file, 1);
    peers_file_tick(file, 0);
    peers_file_tick(file, PEERS_SETTLE_MS); /* the writing begins */
    linked(file, 1);
    linked(file, 2);
    settle(file, PEERS_SETTLE_MS);
    assert_int_equal(count_of(file), 2);
    peers_file_close(file);
    file = open_file();
    assert_int_equal(count_of(file), 2);
    assert_int_equal(peers_file_list(file)->peers[0].score, 50);
    peers_file_close(file);
}

static void processes_of_one_home_do_not_overwrite_each_other(void **state) {
    (void)state;
    struct peers_file *one = open_file(), *two = open_file();
    linked(one, 1);
    linked(two, 2);
    for (uint64_t now = 0; now <= PEERS_SETTLE_MS; now += PEERS_SETTLE_MS) {
        settle(one, now);
        settle(two, now);
    }
    assert_int_equal(count_of(two), 2); /* it has read what the other wrote */
    linked(one, 3);
    peers_file_close(one);
    linked(two, 4);
    peers_file_close(two);
    one = open_file();
    assert_int_equal(count_of(one), 4);
    peers_file_close(one);
}

static void a_damaged_file_is_moved_aside_with_one_warning(void **state) {
    (void)state;
    static char endless[PEER_TEXT_MAX * 2];
    memset(endless, 'x', sizeof(endless));
    const struct {
        const char *content;
        size_t size;
    } bad[] = {{"", 0}, {"corolla peers 1\nnonsense\n", 25}, {"\0\0\0\0", 4}, {endless, 5000}, {endless, sizeof(endless)}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        put(bad[i].content, bad[i].size);
        struct peers_file *file = open_file();
        assert_int_equal(warnings, i + 1);
        assert_int_equal(count_of(file), 0);
        linked(file, 1);
        peers_file_close(file);
        assert_int_equal(warnings, i + 1);
        assert_int_equal(access(under("peers.corrupt"), F_OK), 0);
        file = open_file();
        assert_int_equal(count_of(file), 1);
        peers_file_close(file);
    }
}

static void what_is_no_file_is_moved_aside_too(void **state) {
    (void)state;
    assert_int_equal(mkdir(under("peers"), 0700), 0);
    struct peers_file *file = open_file();
    assert_int_equal(warnings, 1);
    linked(file, 1);
    peers_file_close(file);
    file = open_file();
    assert_int_equal(count_of(file), 1);
    peers_file_close(file);
    assert_int_equal(unlink(under("peers")), 0);
    assert_int_equal(symlink("/dev/zero", under("peers")), 0);
    assert_int_equal(rmdir(under("peers.corrupt")), 0);
    file = open_file();
    assert_int_equal(count_of(file), 0);
    peers_file_close(file);
    assert_int_equal(warnings, 2);
    assert_int_not_equal(access(under("peers"), F_OK), 0);
}

static void a_lock_that_is_not_given_back_costs_a_while_and_no_peers(void **state) {
    (void)state;
    struct peers_file *file = open_file();
    int fd = open(under("peers.lock"), O_RDWR);
    assert_true(fd >= 0 && flock(fd, LOCK_EX) == 0);
    linked(file, 1);
    peers_file_tick(file, 0);
    assert_int_equal(settle(file, PEERS_SETTLE_MS), PEERS_SETTLE_MS + PEERS_SAVE_MS); /* it failed, and is due again */
    assert_int_equal(warnings, 1);
    close(fd);
    assert_true(settle(file, PEERS_SETTLE_MS + PEERS_SAVE_MS) == UINT64_MAX);
    peers_file_close(file);
    file = open_file();
    assert_int_equal(count_of(file), 1);
    peers_file_close(file);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_home, remove_home)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(what_is_remembered_is_there_in_the_next_life),
        TEST(it_is_written_once_in_a_while_and_only_when_something_changed),
        TEST(changes_while_it_is_written_are_not_lost),
        TEST(processes_of_one_home_do_not_overwrite_each_other),
        TEST(a_damaged_file_is_moved_aside_with_one_warning),
        TEST(what_is_no_file_is_moved_aside_too),
        TEST(a_lock_that_is_not_given_back_costs_a_while_and_no_peers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
