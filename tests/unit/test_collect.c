#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "tests/support/cmocka_all.h"
#include "worker/local/collect.h"

struct fixture {
    struct outcome o;
    char dir[64], home[80];
    int fd;
};

static void write_bytes(const struct fixture *x, const char *path,
                        const void *data, size_t size)
{
    int fd =
        openat(x->fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    MUST(fd >= 0);
    MUST(write(fd, data, size) == (ssize_t)size);
    close(fd);
}

static void write_text(const struct fixture *x, const char *path,
                       const char *text)
{
    write_bytes(x, path, text, strlen(text));
}

static void make_dir(const struct fixture *x, const char *path)
{
    MUST0(mkdirat(x->fd, path, 0755));
}

static int setup(void **state)
{
    struct fixture *x = calloc(1, sizeof(*x));

    MUST(x != NULL);
    MUST0(outcome_init(&x->o, 4096));
    strcpy(x->dir, "/tmp/capibox-collect-XXXXXX");
    MUST(mkdtemp(x->dir));
    MUST0(chmod(x->dir, 0755));
    snprintf(x->home, sizeof(x->home), "%s/home", x->dir);
    MUST0(mkdir(x->home, 0755));
    x->fd = open(x->home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    MUST(x->fd >= 0);
    *state = x;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    char command[128];

    snprintf(command, sizeof(command), "rm -rf '%s'", x->dir);
    MUST0(system(command));
    close(x->fd);
    outcome_fini(&x->o);
    free(x);
    return 0;
}

static void collect(struct fixture *x, const char *glob)
{
    char text[512];
    char *globs[] = {text, NULL};

    snprintf(text, sizeof(text), "%s", glob);
    assert_int_equal(collect_files(x->fd, globs, &x->o), 0);
}

static const char *files(struct fixture *x)
{
    return x->o.files.text ? x->o.files.text : "";
}

static void a_named_file_comes_with_size_kind_and_content(void **state)
{
    struct fixture *x = *state;

    make_dir(x, "out");
    write_text(x, "out/a.csv", "a,b\n");
    collect(x, "out/a.csv");
    assert_string_equal(files(x),
                        "{\"path\":\"out/a.csv\",\"size\":4,\"mime\":"
                        "\"text/csv\",\"content_base64\":\"YSxiCg==\"}");
}

static void a_named_file_that_is_not_there_is_said_to_be_missing(void **state)
{
    struct fixture *x = *state;
    char *globs[] = {(char[]){"nope.txt"}, (char[]){"no/pe"},
                     (char[]){"*.none"}, NULL};

    write_text(x, "no", "");
    assert_int_equal(collect_files(x->fd, globs, &x->o), 0);
    assert_string_equal(
        files(x),
        "{\"path\":\"*.none\",\"size\":0,\"skipped\":\"no such file\"},"
        "{\"path\":\"no/pe\",\"size\":0,\"skipped\":\"no such file\"},"
        "{\"path\":\"nope.txt\",\"size\":0,\"skipped\":\"no such file\"}");
}

static void a_glob_is_missed_only_if_it_names_nothing(void **state)
{
    struct fixture *x = *state;
    char *globs[] = {(char[]){"*.txt"}, (char[]){"a*"}, (char[]){"x[1]"},
                     (char[]){"sub/**/*.csx"}, NULL};

    write_text(x, "a.txt", "1");
    write_text(x, "x[1]", "2");
    assert_int_equal(collect_files(x->fd, globs, &x->o), 0);
    assert_non_null(strstr(files(x), "{\"path\":\"sub/**/*.csx\",\"size\":0,"
                                     "\"skipped\":\"no such file\"}"));
    assert_null(strstr(files(x), "*.txt"));
    assert_null(strstr(files(x), "a*"));
    assert_null(strstr(files(x), "{\"path\":\"x[1]\",\"size\":0"));
}

/* The paths of all entries, one a line. */
static char *paths(struct fixture *x)
{
    struct strbuf out = STRBUF_INIT;

    strbuf_adds(&out, "");
    for (const char *at = files(x); (at = strstr(at, "{\"path\":\""));) {
        at += strlen("{\"path\":\"");
        strbuf_add(&out, at, strcspn(at, "\""));
        strbuf_addc(&out, '\n');
    }
    return strbuf_take(&out);
}

static void split(const char *globs, char text[256], char **list_out)
{
    char *save = NULL;
    size_t count = 0;

    snprintf(text, 256, "%s", globs);
    for (char *glob = strtok_r(text, " ", &save); glob;
         glob = strtok_r(NULL, " ", &save))
        list_out[count++] = glob;
}

/* globs: with a space between them. */
static void check_globs(const char *globs, const char *expected)
{
    static const char *const names[] = {
        "a.png",     "b.png",        "b.txt",    ".hidden.png",    "d/c.png",
        "d/e/f.png", "d/.git/g.png", "a[1].png", "z/\xc3\xa9.png",
    };
    void *own;
    char *got, *list[8] = {0}, text[256];

    setup(&own);
    make_dir(own, "d");
    make_dir(own, "d/e");
    make_dir(own, "d/.git");
    make_dir(own, "z");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        write_text(own, names[i], "x");
    split(globs, text, list);
    assert_int_equal(collect_files(((struct fixture *)own)->fd, list,
                                   &((struct fixture *)own)->o),
                     0);
    got = paths(own);
    assert_string_equal(got, expected);
    free(got);
    teardown(&own);
}

static void globs_stay_in_their_component_and_skip_hidden_names(void **state)
{
    check_globs("*.png", "a.png\na[1].png\nb.png\n");
    check_globs("?.[pt]*", "a.png\nb.png\nb.txt\n");
    check_globs("*/*.png", "d/c.png\nz/\xc3\xa9.png\n");
    check_globs("d/[!e]*", "d/c.png\n");
    check_globs(".hid*", ".hidden.png\n");
    check_globs("d/.git/*", "d/.git/g.png\n");
    check_globs("d*", "d*\n"); /* missed */
    (void)state;
}

static void two_stars_stand_for_any_folders(void **state)
{
    check_globs("**/*.png", "a.png\na[1].png\nb.png\nd/c.png\n"
                            "d/e/f.png\nz/\xc3\xa9.png\n");
    check_globs("d/**", "d/c.png\nd/e/f.png\n");
    check_globs("b.txt/** d/*/**", "b.txt/**\nd/e/f.png\n");
    check_globs("**/e/**/f.png", "d/e/f.png\n");
    check_globs("**/**/**/f.png", "d/e/f.png\n");
    check_globs("d/**/c.png", "d/c.png\n");
    (void)state;
}

static void a_name_with_brackets_is_found_as_it_is_written(void **state)
{
    check_globs("a[1].png", "a[1].png\n");
    (void)state;
}

static void overlapping_globs_give_each_file_once_sorted(void **state)
{
    check_globs("b.* *.png a.png b.txt", "a.png\na[1].png\nb.png\nb.txt\n");
    (void)state;
}

static void no_globs_give_no_files(void **state)
{
    struct fixture *x = *state;

    assert_int_equal(collect_files(x->fd, NULL, &x->o), 0);
    assert_int_equal(x->o.files.len, 0);
}

static void links_are_never_followed(void **state)
{
    struct fixture *x = *state;
    char *got;

    MUST0(symlinkat("/etc/passwd", x->fd, "a.txt"));
    MUST0(symlinkat("nowhere", x->fd, "b.txt"));
    MUST0(symlinkat("c.txt", x->fd, "c.txt"));
    MUST0(symlinkat("/", x->fd, "root"));
    MUST0(symlinkat("/proc/self/root/etc", x->fd, "etc"));
    MUST0(symlinkat("..", x->fd, "up"));
    make_dir(x, "real");
    write_text(x, "real/passwd", "x");
    MUST0(symlinkat("real", x->fd, "inside"));
    collect(x, "*.txt");
    collect(x, "root/etc/passwd");
    collect(x, "etc/passwd");
    collect(x, "up/home/a.txt");
    collect(x, "inside/passwd");
    collect(x, "inside/**");
    got = paths(x);
    assert_string_equal(got, "a.txt\nb.txt\nc.txt\nroot/etc/passwd\n"
                             "etc/passwd\nup/home/a.txt\ninside/passwd\n"
                             "inside/**\n");
    assert_null(strstr(files(x), "content_base64"));
    assert_non_null(strstr(files(x), "\"skipped\":\"symlink\""));
    free(got);
}

static void paths_that_climb_out_are_refused(void **state)
{
    struct fixture *x = *state;

    collect(x, "../../../../etc/passwd");
    collect(x, "/etc/passwd");
    assert_null(strstr(files(x), "content_base64"));
    assert_non_null(strstr(files(x), "outside the work folder"));
}

static void what_is_no_regular_file_is_not_opened(void **state)
{
    struct fixture *x = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int64_t start = clock_ms();

    snprintf(address.sun_path, sizeof(address.sun_path), "%s/sock.x", x->home);
    MUST0(bind(fd, (struct sockaddr *)&address, sizeof(address)));
    MUST0(mkfifoat(x->fd, "fifo.x", 0644));
    make_dir(x, "dir.x");
    collect(x, "*.x");
    collect(x, "dir.x");
    assert_string_equal(
        files(x),
        "{\"path\":\"fifo.x\",\"size\":0,\"skipped\":\"not a regular file\"},"
        "{\"path\":\"sock.x\",\"size\":0,\"skipped\":\"not a regular file\"},"
        "{\"path\":\"dir.x\",\"size\":0,\"skipped\":\"not a regular file\"}");
    assert_true(clock_ms() - start < 5000);
    close(fd);
}

static void a_sparse_giant_is_skipped_unread(void **state)
{
    struct fixture *x = *state;
    int fd = openat(x->fd, "big", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

    MUST0(ftruncate(fd, INT64_C(1) << 40));
    close(fd);
    collect(x, "big");
    assert_string_equal(files(x), "{\"path\":\"big\",\"size\":1099511627776,"
                                  "\"skipped\":\"too large: over 16 MB\"}");
}

static void all_files_together_stay_under_the_limit(void **state)
{
    struct fixture *x = *state;

    for (int i = 0; i < 3; i++) {
        int fd = openat(x->fd,
                        i == 0   ? "a"
                        : i == 1 ? "b"
                                 : "c",
                        O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

        MUST0(ftruncate(fd, i < 2 ? RESULT_FILES_BYTES_MAX / 2 + 1 : 10));
        close(fd);
    }
    collect(x, "?");
    assert_non_null(strstr(files(x), "{\"path\":\"b\",\"size\":8388609,"
                                     "\"skipped\":\"limit reached"));
    assert_non_null(strstr(files(x), "{\"path\":\"c\",\"size\":10,\"mime\""));
}

static void files_past_the_limit_are_listed_then_counted(void **state)
{
    struct fixture *x = *state;
    size_t listed = 0;
    char *got;

    for (int i = 0; i < 3 * RESULT_FILES_MAX; i++) {
        char name[16];

        snprintf(name, sizeof(name), "f%04d", i);
        write_text(x, name, "x");
    }
    collect(x, "f*");
    got = paths(x);
    for (const char *at = got; (at = strchr(at, '\n')); at++)
        listed++;
    assert_int_equal(listed, 2 * RESULT_FILES_MAX);
    assert_non_null(strstr(files(x), "{\"path\":\"f0127\",\"size\":1,\"mime"));
    assert_non_null(strstr(files(x), "{\"path\":\"f0128\",\"size\":0,\"skip"));
    assert_int_equal(x->o.nwarnings, 1);
    assert_non_null(strstr(x->o.warnings[0], "128 more files"));
    free(got);
}

static void folders_a_thousand_deep_are_searched_only_so_far(void **state)
{
    struct fixture *x = *state;
    int fd = dup(x->fd);

    for (int i = 0; i < 1000; i++) {
        int next;

        MUST0(mkdirat(fd, "d", 0755));
        next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(fd);
        fd = next;
    }
    close(openat(fd, "deep.txt", O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    close(fd);
    write_text(x, "d/d/near.txt", "x");
    collect(x, "**/*.txt");
    assert_non_null(strstr(files(x), "d/d/near.txt"));
    assert_null(strstr(files(x), "deep.txt"));
    assert_int_equal(x->o.nwarnings, 1);
    assert_non_null(strstr(x->o.warnings[0], "levels deep"));
}

static void odd_names_are_escaped(void **state)
{
    struct fixture *x = *state;

    write_text(x, "a\nb\x1b[31m.txt", "x");
    write_text(x, "a\xc3\x28.txt", "x");
    write_text(x, "a\"\\.txt", "x");
    collect(x, "a*");
    assert_non_null(strstr(files(x), "\"a\\nb\\u001b[31m.txt\""));
    assert_non_null(strstr(files(x), "\"a\\\\xc3(.txt\""));
    assert_non_null(strstr(files(x), "\"a\\\"\\\\.txt\""));
}

static void pictures_are_known_by_their_bytes_only(void **state)
{
    struct fixture *x = *state;

    write_bytes(x, "a.txt", "\x89PNG\r\n\x1a\n", 8);
    write_bytes(x, "b", "\xff\xd8\xff\xe0", 4);
    write_text(x, "c.dat", "GIF89a");
    write_text(x, "d", "%PDF-1.7");
    write_text(x, "e", "<?xml version='1.0'?>\n<svg/>");
    write_text(x, "f.png", "<script>");
    write_text(x, "g.JSON", "{}");
    collect(x, "*");
    assert_non_null(strstr(files(x), "\"a.txt\",\"size\":8,\"mime\":"
                                     "\"image/png\""));
    assert_non_null(strstr(files(x), "image/jpeg"));
    assert_non_null(strstr(files(x), "image/gif"));
    assert_non_null(strstr(files(x), "application/pdf"));
    assert_non_null(strstr(files(x), "image/svg+xml"));
    assert_non_null(strstr(files(x), "\"f.png\",\"size\":8,\"mime\":"
                                     "\"application/octet-stream\""));
    assert_non_null(strstr(files(x), "application/json"));
}

static void what_cannot_be_read_is_said_to_be_unreadable(void **state)
{
    struct fixture *x = *state;

    write_text(x, "secret.txt", "x");
    make_dir(x, "closed");
    MUST0(fchmodat(x->fd, "secret.txt", 0, 0));
    MUST0(fchmodat(x->fd, "closed", 0, 0));
    if (geteuid() == 0)
        MUST0(seteuid(65534));
    collect(x, "**/*.txt");
    if (getuid() == 0)
        MUST0(seteuid(0));
    assert_string_equal(files(x), "{\"path\":\"secret.txt\",\"size\":1,"
                                  "\"skipped\":\"unreadable\"}");
    assert_int_equal(x->o.nwarnings, 1);
    assert_non_null(strstr(x->o.warnings[0], "unreadable: closed"));
    MUST0(fchmodat(x->fd, "closed", 0755, 0));
}

static void hostile_globs_end_soon(void **state)
{
    struct fixture *x = *state;
    char name[256], glob[256] = "";
    int64_t start = clock_ms();

    memset(name, 'a', 255);
    name[255] = '\0';
    write_text(x, name, "x");
    while (strlen(glob) < 250)
        strcat(glob, "*a");
    strcat(glob, "b");
    collect(x, glob);
    glob[0] = '\0';
    while (strlen(glob) < 245)
        strcat(glob, "**/*/");
    strcat(glob, "x");
    collect(x, glob);
    collect(x, "[[[[[[a-");
    collect(x, "[!]");
    assert_null(strstr(files(x), "content_base64"));
    assert_true(clock_ms() - start < 5000);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_named_file_comes_with_size_kind_and_content),
        T(a_named_file_that_is_not_there_is_said_to_be_missing),
        T(a_glob_is_missed_only_if_it_names_nothing),
        T(globs_stay_in_their_component_and_skip_hidden_names),
        T(two_stars_stand_for_any_folders),
        T(a_name_with_brackets_is_found_as_it_is_written),
        T(overlapping_globs_give_each_file_once_sorted),
        T(no_globs_give_no_files),
        T(links_are_never_followed),
        T(paths_that_climb_out_are_refused),
        T(what_is_no_regular_file_is_not_opened),
        T(a_sparse_giant_is_skipped_unread),
        T(all_files_together_stay_under_the_limit),
        T(files_past_the_limit_are_listed_then_counted),
        T(folders_a_thousand_deep_are_searched_only_so_far),
        T(odd_names_are_escaped),
        T(pictures_are_known_by_their_bytes_only),
        T(what_cannot_be_read_is_said_to_be_unreadable),
        T(hostile_globs_end_soon),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
