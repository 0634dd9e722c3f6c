/* tests/bench/bench_sandbox.c -- end to end: print(1) through the queue in
 * fresh local sandboxes, next to plain `/usr/bin/python3 -c 'print(1)'` in the
 * same run. Prints one JSON line a figure.
 *
 * quick_script gives a quarter of a core, which would measure the limit: the
 * jobs ask for a whole one.
 *
 *   ROUNDS=5 SANDBOX_JOBS=200 build/none/tests/bench/bench_sandbox
 */
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/redis.h"
#include "tests/support/bench_support.h"
#include "tests/support/proc.h"
#include "tests/support/redis_server.h"

#define AT_ONCE   2 /* plain pythons side by side: one a core */
#define LATENCY_N 50
#define WAIT_MS   120000

static const char PYTHON[] =
    "{\"code\":\"print(1)\",\"language\":\"python\",\"template\":"
    "\"quick_script\",\"requirements\":{\"cpu_limit_percent\":100}}";
static const char BASH[] =
    "{\"code\":\"echo 1\",\"language\":\"bash\",\"template\":"
    "\"quick_script\",\"requirements\":{\"cpu_limit_percent\":100}}";

extern char **environ;

struct bench {
    struct redis_server server;
    struct settings settings;
    struct redis_target target;
    struct redis *redis, *news;
    struct proc worker;
    long long done; /* jobs ended so far */
};

static int64_t deadline(void)
{
    return clock_ms() + WAIT_MS;
}

static void push(struct bench *b, const char *job)
{
    redisReply *reply = NULL;

    MUST0(redis_callv(b->redis, deadline(), &reply, "LPUSH",
                      "{capibox}:queue:default", job, NULL));
    freeReplyObject(reply);
}

/* The done channel says so in the same step that writes the result. */
static void wait_one(struct bench *b)
{
    redisReply *reply = NULL;

    MUST0(redis_reply(b->news, deadline(), &reply));
    freeReplyObject(reply);
    b->done++;
}

static void check_all_ok(struct bench *b)
{
    redisReply *reply = NULL;

    MUST0(redis_callv(b->redis, deadline(), &reply, "HGET", "{capibox}:stats",
                      "verdict:ok", NULL));
    MUST(reply->str && atoll(reply->str) == b->done);
    freeReplyObject(reply);
}

static double jobs_rate(struct bench *b, const char *job, int n)
{
    int64_t start = clock_us();

    for (int i = 0; i < n; i++)
        push(b, job);
    for (int i = 0; i < n; i++)
        wait_one(b);
    check_all_ok(b);
    return n / ((double)(clock_us() - start) / 1e6);
}

/* One at a time: push to result, median of LATENCY_N, ms. */
static double jobs_latency(struct bench *b, const char *job)
{
    double took[LATENCY_N];

    for (int i = 0; i < LATENCY_N; i++) {
        int64_t start = clock_us();

        push(b, job);
        wait_one(b);
        took[i] = (double)(clock_us() - start) / 1000;
    }
    check_all_ok(b);
    qsort(took, LATENCY_N, sizeof(*took), bench_by_size);
    return took[LATENCY_N / 2];
}

static pid_t start_python(void)
{
    static char program[] = "/usr/bin/python3", flag[] = "-c",
                code[] = "print(1)";
    char *const argv[] = {program, flag, code, NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;

    MUST0(posix_spawn_file_actions_init(&actions));
    MUST0(posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY,
                                           0));
    MUST0(posix_spawn(&pid, argv[0], &actions, NULL, argv, environ));
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

static void end_python(void)
{
    int status;

    MUST(wait(&status) > 0);
    MUST(status == 0);
}

static double plain_rate(int n)
{
    int64_t start = clock_us();

    for (int i = 0; i < n; i++) {
        if (i >= AT_ONCE)
            end_python();
        start_python();
    }
    for (int i = 0; i < AT_ONCE; i++)
        end_python();
    return n / ((double)(clock_us() - start) / 1e6);
}

static double plain_latency(void)
{
    double took[LATENCY_N];

    for (int i = 0; i < LATENCY_N; i++) {
        int64_t start = clock_us();

        start_python();
        end_python();
        took[i] = (double)(clock_us() - start) / 1000;
    }
    qsort(took, LATENCY_N, sizeof(*took), bench_by_size);
    return took[LATENCY_N / 2];
}

static void start_worker(struct bench *b)
{
    char url[400];
    const char *argv[] = {proc_program("capibox-worker"), NULL};
    const char *env[] = {url, "CAPIBOX_LOG_LEVEL=warn", NULL};

    snprintf(url, sizeof(url), "CAPIBOX_REDIS_URL=%s", b->server.url);
    proc_start(&b->worker, &(struct proc_start){.argv = argv, .env = env});
    push(b, PYTHON); /* the first job waits for it */
    wait_one(b);
}

static void open_bench(struct bench *b)
{
    static const char *const extra[] = {"--save", "", "--appendonly", "no",
                                        NULL};
    redisReply *reply = NULL;
    struct complaint why;

    redis_server_start(&b->server, extra);
    MUST0(settings_init(&b->settings));
    MUST0(redis_target_parse(b->server.url, &b->settings, &b->target, &why));
    MUST0(redis_create(&b->target, "bench", &b->redis));
    MUST0(redis_connect(b->redis, deadline()));
    MUST0(redis_create(&b->target, "bench-news", &b->news));
    MUST0(redis_connect(b->news, deadline()));
    MUST0(redis_callv(b->news, deadline(), &reply, "SUBSCRIBE",
                      "{capibox}:done", NULL));
    freeReplyObject(reply);
}

static void close_bench(struct bench *b)
{
    proc_signal(&b->worker, SIGTERM);
    MUST0(proc_wait(&b->worker, WAIT_MS));
    proc_stop(&b->worker);
    redis_destroy(b->news);
    redis_destroy(b->redis);
    redis_target_fini(&b->target);
    settings_fini(&b->settings);
    redis_server_stop(&b->server);
}

int main(void)
{
    int rounds = bench_from_env("ROUNDS", 5, BENCH_ROUNDS_MAX);
    int jobs = bench_from_env("SANDBOX_JOBS", 200, 100000);
    double v[6][BENCH_ROUNDS_MAX];
    struct bench b = {.redis = NULL};

    open_bench(&b);
    start_worker(&b);
    for (int i = 0; i < rounds; i++) { /* side by side: the machine is noisy */
        v[0][i] = plain_latency();
        v[1][i] = jobs_latency(&b, PYTHON);
        v[2][i] = jobs_latency(&b, BASH);
        v[3][i] = plain_rate(jobs);
        v[4][i] = jobs_rate(&b, PYTHON, jobs);
        v[5][i] = jobs_rate(&b, BASH, jobs);
    }
    bench_print("sandbox", "plain python3 -c 'print(1)'", "ms", v[0], rounds);
    bench_print("sandbox", "print(1), push to result", "ms", v[1], rounds);
    bench_print("sandbox", "bash echo 1, push to result", "ms", v[2], rounds);
    bench_print("sandbox", "plain python3, two at a time", "runs/s", v[3],
                rounds);
    bench_print("sandbox", "print(1) drained", "jobs/s", v[4], rounds);
    bench_print("sandbox", "bash echo 1 drained", "jobs/s", v[5], rounds);
    close_bench(&b);
    return 0;
}
