/* options.h, suggest.h, exits.h: what the command line accepts and answers. */
#include "tests/support/cmocka_all.h"

#include <string.h>

#include "common/suggest.h"
#include "producer/exits.h"
#include "producer/options.h"

static struct options o;
static struct complaint why;

static int parse(unsigned verb, const char *const *words)
{
    static const char *argv[16]; /* options borrow from it */
    int argc = 0;

    for (; words[argc]; argc++)
        argv[argc] = words[argc];
    memset(&why, 0, sizeof(why));
    return options_parse(&o, verb, argc, argv, &why);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static int forget(void **state)
{
    (void)state;
    options_fini(&o);
    return 0;
}

static void flags_words_and_the_rest_are_told_apart(void **state)
{
    (void)state;
    assert_int_equal(parse(VERB_RUN, WORDS("-", "--memory=64", "--env", "A=B",
                                           "--env", "C=D", "--", "-x", "y")),
                     0);
    assert_int_equal(o.nwords, 1);
    assert_string_equal(o.words[0], "-");
    assert_true(o.memory_mb == 64);
    assert_int_equal(o.env.count, 2);
    assert_string_equal(o.env.items[1], "C=D");
    assert_int_equal(o.nrest, 2);
    assert_string_equal(o.rest[0], "-x");
}

static void the_same_flag_means_what_its_verb_says(void **state)
{
    (void)state;
    assert_int_equal(parse(VERB_RUN, WORDS("x", "--timeout", "5")), 0);
    assert_true(o.timeout_s == 5 && o.wait_s == 0);
    options_fini(&o);
    assert_int_equal(parse(VERB_WAIT, WORDS("x", "--timeout", "5")), 0);
    assert_true(o.timeout_s == 0 && o.wait_s == 5);
}

static void a_flag_given_twice_is_refused(void **state)
{
    (void)state;
    assert_true(parse(VERB_RUN, WORDS("--id", "a", "--id", "b")) < 0);
    assert_string_equal(why.field, "--id");
}

static void a_flag_of_another_verb_is_unknown(void **state)
{
    (void)state;
    assert_true(parse(VERB_STATUS, WORDS("--watch")) < 0);
    assert_string_equal(why.field, "--watch");
}

static void a_value_that_is_missing_or_out_of_range_is_named(void **state)
{
    (void)state;
    assert_true(parse(VERB_RUN, WORDS("x", "--memory")) < 0);
    assert_non_null(strstr(why.text, "--memory MB"));
    options_fini(&o);
    assert_true(parse(VERB_RUN, WORDS("x", "--memory", "0")) < 0);
    options_fini(&o);
    assert_true(parse(VERB_RUN, WORDS("x", "--memory", "nan")) < 0);
    options_fini(&o);
    assert_true(parse(VERB_RUN, WORDS("x", "--memory", "64MB")) < 0);
    options_fini(&o);
    assert_true(parse(VERB_BATCH, WORDS("x", "--no-wait=1")) < 0);
}

static void no_flag_may_be_repeated_without_bound(void **state)
{
    const char *argv[2 * (OPTIONS_LIST_MAX + 1)];

    (void)state;
    for (int i = 0; i <= OPTIONS_LIST_MAX; i++) {
        argv[2 * i] = "--env";
        argv[2 * i + 1] = "A=B";
    }
    assert_true(options_parse(&o, VERB_RUN, 2 * (OPTIONS_LIST_MAX + 1), argv,
                              &why) < 0);
}

static void the_nearest_word_is_suggested_and_far_ones_are_not(void **state)
{
    const char *best = NULL;

    (void)state;
    suggest_offer("satus", "stats", &best);
    suggest_offer("satus", "status", &best);
    suggest_offer("satus", "submit", &best);
    assert_string_equal(best, "status");
    best = NULL;
    suggest_offer("frobnicate", "run", &best);
    assert_null(best);
    assert_int_equal(suggest_distance("rnu", "run"), 1);
    assert_int_equal(suggest_distance("", "run"), 3);
}

static void every_verdict_has_the_exit_code_of_the_contract(void **state)
{
    static const enum exits table[VERDICT_COUNT] = {
        [VERDICT_NONE] = 4,          [VERDICT_OK] = 0,
        [VERDICT_USER_ERROR] = 1,    [VERDICT_TIMEOUT] = 3,
        [VERDICT_OOM] = 3,           [VERDICT_PIDS_LIMIT] = 3,
        [VERDICT_DISK_LIMIT] = 3,    [VERDICT_OUTPUT_LIMIT] = 3,
        [VERDICT_SIGNAL] = 1,        [VERDICT_DENIED_SYSCALL] = 1,
        [VERDICT_CANCELLED] = 3,     [VERDICT_EXPIRED] = 3,
        [VERDICT_REJECTED] = 2,      [VERDICT_SETUP_FAILED] = 4,
        [VERDICT_BACKEND_ERROR] = 4, [VERDICT_LOST] = 4,
    };

    (void)state;
    for (int v = 0; v < VERDICT_COUNT; v++)
        assert_int_equal(exits_of_verdict((enum verdict)v), table[v]);
    assert_int_equal(exits_of_name("timeout"), 3);
    assert_int_equal(exits_of_name("unheard of"), 4);
    assert_int_equal(exits_of_name(NULL), 4);
    assert_int_equal(exits_worst(EXITS_STOPPED, EXITS_CODE_FAILED), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(flags_words_and_the_rest_are_told_apart,
                                  forget),
        cmocka_unit_test_teardown(the_same_flag_means_what_its_verb_says,
                                  forget),
        cmocka_unit_test_teardown(a_flag_given_twice_is_refused, forget),
        cmocka_unit_test_teardown(a_flag_of_another_verb_is_unknown, forget),
        cmocka_unit_test_teardown(
            a_value_that_is_missing_or_out_of_range_is_named, forget),
        cmocka_unit_test_teardown(no_flag_may_be_repeated_without_bound,
                                  forget),
        cmocka_unit_test(the_nearest_word_is_suggested_and_far_ones_are_not),
        cmocka_unit_test(every_verdict_has_the_exit_code_of_the_contract),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
