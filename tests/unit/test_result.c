/* tests/unit/test_result.c -- the result's JSON, key by key. */
#include "common/result.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "common/must.h"
#include "tests/support/cmocka_all.h"

static const struct result_context context = {
    .job_id = "j1",
    .backend = "local",
    .worker = "w-1",
    .attempt = 2,
    .enqueued_at = 1767323040,
    .started_at = 1767323041,
    .finished_at = 1767323045.678,
    .execution_time = 1.25,
    .processing_time = 1.5,
    .queue_time = 0.000001,
};

static struct job *parse(const char *text)
{
    struct complaint why = {0};
    char id[JOB_ID_MAX + 1];
    struct job *job = NULL;

    MUST0(job_parse(text, strlen(text), &job, id, &why));
    return job;
}

static char *encode(const struct job *job, const struct spec *spec,
                    struct outcome *o)
{
    struct strbuf sb = STRBUF_INIT;

    MUST0(result_encode(&context, job, spec, o, &sb));
    return strbuf_take(&sb);
}

static void check_keys(const cJSON *object, const char *const *keys)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, object)
    {
        assert_non_null(*keys);
        assert_string_equal(item->string, *keys++);
    }
    assert_null(*keys);
}

static void all_keys_are_there_in_the_contracts_order(void **state)
{
    static const char *const keys[] = {"job_id",
                                       "success",
                                       "status",
                                       "verdict",
                                       "backend",
                                       "sandbox_id",
                                       "template_used",
                                       "task_type",
                                       "language",
                                       "execution_time",
                                       "processing_time",
                                       "queue_time",
                                       "code_length",
                                       "logs",
                                       "results",
                                       "error",
                                       "error_detail",
                                       "exit_code",
                                       "signal",
                                       "usage",
                                       "timings",
                                       "enforced",
                                       "files",
                                       "sandbox_info",
                                       "warnings",
                                       "cached",
                                       "attempt",
                                       "worker",
                                       "metadata",
                                       "timestamp",
                                       NULL};
    static const char *const usage[] = {
        "cpu_seconds",      "peak_memory_mb",   "peak_processes",
        "shared_memory_mb", "context_switches", "stdout_bytes",
        "stderr_bytes",     "dropped_bytes",    NULL};
    static const char *const timings[] = {"queue",   "create",  "run",
                                          "collect", "destroy", NULL};
    static const char *const enforced[] = {"timeout", "memory",  "cpu", "pids",
                                           "disk",    "network", NULL};
    static const char *const info[] = {
        "created_at", "template_used", "task_type", "config", "start", NULL};
    struct outcome o;
    char *text;
    cJSON *root;

    (void)state;
    outcome_init(&o, 16);
    o.verdict = VERDICT_REJECTED;
    outcome_error(&o, "timeout: 0 is out of range");
    text = encode(NULL, NULL, &o);
    root = cJSON_Parse(text);
    assert_non_null(root);
    check_keys(root, keys);
    check_keys(cJSON_GetObjectItem(root, "usage"), usage);
    check_keys(cJSON_GetObjectItem(root, "timings"), timings);
    check_keys(cJSON_GetObjectItem(root, "enforced"), enforced);
    check_keys(cJSON_GetObjectItem(root, "sandbox_info"), info);
    assert_non_null(strstr(text, "\"status\":\"failed\",\"verdict\":"
                                 "\"rejected\""));
    assert_non_null(strstr(text, "\"code_length\":null,\"logs\":{\"stdout\":[],"
                                 "\"stderr\":[]},\"results\":[]"));
    assert_non_null(strstr(text, "\"metadata\":{},"));
    cJSON_Delete(root);
    free(text);
    outcome_fini(&o);
}

#define NOTHING "\"no: nothing was run\""

static void fill(struct outcome *o)
{
    outcome_init(o, 1024);
    o->verdict = VERDICT_USER_ERROR;
    o->exit_code = 1;
    strcpy(o->sandbox_id, "sb-1");
    o->created_at = 1767323041.5;
    capture_add(&o->out, "hi\n", 3);
    capture_add(&o->err, "\xff", 1);
    outcome_error(o, "ValueError: \"x\"");
    o->error_name = strdup("ValueError");
    o->error_value = strdup("");
    o->error_traceback = strdup("Traceback…");
    strbuf_adds(&o->results, "{\"text\":\"1\"},{\"png\":\"AA==\"}");
    strbuf_adds(&o->files, "{\"path\":\"a\"}");
    o->usage = (struct usage){0.5, 12.3456, 3, 90.5, 7, false};
    o->timings = (struct timings){0.1, 0.2, 0.3, 0.4, 0.5};
    strcpy(o->enforced.memory, "cgroup v1 memory.limit_in_bytes");
    outcome_warn(o, "late");
}

