/* tests/integration/test_rich_results.c -- what the drivers make of plots,
 * pictures, tables, notebook objects and errors, with the real libraries. */
#include "tests/support/cmocka_all.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/must.h"
#include "common/outcome.h"
#include "common/scope.h"
#include "tests/support/drive.h"
#include "tests/support/proc.h"

#define PLT "import matplotlib.pyplot as plt\n"

/* A form of the first result as JSON, to be freed; "null" if it is not there.
 */
static char *printed(const struct drive *run, const char *name)
{
    const cJSON *form = drive_form(run, 0, name);
    char *text = form ? cJSON_PrintUnformatted(form) : strdup("null");

    MUST(text != NULL);
    return text;
}

/* The plot this code draws has this chart and a picture. */
static void expect_chart(const char *code, const char *chart)
{
    void *own;
    struct drive *run;
    AUTO_FREE char *text = NULL;

    drive_setup(&own);
    run = own;
    drive_python(run, code);
    drive_assert_quiet_success(run);
    assert_int_equal(drive_count(run), 1);
    assert_memory_equal(drive_text(run, 0, "png"), "iVBORw0KGgo", 11);
    text = printed(run, "chart");
    assert_string_equal(text, chart);
    drive_teardown(&own);
}

static void expect_part(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("no %s in %s", part, text);
}

static bool has_extra(const struct drive *run, int item, const char *mime)
{
    return cJSON_HasObjectItem(drive_form(run, item, "extra"), mime);
}

/* A host may be without some of the libraries. */
static bool lacks_library(const struct drive *run)
{
    if (!run->o.error_name ||
        strcmp(run->o.error_name, "ModuleNotFoundError") != 0)
        return false;
    print_message("SKIP: %s\n", run->o.error_value);
    return true;
}

/* ---- charts ------------------------------------------------------------ */

static void a_line_plot_has_a_chart_with_axes_units_and_points(void **state)
{
    expect_chart(
        PLT "plt.plot([1, 2, 3], [10, 100, 1000], label='named')\n"
            "plt.plot([1, 2, 3], [1, float('nan'), 3])\n"
            "plt.axhline(5)\n"
            "plt.errorbar([1, 2], [8, 9], yerr=1, capsize=2, label='e')\n"
            "plt.title('T'); plt.xlabel('time (s)'); plt.ylabel('v [m/s]')\n"
            "plt.yscale('log')\n"
            "plt.xticks([1, 2.5]); plt.yticks([1, 10], ['one', 'ten'])\n"
            "plt.text(1, 1, 'a text'); plt.legend(); plt.show()",
        "{\"type\":\"line\",\"title\":\"T\",\"elements\":["
        "{\"label\":\"named\",\"points\":[[1,10],[2,100],[3,1000]]},"
        "{\"label\":\"Line 1\",\"points\":[[1,1],[2,null],[3,3]]},"
        "{\"label\":\"e\",\"points\":[[1,8],[2,9]]}],"
        "\"x_label\":\"time (s)\",\"y_label\":\"v [m/s]\","
        "\"x_unit\":\"s\",\"y_unit\":\"m/s\","
        "\"x_ticks\":[1,2.5],\"x_tick_labels\":[\"1.0\",\"2.5\"],"
        "\"x_scale\":\"linear\","
        "\"y_ticks\":[1,10],\"y_tick_labels\":[\"one\",\"ten\"],"
        "\"y_scale\":\"log\"}");
    (void)state;
}

static void a_scatter_plot_has_a_chart_of_its_points(void **state)
{
    expect_chart(PLT "plt.scatter(['a', 'b'], [3, float('nan')], label='s')\n"
                     "plt.axvline(1); plt.yticks([3]); plt.show()",
                 "{\"type\":\"scatter\",\"title\":null,\"elements\":["
                 "{\"label\":\"s\",\"points\":[[0,3],[null,null]]}],"
                 "\"x_label\":null,\"y_label\":null,"
                 "\"x_unit\":null,\"y_unit\":null,"
                 "\"x_ticks\":[0,1],\"x_tick_labels\":[\"a\",\"b\"],"
                 "\"x_scale\":\"categorical\","
                 "\"y_ticks\":[3],\"y_tick_labels\":[\"3\"],"
                 "\"y_scale\":\"linear\"}");
    (void)state;
}

#define NO_LABELS \
    "\"x_label\":null,\"y_label\":null,\"x_unit\":null,\"y_unit\":null}"

