/* From a job in a Redis list to what the contract says comes back, through the
 * built worker and real sandboxes. */
#include "tests/support/cmocka_all.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base64.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/must.h"
#include "common/scope.h"
#include "tests/support/stage.h"

static struct rig rig;
static struct proc worker;

#define EXIT_OK      0
#define EXIT_FAILED  1
#define EXIT_USAGE   2
#define EXIT_STOPPED 3
#define EXIT_FAULT   4
#define EXIT_NO_JOB  5

/* ---- the shape ---------------------------------------------------------- */

/* Which types a place may have: one letter each of "s"tring, "n"umber, "b"ool,
 * "0" null, "a"rray, "o"bject. */
struct place {
    const char *path, *types;
};

static const struct place result_places[] = {
    {"job_id", "s"},
    {"success", "b"},
    {"status", "s"},
    {"verdict", "s"},
    {"backend", "s"},
    {"sandbox_id", "s"},
    {"template_used", "s"},
    {"task_type", "s0"},
    {"language", "s"},
    {"execution_time", "n"},
    {"processing_time", "n"},
    {"queue_time", "n"},
    {"code_length", "n"},
    {"logs.stdout", "a"},
    {"logs.stderr", "a"},
    {"results", "a"},
    {"error", "s0"},
    {"error_detail", "o0"},
    {"exit_code", "n0"},
    {"signal", "n0"},
    {"usage.cpu_seconds", "n"},
    {"usage.peak_memory_mb", "n"},
    {"usage.peak_processes", "n"},
    {"usage.stdout_bytes", "n"},
    {"usage.stderr_bytes", "n"},
    {"usage.dropped_bytes", "n"},
    {"timings.queue", "n"},
    {"timings.create", "n"},
    {"timings.run", "n"},
    {"timings.collect", "n"},
    {"timings.destroy", "n"},
    {"enforced.timeout", "s"},
    {"enforced.memory", "s"},
    {"enforced.cpu", "s"},
    {"enforced.pids", "s"},
    {"enforced.disk", "s"},
    {"enforced.network", "s"},
    {"files", "a"},
    {"sandbox_info.created_at", "s"},
    {"sandbox_info.template_used", "s"},
    {"sandbox_info.task_type", "s0"},
    {"sandbox_info.config.timeout", "n"},
    {"sandbox_info.config.memory_limit_mb", "n"},
    {"sandbox_info.config.cpu_limit_percent", "n"},
    {"sandbox_info.config.template_name", "s"},
    {"sandbox_info.config.packages", "a"},
    {"warnings", "a"},
    {"cached", "b"},
    {"attempt", "n"},
    {"worker", "s"},
    {"metadata", "o"},
    {"timestamp", "s"},
};

static const char *const mime_forms[] = {
    "text",  "html", "markdown",   "svg",  "png",   "jpeg",  "pdf",
    "latex", "json", "javascript", "data", "chart", "extra", "is_main_result"};

/* Filled for every job that ran; in the order of the contract. */
static const char *const hash_fields[] = {
    "status",      "verdict",    "success",     "template_used",  "task_type",
    "language",    "backend",    "sandbox_id",  "worker",         "attempt",
    "enqueued_at", "started_at", "finished_at", "execution_time", "error",
    "batch_id",    "result"};

static char type_letter(const cJSON *item)
{
    if (cJSON_IsString(item))
        return 's';
    if (cJSON_IsNumber(item))
        return 'n';
    if (cJSON_IsBool(item))
        return 'b';
    if (cJSON_IsNull(item))
        return '0';
    return cJSON_IsArray(item) ? 'a' : 'o';
}

static void expect_shape(const cJSON *result)
{
    for (size_t i = 0; i < sizeof(result_places) / sizeof(*result_places);
         i++) {
        const struct place *p = &result_places[i];
        const cJSON *item = stage_at(result, p->path);

        if (!item)
            fail_msg("the result has no %s", p->path);
        if (!strchr(p->types, type_letter(item)))
            fail_msg("%s is of type %c, not %s", p->path, type_letter(item),
                     p->types);
    }
}

static void expect_forms(const cJSON *item)
{
    for (size_t i = 0; i < sizeof(mime_forms) / sizeof(*mime_forms); i++)
        if (!cJSON_GetObjectItemCaseSensitive(item, mime_forms[i]))
            fail_msg("a result item has no %s", mime_forms[i]);
}

