#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/must.h"
#include "tests/support/cmocka_all.h"
#include "worker/delivery.h"
#include "worker/runqueue.h"

static struct delivery *a_delivery(enum delivery_stage stage)
{
    struct delivery *d = calloc(1, sizeof(*d));

    assert_non_null(d);
    d->stage = stage;
    return d;
}

static int setup(void **state)
{
    static struct runqueue rq;

    *state = &rq;
    return runqueue_init(&rq);
}

static int teardown(void **state)
{
    runqueue_fini(*state);
    return 0;
}

static void a_cleared_job_goes_before_older_ones(void **state)
{
    struct delivery *old = a_delivery(DELIVERY_CLAIMED);
    struct delivery *cleared = a_delivery(DELIVERY_CLEARED);

    runqueue_put(*state, old);
    runqueue_put(*state, cleared);
    assert_ptr_equal(runqueue_take(*state), cleared);
    assert_ptr_equal(runqueue_take(*state), old);
    free(old);
    free(cleared);
}

/* However long ago it was claimed: a suspect may have waited for its seat. */
static void drain_takes_all_once_one_has_waited_here_for_long(void **state)
{
    struct delivery *old = a_delivery(DELIVERY_CLAIMED);
    struct delivery *young = a_delivery(DELIVERY_CLEARED);
    int64_t before = clock_us(), between;

    runqueue_put(*state, old);
    while ((between = clock_us()) == old->queued_us)
        ;
    runqueue_put(*state, young);
    assert_null(runqueue_drain(*state, before));
    assert_ptr_equal(runqueue_drain(*state, between), young);
    assert_ptr_equal(young->next, old);
    assert_null(old->next);
    assert_null(runqueue_drain(*state, INT64_MAX));
    runqueue_put(*state, old); /* both lists are whole */
    runqueue_put(*state, young);
    assert_ptr_equal(runqueue_take(*state), young);
    assert_ptr_equal(runqueue_take(*state), old);
    free(old);
    free(young);
}

static void the_cancelled_leave_the_others_in_order(void **state)
{
    struct delivery *d[5];

    for (int i = 0; i < 5; i++) {
        d[i] = a_delivery(i < 4 ? DELIVERY_CLEARED : DELIVERY_CLAIMED);
        runqueue_put(*state, d[i]);
    }
    assert_null(runqueue_drain_cancelled(*state));
    atomic_store(&d[1]->cancel.cancelled, true);
    atomic_store(&d[3]->cancel.cancelled, true);
    assert_ptr_equal(runqueue_drain_cancelled(*state), d[1]);
    assert_ptr_equal(d[1]->next, d[3]);
    assert_null(d[3]->next);
    runqueue_put(*state, d[3]); /* the end of the list is known still */
    assert_ptr_equal(runqueue_take(*state), d[0]);
    assert_ptr_equal(runqueue_take(*state), d[2]);
    assert_ptr_equal(runqueue_take(*state), d[3]);
    assert_ptr_equal(runqueue_take(*state), d[4]);
    assert_null(runqueue_drain(*state, INT64_MAX));
    for (int i = 0; i < 5; i++)
        free(d[i]);
}

static void what_is_cleared_stays_when_the_fresh_are_drained(void **state)
{
    struct delivery *fresh = a_delivery(DELIVERY_CLAIMED);
    struct delivery *cleared = a_delivery(DELIVERY_CLEARED);

    runqueue_put(*state, fresh);
    runqueue_put(*state, cleared);
    assert_ptr_equal(runqueue_drain_fresh(*state), fresh);
    assert_null(fresh->next);
    assert_null(runqueue_drain_fresh(*state));
    assert_ptr_equal(runqueue_take(*state), cleared);
    free(fresh);
    free(cleared);
}

static void *take_once(void *arg)
{
    return runqueue_take(arg);
}

static void a_chain_wakes_as_many_takers_as_it_is_long(void **state)
{
    struct delivery *first = a_delivery(DELIVERY_CLAIMED);
    struct delivery *second = a_delivery(DELIVERY_CLAIMED);
    pthread_t takers[2];
    void *got[2];

    first->next = second;
    for (int i = 0; i < 2; i++)
        MUST0(pthread_create(&takers[i], NULL, take_once, *state));
    while (runqueue_idle(*state) < 2)
        sched_yield();
    runqueue_put_chain(*state, first);
    for (int i = 0; i < 2; i++)
        MUST0(pthread_join(takers[i], &got[i]));
    assert_true((got[0] == first && got[1] == second) ||
                (got[0] == second && got[1] == first));
    free(first);
    free(second);
}

static void close_wakes_takers_and_lets_them_finish_the_rest(void **state)
{
    struct delivery *left = a_delivery(DELIVERY_CLAIMED);
    pthread_t taker;
    void *got = left;

    MUST0(pthread_create(&taker, NULL, take_once, *state));
    while (runqueue_idle(*state) == 0)
        sched_yield(); /* closing before it sleeps would prove nothing */
    runqueue_close(*state);
    MUST0(pthread_join(taker, &got));
    assert_null(got);
    runqueue_put(*state, left);
    assert_ptr_equal(runqueue_take(*state), left);
    assert_null(runqueue_take(*state));
    free(left);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_cleared_job_goes_before_older_ones,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            drain_takes_all_once_one_has_waited_here_for_long, setup, teardown),
        cmocka_unit_test_setup_teardown(the_cancelled_leave_the_others_in_order,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            what_is_cleared_stays_when_the_fresh_are_drained, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_chain_wakes_as_many_takers_as_it_is_long, setup, teardown),
        cmocka_unit_test_setup_teardown(
            close_wakes_takers_and_lets_them_finish_the_rest, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
