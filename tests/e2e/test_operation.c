/* What an operator does with the built programs: settings, signals, TLS, a
 * Redis that is late, and the verbs that look. */
#include "tests/support/cmocka_all.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io.h"
#include "common/must.h"
#include "common/scope.h"
#include "tests/support/stage.h"

#define SECRET   "t0p-5ecret"
#define START_MS 20000

static struct rig rig;
static struct proc worker;
static char folder[PATH_MAX]; /* certificates, templates */

/* ---- wrong settings ------------------------------------------------------ */

/* Exit code 2, nothing on stdout, one line on stderr that holds both words. */
static void expect_refused(const char *program, const char *const *words,
                           const char *setting, const char *name)
{
    const char *argv[8] = {proc_program(program)};
    /* A worker that gets as far as Redis is not refused, but waits. */
    bool is_url = setting && strstr(setting, "REDIS_URL");
    const char *env[] = {is_url ? setting : "CAPIBOX_REDIS_URL=unix:///nowhere",
                         is_url ? NULL : setting, NULL};
    AUTO_FREE char *out = NULL, *err = NULL;

    for (int i = 0; words && words[i]; i++)
        argv[i + 1] = words[i];
    int code = proc_run(&(struct proc_start){.argv = argv, .env = env},
                        START_MS, &out, &err);
    char *end = strchr(err, '\n');
    if (code != 2 || !end || end[1] || !strstr(err, name) ||
        strncmp(err, program, strlen(program)) != 0)
        fail_msg("%s with %s ended with %d and said: %s%s", program,
                 setting ? setting : words[0], code, out, err);
    assert_string_equal(out, "");
    assert_null(strstr(err, SECRET));
}

static void a_wrong_setting_is_named_in_one_line(void **state)
{
    static const char *const settings[] = {
        "CAPIBOX_CONCURRENCY=many",
        "CAPIBOX_CONCURRENCY=0",
        "CAPIBOX_LEASE_MS=1",
        "CAPIBOX_RESULT_TTL=-5",
        "CAPIBOX_SHUTDOWN_GRACE=1e3",
        "CAPIBOX_BACKEND=cloud",
        "CAPIBOX_QUEUES=a,,b",
        "CAPIBOX_LOG=xml",
        "CAPIBOX_LOG_LEVEL=loud",
        "CAPIBOX_TEMPLATES=/no/such/folder",
        "CAPIBOX_ALLOW_DEGRADED=maybe",
        "CAPIBOX_REDIS_CA=/no/such/file",
        "CAPIBOX_MAX_TIMEOUT=99999999",
        "CAPIBOX_REDIS_URL=ftp://user:" SECRET "@host",
        "CAPIBOX_REDIS_URL=redis://user:" SECRET "@host:port",
        "CAPIBOX_REDIS_URL=redis://:" SECRET "@host/db",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(settings) / sizeof(*settings); i++) {
        char name[64];

        snprintf(name, sizeof(name), "%.*s", (int)strcspn(settings[i], "="),
                 settings[i]);
        expect_refused("capibox-worker", NULL, settings[i], name);
    }
}

static void a_misspelt_setting_is_warned_of_at_the_start(void **state)
{
    const char *argv[] = {proc_program("capibox-worker"), NULL};
    const char *env[] = {"CAPIBOX_REDIS_URL=unix:///nowhere",
                         "CAPIBOX_CONCURENCY=3", NULL};
    struct proc p = {0};

    (void)state;
    proc_start(&p, &(struct proc_start){.argv = argv, .env = env});
    assert_true(proc_says(&p,
                          "unknown setting CAPIBOX_CONCURENCY; did you mean "
                          "CAPIBOX_CONCURRENCY?",
                          START_MS));
    proc_stop(&p);
}

static void an_unknown_flag_is_named_in_one_line(void **state)
{
    static const char *const worker_flag[] = {"--concurency=3", NULL};
    static const char *const twice[] = {"--lease-ms", "2000", "--lease-ms",
                                        "2000", NULL};
    static const char *const no_value[] = {"--concurrency", NULL};
    static const char *const verb[] = {"runn", NULL};
    static const char *const verb_flag[] = {"stats", "--wach", NULL};

    (void)state;
    expect_refused("capibox-worker", worker_flag, NULL, "--concurency");
    expect_refused("capibox-worker", twice, NULL, "--lease-ms");
    expect_refused("capibox-worker", no_value, NULL, "--concurrency");
    expect_refused("capibox", verb, NULL, "runn");
    expect_refused("capibox", verb_flag, NULL, "--wach");
}