/* "2026-11-23T23:00:54.767Z" */
static void expect_iso_utc(const char *text)
{
    int y, mo, d, h, mi, s, used = 0;

    assert_non_null(text);
    assert_int_equal(sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%n", &y, &mo, &d, &h,
                            &mi, &s, &used),
                     6);
    assert_int_equal(text[strlen(text) - 1], 'Z');
}

/* ---- Redis alone --------------------------------------------------------- */

/* The one job there is, pushed without an id. */
static void only_job(char *id, size_t size)
{
    redisReply *reply = NULL;

    MUST0(redis_callv(rig.redis, clock_ms() + RIG_WAIT_MS, &reply, "KEYS",
                      "{capibox}:job:*", NULL));
    assert_int_equal(reply->elements, 1);
    snprintf(id, size, "%s", reply->element[0]->str + strlen("{capibox}:job:"));
    freeReplyObject(reply);
}

static void a_bare_lpush_is_answered_with_hash_and_result(void **state)
{
    char id[JOB_ID_MAX + 1];

    (void)state;
    rig_push(&rig, "default", "{\"code\":\"print(6*7)\"}");
    assert_true(rig_wait_stat(&rig, "total_executions", 1));
    only_job(id, sizeof(id));
    cJSON *r = stage_result(&rig, id);
    expect_shape(r);
    stage_expect(r, "job_id", id);
    stage_expect(r, "logs.stdout.0", "42\n");
    stage_expect(r, "status", "succeeded");
    stage_expect(r, "verdict", "ok");
    stage_expect(r, "backend", "local");
    stage_expect(r, "template_used", "default");
    stage_expect(r, "language", "python");
    assert_true(cJSON_IsTrue(stage_at(r, "success")));
    assert_true(cJSON_IsNull(stage_at(r, "error")));
    assert_true(cJSON_IsNull(stage_at(r, "signal")));
    assert_int_equal(stage_number(r, "exit_code"), 0);
    assert_int_equal(stage_number(r, "code_length"), 10);
    assert_int_equal(stage_number(r, "usage.stdout_bytes"), 3);
    assert_int_equal(stage_number(r, "sandbox_info.config.timeout"), 300);
    assert_true(stage_number(r, "execution_time") > 0);
    assert_true(stage_number(r, "processing_time") >=
                stage_number(r, "execution_time"));
    expect_iso_utc(stage_text(r, "timestamp"));
    expect_iso_utc(stage_text(r, "sandbox_info.created_at"));
    cJSON_Delete(r);
}

/* A job for which no field is empty. */
static void every_field_of_the_hash_is_written(void **state)
{
    (void)state;
    cJSON *r = stage_job(&rig, "{\"id\":\"full\",\"code\":\"1/0\","
                               "\"task_type\":\"general\","
                               "\"batch_id\":\"b-1\"}");

    expect_shape(r);
    for (size_t i = 0; i < sizeof(hash_fields) / sizeof(*hash_fields); i++) {
        AUTO_FREE char *text = stage_field(&rig, "full", hash_fields[i]);

        if (!text || !*text)
            fail_msg("the hash has no %s", hash_fields[i]);
    }
    assert_string_equal(rig_job(&rig, "full", "status"), "failed");
    assert_string_equal(rig_job(&rig, "full", "verdict"), "user_error");
    assert_string_equal(rig_job(&rig, "full", "success"), "0");
    assert_string_equal(rig_job(&rig, "full", "batch_id"), "b-1");
    assert_string_equal(rig_job(&rig, "full", "task_type"), "general");
    assert_string_equal(rig_job(&rig, "full", "sandbox_id"),
                        stage_text(r, "sandbox_id"));
    double started = atof(rig_job(&rig, "full", "started_at"));
    double finished = atof(rig_job(&rig, "full", "finished_at"));
    assert_true(atof(rig_job(&rig, "full", "enqueued_at")) <= started);
    double processed = stage_number(r, "processing_time");
    double ended =
        stage_number(r, "timings.collect") + stage_number(r, "timings.destroy");
    assert_true(fabs(finished - started - processed) < 0.001);
    assert_true(fabs(processed - ended - stage_number(r, "execution_time")) <
                0.001);
    assert_true(rig_number(&rig, "TTL", "{capibox}:job:full", NULL) > 86000);
    cJSON_Delete(r);
}

