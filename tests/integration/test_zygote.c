/* Python programs forked from a zygote against the same ones started cold: what
 * a job sees, prints and ends with must not tell which it was. */
#include "tests/support/cmocka_all.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/must.h"
#include "common/strbuf.h"
#include "tests/support/proc.h"
#include "tests/support/sandbox_run.h"
#include "tests/support/scratch.h"
#include "tests/support/venv.h"

#define WARM_MS  60000 /* a zygote's imports on a busy host */
#define TEXT_MAX 8192

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static char *data_modules[] = {(char *)"numpy", (char *)"pandas",
                               (char *)"matplotlib.pyplot", NULL};

/* A job, and whether its zygote has pandas and its like. */
struct sample {
    const char *name, *code;
    bool data;
    char *const *args;
    const struct job_pair *env;
    size_t nenv;
    const char *input;
};

#define ENV(array) .env = array, .nenv = COUNT(array)

static void prepare(struct sandbox_run *r, const struct sample *s)
{
    sandbox_run_prepare(r, LANGUAGE_PYTHON, s->code);
    r->tpl.preload = s->data ? data_modules : NULL;
    /* More would go cold. */
    r->spec.limits.cpu_percent = 100;
    r->spec.limits.memory_bytes = 512ll << 20;
    r->job.args = (char **)(uintptr_t)s->args;
    r->job.env = (struct job_pair *)(uintptr_t)s->env;
    r->job.nenv = s->nenv;
    r->job.stdin_text = (char *)(uintptr_t)s->input;
    r->job.stdin_bytes = s->input ? strlen(s->input) : 0;
}

static bool was_warm(const struct sandbox_run *r)
{
    return strstr(r->o.start, "warm") != NULL;
}

struct trial {
    char **preload;
    const char *interpreter;
};

static bool runs_warm(void *ctx)
{
    struct trial *t = ctx;
    struct sandbox_run r;

    sandbox_run_prepare(&r, LANGUAGE_PYTHON, "");
    r.spec.limits.cpu_percent = 100;
    r.tpl.preload = t->preload;
    if (t->interpreter)
        r.spec.interpreter = t->interpreter;
    sandbox_run_go(&r);
    bool warm = was_warm(&r);
    sandbox_run_done(&r);
    return warm;
}

static void wait_warm(char **preload, const char *interpreter)
{
    struct trial t = {preload, interpreter};

    if (!wait_until(runs_warm, &t, WARM_MS))
        fail_msg("no warmed interpreter comes");
}

/* ---- the same, cold and warm ------------------------------------------- */

/* "0x7f…" becomes "0x". */
static void hide_addresses(char *text)
{
    char *to = text;

    while (*text) {
        *to++ = *text++;
        if (text[-1] == '0' && *text == 'x') {
            *to++ = *text++;
            text += strspn(text, "0123456789abcdef");
        }
    }
    *to = '\0';
}

/* All of a result but times, ids, usage and where it came from. */
static char *facts_of(const struct sandbox_run *r)
{
    struct strbuf text = STRBUF_INIT;
    const char *const texts[] = {r->o.error,       r->o.error_name,
                                 r->o.error_value, r->o.error_traceback,
                                 r->out,           r->err};

    strbuf_addf(&text, "rc %d, %s, exit %d, signal %d\n", r->rc,
                verdict_name(r->o.verdict), r->o.exit_code, r->o.signal);
    for (size_t i = 0; i < COUNT(texts); i++)
        strbuf_addf(&text, "%s\n", texts[i] ? texts[i] : "-");
    strbuf_add(&text, r->o.results.text, r->o.results.len);
    strbuf_addc(&text, '\n');
    strbuf_add(&text, r->o.files.text, r->o.files.len);
    for (size_t i = 0; i < r->o.nwarnings; i++)
        strbuf_addf(&text, "\nwarning: %s", r->o.warnings[i]);
    MUST(!text.failed);
    hide_addresses(text.text);
    return text.text;
}