static void bars_are_named_by_their_ticks_or_their_place(void **state)
{
    expect_chart(PLT "plt.bar(['A', 'B'], [1, 1], label='g')\n"
                     "plt.ylabel('sold ($)'); plt.show()",
                 "{\"type\":\"bar\",\"title\":null,\"elements\":["
                 "{\"label\":\"A\",\"group\":\"g\",\"value\":1},"
                 "{\"label\":\"B\",\"group\":\"g\",\"value\":1}],"
                 "\"x_label\":null,\"y_label\":\"sold ($)\","
                 "\"x_unit\":null,\"y_unit\":\"$\"}");
    expect_chart(PLT "plt.barh(['A', 'B'], [1, 2])\n"
                     "plt.xlabel('sold ($)'); plt.show()",
                 "{\"type\":\"bar\",\"title\":null,\"elements\":["
                 "{\"label\":\"A\",\"group\":\"Group 0\",\"value\":1},"
                 "{\"label\":\"B\",\"group\":\"Group 0\",\"value\":2}],"
                 "\"x_label\":null,\"y_label\":\"sold ($)\","
                 "\"x_unit\":null,\"y_unit\":\"$\"}");
    expect_chart(PLT "for at, name in (-.3, 'p'), (0, 'q'), (.3, 'r'):\n"
                     "  plt.bar([at, 1 + at], [1, 2], .3, label=name)\n"
                     "plt.xticks([0, 1], ['u', 'v']); plt.show()",
                 "{\"type\":\"bar\",\"title\":null,\"elements\":["
                 "{\"label\":\"u\",\"group\":\"p\",\"value\":1},"
                 "{\"label\":\"v\",\"group\":\"p\",\"value\":2},"
                 "{\"label\":\"u\",\"group\":\"q\",\"value\":1},"
                 "{\"label\":\"v\",\"group\":\"q\",\"value\":2},"
                 "{\"label\":\"u\",\"group\":\"r\",\"value\":1},"
                 "{\"label\":\"v\",\"group\":\"r\",\"value\":2}]," NO_LABELS);
    expect_chart(PLT "plt.bar([2020, 2021], [3, 4], yerr=1, capsize=2)\n"
                     "plt.axhline(2); plt.show()",
                 "{\"type\":\"bar\",\"title\":null,\"elements\":["
                 "{\"label\":\"2020\",\"group\":\"Group 1\",\"value\":3},"
                 "{\"label\":\"2021\",\"group\":\"Group 1\",\"value\":4}"
                 "]," NO_LABELS);
    expect_chart(PLT "plt.hist([0, 1, 8], bins=[0, 5, 10]); plt.show()",
                 "{\"type\":\"bar\",\"title\":null,\"elements\":["
                 "{\"label\":\"2.5\",\"group\":\"Group 0\",\"value\":2},"
                 "{\"label\":\"7.5\",\"group\":\"Group 0\",\"value\":1}"
                 "]," NO_LABELS);
    (void)state;
}

static void a_pie_has_angles_and_radii(void **state)
{
    expect_chart(PLT "plt.pie([1, 2, 5], labels=['a', 'b', 'c'],\n"
                     "        autopct='%d%%', radius=2)\n"
                     "plt.title('pie'); plt.show()",
                 "{\"type\":\"pie\",\"title\":\"pie\",\"elements\":["
                 "{\"label\":\"a\",\"angle\":45,\"radius\":2},"
                 "{\"label\":\"b\",\"angle\":90,\"radius\":2},"
                 "{\"label\":\"c\",\"angle\":225,\"radius\":2}]}");
    (void)state;
}

#define BOX_A                                                       \
    "{\"label\":\"a\",\"min\":1,\"first_quartile\":2,\"median\":3," \
    "\"third_quartile\":4,\"max\":5,\"outliers\":[]}"
#define BOX_B                                                       \
    "{\"label\":\"b\",\"min\":1,\"first_quartile\":1,\"median\":2," \
    "\"third_quartile\":4.5,\"max\":5,\"outliers\":[-20,30]}"
#define BOX_DATA "a, b = [1, 2, 3, 4, 5], [1, 1, 2, 4, 5, 30, -20]\n"

