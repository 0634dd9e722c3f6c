/* tests/bench/bench_queue.c -- the queue alone: real Redis, real pool, and a
 * backend that does nothing. Prints one JSON line a figure.
 *
 * Everything a real job costs is on: the result hash with its TTL, counters,
 * fence. That every job was delivered is checked on every run.
 *
 *   ROUNDS=5 JOBS=100000 build/none/tests/bench/bench_queue
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/must.h"
#include "tests/support/bench_support.h"
#include "tests/support/null_backend.h"
#include "tests/support/redis_server.h"
#include "worker/service.h"

#define PIPELINE     500
#define LATENCY_JOBS 1000
#define LATENCY_RATE 200 /* jobs a second */
#define IDLE_S       10
#define WAIT_MS      120000

static const char JOB[] = "{\"code\":\"print(6*7)\"}";

struct bench {
    struct redis_server server;
    struct settings settings;
    struct redis_target target;
    struct redis *redis;
};

static int64_t deadline(void)
{
    return clock_ms() + WAIT_MS;
}

/* The integer a command answers, whatever form it has. */
static long long number(struct bench *b, const char *word, const char *key,
                        const char *field)
{
    redisReply *reply = NULL;
    long long n = 0;

    MUST0(redis_callv(b->redis, deadline(), &reply, word, key, field, NULL));
    if (reply->type == REDIS_REPLY_INTEGER)
        n = reply->integer;
    else if (reply->str)
        n = atoll(reply->str);
    freeReplyObject(reply);
    return n;
}

static long long info_number(struct bench *b, const char *section,
                             const char *name)
{
    redisReply *reply = NULL;
    const char *at;
    long long n;

    MUST0(redis_callv(b->redis, deadline(), &reply, "INFO", section, NULL));
    at = strstr(reply->str, name);
    n = at ? atoll(at + strlen(name)) : -1;
    freeReplyObject(reply);
    return n;
}

/* Commands inside and outside scripts since CONFIG RESETSTAT, less our own
 * looking: HGET of the stats hash is only ever done by this bench. */
static long long all_calls(struct bench *b)
{
    static const char *const ours[] = {"info|", "config|", "ping", "hget:"};
    redisReply *reply = NULL;
    long long sum = 0;

    MUST0(redis_callv(b->redis, deadline(), &reply, "INFO", "commandstats",
                      NULL));
    for (const char *at = reply->str; (at = strstr(at, "cmdstat_"));) {
        bool skip = false;

        at += strlen("cmdstat_");
        for (size_t i = 0; i < sizeof(ours) / sizeof(*ours); i++)
            skip |= strncmp(at, ours[i], strlen(ours[i])) == 0;
        skip |= strncmp(at, "info:", 5) == 0;
        if (!skip)
            sum += atoll(strstr(at, "calls=") + 6);
    }
    freeReplyObject(reply);
    return sum;
}

static void plain(struct bench *b, const char *word, const char *arg)
{
    redisReply *reply = NULL;

    MUST0(redis_callv(b->redis, deadline(), &reply, word, arg, NULL));
    MUST(reply->type != REDIS_REPLY_ERROR);
    freeReplyObject(reply);
}

static void push_jobs(struct bench *b, int count)
{
    const char *argv[2 + PIPELINE] = {"LPUSH", "{capibox}:queue:default"};

    for (int i = 0; i < PIPELINE; i++)
        argv[2 + i] = JOB;
    for (int done = 0; done < count; done += PIPELINE) {
        redisReply *reply = NULL;
        int n = count - done < PIPELINE ? count - done : PIPELINE;

        MUST0(redis_call(b->redis, deadline(), &reply, 2 + n, argv, NULL));
        freeReplyObject(reply);
    }
}

static struct service *start_worker(struct bench *b)
{
    struct template_set *templates = NULL;
    struct service *service = NULL;

    MUST0(template_set_load("templates", NULL, NULL, &templates));
    MUST0(service_start(&b->settings, &b->target, &backend_null, templates, -1,
                        &service));
    return service;
}