/* The caller frees. */
static char *facts_when(const struct sample *s, bool cold)
{
    char *globs[] = {(char *)"*", NULL};
    struct sandbox_run r;

    prepare(&r, s);
    r.tpl.cold = cold;
    r.job.output_files = globs;
    sandbox_run_go(&r);
    if (was_warm(&r) == cold)
        fail_msg("%s: its start was %s", s->name, r.o.start);
    char *facts = facts_of(&r);
    sandbox_run_done(&r);
    return facts;
}

/* Shows where they part. */
static void explain(const char *name, const char *cold, const char *warm)
{
    size_t at = 0;

    while (cold[at] == warm[at])
        at++;
    at = at > 200 ? at - 200 : 0;
    print_error("---- %s, cold:\n%.600s\n---- warm:\n%.600s\n", name, cold + at,
                warm + at);
}

static void compare(const struct sample *samples, size_t count)
{
    int differ = 0;

    for (size_t i = 0; i < count; i++) {
        char *cold = facts_when(&samples[i], true);
        char *warm = facts_when(&samples[i], false);

        if (strcmp(cold, warm) != 0) {
            differ++;
            explain(samples[i].name, cold, warm);
        }
        free(cold);
        free(warm);
    }
    assert_int_equal(differ, 0);
}

/* ---- ends --------------------------------------------------------------- */

