#include "worker/cancel.h"

#include <string.h>

#include "tests/support/cmocka_all.h"
#include "worker/backend.h"

static struct sandbox *interrupted;
static int interrupts, interrupted_creates;

static void note(struct sandbox *sandbox, enum verdict why)
{
    assert_int_equal(why, VERDICT_CANCELLED);
    interrupted = sandbox;
    interrupts++;
}

/* Never looked into. */
static struct sandbox *const SANDBOX = (struct sandbox *)&interrupts;
static struct backend *const BACKEND = (struct backend *)&interrupted;
static struct job *const JOB = (struct job *)&interrupts;

static void note_create(struct backend *backend, const struct job *job)
{
    assert_ptr_equal(backend, BACKEND);
    assert_ptr_equal(job, JOB);
    interrupted_creates++;
}

static const struct backend_ops ops = {.interrupt = note,
                                       .interrupt_create = note_create};
static struct cancels cancels;

static int setup(void **state)
{
    (void)state;
    interrupts = interrupted_creates = 0;
    interrupted = NULL;
    return cancels_init(&cancels, &ops, BACKEND);
}

static int teardown(void **state)
{
    (void)state;
    cancels_fini(&cancels);
    return 0;
}

static void a_run_is_interrupted_once(void **state)
{
    struct cancellable c = {.job_id = NULL};

    (void)state;
    cancels_add(&cancels, &c, "j");
    assert_true(cancels_run(&cancels, &c, SANDBOX));
    assert_true(cancels_notice(&cancels, "j"));
    assert_true(cancels_notice(&cancels, "j"));
    cancels_mark(&cancels, &c);
    assert_int_equal(interrupts, 1);
    assert_ptr_equal(interrupted, SANDBOX);
}

static void what_was_cancelled_before_is_not_run(void **state)
{
    struct cancellable c = {.job_id = NULL};

    (void)state;
    cancels_add(&cancels, &c, "j");
    assert_true(cancels_notice(&cancels, "j"));
    assert_false(cancels_run(&cancels, &c, SANDBOX));
    assert_int_equal(interrupts, 0);
}

static void a_create_is_interrupted_once_while_it_lasts(void **state)
{
    struct cancellable c[3] = {{.job_id = NULL}};

    (void)state;
    cancels_add(&cancels, &c[0], "j");
    assert_true(cancels_create(&cancels, &c[0], JOB));
    cancels_mark(&cancels, &c[0]);
    cancels_mark(&cancels, &c[0]);
    assert_int_equal(interrupted_creates, 1);
    cancels_create_over(&cancels, &c[0]);
    assert_false(cancels_run(&cancels, &c[0], SANDBOX));

    cancels_add(&cancels, &c[1], "k");
    assert_true(cancels_create(&cancels, &c[1], JOB));
    cancels_create_over(&cancels, &c[1]);
    cancels_mark(&cancels, &c[1]);
    assert_false(cancels_create(&cancels, &c[1], JOB));
    assert_int_equal(interrupted_creates, 1);
    assert_int_equal(interrupts, 0);
}

static void a_sandbox_that_is_over_is_left_alone(void **state)
{
    struct cancellable c = {.job_id = NULL};

    (void)state;
    cancels_add(&cancels, &c, "j");
    assert_true(cancels_run(&cancels, &c, SANDBOX));
    cancels_run_over(&cancels, &c);
    assert_true(cancels_notice(&cancels, "j"));
    assert_int_equal(interrupts, 0);
    assert_true(atomic_load(&c.cancelled));
}

static void all_of_an_id_hear_and_no_others(void **state)
{
    struct cancellable c[3] = {{.job_id = NULL}};

    (void)state;
    cancels_add(&cancels, &c[0], "j");
    cancels_add(&cancels, &c[1], "k");
    cancels_add(&cancels, &c[2], "j");
    assert_true(cancels_notice(&cancels, "j"));
    assert_true(atomic_load(&c[0].cancelled));
    assert_false(atomic_load(&c[1].cancelled));
    assert_true(atomic_load(&c[2].cancelled));
}

static void the_removed_are_not_found(void **state)
{
    struct cancellable c[3] = {{.job_id = NULL}};

    (void)state;
    for (int i = 0; i < 3; i++)
        cancels_add(&cancels, &c[i], "j");
    cancels_add(&cancels, &c[1], "j"); /* a resend */
    cancels_remove(&cancels, &c[1]);
    cancels_remove(&cancels, &c[1]);
    assert_true(cancels_notice(&cancels, "j"));
    assert_false(atomic_load(&c[1].cancelled));
    cancels_remove(&cancels, &c[2]);
    cancels_remove(&cancels, &c[0]);
    assert_false(cancels_notice(&cancels, "j"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_run_is_interrupted_once),
        TEST(what_was_cancelled_before_is_not_run),
        TEST(a_create_is_interrupted_once_while_it_lasts),
        TEST(a_sandbox_that_is_over_is_left_alone),
        TEST(all_of_an_id_hear_and_no_others),
        TEST(the_removed_are_not_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
