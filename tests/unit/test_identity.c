/* test_identity.c - the key file and its refusals, instances, boot counter, and processes that start together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "net/identity.h"

static char home[64];

static int make_home(void **state) {
    (void)state;
    strcpy(home, "/tmp/corolla-test-XXXXXX");
    return mkdtemp(home) ? 0 : -1;
}

static int remove_home(void **state) {
    (void)state;
    static const char *const files[] = {"identity.pem", "identity.lock", "boot", "target"};
    char path[128];
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", home, files[i]);
        unlink(path);
    }
    for (int i = 0; i < 16; i++) {
        snprintf(path, sizeof(path), "%s/instance-%d.lock", home, i);
        unlink(path);
    }
    return rmdir(home); /* fails when a temporary file was left behind */
}

static void write_file(const char *name, const char *text, unsigned mode) {
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", home, name);
    unlink(path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(path, mode), 0);
}

static struct identity *open_it(void) {
    struct identity *identity = NULL;
    struct corolla_error err = {0};
    if (identity_open(&identity, home, &err) != COROLLA_OK) fail_msg("%s", err.message);
    return identity;
}

static void expect_refusal(enum corolla_status status, const char *text) {
    struct identity *identity = NULL;
    struct corolla_error err = {0};
    assert_int_equal(identity_open(&identity, home, &err), status);
    assert_null(identity);
    if (!strstr(err.message, text)) fail_msg("\"%s\" does not say \"%s\"", err.message, text);
    assert_int_equal(identity_open(&identity, home, NULL), status); /* without err as well */
}

static void the_first_start_makes_a_key_that_only_its_owner_reads(void **state) {
    (void)state;
    char path[128];
    struct stat st;
    struct identity *identity = open_it();
    snprintf(path, sizeof(path), "%s/identity.pem", home);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(identity_id(identity)->instance, 0);
    assert_true(identity_boot(identity) == 1);
    identity_close(identity);
}

static void the_key_stays_and_the_starts_are_counted(void **state) {
    (void)state;
    struct identity *a = open_it();
    struct node_id id = *identity_id(a);
    identity_close(a);
    struct identity *b = open_it();
    assert_true(node_id_equal(&id, identity_id(b)));
    assert_true(identity_boot(b) == 2);
    identity_close(b);
    identity_close(NULL);
}

static void the_certificate_carries_the_key(void **state) {
    (void)state;
    struct identity *identity = open_it();
    uint8_t raw[KEY_SIZE];
    size_t size = sizeof(raw);
    X509 *cert = identity_certificate(identity);
    assert_int_equal(EVP_PKEY_get_raw_public_key(X509_get0_pubkey(cert), raw, &size), 1);
    assert_memory_equal(raw, identity_id(identity)->key, KEY_SIZE);
    assert_int_equal(X509_verify(cert, identity_key(identity)), 1);
    identity_close(identity);
}

static void the_key_signs_records(void **state) {
    (void)state;
    static const uint8_t data[] = "what a node says";
    static uint8_t large[SIGN_DATA_MAX];
    struct identity *identity = open_it();
    uint8_t signature[SIGN_SIZE];
    assert_true(identity_sign(identity, data, sizeof(data), signature));
    assert_true(sign_verify(identity_id(identity)->key, SIGN_RECORD, data, sizeof(data), signature));
    assert_false(identity_sign(identity, large, sizeof(large), signature));
    identity_close(identity);
}

static void instances_take_the_lowest_free_number(void **state) {
    (void)state;
    struct identity *a = open_it(), *b = open_it(), *c = open_it();
    assert_int_equal(identity_id(a)->instance, 0);
    assert_int_equal(identity_id(b)->instance, 1);
    assert_int_equal(identity_id(c)->instance, 2);
    assert_memory_equal(identity_id(a)->key, identity_id(c)->key, KEY_SIZE);
    identity_close(b);
    struct identity *d = open_it();
    assert_int_equal(identity_id(d)->instance, 1);
    identity_close(a);
    identity_close(c);
    identity_close(d);
}

static void a_key_that_others_can_read_is_refused(void **state) {
    (void)state;
    char path[128];
    identity_close(open_it());
    snprintf(path, sizeof(path), "%s/identity.pem", home);
    static const unsigned modes[] = {0640, 0604, 0660, 0601};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(chmod(path, modes[i]), 0);
        expect_refusal(COROLLA_REFUSED, "chmod 600");
    }
    assert_int_equal(chmod(path, 0400), 0);
    identity_close(open_it());
}

