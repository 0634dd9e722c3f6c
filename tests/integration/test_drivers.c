/* tests/integration/test_drivers.c -- the language drivers as plain child
 * processes, read through the real frame reader. */
#include "tests/support/cmocka_all.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/io.h"
#include "common/must.h"
#include "common/outcome.h"
#include "common/scope.h"
#include "worker/local/frames.h"

#define OUTPUT_MAX  (4u << 20)
#define RUN_SECONDS 100
#define RESULT_FD   3
#define TEXT_OF(o)  text_at((o), 0, "text")

enum { PYTHON, NODE };

/* One run: a folder like /run/capibox, and a work folder. */
struct run {
    char dir[64];
    const char *const *args;
    const char *packages; /* packages.json, or NULL */
    int exit_code;        /* -N: signal N */
    char *out, *err;
    struct outcome o;
    cJSON *results;
};

static void write_file(const char *dir, const char *name, const char *text,
                       size_t size)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

    MUST(fd >= 0);
    MUST0(io_write_full(fd, text, size));
}

static void copy_file(const char *source, const char *dir, const char *name)
{
    AUTO_FREE char *text = NULL;
    size_t size;

    MUST0(io_read_file(source, OUTPUT_MAX, &text, &size));
    write_file(dir, name, text, size);
}

static int setup(void **state)
{
    struct run *run = calloc(1, sizeof(*run));
    char home[96];

    MUST(run != NULL);
    MUST0(outcome_init(&run->o, 4096));
    strcpy(run->dir, "/tmp/capibox-drivers-XXXXXX");
    MUST(mkdtemp(run->dir));
    snprintf(home, sizeof(home), "%s/home", run->dir);
    MUST0(mkdir(home, 0755));
    *state = run;
    return 0;
}

static int teardown(void **state)
{
    struct run *run = *state;
    char command[128];

    snprintf(command, sizeof(command), "rm -rf '%s'", run->dir);
    MUST0(system(command));
    cJSON_Delete(run->results);
    outcome_fini(&run->o);
    free(run->out);
    free(run->err);
    free(run);
    return 0;
}

static void redirect(const char *dir, const char *name, int fd)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

    if (file < 0 || dup2(file, fd) < 0)
        _exit(120);
    close(file);
}

/* In the child; never returns. */
static void exec_driver(const struct run *run, int language, int result_fd)
{
    const char *argv[16] = {"/usr/bin/python3", "-I"};
    size_t argc = 2;
    char driver[96], home[96];

    if (language == NODE) {
        argv[0] = "/usr/bin/node";
        argv[1] = "--experimental-vm-modules"; /* as command.c has it */
    }
    snprintf(driver, sizeof(driver), "%s/driver.%s", run->dir,
             language == NODE ? "js" : "py");
    snprintf(home, sizeof(home), "%s/home", run->dir);
    argv[argc++] = driver;
    for (size_t i = 0; run->args && run->args[i] && argc < 15; i++)
        argv[argc++] = run->args[i];
    redirect(run->dir, "out", 1);
    redirect(run->dir, "err", 2);
    if (dup2(result_fd, RESULT_FD) < 0 || chdir(home) < 0)
        _exit(121);
    close_range(0, 0, 0);
    if (open("/dev/null", O_RDONLY) != 0)
        _exit(122);
    close_range(RESULT_FD + 1, ~0U, 0);
    setenv("CAPIBOX_RESULT_FD", "3", 1);
    setenv("HOME", home, 1);
    setenv("LC_ALL", "C", 1);
    setenv("MPLCONFIGDIR", "/tmp/capibox-drivers-mpl", 1);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(RUN_SECONDS);
    execvp(argv[0], (char *const *)argv);
    _exit(123);
}

static void read_frames(struct run *run, int fd)
{
    char data[65536];
    struct frames f;
    ssize_t got;

    MUST0(frames_init(&f, &run->o));
    while ((got = read(fd, data, sizeof(data))) > 0)
        MUST0(frames_feed(&f, data, (size_t)got));
    frames_end(&f);
    frames_fini(&f);
}

static char *read_back(const struct run *run, const char *name)
{
    char path[128], *text;

    snprintf(path, sizeof(path), "%s/%s", run->dir, name);
    MUST0(io_read_file(path, OUTPUT_MAX, &text, NULL));
    return text;
}

