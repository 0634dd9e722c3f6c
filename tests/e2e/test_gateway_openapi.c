/* What openapi.json says, against what the gateway answers. */
#include "tests/support/cmocka_all.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/must.h"
#include "tests/support/schema.h"
#include "tests/support/stage.h"
#include "tests/support/web.h"

#define API "/api/v1/e2b/"

static struct rig rig;
static struct proc worker;
static struct web web;
static struct answer document;

static int open_all(void **state)
{
    (void)state;
    stage_open(&rig, NULL);
    stage_worker(&rig, &worker,
                 (const char *[]){"CAPIBOX_TEMPLATES=templates", NULL});
    web_start(&rig, &web, NULL);
    web_ask(&web, &document, "GET", "/openapi.json", NULL, NULL);
    web_expect(&document, 200);
    MUST(document.json);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    answer_free(&document);
    assert_int_equal(web_stop(&web), 0);
    assert_int_equal(stage_end_worker(&worker), 0);
    rig_close(&rig);
    return 0;
}

static const cJSON *get(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

/* One live call of each operation and of the errors it may answer; "$BATCH" is
 * the batch that was made. In this order. */
static const struct call {
    const char *method, *path, *asked, *body, *header;
    long status;
} calls[] = {
    {"post", API "execute", NULL,
     "{\"id\":\"o1\",\"code\":\"open('a.txt','w').write('x')\","
     "\"output_files\":[\"a.txt\",\"b.txt\"]}",
     NULL, 200},
    {"post", API "execute", NULL, "{\"code\":\"1/0\",\"metadata\":{\"a\":1}}",
     NULL, 200},
    {"post", API "execute", NULL,
     "{\"code\":\"while True: pass\",\"timeout\":1}", NULL, 200},
    {"post", API "execute", NULL, "{\"code\":\"1\",\"template\":\"nope\"}",
     NULL, 200},
    {"post", API "execute", NULL, "{\"code\":\"1\",\"async\":true}", NULL, 202},
    {"post", API "execute", NULL, "{\"id\":\"o1\",\"code\":\"1\"}",
     "Prefer: respond-async", 202},
    {"post", API "execute", NULL, "{", NULL, 400},
    {"post", API "execute", NULL, "{}", NULL, 422},
    {"post", API "execute", NULL, "{}", "Content-Type: text/plain", 415},
    {"post", API "execute", NULL, "{}", "Origin: https://evil.test", 403},
    {"post", API "execute", NULL, "{}", "Host: evil.test", 421},
    {"post", API "dynamic", NULL, "{\"code\":\"1\",\"task_type\":\"quick\"}",
     NULL, 200},
    {"post", API "batch", NULL, "{\"jobs\":[{\"code\":\"1\"}]}", NULL, 202},
    {"get", API "batch/{id}", API "batch/$BATCH", NULL, NULL, 200},
    {"get", API "batch/{id}", API "batch/nope", NULL, NULL, 404},
    {"get", API "jobs", API "jobs?limit=500", NULL, NULL, 200},
    {"get", API "jobs", API "jobs?limit=x", NULL, NULL, 400},
    {"get", API "jobs/{id}", API "jobs/o1", NULL, NULL, 200},
    {"get", API "jobs/{id}", API "jobs/nope", NULL, NULL, 404},
    {"post", API "execute", NULL,
     "{\"id\":\"later\",\"code\":\"1\",\"delay\":500,\"async\":true}", NULL,
     202},
    {"get", API "jobs/{id}", API "jobs/later", NULL, NULL, 200},
    {"delete", API "jobs/{id}", API "jobs/later", NULL, NULL, 200},
    {"get", API "jobs/{id}", API "jobs/later", NULL, NULL, 200},
    {"delete", API "jobs/{id}", API "jobs/o1", NULL, NULL, 409},
    {"delete", API "jobs/{id}", API "jobs/%zz", NULL, NULL, 400},
    {"get", API "batch/{id}", API "batch/%zz", NULL, NULL, 400},
    {"get", API "dead/{id}", API "dead/%zz", NULL, NULL, 400},
    {"delete", API "dead/{id}", API "dead/%zz", NULL, NULL, 400},
    {"post", API "dead/{id}/retry", API "dead/%zz/retry", NULL, NULL, 400},
    {"delete", API "jobs/{id}", API "jobs/nope", NULL, NULL, 404},
    {"get", API "jobs/{id}/events", API "jobs/o1/events", NULL, NULL, 200},
    {"get", API "jobs/{id}/events", API "jobs/nope/events", NULL, NULL, 404},
    {"get", API "jobs/{id}/files/{path}", API "jobs/o1/files/a.txt", NULL, NULL,
     200},
    {"get", API "jobs/{id}/files/{path}", API "jobs/o1/files/no", NULL, NULL,
     404},
    {"get", API "dead", NULL, NULL, NULL, 200},
    {"get", API "dead/{id}", API "dead/$DEAD", NULL, NULL, 200},
    {"get", API "dead/{id}", API "dead/nope", NULL, NULL, 404},
    {"post", API "dead/{id}/retry", API "dead/nope/retry", NULL, NULL, 404},
    {"post", API "dead/{id}/retry", API "dead/$DEAD/retry", NULL, NULL, 200},
    {"delete", API "dead/{id}", API "dead/nope", NULL, NULL, 404},
    /* Another one: the retried is on its way. */
    {"post", API "execute", NULL, "{\"code\":\"2\",\"template\":\"nope\"}",
     NULL, 200},
    {"delete", API "dead/{id}", API "dead/$DEAD", NULL, NULL, 200},
    {"get", API "templates", NULL, NULL, NULL, 200},
    {"get", API "stats", NULL, NULL, NULL, 200},
    {"get", API "health", NULL, NULL, NULL, 200},
    {"get", "/health", NULL, NULL, NULL, 200},
    {"get", "/metrics", NULL, NULL, NULL, 200},
    {"get", "/openapi.json", NULL, NULL, NULL, 200},
    {"get", "/", NULL, NULL, NULL, 200},
    {"get", "/app.js", NULL, NULL, NULL, 200},
    {"get", "/style.css", NULL, NULL, NULL, 200},
};
#define CALLS (sizeof(calls) / sizeof(*calls))

static char batch[80], dead[80];

static void fill_in(const struct call *call, char out[256])
{
    const char *path = call->asked ? call->asked : call->path;
    const char *dollar = strchr(path, '$');
    const char *rest = dollar ? strchr(dollar, '/') : NULL;

    if (!dollar)
        snprintf(out, 256, "%s", path);
    else
        snprintf(out, 256, "%.*s%s%s", (int)(dollar - path), path,
                 dollar[1] == 'B' ? batch : dead, rest ? rest : "");
}

static void note_ids(const struct call *call, const struct answer *a)
{
    const char *id = stage_text(a->json, "batch_id");

    if (id && call->status == 202)
        snprintf(batch, sizeof(batch), "%s", id);
    id = stage_text(a->json, "job_id");
    if (id && stage_text(a->json, "verdict") &&
        !strcmp(stage_text(a->json, "verdict"), "rejected"))
        snprintf(dead, sizeof(dead), "%s", id);
}

/* The schema of this answer, or NULL where it is not JSON; fails if the
 * document does not know the status or the type. */
static const cJSON *schema_of(const struct call *call, const struct answer *a)
{
    char status[8], type[256];
    const cJSON *content, *one;

    snprintf(status, sizeof(status), "%ld", a->status);
    content = get(
        get(get(get(get(get(document.json, "paths"), call->path), call->method),
                "responses"),
            status),
        "content");
    if (!content)
        fail_msg("%s %s: %s is not in the document", call->method, call->path,
                 status);
    answer_header(a, "Content-Type", type);
    type[strcspn(type, ";")] = '\0';
    cJSON_ArrayForEach(one, content)
    {
        if (!strcmp(one->string, type) || !strcmp(one->string, "*/*"))
            return strcmp(type, "application/json") ? NULL : get(one, "schema");
    }
    fail_msg("%s %s: the type %s is not in the document", call->method,
             call->path, type);
    return NULL;
}

static void every_answer_is_what_the_document_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < CALLS; i++) {
        char method[16], path[256], why[512];
        const cJSON *schema;
        struct answer a;

        for (size_t k = 0; k <= strlen(calls[i].method); k++)
            method[k] = (char)toupper((unsigned char)calls[i].method[k]);
        fill_in(&calls[i], path);
        web_ask(&web, &a, method, path, calls[i].body, calls[i].header, NULL);
        web_expect(&a, calls[i].status);
        schema = schema_of(&calls[i], &a);
        if (schema &&
            !schema_fits(document.json, schema, a.json, why, sizeof(why)))
            fail_msg("%s %s: %s", method, path, why);
        note_ids(&calls[i], &a);
        answer_free(&a);
    }
}