static void running_shows_while_it_runs(void **state)
{
    (void)state;
    rig_push(&rig, "default",
             "{\"id\":\"slow\",\"code\":\"import os; os.system('exec sleep "
             "60')\"}");
    assert_true(rig_wait_job(&rig, "slow", "status", "running"));
    assert_true(atof(rig_job(&rig, "slow", "started_at")) > 0);
    assert_string_equal(rig_job(&rig, "slow", "finished_at"), "");
    household_wake_one(worker.pid);
    cJSON_Delete(stage_result(&rig, "slow"));
}

static void a_known_id_is_not_run_again(void **state)
{
    (void)state;
    cJSON *first = stage_job(&rig, "{\"id\":\"once\",\"code\":\"print(1)\"}");
    long long runs = rig_stat(&rig, "total_executions");

    rig_push(&rig, "default", "{\"id\":\"once\",\"code\":\"print(2)\"}");
    assert_true(rig_settled(&rig));
    cJSON *second = stage_result(&rig, "once");
    stage_expect(second, "logs.stdout.0", "1\n");
    assert_int_equal(rig_stat(&rig, "total_executions"), runs);
    cJSON_Delete(first);
    cJSON_Delete(second);
}

/* ---- what code can hand back --------------------------------------------- */

static void values_and_errors_come_back(void **state)
{
    (void)state;
    cJSON *r =
        stage_job(&rig, "{\"id\":\"v\",\"code\":\"import sys\\nprint('o')\\n"
                        "print('e', file=sys.stderr)\\n{'a': [1, 2]}\"}");
    stage_expect(r, "logs.stdout.0", "o\n");
    stage_expect(r, "logs.stderr.0", "e\n");
    stage_expect(r, "results.0.text", "{'a': [1, 2]}");
    expect_forms(stage_at(r, "results.0"));
    assert_true(cJSON_IsTrue(stage_at(r, "results.0.is_main_result")));
    cJSON_Delete(r);
    r = stage_job(&rig, "{\"id\":\"x\",\"code\":\"x = 1\\n\\n"
                        "raise KeyError('nix')\"}");
    stage_expect(r, "verdict", "user_error");
    stage_expect(r, "status", "failed");
    stage_expect(r, "error_detail.name", "KeyError");
    stage_expect(r, "error_detail.value", "'nix'");
    stage_expect_part(r, "error_detail.traceback", "line 3");
    stage_expect_part(r, "error", "KeyError");
    assert_int_equal(stage_number(r, "exit_code"), 1);
    cJSON_Delete(r);
}

static void a_data_frame_comes_back_as_text_html_and_data(void **state)
{
    (void)state;
    cJSON *r =
        stage_job(&rig, "{\"id\":\"df\",\"template\":\"data_analysis\","
                        "\"code\":\"import pandas as pd\\n"
                        "pd.DataFrame({'n': [1, 2], 's': ['a', 'b']})\"}");

    expect_forms(stage_at(r, "results.0"));
    stage_expect_part(r, "results.0.text", "n");
    stage_expect_part(r, "results.0.html", "<table");
    assert_int_equal(stage_number(r, "results.0.data.n.1"), 2);
    stage_expect(r, "results.0.data.s.0", "a");
    stage_expect(r, "template_used", "data_analysis");
    cJSON_Delete(r);
}

static void expect_png(const char *base64)
{
    AUTO_FREE unsigned char *bytes = NULL;
    size_t size = 0, bad_at;

    assert_non_null(base64);
    assert_int_equal(
        base64_decode(base64, strlen(base64), &bytes, &size, &bad_at), 0);
    assert_true(size > 1000);
    assert_memory_equal(bytes, "\x89PNG\r\n\x1a\n", 8);
}

static void a_figure_comes_back_as_png(void **state)
{
    (void)state;
    cJSON *r = stage_job(&rig, "{\"id\":\"fig\",\"template\":\"visualization\","
                               "\"code\":\"import matplotlib.pyplot as plt\\n"
                               "plt.plot([1, 4, 9])\\nprint('drawn')\"}");

    stage_expect(r, "verdict", "ok");
    stage_expect(r, "logs.stdout.0", "drawn\n");
    expect_forms(stage_at(r, "results.0"));
    expect_png(stage_text(r, "results.0.png"));
    stage_expect(r, "results.0.chart.type", "line");
    assert_int_equal(stage_number(r, "results.0.chart.elements.0.points.2.1"),
                     9);
    cJSON_Delete(r);
}