static void parse_results(struct run *run)
{
    struct strbuf json = STRBUF_INIT;

    strbuf_addc(&json, '[');
    strbuf_add(&json, run->o.results.text, run->o.results.len);
    strbuf_addc(&json, ']');
    run->results = cJSON_Parse(json.text);
    MUST(run->results != NULL);
    strbuf_fini(&json);
}

static void run_bytes(struct run *run, int language, const char *code,
                      size_t size)
{
    int pipe_fds[2], status;
    pid_t pid;

    if (language == PYTHON) {
        copy_file("worker/runtime/python_driver.py", run->dir, "driver.py");
        copy_file("worker/runtime/python_rich.py", run->dir, "python_rich.py");
    } else {
        copy_file("worker/runtime/node_driver.js", run->dir, "driver.js");
    }
    write_file(run->dir, language == PYTHON ? "main.py" : "main.js", code,
               size);
    if (run->packages)
        write_file(run->dir, "packages.json", run->packages,
                   strlen(run->packages));
    MUST0(pipe2(pipe_fds, O_CLOEXEC));
    pid = fork();
    MUST(pid >= 0);
    if (pid == 0)
        exec_driver(run, language, pipe_fds[1]);
    close(pipe_fds[1]);
    read_frames(run, pipe_fds[0]);
    close(pipe_fds[0]);
    MUST(waitpid(pid, &status, 0) == pid);
    run->exit_code =
        WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    run->out = read_back(run, "out");
    run->err = read_back(run, "err");
    parse_results(run);
}

static void python(struct run *run, const char *code)
{
    run_bytes(run, PYTHON, code, strlen(code));
}

static void node(struct run *run, const char *code)
{
    run_bytes(run, NODE, code, strlen(code));
}

static int count(const struct run *run)
{
    return cJSON_GetArraySize(run->results);
}

static const cJSON *form(const struct run *run, int item, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(
        cJSON_GetArrayItem(run->results, item), name);
}

static const char *text_at(const struct run *run, int item, const char *name)
{
    const char *text = cJSON_GetStringValue(form(run, item, name));

    return text ? text : "(none)";
}

static bool is_main(const struct run *run, int item)
{
    return cJSON_IsTrue(form(run, item, "is_main_result"));
}

static void assert_quiet_success(const struct run *run)
{
    assert_string_equal(run->err, "");
    assert_int_equal(run->exit_code, 0);
    assert_null(run->o.error_name);
    for (size_t i = 0; i < run->o.nwarnings; i++)
        fail_msg("warning: %s", run->o.warnings[i]);
}

static void assert_error(const struct run *run, const char *name,
                         const char *value, const char *line)
{
    assert_int_equal(run->exit_code, 1);
    assert_string_equal(run->err, "");
    assert_non_null(run->o.error_name);
    assert_string_equal(run->o.error_name, name);
    assert_string_equal(run->o.error_value, value);
    if (!strstr(run->o.error_traceback, line))
        fail_msg("no %s in %s", line, run->o.error_traceback);
    if (strstr(run->o.error_traceback, "driver.") ||
        strstr(run->o.error_traceback, "python_rich"))
        fail_msg("shows the driver: %s", run->o.error_traceback);
}

/* ---- Python: results --------------------------------------------------- */

static void printing_alone_gives_no_result(void **state)
{
    python(*state, "print(6*7)");
    assert_string_equal(((struct run *)*state)->out, "42\n");
    assert_int_equal(count(*state), 0);
    assert_quiet_success(*state);
}

static void the_last_expression_is_the_main_result(void **state)
{
    python(*state, "x = 6\n'a' * 2\nx *\\\n  7  # done");
    assert_int_equal(count(*state), 1);
    assert_string_equal(TEXT_OF(*state), "42");
    assert_true(is_main(*state, 0));
    assert_quiet_success(*state);
}

static void a_semicolon_quiets_the_last_expression(void **state)
{
    python(*state, "(6*7 # ;\n) ;");
    assert_int_equal(count(*state), 0);
    assert_quiet_success(*state);
}

