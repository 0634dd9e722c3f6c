/* Workers and Redis killed, stopped and drained while they hold real jobs:
 * nothing is lost, nothing counts twice, nothing is left on the host. */
#include "tests/support/cmocka_all.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/scope.h"
#include "tests/support/stage.h"

/* What a dead worker leaves lives a moment, on a busy machine some more; jobs
 * that are held live much longer. */
#define GONE_MS 5000
#define HELD    "60" /* seconds: until it is woken */
#define DRAINED 0

static struct rig rig;
static struct proc first, second;
static struct household house;

static const char *const four_at_a_time[] = {"CAPIBOX_CONCURRENCY=4",
                                             "CAPIBOX_WAITING=0",
                                             "CAPIBOX_LEASE_MS=2000", NULL};

static void push_sleeper(const char *id, const char *seconds)
{
    char job[256];

    snprintf(job, sizeof(job),
             "{\"id\":\"%s\",\"template\":\"quick_script\",\"language\":"
             "\"bash\",\"code\":\"sleep %s; echo done\"}",
             id, seconds);
    rig_push(&rig, "default", job);
}

static void push_sleepers(const char *name, int n, const char *seconds)
{
    char id[32];

    for (int i = 0; i < n; i++) {
        snprintf(id, sizeof(id), "%s%d", name, i);
        push_sleeper(id, seconds);
    }
}

struct counted {
    const char *name;
    int of, least;
};

static bool enough_run(void *ctx)
{
    struct counted *c = ctx;
    char id[32];
    int running = 0;

    for (int i = 0; i < c->of; i++) {
        snprintf(id, sizeof(id), "%s%d", c->name, i);
        running += strcmp(rig_job(&rig, id, "status"), "running") == 0;
    }
    return running >= c->least;
}

static void wait_for_running(const char *name, int of, int least)
{
    struct counted c = {name, of, least};

    assert_true(wait_until(enough_run, &c, RIG_WAIT_MS));
}

/* Whoever runs it is woken until it has. */
static bool has_ended(void *id)
{
    if (first.pid > 0)
        household_wake(first.pid);
    if (second.pid > 0)
        household_wake(second.pid);
    return rig_job(&rig, id, "result")[0] != '\0';
}

/* Woken, they all succeed; each counted once. */
static void expect_all(const char *name, int n, long long total)
{
    char id[32];

    for (int i = 0; i < n; i++) {
        snprintf(id, sizeof(id), "%s%d", name, i);
        wait_until(has_ended, id, RIG_WAIT_MS);
        cJSON *r = stage_result(&rig, id);
        stage_expect(r, "verdict", "ok");
        stage_expect(r, "logs.stdout.0", "done\n");
        cJSON_Delete(r);
    }
    assert_true(rig_settled(&rig));
    assert_int_equal(rig_stat(&rig, "total_executions"), total);
    assert_int_equal(rig_stat(&rig, "successful_executions"), total);
    assert_int_equal(rig_stat(&rig, "verdict:ok"), total);
    assert_int_equal(
        stage_cli(&rig, NULL, NULL, NULL, "stats", "--audit", NULL), 0);
}

struct running {
    const struct proc *worker;
    int sandboxes;
};

/* The worker, its sandboxd and spawner, and an init, a bash and a sleep each.
 */
static bool all_inside(void *ctx)
{
    struct running *r = ctx;

    household_list(r->worker->pid, &house);
    return house.count >= 3 + 3 * r->sandboxes;
}

/* Also a check of the check: while they run there are cgroups. */
static void list_with_sandboxes(struct proc *worker, int sandboxes)
{
    struct running r = {worker, sandboxes};

    assert_true(wait_until(all_inside, &r, RIG_WAIT_MS));
    assert_true(household_cgroups(&house) > 0);
}

