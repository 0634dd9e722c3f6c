/* tests/bench/bench_sandbox.c -- end to end: jobs through the queue in fresh
 * local sandboxes, next to plain python3 and to python3 in bubblewrap with all
 * namespaces unshared, in the same run. Prints one JSON line a figure.
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
static const char PANDAS[] =
    "{\"code\":\"import pandas, matplotlib.pyplot\\nprint(1)\",\"template\":"
    "\"data_analysis\",\"requirements\":{\"cpu_limit_percent\":100}}";
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

/* ---- what to compare with -------------------------------------------------
 */

static const char *const plain[] = {"/usr/bin/python3", "-c", "print(1)", NULL};
static const char *const plain_pandas[] = {
    "/usr/bin/python3", "-c", "import pandas, matplotlib.pyplot", NULL};
static const char *const bubblewrap[] = {"/usr/bin/bwrap",
                                         "--unshare-all",
                                         "--die-with-parent",
                                         "--ro-bind",
                                         "/usr",
                                         "/usr",
                                         "--symlink",
                                         "usr/lib",
                                         "/lib",
                                         "--symlink",
                                         "usr/lib64",
                                         "/lib64",
                                         "--symlink",
                                         "usr/bin",
                                         "/bin",
                                         "--proc",
                                         "/proc",
                                         "--dev",
                                         "/dev",
                                         "--tmpfs",
                                         "/tmp",
                                         "/usr/bin/python3",
                                         "-c",
                                         "print(1)",
                                         NULL};

static void start_program(const char *const *argv)
{
    posix_spawn_file_actions_t actions;
    pid_t pid;

    MUST0(posix_spawn_file_actions_init(&actions));
    MUST0(posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY,
                                           0));
    MUST0(posix_spawn(&pid, argv[0], &actions, NULL, (char *const *)argv,
                      environ));
    posix_spawn_file_actions_destroy(&actions);
}

static void end_program(void)
{
    int status;

    MUST(wait(&status) > 0);
    MUST(status == 0);
}

static double program_rate(const char *const *argv, int n)
{
    int64_t start = clock_us();

    for (int i = 0; i < n; i++) {
        if (i >= AT_ONCE)
            end_program();
        start_program(argv);
    }
    for (int i = 0; i < AT_ONCE; i++)
        end_program();
    return n / ((double)(clock_us() - start) / 1e6);
}

static double program_latency(const char *const *argv, int n)
{
    double took[LATENCY_N];

    for (int i = 0; i < n; i++) {
        int64_t start = clock_us();

        start_program(argv);
        end_program();
        took[i] = (double)(clock_us() - start) / 1000;
    }
    qsort(took, (size_t)n, sizeof(*took), bench_by_size);
    return took[n / 2];
}

/* ---- the worker ------------------------------------------------------------
 */

static bool starts_warm(struct bench *b, const char *job)
{
    redisReply *reply = NULL;
    char text[400];

    snprintf(text, sizeof(text), "{\"id\":\"warm-%lld\",%s", b->done, job + 1);
    push(b, text);
    snprintf(text, sizeof(text), "{capibox}:job:warm-%lld", b->done);
    wait_one(b);
    MUST0(redis_callv(b->redis, deadline(), &reply, "HGET", text, "result",
                      NULL));
    bool warm = reply->str && strstr(reply->str, "waiting, warm");
    freeReplyObject(reply);
    return warm;
}

static void start_worker(struct bench *b)
{
    char url[400];
    const char *argv[] = {proc_program("capibox-worker"), NULL};
    const char *env[] = {url, "CAPIBOX_LOG_LEVEL=warn", NULL};

    snprintf(url, sizeof(url), "CAPIBOX_REDIS_URL=%s", b->server.url);
    proc_start(&b->worker, &(struct proc_start){.argv = argv, .env = env});
    while (!starts_warm(b, PYTHON) || !starts_warm(b, PANDAS))
        usleep(100000);
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

enum figure {
    PLAIN,
    BWRAP,
    PLAIN_PANDAS,
    JOB,
    JOB_PANDAS,
    JOB_BASH,
    PLAIN_RATE,
    BWRAP_RATE,
    JOB_RATE,
    PANDAS_RATE,
    BASH_RATE,
    FIGURES
};

static const struct {
    const char *name, *unit;
} figures[FIGURES] = {
    [PLAIN] = {"plain python3 -c 'print(1)'", "ms"},
    [BWRAP] = {"the same in bwrap --unshare-all", "ms"},
    [PLAIN_PANDAS] = {"plain python3 -c 'import pandas, matplotlib.pyplot'",
                      "ms"},
    [JOB] = {"print(1), push to result", "ms"},
    [JOB_PANDAS] =
        {"import pandas, matplotlib.pyplot; print(1), push to result", "ms"},
    [JOB_BASH] = {"bash echo 1, push to result", "ms"},
    [PLAIN_RATE] = {"plain python3 print(1), two at a time", "runs/s"},
    [BWRAP_RATE] = {"the same in bwrap, two at a time", "runs/s"},
    [JOB_RATE] = {"print(1) drained", "jobs/s"},
    [PANDAS_RATE] = {"import pandas, matplotlib.pyplot; print(1) drained",
                     "jobs/s"},
    [BASH_RATE] = {"bash echo 1 drained", "jobs/s"},
};

int main(void)
{
    int rounds = bench_from_env("ROUNDS", 5, BENCH_ROUNDS_MAX);
    int jobs = bench_from_env("SANDBOX_JOBS", 400, 100000);
    bool has_bwrap = access(bubblewrap[0], X_OK) == 0;
    double v[FIGURES][BENCH_ROUNDS_MAX];
    struct bench b = {.redis = NULL};

    if (!has_bwrap)
        fputs("bench: no bwrap to compare with: apt-get install bubblewrap\n",
              stderr);
    open_bench(&b);
    start_worker(&b);
    for (int i = 0; i < rounds; i++) { /* side by side: the machine is noisy */
        v[PLAIN][i] = program_latency(plain, LATENCY_N);
        if (has_bwrap)
            v[BWRAP][i] = program_latency(bubblewrap, LATENCY_N);
        v[PLAIN_PANDAS][i] = program_latency(plain_pandas, 3);
        v[JOB][i] = jobs_latency(&b, PYTHON);
        v[JOB_PANDAS][i] = jobs_latency(&b, PANDAS);
        v[JOB_BASH][i] = jobs_latency(&b, BASH);
        v[PLAIN_RATE][i] = program_rate(plain, jobs / 2);
        if (has_bwrap)
            v[BWRAP_RATE][i] = program_rate(bubblewrap, jobs / 4);
        v[JOB_RATE][i] = jobs_rate(&b, PYTHON, jobs);
        v[PANDAS_RATE][i] = jobs_rate(&b, PANDAS, jobs / 2);
        v[BASH_RATE][i] = jobs_rate(&b, BASH, jobs);
    }
    for (int f = 0; f < FIGURES; f++)
        if (has_bwrap || (f != BWRAP && f != BWRAP_RATE))
            bench_print("sandbox", figures[f].name, figures[f].unit, v[f],
                        rounds);
    close_bench(&b);
    return 0;
}
