/* tests/soak/soak_e2b.c -- thousands of jobs through a built worker to a double
 * of E2B that fails five requests of a hundred, in many ways.
 *
 * Every job must end as the same job without faults did, in every field that
 * can be told; at the end no sandbox is left, creates are destroys on both
 * sides, and memory stays where it was after the first fifth.
 *
 *   E2B_JOBS=1000 SOAK_SEED=1 build/none/tests/soak/soak_e2b
 *
 * Ends with one line per promise and "N passed, N failed, N skipped", which it
 * also adds to the file TEST_TOTALS names.
 */
#include <cjson/cJSON.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/scope.h"
#include "tests/soak/soak_house.h"
#include "tests/support/bench_support.h"
#include "tests/support/double.h"
#include "tests/support/stage.h"

#define JOBS_DEFAULT    1000
#define JOBS_LEAST      100 /* fewer tell nothing of memory */
#define JOBS_MAX        1000000
#define OPEN_MAX        48 /* jobs pushed and not ended */
#define FAULTY          0.05
#define NEWS_MS         120000 /* for one job to end */
#define QUIET_MS        20000
#define LEFT_MS         130000 /* sandboxes of lost answers: JANITOR_LATE_MS */
#define PROGRESS_MS     5000
#define TIME_BASE_MS    300000
#define TIME_PER_JOB_MS 300
#define COMPLAINTS_MAX  10
#define VARIANTS        4
#define FIFTH           5
#define ENV_MAX         12
/* Over all jobs but the first fifth; see soak.c for the one arena. Connections
 * that are kept, 60 KiB each, may still become some more. */
#define RSS_GROWTH_MAX_KB 2048

enum promise {
    RESULTS,
    ONCE,
    IN_TIME,
    BOOKS,
    PAIRS,
    NO_SANDBOX_LEFT,
    PROTOCOL,
    FLAT_MEMORY,
    CLEAN_END,
    PROMISES,
};

static const char *const sentences[PROMISES] = {
    [RESULTS] = "every job ends as it does without faults",
    [ONCE] = "every job has exactly one result",
    [IN_TIME] = "all jobs end in time",
    [BOOKS] = "the books balance",
    [PAIRS] = "creates are destroys, at the double and in the counters",
    [NO_SANDBOX_LEFT] = "no sandbox is left, and none ended by its time",
    [PROTOCOL] = "no word of the protocol was broken",
    [FLAT_MEMORY] = "memory of the worker stays flat",
    [CLEAN_END] = "the worker ends cleanly",
};

/* ---- jobs --------------------------------------------------------------- */

struct kind {
    const char *name, *language, *template_id, *code, *rest, *verdict;
};

/* Read by column. The variant is the first of the arguments. */
/* clang-format off */
static const struct kind kinds[] = {
    {"print", "python", "default", "import sys\nprint('hello', sys.argv[1])",
     "", "ok"},
    {"value", "python", "default",
     "import sys\n[int(sys.argv[1]) ** n for n in range(9)]", "", "ok"},
    {"lines", "python", "default",
     "import sys\nfor i in range(300):\n    print(i, 'ü' * 20, sys.argv[1])\n"
     "print('end', file=sys.stderr)", "", "ok"},
    {"error", "python", "default",
     "import sys\nprint('before')\n1 / (int(sys.argv[1]) * 0)", "",
     "user_error"},
    {"exit", "python", "default",
     "import sys\nprint('bye')\nsys.exit(int(sys.argv[1]) + 2)", "",
     "user_error"},
    {"stdin", "python", "default", "print(input())\nprint(input())",
     ",\"stdin\":\"a\\nb\\n\"", "ok"},
    {"upload", "python", "default",
     "import sys\nprint(open('in.txt').read(), sys.argv[1])",
     ",\"files\":[{\"path\":\"in.txt\",\"content\":\"some dätä\"}]", "ok"},
    {"download", "python", "default",
     "import sys\nopen('out.txt', 'w').write(sys.argv[1] * 99)\n"
     "open('b.bin', 'wb').write(bytes(range(256)))",
     ",\"output_files\":[\"out.txt\",\"*.bin\"]", "ok"},
    {"shown", "python", "default",
     "class C:\n    def _repr_html_(self):\n        return '<b>c</b>'\n"
     "    def __repr__(self):\n        return 'C()'\nC()", "", "ok"},
    {"bash", "bash", "quick_script", "echo \"hello $1\"; echo err >&2", "",
     "ok"},
    {"bash-many", "bash", "quick_script", "seq 1000 | sed \"s/$/ $1/\"", "",
     "ok"},
    {"bash-exit", "bash", "quick_script", "echo out; exit $(($1 + 3))", "",
     "user_error"},
    {"timeout", "python", "default",
     "import time\nprint('soon', flush=True)\ntime.sleep(60)",
     ",\"timeout\":2", "timeout"},
};

