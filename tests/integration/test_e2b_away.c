/* When E2B is away or full: no job is lost, no attempt is used up, no sandbox
 * stays. Against the double of E2B. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/scope.h"
#include "tests/support/cmocka_all.h"
#include "tests/support/e2b_stage.h"
#include "worker/e2b/control.h"

#define AWAY_MS 10000
/* A pause of the breaker that began just before, and jobs put off for half as
 * much again. */
#define BACK_MS 45000
#define SLEEPS(seconds) \
    "\"code\":\"import time\\nprint(1)\\ntime.sleep(" seconds ")\""

static void tell(struct e2b_stage *s, const char *command)
{
    cJSON_Delete(double_ask(&s->e2b, command));
}

/* ---- E2B is away --------------------------------------------------------- */

/* All end well at their first attempt, soon after it is back. */
static void jobs_wait_for_it(struct e2b_stage *s, const char *prefix)
{
    e2b_stage_expect_all(s, prefix, 20, "ok", BACK_MS);
    assert_int_equal(rig_stat(&s->rig, "dead"), 0);
    assert_int_equal(rig_stat(&s->rig, "retries"), 0);
}

static void jobs_wait_while_it_is_away(void **state)
{
    struct e2b_stage *s = *state;
    int64_t creates;

    tell(s, "{\"cmd\":\"outage\",\"how\":\"refuse\"}");
    e2b_stage_push(s, "a", 20, "\"max_attempts\":1,\"code\":\"print(1)\"");
    usleep(AWAY_MS * 1000);
    assert_int_equal(rig_stat(&s->rig, "verdict:ok"), 0);
    tell(s, "{\"cmd\":\"outage\",\"how\":\"none\"}");
    jobs_wait_for_it(s, "a");
    creates = (int64_t)double_number(&s->e2b, "requests.create");
    assert_in_range(creates, 20, 30);
    e2b_stage_end_well(s);
}

/* The worker's look at whose sandboxes there are hangs; no job waits for that.
 */
static void a_look_around_that_hangs_holds_no_job_up(void **state)
{
    struct e2b_stage *s = *state;

    double_fault(&s->e2b,
                 "\"route\":\"list\",\"kind\":\"stall\",\"count\":100");
    double_fault(&s->e2b,
                 "\"route\":\"create\",\"kind\":\"502-html\",\"count\":7");
    e2b_stage_worker(s, &s->worker, NULL);
    e2b_stage_push(s, "a", 5, "\"max_attempts\":1,\"code\":\"print(1)\"");
    e2b_stage_expect_all(s, "a", 5, "ok", 15000);
    double_clear(&s->e2b);
    e2b_stage_end_well(s);
}

/* What is known by its name is killed before one looks for what is not: each
 * such look hangs for as long as a call may take, and there are many of them.
 */
static void a_look_around_that_hangs_holds_no_kill_up(void **state)
{
    struct e2b_stage *s = *state;

    double_fault(&s->e2b,
                 "\"route\":\"list\",\"kind\":\"stall\",\"count\":100");
    double_fault(&s->e2b,
                 "\"route\":\"create\",\"kind\":\"502-html\",\"count\":4");
    double_fault(&s->e2b, "\"route\":\"delete\",\"kind\":\"503\",\"count\":6");
    e2b_stage_worker(s, &s->worker, NULL);
    e2b_stage_push(s, "a", 2, "\"max_attempts\":1,\"code\":\"print(1)\"");
    e2b_stage_expect_all(s, "a", 2, "ok", 20000);
    assert_true(double_settled(&s->e2b, CONTROL_CALL_MS + 5000));
    double_clear(&s->e2b);
    e2b_stage_end_well(s);
}

