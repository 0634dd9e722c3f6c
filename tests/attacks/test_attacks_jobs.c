/* Jobs that are attacks themselves: names, files, environments, templates and
 * results that no honest producer or program would send. */
#include "tests/support/cmocka_all.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/must.h"
#include "common/scope.h"
#include "tests/support/attack_suite.h"

static struct rig rig;
static struct proc worker;
static struct attack_traces traces;

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static cJSON *python(const char *id, const char *code, const char *more)
{
    return attack_run_code(&rig, id, LANGUAGE_PYTHON, code, more);
}

/* Each of these members makes a job that is rejected with `says` in its error.
 */
static void expect_rejected(const char *name, const char *const *members,
                            size_t count, const char *says)
{
    for (size_t i = 0; i < count; i++) {
        char id[64];

        snprintf(id, sizeof(id), "%s-%zu", name, i);
        cJSON *r = python(id, "print(1)", members[i]);
        if (strcmp(stage_text(r, "verdict"), "rejected") != 0)
            print_error("%s\n", members[i]);
        stage_expect(r, "verdict", "rejected");
        stage_expect_part(r, "error", says);
        cJSON_Delete(r);
    }
}

/* ---- time --------------------------------------------------------------- */

static void attack_014_no_timeout_means_for_ever(void **state)
{
    static const char *const members[] = {
        ",\"timeout\":0",
        ",\"timeout\":-1",
        ",\"timeout\":1e308",
        ",\"timeout\":\"10\"",
        ",\"timeout\":true",
        ",\"timeout\":[1]",
        ",\"timeout\":86401",
        ",\"timeout\":0.00001",
        ",\"requirements\":{\"timeout\":1e9}",
        ",\"requirements\":{\"timeout\":-0.5}",
    };
    long long before = rig_stat(&rig, "rejected");

    (void)state;
    expect_rejected("t", members, COUNT(members), "timeout");
    /* No JSON at all. */
    rig_push(&rig, "default",
             "{\"id\":\"nan\",\"code\":\"1\",\"timeout\":NaN}");
    assert_true(
        rig_wait_stat(&rig, "rejected", before + (int)COUNT(members) + 1));
}

static void attack_015_an_end_at_the_limit_has_one_verdict(void **state)
{
    enum { JOBS = 60 };
    long long before = rig_stat(&rig, "total_executions");
    int late = 0;
    char id[32], more[64];

    (void)state;
    for (int i = 0; i < JOBS; i++) {
        snprintf(id, sizeof(id), "end-%d", i);
        snprintf(more, sizeof(more), ",\"timeout\":%.3f",
                 0.105 + 0.001 * (i % 10));
        AUTO_FREE char *job =
            attack_code_job(id, LANGUAGE_BASH, "sleep 0.1", more);
        rig_push(&rig, "default", job);
    }
    for (int i = 0; i < JOBS; i++) {
        snprintf(id, sizeof(id), "end-%d", i);
        cJSON *r = stage_result(&rig, id);
        bool ended = cJSON_IsNumber(stage_at(r, "exit_code"));
        late += !ended;
        stage_expect(r, "verdict", ended ? "ok" : "timeout");
        cJSON_Delete(r);
    }
    print_message("# %d of %d were late\n", late, JOBS);
    assert_int_equal(rig_stat(&rig, "total_executions"), before + JOBS);
    assert_true(rig_settled(&rig));
}

/* ---- what comes back ---------------------------------------------------- */

static void attack_044_odd_bytes_come_back_escaped(void **state)
{
    (void)state;
    cJSON *r = attack_run_code(
        &rig, "bytes", LANGUAGE_BASH,
        "printf "
        "'\\xc3\\x28|\\xff|\\r|\\033[2J|\\xe2\\x80\\xa8|\\xed\\xa0\\x80'",
        "");

    stage_expect(r, "verdict", "ok");
    stage_expect(r, "logs.stdout.0",
                 "\\xc3(|\\xff|\r|\033[2J|\xe2\x80\xa8|\\xed\\xa0\\x80");
    cJSON_Delete(r);
    AUTO_FREE char *out = NULL;
    stage_cli(&rig, NULL, &out, NULL, "result", "bytes", "--json", NULL);
    assert_null(strchr(out, '\033'));
    assert_non_null(strstr(out, "\\u001b[2J"));
}

/* What a program writes to the result pipe may show as its results, and
 * nowhere else. */
