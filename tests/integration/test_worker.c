/* The pool and the queue against a real Redis; the backend is told by each job
 * what to do (null_backend.h), so that only the worker itself is on trial. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "tests/support/cmocka_all.h"
#include "tests/support/null_backend.h"
#include "tests/support/proc.h"
#include "tests/support/rig.h"

/* Of what has to be quick once, as any thread may be held up for a while. */
#define TRIES 8

static struct rig rig;

static int open_rig(void **state)
{
    (void)state;
    /* Nothing that a push was answered is lost with a Redis that is killed. */
    rig_open(&rig, (const char *const[]){"--appendonly", "yes", "--appendfsync",
                                         "always", NULL});
    null_backend_share();
    return 0;
}

static int close_rig(void **state)
{
    (void)state;
    rig_close(&rig);
    return 0;
}

static void push_id(const char *id, const char *code)
{
    char job[512];

    snprintf(job, sizeof(job), "{\"id\":\"%s\",\"code\":\"%s\"}", id, code);
    rig_push(&rig, "default", job);
}

static void assert_job(const char *id, const char *field, const char *value)
{
    assert_string_equal(rig_job(&rig, id, field), value);
}

static pid_t one_worker(void)
{
    pid_t pid = rig_worker(&rig);

    assert_true(rig_workers_ready(&rig, 1));
    return pid;
}

static bool running_are(void *ctx)
{
    return null_backend_running() == *(int *)ctx;
}

static bool wait_running(int n)
{
    return wait_until(running_are, &n, RIG_WAIT_MS);
}

static bool was_put_off(void *ctx)
{
    return null_backend_put_off() >= *(int *)ctx;
}

static bool wait_put_off(int n)
{
    return wait_until(was_put_off, &n, RIG_WAIT_MS);
}

