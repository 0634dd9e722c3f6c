/* The gateway over real HTTP, with a real worker and a real Redis behind it. */
#include "tests/support/cmocka_all.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/protocol.h"
#include "common/scope.h"
#include "producer/gateway/snapshot.h"
#include "tests/support/stage.h"
#include "tests/support/web.h"

#define API    "/api/v1/e2b/"
#define ALICE  "alice-key-0123456789"
#define ALICE2 "alice-key-9876543210"
#define BOB    "bob-key-0123456789ab"

/* Code of jobs that go on when they are woken. */
#define HOLD "import os; os.system('exec sleep 60')"

static struct rig rig;
static struct proc worker;
static struct web web;

static int open_all(void **state)
{
    (void)state;
    stage_open(&rig, NULL);
    stage_worker(&rig, &worker,
                 (const char *[]){"CAPIBOX_TEMPLATES=templates", NULL});
    web_start(&rig, &web, NULL);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    assert_int_equal(web_stop(&web), 0);
    assert_int_equal(stage_end_worker(&worker), 0);
    rig_close(&rig);
    return 0;
}

/* One request with a JSON body (NULL: a GET). */
static void ask(struct answer *a, const char *path, const char *body)
{
    web_ask(&web, a, body ? "POST" : "GET", path, body, NULL);
}

static void expect_ok(const char *path, const char *body, struct answer *a)
{
    ask(a, path, body);
    web_expect(a, 200);
    assert_non_null(a->json);
}

static bool is_running(void *ctx)
{
    return !strcmp(rig_job(&rig, ctx, "status"), "running");
}

static void expect_running(const char *id)
{
    assert_true(wait_until(is_running, (void *)(uintptr_t)id, RIG_WAIT_MS));
}

/* ---- jobs --------------------------------------------------------------- */

