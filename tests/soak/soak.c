/* tests/soak/soak.c -- thousands of jobs, honest and hostile, through one built
 * worker and a real Redis.
 *
 * Every job must get one result with a verdict of its kind; results that cannot
 * differ are compared with the same job run alone before. After each round
 * nothing may be left, and memory stays where it was after the first fifth.
 *
 *   SOAK_JOBS=5000 SOAK_SEED=1 build/none/tests/soak/soak
 *
 * Shows progress, ends with one line per promise and "N passed, N failed, N
 * skipped", which it also adds to the file TEST_TOTALS names.
 */
#include <cjson/cJSON.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/scope.h"
#include "tests/soak/soak_house.h"
#include "tests/soak/soak_jobs.h"
#include "tests/support/bench_support.h"
#include "tests/support/stage.h"

#define JOBS_DEFAULT    5000
#define JOBS_LEAST      50 /* ten a round */
#define JOBS_MAX        1000000
#define ROUNDS_LEAST    5 /* memory counts from the end of the first fifth */
#define ROUND_JOBS_MAX  1000
#define OPEN_MAX        48    /* jobs pushed and not ended */
#define TWICE_EVERY     50    /* one of so many is pushed a second time */
#define NEWS_MS         90000 /* for one job to end: longer than any may run */
#define QUIET_MS        20000 /* for what is being cleared away */
#define PROGRESS_MS     3000
#define TIME_BASE_MS    300000 /* the jobs alone, and a slow machine */
#define TIME_PER_JOB_MS 150
#define COMPLAINTS_MAX  10                         /* shown of one kind */
#define CONCURRENCY     "CAPIBOX_CONCURRENCY=8"    /* many of them only wait */
#define RESULT_TTL      "CAPIBOX_RESULT_TTL=86400" /* twice must be seen */
/* With an arena for each of its threads, glibc's heap takes tens of thousands
 * of jobs to settle; with one, what grows is what leaks. */
#define ONE_ARENA "MALLOC_ARENA_MAX=1"
/* Over all rounds but the first fifth. */
#define RSS_GROWTH_MAX_KB 1024

enum promise {
    VERDICTS,
    ONCE,
    SAME,
    NO_LEFTOVERS,
    FLAT_MEMORY,
    BOOKS,
    COUNTERS,
    CLEAN_END,
    IN_TIME,
    PROMISES,
};

static const char *const sentences[PROMISES] = {
    [VERDICTS] = "every job has the verdict of its kind",
    [ONCE] = "every job has exactly one result",
    [SAME] = "results are the same as those of jobs run alone",
    [NO_LEFTOVERS] = "no processes, cgroups, mounts, files or fds are left",
    [FLAT_MEMORY] = "memory of worker and sandboxd stays flat",
    [BOOKS] = "the books balance",
    [COUNTERS] = "the counters add up",
    [CLEAN_END] = "the worker ends cleanly and leaves nothing",
    [IN_TIME] = "all jobs end in time",
};

struct entry {
    unsigned short kind;
    unsigned char variant, results;
};

struct soak {
    struct rig rig;
    struct redis *news;
    struct proc worker;
    struct entry *entries;
    int jobs, pushed, ended;
    unsigned seed;
    char *alone[256][SOAK_VARIANTS]; /* results as compared */
    long long by_verdict[VERDICT_COUNT];
    long long twice;
    int complaints[PROMISES];
    struct soak_house before, first, now;
    int64_t started_ms, shown_ms, deadline_ms;
};

static struct soak soak;

__attribute__((format(printf, 2, 3))) static void broken(enum promise promise,
                                                         const char *fmt, ...)
{
    va_list args;

    if (++soak.complaints[promise] > COMPLAINTS_MAX)
        return;
    printf("NOT so: %s: ", sentences[promise]);
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
}

/* ---- results
 * ----------------------------------------------------------------- */

