/* test_dirs.c - where files live, and writing one as a whole. Works in a folder of its own under TMPDIR. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dirs.h"

static char root[256];

static int make_root(void **state) {
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(root, sizeof(root), "%s/corolla-dirs-XXXXXX", tmp != NULL ? tmp : "/tmp");
    return mkdtemp(root) == NULL;
}

static int remove_root(void **state) {
    (void)state;
    char command[300];
    snprintf(command, sizeof(command), "rm -rf '%s'", root);
    return system(command);
}

static const char *under(const char *name) {
    static char path[512];
    snprintf(path, sizeof(path), "%s/%s", root, name);
    return path;
}

static unsigned mode_of(const char *path) {
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777u;
}

static unsigned files_in(const char *path) {
    unsigned n = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        n += entry->d_name[0] != '.';
    }
    closedir(dir);
    return n;
}

static void a_given_home_is_made_with_its_parents_for_the_user_alone(void **state) {
    (void)state;
    char out[DIR_PATH_MAX];
    struct corolla_error err;
    assert_int_equal(dirs_home(under("a/b/home"), out, &err), COROLLA_OK);
    assert_string_equal(out, under("a/b/home"));
    assert_int_equal(mode_of(out), 0700);
    assert_int_equal(mode_of(under("a")), 0700);
    assert_int_equal(dirs_home(under("a/b/home"), out, &err), COROLLA_OK);
}

static void the_variables_come_before_the_defaults(void **state) {
    (void)state;
    char out[DIR_PATH_MAX];
    struct corolla_error err;
    setenv("HOME", under("user"), 1);
    setenv("XDG_DATA_HOME", "relative/is/ignored", 1);
    unsetenv("COROLLA_HOME");
    assert_int_equal(dirs_home(NULL, out, &err), COROLLA_OK);
    assert_string_equal(out, under("user/.local/share/corolla"));
    setenv("XDG_DATA_HOME", under("data"), 1);
    assert_int_equal(dirs_home(NULL, out, &err), COROLLA_OK);
    assert_string_equal(out, under("data/corolla"));
    setenv("COROLLA_HOME", under("own"), 1);
    assert_int_equal(dirs_home(NULL, out, &err), COROLLA_OK);
    assert_string_equal(out, under("own"));
    assert_int_equal(dirs_home(under("given"), out, &err), COROLLA_OK);
    assert_string_equal(out, under("given"));
    unsetenv("COROLLA_CACHE");
    unsetenv("XDG_CACHE_HOME");
    assert_int_equal(dirs_cache("manifests", out, &err), COROLLA_OK);
    assert_string_equal(out, under("user/.cache/corolla/manifests"));
    setenv("COROLLA_CACHE", under("cache"), 1);
    assert_int_equal(dirs_cache(NULL, out, &err), COROLLA_OK);
    assert_string_equal(out, under("cache"));
}

static void a_file_in_the_way_is_an_error_that_names_it(void **state) {
    (void)state;
    char out[DIR_PATH_MAX] = "untouched";
    struct corolla_error err;
    assert_int_equal(dirs_write_file(under("plain"), "x", 1, 0600, &err), COROLLA_OK);
    assert_int_equal(dirs_home(under("plain/home"), out, &err), COROLLA_IO);
    assert_non_null(strstr(err.message, "plain"));
    assert_int_equal(dirs_home(under("plain"), out, &err), COROLLA_IO);
    assert_non_null(strstr(err.message, "not a folder"));
    assert_string_equal(out, "untouched");
}

static void a_path_that_is_too_long_is_refused(void **state) {
    (void)state;
    static char path[2 * DIR_PATH_MAX], out[DIR_PATH_MAX];
    struct corolla_error err;
    memset(path, 'a', sizeof(path) - 1);
    assert_int_equal(dirs_home(path, out, &err), COROLLA_INVALID);
    assert_int_equal(dirs_write_file(path, "x", 1, 0600, &err), COROLLA_INVALID);
    assert_int_equal(dirs_home("", out, &err), COROLLA_INVALID);
}

static void a_file_is_replaced_as_a_whole_with_its_mode(void **state) {
    (void)state;
    char out[DIR_PATH_MAX], read_back[16] = {0};
    struct corolla_error err;
    assert_int_equal(dirs_home(under("files"), out, &err), COROLLA_OK);
    const char *path = "files/key";
    mode_t before = umask(0);
    assert_int_equal(dirs_write_file(under(path), "old old", 7, 0644, &err), COROLLA_OK);
    umask(077);
    assert_int_equal(dirs_write_file(under(path), "new", 3, 0640, &err), COROLLA_OK);
    umask(before);
    assert_int_equal(mode_of(under(path)), 0640);
    FILE *f = fopen(under(path), "rb");
    assert_non_null(f);
    assert_int_equal(fread(read_back, 1, sizeof(read_back), f), 3);
    fclose(f);
    assert_string_equal(read_back, "new");
    assert_int_equal(files_in(under("files")), 1);
}

static void a_failed_write_leaves_nothing_behind(void **state) {
    (void)state;
    char out[DIR_PATH_MAX];
    struct corolla_error err;
    assert_int_equal(dirs_home(under("target/is-a-folder"), out, &err), COROLLA_OK);
    assert_int_equal(dirs_write_file(under("target/is-a-folder"), "x", 1, 0600, &err), COROLLA_IO);
    assert_int_equal(files_in(under("target")), 1);
    assert_int_equal(dirs_write_file(under("missing/file"), "x", 1, 0600, &err), COROLLA_IO);
    assert_non_null(strstr(err.message, "missing/file"));
}

static void a_file_is_read_as_a_whole_or_refused(void **state) {
    (void)state;
    char out[DIR_PATH_MAX], text[8] = "";
    size_t size = 77;
    struct corolla_error err;
    assert_int_equal(dirs_home(under("read"), out, &err), COROLLA_OK);
    assert_int_equal(dirs_read_file(under("read/none"), false, text, sizeof(text), &size, &err), COROLLA_NOT_FOUND);
    assert_int_equal(dirs_read_file(under("read"), false, text, sizeof(text), &size, &err), COROLLA_IO);
    assert_int_equal(dirs_write_file(under("read/long"), "123456789", 9, 0600, &err), COROLLA_OK);
    assert_int_equal(dirs_read_file(under("read/long"), false, text, sizeof(text), &size, &err), COROLLA_FORMAT);
    assert_int_equal(dirs_write_file(under("read/open"), "12345678", 8, 0644, &err), COROLLA_OK);
    assert_int_equal(dirs_read_file(under("read/open"), true, text, sizeof(text), &size, &err), COROLLA_REFUSED);
    assert_int_equal(size, 77);
    assert_int_equal(dirs_read_file(under("read/open"), false, text, sizeof(text), &size, &err), COROLLA_OK);
    assert_int_equal(size, 8);
    assert_memory_equal(text, "12345678", 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_given_home_is_made_with_its_parents_for_the_user_alone),
        cmocka_unit_test(the_variables_come_before_the_defaults),
        cmocka_unit_test(a_file_in_the_way_is_an_error_that_names_it),
        cmocka_unit_test(a_path_that_is_too_long_is_refused),
        cmocka_unit_test(a_file_is_replaced_as_a_whole_with_its_mode),
        cmocka_unit_test(a_failed_write_leaves_nothing_behind),
        cmocka_unit_test(a_file_is_read_as_a_whole_or_refused),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