static void attack_047_forged_frames_change_no_fact(void **state)
{
    (void)state;
    cJSON *r =
        python("forged",
               "import json, os, struct\n"
               "def send(kind, what):\n"
               "    body = json.dumps(what).encode()\n"
               "    os.write(3, kind + struct.pack('<I', len(body)) + body)\n"
               "send(b'R', {'text': 'mine', 'verdict': 'ok', 'job_id': 'x'})\n"
               "send(b'E', {'name': 'N', 'value': 'V', 'traceback': 'T',\n"
               "            'verdict': 'ok', 'exit_code': 0})\n"
               "os.write(3, b'R\\xff\\xff\\xff\\xff{')\n"
               "os._exit(5)\n",
               "");

    stage_expect(r, "job_id", "forged");
    stage_expect(r, "verdict", "user_error");
    assert_int_equal(stage_number(r, "exit_code"), 5);
    assert_true(cJSON_IsFalse(stage_at(r, "success")));
    assert_null(stage_at(r, "results.0.verdict"));
    assert_null(stage_at(r, "results.0.job_id"));
    assert_null(stage_at(r, "error_detail.verdict"));
    cJSON_Delete(r);
}

static void attack_048_results_are_bounded(void **state)
{
    (void)state;
    cJSON *r =
        python("bombs",
               "import os, struct\n"
               "def send(body):\n"
               "    body = b'R' + struct.pack('<I', len(body)) + body\n"
               "    while body: body = body[os.write(3, body):]\n"
               "send(b'{\"json\":' + b'[' * 50000 + b']' * 50000 + b'}')\n"
               "send(b'{\"json\":[NaN]}')\n"
               "send(b'{\"json\":[Infinity]}')\n"
               "send(b'{\"text\":\"\\xff\"}')\n"
               "for i in range(2000): send(b'{\"text\":\"x\"}')\n"
               "print('END')\n",
               "");

    stage_expect(r, "verdict", "ok");
    stage_expect(r, "logs.stdout.0", "END\n");
    assert_int_equal(cJSON_GetArraySize(stage_at(r, "results")),
                     RESULT_ITEMS_MAX);
    stage_expect(r, "results.0.text", "x");
    assert_true(cJSON_GetArraySize(stage_at(r, "warnings")) > 2);
    cJSON_Delete(r);
}

static void attack_055_input_that_nobody_reads(void **state)
{
    enum { BYTES = 3 << 20 };
    AUTO_STRBUF struct strbuf more = STRBUF_INIT;
    static const char *const codes[] = {"sleep 0.2; echo END",
                                        "read -rn 5 x; echo END",
                                        "exec <&-; sleep 0.1; echo END"};
    char id[32];

    (void)state;
    strbuf_adds(&more, ",\"timeout\":10,\"stdin\":\"");
    char *room = strbuf_room(&more, BYTES);
    MUST(room);
    memset(room, 'x', BYTES);
    more.len += BYTES;
    strbuf_adds(&more, "\"");
    for (size_t i = 0; i < COUNT(codes); i++) {
        snprintf(id, sizeof(id), "input-%zu", i);
        attack_expect(&rig, id, LANGUAGE_BASH, codes[i], more.text, "ok",
                      "END\n");
    }
    attack_expect(&rig, "input-all", LANGUAGE_BASH, "wc -c", more.text, "ok",
                  "3145728\n");
}

/* ---- files -------------------------------------------------------------- */

static const cJSON *file_of(const cJSON *r, const char *path)
{
    const cJSON *file;

    cJSON_ArrayForEach(file, stage_at(r, "files"))
    {
        if (strcmp(stage_text(file, "path"), path) == 0)
            return file;
    }
    return NULL;
}