static void display_shows_each_object_in_its_forms(void **state)
{
    python(*state, "class A:\n"
                   "  def _repr_html_(self): return '<b>'\n"
                   "  def _repr_svg_(self): return '<svg/>', {'m': 1}\n"
                   "  def _repr_json_(self): return {'n': float('nan')}\n"
                   "  def _repr_png_(self): return b'\\x89PNG'\n"
                   "  def _repr_latex_(self): raise ValueError('no')\n"
                   "  def __repr__(self): return 'an A'\n"
                   "class B:\n"
                   "  def _repr_mimebundle_(self, include, exclude):\n"
                   "    return {'text/markdown': '#', 'x/y': [1]}\n"
                   "display(A(), B())\n'end'");
    assert_int_equal(count(*state), 3);
    assert_string_equal(TEXT_OF(*state), "an A");
    assert_string_equal(text_at(*state, 0, "html"), "<b>");
    assert_string_equal(text_at(*state, 0, "svg"), "<svg/>");
    assert_string_equal(text_at(*state, 0, "png"), "iVBORw==");
    assert_true(
        cJSON_IsNull(cJSON_GetObjectItem(form(*state, 0, "json"), "n")));
    assert_string_equal(text_at(*state, 0, "latex"), "(none)");
    assert_string_equal(text_at(*state, 1, "markdown"), "#");
    assert_non_null(cJSON_GetObjectItem(form(*state, 1, "extra"), "x/y"));
    assert_false(is_main(*state, 1));
    assert_string_equal(text_at(*state, 2, "text"), "'end'");
    assert_true(is_main(*state, 2));
    assert_int_equal(((struct run *)*state)->o.nwarnings, 1);
    assert_non_null(strstr(((struct run *)*state)->o.warnings[0],
                           "_repr_latex_ failed: ValueError: no"));
}

static void a_dataframe_has_text_html_and_columns(void **state)
{
    const cJSON *data;

    python(*state, "import pandas as pd\n"
                   "pd.DataFrame({'a': [1, None], 'b': ['x', 'y'],\n"
                   "  't': pd.to_datetime(['2020-01-02', None])})");
    assert_int_equal(count(*state), 1);
    assert_non_null(strstr(TEXT_OF(*state), "0  1.0  x"));
    assert_non_null(strstr(text_at(*state, 0, "html"), "<th>a</th>"));
    data = form(*state, 0, "data");
    assert_true(
        cJSON_GetArrayItem(cJSON_GetObjectItem(data, "a"), 0)->valuedouble ==
        1);
    assert_true(
        cJSON_IsNull(cJSON_GetArrayItem(cJSON_GetObjectItem(data, "a"), 1)));
    assert_string_equal(
        cJSON_GetArrayItem(cJSON_GetObjectItem(data, "t"), 0)->valuestring,
        "2020-01-02T00:00:00");
    assert_true(is_main(*state, 0));
    assert_quiet_success(*state);
}

static void shown_and_open_figures_each_come_once(void **state)
{
    python(*state, "import matplotlib.pyplot as plt\n"
                   "plt.plot([1, 2]); plt.savefig('f.png'); plt.show()\n"
                   "plt.show()\n"
                   "plt.figure(); plt.plot([3])\n"
                   "plt.figure()\n");
    assert_int_equal(count(*state), 3);
    for (int i = 0; i < 3; i++)
        assert_memory_equal(text_at(*state, i, "png"), "iVBORw0KGgo", 11);
    assert_false(is_main(*state, 0));
    /* The last figure() is the last expression. */
    assert_true(is_main(*state, 1));
    assert_non_null(strstr(text_at(*state, 2, "text"), "with 1 Axes"));
    assert_quiet_success(*state);
}

static void ten_thousand_shows_are_capped(void **state)
{
    const struct run *run = *state;

    python(*state, "import matplotlib.pyplot as plt\n"
                   "fig = plt.figure(figsize=(.2, .2))\n"
                   "for i in range(10000):\n"
                   "  plt._pylab_helpers.Gcf.figs.clear()\n"
                   "  plt.figure(1, figsize=(.2, .2)); plt.show()\n");
    assert_int_equal(count(run), RESULT_ITEMS_MAX);
    assert_int_equal(run->exit_code, 0);
    assert_int_equal(run->o.nwarnings, 1);
    assert_non_null(strstr(run->o.warnings[0], "9744 results were left out"));
}

