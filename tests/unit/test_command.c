/* What the worker asks for and what sandboxd reads: command.c and spec.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/cmocka_all.h"
#include "worker/local/command.h"
#include "worker/local/wire.h"
#include "worker/sandboxd/mounts.h"
#include "worker/sandboxd/spec.h"

static struct template tpl;

static struct spec some_spec(enum language language)
{
    return (struct spec){
        .tpl = &tpl,
        .language = language,
        .interpreter = "/usr/bin/x",
        .template_used = "default",
        .limits = {.timeout_ms = 1000,
                   .memory_bytes = (64 << 20) + 5,
                   .cpu_percent = 150,
                   .disk_bytes = 1 << 20,
                   .disk_inodes = 100,
                   .pids = 10,
                   .output_bytes = 1000},
    };
}

static int read_back(const struct job *job, const struct spec *spec,
                     struct box_spec *box)
{
    struct strbuf message = STRBUF_INIT;
    struct step why = {0};
    int rc = command_build(job, spec, true, &message);

    if (rc == 0)
        rc = box_spec_read(message.text, message.len, box, &why);
    strbuf_fini(&message);
    return rc;
}

static const char *find_env(const struct box_spec *box, const char *name)
{
    size_t len = strlen(name);
    const char *found = NULL;

    for (int i = 0; box->env[i]; i++) {
        if (strncmp(box->env[i], name, len) == 0 && box->env[i][len] == '=') {
            assert_null(found);
            found = box->env[i] + len + 1;
        }
    }
    return found;
}

static void arguments_and_limits_arrive(void **state)
{
    char *args[] = {(char *)"", (char *)"a b", NULL};
    struct job job = {.args = args};
    struct spec spec = some_spec(LANGUAGE_PYTHON);
    struct box_spec box;

    (void)state;
    assert_int_equal(read_back(&job, &spec, &box), 0);
    assert_string_equal(box.argv[0], "/usr/bin/x");
    assert_string_equal(box.argv[2], "/run/capibox-runtime/python_driver.py");
    assert_string_equal(box.argv[3], "");
    assert_string_equal(box.argv[4], "a b");
    assert_null(box.argv[5]);
    assert_int_equal(box.want.memory_bytes, 64 << 20); /* whole pages */
    assert_int_equal(box.want.pids, 10);
    assert_true(box.want.warm);
    assert_null(box.preload[0]);
    box_spec_fini(&box);
}

static void the_environment_is_made_up_and_the_jobs_wins(void **state)
{
    struct job_pair env[] = {{(char *)"HOME", (char *)"/tmp"},
                             {(char *)"A", (char *)"$(x)\n="},
                             {(char *)"CAPIBOX_RESULT_FD", (char *)"1"}};
    struct job job = {.env = env, .nenv = 3};
    struct spec spec = some_spec(LANGUAGE_PYTHON);
    struct box_spec box;

    (void)state;
    setenv("CAPIBOX_TEST_SECRET", "s", 1);
    assert_int_equal(read_back(&job, &spec, &box), 0);
    assert_string_equal(find_env(&box, "HOME"), "/tmp");
    assert_string_equal(find_env(&box, "A"), "$(x)\n=");
    assert_string_equal(find_env(&box, "CAPIBOX_RESULT_FD"), "3");
    assert_string_equal(find_env(&box, "OMP_NUM_THREADS"), "2");
    assert_null(find_env(&box, "CAPIBOX_TEST_SECRET"));
    box_spec_fini(&box);
}

/* Warm with these modules, in this order, or cold. */
static void expect_warm(const struct job *job, const struct spec *spec,
                        bool warm)
{
    struct box_spec box;

    assert_int_equal(read_back(job, spec, &box), 0);
    assert_int_equal(box.want.warm, warm);
    for (int i = 0; warm && spec->tpl->preload && spec->tpl->preload[i]; i++)
        assert_string_equal(box.preload[i], spec->tpl->preload[i]);
    assert_int_equal(box.want.preloads, warm && spec->tpl->preload ? 2 : 0);
    box_spec_fini(&box);
}

static void what_is_read_at_the_start_only_wants_a_cold_one(void **state)
{
    char *modules[] = {(char *)"numpy", (char *)"matplotlib.pyplot", NULL};
    struct template bare = {.id = "default"},
                    data = {.id = "data", .preload = modules},
                    cold = {.id = "cold", .preload = modules, .cold = true};
    struct job_pair pair = {(char *)"A", (char *)"1"};
    struct job job = {.env = &pair, .nenv = 1};
    struct spec spec = some_spec(LANGUAGE_PYTHON);

    (void)state;
    spec.tpl = &bare;
    expect_warm(&job, &spec, true);
    pair.name = (char *)"OMP_NUM_THREADS"; /* nothing has read it yet */
    expect_warm(&job, &spec, true);
    pair.name = (char *)"LD_PRELOAD";
    expect_warm(&job, &spec, false);
    pair.name = (char *)"PYTHONHASHSEED";
    expect_warm(&job, &spec, false);
    pair.name = (char *)"A";
    spec.tpl = &data;
    expect_warm(&job, &spec, false); /* 150 %: two threads */
    spec.limits.cpu_percent = 100;
    expect_warm(&job, &spec, true);
    pair.name = (char *)"OMP_NUM_THREADS";
    expect_warm(&job, &spec, false);
    pair.name = (char *)"A";
    spec.tpl = &cold;
    expect_warm(&job, &spec, false);
    spec.tpl = &data;
    spec.language = LANGUAGE_BASH;
    expect_warm(&job, &spec, false);
}

