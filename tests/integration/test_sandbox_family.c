/* sandboxd's own processes: what a zygote must not share, and what becomes of
 * jobs when a spawner or zygote dies or hangs. */
#include <dirent.h>
#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/must.h"
#include "tests/support/cmocka_all.h"
#include "tests/support/proc.h"
#include "tests/support/sandbox_run.h"
#include "tests/support/venv.h"

#define WARM_MS 20000

static void expect(const struct sandbox_run *r, enum verdict verdict,
                   const char *out)
{
    bool as_expected = r->o.verdict == verdict && strcmp(r->out, out) == 0;

    if (!as_expected)
        sandbox_run_explain(r);
    assert_true(as_expected);
}

/* ---- zygotes ------------------------------------------------------------- */

static char folder[] = "/opt/capibox-test-XXXXXX";
static char interpreter[300];
static char module[] = "capibox_preloaded";
static char *preload[] = {module, NULL};

static bool make_folder(void)
{
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    if (!mkdtemp(folder))
        return false;
    MUST0(chmod(folder, 0755));
    venv_make(folder, module, interpreter, sizeof(interpreter));
    return true;
}

/* The module that the zygote imports. */
static void write_module(const char *text)
{
    char pattern[300];
    glob_t found;

    snprintf(pattern, sizeof(pattern), "%s/venv/lib/python3*/*/%s.py", folder,
             module);
    MUST0(glob(pattern, 0, NULL, &found));
    MUST0(io_write_file(found.gl_pathv[0], text));
    globfree(&found);
}

static void remove_folder(void)
{
    char command[64];

    snprintf(command, sizeof(command), "rm -rf %s", folder);
    MUST0(system(command));
}

static void prepare_warm(struct sandbox_run *r, const char *code)
{
    sandbox_run_prepare(r, LANGUAGE_PYTHON, code);
    r->spec.interpreter = interpreter;
    r->tpl.preload = preload;
    r->spec.limits.cpu_percent = 100; /* more is not for one thread */
}

static bool is_warm(const struct sandbox_run *r)
{
    return strstr(r->o.start, "warm") != NULL;
}

/* Runs the code until it ran warm, or until the zygote has had its time. */
static void run_warm(struct sandbox_run *r, const char *code)
{
    int64_t deadline = clock_ms() + WARM_MS;

    for (;;) {
        prepare_warm(r, code);
        sandbox_run_go(r);
        if (is_warm(r) || r->o.verdict != VERDICT_OK || clock_ms() > deadline)
            return;
        sandbox_run_done(r);
        usleep(100000);
    }
}

static void a_zygote_forks_what_it_has_imported(void **state)
{
    struct sandbox_run r;

    (void)state;
    if (!make_folder()) {
        print_message("SKIP: /opt is not writable\n");
        return;
    }
    write_module("board = bytearray(8)\n");
    for (int i = 0; i < 2; i++) {
        run_warm(&r, "import capibox_preloaded as m\n"
                     "print(m.board[0]); m.board[0] = 1");
        expect(&r, VERDICT_OK, "[\"0\\n\"]");
        assert_true(is_warm(&r));
        sandbox_run_done(&r);
    }
    remove_folder();
}

/* Not with what it took to fork it. */
static void a_fork_counts_as_one_process(void **state)
{
    struct sandbox_run r;

    (void)state;
    sandbox_run_prepare(&r, LANGUAGE_PYTHON, "print(1)");
    sandbox_run_go(&r);
    sandbox_run_done(&r);
    for (int i = 0; i < 50; i++) {
        sandbox_run_prepare(&r, LANGUAGE_PYTHON, "print(1)");
        sandbox_run_go(&r);
        expect(&r, VERDICT_OK, "[\"1\\n\"]");
        bool warm = is_warm(&r);
        int count = r.o.usage.peak_processes;
        sandbox_run_done(&r);
        if (count == 0) {
            print_message("SKIP: processes are not counted here\n");
            return;
        }
#ifdef __SANITIZE_THREAD__
        if (!warm) /* its run-time part has a thread of its own until the exec
                    */
            count = 1;
#endif
        assert_int_equal(count, 1);
        if (warm)
            return;
        usleep(100000);
    }
    fail();
}

/* Forks would share it, not copy it: a board on which one job leaves what the
 * next one reads. */