static bool is_called(const char *path, const char *method)
{
    for (size_t i = 0; i < CALLS; i++)
        if (!strcmp(calls[i].path, path) && !strcmp(calls[i].method, method))
            return true;
    return false;
}

static void every_operation_of_the_document_is_called(void **state)
{
    const cJSON *path, *method;

    (void)state;
    cJSON_ArrayForEach(path, get(document.json, "paths"))
    {
        cJSON_ArrayForEach(method, path)
        {
            if (!is_called(path->string, method->string))
                fail_msg("%s %s", method->string, path->string);
        }
    }
}

/* Sorted by nothing: each of one is in the other. */
static void expect_methods(const cJSON *path, const char *allow)
{
    const cJSON *method;
    size_t length = 0;

    cJSON_ArrayForEach(method, path)
    {
        char upper[16];

        for (size_t k = 0; k <= strlen(method->string); k++)
            upper[k] = (char)toupper((unsigned char)method->string[k]);
        if (!strstr(allow, upper))
            fail_msg("%s: no %s in %s", path->string, upper, allow);
        length += strlen(upper) + (length > 0 ? 2 : 0);
        if (!strcmp(upper, "GET"))
            length += strlen(", HEAD");
    }
    if (strlen(allow) != length)
        fail_msg("%s: more than documented: %s", path->string, allow);
}