/* What can befall a request and must not befall a job. Those of `files` and
 * `start` strike the jobs that ask for them. */
static const struct {
    const char *route, *kinds;
} faults[] = {
    {"create", "reset_before refuse_before answer_lost 500 503 503-plain 504 "
               "502-html 429b 429c delay garbage truncate bad_length "
               "no_close_notify create-not-json create-empty "
               "create-truncated-json create-no-id create-nulls"},
    {"execute", "reset_before refuse_before answer_lost 502-notfound 502-port "
                "502-html 502-plain 503-plain garbage reset truncate half_line "
                "no_end sandbox_lost not_json unknown_type duplicate_end "
                "after_end split_utf8 no_count empty_line delay"},
    {"start", "reset_before refuse_before answer_lost 502-notfound 502-html "
              "503-plain garbage reset truncate half_envelope no_end "
              "sandbox_lost bad_flag compressed not_json end_error delay"},
    {"files_post", "reset_before refuse_before answer_lost 502-notfound "
                   "502-html 503-plain 500-internal garbage delay"},
    {"files_get", "reset_before refuse_before answer_lost 502-html 503-plain "
                  "500-internal garbage bad_length delay"},
    {"list_dir", "reset_before refuse_before answer_lost 502-html 503-plain "
                 "garbage delay"},
    {"delete", "reset_before refuse_before answer_lost 500 503 502-html 429b "
               "429c delay garbage truncate no_close_notify"},
    {"list", "reset_before answer_lost 500 502-html delay"},
};
/* clang-format on */

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

struct entry {
    unsigned char kind, variant, results;
};

