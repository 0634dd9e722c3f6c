/* tests/unit/test_packages.c -- what the templates' Pythons have. */
#include "common/packages.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/spawn.h"
#include "tests/support/cmocka_all.h"
#include "tests/support/venv.h"

#define PYTHON  "/usr/bin/python3"
#define NOWHERE "capibox_nowhere"

/* Of several templates, each with one Python and some packages. */
struct fixture {
    struct template items[16];
    struct template *order[16];
    struct template_set set;
    char silent[512]; /* "interpreter: why\n" each */
};

static int make(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    MUST(f);
    f->set.items = f->order;
    *state = f;
    return 0;
}

static int discard(void **state)
{
    struct fixture *f = *state;

    packages_destroy(f->set.packages);
    free(f);
    return 0;
}

static void add(struct fixture *f, const char *id, const char *python,
                const char **packages)
{
    struct template *t = &f->items[f->set.count];

    strcpy(t->id, id);
    t->packages = (char **)packages;
    t->runtimes[0] = (struct template_runtime){LANGUAGE_PYTHON, (char *)python};
    t->nruntimes = 1;
    f->order[f->set.count++] = t;
}

static void note_silent(void *ctx, const char *interpreter, const char *why)
{
    struct fixture *f = ctx;
    size_t len = strlen(f->silent);

    snprintf(f->silent + len, sizeof(f->silent) - len, "%s: %s\n", interpreter,
             why);
}

static void probe(struct fixture *f)
{
    MUST0(packages_probe(&f->set, note_silent, f));
}

static enum packages_answer ask(const struct fixture *f, const char *package)
{
    return packages_ask(f->set.packages, PYTHON, package);
}

static void what_python_has_is_told_from_what_it_lacks(void **state)
{
    static const char *packages[] = {"json", NOWHERE, NULL};
    struct fixture *f = *state;

    add(f, "a", PYTHON, packages);
    probe(f);
    assert_string_equal(f->silent, "");
    assert_int_equal(ask(f, "json"), PACKAGE_THERE);
    assert_int_equal(ask(f, NOWHERE), PACKAGE_LACKING);
    /* Not of any template: built in, with a dot, another spelling. */
    assert_int_equal(ask(f, "sys"), PACKAGE_THERE);
    assert_int_equal(ask(f, "xml.dom"), PACKAGE_THERE);
    assert_int_equal(ask(f, "Import-Lib"), PACKAGE_LACKING);
    assert_int_equal(ask(f, "__FUTURE--"), PACKAGE_THERE);
    assert_int_equal(ask(f, "capibox-elsewhere"), PACKAGE_LACKING);
    assert_int_equal(ask(f, ".x"), PACKAGE_LACKING);
}

static void the_module_of_a_package_counts(void **state)
{
    static const char *packages[] = {"scikit-learn", NULL};
    struct fixture *f = *state;

    add(f, "a", PYTHON, packages);
    probe(f);
    assert_int_equal(ask(f, "scikit-learn"), ask(f, "sklearn"));
    assert_string_equal(packages_listed(f->set.packages, "sklearn"),
                        "scikit-learn");
    assert_null(packages_listed(f->set.packages, "json"));
}

static void without_an_answer_nothing_is_claimed(void **state)
{
    static const char *packages[] = {NOWHERE, NULL};
    struct fixture *f = *state;

    add(f, "a", "/bin/false", packages);
    add(f, "b", "/nowhere/python3", packages);
    add(f, "c", "/bin/false", packages); /* asked once */
    probe(f);
    assert_string_equal(f->silent,
                        "/bin/false: it ended with exit code 1\n"
                        "/nowhere/python3: No such file or directory\n");
    assert_int_equal(packages_ask(f->set.packages, "/bin/false", NOWHERE),
                     PACKAGE_UNKNOWN);
    assert_int_equal(packages_ask(f->set.packages, "/other", NOWHERE),
                     PACKAGE_UNKNOWN);
    assert_int_equal(packages_ask(NULL, PYTHON, NOWHERE), PACKAGE_UNKNOWN);
    assert_int_equal(packages_ask(f->set.packages, NULL, NOWHERE),
                     PACKAGE_UNKNOWN);
}

