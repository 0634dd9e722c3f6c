/* tests/bench/bench_e2b.c -- what capibox adds to a job on E2B: CPU, waiting,
 * memory, requests and TLS handshakes. Prints one JSON line a figure.
 *
 * E2B is its double. What the double itself takes is measured side by side by a
 * bare client: the same three requests by libcurl. The CA file holds the
 * system's certificates as well as the double's, as that of a real worker
 * would. Plain HTTP instead of TLS shows what is capibox's own.
 *
 *   ROUNDS=5 E2B_JOBS=200 build/none/tests/bench/bench_e2b
 */
#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/must.h"
#include "common/redis.h"
#include "common/scope.h"
#include "tests/support/bench_support.h"
#include "tests/support/double.h"
#include "tests/support/proc.h"
#include "tests/support/redis_server.h"
#include "worker/e2b/http.h"
#include "worker/e2b/prelude.h"

#define AT_ONCE   16
#define RUNNING   200
#define WARM_UP   16
#define LATENCY_N 30
#define SLOW_N    10
#define SLOW_MS   150
#define WAIT_MS   180000
#define SETTLE_US ((HTTP_TRIM_MS + 500) * 1000) /* memory has gone back */
#define SYSTEM_CA "/etc/ssl/certs/ca-certificates.crt"
#define FILE_MAX  (4u << 20)
#define ENV_MAX   10
#define TEXT_MAX  512

static const char PRINT[] = "{\"code\":\"print(1)\"}";
static const char SLEEP[] = "{\"code\":\"import time\\ntime.sleep(20)\"}";

enum transport { PER_HOST, SHARED, PLAIN, TRANSPORTS };

struct bench {
    struct redis_server server;
    struct settings settings;
    struct redis_target target;
    struct redis *redis, *news;
    struct e2b_double e2b;
    char ca[128];
    struct proc worker;
    CURL *curl; /* the bare client */
    struct curl_slist *control_headers;
};

/* ---- jobs --------------------------------------------------------------- */

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

static void wait_one(struct bench *b)
{
    redisReply *reply = NULL;

    MUST0(redis_reply(b->news, deadline(), &reply));
    freeReplyObject(reply);
}

static void run_jobs(struct bench *b, const char *job, int n)
{
    for (int i = 0; i < n; i++)
        push(b, job);
    for (int i = 0; i < n; i++)
        wait_one(b);
}

/* ---- the bare client ------------------------------------------------------
 */

struct answer {
    char text[4096];
    size_t len;
};

static size_t keep(char *data, size_t one, size_t count, void *ctx)
{
    struct answer *a = ctx;
    size_t size = one * count;

    if (size > sizeof(a->text) - 1 - a->len)
        size = sizeof(a->text) - 1 - a->len;
    memcpy(a->text + a->len, data, size);
    a->len += size;
    a->text[a->len] = '\0';
    return one * count;
}

static void ask(struct bench *b, const char *method, const char *url,
                struct curl_slist *headers, const char *body, struct answer *a)
{
    long status = 0;

