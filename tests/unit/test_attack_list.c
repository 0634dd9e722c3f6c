/* attack_list.h: what must come of an attack, and what came */
#include "tests/support/cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/must.h"
#include "worker/attack_list.h"

struct folder {
    char root[64], bin[96], attacks[128];
    struct attack_set set;
    struct complaint why;
};

static void write_at(const struct folder *f, const char *name, const char *text)
{
    char path[400];

    snprintf(path, sizeof(path), "%s/%s", f->attacks, name);
    FILE *file = fopen(path, "w");
    MUST(file);
    fputs(text, file);
    fclose(file);
}

static void remove_at(const struct folder *f, const char *name)
{
    char path[400];

    snprintf(path, sizeof(path), "%s/%s", f->attacks, name);
    unlink(path);
}

static int open_folder(void **state)
{
    static struct folder f;
    char share[96];

    f = (struct folder){.root = "/tmp/attack-list-XXXXXX"};
    MUST(mkdtemp(f.root));
    snprintf(f.bin, sizeof(f.bin), "%s/bin", f.root);
    snprintf(share, sizeof(share), "%s/worker", f.root);
    snprintf(f.attacks, sizeof(f.attacks), "%s/attacks", share);
    MUST0(mkdir(f.bin, 0700));
    MUST0(mkdir(share, 0700));
    MUST0(mkdir(f.attacks, 0700));
    write_at(&f, "attack.py", "");
    *state = &f;
    return 0;
}

static int close_folder(void **state)
{
    struct folder *f = *state;
    char share[96];

    attacks_unload(&f->set);
    remove_at(f, "attack.py");
    remove_at(f, "007-x.py");
    remove_at(f, "008-y.sh");
    rmdir(f->attacks);
    snprintf(share, sizeof(share), "%s/worker", f->root);
    rmdir(share);
    rmdir(f->bin);
    rmdir(f->root);
    return 0;
}

static int load(struct folder *f)
{
    attacks_unload(&f->set);
    return attacks_load(f->bin, &f->set, &f->why);
}

static void a_head_says_what_must_come(void **state)
{
    struct folder *f = *state;

    write_at(f, "008-y.sh", "# 008 second\n# verdict: timeout oom\n:\n");
    write_at(f, "007-x.py",
             "# 007 a name\n# limits: timeout=0.5 pids_limit=9\n"
             "# verdict: user_error\n# exit: 3\n# without-cgroup: none\n"
             "# stdout: some text\n# stdout: more\n# times: 2\n# differ\nx\n"
             "# verdict: of the code\n");
    assert_int_equal(load(f), 0);
    assert_int_equal(f->set.count, 2);
    const struct attack *a = &f->set.items[0];
    assert_int_equal(a->number, 7);
    assert_string_equal(a->name, "a name");
    assert_true(a->limits[0] == 0.5 && a->limits[4] == 9);
    assert_int_equal(a->verdicts, 1u << VERDICT_USER_ERROR);
    assert_int_equal(a->exit_code, 3);
    assert_false(a->uncapped_applies);
    assert_int_equal(a->stdout_parts.count, 2);
    assert_string_equal(a->stdout_parts.items[0], "some text");
    assert_true(a->differ && a->times == 2);
    a++;
    assert_int_equal(a->language, LANGUAGE_BASH);
    assert_int_equal(a->verdicts, 1u << VERDICT_TIMEOUT | 1u << VERDICT_OOM);
    assert_int_equal(a->verdicts_uncapped, a->verdicts);
}

static void a_wrong_head_is_named_with_its_line(void **state)
{
    static const char *const heads[] = {
        "# 008 other number\n# verdict: ok\n",
        "# 007 x\n# verdict: fine\n",
        "# 007 x\n# limits: speed=5\n# verdict: ok\n",
        "# 007 x\n# limits: timeout=x\n# verdict: ok\n",
        "# 007 x\n# colour: red\n# verdict: ok\n",
        "# 007 x\n# nonsense\n# verdict: ok\n",
        "# 007 x\n# verdict: ok\n# times: 99\n",
        "# 007 x\n",
        "",
    };
    struct folder *f = *state;

    for (size_t i = 0; i < sizeof(heads) / sizeof(*heads); i++) {
        write_at(f, "007-x.py", heads[i]);
        f->why.text[0] = '\0';
        assert_int_not_equal(load(f), 0);
        assert_string_equal(f->why.field, "007-x.py");
        assert_non_null(strstr(f->why.text, "line "));
    }
}

