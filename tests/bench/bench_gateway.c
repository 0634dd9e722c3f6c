/* tests/bench/bench_gateway.c -- the gateway over real HTTP: requests a second
 * and their latency (by wrk, where it is installed), what a synchronous job
 * costs over its own time, and what waiting clients cost. Prints one JSON line
 * a figure.
 *
 *   ROUNDS=3 SECONDS=5 WAITING=5000 build/none/tests/bench/bench_gateway
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "tests/support/bench_support.h"
#include "tests/support/proc.h"
#include "tests/support/redis_server.h"

#define START_MS    20000
#define SYNC_JOBS   200
#define IDLE_S      5
#define ANSWER_MAX  65536
#define WAITING_MAX 15000

struct bench {
    struct redis_server redis;
    struct proc gateway, worker;
    int port, rounds, seconds;
};

/* ---- programs ----------------------------------------------------------- */

static void start(struct bench *b, struct proc *p, const char *name,
                  const char *says, const char *setting)
{
    const char *argv[] = {proc_program(name), NULL};
    char url[400];
    const char *env[] = {url, "CAPIBOX_API_LISTEN=127.0.0.1:0",
                         "CAPIBOX_API_QUEUE_MAX=0", setting, NULL};

    snprintf(url, sizeof(url), "CAPIBOX_REDIS_URL=%s", b->redis.url);
    proc_start(p, &(struct proc_start){.argv = argv, .env = env});
    MUST(proc_says(p, says, START_MS));
}

static void start_gateway(struct bench *b)
{
    char *said, *at;

    start(b, &b->gateway, "capibox-api", "for=\"news of ended jobs\"", NULL);
    said = proc_err(&b->gateway);
    at = strstr(said, "address=127.0.0.1:");
    MUST(at);
    b->port = atoi(at + strlen("address=127.0.0.1:"));
    free(said);
}

/* ---- wrk ---------------------------------------------------------------- */

/* "1.32ms", "950.00us", "1.1s" in milliseconds. */
static double milliseconds(const char *text)
{
    char *unit;
    double number = strtod(text, &unit);

    if (!strncmp(unit, "us", 2))
        return number / 1000;
    return !strncmp(unit, "ms", 2) ? number : number * 1000;
}

static double after(const char *text, const char *word, bool time)
{
    const char *at = strstr(text, word);

    if (!at)
        return -1;
    at += strlen(word);
    at += strspn(at, " ");
    return time ? milliseconds(at) : strtod(at, NULL);
}

static bool run_wrk(struct bench *b, const char *path, const char *script,
                    double figures[3])
{
    char command[600], out[8192];
    FILE *pipe;
    size_t n;

    snprintf(command, sizeof(command),
             "wrk -t1 -c64 -d%ds --latency %s%s http://127.0.0.1:%d%s 2>&1",
             b->seconds, script ? "-s " : "", script ? script : "", b->port,
             path);
    pipe = popen(command, "r");
    MUST(pipe);
    n = fread(out, 1, sizeof(out) - 1, pipe);
    out[n] = '\0';
    if (pclose(pipe) != 0)
        return false;
    if (strstr(out, "Non-2xx"))
        fprintf(stderr, "bench_gateway: %s: %s\n", path,
                strstr(out, "Non-2xx"));
    figures[0] = after(out, "Requests/sec:", false);
    figures[1] = after(out, "50%", true);
    figures[2] = after(out, "99%", true);
    return true;
}

static void load(struct bench *b, const char *name, const char *path,
                 const char *script)
{
    double v[3][BENCH_ROUNDS_MAX];
    char figure[64];

    for (int i = 0; i < b->rounds; i++) {
        double figures[3];

        if (!run_wrk(b, path, script, figures)) {
            fprintf(stderr, "bench_gateway: there is no wrk\n");
            return;
        }
        for (int k = 0; k < 3; k++)
            v[k][i] = figures[k];
    }
    bench_print("gateway", name, "requests/s", v[0], b->rounds);
    snprintf(figure, sizeof(figure), "%s_p50", name);
    bench_print("gateway", figure, "ms", v[1], b->rounds);
    snprintf(figure, sizeof(figure), "%s_p99", name);
    bench_print("gateway", figure, "ms", v[2], b->rounds);
}

static void loads(struct bench *b)
{
    char script[320];
    FILE *file;

    snprintf(script, sizeof(script), "%s/post.lua", b->redis.dir);
    file = fopen(script, "w");
    MUST(file);
    fputs("wrk.method = 'POST'\n"
          "wrk.body = '{\"code\":\"print(1)\",\"async\":true}'\n"
          "wrk.headers['Content-Type'] = 'application/json'\n",
          file);
    fclose(file);
    load(b, "health", "/health", NULL);
    load(b, "stats", "/api/v1/e2b/stats", NULL);
    load(b, "metrics", "/metrics", NULL);
    load(b, "submit", "/api/v1/e2b/execute", script);
    unlink(script);
}

