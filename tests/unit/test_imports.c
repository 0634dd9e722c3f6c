/* tests/unit/test_imports.c -- what Python code imports. */
#include "common/imports.h"

#include <stdio.h>
#include <string.h>

#include "tests/support/cmocka_all.h"

/* The modules found, separated by blanks. */
static void check(const char *code, const char *expected)
{
    struct imports found;
    char names[512] = "";
    size_t len = 0;

    imports_find(code, strlen(code), &found);
    for (size_t i = 0; i < found.count; i++)
        len += (size_t)snprintf(names + len, sizeof names - len, "%s%s",
                                i ? " " : "", found.names[i]);
    assert_string_equal(names, expected);
}

static void every_form_of_import_is_found(void **state)
{
    (void)state;
    check("import a", "a");
    check("import a.b as c, d , e as f\nimport g", "a d e g");
    check("from x import y", "x");
    check("from x.y.z import (a,\n b)\nimport q", "x q");
    check("import a \\\n  , b", "a b");
    check("import a, \\\r\n b", "a b");
    check("\xef\xbb\xbfimport a\r\nimport b\r\n", "a b");
}

static void imports_are_found_wherever_they_stand(void **state)
{
    (void)state;
    check("def f():\n    import a\n    return 1", "a");
    check("x = 1; import b", "b");
    check("try: import c\nexcept ImportError: from d import e", "c d");
    check("f(1,\n2)\nimport g", "g");
    check("x = {'a': 1}\nimport h", "h");
    check("%matplotlib inline\n!pip install x\nimport i", "i");
    check("if x[1:2]: import j", "j");
}

static void strings_and_comments_do_not_count(void **state)
{
    (void)state;
    check("# import a\n'import b'\n\"\"\"\nimport c\n\"\"\"\nimport d", "d");
    check("x = r'\\'; import e'\nimport f", "f");
    check("rb'''\nimport g\n\\'''\nimport h'''\nimport i", "i");
    check("s = 'open\nimport j", "j");
    check("f\"\"\"{x}\nimport k\"\"\"", "");
    check("'''import l", "");
}

static void words_that_only_look_like_imports_do_not_count(void **state)
{
    (void)state;
    check("important = 1\nfrom_x = 2\nx.import_ = 3", "");
    check("yield from a", "");
    check("x = (yield\nfrom a)", "");
    check("raise X from y", "");
    check("from . import a\nfrom ..b import c\nfrom .d import e", "");
    check("f(import x)", "");
    check("importlib.import_module('x')", "");
}

static void a_module_is_noted_once_and_the_number_is_bounded(void **state)
{
    static char code[IMPORTS_MAX * 20];
    struct imports found;
    size_t len = 0;

    (void)state;
    check("import a\nimport a.b\nfrom a import c", "a");
    for (int i = 0; i < IMPORTS_MAX + 9; i++)
        len += (size_t)sprintf(code + len, "import m%d\n", i);
    imports_find(code, len, &found);
    assert_int_equal(found.count, IMPORTS_MAX);
}

static void packages_are_known_by_their_modules(void **state)
{
    static const char code[] = "import sklearn, PIL, cv2, torch, yaml, Numpy\n"
                               "from mpl_toolkits import mplot3d";
    struct imports found;

    (void)state;
    imports_find(code, strlen(code), &found);
    assert_true(imports_package(&found, "scikit-learn"));
    assert_true(imports_package(&found, "scikit_learn"));
    assert_true(imports_package(&found, "sklearn"));
    assert_true(imports_package(&found, "Pillow"));
    assert_true(imports_package(&found, "opencv-python"));
    assert_true(imports_package(&found, "pytorch"));
    assert_true(imports_package(&found, "torch"));
    assert_true(imports_package(&found, "PyYAML"));
    assert_true(imports_package(&found, "numpy"));
    assert_true(imports_package(&found, "matplotlib"));
    assert_false(imports_package(&found, "pandas"));
    assert_false(imports_package(&found, "num"));
    assert_string_equal(imports_module("scikit-learn"), "sklearn");
    assert_string_equal(imports_module("pytorch"), "torch");
    assert_string_equal(imports_module("matplotlib"), "matplotlib");
    assert_string_equal(imports_module("pandas"), "pandas");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_of_import_is_found),
        cmocka_unit_test(imports_are_found_wherever_they_stand),
        cmocka_unit_test(strings_and_comments_do_not_count),
        cmocka_unit_test(words_that_only_look_like_imports_do_not_count),
        cmocka_unit_test(a_module_is_noted_once_and_the_number_is_bounded),
        cmocka_unit_test(packages_are_known_by_their_modules),
    };

    return cmocka_run_group_tests_name("imports", tests, NULL, NULL);
}