static void files_env_args_and_stdin_arrive(void **state)
{
    (void)state;
    cJSON *r = stage_job(
        &rig,
        "{\"id\":\"in\",\"template\":\"quick_script\",\"language\":\"bash\","
        "\"code\":\"cat a.txt d/b.bin; cat; "
        "printf '[%s]' \\\"$@\\\" \\\"$X\\\"; echo err >&2; exit 7\","
        "\"files\":[{\"path\":\"a.txt\",\"content\":\"A\\n\"},"
        "{\"path\":\"d/b.bin\",\"content_base64\":\"Qgo=\"}],"
        "\"env\":{\"X\":\"$(id) ; 'q'\"},\"args\":[\"one two\",\"$HOME\"],"
        "\"stdin\":\"C\\n\"}");

    stage_expect(r, "logs.stdout.0", "A\nB\nC\n[one two][$HOME][$(id) ; 'q']");
    stage_expect(r, "logs.stderr.0", "err\n");
    stage_expect(r, "verdict", "user_error");
    assert_int_equal(stage_number(r, "exit_code"), 7);
    assert_true(cJSON_IsNull(stage_at(r, "error_detail")));
    cJSON_Delete(r);
}

static const cJSON *file_named(const cJSON *result, const char *path)
{
    const cJSON *file;

    cJSON_ArrayForEach(file, stage_at(result, "files"))
    {
        if (strcmp(stage_text(file, "path"), path) == 0)
            return file;
    }
    fail_msg("no file %s came back", path);
    return NULL;
}

static void named_files_come_back_and_no_others(void **state)
{
    (void)state;
    cJSON *r = stage_job(
        &rig, "{\"id\":\"out\",\"template\":\"quick_script\",\"language\":"
              "\"bash\",\"code\":\"echo hi >a.txt; mkdir sub; echo 1 >sub/x; "
              "echo no >b.log; ln -s /etc/passwd c.txt\","
              "\"output_files\":[\"*.txt\",\"/home/user/sub/x\"]}");
    const cJSON *a = file_named(r, "a.txt");

    stage_expect(a, "content_base64", "aGkK");
    stage_expect_part(a, "mime", "text/plain");
    assert_int_equal(stage_number(a, "size"), 3);
    stage_expect(file_named(r, "sub/x"), "content_base64", "MQo=");
    AUTO_FREE char *all = cJSON_PrintUnformatted(stage_at(r, "files"));
    assert_null(strstr(all, "b.log"));
    assert_null(strstr(all, "cm9vd")); /* "root" of /etc/passwd */
    cJSON_Delete(r);
}

static void javascript_and_bash_run(void **state)
{
    (void)state;
    cJSON *r = stage_job(&rig, "{\"id\":\"js\",\"language\":\"javascript\","
                               "\"code\":\"console.log(6 * 7)\"}");

    stage_expect(r, "logs.stdout.0", "42\n");
    stage_expect(r, "language", "javascript");
    cJSON_Delete(r);
    r = stage_job(&rig, "{\"id\":\"jserr\",\"language\":\"javascript\","
                        "\"code\":\"let a = 1;\\nthrow new TypeError('t')\"}");
    stage_expect(r, "verdict", "user_error");
    stage_expect(r, "error_detail.name", "TypeError");
    stage_expect_part(r, "error_detail.traceback", ":2");
    cJSON_Delete(r);
    r = stage_job(&rig, "{\"id\":\"sh\",\"language\":\"bash\",\"template\":"
                        "\"quick_script\",\"code\":\"echo $((6*7))\"}");
    stage_expect(r, "logs.stdout.0", "42\n");
    stage_expect(r, "verdict", "ok");
    cJSON_Delete(r);
}

static void metadata_is_untouched_and_unknown_fields_are_named(void **state)
{
    (void)state;
    cJSON *r =
        stage_job(&rig, "{\"id\":\"meta\",\"code\":\"pass\",\"colour\":\"red\","
                        "\"metadata\":{\"n\":1.50,\"big\":12345678901234567890,"
                        "\"l\":[null,{\"k\":\"\\u00e9\"}]}}");
    AUTO_FREE char *text = stage_field(&rig, "meta", "result");

    assert_non_null(strstr(text, "\"metadata\":{\"n\":1.50,\"big\":"
                                 "12345678901234567890,\"l\":[null,{\"k\":"));
    stage_expect(r, "metadata.l.1.k", "\xc3\xa9");
    stage_expect_part(r, "warnings.0", "colour");
    cJSON_Delete(r);
}

