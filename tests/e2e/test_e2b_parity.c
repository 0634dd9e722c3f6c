/* The same honest jobs on a local worker and on one that uses E2B (its double):
 * the results are compared field by field. What may differ, and why, is the
 * table `allowed`; README.md shows it to people. */
#include "tests/support/cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/must.h"
#include "common/scope.h"
#include "tests/support/double.h"
#include "tests/support/stage.h"

#define PATH_MAX_   200
#define WAIT_MS     120000
#define PNG_BASE64  "iVBORw0KGgo"
#define COUNT(list) (sizeof(list) / sizeof((list)[0]))
/* The rest of jobs that have to print before their time is over: so many
 * seconds, and twice as many where a slow machine has them print nothing. */
#define TIMEOUT       ",\"timeout\":%g"
#define TIMEOUT_S     1.5
#define TIMEOUT_MAX_S 20

static struct {
    struct rig rig;
    struct proc worker;
} local, e2b;
static struct e2b_double e2bs;

/* ---- jobs --------------------------------------------------------------- */

struct honest {
    const char *name, *language, *template_id;
    const char *code;
    const char *rest; /* further members, with the comma before them */
    const char *verdict;
};

#define PY "python"
#define JS "javascript"
#define SH "bash"

/* Read by column. */
/* clang-format off */
static const struct honest jobs[] = {
    /* ---- ends ---- */
    {"js-exit-0", JS, "default", "console.log('a'); process.exit(0); 1", "",
     "ok"},
    {"js-exit-3", JS, "default", "console.log('a'); process.exit(3)", "",
     "user_error"},
    /* ---- output and values ---- */
    {"print", PY, "default", "print('hello')\nprint(1, 2, sep='-')", "", "ok"},
    {"stderr", PY, "default",
     "import sys\nprint('out')\nprint('err', file=sys.stderr)\nprint('more')",
     "", "ok"},
    {"value", PY, "default", "6 * 7", "", "ok"},
    {"value-text", PY, "default", "'quoted \"text\"'", "", "ok"},
    {"value-none", PY, "default", "x = 1\nNone", "", "ok"},
    {"value-list", PY, "default", "print('a')\n[1, 'b', {'c': None}]", "", "ok"},
    {"unicode", PY, "default",
     "print('Grüße, 世界 🎉')\nprint('tab\\there', end='')\n'ünï'", "", "ok"},
    {"control-characters", PY, "default",
     "print('a\\x00b\\x1b[31mred\\x1b[0m\\rc\\x7f')", "", "ok"},
    {"long-output", PY, "default",
     "for i in range(3000):\n    print(i, 'x' * 40)", "", "ok"},
    {"warning", PY, "default",
     "import warnings\nwarnings.warn('careful')\nprint('after')", "", "ok"},
    {"await", PY, "default",
     "import asyncio\nasync def f(n):\n    await asyncio.sleep(0.01)\n"
     "    return n * n\nawait asyncio.gather(*(f(n) for n in range(4)))", "",
     "ok"},
    {"threads", PY, "default",
     "from concurrent.futures import ThreadPoolExecutor as Pool\n"
     "with Pool(3) as pool:\n    print(sum(pool.map(abs, range(-5, 5))))", "",
     "ok"},
    {"processes", PY, "default",
     "import multiprocessing\ndef f(n):\n    return n * n\n"
     "with multiprocessing.Pool(2) as pool:\n    print(pool.map(f, range(5)))",
     "", "ok"},
    {"subprocess", PY, "default",
     "import subprocess\nr = subprocess.run(['sh', '-c', 'echo in; exit 4'], "
     "capture_output=True, text=True)\nprint(r.returncode, r.stdout)", "", "ok"},
    {"child-output", PY, "default",
     "import subprocess\nprint('before', flush=True)\n"
     "subprocess.run(['echo', 'from a child'])\nprint('after')", "", "ok"},
    {"names", PY, "default",
     "import sys, os\nprint(__name__, os.getcwd(), os.path.expanduser('~'))\n"
     "print(sys.argv, sorted(n for n in globals() if n[0] != '_'))", "", "ok"},
    /* ---- errors ---- */
    {"error", PY, "default",
     "def divide(n):\n    return 1 / n\nprint('before')\ndivide(0)", "",
     "user_error"},
    {"error-own", PY, "default",
     "class Mine(Exception):\n    pass\ntry:\n    {}['k']\n"
     "except KeyError as e:\n    raise Mine('bad', 3) from e", "", "user_error"},
    {"error-syntax", PY, "default", "print('x')\nfor in range(3):\n    pass", "",
     "user_error"},
    {"error-import", PY, "default", "import no_such_module_here", "",
     "user_error"},
    {"error-package", PY, "default", "import pandas as pd\npd.DataFrame()['x']",
     ",\"template\":\"data_analysis\"", "user_error"},
    {"error-after-value", PY, "default",
     "from IPython.display import display\ndisplay({'a': 1})\n"
     "raise ValueError('late')", "", "user_error"},
    {"exit-0", PY, "default", "import sys\nprint('bye')\nsys.exit(0)", "", "ok"},
    {"exit-3", PY, "default", "import sys\nsys.exit(3)", "", "user_error"},
    {"exit-0-text", PY, "default", "import sys\nsys.exit('0')", "",
     "user_error"},
    {"exit-no-text", PY, "default", "import sys\nsys.exit('')", "",
     "user_error"},
    {"exit-true", PY, "default", "import sys\nsys.exit(True)", "",
     "user_error"},
    {"exit-256", PY, "default", "import sys\nsys.exit(256)", "", "ok"},
    {"exit-none", PY, "default", "import sys\nprint('a')\nsys.exit()", "",
     "ok"},
    {"exit-own", PY, "default",
     "class Stop(SystemExit):\n    pass\nraise Stop(4)", "", "user_error"},
    {"exit-named", PY, "default",
     "class SystemExit(Exception):\n    pass\nraise SystemExit(0)", "",
     "user_error"},
    {"exit-shadowed", PY, "default",
     "import sys\nprint = int = isinstance = type = None\nsys.exit('bye')", "",
     "user_error"},
    {"stdin-shadowed", PY, "default",
     "import sys\nprint = None\nsys.stdout.write(input('n? '))",
     ",\"stdin\":\"Ann\\n\"", "ok"},
    {"exit-text", PY, "default", "import sys\nsys.exit('no good')", "",
     "user_error"},
    /* ---- pictures and tables ---- */
    {"dataframe", PY, "data_analysis",
     "import pandas as pd\nt = pd.DataFrame({'k': list('abab'), 'n': range(4), "
     "'f': [.5, 1.25, None, -2]})\nprint(len(t))\nt", "", "ok"},
    {"dataframe-groups", PY, "data_analysis",
     "import pandas as pd\nt = pd.DataFrame({'k': list('abab'), "
     "'n': range(4)})\ndisplay(t.head(1))\nt.groupby('k').sum()", "", "ok"},
    {"series", PY, "data_analysis",
     "import pandas as pd\npd.Series([1.5, 2], index=['a', 'b'], name='s')", "",
     "ok"},
    {"numpy", PY, "data_analysis",
     "import numpy as np\nnp.arange(6).reshape(2, 3) @ np.ones((3, 1))", "",
     "ok"},
    {"plot", PY, "visualization",
     "import matplotlib.pyplot as plt\nplt.figure(figsize=(3, 2))\n"
     "plt.plot([1, 4, 9], label='squares')\nplt.title('T')\n"
     "plt.xlabel('x')\nplt.legend()\nplt.show()", "", "ok"},
    {"plot-bar", PY, "visualization",
     "import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\n"
     "ax.bar(['a', 'b'], [3, 5])\nax.set_ylabel('n')\nplt.show()", "", "ok"},
    {"plot-unshown", PY, "visualization",
     "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nprint('drawn')", "",
     "ok"},
    {"plot-saved", PY, "visualization",
     "import matplotlib.pyplot as plt\nplt.plot([3, 1])\n"
     "plt.savefig('p.png')\nplt.close()", ",\"output_files\":[\"p.png\"]", "ok"},
    {"plotly", PY, "visualization",
     "import plotly.graph_objects as go\ngo.Figure(go.Bar(y=[2, 3]))", "", "ok"},
    {"forms", PY, "default",
     "from IPython.display import display, HTML, Markdown, SVG, JSON, Latex\n"
     "display(HTML('<b>h</b>'))\ndisplay(Markdown('**m**'))\n"
     "display(JSON({'j': [1]}))\ndisplay(Latex('$x^2$'))\n"
     "display(SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"></svg>'))\n"
     "class C:\n    def _repr_html_(self):\n        return '<i>c</i>'\n"
     "    def __repr__(self):\n        return 'C()'\nC()", "", "ok"},
    /* ---- files, env, args, stdin ---- */
    {"files", PY, "default",
     "import os\nprint(sorted(os.listdir('.')))\n"
     "text = open('in/data.txt').read()\n"
     "open('out.txt', 'w').write(text.upper())\n"
     "os.mkdir('d')\nopen('d/n.csv', 'w').write('a,b\\n1,2\\n')",
     ",\"files\":[{\"path\":\"in/data.txt\",\"content\":\"some dätä\\n\"},"
     "{\"path\":\"b.bin\",\"content_base64\":\"AAH/\"}],"
     "\"output_files\":[\"out.txt\",\"d/*.csv\",\"/home/user/b.bin\"]", "ok"},
    {"files-none", PY, "default", "print('none')",
     ",\"output_files\":[\"missing.txt\",\"*.none\"]", "ok"},
    {"files-links", PY, "default",
     "import os\nopen('real.txt', 'w').write('r')\nos.mkdir('d')\n"
     "os.symlink('/etc/passwd', 'out')\nos.symlink('real.txt', 'in')\n"
     "os.symlink('d', 'to_d')\nos.symlink('none', 'torn')",
     ",\"output_files\":[\"out\",\"in\",\"to_d\",\"torn\",\"d\",\"real.txt\"]",
     "ok"},
    {"files-links-globbed", PY, "default",
     "import os\nopen('real.txt', 'w').write('r')\nos.mkdir('d')\n"
     "os.symlink('/etc/passwd', 'out')\nos.symlink('real.txt', 'in')\n"
     "os.symlink('d', 'to_d')\nos.symlink('none', 'torn')",
     ",\"output_files\":[\"*\"]", "ok"},
    {"files-binary", PY, "default",
     "open('x.bin', 'wb').write(bytes(range(256)) * 300)\n"
     "open('empty.json', 'w').close()",
     ",\"output_files\":[\"*.bin\",\"empty.json\"]", "ok"},
    {"files-after-error", PY, "default",
     "open('kept.txt', 'w').write('kept')\nraise RuntimeError('x')",
     ",\"output_files\":[\"kept.txt\"]", "user_error"},
    {"env", PY, "default",
     "import os\nprint(os.environ['A'], os.environ['Q'], os.environ['U'])",
     ",\"env\":{\"A\":\"1\",\"Q\":\"it's $HOME \\\"q\\\" \\\\n\",\"U\":\"ü\"}",
     "ok"},
    {"args", PY, "default", "import sys\nprint(sys.argv[1:])",
     ",\"args\":[\"one\",\"two words\",\"it's\",\"\"]", "ok"},
    {"stdin", PY, "default",
     "import sys\nfirst = input()\nprint('got', first)\n"
     "print(sys.stdin.read().split())", ",\"stdin\":\"one\\ntwo\\nthree ü\\n\"",
     "ok"},
    {"stdin-prompt", PY, "default",
     "name = input('name? ')\nprint('hi', name)\ninput()",
     ",\"stdin\":\"Ann\\n\"", "user_error"},
    {"metadata", PY, "default", "1",
     ",\"metadata\":{\"k\":[1,{\"x\":null}]},\"task_type\":\"general\"", "ok"},
    {"unknown-field", PY, "default", "1", ",\"colour\":\"red\"", "ok"},
    {"streamed", PY, "default", "print('a')\nprint('b')", ",\"stream\":true",
     "ok"},
    {"package-missing", PY, "machine_learning", "print('unused')",
     ",\"requirements\":{\"packages\":[\"numpy\"]}", "ok"},
    /* ---- other languages ---- */
    {"bash", SH, "quick_script",
     "echo \"hello $1 $A\"; echo err >&2; pwd; echo ~", ",\"args\":[\"w x\"],"
     "\"env\":{\"A\":\"e'f\"}", "ok"},
    {"bash-env", SH, "quick_script",
     "declare -p c t limit; declare -F; export -p | grep -c ' [a-z]='",
     ",\"env\":{\"c\":\"kept\",\"t\":\"too\",\"limit\":\"9\","
     "\"GLOBIGNORE\":\"*\"}", "ok"},
    {"bash-exit", SH, "quick_script", "echo out; exit 3", "", "user_error"},
    {"bash-error", SH, "quick_script", "no_such_command_here\necho $?", "",
     "ok"},
    {"bash-syntax", SH, "quick_script", "echo a\nif then", "", "user_error"},
    {"bash-signal", SH, "quick_script", "echo a; kill -TERM $$", "", "signal"},
    {"bash-files", SH, "quick_script",
     "tr a-z A-Z <in.txt >out.txt; seq 3 | sort -r; wc -c <in.txt; cat",
     ",\"files\":[{\"path\":\"in.txt\",\"content\":\"abc\\n\"}],"
     "\"output_files\":[\"*.txt\"],\"stdin\":\"from stdin\\n\"", "ok"},
    {"bash-bytes", SH, "quick_script", "printf 'a\\0b\\377\\n'", "", "ok"},
    {"js", JS, "default",
     "console.log('hello', 1, [2], {a: 3}); console.error('err');\n[1, 2].map("
     "(n) => n * 2)", ",\"args\":[\"x\"]", "ok"},
    {"js-value", JS, "default", "const a = 2;\nfunction f() { return a + 1; }\n"
     "f()", "", "ok"},
    {"js-text", JS, "default", "'a' + 'b'", "", "ok"},
    {"js-await", JS, "default",
     "const v = await new Promise((r) => setTimeout(() => r('later'), 20));\n"
     "console.log(v);", "", "ok"},
    {"js-error", JS, "default", "function f() { return null.x; }\nf();", "",
     "user_error"},
    {"js-strict", JS, "default",
     "// first\n/* and\n second */ \"use strict\";\nundeclared = 5", "",
     "user_error"},
    {"js-strict-value", JS, "default",
     "'use strict';\nconst a = 2;\nfunction f() { return this; }\n"
     "console.log(f());\na * 3", ",\"env\":{\"A\":\"1\"}", "ok"},
    {"js-not-strict", JS, "default",
     "'use strict' + 1; undeclared = 5; // 'use strict'", "", "ok"},
    {"js-syntax", JS, "default", "let = = 3", "", "user_error"},
    {"js-files", JS, "default",
     "const fs = require('fs');\nfs.writeFileSync('o.json', JSON.stringify({e: "
     "process.env.A, a: process.argv.slice(2)}));", ",\"env\":{\"A\":\"é'\"},"
     "\"args\":[\"q\\\"\"],\"output_files\":[\"o.json\"]", "ok"},
    /* ---- limits ---- */
    {"timeout", PY, "default",
     "import time\nprint('soon', flush=True)\ntime.sleep(60)",
     TIMEOUT, "timeout"},
    {"timeout-busy", PY, "default", "print('busy')\nwhile True:\n    pass",
     TIMEOUT, "timeout"},
    {"timeout-bash", SH, "quick_script", "echo soon; sleep 60",
     TIMEOUT, "timeout"},
    {"timeout-js", JS, "default", "console.log('soon');\n"
     "await new Promise((r) => setTimeout(r, 60000));", TIMEOUT,
     "timeout"},
    {"output-limit", PY, "default", "while True:\n    print('x' * 1000)",
     ",\"requirements\":{\"output_limit_kb\":16}", "output_limit"},
    {"memory", PY, "default",
     "keep = []\nwhile True:\n    keep.append(bytearray(8 << 20))",
     ",\"requirements\":{\"memory_limit_mb\":128}", "oom"},
    {"rejected", PY, "default", "1", ",\"timeout\":-3", "rejected"},
};