static void help_and_version_need_no_redis(void **state)
{
    static const char *const programs[] = {"capibox-worker", "capibox"};
    static const char *const flags[] = {"--help", "--version"};
    const char *env[] = {"CAPIBOX_REDIS_URL=unix:///nowhere", NULL};

    (void)state;
    for (int i = 0; i < 4; i++) {
        const char *argv[] = {proc_program(programs[i / 2]), flags[i % 2],
                              NULL};
        AUTO_FREE char *out = NULL, *err = NULL;

        assert_int_equal(
            proc_run(&(struct proc_start){.argv = argv, .env = env}, START_MS,
                     &out, &err),
            0);
        assert_non_null(strstr(out, "capibox"));
        assert_string_equal(err, "");
    }
}

/* ---- Redis comes and goes ------------------------------------------------ */

static int count(const char *text, const char *part)
{
    int n = 0;

    while ((text = strstr(text, part))) {
        n++;
        text += strlen(part);
    }
    return n;
}

static void a_worker_waits_for_redis_and_says_so_once(void **state)
{
    const char *argv[] = {proc_program("capibox-worker"), NULL};
    char url[512];
    const char *env[] = {url, NULL};

    (void)state;
    redis_server_kill(&rig.server);
    snprintf(url, sizeof(url), "CAPIBOX_REDIS_URL=%s", rig.server.url);
    proc_start(&worker, &(struct proc_start){.argv = argv, .env = env});
    assert_true(proc_says(&worker, "redis unreachable", START_MS));
    /* Several tries, and no further line. */
    assert_int_equal(proc_wait(&worker, 1500), PROC_RUNNING);
    redis_server_restart(&rig.server);
    assert_true(proc_says(&worker, "worker registered", START_MS));
    cJSON *r = stage_job(&rig, "{\"id\":\"late\",\"code\":\"print(1)\"}");
    stage_expect(r, "verdict", "ok");
    cJSON_Delete(r);
    AUTO_FREE char *log = proc_err(&worker);
    assert_int_equal(count(log, "redis unreachable"), 1);
    assert_int_equal(count(log, "redis is back"), 1);
    assert_int_equal(count(log, "queue connection lost"), 0);
    assert_int_equal(stage_end_worker(&worker), 0);
}

/* ---- templates ----------------------------------------------------------- */

static void put_template(const char *id, const char *text)
{
    char path[PATH_MAX + 64];

    snprintf(path, sizeof(path), "%s/templates/%s.json", folder, id);
    FILE *file = fopen(path, "w");
    MUST(file);
    MUST(fputs(text, file) >= 0);
    MUST0(fclose(file));
}

static void sighup_reloads_templates_and_names_a_bad_one(void **state)
{
    char setting[PATH_MAX + 64], command[PATH_MAX + 64];
    const char *env[] = {setting, NULL};

    (void)state;
    snprintf(command, sizeof(command), "cp -r templates '%s/'", folder);
    MUST0(system(command));
    snprintf(setting, sizeof(setting), "CAPIBOX_TEMPLATES=%s/templates",
             folder);
    stage_worker(&rig, &worker, env);
    cJSON *r = stage_job(&rig, "{\"id\":\"h1\",\"template\":\"tiny\","
                               "\"code\":\"print(1)\"}");
    stage_expect(r, "verdict", "rejected");
    cJSON_Delete(r);
    put_template("tiny",
                 "{\"id\":\"tiny\",\"name\":\"Tiny\",\"description\":\"t\","
                 "\"task_types\":[],\"languages\":[\"bash\"],\"limits\":{"
                 "\"timeout\":5,\"memory_limit_mb\":32,"
                 "\"cpu_limit_percent\":50,\"disk_limit_mb\":8,"
                 "\"pids_limit\":8,\"output_limit_kb\":16,\"network\":false},"
                 "\"packages\":[],\"template_name\":\"x\","
                 "\"local\":{\"bash\":\"/bin/bash\"}}");
    put_template("broken", "{\n  \"id\": \"broken\",\n  \"name\": nonsense\n}");
    proc_signal(&worker, SIGHUP);
    assert_true(proc_says(&worker, "templates reloaded", START_MS));
    AUTO_FREE char *log = proc_err(&worker);
    assert_non_null(strstr(log, "template left out"));
    assert_non_null(strstr(log, "broken.json"));
    assert_non_null(strstr(log, "line=3"));
    r = stage_job(&rig, "{\"id\":\"h2\",\"template\":\"tiny\","
                        "\"code\":\"echo tiny\"}");
    stage_expect(r, "logs.stdout.0", "tiny\n");
    stage_expect(r, "language", "bash");
    assert_int_equal(stage_number(r, "sandbox_info.config.memory_limit_mb"),
                     32);
    cJSON_Delete(r);
    assert_int_equal(stage_end_worker(&worker), 0);
}

/* ---- the verbs that look ------------------------------------------------- */