static void a_giant_figure_is_a_warning(void **state)
{
    const struct run *run = *state;

    python(*state, "import matplotlib.pyplot as plt\n"
                   "plt.figure(figsize=(500, 500), dpi=100)\nplt.show()");
    assert_int_equal(run->exit_code, 0);
    assert_string_equal(text_at(run, 0, "png"), "(none)");
    assert_non_null(strstr(run->o.warnings[0], "50000 x 50000 pixels"));
}

static void results_past_the_bytes_lose_their_largest_forms(void **state)
{
    const struct run *run = *state;

    python(*state, "class H:\n"
                   "  def _repr_html_(self): return 'x' * (9 << 20)\n"
                   "  def __repr__(self): return 'H'\n"
                   "display(H(), H())\n'y' * (3 << 20)");
    assert_int_equal(count(run), 3);
    assert_string_equal(text_at(run, 1, "text"), "H");
    assert_string_equal(text_at(run, 1, "html"), "(none)");
    assert_true(strlen(text_at(run, 2, "text")) <= 1 << 20);
    assert_true(run->o.results.len <= RESULT_BYTES_MAX);
    assert_int_equal(run->o.nwarnings, 2);
}

static void pictures_and_notebook_objects_are_shown(void **state)
{
    python(*state, "from PIL import Image\n"
                   "from IPython.display import display, HTML\n"
                   "display(HTML('<i>'))\n"
                   "Image.new('RGB', (2, 2))");
    assert_int_equal(count(*state), 2);
    assert_string_equal(text_at(*state, 0, "html"), "<i>");
    assert_memory_equal(text_at(*state, 1, "png"), "iVBORw0KGgo", 11);
    assert_quiet_success(*state);
}

/* ---- Python: ends ------------------------------------------------------ */

static void an_error_shows_the_lines_of_the_code(void **state)
{
    python(*state, "def f(x):\n  return 1 / x\nprint('before')\nf(0)\n");
    assert_error(*state, "ZeroDivisionError", "division by zero",
                 "File \"main.py\", line 2, in f\n    return 1 / x\n");
    assert_string_equal(((struct run *)*state)->out, "before\n");
}

static void a_syntax_error_shows_its_line(void **state)
{
    python(*state, "x = 1\ny = (2,\n");
    assert_error(*state, "SyntaxError",
                 "'(' was never closed (main.py, line 2)",
                 "File \"main.py\", line 2\n    y = (2,\n");
}

static void an_open_figure_survives_an_error(void **state)
{
    python(*state, "import matplotlib.pyplot as plt\nplt.plot([1])\n1/0");
    assert_int_equal(count(*state), 1);
    assert_error(*state, "ZeroDivisionError", "division by zero", "line 3");
}

static void chained_errors_and_any_exception_are_reported(void **state)
{
    python(*state, "class B(BaseException): pass\n"
                   "try:\n  {}['k']\nexcept KeyError as e:\n"
                   "  raise B('b') from e");
    assert_error(*state, "B", "b", "KeyError: 'k'\n\nThe above exception");
}

static void a_failing_error_text_is_still_an_error(void **state)
{
    python(*state, "class E(Exception):\n"
                   "  def __str__(self): raise SystemExit(0)\n"
                   "raise E");
    assert_int_equal(((struct run *)*state)->exit_code, 1);
    assert_string_equal(((struct run *)*state)->o.error_name, "E");
}

static void exit_codes_are_kept(void **state)
{
    static const struct {
        const char *code;
        int exit_code;
        const char *error, *err;
    } cases[] = {
        {"import sys; sys.exit()", 0, NULL, ""},
        {"raise SystemExit(0)", 0, NULL, ""},
        {"import sys; sys.exit(3)", 3, "SystemExit", ""},
        {"import sys; sys.exit('bye')", 1, "SystemExit", "bye\n"},
        {"exit(True)", 1, "SystemExit", ""},
        {"import os; os._exit(7)", 7, NULL, ""},
        {"raise KeyboardInterrupt", 1, "KeyboardInterrupt", ""},
        {"import os; os.abort()", -SIGABRT, NULL, ""},
        {"import os; os.kill(os.getpid(), 9)", -SIGKILL, NULL, ""},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        void *own;
        struct run *run;

        setup(&own);
        run = own;
        python(run, cases[i].code);
        assert_int_equal(run->exit_code, cases[i].exit_code);
        assert_string_equal(run->err, cases[i].err);
        assert_string_equal(run->o.error_name ? run->o.error_name : "none",
                            cases[i].error ? cases[i].error : "none");
        teardown(&own);
    }
    (void)state;
}