/* A path of a result, with # for each index; what lies below is covered. */
static const struct {
    const char *job; /* how its name begins; NULL: any */
    const char *path, *why; /* "maybe: …": not in every run */
} allowed[] = {
    {NULL, "backend", "is what differs"},
    {NULL, "sandbox_id", "each backend's own"},
    {NULL, "execution_time", "a time"},
    {NULL, "processing_time", "a time"},
    {NULL, "queue_time", "maybe: a time; 0 unless a bare job went back"},
    {NULL, "timings", "times"},
    {NULL, "timestamp", "a time"},
    {NULL, "worker", "each worker's own"},
    {NULL, "sandbox_info.created_at", "a time"},
    {NULL, "sandbox_info.start", "how each starts one"},
    {NULL, "enforced", "each has mechanisms of its own, and names them"},
    {NULL, "usage.cpu_seconds", "null: E2B does not tell"},
    {NULL, "usage.peak_memory_mb", "null: E2B does not tell"},
    {NULL, "usage.peak_processes", "null: E2B does not tell"},
    {NULL, "usage.shared_memory_mb", "null: E2B does not tell"},
    {NULL, "usage.context_switches", "null: E2B does not tell"},
    {NULL, "error_detail.traceback", "IPython's and E2B's Node kernel's look"},
    {"value-text", "results.#.text", "E2B's server takes a pair of quotes off"},
    {"unicode", "results.#.text", "E2B's server takes a pair of quotes off"},
    {"js-text", "results.#.text", "E2B's server takes a pair of quotes off"},
    {"plotly", "results.#.html", "plotly makes a new id for each figure"},
    {"control-characters", "logs.stdout.#", "a NUL from Python shows as \\x00"},
    {"control-characters", "usage.stdout_bytes", "the same"},
    {"bash-", "logs.stderr.#", "bash tells where its script lies"},
    {"bash-", "usage.stderr_bytes", "the same"},
    {"timeout", "signal", "a microVM is ended whole: no signal to tell of"},
    {"output-limit", "signal", "the same"},
    {"output-limit", "usage.stdout_bytes", "what was on its way still counts"},
    {"output-limit", "usage.dropped_bytes", "the same"},
    {"output-limit", "logs.stdout", "maybe: where its kept end begins"},
    {"memory", "signal", "Python gets no memory where a cgroup kills"},
    {"memory", "exit_code", "the same"},
    {"memory", "error_detail", "the same: there is a MemoryError"},
    {"package-missing", "warnings", "what E2B's template lacks is not known"},
};
/* clang-format on */

