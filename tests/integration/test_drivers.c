/* tests/integration/test_drivers.c -- the language drivers as plain child
 * processes, read through the real frame reader. */
#include "tests/support/cmocka_all.h"

#include <cjson/cJSON.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/io.h"
#include "common/must.h"
#include "common/outcome.h"
#include "common/scope.h"
#include "tests/support/drive.h"

/* ---- Python: results --------------------------------------------------- */

static void printing_alone_gives_no_result(void **state)
{
    drive_python(*state, "print(6*7)");
    assert_string_equal(((struct drive *)*state)->out, "42\n");
    assert_int_equal(drive_count(*state), 0);
    drive_assert_quiet_success(*state);
}

static void the_last_expression_is_the_main_result(void **state)
{
    drive_python(*state, "x = 6\n'a' * 2\nx *\\\n  7  # done");
    assert_int_equal(drive_count(*state), 1);
    assert_string_equal(drive_text(*state, 0, "text"), "42");
    assert_true(drive_is_main(*state, 0));
    drive_assert_quiet_success(*state);
}

static void a_semicolon_quiets_the_last_expression(void **state)
{
    drive_python(*state, "(6*7 # ;\n) ;");
    assert_int_equal(drive_count(*state), 0);
    drive_assert_quiet_success(*state);
}