/* Neither a call that hangs nor a wait for others is sat out. */
static void a_job_that_waits_for_its_sandbox_can_be_cancelled(void **state)
{
    static const char *const faults[] = {
        "\"route\":\"create\",\"kind\":\"stall\",\"count\":100",
        "\"route\":\"create\",\"kind\":\"429a\",\"count\":100",
    };
    static const char *const ids[] = {"a0", "b0"};
    struct e2b_stage *s = *state;

    e2b_stage_push(s, "other", 1, "\"max_attempts\":1," SLEEPS("8"));
    assert_true(double_wait_alive(&s->e2b, 1, 10000));
    for (int i = 0; i < 2; i++) {
        double_fault(&s->e2b, faults[i]);
        e2b_stage_push(s, (char[]){ids[i][0], '\0'}, 1, "\"code\":\"1\"");
        assert_true(rig_wait_job(&s->rig, ids[i], "status", "running"));
        rig_number(&s->rig, "ZADD", "{capibox}:cx", "0", ids[i], NULL);
        rig_number(&s->rig, "PUBLISH", "{capibox}:control", ids[i], NULL);
        e2b_stage_expect_all(s, (char[]){ids[i][0], '\0'}, 1, "cancelled",
                             3000);
        double_clear(&s->e2b);
    }
    e2b_stage_expect_all(s, "other", 1, "ok", 15000);
    e2b_stage_end_well(s);
}

/* Its load balancer answers, nobody else does; alone on the worker. */
static void a_lone_job_waits_behind_a_load_balancer(void **state)
{
    struct e2b_stage *s = *state;
    int asked;

    double_fault(&s->e2b, "\"route\":\"create\",\"kind\":\"502-html\","
                          "\"count\":1000000");
    e2b_stage_push(s, "a", 1, "\"max_attempts\":1,\"code\":\"print(1)\"");
    assert_true(rig_wait_stat(&s->rig, "delayed", 2));
    asked = (int)double_number(&s->e2b, "requests.create");
    assert_in_range(asked, 3, 8); /* and then less and less */
    double_clear(&s->e2b);
    e2b_stage_expect_all(s, "a", 1, "ok", 15000);
    e2b_stage_end_well(s);
}

static bool executes_one(void *ctx)
{
    struct e2b_stage *s = ctx;

    return double_number(&s->e2b, "requests.execute") == 1;
}

static bool only_one_is_held(void *ctx)
{
    struct e2b_stage *s = ctx;

    return rig_number(&s->rig, "EVAL",
                      "return redis.call('LLEN', KEYS[1]) + "
                      "redis.call('ZCARD', KEYS[2])",
                      "2", "{capibox}:queue:default", "{capibox}:delayed",
                      NULL) == 5;
}

/* What runs meanwhile says nothing of E2B, and does not have to end first. */
static void a_running_job_keeps_nobody_from_trying_again(void **state)
{
    struct e2b_stage *s = *state;

    e2b_stage_push(s, "long", 1, "\"max_attempts\":1," SLEEPS("100"));
    assert_true(wait_until(executes_one, s, RIG_WAIT_MS));
    double_fault(&s->e2b, "\"route\":\"create\",\"kind\":\"502-html\","
                          "\"count\":1000000");
    e2b_stage_push(s, "a", 5, "\"max_attempts\":1,\"code\":\"print(1)\"");
    assert_true(rig_wait_stat(&s->rig, "delayed", 5));
    assert_true(wait_until(only_one_is_held, s, RIG_WAIT_MS));
    double_clear(&s->e2b);
    e2b_stage_expect_all(s, "a", 5, "ok", 15000);
    assert_string_equal(rig_job(&s->rig, "long0", "status"), "running");
    rig_number(&s->rig, "ZADD", "{capibox}:cx", "0", "long0", NULL);
    rig_number(&s->rig, "PUBLISH", "{capibox}:control", "long0", NULL);
    e2b_stage_expect_all(s, "long", 1, "cancelled", 5000);
    e2b_stage_end_well(s);
}

/* The first that goes after a pause tells whether E2B is back, whatever comes
 * of it for the job itself. */