static bool met[COUNT(allowed)]; /* that difference was there */

static void add_member(struct strbuf *out, const char *name, const char *text)
{
    strbuf_addf(out, ",\"%s\":", name);
    strbuf_add_json(out, text, strlen(text));
}

static void push(struct rig *rig, const struct honest *h, const char *id,
                 double timeout)
{
    AUTO_STRBUF struct strbuf job = STRBUF_INIT;

    strbuf_addf(&job, "{\"id\":\"%s\"", id);
    add_member(&job, "code", h->code);
    add_member(&job, "language", h->language);
    if (!strstr(h->rest, "\"template\""))
        add_member(&job, "template", h->template_id);
    if (strcmp(h->rest, TIMEOUT) == 0)
        strbuf_addf(&job, TIMEOUT "}", timeout);
    else
        strbuf_addf(&job, "%s}", h->rest);
    MUST(!job.failed);
    rig_push(rig, "default", job.text);
}

/* ---- field by field ------------------------------------------------------ */

struct comparison {
    const char *job;
    struct strbuf found; /* differences not allowed */
};

static bool is_allowed(const char *job, const char *path)
{
    for (size_t i = 0; i < COUNT(allowed); i++) {
        size_t len = strlen(allowed[i].path);

        if (allowed[i].job &&
            strncmp(job, allowed[i].job, strlen(allowed[i].job)) != 0)
            continue;
        if (strncmp(path, allowed[i].path, len) == 0 &&
            (path[len] == '\0' || path[len] == '.'))
            return met[i] = true;
    }
    return false;
}