static void display_shows_each_object_in_its_forms(void **state)
{
    drive_python(*state, "class A:\n"
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
    assert_int_equal(drive_count(*state), 3);
    assert_string_equal(drive_text(*state, 0, "text"), "an A");
    assert_string_equal(drive_text(*state, 0, "html"), "<b>");
    assert_string_equal(drive_text(*state, 0, "svg"), "<svg/>");
    assert_string_equal(drive_text(*state, 0, "png"), "iVBORw==");
    assert_true(
        cJSON_IsNull(cJSON_GetObjectItem(drive_form(*state, 0, "json"), "n")));
    assert_string_equal(drive_text(*state, 0, "latex"), "(none)");
    assert_string_equal(drive_text(*state, 1, "markdown"), "#");
    assert_non_null(cJSON_GetObjectItem(drive_form(*state, 1, "extra"), "x/y"));
    assert_false(drive_is_main(*state, 1));
    assert_string_equal(drive_text(*state, 2, "text"), "'end'");
    assert_true(drive_is_main(*state, 2));
    assert_int_equal(((struct drive *)*state)->o.nwarnings, 1);
    assert_non_null(strstr(((struct drive *)*state)->o.warnings[0],
                           "_repr_latex_ failed: ValueError: no"));
}

static void a_dataframe_has_text_html_and_columns(void **state)
{
    const cJSON *data;

    drive_python(*state, "import pandas as pd\n"
                         "pd.DataFrame({'a': [1, None], 'b': ['x', 'y'],\n"
                         "  't': pd.to_datetime(['2020-01-02', None])})");
    assert_int_equal(drive_count(*state), 1);
    assert_non_null(strstr(drive_text(*state, 0, "text"), "0  1.0  x"));
    assert_non_null(strstr(drive_text(*state, 0, "html"), "<th>a</th>"));
    data = drive_form(*state, 0, "data");
    assert_true(
        cJSON_GetArrayItem(cJSON_GetObjectItem(data, "a"), 0)->valuedouble ==
        1);
    assert_true(
        cJSON_IsNull(cJSON_GetArrayItem(cJSON_GetObjectItem(data, "a"), 1)));
    assert_string_equal(
        cJSON_GetArrayItem(cJSON_GetObjectItem(data, "t"), 0)->valuestring,
        "2020-01-02T00:00:00");
    assert_true(drive_is_main(*state, 0));
    drive_assert_quiet_success(*state);
}

static void shown_and_open_figures_each_come_once(void **state)
{
    drive_python(*state, "import matplotlib.pyplot as plt\n"
                         "plt.plot([1, 2]); plt.savefig('f.png'); plt.show()\n"
                         "plt.show()\n"
                         "plt.figure(); plt.plot([3])\n"
                         "plt.figure()\n");
    assert_int_equal(drive_count(*state), 3);
    for (int i = 0; i < 3; i++)
        assert_memory_equal(drive_text(*state, i, "png"), "iVBORw0KGgo", 11);
    assert_false(drive_is_main(*state, 0));
    /* The last figure() is the last expression. */
    assert_true(drive_is_main(*state, 1));
    assert_non_null(strstr(drive_text(*state, 2, "text"), "with 1 Axes"));
    drive_assert_quiet_success(*state);
}

static void ten_thousand_shows_are_capped(void **state)
{
    const struct drive *run = *state;

    drive_python(*state, "import matplotlib.pyplot as plt\n"
                         "fig = plt.figure(figsize=(.2, .2))\n"
                         "for i in range(10000):\n"
                         "  plt._pylab_helpers.Gcf.figs.clear()\n"
                         "  plt.figure(1, figsize=(.2, .2)); plt.show()\n");
    assert_int_equal(drive_count(run), RESULT_ITEMS_MAX);
    assert_int_equal(run->exit_code, 0);
    assert_int_equal(run->o.nwarnings, 1);
    assert_non_null(strstr(run->o.warnings[0], "9744 results were left out"));
}

static void a_giant_figure_is_a_warning(void **state)
{
    const struct drive *run = *state;

    drive_python(*state, "import matplotlib.pyplot as plt\n"
                         "plt.figure(figsize=(500, 500), dpi=100)\nplt.show()");
    assert_int_equal(run->exit_code, 0);
    assert_string_equal(drive_text(run, 0, "png"), "(none)");
    assert_non_null(strstr(run->o.warnings[0], "50000 x 50000 pixels"));
}

static void results_past_the_bytes_lose_their_largest_forms(void **state)
{
    const struct drive *run = *state;

    drive_python(*state, "class H:\n"
                         "  def _repr_html_(self): return 'x' * (9 << 20)\n"
                         "  def __repr__(self): return 'H'\n"
                         "display(H(), H())\n'y' * (3 << 20)");
    assert_int_equal(drive_count(run), 3);
    assert_string_equal(drive_text(run, 1, "text"), "H");
    assert_string_equal(drive_text(run, 1, "html"), "(none)");
    assert_true(strlen(drive_text(run, 2, "text")) <= 1 << 20);
    assert_true(run->o.results.len <= RESULT_BYTES_MAX);
    assert_int_equal(run->o.nwarnings, 2);
}

static void pictures_and_notebook_objects_are_shown(void **state)
{
    drive_python(*state, "from PIL import Image\n"
                         "from IPython.display import display, HTML\n"
                         "display(HTML('<i>'))\n"
                         "Image.new('RGB', (2, 2))");
    assert_int_equal(drive_count(*state), 2);
    assert_string_equal(drive_text(*state, 0, "html"), "<i>");
    assert_memory_equal(drive_text(*state, 1, "png"), "iVBORw0KGgo", 11);
    drive_assert_quiet_success(*state);
}

/* ---- Python: ends ------------------------------------------------------ */

static void an_error_shows_the_lines_of_the_code(void **state)
{
    drive_python(*state, "def f(x):\n  return 1 / x\nprint('before')\nf(0)\n");
    drive_assert_error(*state, "ZeroDivisionError", "division by zero",
                       "File \"main.py\", line 2, in f\n    return 1 / x\n");
    assert_string_equal(((struct drive *)*state)->out, "before\n");
}

static void a_syntax_error_shows_its_line(void **state)
{
    drive_python(*state, "x = 1\ny = (2,\n");
    drive_assert_error(*state, "SyntaxError",
                       "'(' was never closed (main.py, line 2)",
                       "File \"main.py\", line 2\n    y = (2,\n");
}

static void an_open_figure_survives_an_error(void **state)
{
    drive_python(*state, "import matplotlib.pyplot as plt\nplt.plot([1])\n1/0");
    assert_int_equal(drive_count(*state), 1);
    drive_assert_error(*state, "ZeroDivisionError", "division by zero",
                       "line 3");
}

static void chained_errors_and_any_exception_are_reported(void **state)
{
    drive_python(*state, "class B(BaseException): pass\n"
                         "try:\n  {}['k']\nexcept KeyError as e:\n"
                         "  raise B('b') from e");
    drive_assert_error(*state, "B", "b",
                       "KeyError: 'k'\n\nThe above exception");
}

static void a_failing_error_text_is_still_an_error(void **state)
{
    drive_python(*state, "class E(Exception):\n"
                         "  def __str__(self): raise SystemExit(0)\n"
                         "raise E");
    assert_int_equal(((struct drive *)*state)->exit_code, 1);
    assert_string_equal(((struct drive *)*state)->o.error_name, "E");
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
        struct drive *run;

        drive_setup(&own);
        run = own;
        drive_python(run, cases[i].code);
        assert_int_equal(run->exit_code, cases[i].exit_code);
        assert_string_equal(run->err, cases[i].err);
        assert_string_equal(run->o.error_name ? run->o.error_name : "none",
                            cases[i].error ? cases[i].error : "none");
        drive_teardown(&own);
    }
    (void)state;
}

