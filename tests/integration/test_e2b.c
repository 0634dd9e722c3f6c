/* The E2B backend against the double of E2B: honest jobs, and every way in
 * which one call can go wrong. The built worker, a real Redis, real code.
 *
 * What happens when E2B as a whole, or a worker, is away: test_e2b_away.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/support/cmocka_all.h"
#include "tests/support/e2b_stage.h"
#include "worker/outfile.h"

static int requests(struct e2b_stage *s, const char *route)
{
    char path[64];

    snprintf(path, sizeof(path), "requests.%s", route);
    return (int)double_number(&s->e2b, path);
}

static void a_job_runs_in_a_sandbox_of_its_own(void **state)
{
    struct e2b_stage *s = *state;
    cJSON *r = stage_job(&s->rig, "{\"id\":\"a\",\"code\":\"print(6*7)\\n2\"}");

    stage_expect(r, "verdict", "ok");
    stage_expect(r, "backend", "e2b");
    stage_expect(r, "logs.stdout.0", "42\n");
    stage_expect(r, "results.0.text", "2");
    cJSON_Delete(r);
    assert_int_equal(requests(s, "create"), 1);
    assert_int_equal(requests(s, "execute"), 1);
    assert_int_equal(requests(s, "delete"), 1);
    e2b_stage_end_well(s);
}

/* ---- one call goes wrong, and another ------------------------------------ */

struct row {
    const char *fault;   /* what double_fault() takes; NULL: none */
    const char *fields;  /* of the job; NULL: print(6*7) */
    const char *verdict; /* at the first attempt, which is the only one */
    const char *error;   /* part of `error`, or NULL */
    const char *out;     /* stdout, or its begin; NULL: whatever */
};

static const char plain[] = "\"code\":\"print(6*7)\"";

static void check_row(const struct row *row, cJSON *r)
{
    const char *out = stage_text(r, "logs.stdout.0");

    if (strcmp(stage_text(r, "verdict"), row->verdict) != 0 ||
        (row->out && (!out || strncmp(out, row->out, strlen(row->out)) != 0)) ||
        (row->error && (!stage_text(r, "error") ||
                        !strstr(stage_text(r, "error"), row->error)))) {
        char *text = cJSON_Print(r);

        fail_msg("after %s:\n%s", row->fault, text);
    }
    assert_int_equal(stage_number(r, "attempt"), 1);
}

static void run_one(struct e2b_stage *s, const struct row *row)
{
    static int number;
    char job[4096], id[32];
    cJSON *r;

    snprintf(id, sizeof(id), "j%d", number++);
    snprintf(job, sizeof(job), "{\"id\":\"%s\",\"max_attempts\":1,%s}", id,
             row->fields ? row->fields : plain);
    r = stage_job(&s->rig, job);
    check_row(row, r);
    cJSON_Delete(r);
}

/* With jobs between them that go well, so that failures do not add up. */
static void run_rows(struct e2b_stage *s, const struct row *rows, size_t count)
{
    static const struct row good = {NULL, NULL, "ok", NULL, "42\n"};

    for (size_t i = 0; i < count; i++) {
        run_one(s, &good);
        double_fault(&s->e2b, rows[i].fault);
        run_one(s, &rows[i]);
        double_clear(&s->e2b);
    }
    run_one(s, &good);
    assert_int_equal(rig_stat(&s->rig, "delayed"), 0);
}

#define ROWS(rows) rows, sizeof(rows) / sizeof(*rows)

#define ON_START(kind) "\"route\":\"start\",\"kind\":\"" kind "\""
#define BASH                                                                  \
    "\"template_id\":\"quick_script\",\"language\":\"bash\",\"code\":\"echo " \
    "42\""
#define IN                                                    \
    "\"files\":[{\"path\":\"in.txt\",\"content\":\"aGkK\"}]," \
    "\"code\":\"print(open('in.txt').read())\""

