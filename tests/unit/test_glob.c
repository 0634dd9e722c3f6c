/* tests/unit/test_glob.c -- which paths a job's output_files name. */
#include "worker/glob.h"

#include <string.h>

#include "common/must.h"
#include "tests/support/cmocka_all.h"

static bool takes(const char *glob, const char *path)
{
    struct glob g;
    bool taken;

    MUST0(glob_init(&g, glob));
    taken = glob_takes(&g, path);
    glob_fini(&g);
    return taken;
}

static void paths_are_taken_or_not(void **state)
{
    static const struct {
        const char *glob, *path;
        bool taken;
    } rows[] = {
        {"a.txt", "a.txt", true},
        {"a.txt", "b/a.txt", false},
        {"*.txt", "a.txt", true},
        {"*.txt", ".txt", false}, /* a leading dot is named or not at all */
        {".*", ".txt", true},
        {"*.txt", "b/a.txt", false},
        {"?", "a", true},
        {"?", "ab", false},
        {"[ab]c", "bc", true},
        {"[!ab]c", "bc", false},
        {"b/*", "b/a.txt", true},
        {"b/*", "b", false},
        {"b/*", "b/c/d", false},
        {"*/a", "b/a", true},
        {"**", "a", true},
        {"**", "b/c/a", true},
        {"**", "b/.c/a", false},
        {"**/a", "a", true},
        {"**/a", "b/a", true},
        {"**/a", "b/c/a", true},
        {"**/a", "b/c/xa", false},
        {"b/**/a", "b/a", true},
        {"b/**/a", "b/c/d/a", true},
        {"b/**/a", "c/b/a", false},
        {"**/b/**", "x/b/y/z", true},
        {"**/*.png", "p/q/r.png", true},
        {"**/*.png", "p/q/.r.png", false},
        {"", "a", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        if (takes(rows[i].glob, rows[i].path) != rows[i].taken)
            fail_msg("%s on %s", rows[i].glob, rows[i].path);
}

static void wildcards_make_a_glob(void **state)
{
    (void)state;
    assert_true(glob_is("*.txt") && glob_is("a?") && glob_is("[a]"));
    assert_false(glob_is("a.txt"));
    assert_false(glob_is("out/a"));
}

/* A walk asks at each folder whether anything below can be named. */
static void a_walk_knows_where_not_to_go(void **state)
{
    struct glob g;
    struct glob_positions start, in;

    (void)state;
    MUST0(glob_init(&g, "out/**/*.png"));
    start = glob_start(&g);
    assert_true(glob_leads_on(&g, &start));
    assert_false(glob_matches(&g, &start));
    in = glob_advance(&g, &start, "other");
    assert_false(glob_leads_on(&g, &in));
    in = glob_advance(&g, &start, "out");
    assert_true(glob_leads_on(&g, &in));
    in = glob_advance(&g, &in, "deep");
    assert_true(glob_leads_on(&g, &in));
    in = glob_advance(&g, &in, "a.png");
    assert_true(glob_matches(&g, &in));
    glob_fini(&g);
}

/* Many stars against many folders: positions are a set, not a search. */
static void stars_do_not_multiply(void **state)
{
    char glob[JOB_PATH_MAX + 1] = "", path[JOB_PATH_MAX + 1] = "";

    (void)state;
    for (int i = 0; i < 50; i++)
        strcat(glob, "**/");
    strcat(glob, "x");
    for (int i = 0; i < 100; i++)
        strcat(path, "a/");
    strcat(path, "y");
    assert_false(takes(glob, path));
    path[strlen(path) - 1] = 'x';
    assert_true(takes(glob, path));
}

static void a_name_longer_than_any_is_not_taken(void **state)
{
    char name[GLOB_NAME_MAX + 40];

    (void)state;
    memset(name, 'a', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    takes("*", name); /* whatever it says, it stays within its memory */
    assert_false(takes("b*", name));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_taken_or_not),
        cmocka_unit_test(wildcards_make_a_glob),
        cmocka_unit_test(a_walk_knows_where_not_to_go),
        cmocka_unit_test(stars_do_not_multiply),
        cmocka_unit_test(a_name_longer_than_any_is_not_taken),
    };

    return cmocka_run_group_tests_name("glob", tests, NULL, NULL);
}
