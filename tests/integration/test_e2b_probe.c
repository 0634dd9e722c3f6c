/* capibox-worker --probe with backend e2b, against E2B's stand-in: what the
 * doctor says of an account before a job costs anything. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "tests/support/cmocka_all.h"
#include "tests/support/double.h"
#include "tests/support/proc.h"
#include "tests/support/scratch.h"
#include "tests/support/stage.h"

#define PROBE_MS 60000

static struct e2b_double e2b;

static int set_up(void **state)
{
    static const char *const words[] = {
        "--template", "code-interpreter-v1:2:2048", "--template",
        "capibox-own:2:2048", NULL};

    (void)state;
    double_open(&e2b, words);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    double_end(&e2b);
    return 0;
}

/* The exit code, and the answer; the caller deletes. */
static int probe(const char *templates, cJSON **out)
{
    const char *const argv[] = {proc_program("capibox-worker"), "--probe",
                                "--json", NULL};
    char text_of[300];
    const char *env[DOUBLE_ENV + 1] = {text_of};
    AUTO_FREE char *text = NULL, *err = NULL;
    const struct proc_start how = {.argv = argv, .env = env};
    int code;

    snprintf(text_of, sizeof(text_of), "CAPIBOX_TEMPLATES=%s", templates);
    for (int i = 0; e2b.env[i]; i++)
        env[i + 1] = e2b.env[i];
    code = proc_run(&how, PROBE_MS, &text, &err);
    *out = cJSON_Parse(text);
    if (!*out)
        fail_msg("%s%s", text, err);
    return code;
}

/* The check of that name whose detail holds this; or NULL. */
static const cJSON *find(const cJSON *probe, const char *what,
                         const char *detail)
{
    const cJSON *check;

    cJSON_ArrayForEach(
        check, cJSON_GetObjectItem(
                   probe, "checks")) if (strcmp(stage_text(check, "what"),
                                                what) == 0 &&
                                         strstr(stage_text(check, "detail"),
                                                detail)) return check;
    return NULL;
}

/* E2B shows a team's own templates by name; that another one's is there it
 * tells by refusing to show it (403), and its usual one is E2B's own. */
static void e2bs_own_template_is_there(void **state)
{
    cJSON *got;
    int code = probe("templates", &got);

    (void)state;
    if (code != 0)
        fail_msg("%s", cJSON_Print(got));
    assert_non_null(find(got, "e2b api", "takes the key"));
    assert_true(cJSON_IsTrue(
        stage_at(find(got, "e2b image", "code-interpreter-v1"), "ok")));
    cJSON_Delete(got);
    double_close(&e2b);
}

static void a_template_that_is_not_there_is_named(void **state)
{
    char folder[SCRATCH_PATH_MAX], command[400];
    const cJSON *check;
    cJSON *got;

    (void)state;
    scratch_make(folder);
    snprintf(command, sizeof(command),
             "for t in own gone others/one; do sed \"s|code-interpreter-v1|"
             "capibox-$t|; s/quick_script/q_${t%%%%/*}/; s/\\\"quick\\\"//\" "
             "templates/quick_script.json >%s/q_${t%%%%/*}.json; done; "
             "cp templates/default.json %s",
             folder, folder);
    assert_int_equal(system(command), 0);
    assert_int_equal(probe(folder, &got), 0); /* default's is there */
    assert_true(
        cJSON_IsTrue(stage_at(find(got, "e2b image", "capibox-own"), "ok")));
    check = find(got, "e2b image", "capibox-gone");
    assert_true(cJSON_IsFalse(stage_at(check, "ok")));
    stage_expect_part(check, "detail", "E2B knows no such template");
    check = find(got, "e2b image", "capibox-others/one");
    assert_true(cJSON_IsFalse(stage_at(check, "ok")));
    stage_expect_part(check, "detail", "must match your team");
    cJSON_Delete(got);
    scratch_remove(folder);
    double_close(&e2b);
}

/* No job would run, and this is why. */
static void expect_bad(const char *what, const char *detail)
{
    cJSON *got;

    assert_int_equal(probe("templates", &got), 4);
    assert_true(cJSON_IsFalse(stage_at(find(got, what, detail), "ok")));
    cJSON_Delete(got);
}

/* A web server is not E2B's proxy. */
static void an_answer_of_somebody_else_is_no_sandbox(void **state)
{
    cJSON *got;

    (void)state;
    double_fault(&e2b, "\"route\":\"ci_health\",\"kind\":\"status\","
                       "\"status\":404,\"body\":\"no such page\"");
    expect_bad("sandboxes", "not as E2B's proxy does: HTTP 404");
    assert_int_equal(probe("templates", &got), 0);
    assert_true(cJSON_IsTrue(
        stage_at(find(got, "sandboxes", "their hosts answer"), "ok")));
    cJSON_Delete(got);
    double_close(&e2b);
}

/* A portal that answers all with a page of its own takes no key. */
static void a_page_is_no_answer_of_e2b(void **state)
{
    static const char *const bodies[] = {"<html>log in</html>", "{}", ""};

    (void)state;
    for (int i = 0; i < 3; i++) {
        char fault[200];

        snprintf(fault, sizeof(fault),
                 "\"route\":\"list\",\"kind\":\"status\",\"status\":200,"
                 "\"body\":\"%s\"",
                 bodies[i]);
        double_fault(&e2b, fault);
        expect_bad("e2b api", "no list of sandboxes");
    }
    double_fault(&e2b, "\"route\":\"alias\",\"kind\":\"status\","
                       "\"status\":200,\"body\":\"<html>\",\"count\":9");
    expect_bad("e2b image", "no templateID");
    double_close(&e2b);
}

#define FRESH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FRESH(e2bs_own_template_is_there),
        FRESH(an_answer_of_somebody_else_is_no_sandbox),
        FRESH(a_page_is_no_answer_of_e2b),
        FRESH(a_template_that_is_not_there_is_named),
    };

    return cmocka_run_group_tests_name("e2b probe", tests, NULL, NULL);
}