struct soak {
    struct rig rig;
    struct e2b_double e2b;
    struct redis *news;
    struct proc worker;
    struct entry *entries;
    int jobs, pushed, ended;
    unsigned seed;
    long long strikes, retried;
    char *alone[COUNT(kinds)][VARIANTS];
    int complaints[PROMISES];
    long first_rss_kb, rss_kb;
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

/* ---- results ------------------------------------------------------------ */

/* What tells two runs of one job apart. Warnings tell of sandboxes whose end
 * was not seen. */
static char *comparable(cJSON *result)
{
    static const char *const tops[] = {
        "job_id",  "sandbox_id", "execution_time", "processing_time",
        "worker",  "timestamp",  "timings",        "queue_time",
        "attempt", "warnings"};
    cJSON *info = cJSON_GetObjectItemCaseSensitive(result, "sandbox_info");
    char *text;

    for (size_t i = 0; i < COUNT(tops); i++)
        cJSON_DeleteItemFromObjectCaseSensitive(result, tops[i]);
    cJSON_DeleteItemFromObjectCaseSensitive(info, "created_at");
    text = cJSON_PrintUnformatted(result);
    MUST(text);
    return text;
}

/* The comparable text of a job's result; NULL after a complaint. */
static char *take_result(const struct kind *kind, const char *id)
{
    AUTO_FREE char *text = stage_field(&soak.rig, id, "result");
    cJSON *json = text ? cJSON_Parse(text) : NULL;
    const char *verdict = stage_text(json, "verdict");
    char *out = NULL;

    soak.retried += stage_number(json, "attempt") > 1;
    if (!verdict)
        broken(ONCE, "%s (%s) ended without a result", id, kind->name);
    else if (strcmp(verdict, kind->verdict) != 0)
        broken(RESULTS, "%s is %s, not %s: %.2000s", kind->name, verdict,
               kind->verdict, text);
    else
        out = comparable(json);
    cJSON_Delete(json);
    return out;
}

/* ---- the queue ----------------------------------------------------------- */

static void push(const struct kind *kind, int variant, const char *id)
{
    AUTO_STRBUF struct strbuf job = STRBUF_INIT;

    strbuf_addf(&job,
                "{\"id\":\"%s\",\"args\":[\"%d\"],\"max_attempts\":10,"
                "\"language\":\"%s\",\"template\":\"%s\",\"code\":",
                id, variant, kind->language, kind->template_id);
    strbuf_add_json(&job, kind->code, strlen(kind->code));
    strbuf_addf(&job, "%s}", kind->rest);
    MUST(!job.failed);
    rig_push(&soak.rig, "default", job.text);
}

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

static void look(void)
{
    struct soak_house house;

    soak_house_look(soak.worker.pid, &house);
    soak.rss_kb = house.rss_kb[SOAK_WORKER];
}

static void show_progress(bool now)
{
    double s = (double)(clock_ms() - soak.started_ms) / 1000;

    if (!now && clock_ms() - soak.shown_ms < PROGRESS_MS)
        return;
    soak.shown_ms = clock_ms();
    look();
    printf("soak: %d of %d jobs, %.1f a second; worker %.1f MiB; %lld needed "
           "more than one attempt\n",
           soak.ended, soak.jobs, s > 0 ? soak.ended / s : 0,
           (double)soak.rss_kb / 1024, soak.retried);
}

static bool run_all_alone(void)
{
    for (size_t k = 0; k < COUNT(kinds); k++) {
        for (int v = 0; v < VARIANTS; v++) {
            char id[JOB_ID_MAX + 1], ended[JOB_ID_MAX + 1];

            snprintf(id, sizeof(id), "alone-%s-%d", kinds[k].name, v);
            push(&kinds[k], v, id);
            if (!next_ended(ended) || strcmp(ended, id) != 0) {
                broken(IN_TIME, "%s does not end alone", id);
                return false;
            }
            soak.alone[k][v] = take_result(&kinds[k], id);
            if (!soak.alone[k][v])
                return false;
        }
    }
    return true;
}

static void push_next(void)
{
    struct entry *e = &soak.entries[soak.pushed];
    char id[32];

    e->kind = (unsigned char)((size_t)rand_r(&soak.seed) % COUNT(kinds));
    e->variant = (unsigned char)(rand_r(&soak.seed) % VARIANTS);
    snprintf(id, sizeof(id), "s%d", soak.pushed++);
    push(&kinds[e->kind], e->variant, id);
}

static void check_ended(const char *id)
{
    int n = id[0] == 's' ? atoi(id + 1) : -1;

    if (n < 0 || n >= soak.pushed || soak.entries[n].results++ > 0) {
        broken(ONCE, "%s ended %s", id, n < 0 ? "unasked" : "again");
        return;
    }
    const struct entry *e = &soak.entries[n];
    const char *alone = soak.alone[e->kind][e->variant];
    AUTO_FREE char *now = take_result(&kinds[e->kind], id);
    size_t at = 0;

    soak.ended++;
    if (!now || strcmp(alone, now) == 0)
        return;
    while (alone[at] && alone[at] == now[at])
        at++;
    at -= at < 60 ? at : 60;
    broken(RESULTS, "%s: without faults …%.200s… now …%.200s…",
           kinds[e->kind].name, alone + at, now + at);
}

static void run_mix(void)
{
    char id[JOB_ID_MAX + 1];

    while (soak.ended < soak.jobs) {
        while (soak.pushed < soak.jobs && soak.pushed - soak.ended < OPEN_MAX)
            push_next();
        if (!next_ended(id)) {
            broken(IN_TIME, "%d of %d ended", soak.ended, soak.jobs);
            return;
        }
        check_ended(id);
        show_progress(false);
        if (soak.ended == soak.jobs / FIFTH) {
            look();
            soak.first_rss_kb = soak.rss_kb;
        }
    }
}

/* ---- faults -------------------------------------------------------------- */

static void add_faults(void)
{
    char command[256];

    snprintf(command, sizeof(command), "{\"cmd\":\"seed\",\"n\":%u}",
             soak.seed);
    cJSON_Delete(double_ask(&soak.e2b, command));
    for (size_t i = 0; i < COUNT(faults); i++) {
        char words[1024], *rest = words, *kind;
        int n = 1;

        for (const char *c = faults[i].kinds; *c; c++)
            n += *c == ' ';
        snprintf(words, sizeof(words), "%s", faults[i].kinds);
        while ((kind = strsep(&rest, " "))) {
            snprintf(command, sizeof(command),
                     "\"route\":\"%s\",\"kind\":\"%s\",\"probability\":%.6f%s",
                     faults[i].route, kind, FAULTY / n,
                     strcmp(kind, "delay") == 0 ? ",\"ms\":300" : "");
            double_fault(&soak.e2b, command);
        }
    }
}

static void count_strikes(void)
{
    cJSON *report = double_ask(&soak.e2b, "{\"cmd\":\"report\"}");
    const cJSON *one;
    int untried = 0;

    cJSON_ArrayForEach(one, stage_at(report, "faults"))
    {
        soak.strikes += (long long)stage_number(one, "hits");
        untried += stage_number(one, "hits") == 0;
    }
    printf("soak: %lld faults of %d kinds struck, %d kinds never\n",
           soak.strikes, cJSON_GetArraySize(stage_at(report, "faults")),
           untried);
    cJSON_Delete(report);
}

/* ---- what must hold at the end ------------------------------------------- */

static bool is_settled(void *ctx)
{
    return rig_settled(ctx);
}

static void check_books(void)
{
    AUTO_FREE char *out = NULL, *err = NULL;

    if (!wait_until(is_settled, &soak.rig, QUIET_MS))
        broken(BOOKS, "something still waits or runs");
    if (stage_cli(&soak.rig, NULL, &out, &err, "stats", "--audit", NULL) != 0)
        broken(BOOKS, "%s%s", out, err);
    if (rig_stat(&soak.rig, "sandbox_created") !=
        rig_stat(&soak.rig, "sandbox_destroyed"))
        broken(PAIRS, "%lld sandboxes created, %lld destroyed",
               rig_stat(&soak.rig, "sandbox_created"),
               rig_stat(&soak.rig, "sandbox_destroyed"));
}

static void check_double(void)
{
    int64_t start = clock_ms();
    cJSON *report;

    if (!double_settled(&soak.e2b, LEFT_MS))
        broken(NO_SANDBOX_LEFT, "%d live", double_alive(&soak.e2b));
    report = double_ask(&soak.e2b, "{\"cmd\":\"report\"}");
    printf("soak: the last sandbox left %.1f s after the last job; %.0f "
           "creates, %.0f destroys, %.0f lost; P:stats says %lld; %.0f "
           "requests, %.0f TLS "
           "handshakes\n",
           (double)(clock_ms() - start) / 1000, stage_number(report, "creates"),
           stage_number(report, "destroys"), stage_number(report, "lost"),
           rig_stat(&soak.rig, "sandbox_created"),
           stage_number(report, "requests.create") +
               stage_number(report, "requests.execute") +
               stage_number(report, "requests.start") +
               stage_number(report, "requests.files_post") +
               stage_number(report, "requests.delete"),
           stage_number(report, "tls_handshakes"));
    /* One that E2B lost is not there to be destroyed. */
    if (stage_number(report, "creates") !=
        stage_number(report, "destroys") + stage_number(report, "lost"))
        broken(PAIRS, "%.0f creates, %.0f destroys, %.0f lost at the double",
               stage_number(report, "creates"),
               stage_number(report, "destroys"), stage_number(report, "lost"));
    if (stage_number(report, "expired") > 0)
        broken(NO_SANDBOX_LEFT, "%.0f ended by their time to live",
               stage_number(report, "expired"));
    if (stage_number(report, "violation_count") > 0) {
        AUTO_FREE char *text =
            cJSON_PrintUnformatted(stage_at(report, "violations"));

        broken(PROTOCOL, "%.4000s", text);
    }
    cJSON_Delete(report);
}

static void check_memory(void)
{
    look();
    printf("soak: the worker had %ld KiB after the first fifth, has %ld KiB\n",
           soak.first_rss_kb, soak.rss_kb);
    if (soak.rss_kb - soak.first_rss_kb > RSS_GROWTH_MAX_KB)
        broken(FLAT_MEMORY, "it grew by %ld KiB",
               soak.rss_kb - soak.first_rss_kb);
}

/* ---- all of it ----------------------------------------------------------- */

static void open_soak(void)
{
    static const char *const words[] = {"--max-sandboxes", "200", NULL};
    const char *env[ENV_MAX] = {"CAPIBOX_CONCURRENCY=24", "MALLOC_ARENA_MAX=1"};
    redisReply *reply = NULL;
    int n = 2;

    soak.jobs = bench_from_env("E2B_JOBS", JOBS_DEFAULT, JOBS_MAX);
    if (soak.jobs < JOBS_LEAST)
        soak.jobs = JOBS_LEAST;
    soak.seed = (unsigned)bench_from_env("SOAK_SEED", 1, 1 << 30);
    soak.entries = calloc((size_t)soak.jobs, sizeof(*soak.entries));
    MUST(soak.entries);
    soak.deadline_ms =
        clock_ms() + TIME_BASE_MS + (int64_t)TIME_PER_JOB_MS * soak.jobs;
    stage_open(&soak.rig, NULL);
    double_open(&soak.e2b, words);
    for (int i = 0; soak.e2b.env[i]; i++)
        env[n++] = soak.e2b.env[i];
    env[n] = NULL;
    MUST0(redis_create(&soak.rig.target, "soak-news", &soak.news));
    MUST0(redis_connect(soak.news, clock_ms() + RIG_WAIT_MS));
    MUST0(redis_callv(soak.news, clock_ms() + RIG_WAIT_MS, &reply, "SUBSCRIBE",
                      "{capibox}:done", NULL));
    freeReplyObject(reply);
    stage_worker(&soak.rig, &soak.worker, env);
    printf("soak: %d jobs of %zu kinds, %.0f %% faults, seed %u\n", soak.jobs,
           COUNT(kinds), FAULTY * 100, soak.seed);
}

static void close_soak(void)
{
    if (stage_end_worker(&soak.worker) != 0)
        broken(CLEAN_END, "it does not exit with 0");
    redis_destroy(soak.news);
    double_end(&soak.e2b);
    rig_close(&soak.rig);
    for (size_t k = 0; k < COUNT(kinds); k++)
        for (int v = 0; v < VARIANTS; v++)
            free(soak.alone[k][v]);
    free(soak.entries);
}

static int report(void)
{
    const char *totals = getenv("TEST_TOTALS");
    int failed = 0;

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
        add_faults();
        soak.started_ms = clock_ms();
        run_mix();
        show_progress(true);
        count_strikes();
        double_clear(&soak.e2b);
        check_books();
        check_double();
        check_memory();
    }
    close_soak();
    return report();
}