static void a_missing_package_is_named_with_who_has_it(void **state)
{
    ((struct drive *)*state)->packages =
        "{\"missing_hint\":{\"nosuchpkg\":\"It is in: x.\"}}";
    drive_python(*state, "import nosuchpkg.sub");
    drive_assert_error(*state, "ModuleNotFoundError",
                       "No module named 'nosuchpkg'. It is in: x.", "line 1");
}

/* ---- Python: surroundings ---------------------------------------------- */

static void code_sees_a_script_of_its_own(void **state)
{
    static const char *const args[] = {"-x", "b c", NULL};

    ((struct drive *)*state)->args = args;
    drive_python(*state, "import sys, os\n"
                         "if __name__ == '__main__':\n"
                         "  print(sys.argv, os.path.basename(__file__))\n"
                         "print([k for k in os.environ if 'CAPIBOX' in k])\n"
                         "print(sorted(k for k in globals() if k[0] != '_'))\n"
                         "print(repr(sys.stdin.read()))\n"
                         "import inspect, pickle\n"
                         "def f(): return 1\n"
                         "print(inspect.getsource(f), pickle.loads("
                         "pickle.dumps(f)) is f)");
    assert_string_equal(((struct drive *)*state)->out,
                        "['main.py', '-x', 'b c'] main.py\n[]\n['os', 'sys']\n"
                        "''\ndef f(): return 1\n True\n");
    drive_assert_quiet_success(*state);
}

static void await_works_at_the_top_level(void **state)
{
    drive_python(*state, "import asyncio\n"
                         "async def f(): await asyncio.sleep(0); return 5\n"
                         "print(asyncio.run(f()))\n"
                         "await f()\n");
    assert_string_equal(((struct drive *)*state)->out, "5\n");
    assert_string_equal(drive_text(*state, 0, "text"), "5");
    drive_assert_quiet_success(*state);
}

static void children_of_any_start_method_report_nothing(void **state)
{
    drive_python(*state, "import multiprocessing as mp\n"
                         "def f(x): display(x); return x * x\n"
                         "display('main')\n"
                         "if __name__ == '__main__':\n"
                         "  for how in 'fork', 'spawn':\n"
                         "    with mp.get_context(how).Pool(2) as pool:\n"
                         "      print(pool.map(f, [1, 2, 3]))\n");
    assert_string_equal(((struct drive *)*state)->out,
                        "[1, 4, 9]\n[1, 4, 9]\n");
    assert_int_equal(drive_count(*state), 1);
    drive_assert_quiet_success(*state);
}

static void a_forked_child_that_runs_to_the_end_reports_nothing(void **state)
{
    /* The second behind Python's back. */
    drive_python(*state, "import os, ctypes\n"
                         "for fork in os.fork, ctypes.CDLL(None).fork:\n"
                         "  pid = fork()\n"
                         "  if pid: os.waitpid(pid, 0)\n"
                         "  else: break\n"
                         "display('d')\n"
                         "'last'");
    assert_int_equal(drive_count(*state), 2);
    drive_assert_quiet_success(*state);
}

static void threads_and_exit_handlers_run_as_ever(void **state)
{
    drive_python(*state, "import atexit, threading, time\n"
                         "atexit.register(print, 'exit')\n"
                         "def t(): time.sleep(.2); print('thread')\n"
                         "threading.Thread(target=t).start()\n"
                         "print('main')");
    assert_string_equal(((struct drive *)*state)->out, "main\nthread\nexit\n");
    drive_assert_quiet_success(*state);
}

static void odd_text_is_printed_and_returned(void **state)
{
    drive_python(*state, "\xef\xbb\xbf# -*- coding: xyz -*-\n"
                         "print('\xc3\xa9\xf0\x9f\x98\x80', '\\ud800')\n"
                         "'\\ud800\\0\\u2028\xc3\xa9'");
    assert_string_equal(((struct drive *)*state)->out,
                        "\xc3\xa9\xf0\x9f\x98\x80 \\ud800\n");
    assert_string_equal(drive_text(*state, 0, "text"),
                        "'\\ud800\\x00\\u2028\xc3\xa9'");
    drive_assert_quiet_success(*state);
}

static void half_a_line_is_out_before_a_kill(void **state)
{
    struct drive *run = *state;

    drive_python(run, "import os, sys\nprint('half', end='')\n"
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
        struct drive *run;

        drive_setup(&own);
        run = own;
        drive_bytes(run, LANGUAGE_PYTHON, cases[i].code, cases[i].size);
        assert_int_equal(run->exit_code, 1);
        assert_non_null(run->o.error_name);
        assert_string_equal(run->err, "");
        drive_teardown(&own);
    }
    (void)state;
}

