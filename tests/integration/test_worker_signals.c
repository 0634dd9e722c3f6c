/* The built capibox-worker and its signals, with real sandboxes. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/scope.h"
#include "tests/support/cmocka_all.h"
#include "tests/support/proc.h"
#include "tests/support/rig.h"

static struct rig rig;
static struct proc worker;
static char templates[300];

static int open_rig(void **state)
{
    (void)state;
    rig_open(&rig, (const char *const[]){"--appendonly", "yes", NULL});
    snprintf(templates, sizeof(templates), "%s/templates", rig.server.dir);
    MUST0(mkdir(templates, 0755));
    return 0;
}

static int close_rig(void **state)
{
    (void)state;
    proc_stop(&worker);
    rig_close(&rig);
    return 0;
}

static void write_template(const char *id, const char *text)
{
    char path[400];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s.json", templates, id);
    file = fopen(path, "we");
    MUST(file);
    MUST(fputs(text, file) >= 0);
    MUST0(fclose(file));
}

static void copy_template(const char *id)
{
    char path[64], text[65536] = "";
    FILE *file;

    snprintf(path, sizeof(path), "templates/%s.json", id);
    file = fopen(path, "re");
    MUST(file);
    MUST(fread(text, 1, sizeof(text) - 1, file) > 0);
    fclose(file);
    write_template(id, text);
}

static void start_worker(const char *flag)
{
    const char *argv[] = {proc_program("capibox-worker"),
                          "--redis",
                          rig.server.url,
                          "--concurrency",
                          "2",
                          "--templates",
                          templates,
                          "--allow-degraded",
                          flag,
                          NULL};

    copy_template("default");
    copy_template("quick_script");
    proc_start(&worker, &(struct proc_start){.argv = argv});
    assert_true(proc_says(&worker, "worker registered", RIG_WAIT_MS));
}

static void push_sleeper(void)
{
    rig_push(&rig, "default",
             "{\"id\":\"a\",\"template\":\"quick_script\",\"language\":"
             "\"bash\",\"code\":\"sleep 50\"}");
    assert_true(rig_wait_job(&rig, "a", "status", "running"));
}

static void a_second_sigterm_gives_running_jobs_back_at_once(void **state)
{
    (void)state;
    start_worker(NULL);
    push_sleeper();
    proc_signal(&worker, SIGTERM);
    assert_true(proc_says(&worker, "draining", RIG_WAIT_MS));
    assert_int_equal(proc_wait(&worker, 300), PROC_RUNNING); /* it has 30 s */
    assert_string_equal(rig_job(&rig, "a", "status"), "running");
    proc_signal(&worker, SIGTERM);
    assert_int_equal(proc_wait(&worker, RIG_WAIT_MS), 0);
    assert_string_equal(rig_job(&rig, "a", "status"), "queued");
    assert_int_equal(rig_stat(&rig, "released"), 1);
    assert_int_equal(rig_stat(&rig, "total_executions"), 0);
}

static void a_supervisor_passes_both_signals_on(void **state)
{
    (void)state;
    start_worker("--supervise");
    push_sleeper();
    proc_signal(&worker, SIGINT);
    assert_true(proc_says(&worker, "draining", RIG_WAIT_MS));
    proc_signal(&worker, SIGINT);
    assert_int_equal(proc_wait(&worker, RIG_WAIT_MS), 0);
    assert_string_equal(rig_job(&rig, "a", "status"), "queued");
}

/* A terminal sends Ctrl-C to a whole process group; the worker must only get
 * what its supervisor passes on. */
static void one_ctrl_c_is_one_signal_below_a_supervisor(void **state)
{
    (void)state;
    start_worker("--supervise");
    assert_int_not_equal(getpgid(rig_worker_pid(&rig)), getpgid(worker.pid));
}

static void
a_reload_leaves_a_bad_template_out_and_keeps_the_others(void **state)
{
    (void)state;
    start_worker(NULL);
    write_template("broken", "{\"id\": \"broken\",\n nonsense");
    proc_signal(&worker, SIGHUP);
    assert_true(proc_says(&worker, "broken.json", RIG_WAIT_MS));
    assert_true(proc_says(&worker, "templates reloaded", RIG_WAIT_MS));
    rig_push(&rig, "default",
             "{\"id\":\"a\",\"template\":\"quick_script\",\"language\":"
             "\"bash\",\"code\":\"echo hi\"}");
    assert_true(rig_wait_job(&rig, "a", "status", "succeeded"));
    rig_push(&rig, "default",
             "{\"id\":\"b\",\"template\":\"broken\",\"code\":\"x\"}");
    assert_true(rig_wait_job(&rig, "b", "verdict", "rejected"));
    proc_signal(&worker, SIGTERM);
    assert_int_equal(proc_wait(&worker, RIG_WAIT_MS), 0);
}

static void a_reload_without_any_template_keeps_the_old_ones(void **state)
{
    char path[400];

    (void)state;
    start_worker(NULL);
    snprintf(path, sizeof(path), "%s/default.json", templates);
    MUST0(unlink(path));
    snprintf(path, sizeof(path), "%s/quick_script.json", templates);
    MUST0(unlink(path));
    proc_signal(&worker, SIGHUP);
    assert_true(proc_says(&worker, "the old templates stay", RIG_WAIT_MS));
    rig_push(&rig, "default",
             "{\"id\":\"a\",\"template\":\"quick_script\",\"language\":"
             "\"bash\",\"code\":\"echo hi\"}");
    assert_true(rig_wait_job(&rig, "a", "status", "succeeded"));
    proc_signal(&worker, SIGTERM);
    assert_int_equal(proc_wait(&worker, RIG_WAIT_MS), 0);
}

/* Its helper is missing: no other start would find it. */
static void a_worker_that_cannot_start_is_not_restarted(void **state)
{
    char alone[400];
    const char *copy[] = {"cp", proc_program("capibox-worker"), alone, NULL};
    const char *argv[] = {
        alone,         "--supervise", "--redis", rig.server.url,
        "--templates", "templates",   NULL};
    AUTO_FREE char *err = NULL;

    (void)state;
    snprintf(alone, sizeof(alone), "%s/capibox-worker", rig.server.dir);
    assert_int_equal(
        proc_run(&(struct proc_start){.argv = copy}, RIG_WAIT_MS, NULL, NULL),
        0);
    assert_int_equal(
        proc_run(&(struct proc_start){.argv = argv}, RIG_WAIT_MS, NULL, &err),
        4);
    assert_non_null(strstr(err, "capibox-sandboxd is missing"));
}

#define WITH_RIG(test) \
    cmocka_unit_test_setup_teardown(test, open_rig, close_rig)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RIG(a_second_sigterm_gives_running_jobs_back_at_once),
        WITH_RIG(a_supervisor_passes_both_signals_on),
        WITH_RIG(one_ctrl_c_is_one_signal_below_a_supervisor),
        WITH_RIG(a_reload_leaves_a_bad_template_out_and_keeps_the_others),
        WITH_RIG(a_reload_without_any_template_keeps_the_old_ones),
        WITH_RIG(a_worker_that_cannot_start_is_not_restarted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