static void every_path_takes_the_methods_of_the_document(void **state)
{
    const cJSON *path;

    (void)state;
    cJSON_ArrayForEach(path, get(document.json, "paths"))
    {
        struct answer a;
        char allow[256];

        web_ask(&web, &a, "PUT", path->string, NULL, NULL);
        web_expect_error(&a, 405, "method_not_allowed", NULL);
        expect_methods(path, answer_header(&a, "Allow", allow));
        answer_free(&a);
    }
}

static void the_check_sees_what_does_not_fit(void **state)
{
    static const struct {
        const char *schema, *value;
    } wrong[] = {
        {"Alive", "{}"},
        {"Alive", "{\"status\":\"ok\",\"version\":1}"},
        {"Alive", "{\"status\":\"bad\",\"version\":\"1\"}"},
        {"Alive", "{\"status\":\"ok\",\"version\":\"1\",\"more\":1}"},
        {"Jobs", "{\"jobs\":[{\"job_id\":\"1\"}]}"},
        {"Latency", "{\"p50\":null,\"p90\":1,\"p95\":\"x\",\"p99\":1}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        const cJSON *schema = get(
            get(get(document.json, "components"), "schemas"), wrong[i].schema);
        cJSON *value = cJSON_Parse(wrong[i].value);
        char why[256];

        assert_non_null(schema);
        assert_false(
            schema_fits(document.json, schema, value, why, sizeof(why)));
        cJSON_Delete(value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_answer_is_what_the_document_says),
        cmocka_unit_test(every_operation_of_the_document_is_called),
        cmocka_unit_test(every_path_takes_the_methods_of_the_document),
        cmocka_unit_test(the_check_sees_what_does_not_fit),
    };

    return cmocka_run_group_tests(tests, open_all, close_all);
}