    a->len = 0;
    curl_easy_setopt(b->curl, CURLOPT_URL, url);
    curl_easy_setopt(b->curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(b->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(b->curl, CURLOPT_WRITEDATA, a);
    if (body)
        curl_easy_setopt(b->curl, CURLOPT_POSTFIELDS, body);
    else
        curl_easy_setopt(b->curl, CURLOPT_HTTPGET, 1L);
    MUST0(curl_easy_perform(b->curl));
    curl_easy_getinfo(b->curl, CURLINFO_RESPONSE_CODE, &status);
    MUST(status >= 200 && status < 300);
}

static struct curl_slist *guest_headers(const cJSON *made, const char *id)
{
    static const char *const fixed[] = {"Content-Type: application/json",
                                        "Accept: application/json",
                                        "Expect:", "E2b-Sandbox-Port: 49999"};
    const char *token = cJSON_GetStringValue(
        cJSON_GetObjectItemCaseSensitive(made, "envdAccessToken"));
    struct curl_slist *list = NULL;
    char line[TEXT_MAX];

    for (size_t i = 0; i < sizeof(fixed) / sizeof(*fixed); i++)
        list = curl_slist_append(list, fixed[i]);
    snprintf(line, sizeof(line), "E2b-Sandbox-Id: %s", id);
    list = curl_slist_append(list, line);
    snprintf(line, sizeof(line), "X-Access-Token: %s", token);
    return curl_slist_append(list, line);
}

/* Create, execute, delete; the same body as a job's. */
static void ask_three(struct bench *b, const char *body)
{
    static const char want[] = "{\"templateID\":\"code-interpreter-v1\","
                               "\"timeout\":420,\"secure\":true}";
    struct answer a;
    char url[TEXT_MAX];

    snprintf(url, sizeof(url), "https://api.%s/sandboxes", b->e2b.domain);
    ask(b, "POST", url, b->control_headers, want, &a);
    cJSON *made = cJSON_Parse(a.text);
    const char *id = cJSON_GetStringValue(
        cJSON_GetObjectItemCaseSensitive(made, "sandboxID"));
    MUST(id);
    struct curl_slist *headers = guest_headers(made, id);

    snprintf(url, sizeof(url), "https://49999-%s.%s/execute", id,
             b->e2b.domain);
    ask(b, "POST", url, headers, body, &a);
    MUST(strstr(a.text, "end_of_execution"));
    snprintf(url, sizeof(url), "https://api.%s/sandboxes/%s", b->e2b.domain,
             id);
    ask(b, "DELETE", url, b->control_headers, NULL, &a);
    curl_slist_free_all(headers);
    cJSON_Delete(made);
}

static double took_ms(int64_t start_us)
{
    return (double)(clock_us() - start_us) / 1000;
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof(*v), bench_by_size);
    return v[n / 2];
}

/* In turn, as the machine is noisy: the bare client, then a job from its push
 * to its result. Medians in ms. */
static void latencies(struct bench *b, int n, double *bare_out, double *job_out)
{
    struct job job = {.code = (char *)(uintptr_t) "print(1)", .code_bytes = 8};
    struct spec spec = {.language = LANGUAGE_PYTHON,
                        .limits = {.memory_bytes = 512 << 20,
                                   .disk_bytes = 512 << 20,
                                   .pids = 64}};
    AUTO_STRBUF struct strbuf body = STRBUF_INIT;
    double bare[LATENCY_N], jobs[LATENCY_N];

    prelude_execute(&job, &spec, &body);
    for (int i = 0; i < n; i++) {
        int64_t start = clock_us();

        ask_three(b, body.text);
        bare[i] = took_ms(start);
        start = clock_us();
        run_jobs(b, PRINT, 1);
        jobs[i] = took_ms(start);
    }
    *bare_out = median(bare, n);
    *job_out = median(jobs, n);
}

static void open_bare(struct bench *b)
{
    char key[TEXT_MAX];

    snprintf(key, sizeof(key), "X-API-Key: %s", b->e2b.key);
    b->control_headers =
        curl_slist_append(NULL, "Content-Type: application/json");
    b->control_headers = curl_slist_append(b->control_headers, key);
    b->control_headers = curl_slist_append(b->control_headers, "Expect:");
    b->curl = curl_easy_init();
    MUST(b->curl);
    curl_easy_setopt(b->curl, CURLOPT_CAINFO, b->e2b.ca);
    curl_easy_setopt(b->curl, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(b->curl, CURLOPT_USERAGENT, "bench");
    curl_easy_setopt(b->curl, CURLOPT_HTTP_VERSION,
                     (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(b->curl, CURLOPT_WRITEFUNCTION, keep);
}

/* ---- the worker ------------------------------------------------------------
 */

static void start_worker(struct bench *b, enum transport transport, int at_once)
{
    const char *port = strrchr(b->e2b.plain, ':');
    char text[ENV_MAX][TEXT_MAX];
    const char *env[ENV_MAX + 1],
        *argv[] = {proc_program("capibox-worker"), NULL};
    int n = 0;

    snprintf(text[n++], TEXT_MAX, "CAPIBOX_REDIS_URL=%s", b->server.url);
    snprintf(text[n++], TEXT_MAX, "CAPIBOX_CONCURRENCY=%d", at_once);
    snprintf(text[n++], TEXT_MAX, "CAPIBOX_LOG_LEVEL=warn");
    snprintf(text[n++], TEXT_MAX, "CAPIBOX_E2B_CA=%s", b->ca);
    snprintf(text[n++], TEXT_MAX, "CAPIBOX_BACKEND=e2b");
    snprintf(text[n++], TEXT_MAX, "E2B_API_KEY=%s", b->e2b.key);
    snprintf(text[n++], TEXT_MAX, "E2B_DOMAIN=%s", b->e2b.domain);
    snprintf(text[n++], TEXT_MAX, "CAPIBOX_E2B_SHARED=%s",
             transport == SHARED ? "always" : "auto");
    if (transport == PLAIN) {
        snprintf(text[n++], TEXT_MAX, "E2B_API_URL=http://localhost%s", port);
        snprintf(text[n++], TEXT_MAX, "E2B_SANDBOX_URL=http://localhost%s",
                 port);
    }
    for (int i = 0; i < n; i++)
        env[i] = text[i];
    env[n] = NULL;
    proc_start(&b->worker, &(struct proc_start){.argv = argv, .env = env});
    run_jobs(b, PRINT, WARM_UP);
}

static void end_worker(struct bench *b)
{
    proc_signal(&b->worker, SIGTERM);
    MUST0(proc_wait(&b->worker, WAIT_MS));
    proc_stop(&b->worker);
}

/* utime and stime, in ms (proc(5)). */
static double cpu_ms(const struct bench *b)
{
    AUTO_FREE char *text = NULL;
    unsigned long user, kernel;
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/stat", b->worker.pid);
    MUST(io_read_file(path, FILE_MAX, &text, NULL) >= 0);
    MUST(sscanf(strrchr(text, ')'),
                ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                &kernel) == 2);
    return (double)(user + kernel) * 1000 / (double)sysconf(_SC_CLK_TCK);
}

/* A number of /proc/PID/status, as "VmRSS:". */
static double status_number(const struct bench *b, const char *name)
{
    AUTO_FREE char *text = NULL;
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/status", b->worker.pid);
    MUST(io_read_file(path, FILE_MAX, &text, NULL) >= 0);
    const char *at = strstr(text, name);
    MUST(at);
    return atof(at + strlen(name));
}

/* ---- figures ---------------------------------------------------------------
 */

enum figure {
    CPU_HOST,
    CPU_SHARED,
    CPU_PLAIN,
    BARE,
    JOB,
    JOB_MORE,
    BARE_SLOW,
    JOB_SLOW,
    JOB_SLOW_MORE,
    BEYOND_IDEAL,
    RATE_SLOW,
    REQUESTS,
    SHAKES_HOST,
    SHAKES_SHARED,
    RSS_IDLE,
    RSS_JOB,
    RSS_JOB_PLAIN,
    THREADS,
    CONNECTIONS,
    FIGURES
};

static const struct {
    const char *name, *unit;
} figures[FIGURES] = {
    [CPU_HOST] = {"CPU of the worker, a TLS host per sandbox", "ms/job"},
    [CPU_SHARED] = {"CPU of the worker, TLS to one shared host", "ms/job"},
    [CPU_PLAIN] = {"CPU of the worker beyond TLS", "ms/job"},
    [BARE] = {"bare client: create, execute, delete", "ms"},
    [JOB] = {"print(1), push to result", "ms"},
    [JOB_MORE] = {"print(1), beyond the bare client", "ms"},
    [BARE_SLOW] = {"bare client, 150 ms a request", "ms"},
    [JOB_SLOW] = {"print(1), 150 ms a request, push to result", "ms"},
    [JOB_SLOW_MORE] = {"print(1), 150 ms a request, beyond the bare client",
                       "ms"},
    [BEYOND_IDEAL] = {"the same beyond three times 150 ms", "ms"},
    [RATE_SLOW] = {"print(1) drained 16 at a time, 150 ms a request", "jobs/s"},
    [REQUESTS] = {"requests", "/job"},
    [SHAKES_HOST] = {"TLS handshakes, a host per sandbox", "/job"},
    [SHAKES_SHARED] = {"TLS handshakes, one shared host", "/job"},
    [RSS_IDLE] = {"worker for 200 at a time, idle", "KiB"},
    [RSS_JOB] = {"worker, each of 200 running jobs", "KiB/job"},
    [RSS_JOB_PLAIN] = {"the same without TLS", "KiB/job"},
    [THREADS] = {"threads with 200 running jobs", ""},
    [CONNECTIONS] = {"connections with 200 running jobs", ""},
};

typedef double rounds[BENCH_ROUNDS_MAX];

static double requests(struct bench *b)
{
    return double_number(&b->e2b, "requests.create") +
           double_number(&b->e2b, "requests.execute") +
           double_number(&b->e2b, "requests.delete");
}

static void set_latency(struct bench *b, int ms)
{
    char command[64];

    snprintf(command, sizeof(command), "{\"cmd\":\"latency\",\"ms\":%d}", ms);
    cJSON_Delete(double_ask(&b->e2b, command));
}

static void measure_cpu(struct bench *b, enum transport transport, rounds *v,
                        int i, int jobs)
{
    static const enum figure cpu[TRANSPORTS] = {CPU_HOST, CPU_SHARED,
                                                CPU_PLAIN};
    double used, asked, shaken;

    start_worker(b, transport, AT_ONCE);
    used = cpu_ms(b);
    asked = requests(b);
    shaken = double_number(&b->e2b, "tls_handshakes");
    run_jobs(b, PRINT, jobs);
    v[cpu[transport]][i] = (cpu_ms(b) - used) / jobs;
    if (transport == PER_HOST)
        v[REQUESTS][i] = (requests(b) - asked) / jobs;
    if (transport != PLAIN)
        v[transport == SHARED ? SHAKES_SHARED : SHAKES_HOST][i] =
            (double_number(&b->e2b, "tls_handshakes") - shaken) / jobs;
    end_worker(b);
}

static void measure_waiting(struct bench *b, rounds *v, int i)
{
    int64_t start;

    start_worker(b, PER_HOST, AT_ONCE);
    latencies(b, LATENCY_N, &v[BARE][i], &v[JOB][i]);
    set_latency(b, SLOW_MS);
    latencies(b, SLOW_N, &v[BARE_SLOW][i], &v[JOB_SLOW][i]);
    start = clock_us();
    run_jobs(b, PRINT, 4 * AT_ONCE);
    v[RATE_SLOW][i] = 4 * AT_ONCE / ((double)(clock_us() - start) / 1e6);
    set_latency(b, 0);
    v[JOB_MORE][i] = v[JOB][i] - v[BARE][i];
    v[JOB_SLOW_MORE][i] = v[JOB_SLOW][i] - v[BARE_SLOW][i];
    v[BEYOND_IDEAL][i] = v[JOB_SLOW][i] - 3 * SLOW_MS;
    end_worker(b);
}

static void measure_memory(struct bench *b, enum transport transport, rounds *v,
                           int i)
{
    double idle, before;

    start_worker(b, transport, RUNNING);
    usleep(SETTLE_US);
    idle = status_number(b, "VmRSS:");
    before = double_number(&b->e2b, "requests.execute");
    for (int n = 0; n < RUNNING; n++)
        push(b, SLEEP);
    while (double_number(&b->e2b, "requests.execute") < before + RUNNING)
        usleep(20000);
    usleep(SETTLE_US); /* their first bytes are in */
    v[transport == PLAIN ? RSS_JOB_PLAIN : RSS_JOB][i] =
        (status_number(b, "VmRSS:") - idle) / RUNNING;
    /* All of them still ran. */
    MUST(double_number(&b->e2b, "creates") -
             double_number(&b->e2b, "destroys") ==
         RUNNING);
    if (transport != PLAIN) {
        v[RSS_IDLE][i] = idle;
        v[THREADS][i] = status_number(b, "Threads:");
        v[CONNECTIONS][i] = double_number(&b->e2b, "open_connections");
    }
    for (int n = 0; n < RUNNING; n++)
        wait_one(b);
    end_worker(b);
}

/* ---- stage ------------------------------------------------------------------
 */

static void write_ca(struct bench *b)
{
    const char *const parts[] = {SYSTEM_CA, b->e2b.ca};

    snprintf(b->ca, sizeof(b->ca), "%s/bench-ca.pem", b->e2b.dir);
    AUTO_FD int fd = open(b->ca, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    MUST(fd >= 0);
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        AUTO_FREE char *text = NULL;

        if (io_read_file(parts[i], FILE_MAX, &text, NULL) < 0) {
            fprintf(stderr, "bench: no %s\n", parts[i]);
            continue;
        }
        MUST(io_write_full(fd, text, strlen(text)) >= 0);
    }
}

static void open_bench(struct bench *b)
{
    static const char *const extra[] = {"--save", "", "--appendonly", "no",
                                        NULL};
    static const char *const words[] = {"--plain", "--max-sandboxes", "1000",
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
    double_open(&b->e2b, words);
    write_ca(b);
    open_bare(b);
}

static void close_bench(struct bench *b)
{
    redisReply *reply = NULL;

    MUST0(redis_callv(b->redis, deadline(), &reply, "HGET", "{capibox}:stats",
                      "failed_executions", NULL));
    MUST(!reply->str || atoi(reply->str) == 0);
    freeReplyObject(reply);
    curl_easy_cleanup(b->curl);
    curl_slist_free_all(b->control_headers);
    double_end(&b->e2b);
    redis_destroy(b->news);
    redis_destroy(b->redis);
    redis_target_fini(&b->target);
    settings_fini(&b->settings);
    redis_server_stop(&b->server);
}

int main(void)
{
    int rounds_wanted = bench_from_env("ROUNDS", 5, BENCH_ROUNDS_MAX);
    int jobs = bench_from_env("E2B_JOBS", 200, 100000);
    static rounds v[FIGURES];
    struct bench b = {.redis = NULL};

    open_bench(&b);
    for (int i = 0; i < rounds_wanted; i++) {
        for (int t = 0; t < TRANSPORTS; t++)
            measure_cpu(&b, (enum transport)t, v, i, jobs);
        measure_waiting(&b, v, i);
        measure_memory(&b, PER_HOST, v, i);
        measure_memory(&b, PLAIN, v, i);
    }
    for (int f = 0; f < FIGURES; f++)
        bench_print("e2b", figures[f].name, figures[f].unit, v[f],
                    rounds_wanted);
    close_bench(&b);
    return 0;
}