static const struct {
    const char *name, *code;
} ends[] = {
    {"exit without a code", "import sys; print('a'); sys.exit()"},
    {"exit with None", "raise SystemExit(None)"},
    {"exit with 0", "import sys; sys.exit(0)"},
    {"exit with 3", "import sys; sys.exit(3)"},
    {"exit with -1", "import sys; sys.exit(-1)"},
    {"exit with 256", "import sys; sys.exit(256)"},
    {"exit with a huge number", "import sys; sys.exit(2 ** 70)"},
    {"exit with True", "import sys; sys.exit(True)"},
    {"exit with text", "import sys; sys.exit('no more')"},
    {"exit with a tuple", "import sys; sys.exit((1, 'x'))"},
    {"exit with text before a thread's end",
     "import sys, threading\n"
     "said, err = threading.Event(), sys.stderr\n"
     "class Watched:\n"
     "  def write(self, s):\n"
     "    err.write(s)\n"
     "    if 'text' in s: said.set()\n"
     "  def flush(self): err.flush()\n"
     "def work():\n"
     "  print(said.wait(10), 'thread', file=err)\n"
     "threading.Thread(target=work).start()\n"
     "sys.stderr = Watched()\n"
     "sys.exit('text')"},
    {"files that nobody closed",
     "a = open('a.txt', 'w'); a.write('unwritten')\n"
     "b = open('b.bin', 'wb'); b.write(b'bytes')\n"
     "import builtins, io; builtins.kept = open('c.txt', 'w')\n"
     "builtins.kept.write('kept')"},
    {"exit handlers, last first",
     "import atexit\n"
     "for i in range(3): atexit.register(print, 'handler', i)\n"
     "def bad(): raise ValueError('in a handler')\n"
     "atexit.register(bad)\n"
     "atexit.register(lambda: open('by-handler.txt', 'w').write('x'))"},
    {"an exit handler that exits",
     "import atexit, sys; atexit.register(print, 'other')\n"
     "atexit.register(lambda: sys.exit(5))"},
    {"a thread that is waited for",
     "import threading, time\n"
     "def work():\n"
     "  time.sleep(.2); print('work done')\n"
     "threading.Thread(target=work).start(); print('main done')"},
    {"a daemon thread that is not waited for",
     "import threading, time\n"
     "threading.Thread(target=time.sleep, args=(30,), daemon=True).start()\n"
     "print('main done')"},
    {"a pool of threads", "from concurrent.futures import ThreadPoolExecutor\n"
                          "import time\n"
                          "pool = ThreadPoolExecutor(2)\n"
                          "def work(i): time.sleep(.1); print('item', i)\n"
                          "pool.submit(work, 1)"},
    {"threads, then handlers, then objects",
     "import atexit, threading, time\n"
     "class Last:\n"
     "  def __del__(self): print('object')\n"
     "last = Last()\n"
     "atexit.register(print, 'handler')\n"
     "threading.Thread(target=lambda: (time.sleep(.1), print('thread')))"
     ".start()"},
    {"deleted objects print",
     "import os, sys\n"
     "class Last:\n"
     "  def __init__(self, name): self.name = name\n"
     "  def __del__(self):\n"
     "    print('deleted', self.name, os.path.basename('/a/b'), other)\n"
     "other = 'other'\n"
     "a = Last('a'); _b = Last('b'); c = [Last('c')]; c.append(c)"},
    {"deleted objects of modules",
     "open('other.py', 'w').write('class A:\\n'\n"
     "  ' def __del__(self): print(\"of a module\", A.__name__)\\n'\n"
     "  'a = A()')\n"
     "import other"},
    {"exceptions of deleted objects", "class Bad:\n"
                                      "  def __del__(self): 1 / 0\n"
                                      "bad = Bad()"},
    {"finalizers and folders",
     "import weakref, tempfile, os\n"
     "class A: pass\n"
     "a = A(); weakref.finalize(a, print, 'finalized')\n"
     "d = tempfile.TemporaryDirectory(dir='.')\n"
     "f = tempfile.NamedTemporaryFile(dir='.'); f.write(b'x')"},
    {"an open generator", "def g():\n"
                          "  try: yield 1\n"
                          "  finally: print('closed')\n"
                          "x = g(); next(x)"},
    {"what C has not written", "import ctypes; libc = ctypes.CDLL(None)\n"
                               "libc.printf(b'by C %d\\n', 42)"},
    {"_exit", "import os, sys; print('a'); sys.stdout.flush(); os._exit(7)"},
    {"abort", "import os; print('a'); os.abort()"},
    {"killed by itself",
     "import os; print('a'); os.kill(os.getpid(), 9); print('b')"},
    {"terminated by itself",
     "import os; print('a'); os.kill(os.getpid(), 15); print('b')"},
    {"interrupted by itself",
     "import os, signal; os.kill(os.getpid(), signal.SIGINT)\n"
     "import time; time.sleep(1)"},
    {"a broken pointer", "import ctypes; ctypes.string_at(0)"},
    {"an uncaught error",
     "def f(): raise ValueError('of f')\n"
     "try: f()\n"
     "except ValueError as error: raise KeyError('k') from error"},
    {"a syntax error", "print('a')\nx = (1,\n"},
    {"KeyboardInterrupt", "raise KeyboardInterrupt"},
    {"an error of the base", "class E(BaseException): pass\nraise E('x')"},
    {"an error in a thread",
     "import threading\n"
     "def f(): raise ValueError('in a thread')\n"
     "t = threading.Thread(target=f, name='T'); t.start(); t.join()\n"
     "print('main')"},
    {"SystemExit in a thread",
     "import sys, threading\n"
     "t = threading.Thread(target=sys.exit, args=(3,)); t.start(); t.join()\n"
     "print('main')"},
    {"standard output replaced",
     "import io, sys\n"
     "print('before'); sys.stdout = io.StringIO(); print('lost')"},
    {"standard output replaced by a file",
     "import sys\n"
     "sys.stdout = open('out.txt', 'w'); print('in the file')\n"
     "sys.stderr = None"},
    {"deleted objects print where the output was",
     "import sys\n"
     "class Last:\n"
     "  def __del__(self): print('deleted')\n"
     "last = Last(); sys.stdout = open('out.txt', 'w'); print('x')"},
    {"exit with text and no standard error",
     "import sys; sys.stderr = None; sys.exit('text')"},
    {"standard output closed",
     "import os, sys\nprint('a'); sys.stdout.close()"},
    {"standard output detached",
     "import sys\nprint('a'); raw = sys.stdout.detach(); raw.write(b'b\\n')"},
    {"a hook for errors", "import sys\n"
                          "sys.excepthook = lambda *a: print('hook', a[1])\n"
                          "1 / 0"},
    {"odd things among the modules",
     "import sys, types\n"
     "class Odd:\n"
     "  def __getattr__(self, name): raise RuntimeError(name)\n"
     "sys.modules['odd'] = Odd()\n"
     "sys.modules['file'] = types.SimpleNamespace(__file__=5)\n"
     "sys.modules['home'] = types.SimpleNamespace(__file__='/home/user/x')\n"
     "sys.modules['none'] = None\n"
     "print('end')"},
    {"a process that forks", "import os\n"
                             "if os.fork() == 0:\n"
                             "  print('child', os.getppid() > 1); os._exit(0)\n"
                             "os.wait(); print('parent')"},
    {"processes of a pool",
     "import multiprocessing\n"
     "with multiprocessing.Pool(2) as pool: print(pool.map(abs, [-1, -2]))"},
    {"a process that is spawned",
     "import multiprocessing as m\n"
     "def f(q): q.put('spawned')\n"
     "if __name__ == '__main__':\n"
     "  c = m.get_context('spawn'); q = c.Queue()\n"
     "  p = c.Process(target=f, args=(q,)); p.start()\n"
     "  print(q.get()); p.join()"},
};