static void what_capibara6_sends_is_run_and_answered(void **state)
{
    static const char *const fields[] = {
        "success",        "logs",          "results",    "error",
        "execution_time", "template_used", "sandbox_id", "sandbox_info",
        "timestamp",      "metadata",      "job_id",     "verdict"};
    static const struct {
        const char *path, *body, *tpl;
    } asked[] = {
        {API "execute", "{\"code\":\"print(6*7)\",\"language\":\"python\"}",
         "default"},
        {"/api/e2b/execute",
         "{\"code\":\"print(6*7)\",\"template\":\"data_analysis\"}",
         "data_analysis"},
        {API "execute",
         "{\"code\":\"print(6*7)\",\"template_id\":\"quick_script\"}",
         "quick_script"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(asked) / sizeof(*asked); i++) {
        struct answer a;

        expect_ok(asked[i].path, asked[i].body, &a);
        for (size_t k = 0; k < sizeof(fields) / sizeof(*fields); k++)
            if (!cJSON_HasObjectItem(a.json, fields[k]))
                fail_msg("%s is missing: %s", fields[k], a.body);
        stage_expect(a.json, "template_used", asked[i].tpl);
        stage_expect(a.json, "logs.stdout.0", "42\n");
        answer_free(&a);
    }
}

static void code_that_fails_is_a_result(void **state)
{
    struct answer a;

    (void)state;
    expect_ok(API "execute", "{\"code\":\"1/0\"}", &a);
    stage_expect(a.json, "verdict", "user_error");
    stage_expect(a.json, "error_detail.name", "ZeroDivisionError");
    answer_free(&a);
}

static void metadata_comes_back_untouched(void **state)
{
    struct answer a;

    (void)state;
    expect_ok(API "execute",
              "{\"metadata\":{\"n\":12345678901234567890,\"s\":\"\\u00e9\"},"
              "\"code\":\"1\"}",
              &a);
    assert_non_null(strstr(a.body, "12345678901234567890"));
    answer_free(&a);
}

static void a_dynamic_spec_runs_with_what_it_asks_for(void **state)
{
    struct answer a;

    (void)state;
    expect_ok(API "dynamic",
              "{\"code\":\"1\",\"task_type\":\"quick\",\"requirements\":"
              "{\"timeout\":7,\"memory_limit_mb\":99}}",
              &a);
    stage_expect(a.json, "template_used", "quick_script");
    assert_int_equal(
        (int)stage_number(a.json, "sandbox_info.config.memory_limit_mb"), 99);
    answer_free(&a);
    expect_ok(API "dynamic", "{\"code\":\"1\"}", &a);
    stage_expect(a.json, "task_type", "general");
    answer_free(&a);
}

static bool has_ended(void *ctx)
{
    struct answer a;
    bool ended;

    ask(&a, ctx, NULL);
    ended = stage_text(a.json, "verdict") != NULL;
    answer_free(&a);
    return ended;
}

static void expect_end(const char *id, const char *verdict)
{
    char path[128];
    struct answer a;

    snprintf(path, sizeof(path), API "jobs/%s", id);
    assert_true(wait_until(has_ended, path, RIG_WAIT_MS));
    expect_ok(path, NULL, &a);
    stage_expect(a.json, "verdict", verdict);
    stage_expect(a.json, "job_id", id);
    answer_free(&a);
}

static void an_async_job_is_answered_at_once_and_found_by_its_id(void **state)
{
    struct answer a;
    char at[256];

    (void)state;
    ask(&a, API "execute", "{\"code\":\"1\",\"id\":\"as-1\",\"async\":true}");
    web_expect(&a, 202);
    stage_expect(a.json, "job_id", "as-1");
    stage_expect(a.json, "status", "queued");
    stage_expect(a.json, "status_url", API "jobs/as-1");
    answer_free(&a);
    expect_end("as-1", "ok");
    web_ask(&web, &a, "POST", API "execute", "{\"code\":\"1\",\"id\":\"as-2\"}",
            "Prefer: respond-async", NULL);
    web_expect(&a, 202);
    answer_header(&a, "Content-Type", at);
    assert_string_equal(at, "application/json");
    stage_expect(a.json, "status", "queued");
    answer_free(&a);
    expect_end("as-2", "ok");
    ask(&a, API "execute",
        "{\"code\":\"1\",\"id\":\"as-3\",\"async\":true,\"delay\":100}");
    web_expect(&a, 202);
    stage_expect(a.json, "status", "delayed");
    answer_free(&a);
    web_ask(&web, &a, "DELETE", API "jobs/as-3", NULL, NULL);
    assert_true(a.status == 200 || a.status == 202);
    answer_free(&a);
}

static void the_code_is_kept_with_its_job(void **state)
{
    AUTO_STRBUF struct strbuf large = STRBUF_INIT;
    struct answer a;

    (void)state;
    expect_ok(API "execute",
              "{\"id\":\"kept-1\",\"code\":\"print(\\\"x\\\")\"}", &a);
    answer_free(&a);
    ask(&a, API "jobs/kept-1", NULL);
    stage_expect(a.json, "code", "print(\"x\")");
    stage_expect(a.json, "verdict", "ok");
    answer_free(&a);
    strbuf_adds(&large, "{\"id\":\"kept-2\",\"code\":\"#");
    for (unsigned i = 0; i < JOB_CODE_KEPT_MAX; i++)
        strbuf_addc(&large, 'x');
    strbuf_adds(&large, "\"}");
    expect_ok(API "execute", large.text, &a);
    answer_free(&a);
    ask(&a, API "jobs/kept-2", NULL);
    assert_null(stage_at(a.json, "code"));
    stage_expect(a.json, "verdict", "ok");
    answer_free(&a);
}

static void expect_wait_over(struct web *to, const char *body,
                             const char *status)
{
    struct answer a;

    web_ask(to, &a, "POST", API "execute", body, "Prefer: wait=1", NULL);
    web_expect(&a, 202);
    assert_true(a.seconds >= 1 && a.seconds < 20); /* and not the job's 60 */
    stage_expect(a.json, "status", status);
    answer_free(&a);
}

static void a_wait_that_is_over_answers_with_the_id(void **state)
{
    static const char HELD[] = "{\"code\":\"" HOLD "\",\"id\":\"wait-1\"}";
    struct web unserved = {0};
    struct answer a;

    (void)state;
    web_start(&rig, &unserved,
              (const char *[]){"CAPIBOX_QUEUES=unserved", NULL});
    expect_wait_over(
        &unserved, "{\"code\":\"1\",\"id\":\"wait-0\",\"queue\":\"unserved\"}",
        "queued");
    assert_int_equal(web_stop(&unserved), 0);
    rig_number(&rig, "DEL", "{capibox}:queue:unserved", "{capibox}:job:wait-0",
               NULL);
    web_ask(&web, &a, "POST", API "execute", HELD, "Prefer: respond-async",
            NULL);
    web_expect(&a, 202);
    answer_free(&a);
    expect_running("wait-1");
    expect_wait_over(&web, HELD, "running");
    household_wake_one(worker.pid);
    expect_end("wait-1", "ok");
    /* Lines of one name are one list. */
    web_ask(&web, &a, "POST", API "execute", "{\"code\":\"1\"}",
            "Prefer: return=minimal", "Prefer: respond-async", NULL);
    web_expect(&a, 202);
    answer_free(&a);
}

static void expect_duplicate(const struct answer *a, bool code_differs)
{
    if (!cJSON_IsTrue(stage_at(a->json, "duplicate")) ||
        cJSON_IsTrue(stage_at(a->json, "code_differs")) != code_differs)
        fail_msg("%s", a->body);
}

static void the_same_id_is_run_once(void **state)
{
    struct answer first, second;

    (void)state;
    expect_ok(API "execute", "{\"code\":\"print(1)\",\"id\":\"once\"}", &first);
    assert_null(stage_at(first.json, "duplicate"));
    expect_ok(API "execute", "{\"code\":\"print(1)\",\"id\":\"once\"}",
              &second);
    expect_duplicate(&second, false);
    cJSON_DeleteItemFromObject(second.json, "duplicate");
    assert_true(cJSON_Compare(first.json, second.json, true));
    answer_free(&first);
    answer_free(&second);
    ask(&second, API "execute",
        "{\"code\":\"print(1)\",\"id\":\"once\",\"async\":true}");
    web_expect(&second, 202);
    stage_expect(second.json, "status", "succeeded");
    expect_duplicate(&second, false);
    answer_free(&second);
}

static void an_id_used_again_for_other_code_is_told(void **state)
{
    struct answer a;

    (void)state;
    expect_ok(API "execute", "{\"code\":\"print(1)\",\"id\":\"reused\"}", &a);
    answer_free(&a);
    expect_ok(API "execute", "{\"code\":\"print(2)\",\"id\":\"reused\"}", &a);
    stage_expect(a.json, "logs.stdout.0", "1\n");
    expect_duplicate(&a, true);
    answer_free(&a);
    ask(&a, API "execute",
        "{\"code\":\"print(2)\",\"id\":\"reused\",\"async\":true}");
    web_expect(&a, 202);
    expect_duplicate(&a, true);
    answer_free(&a);
    /* One that was pushed has left no code behind. */
    cJSON_Delete(stage_job(&rig, "{\"id\":\"pushed-first\",\"code\":\"1\"}"));
    expect_ok(API "execute", "{\"code\":\"2\",\"id\":\"pushed-first\"}", &a);
    expect_duplicate(&a, false);
    answer_free(&a);
}

static void a_batch_counts_up_to_its_end(void **state)
{
    struct answer a;
    char path[160];
    int64_t until = clock_ms() + RIG_WAIT_MS;

    (void)state;
    ask(&a, API "batch",
        "{\"jobs\":[{\"code\":\"1\"},{\"code\":\"1/0\"},{\"code\":\"2\"}]}");
    web_expect(&a, 202);
    assert_int_equal(cJSON_GetArraySize(stage_at(a.json, "job_ids")), 3);
    snprintf(path, sizeof(path), API "batch/%s",
             stage_text(a.json, "batch_id"));
    answer_free(&a);
    for (;;) {
        bool done;

        expect_ok(path, NULL, &a);
        done = !strcmp(stage_text(a.json, "status"), "completed");
        if (done || clock_ms() > until)
            break;
        answer_free(&a);
        usleep(20000);
    }
    assert_int_equal((int)stage_number(a.json, "total"), 3);
    assert_int_equal((int)stage_number(a.json, "done"), 3);
    assert_int_equal((int)stage_number(a.json, "succeeded"), 2);
    assert_int_equal((int)stage_number(a.json, "failed"), 1);
    answer_free(&a);
}

/* One by one, over HTTP or pushed bare, into one of their own or another. */
static void jobs_that_name_a_batch_count_towards_it(void **state)
{
    static const char *const bodies[] = {
        "{\"code\":\"1\",\"batch_id\":\"mine\"}",
        "{\"code\":\"1/0\",\"batch_id\":\"mine\"}"};
    struct answer a;

    (void)state;
    for (int i = 0; i < 2; i++) {
        expect_ok(API "execute", bodies[i], &a);
        answer_free(&a);
        expect_ok(API "batch/mine", NULL, &a);
        stage_expect(a.json, "status", "completed");
        assert_int_equal((int)stage_number(a.json, "total"), i + 1);
        assert_int_equal((int)stage_number(a.json, "done"), i + 1);
        answer_free(&a);
    }
    cJSON_Delete(stage_job(&rig, "{\"id\":\"bare-in-batch\",\"code\":\"1\","
                                 "\"batch_id\":\"bare\"}"));
    expect_ok(API "batch/bare", NULL, &a);
    stage_expect(a.json, "status", "running");
    assert_true(cJSON_IsNull(stage_at(a.json, "total")));
    assert_int_equal((int)stage_number(a.json, "done"), 1);
    answer_free(&a);
}

static void what_is_wrong_with_a_job_is_named(void **state)
{
    static const struct {
        const char *path, *body;
        long status;
        const char *code, *field;
    } wrong[] = {
        {API "execute", "", 400, "invalid_json", NULL},
        {API "execute", "{\"code\":", 400, "invalid_json", NULL},
        {API "execute", "{\"code\":\"1\"}}", 400, "invalid_json", NULL},
        {API "execute", "{'code':1}", 400, "invalid_json", NULL},
        {API "execute", "[]", 422, "invalid_field", NULL},
        {API "execute", "null", 422, "invalid_field", NULL},
        {API "execute", "{}", 422, "invalid_field", "code"},
        {API "execute", "{\"code\":1}", 422, "invalid_field", "code"},
        {API "execute", "{\"code\":\"a\\u0000b\"}", 422, "invalid_field",
         "code"},
        {API "execute", "{\"code\":\"1\",\"id\":\"a b\"}", 422, "invalid_field",
         "id"},
        {API "execute", "{\"code\":\"1\",\"async\":1}", 422, "invalid_field",
         "async"},
        {API "execute", "{\"code\":\"1\",\"queue\":\"nope\"}", 422,
         "invalid_field", "queue"},
        {API "execute", "{\"code\":\"1\",\"code\":\"2\"}", 422, "invalid_field",
         "code"},
        {API "execute", "{\"code\":\"1\",\"timeout\":1e999}", 422,
         "invalid_field", NULL},
        {API "dynamic", "{\"code\":\"1\",\"requirements\":[]}", 422,
         "invalid_field", "requirements"},
        {API "execute",
         "{\"code\":\"1\",\"files\":[{\"path\":\"../x\",\"content\":\"\"}]}",
         422, "invalid_field", "files[0].path"},
        {API "batch", "{}", 422, "invalid_field", "jobs"},
        {API "batch", "{\"jobs\":{}}", 422, "invalid_field", "jobs"},
        {API "batch", "{\"jobs\":[]}", 422, "invalid_field", "jobs"},
        {API "batch", "{\"jobs\":[{\"code\":\"1\"},{\"code\":2}]}", 422,
         "invalid_field", "jobs[1].code"},
        {API "batch", "{\"jobs\":[{\"code\":\"1\"},3]}", 422, "invalid_field",
         "jobs[1]"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        struct answer a;

        ask(&a, wrong[i].path, wrong[i].body);
        web_expect_error(&a, wrong[i].status, wrong[i].code, wrong[i].field);
        answer_free(&a);
    }
    assert_int_equal(rig_number(&rig, "LLEN", "{capibox}:queue:default", NULL),
                     0);
}

static void a_full_queue_turns_jobs_away(void **state)
{
    struct web small = {0};
    struct answer a;
    char after[256];

    (void)state;
    web_start(&rig, &small,
              (const char *[]){"CAPIBOX_API_QUEUE_MAX=1",
                               "CAPIBOX_QUEUES=unserved", NULL});
    for (int i = 0; i < 2; i++) {
        web_ask(&small, &a, "POST", API "execute",
                "{\"code\":\"1\",\"async\":true,\"queue\":\"unserved\"}", NULL);
        web_expect(&a, i == 0 ? 202 : 503);
        if (i == 1) {
            web_expect_error(&a, 503, "queue_full", "queue");
            assert_string_equal(answer_header(&a, "Retry-After", after), "1");
        }
        answer_free(&a);
    }
    assert_int_equal(web_stop(&small), 0);
    rig_number(&rig, "DEL", "{capibox}:queue:unserved", NULL);
}

/* Of what was turned away nobody shall wait for a result. */
static void a_batch_is_told_which_jobs_the_queue_had_room_for(void **state)
{
    struct web small = {0};
    struct answer a;

    (void)state;
    web_start(&rig, &small,
              (const char *[]){"CAPIBOX_API_QUEUE_MAX=1",
                               "CAPIBOX_QUEUES=unserved", NULL});
    web_ask(&small, &a, "POST", API "batch",
            "{\"jobs\":["
            "{\"id\":\"fits\",\"code\":\"1\",\"queue\":\"unserved\"},"
            "{\"id\":\"over\",\"code\":\"1\",\"queue\":\"unserved\"}]}",
            NULL);
    web_expect(&a, 202);
    stage_expect(a.json, "job_ids.0", "fits");
    assert_int_equal(cJSON_GetArraySize(stage_at(a.json, "job_ids")), 1);
    stage_expect(a.json, "rejected.0", "over");
    assert_int_equal((int)stage_number(a.json, "total"), 1);
    answer_free(&a);
    assert_int_equal(web_stop(&small), 0);
    rig_number(&rig, "DEL", "{capibox}:queue:unserved", "{capibox}:job:fits",
               NULL);
}

/* ---- files -------------------------------------------------------------- */

static void files_and_pictures_are_served_but_never_live(void **state)
{
    static const struct {
        const char *path, *type, *holds, *name;
    } files[] = {
        {"plot.png", "image/png", "\x89PNG", "inline; filename=\"plot.png\""},
        {"/home/user/plot.png", "image/png", "\x89PNG",
         "inline; filename=\"plot.png\""},
        {"page.html", "text/html; charset=utf-8", "<script>",
         "inline; filename=\"page.html\""},
        {"sub/a%20b.txt", "text/plain; charset=utf-8", "text",
         "inline; filename=\"a_b.txt\"; filename*=UTF-8''a%20b.txt"},
        {"sub/%C3%A9%22%27%25.txt", "text/plain; charset=utf-8", "odd",
         "inline; filename=\"___'_.txt\"; "
         "filename*=UTF-8''%C3%A9%22%27%25.txt"},
        {"result-1.svg", "image/svg+xml", "<svg",
         "inline; filename=\"result-1.svg\""},
    };
    struct answer a;
    char path[160], text[256];

    (void)state;
    expect_ok(
        API "execute",
        "{\"id\":\"files\",\"code\":\"import os\\nos.mkdir('sub')\\n"
        "open('plot.png','wb').write(b'\\\\x89PNG\\\\r\\\\n\\\\x1a\\\\n')\\n"
        "open('page.html','w').write('<script>alert(1)</script>')\\n"
        "open('sub/a b.txt','w').write('text')\\n"
        "open('sub/\\u00e9\\\"\\\\x27%.txt','w').write('odd')\\n"
        "class S:\\n  def _repr_svg_(self): return '<svg></svg>'\\nS()\","
        "\"output_files\":[\"*.png\",\"page.html\",\"sub/*\"]}",
        &a);
    answer_free(&a);
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        snprintf(path, sizeof(path), API "jobs/files/files/%s", files[i].path);
        ask(&a, path, NULL);
        web_expect(&a, 200);
        assert_string_equal(answer_header(&a, "Content-Type", text),
                            files[i].type);
        assert_non_null(strstr(a.body, files[i].holds));
        assert_string_equal(answer_header(&a, "Content-Disposition", text),
                            files[i].name);
        answer_header(&a, "Content-Security-Policy", text);
        assert_int_equal(strncmp(text, "sandbox; default-src 'none'", 27), 0);
        assert_string_equal(answer_header(&a, "X-Content-Type-Options", text),
                            "nosniff");
        answer_free(&a);
    }
}

static void tricks_in_file_names_find_nothing(void **state)
{
    static const char *const tricks[] = {"../../../../etc/passwd",
                                         "..%2f..%2fetc%2fpasswd",
                                         "%2e%2e/x",
                                         "/etc/passwd",
                                         "plot.png%00.html",
                                         "%",
                                         "%zz",
                                         "./x",
                                         "a//b",
                                         "result-0.png",
                                         "result-99999999999.png",
                                         "result--1.png",
                                         "%c3%28",
                                         "..",
                                         "%5c..%5cx"};
    char path[4200];
    struct answer a;

    (void)state;
    expect_ok(API "execute", "{\"id\":\"tricks\",\"code\":\"1\"}", &a);
    answer_free(&a);
    for (size_t i = 0; i < sizeof(tricks) / sizeof(*tricks); i++) {
        snprintf(path, sizeof(path), API "jobs/tricks/files/%s", tricks[i]);
        ask(&a, path, NULL);
        if ((a.status != 404 && a.status != 400) || strstr(a.body, "root:"))
            fail_msg("%s: %ld %s", tricks[i], a.status, a.body);
        answer_free(&a);
    }
    memset(path, 'a', 4000);
    memcpy(path, API "jobs/tricks/files/", 30);
    path[4000] = '\0';
    ask(&a, path, NULL);
    assert_true(a.status >= 400 && a.status < 500);
    answer_free(&a);
}

/* ---- events ------------------------------------------------------------- */

/* Over a connection of its own. */
static int send_request(const char *head, const char *body)
{
    char text[600];
    int fd = web_connect(&web);
    int size = snprintf(text, sizeof(text),
                        "%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                        "application/json\r\nContent-Length: %zu\r\n\r\n%s",
                        head, strlen(body), body);

    assert_true(fd >= 0);
    assert_int_equal(send(fd, text, (size_t)size, MSG_NOSIGNAL), size);
    return fd;
}

struct reading {
    int fd;
    char text[8192];
    size_t size;
    const char *part;
};

static bool has_come(void *ctx)
{
    struct reading *r = ctx;
    ssize_t got = recv(r->fd, r->text + r->size, sizeof(r->text) - 1 - r->size,
                       MSG_DONTWAIT);

    r->size += got > 0 ? (size_t)got : 0;
    r->text[r->size] = '\0';
    return strstr(r->text, r->part) != NULL;
}

/* The job's first line is there while it cannot have come to its second. */
static void expect_first_line(const char *events)
{
    struct reading r = {.fd = send_request(events, ""), .part = "\"one"};

    assert_true(wait_until(has_come, &r, RIG_WAIT_MS));
    assert_null(strstr(r.text, "\"two"));
    close(r.fd);
}

static void
events_come_as_they_happen_and_go_on_where_they_broke_off(void **state)
{
    struct answer a;
    char text[256], id[64];
    const char *at;

    (void)state;
    ask(&a, API "execute",
        "{\"id\":\"ev\",\"stream\":true,\"async\":true,\"code\":\"print("
        "'one',flush=True)\\n" HOLD "\\nprint('two',flush=True)\"}");
    web_expect(&a, 202);
    answer_free(&a);
    expect_first_line("GET " API "jobs/ev/events");
    household_wake_one(worker.pid);
    ask(&a, API "jobs/ev/events", NULL);
    web_expect(&a, 200);
    assert_string_equal(answer_header(&a, "Content-Type", text),
                        "text/event-stream");
    at = strstr(a.body, "\"one");
    assert_non_null(at);
    assert_non_null(strstr(at, "\"two"));
    assert_non_null(strstr(at, "event: end\ndata: {\"verdict\":\"ok\"}\n\n"));
    /* The id in front of "one": what comes after it is "two" and the end. */
    while (at > a.body && strncmp(at, "id: ", 4) != 0)
        at--;
    snprintf(id, sizeof(id), "Last-Event-ID: %.*s", (int)strcspn(at + 4, "\n"),
             at + 4);
    answer_free(&a);
    web_ask(&web, &a, "GET", API "jobs/ev/events", NULL, id, NULL);
    assert_null(strstr(a.body, "\"one"));
    assert_non_null(strstr(a.body, "\"two"));
    answer_free(&a);
    web_ask(&web, &a, "GET", API "jobs/ev/events", NULL, "Last-Event-ID: x",
            NULL);
    web_expect_error(&a, 400, "invalid_event_id", NULL);
    answer_free(&a);
}

static void a_job_that_does_not_stream_has_its_end(void **state)
{
    struct answer a;

    (void)state;
    ask(&a, API "execute",
        "{\"id\":\"quiet\",\"async\":true,\"code\":\"import time; "
        "time.sleep(0.5)\"}");
    answer_free(&a);
    ask(&a, API "jobs/quiet/events", NULL);
    web_expect(&a, 200);
    assert_string_equal(a.body, "event: end\ndata: {\"verdict\":\"ok\"}\n\n");
    answer_free(&a);
    ask(&a, API "jobs/nobody/events", NULL);
    web_expect_error(&a, 404, "no_such_job", NULL);
    answer_free(&a);
}

/* ---- cancelling --------------------------------------------------------- */

static void a_running_job_is_cancelled(void **state)
{
    struct web_call call = {.web = &web,
                            .method = "POST",
                            .path = API "execute",
                            .body = "{\"id\":\"cancel-me\",\"code\":\"import "
                                    "time; time.sleep(60)\"}"};
    struct answer a;

    (void)state;
    web_begin(&call);
    assert_true(
        wait_until(is_running, (void *)(uintptr_t) "cancel-me", RIG_WAIT_MS));
    web_ask(&web, &a, "DELETE", API "jobs/cancel-me", NULL, NULL);
    assert_true(a.status == 200 || a.status == 202);
    answer_free(&a);
    web_wait(&call);
    web_expect(&call.answer, 200);
    stage_expect(call.answer.json, "verdict", "cancelled");
    answer_free(&call.answer);
    web_ask(&web, &a, "DELETE", API "jobs/cancel-me", NULL, NULL);
    web_expect(&a, 200);
    answer_free(&a);
    web_ask(&web, &a, "DELETE", API "jobs/never-was", NULL, NULL);
    web_expect_error(&a, 404, "no_such_job", NULL);
    answer_free(&a);
    web_ask(&web, &a, "DELETE", API "jobs/once", NULL, NULL);
    web_expect_error(&a, 409, "already_ended", NULL);
    answer_free(&a);
}

static void run_until_given_up(const char *id, const char *member)
{
    char body[256];
    int fd;

    snprintf(body, sizeof(body), "{\"id\":\"%s\",\"code\":\"" HOLD "\"%s}", id,
             member);
    fd = send_request("POST " API "execute", body);
    expect_running(id);
    close(fd);
}

static void who_leaves_takes_the_job_along_only_if_they_said_so(void **state)
{
    (void)state;
    run_until_given_up("left-on", "");
    run_until_given_up("left-off", ",\"cancel_on_disconnect\":true");
    expect_end("left-off", "cancelled");
    household_wake_one(worker.pid);
    expect_end("left-on", "ok");
}

/* ---- figures ------------------------------------------------------------ */

static void stats_say_what_the_hashes_say(void **state)
{
    static const char *const fields[] = {
        "total_executions", "successful_executions", "failed_executions",
        "sandbox_created"};
    struct answer a;
    double runs, time;
    char text[64];

    (void)state;
    expect_ok(API "stats", NULL, &a);
    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
        snprintf(text, sizeof(text), "stats.%s", fields[i]);
        assert_int_equal((int)stage_number(a.json, text),
                         (int)rig_stat(&rig, fields[i]));
    }
    runs = stage_number(a.json, "stats.total_executions");
    time = stage_number(a.json, "stats.total_execution_time");
    assert_true(runs > 5 && time > 0);
    assert_true(stage_number(a.json, "average_execution_time") - time / runs <
                1e-5);
    assert_true(stage_number(a.json, "success_rate") -
                    100 * stage_number(a.json, "stats.successful_executions") /
                        runs <
                0.001);
    assert_int_equal(
        cJSON_GetArraySize(stage_at(a.json, "templates_available")), 5);
    assert_int_equal((int)stage_number(a.json, "verdicts.ok"),
                     (int)stage_number(a.json, "stats.successful_executions"));
    assert_true(stage_number(a.json, "max_concurrent_sandboxes") >= 1);
    assert_true(stage_number(a.json, "active_sandboxes") >= 0);
    assert_true(stage_number(a.json, "latency.p99") >=
                stage_number(a.json, "latency.p50"));
    assert_int_equal(cJSON_GetArraySize(stage_at(a.json, "workers")), 1);
    assert_true(cJSON_GetArraySize(stage_at(a.json, "per_minute")) >= 1);
    assert_true(stage_number(a.json, "per_template.default.total_executions") >=
                1);
    answer_free(&a);
}

