/* tests/unit/test_io.c -- reading and writing that does not stop half way. */
#include "tests/support/cmocka_all.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/io.h"
#include "common/must.h"
#include "common/scope.h"

/* The world at its worst: at most `slice` bytes a call, EINTR before each. */
static struct {
    size_t slice;     /* 0: calls go through untouched */
    bool interrupted; /* the last call was EINTR */
    int fail_after;   /* calls until `fail_errno`; -1: never */
    int fail_errno;   /* 0: the call returns 0 */
    bool no_memory;
} fault;

ssize_t __real_read(int fd, void *data, size_t size);
ssize_t __wrap_read(int fd, void *data, size_t size);
ssize_t __real_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);

/* What this call is to return instead of acting (1: act). */
static ssize_t fate(size_t *size)
{
    if (fault.slice == 0)
        return 1;
    fault.interrupted = !fault.interrupted;
    errno = EINTR;
    if (fault.interrupted)
        return -1;
    if (fault.fail_after == 0) {
        errno = fault.fail_errno;
        return fault.fail_errno ? -1 : 0;
    }
    if (fault.fail_after > 0)
        fault.fail_after--;
    if (*size > fault.slice)
        *size = fault.slice;
    return 1;
}

ssize_t __wrap_read(int fd, void *data, size_t size)
{
    ssize_t say = fate(&size);

    return say == 1 ? __real_read(fd, data, size) : say;
}

ssize_t __wrap_write(int fd, const void *data, size_t size)
{
    ssize_t say = fate(&size);

    return say == 1 ? __real_write(fd, data, size) : say;
}

void *__wrap_realloc(void *old, size_t size)
{
    return fault.no_memory ? NULL : __real_realloc(old, size);
}

struct place {
    char dir[64], file[80];
    int pipe[2], pair[2];
};

static int set_up(void **state)
{
    struct place *place = calloc(1, sizeof *place);

    MUST(place);
    strcpy(place->dir, "/tmp/capibox-io-XXXXXX");
    MUST(mkdtemp(place->dir));
    snprintf(place->file, sizeof place->file, "%s/f", place->dir);
    MUST0(pipe2(place->pipe, O_CLOEXEC));
    MUST0(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                     place->pair));
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;

    memset(&fault, 0, sizeof fault);
    for (int i = 0; i < 2; i++) {
        close(place->pipe[i]);
        close(place->pair[i]);
    }
    unlink(place->file);
    rmdir(place->dir);
    free(place);
    return 0;
}

static void make_file(const char *path, const char *text, size_t size)
{
    AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    MUST(fd >= 0);
    MUST0(io_write_full(fd, text, size));
}