static void attack_061_no_link_is_followed(void **state)
{
    static const char *const links[] = {"shadow.t", "root.t", "loop.t",
                                        "gone.t",   "self.t", "up.t"};

    (void)state;
    cJSON *r = python("links",
                      "import os\n"
                      "os.symlink('/etc/shadow', 'shadow.t')\n"
                      "os.symlink('/proc/self/root/etc/passwd', 'root.t')\n"
                      "os.symlink('loop.t', 'loop.t')\n"
                      "os.symlink('/nowhere', 'gone.t')\n"
                      "os.symlink('/proc/self/environ', 'self.t')\n"
                      "os.symlink('../../etc/passwd', 'up.t')\n"
                      "os.symlink('/etc', 'folder')\n"
                      "os.mkfifo('pipe.t')\n",
                      ",\"output_files\":[\"*.t\",\"folder/passwd\","
                      "\"folder/*\"]");

    stage_expect(r, "verdict", "ok");
    for (size_t i = 0; i < COUNT(links); i++) {
        const cJSON *file = file_of(r, links[i]);

        assert_non_null(file);
        stage_expect(file, "skipped", "symlink");
        assert_null(stage_at(file, "content_base64"));
    }
    assert_non_null(stage_at(file_of(r, "pipe.t"), "skipped"));
    const cJSON *below = file_of(r, "folder/passwd");
    assert_true(!below || !stage_at(below, "content_base64"));
    cJSON_Delete(r);
}

static void attack_063_no_hard_link_leaves_the_sandbox(void **state)
{
    (void)state;
    cJSON *r = python("hard",
                      "import os\n"
                      "for i, p in enumerate(('/usr/bin/env', '/etc/passwd',\n"
                      "        '/run/capibox/main.py', '/proc/self/status')):\n"
                      "    try: os.link(p, '%d.t' % i); print('BROKE', p)\n"
                      "    except OSError as e: pass\n"
                      "open('a.t', 'w').write('mine'); os.link('a.t', 'b.t')\n"
                      "print('END')",
                      ",\"output_files\":[\"*.t\"]");

    stage_expect(r, "logs.stdout.0", "END\n");
    assert_int_equal(cJSON_GetArraySize(stage_at(r, "files")), 2);
    stage_expect(file_of(r, "b.t"), "content_base64", "bWluZQ==");
    cJSON_Delete(r);
}

static int entries;

static int count_entry(const char *path, const struct stat *st, int type,
                       struct FTW *at)
{
    (void)path;
    (void)st;
    (void)at;
    entries += type == FTW_F;
    return 0;
}

/* Also what the command line then writes stays in its folder. */
static void attack_065_odd_names_stay_in_their_folder(void **state)
{
    static const char code[] =
        "import os\n"
        "names = [b'\\xc3\\x28.t', b'new\\nline.t', b'\\x1b[2J.t', b'dot..t',\n"
        "    b'a' * 253 + b'.t', b'-rf.t', b'~.t', b'..\\\\..\\\\x.t', b' "
        ".t',\n"
        "    b'con.t', b'..t', b'...t']\n"
        "for n in names: open(n, 'w').write('x')\n"
        "os.mkdir('deep'); os.chdir('deep')\n"
        "for i in range(900):\n"
        "    os.mkdir('d'); os.chdir('d')\n"
        "open('bottom.t', 'w').close()\n";
    char dir[] = "/tmp/capibox-names-XXXXXX", inner[64];

    (void)state;
    MUST(mkdtemp(dir));
    snprintf(inner, sizeof(inner), "%s/in", dir);
    assert_int_equal(stage_cli(&rig, code, NULL, NULL, "run", "-", "--language",
                               "python", "--output", "**/*.t", "--output",
                               "*.t", "--save", inner, NULL),
                     0);
    entries = 0;
    nftw(inner, count_entry, 16, FTW_PHYS);
    int inside = entries;
    entries = 0;
    nftw(dir, count_entry, 16, FTW_PHYS);
    attack_remove_folder(dir);
    assert_true(inside > 3);
    assert_int_equal(entries, inside);
}

static void attack_067_input_names_that_lead_out_are_refused(void **state)
{
    static const char *const paths[] = {
        "/etc/x",  "../x",      "a/../../x", "..",      ".",         "",
        "a//../x", "a\\u0000b", "a/..",      "/home/x", "a/./../..",
    };
    char member[400];

    (void)state;
    for (size_t i = 0; i < COUNT(paths); i++) {
        const char *one = member;

        snprintf(member, sizeof(member),
                 ",\"files\":[{\"path\":\"%s\",\"content\":\"x\"}]", paths[i]);
        snprintf(member + 300, 50, "name-%zu", i);
        expect_rejected(member + 300, &one, 1, i == 7 ? "" : "files[0].path");
    }
    static const char *const clashes[] = {
        ",\"files\":[{\"path\":\"a\",\"content\":\"\"},"
        "{\"path\":\"a\",\"content\":\"\"}]",
        ",\"files\":[{\"path\":\"a\",\"content\":\"\"},"
        "{\"path\":\"a/b\",\"content\":\"\"}]",
        ",\"files\":[{\"path\":\"a/b\",\"content\":\"\"},"
        "{\"path\":\"a\",\"content\":\"\"}]",
    };
    expect_rejected("clash", clashes, COUNT(clashes), "files[1]");
}

