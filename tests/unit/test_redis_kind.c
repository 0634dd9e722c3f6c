/* tests/unit/test_redis_kind.c -- what error replies ask for, and how long to
 * wait before the next try. */
#include "tests/support/cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "common/redis.h"

static enum redis_kind kind_of_error(const char *text)
{
    redisReply reply = {.type = REDIS_REPLY_ERROR,
                        .str = (char *)(uintptr_t)text,
                        .len = strlen(text)};

    return redis_kind(&reply);
}

static void each_error_word_has_its_kind(void **state)
{
    static const struct {
        const char *text;
        enum redis_kind kind;
    } rows[] = {
        {"NOSCRIPT No matching script. Please use EVAL.", REDIS_NOSCRIPT},
        {"LOADING Redis is loading the dataset in memory", REDIS_LATER},
        {"BUSY Redis is busy running a script.", REDIS_LATER},
        {"TRYAGAIN Multiple keys request during rehashing", REDIS_LATER},
        {"CLUSTERDOWN The cluster is down", REDIS_LATER},
        {"MASTERDOWN Link with MASTER is down", REDIS_LATER},
        {"NOREPLICAS Not enough good replicas to write.", REDIS_LATER},
        {"MOVED 3999 127.0.0.1:6381", REDIS_MOVED},
        {"ASK 3999 127.0.0.1:6381", REDIS_MOVED},
        {"READONLY You can't write against a read only replica.", REDIS_MOVED},
        {"OOM command not allowed when used memory > 'maxmemory'.", REDIS_FULL},
        {"MISCONF Redis is configured to save RDB snapshots", REDIS_FULL},
        {"NOAUTH Authentication required.", REDIS_AUTH},
        {"WRONGPASS invalid username-password pair", REDIS_AUTH},
        {"NOPERM this user has no permissions", REDIS_AUTH},
        {"UNBLOCKED force unblock from blocking operation", REDIS_UNBLOCKED},
        {"OOM", REDIS_FULL},
        {"ERR unknown command", REDIS_WRONG},
        {"WRONGTYPE Operation against a key", REDIS_WRONG},
        {"BUSYKEY Target key name already exists.", REDIS_WRONG},
        {"BUSYGROUP Consumer Group name already exists", REDIS_WRONG},
        {"ASKED for something", REDIS_WRONG},
        {"oom", REDIS_WRONG},
        {"", REDIS_WRONG},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (kind_of_error(rows[i].text) != rows[i].kind)
            fail_msg("%s", rows[i].text);
}

static void redis_6_wraps_errors_of_scripts(void **state)
{
    (void)state;
    assert_int_equal(
        kind_of_error("ERR Error running script (call to f_ab): "
                      "@user_script:3: @user_script: 3: -OOM command not "
                      "allowed when used memory > 'maxmemory'. "),
        REDIS_FULL);
    assert_int_equal(kind_of_error("ERR Error running script (call to f_ab): "
                                   "@user_script:1: attempt to index nil"),
                     REDIS_WRONG);
}

static void other_replies_are_fine(void **state)
{
    redisReply status = {.type = REDIS_REPLY_STATUS, .str = (char *)"OOM"};
    redisReply nil = {.type = REDIS_REPLY_NIL};

    (void)state;
    assert_int_equal(redis_kind(&status), REDIS_FINE);
    assert_int_equal(redis_kind(&nil), REDIS_FINE);
}

static void the_first_reconnect_is_at_once(void **state)
{
    struct backoff b = {0};

    (void)state;
    assert_int_equal(backoff_next_ms(&b), 0);
    assert_true(backoff_next_ms(&b) > 0);
    backoff_reset(&b);
    assert_int_equal(backoff_next_ms(&b), 0);
}

/* The largest of many draws at the given number of earlier failures. */
static int largest_wait(unsigned failures)
{
    int largest = 0;

    for (int i = 0; i < 2000; i++) {
        struct backoff b = {.failures = failures};
        int wait_ms = backoff_next_ms(&b);

        assert_true(wait_ms > 0);
        if (wait_ms > largest)
            largest = wait_ms;
    }
    return largest;
}

static void waits_double_up_to_the_cap(void **state)
{
    static const int spans_ms[] = {50, 100, 200, 400, 800, 1600, 3200, 5000};
    struct backoff b = {0};

    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        int largest = largest_wait(i + 1);

        assert_true(largest <= spans_ms[i]);
        assert_true(largest > spans_ms[i] * 9 / 10);
    }
    for (int i = 0; i < 10000; i++)
        assert_true(backoff_next_ms(&b) <= 5000);
    assert_true(largest_wait(b.failures) > 4500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_error_word_has_its_kind),
        cmocka_unit_test(redis_6_wraps_errors_of_scripts),
        cmocka_unit_test(other_replies_are_fine),
        cmocka_unit_test(the_first_reconnect_is_at_once),
        cmocka_unit_test(waits_double_up_to_the_cap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