static void memory_that_forks_would_share_makes_no_zygote(void **state)
{
    static const char code[] = "import capibox_preloaded as m\n"
                               "print(m.board[0]); m.board[0] = 1";
    struct sandbox_run r;

    (void)state;
    if (!make_folder()) {
        print_message("SKIP: /opt is not writable\n");
        return;
    }
    write_module("import mmap\nboard = mmap.mmap(-1, 4096)\n");
    for (int i = 0; i < 20; i++) {
        prepare_warm(&r, code);
        sandbox_run_go(&r);
        expect(&r, VERDICT_OK, "[\"0\\n\"]");
        assert_false(is_warm(&r));
        sandbox_run_done(&r);
        usleep(100000); /* a zygote of so little is warm in a second */
    }
    remove_folder();
}

/* ---- waiting sandboxes --------------------------------------------------- */

/* One that waits has the limits of the job before. */
static void limits_go_up_and_down_from_job_to_job(void **state)
{
    static const int64_t megabytes[] = {100, 300, 20, 400, 100, 101};
    struct sandbox_run r;

    (void)state;
    for (size_t i = 0; i < sizeof(megabytes) / sizeof(*megabytes); i++) {
        for (int j = 0; j < 3; j++) {
            sandbox_run_prepare(&r, LANGUAGE_BASH, "echo hello");
            r.spec.limits.memory_bytes = megabytes[i] << 20;
            r.spec.limits.cpu_percent = 50 + (int)megabytes[i];
            r.spec.limits.pids = (int)megabytes[i];
            sandbox_run_go(&r);
            expect(&r, VERDICT_OK, "[\"hello\\n\"]");
            sandbox_run_done(&r);
            usleep(100000); /* time to make one that waits */
        }
    }
}

/* At once, not when it likes to. */
static void what_a_program_leaves_running_ends_with_it(void **state)
{
    struct sandbox_run r;

    (void)state;
    sandbox_run_prepare(&r, LANGUAGE_BASH,
                        "setsid sleep 10 & sleep 10 & sleep 0.2; echo end");
    sandbox_run_go(&r);
    expect(&r, VERDICT_OK, "[\"end\\n\"]");
    assert_true(r.o.timings.run < 5);
    assert_true(r.o.usage.context_switches > 0);
    sandbox_run_done(&r);
}

/* ---- spawners ------------------------------------------------------------ */

struct family {
    pid_t sandboxd, spawner; /* the latter 0: not found */
};

/* What the words of a process begin with, and its parent. */
static bool read_process(const char *pid, char *words, size_t size,
                         pid_t *parent_out)
{
    char path[300], *text;

    snprintf(path, sizeof(path), "/proc/%s/stat", pid);
    if (io_read_file(path, 4096, &text, NULL) < 0)
        return false;
    const char *end = strrchr(text, ')');
    bool known = end && sscanf(end, ") %*c %d", parent_out) == 1;
    free(text);
    snprintf(path, sizeof(path), "/proc/%s/cmdline", pid);
    size_t len;
    if (!known || io_read_file(path, 65536, &text, &len) < 0)
        return false;
    for (size_t i = 0; i + 1 < len; i++)
        text[i] = text[i] ? text[i] : ' ';
    snprintf(words, size, "%s", text);
    free(text);
    return true;
}

/* An init has a copy of its spawner's words, and a pid namespace of its own. */
static bool is_in_our_pid_space(const char *pid)
{
    char path[300], own[64] = "", other[64] = "";

    snprintf(path, sizeof(path), "/proc/%s/ns/pid", pid);
    return readlink("/proc/self/ns/pid", own, sizeof(own) - 1) > 0 &&
           readlink(path, other, sizeof(other) - 1) > 0 &&
           strcmp(own, other) == 0;
}

static pid_t find_child(pid_t parent, const char *words)
{
    DIR *proc = opendir("/proc");
    pid_t found = 0, its_parent;
    char text[512];

    for (const struct dirent *e; !found && proc && (e = readdir(proc));)
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9' &&
            read_process(e->d_name, text, sizeof(text), &its_parent) &&
            its_parent == parent && strstr(text, words) &&
            is_in_our_pid_space(e->d_name))
            found = atoi(e->d_name);
    closedir(proc);
    return found;
}

static struct family find_family(void)
{
    struct family f = {.sandboxd = find_child(getpid(), "--fd")};

    f.spawner = f.sandboxd ? find_child(f.sandboxd, "--spawner") : 0;
    return f;
}

static void prepare_bash(struct sandbox_run *r, const char *code)
{
    sandbox_run_prepare(r, LANGUAGE_BASH, code);
}

static void *go(void *run)
{
    sandbox_run_go(run);
    return NULL;
}

static void check_hello(void)
{
    struct sandbox_run r;

    prepare_bash(&r, "echo hello");
    sandbox_run_go(&r);
    expect(&r, VERDICT_OK, "[\"hello\\n\"]");
    sandbox_run_done(&r);
}