/* The queue of that name in GET stats, asked now; answer_free() frees it. */
static const cJSON *queue_now(const char *name, struct answer *a)
{
    const cJSON *queue;

    expect_ok(API "stats", NULL, a);
    cJSON_ArrayForEach(queue, stage_at(a->json, "queues"))
    {
        if (!strcmp(stage_text(queue, "name"), name))
            return queue;
    }
    return NULL;
}

/* Nobody serves it, so it is found by looking, once in SNAPSHOT_SCAN_MS. */
static void a_queue_shows_its_depth_and_its_age(void **state)
{
    struct answer a;
    const cJSON *queue;
    int64_t until = clock_ms() + 8 * SNAPSHOT_SCAN_MS; /* a busy machine's */

    (void)state;
    rig_push(&rig, "forgotten", "{\"code\":\"1\"}");
    while (!(queue = queue_now("forgotten", &a))) {
        answer_free(&a);
        assert_true(clock_ms() < until);
        usleep(20000);
    }
    assert_int_equal((int)stage_number(queue, "depth"), 1);
    assert_int_equal((int)stage_number(queue, "served_by"), 0);
    assert_true(cJSON_IsNull(stage_at(queue, "oldest_age")));
    answer_free(&a);
    rig_number(&rig, "DEL", "{capibox}:queue:forgotten", NULL);
    queue_now("forgotten", &a);
    answer_free(&a);
    assert_null(queue_now("forgotten", &a));
    answer_free(&a);
}