static void attack_067_too_many_inputs_are_refused(void **state)
{
    AUTO_STRBUF struct strbuf more = STRBUF_INIT;
    const char *one;

    (void)state;
    strbuf_adds(&more, ",\"files\":[");
    for (int i = 0; i < 10000; i++)
        strbuf_addf(&more, "%s{\"path\":\"f%d\",\"content\":\"\"}",
                    i ? "," : "", i);
    strbuf_adds(&more, "]");
    MUST(!more.failed);
    one = more.text;
    expect_rejected("many", &one, 1, "files");
}

/* ---- code, environment, templates --------------------------------------- */

static void attack_119_odd_code_is_the_users_error(void **state)
{
    static const struct {
        enum language language;
        const char *code, *verdict, *out;
    } rows[] = {
        {LANGUAGE_PYTHON, "\xef\xbb\xbfprint('bom')", "ok", "bom\n"},
        {LANGUAGE_PYTHON, "# -*- coding: utf-7 -*-\nprint('cookie')", "ok",
         "cookie\n"},
        {LANGUAGE_PYTHON, "# coding: rot13\nprint('cookie')", "ok", "cookie\n"},
        {LANGUAGE_PYTHON, "if 1:\r\n  print('mixed')\n  print(2)\r\n", "ok",
         "mixed\n2\n"},
        {LANGUAGE_PYTHON, "print('\\ud800')", "ok", "\\ud800\n"},
        {LANGUAGE_PYTHON, "def", "user_error", NULL},
        {LANGUAGE_PYTHON, "\t if:\n", "user_error", NULL},
        {LANGUAGE_JAVASCRIPT, "\xef\xbb\xbf console.log('bom')", "ok", "bom\n"},
        {LANGUAGE_JAVASCRIPT, "function (", "user_error", NULL},
        {LANGUAGE_BASH, "echo 'open", "user_error", NULL},
        {LANGUAGE_BASH, "if true; then", "user_error", NULL},
    };
    char id[32];

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        snprintf(id, sizeof(id), "odd-%zu", i);
        attack_expect(&rig, id, rows[i].language, rows[i].code, "",
                      rows[i].verdict, rows[i].out);
    }
    static const char *const bad[] = {",\"code\":\"print(1)\\u0000\""};
    /* The same field twice is refused as well. */
    expect_rejected("nul", bad, 1, "code");
}

static void attack_119_deep_code_crashes_no_driver(void **state)
{
    enum { DEPTH = 100000 };
    AUTO_FREE char *deep = malloc(2 * DEPTH + 2);
    char id[32];

    (void)state;
    MUST(deep);
    memset(deep, '(', DEPTH);
    memset(deep + DEPTH, ')', DEPTH);
    deep[2 * DEPTH] = '\0';
    for (int l = LANGUAGE_PYTHON; l < LANGUAGE_COUNT; l++) {
        snprintf(id, sizeof(id), "deep-%d", l);
        cJSON *r =
            attack_run_code(&rig, id, (enum language)l, deep, ",\"timeout\":5");
        const char *verdict = stage_text(r, "verdict");
        if (strcmp(verdict, "signal") != 0 && strcmp(verdict, "oom") != 0)
            stage_expect(r, "verdict", "user_error");
        cJSON_Delete(r);
    }
}

static void attack_119_huge_code_is_refused(void **state)
{
    AUTO_FREE char *huge = malloc((2 << 20) + 1);

    (void)state;
    MUST(huge);
    memset(huge, '#', 2 << 20);
    huge[2 << 20] = '\0';
    cJSON *r = attack_run_code(&rig, "huge", LANGUAGE_PYTHON, huge, "");
    stage_expect(r, "verdict", "rejected");
    stage_expect_part(r, "error", "code");
    cJSON_Delete(r);
}