static void a_job_refused_its_own_template_holds_nobody_up(void **state)
{
    struct e2b_stage *s = *state;

    double_fault(&s->e2b, "\"route\":\"create\",\"kind\":\"502-html\","
                          "\"count\":1000000");
    e2b_stage_push(s, "a", 2, "\"max_attempts\":1,\"code\":\"print(1)\"");
    assert_true(rig_wait_stat(&s->rig, "delayed", 2));
    double_clear(&s->e2b);
    double_fault(&s->e2b, "\"route\":\"create\",\"kind\":\"403\",\"count\":1");
    e2b_stage_push(s, "own", 1,
                   "\"requirements\":{\"template_name\":\"not-ours\"},"
                   "\"code\":\"print(1)\"");
    e2b_stage_expect_all(s, "own", 1, "rejected", 15000);
    e2b_stage_expect_all(s, "a", 2, "ok", 15000);
    e2b_stage_end_well(s);
}

static void jobs_wait_while_sandboxes_cannot_be_reached(void **state)
{
    struct e2b_stage *s = *state;

    double_fault(&s->e2b, "\"route\":\"execute\",\"kind\":\"502-html\","
                          "\"count\":1000000");
    double_fault(&s->e2b, "\"route\":\"files_post\",\"kind\":\"503-plain\","
                          "\"count\":1000000");
    e2b_stage_push(s, "a", 10, "\"code\":\"print(1)\"");
    e2b_stage_push(s, "f", 10,
                   "\"files\":[{\"path\":\"x\",\"content\":\"aGkK\"}],"
                   "\"code\":\"print(1)\"");
    assert_true(rig_wait_stat(&s->rig, "delayed", 15));
    /* What was made meanwhile is not kept, and not made on and on. */
    assert_in_range((int64_t)double_number(&s->e2b, "creates"), 3, 45);
    double_clear(&s->e2b);
    assert_true(rig_wait_stat(&s->rig, "verdict:ok", 20));
    assert_int_equal(rig_stat(&s->rig, "dead"), 0);
    /* Also those of put-off jobs stand in the books. */
    assert_true(double_settled(&s->e2b, 10000));
    assert_true(rig_settled(&s->rig));
    assert_int_equal(rig_stat(&s->rig, "sandbox_created"),
                     (int64_t)double_number(&s->e2b, "creates"));
    e2b_stage_end_well(s);
}

/* Its sandboxes are nobody else's news, however many of them do not answer. */
static void a_template_of_ones_own_that_is_broken_stops_no_others(void **state)
{
    struct e2b_stage *s = *state;

    double_fault(&s->e2b, "\"route\":\"execute\",\"kind\":\"502-html\","
                          "\"count\":1000000");
    e2b_stage_push(s, "own", 6,
                   "\"max_attempts\":1,\"requirements\":{\"template_name\":"
                   "\"code-interpreter-v1\"},\"code\":\"1\"");
    e2b_stage_expect_all(s, "own", 6, "backend_error", 10000);
    double_clear(&s->e2b);
    e2b_stage_push(s, "a", 3, "\"max_attempts\":1,\"code\":\"1\"");
    e2b_stage_expect_all(s, "a", 3, "ok", RIG_WAIT_MS);
    assert_int_equal(rig_stat(&s->rig, "delayed"), 0);
    e2b_stage_end_well(s);
}

/* They are paid for. */
static void one_job_makes_no_sandboxes_without_end(void **state)
{
    struct e2b_stage *s = *state;
    cJSON *r;

    double_fault(&s->e2b,
                 "\"route\":\"execute\",\"kind\":\"401\",\"count\":1000000");
    e2b_stage_push(s, "a", 1, "\"max_attempts\":3,\"code\":\"1\"");
    r = stage_result_within(&s->rig, "a0", 10000);
    stage_expect(r, "verdict", "backend_error");
    assert_int_equal(stage_number(r, "attempt"), 3);
    cJSON_Delete(r);
    assert_int_equal(double_number(&s->e2b, "creates"), 3);
    e2b_stage_end_well(s);
}