/* What tells two runs of one job apart. */
static void drop_differences(cJSON *result)
{
    static const char *const tops[] = {
        "job_id",     "sandbox_id", "execution_time", "processing_time",
        "queue_time", "worker",     "timestamp",      "timings"};
    static const char *const usage[] = {"cpu_seconds", "peak_memory_mb",
                                        "peak_processes", "shared_memory_mb",
                                        "context_switches"};
    cJSON *part = cJSON_GetObjectItemCaseSensitive(result, "usage");

    for (size_t i = 0; i < sizeof(tops) / sizeof(*tops); i++)
        cJSON_DeleteItemFromObjectCaseSensitive(result, tops[i]);
    for (size_t i = 0; i < sizeof(usage) / sizeof(*usage); i++)
        cJSON_DeleteItemFromObjectCaseSensitive(part, usage[i]);
    part = cJSON_GetObjectItemCaseSensitive(result, "sandbox_info");
    cJSON_DeleteItemFromObjectCaseSensitive(part, "created_at");
    cJSON_DeleteItemFromObjectCaseSensitive(part, "start");
}

static void show_difference(const char *name, const char *alone,
                            const char *now)
{
    size_t at = 0;

    while (alone[at] && alone[at] == now[at])
        at++;
    at -= at < 60 ? at : 60;
    broken(SAME, "%s: alone …%.200s… now …%.200s…", name, alone + at, now + at);
}

/* Takes json; the caller frees what comes back. */
static char *comparable(cJSON *json)
{
    char *text;

    drop_differences(json);
    text = cJSON_PrintUnformatted(json);
    MUST(text);
    cJSON_Delete(json);
    return text;
}

/* The result of a job of this kind: NULL if it has none. */
static cJSON *check_verdict(const struct soak_kind *kind, const char *id)
{
    AUTO_FREE char *text = stage_field(&soak.rig, id, "result");
    cJSON *json = text ? cJSON_Parse(text) : NULL;
    const char *verdict = stage_text(json, "verdict");

    if (!verdict) {
        broken(ONCE, "%s (%s) ended without a result", id, kind->name);
        cJSON_Delete(json);
        return NULL;
    }
    soak.by_verdict[verdict_from_name(verdict)]++;
    if (!soak_verdict_fits(kind, verdict))
        broken(VERDICTS, "%s is %s, not %s: %.2000s", kind->name, verdict,
               kind->verdicts, text);
    else if (strcmp(stage_text(json, "job_id"), id) != 0)
        broken(ONCE, "%s has the result of another", id);
    return json;
}

/* ---- the queue
 * ------------------------------------------------------------------ */

static void push(const struct soak_kind *kind, int variant, const char *id,
                 bool twice)
{
    static const char *const queues[] = {"high", "default", "low"};
    struct strbuf job = STRBUF_INIT;

    soak_job(kind, variant, id, &job);
    MUST(!job.failed);
    rig_push(&soak.rig, queues[strlen(id) % 3], job.text);
    if (twice) {
        rig_push(&soak.rig, queues[strlen(id) % 3], job.text);
        soak.twice++;
    }
    strbuf_fini(&job);
}

/* The id of the next job that ended, into id. False if none does. */
static bool next_ended(char id[JOB_ID_MAX + 1])
{
    redisReply *reply = NULL;
    int64_t wait_ms = clock_ms() + NEWS_MS;
    bool got;

    if (wait_ms > soak.deadline_ms)
        wait_ms = soak.deadline_ms;
    got = redis_reply(soak.news, wait_ms, &reply) == 0 &&
          reply->type == REDIS_REPLY_ARRAY && reply->elements == 3;
    if (got)
        snprintf(id, JOB_ID_MAX + 1, "%s", reply->element[2]->str);
    freeReplyObject(reply);
    return got;
}