static void stats_say_when_the_queues_are_paused(void **state)
{
    struct answer a;

    (void)state;
    for (int paused = 1; paused >= 0; paused--) {
        rig_number(&rig, "HSET", "{capibox}:conf", "paused", paused ? "1" : "0",
                   NULL);
        expect_ok(API "stats", NULL, &a);
        assert_int_equal(cJSON_IsTrue(stage_at(a.json, "paused")), paused);
        answer_free(&a);
    }
    rig_number(&rig, "HDEL", "{capibox}:conf", "paused", NULL);
}

static void metrics_have_both_families_and_please_promtool(void **state)
{
    static const char *const names[] = {
        "capibara6_e2b_executions_total{language=\"python\",status="
        "\"success\"} ",
        "capibara6_e2b_execution_duration_seconds_bucket{language=\"python\","
        "le=\"+Inf\"} ",
        "capibara6_e2b_sandbox_count{language=\"python\"} ",
        "capibox_queue_depth{queue=\"default\"} 0",
        "capibox_jobs_ended_total{verdict=\"ok\"} ",
        "capibox_workers 1",
    };
    const char *argv[] = {"promtool", "check", "metrics", NULL};
    AUTO_FREE char *out = NULL, *err = NULL;
    struct answer a;
    long long count;

    (void)state;
    ask(&a, "/metrics", NULL);
    web_expect(&a, 200);
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (!strstr(a.body, names[i]))
            fail_msg("no %s in:\n%s", names[i], a.body);
    count = atoll(strstr(a.body, names[0]) + strlen(names[0]));
    assert_true(count >= 1);
    char field[] = "language:python:successful_executions";
    assert_int_equal(count, rig_stat(&rig, field));
    if (access("/usr/bin/promtool", X_OK) < 0) {
        printf("SKIP: there is no promtool\n");
        answer_free(&a);
        return;
    }
    proc_run(&(struct proc_start){.argv = argv, .stdin_text = a.body},
             RIG_WAIT_MS, &out, &err);
    /* The one name it would not choose is capibara6's. */
    assert_string_equal(out, "");
    if (*err)
        assert_string_equal(
            err, "capibara6_e2b_sandbox_count non-histogram and non-summary "
                 "metrics should not have \"_count\" suffix\n");
    answer_free(&a);
}

static void health_runs_a_job(void **state)
{
    struct answer a;

    (void)state;
    expect_ok(API "health", NULL, &a);
    stage_expect(a.json, "status", "healthy");
    stage_expect(a.json, "test_execution.verdict", "ok");
    assert_true(stage_number(a.json, "stats.stats.total_executions") >= 1);
    assert_non_null(stage_text(a.json, "timestamp"));
    answer_free(&a);
    expect_ok("/api/e2b/health", NULL, &a);
    answer_free(&a);
    expect_ok("/health", NULL, &a);
    answer_free(&a);
}

static void templates_are_listed(void **state)
{
    struct answer a;

    (void)state;
    expect_ok(API "templates", NULL, &a);
    assert_int_equal(cJSON_GetArraySize(a.json), 5);
    assert_non_null(stage_text(a.json, "0.config.template_name"));
    answer_free(&a);
}

static void jobs_that_ended_last_are_listed(void **state)
{
    struct answer a;

    (void)state;
    expect_ok(API "execute", "{\"id\":\"last-one\",\"code\":\"1\"}", &a);
    answer_free(&a);
    expect_ok(API "jobs?limit=3", NULL, &a);
    assert_int_equal(cJSON_GetArraySize(stage_at(a.json, "jobs")), 3);
    stage_expect(a.json, "jobs.0.job_id", "last-one");
    stage_expect(a.json, "jobs.0.status", "succeeded");
    answer_free(&a);
    ask(&a, API "jobs?limit=0", NULL);
    web_expect_error(&a, 400, "invalid_query", "limit");
    answer_free(&a);
}

static void the_dead_are_listed_retried_and_dropped(void **state)
{
    struct answer a;

    (void)state;
    rig_push(&rig, "default",
             "{\"id\":\"no-good\",\"code\":\"1\","
             "\"template\":\"nope\"}");
    expect_end("no-good", "rejected");
    expect_ok(API "dead?limit=5", NULL, &a);
    assert_int_equal((int)stage_number(a.json, "total"), 1);
    stage_expect(a.json, "dead.0.job_id", "no-good");
    answer_free(&a);
    expect_ok(API "dead/no-good", NULL, &a);
    stage_expect_part(a.json, "text", "\"nope\"");
    answer_free(&a);
    web_ask(&web, &a, "POST", API "dead/no-good/retry", NULL, NULL);
    web_expect(&a, 200);
    stage_expect(a.json, "status", "queued");
    answer_free(&a);
    expect_end("no-good", "rejected");
    web_ask(&web, &a, "DELETE", API "dead/no-good", NULL, NULL);
    web_expect(&a, 200);
    answer_free(&a);
    web_ask(&web, &a, "DELETE", API "dead/no-good", NULL, NULL);
    web_expect_error(&a, 404, "no_such_job", NULL);
    answer_free(&a);
}

/* ---- paths, methods, bodies --------------------------------------------- */

static void unknown_paths_and_methods_are_refused(void **state)
{
    static const struct {
        const char *method, *path;
        long status;
        const char *allow;
    } asked[] = {
        {"GET", "/nope", 404, ""},
        {"GET", "/..", 404, ""},
        {"GET", "//", 404, ""},
        {"GET", "/index.html", 404, ""},
        {"GET", "/%2e%2e/etc/passwd", 404, ""},
        {"GET", API "jobs/a/b", 404, ""},
        {"GET", API "jobs/%00", 400, ""},
        {"GET", API "jobs/nobody", 404, ""},
        {"GET", API "batch/nobody", 404, ""},
        {"GET", API "execute", 405, "POST"},
        {"PUT", API "stats", 405, "GET, HEAD"},
        {"PATCH", API "jobs/x", 405, "GET, HEAD, DELETE"},
        {"BREW", "/", 405, "GET, HEAD"},
        {"HEAD", "/health", 200, ""},
        {"OPTIONS", API "execute", 204, "POST"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(asked) / sizeof(*asked); i++) {
        struct answer a;
        char allow[256];

        web_ask(&web, &a, asked[i].method, asked[i].path, NULL, NULL);
        web_expect(&a, asked[i].status);
        assert_string_equal(answer_header(&a, "Allow", allow), asked[i].allow);
        if (asked[i].status >= 400)
            assert_non_null(stage_text(a.json, "error.code"));
        answer_free(&a);
    }
}

static void a_body_must_be_json_and_of_a_size(void **state)
{
    static const char *const types[] = {
        "Content-Type: text/plain", "Content-Type: application/jsonx",
        "Content-Type: application/x-www-form-urlencoded", "Content-Type:"};
    size_t size = (5u << 20);
    AUTO_FREE char *body = malloc(size + 1);
    struct answer a;

    (void)state;
    for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
        web_ask(&web, &a, "POST", API "execute", "{\"code\":\"1\"}", types[i],
                NULL);
        web_expect_error(&a, 415, "unsupported_media_type", NULL);
        answer_free(&a);
    }
    web_ask(&web, &a, "POST", API "execute", "{\"code\":\"1\"}",
            "Content-Type: application/json; charset=utf-8", NULL);
    web_expect(&a, 200);
    answer_free(&a);
    memset(body, ' ', size);
    body[size] = '\0';
    ask(&a, API "execute", body);
    web_expect_error(&a, 413, "too_large", NULL);
    answer_free(&a);
    web_ask(&web, &a, "POST", API "execute", body, "Transfer-Encoding: chunked",
            NULL);
    web_expect_error(&a, 413, "too_large", NULL);
    answer_free(&a);
    /* Nor is a refusal lost because it came before the end of the body. */
    web_ask(&web, &a, "POST", API "nope", body, NULL);
    web_expect_error(&a, 404, "not_found", NULL);
    answer_free(&a);
    web_ask(&web, &a, "POST", API "execute", body, "Content-Type: text/plain",
            NULL);
    web_expect_error(&a, 415, "unsupported_media_type", NULL);
    answer_free(&a);
}

static void a_job_may_be_as_large_as_the_limit_says(void **state)
{
    static const char front[] = "{\"code\":\"1\",\"metadata\":{\"x\":\"";
    static const char end[] = "\"}}";
    AUTO_FREE char *body = malloc(JOB_BYTES_MAX + 2);

    (void)state;
    MUST(body);
    for (size_t size = JOB_BYTES_MAX; size <= JOB_BYTES_MAX + 1; size++) {
        struct answer a;

        memset(body, 'x', size);
        memcpy(body, front, sizeof(front) - 1);
        memcpy(body + size - sizeof(end) + 1, end, sizeof(end));
        ask(&a, API "execute", body);
        if (size > JOB_BYTES_MAX)
            web_expect_error(&a, 413, "too_large", NULL);
        else
            stage_expect(a.json, "verdict", "ok");
        answer_free(&a);
    }
}

static void a_body_that_was_packed_is_refused(void **state)
{
    static const struct {
        const char *one, *two;
        long status;
    } sent[] = {
        {"Content-Encoding: identity", NULL, 202},
        {"Content-Encoding: gzip", NULL, 415},
        {"Content-Encoding: Identity ", "Content-Encoding: br", 415},
        {"Content-Encoding: identity, gzip", NULL, 415},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(sent) / sizeof(*sent); i++) {
        struct answer a;

        web_ask(&web, &a, "POST", API "execute",
                "{\"code\":\"1\",\"async\":true}", sent[i].one, sent[i].two,
                NULL);
        web_expect(&a, sent[i].status);
        if (sent[i].status == 415)
            web_expect_error(&a, 415, "unsupported_encoding",
                             "Content-Encoding");
        answer_free(&a);
    }
}

/* ---- pages -------------------------------------------------------------- */