static void stop_worker(struct service *service)
{
    service_drain(service);
    MUST(service_stop(service) == 0);
}

static double rss_mib(void)
{
    char line[256];
    long kib = 0;
    FILE *status = fopen("/proc/self/status", "r");

    MUST(status);
    while (fgets(line, sizeof(line), status))
        if (sscanf(line, "VmRSS: %ld", &kib) == 1)
            break;
    fclose(status);
    return (double)kib / 1024;
}

static double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static long long hash_size(struct bench *b, const char *key)
{
    redisReply *reply = NULL;
    long long n;

    MUST0(redis_callv(b->redis, deadline(), &reply, "HLEN", key, NULL));
    n = reply->integer;
    freeReplyObject(reply);
    return n;
}

static long long succeeded(struct bench *b)
{
    return number(b, "HGET", "{capibox}:stats", "successful_executions");
}

/* Every job ended well, once, and left its hash. */
static void check_delivery(struct bench *b, long long jobs)
{
    MUST(succeeded(b) == jobs);
    MUST(number(b, "HGET", "{capibox}:stats", "verdict:ok") == jobs);
    MUST(info_number(b, "keyspace", "expires=") >= jobs);
}

struct drain {
    double rate, calls, bytes, worker_us, redis_us;
};

static double redis_cpu_seconds(struct bench *b)
{
    redisReply *reply = NULL;
    double user, sys;

    MUST0(redis_callv(b->redis, deadline(), &reply, "INFO", "cpu", NULL));
    sys = atof(strstr(reply->str, "used_cpu_sys:") + 13);
    user = atof(strstr(reply->str, "used_cpu_user:") + 14);
    freeReplyObject(reply);
    return user + sys;
}

/* One round: the jobs wait, one worker drains them. */
static struct drain drain_round(struct bench *b, int jobs)
{
    struct drain d;
    struct service *service;
    long long before;
    int64_t start;
    double worker_s, redis_s;

    plain(b, "FLUSHALL", NULL);
    before = info_number(b, "memory", "used_memory:");
    push_jobs(b, jobs);
    d.bytes =
        (double)(info_number(b, "memory", "used_memory:") - before) / jobs;
    plain(b, "CONFIG", "RESETSTAT");
    worker_s = cpu_seconds();
    redis_s = redis_cpu_seconds(b);
    start = clock_us();
    service = start_worker(b);
    while (succeeded(b) < jobs)
        usleep(2000);
    d.rate = jobs / ((double)(clock_us() - start) / 1e6);
    d.worker_us = (cpu_seconds() - worker_s) * 1e6 / jobs;
    d.redis_us = (redis_cpu_seconds(b) - redis_s) * 1e6 / jobs;
    d.calls = (double)all_calls(b) / jobs;
    stop_worker(service);
    check_delivery(b, jobs);
    return d;
}

static void bench_drain(struct bench *b, int rounds, int jobs)
{
    double v[5][BENCH_ROUNDS_MAX];

    for (int i = 0; i < rounds; i++) {
        struct drain d = drain_round(b, jobs);

        v[0][i] = d.rate;
        v[1][i] = d.calls;
        v[2][i] = d.bytes;
        v[3][i] = d.worker_us;
        v[4][i] = d.redis_us;
    }
    bench_print("queue", "drained", "jobs/s", v[0], rounds);
    bench_print("queue", "redis calls", "calls/job", v[1], rounds);
    bench_print("queue", "queued job", "bytes of Redis", v[2], rounds);
    bench_print("queue", "worker cpu", "us/job", v[3], rounds);
    bench_print("queue", "redis cpu", "us/job", v[4], rounds);
}

