#include "worker/cancel.h"

#include <string.h>

#include "tests/support/cmocka_all.h"
#include "worker/backend.h"

static struct sandbox *interrupted;
static int interrupts;

static void note(struct sandbox *sandbox, enum verdict why)
{
    assert_int_equal(why, VERDICT_CANCELLED);
    interrupted = sandbox;
    interrupts++;
}

static const struct job *not_made;
static int creates_interrupted;

static void note_create(struct backend *backend, const struct job *job)
{
    assert_null(backend);
    not_made = job;
    creates_interrupted++;
}

static const struct backend_ops ops = {.interrupt = note,
                                       .interrupt_create = note_create};
static struct cancels cancels;
/* Never looked into. */
static struct sandbox *const SANDBOX = (struct sandbox *)&interrupts;

static int setup(void **state)
{
    (void)state;
    interrupts = creates_interrupted = 0;
    interrupted = NULL;
    return cancels_init(&cancels, &ops, NULL);
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

/* Each who tells of it may be the first to find that it has begun. */
static void a_create_is_interrupted_as_often_as_it_is_told(void **state)
{
    struct cancellable c = {.job_id = NULL};
    const struct job *job = (const struct job *)&interrupts;

    (void)state;
    cancels_add(&cancels, &c, "j");
    assert_true(cancels_make(&cancels, &c, job));
    assert_true(cancels_notice(&cancels, "j"));
    assert_true(cancels_notice(&cancels, "j"));
    assert_int_equal(creates_interrupted, 2);
    assert_ptr_equal(not_made, job);
    cancels_run_over(&cancels, &c);
    assert_true(cancels_notice(&cancels, "j"));
    assert_false(cancels_make(&cancels, &c, job));
    assert_false(cancels_run(&cancels, &c, SANDBOX));
    assert_true(cancels_notice(&cancels, "j"));
    assert_int_equal(creates_interrupted, 2);
    assert_int_equal(interrupts, 0);
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
        TEST(a_create_is_interrupted_as_often_as_it_is_told),
        TEST(what_was_cancelled_before_is_not_run),
        TEST(a_sandbox_that_is_over_is_left_alone),
        TEST(all_of_an_id_hear_and_no_others),
        TEST(the_removed_are_not_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