static void pages_allow_no_script_but_their_own(void **state)
{
    static const char *const pages[] = {"/", "/app.js", "/style.css"};

    (void)state;
    for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++) {
        struct answer a;
        char text[256], match[300];

        ask(&a, pages[i], NULL);
        web_expect(&a, 200);
        assert_true(a.size > 0);
        answer_header(&a, "Content-Security-Policy", text);
        assert_int_equal(
            strncmp(text, "default-src 'none'; script-src 'self';", 38), 0);
        assert_null(strstr(text, "unsafe"));
        if (i == 0) {
            assert_null(strstr(a.body, "<script>"));
            assert_null(strstr(a.body, "<style"));
            assert_null(strstr(a.body, " onclick="));
        }
        answer_header(&a, "ETag", text);
        snprintf(match, sizeof(match), "If-None-Match: %s", text);
        answer_free(&a);
        web_ask(&web, &a, "GET", pages[i], NULL, match, NULL);
        web_expect(&a, 304);
        assert_int_equal((int)a.size, 0);
        answer_free(&a);
    }
}

static void pages_of_others_are_kept_out(void **state)
{
    static const char JOB[] = "{\"code\":\"1\"}";
    struct web listed = {0};
    struct answer a;
    char text[256];

    (void)state;
    web_ask(&web, &a, "POST", API "execute", JOB, "Origin: https://evil.test",
            NULL);
    web_expect_error(&a, 403, "origin_not_allowed", NULL);
    assert_string_equal(answer_header(&a, "Access-Control-Allow-Origin", text),
                        "");
    answer_free(&a);
    web_ask(&web, &a, "GET", API "stats", NULL, "Host: evil.test", NULL);
    web_expect_error(&a, 421, "wrong_host", NULL);
    answer_free(&a);
    web_ask(&web, &a, "GET", API "stats", NULL, "Host: localhost:99", NULL);
    web_expect(&a, 200);
    answer_free(&a);
    web_start(&rig, &listed,
              (const char *[]){"CAPIBOX_API_ORIGINS=https://a.test,"
                               "https://b.test",
                               NULL});
    web_ask(&listed, &a, "POST", API "execute", JOB, "Origin: https://b.test",
            NULL);
    web_expect(&a, 200);
    assert_string_equal(answer_header(&a, "Access-Control-Allow-Origin", text),
                        "https://b.test");
    answer_free(&a);
    web_ask(&listed, &a, "OPTIONS", API "execute", NULL,
            "Origin: https://a.test", "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: content-type", NULL);
    web_expect(&a, 204);
    assert_string_equal(answer_header(&a, "Access-Control-Allow-Methods", text),
                        "POST");
    answer_header(&a, "Access-Control-Allow-Headers", text);
    assert_non_null(strstr(text, "Content-Type"));
    answer_free(&a);
    web_ask(&listed, &a, "POST", API "execute", JOB, "Origin: https://c.test",
            NULL);
    web_expect_error(&a, 403, "origin_not_allowed", NULL);
    answer_free(&a);
    assert_int_equal(web_stop(&listed), 0);
}

/* ---- keys --------------------------------------------------------------- */

static char keys_file[300];

static void write_keys(const char *text)
{
    FILE *file;

    snprintf(keys_file, sizeof(keys_file), "%s/keys", rig.server.dir);
    file = fopen(keys_file, "w");
    MUST(file);
    fputs(text, file);
    fclose(file);
    chmod(keys_file, 0600);
}

static void start_keyed(struct web *keyed, const char *more)
{
    char setting[400];

    snprintf(setting, sizeof(setting), "CAPIBOX_API_KEYS=%s", keys_file);
    web_start(&rig, keyed, (const char *[]){setting, more, NULL});
}

static long status_of(struct web *w, const char *method, const char *path,
                      const char *header)
{
    struct answer a;
    long status;

    web_ask(w, &a, method, path, NULL, header, NULL);
    status = a.status;
    answer_free(&a);
    return status;
}

static long status_with(struct web *w, const char *header, const char *path)
{
    return status_of(w, "GET", path, header);
}

static void a_key_is_needed_where_keys_are_set(void **state)
{
    static const char *const wrong[] = {
        NULL,
        "X-API-Key: ",
        "X-API-Key: alice",
        "X-API-Key: " ALICE "x",
        "Authorization: " ALICE,
        "Authorization: Basic " ALICE,
        "Authorization: Bearer wrong-key-0123456789"};
    struct web keyed = {0};
    struct answer a;
    char text[256];

    (void)state;
    write_keys("# who may\nalice:" ALICE "\n\nbob:" BOB "\n");
    start_keyed(&keyed, NULL);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        web_ask(&keyed, &a, "GET", API "stats", NULL, wrong[i], NULL);
        web_expect_error(&a, 401, "unauthorized", NULL);
        assert_string_equal(answer_header(&a, "WWW-Authenticate", text),
                            "Bearer");
        answer_free(&a);
    }
    assert_int_equal(status_with(&keyed, "X-API-Key: " ALICE, API "stats"),
                     200);
    assert_int_equal(
        status_with(&keyed, "Authorization: Bearer " BOB, "/metrics"), 200);
    /* Space behind a value is no part of it. */
    assert_int_equal(status_with(&keyed, "X-API-Key: " ALICE " \t", "/metrics"),
                     200);
    assert_int_equal(
        status_with(&keyed, "Authorization: Bearer  " BOB " ", "/metrics"),
        200);
    assert_int_equal(status_with(&keyed, NULL, "/health"), 200);
    assert_int_equal(status_with(&keyed, NULL, "/"), 200);
    AUTO_FREE char *said = proc_err(&keyed.proc);
    assert_null(strstr(said, ALICE));
    assert_int_equal(web_stop(&keyed), 0);
}

static void a_key_sees_its_own_jobs_only(void **state)
{
    static const char A[] = "X-API-Key: " ALICE, B[] = "X-API-Key: " BOB;
    struct web keyed = {0};
    struct answer a;

    (void)state;
    write_keys("alice:" ALICE "\nbob:" BOB "\n");
    start_keyed(&keyed, NULL);
    web_ask(&keyed, &a, "POST", API "execute",
            "{\"id\":\"hers\",\"code\":\"1\",\"tenant\":\"bob\"}", A, NULL);
    web_expect(&a, 200);
    answer_free(&a);
    assert_string_equal(rig_job(&rig, "hers", "tenant"), "alice");
    assert_int_equal(status_with(&keyed, A, API "jobs/hers"), 200);
    assert_int_equal(status_with(&keyed, B, API "jobs/hers"), 404);
    assert_int_equal(status_with(&keyed, B, API "jobs/hers/events"), 404);
    assert_int_equal(status_with(&keyed, B, API "jobs/hers/files/x"), 404);
    web_ask(&keyed, &a, "DELETE", API "jobs/hers", NULL, B, NULL);
    web_expect_error(&a, 404, "no_such_job", NULL);
    answer_free(&a);
    web_ask(&keyed, &a, "POST", API "execute",
            "{\"id\":\"hers\",\"code\":\"2\"}", B, NULL);
    web_expect_error(&a, 409, "id_taken", "id");
    answer_free(&a);
    web_ask(&keyed, &a, "POST", API "execute",
            "{\"id\":\"her-dead\",\"code\":\"2\",\"template\":\"nope\"}", A,
            NULL);
    web_expect(&a, 200);
    answer_free(&a);
    assert_int_equal(status_with(&keyed, B, API "dead/her-dead"), 404);
    assert_int_equal(status_with(&keyed, A, API "dead/her-dead"), 200);
    web_ask(&keyed, &a, "GET", API "dead", NULL, B, NULL);
    assert_null(strstr(a.body, "her-dead"));
    answer_free(&a);
    web_ask(&keyed, &a, "DELETE", API "dead/her-dead", NULL, B, NULL);
    web_expect_error(&a, 404, "no_such_job", NULL);
    answer_free(&a);
    web_ask(&keyed, &a, "POST", API "dead/her-dead/retry", NULL, A, NULL);
    web_expect(&a, 200);
    answer_free(&a);
    expect_end("her-dead", "rejected");
    assert_string_equal(rig_job(&rig, "her-dead", "tenant"), "alice");
    assert_int_equal(status_with(&keyed, B, API "jobs/her-dead"), 404);
    assert_int_equal(status_with(&keyed, A, API "jobs/her-dead"), 200);
    web_ask(&keyed, &a, "DELETE", API "dead/her-dead", NULL, A, NULL);
    web_expect(&a, 200);
    answer_free(&a);
    web_ask(&keyed, &a, "GET", API "jobs?limit=500", NULL, B, NULL);
    assert_null(strstr(a.body, "\"hers\""));
    answer_free(&a);
    assert_int_equal(web_stop(&keyed), 0);
}

/* A quiet tenant's last job, behind those of a busy one. */
static void jobs_of_others_take_no_place_in_the_list(void **state)
{
    static const char A[] = "X-API-Key: " ALICE, B[] = "X-API-Key: " BOB;
    struct web keyed = {0};
    struct answer a;

    (void)state;
    write_keys("alice:" ALICE "\nbob:" BOB "\n");
    start_keyed(&keyed, NULL);
    for (int i = 0; i < 130; i++) {
        char job[64];

        snprintf(job, sizeof(job), "{\"id\":\"%s%d\",\"code\":\"1\"}",
                 i < 2 ? "quiet-" : "busy-", i);
        web_ask(&keyed, &a, "POST", API "execute", job, i < 2 ? B : A, NULL);
        web_expect(&a, 200);
        answer_free(&a);
    }
    /* Each gateway notes each end, when it hears of it: this one has by now. */
    expect_ok(API "execute", "{\"code\":\"1\",\"tenant\":\"carol\"}", &a);
    answer_free(&a);
    web_ask(&keyed, &a, "GET", API "jobs?limit=1", NULL, B, NULL);
    web_expect(&a, 200);
    assert_int_equal(cJSON_GetArraySize(stage_at(a.json, "jobs")), 1);
    stage_expect(a.json, "jobs.0.job_id", "quiet-1");
    answer_free(&a);
    web_ask(&keyed, &a, "GET", API "jobs?limit=120", NULL, A, NULL);
    web_expect(&a, 200);
    assert_int_equal(cJSON_GetArraySize(stage_at(a.json, "jobs")), 120);
    stage_expect(a.json, "jobs.0.job_id", "busy-129");
    assert_null(strstr(a.body, "quiet-"));
    answer_free(&a);
    assert_int_equal(web_stop(&keyed), 0);
}