static void attack_120_environments_are_literal(void **state)
{
    static const char env[] =
        ",\"env\":{\"A\":\"'; import os; os._exit(9) #\",\"B\":\"x\\ny\","
        "\"C\":\"$(id) `id` ${HOME}\",\"D\":\"a=b=c\",\"E\":\"\\\"\\\\\","
        "\"IFS\":\"/\",\"a b\":\"odd\"}";
    static const char want[] = "'; import os; os._exit(9) #|x\ny|"
                               "$(id) `id` ${HOME}|a=b=c|\"\\|/\n";

    (void)state;
    attack_expect(&rig, "env-py", LANGUAGE_PYTHON,
                  "import os\nprint(*[os.environ[k] for k in "
                  "('A','B','C','D','E','IFS')], sep='|')",
                  env, "ok", want);
    attack_expect(&rig, "env-js", LANGUAGE_JAVASCRIPT,
                  "console.log(['A','B','C','D','E','IFS'].map("
                  "k => process.env[k]).join('|'))",
                  env, "ok", want);
    attack_expect(&rig, "env-sh", LANGUAGE_BASH,
                  "printf '%s|%s|%s|%s|%s' \"$A\" \"$B\" \"$C\" \"$D\" \"$E\"; "
                  "echo '|/'",
                  env, "ok", want);
}

static void attack_120_environments_that_act_are_refused(void **state)
{
    static const char *const members[] = {
        ",\"env\":{\"LD_PRELOAD\":\"/home/user/x.so\"}",
        ",\"env\":{\"LD_AUDIT\":\"x\"}",
        ",\"env\":{\"GLIBC_TUNABLES\":\"x\"}",
        ",\"env\":{\"PYTHONSTARTUP\":\"x\"}",
        ",\"env\":{\"PYTHONPATH\":\"/home/user\"}",
        ",\"env\":{\"PYTHONHOME\":\"x\"}",
        ",\"env\":{\"NODE_OPTIONS\":\"--require x\"}",
        ",\"env\":{\"BASH_ENV\":\"x\"}",
        ",\"env\":{\"BASH_FUNC_ulimit%%\":\"() { :; }\"}",
        ",\"env\":{\"SHELLOPTS\":\"xtrace\"}",
        ",\"env\":{\"BASHOPTS\":\"failglob\"}",
        ",\"env\":{\"A=B\":\"x\"}",
        ",\"env\":{\"\":\"x\"}",
        ",\"env\":{\"A\":null}",
        ",\"env\":[\"A\"]",
    };

    (void)state;
    expect_rejected("env", members, COUNT(members), "env");
    static const char *const nul[] = {",\"env\":{\"A\":\"x\\u0000y\"}"};
    expect_rejected("env-nul", nul, 1, "");
}

static void attack_122_unknown_templates_name_those_there_are(void **state)
{
    static const char *const names[] = {
        "../default",
        "nope",
        "/etc/passwd",
        "d\xd0\xb5"
        "fault",
        "DEFAULT",
        "default ",
        ".",
        "default.json",
    };
    char job[300], id[32];

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        snprintf(id, sizeof(id), "tpl-%zu", i);
        snprintf(job, sizeof(job),
                 "{\"id\":\"%s\",\"code\":\"1\",\"template\":\"%s\"}", id,
                 names[i]);
        cJSON *r = stage_job(&rig, job);
        stage_expect(r, "verdict", "rejected");
        stage_expect_part(r, "error", "template");
        cJSON_Delete(r);
    }
    cJSON *r = stage_job(&rig, "{\"id\":\"tpl-list\",\"code\":\"1\","
                               "\"template\":\"nope\"}");
    stage_expect_part(r, "error", "quick_script");
    cJSON_Delete(r);
    r = stage_job(&rig,
                  "{\"id\":\"lang\",\"code\":\"1\",\"language\":\"bash\"}");
    stage_expect(r, "verdict", "rejected");
    stage_expect_part(r, "error", "python");
    cJSON_Delete(r);
    r = stage_job(&rig, "{\"id\":\"spec\",\"code\":\"1\",\"requirements\":"
                        "{\"memory_limit_mb\":1,\"timeout\":5}}");
    stage_expect(r, "verdict", "rejected");
    stage_expect_part(r, "error", "memory_limit_mb");
    cJSON_Delete(r);
}

