/* jobjson.h: the job that flags make. */
#include "tests/support/cmocka_all.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/must.h"
#include "producer/jobjson.h"

static char dir[] = "/tmp/capibox-jobjson-XXXXXX";
static char code_path[64], data_path[64], odd_path[64], latin_path[64];
static struct jobjson j;
static struct complaint why;
static cJSON *made;

static void write_file(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "w");

    MUST(file && fwrite(data, 1, size, file) == size);
    MUST0(fclose(file));
}

static int build(const struct options *o)
{
    int rc = jobjson_build(&j, o, code_path, false, &why);

    made = rc == 0 ? cJSON_Parse(j.text.text) : NULL;
    return rc;
}

static const char *text(const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItem(made, name));
}

static int forget(void **state)
{
    (void)state;
    cJSON_Delete(made);
    made = NULL;
    jobjson_fini(&j);
    memset(&why, 0, sizeof(why));
    return 0;
}

static void the_language_comes_from_the_ending_or_the_flag(void **state)
{
    (void)state;
    assert_int_equal(jobjson_language_of("a.b/x.py"), LANGUAGE_PYTHON);
    assert_int_equal(jobjson_language_of("x.mjs"), LANGUAGE_JAVASCRIPT);
    assert_int_equal(jobjson_language_of("x.sh"), LANGUAGE_BASH);
    assert_int_equal(jobjson_language_of("a.py/x"), LANGUAGE_NONE);
    assert_int_equal(jobjson_language_of("-"), LANGUAGE_NONE);
    assert_int_equal(build(&(struct options){.language = "bash"}), 0);
    assert_string_equal(text("language"), "bash");
}

static void a_bare_file_makes_a_bare_job(void **state)
{
    (void)state;
    assert_int_equal(build(&(struct options){0}), 0);
    assert_string_equal(text("code"), "print(\"\xc3\xa9\")\n");
    assert_string_equal(text("language"), "python");
    assert_string_equal(text("id"), j.id);
    assert_int_equal(cJSON_GetArraySize(made), 3);
}

static void limits_and_requirements_become_numbers(void **state)
{
    const struct options o = {
        .timeout_s = 2.5,
        .memory_mb = 64,
        .require = {
            {"disk_limit_mb=32", "network=false", "packages=numpy,pandas"}, 3}};
    const cJSON *wants;

    (void)state;
    assert_int_equal(build(&o), 0);
    wants = cJSON_GetObjectItem(made, "requirements");
    assert_true(cJSON_GetObjectItem(wants, "timeout")->valuedouble == 2.5);
    assert_true(cJSON_GetObjectItem(wants, "memory_limit_mb")->valuedouble ==
                64);
    assert_true(cJSON_IsFalse(cJSON_GetObjectItem(wants, "network")));
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(wants, "packages")),
                     2);
}

static void a_limit_given_twice_or_wrong_is_refused(void **state)
{
    (void)state;
    assert_true(
        build(&(struct options){.memory_mb = 64,
                                .require = {{"memory_limit_mb=32"}, 1}}) < 0);
    forget(NULL);
    assert_true(build(&(struct options){.require = {{"pids_limit"}, 1}}) < 0);
    forget(NULL);
    assert_true(build(&(struct options){.require = {{"pids_limit=many"}, 1}}) <
                0);
    forget(NULL);
    assert_true(build(&(struct options){.require = {{"packages=a\x01"}, 1}}) <
                0);
}

static void files_are_named_and_carried_byte_for_byte(void **state)
{
    char renamed[80];
    const struct options o = {.files = {{data_path, renamed, odd_path}, 3}};
    const cJSON *files;

    (void)state;
    snprintf(renamed, sizeof(renamed), "%s=in/put.bin", data_path);
    assert_int_equal(build(&o), 0);
    files = cJSON_GetObjectItem(made, "files");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(
                            cJSON_GetArrayItem(files, 0), "path")),
                        "data");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(
                            cJSON_GetArrayItem(files, 1), "path")),
                        "in/put.bin");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(
                            cJSON_GetArrayItem(files, 1), "content_base64")),
                        "AP8=");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(
                            cJSON_GetArrayItem(files, 2), "path")),
                        "a=b");
}