static void boxes_of_every_kind_have_their_quartiles(void **state)
{
    static const char boxes[] =
        "{\"type\":\"box_and_whisker\",\"title\":null,\"elements\":[";
    char chart[1024];

    snprintf(chart, sizeof(chart), "%s%s,%s],%s", boxes, BOX_A, BOX_B,
             NO_LABELS);
    expect_chart(PLT BOX_DATA "plt.boxplot([a, b], labels=['a', 'b'])\n"
                              "plt.show()",
                 chart);
    expect_chart(PLT BOX_DATA
                 "plt.boxplot([a, b], labels=['a', 'b'], showmeans=True,\n"
                 "            notch=True, patch_artist=True, vert=False)\n"
                 "plt.show()",
                 chart);
    snprintf(chart, sizeof(chart), "%s%s],%s", boxes, BOX_A, NO_LABELS);
    expect_chart(PLT BOX_DATA "plt.boxplot(a, labels=['a']); plt.show()",
                 chart);
    (void)state;
}

static void boxes_of_seaborn_have_their_quartiles(void **state)
{
    AUTO_FREE char *chart = NULL;

    drive_python(*state,
                 PLT BOX_DATA "import seaborn\n"
                              "seaborn.boxplot(x=['a'] * 5, y=a); plt.show()");
    if (lacks_library(*state))
        return;
    drive_assert_quiet_success(*state);
    chart = printed(*state, "chart");
    expect_part(chart, "\"type\":\"box_and_whisker\"");
    expect_part(chart, "\"elements\":[" BOX_A "]");
}

static void dates_are_iso_text(void **state)
{
    static const char *const plots[] = {
        "plt.plot(days, [1, 2])",
        "plt.scatter(days, [1, 2])",
        "plt.plot(numpy.array(days, 'M8[ns]'), [1, 2])",
        "pandas.Series([1, 2], index=pandas.to_datetime(days)).plot()",
    };

    for (size_t i = 0; i < sizeof(plots) / sizeof(plots[0]); i++) {
        void *own;
        char code[512];
        AUTO_FREE char *chart = NULL;

        snprintf(code, sizeof(code),
                 PLT "import datetime, numpy, pandas\n"
                     "days = [datetime.datetime(2020, 1, d) for d in (1, 9)]\n"
                     "%s\nplt.show()",
                 plots[i]);
        drive_setup(&own);
        drive_python(own, code);
        chart = printed(own, "chart");
        expect_part(chart, "[\"2020-01-01T00:00:00\",1]");
        expect_part(chart, "\"x_ticks\":[\"2020-01-01T00:00:00+00:00\"");
        expect_part(chart, "\"x_scale\":\"datetime\"");
        drive_teardown(&own);
    }
    (void)state;
}

static void periods_of_pandas_are_text(void **state)
{
    AUTO_FREE char *chart = NULL;

    drive_python(*state, PLT "import pandas\n"
                             "at = pandas.period_range('2020-01', periods=2, "
                             "freq='M')\n"
                             "pandas.Series([1, 2], index=at).plot()\n"
                             "plt.show()");
    chart = printed(*state, "chart");
    expect_part(chart, "\"points\":[[\"2020-01\",1],[\"2020-02\",2]]");
    expect_part(chart, "\"x_ticks\":[\"2020-01\"");
    expect_part(chart, "\"x_scale\":\"datetime\"");
}

static void several_axes_are_one_superchart(void **state)
{
    expect_chart(PLT "figure, (a, b) = plt.subplots(1, 2)\n"
                     "a.pie([1], labels=['p']); b.bar(['x'], [2])\n"
                     "figure.suptitle('both'); plt.show()",
                 "{\"type\":\"superchart\",\"title\":\"both\",\"elements\":["
                 "{\"type\":\"pie\",\"title\":null,\"elements\":["
                 "{\"label\":\"p\",\"angle\":360,\"radius\":1}]},"
                 "{\"type\":\"bar\",\"title\":null,\"elements\":["
                 "{\"label\":\"x\",\"group\":\"Group 0\",\"value\":2}"
                 "]," NO_LABELS "]}");
    (void)state;
}

static void other_plots_are_unknown_and_empty_ones_none(void **state)
{
    static const char unknown[] =
        "{\"type\":\"unknown\",\"title\":\"T\",\"elements\":[]}";

    expect_chart(PLT "plt.imshow([[1, 2], [3, 4]]); plt.title('T')\n"
                     "plt.show()",
                 unknown);
    expect_chart(PLT "plt.figure().add_subplot(projection='3d').plot(\n"
                     "  [1, 2], [3, 4], [5, 6])\n"
                     "plt.title('T'); plt.show()",
                 unknown);
    expect_chart(PLT "plt.subplots(); plt.show()", "null");
    expect_chart(PLT "plt.figure(); plt.show()", "null");
    (void)state;
}