static void programs_end_alike_cold_and_warm(void **state)
{
    struct sample samples[COUNT(ends)];

    (void)state;
    for (size_t i = 0; i < COUNT(ends); i++)
        samples[i] = (struct sample){ends[i].name, ends[i].code, .data = false};
    compare(samples, COUNT(ends));
}

/* ---- what a program sees --------------------------------------------------
 */

static char *some_args[] = {(char *)"one two", (char *)"", (char *)"--x=$HOME",
                            (char *)"\xc3\xa9", NULL};
static const struct job_pair some_env[] = {
    {(char *)"A", (char *)"1 'q' \"\n=\t"},
    {(char *)"empty", (char *)""},
    {(char *)"odd name;", (char *)"\xf0\x9f\x90\x8d"},
    {(char *)"\xc3\xa9", (char *)"bytes \x01\x7f"},
    {(char *)"HOME", (char *)"/tmp"},
    {(char *)"TMPDIR", (char *)"/home/user"},
};
static const struct job_pair zone[] = {{(char *)"TZ", (char *)"Asia/Tokyo"}};
static const struct job_pair columns[] = {{(char *)"COLUMNS", (char *)"33"}};

static const struct sample sights[] = {
    {"the environment",
     "import os, tempfile\n"
     "print(sorted(os.environb.items()))\n"
     "print(os.path.expanduser('~'), tempfile.gettempdir())\n"
     "import subprocess\n"
     "print(sorted(subprocess.check_output('env').splitlines()))",
     .args = some_args, ENV(some_env)},
    {"a time zone",
     "import time, datetime; print(time.tzname, time.timezone)\n"
     "print(datetime.datetime.fromtimestamp(0))",
     ENV(zone)},
    {"arguments and names",
     "import sys, inspect\n"
     "print(sys.argv, __file__, __name__, __builtins__, __loader__ is None)\n"
     "print(sys.orig_argv, sys.executable, sys.path, sys.prefix)\n"
     "print(sys.exec_prefix, sys.base_prefix, sys.platlibdir)\n"
     "print(sorted(globals()), len(sys.meta_path), sys.path_hooks)\n"
     "print(sys._xoptions, sys.warnoptions, sys.getrecursionlimit())\n"
     "print(inspect.getsource(sys.modules['__main__'])[:20])\n"
     "print(len(inspect.stack()) < 9, sys.getswitchinterval())",
     .args = some_args},
    {"flags and filters",
     "import sys, warnings, gc, threading, locale, signal\n"
     "print(sys.flags, sys.dont_write_bytecode, sys.pycache_prefix)\n"
     "print(warnings.filters, gc.isenabled(), gc.get_threshold())\n"
     "print(len(threading.enumerate()), locale.setlocale(locale.LC_ALL))\n"
     "print([signal.getsignal(s) for s in signal.valid_signals()])\n"
     "print(signal.pthread_sigmask(signal.SIG_BLOCK, []))\n"
     "print(sys.getfilesystemencoding(), sys.getdefaultencoding())\n"
     "print(sys.excepthook, sys.displayhook, sys.unraisablehook)\n"
     "warnings.warn('shown once'); 'a\\d'",
     .data = false},
    {"its process",
     "import os, sys, resource, threading, stat\n"
     "print(os.getppid(), os.getsid(0) == os.getpid() == os.getpgrp())\n"
     "print(os.getresuid(), os.getresgid(), os.getgroups(), os.getcwd())\n"
     "print(os.umask(0o22), os.nice(0), os.uname().nodename)\n"
     "print(len(os.sched_getaffinity(0)), os.sched_getscheduler(0))\n"
     "print([(n, resource.getrlimit(getattr(resource, n)))\n"
     "       for n in sorted(dir(resource)) if n.startswith('RLIMIT_')])\n"
     "print(sorted(os.listdir('/proc/self/fd'))[:-1])\n"
     "print([stat.S_IFMT(os.fstat(i).st_mode) for i in range(3)])\n"
     "print(open('/proc/self/oom_score_adj').read())\n"
     "print(open('/proc/self/comm').read())\n"
     "print(threading.main_thread().native_id == os.getpid())\n"
     "print(threading.current_thread() is threading.main_thread())\n"
     "names = ('Cap', 'NoNew', 'Seccomp', 'Sig', 'Shd', 'Groups', 'Umask')\n"
     "print(*(l for l in open('/proc/self/status') if l.startswith(names)\n"
     "        and not l.startswith(('SigQ', 'SigIgn'))))\n"
     "# Without libc's own, which sanitizers disturb.\n"
     "print(*(hex(int(l.split()[1], 16) & 0x7fffffff)\n"
     "        for l in open('/proc/self/status') if l.startswith('SigIgn')))",
     .data = false},
    {"its streams",
     "import sys\n"
     "for s in (sys.stdin, sys.stdout, sys.stderr, sys.__stdin__):\n"
     "  print(type(s).__name__, s.name, s.mode, s.encoding, s.errors,\n"
     "        s.line_buffering, s.write_through, s.newlines, s.fileno(),\n"
     "        s.isatty(), s.closed, type(s.buffer).__name__,\n"
     "        s.buffer.raw.name, s.buffer.raw.closefd)\n"
     "print(sys.stdin.read(), sys.stdin.readline())\n"
     "print('\\udc80\\u20ac'); print('e\\udc80', file=sys.stderr)",
     .data = false},
    {"its files",
     "import os\n"
     "def show(p):\n"
     "  try: return sorted(os.listdir(p))\n"
     "  except OSError as e: return e.strerror\n"
     "for p in ('/', '/home/user', '/tmp', '/run', '/run/capibox', '/dev',\n"
     "          '/etc', '/dev/shm', '/proc/sys', '/home', '/opt', '/root',\n"
     "          '/run/capibox/runtime'):\n"
     "  print(p, show(p), os.access(p, os.W_OK))\n"
     "s = os.statvfs('/home/user'); print(s.f_blocks, s.f_files)",
     .data = false},
};

