/* The worker when things around it go wrong at the worst moment: lines cut,
 * servers that hang or forget, siblings that die. As in test_worker.c the
 * backend does what each job tells it. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "tests/support/cmocka_all.h"
#include "tests/support/null_backend.h"
#include "tests/support/proc.h"
#include "tests/support/proxy.h"
#include "tests/support/rig.h"
#include "worker/exchange.h"

/* Any thread may be held up for a while, but not at every cut. */
#define CUTS_MAX 40
#define TRIES    8

static struct rig rig;
static struct proxy proxy;

/* The wall clock of this process and of the workers it forks. */
static time_t wall_clock_skew_s;

int clock_gettime(clockid_t clock, struct timespec *ts)
{
    int rc = (int)syscall(SYS_clock_gettime, clock, ts);

    if (rc == 0 && clock == CLOCK_REALTIME)
        ts->tv_sec += wall_clock_skew_s;
    return rc;
}

static int open_rig(void **state)
{
    (void)state;
    rig_open(&rig, (const char *const[]){"--appendonly", "yes", NULL});
    null_backend_share();
    return 0;
}

/* Nothing on disk but what SAVE puts there: a restart goes back to it. */
static int open_forgetful_rig(void **state)
{
    (void)state;
    rig_open(&rig, NULL);
    null_backend_share();
    return 0;
}

static int close_rig(void **state)
{
    (void)state;
    wall_clock_skew_s = 0;
    exchange_probation_ms = EXCHANGE_PROBATION_MS;
    proxy_stop(&proxy);
    rig_close(&rig);
    return 0;
}

/* ---- words ------------------------------------------------------------- */

static void push_id(const char *id, const char *code)
{
    char job[512];

    snprintf(job, sizeof(job), "{\"id\":\"%s\",\"code\":\"%s\"}", id, code);
    rig_push(&rig, "default", job);
}