static void show_progress(bool now)
{
    struct soak_house *h = &soak.now;
    double s = (double)(clock_ms() - soak.started_ms) / 1000;

    if (!now && clock_ms() - soak.shown_ms < PROGRESS_MS)
        return;
    soak.shown_ms = clock_ms();
    soak_house_look(soak.worker.pid, h);
    printf("soak: %d of %d jobs, %.1f a second; worker %.1f MiB, %d fds; "
           "sandboxd %.1f MiB, %d fds; %d processes\n",
           soak.ended, soak.jobs, s > 0 ? soak.ended / s : 0,
           (double)h->rss_kb[SOAK_WORKER] / 1024, h->fds[SOAK_WORKER],
           (double)h->rss_kb[SOAK_SANDBOXD] / 1024, h->fds[SOAK_SANDBOXD],
           h->processes);
    fflush(stdout);
}

/* ---- jobs alone
 * ------------------------------------------------------------------ */

static bool run_alone(size_t kind, int variant)
{
    const struct soak_kind *k = &soak_kinds[kind];
    char id[JOB_ID_MAX + 1], ended[JOB_ID_MAX + 1];
    cJSON *result;

    snprintf(id, sizeof(id), "alone-%s-%d", k->name, variant);
    push(k, variant, id, false);
    if (!next_ended(ended) || strcmp(ended, id) != 0) {
        broken(IN_TIME, "%s does not end alone", id);
        return false;
    }
    result = check_verdict(k, id);
    if (result && k->same)
        soak.alone[kind][variant] = comparable(result);
    else
        cJSON_Delete(result);
    return true;
}

static bool run_all_alone(void)
{
    MUST(soak_kinds_count <= sizeof(soak.alone) / sizeof(*soak.alone));
    for (size_t i = 0; i < soak_kinds_count; i++)
        for (int v = 0; v < (soak_kinds[i].same ? SOAK_VARIANTS : 1); v++)
            if (!run_alone(i, v))
                return false;
    return true;
}

/* ---- the mix
 * ----------------------------------------------------------------------- */

static void push_next(void)
{
    struct entry *e = &soak.entries[soak.pushed];
    char id[32];
    bool twice = rand_r(&soak.seed) % TWICE_EVERY == 0;

    e->kind = (unsigned short)soak_draw(&soak.seed);
    e->variant = (unsigned char)(rand_r(&soak.seed) % SOAK_VARIANTS);
    snprintf(id, sizeof(id), "s%d", soak.pushed++);
    /* A bad job whose id is taken gets a result under an id of its own. */
    push(&soak_kinds[e->kind], e->variant, id,
         twice && strcmp(soak_kinds[e->kind].verdicts, "rejected") != 0);
}

static void check_ended(const char *id)
{
    int n = id[0] == 's' ? atoi(id + 1) : -1;
    if (n < 0 || n >= soak.pushed || soak.entries[n].results++ > 0) {
        broken(ONCE, "%s ended %s", id, n < 0 ? "unasked" : "again");
        return;
    }
    const struct entry *e = &soak.entries[n];

    soak.ended++;
    cJSON *result = check_verdict(&soak_kinds[e->kind], id);
    const char *alone = soak.alone[e->kind][e->variant];

    if (!result || !alone) {
        cJSON_Delete(result);
        return;
    }
    AUTO_FREE char *now = comparable(result);

    if (strcmp(alone, now) != 0)
        show_difference(soak_kinds[e->kind].name, alone, now);
}

static void name_the_open(void)
{
    for (int i = 0; i < soak.pushed; i++) {
        char id[32];

        snprintf(id, sizeof(id), "s%d", i);
        if (soak.entries[i].results == 0)
            broken(IN_TIME, "%s (%s) is \"%s\"", id,
                   soak_kinds[soak.entries[i].kind].name,
                   rig_job(&soak.rig, id, "status"));
    }
}

/* Until so many jobs have ended. */
static bool run_until(int end)
{
    char id[JOB_ID_MAX + 1];

    while (soak.ended < end) {
        while (soak.pushed < end && soak.pushed - soak.ended < OPEN_MAX)
            push_next();
        if (!next_ended(id)) {
            name_the_open();
            return false;
        }
        check_ended(id);
        show_progress(false);
    }
    return true;
}