/* ---- one at a time ------------------------------------------------------ */

static int connect_to(struct bench *b)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)b->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    MUST(fd >= 0);
    MUST0(connect(fd, (struct sockaddr *)&at, sizeof(at)));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

static void post(int fd, const char *body)
{
    char request[600];
    int n = snprintf(request, sizeof(request),
                     "POST /api/v1/e2b/execute HTTP/1.1\r\nHost: localhost\r\n"
                     "Content-Type: application/json\r\nContent-Length: "
                     "%zu\r\n\r\n%s",
                     strlen(body), body);

    MUST(send(fd, request, (size_t)n, MSG_NOSIGNAL) == n);
}

/* A whole answer, by its Content-Length. */
static void take(int fd, char out[ANSWER_MAX])
{
    size_t have = 0, want = ANSWER_MAX;

    while (have < want) {
        ssize_t n = read(fd, out + have, ANSWER_MAX - 1 - have);
        char *end;

        MUST(n > 0);
        have += (size_t)n;
        out[have] = '\0';
        end = strstr(out, "\r\n\r\n");
        if (end)
            want = (size_t)(end + 4 - out) +
                   (size_t)after(out, "Content-Length:", false);
    }
}

/* Of each: all its time, less what the worker had it for. */
static void sync_jobs(struct bench *b)
{
    static char answer[ANSWER_MAX];
    double whole[SYNC_JOBS], over[SYNC_JOBS], v;
    int fd = connect_to(b);

    for (int i = 0; i < SYNC_JOBS; i++) {
        int64_t began = clock_us();

        post(fd, "{\"code\":\"print(1)\"}");
        take(fd, answer);
        whole[i] = (double)(clock_us() - began) / 1000;
        over[i] =
            whole[i] - 1000 * after(answer, "\"processing_time\":", false);
    }
    close(fd);
    qsort(whole, SYNC_JOBS, sizeof(double), bench_by_size);
    qsort(over, SYNC_JOBS, sizeof(double), bench_by_size);
    v = whole[SYNC_JOBS / 2];
    bench_print("gateway", "execute_p50", "ms", &v, 1);
    v = over[SYNC_JOBS / 2];
    bench_print("gateway", "execute_over_sandbox_p50", "ms", &v, 1);
    v = over[SYNC_JOBS * 99 / 100];
    bench_print("gateway", "execute_over_sandbox_p99", "ms", &v, 1);
}

/* ---- waiting clients ---------------------------------------------------- */

static double stat_field(pid_t pid, const char *file, int field)
{
    char path[64], text[1024], *at = text;
    FILE *f;
    size_t n;

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    f = fopen(path, "r");
    MUST(f);
    n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = '\0';
    while (--field > 0)
        at = strchr(at, ' ') + 1;
    return strtod(at, NULL);
}

static double rss_kib(struct bench *b)
{
    return stat_field(b->gateway.pid, "statm", 2) *
           (double)sysconf(_SC_PAGESIZE) / 1024;
}

static double cpu_s(struct bench *b)
{
    return (stat_field(b->gateway.pid, "stat", 14) +
            stat_field(b->gateway.pid, "stat", 15)) /
           (double)sysconf(_SC_CLK_TCK);
}

static void waiting(struct bench *b, int count)
{
    static int fds[WAITING_MAX];
    double before = rss_kib(b), cpu, v;

    for (int i = 0; i < count; i++) {
        fds[i] = connect_to(b);
        post(fds[i], "{\"code\":\"1\",\"delay\":3600}");
    }
    sleep(2);
    v = (rss_kib(b) - before) / count;
    bench_print("gateway", "waiting_client", "KiB", &v, 1);
    cpu = cpu_s(b);
    sleep(IDLE_S);
    v = 100 * (cpu_s(b) - cpu) / IDLE_S;
    bench_print("gateway", "waiting_cpu", "percent", &v, 1);
    for (int i = 0; i < count; i++)
        close(fds[i]);
}

int main(void)
{
    struct bench b = {.rounds = bench_from_env("ROUNDS", 3, BENCH_ROUNDS_MAX),
                      .seconds = bench_from_env("SECONDS", 5, 600)};
    int count = bench_from_env("WAITING", 5000, WAITING_MAX);
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    redis_server_start(&b.redis, NULL);
    start_gateway(&b);
    waiting(&b, count);
    loads(&b);
    proc_stop(&b.gateway);
    redis_server_stop(&b.redis);
    redis_server_start(&b.redis, NULL);
    start_gateway(&b);
    start(&b, &b.worker, "capibox-worker", "worker registered",
          "CAPIBOX_WARM=start");
    sleep(3);
    sync_jobs(&b);
    proc_stop(&b.worker);
    proc_stop(&b.gateway);
    redis_server_stop(&b.redis);
    return 0;
}
