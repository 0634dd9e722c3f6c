#include <signal.h>
#include <string.h>

#include "tests/support/cmocka_all.h"
#include "worker/explain.h"
#include "worker/local/verdict.h"

/* A program that ended by itself with this exit code. */
static struct wire_ended exited(int code)
{
    return (struct wire_ended){.kind = WIRE_ENDED, .exit_code = code};
}

static struct wire_ended signalled(int sig)
{
    return (struct wire_ended){
        .kind = WIRE_ENDED, .exit_code = -1, .signal = sig};
}

/* Killed by us. */
static struct wire_ended killed(int reason)
{
    struct wire_ended e = signalled(SIGKILL);

    e.reason = reason;
    return e;
}

static void the_exit_code_decides_when_nothing_else_does(void **state)
{
    struct wire_ended ok = exited(0), bad = exited(3);

    (void)state;
    assert_int_equal(verdict_decide(&ok), VERDICT_OK);
    assert_int_equal(verdict_decide(&bad), VERDICT_USER_ERROR);
}

static void signals_are_told_apart(void **state)
{
    struct wire_ended crash = signalled(SIGSEGV), kill = signalled(SIGKILL);
    struct wire_ended denied = signalled(SIGSYS), cpu = signalled(SIGXCPU);
    struct wire_ended file = signalled(SIGXFSZ);

    (void)state;
    assert_int_equal(verdict_decide(&crash), VERDICT_SIGNAL);
    assert_int_equal(verdict_decide(&kill), VERDICT_SIGNAL);
    assert_int_equal(verdict_decide(&denied), VERDICT_DENIED_SYSCALL);
    assert_int_equal(verdict_decide(&cpu), VERDICT_TIMEOUT);
    assert_int_equal(verdict_decide(&file), VERDICT_DISK_LIMIT);
}

static void our_reason_decides_when_we_killed(void **state)
{
    static const struct {
        int reason;
        enum verdict verdict;
    } rows[] = {
        {WIRE_TIMEOUT, VERDICT_TIMEOUT},     {WIRE_OOM, VERDICT_OOM},
        {WIRE_OUTPUT, VERDICT_OUTPUT_LIMIT}, {WIRE_CANCEL, VERDICT_CANCELLED},
        {WIRE_ABANDON, VERDICT_NONE},        {WIRE_LOST, VERDICT_BACKEND_ERROR},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct wire_ended e = killed(rows[i].reason);
        assert_int_equal(verdict_decide(&e), rows[i].verdict);
    }
}

static void the_kernels_oom_counter_beats_all_but_giving_up(void **state)
{
    struct wire_ended e = exited(0);

    (void)state;
    e.oom_kills = 1;
    assert_int_equal(verdict_decide(&e), VERDICT_OOM);
    e = killed(WIRE_TIMEOUT);
    e.oom_kills = e.pids_refused = e.disk_full = 1;
    assert_int_equal(verdict_decide(&e), VERDICT_OOM);
    e.reason = WIRE_ABANDON;
    assert_int_equal(verdict_decide(&e), VERDICT_NONE);
}

static void a_limit_counts_only_for_a_run_that_failed(void **state)
{
    struct wire_ended e = exited(0);

    (void)state;
    e.pids_refused = 5;
    e.disk_full = 1;
    assert_int_equal(verdict_decide(&e), VERDICT_OK);
    e.exit_code = 1;
    assert_int_equal(verdict_decide(&e), VERDICT_DISK_LIMIT);
    e.disk_full = 0;
    assert_int_equal(verdict_decide(&e), VERDICT_PIDS_LIMIT);
    e = killed(WIRE_TIMEOUT);
    e.pids_refused = 5;
    assert_int_equal(verdict_decide(&e), VERDICT_PIDS_LIMIT);
}

static void an_interpreter_that_never_started_is_our_failure(void **state)
{
    struct wire_ended e = exited(-1);

    (void)state;
    e.exec_error = 2;
    assert_int_equal(verdict_decide(&e), VERDICT_SETUP_FAILED);
}

static void every_failure_says_why(void **state)
{
    struct template_limits limits = {.timeout_ms = 1500,
                                     .memory_bytes = 64 << 20,
                                     .pids = 3,
                                     .disk_bytes = 1 << 20,
                                     .output_bytes = 1 << 10};

    (void)state;
    for (int v = VERDICT_USER_ERROR; v <= VERDICT_CANCELLED; v++) {
        struct outcome o;

        assert_int_equal(outcome_init(&o, 100), 0);
        o.verdict = (enum verdict)v;
        explain(&limits, &o);
        assert_non_null(o.error);
        outcome_fini(&o);
    }
}

static void a_reported_error_is_the_message(void **state)
{
    struct template_limits limits = {0};
    struct outcome o;

    (void)state;
    assert_int_equal(outcome_init(&o, 100), 0);
    o.verdict = VERDICT_USER_ERROR;
    o.error_name = strdup("KeyError");
    o.error_value = strdup("'x'");
    explain(&limits, &o);
    assert_string_equal(o.error, "KeyError: 'x'");
    outcome_fini(&o);
}

static size_t warnings_of(const struct wire_ended *e, enum verdict verdict,
                          const char *word)
{
    const struct template_limits limits = {.pids = 5, .disk_bytes = 7 << 20};
    struct outcome o;
    size_t count;

    assert_int_equal(outcome_init(&o, 100), 0);
    o.verdict = verdict;
    verdict_warn(e, &limits, &o);
    count = o.nwarnings;
    if (count > 0)
        assert_non_null(strstr(o.warnings[0], word));
    outcome_fini(&o);
    return count;
}

static void a_limit_that_did_not_end_the_run_is_a_warning(void **state)
{
    struct wire_ended fine = exited(0), forks = exited(0), disk = exited(0);

    (void)state;
    forks.pids_refused = 3;
    disk.disk_full = 1;
    assert_int_equal(warnings_of(&fine, VERDICT_OK, ""), 0);
    assert_int_equal(warnings_of(&forks, VERDICT_OK, "refused 3 times"), 1);
    assert_int_equal(warnings_of(&forks, VERDICT_PIDS_LIMIT, ""), 0);
    assert_int_equal(warnings_of(&disk, VERDICT_OK, "disk of 7 MB"), 1);
    assert_int_equal(warnings_of(&disk, VERDICT_DISK_LIMIT, ""), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_exit_code_decides_when_nothing_else_does),
        cmocka_unit_test(signals_are_told_apart),
        cmocka_unit_test(our_reason_decides_when_we_killed),
        cmocka_unit_test(the_kernels_oom_counter_beats_all_but_giving_up),
        cmocka_unit_test(a_limit_counts_only_for_a_run_that_failed),
        cmocka_unit_test(an_interpreter_that_never_started_is_our_failure),
        cmocka_unit_test(every_failure_says_why),
        cmocka_unit_test(a_reported_error_is_the_message),
        cmocka_unit_test(a_limit_that_did_not_end_the_run_is_a_warning),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
