/* tests/unit/test_job.c -- what a job may be, and what is said when it is not.
 */
#include "common/job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/scope.h"
#include "common/strbuf.h"
#include "tests/support/cmocka_all.h"

static struct job *parse(const char *text)
{
    struct complaint why = {0};
    struct job *job = NULL;
    char id[JOB_ID_MAX + 1];
    int rc = job_parse(text, strlen(text), &job, id, &why);

    if (rc < 0)
        print_error("%s\n -> %s: %s\n", text, why.field, why.text);
    assert_int_equal(rc, 0);
    return job;
}

static void refuse_sized(const char *text, size_t size, const char *field,
                         const char *part, const char *id)
{
    struct complaint why = {0};
    struct job *job = NULL;
    char id_out[JOB_ID_MAX + 1] = "unset";
    int rc = job_parse(text, size, &job, id_out, &why);

    if (rc != -EINVAL || strcmp(why.field, field) != 0 ||
        !strstr(why.text, part))
        print_error("%.200s\n -> %d %s: %s\n", text, rc, why.field, why.text);
    assert_int_equal(rc, -EINVAL);
    assert_null(job);
    assert_string_equal(why.field, field);
    assert_non_null(strstr(why.text, part));
    assert_string_equal(id_out, id);
}

/* The job's fields besides code and id, which every one of these has. */
static void refuse(const char *fields, const char *field, const char *part)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;

    strbuf_addf(&sb, "{\"id\":\"j1\",\"code\":\"x\",%s}", fields);
    refuse_sized(sb.text, sb.len, field, part, "j1");
}

static void only_code_is_needed(void **state)
{
    struct job *job = parse("{\"code\":\"print(1)\"}");

    (void)state;
    assert_string_equal(job->code, "print(1)");
    assert_int_equal(job->code_bytes, 8);
    assert_string_equal(job->id, "");
    assert_int_equal(job->language, LANGUAGE_NONE);
    assert_int_equal(job->max_attempts, 3);
    assert_int_equal(job->wants.network, -1);
    assert_null(job->metadata);
    assert_int_equal(job->nwarnings, 0);
    job_destroy(job);
}

