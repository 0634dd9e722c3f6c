/* A worker with fifty E2B sandboxes is killed: another one finishes its jobs
 * and has E2B destroy what the dead one left, long before it ends by itself. */
#include "tests/support/cmocka_all.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/support/double.h"
#include "tests/support/stage.h"

#define MANY     50
#define FEW      8
#define LEASE_MS 2000
/* The lease, the next look for the dead, and fifty DELETEs. */
#define REAPED_MS 10000
#define WAIT_MS   60000
#define ENV_MAX   10

static struct rig rig;
static struct e2b_double e2b;
static struct proc first, second;
static int jobs; /* of this test */

static void start(struct proc *worker)
{
    const char *env[ENV_MAX] = {"CAPIBOX_CONCURRENCY=50", "CAPIBOX_WAITING=0",
                                "CAPIBOX_LEASE_MS=2000"};
    int n = 3;

    for (int i = 0; e2b.env[i]; i++)
        env[n++] = e2b.env[i];
    env[n] = NULL;
    stage_worker(&rig, worker, env);
}

/* They are done when the double's sleepers are woken. */
static void push_sleepers(void)
{
    for (int i = 0; i < jobs; i++) {
        char job[256];

        snprintf(job, sizeof(job),
                 "{\"id\":\"s%d\",\"code\":\"import os\\nos.system('exec sleep "
                 "120')\\nprint('done')\"}",
                 i);
        rig_push(&rig, "default", job);
    }
}

/* Sandboxes that this worker made. */
static int alive_of(const char *wid)
{
    cJSON *report = double_ask(&e2b, "{\"cmd\":\"report\"}");
    const cJSON *one;
    int count = 0;

    cJSON_ArrayForEach(one, stage_at(report, "alive"))
    {
        const char *owner = stage_text(one, "metadata.capibox_worker");

        count += owner && strcmp(owner, wid) == 0;
    }
    cJSON_Delete(report);
    return count;
}

static bool none_is_left(void *wid)
{
    return alive_of(wid) == 0;
}

static bool all_run(void *ctx)
{
    (void)ctx;
    return double_number(&e2b, "requests.execute") >= jobs;
}

/* Fifty sandboxes run; wid gets the worker's id. */
static void fill_first(char wid[WORKER_ID_MAX + 1])
{
    start(&first);
    push_sleepers();
    assert_true(wait_until(all_run, NULL, WAIT_MS));
    snprintf(wid, WORKER_ID_MAX + 1, "%s", rig_job(&rig, "s0", "worker"));
    assert_int_equal(alive_of(wid), jobs);
}

static bool has_ended(void *id)
{
    household_wake(e2b.pid);
    return rig_job(&rig, id, "result")[0] != '\0';
}

static void expect_all_done(const char *dead)
{
    for (int i = 0; i < jobs; i++) {
        char id[16];

        snprintf(id, sizeof(id), "s%d", i);
        wait_until(has_ended, id, WAIT_MS);
        cJSON *r = stage_result(&rig, id);
        stage_expect(r, "verdict", "ok");
        stage_expect(r, "logs.stdout.0", "done\n");
        assert_string_not_equal(stage_text(r, "worker"), dead);
        cJSON_Delete(r);
    }
    assert_true(rig_settled(&rig));
    assert_int_equal(rig_stat(&rig, "total_executions"), jobs);
    assert_int_equal(rig_stat(&rig, "verdict:ok"), jobs);
    assert_int_equal(
        stage_cli(&rig, NULL, NULL, NULL, "stats", "--audit", NULL), 0);
}

static void kill_first_and_see(char *wid)
{
    int64_t killed_ms = clock_ms();

    proc_signal(&first, SIGKILL);
    assert_int_equal(proc_wait(&first, RIG_WAIT_MS), -SIGKILL);
    assert_int_equal(alive_of(wid), jobs); /* E2B knows nothing of it */
    assert_true(wait_until(none_is_left, wid, REAPED_MS));
    print_message("%d sandboxes of the dead were gone %.1f s after its end "
                  "(lease %.1f s)\n",
                  jobs, (double)(clock_ms() - killed_ms) / 1000,
                  LEASE_MS / 1000.0);
    expect_all_done(wid);
    assert_true(double_settled(&e2b, RIG_WAIT_MS));
    assert_int_equal(double_number(&e2b, "creates"), 2 * jobs);
    assert_int_equal(double_number(&e2b, "destroys"), 2 * jobs);
    assert_int_equal(double_number(&e2b, "expired"), 0);
}

static void a_dead_workers_jobs_and_sandboxes_are_taken_care_of(void **state)
{
    char wid[WORKER_ID_MAX + 1];

    (void)state;
    jobs = MANY;
    fill_first(wid);
    start(&second);
    kill_first_and_see(wid);
}

/* No sandbox can be made before those of the dead are gone. */
static void the_dead_do_not_block_a_full_account(void **state)
{
    char wid[WORKER_ID_MAX + 1];

    (void)state;
    jobs = FEW;
    cJSON_Delete(double_ask(&e2b, "{\"cmd\":\"max_sandboxes\",\"n\":8}"));
    fill_first(wid);
    start(&second);
    kill_first_and_see(wid);
}

static int open_all(void **state)
{
    static const char *const words[] = {"--max-sandboxes", "100", NULL};

    (void)state;
    stage_open(&rig, NULL);
    double_open(&e2b, words);
    return 0;
}

static int close_all(void **state)
{
    int ending = second.pid ? stage_end_worker(&second) : 0;

    (void)state;
    proc_stop(&first);
    proc_stop(&second);
    if (ending == 0)
        double_close(&e2b);
    else
        double_end(&e2b);
    rig_close(&rig);
    return ending;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            a_dead_workers_jobs_and_sandboxes_are_taken_care_of, open_all,
            close_all),
        cmocka_unit_test_setup_teardown(the_dead_do_not_block_a_full_account,
                                        open_all, close_all),
    };

    return cmocka_run_group_tests_name("e2b crash", tests, NULL, NULL);
}