static void a_chart_of_a_million_points_is_left_out(void **state)
{
    const struct drive *run = *state;

    drive_python(*state, PLT "import numpy as np\n"
                             "plt.scatter(*np.zeros((2, 1000000)), marker=',')"
                             "\nplt.show()");
    assert_int_equal(run->exit_code, 0);
    assert_memory_equal(drive_text(run, 0, "png"), "iVBORw0KGgo", 11);
    assert_true(cJSON_IsNull(drive_form(run, 0, "chart")));
    assert_int_equal(run->o.nwarnings, 1);
    expect_part(run->o.warnings[0],
                "without `chart`: a figure of 1000000 values (at most 20000)");
}

static void a_chart_that_cannot_be_made_is_a_warning(void **state)
{
    const struct drive *run = *state;

    drive_python(*state, PLT "plt.plot([1, 2])\n"
                             "plt.gca().get_title = lambda: 1 / 0\nplt.show()");
    assert_int_equal(run->exit_code, 0);
    assert_string_equal(run->err, "");
    assert_memory_equal(drive_text(run, 0, "png"), "iVBORw0KGgo", 11);
    assert_true(cJSON_IsNull(drive_form(run, 0, "chart")));
    assert_int_equal(run->o.nwarnings, 1);
    expect_part(run->o.warnings[0], "chart failed: ZeroDivisionError");
}

/* ---- other libraries --------------------------------------------------- */

static void plotly_figures_have_html_and_their_json(void **state)
{
    static const char mime[] = "application/vnd.plotly.v1+json";

    drive_python(*state, "import plotly.graph_objects as go\n"
                         "f = go.Figure(go.Bar(x=[1], y=[2]))\n"
                         "f.show()\ndisplay(f)\nf");
    if (lacks_library(*state))
        return;
    drive_assert_quiet_success(*state);
    assert_int_equal(drive_count(*state), 3);
    for (int i = 0; i < 3; i++) {
        const cJSON *spec =
            cJSON_GetObjectItem(drive_form(*state, i, "extra"), mime);

        expect_part(drive_text(*state, i, "html"), "<div>");
        assert_string_equal(drive_text(*state, i, "text"), "Figure(1 traces)");
        assert_true(cJSON_IsArray(cJSON_GetObjectItem(spec, "data")));
        assert_true(cJSON_IsObject(cJSON_GetObjectItem(spec, "layout")));
        assert_true(cJSON_IsObject(cJSON_GetObjectItem(spec, "config")));
        assert_int_equal(drive_is_main(*state, i), i == 2);
    }
}

static void altair_charts_have_html_and_their_json(void **state)
{
    drive_python(*state, "import altair\n"
                         "c = altair.Chart(altair.Data(values=[{'a': 1}]))\n"
                         "c = c.mark_bar().encode(x='a:Q')\n"
                         "c.display()\nc");
    if (lacks_library(*state))
        return;
    drive_assert_quiet_success(*state);
    assert_int_equal(drive_count(*state), 2);
    for (int i = 0; i < 2; i++) {
        const cJSON *extra = drive_form(*state, i, "extra");

        expect_part(drive_text(*state, i, "html"), "vegaEmbed");
        assert_int_equal(cJSON_GetArraySize(extra), 1);
        expect_part(extra->child->string, "application/vnd.vegalite.v");
        expect_part(extra->child->string, "+json");
        assert_non_null(cJSON_GetObjectItem(extra->child, "mark"));
    }
}

static void pictures_are_png_and_jpegs_are_also_jpeg(void **state)
{
    drive_python(*state, "from PIL import Image\n"
                         "new = Image.new('RGB', (2, 2))\n"
                         "new.save('x.jpg')\n"
                         "display(new, Image.open('x.jpg'))\n"
                         "Image.open('x.jpg').resize((4, 4))");
    drive_assert_quiet_success(*state);
    assert_int_equal(drive_count(*state), 3);
    for (int i = 0; i < 3; i++) {
        assert_memory_equal(drive_text(*state, i, "png"), "iVBORw0KGgo", 11);
        expect_part(drive_text(*state, i, "text"), "<PIL.");
    }
    assert_string_equal(drive_text(*state, 0, "jpeg"), "(none)");
    assert_memory_equal(drive_text(*state, 1, "jpeg"), "/9j/", 4);
    assert_true(drive_is_main(*state, 2));
}