static void every_field_of_the_contract_is_read(void **state)
{
    struct job *job = parse(
        "{\"id\":\"a.b_c:1-2\",\"code\":\"\xc3\xa9\",\"language\":\"bash\","
        "\"template\":\"auto\",\"task_type\":\"ml\",\"requirements\":{"
        "\"timeout\":1.5,\"memory_limit_mb\":64,\"cpu_limit_percent\":10,"
        "\"disk_limit_mb\":5,\"pids_limit\":7,\"output_limit_kb\":9,"
        "\"packages\":[\"pandas\",\"numpy\"],\"template_name\":\"a/b\","
        "\"network\":true},\"timeout\":1.5,\"files\":[{\"path\":\"./d//a\","
        "\"content\":\"hi\"},{\"path\":\"/home/user/d/b\","
        "\"content_base64\":\"AAEC\"}],\"output_files\":[\"/home/user/*.png\"],"
        "\"env\":{\"A\":\"$x\",\"npm.x\":\"\"},\"args\":[\"\",\"-v\"],"
        "\"stdin\":\"in\",\"metadata\":{\"n\": 123456789012345678901, "
        "\"t\":\" \\\" }\"},\"max_attempts\":10,\"delay\":0.5,"
        "\"expires_in\":60,\"batch_id\":\"b:1\",\"cache\":true,"
        "\"stream\":true,\"callback_url\":\"https://x/y\",\"tenant\":\"t\"}");

    (void)state;
    assert_string_equal(job->id, "a.b_c:1-2");
    assert_int_equal(job->code_bytes, 2);
    assert_int_equal(job->language, LANGUAGE_BASH);
    assert_string_equal(job->template_id, "auto");
    assert_string_equal(job->task_type, "ml");
    assert_true(job->wants.timeout_s == 1.5 && job->wants.memory_mb == 64);
    assert_true(job->wants.cpu_percent == 10 && job->wants.disk_mb == 5);
    assert_true(job->wants.pids == 7 && job->wants.output_kb == 9);
    assert_string_equal(job->wants.packages[1], "numpy");
    assert_null(job->wants.packages[2]);
    assert_string_equal(job->wants.template_name, "a/b");
    assert_int_equal(job->wants.network, 1);
    assert_true(job->network_given);
    assert_int_equal(job->nfiles, 2);
    assert_string_equal(job->files[0].path, "d/a");
    assert_int_equal(job->files[0].size, 2);
    assert_string_equal(job->files[1].path, "d/b");
    assert_int_equal(job->files[1].size, 3);
    assert_memory_equal(job->files[1].data, "\0\1\2", 3);
    assert_string_equal(job->output_files[0], "*.png");
    assert_int_equal(job->nenv, 2);
    assert_string_equal(job->env[0].value, "$x");
    assert_string_equal(job->env[1].name, "npm.x");
    assert_string_equal(job->args[0], "");
    assert_string_equal(job->args[1], "-v");
    assert_int_equal(job->stdin_bytes, 2);
    assert_string_equal(job->metadata,
                        "{\"n\":123456789012345678901,\"t\":\" \\\" }\"}");
    assert_int_equal(job->max_attempts, 10);
    assert_true(job->delay_s == 0.5 && job->expires_in_s == 60);
    assert_string_equal(job->batch_id, "b:1");
    assert_true(job->cache && job->stream);
    assert_string_equal(job->callback_url, "https://x/y");
    assert_string_equal(job->tenant, "t");
    assert_int_equal(job->nwarnings, 0);
    job_destroy(job);
}

static void null_counts_as_not_given(void **state)
{
    struct job *job = parse("{\"code\":\"x\",\"id\":null,\"timeout\":null,"
                            "\"requirements\":{\"pids_limit\":null},"
                            "\"metadata\":null,\"files\":null}");

    (void)state;
    assert_string_equal(job->id, "");
    assert_true(job->wants.pids == 0);
    assert_null(job->metadata);
    job_destroy(job);
}

static void unknown_fields_are_named_in_warnings(void **state)
{
    struct job *job = parse("{\"code\":\"x\",\"tiemout\":1,\"requirements\":{"
                            "\"gpu\":1},\"files\":[{\"path\":\"a\","
                            "\"content\":\"\",\"mode\":7}]}");

    (void)state;
    assert_int_equal(job->nwarnings, 3);
    assert_string_equal(job->warnings[0],
                        "unknown field \"tiemout\" was ignored; did you mean "
                        "timeout?");
    assert_non_null(strstr(job->warnings[1], "\"requirements.gpu\""));
    assert_null(strstr(job->warnings[1], "did you mean"));
    assert_non_null(strstr(job->warnings[2], "\"files[0].mode\""));
    job_destroy(job);
}

static void near_requirements_are_named_where_they_belong(void **state)
{
    struct job *job =
        parse("{\"code\":\"x\",\"memory_limit_mb\":64,"
              "\"requirements\":{\"memory_limit\":1,\"pakages\":[]},"
              "\"files\":[{\"path\":\"a\",\"content\":\"\","
              "\"contents\":\"\"}]}");

    (void)state;
    assert_int_equal(job->nwarnings, 4);
    assert_non_null(
        strstr(job->warnings[0], "did you mean requirements.memory_limit_mb?"));
    assert_non_null(strstr(job->warnings[1],
                           "\"requirements.memory_limit\" was ignored; did you "
                           "mean requirements.memory_limit_mb?"));
    assert_non_null(
        strstr(job->warnings[2], "did you mean requirements.packages?"));
    assert_non_null(strstr(job->warnings[3], "did you mean content?"));
    job_destroy(job);
}