/* ---- what must hold between rounds
 * ------------------------------------------------- */

static bool is_settled(void *ctx)
{
    return rig_settled(ctx);
}

static bool is_tidy(void *ctx)
{
    char why[1024];

    (void)ctx;
    soak_house_look(soak.worker.pid, &soak.now);
    soak_house_compare(&soak.before, &soak.now, why, sizeof(why));
    return !why[0];
}

static void check_house(void)
{
    char why[1024];

    if (wait_until(is_tidy, NULL, QUIET_MS))
        return;
    soak_house_compare(&soak.before, &soak.now, why, sizeof(why));
    broken(NO_LEFTOVERS, "after %d jobs: %s", soak.ended, why);
}

static void check_books(void)
{
    AUTO_FREE char *out = NULL, *err = NULL;

    if (!wait_until(is_settled, &soak.rig, QUIET_MS))
        broken(BOOKS, "after %d jobs something still waits or runs",
               soak.ended);
    if (stage_cli(&soak.rig, NULL, &out, &err, "stats", "--audit", NULL) != 0)
        broken(BOOKS, "after %d jobs: %s%s", soak.ended, out, err);
}

static void check_counters(void)
{
    long long cached = rig_stat(&soak.rig, "cache_hits");
    long long all = 0, ran, ok = soak.by_verdict[VERDICT_OK] - cached;

    for (int v = VERDICT_OK; v < VERDICT_COUNT; v++) {
        char field[64];
        long long there;

        snprintf(field, sizeof(field), "verdict:%s",
                 verdict_name((enum verdict)v));
        there = rig_stat(&soak.rig, field);
        all += soak.by_verdict[v];
        if ((there < 0 ? 0 : there) != soak.by_verdict[v])
            broken(COUNTERS, "%s is %lld, not %lld", field, there,
                   soak.by_verdict[v]);
    }
    ran = all - cached - soak.by_verdict[VERDICT_REJECTED] -
          soak.by_verdict[VERDICT_EXPIRED];
    if (rig_stat(&soak.rig, "total_executions") != ran ||
        rig_stat(&soak.rig, "successful_executions") != ok ||
        rig_stat(&soak.rig, "failed_executions") != ran - ok)
        broken(COUNTERS, "executions are not %lld = %lld + %lld", ran, ok,
               ran - ok);
    if (rig_stat(&soak.rig, "sandbox_created") !=
        rig_stat(&soak.rig, "sandbox_destroyed"))
        broken(COUNTERS, "not every sandbox was destroyed");
    if (rig_stat(&soak.rig, "duplicates") != soak.twice)
        broken(COUNTERS, "%lld jobs were pushed twice, %lld seen so",
               soak.twice, rig_stat(&soak.rig, "duplicates"));
}

static void check_memory(void)
{
    static const char *const names[SOAK_WHO] = {"worker", "sandboxd"};

    for (int i = 0; i < SOAK_WHO; i++) {
        long growth = soak.now.rss_kb[i] - soak.first.rss_kb[i];

        printf("soak: %s had %ld KiB after the first fifth, has %ld KiB\n",
               names[i], soak.first.rss_kb[i], soak.now.rss_kb[i]);
        if (growth > RSS_GROWTH_MAX_KB)
            broken(FLAT_MEMORY, "the %s grew by %ld KiB", names[i], growth);
    }
}

/* ---- all of it
 * ------------------------------------------------------------------------ */

static void run_rounds(void)
{
    int round = soak.jobs / ROUNDS_LEAST;

    if (round > ROUND_JOBS_MAX)
        round = ROUND_JOBS_MAX;
    if (round < 1)
        round = 1;
    for (int end = round; soak.ended < soak.jobs; end += round) {
        if (!run_until(end < soak.jobs ? end : soak.jobs))
            return;
        check_books();
        check_counters();
        check_house();
        if (soak.ended * ROUNDS_LEAST <= soak.jobs)
            soak.first = soak.now;
    }
    check_memory();
}