static void bench_enqueue(struct bench *b, int rounds, int jobs)
{
    double rate[BENCH_ROUNDS_MAX];

    for (int i = 0; i < rounds; i++) {
        int64_t start;

        plain(b, "FLUSHALL", NULL);
        start = clock_us();
        push_jobs(b, jobs);
        rate[i] = jobs / ((double)(clock_us() - start) / 1e6);
    }
    bench_print("queue", "enqueued, LPUSH of 500", "jobs/s", rate, rounds);
}

/* From LPUSH to the result in its hash, at a steady rate: the done channel says
 * so in the same step that writes it. */
static void latency_round(struct bench *b, struct redis *news, double *p50,
                          double *p99)
{
    static double took[LATENCY_JOBS];

    for (int i = 0; i < LATENCY_JOBS; i++) {
        int64_t start = clock_us();
        redisReply *reply = NULL;

        push_jobs(b, 1);
        MUST0(redis_reply(news, deadline(), &reply));
        took[i] = (double)(clock_us() - start) / 1000;
        freeReplyObject(reply);
        while (clock_us() - start < 1000000 / LATENCY_RATE)
            usleep(200);
    }
    qsort(took, LATENCY_JOBS, sizeof(*took), bench_by_size);
    *p50 = took[LATENCY_JOBS / 2];
    *p99 = took[LATENCY_JOBS * 99 / 100];
}

static void bench_latency(struct bench *b, int rounds)
{
    double p50[BENCH_ROUNDS_MAX], p99[BENCH_ROUNDS_MAX];
    struct service *service;
    struct redis *news = NULL;
    redisReply *reply = NULL;

    plain(b, "FLUSHALL", NULL);
    MUST0(redis_create(&b->target, "bench", &news));
    MUST0(redis_connect(news, deadline()));
    MUST0(redis_callv(news, deadline(), &reply, "SUBSCRIBE", "{capibox}:done",
                      NULL));
    freeReplyObject(reply);
    service = start_worker(b);
    for (int i = 0; i < rounds; i++)
        latency_round(b, news, &p50[i], &p99[i]);
    redis_destroy(news);
    stop_worker(service);
    bench_print("queue", "push to result p50 at 200/s", "ms", p50, rounds);
    bench_print("queue", "push to result p99 at 200/s", "ms", p99, rounds);
}

static void bench_idle(struct bench *b)
{
    struct service *service = start_worker(b);
    double cpu, rss, calls;

    while (hash_size(b, "{capibox}:wkq") == 0)
        usleep(1000);
    sleep(1); /* past the start's own work */
    plain(b, "CONFIG", "RESETSTAT");
    cpu = cpu_seconds();
    sleep(IDLE_S);
    cpu = (cpu_seconds() - cpu) / IDLE_S * 100;
    calls = (double)all_calls(b) / IDLE_S;
    rss = rss_mib();
    stop_worker(service);
    bench_print("queue", "idle worker rss", "MiB", &rss, 1);
    bench_print("queue", "idle worker cpu", "% of a core", &cpu, 1);
    bench_print("queue", "idle redis calls", "calls/s", &calls, 1);
}

int main(void)
{
    static const char *const extra[] = {"--save", "", "--appendonly", "no",
                                        NULL};
    int rounds = bench_from_env("ROUNDS", 5, BENCH_ROUNDS_MAX);
    int jobs = bench_from_env("JOBS", 100000, 10000000);
    struct bench b = {.redis = NULL};
    struct complaint why;

    log_setup(false, LOG_ERROR);
    redis_server_start(&b.server, extra);
    MUST0(settings_init(&b.settings));
    MUST0(redis_target_parse(b.server.url, &b.settings, &b.target, &why));
    MUST0(redis_create(&b.target, "bench", &b.redis));
    MUST0(redis_connect(b.redis, deadline()));
    bench_idle(&b);
    bench_enqueue(&b, rounds, jobs);
    bench_drain(&b, rounds, jobs);
    bench_latency(&b, rounds);
    redis_destroy(b.redis);
    redis_target_fini(&b.target);
    settings_fini(&b.settings);
    redis_server_stop(&b.server);
    return 0;
}
