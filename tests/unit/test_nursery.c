/* Which sandboxes are of one kind. No process is started here. */
#include "tests/support/cmocka_all.h"

#include <stdio.h>
#include <string.h>

#include "worker/sandboxd/nursery.h"

#define PYTHON "/usr/bin/python3"
#define VENV   "/opt/x/bin/python3"

static struct host host;
static struct nursery nursery;

static char *none[] = {NULL};
static char *numpy[] = {(char *)"numpy", NULL};
static char *both[] = {(char *)"numpy", (char *)"pandas", NULL};
static char *turned[] = {(char *)"pandas", (char *)"numpy", NULL};
static char *joined[] = {(char *)"numpyx", NULL};
static char *split[] = {(char *)"nump", (char *)"x", NULL};

static int begin(void **state)
{
    (void)state;
    nursery_init(&nursery, &host, -1);
    strcpy(nursery.runtime, "/runtime");
    strcpy(nursery.zygote_lib, "/zygote.so");
    return 0;
}

static int end(void **state)
{
    (void)state;
    nursery_fini(&nursery);
    return 0;
}

static struct kind *warm(const char *interpreter, char **modules)
{
    return nursery_kind(&nursery, interpreter, true, modules);
}

static struct kind *cold(const char *interpreter)
{
    return nursery_kind(&nursery, interpreter, false, numpy);
}

static void the_same_modules_are_one_kind(void **state)
{
    char copy[] = "numpy", *copies[] = {copy, NULL};

    (void)state;
    struct kind *k = warm(PYTHON, numpy);
    assert_non_null(k);
    assert_non_null(k->zygote);
    assert_ptr_equal(warm(PYTHON, copies), k);
    copy[0] = 'x'; /* the kind has names of its own */
    assert_ptr_equal(warm(PYTHON, numpy), k);
    assert_string_equal(k->zygote->names, "numpy");
    assert_false(k->zygote->now.ready);
    assert_int_equal(k->zygote->now.socket.fd, -1);
}

static void other_modules_or_another_order_are_another_kind(void **state)
{
    char **const all[] = {none, numpy, both, turned, joined, split};
    struct kind *kinds[6];

    (void)state;
    for (int i = 0; i < 6; i++) {
        kinds[i] = warm(PYTHON, all[i]);
        for (int k = 0; k < i; k++)
            assert_ptr_not_equal(kinds[k], kinds[i]);
    }
    for (int i = 0; i < 6; i++)
        assert_ptr_equal(warm(PYTHON, all[i]), kinds[i]);
    assert_int_equal(kinds[2]->zygote->names_size, sizeof("numpy\0pandas"));
    assert_memory_equal(kinds[2]->zygote->names, "numpy\0pandas",
                        sizeof("numpy\0pandas"));
}

static void cold_ones_of_usr_are_one_kind(void **state)
{
    (void)state;
    struct kind *k = cold(PYTHON);
    assert_null(k->zygote);
    assert_ptr_equal(cold("/usr/bin/node"), k);
    assert_ptr_equal(cold("/bin/bash"), k);
    assert_ptr_not_equal(warm(PYTHON, numpy), k);
    assert_ptr_equal(cold(PYTHON), k);
}

static void warm_ones_of_two_pythons_are_two_kinds(void **state)
{
    (void)state;
    struct kind *k = warm(PYTHON, none);
    struct kind *other = warm("/usr/local/bin/python3", none);
    assert_ptr_not_equal(k, other);
    assert_ptr_equal(k->spawner, other->spawner);
    assert_string_equal(k->zygote->interpreter, PYTHON);
    assert_string_equal(other->zygote->interpreter, "/usr/local/bin/python3");
}

static void a_tree_outside_usr_has_a_spawner_of_its_own(void **state)
{
    (void)state;
    struct kind *k = warm(VENV, numpy);
    assert_string_equal(k->spawner->key, VENV);
    assert_ptr_equal(cold(VENV)->spawner, k->spawner);
    assert_ptr_equal(warm(VENV, both)->spawner, k->spawner);
    assert_ptr_not_equal(warm(PYTHON, numpy)->spawner, k->spawner);
    assert_ptr_not_equal(warm("/opt/y/bin/python3", numpy)->spawner,
                         k->spawner);
    assert_ptr_not_equal(cold(VENV), cold(PYTHON));
}

static void without_the_zygotes_files_all_are_cold(void **state)
{
    (void)state;
    nursery.zygote_lib[0] = '\0';
    assert_null(warm(PYTHON, numpy)->zygote);
    assert_ptr_equal(warm(PYTHON, both), cold("/bin/bash"));
}

static void kinds_are_limited_and_known_ones_stay(void **state)
{
    char name[16], *names[] = {name, NULL};

    (void)state;
    struct kind *first = warm(PYTHON, numpy);
    for (int i = 1; i < NURSERY_KINDS_MAX; i++) {
        snprintf(name, sizeof(name), "module%d", i);
        assert_non_null(warm(PYTHON, names));
    }
    snprintf(name, sizeof(name), "one_more");
    assert_null(warm(PYTHON, names));
    assert_null(cold(PYTHON));
    assert_ptr_equal(warm(PYTHON, numpy), first);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_same_modules_are_one_kind),
        TEST(other_modules_or_another_order_are_another_kind),
        TEST(cold_ones_of_usr_are_one_kind),
        TEST(warm_ones_of_two_pythons_are_two_kinds),
        TEST(a_tree_outside_usr_has_a_spawner_of_its_own),
        TEST(without_the_zygotes_files_all_are_cold),
        TEST(kinds_are_limited_and_known_ones_stay),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