static void open_soak(void)
{
    const char *const env[] = {CONCURRENCY, RESULT_TTL, ONE_ARENA, NULL};
    redisReply *reply = NULL;

    soak.jobs = bench_from_env("SOAK_JOBS", JOBS_DEFAULT, JOBS_MAX);
    if (soak.jobs < JOBS_LEAST)
        soak.jobs = JOBS_LEAST;
    soak.seed = (unsigned)bench_from_env("SOAK_SEED", 1, 1 << 30);
    soak.entries = calloc((size_t)soak.jobs, sizeof(*soak.entries));
    MUST(soak.entries);
    soak.started_ms = clock_ms();
    soak.deadline_ms =
        soak.started_ms + TIME_BASE_MS + (int64_t)TIME_PER_JOB_MS * soak.jobs;
    stage_open(&soak.rig, NULL);
    MUST0(redis_create(&soak.rig.target, "soak-news", &soak.news));
    MUST0(redis_connect(soak.news, clock_ms() + RIG_WAIT_MS));
    MUST0(redis_callv(soak.news, clock_ms() + RIG_WAIT_MS, &reply, "SUBSCRIBE",
                      "{capibox}:done", NULL));
    freeReplyObject(reply);
    stage_worker(&soak.rig, &soak.worker, env);
    printf("soak: %d jobs of %zu kinds, seed %u\n", soak.jobs, soak_kinds_count,
           soak.seed);
}

static bool is_gone(void *ctx)
{
    return household_alive(ctx) == 0 && household_cgroups(ctx) == 0;
}

static void close_soak(void)
{
    static struct household house;

    household_list(soak.worker.pid, &house);
    if (stage_end_worker(&soak.worker) != 0)
        broken(CLEAN_END, "it does not exit with 0");
    if (!wait_until(is_gone, &house, QUIET_MS))
        broken(CLEAN_END, "%d processes and %d cgroups are left",
               household_alive(&house), household_cgroups(&house));
    redis_destroy(soak.news);
    rig_close(&soak.rig);
    for (size_t i = 0; i < soak_kinds_count; i++)
        for (int v = 0; v < SOAK_VARIANTS; v++)
            free(soak.alone[i][v]);
    free(soak.entries);
}

static int report(void)
{
    const char *totals = getenv("TEST_TOTALS");
    int failed = 0;

    printf("soak: verdicts:");
    for (int v = VERDICT_OK; v < VERDICT_COUNT; v++)
        if (soak.by_verdict[v] > 0)
            printf(" %lld %s", soak.by_verdict[v],
                   verdict_name((enum verdict)v));
    printf("; %lld were pushed twice; %.0f s\n", soak.twice,
           (double)(clock_ms() - soak.started_ms) / 1000);
    for (int i = 0; i < PROMISES; i++) {
        if (soak.complaints[i] > 0)
            printf("FAILED %s (%d times)\n", sentences[i], soak.complaints[i]);
        else
            printf("ok     %s\n", sentences[i]);
        failed += soak.complaints[i] > 0;
    }
    printf("%d passed, %d failed, 0 skipped\n", PROMISES - failed, failed);
    if (totals) {
        FILE *file = fopen(totals, "a");

        MUST(file);
        fprintf(file, "%d %d 0\n", PROMISES - failed, failed);
        MUST0(fclose(file));
    }
    return failed > 0;
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    open_soak();
    if (run_all_alone()) {
        soak.started_ms = clock_ms();
        soak_house_look(soak.worker.pid, &soak.before);
        show_progress(true);
        run_rounds();
    }
    if (soak.ended < soak.jobs)
        broken(IN_TIME, "%d of %d ended", soak.ended, soak.jobs);
    show_progress(true);
    close_soak();
    return report();
}