/* Verdicts of code that may have run: not again behind the user's back. */
static void the_interpreters_stream_fails(void **state)
{
#define ON_RUN(kind) "\"route\":\"execute\",\"kind\":\"" kind "\""
#define SHORT        "\"timeout\":2,\"code\":\"print(6*7)\""
#define LONG                                                     \
    "\"code\":\"import time\\nfor i in range(99):\\n print(42, " \
    "flush=True)\\n time.sleep(.05)\""
#define LOST "the E2B sandbox was lost while the code ran"
    static const struct row rows[] = {
        {ON_RUN("no_end"), NULL, "backend_error", "before end_of_execution",
         "42\n"},
        {ON_RUN("half_line"), NULL, "backend_error", LOST, NULL},
        {ON_RUN("half_line") ",\"clean\":true", NULL, "backend_error",
         "before end_of_execution", NULL},
        {ON_RUN("reset") ",\"bytes\":100", NULL, "backend_error", LOST, NULL},
        {ON_RUN("truncate") ",\"bytes\":100", NULL, "backend_error", LOST,
         NULL},
        {ON_RUN("sandbox_lost"), NULL, "backend_error", LOST, NULL},
        {ON_RUN("not_json"), NULL, "backend_error", "a line that is not JSON",
         NULL},
        {ON_RUN("wrong_types"), NULL, "backend_error", "makes no sense", NULL},
        {ON_RUN("kernel_dies") ",\"after\":2", LONG, "user_error",
         "the interpreter died", "42\n"},
        {ON_RUN("long_line"), NULL, "output_limit", "output limit", NULL},
        {ON_RUN("huge_total"), NULL, "output_limit", "output limit", NULL},
        {ON_RUN("raw_lines") ",\"lines\":[{\"type\":\"error\",\"name\":"
                             "\"WebSocketError\",\"value\":\"\","
                             "\"traceback\":\"\"}]",
         NULL, "backend_error", "WebSocketError", NULL},
        {ON_RUN("keepalive_only") ",\"interval_ms\":200,\"after\":2", SHORT,
         "timeout", "its timeout of 2 s", "42\n"},
        {ON_RUN("silent") ",\"after\":2", SHORT, "timeout",
         "its timeout of 2 s", "42\n"},
        {ON_RUN("drip") ",\"interval_ms\":300,\"bytes\":60", SHORT, "timeout",
         NULL, NULL},
        {ON_RUN("empty_line"), NULL, "ok", NULL, "42\n"},
        {ON_RUN("unknown_type"), NULL, "ok", NULL, "42\n"},
        {ON_RUN("duplicate_end"), NULL, "ok", NULL, "42\n"},
        {ON_RUN("after_end"), NULL, "ok", NULL, "42\n"},
        {ON_RUN("no_count"), NULL, "ok", NULL, "42\n"},
        {ON_RUN("bare_end"), NULL, "ok", NULL, "42\n"},
        {ON_RUN("many_lines"), NULL, "ok", NULL, NULL},
        {ON_RUN("no_close_notify"), NULL, "ok", NULL, "42\n"},
        {ON_RUN("split_utf8"), "\"code\":\"print('gr\\u00fc\\u00df')\"", "ok",
         NULL, "gr\xc3\xbc\xc3\x9f\n"},
    };
    struct e2b_stage *s = *state;

    run_rows(s, ROWS(rows));
    e2b_stage_end_well(s);
}

#define ON_START(kind) "\"route\":\"start\",\"kind\":\"" kind "\""
#define BASH                                                                  \
    "\"template_id\":\"quick_script\",\"language\":\"bash\",\"code\":\"echo " \
    "42\""

/* Or their sandboxes would be kept, and paid, until a timeout. */
static void streams_are_over_with_their_end(void **state)
{
#define THREE ",\"timeout\":3"
    static const char *const faults[] = {ON_RUN("held_open"),
                                         ON_START("held_open")};
    static const char *const jobs[] = {
        "{\"id\":\"held-0\",\"code\":\"print(6*7)\"" THREE "}",
        "{\"id\":\"held-1\"," BASH THREE "}"};
    struct e2b_stage *s = *state;

    for (int i = 0; i < 2; i++) {
        double_fault(&s->e2b, faults[i]);
        cJSON *r = stage_job(&s->rig, jobs[i]);

        stage_expect(r, "verdict", "ok");
        stage_expect(r, "logs.stdout.0", "42\n");
        assert_true(stage_number(r, "timings.run") < 2);
        cJSON_Delete(r);
    }
    e2b_stage_end_well(s);
}

