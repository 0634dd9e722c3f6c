/* The E2B backend against the double of E2B: honest jobs, and E2B when it
 * misbehaves. The built worker, a real Redis, real code. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/cmocka_all.h"
#include "tests/support/double.h"
#include "tests/support/stage.h"

struct fixture {
    struct rig rig;
    struct e2b_double e2b;
    struct proc worker;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    stage_open(&f->rig, NULL);
    double_open(&f->e2b, NULL);
    stage_worker(&f->rig, &f->worker, f->e2b.env);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    proc_stop(&f->worker);
    double_end(&f->e2b);
    rig_close(&f->rig);
    free(f);
    return 0;
}

/* Nothing is left and no word of the protocol was broken. */
static void end_well(struct fixture *f)
{
    assert_int_equal(stage_end_worker(&f->worker), 0);
    double_close(&f->e2b);
}

static void a_job_runs_in_a_sandbox_of_its_own(void **state)
{
    struct fixture *f = *state;
    cJSON *r = stage_job(&f->rig, "{\"id\":\"a\",\"code\":\"print(6*7)\\n2\"}");

    stage_expect(r, "verdict", "ok");
    stage_expect(r, "backend", "e2b");
    stage_expect(r, "logs.stdout.0", "42\n");
    stage_expect(r, "results.0.text", "2");
    cJSON_Delete(r);
    assert_int_equal(double_number(&f->e2b, "requests.create"), 1);
    assert_int_equal(double_number(&f->e2b, "requests.execute"), 1);
    assert_int_equal(double_number(&f->e2b, "requests.delete"), 1);
    end_well(f);
}

#define WITH_DOUBLE(test) \
    cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_DOUBLE(a_job_runs_in_a_sandbox_of_its_own),
    };

    return cmocka_run_group_tests_name("e2b", tests, NULL, NULL);
}