static bool is_picture(const cJSON *item)
{
    return cJSON_IsString(item) &&
           strncmp(item->valuestring, PNG_BASE64, strlen(PNG_BASE64)) == 0;
}

static void differ(struct comparison *c, const char *path, const cJSON *a,
                   const cJSON *b)
{
    AUTO_FREE char *one = a ? cJSON_PrintUnformatted(a) : NULL;
    AUTO_FREE char *two = b ? cJSON_PrintUnformatted(b) : NULL;

    if (!is_allowed(c->job, path))
        strbuf_addf(&c->found, "%s\n  local: %.1500s\n  e2b:   %.1500s\n", path,
                    one ? one : "(not there)", two ? two : "(not there)");
}

static void compare(struct comparison *c, const char *path, const cJSON *a,
                    const cJSON *b);

static void compare_objects(struct comparison *c, const char *path,
                            const cJSON *a, const cJSON *b)
{
    char below[PATH_MAX_];
    const cJSON *item;

    cJSON_ArrayForEach(item, a)
    {
        snprintf(below, sizeof(below), "%s%s%s", path, path[0] ? "." : "",
                 item->string);
        compare(c, below, item,
                cJSON_GetObjectItemCaseSensitive(b, item->string));
    }
    cJSON_ArrayForEach(item, b)
    {
        snprintf(below, sizeof(below), "%s%s%s", path, path[0] ? "." : "",
                 item->string);
        if (!cJSON_GetObjectItemCaseSensitive(a, item->string))
            differ(c, below, NULL, item);
    }
}

