/* tests/unit/test_spawn.c -- programs run for what they print. */
#include "common/spawn.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/must.h"
#include "tests/support/cmocka_all.h"

#define LONG_MS 20000

static char *text;
static int code;

static int run(const char *script, const char *const *env, size_t max,
               int64_t ms)
{
    const char *argv[] = {"/bin/sh", "-c", script, NULL};

    free(text);
    text = NULL;
    code = -1;
    return spawn_read(argv, env, true, max, clock_ms() + ms, &text, &code);
}

static void output_and_exit_code_come_back(void **state)
{
    static const char *const env[] = {"A=b", NULL};

    (void)state;
    assert_int_equal(run("cat; echo $A$HOME; exit 3", env, 100, LONG_MS), 0);
    assert_string_equal(text, "b\n");
    assert_int_equal(code, 3);
    assert_int_equal(run("kill -9 $$", NULL, 100, LONG_MS), 0);
    assert_int_equal(code, 128 + 9);
}

static void time_and_output_are_bounded(void **state)
{
    int64_t start = clock_ms(), ms = 150;
    int rc;

    (void)state;
    assert_int_equal(run("sleep 60", NULL, 100, 100), -ETIMEDOUT);
    do /* it may be slow to say that it prints no more */
        rc = run("exec >&-; exec sleep 60", NULL, 100, ms *= 2);
    while (rc == -ETIMEDOUT && ms < LONG_MS / 4);
    assert_int_equal(rc, 0);
    assert_int_equal(code, 128 + 9);
    assert_int_equal(run("while :; do echo x; done", NULL, 100, LONG_MS),
                     -EFBIG);
    assert_null(text);
    assert_true(clock_ms() - start < LONG_MS);
}

static void a_program_that_is_not_there_is_said(void **state)
{
    const char *argv[] = {"/nowhere/x", NULL};

    (void)state;
    assert_int_equal(
        spawn_read(argv, NULL, true, 100, clock_ms() + LONG_MS, &text, &code),
        -ENOENT);
}

/* The worker blocks its signals; a child must not inherit that. */
static void blocked_signals_reach_the_program(void **state)
{
    sigset_t set, old;
    int rc;

    (void)state;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    MUST0(sigprocmask(SIG_BLOCK, &set, &old));
    rc = run("kill $$; echo alive", NULL, 100, LONG_MS);
    MUST0(sigprocmask(SIG_SETMASK, &old, NULL));
    assert_int_equal(rc, 0);
    assert_string_equal(text, "");
    assert_int_equal(code, 128 + SIGTERM);
}

static int end(void **state)
{
    (void)state;
    free(text);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_and_exit_code_come_back),
        cmocka_unit_test(time_and_output_are_bounded),
        cmocka_unit_test(a_program_that_is_not_there_is_said),
        cmocka_unit_test(blocked_signals_reach_the_program),
    };

    return cmocka_run_group_tests(tests, NULL, end);
}