static void attack_123_broken_jobs_are_kept_and_harm_nobody(void **state)
{
    static const char *const jobs[] = {
        "",
        "{",
        "null",
        "[]",
        "5",
        "\"x\"",
        "{\"code\":{}}",
        "{\"code\":1}",
        "{\"code\":\"1\",\"files\":5}",
        "{\"code\":\"1\",\"code\":\"2\"}",
        "\xff\xfe",
        "{\"id\":[],\"code\":\"1\"}",
    };
    long long before = rig_stat(&rig, "rejected");
    long long dead = rig_number(&rig, "LLEN", "{capibox}:dead", NULL);

    (void)state;
    for (size_t i = 0; i < COUNT(jobs); i++)
        rig_push(&rig, "default", jobs[i]);
    assert_true(rig_wait_stat(&rig, "rejected", before + (int)COUNT(jobs)));
    assert_int_equal(rig_number(&rig, "LLEN", "{capibox}:dead", NULL),
                     dead + (int)COUNT(jobs));
    attack_next_job_is_fine(&rig, "after-broken");
}

static void attack_123_a_huge_job_is_refused(void **state)
{
    enum { BYTES = 100 << 20 };
    AUTO_FREE char *huge = malloc(BYTES + 1);
    long long before = rig_stat(&rig, "rejected");

    (void)state;
    MUST(huge);
    memset(huge, '{', BYTES);
    huge[BYTES] = '\0';
    rig_push(&rig, "default", huge);
    assert_true(rig_wait_stat(&rig, "rejected", before + 1));
    attack_next_job_is_fine(&rig, "after-huge");
}

static void attack_123_an_id_given_often_runs_once(void **state)
{
    long long before = rig_stat(&rig, "total_executions");

    (void)state;
    for (int i = 0; i < 50; i++)
        rig_push(&rig, i % 2 ? "high" : "default",
                 "{\"id\":\"often\",\"code\":\"print(7)\"}");
    cJSON_Delete(stage_result(&rig, "often"));
    attack_next_job_is_fine(&rig, "after-often");
    assert_true(rig_wait_stat(&rig, "total_executions", before + 2));
    assert_true(rig_settled(&rig));
}

/* Everything above, and then nothing is left of it. */
static void attacks_by_jobs_leave_nothing(void **state)
{
    (void)state;
    attack_next_job_is_fine(&rig, "last");
    attack_traces_gone(&worker, &traces);
    assert_int_equal(proc_wait(&worker, 0), PROC_RUNNING);
    assert_int_equal(rig_stat(&rig, "sandbox_created"),
                     rig_stat(&rig, "sandbox_destroyed"));
}

static int open_all(void **state)
{
    static const char *const env[] = {"CAPIBOX_CONCURRENCY=4",
                                      ATTACK_WORKER_ENV,
                                      "CAPIBOX_ALLOW_DEGRADED=1", NULL};

    (void)state;
    stage_open(&rig, NULL);
    stage_worker(&rig, &worker, env);
    attack_next_job_is_fine(&rig, "first");
    attack_next_job_is_fine(&rig, "second");
    attack_traces_settle(&worker, &traces);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    int ending = stage_end_worker(&worker);

    rig_close(&rig);
    return ending;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attack_014_no_timeout_means_for_ever),
        cmocka_unit_test(attack_015_an_end_at_the_limit_has_one_verdict),
        cmocka_unit_test(attack_044_odd_bytes_come_back_escaped),
        cmocka_unit_test(attack_047_forged_frames_change_no_fact),
        cmocka_unit_test(attack_048_results_are_bounded),
        cmocka_unit_test(attack_055_input_that_nobody_reads),
        cmocka_unit_test(attack_061_no_link_is_followed),
        cmocka_unit_test(attack_063_no_hard_link_leaves_the_sandbox),
        cmocka_unit_test(attack_065_odd_names_stay_in_their_folder),
        cmocka_unit_test(attack_067_input_names_that_lead_out_are_refused),
        cmocka_unit_test(attack_067_too_many_inputs_are_refused),
        cmocka_unit_test(attack_119_odd_code_is_the_users_error),
        cmocka_unit_test(attack_119_deep_code_crashes_no_driver),
        cmocka_unit_test(attack_119_huge_code_is_refused),
        cmocka_unit_test(attack_120_environments_are_literal),
        cmocka_unit_test(attack_120_environments_that_act_are_refused),
        cmocka_unit_test(attack_122_unknown_templates_name_those_there_are),
        cmocka_unit_test(attack_123_broken_jobs_are_kept_and_harm_nobody),
        cmocka_unit_test(attack_123_a_huge_job_is_refused),
        cmocka_unit_test(attack_123_an_id_given_often_runs_once),
        cmocka_unit_test(attacks_by_jobs_leave_nothing),
    };

    return cmocka_run_group_tests(tests, open_all, close_all);
}
