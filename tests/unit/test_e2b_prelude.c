/* tests/unit/test_e2b_prelude.c -- what is sent to start a job's code: values
 * stay values. */
#include "worker/e2b/prelude.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "common/base64.h"
#include "common/must.h"
#include "common/scope.h"
#include "tests/support/cmocka_all.h"

static struct job *parse(const char *text)
{
    struct complaint why = {0};
    char id[JOB_ID_MAX + 1];
    struct job *job = NULL;

    if (job_parse(text, strlen(text), &job, id, &why) < 0)
        fail_msg("%s: %s", why.field, why.text);
    return job;
}

static const struct spec *spec_of(enum language language)
{
    static struct spec spec;

    spec = (struct spec){.language = language,
                         .limits = {.pids = 32,
                                    .memory_bytes = 256 << 20,
                                    .disk_bytes = 1 << 20,
                                    .cpu_percent = 100}};
    return &spec;
}

static cJSON *message(const struct strbuf *json)
{
    cJSON *root = cJSON_ParseWithLength(json->text, json->len);

    assert_false(json->failed);
    assert_non_null(root);
    return root;
}

static const char *text_at(const cJSON *object, const char *name)
{
    const char *text =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));

    assert_non_null(text);
    return text;
}

/* The base64 between two texts, decoded. The caller frees. */
static char *hidden(const char *text, const char *before)
{
    const char *start = strstr(text, before), *end;
    unsigned char *data;
    size_t size, bad;

    assert_non_null(start);
    start += strlen(before);
    end = strchr(start, '"');
    assert_non_null(end);
    AUTO_FREE char *coded = strndup(start, (size_t)(end - start));
    assert_int_equal(base64_decode(coded, strlen(coded), &data, &size, &bad),
                     0);
    char *out = strndup((char *)data, size);
    free(data);
    return out;
}

/* Ends every kind of text that a careless paste could stand in. */
#define EVIL "'\\\"\\\\`$(x)\\n\\u2028*/%s{}"

static const char job_text[] =
    "{\"id\":\"a\",\"code\":\"print(1) # '''\\\"\\\"\\\"\\\\ \\u00e9\\n\","
    "\"env\":{\"A\":\"" EVIL "\",\"B\":\"\"},"
    "\"args\":[\"" EVIL "\",\"\"],"
    "\"stdin\":\"in '\\\"\\\\\\n\"}";

static void python_gets_all_values_as_base64_of_json(void **state)
{
    struct job *job = parse(job_text);
    AUTO_STRBUF struct strbuf json = STRBUF_INIT;
    const cJSON *item;

    (void)state;
    prelude_execute(job, spec_of(LANGUAGE_PYTHON), &json);
    cJSON *root = message(&json);
    const char *cell = text_at(root, "code");

    assert_int_equal(cJSON_GetArraySize(root),
                     1); /* no language, no env_vars */
    AUTO_FREE char *code = hidden(cell, "capibox_run(_capibox_b.b64decode(\"");
    assert_string_equal(code, job->code);
    AUTO_FREE char *data = hidden(cell, "loads(_capibox_b.b64decode(\"");
    cJSON *values = cJSON_Parse(data);

    assert_non_null(values);
    item = cJSON_GetObjectItemCaseSensitive(values, "env");
    assert_int_equal(cJSON_GetArraySize(item), 2);
    assert_string_equal(text_at(item, "A"), job->env[0].value);
    item = cJSON_GetObjectItemCaseSensitive(values, "args");
    assert_int_equal(cJSON_GetArraySize(item), 2);
    assert_string_equal(item->child->valuestring, job->args[0]);
    assert_string_equal(text_at(values, "stdin"), job->stdin_text);
    assert_int_equal(cJSON_GetObjectItem(values, "pids")->valueint, 32);
    assert_int_equal(cJSON_GetObjectItem(values, "disk")->valueint, 1 << 20);
    assert_int_equal(cJSON_GetObjectItem(values, "memory")->valueint,
                     256 << 20);
    /* Nothing of the job stands in the source. */
    assert_null(strstr(cell, "print(1)"));
    assert_null(strstr(cell, "$(x)"));
    cJSON_Delete(values);
    cJSON_Delete(root);
    job_destroy(job);
}

static void javascript_gets_env_and_args_as_base64(void **state)
{
    struct job *job = parse(job_text);
    AUTO_STRBUF struct strbuf json = STRBUF_INIT;

    (void)state;
    prelude_execute(job, spec_of(LANGUAGE_JAVASCRIPT), &json);
    cJSON *root = message(&json);
    const char *cell = text_at(root, "code");
    AUTO_FREE char *env = hidden(cell, "env,JSON.parse(Buffer.from(\"");
    AUTO_FREE char *args = hidden(cell, "...JSON.parse(Buffer.from(\"");

    assert_string_equal(text_at(root, "language"), "javascript");
    assert_null(strstr(cell, "$(x)"));
    assert_non_null(strstr(env, "$(x)"));
    assert_non_null(strstr(args, "$(x)"));
    /* The code stands last, its first line still the first. */
    assert_string_equal(cell + strlen(cell) - job->code_bytes, job->code);
    assert_null(memchr(cell, '\n', strlen(cell) - job->code_bytes));
    cJSON_Delete(root);
    job_destroy(job);
}

static void code_alone_stays_on_its_lines(void **state)
{
    struct job *job = parse("{\"id\":\"a\",\"code\":\"1+1\"}");
    AUTO_STRBUF struct strbuf json = STRBUF_INIT;

    (void)state;
    prelude_execute(job, spec_of(LANGUAGE_JAVASCRIPT), &json);
    assert_null(strstr(json.text, "\\n"));
    assert_non_null(strstr(json.text, ";1+1\",\"language\":\"javascript\"}"));
    assert_non_null(strstr(json.text, PRELUDE_EXIT));
    job_destroy(job);
}

