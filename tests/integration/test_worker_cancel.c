/* Cancelling against real workers: wherever a job is on its way, a cancel ends
 * it there, and what was not started never is. The backend is told by each job
 * what to do (null_backend.h). */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "tests/support/cmocka_all.h"
#include "tests/support/null_backend.h"
#include "tests/support/proc.h"
#include "tests/support/rig.h"

/* A busy machine may hold up a thread on the way at some tries, not at all. */
#define AT_ONCE_MS 400
#define TRIES      8

static struct rig rig;

static int open_rig(void **state)
{
    (void)state;
    rig_open(&rig, NULL);
    null_backend_share();
    return 0;
}

static int close_rig(void **state)
{
    (void)state;
    rig_close(&rig);
    return 0;
}

static pid_t start_worker(void)
{
    pid_t pid = rig_worker(&rig);

    assert_true(rig_workers_ready(&rig, 1));
    return pid;
}

static void end_worker(pid_t pid)
{
    int status = rig_end(pid, SIGTERM);

    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void push(const char *id, const char *code, const char *more)
{
    char job[256];

    snprintf(job, sizeof(job), "{\"id\":\"%s\",\"code\":\"%s\"%s}", id, code,
             more);
    rig_push(&rig, "default", job);
}

static void push_running(const char *id, const char *code)
{
    push(id, code, "");
    assert_true(rig_wait_job(&rig, id, "status", "running"));
}

static bool runs_one(void *ctx)
{
    (void)ctx;
    return null_backend_running() == 1;
}

/* The status says so before its sandbox is made. */
static void wait_in_sandbox(void)
{
    assert_true(wait_until(runs_one, NULL, RIG_WAIT_MS));
}

static enum cancel_answer cancel(const char *id)
{
    struct cancel got = {.answer = CANCEL_UNKNOWN};

    assert_int_equal(protocol_cancel(&rig.protocol, rig.redis,
                                     clock_ms() + 5000, id, rig.settings.queues,
                                     rig.settings.nqueues, &got),
                     0);
    return got.answer;
}

static bool is_listening(void *ctx)
{
    (void)ctx;
    return rig_number(&rig, "EVAL",
                      "return redis.call('PUBSUB', 'NUMSUB', KEYS[1])[2]", "1",
                      "{capibox}:control", NULL) > 0;
}

static void wait_listening(void)
{
    assert_true(wait_until(is_listening, NULL, RIG_WAIT_MS));
}

static void assert_unstarted_end(const char *id)
{
    assert_true(rig_wait_job(&rig, id, "status", "cancelled"));
    assert_string_equal(rig_job(&rig, id, "verdict"), "cancelled");
    assert_int_equal(rig_stat(&rig, "verdict:cancelled"), 1);
}

/* ---- running ----------------------------------------------------------- */

static void cancel_sent(const char *id)
{
    assert_int_equal(cancel(id), CANCEL_SENT);
}

static void cancel_by_hand(const char *id)
{
    rig_number(&rig, "ZADD", "{capibox}:cx", "0", id, NULL);
    assert_int_equal(rig_number(&rig, "PUBLISH", "{capibox}:control", id, NULL),
                     1);
}

/* Jobs j1, j2, … are cancelled until one ends at once. How many it took. */
static int cancel_until_at_once(void (*how)(const char *id))
{
    int64_t took = INT64_MAX;
    int tries = 0;
    char id[16];

    while (took > AT_ONCE_MS && tries < TRIES) {
        snprintf(id, sizeof(id), "j%d", ++tries);
        push_running(id, "sleep 60000");
        wait_in_sandbox();
        int64_t start = clock_ms();
        how(id);
        assert_true(rig_wait_job(&rig, id, "status", "cancelled"));
        took = clock_ms() - start;
        print_message("cancelled after %d ms\n", (int)took);
    }
    assert_in_range(took, 0, AT_ONCE_MS);
    return tries;
}

static void a_running_job_ends_at_once(void **state)
{
    pid_t pid;
    int n;

    (void)state;
    rig.settings.lease_ms = 200000; /* no heartbeat helps */
    pid = start_worker();
    wait_listening();
    n = cancel_until_at_once(cancel_sent);
    assert_int_equal(rig_stat(&rig, "verdict:cancelled"), n);
    assert_int_equal(rig_stat(&rig, "failed_executions"), n);
    assert_int_equal(rig_stat(&rig, "sandbox_destroyed"), n);
    assert_int_equal(cancel("j1"), CANCEL_FINISHED);
    assert_true(rig_settled(&rig));
    assert_int_equal(rig_number(&rig, "EXISTS", "{capibox}:cx", NULL), 0);
    end_worker(pid);
}

static void a_job_without_an_id_of_its_own_is_cancelled_too(void **state)
{
    char key[128];
    pid_t pid = start_worker();

    (void)state;
    wait_listening();
    rig_push(&rig, "default", "{\"code\":\"sleep 60000\"}");
    do
        rig_text(&rig, key, sizeof(key), "EVAL",
                 "return redis.call('KEYS', '{capibox}:job:*')[1] or ''", "0",
                 NULL);
    while (!key[0]);
    cancel(key + strlen("{capibox}:job:"));
    assert_true(rig_wait_stat(&rig, "verdict:cancelled", 1));
    end_worker(pid);
}

/* ZADD alone: as if the message had been lost. */
static void a_lost_message_only_delays(void **state)
{
    pid_t pid;

    (void)state;
    rig.settings.lease_ms = 2000;
    pid = start_worker();
    push_running("j", "sleep 60000");
    rig_number(&rig, "ZADD", "{capibox}:cx", "0", "j", NULL);
    assert_true(rig_wait_job(&rig, "j", "status", "cancelled"));
    end_worker(pid);
}

static void two_plain_commands_cancel_at_once(void **state)
{
    pid_t pid;

    (void)state;
    rig.settings.lease_ms = 200000; /* no heartbeat helps */
    pid = start_worker();
    wait_listening();
    cancel_until_at_once(cancel_by_hand);
    end_worker(pid);
}

static void the_channel_is_found_again_after_a_cut(void **state)
{
    pid_t pid;

    (void)state;
    rig.settings.lease_ms = 200000; /* no heartbeat helps */
    pid = start_worker();
    wait_listening();
    rig_number(&rig, "CLIENT", "KILL", "TYPE", "pubsub", NULL);
    push_running("j", "sleep 60000");
    wait_listening();
    cancel("j");
    assert_true(rig_wait_job(&rig, "j", "status", "cancelled"));
    end_worker(pid);
}

/* ---- on its way -------------------------------------------------------- */

static void what_is_being_created_is_not_run(void **state)
{
    pid_t pid;

    (void)state;
    rig.settings.lease_ms = 4000;
    pid = start_worker();
    wait_listening();
    push_running("j", "create gate");
    assert_int_equal(cancel("j"), CANCEL_SENT);
    assert_true(rig_wait_beats(&rig)); /* by then it has heard of it */
    null_backend_open_gate();
    assert_unstarted_end("j");
    assert_int_equal(null_backend_runs(), 0);
    assert_int_equal(rig_stat(&rig, "total_executions"), 0);
    assert_int_equal(rig_stat(&rig, "sandbox_destroyed"),
                     rig_stat(&rig, "sandbox_created"));
    assert_int_equal(rig_stat(&rig, "released"), 0); /* no second look */
    end_worker(pid);
}

/* Whoever told of it first came before the backend knew the job. */
static void a_create_that_did_not_hear_is_told_again(void **state)
{
    pid_t pid;

    (void)state;
    rig.settings.lease_ms = 200000; /* no heartbeat helps */
    pid = start_worker();
    wait_listening();
    push_running("j", "deaf 60000");
    assert_int_equal(cancel("j"), CANCEL_SENT);
    assert_unstarted_end("j");
    assert_int_equal(null_backend_runs(), 0);
    assert_true(rig_settled(&rig));
    end_worker(pid);
}

static void what_waits_for_memory_is_not_run(void **state)
{
    pid_t pid;

    (void)state;
    rig.settings.memory_budget_mb = 600; /* room for one */
    rig.settings.lease_ms = 200000;      /* no heartbeat helps */
    rig.settings.concurrency = 3;
    pid = start_worker();
    wait_listening();
    push_running("runs", "sleep 60000");
    wait_in_sandbox();
    push_running("first", "x");
    push_running("second", "x");
    assert_int_equal(cancel("second"), CANCEL_SENT);
    assert_unstarted_end("second");
    assert_string_equal(rig_job(&rig, "first", "status"), "running");
    assert_int_equal(null_backend_runs(), 0);
    cancel("runs");
    assert_true(rig_wait_job(&rig, "first", "status", "succeeded"));
    end_worker(pid);
}

static bool is_no_longer_running(void *id)
{
    return strcmp(rig_job(&rig, id, "status"), "running") != 0;
}

/* A long job keeps the only executor, and another one was claimed ahead with
 * it, as jobs were short before. False if it was not, or went back to its
 * queue before it was cancelled. */
static bool cancel_claimed_ahead(int round)
{
    int64_t ended = rig_stat(&rig, "ended"), until;
    char long_id[16], id[16], jobs[2][64];

    for (int i = 0; i < 200; i++)
        rig_push(&rig, "default", "{\"code\":\"x\"}");
    assert_true(rig_wait_stat(&rig, "ended", ended + 200));
    snprintf(long_id, sizeof(long_id), "long-%d", round);
    snprintf(id, sizeof(id), "j-%d", round);
    snprintf(jobs[0], sizeof(jobs[0]),
             "{\"id\":\"%s\",\"code\":\"sleep 60000\"}", long_id);
    snprintf(jobs[1], sizeof(jobs[1]), "{\"id\":\"%s\",\"code\":\"x\"}", id);
    rig_number(&rig, "EVAL",
               "return redis.call('LPUSH', KEYS[1], ARGV[1], ARGV[2])", "1",
               "{capibox}:queue:default", jobs[0], jobs[1], NULL);
    assert_true(rig_wait_job(&rig, long_id, "status", "running"));
    until = clock_ms() + 200;
    while (strcmp(rig_job(&rig, id, "status"), "running") != 0 &&
           clock_ms() < until)
        ;
    bool sent = cancel(id) == CANCEL_SENT;
    assert_true(!sent || wait_until(is_no_longer_running, id, RIG_WAIT_MS));
    bool ended_here =
        sent && strcmp(rig_job(&rig, id, "status"), "cancelled") == 0;
    assert_string_equal(rig_job(&rig, long_id, "status"), "running");
    cancel(long_id);
    assert_true(rig_wait_job(&rig, long_id, "status", "cancelled"));
    assert_true(rig_wait_job(&rig, id, "status", "cancelled"));
    return ended_here;
}

static void what_waits_for_an_executor_is_not_run(void **state)
{
    bool ended_here = false;
    pid_t pid;

    (void)state;
    rig.settings.concurrency = 1;
    rig.settings.lease_ms = 200000; /* no heartbeat helps */
    pid = start_worker();
    wait_listening();
    for (int i = 0; i < 10 && !ended_here; i++)
        ended_here = cancel_claimed_ahead(i);
    assert_true(ended_here);
    assert_true(rig_settled(&rig));
    end_worker(pid);
}

/* Stops the worker while the job waits for its next try. */
static void catch_delayed(pid_t pid, const char *id)
{
    for (;;) {
        int status;

        assert_true(rig_wait_job(&rig, id, "status", "delayed"));
        kill(pid, SIGSTOP);
        assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
        if (rig_number(&rig, "ZCARD", "{capibox}:delayed", NULL) == 1)
            return;
        kill(pid, SIGCONT); /* it was due meanwhile */
    }
}

static void what_waits_for_its_retry_is_not_run(void **state)
{
    pid_t pid = start_worker();

    (void)state;
    push("j", "setup", ",\"max_attempts\":10");
    catch_delayed(pid, "j");
    assert_int_equal(cancel("j"), CANCEL_DONE);
    kill(pid, SIGCONT);
    assert_unstarted_end("j");
    assert_int_equal(rig_number(&rig, "ZCARD", "{capibox}:delayed", NULL), 0);
    assert_true(rig_settled(&rig));
    end_worker(pid);
}

static void what_waits_in_the_queue_ends_although_all_are_busy(void **state)
{
    pid_t pid;

    (void)state;
    rig.settings.concurrency = 1;
    pid = start_worker();
    push_running("long", "sleep 60000");
    push("j", "x", ",\"batch_id\":\"b\"");
    /* A blocked move or a claim ahead may still have it in hand. */
    while (rig_number(&rig, "LLEN", "{capibox}:queue:default", NULL) != 1)
        usleep(1000);
    assert_int_equal(cancel("j"), CANCEL_DONE);
    assert_unstarted_end("j");
    assert_int_equal(
        rig_number(&rig, "HGET", "{capibox}:batch:b", "failed", NULL), 1);
    cancel("long");
    assert_true(rig_wait_job(&rig, "long", "status", "cancelled"));
    assert_true(rig_settled(&rig));
    end_worker(pid);
}

/* Tombstoned while no worker was there: claimed, and not started. */
static void a_tombstoned_job_never_starts(void **state)
{
    pid_t pid;

    (void)state;
    push("j", "x", ",\"cache\":true");
    rig_number(&rig, "ZADD", "{capibox}:cx", "0", "j", NULL);
    pid = start_worker();
    assert_unstarted_end("j");
    assert_int_equal(null_backend_runs(), 0);
    assert_int_equal(rig_stat(&rig, "total_executions"), 0);
    assert_int_equal(rig_stat(&rig, "sandbox_created"), 0);
    assert_int_equal(rig_number(&rig, "EXISTS", "{capibox}:cx", NULL), 0);
    push("k", "x", "");
    assert_true(rig_wait_job(&rig, "k", "status", "succeeded"));
    assert_true(rig_settled(&rig));
    end_worker(pid);
}

static void a_cancelled_jobs_id_can_be_used_again(void **state)
{
    pid_t pid = start_worker();

    (void)state;
    wait_listening();
    push_running("j", "sleep 60000");
    cancel("j");
    assert_true(rig_wait_job(&rig, "j", "status", "cancelled"));
    rig_number(&rig, "DEL", "{capibox}:job:j", NULL); /* its time is over */
    push("j", "x", "");
    assert_true(rig_wait_job(&rig, "j", "status", "succeeded"));
    end_worker(pid);
}

/* ---- batches of bad jobs ----------------------------------------------- */

static void a_rejected_job_counts_in_its_batch(void **state)
{
    pid_t pid = start_worker();

    (void)state;
    MUST0(protocol_batch_create(&rig.protocol, rig.redis, clock_ms() + 5000,
                                "b", 3));
    push("a", "x", ",\"batch_id\":\"b\"");
    rig_push(&rig, "default", "{\"id\":\"c\",\"code\":7,\"batch_id\":\"b\"}");
    push("d", "x", ",\"batch_id\":\"b\",\"stream\":true,\"timeout\":-1");
    assert_true(rig_wait_stat(&rig, "ended", 3));
    assert_int_equal(
        rig_number(&rig, "HGET", "{capibox}:batch:b", "done", NULL), 3);
    assert_int_equal(
        rig_number(&rig, "HGET", "{capibox}:batch:b", "failed", NULL), 2);
    /* And who follows its output is told of its end. */
    assert_int_equal(
        rig_number(&rig, "EVAL",
                   "local e = redis.call('XREVRANGE', KEYS[1], '+', '-', "
                   "'COUNT', 1) return e[1][2][2] == 'end' and 1 or 0",
                   "1", "{capibox}:events:d", NULL),
        1);
    end_worker(pid);
}

#define WITH_RIG(test) \
    cmocka_unit_test_setup_teardown(test, open_rig, close_rig)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RIG(a_running_job_ends_at_once),
        WITH_RIG(a_job_without_an_id_of_its_own_is_cancelled_too),
        WITH_RIG(a_lost_message_only_delays),
        WITH_RIG(two_plain_commands_cancel_at_once),
        WITH_RIG(the_channel_is_found_again_after_a_cut),
        WITH_RIG(what_is_being_created_is_not_run),
        WITH_RIG(a_create_that_did_not_hear_is_told_again),
        WITH_RIG(what_waits_for_memory_is_not_run),
        WITH_RIG(what_waits_for_an_executor_is_not_run),
        WITH_RIG(what_waits_for_its_retry_is_not_run),
        WITH_RIG(what_waits_in_the_queue_ends_although_all_are_busy),
        WITH_RIG(a_tombstoned_job_never_starts),
        WITH_RIG(a_cancelled_jobs_id_can_be_used_again),
        WITH_RIG(a_rejected_job_counts_in_its_batch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