static void programs_see_alike_cold_and_warm(void **state)
{
    (void)state;
    compare(sights, COUNT(sights));
}

/* ---- results --------------------------------------------------------------
 */

static const struct sample results[] = {
    {"a value", "6 * 7", .data = false},
    {"displayed objects",
     "class A:\n"
     "  def _repr_html_(self): return '<b>'\n"
     "  def __repr__(self): return 'an A'\n"
     "display(A(), {'a': [1]})\nNone",
     .data = false},
    {"await", "import asyncio\nawait asyncio.sleep(0, 'slept')", .data = false},
    {"an error with results", "display('one')\n1 / 0", .data = false},
    {"a missing module", "import not_there_at_all", .data = false},
    {"a frame",
     "import pandas as pd\n"
     "f = pd.DataFrame({'a': [3, 1, 2], 'b': list('xyx'),\n"
     "   't': pd.date_range('2020-01-01', periods=3)})\n"
     "print(f.describe(include='all')); f.sort_values('a')",
     .data = true, ENV(columns)},
    {"figures",
     "import matplotlib.pyplot as plt, numpy as np\n"
     "x = np.linspace(0, 6); plt.plot(x, np.sin(x), label='sin')\n"
     "plt.legend(); plt.title('$x^2$ title'); plt.show()\n"
     "plt.rcParams['svg.hashsalt'] = 'salt'\n"
     "plt.figure(); plt.bar(['a', 'b'], [1, 2]); plt.savefig('f.svg',\n"
     "  metadata={'Date': None})\n"
     "print(plt.get_fignums(), plt.rcParams['backend'])",
     .data = true},
    {"a figure and a style",
     "import matplotlib, matplotlib.pyplot as plt\n"
     "plt.style.use('ggplot'); fig, ax = plt.subplots(1, 2)\n"
     "ax[0].hist([1, 1, 2]); ax[1].pie([1, 2])\n"
     "print(matplotlib.get_cachedir(), matplotlib.get_configdir())",
     .data = true},
    {"algebra",
     "import numpy as np\n"
     "a = np.arange(9.).reshape(3, 3) + np.eye(3)\n"
     "print(np.linalg.inv(a), np.linalg.svd(a)[1], np.get_printoptions())\n"
     "print(np.geterr()); a @ a",
     .data = true},
    {"a seeded sequence",
     "import random, numpy as np\n"
     "random.seed(1); np.random.seed(1)\n"
     "print(random.random(), np.random.rand(), "
     "np.random.default_rng(3).random())",
     .data = true},
    {"an error in pandas", "import pandas as pd\npd.DataFrame({'a': [1]})['b']",
     .data = true},
    {"where things come from",
     "import pandas as pd, numpy as np, matplotlib, sys, tempfile\n"
     "print(pd.__file__, np.__file__, matplotlib.__file__)\n"
     "print(pd.get_option('display.width'), tempfile.gettempdir())\n"
     "print(threading.active_count()) if 'threading' in globals() else 0",
     .data = true, ENV(some_env)},
};