static void a_file_that_would_climb_out_is_refused(void **state)
{
    char renamed[80];

    (void)state;
    snprintf(renamed, sizeof(renamed), "%s=../x", data_path);
    assert_true(build(&(struct options){.files = {{renamed}, 1}}) < 0);
}

static void environment_arguments_and_metadata_pass_through(void **state)
{
    const char *rest[] = {"-x", "two words"};
    const struct options o = {.env = {{"A=b=c"}, 1},
                              .rest = rest,
                              .nrest = 2,
                              .metadata = "{\"n\": 12345678901234567890}"};

    (void)state;
    assert_int_equal(build(&o), 0);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(
                            cJSON_GetObjectItem(made, "env"), "A")),
                        "b=c");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetArrayItem(
                            cJSON_GetObjectItem(made, "args"), 1)),
                        "two words");
    assert_non_null(strstr(j.text.text, "12345678901234567890"));
}

static void metadata_that_is_no_object_is_refused(void **state)
{
    static const char *const bad[] = {"", "1", "[1]", "{\"a\":1} x", "{"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_true(build(&(struct options){.metadata = bad[i]}) < 0);
        assert_string_equal(why.field, "--metadata");
        forget(NULL);
    }
}

static void text_with_a_nul_byte_is_refused(void **state)
{
    (void)state;
    assert_true(build(&(struct options){.stdin_file = data_path}) < 0);
    assert_string_equal(why.field, "--stdin");
}

static void
bytes_that_are_no_utf8_are_told_by_their_place_in_the_code(void **state)
{
    (void)state;
    assert_true(
        jobjson_build(&j, &(struct options){0}, latin_path, false, &why) < 0);
    assert_string_equal(why.field, "code");
    assert_non_null(
        strstr(why.text, "is not UTF-8 (byte 0xff at line 2, column 8)"));
    forget(NULL);
    assert_true(build(&(struct options){.env = {{"A=\xff"}, 1}}) < 0);
    assert_string_equal(why.field, "--env");
    assert_non_null(strstr(why.text, "column 3"));
}

static int begin(void **state)
{
    static const char code[] = "print(\"\xc3\xa9\")\n";

    (void)state;
    MUST(mkdtemp(dir));
    snprintf(code_path, sizeof(code_path), "%s/code.py", dir);
    snprintf(data_path, sizeof(data_path), "%s/data", dir);
    snprintf(odd_path, sizeof(odd_path), "%s/a=b", dir);
    write_file(code_path, code, sizeof(code) - 1);
    write_file(data_path, "\0\xff", 2);
    write_file(odd_path, "x", 1);
    snprintf(latin_path, sizeof(latin_path), "%s/latin.py", dir);
    write_file(latin_path, "# \xc3\xa9\nprint(\"\xff\xfe\")", 16);
    return 0;
}

static int end(void **state)
{
    (void)state;
    unlink(code_path);
    unlink(data_path);
    unlink(odd_path);
    unlink(latin_path);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(
            the_language_comes_from_the_ending_or_the_flag, forget),
        cmocka_unit_test_teardown(a_bare_file_makes_a_bare_job, forget),
        cmocka_unit_test_teardown(limits_and_requirements_become_numbers,
                                  forget),
        cmocka_unit_test_teardown(a_limit_given_twice_or_wrong_is_refused,
                                  forget),
        cmocka_unit_test_teardown(files_are_named_and_carried_byte_for_byte,
                                  forget),
        cmocka_unit_test_teardown(a_file_that_would_climb_out_is_refused,
                                  forget),
        cmocka_unit_test_teardown(
            environment_arguments_and_metadata_pass_through, forget),
        cmocka_unit_test_teardown(metadata_that_is_no_object_is_refused,
                                  forget),
        cmocka_unit_test_teardown(text_with_a_nul_byte_is_refused, forget),
        cmocka_unit_test_teardown(
            bytes_that_are_no_utf8_are_told_by_their_place_in_the_code, forget),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
