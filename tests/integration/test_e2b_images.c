/* templates/e2b/build.py: what it would build of the templates, without E2B. */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "common/template.h"
#include "tests/support/cmocka_all.h"
#include "tests/support/proc.h"

#define BUILD_MS 20000

static int build_says(char **out, char **err, const char *word,
                      const char *second, const char *third)
{
    const char *argv[] = {"/usr/bin/python3",
                          "templates/e2b/build.py",
                          word,
                          second,
                          third,
                          NULL};

    return proc_run(&(struct proc_start){.argv = argv}, BUILD_MS, out, err);
}

static void fail_on_bad(void *ctx, const char *file, int line,
                        const struct complaint *why)
{
    (void)ctx;
    fail_msg("%s:%d: %s", file, line, why->text);
}

static double number(const cJSON *one, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(one, name)->valuedouble;
}

static void each_template_has_an_image_that_holds_it(void **state)
{
    struct template_set *set = NULL;
    AUTO_FREE char *out = NULL;
    size_t seen = 0;

    (void)state;
    assert_int_equal(build_says(&out, NULL, "--list", NULL, NULL), 0);
    assert_int_equal(template_set_load("templates", fail_on_bad, NULL, &set),
                     0);
    char *rest = NULL;

    for (char *line = strtok_r(out, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest)) {
        cJSON *one = cJSON_Parse(line);
        const struct template *tpl = template_find(
            set, cJSON_GetObjectItemCaseSensitive(one, "id")->valuestring);

        assert_non_null(tpl);
        assert_true(number(one, "memory_mb") * 1048576 >=
                    (double)tpl->limits.memory_bytes);
        assert_true(number(one, "vcpu") * 100 >= tpl->limits.cpu_percent);
        seen++;
        cJSON_Delete(one);
    }
    assert_int_equal(seen, set->count);
    template_set_unref(set);
}

static void a_dockerfile_names_the_packages_as_pip_does(void **state)
{
    AUTO_FREE char *out = NULL;

    (void)state;
    assert_int_equal(
        build_says(&out, NULL, "--dockerfile", "machine_learning", NULL), 0);
    assert_non_null(strstr(out, "FROM e2bdev/code-interpreter"));
    assert_non_null(strstr(out, "-c /root/.jupyter/start-up.sh"));
    assert_non_null(strstr(out, "--ready-cmd 'curl -sf "
                                "http://localhost:49999/health'"));
    assert_non_null(strstr(out, " torch"));
    assert_null(strstr(out, "pytorch"));
}

static void a_size_that_e2b_refuses_is_refused_here(void **state)
{
    AUTO_FREE char *err = NULL;

    (void)state;
    assert_int_equal(build_says(NULL, &err, "default", "--size", "3:1024"), 1);
    assert_non_null(strstr(err, "vCPUs are 1 or even"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_template_has_an_image_that_holds_it),
        cmocka_unit_test(a_dockerfile_names_the_packages_as_pip_does),
        cmocka_unit_test(a_size_that_e2b_refuses_is_refused_here),
    };

    return cmocka_run_group_tests_name("e2b images", tests, NULL, NULL);
}
