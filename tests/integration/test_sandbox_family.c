/* sandboxd's own processes: what a zygote must not share, and what becomes of
 * jobs when a spawner or zygote dies or hangs. */
#include <dirent.h>
#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/must.h"
#include "tests/support/cmocka_all.h"
#include "tests/support/proc.h"
#include "tests/support/sandbox_run.h"
#include "tests/support/venv.h"

#define WARM_MS 20000

static void expect(const struct sandbox_run *r, enum verdict verdict,
                   const char *out)
{
    bool as_expected = r->o.verdict == verdict && strcmp(r->out, out) == 0;

    if (!as_expected)
        sandbox_run_explain(r);
    assert_true(as_expected);
}

/* ---- zygotes ------------------------------------------------------------- */

static char folder[] = "/opt/capibox-test-XXXXXX";
static char interpreter[300];
static char module[] = "capibox_preloaded";
static char *preload[] = {module, NULL};

static bool make_folder(void)
{
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    if (!mkdtemp(folder))
        return false;
    MUST0(chmod(folder, 0755));
    venv_make(folder, module, interpreter, sizeof(interpreter));
    return true;
}

/* The module that the zygote imports. */
static void write_module(const char *text)
{
    char pattern[300];
    glob_t found;

    snprintf(pattern, sizeof(pattern), "%s/venv/lib/python3*/*/%s.py", folder,
             module);
    MUST0(glob(pattern, 0, NULL, &found));
    MUST0(io_write_file(found.gl_pathv[0], text));
    globfree(&found);
}

static void remove_folder(void)
{
    char command[64];

    snprintf(command, sizeof(command), "rm -rf %s", folder);
    MUST0(system(command));
}

static void prepare_warm(struct sandbox_run *r, const char *code)
{
    sandbox_run_prepare(r, LANGUAGE_PYTHON, code);
    r->spec.interpreter = interpreter;
    r->tpl.preload = preload;
    r->spec.limits.cpu_percent = 100; /* more is not for one thread */
}

static bool is_warm(const struct sandbox_run *r)
{
    return strstr(r->o.start, "warm") != NULL;
}

/* Runs the code until it ran warm, or until the zygote has had its time. */
static void run_warm(struct sandbox_run *r, const char *code)
{
    int64_t deadline = clock_ms() + WARM_MS;

    for (;;) {
        prepare_warm(r, code);
        sandbox_run_go(r);
        if (is_warm(r) || r->o.verdict != VERDICT_OK || clock_ms() > deadline)
            return;
        sandbox_run_done(r);
        usleep(100000);
    }
}

static void a_zygote_forks_what_it_has_imported(void **state)
{
    struct sandbox_run r;

    (void)state;
    if (!make_folder()) {
        print_message("SKIP: /opt is not writable\n");
        return;
    }
    write_module("board = bytearray(8)\n");
    for (int i = 0; i < 2; i++) {
        run_warm(&r, "import capibox_preloaded as m\n"
                     "print(m.board[0]); m.board[0] = 1");
        expect(&r, VERDICT_OK, "[\"0\\n\"]");
        assert_true(is_warm(&r));
        sandbox_run_done(&r);
    }
    remove_folder();
}

/* Forks would share it, not copy it: a board on which one job leaves what the
 * next one reads. */
static void memory_that_forks_would_share_makes_no_zygote(void **state)
{
    static const char code[] = "import capibox_preloaded as m\n"
                               "print(m.board[0]); m.board[0] = 1";
    struct sandbox_run r;

    (void)state;
    if (!make_folder()) {
        print_message("SKIP: /opt is not writable\n");
        return;
    }
    write_module("import mmap\nboard = mmap.mmap(-1, 4096)\n");
    for (int i = 0; i < 20; i++) {
        prepare_warm(&r, code);
        sandbox_run_go(&r);
        expect(&r, VERDICT_OK, "[\"0\\n\"]");
        assert_false(is_warm(&r));
        sandbox_run_done(&r);
        usleep(100000); /* a zygote of so little is warm in a second */
    }
    remove_folder();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_zygote_forks_what_it_has_imported),
        cmocka_unit_test(memory_that_forks_would_share_makes_no_zygote),
    };

    return cmocka_run_group_tests(tests, sandbox_run_open, sandbox_run_close);
}