static cJSON *ask(const char *verb, const char *more)
{
    AUTO_FREE char *out = NULL;

    assert_int_equal(
        stage_cli(&rig, NULL, &out, NULL, verb, "--json", more, NULL), 0);
    cJSON *json = cJSON_Parse(out);
    assert_non_null(json);
    return json;
}

static void the_verbs_that_look_tell_what_is_there(void **state)
{
    (void)state;
    stage_worker(&rig, &worker, NULL);
    cJSON_Delete(stage_job(&rig, "{\"id\":\"l\",\"code\":\"print(1)\"}"));
    assert_true(rig_settled(&rig));
    cJSON *json = ask("stats", NULL);
    assert_int_equal(stage_number(json, "stats.total_executions"), 1);
    assert_int_equal(stage_number(json, "stats.verdict:ok"), 1);
    assert_int_equal(stage_number(json, "success_rate"), 100);
    assert_true(stage_number(json, "average_execution_time") > 0);
    cJSON_Delete(json);
    json = ask("stats", "--audit");
    assert_true(cJSON_IsTrue(stage_at(json, "balanced")));
    cJSON_Delete(json);
    for (int i = 0; i < 3; i++)
        rig_push(&rig, "nobody-serves-this", "{\"code\":\"1\"}");
    json = ask("queues", NULL);
    AUTO_FREE char *queues = cJSON_PrintUnformatted(json);
    assert_non_null(strstr(queues, "\"default\""));
    cJSON_Delete(json);
    json = ask("workers", NULL);
    AUTO_FREE char *workers = cJSON_PrintUnformatted(json);
    char pid[32];
    snprintf(pid, sizeof(pid), "%d", worker.pid);
    assert_non_null(strstr(workers, pid));
    cJSON_Delete(json);
    json = ask("status", "l");
    stage_expect(json, "verdict", "ok");
    cJSON_Delete(json);
    json = ask("templates", "quick_script");
    AUTO_FREE char *templates = cJSON_PrintUnformatted(json);
    assert_non_null(strstr(templates, "quick_script"));
    cJSON_Delete(json);
    assert_int_equal(
        stage_cli(&rig, NULL, NULL, NULL, "templates", "none-such", NULL), 2);
    assert_int_equal(stage_end_worker(&worker), 0);
    json = ask("workers", NULL);
    AUTO_FREE char *none = cJSON_PrintUnformatted(json);
    assert_null(strstr(none, pid));
    cJSON_Delete(json);
}

static void doctor_answers_0_only_where_a_worker_would_be_safe(void **state)
{
    AUTO_FREE char *out = NULL, *err = NULL;

    (void)state;
    cJSON *json = ask("doctor", NULL);
    assert_true(cJSON_IsTrue(stage_at(json, "safe")));
    assert_true(cJSON_GetArraySize(stage_at(json, "checks")) >= 3);
    cJSON_Delete(json);
    assert_int_equal(stage_cli(&rig, NULL, &out, &err, "doctor", "--redis",
                               "unix:///nowhere", NULL),
                     4);
    assert_non_null(strstr(out, "fix:"));
}

/* ---- TLS ----------------------------------------------------------------- */

static void make_certificates(void)
{
    static const char script[] =
        "set -e; cd \"$E2E_FOLDER\"; exec >openssl.log 2>&1\n"
        "ca() { openssl req -x509 -newkey rsa:2048 -nodes -keyout $1.key"
        "  -out $1.crt -days 2 -subj /CN=$1; }\n"
        "cert() { openssl req -newkey rsa:2048 -nodes -keyout $1.key"
        "    -out $1.csr -subj /CN=$1\n"
        "  echo \"subjectAltName=$2\" >$1.ext\n"
        "  openssl x509 -req -in $1.csr -CA ca.crt -CAkey ca.key"
        "    -CAcreateserial -out $1.crt -extfile $1.ext -days 2; }\n"
        "ca ca; ca stranger\n"
        "cert good DNS:localhost,IP:127.0.0.1\n"
        "cert other DNS:other.example\n";

    MUST0(setenv("E2E_FOLDER", folder, 1));
    MUST0(system(script));
}

/* The rig keeps its unix socket; the programs come by TLS. */
static void open_tls(const char *certificate)
{
    char ca[PATH_MAX + 32], cert[PATH_MAX + 32], key[PATH_MAX + 32];
    char answer[64];
    const char *words[] = {"--tls-port",
                           "auto",
                           "--tls-ca-cert-file",
                           ca,
                           "--tls-cert-file",
                           cert,
                           "--tls-key-file",
                           key,
                           "--tls-auth-clients",
                           "no",
                           NULL};

    snprintf(ca, sizeof(ca), "%s/ca.crt", folder);
    snprintf(cert, sizeof(cert), "%s/%s.crt", folder, certificate);
    snprintf(key, sizeof(key), "%s/%s.key", folder, certificate);
    stage_open(&rig, words);
    rig_text(&rig, answer, sizeof(answer), "ACL", "SETUSER", "capi", "on",
             ">" SECRET, "~*", "&*", "+@all", NULL);
}