/* count times the same job in one atomic push. */
static void push_many(int count, const char *job)
{
    char text[16];

    snprintf(text, sizeof(text), "%d", count);
    MUST(rig_number(&rig, "EVAL",
                    "for i = 1, ARGV[1] do redis.call('LPUSH', KEYS[1], "
                    "ARGV[2]) end return 1",
                    "1", "{capibox}:queue:default", text, job, NULL) == 1);
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

static bool runs_are(void *ctx)
{
    return null_backend_runs() >= *(int *)ctx;
}

static bool running_are(void *ctx)
{
    return null_backend_running() == *(int *)ctx;
}

static bool wait_runs(int n)
{
    return wait_until(runs_are, &n, RIG_WAIT_MS);
}

static bool wait_running(int n)
{
    return wait_until(running_are, &n, RIG_WAIT_MS);
}

static bool blocked_are(void *ctx)
{
    return rig_number(&rig, "EVAL",
                      "return tonumber(redis.call('INFO', 'clients'):match("
                      "'blocked_clients:(%d+)'))",
                      "0", NULL) == *(int *)ctx;
}

static bool all_claimed(void *ctx)
{
    (void)ctx;
    return rig_number(&rig, "LLEN", "{capibox}:queue:default", NULL) == 0;
}

/* That many blocking moves wait in Redis. */
static bool wait_blocked(int n)
{
    return wait_until(blocked_are, &n, RIG_WAIT_MS);
}

/* ---- what every job may count on --------------------------------------- */

static void two_identical_jobs_without_an_id_both_run(void **state)
{
    pid_t pid;

    (void)state;
    push_many(2, "{\"code\":\"print same\"}");
    pid = one_worker();
    assert_true(rig_wait_stat(&rig, "verdict:ok", 2));
    assert_int_equal(null_backend_runs(), 2);
    assert_int_equal(rig_stat(&rig, "duplicates"), 0);
    assert_true(rig_settled(&rig));
    assert_ends_well(pid);
}

static void weights_decide_who_is_served_more_often(void **state)
{
    const int jobs = 3000;
    struct complaint why;
    long long high, low;
    pid_t pid;

    (void)state;
    rig.settings.concurrency = 1;
    assert_int_equal(settings_parse_queues(&rig.settings, "high*4,low*1", &why),
                     0);
    /* More than it does before it is stopped, however late that is. */
    for (int i = 0; i < jobs; i++) {
        rig_push(&rig, "high", "{\"code\":\"sleep 2\"}");
        rig_push(&rig, "low", "{\"code\":\"sleep 2\"}");
    }
    pid = one_worker();
    assert_true(wait_runs(100));
    kill(pid, SIGSTOP);
    high = jobs - rig_number(&rig, "LLEN", "{capibox}:queue:high", NULL);
    low = jobs - rig_number(&rig, "LLEN", "{capibox}:queue:low", NULL);
    assert_true(low > 0);
    assert_true(high > 2 * low);
    rig_end(pid, SIGKILL);
}

static void
a_job_that_expired_while_it_waited_for_memory_is_not_run(void **state)
{
    pid_t pid;

    (void)state;
    rig.settings.memory_budget_mb = 600; /* room for one */
    pid = one_worker();
    push_id("large", "gate 0");
    assert_true(wait_running(1));
    rig_push(&rig, "default",
             "{\"id\":\"b\",\"code\":\"x\",\"expires_in\":0.3}");
    assert_true(rig_wait_job(&rig, "b", "status", "running"));
    usleep(300 * 1000); /* the time itself is the subject */
    null_backend_open_gate();
    assert_true(rig_wait_job(&rig, "b", "status", "expired"));
    assert_true(rig_settled(&rig)); /* the large one has ended, too */
    assert_int_equal(null_backend_runs(), 1);
    assert_int_equal(rig_stat(&rig, "total_executions"), 1);
    assert_ends_well(pid);
}

static void a_wrong_wall_clock_expires_nothing(void **state)
{
    pid_t pid;

    (void)state;
    wall_clock_skew_s = 3600;
    rig_number(&rig, "EVAL",
               "local t = redis.call('TIME') return redis.call('LPUSH', "
               "KEYS[1], '!t' .. t[1] .. '000|' .. ARGV[1])",
               "1", "{capibox}:queue:default",
               "{\"id\":\"a\",\"code\":\"x\",\"expires_in\":60}", NULL);
    pid = one_worker();
    assert_true(rig_wait_stat(&rig, "ended", 1));
    assert_job("a", "status", "succeeded");
    assert_ends_well(pid);
}

static void a_released_jobs_sandbox_is_counted(void **state)
{
    pid_t pid;

    (void)state;
    rig.settings.shutdown_grace_s = 0;
    pid = one_worker();
    push_id("a", "sleep 60000");
    assert_true(wait_running(1));
    assert_ends_well(pid);
    assert_int_equal(rig_stat(&rig, "released"), 1);
    assert_int_equal(rig_stat(&rig, "sandbox_created"), 1);
    assert_int_equal(rig_stat(&rig, "sandbox_destroyed"), 1);
}

/* ---- nothing waits for long jobs --------------------------------------- */

static bool most_are(void *ctx)
{
    return null_backend_most() >= *(int *)ctx;
}

static void what_blocking_moves_bring_too_much_goes_to_others(void **state)
{
    int three = 3;
    pid_t narrow, wide;

    (void)state;
    rig.settings.concurrency = 1;
    narrow = one_worker();
    assert_true(wait_blocked(3));
    /* Each of its three moves brings one, and it has room for one. */
    rig_number(&rig, "EVAL",
               "for i, q in ipairs({'high', 'default', 'low'}) do "
               "redis.call('LPUSH', '{capibox}:queue:' .. q, ARGV[1]) end",
               "0", "{\"code\":\"sleep 30000\"}", NULL);
    assert_true(wait_running(1));
    rig.settings.concurrency = 4;
    wide = rig_worker(&rig);
    assert_true(wait_until(most_are, &three, RIG_WAIT_MS));
    rig_end(narrow, SIGKILL);
    rig_end(wide, SIGKILL);
}

/* A worker that has only seen quick jobs claims ahead. */
static pid_t a_worker_used_to_quick_jobs(void)
{
    pid_t pid;

    rig.settings.concurrency = 1;
    pid = one_worker();
    push_many(1000, "{\"code\":\"x\"}");
    assert_true(rig_wait_stat(&rig, "verdict:ok", 1000));
    return pid;
}

/* In one atomic push: a long job, then quick ones with the ids j1, j2… */
static void push_behind(int ms, int quick)
{
    char longer[16], count[16];

    snprintf(longer, sizeof(longer), "%d", ms);
    snprintf(count, sizeof(count), "%d", quick);
    MUST(rig_number(&rig, "EVAL",
                    "redis.call('LPUSH', KEYS[1], "
                    "'{\"code\":\"sleep ' .. ARGV[1] .. '\"}') "
                    "for i = 1, ARGV[2] do redis.call('LPUSH', KEYS[1], "
                    "'{\"code\":\"x\",\"id\":\"j' .. i .. '\"}') end return 1",
                    "1", "{capibox}:queue:default", longer, count, NULL) == 1);
}

static void jobs_claimed_ahead_do_not_wait_for_a_long_one(void **state)
{
    pid_t busy, idle;

    (void)state;
    busy = a_worker_used_to_quick_jobs();
    push_behind(60000, 50);
    assert_true(wait_running(1));
    idle = rig_worker(&rig);
    assert_true(rig_wait_stat(&rig, "verdict:ok", 1050));
    assert_int_equal(null_backend_running(), 1);
    rig_end(busy, SIGKILL);
    rig_end(idle, SIGKILL);
}

static void jobs_claimed_ahead_are_given_back_once_and_in_order(void **state)
{
    long long before;
    double last = 0;
    pid_t pid;

    (void)state;
    pid = a_worker_used_to_quick_jobs();
    before = rig_stat(&rig, "released");
    push_behind(1500, 50);
    assert_true(rig_wait_stat(&rig, "verdict:ok", 1051));
    for (int i = 1; i <= 50; i++) {
        char id[16];

        snprintf(id, sizeof(id), "j%d", i);
        assert_true(atof(rig_job(&rig, id, "finished_at")) > last);
        last = atof(rig_job(&rig, id, "finished_at"));
    }
    /* Not ten times a second for as long as the long one runs. */
    assert_in_range(rig_stat(&rig, "released") - before, 0, 200);
    assert_true(rig_settled(&rig));
    assert_ends_well(pid);
}

/* ---- suspects ---------------------------------------------------------- */

static void kill_a_worker_with(int jobs, const char *job)
{
    pid_t victim = one_worker();

    push_many(jobs, job); /* that wait at the gate */
    assert_true(wait_running(jobs));
    rig_end(victim, SIGKILL);
    null_backend_share();
}

static void suspects_of_a_crash_run_one_at_a_time(void **state)
{
    pid_t pid;

    (void)state;
    kill_a_worker_with(4, "{\"code\":\"gate 150\"}");
    null_backend_open_gate();
    pid = rig_worker(&rig);
    assert_true(rig_wait_stat(&rig, "verdict:ok", 4));
    assert_int_equal(null_backend_most(), 1);
    assert_int_equal(null_backend_runs(), 4);
    assert_int_equal(rig_stat(&rig, "dead"), 0);
    assert_true(rig_settled(&rig));
    assert_ends_well(pid);
}

static void a_suspect_that_held_out_makes_room_for_the_next(void **state)
{
    int three = 3;
    pid_t pid;

    (void)state;
    exchange_probation_ms = 200;
    kill_a_worker_with(3, "{\"code\":\"gate 0\"}");
    pid = rig_worker(&rig);
    assert_true(wait_until(most_are, &three, RIG_WAIT_MS));
    null_backend_open_gate();
    assert_true(rig_wait_stat(&rig, "verdict:ok", 3));
    assert_true(rig_settled(&rig));
    assert_ends_well(pid);
}

/* The mark tells the reaper whom to charge; a duplicate never had it. */
static void a_duplicate_does_not_take_the_next_suspects_mark_off(void **state)
{
    char wid[WORKER_ID_MAX + 1], entry[256];
    int64_t moved = 0;
    pid_t pid;

    (void)state;
    rig_number(&rig, "HSET", "{capibox}:job:taken", "status", "succeeded",
               NULL);
    rig_push(&rig, "default", "!c1|{\"id\":\"taken\",\"code\":\"x\"}");
    rig_push(&rig, "default", "!c1|{\"id\":\"poison\",\"code\":\"crash\"}");
    pid = rig_worker(&rig);
    assert_int_not_equal(rig_end(pid, 0), -1); /* it kills itself */
    rig_text(&rig, wid, sizeof(wid), "EVAL",
             "return redis.call('ZRANGE', KEYS[1], 0, 0)[1]", "1",
             "{capibox}:wk", NULL);
    MUST0(protocol_reap(&rig.protocol, rig.redis, clock_ms() + RIG_WAIT_MS, wid,
                        true, &moved));
    rig_text(&rig, entry, sizeof(entry), "EVAL",
             "for _, e in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do "
             "if e:find('poison') then return e end end",
             "1", "{capibox}:queue:default", NULL);
    assert_int_equal(strncmp(entry, "!c2;", 4), 0);
}

static void
suspects_that_waited_under_a_lost_identity_are_not_mixed_up(void **state)
{
    static const char *const ids[] = {"s1", "s2"};
    pid_t pid;

    (void)state;
    rig.settings.lease_ms = 5000; /* the second identity is to last */
    pid = rig_worker(&rig);
    /* It takes a number, so that they get others the second time. It has ended
     * when they come: who is not suspected may run next to one who is. */
    rig_push(&rig, "default", "{\"code\":\"x\"}");
    assert_true(rig_wait_stat(&rig, "verdict:ok", 1));
    rig_number(&rig, "LPUSH", "{capibox}:queue:default",
               "!c1|{\"id\":\"s1\",\"code\":\"gate 1900\"}",
               "!c1|{\"id\":\"s2\",\"code\":\"gate 1900\"}", NULL);
    assert_true(wait_until(all_claimed, NULL, RIG_WAIT_MS));
    assert_true(wait_running(1));
    kill(rig.server.pid, SIGSTOP);
    assert_true(wait_running(0)); /* it gave itself up: none gets out yet */
    null_backend_open_gate();
    kill(rig.server.pid, SIGCONT);
    for (int i = 0; i < 2; i++)
        assert_true(rig_wait_job(&rig, ids[i], "status", "succeeded"));
    assert_true(rig_settled(&rig));
    assert_int_equal(null_backend_most(), 1);
    assert_int_equal(rig_stat(&rig, "total_executions"), 3);
    assert_int_equal(rig_stat(&rig, "duplicates"), 0);
    /* One identity was lost, and the next one lasted. */
    assert_int_equal(rig_number(&rig, "ZCARD", "{capibox}:graves", NULL), 1);
    assert_ends_well(pid);
}

/* ---- stopping ---------------------------------------------------------- */

static void an_idle_worker_leaves_at_once(void **state)
{
    int64_t start;
    pid_t pid = one_worker();

    (void)state;
    assert_true(wait_blocked(3));
    start = clock_ms();
    assert_ends_well(pid);
    /* The blocking moves, just begun, would last longer. */
    assert_in_range(clock_ms() - start, 0, PROTOCOL_BLOCK_S * 1000 - 1500);
}

static void draining_starts_nothing_that_waits_for_memory(void **state)
{
    pid_t pid;

    (void)state;
    rig.settings.memory_budget_mb = 600;
    pid = one_worker();
    push_many(2, "{\"code\":\"gate 100\"}");
    assert_true(wait_running(1));
    assert_true(wait_until(all_claimed, NULL, RIG_WAIT_MS));
    kill(pid, SIGTERM);
    assert_true(rig_wait_draining(&rig));
    null_backend_open_gate();
    assert_ends_well_by(pid, 0);
    assert_int_equal(null_backend_runs(), 1);
    assert_int_equal(rig_number(&rig, "LLEN", "{capibox}:queue:default", NULL),
                     1);
}

/* ---- death ------------------------------------------------------------- */

static void a_batch_counts_each_job_once_however_workers_die(void **state)
{
    const int jobs = 1200;
    pid_t keeper, helper;

    (void)state;
    MUST0(protocol_batch_create(&rig.protocol, rig.redis,
                                clock_ms() + RIG_WAIT_MS, "b", jobs));
    rig.settings.concurrency = 1; /* it leaves some for each of the victims */
    keeper = one_worker();
    rig.settings.concurrency = 4;
    push_many(jobs - 50, "{\"code\":\"sleep 15\",\"batch_id\":\"b\"}");
    push_many(50, "{\"code\":\"user\",\"batch_id\":\"b\"}");
    for (int i = 1; i <= 3; i++) {
        pid_t victim = rig_worker(&rig);

        assert_true(rig_workers_ready(&rig, 2));
        assert_true(wait_runs(null_backend_runs() + 10));
        rig_end(victim, SIGKILL);
        assert_true(rig_workers_ready(&rig, 1));
    }
    rig.settings.concurrency = 16;
    helper = rig_worker(&rig);
    assert_true(rig_settled(&rig));
    assert_int_equal(
        rig_number(&rig, "HGET", "{capibox}:batch:b", "done", NULL), jobs);
    assert_int_equal(
        rig_number(&rig, "HGET", "{capibox}:batch:b", "succeeded", NULL),
        jobs - 50);
    assert_int_equal(
        rig_number(&rig, "HGET", "{capibox}:batch:b", "failed", NULL), 50);
    assert_int_equal(rig_stat(&rig, "total_executions"), jobs);
    assert_ends_well(keeper);
    assert_ends_well(helper);
}

static void a_finish_that_arrives_after_the_lease_is_refused(void **state)
{
    char winner[128];
    pid_t frozen, other;

    (void)state;
    rig.settings.lease_ms = 2000;
    proxy_start(&proxy, &rig.server);
    rig.worker_url = proxy.url;
    frozen = one_worker();
    push_id("a", "gate 0");
    assert_true(rig_wait_job(&rig, "a", "status", "running"));
    assert_true(wait_running(1)); /* it heard of its start mark */
    proxy_pause(&proxy);
    null_backend_open_gate();
    assert_true(wait_runs(1)); /* its finish goes into the line */
    kill(frozen, SIGSTOP);
    rig.worker_url = NULL;
    other = rig_worker(&rig);
    assert_true(rig_wait_job(&rig, "a", "status", "succeeded"));
    snprintf(winner, sizeof(winner), "%s", rig_job(&rig, "a", "worker"));
    proxy_resume(&proxy);
    kill(frozen, SIGCONT);
    assert_true(rig_workers_ready(&rig, 2));
    assert_job("a", "worker", winner);
    assert_int_equal(rig_stat(&rig, "total_executions"), 1);
    assert_true(rig_settled(&rig));
    assert_ends_well(frozen);
    assert_ends_well(other);
}

static bool respawned(void *ctx)
{
    pid_t now = rig_worker_pid(&rig);

    return now != 0 && now != *(pid_t *)ctx;
}

/* Ms until the jobs it ran are back. */
static int64_t time_of_a_kill(pid_t child, long long recovered)
{
    int64_t start = clock_ms();

    kill(child, SIGKILL);
    assert_true(rig_wait_stat(&rig, "recovered", recovered));
    return clock_ms() - start;
}

static void
a_supervised_worker_is_replaced_and_its_jobs_return_at_once(void **state)
{
    int64_t took = INT64_MAX;
    pid_t supervisor, child;
    int kills = 0;

    (void)state;
    /* So that its successor does not see it dead, either. */
    rig_number(&rig, "ACL", "SETUSER", "default", "-client|list", NULL);
    supervisor = rig_supervised(&rig);
    /* The promise is 250 ms; the rest is for a busy test machine, which may
     * hold up some, but not all. */
    for (; took > 1500 && kills < TRIES; kills++) {
        assert_true(rig_workers_ready(&rig, 1));
        child = rig_worker_pid(&rig);
        assert_true(child > 0 && child != supervisor);
        null_backend_reset();
        push_many(2, "{\"code\":\"gate 0\"}");
        assert_true(wait_running(2));
        took = time_of_a_kill(child, 2 * kills + 2);
        null_backend_open_gate();
        assert_true(wait_until(respawned, &child, RIG_WAIT_MS));
        assert_true(rig_wait_stat(&rig, "verdict:ok", 2 * kills + 2));
    }
    assert_in_range(took, 0, 1500);
    assert_true(rig_settled(&rig));
    assert_ends_well(supervisor);
}

static void
a_worker_killed_while_stopping_leaves_its_jobs_to_the_supervisor(void **state)
{
    pid_t supervisor, child;

    (void)state;
    supervisor = rig_supervised(&rig);
    assert_true(rig_workers_ready(&rig, 1));
    child = rig_worker_pid(&rig);
    push_id("a", "sleep 60000");
    assert_true(rig_wait_job(&rig, "a", "status", "running"));
    kill(supervisor, SIGTERM);
    rig_push(&rig, "default", "{\"id\":\"not-taken\",\"code\":\"x\"}");
    while (rig_number(&rig, "EVAL",
                      "local w = redis.call('KEYS', '{capibox}:worker:*')[1] "
                      "return redis.call('HGET', w, 'state') == 'draining' "
                      "and 1 or 0",
                      "0", NULL) != 1)
        usleep(5000);
    kill(child, SIGKILL);
    assert_true(rig_end(supervisor, 0) != -1);
    assert_job("a", "status", "queued");
    assert_int_equal(rig_stat(&rig, "recovered"), 1);
}

/* ---- lines ------------------------------------------------------------- */

/* The server goes on with a blocking move whose client is gone: the job lands
 * in the private list, and no reply tells. */
static void a_job_moved_for_a_lost_connection_is_found(void **state)
{
    pid_t pid;

    (void)state;
    proxy_start(&proxy, &rig.server);
    rig.worker_url = proxy.url;
    pid = one_worker();
    /* Until the old moves are still there, first in line, when the new ones
     * begin: they last a few seconds. */
    do {
        assert_true(wait_blocked(3));
        proxy_cut(&proxy);
    } while (!wait_until(blocked_are, &(int){6}, 1000));
    push_id("a", "x");
    assert_true(rig_wait_job(&rig, "a", "status", "succeeded"));
    assert_true(rig_settled(&rig));
    assert_ends_well(pid);
}

/* Half-open: what is sent vanishes, and nobody is told. */
static void a_line_gone_silent_is_given_up(void **state)
{
    pid_t pid;

    (void)state;
    proxy_start(&proxy, &rig.server);
    rig.worker_url = proxy.url;
    pid = one_worker();
    assert_true(wait_blocked(3));
    push_id("a", "sleep 500");
    assert_true(rig_wait_job(&rig, "a", "status", "running"));
    proxy_swallow(&proxy); /* its result goes nowhere */
    assert_true(rig_wait_job(&rig, "a", "status", "succeeded"));
    assert_int_equal(null_backend_runs(), 1);
    assert_int_equal(rig_stat(&rig, "recovered"), 0);
    assert_true(rig_settled(&rig));
    rig_end(pid, SIGKILL);
}

static bool beat_since(void *ctx)
{
    return rig_number(&rig, "EVAL",
                      "local w = redis.call('KEYS', '{capibox}:worker:*')[1] "
                      "return math.floor(redis.call('HGET', w, 'heartbeat') * "
                      "1000)",
                      "0", NULL) > *(long long *)ctx;
}

static void an_answer_that_comes_late_sets_no_clock_back(void **state)
{
    long long held;
    pid_t pid;

    (void)state;
    rig.settings.lease_ms = 4000;
    proxy_start(&proxy, &rig.server);
    rig.worker_url = proxy.url;
    pid = one_worker();
    assert_true(rig_wait_clock(&rig, 100));
    held = rig_redis_ms(&rig);
    proxy_hold_answers(&proxy);
    assert_true(wait_until(beat_since, &held, RIG_WAIT_MS));
    usleep(500 * 1000); /* the time itself is the subject */
    proxy_resume(&proxy);
    for (int i = 0; i < 10; i++) {
        struct rig_timed t;

        rig_time_job(&rig, &t);
        assert_true(t.started > t.pushed - 110);
    }
    assert_true(rig_settled(&rig));
    assert_ends_well(pid);
}

/* Redis answers what only reads, and holds up the script that registers. */
static void a_slow_registration_sets_no_clock_ahead(void **state)
{
    struct rig_timed t;
    pid_t pid;

    (void)state;
    rig_number(&rig, "CLIENT", "PAUSE", "1000", "WRITE", NULL);
    pid = one_worker();
    rig_time_job(&rig, &t);
    assert_true(t.started <= t.seen + 1);
    assert_true(rig_settled(&rig));
    assert_ends_well(pid);
}

/* The exchange's own line, as all others of its name block. */
static void find_exchange(char id[24])
{
    char clients[8192], *line, *rest = clients;

    rig_text(&rig, clients, sizeof(clients), "CLIENT", "LIST", NULL);
    while ((line = strtok_r(rest, "\n", &rest)))
        if (strstr(line, "name=capibox:") && !strstr(line, "cmd=blmove"))
            assert_int_equal(sscanf(line, "id=%23s", id), 1);
}

/* As a firewall does to a line that is idle. */
static void an_idle_line_that_is_cut_is_made_again(void **state)
{
    char id[24] = "";
    pid_t pid = one_worker();

    (void)state;
    assert_true(wait_blocked(3));
    find_exchange(id);
    assert_int_equal(rig_number(&rig, "CLIENT", "KILL", "ID", id, NULL), 1);
    /* What blocked then is over: the time itself is the subject. */
    usleep((PROTOCOL_BLOCK_S * 1000 + 500) * 1000);
    push_id("a", "x");
    assert_true(rig_wait_job(&rig, "a", "status", "succeeded"));
    assert_true(rig_settled(&rig));
    assert_ends_well(pid);
}

static bool all_are_seen(void *ctx)
{
    struct silent_worker silent[8];
    int count = 1;

    (void)ctx;
    return protocol_probe_peers(&rig.protocol, rig.redis,
                                clock_ms() + RIG_WAIT_MS, "", silent, 8,
                                &count) == 0 &&
           count == 0;
}

/* How often someone was given up. */
static long long given_up(void)
{
    return rig_number(&rig, "ZCARD", "{capibox}:graves", NULL) +
           rig_stat(&rig, "recovered");
}

/* False if someone was held up for so long that it has to look dead. */
static bool survive_a_cut(pid_t pid, int cut)
{
    long long before = given_up();
    int64_t start = clock_ms();
    bool in_time;

    kill(pid, SIGSTOP);
    rig_number(&rig, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes", NULL);
    usleep(100 * 1000); /* for one probe of its peer, now and then */
    kill(pid, SIGCONT);
    assert_true(wait_until(all_are_seen, NULL, RIG_WAIT_MS));
    in_time = clock_ms() - start < PROTOCOL_PROBE_GAP_MS;
    /* For two probes of theirs, and not always as long before the next. */
    usleep((400 + (useconds_t)cut % 5 * 50) * 1000);
    if (in_time)
        assert_int_equal(given_up(), before);
    return in_time;
}

static void cut_connections_make_nobody_look_dead(void **state)
{
    int cuts = 0, in_time = 0;
    pid_t a, b;

    (void)state;
    a = one_worker();
    push_id("a", "gate 0");
    assert_true(rig_wait_job(&rig, "a", "status", "running"));
    b = rig_worker(&rig);
    assert_true(rig_workers_ready(&rig, 2));
    /* Who is cut between its registration and the first heartbeat begins anew,
     * under another name. */
    assert_true(wait_blocked(6));
    for (; in_time < 6 && cuts < CUTS_MAX; cuts++)
        in_time += survive_a_cut(a, cuts);
    assert_int_equal(in_time, 6);
    null_backend_open_gate();
    assert_true(rig_wait_job(&rig, "a", "status", "succeeded"));
    if (in_time == cuts)
        assert_int_equal(null_backend_runs(), 1);
    assert_true(rig_settled(&rig));
    assert_ends_well(a);
    assert_ends_well(b);
}

/* ---- Redis ------------------------------------------------------------- */

/* It refuses the moves that idle workers block on, but not the scripts. */
/* A worker whose connections are cut as soon as they are made. */
static void reconnect(const char *wid)
{
    static int64_t id = INT64_C(1000000000000); /* nobody's */
    struct worker_card card = {.wid = wid,
                               .host = "h",
                               .backend = "b",
                               .version = "1",
                               .queues = "default",
                               .client_ids = {id++},
                               .state = "running",
                               .more = ""};

    MUST0(protocol_register(&rig.protocol, rig.redis, clock_ms() + RIG_WAIT_MS,
                            &card));
}

static bool is_given_up(void *wid)
{
    return rig_number(&rig, "EVAL",
                      "return redis.call('ZSCORE', KEYS[1], ARGV[1]) and 0 "
                      "or 1",
                      "1", "{capibox}:wk", wid, NULL) == 1;
}

/* Until another one is found dead: it was probed as often. False if it was held
 * up between two connections, and so looked dead. */
static bool lives_while_it_reconnects(char *wid)
{
    char dead[24];
    bool given_up = false;
    int64_t before = clock_ms();

    snprintf(dead, sizeof(dead), "dead-%s", wid);
    reconnect(dead);
    reconnect(wid);
    while (!given_up) {
        given_up = is_given_up(dead);
        usleep(PROTOCOL_PROBE_GAP_MS * 1000 / 5);
        bool lives = !is_given_up(wid);
        if (clock_ms() - before > PROTOCOL_PROBE_GAP_MS)
            return false;
        assert_true(lives);
        before = clock_ms();
        reconnect(wid);
    }
    return true;
}

static void who_reconnects_between_two_probes_is_not_dead(void **state)
{
    char wid[16] = "";
    bool lived = false;
    pid_t pid;

    (void)state;
    pid = one_worker();
    for (int i = 0; i < CUTS_MAX && !lived; i++) {
        snprintf(wid, sizeof(wid), "unlucky-%d", i);
        lived = lives_while_it_reconnects(wid);
    }
    assert_true(lived);
    /* It tries no more. */
    assert_true(wait_until(is_given_up, wid, rig.settings.lease_ms / 2));
    assert_ends_well(pid);
}

static void a_full_redis_starts_what_becomes_due(void **state)
{
    pid_t pid = one_worker();

    (void)state;
    rig_push(&rig, "default", "{\"id\":\"a\",\"code\":\"x\",\"delay\":4}");
    assert_true(rig_wait_stat(&rig, "delayed", 1));
    rig_number(&rig, "CONFIG", "SET", "maxmemory", "1", NULL);
    assert_true(rig_wait_job(&rig, "a", "status", "succeeded"));
    rig_number(&rig, "CONFIG", "SET", "maxmemory", "0", NULL);
    assert_ends_well(pid);
}

static void a_redis_that_hangs_within_the_lease_costs_no_run(void **state)
{
    pid_t pid = one_worker();

    (void)state;
    push_id("a", "sleep 1500");
    assert_true(rig_wait_job(&rig, "a", "status", "running"));
    assert_true(wait_running(1));
    kill(rig.server.pid, SIGSTOP);
    assert_true(wait_runs(1));
    usleep(1000 * 1000); /* the result waits; well within the lease of 10 s */
    kill(rig.server.pid, SIGCONT);
    assert_true(rig_wait_job(&rig, "a", "status", "succeeded"));
    assert_job("a", "attempt", "1");
    assert_int_equal(null_backend_runs(), 1);
    assert_int_equal(rig_stat(&rig, "recovered"), 0);
    assert_true(rig_settled(&rig));
    assert_ends_well(pid);
}

/* Hundredths of a second of CPU time it took so far. */
static long ticks_of(pid_t pid)
{
    char path[64], text[1024] = "";
    unsigned long user = 0, kernel = 0;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof(text) - 1, file) > 0);
    fclose(file);
    assert_int_equal(
        sscanf(strrchr(text, ')'),
               ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
               &kernel),
        2);
    return (long)(user + kernel);
}