static void jobs_of_a_killed_worker_finish_elsewhere_once(void **state)
{
    (void)state;
    stage_worker(&rig, &first, four_at_a_time);
    push_sleepers("k", 6, HELD);
    wait_for_running("k", 6, 4);
    list_with_sandboxes(&first, 4);
    proc_signal(&first, SIGKILL);
    assert_int_equal(proc_wait(&first, RIG_WAIT_MS), -SIGKILL);
    household_gone(&house, GONE_MS);
    stage_worker(&rig, &second, four_at_a_time);
    expect_all("k", 6, 6);
    assert_true(atoi(rig_job(&rig, "k0", "attempt")) >= 1);
    assert_int_equal(stage_end_worker(&second), DRAINED);
}

static bool runs_on_another(void *ctx)
{
    char owner[WORKER_ID_MAX + 1];

    snprintf(owner, sizeof(owner), "%s", rig_job(&rig, "f0", "worker"));
    return owner[0] && strcmp(owner, ctx) != 0;
}

/* All of it; the worker, its sandboxd and spawner stay. */
static bool first_run_is_gone(void *ctx)
{
    (void)ctx;
    return household_alive(&house) <= house.count - 3;
}

/* Stopped past its lease, it wakes up with a sandbox of a job that is not its
 * own any more. */
static void a_worker_that_overslept_gives_up_its_job(void **state)
{
    char owner[WORKER_ID_MAX + 1];

    (void)state;
    stage_worker(&rig, &first, four_at_a_time);
    push_sleeper("f0", HELD);
    wait_for_running("f", 1, 1);
    snprintf(owner, sizeof(owner), "%s", rig_job(&rig, "f0", "worker"));
    list_with_sandboxes(&first, 1);
    proc_signal(&first, SIGSTOP);
    stage_worker(&rig, &second, four_at_a_time);
    assert_true(wait_until(runs_on_another, owner, RIG_WAIT_MS));
    proc_signal(&first, SIGCONT);
    assert_true(wait_until(first_run_is_gone, NULL, GONE_MS));
    assert_string_equal(rig_job(&rig, "f0", "status"), "running");
    assert_true(proc_says(&first, "identity lost", RIG_WAIT_MS));
    expect_all("f", 1, 1);
    cJSON *r = stage_result(&rig, "f0");
    assert_string_not_equal(stage_text(r, "worker"), owner);
    cJSON_Delete(r);
    assert_int_equal(stage_end_worker(&first), DRAINED);
    assert_int_equal(stage_end_worker(&second), DRAINED);
}

static bool registered_twice(void *ctx)
{
    AUTO_FREE char *log = proc_err(ctx);
    const char *line = strstr(log, "worker registered");

    return line && strstr(line + 1, "worker registered");
}

/* The same, with a job that ends while its worker is stopped. */
static void a_late_result_is_refused(void **state)
{
    char owner[WORKER_ID_MAX + 1];

    (void)state;
    stage_worker(&rig, &first, four_at_a_time);
    push_sleeper("l0", HELD);
    wait_for_running("l", 1, 1);
    snprintf(owner, sizeof(owner), "%s", rig_job(&rig, "l0", "worker"));
    list_with_sandboxes(&first, 1);
    proc_signal(&first, SIGSTOP);
    household_wake_one(first.pid);
    assert_true(wait_until(first_run_is_gone, NULL, RIG_WAIT_MS));
    stage_worker(&rig, &second, four_at_a_time);
    expect_all("l", 1, 1);
    AUTO_FREE char *before = stage_field(&rig, "l0", "result");
    assert_null(strstr(before, owner));
    proc_signal(&first, SIGCONT);
    assert_true(wait_until(registered_twice, &first, RIG_WAIT_MS));
    assert_int_equal(stage_end_worker(&first), DRAINED);
    AUTO_FREE char *after = stage_field(&rig, "l0", "result");
    assert_string_equal(after, before);
    expect_all("l", 1, 1);
    assert_int_equal(stage_end_worker(&second), DRAINED);
}

static void redis_killed_under_load_loses_nothing(void **state)
{
    (void)state;
    stage_worker(&rig, &first, four_at_a_time);
    push_sleepers("r", 40, "0.1");
    assert_true(rig_wait_stat(&rig, "total_executions", 8));
    redis_server_kill(&rig.server);
    assert_true(proc_says(&first, "queue connection lost", RIG_WAIT_MS));
    redis_server_restart(&rig.server);
    expect_all("r", 40, 40);
    assert_int_equal(stage_end_worker(&first), DRAINED);
}

