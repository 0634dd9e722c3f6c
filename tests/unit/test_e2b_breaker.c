/* tests/unit/test_e2b_breaker.c -- when an endpoint is left alone, and how it
 * is tried again. The clock is the test's. */
#include "worker/e2b/breaker.h"

#include <string.h>

#include "tests/support/cmocka_all.h"

static void fail_times(struct breaker *b, int times, int64_t now)
{
    for (int i = 0; i < times; i++)
        breaker_bad(b, now, 0, "no connection");
}

static void opened(struct breaker *b, int64_t now)
{
    *b = (struct breaker){.state = BREAKER_CLOSED};
    fail_times(b, BREAKER_FAILURES, now);
    assert_int_equal(b->state, BREAKER_OPEN);
}

static void failures_in_a_row_open_it(void **state)
{
    struct breaker b = {.state = BREAKER_CLOSED};

    (void)state;
    fail_times(&b, BREAKER_FAILURES - 1, 0);
    assert_true(breaker_admits(&b, 0));
    breaker_good(&b);
    fail_times(&b, BREAKER_FAILURES - 1, 0);
    assert_string_equal(breaker_name(b.state), "closed");
    fail_times(&b, 1, 0);
    assert_string_equal(breaker_name(b.state), "open");
    assert_string_equal(b.why, "no connection");
    assert_false(breaker_admits(&b, 0));
}

static void after_its_pause_one_call_goes_through(void **state)
{
    struct breaker b;

    (void)state;
    opened(&b, 1000);
    assert_false(breaker_would_admit(&b, b.until_ms - 1));
    assert_true(breaker_would_admit(&b, b.until_ms));
    assert_int_equal(b.state, BREAKER_OPEN); /* asking alone changes nothing */
    assert_true(breaker_admits(&b, b.until_ms));
    assert_string_equal(breaker_name(b.state), "half open");
    assert_false(breaker_admits(&b, b.until_ms - 1));
}

static void the_end_of_that_call_decides(void **state)
{
    struct breaker b;
    int64_t now;

    (void)state;
    opened(&b, 0);
    now = b.until_ms;
    assert_true(breaker_admits(&b, now));
    breaker_bad(&b, now, 0, "HTTP 502");
    assert_int_equal(b.state, BREAKER_OPEN);
    assert_string_equal(b.why, "HTTP 502");
    now = b.until_ms;
    assert_true(breaker_admits(&b, now));
    breaker_good(&b);
    assert_int_equal(b.state, BREAKER_CLOSED);
    assert_int_equal(b.failures, 0);
}

static void a_call_given_up_lets_the_next_one_through(void **state)
{
    struct breaker b;
    int64_t now;

    (void)state;
    opened(&b, 0);
    breaker_nothing(&b, 0); /* it is not half open: nothing was let through */
    assert_false(breaker_admits(&b, 0));
    now = b.until_ms;
    assert_true(breaker_admits(&b, now));
    breaker_nothing(&b, now);
    assert_true(breaker_admits(&b, now));
}

static void a_call_that_never_tells_its_end_counts_as_lost(void **state)
{
    struct breaker b;
    int64_t now;

    (void)state;
    opened(&b, 0);
    now = b.until_ms;
    assert_true(breaker_admits(&b, now));
    assert_false(breaker_admits(&b, now + BREAKER_PROBE_MS - 1));
    assert_true(breaker_admits(&b, now + BREAKER_PROBE_MS));
}

static void pauses_double_up_to_a_most_with_jitter(void **state)
{
    struct breaker b;
    int64_t now, least = BREAKER_PAUSE_MS / 2;

    (void)state;
    opened(&b, 0);
    assert_int_equal(b.until_ms, BREAKER_PAUSE_MS / 2);
    for (int i = 0; i < 12; i++) {
        now = b.until_ms;
        assert_true(breaker_admits(&b, now));
        breaker_bad(&b, now, UINT32_MAX - (uint32_t)i, "again");
        least = least * 2 < BREAKER_PAUSE_MAX_MS / 2 ? least * 2
                                                     : BREAKER_PAUSE_MAX_MS / 2;
        assert_in_range(b.until_ms - now, least, 2 * least);
    }
    assert_int_equal(least, BREAKER_PAUSE_MAX_MS / 2);
}

static void calls_that_were_under_way_do_not_lengthen_the_pause(void **state)
{
    struct breaker b;
    int64_t until;

    (void)state;
    opened(&b, 0);
    until = b.until_ms;
    fail_times(&b, 50, until - 1);
    assert_int_equal(b.until_ms, until);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failures_in_a_row_open_it),
        cmocka_unit_test(after_its_pause_one_call_goes_through),
        cmocka_unit_test(the_end_of_that_call_decides),
        cmocka_unit_test(a_call_given_up_lets_the_next_one_through),
        cmocka_unit_test(a_call_that_never_tells_its_end_counts_as_lost),
        cmocka_unit_test(pauses_double_up_to_a_most_with_jitter),
        cmocka_unit_test(calls_that_were_under_way_do_not_lengthen_the_pause),
    };

    return cmocka_run_group_tests_name("e2b breaker", tests, NULL, NULL);
}
