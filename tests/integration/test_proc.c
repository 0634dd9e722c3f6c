/* tests/integration/test_proc.c -- the helper the end-to-end tests stand on. */
#include "tests/support/cmocka_all.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/scope.h"
#include "tests/support/proc.h"

#define PATIENCE_MS 20000

static const char *const *shell(const char *script)
{
    static const char *argv[4] = {"sh", "-c"};

    argv[2] = script;
    return argv;
}

static int set_up(void **state)
{
    *state = calloc(1, sizeof(struct proc));
    MUST(*state);
    return 0;
}

static int tear_down(void **state)
{
    proc_stop(*state);
    proc_stop(*state);
    free(*state);
    return 0;
}

static void start(struct proc *p, const char *script)
{
    proc_start(p, &(struct proc_start){.argv = shell(script)});
}

static void output_and_exit_code_come_back(void **state)
{
    AUTO_FREE char *out = NULL;
    AUTO_FREE char *err = NULL;
    struct proc_start how = {
        .argv = shell("cat; echo \"$ONE-${HOME-none}\"; echo no >&2; exit 3"),
        .env = (const char *const[]){"ONE=1", "HOME", NULL},
        .stdin_text = "hello "};
    (void)state;

    assert_int_equal(proc_run(&how, PATIENCE_MS, &out, &err), 3);
    assert_string_equal(out, "hello 1-none\n");
    assert_string_equal(err, "no\n");
}

static void added_variables_replace_ours(void **state)
{
    AUTO_FREE char *out = NULL;
    struct proc_start how = {.argv = shell("echo $CAPIBOX_A $CAPIBOX_AB"),
                             .env =
                                 (const char *const[]){"CAPIBOX_A=new", NULL}};
    (void)state;

    setenv("CAPIBOX_A", "old", 1);
    setenv("CAPIBOX_AB", "kept", 1);
    assert_int_equal(proc_run(&how, PATIENCE_MS, &out, NULL), 0);
    assert_string_equal(out, "new kept\n");
}

static void a_signal_that_kills_is_told_from_an_exit(void **state)
{
    start(*state, "kill -TERM $$");
    assert_int_equal(proc_wait(*state, PATIENCE_MS), -SIGTERM);
    assert_int_equal(proc_wait(*state, 0), -SIGTERM);
    proc_signal(*state, SIGKILL);
}

static void waiting_ends_at_its_deadline(void **state)
{
    struct proc *p = *state;
    int64_t start_ms = clock_ms();

    start(p, "sleep 600");
    assert_int_equal(proc_wait(p, 50), PROC_RUNNING);
    assert_true(clock_ms() - start_ms >= 50);
    proc_signal(p, SIGTERM);
    assert_int_equal(proc_wait(p, PATIENCE_MS), -SIGTERM);
}

static void what_it_says_is_seen_while_it_runs(void **state)
{
    struct proc *p = *state;

    start(p, "echo ready >&2; exec sleep 600");
    assert_true(proc_says(p, "ready", PATIENCE_MS));
    assert_int_equal(proc_wait(p, 0), PROC_RUNNING);
}

static void nobody_waits_for_the_words_of_the_dead(void **state)
{
    struct proc *p = *state;
    int64_t start_ms = clock_ms();

    start(p, "echo last words");
    assert_true(proc_says(p, "last words", PATIENCE_MS));
    assert_false(proc_says(p, "more", PATIENCE_MS));
    assert_true(clock_ms() - start_ms < PATIENCE_MS);
}

static void a_program_that_is_not_there_exits_127(void **state)
{
    struct proc_start how = {.argv = (const char *const[]){"/no/such", NULL}};
    (void)state;

    assert_int_equal(proc_run(&how, PATIENCE_MS, NULL, NULL), 127);
}

static void stopping_leaves_no_process_and_no_folder(void **state)
{
    struct proc *p = *state;
    char dir[sizeof p->dir];

    start(p, "exec sleep 600");
    pid_t pid = p->pid;
    strcpy(dir, p->dir);
    assert_int_equal(access(dir, F_OK), 0);
    proc_stop(p);
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(access(dir, F_OK), -1);
}

/* A test that crashes must not leave its programs behind. */
static void programs_die_with_the_test(void **state)
{
    struct proc orphan;
    int ends[2];
    (void)state;

    /* The orphan becomes ours to reap: nothing else here says it died. */
    MUST0(prctl(PR_SET_CHILD_SUBREAPER, 1));
    MUST0(pipe(ends));
    pid_t child = fork();
    if (child == 0) {
        struct proc p;

        start(&p, "echo up; exec sleep 600");
        MUST(proc_says(&p, "up", PATIENCE_MS));
        MUST(write(ends[1], &p, sizeof p) == sizeof p);
        raise(SIGKILL);
    }
    MUST(child > 0);
    MUST(read(ends[0], &orphan, sizeof orphan) == sizeof orphan);
    MUST(waitpid(child, NULL, 0) == child);
    assert_int_equal(proc_wait(&orphan, PATIENCE_MS), -SIGKILL);
    proc_stop(&orphan);
    close(ends[0]);
    close(ends[1]);
}

#define WITH_ONE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ONE(output_and_exit_code_come_back),
        WITH_ONE(added_variables_replace_ours),
        WITH_ONE(a_signal_that_kills_is_told_from_an_exit),
        WITH_ONE(waiting_ends_at_its_deadline),
        WITH_ONE(what_it_says_is_seen_while_it_runs),
        WITH_ONE(nobody_waits_for_the_words_of_the_dead),
        WITH_ONE(a_program_that_is_not_there_exits_127),
        WITH_ONE(stopping_leaves_no_process_and_no_folder),
        WITH_ONE(programs_die_with_the_test),
    };

    return cmocka_run_group_tests_name("proc", tests, NULL, NULL);
}