static void the_interpreter_is_not_reached(void **state)
{
    static const struct row rows[] = {
        {ON_RUN("500"), NULL, "backend_error", "HTTP 500", NULL},
        {ON_RUN("502-notfound"), NULL, "backend_error",
         "HTTP 502: The sandbox was not found", NULL},
        {ON_RUN("502-port"), NULL, "backend_error", "start command", NULL},
        {ON_RUN("502-html"), NULL, "backend_error", "HTTP 502", NULL},
        {ON_RUN("404"), NULL, "backend_error", "HTTP 404", NULL},
        {ON_RUN("401"), NULL, "backend_error", "HTTP 401", NULL},
        {ON_RUN("redirect"), NULL, "backend_error", "a redirect", NULL},
        {ON_RUN("redirect") ",\"status\":307", NULL, "backend_error",
         "a redirect", NULL},
        {ON_RUN("refuse_before"), NULL, "backend_error", "the connection broke",
         NULL},
        {ON_RUN("reset_before"), NULL, "backend_error", "the connection broke",
         NULL},
        {ON_RUN("answer_lost"), NULL, "backend_error", "the connection broke",
         NULL},
        {ON_RUN("garbage"), NULL, "backend_error", "the connection broke",
         NULL},
        /* Its head did not come: that is not the code's time. */
        {ON_RUN("stall"), SHORT, "backend_error", "no answer in time", NULL},
    };
    const int count = sizeof(rows) / sizeof(*rows);
    struct e2b_stage *s = *state;

    run_rows(s, ROWS(rows));
    /* Each asked once, with a good one before each and at the end. */
    assert_int_equal(requests(s, "execute"), 2 * count + 1);
    e2b_stage_end_well(s);
}

/* What counts as executed is code that a sandbox took. */
static void code_that_no_sandbox_took_did_not_run(void **state)
{
#define NOT_TAKEN "the E2B sandbox did not take the job's code: "
#define UNKNOWN   "whether its code ran is not known: "
    static const struct row rows[] = {
        {ON_RUN("401"), NULL, "backend_error", NOT_TAKEN "HTTP 401", NULL},
        {ON_RUN("502-port"), IN, "backend_error", NOT_TAKEN "HTTP 502", NULL},
        {ON_START("500"), BASH, "backend_error", UNKNOWN "HTTP 500", NULL},
        {ON_RUN("reset_before"), IN, "backend_error", UNKNOWN, NULL},
    };
    const int count = sizeof(rows) / sizeof(*rows);
    struct e2b_stage *s = *state;

    run_rows(s, ROWS(rows));
    assert_int_equal(rig_stat(&s->rig, "total_executions"), count + 1);
    assert_int_equal(rig_stat(&s->rig, "failed_executions"), 0);
    run_one(s,
            &(struct row){NULL, "\"code\":\"1/0\"", "user_error", NULL, NULL});
    assert_int_equal(rig_stat(&s->rig, "failed_executions"), 1);
    e2b_stage_end_well(s);
}

static void a_proxy_that_asks_for_a_moment_gets_it(void **state)
{
    static const struct row rows[] = {
        {ON_RUN("409"), NULL, "ok", NULL, "42\n"},
        {ON_RUN("429c"), NULL, "ok", NULL, "42\n"},
        {ON_RUN("429b"), NULL, "ok", NULL, "42\n"},
        {ON_RUN("429c") ",\"count\":9", NULL, "backend_error", "HTTP 429",
         NULL},
    };
    struct e2b_stage *s = *state;

    run_rows(s, ROWS(rows));
    e2b_stage_end_well(s);
}

