/* Every number of the attacks that a sandbox worker must survive, and where it
 * is tried: nothing may fall out of the list unseen. */
#include "tests/support/cmocka_all.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/io.h"
#include "common/must.h"
#include "common/scope.h"
#include "tests/support/attack_suite.h"

#define SOURCE_BYTES_MAX (1u << 20)

enum where {
    IN_LIST = 1, /* files of worker/attacks: run by the list's tests */
    IN_TEST = 2, /* tests here, named attack_NNN_... */
    IN_BOTH = 3,
    ELSEWHERE = 4, /* a test of another layer: `what` is its name */
    NOT_HERE = 8,  /* `what` says why */
};

struct row {
    int number;
    enum where where;
    const char *what;
};

static const struct row rows[] = {
    /* A: time */
    {1, IN_LIST, ""},
    {2, IN_LIST, ""},
    {3, IN_LIST, ""},
    {4, IN_LIST, ""},
    {5, IN_LIST, ""},
    {7, IN_BOTH, ""},
    {9, IN_LIST, ""},
    {10, IN_LIST, ""},
    {11, IN_LIST, ""},
    {12, IN_LIST, ""},
    {13, IN_LIST, ""},
    {14, IN_TEST, ""},
    {15, IN_TEST, ""},
    /* B: memory */
    {16, IN_LIST, ""},
    {17, IN_LIST, ""},
    {18, IN_LIST, ""},
    {20, IN_LIST, ""},
    {21, IN_LIST, ""},
    {23, IN_LIST, ""},
    {24, IN_LIST, ""},
    {25, IN_LIST, ""},
    {27, IN_LIST, ""},
    {28, IN_LIST, ""},
    /* C: processes */
    {29, IN_LIST, ""},
    {30, IN_LIST, ""},
    {32, IN_LIST, ""},
    {34, IN_LIST, ""},
    {35, IN_LIST, ""},
    {36, IN_LIST, ""},
    {38, IN_TEST, ""},
    {40, IN_TEST, ""},
    /* D: output and results */
    {41, IN_BOTH, ""},
    {42, IN_LIST, ""},
    {44, IN_BOTH, ""},
    {45, IN_LIST, ""},
    {47, IN_BOTH, ""},
    {48, IN_BOTH, ""},
    {50, IN_LIST, ""},
    {51, IN_LIST, ""},
    {52, IN_LIST, ""},
    {54, IN_LIST, ""},
    {55, IN_BOTH, ""},
    {56, IN_LIST, ""},
    /* E: disk and files */
    {58, IN_LIST, ""},
    {59, IN_LIST, ""},
    {61, IN_TEST, ""},
    {63, IN_TEST, ""},
    {65, IN_BOTH, ""},
    {67, IN_TEST, ""},
    {68, IN_LIST, ""},
    {70, IN_LIST, ""},
    {71, IN_LIST, ""},
    {72, IN_LIST, ""},
    {74, IN_LIST, ""},
    {76, IN_LIST, ""},
    /* F: kernel surface */
    {77, IN_LIST, ""},
    {78, IN_LIST, ""},
    {79, IN_LIST, ""},
    {80, IN_LIST, ""},
    {82, IN_LIST, ""},
    {83, IN_LIST, ""},
    {84, IN_LIST, ""},
    {86, IN_LIST, ""},
    {87, IN_LIST, ""},
    {88, IN_LIST, ""},
    {90, IN_LIST, ""},
    {91, IN_LIST, ""},
    {92, IN_LIST, ""},
    {93, IN_BOTH, ""},
    {95, IN_LIST, ""},
    {96, NOT_HERE,
     "a property of hosts, not of code: capibox-sandboxd --probe finds it out "
     "by doing, and test_attacks_degraded.c stands on a lower rung"},
    {99, NOT_HERE, "timing side channels are a documented residual risk"},
    /* G: network */
    {100, IN_BOTH, ""},
    {101, IN_BOTH, ""},
    {102, IN_LIST, ""},
    {104, IN_LIST, ""},
    {106, IN_LIST, ""},
    {107, NOT_HERE, "the local backend refuses requirements.network: true"},
    /* H: warmed interpreters */
    {108, IN_LIST, ""},
    {109, IN_TEST, ""},
    {111, IN_TEST, ""},
    {112, IN_TEST, ""},
    {113, IN_TEST, ""},
    {115, IN_TEST, ""},
    {117, IN_TEST, ""},
    /* I: jobs */
    {119, IN_TEST, ""},
    {120, IN_TEST, ""},
    {122, IN_TEST, ""},
    {123, IN_TEST, ""},
    {124, ELSEWHERE, "redis_killed_under_load_loses_nothing"},
    {125, IN_TEST, ""},
    {126, NOT_HERE, "about the e2b backend"},
    {128, IN_TEST, ""},
    {129, IN_TEST, ""},
    {130, IN_TEST, ""},
};

