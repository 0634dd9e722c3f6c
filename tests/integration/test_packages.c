/* tests/integration/test_packages.c -- missing packages, through the built
 * programs: the worker's start and reload, `capibox run`, `capibox doctor`. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/must.h"
#include "tests/support/cmocka_all.h"
#include "tests/support/proc.h"
#include "tests/support/redis_server.h"
#include "tests/support/venv.h"

#define WAIT_MS 60000

static struct redis_server server;
static struct proc worker;
static char venv[360], url[400], folder[300], folder_env[340];
static const char *const env[] = {url, folder_env, "CAPIBOX_PREFIX",
                                  "CAPIBOX_ALLOW_DEGRADED=1", NULL};
static char *out, *err;

/* A template with this package, and its Python. */
static void write_template(const char *id, const char *package,
                           const char *python)
{
    char path[400];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s.json", folder, id);
    file = fopen(path, "w");
    MUST(file);
    fprintf(file,
            "{\"id\":\"%s\",\"name\":\"x\",\"languages\":[\"python\"],"
            "\"limits\":{\"timeout\":20,\"memory_limit_mb\":128,"
            "\"cpu_limit_percent\":100},\"packages\":[\"json\",\"%s\"],"
            "\"local\":{\"python\":\"%s\"}}",
            id, package, python);
    MUST0(fclose(file));
}

static int run(const char *verb, const char *code)
{
    const char *argv[] = {proc_program("capibox"),
                          verb,
                          *code ? "-" : "--json",
                          *code ? "--json" : NULL,
                          "--language",
                          "python",
                          NULL};
    struct proc_start how = {.argv = argv, .env = env, .stdin_text = code};

    free(out);
    free(err);
    out = err = NULL;
    return proc_run(&how, WAIT_MS, &out, &err);
}

static void assert_said(const char *part)
{
    if (!strstr(out, part))
        print_error("\"%s\" is not in:\n%s\n%s\n", part, out, err);
    assert_non_null(strstr(out, part));
}

static void a_worker_warns_or_names_the_package_and_reloads(void **state)
{
    (void)state;
    assert_int_equal(run("run", "print(1)"), 0);
    assert_said("package capibox_nowhere is listed by template default but not "
                "installed for /usr/bin/python3");
    assert_int_equal(run("run", "import capibox_nowhere"), 1);
    assert_said("No module named 'capibox_nowhere'. capibox_nowhere is not "
                "installed for /usr/bin/python3 (template default); templates "
                "that have it: venv\"");
    write_template("default", "capibox_elsewhere", "/usr/bin/python3");
    proc_signal(&worker, SIGHUP);
    assert_true(proc_says(&worker, "templates reloaded", WAIT_MS));
    /* It is in place right after that was logged. */
    for (int i = 0; i < 100; i++) {
        assert_int_equal(run("run", "print(1)"), 0);
        if (strstr(out, "capibox_elsewhere is listed"))
            break;
    }
    assert_said("capibox_elsewhere is listed by template default");
}

static void doctor_names_what_a_python_cannot_import(void **state)
{
    (void)state;
    write_template("default", "capibox_nowhere", "/usr/bin/python3");
    run("doctor", "");
    assert_said("\"name\":\"packages\",\"state\":\"note\",\"detail\":"
                "\"template default: /usr/bin/python3 cannot import "
                "capibox_nowhere\"");
    assert_null(strstr(out, "template venv: "));
}

static int begin(void **state)
{
    const char *argv[] = {proc_program("capibox-worker"), NULL};
    struct proc_start how = {.argv = argv, .env = env};

    (void)state;
    redis_server_start(&server, NULL);
    snprintf(url, sizeof(url), "CAPIBOX_REDIS_URL=%s", server.url);
    snprintf(folder, sizeof(folder), "%s/templates", server.dir);
    MUST0(mkdir(folder, 0755));
    snprintf(folder_env, sizeof(folder_env), "CAPIBOX_TEMPLATES=%s", folder);
    write_template("default", "capibox_nowhere", "/usr/bin/python3");
    venv_make(server.dir, "capibox_nowhere", venv, sizeof(venv));
    write_template("venv", "capibox_nowhere", venv);
    proc_start(&worker, &how);
    return 0;
}

static int end(void **state)
{
    (void)state;
    proc_signal(&worker, SIGTERM);
    proc_wait(&worker, WAIT_MS);
    proc_stop(&worker);
    redis_server_stop(&server);
    free(out);
    free(err);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_warns_or_names_the_package_and_reloads),
        cmocka_unit_test(doctor_names_what_a_python_cannot_import),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