/* sig 0: it was told to stop already. */
static void assert_ends_well_by(pid_t pid, int sig)
{
    int status = rig_end(pid, sig);

    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void assert_ends_well(pid_t pid)
{
    assert_ends_well_by(pid, SIGTERM);
}

/* ---- the ordinary ------------------------------------------------------ */

static void a_raw_job_gets_its_result_hash_ttl_and_counters(void **state)
{
    pid_t pid = one_worker();

    (void)state;
    push_id("a", "print hello");
    assert_true(rig_wait_job(&rig, "a", "status", "succeeded"));
    assert_job("a", "verdict", "ok");
    assert_job("a", "success", "1");
    assert_job("a", "template_used", "default");
    assert_job("a", "language", "python");
    assert_job("a", "backend", "null");
    assert_job("a", "attempt", "1");
    assert_non_null(strstr(rig_job(&rig, "a", "result"),
                           "\"logs\":{\"stdout\":[\"hello\"],\"stderr\":[]}"));
    assert_in_range(rig_number(&rig, "TTL", "{capibox}:job:a", NULL), 86000,
                    86400);
    assert_int_equal(rig_stat(&rig, "total_executions"), 1);
    assert_int_equal(rig_stat(&rig, "successful_executions"), 1);
    assert_int_equal(rig_stat(&rig, "verdict:ok"), 1);
    assert_int_equal(rig_stat(&rig, "sandbox_created"), 1);
    assert_int_equal(rig_stat(&rig, "sandbox_destroyed"), 1);
    assert_ends_well(pid);
    assert_int_equal(rig_number(&rig, "ZCARD", "{capibox}:wk", NULL), 0);
}

static void a_job_without_an_id_is_stored_under_one_made_for_it(void **state)
{
    char first[256];
    pid_t pid = one_worker();

    (void)state;
    rig_push(&rig, "default", "{\"code\":\"x\"}");
    assert_true(rig_wait_stat(&rig, "verdict:ok", 1));
    rig_text(&rig, first, sizeof(first), "EVAL",
             "return redis.call('KEYS', '{capibox}:job:*')[1]", "0", NULL);
    assert_int_equal(strncmp(first, "{capibox}:job:", 14), 0);
    assert_job(first + 14, "status", "succeeded");
    assert_ends_well(pid);
}

static void a_failing_job_is_a_result_and_not_retried(void **state)
{
    pid_t pid = one_worker();

    (void)state;
    push_id("a", "user");
    assert_true(rig_wait_job(&rig, "a", "status", "failed"));
    assert_job("a", "verdict", "user_error");
    assert_job("a", "success", "0");
    assert_int_equal(rig_stat(&rig, "failed_executions"), 1);
    assert_int_equal(rig_stat(&rig, "retries"), 0);
    assert_ends_well(pid);
}

static bool shows_running(void *ctx)
{
    (void)ctx;
    return rig_number(&rig, "EVAL",
                      "for _, k in ipairs(redis.call('KEYS', "
                      "'{capibox}:job:*')) do if redis.call('HGET', k, "
                      "'status') == 'running' then return 1 end end return 0",
                      "0", NULL) == 1;
}

/* Ms from the push to the mark of a job that does not end meanwhile. */
static int64_t time_of_a_mark(void)
{
    int64_t start, took;
    pid_t pid;

    rig_number(&rig, "FLUSHALL", NULL);
    null_backend_share();
    pid = one_worker();
    rig_push(&rig, "default", "{\"code\":\"gate 0\"}");
    start = clock_ms();
    assert_true(wait_until(shows_running, NULL, RIG_WAIT_MS));
    took = clock_ms() - start;
    rig_end(pid, SIGKILL);
    return took;
}

static void running_shows_soon_after_the_start(void **state)
{
    int64_t took = INT64_MAX;

    (void)state;
    /* The promise is 100 ms; the rest is for a busy test machine, which may
     * hold up some, but not all. */
    for (int tries = 0; tries < TRIES && took > 400; tries++)
        took = time_of_a_mark();
    assert_in_range(took, 0, 400);
}

static void queues_are_served_in_their_order(void **state)
{
    pid_t pid;
    char low[32], high[32];

    (void)state;
    rig.settings.concurrency = 1;
    rig_push(&rig, "low", "{\"id\":\"low\",\"code\":\"x\"}");
    rig_push(&rig, "default", "{\"id\":\"default\",\"code\":\"x\"}");
    rig_push(&rig, "high", "{\"id\":\"high\",\"code\":\"x\"}");
    pid = one_worker();
    assert_true(rig_wait_stat(&rig, "verdict:ok", 3));
    snprintf(high, sizeof(high), "%s", rig_job(&rig, "high", "finished_at"));
    snprintf(low, sizeof(low), "%s", rig_job(&rig, "low", "finished_at"));
    assert_true(atof(high) < atof(rig_job(&rig, "default", "finished_at")));
    assert_true(atof(rig_job(&rig, "default", "finished_at")) < atof(low));
    assert_ends_well(pid);
}

static void a_weighted_queue_does_not_starve(void **state)
{
    struct complaint why;
    const char *token;
    pid_t pid;

    (void)state;
    rig.settings.concurrency = 1;
    assert_int_equal(settings_parse_queues(&rig.settings, "high*3,low*1", &why),
                     0);
    for (int i = 0; i < 200; i++)
        rig_push(&rig, "high", "{\"code\":\"sleep 2\"}");
    rig_push(&rig, "low", "{\"id\":\"low\",\"code\":\"x\"}");
    pid = one_worker();
    assert_true(rig_wait_job(&rig, "low", "status", "succeeded"));
    /* Its token ends with the number of its claim. */
    token = strrchr(rig_job(&rig, "low", "token"), '.');
    assert_non_null(token);
    assert_in_range(atoi(token + 1), 1, 100);
    rig_end(pid, SIGKILL);
}

static void never_more_run_at_once_than_the_concurrency(void **state)
{
    pid_t pid;

    (void)state;
    rig.settings.concurrency = 3;
    for (int i = 0; i < 60; i++)
        rig_push(&rig, "default", "{\"code\":\"sleep 20\"}");
    pid = one_worker();
    assert_true(rig_wait_stat(&rig, "verdict:ok", 60));
    assert_int_equal(null_backend_most(), 3);
    assert_int_equal(null_backend_runs(), 60);
    assert_ends_well(pid);
}

/* Of a job with a delay of 0.7 s, in ms. */
static int64_t time_of_a_delay(int n)
{
    char id[16], job[96];
    int64_t start = clock_ms();

    snprintf(id, sizeof(id), "later%d", n);
    snprintf(job, sizeof(job), "{\"id\":\"%s\",\"code\":\"x\",\"delay\":0.7}",
             id);
    rig_push(&rig, "default", job);
    assert_true(rig_wait_job(&rig, id, "status", "succeeded"));
    return clock_ms() - start;
}

static void a_delayed_job_waits_and_an_expired_one_never_starts(void **state)
{
    pid_t pid = one_worker();
    int64_t took = INT64_MAX;
    long long before;
    int tries = 0;

    (void)state;
    assert_true(rig_wait_clock(&rig, 40));
    before = rig_stat(&rig, "total_executions");
    /* It never comes too early, and comes soon unless someone is held up. */
    while (tries < TRIES && took > 1500) {
        took = time_of_a_delay(++tries);
        assert_true(took >= 650);
    }
    assert_in_range(took, 650, 1500);
    rig_push(&rig, "default",
             "{\"id\":\"tomorrow\",\"code\":\"x\",\"delay\":86400,"
             "\"tenant\":\"t1\"}");
    assert_true(rig_wait_job(&rig, "tomorrow", "status", "delayed"));
    assert_true(rig_wait_job(&rig, "tomorrow", "tenant", "t1"));
    rig_end(pid, SIGTERM);
    rig_number(&rig, "LPUSH", "{capibox}:queue:default",
               "!t1|{\"id\":\"old\",\"code\":\"x\",\"expires_in\":5}", NULL);
    pid = one_worker();
    assert_true(rig_wait_job(&rig, "old", "status", "expired"));
    assert_int_equal(rig_stat(&rig, "total_executions"), before + tries);
    assert_int_equal(rig_stat(&rig, "verdict:expired"), 1);
    assert_ends_well(pid);
}

/* And no move that blocks could still take it out. */
static bool waits_in_its_queue(void *ctx)
{
    (void)ctx;
    return rig_number(&rig, "EVAL",
                      "return redis.call('LLEN', KEYS[1]) == 1 and "
                      "redis.call('INFO', 'clients'):find("
                      "'blocked_clients:0') and 1 or 0",
                      "1", "{capibox}:queue:default", NULL) == 1;
}

static void a_pause_keeps_jobs_in_their_queue(void **state)
{
    pid_t pid;

    (void)state;
    rig.settings.lease_ms = 2000;
    pid = one_worker();
    rig_number(&rig, "HSET", "{capibox}:conf", "paused", "1", NULL);
    assert_true(rig_wait_beats(&rig));
    push_id("a", "x");
    /* A move that had begun before may bring it, and it is given back. */
    assert_true(wait_until(waits_in_its_queue, NULL, RIG_WAIT_MS));
    assert_true(rig_wait_beats(&rig));
    assert_int_equal(rig_number(&rig, "LLEN", "{capibox}:queue:default", NULL),
                     1);
    rig_number(&rig, "HSET", "{capibox}:conf", "paused", "0", NULL);
    assert_true(rig_wait_job(&rig, "a", "status", "succeeded"));
    assert_true(rig_settled(&rig));
    assert_ends_well(pid);
}

/* ---- no place for a sandbox -------------------------------------------- */

static void a_job_without_a_place_goes_back_with_nothing_used_up(void **state)
{
    pid_t pid;

    (void)state;
    null_backend_full(true);
    pid = one_worker();
    rig_push(&rig, "default",
             "{\"id\":\"a\",\"code\":\"place 100\",\"max_attempts\":1}");
    assert_true(wait_put_off(25)); /* more than DELIVERIES_MAX */
    assert_int_equal(null_backend_runs(), 0);
    assert_int_equal(rig_stat(&rig, "retries"), 0);
    null_backend_full(false);
    assert_true(rig_wait_job(&rig, "a", "status", "succeeded"));
    assert_job("a", "attempt", "1");
    assert_int_equal(null_backend_runs(), 1);
    assert_int_equal(rig_stat(&rig, "sandbox_created"), 1);
    assert_int_equal(rig_stat(&rig, "sandbox_destroyed"), 1);
    assert_int_equal(rig_stat(&rig, "dead"), 0);
    assert_ends_well(pid);
}

static void it_comes_no_sooner_than_it_was_put_off_to(void **state)
{
    int64_t start;
    double b_ended;
    pid_t pid;

    (void)state;
    null_backend_full(true);
    pid = one_worker();
    assert_true(rig_wait_clock(&rig, 40));
    start = clock_ms();
    push_id("a", "place 1500");
    assert_true(wait_put_off(1));
    null_backend_full(false);
    /* The others do not wait for it. */
    push_id("b", "x");
    assert_true(rig_wait_job(&rig, "a", "status", "succeeded"));
    assert_in_range(clock_ms() - start, 1450, 6000);
    assert_true(rig_wait_job(&rig, "b", "status", "succeeded"));
    b_ended = atof(rig_job(&rig, "b", "finished_at"));
    assert_true(b_ended < atof(rig_job(&rig, "a", "finished_at")));
    assert_ends_well(pid);
}

static void it_still_expires(void **state)
{
    pid_t pid;

    (void)state;
    null_backend_full(true);
    pid = one_worker();
    rig_push(&rig, "default",
             "{\"id\":\"a\",\"code\":\"place 100\",\"expires_in\":1}");
    assert_true(rig_wait_job(&rig, "a", "status", "expired"));
    assert_in_range(null_backend_put_off(), 1, 30);
    assert_int_equal(rig_stat(&rig, "sandbox_created"), 0);
    assert_ends_well(pid);
}

/* ---- identity of jobs -------------------------------------------------- */

static void an_id_is_run_once_however_often_it_is_pushed(void **state)
{
    pid_t pid;

    (void)state;
    for (int i = 0; i < 20; i++)
        push_id("same", "sleep 20");
    pid = one_worker();
    assert_true(rig_wait_stat(&rig, "duplicates", 19));
    push_id("same", "x");
    assert_true(rig_wait_stat(&rig, "duplicates", 20));
    assert_true(rig_wait_job(&rig, "same", "status", "succeeded"));
    assert_int_equal(rig_stat(&rig, "total_executions"), 1);
    assert_true(rig_settled(&rig));
    assert_ends_well(pid);
}

static void a_bad_job_does_not_touch_the_good_one_with_its_id(void **state)
{
    pid_t pid = one_worker();

    (void)state;
    push_id("x", "print good");
    assert_true(rig_wait_job(&rig, "x", "status", "succeeded"));
    rig_push(&rig, "default", "{\"id\":\"x\",\"code\":7}");
    assert_true(rig_wait_stat(&rig, "verdict:rejected", 1));
    assert_job("x", "status", "succeeded");
    assert_int_equal(rig_number(&rig, "LLEN", "{capibox}:dead", NULL), 1);
    assert_ends_well(pid);
}

static void bad_jobs_are_rejected_by_name_and_kept(void **state)
{
    static const struct {
        const char *job, *names;
    } bad[] = {
        {"not json {", "JSON"},
        {"{\"id\":\"no-code\"}", "code"},
        {"{\"code\":7}", "code"},
        {"{\"code\":\"x\",\"template\":\"nope\"}", "template"},
        {"{\"code\":\"x\",\"language\":\"cobol\"}", "language"},
        {"{\"code\":\"x\",\"timeout\":-1}", "timeout"},
        {"{\"code\":\"x\",\"requirements\":{\"memory_limit_mb\":1e308}}",
         "requirements.memory_limit_mb"},
        {"{\"code\":\"x\",\"files\":[{\"path\":\"../x\",\"content\":\"\"}]}",
         "files[0].path"},
        {"{\"code\":\"a\\u0000b\"}", "code"},
        {"{\"code\":\"\xff\xfe\"}", "UTF-8"},
        {"[[[[[[", "JSON"},
    };
    int count = sizeof(bad) / sizeof(*bad);
    char text[4096], name[16];
    pid_t pid = one_worker();

    (void)state;
    for (int i = 0; i < count; i++) {
        rig_push(&rig, "default", bad[i].job);
        assert_true(rig_wait_stat(&rig, "verdict:rejected", i + 1));
        rig_text(&rig, text, sizeof(text), "LINDEX", "{capibox}:dead", "0",
                 NULL);
        assert_non_null(strstr(text, bad[i].names));
        /* The raw text, byte for byte, behind the line about it. */
        assert_non_null(strchr(text, '\n'));
        assert_string_equal(strchr(text, '\n') + 1, bad[i].job);
        snprintf(name, sizeof(name), "good-%d", i);
        push_id(name, "x");
        assert_true(rig_wait_job(&rig, name, "status", "succeeded"));
    }
    assert_job("no-code", "verdict", "rejected");
    assert_int_equal(rig_stat(&rig, "rejected"), count);
    assert_int_equal(rig_stat(&rig, "total_executions"), count);
    assert_true(rig_settled(&rig));
    assert_ends_well(pid);
}

static void a_huge_or_deep_job_is_rejected_and_disturbs_nobody(void **state)
{
    size_t size = 20u << 20;
    char *huge = malloc(size + 1);
    pid_t pid = one_worker();

    (void)state;
    assert_non_null(huge);
    memset(huge, '[', size);
    huge[size] = '\0';
    rig_push(&rig, "default", huge);
    assert_true(rig_wait_stat(&rig, "verdict:rejected", 1));
    huge[1000000] = '\0';
    rig_push(&rig, "default", huge);
    assert_true(rig_wait_stat(&rig, "verdict:rejected", 2));
    free(huge);
    push_id("after", "x");
    assert_true(rig_wait_job(&rig, "after", "status", "succeeded"));
    assert_ends_well(pid);
}

static void an_identical_job_is_answered_from_the_cache(void **state)
{
    static const char job[] =
        "{\"id\":\"%s\",\"code\":\"print %s\",\"cache\":true,"
        "\"metadata\":{\"big\":12345678901234567890}}";
    char text[512];
    pid_t pid;

    (void)state;
    pid = one_worker();
    for (int i = 1; i <= 3; i++) {
        char id[8];

        snprintf(id, sizeof(id), "c%d", i);
        /* The first two are alike, the third is not. */
        snprintf(text, sizeof(text), job, id, i < 3 ? "same" : "other");
        rig_push(&rig, "default", text);
        assert_true(rig_wait_job(&rig, id, "status", "succeeded"));
    }
    assert_int_equal(null_backend_runs(), 2);
    assert_non_null(strstr(rig_job(&rig, "c1", "result"), "\"cached\":false"));
    assert_non_null(strstr(rig_job(&rig, "c2", "result"), "\"cached\":true"));
    assert_non_null(strstr(rig_job(&rig, "c2", "result"), "\"job_id\":\"c2\""));
    assert_non_null(
        strstr(rig_job(&rig, "c2", "result"), "\"stdout\":[\"same\"]"));
    assert_non_null(strstr(rig_job(&rig, "c2", "result"),
                           "\"metadata\":{\"big\":12345678901234567890}"));
    assert_non_null(strstr(rig_job(&rig, "c3", "result"), "\"cached\":false"));
    assert_int_equal(rig_stat(&rig, "cache_hits"), 1);
    assert_int_equal(rig_stat(&rig, "total_executions"), 2);
    assert_int_equal(rig_stat(&rig, "verdict:ok"), 3);
    assert_true(rig_settled(&rig));
    assert_ends_well(pid);
}

/* ---- capibox's own failures -------------------------------------------- */

static void our_failure_is_retried_until_the_attempts_are_used(void **state)
{
    pid_t pid = one_worker();

    (void)state;
    push_id("a", "setup");
    rig_push(&rig, "default",
             "{\"id\":\"b\",\"code\":\"backend\",\"max_attempts\":1}");
    assert_true(rig_wait_job(&rig, "b", "status", "dead"));
    assert_job("b", "verdict", "backend_error");
    assert_true(rig_wait_job(&rig, "a", "status", "dead"));
    assert_job("a", "verdict", "setup_failed");
    assert_job("a", "attempt", "3");
    assert_int_equal(rig_stat(&rig, "retries"), 2);
    assert_int_equal(rig_stat(&rig, "dead"), 2);
    assert_int_equal(rig_stat(&rig, "sandbox_created"),
                     rig_stat(&rig, "sandbox_destroyed"));
    assert_int_equal(rig_number(&rig, "LLEN", "{capibox}:dead", NULL), 2);
    assert_true(rig_settled(&rig));
    assert_ends_well(pid);
}

/* ---- stopping ---------------------------------------------------------- */

static void draining_finishes_what_runs_and_leaves_the_rest(void **state)
{
    pid_t pid;

    (void)state;
    pid = one_worker();
    for (int i = 0; i < 4; i++)
        rig_push(&rig, "default", "{\"code\":\"gate 100\"}");
    rig_push(&rig, "default", "{\"id\":\"fifth\",\"code\":\"x\"}");
    assert_true(wait_running(4));
    kill(pid, SIGTERM);
    assert_true(rig_wait_draining(&rig));
    null_backend_open_gate();
    assert_ends_well_by(pid, 0);
    assert_int_equal(rig_stat(&rig, "verdict:ok"), 4);
    assert_int_equal(rig_number(&rig, "LLEN", "{capibox}:queue:default", NULL),
                     1);
    pid = one_worker();
    assert_true(rig_wait_job(&rig, "fifth", "status", "succeeded"));
    assert_ends_well(pid);
    assert_true(rig_settled(&rig));
}

static void past_the_grace_jobs_return_with_their_attempt_refunded(void **state)
{
    pid_t pid;

    (void)state;
    rig.settings.shutdown_grace_s = 0;
    pid = one_worker();
    push_id("long", "sleep 3000");
    assert_true(rig_wait_job(&rig, "long", "status", "running"));
    assert_ends_well(pid);
    assert_job("long", "status", "queued");
    assert_int_equal(rig_stat(&rig, "released"), 1);
    pid = one_worker();
    assert_true(rig_wait_job(&rig, "long", "status", "succeeded"));
    assert_job("long", "attempt", "1");
    assert_ends_well(pid);
}

/* ---- death ------------------------------------------------------------- */

static void a_killed_workers_jobs_finish_elsewhere_counted_once(void **state)
{
    int64_t start;
    pid_t victim, other;

    (void)state;
    victim = one_worker();
    for (int i = 0; i < 4; i++)
        rig_push(&rig, "default", "{\"code\":\"gate 300\"}");
    push_id("named", "x");
    assert_true(wait_running(4));
    other = rig_worker(&rig);
    assert_true(rig_workers_ready(&rig, 2));
    start = clock_ms();
    rig_end(victim, SIGKILL);
    null_backend_open_gate();
    assert_true(rig_wait_stat(&rig, "recovered", 1));
    /* Its connections are gone: no need to wait for the lease of 10 s, of which
     * three quarters are left at least. */
    assert_in_range(clock_ms() - start, 0, rig.settings.lease_ms / 2);
    assert_true(rig_wait_stat(&rig, "verdict:ok", 5));
    assert_int_equal(rig_stat(&rig, "total_executions"), 5);
    assert_true(rig_settled(&rig));
    assert_ends_well(other);
}

static void a_frozen_workers_late_result_is_refused(void **state)
{
    char winner[128];
    pid_t frozen, other;

    (void)state;
    rig.settings.lease_ms = 2000;
    frozen = one_worker();
    push_id("a", "sleep 700");
    assert_true(rig_wait_job(&rig, "a", "status", "running"));
    kill(frozen, SIGSTOP);
    other = rig_worker(&rig);
    assert_true(rig_wait_job(&rig, "a", "status", "succeeded"));
    snprintf(winner, sizeof(winner), "%s", rig_job(&rig, "a", "worker"));
    kill(frozen, SIGCONT);
    /* It learns that it was given up, and works on under a new name. */
    assert_true(rig_workers_ready(&rig, 2));
    assert_job("a", "worker", winner);
    assert_int_equal(rig_stat(&rig, "total_executions"), 1);
    assert_true(rig_settled(&rig));
    push_id("b", "x");
    assert_true(rig_wait_job(&rig, "b", "status", "succeeded"));
    assert_ends_well(frozen);
    assert_ends_well(other);
}

static void
a_worker_cut_off_from_redis_kills_its_sandboxes_in_time(void **state)
{
    pid_t pid;

    (void)state;
    rig.settings.lease_ms = 2000;
    pid = one_worker();
    push_id("a", "sleep 4000");
    assert_true(rig_wait_job(&rig, "a", "status", "running"));
    kill(rig.server.pid, SIGSTOP);
    usleep(2600 * 1000); /* the time itself is the subject: past the lease */
    kill(rig.server.pid, SIGCONT);
    /* Had it not killed the run, the job would end 4 s after its start under
     * the old name; it starts again instead, as the first attempt. */
    assert_true(rig_wait_job(&rig, "a", "status", "succeeded"));
    assert_int_equal(rig_stat(&rig, "total_executions"), 1);
    assert_true(rig_stat(&rig, "recovered") >= 1);
    assert_job("a", "attempt", "1");
    assert_ends_well(pid);
}

static bool poison_is_dead(void)
{
    return strcmp(rig_job(&rig, "poison", "status"), "dead") == 0;
}

static void a_poison_job_is_lost_and_its_neighbours_are_not(void **state)
{
    pid_t pid;
    int deaths = 0, status;

    (void)state;
    push_id("innocent-1", "sleep 50");
    push_id("innocent-2", "sleep 50");
    push_id("poison", "crash");
    push_id("innocent-3", "sleep 50");
    do {
        assert_true(deaths < 10);
        pid = rig_worker(&rig);
        while (waitpid(pid, &status, WNOHANG) == 0 && !poison_is_dead())
            usleep(5000);
        deaths += kill(pid, 0) != 0;
    } while (!poison_is_dead());
    assert_job("poison", "verdict", "lost");
    /* The first death is not charged; the three attempts are. */
    assert_int_equal(deaths, 4);
    for (int i = 1; i <= 3; i++) {
        char id[32];

        snprintf(id, sizeof(id), "innocent-%d", i);
        assert_true(rig_wait_job(&rig, id, "status", "succeeded"));
        assert_job(id, "attempt", "1");
    }
    assert_true(rig_settled(&rig));
    rig_end(pid, SIGTERM);
}

/* ---- Redis misbehaving ------------------------------------------------- */

static void nothing_is_lost_when_redis_restarts_under_load(void **state)
{
    const int jobs = 3000;
    pid_t a = one_worker(), b = rig_worker(&rig);

    (void)state;
    for (int i = 0; i < jobs; i++) {
        char id[32];

        snprintf(id, sizeof(id), "j%d", i);
        push_id(id, "sleep 1");
        if (i == 1000 || i == 2000) {
            redis_server_kill(&rig.server);
            redis_server_restart(&rig.server);
        }
    }
    assert_true(rig_wait_stat(&rig, "verdict:ok", jobs));
    assert_true(rig_settled(&rig));
    assert_int_equal(rig_stat(&rig, "total_executions"), jobs);
    assert_ends_well(a);
    assert_ends_well(b);
}

static void forgotten_scripts_and_cut_connections_cost_nothing(void **state)
{
    const int jobs = 2000;
    pid_t a = one_worker(), b = rig_worker(&rig);

    (void)state;
    for (int i = 0; i < jobs; i++) {
        char id[32];

        snprintf(id, sizeof(id), "j%d", i);
        push_id(id, "x");
        if (i % 200 == 50)
            rig_number(&rig, "SCRIPT", "FLUSH", NULL);
        if (i % 200 == 150)
            rig_number(&rig, "CLIENT", "KILL", "TYPE", "normal", "SKIPME",
                       "yes", NULL);
    }
    assert_true(rig_wait_stat(&rig, "verdict:ok", jobs));
    assert_true(rig_settled(&rig));
    assert_int_equal(rig_stat(&rig, "total_executions"), jobs);
    assert_ends_well(a);
    assert_ends_well(b);
}

static void a_worker_started_before_redis_waits_for_it(void **state)
{
    pid_t pid;

    (void)state;
    redis_server_kill(&rig.server);
    pid = rig_worker(&rig);
    usleep(300 * 1000); /* long enough to have tried in vain */
    redis_server_restart(&rig.server);
    push_id("a", "x");
    assert_true(rig_wait_job(&rig, "a", "status", "succeeded"));
    assert_ends_well(pid);
}

static void a_full_redis_can_still_finish_jobs(void **state)
{
    pid_t pid = one_worker();

    (void)state;
    push_id("a", "sleep 500");
    assert_true(rig_wait_job(&rig, "a", "status", "running"));
    rig_number(&rig, "CONFIG", "SET", "maxmemory", "1", NULL);
    assert_int_equal(rig_number(&rig, "SET", "x", "y", NULL), -1);
    assert_true(rig_wait_job(&rig, "a", "status", "succeeded"));
    rig_number(&rig, "CONFIG", "SET", "maxmemory", "0", NULL);
    assert_ends_well(pid);
}

static void live_output_comes_while_the_job_runs_and_ends_with_it(void **state)
{
    char text[256];
    pid_t pid = one_worker();

    (void)state;
    rig_push(&rig, "default",
             "{\"id\":\"s\",\"code\":\"print live\",\"stream\":true}");
    assert_true(rig_wait_job(&rig, "s", "status", "succeeded"));
    rig_text(&rig, text, sizeof(text), "EVAL",
             "local o = '' for _, e in ipairs(redis.call('XRANGE', KEYS[1], "
             "'-', '+')) do o = o .. e[2][2] .. ' ' end return o",
             "1", "{capibox}:events:s", NULL);
    assert_string_equal(text, "state stdout end ");
    assert_ends_well(pid);
}

#define WITH_RIG(test) \
    cmocka_unit_test_setup_teardown(test, open_rig, close_rig)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RIG(a_raw_job_gets_its_result_hash_ttl_and_counters),
        WITH_RIG(a_job_without_an_id_is_stored_under_one_made_for_it),
        WITH_RIG(a_failing_job_is_a_result_and_not_retried),
        WITH_RIG(running_shows_soon_after_the_start),
        WITH_RIG(queues_are_served_in_their_order),
        WITH_RIG(a_weighted_queue_does_not_starve),
        WITH_RIG(never_more_run_at_once_than_the_concurrency),
        WITH_RIG(a_delayed_job_waits_and_an_expired_one_never_starts),
        WITH_RIG(a_pause_keeps_jobs_in_their_queue),
        WITH_RIG(a_job_without_a_place_goes_back_with_nothing_used_up),
        WITH_RIG(it_comes_no_sooner_than_it_was_put_off_to),
        WITH_RIG(it_still_expires),
        WITH_RIG(an_id_is_run_once_however_often_it_is_pushed),
        WITH_RIG(a_bad_job_does_not_touch_the_good_one_with_its_id),
        WITH_RIG(bad_jobs_are_rejected_by_name_and_kept),
        WITH_RIG(a_huge_or_deep_job_is_rejected_and_disturbs_nobody),
        WITH_RIG(an_identical_job_is_answered_from_the_cache),
        WITH_RIG(our_failure_is_retried_until_the_attempts_are_used),
        WITH_RIG(draining_finishes_what_runs_and_leaves_the_rest),
        WITH_RIG(past_the_grace_jobs_return_with_their_attempt_refunded),
        WITH_RIG(a_killed_workers_jobs_finish_elsewhere_counted_once),
        WITH_RIG(a_frozen_workers_late_result_is_refused),
        WITH_RIG(a_worker_cut_off_from_redis_kills_its_sandboxes_in_time),
        WITH_RIG(a_poison_job_is_lost_and_its_neighbours_are_not),
        WITH_RIG(nothing_is_lost_when_redis_restarts_under_load),
        WITH_RIG(forgotten_scripts_and_cut_connections_cost_nothing),
        WITH_RIG(a_worker_started_before_redis_waits_for_it),
        WITH_RIG(a_full_redis_can_still_finish_jobs),
        WITH_RIG(live_output_comes_while_the_job_runs_and_ends_with_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
