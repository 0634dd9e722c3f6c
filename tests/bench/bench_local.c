/* tests/bench/bench_local.c -- the local backend alone, without a queue: what a
 * fresh sandbox costs when it is made for the job, and what a job waits for
 * when one stands ready. Prints one JSON line a figure.
 *
 *   ROUNDS=5 LOCAL_JOBS=200 build/none/tests/bench/bench_local
 */
#include <ctype.h>
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/must.h"
#include "common/settings.h"
#include "tests/support/bench_support.h"
#include "tests/support/proc.h"
#include "tests/support/sandbox_run.h"
#include "worker/local/link.h"
#include "worker/local/warm.h"
#include "worker/local/wire.h"

#define RUNS_MAX      1000
#define THREADS       4
#define WARM_MS       60000
#define REFILL_US     20000 /* between two jobs: another one is made meanwhile */
#define WAITING       200
#define PROC_TEXT_MAX 65536

static char *modules[] = {(char *)"numpy", (char *)"pandas",
                          (char *)"matplotlib.pyplot", NULL};
static const char *const hello = "print(1)";
static const char *const with_pandas =
    "import pandas, matplotlib.pyplot\nprint(1)";

static struct settings settings;

struct kind {
    const char *code;
    char **preload;
    double took[RUNS_MAX]; /* ms */
};

static void open_backend(int waiting)
{
    struct complaint why = {.field = ""};

    settings.waiting = waiting;
    if (backend_local.open(&settings, &sandbox_run_backend, &why) == 0) {
        struct template_set none = {.count = 0};

        backend_local.prepare(sandbox_run_backend, &none);
        return;
    }
    fprintf(stderr, "%s: %s\n", why.field, why.text);
    exit(1);
}

static void close_backend(void)
{
    backend_local.close(sandbox_run_backend);
}

/* One job. ms from its create to its end, or to the last of its sandbox. */
static double run_one(const struct kind *k, bool until_destroyed,
                      bool *is_warm_out)
{
    struct sandbox_run r;

    sandbox_run_prepare(&r, LANGUAGE_PYTHON, k->code);
    r.spec.limits.cpu_percent = 100;
    r.tpl.preload = k->preload;
    int64_t start = clock_us();
    sandbox_run_go(&r);
    double took = (double)(clock_us() - start) / 1000;
    MUST(r.rc == 0 && r.o.verdict == VERDICT_OK);
    if (!until_destroyed)
        took -= r.o.timings.destroy * 1000;
    if (is_warm_out)
        *is_warm_out = strstr(r.o.start, "warm") != NULL;
    sandbox_run_done(&r);
    return took;
}

static void warm_up(const struct kind *k)
{
    int64_t deadline = clock_ms() + WARM_MS;
    bool warm = false;

    while (!warm) {
        run_one(k, true, &warm);
        MUST(clock_ms() < deadline);
        usleep(REFILL_US);
    }
}

static double percentile(struct kind *k, int n, int percent)
{
    qsort(k->took, (size_t)n, sizeof(*k->took), bench_by_size);
    return k->took[n * percent / 100];
}

static void measure(struct kind *k, int n, bool until_destroyed, int pause_us)
{
    for (int i = 0; i < n; i++) {
        k->took[i] = run_one(k, until_destroyed, NULL);
        if (pause_us)
            usleep((unsigned)pause_us);
    }
}

struct share {
    const struct kind *kind;
    int runs;
};

static void *run_share(void *arg)
{
    const struct share *s = arg;

    for (int i = 0; i < s->runs; i++)
        run_one(s->kind, true, NULL);
    return NULL;
}

static double rate(const struct kind *k, int n)
{
    struct share share = {k, n / THREADS};
    pthread_t threads[THREADS];
    int64_t start = clock_us();

    for (int i = 0; i < THREADS; i++)
        MUST0(pthread_create(&threads[i], NULL, run_share, &share));
    for (int i = 0; i < THREADS; i++)
        MUST0(pthread_join(threads[i], NULL));
    return share.runs * THREADS / ((double)(clock_us() - start) / 1e6);
}

/* ---- memory of those that wait ------------------------------------------- */

static long number_of(const char *pid, const char *file, const char *key)
{
    char path[300];
    char *text;
    long sum = 0;

    snprintf(path, sizeof(path), "/proc/%s/%s", pid, file);
    if (io_read_file(path, PROC_TEXT_MAX, &text, NULL) < 0)
        return 0;
    for (const char *at = text; (at = strstr(at, key)); at += strlen(key))
        sum += atol(at + strlen(key));
    free(text);
    return sum;
}

/* Processes below sandboxd in a pid namespace of their own: inits and programs.
 * Their private memory in KiB; *count_out: how many sandboxes. */
