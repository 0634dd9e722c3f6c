/* Packing a job's files and unpacking them: input.c and unpack.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io.h"
#include "common/must.h"
#include "tests/support/cmocka_all.h"
#include "worker/local/input.h"
#include "worker/local/wire.h"
#include "worker/sandboxd/unpack.h"

struct folders {
    char base[64];
    int home, job;
};

static int make_folders(void **state)
{
    struct folders *f = calloc(1, sizeof(*f));
    char path[128];

    MUST(f);
    strcpy(f->base, "/tmp/capibox-input-XXXXXX");
    MUST(mkdtemp(f->base));
    snprintf(path, sizeof(path), "%s/home", f->base);
    MUST0(mkdir(path, 0755));
    f->home = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    snprintf(path, sizeof(path), "%s/job", f->base);
    MUST0(mkdir(path, 0755));
    f->job = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    MUST(f->home >= 0 && f->job >= 0);
    *state = f;
    return 0;
}

static int remove_folders(void **state)
{
    struct folders *f = *state;
    char command[128];

    close(f->home);
    close(f->job);
    snprintf(command, sizeof(command), "rm -rf %s", f->base);
    MUST0(system(command));
    free(f);
    return 0;
}

static void expect_file(int dir_fd, const char *path, const char *text)
{
    char *got;

    assert_int_equal(io_read_file_at(dir_fd, path, 1 << 20, &got, NULL), 0);
    assert_string_equal(got, text);
    free(got);
}

static void what_was_packed_comes_out(void **state)
{
    const struct folders *f = *state;
    struct step why = {0};
    struct input in;

    input_init(&in);
    input_add(&in, "home", "a.txt", "A", 1);
    input_add(&in, "home", "d/e/f", "deep", 4);
    input_add(&in, "job", "main.py", "print()", 7);
    input_add(&in, "home", "empty", NULL, 0);
    int fd = input_seal(&in);
    assert_true(fd >= 0);
    assert_int_equal(unpack(fd, f->home, f->job, &why), 0);
    expect_file(f->home, "a.txt", "A");
    expect_file(f->home, "d/e/f", "deep");
    expect_file(f->home, "empty", "");
    expect_file(f->job, "main.py", "print()");
    close(fd);
    input_fini(&in);
}

static void a_sealed_input_changes_no_more(void **state)
{
    struct input in;

    (void)state;
    input_init(&in);
    input_add(&in, "job", "x", "1", 1);
    int fd = input_seal(&in);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "x", 1), -1);
    assert_int_equal(ftruncate(fd, 0), -1);
    close(fd);
}

static void too_much_is_refused_when_sealed(void **state)
{
    char *data = calloc(1, WIRE_INPUT_MAX);
    struct input in;

    (void)state;
    assert_non_null(data);
    input_init(&in);
    input_add(&in, "home", "x", data, WIRE_INPUT_MAX);
    input_add(&in, "home", "y", "1", 1);
    assert_int_equal(input_seal(&in), -EFBIG);
    input_fini(&in);
    free(data);
}

/* One entry with this path, whatever it is. */
static int unpack_path(const struct folders *f, const char *path, size_t len)
{
    uint32_t head[3] = {1, (uint32_t)len, 1};
    struct step why = {0};
    int fd = memfd_create("test", MFD_CLOEXEC);

    MUST(fd >= 0);
    MUST0(io_write_full(fd, head, sizeof(head)));
    MUST0(io_write_full(fd, path, len));
    MUST0(io_write_full(fd, "x", 1));
    int rc = unpack(fd, f->home, f->job, &why);
    assert_true(rc == 0 || (why.error == -rc && why.what[0]));
    close(fd);
    return rc;
}

static void no_path_leaves_its_folder(void **state)
{
    static const char *const paths[] = {
        "",          "home",        "home/",       "/etc/x",
        "home//x",   "home/../x",   "home/a/../b", "home/.",
        "home/a/..", "home//etc/x", "other/x",     "job/../home/x",
        "homes/x",   "home/a/./b",  "home/x/",     "../home/x",
    };
    char text[400];

    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++)
        assert_int_equal(unpack_path(*state, paths[i], strlen(paths[i])),
                         -EINVAL);
    assert_int_equal(unpack_path(*state, "home/a\0b", 8), -EINVAL);
    memset(text, 'a', sizeof(text));
    memcpy(text, "home/", 5);
    assert_int_equal(unpack_path(*state, text, sizeof(text)), -EINVAL);
    assert_int_equal(unpack_path(*state, "home/ok", 7), 0);
}

static void links_on_the_way_are_not_followed(void **state)
{
    const struct folders *f = *state;

    MUST0(symlinkat("/tmp", f->home, "out"));
    assert_int_equal(unpack_path(f, "home/out/capibox-escape", 23), -ELOOP);
    assert_int_equal(access("/tmp/capibox-escape", F_OK), -1);
    assert_int_equal(unpack_path(f, "home/out", 8), -EEXIST);
}

static void a_name_given_twice_or_as_both_is_refused(void **state)
{
    assert_int_equal(unpack_path(*state, "home/a", 6), 0);
    assert_int_equal(unpack_path(*state, "home/a", 6), -EEXIST);
    assert_int_equal(unpack_path(*state, "home/a/b", 8), -ENOTDIR);
}

static int unpack_bytes(const struct folders *f, const void *data, size_t size)
{
    struct step why = {0};
    int fd = memfd_create("test", MFD_CLOEXEC);

    MUST(fd >= 0);
    MUST0(io_write_full(fd, data, size));
    int rc = unpack(fd, f->home, f->job, &why);
    close(fd);
    return rc;
}

static void a_file_cut_short_is_refused(void **state)
{
    static const uint32_t none = 0, one = 1;
    static const uint32_t huge[] = {1, 6, 0xffffffff};
    static const uint32_t wraps[] = {1, 0xffffffff, 0xffffffff, 0};

    assert_int_equal(unpack_bytes(*state, &none, sizeof(none)), 0);
    assert_int_equal(unpack_bytes(*state, &none, 2), -EINVAL);
    assert_int_equal(unpack_bytes(*state, &one, sizeof(one)), -EINVAL);
    assert_int_equal(unpack_bytes(*state, huge, sizeof(huge)), -EINVAL);
    assert_int_equal(unpack_bytes(*state, wraps, sizeof(wraps)), -EINVAL);
}

#define WITH_FOLDERS(test) \
    cmocka_unit_test_setup_teardown(test, make_folders, remove_folders)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDERS(what_was_packed_comes_out),
        cmocka_unit_test(a_sealed_input_changes_no_more),
        cmocka_unit_test(too_much_is_refused_when_sealed),
        WITH_FOLDERS(no_path_leaves_its_folder),
        WITH_FOLDERS(links_on_the_way_are_not_followed),
        WITH_FOLDERS(a_name_given_twice_or_as_both_is_refused),
        WITH_FOLDERS(a_file_cut_short_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
