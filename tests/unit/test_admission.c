#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "common/must.h"
#include "tests/support/cmocka_all.h"
#include "worker/admission.h"

struct visitor {
    struct admission *admission;
    int64_t bytes;
    _Atomic bool entered;
    _Atomic bool asked; /* give_up was asked: it waits */
    _Atomic bool give_up;
    int rc;
};

static bool give_up(void *ctx)
{
    struct visitor *v = ctx;

    atomic_store(&v->asked, true);
    return atomic_load(&v->give_up);
}

static void *visit(void *arg)
{
    struct visitor *v = arg;

    v->rc = admission_enter(v->admission, v->bytes, give_up, v);
    atomic_store(&v->entered, true);
    return NULL;
}

static void start_waiting(struct visitor *v, pthread_t *thread)
{
    MUST0(pthread_create(thread, NULL, visit, v));
    while (!atomic_load(&v->asked))
        sched_yield();
}

static int setup(void **state)
{
    static struct admission a;

    *state = &a;
    return admission_init(&a, 100);
}

static int teardown(void **state)
{
    admission_fini(*state);
    return 0;
}

static void a_job_waits_until_its_memory_is_free(void **state)
{
    struct visitor v = {.admission = *state, .bytes = 60};
    pthread_t thread;

    assert_int_equal(admission_enter(*state, 50, NULL, NULL), 0);
    start_waiting(&v, &thread);
    assert_false(atomic_load(&v.entered));
    assert_int_equal(admission_taken(*state), 50);
    admission_leave(*state, 50);
    MUST0(pthread_join(thread, NULL));
    assert_int_equal(v.rc, 0);
    assert_int_equal(admission_taken(*state), 60);
    admission_leave(*state, 60);
}

static void a_job_larger_than_the_budget_runs_alone(void **state)
{
    struct visitor v = {.admission = *state, .bytes = 1};
    pthread_t thread;

    assert_int_equal(admission_enter(*state, 500, NULL, NULL), 0);
    start_waiting(&v, &thread);
    assert_int_equal(admission_taken(*state), 500);
    admission_leave(*state, 500);
    MUST0(pthread_join(thread, NULL));
    admission_leave(*state, 1);
    assert_int_equal(admission_taken(*state), 0);
}

static void who_gives_up_takes_nothing_and_blocks_nobody(void **state)
{
    struct visitor v = {.admission = *state, .bytes = 60};
    pthread_t thread;

    assert_int_equal(admission_enter(*state, 50, NULL, NULL), 0);
    start_waiting(&v, &thread);
    atomic_store(&v.give_up, true);
    admission_poke(*state);
    MUST0(pthread_join(thread, NULL));
    assert_int_equal(v.rc, -ECANCELED);
    assert_int_equal(admission_enter(*state, 50, NULL, NULL), 0);
    assert_int_equal(admission_taken(*state), 100);
}

static void who_gives_up_need_not_wait_for_those_before(void **state)
{
    struct visitor first = {.admission = *state, .bytes = 60};
    struct visitor second = {.admission = *state, .bytes = 60};
    pthread_t threads[2];

    assert_int_equal(admission_enter(*state, 50, NULL, NULL), 0);
    start_waiting(&first, &threads[0]);
    start_waiting(&second, &threads[1]);
    atomic_store(&second.give_up, true);
    admission_poke(*state);
    MUST0(pthread_join(threads[1], NULL));
    assert_int_equal(second.rc, -ECANCELED);
    assert_false(atomic_load(&first.entered));
    admission_leave(*state, 50);
    MUST0(pthread_join(threads[0], NULL));
    assert_int_equal(first.rc, 0);
    admission_leave(*state, 60);
}

static void closing_ends_every_wait(void **state)
{
    struct visitor v = {.admission = *state, .bytes = 60};
    pthread_t thread;

    assert_int_equal(admission_enter(*state, 50, NULL, NULL), 0);
    start_waiting(&v, &thread);
    admission_close(*state);
    MUST0(pthread_join(thread, NULL));
    assert_int_equal(v.rc, -ECANCELED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_job_waits_until_its_memory_is_free,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_job_larger_than_the_budget_runs_alone,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            who_gives_up_takes_nothing_and_blocks_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(
            who_gives_up_need_not_wait_for_those_before, setup, teardown),
        cmocka_unit_test_setup_teardown(closing_ends_every_wait, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