static int open_fds(void)
{
    int count = 0;

    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void short_reads_and_writes_are_completed(void **state)
{
    struct place *place = *state;
    char got[11] = "";

    fault.slice = 3;
    fault.fail_after = -1;
    assert_int_equal(io_write_full(place->pipe[1], "0123456789", 10), 0);
    assert_int_equal(io_read_full(place->pipe[0], got, 10), 10);
    assert_string_equal(got, "0123456789");
}

static void reading_stops_at_the_end_of_the_file(void **state)
{
    struct place *place = *state;
    char got[100];

    assert_int_equal(io_write_full(place->pipe[1], "abc", 3), 0);
    close(place->pipe[1]);
    assert_int_equal(io_read_full(place->pipe[0], got, sizeof got), 3);
    assert_int_equal(io_read_full(place->pipe[0], got, sizeof got), 0);
    place->pipe[1] = -1;
}

static void an_error_half_way_is_reported(void **state)
{
    struct place *place = *state;
    char got[10];

    fault.slice = 2;
    fault.fail_after = 2;
    fault.fail_errno = ENOSPC;
    assert_int_equal(io_write_full(place->pipe[1], "0123456789", 10), -ENOSPC);
    fault.fail_after = 1;
    fault.fail_errno = EIO;
    assert_int_equal(io_read_full(place->pipe[0], got, 10), -EIO);
}

static void a_write_of_nothing_does_not_spin(void **state)
{
    struct place *place = *state;

    fault.slice = 2;
    fault.fail_after = 1;
    fault.fail_errno = 0;
    assert_int_equal(io_write_full(place->pipe[1], "0123", 4), -EIO);
}

static void a_file_is_read_whole_with_a_nul_behind(void **state)
{
    struct place *place = *state;
    char big[20000];
    AUTO_FREE char *text = NULL;
    size_t size;

    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (char)(i * 7);
    make_file(place->file, big, sizeof big);
    assert_int_equal(io_read_file(place->file, sizeof big, &text, &size), 0);
    assert_int_equal(size, sizeof big);
    assert_memory_equal(text, big, sizeof big);
    assert_int_equal(text[size], '\0');
}

static void an_empty_file_is_an_empty_text(void **state)
{
    struct place *place = *state;
    AUTO_FREE char *text = NULL;
    size_t size = 9;

    make_file(place->file, "", 0);
    assert_int_equal(io_read_file(place->file, 0, &text, &size), 0);
    assert_int_equal(size, 0);
    assert_string_equal(text, "");
}

static void one_byte_over_the_limit_is_too_big(void **state)
{
    struct place *place = *state;
    AUTO_FREE char *text = NULL;
    size_t size = 9;

    make_file(place->file, "12345", 5);
    assert_int_equal(io_read_file(place->file, 4, &text, &size), -EFBIG);
    assert_null(text);
    assert_int_equal(size, 9);
    assert_int_equal(io_read_file(place->file, 5, &text, NULL), 0);
    assert_string_equal(text, "12345");
}

static void files_that_claim_to_be_empty_are_read(void **state)
{
    AUTO_FREE char *text = NULL;
    size_t size;
    (void)state;

    assert_int_equal(io_read_file("/proc/self/status", 65536, &text, &size), 0);
    assert_true(size > 100);
    assert_int_equal(strlen(text), size);
}

static void reading_starts_at_the_folder_given(void **state)
{
    struct place *place = *state;
    AUTO_FD int dir = open(place->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_FREE char *text = NULL;

    make_file(place->file, "here", 4);
    assert_int_equal(io_read_file_at(dir, "f", 10, &text, NULL), 0);
    assert_string_equal(text, "here");
}

static void what_cannot_be_read_says_why(void **state)
{
    struct place *place = *state;
    char *text = NULL;
    int before = open_fds();

    assert_int_equal(io_read_file(place->file, 10, &text, NULL), -ENOENT);
    assert_int_equal(io_read_file(place->dir, 10, &text, NULL), -EISDIR);
    make_file(place->file, "x", 1);
    fault.no_memory = true;
    assert_int_equal(io_read_file(place->file, 10, &text, NULL), -ENOMEM);
    assert_null(text);
    assert_int_equal(open_fds(), before);
}

static void writing_a_file_replaces_its_text(void **state)
{
    struct place *place = *state;
    AUTO_FREE char *text = NULL;

    assert_int_equal(io_write_file(place->file, "x"), -ENOENT);
    make_file(place->file, "long before", 11);
    assert_int_equal(io_write_file(place->file, "max"), 0);
    assert_int_equal(io_read_file(place->file, 100, &text, NULL), 0);
    assert_string_equal(text, "max");
}

static void a_short_write_to_a_file_is_an_error(void **state)
{
    struct place *place = *state;

    make_file(place->file, "", 0);
    fault.slice = 2;
    fault.fail_after = -1;
    assert_int_equal(io_write_file(place->file, "max"), -EIO);
}

static void a_message_carries_bytes_and_descriptors(void **state)
{
    struct place *place = *state;
    int got[3];
    char data[10] = "";

    assert_int_equal(io_send_fds(place->pair[0], "hello", 5, place->pipe, 2),
                     0);
    assert_int_equal(io_recv_fds(place->pair[1], data, sizeof data, got, 3), 5);
    assert_string_equal(data, "hello");
    assert_true(got[0] >= 0 && got[1] >= 0);
    assert_int_equal(got[2], -1);
    assert_int_equal(fcntl(got[0], F_GETFD), FD_CLOEXEC);
    assert_int_equal(io_write_full(got[1], "x", 1), 0);
    assert_int_equal(io_read_full(got[0], data, 1), 1);
    close(got[0]);
    close(got[1]);
}

static void a_message_may_carry_no_descriptor(void **state)
{
    struct place *place = *state;
    char data[10];

    assert_int_equal(io_send_fds(place->pair[0], "a", 1, NULL, 0), 0);
    assert_int_equal(io_recv_fds(place->pair[1], data, 10, NULL, 0), 1);
}

static void messages_keep_their_bounds(void **state)
{
    struct place *place = *state;
    char data[10];

    assert_int_equal(io_send_fds(place->pair[0], "ab", 2, NULL, 0), 0);
    assert_int_equal(io_send_fds(place->pair[0], "cde", 3, NULL, 0), 0);
    assert_int_equal(io_recv_fds(place->pair[1], data, 10, NULL, 0), 2);
    assert_int_equal(io_recv_fds(place->pair[1], data, 10, NULL, 0), 3);
}

static void too_many_bytes_or_descriptors_leave_nothing_open(void **state)
{
    struct place *place = *state;
    int before = open_fds();
    int fds[4] = {place->pipe[0], place->pipe[1], place->pipe[0],
                  place->pipe[1]};
    int got[4];
    char data[4];

    for (size_t slots = 0; slots < 4; slots++) {
        assert_int_equal(io_send_fds(place->pair[0], "ab", 2, fds, 4), 0);
        assert_int_equal(io_recv_fds(place->pair[1], data, 4, got, slots),
                         -EMSGSIZE);
        for (size_t i = 0; i < slots; i++)
            assert_int_equal(got[i], -1);
        assert_int_equal(open_fds(), before);
    }
    /* Two in one slot: their space is padded, the kernel would deliver both. */
    assert_int_equal(io_send_fds(place->pair[0], "ab", 2, fds, 2), 0);
    assert_int_equal(io_recv_fds(place->pair[1], data, 4, got, 1), -EMSGSIZE);
    assert_int_equal(open_fds(), before);
    assert_int_equal(io_send_fds(place->pair[0], "12345", 5, fds, 4), 0);
    assert_int_equal(io_recv_fds(place->pair[1], data, 4, got, 4), -EMSGSIZE);
    assert_int_equal(open_fds(), before);
}

static void the_end_of_a_socket_is_no_error(void **state)
{
    struct place *place = *state;
    char data[4];
    int got[1];

    assert_int_equal(io_recv_fds(place->pair[1], data, 4, got, 1), -EAGAIN);
    close(place->pair[0]);
    assert_int_equal(io_recv_fds(place->pair[1], data, 4, got, 1), 0);
    assert_int_equal(io_send_fds(place->pair[1], "a", 1, NULL, 0), -EPIPE);
    place->pair[0] = -1;
}

static void what_would_look_like_an_end_is_refused(void **state)
{
    struct place *place = *state;
    int fds[IO_FDS_MAX + 1] = {0};

    assert_int_equal(io_send_fds(place->pair[0], "", 0, NULL, 0), -EINVAL);
    assert_int_equal(io_send_fds(place->pair[0], "a", 1, fds, IO_FDS_MAX + 1),
                     -EINVAL);
}

#define IN_A_PLACE(test) \
    cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_PLACE(short_reads_and_writes_are_completed),
        IN_A_PLACE(reading_stops_at_the_end_of_the_file),
        IN_A_PLACE(an_error_half_way_is_reported),
        IN_A_PLACE(a_write_of_nothing_does_not_spin),
        IN_A_PLACE(a_file_is_read_whole_with_a_nul_behind),
        IN_A_PLACE(an_empty_file_is_an_empty_text),
        IN_A_PLACE(one_byte_over_the_limit_is_too_big),
        IN_A_PLACE(files_that_claim_to_be_empty_are_read),
        IN_A_PLACE(reading_starts_at_the_folder_given),
        IN_A_PLACE(what_cannot_be_read_says_why),
        IN_A_PLACE(writing_a_file_replaces_its_text),
        IN_A_PLACE(a_short_write_to_a_file_is_an_error),
        IN_A_PLACE(a_message_carries_bytes_and_descriptors),
        IN_A_PLACE(a_message_may_carry_no_descriptor),
        IN_A_PLACE(messages_keep_their_bounds),
        IN_A_PLACE(too_many_bytes_or_descriptors_leave_nothing_open),
        IN_A_PLACE(the_end_of_a_socket_is_no_error),
        IN_A_PLACE(what_would_look_like_an_end_is_refused),
    };

    return cmocka_run_group_tests_name("io", tests, NULL, NULL);
}