static void compare_arrays(struct comparison *c, const char *path,
                           const cJSON *a, const cJSON *b)
{
    char below[PATH_MAX_];
    int n = cJSON_GetArraySize(a);

    snprintf(below, sizeof(below), "%s.#", path);
    if (n != cJSON_GetArraySize(b)) {
        differ(c, path, a, b);
        return;
    }
    for (int i = 0; i < n; i++)
        compare(c, below, cJSON_GetArrayItem(a, i), cJSON_GetArrayItem(b, i));
}

static void compare(struct comparison *c, const char *path, const cJSON *a,
                    const cJSON *b)
{
    if (cJSON_IsObject(a) && cJSON_IsObject(b))
        compare_objects(c, path, a, b);
    else if (cJSON_IsArray(a) && cJSON_IsArray(b))
        compare_arrays(c, path, a, b);
    else if (!(is_picture(a) && is_picture(b)) && !cJSON_Compare(a, b, true))
        differ(c, path, a, b);
}

/* False: it was too slow to print in its time. */
static bool gives_the_same(const struct honest *h, double timeout)
{
    struct comparison c = {.job = h->name};
    char id[64];
    cJSON *a, *b;
    bool in_time;

    snprintf(id, sizeof(id), "%s-%g", h->name, timeout);
    push(&local.rig, h, id, timeout);
    push(&e2b.rig, h, id, timeout);
    a = stage_result_within(&local.rig, id, WAIT_MS);
    b = stage_result_within(&e2b.rig, id, WAIT_MS);
    stage_expect(a, "verdict", h->verdict);
    in_time =
        strcmp(h->rest, TIMEOUT) != 0 || timeout > TIMEOUT_MAX_S ||
        (stage_text(a, "logs.stdout.0") && stage_text(b, "logs.stdout.0"));
    if (in_time)
        compare(&c, "", a, b);
    if (c.found.len > 0)
        fail_msg("%s differs:\n%s", h->name, c.found.text);
    strbuf_fini(&c.found);
    cJSON_Delete(a);
    cJSON_Delete(b);
    return in_time;
}

