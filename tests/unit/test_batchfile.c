/* batchfile.h: files of jobs, one a line. */
#include "tests/support/cmocka_all.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "producer/batchfile.h"

static struct batchfile b;
static struct complaint why;

static int parse(const char *text)
{
    memset(&why, 0, sizeof(why));
    return batchfile_parse(&b, strdup(text), strlen(text), &why);
}

static int forget(void **state)
{
    (void)state;
    batchfile_fini(&b);
    return 0;
}

static void every_line_is_a_job_and_empty_ones_are_not(void **state)
{
    (void)state;
    assert_int_equal(parse("{\"id\":\"x\",\"code\":\"1\"}\n\n  \r\n"
                           "{\"code\":\"2\"}\r\n{}"),
                     0);
    assert_int_equal(b.count, 3);
    assert_string_equal(b.lines[0].id, "x");
    assert_int_equal(b.lines[1].number, 4);
    assert_int_equal(batchfile_find(&b, b.lines[1].id), 1);
    assert_int_equal(batchfile_find(&b, b.lines[2].id), 2);
    assert_int_equal(batchfile_find(&b, "nobody"), -1);
}

static void assert_refused(const char *text, const char *field)
{
    assert_true(parse(text) < 0);
    assert_string_equal(why.field, field);
    batchfile_fini(&b);
}

static void a_line_that_cannot_be_followed_is_named(void **state)
{
    (void)state;
    assert_refused("{}\nnonsense", "line 2");
    assert_refused("{}\n\n[1]", "line 3");
    assert_refused("{} {}", "line 1");
    assert_refused("{\"id\":7}", "line 1");
    assert_refused("{\"id\":\"no good\"}", "line 1");
    assert_refused("{\"batch_id\":\"x\"}", "line 1");
    assert_refused("\n \n", "");
    assert_refused("{\"id\":\"a\"}\n{\"id\":\"b\"}\n{\"id\":\"a\"}", "");
    assert_non_null(strstr(why.text, "lines 1 and 3"));
}

static void assert_body(const char *text, const char *want_after_ids)
{
    AUTO_STRBUF struct strbuf out = STRBUF_INIT;
    cJSON *json;

    assert_int_equal(parse(text), 0);
    batchfile_body(&b.lines[0], "batch-1", &out);
    json = cJSON_Parse(out.text);
    assert_non_null(json);
    assert_string_equal(
        cJSON_GetStringValue(cJSON_GetObjectItem(json, "batch_id")), "batch-1");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(json, "id")),
                        b.lines[0].id);
    assert_non_null(strstr(out.text, want_after_ids));
    cJSON_Delete(json);
    batchfile_fini(&b);
}

static void ids_are_put_in_and_all_else_stays(void **state)
{
    (void)state;
    assert_body(" { \"code\":\"1\",\"metadata\":{\"n\":12345678901234567890}}",
                ", \"code\":\"1\",\"metadata\":{\"n\":12345678901234567890}}");
    assert_body("{\"id\":\"own\",\"code\":\"1\"}", "\"id\":\"own\"");
    assert_body("{ }", "\"batch_id\":\"batch-1\" }");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_line_is_a_job_and_empty_ones_are_not,
                                  forget),
        cmocka_unit_test(a_line_that_cannot_be_followed_is_named),
        cmocka_unit_test(ids_are_put_in_and_all_else_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