static long private_kib(pid_t sandboxd, int *count_out)
{
    DIR *dir = opendir("/proc");
    long kib = 0;

    *count_out = 0;
    for (const struct dirent *e; dir && (e = readdir(dir));) {
        char path[300];
        char *text;
        int outer, inner;

        if (!isdigit((unsigned char)e->d_name[0]))
            continue;
        snprintf(path, sizeof(path), "/proc/%.200s/status", e->d_name);
        if (io_read_file(path, PROC_TEXT_MAX, &text, NULL) < 0)
            continue;
        const char *pids = strstr(text, "NSpid:");
        bool inside =
            pids && sscanf(pids, "NSpid: %d %d\n", &outer, &inner) == 2;
        long parent = number_of(e->d_name, "status", "PPid:");
        char parent_text[32];

        snprintf(parent_text, sizeof(parent_text), "%ld", parent);
        if (inside && (parent == sandboxd ||
                       number_of(parent_text, "status", "PPid:") == sandboxd)) {
            *count_out += inner == 1;
            kib += number_of(e->d_name, "smaps_rollup", "Private_Clean:") +
                   number_of(e->d_name, "smaps_rollup", "Private_Dirty:");
        }
        free(text);
    }
    if (dir)
        closedir(dir);
    return kib;
}

static void add_message(struct strbuf *greeting, const void *message,
                        size_t size)
{
    uint32_t bytes = (uint32_t)size;

    strbuf_add(greeting, &bytes, sizeof(bytes));
    strbuf_add(greeting, message, size);
}

/* KiB of each of WAITING sandboxes of this kind. */
static double waiting_kib(const struct kind *k)
{
    struct wire_word pool = {.kind = WIRE_POOL, .reason = WIRE_FLOOR_MAX};
    struct strbuf greeting = STRBUF_INIT, warm = STRBUF_INIT;
    int64_t deadline = clock_ms() + WARM_MS;
    struct complaint why;
    struct link link;
    int count = 0;
    long kib = 0;

    MUST0(link_find(&link, &why));
    MUST0(link_open(&link, &why));
    add_message(&greeting, &pool, sizeof(pool));
    MUST0(warm_message("/usr/bin/python3", true, k->preload, WAITING, &warm));
    add_message(&greeting, warm.text, warm.len);
    link_greet(&link, &greeting);
    while (count < WAITING) {
        usleep(500000);
        kib = private_kib(link.pid, &count);
        MUST(clock_ms() < deadline);
    }
    strbuf_fini(&warm);
    link_close(&link);
    return (double)kib / count;
}

/* ---- all of it ------------------------------------------------------------
 */

int main(void)
{
    int rounds = bench_from_env("ROUNDS", 5, BENCH_ROUNDS_MAX);
    int jobs = bench_from_env("LOCAL_JOBS", 200, RUNS_MAX);
    static struct kind bare = {.code = hello},
                       data = {.code = with_pandas, .preload = modules};
    double v[8][BENCH_ROUNDS_MAX];

    setenv("CAPIBOX_SANDBOXD", proc_program("capibox-sandboxd"), 1);
    MUST0(settings_init(&settings));
    for (int i = 0; i < rounds; i++) {
        open_backend(0);
        warm_up(&bare);
        warm_up(&data);
        measure(&bare, jobs, true, 0);
        v[0][i] = percentile(&bare, jobs, 50);
        v[1][i] = rate(&bare, jobs);
        measure(&data, jobs, true, 0);
        v[2][i] = percentile(&data, jobs, 50);
        v[3][i] = rate(&data, jobs);
        close_backend();
        open_backend(16);
        warm_up(&bare);
        warm_up(&data);
        measure(&bare, jobs, false, REFILL_US);
        v[4][i] = percentile(&bare, jobs, 50);
        v[5][i] = percentile(&bare, jobs, 99);
        measure(&data, jobs, false, REFILL_US);
        v[6][i] = percentile(&data, jobs, 50);
        v[7][i] = percentile(&data, jobs, 99);
        close_backend();
    }
    bench_print("local", "print(1), create to destroyed, none waiting, p50",
                "ms", v[0], rounds);
    bench_print("local", "the same, four at a time", "jobs/s", v[1], rounds);
    bench_print("local", "pandas and pyplot imported, create to destroyed, p50",
                "ms", v[2], rounds);
    bench_print("local", "the same, four at a time", "jobs/s", v[3], rounds);
    bench_print("local", "print(1), one waiting: dispatch to answer, p50", "ms",
                v[4], rounds);
    bench_print("local", "the same, p99", "ms", v[5], rounds);
    bench_print("local", "pandas and pyplot, one waiting, p50", "ms", v[6],
                rounds);
    bench_print("local", "the same, p99", "ms", v[7], rounds);
    double kib = waiting_kib(&bare);
    bench_print("local", "200 waiting, private memory of each", "KiB", &kib, 1);
    kib = waiting_kib(&data);
    bench_print("local", "200 waiting with pandas and pyplot, private of each",
                "KiB", &kib, 1);
    settings_fini(&settings);
    return 0;
}