static void holders_are_templates_that_list_and_have_it(void **state)
{
    static const char *with[] = {"json", NOWHERE, NULL}, *without[] = {NULL};
    struct fixture *f = *state;
    struct strbuf text = STRBUF_INIT;

    add(f, "one", PYTHON, with);
    add(f, "two", PYTHON, without);
    add(f, "three", "/bin/false", with);
    add(f, "four", PYTHON, with);
    probe(f);
    packages_holders(f->set.packages, "json", &text);
    strbuf_adds(&text, "; ");
    packages_holders(f->set.packages, NOWHERE, &text);
    assert_string_equal(text.text, "one, four; none");
    strbuf_fini(&text);
}

static int remove_dir(const char *dir)
{
    const char *argv[] = {"/bin/rm", "-rf", dir, NULL};
    char *text = NULL;
    int code = 0;

    MUST0(spawn_read(argv, NULL, false, 1, clock_ms() + 10000, &text, &code));
    free(text);
    return code;
}

static void each_python_answers_for_itself(void **state)
{
    static const char *with[] = {NOWHERE, NULL};
    char dir[] = "/tmp/capibox-test-XXXXXX", venv[64];
    struct fixture *f = *state;
    struct strbuf text = STRBUF_INIT;

    MUST(mkdtemp(dir));
    venv_make(dir, NOWHERE, venv, sizeof(venv));
    add(f, "usual", PYTHON, with);
    add(f, "venv", venv, with);
    probe(f);
    MUST0(remove_dir(dir));
    assert_string_equal(f->silent, "");
    assert_int_equal(ask(f, NOWHERE), PACKAGE_LACKING);
    assert_int_equal(packages_ask(f->set.packages, venv, NOWHERE),
                     PACKAGE_THERE);
    /* By the distribution's name, which no module has. */
    assert_int_equal(
        packages_ask(f->set.packages, venv, "Capibox-Nowhere_dist"),
        PACKAGE_THERE);
    packages_holders(f->set.packages, NOWHERE, &text);
    assert_string_equal(text.text, "venv");
    strbuf_fini(&text);
}

static void many_holders_are_counted(void **state)
{
    static const char *with[] = {"json", NULL};
    struct fixture *f = *state;
    struct strbuf text = STRBUF_INIT;
    char id[8];

    for (int i = 0; i < PACKAGES_HOLDERS_MAX + 3; i++) {
        snprintf(id, sizeof(id), "t%d", i);
        add(f, id, PYTHON, with);
    }
    probe(f);
    packages_holders(f->set.packages, "json", &text);
    assert_string_equal(text.text, "t0, t1, t2, t3, t4, t5, t6, t7 and 3 more");
    strbuf_fini(&text);
}

/* Neither our environment nor our folder reaches the interpreter. */
static void the_surroundings_make_no_difference(void **state)
{
    static const char *packages[] = {NOWHERE, NULL};
    char dir[] = "/tmp/capibox-test-XXXXXX", before[4096];
    struct fixture *f = *state;

    MUST(mkdtemp(dir));
    MUST(getcwd(before, sizeof(before)));
    MUST0(chdir(dir));
    close(open(NOWHERE ".py", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    setenv("PYTHONPATH", dir, 1);
    add(f, "a", PYTHON, packages);
    probe(f);
    unsetenv("PYTHONPATH");
    unlink(NOWHERE ".py");
    MUST0(chdir(before));
    rmdir(dir);
    assert_int_equal(ask(f, NOWHERE), PACKAGE_LACKING);
}

#define T(name) cmocka_unit_test_setup_teardown(name, make, discard)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(what_python_has_is_told_from_what_it_lacks),
        T(the_module_of_a_package_counts),
        T(without_an_answer_nothing_is_claimed),
        T(holders_are_templates_that_list_and_have_it),
        T(each_python_answers_for_itself),
        T(many_holders_are_counted),
        T(the_surroundings_make_no_difference),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