static void its_job_is_one_that_jobs_may_be(void **state)
{
    struct folder *f = *state;
    struct strbuf text = STRBUF_INIT;
    struct job *job = NULL;
    char id[JOB_ID_MAX + 1];

    write_at(f, "007-x.py",
             "# 007 a name\n# limits: timeout=0.5\n# env: A=b=c\n"
             "# output: **\n# verdict: ok\nprint('\"')\n");
    assert_int_equal(load(f), 0);
    attack_job(&f->set, &f->set.items[0], "some-id", &text);
    assert_int_equal(job_parse(text.text, text.len, &job, id, &f->why), 0);
    assert_string_equal(job->id, "some-id");
    assert_string_equal(job->template_id, "default");
    assert_string_equal(job->files[0].path, "attack.py");
    assert_string_equal(job->env[0].value, "b=c");
    assert_string_equal(job->output_files[0], "**");
    assert_true(job->wants.timeout_s == 0.5);
    assert_non_null(strstr(job->code, "print('\"')"));
    job_destroy(job);
    strbuf_fini(&text);
}

static enum attack_end judge(const struct attack *a, enum verdict verdict,
                             const char *out)
{
    char why[ATTACK_WHY_MAX];
    const struct attack_seen seen = {.verdict = verdict,
                                     .exit_code = 3,
                                     .run_s = 1,
                                     .out = out,
                                     .capped = true};
    enum attack_end end = attack_judge(a, &seen, why);

    assert_int_equal(why[0] == '\0', end == ATTACK_HELD);
    return end;
}

static void only_what_the_head_says_holds(void **state)
{
    struct attack a = {.verdicts = 1u << VERDICT_OK,
                       .uncapped_applies = true,
                       .signal = -1,
                       .exit_code = 3,
                       .tries = 2,
                       .limits = {5}};
    const char *good = "HELD one\nx\nHELD two";

    (void)state;
    assert_int_equal(judge(&a, VERDICT_OK, good), ATTACK_HELD);
    assert_int_equal(judge(&a, VERDICT_OOM, good), ATTACK_BROKE);
    assert_int_equal(judge(&a, VERDICT_OK, "HELD one\nHELDtwo"), ATTACK_BROKE);
    assert_int_equal(judge(&a, VERDICT_OK, "HELD a\nHELD b\nBROKE c: why"),
                     ATTACK_BROKE);
    assert_int_equal(judge(&a, VERDICT_OK, "N/A nothing to attack"),
                     ATTACK_NOT_APPLICABLE);
    assert_int_equal(judge(&a, VERDICT_OK, "BROKE c: d\nN/A nothing"),
                     ATTACK_BROKE);
    a.exit_code = 4;
    assert_int_equal(judge(&a, VERDICT_OK, good), ATTACK_BROKE);
    a.exit_code = -1;
    a.within_s = 0.1;
    a.stdout_parts = (struct attack_texts){{(char *)"missing"}, 1};
    assert_int_equal(judge(&a, VERDICT_OK, good), ATTACK_BROKE);
}

static void without_a_cgroup_other_ends_may_be_right(void **state)
{
    struct attack a = {.verdicts = 1u << VERDICT_OOM,
                       .verdicts_uncapped = 1u << VERDICT_USER_ERROR,
                       .uncapped_applies = true,
                       .signal = -1,
                       .exit_code = -1,
                       .limits = {5}};
    struct attack_seen seen = {.verdict = VERDICT_USER_ERROR, .out = ""};
    char why[ATTACK_WHY_MAX];

    (void)state;
    assert_int_equal(attack_judge(&a, &seen, why), ATTACK_HELD);
    seen.capped = true;
    assert_int_equal(attack_judge(&a, &seen, why), ATTACK_BROKE);
    seen.capped = false;
    a.uncapped_applies = false;
    assert_int_equal(attack_judge(&a, &seen, why), ATTACK_NOT_APPLICABLE);
}

static void a_line_that_came_twice_is_found(void **state)
{
    char line[ATTACK_WHY_MAX];

    (void)state;
    assert_true(attack_same_line("one1\ntwo2\n", "x\ntwo2", line));
    assert_string_equal(line, "two2");
    assert_false(attack_same_line("one1\ntwo2\n", "two22\none\n", line));
    assert_false(attack_same_line("a\nb\n", "a\nb\n", line));
    assert_false(attack_same_line("", "", line));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_head_says_what_must_come, open_folder,
                                        close_folder),
        cmocka_unit_test_setup_teardown(a_wrong_head_is_named_with_its_line,
                                        open_folder, close_folder),
        cmocka_unit_test_setup_teardown(its_job_is_one_that_jobs_may_be,
                                        open_folder, close_folder),
        cmocka_unit_test(only_what_the_head_says_holds),
        cmocka_unit_test(without_a_cgroup_other_ends_may_be_right),
        cmocka_unit_test(a_line_that_came_twice_is_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