static void envds_stream_fails(void **state)
{
#define SHORT_BASH                                                          \
    "\"timeout\":2,\"template_id\":\"quick_script\",\"language\":\"bash\"," \
    "\"code\":\"echo 42; sleep 9\""
    static const struct row rows[] = {
        {ON_START("bad_flag"), BASH, "backend_error", NULL, NULL},
        {ON_START("compressed"), BASH, "backend_error", "compressed", NULL},
        {ON_START("not_json"), BASH, "backend_error", "not JSON", NULL},
        {ON_START("giant_envelope"), BASH, "backend_error",
         "larger than any may be", NULL},
        {ON_START("half_envelope"), BASH, "backend_error", NULL, NULL},
        {ON_START("no_end"), BASH, "backend_error", LOST, "42\n"},
        {ON_START("no_start"), BASH, "ok", NULL, "42\n"},
        {ON_START("end_error"), BASH, "backend_error", NULL, NULL},
        {ON_START("sandbox_lost"), BASH, "backend_error", LOST, NULL},
        {ON_START("huge_total"), BASH, "output_limit", NULL, NULL},
        {ON_START("stall"), SHORT_BASH, "backend_error", "no answer in time",
         NULL},
        {ON_START("keepalive_only") ",\"interval_ms\":200", SHORT_BASH,
         "timeout", NULL, NULL},
        {ON_START("500"), BASH, "backend_error", "HTTP 500", NULL},
        {ON_START("502-notfound"), BASH, "backend_error", "not found", NULL},
        {ON_START("reset_before"), BASH, "backend_error", NULL, NULL},
        {ON_START("redirect"), BASH, "backend_error", "a redirect", NULL},
    };
    struct e2b_stage *s = *state;

    run_rows(s, ROWS(rows));
    e2b_stage_end_well(s);
}

static void files_fail_on_their_way(void **state)
{
#define ON(route, kind) "\"route\":\"" route "\",\"kind\":\"" kind "\""
#define OUT                                                \
    "\"output_files\":[\"o*.txt\",\"p.txt\"],"             \
    "\"code\":\"print(42); open('o.txt','w').write('x'); " \
    "open('p.txt','w').write('y')\""
    static const struct row rows[] = {
        {ON("files_post", "500"), IN, "backend_error",
         "cannot write the job's files", NULL},
        {ON("files_post", "507"), IN, "backend_error", "HTTP 507", NULL},
        {ON("files_post", "reset_before"), IN, "backend_error", NULL, NULL},
        {ON("files_post", "redirect"), IN, "backend_error", "a redirect", NULL},
        {ON("files_post", "502-notfound"), IN, "backend_error", NULL, NULL},
        {ON("files_get", "500"), OUT, "backend_error", "did not hand over",
         NULL},
        {ON("files_get", "502-notfound"), OUT, "backend_error",
         "did not hand over", NULL},
        {ON("files_get", "404"), OUT, "ok", NULL, "42\n"},
        {ON("files_get", "redirect"), OUT, "backend_error", NULL, NULL},
        {ON("list_dir", "500"), OUT, "backend_error", "did not hand over",
         NULL},
        {ON("list_dir", "body") ",\"body\":\"<html>\"", OUT, "backend_error",
         "its listing makes no sense", NULL},
        {ON("list_dir", "body") ",\"body\":\"{\\\"entries\\\":5}\"", OUT,
         "backend_error", "its listing makes no sense", NULL},
        {ON("list_dir", "body") ",\"body\":\"{\\\"entries\\\":[7]}\"", OUT,
         "backend_error", "its listing makes no sense", NULL},
        {ON("list_dir", "body") ",\"body\":\"\"", OUT, "backend_error",
         "its listing makes no sense", NULL},
        {ON("list_dir", "bad_length"), OUT, "backend_error", NULL, NULL},
        {ON("delete", "500"), NULL, "ok", NULL, "42\n"},
        {ON("delete", "reset_before"), NULL, "ok", NULL, "42\n"},
        {ON("delete", "answer_lost"), NULL, "ok", NULL, "42\n"},
        {ON("delete", "404"), NULL, "ok", NULL, "42\n"},
        {ON("delete", "redirect"), NULL, "ok", NULL, "42\n"},
        {ON("delete", "404-html"), NULL, "ok", NULL, "42\n"},
        {ON("delete", "429b"), NULL, "ok", NULL, "42\n"},
    };
    struct e2b_stage *s = *state;

    run_rows(s, ROWS(rows));
    /* One DELETE was answered with a 404 that was not true: */
    cJSON *report = double_ask(&s->e2b, "{\"cmd\":\"report\"}");
    const char *left = stage_text(report, "alive.0.id");
    char command[128];

    snprintf(command, sizeof(command), "{\"cmd\":\"kill\",\"id\":\"%s\"}",
             left);
    cJSON_Delete(double_ask(&s->e2b, command));
    cJSON_Delete(report);
    e2b_stage_end_well(s);
}

