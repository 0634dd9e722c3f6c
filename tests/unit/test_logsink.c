/* tests/unit/test_logsink.c -- whoever does not read the log stops nobody. */
#include "tests/support/cmocka_all.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/logsink.h"
#include "common/must.h"
#include "common/scope.h"

#define LINES 5000

static int ends[2]; /* the reader's, the log's */

static int open_pipe(void **state)
{
    (void)state;
    MUST0(pipe2(ends, O_CLOEXEC));
    assert_true(logsink_open(ends[1]));
    return 0;
}

static int open_socket(void **state)
{
    (void)state;
    MUST0(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
    assert_true(logsink_open(ends[1]));
    return 0;
}

static int close_both(void **state)
{
    (void)state;
    logsink_close();
    close(ends[0]);
    close(ends[1]);
    return 0;
}

/* All that lies there; the caller frees it. */
static char *read_all(void)
{
    size_t size = 1 << 20, len = 0;
    char *text = malloc(size);
    ssize_t got;

    MUST(text && fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0);
    while ((got = read(ends[0], text + len, size - len - 1)) > 0)
        len += (size_t)got;
    text[len] = '\0';
    return text;
}

static int64_t lines_in(const char *text)
{
    int64_t n = 0;

    for (; (text = strchr(text, '\n')); text++)
        n++;
    return n;
}

/* "line 0017 xxxx…\n": so many of so many bytes, and how many were taken. */
static int64_t put_lines(size_t bytes)
{
    char line[8192];
    int64_t taken = 0;

    for (int i = 0; i < LINES; i++) {
        memset(line, 'x', bytes);
        memcpy(line, "line ", 5);
        line[bytes - 1] = '\n';
        taken += logsink_put(line, bytes) >= 0;
    }
    return taken;
}

static void a_reader_that_sleeps_costs_one_wait(void **state)
{
    int64_t began = clock_ms(), taken;
    AUTO_FREE char *text = NULL;

    (void)state;
    taken = put_lines(100);
    assert_in_range(clock_ms() - began, LOGSINK_WAIT_MS,
                    LOGSINK_WAIT_MS + 2000);
    assert_in_range(taken, 10, LINES - 10);
    text = read_all();
    assert_int_equal(lines_in(text), taken);
    /* It reads again. */
    assert_int_equal(logsink_put("line\n", 5), LINES - taken);
    assert_int_equal(logsink_put("line\n", 5), 0);
}

/* Whatever was cut: the next line begins as a line. */
static void a_long_line_cut_short_does_not_run_into_the_next(void **state)
{
    AUTO_FREE char *text = NULL, *rest = NULL;

    (void)state;
    put_lines(8000);
    text = read_all();
    assert_true(logsink_put("line after\n", 11) > 0);
    rest = read_all();
    if (text[strlen(text) - 1] == '\n')
        assert_string_equal(rest, "line after\n");
    else
        assert_string_equal(rest, "\nline after\n");
}

static void a_reader_that_left_costs_nothing(void **state)
{
    int64_t began = clock_ms();

    (void)state;
    close(ends[0]);
    assert_int_equal(put_lines(100), 0);
    assert_in_range(clock_ms() - began, 0, 1000);
    ends[0] = -1;
}

/* Others who have the pipe need not expect EAGAIN. */
static void the_descriptor_stays_as_it_was(void **state)
{
    (void)state;
    assert_int_equal(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0);
    put_lines(100);
    assert_int_equal(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0);
}

static void a_file_is_not_for_this(void **state)
{
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

    (void)state;
    assert_true(fd >= 0);
    assert_false(logsink_open(fd));
    close(fd);
}

/* As a daemon does it. */
static void what_is_missing_is_logged(void **state)
{
    int old = dup(STDERR_FILENO);
    AUTO_FREE char *text = NULL;

    (void)state;
    logsink_close();
    MUST(dup2(ends[1], STDERR_FILENO) == STDERR_FILENO);
    log_never_block();
    for (int i = 0; i < LINES; i++)
        log_warn("hello", LOG_I("i", i), LOG_END);
    free(read_all());
    log_warn("again", LOG_END);
    MUST(dup2(old, STDERR_FILENO) == STDERR_FILENO);
    close(old);
    text = read_all();
    assert_non_null(strstr(text, " again\n"));
    assert_non_null(strstr(text, "lines are missing above lines="));
}

#define ON(kind, test) cmocka_unit_test_setup_teardown(test, kind, close_both)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(open_pipe, a_reader_that_sleeps_costs_one_wait),
        ON(open_socket, a_reader_that_sleeps_costs_one_wait),
        ON(open_pipe, a_long_line_cut_short_does_not_run_into_the_next),
        ON(open_socket, a_long_line_cut_short_does_not_run_into_the_next),
        ON(open_pipe, a_reader_that_left_costs_nothing),
        ON(open_socket, a_reader_that_left_costs_nothing),
        ON(open_pipe, the_descriptor_stays_as_it_was),
        ON(open_socket, the_descriptor_stays_as_it_was),
        ON(open_pipe, what_is_missing_is_logged),
        cmocka_unit_test(a_file_is_not_for_this),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