/* Of the jobs that run, how many are this worker's. */
static int running_by(const struct proc *worker, const char *name, int of)
{
    char pid[16], id[32], key[KEY_MAX], owner[WORKER_ID_MAX + 1];
    int count = 0;

    for (int i = 0; i < of; i++) {
        snprintf(id, sizeof(id), "%s%d", name, i);
        if (strcmp(rig_job(&rig, id, "status"), "running") != 0)
            continue;
        snprintf(owner, sizeof(owner), "%s", rig_job(&rig, id, "worker"));
        protocol_key(&rig.protocol, key, "worker", owner);
        rig_text(&rig, pid, sizeof(pid), "HGET", key, "pid", NULL);
        count += atoi(pid) == worker->pid;
    }
    return count;
}

static bool both_are_full(void *ctx)
{
    int of = *(int *)ctx;

    return running_by(&first, "w", of) == 4 &&
           running_by(&second, "w", of) == 4;
}

static void two_workers_share_a_list(void **state)
{
    int jobs = 24;
    int by_first = 0;
    char id[32], owner[WORKER_ID_MAX + 1] = "";

    (void)state;
    stage_worker(&rig, &first, four_at_a_time);
    stage_worker(&rig, &second, four_at_a_time);
    push_sleepers("w", jobs, HELD);
    assert_true(wait_until(both_are_full, &jobs, RIG_WAIT_MS));
    expect_all("w", jobs, jobs);
    for (int i = 0; i < jobs; i++) {
        snprintf(id, sizeof(id), "w%d", i);
        if (!owner[0])
            snprintf(owner, sizeof(owner), "%s", rig_job(&rig, id, "worker"));
        by_first += strcmp(rig_job(&rig, id, "worker"), owner) == 0;
        assert_string_equal(rig_job(&rig, id, "attempt"), "1");
    }
    assert_in_range(by_first, 4, 20);
    assert_int_equal(stage_end_worker(&first), DRAINED);
    assert_int_equal(stage_end_worker(&second), DRAINED);
}

static bool ends_woken(void *ctx)
{
    struct proc *worker = ctx;

    if (proc_wait(worker, 0) != PROC_RUNNING)
        return true;
    household_wake(worker->pid);
    return false;
}

static void sigterm_lets_running_jobs_finish(void **state)
{
    (void)state;
    stage_worker(&rig, &first, four_at_a_time);
    push_sleepers("d", 4, HELD);
    wait_for_running("d", 4, 4);
    proc_signal(&first, SIGTERM);
    assert_true(proc_says(&first, "draining", RIG_WAIT_MS));
    push_sleeper("d4", "0"); /* not its own any more */
    assert_true(wait_until(ends_woken, &first, RIG_WAIT_MS));
    assert_int_equal(first.ending, DRAINED);
    assert_int_equal(rig_stat(&rig, "successful_executions"), 4);
    assert_int_equal(rig_number(&rig, "LLEN", "{capibox}:queue:default", NULL),
                     1);
    proc_stop(&first);
    stage_worker(&rig, &second, four_at_a_time);
    expect_all("d", 5, 5);
    assert_int_equal(stage_end_worker(&second), DRAINED);
}

static void a_second_sigterm_gives_the_jobs_back(void **state)
{
    char id[8];

    (void)state;
    stage_worker(&rig, &first, four_at_a_time);
    push_sleepers("s", 4, HELD);
    wait_for_running("s", 4, 4);
    list_with_sandboxes(&first, 4);
    proc_signal(&first, SIGTERM);
    assert_true(proc_says(&first, "draining", RIG_WAIT_MS));
    proc_signal(&first, SIGTERM);
    assert_int_equal(proc_wait(&first, RIG_WAIT_MS), DRAINED);
    household_gone(&house, GONE_MS);
    assert_int_equal(rig_stat(&rig, "total_executions"), 0);
    assert_int_equal(rig_number(&rig, "LLEN", "{capibox}:queue:default", NULL),
                     4);
    proc_stop(&first);
    stage_worker(&rig, &second, four_at_a_time);
    expect_all("s", 4, 4);
    for (int i = 0; i < 4; i++) { /* the attempt was refunded */
        snprintf(id, sizeof(id), "s%d", i);
        assert_string_equal(rig_job(&rig, id, "attempt"), "1");
    }
    assert_int_equal(stage_end_worker(&second), DRAINED);
}