static void a_listed_path_is_shown_as_locally(void **state)
{
    struct e2b_stage *s = *state;

    double_fault(&s->e2b,
                 ON("list_dir",
                    "body") ",\"body\":\"{\\\"entries\\\":[{\\\"type\\\":"
                            "\\\"FILE_TYPE_FILE\\\",\\\"path\\\":\\\"/home/"
                            "user//o.txt\\\"},"
                            "{\\\"type\\\":\\\"FILE_TYPE_FILE\\\",\\\"path\\\":"
                            "\\\"/home/user/../o.txt\\\"}]}\"");
    cJSON *r = stage_job(&s->rig, "{\"id\":\"twice\"," OUT "}");

    stage_expect(r, "verdict", "ok");
    stage_expect(r, "files.0.path", "o.txt");
    stage_expect(r, "files.1.path", "p.txt");
    assert_null(stage_text(r, "files.2.path"));
    cJSON_Delete(r);
    e2b_stage_end_well(s);
}

/* Its bytes are the file's, and their count is bounded. */
static void a_file_that_comes_packed_is_unpacked(void **state)
{
    struct e2b_stage *s = *state;

    double_fault(&s->e2b, ON("files_get", "gzip"));
    cJSON *r = stage_job(&s->rig,
                         "{\"id\":\"z\",\"output_files\":[\"a.txt\"],\"code\":"
                         "\"open('a.txt','w').write('x' * 9000)\"}");

    stage_expect(r, "verdict", "ok");
    assert_int_equal(stage_number(r, "files.0.size"), 9000);
    cJSON_Delete(r);
    double_fault(&s->e2b, ON("files_get", "gzip"));
    r = stage_job(&s->rig,
                  "{\"id\":\"bomb\",\"output_files\":[\"a.txt\"],\"code\":"
                  "\"open('a.txt','w').write('x' * (40 << 20))\"}");
    stage_expect(r, "verdict", "ok");
    stage_expect(r, "files.0.skipped", OUTFILE_TOO_LARGE);
    cJSON_Delete(r);
    e2b_stage_end_well(s);
}

/* ---- create -------------------------------------------------------------- */

static void create_is_refused_for_good(void **state)
{
    static const struct row rows[] = {
        {ON("create", "400"), NULL, "rejected", "E2B refuses a sandbox", NULL},
        {ON("create", "404"), NULL, "rejected", "E2B refuses a sandbox", NULL},
        {ON("create", "create-old-envd"), NULL, "rejected",
         "envd 0.0.9 is too old", NULL},
        {ON("create", "403"),
         "\"requirements\":{\"template_name\":\"code-interpreter-v1\"},"
         "\"code\":\"1\"",
         "rejected", "requirements.template_name", NULL},
        {"\"route\":\"create\",\"kind\":\"status\",\"status\":400,\"json\":{"
         "\"code\":400,\"message\":\"Timeout cannot be greater than 1 hours\"}",
         NULL, "rejected", "timeout: E2B refuses", NULL},
    };
    struct e2b_stage *s = *state;

    run_rows(s, ROWS(rows));
    assert_int_equal(requests(s, "create"), 5 + 6); /* none was tried again */
    e2b_stage_end_well(s);
}