static void a_missing_package_is_named_with_who_has_it(void **state)
{
    ((struct run *)*state)->packages =
        "{\"missing_hint\":{\"nosuchpkg\":\"It is in: x.\"}}";
    python(*state, "import nosuchpkg.sub");
    assert_error(*state, "ModuleNotFoundError",
                 "No module named 'nosuchpkg'. It is in: x.", "line 1");
}

/* ---- Python: surroundings ---------------------------------------------- */

static void code_sees_a_script_of_its_own(void **state)
{
    static const char *const args[] = {"-x", "b c", NULL};

    ((struct run *)*state)->args = args;
    python(*state, "import sys, os\n"
                   "if __name__ == '__main__':\n"
                   "  print(sys.argv, os.path.basename(__file__))\n"
                   "print([k for k in os.environ if 'CAPIBOX' in k])\n"
                   "print(sorted(k for k in globals() if k[0] != '_'))\n"
                   "print(repr(sys.stdin.read()))\n"
                   "import inspect, pickle\n"
                   "def f(): return 1\n"
                   "print(inspect.getsource(f), pickle.loads("
                   "pickle.dumps(f)) is f)");
    assert_string_equal(((struct run *)*state)->out,
                        "['main.py', '-x', 'b c'] main.py\n[]\n['os', 'sys']\n"
                        "''\ndef f(): return 1\n True\n");
    assert_quiet_success(*state);
}

static void await_works_at_the_top_level(void **state)
{
    python(*state, "import asyncio\n"
                   "async def f(): await asyncio.sleep(0); return 5\n"
                   "print(asyncio.run(f()))\n"
                   "await f()\n");
    assert_string_equal(((struct run *)*state)->out, "5\n");
    assert_string_equal(TEXT_OF(*state), "5");
    assert_quiet_success(*state);
}

static void children_of_any_start_method_report_nothing(void **state)
{
    python(*state, "import multiprocessing as mp\n"
                   "def f(x): display(x); return x * x\n"
                   "display('main')\n"
                   "if __name__ == '__main__':\n"
                   "  for how in 'fork', 'spawn':\n"
                   "    with mp.get_context(how).Pool(2) as pool:\n"
                   "      print(pool.map(f, [1, 2, 3]))\n");
    assert_string_equal(((struct run *)*state)->out, "[1, 4, 9]\n[1, 4, 9]\n");
    assert_int_equal(count(*state), 1);
    assert_quiet_success(*state);
}

static void a_forked_child_that_runs_to_the_end_reports_nothing(void **state)
{
    /* The second behind Python's back. */
    python(*state, "import os, ctypes\n"
                   "for fork in os.fork, ctypes.CDLL(None).fork:\n"
                   "  pid = fork()\n"
                   "  if pid: os.waitpid(pid, 0)\n"
                   "  else: break\n"
                   "display('d')\n"
                   "'last'");
    assert_int_equal(count(*state), 2);
    assert_quiet_success(*state);
}

static void threads_and_exit_handlers_run_as_ever(void **state)
{
    python(*state, "import atexit, threading, time\n"
                   "atexit.register(print, 'exit')\n"
                   "def t(): time.sleep(.2); print('thread')\n"
                   "threading.Thread(target=t).start()\n"
                   "print('main')");
    assert_string_equal(((struct run *)*state)->out, "main\nthread\nexit\n");
    assert_quiet_success(*state);
}

static void odd_text_is_printed_and_returned(void **state)
{
    python(*state, "\xef\xbb\xbf# -*- coding: xyz -*-\n"
                   "print('\xc3\xa9\xf0\x9f\x98\x80', '\\ud800')\n"
                   "'\\ud800\\0\\u2028\xc3\xa9'");
    assert_string_equal(((struct run *)*state)->out,
                        "\xc3\xa9\xf0\x9f\x98\x80 \\ud800\n");
    assert_string_equal(TEXT_OF(*state), "'\\ud800\\x00\\u2028\xc3\xa9'");
    assert_quiet_success(*state);
}