static void results_are_alike_cold_and_warm(void **state)
{
    (void)state;
    compare(results, COUNT(results));
}

static void input_is_alike_cold_and_warm(void **state)
{
    static char megabyte[(1 << 20) + 1];
    struct sample samples[] = {
        {"no input", "import sys; print(repr(sys.stdin.read()))", false,
         .input = NULL},
        {"lines", "print(input('> ')); print([*open(0)])", false,
         .input = "one\ntwo\nthree"},
        {"too few lines", "input(); input()", false, .input = "one\n"},
        {"a megabyte",
         "import sys, hashlib; b = sys.stdin.buffer.read()\n"
         "print(len(b), hashlib.sha256(b).hexdigest())",
         false, .input = megabyte},
        {"a megabyte not read", "print('x')", false, .input = megabyte},
        {"for a child", "import os; print(os.system('wc -c'))", false,
         .input = megabyte},
        {"odd bytes", "import sys; print(ascii(sys.stdin.read()))", false,
         .input = "\xff\r\n\xe2\x82"},
    };

    (void)state;
    for (size_t i = 0; i + 1 < sizeof(megabyte); i++)
        megabyte[i] = (char)('a' + i % 26 - (i % 77 == 0 ? 'a' - '\n' : 0));
    compare(samples, COUNT(samples));
}