static void
a_flood_of_unknown_fields_is_counted_in_the_last_warning(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;
    struct job *job;

    (void)state;
    strbuf_adds(&sb, "{\"code\":\"x\"");
    for (int i = 0; i < 40; i++)
        strbuf_addf(&sb, ",\"f%d\":1", i);
    strbuf_adds(&sb, "}");
    job = parse(sb.text);
    assert_int_equal(job->nwarnings, JOB_WARNINGS_MAX);
    assert_string_equal(job->warnings[JOB_WARNINGS_MAX - 1],
                        "…and 9 more unknown fields were ignored");
    job_destroy(job);
}

static void what_is_no_job_is_refused_with_the_place(void **state)
{
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", "ends too early at line 1, column 1"},
        {"hello", "not JSON at line 1, column 1: expected a value"},
        {"[1]", "one JSON object"},
        {"\"x\"", "one JSON object"},
        {"{\"code\":\"x\"", "expected a comma or }"},
        {"{\"code\":\n \"x\" 1}", "line 2, column 6: expected a comma"},
        {"{\"code\":\"x\"}{", "nothing more behind the end"},
        {"{\"code\":\"x\",}", "a field's name in double quotes"},
        {"{code:\"x\"}", "a field's name in double quotes"},
        {"{\"code\":'x'}", "expected a value"},
        {"{\"code\":\"x\",\"timeout\":01}", "a comma or }"},
        {"{\"code\":\"x\",\"timeout\":1.}", "a digit after the decimal"},
        {"{\"code\":\"x\",\"timeout\":+1}", "expected a value"},
        {"{\"code\":\"\\q\"}", "after a backslash"},
        {"{\"code\":\"\\u12\"}", "four hex digits"},
        {"{\"code\":\"x", "a closing quote"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuse_sized(cases[i].text, strlen(cases[i].text), "", cases[i].part,
                     "");
}

static void text_that_would_be_cut_or_garbled_is_refused_by_field(void **state)
{
    static const char raw_nul[] = "{\"id\":\"j1\",\"code\":\"a\0b\"}";

    (void)state;
    refuse("\"stdin\":\"a\\u0000b\"", "stdin", "NUL (\\u0000)");
    refuse("\"env\":{\"A\\u0000\":\"\"}", "env", "a field's name holds a NUL");
    refuse("\"files\":[{\"path\":\"a\",\"content\":\"\"},{\"path\":"
           "\"b\\u0000\"}]",
           "files[1].path", "NUL");
    refuse("\"metadata\":{\"a\":[[0,\"\\ud800\"]]}", "metadata.a[0][1]",
           "surrogate");
    refuse("\"args\":[\"\\udc00\\ud800\"]", "args[0]", "surrogate");
    refuse("\"stdin\":\"\xff\"", "stdin", "is not UTF-8 (byte 0xff");
    refuse("\"stdin\":\"\xc0\x80\"", "stdin", "is not UTF-8");
    refuse("\"stdin\":\"\xed\xa0\x80\"", "stdin", "is not UTF-8");
    refuse("\"stdin\":\"a\nb\"", "stdin", "raw control byte (0x0a)");
    refuse_sized(raw_nul, sizeof raw_nul - 1, "code", "raw control byte (0x00)",
                 "j1");
}

static void a_pair_of_surrogates_is_one_character(void **state)
{
    struct job *job = parse("{\"code\":\"\\ud83d\\ude00\"}");

    (void)state;
    assert_string_equal(job->code, "\xf0\x9f\x98\x80");
    job_destroy(job);
}

static void a_byte_order_mark_in_front_or_in_the_code_is_fine(void **state)
{
    struct job *job = parse("\xef\xbb\xbf{\"code\":\"\xef\xbb\xbfx\","
                            "\"metadata\":{\"a\":1}}");

    (void)state;
    assert_int_equal(job->code_bytes, 4);
    assert_string_equal(job->metadata, "{\"a\":1}");
    job_destroy(job);
    refuse_sized("\xef\xbb\xbf"
                 "3",
                 4, "", "object", "");
}

static void nesting_has_a_limit(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;
    struct complaint why;
    struct job *job;
    char id[JOB_ID_MAX + 1];

    (void)state;
    strbuf_adds(&sb, "{\"id\":\"j1\",\"code\":\"x\",\"metadata\":{\"a\":");
    for (int i = 0; i < 1000000; i++)
        strbuf_addc(&sb, '[');
    assert_int_equal(job_parse(sb.text, sb.len, &job, id, &why), -EINVAL);
    assert_string_equal(why.text, "is nested too deep; at most 64 levels can "
                                  "be read");
    assert_non_null(strstr(why.field, "metadata.a[0][0]"));
    assert_non_null(strstr(why.field, "…"));
    assert_string_equal(id, "j1");
}

static void sixty_four_levels_are_read(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;

    (void)state;
    strbuf_adds(&sb, "{\"code\":\"x\",\"metadata\":{\"a\":");
    for (int i = 0; i < JSON_DEPTH_MAX - 2; i++)
        strbuf_addc(&sb, '[');
    for (int i = 0; i < JSON_DEPTH_MAX - 2; i++)
        strbuf_addc(&sb, ']');
    strbuf_adds(&sb, "}}");
    job_destroy(parse(sb.text));
}

static void numbers_out_of_range_are_refused_with_the_range(void **state)
{
    (void)state;
    refuse("\"timeout\":0", "timeout",
           "0 is out of range; give a number of seconds from 0.1 to 86400");
    refuse("\"timeout\":-1", "timeout", "-1 is out of range");
    refuse("\"timeout\":1e308", "timeout", "1e+308 is out of range");
    refuse("\"timeout\":1e999", "timeout", "inf is out of range");
    refuse("\"timeout\":NaN", "timeout", "NaN is no number in JSON");
    refuse("\"timeout\":-Infinity", "timeout", "Infinity is no number");
    refuse("\"timeout\":\"10\"", "timeout", "\"10\" is text; give a number");
    refuse("\"timeout\":true", "timeout", "true is the wrong type");
    refuse("\"timeout\":{}", "timeout", "an object");
    refuse("\"max_attempts\":0", "max_attempts", "whole number from 1 to 10");
    refuse("\"max_attempts\":11", "max_attempts", "out of range");
    refuse("\"max_attempts\":1.5", "max_attempts", "1.5 is not whole");
    refuse("\"delay\":-0.1", "delay", "out of range");
    refuse("\"delay\":2592001", "delay", "from 0 to 2592000");
    refuse("\"run_at\":1e13", "run_at", "at most 30 days ahead");
    refuse("\"expires_in\":0", "expires_in", "from 0.001");
    refuse("\"requirements\":{\"pids_limit\":2.5}", "requirements.pids_limit",
           "2.5 is not whole");
    refuse("\"requirements\":{\"memory_limit_mb\":1}",
           "requirements.memory_limit_mb", "from 16 to 1048576");
    refuse("\"requirements\":{\"cpu_limit_percent\":0}",
           "requirements.cpu_limit_percent", "per cent of one core");
    refuse("\"requirements\":{\"disk_limit_mb\":\"1\"}",
           "requirements.disk_limit_mb", "is text");
    refuse("\"requirements\":{\"output_limit_kb\":1e9}",
           "requirements.output_limit_kb", "out of range");
}

static void wrong_types_are_refused_with_the_right_one(void **state)
{
    (void)state;
    refuse("\"language\":\"perl\"", "language",
           "\"perl\" is unknown; give python, javascript or bash");
    refuse("\"language\":1", "language", "1 is a number");
    refuse("\"template\":1", "template", "1 is a number");
    refuse("\"template\":\"\"", "template", "is empty");
    refuse("\"task_type\":[]", "task_type", "is a list");
    refuse("\"requirements\":[]", "requirements", "is a list");
    refuse("\"requirements\":{\"network\":1}", "requirements.network",
           "give true or false");
    refuse("\"requirements\":{\"packages\":\"pandas\"}",
           "requirements.packages", "give a list of texts");
    refuse("\"requirements\":{\"packages\":[\"a\",\"b c\"]}",
           "requirements.packages[1]", "is no package name");
    refuse("\"requirements\":{\"template_name\":\"a b\"}",
           "requirements.template_name", "cannot be an E2B template");
    refuse("\"files\":{}", "files", "give a list of files");
    refuse("\"files\":[1]", "files[0]", "1 is a number");
    refuse("\"output_files\":\"x\"", "output_files", "give a list");
    refuse("\"env\":[]", "env", "an object of texts");
    refuse("\"env\":{\"A\":1}", "env.A", "1 is a number");
    refuse("\"args\":[1]", "args[0]", "1 is a number");
    refuse("\"stdin\":1", "stdin", "1 is a number");
    refuse("\"metadata\":[]", "metadata", "give an object");
    refuse("\"cache\":\"yes\"", "cache", "give true or false");
    refuse("\"stream\":0", "stream", "give true or false");
    refuse("\"batch_id\":\"a b\"", "batch_id", "cannot be a name");
    refuse("\"tenant\":\"\"", "tenant", "cannot be a name");
    refuse("\"callback_url\":\"ftp://x\"", "callback_url", "http://");
    refuse("\"callback_url\":\"http://x y\"", "callback_url", "spaces");
}

static void the_code_must_be_there_and_not_too_long(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;

    (void)state;
    refuse_sized("{\"id\":\"j1\"}", 11, "code", "is missing", "j1");
    refuse_sized("{\"code\":\"\"}", 11, "code", "is empty", "");
    refuse_sized("{\"code\":null}", 13, "code", "is missing", "");
    refuse_sized("{\"code\":7}", 10, "code", "7 is a number", "");
    strbuf_adds(&sb, "{\"code\":\"");
    for (unsigned i = 0; i <= JOB_CODE_BYTES_MAX; i++)
        strbuf_addc(&sb, 'x');
    strbuf_adds(&sb, "\",\"id\":\"big\"}");
    refuse_sized(sb.text, sb.len, "code",
                 "is 1048577 bytes long; give at most 1048576", "big");
}

static void a_job_over_4_mib_is_refused_under_its_id(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT;

    (void)state;
    strbuf_adds(&sb, "{\"code\":\"");
    for (unsigned i = 0; i < JOB_TEXT_BYTES_MAX; i++)
        strbuf_addc(&sb, 'x');
    strbuf_adds(&sb, "\",\"id\":\"huge\"}");
    refuse_sized(sb.text, sb.len, "", "at most 4194304 (4 MiB)", "huge");
}

static void unusable_ids_are_refused_and_not_handed_out(void **state)
{
    static const char right[] = "1 to 64 characters of A-Z a-z 0-9 . _ : -";
    static const char *const jobs[] = {
        "{\"code\":\"x\",\"id\":\"\"}",
        "{\"code\":\"x\",\"id\":\"a b\"}",
        "{\"code\":\"x\",\"id\":\"a/b\"}",
        "{\"code\":\"x\",\"id\":12}",
        "{\"code\":\"x\",\"id\":\"\xc3\xa9\"}",
        "{\"code\":\"x\",\"id\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaa\"}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++)
        refuse_sized(jobs[i], strlen(jobs[i]), "id", right, "");
}

static void an_id_is_found_behind_other_faults(void **state)
{
    static const char late[] =
        "{\"code\":\"a\\u0000\",\"timeout\":NaN,\"id\":\"late\"}";
    static const char inner[] = "{\"metadata\":{\"id\":\"no\"},\"code\":1}";

    (void)state;
    refuse_sized(late, strlen(late), "code", "NUL", "late");
    refuse_sized(inner, strlen(inner), "code", "is a number", "");
}

static void what_is_given_twice_is_refused(void **state)
{
    (void)state;
    refuse("\"code\":\"y\"", "code", "given twice");
    refuse("\"env\":{\"A\":\"1\",\"A\":\"2\"}", "env.A", "given twice");
    refuse("\"requirements\":{\"timeout\":1,\"timeout\":1}",
           "requirements.timeout", "given twice");
    refuse("\"files\":[{\"path\":\"a\",\"path\":\"b\",\"content\":\"\"}]",
           "files[0].path", "given twice");
    refuse("\"delay\":1,\"run_at\":1", "run_at", "both given");
    refuse("\"template\":\"a\",\"template_id\":\"b\"", "template_id", "differ");
    refuse("\"timeout\":1,\"requirements\":{\"timeout\":2}", "timeout",
           "differs from requirements.timeout");
}

static void paths_that_leave_the_work_folder_are_refused(void **state)
{
    static const struct {
        const char *path, *part;
    } cases[] = {
        {"../x", "\"../x\" climbs out of the work folder; give a relative "
                 "path inside it"},
        {"a/../../x", "climbs out"},
        {"a/..", "climbs out"},
        {"/home/user/../x", "climbs out"},
        {"/etc/passwd", "is absolute"},
        {"/home/user//etc/passwd", "is absolute"},
        {"/home/user", "is absolute"},
        {"/home/user/", "names no file"},
        {"a/", "names a folder"},
        {"", "names no file"},
        {".", "names no file"},
        {"a\tb", "control character"},
    };
    struct complaint why;
    char out[JOB_PATH_MAX + 1];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(
            job_path_normalise(cases[i].path, out, &why, "files[3].path"),
            -EINVAL);
        assert_string_equal(why.field, "files[3].path");
        if (!strstr(why.text, cases[i].part))
            print_error("%s: %s\n", cases[i].path, why.text);
        assert_non_null(strstr(why.text, cases[i].part));
    }
    refuse("\"output_files\":[\"a\",\"../*\"]", "output_files[1]", "climbs");
}

static void a_path_may_have_255_bytes(void **state)
{
    char path[300], out[JOB_PATH_MAX + 1];
    struct complaint why;

    (void)state;
    memset(path, 'a', sizeof path);
    path[255] = '\0';
    assert_int_equal(job_path_normalise(path, out, &why, "x"), 0);
    path[100] = '/';
    assert_int_equal(job_path_normalise(path, out, &why, "x"), 0);
    assert_string_equal(out, path);
    path[255] = 'a';
    path[256] = '\0';
    assert_int_equal(job_path_normalise(path, out, &why, "x"), -EINVAL);
    assert_non_null(strstr(why.text, "at most 255 bytes"));
}

static void files_that_cannot_stand_together_are_refused(void **state)
{
    (void)state;
    refuse("\"files\":[{\"path\":\"a\",\"content\":\"\"},{\"path\":\"./a\","
           "\"content\":\"\"}]",
           "files[1].path", "given twice (also files[0])");
    refuse("\"files\":[{\"path\":\"ab\",\"content\":\"\"},{\"path\":\"a\","
           "\"content\":\"\"},{\"path\":\"a/b\",\"content\":\"\"}]",
           "files[2].path", "as a file and as a folder");
    refuse("\"files\":[{\"path\":\"a/b/c\",\"content\":\"\"},{\"path\":"
           "\"a/b\",\"content\":\"\"}]",
           "files[1].path", "as a file and as a folder");
    refuse("\"files\":[{\"path\":\"a\"}]", "files[0]", "has no content");
    refuse("\"files\":[{\"content\":\"a\"}]", "files[0]", "has no path");
    refuse("\"files\":[{\"path\":\"a\",\"content\":\"\","
           "\"content_base64\":\"\"}]",
           "files[0]", "give one of them");
    refuse("\"files\":[{\"path\":\"a\",\"content_base64\":\"AA*A\"}]",
           "files[0].content_base64", "not base64 at character 3");
    refuse("\"files\":[{\"path\":\"a\",\"content_base64\":\"AAA\"}]",
           "files[0].content_base64", "ends too early");
}

static void there_are_bounds_on_how_many(void **state)
{
    AUTO_STRBUF struct strbuf files = STRBUF_INIT, args = STRBUF_INIT,
                              env = STRBUF_INIT;

    (void)state;
    strbuf_adds(&files, "\"files\":[0");
    for (int i = 0; i < JOB_FILES_MAX; i++)
        strbuf_adds(&files, ",0");
    strbuf_adds(&files, "]");
    refuse(files.text, "files", "holds 65 files; give at most 64");
    strbuf_adds(&args, "\"args\":[\"\"");
    for (int i = 0; i < JOB_ARGS_MAX; i++)
        strbuf_adds(&args, ",\"\"");
    strbuf_adds(&args, "]");
    refuse(args.text, "args", "holds 129; give at most 128");
    strbuf_clear(&args);
    strbuf_adds(&args, "\"args\":[\"");
    for (unsigned i = 0; i < JOB_ARGS_BYTES_MAX; i++)
        strbuf_addc(&args, 'x');
    strbuf_adds(&args, "\"]");
    refuse(args.text, "args", "more than 65536 bytes");
    strbuf_adds(&env, "\"env\":{\"A\":\"");
    for (unsigned i = 0; i < JOB_ENV_BYTES_MAX; i++)
        strbuf_addc(&env, 'x');
    strbuf_adds(&env, "\"}");
    refuse(env.text, "env", "more than 65536 bytes");
}

static void variables_that_would_act_on_the_driver_are_refused(void **state)
{
    static const char *const names[] = {
        "LD_PRELOAD",    "LD_LIBRARY_PATH", "BASH_ENV",   "NODE_OPTIONS",
        "PYTHONPATH",    "PYTHONSTARTUP",   "PYTHONHOME", "GLIBC_TUNABLES",
        "PYTHONINSPECT", "SHELLOPTS",       "BASHOPTS",   "BASH_FUNC_ulimit%%"};
    char fields[128], field[64];

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(fields, sizeof fields, "\"env\":{\"%s\":\"x\"}", names[i]);
        snprintf(field, sizeof field, "env.%s", names[i]);
        refuse(fields, field, "is reserved");
    }
    refuse("\"env\":{\"\":\"x\"}", "env", "without a name");
    refuse("\"env\":{\"A=B\":\"x\"}", "env", "leave out the =");
}