static void half_a_line_is_out_before_a_kill(void **state)
{
    struct run *run = *state;

    python(run, "import os, sys\nprint('half', end='')\n"
                "print('also', end='', file=sys.stderr)\n"
                "os.kill(os.getpid(), 9)\n");
    assert_int_equal(run->exit_code, -9);
    assert_string_equal(run->out, "half");
    assert_string_equal(run->err, "also");
}

static void code_that_cannot_be_compiled_is_an_error_of_its_own(void **state)
{
    static const struct {
        const char *code;
        size_t size;
    } cases[] = {
        {"a\0b", 3},
        {"print('\xff')", 10},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        void *own;
        struct run *run;

        setup(&own);
        run = own;
        run_bytes(run, PYTHON, cases[i].code, cases[i].size);
        assert_int_equal(run->exit_code, 1);
        assert_non_null(run->o.error_name);
        assert_string_equal(run->err, "");
        teardown(&own);
    }
    (void)state;
}

static void deeply_nested_code_is_an_error_of_its_own(void **state)
{
    AUTO_FREE char *code = malloc(100001);

    MUST(code != NULL);
    memset(code, '(', 100000);
    code[100000] = '\0';
    python(*state, code);
    assert_int_equal(((struct run *)*state)->exit_code, 1);
    assert_string_equal(((struct run *)*state)->o.error_name, "SyntaxError");
}

static void tampering_loses_no_more_than_the_own_results(void **state)
{
    static const char *const codes[] = {
        "import sys; sys.stdout = sys.stderr = None; 6",
        "import json; json.dumps = json.loads = None; 6",
        "import builtins; del builtins.print, builtins.display; 6",
        "import sys; sys.displayhook = sys.exit = None; 6",
        "import os; os.write(3, b'R\\xff\\xff\\xff\\xff'); 6",
        "import os; os.close(3); f = open('f', 'w'); 6",
        "import os; os.closerange(0, 100); 6",
        "import gc\nfor o in gc.get_objects():\n"
        "  if type(o).__name__ == 'Rich': o.result_fd = 1\n6",
        "import sys; sys.modules.clear(); 6",
    };

    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        void *own;
        struct run *run;

        setup(&own);
        run = own;
        python(run, codes[i]);
        if (run->exit_code != 0 || count(run) > 1)
            fail_msg("%s: exit code %d, %d results, %s", codes[i],
                     run->exit_code, count(run), run->err);
        teardown(&own);
    }
    (void)state;
}

static void a_file_on_the_pipes_old_number_is_not_written_to(void **state)
{
    python(*state, "import os\nos.close(3)\nf = open('f', 'w')\n"
                   "display(1)\nprint(f.fileno(), os.path.getsize('f'))");
    assert_string_equal(((struct run *)*state)->out, "3 0\n");
    assert_quiet_success(*state);
}

static void programs_started_by_code_do_not_get_the_pipe(void **state)
{
    python(*state, "import subprocess\n"
                   "print(subprocess.run(['sh', '-c', 'test -e /proc/self/fd/3'"
                   "], close_fds=False).returncode)");
    assert_string_equal(((struct run *)*state)->out, "1\n");
}

static void the_drivers_bounds_are_those_of_the_reader(void **state)
{
    AUTO_FREE char *text = NULL;
    char line[64];

    MUST0(
        io_read_file("worker/runtime/python_rich.py", OUTPUT_MAX, &text, NULL));
    snprintf(line, sizeof(line), "\nRESULT_ITEMS_MAX = %d\n", RESULT_ITEMS_MAX);
    assert_non_null(strstr(text, line));
    snprintf(line, sizeof(line), "\nRESULT_BYTES_MAX = %u << 20\n",
             RESULT_BYTES_MAX >> 20);
    assert_non_null(strstr(text, line));
    snprintf(line, sizeof(line), "\nERROR_TEXT_MAX = %d\n", ERROR_TEXT_MAX);
    assert_non_null(strstr(text, line));
    snprintf(line, sizeof(line), "\nTRACEBACK_BYTES_MAX = %u << 10\n",
             TRACEBACK_BYTES_MAX >> 10);
    assert_non_null(strstr(text, line));
    (void)state;
}