/* ---- what goes cold -------------------------------------------------------
 */

/* The start of a job with this one variable; static buffer. */
static const char *start_with(const char *name, const char *value, bool data,
                              int cpu_percent)
{
    static char start[sizeof(((struct outcome *)0)->start)];
    const struct job_pair env[] = {
        {(char *)(uintptr_t)name, (char *)(uintptr_t)value}};
    const struct sample s = {"", "import os; print(os.environ.get('X'))", data,
                             .env = env, .nenv = 1};
    struct sandbox_run r;

    prepare(&r, &s);
    r.spec.limits.cpu_percent = cpu_percent;
    sandbox_run_go(&r);
    if (r.o.verdict != VERDICT_OK)
        sandbox_run_explain(&r);
    assert_string_equal(verdict_name(r.o.verdict), "ok");
    snprintf(start, sizeof(start), "%s", r.o.start);
    sandbox_run_done(&r);
    return start;
}

static void what_is_read_at_the_start_goes_cold(void **state)
{
    static const struct {
        const char *name, *value;
        bool data;
        int cpu_percent;
        const char *start;
    } rows[] = {
        {"X", "1", false, 100, "warm"},
        {"X", "1", true, 100, "warm"},
        {"X", "1", false, 200, "warm"},
        {"X", "1", true, 200, "cold"}, /* its numbers may use two threads */
        {"LD_PRELOAD", "", false, 100, "cold"},
        {"PYTHONUNBUFFERED", "1", false, 100, "cold"},
        {"PYTHONHASHSEED", "0", false, 100, "cold"},
        {"LANG", "C", false, 100, "cold"},
        {"OMP_NUM_THREADS", "2", false, 100, "warm"},
        {"OMP_NUM_THREADS", "2", true, 100, "cold"},
        {"MPLBACKEND", "svg", true, 100, "cold"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        const char *start = start_with(rows[i].name, rows[i].value,
                                       rows[i].data, rows[i].cpu_percent);

        if (!strstr(start, rows[i].start))
            fail_msg("%s=%s, %d %%: its start was %s, not %s", rows[i].name,
                     rows[i].value, rows[i].cpu_percent, start, rows[i].start);
    }
}

/* ---- an interpreter of its own --------------------------------------------
 */

static char venv_dir[VENV_DIR_MAX], venv_python[PATH_MAX];
static char *venv_modules[] = {(char *)"numpy", (char *)"capibox_venv", NULL};

/* Random things that a package keeps from its import on. */
static const char venv_source[] =
    "import random, numpy, uuid, tempfile, os\n"
    "kept = random.Random()\n"
    "legacy = numpy.random.RandomState()\n"
    "generator = numpy.random.default_rng()\n"
    "class Holder: pass\n"
    "holder = Holder(); holder.generator = numpy.random.default_rng()\n"
    "hidden = [holder, numpy.random.Generator(numpy.random.PCG64())]\n"
    "used = [random.random(), numpy.random.rand(), uuid.uuid1(),\n"
    "        tempfile.mktemp(), generator.random()]\n"
    "imported_in = os.getpid()\n";

static void go_in_venv(struct sandbox_run *r, const char *code)
{
    const struct sample s = {"", code, false, .input = NULL};

    prepare(r, &s);
    r->tpl.preload = venv_modules;
    r->spec.interpreter = venv_python;
    sandbox_run_go(r);
    if (r->o.verdict != VERDICT_OK || !was_warm(r))
        sandbox_run_explain(r);
    assert_string_equal(verdict_name(r->o.verdict), "ok");
    assert_true(was_warm(r));
}

static void a_venv_has_a_zygote_of_its_own(void **state)
{
    static const char code[] =
        "import sys, os\n"
        "there = 'capibox_venv' in sys.modules\n"
        "try: from capibox_venv import imported_in\n"
        "except ImportError: imported_in = None\n"
        "print(there, imported_in is not None, sys.prefix == '/usr')";
    const struct sample usr = {"", code, true, .input = NULL};
    struct sandbox_run r;

    (void)state;
    go_in_venv(&r, code);
    assert_string_equal(r.out, "[\"True True False\\n\"]");
    sandbox_run_done(&r);
    prepare(&r, &usr);
    sandbox_run_go(&r);
    assert_true(was_warm(&r));
    assert_string_equal(r.out, "[\"False False True\\n\"]");
    sandbox_run_done(&r);
}

/* ---- randomness -----------------------------------------------------------
 */

static const char random_code[] =
    "import capibox_venv as v, numpy as np, os, random, secrets, ssl\n"
    "import tempfile, uuid\n"
    "for value in (\n"
    "    random.random(), random.Random().random(), v.kept.random(),\n"
    "    np.random.rand(), np.random.RandomState().rand(), v.legacy.rand(),\n"
    "    np.random.default_rng().random(), v.generator.random(),\n"
    "    v.holder.generator.random(), v.hidden[1].random(),\n"
    "    uuid.uuid1(), uuid.uuid4(), tempfile.mktemp(),\n"
    "    next(tempfile._get_candidate_names()), secrets.token_hex(),\n"
    "    ssl.RAND_bytes(16).hex(), os.urandom(16).hex(),\n"
    "    random.SystemRandom().random(), np.random.SeedSequence().entropy,\n"
    "    np.random.bit_generator.randbits(128)\n"
    "    if hasattr(np.random.bit_generator, 'randbits') else os.urandom(9)):\n"
    "  print(value)";

/* The n-th of the lines in a JSON string; its length in *size_out. */
static const char *line_of(const char *text, int n, size_t *size_out)
{
    for (; n > 0 && text; n--)
        if ((text = strstr(text, "\\n")))
            text += 2;
    const char *end = text ? strstr(text, "\\n") : NULL;
    *size_out = end ? (size_t)(end - text) : 0;
    return text;
}

static void forks_share_no_random_numbers(void **state)
{
    enum { RUNS = 20, LINES = 20 };
    static char outs[RUNS][TEXT_MAX];

    (void)state;
    for (int i = 0; i < RUNS; i++) {
        struct sandbox_run r;

        go_in_venv(&r, random_code);
        snprintf(outs[i], TEXT_MAX, "%s", r.out + 2); /* behind ["  */
        sandbox_run_done(&r);
    }
    for (int line = 0; line < LINES; line++) {
        for (int i = 1; i < RUNS; i++) {
            size_t size, other_size;
            const char *text = line_of(outs[i], line, &size);

            assert_true(size > 0);
            for (int k = 0; k < i; k++) {
                const char *other = line_of(outs[k], line, &other_size);

                if (size == other_size && memcmp(text, other, size) == 0)
                    fail_msg("line %d came twice: %.*s", line, (int)size, text);
            }
        }
    }
}

static int open_all(void **state)
{
    int rc = sandbox_run_open(state);

    if (rc == 0)
        wait_warm(NULL, NULL);
    if (rc == 0)
        wait_warm(data_modules, NULL);
    venv_make_seeing_system(venv_dir, "capibox_venv", venv_python,
                            sizeof(venv_python));
    venv_write(venv_dir, "capibox_venv", venv_source);
    if (rc == 0)
        wait_warm(venv_modules, venv_python);
    return rc;
}

static int close_all(void **state)
{
    scratch_remove(venv_dir);
    return sandbox_run_close(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(programs_end_alike_cold_and_warm),
        cmocka_unit_test(programs_see_alike_cold_and_warm),
        cmocka_unit_test(results_are_alike_cold_and_warm),
        cmocka_unit_test(input_is_alike_cold_and_warm),
        cmocka_unit_test(what_is_read_at_the_start_goes_cold),
        cmocka_unit_test(a_venv_has_a_zygote_of_its_own),
        cmocka_unit_test(forks_share_no_random_numbers),
    };

    return cmocka_run_group_tests(tests, open_all, close_all);
}