#define ROWS (sizeof(rows) / sizeof(*rows))

static struct attack_set set;
static char *sources; /* of all tests here and of the other layers */

static bool is_in_list(int number)
{
    for (size_t i = 0; i < set.count; i++)
        if (set.items[i].number == number)
            return true;
    return false;
}

static bool has_test(const char *start)
{
    char text[128];

    snprintf(text, sizeof(text), "static void %s", start);
    return strstr(sources, text) != NULL;
}

static bool is_tested_here(int number)
{
    char start[32];

    snprintf(start, sizeof(start), "attack_%03d_", number);
    return has_test(start);
}

static const struct row *row_of(int number)
{
    for (size_t i = 0; i < ROWS; i++)
        if (rows[i].number == number)
            return &rows[i];
    return NULL;
}

static void every_number_is_tried_where_the_table_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        const struct row *r = &rows[i];
        bool listed = is_in_list(r->number);
        bool tested = is_tested_here(r->number);

        if (listed != ((r->where & IN_LIST) != 0))
            fail_msg("attack %03d: %s of worker/attacks", r->number,
                     listed ? "is not of the table, but" : "has no file");
        if (tested != ((r->where & IN_TEST) != 0))
            fail_msg("attack %03d: the table and tests/attacks disagree",
                     r->number);
        if (r->where == ELSEWHERE && !has_test(r->what))
            fail_msg("attack %03d: there is no test %s", r->number, r->what);
        if (r->where > IN_BOTH && !*r->what)
            fail_msg("attack %03d: say why", r->number);
    }
}

static void every_file_has_a_number_of_the_table(void **state)
{
    (void)state;
    assert_true(set.count > 80);
    for (size_t i = 0; i < set.count; i++)
        if (!row_of(set.items[i].number))
            fail_msg("%s: no such number in the table", set.items[i].file);
}

static void numbers_are_given_once_and_in_order(void **state)
{
    (void)state;
    for (size_t i = 1; i < ROWS; i++)
        assert_true(rows[i - 1].number < rows[i].number);
}

/* A probe that tries nothing would hold for ever. */
static void probes_say_how_often_they_try(void **state)
{
    (void)state;
    for (size_t i = 0; i < set.count; i++) {
        const struct attack *a = &set.items[i];
        bool probes = strstr(a->code, "from attack import") != NULL;
        bool judged_by_end = strstr(a->code, "CLONE_VFORK") != NULL;

        if (probes && !judged_by_end && a->tries == 0)
            fail_msg("%s: its head lacks `tries`", a->file);
    }
}

static int open_all(void **state)
{
    struct strbuf all = STRBUF_INIT;
    glob_t found;

    (void)state;
    attack_suite_load(&set);
    MUST0(glob("tests/*/test_*.c", 0, NULL, &found));
    for (size_t i = 0; i < found.gl_pathc; i++) {
        AUTO_FREE char *text = NULL;

        MUST0(io_read_file(found.gl_pathv[i], SOURCE_BYTES_MAX, &text, NULL));
        strbuf_adds(&all, text);
    }
    globfree(&found);
    MUST(!all.failed);
    sources = all.text;
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    attacks_unload(&set);
    free(sources);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number_is_tried_where_the_table_says),
        cmocka_unit_test(every_file_has_a_number_of_the_table),
        cmocka_unit_test(numbers_are_given_once_and_in_order),
        cmocka_unit_test(probes_say_how_often_they_try),
    };

    return cmocka_run_group_tests(tests, open_all, close_all);
}
