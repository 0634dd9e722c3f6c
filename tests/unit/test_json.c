/* tests/unit/test_json.c -- the check before cJSON, and what we write. */
#include "common/json.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "common/limits.h"
#include "tests/support/cmocka_all.h"

static int check(const char *text, struct complaint *why)
{
    return json_check(text, strlen(text), NULL, 0, why, NULL);
}

static void the_grammar_of_rfc_8259_passes(void **state)
{
    static const char *const good[] = {"0",
                                       "-0.5e+10",
                                       "\"\"",
                                       "null",
                                       " [ ] ",
                                       "{}",
                                       "[1,[2],{\"\":3}]",
                                       "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"",
                                       "\t\r\n{\"a\" : [ true , "
                                       "false ] }\n"};
    struct complaint why;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        cJSON *tree = cJSON_Parse(good[i]);

        assert_int_equal(check(good[i], &why), 0);
        assert_non_null(tree);
        cJSON_Delete(tree);
    }
}

static void what_is_not_json_is_told_from_what_we_refuse(void **state)
{
    static const char *const broken[] = {
        "",      "{",    "[1,]", "[1 2]",   "{\"a\"}", "{\"a\":}",   "tru",
        "nulll", "01",   "1.",   ".5",      "1e",      "-",          "\"",
        "\"\\x", "[1]]", "{,}",  "\"a\" b", "'a'",     "\"\\u00g0\""};
    static const char *const refused[] = {
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\\ud800\\ud800\"",
        "\"\xff\"",
        "\"\n\"",
        "[NaN]",
        "[-Infinity]",
        "[Infinity]",
        "[1111111111111111111111111111111111111111111111111111111111111111111"
        "1]"};
    struct complaint why;

    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        assert_int_equal(check(broken[i], &why), -EBADMSG);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        assert_int_equal(check(refused[i], &why), -EINVAL);
}

static void a_number_that_passes_is_one_cjson_can_read(void **state)
{
    /* 60 characters: the longest that pass. */
    static const char text[] =
        "[0.1234567890123456789012345678901234567890123456789012345678]";
    struct complaint why;
    cJSON *tree = cJSON_Parse(text);

    (void)state;
    assert_int_equal(check(text, &why), 0);
    assert_non_null(tree);
    cJSON_Delete(tree);
}

static void values_are_located_by_their_path(void **state)
{
    static const char text[] =
        "{\"a\": {\"b\": [1, {\"c\": \"x\"}]},\n\"b\": [2, 33], \"b\": 4}";
    struct json_want wants[] = {
        {.path = "a.b[1].c"}, {.path = "b[1]"}, {.path = "b"},
        {.path = "c"},        {.path = "a.b"},
    };
    struct complaint why;

    (void)state;
    assert_int_equal(json_check(text, strlen(text), wants, 5, &why, NULL), 0);
    assert_int_equal(wants[0].size, 3);
    assert_memory_equal(text + wants[0].at, "\"x\"", 3);
    assert_memory_equal(text + wants[1].at, "33", 2);
    assert_int_equal(wants[2].size, strlen("[2, 33]"));
    assert_int_equal(wants[3].size, 0);
    assert_int_equal(wants[4].size, strlen("[1, {\"c\": \"x\"}]"));
    assert_int_equal(json_line(text, wants[2].at), 2);
}

static void a_name_with_a_nul_is_not_taken_for_a_shorter_one(void **state)
{
    static const char text[] = "{\"id\0and much, much more\":1}";
    struct json_want want = {.path = "id"};
    struct complaint why;

    (void)state;
    assert_int_equal(json_check(text, sizeof text - 1, &want, 1, &why, NULL),
                     -EINVAL);
    assert_int_equal(want.size, 0);
}

static void white_space_goes_and_strings_stay(void **state)
{
    static const char text[] = "{ \"a b\" :\n[ 1 , \"\\\" \\\\\" ]\t}";
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;

    (void)state;
    json_minify(text, strlen(text), &sb);
    assert_string_equal(sb.text, "{\"a b\":[1,\"\\\" \\\\\"]}");
}

static void numbers_are_written_with_their_decimals(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;

    (void)state;
    json_add_fixed(&sb, 0.0000014, 6);
    json_add_lit(&sb, " ");
    json_add_fixed(&sb, 12.9999999, 6);
    json_add_lit(&sb, " ");
    json_add_fixed(&sb, -1, 6);
    json_add_lit(&sb, " ");
    json_add_fixed(&sb, NAN, 3);
    json_add_lit(&sb, " ");
    json_add_fixed(&sb, 0.05, 3);
    json_add_lit(&sb, " ");
    json_add_number(&sb, 300, 3);
    json_add_lit(&sb, " ");
    json_add_number(&sb, 0.5, 3);
    json_add_lit(&sb, " ");
    json_add_fixed(&sb, INFINITY, 0);
    assert_string_equal(sb.text, "0.000001 13.000000 0.000000 0.000 0.050 300 "
                                 "0.5 9000000000000");
    strbuf_clear(&sb);
    json_add_int(&sb, INT64_MIN);
    json_add_lit(&sb, " ");
    json_add_int(&sb, 0);
    json_add_lit(&sb, " ");
    json_add_int(&sb, INT64_MAX);
    assert_string_equal(sb.text, "-9223372036854775808 0 9223372036854775807");
}

static void times_are_written_as_the_c_library_has_them(void **state)
{
    static const double samples[] = {
        0,          1,          951782400,  951868800,  1709164799,
        1709164800, 1735689599, 1735689600, 4107542400, 253402300799.0};

    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        AUTO_STRBUF struct strbuf sb = STRBUF_INIT;
        time_t at = (time_t)samples[i];
        struct tm tm;
        char text[64];

        gmtime_r(&at, &tm);
        strftime(text, sizeof text, "\"%Y-%m-%dT%H:%M:%S.000Z\"", &tm);
        json_add_time(&sb, samples[i]);
        assert_string_equal(sb.text, text);
    }
}

static void milliseconds_are_cut_not_rounded(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;

    (void)state;
    json_add_time(&sb, 1767323045.6789);
    assert_string_equal(sb.text, "\"2026-01-02T03:04:05.678Z\"");
}

static void an_escaped_nul_is_shown_and_nothing_else_is_touched(void **state)
{
    char text[] = "[\"a\\u0000b\\\\u0000\\u0000\",\"\\\\\\u0000\\u00001\\n\"]";

    (void)state;
    json_show_nuls(text);
    assert_string_equal(
        text, "[\"a\\\\x00b\\\\u0000\\\\x00\",\"\\\\\\\\x00\\\\x001\\n\"]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_escaped_nul_is_shown_and_nothing_else_is_touched),
        cmocka_unit_test(the_grammar_of_rfc_8259_passes),
        cmocka_unit_test(what_is_not_json_is_told_from_what_we_refuse),
        cmocka_unit_test(a_number_that_passes_is_one_cjson_can_read),
        cmocka_unit_test(values_are_located_by_their_path),
        cmocka_unit_test(a_name_with_a_nul_is_not_taken_for_a_shorter_one),
        cmocka_unit_test(white_space_goes_and_strings_stay),
        cmocka_unit_test(numbers_are_written_with_their_decimals),
        cmocka_unit_test(times_are_written_as_the_c_library_has_them),
        cmocka_unit_test(milliseconds_are_cut_not_rounded),
    };

    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