static void what_cannot_be_measured_is_null(void **state)
{
    struct outcome o;
    char *text;

    (void)state;
    outcome_init(&o, 16);
    fill(&o);
    o.usage.unknown = true;
    text = encode(NULL, NULL, &o);
    assert_non_null(
        strstr(text, "\"usage\":{\"cpu_seconds\":null,\"peak_memory_mb\":"
                     "null,\"peak_processes\":null,\"shared_memory_mb\":null,"
                     "\"context_switches\":null,\"stdout_bytes\":3,"));
    free(text);
    outcome_fini(&o);
}

static void a_full_result_reads_as_it_was_meant(void **state)
{
    char *packages[] = {(char *)"pandas", NULL};
    struct spec spec = {.template_used = "default",
                        .language = LANGUAGE_PYTHON,
                        .template_name = "code-interpreter-v1",
                        .packages = packages,
                        .limits = {.timeout_ms = 2500,
                                   .memory_bytes = 512 << 20,
                                   .cpu_percent = 50}};
    struct job *job = parse("{\"code\":\"print\",\"task_type\":\"ml\",\"zz\":1,"
                            "\"metadata\":{\"n\":12345678901234567890}}");
    struct outcome o;
    char *text;

    (void)state;
    fill(&o);
    text = encode(job, &spec, &o);
    assert_string_equal(
        text,
        "{\"job_id\":\"j1\",\"success\":false,\"status\":\"failed\","
        "\"verdict\":\"user_error\",\"backend\":\"local\",\"sandbox_id\":"
        "\"sb-1\",\"template_used\":\"default\",\"task_type\":\"ml\","
        "\"language\":\"python\",\"execution_time\":1.250000,"
        "\"processing_time\":1.500000,\"queue_time\":0.000001,"
        "\"code_length\":5,\"logs\":{\"stdout\":[\"hi\\n\"],\"stderr\":["
        "\"\\\\xff\"]},\"results\":[{\"text\":\"1\"},{\"png\":\"AA==\"}],"
        "\"error\":\"ValueError: \\\"x\\\"\",\"error_detail\":{\"name\":"
        "\"ValueError\",\"value\":\"\",\"traceback\":\"Traceback…\"},"
        "\"exit_code\":1,\"signal\":null,\"usage\":{\"cpu_seconds\":0.500000,"
        "\"peak_memory_mb\":12.346,\"peak_processes\":3,"
        "\"shared_memory_mb\":90.500,\"context_switches\":7,"
        "\"stdout_bytes\":3,"
        "\"stderr_bytes\":1,\"dropped_bytes\":0},\"timings\":{\"queue\":"
        "0.100000,\"create\":0.200000,\"run\":0.300000,\"collect\":0.400000,"
        "\"destroy\":0.500000},\"enforced\":{\"timeout\":" NOTHING
        ",\"memory\":"
        "\"cgroup v1 memory.limit_in_bytes\",\"cpu\":" NOTHING
        ",\"pids\":" NOTHING ","
        "\"disk\":" NOTHING ",\"network\":" NOTHING
        "},\"files\":[{\"path\":\"a\"}],"
        "\"sandbox_info\":{\"created_at\":\"2026-01-02T03:04:01.500Z\","
        "\"template_used\":\"default\",\"task_type\":\"ml\",\"config\":{"
        "\"timeout\":2.5,\"memory_limit_mb\":512,\"cpu_limit_percent\":50,"
        "\"template_name\":\"code-interpreter-v1\",\"packages\":[\"pandas\"],"
        "\"disk_limit_mb\":0,\"pids_limit\":0,\"output_limit_kb\":0,"
        "\"network\":false},\"start\":null},"
        "\"warnings\":[\"unknown field \\\"zz\\\" was ignored\",\"late\"],"
        "\"cached\":false,\"attempt\":2,\"worker\":\"w-1\",\"metadata\":{"
        "\"n\":12345678901234567890},\"timestamp\":\"2026-01-02T03:04:05.678Z\""
        "}");
    free(text);
    outcome_fini(&o);
    job_destroy(job);
}

static void only_ok_is_success(void **state)
{
    (void)state;
    for (int i = VERDICT_OK; i < VERDICT_COUNT; i++) {
        struct outcome o;
        char *text;

        outcome_init(&o, 16);
        o.verdict = (enum verdict)i;
        text = encode(NULL, NULL, &o);
        assert_int_equal(!!strstr(text, "\"success\":true"), i == VERDICT_OK);
        free(text);
        outcome_fini(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_keys_are_there_in_the_contracts_order),
        cmocka_unit_test(a_full_result_reads_as_it_was_meant),
        cmocka_unit_test(what_cannot_be_measured_is_null),
        cmocka_unit_test(only_ok_is_success),
    };

    return cmocka_run_group_tests_name("result", tests, NULL, NULL);
}