static void a_file_that_is_no_key_is_refused_and_kept(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "", "not a key", "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n",
        /* an X25519 key */
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VuBCIEIHBgVqx3bZBRC8DyVGfC5mNzbHhjNlGTUSJgaGBZ5mBm\n-----END PRIVATE KEY-----\n",
        /* encrypted: there is nobody to ask for a password */
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg=\n-----END ENCRYPTED PRIVATE KEY-----\n"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        write_file("identity.pem", wrong[i], 0600);
        expect_refusal(COROLLA_FORMAT, "Ed25519");
    }
    char big[8192];
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = 0;
    write_file("identity.pem", big, 0600);
    expect_refusal(COROLLA_FORMAT, "bytes");
}

static void a_link_in_the_place_of_the_key_is_refused(void **state) {
    (void)state;
    char path[128], target[128];
    identity_close(open_it());
    snprintf(path, sizeof(path), "%s/identity.pem", home);
    snprintf(target, sizeof(target), "%s/target", home);
    assert_int_equal(rename(path, target), 0);
    assert_int_equal(symlink(target, path), 0);
    expect_refusal(COROLLA_IO, "identity.pem");
}

static void a_damaged_counter_is_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {"", "x", "-3\n", "18446744073709551615\n", "99999999999999999999999\n", "12 apples"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        write_file("boot", wrong[i], 0600);
        expect_refusal(COROLLA_FORMAT, "boot");
    }
    write_file("boot", "41\n", 0600);
    struct identity *identity = open_it();
    assert_true(identity_boot(identity) == 42);
    identity_close(identity);
}

struct report {
    struct node_id id;
    uint64_t boot;
};

static void processes_that_start_together_get_one_key_and_own_numbers(void **state) {
    (void)state;
    enum { N = 12 };
    int results[2], go[2], hold[2];
    bool instance_seen[N] = {false}, boot_seen[N + 1] = {false};
    assert_int_equal(pipe(results) | pipe(go) | pipe(hold), 0);
    for (int i = 0; i < N; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid > 0) continue;
        char byte;
        struct identity *identity = NULL;
        struct report report;
        memset(&report, 0, sizeof(report));
        close(go[1]);
        close(hold[1]);
        (void)!read(go[0], &byte, 1); /* until the parent closes: all at once */
        if (identity_open(&identity, home, NULL) == COROLLA_OK) {
            report.id = *identity_id(identity);
            report.boot = identity_boot(identity);
        }
        (void)!write(results[1], &report, sizeof(report));
        (void)!read(hold[0], &byte, 1); /* nobody leaves before all have their number */
        _exit(0);
    }
    close(go[1]);
    struct report first, report;
    for (int i = 0; i < N; i++) {
        assert_int_equal(read(results[0], &report, sizeof(report)), sizeof(report));
        if (i == 0) first = report;
        assert_memory_equal(report.id.key, first.id.key, KEY_SIZE);
        assert_in_range(report.boot, 1, N);
        assert_in_range(report.id.instance, 0, N - 1);
        assert_false(instance_seen[report.id.instance]);
        assert_false(boot_seen[report.boot]);
        instance_seen[report.id.instance] = boot_seen[report.boot] = true;
    }
    close(hold[1]);
    for (int i = 0; i < N; i++) wait(NULL);
    close(go[0]);
    close(hold[0]);
    close(results[0]);
    close(results[1]);
}

#define WITH_HOME(test) cmocka_unit_test_setup_teardown(test, make_home, remove_home)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_HOME(the_first_start_makes_a_key_that_only_its_owner_reads),
        WITH_HOME(the_key_stays_and_the_starts_are_counted),
        WITH_HOME(the_certificate_carries_the_key),
        WITH_HOME(the_key_signs_records),
        WITH_HOME(instances_take_the_lowest_free_number),
        WITH_HOME(a_key_that_others_can_read_is_refused),
        WITH_HOME(a_file_that_is_no_key_is_refused_and_kept),
        WITH_HOME(a_link_in_the_place_of_the_key_is_refused),
        WITH_HOME(a_damaged_counter_is_refused),
        WITH_HOME(processes_that_start_together_get_one_key_and_own_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