static void tables_have_what_pandas_shows(void **state)
{
    const struct drive *run = *state;
    AUTO_FREE char *data = NULL;

    drive_python(*state, "import pandas as pd\n"
                         "df = pd.DataFrame([[1, 2.5], [3, None]],\n"
                         "                  columns=['a', 'a'])\n"
                         "display(df, pd.Series([7], name='s'))");
    assert_string_equal(run->err, "");
    data = printed(run, "data");
    assert_string_equal(data, "{\"a\":[2.5,null]}");
    assert_string_equal(drive_text(run, 1, "text"),
                        "0    7\nName: s, dtype: int64");
    assert_string_equal(drive_text(run, 1, "html"), "(none)");
    assert_int_equal(run->o.nwarnings, 1);
    expect_part(run->o.warnings[0], "columns of a DataFrame have the same");
}

static void a_styled_table_has_html(void **state)
{
    drive_python(*state, "import jinja2, pandas as pd\n"
                         "pd.DataFrame({'a': [1]}).style.format('{} m')");
    if (lacks_library(*state))
        return;
    drive_assert_quiet_success(*state);
    expect_part(drive_text(*state, 0, "html"), "1 m</td>");
}

static void formulas_have_latex(void **state)
{
    /* As sympy's have it. */
    drive_python(*state, "class F:\n"
                         "  def _repr_latex_(self): return '$F$'\n"
                         "  def __repr__(self): return 'F'\n"
                         "  _repr_png_ = None\n"
                         "F()");
    drive_assert_quiet_success(*state);
    assert_string_equal(drive_text(*state, 0, "text"), "F");
    assert_string_equal(drive_text(*state, 0, "latex"), "$F$");
    assert_string_equal(drive_text(*state, 0, "png"), "(none)");
}

/* ---- what notebooks import --------------------------------------------- */

/* Its own objects are shown then, in their own ways. */
static bool has_ipython(void)
{
    const char *argv[] = {"/usr/bin/python3", "-c", "import IPython", NULL};
    bool has =
        proc_run(&(struct proc_start){.argv = argv}, 20000, NULL, NULL) == 0;

    if (has)
        print_message("SKIP: this Python has IPython\n");
    return has;
}

static void notebook_objects_work_without_ipython(void **state)
{
    static const struct {
        const char *name, *field, *value;
    } shown[] = {
        {"HTML", "html", "<b>"},
        {"Markdown", "markdown", "# m"},
        {"SVG", "svg", "<svg/>"},
        {"SVG", "svg", "<svg/>"},
        {"Latex", "latex", "$x$"},
        {"Javascript", "javascript", "1"},
        {"Image", "png", "iVBORw=="},
        {"Image", "jpeg", "/9g="},
        {"Image", "html", "<img src=\"http://h/a&amp;b\" width=\"5\">"},
    };

    if (has_ipython())
        return;
    drive_python(*state,
                 "from IPython.display import *\n"
                 "from IPython.display import (display, HTML, Markdown, SVG,\n"
                 "  Latex, JSON, Javascript, Image, clear_output)\n"
                 "open('f.svg', 'w').write('<?xml version=\"1.0\"?><svg/>')\n"
                 "open('f.png', 'wb').write(b'\\x89PNG')\n"
                 "display(HTML('<b>'), Markdown('# m'), SVG('<svg/>'),\n"
                 "  SVG(filename='f.svg'), Latex('$x$'), Javascript('1'),\n"
                 "  Image('f.png'), Image(data=b'\\xff\\xd8'),\n"
                 "  Image(url='http://h/a&b', width=5))\n"
                 "JSON([1])");
    drive_assert_quiet_success(*state);
    assert_int_equal(drive_count(*state), 10);
    for (int i = 0; i < 9; i++) {
        char text[64];

        snprintf(text, sizeof(text), "<IPython.core.display.%s object>",
                 shown[i].name);
        assert_string_equal(drive_text(*state, i, "text"), text);
        assert_string_equal(drive_text(*state, i, shown[i].field),
                            shown[i].value);
    }
    assert_true(cJSON_IsArray(drive_form(*state, 9, "json")));
}

