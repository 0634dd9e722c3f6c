/* Cancelling jobs whose sandbox is still being made, with the built programs:
 * somebody who has a part in the making is stopped, and must still be when the
 * job is said to be cancelled. */
#include "tests/support/cmocka_all.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/support/kin.h"
#include "tests/support/stage.h"

/* No heartbeat helps. */
#define LEASE "CAPIBOX_LEASE_MS=600000"

static struct rig rig;
static struct proc worker;
static pid_t sandboxd;
static int idle_fds;

static int set_up(void **state)
{
    (void)state;
    stage_open(&rig, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (sandboxd > 0 && kin_is_stopped(sandboxd))
        kill(sandboxd, SIGKILL); /* the test failed: it would stay for ever */
    sandboxd = 0;
    proc_stop(&worker);
    rig_close(&rig);
    return 0;
}

static bool is_listening(void *ctx)
{
    (void)ctx;
    return rig_number(&rig, "EVAL",
                      "return redis.call('PUBSUB', 'NUMSUB', KEYS[1])[2]", "1",
                      "{capibox}:control", NULL) > 0;
}

/* Past its exec. */
static bool is_there(void *ctx)
{
    (void)ctx;
    sandboxd = kin_sandboxd(worker.pid);
    return sandboxd > 0;
}

static void start_worker(const char *waiting, const char *memory)
{
    const char *const env[] = {"CAPIBOX_CONCURRENCY=2", LEASE, waiting, memory,
                               NULL};

    stage_worker(&rig, &worker, env);
    assert_true(wait_until(is_listening, NULL, RIG_WAIT_MS));
    assert_true(wait_until(is_there, NULL, RIG_WAIT_MS));
}

static void push(const char *id, const char *language, const char *code)
{
    char job[512];

    snprintf(job, sizeof(job),
             "{\"id\":\"%s\",\"template\":\"quick_script\",\"language\":\"%s\","
             "\"code\":\"%s\"}",
             id, language, code);
    rig_push(&rig, "default", job);
}

static void succeeds(const char *id)
{
    cJSON *result = stage_result(&rig, id);

    stage_expect(result, "status", "succeeded");
    cJSON_Delete(result);
}

static void runs(const char *id, const char *language)
{
    push(id, language, language[0] == 'p' ? "1" : ":");
    succeeds(id);
}

static bool has_more_fds(void *ctx)
{
    int fds = kin_fds(sandboxd);

    (void)ctx;
    return fds < 0 || fds > idle_fds;
}

static bool has_no_box(void *ctx)
{
    (void)ctx;
    return kin_inits(sandboxd) == 0;
}

static bool has_a_home(void *ctx)
{
    (void)ctx;
    return kin_homes(sandboxd) != 0;
}

/* It is said to run, and its sandbox is as far as that. */
static void push_made(const char *id, const char *language, proc_predicate *far)
{
    push(id, language, "echo it ran");
    assert_true(rig_wait_job(&rig, id, "status", "running"));
    assert_true(wait_until(far, NULL, RIG_WAIT_MS));
}

/* From the message to the result in Redis. */
static int cancel(const char *id, const char *what)
{
    int64_t start = clock_us();
    struct cancel got;

    assert_int_equal(protocol_cancel(&rig.protocol, rig.redis,
                                     clock_ms() + 5000, id, NULL, 0, &got),
                     0);
    assert_int_equal(got.answer, CANCEL_SENT);
    while (strcmp(rig_job(&rig, id, "status"), "cancelled") != 0) {
        if (clock_us() - start > 60000000)
            fail_msg("%s is %s", id, rig_job(&rig, id, "status"));
        usleep(500);
    }
    int ms = (int)((clock_us() - start + 999) / 1000);
    print_message("cancelled while %s: %d ms\n", what, ms);
    return ms;
}

static void books_balance(void)
{
    assert_true(wait_until(has_no_box, NULL, RIG_WAIT_MS));
    assert_int_equal(rig_stat(&rig, "sandbox_created"),
                     rig_stat(&rig, "sandbox_destroyed"));
    assert_true(rig_settled(&rig));
}

/* Its time had not come: whoever was stopped was not given up. */
static void go_on(pid_t pid)
{
    assert_true(pid > 0 && kin_is_stopped(pid));
    kill(pid, SIGCONT);
}

static void assert_unstarted(const char *id)
{
    cJSON *result = stage_result(&rig, id);

    stage_expect(result, "verdict", "cancelled");
    stage_expect(result, "error", "cancelled before it started");
    cJSON_Delete(result);
}

static void a_spawner_that_is_slow_holds_no_cancel_up(void **state)
{
    struct household house;

    (void)state;
    start_worker("CAPIBOX_WAITING=0", NULL);
    runs("first", "bash");
    assert_true(wait_until(has_no_box, NULL, RIG_WAIT_MS));
    idle_fds = kin_fds(sandboxd);
    pid_t spawner = kin_spawner(sandboxd);
    kin_stop(spawner);
    push_made("j", "bash", has_more_fds);
    cancel("j", "its sandbox is spawned");
    go_on(spawner);
    assert_unstarted("j");
    runs("next", "bash");
    books_balance();
    household_list(worker.pid, &house);
    assert_int_equal(stage_end_worker(&worker), 0);
    household_gone(&house, 5000);
}

/* The first ones are cold, and make it start. */
static void wait_warm(void)
{
    char id[16], start[16] = "";

    for (int i = 0; i < 200 && strcmp(start, "warm") != 0; i++) {
        snprintf(id, sizeof(id), "warms-%d", i);
        runs(id, "python");
        cJSON *result = stage_result(&rig, id);
        const char *text = stage_text(result, "sandbox_info.start");
        snprintf(start, sizeof(start), "%s", text ? text : "");
        cJSON_Delete(result);
    }
    assert_string_equal(start, "warm");
}

static void a_zygote_that_is_slow_holds_no_cancel_up(void **state)
{
    (void)state;
    start_worker("CAPIBOX_WAITING=0", NULL);
    wait_warm();
    assert_true(wait_until(has_no_box, NULL, RIG_WAIT_MS));
    idle_fds = kin_fds(sandboxd);
    pid_t zygote = kin_zygote(sandboxd);
    kin_stop(zygote);
    push_made("j", "python", has_a_home);
    push("other", "python", "1");
    assert_true(rig_wait_job(&rig, "other", "status", "running"));
    int ms = cancel("j", "its program is forked");
    assert_in_range(ms, 0, 1500); /* by itself: 2 s */
    go_on(zygote);
    assert_unstarted("j");
    succeeds("other");
    assert_int_equal(kin_zygote(sandboxd), zygote);
    books_balance();
    assert_int_equal(stage_end_worker(&worker), 0);
}

static bool has_a_box(void *ctx)
{
    *(pid_t *)ctx = kin_init(sandboxd);
    return *(pid_t *)ctx > 0;
}

static bool is_gone(void *ctx)
{
    return kill(*(const pid_t *)ctx, 0) < 0 && errno == ESRCH;
}

/* The job's files are on their way into one that waited; unless that was not
 * made yet, and the job got another one. */
static void a_sandbox_that_is_slow_holds_no_cancel_up(void **state)
{
    int64_t until = clock_ms() + 2 * RIG_WAIT_MS;
    char id[16];
    pid_t init = 0;

    (void)state;
    start_worker("CAPIBOX_WAITING=1", NULL);
    runs("first", "bash");
    for (int i = 0; init == 0; i++) {
        assert_true(clock_ms() < until);
        assert_true(wait_until(has_a_box, &init, RIG_WAIT_MS));
        kin_stop(init);
        snprintf(id, sizeof(id), "j-%d", i);
        push(id, "bash", "sleep 60");
        assert_true(rig_wait_job(&rig, id, "status", "running"));
        int ms = cancel(id, "its files are put in");
        assert_in_range(ms, 0, 5000); /* by itself: 10 s */
        if (!is_gone(&init)) {
            kill(init, SIGKILL);
            assert_true(wait_until(is_gone, &init, RIG_WAIT_MS));
            init = 0;
        }
    }
    assert_unstarted(id);
    runs("next", "bash");
    assert_int_equal(rig_stat(&rig, "sandbox_created"),
                     rig_stat(&rig, "sandbox_destroyed"));
    assert_int_equal(stage_end_worker(&worker), 0);
}

static void a_sandboxd_that_hangs_holds_no_cancel_up(void **state)
{
    (void)state;
    start_worker("CAPIBOX_WAITING=0", NULL);
    runs("first", "bash");
    kin_stop(sandboxd);
    push("j", "bash", "echo it ran");
    assert_true(rig_wait_job(&rig, "j", "status", "running"));
    cancel("j", "sandboxd hangs");
    go_on(sandboxd);
    assert_unstarted("j");
    runs("next", "bash");
    books_balance();
    assert_int_equal(stage_end_worker(&worker), 0);
}

static void a_job_that_waits_for_memory_is_cancelled_at_once(void **state)
{
    (void)state;
    start_worker("CAPIBOX_WAITING=0", "CAPIBOX_MEMORY_BUDGET_MB=300");
    push("runs", "bash", "sleep 60");
    assert_true(rig_wait_job(&rig, "runs", "status", "running"));
    push("j", "bash", "echo it ran");
    assert_true(rig_wait_job(&rig, "j", "status", "running"));
    cancel("j", "it waits for memory");
    assert_unstarted("j");
    cancel("runs", "it runs");
    books_balance();
    assert_int_equal(stage_end_worker(&worker), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_spawner_that_is_slow_holds_no_cancel_up),
        TEST(a_zygote_that_is_slow_holds_no_cancel_up),
        TEST(a_sandbox_that_is_slow_holds_no_cancel_up),
        TEST(a_sandboxd_that_hangs_holds_no_cancel_up),
        TEST(a_job_that_waits_for_memory_is_cancelled_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