/* The later one stops hearing of ends, and then hears of all in one turn. */
static void jobs_are_in_order_though_a_gateway_hears_late_of_them(void **state)
{
    enum { JOBS = 11 }; /* not the order of the alphabet */
    struct web other = {0};
    struct answer a;
    char text[64];

    (void)state;
    web_start(&rig, &other, NULL);
    proc_signal(&other.proc, SIGSTOP);
    for (int i = 0; i < JOBS; i++) {
        snprintf(text, sizeof(text), "{\"id\":\"order-%d\",\"code\":\"1\"}", i);
        expect_ok(API "execute", text, &a);
        answer_free(&a);
    }
    proc_signal(&other.proc, SIGCONT);
    web_ask(&other, &a, "POST", API "execute",
            "{\"id\":\"order-11\",\"code\":\"1\"}", NULL);
    web_expect(&a, 200);
    answer_free(&a);
    web_ask(&other, &a, "GET", API "jobs?limit=12", NULL, NULL);
    web_expect(&a, 200);
    for (int i = 0; i <= JOBS; i++) {
        char path[32];

        snprintf(path, sizeof(path), "jobs.%d.job_id", i);
        snprintf(text, sizeof(text), "order-%d", JOBS - i);
        stage_expect(a.json, path, text);
    }
    answer_free(&a);
    assert_int_equal(web_stop(&other), 0);
}

static bool names(struct web *to, const char *key, const char *path,
                  const char *needle)
{
    struct answer a;
    bool found;

    web_ask(to, &a, "GET", path, NULL, key, NULL);
    web_expect(&a, 200);
    found = strstr(a.body, needle) != NULL;
    answer_free(&a);
    return found;
}

static void figures_name_no_job_of_somebody_elses(void **state)
{
    static const char A[] = "X-API-Key: " ALICE, B[] = "X-API-Key: " BOB;
    int64_t until = clock_ms() + RIG_WAIT_MS;
    struct web keyed = {0};
    struct answer a;

    (void)state;
    write_keys("alice:" ALICE "\nbob:" BOB "\n");
    start_keyed(&keyed, NULL);
    web_ask(&keyed, &a, "POST", API "execute",
            "{\"id\":\"her-run\",\"async\":true,\"code\":\"import time; "
            "time.sleep(60)\"}",
            A, NULL);
    web_expect(&a, 202);
    answer_free(&a);
    while (!names(&web, NULL, API "stats", "\"her-run\""))
        assert_true(clock_ms() < until);
    assert_true(names(&keyed, A, API "stats", "\"her-run\""));
    assert_false(names(&keyed, B, API "stats", "\"her-run\""));
    assert_true(names(&keyed, B, API "stats", "\"running\":[]"));
    assert_false(names(&keyed, B, API "health", "\"her-run\""));
    assert_false(names(&keyed, B, API "jobs", "\"her-run\""));
    assert_false(names(&keyed, B, "/metrics", "her-run"));
    web_ask(&keyed, &a, "DELETE", API "jobs/her-run", NULL, A, NULL);
    assert_true(a.status == 200 || a.status == 202);
    answer_free(&a);
    expect_end("her-run", "cancelled");
    assert_int_equal(web_stop(&keyed), 0);
}

static void keys_are_replaced_without_a_restart(void **state)
{
    struct web keyed = {0};

    (void)state;
    write_keys("alice:" ALICE "\n");
    start_keyed(&keyed, NULL);
    write_keys("alice:" ALICE2 "\n");
    proc_signal(&keyed.proc, SIGHUP);
    assert_true(proc_says(&keyed.proc, "keys read again", RIG_WAIT_MS));
    assert_int_equal(status_with(&keyed, "X-API-Key: " ALICE, API "stats"),
                     401);
    assert_int_equal(status_with(&keyed, "X-API-Key: " ALICE2, API "stats"),
                     200);
    write_keys("alice " ALICE "\n");
    proc_signal(&keyed.proc, SIGHUP);
    assert_true(
        proc_says(&keyed.proc, "the keys stay as they were", RIG_WAIT_MS));
    assert_int_equal(status_with(&keyed, "X-API-Key: " ALICE2, API "stats"),
                     200);
    assert_int_equal(web_stop(&keyed), 0);
}

static void a_key_that_two_names_have_is_not_taken(void **state)
{
    AUTO_FREE char *said = NULL;
    struct web keyed = {0};

    (void)state;
    write_keys("alice:" ALICE "\n");
    start_keyed(&keyed, NULL);
    write_keys("bob:" BOB "\nalice:" BOB "\n");
    proc_signal(&keyed.proc, SIGHUP);
    assert_true(
        proc_says(&keyed.proc, "alice has the same key as bob", RIG_WAIT_MS));
    assert_int_equal(status_with(&keyed, "X-API-Key: " BOB, API "stats"), 401);
    assert_int_equal(status_with(&keyed, "X-API-Key: " ALICE, API "stats"),
                     200);
    said = proc_err(&keyed.proc);
    assert_null(strstr(said, BOB));
    assert_int_equal(web_stop(&keyed), 0);
}

#define RATE 3 /* a second */

/* As many as a second may have, and one more. False if that took so long that
 * the next one was due. */
static bool one_is_too_many(void *ctx)
{
    static const char A[] = "X-API-Key: " ALICE;
    int64_t began = clock_ms();
    struct answer a;
    char after[256];
    bool in_time;

    for (int i = 0; i < RATE; i++)
        assert_int_equal(status_with(ctx, A, API "templates"), 200);
    web_ask(ctx, &a, "GET", API "templates", NULL, A, NULL);
    in_time = clock_ms() - began < 1000 / RATE;
    if (in_time) {
        web_expect_error(&a, 429, "rate_limited", NULL);
        assert_string_equal(answer_header(&a, "Retry-After", after), "1");
    }
    answer_free(&a);
    if (!in_time)
        usleep(1000000); /* so long it takes until there is room for all */
    return in_time;
}

static void a_key_has_its_rate(void **state)
{
    struct web keyed = {0};

    (void)state;
    write_keys("alice:" ALICE "\nbob:" BOB "\n");
    start_keyed(&keyed, "CAPIBOX_API_RATE=3");
    assert_true(wait_until(one_is_too_many, &keyed, 2 * RIG_WAIT_MS));
    assert_int_equal(status_with(&keyed, "X-API-Key: " BOB, API "templates"),
                     200);
    assert_int_equal(web_stop(&keyed), 0);
}

/* The message of the end goes to all gateways, and to each at its time. */
static bool takes_a_job(void *ctx)
{
    struct answer a;
    bool taken;

    web_ask(ctx, &a, "POST", API "execute", "{\"code\":\"1\"}",
            "X-API-Key: " ALICE, NULL);
    taken = a.status != 429;
    if (taken)
        web_expect(&a, 200);
    answer_free(&a);
    return taken;
}

static void a_key_has_its_number_of_jobs(void **state)
{
    static const char A[] = "X-API-Key: " ALICE;
    struct web keyed = {0};
    struct answer a;
    char after[256];

    (void)state;
    write_keys("alice:" ALICE "\nbob:" BOB "\n");
    start_keyed(&keyed, "CAPIBOX_API_JOBS_PER_KEY=1");
    web_ask(&keyed, &a, "POST", API "execute",
            "{\"id\":\"slot\",\"async\":true,\"code\":\"" HOLD "\"}", A, NULL);
    web_expect(&a, 202);
    answer_free(&a);
    web_ask(&keyed, &a, "POST", API "execute", "{\"code\":\"1\"}", A, NULL);
    web_expect_error(&a, 429, "too_many_jobs", NULL);
    assert_string_equal(answer_header(&a, "Retry-After", after), "1");
    answer_free(&a);
    web_ask(&keyed, &a, "POST", API "batch", "{\"jobs\":[{\"code\":\"1\"}]}", A,
            NULL);
    web_expect_error(&a, 429, "too_many_jobs", "jobs");
    answer_free(&a);
    /* Of no use to try again. */
    web_ask(&keyed, &a, "POST", API "batch",
            "{\"jobs\":[{\"code\":\"1\"},{\"code\":\"2\"}]}", A, NULL);
    web_expect_error(&a, 413, "batch_too_large", "jobs");
    stage_expect_part(a.json, "error.message", "2 jobs; this key may have 1");
    assert_string_equal(answer_header(&a, "Retry-After", after), "");
    answer_free(&a);
    household_wake_one(worker.pid);
    expect_end("slot", "ok");
    assert_true(wait_until(takes_a_job, &keyed, RIG_WAIT_MS));
    assert_int_equal(web_stop(&keyed), 0);
}

static void a_pushed_job_is_the_tenants_it_names(void **state)
{
    static const char A[] = "X-API-Key: " ALICE, B[] = "X-API-Key: " BOB;
    int64_t until = clock_ms() + RIG_WAIT_MS;
    struct web keyed = {0};

    (void)state;
    write_keys("alice:" ALICE "\nbob:" BOB "\n");
    start_keyed(&keyed, NULL);
    rig_push(&rig, "default",
             "{\"id\":\"pushed\",\"tenant\":\"alice\",\"code\":\"1\"}");
    expect_end("pushed", "ok");
    assert_int_equal(status_with(&keyed, B, API "jobs/pushed"), 404);
    assert_int_equal(status_with(&keyed, A, API "jobs/pushed"), 200);

    rig_push(&rig, "default",
             "{\"id\":\"pushed-on\",\"tenant\":\"alice\",\"code\":\"import "
             "time; time.sleep(60)\"}");
    while (!names(&web, NULL, API "stats", "\"pushed-on\""))
        assert_true(clock_ms() < until);
    assert_int_equal(status_with(&keyed, B, API "jobs/pushed-on"), 404);
    assert_false(names(&keyed, B, API "stats", "\"pushed-on\""));
    assert_int_equal(status_of(&keyed, "DELETE", API "jobs/pushed-on", B), 404);
    assert_int_equal(status_of(&keyed, "DELETE", API "jobs/pushed-on", A), 202);
    expect_end("pushed-on", "cancelled");
    assert_int_equal(web_stop(&keyed), 0);
}