/* All at once: each strikes one create, whose job is placed all the same. */
static void create_fails_in_every_way_and_is_tried_again(void **state)
{
    static const char *const kinds[] = {
        "500",           "503",           "503-plain",
        "504",           "502-html",      "502-empty",
        "409",           "429b",          "429c",
        "redirect",      "refuse_before", "reset_before",
        "answer_lost",   "garbage",       "create-not-json",
        "create-empty",  "create-array",  "create-truncated-json",
        "create-giant",  "create-no-id",  "create-no-token",
        "create-bad-id", "create-nulls",  "create-evil-token",
        "bad_length",    "giant_header",  "create-evil-domain",
        "truncate",      "403",           "404-html",
    };
    const int count = sizeof(kinds) / sizeof(*kinds);
    struct e2b_stage *s = *state;
    char fault[128];

    cJSON_Delete(double_ask(&s->e2b, "{\"cmd\":\"max_sandboxes\",\"n\":200}"));
    for (int i = 0; i < count; i++) {
        snprintf(fault, sizeof(fault), "\"route\":\"create\",\"kind\":\"%s\"",
                 kinds[i]);
        double_fault(&s->e2b, fault);
    }
    e2b_stage_push(s, "c", count, plain);
    e2b_stage_expect_all(s, "c", count, "ok", 45000);
    /* A create whose answer was no answer left a sandbox: found, and killed. */
    assert_true(double_number(&s->e2b, "creates") > count);
    assert_int_equal(requests(s, "execute"), count);
    e2b_stage_end_well(s);
}

/* Protocol section 1.4: its state must be read before it is tried again. */
static void a_sandbox_of_a_conflict_is_found(void **state)
{
    struct e2b_stage *s = *state;
    cJSON *r;

    double_fault(&s->e2b,
                 "\"route\":\"create\",\"kind\":\"body\",\"status\":409,"
                 "\"body\":\"{\\\"code\\\":409,\\\"message\\\":\\\"busy\\\","
                 "\\\"error_code\\\":\\\"sandbox_start_in_flight\\\"}\"");
    r = stage_job(&s->rig, "{\"id\":\"a\",\"code\":\"print(1)\"}");
    stage_expect(r, "verdict", "ok");
    cJSON_Delete(r);
    assert_int_equal(double_number(&s->e2b, "creates"), 2);
    e2b_stage_end_well(s);
}

static void a_lost_answer_is_neither_paid_for_twice_nor_run_twice(void **state)
{
    struct e2b_stage *s = *state;
    cJSON *r;

    double_fault(&s->e2b, ON("create", "answer_lost"));
    r = stage_job(&s->rig, "{\"id\":\"a\",\"code\":\"print(1)\"}");
    stage_expect(r, "verdict", "ok");
    assert_int_equal(stage_number(r, "attempt"), 1);
    cJSON_Delete(r);
    assert_true(double_settled(&s->e2b, 5000));
    assert_int_equal(double_number(&s->e2b, "creates"), 2);
    assert_int_equal(double_number(&s->e2b, "destroys"), 2);
    assert_int_equal(requests(s, "execute"), 1);
    assert_int_equal(rig_stat(&s->rig, "sandbox_created"), 1);
    e2b_stage_end_well(s);
}

/* The one who looks for it waits as long as E2B asks. */
static void a_listing_waits_as_long_as_it_was_asked_to(void **state)
{
    struct e2b_stage *s = *state;
    cJSON *r;
    int lists;

    /* The worker's first look around is not the one. */
    while ((lists = requests(s, "list")) < 1)
        usleep(5000);
    double_fault(&s->e2b, ON("create", "answer_lost"));
    double_fault(&s->e2b, ON("list", "429b") ",\"headers\":{\"Retry-After\":"
                                             "\"3\"}");
    r = stage_job(&s->rig, "{\"id\":\"a\",\"code\":\"print(1)\"}");
    stage_expect(r, "verdict", "ok");
    cJSON_Delete(r);
    assert_true(double_settled(&s->e2b, 10000));
    assert_true(requests(s, "list") >= lists + 2);
    e2b_stage_end_well(s);
}

/* ---- what jobs do to each other ------------------------------------------ */

static void a_lost_run_is_tried_again(void **state)
{
    struct e2b_stage *s = *state;
    cJSON *r;

    double_fault(&s->e2b, ON_RUN("no_end"));
    r = stage_job(&s->rig, "{\"id\":\"a\",\"code\":\"print(1)\"}");
    stage_expect(r, "verdict", "ok");
    assert_int_equal(stage_number(r, "attempt"), 2);
    cJSON_Delete(r);
    assert_int_equal(requests(s, "create"), 2);
    assert_int_equal(rig_stat(&s->rig, "retries"), 1);
    e2b_stage_end_well(s);
}

