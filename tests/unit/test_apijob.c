/* A request's body as jobs for the queue. */
#include "tests/support/cmocka_all.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "producer/gateway/apijob.h"
#include "producer/gateway/execute.h"

static struct settings settings = {.queues = {{"high", 0}, {"default", 0}},
                                   .nqueues = 2};

static int build(const char *body, const char *tenant, struct apijob *job,
                 struct complaint *why)
{
    struct apijob_rules rules = {.tenant = tenant, .settings = &settings};

    *why = (struct complaint){0};
    return apijob_build(body, strlen(body), &rules, job, why);
}

static void what_is_not_the_gateways_stays_as_it_came(void **state)
{
    static const char REST[] =
        "\"code\":\"a\\u0041\",\"metadata\":{\"n\": 1.0e2,\"x\":[ {} ]}";
    struct complaint why;
    struct apijob job;
    char body[300];

    (void)state;
    snprintf(body, sizeof(body), " {\"async\":true , %s,\"id\":\"i\"} ", REST);
    assert_int_equal(build(body, NULL, &job, &why), 0);
    assert_true(job.async);
    snprintf(body, sizeof(body), "{%s,\"id\":\"i\"}", REST);
    assert_string_equal(job.text.text, body);
    apijob_fini(&job);
}

static void a_job_without_an_id_gets_one(void **state)
{
    static const char *const bodies[] = {"{\"code\":\"1\"}",
                                         "{\"id\":null,\"code\":\"1\"}"};
    struct complaint why;
    struct apijob job;

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(build(bodies[i], NULL, &job, &why), 0);
        assert_int_equal(strncmp(job.job->id, "j-", 2), 0);
        apijob_fini(&job);
    }
}

static void a_keys_name_is_the_tenant_whatever_the_body_says(void **state)
{
    static const char *const bodies[] = {
        "{\"tenant\":\"bob\",\"code\":\"1\"}", "{\"code\":\"1\"}",
        "{\"code\":\"1\",\"tenant\":\"x\",\"tenant\":\"y\"}",
        "{\"code\":\"1\",\"\\u0074enant\":\"bob\"}"};
    struct complaint why;
    struct apijob job;

    (void)state;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(build(bodies[i], "alice", &job, &why), 0);
        assert_string_equal(job.job->tenant, "alice");
        apijob_fini(&job);
    }
    assert_int_equal(build(bodies[0], NULL, &job, &why), 0);
    assert_string_equal(job.job->tenant, "bob");
    apijob_fini(&job);
}

static void only_queues_that_are_served_may_be_named(void **state)
{
    struct complaint why;
    struct apijob job;

    (void)state;
    assert_int_equal(
        build("{\"code\":\"1\",\"queue\":\"high\"}", NULL, &job, &why), 0);
    assert_string_equal(job.queue, "high");
    assert_null(strstr(job.text.text, "high"));
    apijob_fini(&job);
    assert_int_equal(
        build("{\"code\":\"1\",\"queue\":\"low\"}", NULL, &job, &why), -EINVAL);
    assert_string_equal(why.field, "queue");
    assert_non_null(strstr(why.text, "high, default"));
}

static void escapes_do_not_change_what_a_member_is(void **state)
{
    static const char BODY[] =
        "{\"code\":\"1\",\"\\u0061sync\":true,\"i\\u0064\":\"j-1\","
        "\"queue\":\"h\\u0069gh\"}";
    struct complaint why;
    struct apijob job;

    (void)state;
    assert_int_equal(build(BODY, NULL, &job, &why), 0);
    assert_true(job.async);
    assert_string_equal(job.job->id, "j-1");
    assert_string_equal(job.queue, "high");
    assert_int_equal((int)job.job->nwarnings, 0);
    apijob_fini(&job);
    /* A quote in a name does not end it. */
    assert_int_equal(
        build("{\"code\":\"1\",\"x\\\"async\":true}", NULL, &job, &why), 0);
    assert_false(job.async);
    assert_int_equal((int)job.job->nwarnings, 1);
    apijob_fini(&job);
}

static void nothing_at_all_is_a_job_without_code(void **state)
{
    static const char *const bodies[] = {"{}", "{ }", "{\"async\":true}"};
    struct complaint why;
    struct apijob job;

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(build(bodies[i], NULL, &job, &why), -EINVAL);
        assert_string_equal(why.field, "code");
    }
    assert_int_equal(build("", NULL, &job, &why), -EBADMSG);
}