struct tls_settings {
    char url[256], ca[PATH_MAX + 64];
    const char *env[3];
};

static const char *const *tls_env(struct tls_settings *t, const char *ca)
{
    snprintf(t->url, sizeof(t->url),
             "CAPIBOX_REDIS_URL=rediss://capi:" SECRET "@localhost:%d/0",
             rig.server.tls_port);
    snprintf(t->ca, sizeof(t->ca), "CAPIBOX_REDIS_CA=%s/%s.crt", folder, ca);
    t->env[0] = t->url;
    t->env[1] = t->ca;
    t->env[2] = NULL;
    return t->env;
}

static int tls_run(const char *const *env, char **out, char **err)
{
    const char *argv[] = {proc_program("capibox"), "run", "-", NULL};

    return proc_run(&(struct proc_start){.argv = argv,
                                         .env = env,
                                         .stdin_text = "print('by TLS')"},
                    START_MS, out, err);
}

static void tls_with_the_right_authority_works(void **state)
{
    AUTO_FREE char *out = NULL, *err = NULL;
    struct tls_settings t;

    (void)state;
    open_tls("good");
    stage_worker(&rig, &worker, tls_env(&t, "ca"));
    assert_int_equal(tls_run(t.env, &out, &err), 0);
    assert_string_equal(out, "by TLS\n");
    AUTO_FREE char *log = proc_err(&worker);
    assert_non_null(strstr(log, "rediss://"));
    assert_null(strstr(log, SECRET));
    assert_int_equal(stage_end_worker(&worker), 0);
}

/* Neither program talks; both say why, and not with what password. */
static void expect_no_tls(const char *const *env)
{
    const char *argv[] = {proc_program("capibox-worker"), NULL};
    AUTO_FREE char *out = NULL, *err = NULL;

    assert_int_equal(tls_run(env, &out, &err), 4);
    assert_non_null(strstr(err, "certificate"));
    assert_null(strstr(err, SECRET));
    proc_start(&worker, &(struct proc_start){.argv = argv, .env = env});
    assert_true(proc_says(&worker, "redis unreachable", START_MS));
    assert_int_equal(rig_number(&rig, "DBSIZE", NULL), 0);
    proc_signal(&worker, SIGTERM);
    assert_true(proc_wait(&worker, START_MS) != PROC_RUNNING);
    AUTO_FREE char *log = proc_err(&worker);
    assert_non_null(strstr(log, "certificate"));
    assert_null(strstr(log, SECRET));
    assert_null(strstr(log, "worker registered"));
    proc_stop(&worker);
}

static void tls_with_the_wrong_authority_is_refused(void **state)
{
    struct tls_settings t;

    (void)state;
    open_tls("good");
    expect_no_tls(tls_env(&t, "stranger"));
}

static void tls_to_another_host_is_refused(void **state)
{
    struct tls_settings t;

    (void)state;
    open_tls("other");
    expect_no_tls(tls_env(&t, "ca"));
}

/* ---- stage --------------------------------------------------------------- */

static int make_folder(void **state)
{
    char relative[] = "build/tmp/e2e-XXXXXX";

    (void)state;
    mkdir("build", 0755);
    mkdir("build/tmp", 0755);
    MUST(mkdtemp(relative) && realpath(relative, folder));
    make_certificates();
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return system("rm -rf \"$E2E_FOLDER\"");
}

static int open_one(void **state)
{
    (void)state;
    stage_open(&rig, NULL);
    return 0;
}

static int close_one(void **state)
{
    (void)state;
    proc_stop(&worker);
    rig_close(&rig);
    return 0;
}

#define ON_A_STAGE(test) \
    cmocka_unit_test_setup_teardown(test, open_one, close_one)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wrong_setting_is_named_in_one_line),
        cmocka_unit_test(a_misspelt_setting_is_warned_of_at_the_start),
        cmocka_unit_test(an_unknown_flag_is_named_in_one_line),
        cmocka_unit_test(help_and_version_need_no_redis),
        ON_A_STAGE(a_worker_waits_for_redis_and_says_so_once),
        ON_A_STAGE(sighup_reloads_templates_and_names_a_bad_one),
        ON_A_STAGE(the_verbs_that_look_tell_what_is_there),
        ON_A_STAGE(doctor_answers_0_only_where_a_worker_would_be_safe),
        cmocka_unit_test_teardown(tls_with_the_right_authority_works,
                                  close_one),
        cmocka_unit_test_teardown(tls_with_the_wrong_authority_is_refused,
                                  close_one),
        cmocka_unit_test_teardown(tls_to_another_host_is_refused, close_one),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