/* With a spawner that is not `dead`, which may take its time to die: one comes
 * back when one is needed, which is not as long as a sandbox of the one before
 * waits. */
static struct family find_lively_family(pid_t dead)
{
    struct family f = find_family();

    for (int i = 0; (f.spawner == 0 || f.spawner == dead) && i < 20; i++) {
        check_hello();
        f = find_family();
    }
    return f;
}

static void a_killed_spawner_costs_no_job(void **state)
{
    (void)state;
    check_hello();
    for (int i = 0; i < 5; i++) {
        struct family before = find_lively_family(0);

        assert_true(before.spawner > 0);
        MUST0(kill(before.spawner, SIGKILL));
        check_hello();
        struct family after = find_lively_family(before.spawner);
        assert_int_equal(after.sandboxd, before.sandboxd);
        assert_int_not_equal(after.spawner, before.spawner);
    }
}

/* More jobs than requests fit in its socket: sandboxd must neither wait for it
 * nor give the jobs up. */
static void a_stopped_spawner_holds_up_no_other_sandbox(void **state)
{
    enum { MANY = 64 };
    static struct sandbox_run busy, more[MANY];
    pthread_t busy_thread, threads[MANY];

    (void)state;
    check_hello();
    struct family f = find_family();
    prepare_bash(&busy, "echo on; sleep 60");
    busy.spec.limits.timeout_ms = 2000;
    sandbox_run_begin(&busy, &busy_thread); /* it runs */
    MUST0(kill(f.spawner, SIGSTOP));
    for (int i = 0; i < MANY; i++) {
        prepare_bash(&more[i], "echo hello");
        MUST0(pthread_create(&threads[i], NULL, go, &more[i]));
    }
    int64_t start = clock_ms();
    MUST0(pthread_join(busy_thread, NULL));
    assert_true(clock_ms() - start < 3500);
    expect(&busy, VERDICT_TIMEOUT, "[\"on\\n\"]");
    sandbox_run_done(&busy);
    for (int i = 0; i < MANY; i++) {
        MUST0(pthread_join(threads[i], NULL));
        expect(&more[i], VERDICT_OK, "[\"hello\\n\"]");
        sandbox_run_done(&more[i]);
    }
    assert_int_equal(find_family().sandboxd, f.sandboxd); /* it never died */
}

/* ---- inits --------------------------------------------------------------- */

static void kill_inits(pid_t sandboxd)
{
    DIR *proc = opendir("/proc");
    pid_t parent;
    char text[512];

    for (const struct dirent *e; proc && (e = readdir(proc));)
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9' &&
            read_process(e->d_name, text, sizeof(text), &parent) &&
            parent == sandboxd && !is_in_our_pid_space(e->d_name))
            kill(atoi(e->d_name), SIGKILL);
    closedir(proc);
}

static void kill_inits_at_first_output(void *ctx, bool is_stderr,
                                       const char *data, size_t size)
{
    (void)is_stderr, (void)data, (void)size;
    kill_inits(*(pid_t *)ctx);
}

/* No fault of the program's: its job may be tried again. */
static void a_sandbox_killed_from_outside_is_not_the_programs(void **state)
{
    pid_t sandboxd = find_family().sandboxd;
    struct run_sink sink = {kill_inits_at_first_output, &sandboxd};
    struct sandbox *sandbox = NULL;
    struct sandbox_run r;

    (void)state;
    prepare_bash(&r, "echo on; sleep 60");
    MUST0(outcome_init(&r.o, 1000));
    MUST0(backend_local.create(sandbox_run_backend, &r.job, &r.spec, &sandbox,
                               &r.o));
    r.rc = backend_local.run(sandbox, &sink, &r.o);
    backend_local.destroy(sandbox, &r.o);
    assert_true(r.rc < 0);
    assert_string_equal(verdict_name(r.o.verdict), "backend_error");
    outcome_fini(&r.o);
    check_hello();
    assert_int_equal(find_family().sandboxd, sandboxd); /* it never died */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_zygote_forks_what_it_has_imported),
        cmocka_unit_test(a_fork_counts_as_one_process),
        cmocka_unit_test(memory_that_forks_would_share_makes_no_zygote),
        cmocka_unit_test(limits_go_up_and_down_from_job_to_job),
        cmocka_unit_test(what_a_program_leaves_running_ends_with_it),
        cmocka_unit_test(a_killed_spawner_costs_no_job),
        cmocka_unit_test(a_sandbox_killed_from_outside_is_not_the_programs),
        cmocka_unit_test(a_stopped_spawner_holds_up_no_other_sandbox),
    };

    return cmocka_run_group_tests(tests, sandbox_run_open, sandbox_run_close);
}