static void a_job_gives_the_same_on_both(void **state)
{
    double timeout = TIMEOUT_S;

    while (!gives_the_same(*state, timeout))
        timeout *= 2;
}

static void what_may_differ_does(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(allowed); i++)
        if (!met[i] && strncmp(allowed[i].why, "maybe: ", 7) != 0)
            fail_msg("%s: %s does not differ any more: take it off the list",
                     allowed[i].job ? allowed[i].job : "all jobs",
                     allowed[i].path);
}

/* ---- stage ----------------------------------------------------------------
 */

static int open_all(void **state)
{
    (void)state;
    stage_open(&local.rig, NULL);
    stage_open(&e2b.rig, NULL);
    double_open(&e2bs, NULL);
    stage_worker(&local.rig, &local.worker, NULL);
    stage_worker(&e2b.rig, &e2b.worker, e2bs.env);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    int ending = stage_end_worker(&local.worker);

    ending |= stage_end_worker(&e2b.worker);
    double_close(&e2bs);
    rig_close(&local.rig);
    rig_close(&e2b.rig);
    return ending;
}

int main(void)
{
    struct CMUnitTest tests[COUNT(jobs) + 1] = {
        [COUNT(jobs)] = cmocka_unit_test(what_may_differ_does)};

    for (size_t i = 0; i < COUNT(jobs); i++)
        tests[i] = (struct CMUnitTest){
            .name = jobs[i].name,
            .test_func = a_job_gives_the_same_on_both,
            .initial_state = (void *)(uintptr_t)&jobs[i],
        };
    return cmocka_run_group_tests_name("e2b parity", tests, open_all,
                                       close_all);
}
