/* When workers that have sandboxes on E2B die or are stopped: all of them are
 * killed, by whoever is there. Against the double of E2B. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/support/cmocka_all.h"
#include "tests/support/e2b_stage.h"

#define SLEEPS(seconds) \
    "\"code\":\"import time\\nprint(1)\\ntime.sleep(" seconds ")\""

/* ---- workers die --------------------------------------------------------- */

static void sandboxes_of_a_killed_worker_are_killed(void **state)
{
    struct e2b_stage *s = *state;
    struct proc victim = {.pid = 0};

    e2b_stage_worker(s, &victim, NULL);
    e2b_stage_push(s, "a", 5, SLEEPS("6"));
    assert_true(double_wait_alive(&s->e2b, 5, 10000));
    /* A DELETE of it would still be lost: it answers to nobody. */
    proc_signal(&victim, SIGKILL);
    e2b_stage_worker(s, &s->worker, NULL);
    for (int i = 0; i < 5; i++) {
        char id[8];

        snprintf(id, sizeof(id), "a%d", i);
        cJSON *r = stage_result_within(&s->rig, id, 60000);

        stage_expect(r, "verdict", "ok");
        cJSON_Delete(r);
    }
    assert_true(double_settled(&s->e2b, 20000));
    assert_int_equal(double_number(&s->e2b, "creates"), 10);
    assert_int_equal(double_number(&s->e2b, "destroys"), 10);
    proc_stop(&victim);
    assert_int_equal(stage_end_worker(&s->worker), 0);
    double_close(&s->e2b);
}

/* Nobody buried them in time; then Redis knows nothing of that worker. */
static void leftovers_are_found_at_the_start(void **state)
{
    struct e2b_stage *s = *state;
    struct proc victim = {.pid = 0};
    int64_t start;

    e2b_stage_worker(s, &victim, NULL);
    e2b_stage_push(s, "a", 4, SLEEPS("30"));
    assert_true(double_wait_alive(&s->e2b, 4, 10000));
    proc_signal(&victim, SIGKILL);
    proc_wait(&victim, 5000);
    /* As after its lease, all but the sandboxes cleared away. */
    rig_text(&s->rig, (char[64]){0}, 64, "EVAL",
             "for _, k in ipairs(redis.call('KEYS', '{capibox}:*')) do "
             "if not string.find(k, 'conf') then redis.call('DEL', k) end end "
             "return 'gone'",
             "0", NULL);
    start = clock_ms();
    e2b_stage_worker(s, &s->worker, NULL);
    assert_true(double_settled(&s->e2b, 20000));
    assert_in_range(clock_ms() - start, 0, 20000);
    assert_int_equal(double_number(&s->e2b, "destroys"), 4);
    proc_stop(&victim);
    assert_int_equal(stage_end_worker(&s->worker), 0);
    double_close(&s->e2b);
}

static void a_living_workers_sandboxes_are_left_alone(void **state)
{
    struct e2b_stage *s = *state;
    struct proc other = {.pid = 0};

    e2b_stage_push(s, "a", 4, "\"max_attempts\":1," SLEEPS("8"));
    assert_true(double_wait_alive(&s->e2b, 4, 10000));
    e2b_stage_worker(s, &other, NULL); /* surveys at once */
    e2b_stage_expect_all(s, "a", 4, "ok", 30000);
    assert_int_equal(stage_end_worker(&other), 0);
    e2b_stage_end_well(s);
}

/* ---- workers are stopped ------------------------------------------------- */

static void stop_now(struct e2b_stage *s, int within_ms)
{
    int64_t start = clock_ms();

    proc_signal(&s->worker, SIGTERM);
    assert_true(proc_says(&s->worker, "drain", 5000));
    proc_signal(&s->worker, SIGTERM);
    assert_int_not_equal(proc_wait(&s->worker, within_ms), PROC_RUNNING);
    assert_in_range(clock_ms() - start, 0, within_ms);
}

static void a_second_sigterm_gives_all_back(void **state)
{
    struct e2b_stage *s = *state;

    e2b_stage_push(s, "a", 4, "\"max_attempts\":1," SLEEPS("60"));
    assert_true(double_wait_alive(&s->e2b, 4, 10000));
    stop_now(s, 15000);
    assert_true(double_settled(&s->e2b, 100)); /* all before it ended */
    assert_int_equal(
        rig_number(&s->rig, "LLEN", "{capibox}:queue:default", NULL), 4);
    double_close(&s->e2b);
}

static void also_while_create_goes_silent(void **state)
{
    struct e2b_stage *s = *state;

    double_fault(&s->e2b,
                 "\"route\":\"create\",\"kind\":\"stall\",\"count\":4");
    e2b_stage_push(s, "a", 4, "\"max_attempts\":1," SLEEPS("60"));
    while (double_number(&s->e2b, "requests.create") < 4)
        usleep(20000);
    stop_now(s, 15000);
    assert_int_equal(
        rig_number(&s->rig, "LLEN", "{capibox}:queue:default", NULL), 4);
    double_close(&s->e2b);
}

/* Whatever cannot be killed is left to its time to live: the stop is not held
 * up. */