static void a_dynamic_spec_starts_from_its_task_type(void **state)
{
    (void)state;
    cJSON *r =
        stage_job(&rig, "{\"id\":\"dyn\",\"code\":\"pass\",\"task_type\":"
                        "\"data_analysis\",\"requirements\":{\"timeout\":9,"
                        "\"memory_limit_mb\":200,\"cpu_limit_percent\":150}}");

    stage_expect(r, "task_type", "data_analysis");
    stage_expect(r, "sandbox_info.task_type", "data_analysis");
    assert_int_equal(stage_number(r, "sandbox_info.config.timeout"), 9);
    assert_int_equal(stage_number(r, "sandbox_info.config.memory_limit_mb"),
                     200);
    assert_int_equal(stage_number(r, "sandbox_info.config.cpu_limit_percent"),
                     150);
    stage_expect(r, "sandbox_info.config.packages.0", "pandas");
    cJSON_Delete(r);
    r = stage_job(&rig, "{\"id\":\"dyn2\",\"code\":\"pass\","
                        "\"task_type\":\"never heard of\"}");
    assert_int_equal(stage_number(r, "sandbox_info.config.timeout"), 300);
    cJSON_Delete(r);
}

static void auto_chooses_by_what_is_imported(void **state)
{
    (void)state;
    cJSON *r = stage_job(&rig, "{\"id\":\"auto1\",\"template\":\"auto\","
                               "\"code\":\"import numpy as np\\nnp.ones(2)\"}");

    stage_expect(r, "template_used", "data_analysis");
    stage_expect_part(r, "results.0.text", "array");
    cJSON_Delete(r);
    r = stage_job(&rig, "{\"id\":\"auto2\",\"template\":\"auto\","
                        "\"code\":\"import math\"}");
    stage_expect(r, "template_used", "default");
    cJSON_Delete(r);
}

/* ---- capibox run --------------------------------------------------------- */

static int run_code(const char *code, const char *language, const char *more)
{
    return stage_cli(&rig, code, NULL, NULL, "run", "-", "--template",
                     "quick_script", "--language", language, more, NULL);
}

static void run_ends_with_the_code_of_the_verdict(void **state)
{
    (void)state;
    assert_int_equal(run_code("echo", "bash", NULL), EXIT_OK);
    assert_int_equal(run_code("exit 9", "bash", NULL), EXIT_FAILED);
    assert_int_equal(run_code("kill -9 $$", "bash", NULL), EXIT_FAILED);
    assert_int_equal(run_code("echo", "bash", "--nonsense"), EXIT_USAGE);
    assert_int_equal(run_code("echo", "cobol", NULL), EXIT_USAGE);
    assert_int_equal(run_code("while :; do :; done", "bash", "--timeout=0.5"),
                     EXIT_STOPPED);
    assert_int_equal(stage_cli(&rig, NULL, NULL, NULL, "stats", "--redis",
                               "unix:///nowhere/at/all", NULL),
                     EXIT_FAULT);
    assert_int_equal(
        stage_cli(&rig, NULL, NULL, NULL, "status", "none-such", NULL),
        EXIT_NO_JOB);
    assert_int_equal(
        stage_cli(&rig, NULL, NULL, NULL, "result", "none-such", NULL),
        EXIT_NO_JOB);
}

static void run_streams_and_keeps_the_streams_apart(void **state)
{
    AUTO_FREE char *out = NULL, *err = NULL;

    (void)state;
    assert_int_equal(stage_cli(&rig, "echo out; echo err >&2; cat", &out, &err,
                               "run", "-", "--language", "bash", "--template",
                               "quick_script", NULL),
                     EXIT_OK);
    assert_string_equal(out, "out\n");
    assert_non_null(strstr(err, "err\n"));
    assert_null(strstr(err, "out\n"));
}