static void a_kept_result_is_for_its_tenant(void **state)
{
    static const char body[] = "{\"code\":\"'kept'\",\"cache\":true}";
    static const struct {
        const char *key;
        bool cached;
    } turns[] = {{"X-API-Key: " ALICE, false},
                 {"X-API-Key: " ALICE, true},
                 {"X-API-Key: " BOB, false},
                 {"X-API-Key: " BOB, true}};
    struct web keyed = {0};
    struct answer a;

    (void)state;
    write_keys("alice:" ALICE "\nbob:" BOB "\n");
    start_keyed(&keyed, NULL);
    for (size_t i = 0; i < sizeof(turns) / sizeof(*turns); i++) {
        web_ask(&keyed, &a, "POST", API "execute", body, turns[i].key, NULL);
        web_expect(&a, 200);
        assert_int_equal(cJSON_IsTrue(stage_at(a.json, "cached")),
                         turns[i].cached);
        answer_free(&a);
    }
    assert_int_equal(web_stop(&keyed), 0);
}

static void a_key_cannot_fill_redis_with_cancels(void **state)
{
    static const char A[] = "X-API-Key: " ALICE, B[] = "X-API-Key: " BOB;
    struct web keyed = {0};
    struct answer a;
    long long left;

    (void)state;
    write_keys("alice:" ALICE "\nbob:" BOB "\n");
    start_keyed(&keyed, NULL);
    rig_number(&rig, "DEL", "{capibox}:cx", NULL);
    for (int i = 0; i < 150; i++) {
        char path[64];

        snprintf(path, sizeof(path), API "jobs/made-up-%d", i);
        assert_int_equal(status_of(&keyed, "DELETE", path, A), 404);
    }
    left = rig_number(&rig, "ZCARD", "{capibox}:cx", NULL);
    assert_in_range(left, 100, 101); /* one more comes in half a minute */

    /* What is known is cancelled all the same, */
    web_ask(&keyed, &a, "POST", API "execute",
            "{\"id\":\"known\",\"async\":true,\"code\":\"import time; "
            "time.sleep(60)\"}",
            A, NULL);
    web_expect(&a, 202);
    answer_free(&a);
    web_ask(&keyed, &a, "DELETE", API "jobs/known", NULL, A, NULL);
    assert_true(a.status == 200 || a.status == 202);
    answer_free(&a);
    expect_end("known", "cancelled");
    /* and others' cancels may overtake their jobs. */
    assert_int_equal(status_of(&keyed, "DELETE", API "jobs/to-come", B), 404);
    rig_push(&rig, "default", "{\"id\":\"to-come\",\"code\":\"1\"}");
    expect_end("to-come", "cancelled");
    rig_number(&rig, "DEL", "{capibox}:cx", NULL);
    assert_int_equal(web_stop(&keyed), 0);
}

/* A job that has ended counts by then. */
static void expect_done(struct web *to, const char *key, const char *path,
                        int done)
{
    struct answer a;

    web_ask(to, &a, "GET", path, NULL, key, NULL);
    web_expect(&a, 200);
    assert_int_equal((int)stage_number(a.json, "done"), done);
    answer_free(&a);
}

static void send_to_batch(struct web *to, const char *key, const char *id,
                          struct answer *a)
{
    char body[200];

    snprintf(body, sizeof(body), "{\"code\":\"1\",\"batch_id\":\"%s\"}", id);
    web_ask(to, a, "POST", API "execute", body, key, NULL);
}

static void a_batch_is_the_tenants_who_used_it_first(void **state)
{
    static const char A[] = "X-API-Key: " ALICE, B[] = "X-API-Key: " BOB;
    struct web keyed = {0};
    struct answer a;
    char id[100], path[160];

    (void)state;
    write_keys("alice:" ALICE "\nbob:" BOB "\n");
    start_keyed(&keyed, NULL);
    web_ask(&keyed, &a, "POST", API "batch", "{\"jobs\":[{\"code\":\"1\"}]}", A,
            NULL);
    web_expect(&a, 202);
    snprintf(id, sizeof(id), "%s", stage_text(a.json, "batch_id"));
    snprintf(path, sizeof(path), API "batch/%s", id);
    expect_end(stage_text(a.json, "job_ids.0"), "ok");
    answer_free(&a);
    assert_int_equal(status_with(&keyed, B, path), 404);
    send_to_batch(&keyed, B, id, &a);
    web_expect_error(&a, 409, "batch_taken", "batch_id");
    answer_free(&a);
    expect_done(&keyed, A, path, 1);
    send_to_batch(&keyed, A, id, &a);
    web_expect(&a, 200);
    answer_free(&a);
    expect_done(&keyed, A, path, 2);
    expect_done(&web, NULL, path, 2);

    send_to_batch(&keyed, B, "of-a-name", &a);
    web_expect(&a, 200);
    answer_free(&a);
    send_to_batch(&keyed, A, "of-a-name", &a);
    web_expect_error(&a, 409, "batch_taken", "batch_id");
    answer_free(&a);
    assert_true(rig_number(&rig, "TTL", "{capibox}:batch:of-a-name", NULL) > 0);

    rig_number(&rig, "HSET", "{capibox}:batch:nobodys", "total", "3", NULL);
    send_to_batch(&keyed, A, "nobodys", &a);
    web_expect(&a, 200);
    answer_free(&a);
    send_to_batch(&keyed, B, "nobodys", &a);
    web_expect(&a, 200);
    answer_free(&a);
    expect_done(&keyed, A, API "batch/nobodys", 2);
    assert_int_equal(web_stop(&keyed), 0);
}

/* One by one, wherever they stand: to look for each by its id would make Redis
 * go through the list as often as a page is long. */
static void all_dead_of_a_page_are_shown_to_whom_they_belong(void **state)
{
    static const char A[] = "X-API-Key: " ALICE, B[] = "X-API-Key: " BOB;
    struct web keyed = {0};
    struct answer a;

    (void)state;
    write_keys("alice:" ALICE "\nbob:" BOB "\n");
    start_keyed(&keyed, NULL);
    for (int i = 0; i < 3; i++) {
        char body[200];

        snprintf(body, sizeof(body),
                 "{\"id\":\"same\",\"code\":\"1\",\"tenant\":\"%s\","
                 "\"template\":\"no%d\"}",
                 i == 1 ? "alice" : "bob", i);
        rig_push(&rig, "default", body);
        expect_end("same", "rejected");
        rig_number(&rig, "DEL", "{capibox}:job:same", NULL);
    }
    web_ask(&keyed, &a, "GET", API "dead?limit=3", NULL, B, NULL);
    web_expect(&a, 200);
    stage_expect_part(a.json, "dead.0.error", "no2");
    stage_expect_part(a.json, "dead.1.error", "no0");
    assert_null(stage_at(a.json, "dead.2"));
    answer_free(&a);
    web_ask(&keyed, &a, "GET", API "dead/same", NULL, A, NULL);
    web_expect(&a, 200);
    stage_expect_part(a.json, "about.error", "no1");
    answer_free(&a);
    assert_int_equal(status_of(&keyed, "DELETE", API "dead/same", A), 200);
    assert_int_equal(status_of(&keyed, "DELETE", API "dead/same", A), 404);
    assert_int_equal(status_of(&keyed, "DELETE", API "dead/same", B), 200);
    assert_int_equal(status_of(&keyed, "DELETE", API "dead/same", B), 200);
    assert_int_equal(web_stop(&keyed), 0);
}

static void a_retry_takes_nobody_elses_place(void **state)
{
    static const char *const keys[] = {"X-API-Key: " ALICE, "X-API-Key: " BOB};
    struct web keyed = {0};
    struct answer a;

    (void)state;
    write_keys("alice:" ALICE "\nbob:" BOB "\n");
    start_keyed(&keyed, NULL);
    for (int i = 0; i < 2; i++) {
        rig_number(&rig, "DEL", "{capibox}:job:twice", NULL); /* long ago */
        web_ask(&keyed, &a, "POST", API "execute",
                "{\"id\":\"twice\",\"code\":\"1\",\"template\":\"nope\"}",
                keys[i], NULL);
        web_expect(&a, 200);
        answer_free(&a);
    }
    web_ask(&keyed, &a, "POST", API "dead/twice/retry", NULL, keys[0], NULL);
    web_expect_error(&a, 409, "id_taken", NULL);
    answer_free(&a);
    assert_int_equal(status_with(&keyed, keys[1], API "jobs/twice"), 200);
    assert_int_equal(status_of(&keyed, "POST", API "dead/twice/retry", keys[1]),
                     200);
    expect_end("twice", "rejected");
    assert_int_equal(web_stop(&keyed), 0);
}

/* Each of them a step in which Redis does nothing else. */
static long long scripts_run(void)
{
    char stats[8192];
    const char *at;

    rig_text(&rig, stats, sizeof(stats), "INFO", "commandstats", NULL);
    at = strstr(stats, "cmdstat_evalsha:calls=");
    return at ? strtoll(strchr(at, '=') + 1, NULL, 10) : 0;
}

static void a_long_dead_list_is_looked_through_in_pieces(void **state)
{
    static const char fill[] =
        "for i = 1, ARGV[1] do redis.call('RPUSH', KEYS[1], '{\"job_id\":\"f'"
        " .. i .. '\",\"queue\":\"default\",\"bytes\":12,\"kept\":12}"
        "\\n{\"code\":\"1\"}') end return redis.call('LLEN', KEYS[1])";
    const int steps = DEAD_LIST_MAX / DEAD_LOOK_ENTRIES;
    const char *last;
    char path[64];
    long long before;

    (void)state;
    rig_number(&rig, "DEL", "{capibox}:dead", NULL);
    snprintf(path, sizeof(path), API "dead/f%d", DEAD_LIST_MAX);
    last = strrchr(path, 'f') + 1;
    assert_int_equal(
        rig_number(&rig, "EVAL", fill, "1", "{capibox}:dead", last, NULL),
        DEAD_LIST_MAX);
    for (int i = 0; i < 2; i++) {
        before = scripts_run();
        assert_int_equal(status_of(&web, i ? "DELETE" : "GET", path, NULL),
                         200);
        assert_true(scripts_run() - before >= steps);
    }
    assert_int_equal(status_of(&web, "GET", path, NULL), 404);
    rig_number(&rig, "DEL", "{capibox}:dead", NULL);
}