static void a_refused_key_keeps_jobs_for_the_operator(void **state)
{
    struct e2b_stage *s = *state;

    double_fault(&s->e2b,
                 "\"route\":\"create\",\"kind\":\"401\",\"count\":1000000");
    e2b_stage_push(s, "a", 5, "\"max_attempts\":1,\"code\":\"1\"");
    assert_true(rig_wait_stat(&s->rig, "delayed", 5));
    assert_in_range((int64_t)double_number(&s->e2b, "requests.create"), 1, 8);
    double_clear(&s->e2b);
    e2b_stage_expect_all(s, "a", 5, "ok", 15000);
    e2b_stage_end_well(s);
}

static void no_name_or_a_wrong_certificate_is_away_too(void **state)
{
    static const char *const bad[] = {"--bad-cert", "expired", NULL};
    struct e2b_stage *s = *state;
    struct e2b_double liar;
    struct proc other = {.pid = 0};
    const char *const nowhere[] = {
        "CAPIBOX_BACKEND=e2b",  "E2B_DOMAIN=no.such.host.invalid",
        "E2B_API_KEY=e2b_0123", "CAPIBOX_QUEUES=nowhere",
        E2B_STAGE_TEMPLATES,    NULL};

    double_open(&liar, bad);
    const char *const lied_to[] = {
        liar.env[0],           liar.env[1],         liar.env[2], liar.env[3],
        "CAPIBOX_QUEUES=liar", E2B_STAGE_TEMPLATES, NULL};

    stage_worker(&s->rig, &s->worker, nowhere);
    stage_worker(&s->rig, &other, lied_to);
    rig_push(&s->rig, "nowhere",
             "{\"id\":\"n\",\"max_attempts\":1,\"code\":\"1\"}");
    rig_push(&s->rig, "liar",
             "{\"id\":\"l\",\"max_attempts\":1,\"code\":\"1\"}");
    assert_true(rig_wait_stat(&s->rig, "delayed", 2));
    assert_true(proc_says(&s->worker, "not known (DNS)", 5000));
    assert_true(proc_says(&other, "no TLS", 5000));
    assert_int_equal(rig_stat(&s->rig, "dead"), 0);
    assert_int_equal(double_number(&liar, "requests.create"), 0);
    proc_stop(&other);
    double_end(&liar);
}

/* ---- the account is full ------------------------------------------------- */

static void a_full_account_is_waited_for(void **state)
{
    struct e2b_stage *s = *state;
    int asked;

    tell(s, "{\"cmd\":\"max_sandboxes\",\"n\":3}");
    e2b_stage_push(s, "a", 15, "\"max_attempts\":1," SLEEPS("0.3"));
    e2b_stage_expect_all(s, "a", 15, "ok", 40000);
    assert_int_equal(double_number(&s->e2b, "max_alive"), 3);
    asked = (int)double_number(&s->e2b, "requests.create");
    /* 15 find it full at once; each that ends lets one ask again. */
    assert_in_range(asked, 15, 50);
    assert_int_equal(rig_stat(&s->rig, "retries"), 0);
    e2b_stage_end_well(s);
}

#define ASKS_FOR_2_S(status, rest)                                             \
    "\"route\":\"create\",\"kind\":\"status\",\"status\":" status              \
    ",\"headers\":{\"Retry-After\":\"2\"},\"json\":{\"code\":" status "," rest \
    "}"

static bool was_asked(void *ctx)
{
    struct e2b_stage *s = ctx;

    return double_number(&s->e2b, "requests.create") == 1;
}

static void a_pause_is_kept_by_all(struct e2b_stage *s, const char *fault)
{
    int64_t start = clock_ms();

    double_fault(&s->e2b, fault);
    e2b_stage_push(s, "a", 1, "\"max_attempts\":1,\"code\":\"1\"");
    assert_true(wait_until(was_asked, s, RIG_WAIT_MS));
    usleep(300000); /* for the answer, which nobody else sees arrive */
    e2b_stage_push(s, "b", 5, "\"max_attempts\":1,\"code\":\"1\"");
    for (;;) {
        double asked = double_number(&s->e2b, "requests.create");

        if (clock_ms() - start >= 1900) /* else it was asked before that */
            break;
        assert_int_equal(asked, 1);
        usleep(100000);
    }
    e2b_stage_expect_all(s, "a", 1, "ok", 15000);
    e2b_stage_expect_all(s, "b", 5, "ok", 15000);
    e2b_stage_end_well(s);
}