static void also_while_delete_goes_silent(void **state)
{
    struct e2b_stage *s = *state;

    double_fault(&s->e2b,
                 "\"route\":\"delete\",\"kind\":\"stall\",\"count\":1000");
    double_fault(&s->e2b,
                 "\"route\":\"list\",\"kind\":\"stall\",\"count\":1000");
    e2b_stage_push(s, "a", 2, "\"max_attempts\":1," SLEEPS("60"));
    assert_true(double_wait_alive(&s->e2b, 2, 10000));
    stop_now(s, 15000);
    double_clear(&s->e2b);
    double_end(&s->e2b);
}

/* It is its DELETE that is under way when the worker is to stop at once. */
static void also_of_a_job_that_has_ended(void **state)
{
    struct e2b_stage *s = *state;

    double_fault(&s->e2b,
                 "\"route\":\"delete\",\"kind\":\"stall\",\"count\":1000");
    e2b_stage_push(s, "a", 1, "\"max_attempts\":1,\"code\":\"1\"");
    while (double_number(&s->e2b, "requests.delete") < 1)
        usleep(20000);
    stop_now(s, 20000);
    double_end(&s->e2b);
}

static void wait_for_deletes(struct e2b_stage *s, int count)
{
    while (double_number(&s->e2b, "requests.delete") < count)
        usleep(5000);
}

/* A worker that ends does not wait for its turn: it tries at once, and again.
 */
static void what_waits_to_be_killed_is_killed_at_the_end(void **state)
{
    struct e2b_stage *s = *state;

    double_fault(&s->e2b, "\"route\":\"delete\",\"kind\":\"503\",\"count\":4");
    e2b_stage_push(s, "a", 1, SLEEPS("30"));
    assert_true(rig_wait_job(&s->rig, "a0", "status", "running"));
    assert_true(double_wait_alive(&s->e2b, 1, 10000));
    rig_number(&s->rig, "ZADD", "{capibox}:cx", "0", "a0", NULL);
    rig_number(&s->rig, "PUBLISH", "{capibox}:control", "a0", NULL);
    wait_for_deletes(s, 3); /* the next one would be in two seconds */
    assert_int_equal(stage_end_worker(&s->worker), 0);
    assert_true(double_settled(&s->e2b, 100));
    assert_int_equal(double_number(&s->e2b, "requests.delete"), 5);
    double_close(&s->e2b);
}

/* A list that hangs takes nothing of the last moments. */
static void also_while_it_looks_around(void **state)
{
    struct e2b_stage *s = *state;
    int lists;

    while ((lists = (int)double_number(&s->e2b, "requests.list")) < 1)
        usleep(5000);
    double_fault(&s->e2b, "\"route\":\"list\",\"kind\":\"stall\"");
    double_fault(&s->e2b, "\"route\":\"create\",\"kind\":\"answer_lost\"");
    e2b_stage_push(s, "a", 1, "\"code\":\"1\"");
    e2b_stage_expect_all(s, "a", 1, "ok", 10000);
    while (double_number(&s->e2b, "requests.list") <= lists)
        usleep(5000);
    assert_int_equal(double_alive(&s->e2b), 1);
    assert_int_equal(stage_end_worker(&s->worker), 0);
    assert_true(double_settled(&s->e2b, 100));
    double_close(&s->e2b);
}

/* And never sooner than it asks for. */
static void what_is_left_to_e2b_is_told(void **state)
{
    struct e2b_stage *s = *state;

    double_fault(&s->e2b,
                 "\"route\":\"delete\",\"kind\":\"429b\",\"count\":1000,"
                 "\"headers\":{\"Retry-After\":\"60\"}");
    e2b_stage_push(s, "a", 2, "\"code\":\"1\"");
    e2b_stage_expect_all(s, "a", 2, "ok", 10000);
    proc_signal(&s->worker, SIGTERM);
    assert_true(proc_says(&s->worker, "sandboxes are left behind", 5000));
    assert_true(proc_says(&s->worker, "sandboxes=2 ", 5000));
    assert_true(proc_says(&s->worker, "at_latest=20", 5000));
    assert_int_equal(stage_end_worker(&s->worker), 0);
    assert_int_equal(double_number(&s->e2b, "requests.delete"), 2);
    double_end(&s->e2b);
}

#define STAGED(test) \
    cmocka_unit_test_setup_teardown(test, e2b_stage_open, e2b_stage_close)
#define EMPTY(test) \
    cmocka_unit_test_setup_teardown(test, e2b_stage_open_empty, e2b_stage_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EMPTY(sandboxes_of_a_killed_worker_are_killed),
        EMPTY(leftovers_are_found_at_the_start),
        STAGED(a_living_workers_sandboxes_are_left_alone),
        STAGED(a_second_sigterm_gives_all_back),
        STAGED(also_while_create_goes_silent),
        STAGED(also_while_delete_goes_silent),
        STAGED(also_of_a_job_that_has_ended),
        STAGED(what_waits_to_be_killed_is_killed_at_the_end),
        STAGED(also_while_it_looks_around),
        STAGED(what_is_left_to_e2b_is_told),
    };

    return cmocka_run_group_tests_name("e2b deaths", tests, NULL, NULL);
}