/* ---- JavaScript -------------------------------------------------------- */

static void javascript_has_its_last_value_and_nodes_names(void **state)
{
    static const char *const args[] = {"a", NULL};

    ((struct run *)*state)->args = args;
    node(*state, "const path = require('path')\n"
                 "if (require.main === module)\n"
                 "  console.log(path.basename(__filename), process.argv[2])\n"
                 "const x = {a: 1}\nx");
    assert_string_equal(((struct run *)*state)->out, "main.js a\n");
    assert_string_equal(TEXT_OF(*state), "{ a: 1 }");
    assert_true(is_main(*state, 0));
    assert_quiet_success(*state);
}

static void javascript_awaits_at_the_top_level(void **state)
{
    node(*state, "const p = await Promise.resolve(20);\n"
                 "const {sep} = await import('path');\n"
                 "[p,\n p + 1].map(\n  x => x * 2)\n");
    assert_string_equal(TEXT_OF(*state), "[ 40, 42 ]");
    assert_quiet_success(*state);
}

static void javascript_errors_show_the_lines_of_the_code(void **state)
{
    static const struct {
        const char *code, *name, *value, *line;
    } cases[] = {
        {"let a\nfunction f() { throw new TypeError('no') }\nf()", "TypeError",
         "no", "at f (main.js:2:22)"},
        {"\nlet x = ;", "SyntaxError", "Unexpected token ';'", "main.js:2"},
        {"setTimeout(() => { throw new Error('late') }, 1)", "Error", "late",
         "main.js:1:26"},
        {"Promise.reject(new RangeError('rej'))", "RangeError", "rej",
         "main.js:1"},
        {"await 1\nthrow new Error('top')", "Error", "top", "main.js:2:7"},
        {"throw 5", "Error", "5", "Uncaught 5"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        void *own;

        setup(&own);
        node(own, cases[i].code);
        assert_error(own, cases[i].name, cases[i].value, cases[i].line);
        teardown(&own);
    }
    (void)state;
}

static void javascript_exit_codes_are_kept(void **state)
{
    node(*state, "console.log('x'); process.exitCode = 4; setTimeout(() => 0)");
    assert_int_equal(((struct run *)*state)->exit_code, 4);
    assert_null(((struct run *)*state)->o.error_name);
    assert_int_equal(count(*state), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(printing_alone_gives_no_result),
        T(the_last_expression_is_the_main_result),
        T(a_semicolon_quiets_the_last_expression),
        T(display_shows_each_object_in_its_forms),
        T(a_dataframe_has_text_html_and_columns),
        T(shown_and_open_figures_each_come_once),
        T(ten_thousand_shows_are_capped),
        T(a_giant_figure_is_a_warning),
        T(results_past_the_bytes_lose_their_largest_forms),
        T(pictures_and_notebook_objects_are_shown),
        T(an_error_shows_the_lines_of_the_code),
        T(a_syntax_error_shows_its_line),
        T(an_open_figure_survives_an_error),
        T(chained_errors_and_any_exception_are_reported),
        T(a_failing_error_text_is_still_an_error),
        T(exit_codes_are_kept),
        T(a_missing_package_is_named_with_who_has_it),
        T(code_sees_a_script_of_its_own),
        T(await_works_at_the_top_level),
        T(children_of_any_start_method_report_nothing),
        T(a_forked_child_that_runs_to_the_end_reports_nothing),
        T(threads_and_exit_handlers_run_as_ever),
        T(odd_text_is_printed_and_returned),
        T(half_a_line_is_out_before_a_kill),
        T(code_that_cannot_be_compiled_is_an_error_of_its_own),
        T(deeply_nested_code_is_an_error_of_its_own),
        T(tampering_loses_no_more_than_the_own_results),
        T(a_file_on_the_pipes_old_number_is_not_written_to),
        T(programs_started_by_code_do_not_get_the_pipe),
        T(the_drivers_bounds_are_those_of_the_reader),
        T(javascript_has_its_last_value_and_nodes_names),
        T(javascript_awaits_at_the_top_level),
        T(javascript_errors_show_the_lines_of_the_code),
        T(javascript_exit_codes_are_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