static void deeply_nested_code_is_an_error_of_its_own(void **state)
{
    AUTO_FREE char *code = malloc(100001);

    MUST(code != NULL);
    memset(code, '(', 100000);
    code[100000] = '\0';
    drive_python(*state, code);
    assert_int_equal(((struct drive *)*state)->exit_code, 1);
    assert_string_equal(((struct drive *)*state)->o.error_name, "SyntaxError");
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
        struct drive *run;

        drive_setup(&own);
        run = own;
        drive_python(run, codes[i]);
        if (run->exit_code != 0 || drive_count(run) > 1)
            fail_msg("%s: exit code %d, %d results, %s", codes[i],
                     run->exit_code, drive_count(run), run->err);
        drive_teardown(&own);
    }
    (void)state;
}

static void a_file_on_the_pipes_old_number_is_not_written_to(void **state)
{
    drive_python(*state, "import os\nos.close(3)\nf = open('f', 'w')\n"
                         "display(1)\nprint(f.fileno(), os.path.getsize('f'))");
    assert_string_equal(((struct drive *)*state)->out, "3 0\n");
    drive_assert_quiet_success(*state);
}

static void programs_started_by_code_do_not_get_the_pipe(void **state)
{
    drive_python(*state,
                 "import subprocess\n"
                 "print(subprocess.run(['sh', '-c', 'test -e /proc/self/fd/3'"
                 "], close_fds=False).returncode)");
    assert_string_equal(((struct drive *)*state)->out, "1\n");
}

static void the_drivers_bounds_are_those_of_the_reader(void **state)
{
    AUTO_FREE char *text = NULL;
    char line[64];

    MUST0(io_read_file("worker/runtime/python_rich.py", DRIVE_OUTPUT_MAX, &text,
                       NULL));
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

    ((struct drive *)*state)->args = args;
    drive_node(*state,
               "const path = require('path')\n"
               "if (require.main === module)\n"
               "  console.log(path.basename(__filename), process.argv[2])\n"
               "const x = {a: 1}\nx");
    assert_string_equal(((struct drive *)*state)->out, "main.js a\n");
    assert_string_equal(drive_text(*state, 0, "text"), "{ a: 1 }");
    assert_true(drive_is_main(*state, 0));
    drive_assert_quiet_success(*state);
}

static void javascript_awaits_at_the_top_level(void **state)
{
    drive_node(*state, "const p = await Promise.resolve(20);\n"
                       "const {sep} = await import('path');\n"
                       "[p,\n p + 1].map(\n  x => x * 2)\n");
    assert_string_equal(drive_text(*state, 0, "text"), "[ 40, 42 ]");
    drive_assert_quiet_success(*state);
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

        drive_setup(&own);
        drive_node(own, cases[i].code);
        drive_assert_error(own, cases[i].name, cases[i].value, cases[i].line);
        drive_teardown(&own);
    }
    (void)state;
}

static void javascript_exit_codes_are_kept(void **state)
{
    drive_node(*state,
               "console.log('x'); process.exitCode = 4; setTimeout(() => 0)");
    assert_int_equal(((struct drive *)*state)->exit_code, 4);
    assert_null(((struct drive *)*state)->o.error_name);
    assert_int_equal(drive_count(*state), 0);
}

/* As node does: exit 13, and here the reason in words. */
static void javascript_that_waits_for_nothing_has_not_ended_well(void **state)
{
    static const char *const codes[] = {
        "console.log('x')\nawait new Promise(() => {})\nconsole.log('y')",
        "import fs from 'fs'\nawait new Promise(() => {})",
    };
    static const char *const well[] = {
        "setTimeout(() => process.exit(0), 1); await new Promise(() => {})",
        "const later = new Promise(() => {}); later",
        "await new Promise((done) => setTimeout(done, 5)); undefined",
    };
    void *own;

    (void)state;
    for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++) {
        drive_setup(&own);
        drive_node(own, codes[i]);
        assert_int_equal(((struct drive *)own)->exit_code, 13);
        assert_string_equal(((struct drive *)own)->out, i == 0 ? "x\n" : "");
        assert_non_null(strstr(((struct drive *)own)->o.error_value,
                               "while a top-level await was waiting"));
        drive_teardown(&own);
    }
    for (size_t i = 0; i < sizeof(well) / sizeof(*well); i++) {
        drive_setup(&own);
        drive_node(own, well[i]);
        drive_assert_quiet_success(own);
        drive_teardown(&own);
    }
}

#define T(name) \
    cmocka_unit_test_setup_teardown(name, drive_setup, drive_teardown)

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
        T(javascript_that_waits_for_nothing_has_not_ended_well),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