static void a_rate_limit_is_obeyed_by_all(void **state)
{
    a_pause_is_kept_by_all(
        *state, ASKS_FOR_2_S("429", "\"message\":\"Rate limit exceeded\""));
}

static void one_that_is_busy_is_obeyed_by_all(void **state)
{
    a_pause_is_kept_by_all(
        *state,
        ASKS_FOR_2_S("503", "\"message\":\"no capacity\",\"error_code\":"
                            "\"sandbox_capacity_unavailable\""));
}

/* ---- one template fits nowhere --------------------------------------------
 */

static void cancel(struct e2b_stage *s, const char *id)
{
    struct cancel got;

    assert_int_equal(protocol_cancel(&s->rig.protocol, s->rig.redis,
                                     clock_ms() + RIG_WAIT_MS, id, NULL, 0,
                                     &got),
                     0);
    assert_true(rig_wait_job(&s->rig, id, "status", "cancelled"));
}

/* It will not heal soon (protocol section 1.4), and is nobody else's trouble.
 */
static void a_template_without_a_node_waits_alone(void **state)
{
    struct e2b_stage *s = *state;
    char id[8];

    double_fault(&s->e2b, "\"route\":\"create\",\"kind\":\"503-node\","
                          "\"count\":99");
    e2b_stage_push(s, "n", 3, "\"max_attempts\":1,\"code\":\"1\"");
    for (int i = 0; i < 3; i++) {
        snprintf(id, sizeof(id), "n%d", i);
        assert_true(rig_wait_job(&s->rig, id, "status", "delayed"));
    }
    assert_int_equal(double_number(&s->e2b, "requests.create"), 3);
    double_clear(&s->e2b);
    e2b_stage_push(s, "good", 4, "\"max_attempts\":1,\"code\":\"1\"");
    e2b_stage_expect_all(s, "good", 4, "ok", RIG_WAIT_MS);
    assert_int_equal(rig_stat(&s->rig, "delayed"), 3); /* no good one */
    assert_int_equal(double_number(&s->e2b, "requests.create"), 3 + 4);
    for (int i = 0; i < 3; i++) {
        snprintf(id, sizeof(id), "n%d", i);
        cancel(s, id);
    }
    e2b_stage_end_well(s);
}

#define STAGED(test) \
    cmocka_unit_test_setup_teardown(test, e2b_stage_open, e2b_stage_close)
#define EMPTY(test) \
    cmocka_unit_test_setup_teardown(test, e2b_stage_open_empty, e2b_stage_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STAGED(jobs_wait_while_it_is_away),
        EMPTY(a_look_around_that_hangs_holds_no_job_up),
        EMPTY(a_look_around_that_hangs_holds_no_kill_up),
        STAGED(a_job_that_waits_for_its_sandbox_can_be_cancelled),
        STAGED(a_lone_job_waits_behind_a_load_balancer),
        STAGED(a_running_job_keeps_nobody_from_trying_again),
        STAGED(a_job_refused_its_own_template_holds_nobody_up),
        STAGED(jobs_wait_while_sandboxes_cannot_be_reached),
        STAGED(a_template_of_ones_own_that_is_broken_stops_no_others),
        STAGED(one_job_makes_no_sandboxes_without_end),
        STAGED(a_refused_key_keeps_jobs_for_the_operator),
        EMPTY(no_name_or_a_wrong_certificate_is_away_too),
        STAGED(a_full_account_is_waited_for),
        STAGED(a_rate_limit_is_obeyed_by_all),
        STAGED(one_that_is_busy_is_obeyed_by_all),
        STAGED(a_template_without_a_node_waits_alone),
    };

    return cmocka_run_group_tests_name("e2b away", tests, NULL, NULL);
}