static void a_batch_is_all_good_or_none(void **state)
{
    static const char GOOD[] =
        "{\"note\":[{\"jobs\":1}],\"jobs\" : [ {\"code\":\"]}\"} ,"
        "{\"code\":\"2\",\"batch_id\":\"mine\"} ] }";
    static const char BAD[] = "{\"jobs\":[{\"code\":\"1\"},{\"code\":\"\"}]}";
    struct apijob_rules rules = {.batch_id = "b-1", .settings = &settings};
    struct complaint why = {0};
    struct apijob *jobs;
    size_t count;

    (void)state;
    assert_int_equal(
        apijob_build_batch(GOOD, strlen(GOOD), &rules, &jobs, &count, &why), 0);
    assert_int_equal((int)count, 2);
    assert_string_equal(jobs[0].job->code, "]}");
    assert_string_equal(jobs[1].job->batch_id, "b-1");
    apijob_free_batch(jobs, count);
    assert_int_equal(
        apijob_build_batch(BAD, strlen(BAD), &rules, &jobs, &count, &why),
        -EINVAL);
    assert_string_equal(why.field, "jobs[1].code");
}

/* A job of this size. Code has a limit of its own: metadata fills it. */
static char *job_of(size_t size)
{
    static const char front[] = "{\"code\":\"1\",\"metadata\":{\"x\":\"";
    static const char end[] = "\"}}";
    char *text = malloc(size + 1);

    assert_non_null(text);
    memset(text, 'x', size);
    memcpy(text, front, sizeof(front) - 1);
    memcpy(text + size - sizeof(end) + 1, end, sizeof(end));
    return text;
}

static void the_limit_is_of_what_was_sent(void **state)
{
    struct apijob_rules rules = {
        .tenant = "alice", .batch_id = "b-1", .settings = &settings};
    AUTO_FREE char *full = job_of(JOB_BYTES_MAX);
    AUTO_FREE char *more = job_of(JOB_BYTES_MAX + 1);
    struct complaint why = {0};
    struct apijob job;

    (void)state;
    if (apijob_build(full, strlen(full), &rules, &job, &why) != 0)
        fail_msg("%s", why.text);
    assert_true(job.text.len > JOB_BYTES_MAX);
    apijob_fini(&job);
    assert_int_equal(apijob_build(more, strlen(more), &rules, &job, &why),
                     -EFBIG);
    assert_non_null(strstr(why.text, "4194305"));
}

static void one_too_large_job_of_a_batch_is_named(void **state)
{
    struct apijob_rules rules = {.batch_id = "b-1", .settings = &settings};
    AUTO_FREE char *more = job_of(JOB_BYTES_MAX + 1);
    AUTO_STRBUF struct strbuf body = STRBUF_INIT;
    struct complaint why = {0};
    struct apijob *jobs;
    size_t count;

    (void)state;
    strbuf_addf(&body, "{\"jobs\":[{\"code\":\"1\"},%s]}", more);
    assert_int_equal(
        apijob_build_batch(body.text, body.len, &rules, &jobs, &count, &why),
        -EFBIG);
    assert_string_equal(why.field, "jobs[1]");
}

static void prefer_is_read_as_it_is_written(void **state)
{
    static const struct {
        const char *header;
        double wait;
    } read[] = {
        {NULL, -1},
        {"", -1},
        {"return=minimal", -1},
        {"respond-async", 0},
        {"Respond-Async", 0},
        {"respond-async, wait=10", 10},
        {"wait=2.5; x=1, respond-async", 2.5},
        {"wait=1000000000", EXECUTE_WAIT_S},
        {"wait=-5", -1},
        {"wait=nan", -1},
        {"wait=1e9", -1},
        {"wait=", -1},
        {"wait=abc", -1},
        {"wait=abc, respond-async", 0},
        {"wait=1abc", -1},
        {"wait=1.", -1},
        {"wait=\"1\"", 1},
        {"wait=\"\\1\"; a=\"b\"", 1},
        {"wait=\"1", 1},
        {"wait = 1", 1},
        {"\twait\t=\t1\t", 1},
        {"wait", -1},
        {"waits=1", -1},
        {"await=1", -1},
        {"wait=1, wait=2", 1},
        {"wait=x, wait=2", -1},
        {"respond-asynchronous", -1},
        {"respond-async=no", -1},
        {"respond-async=\"\"", 0},
        {"respond-async;x=1", 0},
        {"return=minimal , , respond-async", 0},
        {"note=\"a, wait=5\"", -1},
        {"note; x=\"\\\", wait=5\", wait=6", 6},
        {"note=\"open, wait=5", -1},
        {"=, ;, \", wait=3", 3},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(read) / sizeof(*read); i++)
        if (execute_prefer(read[i].header) != read[i].wait)
            fail_msg("%s: %g", read[i].header, execute_prefer(read[i].header));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_the_gateways_stays_as_it_came),
        cmocka_unit_test(a_job_without_an_id_gets_one),
        cmocka_unit_test(a_keys_name_is_the_tenant_whatever_the_body_says),
        cmocka_unit_test(only_queues_that_are_served_may_be_named),
        cmocka_unit_test(escapes_do_not_change_what_a_member_is),
        cmocka_unit_test(nothing_at_all_is_a_job_without_code),
        cmocka_unit_test(a_batch_is_all_good_or_none),
        cmocka_unit_test(the_limit_is_of_what_was_sent),
        cmocka_unit_test(one_too_large_job_of_a_batch_is_named),
        cmocka_unit_test(prefer_is_read_as_it_is_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