static void the_ways_to_import_display_all_work(void **state)
{
    if (has_ipython())
        return;
    drive_python(*state, "from IPython import display as module\n"
                         "from IPython.core.display import HTML, display\n"
                         "import IPython\n"
                         "IPython.display.display(module.HTML('<i>'))\n"
                         "display({'text/html': '<u>', 'image/gif': b'GIF'},\n"
                         "        raw=True)\n"
                         "IPython.get_ipython()");
    drive_assert_quiet_success(*state);
    assert_int_equal(drive_count(*state), 2);
    assert_string_equal(drive_text(*state, 0, "html"), "<i>");
    assert_string_equal(drive_text(*state, 1, "html"), "<u>");
    assert_true(has_extra(*state, 1, "image/gif"));
}

static void objects_that_show_themselves_are_let_do_so(void **state)
{
    const struct drive *run = *state;

    drive_python(*state, "class A:\n"
                         "  def _ipython_display_(self): display('inner', 2)\n"
                         "class B:\n"
                         "  def _ipython_display_(self): display(self)\n"
                         "  def __repr__(self): return 'a B'\n"
                         "display(A(), B())");
    assert_int_equal(run->exit_code, 0);
    assert_int_equal(drive_count(run), 3);
    assert_string_equal(drive_text(run, 0, "text"), "'inner'");
    assert_string_equal(drive_text(run, 2, "text"), "a B");
    assert_int_equal(run->o.nwarnings, 1);
}

/* ---- errors ------------------------------------------------------------ */

struct error_case {
    const char *code, *name, *value, *part;
};

static void expect_errors(const struct error_case *cases, size_t n,
                          void (*drive)(struct drive *, const char *))
{
    for (size_t i = 0; i < n; i++) {
        void *own;

        drive_setup(&own);
        drive(own, cases[i].code);
        drive_assert_error(own, cases[i].name, cases[i].value, cases[i].part);
        drive_teardown(&own);
    }
}

static void python_errors_show_only_the_code(void **state)
{
    static const struct error_case cases[] = {
        {"x = 1\nif x:\ny = 2", "IndentationError",
         "expected an indented block after 'if' statement on line 2 "
         "(main.py, line 3)",
         "  File \"main.py\", line 3\n    y = 2\n"},
        {"\nreturn 5", "SyntaxError",
         "'return' outside function (main.py, line 2)",
         "  File \"main.py\", line 2\n    return 5\n"},
        {"\nexec('a = ;')", "SyntaxError", "invalid syntax (<string>, line 1)",
         "  File \"main.py\", line 2, in <module>\n"},
        {"def f(n):\n  return f(n + 1)\nf(0)", "RecursionError",
         "maximum recursion depth exceeded",
         "line 3, in <module>\n    f(0)\n  File \"main.py\", line 2, in f\n"},
        {"import asyncio\nasync def w():\n  raise KeyError(1)\n"
         "async with asyncio.TaskGroup() as g:\n  g.create_task(w())",
         "ExceptionGroup", "unhandled errors in a TaskGroup (1 sub-exception)",
         "    |   File \"main.py\", line 3, in w\n"},
        {"def f():\n  try: [][1]\n  finally: {}[2]\nf()", "KeyError", "2",
         "line 2, in f\n    try: [][1]\n         ~~^^^\n"
         "IndexError: list index out of range\n\n"
         "During handling of the above exception, another exception"},
        {"e = ValueError()\ne.add_note('a note')\nraise e", "ValueError", "",
         "ValueError\na note\n"},
    };

    expect_errors(cases, sizeof(cases) / sizeof(cases[0]), drive_python);
    (void)state;
}

static void a_chain_of_a_thousand_errors_is_shown(void **state)
{
    drive_python(*state, "last = None\n"
                         "for i in range(1500):\n"
                         "  error = ValueError(i)\n"
                         "  error.__cause__, last = last, error\n"
                         "raise last");
    drive_assert_error(*state, "ValueError", "1499",
                       "ValueError: 0\n\nThe above exception was the direct");
    expect_part(((struct drive *)*state)->o.error_traceback,
                "line 5, in <module>\n    raise last\nValueError: 1499\n");
}