/* Who asks again is told of the end by the first one's look, maybe before
 * Redis said that the id is taken. */
static void an_id_asked_for_by_many_at_once_is_answered_to_each(void **state)
{
    static const char A[] = "X-API-Key: " ALICE;
    struct web keyed = {0};
    struct web_call calls[24];

    (void)state;
    write_keys("alice:" ALICE "\n");
    start_keyed(&keyed, NULL);
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
            calls[i] =
                (struct web_call){.web = &keyed,
                                  .method = "POST",
                                  .path = API "execute",
                                  .body = "{\"id\":\"again\",\"code\":\"1\"}",
                                  .header = A};
            web_begin(&calls[i]);
        }
        for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
            web_wait(&calls[i]);
            web_expect(&calls[i].answer, 200);
            stage_expect(calls[i].answer.json, "job_id", "again");
            answer_free(&calls[i].answer);
        }
    }
    assert_int_equal(web_stop(&keyed), 0);
}

/* Its place among the key's jobs is counted until the end of the gateway. */
static void a_job_that_nobody_runs_does_not_outlive_its_gateway(void **state)
{
    static const char A[] = "X-API-Key: " ALICE;
    struct web keyed = {0};
    struct answer a;

    (void)state;
    write_keys("alice:" ALICE "\n");
    start_keyed(&keyed, NULL);
    web_ask(&keyed, &a, "POST", API "execute",
            "{\"id\":\"waits\",\"async\":true,\"delay\":600,\"code\":\"1\"}", A,
            NULL);
    web_expect(&a, 202);
    answer_free(&a);
    assert_int_equal(web_stop(&keyed), 0);
    web_ask(&web, &a, "DELETE", API "jobs/waits", NULL, NULL);
    web_expect(&a, 200);
    answer_free(&a);
}

/* ---- settings ----------------------------------------------------------- */

static void a_wrong_setting_is_named_in_one_line(void **state)
{
    static const char *const settings[][2] = {
        {"CAPIBOX_API_LISTEN=nowhere", "CAPIBOX_API_LISTEN"},
        {"CAPIBOX_API_LISTEN=127.0.0.1:99999", "CAPIBOX_API_LISTEN"},
        {"CAPIBOX_API_LISTEN=0.0.0.0:0", "CAPIBOX_API_KEYS"},
        {"CAPIBOX_API_LISTEN=:0", "CAPIBOX_API_KEYS"},
        {"CAPIBOX_API_KEYS=/no/such/file", "CAPIBOX_API_KEYS"},
        {"CAPIBOX_API_KEYS=/dev/null", "CAPIBOX_API_KEYS"},
        {"CAPIBOX_API_RATE=fast", "CAPIBOX_API_RATE"},
        {"CAPIBOX_API_ORIGINS=foo", "\"foo\" is no origin"},
        {"CAPIBOX_API_ORIGINS=https://a.test,https://a.test/", "a.test/\""},
        {"CAPIBOX_API_CERT=/no/such/file", "CAPIBOX_API_CERT"},
        {"CAPIBOX_TEMPLATES=/no/such/folder", "CAPIBOX_TEMPLATES"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(settings) / sizeof(*settings); i++) {
        const char *argv[] = {proc_program("capibox-api"), NULL};
        const char *env[] = {"CAPIBOX_REDIS_URL=unix:///nowhere",
                             settings[i][0], NULL};
        AUTO_FREE char *out = NULL, *err = NULL;
        int code = proc_run(&(struct proc_start){.argv = argv, .env = env},
                            RIG_WAIT_MS, &out, &err);
        char *end = strchr(err, '\n');

        if (code != 2 || !end || end[1] || !strstr(err, settings[i][1]))
            fail_msg("%s: %d, %s", settings[i][0], code, err);
        assert_string_equal(out, "");
    }
}

static void a_port_that_is_taken_comes_with_advice(void **state)
{
    const char *argv[] = {proc_program("capibox-api"), NULL};
    char listen[64];
    const char *env[] = {listen, NULL};
    AUTO_FREE char *err = NULL;

    (void)state;
    snprintf(listen, sizeof(listen), "CAPIBOX_API_LISTEN=127.0.0.1:%d",
             web.port);
    assert_int_equal(proc_run(&(struct proc_start){.argv = argv, .env = env},
                              RIG_WAIT_MS, NULL, &err),
                     2);
    if (!strstr(err, "CAPIBOX_API_LISTEN: ") ||
        !strstr(err, "is another gateway running?") ||
        !strstr(err, "another port"))
        fail_msg("%s", err);
}

static void it_speaks_tls_with_a_certificate(void **state)
{
    char cert[300], key[300], with_cert[340], with_key[340];
    struct web tls = {0};
    struct answer a;

    (void)state;
    snprintf(cert, sizeof(cert), "%s/api.pem", rig.server.dir);
    snprintf(key, sizeof(key), "%s/api.key", rig.server.dir);
    const char *argv[] = {
        "openssl", "req",   "-x509", "-newkey", "rsa:2048",
        "-nodes",  "-days", "2",     "-subj",   "/CN=localhost",
        "-keyout", key,     "-out",  cert,      NULL};
    assert_int_equal(
        proc_run(&(struct proc_start){.argv = argv}, RIG_WAIT_MS, NULL, NULL),
        0);
    snprintf(with_cert, sizeof(with_cert), "CAPIBOX_API_CERT=%s", cert);
    snprintf(with_key, sizeof(with_key), "CAPIBOX_API_CERT_KEY=%s", key);
    web_start(&rig, &tls, (const char *[]){with_cert, with_key, NULL});
    assert_int_equal(strncmp(tls.base, "https:", 6), 0);
    web_ask(&tls, &a, "POST", API "execute", "{\"code\":\"print(1)\"}", NULL);
    web_expect(&a, 200);
    stage_expect(a.json, "logs.stdout.0", "1\n");
    answer_free(&a);
    assert_int_equal(web_stop(&tls), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_capibara6_sends_is_run_and_answered),
        cmocka_unit_test(code_that_fails_is_a_result),
        cmocka_unit_test(metadata_comes_back_untouched),
        cmocka_unit_test(a_dynamic_spec_runs_with_what_it_asks_for),
        cmocka_unit_test(an_async_job_is_answered_at_once_and_found_by_its_id),
        cmocka_unit_test(the_code_is_kept_with_its_job),
        cmocka_unit_test(a_wait_that_is_over_answers_with_the_id),
        cmocka_unit_test(the_same_id_is_run_once),
        cmocka_unit_test(an_id_used_again_for_other_code_is_told),
        cmocka_unit_test(a_batch_counts_up_to_its_end),
        cmocka_unit_test(jobs_that_name_a_batch_count_towards_it),
        cmocka_unit_test(what_is_wrong_with_a_job_is_named),
        cmocka_unit_test(a_full_queue_turns_jobs_away),
        cmocka_unit_test(a_batch_is_told_which_jobs_the_queue_had_room_for),
        cmocka_unit_test(files_and_pictures_are_served_but_never_live),
        cmocka_unit_test(tricks_in_file_names_find_nothing),
        cmocka_unit_test(
            events_come_as_they_happen_and_go_on_where_they_broke_off),
        cmocka_unit_test(a_job_that_does_not_stream_has_its_end),
        cmocka_unit_test(a_running_job_is_cancelled),
        cmocka_unit_test(who_leaves_takes_the_job_along_only_if_they_said_so),
        cmocka_unit_test(stats_say_what_the_hashes_say),
        cmocka_unit_test(a_queue_shows_its_depth_and_its_age),
        cmocka_unit_test(stats_say_when_the_queues_are_paused),
        cmocka_unit_test(metrics_have_both_families_and_please_promtool),
        cmocka_unit_test(health_runs_a_job),
        cmocka_unit_test(templates_are_listed),
        cmocka_unit_test(jobs_that_ended_last_are_listed),
        cmocka_unit_test(the_dead_are_listed_retried_and_dropped),
        cmocka_unit_test(unknown_paths_and_methods_are_refused),
        cmocka_unit_test(a_body_must_be_json_and_of_a_size),
        cmocka_unit_test(a_job_may_be_as_large_as_the_limit_says),
        cmocka_unit_test(a_body_that_was_packed_is_refused),
        cmocka_unit_test(pages_allow_no_script_but_their_own),
        cmocka_unit_test(pages_of_others_are_kept_out),
        cmocka_unit_test(a_key_is_needed_where_keys_are_set),
        cmocka_unit_test(a_key_sees_its_own_jobs_only),
        cmocka_unit_test(figures_name_no_job_of_somebody_elses),
        cmocka_unit_test(keys_are_replaced_without_a_restart),
        cmocka_unit_test(a_key_that_two_names_have_is_not_taken),
        cmocka_unit_test(a_key_has_its_rate),
        cmocka_unit_test(a_key_has_its_number_of_jobs),
        cmocka_unit_test(a_pushed_job_is_the_tenants_it_names),
        cmocka_unit_test(a_kept_result_is_for_its_tenant),
        cmocka_unit_test(a_key_cannot_fill_redis_with_cancels),
        cmocka_unit_test(jobs_of_others_take_no_place_in_the_list),
        cmocka_unit_test(jobs_are_in_order_though_a_gateway_hears_late_of_them),
        cmocka_unit_test(a_batch_is_the_tenants_who_used_it_first),
        cmocka_unit_test(all_dead_of_a_page_are_shown_to_whom_they_belong),
        cmocka_unit_test(a_retry_takes_nobody_elses_place),
        cmocka_unit_test(a_long_dead_list_is_looked_through_in_pieces),
        cmocka_unit_test(an_id_asked_for_by_many_at_once_is_answered_to_each),
        cmocka_unit_test(a_job_that_nobody_runs_does_not_outlive_its_gateway),
        cmocka_unit_test(a_wrong_setting_is_named_in_one_line),
        cmocka_unit_test(a_port_that_is_taken_comes_with_advice),
        cmocka_unit_test(it_speaks_tls_with_a_certificate),
    };

    return cmocka_run_group_tests(tests, open_all, close_all);
}