static void run_json_prints_the_result_alone(void **state)
{
    AUTO_FREE char *out = NULL;

    (void)state;
    assert_int_equal(stage_cli(&rig, "print('x')\n6*7", &out, NULL, "run", "-",
                               "--json", "--id", "cli-json", "--metadata",
                               "{\"k\": 1}", NULL),
                     EXIT_OK);
    cJSON *r = cJSON_Parse(out);
    assert_non_null(r);
    expect_shape(r);
    stage_expect(r, "job_id", "cli-json");
    stage_expect(r, "results.0.text", "42");
    assert_int_equal(stage_number(r, "metadata.k"), 1);
    cJSON_Delete(r);
}

/* The socket to Redis must not become the stream that was closed. */
static void a_closed_stream_carries_nothing_to_redis(void **state)
{
    static const char *const lines[] = {"exec \"$0\" run - >&-",
                                        "exec \"$0\" run - 2>&-"};
    char url[512];

    (void)state;
    snprintf(url, sizeof(url), "CAPIBOX_REDIS_URL=%s", rig.server.url);
    for (int i = 0; i < 2; i++) {
        const char *argv[] = {"/bin/sh", "-c", lines[i],
                              proc_program("capibox"), NULL};
        const char *env[] = {url, NULL};

        proc_run(&(struct proc_start){.argv = argv,
                                      .env = env,
                                      .stdin_text =
                                          "import sys\nfor f in sys.stdout, "
                                          "sys.stderr:\n"
                                          "  print('SET by-a-job 1', file=f)"},
                 RIG_WAIT_MS, NULL, NULL);
        assert_int_equal(rig_number(&rig, "EXISTS", "by-a-job", NULL), 0);
    }
}

static void run_saves_pictures_and_files(void **state)
{
    char dir[] = "build/tmp/save-XXXXXX", path[64];
    AUTO_FREE char *text = NULL;
    char *picture = NULL;
    size_t size = 0;

    (void)state;
    MUST(mkdtemp(dir));
    assert_int_equal(
        stage_cli(&rig,
                  "import matplotlib.pyplot as plt, os\nplt.plot([1, 2])\n"
                  "open('note.txt', 'w').write(open('in.csv').read())\npass",
                  NULL, NULL, "run", "-", "--template", "visualization",
                  "--file", "/etc/hostname=in.csv", "--output", "*.txt",
                  "--save", dir, NULL),
        EXIT_OK);
    snprintf(path, sizeof(path), "%s/note.txt", dir);
    MUST0(io_read_file("/etc/hostname", 4096, &text, NULL));
    AUTO_FREE char *saved = NULL;
    assert_int_equal(io_read_file(path, 4096, &saved, NULL), 0);
    assert_string_equal(saved, text);
    unlink(path);
    snprintf(path, sizeof(path), "%s/result-1.png", dir);
    assert_int_equal(io_read_file(path, 1 << 20, &picture, &size), 0);
    assert_true(size > 1000);
    assert_memory_equal(picture, "\x89PNG", 4);
    free(picture);
    unlink(path);
    /* The figure's other forms may be there too; nothing else is. */
    snprintf(path, sizeof(path), "%s/result-1.txt", dir);
    unlink(path);
    assert_int_equal(rmdir(dir), 0);
}

static void submit_wait_and_result_do_what_run_does(void **state)
{
    AUTO_FREE char *id = NULL, *out = NULL, *again = NULL;

    (void)state;
    assert_int_equal(stage_cli(&rig, "print('later')", &id, NULL, "submit", "-",
                               "--id", "later", NULL),
                     EXIT_OK);
    assert_string_equal(id, "later\n");
    assert_int_equal(stage_cli(&rig, NULL, NULL, NULL, "wait", "later", NULL),
                     EXIT_OK);
    assert_int_equal(stage_cli(&rig, NULL, &out, NULL, "result", "later", NULL),
                     EXIT_OK);
    assert_non_null(strstr(out, "later\n"));
    assert_int_equal(
        stage_cli(&rig, NULL, &again, NULL, "status", "later", "--json", NULL),
        EXIT_OK);
    cJSON *status = cJSON_Parse(again);
    stage_expect(status, "status", "succeeded");
    cJSON_Delete(status);
}

