/* tests/unit/test_job_memory.c -- jobs, templates and results when memory ends.
 *
 * Every allocation fails once, in turn. Run it with SAN=address to see that
 * nothing is lost on the way back.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/job.h"
#include "common/must.h"
#include "common/result.h"
#include "common/template.h"
#include "tests/support/cmocka_all.h"

/* Calls that still succeed before one fails; below 0: none fails. */
static long until_failure = -1;

static int fails_now(void)
{
    return until_failure >= 0 && until_failure-- == 0;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);

void *__wrap_malloc(size_t size)
{
    return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails_now() ? NULL : __real_realloc(old, size);
}

char *__wrap_strdup(const char *text)
{
    return fails_now() ? NULL : __real_strdup(text);
}

static int hook_cjson(void **state)
{
    cJSON_Hooks hooks = {.malloc_fn = __wrap_malloc, .free_fn = free};

    (void)state;
    cJSON_InitHooks(&hooks);
    return 0;
}

static const char job_text[] =
    "{\"code\":\"x\",\"id\":\"j\",\"template\":\"auto\",\"task_type\":\"ml\","
    "\"requirements\":{\"packages\":[\"a\",\"b\"],\"template_name\":\"t\"},"
    "\"files\":[{\"path\":\"a\",\"content\":\"x\"},{\"path\":\"b\","
    "\"content_base64\":\"AAAA\"}],\"output_files\":[\"*.png\"],\"env\":{"
    "\"A\":\"1\"},\"args\":[\"x\"],\"stdin\":\"y\",\"metadata\":{\"a\":[1]},"
    "\"batch_id\":\"b\",\"callback_url\":\"http://x\",\"tenant\":\"t\","
    "\"unknown\":1}";

static int parse_job(void)
{
    struct complaint why;
    char id[JOB_ID_MAX + 1];
    struct job *job = NULL;
    int rc = job_parse(job_text, strlen(job_text), &job, id, &why);

    job_destroy(job);
    return rc;
}

static int load_templates(void)
{
    struct template_set *set = NULL;
    int rc = template_set_load("templates", NULL, NULL, &set);

    template_set_unref(set);
    return rc;
}

static int encode_result(void)
{
    static const struct result_context ctx = {.job_id = "j"};
    struct strbuf sb = STRBUF_INIT;
    struct outcome o;
    char data[200];
    int rc;

    memset(data, 'x', sizeof data);
    outcome_init(&o, 64);
    o.verdict = VERDICT_OK;
    capture_add(&o.out, data, sizeof data);
    capture_add(&o.err, data, 10);
    rc = result_encode(&ctx, NULL, NULL, &o, &sb);
    if (rc == 0) {
        cJSON *root = cJSON_ParseWithLength(sb.text, sb.len);

        cJSON_Delete(root);
    }
    strbuf_fini(&sb);
    outcome_fini(&o);
    return rc;
}

/* How often `work` met the end of memory before it got through. */
static int each_failure(int (*work)(void))
{
    int failures = 0, rc;

    for (long n = 0; n < 10000; n++) {
        until_failure = n;
        rc = work();
        if (until_failure >= 0) { /* it was never reached */
            until_failure = -1;
            assert_int_equal(rc, 0);
            return failures;
        }
        assert_true(rc == 0 || rc == -ENOMEM);
        failures += rc == -ENOMEM;
    }
    fail();
    return -1;
}

static void a_job_is_read_whole_or_not_at_all(void **state)
{
    (void)state;
    assert_true(each_failure(parse_job) > 60);
}

static void templates_load_all_or_none(void **state)
{
    (void)state;
    assert_true(each_failure(load_templates) > 100);
}

static void a_result_is_whole_or_none(void **state)
{
    (void)state;
    assert_true(each_failure(encode_result) > 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_is_read_whole_or_not_at_all),
        cmocka_unit_test(templates_load_all_or_none),
        cmocka_unit_test(a_result_is_whole_or_none),
    };

    return cmocka_run_group_tests_name("job memory", tests, hook_cjson, NULL);
}