static void other_variables_pass_as_they_are(void **state)
{
    struct job *job =
        parse("{\"code\":\"x\",\"env\":{\"PATH\":\"/x\",\"PYTHONUNBUFFERED\":"
              "\"1\",\"a-b\":\"`id`\",\"LDX\":\"\",\"ENV\":\"e\"}}");

    (void)state;
    assert_int_equal(job->nenv, 5);
    assert_string_equal(job->env[2].value, "`id`");
    job_destroy(job);
}

static void values_in_complaints_are_short_and_escaped(void **state)
{
    (void)state;
    refuse("\"language\":\"a\\u001b[31m\\n\\\"b\"", "language",
           "\"a\\x1b[31m\\x0a\\\"b\" is unknown");
    refuse("\"language\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
           "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"",
           "language", "xxx…\" is unknown");
}

static void metadata_keeps_its_digits_and_its_text(void **state)
{
    struct job *job =
        parse("{\"code\":\"x\",\"metadata\": {\n\t\"big\" : "
              "98765432109876543210.000100 , \"s\" : \"a  \\\\\" } }");

    (void)state;
    assert_string_equal(
        job->metadata,
        "{\"big\":98765432109876543210.000100,\"s\":\"a  \\\\\"}");
    job_destroy(job);
}

static void run_at_may_be_past_or_near(void **state)
{
    char text[128];
    struct job *job;

    (void)state;
    snprintf(text, sizeof text, "{\"code\":\"x\",\"run_at\":%.3f}",
             clock_unix_s() + 86400);
    job = parse(text);
    assert_true(job->run_at > clock_unix_s());
    job_destroy(job);
    job_destroy(parse("{\"code\":\"x\",\"run_at\":1}"));
}