static void javascript_errors_show_only_the_code(void **state)
{
    static const struct error_case cases[] = {
        {"await 1\nfunction f() {\n  return ;;; }\nlet x = ;\n", "SyntaxError",
         "Unexpected token ';'", "main.js:4\nlet x = ;\n"},
        {"await 1\nfunction f( {\n", "SyntaxError", "Unexpected end of input",
         "main.js:3\n"},
        {"import fs from 'fs'\nlet x = ;", "SyntaxError",
         "Unexpected token ';'", "main.js:2\nlet x = ;\n"},
        {"import 'fs'\nexport const x = 1\nx.y.z", "TypeError",
         "Cannot read properties of undefined (reading 'z')", "main.js:3:5"},
        {"await 1; const x = 1; x.y.z()", "TypeError",
         "Cannot read properties of undefined (reading 'z')", "main.js:1:27"},
        {"import x from 'no-such'", "Error", "Cannot find package 'no-such'",
         ": Cannot find package 'no-such'\n"},
        {"async function a() {\n  await 1\n  throw new TypeError('in')\n}\n"
         "async function b() {\n  await a()\n}\nb()",
         "TypeError", "in",
         "    at a (main.js:3:9)\n    at async b (main.js:6:3)"},
        {"Promise.any([Promise.reject(new Error('one')),\n"
         "  Promise.reject(new RangeError('two'))])",
         "AggregateError", "All promises were rejected",
         "[errors]: RangeError: two\n    at main.js:2:18"},
        {"throw new Error('outer', {\n  cause: new TypeError('inner') })",
         "Error", "outer", "[cause]: TypeError: inner\n    at main.js:2:10"},
        {"await Promise.reject({code: 5})", "Error", "{ code: 5 }",
         "Uncaught { code: 5 }"},
        {"setImmediate(async () => {\n  null.x\n})", "TypeError",
         "Cannot read properties of null (reading 'x')", "main.js:2:8"},
    };

    expect_errors(cases, sizeof(cases) / sizeof(cases[0]), drive_node);
    (void)state;
}

static void javascript_values_are_shown_as_node_shows_them(void **state)
{
    static const struct {
        const char *code, *text;
    } cases[] = {
        {"'a' + 'b'", "'ab'"},
        {"new Map([[1, {a: [1, {b: {}}]}]])",
         "Map(1) { 1 => { a: [ 1, [Object] ] } }"},
        {"async function f() { return {x: 1} }\nf()", "{ x: 1 }"},
        {"const x = await Promise.resolve(2)\nx + 1 // three", "3"},
        {"class A { constructor() { this.v = null } }; new A()",
         "A { v: null }"},
        {"import p, {sep as s} from 'path'\nimport * as all from 'path'\n"
         "export const x = 1;\n[s === p.sep, all.sep, await x, typeof require]",
         "[ true, '/', 1, 'function' ]"},
        {"undefined", "(none)"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        void *own;
        char code[256];

        snprintf(code, sizeof(code), "console.log('out')\n%s", cases[i].code);
        drive_setup(&own);
        drive_node(own, code);
        drive_assert_quiet_success(own);
        assert_string_equal(((struct drive *)own)->out, "out\n");
        assert_string_equal(drive_text(own, 0, "text"), cases[i].text);
        drive_teardown(&own);
    }
    (void)state;
}

#define T(name) \
    cmocka_unit_test_setup_teardown(name, drive_setup, drive_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_line_plot_has_a_chart_with_axes_units_and_points),
        T(a_scatter_plot_has_a_chart_of_its_points),
        T(bars_are_named_by_their_ticks_or_their_place),
        T(a_pie_has_angles_and_radii),
        T(boxes_of_every_kind_have_their_quartiles),
        T(boxes_of_seaborn_have_their_quartiles),
        T(dates_are_iso_text),
        T(periods_of_pandas_are_text),
        T(several_axes_are_one_superchart),
        T(other_plots_are_unknown_and_empty_ones_none),
        T(a_chart_of_a_million_points_is_left_out),
        T(a_chart_that_cannot_be_made_is_a_warning),
        T(plotly_figures_have_html_and_their_json),
        T(altair_charts_have_html_and_their_json),
        T(pictures_are_png_and_jpegs_are_also_jpeg),
        T(tables_have_what_pandas_shows),
        T(a_styled_table_has_html),
        T(formulas_have_latex),
        T(notebook_objects_work_without_ipython),
        T(the_ways_to_import_display_all_work),
        T(objects_that_show_themselves_are_let_do_so),
        T(python_errors_show_only_the_code),
        T(a_chain_of_a_thousand_errors_is_shown),
        T(javascript_errors_show_only_the_code),
        T(javascript_values_are_shown_as_node_shows_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