static void bash_gets_all_values_as_arguments(void **state)
{
    struct job *job = parse(job_text);
    AUTO_STRBUF struct strbuf json = STRBUF_INIT;

    (void)state;
    prelude_start(job, spec_of(LANGUAGE_BASH), &json);
    cJSON *root = message(&json);
    const cJSON *process = cJSON_GetObjectItemCaseSensitive(root, "process");
    const cJSON *args = cJSON_GetObjectItemCaseSensitive(process, "args");
    const char *script = cJSON_GetArrayItem(args, 2)->valuestring;

    assert_string_equal(text_at(process, "cmd"), "/bin/bash");
    assert_string_equal(text_at(process, "cwd"), "/home/user");
    assert_true(cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(root, "stdin")));
    /* No function or option of the environment comes before the limits. */
    assert_string_equal(cJSON_GetArrayItem(args, 0)->valuestring, "-p");
    assert_string_equal(cJSON_GetArrayItem(args, 1)->valuestring, "-c");
    assert_null(strstr(script, "x)"));
    assert_non_null(strstr(script, " <" PRELUDE_STDIN_PATH));
    assert_string_equal(cJSON_GetArrayItem(args, 4)->valuestring, "32");
    assert_string_equal(cJSON_GetArrayItem(args, 5)->valuestring, "262144");
    assert_string_equal(cJSON_GetArrayItem(args, 6)->valuestring, "1024");
    assert_string_equal(cJSON_GetArrayItem(args, 7)->valuestring, job->code);
    assert_string_equal(cJSON_GetArrayItem(args, 8)->valuestring, job->args[0]);
    assert_int_equal(cJSON_GetArraySize(args), 10);
    assert_string_equal(
        text_at(cJSON_GetObjectItemCaseSensitive(process, "envs"), "A"),
        job->env[0].value);
    cJSON_Delete(root);
    job_destroy(job);
}

static struct job *with_code_of(size_t size)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT;

    strbuf_adds(&text, "{\"id\":\"a\",\"language\":\"bash\",\"code\":\"");
    for (size_t i = 0; i < size; i++)
        strbuf_addc(&text, '#');
    strbuf_adds(&text, "\"}");
    return parse(text.text);
}

static void code_too_large_for_an_argument_is_a_file(void **state)
{
    struct job *fits = with_code_of(PRELUDE_ARGUMENT_MAX);
    struct job *large = with_code_of(PRELUDE_ARGUMENT_MAX + 1);
    AUTO_STRBUF struct strbuf json = STRBUF_INIT;

    (void)state;
    assert_false(prelude_code_is_file(fits, LANGUAGE_BASH));
    assert_true(prelude_code_is_file(large, LANGUAGE_BASH));
    assert_false(prelude_code_is_file(large, LANGUAGE_PYTHON));
    assert_false(prelude_stdin_is_file(large, LANGUAGE_BASH));
    prelude_start(large, spec_of(LANGUAGE_BASH), &json);
    assert_null(strstr(json.text, "####"));
    assert_non_null(strstr(json.text, "\"" PRELUDE_CODE_PATH "\""));
    /* The worst case still is one argument: 128 KiB with its NUL. */
    assert_true(PRELUDE_ARGUMENT_MAX + 1 <= 128 << 10);
    job_destroy(fits);
    job_destroy(large);
}

static void no_memory_is_told(void **state)
{
    struct job *job = parse(job_text);
    AUTO_STRBUF struct strbuf json = STRBUF_INIT;

    (void)state;
    json.failed = true;
    prelude_execute(job, spec_of(LANGUAGE_PYTHON), &json);
    assert_true(json.failed);
    prelude_start(job, spec_of(LANGUAGE_BASH), &json);
    assert_true(json.failed);
    job_destroy(job);
}

static void what_limits_each_thing_is_said_truly(void **state)
{
    char id[] = "t";
    struct template_variant sized = {id, 2, (int64_t)512 << 20};
    struct template_variant unknown = {id, 0, 0};
    struct enforced e;

    (void)state;
    prelude_enforced(spec_of(LANGUAGE_PYTHON), &sized, 130, &e);
    assert_string_equal(e.memory, "microVM of 512 MB; RLIMIT_DATA per process");
    assert_non_null(strstr(e.cpu, "2 vCPU"));
    assert_non_null(strstr(e.timeout, "130 s"));
    assert_non_null(strstr(e.network, "firewall"));
    prelude_enforced(spec_of(LANGUAGE_JAVASCRIPT), &unknown, 130, &e);
    assert_memory_equal(e.memory, "no: ", 4);
    assert_memory_equal(e.cpu, "no: ", 4);
    assert_memory_equal(e.pids, "no: ", 4);
    assert_memory_equal(e.disk, "no: ", 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(python_gets_all_values_as_base64_of_json),
        cmocka_unit_test(javascript_gets_env_and_args_as_base64),
        cmocka_unit_test(code_alone_stays_on_its_lines),
        cmocka_unit_test(bash_gets_all_values_as_arguments),
        cmocka_unit_test(code_too_large_for_an_argument_is_a_file),
        cmocka_unit_test(no_memory_is_told),
        cmocka_unit_test(what_limits_each_thing_is_said_truly),
    };

    return cmocka_run_group_tests_name("e2b prelude", tests, NULL, NULL);
}