static void a_worker_without_redis_kills_its_runs_and_sleeps(void **state)
{
    long before;
    pid_t pid;

    (void)state;
    rig.settings.lease_ms = 2000;
    rig.settings.memory_budget_mb = 600; /* one runs, one waits for room */
    pid = one_worker();
    push_many(2, "{\"code\":\"sleep 60000\"}");
    assert_true(wait_running(1));
    kill(rig.server.pid, SIGSTOP);
    assert_true(wait_running(0)); /* it gave itself up */
    before = ticks_of(pid);
    usleep(1500 * 1000); /* the time itself is the subject */
    assert_in_range(ticks_of(pid) - before, 0, 50);
    kill(rig.server.pid, SIGCONT);
    assert_true(rig_wait_stat(&rig, "recovered", 2));
    assert_true(wait_running(1));
    rig_end(pid, SIGKILL);
}

/* SIGSTOP falls between the start of the run and its start mark: the mark is
 * under way when the identity, and the job with it, is given up. */
static void a_start_mark_under_way_when_all_is_lost_harms_nobody(void **state)
{
    pid_t pid;

    (void)state;
    rig.settings.lease_ms = 2000;
    rig.settings.shutdown_grace_s = 0;
    pid = one_worker();
    assert_true(wait_blocked(3)); /* no connecting that could hang */
    push_many(2, "{\"code\":\"sleep 60000\"}");
    while (null_backend_running() != 2)
        usleep(200);
    kill(rig.server.pid, SIGSTOP);
    assert_true(wait_running(0));
    kill(rig.server.pid, SIGCONT);
    assert_true(rig_wait_stat(&rig, "recovered", 2));
    assert_true(wait_running(1));
    assert_ends_well(pid);
}

