/* `capibox doctor --attack` and `capibox-worker --attack`: without Redis, with
 * a list of their own in which some attacks do not end as they must. */
#include "tests/support/cmocka_all.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/must.h"
#include "common/scope.h"
#include "tests/support/attack_suite.h"

#define RUN_MS 60000

/* As in a checkout: bin/, templates/, worker/runtime/, worker/attacks/. */
static char root[] = "/tmp/capibox-doctor-XXXXXX";

static void write_attack(const char *name, const char *text)
{
    char path[200];

    snprintf(path, sizeof(path), "%s/worker/attacks/%s", root, name);
    FILE *file = fopen(path, "w");
    MUST(file);
    fputs(text, file);
    fclose(file);
}

static void remove_attack(const char *name)
{
    char path[200];

    snprintf(path, sizeof(path), "%s/worker/attacks/%s", root, name);
    unlink(path);
}

static int run(const char *program, char **out, char **err, const char *one,
               const char *two, const char *three)
{
    char path[200];
    const char *argv[] = {path, one, two, three, NULL};
    const char *env[] = {"CAPIBOX_REDIS_URL=unix:///nowhere/redis.sock",
                         "CAPIBOX_ALLOW_DEGRADED=1", NULL};

    snprintf(path, sizeof(path), "%s/bin/%s", root, program);
    return proc_run(&(struct proc_start){.argv = argv, .env = env}, RUN_MS, out,
                    err);
}

static void all_held_is_exit_0(void **state)
{
    AUTO_FREE char *out = NULL, *err = NULL;

    (void)state;
    int code = run("capibox", &out, &err, "doctor", "--attack", NULL);
    if (code != 0)
        fail_msg("exit %d\n%s\n%s", code, out, err);
    assert_non_null(strstr(out, "001  it ends"));
    assert_non_null(strstr(out, "held (ok,"));
    assert_non_null(strstr(out, "2 held, 0 did not, 0 not applicable here."));
}

static void one_that_does_not_hold_is_named_and_exit_1(void **state)
{
    AUTO_FREE char *out = NULL, *err = NULL;

    (void)state;
    write_attack("003-x.sh", "# 003 it lies\n# verdict: ok\necho 'BROKE it: "
                             "with \x1b[2J'\n");
    write_attack("004-y.sh", "# 004 it fails\n# verdict: ok\nexit 5\n");
    write_attack("005-z.sh",
                 "# 005 it lacks\n# verdict: ok\necho N/A no moon\n");
    int code = run("capibox", &out, &err, "doctor", "--attack", NULL);
    assert_int_equal(code, 1);
    assert_non_null(strstr(out, "BROKE: it: with ?[2J"));
    assert_non_null(strstr(out, "BROKE: ended as user_error, not ok"));
    assert_non_null(strstr(out, "not applicable: no moon"));
    assert_non_null(strstr(out, "2 held, 2 did not, 1 not applicable here."));
    remove_attack("003-x.sh");
    remove_attack("004-y.sh");
    remove_attack("005-z.sh");
}

/* What prints after 0.6 s does so on a host twice as slow as the list thinks.
 */
static void a_slow_host_is_given_more_time(void **state)
{
    AUTO_FREE char *out = NULL, *err = NULL;

    (void)state;
    write_attack("007-s.sh",
                 "# 007 it is slow\n# limits: timeout=0.4\n# verdict: timeout\n"
                 "# stdout: HELD\nsleep 0.6; echo HELD it; sleep 60\n");
    write_attack("008-t.sh",
                 "# 008 it is mute\n# limits: timeout=4\n# verdict: timeout\n"
                 "# stdout: HELD\nsleep 60\n");
    int code = run("capibox", &out, &err, "doctor", "--attack", NULL);
    assert_int_equal(code, 1);
    assert_non_null(strstr(out, "008  it is mute"));
    assert_non_null(strstr(out, "BROKE: its output lacks \"HELD\""));
    assert_non_null(strstr(out, "3 held, 1 did not, 0 not applicable here."));
    remove_attack("007-s.sh");
    remove_attack("008-t.sh");
}

static void json_is_one_object_a_line(void **state)
{
    AUTO_FREE char *out = NULL, *err = NULL;
    int lines = 0;

    (void)state;
    assert_int_equal(run("capibox", &out, &err, "doctor", "--attack", "--json"),
                     0);
    for (char *save, *line = strtok_r(out, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        cJSON *json = cJSON_Parse(line);

        assert_non_null(json);
        cJSON *end = cJSON_GetObjectItem(json, lines < 2 ? "end" : "broke");
        assert_true(lines < 2 ? strcmp(end->valuestring, "held") == 0
                              : end->valueint == 0);
        cJSON_Delete(json);
        lines++;
    }
    assert_int_equal(lines, 3);
}

static void numbers_choose(void **state)
{
    AUTO_FREE char *out = NULL, *err = NULL, *none = NULL, *odd = NULL;

    (void)state;
    assert_int_equal(run("capibox-worker", &out, &err, "--attack", "2", NULL),
                     0);
    assert_non_null(strstr(out, "1 held, 0 did not"));
    assert_null(strstr(out, "001"));
    assert_int_equal(run("capibox-worker", NULL, &none, "--attack", "9", NULL),
                     2);
    assert_non_null(strstr(none, "no attack has such a number"));
    assert_int_equal(run("capibox-worker", NULL, &odd, "--attack", "x", NULL),
                     2);
    assert_non_null(strstr(odd, "\"x\" is no number"));
}

static void a_file_with_a_wrong_head_is_named(void **state)
{
    AUTO_FREE char *out = NULL, *err = NULL;

    (void)state;
    write_attack("006-w.sh", "# 006 odd\n# verdict: fine\n");
    assert_int_equal(run("capibox", &out, &err, "doctor", "--attack", NULL), 4);
    assert_non_null(strstr(err, "006-w.sh: line 2: \"fine\" is no verdict"));
    remove_attack("006-w.sh");
}

static int open_all(void **state)
{
    char command[1000], bin[300];

    (void)state;
    MUST(mkdtemp(root));
    snprintf(bin, sizeof(bin), "%s", proc_program("capibox"));
    *strrchr(bin, '/') = '\0';
    snprintf(command, sizeof(command),
             "cd %s && mkdir -p bin worker/attacks && cp %s/capibox* bin", root,
             bin);
    MUST0(system(command));
    snprintf(command, sizeof(command),
             "cp -r templates %s && cp -r "
             "worker/runtime %s/worker",
             root, root);
    MUST0(system(command));
    write_attack("attack.py", "");
    write_attack("001-a.sh", "# 001 it ends\n# verdict: ok\n:\n");
    write_attack("002-b.sh", "# 002 it fails\n# verdict: user_error\nexit 3\n");
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    return attack_remove_folder(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_held_is_exit_0),
        cmocka_unit_test(one_that_does_not_hold_is_named_and_exit_1),
        cmocka_unit_test(a_slow_host_is_given_more_time),
        cmocka_unit_test(json_is_one_object_a_line),
        cmocka_unit_test(numbers_choose),
        cmocka_unit_test(a_file_with_a_wrong_head_is_named),
    };

    return cmocka_run_group_tests(tests, open_all, close_all);
}