struct gleaned {
    char id[JOB_ID_MAX + 1], batch[JOB_NAME_MAX + 1];
    bool stream;
};

static struct gleaned glean(const char *text)
{
    struct gleaned g;

    job_glean(text, strlen(text), g.id, g.batch, &g.stream);
    return g;
}

static void a_bad_job_still_says_its_batch(void **state)
{
    struct gleaned g = glean("{\"id\":\"i\",\"code\":7,\"batch_id\":\"b:1\","
                             "\"stream\":true}");

    (void)state;
    assert_string_equal(g.id, "i");
    assert_string_equal(g.batch, "b:1");
    assert_true(g.stream);
    g = glean("{\"id\":\"not one\",\"batch_id\":[\"b\"],\"stream\":\"true\"}");
    assert_string_equal(g.id, "");
    assert_string_equal(g.batch, "");
    assert_false(g.stream);
    g = glean("{\"batch_id\":\"b\"");
    assert_string_equal(g.batch, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_code_is_needed),
        cmocka_unit_test(every_field_of_the_contract_is_read),
        cmocka_unit_test(null_counts_as_not_given),
        cmocka_unit_test(unknown_fields_are_named_in_warnings),
        cmocka_unit_test(near_requirements_are_named_where_they_belong),
        cmocka_unit_test(
            a_flood_of_unknown_fields_is_counted_in_the_last_warning),
        cmocka_unit_test(what_is_no_job_is_refused_with_the_place),
        cmocka_unit_test(text_that_would_be_cut_or_garbled_is_refused_by_field),
        cmocka_unit_test(a_pair_of_surrogates_is_one_character),
        cmocka_unit_test(a_byte_order_mark_in_front_or_in_the_code_is_fine),
        cmocka_unit_test(nesting_has_a_limit),
        cmocka_unit_test(sixty_four_levels_are_read),
        cmocka_unit_test(numbers_out_of_range_are_refused_with_the_range),
        cmocka_unit_test(wrong_types_are_refused_with_the_right_one),
        cmocka_unit_test(the_code_must_be_there_and_not_too_long),
        cmocka_unit_test(a_job_over_4_mib_is_refused_under_its_id),
        cmocka_unit_test(unusable_ids_are_refused_and_not_handed_out),
        cmocka_unit_test(an_id_is_found_behind_other_faults),
        cmocka_unit_test(what_is_given_twice_is_refused),
        cmocka_unit_test(paths_that_leave_the_work_folder_are_refused),
        cmocka_unit_test(a_path_may_have_255_bytes),
        cmocka_unit_test(files_that_cannot_stand_together_are_refused),
        cmocka_unit_test(there_are_bounds_on_how_many),
        cmocka_unit_test(variables_that_would_act_on_the_driver_are_refused),
        cmocka_unit_test(other_variables_pass_as_they_are),
        cmocka_unit_test(values_in_complaints_are_short_and_escaped),
        cmocka_unit_test(metadata_keeps_its_digits_and_its_text),
        cmocka_unit_test(run_at_may_be_past_or_near),
        cmocka_unit_test(a_bad_job_still_says_its_batch),
    };

    return cmocka_run_group_tests_name("job", tests, NULL, NULL);
}