static void a_redis_that_forgot_confirmed_work_does_not_keep_it(void **state)
{
    int64_t start;
    pid_t pid;

    (void)state;
    pid = one_worker();
    push_id("a", "sleep 500");
    push_id("b", "sleep 700");
    assert_true(rig_wait_job(&rig, "b", "status", "running"));
    rig_number(&rig, "SAVE", NULL);
    assert_true(rig_wait_job(&rig, "b", "status", "succeeded"));
    redis_server_kill(&rig.server);
    redis_server_restart(&rig.server);
    start = clock_ms();
    /* Both are in flight again, for a worker that knows nothing of it. */
    assert_true(rig_wait_job(&rig, "a", "status", "succeeded"));
    assert_true(rig_wait_job(&rig, "b", "status", "succeeded"));
    assert_true(rig_settled(&rig));
    /* It gives itself up; nobody waits for the lease. */
    assert_in_range(clock_ms() - start, 0, rig.settings.lease_ms - 1000);
    assert_int_equal(rig_stat(&rig, "total_executions"), 2);
    assert_ends_well(pid);
}

/* Its code at the end of one that was told to stop with a job it cannot tell
 * of. */
static int stop_without_redis(int grace_s)
{
    int status;
    pid_t pid;

    rig.settings.shutdown_grace_s = grace_s;
    pid = one_worker();
    push_id("a", "sleep 100000");
    /* The status alone may be seen before the worker heard of its mark. */
    assert_true(rig_wait_job(&rig, "a", "status", "running"));
    assert_true(wait_running(1));
    kill(rig.server.pid, SIGSTOP);
    status = rig_end(pid, SIGTERM);
    kill(rig.server.pid, SIGCONT);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void stopping_without_redis_is_bounded_and_owns_up(void **state)
{
    (void)state;
    assert_int_equal(stop_without_redis(1), 1);
}

static void so_does_who_loses_its_lease_meanwhile(void **state)
{
    (void)state;
    rig.settings.lease_ms = 2000;
    assert_int_equal(stop_without_redis(30), 1);
}

static void an_idle_worker_stops_at_once_when_redis_is_gone(void **state)
{
    pid_t pid = one_worker();

    (void)state;
    assert_true(wait_blocked(3));
    redis_server_kill(&rig.server);
    /* The grace of 30 s is for jobs. */
    assert_int_equal(rig_end(pid, SIGTERM), 0);
    redis_server_restart(&rig.server);
}

#define WITH(test, open) cmocka_unit_test_setup_teardown(test, open, close_rig)
#define WITH_RIG(test)   WITH(test, open_rig)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RIG(two_identical_jobs_without_an_id_both_run),
        WITH_RIG(weights_decide_who_is_served_more_often),
        WITH_RIG(a_job_that_expired_while_it_waited_for_memory_is_not_run),
        WITH_RIG(a_wrong_wall_clock_expires_nothing),
        WITH_RIG(a_released_jobs_sandbox_is_counted),
        WITH_RIG(what_blocking_moves_bring_too_much_goes_to_others),
        WITH_RIG(jobs_claimed_ahead_do_not_wait_for_a_long_one),
        WITH_RIG(jobs_claimed_ahead_are_given_back_once_and_in_order),
        WITH_RIG(suspects_of_a_crash_run_one_at_a_time),
        WITH_RIG(a_suspect_that_held_out_makes_room_for_the_next),
        WITH_RIG(a_duplicate_does_not_take_the_next_suspects_mark_off),
        WITH_RIG(suspects_that_waited_under_a_lost_identity_are_not_mixed_up),
        WITH_RIG(an_idle_worker_leaves_at_once),
        WITH_RIG(draining_starts_nothing_that_waits_for_memory),
        WITH_RIG(a_batch_counts_each_job_once_however_workers_die),
        WITH_RIG(a_finish_that_arrives_after_the_lease_is_refused),
        WITH_RIG(a_supervised_worker_is_replaced_and_its_jobs_return_at_once),
        WITH_RIG(
            a_worker_killed_while_stopping_leaves_its_jobs_to_the_supervisor),
        WITH_RIG(a_job_moved_for_a_lost_connection_is_found),
        WITH_RIG(a_line_gone_silent_is_given_up),
        WITH_RIG(an_answer_that_comes_late_sets_no_clock_back),
        WITH_RIG(a_slow_registration_sets_no_clock_ahead),
        WITH_RIG(an_idle_line_that_is_cut_is_made_again),
        WITH_RIG(cut_connections_make_nobody_look_dead),
        WITH_RIG(who_reconnects_between_two_probes_is_not_dead),
        WITH_RIG(a_full_redis_starts_what_becomes_due),
        WITH_RIG(a_redis_that_hangs_within_the_lease_costs_no_run),
        WITH_RIG(a_worker_without_redis_kills_its_runs_and_sleeps),
        WITH_RIG(a_start_mark_under_way_when_all_is_lost_harms_nobody),
        WITH(a_redis_that_forgot_confirmed_work_does_not_keep_it,
             open_forgetful_rig),
        WITH_RIG(stopping_without_redis_is_bounded_and_owns_up),
        WITH_RIG(so_does_who_loses_its_lease_meanwhile),
        WITH_RIG(an_idle_worker_stops_at_once_when_redis_is_gone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