/* A create that hangs holds no cancel up. */
static void a_job_is_cancelled_while_its_sandbox_is_made(void **state)
{
    struct e2b_stage *s = *state;
    struct cancel got;
    int64_t start;

    double_fault(&s->e2b, "\"route\":\"create\",\"kind\":\"stall\"");
    e2b_stage_push(s, "a", 1, plain);
    while (requests(s, "create") < 1)
        usleep(5000);
    assert_true(rig_wait_job(&s->rig, "a0", "status", "running"));
    start = clock_ms();
    assert_int_equal(protocol_cancel(&s->rig.protocol, s->rig.redis,
                                     start + RIG_WAIT_MS, "a0", NULL, 0, &got),
                     0);
    assert_true(rig_wait_job(&s->rig, "a0", "status", "cancelled"));
    /* Not as long as a call may take (CONTROL_CALL_MS). */
    assert_in_range(clock_ms() - start, 0, 8000);
    assert_string_equal(rig_job(&s->rig, "a0", "error"),
                        "cancelled before it started");
    e2b_stage_end_well(s);
}

static void what_happens_to_some_jobs_holds_up_no_others(void **state)
{
    static const char *const faults[] = {
        ON_RUN("502-port") ",\"count\":8",
        ON_RUN("502-notfound") ",\"count\":8",
        ON_RUN("wrong_types") ",\"count\":8",
        ON_RUN("sandbox_lost") ",\"count\":8",
        ON_RUN("no_end") ",\"count\":8",
    };
    struct e2b_stage *s = *state;

    for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++) {
        char prefix[8];

        snprintf(prefix, sizeof(prefix), "f%zu-", i);
        double_fault(&s->e2b, faults[i]);
        e2b_stage_push(s, prefix, 8, "\"max_attempts\":1,\"code\":\"1\"");
        e2b_stage_expect_all(s, prefix, 8, "backend_error", 15000);
    }
    double_fault(&s->e2b, ON("create", "403") ",\"count\":8");
    e2b_stage_push(s, "n", 8,
                   "\"code\":\"1\",\"requirements\":{\"template_name\":"
                   "\"someone/elses\"}");
    e2b_stage_expect_all(s, "n", 8, "rejected", 15000);
    e2b_stage_push(s, "good", 4, plain);
    e2b_stage_expect_all(s, "good", 4, "ok", RIG_WAIT_MS);
    assert_int_equal(rig_stat(&s->rig, "delayed"), 0);
    e2b_stage_end_well(s);
}

static void an_exception_of_any_size_is_the_codes(void **state)
{
    struct e2b_stage *s = *state;
    static const struct row rows[] = {
        {ON_RUN("no_count"), "\"code\":\"raise ValueError('x' * 2000000)\"",
         "user_error", "ValueError", NULL},
        {ON_RUN("no_count"), "\"code\":\"raise ValueError('x' * 20000000)\"",
         "user_error", "ValueError", NULL},
        {ON_RUN("no_count"),
         "\"code\":\"class ContextRestarting(Exception): pass\\nraise "
         "ContextRestarting('boo')\"",
         "user_error", "ContextRestarting: boo", NULL},
    };

    run_rows(s, ROWS(rows));
    e2b_stage_end_well(s);
}

/* One address for all sandboxes: connections are kept, and may be dead. */
static void a_shared_host_serves_all_sandboxes(void **state)
{
    struct e2b_stage *s = *state;

    e2b_stage_worker(s, &s->worker, "CAPIBOX_E2B_SHARED=always");
    for (int i = 0; i < 4; i++) {
        char prefix[8];

        snprintf(prefix, sizeof(prefix), "s%d-", i);
        e2b_stage_push(s, prefix, 3, plain);
        e2b_stage_expect_all(s, prefix, 3, "ok", 10000);
        cJSON_Delete(double_ask(
            &s->e2b, i % 2 ? "{\"cmd\":\"close_idle\",\"rst\":true}"
                           : "{\"cmd\":\"close_idle\",\"rst\":false}"));
    }
    assert_int_equal(requests(s, "create"), 12); /* none was sent twice */
    assert_int_equal(requests(s, "execute"), 12);
    e2b_stage_end_well(s);
}