static void what_packages_read_on_import_wants_a_cold_one(void **state)
{
    static const char *const names[] = {
        "OMP_SCHEDULE",        "OPENBLAS_CORETYPE",        "MKL_DYNAMIC",
        "NUMEXPR_MAX_THREADS", "NPY_DISABLE_CPU_FEATURES", "VECLIB_NUM_THREADS",
        "MPLBACKEND",
    };
    char *modules[] = {(char *)"numpy", (char *)"pandas", NULL};
    struct template data = {.id = "data", .preload = modules};
    struct job_pair pair = {.value = (char *)"1"};
    struct job job = {.env = &pair, .nenv = 1};
    struct spec spec = some_spec(LANGUAGE_PYTHON);

    (void)state;
    spec.limits.cpu_percent = 100;
    spec.tpl = &data;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        pair.name = (char *)(uintptr_t)names[i];
        data.preload = modules;
        expect_warm(&job, &spec, false);
        data.preload = NULL;
        expect_warm(&job, &spec, strncmp(names[i], "MPL", 3) != 0);
    }
}

static void too_many_arguments_are_refused(void **state)
{
    static char *args[WIRE_ARGV_MAX + 1];
    struct job job = {.args = args};
    struct spec spec = some_spec(LANGUAGE_BASH);
    struct box_spec box;

    (void)state;
    for (int i = 0; i < WIRE_ARGV_MAX; i++)
        args[i] = (char *)"x";
    assert_int_equal(read_back(&job, &spec, &box), -E2BIG);
}

/* A good message, to be spoilt. */
struct spoilt {
    struct wire_create m;
    char strings[8];
};

static struct spoilt good(void)
{
    struct spoilt s = {
        .m = {.kind = WIRE_CREATE,
              .timeout_ms = 1,
              .memory_bytes = 1 << 20,
              .disk_bytes = 1 << 20,
              .disk_inodes = 100,
              .cpu_percent = 1,
              .pids = 1,
              .argc = 1,
              .envc = 1,
              .strings_bytes = 8},
    };

    memcpy(s.strings, "/x\0A=bc", 8);
    return s;
}

static int read_spoilt(const struct spoilt *s, size_t size)
{
    struct box_spec box;
    struct step why = {0};
    char message[sizeof(s->m) + sizeof(s->strings)];

    memcpy(message, &s->m, sizeof(s->m));
    memcpy(message + sizeof(s->m), s->strings, sizeof(s->strings));
    int rc = box_spec_read(message, size, &box, &why);
    if (rc == 0)
        box_spec_fini(&box);
    return rc;
}

static void a_bad_message_is_refused(void **state)
{
    const size_t size = sizeof(struct wire_create) + 8;
    struct spoilt s;

    (void)state;
    s = good();
    assert_int_equal(read_spoilt(&s, size), 0);
    assert_int_equal(read_spoilt(&s, size - 1), -EINVAL);
    assert_int_equal(read_spoilt(&s, 4), -EINVAL);
#define SPOIL(change)                                     \
    do {                                                  \
        s = good();                                       \
        change;                                           \
        assert_int_equal(read_spoilt(&s, size), -EINVAL); \
    } while (0)
    SPOIL(s.m.kind = WIRE_RUN);
    SPOIL(s.m.argc = 0);
    SPOIL(s.m.argc = 3);
    SPOIL(s.m.argc = 0xffffffff);
    SPOIL(s.m.envc = 0xffffffff);
    SPOIL(s.m.envc = 0);
    SPOIL(s.m.strings_bytes = 0xffffffff);
    SPOIL(s.m.timeout_ms = 0);
    SPOIL(s.m.memory_bytes = -1);
    SPOIL(s.m.disk_bytes = 0);
    SPOIL(s.m.disk_inodes = 0);
    SPOIL(s.m.cpu_percent = 0);
    SPOIL(s.m.pids = 0);
    SPOIL(s.strings[0] = 'x');
    SPOIL(s.strings[7] = 'x');
#undef SPOIL
}

static void an_interpreters_tree_shows_no_more_than_a_language(void **state)
{
    char tree[256];

    (void)state;
    assert_int_equal(mounts_tree_of("/usr/bin/python3", tree, 256), 0);
    assert_string_equal(tree, "");
    assert_int_equal(mounts_tree_of("/bin/bash", tree, 256), 0);
    assert_string_equal(tree, "");
    assert_int_equal(mounts_tree_of("/opt/py311/bin/python", tree, 256), 0);
    assert_string_equal(tree, "/opt/py311");
    assert_int_equal(mounts_tree_of("/home/me/venv/bin/python", tree, 256), 0);
    assert_string_equal(tree, "/home/me/venv");
    assert_int_equal(mounts_tree_of("/home/me/bin/python", tree, 256), -EINVAL);
    assert_int_equal(mounts_tree_of("/opt/bin/python", tree, 256), -EINVAL);
    assert_int_equal(mounts_tree_of("/root/bin/python", tree, 256), -EINVAL);
    assert_int_equal(mounts_tree_of("/tmp/a/b/bin/python", tree, 256), -EINVAL);
    assert_int_equal(mounts_tree_of("/home/user/v/bin/py", tree, 256), -EINVAL);
    assert_int_equal(mounts_tree_of("/python", tree, 256), -EINVAL);
    assert_int_equal(mounts_tree_of("/opt/a/../../etc/x", tree, 256), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments_and_limits_arrive),
        cmocka_unit_test(the_environment_is_made_up_and_the_jobs_wins),
        cmocka_unit_test(what_is_read_at_the_start_only_wants_a_cold_one),
        cmocka_unit_test(what_packages_read_on_import_wants_a_cold_one),
        cmocka_unit_test(too_many_arguments_are_refused),
        cmocka_unit_test(a_bad_message_is_refused),
        cmocka_unit_test(an_interpreters_tree_shows_no_more_than_a_language),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