/* ---- nothing is left ----------------------------------------------------- */

/* What may stay: results, counters, and what later workers need to know. */
static bool may_stay(const char *key)
{
    static const char *const kinds[] = {
        "job:", "stats", "events:", "batch:", "dead", "conf", "wkq", "graves"};
    const char *kind = strchr(key, ':') + 1;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
        if (strncmp(kind, kinds[i], strlen(kinds[i])) == 0)
            return true;
    return false;
}

static void expect_clean_redis(void)
{
    redisReply *keys = NULL;

    MUST0(redis_callv(rig.redis, clock_ms() + RIG_WAIT_MS, &keys, "KEYS", "*",
                      NULL));
    assert_true(keys->elements > 0);
    for (size_t i = 0; i < keys->elements; i++)
        if (!may_stay(keys->element[i]->str))
            fail_msg("%s is left", keys->element[i]->str);
    freeReplyObject(keys);
}

static long mounts_here(void)
{
    char line[4096];
    long n = 0;
    FILE *file = fopen("/proc/self/mountinfo", "r");

    MUST(file);
    while (fgets(line, sizeof(line), file))
        n++;
    fclose(file);
    return n;
}

static int entries_in(const char *dir)
{
    char command[300];
    int n = -1;

    snprintf(command, sizeof(command), "ls -A '%s' | wc -l", dir);
    FILE *pipe = popen(command, "r");
    MUST(pipe);
    MUST(fscanf(pipe, "%d", &n) == 1);
    pclose(pipe);
    return n;
}

static void a_stopped_worker_leaves_results_and_counters_only(void **state)
{
    char tmp[] = "build/tmp/worker-XXXXXX", setting[64];
    const char *env[] = {setting, NULL};
    long mounts = mounts_here();

    (void)state;
    MUST(mkdtemp(tmp));
    snprintf(setting, sizeof(setting), "TMPDIR=%s", tmp);
    stage_worker(&rig, &first, env);
    push_sleepers("c", 4, HELD);
    wait_for_running("c", 4, 1);
    list_with_sandboxes(&first, 1);
    expect_all("c", 4, 4);
    assert_int_equal(stage_end_worker(&first), DRAINED);
    household_gone(&house, GONE_MS);
    expect_clean_redis();
    assert_int_equal(mounts_here(), mounts);
    assert_int_equal(entries_in(tmp), 0);
    assert_int_equal(rmdir(tmp), 0);
}

/* ---- stage --------------------------------------------------------------- */

static int open_one(void **state)
{
    static const char *const words[] = {"--appendonly", "yes", "--appendfsync",
                                        "always", NULL};

    (void)state;
    stage_open(&rig, words);
    return 0;
}

/* Also after a test that failed half way. */
static int close_one(void **state)
{
    (void)state;
    proc_stop(&first);
    proc_stop(&second);
    rig_close(&rig);
    return 0;
}

#define ON_A_STAGE(test) \
    cmocka_unit_test_setup_teardown(test, open_one, close_one)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_A_STAGE(jobs_of_a_killed_worker_finish_elsewhere_once),
        ON_A_STAGE(a_worker_that_overslept_gives_up_its_job),
        ON_A_STAGE(a_late_result_is_refused),
        ON_A_STAGE(redis_killed_under_load_loses_nothing),
        ON_A_STAGE(two_workers_share_a_list),
        ON_A_STAGE(sigterm_lets_running_jobs_finish),
        ON_A_STAGE(a_second_sigterm_gives_the_jobs_back),
        ON_A_STAGE(a_stopped_worker_leaves_results_and_counters_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