/* E2B_SANDBOX_URL, as for a cluster without names of sandboxes. */
static void one_url_serves_all_sandboxes(void **state)
{
    struct e2b_stage *s = *state;
    char setting[200];

    snprintf(setting, sizeof(setting), "E2B_SANDBOX_URL=https://sandbox.%s/",
             s->e2b.domain);
    e2b_stage_worker(s, &s->worker, setting);
    e2b_stage_push(s, "p", 2, IN);
    e2b_stage_push(s, "o", 2, OUT);
    e2b_stage_push(s, "b", 2, BASH);
    e2b_stage_expect_all(s, "p", 2, "ok", 10000);
    e2b_stage_expect_all(s, "o", 2, "ok", 10000);
    e2b_stage_expect_all(s, "b", 2, "ok", 10000);
    e2b_stage_end_well(s);
}

/* A plan ends a sandbox that is as old as the job may become: before that, it
 * is the job's timeout, and not tried again. */
static void a_plans_limit_is_a_timeout_and_no_loss(void **state)
{
#define FILE_IN \
    "\"timeout\":3,\"files\":[{\"path\":\"a\",\"content\":\"aGkK\"}],"
    static const char *const words[] = {"--max-hours", "0.001", NULL};
    static const char *const jobs[] = {
        "{\"id\":\"p\"," FILE_IN "\"code\":\"while True: pass\"}",
        "{\"id\":\"b\"," FILE_IN "\"template_id\":\"quick_script\","
        "\"language\":\"bash\",\"code\":\"sleep 9\"}",
    };
    struct e2b_stage *s = *state;

    double_end(&s->e2b);
    double_open(&s->e2b, words);
    e2b_stage_worker(s, &s->worker, NULL);
    for (int i = 0; i < 2; i++) {
        cJSON *r;

        /* Its life counts from the create on. */
        double_fault(&s->e2b, ON("files_post", "delay") ",\"ms\":700");
        r = stage_job(&s->rig, jobs[i]);
        stage_expect(r, "verdict", "timeout");
        assert_int_equal(stage_number(r, "attempt"), 1);
        cJSON_Delete(r);
    }
    e2b_stage_end_well(s);
}

#define STAGED(test) \
    cmocka_unit_test_setup_teardown(test, e2b_stage_open, e2b_stage_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STAGED(a_job_runs_in_a_sandbox_of_its_own),
        STAGED(the_interpreters_stream_fails),
        STAGED(a_listed_path_is_shown_as_locally),
        STAGED(a_file_that_comes_packed_is_unpacked),
        STAGED(streams_are_over_with_their_end),
        STAGED(the_interpreter_is_not_reached),
        STAGED(code_that_no_sandbox_took_did_not_run),
        STAGED(a_proxy_that_asks_for_a_moment_gets_it),
        STAGED(envds_stream_fails),
        STAGED(files_fail_on_their_way),
        STAGED(create_is_refused_for_good),
        STAGED(create_fails_in_every_way_and_is_tried_again),
        STAGED(a_sandbox_of_a_conflict_is_found),
        STAGED(a_lost_answer_is_neither_paid_for_twice_nor_run_twice),
        STAGED(a_listing_waits_as_long_as_it_was_asked_to),
        STAGED(a_lost_run_is_tried_again),
        STAGED(a_job_is_cancelled_while_its_sandbox_is_made),
        STAGED(what_happens_to_some_jobs_holds_up_no_others),
        STAGED(an_exception_of_any_size_is_the_codes),
        cmocka_unit_test_setup_teardown(a_plans_limit_is_a_timeout_and_no_loss,
                                        e2b_stage_open_empty, e2b_stage_close),
        cmocka_unit_test_setup_teardown(one_url_serves_all_sandboxes,
                                        e2b_stage_open_empty, e2b_stage_close),
        cmocka_unit_test_setup_teardown(a_shared_host_serves_all_sandboxes,
                                        e2b_stage_open_empty, e2b_stage_close),
    };

    return cmocka_run_group_tests_name("e2b", tests, NULL, NULL);
}
