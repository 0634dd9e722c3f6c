/* worker/cache.h: kept results, retold */
#include <errno.h>
#include <string.h>

#include "tests/support/cmocka_all.h"
#include "worker/cache.h"

#define HEAD "{\"job_id\":\"old\",\"success\":true,\"execution_time\":1.5,"
#define TAIL                                                              \
    "\"metadata\":{\"a\":[1]},\"timestamp\":\"2020-01-01T00:00:00.000Z\"" \
    "}"

static const struct result_context context = {
    .job_id = "new",
    .worker = "w-2",
    .attempt = 3,
    .execution_time = 0.25,
    .processing_time = 0.5,
    .queue_time = 0.125,
    .finished_at = 1700000000.5,
};

static void a_result_is_retold_with_nothing_else_changed(void **state)
{
    static const char kept[] =
        HEAD "\"processing_time\":2,\"queue_time\":3,\"logs\":{\"stdout\":"
             "[\"a\\u0000b \\\"job_id\\\":1\\n\"]},\"results\":[{\"data\":"
             "[12345678901234567890,0.1,1e400],\"worker\":\"x\"}],"
             "\"cached\":false,\"attempt\":1,\"worker\":\"w-1\"," TAIL;
    struct job job = {.metadata = NULL};
    struct strbuf out = STRBUF_INIT;

    (void)state;
    assert_int_equal(cache_retell(kept, sizeof(kept) - 1, &context, &job, &out),
                     0);
    assert_string_equal(
        out.text,
        "{\"job_id\":\"new\",\"success\":true,\"execution_time\":0.250000,"
        "\"processing_time\":0.500000,\"queue_time\":0.125000,\"logs\":{"
        "\"stdout\":"
        "[\"a\\u0000b \\\"job_id\\\":1\\n\"]},\"results\":[{\"data\":"
        "[12345678901234567890,0.1,1e400],\"worker\":\"x\"}],"
        "\"cached\":true,\"attempt\":3,\"worker\":\"w-2\",\"metadata\":{},"
        "\"timestamp\":\"2023-11-14T22:13:20.500Z\"}");
    strbuf_fini(&out);
}

static void what_is_no_result_is_refused(void **state)
{
    static const char *const kept[] = {
        "", "[]", "{}", HEAD "\"cached\":false}", HEAD, HEAD TAIL,
    };
    struct job job = {.metadata = NULL};
    struct strbuf out = STRBUF_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++)
        assert_int_equal(
            cache_retell(kept[i], strlen(kept[i]), &context, &job, &out),
            -EINVAL);
    strbuf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_result_is_retold_with_nothing_else_changed),
        cmocka_unit_test(what_is_no_result_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