static void a_batch_comes_back_in_order_with_its_totals(void **state)
{
    AUTO_FREE char *lines = malloc(50 * 80), *out = NULL, *id = NULL;
    char *at = lines, *rest;

    (void)state;
    MUST(lines);
    for (int i = 0; i < 50; i++)
        at += sprintf(at,
                      "{\"template\":\"quick_script\",\"language\":\"bash\","
                      "\"code\":\"echo %d\"}\n",
                      i);
    assert_int_equal(stage_cli(&rig, lines, &out, NULL, "batch", "-", NULL),
                     EXIT_OK);
    rest = out;
    for (int i = 0; i < 50; i++) {
        char *line = strsep(&rest, "\n"), expected[16];
        cJSON *r = cJSON_Parse(line);

        snprintf(expected, sizeof(expected), "%d\n", i);
        stage_expect(r, "logs.stdout.0", expected);
        if (i == 0) {
            AUTO_FREE char *batch =
                stage_field(&rig, stage_text(r, "job_id"), "batch_id");

            assert_non_null(batch);
            id = strdup(batch);
        }
        cJSON_Delete(r);
    }
    assert_string_equal(rest, "");
    char key[128];
    snprintf(key, sizeof(key), "{capibox}:batch:%s", id);
    assert_int_equal(rig_number(&rig, "HGET", key, "total", NULL), 50);
    assert_int_equal(rig_number(&rig, "HGET", key, "done", NULL), 50);
    assert_int_equal(rig_number(&rig, "HGET", key, "succeeded", NULL), 50);
    assert_int_equal(rig_number(&rig, "HGET", key, "failed", NULL), 0);
}

/* The last one: over all that the others did. */
static void the_books_and_the_counters_agree(void **state)
{
    AUTO_FREE char *out = NULL;

    (void)state;
    assert_true(rig_settled(&rig));
    assert_int_equal(
        stage_cli(&rig, NULL, &out, NULL, "stats", "--audit", "--json", NULL),
        EXIT_OK);
    cJSON *audit = cJSON_Parse(out);
    assert_true(cJSON_IsTrue(stage_at(audit, "balanced")));
    assert_int_equal(stage_number(audit, "running"), 0);
    assert_int_equal(stage_number(audit, "private"), 0);
    cJSON_Delete(audit);
    long long total = rig_stat(&rig, "total_executions");
    assert_true(total > 60);
    assert_int_equal(total, rig_stat(&rig, "successful_executions") +
                                rig_stat(&rig, "failed_executions"));
    assert_int_equal(total, rig_stat(&rig, "sandbox_created"));
    assert_int_equal(total, rig_stat(&rig, "sandbox_destroyed"));
    assert_int_equal(rig_stat(&rig, "successful_executions"),
                     rig_stat(&rig, "verdict:ok"));
}

static int open_all(void **state)
{
    (void)state;
    stage_open(&rig, NULL);
    stage_worker(&rig, &worker, NULL);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    int ending = stage_end_worker(&worker);

    rig_close(&rig);
    return ending;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bare_lpush_is_answered_with_hash_and_result),
        cmocka_unit_test(every_field_of_the_hash_is_written),
        cmocka_unit_test(running_shows_while_it_runs),
        cmocka_unit_test(a_known_id_is_not_run_again),
        cmocka_unit_test(values_and_errors_come_back),
        cmocka_unit_test(a_data_frame_comes_back_as_text_html_and_data),
        cmocka_unit_test(a_figure_comes_back_as_png),
        cmocka_unit_test(files_env_args_and_stdin_arrive),
        cmocka_unit_test(named_files_come_back_and_no_others),
        cmocka_unit_test(javascript_and_bash_run),
        cmocka_unit_test(metadata_is_untouched_and_unknown_fields_are_named),
        cmocka_unit_test(a_dynamic_spec_starts_from_its_task_type),
        cmocka_unit_test(auto_chooses_by_what_is_imported),
        cmocka_unit_test(run_ends_with_the_code_of_the_verdict),
        cmocka_unit_test(run_streams_and_keeps_the_streams_apart),
        cmocka_unit_test(run_json_prints_the_result_alone),
        cmocka_unit_test(a_closed_stream_carries_nothing_to_redis),
        cmocka_unit_test(run_saves_pictures_and_files),
        cmocka_unit_test(submit_wait_and_result_do_what_run_does),
        cmocka_unit_test(a_batch_comes_back_in_order_with_its_totals),
        cmocka_unit_test(the_books_and_the_counters_agree),
    };

    return cmocka_run_group_tests(tests, open_all, close_all);
}
